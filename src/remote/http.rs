//! The one door to the network: one client configuration (roots, proxy, time-outs, IP family) for
//! everything, the user's headers, cookies, redirects; what a refusal means.
//!
//! Must never: let a header, a cookie or a body reach another origin than the server's; follow a
//! redirect that leaves it; keep more of a body than the limit.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use log::debug;
use reqwest::{
    Client, Method, Request, Response, StatusCode, Url,
    cookie::{CookieStore, Jar},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use serde::Deserialize;
use tokio::sync::watch;

use super::{
    error::{Error, Refusal, same_origin},
    window::Window,
};
use crate::{
    config::{Network, ServerUrl},
    description::store::{Account, AccountNow},
    message::{Assembly, Body, Message, Shape},
    network::{ClientFactory, Route},
    oauth::{
        self, Authorizer, Credential, Deadline as Patience, Need, Requester as Waiter, protocol::challenge::Challenge,
    },
    observer::{Fact, Observer},
    status,
    text::one_line,
};

/// `Mcp-Session-Id` (MCP 2025-03-26 to 2025-11-25, Transports, Session Management).
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `MCP-Protocol-Version` (MCP 2025-06-18, Transports, Protocol Version Header).
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Last-Event-ID` (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What an event stream calls itself.
pub(crate) use crate::mcp::EVENT_STREAM;

/// Redirects followed for one request: a mounted application adds a slash, a proxy another.
const MOST_REDIRECTS: usize = 5;
/// How much of a refusal's body is read, in bytes: enough for any JSON-RPC error.
const REFUSAL_BODY: usize = 256 * 1024;
/// Shorter values of headers are words, not secrets, in bytes.
const SHORTEST_SECRET: usize = 6;
/// How long a refusal's body may take.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);
/// Times one request is sent again because of what the server says about its credential: a refresh, a
/// sign-in, two step-ups, and a nonce for each.
const MOST_CHALLENGES: u32 = 8;

/// Longest cookie kept, with its attributes, in bytes (RFC 6265 §6.1: at least 4096).
const LONGEST_COOKIE: usize = 4096;
/// Most cookies kept (RFC 6265 §6.1: at least 50): a server could set others with every answer.
const MOST_COOKIES: usize = 200;

/// The client, and what goes with every request to the server.
#[derive(Debug)]
pub struct Http {
    outlet: Arc<ClientFactory>,
    reach: Route,
    /// Replaced when its connections may be dead.
    client: RwLock<Client>,
    server: Url,
    headers: HeaderMap,
    cookies: Option<Cookies>,
    /// `None` if the user has given a credential.
    authorizer: Option<Authorizer>,
    window: Window,
    network: Arc<Network>,
    /// Largest answer and largest event, in bytes.
    pub limit: usize,
    /// Who looks on.
    pub observer: Observer,
}

impl Http {
    /// Opens nothing. A header `Authorization` of the user's is the credential, and no other is
    /// obtained.
    ///
    /// # Errors
    /// Where a proxy's address is none.
    pub fn new(
        outlet: Arc<ClientFactory>,
        server: &ServerUrl,
        headers: &HeaderMap,
        network: &Arc<Network>,
        authorizer: Authorizer,
        limit: usize,
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let reach = Route::of(server);
        let client = RwLock::new(outlet.client(&reach, None)?);
        let server = server.url().clone();
        let mut all = HeaderMap::new();
        all.insert(header::USER_AGENT, HeaderValue::from_static(concat!("mcp-remote/", env!("CARGO_PKG_VERSION"))));
        for name in headers.keys() {
            all.remove(name);
            for value in headers.get_all(name) {
                all.append(name, value.clone());
            }
        }
        Ok(Self {
            outlet,
            reach,
            client,
            cookies: network.cookies.then(|| Cookies::new(&server)),
            authorizer: (!headers.contains_key(header::AUTHORIZATION)).then_some(authorizer),
            server,
            headers: all,
            window: Window::new(),
            network: network.clone(),
            limit,
            observer,
        })
    }

    /// Makes new connections from now on; what is under way stays on the old ones.
    pub fn renew(&self) {
        match self.outlet.client(&self.reach, None) {
            Ok(client) => *self.client.write().unwrap_or_else(PoisonError::into_inner) = client,
            Err(error) => debug!("the old connections stay: {error:#}"),
        }
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// The headers every request carries.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// POSTs a message (MCP, Transports, Sending Messages to the Server), in its turn.
    ///
    /// # Errors
    /// [`Error`]; a status that is no success is one.
    pub async fn post(&self, url: &Url, headers: &HeaderMap, message: &Message) -> Result<Response, Error> {
        let body = Body::to_bytes(&message.body);
        let waiter = if message.method() == Some("initialize") { Waiter::Initialize } else { Waiter::Request };
        let fill = |headers: &mut HeaderMap, request: &mut Option<reqwest::Body>| {
            // Both, whatever the user's headers say: the server chooses for each answer.
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request = Some(body.clone().into());
        };
        let _place = self.window.enter().await;
        self.request(Method::POST, url, headers, waiter, fill).await
    }

    /// GETs an event stream, from `last_id` on where there is one.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotMcp`] if what came is no event stream.
    pub async fn listen(
        &self,
        url: &Url,
        headers: &HeaderMap,
        last_id: Option<&Bytes>,
        waiter: Waiter,
    ) -> Result<Response, Error> {
        let response = self
            .request(Method::GET, url, headers, waiter, |headers, _| {
                headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM));
                if let Some(last_id) = last_id.and_then(|id| HeaderValue::from_bytes(id).ok()) {
                    headers.insert(LAST_EVENT_ID, last_id);
                }
            })
            .await?;
        if is_event_stream(&response) { Ok(response) } else { Err(not_mcp(&response, &[])) }
    }

    /// DELETEs the session; whatever the server says to that is fine.
    pub async fn delete(&self, url: &Url, headers: &HeaderMap) {
        _ = self.request(Method::DELETE, url, headers, Waiter::End, |_, _| {}).await;
    }

    async fn request(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        waiter: Waiter,
        fill: impl Fn(&mut HeaderMap, &mut Option<reqwest::Body>),
    ) -> Result<Response, Error> {
        let mut url = url.clone();
        let mut redirects = 0;
        let mut challenges = 0;
        let patience = || self.authorizer.as_ref().and_then(|authorizer| authorizer.patience(waiter));
        let mut until = patience();
        loop {
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            let mut body = None;
            fill(request.headers_mut(), &mut body);
            *request.body_mut() = body;
            let credential = match &self.authorizer {
                Some(authorizer) => authorizer.credential(waiter, until).await,
                None => None,
            };
            if let Some(credential) = &credential {
                credential.apply(request.headers_mut(), &method, &url).map_err(unauthorized)?;
            }
            if let Some(cookies) = &self.cookies {
                cookies.add_to(request.headers_mut(), &url);
            }
            let answer = self.client().execute(request);
            let answer = match self.network.headers_timeout {
                None => answer.await,
                Some(after) => tokio::time::timeout(after, answer)
                    .await
                    .map_err(|_| Error::Silent { what: "response headers", after })?,
            };
            let response = match answer {
                Ok(response) => response,
                // Boxed, as below.
                Err(error) => return Err(Box::pin(Error::of_request(error).looked_into(&url, &self.outlet)).await),
            };
            if let Some(cookies) = &self.cookies {
                cookies.keep(response.headers(), &url);
            }
            let status = response.status();
            if let (Some(credential), true) = (&credential, status != StatusCode::UNAUTHORIZED) {
                credential.note_accepted();
            }
            let has_nonce = credential.as_ref().is_some_and(|used| used.keep_nonce(&url, response.headers()));
            if status.is_success() {
                if let (1.., Some(authorizer)) = (challenges, &self.authorizer) {
                    authorizer.succeeded();
                }
                return Ok(response);
            }
            if is_challenge(&response) {
                challenges += 1;
                if challenges == 1 {
                    until = patience(); // what the server took before is not the person's time
                }
                if challenges <= MOST_CHALLENGES {
                    // Boxed: this happens once in a connection's life, and every request carries its room.
                    Box::pin(self.answer_challenge(response, credential, has_nonce, waiter, until)).await?;
                    continue;
                }
            }
            let Some(target) = redirect(&response, &url) else {
                return Err(Error::Refused(Box::new(self.refusal(response, credential.as_deref()).await)));
            };
            // Only these two keep method and body (RFC 9110 §15.4.8, §15.4.9).
            let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            redirects += 1;
            let stays = same_origin(&target, &self.server);
            if !(stays && (keeps || method == Method::GET) && redirects <= MOST_REDIRECTS) {
                let mut to = target;
                to.set_query(None);
                to.set_fragment(None);
                _ = to.set_username("");
                _ = to.set_password(None);
                return Err(Error::Redirected { status, to: to.into() });
            }
            url = target;
        }
    }

    /// Obtains what the server asks for (MCP 2025-11-25, Authorization); when this returns `Ok`, the
    /// request may go out again.
    async fn answer_challenge(
        &self,
        response: Response,
        used: Option<Arc<Credential>>,
        has_nonce: bool,
        waiter: Waiter,
        patience: Patience,
    ) -> Result<(), Error> {
        let mut challenge = Challenge::of(response.headers());
        // A proxy's address is not the server's.
        if let (Some(authorizer), Some(from)) = (&self.authorizer, response.remote_addr())
            && self.outlet.proxy_to(&self.server).is_none()
        {
            authorizer.note_server_at(from.ip());
        }
        let refusal = self.refusal(response, used.as_deref()).await; // read to its end, so that the connection can be used again
        let status = refusal.status;
        self.observer.tell(|| Fact::Challenged { status, challenge: Box::new(challenge.clone()) });
        let Some(authorizer) = &self.authorizer else {
            return Err(match refusal.status {
                StatusCode::UNAUTHORIZED => unauthorized(oauth::error::Error::HeaderRefused(refusal.to_string())),
                _ => Error::Refused(Box::new(refusal)),
            });
        };
        // RFC 9449 §9: not the token is at fault, only the proof.
        if has_nonce && challenge.dpop_error.as_deref() == Some("use_dpop_nonce") {
            return Ok(());
        }
        // Many say it only in the body.
        if challenge.error_description.is_none() && !refusal.text.is_empty() {
            challenge.error_description = Some(refusal.text.clone());
        }
        match authorizer.meet(refusal.status, challenge, used, waiter, patience).await {
            // A server that takes a key and knows no sign-in says best itself what it wants.
            Err(oauth::error::Error::NotOffered(why)) => {
                debug!("no sign-in is offered: {why}");
                Err(Error::Refused(Box::new(refusal)))
            }
            met => met.map_err(unauthorized),
        }
    }

    /// What a refusal says, without what we have sent in secret: its words reach logs.
    async fn refusal(&self, response: Response, used: Option<&Credential>) -> Refusal {
        let mut refusal = refusal(response).await;
        let own = || self.headers.iter().filter(|(name, _)| **name != header::USER_AGENT);
        refusal.had_headers = own().next().is_some();
        let values = own().filter_map(|(_, value)| value.to_str().ok());
        // Also without `Bearer` and the like before it.
        let values = values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or_default()]);
        let token = used.map(|used| used.tokens().access_token());
        for secret in values.chain(token.iter().map(|token| *token.expose())) {
            if secret.len() >= SHORTEST_SECRET {
                refusal.text = refusal.text.replace(secret, "…");
            }
        }
        refusal
    }

    /// Waits for what the server does, for `after` at most; the time a person takes to sign in does not
    /// count.
    pub async fn patiently<T>(&self, after: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let Some(authorizer) = &self.authorizer else { return tokio::time::timeout(after, work).await.ok() };
        let mut need = authorizer.need();
        loop {
            let signing_in = need.borrow_and_update().is_under_way();
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep(after), if !signing_in => return None,
                Ok(()) = need.changed() => {}
            }
        }
    }

    /// Waits until no token is being spent that would be lost with this process.
    pub async fn settle(&self) {
        if let Some(authorizer) = &self.authorizer {
            authorizer.settle().await;
        }
    }

    /// What is needed before the server answers; none where the user has given a credential.
    #[must_use]
    pub fn need(&self) -> Option<watch::Receiver<Need>> {
        self.authorizer.as_ref().map(Authorizer::need)
    }

    /// Who is signed in, as far as the files tell.
    #[must_use]
    pub fn account_now(&self) -> AccountNow {
        match &self.authorizer {
            Some(authorizer) => authorizer.account_now(),
            None => Arc::new(|| Account::Nobody),
        }
    }

    /// A request of the host needs the sign-in.
    pub fn hurry_sign_in(&self) {
        if let Some(authorizer) = &self.authorizer {
            authorizer.hurry();
        }
    }

    /// Keeps the host's `initialize`, for its name.
    pub fn note_initialize(&self, message: &Message) {
        if let Some(authorizer) = &self.authorizer {
            authorizer.note_initialize(message);
        }
    }

    /// The next piece of a body; `None` at its end. An event stream may be quiet for as long as it
    /// likes unless the user set a limit.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection broke, [`Error::Silent`] after the body time-out.
    pub async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Error> {
        // A server that sends without end must not keep the thread to itself; neither must a decoder
        // that is always ready.
        tokio::task::coop::consume_budget().await;
        let chunk = response.chunk();
        match self.network.body_timeout {
            None => chunk.await,
            Some(after) => tokio::time::timeout(after, chunk)
                .await
                .map_err(|_| Error::Silent { what: "data from the server", after })?,
        }
        .map_err(Error::of_body)
    }

    /// Reads a whole JSON body as a message, checked while it comes; `None` if it is empty.
    ///
    /// # Errors
    /// [`Error::NotMcp`] for a body that is not JSON and does not claim to be,
    /// [`Error::BadMessage`] for one that does, [`Error::TooLarge`], and those of [`chunk`](Self::chunk).
    pub async fn message(&self, mut response: Response) -> Result<Option<Message>, Error> {
        let claims_json = essence(&response).is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"));
        let (mut assembly, mut length, mut beginning) = (Assembly::default(), 0, Bytes::new());
        let fault = |malformed, response: &Response, beginning: &[u8]| {
            if claims_json { Error::BadMessage(malformed) } else { not_mcp(response, beginning) }
        };
        while let Some(piece) = self.chunk(&mut response).await? {
            length += piece.len();
            if length > self.limit {
                return Err(Error::TooLarge { limit: self.limit });
            }
            if beginning.is_empty() {
                beginning = piece.clone();
            }
            assembly.push(piece).map_err(|malformed| fault(malformed, &response, &beginning))?;
        }
        if length == 0 {
            return Ok(None);
        }
        assembly.finish().map(Some).map_err(|malformed| fault(malformed, &response, &beginning))
    }
}

