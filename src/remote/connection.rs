//! What every connection to a server has, whatever its transport: tasks, the order of messages, cancellation, retries, the
//! handshake and the keep-alive. A transport is an implementation of [`Transport`].
//!
//! # Invariants
//!
//! - The exchange of a message does not end without each of its requests being answered or reported lost.
//! - A message that the host has cancelled is no longer sent.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use fnv::FnvHashMap;
use log::warn;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{Event, error::Error, events::EventSender, handshake::Handshake, http::Http, order::Order, retry::Tries};
use crate::{
    config::Limits,
    mcp::method::INITIALIZED,
    message::{Id, Message, Shape},
    oauth::Authorizer,
    report::Report,
    text,
};

/// How long the exchange of a cancelled request stays open: the server may still answer (MCP 2025-11-25, Cancellation), and
/// the notification is on its way. Without an end, a server that never ends it keeps a connection or a stream for good.
const CANCELLED_LASTS: Duration = Duration::from_secs(5);
/// Finished requests whose handles may be left over, before they are cleared away.
const LEFT_OVER: usize = 64;

/// What a transport needs of its connection.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) http: Arc<Http>,
    pub(super) limits: Limits,
    pub(super) events: EventSender,
    pub(super) handshake: Handshake,
    pub(super) order: Order,
    /// `notifications/initialized` has been sent.
    pub(super) initialized: Notify,
    authorizer: Option<Arc<Authorizer>>,
}

