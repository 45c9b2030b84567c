//! Sessions over Streamable HTTP: what a host does not see when the server forgets one, and what
//! keeps one alive (MCP 2025-11-25, Transports, Session Management).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use mcp_remote::internals::forward_between;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream},
    sync::mpsc,
};

use crate::support::{
    host::{Host, initialize_params, notification, request},
    server::{Events, Reply, Request, Server, answer, initialize_result, ordinary},
    soon,
};

/// Long enough for what must not happen to happen in a broken program.
const MOMENT: Duration = Duration::from_millis(150);

/// A server that knows one session, the newest, and can be made to forget it.
struct Forgetful {
    server: Server,
    newest: Arc<AtomicUsize>,
    /// The GET streams it opens.
    streams: mpsc::UnboundedReceiver<Events>,
}

impl Forgetful {
    /// Refuses requests of a session it has forgotten with this.
    async fn refusing(refusal: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        let newest = Arc::new(AtomicUsize::new(0));
        let (opened, streams) = mpsc::unbounded_channel();
        let now = newest.clone();
        let server = Server::with(move |request| {
            if request.rpc() == "initialize" {
                let session = format!("s{}", now.fetch_add(1, Relaxed) + 1);
                return Reply::result(request, initialize_result(request)).with("mcp-session-id", &session);
            }
            if request.header("mcp-session-id") != Some(&format!("s{}", now.load(Relaxed))) {
                return refusal();
            }
            if request.method == "GET" {
                let (reply, events) = Reply::events();
                _ = opened.send(events);
                return reply;
            }
            ordinary(request)
        })
        .await;
        Self { server, newest, streams }
    }

    async fn start() -> Self {
        Self::refusing(|| Reply::status(404, "text/plain", "unknown session")).await
    }

    /// A host whose session has been in use.
    async fn host(&self, flags: &[&str]) -> Host {
        let mut host = Host::start(&self.server.url("/mcp"), flags);
        host.initialize().await;
        host.ask("first", "tools/list", json!({})).await;
        host
    }

    fn forget(&self) {
        self.newest.fetch_add(1, Relaxed);
    }

    async fn stream(&mut self) -> Events {
        soon("the server's own stream is opened", self.streams.recv()).await.unwrap()
    }
}

/// A server that gives out sessions and refuses everything else.
async fn refusing_all_but_initialize(refuses: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::with(move |request| match request.rpc().as_str() {
        "initialize" => ordinary(request),
        _ => refuses(request).unwrap_or_else(|| ordinary(request)),
    })
    .await
}

/// The program's own loop inside the test, so that the test can be the machine that sleeps.
struct Sleeper {
    near: BufReader<DuplexStream>,
    wakes: mpsc::Sender<Duration>,
    _home: tempfile::TempDir,
}

impl Sleeper {
    /// One whose connection stands.
    async fn start(url: &str) -> Self {
        let mut sleeper = Self::silent(&[url]);
        sleeper.ask(0, "initialize", initialize_params("2025-11-25")).await;
        sleeper.say(notification("notifications/initialized", json!({}))).await;
        sleeper
    }

    /// One that has not said anything.
    fn silent(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = ["--config-dir", home.path().to_str().unwrap()];
        let arguments = arguments.iter().chain(&folder).map(Into::into).collect();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(far);
        let (wakes, watched) = mpsc::channel(1);
        tokio::spawn(forward_between(arguments, reader, writer, watched).unwrap());
        Self { near: BufReader::new(near), wakes, _home: home }
    }

