//! What the command line refuses, and how a person and a host learn of it.

use std::{collections::BTreeSet, fs::File, path::PathBuf, process::Command, sync::Arc, time::Duration};

use serde_json::json;

use crate::support::{
    host::{Handles, Host, initialize_params, notification, request},
    server::{Server, ordinary},
};

/// What no message may show.
const SECRET: &str = "hush";

fn start(handles: Handles, arguments: &[&str]) -> Host {
    Host::start_raw(handles, arguments, &[], Arc::new(tempfile::tempdir().unwrap()))
}

fn initialize() -> String {
    request("first", "initialize", initialize_params("2025-11-25"))
}

/// The one sentence on stderr, after the line that every log begins with; the program must have exited.
fn sentence(host: &Host) -> String {
    let stderr = host.stderr();
    let stderr = match stderr.split_once('\n') {
        Some((first, rest))
            if first.contains(&format!("] mcp-remote {} connecting to ", env!("CARGO_PKG_VERSION"))) =>
        {
            rest
        }
        _ => &stderr,
    };
    let line = stderr.strip_suffix('\n').unwrap_or_else(|| panic!("a line on stderr, not {stderr:?}"));
    assert!(!line.contains('\n'), "one line on stderr:\n{stderr}");
    let (pid, sentence) = line.split_once("] mcp-remote: ").unwrap_or_else(|| panic!("{line}"));
    assert!(pid.strip_prefix('[').is_some_and(|pid| pid.parse::<u32>().is_ok()), "{line}");
    sentence.to_owned()
}

