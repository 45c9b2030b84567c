//! Which transport is taken, and what happens while the server is down (MCP 2025-11-25, Transports,
//! Backwards Compatibility). The host's own `initialize` is the only probe.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    event_streams::EventStreams,
    host::{Host, initialize_params, request},
    server::{Reply, Request, Server, bind, ordinary, reserved_port},
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

fn initialize() -> String {
    request(0, "initialize", initialize_params("2025-11-25"))
}

/// A server that refuses every POST to `/mcp` like this; the rest is an ordinary server of HTTP+SSE.
async fn refusing(status: u16, kind: &'static str, body: &'static str) -> (Server, EventStreams) {
    EventStreams::serve(move |request, _| {
        (request.method == "POST" && request.path == "/mcp").then(|| Reply::status(status, kind, body))
    })
    .await
}

/// A server that refuses every GET like this, or Streamable HTTP.
async fn without_streams(status: u16, body: &'static str) -> Server {
    Server::with(
        move |request| {
            if request.method == "GET" { Reply::status(status, TEXT, body) } else { ordinary(request) }
        },
    )
    .await
}

fn assert_own_error(answer: &Value, id: u64, code: &str) {
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-31000)), "{answer}");
    assert_eq!(answer["error"]["data"]["code"], code, "{answer}");
    assert!(answer["error"]["data"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{answer}");
}

// http-first

#[tokio::test]
async fn http_first_falls_back_at_legacy_refusal() {
    for (status, kind, body) in [
        (404, TEXT, "Not Found"),
        (405, TEXT, ""),
        (404, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no"}}"#),
        (400, TEXT, "no transport for this session"),
        (400, JSON, r#"{"error":"bad request"}"#),
        (400, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#),
        (400, JSON, r#"{"jsonrpc":"2.0","id":"other","error":{"code":-32600,"message":"no session"}}"#),
        (400, JSON, r#"{"jsonrpc":"2.0","error":{"code":-32019,"message":"almost"}}"#),
    ] {
        let (server, _) = refusing(status, kind, body).await;
        let mut host = Host::start(&server.url("/mcp"), &[]);
        host.send(initialize()).await;
        let answer = host.json().await;
        assert_eq!((&answer["id"], &answer["result"]["serverInfo"]["name"]), (&json!(0), &json!("peer")), "{body}");
        assert_eq!(server.summary(), ["POST initialize", "GET", "POST initialize"], "{status} {body}");
        assert_eq!(server.requests()[1].path, "/mcp");
        assert!(server.asked("initialize").iter().all(|asked| asked.body == initialize()));
        host.close().await;
    }
}

#[tokio::test]
async fn bad_request_with_answer_is_answer() {
    for (body, expected, asks_for_discover) in [
        (r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"m"}}"#, None, false),
        (r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"m"},"id":0.0}"#, Some(r#""id":0}"#), false),
        (r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"m"}}"#, None, true),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"m"}}"#, Some(r#""id":0,"#), true),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32021,"message":"m"}}"#, Some(r#""id":0,"#), true),
        (r#"{"jsonrpc":"2.0","error":{"code":-32020,"message":"m"}}"#, Some(r#""id":0,"#), true),
    ] {
        let (server, _) = refusing(400, JSON, body).await;
        let mut host = Host::start(&server.url("/mcp"), &[]);
        host.send(initialize()).await;
        let line = host.line().await.unwrap();
        let (answer, sent): (Value, Value) =
            (serde_json::from_str(&line).unwrap(), serde_json::from_str(body).unwrap());
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(0), &sent["error"]["code"]));
        match expected {
            None => assert_eq!(line, body),
            Some(id) => assert!(line.contains(id), "{line}"),
        }
        let asked = ["POST initialize", "POST server/discover"];
        assert_eq!(server.summary(), asked[..1 + usize::from(asks_for_discover)], "{body}");
        host.close().await;
    }
}

/// What was asked of the server itself: after a 401, its metadata are looked for at other places.
fn at_its_address(server: &Server) -> Vec<String> {
    let own = server.requests().into_iter().filter(|request| request.path == "/mcp");
    own.map(|request| format!("{} {}", request.method, request.rpc()).trim_end().to_owned()).collect()
}

#[tokio::test]
async fn http_first_ignores_text_of_other_refusals() {
    for (status, body) in [
        (401, "404 Not Found"),
        (403, "405 Method Not Allowed"),
        (406, "Not Found"),
        (415, ""),
        (422, "404"),
        (500, "Error: 404 Not Found"),
        (501, "405"),
    ] {
        let (server, _) = refusing(status, TEXT, body).await;
        let mut host = Host::waiting(&server.url("/mcp"), &[]);
        host.send(initialize()).await;
        let answer = host.json().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(0), &json!(-31000)), "{answer}");
        assert_eq!(answer["error"]["data"]["status"], status);
        host.close().await;
        assert_eq!(at_its_address(&server), ["POST initialize"], "{status} {body}");
    }
}

