//! HTTP+SSE, the transport of MCP 2024-11-05: one event stream brings everything from the server,
//! and its first event names the endpoint to which messages are POSTed.
//!
//! When the stream drops, a new one is opened and the handshake done again. Requests that only read, and those that the
//! server has refused, are sent again there; the others are reported lost at once.
//!
//! # Invariants
//!
//! - Nothing is POSTed to another origin, or before the handshake of this stream is done.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use log::{info, warn};
use reqwest::{StatusCode, Url};
use tokio::sync::{Notify, oneshot, watch};

use super::{
    Event,
    connection::{Connection, Core, Ping, Transport},
    error::{Error, same_origin},
    event_stream::EventStream,
    handshake::Initialized,
    http::event_reader::EventReader,
    matching,
    resumable::LONGEST_RETRY,
    retry::{Backoff, Tries},
    session_loss,
};
use crate::{
    mcp::method::{INITIALIZE, INITIALIZED},
    message::{Id, Message, Shape},
    oauth::{Requester, http::address::with_lost_scheme},
    sync::LockExt,
};

/// How long the `endpoint` event may take. It is the first thing a server sends.
const ENDPOINT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest pause between tries to open the stream again.
const LONGEST_REOPENING_PAUSE: Duration = Duration::from_secs(30);
/// The same while a message waits for it.
const LONGEST_AWAITED_PAUSE: Duration = Duration::from_secs(1);
/// How long a `ping` may take after the machine has slept, before the stream is taken for dead.
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// The transport.
#[derive(Debug)]
pub(super) struct HttpSse {
    core: Core,
    /// Where to POST; none while there is no stream, or its handshake is not done.
    endpoint: watch::Sender<Option<Url>>,
    pending: Mutex<Vec<Pending>>,
    /// A message begins to wait for the stream to come back.
    wanted: Notify,
    /// How many messages wait for it.
    waiting: AtomicUsize,
    /// Why there is no stream.
    down: Mutex<Arc<Error>>,
    /// How many streams there have been before.
    generation: AtomicU64,
}

/// A request whose answer the stream is to bring.
#[derive(Debug)]
struct Pending {
    id: Id,
    waiter: Waiter,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiter {
    /// The exchange of a request of the host, which hears that the host has the answer, or why none comes.
    Exchange(oneshot::Sender<Result<(), Arc<Error>>>),
    /// This program, with a request of its own or the host's `initialize`.
    Program {
        sender: oneshot::Sender<Message>,
        /// The host does not get the answer.
        is_own: bool,
    },
}

/// A stream that has named its endpoint.
#[derive(Debug)]
struct SseStream {
    reader: EventReader,
    endpoint: Url,
}

/// How far one message is.
pub(super) struct SseAttempt {
    /// The stream on which it began.
    generation: u64,
    /// Where it was POSTed last.
    endpoint: Option<Url>,
    /// A stream was given up for it before.
    has_retired: bool,
}

impl HttpSse {
    /// Returns a connection on which nothing has been sent, whose stream is open. A server that is starting is waited for
    /// as long as the message `first` may wait.
    pub(super) async fn connect(core: Core, first: &Message, retry_for: Duration) -> Result<Connection<Self>, Error> {
        let requester = if first.method() == Some(INITIALIZE) { Requester::Initialize } else { Requester::Request };
        let mut tries = Tries::new(core.http.server(), &core.http.retries, first, retry_for);
        let stream = loop {
            match SseStream::open(&core, requester).await {
                Ok(stream) => break stream,
                Err(error) => tries.wait_after(error).await?,
            }
        };
        tries.succeed();
        let transport = Arc::new(Self {
            core,
            endpoint: watch::Sender::new(Some(stream.endpoint.clone())),
            pending: Mutex::default(),
            wanted: Notify::new(),
            waiting: AtomicUsize::new(0),
            down: Mutex::new(Arc::new(Error::NoAnswer("ended the event stream"))),
            generation: AtomicU64::new(0),
        });
        Ok(Connection::new(transport.clone(), transport.keep_open(stream)))
    }

    fn settle(&self, id: &Id) -> Option<Pending> {
        let mut pending = self.pending.guard();
        let found = matching::position(id, pending.iter().map(|request| &request.id))?;
        Some(pending.swap_remove(found))
    }

    /// Gives the stream up, because the server has forgotten its endpoint, or does not use it.
    fn retire(&self, endpoint: &Url) {
        self.endpoint.send_if_modified(|known| {
            let same = known.as_ref() == Some(endpoint);
            if same {
                *known = None;
            }
            same
        });
    }

