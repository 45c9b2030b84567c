//! How the program starts, what it takes from a host, how it ends, and what it says meanwhile.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::pty::{self, OpenptFlags};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    PATIENCE,
    host::{Handles, Host, initialize_params, notification, request},
    kept,
    server::{Events, Reply, Request, Server, initialize_result, ordinary},
    soon,
};

const BOTH: [Handles; 2] = [Handles::SocketPairs, Handles::Pipes];
const URL_OF_NOBODY: &str = "http://127.0.0.1:1/mcp";
/// Long enough for what must not happen to happen.
const A_WHILE: Duration = Duration::from_millis(300);
/// What a host waits before it kills. The program itself promises one second.
const BEFORE_THE_KILL: Duration = Duration::from_secs(2);

/// Answers everything but `tools/call`.
fn never_calls(request: &Request) -> Reply {
    if request.rpc() == "tools/call" { Reply::Hang } else { ordinary(request) }
}

/// The adapter, to be started in another way than [`Host::start`] does.
fn adapter(arguments: &[&str], home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
    command.args(arguments).env_clear().envs(kept()).env("HOME", home).env("MCP_REMOTE_CONFIG_DIR", home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn signal(name: &str, host: &Host) {
    let pid = host.child.id().expect("the adapter runs").to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
}

/// An error of ours for a request that the end has overtaken.
fn assert_host_closed(answer: &Value, id: &Value) {
    assert_eq!(&answer["id"], id, "{answer}");
    assert_eq!(answer["error"]["data"]["code"], "host_closed", "{answer}");
}

#[tokio::test]
async fn piped_input_is_answered_before_end() {
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        let lines = [
            request(1, "initialize", initialize_params("2025-11-25")),
            notification("notifications/initialized", json!({})),
            request(2, "tools/list", json!({})),
        ];
        host.send(lines.join("\n")).await;
        host.end_input();
        assert_eq!(host.json().await["result"]["serverInfo"]["name"], "peer");
        assert_eq!(host.json().await, json!({"jsonrpc": "2.0", "id": 2, "result": {"echo": "tools/list"}}));
        assert_eq!(host.rest().await, Vec::<String>::new());
        assert_eq!(host.exit().await.0.code(), Some(0));
    }
    assert_eq!(server.asked("notifications/initialized").len(), 2);
}

#[tokio::test]
async fn file_may_be_the_input() {
    let server = Server::with(ordinary).await;
    let home = tempfile::tempdir().unwrap();
    let input = home.path().join("input");
    let lines =
        [request(1, "initialize", initialize_params("2025-11-25")), request(2, "tools/list", json!({}))].join("\n");
    fs::write(&input, lines).unwrap();
    let mut command = adapter(&[&server.url("/mcp")], home.path());
    let done = soon("the exit", command.stdin(File::open(&input).unwrap()).output()).await.unwrap();
    let stdout = String::from_utf8(done.stdout).unwrap();
    let ids: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, [1, 2]);
    assert!(stdout.contains(r#"{"echo":"tools/list"}"#), "{stdout}");
    assert_eq!(done.status.code(), Some(0));
}

#[tokio::test]
async fn terminal_may_be_the_host() {
    let server = Server::with(ordinary).await;
    let controller = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&controller).unwrap();
    pty::unlockpt(&controller).unwrap();
    let name = pty::ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let terminal = || File::options().read(true).write(true).open(&name).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .args([&server.url("/mcp"), "--silent"])
        .stdin(terminal())
        .stdout(terminal())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut keyboard = File::from(controller);
    let screen = BufReader::new(keyboard.try_clone().unwrap());
    writeln!(keyboard, "{}", request(1, "tools/list", json!({}))).unwrap();
    // The terminal shows the request too.
    let seen =
        tokio::task::spawn_blocking(|| screen.lines().map_while(Result::ok).find(|line| line.contains("result")));
    let answer: Value = serde_json::from_str(&soon("the answer on the screen", seen).await.unwrap().unwrap()).unwrap();
    assert_eq!(answer["result"]["echo"], "tools/list");
    keyboard.write_all(b"\x04").unwrap(); // control-D
    assert_eq!(soon("the exit", child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn every_line_ending_works_and_blanks_are_skipped() {
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        let (one, two, three) =
            (request(1, "a", json!({})), request(2, "b", json!({})), request(3, "c", json!({"x": [1, 2]})));
        host.send_raw(format!("\r\n{one}\r\n").as_bytes()).await;
        assert_eq!(host.json().await["id"], 1);
        host.send_raw(format!("\n \t\n\n{two}\n\r\n").as_bytes()).await;
        assert_eq!(host.json().await["id"], 2);
        host.send_raw(three.as_bytes()).await;
        host.end_input();
        assert_eq!(host.json().await["id"], 3);
        assert_eq!(host.rest().await, Vec::<String>::new());
        assert_eq!(host.exit().await.0.code(), Some(0));
        assert_eq!(server.asked("a").last().unwrap().body, one, "without the carriage return");
        assert_eq!(server.asked("c").last().unwrap().body, three);
    }
}

#[tokio::test]
async fn malformed_line_is_answered_and_next_one_works() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    for (line, code, id) in [
        (&b"no json"[..], -32700, json!(null)),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"", -32700, json!(null)),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", -32700, json!(null)),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"} {}", -32700, json!(null)),
        (b"{\"id\":\"mine\",\"hello\":1}", -32600, json!("mine")),
        (b"{\"jsonrpc\":\"2.0\",\"id\":7}", -32600, json!(7)),
        (b"[]", -32600, json!(null)),
        (b"42", -32600, json!(null)),
    ] {
        host.send(line).await;
        let answer = host.json().await;
        let line = String::from_utf8_lossy(line);
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{line}: {answer}");
        assert_eq!(host.ask("next", "tools/list", json!({})).await["result"]["echo"], "tools/list");
    }
    assert_eq!(server.asked("x").len(), 0);
    host.close().await;
}

