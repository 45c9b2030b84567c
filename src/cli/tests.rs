//! What arguments mean, and what is said where they mean nothing.

use std::{path::Path, time::Duration};

use reqwest::Url;

use super::*;
use crate::{
    config::{AssertionSource, Authorization, Dpop, Grant, Resource, TransportStrategy},
    store,
};

fn run(arguments: &[&str]) -> Result<Command, Usage> {
    let environment = |name: &str| match name {
        "TOKEN" => Some("t\"o\\k".to_owned()),
        "EMPTY" => Some(String::new()),
        "SECRET" => Some("s".to_owned()),
        "MCP_REMOTE_CONFIG_DIR" => Some("/store".to_owned()),
        _ => None,
    };
    parse(Program::Adapter, arguments.iter().map(OsString::from).collect(), &environment)
}

fn config(arguments: &[&str]) -> Config {
    match run(arguments) {
        Ok(Command::Forward(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// The sentence and the tip.
pub(super) fn refused(arguments: &[&str]) -> String {
    let Report { sentence, hint, .. } = run(arguments).expect_err("must be refused").report;
    [sentence, hint.unwrap_or_default()].join(" => ")
}

const URL: &str = "https://a.example/mcp";

#[test]
fn refusal_moves_no_cursor() {
    for argument in ["--\u{1b}[2Jx", "--x\u{202e}y", "--header\u{9b} a:b"] {
        let line = refused(&[URL, argument]);
        assert!(!line.chars().any(crate::text::is_obeyed), "{line:?}");
    }
}

#[test]
fn store_hash_matches_npm_package() {
    for (arguments, hash) in [
        (vec!["http://127.0.0.1:7802/mcp"], "9ca486285bd01d5fdc4abad83d5bb5d5"),
        (vec!["http://127.0.0.1:7804/mcp"], "ff12414734d711ab210706ed355b5813"),
        (
            vec![
                "http://127.0.0.1:7812/mcp",
                "--authorize-param",
                "prompt=login",
                "--authorize-param",
                "a=b=c",
                "--header",
                "X-Z: 1",
                "--client-metadata-url",
                "https://c.example/m.json",
            ],
            "9e721942d4e1f98b1ee20f0278cbaf78",
        ),
    ] {
        assert_eq!(config(&arguments).server_hash, hash, "{arguments:?}");
    }
}

#[test]
fn npm_flags_work_in_any_order_and_form() {
    let config = config(&[
        "--debug",
        "--header",
        "X-Api-Key: ${TOKEN}",
        "--header=Other:plain",
        "--transport=sse-first",
        "--ipv4",
        "--keep-alive",
        URL,
        "--ping-interval",
        "0.5",
        "3334",
        "--ignore-tool",
        "delete*",
        "--ignore-tool=*_x",
        "--disable-cookies",
        "--host",
        "127.0.0.1",
        "--callback-path",
        "/cb",
        "--auth-timeout",
        "7",
        "--auth-success-url",
        "https://ok.example/done",
        "--resource",
        "https://r.example",
        "--authorize-param",
        "prompt=login",
        "--static-oauth-client-metadata",
        r#"{"scope":"a b"}"#,
        "--static-oauth-client-info",
        r#"{"client_id":"id","client_secret":"${TOKEN}"}"#,
        "--client-metadata-url",
        "https://c.example/m.json",
        "--use-id-token",
        "--client-credentials",
        "--token-endpoint",
        "https://t.example/token",
        "--protocol",
        "auto",
        "--enable-proxy",
        "--connect-timeout",
        "1.5",
        "--headers-timeout",
        "0",
        "--body-timeout",
        "2",
        "--allow-http",
        "--silent",
    ]);
    assert_eq!(config.headers["x-api-key"], "t\"o\\k");
    assert_eq!(config.headers["other"], "plain");
    assert_eq!(config.transport, TransportStrategy::SseFirst);
    assert_eq!(config.limits.ping(), Some(Duration::from_millis(500)));
    assert_eq!((config.network.headers_timeout, config.network.body_timeout), (None, Some(Duration::from_secs(2))));
    assert_eq!(config.authorization.callback_port, Some(3334));
    assert_eq!(config.authorization.client_info.as_ref().unwrap().expose()["client_secret"], "t\"o\\k");
    assert_eq!(config.authorization.resource, Resource::Named("https://r.example".into()));
    assert_eq!(config.store, Path::new("/store/mcp-remote-v1"));
    assert!(config.remarks.is_empty(), "{:?}", config.remarks);
}

#[test]
fn mistake_is_reported_in_one_naming_sentence() {
    for (arguments, expected) in [
        (vec![], "the server URL is missing => add it: mcp-remote https://example.com/mcp"),
        (vec![URL, "--heder", "a:b"], "unexpected argument '--heder' found => a similar argument exists: '--header'"),
        (
            vec![URL, "--transport", "carrier-pigeon"],
            "invalid value 'carrier-pigeon' for '--transport <STRATEGY>' => use one of http-first, sse-first, http-only, \
             sse-only",
        ),
        (
            vec![URL, "--connect-timeout", "0"],
            "invalid value '0' for '--connect-timeout <SECONDS>': must be more than 0 seconds",
        ),
        (vec![URL, "--max-message-size", "lots"], "must be a number of bytes"),
        (vec![URL, "--header"], "'--header <NAME:VALUE>' needs a value"),
        (vec![URL, "--header", "no colon"], "--header is not a header of the form NAME:VALUE"),
        (vec![URL, "--header", "A: ${NOT_SET}"], "variable NOT_SET, which is not set"),
        (vec![URL, "--header", "A: ${EMPTY}"], "variable EMPTY, which is empty"),
        (vec![URL, "--header", "Authorization: Bearer ${EMPTY}"], "variable EMPTY, which is empty"),
        (vec![URL, "--header", "Authorization: Bearer "], "has no key after Bearer"),
        (vec![URL, "--header-file", "/no/such/file"], "cannot read /no/such/file (--header-file): "),
        (vec![URL, "--callback-path", "x"], "must begin with /"),
        (
            vec![URL, "--callback-path", "/a b?x#y"],
            "invalid value '/a b?x#y' for '--callback-path <PATH>': must be a path without ? and #, such as /oauth/callback",
        ),
        (vec![URL, "--callback-path", "/a b/../ü"], "must be written as in a URL: /%C3%BC"),
        (
            vec![URL, "--host", "http://x.example:1/cb"],
            "invalid value 'http://x.example:1/cb' for '--host <NAME>': must be the host name alone: x.example",
        ),
        (vec![URL, "--host", "localhost:3334"], "must be the host name alone: localhost"),
        (vec![URL, "--host", "x.example/cb"], "must be the host name alone: x.example"),
        (vec![URL, "--host", "user@x.example"], "must be the host name alone: x.example"),
        (vec![URL, "--host", "::1"], "an IPv6 address is written in brackets: [::1]"),
        (vec![URL, "--host", "a b"], "must be a host name or an IP address, such as localhost"),
        (vec![URL, "--ping-interval", "1e-9"], "for '--ping-interval <SECONDS>': must be at least 0.01 seconds"),
        (vec![URL, "--ping-interval", "NaN"], "for '--ping-interval <SECONDS>': must be a number of seconds"),
        (vec![URL, "--connect-timeout", "1e-9"], "must be at least 0.001 seconds"),
        (vec![URL, "--body-timeout", "inf"], "must be a number of seconds"),
        (vec![URL, "--authorize-param", "state=1"], "cannot set state"),
        (vec![URL, "--static-oauth-client-info", "{\"client_secret\":\"hush\""], "not a JSON object"),
        (vec![URL, "--static-oauth-client-info", "{}"], "has no client_id"),
        (vec![URL, "--client-metadata-url", "https://c.example/"], "with a path"),
        (vec![URL, "--token-endpoint", "https://t.example"], "--client-credentials"),
        (vec![URL, "--client-cert", "/c.pem"], "--client-key"),
        (vec![URL, "--ca-cert", "/no/such/file"], "cannot read /no/such/file (--ca-cert): "),
        (vec![URL, "--ca-cert", "no/such/file"], "=> write the absolute path"),
        (vec![URL, "--proxy", "ftp://x"], "--proxy is not the URL of a proxy => begin it with http://"),
        (vec!["http://far.example"], "--allow-http"),
        (vec!["ws://far.example"], "must begin with https:// or http://, not ws://"),
        (vec![URL, "--dpop", "perhaps"], "use one of auto, require, off"),
        (
            vec![URL, "--client-credentials"],
            "needs a client_id => name a file with the client: --static-oauth-client-info @FILE",
        ),
        (
            vec![URL, "--client-credentials", "--static-oauth-client-info", r#"{"client_id":"i"}"#],
            "needs a client_secret or a private key => add a client_secret",
        ),
        (
            vec![
                URL,
                "--client-credentials",
                "--static-oauth-client-info",
                r#"{"client_id":"","client_secret":"hush"}"#,
            ],
            "has no client_id",
        ),
        (vec![URL, "--client-key-jwt", "/k.pem"], "--client-credentials is missing, and another flag needs it"),
        (
            vec![
                URL,
                "--client-credentials",
                "--client-key-jwt",
                "/no/such/file",
                "--static-oauth-client-info",
                r#"{"client_id":"i"}"#,
            ],
            "cannot read /no/such/file (--client-key-jwt)",
        ),
        (vec![URL, "--id-jag-token", "/t"], "--id-jag-client-id and --id-jag-token-endpoint are missing"),
        (vec![URL, "--id-jag-client-id", "i"], "--id-jag-token"),
        (vec![URL, "--id-jag-token-endpoint", "https://i.example/t"], "--id-jag-token and --id-jag-client-id"),
        (
            vec![
                URL,
                "--id-jag-token",
                "/t",
                "--id-jag-client-id",
                "i",
                "--id-jag-token-endpoint",
                "http://i.example/t?hush",
                "--static-oauth-client-info",
                r#"{"client_id":"c"}"#,
            ],
            "the URL of --id-jag-token-endpoint (host 'i.example') must begin with https://",
        ),
        (
            vec![
                URL,
                "--id-jag-token",
                "/t",
                "--id-jag-client-id",
                "i",
                "--id-jag-token-endpoint",
                "https://i.example/t",
            ],
            "--id-jag-token needs an OAuth client at the MCP server's authorization server",
        ),
        (vec![URL, "--assertion-command", "print 'hush"], "--assertion-command has a quote that is not closed"),
        (vec![URL, "--assertion-command", " "], "--assertion-command is empty"),
    ] {
        let sentence = refused(&arguments);
        assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
        assert!(!sentence.contains('\n') && !sentence.contains("hush"), "{sentence}");
    }
}

#[test]
fn one_grant_excludes_every_other() {
    let grants: [&[&str]; 5] = [
        &["--device-code"],
        &["--client-credentials"],
        &["--id-jag-token", "/t", "--id-jag-client-id", "i", "--id-jag-token-endpoint", "https://i.example/t"],
        &["--assertion-file", "/a"],
        &["--assertion-command", "print"],
    ];
    for (one, other) in grants.iter().flat_map(|one| grants.iter().map(move |other| (one, other))) {
        if one != other {
            let told = refused(&[&[URL], *one, *other].concat());
            assert!(told.starts_with(&format!("{} cannot be used with {} => ", one[0], other[0])), "{told}");
        }
    }
    assert_eq!(config(&[URL, "--device-code", "--device-code"]).authorization.grant, Grant::DeviceCode);
}

#[test]
fn each_grant_comes_with_what_it_needs() {
    let grant = |arguments: &[&str]| config(&[&[URL], arguments].concat()).authorization.grant.clone();
    let url = |text| Url::parse(text).unwrap();
    assert_eq!(grant(&[]), Grant::AuthorizationCode);
    assert_eq!(grant(&["--device-code"]), Grant::DeviceCode);
    let key = tempfile::NamedTempFile::new().unwrap();
    for (info, key, token_endpoint) in [
        (r#"{"client_id":"i","client_secret":"s"}"#, None, None),
        (r#"{"client_id":"i","client_secret":"s"}"#, None, Some("https://t.example/token")),
        (r#"{"client_id":"i"}"#, Some(key.path()), Some("http://127.0.0.1:1/token")),
        (r#"{"client_id":"i","client_secret":"s"}"#, Some(key.path()), None),
    ] {
        let mut arguments = vec!["--client-credentials", "--static-oauth-client-info", info];
        arguments.extend(key.iter().flat_map(|key| ["--client-key-jwt", key.to_str().unwrap()]));
        arguments.extend(token_endpoint.iter().flat_map(|endpoint| ["--token-endpoint", endpoint]));
        let expected =
            Grant::ClientCredentials { token_endpoint: token_endpoint.map(url), key: key.map(Path::to_owned) };
        assert_eq!(grant(&arguments), expected);
    }
    let enterprise = |endpoint| {
        let flags =
            ["--id-jag-client-id", "i", "--id-jag-token", "/not/there/yet", "--id-jag-token-endpoint", endpoint];
        grant(&[&flags[..], &["--static-oauth-client-info", r#"{"client_id":"c"}"#]].concat())
    };
    for endpoint in ["https://i.example/token", "http://127.0.0.1:1/token"] {
        let expected =
            Grant::IdJag { token: "/not/there/yet".into(), token_endpoint: url(endpoint), client_id: "i".into() };
        assert_eq!(enterprise(endpoint), expected);
    }
    assert_eq!(
        grant(&["--assertion-file", "/not/there/yet"]),
        Grant::WorkloadIdentity(AssertionSource::File("/not/there/yet".into()))
    );
    assert_eq!(
        grant(&["--assertion-command", "gcloud auth 'print identity' --audiences=${TOKEN}"]),
        Grant::WorkloadIdentity(AssertionSource::Command {
            program: "gcloud".into(),
            arguments: ["auth", "print identity", "--audiences=${TOKEN}"].map(str::to_owned).into(),
        })
    );
}

#[test]
fn example_of_each_grant_is_understood() {
    let home = tempfile::tempdir().unwrap();
    let client = r#"{"client_id":"i","client_secret":"${SECRET}"}"#;
    std::fs::write(home.path().join("client.json"), client).unwrap();
    std::fs::write(home.path().join("key.pem"), "").unwrap();
    let topics: String = crate::help::TOPICS.iter().map(|topic| topic.text).collect();
    let topics = topics.replace("/home/you", &home.path().to_str().unwrap().replace('\\', "/"));
    let examples = topics.split("```json").skip(1).filter_map(|rest| rest.split("```").next());
    let mut grants = Vec::new();
    for example in examples.filter(|example| example.trim_start().starts_with('[')) {
        let arguments: Vec<String> = serde_json::from_str(example).unwrap();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        grants.push(std::mem::discriminant(&config(&arguments).authorization.grant));
    }
    for grant in [
        Grant::AuthorizationCode,
        Grant::DeviceCode,
        Grant::ClientCredentials { token_endpoint: None, key: None },
        Grant::IdJag { token: PathBuf::new(), token_endpoint: Url::parse(URL).unwrap(), client_id: String::new() },
        Grant::WorkloadIdentity(AssertionSource::File(PathBuf::new())),
    ] {
        assert!(grants.contains(&std::mem::discriminant(&grant)), "no example of {grant:?}");
    }
}

#[test]
fn sign_in_is_careful_unless_told_otherwise() {
    let Authorization { assume_pkce, dpop, no_browser, .. } = *config(&[URL]).authorization;
    assert_eq!((assume_pkce, dpop, no_browser), (false, Dpop::Auto, false));
    let Authorization { assume_pkce, dpop, no_browser, .. } =
        *config(&[URL, "--assume-pkce", "--dpop", "require", "--no-browser"]).authorization;
    assert_eq!((assume_pkce, dpop, no_browser), (true, Dpop::Require, true));
    assert_eq!(config(&[URL, "--dpop=off"]).authorization.dpop, Dpop::Off);
}

/// `login` and `logout` act for an entry of a host, so they must see the server that it sees.
#[test]
fn command_takes_arguments_of_host_entry() {
    let entry = [URL, "3334", "--header", "X-Key:${TOKEN}", "--ignore-tool", "x", "--keep-alive", "--debug"];
    let forwarded = config(&entry);
    for command in ["login", "logout", "status"] {
        let arguments = [&[command], &entry[..]].concat();
        let (server, hash) = match run(&arguments) {
            Ok(Command::Login(config) | Command::Logout(Logout::Server(config))) => {
                assert_eq!(config.headers, forwarded.headers);
                (config.server, config.server_hash)
            }
            Ok(Command::Status(Status { server: Some(server), output: Output::Text, .. })) => server,
            other => panic!("{other:?}"),
        };
        assert_eq!((server.url(), hash), (forwarded.server.url(), forwarded.server_hash.clone()), "{command}");
    }
}

#[test]
fn status_and_logout_need_no_entry_secrets() {
    let entry = [URL, "--header", "X-Key:${NOT_SET}", "--resource", "https://r.example"];
    let Ok(Command::Status(status)) = run(&[&["status", "--json"], &entry[..]].concat()) else { panic!("status") };
    let (_, hash) = status.server.unwrap();
    let others =
        store::server_hash(URL, Some("https://r.example"), &[], &[("X-Key".into(), "${NOT_SET}".into())], None, None);
    assert_eq!((hash, status.output), (others, Output::Json));
    let Ok(Command::Status(Status { store, server: None, .. })) = run(&["status"]) else { panic!("status") };
    assert_eq!(store, Path::new("/store/mcp-remote-v1"));
    let Ok(Command::Logout(Logout::All(all))) = run(&["logout", "--all", "--ipv4", "--silent"]) else {
        panic!("logout --all")
    };
    assert_eq!((&*all.store, all.network.ipv4, all.log), (&*store, true, LogMode::Silent));
}

#[test]
fn finish_works_under_both_program_names() {
    let finish = |program, arguments: &[&str]| {
        let arguments = arguments.iter().map(OsString::from).collect();
        match parse(program, arguments, &|_| None) {
            Ok(Command::Finish(Finish { store })) => store,
            other => panic!("{other:?}"),
        }
    };
    for store in [
        finish(Program::Client, &["finish", "--config-dir", "/here"]),
        finish(Program::Adapter, &["mcp-remote-client", "finish", "--config-dir=/here"]),
    ] {
        assert_eq!(store, Path::new("/here/mcp-remote-v1"));
    }
}

#[test]
fn misspelled_command_is_reported_with_right_one() {
    for (arguments, expected) in [
        (&["loign", URL][..], "a similar command exists: 'mcp-remote login'"),
        (&["logn", URL], "a similar command exists: 'mcp-remote login'"),
        (&["lgout", "--all"], "a similar command exists: 'mcp-remote logout'"),
        (&["stat"], "a similar command exists: 'mcp-remote status'"),
        (&["finsh"], "a similar command exists: 'mcp-remote finish'"),
        (&["clent", URL], "a similar command exists: 'mcp-remote client'"),
        (&["mcp-remote-clinet", URL], "a similar command exists: 'mcp-remote-client'"),
        (&["mcp-remote-client", "login", URL], "a similar command exists: 'mcp-remote login'"),
        (&["login", "status"], "a similar command exists: 'mcp-remote status'"),
        (
            &["--debug", "login", URL],
            "the command 'login' must be the first argument => begin with the command: mcp-remote login",
        ),
        (
            &[URL, "status"],
            "the command 'status' must be the first argument => begin with the command: mcp-remote status",
        ),
        (&["--debug", "status"], "the command 'status' must be the first argument"),
        (&["localhost"], "the server URL has no scheme => did you mean http://localhost/?"),
        (&["-y", "mcp-remote", URL], "unexpected argument '-y' found: it belongs to npx => remove \"-y\""),
        (&["login"], "the server URL is missing => add it: mcp-remote login https://example.com/mcp"),
        (&["logout"], "the server URL is missing => add it, or --all: mcp-remote logout https://example.com/mcp"),
        (&["logout", "--all", URL], "--all cannot be used with a server URL"),
        (&["logout", "--al"], "a similar argument exists: '--all'"),
        (&["status", "--all"], "unexpected argument '--all' found"),
        (&["login", URL, "--json"], "unexpected argument '--json' found"),
        (&["login", URL, "--heder", "a:b"], "a similar argument exists: '--header'"),
        (&["mcp-remote-client", "finish", "--header", "a:b"], "unexpected argument '--header' found"),
        (&["mcp-remote-client", "finish", "http://localhost/?code=hush"], "must not be an argument"),
    ] {
        let sentence = refused(arguments);
        assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
        assert!(!sentence.contains("hush"), "{sentence}");
    }
}

#[test]
fn only_adapter_answers_a_host() {
    for (program, arguments, expected) in [
        (Program::Adapter, &["--bogus"][..], Reader::Host),
        (Program::Adapter, &["loign", URL], Reader::Host),
        (Program::Adapter, &["login", "--bogus"], Reader::Person),
        (Program::Adapter, &["logout", "--bogus"], Reader::Person),
        (Program::Adapter, &["status", "--bogus"], Reader::Person),
        (Program::Adapter, &["mcp-remote-client", "finish", "--bogus"], Reader::Person),
        (Program::Client, &["--bogus"], Reader::Person),
        (Program::Client, &["finish", "--bogus"], Reader::Person),
    ] {
        let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
        let refused = parse(program, arguments.clone(), &|_| None).expect_err("must be refused");
        assert_eq!(refused.reader, expected, "{arguments:?}");
    }
}

#[test]
fn mangled_arguments_are_reported_with_hint() {
    for arguments in [
        vec![URL, "--header", "Authorization:", "Bearer", "token"],
        vec![URL, "--header", "Authorization:"],
        vec![URL, "stray"],
    ] {
        let sentence = refused(&arguments);
        assert!(sentence.contains("--header \"Authorization:${AUTH}\""), "{arguments:?}: {sentence}");
    }
    assert!(refused(&["https://a.example/mcp --debug"]).contains("\"args\""));
    assert!(refused(&["\"https://a.example/mcp\""]).contains("quotes"));
    assert!(refused(&[URL, "\"--debug"]).contains("stray quotes"));
    assert_eq!(config(&[URL, "--header", "'X-Key: a b'"]).headers["x-key"], "a b");
}

#[test]
fn no_secret_shows_in_the_settings() {
    let config = config(&[
        URL,
        "--header",
        "Authorization: Bearer ${TOKEN}",
        "--static-oauth-client-info",
        r#"{"client_id":"i","client_secret":"hush"}"#,
    ]);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush") && !shown.contains("Bearer"), "{shown}");
}

/// Every flag of a command, also those that its help hides.
fn all_flags(verb: Verb) -> Vec<clap::Arg> {
    verb.command().get_arguments().filter(|arg| arg.get_long().is_some()).cloned().collect()
}

#[test]
fn flag_help_is_short_verb_phrase() {
    for verb in [Verb::Forward, Verb::Client, Verb::Login, Verb::Logout, Verb::Status, Verb::Finish] {
        for arg in all_flags(verb).iter().filter(|arg| arg.get_id() != "help" && arg.get_id() != "version") {
            let help = arg.get_help().unwrap().to_string();
            assert!(help.len() <= 60, "{}: {help}", arg.get_id());
            assert!(help.starts_with(|one: char| one.is_ascii_uppercase()) && !help.ends_with('.'), "{help}");
            let long = arg.get_long_help().map(ToString::to_string).unwrap_or_default();
            let is_list = matches!(arg.get_action(), clap::ArgAction::Append);
            assert_eq!(long.contains("Repeatable."), is_list, "{}: {long}", arg.get_id());
            let is_time = arg.get_value_names().is_some_and(|names| names[0] == "SECONDS");
            assert_eq!(long.contains("In seconds"), is_time, "{}: {long}", arg.get_id());
        }
    }
}

/// A value for each flag that needs one, and the flags that it needs.
fn usable(flag: &str, key: &str) -> Vec<String> {
    let info = ["--static-oauth-client-info", r#"{"client_id":"i","client_secret":"s"}"#];
    let enterprise =
        ["--id-jag-token", key, "--id-jag-client-id", "i", "--id-jag-token-endpoint", "https://i.example/t"];
    let words = match flag {
        "--header" => vec![flag, "A:b"],
        "--header-file" | "--config-dir" => vec![flag, "/dev/null"],
        "--transport" => vec![flag, "http-only"],
        "--protocol" => vec![flag, "legacy"],
        "--ca-cert" | "--client-cert" | "--client-key" => vec![],
        "--proxy" => vec![flag, "http://p.example"],
        "--start" => vec![flag, "wait"],
        "--dpop" => vec![flag, "off"],
        "--callback-path" => vec![flag, "/cb"],
        "--authorize-param" => vec![flag, "a=b"],
        "--client-metadata-url" => vec![flag, "https://c.example/m.json"],
        "--auth-success-url" | "--issuer" | "--resource" => vec![flag, "https://c.example/m"],
        "--static-oauth-client-info" => info.to_vec(),
        "--static-oauth-client-metadata" => vec![flag, "{}"],
        "--client-credentials" => [&info[..], &[flag]].concat(),
        "--client-key-jwt" => [&info[..], &["--client-credentials", flag, key]].concat(),
        "--token-endpoint" => [&info[..], &["--client-credentials", flag, "https://c.example/t"]].concat(),
        "--authorization-endpoint" => {
            [&info[..], &[flag, "https://c.example/a", "--token-endpoint", "https://c.example/t"]].concat()
        }
        "--id-jag-token" | "--id-jag-client-id" | "--id-jag-token-endpoint" => [&info[..], &enterprise].concat(),
        "--ignore-tool" | "--sign-in-host" | "--host" | "--assertion-file" | "--assertion-command" => vec![flag, "x"],
        flag if flag.ends_with("-timeout") || flag.ends_with("-interval") => vec![flag, "1"],
        "--hold" | "--retry-for" | "--max-message-size" => vec![flag, "1"],
        flag => vec![flag],
    };
    words.into_iter().map(ToOwned::to_owned).collect()
}

#[test]
fn hidden_flag_is_accepted_in_every_command() {
    let key = tempfile::NamedTempFile::new().unwrap();
    for verb in [Verb::Client, Verb::Login, Verb::Logout, Verb::Status] {
        let (mut shown, mut hidden) = (0, 0);
        for arg in all_flags(Verb::Forward) {
            let flag = format!("--{}", arg.get_long().unwrap());
            if ["--help", "--version"].contains(&&*flag) {
                continue;
            }
            let hide = all_flags(verb).iter().any(|own| own.get_id() == arg.get_id() && own.is_hide_set());
            *if hide { &mut hidden } else { &mut shown } += 1;
            let words = usable(&flag, key.path().to_str().unwrap());
            let words: Vec<_> = [verb.word(), URL].into_iter().chain(words.iter().map(String::as_str)).collect();
            assert!(run(&words).is_ok(), "{words:?}: {}", refused(&words));
        }
        assert!(shown > 3 && hidden > 3, "{verb:?}: {shown} shown, {hidden} hidden");
    }
    assert!(all_flags(Verb::Forward).iter().any(|arg| arg.get_id() == "enable_proxy" && arg.is_hide_set()));
}

#[test]
fn flag_without_effect_is_hidden() {
    for (verb, shown, hidden) in [
        (Verb::Forward, &["--start", "--hold", "--ignore-tool"][..], &["--enable-proxy"][..]),
        (Verb::Client, &["--json", "--ignore-tool", "--auth-timeout"], &["--start", "--hold", "--progress-keepalive"]),
        (Verb::Login, &["--device-code", "--ca-cert"], &["--ignore-tool", "--keep-alive", "--hold", "--auth-timeout"]),
        (
            Verb::Logout,
            &["--all", "--header", "--ca-cert", "--connect-timeout"],
            &["--device-code", "--keep-alive", "--transport", "--retry-for"],
        ),
        (Verb::Status, &["--json", "--header", "--resource"], &["--ca-cert", "--device-code", "--debug"]),
    ] {
        let flags = all_flags(verb);
        let is_hidden =
            |flag: &str| flags.iter().find(|arg| arg.get_long() == Some(&flag[2..])).map(clap::Arg::is_hide_set);
        for flag in shown {
            assert_eq!(is_hidden(flag), Some(false), "{verb:?} {flag}");
        }
        for flag in hidden {
            assert_eq!(is_hidden(flag), Some(true), "{verb:?} {flag}");
        }
    }
}

#[test]
fn word_of_other_programs_suggests_command() {
    for (words, tip) in [
        (&["list", "ls", "whoami"][..], "mcp-remote status"),
        (&["doctor", "check", "test", "diagnose"], "mcp-remote client https://example.com/mcp"),
        (&["log", "logs"], "mcp-remote help hosts"),
        (&["auth", "signin", "sign-in"], "mcp-remote login https://example.com/mcp"),
        (&["signout", "revoke"], "mcp-remote logout https://example.com/mcp"),
        (&["start", "serve"], "mcp-remote https://example.com/mcp"),
    ] {
        for word in words {
            let told = refused(&[word]);
            assert!(told.starts_with(&format!("unrecognized command '{word}' => ")), "{told}");
            assert!(told.ends_with(&format!(": {tip}")), "{told}");
            assert_eq!(refused(&["--debug", word]), told);
        }
    }
}

#[test]
fn url_without_scheme_suggests_whole_url() {
    for (text, meant) in [
        ("example.com/mcp", "https://example.com/mcp"),
        ("mcp.example.com", "https://mcp.example.com/"),
        ("example.com:8443/mcp", "https://example.com:8443/mcp"),
        ("//example.com/mcp", "https://example.com/mcp"),
        ("example.com/mcp?key=hush", "https://example.com/mcp?…"),
        ("user:hush@example.com/mcp", "https://example.com/mcp"),
        ("localhost:3000/mcp", "http://localhost:3000/mcp"),
        ("localhost", "http://localhost/"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000/"),
        ("[::1]:3000/mcp", "http://[::1]:3000/mcp"),
        ("192.168.0.9/mcp", "https://192.168.0.9/mcp"),
        ("nas:3000/mcp", "https://nas:3000/mcp"),
    ] {
        assert_eq!(refused(&[text]), format!("the server URL has no scheme => did you mean {meant}?"));
    }
    for text in ["hush", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJodXNoIn0.c2lnbmF0dXJlX2h1c2g"] {
        let told = refused(&[text]);
        assert!(told.starts_with("the first argument is neither a server URL nor a command"), "{told}");
        assert!(!told.contains("hush") && !told.contains("eyJ"), "{told}");
    }
}

#[test]
fn flag_of_other_programs_suggests_right_flag() {
    for (flags, tip) in [
        (&["--insecure", "-k", "--no-verify", "--no-check-certificate"][..], "--ca-cert FILE"),
        (&["--timeout", "--request-timeout"], "'--auth-timeout'"),
        (&["-H"], "'--header'"),
        (&["--token", "--api-key"], "--header \"Authorization:Bearer ${KEY}\""),
        (&["--client-id", "--client-secret"], "--static-oauth-client-info @FILE"),
        (&["--port", "-p"], "mcp-remote https://example.com/mcp 3334"),
        (&["--verbose", "-v"], "'--version'"),
    ] {
        for flag in flags {
            let told = refused(&[URL, flag, "hush"]);
            assert!(told.starts_with(&format!("unexpected argument '{flag}' found")), "{told}");
            assert!(told.ends_with(tip) && !told.contains("hush"), "{flag}: {told}");
        }
    }
    assert!(!refused(&[URL, "--insecure"]).contains("--resource"));
}

#[test]
fn wrong_port_is_no_cut_argument() {
    for port in ["0", "65536", "99999"] {
        let Usage { report, .. } = run(&[URL, port]).unwrap_err();
        assert_eq!(
            (report.code.as_str(), &*report.sentence),
            ("bad_arguments", &*format!("'{port}' is not a valid port (1 to 65535)"))
        );
    }
    for text in ["12345678901234567890", "Bearer", "3334x"] {
        let Usage { report, .. } = run(&[URL, text]).unwrap_err();
        assert_eq!(report.sentence, "the second argument is not a valid port (1 to 65535)", "{text}");
    }
    assert!(refused(&["3334", URL]).contains("the server URL is the second argument"));
}

#[test]
fn client_and_finish_work_under_both_names() {
    for arguments in [&["client", URL][..], &["mcp-remote-client", URL]] {
        assert!(matches!(run(arguments), Ok(Command::Client(..))), "{arguments:?}");
    }
    for arguments in [&["finish"][..], &["client", "finish"], &["mcp-remote-client", "finish"]] {
        assert!(matches!(run(arguments), Ok(Command::Finish(_))), "{arguments:?}");
    }
}

fn options(arguments: &[&str]) -> (Config, ClientOptions) {
    let environment = |name: &str| match name {
        "TOKEN" | "SECRET" | "HTTPS_PROXY" | "NO_PROXY" | "HTTP_PROXY" => Some("http://p.example".to_owned()),
        "NODE_EXTRA_CA_CERTS" | "MCP_REMOTE_CONFIG_DIR" | "DISPLAY" => Some("/there".to_owned()),
        _ => None,
    };
    match parse(Program::Client, arguments.iter().map(OsString::from).collect(), &environment) {
        Ok(Command::Client(config, options)) => (*config, *options),
        other => panic!("{other:?}"),
    }
}

#[test]
fn client_action_follows_url_and_flags() {
    let call = |arguments: &[(&str, &str)]| ClientAction::Call {
        tool: "add".into(),
        arguments: arguments.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
    };
    for (arguments, expected) in [
        (&[URL][..], ClientAction::Diagnosis),
        (&[URL, "call", "add"], call(&[])),
        (
            &[URL, "3334", "--transport", "http-only", "call", "add", "a=1", "b=x=y", "c="],
            call(&[("a", "1"), ("b", "x=y"), ("c", "")]),
        ),
        (&["--debug", URL, "--header", "call: me", "call", "add", "--json"], call(&[])),
        (&[URL, "read", "file:///a"], ClientAction::Read { uri: "file:///a".into() }),
        (&[URL, "--header", "X: read"], ClientAction::Diagnosis),
    ] {
        let (config, options) = options(arguments);
        assert_eq!((options.action, config.limits.retry_for), (expected, Duration::ZERO), "{arguments:?}");
    }
    assert_eq!(config(&[URL]).limits.retry_for, Duration::from_secs(15));
    assert_eq!(options(&[URL, "call", "add", "--json"]).1.output, Output::Json);
}

#[test]
fn wrong_client_action_is_reported_with_form() {
    for arguments in [
        &["call", URL, "add", "hush"][..],
        &["call", URL],
        &["read", URL],
        &[URL, "call", "add", "--header", "a:hush"],
        &[URL, "read", "a", "--bogus"],
    ] {
        let sentence = refused(&[&["mcp-remote-client"], arguments].concat());
        assert!(
            sentence.contains("=> write one of them last: mcp-remote client https://example.com/mcp call TOOL"),
            "{arguments:?}: {sentence}"
        );
        assert!(!sentence.contains("hush"), "{arguments:?}: {sentence}");
    }
    for glued in ["--header Authorization:Bearer hush", "--header:Authorization:hush", "--heder Authorization: hush"] {
        let sentence = refused(&[URL, glued]);
        let (name, _) = glued.split_once([' ', ':']).unwrap();
        assert!(sentence.starts_with(&format!("{name} and its value are one argument => ")), "{sentence}");
        assert!(!sentence.contains("hush"), "{sentence}");
    }
    let cut = refused(&["mcp-remote-client", URL, "3334", "--header", "Authorization:", "Bearer", "hush"]);
    assert!(cut.starts_with("unexpected argument") && !cut.contains("hush"), "{cut}");
    assert!(
        refused(&["mcp-remote-client", URL, "--heder", "a:b", "call", "t"])
            .contains("a similar argument exists: '--header'")
    );
}

#[test]
fn used_variables_that_hosts_strip_are_named() {
    let names = |arguments: &[&str]| -> Vec<String> {
        options(arguments).1.terminal.borrowed.into_iter().map(|borrowed| borrowed.name).collect()
    };
    let everything = ["NODE_EXTRA_CA_CERTS", "MCP_REMOTE_CONFIG_DIR"];
    let proxies = ["HTTPS_PROXY", "NO_PROXY"];
    let screen: &[&str] = if cfg!(any(windows, target_vendor = "apple")) { &[] } else { &["DISPLAY"] };
    assert_eq!(names(&[URL])[..4], [&proxies[..], &everything].concat());
    let stripped = crate::surroundings::Surroundings::of(&|_| None);
    if !stripped.may_have_browser() {
        assert_eq!(names(&[URL])[4..], *screen);
    }
    assert_eq!(
        names(&[URL, "--header", "X-A:${TOKEN}", "--header", "X-B:${TOKEN}${SECRET}", "--no-browser"]),
        [&["SECRET", "TOKEN"], &proxies[..], &everything].concat()
    );
    let none: [&str; 0] = [];
    assert_eq!(names(&["http://127.0.0.1/mcp", "--config-dir", "/x", "--no-browser"]), none);
    assert_eq!(names(&[URL, "--config-dir", "/x", "--no-browser", "--proxy", "http://q"]), ["NODE_EXTRA_CA_CERTS"]);
}

#[test]
fn compared_words_are_those_of_entry() {
    let terminal = options(&[URL, "--json", "--header", "X-A:${TOKEN}", "--debug"]).1.terminal;
    assert_eq!(*terminal.arguments.expose(), [URL, "--header", "X-A:${TOKEN}"]);
    assert!(!format!("{:?}", terminal.borrowed).contains("p.example"));
    assert!(!format!("{terminal:?}").contains("X-A"), "their values may be secret");
}

#[test]
fn name_decides_which_program_runs() {
    for (name, expected) in [
        ("mcp-remote-client", Program::Client),
        ("/opt/tools/mcp-remote-client", Program::Client),
        ("./MCP-Remote-Client.EXE", Program::Client),
        ("mcp-remote-client.exe", Program::Client),
        ("mcp-remote", Program::Adapter),
        ("/opt/mcp-remote-client/mcp-remote", Program::Adapter),
        ("mcp-remote-client2", Program::Adapter),
        ("mcp-remote-client.old", Program::Adapter),
        ("\u{e9}xe", Program::Adapter),
        ("", Program::Adapter),
    ] {
        assert_eq!(Program::started_as(Some(OsStr::new(name))), expected, "{name}");
    }
    assert_eq!(Program::started_as(None), Program::Adapter);
}
