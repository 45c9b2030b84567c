//! What the program sent in secret, and a server repeats, is in no line of the log and no error to the host.

use serde_json::{Value, json};

use crate::support::{
    host::{Host, notification, request},
    server::{Reply, Request, Server, ordinary},
};

/// What every secret of these tests has in it.
const MARK: &str = "hush";
const TOKEN: &str = "hush-0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
const COOKIE: &str = "hush-cookie+4711/";
const SESSION: &str = "hush-session-4711";
const KEY: &str = "hush-key-4711";

/// How a server answers a call.
type Answer = fn(&Request) -> Reply;

/// Returns what a request carried, one word after another.
fn carried(request: &Request) -> String {
    let headers = ["authorization", "cookie", "mcp-session-id"].into_iter();
    let values = headers.map(|name| request.header(name).unwrap_or_default()).collect::<Vec<_>>();
    format!("{} {}", values.join(" "), request.path)
}

/// Returns what the log and the host get to see of a server that answers a call with this.
async fn shown(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static, flags: &[&str]) -> (String, Value) {
    let server = Server::with(move |request| match request.rpc().as_str() {
        "initialize" => match ordinary(request) {
            Reply::Full(status, headers, body) => {
                let rest = headers.into_iter().filter(|(name, _)| name != "mcp-session-id").collect();
                let reply = Reply::Full(status, rest, body).with("mcp-session-id", SESSION);
                reply.with("set-cookie", &format!("sticky={COOKIE}; Path=/; HttpOnly"))
            }
            reply => reply,
        },
        "tools/call" => reply(request),
        _ => ordinary(request),
    })
    .await;
    let authorization = format!("Authorization: Bearer {TOKEN}");
    let flags = [&["--header", &authorization, "--start", "wait"], flags].concat();
    let mut host = Host::start(&server.url(&format!("/mcp?key={KEY}")), &flags);
    assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
    host.send(notification("notifications/initialized", json!({}))).await;
    host.send(request(1, "tools/call", json!({ "name": "a" }))).await;
    let answer = host.json().await;
    host.end_input();
    host.exit().await;
    let called = server.asked("tools/call");
    let carried = carried(&called[0]);
    assert!([TOKEN, COOKIE, SESSION, KEY].iter().all(|secret| carried.contains(secret)), "{carried}");
    (host.stderr(), answer)
}

#[tokio::test]
async fn repeated_secret_is_masked_everywhere() {
    let html = |request: &Request| Reply::status(200, "text/html", format!("<p>seen: {} end", carried(request)));
    let event = |request: &Request| {
        let result = json!({"jsonrpc": "2.0", "id": request.json()["id"], "error": {"code": -1, "message": "an end"}});
        Reply::event_text(format!("data: seen: {} end\n\ndata: {result}\n\n", carried(request)))
    };
    let no_answer = |request: &Request| {
        let words = format!("seen: {} end", carried(request));
        Reply::json(json!({"jsonrpc": "2.0", "error": words}))
    };
    let kind = |request: &Request| {
        let kind = format!("text/seen; {} end", carried(request)).replace([';', ' '], "-");
        Reply::status(200, &kind, "an end")
    };
    let encoding = |request: &Request| {
        Reply::status(200, "application/json", "seen: end")
            .with("content-encoding", &format!("zstd, {}", carried(request)))
    };
    let refusal = |request: &Request| Reply::status(500, "text/plain", format!("seen: {} end", carried(request)));
    let challenge = |request: &Request| {
        let words = format!(r#"Bearer error_description="seen: {} end""#, carried(request));
        Reply::status(401, "text/plain", format!("seen: {} end", carried(request))).with("www-authenticate", &words)
    };
    let words = |request: &Request| {
        let error = json!({"code": -32000, "message": format!("seen: session {} is not found, end", carried(request))});
        // What is about another request does not reach the host.
        Reply::status(400, "application/json", json!({"jsonrpc": "2.0", "id": 77, "error": error}))
    };
    let location = |request: &Request| {
        let path = carried(request).replace([' ', '?'], "/");
        Reply::empty(307).with("location", &format!("http://localhost:1/seen/{path}/end"))
    };
    let cases: [(&str, Answer); 9] = [
        ("HTML", html),
        ("event", event),
        ("no answer", no_answer),
        ("type", kind),
        ("encoding", encoding),
        ("refusal", refusal),
        ("challenge", challenge),
        ("words", words),
        ("location", location),
    ];
    for (name, reply) in cases {
        let (log, answer) = shown(reply, &["--debug", "--retry-for", "0"]).await;
        let all = format!("{log}{answer}");
        assert!(!all.contains(MARK), "{name}: {all}");
        assert!(all.contains("seen") || name == "encoding", "{name}: {all}");
        assert!(all.contains('…') || name == "words", "{name}: {all}");
    }
}

#[tokio::test]
async fn secret_across_a_cut_is_masked() {
    // 200 characters are shown of a text; of these, the token is the last 42.
    let long = |_: &Request| Reply::status(500, "text/plain", format!("{}Bearer {TOKEN} end", "x ".repeat(75)));
    // The server itself cuts the token.
    let cut = |_: &Request| Reply::status(500, "text/plain", format!("seen: {}", &TOKEN[..42]));
    let page = |_: &Request| Reply::status(200, "text/html", format!("{}{TOKEN}", "x ".repeat(79)));
    let cases: [Answer; 3] = [long, cut, page];
    for reply in cases {
        let (log, answer) = shown(reply, &["--debug", "--retry-for", "0"]).await;
        let all = format!("{log}{answer}");
        assert!(!all.contains(MARK) && all.contains('…'), "{all}");
    }
}

#[tokio::test]
async fn secret_in_rejected_initialize_is_not_logged() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "initialize" => Reply::error(request, -32000, &format!("seen: {} end", carried(request))),
        _ => ordinary(request),
    })
    .await;
    for start in ["wait", "hold", "answer"] {
        let authorization = format!("Authorization: Bearer {TOKEN}");
        let flags = ["--header", &authorization, "--start", start, "--debug"];
        let mut host = Host::start(&server.url(&format!("/mcp?key={KEY}")), &flags);
        host.initialize().await;
        host.told("seen: ").await;
        host.end_input();
        host.exit().await;
        assert!(!host.stderr().contains(MARK), "{start}: {}", host.stderr());
    }
}
