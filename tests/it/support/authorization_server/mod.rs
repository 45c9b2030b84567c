//! An authorization server and the protected MCP server in front of it, on loopback. Both assert
//! what they receive, answer what a test dictates, and count what happened.
//!
//! What is wrong whatever the test is about (no PKCE, a resource that changes, two ways of client
//! authentication at once, the MCP server's token shown to anybody else) is a *problem*: the request
//! is refused, and the test fails when the peer is dropped.
//!
//! Sections of the standards are cited at the checks, in the files of this folder.

mod authorize;
mod clients;
mod discovery;
pub mod proof;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use reqwest::Url;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use self::{
    authorize::Code,
    proof::Nonces,
    tokens::{Access, Device, Refresh},
};
use super::{
    server::{Reply, Request, Server, ordinary},
    soon, stored,
};

pub use self::{authorize::Iss, clients::Client};

/// Where Linux begins to give ports by itself (net.ipv4.ip_local_port_range).
const FIRST_EPHEMERAL: u16 = 32768;
/// The last port that browsers do not go to, and that is never used for a redirect.
const LAST_BLOCKED: u16 = 10080;

/// A change to a document before it is served.
pub type Edit = Arc<dyn Fn(&mut Value, &Addresses) + Send + Sync>;
/// Answers a request in place of the peer, or leaves it to the peer.
pub type First = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;
/// Changes an answer on its way out; what the request did is done.
pub type Last = Arc<dyn Fn(&Request, Reply) -> Reply + Send + Sync>;

/// A change to a document.
pub fn edit(change: impl Fn(&mut Value, &Addresses) + Send + Sync + 'static) -> Edit {
    Arc::new(change)
}

/// What both servers do. The default is an ordinary pair: a challenge that names its metadata, an
/// authorization server of its own origin, dynamic registration of public clients, consent at
/// once, tokens for an hour, rotation.
#[derive(Clone)]
pub struct Settings {
    /// Has the first say.
    pub first: First,
    /// Has the last say.
    pub last: Last,

    /// Where MCP is spoken.
    pub mcp_path: String,
    /// Who speaks MCP there.
    pub mcp: Arc<dyn Fn(&Request) -> Reply + Send + Sync>,
    /// Requests that need no token.
    pub open: fn(&Request) -> bool,
    /// Lines of `WWW-Authenticate` of a 401; `{prm}` stands for the metadata's address.
    pub challenges: Vec<String>,
    /// Scopes that a tool needs.
    pub tool_scopes: Vec<(String, String)>,

    /// The authorization server is the MCP server's own origin.
    pub one_origin: bool,
    /// What the authorization server takes its own origin to be, if it is reached by another way.
    pub origin: Option<String>,
    /// Where the resource's metadata are, if anywhere.
    pub prm_path: Option<String>,
    pub edit_prm: Edit,
    /// What follows the origin in the issuer.
    pub issuer_path: String,
    /// Where the authorization server's metadata are, if anywhere.
    pub metadata_path: Option<String>,
    pub edit_metadata: Edit,
    /// What stands before `/authorize`, `/token` and so on.
    pub endpoints: String,
    /// The value every request has to name as `resource`; `None`: what is published.
    pub resource: Option<Resource>,

    /// How registered clients authenticate (RFC 7591 §2).
    pub client_method: String,
    pub edit_registration: Edit,
    /// Clients that are known without registration.
    pub clients: Vec<Client>,
    /// A client gets only the scopes it was registered with.
    pub fixed_scopes: bool,

    /// The person's answer, if not yes: `error` and `error_description`.
    pub denies: Option<(String, String)>,
    /// The `iss` of the redirect (RFC 9207), and whether the metadata announce it.
    pub iss: Iss,
    pub iss_announced: bool,

    /// `expires_in`, as it stands in the answer; null for none.
    pub lifetime: Value,
    pub refresh_tokens: bool,
    /// A refresh token is good once (RFC 6749 §10.4).
    pub rotation: bool,
    /// What is granted, whatever is asked for.
    pub grants: Option<String>,
    pub edit_token: Edit,
    /// How long the token endpoint takes to answer.
    pub token_delay: Duration,
    /// The device grant is offered (RFC 8628).
    pub devices: bool,
    /// Answers to the polls of a device, until they are used up (RFC 8628 §3.5).
    pub device_polls: Vec<&'static str>,
    pub device_lifetime: u64,
    /// Assertions the jwt-bearer grant takes (RFC 7523 §2.1).
    pub assertions: Vec<String>,
    /// The token the identity provider takes in exchange (RFC 8693).
    pub subject_token: String,

