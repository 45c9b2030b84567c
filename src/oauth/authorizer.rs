//! Authorization, told in order (MCP 2025-03-26 to 2026-07-28, Authorization): a challenge comes in, a
//! credential comes out, or the reason why there is none.
//!
//! [`Authorizer`] is what `remote::http` knows. One flight at a time obtains a credential, however many
//! requests wait for it; a person may take minutes, and each request waits for as long as its host
//! does. Behind the flight, in this order: another copy's result ([`crate::store`]), discovery, a
//! refresh, the grant (`context` is what they share). The grants are rmcp's and `oauth2`'s, over our
//! hooks; each file says what is replaced and why.
//!
//! Must never: open a browser where the user has given a credential; ask twice for what was refused;
//! hold a request longer than its host waits.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use log::{debug, info, warn};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    config::{Authorization, Grant, Start},
    description::store::AccountNow,
    message::Message,
    oauth::{
        context::{AuthorizationAttempt, Context, has_all},
        credential::{Credential, Obtained},
        error::Error,
        grants::{
            authorization_code, device_code,
            refresh::{self, Refreshed},
        },
        http::client::HttpClient,
        person::stay::Stay,
        progress::{Need, Phase, Progress},
        protocol::{challenge::Challenge, scope},
        stored::{provenance::Provenance, sign_in::SignIn},
    },
    observer::{Fact, Observer},
    store::{Store, lock::Purpose},
    text::one_line,
};

/// How long a request that is not `initialize` waits for a sign-in: hosts give up after 60 s, and an
/// answer that comes before says more than their time-out.
const REQUEST_PATIENCE: Duration = Duration::from_secs(45);
/// After this long, whoever has the lock of sign-ins is waiting for a person.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// Pause after a sign-in that came to nothing, before anything but a request of the host's asks for
/// another; and after step-ups that led nowhere.
const SECOND_THOUGHT: Duration = Duration::from_secs(10 * 60);
/// Step-ups in a row that lead to no success, after the first authorization: three in all (MCP
/// 2025-11-25, Step-Up Authorization Flow: "a few").
const MOST_STEP_UPS: u32 = 2;

/// Who waits for a credential, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The host's `initialize`: a person was just looking.
    Initialize,
    /// Any other request.
    Request,
    /// Nobody: the server's own stream.
    Stream,
    /// The end of the session: not worth a sign-in, or a refresh.
    End,
}

/// How long somebody waits; `None` for as long as it takes.
pub type Deadline = Option<Instant>;

/// Obtains credentials. Dropping it ends a sign-in under way.
#[derive(Debug)]
pub struct Authorizer {
    context: Context,
    flight: Mutex<Option<watch::Receiver<Phase>>>,
    tasks: Mutex<JoinSet<()>>,
    need: watch::Sender<Need>,
}

/// Why a credential is wanted.
#[derive(Clone, Debug)]
enum Cause {
    /// The server answered 401.
    Challenged(Challenge),
    /// The server answered 403, insufficient_scope.
    StepUp(Challenge),
}

impl Authorizer {
    /// Touches nothing yet.
    #[must_use]
    pub fn new(settings: Arc<Authorization>, http: HttpClient, store: Store, observer: Observer) -> Self {
        let context = Context {
            settings,
            http: Arc::new(http),
            store,
            present: Arc::default(),
            renewal: Arc::default(),
            refreshing: Arc::default(),
            under_way: Arc::default(),
            key: Arc::default(),
            registered: Arc::default(),
            initialize: Arc::default(),
            stay: Arc::new(Stay::from_now()),
            observer,
        };
        Self {
            context,
            flight: Mutex::new(None),
            tasks: Mutex::new(JoinSet::new()),
            need: watch::Sender::new(Need::Nothing),
        }
    }

    /// Keeps the host's `initialize`, for its name on the page.
    pub fn note_initialize(&self, message: &Message) {
        *self.context.initialize.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
    }

    /// Something of the host's needs the sign-in, so the host is there to stay: the browser need not wait for that.
    pub fn hurry(&self) {
        self.context.stay.end();
    }

    /// The server's challenge has come from this address: its metadata lead no nearer to us.
    pub fn note_server_at(&self, address: IpAddr) {
        self.context.http.note_server_at(address);
    }

    /// What is needed now.
    #[must_use]
    pub fn need(&self) -> watch::Receiver<Need> {
        self.need.subscribe()
    }

    /// Who is signed in, as far as the files tell.
    #[must_use]
    pub fn account_now(&self) -> AccountNow {
        let context = self.context.clone();
        Arc::new(move || context.account())
    }

