//! Servers that mean harm, or are broken in ways that amount to it.

use std::{
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Mutex,
};

use crate::support::{
    authorization_server::{AuthorizationServer, edit},
    browser::Browser,
    host::{Host, WAIT, notification, request},
    own_error,
    server::{Reply, Server, answer, ordinary},
};

#[tokio::test]
async fn call_answered_with_400_is_not_resent() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/call" => Reply::status(
            400,
            "application/json",
            format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32602,"message":"ordered, but your session is odd"}}}}"#,
                request.id()
            ),
        ),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "ping", json!({})).await;
    assert_eq!(host.ask(2, "tools/call", json!({"name": "order"})).await["error"]["code"], -32602);
    assert_eq!((server.asked("tools/call").len(), server.asked("initialize").len()), (1, 1));
    host.close().await;
}

#[tokio::test]
async fn huge_batch_of_answers_delays_nothing() {
    let responses: Vec<String> = (1000..300_000).map(|id| format!(r#"{{"id":{id},"result":0}}"#)).collect();
    let batch = format!("data: [{}]\n\n", responses.join(","));
    let server = Server::with(move |request| match request.rpc().as_str() {
        "flood" => Reply::event_text(format!("{batch}data: {}\n\n", answer(request, 1))),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.send(request(1, "flood", json!({}))).await;
    host.send(request(2, "ping", json!({}))).await;
    let ids = [host.json().await["id"].clone(), host.json().await["id"].clone()];
    assert!(ids.contains(&json!(1)) && ids.contains(&json!(2)), "{ids:?}");
    host.close().await;
}

#[tokio::test]
async fn call_cancelled_before_retry_is_not_sent() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/call" => Reply::empty(429).with("retry-after", "1"),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.send(request(1, "tools/call", json!({"name": "order"}))).await;
    server.request("POST", "tools/call").await;
    host.send(notification("notifications/cancelled", json!({"requestId": 1}))).await;
    server.request("POST", "notifications/cancelled").await;
    assert!(host.is_quiet(Duration::from_millis(1500)).await);
    assert_eq!(server.asked("tools/call").len(), 1);
    host.close().await;
}

#[tokio::test]
async fn streams_open_after_answer_keep_no_connections() {
    let streams = std::sync::Arc::new(Mutex::new(Vec::new()));
    let server = Server::start(move |request| {
        let streams = streams.clone();
        async move {
            if request.rpc() != "tools/call" {
                return ordinary(&request);
            }
            let (reply, events) = Reply::events();
            events.message(answer(&request, 1));
            streams.lock().await.push(events); // never ended
            reply
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    for id in 1..=150 {
        assert_eq!(host.ask(id, "tools/call", json!({"name": "slow"})).await["id"], id);
    }
    server.until("connections are closed", |server| server.open_connections() < 100).await;
    host.close().await;
}

#[tokio::test]
async fn event_ids_restarted_after_reconnection_are_no_replay() {
    let streams = AtomicUsize::new(0);
    let server = Server::with(move |request| match request.method.as_str() {
        "GET" => match streams.fetch_add(1, Relaxed) {
            stream @ 0..2 => Reply::event_text(format!("retry: 10\nid: 1\ndata: {{\"method\":\"on/{stream}\"}}\n\n")),
            _ => Reply::Hang,
        },
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    assert_eq!(host.json().await["method"], "on/0");
    assert_eq!(host.json().await["method"], "on/1");
    host.close().await;
}

#[tokio::test]
async fn endless_event_is_refused() {
    let filler = format!("data: 1\n:{}\n", "c".repeat(60_000));
    let server = Server::with(move |request| match request.rpc().as_str() {
        "fill" => Reply::event_text(filler.repeat(100)),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--max-message-size", "1M"]);
    host.initialize().await;
    assert_eq!(host.ask(1, "fill", json!({})).await["error"]["data"]["code"], "too_large");
    host.close().await;
}

#[tokio::test]
async fn only_few_named_authorization_servers_are_asked() {
    let server = AuthorizationServer::with(|settings| {
        settings.edit_prm = edit(|document, at| {
            let all: Vec<_> = (0..300).map(|n| format!("{}/nobody/{n}", at.authorization)).collect();
            document["authorization_servers"] = json!(all);
        });
    })
    .await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &WAIT);
    let answer = host.initialize().await;
    let told = own_error(&answer);
    let asked = server.arrived().iter().filter(|one| one.path().contains("/nobody/")).count();
    assert!(asked > 0 && asked <= 30, "{asked} requests");
    assert!(told.len() < 4000, "{} bytes: {told}", told.len());
    host.close().await;
}

#[tokio::test]
async fn key_in_server_url_is_not_reported() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let length = stream.read(&mut head).await.unwrap_or_default();
                if head[..length].starts_with(b"POST /mcp") {
                    let refusal = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    _ = stream.write_all(refusal).await;
                }
            });
        }
    });
    for flags in [&WAIT[..], &[WAIT[0], WAIT[1], "--debug"]] {
        let mut host = Host::start(&format!("http://127.0.0.1:{port}/mcp?key=hush-4711"), flags);
        let answer = host.initialize().await;
        assert!(own_error(&answer).contains("is not available: "), "{answer}");
        host.end_input();
        host.exit().await;
        assert!(!answer.to_string().contains("hush"), "{answer}");
        assert!(!host.stderr().contains("hush"), "{}", host.stderr());
    }
    serving.abort();
}

#[tokio::test]
async fn endless_scopes_make_no_endless_url() {
    let server = AuthorizationServer::with(|settings| {
        settings.edit_prm = edit(|document, _| {
            let all: Vec<_> = (0..20_000).map(|n| format!("https://scopes.example/{n}")).collect();
            document["scopes_supported"] = json!(all);
        });
    })
    .await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &WAIT);
    let answer = host.initialize().await;
    assert_eq!(answer["error"]["data"]["code"], "bad_metadata", "{}", &answer.to_string()[..200]);
    assert!(host.stderr().len() < 10_000 && browser.tabs().is_empty(), "{} bytes", host.stderr().len());
    host.close().await;
}

/// Encodes `text` so that all of it can be decoded before the end of the body.
fn flushed_gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.flush().unwrap();
    encoder.get_ref().clone()
}

/// The most memory that the adapter has had, in megabytes; none where the system does not say.
fn peak_memory(host: &Host) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.child.id().unwrap())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().unwrap() / 1024)
}

