//! Event streams over their lives: one at a time, their positions, and what comes after an answer (MCP 2025-11-25,
//! Transports, Resumability and Redelivery).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;

use crate::{
    streamable_http::{connected, gets, server, streams},
    support::{
        host::{Host, initialize_params, notification, request},
        server::{Events, Reply, Server, answer, ordinary},
    },
};

fn event(number: u32) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{number}}}"#)
}

#[tokio::test]
async fn stream_is_closed_before_another_one_is_opened() {
    let opened: Arc<Mutex<Vec<Events>>> = Arc::default();
    let all = opened.clone();
    let server = server(move |request| {
        (request.method == "GET").then(|| {
            let mut all = all.lock().unwrap();
            // As the SDK for TypeScript: one stream for each session.
            if all.last().is_some_and(Events::is_open) {
                return Reply::status(409, "text/plain", "only one stream");
            }
            let (reply, events) = Reply::events();
            events.message(event(all.len() as u32));
            all.push(events);
            reply
        })
    })
    .await;
    let mut host = connected(&server, &["--body-timeout", "0.2"]).await;
    assert_eq!(host.line().await.unwrap(), event(0));
    assert_eq!(host.line().await.unwrap(), event(1), "the silent stream was replaced");
    assert!(!opened.lock().unwrap()[0].is_open());
}

#[tokio::test]
async fn event_beyond_limit_blocks_no_later_one() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.method == "GET").then(&open)).await;
    let mut host = connected(&server, &["--max-message-size", "4096"]).await;
    let stream = streams.next().await;
    stream.raw("retry: 10\n");
    stream.with_id("1", event(1));
    assert_eq!(host.line().await.unwrap(), event(1));
    stream.with_id("2", format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "x".repeat(5000)));
    let stream = streams.next().await;
    assert_eq!(gets(&server).last().unwrap().header("last-event-id"), None, "the server would send it again");
    stream.with_id("3", event(3));
    assert_eq!(host.line().await.unwrap(), event(3));
    host.told("cannot take an event of the GET stream").await;
}

#[tokio::test]
async fn busy_server_is_asked_for_same_position_again() {
    let (open, mut streams) = streams();
    let first = AtomicUsize::new(0);
    let server = server(move |request| match (request.method.as_str(), request.header("last-event-id")) {
        ("GET", Some(_)) if first.fetch_add(1, Relaxed) == 0 => Some(Reply::empty(429)),
        ("GET", _) => Some(open()),
        _ => None,
    })
    .await;
    let mut host = connected(&server, &[]).await;
    let stream = streams.next().await;
    stream.raw("retry: 10\n");
    stream.with_id("1", event(1));
    assert_eq!(host.line().await.unwrap(), event(1));
    stream.break_off();
    streams.next().await.with_id("2", event(2));
    assert_eq!(host.line().await.unwrap(), event(2));
    let positions: Vec<_> = gets(&server).iter().map(|get| get.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(positions, [None, Some("1".to_owned()), Some("1".to_owned())]);
}

#[tokio::test]
async fn change_of_list_is_told_again_under_an_old_id() {
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#;
    let server = server(move |request| {
        (request.method == "GET").then(|| Reply::event_text(format!("retry: 10\nid: 1\ndata: {changed}\n\n")))
    })
    .await;
    let mut host = connected(&server, &[]).await;
    for _ in 0..3 {
        assert_eq!(host.line().await.unwrap(), changed);
    }
}

#[tokio::test]
async fn stream_that_accepts_a_notification_holds_up_nothing() {
    let (open, mut streams) = streams();
    let server = server(move |request| (request.rpc() == "notifications/initialized").then(&open)).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    host.send(notification("notifications/initialized", json!({}))).await;
    let stream = streams.next().await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["id"], 1);
    assert!(stream.is_open(), "the answer did not wait for its end");
    stream.message(event(1));
    assert_eq!(host.line().await.unwrap(), event(1));
}

#[tokio::test]
async fn streams_that_stay_open_after_their_answers_are_few() {
    let opened: Arc<Mutex<Vec<Events>>> = Arc::default();
    let all = opened.clone();
    let server = server(move |request| {
        (request.rpc() == "tools/call").then(|| {
            let (reply, events) = Reply::events();
            events.message(answer(request, "{}"));
            all.lock().unwrap().push(events.clone());
            reply
        })
    })
    .await;
    let mut host = connected(&server, &[]).await;
    for id in 1..=65 {
        host.ask(id, "tools/call", json!({})).await;
    }
    let all = opened.lock().unwrap().clone();
    all[64].closed().await;
    assert!(all[63].is_open(), "64 streams are read on for a while");
}

#[tokio::test]
async fn request_cancelled_while_session_is_made_is_not_sent() {
    let (release, released) = tokio::sync::watch::channel(false);
    let (sessions, lists) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        let must_wait = request.rpc() == "initialize" && sessions.fetch_add(1, Relaxed) == 1;
        let is_lost = request.rpc() == "tools/list" && lists.fetch_add(1, Relaxed) == 0;
        let mut released = released.clone();
        async move {
            if must_wait {
                released.wait_for(|released| *released).await.unwrap();
            }
            if is_lost { Reply::empty(404) } else { ordinary(&request) }
        }
    })
    .await;
    let mut host = connected(&server, &[]).await;
    host.send(request(1, "tools/list", json!({}))).await;
    server.until("a new session is asked for", |server| server.asked("initialize").len() == 2).await;
    host.send(request(2, "tools/call", json!({"name": "delete"}))).await;
    host.send(notification("notifications/cancelled", json!({"requestId": 2}))).await;
    // The program has read all of it when it answers this.
    host.send("no message").await;
    assert_eq!(host.json().await["error"]["code"], -32700);
    release.send(true).unwrap();
    assert_eq!(host.json().await["id"], 1);
    server.request("POST", "notifications/cancelled").await;
    assert_eq!(host.ask(3, "tools/list", json!({})).await["id"], 3);
    assert!(server.asked("tools/call").is_empty(), "it would run after its cancellation");
}

#[tokio::test]
async fn late_answer_goes_to_no_other_id() {
    const FIRST: u64 = 1_764_300_000_000_000_001;
    let (open, mut streams) = streams();
    let server = server(move |request| (request.rpc() == "tools/call").then(&open)).await;
    let mut host = connected(&server, &[]).await;
    host.send(request(FIRST, "tools/call", json!({}))).await;
    let first = streams.next().await;
    host.send(request(FIRST + 1, "tools/call", json!({}))).await;
    let second = streams.next().await;
    // The wrong stream is the way of a server that has mixed them up; the ids are what counts.
    second.message(format!(r#"{{"jsonrpc":"2.0","id":{FIRST},"result":{{"of":"first"}}}}"#));
    second.message(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"of":"second"}}}}"#, FIRST + 1));
    for (id, of) in [(FIRST, "first"), (FIRST + 1, "second")] {
        let answer = host.json().await;
        assert_eq!((answer["id"].as_u64(), answer["result"]["of"].as_str()), (Some(id), Some(of)));
    }
    first.message(format!(r#"{{"jsonrpc":"2.0","id":{FIRST},"result":{{"of":"nobody"}}}}"#));
    assert!(host.is_quiet(Duration::from_millis(150)).await);
}
