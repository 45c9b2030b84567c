//! HTTP/2: when a request counts as begun, and when a connection counts as idle.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    network::{Authority, initialize},
    support::{
        host::{Host, request},
        soon,
    },
};

/// Longer than a connection to this machine is kept that nobody uses.
const IDLE: Duration = Duration::from_millis(2500);

/// How a server behaves.
#[derive(Clone, Copy)]
struct Behavior {
    /// Streams at a time.
    streams: u32,
    /// How long TLS of every connection but the first one takes.
    slow_tls: Duration,
    /// Pause after each frame of a body.
    slow_read: Duration,
}

const PROMPT: Behavior = Behavior { streams: 20, slow_tls: Duration::ZERO, slow_read: Duration::ZERO };

/// A server over HTTP/2. The response of a tool called `hang` has its body when the test says so.
struct Http2Server {
    authority: Authority,
    url: String,
    connections: Arc<AtomicUsize>,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// Streams that were opened for a POST.
    streams: AtomicUsize,
    /// Bytes of all connections, decrypted.
    bytes: Mutex<Vec<u8>>,
    /// Tools whose whole call arrived, and the length of the call.
    calls: Mutex<Vec<(String, usize)>>,
    release: tokio::sync::Notify,
}

impl Http2Server {
    async fn start(behavior: Behavior) -> Self {
        let authority = Authority::new("authority");
        let mut config = authority.server(None);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}/mcp", listener.local_addr().unwrap().port());
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::<Seen>::default());
        let (mut tasks, count, all) = (JoinSet::new(), connections.clone(), seen.clone());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let is_first = count.fetch_add(1, Relaxed) == 0;
                let (acceptor, seen) = (acceptor.clone(), all.clone());
                open.spawn(async move {
                    sleep(if is_first { Duration::ZERO } else { behavior.slow_tls }).await;
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (stream, _tasks) = record(stream, seen.clone());
                    let mut builder = h2::server::Builder::new();
                    builder.max_concurrent_streams(behavior.streams);
                    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                    let mut answers = JoinSet::new();
                    while let Some(Ok((request, answer))) = connection.accept().await {
                        answers.spawn(serve(request, answer, behavior.slow_read, seen.clone()));
                    }
                });
            }
        });
        Self { authority, url, connections, seen, _tasks: tasks }
    }

    async fn host(&self) -> Host {
        let (answer, host) = initialize(&self.url, &["--ca-cert", &self.authority.ca()], &[]).await;
        assert_eq!(answer["result"]["serverInfo"]["name"], "peer", "{answer}");
        host
    }

    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    fn calls(&self, name: &str) -> Vec<usize> {
        let calls = self.seen.calls.lock().unwrap();
        calls.iter().filter(|(tool, _)| tool == name).map(|(_, length)| *length).collect()
    }

    async fn called(&self, name: &str) {
        soon("the call arrives", async {
            while self.calls(name).is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

/// Returns a stream with what comes and goes on this one, and the tasks that move it.
fn record(stream: TlsStream<TcpStream>, seen: Arc<Seen>) -> (DuplexStream, JoinSet<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ((mut from, mut to), (mut back, mut on)) = (tokio::io::split(stream), tokio::io::split(far));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            seen.bytes.lock().unwrap().extend_from_slice(&piece[..length]);
            _ = on.write_all(&piece[..length]).await;
        }
        _ = on.shutdown().await;
    });
    tasks.spawn(async move { _ = tokio::io::copy(&mut back, &mut to).await });
    (near, tasks)
}

