//! A scripted HTTP/1.1 server on loopback. A test gives a function from request to reply; the
//! server writes the reply byte for byte, breaks connections when told to, and keeps every request.
//!
//! Written by hand over TCP, because the replies that matter most are those no library would send.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::soon;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case; values of equal names joined by ", ".
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The JSON-RPC method of the body; empty if there is none.
    pub fn rpc(&self) -> String {
        self.json()["method"].as_str().unwrap_or_default().to_owned()
    }

    /// The JSON-RPC id of the body, as text.
    pub fn id(&self) -> String {
        self.json()["id"].to_string()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server does about a request.
pub enum Reply {
    /// Status, headers, body, with `Content-Length`.
    Full(u16, Vec<(String, String)>, Vec<u8>),
    /// Status 200, headers, then pieces as they come, chunked.
    Pieces(Vec<(String, String)>, mpsc::UnboundedReceiver<Piece>),
    /// Exactly these bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// Nothing; the connection is closed.
    Close,
    /// Nothing, for ever; the connection stays open.
    Hang,
}

pub enum Piece {
    Data(Vec<u8>),
    /// The connection is closed without an end of the body.
    Break,
}

/// The sending side of a reply in pieces; dropping it ends the body properly.
#[derive(Clone)]
pub struct Events(mpsc::UnboundedSender<Piece>);

impl Events {
    /// Sends raw text.
    pub fn raw(&self, text: impl AsRef<[u8]>) {
        _ = self.0.send(Piece::Data(text.as_ref().to_vec()));
    }

    /// Sends a `message` event.
    pub fn message(&self, data: impl std::fmt::Display) {
        self.raw(format!("data: {data}\n\n"));
    }

    /// Sends a `message` event with an id.
    pub fn with_id(&self, id: &str, data: impl std::fmt::Display) {
        self.raw(format!("id: {id}\ndata: {data}\n\n"));
    }

    /// Breaks the connection in the middle of the body.
    pub fn break_off(&self) {
        _ = self.0.send(Piece::Break);
    }

    /// Waits until the client reads no more.
    pub async fn closed(&self) {
        soon("the client closes the stream", self.0.closed()).await;
    }

    /// Whether the client still reads.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

impl Reply {
    pub fn json(body: impl std::fmt::Display) -> Self {
        Self::status(200, "application/json", body)
    }

    pub fn status(status: u16, content_type: &str, body: impl std::fmt::Display) -> Self {
        Self::Full(status, vec![("content-type".into(), content_type.into())], body.to_string().into_bytes())
    }

    pub fn empty(status: u16) -> Self {
        Self::Full(status, Vec::new(), Vec::new())
    }

    /// A header more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Full(_, headers, _) | Self::Pieces(headers, _) = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// An event stream, and the hand that feeds it.
    pub fn events() -> (Self, Events) {
        let (sender, pieces) = mpsc::unbounded_channel();
        (Self::Pieces(vec![("content-type".into(), "text/event-stream".into())], pieces), Events(sender))
    }

    /// An event stream that says this and ends.
    pub fn event_text(text: impl AsRef<[u8]>) -> Self {
        let (reply, events) = Self::events();
        events.raw(text);
        reply
    }

    /// A result for the request: JSON.
    pub fn result(request: &Request, result: impl std::fmt::Display) -> Self {
        Self::json(answer(request, result))
    }

    /// A JSON-RPC error in answer to the request.
    pub fn error(request: &Request, code: i64, message: &str) -> Self {
        let error = serde_json::json!({ "code": code, "message": message });
        Self::json(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, request.id()))
    }
}

/// A JSON-RPC response to the request, with this as its result.
pub fn answer(request: &Request, result: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id())
}

/// What an ordinary Streamable HTTP server does: session `s1`, revision as asked, no GET stream,
/// `{"echo": METHOD}` for everything else.
pub fn ordinary(request: &Request) -> Reply {
    match (request.method.as_str(), request.rpc().as_str()) {
        ("GET", _) => Reply::empty(405),
        ("DELETE", _) => Reply::empty(200),
        (_, "initialize") => Reply::result(request, initialize_result(request)).with("mcp-session-id", "s1"),
        (_, _) if request.json().get("id").is_none() || request.rpc().is_empty() => Reply::empty(202),
        (_, method) => Reply::result(request, format!(r#"{{"echo":"{method}"}}"#)),
    }
}

/// The result of `initialize` in the revision that was asked for.
pub fn initialize_result(request: &Request) -> String {
    let version = &request.json()["params"]["protocolVersion"];
    let version = version.as_str().unwrap_or("2025-11-25");
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"peer","version":"1"}}}}"#
    )
}