    async fn say(&mut self, line: String) {
        self.near.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.say(request(id, method, params)).await;
        let mut line = String::new();
        soon("an answer", self.near.read_line(&mut line)).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn sleeps(&self) {
        self.wakes.send(Duration::from_secs(3600)).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_was_lost_while_the_machine_slept_is_replaced_before_the_host_asks() {
    let peer = Forgetful::start().await;
    let mut sleeper = Sleeper::start(&peer.server.url("/mcp")).await;
    sleeper.ask(1, "tools/call", json!({})).await;
    peer.forget();
    sleeper.sleeps().await;
    peer.server.until("the session is replaced", |server| server.asked("initialize").len() == 2).await;
    peer.server.until("it is begun", |server| server.asked("notifications/initialized").len() == 2).await;
    assert_eq!(sleeper.ask(2, "tools/call", json!({})).await["result"]["echo"], "tools/call");
    assert_eq!(peer.server.asked("tools/call").len(), 2, "none of them met the lost session");
}

#[tokio::test]
async fn what_is_sent_after_a_sleep_goes_over_new_connections_and_the_servers_stream_is_opened_anew() {
    let mut peer = Forgetful::start().await;
    let mut sleeper = Sleeper::start(&peer.server.url("/mcp")).await;
    sleeper.ask(1, "tools/call", json!({})).await;
    let old = peer.stream().await;
    let before = peer.server.connections();
    sleeper.sleeps().await;
    let new = peer.stream().await;
    old.closed().await;
    peer.server.request("POST", "ping").await;
    assert!(peer.server.connections() >= before + 2, "one for the stream, one for the ping");
    assert!(new.is_open());
    assert_eq!(peer.server.asked("initialize").len(), 1, "the session is still there");
}

#[tokio::test]
async fn many_requests_that_meet_a_lost_session_share_one_new_session() {
    const CALLS: u64 = 12;
    let peer = Forgetful::start().await;
    let mut host = peer.host(&[]).await;
    peer.forget();
    let lines: Vec<_> = (1..=CALLS).map(|id| request(id, "tools/call", json!({}))).collect();
    host.send(lines.join("\n")).await;
    let mut answered = BTreeSet::new();
    for _ in 0..CALLS {
        let answer = host.json().await;
        assert_eq!(answer["result"]["echo"], "tools/call", "{answer}");
        assert!(answered.insert(answer["id"].as_u64().unwrap()), "answered twice: {answer}");
    }
    assert!(host.is_quiet(MOMENT).await, "the answer to our own initialize is not the host's");

    let initializes = peer.server.asked("initialize");
    assert_eq!(initializes.len(), 2);
    let again = &initializes[1];
    assert_eq!((again.header("mcp-session-id"), again.header("mcp-protocol-version")), (None, None));
    assert_eq!(again.json()["params"], initializes[0].json()["params"]);
    let id = again.json()["id"].clone();
    assert!(id.is_string() && id != "first", "{id}");
    for call in 1..=CALLS {
        let sent: Vec<_> = peer.server.asked("tools/call").into_iter().filter(|r| r.id() == call.to_string()).collect();
        let in_new = sent.iter().filter(|r| r.header("mcp-session-id") == Some("s3")).count();
        assert!(in_new == 1 && sent.len() <= 2, "call {call} went out {} times", sent.len());
    }
}

#[tokio::test]
async fn a_new_session_is_told_all_that_the_old_one_knew_before_the_request_goes_out_again() {
    let peer = Forgetful::start().await;
    let mut host = peer.host(&[]).await;
    host.ask(1, "logging/setLevel", json!({"level": "error"})).await;
    host.ask(2, "resources/subscribe", json!({"uri": "a"})).await;
    host.ask(3, "resources/subscribe", json!({"uri": "b"})).await;
    host.ask(4, "resources/unsubscribe", json!({"uri": "a"})).await;
    peer.forget();
    assert_eq!(host.ask(5, "tools/call", json!({})).await["result"]["echo"], "tools/call");
    assert!(host.is_quiet(MOMENT).await);

    let requests: Vec<_> = peer.server.requests().into_iter().filter(|request| request.method == "POST").collect();
    let again = requests.iter().rposition(|request| request.rpc() == "initialize").unwrap();
    let told: Vec<_> = requests[again + 1..].iter().map(|request| (request.rpc(), request.json())).collect();
    let methods: Vec<_> = told.iter().map(|(method, _)| method.as_str()).collect();
    // The last is ours: the host has seen the list, which may be another now.
    let expected = ["notifications/initialized", "logging/setLevel", "resources/subscribe", "tools/call", "tools/list"];
    assert_eq!(methods, expected);
    assert_eq!(told[1].1["params"]["level"], "error");
    assert_eq!(told[2].1["params"]["uri"], "b");
    let hosts: Vec<Value> = vec![json!(0), json!("first"), json!(1), json!(2), json!(3), json!(4), json!(5)];
    assert!(told[1..3].iter().all(|(_, message)| !hosts.contains(&message["id"])));
    for request in &requests[again + 1..] {
        assert_eq!(request.header("mcp-session-id"), Some("s3"));
        assert_eq!(request.header("mcp-protocol-version"), Some("2025-11-25"));
    }
    host.close().await;
    assert_eq!(peer.server.request("DELETE", "").await.header("mcp-session-id"), Some("s3"));
}

#[tokio::test]
async fn the_servers_own_stream_is_opened_again_in_the_new_session() {
    let mut peer = Forgetful::start().await;
    let mut host = peer.host(&[]).await;
    let old = peer.stream().await;
    peer.forget();
    host.ask(1, "tools/call", json!({})).await;
    let new = peer.stream().await;
    new.message(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    assert_eq!(host.json().await["method"], "notifications/x");
    old.closed().await;
    let gets: Vec<_> = peer.server.requests().into_iter().filter(|request| request.method == "GET").collect();
    let sessions: Vec<_> = gets.iter().map(|get| get.header("mcp-session-id").unwrap()).collect();
    assert_eq!(sessions, ["s1", "s3"]);
}

#[tokio::test]
async fn a_session_whose_stream_is_refused_after_a_break_is_replaced_without_waiting_for_the_host() {
    let mut peer = Forgetful::start().await;
    let host = peer.host(&[]).await;
    let stream = peer.stream().await;
    stream.raw("retry: 10\n\n");
    peer.forget();
    stream.break_off();
    peer.server.until("a new session", |server| server.asked("initialize").len() == 2).await;
    peer.stream().await;
    host.close().await;
}

#[tokio::test]
async fn other_refusals_that_name_the_session_mean_the_same() {
    let rpc = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID"}}"#;
    for (status, kind, body) in
        [(400, "application/json", rpc), (400, "text/plain", "Session expired"), (410, "text/plain", "session gone")]
    {
        let peer = Forgetful::refusing(move || Reply::status(status, kind, body)).await;
        let mut host = peer.host(&[]).await;
        peer.forget();
        let answer = host.ask(1, "tools/call", json!({})).await;
        assert_eq!(answer["result"]["echo"], "tools/call", "{status} {body}: {answer}");
        assert_eq!(peer.server.asked("initialize").len(), 2);
    }
}

#[tokio::test]
async fn a_400_that_does_not_name_the_session_is_an_error_and_no_lost_session() {
    let peer = Forgetful::refusing(|| Reply::status(400, "text/plain", "no such tool")).await;
    let mut host = peer.host(&[]).await;
    peer.forget();
    let answer = host.ask(1, "tools/call", json!({})).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["status"]), (&json!(-31000), &json!(400)));
    assert_eq!(peer.server.asked("initialize").len(), 1);
}

#[tokio::test]
async fn a_notification_that_meets_a_lost_session_arrives_in_the_new_one() {
    let peer = Forgetful::start().await;
    let mut host = peer.host(&[]).await;
    peer.forget();
    host.send(notification("notifications/x", json!({}))).await;
    peer.server
        .until("the notification in the new session", |server| {
            server.asked("notifications/x").iter().any(|request| request.header("mcp-session-id") == Some("s3"))
        })
        .await;
    assert!(host.is_quiet(MOMENT).await);
}

#[tokio::test]
async fn a_session_lost_again_and_again_is_replaced_each_time_it_has_been_used() {
    let peer = Forgetful::start().await;
    let mut host = peer.host(&[]).await;
    for round in 1..=3 {
        peer.forget();
        assert_eq!(host.ask(round, "tools/call", json!({})).await["result"]["echo"], "tools/call", "round {round}");
    }
    assert_eq!(peer.server.asked("initialize").len(), 4);
}

#[tokio::test]
async fn a_server_that_refuses_every_request_is_not_initialised_for_each() {
    const CALLS: usize = 8;
    for notifications_too in [false, true] {
        for (status, text) in [(404, "no"), (400, "no session")] {
            let server = refusing_all_but_initialize(move |request| {
                let refused = notifications_too || request.json().get("id").is_some() || request.method == "GET";
                (refused && request.method != "DELETE").then(|| Reply::status(status, "text/plain", text))
            })
            .await;
            let mut host = Host::start(&server.url("/mcp"), &[]);
            host.initialize().await;
            for id in 1..=CALLS {
                let answer = host.ask(id, "tools/call", json!({})).await;
                assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-31000)), "{answer}");
            }
            let initializes = server.asked("initialize").len();
            assert!(initializes <= 3, "{initializes} for {CALLS} calls; notifications too: {notifications_too}");
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_new_session_gives_each_request_an_error() {
    let first = AtomicUsize::new(0);
    let server = Server::with(move |request| match request.rpc().as_str() {
        "initialize" if first.fetch_add(1, Relaxed) > 0 => Reply::json(format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32603,"message":"full up"}}}}"#,
            request.id()
        )),
        "tools/call" => Reply::empty(404),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    let answer = host.ask(2, "tools/call", json!({})).await;
    assert_eq!((&answer["id"], &answer["error"]["data"]["code"]), (&json!(2), &json!("session_lost")), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("full up"), "{answer}");
    assert!(host.is_quiet(MOMENT).await);
}