    /// Tokens are bound to a key (RFC 9449).
    pub dpop: bool,
    /// Both servers demand nonces (RFC 9449 §8, §9).
    pub nonces: bool,
}

/// What a request has to name as its `resource` (RFC 8707).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Is(String),
    Absent,
}

impl Default for Settings {
    fn default() -> Self {
        let unchanged = edit(|_, _| {});
        Self {
            first: Arc::new(|_| None),
            last: Arc::new(|_, reply| reply),
            mcp_path: "/mcp".into(),
            mcp: Arc::new(ordinary),
            open: |_| false,
            challenges: vec![r#"Bearer resource_metadata="{prm}""#.into()],
            tool_scopes: Vec::new(),
            one_origin: false,
            origin: None,
            prm_path: Some("/.well-known/oauth-protected-resource/mcp".into()),
            edit_prm: unchanged.clone(),
            issuer_path: String::new(),
            metadata_path: Some("/.well-known/oauth-authorization-server".into()),
            edit_metadata: unchanged.clone(),
            endpoints: "/oauth".into(),
            resource: None,
            client_method: "none".into(),
            edit_registration: unchanged.clone(),
            clients: Vec::new(),
            fixed_scopes: false,
            denies: None,
            iss: Iss::Right,
            iss_announced: true,
            lifetime: json!(3600),
            refresh_tokens: true,
            rotation: true,
            grants: None,
            edit_token: unchanged,
            token_delay: Duration::ZERO,
            devices: false,
            device_polls: Vec::new(),
            device_lifetime: 600,
            assertions: Vec::new(),
            subject_token: String::new(),
            dpop: false,
            nonces: false,
        }
    }
}

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Mcp,
    Authorization,
}

/// Where both servers are: origins, without a slash at the end.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub mcp: String,
    pub authorization: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Visits of the authorize page by a browser.
    pub tabs: usize,
    /// Visits by anything else.
    pub looks: usize,
    pub registrations: usize,
    /// Requests to exchange a code.
    pub exchanges: usize,
    pub refreshes: usize,
    /// Refresh tokens that came a second time.
    pub reuses: usize,
    pub revocations: usize,
    /// Polls of devices.
    pub polls: usize,
    /// Requests for tokens by any other grant.
    pub other_grants: usize,
}

/// One request, and where it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub at: Place,
    pub request: Request,
}

impl Arrived {
    /// The path without the query.
    pub fn path(&self) -> &str {
        path(&self.request)
    }

    /// The form in the body, or in the query.
    pub fn form(&self) -> Form {
        let query = self.request.path.split_once('?').map_or("", |(_, query)| query);
        if self.request.body.is_empty() { Form::parse(query).0 } else { Form::parse(&self.request.body).0 }
    }
}

fn path(request: &Request) -> &str {
    request.path.split('?').next().unwrap_or_default()
}

