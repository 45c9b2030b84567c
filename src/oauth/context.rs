//! What all steps of an authorization share, and the one attempt that they are on.
//!
//! Must never: use stored tokens for another client, issuer or resource than they were issued to.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use log::{info, warn};
use reqwest::Url;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{
    config::{Authorization, Dpop, Grant, Resource},
    description::store::Account,
    message::Message,
    oauth::{
        client::{self, Client},
        credential::{Credential, Obtained},
        error::Error,
        grants::{client_credentials, id_jag, workload_identity},
        http::client::HttpClient,
        person::stay::Stay,
        progress::Progress,
        protocol::{
            challenge::Challenge,
            discovery::{self, AuthorizationServer, Discovered},
            dpop::Prover,
            jws::SigningKey,
            scope,
            token_endpoint::{Parts, TokenEndpoint},
        },
        providers::{self, Remedy},
        stored::{
            provenance::Provenance,
            sign_in::Tabs,
            tokens::{TokenFile, Tokens},
        },
    },
    observer::{Fact, Observer},
    report::{self, Code},
    secret::Secret,
    store::{Store, lock::Purpose},
    text::{host, one_line},
};

/// Pause after a refresh that failed while the token is still good.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// Longest scopes and resource, in bytes: they go into an address, which servers, browsers and the
/// arguments of a program on Windows (32 KiB) do not take longer.
const LONGEST_WISH: usize = 32 * 1024;
/// Private key of the proofs (RFC 9449): PKCS#8, in DER whatever the name says.
const DPOP_KEY: &str = "dpop_key.pem";

/// What all steps share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) settings: Arc<Authorization>,
    pub(crate) http: Arc<HttpClient>,
    pub(crate) store: Store,
    pub(crate) present: Arc<Mutex<Present>>,
    /// One replacement of an ending token at a time.
    pub(crate) renewal: Arc<tokio::sync::Mutex<()>>,
    /// One refresh at a time in this process; the lock on disk is for the others.
    pub(crate) refreshing: Arc<tokio::sync::Mutex<()>>,
    /// Held shared while a grant is spent and its tokens are not yet on disk.
    pub(crate) under_way: Arc<tokio::sync::RwLock<()>>,
    /// The key that tokens are bound to, and the nonces it was given.
    pub(crate) key: Arc<OnceLock<Arc<Prover>>>,
    /// Clients registered by this process: known to be known.
    pub(crate) registered: Arc<Mutex<HashSet<String>>>,
    /// The host's `initialize`, for its name.
    pub(crate) initialize: Arc<Mutex<Option<Message>>>,
    /// Whether a browser may be opened for this host yet.
    pub(crate) stay: Arc<Stay>,
    pub(crate) observer: Observer,
}

/// What is known about our credential.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) loaded: bool,
    pub(crate) credential: Option<Arc<Credential>>,
    pub(crate) refresh_failed: Option<Instant>,
    /// Whether a refresh ahead of time is under way.
    pub(crate) renewing: bool,
    /// When a sign-in last came to nothing.
    pub(crate) failed: Option<Instant>,
    /// Scopes that a person was asked for in this process.
    pub(crate) asked: Vec<String>,
    /// Step-ups since the last request that succeeded after one, and when the last was.
    pub(crate) step_ups: u32,
    pub(crate) last_step_up: Option<Instant>,
    /// The store did not take our last tokens: what we hold is all there is.
    pub(crate) unkept: bool,
    /// Where the metadata are, as the last challenge said.
    pub(crate) resource_metadata: Option<String>,
    /// What the last look at the metadata found.
    pub(crate) discovered: Option<Discovered>,
    /// Whether a person was asked once more because the server refused a token that only its issuer can
    /// read. Also where the store cannot keep what helps, they are not asked again for that.
    pub(crate) asked_for_audience: bool,
}

/// One walk from a challenge to a credential.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizationAttempt {
    pub(crate) discovered: Discovered,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: Option<String>,
    pub(crate) prover: Option<Arc<Prover>>,
    /// The credential that was refused or is about to end.
    pub(crate) used: Option<Arc<Credential>>,
    /// Scopes that a newer credential must have.
    pub(crate) needed: Vec<String>,
    /// What is done otherwise for this authorization server.
    pub(crate) remedies: Vec<Remedy>,
    pub(crate) progress: Progress,
}

