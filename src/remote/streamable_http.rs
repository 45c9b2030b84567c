//! Streamable HTTP (MCP 2025-03-26, 2025-06-18, 2025-11-25; Transports, Streamable HTTP).
//!
//! Each message is a POST of its own, whose answer is JSON or an event stream. Beside them one GET
//! stream carries what the server says unasked. A session that the server has lost is replaced, once
//! for all who notice, and each message that met its end goes out once more.
//!
//! Must never: end a POST's exchange without each of its requests being answered or reported lost;
//! hand the host an answer to a request of our own.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use log::{debug, info, warn};
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Event, Timing,
    error::{Error, Refusal},
    event_stream::EventStream,
    handshake::{Handshake, Initialized},
    http::{Http, PROTOCOL_VERSION, SESSION_ID, is_event_stream},
    order::{self, Order},
    retry::{Backoff, Tries},
};
use crate::{
    message::{Id, Message, Part, Shape},
    report::chain,
};

/// Reconnection time of a stream that named none.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between tries to open the GET stream. An idle stream is worth little traffic.
const LONGEST_STREAM_PAUSE: Duration = Duration::from_secs(60);
/// The GET stream waits for the first answer, so as not to take the one warm connection from the
/// request that follows the handshake; a host that asks nothing gets it after this.
const QUIET: Duration = Duration::from_millis(200);
/// Failed tries in a row to resume a stream, each after a growing pause, before its answer is lost.
const MOST_RESUMPTIONS: u32 = 8;
/// A session this young that has never answered is not lost but refused; without the rule a server
/// that answers 404 to everything would be initialised again for each message.
const PROBATION: Duration = Duration::from_secs(5);
/// Event ids kept of a stream, to know what a server replays after a resumption.
const REMEMBERED_IDS: usize = 1024;

/// An open connection. Dropping it ends everything that belongs to it.
#[derive(Debug)]
pub struct StreamableHttp {
    shared: Arc<Shared>,
    /// Requests under way, the GET stream, the keep-alive.
    tasks: JoinSet<()>,
    /// Notifications and responses under way.
    notes: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    http: Arc<Http>,
    timing: Timing,
    events: mpsc::Sender<Event>,
    handshake: Handshake,
    order: Order,
    session: watch::Sender<Arc<Session>>,
    /// A request other than `initialize` has been answered.
    answered: Notify,
    /// The server has taken `notifications/initialized`.
    initialized: Notify,
}

/// What all messages since one `initialize` have in common.
#[derive(Debug)]
struct Session {
    epoch: u64,
    /// All headers: the user's, session and revision.
    headers: HeaderMap,
    since: Instant,
    /// Has answered anything after its `initialize`.
    proven: AtomicBool,
}

impl Session {
    fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION_ID)
    }

    /// `true` until the server has answered `initialize`.
    fn is_blank(&self) -> bool {
        self.epoch == 0
    }

    fn may_be_lost(&self) -> bool {
        self.proven.load(Relaxed) || self.since.elapsed() >= PROBATION
    }
}

/// What came of a lost session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// There is a new one, made now or by somebody else meanwhile.
    Made,
    /// The lost one had never worked, or there is no `initialize` to repeat.
    Pointless,
}

/// Who wants the answers of an exchange.
enum Wanted {
    /// The host.
    Host,
    /// The host, but the answer to its `initialize` makes the session first.
    Session(Option<HeaderValue>),
    /// We: the answer to this id stays here.
    Us(Id, Option<Message>),
}

impl StreamableHttp {
    /// A connection on which nothing has been sent.
    #[must_use]
    pub fn new(http: Arc<Http>, timing: Timing, events: mpsc::Sender<Event>) -> Self {
        let blank = Session {
            epoch: 0,
            headers: http.headers().clone(),
            since: Instant::now(),
            proven: AtomicBool::new(false),
        };
        let shared = Shared {
            http,
            timing,
            events,
            handshake: Handshake::default(),
            order: Order::default(),
            session: watch::Sender::new(Arc::new(blank)),
            answered: Notify::new(),
            initialized: Notify::new(),
        };
        Self { shared: Arc::new(shared), tasks: JoinSet::new(), notes: JoinSet::new() }
    }

