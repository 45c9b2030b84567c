//! What is said about arguments that a person types almost right.

use super::{tests::refused, *};

const URL: &str = "https://a.example/mcp";

fn run(arguments: &[&str]) -> Result<Command, Usage> {
    parse(Program::Adapter, arguments.iter().map(OsString::from).collect(), &|_| None)
}

fn says(arguments: &[&str], expected: &str) {
    assert_eq!(refused(arguments), expected, "{arguments:?}");
}

#[test]
fn unknown_topic_suggests_one() {
    for (word, expected) in [
        ("hostz", "there is no topic 'hostz' => a similar topic exists: 'hosts'"),
        ("getting", "there is no topic 'getting' => a similar topic exists: 'getting-started'"),
        ("logn", "there is no topic 'logn' => a similar command exists: 'login'"),
        ("sign_in_need", "there is no topic 'sign_in_need' => a similar code exists: 'sign_in_needed'"),
        ("zzzz", "there is no topic 'zzzz' => 'mcp-remote help' lists the topics"),
        ("a=hush hush", "there is no such topic => 'mcp-remote help' lists the topics"),
    ] {
        says(&["help", word], expected);
    }
}

#[test]
fn unknown_code_suggests_one() {
    for (word, expected) in [
        ("SIGN_IN", "there is no error code 'sign_in' => a similar code exists: 'sign_in_needed'"),
        ("cannot_conect", "there is no error code 'cannot_conect' => a similar code exists: 'cannot_connect'"),
        ("zzzz", "there is no error code 'zzzz' => 'mcp-remote explain' lists the codes"),
        ("hosts/hush", "there is no such error code => 'mcp-remote explain' lists the codes"),
    ] {
        says(&["explain", word], expected);
    }
}

