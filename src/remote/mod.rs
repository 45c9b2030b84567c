//! The remote end: how a connection is opened with the host's first message, and what comes back as events.
//!
//! An `initialize` decides the transport: each transport of the strategy is tried with that very message (MCP 2025-11-25,
//! Transports, Backwards Compatibility).
//!
//! # Invariants
//!
//! - This program sends no request before the first of the host.
//! - A text does not decide the transport, only a status and a code do.

use std::{pin::pin, sync::Arc, time::Duration};

use log::{debug, info};
use reqwest::{StatusCode, Url};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    config::{Limits, Protocol, Start, TransportStrategy},
    era::known::{Eras, KnownEra},
    era::{self, Era, verdict},
    mcp::{HOST_PATIENCE, TransportKind, method::INITIALIZE, version::FIRST_MODERN},
    message::{Id, Message, peek},
    oauth::Authorizer,
    observer::Fact,
    report::{Code, Report},
    text::{self, chain},
};

mod cancelled;
mod connection;
pub(crate) mod error;
pub(crate) mod event_stream;
pub(crate) mod events;
mod evidence;
pub(crate) mod handshake;
pub(crate) mod http;
mod http_sse;
mod matching;
mod modern;
mod order;
mod report;
mod resumable;
mod retry;
mod session_loss;
mod streamable_http;

pub(crate) use connection::AnyConnection;
use connection::{Connection, Core};
use error::Error;
pub(crate) use events::{EventReceiver, EventSender};
use http::Http;
use http_sse::HttpSse;
use modern::Modern;
use retry::Backoff;
use streamable_http::StreamableHttp;

/// What comes from the remote end.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message of the server.
    Message(Message),
    /// A message got no answer and will get none; `ids` is what it asked, if anything.
    Lost {
        /// The requests that stay unanswered.
        ids: Vec<Id>,
        /// Of the message.
        method: Option<Box<str>>,
        /// Why.
        error: Arc<Error>,
    },
    /// The connection is not established for now; it is tried again.
    Blocked(Arc<Error>),
    /// A lost session has been replaced; this is the server's answer to the host's `initialize`, sent
    /// again.
    Renewed(Message),
}

/// Longest pause between tries to open a connection that nobody waits for any more; a request of the
/// host's cuts it short.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The same while the host may wait for its `initialize`: a server that is back is noticed soon.
const LONGEST_FAST_PAUSE: Duration = Duration::from_secs(2);
/// For so long: the default timeout of hosts that are built on the TypeScript or Python SDK.
const FAST_RETRY_PERIOD: Duration = Duration::from_secs(60);
/// Shortest time from one try to the next, however many requests come.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What is needed to open a connection.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    /// What sends the requests.
    pub http: Arc<Http>,
    /// What obtains credentials; `None` if the user has given one.
    pub authorizer: Option<Arc<Authorizer>>,
    /// Which transports, in which order.
    pub strategy: TransportStrategy,
    /// How long things may take.
    pub limits: Limits,
    /// Which eras.
    pub protocol: Protocol,
    /// What is known of the server's era.
    pub eras: Eras,
    /// Where what comes back goes.
    pub events: EventSender,
}

/// An open connection.
pub(crate) type Remote = Box<dyn AnyConnection>;

impl Opener {
    /// Opens a connection with the host's message. An `initialize` decides the transport and is
    /// answered when this returns; any other message goes by the strategy's first transport.
    ///
    /// Where an `initialize` does not wait, it is tried for as long as trying may help, and at once when
    /// there is a `hurry`; what stands in the way comes as events.
    ///
    /// # Errors
    /// [`Error`]: the message will not be answered by the server.
    pub(crate) async fn open(self, first: Message, hurry: Arc<Notify>) -> Result<Remote, Error> {
        if self.limits.start == Start::Wait || first.method() != Some(INITIALIZE) {
            return self.open_once(&first, self.limits.retry_for).await;
        }
        let began = Instant::now();
        let (mut backoff, mut throttled) = (Backoff::up_to(LONGEST_PAUSE), Backoff::throttled());
        loop {
            let since = Instant::now();
            let error = match self.open_once(&first, Duration::ZERO).await {
                Err(error) if error.may_pass() => error,
                opened => return opened,
            };
            // What the server asks for is waited for, whoever is in a hurry.
            let asked = error.retry_after().unwrap_or_default().min(HOST_PATIENCE);
            let asked = if error.is_throttled() { asked.max(throttled.pause()) } else { asked };
            let longest = if began.elapsed() < FAST_RETRY_PERIOD { LONGEST_FAST_PAUSE } else { LONGEST_PAUSE };
            let pause = backoff.pause().min(longest).max(asked);
            let hurried = (since + SHORTEST_PAUSE).max(Instant::now() + asked);
            debug!("next try in {:.1} s: {}", pause.as_secs_f32(), chain(&error));
            self.events.send(Event::Blocked(Arc::new(error))).await;
            let mut over = pin!(sleep(pause));
            loop {
                tokio::select! {
                    () = &mut over => break,
                    () = hurry.notified() => {
                        let until = hurried.min(over.deadline());
                        over.as_mut().reset(until);
                    }
                }
            }
        }
    }

