//! The server under everything that is measured: Streamable HTTP over hand-written HTTP/1.1, one thread, a process of its own.
//!
//! The bench starts itself again with `serve`; the server prints the port of its MCP endpoint and the port of its control
//! endpoint (`GET /stats`, `POST /reset`) and ends when its standard input does.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::answers::{
    EVENT_END, EVENT_START, discovered, initialize_result, refused_initialize, result, text_result, tools,
    unknown_method, write_chunk_size, write_empty, write_event, write_events_end, write_events_head, write_json,
    write_json_head, write_refusal,
};
use crate::asked::{Asked, ToolCall};
use crate::http::{Framing, Wire};
use crate::workload::{BOMB, push_filler, write_notification, write_text_result_end, write_text_result_start};
use crate::{Outcome, tls};

/// A client that opens a connection for each of a thousand calls must not lose any of them to a full queue.
const BACKLOG: u32 = 4096;
const ROOM: usize = 16 * 1024;
const BLOCK: usize = 256 * 1024;
/// Bytes of notifications that are written at once. More are not held, because a client may not read them.
const BURST_BLOCK: usize = 1024 * 1024;
/// Bytes from which on a request is large.
const LARGE_REQUEST: usize = 1024 * 1024;

/// How the server behaves, as told on its command line.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// One round trip: each answer waits one, a new connection waits two before its first request is read.
    pub(crate) round_trip: Duration,
    /// HTTPS; the certificate authority is written to this file.
    pub(crate) authority_file: Option<PathBuf>,
    /// MCP 2026-07-28 only: `initialize` is refused, and there are no sessions.
    pub(crate) is_modern: bool,
    /// From the first large request on, bodies of large requests are not read for this long.
    pub(crate) unread: Duration,
}

impl Manner {
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["serve".to_owned()];
        if !self.round_trip.is_zero() {
            arguments.extend(["--delay-ms".to_owned(), self.round_trip.as_millis().to_string()]);
        }
        if let Some(file) = &self.authority_file {
            arguments.extend(["--tls".to_owned(), file.display().to_string()]);
        }
        if self.is_modern {
            arguments.extend(["--era".to_owned(), "modern".to_owned()]);
        }
        if !self.unread.is_zero() {
            arguments.extend(["--unread-ms".to_owned(), self.unread.as_millis().to_string()]);
        }
        arguments
    }

    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut manner = Self::default();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("an option of `serve` lacks its value")?;
            match name.as_str() {
                "--delay-ms" => manner.round_trip = Duration::from_millis(value.parse()?),
                "--tls" => manner.authority_file = Some(value.into()),
                "--unread-ms" => manner.unread = Duration::from_millis(value.parse()?),
                "--era" => manner.is_modern = value == "modern",
                _ => return Err(format!("`serve` knows no {name}").into()),
            }
        }
        Ok(manner)
    }
}

#[derive(Default)]
struct Counters {
    connections: AtomicU32,
    requests: AtomicU32,
    deletes: AtomicU32,
    /// Requests up to and including the latest `initialize`.
    requests_until_initialize: AtomicU32,
    /// When the first large request since the reset came.
    first_large: Mutex<Option<Instant>>,
}