impl Context {
    pub(crate) fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Whether there is a way to replace a token that ends, and it has not just failed.
    pub(crate) fn may_renew(&self, credential: &Credential) -> bool {
        let has_way = credential.tokens().refresh_token().is_some() || self.has_no_person();
        has_way && self.present().refresh_failed.is_none_or(|at| at.elapsed() >= REFRESH_PAUSE)
    }

    /// The credential in use, read from disk the first time.
    pub(crate) fn current(&self) -> Option<Arc<Credential>> {
        let mut present = self.present();
        if !present.loaded {
            present.loaded = true;
            present.credential = self.stored().map(Arc::new);
            if let Some(credential) = &present.credential {
                self.observer.tell(|| Fact::Credential(credential.clone()));
            }
        }
        present.credential.clone()
    }

    /// The credential on disk, if it is ours to use.
    pub(crate) fn stored(&self) -> Option<Credential> {
        let files: &[bool] = match (self.has_no_person(), self.settings.dpop) {
            (true, Dpop::Require) | (false, Dpop::Require) => &[true],
            (true, _) | (false, Dpop::Off) => &[false],
            (false, Dpop::Auto) => &[true, false],
        };
        files.iter().find_map(|bound| {
            let file = self.token_file(*bound);
            let tokens = Tokens::load(&self.store, file)?;
            let from = Provenance::load(&self.store, file, &tokens);
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

    /// A credential on disk that is newer than the attempt's, and good for it.
    pub(crate) fn newer(&self, attempt: &AuthorizationAttempt) -> Option<Credential> {
        let stored = self.stored()?;
        let is_other = attempt.used.as_ref().is_none_or(|used| !used.is(&stored));
        let good = is_other
            && has_all(stored.tokens(), &attempt.needed)
            && !stored.tokens().has_expired(self.now())
            && stored
                .tokens()
                .issuer()
                .is_none_or(|issuer| client::same_issuer(issuer, &attempt.discovered.server.issuer));
        good.then_some(stored)
    }

    pub(crate) fn credential_of(&self, tokens: Tokens, prover: Option<Arc<Prover>>, obtained: Obtained) -> Credential {
        let id_token = tokens.id_token().filter(|_| self.settings.use_id_token);
        if self.settings.use_id_token && id_token.is_none() {
            warn!("--use-id-token: the authorization server gave none; the access token is sent");
        }
        let token = id_token.unwrap_or_else(|| tokens.access_token());
        let token = Secret::new((*token.expose()).to_owned());
        let account = self.account_of(self.token_file(tokens.is_dpop()), &tokens);
        Credential::new(tokens, token, account, prover, obtained)
    }

    /// Discovery, and what follows from it. `needed` are the scopes of a step-up, which must not lose
    /// those that are held.
    pub(crate) async fn attempt(
        &self,
        challenge: &Challenge,
        used: Option<Arc<Credential>>,
        needed: Option<Vec<String>>,
        progress: Progress,
    ) -> Result<AuthorizationAttempt, Error> {
        let discovered = match &self.settings.grant {
            Grant::ClientCredentials { token_endpoint: Some(endpoint), .. } => {
                Discovered { resource: None, server: AuthorizationServer::of_token_endpoint(endpoint) }
            }
            _ => {
                let present = used.as_ref().and_then(|used| used.tokens().issuer());
                discovery::discover(&self.http, challenge, present).await?
            }
        };
        self.observer.tell(|| Fact::Discovered(Box::new(discovered.clone())));
        self.present().discovered = Some(discovered.clone());
        self.attempt_at(discovered, challenge, used, needed, progress)
    }

    pub(crate) fn attempt_at(
        &self,
        discovered: Discovered,
        challenge: &Challenge,
        used: Option<Arc<Credential>>,
        needed: Option<Vec<String>>,
        progress: Progress,
    ) -> Result<AuthorizationAttempt, Error> {
        // What a step-up must keep: what was asked for before, and what was granted.
        let mut held = Vec::new();
        if let Some(used) = used.as_ref().filter(|_| needed.is_some()) {
            let file = self.token_file(used.is_bound());
            held.extend(
                Provenance::load(&self.store, file, used.tokens()).into_iter().flat_map(|from| from.requested_scopes),
            );
            held.extend(used.tokens().scopes().map(ToOwned::to_owned));
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
                None => canonical(self.http.server()),
            }),
        };
        let length: usize = scopes.iter().chain(&resource).map(String::len).sum();
        if length > LONGEST_WISH {
            let host = host(self.http.server());
            return Err(Error::Metadata(format!("{host} names scopes of {length} bytes, more than an address holds")));
        }
        let wants_dpop = discovered.resource.as_ref().is_some_and(|resource| resource.wants_dpop)
            || (challenge.dpop && !challenge.bearer)
            || used.as_ref().is_some_and(|used| used.is_bound());
        let prover = match self.settings.dpop {
            Dpop::Off => None,
            Dpop::Auto if !wants_dpop => None,
            Dpop::Auto | Dpop::Require => {
                // RFC 9449 §5.1, §7.1: what may sign, where that is said.
                let listed = discovered.server.metadata.dpop_signing_alg_values_supported.as_deref();
                let accepts = |list: &[String]| list.is_empty() || list.iter().any(|name| name == Prover::ALGORITHM);
                if !accepts(&challenge.dpop_algorithms) || !accepts(listed.unwrap_or_default()) {
                    let issuer = discovered.server.issuer;
                    return Err(Error::Unsupported { issuer, what: "takes no proofs of possession signed with ES256" });
                }
                Some(self.prover()?)
            }
        };
        let needed = needed.unwrap_or_default();
        let mut attempt =
            AuthorizationAttempt { discovered, scopes, resource, prover, used, needed, remedies: Vec::new(), progress };
        self.check_issuer(&attempt)?;
        if !self.has_no_person() {
            providers::prepare(&self.settings, &self.store, &mut attempt);
        }
        Ok(attempt)
    }

    /// Who is signed in as far as the files tell, if it is nobody else's token that is in use.
    pub(crate) fn account(&self) -> Account {
        let files = [self.token_file(true), self.token_file(false)];
        let found = files.into_iter().find_map(|file| Some((file, Tokens::load(&self.store, file)?)));
        let filed = found.map(|(file, tokens)| self.account_of(file, &tokens));
        let used = self.present().credential.as_ref().map(|present| present.account().to_owned());
        match (used, filed) {
            (Some(used), filed) if filed.as_ref() != Some(&used) => Account::Gone,
            (_, filed) => filed.map_or(Account::Nobody, Account::SignedIn),
        }
    }

    fn account_of(&self, file: TokenFile, tokens: &Tokens) -> String {
        // Tokens that npm has written may be anybody's: they have no other name than their own.
        let noted = Provenance::load(&self.store, file, tokens).map(|from| from.sign_in);
        noted.filter(|name| !name.is_empty()).unwrap_or_else(|| tokens.digest())
    }

    pub(crate) fn derived_redirect_uri(&self) -> String {
        let port = self.settings.callback_port.unwrap_or_else(|| self.store.derived_port());
        format!("http://{}:{port}{}", self.settings.callback_host, self.settings.callback_path)
    }

    /// A configured client, or a program's credential, belongs to one authorization server; where the MCP
    /// server now names another one, it is not shown there (MCP 2026-07-28, Client Registration).
    fn check_issuer(&self, attempt: &AuthorizationAttempt) -> Result<(), Error> {
        if self.settings.client_info.is_none() && !self.has_no_person() || self.has_token_endpoint() {
            return Ok(());
        }
        let info = self.settings.client_info.as_ref();
        let noted = info.and_then(|info| info.expose().get("issuer")?.as_str());
        let registered = noted.or_else(|| attempt.used.as_ref().and_then(|used| used.tokens().issuer()));
        let named = &attempt.discovered.server.issuer;
        match registered.filter(|registered| !client::same_issuer(registered, named)) {
            None => Ok(()),
            Some(registered) => Err(Error::OtherIssuer { registered: registered.to_owned(), named: named.clone() }),
        }
    }

    fn has_token_endpoint(&self) -> bool {
        matches!(self.settings.grant, Grant::ClientCredentials { token_endpoint: Some(_), .. })
    }

    pub(crate) fn prover(&self) -> Result<Arc<Prover>, Error> {
        if let Some(prover) = self.key.get() {
            return Ok(prover.clone());
        }
        let prover = Arc::new(Prover::load(&self.store.path(DPOP_KEY))?);
        Ok(self.key.get_or_init(|| prover).clone())
    }

    /// Which file tokens are kept in.
    pub(crate) fn token_file(&self, bound: bool) -> TokenFile {
        match &self.settings.grant {
            Grant::ClientCredentials { .. } => TokenFile::ClientCredentials,
            Grant::Enterprise { .. } => TokenFile::Enterprise,
            Grant::WorkloadIdentity(_) => TokenFile::WorkloadIdentity,
            Grant::AuthorizationCode | Grant::DeviceCode if bound => TokenFile::Dpop,
            Grant::AuthorizationCode | Grant::DeviceCode => TokenFile::Npm,
        }
    }

    pub(crate) fn has_no_person(&self) -> bool {
        !matches!(self.settings.grant, Grant::AuthorizationCode | Grant::DeviceCode)
    }

    /// The grants that need nobody: asked for again whenever a token is wanted.
    pub(crate) async fn without_person(&self, attempt: &AuthorizationAttempt) -> Result<Credential, Error> {
        let _alone = self.refreshing.lock().await;
        let lock = self.store.lock(Purpose::Tokens).await;
        if let Some(newer) = self.newer(attempt) {
            return Ok(newer);
        }
        let (response, client) = match &self.settings.grant {
            Grant::Enterprise { token, token_endpoint, client_id } => {
                id_jag::obtain(self, attempt, token, token_endpoint, client_id).await?
            }
            Grant::WorkloadIdentity(source) => workload_identity::obtain(self, attempt, source).await?,
            Grant::ClientCredentials { key, .. } => client_credentials::obtain(self, attempt, key.as_deref()).await?,
            Grant::AuthorizationCode | Grant::DeviceCode => return Err(Error::Waiting { prompt: None }),
        };
        drop(lock);
        self.tell_client(&client);
        self.keep(attempt, response, &client, Obtained::Refreshed).await
    }

    /// Says who we are.
    pub(crate) fn tell_client(&self, client: &Client) {
        self.observer.tell(|| Fact::Client { id: client.id.clone(), origin: client.origin });
    }

    pub(crate) fn token_endpoint_of(&self, attempt: &AuthorizationAttempt, client: Client) -> TokenEndpoint {
        self.token_endpoint_with_key(attempt, client, None)
    }

    pub(crate) fn token_endpoint_with_key(
        &self,
        attempt: &AuthorizationAttempt,
        client: Client,
        key: Option<Arc<SigningKey>>,
    ) -> TokenEndpoint {
        TokenEndpoint::new(Parts {
            http: self.http.clone(),
            server: attempt.discovered.server.clone(),
            client,
            resource: attempt.resource.clone(),
            prover: attempt.prover.clone(),
            key,
        })
    }

    /// RFC 6749 §7.1: a token of an unknown type must not be used; RFC 9449 §5: nor one that is bound to a
    /// key that is not ours.
    pub(crate) fn check_type(&self, tokens: &Tokens, attempt: &AuthorizationAttempt) -> Result<(), Error> {
        let kind = tokens.kind();
        let what = if tokens.is_dpop() && attempt.prover.is_some() {
            return Ok(());
        } else if !kind.eq_ignore_ascii_case("bearer") {
            format!("tokens of the type {:?}, which cannot be used here", one_line(kind.as_bytes()))
        } else if self.settings.dpop == Dpop::Require {
            "tokens that are not bound to our key, which --dpop require rules out".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Answer { step: "the authorization server gives", what, status: None })
    }

    /// Whether tokens are this authorization server's. npm's refresh loses their issuer; what was noted
    /// beside them, or of their client, tells it then. A token of unknown origin is shown to nobody.
    pub(crate) fn was_issued_by(&self, tokens: &Tokens, server: &AuthorizationServer, file: TokenFile) -> bool {
        let noted = || Provenance::any(&self.store, file).and_then(|from| from.issuer);
        let registered = || client::issuer_noted(&self.store);
        let issuer = tokens.issuer().map(ToOwned::to_owned).or_else(noted).or_else(registered);
        issuer.is_some_and(|issuer| client::same_issuer(&issuer, &server.issuer))
    }

    /// Keeps new tokens, on disk first.
    pub(crate) async fn keep(
        &self,
        attempt: &AuthorizationAttempt,
        response: Map<String, Value>,
        client: &Client,
        obtained: Obtained,
    ) -> Result<Credential, Error> {
        self.present().asked.clone_from(&attempt.scopes);
        let server = &attempt.discovered.server;
        let mut tokens = Tokens::of_response(response, Some(&server.issuer), self.now());
        self.check_type(&tokens, attempt)?;
        if tokens.scope().is_none() {
            tokens = tokens.with_scope(&attempt.scopes); // RFC 6749 §5.1: as asked for
        }
        let mut provenance = Provenance {
            server: self.address(),
            grant: self.grant_name().to_owned(),
            client_id: client.id.clone(),
            issuer: Some(server.issuer.clone()),
            resource: attempt.resource.clone(),
            requested_scopes: attempt.scopes.clone(),
            resource_metadata: attempt.discovered.resource.as_ref().and_then(|resource| resource.advertised.clone()),
            over: false,
            sign_in: format!("{:016x}", fastrand::u64(..)),
            token: String::new(),
        };
        let file = self.token_file(tokens.is_dpop());
        let _lock = self.store.lock(Purpose::Tokens).await;
        let before = match self.settings.grant {
            // Somebody else's assertion may be in its place by now.
            Grant::Enterprise { .. } | Grant::WorkloadIdentity(_) => None,
            _ => Provenance::any(&self.store, file).map(|from| from.sign_in),
        };
        if let (Obtained::Refreshed, Some(before)) = (obtained, before.filter(|name| !name.is_empty())) {
            provenance.sign_in = before;
        }
        // A store that cannot be written costs a sign-in at the next start, not this one.
        let written = self.store.write(file.name(), &tokens.to_json());
        self.present().unkept = written.is_err();
        let kept = written.and_then(|()| provenance.save(&self.store, file, &tokens));
        if let Err(error) = kept {
            let report = report::warn(Code::StoreNotWritable, format!("the sign-in is not kept: {error:#}"));
            self.observer.tell(|| Fact::Warned { report, way: None });
        }
        if matches!(file, TokenFile::Npm | TokenFile::Dpop) {
            let other = if file == TokenFile::Npm { TokenFile::Dpop } else { TokenFile::Npm };
            self.store.remove(other.name());
            self.store.remove(other.provenance_name());
        }
        if obtained == Obtained::SignedIn {
            info!("signed in");
            Tabs::forget(&self.store);
            self.keep_remedies(attempt, &tokens);
            if let (Some(end), None) = (tokens.expires_at(), tokens.refresh_token()) {
                let minutes = end.duration_since(self.now()).unwrap_or_default().as_secs().div_ceil(60);
                let life = match minutes {
                    0..120 => format!("{minutes} min"),
                    120..2880 => format!("{} h", minutes / 60),
                    _ => format!("{} days", minutes / (24 * 60)),
                };
                let place = host(self.http.server());
                let report = report::warn(
                    Code::NoRefreshToken,
                    format!("the sign-in to {place} ends in {life}: {} gave no refresh token", server.issuer),
                );
                self.observer.tell(|| Fact::Warned { report, way: None });
            }
        }
        if file == TokenFile::Npm {
            client::keep_for_npm(&self.store, server, client);
        }
        let prover = attempt.prover.clone().filter(|_| tokens.is_dpop());
        Ok(self.credential_of(tokens, prover, obtained))
    }

    /// The server's address without what may be secret in it.
    pub(crate) fn address(&self) -> String {
        let mut url = self.http.server().clone();
        url.set_query(None);
        _ = url.set_username("");
        _ = url.set_password(None);
        url.into()
    }

    pub(crate) fn grant_name(&self) -> &'static str {
        match self.settings.grant {
            Grant::AuthorizationCode => "authorization_code",
            Grant::DeviceCode => "device_code",
            Grant::ClientCredentials { .. } => "client_credentials",
            Grant::Enterprise { .. } => "enterprise",
            Grant::WorkloadIdentity(_) => "workload_identity",
        }
    }

