//! `mcp-remote-client` without a server URL: the entries of hosts, in real files of a temporary home.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::{
    diagnosis::{Terminal, Told, rich, write},
    support::server::{Reply, Server, reserved_port},
};

const OURS: &str = env!("CARGO_BIN_EXE_mcp-remote");
const CURSOR: &str = ".cursor/mcp.json";
const CLAUDE_DESKTOP: &str = ".config/Claude/claude_desktop_config.json";
const WINDSURF: &str = ".codeium/windsurf/mcp_config.json";
const VS_CODE: &str = ".config/Code/User/mcp.json";
#[cfg(target_os = "linux")]
const ZED: &str = ".config/zed/settings.json";

fn file(terminal: &Terminal, name: &str, servers: Value) {
    write(&terminal.home.path().join(name), &json!({ "mcpServers": servers }).to_string());
}

/// Where the lines below a step begin.
const BELOW: &str = "                            ";

#[track_caller]
fn assert_shown(shown: &Told, expected: &[&str]) {
    for expected in expected {
        assert!(shown.stdout.contains(expected), "{expected}: {}{}", shown.stdout, shown.stderr);
    }
}

#[tokio::test]
async fn part_of_wrong_type_is_not_dropped_silently() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    let servers = json!({
        "port": {"command": OURS, "args": [&url, 3334]},
        "nested": {"command": OURS, "args": [&url, ["--debug"]]},
        "list": {"command": OURS, "args": {"0": &url}},
        "env": {"command": OURS, "args": [&url], "env": "KEY=hush-value"},
        "value": {"command": OURS, "args": [&url], "env": {"KEY": ["hush-value"]}},
        "null": {"command": OURS, "args": [&url], "env": null},
        "number": {"command": OURS, "args": [&url], "env": {"KEY": 1}},
    });
    file(&terminal, CURSOR, servers);
    let shown = terminal.run(&[]).await;
    for (name, text) in [
        ("port", "an element of its arguments is not a string\n"),
        ("nested", "an element of its arguments is not a string\n"),
        ("list", "\"args\" is not a list\n"),
        ("env", "\"env\" is not an object\n"),
        ("value", "the value of KEY in \"env\" is not a string\n"),
    ] {
        assert_shown(
            &shown,
            &[&format!("FAIL  host                  Cursor, ~/.cursor/mcp.json, \"{name}\": {text}{BELOW}Tip: write")],
        );
    }
    assert!(!shown.stdout.contains("hush"), "{}", shown.stdout);
    // The other two are connected.
    assert_eq!((server.asked("initialize").len(), shown.code), (2, Some(1)), "{}", shown.stdout);
}

#[tokio::test]
async fn named_entry_is_diagnosed_with_its_arguments_and_variables() {
    let server = Server::with(|request| match request.rpc().as_str() {
        // It knows the value from elsewhere.
        "resources/list" => Reply::result(
            request,
            json!({"resources": [{"uri": "file:///a", "name": "hush-unused and hush-env-value"}]}),
        ),
        _ => rich(request),
    })
    .await;
    let url = server.url("/mcp?key=hush-query");
    let terminal = Terminal::new();
    let entry = json!({
        "command": OURS,
        "args": [&url, "--header", "X-Key: ${KEY}", "--header", "X-Other: hush-header", "--ignore-tool", "add"],
        "env": {"KEY": "hush-env-value", "UNUSED": "Bearer hush-unused"},
    });
    file(&terminal, CURSOR, json!({"mine": entry, "other": {"command": OURS, "args": ["http://127.0.0.1:1/no"]}}));
    for output in [&[][..], &["--json"], &["--debug"], &["--verbose"]] {
        let shown = terminal.run(&[&["--entry", "mine"], output].concat()).await;
        assert_eq!(shown.code, Some(0), "{}{}", shown.stdout, shown.stderr);
        let all = format!("{}{}", shown.stdout, shown.stderr);
        assert!(all.contains("rich") && !all.contains("hush"), "{all}");
        assert!(!all.contains("which a host may not pass on"), "the entry sets it: {all}");
    }
    for request in server.asked("initialize") {
        assert_eq!((request.header("x-key"), request.header("x-other")), (Some("hush-env-value"), Some("hush-header")));
        assert_eq!(request.path, "/mcp?key=hush-query");
    }
    let shown = terminal.run(&["--entry", "mine"]).await;
    assert_shown(
        &shown,
        &[
            &format!("\nCursor, ~/.cursor/mcp.json, \"mine\": {}\n", server.url("/mcp")),
            "ok    host                  Cursor, ~/.cursor/mcp.json, \"mine\": its command exists\n",
            "\nSummary\nok    Cursor, \"mine\"  all checks passed\n",
        ],
    );
    assert!(shown.stdout.contains("find_zip") && !shown.stdout.contains("add  "), "--ignore-tool: {}", shown.stdout);
}

