//! The server of the soak: MCP over Streamable HTTP, and the authorization server, each at its own port of the loopback.
//!
//! # Invariants
//!
//! - Notifications have a number, and an event ID that names the next one: a stream can be resumed after each of them.
//! - The authorization server has no faults, because a spent refresh token whose response is lost ends any sign-in.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Outcome;
use crate::answers::{
    initialize_result, result, text_result, tools, unknown_method, write_chunk_size, write_empty, write_events_end,
    write_events_head, write_json,
};
use crate::asked::{Asked, ToolCall};
use crate::fault::Fault;
use crate::http::{Framing, Head, Wire};
use crate::state::State;
use crate::workload::write_notification;

const BACKLOG: u32 = 4096;
const ROOM: usize = 16 * 1024;
/// Notifications are published in portions of this time.
const TICK: Duration = Duration::from_millis(10);
/// The most notifications in one write.
const PORTION: u32 = 100;
/// Milliseconds after which a client is to open a stream again.
const RETRY: u32 = 100;
/// Every so many calls that are answered by an event stream, the stream ends before its answer and has to be resumed.
const RESUMED_ANSWERS: u32 = 8;
/// Where the authorization server is described (RFC 8414 §3), and the resource (RFC 9728 §3).
const METADATA: &str = "/.well-known/oauth-authorization-server";
const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource/mcp";

#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    port: u16,
    authorization_port: u16,
    state: Mutex<State>,
    /// How many notifications there are.
    published: watch::Sender<u32>,
    faults: watch::Sender<Option<Fault>>,
}

/// What a request's head decides.
struct Request {
    method: String,
    path: String,
    session: Option<String>,
    token: Option<String>,
    last_event: Option<String>,
    framing: Framing,
}

/// How a connection is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Closed,
    Reset,
}

impl Server {
    pub(crate) async fn start() -> Outcome<Self> {
        let endpoint = TcpSocket::new_v4()?;
        endpoint.bind(([127, 0, 0, 1], 0).into())?;
        let endpoint = endpoint.listen(BACKLOG)?;
        let authorization = TcpListener::bind("127.0.0.1:0").await?;
        let server = Self(Arc::new(Shared {
            port: endpoint.local_addr()?.port(),
            authorization_port: authorization.local_addr()?.port(),
            state: Mutex::default(),
            published: watch::Sender::new(0),
            faults: watch::Sender::new(None),
        }));
        tokio::spawn(server.clone().accept(endpoint));
        tokio::spawn(server.clone().accept_token_requests(authorization));
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.0.port)
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.authorization_port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn published(&self) -> u32 {
        *self.0.published.borrow()
    }

    pub(crate) fn inflict(&self, fault: Fault) {
        self.state().inflict(fault);
        self.0.faults.send_replace(Some(fault));
    }

    /// Publishes `count` notifications in `time`, with the `fault` in the middle.
    pub(crate) async fn burst(self, count: u32, time: Duration, fault: Fault) {
        let (started, before) = (Instant::now(), self.published());
        let mut published = 0;
        while published < count {
            sleep_until(started + TICK * (published * 100 / count + 1)).await;
            let share = (started.elapsed().as_secs_f64() / time.as_secs_f64()).min(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of `count`")]
            let due = (f64::from(count) * share) as u32;
            self.0.published.send_replace(before + due);
            if published < count / 2 && due >= count / 2 {
                self.inflict(fault);
            }
            published = due;
        }
    }

    async fn accept(self, endpoint: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = endpoint.accept().await?;
            stream.set_nodelay(true)?;
            let connection = {
                let mut state = self.state();
                state.counts.connections += 1;
                state.counts.connections
            };
            tokio::spawn(self.clone().welcome(stream, connection));
        }
    }