/// The parameters of a form or a query.
#[derive(Clone, Debug, Default)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// The parameters, and the name of one that came twice (RFC 6749 §3.1 forbids that).
    fn parse(text: &str) -> (Self, Option<String>) {
        let url = Url::parse(&format!("http://form/?{text}")).expect("a form");
        let (mut form, mut twice) = (Self::default(), None);
        for (name, value) in url.query_pairs() {
            if form.0.insert(name.to_string(), value.into_owned()).is_some() {
                twice = Some(name.into_owned());
            }
        }
        (form, twice)
    }

    /// The parameters of a URL.
    pub fn of(url: &str) -> Self {
        Self::parse(url.split_once('?').map_or("", |(_, query)| query)).0
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The pair of servers.
pub struct AuthorizationServer {
    shared: Arc<Shared>,
    _servers: Vec<Server>,
}

struct Shared {
    state: Mutex<State>,
    more: Notify,
}

/// Everything the servers know.
struct State {
    settings: Settings,
    at: Addresses,
    arrived: Vec<Arrived>,
    counts: Counts,
    problems: Vec<String>,
    /// Everything that must not be seen anywhere.
    secrets: BTreeSet<String>,
    clients: BTreeMap<String, Client>,
    codes: BTreeMap<String, Code>,
    access: BTreeMap<String, Access>,
    refresh: BTreeMap<String, Refresh>,
    devices: BTreeMap<String, Device>,
    nonces: Nonces,
    /// Whether a client was refused.
    refused: bool,
    /// `jti`s of proofs and assertions.
    seen: BTreeSet<String>,
    serial: usize,
}

impl AuthorizationServer {
    /// Starts both.
    pub async fn start(settings: Settings) -> Self {
        let clients = settings.clients.iter().map(|client| (client.id.clone(), client.clone())).collect();
        let secrets = settings.clients.iter().filter_map(|client| client.secret.clone()).collect();
        let state = State {
            at: Addresses::default(),
            arrived: Vec::new(),
            counts: Counts::default(),
            problems: Vec::new(),
            secrets,
            clients,
            codes: BTreeMap::new(),
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            devices: BTreeMap::new(),
            nonces: Nonces::default(),
            refused: false,
            seen: BTreeSet::new(),
            serial: 0,
            settings,
        };
        let (one_origin, mcp_path) = (state.settings.one_origin, state.settings.mcp_path.clone());
        let shared = Arc::new(Shared { state: Mutex::new(state), more: Notify::new() });
        let serve = |at| {
            let shared = shared.clone();
            move |request| Shared::answer(shared.clone(), at, request)
        };
        let listener = quiet(&mcp_path).await;
        let mut servers = vec![Server::on(listener, serve(Place::Mcp))];
        if !one_origin {
            servers.push(Server::start(serve(Place::Authorization)).await);
        }
        let authorization = servers.last().expect("there is one").url("");
        let origin = shared.state().settings.origin.clone();
        shared.state().at = Addresses { mcp: servers[0].url(""), authorization: origin.unwrap_or(authorization) };
        Self { shared, _servers: servers }
    }

    /// Starts both with a change to the ordinary settings.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        Self::start(settings).await
    }

    /// The address of the MCP server.
    pub fn url(&self) -> String {
        self.state().mcp_url()
    }

    pub fn addresses(&self) -> Addresses {
        self.state().at.clone()
    }

    pub fn issuer(&self) -> String {
        self.state().issuer()
    }

    /// Where the authorization server really listens.
    pub fn port(&self) -> u16 {
        self._servers.last().expect("there is one").port
    }

    /// The address of an endpoint: `authorize`, `token`, `register`, `revoke`, `device`.
    pub fn endpoint(&self, name: &str) -> String {
        self.state().endpoint(name)
    }

    /// Changes what both do from now on.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Everything that arrived, in order.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.state().arrived.clone()
    }

    /// What arrived at a path.
    pub fn arrived_at(&self, place: Place, path: &str) -> Vec<Arrived> {
        self.arrived().into_iter().filter(|arrived| arrived.at == place && arrived.path() == path).collect()
    }

    /// The forms that arrived at an endpoint.
    pub fn forms(&self, endpoint: &str) -> Vec<Form> {
        let path = self.state().endpoint_path(endpoint);
        self.arrived().iter().filter(|arrived| arrived.path() == path).map(Arrived::form).collect()
    }

    /// The parameters of the authorize pages that a browser has seen.
    pub fn tabs(&self) -> Vec<Form> {
        let path = self.state().endpoint_path("authorize");
        let tabs = self.arrived().into_iter().filter(|a| a.path() == path && authorize::by_browser(&a.request));
        tabs.map(|arrived| arrived.form()).collect()
    }

    /// The well-known documents that were asked for at a place, in order.
    pub fn documents(&self, place: Place) -> Vec<String> {
        let asked = self.arrived().into_iter().filter(|a| a.at == place && a.path().contains("/.well-known/"));
        asked.map(|arrived| arrived.request.path).collect()
    }

    /// The JSON-RPC requests of a method.
    pub fn asked(&self, method: &str) -> Vec<Request> {
        let asked = self.arrived().into_iter().filter(|a| a.at == Place::Mcp && a.request.rpc() == method);
        asked.map(|arrived| arrived.request).collect()
    }

    /// Everything that must not be seen anywhere.
    pub fn secrets(&self) -> Vec<String> {
        self.state().secrets.iter().cloned().collect()
    }

    /// No access token is good from now on.
    pub fn revoke_access_tokens(&self) {
        self.state().access.clear();
    }

    /// No refresh token is good from now on.
    pub fn revoke_refresh_tokens(&self) {
        self.state().refresh.clear();
    }

    /// No registration is known from now on.
    pub fn forget_clients(&self) {
        self.state().clients.clear();
    }

    /// An access token of this scope, as if it had been obtained.
    pub fn access_token(&self, scope: &str) -> String {
        self.state().new_access(scope, 0, None)
    }

    /// A refresh token of this scope and client, as if it had been obtained; the client is known then.
    pub fn refresh_token(&self, scope: &str, client: Client) -> String {
        self.state().new_refresh(scope, client)
    }

    /// Waits until a condition holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        soon(what, async {
            loop {
                let more = self.shared.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if condition(self) {
                    return;
                }
                more.await;
            }
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let problems = std::mem::take(&mut self.state().problems);
            assert!(problems.is_empty(), "the servers were asked wrongly: {problems:#?}");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn answer(shared: Arc<Self>, at: Place, request: Request) -> Reply {
        let (reply, delay) = {
            let mut state = shared.state();
            let reply = state.answer(at, &request);
            let slow = path(&request) == state.endpoint_path("token");
            (reply, if slow { state.settings.token_delay } else { Duration::ZERO })
        };
        shared.more.notify_waiters();
        tokio::time::sleep(delay).await;
        reply
    }
}

