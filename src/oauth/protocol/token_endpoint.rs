//! Requests to an authorization server in the client's name: every form that rmcp, `oauth2` or we
//! ourselves send passes here and gets what all of them need alike: the client's authentication
//! (RFC 6749 §2.3), the resource indicator exactly as published (RFC 8707), a proof of possession
//! (RFC 9449 §5).
//!
//! This is rmcp's hook `OAuthHttpClient`. Replaced at it, for rmcp 3.11.0: the authentication method
//! (it knows one rule for all registrations), and `resource` (it passes through a URL type, which adds
//! a slash). An answer is made such as RFC 6749 §5 wants it where servers are known to differ.
//!
//! Must never: send a secret elsewhere than to the endpoint it is for; send the request again but for
//! a nonce.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use reqwest::{Url, header};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, OAuthClientConfig, OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest,
};
use serde_json::{Map, Value};

use crate::{
    oauth::{
        client::{AuthMethod, Client},
        error::Error,
        http::client::{Answer, HttpClient},
        protocol::{client_assertion::client_assertion, discovery::AuthorizationServer, dpop::Prover, jws::SigningKey},
        stored::sign_in::LIFE,
    },
    status::Disposition,
    text::one_line,
};

/// A client at an authorization server.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Arc<HttpClient>,
    server: AuthorizationServer,
    client: Client,
    resource: Option<String>,
    prover: Option<Arc<Prover>>,
    key: Option<Arc<SigningKey>>,
    /// What the last answer was, if it was an error: rmcp and oauth2 make a text of it.
    refusal: Mutex<Option<Error>>,
}

/// What an exchange is made of.
#[derive(Debug)]
pub struct Parts {
    /// The way out.
    pub http: Arc<HttpClient>,
    /// Where to.
    pub server: AuthorizationServer,
    /// In whose name.
    pub client: Client,
    /// What tokens are to be for.
    pub resource: Option<String>,
    /// Proves possession of a key.
    pub prover: Option<Arc<Prover>>,
    /// Signs the client's assertions.
    pub key: Option<Arc<SigningKey>>,
}

type Form = Vec<(String, String)>;

/// Members of a form that nobody else may see.
const SECRETS: [&str; 9] = [
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "refresh_token",
    "subject_token",
    "token",
];

impl TokenEndpoint {
    /// Sends nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { http, server, client, resource, prover, key } = parts;
        Self { inner: Arc::new(Inner { http, server, client, resource, prover, key, refusal: Mutex::new(None) }) }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The authorization server.
    #[must_use]
    pub fn server(&self) -> &AuthorizationServer {
        &self.inner.server
    }