#[tokio::test]
async fn messages_during_fallback_use_found_transport() {
    let (server, _) = refusing(405, TEXT, "").await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.send(initialize()).await;
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    host.send(request(1, "tools/list", json!({}))).await;
    assert_eq!(host.json().await["id"], 0);
    assert_eq!(host.json().await, json!({"jsonrpc": "2.0", "id": 1, "result": {"echo": "tools/list"}}));
    let seen: Vec<String> = server.requests().iter().map(|r| format!("{} {} {}", r.method, r.path, r.rpc())).collect();
    assert_eq!(
        seen,
        [
            "POST /mcp initialize",
            "GET /mcp ",
            "POST /messages?session=1 initialize",
            "POST /messages?session=1 notifications/initialized",
            "POST /messages?session=1 tools/list",
        ]
    );
    host.close().await;
}

// sse-first

#[tokio::test]
async fn sse_first_stays_with_an_old_server() {
    let (server, _) = EventStreams::serve(|_, _| None).await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-first"]);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer");
    assert_eq!(server.summary()[..2], ["GET", "POST initialize"]);
    assert_eq!(server.requests()[1].path, "/messages?session=1");
    host.close().await;
}

#[tokio::test]
async fn sse_first_falls_back_on_404_and_405() {
    for status in [404, 405] {
        let server = without_streams(status, "").await;
        let mut host = Host::start(&server.url("/mcp"), &["--transport", "sse-first"]);
        host.send(initialize()).await;
        assert_eq!(host.json().await["result"]["serverInfo"]["name"], "peer");
        assert_eq!(server.summary()[..2], ["GET", "POST initialize"]);
        assert_eq!(server.asked("initialize").len(), 1);
        host.close().await;
    }
}

#[tokio::test]
async fn sse_first_stays_at_other_refusals() {
    for (status, body) in [(400, "405"), (401, "404 Not Found"), (403, ""), (500, "404 Not Found")] {
        let server = without_streams(status, body).await;
        let mut host = Host::waiting(&server.url("/mcp"), &["--transport", "sse-first"]);
        host.send(initialize()).await;
        let answer = host.json().await;
        assert_eq!((&answer["id"], &answer["error"]["data"]["status"]), (&json!(0), &json!(status)), "{answer}");
        host.close().await;
        // A server that has not understood the GET may be of the modern era.
        let asked = ["GET", "POST server/discover"];
        assert_eq!(at_its_address(&server), asked[..1 + usize::from(status == 400)], "{status} {body}");
    }
}