impl Counters {
    fn reset(&self) {
        for counter in [&self.connections, &self.requests, &self.deletes, &self.requests_until_initialize] {
            counter.store(0, Relaxed);
        }
        *self.first_large.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// When bodies of large requests are read, if that is `pause` after the first of them.
    fn large_read_at(&self, pause: Duration) -> Instant {
        let mut first = self.first_large.lock().unwrap_or_else(PoisonError::into_inner);
        *first.get_or_insert_with(Instant::now) + pause
    }

    fn as_json(&self) -> String {
        json!({
            "connections": self.connections.load(Relaxed),
            "requests": self.requests.load(Relaxed),
            "deletes": self.deletes.load(Relaxed),
            "requests_until_initialize": self.requests_until_initialize.load(Relaxed),
        })
        .to_string()
    }
}

/// The process: serves until standard input ends.
pub(crate) async fn serve(arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let manner = Manner::from_arguments(arguments)?;
    let acceptor = manner.authority_file.as_deref().map(tls::acceptor).transpose()?;
    let endpoint = TcpSocket::new_v4()?;
    endpoint.bind(([127, 0, 0, 1], 0).into())?;
    let endpoint = endpoint.listen(BACKLOG)?;
    let control = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "{} {}", endpoint.local_addr()?.port(), control.local_addr()?.port())?;
    std::thread::spawn(|| {
        // Whatever ends the reading, the bench is gone.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });

    let counters = Arc::new(Counters::default());
    loop {
        tokio::select! {
            accepted = endpoint.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                counters.connections.fetch_add(1, Relaxed);
                let connection =
                    Connection { manner: manner.clone(), counters: Arc::clone(&counters) };
                tokio::spawn(welcome(stream, acceptor.clone(), connection));
            }
            accepted = control.accept() => {
                tokio::spawn(answer_control(accepted?.0, Arc::clone(&counters)));
            }
        }
    }
}

/// A client that goes away, or never finishes its handshake, is nobody's error.
async fn welcome(stream: TcpStream, acceptor: Option<TlsAcceptor>, connection: Connection) {
    if !connection.manner.round_trip.is_zero() {
        sleep(connection.manner.round_trip * 2).await;
    }
    match acceptor {
        None => drop(connection.serve(stream).await),
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(connection.serve(stream).await);
            }
        }
    }
}

