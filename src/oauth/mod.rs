//! Authorization, told in order (MCP 2025-03-26 to 2026-07-28, Authorization): a challenge comes in, a
//! credential comes out, or the reason why there is none.
//!
//! [`Authorizer`] is what `remote::http` knows. One flight at a time obtains a credential, however many
//! requests wait for it; a person may take minutes, and each request waits for as long as its host
//! does. Behind the flight, in this order: another copy's result ([`crate::store`]), discovery, a
//! refresh, the grant (`desk` is what they share). The grants are rmcp's and `oauth2`'s, over our
//! hooks; each file says what is replaced and why.
//!
//! Must never: open a browser where the user has given a credential; ask twice for what was refused;
//! hold a request longer than its host waits.

pub mod authorization_code;
pub mod browser;
pub mod challenge;
pub mod client_assertion;
pub mod client_credentials;
pub mod credential;
mod desk;
pub mod device_code;
pub mod discovery;
pub mod door;
pub mod dpop;
pub mod enterprise;
pub mod error;
pub mod exchange;
pub mod jws;
pub mod page;
pub(crate) mod port_holder;
pub mod provider;
pub mod ranges;
pub mod redirect;
pub mod refresh;
pub mod registration;
mod report;
pub mod revocation;
pub mod scope;
mod stay;
pub mod workload_identity;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use log::{debug, info, warn};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant as Deadline, timeout, timeout_at},
};

pub use self::credential::Credential;
use self::{
    challenge::Challenge,
    credential::Obtained,
    desk::{Desk, Errand, has_all},
    door::Door,
    error::Error,
    refresh::Refreshed,
    stay::Stay,
};
use crate::{
    config::{Authorization, Grant, Start},
    message::Message,
    observer::{Fact, Observer},
    store::{Store, description::AccountNow, grant::Provenance, lock::Purpose, sign_in::SignIn},
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
pub enum Waiter {
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
pub type Patience = Option<Deadline>;

/// What has to happen before the server answers.
#[derive(Clone, Debug)]
pub enum Need {
    /// Nothing, as far as is known.
    Nothing,
    /// A token, which may come without anybody's doing.
    Token,
    /// A person: nothing that is stored will do. What to open is being found out.
    SignIn,
    /// A person is asked to sign in.
    Person(Asking),
    /// What the last sign-in or refresh came to, if that was nothing.
    Failed(Error),
}

/// What a person is asked, and by which process.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The URL to open; unknown if another instance asks and has not published it.
    pub prompt: Option<Arc<str>>,
    /// Who asks.
    pub by: AskedBy,
}

/// The process that asks a person to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// This one.
    ThisProcess,
    /// This one, in the browser tab that an ended process opened.
    EndedProcess,
    /// Another running instance of mcp-remote, which this one waits for.
    AnotherInstance,
}

impl Need {
    /// Whether somebody is at work: time does not count meanwhile.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Token | Self::SignIn | Self::Person(_))
    }
}

/// Obtains credentials. Dropping it ends a sign-in under way.
#[derive(Debug)]
pub struct Authorizer {
    desk: Desk,
    flight: Mutex<Option<watch::Receiver<Phase>>>,
    tasks: Mutex<JoinSet<()>>,
    need: watch::Sender<Need>,
}

/// How far a flight is.
#[derive(Clone, Debug)]
enum Phase {
    Working,
    /// A person is asked: to open this.
    Asking(Arc<str>),
    Done(Result<Arc<Credential>, Error>),
}

/// Tells those who wait how far a flight is.
#[derive(Clone, Debug)]
struct Teller {
    phase: watch::Sender<Phase>,
    /// Where nothing goes on before the flight's end.
    need: Option<watch::Sender<Need>>,
}

impl Teller {
    fn new(phase: watch::Sender<Phase>, need: Option<watch::Sender<Need>>) -> Self {
        Self { phase, need }
    }

    fn need(&self, need: Need) {
        if let Some(told) = &self.need {
            told.send_replace(need);
        }
    }

    /// A person is asked to open this.
    fn ask(&self, prompt: &str, by: AskedBy) {
        let prompt: Arc<str> = prompt.into();
        self.phase.send_replace(Phase::Asking(prompt.clone()));
        self.need(Need::Person(Asking { prompt: Some(prompt), by }));
    }

