//! What the log on stderr says of a start, and how often.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    host::{Handles, Host, initialize_params, request},
    server::{Reply, Server, ordinary, reserved_port},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Starts with defaults, as a host does.
fn start(url: &str, flags: &[&str]) -> Host {
    let mut arguments = vec![url, "--start", "hold"];
    arguments.extend(flags);
    Host::start_raw(Handles::SocketPairs, &arguments, &[], Arc::new(tempfile::tempdir().unwrap()))
}

#[tokio::test]
async fn first_line_names_version_and_server() {
    let server = Server::with(ordinary).await;
    let url = server.url("/mcp?api_key=hush");
    // What is remarked on the settings comes second.
    let environment = [("NODE_EXTRA_CA_CERTS", "/no/such/file")];
    for flags in [&[][..], &["--debug"]] {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let mut host = Host::start_raw(Handles::SocketPairs, &[&[&*url], flags].concat(), &environment, home);
        host.end_input();
        host.exit().await;
        let stderr = host.stderr();
        let first = stderr.lines().next().unwrap_or_default();
        let expected = format!("] mcp-remote {VERSION}, server {}?…", server.url("/mcp"));
        assert!(first.ends_with(&expected), "{flags:?}: {stderr}");
        assert!(stderr.contains("/no/such/file is left out") && !stderr.contains("hush"), "{stderr}");
    }
    let mut host = start(&url, &["--silent"]);
    host.end_input();
    host.exit().await;
    assert_eq!(host.stderr(), "");
}

/// `script` gives the program a terminal; at the end of its own input it ends that of the terminal.
#[cfg(target_os = "linux")]
#[test]
fn terminal_shows_how_to_test_the_connection() {
    let home = tempfile::tempdir().unwrap();
    let url = "https://a.example/mcp";
    for (arguments, typed) in [
        (url.to_owned(), format!("mcp-remote-client {url}")),
        (format!("{url} --debug"), "mcp-remote-client and the same arguments".to_owned()),
        (format!("{url}?key=hush"), "mcp-remote-client and the same arguments".to_owned()),
    ] {
        let command = format!("{} {arguments}", env!("CARGO_BIN_EXE_mcp-remote"));
        let done = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("HOME", home.path())
            .env("MCP_REMOTE_CONFIG_DIR", home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&done.stdout).replace('\r', "");
        let lines: Vec<_> = shown.lines().filter(|line| line.contains("waits for an MCP host")).collect();
        let [line] = lines[..] else { panic!("not one line: {shown}") };
        assert!(
            line.ends_with(&format!(
                "] mcp-remote waits for an MCP host on stdin. To test the connection, press Ctrl+C and type: {typed}"
            )),
            "{line}"
        );
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[tokio::test]
async fn start_without_terminal_shows_no_testing_advice() {
    let mut host = start("https://a.example/mcp", &[]);
    host.end_input();
    host.exit().await;
    assert_eq!(host.stderr().lines().count(), 1, "{}", host.stderr());
}

#[tokio::test]
async fn busy_server_is_logged_at_its_first_failure() {
    let server = Server::with(|_| Reply::status(503, "text/plain", "deploying")).await;
    let mut host = start(&server.url("/mcp"), &["--hold", "20"]);
    let since = Instant::now();
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let line = host.told_line("explain server_failed]").await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(line.contains("] warning: ") && line.contains("503") && line.contains(". Tip: "), "{line}");
    let counted = host.told_line("attempt 4 failed, too: ").await;
    assert!(counted.contains("503") && !counted.contains("warning"), "{counted}");
    host.end_input();
    host.exit().await;
    assert_eq!(host.stderr().matches("Tip: ").count(), 1, "the report is there once:\n{}", host.stderr());
}

#[tokio::test]
async fn report_is_logged_once_around_placeholder() {
    for start_up in ["answer", "hold"] {
        let url = format!("http://127.0.0.1:{}/mcp", reserved_port().await);
        let arguments = [&url, "--start", start_up, "--hold", "1"];
        let mut host = Host::start_raw(Handles::Pipes, &arguments, &[], Arc::new(tempfile::tempdir().unwrap()));
        assert!(host.initialize().await["result"].is_object());
        host.told_line("attempt 4 failed, too: cannot connect to ").await;
        host.end_input();
        host.exit().await;
        let stderr = host.stderr();
        assert_eq!(stderr.matches("] warning: cannot connect to ").count(), 1, "{stderr}");
    }
}

#[tokio::test]
async fn retries_of_a_waiting_start_have_one_line() {
    let port = reserved_port().await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let mut host = Host::waiting(&url, &["--retry-for", "1"]);
    let answer = host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(answer["error"]["data"]["code"], "cannot_connect", "{answer}");
    host.told_line("explain cannot_connect]").await;
    let stderr = host.stderr();
    let told = format!("cannot connect to 127.0.0.1:{port}: connection refused");
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains("onnect")).collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].ends_with(&format!("{told}; trying again")), "{stderr}");
    assert!(lines[1].contains(&format!("warning: {told}. Tip: ")), "{stderr}");
    host.close().await;
}

#[tokio::test]
async fn refused_session_is_logged_once() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "initialize" => Reply::json(
            json!({"jsonrpc": "2.0", "id": request.json()["id"], "error": {"code": -32000, "message": "full up"}}),
        ),
        _ => ordinary(request),
    })
    .await;
    let mut host = start(&server.url("/mcp"), &[]);
    let answer = host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(answer["error"]["message"], "full up", "the server's own answer: {answer}");
    let line = host.told_line("rejected initialize").await;
    assert!(line.contains("\"full up\". Tip: ") && line.ends_with("explain refused]"), "{line}");
    host.end_input();
    host.exit().await;
    assert_eq!(host.stderr().matches("rejected initialize").count(), 1, "{}", host.stderr());
}
