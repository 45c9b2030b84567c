//! Servers, gateways and hosts as they really behave on the wire: each test plays what public reports describe.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;

use crate::support::{
    event_streams::EventStreams,
    host::{Host, initialize_params, notification, request},
    server::{Events, Reply, Request, Server, answer, initialize_result, ordinary},
};

/// A server that answers `tools/call` so, and everything else as an ordinary one does.
async fn calling(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, Host) {
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/call" => reply(request),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    (server, host)
}

fn error(request: &Request, code: i32, words: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":{code},"message":"{words}"}}}}"#, request.id())
}

/// A reply in pieces under another label.
fn labelled(kind: &str) -> (Reply, Events) {
    let (mut reply, events) = Reply::events();
    if let Reply::Pieces(headers, _) = &mut reply {
        *headers = vec![("content-type".into(), kind.into())];
    }
    (reply, events)
}

/// A server whose first session is lost after its first list, told with this reply.
async fn losing(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, Host) {
    let (sessions, listed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let server = Server::with(move |request| match request.rpc().as_str() {
        "initialize" => {
            let session = format!("s{}", sessions.fetch_add(1, Relaxed) + 1);
            Reply::result(request, initialize_result(request)).with("mcp-session-id", &session)
        }
        "tools/list" if !listed.swap(true, Relaxed) => ordinary(request),
        "tools/call" | "tools/list" if request.header("mcp-session-id") == Some("s1") => reply(request),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    (server, host)
}

// A. Who decides that a session is lost

#[tokio::test]
async fn session_lost_as_error_is_replaced() {
    for (status, code, words) in [
        (404, -32001, "Session not found"),
        (404, -32601, "Method not found"),
        (400, -32600, "Unknown session id; client should reinitialize"),
        (200, -32005, "Session not found or expired"),
        (200, -32600, "Unknown session id 'abc'"),
    ] {
        let told = move |request: &Request| Reply::status(status, "application/json", error(request, code, words));
        let (server, mut host) = losing(told).await;
        let answer = host.ask(2, "tools/call", json!({})).await;
        assert_eq!(answer["result"]["echo"], "tools/call", "{status} {code} {words}: {answer}");
        assert_eq!(server.asked("initialize").len(), 2, "{status} {code} {words}");
    }
}

#[tokio::test]
async fn session_lost_in_event_stream_is_replaced() {
    let told =
        |request: &Request| Reply::event_text(format!("data: {}\n\n", error(request, -32001, "Session not found")));
    let (server, mut host) = losing(told).await;
    assert_eq!(host.ask(2, "tools/call", json!({})).await["result"]["echo"], "tools/call");
    assert_eq!(server.asked("initialize").len(), 2);
}

#[tokio::test]
async fn call_that_may_have_run_is_not_resent() {
    let told = |request: &Request| Reply::json(error(request, -32000, "Session expired"));
    let (server, mut host) = losing(told).await;
    let answer = host.ask(2, "tools/call", json!({})).await;
    assert_eq!(answer["error"]["message"], "Session expired", "{answer}");
    assert_eq!(server.asked("tools/call").len(), 1);
    assert_eq!(host.ask(3, "tools/call", json!({})).await["result"]["echo"], "tools/call");
    assert_eq!(server.asked("initialize").len(), 2);
}

#[tokio::test]
async fn error_of_application_keeps_session() {
    for (code, words) in [(-32603, "browser session not found"), (-32000, "Mcp-Session-Id header is required")] {
        let (server, mut host) = losing(move |request| Reply::json(error(request, code, words))).await;
        assert_eq!(host.ask(2, "tools/call", json!({})).await["error"]["message"], words);
        assert_eq!(server.asked("initialize").len(), 1, "{words}");
    }
}

#[tokio::test]
async fn second_loss_names_instances_as_cause() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/call" => Reply::status(404, "application/json", error(request, -32001, "Session not found")),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert_eq!(answer["error"]["data"]["code"], "session_lost", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("Session not found") && message.contains("several instances"), "{message}");
}

#[tokio::test]
async fn existing_session_refused_to_get_is_kept() {
    let gets = Arc::new(AtomicUsize::new(0));
    let (count, first) = (gets.clone(), Mutex::new(None));
    let (opened, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::with(move |request| {
        if request.method != "GET" {
            return ordinary(request);
        }
        if count.fetch_add(1, Relaxed) == 1 {
            return Reply::status(400, "application/json", error(request, -32600, "session already exists"));
        }
        let (reply, events) = Reply::events();
        events.raw("retry: 10\nid: 1\ndata:\n\n");
        _ = opened.send(events.clone());
        *first.lock().unwrap() = Some(events);
        reply
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    streams.recv().await.unwrap().break_off();
    let stream = streams.recv().await.unwrap();
    stream.message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    assert_eq!(host.json().await["method"], "notifications/x");
    assert_eq!(server.asked("initialize").len(), 1);
    assert_eq!(gets.load(Relaxed), 3);
}

// B. An answer that came

#[tokio::test]
async fn id_in_other_spelling_is_answered() {
    let other = |request: &Request| match request.id().strip_prefix('"') {
        Some(text) => text.trim_end_matches('"').to_owned(),
        None => format!("\"{}\"", request.id()),
    };
    let text =
        move |request: &Request| format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"ok":true}}}}"#, other(request));
    let (_server, mut host) = calling(move |request| Reply::json(text(request))).await;
    for id in [json!(7), json!("8")] {
        assert_eq!(
            host.ask(id.clone(), "tools/call", json!({})).await,
            json!({"jsonrpc":"2.0","id":id,"result":{"ok":true}})
        );
    }
    let (server, streams) = EventStreams::serve(move |request, streams| {
        (request.rpc() == "tools/call").then(|| {
            streams.last().message(text(request));
            Reply::empty(202)
        })
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only"]);
    host.initialize().await;
    assert_eq!(host.ask(7, "tools/call", json!({})).await, json!({"jsonrpc":"2.0","id":7,"result":{"ok":true}}));
    assert_eq!(streams.count(), 1);
}

#[tokio::test]
async fn error_under_id_of_server_is_answer() {
    let (_server, mut host) = calling(|request| {
        let id = if request.id() == "1" { r#""server-error""# } else { "7" };
        let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32600,"message":"no such tool"}}}}"#);
        Reply::status(200, "application/json", error)
    })
    .await;
    for id in 1..=2 {
        let answer = host.ask(id, "tools/call", json!({})).await;
        assert_eq!(answer["error"], json!({"code": -32600, "message": "no such tool"}), "{id}");
    }
}

