//! HTTP+SSE, the transport of MCP 2024-11-05: one event stream brings everything from the server,
//! and its first event names the address to which messages are POSTed.
//!
//! When the stream drops, what was asked on it is lost and said so at once; a new stream is opened
//! and the handshake done again, so that later calls work.
//!
//! Must never: POST to an address of another origin, or before the handshake of this stream is done.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use log::{debug, info, warn};
use reqwest::{Response, StatusCode, Url};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
};

use super::{
    Event, EventSender, Timing,
    cancelled::Cancelled,
    error::{Error, same_origin},
    event_stream::EventStream,
    handshake::{Handshake, Initialized},
    http::Http,
    order::Order,
    retry::{Backoff, Tries},
};
use crate::{
    message::{Id, Message, Shape},
    oauth::Requester as Waiter,
    text::{chain, one_line},
};

/// How long the `endpoint` event may take. It is the first thing a server sends.
const ENDPOINT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest pause between tries to open the stream again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a `ping` may take after the machine has slept, before the stream is taken for dead.
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// The most of a server's `retry` that is waited for: one beyond it is a mistake or a trap.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// An open connection. Dropping it ends everything that belongs to it.
#[derive(Debug)]
pub struct HttpSse {
    shared: Arc<Shared>,
    /// The stream, requests under way, the keep-alive.
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
    /// Where to POST; none while there is no stream, or its handshake is not done.
    endpoint: watch::Sender<Option<Url>>,
    pending: Mutex<Vec<Pending>>,
    /// A message waits for the stream to come back.
    wanted: Notify,
    /// How many streams there have been before.
    generation: AtomicU64,
}

/// A request whose answer the stream is to bring.
#[derive(Debug)]
struct Pending {
    id: Id,
    method: Box<str>,
    /// For requests of our own; and for the host's `initialize`, which opens the gate.
    told: Option<oneshot::Sender<Message>>,
    ours: bool,
}

/// A stream that has named its endpoint.
#[derive(Debug)]
struct Stream {
    response: Response,
    parser: EventStream,
    endpoint: Url,
}

impl HttpSse {
    /// Opens the stream, once.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NoEndpoint`] if no endpoint was named in time, [`Error::BadEndpoint`] for one
    /// elsewhere.
    pub async fn open(http: Arc<Http>, timing: Timing, events: EventSender, waiter: Waiter) -> Result<Self, Error> {
        let stream = Stream::open(&http, waiter).await?;
        let shared = Shared {
            http,
            timing,
            events,
            handshake: Handshake::default(),
            cancelled: Cancelled::default(),
            order: Order::default(),
            endpoint: watch::Sender::new(Some(stream.endpoint.clone())),
            pending: Mutex::default(),
            wanted: Notify::new(),
            generation: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().keep_open(stream));
        Ok(Self { shared, tasks, notes: JoinSet::new() })
    }

    /// Sends the host's `initialize` and returns when it is answered.
    ///
    /// # Errors
    /// [`Error`], if no answer came.
    pub async fn initialize(&mut self, initialize: &Message) -> Result<(), Error> {
        let shared = &self.shared;
        shared.handshake.note(initialize);
        let Some(endpoint) = shared.endpoint.borrow().clone() else {
            return Err(Error::NoAnswer("the stream ended"));
        };
        let answer = shared.ask(initialize, &endpoint, false).await?;
        if let Initialized::Version(version) = Initialized::read(&answer) {
            info!("connected over HTTP+SSE, revision {}", one_line(version.as_bytes()));
        }
        if let Some(every) = shared.timing.ping {
            self.tasks.spawn(shared.clone().keep_alive(every));
        }
        Ok(())
    }

    /// Sends a message; what becomes of it comes as events.
    pub fn send(&mut self, message: Message) {
        if matches!(message.shape, Shape::Batch(_)) {
            // MCP 2024-11-05 has no batches.
            for part in message.split().into_iter().flatten() {
                self.send(part);
            }
            return;
        }
        let shared = self.shared.clone();
        shared.handshake.note(&message);
        if let Some(id) = shared.cancelled.note(&message) {
            shared.settle(&id); // the server need not answer it, so nobody may wait for that
        }
        let tasks = if message.requests().next().is_some() { &mut self.tasks } else { &mut self.notes };
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            shared.order.send(&message, pin!(shared.carry(&message))).await;
        });
    }

    /// Finds out whether the stream still brings anything, and opens it anew if not.
    pub fn check(&mut self) {
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

    /// Ends the stream, and with it the session.
    pub fn close(mut self) {
        self.tasks.abort_all();
    }
}