    /// Sends the host's `initialize`, tries again as long as the server may only be starting, and
    /// returns when it is answered.
    ///
    /// # Errors
    /// [`Error`], if the server gave no answer that is the host's.
    pub async fn initialize(&mut self, initialize: &Message) -> Result<(), Error> {
        let shared = &self.shared;
        let mut tries = Tries::new(initialize, shared.timing.retry_for);
        loop {
            match shared.establish(initialize).await {
                Ok(()) => break,
                Err(error) => match tries.again(&error) {
                    Some(pause) => {
                        info!(
                            "cannot reach the server yet, next try in {:.1} s: {}",
                            pause.as_secs_f32(),
                            chain(&error)
                        );
                        tokio::time::sleep(pause).await;
                    }
                    None => return Err(error),
                },
            }
        }
        self.tasks.spawn(self.shared.clone().follow_sessions());
        if let Some(every) = self.shared.timing.ping {
            self.tasks.spawn(self.shared.clone().keep_alive(every));
        }
        Ok(())
    }

    /// Sends a message; what becomes of it comes as events.
    pub fn send(&mut self, message: Message) {
        let shared = self.shared.clone();
        if matches!(message.shape, Shape::Batch(_)) && !shared.takes_batches() {
            // MCP 2025-06-18 has no batches any more.
            for part in message.split().into_iter().flatten() {
                self.send(part);
            }
            return;
        }
        shared.handshake.note(&message);
        let tasks = if message.requests().next().is_some() { &mut self.tasks } else { &mut self.notes };
        while tasks.try_join_next().is_some() {}
        match &message.shape {
            Shape::Notification { method } if &**method == "notifications/initialized" => {
                let barrier = shared.order.barrier();
                tasks.spawn(async move {
                    order::hold(barrier, pin!(shared.carry(&message))).await;
                    shared.initialized.notify_one();
                })
            }
            Shape::Notification { .. } => tasks.spawn(async move {
                shared.order.pass().await;
                shared.order.in_turn(pin!(shared.carry(&message))).await;
            }),
            // A future of its own, because there is one for each request: it is kept small.
            _ => tasks.spawn(async move {
                shared.order.pass().await;
                shared.carry(&message).await;
            }),
        };
    }

    /// Waits until what wants no answer has been taken.
    pub async fn settle(&mut self) {
        while self.notes.join_next().await.is_some() {}
    }

    /// Ends the session (MCP 2025-11-25, Transports, Session Management: DELETE).
    pub async fn close(mut self) {
        self.tasks.abort_all();
        let session = self.shared.session.borrow().clone();
        if session.has_id() {
            self.shared.http.delete(self.shared.http.server(), &session.headers).await;
        }
    }
}

impl Shared {
    /// Whether the negotiated revision is the one that has batches (MCP 2025-03-26, Base Protocol).
    fn takes_batches(&self) -> bool {
        self.session.borrow().headers.get(PROTOCOL_VERSION).is_some_and(|version| version == "2025-03-26")
    }

    /// Takes a message of the host all the way: until it is accepted, answered or lost.
    async fn carry(&self, message: &Message) {
        let mut unanswered: Vec<Id> = message.requests().cloned().collect();
        let mut tries = Tries::new(message, self.timing.retry_for);
        let mut in_new_session = false;
        let error = loop {
            let session = self.session.borrow().clone();
            let before = unanswered.len();
            let error = match self.exchange(message, &session, &mut unanswered, &mut Wanted::Host).await {
                Ok(()) => {
                    session.proven.store(true, Relaxed);
                    if before > 0 {
                        self.answered.notify_one();
                    }
                    return;
                }
                Err(error) => error,
            };
            if unanswered.len() < before {
                break error; // some of a batch is answered: it cannot go out again as a whole
            }
            let error = match error {
                Error::SessionLost(_) if !in_new_session => match Box::pin(self.renew(&session)).await {
                    // The new session has been told already.
                    Ok(Renewal::Made) if message.method() == Some("notifications/initialized") => return,
                    Ok(Renewal::Made) => {
                        in_new_session = true;
                        continue;
                    }
                    Ok(Renewal::Pointless) => error,
                    Err(renewal) => renewal,
                },
                error => error,
            };
            match tries.again(&error) {
                Some(pause) => {
                    debug!("again in {:.1} s: {}", pause.as_secs_f32(), chain(&error));
                    tokio::time::sleep(pause).await;
                    self.order.pass().await;
                }
                None => break error,
            }
        };
        // The server's own words, if they are for one request only.
        if let ([id], Some(answer)) = (unanswered.as_slice(), error.answer()) {
            _ = self.events.send(Event::Message(answer.with_id(id))).await;
        } else {
            _ = self
                .events
                .send(Event::Lost { ids: unanswered, method: message.method().map(Into::into), error: Arc::new(error) })
                .await;
        }
    }

