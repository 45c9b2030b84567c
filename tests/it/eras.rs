//! Hosts and servers of different eras (MCP 2025-11-25 and earlier; 2026-07-28), through the bridge.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    host::{Handles, Host, initialize_params, request},
    server::{Events, Reply, Request, Server},
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
                events.message(&acknowledged.to_string());
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
    events.message(&on_stream("notifications/tools/list_changed", json!({})));
    let changed = host.json().await;
    assert_eq!(changed, json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {} }));
    assert_eq!(host.ask(1, "resources/subscribe", json!({ "uri": "file:///a" })).await["result"], json!({}));
    let (second, events) = soon("another stream is opened", streams.recv()).await.unwrap();
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["file:///a"] });
    assert_eq!(second.json()["params"]["notifications"], filter);
    events.message(
        &json!({
            "jsonrpc": "2.0", "method": "notifications/resources/updated",
            "params": { "_meta": { "io.modelcontextprotocol/subscriptionId": second.json()["id"] }, "uri": "file:///a" },
        })
        .to_string(),
    );
    assert_eq!(host.json().await["params"], json!({ "uri": "file:///a" }));
    host.end_input();
    let (_, took) = host.exit().await;
    assert!(took.as_millis() < 500, "an open stream delays the exit: {took:?}");
}

#[tokio::test]
async fn cancelled_call_of_legacy_host_is_closed_at_modern_server() {
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
    assert!(words.contains("--protocol legacy is set") && words.contains("speaks 2026-07-28 only"), "{words}");
    assert_eq!(server.summary(), ["POST initialize"]);
    host.close().await;
}