#[tokio::test]
async fn result_under_id_of_another_request_is_no_answer() {
    let (_server, mut host) =
        calling(|_| Reply::status(200, "application/json", r#"{"jsonrpc":"2.0","id":7,"result":{}}"#.to_owned())).await;
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("did not answer it"), "{answer}");
}

#[tokio::test]
async fn header_lines_in_old_forms_are_read() {
    let (_server, mut host) = calling(|request| {
        let text = answer(request, r#"{"ok":true}"#);
        let head = match request.id().as_str() {
            "1" => "Content-Type : application/json\r\n",
            _ => "X-Policy: one,\r\n  two\r\nContent-Type:\r\n application/json\r\n",
        };
        Reply::Raw(format!("HTTP/1.1 200 OK\r\n{head}Content-Length : {}\r\n\r\n{text}", text.len()).into_bytes())
    })
    .await;
    for id in 1..=2 {
        assert_eq!(host.ask(id, "tools/call", json!({})).await["result"]["ok"], true, "{id}");
    }
}

#[tokio::test]
async fn data_that_are_no_message_are_skipped() {
    let (_server, mut host) = calling(|request| {
        let beats = ["ping", "[DONE]", "{}", "[]", r#"{"type":"heartbeat"}"#].map(|beat| format!("data: {beat}\n\n"));
        Reply::event_text(format!("{}data: {}\n\n", beats.concat(), answer(request, r#"{"ok":true}"#)))
    })
    .await;
    for id in 1..=2 {
        assert_eq!(host.ask(id, "tools/call", json!({})).await["result"]["ok"], true);
    }
    host.told("ping").await;
    let warned = host.stderr().lines().filter(|line| line.contains("ignoring an event")).count();
    assert_eq!(warned, 1, "{}", host.stderr());
}

#[tokio::test]
async fn stream_without_json_rpc_fails_quoting_its_data() {
    let (_server, mut host) = calling(|_| Reply::event_text("data: [DONE]\n\n")).await;
    assert_eq!(host.ask(1, "tools/call", json!({})).await["error"]["data"]["code"], "bad_message");
}

#[tokio::test]
async fn byte_order_marks_are_skipped() {
    let (_server, mut host) =
        calling(|request| Reply::json(format!("\u{feff}{}", answer(request, r#"{"ok":true}"#)))).await;
    host.send(format!("\u{feff}{}", request(1, "tools/call", json!({})))).await;
    assert_eq!(host.line().await.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{"ok":true}}"#);
}

#[tokio::test]
async fn event_without_blank_line_is_delivered() {
    let open = Arc::new(Mutex::new(Vec::new()));
    for stays_open in [false, true] {
        for end in ["", "\n"] {
            let kept = open.clone();
            let (_server, mut host) = calling(move |request| {
                let (reply, events) = Reply::events();
                events.raw(format!("event: message\ndata: {}{end}", answer(request, r#"{"ok":true}"#)));
                if stays_open {
                    kept.lock().unwrap().push(events);
                }
                reply
            })
            .await;
            assert_eq!(host.ask(1, "tools/call", json!({})).await["result"]["ok"], true, "{stays_open} {end:?}");
        }
    }
}

#[tokio::test]
async fn whole_body_counts_whatever_its_length_says() {
    let open = Arc::new(Mutex::new(Vec::new()));
    let kept = open.clone();
    let (_server, mut host) = calling(move |request| {
        let text = answer(request, r#"{"ok":true}"#);
        if request.id() == "1" {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                text.len() + 2
            );
            return Reply::Raw(format!("{head}{text}").into_bytes());
        }
        let (reply, events) = labelled("application/json");
        events.raw(text);
        kept.lock().unwrap().push(events);
        reply
    })
    .await;
    for id in 1..=2 {
        assert_eq!(host.ask(id, "tools/call", json!({})).await["result"]["ok"], true, "{id}");
    }
}

#[tokio::test]
async fn first_bytes_overrule_media_type() {
    let (_server, mut host) = calling(|request| {
        let text = answer(request, r#"{"ok":true}"#);
        let event = format!("event: message\ndata: {text}\n\n");
        match request.id().as_str() {
            "1" => Reply::status(200, "application/json", event),
            "2" => Reply::Full(200, Vec::new(), event.into_bytes()),
            "3" => Reply::status(200, "text/plain", format!(": comment\n{event}")),
            _ => Reply::status(200, "text/event-stream", text),
        }
    })
    .await;
    for id in 1..=4 {
        assert_eq!(host.ask(id, "tools/call", json!({})).await["result"]["ok"], true, "{id}");
    }
}

#[tokio::test]
async fn answer_after_202_comes_on_get_stream() {
    let (opened, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::with(move |request| match (request.method.as_str(), request.rpc().as_str()) {
        ("GET", _) => {
            let (reply, events) = Reply::events();
            _ = opened.send(events);
            reply
        }
        (_, "tools/call") => Reply::empty(202),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.send(request(7, "tools/call", json!({}))).await;
    server.request("POST", "tools/call").await;
    streams.recv().await.unwrap().message(r#"{"jsonrpc":"2.0","id":"7","result":{"ok":true}}"#);
    assert_eq!(host.json().await, json!({"jsonrpc": "2.0", "id": 7, "result": {"ok": true}}));
}

// C. Lines of the host

#[tokio::test]
async fn foreign_framing_is_named() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    let utf16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (line, words) in [(&b"Content-Length: 2\r"[..], "Content-Length"), (&utf16, "UTF-16")] {
        host.send(line).await;
        let answer = host.json().await;
        assert_eq!(answer["error"]["code"], -32700, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
        host.told(words).await;
    }
}

// D. What is given up

#[tokio::test]
async fn cancelled_exchange_is_closed_after_a_while() {
    let (opened, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let (server, mut host) = calling(move |_| {
        let (reply, events) = Reply::events();
        _ = opened.send(events);
        reply
    })
    .await;
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = streams.recv().await.unwrap();
    host.send(notification("notifications/cancelled", json!({"requestId": 1}))).await;
    server.request("POST", "notifications/cancelled").await;
    assert!(stream.is_open(), "the server may still answer");
    stream.closed().await;
    assert_eq!(host.ask(2, "ping", json!({})).await["result"]["echo"], "ping");
}

#[tokio::test]
async fn failed_resumption_names_last_cause() {
    let server = Server::with(|request| match (request.method.as_str(), request.rpc().as_str()) {
        ("GET", _) => Reply::status(409, "text/plain", "no such event"),
        (_, "tools/call") => {
            let (reply, events) = Reply::events();
            events.raw("retry: 10\nid: 1\ndata:\n\n");
            events.break_off();
            reply
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("no such event"), "{answer}");
    assert_eq!(server.asked("tools/call").len(), 1);
}

/// A silence is a minute, or what `--body-timeout` says.
#[tokio::test]
async fn silent_resumption_ends_after_three_silences() {
    let silent = Arc::new(Mutex::new(Vec::new()));
    let streams = silent.clone();
    let server = Server::with(move |request| match (request.method.as_str(), request.rpc().as_str()) {
        ("GET", _) if request.header("last-event-id").is_some() => {
            let (reply, events) = Reply::events();
            events.raw(": here\n\n");
            streams.lock().unwrap().push(events);
            reply
        }
        (_, "tools/call") => {
            let (reply, events) = Reply::events();
            events.raw("retry: 10\nid: 1\ndata:\n\n");
            events.break_off();
            reply
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--body-timeout", "0.2"]);
    host.initialize().await;
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert_eq!(answer["error"]["data"]["code"], "no_answer", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("resumed the response but sent nothing"));
    assert_eq!(silent.lock().unwrap().len(), 3);
}

// E. The other transport

#[tokio::test]
async fn post_that_opens_sse_falls_back() {
    let (server, streams) =
        EventStreams::serve(|request, streams| (request.path == "/sse").then(|| streams.open())).await;
    let mut host = Host::start(&server.url("/sse"), &[]);
    host.initialize().await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    assert_eq!(streams.count(), 2);
}

#[tokio::test]
async fn sse_url_that_refuses_post_falls_back() {
    for status in [200, 202, 204, 403, 406, 410, 415, 500, 501] {
        let (server, _) = EventStreams::serve(move |request, _| {
            (request.path == "/sse" && request.method == "POST").then(|| Reply::empty(status))
        })
        .await;
        let mut host = Host::start(&server.url("/sse"), &[]);
        host.initialize().await;
        assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list", "{status}");
    }
}

// F. The GET stream

#[tokio::test]
async fn busy_get_stream_is_opened_later() {
    for (status, retry_after) in [(429, "1"), (408, "0"), (425, "0"), (503, "1")] {
        let gets = AtomicUsize::new(0);
        let server = Server::with(move |request| {
            if request.method != "GET" {
                return ordinary(request);
            }
            if gets.fetch_add(1, Relaxed) == 0 {
                return Reply::empty(status).with("retry-after", retry_after);
            }
            Reply::event_text("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n")
        })
        .await;
        let mut host = Host::start(&server.url("/mcp"), &[]);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        host.json().await;
        host.send(notification("notifications/initialized", json!({}))).await;
        assert_eq!(host.json().await["method"], "notifications/x", "{status}");
    }
}

#[tokio::test]
async fn get_answered_without_stream_is_not_repeated() {
    let server = Server::with(|request| match request.method.as_str() {
        "GET" => Reply::json("{}"),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "ping", json!({})).await;
    server.until("a GET", |server| server.summary().contains(&"GET".to_owned())).await;
    assert!(host.is_quiet(Duration::from_millis(2500)).await);
    assert_eq!(server.summary().iter().filter(|line| *line == "GET").count(), 1);
}

#[tokio::test]
async fn named_retry_holds_for_each_close() {
    let server = Server::with(|request| match request.method.as_str() {
        "GET" => Reply::event_text("retry: 300\n\n"),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    // A pause that grows from 250 ms to a minute would take longer than anybody waits.
    server.until("14 GETs", |server| server.summary().iter().filter(|line| *line == "GET").count() == 14).await;
    host.close().await;
}

// I. Bounds

#[tokio::test]
async fn answer_after_end_of_input_reaches_host() {
    let (opened, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let (_server, mut host) = calling(move |_| {
        let (reply, events) = Reply::events();
        _ = opened.send(events);
        reply
    })
    .await;
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = streams.recv().await.unwrap();
    host.end_input();
    tokio::time::sleep(Duration::from_millis(700)).await; // the time that such a call took
    stream.message(r#"{"jsonrpc":"2.0","id":1,"result":{"ok":true}}"#);
    assert_eq!(host.json().await["result"]["ok"], true);
}

// J. Outages

#[tokio::test]
async fn sse_outage_ends_soon_for_waiting_call() {
    let (gets, is_down) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let down = is_down.clone();
    let (server, streams) = EventStreams::serve(move |request, _| {
        let refused = request.method == "GET" && down.load(Relaxed) && gets.fetch_add(1, Relaxed) < 8;
        refused.then(|| Reply::empty(503))
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only"]);
    host.initialize().await;
    is_down.store(true, Relaxed);
    streams.end();
    assert_eq!(host.ask(1, "tools/call", json!({})).await["result"]["echo"], "tools/call");
}

#[tokio::test]
async fn call_during_sse_outage_fails_with_cause() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    let (server, streams) = EventStreams::serve(move |request, _| {
        (request.method == "GET" && down.load(Relaxed)).then(|| Reply::status(503, "text/plain", "restarting"))
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--retry-for", "2"]);
    host.initialize().await;
    is_down.store(true, Relaxed);
    streams.end();
    server.until("a GET is refused", |server| server.summary().iter().filter(|line| *line == "GET").count() > 1).await;
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert_eq!(answer["error"]["data"]["code"], "server_failed", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("restarting"), "{answer}");
}

#[tokio::test]
async fn idle_connection_to_local_server_is_closed_soon() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "ping", json!({})).await;
    server.until("no connection is open", |server| server.open_connections() == 0).await;
    assert_eq!(host.ask(2, "ping", json!({})).await["result"]["echo"], "ping");
}