#[tokio::test]
async fn mistake_is_one_sentence_and_sends_nothing() {
    let server = Server::with(ordinary).await;
    let url = server.url("/mcp");
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("no.pem");
    std::fs::write(&no_pem, "nothing").unwrap();
    let no_pem = no_pem.to_str().unwrap();
    let mistakes: &[(&[&str], &str)] = &[
        (&[], "the server URL is missing"),
        (&["not a url"], "contains a space"),
        (&["127.0.0.1/mcp"], "did you mean http://127.0.0.1/mcp?"),
        (&["ftp://127.0.0.1/mcp"], "must begin with https:// or http://, not ftp://"),
        (&["https://${HOST}/mcp"], "placeholder"),
        (&[r#"{"url":"https://a.example/mcp"}"#], "must begin with https://"),
        (&["http://far.example/mcp"], "--allow-http"),
        (&["\"http://127.0.0.1/mcp\""], "quotes"),
        (&["http://127.0.0.1:1/mcp --debug"], "\"args\""),
        (&[&url, "--heder", "A:b"], "a similar argument exists: '--header'"),
        (&[&url, "--no-such-thing-at-all"], "unexpected argument '--no-such-thing-at-all' found"),
        (&[&url, "0"], "'0' is not a valid port (1 to 65535)"),
        (&[&url, "3334", "stray"], "unexpected argument"),
        (&[&url, "--header"], "needs a value"),
        (&[&url, "--header", "nothing"], "NAME:VALUE"),
        (&[&url, "--header", "Bad Name:x"], "character that header names cannot have"),
        (&[&url, "--header", "A:${NOT_SET}"], "NOT_SET, which is not set"),
        (&[&url, "--header", "Authorization:", "Bearer", "x"], "${AUTH}"),
        (&[&url, "--header", "Authorization:"], "has no value"),
        (&[&url, "--header", "Authorization: bearer"], "has no key after bearer"),
        (&[&url, "--header-file", "/no/such/file"], "cannot read /no/such/file (--header-file)"),
        (&[&url, "--transport", "pigeon"], "http-first, sse-first, http-only, sse-only"),
        (&[&url, "--protocol", "ancient"], "use one of auto, legacy, modern"),
        (&[&url, "--connect-timeout", "0"], "more than 0"),
        (&[&url, "--retry-for", "soon"], "number of seconds"),
        (&[&url, "--body-timeout=-1"], "not below 0"),
        (&[&url, "--max-message-size", "0"], "number of bytes"),
        (&[&url, "--ca-cert", "/no/such/file"], "cannot read /no/such/file (--ca-cert)"),
        (&[&url, "--ca-cert", no_pem], "has no certificate in PEM form"),
        (&[&url, "--client-cert", no_pem], "--client-key"),
        (&[&url, "--client-cert", no_pem, "--client-key", no_pem], "--client-cert"),
        (&[&url, "--proxy", "ftp://a.example"], "--proxy"),
        (&[&url, "--callback-path", "x"], "must begin with /"),
        (&[&url, "--callback-path", "/a b?x#y"], "must be a path without ? and #, such as /oauth/callback"),
        (&[&url, "--host", "http://a.example"], "must be the host name alone: a.example"),
        (&[&url, "--ping-interval", "1e-9"], "must be at least 0.01 seconds"),
        (&[&url, "--connect-timeout", "1e-9"], "must be at least 0.001 seconds"),
        (&[&url, "--authorize-param", "state=1"], "cannot set state"),
        (&[&url, "--static-oauth-client-info", "{}"], "no client_id"),
        (&[&url, "--static-oauth-client-metadata", "@/no/such/file"], "cannot read"),
        (&[&url, "--client-metadata-url", "http://c.example/m"], "it must begin with https://"),
        (&[&url, "--token-endpoint", "https://t.example/token"], "--client-credentials"),
        (&[&url, "--device-code", "--client-credentials"], "cannot be used with"),
        (&[&url, "--assertion-file", "/a", "--assertion-command", "b"], "cannot be used with --assertion-command"),
        (&[&url, "--assertion-command", "print \"token"], "a quote that is not closed"),
        (&[&url, "--client-credentials"], "needs a client_id"),
        (
            &[&url, "--client-credentials", "--static-oauth-client-info", r#"{"client_id":"i"}"#],
            "--client-key-jwt FILE",
        ),
        (&[&url, "--client-key-jwt", no_pem], "--client-credentials is missing, and another flag needs it"),
        (&[&url, "--id-jag-token", no_pem], "--id-jag-client-id and --id-jag-token-endpoint are missing"),
        (&[&url, "--dpop", "maybe"], "auto, require, off"),
        (&["loign", &url], "a similar command exists: 'mcp-remote login'"),
        (&["--debug", "logout", &url], "the command 'logout' must be the first argument"),
    ];
    for (at, (arguments, expected)) in mistakes.iter().enumerate() {
        let handles = if at % 2 == 0 { Handles::Pipes } else { Handles::SocketPairs };
        let mut host = start(handles, arguments);
        host.send(initialize()).await;
        let answer = host.json().await;
        host.end_input();
        let (status, _) = host.exit().await;
        let told = sentence(&host);
        assert!(told.contains(expected), "{arguments:?}: {told}");
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        assert_eq!(answer["id"], "first", "{arguments:?}");
        let error = &answer["error"];
        let message = error["message"].as_str().unwrap();
        assert_eq!(message, format!("mcp-remote: {told}"), "{arguments:?}");
        assert!(message.contains(error["data"]["code"].as_str().unwrap()), "{arguments:?}: {message}");
        if let Some(hint) = error["data"].get("hint") {
            assert!(message.contains(&format!("Tip: {}", hint.as_str().unwrap())), "{arguments:?}: {message}");
        }
        assert_eq!(host.rest().await, Vec::<String>::new(), "{arguments:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn key_of_other_certificate_is_refused() {
    let server = Server::with(ordinary).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (own, other) = (rcgen::generate_simple_self_signed([]).unwrap(), rcgen::KeyPair::generate().unwrap());
    std::fs::write(path("cert.pem"), own.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), other.serialize_pem()).unwrap();
    let arguments = [&server.url("/mcp"), "--client-cert", &path("cert.pem"), "--client-key", &path("key.pem")];
    let mut host = start(Handles::Pipes, &arguments);
    host.send(initialize()).await;
    let answer = host.json().await;
    host.end_input();
    let (status, _) = host.exit().await;
    assert_eq!(status.code(), Some(2));
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!(format!("mcp-remote: {}", sentence(&host)), message);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn invalid_proxy_variable_is_refused_by_name() {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let environment = [("HTTPS_PROXY", "ftp://user:hush@proxy.example")];
    let mut host = Host::start_raw(Handles::Pipes, &["https://a.example/mcp"], &environment, home);
    host.end_input();
    assert_eq!(host.exit().await.0.code(), Some(2));
    let told = sentence(&host);
    assert!(told.contains("HTTPS_PROXY") && !told.contains(SECRET), "{told}");
}

/// Claude Code asks `server/discover` first, and shows the error of `initialize`.
#[tokio::test]
async fn refusal_answers_every_request_until_initialize() {
    for handles in [Handles::Pipes, Handles::SocketPairs] {
        let mut host = start(handles, &["https://a.example/mcp", "--headr", "A:b"]);
        let mut errors = Vec::new();
        for (id, method) in ["server/discover", "ping", "tools/list", "initialize", "tools/list"].iter().enumerate() {
            host.send(notification("notifications/x", json!({}))).await;
            host.send(request(id, method, json!({}))).await;
            let answer = host.json().await;
            assert_eq!(answer["id"], id, "{method}: {answer}");
            errors.push(answer["error"].clone());
        }
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.starts_with("mcp-remote: unexpected argument '--headr' found"), "{message}");
        assert!(message.contains(". Tip: a similar argument exists: '--header'"), "{message}");
        let (status, took) = host.exit().await;
        assert_eq!(status.code(), Some(2));
        assert!(took > Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
        assert_eq!(host.rest().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn refusal_answers_each_request_of_a_batch() {
    let mut host = start(Handles::Pipes, &["--bogus"]);
    let batch = [request(1, "ping", json!({})), notification("notifications/x", json!({})), request(2, "x", json!({}))];
    host.send(format!("[{}]", batch.join(","))).await;
    for id in [1, 2] {
        assert_eq!(host.json().await["id"], id);
    }
}

/// A host may take its time between its probe and `initialize`.
#[tokio::test]
async fn refusal_awaits_initialize_after_a_probe() {
    let mut host = start(Handles::SocketPairs, &["--bogus"]);
    host.ask(0, "server/discover", json!({})).await;
    assert!(host.is_quiet(Duration::from_secs(3)).await, "it has ended; stderr:\n{}", host.stderr());
    let answer = host.ask(1, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(answer["error"]["data"]["code"], "bad_arguments", "{answer}");
    host.end_input();
    let (status, took) = host.exit().await;
    assert_eq!(status.code(), Some(2));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn first_request_is_answered_after_other_lines() {
    for handles in [Handles::Pipes, Handles::SocketPairs] {
        let mut host = start(handles, &["--bogus"]);
        let lines =
            ["", "no json", r#"{"jsonrpc":"2.0","id":9,"result":{}}"#, &notification("notifications/x", json!({}))];
        host.send(format!("{}\n{}", lines.join("\n"), request(json!("é/1"), "ping", json!({})))).await;
        assert_eq!(host.json().await["id"], "é/1");
        host.end_input();
        assert_eq!(host.exit().await.0.code(), Some(2));
        assert_eq!(host.rest().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn silent_host_is_not_awaited_long() {
    let mut host = start(Handles::Pipes, &["--bogus"]);
    host.send(notification("notifications/x", json!({}))).await;
    let (status, took) = host.exit().await;
    assert_eq!(status.code(), Some(2));
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(host.rest().await, Vec::<String>::new());
}

#[tokio::test]
async fn refusal_ends_at_end_of_input() {
    let mut host = start(Handles::SocketPairs, &["--bogus"]);
    host.end_input();
    let (status, took) = host.exit().await;
    assert_eq!(status.code(), Some(2));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(host.rest().await, Vec::<String>::new());
}

/// As Notepad and PowerShell write it.
#[tokio::test]
async fn files_may_begin_with_byte_order_mark() {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (headers, client) = (write("headers", "X-Key: value\r\n"), write("client", r#"{"client_id":"given"}"#));
    let server = Server::with(ordinary).await;
    let flags = ["--header-file", &headers, "--static-oauth-client-info", &format!("@{client}")];
    let mut host = Host::start(&server.url("/mcp"), &flags);
    host.initialize().await;
    assert_eq!(server.requests()[0].header("x-key"), Some("value"));
}

/// Each is refused for another reason than its secret.
#[tokio::test]
async fn no_secret_shows_in_a_refusal() {
    let file = tempfile::tempdir().unwrap();
    let headers = file.path().join("headers");
    std::fs::write(&headers, "X-Ok: 1\nAuthorization Bearer hush\n").unwrap();
    let url = "http://127.0.0.1:1/mcp";
    let mistakes: &[&[&str]] = &[
        &[url, "--header", "Authorization Bearer hush"],
        &[url, "--header", "Authorization: Bearer hush\u{7}"],
        &[url, "--header", "X Key: hush"],
        &[url, "--header-file", headers.to_str().unwrap()],
        &[url, "--header", "A: hush${NOT_SET}"],
        &[url, "--static-oauth-client-info", r#"{"client_secret":"hush"}"#],
        &[url, "--static-oauth-client-info", r#"{"client_secret":"hush""#],
        &[url, "--static-oauth-client-metadata", r#"["hush"]"#],
        &[url, "--proxy", "ftp://user:hush@proxy.example"],
        &[url, "--token-endpoint", "https://user:hush@t.example/token", "--client-credentials"],
        &[url, "--auth-success-url", "https://user:hush@t.example/"],
        &[url, "--assertion-command", "print 'hush"],
        &[
            url,
            "--id-jag-token",
            "/t",
            "--id-jag-client-id",
            "i",
            "--id-jag-token-endpoint",
            "https://user:hush@i.example/token",
            "--static-oauth-client-info",
            r#"{"client_id":"i"}"#,
        ],
        &["hush", url],
    ];
    shows_no_secret(mistakes).await;
}

#[tokio::test]
async fn header_cut_by_host_shows_no_secret() {
    let url = "http://127.0.0.1:1/mcp";
    shows_no_secret(&[
        &[url, "--header", "Authorization: Bearer", "hush"],
        &[url, "3334", "--header", "Authorization:Bearer", "hush"],
    ])
    .await;
}

#[tokio::test]
async fn glued_arguments_show_no_secret() {
    shows_no_secret(&[&["http://127.0.0.1:1/mcp --header Authorization:Bearer hush"]]).await;
}

#[tokio::test]
async fn refused_url_shows_no_secret() {
    shows_no_secret(&[
        &["http://user:hush@far.example/mcp"],
        &["http://far.example/mcp?api_key=hush"],
        &["ws://far.example/mcp?api_key=hush"],
        &["far.example/mcp?api_key=hush"],
        &["\"http://far.example/mcp?api_key=hush\""],
    ])
    .await;
}

async fn shows_no_secret(mistakes: &[&[&str]]) {
    for arguments in mistakes {
        let mut host = start(Handles::Pipes, arguments);
        host.send(initialize()).await;
        let answer = host.json().await.to_string();
        host.end_input();
        assert_eq!(host.exit().await.0.code(), Some(2), "{arguments:?}");
        let told = sentence(&host);
        assert!(!told.contains(SECRET) && !answer.contains(SECRET), "{arguments:?}: {told}");
    }
}

fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn help_and_version_are_printed_and_nothing_else() {
    let (adapter, client) = (env!("CARGO_BIN_EXE_mcp-remote"), env!("CARGO_BIN_EXE_mcp-remote-client"));
    for (program, arguments, expected) in [
        (adapter, &["--help"][..], "--header <NAME:VALUE>"),
        (adapter, &["-h"], "--allow-http"),
        (adapter, &["--help"], "mcp-remote login https://example.com/mcp"),
        (adapter, &["--version"], env!("CARGO_PKG_VERSION")),
        (client, &["--help"], "--json"),
        (client, &["--version"], env!("CARGO_PKG_VERSION")),
        (adapter, &["mcp-remote-client", "--help"], "--json"),
        (adapter, &["login", "--help"], "Usage: mcp-remote login [OPTIONS] <SERVER-URL> [CALLBACK-PORT]"),
        (adapter, &["logout", "-h"], "Usage: mcp-remote logout [OPTIONS] [SERVER-URL]"),
        (adapter, &["status", "--help"], "Usage: mcp-remote status [OPTIONS] [SERVER-URL]"),
        (adapter, &["mcp-remote-client", "finish", "--help"], "Usage: mcp-remote-client finish [OPTIONS]"),
        (adapter, &["finish", "--help"], "Usage: mcp-remote finish [OPTIONS]"),
        (adapter, &["client", "finish", "-h"], "Usage: mcp-remote client finish [OPTIONS]"),
        (adapter, &["client", "-h"], "Usage: mcp-remote client [OPTIONS] [SERVER-URL] [CALLBACK-PORT] [ACTION]"),
        (client, &["-h"], "Usage: mcp-remote-client [OPTIONS] [SERVER-URL] [CALLBACK-PORT] [ACTION]"),
        (adapter, &["version"], concat!("mcp-remote ", env!("CARGO_PKG_VERSION"), "\n")),
        (client, &["version"], concat!("mcp-remote-client ", env!("CARGO_PKG_VERSION"), "\n")),
        (client, &["finish", "-h"], "Usage: mcp-remote-client finish [OPTIONS]"),
        (adapter, &["status", "--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let (code, stdout, stderr) = run(program, arguments);
        assert_eq!((code, &*stderr), (Some(0), ""), "{program} {arguments:?}");
        assert!(stdout.contains(expected), "{program} {arguments:?}: {stdout}");
    }
    assert!(!run(adapter, &["--help"]).1.contains("--json"));
}

/// A package carries one file, to which its two names lead.
#[test]
fn one_file_answers_to_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_mcp-remote"));
    let place = |file: &str, name: &str| {
        let place = folder.path().join(file).join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    };
    let mut named = Vec::new();
    for (name, version) in [
        ("mcp-remote-client", "mcp-remote-client"),
        ("MCP-Remote-Client", "mcp-remote-client"),
        ("other", "mcp-remote"),
    ] {
        let copy = place("copies", name);
        std::fs::hard_link(&program, &copy).or_else(|_| std::fs::copy(&program, &copy).map(drop)).unwrap();
        named.push((copy, version));
        #[cfg(unix)]
        {
            let link = place("links", name);
            std::os::unix::fs::symlink(&program, &link).unwrap();
            named.push((link, version));
        }
    }
    for (program, version) in named {
        let (code, stdout, _) = run(program.to_str().unwrap(), &["--version"]);
        assert_eq!((code, &*stdout), (Some(0), &*format!("{version} {}\n", env!("CARGO_PKG_VERSION"))), "{program:?}");
        let (code, _, stderr) = run(program.to_str().unwrap(), &["--bogus"]);
        assert_eq!(code, Some(2), "{program:?}: {stderr}");
        assert_eq!(stderr.contains("Usage: mcp-remote-client [OPTIONS]"), version != "mcp-remote", "{stderr}");
    }
}

/// Each is started where a host's first request waits on stdin, which is not theirs.
#[test]
#[cfg_attr(not(unix), ignore = "elsewhere whatever is no terminal is taken for a host")]
fn terminal_start_answers_user_instead_of_host() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::write(&input, initialize() + "\n").unwrap();
    let (adapter, client) = (env!("CARGO_BIN_EXE_mcp-remote"), env!("CARGO_BIN_EXE_mcp-remote-client"));
    for (program, arguments, expected) in [
        (client, &["--bogus"][..], "error: unexpected argument '--bogus' found\n\nUsage: mcp-remote-client [OPTIONS]"),
        (adapter, &["mcp-remote-client", "--bogus"], "Usage: mcp-remote-client [OPTIONS]"),
        (adapter, &["client", "--bogus"], "Usage: mcp-remote client [OPTIONS]"),
        (client, &["finish", "--bogus"], "Usage: mcp-remote-client finish [OPTIONS]"),
        (client, &["finish", "http://localhost:3334/oauth/callback?code=hush"], "must not be an argument"),
        (client, &["login", "https://a.example/mcp"], "  tip: a similar command exists: 'mcp-remote login'\n"),
        (adapter, &["login"], "  tip: add it: mcp-remote login https://example.com/mcp\n"),
        (adapter, &["login", "http://far.example"], "--allow-http"),
        (adapter, &["logout"], "or --all"),
        (adapter, &["logout", "--all", "https://a.example/mcp"], "cannot be used with"),
        (adapter, &["status", "--jsn"], "  tip: a similar argument exists: '--json'\n"),
        (adapter, &["status", "https://a.example/mcp", "--header", "hush"], "NAME:VALUE"),
        (adapter, &["explain", "SIGN_IN"], "  tip: a similar code exists: 'sign_in_needed'\n"),
        (adapter, &["help", "hostz"], "error: there is no topic 'hostz'\n\n  tip: a similar topic exists: 'hosts'\n"),
        (
            adapter,
            &["login", "https://a.example/mcp", "--header", "A:${NOT_SET}"],
            "Details: mcp-remote explain variable",
        ),
        (adapter, &["client", "https://a.example/mcp", "call"], "error: 'call' needs the name of a tool\n"),
        (adapter, &["completions", "tcsh"], "  tip: use one of bash, elvish, fish, powershell, zsh\n"),
        // A file is no host: hosts use pipes and sockets.
        (adapter, &["https://a.example/mcp", "--bogus"], "Usage: mcp-remote [OPTIONS] <SERVER-URL> [CALLBACK-PORT]\n"),
    ] {
        let input = File::open(&input).unwrap();
        let done = Command::new(program).args(arguments).stdin(input).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        assert!(stderr.contains(expected) && !stderr.contains(SECRET), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && !stderr.contains("bad_arguments"), "{arguments:?}: {stderr}");
        assert!(stderr.ends_with("\n\nFor more information, try '--help'.\n"), "{arguments:?}: {stderr}");
        let is_answered = arguments[0] == "https://a.example/mcp";
        assert_eq!(!done.stdout.is_empty(), is_answered, "{arguments:?}");
    }
}

#[test]
#[cfg_attr(not(unix), ignore = "elsewhere whatever is no terminal is taken for a host")]
fn mistake_looks_as_in_most_programs() {
    let url = "https://example.com/mcp";
    let usage = "Usage: mcp-remote [OPTIONS] <SERVER-URL> [CALLBACK-PORT]\n       mcp-remote <COMMAND> [ARGUMENTS]";
    for (arguments, sentence, tip) in [
        (&[url, "--heder", "a:b"][..], "unexpected argument '--heder' found", "a similar argument exists: '--header'"),
        (
            &[url, "99999"],
            "'99999' is not a valid port (1 to 65535)",
            "choose another port, or leave it out: mcp-remote then derives the port from the server URL",
        ),
        (
            &[url, "--insecure"],
            "unexpected argument '--insecure' found: certificate checks cannot be turned off",
            "trust the server's certificate or its issuer: --ca-cert FILE",
        ),
        (
            &[url, "--timeout", "5"],
            "unexpected argument '--timeout' found",
            "some similar arguments exist: '--connect-timeout', '--headers-timeout', '--body-timeout', \
             '--initialize-timeout', '--auth-timeout'",
        ),
        (&["example.com/mcp"], "the server URL has no scheme", "did you mean https://example.com/mcp?"),
        (&["localhost:3000/mcp"], "the server URL has no scheme", "did you mean http://localhost:3000/mcp?"),
        (&["list"], "unrecognized command 'list'", "show the stored sign-ins: mcp-remote status"),
        (&[url, "-debug"], "unexpected argument '-debug' found", "write two dashes: --debug"),
        (&["https://example.com/mcp "], "the server URL ends with a space", "remove it"),
    ] {
        let (code, stdout, stderr) = run(env!("CARGO_BIN_EXE_mcp-remote"), arguments);
        assert_eq!((code, &*stdout), (Some(2), ""), "{arguments:?}");
        let expected = format!("error: {sentence}\n\n  tip: {tip}\n\n{usage}\n\nFor more information, try '--help'.\n");
        assert_eq!(stderr, expected, "{arguments:?}");
    }
}

/// A host may pass its own terminal on as stderr.
#[cfg(unix)]
#[test]
fn terminal_shows_mistake_in_color_without_pid() {
    use std::{io::Read as _, process::Stdio};

    use rustix::pty::{self, OpenptFlags};
    for (no_color, expected) in [
        ("", "\u{1b}[1;31merror:\u{1b}[0m unexpected argument '--bogus' found\r\n\r\nUsage: mcp-remote "),
        ("1", "error: unexpected argument '--bogus' found\r\n\r\nUsage: mcp-remote "),
    ] {
        let controller = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        pty::grantpt(&controller).unwrap();
        pty::unlockpt(&controller).unwrap();
        let name = pty::ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(&name).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
            .args(["https://a.example/mcp", "--bogus"])
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .stdin(Stdio::piped())
            .stderr(terminal)
            .spawn()
            .unwrap();
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(2));
        let (mut screen, mut shown) = (File::from(controller), Vec::new());
        _ = screen.read_to_end(&mut shown); // Linux reports the end of a terminal as an error
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with(expected), "{shown:?}");
        assert!(shown.ends_with("For more information, try '--help'.\r\n"), "{shown:?}");
    }
}

/// The arguments that show a screen, and the file with its text. The text is the same on every platform.
const SCREENS: [(&[&str], &str); 21] = [
    (&["-h"], "mcp-remote"),
    (&["--help"], "mcp-remote-long"),
    (&["client", "-h"], "client"),
    (&["client", "--help"], "client-long"),
    (&["login", "-h"], "login"),
    (&["login", "--help"], "login-long"),
    (&["logout", "-h"], "logout"),
    (&["logout", "--help"], "logout-long"),
    (&["status", "-h"], "status"),
    (&["status", "--help"], "status-long"),
    (&["finish", "-h"], "finish"),
    (&["finish", "--help"], "finish-long"),
    (&["install", "-h"], "install"),
    (&["install", "--help"], "install-long"),
    (&["migrate", "-h"], "migrate"),
    (&["uninstall", "-h"], "uninstall"),
    (&["undo", "-h"], "undo"),
    (&["bundle", "-h"], "bundle"),
    (&["bundle", "--help"], "bundle-long"),
    (&["completions", "-h"], "completions"),
    (&["man", "-h"], "man"),
];

fn screen(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "it", "help", &format!("{name}.txt")].iter().collect()
}

fn written(name: &str) -> String {
    std::fs::read_to_string(screen(name)).unwrap_or_default().replace("\r\n", "\n")
}

/// `WRITE_HELP=1 cargo test --test it help_screens` writes the files.
#[test]
fn help_screens_are_as_written() {
    for (arguments, name) in SCREENS {
        let done =
            Command::new(env!("CARGO_BIN_EXE_mcp-remote")).args(arguments).env_remove("COLUMNS").output().unwrap();
        let shown = String::from_utf8(done.stdout).unwrap();
        if std::env::var_os("WRITE_HELP").is_some() {
            std::fs::write(screen(name), &shown).unwrap();
        }
        assert_eq!(shown, written(name), "mcp-remote {}", arguments.join(" "));
    }
}

#[test]
fn short_help_fits_one_screen() {
    for (arguments, name) in SCREENS.into_iter().filter(|(arguments, _)| arguments.ends_with(&["-h"])) {
        let text = written(name);
        assert!(text.lines().count() <= 40, "{arguments:?}: {} lines", text.lines().count());
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{arguments:?}: {widest:?} columns");
    }
}

#[test]
fn long_help_groups_all_flags() {
    let text = written("mcp-remote-long");
    let headings: Vec<_> = text.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
    let expected = [
        "Examples:",
        "Commands:",
        "Arguments:",
        "Options:",
        "Connection:",
        "TLS and proxy:",
        "Timeouts and retries:",
        "Authentication:",
        "OAuth client:",
        "Output:",
    ];
    assert_eq!(headings, expected);
}

#[test]
#[cfg_attr(not(unix), ignore = "elsewhere whatever is no terminal is taken for a host")]
fn start_without_arguments_shows_help() {
    let (code, stdout, stderr) = run(env!("CARGO_BIN_EXE_mcp-remote"), &[]);
    assert_eq!((code, &*stdout, &*stderr), (Some(2), "", &*written("mcp-remote")));
}

/// The flags of a screen, each at the start of its line.
fn flags(screen: &str) -> Vec<String> {
    let flags = written(screen);
    // Deeper lines are texts.
    let flags = flags.lines().filter_map(|line| line.strip_prefix("      --"));
    flags.filter_map(|line| Some(format!("--{}", line.split(' ').next()?))).collect()
}

#[test]
fn completions_name_every_visible_flag() {
    let long = SCREENS.iter().filter(|(arguments, _)| arguments.ends_with(&["--help"]));
    let shown: BTreeSet<_> = long.flat_map(|(_, name)| flags(name)).collect();
    assert!(shown.len() > 45, "{shown:?}");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let (code, script, stderr) = run(env!("CARGO_BIN_EXE_mcp-remote"), &["completions", shell]);
        assert_eq!((code, &*stderr), (Some(0), ""), "{shell}");
        let names = |flag: &str| match shell {
            "fish" => {
                script.contains(&format!("-l {} ", &flag[2..])) || script.contains(&format!("-l {}\n", &flag[2..]))
            }
            _ => script.contains(flag),
        };
        assert_eq!(shown.iter().find(|flag| !names(flag)), None, "{shell}");
        for command in
            ["install", "migrate", "undo", "login", "logout", "status", "client", "finish", "help", "explain"]
        {
            assert!(script.contains(command), "{shell} does not complete {command}");
        }
        assert!(!script.contains("enable-proxy"), "{shell} completes a hidden flag");
        let (_, script, _) = run(env!("CARGO_BIN_EXE_mcp-remote-client"), &["completions", shell]);
        assert!(script.contains("mcp-remote-client") && script.contains("json"), "{shell}: {script}");
    }
}

#[test]
fn bash_completion_has_case_for_each_command() {
    for program in [env!("CARGO_BIN_EXE_mcp-remote"), env!("CARGO_BIN_EXE_mcp-remote-client")] {
        let (_, script, _) = run(program, &["completions", "bash"]);
        let labels = script.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"'));
        let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
        assert!(labels.len() > 2, "{labels:?}");
        for label in labels {
            assert!(script.lines().any(|line| line.trim() == format!("{label})")), "no case for {label}");
        }
    }
}

#[test]
fn man_page_has_every_visible_flag() {
    for (command, name) in SCREENS.into_iter().filter(|(arguments, _)| arguments.ends_with(&["--help"])) {
        let arguments = [&["man"], &command[..command.len() - 1]].concat();
        let (code, page, stderr) = run(env!("CARGO_BIN_EXE_mcp-remote"), &arguments);
        assert_eq!((code, &*stderr), (Some(0), ""), "{arguments:?}");
        let page = page.replace("\\-", "-");
        assert!(page.contains(".TH mcp-remote"), "{page}");
        for flag in flags(name) {
            assert!(page.contains(&format!("{flag}\\fR")), "{arguments:?} has no {flag}");
        }
        assert!(!page.contains("enable-proxy"), "{arguments:?}");
    }
}
