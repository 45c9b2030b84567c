//! Hosts and servers of different eras (MCP 2025-11-25 and earlier; 2026-07-28), through the bridge.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    authorization_server::{AuthorizationServer, Settings},
    browser::{Browser, visit},
    event_streams::EventStreams,
    host::{Handles, Host, initialize_params, request},
    own_error,
    server::{Events, Reply, Request, Server, initialize_result, ordinary},
    soon,
};

const HOLD: [&str; 2] = ["--start", "hold"];
const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"modern","version":"1"}},"instructions":"be quick","ttlMs":0,"cacheScope":"private"}"#;

/// A server that speaks MCP 2026-07-28 only; streams of notifications are handed over.
async fn modern_only() -> (Server, mpsc::UnboundedReceiver<(Request, Events)>) {
    let (sender, streams) = mpsc::unbounded_channel();
    let server = Server::with(move |request| {
        let refused = |code: i64| {
            let data = json!({ "supported": ["2026-07-28"], "requested": "2025-11-25" });
            let error = json!({ "code": code, "message": "no", "data": data });
            let text = json!({ "jsonrpc": "2.0", "id": request.json()["id"], "error": error }).to_string();
            Reply::status(400, "application/json", text)
        };
        let params = &request.json()["params"];
        match (request.method.as_str(), request.rpc().as_str()) {
            ("POST", "initialize") => refused(-32022),
            ("POST", method)
                if request.header("mcp-protocol-version") != Some("2026-07-28")
                    || request.header("mcp-method") != Some(method)
                    || !params["_meta"]["io.modelcontextprotocol/clientCapabilities"].is_object() =>
            {
                refused(-32020)
            }
            ("POST", "server/discover") => Reply::result(request, DISCOVERED),
            ("POST", "subscriptions/listen") => {
                let (reply, events) = Reply::events();
                let id = &request.json()["id"];
                let acknowledged = json!({
                    "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": { "_meta": { "io.modelcontextprotocol/subscriptionId": id }, "notifications": params["notifications"] },
                });
                events.message(acknowledged);
                _ = sender.send((request.clone(), events));
                reply
            }
            ("POST", "tools/call") if params["inputResponses"].is_null() => {
                let form = json!({ "message": "who?", "requestedSchema": { "type": "object", "properties": {} } });
                let asked = json!({ "who": { "method": "elicitation/create", "params": form } });
                let result =
                    json!({ "resultType": "input_required", "inputRequests": asked, "requestState": "{ \"a\":1}" });
                Reply::result(request, result.to_string())
            }
            ("POST", "tools/call") => {
                let text = format!("{} {}", params["inputResponses"]["who"]["content"]["name"], params["requestState"]);
                let content = json!([{ "type": "text", "text": text }]);
                Reply::result(request, json!({ "resultType": "complete", "content": content }).to_string())
            }
            ("POST", method) => Reply::result(request, format!(r#"{{"resultType":"complete","echo":"{method}"}}"#)),
            _ => Reply::empty(405),
        }
    })
    .await;
    (server, streams)
}

fn legacy_host(url: &str) -> Host {
    Host::start(url, &HOLD)
}

/// `initialize` of a host that answers questions.
fn params(capabilities: Value) -> Value {
    let mut params = initialize_params("2025-06-18");
    params["capabilities"] = capabilities;
    params
}

#[tokio::test]
async fn legacy_host_uses_modern_server() {
    let (server, _streams) = modern_only().await;
    let mut host = legacy_host(&server.url("/mcp"));
    let answer = host.ask(0, "initialize", params(json!({ "elicitation": {} }))).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-06-18", "{answer}");
    assert_eq!(answer["result"]["serverInfo"]["name"], "modern");
    assert_eq!(answer["result"]["instructions"], "be quick");
    assert_eq!(server.summary(), ["POST initialize", "POST server/discover"]);
    assert_eq!(host.ask(1, "ping", json!({})).await["result"], json!({}));
    assert_eq!(host.ask(2, "tools/list", json!({})).await["result"]["echo"], "tools/list");

    host.send(request(3, "tools/call", json!({ "name": "greet" }))).await;
    let asked = host.json().await;
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    assert_eq!(asked["params"]["message"], "who?");
    let accepted = json!({ "action": "accept", "content": { "name": "Ada" } });
    host.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": accepted }).to_string()).await;
    let answer = host.json().await;
    assert_eq!(answer["id"], 3);
    assert_eq!(answer["result"]["content"][0]["text"], r#""Ada" "{ \"a\":1}""#);
    let calls = server.asked("tools/call");
    assert_ne!(calls[0].id(), calls[1].id(), "each leg has an id of its own");
    assert_eq!(calls[1].header("mcp-name"), Some("greet"));
    host.close().await;
}

#[tokio::test]
async fn known_modern_server_is_not_asked_with_initialize() {
    let (server, _streams) = modern_only().await;
    let mut host = legacy_host(&server.url("/mcp"));
    host.initialize().await;
    let home = host.home.clone();
    host.close().await;
    let mut host = Host::start_raw(Handles::SocketPairs, &[&server.url("/mcp"), HOLD[0], HOLD[1]], &[], home);
    let seen = server.requests().len();
    assert!(host.initialize().await["result"].is_object());
    assert_eq!(server.summary()[seen..], ["POST server/discover"]);
    host.close().await;
}

#[tokio::test]
async fn legacy_host_gets_changes_of_modern_server() {
    let (server, mut streams) = modern_only().await;
    let mut host = legacy_host(&server.url("/mcp"));
    host.initialize().await;
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    let (opened, events) = soon("a stream is opened", streams.recv()).await.unwrap();
    let on_stream = |method: &str, more: Value| {
        let mut params = json!({ "_meta": { "io.modelcontextprotocol/subscriptionId": opened.json()["id"] } });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
    };
    events.message(on_stream("notifications/tools/list_changed", json!({})));
    let changed = host.json().await;
    assert_eq!(changed, json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {} }));
    assert_eq!(host.ask(1, "resources/subscribe", json!({ "uri": "file:///a" })).await["result"], json!({}));
    let (second, events) = soon("another stream is opened", streams.recv()).await.unwrap();
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["file:///a"] });
    assert_eq!(second.json()["params"]["notifications"], filter);
    events.message(json!({
        "jsonrpc": "2.0", "method": "notifications/resources/updated",
        "params": { "_meta": { "io.modelcontextprotocol/subscriptionId": second.json()["id"] }, "uri": "file:///a" },
    }));
    assert_eq!(host.json().await["params"], json!({ "uri": "file:///a" }));
    host.end_input();
    let (_, took) = host.exit().await;
    assert!(took.as_millis() < 500, "an open stream delays the exit: {took:?}");
}