    /// Until when a request waits for authorization, all of its challenges together.
    #[must_use]
    pub fn patience(&self, requester: Requester) -> Deadline {
        let settings = &self.context.settings;
        let after = match requester {
            _ if settings.asked_for => return None,
            // The host has its answer, and nobody waits for the server's.
            Requester::Initialize if settings.start != Start::Wait => return None,
            Requester::Initialize => settings.timeout,
            Requester::Request => REQUEST_PATIENCE.min(settings.timeout),
            Requester::Stream | Requester::End => return None,
        };
        Some(Instant::now() + after)
    }

    /// The credential to send, if there is one; replaced where its end is near.
    pub async fn credential(&self, requester: Requester, patience: Deadline) -> Option<Arc<Credential>> {
        let credential = self.context.current()?;
        let now = self.context.now();
        if !credential.tokens().is_due(now) || requester == Requester::End || !self.context.may_renew(&credential) {
            return Some(credential);
        }
        let expired = credential.tokens().has_expired(now);
        if !expired && std::mem::replace(&mut self.context.present().renewing, true) {
            return Some(credential); // it is good for a little yet, and is being replaced
        }
        // A task of its own: a caller that gives up must not leave a token spent and not kept.
        let (sender, done) = oneshot::channel();
        let renewing = renew(self.context.clone(), credential.clone());
        self.spawn(async move { _ = sender.send(renewing.await) });
        if !expired {
            return Some(credential);
        }
        let renewed = match patience {
            Some(until) => timeout_at(until, done).await.ok().and_then(Result::ok),
            None => done.await.ok(),
        };
        Some(renewed.flatten().unwrap_or(credential))
    }

    /// Answers a refusal: when this returns `Ok`, the request may go out again.
    ///
    /// # Errors
    /// [`Error`], for the host.
    pub async fn meet(
        &self,
        status: StatusCode,
        challenge: Challenge,
        used: Option<Arc<Credential>>,
        requester: Requester,
        patience: Deadline,
    ) -> Result<(), Error> {
        let present = self.context.current();
        let replaced = match (&present, &used) {
            (Some(present), Some(used)) => !present.is(used),
            (present, None) => present.is_some(),
            (None, Some(_)) => false,
        };
        let cause =
            if status == StatusCode::FORBIDDEN { Cause::StepUp(challenge) } else { Cause::Challenged(challenge) };
        match &cause {
            Cause::Challenged(_) if replaced => return Ok(()), // somebody else was quicker
            Cause::Challenged(_) => {}
            Cause::StepUp(challenge) => {
                let required = scope::split(challenge.scope.as_deref());
                let has_it = |present: &Arc<Credential>| has_all(present.tokens(), &required);
                if replaced && !required.is_empty() && present.as_ref().is_some_and(has_it) {
                    return Ok(());
                }
                self.check_step_up(&required)?;
            }
        }
        self.check_requester(requester, used.as_ref())?;
        let may_ask = requester != Requester::Stream || used.is_none();
        let flight = self.join(cause.clone(), used.clone(), may_ask);
        match wait(&self.context, flight, patience).await {
            // It was the stream's flight, which asks nobody.
            Err(Error::Waiting { prompt: None }) if may_ask && patience.is_none_or(|until| Instant::now() < until) => {
                wait(&self.context, self.join(cause, used, may_ask), patience).await.map(drop)
            }
            obtained => obtained.map(drop),
        }
    }

    /// Whether another step-up may lead somewhere (MCP 2025-11-25, Step-Up Authorization Flow).
    fn check_step_up(&self, required: &[String]) -> Result<(), Error> {
        if self.flight().is_some() {
            return Ok(());
        }
        let mut present = self.context.present();
        if present.last_step_up.is_some_and(|last| last.elapsed() > SECOND_THOUGHT) {
            present.step_ups = 0; // a person may think again
        }
        let asked_before = match required {
            [] => present.step_ups > 0,
            required => required.iter().all(|scope| present.asked.contains(scope)),
        };
        if asked_before || present.step_ups >= MOST_STEP_UPS {
            return Err(Error::ScopeRefused(required.join(" ")));
        }
        Ok(())
    }

    /// The server's own stream comes again and again, and nobody waits for it: it does not ask a person
    /// who has said no, and does not spend refresh tokens in a row.
    fn check_requester(&self, requester: Requester, used: Option<&Arc<Credential>>) -> Result<(), Error> {
        let failed = || self.context.present().failed.is_some_and(|at| at.elapsed() < SECOND_THOUGHT);
        let in_use = |used: &Arc<Credential>| {
            !used.is_older_than(SECOND_THOUGHT) && !used.tokens().has_expired(self.context.now())
        };
        match requester {
            Requester::End => Err(Error::Waiting { prompt: None }),
            Requester::Stream if failed() || used.is_some_and(in_use) => Err(Error::Waiting { prompt: None }),
            _ => Ok(()),
        }
    }

