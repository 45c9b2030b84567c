//! HTTP requests to the server: the configuration of the client, the headers of the user, cookies, credentials and
//! redirects (RFC 9110; MCP 2025-11-25, Authorization).
//!
//! # Invariants
//!
//! - No header, cookie, credential or body reaches another origin than that of the server.
//! - A redirect to another origin is reported, not followed.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use log::debug;
use reqwest::{
    Client, Method, Request, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
};

use self::{
    body::{is_event_stream, not_mcp},
    cookies::Cookies,
    limit::ConcurrencyLimit,
};
use super::error::{Error, same_origin};
use crate::{
    config::{Network, ServerUrl},
    mcp::{EVENT_STREAM, header::LAST_EVENT_ID, method::INITIALIZE},
    message::Message,
    network::{ClientFactory, Route},
    oauth::{self, Authorizer, Credential, Deadline, Requester, protocol::challenge::Challenge},
    observer::{Fact, Observer},
};

pub(crate) mod body;
mod cookies;
mod limit;
mod refusal;

/// Redirects followed for one request: a mounted application adds a slash, a proxy another.
const MOST_REDIRECTS: u32 = 5;
/// Times one request is sent again because of what the server says about its credential: a refresh, a
/// sign-in, two step-ups, and a nonce for each.
const MOST_CHALLENGES: u32 = 8;

/// The client, and what goes with every request to the server.
#[derive(Debug)]
pub(crate) struct Http {
    clients: Arc<ClientFactory>,
    route: Route,
    /// Replaced when its connections may be dead.
    client: RwLock<Client>,
    server: Url,
    headers: HeaderMap,
    cookies: Option<Cookies>,
    /// `None` if the user has given a credential.
    authorizer: Option<Arc<Authorizer>>,
    concurrency: ConcurrencyLimit,
    network: Arc<Network>,
    /// Largest answer and largest event, in bytes.
    pub(super) limit: usize,
    /// What is told of connections and challenges.
    pub(super) observer: Observer,
}

/// How often one request was sent again, to which URL it goes, and until when it waits for authorization.
struct Resends {
    url: Url,
    redirects: u32,
    challenges: u32,
    until: Deadline,
}

