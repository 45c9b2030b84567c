//! What the log on stderr says of a start, and how often.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    host::{Handles, Host, initialize_params, request},
    server::{Reply, Request, Server, answer, ordinary, reserved_port},
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
        let expected = format!("] mcp-remote {VERSION} connecting to {}?…", server.url("/mcp"));
        assert!(first.ends_with(&expected), "{flags:?}: {stderr}");
        assert!(
            stderr.contains("cannot read /no/such/file (NODE_EXTRA_CA_CERTS)") && !stderr.contains("hush"),
            "{stderr}"
        );
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
    use std::process::{Command, Stdio};
    let home = tempfile::tempdir().unwrap();
    let url = "https://a.example/mcp";
    for (arguments, typed) in [
        (url.to_owned(), format!("mcp-remote client {url}")),
        (format!("{url} --debug"), "mcp-remote client, then the same URL and flags".to_owned()),
        (format!("{url}?key=hush"), "mcp-remote client, then the same URL and flags".to_owned()),
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
        let lines: Vec<_> = shown.lines().filter(|line| line.contains("messages from an MCP host")).collect();
        let [line] = lines[..] else { panic!("not one line: {shown}") };
        assert!(
            line.ends_with(&format!(
                "] mcp-remote waits for messages from an MCP host on stdin. To test the connection, press Ctrl+C and \
                 type: {typed}"
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
    let line = host.told_line("; retrying (1) in ").await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(line.contains("] warning: 127.0.0.1") && line.contains("HTTP 503") && line.contains("Tip: "), "{line}");
    let counted = host.told_line("; retrying (4) in ").await;
    assert!(counted.contains("HTTP 503") && !counted.contains("warning"), "{counted}");
    assert!(!host.stderr().contains("retrying (3)"), "{}", host.stderr());
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
        let counted = host.told_line("; retrying (4) in ").await;
        assert!(counted.contains("] cannot connect to "), "{counted}");
        host.end_input();
        host.exit().await;
        let stderr = host.stderr();
        assert_eq!(stderr.matches("] warning: cannot connect to ").count(), 1, "{stderr}");
    }
}

#[tokio::test]
async fn retries_of_a_waiting_start_are_counted() {
    let port = reserved_port().await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let mut host = Host::waiting(&url, &["--retry-for", "2"]);
    let answer = host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(answer["error"]["data"]["code"], "cannot_connect", "{answer}");
    host.told_line("] warning: cannot connect to ").await;
    let stderr = host.stderr();
    let told = format!("cannot connect to 127.0.0.1:{port}");
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains(&told)).collect();
    assert_eq!(lines.len(), 3, "{stderr}");
    for (line, count) in lines.iter().zip([1, 2]) {
        assert!(line.contains(&format!("; retrying ({count}) in ")) && !line.contains("warning"), "{stderr}");
    }
    assert!(lines[2].contains(&format!("] warning: {told}")) && lines[2].contains("Tip: "), "{stderr}");
    host.close().await;
}

#[tokio::test]
async fn retries_of_one_outage_are_counted_together() {
    for status in [503, 429] {
        let refusals = Arc::new(AtomicU32::new(4));
        let server = Server::with(move |request| {
            let is_due = request.rpc() == "tools/list"
                && refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            if is_due { Reply::status(status, "text/plain", "deploying") } else { ordinary(request) }
        })
        .await;
        let mut host = start(&server.url("/mcp"), &[]);
        host.initialize().await;
        for id in 1..=2 {
            host.send(request(id, "tools/list", json!({}))).await;
        }
        let line = host.told_line("; retrying (1) in ").await;
        let server_name = format!("] 127.0.0.1:{} answered HTTP {status}", server.port);
        assert!(line.contains(&server_name) && line.ends_with(" s") && !line.contains("warning"), "{line}");
        for _ in 0..2 {
            assert!(host.json().await["result"].is_object());
        }
        host.told_line("answers again").await;
        host.end_input();
        host.exit().await;
        let stderr = host.stderr();
        let counts: Vec<_> =
            stderr.lines().filter_map(|line| Some(line.split_once("; retrying (")?.1.split_once(')')?.0)).collect();
        assert_eq!(counts, ["1", "2", "4"], "{stderr}");
        assert_eq!(stderr.matches("answers again").count(), 1, "{stderr}");
    }
}

#[tokio::test]
async fn slow_request_is_logged_once() {
    let server = Server::start(|request: Request| async move {
        if matches!(&*request.rpc(), "tools/call" | "resources/read") {
            sleep(Duration::from_secs(8)).await;
        }
        ordinary(&request)
    })
    .await;
    let mut host = start(&server.url("/mcp"), &[]);
    host.initialize().await;
    for method in ["tools/list", "ping"] {
        host.ask(method, method, json!({})).await;
    }
    let since = Instant::now();
    host.send(request(1, "tools/call", json!({ "name": "slow" }))).await;
    let line = host.told_line(" has been waiting for ").await;
    let waited = since.elapsed();
    assert!((4900..7500).contains(&waited.as_millis()), "{waited:?}");
    let expected = format!("] tools/call has been waiting for 127.0.0.1:{} for 5 s", server.port);
    assert!(line.ends_with(&expected), "{line}");
    assert_eq!(host.json().await["id"], 1);
    host.end_input();
    host.exit().await;
    assert_eq!(host.stderr().matches("waiting for 127").count(), 1, "{}", host.stderr());
}

#[tokio::test]
async fn slow_start_is_logged_before_its_end() {
    let server = Server::start(|request: Request| async move {
        sleep(Duration::from_secs(8)).await;
        ordinary(&request)
    })
    .await;
    let mut host = start(&server.url("/mcp"), &["--hold", "20"]);
    let since = Instant::now();
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let line = host.told_line(" has been waiting for ").await;
    assert!(since.elapsed() < Duration::from_secs(7), "{:?}", since.elapsed());
    assert!(line.contains("] initialize has been waiting for 127.0.0.1:"), "{line}");
    assert!(host.json().await["result"].is_object());
    host.close().await;
}

#[tokio::test]
async fn same_loss_of_many_requests_is_counted() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/call" => Reply::status(500, "text/plain", "broken"),
        _ => ordinary(request),
    })
    .await;
    let mut host = start(&server.url("/mcp"), &[]);
    host.initialize().await;
    for id in 1..=5 {
        assert!(host.ask(id, "tools/call", json!({ "name": "a" })).await["error"].is_object());
    }
    host.told_line("(failure 4 in a row)").await;
    host.ask(6, "tools/list", json!({})).await;
    assert!(host.ask(7, "tools/call", json!({ "name": "a" })).await["error"].is_object());
    host.end_input();
    host.exit().await;
    let stderr = host.stderr();
    assert_eq!(stderr.matches("] warning: tools/call: ").count(), 2, "a failure after a success is news: {stderr}");
    assert_eq!(stderr.matches("in a row)").count(), 2, "{stderr}");
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

