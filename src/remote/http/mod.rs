//! HTTP requests to the server: the configuration of the client, the headers of the user, cookies, credentials and
//! redirects (RFC 9110; MCP 2025-11-25, Authorization).
//!
//! # Invariants
//!
//! - No header, cookie, credential or body reaches another origin than that of the server.
//! - A redirect to another origin is reported, not followed.

use std::{
    borrow::Cow,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, uri::InvalidUri};
use log::{debug, info};
use reqwest::{
    Url,
    header::{self, HeaderMap, HeaderValue},
};

use self::{
    body::{encoding, is_event_stream},
    cookies::Cookies,
    event_reader::EventReader,
    limit::ConcurrencyLimit,
    masking::Named,
    memory::Memory,
};
use super::{
    cancelled::Cancelled,
    error::{Error, Refusal},
    retry::RetryLog,
};
use crate::{
    config::{Network, ServerUrl},
    mcp::{
        EVENT_STREAM,
        header::{LAST_EVENT_ID, SESSION_ID},
        method::INITIALIZE,
    },
    message::Message,
    network::{
        ClientFactory, HttpVersions, Route,
        failure::{Http2Fault, RequestError, words},
        gzip,
        message_client::{MessageClient, Response},
        request_body::RequestBody,
    },
    oauth::{self, Authorizer, Credential, Deadline, Requester, credential::Obtained, protocol::challenge::Challenge},
    observer::{Fact, Observer},
    text,
};

pub(crate) mod body;
mod cookies;
pub(crate) mod event_reader;
mod limit;
pub(crate) mod masking;
pub(crate) mod memory;
mod redirect;
mod refusal;

/// Times one request is sent again because of what the server says about its credential: a refresh, a
/// sign-in, two step-ups, and a nonce for each.
const MOST_CHALLENGES: u32 = 8;

/// Times one request is sent again that a server has not begun: with one stream at a time, each needs a connection.
const MOST_NOT_BEGUN: u32 = 8;

/// The client, and what goes with every request to the server.
#[derive(Debug)]
pub(crate) struct Http {
    clients: Arc<ClientFactory>,
    route: Route,
    /// Replaced when its connections may be dead.
    client: RwLock<Arc<MessageClient>>,
    server: Url,
    server_uri: Uri,
    /// Those of every POST.
    headers: HeaderMap,
    /// Those that the user has given.
    given_headers: HeaderMap,
    cookies: Option<Cookies>,
    /// `None` if the user has given a credential.
    authorizer: Option<Arc<Authorizer>>,
    concurrency: ConcurrencyLimit,
    network: Arc<Network>,
    /// Largest answer and largest event, in bytes.
    limit: usize,
    memory: Arc<Memory>,
    /// The server has answered a request.
    has_answered: AtomicBool,
    /// A connection of HTTP/2 was closed before the server had answered anything.
    has_closed_http2: AtomicBool,
    /// HTTP/2 does not work with this server.
    is_http1_only: AtomicBool,
    /// What is masked besides the headers, the cookies and the credential.
    named: Named,
    /// An event was reported that is no message.
    has_ignored_event: AtomicBool,
    /// What failed and is sent again.
    pub(super) retries: RetryLog,
    /// What the host has cancelled.
    pub(super) cancelled: Cancelled,
    /// What is told of connections and challenges.
    pub(super) observer: Observer,
}

/// How often one request was sent again, to which URL it goes, and until when it waits for authorization.
struct Resends<'a> {
    url: Cow<'a, Url>,
    redirects: u32,
    challenges: u32,
    not_begun: u32,
    until: Deadline,
}