    /// Another instance asks a person to open this, if it has published what.
    fn another_asks(&self, prompt: Option<&str>) {
        self.need(Need::Person(Asking { prompt: prompt.map(Into::into), by: AskedBy::AnotherInstance }));
    }
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
    pub fn new(settings: Arc<Authorization>, door: Door, store: Store, observer: Observer) -> Self {
        let desk = Desk {
            settings,
            door: Arc::new(door),
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
            desk,
            flight: Mutex::new(None),
            tasks: Mutex::new(JoinSet::new()),
            need: watch::Sender::new(Need::Nothing),
        }
    }

    /// Keeps the host's `initialize`, for its name on the page.
    pub fn note_initialize(&self, message: &Message) {
        *self.desk.initialize.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
    }

    /// Something of the host's needs the sign-in, so the host is there to stay: the browser need not wait for that.
    pub fn hurry(&self) {
        self.desk.stay.end();
    }

    /// The server's challenge has come from this address: its metadata lead no nearer to us.
    pub fn note_server_at(&self, address: IpAddr) {
        self.desk.door.note_server_at(address);
    }

    /// What is needed now.
    #[must_use]
    pub fn need(&self) -> watch::Receiver<Need> {
        self.need.subscribe()
    }

    /// Who is signed in, as far as the files tell.
    #[must_use]
    pub fn account_now(&self) -> AccountNow {
        let desk = self.desk.clone();
        Arc::new(move || desk.account())
    }

    /// Until when a request waits for authorization, all of its challenges together.
    #[must_use]
    pub fn patience(&self, waiter: Waiter) -> Patience {
        let settings = &self.desk.settings;
        let after = match waiter {
            _ if settings.asked_for => return None,
            // The host has its answer, and nobody waits for the server's.
            Waiter::Initialize if settings.start != Start::Wait => return None,
            Waiter::Initialize => settings.timeout,
            Waiter::Request => REQUEST_PATIENCE.min(settings.timeout),
            Waiter::Stream | Waiter::End => return None,
        };
        Some(Deadline::now() + after)
    }

    /// The credential to send, if there is one; replaced where its end is near.
    pub async fn credential(&self, waiter: Waiter, patience: Patience) -> Option<Arc<Credential>> {
        let credential = self.desk.current()?;
        let now = self.desk.now();
        if !credential.tokens().is_due(now) || waiter == Waiter::End || !self.desk.may_renew(&credential) {
            return Some(credential);
        }
        let expired = credential.tokens().has_expired(now);
        if !expired && std::mem::replace(&mut self.desk.present().renewing, true) {
            return Some(credential); // it is good for a little yet, and is being replaced
        }
        // A task of its own: a caller that gives up must not leave a token spent and not kept.
        let (sender, done) = oneshot::channel();
        let renewing = renew(self.desk.clone(), credential.clone());
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
        waiter: Waiter,
        patience: Patience,
    ) -> Result<(), Error> {
        let present = self.desk.current();
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
        self.check_waiter(waiter, used.as_ref())?;
        let may_ask = waiter != Waiter::Stream || used.is_none();
        let flight = self.join(cause.clone(), used.clone(), may_ask);
        match wait(&self.desk, flight, patience).await {
            // It was the stream's flight, which asks nobody.
            Err(Error::Waiting { prompt: None }) if may_ask && patience.is_none_or(|until| Deadline::now() < until) => {
                wait(&self.desk, self.join(cause, used, may_ask), patience).await.map(drop)
            }
            obtained => obtained.map(drop),
        }
    }

