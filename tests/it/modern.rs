//! The modern era (MCP 2026-07-28): the real binary between a scripted host and a scripted server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    authorization_server::AuthorizationServer,
    browser::Browser,
    host::{Handles, Host, initialize_params},
    own_error,
    server::{Events, Reply, Request, Server, answer, ordinary},
    soon,
};

/// What users get.
const DEFAULT: [&str; 2] = ["--start", "hold"];
const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":1000,"cacheScope":"public"}"#;

/// A host that is known to go on with `initialize`.
const FALLS_BACK: &str = "claude-code";

/// A modern request by a host of this name.
fn modern_by(name: &str, id: u64, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": name, "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

fn modern(id: u64, method: &str, params: Value) -> String {
    modern_by("a-host", id, method, params)
}

async fn ask(host: &mut Host, line: String) -> Value {
    host.send(line).await;
    host.json().await
}

fn cancelled(id: u64) -> String {
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }).to_string()
}

/// What a modern server does with what a test does not say.
fn modern_only(request: &Request) -> Reply {
    let error = |code: i64, data: &str| {
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":{code},"message":"no"{data}}}}}"#, request.id());
        Reply::status(400, "application/json", text)
    };
    match (request.method.as_str(), request.rpc().as_str()) {
        ("POST", "initialize") => error(-32022, r#","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}"#),
        ("POST", _) if request.header("mcp-protocol-version") != Some("2026-07-28") => error(-32020, ""),
        ("POST", "server/discover") => Reply::result(request, DISCOVERED),
        ("POST", method) => Reply::result(request, format!(r#"{{"resultType":"complete","echo":"{method}"}}"#)),
        _ => Reply::empty(405),
    }
}

/// A server that streams the answers to one method, and hands over each stream.
async fn streaming(method: &'static str) -> (Server, mpsc::UnboundedReceiver<(Request, Events)>) {
    let (sender, streams) = mpsc::unbounded_channel();
    let server = Server::with(move |request| {
        if request.rpc() != method {
            return modern_only(request);
        }
        let (reply, events) = Reply::events();
        _ = sender.send((request.clone(), events));
        reply
    });
    (server.await, streams)
}

async fn next(streams: &mut mpsc::UnboundedReceiver<(Request, Events)>) -> (Request, Events) {
    soon("a stream is opened", streams.recv()).await.unwrap()
}

/// What a server of the other era does.
fn legacy_only(request: &Request) -> Reply {
    match request.rpc().as_str() {
        "server/discover" => {
            let text = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}"#;
            Reply::status(400, "application/json", text)
        }
        _ => ordinary(request),
    }
}

#[tokio::test]
async fn modern_host_and_server_are_connected_untouched() {
    let server = Server::with(modern_only).await;
    let mut host = Host::start(
        &server.url("/mcp"),
        &["--start", "hold", "--header", "Mcp-Name: mine", "--header", "MCP-Protocol-Version: 2025-11-25"],
    );
    let line = modern(1, "server/discover", json!({}));
    host.send(&line).await;
    assert_eq!(host.line().await.unwrap(), format!(r#"{{"jsonrpc":"2.0","id":1,"result":{DISCOVERED}}}"#));
    let called = ask(&mut host, modern(2, "tools/call", json!({ "name": "grüß", "arguments": {} }))).await;
    assert_eq!(called["result"]["echo"], "tools/call");
    let requests = server.requests();
    assert_eq!(requests[0].body, line, "the bytes of the host");
    let headers = |request: &Request| {
        ["mcp-protocol-version", "mcp-method", "mcp-name"].map(|name| request.header(name).map(ToOwned::to_owned))
    };
    let header = |text: &str| Some(text.to_owned());
    assert_eq!(headers(&requests[0]), [header("2026-07-28"), header("server/discover"), None]);
    assert_eq!(headers(&requests[1]), [header("2026-07-28"), header("tools/call"), header("=?base64?Z3LDvMOf?=")]);
    host.close().await;
    let methods: Vec<_> =
        server.requests().into_iter().map(|request| (request.method, request.body.is_empty())).collect();
    assert!(methods.iter().all(|(method, _)| method == "POST"), "no session, no stream of its own: {methods:?}");
    assert!(server.requests().iter().all(|request| request.header("mcp-session-id").is_none()));
}

#[tokio::test]
async fn cancelling_closes_the_stream_and_posts_nothing() {
    let (server, mut streams) = streaming("tools/call").await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    ask(&mut host, modern(1, "server/discover", json!({}))).await;
    host.send(modern(2, "tools/call", json!({ "name": "slow" }))).await;
    let (_, stream) = next(&mut streams).await;
    stream.message(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#);
    assert_eq!(host.json().await["method"], "notifications/progress");
    host.send(cancelled(2)).await;
    stream.closed().await;
    assert_eq!(ask(&mut host, modern(3, "ping", json!({}))).await["id"], 3);
    host.close().await;
    assert!(server.requests().iter().all(|request| request.rpc() != "notifications/cancelled"));
}

#[tokio::test]
async fn request_of_the_server_reaches_no_modern_host() {
    let (server, mut streams) = streaming("tools/call").await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    host.send(modern(1, "tools/call", json!({ "name": "asks" }))).await;
    let (request, stream) = next(&mut streams).await;
    stream.message(r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}"#);
    stream.message(answer(&request, r#"{"resultType":"complete"}"#));
    assert_eq!(host.json().await["id"], 1);
    host.told("dropping the server's request sampling/createMessage").await;
    host.close().await;
}

#[tokio::test]
async fn open_listen_does_not_delay_exit() {
    let (server, mut streams) = streaming("subscriptions/listen").await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    host.send(modern(7, "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }))).await;
    let (_, stream) = next(&mut streams).await;
    stream.message(ACKNOWLEDGED);
    assert_eq!(host.json().await["method"], "notifications/subscriptions/acknowledged");
    let ended = Instant::now();
    host.end_input();
    let rest = host.rest().await;
    assert_eq!(
        rest,
        [
            r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#
        ]
    );
    host.exit().await;
    assert!(ended.elapsed() < Duration::from_millis(300), "{:?}", ended.elapsed());
    stream.closed().await;
}

const ACKNOWLEDGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7},"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a:b","not:asked"]}}}"#;

#[tokio::test]
async fn lost_listen_is_reopened_and_announced_once() {
    let (server, mut streams) = streaming("subscriptions/listen").await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["a:b"] });
    let listen = modern(7, "subscriptions/listen", json!({ "notifications": filter }));
    host.send(&listen).await;
    let (_, stream) = next(&mut streams).await;
    stream.message(ACKNOWLEDGED);
    host.json().await;
    stream.break_off();
    let (again, stream) = next(&mut streams).await;
    assert_eq!(again.body, listen, "under the same id");
    stream.message(ACKNOWLEDGED);
    let meta = json!({ "io.modelcontextprotocol/subscriptionId": 7 });
    let changed = host.json().await;
    assert_eq!(changed["method"], "notifications/tools/list_changed", "the second acknowledgment is the adapter's");
    assert_eq!(changed["params"]["_meta"], meta);
    let updated = host.json().await;
    assert_eq!(updated["method"], "notifications/resources/updated");
    assert_eq!(updated["params"], json!({ "_meta": meta, "uri": "a:b" }));
    assert!(host.is_quiet(Duration::from_millis(100)).await);
    host.close().await;
}

#[tokio::test]
async fn refused_listen_is_the_hosts_error() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "subscriptions/listen" => {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"no"}}}}"#, request.id());
            Reply::status(404, "application/json", text)
        }
        _ => modern_only(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    let refused = ask(&mut host, modern(1, "subscriptions/listen", json!({}))).await;
    assert_eq!(refused["error"]["code"], -32601);
    host.close().await;
}

