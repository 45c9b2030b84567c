//! How a connection is opened with the host's first message: the transport and the era that the server speaks.
//!
//! An `initialize` decides the transport: each transport of the strategy is tried with that very message (MCP 2025-11-25,
//! Transports, Backwards Compatibility). A server that has no `initialize` is asked `server/discover` (MCP 2026-07-28,
//! Versioning), and the host is served over a bridge.
//!
//! # Invariants
//!
//! - This program sends no request before the first of the host.
//! - A text does not decide the transport, only a status and a code do.
//! - Each question is asked once: `initialize`, and `server/discover`.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use log::{debug, info};
use reqwest::{StatusCode, Url};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Event, Remote,
    bridged::Bridged,
    connection::{AnyConnection, Connection, Core, Transport},
    deciding::Deciding,
    error::Error,
    events::{self, EventSender},
    http::Http,
    http_sse::HttpSse,
    modern::Modern,
    retry::Backoff,
    streamable_http::StreamableHttp,
};
use crate::{
    config::{Limits, Protocol, Start, TransportStrategy},
    era::{
        self, Era,
        known::{Eras, KnownEra},
        legacy_host::{self, LegacyHost},
        modern_host::{self, ModernHost},
        opening::{self, Begins, Question},
        verdict,
    },
    known_hosts::{self, HostName},
    mcp::{
        HOST_PATIENCE, TransportKind,
        method::{DISCOVER, INITIALIZE},
        version::FIRST_MODERN,
    },
    message::{Message, Shape, peek},
    oauth::{self, Asking, Authorizer, Need, Requester},
    observer::{Fact, NotDiscovered},
    report::{Code, Report},
    text::{self, chain},
};

/// Longest pause between tries to open a connection that nobody waits for; a request of the
/// host's cuts it short.
const LONGEST_UNAWAITED_PAUSE: Duration = Duration::from_secs(10);
/// The same while the host may wait for its `initialize`: a server that is back is noticed soon.
const LONGEST_FAST_PAUSE: Duration = Duration::from_secs(2);
/// For so long: the default timeout of hosts that are built on the TypeScript or Python SDK.
const FAST_RETRY_PERIOD: Duration = Duration::from_secs(60);
/// Shortest time from one try to the next, however many requests come.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Why no version is shared: the words around the versions of the server.
struct NotShared {
    before: &'static str,
    after: &'static str,
}

/// The user has ruled the modern era out.
const ONLY_LEGACY: NotShared = NotShared {
    before: "the host uses MCP 2025-11-25 or earlier (initialize), --protocol legacy is set, and ",
    after: "",
};
/// The server is of a later time.
const NO_VERSION: NotShared = NotShared { before: "mcp-remote supports MCP 2026-07-28 and earlier, and ", after: "" };
/// The server refuses both questions.
const NOT_DISCOVERED: NotShared = NotShared {
    before: "the host uses MCP 2025-11-25 or earlier (initialize), and ",
    after: ", but does not answer server/discover",
};

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