/// 401, or 403 that names a scope (RFC 6750 §3.1); any other 403 is the server's last word.
fn is_challenge(response: &Response) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => Challenge::of(response.headers()).error.as_deref() == Some("insufficient_scope"),
        _ => false,
    }
}

fn unauthorized(error: oauth::error::Error) -> Error {
    Error::Unauthorized(Box::new(error))
}

/// Whether the response is an event stream, by its type without parameters and in any case.
#[must_use]
pub fn is_event_stream(response: &Response) -> bool {
    essence(response).as_deref() == Some(EVENT_STREAM)
}

fn essence(response: &Response) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn not_mcp(response: &Response, beginning: &[u8]) -> Error {
    let kind = essence(response).unwrap_or_else(|| "no content type".to_owned());
    let text = one_line(beginning);
    Error::NotMcp(if text.is_empty() { format!("{kind} came back") } else { format!("{kind} came back: {text}") })
}

fn redirect(response: &Response, from: &Url) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}

async fn refusal(mut response: Response) -> Refusal {
    let (status, retry_after) = (response.status(), status::retry_after(response.headers()));
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            text.extend_from_slice(&piece[..piece.len().min(REFUSAL_BODY - text.len())]);
            if text.len() == REFUSAL_BODY {
                break;
            }
        }
    };
    _ = tokio::time::timeout(REFUSAL_PATIENCE, read).await;
    let shown = one_line(&text);
    let mut assembly = Assembly::default();
    let message = assembly.push(text.into()).and_then(|()| assembly.finish()).ok();
    let answer =
        message.filter(|message| matches!(message.shape, Shape::Response { .. }) && is_json_rpc_error(message));
    let text = answer.as_ref().and_then(error_message).unwrap_or(shown);
    Refusal { status, retry_after, text, had_headers: false, answer }
}