#[tokio::test]
async fn cancelled_legacy_call_is_closed_at_modern_server() {
    let (server, _streams) = modern_only().await;
    let mut host = legacy_host(&server.url("/mcp"));
    host.ask(0, "initialize", params(json!({ "elicitation": {} }))).await;
    host.send(request(3, "tools/call", json!({ "name": "greet" }))).await;
    let asked = host.json().await;
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#).await;
    let withdrawn = host.json().await;
    assert_eq!(
        (&withdrawn["method"], &withdrawn["params"]["requestId"]),
        (&json!("notifications/cancelled"), &asked["id"])
    );
    host.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "cancel" } }).to_string()).await;
    assert_eq!(host.ask(4, "ping", json!({})).await["result"], json!({}));
    assert_eq!(server.asked("tools/call").len(), 1, "the call is not sent again");
    assert!(server.requests().iter().all(|request| !request.rpc().starts_with("notifications/")));
    host.close().await;
}

#[tokio::test]
async fn forced_legacy_era_names_both() {
    let (server, _streams) = modern_only().await;
    let mut host = Host::start(&server.url("/mcp"), &["--protocol", "legacy"]);
    let refused = host.initialize().await;
    let words = refused["error"]["message"].as_str().unwrap();
    assert_eq!(refused["error"]["code"], -32022, "the server's own code: {refused}");
    assert!(words.contains("--protocol legacy is set") && words.contains("supports only 2026-07-28"), "{words}");
    assert_eq!(server.summary(), ["POST initialize"]);
    host.close().await;
}

// A modern host before a legacy server.

/// A request of MCP 2026-07-28 with these client capabilities.
fn modern(id: u64, method: &str, mut params: Value, capabilities: Value) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "a-host", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    params["_meta"] = meta;
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

async fn ask(host: &mut Host, id: u64, method: &str, params: Value) -> Value {
    host.send(modern(id, method, params, json!({ "elicitation": {} }))).await;
    host.json().await
}

/// A legacy server that asks who is there in the middle of each call, over its stream.
async fn asking(session: &'static str) -> Server {
    let waiting = Mutex::new(None::<(String, Events)>);
    let server = Server::with(move |request| match (request.method.as_str(), request.rpc().as_str()) {
        ("POST", "server/discover") => Reply::status(400, "text/plain", "Missing session ID"),
        ("POST", "initialize") => {
            let mut result: Value = serde_json::from_str(&initialize_result(request)).unwrap();
            result["capabilities"] = json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true } });
            Reply::result(request, result.to_string()).with("mcp-session-id", session)
        }
        ("POST", "tools/call") => {
            let (reply, events) = Reply::events();
            let form = json!({ "message": "who?", "requestedSchema": { "type": "object", "properties": {} } });
            let asked = json!({ "jsonrpc": "2.0", "id": 70, "method": "elicitation/create", "params": form });
            events.message(asked);
            *waiting.lock().unwrap() = Some((request.id(), events));
            reply
        }
        // The answer to the question.
        ("POST", "") => {
            if let Some((id, events)) = waiting.lock().unwrap().take() {
                let name = request.json()["result"]["content"]["name"].clone();
                let content = json!([{ "type": "text", "text": name }]);
                let id: Value = serde_json::from_str(&id).unwrap();
                let answer = json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } });
                events.message(answer);
            }
            Reply::empty(202)
        }
        _ => ordinary(request),
    });
    server.await
}

