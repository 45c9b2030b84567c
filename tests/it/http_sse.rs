//! HTTP+SSE, the transport of MCP 2024-11-05, seen from both ends: a real host process in front, a
//! scripted server behind.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::support::{
    event_streams::EventStreams,
    host::{Host, initialize_params, notification, request},
    server::{Reply, Request, Server, answer, initialize_result, ordinary},
    soon,
};

const SSE: [&str; 2] = ["--transport", "sse-only"];

/// The ordinary server, and a host that has initialised.
async fn connected(
    special: impl Fn(&Request, &EventStreams) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, EventStreams, Host) {
    let (server, streams) = EventStreams::serve(special).await;
    let mut host = Host::start(&server.url("/sse"), &SSE);
    assert_eq!(host.initialize_in("2024-11-05").await["result"]["serverInfo"]["name"], "peer");
    server.request("POST", "notifications/initialized").await;
    (server, streams, host)
}

/// Accepts calls of this method and leaves the answer to the test.
fn held(method: &'static str) -> impl Fn(&Request, &EventStreams) -> Option<Reply> {
    move |request, _| (request.rpc() == method).then(|| Reply::empty(202))
}

fn is_ours(request: &Request) -> bool {
    request.json()["id"].as_str().is_some_and(|id| id.starts_with("mcp-remote"))
}

// The endpoint

#[tokio::test]
async fn endpoint_is_resolved_against_stream_url() {
    for (endpoint, expected) in [
        ("/m?s=a%20b&t=1", "/m?s=a%20b&t=1"),
        ("m/?s=1", "/base/m/?s=1"),
        ("?s=1", "/base/sse?s=1"),
        ("http://SERVER/abs?s=1", "/abs?s=1"),
        ("//SERVER/abs", "/abs"),
    ] {
        let (server, _) = EventStreams::serve(move |request, streams| {
            Some(if request.method == "GET" {
                let endpoint = endpoint.replace("SERVER", request.header("host").unwrap());
                streams.open_with(format!("event: endpoint\ndata: {endpoint}\n\n"))
            } else {
                streams.last().message(answer(request, initialize_result(request)));
                Reply::empty(202)
            })
        })
        .await;
        let mut host = Host::start(&server.url("/base/sse?key=k"), &SSE);
        host.initialize().await;
        assert_eq!(server.request("GET", "").await.path, "/base/sse?key=k");
        assert_eq!(server.request("POST", "initialize").await.path, expected, "{endpoint}");
        host.close().await;
    }
}