/// One way to bring messages to a server.
pub(super) trait Transport: fmt::Debug + Send + Sync + Sized + 'static {
    /// What is kept of one message while it is carried.
    type Attempt: Send + Sync;

    /// Whether a request is cancelled by closing its stream, without a notification.
    const CANCELS_BY_CLOSING: bool = false;

    /// Returns the parts that all transports have.
    fn core(&self) -> &Core;

    /// Returns whether the server takes batches; else they are taken apart.
    fn takes_batches(&self) -> bool {
        false
    }

    /// Returns whether a message is sent at all.
    fn takes(&self, _message: &Message) -> bool {
        true
    }

    /// Forgets a request that the host has cancelled, because the server need not answer it.
    fn forget(&self, _id: &Id) {}

    /// Returns how long this message waits for a server that is down, or only starting.
    fn retry_for(&self, _message: &Message) -> Duration {
        self.core().limits.retry_for
    }

    /// Sends the host's `initialize` and returns when it is answered.
    fn initialize(
        &self,
        _initialize: &Message,
        _retry_for: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Begins to carry a message, or returns what becomes of it instead.
    fn begin(&self, message: &Message) -> impl Future<Output = Result<Self::Attempt, Event>> + Send;

    /// Carries a message once, until it is accepted and each of its requests answered. What is answered leaves `unanswered`.
    fn carry_once(
        &self,
        message: &Message,
        unanswered: &mut Vec<Id>,
        attempt: &mut Self::Attempt,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Repairs what made an attempt fail; after `Ok` the message is sent again at once.
    fn recover(
        &self,
        message: &Message,
        attempt: &mut Self::Attempt,
        error: Error,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns what is reported of a message that stays unanswered.
    fn explain(
        &self,
        _message: &Message,
        _attempt: &Self::Attempt,
        error: Error,
    ) -> impl Future<Output = Error> + Send {
        async { error }
    }

    /// Sends a `ping` of this program, and replaces what does not answer.
    fn ping_once(&self, _reason: Ping) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Listens at once to what the server sends unasked.
    fn listen_now(&self) {}

    /// Ends the session.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Why this program sends a `ping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    /// Servers and balancers forget the silent.
    KeepAlive,
    /// The machine has slept, so connections may be dead.
    AfterSleep,
}

/// A connection over one transport. Dropping it ends everything that belongs to it.
#[derive(Debug)]
pub(super) struct Connection<T> {
    transport: Arc<T>,
    /// Requests in flight, the keep-alive, and what the transport does beside them.
    tasks: JoinSet<()>,
    /// Notifications and responses in flight.
    notes: JoinSet<()>,
    /// The exchange of each request, for when it is cancelled.
    in_flight: FnvHashMap<Id, AbortHandle>,
}

/// A connection whose transport does not matter.
pub(crate) trait AnyConnection: fmt::Debug + Send {
    /// Sends a message; what becomes of it comes as events.
    fn send(&mut self, message: Message);

    /// Finds out whether the connection and the session are still there, and replaces what is not.
    fn check(&mut self);

    /// Listens at once, after the handshake, to what the server sends unasked.
    fn listen_now(&mut self) {}

    /// Ends everything in flight; only [`close`](Self::close) may follow.
    fn abandon(&mut self);

    /// Waits until the server has taken every notification and response.
    fn settle(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Ends the session and everything that belongs to it.
    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl Core {
    pub(super) fn new(
        http: Arc<Http>,
        authorizer: Option<Arc<Authorizer>>,
        limits: Limits,
        events: EventSender,
    ) -> Self {
        Self {
            http,
            limits,
            events,
            handshake: Handshake::default(),
            order: Order::default(),
            initialized: Notify::new(),
            authorizer,
        }
    }

    /// Waits for what the server does, for `after` at most, without the time that a user takes to sign in.
    pub(super) fn timeout_excluding_sign_in<T: Send>(
        &self,
        after: Duration,
        work: impl Future<Output = T> + Send,
    ) -> impl Future<Output = Option<T>> + Send {
        // Boxed, because this is rare: without it, the task of each connection has room for all that may be waited for.
        let mut work = Box::pin(work);
        async move {
            let Some(authorizer) = &self.authorizer else { return timeout(after, work).await.ok() };
            let mut need = authorizer.need();
            loop {
                let signing_in = need.borrow_and_update().is_under_way();
                tokio::select! {
                    done = &mut work => return Some(done),
                    () = sleep(after), if !signing_in => return None,
                    Ok(()) = need.changed() => {}
                }
            }
        }
    }

    /// Sends a new session what the host had set in the old one, with `ask`, within half the time of an `initialize`. Calls
    /// wait meanwhile, so a session without it is used in the end.
    pub(super) async fn restore<F>(&self, ask: impl Fn(Message) -> F + Sync)
    where
        F: Future<Output = Result<Message, Error>> + Send,
    {
        let restored = async {
            for request in self.handshake.restore() {
                if let Err(error) = ask(request.clone()).await {
                    let method = request.method().unwrap_or_default();
                    warn!("cannot restore {method} in the new session: {}", self.sentence(&error));
                }
            }
        };
        let after = self.limits.initialize_timeout / 2;
        if self.timeout_excluding_sign_in(after, restored).await.is_none() {
            let (host, after) = (text::host(self.http.server()), after.as_secs_f32());
            warn!("using the new session without all settings of the old one: {host} did not answer within {after} s");
        }
    }

    /// Returns a failure in the words of the reports, for the log.
    pub(super) fn sentence(&self, error: &Error) -> String {
        Report::of_remote(error, self.http.server()).sentence
    }
}

impl<T: Transport> Connection<T> {
    /// Returns a connection on which nothing has been sent, with what runs `beside` the messages.
    pub(super) fn new(transport: Arc<T>, beside: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(beside);
        Self { transport, tasks, notes: JoinSet::new(), in_flight: FnvHashMap::default() }
    }

    pub(super) fn transport(&self) -> &T {
        &self.transport
    }

    /// Sends the host's `initialize` and returns when it is answered; `retry_for` is how long it waits for a server that
    /// may only be starting.
    pub(super) async fn initialize(&mut self, initialize: &Message, retry_for: Duration) -> Result<(), Error> {
        let core = self.transport.core();
        core.handshake.note(initialize);
        self.transport.initialize(initialize, retry_for).await?;
        if let Some(every) = core.limits.ping() {
            let transport = self.transport.clone();
            self.tasks.spawn(async move {
                loop {
                    sleep(every).await;
                    transport.ping_once(Ping::KeepAlive).await;
                }
            });
        }
        Ok(())
    }
}

impl<T: Transport> AnyConnection for Connection<T> {
    fn send(&mut self, message: Message) {
        if matches!(message.shape, Shape::Batch(_)) && !self.transport.takes_batches() {
            return message.split().into_iter().flatten().for_each(|part| self.send(part));
        }
        let core = self.transport.core();
        core.handshake.note(&message);
        if let Some(id) = core.http.cancelled.note(&message) {
            let exchange = self.in_flight.remove(&id).filter(|exchange| !exchange.is_finished());
            if T::CANCELS_BY_CLOSING {
                return exchange.into_iter().for_each(|exchange| exchange.abort());
            }
            self.transport.forget(&id);
            if let Some(exchange) = exchange {
                self.tasks.spawn(async move {
                    sleep(CANCELLED_LASTS).await;
                    exchange.abort();
                });
            }
        }
        if !self.transport.takes(&message) {
            return;
        }
        // Of a batch, one part may be cancelled and the others not.
        let asked = match &message.shape {
            Shape::Request { id, .. } => Some(id.clone()),
            _ => None,
        };
        let tasks = if message.requests().next().is_some() { &mut self.tasks } else { &mut self.notes };
        while tasks.try_join_next().is_some() {}
        let transport = self.transport.clone();
        // Boxed, because a task copies its future from stage to stage, and this one is large.
        let task = tasks.spawn(Box::pin(async move {
            let core = transport.core();
            core.order.send(&message, pin!(carry(&*transport, &message))).await;
            if message.method() == Some(INITIALIZED) {
                core.initialized.notify_one();
            }
        }));
        if let Some(id) = asked {
            if self.in_flight.len() > 2 * self.tasks.len() + LEFT_OVER {
                self.in_flight.retain(|_, task| !task.is_finished());
            }
            self.in_flight.insert(id, task);
        }
    }

    fn check(&mut self) {
        let transport = self.transport.clone();
        self.tasks.spawn(async move { transport.ping_once(Ping::AfterSleep).await });
    }

    fn listen_now(&mut self) {
        self.transport.listen_now();
    }

    fn abandon(&mut self) {
        self.tasks.abort_all();
        self.notes.abort_all();
    }

    fn settle(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async { while self.notes.join_next().await.is_some() {} })
    }

    fn close(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.abandon();
        Box::pin(async move { self.transport.close().await })
    }
}

/// Carries a message of the host until it is accepted, answered or lost.
async fn carry<T: Transport>(transport: &T, message: &Message) {
    if let Err(event) = carry_with_retries(transport, message).await {
        transport.core().events.send(event).await;
    }
}

async fn carry_with_retries<T: Transport>(transport: &T, message: &Message) -> Result<(), Event> {
    let mut attempt = transport.begin(message).await?;
    let mut unanswered: Vec<Id> = message.requests().cloned().collect();
    let mut tries = Tries::new(
        transport.core().http.server(),
        &transport.core().http.retries,
        message,
        transport.retry_for(message),
    );
    let cancelled = &transport.core().http.cancelled;
    let error = loop {
        // It may have waited for others, for a session, or for a person.
        if cancelled.covers(message) {
            return Ok(());
        }
        let before = unanswered.len();
        let Err(error) = transport.carry_once(message, &mut unanswered, &mut attempt).await else {
            tries.succeed();
            return Ok(());
        };
        if matches!(error, Error::NotBegun) && cancelled.covers(message) {
            return Ok(());
        }
        if unanswered.len() < before {
            break error; // because a batch of which some is answered cannot be sent again as a whole
        }
        // Boxed, as below, because this is rare and every message carries its room.
        let Err(error) = Box::pin(transport.recover(message, &mut attempt, error)).await else { continue };
        if let Err(error) = tries.wait_after(error).await {
            break error;
        }
    };
    let error = Box::pin(transport.explain(message, &attempt, error)).await;
    Err(match error.answer_to(&unanswered) {
        Some(answer) => Event::Message(answer),
        None => Event::Lost { ids: unanswered, method: message.method().map(Into::into), error: Arc::new(error) },
    })
}