type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// A running server; ends when dropped.
pub struct Server {
    pub port: u16,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: Mutex<usize>,
    open: Mutex<usize>,
    more: Notify,
}

impl Server {
    /// Starts on a free port.
    pub async fn start<F>(reply: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), reply)
    }

    /// Starts with a function that needs no waiting.
    pub async fn with(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let reply = Arc::new(reply);
        Self::start(move |request| {
            let reply = reply.clone();
            async move { reply(&request) }
        })
        .await
    }

    /// Starts on a port that is bound already (see [`reserved_port`]).
    pub fn on<F>(listener: TcpListener, reply: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let port = listener.local_addr().unwrap().port();
        let handler: Handler = Arc::new(move |request| Box::pin(reply(request)));
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let accepted = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                *accepted.connections.lock().unwrap() += 1;
                *accepted.open.lock().unwrap() += 1;
                let (handler, seen) = (handler.clone(), accepted.clone());
                connections.spawn(async move {
                    _ = serve(stream, handler, &seen).await;
                    *seen.open.lock().unwrap() -= 1;
                    seen.more.notify_waiters();
                });
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    /// `http://127.0.0.1:PORT` and this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Everything asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// "METHOD rpc-method" of everything asked so far.
    pub fn summary(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| format!("{} {}", request.method, request.rpc()).trim().to_owned())
            .collect()
    }

    /// The requests whose JSON-RPC method is this.
    pub fn asked(&self, method: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.rpc() == method).collect()
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        *self.seen.open.lock().unwrap()
    }

    /// Waits until what was asked satisfies a condition, or a connection has closed and it does.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        soon(what, async {
            loop {
                let more = self.seen.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if condition(self) {
                    return;
                }
                more.await;
            }
        })
        .await;
    }

    /// Waits for the first request of this HTTP method and JSON-RPC method ("" for none).
    pub async fn request(&self, method: &str, rpc: &str) -> Request {
        let find = |server: &Self| server.requests().into_iter().find(|r| r.method == method && r.rpc() == rpc);
        self.until(&format!("{method} {rpc}"), |server| find(server).is_some()).await;
        find(self).unwrap()
    }
}

/// A port that nothing listens on, for a server that is to start later. Each is given once, and lies below the ports that
/// systems choose by themselves (32768 and up), because other tests start servers there meanwhile.
pub async fn reserved_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(31).wrapping_add(GIVEN.fetch_add(1, Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
}

/// Binds a port given before; retries for as long as the system may hold it.
pub async fn bind(port: u16) -> TcpListener {
    soon("the port is free", async {
        loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

async fn serve(mut stream: TcpStream, handler: Handler, seen: &Seen) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await? {
        let head = request.method == "HEAD";
        seen.requests.lock().unwrap().push(request.clone());
        seen.more.notify_waiters();
        match handler(request).await {
            Reply::Full(status, headers, body) => {
                let mut text = head_of(status, &headers);
                _ = write!(text, "content-length: {}\r\n\r\n", body.len());
                let mut bytes = text.into_bytes();
                if !head {
                    bytes.extend_from_slice(&body);
                }
                stream.write_all(&bytes).await?;
            }
            Reply::Pieces(headers, mut pieces) => {
                let mut text = head_of(200, &headers);
                text.push_str("transfer-encoding: chunked\r\n\r\n");
                stream.write_all(text.as_bytes()).await?;
                loop {
                    let mut gone = [0; 1];
                    tokio::select! {
                        piece = pieces.recv() => match piece {
                            Some(Piece::Data(data)) => {
                                let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
                                chunk.extend_from_slice(&data);
                                chunk.extend_from_slice(b"\r\n");
                                stream.write_all(&chunk).await?;
                            }
                            Some(Piece::Break) => return Ok(()),
                            None => break,
                        },
                        // The client closes, or (wrongly) sends on: either way the stream is over.
                        _ = stream.read(&mut gone) => return Ok(()),
                    }
                }
                stream.write_all(b"0\r\n\r\n").await?;
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Reply::Close => return Ok(()),
            Reply::Hang => {
                let mut gone = [0; 1];
                _ = stream.read(&mut gone).await;
                return Ok(());
            }
        }
    }
    Ok(())
}

fn head_of(status: u16, headers: &[(String, String)]) -> String {
    let mut text = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in headers {
        _ = write!(text, "{name}: {value}\r\n");
    }
    text
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::<String, String>::new();
    for line in lines {
        if let Some((name, value)) = line.split_once(':') {
            let joined = headers.entry(name.to_ascii_lowercase()).or_default();
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(value.trim());
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = String::from_utf8(buffer.drain(..length).collect()).expect("bodies are UTF-8");
    Ok(Some(Request { method, path, headers, body }))
}
