//! One flight at a time obtains a credential, however many requests wait for it; a person may take minutes, and each
//! request waits for as long as its host does (MCP 2025-03-26 to 2026-07-28, Authorization).
//!
//! # Invariants
//!
//! - What was refused is not asked for twice.
//! - No request is held longer than its host waits.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use log::debug;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    context::Context,
    credential::Credential,
    error::Error,
    executor::Executor,
    fact::Facts,
    flow::{self, Cause},
    held::SECOND_THOUGHT,
    http::client::HttpClient,
    progress::{Need, Phase, Progress},
    protocol::{challenge::Challenge, scope},
    stored::sign_in::SignIn,
};
use crate::{
    config::{Authorization, Occasion, Start},
    description::store::AccountNow,
    mcp::HOST_PATIENCE,
    message::Message,
    store::{Store, Unavailable},
    sync::LockExt,
};

/// Who waits for a credential, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requester {
    /// The host's `initialize`: a person was just looking.
    Initialize,
    /// Any other request.
    Request,
    /// Nobody: the server's own stream.
    Stream,
    /// The end of the session: not worth a sign-in, or a refresh.
    End,
}

/// Until when a requester waits; `None` for as long as it takes.
pub(crate) type Deadline = Option<Instant>;

/// How long a request waits for the first look into the store. A server that asks for nothing needs none; one that does
/// answers 401, and then the store is waited for.
const FIRST_READ: Duration = Duration::from_millis(250);
/// Pause between two looks whether the store answers an attempt.
const STORE_CHECK: Duration = Duration::from_millis(500);

/// How far the first look into the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstRead {
    NotBegun,
    UnderWay,
    /// It takes longer than a request waits.
    Slow,
    Done,
}

/// Obtains credentials. Dropping it ends a sign-in under way.
#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(super) context: Arc<Context>,
    flight: Mutex<Option<watch::Receiver<Phase>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Where the tasks run.
    executor: Executor,
    /// How far the first look into the store is.
    first_read: watch::Sender<FirstRead>,
    need: watch::Sender<Need>,
    /// Whether the host's `initialize` waits for a person.
    start: Start,
}

impl Authorizer {
    /// Touches nothing yet.
    pub(crate) fn new(
        settings: Arc<Authorization>,
        start: Start,
        http: HttpClient,
        store: Store,
        facts: Facts,
        executor: Executor,
    ) -> Self {
        Self {
            start,
            executor,
            first_read: watch::Sender::new(FirstRead::NotBegun),
            context: Arc::new(Context::new(settings, http, store, facts)),
            flight: Mutex::new(None),
            tasks: Mutex::new(JoinSet::new()),
            need: watch::Sender::new(Need::Nothing),
        }
    }

    /// Keeps the host's first message, for its name on the page.
    pub(crate) fn note_first(&self, message: &Message) {
        self.context.note_first(message);
    }

    /// Something of the host's needs the sign-in, so the host is there to stay: the browser need not wait for that.
    pub(crate) fn hurry(&self) {
        self.context.stay.end();
    }

    /// The user asks for a sign-in: the next attempt reaches one, also where a refresh fails.
    pub(crate) fn ask(&self) {
        self.context.held().user_asks = true;
    }

    /// Notes the address that the server's challenge came from: its metadata may name none that is nearer.
    pub(crate) fn note_server_at(&self, address: IpAddr) {
        self.context.http.note_server_at(address);
    }

    /// What is needed now.
    pub(crate) fn need(&self) -> watch::Receiver<Need> {
        self.need.subscribe()
    }

    /// Who is signed in, as far as the files tell.
    pub(crate) fn account_now(&self) -> AccountNow {
        let context = self.context.clone();
        Arc::new(move || context.account())
    }