#[tokio::test]
async fn oversized_line_is_answered_with_its_id() {
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &["--max-message-size", "1K"], &[]);
        let long = "x".repeat(300_000);
        host.send(format!(r#"{{"jsonrpc":"2.0","method":"long","params":"{long}","id":"after"}}"#)).await;
        let answer = host.json().await;
        assert_eq!((&answer["id"], &answer["error"]["data"]["code"]), (&json!("after"), &json!("too_large")));
        host.send(notification("long", json!([long]))).await;
        host.send(request(8, "long", json!([long]))).await;
        assert_eq!(host.json().await["id"], 8, "and none for the notification");
        assert_eq!(host.ask(9, "tools/list", json!({})).await["result"]["echo"], "tools/list");
        host.close().await;
    }
    assert_eq!(server.asked("long").len(), 0);
}

#[tokio::test]
async fn idle_program_ends_session_at_end_of_input() {
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        host.ask(1, "tools/list", json!({})).await;
        host.end_input();
        let (status, took) = host.exit().await;
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_millis(600), "it waited for something: {took:?}");
        assert_eq!(server.summary().last().unwrap(), "DELETE");
    }
    // Also one that was never asked anything, and says nothing to the server.
    let before = server.connections();
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.end_input();
    assert_eq!(host.exit().await.0.code(), Some(0));
    assert_eq!(server.connections(), before);
}

#[tokio::test]
async fn in_flight_request_is_answered_at_end() {
    let server = Server::with(never_calls).await;
    for handles in BOTH {
        let before = server.requests().len();
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        host.send(request("slow", "tools/call", json!({}))).await;
        server.until("the call", |server| server.requests()[before..].iter().any(|r| r.rpc() == "tools/call")).await;
        host.end_input();
        let (status, took) = host.exit().await;
        assert_eq!(status.code(), Some(0));
        assert!(took < BEFORE_THE_KILL, "{took:?}");
        assert_host_closed(&host.json().await, &json!("slow"));
        assert_eq!(host.rest().await, Vec::<String>::new());
        assert_eq!(server.summary().last().unwrap(), "DELETE");
    }
}