async fn serve(
    request: http::Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
    slow_read: Duration,
    seen: Arc<Seen>,
) {
    let length: Option<usize> =
        request.headers().get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
    assert!(request.headers().get("host").is_none(), "`:authority` says the same");
    if request.method() == "POST" {
        seen.streams.fetch_add(1, Relaxed);
    }
    let (mut body, mut text) = (request.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return };
        sleep(slow_read).await;
        _ = body.flow_control().release_capacity(piece.len());
        text.extend_from_slice(&piece);
    }
    assert_eq!(length.unwrap_or_default(), text.len());
    let message: Value = serde_json::from_slice(&text).unwrap_or_default();
    let name = message["params"]["name"].as_str();
    if let Some(name) = name {
        seen.calls.lock().unwrap().push((name.to_owned(), text.len()));
    }
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": message["params"]["protocolVersion"], "capabilities": { "tools": {} },
            "serverInfo": { "name": "peer", "version": "1" }
        }),
        _ => json!({ "name": name }),
    };
    let (status, content) = match message.get("id") {
        Some(id) => (200, json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()),
        None => (if message.is_null() { 405 } else { 202 }, String::new()),
    };
    let head = http::Response::builder().status(status).header("content-type", "application/json").body(()).unwrap();
    let Ok(mut stream) = answer.send_response(head, content.is_empty()) else { return };
    if name == Some("hang") {
        seen.release.notified().await;
    }
    if !content.is_empty() {
        _ = stream.send_data(content.into(), true);
    }
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn slow_connect_does_not_count_as_refusal() {
    let server = Http2Server::start(Behavior { slow_tls: Duration::from_millis(1500), ..PROMPT }).await;
    let mut host = server.host().await;
    assert_eq!(host.ask(1, "tools/call", json!({ "name": "one" })).await["result"]["name"], "one");
    sleep(IDLE).await;
    assert_eq!(host.ask(2, "tools/call", json!({ "name": "two" })).await["result"]["name"], "two");
    assert_eq!((server.connections(), server.calls("two").len()), (2, 1), "{}", host.stderr());
    assert!(!host.stderr().contains("accepts no further request"), "{}", host.stderr());
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn slow_upload_is_sent_once() {
    let server = Http2Server::start(Behavior { slow_read: Duration::from_millis(10), ..PROMPT }).await;
    let mut host = server.host().await;
    assert_eq!(host.ask(1, "tools/call", json!({ "name": "one" })).await["result"]["name"], "one");
    let before = server.seen.streams.load(Relaxed);
    let large = json!({ "name": "large", "arguments": { "text": "x".repeat(3_000_000) } });
    let call = request(2, "tools/call", large.clone());
    let length = call.len();
    host.send(call).await;
    assert_eq!(host.json().await["result"]["name"], "large");
    assert_eq!(server.calls("large"), [length]);
    assert_eq!((server.seen.streams.load(Relaxed) - before, server.connections()), (1, 1), "{}", host.stderr());
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn connection_with_open_response_is_not_idle() {
    let server = Http2Server::start(PROMPT).await;
    let mut host = server.host().await;
    host.send(request(1, "tools/call", json!({ "name": "hang" }))).await;
    server.called("hang").await;
    sleep(IDLE).await;
    assert_eq!(host.ask(2, "tools/call", json!({ "name": "two" })).await["result"]["name"], "two");
    assert_eq!(server.connections(), 1, "{}", host.stderr());
    // The idle time begins when the last response ends.
    sleep(IDLE).await;
    server.seen.release.notify_one();
    assert_eq!(host.json().await["result"]["name"], "hang");
    assert_eq!(host.ask(3, "tools/call", json!({ "name": "three" })).await["result"]["name"], "three");
    assert_eq!(server.connections(), 1, "{}", host.stderr());
    sleep(IDLE + IDLE).await;
    assert_eq!(host.ask(4, "tools/call", json!({ "name": "four" })).await["result"]["name"], "four");
    assert_eq!(server.connections(), 2, "an idle connection is closed");
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn call_resent_elsewhere_is_not_sent_on_old_connection() {
    let server = Http2Server::start(Behavior { streams: 1, ..PROMPT }).await;
    let mut host = server.host().await;
    host.send(request(1, "tools/call", json!({ "name": "hang" }))).await;
    server.called("hang").await;
    assert_eq!(host.ask(2, "tools/call", json!({ "name": "two" })).await["result"]["name"], "two");
    host.told("accepts no further request on this connection").await;
    // Now the first connection has room for the call that was given up there.
    server.seen.release.notify_one();
    assert_eq!(host.json().await["result"]["name"], "hang");
    sleep(Duration::from_millis(500)).await;
    let bytes = server.seen.bytes.lock().unwrap();
    let sent = String::from_utf8_lossy(&bytes).matches(r#"{"name":"two"}"#).count();
    assert_eq!(sent, 1, "the call may run twice");
}