    /// Makes the session with the host's `initialize`.
    async fn establish(&self, initialize: &Message) -> Result<(), Error> {
        self.handshake.note(initialize);
        let blank = self.session.borrow().clone();
        let mut unanswered: Vec<Id> = initialize.requests().cloned().collect();
        let mut wanted = Wanted::Session(None);
        let exchange = self.exchange(initialize, &blank, &mut unanswered, &mut wanted);
        tokio::time::timeout(self.timing.initialize_patience, exchange)
            .await
            .map_err(|_| Error::Silent { what: "answer to initialize", after: self.timing.initialize_patience })?
    }

    /// Makes a new session in place of `lost`, unless somebody already has.
    async fn renew(&self, lost: &Arc<Session>) -> Result<Renewal, Error> {
        let _alone = self.order.alone().await;
        let present = self.session.borrow().clone();
        if present.epoch != lost.epoch {
            return Ok(Renewal::Made);
        }
        if !present.may_be_lost() {
            return Ok(Renewal::Pointless);
        }
        let Some(initialize) = self.handshake.initialize() else { return Ok(Renewal::Pointless) };
        info!("the server has lost the session; initialising again");
        let mut headers = self.http.headers().clone();
        let session_id = {
            let response = self.http.post(self.http.server(), &headers, &initialize.body).await?;
            let session_id = response.headers().get(SESSION_ID).cloned();
            let blank = Session {
                epoch: present.epoch,
                headers: headers.clone(),
                since: Instant::now(),
                proven: AtomicBool::new(false),
            };
            let answer = self.own_answer(&initialize, response, &blank).await?;
            match Initialized::read(&answer) {
                Initialized::Version(version) => insert_version(&mut headers, &version),
                Initialized::Error(error) => return Err(Error::NoNewSession(error)),
            }
            session_id
        };
        if let Some(id) = session_id {
            headers.insert(SESSION_ID, id);
        }
        let session = Arc::new(Session {
            epoch: present.epoch + 1,
            headers,
            since: Instant::now(),
            proven: AtomicBool::new(false),
        });
        if let Some(initialized) = self.handshake.initialized() {
            self.http.post(self.http.server(), &session.headers, &initialized.body).await?;
        }
        for request in self.handshake.restore() {
            if let Err(error) = self.ask(&request, &session).await {
                warn!("cannot restore {} in the new session: {}", request.method().unwrap_or_default(), chain(&error));
            }
        }
        self.session.send_replace(session);
        // The new GET stream need not wait for anything.
        self.answered.notify_one();
        Ok(Renewal::Made)
    }

    /// A request of our own; its answer stays here.
    async fn ask(&self, request: &Message, session: &Arc<Session>) -> Result<Message, Error> {
        let response = self.post(request, session).await?;
        self.own_answer(request, response, session).await
    }

    async fn own_answer(&self, request: &Message, response: Response, session: &Session) -> Result<Message, Error> {
        let mut unanswered: Vec<Id> = request.requests().cloned().collect();
        let Some(id) = unanswered.first().cloned() else { return Err(Error::NoAnswer("not a request")) };
        let mut wanted = Wanted::Us(id, None);
        self.answers(response, session, &mut unanswered, &mut wanted).await?;
        match wanted {
            Wanted::Us(_, Some(answer)) => Ok(answer),
            _ => Err(Error::NoAnswer("the server did not answer our own request")),
        }
    }

