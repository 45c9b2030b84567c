//! Streamable HTTP, seen from both ends: a real host process in front, a scripted server behind
//! (MCP 2025-11-25, Transports).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    host::{Handles, Host, initialize_params, notification, request},
    server::{Events, Reply, Request, Server, answer, initialize_result, ordinary},
    soon,
};

/// Long enough for what must not happen to happen in a broken program.
const MOMENT: Duration = Duration::from_millis(150);

/// An ordinary server but for the requests that `reply` has a reply for.
pub async fn server(reply: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::with(move |request| reply(request).unwrap_or_else(|| ordinary(request))).await
}

/// An ordinary server but for `tools/call`.
async fn server_calling(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    server(move |request| (request.rpc() == "tools/call").then(|| reply(request))).await
}

/// An ordinary server without sessions but for `tools/call`.
async fn sessionless(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    server(move |request| match request.rpc().as_str() {
        "initialize" => Some(Reply::result(request, initialize_result(request))),
        "tools/call" => Some(reply(request)),
        _ => None,
    })
    .await
}

/// A host that has done the handshake.
pub async fn connected(server: &Server, flags: &[&str]) -> Host {
    let mut host = Host::start(&server.url("/mcp"), flags);
    host.initialize().await;
    host
}

/// Event streams the server opens, for the test to feed.
pub struct Streams(mpsc::UnboundedReceiver<Events>);

pub fn streams() -> (impl Fn() -> Reply + Send + Sync + 'static, Streams) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let open = move || {
        let (reply, events) = Reply::events();
        _ = sender.send(events);
        reply
    };
    (open, Streams(receiver))
}

impl Streams {
    pub async fn next(&mut self) -> Events {
        soon("a stream is opened", self.0.recv()).await.unwrap()
    }
}

fn count(server: &Server, method: &str) -> usize {
    server.requests().iter().filter(|request| request.method == method).count()
}

pub fn gets(server: &Server) -> Vec<Request> {
    server.requests().into_iter().filter(|request| request.method == "GET").collect()
}

/// Asserts that this is our own error for this request.
#[track_caller]
fn assert_error(answer: &Value, id: impl Into<Value>, code: &str, status: Option<u16>) {
    assert_eq!(answer["id"], id.into(), "{answer}");
    let error = &answer["error"];
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-31000), &json!(code)), "{answer}");
    assert_eq!(error["data"]["status"], json!(status), "{answer}");
    assert!(error["message"].as_str().unwrap().starts_with("mcp-remote: "), "{answer}");
    assert!(error["data"]["hint"].is_string(), "{answer}");
}

/// Asserts that nothing is left to read: a fresh request's answer is the next line.
async fn assert_nothing_more(host: &mut Host) {
    assert_eq!(host.ask("last", "prompts/list", json!({})).await["id"], "last");
}

// Connecting.

#[tokio::test]
async fn first_request_comes_from_host() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer");
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    assert_eq!(server.summary()[..3], ["POST initialize", "POST notifications/initialized", "POST tools/list"]);
    host.close().await;
    assert_eq!(server.request("DELETE", "").await.header("mcp-session-id"), Some("s1"));
}