    async fn open_once(&self, first: &Message, retry_for: Duration) -> Result<Remote, Error> {
        use TransportStrategy::{HttpFirst, HttpOnly, SseFirst, SseOnly};
        if self.speaks_modern(first) {
            self.note_initialize(first);
            let mut remote = Modern::connect(self.core(), self.protocol, self.eras.clone());
            remote.send(first.clone());
            return Ok(Box::new(remote));
        }
        if first.method() != Some(INITIALIZE) {
            let mut remote: Remote = match self.strategy {
                HttpFirst | HttpOnly => Box::new(StreamableHttp::connect(self.core())),
                SseFirst | SseOnly => Box::new(HttpSse::connect(self.core(), first, retry_for).await?),
            };
            remote.send(first.clone());
            return Ok(remote);
        }
        self.note_initialize(first);
        match self.strategy_for_initialize().await {
            HttpOnly => self.over_streamable_http(first, retry_for).await,
            SseOnly => self.over_http_sse(first, retry_for).await,
            HttpFirst => match self.over_streamable_http(first, retry_for).await {
                Err(refused) if speaks_only_http_sse(&refused, first, self.http.server()) => {
                    self.tell_fall_back(TransportKind::StreamableHttp, &refused);
                    info!("no Streamable HTTP here ({}); trying HTTP+SSE", chain(&refused));
                    self.over_http_sse(first, retry_for).await.map_err(|error| both(refused, error))
                }
                opened => opened,
            },
            SseFirst => match self.over_http_sse(first, retry_for).await {
                Err(refused) if speaks_no_http_sse(&refused) => {
                    self.tell_fall_back(TransportKind::HttpSse, &refused);
                    info!("no HTTP+SSE here ({}); trying Streamable HTTP", chain(&refused));
                    self.over_streamable_http(first, retry_for).await.map_err(|error| both(refused, error))
                }
                opened => opened,
            },
        }
    }

    /// Keeps the host's `initialize`, because it names the host.
    fn note_initialize(&self, first: &Message) {
        if let Some(authorizer) = &self.authorizer {
            authorizer.note_initialize(first);
        }
    }

    /// Whether a connection that begins with this message is a modern one.
    fn speaks_modern(&self, first: &Message) -> bool {
        self.protocol != Protocol::Legacy && era::begins_modern(first)
    }

    /// The strategy, with the transport first on which the server has answered before.
    async fn strategy_for_initialize(&self) -> TransportStrategy {
        if self.strategy != TransportStrategy::HttpFirst {
            return self.strategy;
        }
        match self.eras.load().await.and_then(|known| known.legacy_transport) {
            Some(TransportKind::HttpSse) => TransportStrategy::SseFirst,
            _ => self.strategy,
        }
    }

    /// The server has answered `initialize` on this transport. That it speaks Streamable HTTP is what is expected of a
    /// server of which nothing is known.
    async fn note_legacy_transport(&self, transport: TransportKind) {
        let known = match (self.eras.known(), transport) {
            (Some(known), _) if known.legacy_transport == Some(transport) => return,
            (Some(known), _) => known,
            (None, TransportKind::StreamableHttp) => return,
            (None, TransportKind::HttpSse) => {
                KnownEra::new(Era::Legacy, Vec::new(), "initialize over HTTP+SSE".to_owned())
            }
        };
        self.eras.save(KnownEra { legacy_transport: Some(transport), ..known }).await;
    }