impl Http {
    /// Returns the client; nothing is opened. Without an `authorizer`, the user's header `Authorization` is the credential.
    ///
    /// # Errors
    /// If the URL of the server has no form that a request can have.
    pub(crate) fn new(
        clients: Arc<ClientFactory>,
        server: &ServerUrl,
        headers: &HeaderMap,
        network: &Arc<Network>,
        authorizer: Option<Arc<Authorizer>>,
        limit: usize,
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let route = Route::of(server);
        let client = clients.message_client(server.url(), &route, HttpVersions::Both)?;
        let host = client.host().clone();
        let server = server.url().clone();
        let server_uri = uri(&server)?;
        let mut all = HeaderMap::new();
        all.insert(header::HOST, host);
        all.insert(header::USER_AGENT, HeaderValue::from_static(concat!("mcp-remote/", env!("CARGO_PKG_VERSION"))));
        all.insert(header::ACCEPT_ENCODING, gzip::ACCEPTED);
        for name in headers.keys() {
            all.remove(name);
            for value in headers.get_all(name) {
                all.append(name, value.clone());
            }
        }
        // Both, whatever the user's headers say, because the server chooses for each answer.
        all.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // To be replaced for each message: to add a header to a copy costs as much as the copy.
        all.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        Ok(Self {
            clients,
            route,
            client: RwLock::new(Arc::new(client)),
            cookies: network.cookies.then(|| Cookies::new(&server)),
            authorizer,
            server,
            server_uri,
            headers: all,
            given_headers: headers.clone(),
            concurrency: ConcurrencyLimit::new(),
            network: network.clone(),
            retries: RetryLog::default(),
            cancelled: Cancelled::default(),
            limit,
            memory: Memory::new(limit),
            has_answered: AtomicBool::new(false),
            has_closed_http2: AtomicBool::new(false),
            is_http1_only: AtomicBool::new(network.http1),
            named: Named::default(),
            has_ignored_event: AtomicBool::new(false),
            observer,
        })
    }

    /// Makes new connections from now on; requests in flight stay on the old ones.
    pub(crate) fn renew(&self) {
        self.renew_in_place_of(&self.client());
    }

