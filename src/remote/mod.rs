//! The remote end: opened with the host's first message, then two verbs, send and what comes back.
//!
//! Which transport it is, is decided by an `initialize` and nothing else: each transport of the
//! strategy is tried with that very message (MCP 2025-11-25, Transports, Backwards Compatibility).
//!
//! Must never: send a probe of our own; fall back because of a text.

use std::{pin::pin, sync::Arc, time::Duration};

use log::{debug, info};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    config::{Protocol, Start, TransportStrategy},
    era::known::{Eras, KnownEra},
    era::{self, Era, verdict},
    mcp::Transport,
    message::{Id, Message},
    oauth::{Authorizer, Requester as Waiter},
    observer::Fact,
    report::{Code, Report},
    text::{self, chain},
};

pub mod cancelled;
pub mod error;
pub mod event_stream;
pub mod events;
pub mod handshake;
pub mod http;
pub mod http_sse;
pub mod modern;
pub mod order;
pub mod reading;
mod report;
pub mod retry;
pub mod streamable_http;

use error::Error;
pub use events::{EventReceiver, EventSender};
use http::Http;
use http_sse::HttpSse;
use modern::Modern;
use retry::{Backoff, LONGEST_RETRY_AFTER, Tries};
use streamable_http::StreamableHttp;

/// What comes from the remote end.
#[derive(Debug)]
pub enum Event {
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
    /// The connection does not come about for now; it goes on being tried.
    Hurdle(Arc<Error>),
    /// A lost session has been replaced; this is the server's answer to the host's `initialize`, sent
    /// again.
    Renewed(Message),
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a message waits for a server that is down, or only starting.
    pub retry_for: Duration,
    /// How long a server may take to answer `initialize`, ours or the host's.
    pub initialize_patience: Duration,
    /// Pause between pings of our own, if there are to be any.
    pub ping: Option<Duration>,
    /// Whether the host's `initialize` waits for as long as the server cannot be reached.
    pub start: Start,
}

impl Timing {
    /// How long a server may take over what a host had set in a session that is replaced: calls wait, and a
    /// session without it is better than none.
    fn restore_patience(&self) -> Duration {
        self.initialize_patience / 2
    }
}

/// Longest pause between tries to open a connection that nobody waits for any more; a request of the
/// host's cuts it short.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The same while the host may wait for its `initialize`: a server that is back is noticed soon.
const LONGEST_PAUSE_IN_HOLD: Duration = Duration::from_secs(2);
/// Hosts wait about this long.
const HOLD: Duration = Duration::from_secs(60);
/// Shortest time from one try to the next, however many requests come.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What is needed to open a connection.
#[derive(Clone, Debug)]
pub struct Opener {
    /// What sends the requests.
    pub http: Arc<Http>,
    /// What obtains credentials; `None` if the user has given one.
    pub authorizer: Option<Arc<Authorizer>>,
    /// Which transports, in which order.
    pub strategy: TransportStrategy,
    /// How long things may take.
    pub timing: Timing,
    /// Which eras.
    pub protocol: Protocol,
    /// What is known of the server's era.
    pub eras: Eras,
    /// Where what comes back goes.
    pub events: EventSender,
}

/// An open connection.
#[derive(Debug)]
pub enum Remote {
    /// MCP 2025-03-26 and later.
    StreamableHttp(StreamableHttp),
    /// MCP 2024-11-05.
    HttpSse(HttpSse),
    /// MCP 2026-07-28 and later.
    Modern(Modern),
}

