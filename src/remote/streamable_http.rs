//! Streamable HTTP (MCP 2025-03-26, 2025-06-18, 2025-11-25; Transports, Streamable HTTP).
//!
//! Each message is a POST of its own, whose answer is JSON or an event stream. Beside them one GET
//! stream carries what the server says unasked. A session that the server has lost is replaced, once
//! for all who notice, and each message that met its end goes out once more.
//!
//! Must never: end a POST's exchange without each of its requests being answered or reported lost;
//! hand the host an answer to a request of our own.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use log::{debug, info, warn};
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    Event, EventSender, Timing,
    cancelled::Cancelled,
    error::{Error, Refusal},
    handshake::{Handshake, Initialized},
    http::{Http, body::is_event_stream},
    order::Order,
    reading::Reading,
    retry::{Backoff, Tries},
};
use crate::{
    mcp::header::{PROTOCOL_VERSION, SESSION_ID},
    message::{Id, Message, Part, Shape},
    oauth::Requester as Waiter,
    status::Disposition,
    text::{chain, one_line},
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
/// Resumptions in a row that bring nothing at all, before an answer is lost: at the usual pauses,
/// most of an hour of a server that only polls.
const MOST_BARREN_RESUMPTIONS: u32 = 500;
/// After this many of them a server that asks for no pause gets one all the same.
const BARREN_AND_HASTY: u32 = 3;
/// How long the rest of a stream is read after its answer, if nothing comes: servers should end it
/// then, and a connection that is not read to its end cannot be used again.
const REST: Duration = Duration::from_secs(5);
/// The most streams read beyond their answer at a time: each is a connection.
const MOST_RESTS: usize = 64;

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
    events: EventSender,
    handshake: Handshake,
    cancelled: Cancelled,
    order: Order,
    session: watch::Sender<Arc<Session>>,
    /// A request other than `initialize` has been answered.
    answered: Notify,
    /// The server has taken `notifications/initialized`.
    initialized: Notify,
    /// How often the machine has slept: then connections may be dead.
    sleeps: watch::Sender<u64>,
    /// When the server last refused a new session.
    refused: Mutex<Option<Instant>>,
    /// What is left of streams that have brought an answer to us.
    rests: Mutex<JoinSet<()>>,
    /// How many streams may still be read that have brought their answer to the host.
    host_rests: Semaphore,
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
    fn new(epoch: u64, http: &Http, id: Option<HeaderValue>, version: &str) -> Self {
        let mut headers = http.headers().clone();
        if let Some(mut id) = id {
            id.set_sensitive(true); // MCP 2025-11-25, Transports, Session Management: it is a secret
            headers.insert(SESSION_ID, id);
        }
        if let Ok(version) = HeaderValue::from_str(version)
            && !version.is_empty()
        {
            headers.insert(PROTOCOL_VERSION, version);
        }
        Self { epoch, headers, since: Instant::now(), proven: AtomicBool::new(false) }
    }

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
enum Wanted<'a> {
    /// The host.
    Host(&'a Session),
    /// The host, but the answer to its `initialize` makes the session first.
    Session(Option<HeaderValue>),
    /// We: the answer to this id stays here.
    Us(Id, Option<Message>),
}

impl StreamableHttp {
    /// A connection on which nothing has been sent.
    #[must_use]
    pub fn new(http: Arc<Http>, timing: Timing, events: EventSender) -> Self {
        let blank = Session::new(0, &http, None, "");
        let shared = Shared {
            http,
            timing,
            events,
            handshake: Handshake::default(),
            cancelled: Cancelled::default(),
            order: Order::default(),
            session: watch::Sender::new(Arc::new(blank)),
            answered: Notify::new(),
            initialized: Notify::new(),
            sleeps: watch::Sender::new(0),
            refused: Mutex::new(None),
            rests: Mutex::new(JoinSet::new()),
            host_rests: Semaphore::new(MOST_RESTS),
        };
        Self { shared: Arc::new(shared), tasks: JoinSet::new(), notes: JoinSet::new() }
    }

    /// Sends the host's `initialize`, tries again for `retry_for` if the server may only be starting, and
    /// returns when it is answered.
    ///
    /// # Errors
    /// [`Error`], if the server gave no answer that is the host's.
    pub async fn initialize(&mut self, initialize: &Message, retry_for: Duration) -> Result<(), Error> {
        let shared = &self.shared;
        let mut tries = Tries::new(initialize, retry_for);
        loop {
            match shared.establish(initialize).await {
                Ok(()) => break,
                Err(error) => tries.wait_after(error).await?,
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
        shared.cancelled.note(&message);
        let tasks = if message.requests().next().is_some() { &mut self.tasks } else { &mut self.notes };
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            shared.order.send(&message, pin!(shared.carry(&message))).await;
            if message.method() == Some("notifications/initialized") {
                shared.initialized.notify_one();
            }
        });
    }

    /// Opens the server's own stream anew, and finds out whether the session is still there.
    pub fn check(&mut self) {
        self.shared.sleeps.send_modify(|sleeps| *sleeps += 1);
        self.tasks.spawn(self.shared.clone().look());
    }

    /// Ends everything under way.
    pub fn abandon(&mut self) {
        self.tasks.abort_all();
        self.notes.abort_all();
    }

    /// Waits until what wants no answer has been taken.
    pub async fn settle(&mut self) {
        while self.notes.join_next().await.is_some() {}
    }

    /// Ends the session (MCP 2025-11-25, Transports, Session Management: DELETE).
    pub async fn close(mut self) {
        self.abandon();
        self.shared.rests().abort_all();
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
        // The handshake is part of making a session; it does not ask for another one.
        let mut may_renew = message.method() != Some("notifications/initialized");
        let error = loop {
            let session = self.session.borrow().clone();
            let before = unanswered.len();
            let error = match self.exchange(message, &session, &mut unanswered, &mut Wanted::Host(&session)).await {
                Ok(()) => return session.proven.store(true, Relaxed),
                Err(error) => error,
            };
            if unanswered.len() < before {
                break error; // some of a batch is answered: it cannot go out again as a whole
            }
            let error = match error {
                Error::SessionLost(_) if may_renew => match Box::pin(self.renew(&session)).await {
                    Ok(Renewal::Made) => {
                        may_renew = false;
                        continue;
                    }
                    Ok(Renewal::Pointless) => error,
                    Err(renewal) => renewal,
                },
                error => error,
            };
            if let Err(error) = tries.wait_after(error).await {
                break error;
            }
            if self.cancelled.covers(message) {
                return;
            }
        };
        // The server's own words, if they are for one request only.
        let event = match (unanswered.as_slice(), error.answer()) {
            ([id], Some(answer)) => Event::Message(answer.with_id(id)),
            _ => Event::Lost { ids: unanswered, method: message.method().map(Into::into), error: Arc::new(error) },
        };
        self.events.send(event).await;
    }

    /// Makes the session with the host's `initialize`.
    async fn establish(&self, initialize: &Message) -> Result<(), Error> {
        self.handshake.note(initialize);
        let blank = self.session.borrow().clone();
        let mut unanswered: Vec<Id> = initialize.requests().cloned().collect();
        let mut wanted = Wanted::Session(None);
        let exchange = self.exchange(initialize, &blank, &mut unanswered, &mut wanted);
        let after = self.timing.initialize_patience;
        let silent = Err(Error::Silent { what: "answer to initialize", after });
        self.http.patiently(after, exchange).await.unwrap_or(silent)
    }

    /// Makes a new session in place of `lost`, unless somebody already has.
    async fn renew(&self, lost: &Session) -> Result<Renewal, Error> {
        let _alone = self.order.alone().await;
        let present = self.session.borrow().clone();
        if present.epoch != lost.epoch {
            return Ok(Renewal::Made);
        }
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if !present.may_be_lost() || refused().is_some_and(|last| last.elapsed() < PROBATION) {
            return Ok(Renewal::Pointless);
        }
        let Some(initialize) = self.handshake.initialize() else { return Ok(Renewal::Pointless) };
        info!("the server has lost the session; initialising again");
        let after = self.timing.initialize_patience;
        let made = self.http.patiently(after, self.make_session(&initialize, present.epoch + 1)).await;
        match made.unwrap_or(Err(Error::Silent { what: "answer to initialize", after })) {
            Ok((session, answer)) => {
                // In this order: the new session ends whoever follows the old one, and it may be that who does
                // is the one that makes it.
                self.events.send(Event::Renewed(answer)).await;
                self.session.send_replace(session);
                self.answered.notify_one(); // the new GET stream need not wait for anything
                Ok(Renewal::Made)
            }
            // It is only busy or starting: the message may be tried again as after any such answer. The
            // server's words are about our request, so they are no answer to the host's.
            Err(Error::Refused(mut refusal)) if Disposition::of(refusal.status).may_pass() => {
                refusal.answer = None;
                Err(Error::Refused(refusal))
            }
            Err(error @ (Error::Refused(_) | Error::NoNewSession(_))) => {
                *refused() = Some(Instant::now());
                Err(match error {
                    Error::Refused(refusal) => Error::NoNewSession(refusal.to_string()),
                    error => error,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The handshake again, and what the host had set.
    async fn make_session(&self, initialize: &Message, epoch: u64) -> Result<(Arc<Session>, Message), Error> {
        let blank = Session::new(0, &self.http, None, "");
        let response = self.post(initialize, &blank).await?;
        let id = response.headers().get(SESSION_ID).cloned();
        let answer = self.own_answer(initialize, response, &blank).await?;
        let session = match Initialized::read(&answer) {
            Initialized::Version(version) => Arc::new(Session::new(epoch, &self.http, id, &version)),
            Initialized::Error(error) => return Err(Error::NoNewSession(one_line(error.as_bytes()))),
        };
        if let Some(initialized) = self.handshake.initialized()
            && let Err(error) = self.post(&initialized, &session).await
        {
            warn!("the server does not take notifications/initialized: {}", chain(&error));
        }
        let restored = async {
            for request in self.handshake.restore() {
                if let Err(error) = self.ask(&request, &session).await {
                    warn!(
                        "cannot restore {} in the new session: {}",
                        request.method().unwrap_or_default(),
                        chain(&error)
                    );
                }
            }
        };
        if self.http.patiently(self.timing.restore_patience(), restored).await.is_none() {
            warn!("the new session is used without all that was set in the old one: the server does not answer");
        }
        Ok((session, answer))
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
        wanted: &mut Wanted<'_>,
    ) -> Result<(), Error> {
        let response = self.post(message, session).await?;
        if let Wanted::Session(session_id) = wanted {
            *session_id = response.headers().get(SESSION_ID).cloned();
        }
        self.answers(response, session, unanswered, wanted).await
    }

    async fn post(&self, message: &Message, session: &Session) -> Result<Response, Error> {
        let url = self.http.server();
        self.http.post(url, &session.headers, message).await.map_err(|error| match error {
            Error::Refused(refusal) if names_the_session(&refusal, session) && !refusal.answers(message) => {
                Error::SessionLost(refusal)
            }
            error => error,
        })
    }

    /// Everything that comes back for one POST; when this returns `Ok`, nothing is unanswered.
    async fn answers(
        &self,
        response: Response,
        session: &Session,
        unanswered: &mut Vec<Id>,
        wanted: &mut Wanted<'_>,
    ) -> Result<(), Error> {
        if is_event_stream(&response) {
            // Boxed: the common future stays small, and it is moved and zeroed for each message.
            return Box::pin(self.answers_in_events(response, session, unanswered, wanted)).await;
        }
        match self.http.message(response).await {
            Ok(Some(message)) => {
                let message = sole_answer(message, unanswered)?;
                self.deliver(message, unanswered, wanted).await;
            }
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
        response: Response,
        session: &Session,
        unanswered: &mut Vec<Id>,
        wanted: &mut Wanted<'_>,
    ) -> Result<(), Error> {
        let mut reading = Reading::new(response, self.http.limit);
        loop {
            let next = if unanswered.is_empty() {
                let Ok(_rest) = self.host_rests.try_acquire() else { return Ok(()) };
                match tokio::time::timeout(REST, reading.next(&self.http)).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                }
            } else {
                reading.next(&self.http).await
            };
            let error = match next {
                Ok(Some(message)) => {
                    self.deliver(message, unanswered, wanted).await;
                    if unanswered.is_empty() && !matches!(wanted, Wanted::Host(_)) {
                        self.read_on(reading); // somebody waits for this answer, not for the stream's end
                        return Ok(());
                    }
                    continue;
                }
                Err(Error::BadMessage(malformed)) if unanswered.is_empty() => {
                    warn!("an event of the server is dropped: {malformed}");
                    continue;
                }
                _ if unanswered.is_empty() => return Ok(()),
                Err(error @ (Error::TooLarge { .. } | Error::BadMessage(_))) => return Err(error),
                Err(error) => error,
                Ok(None) => Error::NoAnswer("the server ended the stream without answering"),
            };
            // MCP 2025-11-25, Transports, Resumability: only a stream with an event id can go on.
            let resumed = self.resume(&mut reading, session).await.ok_or(error)?;
            reading.resume(resumed, self.http.limit);
        }
    }

    /// The rest of a stream that broke off, or `None` if it cannot be had.
    async fn resume(&self, reading: &mut Reading, session: &Session) -> Option<Response> {
        let last_id = reading.last_id.clone()?;
        if reading.barren >= MOST_BARREN_RESUMPTIONS {
            return None;
        }
        let mut backoff = Backoff::up_to(Duration::from_secs(15));
        let mut pause = reading.retry.unwrap_or(DEFAULT_RETRY); // SEP-1699: exactly the time asked for
        if reading.barren > BARREN_AND_HASTY {
            pause = pause.max(Backoff::FIRST);
        }
        for _ in 0..MOST_RESUMPTIONS {
            tokio::time::sleep(pause).await;
            match self.http.listen(self.http.server(), &session.headers, Some(&last_id), Waiter::Stream).await {
                Ok(response) => return Some(response),
                Err(error) if error.may_pass() => {}
                Err(error) => {
                    debug!("cannot resume: {}", chain(&error));
                    return None;
                }
            }
            pause = reading.retry.unwrap_or(DEFAULT_RETRY).max(backoff.pause());
        }
        None
    }

    /// Reads a stream to its end beside everything else.
    fn read_on(&self, mut reading: Reading) {
        let (http, events) = (self.http.clone(), self.events.clone());
        let mut rests = self.rests();
        while rests.try_join_next().is_some() {}
        if rests.len() >= MOST_RESTS {
            return;
        }
        rests.spawn(async move {
            while let Ok(Ok(Some(message))) = tokio::time::timeout(REST, reading.next(&http)).await {
                for part in message.split().into_iter().flatten() {
                    events.send(Event::Message(part)).await;
                }
            }
        });
    }

    fn rests(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message over to whom it is for.
    async fn deliver(&self, mut message: Message, unanswered: &mut Vec<Id>, wanted: &mut Wanted<'_>) {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                if let Some(asked) = settle(id, unanswered) {
                    if asked != *id {
                        message = message.with_id(&asked);
                    }
                    match wanted {
                        Wanted::Host(session) => {
                            session.proven.store(true, Relaxed);
                            self.answered.notify_one();
                        }
                        Wanted::Session(session_id) => self.begin(session_id.take(), &message),
                        Wanted::Us(own, answer) if *own == asked => {
                            *answer = Some(message);
                            return;
                        }
                        Wanted::Us(..) => {}
                    }
                }
            }
            Shape::Batch(parts) => {
                // Whole, if it is nothing but what the host asked for in these very words.
                let exact = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => unanswered.contains(id),
                    Part::Message(Shape::Request { .. } | Shape::Notification { .. }, _) => true,
                    _ => false,
                };
                if !matches!(wanted, Wanted::Host(_)) || !parts.iter().all(exact) {
                    for part in message.split().into_iter().flatten() {
                        Box::pin(self.deliver(part, unanswered, wanted)).await;
                    }
                    return;
                }
                for part in parts {
                    if let Part::Message(Shape::Response { id: Some(id) }, _) = part {
                        settle(id, unanswered);
                    }
                }
                if let Wanted::Host(session) = wanted {
                    session.proven.store(true, Relaxed);
                    self.answered.notify_one();
                }
            }
            _ => {}
        }
        self.events.send(Event::Message(message)).await;
    }

    /// The server has answered the host's `initialize`.
    fn begin(&self, session_id: Option<HeaderValue>, answer: &Message) {
        match Initialized::read(answer) {
            Initialized::Version(version) => {
                info!("connected over Streamable HTTP, revision {}", one_line(version.as_bytes()));
                self.session.send_replace(Arc::new(Session::new(1, &self.http, session_id, &version)));
            }
            Initialized::Error(error) => debug!("the server refuses the session: {}", one_line(error.as_bytes())),
        }
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
        let mut sleeps = self.sleeps.subscribe();
        let mut reading: Option<Reading> = None;
        let mut backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
        loop {
            let last_id = reading.as_ref().and_then(|reading| reading.last_id.clone());
            let since = Instant::now();
            let error =
                match self.http.listen(self.http.server(), &session.headers, last_id.as_ref(), Waiter::Stream).await {
                    Ok(response) => {
                        let limit = self.http.limit;
                        let reading = match &mut reading {
                            Some(reading) => {
                                reading.resume(response, limit);
                                reading
                            }
                            None => {
                                debug!("the server's own stream is open");
                                reading.insert(Reading::new(response, limit))
                            }
                        };
                        tokio::select! {
                            error = self.pass_on(reading, session) => error,
                            _ = sleeps.changed() => continue,
                        }
                    }
                    Err(Error::Refused(refusal)) if reading.is_some() && names_the_session(&refusal, session) => {
                        if let Err(error) = self.renew(session).await {
                            warn!("{}", chain(&error));
                        }
                        return;
                    }
                    // 405 is the specification's way to say no; servers have found others.
                    Err(Error::Refused(refusal))
                        if reading.is_none()
                            && (refusal.status.is_client_error() || refusal.status == StatusCode::NOT_IMPLEMENTED) =>
                    {
                        debug!("the server offers no stream of its own: {refusal}");
                        return;
                    }
                    Err(error) => {
                        // Perhaps it does not know the event any more: then a new stream is better than none.
                        if let (Error::Refused(refusal), Some(reading)) = (&error, &mut reading)
                            && refusal.status.is_client_error()
                        {
                            reading.forget();
                        }
                        Some(error)
                    }
                };
            if let Some(error) = &error {
                debug!("the server's own stream: {}", chain(error));
            }
            if since.elapsed() > LONGEST_STREAM_PAUSE {
                backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
            }
            let barren = reading.as_ref().map_or(0, |reading| reading.barren);
            let pause = match (reading.as_ref().and_then(|reading| reading.retry), error) {
                (Some(named), None) if barren <= BARREN_AND_HASTY => named,
                (named, _) => named.unwrap_or(DEFAULT_RETRY).max(backoff.pause()),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = sleeps.changed() => {}
            }
        }
    }

    /// Passes on what the server says unasked, until the response ends; what ended it, if not the
    /// server.
    async fn pass_on(&self, reading: &mut Reading, session: &Session) -> Option<Error> {
        loop {
            match reading.next(&self.http).await {
                Ok(Some(message)) => self.deliver(message, &mut Vec::new(), &mut Wanted::Host(session)).await,
                Ok(None) => return None,
                Err(Error::BadMessage(malformed)) => warn!("an event of the server is dropped: {malformed}"),
                Err(error) => return Some(error),
            }
        }
    }

    /// A `ping` at each interval, for servers and balancers that forget the silent.
    async fn keep_alive(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            self.clone().look().await;
        }
    }

    /// One `ping` of our own; a session that is lost is replaced before a request finds out.
    async fn look(self: Arc<Self>) {
        self.order.pass().await;
        let session = self.session.borrow().clone();
        let Some(ping) = self.handshake.ping().filter(|_| !session.is_blank()) else { return };
        match self.ask(&ping, &session).await {
            Ok(_) => session.proven.store(true, Relaxed),
            Err(Error::SessionLost(_)) => {
                if let Err(error) = self.renew(&session).await {
                    warn!("{}", chain(&error));
                }
            }
            Err(error) => warn!("ping: {}", chain(&error)),
        }
    }
}

/// Takes `id` off the list, under the text it was asked with.
pub(super) fn settle(id: &Id, unanswered: &mut Vec<Id>) -> Option<Id> {
    let exact = unanswered.iter().position(|asked| asked == id);
    let found = exact.or_else(|| unanswered.iter().position(|asked| asked.same_value(id)))?;
    Some(unanswered.remove(found))
}

/// A JSON body with an error for nobody in particular answers the one request it came for
/// (JSON-RPC 2.0 §5: the id is null where the server could not read it).
pub(super) fn sole_answer(message: Message, unanswered: &[Id]) -> Result<Message, Error> {
    match (&message.shape, unanswered) {
        (Shape::Response { id }, [asked]) if id.as_ref().is_none_or(Id::is_null) => {
            let text = message.body.to_bytes();
            if has_outcome(&text) {
                Ok(message.with_id(asked))
            } else {
                Err(Error::NotMcp(format!("JSON came back that is no answer: {}", one_line(&text))))
            }
        }
        _ => Ok(message),
    }
}

/// Whether there is a result, or an error as JSON-RPC 2.0 §5.1 has it.
fn has_outcome(answer: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        error: Option<Code>,
    }
    #[derive(Deserialize)]
    struct Code {
        #[serde(rename = "code")]
        _code: i64,
    }
    serde_json::from_slice::<Answer<'_>>(answer).is_ok_and(|answer| answer.result.is_some() || answer.error.is_some())
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
