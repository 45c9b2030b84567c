//! State shared by all steps of an authorization: settings, the way out, the files, the credential in use.
//!
//! # Invariants
//!
//! - Stored tokens are not used for another client, issuer or resource than they were issued to.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::SystemTime,
};

use log::warn;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    credential::{Credential, Obtained},
    error::Error,
    fact::{AuthorizationFact, Facts},
    held::{Current, Held},
    http::client::HttpClient,
    person::{redirect::Listener, stay::Stay},
    protocol::{client_auth::Client, dpop::Prover, issuer::same_issuer, metadata::AuthorizationServer},
    stored::{
        provenance::Provenance,
        registrations,
        tokens::{TokenFile, Tokens},
    },
};
use crate::{
    config::{Authorization, Dpop, Occasion, Resource},
    description::store::Account,
    message::Message,
    secret::Secret,
    store::Store,
    sync::LockExt,
    text::one_line,
};

/// Private key of the proofs (RFC 9449): PKCS#8, in DER whatever the name says.
const DPOP_KEY: &str = "dpop_key.pem";

/// What all steps share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Arc<Authorization>,
    pub(crate) http: Arc<HttpClient>,
    pub(crate) store: Store,
    pub(crate) facts: Facts,
    pub(crate) held: Arc<Mutex<Held>>,
    /// One replacement of an ending token at a time.
    pub(crate) renewal: tokio::sync::Mutex<()>,
    /// One refresh at a time in this process; the lock on disk is for the others.
    pub(crate) refreshing: tokio::sync::Mutex<()>,
    /// Held shared while a grant is spent and its tokens are not yet on disk.
    pub(crate) under_way: tokio::sync::RwLock<()>,
    /// The key that tokens are bound to, and the nonces it was given.
    key: OnceLock<Arc<Prover>>,
    /// Ports that stay open for a moment after their sign-in.
    lingering: Mutex<JoinSet<()>>,
    /// Files and digests of the tokens that were stored when this process looked first.
    before: OnceLock<Vec<(String, String)>>,
    /// Clients registered by this process: known to be known.
    registered: Mutex<HashSet<String>>,
    /// The host's first message, for its name.
    first: Mutex<Option<Message>>,
    /// Whether a browser may be opened for this host yet.
    pub(crate) stay: Stay,
}

impl Context {
    /// Touches nothing yet.
    pub(crate) fn new(settings: Arc<Authorization>, http: HttpClient, store: Store, facts: Facts) -> Self {
        Self {
            settings,
            http: Arc::new(http),
            store,
            facts,
            held: Arc::default(),
            renewal: tokio::sync::Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            under_way: tokio::sync::RwLock::default(),
            key: OnceLock::new(),
            lingering: Mutex::default(),
            before: OnceLock::new(),
            registered: Mutex::default(),
            first: Mutex::default(),
            stay: Stay::from_now(),
        }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.guard()
    }

    /// Returns what a sign-in would be for now.
    pub(crate) fn occasion(&self) -> Occasion {
        let asked = if self.held().user_asks { Occasion::Asked } else { Occasion::Host };
        self.settings.occasion.max(asked)
    }

    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Whether there is a way to replace a token that ends, and it has not just failed.
    pub(crate) fn may_renew(&self, credential: &Credential) -> bool {
        let has_way = credential.tokens().refresh_token().is_some() || !self.settings.grant.needs_person();
        let held = self.held();
        has_way && !held.renewal.has_just_failed() && held.busy().is_none()
    }

    /// Returns the credential in use, read from disk the first time.
    pub(crate) fn current(&self) -> Option<Arc<Credential>> {
        if matches!(self.held().current, Current::Unread) {
            // Not under the lock: the disk may not answer, and others need what is held.
            let stored = self.stored().map(Arc::new);
            let mut held = self.held();
            // A store that could not be read is read again.
            if matches!(held.current, Current::Unread) && (stored.is_some() || self.store.unavailable().is_none()) {
                if let Some(credential) = &stored {
                    self.facts.tell(|| AuthorizationFact::Credential(credential.clone()));
                }
                held.current = stored.map_or(Current::Nothing, Current::Credential);
            }
        }
        self.known()
    }

    /// Returns the credential in use, as far as it was read.
    pub(crate) fn known(&self) -> Option<Arc<Credential>> {
        match &self.held().current {
            Current::Credential(credential) => Some(credential.clone()),
            Current::Unread | Current::Nothing => None,
        }
    }

    /// Sends this credential from now on.
    pub(crate) fn set_current(&self, credential: &Arc<Credential>) {
        self.facts.tell(|| AuthorizationFact::Credential(credential.clone()));
        let mut held = self.held();
        if let Current::Credential(former) =
            std::mem::replace(&mut held.current, Current::Credential(credential.clone()))
        {
            held.former = Some(former);
        }
    }

    /// Returns the credential on disk, if the settings allow its use.
    pub(crate) fn stored(&self) -> Option<Credential> {
        let files: &[bool] = match (self.settings.grant.needs_person(), self.settings.dpop) {
            (_, Dpop::Require) => &[true],
            (false, _) | (true, Dpop::Off) => &[false],
            (true, Dpop::Auto) => &[true, false],
        };
        files.iter().find_map(|bound| {
            let file = self.token_file(*bound);
            let tokens = Tokens::load(&self.store, file)?;
            if self.settings.occasion == Occasion::Login && self.was_there_before(file, &tokens) {
                return None;
            }
            let from = Provenance::load(&self.store, file, &tokens);
            if !from.as_ref().is_none_or(|from| self.may_use(from)) {
                return None;
            }
            let prover = if tokens.is_dpop() { Some(self.prover().ok()?) } else { None };
            Some(self.credential_of(tokens, prover, Obtained::Stored))
        })
    }