#[tokio::test]
async fn modern_host_uses_legacy_server() {
    let server = asking("s1").await;
    let mut host = Host::start(&server.url("/mcp"), &HOLD);
    let discovered = ask(&mut host, 1, "server/discover", json!({})).await;
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]), "{discovered}");
    assert_eq!(discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "peer");
    let listed = ask(&mut host, 2, "prompts/list", json!({})).await;
    assert_eq!(listed["result"]["resultType"], "complete", "{listed}");

    let asked = ask(&mut host, 3, "tools/call", json!({ "name": "greet" })).await;
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let question = &asked["result"]["inputRequests"]["1"];
    assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("who?")));
    let answers = json!({
        "name": "greet", "requestState": asked["result"]["requestState"],
        "inputResponses": { "1": { "action": "accept", "content": { "name": "Ada" } } },
    });
    let answer = ask(&mut host, 4, "tools/call", answers.clone()).await;
    assert_eq!(answer["result"]["content"][0]["text"], "Ada", "{answer}");
    assert_eq!(ask(&mut host, 5, "tools/call", answers).await["error"]["code"], -32602, "a handle is good once");
    let posted: Vec<_> = server.summary().into_iter().filter(|line| line.starts_with("POST")).collect();
    assert_eq!(
        posted,
        [
            "POST server/discover",
            "POST initialize",
            "POST notifications/initialized",
            "POST prompts/list",
            "POST tools/call",
            "POST"
        ]
    );
    host.close().await;
}

#[tokio::test]
async fn known_legacy_server_is_not_asked_with_discover() {
    let server = asking("s1").await;
    let mut host = Host::start(&server.url("/mcp"), &HOLD);
    ask(&mut host, 1, "server/discover", json!({})).await;
    let home = host.home.clone();
    host.close().await;
    let seen = server.requests().len();
    let mut host = Host::start_raw(Handles::SocketPairs, &[&server.url("/mcp"), HOLD[0], HOLD[1]], &[], home);
    // A host that is sure of its version asks nothing first.
    assert_eq!(ask(&mut host, 1, "prompts/list", json!({})).await["result"]["resultType"], "complete");
    assert_eq!(server.summary()[seen..seen + 2], ["POST initialize", "POST notifications/initialized"]);
    host.close().await;
}

#[tokio::test]
async fn modern_host_uses_server_of_http_sse() {
    for flags in [&HOLD[..], &["--transport", "sse-only"]] {
        let (server, _streams) = EventStreams::serve(|request, _| {
            let is_post = request.method == "POST" && request.path == "/mcp";
            is_post.then(|| Reply::status(404, "text/plain", "Not Found"))
        })
        .await;
        let mut host = Host::start(&server.url("/mcp"), flags);
        let discovered = ask(&mut host, 1, "server/discover", json!({})).await;
        assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]), "{flags:?}: {discovered}");
        let listed = ask(&mut host, 2, "tools/list", json!({})).await;
        assert_eq!(listed["result"]["echo"], "tools/list", "{flags:?}: {listed}");
        host.close().await;
    }
}