#[tokio::test]
async fn omitted_lines_are_counted_at_the_end() {
    let mut host = start("https://a.example/mcp", &[]);
    for _ in 0..100 {
        host.send("no JSON").await;
        assert_eq!(host.json().await["error"]["code"], -32700);
    }
    host.end_input();
    host.exit().await;
    let stderr = host.stderr();
    assert_eq!(stderr.matches("] warning: the host sent a line").count(), 60, "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.contains("] 40 similar lines omitted: the host sent a line"), "{stderr}");
}

#[tokio::test]
async fn endless_id_makes_no_endless_line() {
    const LENGTH: usize = 1024 * 1024;
    const RESPONSES: usize = 20;
    let count = Arc::new(AtomicU32::new(0));
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/call" => {
            let method = "m".repeat(LENGTH);
            let mut events = String::new();
            for _ in 0..RESPONSES {
                let id = format!("{}{}", count.fetch_add(1, Relaxed), "i".repeat(LENGTH));
                events += &format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": id, "result": {}}));
            }
            // A part of a batch that is no message has an ID, too.
            events += &format!("data: {}\n\n", json!([{"jsonrpc": "2.0", "id": method}]));
            Reply::event_text(events + &format!("data: {}\n\n", answer(request, "{}")))
        }
        _ => ordinary(request),
    })
    .await;
    for debug in [&[][..], &["--debug"]] {
        let mut host = start(&server.url("/mcp"), debug);
        host.initialize().await;
        assert!(host.ask(1, "tools/call", json!({ "name": "a" })).await["result"].is_object());
        sleep(Duration::from_millis(100)).await;
        host.end_input();
        host.exit().await;
        let stderr = host.stderr();
        assert!(stderr.contains("iii") || stderr.contains("mmm"), "{stderr:.4000}");
        let longest = stderr.lines().map(str::len).max().unwrap_or_default();
        assert!(longest < 17 * 1024 && stderr.len() < 64 * 1024, "{longest} of {} bytes", stderr.len());
        let files = walk(host.home.path());
        let logs: Vec<_> = files.iter().filter(|path| path.to_string_lossy().ends_with("_debug.log")).collect();
        assert_eq!(logs.len(), debug.len());
        assert!(logs.iter().all(|log| fs::metadata(log).unwrap().len() < 64 * 1024));
    }
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