impl Stream {
    async fn open(http: &Http, waiter: Waiter) -> Result<Self, Error> {
        let wait = async {
            let mut response = http.listen(http.server(), http.headers(), None, waiter).await?;
            let mut parser = EventStream::new(http.limit);
            loop {
                while let Some(event) = parser.next().map_err(|too_long| Error::TooLarge { limit: too_long.limit })? {
                    if &event.name[..] == b"endpoint" {
                        let endpoint = endpoint(http.server(), &event.data.to_bytes())?;
                        return Ok(Self { response, parser, endpoint });
                    }
                }
                match http.chunk(&mut response).await? {
                    Some(chunk) => parser.push(chunk),
                    None => return Err(Error::NoEndpoint("the stream ended before it named an endpoint".to_owned())),
                }
            }
        };
        let silent = || Err(Error::NoEndpoint(format!("no endpoint event within {} s", ENDPOINT_PATIENCE.as_secs())));
        http.patiently(ENDPOINT_PATIENCE, wait).await.unwrap_or_else(silent)
    }
}

/// Whether the server no longer knows the endpoint that its own stream has named.
fn is_forgotten(error: &Error, message: &Message) -> bool {
    let Error::Refused(refusal) = error else { return false };
    match refusal.status {
        StatusCode::NOT_FOUND | StatusCode::GONE => true,
        StatusCode::BAD_REQUEST => !refusal.answers(message) && refusal.text.to_ascii_lowercase().contains("session"),
        _ => false,
    }
}