    /// A refusal of `initialize` in the words of the modern era: the server speaks no other.
    async fn era_of_refusal(&self, refused: Error) -> Error {
        let Some(answer) = refused.answer() else { return refused };
        let Some(refusal) = verdict::modern_refusal(answer) else { return refused };
        let evidence = format!("initialize: {}", chain(&refused));
        self.eras.save(KnownEra::new(Era::Modern, refusal.supported.clone(), evidence)).await;
        let versions =
            if refusal.supported.is_empty() { FIRST_MODERN.to_owned() } else { refusal.supported.join(", ") };
        let sentence = format!(
            "protocol version not shared: this host begins with initialize (MCP 2025-11-25 and earlier), and {} speaks {} only",
            text::host(self.http.server()),
            text::one_line(versions.as_bytes()),
        );
        let message = Report::new(Code::ProtocolVersionNotShared, sentence.clone(), None).message();
        Error::ModernServer { answer: refusal.answer(&message).map(Box::new), sentence }
    }

    fn core(&self) -> Core {
        Core::new(self.http.clone(), self.authorizer.clone(), self.limits.clone(), self.events.clone())
    }

    async fn over_streamable_http(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let connection = StreamableHttp::connect(self.core());
        match self.initialize(connection, initialize, retry_for, TransportKind::StreamableHttp).await {
            Err(refused) => Err(Box::pin(self.era_of_refusal(refused)).await),
            opened => opened,
        }
    }

    async fn over_http_sse(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let connection = HttpSse::connect(self.core(), initialize, retry_for).await?;
        self.initialize(connection, initialize, retry_for, TransportKind::HttpSse).await
    }

    async fn initialize<T: connection::Transport>(
        &self,
        mut connection: Connection<T>,
        initialize: &Message,
        retry_for: Duration,
        transport: TransportKind,
    ) -> Result<Remote, Error> {
        connection.initialize(initialize, retry_for).await?;
        self.http.observer.tell(|| Fact::Opened(transport));
        self.note_legacy_transport(transport).await;
        Ok(Box::new(connection))
    }

    fn tell_fall_back(&self, from: TransportKind, refused: &Error) {
        self.http.observer.tell(|| Fact::FellBack { from, why: chain(refused) });
    }
}

/// Returns whether the answer to an `initialize` asks for the other transport (MCP 2025-11-25, Transports, Backwards
/// Compatibility). A 400 does too, unless the server has understood the request and answers it.
fn speaks_only_http_sse(refused: &Error, initialize: &Message, server: &Url) -> bool {
    /// HeaderMismatch to UnsupportedProtocolVersion (MCP 2026-07-28, Error Codes).
    const MCP_CODES: std::ops::RangeInclusive<i64> = -32022..=-32020;
    match refused {
        Error::Refused(refusal) if refusal.status == StatusCode::BAD_REQUEST => {
            let code = refusal.answer.as_ref().and_then(|answer| peek::error(&answer.body)).map(|error| error.code);
            !refusal.answers(initialize) && !code.is_some_and(|code| MCP_CODES.contains(&code))
        }
        Error::SpeaksHttpSse => true,
        // Frameworks refuse a POST to the endpoint of HTTP+SSE in many ways, and its URL has a customary end.
        Error::Refused(refusal) if is_customary_for_http_sse(server) => matches!(
            refusal.status,
            StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::GONE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::NOT_IMPLEMENTED
        ),
        Error::NoAnswer(_) => is_customary_for_http_sse(server),
        refused => is_absent(refused),
    }
}

/// Returns whether the URL ends as those of HTTP+SSE servers do.
fn is_customary_for_http_sse(server: &Url) -> bool {
    server.path().trim_end_matches('/').ends_with("/sse")
}

fn speaks_no_http_sse(refused: &Error) -> bool {
    is_absent(refused) || matches!(refused, Error::NoEndpoint(_) | Error::NotMcp(_))
}

fn is_absent(refused: &Error) -> bool {
    matches!(refused.status(), Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED))
}

fn both(first: Error, second: Error) -> Error {
    Error::BothTransports { first: Box::new(first), second: Box::new(second) }
}