#[tokio::test]
async fn sse_first_falls_back_without_endpoint() {
    let server = Server::with(|request| match request.method.as_str() {
        "GET" => {
            let (reply, events) = Reply::events();
            events.raw(": connected\n\n");
            std::mem::forget(events); // the stream stays open
            reply
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::waiting(&server.url("/mcp"), &["--transport", "sse-first"]);
    host.send(initialize()).await;
    assert_eq!(host.json().await["result"]["serverInfo"]["name"], "peer");
    assert_eq!(server.summary()[..2], ["GET", "POST initialize"]);
    host.close().await;
}

// One transport only, or none

#[tokio::test]
async fn http_only_and_sse_only_never_fall_back() {
    for status in [404, 405, 400] {
        let (server, streams) = refusing(status, TEXT, "").await;
        let mut host = Host::start(&server.url("/mcp"), &["--transport", "http-only"]);
        host.send(initialize()).await;
        assert_eq!(host.json().await["error"]["data"]["status"], status);
        host.close().await;
        assert_eq!(server.summary(), ["POST initialize", "POST server/discover"]);
        assert_eq!(streams.count(), 0);

        let server = without_streams(status, "").await;
        let mut host = Host::start(&server.url("/mcp"), &["--transport", "sse-only"]);
        host.send(initialize()).await;
        assert_eq!(host.json().await["error"]["data"]["status"], status);
        host.close().await;
        assert_eq!(server.summary(), ["GET"]);
    }
}

#[tokio::test]
async fn error_names_both_failed_transports() {
    for (strategy, tried) in [("http-first", ["POST initialize", "GET"]), ("sse-first", ["GET", "POST initialize"])] {
        let server = Server::with(|request| match request.method.as_str() {
            "GET" => Reply::status(405, TEXT, "no streams here"),
            _ => Reply::status(404, TEXT, "no posts here"),
        })
        .await;
        let mut host = Host::start(&server.url("/mcp"), &["--transport", strategy]);
        host.send(initialize()).await;
        let answer = host.json().await;
        assert_own_error(&answer, 0, "no_transport");
        let message = answer["error"]["message"].as_str().unwrap();
        for part in ["404", "no posts here", "405", "no streams here", &format!("127.0.0.1:{}", server.port)] {
            assert!(message.contains(part), "{part:?} is missing: {message}");
        }
        assert_eq!(server.summary(), [&tried[..], &["POST server/discover"]].concat());
        host.close().await;
    }
}

// Only initialize decides

#[tokio::test]
async fn first_request_uses_first_transport_only() {
    for strategy in ["http-first", "sse-first"] {
        // Each speaks only what is tried second.
        let (server, tried) = if strategy == "http-first" {
            (refusing(404, TEXT, "").await.0, "POST tools/list")
        } else {
            (without_streams(405, "").await, "GET")
        };
        let mut host = Host::start(&server.url("/mcp"), &["--transport", strategy]);
        let refused = host.ask(1, "tools/list", json!({})).await;
        assert_eq!(refused["id"], 1);
        assert!(refused["error"]["data"]["status"].is_number(), "{refused}");
        assert_eq!(server.summary(), [tried]);

        // An initialize after it still decides.
        assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer", "{strategy}");
        assert_eq!(host.ask(2, "tools/list", json!({})).await["result"]["echo"], "tools/list");
        host.close().await;
    }
}

#[tokio::test]
async fn lines_without_request_open_no_connection() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    for line in [
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        "",
        "  \t \r",
    ] {
        host.send(line).await;
    }
    // These have an answer; when it is here, the lines before have been dealt with.
    host.send("{bad").await;
    let refused = host.json().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&Value::Null, &json!(-32700)));
    host.send(r#"{"id":8,"method":"x"}"#).await;
    let refused = host.json().await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(8), &json!(-32600)));
    assert_eq!(server.connections(), 0);
    host.initialize().await;
    assert_eq!(server.summary()[0], "POST initialize");
    host.close().await;
}

// The server is down

/// The server that is to come: speaks both transports.
async fn start_on(port: u16) -> Server {
    let streams = EventStreams::default();
    Server::on(bind(port).await, move |request: Request| {
        let old = request.method == "GET" || request.path.starts_with("/messages");
        let reply = if old { streams.ordinary(&request) } else { ordinary(&request) };
        async { reply }
    })
}