    /// One POST and all of its answer.
    async fn exchange(
        &self,
        message: &Message,
        session: &Session,
        unanswered: &mut Vec<Id>,
        wanted: &mut Wanted,
    ) -> Result<(), Error> {
        let response = self.post(message, session).await?;
        if let Wanted::Session(session_id) = wanted {
            *session_id = response.headers().get(SESSION_ID).cloned();
        }
        self.answers(response, session, unanswered, wanted).await
    }

    async fn post(&self, message: &Message, session: &Session) -> Result<Response, Error> {
        let url = self.http.server();
        self.http.post(url, &session.headers, &message.body).await.map_err(|error| match error {
            Error::Refused(refusal) if names_the_session(&refusal, session) => Error::SessionLost(refusal),
            error => error,
        })
    }

    /// Everything that comes back for one POST; when this returns `Ok`, nothing is unanswered.
    async fn answers(
        &self,
        response: Response,
        session: &Session,
        unanswered: &mut Vec<Id>,
        wanted: &mut Wanted,
    ) -> Result<(), Error> {
        if is_event_stream(&response) {
            // Boxed: the common future stays small, and it is moved and zeroed for each message.
            return Box::pin(self.answers_in_events(response, session, unanswered, wanted)).await;
        }
        match self.http.message(response).await {
            Ok(Some(message)) => self.deliver(sole_answer(message, unanswered), unanswered, wanted).await,
            Ok(None) => {}
            // Nothing was asked, so nobody needs the body (some servers send a page or a word).
            Err(_) if unanswered.is_empty() => {}
            Err(error) => return Err(error),
        }
        if unanswered.is_empty() {
            Ok(())
        } else {
            Err(Error::NoAnswer("the server accepted the request but sent no answer to it"))
        }
    }

    async fn answers_in_events(
        &self,
        mut response: Response,
        session: &Session,
        unanswered: &mut Vec<Id>,
        wanted: &mut Wanted,
    ) -> Result<(), Error> {
        let mut cursor = Cursor::new();
        loop {
            let ended = self.events_of(&mut response, &mut cursor, unanswered, wanted).await;
            if unanswered.is_empty() {
                return Ok(());
            }
            let error = match ended {
                Ok(()) => Error::NoAnswer("the server ended the stream without answering"),
                Err(error @ (Error::TooLarge { .. } | Error::BadMessage(_))) => return Err(error),
                Err(error) => error,
            };
            // MCP 2025-11-25, Transports, Resumability: only a stream with an event id can go on.
            let Some(last_id) = cursor.last_id.clone() else { return Err(error) };
            response = self.resume(&mut cursor, &last_id, session).await.ok_or(error)?;
        }
    }

    /// The rest of a stream that broke off, or `None` if it cannot be had.
    async fn resume(&self, cursor: &mut Cursor, last_id: &Bytes, session: &Session) -> Option<Response> {
        let mut backoff = Backoff::up_to(Duration::from_secs(15));
        let mut pause = cursor.retry.unwrap_or(DEFAULT_RETRY); // SEP-1699: exactly the time asked for
        for _ in 0..MOST_RESUMPTIONS {
            tokio::time::sleep(pause).await;
            match self.http.listen(self.http.server(), &session.headers, Some(last_id)).await {
                Ok(response) => {
                    cursor.resumed = true;
                    return Some(response);
                }
                Err(Error::Connect(_) | Error::Broken(_) | Error::Silent { .. }) => {}
                Err(Error::Refused(refusal))
                    if refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS => {}
                Err(error) => {
                    debug!("cannot resume: {}", chain(&error));
                    return None;
                }
            }
            pause = cursor.retry.unwrap_or(DEFAULT_RETRY).max(backoff.pause());
        }
        None
    }