    /// Returns the endpoint, waiting for it as long as a message may wait.
    async fn endpoint_now(&self) -> Result<Url, Error> {
        if let Some(endpoint) = &*self.endpoint.borrow() {
            return Ok(endpoint.clone());
        }
        /// Counts a message while it waits.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        self.wanted.notify_one();
        let mut endpoint = self.endpoint.subscribe();
        let known = tokio::time::timeout(self.core.limits.retry_for, endpoint.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(known)) => known.clone().ok_or(Error::NoAnswer("ended the event stream")),
            _ => Err(Error::StreamDown(self.down.guard().clone())),
        }
    }

    /// Sends a request and waits for its answer, which the host gets too unless it `is_own`.
    async fn ask(&self, request: &Message, endpoint: &Url, is_own: bool) -> Result<Message, Error> {
        let Shape::Request { id, .. } = &request.shape else {
            return Err(Error::NoAnswer("was not asked: the message is not a request"));
        };
        let (sender, answer) = oneshot::channel();
        self.pending.guard().push(Pending { id: id.clone(), waiter: Waiter::Program { sender, is_own } });
        let exchange = async {
            let ended = |_| Error::NoAnswer("ended the event stream before it answered");
            let mut answer = pin!(answer);
            tokio::select! {
                // The answer counts, whatever becomes of the POST.
                biased;
                answer = &mut answer => answer.map_err(ended),
                posted = self.core.http.post(endpoint, self.core.http.headers(), request) => {
                    posted?;
                    answer.await.map_err(ended)
                }
            }
        };
        let after = self.core.limits.initialize_timeout;
        let answered = self
            .core
            .timeout_excluding_sign_in(after, exchange)
            .await
            .unwrap_or(Err(Error::Silent { what: "answer", after }));
        if answered.is_err() {
            self.settle(id);
        }
        answered
    }

    /// Reads the stream, and opens it again when it drops, for as long as the connection lives.
    async fn keep_open(self: Arc<Self>, first: SseStream) {
        let mut stream = first;
        let mut backoff = Backoff::up_to(LONGEST_REOPENING_PAUSE);
        loop {
            let since = Instant::now();
            let mut endpoint = self.endpoint.subscribe();
            let retired = endpoint.wait_for(Option::is_none);
            let error = match self.read(&mut stream, pin!(retired)).await {
                Ok(_) => Error::NoAnswer("no longer knows the event stream"),
                Err(error) => error,
            };
            self.endpoint.send_replace(None);
            let retry = stream.reader.parser().and_then(EventStream::retry).unwrap_or(Backoff::FIRST);
            let retry = retry.max(stream.reader.rest());
            drop(stream);
            let sentence = format!("the event stream was lost ({})", self.core.sentence(&error));
            let is_logged = self.core.http.retries.note(&sentence, Some(retry));
            let error = Arc::new(error);
            *self.down.guard() = error.clone();
            self.lose(&error);
            if since.elapsed() > LONGEST_REOPENING_PAUSE {
                backoff = Backoff::up_to(LONGEST_REOPENING_PAUSE);
            }
            stream = self.reopen(retry, &mut backoff).await;
            if is_logged {
                info!("the event stream is open again");
            }
        }
    }

    /// Reads the stream until something else happens, which cuts no message off: only the wait for more ends.
    async fn read<T>(&self, stream: &mut SseStream, mut until: Pin<&mut impl Future<Output = T>>) -> Result<T, Error> {
        let http = &self.core.http;
        loop {
            let event = tokio::select! {
                event = stream.reader.next(http) => event?,
                happened = &mut until => return Ok(happened),
            };
            let Some(event) = event else { return Err(Error::NoAnswer("ended the event stream")) };
            if matches!(&event.name[..], b"" | b"message")
                && let Ok(message) = http.message_of_event(event.data)
            {
                self.deliver(message).await;
            }
        }
    }