impl Opener {
    /// Opens a connection with the host's message. An `initialize` decides the transport and is
    /// answered when this returns; any other message goes by the strategy's first transport.
    ///
    /// Where an `initialize` does not wait, it is tried for as long as trying may help, and at once when
    /// there is a `hurry`; what stands in the way comes as events.
    ///
    /// # Errors
    /// [`Error`]: the message will not be answered by the server.
    pub async fn open(self, first: Message, hurry: Arc<Notify>) -> Result<Remote, Error> {
        if self.timing.start == Start::Wait || first.method() != Some("initialize") {
            return self.open_once(&first, self.timing.retry_for).await;
        }
        let began = Instant::now();
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        loop {
            let since = Instant::now();
            let error = match self.open_once(&first, Duration::ZERO).await {
                Err(error) if error.may_pass() => error,
                opened => return opened,
            };
            // What the server asks for is waited for, whoever is in a hurry.
            let asked = error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER);
            let longest = if began.elapsed() < HOLD { LONGEST_PAUSE_IN_HOLD } else { LONGEST_PAUSE };
            let pause = backoff.pause().min(longest).max(asked);
            let hurried = (since + SHORTEST_PAUSE).max(Instant::now() + asked);
            debug!("next try in {:.1} s: {}", pause.as_secs_f32(), chain(&error));
            self.events.send(Event::Hurdle(Arc::new(error))).await;
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
            let (events, eras) = (self.events.clone(), self.eras.clone());
            let mut remote = Modern::new(self.http.clone(), self.timing, self.protocol, events, eras);
            remote.send(first.clone());
            return Ok(Remote::Modern(remote));
        }
        if first.method() != Some("initialize") {
            let mut remote = match self.strategy {
                HttpFirst | HttpOnly => Remote::StreamableHttp(self.streamable_http()),
                SseFirst | SseOnly => Remote::HttpSse(self.stream(first, retry_for).await?),
            };
            remote.send(first.clone());
            return Ok(remote);
        }
        self.note_initialize(first);
        match self.strategy_for_initialize().await {
            HttpOnly => self.over_streamable_http(first, retry_for).await,
            SseOnly => self.over_http_sse(first, retry_for).await,
            HttpFirst => match self.over_streamable_http(first, retry_for).await {
                Err(refused) if speaks_only_http_sse(&refused, first) => {
                    self.tell_fall_back(Transport::StreamableHttp, &refused);
                    info!("no Streamable HTTP here ({}); trying HTTP+SSE", chain(&refused));
                    self.over_http_sse(first, retry_for).await.map_err(|error| both(refused, error))
                }
                opened => opened,
            },
            SseFirst => match self.over_http_sse(first, retry_for).await {
                Err(refused) if speaks_no_http_sse(&refused) => {
                    self.tell_fall_back(Transport::HttpSse, &refused);
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
        match self.eras.recall().await.and_then(|known| known.legacy_transport) {
            Some(Transport::HttpSse) => TransportStrategy::SseFirst,
            _ => self.strategy,
        }
    }

    /// The server has answered `initialize` on this transport. That it speaks Streamable HTTP is what is expected of a
    /// server of which nothing is known.
    async fn note_legacy_transport(&self, transport: Transport) {
        let known = match (self.eras.known(), transport) {
            (Some(known), _) if known.legacy_transport == Some(transport) => return,
            (Some(known), _) => known,
            (None, Transport::StreamableHttp) => return,
            (None, Transport::HttpSse) => KnownEra::new(Era::Legacy, Vec::new(), "initialize over HTTP+SSE".to_owned()),
        };
        self.eras.keep(KnownEra { legacy_transport: Some(transport), ..known }).await;
    }

    /// A refusal of `initialize` in the words of the modern era: the server speaks no other.
    async fn era_of_refusal(&self, refused: Error) -> Error {
        let Some(answer) = refused.answer() else { return refused };
        let Some(refusal) = verdict::modern_refusal(answer) else { return refused };
        let evidence = format!("initialize: {}", chain(&refused));
        self.eras.keep(KnownEra::new(Era::Modern, refusal.supported.clone(), evidence)).await;
        let versions = if refusal.supported.is_empty() {
            crate::mcp::version::FIRST_MODERN.to_owned()
        } else {
            refusal.supported.join(", ")
        };
        let sentence = format!(
            "protocol version not shared: this host begins with initialize (MCP 2025-11-25 and earlier), and {} speaks {} only",
            text::host(self.http.server()),
            text::one_line(versions.as_bytes()),
        );
        let message = Report::new(Code::ProtocolVersionNotShared, sentence.clone(), None).message();
        Error::ModernServer { answer: refusal.answer(&message).map(Box::new), sentence }
    }

    fn streamable_http(&self) -> StreamableHttp {
        StreamableHttp::new(self.http.clone(), self.timing, self.events.clone())
    }

    async fn over_streamable_http(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let mut remote = self.streamable_http();
        if let Err(refused) = remote.initialize(initialize, retry_for).await {
            return Err(Box::pin(self.era_of_refusal(refused)).await);
        }
        self.http.observer.tell(|| Fact::Opened(Transport::StreamableHttp));
        self.note_legacy_transport(Transport::StreamableHttp).await;
        Ok(Remote::StreamableHttp(remote))
    }

    async fn over_http_sse(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let mut remote = self.stream(initialize, retry_for).await?;
        remote.initialize(initialize).await?;
        self.http.observer.tell(|| Fact::Opened(Transport::HttpSse));
        self.note_legacy_transport(Transport::HttpSse).await;
        Ok(Remote::HttpSse(remote))
    }

    fn tell_fall_back(&self, from: Transport, refused: &Error) {
        self.http.observer.tell(|| Fact::FellBack { from, why: chain(refused) });
    }

    /// The event stream, tried for as long as the message may wait for a server that is starting.
    async fn stream(&self, first: &Message, retry_for: Duration) -> Result<HttpSse, Error> {
        let mut tries = Tries::new(first, retry_for);
        let waiter = if first.method() == Some("initialize") { Waiter::Initialize } else { Waiter::Request };
        loop {
            match HttpSse::open(self.http.clone(), self.timing, self.events.clone(), waiter).await {
                Ok(remote) => return Ok(remote),
                Err(error) => tries.wait_after(error).await?,
            }
        }
    }
}

impl Remote {
    /// Sends a message; what becomes of it comes as events.
    pub fn send(&mut self, message: Message) {
        match self {
            Self::StreamableHttp(remote) => remote.send(message),
            Self::HttpSse(remote) => remote.send(message),
            Self::Modern(remote) => remote.send(message),
        }
    }

    /// Finds out whether the connection and the session are still there, and replaces what is not.
    pub fn check(&mut self) {
        match self {
            Self::StreamableHttp(remote) => remote.check(),
            Self::HttpSse(remote) => remote.check(),
            Self::Modern(_) => {} // there is no session, and each request notices a dead connection
        }
    }

    /// Ends everything under way; only [`close`](Self::close) may follow.
    pub fn abandon(&mut self) {
        match self {
            Self::StreamableHttp(remote) => remote.abandon(),
            Self::HttpSse(remote) => remote.abandon(),
            Self::Modern(remote) => remote.abandon(),
        }
    }

    /// Waits until the server has taken every notification and response.
    pub async fn settle(&mut self) {
        match self {
            Self::StreamableHttp(remote) => remote.settle().await,
            Self::HttpSse(remote) => remote.settle().await,
            Self::Modern(_) => {}
        }
    }

    /// Ends the session and everything that belongs to it.
    pub async fn close(self) {
        match self {
            Self::StreamableHttp(remote) => remote.close().await,
            Self::HttpSse(remote) => remote.close(),
            Self::Modern(mut remote) => remote.abandon(),
        }
    }
}

/// What an `initialize` met that says: the other transport (MCP 2025-11-25, Transports, Backwards
/// Compatibility). A 400 says so too, unless the server has understood the request and answers it.
fn speaks_only_http_sse(refused: &Error, initialize: &Message) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<Code>,
    }
    #[derive(Deserialize)]
    struct Code {
        code: i64,
    }
    /// HeaderMismatch to UnsupportedProtocolVersion (MCP 2026-07-28, Error Codes).
    const MCP_CODES: std::ops::RangeInclusive<i64> = -32022..=-32020;
    match refused.status() {
        Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => true,
        Some(StatusCode::BAD_REQUEST) => !refused.answer().is_some_and(|answer| {
            let id = match &answer.shape {
                crate::message::Shape::Response { id } => id.as_ref(),
                _ => None,
            };
            let asked = id.is_some_and(|id| initialize.requests().any(|asked| asked.same_value(id)));
            let code = serde_json::from_slice::<Answer>(&answer.body.to_bytes()).ok().and_then(|answer| answer.error);
            asked || code.is_some_and(|error| MCP_CODES.contains(&error.code))
        }),
        _ => false,
    }
}

fn speaks_no_http_sse(refused: &Error) -> bool {
    matches!(refused.status(), Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED))
        || matches!(refused, Error::NoEndpoint(_) | Error::NotMcp(_))
}

fn both(first: Error, second: Error) -> Error {
    Error::BothTransports { first: Box::new(first), second: Box::new(second) }
}