    /// The same, unless this client was replaced already. Returns whether it is now.
    fn renew_in_place_of(&self, old: &Arc<MessageClient>) -> bool {
        let versions = if self.is_http1_only.load(Relaxed) { HttpVersions::Http1 } else { HttpVersions::Both };
        let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, old) {
            return false;
        }
        match self.clients.message_client(&self.server, &self.route, versions) {
            Ok(client) => {
                *current = Arc::new(client);
                true
            }
            Err(error) => {
                debug!("keeping the old connections: {error:#}");
                false
            }
        }
    }

    /// Returns the form that a URL has in a request: the server's is at hand.
    fn uri(&self, url: &Url) -> Result<Uri, Error> {
        if *url == self.server {
            Ok(self.server_uri.clone())
        } else {
            uri(url).map_err(|error| Error::Broken(error.into()))
        }
    }

    fn client(&self) -> Arc<MessageClient> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The URL of the server.
    pub(crate) fn server(&self) -> &Url {
        &self.server
    }

    /// The user's headers, and those that are the same for each POST.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// POSTs a message (MCP, Transports, Sending Messages to the Server), in its turn.
    ///
    /// # Errors
    /// [`Error`]; a status that is no success is one. [`Error::NotBegun`] for a request that the host cancels meanwhile.
    pub(crate) async fn post(&self, url: &Url, headers: &HeaderMap, message: &Message) -> Result<Response, Error> {
        let requester = if message.method() == Some(INITIALIZE) { Requester::Initialize } else { Requester::Request };
        let _permit = self.concurrency.enter().await;
        self.request(Method::POST, url, headers, requester, Some(message), |_| {}).await
    }

    /// GETs an event stream, from `last_id` on where there is one.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotMcp`] if the response is no event stream.
    pub(crate) async fn listen(
        &self,
        headers: &HeaderMap,
        last_id: Option<&Bytes>,
        requester: Requester,
    ) -> Result<EventReader, Error> {
        let fill = |headers: &mut HeaderMap| {
            self.without_content(headers);
            headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM));
            if let Some(last_id) = last_id.and_then(|id| HeaderValue::from_bytes(id).ok()) {
                headers.insert(LAST_EVENT_ID, last_id);
            }
        };
        let response = self.request(Method::GET, &self.server, headers, requester, None, fill).await?;
        if is_event_stream(&response) {
            let share = self.memory.share(&response);
            Ok(EventReader::new(response, self.limit, share))
        } else {
            Err(self.not_mcp(&response, &[]))
        }
    }

    /// DELETEs the session; the response does not matter.
    pub(crate) async fn delete(&self, headers: &HeaderMap) {
        let fill = |headers: &mut HeaderMap| {
            self.without_content(headers);
            let accepted = self.given_headers.get(header::ACCEPT).cloned();
            headers.insert(header::ACCEPT, accepted.unwrap_or(HeaderValue::from_static("*/*")));
        };
        _ = self.request(Method::DELETE, &self.server, headers, Requester::End, None, fill).await;
    }

    /// Makes the headers of a POST those of a request without a body.
    fn without_content(&self, headers: &mut HeaderMap) {
        match self.given_headers.get(header::CONTENT_TYPE) {
            Some(given) => headers.insert(header::CONTENT_TYPE, given.clone()),
            None => headers.remove(header::CONTENT_TYPE),
        };
    }

    async fn request(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        requester: Requester,
        message: Option<&Message>,
        fill: impl Fn(&mut HeaderMap),
    ) -> Result<Response, Error> {
        let body = message.map(|message| message.body.to_bytes());
        let patience = || self.authorizer.as_ref().and_then(|authorizer| authorizer.patience(requester));
        let mut resends =
            Resends { url: Cow::Borrowed(url), redirects: 0, challenges: 0, not_begun: 0, until: patience() };
        loop {
            let url = &*resends.url;
            let credential = match &self.authorizer {
                Some(authorizer) => authorizer.credential(requester, resends.until).await,
                None => None,
            };
            let head = || {
                let mut head = Request::new(());
                *head.method_mut() = method.clone();
                *head.uri_mut() = self.uri(url)?;
                *head.headers_mut() = headers.clone();
                match &body {
                    Some(body) => _ = head.headers_mut().insert(header::CONTENT_LENGTH, body.len().into()),
                    None => _ = head.headers_mut().remove(header::CONTENT_LENGTH),
                }
                fill(head.headers_mut());
                if let Some(credential) = &credential {
                    credential.apply(head.headers_mut(), &method, url).map_err(unauthorized)?;
                }
                Ok::<_, Error>(head)
            };
            // The permit, or a person, may have taken long.
            if message.is_some_and(|message| self.cancelled.covers(message)) {
                return Err(Error::NotBegun);
            }
            let response = match self.execute(head()?, body.clone(), url).await {
                Ok(response) => response,
                Err(Error::NotBegun) if resends.not_begun < MOST_NOT_BEGUN => {
                    resends.not_begun += 1;
                    continue;
                }
                Err(error) if self.gives_up_http2(&error, requester) => continue,
                Err(error) => return Err(error),
            };
            let is_challenge = is_challenge(&response, credential.as_deref());
            // Any other refusal may come from a gateway that did not look at the credential.
            if let (Some(credential), true) = (&credential, response.status().is_success() || is_step_up(&response)) {
                credential.note_accepted();
            }
            let has_nonce = credential.as_ref().is_some_and(|used| used.keep_nonce(url, response.headers()));
            if response.status().is_success() {
                if let (1.., Some(authorizer)) = (resends.challenges, &self.authorizer) {
                    authorizer.succeeded();
                }
                return match encoding(&response) {
                    Some(encoding) => Err(Error::Encoded(self.masked_line(encoding.as_bytes()))),
                    None => Ok(response),
                };
            }
            let is_of_session = || is_of_session(&response, headers, credential.as_deref());
            if is_challenge && !is_of_session() {
                resends.challenges += 1;
                if resends.challenges == 1 {
                    resends.until = patience(); // what the server took before is not the user's time
                }
                if resends.challenges <= MOST_CHALLENGES {
                    // Boxed because this happens once in the life of a connection, and every request carries its room.
                    Box::pin(self.answer_challenge(response, credential, has_nonce, requester, &resends)).await?;
                    continue;
                }
            }
            let Some(target) = redirect::target(&response, url) else {
                let refusal = Box::new(self.refusal(response, credential.as_deref(), url).await);
                let is_first = resends.challenges == 0;
                if let (Some(used), true) = (credential, is_first)
                    && Box::pin(self.replaces_token(&refusal, used, requester, resends.until)).await?
                {
                    resends.challenges += 1;
                    continue;
                }
                return Err(Error::Refused(refusal));
            };
            let status = response.status();
            let mask = |words: &[u8]| self.masked_line(words);
            let target = redirect::follow(&self.server, url, &method, status, target, resends.redirects, &mask)?;
            resends.url = Cow::Owned(target);
            resends.redirects += 1;
            debug!("HTTP {}: following the redirect to {}", status.as_u16(), mask(text::url(&resends.url).as_bytes()));
        }
    }

    /// Replaces the token that was `used`, where a server refuses it otherwise than with 401: with `invalid_token` in the
    /// body only (RFC 6750 §3.1 wants it in the header), or with 500 for one that comes from disk. Returns whether the
    /// request, which did not run, goes out again.
    async fn replaces_token(
        &self,
        refusal: &Refusal,
        used: Arc<Credential>,
        requester: Requester,
        until: Deadline,
    ) -> Result<bool, Error> {
        let Some(authorizer) = &self.authorizer else { return Ok(false) };
        let is_denied = matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
        if is_denied && used.may_have_died() && refusal.said.expose().contains("invalid_token") {
            let met = authorizer
                .meet(StatusCode::UNAUTHORIZED, Challenge::invalid_token(), Some(used), requester, until)
                .await;
            return match met {
                Err(oauth::error::Error::NotOffered(_)) => Ok(false),
                met => met.map(|()| true).map_err(unauthorized),
            };
        }
        // Only what opens a session: another request may have run before it failed. Nobody is asked for a 500.
        let may_be_dead = refusal.status == StatusCode::INTERNAL_SERVER_ERROR && used.is_untried();
        Ok(may_be_dead && requester == Requester::Initialize && authorizer.renew(used).await)
    }

    /// Uses HTTP/1.1 from now on, if an error shows that HTTP/2 does not work here. Returns whether the request is sent
    /// again: it did not run, or it only opens something.
    fn gives_up_http2(&self, error: &Error, requester: Requester) -> bool {
        let Error::Broken(source) = error else { return false };
        let Some(fault) = Http2Fault::of(&**source).filter(|_| self.server.scheme() == "https") else { return false };
        if fault == Http2Fault::NotBegun {
            return false;
        }
        let is_refused = fault == Http2Fault::Refused;
        // What has worked before is not given up for one fault, and a server that restarts closes connections, too.
        let may_work = !is_refused && self.has_answered.load(Relaxed)
            || fault == Http2Fault::Closed && !self.has_closed_http2.swap(true, Relaxed);
        if may_work || self.is_http1_only.swap(true, Relaxed) {
            return false;
        }
        let (why, host) = (words(&**source), text::host(&self.server));
        // Which version of HTTP a closed connection had is not known.
        let what = if fault == Http2Fault::Closed { "the connection broke" } else { "HTTP/2 failed" };
        info!("{what} with {host} ({why}); using HTTP/1.1, as --http1 does from the start");
        self.renew();
        is_refused || error.is_of_unsent() || requester != Requester::Request
    }

    /// Sends a request once, with the cookies for `url`.
    async fn execute(&self, mut head: Request<()>, body: Option<Bytes>, url: &Url) -> Result<Response, Error> {
        if let Some(cookies) = &self.cookies {
            cookies.add_to(head.headers_mut(), url);
        }
        let client = self.client();
        let mut answer = pin!(client.send(head.map(|()| RequestBody::new(body))));
        let answer = match self.network.headers_timeout {
            None => answer.await,
            Some(after) => tokio::time::timeout(after, answer.as_mut())
                .await
                .map_err(|_| Error::Silent { what: "response headers", after })?,
        };
        match answer {
            Ok(response) => {
                if !self.has_answered.load(Relaxed) {
                    self.has_answered.store(true, Relaxed);
                }
                if let Some(cookies) = &self.cookies {
                    cookies.keep(response.headers(), url);
                }
                Ok(response)
            }
            Err(RequestError::NotBegun) => {
                if self.renew_in_place_of(&client) {
                    let host = text::host(&self.server);
                    info!("{host} accepts no further request on this connection; opening another one");
                }
                Err(Error::NotBegun)
            }
            // Boxed, as a challenge is.
            Err(error) if Http2Fault::of(&error) == Some(Http2Fault::NotBegun) => Err(Error::NotBegun),
            Err(error) => Err(Box::pin(Error::of_request(error).looked_into(url, &self.clients)).await),
        }
    }

    /// Obtains what the server asks for (MCP 2025-11-25, Authorization); when this returns `Ok`, the
    /// request may be sent again.
    async fn answer_challenge(
        &self,
        response: Response,
        used: Option<Arc<Credential>>,
        has_nonce: bool,
        requester: Requester,
        Resends { url, until, .. }: &Resends<'_>,
    ) -> Result<(), Error> {
        let mut challenge = Challenge::of(response.headers());
        if let Some(description) = &mut challenge.error_description {
            *description = self.secrets(used.as_deref()).masked(description);
        }
        // The address of a proxy is not that of the server.
        if let (Some(authorizer), Some(from)) = (&self.authorizer, response.peer())
            && self.clients.proxy_to(&self.server).is_none()
        {
            authorizer.note_server_at(from.ip());
        }
        let refusal = self.refusal(response, used.as_deref(), url).await;
        let status = refusal.status;
        self.observer.tell(|| Fact::Challenged { status, challenge: Box::new(challenge.clone()) });
        let Some(authorizer) = &self.authorizer else {
            return Err(match status {
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
        match authorizer.meet(status, challenge, used, requester, *until).await {
            // The server takes a key and knows no sign-in: its own words say best what it wants.
            Err(oauth::error::Error::NotOffered(why)) => {
                debug!("the server offers no sign-in: {why}");
                Err(Error::Refused(Box::new(refusal)))
            }
            met => met.map_err(unauthorized),
        }
    }
}

/// Returns whether this is 401, or 403 that names a scope (RFC 6750 §3.1), or any 4xx that calls the token invalid that
/// was `used`: some servers say so with 400 or 403. From those, a token that was just obtained is not replaced.
fn is_challenge(response: &Response, used: Option<&Credential>) -> bool {
    let may_have_died = || used.is_some_and(Credential::may_have_died);
    let says_invalid = || Challenge::of(response.headers()).is_invalid_token();
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        _ if is_step_up(response) => true,
        status => status.is_client_error() && may_have_died() && says_invalid(),
    }
}

/// Returns whether a 401 may be about the session rather than the token: the token is one that a refresh has just
/// brought, and servers bind a session to the token that it was made with.
fn is_of_session(response: &Response, headers: &HeaderMap, used: Option<&Credential>) -> bool {
    response.status() == StatusCode::UNAUTHORIZED
        && headers.contains_key(SESSION_ID)
        && used.is_some_and(|used| used.refused_when_new(SystemTime::now()) == Some(Obtained::Refreshed))
}

/// Returns whether this asks for more scopes than the token has (RFC 6750 §3.1).
fn is_step_up(response: &Response) -> bool {
    response.status() == StatusCode::FORBIDDEN
        && Challenge::of(response.headers()).error.as_deref() == Some("insufficient_scope")
}

fn uri(url: &Url) -> Result<Uri, InvalidUri> {
    url.as_str().parse()
}

fn unauthorized(error: oauth::error::Error) -> Error {
    Error::Unauthorized(Box::new(error))
}