    async fn deliver(&self, mut message: Message) {
        if matches!(message.shape, Shape::Batch(_)) {
            for part in message.into_parts() {
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
            match pending.waiter {
                Waiter::Exchange(sender) => _ = sender.send(Ok(())),
                Waiter::Program { sender, is_own } => {
                    _ = sender.send(message.clone());
                    if is_own {
                        return;
                    }
                }
            }
        }
        self.core.events.send(Event::Message(message)).await;
    }

    /// Tells every request that the stream will not bring its answer.
    fn lose(&self, error: &Arc<Error>) {
        for request in std::mem::take(&mut *self.pending.guard()) {
            if let Waiter::Exchange(sender) = request.waiter {
                _ = sender.send(Err(error.clone()));
            }
        }
    }

    async fn reopen(&self, retry: Duration, backoff: &mut Backoff) -> SseStream {
        let mut retry_after = None;
        let mut awaited = Backoff::up_to(LONGEST_AWAITED_PAUSE);
        loop {
            // What the server asked for is waited in any case; the pauses of this program grow, and end when
            // a message needs the stream.
            let asked = retry.max(retry_after.take().unwrap_or_default()).min(LONGEST_RETRY);
            tokio::time::sleep(asked).await;
            if self.waiting.load(Relaxed) > 0 {
                tokio::time::sleep(awaited.pause().saturating_sub(asked)).await;
            } else {
                awaited = Backoff::up_to(LONGEST_AWAITED_PAUSE);
                tokio::select! {
                    () = tokio::time::sleep(backoff.pause().saturating_sub(asked)) => {}
                    () = self.wanted.notified() => {}
                }
            }
            match SseStream::open(&self.core, Requester::Stream).await {
                Ok(mut stream) => match self.shake_hands(&mut stream).await {
                    Ok(answer) => {
                        self.generation.fetch_add(1, Relaxed);
                        self.endpoint.send_replace(Some(stream.endpoint.clone()));
                        if let Some(answer) = answer {
                            self.core.events.send(Event::Renewed(answer)).await;
                        }
                        return stream;
                    }
                    Err(error) => {
                        self.note_failed_opening("initialize on the new event stream failed", &error);
                        *self.down.guard() = Arc::new(error);
                    }
                },
                Err(error) => {
                    self.note_failed_opening("the event stream cannot be reopened", &error);
                    retry_after = error.retry_after();
                    *self.down.guard() = Arc::new(error);
                }
            }
        }
    }

    fn note_failed_opening(&self, what: &str, error: &Error) {
        self.core.http.retries.note(&format!("{what}: {}", self.core.sentence(error)), None);
    }

    /// A new stream is a new session: it must be initialised (MCP 2024-11-05, Lifecycle).
    async fn shake_hands(&self, stream: &mut SseStream) -> Result<Option<Message>, Error> {
        let Some(initialize) = self.core.handshake.initialize() else { return Ok(None) };
        let endpoint = stream.endpoint.clone();
        let hands = async {
            let answer = self.ask(&initialize, &endpoint, true).await?;
            if let Initialized::Error(error) = Initialized::read(&answer) {
                return Err(Error::NoNewSession(self.core.http.masked_error(&error)));
            }
            if let Some(initialized) = self.core.handshake.initialized() {
                self.core.http.post(&endpoint, self.core.http.headers(), &initialized).await?;
            }
            let endpoint = &endpoint;
            self.core.restore(|request| async move { self.ask(&request, endpoint, true).await }).await;
            Ok(Some(answer))
        };
        let after = self.core.limits.initialize_timeout;
        let shaken = self.core.timeout_excluding_sign_in(after, hands);
        let silent = Err(Error::Silent { what: "end of the handshake", after });
        self.read(stream, pin!(shaken)).await?.unwrap_or(silent)
    }
}

impl Transport for HttpSse {
    type Attempt = SseAttempt;

    fn core(&self) -> &Core {
        &self.core
    }

    fn forget(&self, id: &Id) {
        self.settle(id);
    }

    async fn initialize(&self, initialize: &Message, _retry_for: Duration) -> Result<(), Error> {
        let Some(endpoint) = self.endpoint.borrow().clone() else {
            return Err(Error::NoAnswer("ended the event stream"));
        };
        let answer = self.ask(initialize, &endpoint, false).await?;
        if let Initialized::Version(version) = Initialized::read(&answer) {
            info!("connected over HTTP+SSE, protocol version {}", self.core.http.masked_line(version.as_bytes()));
        }
        Ok(())
    }

    async fn begin(&self, _message: &Message) -> Result<SseAttempt, Event> {
        Ok(SseAttempt { generation: self.generation.load(Relaxed), endpoint: None, has_retired: false })
    }

