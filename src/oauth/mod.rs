//! Authorization, told in order (MCP 2025-03-26 to 2026-07-28, Authorization): a challenge comes in, a
//! credential comes out, or the reason why there is none.
//!
//! [`Authorizer`] is what `remote::http` knows. One flight at a time obtains a credential, however many
//! requests wait for it; a person may take minutes, and each request waits for as long as its host
//! does. Behind the flight, in this order: another copy's result ([`crate::store`]), discovery, a
//! refresh, the grant. The grants are rmcp's and `oauth2`'s, over our hooks; each file says what is
//! replaced and why.
//!
//! Must never: open a browser where the user has given a credential; ask twice for what was refused;
//! hold a request longer than its host waits.

pub mod authorization_code;
pub mod browser;
pub mod challenge;
pub mod client_assertion;
pub mod client_credentials;
pub mod device_code;
pub mod discovery;
pub mod door;
pub mod dpop;
pub mod enterprise;
pub mod error;
pub mod exchange;
pub mod jws;
pub mod page;
pub mod ranges;
pub mod redirect;
pub mod refresh;
pub mod registration;
pub mod revocation;
pub mod scope;
pub mod workload_identity;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use log::{debug, info, warn};
use reqwest::{Url, header};
use serde_json::{Map, Value};
use tokio::{sync::watch, task::JoinSet};

use self::{
    challenge::Challenge,
    discovery::{AuthorizationServer, Discovered},
    door::Door,
    dpop::Prover,
    error::Error,
    exchange::{Exchange, Parts},
    jws::SigningKey,
    refresh::Refreshed,
    registration::Client,
};
use crate::{
    config::{Authorization, Dpop, Grant, Resource},
    message::Message,
    report::shown,
    secret::Secret,
    store::{
        Store,
        grant::Provenance,
        lock::Purpose,
        sign_in::SignIn,
        tokens::{Drawer, Tokens},
    },
};

/// How long a request that is not `initialize` waits for a sign-in: hosts give up after 60 s, and an
/// answer that comes before says more than their time-out.
const REQUEST_PATIENCE: Duration = Duration::from_secs(45);
/// A token this young that is refused will not be helped by another of its kind.
const FRESH: Duration = Duration::from_secs(60);
/// Pause after a refresh that failed while the token is still good.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a sign-in that came to nothing, before anything but a request of the host's asks for
/// another; and after step-ups that led nowhere.
const SECOND_THOUGHT: Duration = Duration::from_secs(10 * 60);
/// Step-ups in a row that lead to no success, after the first authorization: three in all (MCP
/// 2025-11-25, Step-Up Authorization Flow: "a few").
const MOST_STEP_UPS: u32 = 2;
/// Private key of the proofs (RFC 9449).
const DPOP_KEY: &str = "dpop_key.pem";

/// A token, ready to be sent.
#[derive(Clone, Debug)]
pub struct Credential {
    tokens: Tokens,
    token: Secret<String>,
    prover: Option<Arc<Prover>>,
    obtained: Obtained,
    since: Instant,
}

/// How a credential came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obtained {
    /// From disk: ours of an earlier run, or another copy's.
    Stored,
    /// By a refresh, or by a grant without a person.
    Refreshed,
    /// By a person.
    SignedIn,
}