#[tokio::test]
async fn a_server_that_hangs_on_the_new_initialize_is_given_up_in_its_time() {
    let first = AtomicUsize::new(0);
    let server = Server::with(move |request| match request.rpc().as_str() {
        "initialize" if first.fetch_add(1, Relaxed) > 0 => Reply::Hang,
        "tools/call" => Reply::empty(404),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--initialize-timeout", "1"]);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    let answer = host.ask(2, "tools/call", json!({})).await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(2), &json!(-31000)), "{answer}");
}

#[tokio::test]
async fn a_new_session_whose_answer_comes_on_a_stream_that_stays_open_is_used_at_once() {
    let (open, mut streams) = mpsc::unbounded_channel();
    let first = AtomicUsize::new(0);
    let server = Server::with(move |request| match request.rpc().as_str() {
        "initialize" if first.fetch_add(1, Relaxed) > 0 => {
            let (reply, events) = Reply::events();
            events.message(answer(request, initialize_result(request)));
            _ = open.send(events);
            reply.with("mcp-session-id", "s2")
        }
        "tools/call" if request.header("mcp-session-id") == Some("s1") => Reply::empty(404),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    host.send(request(2, "tools/call", json!({}))).await;
    let _stays_open = soon("the stream", streams.recv()).await.unwrap();
    assert_eq!(host.json().await["result"]["echo"], "tools/call");
}

#[tokio::test]
async fn a_request_in_flight_when_the_host_initialises_again_is_answered() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/call" => Reply::Hang,
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.send(request(1, "tools/call", json!({}))).await;
    server.request("POST", "tools/call").await;
    host.send(request(2, "initialize", initialize_params("2025-11-25"))).await;
    let mut answered = [host.json().await["id"].as_u64(), host.json().await["id"].as_u64()];
    answered.sort();
    assert_eq!(answered, [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_second_initialize_of_the_host_ends_the_first_session_and_begins_its_own() {
    let peer = Forgetful::start().await;
    let mut host = peer.host(&[]).await;
    assert_eq!(host.ask(1, "initialize", initialize_params("2025-06-18")).await["id"], 1);
    assert_eq!(host.ask(2, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    let asked = peer.server.asked("initialize");
    assert_eq!((asked[1].header("mcp-session-id"), asked[1].header("mcp-protocol-version")), (None, None));
    assert_eq!(peer.server.request("DELETE", "").await.header("mcp-session-id"), Some("s1"));
    let last = peer.server.asked("tools/list").pop().unwrap();
    assert_eq!((last.header("mcp-session-id"), last.header("mcp-protocol-version")), (Some("s2"), Some("2025-06-18")));
}

#[tokio::test]
async fn pings_of_our_own_go_out_regularly_and_the_host_sees_nothing_of_them() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &["--ping-interval", "0.05"]);
    host.initialize().await;
    server.until("three pings", |server| server.asked("ping").len() >= 3).await;
    assert!(host.is_quiet(MOMENT).await);
    host.send(request(1, "ping", json!({}))).await;
    assert_eq!(host.json().await["id"], 1, "the host's own ping is its own");
    let pings = server.asked("ping");
    let ids: BTreeSet<_> = pings.iter().map(Request::id).collect();
    assert_eq!(ids.len(), pings.len(), "no id twice");
    assert!(pings.iter().filter(|ping| ping.id() != "1").all(|ping| {
        ping.header("mcp-session-id") == Some("s1") && ping.header("mcp-protocol-version") == Some("2025-11-25")
    }));
}

#[tokio::test]
async fn without_a_flag_there_are_no_pings() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    assert!(host.is_quiet(Duration::from_millis(400)).await);
    assert_eq!(server.asked("ping").len(), 0);
}

#[tokio::test]
async fn a_ping_that_meets_a_lost_session_has_it_replaced() {
    let peer = Forgetful::start().await;
    let mut host = peer.host(&["--ping-interval", "0.05"]).await;
    peer.forget();
    peer.server.until("a new session", |server| server.asked("initialize").len() == 2).await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"]["echo"], "tools/list");
}

#[tokio::test]
async fn the_session_id_is_in_no_log() {
    let peer = Server::with(|request| match request.rpc().as_str() {
        "initialize" => {
            Reply::result(request, initialize_result(request)).with("mcp-session-id", "very-secret-session")
        }
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&peer.url("/mcp"), &["--debug"]);
    host.initialize().await;
    host.ask(1, "tools/list", json!({})).await;
    host.end_input();
    host.exit().await;
    let mut logs = host.stderr();
    for file in std::fs::read_dir(host.home.path()).unwrap() {
        logs.push_str(&std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
    }
    assert!(logs.contains("connected over Streamable HTTP"), "{logs}");
    assert!(!logs.contains("very-secret-session"), "{logs}");
}

#[tokio::test]
async fn a_server_that_is_only_starting_gets_the_new_initialize_once_more() {
    let initialized = AtomicUsize::new(0);
    let server = Server::with(move |request| match request.rpc().as_str() {
        "initialize" if initialized.fetch_add(1, Relaxed) == 1 => {
            let error =
                format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-1,"message":"starting"}}}}"#, request.id());
            Reply::status(503, "application/json", error)
        }
        "tools/list" if initialized.load(Relaxed) < 3 => Reply::empty(404),
        _ => ordinary(request),
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask(1, "ping", json!({})).await;
    assert_eq!(host.ask(2, "tools/list", json!({})).await["result"]["echo"], "tools/list");
    assert_eq!(server.asked("initialize").len(), 3);
    host.close().await;
}

#[tokio::test]
async fn a_new_session_is_noticed_also_where_it_was_made_while_the_host_did_not_read() {
    const MANY: usize = 4000;
    let session = Arc::new(AtomicUsize::new(0));
    let (streaming, mut streams) = mpsc::unbounded_channel();
    let now = session.clone();
    let server = Server::with(move |request| {
        if request.rpc() == "initialize" {
            let session = format!("s{}", now.fetch_add(1, Relaxed) + 1);
            return Reply::result(request, initialize_result(request)).with("mcp-session-id", &session);
        }
        if request.header("mcp-session-id") != Some(&format!("s{}", now.load(Relaxed))) {
            return Reply::status(404, "text/plain", "unknown session");
        }
        if request.method == "GET" || request.rpc() == "tools/call" {
            let (reply, events) = Reply::events();
            _ = streaming.send(events);
            return reply;
        }
        ordinary(request)
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    host.ask("first", "tools/list", json!({})).await;
    let own = soon("the server's own stream", streams.recv()).await.unwrap();
    host.send(request("second", "tools/call", json!({}))).await;
    let call = soon("the answer's stream", streams.recv()).await.unwrap();
    let much = notification("notifications/message", json!({ "level": "info", "data": "x".repeat(1000) }));
    (0..MANY).for_each(|_| call.message(&much));
    session.fetch_add(1, Relaxed);
    drop(own);
    server.until("a new session is begun", |server| server.asked("notifications/initialized").len() == 2).await;
    tokio::time::sleep(MOMENT).await; // nothing is to be seen of it before the host reads
    for _ in 0..MANY {
        host.json().await;
    }
    server.until("the list is looked at again", |server| server.asked("tools/list").len() == 2).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_keeps_the_host_waiting_no_longer_because_the_machine_has_slept() {
    let server = Server::with(|_| Reply::status(503, "text/plain", "busy").with("retry-after", "45")).await;
    let mut sleeper = Sleeper::silent(&[&server.url("/mcp"), "--answer-within", "1"]);
    sleeper.say(request(0, "initialize", initialize_params("2025-11-25"))).await;
    server.request("POST", "initialize").await;
    sleeper.sleeps().await;
    let mut line = String::new();
    soon("the host is answered in the server's place", sleeper.near.read_line(&mut line)).await.unwrap();
    assert!(line.contains("503"), "{line}");
}

/// The answer to an `initialize`: a session after the last, from s1.
fn next_session(newest: &AtomicUsize, request: &Request) -> Reply {
    let session = format!("s{}", newest.fetch_add(1, Relaxed) + 1);
    Reply::result(request, initialize_result(request)).with("mcp-session-id", &session)
}

#[tokio::test]
async fn a_new_session_is_used_although_the_server_does_not_take_again_what_was_set_in_the_old_one() {
    let newest = AtomicUsize::new(0);
    let server = Server::with(move |request| {
        if request.rpc() == "initialize" {
            return next_session(&newest, request);
        }
        match (request.header("mcp-session-id"), request.rpc().as_str()) {
            (Some("s1"), "tools/call") => Reply::empty(404),
            (Some("s2"), "logging/setLevel") => Reply::Hang,
            _ => ordinary(request),
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &["--initialize-timeout", "2"]);
    host.initialize().await;
    host.ask(1, "logging/setLevel", json!({ "level": "error" })).await;
    let answer = host.ask(2, "tools/call", json!({})).await;
    assert_eq!(answer["result"]["echo"], "tools/call", "{answer}");
}

#[tokio::test]
async fn of_the_streams_that_have_brought_answers_to_us_only_so_many_are_read_on() {
    const MANY: usize = 100;
    let (open, mut streams) = mpsc::unbounded_channel();
    let newest = AtomicUsize::new(0);
    let server = Server::with(move |request| {
        if request.rpc() == "initialize" {
            return next_session(&newest, request);
        }
        match (request.header("mcp-session-id"), request.rpc().as_str()) {
            (Some("s1"), "tools/call") => Reply::empty(404),
            (Some("s2"), "resources/subscribe") => {
                let (reply, events) = Reply::events();
                events.message(answer(request, "{}"));
                _ = open.send(events);
                reply
            }
            _ => ordinary(request),
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize().await;
    for at in 0..MANY {
        host.ask(at, "resources/subscribe", json!({ "uri": format!("a:{at}") })).await;
    }
    host.ask("last", "tools/call", json!({})).await;
    let streams: Vec<Events> = std::iter::from_fn(|| streams.try_recv().ok()).collect();
    assert_eq!(streams.len(), MANY);
    for closed in &streams[90..] {
        closed.closed().await;
    }
    assert!(streams.iter().any(Events::is_open), "some are read on");
}