    /// Begins to read what is stored, on a thread of its own, so that the first request finds it.
    pub(crate) fn read_ahead(&self) {
        if self.first_read.send_if_modified(|read| {
            let begins = *read == FirstRead::NotBegun;
            if begins {
                *read = FirstRead::UnderWay;
            }
            begins
        }) {
            let (context, read) = (self.context.clone(), self.first_read.clone());
            self.executor.read(move || {
                context.current();
                read.send_replace(FirstRead::Done);
            });
        }
    }

    /// Returns the credential in use. The first look into the store is not waited for longer than [`FIRST_READ`], by all
    /// requests together.
    async fn current(&self) -> Option<Arc<Credential>> {
        self.read_ahead();
        let mut read = self.first_read.subscribe();
        let done = read.wait_for(|read| !matches!(read, FirstRead::NotBegun | FirstRead::UnderWay));
        if timeout(FIRST_READ, done).await.is_err() {
            debug!(
                "reading stored credentials takes longer than {} s; continuing without them",
                FIRST_READ.as_secs_f32()
            );
            self.first_read.send_if_modified(|read| {
                let is_slow = *read == FirstRead::UnderWay;
                if is_slow {
                    *read = FirstRead::Slow;
                }
                is_slow
            });
        }
        self.context.known()
    }

    /// Returns the credential in use and the one before it, as far as they were read.
    pub(crate) fn known(&self) -> Vec<Arc<Credential>> {
        self.context.known().into_iter().chain(self.context.held().former.clone()).collect()
    }

    /// Until when a request waits for authorization, all of its challenges together.
    pub(crate) fn patience(&self, requester: Requester) -> Deadline {
        let settings = &self.context.settings;
        let after = match requester {
            _ if settings.occasion == Occasion::Login => return None,
            // The host has its answer already.
            Requester::Initialize if self.start != Start::Wait => return None,
            Requester::Initialize => settings.timeout,
            // No host waits, but the user whose sign-in it is.
            Requester::Request if settings.occasion == Occasion::Watched => settings.timeout,
            Requester::Request => HOST_PATIENCE.min(settings.timeout),
            Requester::Stream | Requester::End => return None,
        };
        Some(Instant::now() + after)
    }

    /// The credential to send, if there is one; replaced where its end is near.
    pub(crate) async fn credential(&self, requester: Requester, deadline: Deadline) -> Option<Arc<Credential>> {
        let credential = self.current().await?;
        let now = self.context.now();
        if !credential.tokens().is_due(now) || requester == Requester::End || !self.context.may_renew(&credential) {
            return Some(credential);
        }
        let expired = credential.tokens().has_expired(now);
        if !expired && self.context.held().renewal.schedule() {
            return Some(credential); // it is good for a little yet, and is being replaced
        }
        // A task of its own: a caller that gives up must not leave a token spent and not kept.
        let (sender, done) = oneshot::channel();
        let (context, due) = (self.context.clone(), credential.clone());
        self.spawn(async move { _ = sender.send(flow::renew(&context, due).await) });
        if !expired {
            return Some(credential);
        }
        let done = unless_stuck(&self.context, done);
        let renewed = match deadline {
            Some(until) => timeout_at(until, done).await.ok().and_then(Result::ok),
            None => done.await.ok(),
        };
        Some(renewed.and_then(Result::ok).flatten().unwrap_or(credential))
    }