#[tokio::test]
async fn unknown_schema_is_read_once_before_resend() {
    let tools = r#"{"resultType":"complete","tools":[{"name":"sql","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}},{"name":"bad","inputSchema":{"type":"object","properties":{"x":{"type":"number","x-mcp-header":"X"}}}}]}"#;
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/list" => Reply::result(request, tools),
        "tools/call" if request.header("mcp-param-region") != Some("eu") => {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32020,"message":"m"}}}}"#, request.id());
            Reply::status(400, "application/json", text)
        }
        _ => modern_only(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    ask(&mut host, modern(1, "server/discover", json!({}))).await;
    let call = |id| modern(id, "tools/call", json!({ "name": "sql", "arguments": { "region": "eu" } }));
    assert_eq!(ask(&mut host, call(2)).await["result"]["echo"], "tools/call");
    let asked: Vec<_> = server.requests().iter().map(Request::rpc).collect();
    assert_eq!(asked, ["server/discover", "tools/call", "tools/list", "tools/call"]);
    let own = &server.requests()[2].json();
    assert!(own["id"].as_str().unwrap().starts_with("mcp-remote-"), "{own}");
    assert_eq!(own["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    // From now on the header is known.
    assert_eq!(ask(&mut host, call(3)).await["result"]["echo"], "tools/call");
    assert_eq!(server.requests().len(), 5);
    let listed = ask(&mut host, modern(4, "tools/list", json!({}))).await;
    let names: Vec<_> = listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["sql"], "a tool with an invalid mark is hidden");
    assert_eq!(host.stderr().matches("hiding the tool bad").count(), 1, "{}", host.stderr());
    let refused = ask(&mut host, modern(5, "tools/call", json!({ "name": "bad" }))).await;
    assert_eq!(refused["error"]["code"], -32602);
    host.close().await;
}

#[tokio::test]
async fn lost_answer_resends_only_safe_requests() {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = lost.clone();
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/call" => Reply::Close,
        "tools/list" if count.fetch_add(1, SeqCst) == 0 => Reply::Close,
        _ => modern_only(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    ask(&mut host, modern(1, "server/discover", json!({}))).await;
    let answer = ask(&mut host, modern(2, "tools/list", json!({}))).await;
    assert_eq!((&answer["id"], &answer["result"]["echo"]), (&json!(2), &json!("tools/list")));
    let ids: Vec<_> =
        server.requests().iter().filter(|request| request.rpc() == "tools/list").map(Request::id).collect();
    assert!(ids.len() == 2 && ids[0] == "2" && ids[1].starts_with("\"mcp-remote-"), "{ids:?}");
    own_error(&ask(&mut host, modern(3, "tools/call", json!({ "name": "x" }))).await);
    assert_eq!(server.requests().iter().filter(|request| request.rpc() == "tools/call").count(), 1);
    host.close().await;
}

#[tokio::test]
async fn legacy_server_is_asked_once_and_remembered() {
    let server = Server::with(legacy_only).await;
    let mut home = None;
    for (start, before_initialize) in [(1, 1), (2, 0)] {
        let seen = server.requests().len();
        let mut host = match home.take() {
            None => Host::start(&server.url("/mcp"), &DEFAULT),
            Some(home) => Host::start_raw(Handles::SocketPairs, &[&server.url("/mcp"), "--start", "hold"], &[], home),
        };
        let refused = ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await;
        assert_eq!(refused["error"]["code"], -32601, "{refused}");
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(said.contains("2026-07-28") && said.contains("earlier versions"), "{said}");
        assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer");
        let asked: Vec<_> = server.requests()[seen..].iter().map(Request::rpc).collect();
        let at = asked.iter().position(|method| method == "initialize").unwrap();
        assert_eq!(at, before_initialize, "start {start}: {asked:?}");
        home = Some(host.home.clone());
        host.close().await;
    }
}

#[tokio::test]
async fn wrong_remembered_era_costs_one_request() {
    let updated = Arc::new(AtomicBool::new(false));
    let is_modern = updated.clone();
    let server =
        Server::with(move |request| if is_modern.load(SeqCst) { modern_only(request) } else { legacy_only(request) })
            .await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await;
    let home = host.home.clone();
    host.close().await;
    updated.store(true, SeqCst);
    let start = || Host::start_raw(Handles::SocketPairs, &[&server.url("/mcp"), "--start", "hold"], &[], home.clone());
    let mut host = start();
    assert_eq!(ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await["error"]["code"], -32601);
    let answer = host.ask(2, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
    host.close().await;
    let mut host = start();
    assert!(
        ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await["result"].is_object(),
        "corrected"
    );
    host.close().await;
}

#[tokio::test]
async fn discover_is_refused_after_two_seconds_of_silence() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "server/discover" => Reply::Hang,
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
    let asked = Instant::now();
    let refused = ask(&mut host, modern(1, "server/discover", json!({}))).await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    let took = asked.elapsed();
    assert!((1900..8000).contains(&took.as_millis()), "{took:?}");
    host.initialize().await;
    host.close().await;
}

#[tokio::test]
async fn host_known_to_fall_back_does_not_wait() {
    let server = AuthorizationServer::with(|_| {}).await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &DEFAULT);
    let asked = Instant::now();
    let refused = ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    host.end_input();
    host.exit().await;
}

#[tokio::test]
async fn forced_era_sends_no_probe() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &["--protocol", "legacy"]);
    assert_eq!(ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await["error"]["code"], -32601);
    assert!(server.requests().is_empty());
    host.initialize().await;
    host.close().await;
    let mut host = Host::start(&server.url("/mcp"), &["--protocol", "modern"]);
    let seen = server.requests().len();
    let refused = host.ask(1, "initialize", initialize_params("2025-11-25")).await;
    assert_eq!(refused["error"]["data"]["code"], "protocol_version_not_shared");
    assert_eq!(server.summary()[seen..], ["POST server/discover"]);
    host.close().await;
    let sse = Host::start(&server.url("/mcp"), &["--transport", "sse-only"]);
    let mut host = sse;
    assert_eq!(ask(&mut host, modern_by(FALLS_BACK, 1, "server/discover", json!({}))).await["error"]["code"], -32601);
    host.close().await;
}

#[tokio::test]
async fn failed_first_request_decides_no_era() {
    for reply in [|| Reply::status(500, "text/plain", "oops"), || Reply::event_text(": nothing\n\n")] {
        let server = Server::with(move |request| match request.rpc().as_str() {
            "tools/call" => reply(),
            _ => modern_only(request),
        })
        .await;
        let mut host = Host::start(&server.url("/mcp"), &DEFAULT);
        let failed = ask(&mut host, modern(1, "tools/call", json!({ "name": "x" }))).await;
        assert_ne!(failed["error"]["data"]["code"], "protocol_version_not_shared", "{failed}");
        own_error(&failed);
        host.close().await;
    }
}