    /// The events of one response, until it ends.
    async fn events_of(
        &self,
        response: &mut Response,
        cursor: &mut Cursor,
        unanswered: &mut Vec<Id>,
        wanted: &mut Wanted,
    ) -> Result<(), Error> {
        let mut stream = EventStream::new(self.http.limit);
        loop {
            let chunk = self.http.chunk(response).await?;
            let Some(chunk) = chunk else { return Ok(()) };
            stream.push(chunk);
            loop {
                let event = stream.next().map_err(|too_long| Error::TooLarge { limit: too_long.limit })?;
                cursor.advance(&stream);
                let Some(event) = event else { break };
                if !matches!(&event.name[..], b"" | b"message") || cursor.replayed(event.id.as_ref()) {
                    continue;
                }
                match Message::from_remote(event.data) {
                    Ok(message) => self.deliver(message, unanswered, wanted).await,
                    Err(malformed) if unanswered.is_empty() => warn!("an event of the server is dropped: {malformed}"),
                    // It may be the answer; if it is not, the answer is not lost by saying so.
                    Err(malformed) => return Err(Error::BadMessage(malformed)),
                }
            }
        }
    }

    /// Hands a message over to whom it is for.
    async fn deliver(&self, mut message: Message, unanswered: &mut Vec<Id>, wanted: &mut Wanted) {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                if let Some(asked) = settle(id, unanswered) {
                    if asked != *id {
                        message = message.with_id(&asked);
                    }
                    match wanted {
                        Wanted::Us(own, answer) if *own == asked => {
                            *answer = Some(message);
                            return;
                        }
                        Wanted::Session(session_id) => self.begin(session_id.take(), &message),
                        _ => {}
                    }
                }
            }
            Shape::Batch(parts) => {
                for part in parts {
                    if let Part::Message(Shape::Response { id: Some(id) }, _) = part {
                        settle(id, unanswered);
                    }
                }
            }
            _ => {}
        }
        _ = self.events.send(Event::Message(message)).await;
    }

    /// The server has answered the host's `initialize`.
    fn begin(&self, session_id: Option<HeaderValue>, answer: &Message) {
        let mut headers = self.http.headers().clone();
        match Initialized::read(answer) {
            Initialized::Version(version) => {
                info!(
                    "connected over Streamable HTTP{}",
                    if version.is_empty() { String::new() } else { format!(", revision {version}") }
                );
                insert_version(&mut headers, &version);
            }
            Initialized::Error(_) => return, // the server's answer, but no session
        }
        if let Some(mut id) = session_id {
            id.set_sensitive(true);
            headers.insert(SESSION_ID, id);
        }
        self.session.send_replace(Arc::new(Session {
            epoch: 1,
            headers,
            since: Instant::now(),
            proven: AtomicBool::new(false),
        }));
    }

    /// Keeps a GET stream open for each session.
    async fn follow_sessions(self: Arc<Self>) {
        let mut sessions = self.session.subscribe();
        loop {
            let session = sessions.borrow_and_update().clone();
            if !session.is_blank() {
                tokio::select! {
                    () = self.follow(&session) => {}
                    _ = sessions.changed() => continue,
                }
            }
            if sessions.changed().await.is_err() {
                return;
            }
        }
    }

    /// The GET stream of one session (MCP 2025-11-25, Transports, Listening for Messages from the
    /// Server). Returns when the server has none.
    async fn follow(&self, session: &Arc<Session>) {
        tokio::select! {
            () = self.answered.notified() => {}
            () = async { self.initialized.notified().await; tokio::time::sleep(QUIET).await } => {}
        }
        let mut cursor = Cursor::new();
        let mut opened = false;
        let mut backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
        loop {
            let last_id = cursor.last_id.clone();
            let since = Instant::now();
            let error = match self.http.listen(self.http.server(), &session.headers, last_id.as_ref()).await {
                Ok(mut response) => {
                    if !opened {
                        debug!("the server's own stream is open");
                    }
                    opened = true;
                    let ended = self.events_of(&mut response, &mut cursor, &mut Vec::new(), &mut Wanted::Host).await;
                    cursor.resumed = true;
                    ended.err()
                }
                Err(Error::Refused(refusal)) if opened && names_the_session(&refusal, session) => {
                    if let Err(error) = self.renew(session).await {
                        warn!("{}", chain(&error));
                    }
                    return;
                }
                // 405 is the specification's way to say no; servers have found others.
                Err(Error::Refused(refusal))
                    if !opened
                        && (refusal.status.is_client_error() || refusal.status == StatusCode::NOT_IMPLEMENTED) =>
                {
                    debug!("the server offers no stream of its own: {refusal}");
                    return;
                }
                Err(error) => Some(error),
            };
            if let Some(error) = &error {
                debug!("the server's own stream: {}", chain(error));
            }
            if since.elapsed() > LONGEST_STREAM_PAUSE {
                backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
            }
            let pause = match (cursor.retry, error) {
                (Some(named), None) => named,
                (named, _) => named.unwrap_or(DEFAULT_RETRY).max(backoff.pause()),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// A `ping` at each interval, for servers and balancers that forget the silent.
    async fn keep_alive(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            self.order.pass().await;
            let session = self.session.borrow().clone();
            let Some(ping) = self.handshake.ping() else { return };
            match self.ask(&ping, &session).await {
                Ok(_) => session.proven.store(true, Relaxed),
                Err(Error::SessionLost(_)) => {
                    if let Err(error) = self.renew(&session).await {
                        warn!("{}", chain(&error));
                    }
                }
                Err(error) => warn!("keep-alive: {}", chain(&error)),
            }
        }
    }
}

/// Where a stream stands, over all the responses that carry it.
struct Cursor {
    last_id: Option<Bytes>,
    retry: Option<Duration>,
    resumed: bool,
    hasher: RandomState,
    seen: VecDeque<u64>,
}

impl Cursor {
    fn new() -> Self {
        Self { last_id: None, retry: None, resumed: false, hasher: RandomState::new(), seen: VecDeque::new() }
    }

    fn advance(&mut self, stream: &EventStream) {
        if let Some(id) = stream.last_id() {
            // An empty id resets the cursor (WHATWG HTML §9.2.6). Copied: the chunk it came in may be large.
            if self.last_id.as_deref() != Some(&id[..]) {
                self.last_id = (!id.is_empty()).then(|| Bytes::copy_from_slice(id));
            }
        }
        self.retry = stream.retry().or(self.retry);
    }

    /// Whether a server that resumes has sent this event before.
    fn replayed(&mut self, id: Option<&Bytes>) -> bool {
        let Some(id) = id.filter(|id| !id.is_empty()) else { return false };
        let hash = self.hasher.hash_one(id);
        if self.resumed && self.seen.contains(&hash) {
            return true;
        }
        if self.seen.len() == REMEMBERED_IDS {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        false
    }
}

/// Takes `id` off the list, under the text it was asked with.
fn settle(id: &Id, unanswered: &mut Vec<Id>) -> Option<Id> {
    let exact = unanswered.iter().position(|asked| asked == id);
    let found = exact.or_else(|| unanswered.iter().position(|asked| asked.same_value(id)))?;
    Some(unanswered.remove(found))
}

/// A JSON body with an error for nobody in particular answers the one request it came for
/// (JSON-RPC 2.0 §5: the id is null where the server could not read it).
fn sole_answer(message: Message, unanswered: &[Id]) -> Message {
    match (&message.shape, unanswered) {
        (Shape::Response { id }, [asked]) if id.as_ref().is_none_or(Id::is_null) => message.with_id(asked),
        _ => message,
    }
}

/// A 404 to a request with a session id means that the session is gone (MCP 2025-11-25, Transports,
/// Session Management); some servers say 400 or 410 and name it in words.
fn names_the_session(refusal: &Refusal, session: &Session) -> bool {
    let in_words = || {
        let text = refusal.text.to_ascii_lowercase();
        text.contains("session") || text.contains("not initialized")
    };
    session.has_id()
        && match refusal.status {
            StatusCode::NOT_FOUND => true,
            StatusCode::BAD_REQUEST | StatusCode::GONE => in_words(),
            _ => false,
        }
}

fn insert_version(headers: &mut HeaderMap, version: &str) {
    if let Ok(value) = HeaderValue::from_str(version)
        && !version.is_empty()
    {
        headers.insert(PROTOCOL_VERSION, value);
    }
}