    /// What tokens are to be for.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.inner.resource.as_deref()
    }

    /// rmcp's manager for this client, over this exchange. It has the server's own address for the
    /// resource, which [`TokenEndpoint`] replaces.
    ///
    /// # Errors
    /// [`Error::Metadata`] where the endpoints are none.
    pub async fn manager(&self, redirect_uri: &str) -> Result<AuthorizationManager, Error> {
        let unusable = |error: AuthError| Error::Metadata(error.to_string());
        let over = Arc::new(self.clone());
        let server = self.inner.http.server().clone();
        let mut manager = AuthorizationManager::new_with_oauth_http_client(server, over).await.map_err(unusable)?;
        manager.set_metadata(self.inner.server.for_rmcp()?);
        manager
            .configure_client(OAuthClientConfig::new(self.inner.client.id.clone(), redirect_uri))
            .map_err(unusable)?;
        Ok(manager)
    }

    /// A grant that neither rmcp nor `oauth2` knows. The token response (RFC 6749 §5.1).
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
    pub async fn grant(&self, step: &'static str, form: &[(&str, &str)]) -> Result<Map<String, Value>, Error> {
        let endpoint = self.inner.server.token_endpoint()?;
        let form = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = self.inner.post(&endpoint, form).await?;
        if let Some(refused) = self.inner.take_refusal() {
            return Err(named(refused, step));
        }
        // Not quoted: there may be a token in it.
        serde_json::from_slice(&answer.body).map_err(|_| Error::Answer {
            step,
            what: format!("{} bytes came that are no token response", answer.body.len()),
            status: Some(answer.status),
        })
    }

    /// Ends a token (RFC 7009 §2.1). `oauth2` has this request, but refuses to send it to a server on
    /// this machine that has no TLS.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
    pub async fn revoke(&self, endpoint: &Url, token: &str, kind: &str) -> Result<(), Error> {
        let form = [("token", token), ("token_type_hint", kind)];
        let form = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.inner.post(endpoint, form).await?;
        self.inner.take_refusal().map_or(Ok(()), |refused| Err(named(refused, "the revocation")))
    }

    /// What the server said, where rmcp or oauth2 has only said that it failed.
    #[must_use]
    pub fn refusal(&self, step: &'static str, told: &dyn std::fmt::Display) -> Error {
        match self.inner.take_refusal() {
            // The polling ended (RFC 8628 §3.5) with these as the last answer.
            Some(Error::Refused { error, .. }) if error == "authorization_pending" || error == "slow_down" => {
                Error::Refused { step, error: "expired_token".to_owned(), description: None }
            }
            Some(refused) => named(refused, step),
            None => Error::Answer { step, what: one_line(told.to_string().as_bytes()), status: None },
        }
    }
}

fn named(error: Error, step: &'static str) -> Error {
    match error {
        Error::Refused { error, description, .. } => Error::Refused { step, error, description },
        Error::Answer { what, status, .. } => Error::Answer { step, what, status },
        error => error,
    }
}

impl Inner {
    fn take_refusal(&self) -> Option<Error> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep_refusal(&self, refusal: Option<Error>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// Sends a form in the client's name.
    async fn post(&self, url: &Url, mut form: Form) -> Result<Answer, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        self.name_resource(&mut form);
        self.authenticate(&mut form, &mut headers)?;
        let secrets: Vec<String> =
            form.iter().filter(|(name, _)| SECRETS.contains(&name.as_str())).map(|(_, value)| value.clone()).collect();
        let body: Bytes = encode(&form).into();
        self.keep_refusal(None);
        let mut tries = 0;
        let answer = loop {
            if let Some(prover) = &self.prover {
                headers.insert("dpop", prover.proof(&Method::POST, url, None, SystemTime::now())?);
            }
            let answer = self.http.send(Method::POST, url, headers.clone(), body.clone()).await?;
            let new_nonce = self.prover.as_ref().is_some_and(|prover| prover.keep_nonce(url, &answer.headers));
            tries += 1;
            // RFC 9449 §8: once more, with the nonce.
            if !(new_nonce
                && tries == 1
                && self.refusal_of(&answer, &secrets).is_some_and(|error| error.is("use_dpop_nonce")))
            {
                break answer;
            }
        };
        self.keep_refusal(self.refusal_of(&answer, &secrets));
        Ok(answer)
    }