    /// Whether another step-up may lead somewhere (MCP 2025-11-25, Step-Up Authorization Flow).
    fn check_step_up(&self, required: &[String]) -> Result<(), Error> {
        if self.flight().is_some() {
            return Ok(());
        }
        let mut present = self.desk.present();
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
    fn check_waiter(&self, waiter: Waiter, used: Option<&Arc<Credential>>) -> Result<(), Error> {
        let failed = || self.desk.present().failed.is_some_and(|at| at.elapsed() < SECOND_THOUGHT);
        let in_use =
            |used: &Arc<Credential>| !used.is_older_than(SECOND_THOUGHT) && !used.tokens().has_expired(self.desk.now());
        match waiter {
            Waiter::End => Err(Error::Waiting { prompt: None }),
            Waiter::Stream if failed() || used.is_some_and(in_use) => Err(Error::Waiting { prompt: None }),
            _ => Ok(()),
        }
    }

    /// A request that had met a 403 went through.
    pub fn succeeded(&self) {
        self.desk.present().step_ups = 0;
    }

    /// Waits until no token is being spent that would be lost with this process.
    pub async fn settle(&self) {
        _ = self.desk.under_way.write().await;
    }

    /// The flight under way, or a new one.
    fn join(&self, cause: Cause, used: Option<Arc<Credential>>, may_ask: bool) -> watch::Receiver<Phase> {
        let mut slot = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = slot.as_ref().filter(|flight| is_under_way(flight)) {
            return flight.clone();
        }
        let (phase, flight) = watch::channel(Phase::Working);
        *slot = Some(flight.clone());
        let asks = may_ask && !self.desk.has_no_person();
        let has_grant = self.desk.current().is_some_and(|present| present.tokens().refresh_token().is_some());
        let teller = match &cause {
            // All that is not about this one scope goes on.
            Cause::StepUp(_) => Teller::new(phase.clone(), None),
            Cause::Challenged(_) => Teller::new(phase.clone(), Some(self.need.clone())),
        };
        self.need.send_replace(Need::Token);
        if asks && !has_grant {
            teller.need(Need::SignIn);
        }
        let (desk, need) = (self.desk.clone(), self.need.clone());
        self.spawn(async move {
            let obtained = obtain(&desk, cause, used, may_ask, teller).await.map(Arc::new);
            match &obtained {
                Ok(credential) => {
                    desk.observer.tell(|| Fact::Credential(credential.clone()));
                    desk.present().credential = Some(credential.clone());
                }
                Err(error) => {
                    debug!("no authorization: {error}");
                    desk.present().failed = Some(Instant::now());
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
async fn wait(desk: &Desk, mut flight: watch::Receiver<Phase>, patience: Patience) -> Result<Arc<Credential>, Error> {
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
        _ => SignIn::all(&desk.store, desk.now()).into_iter().find_map(|sign_in| sign_in.authorization_url),
    };
    Err(Error::Waiting { prompt })
}

/// Replaces a credential whose end is near. `None` if that failed.
async fn renew(desk: Desk, credential: Arc<Credential>) -> Option<Arc<Credential>> {
    let _alone = desk.renewal.lock().await;
    desk.present().renewing = false; // whoever comes from here on waits for us above
    if let Some(present) = desk.current().filter(|present| !present.is(&credential)) {
        return Some(present); // somebody else was quicker
    }
    if !desk.may_renew(&credential) {
        return None;
    }
    let renewed = async {
        let drawer = desk.drawer(credential.is_bound());
        let provenance = Provenance::load(&desk.store, drawer, credential.tokens());
        let known = desk.present().resource_metadata.clone();
        let noted = provenance.unwrap_or_default();
        // A grant without a person asks for the same again.
        let scope = desk.has_no_person().then(|| noted.requested_scopes.join(" "));
        let resource_metadata = known.or(noted.resource_metadata);
        let challenge = Challenge { resource_metadata, scope, ..Challenge::default() };
        let teller = Teller::new(watch::channel(Phase::Working).0, None);
        // A new look is for a challenge (MCP 2026-07-28, Client Registration); the same server refreshes.
        let known = desk.present().discovered.clone();
        let errand = match known {
            Some(known) => desk.errand_at(known, &challenge, Some(credential.clone()), None, teller)?,
            None => desk.errand(&challenge, Some(credential.clone()), None, teller).await?,
        };
        if desk.has_no_person() {
            return desk.without_person(&errand).await.map(Some);
        }
        match refresh::refresh(&desk, &errand, drawer).await? {
            Refreshed::Done(credential) => Ok(Some(credential)),
            Refreshed::Impossible => Ok(None),
        }
    };
    let renewed = renewed.await;
    if let Err(error) = &renewed {
        warn!("the access token could not be refreshed: {error}");
    }
    let renewed = renewed.ok().flatten().map(Arc::new);
    let mut present = desk.present();
    match &renewed {
        Some(renewed) => {
            desk.observer.tell(|| Fact::Credential(renewed.clone()));
            present.credential = Some(renewed.clone());
        }
        None => present.refresh_failed = Some(Instant::now()),
    }
    renewed
}

/// The walk itself.
async fn obtain(
    desk: &Desk,
    cause: Cause,
    used: Option<Arc<Credential>>,
    may_ask: bool,
    teller: Teller,
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
        desk.present().resource_metadata.clone_from(&challenge.resource_metadata);
    }
    let required = step_up.then(|| scope::split(challenge.scope.as_deref()));
    let mut errand = desk.errand(&challenge, used, required, teller).await?;
    if step_up {
        let mut present = desk.present();
        present.step_ups += 1;
        present.last_step_up = Some(Instant::now());
    }
    if let Some(newer) = desk.newer(&errand) {
        info!("another copy has signed in");
        return Ok(newer);
    }
    let refused = errand.used.as_ref().and_then(|used| used.refused_when_new(desk.now()));
    let last_resort = if desk.has_no_person() { Obtained::Refreshed } else { Obtained::SignedIn };
    if !step_up && refused == Some(last_resort) {
        let why = challenge.error_description.as_deref().unwrap_or("it does not say why");
        let Some(remedied) = desk.remedied_token(&errand) else {
            return Err(Error::TokenRefused(one_line(why.as_bytes())));
        };
        errand = remedied;
    }
    if desk.has_no_person() {
        return desk.without_person(&errand).await;
    }
    if !step_up && !matches!(refused, Some(Obtained::Refreshed | Obtained::SignedIn)) {
        let drawer = desk.drawer(errand.prover.is_some());
        match refresh::refresh(desk, &errand, drawer).await {
            Ok(Refreshed::Done(credential)) => return Ok(credential),
            Ok(Refreshed::Impossible) => {}
            // Signing in again would not help a server that does not answer, and would cost a tab.
            Err(error) => return Err(error),
        }
    }
    if !may_ask {
        return Err(Error::Waiting { prompt: None });
    }
    errand.teller.need(Need::SignIn);
    let mut lock = std::pin::pin!(desk.store.lock(Purpose::SignIn));
    let _lock = match timeout(SHORT_WAIT, &mut lock).await {
        Ok(lock) => lock,
        Err(_) => {
            let pending = SignIn::all(&desk.store, desk.now()).into_iter().find_map(|one| one.authorization_url);
            desk.observer.tell(|| Fact::AnotherAsks { url: pending.clone() });
            info!(
                "another copy waits for you to sign in{}",
                pending.as_ref().map_or_else(String::new, |url| format!(": {url}"))
            );
            errand.teller.another_asks(pending.as_deref());
            lock.await
        }
    };
    if let Some(newer) = desk.newer(&errand) {
        info!("another copy has signed in");
        return Ok(newer);
    }
    sign_in(desk, errand).await
}

/// Asks a person, and once more for each known remedy that what was refused has.
async fn sign_in(desk: &Desk, mut errand: Errand) -> Result<Credential, Error> {
    loop {
        let error = match ask(desk, &mut errand).await {
            Err(error) => error,
            signed_in => return signed_in,
        };
        let Some(remedied) = desk.remedied(&errand, &error) else {
            desk.doubt_remedies(&errand, &error);
            return Err(error);
        };
        errand = remedied;
    }
}

/// Asks a person.
async fn ask(desk: &Desk, errand: &mut Errand) -> Result<Credential, Error> {
    if desk.settings.grant == Grant::DeviceCode {
        return device_code::obtain(desk, errand).await;
    }
    // Nobody here sees a browser of this machine: a code can be entered anywhere.
    let offered = errand.discovered.server.metadata.device_authorization_endpoint.is_some();
    if offered && !desk.settings.surroundings.may_have_browser() {
        match device_code::obtain(desk, errand).await {
            Err(error) if error.is("access_denied") || error.is("expired_token") => return Err(error),
            Err(error) => info!("no sign-in with a code: {error}"),
            signed_in => return signed_in,
        }
    }
    authorization_code::obtain(desk, errand).await
}