#[tokio::test]
async fn modern_host_listens_to_legacy_server() {
    let (sender, mut streams) = mpsc::unbounded_channel();
    let server = Server::with(move |request| match (request.method.as_str(), request.rpc().as_str()) {
        ("GET", _) => {
            let (reply, events) = Reply::events();
            _ = sender.send(events);
            reply
        }
        ("POST", "server/discover") => Reply::status(400, "text/plain", "Missing session ID"),
        ("POST", "initialize") => {
            let mut result: Value = serde_json::from_str(&initialize_result(request)).unwrap();
            result["capabilities"] = json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true } });
            Reply::result(request, result.to_string())
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &HOLD);
    let filter = json!({ "notifications": { "toolsListChanged": true, "resourceSubscriptions": ["file:///a"] } });
    let acknowledged = ask(&mut host, 1, "subscriptions/listen", filter.clone()).await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged", "{acknowledged}");
    assert_eq!(acknowledged["params"]["notifications"], filter["notifications"]);
    let stream = soon("the GET stream is opened", streams.recv()).await.unwrap();
    stream.message(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    let tag = json!({ "io.modelcontextprotocol/subscriptionId": 1 });
    assert_eq!(host.json().await["params"], json!({ "_meta": tag }));
    stream.message(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x"}}"#);
    stream.message(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}"#);
    assert_eq!(host.json().await["params"], json!({ "uri": "file:///a", "_meta": tag }), "no log of no request");
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#).await;
    assert_eq!(ask(&mut host, 2, "tools/list", json!({})).await["id"], 2);
    assert_eq!(server.asked("resources/subscribe").len(), 1);
    host.close().await;
    assert_eq!(server.asked("resources/unsubscribe").len(), 1);
}

#[tokio::test]
async fn modern_host_is_answered_during_sign_in() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &["--protocol", "legacy", "--auth-timeout", "1", HOLD[0], HOLD[1]]);
    let began = Instant::now();
    let answer = ask(&mut host, 1, "tools/call", json!({ "name": "t" })).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let url = browser.tab().await.url;
    assert!(own_error(&answer).contains(&url), "{answer}");
    assert_eq!(visit(&url).await.status, 200);
    let answer = ask(&mut host, 2, "tools/call", json!({ "name": "t" })).await;
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    host.close().await;
}

#[tokio::test]
async fn first_call_waits_for_get_stream() {
    let stream = Arc::new(Mutex::new(None::<Events>));
    let (opened, waiting) = (stream.clone(), Arc::new(Mutex::new(None::<(String, Events)>)));
    let server = Server::with(move |request| match (request.method.as_str(), request.rpc().as_str()) {
        ("GET", _) => {
            let (reply, events) = Reply::events();
            *opened.lock().unwrap() = Some(events);
            reply
        }
        ("POST", "server/discover") => Reply::status(400, "text/plain", "Missing session ID"),
        ("POST", "tools/call") => {
            // As SDKs without a store of events do: what has no stream is dropped.
            if let Some(events) = &*opened.lock().unwrap() {
                events
                    .message(r#"{"jsonrpc":"2.0","id":70,"method":"elicitation/create","params":{"message":"who?"}}"#);
            }
            let (reply, events) = Reply::events();
            *waiting.lock().unwrap() = Some((request.id(), events));
            reply
        }
        ("POST", "") => {
            if let Some((id, events)) = waiting.lock().unwrap().take() {
                events.message(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#));
            }
            Reply::empty(202)
        }
        _ => ordinary(request),
    })
    .await;
    // A modern host whose first message is the call, and a legacy host that calls at once.
    let mut host = Host::start(&server.url("/mcp"), &HOLD);
    let asked = ask(&mut host, 1, "tools/call", json!({ "name": "t" })).await;
    assert_eq!(asked["result"]["inputRequests"]["1"]["params"]["message"], "who?", "{asked}");
    host.close().await;
    let mut host = legacy_host(&server.url("/mcp"));
    host.ask(0, "initialize", params(json!({ "elicitation": {} }))).await;
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    host.send(request(1, "tools/call", json!({ "name": "t" }))).await;
    let asked = host.json().await;
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    host.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "decline" } }).to_string()).await;
    assert_eq!(host.json().await["id"], 1);
    host.close().await;
    drop(stream);
}

#[tokio::test]
async fn changed_server_is_served_in_its_new_era() {
    let is_modern = Arc::new(AtomicBool::new(false));
    let now = is_modern.clone();
    let server = Server::with(move |request| match (now.load(SeqCst), request.rpc().as_str()) {
        (false, "server/discover") => Reply::status(400, "text/plain", "Missing session ID"),
        (true, "initialize") => {
            let text = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}"#;
            Reply::status(400, "application/json", text)
        }
        (true, "server/discover") => Reply::result(request, DISCOVERED),
        _ => ordinary(request),
    })
    .await;
    let home = Host::start(&server.url("/mcp"), &HOLD).home.clone();
    let start = || Host::start_raw(Handles::SocketPairs, &[&server.url("/mcp"), HOLD[0], HOLD[1]], &[], home.clone());
    for (era, asked) in [
        (false, &["POST server/discover", "POST initialize"][..]),
        (false, &["POST initialize"]),
        (true, &["POST initialize", "POST server/discover"]),
        (true, &["POST server/discover"]),
        (false, &["POST server/discover", "POST initialize"]),
    ] {
        is_modern.store(era, SeqCst);
        let seen = server.requests().len();
        let mut host = start();
        let discovered = ask(&mut host, 1, "server/discover", json!({})).await;
        assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]), "{era} {discovered}");
        let posted: Vec<_> = server.summary()[seen..]
            .iter()
            .filter(|line| line.starts_with("POST") && !line.contains("notifications/"))
            .cloned()
            .collect();
        assert_eq!(posted, asked, "{era}");
        host.close().await;
    }
}