    /// Serves a connection until the client closes it or a fault ends it.
    async fn welcome(self, mut stream: TcpStream, connection: u64) {
        let mut faults = self.0.faults.subscribe();
        let dropped = async {
            while faults.changed().await.is_ok() {
                match *faults.borrow_and_update() {
                    Some(Fault::ConnectionsReset) => return Ending::Reset,
                    Some(Fault::ConnectionsClosed) => break,
                    _ => {}
                }
            }
            Ending::Closed
        };
        let ending = tokio::select! {
            // A client that goes away is nobody's error.
            _ = self.serve(Wire::new(&mut stream, ROOM), connection) => Ending::Closed,
            ending = dropped => ending,
        };
        self.state().end_service(connection);
        if ending == Ending::Reset {
            // A connection that is gone already needs no reset.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, mut wire: Wire<S>, connection: u64) -> io::Result<()> {
        let mut out = Vec::new();
        while let Some(request) = wire.head(Request::of).await? {
            let asked = Asked::read(wire.body(request.framing).await?);
            out.clear();
            self.state().counts.requests += 1;
            if request.method == "GET" && request.path == RESOURCE_METADATA {
                let document = json!({ "resource": self.url(), "authorization_servers": [self.issuer()] });
                write_json(&mut out, "", document.to_string().as_bytes());
            } else if request.path != "/mcp" {
                write_empty(&mut out, "404 Not Found");
            } else if !self.state().authorizes(request.token.as_deref()) {
                let fields = format!(
                    "401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\", resource_metadata=\"http://127.0.0.1:{}{RESOURCE_METADATA}\"",
                    self.0.port
                );
                write_empty(&mut out, &fields);
            } else if let Asked::Initialize { id, version } = &asked {
                let session = format!("Mcp-Session-Id: {}\r\n", self.state().begin_session());
                write_json(&mut out, &session, initialize_result(id, version).as_bytes());
            } else if !self.state().knows_session(request.session.as_deref()) {
                write_empty(&mut out, "404 Not Found");
            } else {
                match request.method.as_str() {
                    "GET" => self.stream(request.last_event.as_deref(), &mut wire, &mut out).await?,
                    "DELETE" => {
                        self.state().counts.deletes += 1;
                        write_empty(&mut out, "200 OK");
                    }
                    _ => self.answer(asked, connection, &mut out).await,
                }
            }
            wire.send(&out).await?;
            self.state().end_service(connection);
        }
        Ok(())
    }

    async fn answer(&self, asked: Asked, connection: u64, out: &mut Vec<u8>) {
        match asked {
            Asked::Nothing | Asked::Initialize { .. } => write_empty(out, "202 Accepted"),
            Asked::Malformed => write_empty(out, "400 Bad Request"),
            Asked::Ping { id } => write_json(out, "", result(&id, "{}").as_bytes()),
            Asked::ListTools { id } => write_json(out, "", result(&id, &tools()).as_bytes()),
            Asked::Unknown { id } | Asked::Discover { id } => write_json(out, "", unknown_method(&id).as_bytes()),
            Asked::Call { id, call } => {
                let Ok(number) = id.parse() else { return write_empty(out, "400 Bad Request") };
                let planned = self.state().execute(connection, number);
                if let Some(fault) = planned {
                    self.inflict(fault);
                }
                match call {
                    ToolCall::Echo { text, sse: false } => write_json(out, "", &text_result(&id, &text)),
                    ToolCall::Echo { text, sse: true } => {
                        write_events_head(out);
                        if number % RESUMED_ANSWERS == 0 {
                            write_event(out, &format!("a-{number}"), &format!("retry: {RETRY}\n"), b"");
                        } else {
                            write_event(out, &format!("a-{number}"), "", &text_result(&id, &text));
                        }
                        write_events_end(out);
                    }
                    ToolCall::Sleep { time } => {
                        sleep(time).await;
                        write_json(out, "", &text_result(&id, "done"));
                    }
                    ToolCall::Burst { .. } | ToolCall::Big { .. } | ToolCall::Swallow { .. } | ToolCall::Bomb => {
                        write_json(out, "", unknown_method(&id).as_bytes());
                    }
                }
            }
        }
    }

    /// The answer that a stream has not brought, or the notifications for as long as no fault ends the stream. Leaves
    /// the end of the stream in `out`.
    async fn stream<S>(&self, last_event: Option<&str>, wire: &mut Wire<S>, out: &mut Vec<u8>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(id) = last_event.and_then(|id| id.strip_prefix("a-")) {
            self.state().counts.resumed_answers += 1;
            write_events_head(out);
            write_event(out, &format!("a-{id}-2"), "", &text_result(id, &format!("call {id}")));
            write_events_end(out);
            return Ok(());
        }
        let mut published = self.0.published.subscribe();
        let mut faults = self.0.faults.subscribe();
        let (stream, mut next) = self.state().begin_stream(last_event);
        write_events_head(out);
        write_chunk(out, format!("id: n-{next}\nretry: {RETRY}\n\n").as_bytes());
        let mut message = Vec::new();
        loop {
            let before = *published.borrow_and_update();
            let portion = before.min(next + PORTION);
            for number in next..portion {
                message.clear();
                write_notification(number, &mut message);
                write_event(out, &format!("n-{}", number + 1), "", &message);
            }
            next = portion;
            self.state().note_sent(next);
            wire.send(out).await?;
            out.clear();
            if faults.has_changed().unwrap_or(false) {
                let fault = *faults.borrow_and_update();
                match fault {
                    Some(Fault::StreamEnds | Fault::SessionLost) => break,
                    Some(Fault::StreamBreaks) => {
                        let mut event = Vec::new();
                        message.clear();
                        write_notification(next, &mut message);
                        write_event(&mut event, &format!("n-{}", next + 1), "", &message);
                        wire.send(&event[..event.len() / 2]).await?;
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    _ => {}
                }
            }
            if next < before {
                continue;
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { break },
                changed = faults.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    faults.mark_changed();
                }
            }
            if self.state().listener != stream {
                break;
            }
        }
        write_events_end(out);
        Ok(())
    }

    async fn accept_token_requests(self, endpoint: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = endpoint.accept().await?;
            let server = self.clone();
            tokio::spawn(async move { server.serve_authorization(Wire::new(stream, ROOM)).await });
        }
    }