#[tokio::test]
async fn initialize_waits_for_starting_server() {
    for strategy in ["http-first", "sse-first"] {
        let port = reserved_port().await;
        let mut host = Host::waiting(&format!("http://127.0.0.1:{port}/mcp"), &["--transport", strategy]);
        host.send(initialize()).await;
        host.told("; retrying (1) in ").await;
        assert!(host.is_quiet(Duration::from_millis(50)).await, "answered before the server was there");
        let server = start_on(port).await;
        let answer = host.json().await;
        assert_eq!((&answer["id"], &answer["result"]["serverInfo"]["name"]), (&json!(0), &json!("peer")));
        assert_eq!(server.asked("initialize").len(), 1, "{strategy}");
        host.close().await;
    }
}

#[tokio::test]
async fn server_down_is_named_and_tried_again() {
    for strategy in ["http-first", "sse-first"] {
        let port = reserved_port().await;
        let flags = ["--transport", strategy, "--retry-for", "0.5"];
        let mut host = Host::waiting(&format!("http://127.0.0.1:{port}/mcp"), &flags);
        host.send(initialize()).await;
        host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        host.send(request(1, "tools/list", json!({}))).await;
        for id in [0, 1] {
            let answer = host.json().await;
            assert_own_error(&answer, id, "cannot_connect");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.starts_with("mcp-remote: "), "{message}");
            assert!(message.contains(&format!("127.0.0.1:{port}")), "{message}");
            assert!(message.to_lowercase().contains("refused"), "{message}");
        }
        let again = host.ask(2, "initialize", initialize_params("2025-11-25")).await;
        assert_own_error(&again, 2, "cannot_connect");

        let server = start_on(port).await;
        let answer = host.ask(3, "initialize", initialize_params("2025-11-25")).await;
        assert_eq!((&answer["id"], &answer["result"]["serverInfo"]["name"]), (&json!(3), &json!("peer")));
        assert_eq!(host.ask(4, "tools/list", json!({})).await["result"]["echo"], "tools/list");
        assert_eq!(server.asked("initialize").len(), 1);
        host.close().await;
    }
}

#[tokio::test]
async fn first_call_to_server_down_is_answered() {
    for strategy in ["http-first", "sse-first"] {
        let port = reserved_port().await;
        let flags = ["--transport", strategy, "--retry-for", "0.3"];
        let mut host = Host::start(&format!("http://127.0.0.1:{port}/mcp"), &flags);
        assert_own_error(&host.ask(1, "tools/list", json!({})).await, 1, "cannot_connect");
        let server = start_on(port).await;
        assert_eq!(host.ask(2, "tools/list", json!({})).await["result"]["echo"], "tools/list");
        assert_eq!(server.asked("tools/list").len(), 1);
        host.close().await;
    }
}

#[tokio::test]
async fn end_or_signal_answers_waiting_initialize() {
    for strategy in ["http-first", "sse-first"] {
        let signals: &[Option<&str>] = if cfg!(unix) { &[None, Some("-TERM"), Some("-INT")] } else { &[None] };
        for &signal in signals {
            let port = reserved_port().await;
            let flags = ["--transport", strategy, "--retry-for", "600"];
            let mut host = Host::waiting(&format!("http://127.0.0.1:{port}/mcp"), &flags);
            host.send(initialize()).await;
            host.send(request(1, "tools/list", json!({}))).await;
            host.told("; retrying (1) in ").await;
            match signal {
                None => host.end_input(),
                Some(signal) => {
                    let id = host.child.id().unwrap().to_string();
                    assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
                }
            }
            let (status, took) = host.exit().await;
            assert!(status.success(), "{status}; {}", host.stderr());
            // A second, and room for a slow machine.
            assert!(took < Duration::from_secs(6), "{took:?}");
            let mut answers: Vec<Value> =
                host.rest().await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            answers.sort_by_key(|answer| answer["id"].as_i64());
            assert_eq!(answers.len(), 2, "{answers:?}");
            for (id, answer) in (0..).zip(&answers) {
                assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-31000)), "{answer}");
                assert_eq!(answer["error"]["data"]["code"], "host_closed");
            }
        }
    }
}