fn page(arguments: &[&str]) -> &'static str {
    match run(arguments) {
        Ok(Command::Manual(page)) => page,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn page_is_found_whatever_its_spelling() {
    let code = page(&["explain", "sign_in_needed"]);
    for arguments in [
        &["explain", "Sign_In_Needed"][..],
        &["explain", "[sign_in_needed]"],
        &["explain", "sign_in_needed]"],
        &["explain", "sign-in-needed"],
        &["explain", "sign", "in", "needed"],
        &["explain", "[Details: mcp-remote explain sign_in_needed]"],
        &["help", "[SIGN_IN_NEEDED"],
    ] {
        assert_eq!(page(arguments), code, "{arguments:?}");
    }
    for (topic, aliases) in [
        ("hosts", &["HOSTS", "[hosts]", "codex", "Cursor", "vscode", "zed", "claude", "windsurf"][..]),
        ("headless", &["ssh", "browser", "container", "docker", "device-code", "device_code"]),
        ("getting-started", &["getting started", "api-key", "key", "header", "upgrade"]),
        ("entries", &["add", "configure"]),
        ("npm", &["npx"]),
        ("signing-in", &["oauth", "auth", "signing_in"]),
        ("network", &["proxy", "tls", "certificate", "timeout"]),
        ("storage", &["logs", "debug"]),
    ] {
        for alias in aliases {
            assert_eq!(page(&["help", alias]), page(&["help", topic]), "{alias}");
        }
    }
    assert!(matches!(run(&["help", "Login"]), Ok(Command::Print(screen)) if screen.contains("mcp-remote login")));
}

#[test]
fn incomplete_action_names_what_is_missing() {
    for (arguments, expected) in [
        (&["client", URL, "call"][..], "'call' needs the name of a tool => add it: call TOOL KEY=VALUE"),
        (&["client", "--entry", "example", "call"], "'call' needs the name of a tool => add it: call TOOL KEY=VALUE"),
        (&["client", URL, "read"], "'read' needs a URI => add it: read URI"),
        (
            &["client", URL, "read", "a", "hush"],
            "'read' takes one URI => if the URI has a space, quote it: read \"URI\"",
        ),
        (&["client", URL, "call", "add", "text"], "'text' is not KEY=VALUE => write text=VALUE"),
        (
            &["client", URL, "call", "add", "hush/+"],
            "an argument of the tool is not KEY=VALUE => write it so: call TOOL KEY=VALUE",
        ),
        (
            &["client", "call", "add", "a=1"],
            "the server URL is missing => add it: mcp-remote client https://example.com/mcp call TOOL KEY=VALUE",
        ),
        (
            &["client", "call"],
            "the server URL is missing => add it: mcp-remote client https://example.com/mcp call TOOL KEY=VALUE",
        ),
        (
            &["client", "--json", "read", "file:///a"],
            "the server URL is missing => add it: mcp-remote client https://example.com/mcp read URI",
        ),
        (&["client", URL, "--bogus", "call", "add"], "unexpected argument '--bogus' found => "),
    ] {
        says(arguments, expected);
    }
}

#[test]
fn word_after_url_is_neither_port_nor_action() {
    says(
        &["client", URL, "tools"],
        "'tools' is neither a port nor an action => the actions are 'call TOOL KEY=VALUE' and 'read URI'; without one, \
         the tools are listed",
    );
    says(&["client", URL, "99999"], &refused(&[URL, "99999"]));
    for arguments in [
        &["client", URL, "--header", "Authorization: Bearer", "hush"][..],
        &["client", URL, "--header=Authorization:Bearer", "hush"],
        &["client", URL, "--header", "Authorization:", "Bearer", "hush"],
        &["client", URL, "hush0hush0hush0hush0hush0hush0hush0"],
        &[URL, "hush"],
    ] {
        let told = refused(arguments);
        assert!(!told.contains("hush"), "{arguments:?}: {told}");
    }
}

#[test]
fn word_instead_of_url_is_named() {
    for (arguments, expected) in [
        (
            &["status", "foo"][..],
            "'foo' is not a server URL => write the whole server URL: mcp-remote status https://example.com/mcp",
        ),
        (
            &["logout", "--debug", "my-server_2"],
            "'my-server_2' is not a server URL => write the whole server URL: mcp-remote logout \
             https://example.com/mcp",
        ),
        (
            &["client", "example"],
            "'example' is not a server URL => to test the entry \"example\": mcp-remote client --entry example",
        ),
    ] {
        says(arguments, expected);
    }
    for arguments in [
        &["status", "--header", "Authorization:Bearer", "hush"][..],
        &["status", "--header=Authorization:Bearer", "hush"],
        &["client", "hush/hush"],
        &["client", "hush0hush0hush0hush0hush0"],
        &["hush"],
    ] {
        let told = refused(arguments);
        assert!(!told.contains("hush"), "{arguments:?}: {told}");
    }
}

#[test]
fn long_flag_with_one_dash_needs_two() {
    for (arguments, flag) in [
        (&[URL, "-debug"][..], "debug"),
        (&[URL, "-header", "A:hush"], "header"),
        (&[URL, "-header=A:hush"], "header"),
        (&[URL, "-proxy=http://user:hush@p.example"], "proxy"),
        (&["status", "-json"], "json"),
        (&["client", URL, "-verbose"], "verbose"),
    ] {
        says(arguments, &format!("unexpected argument '-{flag}' found => write two dashes: --{flag}"));
    }
}

#[test]
fn url_with_stray_characters_is_corrected() {
    for (text, expected) in [
        ("<https://a.example/mcp>", "the server URL has < and > around it => remove < and >"),
        (
            "http:/127.0.0.1:1/mcp",
            "the server URL has one slash after the scheme, and needs two => did you mean http://127.0.0.1:1/mcp?",
        ),
        (
            "https:/a.example/mcp?key=hush",
            "the server URL has one slash after the scheme, and needs two => did you mean https://a.example/mcp?…?",
        ),
        ("https://a.example/mcp ", "the server URL ends with a space => remove it"),
        (" https://a.example/mcp", "the server URL begins with a space => remove it"),
    ] {
        says(&[text], expected);
        says(&["status", text], expected);
    }
}

#[test]
fn entry_flag_belongs_to_client() {
    for command in ["login", "status", "logout"] {
        says(
            &[command, "--entry", "example"],
            "unexpected argument '--entry' found => this command does not read entries: copy the server URL and the flags \
             of the entry",
        );
    }
    says(
        &["--entry", "example"],
        "unexpected argument '--entry' found => test the entry: mcp-remote client --entry NAME",
    );
}

#[test]
fn terminal_shows_details_of_other_codes() {
    for (arguments, code) in [
        (&["login", URL, "--header", "A:${NOT_SET}"][..], Some("variable_not_set")),
        (&["login", URL, "--header", "Authorization:", "x"], Some("mangled_arguments")),
        (&["login", URL, "--bogus"], None),
    ] {
        let text = run(arguments).expect_err("must be refused").text;
        match code {
            Some(code) => {
                assert!(text.contains(&format!("\n\nDetails: mcp-remote explain {code}\n\nUsage: ")), "{text}")
            }
            None => assert!(!text.contains("Details"), "{text}"),
        }
    }
}