    /// A request that had met a 403 went through.
    pub fn succeeded(&self) {
        self.context.present().step_ups = 0;
    }

    /// Waits until no token is being spent that would be lost with this process.
    pub async fn settle(&self) {
        _ = self.context.under_way.write().await;
    }

    /// The flight under way, or a new one.
    fn join(&self, cause: Cause, used: Option<Arc<Credential>>, may_ask: bool) -> watch::Receiver<Phase> {
        let mut slot = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = slot.as_ref().filter(|flight| is_under_way(flight)) {
            return flight.clone();
        }
        let (phase, flight) = watch::channel(Phase::Working);
        *slot = Some(flight.clone());
        let asks = may_ask && !self.context.has_no_person();
        let has_grant = self.context.current().is_some_and(|present| present.tokens().refresh_token().is_some());
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
            let obtained = obtain(&context, cause, used, may_ask, progress).await.map(Arc::new);
            match &obtained {
                Ok(credential) => {
                    context.observer.tell(|| Fact::Credential(credential.clone()));
                    context.present().credential = Some(credential.clone());
                }
                Err(error) => {
                    debug!("no authorization: {error}");
                    context.present().failed = Some(Instant::now());
                }
            }
            need.send_replace(obtained.as_ref().err().map_or(Need::Nothing, |error| Need::Failed(error.clone())));
            phase.send_replace(Phase::Done(obtained));
        });
        flight
    }

    fn flight(&self) -> Option<watch::Receiver<Phase>> {
        let slot = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone().filter(is_under_way)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

fn is_under_way(flight: &watch::Receiver<Phase>) -> bool {
    !matches!(&*flight.borrow(), Phase::Done(_)) && flight.has_changed().is_ok()
}

/// Waits for a flight's end, for as long as the host does.
async fn wait(
    context: &Context,
    mut flight: watch::Receiver<Phase>,
    patience: Deadline,
) -> Result<Arc<Credential>, Error> {
    let done = async {
        match flight.wait_for(|phase| matches!(phase, Phase::Done(_))).await.as_deref() {
            Ok(Phase::Done(result)) => result.clone(),
            _ => Err(Error::Local("the sign-in was broken off".to_owned())),
        }
    };
    let Some(patience) = patience else { return done.await };
    if let Ok(result) = timeout_at(patience, done).await {
        return result;
    }
    let prompt = match &*flight.borrow() {
        Phase::Asking(prompt) => Some(prompt.to_string()),
        // Another copy asks.
        _ => SignIn::all(&context.store, context.now()).into_iter().find_map(|sign_in| sign_in.authorization_url),
    };
    Err(Error::Waiting { prompt })
}

/// Replaces a credential whose end is near. `None` if that failed.
async fn renew(context: Context, credential: Arc<Credential>) -> Option<Arc<Credential>> {
    let _alone = context.renewal.lock().await;
    context.present().renewing = false; // whoever comes from here on waits for us above
    if let Some(present) = context.current().filter(|present| !present.is(&credential)) {
        return Some(present); // somebody else was quicker
    }
    if !context.may_renew(&credential) {
        return None;
    }
    let renewed = async {
        let file = context.token_file(credential.is_bound());
        let provenance = Provenance::load(&context.store, file, credential.tokens());
        let known = context.present().resource_metadata.clone();
        let noted = provenance.unwrap_or_default();
        // A grant without a person asks for the same again.
        let scope = context.has_no_person().then(|| noted.requested_scopes.join(" "));
        let resource_metadata = known.or(noted.resource_metadata);
        let challenge = Challenge { resource_metadata, scope, ..Challenge::default() };
        let progress = Progress::new(watch::channel(Phase::Working).0, None);
        // A new look is for a challenge (MCP 2026-07-28, Client Registration); the same server refreshes.
        let known = context.present().discovered.clone();
        let attempt = match known {
            Some(known) => context.attempt_at(known, &challenge, Some(credential.clone()), None, progress)?,
            None => context.attempt(&challenge, Some(credential.clone()), None, progress).await?,
        };
        if context.has_no_person() {
            return context.without_person(&attempt).await.map(Some);
        }
        match refresh::refresh(&context, &attempt, file).await? {
            Refreshed::Done(credential) => Ok(Some(credential)),
            Refreshed::Impossible => Ok(None),
        }
    };
    let renewed = renewed.await;
    if let Err(error) = &renewed {
        warn!("the access token could not be refreshed: {error}");
    }
    let renewed = renewed.ok().flatten().map(Arc::new);
    let mut present = context.present();
    match &renewed {
        Some(renewed) => {
            context.observer.tell(|| Fact::Credential(renewed.clone()));
            present.credential = Some(renewed.clone());
        }
        None => present.refresh_failed = Some(Instant::now()),
    }
    renewed
}

/// The walk itself.
async fn obtain(
    context: &Context,
    cause: Cause,
    used: Option<Arc<Credential>>,
    may_ask: bool,
    progress: Progress,
) -> Result<Credential, Error> {
    let (challenge, step_up) = match &cause {
        Cause::Challenged(challenge) => (challenge.clone(), false),
        Cause::StepUp(challenge) => (challenge.clone(), true),
    };
    if !challenge.only_other.is_empty() {
        let schemes = challenge.only_other.join(", ");
        return Err(Error::NotOffered(format!("it asks for {schemes}, which no sign-in gives")));
    }
    if challenge.resource_metadata.is_some() {
        context.present().resource_metadata.clone_from(&challenge.resource_metadata);
    }
    let required = step_up.then(|| scope::split(challenge.scope.as_deref()));
    let mut attempt = context.attempt(&challenge, used, required, progress).await?;
    if step_up {
        let mut present = context.present();
        present.step_ups += 1;
        present.last_step_up = Some(Instant::now());
    }
    if let Some(newer) = context.newer(&attempt) {
        info!("another copy has signed in");
        return Ok(newer);
    }
    let refused = attempt.used.as_ref().and_then(|used| used.refused_when_new(context.now()));
    let last_resort = if context.has_no_person() { Obtained::Refreshed } else { Obtained::SignedIn };
    if !step_up && refused == Some(last_resort) {
        let why = challenge.error_description.as_deref().unwrap_or("it does not say why");
        let Some(remedied) = context.remedied_token(&attempt) else {
            return Err(Error::TokenRefused(one_line(why.as_bytes())));
        };
        attempt = remedied;
    }
    if context.has_no_person() {
        return context.without_person(&attempt).await;
    }
    if !step_up && !matches!(refused, Some(Obtained::Refreshed | Obtained::SignedIn)) {
        let file = context.token_file(attempt.prover.is_some());
        match refresh::refresh(context, &attempt, file).await {
            Ok(Refreshed::Done(credential)) => return Ok(credential),
            Ok(Refreshed::Impossible) => {}
            // Signing in again would not help a server that does not answer, and would cost a tab.
            Err(error) => return Err(error),
        }
    }
    if !may_ask {
        return Err(Error::Waiting { prompt: None });
    }
    attempt.progress.need(Need::SignIn);
    let mut lock = std::pin::pin!(context.store.lock(Purpose::SignIn));
    let _lock = match timeout(SHORT_WAIT, &mut lock).await {
        Ok(lock) => lock,
        Err(_) => {
            let pending = SignIn::all(&context.store, context.now()).into_iter().find_map(|one| one.authorization_url);
            context.observer.tell(|| Fact::AnotherAsks { url: pending.clone() });
            info!(
                "another copy waits for you to sign in{}",
                pending.as_ref().map_or_else(String::new, |url| format!(": {url}"))
            );
            attempt.progress.another_asks(pending.as_deref());
            lock.await
        }
    };
    if let Some(newer) = context.newer(&attempt) {
        info!("another copy has signed in");
        return Ok(newer);
    }
    sign_in(context, attempt).await
}

/// Asks a person, and once more for each known remedy that what was refused has.
async fn sign_in(context: &Context, mut attempt: AuthorizationAttempt) -> Result<Credential, Error> {
    loop {
        let error = match ask(context, &mut attempt).await {
            Err(error) => error,
            signed_in => return signed_in,
        };
        let Some(remedied) = context.remedied(&attempt, &error) else {
            context.doubt_remedies(&attempt, &error);
            return Err(error);
        };
        attempt = remedied;
    }
}

/// Asks a person.
async fn ask(context: &Context, attempt: &mut AuthorizationAttempt) -> Result<Credential, Error> {
    if context.settings.grant == Grant::DeviceCode {
        return device_code::obtain(context, attempt).await;
    }
    // Nobody here sees a browser of this machine: a code can be entered anywhere.
    let offered = attempt.discovered.server.metadata.device_authorization_endpoint.is_some();
    if offered && !context.settings.surroundings.may_have_browser() {
        match device_code::obtain(context, attempt).await {
            Err(error) if error.is("access_denied") || error.is("expired_token") => return Err(error),
            Err(error) => info!("no sign-in with a code: {error}"),
            signed_in => return signed_in,
        }
    }
    authorization_code::obtain(context, attempt).await
}