impl Credential {
    /// Puts the token, and a proof where it needs one, on a request (RFC 6750 §2.1, RFC 9449 §7.1).
    ///
    /// # Errors
    /// [`Error::Local`] for a token that no header can hold, or a key that does not sign.
    pub fn apply(&self, headers: &mut HeaderMap, method: &Method, url: &Url) -> Result<(), Error> {
        let scheme = if self.prover.is_some() { "DPoP" } else { "Bearer" };
        let mut value = HeaderValue::from_str(&format!("{scheme} {}", self.token.expose()))
            .map_err(|_| Error::Local("the access token has a character that no header may have".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        if let Some(prover) = &self.prover {
            headers.insert("dpop", prover.proof(method, url, Some(self.token.expose()), SystemTime::now())?);
        }
        Ok(())
    }

    /// Keeps the nonce of a response (RFC 9449 §8.2); whether it is a new one.
    #[must_use]
    pub fn keep_nonce(&self, url: &Url, headers: &HeaderMap) -> bool {
        self.prover.as_ref().is_some_and(|prover| prover.keep_nonce(url, headers))
    }

    fn is(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

/// Who waits for a credential, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// The host's `initialize`: a person was just looking.
    Initialize,
    /// Any other request.
    Request,
    /// Nobody: the server's own stream.
    Stream,
    /// The end of the session: not worth a sign-in.
    End,
}

/// Obtains credentials. Dropping it ends a sign-in under way.
#[derive(Debug)]
pub struct Authorizer {
    desk: Desk,
    flight: Mutex<Option<watch::Receiver<Phase>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Whether a sign-in is under way.
    busy: watch::Sender<bool>,
}

/// How far a flight is.
#[derive(Clone, Debug)]
enum Phase {
    Working,
    /// A person is asked: to open this.
    Asking(Arc<str>),
    Done(Result<Arc<Credential>, Error>),
}

/// What all steps share.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    settings: Arc<Authorization>,
    door: Arc<Door>,
    store: Store,
    present: Arc<Mutex<Present>>,
    /// One refresh at a time in this process; the lock on disk is for the others.
    refreshing: Arc<tokio::sync::Mutex<()>>,
    /// Held shared while a grant is spent and its tokens are not yet on disk.
    under_way: Arc<tokio::sync::RwLock<()>>,
    /// Clients registered by this process: known to be known.
    registered: Arc<Mutex<HashSet<String>>>,
    /// The host's `initialize`, for its name.
    initialize: Arc<Mutex<Option<Message>>>,
}

/// What is known about our credential.
#[derive(Debug, Default)]
struct Present {
    loaded: bool,
    credential: Option<Arc<Credential>>,
    refresh_failed: Option<Instant>,
    /// Whether a refresh ahead of time is under way.
    renewing: bool,
    /// When a sign-in last came to nothing.
    failed: Option<Instant>,
    /// Scopes that a person was asked for in this process.
    asked: HashSet<String>,
    /// Step-ups since the last request that succeeded after one, and when the last was.
    step_ups: u32,
    last_step_up: Option<Instant>,
    /// Where the metadata are, as the last challenge said.
    resource_metadata: Option<String>,
    /// What the last look at the metadata found.
    discovered: Option<Discovered>,
}

/// One walk from a challenge to a credential.
#[derive(Debug)]
pub(crate) struct Errand {
    discovered: Discovered,
    scopes: Vec<String>,
    resource: Option<String>,
    prover: Option<Arc<Prover>>,
    /// The credential that was refused or is about to end.
    used: Option<Arc<Credential>>,
    /// Scopes that a newer credential must have.
    needed: Vec<String>,
    phase: watch::Sender<Phase>,
}

impl Errand {
    /// A person is asked to open `url`.
    fn ask(&self, url: &str) {
        self.phase.send_replace(Phase::Asking(url.into()));
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
    pub fn new(settings: Arc<Authorization>, door: Door, store: Store) -> Self {
        let desk = Desk {
            settings,
            door: Arc::new(door),
            store,
            present: Arc::default(),
            refreshing: Arc::default(),
            under_way: Arc::default(),
            registered: Arc::default(),
            initialize: Arc::default(),
        };
        Self { desk, flight: Mutex::new(None), tasks: Mutex::new(JoinSet::new()), busy: watch::Sender::new(false) }
    }

    /// Keeps the host's `initialize`, for its name on the page.
    pub fn note_initialize(&self, message: &Message) {
        *self.desk.initialize.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
    }

    /// Whether a sign-in is under way: time does not count meanwhile.
    #[must_use]
    pub fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    /// The credential to send, if there is one; refreshed where its end is near.
    pub async fn credential(&self) -> Option<Arc<Credential>> {
        let credential = self.desk.current()?;
        let now = self.desk.now();
        if !credential.tokens.is_due(now)
            || self.desk.present().refresh_failed.is_some_and(|at| at.elapsed() < REFRESH_PAUSE)
        {
            return Some(credential);
        }
        if !credential.tokens.has_expired(now) && std::mem::replace(&mut self.desk.present().renewing, true) {
            return Some(credential);
        }
        let renewing = renew(self.desk.clone(), credential.clone());
        if credential.tokens.has_expired(now) {
            // Its own task: a caller that gives up must not leave a token spent and not saved.
            let (sender, done) = tokio::sync::oneshot::channel();
            self.tasks().spawn(async move { _ = sender.send(renewing.await) });
            return Some(done.await.ok().flatten().unwrap_or(credential));
        }
        self.tasks().spawn(async move { _ = renewing.await }); // it is good for a little yet
        Some(credential)
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
    ) -> Result<(), Error> {
        let present = self.desk.current();
        let replaced = match (&present, &used) {
            (Some(present), Some(used)) => !present.is(used),
            (present, None) => present.is_some(),
            (None, Some(_)) => false,
        };
        let cause =
            if status == StatusCode::FORBIDDEN { Cause::StepUp(challenge) } else { Cause::Challenged(challenge) };
        if replaced && matches!(cause, Cause::Challenged(_)) {
            return Ok(()); // somebody else was quicker
        }
        if let Cause::StepUp(challenge) = &cause {
            let required = scope::split(challenge.scope.as_deref());
            let mut present = self.desk.present();
            if present.last_step_up.is_some_and(|last| last.elapsed() > SECOND_THOUGHT) {
                present.step_ups = 0; // a person may think again
            }
            let asked_before = match required.as_slice() {
                [] => present.step_ups > 0,
                required => required.iter().all(|scope| present.asked.contains(scope)),
            };
            drop(present);
            let has_it = replaced && self.desk.current().is_some_and(|now| has_all(&now.tokens, &required));
            if has_it && !required.is_empty() {
                return Ok(());
            }
            if asked_before && self.flight().is_none() {
                return Err(Error::ScopeRefused(required.join(" ")));
            }
            if self.desk.present().step_ups >= MOST_STEP_UPS {
                return Err(Error::ScopeRefused(required.join(" ")));
            }
        }
        // The server's own stream comes again and again; a person who said no is not asked as often.
        let failed = self.desk.present().failed.is_some_and(|at| at.elapsed() < SECOND_THOUGHT);
        if waiter == Waiter::End || waiter == Waiter::Stream && failed {
            return Err(Error::Waiting { prompt: None });
        }
        let patience = match waiter {
            _ if self.desk.settings.asked_for => None,
            Waiter::Initialize => Some(self.desk.settings.timeout),
            Waiter::Request => Some(REQUEST_PATIENCE.min(self.desk.settings.timeout)),
            Waiter::Stream | Waiter::End => None,
        };
        let flight = self.join(cause, used);
        wait(&self.desk, flight, patience).await.map(drop)
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
    fn join(&self, cause: Cause, used: Option<Arc<Credential>>) -> watch::Receiver<Phase> {
        let mut slot = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = slot.as_ref().filter(|flight| is_under_way(flight)) {
            return flight.clone();
        }
        let (phase, flight) = watch::channel(Phase::Working);
        *slot = Some(flight.clone());
        self.busy.send_replace(true);
        let (desk, busy) = (self.desk.clone(), self.busy.clone());
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let obtained = obtain(&desk, cause, used, phase.clone()).await.map(Arc::new);
            match &obtained {
                Ok(credential) => desk.present().credential = Some(credential.clone()),
                Err(error) => {
                    debug!("no authorization: {error}");
                    desk.present().failed = Some(Instant::now());
                }
            }
            busy.send_replace(false);
            phase.send_replace(Phase::Done(obtained));
        });
        flight
    }

    fn flight(&self) -> Option<watch::Receiver<Phase>> {
        let slot = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone().filter(is_under_way)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_under_way(flight: &watch::Receiver<Phase>) -> bool {
    !matches!(&*flight.borrow(), Phase::Done(_)) && flight.has_changed().is_ok()
}

/// Waits for a flight's end, for as long as the host does.
async fn wait(
    desk: &Desk,
    mut flight: watch::Receiver<Phase>,
    patience: Option<Duration>,
) -> Result<Arc<Credential>, Error> {
    let done = async {
        match flight.wait_for(|phase| matches!(phase, Phase::Done(_))).await.as_deref() {
            Ok(Phase::Done(result)) => result.clone(),
            _ => Err(Error::Local("the sign-in was broken off".to_owned())),
        }
    };
    let Some(patience) = patience else { return done.await };
    if let Ok(result) = tokio::time::timeout(patience, done).await {
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
    let renewed = async {
        let drawer = desk.drawer(credential.prover.is_some());
        let provenance = Provenance::load(&desk.store, drawer, &credential.tokens);
        let known = desk.present().resource_metadata.clone();
        let resource_metadata = known.or_else(|| provenance.and_then(|from| from.resource_metadata));
        let challenge = Challenge { resource_metadata, ..Challenge::default() };
        let (phase, _) = watch::channel(Phase::Working);
        // A new look is for a challenge (MCP 2026-07-28, Client Registration); the same server refreshes.
        let known = desk.present().discovered.clone();
        let errand = match known {
            Some(known) => desk.errand_at(known, &challenge, Some(credential.clone()), Vec::new(), phase)?,
            None => desk.errand(&challenge, Some(credential.clone()), Vec::new(), phase).await?,
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
    present.renewing = false;
    match &renewed {
        Some(renewed) => present.credential = Some(renewed.clone()),
        None => present.refresh_failed = Some(Instant::now()),
    }
    renewed
}

/// The walk itself.
async fn obtain(
    desk: &Desk,
    cause: Cause,
    used: Option<Arc<Credential>>,
    phase: watch::Sender<Phase>,
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
    let required = if step_up { scope::split(challenge.scope.as_deref()) } else { Vec::new() };
    let errand = desk.errand(&challenge, used, required, phase).await?;
    if step_up {
        let mut present = desk.present();
        present.step_ups += 1;
        present.last_step_up = Some(Instant::now());
    }
    if let Some(newer) = desk.newer(&errand) {
        info!("another copy has signed in");
        return Ok(newer);
    }
    desk.check_issuer(&errand)?;
    let is_young = |used: &&Arc<Credential>| used.since.elapsed() < FRESH && !used.tokens.has_expired(desk.now());
    let young = errand.used.as_ref().filter(is_young).map(|used| used.obtained);
    let last_resort = if desk.has_no_person() { Obtained::Refreshed } else { Obtained::SignedIn };
    if !step_up && young == Some(last_resort) {
        let why = challenge.error_description.as_deref().unwrap_or("it does not say why");
        return Err(Error::TokenRefused(shown(why.as_bytes())));
    }
    if desk.has_no_person() {
        return desk.without_person(&errand).await;
    }
    if !step_up && young != Some(Obtained::Refreshed) {
        let drawer = desk.drawer(errand.prover.is_some());
        match refresh::refresh(desk, &errand, drawer).await {
            Ok(Refreshed::Done(credential)) => return Ok(credential),
            Ok(Refreshed::Impossible) => {}
            // Signing in again would not help a server that does not answer, and would cost a tab.
            Err(error) => return Err(error),
        }
    }
    let _lock = desk.store.lock(Purpose::SignIn).await;
    if let Some(newer) = desk.newer(&errand) {
        info!("another copy has signed in");
        return Ok(newer);
    }
    sign_in(desk, &errand).await
}

/// Asks a person.
async fn sign_in(desk: &Desk, errand: &Errand) -> Result<Credential, Error> {
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

fn has_all(tokens: &Tokens, scopes: &[String]) -> bool {
    scopes.iter().all(|wanted| tokens.scopes().any(|scope| scope == wanted))
}

impl Desk {
    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The credential in use, read from disk the first time.
    fn current(&self) -> Option<Arc<Credential>> {
        let mut present = self.present();
        if !present.loaded {
            present.loaded = true;
            present.credential = self.stored().map(Arc::new);
        }
        present.credential.clone()
    }

    /// The credential on disk, if it is ours to use.
    fn stored(&self) -> Option<Credential> {
        let drawers: &[bool] = match (self.has_no_person(), self.settings.dpop) {
            (true, Dpop::Require) | (false, Dpop::Require) => &[true],
            (true, _) | (false, Dpop::Off) => &[false],
            (false, Dpop::Auto) => &[true, false],
        };
        drawers.iter().find_map(|bound| {
            let drawer = self.drawer(*bound);
            let tokens = Tokens::load(&self.store, drawer)?;
            let from = Provenance::load(&self.store, drawer, &tokens);
            if !from.as_ref().is_none_or(|from| self.may_use(from)) {
                return None;
            }
            let prover = if tokens.is_dpop() { Some(self.prover().ok()?) } else { None };
            Some(self.credential_of(tokens, prover, Obtained::Stored))
        })
    }

    /// Whether tokens of this origin are for the client and the resource of our settings.
    fn may_use(&self, from: &Provenance) -> bool {
        let configured = self.settings.client_info.as_ref().and_then(|info| info.expose().get("client_id"));
        let same_client = configured.and_then(Value::as_str).is_none_or(|id| id == from.client_id);
        let same_resource = match &self.settings.resource {
            Resource::Named(named) => from.resource.as_ref() == Some(named),
            Resource::Omitted => from.resource.is_none(),
            Resource::Published => true,
        };
        same_client && same_resource
    }

    /// A credential on disk that is newer than the errand's, and good for it.
    fn newer(&self, errand: &Errand) -> Option<Credential> {
        let stored = self.stored()?;
        let is_other = errand.used.as_ref().is_none_or(|used| !used.is(&stored));
        let good = is_other
            && has_all(&stored.tokens, &errand.needed)
            && !stored.tokens.has_expired(self.now())
            && stored
                .tokens
                .issuer()
                .is_none_or(|issuer| registration::same_issuer(issuer, &errand.discovered.server.issuer));
        good.then_some(stored)
    }

    fn credential_of(&self, tokens: Tokens, prover: Option<Arc<Prover>>, obtained: Obtained) -> Credential {
        let id_token = tokens.id_token().filter(|_| self.settings.use_id_token);
        if self.settings.use_id_token && id_token.is_none() {
            warn!("--use-id-token: the authorization server gave none; the access token is sent");
        }
        let token = id_token.unwrap_or_else(|| tokens.access_token());
        let token = Secret::new((*token.expose()).to_owned());
        Credential { tokens, token, prover, obtained, since: Instant::now() }
    }

    /// Discovery, and what follows from it.
    async fn errand(
        &self,
        challenge: &Challenge,
        used: Option<Arc<Credential>>,
        needed: Vec<String>,
        phase: watch::Sender<Phase>,
    ) -> Result<Errand, Error> {
        let discovered = match &self.settings.grant {
            Grant::ClientCredentials { token_endpoint: Some(endpoint), .. } => {
                Discovered { resource: None, server: AuthorizationServer::of_token_endpoint(endpoint) }
            }
            _ => discovery::discover(&self.door, challenge).await?,
        };
        self.present().discovered = Some(discovered.clone());
        self.errand_at(discovered, challenge, used, needed, phase)
    }

    fn errand_at(
        &self,
        discovered: Discovered,
        challenge: &Challenge,
        used: Option<Arc<Credential>>,
        needed: Vec<String>,
        phase: watch::Sender<Phase>,
    ) -> Result<Errand, Error> {
        // What a step-up must keep: what was asked for before, and what was granted.
        let mut held = Vec::new();
        if let Some(used) = used.as_ref().filter(|_| !needed.is_empty()) {
            let drawer = self.drawer(used.prover.is_some());
            held.extend(
                Provenance::load(&self.store, drawer, &used.tokens).into_iter().flat_map(|from| from.requested_scopes),
            );
            held.extend(used.tokens.scopes().map(ToOwned::to_owned));
            let mut seen = HashSet::new();
            held.retain(|scope| seen.insert(scope.clone()));
        }
        let scopes = scope::wanted(&self.settings, challenge, &discovered, &held);
        let resource = match &self.settings.resource {
            Resource::Named(named) => Some(named.clone()),
            Resource::Omitted => None,
            Resource::Published if self.has_token_endpoint() => None,
            Resource::Published => Some(match &discovered.resource {
                Some(published) => published.resource.clone(),
                None => canonical(self.door.server()),
            }),
        };
        let wants_dpop = discovered.resource.as_ref().is_some_and(|resource| resource.wants_dpop)
            || (challenge.dpop && !challenge.bearer)
            || used.as_ref().is_some_and(|used| used.prover.is_some());
        let prover = match self.settings.dpop {
            Dpop::Require => Some(self.prover()?),
            Dpop::Auto if wants_dpop => Some(self.prover()?),
            _ => None,
        };
        Ok(Errand { discovered, scopes, resource, prover, used, needed, phase })
    }

    fn derived_redirect_uri(&self) -> String {
        let port = self.settings.callback_port.unwrap_or_else(|| self.store.derived_port());
        format!("http://{}:{port}{}", self.settings.callback_host, self.settings.callback_path)
    }

    /// A configured client belongs to one authorization server; where the MCP server now names another
    /// one, it is not shown there (MCP 2026-07-28, Client Registration).
    fn check_issuer(&self, errand: &Errand) -> Result<(), Error> {
        let Some(info) = &self.settings.client_info else { return Ok(()) };
        let noted = info.expose().get("issuer").and_then(Value::as_str);
        let registered = noted.or_else(|| errand.used.as_ref().and_then(|used| used.tokens.issuer()));
        let named = &errand.discovered.server.issuer;
        match registered.filter(|registered| !registration::same_issuer(registered, named)) {
            None => Ok(()),
            Some(registered) => Err(Error::OtherIssuer { registered: registered.to_owned(), named: named.clone() }),
        }
    }

    fn has_token_endpoint(&self) -> bool {
        matches!(self.settings.grant, Grant::ClientCredentials { token_endpoint: Some(_), .. })
    }

    fn prover(&self) -> Result<Arc<Prover>, Error> {
        Ok(Arc::new(Prover::load(&self.store.path(DPOP_KEY))?))
    }

    /// Which file tokens are kept in.
    fn drawer(&self, bound: bool) -> Drawer {
        match &self.settings.grant {
            Grant::ClientCredentials { .. } => Drawer::ClientCredentials,
            Grant::Enterprise { .. } => Drawer::Enterprise,
            Grant::WorkloadIdentity(_) => Drawer::WorkloadIdentity,
            Grant::AuthorizationCode | Grant::DeviceCode if bound => Drawer::Dpop,
            Grant::AuthorizationCode | Grant::DeviceCode => Drawer::Npm,
        }
    }

    fn has_no_person(&self) -> bool {
        !matches!(self.settings.grant, Grant::AuthorizationCode | Grant::DeviceCode)
    }

    /// The grants that need nobody: asked for again whenever a token is wanted.
    async fn without_person(&self, errand: &Errand) -> Result<Credential, Error> {
        let _alone = self.refreshing.lock().await;
        let lock = self.store.lock(Purpose::Tokens).await;
        if let Some(newer) = self.newer(errand) {
            return Ok(newer);
        }
        let (response, client) = match &self.settings.grant {
            Grant::Enterprise { token, token_endpoint, client_id } => {
                enterprise::obtain(self, errand, token, token_endpoint, client_id).await?
            }
            Grant::WorkloadIdentity(source) => workload_identity::obtain(self, errand, source).await?,
            Grant::ClientCredentials { key, .. } => client_credentials::obtain(self, errand, key.as_deref()).await?,
            Grant::AuthorizationCode | Grant::DeviceCode => return Err(Error::Waiting { prompt: None }),
        };
        drop(lock);
        self.keep(errand, response, &client, Obtained::Refreshed).await
    }

    fn exchange(&self, errand: &Errand, client: Client) -> Exchange {
        self.exchange_with_key(errand, client, None)
    }

    fn exchange_with_key(&self, errand: &Errand, client: Client, key: Option<Arc<SigningKey>>) -> Exchange {
        Exchange::new(Parts {
            door: self.door.clone(),
            server: errand.discovered.server.clone(),
            client,
            resource: errand.resource.clone(),
            prover: errand.prover.clone(),
            key,
        })
    }

    /// Keeps new tokens, on disk first.
    async fn keep(
        &self,
        errand: &Errand,
        response: Map<String, Value>,
        client: &Client,
        obtained: Obtained,
    ) -> Result<Credential, Error> {
        let kind = response.get("token_type").and_then(Value::as_str).unwrap_or_default();
        let is_dpop = kind.eq_ignore_ascii_case("dpop");
        // RFC 6749 §7.1: a token of an unknown type must not be used.
        if !(kind.eq_ignore_ascii_case("bearer") || is_dpop && errand.prover.is_some()) {
            let what = format!("tokens of the type {:?}, which mcp-remote does not know", shown(kind.as_bytes()));
            return Err(Error::Answer { step: "the authorization server gives", what, status: None });
        }
        if self.settings.dpop == Dpop::Require && !is_dpop {
            let what = "a token that is not bound to our key, which --dpop require rules out".to_owned();
            return Err(Error::Answer { step: "the authorization server gives", what, status: None });
        }
        self.present().asked.extend(errand.scopes.iter().cloned());
        let server = &errand.discovered.server;
        let mut tokens = Tokens::of_response(response, Some(&server.issuer), self.now());
        if tokens.scope().is_none() {
            tokens = tokens.with_scope(&errand.scopes); // RFC 6749 §5.1: as asked for
        }
        let provenance = Provenance {
            server: self.address(),
            grant: self.grant_name().to_owned(),
            client_id: client.id.clone(),
            issuer: Some(server.issuer.clone()),
            resource: errand.resource.clone(),
            requested_scopes: errand.scopes.clone(),
            resource_metadata: errand.discovered.resource.as_ref().and_then(|resource| resource.advertised.clone()),
            token: String::new(),
        };
        let drawer = self.drawer(is_dpop);
        let _lock = self.store.lock(Purpose::Tokens).await;
        // A store that cannot be written costs a sign-in at the next start, not this one.
        let written = self.store.write(drawer.tokens(), &tokens.to_json());
        let kept = written.and_then(|()| provenance.save(&self.store, drawer, &tokens));
        if let Err(error) = kept {
            warn!("the sign-in is not kept: {error:#}");
        }
        if matches!(drawer, Drawer::Npm | Drawer::Dpop) {
            let other = if drawer == Drawer::Npm { Drawer::Dpop } else { Drawer::Npm };
            self.store.remove(other.tokens());
            self.store.remove(other.grant());
        }
        let prover = if is_dpop { errand.prover.clone() } else { None };
        Ok(self.credential_of(tokens, prover, obtained))
    }

    /// The server's address without what may be secret in it.
    fn address(&self) -> String {
        let mut url = self.door.server().clone();
        url.set_query(None);
        _ = url.set_username("");
        _ = url.set_password(None);
        url.into()
    }

    fn grant_name(&self) -> &'static str {
        match self.settings.grant {
            Grant::AuthorizationCode => "authorization_code",
            Grant::DeviceCode => "device_code",
            Grant::ClientCredentials { .. } => "client_credentials",
            Grant::Enterprise { .. } => "enterprise",
            Grant::WorkloadIdentity(_) => "workload_identity",
        }
    }

    fn has_registered(&self, client_id: &str) -> bool {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).contains(client_id)
    }

    fn note_registered(&self, client_id: &str) {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).insert(client_id.to_owned());
    }

    /// What the host calls itself.
    fn host_program(&self) -> Option<String> {
        let initialize = self.initialize.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let message: Value = serde_json::from_slice(&initialize.body.to_bytes()).ok()?;
        let info = &message["params"]["clientInfo"];
        let name = info["title"].as_str().or_else(|| info["name"].as_str())?;
        Some(shown(name.as_bytes()))
    }
}

/// The server's canonical URI (MCP 2025-11-25, Canonical Server URI): no fragment, and no slash that
/// the user did not write.
fn canonical(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    let bare = url.path() == "/" && url.query().is_none();
    let text = String::from(url);
    if bare { text.trim_end_matches('/').to_owned() } else { text }
}