impl Http {
    /// Returns the client; nothing is opened. Without an `authorizer`, the user's header `Authorization` is the credential.
    ///
    /// # Errors
    /// If the URL of a proxy is invalid.
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
        let client = RwLock::new(clients.client(&route, None)?);
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
            clients,
            route,
            client,
            cookies: network.cookies.then(|| Cookies::new(&server)),
            authorizer,
            server,
            headers: all,
            concurrency: ConcurrencyLimit::new(),
            network: network.clone(),
            limit,
            observer,
        })
    }

    /// Makes new connections from now on; requests in flight stay on the old ones.
    pub(crate) fn renew(&self) {
        match self.clients.client(&self.route, None) {
            Ok(client) => *self.client.write().unwrap_or_else(PoisonError::into_inner) = client,
            Err(error) => debug!("the old connections stay: {error:#}"),
        }
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The URL of the server.
    pub(crate) fn server(&self) -> &Url {
        &self.server
    }

    /// The headers every request carries.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// POSTs a message (MCP, Transports, Sending Messages to the Server), in its turn.
    ///
    /// # Errors
    /// [`Error`]; a status that is no success is one.
    pub(crate) async fn post(&self, url: &Url, headers: &HeaderMap, message: &Message) -> Result<Response, Error> {
        let body = message.body.to_bytes();
        let requester = if message.method() == Some(INITIALIZE) { Requester::Initialize } else { Requester::Request };
        let fill = |request: &mut Request| {
            // Both, whatever the user's headers say, because the server chooses for each answer.
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.clone().into());
        };
        let _permit = self.concurrency.enter().await;
        self.request(Method::POST, url, headers, requester, fill).await
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
    ) -> Result<Response, Error> {
        let fill = |request: &mut Request| {
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM));
            if let Some(last_id) = last_id.and_then(|id| HeaderValue::from_bytes(id).ok()) {
                headers.insert(LAST_EVENT_ID, last_id);
            }
        };
        let response = self.request(Method::GET, &self.server, headers, requester, fill).await?;
        if is_event_stream(&response) { Ok(response) } else { Err(not_mcp(&response, &[])) }
    }

    /// DELETEs the session; the response does not matter.
    pub(crate) async fn delete(&self, headers: &HeaderMap) {
        _ = self.request(Method::DELETE, &self.server, headers, Requester::End, |_| {}).await;
    }

    async fn request(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        requester: Requester,
        fill: impl Fn(&mut Request),
    ) -> Result<Response, Error> {
        let patience = || self.authorizer.as_ref().and_then(|authorizer| authorizer.patience(requester));
        let mut resends = Resends { url: url.clone(), redirects: 0, challenges: 0, until: patience() };
        loop {
            let url = &resends.url;
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            fill(&mut request);
            let credential = match &self.authorizer {
                Some(authorizer) => authorizer.credential(requester, resends.until).await,
                None => None,
            };
            if let Some(credential) = &credential {
                credential.apply(request.headers_mut(), &method, url).map_err(unauthorized)?;
            }
            let response = self.execute(request, url).await?;
            let is_challenge = is_challenge(&response, credential.as_deref());
            if let (Some(credential), false) = (&credential, is_challenge && !is_step_up(&response)) {
                credential.note_accepted();
            }
            let has_nonce = credential.as_ref().is_some_and(|used| used.keep_nonce(url, response.headers()));
            if response.status().is_success() {
                if let (1.., Some(authorizer)) = (resends.challenges, &self.authorizer) {
                    authorizer.succeeded();
                }
                return Ok(response);
            }
            if is_challenge {
                resends.challenges += 1;
                if resends.challenges == 1 {
                    resends.until = patience(); // what the server took before is not the user's time
                }
                if resends.challenges <= MOST_CHALLENGES {
                    // Boxed because this happens once in the life of a connection, and every request carries its room.
                    Box::pin(self.answer_challenge(response, credential, has_nonce, requester, resends.until)).await?;
                    continue;
                }
            }
            let Some(target) = redirect(&response, url) else {
                return Err(Error::Refused(Box::new(self.refusal(response, credential.as_deref()).await)));
            };
            self.follow(&mut resends, &method, response.status(), target)?;
        }
    }

    /// Sends a request once, with the cookies for `url`.
    async fn execute(&self, mut request: Request, url: &Url) -> Result<Response, Error> {
        if let Some(cookies) = &self.cookies {
            cookies.add_to(request.headers_mut(), url);
        }
        let answer = self.client().execute(request);
        let answer = match self.network.headers_timeout {
            None => answer.await,
            Some(after) => tokio::time::timeout(after, answer)
                .await
                .map_err(|_| Error::Silent { what: "response headers", after })?,
        };
        match answer {
            Ok(response) => {
                if let Some(cookies) = &self.cookies {
                    cookies.keep(response.headers(), url);
                }
                Ok(response)
            }
            // Boxed, as a challenge is.
            Err(error) => Err(Box::pin(Error::of_request(error).looked_into(url, &self.clients)).await),
        }
    }

    /// Sends the request to `target` from now on, unless that is another origin or the method would change.
    fn follow(&self, resends: &mut Resends, method: &Method, status: StatusCode, target: Url) -> Result<(), Error> {
        // Only these two keep method and body (RFC 9110 §15.4.8, §15.4.9).
        let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        resends.redirects += 1;
        let stays = same_origin(&target, &self.server);
        if stays && (keeps || *method == Method::GET) && resends.redirects <= MOST_REDIRECTS {
            resends.url = target;
            return Ok(());
        }
        let mut to = target;
        to.set_query(None);
        to.set_fragment(None);
        _ = to.set_username("");
        _ = to.set_password(None);
        Err(Error::Redirected { status, to: to.into() })
    }

    /// Obtains what the server asks for (MCP 2025-11-25, Authorization); when this returns `Ok`, the
    /// request may be sent again.
    async fn answer_challenge(
        &self,
        response: Response,
        used: Option<Arc<Credential>>,
        has_nonce: bool,
        requester: Requester,
        until: Deadline,
    ) -> Result<(), Error> {
        let mut challenge = Challenge::of(response.headers());
        // The address of a proxy is not that of the server.
        if let (Some(authorizer), Some(from)) = (&self.authorizer, response.remote_addr())
            && self.clients.proxy_to(&self.server).is_none()
        {
            authorizer.note_server_at(from.ip());
        }
        let refusal = self.refusal(response, used.as_deref()).await;
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
        match authorizer.meet(status, challenge, used, requester, until).await {
            // The server takes a key and knows no sign-in: its own words say best what it wants.
            Err(oauth::error::Error::NotOffered(why)) => {
                debug!("no sign-in is offered: {why}");
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

/// Returns whether this asks for more scopes than the token has (RFC 6750 §3.1).
fn is_step_up(response: &Response) -> bool {
    response.status() == StatusCode::FORBIDDEN
        && Challenge::of(response.headers()).error.as_deref() == Some("insufficient_scope")
}

fn unauthorized(error: oauth::error::Error) -> Error {
    Error::Unauthorized(Box::new(error))
}

fn redirect(response: &Response, from: &Url) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}