/// Whether this is an error that a host can read (JSON-RPC 2.0 §5.1), and not another one's idea of an
/// error in JSON.
fn is_json_rpc_error(answer: &Message) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        jsonrpc: String,
        #[serde(rename = "error")]
        _error: Code,
    }
    #[derive(Deserialize)]
    struct Code {
        #[serde(rename = "code")]
        _code: i64,
    }
    serde_json::from_slice::<Answer>(&answer.body.to_bytes()).is_ok_and(|answer| answer.jsonrpc == "2.0")
}

/// The `message` of a JSON-RPC error: what a person should see of it.
fn error_message(answer: &Message) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(&answer.body.to_bytes()).ok()?;
    Some(one_line(value.get("error")?.get("message")?.as_str()?.as_bytes()))
}

/// Cookies go back to the exact origin that set them, as npm's do: `Domain` and `Secure` are
/// ignored, `Path` and the two expiries count. A sticky balancer needs no more.
///
/// Not reqwest's own layer, which parses the address again for every request although most servers
/// never set a cookie.
#[derive(Debug)]
struct Cookies {
    origin: Url,
    jar: Mutex<Filling>,
    /// Whether there ever was one.
    any: AtomicBool,
}

/// A jar, and what was put into it.
#[derive(Debug, Default)]
struct Filling {
    jar: Jar,
    /// By name and path: the same again takes no more room.
    known: HashSet<String>,
}

