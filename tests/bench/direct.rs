//! The limit: the same work straight over HTTP, with as many kept-alive connections as there are calls in flight.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::Outcome;
use crate::http::{Framing, Wire};
use crate::ledger::{Ledger, Tally};
use crate::running_server::Endpoint;
use crate::session::FIRST_CALL_ID;
use crate::workload::Load;

/// More connections than this make a loopback server slower, not faster.
const MOST_CONNECTIONS: u32 = 100;
/// What a connection can read at once, if nothing large is expected.
const ROOM: usize = 16 * 1024;
/// A body up to this size travels in one write with its head.
const SMALL: usize = 64 * 1024;

pub(crate) struct Direct {
    endpoint: Endpoint,
    session: Arc<str>,
    idle: Vec<Connection>,
    next_id: u32,
}

pub(crate) struct Connection {
    wire: Wire<Box<dyn Stream>>,
    out: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Answer<'a> {
    pub(crate) session: Option<String>,
    pub(crate) events: bool,
    pub(crate) body: &'a [u8],
}

/// What an answer's head decides.
struct Seen {
    success: bool,
    events: bool,
    session: Option<String>,
    framing: Framing,
}

impl Direct {
    /// Connects and has `initialize` answered.
    pub(crate) async fn initialize(endpoint: Endpoint, room: usize, request: &[u8]) -> Outcome<Self> {
        let mut connection = Connection::open_with_room(&endpoint, room).await?;
        let answer = connection.exchange("POST /mcp", None, request).await?;
        let session = answer.session.ok_or("the server opened no session")?;
        Ok(Self { endpoint, session: session.into(), idle: vec![connection], next_id: FIRST_CALL_ID })
    }

    /// Sends one message outside any load and waits until the server took or answered it.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Outcome<()> {
        let mut connection = match self.idle.pop() {
            Some(connection) => connection,
            None => Connection::open(&self.endpoint).await?,
        };
        connection.exchange("POST /mcp", Some(&self.session), message).await?;
        self.idle.push(connection);
        Ok(())
    }

    pub(crate) async fn pump(&mut self, load: Load) -> Outcome<Tally> {
        let mut ledger = Ledger::new(load, self.next_id);
        ledger.start();
        let ledger = Arc::new(Mutex::new(ledger));
        let mut lanes = JoinSet::new();
        for _ in 0..load.in_flight.min(MOST_CONNECTIONS) {
            let lane = Lane {
                endpoint: self.endpoint.clone(),
                session: Arc::clone(&self.session),
                ledger: Arc::clone(&ledger),
            };
            lanes.spawn(lane.run(self.idle.pop()));
        }
        while let Some(connection) = lanes.join_next().await {
            self.idle.extend(connection??);
        }
        let ledger = Arc::into_inner(ledger).ok_or("a lane is still running")?;
        let ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.next_id = ledger.next_id();
        Ok(ledger.close())
    }
}

/// One connection's share of a load: one call after the other.
struct Lane {
    endpoint: Endpoint,
    session: Arc<str>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Lane {
    async fn run(self, mut connection: Option<Connection>) -> Outcome<Option<Connection>> {
        let mut request = Vec::new();
        while self.with_ledger(|ledger| ledger.issue(&mut request)) {
            let connection = match &mut connection {
                Some(connection) => connection,
                none => none.insert(Connection::open(&self.endpoint).await?),
            };
            let answer = connection.exchange("POST /mcp", Some(&self.session), &request).await?;
            request.clear();
            if answer.events {
                for line in answer.body.split(|byte| *byte == b'\n') {
                    if let Some(message) = line.strip_prefix(b"data: ") {
                        self.with_ledger(|ledger| ledger.receive(message))?;
                    }
                }
            } else {
                self.with_ledger(|ledger| ledger.receive(answer.body))?;
            }
        }
        Ok(connection)
    }

    fn with_ledger<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint) -> Outcome<Self> {
        Self::open_with_room(endpoint, ROOM).await
    }

    async fn open_with_room(endpoint: &Endpoint, room: usize) -> Outcome<Self> {
        let stream = TcpStream::connect(("127.0.0.1", endpoint.port)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &endpoint.tls {
            None => Box::new(stream),
            Some(connector) => Box::new(connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?),
        };
        Ok(Self { wire: Wire::new(stream, room), out: Vec::new() })
    }

    pub(crate) async fn exchange(&mut self, request: &str, session: Option<&str>, body: &[u8]) -> Outcome<Answer<'_>> {
        self.out.clear();
        self.out.extend_from_slice(request.as_bytes());
        self.out.extend_from_slice(
            b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n",
        );
        if let Some(session) = session {
            self.out.extend_from_slice(b"Mcp-Session-Id: ");
            self.out.extend_from_slice(session.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        if body.len() <= SMALL {
            self.out.extend_from_slice(body);
            self.wire.send(&self.out).await?;
        } else {
            self.wire.send(&self.out).await?;
            self.wire.send(body).await?;
        }
        self.wire.flush().await?;

        let seen = self.wire.head(|head| Seen {
            success: head.start_line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')),
            events: head.field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
            session: head.field("mcp-session-id").map(str::to_owned),
            framing: head.framing,
        });
        let seen = seen.await?.ok_or("the server closed the connection")?;
        if !seen.success {
            return Err("the server refused a request".into());
        }
        let body = self.wire.body(seen.framing).await?;
        Ok(Answer { session: seen.session, events: seen.events, body })
    }
}