    /// Answers a refusal: when this returns `Ok`, the request may go out again.
    ///
    /// # Errors
    /// [`Error`], for the host.
    pub(crate) async fn meet(
        &self,
        status: StatusCode,
        challenge: Challenge,
        used: Option<Arc<Credential>>,
        requester: Requester,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let current = self.current().await;
        let replaced = match (&current, &used) {
            (Some(current), Some(used)) => !current.is(used),
            (current, None) => current.is_some(),
            (None, Some(_)) => false,
        };
        let cause = if status == StatusCode::FORBIDDEN && !challenge.is_invalid_token() {
            Cause::StepUp(challenge)
        } else {
            Cause::Challenged(challenge)
        };
        match &cause {
            Cause::Challenged(_) if replaced => return Ok(()), // somebody else was quicker
            Cause::Challenged(_) => {}
            Cause::StepUp(challenge) => {
                let required = scope::split(challenge.scope.as_deref());
                let has_it = |current: &Arc<Credential>| current.tokens().has_scopes(&required);
                if replaced && !required.is_empty() && current.as_ref().is_some_and(has_it) {
                    return Ok(());
                }
                self.check_step_up(&required)?;
                if let Some(error) = used.as_ref().and_then(|used| self.no_more_scopes(&required, used)) {
                    return Err(error);
                }
            }
        }
        self.check_requester(requester, used.as_ref())?;
        let may_ask = requester != Requester::Stream || used.is_none();
        if let Some(error) = self.recent_failure(&cause) {
            return Err(error);
        }
        let flight = self.join(cause.clone(), used.clone(), may_ask);
        let obtained = match self.wait(flight, deadline).await {
            // It was the stream's flight, which asks no person.
            Err(Error::Waiting { prompt: None }) if may_ask && deadline.is_none_or(|until| Instant::now() < until) => {
                self.wait(self.join(cause, used, may_ask), deadline).await
            }
            obtained => obtained,
        };
        if let Err(error @ Error::Store(_)) = &obtained {
            self.need.send_replace(Need::Failed(error.clone()));
        }
        obtained.map(drop)
    }

    /// Whether another step-up may lead somewhere (MCP 2025-11-25, Step-Up Authorization Flow).
    fn check_step_up(&self, required: &[String]) -> Result<(), Error> {
        if self.flight().is_some() {
            return Ok(());
        }
        self.context.held().step_ups.check(required)
    }

    /// Returns why there is nothing to ask for, where a challenge names no scope and that is known: a host may go on calling.
    fn no_more_scopes(&self, required: &[String], used: &Credential) -> Option<Error> {
        if required.is_empty() { self.context.held().step_ups.no_more(used) } else { None }
    }

    /// Returns the failure of the last attempt, if the same attempt would meet it again: a host sends several messages at
    /// once, and each registration counts at the authorization server.
    fn recent_failure(&self, cause: &Cause) -> Option<Error> {
        let is_repeated = self.context.occasion() < Occasion::Asked;
        self.context.held().recent_failure(cause.challenge()).filter(|_| is_repeated)
    }

    /// The server's own stream is opened again and again, and no request waits for it: it does not ask a person
    /// who has said no, and does not spend refresh tokens in a row.
    fn check_requester(&self, requester: Requester, used: Option<&Arc<Credential>>) -> Result<(), Error> {
        let failed = || self.context.held().has_just_failed();
        let in_use = |used: &Arc<Credential>| {
            !used.is_older_than(SECOND_THOUGHT) && !used.tokens().has_expired(self.context.now())
        };
        match requester {
            Requester::End => Err(Error::Waiting { prompt: None }),
            Requester::Stream if failed() || used.is_some_and(in_use) => Err(Error::Waiting { prompt: None }),
            _ => Ok(()),
        }
    }

    /// Replaces a credential without asking anybody. Returns whether there is another one now.
    pub(crate) async fn renew(&self, credential: Arc<Credential>) -> bool {
        let (sender, done) = oneshot::channel();
        let context = self.context.clone();
        // As above.
        self.spawn(async move { _ = sender.send(flow::renew(&context, credential).await) });
        matches!(unless_stuck(&self.context, done).await, Ok(Ok(Some(_))))
    }