impl Cookies {
    fn new(server: &Url) -> Self {
        Self { origin: server.clone(), jar: Mutex::default(), any: AtomicBool::new(false) }
    }

    fn keep(&self, headers: &HeaderMap, url: &Url) {
        if !headers.contains_key(header::SET_COOKIE) || !same_origin(url, &self.origin) {
            return;
        }
        let counts = |attribute: &&str| {
            let name = attribute.split('=').next().unwrap_or_default().trim();
            !["domain", "secure", "samesite", "partitioned"].iter().any(|ignored| name.eq_ignore_ascii_case(ignored))
        };
        for value in headers.get_all(header::SET_COOKIE).iter().filter_map(|header| header.to_str().ok()) {
            let mut parts = value.split(';');
            let pair = parts.next().into_iter();
            let kept: Vec<_> = pair.chain(parts.filter(counts)).collect();
            let kept = kept.join(";");
            if kept.len() > LONGEST_COOKIE {
                debug!("a cookie of {} bytes is not kept", kept.len());
                continue;
            }
            let mut filling = self.filling();
            filling.known.insert(identity(&kept));
            if filling.known.len() > MOST_COOKIES {
                debug!("the server has set more than {MOST_COOKIES} cookies: the earlier ones go");
                *filling = Filling::default();
            }
            filling.jar.add_cookie_str(&kept, url);
            self.any.store(true, Relaxed);
        }
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user's own `Cookie` header wins.
    fn add_to(&self, headers: &mut HeaderMap, url: &Url) {
        if self.any.load(Relaxed)
            && !headers.contains_key(header::COOKIE)
            && same_origin(url, &self.origin)
            && let Some(mut cookies) = self.filling().jar.cookies(url)
        {
            cookies.set_sensitive(true);
            headers.insert(header::COOKIE, cookies);
        }
    }
}

/// What tells one cookie of an origin from another (RFC 6265 §5.3).
fn identity(cookie: &str) -> String {
    let mut parts = cookie.split(';');
    let name = parts.next().unwrap_or_default().split('=').next().unwrap_or_default().trim();
    let is_path = |part: &&str| part.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("path="));
    format!("{name};{}", parts.map(str::trim).rfind(is_path).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_return_to_the_origin_that_set_them_and_to_no_other() {
        let url = |text: &str| Url::parse(text).unwrap();
        let store = Cookies::new(&url("http://127.0.0.1:1/mcp"));
        let set = |text: &'static str, from: &str| {
            let headers = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_static(text))]);
            store.keep(&headers, &url(from));
        };
        let sent = |to: &str| {
            let mut headers = HeaderMap::new();
            store.add_to(&mut headers, &url(to));
            headers.remove(header::COOKIE).map(|value| value.to_str().unwrap().to_owned())
        };
        set("node=a; Domain=elsewhere.example; Secure; Path=/mcp", "http://127.0.0.1:1/mcp");
        set("stray=b", "http://127.0.0.1:2/mcp");
        assert_eq!(sent("http://127.0.0.1:1/mcp/x").as_deref(), Some("node=a"));
        assert_eq!(sent("http://127.0.0.1:1/other"), None);
        assert_eq!(sent("http://127.0.0.1:2/mcp"), None);
    }

    #[test]
    fn no_more_cookies_are_kept_than_a_browser_would_and_those_that_change_take_no_more_room() {
        let url = Url::parse("http://127.0.0.1:1/mcp").unwrap();
        let store = Cookies::new(&url);
        let set = |text: &str| {
            store.keep(&HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_str(text).unwrap())]), &url);
        };
        let sent = || {
            let mut headers = HeaderMap::new();
            store.add_to(&mut headers, &url);
            headers.remove(header::COOKIE).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        set("session=a; Path=/mcp");
        (0..1000).for_each(|at| set(&format!("node={at}; Path=/mcp")));
        assert!(sent().contains("session=a") && sent().contains("node=999"), "{}", sent());
        (0..1000).for_each(|at| set(&format!("c{at}={}; Path=/mcp", "x".repeat(1000))));
        assert!(sent().len() <= MOST_COOKIES * 1010, "{} bytes", sent().len());
        assert!(sent().contains("c999="), "the latest are there");
        set(&format!("long={}", "x".repeat(5000)));
        assert!(!sent().contains("long="));
    }
}