impl Opener {
    /// Opens a connection with the host's message. An `initialize` decides the transport and is
    /// answered when this returns; any other message goes by the strategy's first transport.
    ///
    /// Where an `initialize` does not wait, it is tried for as long as trying may help, and at once when
    /// there is a `hurry`; what stands in the way comes as events. A user who wants no retries gets none.
    ///
    /// # Errors
    /// [`Error`]: the message will not be answered by the server.
    pub(crate) async fn open(self, first: Message, hurry: Arc<Notify>) -> Result<Remote, Error> {
        let waits = self.limits.start != Start::Wait && !self.limits.retry_for.is_zero();
        if !waits || first.method() != Some(INITIALIZE) {
            return self.open_once(&first, self.limits.retry_for).await;
        }
        let began = Instant::now();
        let (mut backoff, mut throttled) = (Backoff::up_to(LONGEST_UNAWAITED_PAUSE), Backoff::throttled());
        loop {
            let since = Instant::now();
            let error = match self.open_once(&first, Duration::ZERO).await {
                Err(error) if error.may_pass() => error,
                opened => return opened,
            };
            // The pause that the server asks for is kept, also for a host in a hurry.
            let asked = error.retry_after().unwrap_or_default().min(HOST_PATIENCE);
            let asked = if error.is_throttled() { asked.max(throttled.pause()) } else { asked };
            let longest =
                if began.elapsed() < FAST_RETRY_PERIOD { LONGEST_FAST_PAUSE } else { LONGEST_UNAWAITED_PAUSE };
            let pause = backoff.pause().min(longest).max(asked);
            let hurried = (since + SHORTEST_PAUSE).max(Instant::now() + asked);
            debug!("next attempt in {:.1} s: {}", pause.as_secs_f32(), chain(&error));
            self.events.send(Event::Blocked(Arc::new(error), pause)).await;
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
        if era::begins_modern(first) {
            self.note_first(first);
            let opener = self.clone();
            let decide = move |first: Message| {
                let opener = opener.clone();
                Box::pin(async move { opener.open_for_modern(&first).await }) as Pin<Box<_>>
            };
            let mut remote = Box::new(Deciding::new(Arc::new(decide), self.events.clone()));
            remote.send(first.clone());
            return Ok(remote);
        }
        if first.method() != Some(INITIALIZE) {
            let mut remote: Remote = match self.strategy {
                HttpFirst | HttpOnly => Box::new(StreamableHttp::connect(self.core())),
                SseFirst | SseOnly => Box::new(HttpSse::connect(self.core(), first, retry_for).await?),
            };
            remote.send(first.clone());
            return Ok(remote);
        }
        self.note_first(first);
        self.open_for_legacy(first, retry_for).await
    }

    /// Opens a connection for a legacy host with its `initialize`, which is answered when this returns.
    async fn open_for_legacy(&self, first: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let known = self.eras.load().await;
        let mut refused: Option<Error> = None;
        for question in opening::questions(Begins::Initialize, self.protocol, known.as_ref(), Era::Modern) {
            let error = match question {
                Question::Initialize => {
                    match self.initialize_by(self.strategy_with(known.as_ref()), first, retry_for).await {
                        Err(error) if error.is_not_understood(first) => error,
                        opened => return opened,
                    }
                }
                Question::Discover => match self.behind_bridge(first, retry_for).await {
                    Err(error @ Error::LegacyServer { .. }) => error,
                    Err(error) if refused.is_some() && !error.may_pass() && !is_of_modern(&error) => error,
                    Ok(opened) => {
                        self.note_that_initialize_is_refused(refused.as_ref()).await;
                        self.tell_discovered(true, known);
                        return Ok(opened);
                    }
                    failed => return failed,
                },
                Question::LeftToHost => continue,
            };
            let method = if *question == Question::Initialize { INITIALIZE } else { DISCOVER };
            debug!("cannot open a connection to this server with {method}: {}", chain(&error));
            // What the server says about the host's own message is what the host is told.
            if *question == Question::Initialize || refused.is_none() {
                refused = Some(error);
            }
        }
        Err(match (refused, self.protocol) {
            (Some(Error::NotLegacy { answer, .. }), Protocol::Legacy) => self.version_not_shared(*answer, &ONLY_LEGACY),
            (Some(Error::NotLegacy { answer, .. }), _) => self.version_not_shared(*answer, &NOT_DISCOVERED),
            (Some(refused), _) => refused,
            (None, _) => Error::NoAnswer("was not asked"),
        })
    }

    /// The server speaks modern versions only, if it has refused `initialize` just now.
    async fn note_that_initialize_is_refused(&self, refused: Option<&Error>) {
        let Some(refused) = refused else { return };
        let evidence = format!("initialize: {}", chain(refused));
        let known = self.eras.known().unwrap_or_else(|| KnownEra::new(Era::Modern, Vec::new(), evidence));
        self.eras.save(KnownEra { era: Era::Modern, refuses_initialize: true, ..known }).await;
    }

    /// Sends the host's `initialize` on each transport of the strategy.
    async fn initialize_by(
        &self,
        strategy: TransportStrategy,
        first: &Message,
        retry_for: Duration,
    ) -> Result<Remote, Error> {
        use TransportStrategy::{HttpFirst, HttpOnly, SseFirst, SseOnly};
        match strategy {
            HttpOnly => self.over_streamable_http(first, retry_for).await,
            SseOnly => self.over_http_sse(first, retry_for).await,
            HttpFirst => match self.over_streamable_http(first, retry_for).await {
                Err(refused) if speaks_only_http_sse(&refused, first, self.http.server()) => {
                    self.tell_fall_back(TransportKind::StreamableHttp, &refused);
                    info!("Streamable HTTP not supported ({}); falling back to HTTP+SSE", chain(&refused));
                    self.over_http_sse(first, retry_for).await.map_err(|error| both(refused, error))
                }
                opened => opened,
            },
            SseFirst => match self.over_http_sse(first, retry_for).await {
                Err(refused) if speaks_no_http_sse(&refused) => {
                    self.tell_fall_back(TransportKind::HttpSse, &refused);
                    info!("HTTP+SSE not supported ({}); falling back to Streamable HTTP", chain(&refused));
                    self.over_streamable_http(first, retry_for).await.map_err(|error| both(refused, error))
                }
                opened => opened,
            },
        }
    }

    /// Why a host has waited long enough: a person has to sign in, or the server is silent.
    fn still_waiting(&self) -> Error {
        let need = self.authorizer.as_ref().map(|authorizer| authorizer.need().borrow().clone());
        match need {
            Some(Need::Person(Asking { prompt, .. })) => {
                let prompt = prompt.map(|prompt| prompt.to_string());
                Error::Unauthorized(Box::new(oauth::error::Error::Waiting { prompt }))
            }
            _ => Error::Silent { what: "answer to initialize", after: HOST_PATIENCE },
        }
    }

    /// Asks `server/discover` in the place of the host's `initialize`, which is answered from it.
    async fn behind_bridge(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let (sender, events) = events::channel();
        let core = Core::new(self.http.clone(), self.authorizer.clone(), self.limits.clone(), sender);
        let connection = Modern::connect(core, self.eras.clone());
        let Some(question) = legacy_host::discover_for(initialize) else {
            return Err(Error::NoAnswer("was not asked: the host's initialize cannot be read"));
        };
        let discovered = connection.discover(&question, retry_for).await.map_err(|error| match error.answer() {
            Some(answer) if names_other_versions(answer) => self.version_not_shared(answer.clone(), &NO_VERSION),
            _ => error,
        })?;
        let server = text::host(self.http.server());
        let (bridge, answer) = LegacyHost::begin(server, initialize, &discovered).map_err(|versions| {
            Error::ModernServer { sentence: self.sentence(&NO_VERSION, &versions), answer: None }
        })?;
        info!("translating between the host (MCP 2025-11-25 or earlier) and the server (MCP 2026-07-28)");
        self.events.send(Event::Message(answer)).await;
        Ok(Box::new(Bridged::new(bridge, Box::new(connection), events, self.events.clone())))
    }

    /// Keeps the host's first message, because it names the host.
    fn note_first(&self, first: &Message) {
        if let Some(authorizer) = &self.authorizer {
            authorizer.note_first(first);
        }
    }

    /// Opens a connection for a modern host with its first request, which is sent, or answered by what was found out.
    ///
    /// # Errors
    /// [`Error`]: the request will not be answered; [`Error::LegacyServer`] for a `server/discover` after which the host
    /// goes on with `initialize`.
    async fn open_for_modern(&self, first: &Message) -> Result<Remote, Error> {
        let known = self.eras.load().await;
        let begins = match first.method() {
            Some(DISCOVER) => Begins::Discover { falls_back: known_hosts::falls_back(&HostName::of(first)) },
            _ => Begins::Request,
        };
        let is_discover = begins != Begins::Request;
        let retry_for = if is_discover { Duration::ZERO } else { self.limits.retry_for };
        // A user who names the older transport first expects the older era.
        let prefers = if self.strategy.has_http_first() { Era::Modern } else { Era::Legacy };
        let mut refused: Option<Error> = None;
        for question in opening::questions(begins, self.protocol, known.as_ref(), prefers) {
            let error = match question {
                Question::Discover => {
                    // Another request crosses as it is, where the era is known.
                    let is_known = known.is_some() && refused.is_none() || self.protocol == Protocol::Modern;
                    match self.over_modern(first, is_known, retry_for).await {
                        Err(error @ Error::LegacyServer { .. }) => error,
                        opened => {
                            if opened.is_ok() && is_discover {
                                self.tell_discovered(false, known);
                            }
                            return opened;
                        }
                    }
                }
                Question::Initialize => match self.over_legacy(first, known.as_ref(), retry_for).await {
                    Err(error @ Error::NotLegacy { .. }) => error,
                    opened => return opened,
                },
                Question::LeftToHost => {
                    let words = match refused {
                        Some(Error::LegacyServer { words }) => words,
                        _ => None,
                    };
                    let why = words.clone();
                    self.http.observer.tell(|| Fact::NotDiscovered(Box::new(NotDiscovered { why, known })));
                    return Err(Error::LegacyServer { words });
                }
            };
            refused.get_or_insert(error);
        }
        Err(refused.unwrap_or(Error::NoAnswer("was not asked")))
    }

    /// A modern host at a modern server. Whether it is one is asked with `server/discover`, the host's own or one with the
    /// metadata of its request, unless that is known.
    async fn over_modern(&self, first: &Message, is_known: bool, retry_for: Duration) -> Result<Remote, Error> {
        let mut connection = Modern::connect(self.core(), self.eras.clone());
        let is_discover = first.method() == Some(DISCOVER);
        if is_discover || !is_known {
            let question = if is_discover { Some(first.clone()) } else { era::discover_like(first) };
            let Some(question) = question else {
                return Err(Error::NoAnswer("was not asked: the host's request cannot be read"));
            };
            let answer = connection.discover(&question, retry_for).await?;
            if let (true, Some(id)) = (is_discover, first.requests().next()) {
                self.events.send(Event::Message(answer.with_id(id))).await;
                return Ok(Box::new(connection));
            }
        }
        connection.send(first.clone());
        Ok(Box::new(connection))
    }

    /// A modern host at a legacy server, over a bridge.
    async fn over_legacy(
        &self,
        first: &Message,
        known: Option<&KnownEra>,
        retry_for: Duration,
    ) -> Result<Remote, Error> {
        let unreadable = || Error::NoAnswer("was not asked: the host's request cannot be read");
        let initialize = modern_host::initialize_for(first).ok_or_else(unreadable)?;
        let (sender, mut events) = events::channel();
        let within = Self { events: sender, ..self.clone() };
        // The host waits for an answer to its own request meanwhile, and a sign-in takes longer than hosts do.
        let until = self.authorizer.as_ref().and_then(|authorizer| authorizer.patience(Requester::Request));
        let until = until.unwrap_or_else(|| Instant::now() + HOST_PATIENCE);
        let opening = timeout_at(until, within.initialize_by(self.strategy_with(known), &initialize, retry_for));
        let Ok(opened) = opening.await else { return Err(self.still_waiting()) };
        let mut connection = opened?;
        let asked = initialize.requests().next();
        let answer = loop {
            match events.recv().await {
                Some(Event::Message(message)) if matches!(&message.shape, Shape::Response { id } if id.as_ref() == asked) =>
                {
                    break message;
                }
                Some(_) => {} // what else comes with the answer is of a session that nobody has yet
                None => return Err(Error::NoAnswer("did not answer initialize")),
            }
        };
        if let Some(error) = peek::error(&answer.body) {
            let words = error.message.map(|words| self.http.masked_line(words.as_bytes()));
            return Err(Error::LegacyServer { words });
        }
        if let Some(initialized) = modern_host::initialized() {
            connection.send(initialized);
            connection.listen_now(); // what the host listens to is promised with the acknowledgment
        }
        info!("translating between the host (MCP 2026-07-28) and the server (MCP 2025-11-25 or earlier)");
        let bridge = ModernHost::begin(&text::host(self.http.server()), &answer);
        let mut remote = Bridged::new(bridge, connection, events, self.events.clone());
        remote.send(first.clone());
        Ok(Box::new(remote))
    }

    /// The strategy, with the transport first on which the server has answered before.
    fn strategy_with(&self, known: Option<&KnownEra>) -> TransportStrategy {
        match known.and_then(|known| known.legacy_transport) {
            Some(TransportKind::HttpSse) if self.strategy == TransportStrategy::HttpFirst => {
                TransportStrategy::SseFirst
            }
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

    /// No version is shared: with what the server has answered, in words that hosts show.
    fn version_not_shared(&self, answer: Message, why: &NotShared) -> Error {
        let Some(refusal) = verdict::modern_refusal(&answer) else { return self.http.not_legacy(answer) };
        let versions =
            if refusal.supported.is_empty() { FIRST_MODERN.to_owned() } else { refusal.supported.join(", ") };
        let sentence = self.sentence(why, &versions);
        let message = Report::new(Code::ProtocolVersionNotShared, sentence.clone(), None).message();
        Error::ModernServer { answer: refusal.answer(&message).map(Box::new), sentence }
    }

    fn sentence(&self, NotShared { before, after }: &NotShared, versions: &str) -> String {
        let server = text::host(self.http.server());
        let versions = self.http.masked_line(versions.as_bytes());
        format!("protocol version not shared: {before}{server} supports only {versions}{after}")
    }

    fn core(&self) -> Core {
        Core::new(self.http.clone(), self.authorizer.clone(), self.limits.clone(), self.events.clone())
    }

    async fn over_streamable_http(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let connection = StreamableHttp::connect(self.core());
        match self.initialize(connection, initialize, retry_for, TransportKind::StreamableHttp).await {
            Err(refused) => Err(match &refused {
                Error::Refused(refusal) => match &refusal.answer {
                    Some(answer)
                        if verdict::modern_refusal(answer).is_some()
                            || refusal.answers(initialize) && verdict::asks_for_discover(answer) =>
                    {
                        self.http.not_legacy(answer.clone())
                    }
                    _ => refused,
                },
                _ => refused,
            }),
            opened => opened,
        }
    }

    async fn over_http_sse(&self, initialize: &Message, retry_for: Duration) -> Result<Remote, Error> {
        let connection = HttpSse::connect(self.core(), initialize, retry_for).await?;
        self.initialize(connection, initialize, retry_for, TransportKind::HttpSse).await
    }

    async fn initialize<T: Transport>(
        &self,
        mut connection: Connection<T>,
        initialize: &Message,
        retry_for: Duration,
        transport: TransportKind,
    ) -> Result<Remote, Error> {
        connection.initialize(initialize, retry_for).await?;
        self.http.observer.tell(|| Fact::Opened(transport, Era::Legacy));
        self.note_legacy_transport(transport).await;
        Ok(Box::new(connection))
    }

    fn tell_discovered(&self, refuses_initialize: bool, known: Option<KnownEra>) {
        self.http.observer.tell(|| Fact::Discovered { refuses_initialize, known: known.map(Box::new) });
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

/// Returns whether the server is one of the modern era, whose versions are not known here.
fn is_of_modern(error: &Error) -> bool {
    matches!(error, Error::ModernServer { .. })
}

/// Returns whether a refusal of `server/discover` names the versions to speak, none of which is known here.
fn names_other_versions(answer: &Message) -> bool {
    verdict::modern_refusal(answer).is_some_and(|refusal| !refusal.supported.is_empty() && !refusal.is_shared())
}

fn both(first: Error, second: Error) -> Error {
    Error::BothTransports { first: Box::new(first), second: Box::new(second) }
}