    async fn serve_authorization(&self, mut wire: Wire<TcpStream>) -> io::Result<()> {
        let mut out = Vec::new();
        while let Some(request) = wire.head(Request::of).await? {
            let form = String::from_utf8_lossy(wire.body(request.framing).await?).into_owned();
            out.clear();
            match (request.method.as_str(), request.path.as_str()) {
                ("GET", METADATA) => write_json(&mut out, "", self.metadata().as_bytes()),
                ("POST", "/token") => match self.state().refresh(&form) {
                    Some(tokens) => write_json(&mut out, "Cache-Control: no-store\r\n", tokens.to_string().as_bytes()),
                    None => write_empty(&mut out, "400 Bad Request"),
                },
                _ => write_empty(&mut out, "404 Not Found"),
            }
            wire.send(&out).await?;
        }
        Ok(())
    }

    fn metadata(&self) -> String {
        let issuer = self.issuer();
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        })
        .to_string()
    }
}

impl Request {
    fn of(head: &Head<'_>) -> Self {
        let mut words = head.start_line.split(' ').map(str::to_owned);
        let field = |name| head.field(name).map(str::to_owned);
        Self {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            session: field("mcp-session-id"),
            token: head.field("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
            last_event: field("last-event-id"),
            framing: head.framing,
        }
    }
}

/// Writes an event with an ID, in a chunk of its own.
fn write_event(out: &mut Vec<u8>, id: &str, fields: &str, message: &[u8]) {
    let start = format!("id: {id}\n{fields}data: ");
    write_chunk_size(out, start.len() + message.len() + 2);
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(message);
    out.extend_from_slice(b"\n\n\r\n");
}

fn write_chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    write_chunk_size(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