#[tokio::test]
async fn entry_without_variable_fails_with_its_name() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    let args = json!([server.url("/mcp"), "--header", "X-Key: ${KEY}"]);
    file(&terminal, CURSOR, json!({"mine": {"command": OURS, "args": args}}));
    let shown = terminal.run(&["--entry", "mine"]).await;
    assert_shown(
        &shown,
        &["FAIL  arguments ", "KEY", "explain variable_not_set\n", "failed at arguments (exit code 2)\n"],
    );
    assert_eq!((shown.code, server.requests().len()), (Some(2), 0));
    // What only this terminal has works here, and may not in the host.
    let shown = terminal.with("KEY", "hush-terminal").run(&["--entry", "mine"]).await;
    assert_shown(&shown, &["warn  environment           this connection uses KEY, which a host may not pass on\n"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stdout);
    assert!(!shown.stdout.contains("hush"), "{}", shown.stdout);
}

#[tokio::test]
async fn every_entry_is_checked_and_worst_exit_code_wins() {
    let server = Server::with(rich).await;
    let site = Server::with(|_| Reply::status(200, "text/html", "<title>Welcome</title>")).await;
    let terminal = Terminal::new();
    let down = format!("http://127.0.0.1:{}/mcp", reserved_port().await);
    file(
        &terminal,
        CURSOR,
        json!({
            "well": {"command": OURS, "args": [server.url("/mcp")]},
            "down": {"command": OURS, "args": [down]},
            "foreign": {"command": "npx", "args": ["-y", "supergateway", server.url("/mcp")]},
            "remote": {"url": server.url("/mcp")},
        }),
    );
    file(
        &terminal,
        WINDSURF,
        json!({
            "site": {"command": OURS, "args": [site.url("/mcp")]},
            "flag": {"command": OURS, "args": [server.url("/mcp"), "--verbose"]},
        }),
    );
    let shown = terminal.run(&[]).await;
    let summary = &shown.stdout[shown.stdout.find("\nSummary\n").unwrap_or_else(|| panic!("{}", shown.stdout))..];
    assert_eq!(
        summary,
        "
Summary
FAIL  Cursor, \"down\"    failed at tcp (exit code 4)
ok    Cursor, \"well\"    all checks passed
FAIL  Windsurf, \"flag\"  failed at arguments (exit code 2)
FAIL  Windsurf, \"site\"  failed at transport (exit code 5)
"
    );
    assert!(!shown.stdout.contains("foreign") && !shown.stdout.contains("\"remote\""), "{}", shown.stdout);
    assert_eq!((shown.code, &*shown.stderr), (Some(5), ""));
    assert_eq!(server.asked("initialize").len(), 1);
    // For a program.
    let shown = terminal.run(&["--json", "--silent"]).await;
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    let entries = document["entries"].as_array().unwrap();
    let codes: Vec<_> =
        entries.iter().map(|entry| (entry["entry"].as_str().unwrap(), entry["exitCode"].as_u64())).collect();
    assert_eq!(codes, [("down", Some(4)), ("well", Some(0)), ("flag", Some(2)), ("site", Some(5))]);
    assert_eq!((&document["exitCode"], shown.code), (&json!(5), Some(5)));
    assert_eq!(entries[1]["steps"][0]["step"], "environment");
    assert_eq!((&entries[1]["host"], &entries[1]["server"]["serverInfo"]["name"]), (&json!("Cursor"), &json!("rich")));
    assert_eq!(shown.stderr, "");
}