#[tokio::test]
async fn endpoint_at_other_origin_is_refused() {
    let other = Server::with(ordinary).await;
    for endpoint in [
        format!("http://127.0.0.1:{}/m", other.port),
        format!("//127.0.0.1:{}/m", other.port),
        format!("http://SERVER@127.0.0.1:{}/m", other.port),
        "http://localhost:PORT/m".to_owned(),
        "https://SERVER/m".to_owned(),
    ] {
        let named = endpoint.clone();
        let (server, _) = EventStreams::serve(move |request, streams| {
            let address = request.header("host").unwrap();
            let port = address.rsplit(':').next().unwrap();
            let endpoint = named.replace("SERVER", address).replace("PORT", port);
            Some(streams.open_with(format!("event: endpoint\ndata: {endpoint}\n\n")))
        })
        .await;
        let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--header", "X-Key: secret"]);
        let refused = host.ask(1, "initialize", initialize_params("2024-11-05")).await;
        assert_eq!(refused["id"], 1);
        assert_eq!(refused["error"]["code"], -31000, "{endpoint}");
        assert_eq!(refused["error"]["data"]["code"], "no_event_stream", "{endpoint}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("another server"), "{refused}");
        host.close().await;
        assert_eq!(server.summary(), ["GET"], "{endpoint}");
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn events_before_the_endpoint_are_ignored() {
    let early = notification("notifications/early", json!({}));
    let (server, _) = EventStreams::serve(move |request, streams| {
        (request.method == "GET").then(|| {
            streams.open_with(format!(
                ": hello\n\nevent: hello\ndata: /elsewhere\n\nevent: message\ndata: {early}\n\ndata: {early}\n\n\
                 event: endpoint\ndata: /messages?session=1\n\n"
            ))
        })
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &SSE);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer");
    assert_eq!(server.request("POST", "initialize").await.path, "/messages?session=1");
    assert_eq!(host.ask(1, "tools/list", json!({})).await["id"], 1);
    host.close().await;
}

#[tokio::test]
async fn stream_without_endpoint_is_error() {
    let (server, _) = EventStreams::serve(|_, _| Some(Reply::event_text(": nothing to say\n\n"))).await;
    let mut host = Host::start(&server.url("/sse"), &SSE);
    let refused = host.ask(1, "initialize", initialize_params("2024-11-05")).await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["code"]), (&json!(1), &json!("no_event_stream")));
    host.close().await;
}

// Messages

#[tokio::test]
async fn protocol_version_passes_unchanged() {
    let (server, _) = EventStreams::serve(|_, _| None).await;
    let mut host = Host::start(&server.url("/sse"), &SSE);
    let sent = request(0, "initialize", initialize_params("2024-11-05"));
    host.send(&sent).await;
    assert_eq!(host.json().await["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(server.request("POST", "initialize").await.body, sent);
    assert_eq!(server.summary(), ["GET", "POST initialize"]);
    host.close().await;
}

#[tokio::test]
async fn events_in_single_bytes_with_ids_work() {
    let (_server, _, mut host) = connected(|request, streams| {
        (request.rpc() == "tools/list").then(|| {
            let text = format!(
                ": a comment\r\nid: 7\r\nretry: 9000\r\nevent: message\r\ndata: {{\"jsonrpc\":\"2.0\",\r\n\
                 data:  \"id\":{},\"result\":{{\"text\":\"é\\u00e9\"}}}}\r\n\r\n",
                request.id()
            );
            for byte in text.as_bytes() {
                streams.last().raw([*byte]);
            }
            Reply::empty(202)
        })
    })
    .await;
    host.send(request(1, "tools/list", json!({}))).await;
    assert_eq!(host.line().await.unwrap(), r#"{"jsonrpc":"2.0",  "id":1,"result":{"text":"é\u00e9"}}"#);
    host.close().await;
}

#[tokio::test]
async fn post_response_is_no_answer() {
    let (server, streams, mut host) = connected(|request, _| {
        let wrong = answer(request, r#""from the POST""#);
        match request.rpc().as_str() {
            "a" => Some(Reply::json(wrong)),
            "b" => Some(Reply::status(202, "text/plain", "Accepted")),
            "c" => Some(Reply::empty(204)),
            "d" => Some(Reply::event_text(format!("data: {wrong}\n\n"))),
            "e" => Some(Reply::status(201, "application/json", wrong)),
            _ => None,
        }
    })
    .await;
    for (id, method) in (1..).zip(["a", "b", "c", "d", "e"]) {
        host.send(request(id, method, json!({}))).await;
        let asked = server.request("POST", method).await;
        streams.last().message(answer(&asked, r#""from the stream""#));
        assert_eq!(host.json().await, json!({"jsonrpc": "2.0", "id": id, "result": "from the stream"}), "{method}");
    }
    host.close().await;
}

#[tokio::test]
async fn user_headers_go_with_stream_and_posts() {
    let (server, _) = EventStreams::serve(|_, _| None).await;
    let flags = ["--transport", "sse-only", "--header", "X-Key: k v", "--header", "Authorization:Bearer t"];
    let mut host = Host::start(&server.url("/sse"), &flags);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    host.close().await;
    assert_eq!(server.summary(), ["GET", "POST initialize", "POST notifications/initialized", "POST tools/list"]);
    for asked in server.requests() {
        assert_eq!(asked.header("x-key"), Some("k v"), "{} {}", asked.method, asked.rpc());
        assert_eq!(asked.header("authorization"), Some("Bearer t"));
        if asked.method == "GET" {
            assert!(asked.header("accept").unwrap().contains("text/event-stream"));
        } else {
            assert_eq!(asked.header("content-type"), Some("application/json"));
        }
    }
}

#[tokio::test]
async fn answers_keep_servers_order() {
    let (server, streams, mut host) = connected(held("tools/call")).await;
    for id in 1..=20 {
        host.send(request(id, "tools/call", json!({"name": "slow"}))).await;
    }
    server.until("all calls are out", |server| server.asked("tools/call").len() == 20).await;
    for id in (1..=20).rev() {
        streams.last().message(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
        assert_eq!(host.json().await["id"], id);
    }
    host.close().await;
}

#[tokio::test]
async fn ids_come_back_as_they_were_written() {
    // The server reads them as numbers and strings and writes them in its own way.
    let (_server, _, mut host) = connected(|_, _| None).await;
    for id in ["1", r#""1""#, "9007199254740993", "1.0", "1e2", r#""\u0061\/""#, r#""""#, "-7"] {
        host.send(format!(r#"{{"method":"ping","id": {id} ,"jsonrpc":"2.0"}}"#)).await;
        assert_eq!(host.line().await.unwrap(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"echo":"ping"}}}}"#));
    }
    host.close().await;
}

#[tokio::test]
async fn server_request_and_host_answer_pass_unchanged() {
    let (server, streams, mut host) = connected(|_, _| None).await;
    let asked = r#"{ "id" : "s-1", "method":"sampling/createMessage","jsonrpc":"2.0", "params":{"x":1.0}}"#;
    streams.last().message(asked);
    assert_eq!(host.line().await.unwrap(), asked);
    let answered = r#"{ "jsonrpc":"2.0","result": {"n": 1.50e0} , "id" : "s-1"}"#;
    host.send(answered).await;
    server.until("the answer", |server| server.requests().iter().any(|request| request.body == answered)).await;
    host.close().await;
}

#[tokio::test]
async fn batch_of_the_host_is_taken_apart() {
    let (server, _, mut host) = connected(|_, _| None).await;
    let parts = [
        r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
        r#"{"jsonrpc":"2.0","id":2, "method":"b"}"#,
    ];
    host.send(format!("[{}]", parts.join(" , "))).await;
    let mut answers = [host.json().await, host.json().await];
    answers.sort_by_key(|answer| answer["id"].as_i64());
    assert_eq!(answers.map(|answer| answer["result"]["echo"].clone()), [json!("a"), json!("b")]);
    server.request("POST", "notifications/x").await;
    let bodies: Vec<String> = server.requests().into_iter().map(|request| request.body).collect();
    for part in parts {
        assert_eq!(bodies.iter().filter(|body| *body == part).count(), 1, "{part}");
    }
    host.close().await;
}

#[tokio::test]
async fn refused_post_is_answered_in_servers_words() {
    let (_server, _, mut host) = connected(|request, _| match request.rpc().as_str() {
        "own" => Some(Reply::status(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no"}}"#,
        )),
        "page" => Some(Reply::status(500, "text/html", "<title>Oh no</title>")),
        _ => None,
    })
    .await;
    host.send(request(1, "own", json!({}))).await;
    assert_eq!(host.line().await.unwrap(), r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}"#);
    let failed = host.ask(2, "page", json!({})).await;
    assert_eq!((&failed["id"], &failed["error"]["code"]), (&json!(2), &json!(-31000)));
    assert_eq!(failed["error"]["data"]["status"], 500);
    assert!(failed["error"]["message"].as_str().unwrap().contains("Oh no"), "{failed}");
    assert_eq!(host.ask(3, "ping", json!({})).await["result"]["echo"], "ping");
    host.close().await;
}

#[tokio::test]
async fn broken_post_resends_list_but_not_call() {
    let broken = Mutex::new(Vec::<String>::new());
    let (server, _, mut host) = connected(move |request, _| {
        let mut broken = broken.lock().unwrap();
        let first = matches!(request.rpc().as_str(), "tools/call" | "tools/list") && !broken.contains(&request.rpc());
        first.then(|| {
            broken.push(request.rpc());
            Reply::Close
        })
    })
    .await;
    let lost = host.ask(1, "tools/call", json!({"name": "pay"})).await;
    assert_eq!((&lost["id"], &lost["error"]["code"]), (&json!(1), &json!(-31000)));
    assert_eq!(host.ask(2, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    assert_eq!(server.asked("tools/call").len(), 1);
    assert_eq!(server.asked("tools/list").len(), 2);
    host.close().await;
}

#[tokio::test]
async fn answer_counts_without_post_response() {
    let (server, _) = EventStreams::serve(|request, streams| {
        (request.rpc() == "initialize").then(|| {
            streams.last().message(answer(request, initialize_result(request)));
            Reply::Hang
        })
    })
    .await;
    // Only a program that waits for the response needs the limit.
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--initialize-timeout", "5"]);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer");
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    assert_eq!(server.summary(), ["GET", "POST initialize", "POST notifications/initialized", "POST tools/list"]);
    host.close().await;
}

#[tokio::test]
async fn own_pings_stay_from_host() {
    let (server, _) = EventStreams::serve(|_, _| None).await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--ping-interval", "0.2"]);
    host.initialize().await;
    server.until("three pings", |server| server.asked("ping").len() >= 3).await;
    assert!(server.asked("ping").iter().all(|ping| is_ours(ping) && ping.path == "/messages?session=1"));
    assert_eq!(host.ask(1, "tools/list", json!({})).await["id"], 1);
    host.close().await;
}

// The stream drops

#[tokio::test]
async fn requests_on_dropped_stream_are_answered_at_once() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let (server, streams, mut host) = connected(move |request, _| match request.method.as_str() {
        "GET" if is_down.load(SeqCst) => Some(Reply::empty(503)),
        _ if request.rpc() == "tools/call" => Some(Reply::empty(202)),
        _ => None,
    })
    .await;
    for id in [json!(1), json!("1"), json!(2)] {
        host.send(request(id, "tools/call", json!({"name": "slow"}))).await;
    }
    server.until("the calls are out", |server| server.asked("tools/call").len() == 3).await;
    down.store(true, SeqCst);
    streams.end();
    let mut lost = Vec::new();
    for _ in 0..3 {
        let error = host.json().await;
        assert_eq!(error["error"]["code"], -31000);
        assert!(error["error"]["data"]["hint"].is_string(), "{error}");
        lost.push(error["id"].to_string());
    }
    lost.sort();
    assert_eq!(lost, [r#""1""#, "1", "2"]);
    assert_eq!(streams.count(), 1, "nobody waited for a new stream");
    assert_eq!(server.asked("tools/call").len(), 3, "calls that may have run are not sent again");
    host.end_input();
    assert_eq!(host.rest().await, Vec::<String>::new(), "each was answered once");
    host.close().await;
}

#[tokio::test]
async fn new_stream_is_initialized_and_restored_first() {
    let (server, streams, mut host) = connected(held("slow")).await;
    host.ask(1, "logging/setLevel", json!({"level": "error"})).await;
    host.ask(2, "resources/subscribe", json!({"uri": "file:///a"})).await;
    host.ask(3, "resources/subscribe", json!({"uri": "file:///b"})).await;
    host.ask(4, "resources/unsubscribe", json!({"uri": "file:///a"})).await;
    host.send(request(5, "slow", json!({}))).await;
    server.request("POST", "slow").await;
    let before = server.requests().len();
    streams.end();
    assert_eq!(host.json().await["id"], 5);
    // The next line is the answer to the next question: none of the answers to ours.
    assert_eq!(host.ask(6, "tools/list", json!({})).await["result"]["echo"], "tools/list");

    let after = &server.requests()[before..];
    let methods: Vec<String> = after.iter().map(|asked| format!("{} {}", asked.method, asked.rpc())).collect();
    assert_eq!(
        methods,
        [
            "GET ",
            "POST initialize",
            "POST notifications/initialized",
            "POST logging/setLevel",
            "POST resources/subscribe",
            "POST tools/list"
        ]
    );
    assert!(after[1..].iter().all(|asked| asked.path == "/messages?session=2"));
    assert_eq!(after[1].json()["params"], initialize_params("2024-11-05"));
    assert_eq!(after[3].json()["params"], json!({"level": "error"}));
    assert_eq!(after[4].json()["params"], json!({"uri": "file:///b"}));
    let ours: Vec<Value> = [1, 3, 4].map(|at| after[at].json()["id"].clone()).into();
    assert!([1, 3, 4].iter().all(|at| is_ours(&after[*at])), "{ours:?}");
    assert!(ours[0] != ours[1] && ours[1] != ours[2] && ours[0] != ours[2], "{ours:?}");
    host.close().await;
}

#[tokio::test]
async fn new_stream_is_used_despite_failed_restore() {
    let (server, streams) = EventStreams::serve(|request, streams| {
        (request.rpc() == "logging/setLevel" && streams.count() > 1).then(|| Reply::empty(202))
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--initialize-timeout", "2"]);
    host.initialize_in("2024-11-05").await;
    host.ask(1, "logging/setLevel", json!({ "level": "error" })).await;
    streams.end();
    server.until("the level is set again", |server| server.asked("logging/setLevel").len() == 2).await;
    let answer = host.ask(2, "tools/list", json!({})).await;
    assert_eq!(answer["result"]["echo"], "tools/list", "{answer}");
    host.close().await;
}

#[tokio::test]
async fn messages_on_new_stream_reach_host() {
    let (server, streams, mut host) = connected(|_, _| None).await;
    streams.last().break_off();
    server.until("the new session", |server| server.asked("notifications/initialized").len() == 2).await;
    let news = notification("notifications/tools/list_changed", json!({}));
    streams.last().message(&news);
    assert_eq!(host.line().await.unwrap(), news);
    host.close().await;
}

#[tokio::test]
async fn call_during_stream_outage_waits_and_works() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let (server, streams, mut host) = connected(move |request, _| match request.method.as_str() {
        "GET" if is_down.load(SeqCst) => Some(Reply::empty(503)),
        _ if request.rpc() == "slow" => Some(Reply::empty(202)),
        _ => None,
    })
    .await;
    host.send(request(1, "slow", json!({}))).await;
    server.request("POST", "slow").await;
    down.store(true, SeqCst);
    streams.end();
    assert_eq!(host.json().await["id"], 1);
    host.send(request(2, "tools/call", json!({"name": "x"}))).await;
    let gets = |server: &Server| server.requests().iter().filter(|request| request.method == "GET").count();
    server.until("a try while the server is down", |server| gets(server) >= 2).await;
    assert_eq!(server.asked("tools/call").len(), 0);
    down.store(false, SeqCst);
    assert_eq!(host.json().await, json!({"jsonrpc": "2.0", "id": 2, "result": {"echo": "tools/call"}}));
    let calls = server.asked("tools/call");
    assert_eq!(calls.iter().map(|call| call.path.as_str()).collect::<Vec<_>>(), ["/messages?session=2"]);
    host.close().await;
}

#[tokio::test]
async fn call_during_lasting_outage_gets_error() {
    let (server, streams) = EventStreams::serve(|request, streams| {
        (request.method == "GET" && streams.count() > 0).then(|| Reply::empty(503))
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--retry-for", "0.3"]);
    host.initialize().await;
    server.request("POST", "notifications/initialized").await;
    streams.end();
    server
        .until("a try to open it again", |server| {
            server.requests().iter().filter(|request| request.method == "GET").count() >= 2
        })
        .await;
    let failed = host.ask(1, "tools/list", json!({})).await;
    assert_eq!((&failed["id"], &failed["error"]["code"]), (&json!(1), &json!(-31000)));
    assert_eq!(server.asked("tools/list").len(), 0);
    host.close().await;
}

#[tokio::test]
async fn call_survives_distant_next_try() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let (server, streams) = EventStreams::serve(move |request, _| {
        (request.method == "GET" && is_down.load(SeqCst)).then(|| Reply::empty(503))
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &["--transport", "sse-only", "--retry-for", "2"]);
    host.initialize().await;
    server.request("POST", "notifications/initialized").await;
    down.store(true, SeqCst);
    streams.end();
    let gets = |server: &Server| server.requests().iter().filter(|request| request.method == "GET").count();
    // By now the pause is longer than a message may wait.
    server.until("five tries", |server| gets(server) == 6).await;
    down.store(false, SeqCst);
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    host.close().await;
}

#[tokio::test]
async fn stream_ended_before_initialize_answer_fails_it() {
    let first = AtomicBool::new(true);
    let (server, streams) = EventStreams::serve(move |request, streams| {
        (request.rpc() == "initialize" && first.swap(false, SeqCst)).then(|| {
            streams.end();
            Reply::empty(202)
        })
    })
    .await;
    let mut host = Host::waiting(&server.url("/sse"), &SSE);
    let lost = host.ask(1, "initialize", initialize_params("2024-11-05")).await;
    assert_eq!((&lost["id"], &lost["error"]["code"]), (&json!(1), &json!(-31000)));
    let answered = host.ask(2, "initialize", initialize_params("2024-11-05")).await;
    assert_eq!((&answered["id"], &answered["result"]["serverInfo"]["name"]), (&json!(2), &json!("peer")));
    assert!(server.requests().iter().all(|request| !is_ours(request)));
    assert!(streams.last().is_open());
    host.close().await;
}

#[tokio::test]
async fn forgotten_endpoint_gets_new_stream_and_request() {
    let (server, _, mut host) = connected(|request, _| {
        (request.rpc() == "tools/call" && request.path.ends_with("=1")).then(|| Reply::empty(404))
    })
    .await;
    host.send(request(1, "tools/call", json!({"name": "x"}))).await;
    assert_eq!(host.json().await, json!({"jsonrpc": "2.0", "id": 1, "result": {"echo": "tools/call"}}));
    assert_eq!(
        server.requests().iter().skip(3).map(|r| format!("{} {} {}", r.method, r.path, r.rpc())).collect::<Vec<_>>(),
        [
            "POST /messages?session=1 tools/call",
            "GET /sse ",
            "POST /messages?session=2 initialize",
            "POST /messages?session=2 notifications/initialized",
            "POST /messages?session=2 tools/call",
        ]
    );
    server.until("the old stream is closed", |server| server.open_connections() <= 2).await;
    host.close().await;
}

#[tokio::test]
async fn forgotten_endpoint_loses_none_of_many_requests() {
    const CALLS: usize = 10;
    let (streams, all_here) = (EventStreams::default(), Arc::new(Barrier::new(CALLS)));
    let server = Server::start(move |request| {
        let (streams, all_here) = (streams.clone(), all_here.clone());
        async move {
            if request.rpc() == "tools/call" && request.path.ends_with("=1") {
                all_here.wait().await;
                return Reply::empty(404);
            }
            streams.ordinary(&request)
        }
    })
    .await;
    let mut host = Host::start(&server.url("/sse"), &SSE);
    host.initialize_in("2024-11-05").await;
    let calls: Vec<_> = (0..CALLS).map(|id| request(id, "tools/call", json!({"name": "x"}))).collect();
    for answer in host.talk(&calls, CALLS).await {
        assert!(answer.contains(r#""result":{"echo":"tools/call"}"#), "{answer}");
    }
    assert_eq!(server.asked("tools/call").len(), 2 * CALLS);
    host.close().await;
}

#[tokio::test]
async fn broken_stream_resends_list_never_call() {
    let (server, streams, mut host) = connected(|request, _| {
        let is_first = request.path.ends_with("=1") && matches!(&*request.rpc(), "tools/list" | "tools/call");
        is_first.then(|| Reply::status(202, "text/plain", "Accepted"))
    })
    .await;
    host.send(request("list", "tools/list", json!({}))).await;
    host.send(request("call", "tools/call", json!({"name": "x"}))).await;
    server.until("both", |server| server.asked("tools/list").len() + server.asked("tools/call").len() == 2).await;
    streams.end();
    let mut answers = [host.json().await, host.json().await];
    answers.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!(answers[0]["error"]["data"]["code"], "no_answer", "{}", answers[0]);
    assert_eq!(answers[1]["result"]["echo"], "tools/list", "{}", answers[1]);
    assert_eq!((server.asked("tools/list").len(), server.asked("tools/call").len()), (2, 1));
    host.close().await;
}

#[tokio::test]
async fn list_without_answer_needs_no_check_at_server() {
    let (server, streams) = EventStreams::serve(|request, _| {
        matches!(&*request.rpc(), "tools/list" | "tools/call").then(|| Reply::status(202, "text/plain", "Accepted"))
    })
    .await;
    for (method, expected) in [
        ("tools/call", "check whether the server did what you asked"),
        ("tools/list", "try again: the request only reads, so it changed nothing at the server"),
    ] {
        let mut host = Host::start(&server.url("/sse"), &[&SSE[..], &["--retry-for", "0"]].concat());
        host.initialize_in("2024-11-05").await;
        host.send(request(method, method, json!({"name": "x"}))).await;
        server.until("the request", |server| server.asked(method).len() == 1).await;
        streams.end();
        let answer = host.json().await;
        assert!(answer["error"]["data"]["hint"].as_str().is_some_and(|hint| hint.starts_with(expected)), "{answer}");
        host.close().await;
    }
}

#[tokio::test]
async fn stream_ended_with_refused_endpoint_replaced_once() {
    const ROUNDS: usize = 10;
    let (server, streams, mut host) = connected(|request, streams| {
        let first = request.rpc() == "n" && request.path.ends_with(&format!("={}", request.json()["params"]["round"]));
        first.then(|| {
            streams.end();
            Reply::empty(404)
        })
    })
    .await;
    for round in 1..=ROUNDS {
        host.send(notification("n", json!({"round": round}))).await;
        server.until("the notification once more", |server| server.asked("n").len() == 2 * round).await;
        assert_eq!(host.ask(round, "tools/list", json!({})).await["result"]["echo"], "tools/list");
        assert_eq!(streams.count(), 1 + round);
    }
    host.close().await;
}

#[tokio::test]
async fn request_refused_on_new_stream_ends_retries() {
    let (server, _, mut host) =
        connected(|request, _| (request.rpc() == "tools/call").then(|| Reply::empty(404))).await;
    let refused = host.ask(1, "tools/call", json!({"name": "x"})).await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["status"]), (&json!(1), &json!(404)));
    assert_eq!(server.asked("tools/call").len(), 2);
    assert_eq!(host.ask(2, "ping", json!({})).await["result"]["echo"], "ping");
    host.close().await;
}

#[tokio::test]
async fn call_in_flight_is_answered_at_new_initialize() {
    let (server, _, mut host) = connected(held("slow")).await;
    host.send(request(1, "slow", json!({}))).await;
    server.request("POST", "slow").await;
    host.send(request(2, "initialize", initialize_params("2024-11-05"))).await;
    let mut answers = [host.json().await, host.json().await];
    answers.sort_by_key(|answer| answer["id"].as_i64());
    assert_eq!((&answers[0]["id"], &answers[0]["error"]["code"]), (&json!(1), &json!(-31000)));
    assert_eq!((&answers[1]["id"], &answers[1]["result"]["serverInfo"]["name"]), (&json!(2), &json!("peer")));
    host.close().await;
}

// The end

#[tokio::test]
async fn end_of_input_closes_stream_and_ends_program() {
    let (server, streams, mut host) = connected(|_, _| None).await;
    host.end_input();
    let (status, took) = host.exit().await;
    assert!(status.success(), "{status}; {}", host.stderr());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(host.rest().await, Vec::<String>::new());
    server.until("the stream is closed", |server| server.open_connections() == 0).await;
    assert!(!streams.last().is_open());
    assert_eq!(streams.count(), 1, "no new stream is opened");
    assert!(server.requests().iter().all(|request| request.method != "DELETE"));
}

#[tokio::test]
async fn pending_requests_are_answered_at_stream_end() {
    let (server, streams, mut host) = connected(held("slow")).await;
    host.send(request(1, "slow", json!({}))).await;
    host.send(request(2, "slow", json!({}))).await;
    server.until("the calls are out", |server| server.asked("slow").len() == 2).await;
    host.end_input();
    streams.last().message(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    let lines = soon("the end", host.rest()).await;
    let answers: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 2, "result": {}}));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["data"]["code"]), (&json!(1), &json!("host_closed")));
    host.close().await;
}