#[tokio::test]
async fn answer_in_last_second_reaches_host() {
    let held = Arc::new(tokio::sync::Notify::new());
    let release = held.clone();
    let server = Server::start(move |request| {
        let held = held.clone();
        async move {
            if request.rpc() == "tools/call" {
                held.notified().await;
            }
            ordinary(&request)
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--debug"]);
    host.initialize().await;
    host.send(request(1, "tools/call", json!({}))).await;
    server.request("POST", "tools/call").await;
    host.end_input();
    host.told("the host closed stdin").await;
    release.notify_one();
    assert_eq!(host.json().await["result"]["echo"], "tools/call");
    assert_eq!(host.exit().await.0.code(), Some(0));
}

#[tokio::test]
async fn end_of_input_ends_waiting_for_server() {
    let silent = Server::with(|_| Reply::Hang).await;
    for url in [URL_OF_NOBODY, &silent.url("/mcp")] {
        for flags in [&[][..], &["--transport", "sse-only"]] {
            let mut host = Host::waiting(url, flags);
            host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
            host.send(request(1, "tools/list", json!({}))).await;
            assert!(host.is_quiet(A_WHILE).await, "{url} {flags:?}");
            host.end_input();
            let (status, took) = host.exit().await;
            assert_eq!(status.code(), Some(0), "{url} {flags:?}");
            assert!(took < BEFORE_THE_KILL, "{url} {flags:?}: {took:?}");
            let mut answers = [host.json().await, host.json().await];
            answers.sort_by_key(|answer| answer["id"].as_i64());
            assert_host_closed(&answers[0], &json!(0));
            assert_host_closed(&answers[1], &json!(1));
            assert_eq!(host.rest().await, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn unendable_session_does_not_delay_exit() {
    let server = Server::with(|request| match request.method.as_str() {
        "DELETE" => Reply::Hang,
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.end_input();
    let (status, took) = host.exit().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < BEFORE_THE_KILL, "{took:?}");
    server.request("DELETE", "").await;
}

#[tokio::test]
async fn signal_ends_program_like_end_of_input() {
    let server = Server::with(never_calls).await;
    for (name, handles) in [("TERM", Handles::SocketPairs), ("INT", Handles::Pipes), ("HUP", Handles::SocketPairs)] {
        let before = server.requests().len();
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        host.send(request(1, "tools/call", json!({}))).await;
        server.until("the call", |server| server.requests()[before..].iter().any(|r| r.rpc() == "tools/call")).await;
        signal(name, &host).await;
        let (status, took) = host.exit().await;
        assert_eq!(status.code(), Some(0), "{name}");
        assert!(took < BEFORE_THE_KILL, "{name}: {took:?}");
        assert_host_closed(&host.json().await, &json!(1));
        assert_eq!(host.rest().await, Vec::<String>::new());
        assert!(host.stderr().contains(&format!("shutting down: SIG{name}")), "{}", host.stderr());
        assert_eq!(server.summary().last().unwrap(), "DELETE");
    }
}

#[tokio::test]
async fn signal_ends_an_idle_program_at_once() {
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        signal("TERM", &host).await;
        let (status, took) = host.exit().await;
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_millis(600), "it waited for something: {took:?}");
    }
}

#[tokio::test]
async fn signal_in_last_second_ends_at_once() {
    let server = Server::with(never_calls).await;
    for first in ["end of input", "signal"] {
        let before = server.requests().len();
        let mut host = Host::start(&server.url("/mcp"), &["--debug"]);
        host.initialize().await;
        host.send(request(1, "tools/call", json!({}))).await;
        server.until("the call", |server| server.requests()[before..].iter().any(|r| r.rpc() == "tools/call")).await;
        if first == "signal" {
            signal("TERM", &host).await;
            host.told("shutting down: SIGTERM").await;
        } else {
            host.end_input();
            host.told("the host closed stdin").await;
        }
        signal("INT", &host).await;
        assert_eq!(host.exit().await.0.code(), Some(0), "{first}");
        assert!(host.stderr().contains("shutting down immediately: SIGINT"), "{first}:\n{}", host.stderr());
        assert_host_closed(&host.json().await, &json!(1));
    }
}

#[tokio::test]
async fn closed_output_ends_program_and_session() {
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        host.close_output();
        // Asked again, because a child that another test is just starting may hold a copy of the closed end. The end of
        // its input stays open.
        let exit = async {
            loop {
                host.send(request(1, "tools/list", json!({}))).await;
                if let Ok((status, _)) = tokio::time::timeout(Duration::from_secs(1), host.exit()).await {
                    return status;
                }
            }
        };
        assert_eq!(soon("the adapter exits", exit).await.code(), Some(0));
        server.until("the session ends", |server| server.summary().last().unwrap() == "DELETE").await;
    }
}

#[tokio::test]
async fn dead_parent_is_noticed_despite_open_pipe() {
    let server = Server::with(ordinary).await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"exec 3<&0; "$0" "$@" <&3 3<&- & wait"#, env!("CARGO_BIN_EXE_mcp-remote")]);
    command.arg(server.url("/mcp")).env("MCP_REMOTE_CONFIG_DIR", home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut host = Host::around(command.spawn().unwrap(), home);
    host.initialize().await;
    host.child.start_kill().unwrap(); // the shell, not the adapter
    assert_eq!(host.line().await, None, "the adapter has ended");
    host.told("the host exited").await;
    host.exit().await;
    server.request("DELETE", "").await;
}

/// The pipe stays open, and a launcher that is alive does not end it.
#[tokio::test]
async fn dead_launcher_ends_program_at_once() {
    let server = Server::with(ordinary).await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    let mut command = Command::new("/bin/sh");
    let script = r#"exec 3<&0; MCP_REMOTE_LAUNCHER=$$ "$0" "$@" <&3 3<&- & wait"#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_mcp-remote")]);
    command.arg(server.url("/mcp")).env("MCP_REMOTE_CONFIG_DIR", home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut host = Host::around(command.spawn().unwrap(), home);
    host.initialize().await;
    host.child.start_kill().unwrap();
    let killed = Instant::now();
    assert_eq!(host.line().await, None, "the adapter has ended");
    assert!(killed.elapsed() < Duration::from_secs(10), "a host that is silent is given 15 s: {:?}", killed.elapsed());
    host.told("the launcher exited").await;
    host.exit().await;
}

/// A server whose answer to `tools/call` is the test's to write.
async fn streaming() -> (Server, Events) {
    let (reply, events) = Reply::events();
    let reply = std::sync::Mutex::new(Some(reply));
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/call" => reply.lock().unwrap().take().expect("one call"),
        _ => ordinary(request),
    })
    .await;
    (server, events)
}

/// The adapter's own memory in bytes, once it no longer grows; none where the system does not
/// tell.
async fn settled_memory(host: &Host) -> Option<usize> {
    let path = format!("/proc/{}/status", host.child.id().unwrap());
    let (mut last, mut same) = (0, 0);
    while same < 5 {
        let status = fs::read_to_string(&path).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let now = line.split_whitespace().next()?.parse::<usize>().unwrap() * 1024;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(last)
}

#[tokio::test]
async fn slow_reader_loses_nothing_and_costs_no_memory() {
    const COUNT: usize = 12 * 1024;
    for handles in BOTH {
        let (server, events) = streaming().await;
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        host.send(request("all", "tools/call", json!({}))).await;
        server.request("POST", "tools/call").await;
        let padding = "x".repeat(1000);
        for number in 0..COUNT {
            events.message(notification("n", json!({"number": number, "padding": padding})));
        }
        events.message(json!({"jsonrpc": "2.0", "id": "all", "result": {}}));
        drop(events);
        if let Some(memory) = settled_memory(&host).await {
            assert!(memory < 8 * 1024 * 1024, "{handles:?}: {memory} bytes");
        }
        // The host may still write, as much as it likes.
        for number in 0..200 {
            host.send(notification("notifications/from_the_host", json!([number, padding]))).await;
        }
        server.until("all of it", |server| server.asked("notifications/from_the_host").len() == 200).await;
        for number in 0..COUNT {
            assert_eq!(host.json().await["params"]["number"], number);
        }
        assert_eq!(host.json().await["id"], "all");
        host.close().await;
    }
}

#[tokio::test]
async fn unread_stderr_blocks_nothing() {
    let server = Server::with(ordinary).await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    let mut child = adapter(&[&server.url("/mcp"), "--debug"], home.path()).spawn().unwrap();
    let _unread = child.stderr.take();
    let mut host = Host::around(child, home);
    host.initialize().await;
    // Several lines of the log each: far more than pipe and queue hold.
    let requests: Vec<String> = (1..=3000).map(|id| request(id, "tools/list", json!({}))).collect();
    host.talk(&requests, requests.len()).await;
    host.end_input();
    let (status, took) = host.exit().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < BEFORE_THE_KILL, "{took:?}");
}

#[tokio::test]
async fn many_messages_both_ways_are_each_answered_once() {
    const COUNT: usize = 2000;
    let server = Server::with(ordinary).await;
    for handles in BOTH {
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        let requests: Vec<String> = (1..=COUNT).map(|id| request(id, "echo", json!({"x": "y".repeat(id)}))).collect();
        let mut ids: Vec<u64> = host
            .talk(&requests, COUNT)
            .await
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap())
            .collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(1..=COUNT as u64));
        host.end_input();
        assert_eq!(host.rest().await, Vec::<String>::new());
        assert_eq!(host.exit().await.0.code(), Some(0));
    }
}

#[tokio::test]
async fn log_lines_name_process_and_quiet_is_silent() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    let pid = format!("[{}] ", host.child.id().unwrap());
    host.initialize().await;
    for id in 1..=20 {
        host.ask(id, "tools/list", json!({})).await;
    }
    host.send("no json").await;
    host.json().await;
    host.end_input();
    host.exit().await;
    let stderr = host.stderr();
    assert!(stderr.contains("the host sent a line that is"), "{stderr}");
    assert!(stderr.lines().all(|line| line.starts_with(&pid)), "{stderr}");
    assert!(stderr.lines().count() < 10, "a line for each message is too much:\n{stderr}");
}

#[tokio::test]
async fn silent_flag_prints_nothing_after_failures() {
    let server = Server::with(|_| Reply::status(500, "text/html", "<title>Oh no</title>")).await;
    let mut host = Host::waiting(&server.url("/mcp"), &["--silent", "--protocol", "auto"]);
    host.send("no json").await;
    host.json().await;
    assert_eq!(host.ask(1, "initialize", initialize_params("2025-11-25")).await["error"]["data"]["status"], 500);
    host.end_input();
    assert_eq!(host.exit().await.0.code(), Some(0));
    assert_eq!(host.stderr(), "");
    assert_eq!(files(host.home.path()), Vec::<PathBuf>::new());
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn debug_file_belongs_to_owner_only() {
    let server = Server::with(ordinary).await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    for run in 1..=2 {
        let mut host = Host::start_raw(Handles::Pipes, &[&server.url("/mcp"), "--debug"], &[], home.clone());
        let pid = format!("Z][{}] ", host.child.id().unwrap());
        host.initialize().await;
        host.end_input();
        host.exit().await;
        let mut files = files(home.path());
        files.retain(|file| !file.to_string_lossy().ends_with("_description.json"));
        let [file] = files.as_slice() else { panic!("one file, not {files:?}") };
        let name = file.file_name().unwrap().to_str().unwrap();
        let hash = name.strip_suffix("_debug.log").unwrap_or_else(|| panic!("{name}"));
        assert!(hash.len() == 32 && hash.chars().all(|digit| digit.is_ascii_hexdigit()), "{name}");
        assert_eq!(file.parent().unwrap(), home.path().join("mcp-remote-v1"));
        assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700));
        let text = fs::read_to_string(file).unwrap();
        assert!(text.ends_with(&host.stderr()), "what stderr says, after what was there:\n{text}");
        assert_eq!(text.matches("the host closed stdin").count(), run);
        for line in host.stderr().lines() {
            assert!(line.starts_with("[20") && line.contains(&pid), "{line}");
        }
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap(); // what the second run finds
    }
}

#[tokio::test]
async fn unwritable_debug_file_is_reported_and_harmless() {
    let server = Server::with(ordinary).await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    fs::write(home.path().join("mcp-remote-v1"), "a file in the folder's place").unwrap();
    let mut host = Host::start_raw(Handles::Pipes, &[&server.url("/mcp"), "--debug"], &[], home);
    host.initialize().await;
    host.told("cannot write the debug log to").await;
    host.close().await;
}

/// A life with a secret in every place that has one; what was said of it.
async fn told_of_a_secret_life(environment: &[(&str, &str)]) -> String {
    let server = Server::with(|request| match (request.method.as_str(), request.rpc().as_str()) {
        (_, "initialize") => Reply::result(request, initialize_result(request))
            .with("mcp-session-id", "hush-session")
            .with("set-cookie", "sticky=hush-cookie; Path=/"),
        (_, "tools/call") => Reply::status(401, "text/plain", "who are you"),
        _ => ordinary(request),
    })
    .await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    let url = server.url("/mcp?api_key=hush-query");
    let arguments = [&url, "--debug", "--header", "Authorization: Bearer hush-token", "--header", "X-Key:${KEY}"];
    let environment = [environment, &[("KEY", "hush-variable")]].concat();
    let mut host = Host::start_raw(Handles::SocketPairs, &arguments, &environment, home);
    host.initialize().await;
    assert_eq!(host.ask(1, "tools/list", json!({"cursor": "hush-body"})).await["result"]["echo"], "tools/list");
    assert_eq!(host.ask(2, "tools/call", json!({"name": "hush-tool"})).await["error"]["data"]["status"], 401);
    let seen = server.asked("tools/call").remove(0);
    assert_eq!(seen.header("mcp-session-id"), Some("hush-session"));
    assert_eq!(seen.header("cookie"), Some("sticky=hush-cookie"));
    assert_eq!(seen.header("x-key"), Some("hush-variable"));
    host.end_input();
    host.exit().await;
    let file = files(host.home.path()).remove(0);
    host.stderr() + &fs::read_to_string(file).unwrap()
}

fn assert_no_secret(told: &str) {
    assert!(told.contains("the host closed stdin"), "{told}");
    for line in told.lines() {
        assert!(!line.contains("hush"), "{line}");
    }
}

#[tokio::test]
async fn no_secret_reaches_stderr_or_the_debug_file() {
    assert_no_secret(&told_of_a_secret_life(&[]).await);
}

#[tokio::test]
async fn library_logs_at_trace_show_no_secret() {
    assert_no_secret(&told_of_a_secret_life(&[("RUST_LOG", "trace")]).await);
}

#[tokio::test]
async fn unreachable_server_is_reported_to_host_too() {
    let mut host = Host::waiting(URL_OF_NOBODY, &["--retry-for", "0"]);
    let answer = host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(answer["error"]["data"]["code"], "cannot_connect", "{answer}");
    let sentence = answer["error"]["message"].as_str().unwrap().strip_prefix("mcp-remote: ").unwrap().to_owned();
    assert!(sentence.contains("127.0.0.1:1"), "{sentence}");
    tokio::time::timeout(PATIENCE, host.told(&sentence)).await.unwrap();
    host.close().await;
}