    /// An error answer (RFC 6749 §5.2), with whatever status. What a server repeats of our `secrets` is
    /// left out: the text is for people and logs.
    fn refusal_of(&self, answer: &Answer, secrets: &[String]) -> Option<Error> {
        let step = "the request";
        let own = self.client.secret.iter().map(|secret| secret.expose().clone());
        let secrets = secrets.iter().cloned().chain(own).filter(|secret| !secret.is_empty());
        let secrets: Vec<String> = secrets.flat_map(|secret| [encode_one(&secret), secret]).collect();
        let clean = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            one_line(secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "…")).as_bytes())
        };
        let content = serde_json::from_slice::<Map<String, Value>>(&answer.body).ok();
        let member = |name: &str| content.as_ref()?.get(name)?.as_str().map(|text| clean(text.as_bytes()));
        match member("error") {
            Some(error) => Some(Error::Refused { step, error, description: member("error_description") }),
            None if answer.status.is_success() => None,
            None => Some(Error::Answer {
                step,
                what: format!("HTTP {} {}", answer.status.as_u16(), clean(&answer.body)),
                status: Some(answer.status),
            }),
        }
    }

    /// RFC 8707 §2, where the sender asked for one.
    fn name_resource(&self, form: &mut Form) {
        if let Some(at) = form.iter().position(|(name, _)| name == "resource") {
            form.retain(|(name, _)| name != "resource");
            if let Some(resource) = &self.resource {
                form.insert(at, ("resource".to_owned(), resource.clone()));
            }
        }
    }

    fn authenticate(&self, form: &mut Form, headers: &mut HeaderMap) -> Result<(), Error> {
        form.retain(|(name, _)| name != "client_id" && name != "client_secret");
        let secret = self.client.secret.as_ref().map_or("", |secret| secret.expose().as_str());
        match self.client.method {
            AuthMethod::None if self.client.id.is_empty() => {} // an assertion says who we are (RFC 7521 §4.1)
            AuthMethod::None => form.push(("client_id".to_owned(), self.client.id.clone())),
            AuthMethod::Post => {
                form.push(("client_id".to_owned(), self.client.id.clone()));
                form.push(("client_secret".to_owned(), secret.to_owned()));
            }
            AuthMethod::Basic => {
                // RFC 6749 §2.3.1: each is form-encoded first.
                let pair = format!("{}:{}", encode_one(&self.client.id), encode_one(secret));
                let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
                let mut value = HeaderValue::from_str(&value).map_err(|error| Error::Local(error.to_string()))?;
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            AuthMethod::PrivateKeyJwt => {
                let Some(key) = &self.key else {
                    let why = "the client is registered for private_key_jwt, but there is no --client-key-jwt FILE";
                    return Err(Error::Local(why.to_owned()));
                };
                let supported = self.server.metadata.token_endpoint_auth_signing_alg_values_supported.as_deref();
                let now = SystemTime::now();
                // The issuer (MCP extension OAuth Client Credentials); RFC 7523 §3 where nobody says who that is.
                let endpoint = self.server.token_endpoint()?;
                let audience = if self.server.published { &self.server.issuer } else { endpoint.as_str() };
                let assertion = client_assertion(key, &self.client.id, audience, supported, now)?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"; // RFC 7523 §2.2
                form.push(("client_assertion_type".to_owned(), kind.to_owned()));
                form.push(("client_assertion".to_owned(), assertion.expose().clone()));
            }
        }
        Ok(())
    }

    /// A request as rmcp and oauth2 have made it. They make a text of an error, so it is kept.
    async fn carry_out(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        self.exchange(request).await.inspect_err(|error| self.keep_refusal(Some(error.clone())))
    }

    async fn exchange(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        let url = self.http.address("an endpoint", &request.uri().to_string()).await?;
        let answer = self.post(&url, decode(request.body())).await?;
        // As it is kept: without what the answer repeats of our secrets.
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (true, Some(error @ Error::Answer { .. })) = (Disposition::of(answer.status).may_pass(), &refusal) {
            return Err(error.clone()); // a failed request to oauth2, which goes on polling then
        }
        let mut status = answer.status;
        let mut body = answer.body.to_vec();
        if let Some(Error::Refused { error, description, .. }) = refusal {
            // An error with HTTP 200 (GitHub), or with any other status: oauth2 understands 400.
            status = StatusCode::BAD_REQUEST;
            let mut told = Map::from_iter([("error".to_owned(), Value::from(error))]);
            if let Some(description) = description {
                told.insert("error_description".to_owned(), description.into());
            }
            body = Value::Object(told).to_string().into_bytes();
        } else if let Ok(mut content) = serde_json::from_slice::<Map<String, Value>>(&body) {
            straighten(&mut content);
            body = Value::Object(content).to_string().into_bytes();
        }
        let mut response = Response::builder().status(status);
        response = response.header(header::CONTENT_TYPE, "application/json");
        response.body(body).map_err(|error| Error::Local(error.to_string()))
    }
}