    pub(crate) fn has_registered(&self, client_id: &str) -> bool {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).contains(client_id)
    }

    pub(crate) fn note_registered(&self, client_id: &str) {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).insert(client_id.to_owned());
    }

    /// What the host calls itself.
    pub(crate) fn host_program(&self) -> Option<String> {
        let initialize = self.initialize.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let message: Value = serde_json::from_slice(&initialize.body.to_bytes()).ok()?;
        let info = &message["params"]["clientInfo"];
        let name = info["title"].as_str().or_else(|| info["name"].as_str())?;
        Some(one_line(name.as_bytes()))
    }
}

/// The server's canonical URI (MCP 2025-11-25, Canonical Server URI): no fragment, and no slash that
/// the user did not write.
fn canonical(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    url.set_query(None); // RFC 8707 §2: SHOULD NOT have one, and ours may hold a key
    _ = url.set_username("");
    _ = url.set_password(None);
    let bare = url.path() == "/";
    let text = String::from(url);
    if bare { text.trim_end_matches('/').to_owned() } else { text }
}

/// Whether tokens are known to have all of these scopes.
pub(crate) fn has_all(tokens: &Tokens, scopes: &[String]) -> bool {
    scopes.iter().all(|wanted| tokens.scopes().any(|scope| scope == wanted))
}
