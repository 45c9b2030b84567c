//! What the command line refuses, and how a person and a host learn of it.

use std::{process::Command, sync::Arc, time::Duration};

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
        (&[], "address is missing"),
        (&["not a url"], "contains a space"),
        (&["127.0.0.1/mcp"], "must begin with https://"),
        (&["ftp://127.0.0.1/mcp"], "must be http or https"),
        (&["https://${HOST}/mcp"], "placeholder"),
        (&[r#"{"url":"https://a.example/mcp"}"#], "must begin with https://"),
        (&["http://far.example/mcp"], "--allow-http"),
        (&["\"http://127.0.0.1/mcp\""], "quotes"),
        (&["http://127.0.0.1:1/mcp --debug"], "separate element"),
        (&[&url, "--heder", "A:b"], "did you mean --header?"),
        (&[&url, "--no-such-thing-at-all"], "unknown flag --no-such-thing-at-all"),
        (&[&url, "0"], "callback port"),
        (&[&url, "3334", "stray"], "unexpected argument"),
        (&[&url, "--header"], "needs a value"),
        (&[&url, "--header", "nothing"], "NAME:VALUE"),
        (&[&url, "--header", "Bad Name:x"], "no header name"),
        (&[&url, "--header", "A:${NOT_SET}"], "NOT_SET, which is not set"),
        (&[&url, "--header", "Authorization:", "Bearer", "x"], "${AUTH}"),
        (&[&url, "--header", "Authorization:"], "has no value"),
        (&[&url, "--header", "Authorization: bearer"], "has no key after bearer"),
        (&[&url, "--header-file", "/no/such/file"], "cannot read --header-file /no/such/file"),
        (&[&url, "--transport", "pigeon"], "http-first, sse-first, http-only, sse-only"),
        (&[&url, "--protocol", "ancient"], "must be one of"),
        (&[&url, "--connect-timeout", "0"], "more than 0"),
        (&[&url, "--retry-for", "soon"], "number of seconds"),
        (&[&url, "--body-timeout=-1"], "not below 0"),
        (&[&url, "--max-message-size", "0"], "number of bytes"),
        (&[&url, "--ca-cert", "/no/such/file"], "--ca-cert /no/such/file"),
        (&[&url, "--ca-cert", no_pem], "no certificate in it"),
        (&[&url, "--client-cert", no_pem], "--client-key"),
        (&[&url, "--client-cert", no_pem, "--client-key", no_pem], "--client-cert"),
        (&[&url, "--proxy", "ftp://a.example"], "--proxy"),
        (&[&url, "--callback-path", "x"], "must begin with /"),
        (&[&url, "--authorize-param", "state=1"], "cannot set state"),
        (&[&url, "--static-oauth-client-info", "{}"], "no client_id"),
        (&[&url, "--static-oauth-client-metadata", "@/no/such/file"], "cannot read"),
        (&[&url, "--client-metadata-url", "http://c.example/m"], "must be https"),
        (&[&url, "--token-endpoint", "https://t.example/token"], "--client-credentials"),
        (&[&url, "--device-code", "--client-credentials"], "cannot be used with"),
        (&[&url, "--assertion-file", "/a", "--assertion-command", "b"], "cannot be used with --assertion-command"),
        (&[&url, "--assertion-command", "print \"token"], "a quote that is not closed"),
        (&[&url, "--client-credentials"], "needs a client_id"),
        (
            &[&url, "--client-credentials", "--static-oauth-client-info", r#"{"client_id":"i"}"#],
            "--client-key-jwt FILE",
        ),
        (&[&url, "--client-key-jwt", no_pem], "--client-credentials is missing"),
        (&[&url, "--id-jag-token", no_pem], "--id-jag-client-id and --id-jag-token-endpoint are missing"),
        (&[&url, "--dpop", "maybe"], "auto, require, off"),
        (&["loign", &url], "did you mean mcp-remote login?"),
        (&["--debug", "logout", &url], "only a command goes before it"),
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
        let [message, code] = [&error["message"], &error["data"]["code"]].map(|text| text.as_str().unwrap());
        let tip = error["data"]["hint"].as_str().map(|hint| format!("Tip: {hint} ")).unwrap_or_default();
        assert_eq!(message, format!("mcp-remote: {told}"), "{arguments:?}");
        assert!(message.ends_with(&format!(" {tip}[Details: mcp-remote explain {code}]")), "{arguments:?}: {message}");
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
        assert_eq!(
            errors[0]["message"],
            "mcp-remote: unknown flag --headr; did you mean --header? [Details: mcp-remote explain bad_arguments]"
        );
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
        (client, &["finish", "-h"], "Usage: mcp-remote-client finish [OPTIONS]"),
        (adapter, &["status", "--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let (code, stdout, stderr) = run(program, arguments);
        assert_eq!((code, &*stderr), (Some(0), ""), "{program} {arguments:?}");
        assert!(stdout.contains(expected), "{program} {arguments:?}: {stdout}");
    }
    assert!(!run(adapter, &["--help"]).1.contains("--json"));
}

/// Each is started where a host's first request waits on stdin, which is not theirs.
#[test]
fn terminal_start_answers_user_instead_of_host() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::write(&input, initialize() + "\n").unwrap();
    let (adapter, client) = (env!("CARGO_BIN_EXE_mcp-remote"), env!("CARGO_BIN_EXE_mcp-remote-client"));
    for (program, arguments, expected) in [
        (client, &["--bogus"][..], "unknown flag --bogus"),
        (adapter, &["mcp-remote-client", "--bogus"], "unknown flag --bogus"),
        (client, &["finish", "--bogus"], "unknown flag --bogus"),
        (client, &["finish", "http://localhost:3334/oauth/callback?code=hush"], "must not be an argument"),
        (client, &["login", "https://a.example/mcp"], "did you mean mcp-remote login?"),
        (adapter, &["login"], "address is missing"),
        (adapter, &["login", "http://far.example"], "--allow-http"),
        (adapter, &["logout"], "or --all"),
        (adapter, &["logout", "--all", "https://a.example/mcp"], "cannot be used with"),
        (adapter, &["status", "--jsn"], "did you mean --json?"),
        (adapter, &["status", "https://a.example/mcp", "--header", "hush"], "NAME:VALUE"),
    ] {
        let input = std::fs::File::open(&input).unwrap();
        let done = Command::new(program).args(arguments).stdin(input).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        assert!(stderr.contains(expected) && !stderr.contains(SECRET), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(String::from_utf8(done.stdout).unwrap(), "", "{arguments:?}");
    }
}