/// Makes numbers of numbers that are written as text, and a text of a list of scopes; and sees to it that a
/// code for a device (RFC 8628 §3.2) is neither asked about without a pause nor for ever.
fn straighten(content: &mut Map<String, Value>) {
    for name in ["expires_in", "interval"] {
        if let Some(value) = content.get_mut(name) {
            let number = match &*value {
                Value::String(text) => text.trim().parse::<f64>().ok(),
                other => other.as_f64(),
            };
            match number.filter(|number| (0.0..1e15).contains(number)) {
                Some(number) => *value = Value::from(number.trunc() as u64),
                None => {
                    content.remove(name);
                }
            }
        }
    }
    if content.contains_key("device_code") {
        for name in ["expires_in", "interval"] {
            if let Some(number) = content.get(name).and_then(Value::as_u64) {
                content.insert(name.to_owned(), number.clamp(1, LIFE.as_secs()).into());
            }
        }
    }
    if let Some(Value::Array(scopes)) = content.get("scope") {
        let text: Vec<_> = scopes.iter().filter_map(Value::as_str).collect();
        content.insert("scope".to_owned(), text.join(" ").into());
    }
    for name in ["refresh_token", "id_token", "scope"] {
        if content.get(name).is_some_and(Value::is_null) {
            content.remove(name);
        }
    }
}

fn encode(form: &Form) -> String {
    let mut url = blank();
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

fn encode_one(text: &str) -> String {
    let mut url = blank();
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

fn decode(body: &[u8]) -> Form {
    let mut url = blank();
    url.set_query(std::str::from_utf8(body).ok());
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Its query is the form: the url crate has the encoding of WHATWG URL §5.
fn blank() -> Url {
    #[expect(clippy::unwrap_used, reason = "a constant")]
    Url::parse("data:,").unwrap()
}

impl OAuthHttpClient for TokenEndpoint {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move { Ok(self.inner.carry_out(request.request).await?) })
    }
}

impl<'c> oauth2::AsyncHttpClient<'c> for TokenEndpoint {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, Error>> + Send + 'c>>;

    fn call(&'c self, request: Request<Vec<u8>>) -> Self::Future {
        Box::pin(self.inner.carry_out(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_and_read_again() {
        let form = vec![("a b".to_owned(), "1&2=ü+~*".to_owned()), ("c".to_owned(), String::new())];
        assert_eq!(encode(&form), "a+b=1%262%3D%C3%BC%2B%7E*&c=");
        assert_eq!(decode(encode(&form).as_bytes()), form);
        assert_eq!(encode_one("s3 cr&t:%"), "s3+cr%26t%3A%25");
    }

    #[test]
    fn an_answer_is_straightened() {
        let mut content = serde_json::from_str::<Map<String, Value>>(
            r#"{"access_token":"a","expires_in":"3600","scope":["a","b"],"refresh_token":null}"#,
        )
        .unwrap();
        straighten(&mut content);
        assert_eq!(Value::Object(content).to_string(), r#"{"access_token":"a","expires_in":3600,"scope":"a b"}"#);
    }

    #[test]
    fn nobody_is_polled_without_a_pause_or_for_longer_than_a_sign_in_lasts() {
        let mut content =
            serde_json::from_str::<Map<String, Value>>(r#"{"device_code":"d","interval":0,"expires_in":1e14}"#)
                .unwrap();
        straighten(&mut content);
        assert_eq!(Value::Object(content).to_string(), r#"{"device_code":"d","expires_in":3600,"interval":1}"#);
    }
}