/// The address an `endpoint` event names, which may be relative (RFC 3986 §5).
fn endpoint(server: &Url, data: &[u8]) -> Result<Url, Error> {
    let text = String::from_utf8_lossy(data);
    let url = server
        .join(text.trim())
        .map_err(|_| Error::BadEndpoint(format!("the endpoint is no address: {}", one_line(data))))?;
    if same_origin(&url, server) {
        Ok(url)
    } else {
        // Our headers would go to whomever the server names.
        Err(Error::BadEndpoint(format!("the endpoint is at another origin: {}", url.origin().ascii_serialization())))
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, id: &Id) -> Option<Pending> {
        let mut pending = self.pending();
        let exact = pending.iter().position(|request| request.id == *id);
        let found = exact.or_else(|| pending.iter().position(|request| request.id.same_value(id)))?;
        Some(pending.swap_remove(found))
    }

    /// Takes a message of the host to the endpoint; its answer comes by the stream.
    async fn carry(&self, message: &Message) {
        let mut tries = Tries::new(message, self.timing.retry_for);
        let mut forgotten_before = false;
        let generation = self.generation.load(Relaxed);
        let error = loop {
            let endpoint = match self.endpoint_now().await {
                Ok(endpoint) => endpoint,
                Err(error) => break error,
            };
            if message.method() == Some("notifications/initialized") && self.generation.load(Relaxed) != generation {
                return; // the new stream has been told already
            }
            if let Shape::Request { id, method } = &message.shape {
                self.pending().push(Pending { id: id.clone(), method: method.clone(), told: None, ours: false });
            }
            let Err(error) = self.http.post(&endpoint, self.http.headers(), message).await else { return };
            if let Shape::Request { id, .. } = &message.shape
                && self.settle(id).is_none()
            {
                return; // answered, or reported lost with the stream, while the POST was failing
            }
            if !forgotten_before && is_forgotten(&error, message) {
                forgotten_before = true;
                self.retire(&endpoint);
                continue;
            }
            if let Err(error) = tries.wait_after(error).await {
                break error;
            }
            if self.cancelled.covers(message) {
                return;
            }
        };
        let ids: Vec<Id> = message.requests().cloned().collect();
        let event = match (ids.as_slice(), error.answer()) {
            ([id], Some(answer)) => Event::Message(answer.with_id(id)),
            _ => Event::Lost { ids, method: message.method().map(Into::into), error: Arc::new(error) },
        };
        self.events.send(event).await;
    }

    /// The server does not know this endpoint any more, although its stream is open: the stream is
    /// given up.
    fn retire(&self, endpoint: &Url) {
        self.endpoint.send_if_modified(|known| {
            let same = known.as_ref() == Some(endpoint);
            if same {
                *known = None;
            }
            same
        });
    }

    /// The endpoint, waiting for it as long as a message may wait.
    async fn endpoint_now(&self) -> Result<Url, Error> {
        if let Some(endpoint) = &*self.endpoint.borrow() {
            return Ok(endpoint.clone());
        }
        self.wanted.notify_one();
        let mut endpoint = self.endpoint.subscribe();
        let known = tokio::time::timeout(self.timing.retry_for, endpoint.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(known)) => known.clone().ok_or(Error::NoAnswer("the stream ended")),
            _ => Err(Error::NoEndpoint("the stream is down and did not come back in time".to_owned())),
        }
    }

    /// Sends a request and waits for its answer, which the host gets too unless it is `ours`.
    async fn ask(&self, request: &Message, endpoint: &Url, ours: bool) -> Result<Message, Error> {
        let Shape::Request { id, method } = &request.shape else { return Err(Error::NoAnswer("not a request")) };
        let (told, answer) = oneshot::channel();
        self.pending().push(Pending { id: id.clone(), method: method.clone(), told: Some(told), ours });
        let exchange = async {
            let ended = |_| Error::NoAnswer("the stream ended before the answer came");
            let mut answer = pin!(answer);
            tokio::select! {
                // The answer counts, whatever becomes of the POST.
                biased;
                answer = &mut answer => answer.map_err(ended),
                posted = self.http.post(endpoint, self.http.headers(), request) => {
                    posted?;
                    answer.await.map_err(ended)
                }
            }
        };
        let after = self.timing.initialize_patience;
        let answered =
            self.http.patiently(after, exchange).await.unwrap_or(Err(Error::Silent { what: "answer", after }));
        if answered.is_err() {
            self.settle(id);
        }
        answered
    }

    /// Reads the stream, and opens it again when it drops, for as long as the connection lives.
    async fn keep_open(self: Arc<Self>, first: Stream) {
        let mut stream = first;
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        loop {
            let since = Instant::now();
            let mut endpoint = self.endpoint.subscribe();
            let retired = endpoint.wait_for(Option::is_none);
            let error = match self.read(&mut stream, pin!(retired)).await {
                Ok(_) => Error::NoAnswer("the server has forgotten the stream"),
                Err(error) => error,
            };
            self.endpoint.send_replace(None);
            let retry = stream.parser.retry();
            drop(stream);
            info!("the event stream dropped ({}); opening it again", chain(&error));
            self.lose(Arc::new(error)).await;
            if since.elapsed() > LONGEST_PAUSE {
                backoff = Backoff::up_to(LONGEST_PAUSE);
            }
            stream = self.reopen(retry, &mut backoff).await;
        }
    }

    /// Reads the stream until something else happens. No message is cut off by that: the wait for
    /// more is all that ends.
    async fn read<T>(&self, stream: &mut Stream, mut until: Pin<&mut impl Future<Output = T>>) -> Result<T, Error> {
        loop {
            while let Some(event) =
                stream.parser.next().map_err(|too_long| Error::TooLarge { limit: too_long.limit })?
            {
                if matches!(&event.name[..], b"" | b"message") {
                    match Message::from_remote(event.data) {
                        Ok(message) => self.deliver(message).await,
                        Err(malformed) => warn!("an event of the server is dropped: {malformed}"),
                    }
                }
            }
            tokio::select! {
                chunk = self.http.chunk(&mut stream.response) => match chunk? {
                    Some(chunk) => stream.parser.push(chunk),
                    None => return Err(Error::NoAnswer("the server ended the stream")),
                },
                happened = &mut until => return Ok(happened),
            }
        }
    }

    async fn deliver(&self, mut message: Message) {
        if matches!(message.shape, Shape::Batch(_)) {
            for part in message.split().into_iter().flatten() {
                Box::pin(self.deliver(part)).await;
            }
            return;
        }
        if let Shape::Response { id: Some(id) } = &message.shape
            && let Some(pending) = self.settle(id)
        {
            if pending.id != *id {
                message = message.with_id(&pending.id);
            }
            if let Some(told) = pending.told {
                _ = told.send(message.clone());
            }
            if pending.ours {
                return;
            }
        }
        self.events.send(Event::Message(message)).await;
    }

    /// The stream is gone, and every answer it owed.
    async fn lose(&self, error: Arc<Error>) {
        let lost = std::mem::take(&mut *self.pending());
        for request in lost.into_iter().filter(|request| !request.ours && request.told.is_none()) {
            let (ids, method) = (vec![request.id], Some(request.method));
            self.events.send(Event::Lost { ids, method, error: error.clone() }).await;
        }
    }

    async fn reopen(&self, retry: Option<Duration>, backoff: &mut Backoff) -> Stream {
        let retry = retry.unwrap_or(Backoff::FIRST);
        let mut retry_after = None;
        loop {
            // What the server asked for is waited in any case; our own patience grows, and ends when a
            // message needs the stream.
            let asked = retry.max(retry_after.take().unwrap_or_default()).min(LONGEST_RETRY);
            tokio::time::sleep(asked).await;
            tokio::select! {
                () = tokio::time::sleep(backoff.pause().saturating_sub(asked)) => {}
                () = self.wanted.notified() => {}
            }
            match Stream::open(&self.http, Waiter::Stream).await {
                Ok(mut stream) => match self.shake_hands(&mut stream).await {
                    Ok(answer) => {
                        info!("the event stream is open again");
                        self.generation.fetch_add(1, Relaxed);
                        self.endpoint.send_replace(Some(stream.endpoint.clone()));
                        if let Some(answer) = answer {
                            self.events.send(Event::Renewed(answer)).await;
                        }
                        return stream;
                    }
                    Err(error) => warn!("the new event stream is no good: {}", chain(&error)),
                },
                Err(error) => {
                    debug!("the event stream does not open: {}", chain(&error));
                    retry_after = error.retry_after();
                }
            }
        }
    }

    /// A new stream is a new session: it must be initialised (MCP 2024-11-05, Lifecycle).
    async fn shake_hands(&self, stream: &mut Stream) -> Result<Option<Message>, Error> {
        let Some(initialize) = self.handshake.initialize() else { return Ok(None) };
        let endpoint = stream.endpoint.clone();
        let hands = async {
            let answer = self.ask(&initialize, &endpoint, true).await?;
            if let Initialized::Error(error) = Initialized::read(&answer) {
                return Err(Error::NoNewSession(one_line(error.as_bytes())));
            }
            if let Some(initialized) = self.handshake.initialized() {
                self.http.post(&endpoint, self.http.headers(), &initialized).await?;
            }
            let restored = async {
                for request in self.handshake.restore() {
                    if let Err(error) = self.ask(&request, &endpoint, true).await {
                        warn!("cannot restore {}: {}", request.method().unwrap_or_default(), chain(&error));
                    }
                }
            };
            if self.http.patiently(self.timing.restore_patience(), restored).await.is_none() {
                warn!("the new stream is used without all that was set on the old one: the server does not answer");
            }
            Ok(Some(answer))
        };
        let after = self.timing.initialize_patience;
        let shaken = self.http.patiently(after, hands);
        let silent = Err(Error::Silent { what: "end of the handshake", after });
        self.read(stream, pin!(shaken)).await?.unwrap_or(silent)
    }

    async fn keep_alive(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let endpoint = self.endpoint.borrow().clone();
            let (Some(endpoint), Some(ping)) = (endpoint, self.handshake.ping()) else { continue };
            if let Err(error) = self.ask(&ping, &endpoint, true).await {
                warn!("keep-alive: {}", chain(&error));
            }
        }
    }

    /// One `ping` of our own; a stream that does not bring its answer is given up.
    async fn look(self: Arc<Self>) {
        let endpoint = self.endpoint.borrow().clone();
        let (Some(endpoint), Some(ping)) = (endpoint, self.handshake.ping()) else {
            return self.wanted.notify_one(); // it is being opened: no time for pauses
        };
        let answered = tokio::time::timeout(PING_PATIENCE, self.ask(&ping, &endpoint, true)).await;
        if !matches!(answered, Ok(Ok(_))) {
            info!("the event stream brings no answer to a ping");
            self.retire(&endpoint);
        }
    }
}