#[tokio::test]
async fn nothing_to_check_is_no_success() {
    let terminal = Terminal::new();
    let shown = terminal.run(&[]).await;
    assert_shown(
        &shown,
        &["FAIL  host                  no configuration file of a host was found, so nothing was checked\n"],
    );
    assert_eq!(shown.code, Some(1));
    file(
        &terminal,
        CURSOR,
        json!({"foreign": {"command": "/bin/sh"}, "mine": {"command": OURS, "args": ["http://127.0.0.1:1"]}}),
    );
    for (name, expected) in [
        ("nothing", "no entry \"nothing\" in: ~/.cursor/mcp.json\n"),
        ("foreign", "Cursor, ~/.cursor/mcp.json, \"foreign\" starts another program than mcp-remote\n"),
    ] {
        let shown = terminal.run(&["--entry", name]).await;
        let tip = format!("{BELOW}Tip: use the name of an entry that starts mcp-remote: \"mine\"\n");
        assert_shown(&shown, &[&format!("FAIL  host                  {expected}{tip}")]);
        assert_eq!(shown.code, Some(1));
    }
}

/// Each file is wrong in another way, and its host does not read it.
#[tokio::test]
async fn settings_file_that_host_cannot_read_fails_with_place() {
    let entry = format!(r#""mine": {{"command": "{OURS}", "args": ["http://127.0.0.1:1/mcp"]}}"#);
    for (name, text, expected) in [
        (
            CURSOR,
            format!("{{\"servers\": {{{entry}}}}}"),
            "Cursor, ~/.cursor/mcp.json: has no \"mcpServers\" object. In its place is \"servers\"\n",
        ),
        (CLAUDE_DESKTOP, format!("{{{entry}}}"), "has no \"mcpServers\" object. In its place is \"mine\"\n"),
        (
            WINDSURF,
            format!("{{\"mcpServers\": [{{{entry}}}]}}"),
            "has no \"mcpServers\" object. In its place is an array of that name\n",
        ),
        (
            VS_CODE,
            format!("{{\"mcpServers\": {{{entry}}}}}"),
            "has no \"servers\" object. In its place is \"mcpServers\"\n",
        ),
        (CLAUDE_DESKTOP, format!("{{\"mcpServers\": {{{entry},\n}}}}"), "claude_desktop_config.json: line 1, column "),
        (
            CURSOR,
            format!("{{\n  // mine\n  \"mcpServers\": {{{entry}}}}}"),
            "mcp.json: line 2, column 3: a comment, which this host does not accept\n",
        ),
        (
            WINDSURF,
            format!("{{\"mcpServers\": {{{entry}}},}}"),
            ": a comma before a closing bracket, which this host does not accept\n",
        ),
        (
            CURSOR,
            "{\n\"mcpServers\": {\"mine\": {\"command\": \"C:\\Users\\me\\mcp-remote.exe\"}}}".to_owned(),
            "mcp.json: line 2, column 39: \\U is not an escape that JSON has\n",
        ),
        (
            CURSOR,
            "{\n\"mcpServers\": {\"mine\": {\"command\" \"mcp-remote\"}}}".to_owned(),
            "mcp.json: line 2, column 35: a colon is missing after a name\n",
        ),
    ] {
        if cfg!(not(target_os = "linux")) && name.starts_with(".config") {
            continue;
        }
        let terminal = Terminal::new();
        write(&terminal.home.path().join(name), &text);
        for arguments in [&[][..], &["--entry", "mine"], &["http://127.0.0.1:1/mcp"]] {
            let shown = terminal.run(arguments).await;
            // Without the URL, the file is about another server.
            let is_concerned = arguments.len() != 1 || text.contains("http://127.0.0.1:1/mcp");
            let outcome = if is_concerned { "FAIL  host " } else { "warn  host " };
            assert_shown(&shown, &[outcome, expected, "explain bad_entry\n"]);
            assert!(shown.code.unwrap() > 0, "{}", shown.stdout);
            if expected.contains("escape") {
                let tip = format!("{BELOW}Tip: write each backslash of a path twice: \\\\U instead of \\U");
                assert_shown(&shown, &[&tip]);
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn comments_and_commas_are_fine_where_the_host_reads_them() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    let text = |key: &str, name: &str| {
        format!(
            "{{ // one\n /* two */ \"{key}\": {{\"{name}\": {{\"command\": \"{OURS}\", \"args\": [\"{url}\",],}},}},}}"
        )
    };
    write(&terminal.home.path().join(VS_CODE), &text("servers", "code"));
    write(&terminal.home.path().join(ZED), &text("context_servers", "zed"));
    let shown = terminal.run(&[]).await;
    assert_shown(
        &shown,
        &["\nok    VS Code, \"code\"  all checks passed\n", "\nok    Zed, \"zed\"       all checks passed\n"],
    );
    assert_eq!(shown.code, Some(0));
}

#[tokio::test]
async fn settings_without_servers_are_no_failure() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    write(&terminal.home.path().join(CLAUDE_DESKTOP), r#"{"preferences": {"sidebar": true}}"#);
    write(&terminal.home.path().join(CURSOR), "{}");
    write(&terminal.home.path().join(WINDSURF), "");
    let shown = terminal.run(&[&server.url("/mcp")]).await;
    assert_shown(
        &shown,
        &[
            "info  host                  Cursor, ~/.cursor/mcp.json: has no \"mcpServers\" object, so it has no servers\n",
        ],
    );
    assert_eq!(shown.code, Some(0), "{}", shown.stdout);
}

#[tokio::test]
async fn command_that_a_host_does_not_find_has_the_line_to_write() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let line = format!("write \"command\": \"{OURS}\"");
    let path = Path::new(OURS).parent().unwrap().to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    program(&folder.path().join("npx"));
    let npx = folder.path().to_str().unwrap();
    let not_this_program =
        "this entry starts the npm package through npx, not this program. The checks below say nothing about npx\n";
    for (path, command, args, outcome, expected, code) in [
        (npx, "npx", json!(["-y", "mcp-remote@latest", &url]), "warn", not_this_program, 0),
        (npx, "npx", json!(["mcp-remote", &url]), "warn", not_this_program, 0),
        (
            "",
            "npx",
            json!(["mcp-remote", &url]),
            "FAIL",
            "this entry starts the npm package through npx, but no folder in PATH has npx\n",
            1,
        ),
        ("", "/tmp", json!([&url]), "named", "\"command\" names /tmp, which is a folder\n", 1),
        ("", "/no/such/other", json!([&url]), "named", "\"command\" names /no/such/other, which does not exist\n", 1),
        ("", "/no/mcp-remot", json!([&url]), "FAIL", "\"command\" names /no/mcp-remot, which does not exist\n", 1),
        (
            "",
            env!("CARGO_BIN_EXE_mcp-remote-client"),
            json!([&url]),
            "FAIL",
            concat!(
                "\"command\" names ",
                env!("CARGO_BIN_EXE_mcp-remote-client"),
                ", which is the program for testing\n"
            ),
            1,
        ),
        (
            "",
            "mcp-remote",
            json!([&url]),
            "FAIL",
            "\"command\" is mcp-remote without a path, and no folder in PATH has it\n",
            1,
        ),
        (
            path,
            "mcp-remote",
            json!([&url]),
            "warn",
            "\"command\" is mcp-remote without a path, and a host may have another PATH than this terminal\n",
            0,
        ),
        (
            "",
            "~/bin/mcp-remote",
            json!([&url]),
            "FAIL",
            "\"command\" begins with ~, which hosts do not replace with the home folder\n",
            1,
        ),
        (
            "",
            "C:\new\\mcp-remote",
            json!([&url]),
            "FAIL",
            "\"command\" has a control character: JSON takes a single backslash for an escape\n",
            1,
        ),
        (
            "",
            "/no/such/mcp-remote",
            json!([&url]),
            "FAIL",
            "\"command\" names /no/such/mcp-remote, which does not exist\n",
            1,
        ),
    ] {
        let terminal = Terminal::new().with("PATH", path);
        file(&terminal, CURSOR, json!({"mine": {"command": command, "args": args}}));
        for arguments in [&["--entry", "mine"][..], &[], &[&url]] {
            if outcome == "named" && arguments.len() != 2 {
                continue; // without its name, the entry may be for another program
            }
            let outcome = if outcome == "named" { "FAIL" } else { outcome };
            let shown = terminal.run(arguments).await;
            let finding = format!("{outcome}  host                  Cursor, ~/.cursor/mcp.json, \"mine\": {expected}");
            let line = if expected.contains("npm package") { "change it: mcp-remote migrate\n" } else { &line };
            assert_shown(&shown, &[&format!("{finding}{BELOW}Tip: {line}")]);
            assert!(!shown.stdout.contains("mcp-remote client https"), "{}", shown.stdout);
            if code == 0 && expected == not_this_program && !arguments.contains(&&*url) {
                let summary =
                    "\nwarn  Cursor, \"mine\"  the server answers, but the host does not start this program\n";
                assert_shown(&shown, &[summary]);
            }
            assert_eq!(shown.code, Some(code), "{}", shown.stdout);
        }
    }
    // In the home folder the line has its whole name, too.
    let terminal = Terminal::new();
    let own = terminal.home.path().join("bin/mcp-remote");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::copy(OURS, &own).unwrap();
    let client = own.with_file_name("mcp-remote-client");
    std::fs::copy(env!("CARGO_BIN_EXE_mcp-remote-client"), &client).unwrap();
    file(&terminal, CURSOR, json!({"mine": {"command": "mcp-remote", "args": [&url]}}));
    let mut command = tokio::process::Command::new(&client);
    command.env_clear().env("HOME", terminal.home.path()).stdin(Stdio::null()).kill_on_drop(true);
    let shown = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    assert!(shown.contains(&format!("Tip: write \"command\": \"{}\"\n", own.display())), "{shown}");
}

#[tokio::test]
async fn entry_in_one_string_is_not_connected() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    file(
        &terminal,
        CURSOR,
        json!({"mine": {"command": format!("npx mcp-remote {} --header Authorization:hush", server.url("/mcp"))}}),
    );
    let shown = terminal.run(&[]).await;
    assert_shown(
        &shown,
        &[
            "\"mine\": \"command\" has the program and its arguments in one string\n",
            &format!("Tip: write \"command\": \"{OURS}\", \"args\": [\"{}\", …]\n", server.url("/mcp")),
            "\nFAIL  Cursor, \"mine\"  failed at host (exit code 1)\n",
        ],
    );
    assert!(!shown.stdout.contains("hush"), "{}", shown.stdout);
    assert_eq!((shown.code, server.requests().len()), (Some(1), 0));
}

/// A program that does nothing.
fn program(file: &Path) {
    write(file, "#!/bin/sh\n");
    #[cfg(unix)]
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn entries_of_other_servers_do_not_fail_url() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    file(
        &terminal,
        CURSOR,
        json!({
            "gone": {"command": "/no/mcp-remot", "args": [format!("{url}-other")]},
            "client": {"command": OURS, "args": ["client", "https://other.example/mcp"]},
            "one": {"command": format!("{OURS} https://other.example/mcp")},
        }),
    );
    write(&terminal.home.path().join(WINDSURF), &format!("{{\"mcpServers\": {{\"a\": \"{url}-other\",}}}}"));
    write(&terminal.home.path().join(".cline/data/settings/cline_mcp_settings.json"), "{\"command\": 1}");
    let shown = terminal.run(&[&url]).await;
    assert!(!shown.stdout.contains("FAIL"), "{}", shown.stdout);
    assert_shown(
        &shown,
        &["which does not exist\n", "a comma before a closing bracket", "All checks passed, with 5 warnings."],
    );
    assert_eq!(shown.code, Some(0), "{}", shown.stdout);
    // A file with this URL matters.
    write(&terminal.home.path().join(WINDSURF), &format!("{{\"mcpServers\": {{\"a\": \"{url}\",}}}}"));
    let shown = terminal.run(&[&url]).await;
    assert_shown(&shown, &["FAIL  host                  Windsurf, ", "Failed at host (exit code 1).\n"]);
    assert_eq!(shown.code, Some(1));
}

#[tokio::test]
async fn missing_entry_is_explained_by_what_is_there() {
    let terminal = Terminal::new();
    write(&terminal.home.path().join(".config/goose/config.yaml"), "extensions:\n  mine:\n    cmd: mcp-remote\n");
    file(
        &terminal,
        CURSOR,
        json!({"typo": {"cmd": OURS}, "remote": {"url": "https://a.example/mcp"}, "cat": {"command": "/bin/sh"}}),
    );
    write(&terminal.home.path().join(WINDSURF), "{}");
    for (name, expected, tip) in [
        (
            "typo",
            "Cursor, ~/.cursor/mcp.json, \"typo\" has no \"command\" (it has \"cmd\")\n",
            format!("write \"command\": \"{OURS}\"\n"),
        ),
        (
            "remote",
            "Cursor, ~/.cursor/mcp.json, \"remote\" has \"url\", so the host connects by itself, without mcp-remote\n",
            format!("to use mcp-remote, replace \"url\" with \"command\": \"{OURS}\", \"args\": [\"SERVER-URL\"]\n"),
        ),
        (
            "cat",
            "Cursor, ~/.cursor/mcp.json, \"cat\" starts another program than mcp-remote\n",
            format!("write \"command\": \"{OURS}\"\n"),
        ),
        (
            "mine",
            "no entry \"mine\" in: ~/.cursor/mcp.json, ~/.codeium/windsurf/mcp_config.json\n",
            "test a server by its URL: mcp-remote client https://example.com/mcp\n".to_owned(),
        ),
    ] {
        let shown = terminal.run(&["--entry", name]).await;
        assert_shown(&shown, &[&format!("FAIL  host                  {expected}{BELOW}Tip: {tip}")]);
        let goose = "info  host                  goose, ~/.config/goose/config.yaml: mentions mcp-remote, but mcp-remote client does not read this format\n";
        assert_eq!(shown.stdout.contains(goose), name == "mine", "{}", shown.stdout);
        assert_eq!(shown.code, Some(1));
    }
    // A file that cannot be read may have the entry.
    write(&terminal.home.path().join(WINDSURF), "{");
    let shown = terminal.run(&["--entry", "mine"]).await;
    assert_shown(&shown, &["Windsurf, configuration file  the host cannot use it (exit code 1)\n"]);
    assert!(!shown.stdout.contains("no entry"), "{}", shown.stdout);
    assert_eq!((shown.code, shown.stdout.matches("FAIL  host").count()), (Some(1), 1), "{}", shown.stdout);
}

#[tokio::test]
async fn variables_that_host_replaces_must_be_set() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    let args = |value: &str| json!([server.url("/mcp"), "--header", value]);
    file(
        &terminal,
        CURSOR,
        json!({
            "args": {"command": OURS, "args": args("Authorization:${env:AUTH}")},
            "env": {"command": OURS, "args": args("Authorization:${A}"), "env": {"A": "${env:AUTH}"}},
        }),
    );
    for (name, tip) in [
        ("args", "write ${AUTH} instead of ${env:AUTH}, and \"AUTH\": \"…\" into \"env\"\n"),
        ("env", "write the value into \"env\" instead of ${env:AUTH}\n"),
    ] {
        let shown = terminal.run(&["--entry", name]).await;
        let text = format!("FAIL  arguments             \"{name}\" uses ${{env:AUTH}}, but AUTH is not set\n");
        assert_shown(&shown, &[&format!("{text}{BELOW}Tip: {tip}"), "explain variable_not_set\n"]);
        assert_eq!(shown.code, Some(2), "{}", shown.stdout);
    }
    let terminal = terminal.with("AUTH", "Bearer hush-terminal");
    for name in ["args", "env"] {
        let shown = terminal.run(&["--entry", name]).await;
        assert_shown(
            &shown,
            &["warn  environment           this connection uses AUTH, which a host may not pass on\n"],
        );
        assert!(shown.code == Some(0) && !shown.stdout.contains("hush"), "{}", shown.stdout);
    }
    assert_eq!(server.asked("initialize")[0].header("authorization"), Some("Bearer hush-terminal"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn entry_with_input_is_not_tested() {
    let terminal = Terminal::new();
    let entry = json!({"command": OURS, "args": ["https://a.example/mcp", "--header", "X-Key:${input:key}"]});
    write(&terminal.home.path().join(VS_CODE), &json!({"servers": {"mine": entry}}).to_string());
    for arguments in [&[][..], &["--entry", "mine"]] {
        let shown = terminal.run(arguments).await;
        assert_shown(
            &shown,
            &[
                "warn  arguments             VS Code asks you for ${input:key}, so this entry cannot be tested here\n",
                "\nwarn  VS Code, \"mine\"  not tested, because the host asks you for a value\n",
            ],
        );
        assert_eq!(shown.code, Some(0));
    }
}

#[tokio::test]
async fn slips_in_entry_are_named() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    file(&terminal, CURSOR, json!({"mine": {"command": OURS, "args": ["client", &url]}}));
    let shown = terminal.run(&[]).await;
    let text = "\"mine\": \"args\" begins with \"client\", which is for a terminal\n";
    let tip = "Tip: remove \"client\", so that \"args\" begins with the server URL\n";
    assert_shown(&shown, &[&format!("{text}{BELOW}{tip}"), "failed at host (exit code 1)\n"]);
    assert_eq!((shown.code, server.requests().len()), (Some(1), 0));
    let env = json!({"KEY": "your-key", "TOKEN": "<token>", "OTHER": "YOUR_API_KEY", "GOOD": "sk-1"});
    file(&terminal, CURSOR, json!({"mine": {"command": OURS, "args": [&url], "disabled": true, "env": env}}));
    for arguments in [&[][..], &["--entry", "mine"], &[&url]] {
        let shown = terminal.run(arguments).await;
        assert_shown(
            &shown,
            &["info  host                  Cursor, ~/.cursor/mcp.json, \"mine\": this entry is disabled in the host\n"],
        );
        for name in ["KEY", "TOKEN", "OTHER"] {
            let text = format!(
                "\"mine\": the value of {name} in \"env\" is still an example\n{BELOW}Tip: write your own value for {name} into \"env\"\n"
            );
            assert_shown(&shown, &[&text]);
        }
        assert!(shown.code == Some(0) && !shown.stdout.contains("GOOD"), "{}", shown.stdout);
    }
}

#[tokio::test]
async fn tool_is_called_with_named_entry() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    let args = json!([server.url("/mcp"), "--header", "X-Key:${KEY}"]);
    file(&terminal, CURSOR, json!({"mine": {"command": OURS, "args": args, "env": {"KEY": "hush-key"}}}));
    let shown = terminal.run(&["--entry", "mine", "call", "add", "a=1"]).await;
    assert!(shown.stdout.starts_with("got {\"a\":1}\n"), "{}{}", shown.stdout, shown.stderr);
    assert_eq!(server.asked("tools/call")[0].header("x-key"), Some("hush-key"));
    assert_eq!(shown.code, Some(0));
}

#[tokio::test]
async fn arguments_beside_entries_are_refused() {
    for (arguments, expected) in [
        (&["--entry", "mine", "https://a.example/mcp"][..], "--entry"),
        (&["--entry", "mine", "--header", "A:hush"], "--header cannot be used with --entry"),
        (&["--header", "A:hush"], "--header needs a server URL"),
        (&["call", "add"], "call TOOL KEY=VALUE"),
    ] {
        let shown = Terminal::new().run(arguments).await;
        assert!(shown.stderr.contains(expected) && !shown.stderr.contains("hush"), "{arguments:?}: {}", shown.stderr);
        assert_eq!((shown.code, &*shown.stdout), (Some(2), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn skipped_steps_are_shown_with_verbose_only() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let shown = Terminal::new().run(&[&url]).await;
    assert!(!shown.stdout.contains("skip "), "{}", shown.stdout);
    let verbose = Terminal::new().run(&[&url, "--verbose"]).await;
    assert_shown(
        &verbose,
        &[
            "skip  host                  no entry of a host starts mcp-remote\n",
            "skip  store                 the first sign-in creates ~/.mcp-auth/mcp-remote-v1\n",
            "skip  stored-sign-in        none for this server with these flags\n",
            "skip  proxy                 none for this server\n",
            "skip  dns                   127.0.0.1 is an IPv4 address\n",
            "skip  tls                   not needed for a server on this machine\n",
        ],
    );
}

/// `script` gives the program a terminal.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn colors_are_for_terminals_that_want_them() {
    let port = reserved_port().await;
    for (variables, has_colors) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let home = tempfile::tempdir().unwrap();
        let line = format!("{} http://127.0.0.1:{port}/mcp", env!("CARGO_BIN_EXE_mcp-remote-client"));
        let mut command = tokio::process::Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_remove("NO_COLOR");
        command.envs(variables.iter().copied()).env("HOME", home.path()).current_dir(home.path()).stdin(Stdio::null());
        let done = command.output().await.unwrap();
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.status.code(), Some(4), "{shown}");
        assert_eq!(shown.contains("\u{1b}[32mok  \u{1b}[0m  environment"), has_colors, "{variables:?}: {shown:?}");
        assert_eq!(shown.contains("\u{1b}[31mFAIL\u{1b}[0m  tcp"), has_colors, "{variables:?}: {shown:?}");
        assert_eq!(shown.contains('\u{1b}'), has_colors, "{variables:?}: {shown:?}");
    }
    let shown = Terminal::new().with("TERM", "xterm").run(&[&format!("http://127.0.0.1:{port}/mcp")]).await;
    assert!(!shown.stdout.contains('\u{1b}'), "no terminal: {:?}", shown.stdout);
}