    /// Waits for a flight's end, for as long as the host does.
    async fn wait(&self, mut flight: watch::Receiver<Phase>, deadline: Deadline) -> Result<Arc<Credential>, Error> {
        let done = async {
            match flight.wait_for(|phase| matches!(phase, Phase::Done(_))).await.as_deref() {
                Ok(Phase::Done(result)) => result.clone(),
                _ => Err(Error::Local("the sign-in was interrupted".to_owned())),
            }
        };
        let done = async { unless_stuck(&self.context, done).await.map_err(Error::Store)? };
        let Some(deadline) = deadline else { return done.await };
        if let Ok(result) = timeout_at(deadline, done).await {
            return result;
        }
        let prompt = match &*flight.borrow() {
            Phase::Asking(prompt) => Some(prompt.to_string()),
            _ => None,
        };
        if prompt.is_some() {
            return Err(Error::Waiting { prompt });
        }
        if matches!(*self.need.borrow(), Need::OtherRefreshes) {
            return Err(Error::OtherRefreshes);
        }
        if let Some((_, busy)) = self.context.held().busy() {
            return Err(busy);
        }
        // Another instance asks.
        let store = self.context.store.clone();
        let now = self.context.now();
        let pending = tokio::task::spawn_blocking(move || SignIn::pending_url(&store, now));
        let prompt = timeout(FIRST_READ, pending).await.ok().and_then(Result::ok).flatten();
        Err(Error::Waiting { prompt })
    }

    /// A request that had met a 403 went through.
    pub(crate) fn succeeded(&self) {
        self.context.held().step_ups.note_success();
    }

    /// Waits until no token is being spent that would be lost with this process.
    pub(crate) async fn settle(&self) {
        _ = self.context.under_way.write().await;
    }

    /// Ends everything that is under way, and returns when it has ended: ports, locks and programs belong to it.
    pub(crate) async fn close(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.guard());
        tasks.shutdown().await;
    }

    /// The flight under way, or a new one.
    fn join(&self, cause: Cause, used: Option<Arc<Credential>>, may_ask: bool) -> watch::Receiver<Phase> {
        let mut slot = self.flight.guard();
        if let Some(flight) = slot.as_ref().filter(|flight| is_under_way(flight)) {
            return flight.clone();
        }
        let (phase, flight) = watch::channel(Phase::Working);
        *slot = Some(flight.clone());
        let asks = may_ask && self.context.settings.grant.needs_person();
        let has_grant = self.context.known().is_some_and(|current| current.tokens().refresh_token().is_some());
        let progress = match &cause {
            // All that is not about this one scope goes on.
            Cause::StepUp(_) => Progress::new(phase.clone(), None),
            Cause::Challenged(_) => Progress::new(phase.clone(), Some(self.need.clone())),
        };
        self.need.send_replace(Need::Token);
        if asks && !has_grant {
            progress.need(Need::SignIn);
        }
        let (context, need) = (self.context.clone(), self.need.clone());
        self.spawn(async move {
            let challenge = cause.challenge().clone();
            let obtained = flow::obtain(&context, cause, used, may_ask, progress).await;
            context.held().user_asks = false;
            match &obtained {
                Ok(credential) => context.set_current(credential),
                Err(error) => {
                    debug!("authorization failed: {error}");
                    // The token is good, only not for this.
                    if !matches!(error, Error::NoMoreScopes { .. }) {
                        context.held().note_failure(error, &challenge);
                    }
                }
            }
            need.send_replace(obtained.as_ref().err().map_or(Need::Nothing, |error| Need::Failed(error.clone())));
            phase.send_replace(Phase::Done(obtained));
        });
        flight
    }

    fn flight(&self) -> Option<watch::Receiver<Phase>> {
        self.flight.guard().clone().filter(is_under_way)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.guard();
        while tasks.try_join_next().is_some() {}
        self.executor.spawn(&mut tasks, task);
    }
}

fn is_under_way(flight: &watch::Receiver<Phase>) -> bool {
    !matches!(&*flight.borrow(), Phase::Done(_)) && flight.has_changed().is_ok()
}

/// Waits for a task of the authorization, unless the store does not answer it.
async fn unless_stuck<T>(context: &Context, task: impl Future<Output = T>) -> Result<T, Unavailable> {
    let stuck = async {
        loop {
            sleep(STORE_CHECK).await;
            if let Some(unavailable) = context.store.stuck() {
                return unavailable;
            }
        }
    };
    tokio::select! {
        biased;
        done = task => Ok(done),
        unavailable = stuck => Err(unavailable),
    }
}