    /// Keeps a port open for a moment.
    pub(crate) fn linger(&self, listener: Listener) {
        let mut lingering = self.lingering.guard();
        while lingering.try_join_next().is_some() {}
        lingering.spawn(listener.linger());
    }

    /// Closes the ports that were kept open, since one is needed again.
    pub(crate) async fn end_lingering(&self) {
        let mut lingering = std::mem::take(&mut *self.lingering.guard());
        lingering.shutdown().await;
    }

    /// Whether tokens were stored before this process looked first, so that a sign-in that begins anew leaves them out.
    fn was_there_before(&self, file: TokenFile, tokens: &Tokens) -> bool {
        let digest = |(file, tokens): (TokenFile, Tokens)| (file.name(), tokens.digest());
        let all = || TokenFile::all().filter_map(|file| Some((file, Tokens::load(&self.store, file)?)));
        let before = self.before.get_or_init(|| all().map(digest).collect());
        before.contains(&digest((file, tokens.clone())))
    }

    /// Whether tokens of this origin are for the configured client and resource.
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

    pub(crate) fn credential_of(&self, tokens: Tokens, prover: Option<Arc<Prover>>, obtained: Obtained) -> Credential {
        let id_token = tokens.id_token().filter(|_| self.settings.use_id_token);
        if self.settings.use_id_token && id_token.is_none() {
            warn!("--use-id-token: the authorization server issued no ID token; sending the access token instead");
        }
        let token = id_token.unwrap_or_else(|| tokens.access_token());
        let token = Secret::new((*token.expose()).to_owned());
        let account = self.account_of(self.token_file(tokens.is_dpop()), &tokens);
        Credential::new(tokens, token, account, prover, obtained)
    }

    /// Returns who is signed in as far as the files tell, unless another account's token is in use.
    pub(crate) fn account(&self) -> Account {
        let files = [self.token_file(true), self.token_file(false)];
        let found = files.into_iter().find_map(|file| Some((file, Tokens::load(&self.store, file)?)));
        let filed = found.map(|(file, tokens)| self.account_of(file, &tokens));
        let used = match &self.held().current {
            Current::Credential(credential) => Some(credential.account().to_owned()),
            Current::Unread | Current::Nothing => None,
        };
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

    pub(crate) fn prover(&self) -> Result<Arc<Prover>, Error> {
        if let Some(prover) = self.key.get() {
            return Ok(prover.clone());
        }
        let file = self.store.path(DPOP_KEY);
        let prover = Arc::new(self.store.access_to(&file, || Prover::load(&file))?);
        Ok(self.key.get_or_init(|| prover).clone())
    }

    /// Returns which file tokens are kept in.
    pub(crate) fn token_file(&self, bound: bool) -> TokenFile {
        TokenFile::of(&self.settings.grant, bound)
    }

    /// Reports the client in use.
    pub(crate) fn tell_client(&self, client: &Client) {
        self.facts.tell(|| AuthorizationFact::Client { id: client.id.clone(), origin: client.origin });
    }

    /// Whether tokens are this authorization server's. A refresh by the npm package loses their issuer; what was noted
    /// beside them, or of their client, tells it then. A token of unknown origin is shown to no server.
    pub(crate) fn was_issued_by(&self, tokens: &Tokens, server: &AuthorizationServer, file: TokenFile) -> bool {
        let noted = || Provenance::any(&self.store, file).and_then(|from| from.issuer);
        let registered = || registrations::issuer_noted(&self.store);
        let issuer = tokens.issuer().map(ToOwned::to_owned).or_else(noted).or_else(registered);
        issuer.is_some_and(|issuer| same_issuer(&issuer, &server.issuer))
    }

    /// Returns the server's URL without what may be secret in it.
    pub(crate) fn address(&self) -> String {
        let mut url = self.http.server().clone();
        url.set_query(None);
        _ = url.set_username("");
        _ = url.set_password(None);
        url.into()
    }

    pub(crate) fn has_registered(&self, client_id: &str) -> bool {
        self.registered.guard().contains(client_id)
    }

    pub(crate) fn note_registered(&self, client_id: &str) {
        self.registered.guard().insert(client_id.to_owned());
    }

    pub(crate) fn note_first(&self, message: &Message) {
        *self.first.guard() = Some(message.clone());
    }

    /// Returns what the host calls itself.
    pub(crate) fn host_program(&self) -> Option<String> {
        let first = self.first.guard().clone()?;
        let message: Value = serde_json::from_slice(&first.body.to_bytes()).ok()?;
        let info = match &message["params"] {
            params if params["clientInfo"].is_object() => &params["clientInfo"],
            params => &params["_meta"]["io.modelcontextprotocol/clientInfo"],
        };
        let name = info["title"].as_str().or_else(|| info["name"].as_str())?;
        Some(one_line(name.as_bytes()))
    }
}