#[tokio::test]
async fn answers_in_flight_share_one_memory_limit() {
    const CALLS: usize = 30;
    let streams = std::sync::Arc::new(Mutex::new(Vec::new()));
    let kept = streams.clone();
    let server = Server::start(move |request| {
        let streams = kept.clone();
        async move {
            let start = match request.rpc().as_str() {
                "json" => "",
                "events" => "data: ",
                _ => return ordinary(&request),
            };
            let (reply, body) = Reply::events();
            body.raw(flushed_gzip(&format!(r#"{start}{{"id":{},"result":"{}"#, request.id(), "a".repeat(3_900_000))));
            streams.lock().await.push(body); // never ended
            reply.with("content-encoding", "gzip")
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--max-message-size", "4M"]);
    host.initialize().await;
    let before = peak_memory(&host);
    for id in 0..CALLS {
        host.send(request(id, if id % 2 == 0 { "json" } else { "events" }, json!({}))).await;
    }
    // While the others wait for memory, a small answer does not; and the first that stalls is given up for them.
    host.send(request("small", "ping", json!({}))).await;
    let (mut has_small, mut stalled) = (false, 0);
    while !has_small || stalled == 0 {
        let answer = host.json().await;
        if answer["id"] == "small" {
            assert!(answer["result"].is_object() && stalled < CALLS / 2, "{answer}");
            has_small = true;
        } else {
            assert_eq!(answer["error"]["data"]["code"], "timed_out", "{answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains("sent no more of a large response"), "{message}");
            stalled += 1;
        }
    }
    if let (Some(before), Some(peak)) = (before, peak_memory(&host)) {
        assert!(peak - before < 24, "{before} MB, then {peak} MB"); // 117 without the limit
    }
    host.close().await;
}

#[tokio::test]
async fn answers_that_wait_for_memory_all_arrive() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "large" => Reply::result(request, format!("\"{}\"", "a".repeat(900_000))),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--max-message-size", "1M"]);
    host.initialize().await;
    for id in 0..40 {
        host.send(request(id, "large", json!({}))).await;
    }
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let answer = host.json().await;
        assert_eq!(answer["result"].as_str().map(str::len), Some(900_000), "{}", &answer.to_string()[..100]);
        ids.insert(answer["id"].as_u64());
    }
    assert_eq!(ids.len(), 40);
    host.close().await;
}

#[tokio::test]
async fn ended_stream_keeps_no_memory() {
    let server = Server::with(|request| match request.rpc().as_str() {
        // An answer that would go on in an hour, after an event that never ends.
        "cut" => Reply::event_text(format!(
            "retry: 3600000\nid: 1\ndata: {{\"method\":\"n\"}}\n\ndata: {}",
            "a".repeat(900_000)
        )),
        "large" => Reply::result(request, format!("\"{}\"", "a".repeat(900_000))),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--max-message-size", "1M"]);
    host.initialize().await;
    for id in 0..2 {
        host.send(request(id, "cut", json!({}))).await;
        assert_eq!(host.json().await["method"], "n");
    }
    let answer = host.ask(2, "large", json!({})).await;
    assert_eq!(answer["result"].as_str().map(str::len), Some(900_000), "{}", &answer.to_string()[..100]);
    host.close().await;
}

#[tokio::test]
async fn answer_that_expands_too_much_is_refused() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "bomb" => {
            Reply::Full(200, Vec::new(), flushed_gzip(&format!("{{\"id\":1,\"result\":{}", " ".repeat(32_000_000))))
                .with("content-type", "application/json")
                .with("content-encoding", "gzip")
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    let answer = host.ask(1, "bomb", json!({})).await;
    assert_eq!(answer["error"]["data"]["code"], "bad_message", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("expands more than 100-fold"), "{answer}");
    host.close().await;
}

#[tokio::test]
async fn large_ending_stream_is_reopened_after_growing_pause() {
    let (opened, mut streams) = tokio::sync::watch::channel(0);
    let server = Server::with(move |request| match request.method.as_str() {
        "GET" => {
            opened.send_modify(|count| *count += 1);
            Reply::event_text(format!(
                "retry: 1\nid: 1\ndata: {{\"method\":\"n\"}}\n\n{}",
                format!(": {}\n\n", "ignored".repeat(150_000)).repeat(32)
            ))
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    assert_eq!(host.json().await["method"], "n");
    let began = std::time::Instant::now();
    let third = streams.wait_for(|count| *count >= 3);
    tokio::time::timeout(Duration::from_secs(30), third).await.expect("the stream is opened again").unwrap();
    // 33 MB are worth two seconds each; without them the three take less than one.
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    host.close().await;
}

#[tokio::test]
async fn unrequested_answer_flood_logs_few_lines() {
    const COUNT: usize = 20_000;
    let flood: String =
        (0..COUNT).map(|id| format!("data: {{\"jsonrpc\":\"2.0\",\"id\":\"x{id}\",\"result\":{{}}}}\n\n")).collect();
    let server = Server::with(move |request| match request.rpc().as_str() {
        "flood" => Reply::event_text(format!("{flood}data: {}\n\n", answer(request, 1))),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    assert_eq!(host.ask(1, "flood", json!({})).await["id"], 1);
    assert!(host.stderr().lines().count() < 100, "{} lines", host.stderr().lines().count());
    host.close().await;
}

#[tokio::test]
async fn request_with_result_is_no_message() {
    // A host that looks at `result` first would take it for the answer, with tools that are to be hidden.
    let hybrid = r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{"tools":[{"name":"secret"}]}}"#;
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/list" => {
            Reply::event_text(format!("data: {hybrid}\n\ndata: {}\n\n", answer(request, r#"{"tools":[]}"#)))
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--ignore-tool", "secret"]);
    host.initialize().await;
    let answer = host.ask(1, "tools/list", json!({})).await;
    assert_eq!(answer["result"], json!({"tools": []}), "{answer}");
    host.close().await;
}