#[tokio::test]
async fn requests_carry_required_headers() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.method == "GET").then(&open)).await;
    let mut host = connected(&server, &["--header", "X-Team: a b"]).await;
    host.ask(1, "tools/list", json!({})).await;
    streams.next().await;
    host.close().await;
    for method in ["POST", "GET", "DELETE"] {
        assert!(count(&server, method) > 0, "no {method}");
    }
    for request in server.requests() {
        let later = request.rpc() != "initialize";
        assert_eq!(request.header("x-team"), Some("a b"), "{request:?}");
        assert!(request.header("user-agent").unwrap().starts_with("mcp-remote/"), "{request:?}");
        assert_eq!(request.header("mcp-session-id"), later.then_some("s1"), "{request:?}");
        assert_eq!(request.header("mcp-protocol-version"), later.then_some("2025-11-25"), "{request:?}");
        match request.method.as_str() {
            "POST" => {
                assert_eq!(request.header("accept"), Some("application/json, text/event-stream"));
                assert_eq!(request.header("content-type"), Some("application/json"));
            }
            "GET" => assert_eq!(request.header("accept"), Some("text/event-stream")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn negotiated_version_and_session_headers_are_sent() {
    let server = server(|request| {
        let older = || initialize_result(request).replace("2025-11-25", "2025-06-18");
        (request.rpc() == "initialize").then(|| Reply::result(request, older()))
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    assert_eq!(host.initialize().await["result"]["protocolVersion"], "2025-06-18");
    host.ask(1, "tools/list", json!({})).await;
    host.close().await;
    for request in &server.requests()[1..] {
        assert_eq!(request.header("mcp-protocol-version"), Some("2025-06-18"));
        assert_eq!(request.header("mcp-session-id"), None);
    }
    assert_eq!(count(&server, "DELETE"), 0, "there is no session to delete");
}

#[tokio::test]
async fn users_own_user_agent_wins() {
    let server = Server::with(ordinary).await;
    connected(&server, &["--header", "User-Agent: mine/1"]).await.close().await;
    assert!(server.requests().iter().all(|request| request.header("user-agent") == Some("mine/1")));
}

#[tokio::test]
async fn pipelined_messages_arrive_in_order_after_initialized() {
    let taken = Arc::new(AtomicBool::new(false));
    let server = Server::start(move |request| {
        let taken = taken.clone();
        async move {
            match request.rpc().as_str() {
                "notifications/initialized" => {
                    tokio::time::sleep(MOMENT).await; // whatever does not wait for it overtakes it
                    taken.store(true, Relaxed);
                    Reply::empty(202)
                }
                "tools/list" => Reply::result(&request, taken.load(Relaxed)),
                _ => ordinary(&request),
            }
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    let lines = [
        request(0, "initialize", initialize_params("2025-11-25")),
        notification("notifications/initialized", json!({})),
        request(1, "tools/list", json!({})),
    ];
    host.send(lines.join("\n")).await;
    assert_eq!(host.json().await["id"], 0);
    assert_eq!(host.json().await["result"], true, "tools/list came before initialized was taken");
    assert_eq!(server.summary()[..3], ["POST initialize", "POST notifications/initialized", "POST tools/list"]);
}

#[tokio::test]
async fn request_sent_before_initialized_is_answered() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(host.ask(1, "ping", json!({})).await["result"]["echo"], "ping");
}

#[tokio::test]
async fn initialize_on_open_stream_releases_next_request() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.rpc() == "initialize").then(&open)).await;
    let mut host = Host::start(&server.url("/mcp"), &["--initialize-timeout", "3"]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let stream = streams.next().await;
    let asked = server.request("POST", "initialize").await;
    stream.message(answer(&asked, initialize_result(&asked)));
    assert_eq!(host.json().await["id"], 0);
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
}

// Answers.

#[tokio::test]
async fn content_types_match_any_case_and_parameters() {
    let server = server_calling(|request| {
        let kind = request.json()["params"]["type"].as_str().unwrap().to_owned();
        let body = answer(request, r#"{"x":1.0}"#);
        let events = kind.to_ascii_lowercase().contains("event");
        Reply::status(200, &kind, if events { format!("event: message\r\ndata: {body}\r\n\r\n") } else { body })
    })
    .await;
    let mut host = connected(&server, &[]).await;
    for kind in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json;charset=UTF-8",
        "text/event-stream",
        "Text/Event-Stream ;charset=UTF-8",
    ] {
        host.send(request(kind, "tools/call", json!({"type": kind}))).await;
        assert_eq!(host.line().await.unwrap(), format!(r#"{{"jsonrpc":"2.0","id":"{kind}","result":{{"x":1.0}}}}"#));
    }
}

#[tokio::test]
async fn messages_before_answer_arrive_first_in_order() {
    let early = [
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1.0}}"#,
        r#"{"jsonrpc":"2.0","id":"s","method":"roots/list"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":2.0}}"#,
    ];
    let server = server_calling(move |request| {
        let mut text: String = early.iter().map(|line| format!(": comment\ndata: {line}\n\n")).collect();
        text.push_str(&format!("data: {}\n\n", answer(request, "{}")));
        Reply::event_text(text)
    })
    .await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    for line in early {
        assert_eq!(host.line().await.unwrap(), line);
    }
    assert_eq!(host.json().await["id"], 1);
}

#[tokio::test]
async fn second_answer_does_not_wait_for_first() {
    let (open, mut streams) = streams();
    let server = server_calling(move |_| open()).await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    let slow = streams.next().await;
    assert_eq!(host.ask(2, "tools/list", json!({})).await["id"], 2);
    slow.message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(host.json().await["id"], 1);
}

#[tokio::test]
async fn response_to_notification_stays_from_host() {
    let server = server(|request| {
        let body = |status, body| Reply::status(status, "application/json", body);
        match request.json()["params"]["case"].as_u64()? {
            0 => Some(body(200, r#"{"jsonrpc":"2.0","result":{}}"#)),
            1 => Some(body(200, "{half")),
            2 => Some(Reply::empty(204)),
            3 => Some(Reply::status(200, "text/html", "<html>ok</html>")),
            4 => Some(body(400, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#)),
            5 => Some(body(500, "oh")),
            6 => Some(Reply::Close),
            _ => Some(Reply::empty(202)),
        }
    })
    .await;
    let mut host = connected(&server, &[]).await;
    for case in 0..8 {
        host.send(notification("notifications/x", json!({"case": case}))).await;
    }
    server.until("all notifications", |server| server.asked("notifications/x").len() == 8).await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["id"], 1);
    assert!(host.is_quiet(MOMENT).await);
}

#[tokio::test]
async fn ids_come_back_as_written() {
    let server = Server::with(ordinary).await;
    let mut host = connected(&server, &[]).await;
    for id in ["1", "-7", "\"1\"", "\"\"", "\"\\u0061\"", "1.5", "9007199254740993", "18446744073709551616", "1e2"] {
        host.send(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).await;
        let line = host.line().await.unwrap();
        let written = server.asked("ping").pop().unwrap().body;
        assert!(written.contains(&format!(r#""id":{id},"#)), "{written}");
        // The scripted server answers with the value it read; what comes back is the text.
        assert!(line.contains(&format!(r#""id":{id},"#)), "{line}");
    }
}

#[tokio::test]
async fn answer_to_1_answers_1_0() {
    let server = server_calling(|_| Reply::json(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).await;
    let mut host = connected(&server, &[]).await;
    host.send(r#"{"jsonrpc":"2.0","id":1.0,"method":"tools/call"}"#).await;
    assert_eq!(host.line().await.unwrap(), r#"{"jsonrpc":"2.0","id":1.0,"result":{}}"#);
}

#[tokio::test]
async fn answer_to_1_in_array_answers_1_0() {
    let server = server_calling(|_| Reply::json(r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#)).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize_in("2025-03-26").await;
    host.send(r#"{"jsonrpc":"2.0","id":1.0,"method":"tools/call"}"#).await;
    let line = host.line().await.unwrap();
    assert!(line.contains(r#""id":1.0"#), "{line}");
    assert_nothing_more(&mut host).await;
}

// Errors.

#[tokio::test]
async fn http_error_has_id_status_and_hint() {
    let server = sessionless(|request| {
        let status = request.json()["params"]["status"].as_u64().unwrap();
        Reply::status(status.try_into().unwrap(), "text/html", "<html><title>Oh no</title></html>")
    })
    .await;
    let mut host = connected(&server, &["--retry-for", "0"]).await;
    for (status, code) in [
        (400, "refused"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "refused"),
        (429, "too_many_requests"),
        (500, "server_failed"),
        (502, "server_failed"),
        (503, "server_failed"),
    ] {
        let answer = host.ask(status, "tools/call", json!({"status": status})).await;
        assert_error(&answer, status, code, Some(status));
        assert!(answer["error"]["message"].as_str().unwrap().contains("Oh no"), "{answer}");
    }
    assert_eq!(server.asked("tools/call").len(), 9, "none was sent twice");
    assert_nothing_more(&mut host).await;
}

#[tokio::test]
async fn json_rpc_error_passes_and_gets_missing_id() {
    const ERROR: &str = r#""error":{"code":-32602,"message":"no","data":{"x":1.0}}}"#;
    let server = sessionless(|request| {
        let params = &request.json()["params"];
        let status = params["status"].as_u64().unwrap().try_into().unwrap();
        let id = params["id"].as_str().unwrap();
        Reply::status(status, "application/json", format!(r#"{{"jsonrpc":"2.0",{id}{ERROR}"#))
    })
    .await;
    let mut host = connected(&server, &[]).await;
    for status in [200, 400, 401, 403, 404, 500] {
        for id in [r#""id":"a","#, r#""id":null,"#, ""] {
            host.send(request("a", "tools/call", json!({"status": status, "id": id}))).await;
            let line = host.line().await.unwrap();
            assert!(line.ends_with(ERROR), "{status} {id}: {line}");
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], "a", "{status} {id}");
        }
    }
    assert_nothing_more(&mut host).await;
}

#[tokio::test]
async fn page_with_status_200_is_error() {
    let server = server_calling(|_| Reply::status(200, "text/html", "<html><title>Welcome here</title></html>")).await;
    let mut host = connected(&server, &[]).await;
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert_error(&answer, 1, "not_mcp", None);
    assert!(answer["error"]["message"].as_str().unwrap().contains("Welcome here"), "{answer}");
}

#[tokio::test]
async fn accepted_but_unanswered_request_gets_error() {
    let server = server_calling(|_| Reply::empty(202)).await;
    let mut host = connected(&server, &[]).await;
    assert_error(&host.ask(1, "tools/call", json!({})).await, 1, "no_answer", None);
}

#[tokio::test]
async fn broken_answer_leaves_no_partial_line() {
    let server = server_calling(|request| {
        let half = &answer(request, r#"{"text":"0123456789"}"#)[..40];
        match request.json()["params"]["how"].as_str().unwrap() {
            "length" => Reply::Raw(
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{half}").into(),
            ),
            _ => Reply::json(half),
        }
    })
    .await;
    let mut host = connected(&server, &[]).await;
    assert_error(&host.ask(1, "tools/call", json!({"how": "length"})).await, 1, "connection_broken", None);
    assert_error(&host.ask(2, "tools/call", json!({"how": "json"})).await, 2, "bad_message", None);
    assert_nothing_more(&mut host).await;
    assert_eq!(server.asked("tools/call").len(), 2);
}

#[tokio::test]
async fn answer_beyond_the_limit_is_an_error() {
    let server = server_calling(|request| {
        let params = &request.json()["params"];
        let text = answer(request, json!("x".repeat(params["length"].as_u64().unwrap().try_into().unwrap())));
        if params["events"] == true { Reply::event_text(format!("data: {text}\n\n")) } else { Reply::json(text) }
    })
    .await;
    let mut host = connected(&server, &["--max-message-size", "2K"]).await;
    for events in [false, true] {
        let answer = host.ask(1, "tools/call", json!({"events": events, "length": 4000})).await;
        assert_error(&answer, 1, "too_large", None);
        let answer = host.ask(2, "tools/call", json!({"events": events, "length": 1500})).await;
        assert_eq!(answer["result"].as_str().unwrap().len(), 1500);
    }
    assert_nothing_more(&mut host).await;
}

#[tokio::test]
async fn broken_connection_resends_list_never_call() {
    let first = AtomicUsize::new(0);
    let server = server(move |request| match request.rpc().as_str() {
        "tools/list" if first.fetch_add(1, Relaxed) == 0 => Some(Reply::Close),
        "tools/call" => Some(Reply::Close),
        _ => None,
    })
    .await;
    let mut host = connected(&server, &[]).await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    assert_error(&host.ask(2, "tools/call", json!({})).await, 2, "connection_broken", None);
    assert_nothing_more(&mut host).await;
    assert_eq!(server.asked("tools/list").len(), 2);
    assert_eq!(server.asked("tools/call").len(), 1);
}

// Retry-After.

#[tokio::test]
async fn too_many_requests_is_retried_after_named_time() {
    let first = AtomicUsize::new(0);
    let server = server_calling(move |request| match first.fetch_add(1, Relaxed) {
        0 => Reply::empty(429).with("retry-after", "1"),
        _ => ordinary(request),
    })
    .await;
    let mut host = connected(&server, &[]).await;
    let since = Instant::now();
    assert_eq!(host.ask(1, "tools/call", json!({})).await["result"]["echo"], "tools/call");
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(server.asked("tools/call").len(), 2);
}

#[tokio::test]
async fn unavailable_is_retried_for_list_not_call() {
    let first = AtomicUsize::new(0);
    let server = server(move |request| match request.rpc().as_str() {
        "tools/list" if first.fetch_add(1, Relaxed) == 0 => Some(Reply::empty(503).with("retry-after", "1")),
        "tools/call" => Some(Reply::empty(503).with("retry-after", "1")),
        _ => None,
    })
    .await;
    let mut host = connected(&server, &[]).await;
    let since = Instant::now();
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert_error(&host.ask(2, "tools/call", json!({})).await, 2, "server_failed", Some(503));
    assert_eq!(server.asked("tools/call").len(), 1);
}

#[tokio::test]
async fn huge_retry_after_is_error() {
    for value in ["3600", "18446744073709551615"] {
        let server = Server::start(move |request| async move {
            if request.rpc() != "tools/call" {
                return ordinary(&request);
            }
            tokio::time::sleep(Duration::from_millis(1100)).await; // a sum of times must not overflow
            Reply::empty(429).with("retry-after", value)
        })
        .await;
        let mut host = connected(&server, &[]).await;
        assert_error(&host.ask(1, "tools/call", json!({})).await, 1, "too_many_requests", Some(429));
        assert_nothing_more(&mut host).await;
    }
}

#[tokio::test]
async fn zero_retry_after_still_pauses() {
    let server = server_calling(|_| Reply::empty(429).with("retry-after", "0")).await;
    let mut host = connected(&server, &["--retry-for", "1"]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    assert!(host.is_quiet(Duration::from_millis(500)).await);
    let tries = server.asked("tools/call").len();
    assert!((1..20).contains(&tries), "{tries} tries in half a second");
}

// Streams that break.

#[tokio::test]
async fn stream_without_ids_ended_early_is_error() {
    let (open, mut streams) = streams();
    let server = server_calling(move |_| open()).await;
    let mut host = connected(&server, &[]).await;
    for (breaks, code) in [(true, "connection_broken"), (false, "no_answer")] {
        host.send(request(1, "tools/call", json!({}))).await;
        let stream = streams.next().await;
        stream.message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
        assert_eq!(host.json().await["method"], "notifications/x");
        if breaks {
            stream.break_off();
        }
        drop(stream);
        assert_error(&host.json().await, 1, code, None);
    }
    assert_eq!(server.asked("tools/call").len(), 2);
    assert!(gets(&server).iter().all(|get| get.header("last-event-id").is_none()));
}

#[tokio::test]
async fn stream_with_ids_resumes_after_named_time() {
    let ((post, mut posts), (get, mut resumed)) = (streams(), streams());
    let server = server(move |request| match request.method.as_str() {
        "POST" if request.rpc() == "tools/call" => Some(post()),
        "GET" if request.header("last-event-id").is_some() => Some(get()),
        _ => None,
    })
    .await;
    let mut host = connected(&server, &[]).await;
    let event = |number: u32| format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{number}}}"#);
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = posts.next().await;
    stream.raw("retry: 400\nid: e0\ndata:\n\n");
    stream.with_id("e1", event(1));
    assert_eq!(host.line().await.unwrap(), event(1));

    let since = Instant::now();
    stream.break_off();
    let stream = resumed.next().await;
    assert!(since.elapsed() >= Duration::from_millis(400), "{:?}", since.elapsed());
    stream.with_id("e1", event(1));
    stream.with_id("e2", event(2));
    assert_eq!(host.line().await.unwrap(), event(2), "the replayed event came again");

    drop(stream); // a clean end with an id is no error either: SEP-1699 polling
    let stream = resumed.next().await;
    stream.with_id("e3", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(host.json().await["id"], 1);
    let cursors: Vec<_> =
        gets(&server).into_iter().filter_map(|get| get.headers.get("last-event-id").cloned()).collect();
    assert_eq!(cursors, ["e1", "e2"]);
    assert_eq!(server.asked("tools/call").len(), 1);
    let get = gets(&server).pop().unwrap();
    assert_eq!(get.header("mcp-session-id"), Some("s1"));
    assert_eq!(get.header("mcp-protocol-version"), Some("2025-11-25"));
}

#[tokio::test]
async fn unresumable_stream_is_error() {
    let (open, mut streams) = streams();
    let server = server_calling(move |_| open()).await; // answers 405 to each GET
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = streams.next().await;
    stream.raw("retry: 10\nid: e0\ndata:\n\n");
    stream.break_off();
    assert_error(&host.json().await, 1, "connection_broken", None);
    assert_eq!(server.asked("tools/call").len(), 1);
}

#[tokio::test]
async fn two_broken_streams_resume_separately() {
    let (open, mut streams) = streams();
    let server = server(move |request| match (request.rpc().as_str(), request.header("last-event-id")) {
        ("tools/call", _) => Some(open()),
        (_, Some(last)) => {
            Some(Reply::event_text(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":\"{last}\",\"result\":{{}}}}\n\n")))
        }
        _ => None,
    })
    .await;
    let mut host = connected(&server, &[]).await;
    let mut broken = Vec::new();
    for id in ["a", "b"] {
        host.send(request(id, "tools/call", json!({}))).await;
        let stream = streams.next().await;
        stream.raw(format!("retry: 10\nid: {id}\ndata:\n\n"));
        broken.push(stream);
    }
    broken.iter().for_each(Events::break_off);
    let mut answered = [host.json().await, host.json().await].map(|answer| answer["id"].to_string());
    answered.sort();
    assert_eq!(answered, [r#""a""#, r#""b""#]);
    let mut cursors: Vec<_> =
        gets(&server).into_iter().filter_map(|get| get.headers.get("last-event-id").cloned()).collect();
    cursors.sort();
    assert_eq!(cursors, ["a", "b"]);
}

// The server's own stream.

#[tokio::test]
async fn get_stream_opens_after_first_answer() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.method == "GET").then(&open)).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    host.ask(1, "tools/list", json!({})).await;
    let stream = streams.next().await;
    assert_eq!(server.summary()[..3], ["POST initialize", "POST tools/list", "GET"]);
    stream.message(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    assert_eq!(host.json().await["method"], "notifications/tools/list_changed");
    stream.message(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    assert_eq!(host.json().await["method"], "roots/list");
    let reply = r#"{"jsonrpc":"2.0","id":1,"result":{"roots":[ 1.0 ]}}"#;
    host.send(reply).await;
    server.until("the host's response", |server| server.requests().iter().any(|r| r.body == reply)).await;
}

#[tokio::test]
async fn silent_host_gets_get_stream() {
    let (open, mut streams) = streams();
    let server = server(move |request| match request.rpc().as_str() {
        "initialize" => Some(Reply::result(request, initialize_result(request))), // no session id
        _ => (request.method == "GET").then(&open),
    })
    .await;
    let mut host = connected(&server, &[]).await;
    streams.next().await.message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    assert_eq!(host.json().await["method"], "notifications/x");
}

#[tokio::test]
async fn server_without_get_stream_is_asked_once() {
    let server = Server::with(ordinary).await;
    let mut host = connected(&server, &[]).await;
    host.ask(1, "tools/list", json!({})).await;
    server.request("GET", "").await;
    host.ask(2, "tools/list", json!({})).await;
    assert!(host.is_quiet(Duration::from_millis(1500)).await, "longer than the usual pause between tries");
    assert_eq!(count(&server, "GET"), 1);
}

#[tokio::test]
async fn broken_get_stream_resumes() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.method == "GET").then(&open)).await;
    let mut host = connected(&server, &[]).await;
    let event = |number: u32| format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{number}}}"#);
    let stream = streams.next().await;
    stream.raw("retry: 10\n");
    stream.with_id("g1", event(1));
    assert_eq!(host.line().await.unwrap(), event(1));
    stream.break_off();
    let stream = streams.next().await;
    assert_eq!(gets(&server)[1].header("last-event-id"), Some("g1"));
    stream.with_id("g1", event(1));
    stream.with_id("g2", event(2));
    assert_eq!(host.line().await.unwrap(), event(2));
}

// Redirects.

#[tokio::test]
async fn same_origin_redirect_keeps_method_and_body() {
    for status in [307, 308] {
        let server = Server::with(move |request| match request.path.as_str() {
            "/old?a=1" => Reply::empty(status).with("location", "/new"),
            _ => ordinary(request),
        })
        .await;
        let mut host = Host::start(&server.url("/old?a=1"), &["--header", "Authorization: Bearer x"]);
        host.initialize().await;
        assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
        let requests = server.asked("initialize");
        let seen: Vec<_> = requests.iter().map(|r| (r.path.as_str(), r.header("authorization"))).collect();
        assert_eq!(seen, [("/old?a=1", Some("Bearer x")), ("/new", Some("Bearer x"))]);
        assert_eq!(requests[0].body, requests[1].body);
    }
}

#[tokio::test]
async fn redirect_to_other_origin_is_error() {
    for status in [301, 302, 303, 307, 308] {
        let other = Server::with(ordinary).await;
        let there = other.url("/mcp?secret=1");
        let server = server_calling(move |_| Reply::empty(status).with("location", &there)).await;
        let mut host = connected(&server, &[]).await;
        let answer = host.ask(1, "tools/call", json!({})).await;
        assert_error(&answer, 1, "redirected", Some(status));
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(&other.url("/mcp")) && !message.contains("secret"), "{message}");
        assert_eq!(other.connections(), 0);
    }
}

#[tokio::test]
async fn redirect_losing_body_is_error_with_location() {
    for status in [301, 302, 303] {
        let server = server(move |request| match request.path.as_str() {
            "/mcp" if request.rpc() == "tools/call" => Some(Reply::empty(status).with("location", "/there")),
            _ => None,
        })
        .await;
        let mut host = connected(&server, &[]).await;
        let answer = host.ask(1, "tools/call", json!({})).await;
        assert_error(&answer, 1, "redirected", Some(status));
        assert!(answer["error"]["message"].as_str().unwrap().contains(&server.url("/there")), "{answer}");
        assert!(server.requests().iter().all(|request| request.path == "/mcp"));
    }
}

#[tokio::test]
async fn redirect_loop_ends_with_error() {
    let server = server_calling(|_| Reply::empty(307).with("location", "/mcp")).await;
    let mut host = connected(&server, &[]).await;
    assert_error(&host.ask(1, "tools/call", json!({})).await, 1, "redirected", Some(307));
    assert!(server.asked("tools/call").len() < 20);
}

// Cookies.

async fn cookies_seen(flags: &[&str]) -> Vec<Option<String>> {
    let server = server(|request| {
        let with_cookie = |reply: Reply| reply.with("set-cookie", "node=a; Path=/; HttpOnly; Secure");
        (request.rpc() == "initialize").then(|| with_cookie(ordinary(request)))
    })
    .await;
    let mut host = connected(&server, flags).await;
    host.ask(1, "tools/list", json!({})).await;
    host.close().await;
    server.requests().into_iter().map(|request| request.headers.get("cookie").cloned()).collect()
}

#[tokio::test]
async fn cookies_go_back_to_the_server() {
    let seen = cookies_seen(&[]).await;
    assert_eq!(seen[0], None);
    assert!(seen.len() >= 4 && seen[1..].iter().all(|cookie| cookie.as_deref() == Some("node=a")), "{seen:?}");
}

#[tokio::test]
async fn users_own_cookie_header_wins() {
    let seen = cookies_seen(&["--header", "Cookie: mine=1"]).await;
    assert!(seen.iter().all(|cookie| cookie.as_deref() == Some("mine=1")), "{seen:?}");
}

#[tokio::test]
async fn cookies_are_not_kept_when_disabled() {
    let seen = cookies_seen(&["--disable-cookies"]).await;
    assert!(seen.iter().all(Option::is_none), "{seen:?}");
}

// Batches.

const BATCH: &str = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}, {"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]"#;

#[tokio::test]
async fn batch_passes_whole_where_version_has_batches() {
    const ANSWER: &str = r#"[{"jsonrpc":"2.0","id":2,"result":{}}, {"jsonrpc":"2.0","id":1,"result":{"x":1.0}}]"#;
    for events in [false, true] {
        let server = server(move |request| {
            let batch = request.json().is_array();
            batch.then(|| if events { Reply::event_text(format!("data: {ANSWER}\n\n")) } else { Reply::json(ANSWER) })
        })
        .await;
        let mut host = Host::start(&server.url("/mcp"), &[]);
        host.initialize_in("2025-03-26").await;
        host.send(BATCH).await;
        assert_eq!(host.line().await.unwrap(), ANSWER);
        assert_eq!(server.requests().iter().filter(|request| request.body == BATCH).count(), 1);
        assert_nothing_more(&mut host).await;
    }
}

#[tokio::test]
async fn failed_batch_answers_each_request() {
    let server = server(|request| request.json().is_array().then(|| Reply::empty(500))).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize_in("2025-03-26").await;
    host.send(BATCH).await;
    assert_error(&host.json().await, 1, "server_failed", Some(500));
    assert_error(&host.json().await, 2, "server_failed", Some(500));
    assert_nothing_more(&mut host).await;
}

#[tokio::test]
async fn batch_is_split_where_version_has_none() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize_in("2025-06-18").await;
    host.send(BATCH).await;
    let mut answered = [host.json().await["id"].as_u64(), host.json().await["id"].as_u64()];
    answered.sort();
    assert_eq!(answered, [Some(1), Some(2)]);
    server.request("POST", "notifications/x").await;
    assert!(server.requests().iter().all(|request| !request.json().is_array()));
}

#[tokio::test]
async fn initialize_is_never_part_of_a_batch() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    let lines = [request(0, "initialize", initialize_params("2025-03-26")), request(1, "ping", json!({}))];
    host.send(format!("[{}]", lines.join(","))).await;
    assert_eq!(host.json().await["id"], 0);
    assert_eq!(host.json().await["id"], 1);
    assert_eq!(server.summary()[..2], ["POST initialize", "POST ping"]);
}

// Cancellation.

#[tokio::test]
async fn cancellation_reaches_server_and_gets_no_answer() {
    let (open, mut streams) = streams();
    let server = server_calling(move |_| open()).await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = streams.next().await;
    let cancel = notification("notifications/cancelled", json!({"requestId": 1, "reason": "x"}));
    host.send(&cancel).await;
    assert_eq!(server.request("POST", "notifications/cancelled").await.body, cancel);
    assert!(stream.is_open(), "the stream is the server's to end");
    stream.break_off();
    assert!(host.is_quiet(MOMENT).await);
    assert_nothing_more(&mut host).await;
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "a thread reads stdin there, so the answer may overtake the cancellation")]
async fn initialize_cannot_be_cancelled() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.rpc() == "initialize").then(&open)).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let stream = streams.next().await;
    host.send(notification("notifications/cancelled", json!({"requestId": 0}))).await;
    let asked = server.request("POST", "initialize").await;
    stream.message(answer(&asked, initialize_result(&asked)));
    drop(stream);
    assert_eq!(host.json().await["id"], 0);
    assert_nothing_more(&mut host).await;
    assert!(server.asked("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn answer_despite_cancellation_passes() {
    let (open, mut streams) = streams();
    let server = server_calling(move |_| open()).await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = streams.next().await;
    host.send(notification("notifications/cancelled", json!({"requestId": 1}))).await;
    server.request("POST", "notifications/cancelled").await;
    stream.message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(host.json().await["id"], 1);
}

// The end.

#[tokio::test]
async fn end_of_input_answers_pending_and_deletes_session() {
    let server = server_calling(|_| Reply::Hang).await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    server.request("POST", "tools/call").await;
    host.end_input();
    assert_error(&host.json().await, 1, "host_closed", None);
    let (status, took) = host.exit().await;
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    assert_eq!(count(&server, "DELETE"), 1);
    assert!(host.rest().await.is_empty());
}

#[tokio::test]
async fn answer_right_after_end_of_input_arrives() {
    let (open, mut streams) = streams();
    let server = server_calling(move |_| open()).await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/call", json!({}))).await;
    let stream = streams.next().await;
    host.end_input();
    stream.message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(host.rest().await, [r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]);
    assert!(host.exit().await.0.success());
}

#[tokio::test]
async fn hanging_server_does_not_delay_exit() {
    // A server that hangs on everything but the handshake, through both kinds of handles.
    for handles in [Handles::SocketPairs, Handles::Pipes] {
        let server = Server::with(|request| match request.rpc().as_str() {
            "initialize" => ordinary(request),
            _ => Reply::Hang,
        })
        .await;
        let mut host = Host::start_with(handles, &server.url("/mcp"), &[], &[]);
        host.initialize().await;
        server.request("POST", "notifications/initialized").await;
        host.end_input();
        let (status, took) = host.exit().await;
        assert!(status.success(), "{status}");
        // The promise is a second; the rest is for machines under load.
        assert!(took < Duration::from_secs(4), "{took:?}");
        server.request("DELETE", "").await;
        assert_eq!(count(&server, "DELETE"), 1);
    }
}

#[tokio::test]
async fn last_notification_arrives_before_session_ends() {
    let server = Server::with(ordinary).await;
    let mut host = connected(&server, &[]).await;
    host.send(notification("notifications/x", json!({}))).await;
    host.close().await;
    let summary = server.summary();
    let at = |what: &str| summary.iter().position(|request| request == what);
    assert!(at("POST notifications/x").is_some() && at("POST notifications/x") < at("DELETE"), "{summary:?}");
}

// Ignored tools.

#[tokio::test]
async fn ignored_tool_is_hidden_and_refused() {
    let server = server(|request| {
        let tools = r#"{"tools":[{"name":"keep","x":1.0},{"name":"DeleteAll"}, {"name":"keep2"}]}"#;
        (request.rpc() == "tools/list").then(|| Reply::result(request, tools))
    })
    .await;
    let mut host = connected(&server, &["--ignore-tool", "delete*"]).await;
    host.send(request(1, "tools/list", json!({}))).await;
    assert_eq!(
        host.line().await.unwrap(),
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"keep","x":1.0},{"name":"keep2"}]}}"#
    );
    let refused = host.ask(2, "tools/call", json!({"name": "DeleteAll"})).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(-32603)));
    assert!(refused["error"]["message"].as_str().unwrap().contains("DeleteAll"));
    assert_eq!(host.ask(3, "tools/call", json!({"name": "keep"})).await["result"]["echo"], "tools/call");
    assert_eq!(server.asked("tools/call").len(), 1);
}

#[tokio::test]
async fn other_json_error_becomes_json_rpc_error() {
    for body in [
        r#"{"error":"forbidden","message":"plan too small"}"#,
        r#"{"error":{"code":"unauthorized","message":"no"}}"#,
        r#"{"error":{"code":-32000,"message":"no"}}"#,
    ] {
        for (status, code) in [(403, "forbidden"), (500, "server_failed"), (400, "refused"), (200, "not_mcp")] {
            let server = Server::with(move |request| match request.rpc().as_str() {
                "tools/call" => Reply::status(status, "application/json", body),
                _ => ordinary(request),
            })
            .await;
            let mut host = Host::start(&server.url("/mcp"), &[]);
            host.initialize().await;
            let answer = host.ask(1, "tools/call", json!({})).await;
            if status == 200 && body.contains("-32000") {
                // What only lacks its version goes on as it is.
                assert_eq!(answer["error"]["code"], -32000, "{answer}");
                continue;
            }
            assert_eq!(
                (&answer["jsonrpc"], &answer["error"]["data"]["code"]),
                (&json!("2.0"), &json!(code)),
                "{answer}"
            );
            host.close().await;
        }
    }
}

#[tokio::test]
async fn key_repeated_by_server_is_not_shown() {
    let server = Server::with(|request| {
        let key = request.header("authorization").unwrap_or_default().to_owned();
        Reply::status(403, "text/plain", format!("{key} is not good, nor is {:?}", request.header("x-key")))
    })
    .await;
    let flags = ["--header", "Authorization: Bearer hush-hush", "--header", "X-Key: quiet-please", "--debug"];
    let mut host = Host::start(&server.url("/mcp"), &flags);
    let answer = host.initialize().await.to_string();
    assert!(answer.contains("is not good"), "{answer}");
    host.end_input();
    host.exit().await;
    for said in [answer, host.stderr()] {
        assert!(!said.contains("hush") && !said.contains("quiet"), "{said}");
    }
}