    /// The answer comes by the stream.
    async fn carry_once(
        &self,
        message: &Message,
        _unanswered: &mut Vec<Id>,
        attempt: &mut SseAttempt,
    ) -> Result<(), Error> {
        let endpoint = self.endpoint_now().await?;
        if message.method() == Some(INITIALIZED) && self.generation.load(Relaxed) != attempt.generation {
            return Ok(()); // the handshake of the new stream has sent it
        }
        let post = self.core.http.post(&endpoint, self.core.http.headers(), message);
        let Shape::Request { id, .. } = &message.shape else {
            let posted = post.await;
            attempt.endpoint = Some(endpoint);
            return posted.map(drop);
        };
        let (sender, mut answered) = oneshot::channel();
        self.pending.guard().push(Pending { id: id.clone(), waiter: Waiter::Exchange(sender) });
        let posted = post.await;
        attempt.endpoint = Some(endpoint);
        if let Err(error) = posted {
            self.settle(id);
            // The answer counts, whatever becomes of the POST; and if both have failed, the POST knows whether it was taken.
            return if matches!(answered.try_recv(), Ok(Ok(()))) { Ok(()) } else { Err(error) };
        }
        match answered.await {
            Ok(Err(lost)) => Err(Error::StreamLost(lost)),
            // Without a word: the host has cancelled it.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    async fn recover(&self, _message: &Message, attempt: &mut SseAttempt, error: Error) -> Result<(), Error> {
        match &attempt.endpoint {
            Some(endpoint) if !attempt.has_retired && is_forgotten(&error) => {
                self.retire(endpoint);
                attempt.has_retired = true;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// After a sleep, a stream that does not bring the answer is given up.
    async fn ping_once(&self, reason: Ping) {
        let endpoint = self.endpoint.borrow().clone();
        let (Some(endpoint), Some(ping)) = (endpoint, self.core.handshake.ping()) else {
            if reason == Ping::AfterSleep {
                self.wanted.notify_one(); // it is being opened: no time for pauses
            }
            return;
        };
        let answer = self.ask(&ping, &endpoint, true);
        match reason {
            Ping::KeepAlive => {
                if let Err(error) = answer.await {
                    warn!("the keep-alive ping failed: {}", self.core.sentence(&error));
                }
            }
            Ping::AfterSleep => {
                if !matches!(tokio::time::timeout(PING_PATIENCE, answer).await, Ok(Ok(_))) {
                    info!("the event stream brought no answer to a ping; opening a new one");
                    self.retire(&endpoint);
                }
            }
        }
    }
}

impl SseStream {
    async fn open(core: &Core, requester: Requester) -> Result<Self, Error> {
        let http = &core.http;
        let wait = async {
            let mut reader = http.listen(http.headers(), None, requester).await?;
            while let Some(event) = reader.next(http).await? {
                if &event.name[..] == b"endpoint" {
                    let mask = |words: &[u8]| http.masked_line(words);
                    let endpoint = endpoint(http.server(), &event.data.to_bytes(), &mask)?;
                    http.note_endpoint(&endpoint);
                    return Ok(Self { reader, endpoint });
                }
            }
            Err(Error::NoEndpoint("ended the event stream before it named an endpoint".to_owned()))
        };
        let silent =
            || Err(Error::NoEndpoint(format!("sent no endpoint event within {} s", ENDPOINT_PATIENCE.as_secs())));
        core.timeout_excluding_sign_in(ENDPOINT_PATIENCE, wait).await.unwrap_or_else(silent)
    }
}

/// Returns whether the server no longer knows the endpoint that its own stream has named.
fn is_forgotten(error: &Error) -> bool {
    // The endpoint names the session (MCP 2024-11-05, HTTP with SSE).
    matches!(error, Error::Refused(refusal) if session_loss::is_lost(refusal) || refusal.status == StatusCode::GONE)
}

/// Returns the URL that an `endpoint` event names, which may be relative (RFC 3986 §5).
fn endpoint(server: &Url, data: &[u8], mask: &(dyn Fn(&[u8]) -> String + Sync)) -> Result<Url, Error> {
    let text = String::from_utf8_lossy(data);
    let url = server
        .join(text.trim())
        .map_err(|_| Error::BadEndpoint(format!("named an invalid endpoint URL (\"{}\")", mask(data))))?;
    // A server behind a proxy that ends TLS takes its own scheme for the client's.
    let url = with_lost_scheme(server, &url).unwrap_or(url);
    if same_origin(&url, server) {
        Ok(url)
    } else {
        // The user's headers would go to whatever the server names.
        let origin = mask(url.origin().ascii_serialization().as_bytes());
        Err(Error::BadEndpoint(format!("named an endpoint on another server ({origin})")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_on_the_origin_of_the_server() {
        let server = Url::parse("https://a.example/sse").unwrap();
        for (data, expected) in [
            ("/messages?id=1", Ok("https://a.example/messages?id=1")),
            ("http://a.example:8000/messages", Ok("https://a.example/messages")),
            ("https://b.example/messages", Err(())),
            ("http://b.example/messages", Err(())),
            ("https://a.example:1/messages", Err(())),
        ] {
            let named = endpoint(&server, data.as_bytes(), &crate::text::one_line);
            assert_eq!(named.as_ref().map(Url::as_str).map_err(|_| ()), expected, "{data}");
        }
    }
}