async fn answer_control(stream: TcpStream, counters: Arc<Counters>) -> io::Result<()> {
    let mut wire = Wire::new(stream, ROOM);
    while let Some((reset, framing)) =
        wire.head(|head| (head.start_line.starts_with("POST /reset"), head.framing)).await?
    {
        wire.body(framing).await?;
        if reset {
            counters.reset();
        }
        let mut out = Vec::new();
        write_json(&mut out, "", counters.as_json().as_bytes());
        wire.send(&out).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Method {
    Post,
    Delete,
    Other,
}

/// What a request's head decides.
#[derive(Clone, Copy)]
struct Request {
    method: Method,
    to_endpoint: bool,
    in_session: bool,
    framing: Framing,
}

struct Connection {
    manner: Manner,
    counters: Arc<Counters>,
}

impl Connection {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let Manner { is_modern, round_trip, unread, .. } = self.manner;
        let mut wire = Wire::new(stream, ROOM);
        let mut out = Vec::new();
        while let Some(request) = wire
            .head(|head| Request {
                method: match head.start_line.split(' ').next() {
                    Some("POST") => Method::Post,
                    Some("DELETE") => Method::Delete,
                    _ => Method::Other,
                },
                to_endpoint: head.start_line.split(' ').nth(1) == Some("/mcp"),
                in_session: head.field("mcp-session-id").is_some(),
                framing: head.framing,
            })
            .await?
        {
            let count = self.counters.requests.fetch_add(1, Relaxed) + 1;
            if !unread.is_zero() && matches!(request.framing, Framing::Length(LARGE_REQUEST..)) {
                sleep_until(self.counters.large_read_at(unread)).await;
            }
            let asked = Asked::read(wire.body(request.framing).await?);
            if !round_trip.is_zero() {
                sleep(round_trip).await;
            }
            out.clear();
            match (request.method, asked) {
                _ if !request.to_endpoint => write_empty(&mut out, "404 Not Found"),
                (Method::Delete, _) => {
                    self.counters.deletes.fetch_add(1, Relaxed);
                    write_empty(&mut out, "200 OK");
                }
                (Method::Other, _) => write_empty(&mut out, "405 Method Not Allowed"),
                (Method::Post, Asked::Initialize { id, .. }) if is_modern => {
                    write_refusal(&mut out, refused_initialize(&id).as_bytes());
                }
                (Method::Post, Asked::Discover { id }) if is_modern => {
                    write_json(&mut out, "", discovered(&id).as_bytes());
                }
                (Method::Post, Asked::Initialize { id, version }) => {
                    self.counters.requests_until_initialize.store(count, Relaxed);
                    let session = format!("Mcp-Session-Id: bench-{count}\r\n");
                    write_json(&mut out, &session, initialize_result(&id, &version).as_bytes());
                }
                (Method::Post, _) if !request.in_session && !is_modern => write_empty(&mut out, "400 Bad Request"),
                (Method::Post, asked) => self.answer(asked, &mut out, &mut wire).await?,
            }
            wire.send(&out).await?;
            wire.flush().await?;
        }
        Ok(())
    }

    /// Leaves the answer, or the end of a large one, in `out`.
    async fn answer<S>(&self, asked: Asked, out: &mut Vec<u8>, wire: &mut Wire<S>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match asked {
            Asked::Nothing | Asked::Initialize { .. } => write_empty(out, "202 Accepted"),
            Asked::Malformed => write_empty(out, "400 Bad Request"),
            Asked::Ping { id } => write_json(out, "", result(&id, "{}").as_bytes()),
            Asked::ListTools { id } => write_json(out, "", result(&id, &tools()).as_bytes()),
            Asked::Unknown { id } | Asked::Discover { id } => {
                write_json(out, "", unknown_method(&id).as_bytes());
            }
            Asked::Call { id, call } => match call {
                ToolCall::Echo { text, sse: false } => write_json(out, "", &text_result(&id, &text)),
                ToolCall::Echo { text, sse: true } => {
                    write_events_head(out);
                    write_event(out, &text_result(&id, &text));
                    write_events_end(out);
                }
                ToolCall::Swallow { received } => write_json(out, "", &text_result(&id, &received.to_string())),
                ToolCall::Sleep { time } => {
                    sleep(time).await;
                    write_json(out, "", &text_result(&id, "done"));
                }
                ToolCall::Burst { notifications } => {
                    write_events_head(out);
                    let mut message = Vec::new();
                    for number in 0..notifications {
                        message.clear();
                        write_notification(number, &mut message);
                        write_event(out, &message);
                        if out.len() >= BURST_BLOCK {
                            wire.send(out).await?;
                            out.clear();
                        }
                    }
                    write_event(out, &text_result(&id, "done"));
                    write_events_end(out);
                }
                ToolCall::Big { bytes, sse } => send_big(&id, bytes, sse, out, wire).await?,
                ToolCall::Bomb => send_bomb(out, wire).await?,
            },
        }
        Ok(())
    }
}

/// The beginning of an answer that is a quarter of a megabyte on the wire and [`BOMB`] bytes in memory; the rest never comes.
async fn send_bomb<S>(out: &mut Vec<u8>, wire: &mut Wire<S>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Encoded once for all. Not so well that it would be refused for that: every tenth piece is of random digits.
    static ENCODED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        const PIECE: usize = 1024;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        _ = encoder.write_all(b"{\"jsonrpc\":\"2.0\",\"result\":{\"text\":\"");
        let mut random: u32 = 1;
        for piece in 0..BOMB / PIECE {
            let mut filler = [b'a'; PIECE];
            if piece % 10 == 0 {
                for byte in &mut filler {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = b'0' + u8::try_from(random >> 24).unwrap_or_default() % 10;
                }
            }
            _ = encoder.write_all(&filler);
        }
        _ = encoder.flush();
        encoder.get_ref().clone()
    });
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n");
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    write_chunk_size(out, ENCODED.len());
    wire.send(out).await?;
    out.clear();
    wire.send(&ENCODED).await?;
    wire.flush().await?;
    std::future::pending().await
}

/// A text of any size, written in blocks and never held whole.
async fn send_big<S>(id: &str, bytes: usize, sse: bool, out: &mut Vec<u8>, wire: &mut Wire<S>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = Vec::new();
    let mut end = Vec::new();
    write_text_result_start(id, &mut start);
    write_text_result_end(&mut end);
    if sse {
        write_events_head(out);
        write_chunk_size(out, EVENT_START.len() + start.len() + bytes + end.len() + EVENT_END.len());
        out.extend_from_slice(EVENT_START);
    } else {
        write_json_head(out, "", start.len() + bytes + end.len());
    }
    out.extend_from_slice(&start);

    wire.send(out).await?;
    let mut block = Vec::new();
    push_filler(BLOCK, &mut block);
    for _ in 0..bytes / BLOCK {
        wire.send(&block).await?;
    }
    out.clear();
    push_filler(bytes % BLOCK, out);
    out.extend_from_slice(&end);
    if sse {
        out.extend_from_slice(EVENT_END);
        out.extend_from_slice(b"\r\n");
        write_events_end(out);
    }
    Ok(())
}