impl State {
    fn mcp_url(&self) -> String {
        format!("{}{}", self.at.mcp, self.settings.mcp_path)
    }

    fn issuer(&self) -> String {
        format!("{}{}", self.at.authorization, self.settings.issuer_path)
    }

    fn endpoint_path(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.endpoints)
    }

    fn endpoint(&self, name: &str) -> String {
        format!("{}{}", self.at.authorization, self.endpoint_path(name))
    }

    /// A name that was never given before.
    fn fresh(&mut self, kind: &str) -> String {
        self.serial += 1;
        // The port keeps the tokens of two peers apart.
        let port = self.at.mcp.rsplit(':').next().unwrap_or_default().to_owned();
        format!("{kind}-{}-{port}", self.serial)
    }

    fn fresh_secret(&mut self, kind: &str) -> String {
        let secret = self.fresh(kind);
        self.secrets.insert(secret.clone());
        secret
    }

    /// Something is wrong; says so to the client too.
    fn problem(&mut self, what: impl Into<String>) -> Reply {
        let what = what.into();
        let reply = refusal(400, "invalid_request", &what);
        self.problems.push(what);
        reply
    }

    fn answer(&mut self, at: Place, request: &Request) -> Reply {
        self.arrived.push(Arrived { at, request: request.clone() });
        let first = self.settings.first.clone();
        let reply = first(request).unwrap_or_else(|| self.route(at, request));
        let last = self.settings.last.clone();
        last(request, reply)
    }

    fn route(&mut self, at: Place, request: &Request) -> Reply {
        let is_authorization_server = at == Place::Authorization || self.settings.one_origin;
        let path = path(request).to_owned();
        // The second is the endpoint of HTTP+SSE.
        if at == Place::Mcp && (path == self.settings.mcp_path || path == "/messages") {
            return self.mcp(request);
        }
        // The MCP server's token is for the MCP server (OAuth 2.1 §5, MCP 2025-11-25 "Token Handling").
        let shown = request.header("authorization").unwrap_or_default();
        if shown.starts_with("Bearer") || shown.starts_with("DPoP") {
            return self.problem(format!("{path} was shown a token"));
        }
        if let Some(document) = self.document(at, request) {
            return document;
        }
        match path.strip_prefix(&format!("{}/", self.settings.endpoints)) {
            _ if !is_authorization_server => nothing_here(),
            Some("authorize") => self.authorize(request),
            Some("token") => self.token(request),
            Some("register") => self.register(request),
            Some("revoke") => self.revoke(request),
            Some("device") => self.device(request),
            Some("idp") => self.identity_provider(request),
            _ => nothing_here(),
        }
    }

    /// The protected resource (RFC 6750, RFC 9449 §7).
    fn mcp(&mut self, request: &Request) -> Reply {
        if request.path.contains("access_token") {
            return self.problem("a token in a query (RFC 6750 §2.3)");
        }
        if (self.settings.open)(request) {
            return (self.settings.mcp)(request);
        }
        let shown = request.header("authorization").unwrap_or_default().to_owned();
        let scheme = if self.settings.dpop { "DPoP " } else { "Bearer " };
        let token = shown.strip_prefix(scheme).unwrap_or_default().to_owned();
        let access = self.access.get(&token).filter(|access| access.is_current()).cloned();
        let Some(access) = access else {
            return self.unauthorized(if shown.is_empty() { "" } else { "invalid_token" });
        };
        if self.settings.dpop {
            let here = format!("{}{}", self.at.mcp, path(request));
            match self.proof(request, Place::Mcp, &here, Some(&token)) {
                Ok(thumbprint) if Some(&thumbprint) == access.bound_to.as_ref() => {}
                Ok(_) => return self.problem("a proof with another key than the token's (RFC 9449 §6)"),
                Err(reply) => return reply,
            }
        }
        let call = request.json();
        let tool = call["params"]["name"].as_str().unwrap_or_default();
        let needed = self.settings.tool_scopes.iter().find(|(name, _)| name == tool).map(|(_, scopes)| scopes.clone());
        if let Some(needed) = needed.filter(|needed| request.rpc() == "tools/call" && !covers(&access.scope, needed)) {
            let prm = self.prm_url();
            // RFC 6750 §3.1; MCP 2025-11-25 "Runtime Insufficient Scope Errors".
            let challenge =
                format!(r#"Bearer error="insufficient_scope", scope="{needed}", resource_metadata="{prm}""#);
            return Reply::status(403, "text/plain", "Forbidden").with("www-authenticate", &challenge);
        }
        let reply = (self.settings.mcp)(request);
        if self.settings.nonces {
            return reply.with("dpop-nonce", &self.nonces.next(Place::Mcp));
        }
        reply
    }

    fn unauthorized(&mut self, error: &str) -> Reply {
        let prm = self.prm_url();
        let mut reply = Reply::status(401, "text/plain", "Unauthorized");
        for challenge in &self.settings.challenges {
            let mut challenge = challenge.replace("{prm}", &prm);
            if !error.is_empty() && challenge.starts_with("Bearer ") {
                challenge.push_str(&format!(r#", error="{error}""#));
            }
            reply = reply.with("www-authenticate", &challenge);
        }
        reply
    }
}

/// A listener for an MCP server whose derived redirect port is free, and stays so: below the ports
/// that the system gives to the sockets of other tests.
async fn quiet(mcp_path: &str) -> TcpListener {
    let mut passed = Vec::new(); // held, or the system gives the same ones again
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let derived = stored::port(&format!("http://{}{mcp_path}", listener.local_addr().unwrap()));
        if (LAST_BLOCKED + 1..FIRST_EPHEMERAL - 8).contains(&derived)
            && TcpListener::bind(("127.0.0.1", derived)).await.is_ok()
        {
            return listener;
        }
        passed.push(listener);
    }
}

fn nothing_here() -> Reply {
    Reply::status(404, "text/plain", "Not Found")
}

/// An error of an OAuth endpoint (RFC 6749 §5.2).
pub fn refusal(status: u16, error: &str, description: &str) -> Reply {
    Reply::status(status, "application/json", json!({"error": error, "error_description": description}))
}

/// Whether these scopes contain those (RFC 6749 §3.3).
fn covers(have: &str, need: &str) -> bool {
    let have: BTreeSet<_> = have.split_whitespace().collect();
    need.split_whitespace().all(|scope| have.contains(scope))
}

/// A list of scopes in order, for comparison.
pub fn scopes(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn from_now(seconds: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(seconds)
}
