//! Requests to an authorization server in the client's name (RFC 6749 §3.2, §5; RFC 7009; RFC 8628): every form gets
//! the client's authentication, the resource indicator exactly as published (RFC 8707), and a proof of possession
//! (RFC 9449 §5); every answer is read as RFC 6749 §5 wants it, also where servers are known to differ.
//!
//! # Invariants
//!
//! - A secret is sent nowhere but to the endpoint it is for.
//! - A request is sent again for a nonce, a redirect on the same origin, or a client that was refused; not for anything
//!   that may have spent its grant.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use log::info;
use reqwest::{StatusCode, Url, header};
use serde_json::{Map, Value};

use super::{
    client_auth::{AuthMethod, Client},
    dpop::Prover,
    form::{self, Form},
    jws::SigningKey,
    metadata::AuthorizationServer,
};
use crate::{
    oauth::{
        error::{Error, ErrorCode, Step, code_and_words, status_and_words},
        http::client::{Answer, HttpClient},
    },
    status::retry_after,
    sync::LockExt,
    text::one_line,
};

/// The longest that a code for a device is taken to be good for.
const LONGEST_DEVICE_CODE: Duration = Duration::from_secs(60 * 60);
/// Redirects of one request: a slash, a new path.
const MOST_REDIRECTS: u32 = 3;
/// Member of a form in the place of which the resource indicator is sent, if there is one.
pub(crate) const RESOURCE: (&str, &str) = ("resource", "");
/// Members of a form that are secret.
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

/// A client at an authorization server.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    parts: Arc<Parts>,
    /// What the last answer was, if it was an error: rmcp and oauth2 make a text of it.
    refusal: Arc<Mutex<Option<Error>>>,
    /// How the client is known to authenticate.
    method: Arc<Mutex<Option<AuthMethod>>>,
}

/// What a [`TokenEndpoint`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) http: Arc<HttpClient>,
    /// Where to.
    pub(crate) server: AuthorizationServer,
    /// In whose name.
    pub(crate) client: Client,
    /// What tokens are to be for.
    pub(crate) resource: Option<String>,
    /// Proves possession of a key.
    pub(crate) prover: Option<Arc<Prover>>,
    /// Signs the client's assertions.
    pub(crate) key: Option<SigningKey>,
    /// How clients with a secret are known to authenticate there.
    pub(crate) known_method: Option<AuthMethod>,
    /// Receives a method other than the client's own that was accepted.
    pub(crate) accepted: Accepted,
}

/// Keeps the method that an authorization server has accepted.
#[derive(Clone)]
pub(crate) struct Accepted(Arc<dyn Fn(AuthMethod) + Send + Sync>);

impl Accepted {
    pub(crate) fn new(keep: impl Fn(AuthMethod) + Send + Sync + 'static) -> Self {
        Self(Arc::new(keep))
    }

    /// Keeps nothing.
    pub(crate) fn nowhere() -> Self {
        Self::new(|_| {})
    }

    fn call(&self, method: AuthMethod) {
        (self.0)(method);
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Accepted")
    }
}

impl TokenEndpoint {
    /// Sends nothing yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let method = Arc::new(Mutex::new(parts.known_method));
        Self { parts: Arc::new(parts), refusal: Arc::default(), method }
    }

    pub(super) fn http(&self) -> &HttpClient {
        &self.parts.http
    }

    pub(super) fn server(&self) -> &AuthorizationServer {
        &self.parts.server
    }

    pub(super) fn client(&self) -> &Client {
        &self.parts.client
    }

    /// Spends a grant that neither rmcp nor `oauth2` knows. Returns the token response (RFC 6749 §5.1).
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
    pub(crate) async fn grant(&self, step: Step, form: &[(&str, &str)]) -> Result<Map<String, Value>, Error> {
        let endpoint = self.server().token_endpoint()?;
        let answer = self.post(&endpoint, form::of(form)).await?;
        if let Some(refused) = self.take_refusal() {
            return Err(refused.at(step));
        }
        // Not quoted: there may be a token in it.
        serde_json::from_slice(&answer.body).map_err(|_| Error::Answer {
            step,
            what: format!("the response ({} bytes) is not a token response", answer.body.len()),
            status: Some(answer.status),
        })
    }

    /// Ends a token (RFC 7009 §2.1). `oauth2` has this request, but refuses to send it to a server on
    /// this machine that has no TLS.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
    pub(crate) async fn revoke(&self, endpoint: &Url, token: &str, kind: &str) -> Result<(), Error> {
        self.post(endpoint, form::of(&[("token", token), ("token_type_hint", kind)])).await?;
        self.take_refusal().map_or(Ok(()), |refused| Err(refused.at(Step::Revocation)))
    }

    /// Returns what the server said, where rmcp or oauth2 has only said that it failed.
    pub(super) fn refusal(&self, step: Step, told: &dyn fmt::Display) -> Error {
        match self.take_refusal() {
            // The polling ended (RFC 8628 §3.5) with these as the last answer.
            Some(Error::Refused { error: ErrorCode::AuthorizationPending | ErrorCode::SlowDown, .. }) => {
                Error::Refused { step, error: ErrorCode::ExpiredToken, description: None }
            }
            Some(refused) => refused.at(step),
            None => Error::Answer { step, what: one_line(told.to_string().as_bytes()), status: None },
        }
    }

    fn take_refusal(&self) -> Option<Error> {
        self.refusal.guard().take()
    }

    pub(super) fn kept_refusal(&self) -> Option<Error> {
        self.refusal.guard().clone()
    }

    pub(super) fn keep_refusal(&self, refusal: Option<Error>) {
        *self.refusal.guard() = refusal;
    }

    /// Sends a form in the client's name. A refusal is kept.
    pub(super) async fn post(&self, url: &Url, form: Form) -> Result<Answer, Error> {
        let Parts { server, client, accepted, .. } = &*self.parts;
        let mut methods = client.methods(server);
        let known = *self.method.guard();
        if let Some(at) = methods.iter().position(|method| Some(*method) == known) {
            methods[..=at].rotate_right(1);
        }
        self.keep_refusal(None);
        let mut first = None;
        for method in methods {
            let (answer, refusal) = self.post_by(method, url, form.clone()).await?;
            if !refusal.as_ref().is_some_and(Error::is_of_client_authentication) {
                if first.is_some() {
                    info!("{} accepts the client authentication method {}", server.issuer, method.words());
                    *self.method.guard() = Some(method);
                    accepted.call(method);
                }
                self.keep_refusal(refusal);
                return Ok(answer);
            }
            // RFC 6749 §5.2: the client was refused before the grant was looked at, so that it is not spent.
            first.get_or_insert((answer, refusal));
        }
        // What the client's own method was answered says most.
        let (answer, refusal) =
            first.ok_or_else(|| Error::Local("the client has no authentication method".to_owned()))?;
        self.keep_refusal(refusal);
        Ok(answer)
    }

    async fn post_by(&self, method: AuthMethod, url: &Url, mut form: Form) -> Result<(Answer, Option<Error>), Error> {
        let Parts { http, server, client, resource, prover, key, .. } = &*self.parts;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        name_resource(&mut form, resource.as_deref());
        client.authenticate(method, server, key.as_ref(), &mut form, &mut headers)?;
        let mut secrets: Vec<String> =
            form.iter().filter(|(name, _)| SECRETS.contains(&name.as_str())).map(|(_, value)| value.clone()).collect();
        secrets.extend(client.secret.iter().map(|secret| secret.expose().clone()));
        let body: Bytes = form::encode(&form).into();
        let mut url = url.clone();
        let (mut has_sent_nonce, mut redirects) = (false, 0);
        loop {
            if let Some(prover) = prover {
                headers.insert("dpop", prover.proof(&Method::POST, &url, None, SystemTime::now())?);
            }
            let answer = http.send(Method::POST, &url, headers.clone(), body.clone()).await?;
            if let Some(filtered) = answer.filtered(&url) {
                return Err(filtered);
            }
            if let Some(to) = answer.moved(Step::Request, &url, true)? {
                redirects += 1;
                if redirects > MOST_REDIRECTS {
                    return Err(Error::Metadata(format!("{url} redirects more than {MOST_REDIRECTS} times")));
                }
                url = to;
                continue;
            }
            let new_nonce = prover.as_ref().is_some_and(|prover| prover.keep_nonce(&url, &answer.headers));
            let refusal = refusal_of(&answer, &secrets);
            // RFC 9449 §8: once more, with the nonce.
            let wants_nonce = refusal.as_ref().is_some_and(|error| error.is(ErrorCode::UseDpopNonce));
            if new_nonce && wants_nonce && !has_sent_nonce {
                has_sent_nonce = true;
                continue;
            }
            return Ok((answer, refusal));
        }
    }
}

/// Puts the resource indicator (RFC 8707 §2) in its place, where the sender asked for one.
fn name_resource(form: &mut Form, resource: Option<&str>) {
    if let Some(at) = form.iter().position(|(name, _)| name == RESOURCE.0) {
        form.retain(|(name, _)| name != RESOURCE.0);
        if let Some(resource) = resource {
            form.insert(at, (RESOURCE.0.to_owned(), resource.to_owned()));
        }
    }
}

/// Whether a request was not processed (RFC 6585 §4, RFC 9110 §15.6.4). Rate limits have codes of their own that no
/// standard knows, but a code of RFC 6749 §5.2 is about the request. Gateways answer 503 also if the connection to the
/// server broke in the middle of a request; a server that is busy says when to come again.
fn is_busy(answer: &Answer, code: Option<&ErrorCode>) -> bool {
    let may_be = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::SERVICE_UNAVAILABLE => {
            retry_after(&answer.headers).is_some() || matches!(code, Some(ErrorCode::TemporarilyUnavailable))
        }
        _ => false,
    };
    may_be
        && match code {
            None | Some(ErrorCode::TemporarilyUnavailable) => true,
            Some(code @ ErrorCode::Other(_)) => !code.is_of_request(),
            Some(_) => false,
        }
}

/// Reads an error answer (RFC 6749 §5.2), with whatever status. What a server repeats of the `secrets` is left out,
/// because the text is for people and logs.
fn refusal_of(answer: &Answer, secrets: &[String]) -> Option<Error> {
    let step = Step::Request;
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    let secrets: Vec<String> = secrets.flat_map(|secret| [form::encode_one(secret), secret.clone()]).collect();
    let clean = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        one_line(secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "…")).as_bytes())
    };
    let content = serde_json::from_slice::<Map<String, Value>>(&answer.body).ok();
    let member = |name: &str| content.as_ref()?.get(name)?.as_str();
    // Some servers write an empty error beside a token.
    match member("error").filter(|error| !error.is_empty()) {
        Some(error) => {
            // A short secret may be part of a code, which says what to do.
            let error = match ErrorCode::from(error.to_owned()) {
                ErrorCode::Other(text) => ErrorCode::Other(clean(text.as_bytes())),
                known => known,
            };
            let description = content.as_ref().and_then(words_of).map(|text| clean(text.as_bytes()));
            if is_busy(answer, Some(&error)) {
                let what = code_and_words(error.as_str(), description.as_deref());
                return Some(Error::Busy { step, what, after: retry_after(&answer.headers) });
            }
            Some(Error::Refused { step, error, description })
        }
        None if answer.status.is_success() && (content.is_some() || !is_foreign_json(answer)) => None,
        None => {
            let words = content.as_ref().and_then(words_of).map_or(&*answer.body, str::as_bytes);
            let mut what = status_and_words(answer.status, &clean(words));
            if content.is_none()
                && let Some(charset) = foreign_charset(answer)
            {
                what = format!("{what}, in the character set {charset} instead of UTF-8");
            }
            Some(if is_busy(answer, None) {
                Error::Busy { step, what, after: retry_after(&answer.headers) }
            } else {
                Error::Answer { step, what, status: Some(answer.status) }
            })
        }
    }
}

/// Returns what a server says of an error, in the member of RFC 6749 §5.2 or in those of frameworks and gateways.
fn words_of(content: &Map<String, Value>) -> Option<&str> {
    const NAMES: [&str; 4] = ["error_description", "message", "error_message", "detail"];
    fn text(content: &Map<String, Value>) -> Option<&str> {
        NAMES.iter().find_map(|name| content.get(*name)?.as_str().filter(|words| !words.is_empty()))
    }
    text(content).or_else(|| text(content.get("error")?.as_object()?))
}

/// Returns the character set of an answer, if it is declared to be another one than UTF-8, which JSON must be in
/// (RFC 8259 §8.1).
fn foreign_charset(answer: &Answer) -> Option<String> {
    let kind = answer.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let mut parameters = kind.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, charset) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    let charset = one_line(charset.trim().trim_matches('"').as_bytes());
    let is_utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|name| charset.eq_ignore_ascii_case(name));
    (!is_utf8).then_some(charset)
}

/// Whether an answer is JSON that cannot be read because of its character set.
fn is_foreign_json(answer: &Answer) -> bool {
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    !answer.body.is_empty() && kind.to_ascii_lowercase().contains("json") && foreign_charset(answer).is_some()
}

/// Returns the token response in an answer to a request with the secret "hush", as it goes on to rmcp, for fuzz targets.
///
/// # Errors
/// What people are told.
pub fn token_response_of(status: u16, body: &[u8]) -> Result<Vec<u8>, String> {
    let answer = Answer::of(status, body)?;
    if let Some(refused) = refusal_of(&answer, &["hush".to_owned()]) {
        return Err(refused.to_string());
    }
    let content = serde_json::from_slice::<Map<String, Value>>(&answer.body);
    let mut content = content.map_err(|_| "not a token response".to_owned())?;
    straighten(&mut content);
    serde_json::to_vec(&content).map_err(|error| error.to_string())
}

/// Makes numbers of numbers that are written as text, and a text of a list of scopes; takes a person's token from the
/// place where Slack puts it; and sees to it that a
/// code for a device (RFC 8628 §3.2) is neither asked about without a pause nor for ever.
pub(crate) fn straighten(content: &mut Map<String, Value>) {
    // Slack: beside what is the program's (docs.slack.dev/authentication/installing-with-oauth).
    if !content.contains_key("access_token")
        && let Some(Value::Object(user)) = content.remove("authed_user")
        && user.get("access_token").is_some_and(Value::is_string)
    {
        let names = ["access_token", "refresh_token", "expires_in", "scope"];
        content.extend(user.into_iter().filter(|(name, _)| names.contains(&name.as_str())));
        content.insert("token_type".to_owned(), "Bearer".into());
    }
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
                content.insert(name.to_owned(), number.clamp(1, LONGEST_DEVICE_CODE.as_secs()).into());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &'static str) -> Option<String> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) };
        refusal_of(&answer, &["hush&".to_owned(), String::new()]).map(|error| error.to_string())
    }

    #[test]
    fn error_answer_is_read_with_any_status() {
        for (status, body, expected) in [
            (200, r#"{"access_token":"a"}"#, None),
            (
                200,
                r#"{"error":"bad_verification_code"}"#,
                Some("the authorization server rejected the request: bad_verification_code"),
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"x"}"#,
                Some("the authorization server rejected the request: invalid_grant (\"x\")"),
            ),
            (
                400,
                r#"{"error":"e","error_description":"hush& hush%26"}"#,
                Some("the authorization server rejected the request: e (\"… …\")"),
            ),
            (503, "hush&", Some("the request failed: HTTP 503 (\"…\")")),
            (500, "no JSON, hush&", Some("the request failed: HTTP 500 (\"no JSON, …\")")),
            (200, r#"{"access_token":"a","error":""}"#, None),
        ] {
            assert_eq!(refused(status, body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn busy_endpoint_is_told_from_refusal() {
        const RATE: &str = r#"{"error":"too_many_requests","error_description":"slow"}"#;
        for (status, body, expected) in [
            (429, "x", Some("HTTP 429 (\"x\")")),
            (503, "", Some("HTTP 503")),
            (429, RATE, Some("too_many_requests (\"slow\")")),
            (503, r#"{"error":"temporarily_unavailable"}"#, Some("temporarily_unavailable")),
            // What a code of RFC 6749 §5.2 says is about the request.
            (503, r#"{"error":"invalid_grant"}"#, None),
            (429, r#"{"error":"slow_down"}"#, None),
            // Nor does what has failed say that it was not begun.
            (503, r#"{"error":"server_error"}"#, None),
            // A gateway does not know what became of the request.
            (502, "x", None),
            (504, "x", None),
            (500, "x", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer { status, headers, body: Bytes::from_static(body.as_bytes()) };
            let found = match refusal_of(&answer, &[]) {
                Some(Error::Busy { what, after: Some(after), .. }) if after == Duration::from_secs(7) => Some(what),
                _ => None,
            };
            assert_eq!(found.as_deref(), expected, "{status} {body}");
        }
        // A gateway says the same of a connection that broke after the request.
        let answer =
            Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers: HeaderMap::new(), body: Bytes::from("reset") };
        assert!(matches!(refusal_of(&answer, &[]), Some(Error::Answer { .. })));
    }

    #[test]
    fn words_are_found_wherever_servers_put_them() {
        for (body, expected) in [
            (r#"{"message":"boom hush&"}"#, "the request failed: HTTP 400 (\"boom …\")"),
            (r#"{"error":{"code":"x","message":"nested"}}"#, "the request failed: HTTP 400 (\"nested\")"),
            (r#"{"error":"","detail":"no"}"#, "the request failed: HTTP 400 (\"no\")"),
            (r#"{"error":"x"}"#, "the authorization server rejected the request: x"),
            (r#"{"error":"x","message":"why"}"#, "the authorization server rejected the request: x (\"why\")"),
        ] {
            assert_eq!(refused(400, body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn unreadable_character_set_is_named() {
        let told = |status: u16, kind: &'static str, body: &'static [u8]| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer { status, headers, body: Bytes::from_static(body) };
            refusal_of(&answer, &[]).map(|error| error.to_string())
        };
        const LATIN: &str = "application/json; charset=ISO-8859-1";
        let expected = |status: u16, words: &str| {
            let charset = "in the character set ISO-8859-1 instead of UTF-8";
            Some(format!("the request failed: HTTP {status} (\"{words}\"), {charset}"))
        };
        assert_eq!(told(400, LATIN, b"{\"error\":\"\xfc\"}"), expected(400, "{\"error\":\"\u{fffd}\"}"));
        assert_eq!(told(200, LATIN, b"{\"a\":\"\xfc\"}"), expected(200, "{\"a\":\"\u{fffd}\"}"));
        // What can be read is read, and a page says nothing in JSON.
        assert_eq!(told(200, LATIN, b"{}"), None);
        assert_eq!(told(200, "text/html; charset=ISO-8859-1", b"<p>\xfc"), None);
        let utf8 = told(400, "application/json;Charset=\"UTF-8\"", b"oh");
        assert_eq!(utf8.as_deref(), Some("the request failed: HTTP 400 (\"oh\")"));
    }

    #[test]
    fn short_secret_does_not_alter_error_code() {
        let body = Bytes::from_static(br#"{"error":"invalid_grant","error_description":"rr"}"#);
        let answer = Answer { status: StatusCode::BAD_REQUEST, headers: HeaderMap::new(), body };
        let Some(Error::Refused { error, description, .. }) = refusal_of(&answer, &["r".to_owned()]) else { panic!() };
        assert_eq!((error.as_str(), description.as_deref()), ("invalid_grant", Some("……")));
    }

    #[test]
    fn resource_is_named_where_it_is_asked_for() {
        for (resource, expected) in [(Some("https://h/a"), "a=1&resource=https%3A%2F%2Fh%2Fa&b=2"), (None, "a=1&b=2")] {
            let mut form = form::of(&[("a", "1"), ("resource", "of rmcp"), ("b", "2")]);
            name_resource(&mut form, resource);
            assert_eq!(form::encode(&form), expected);
        }
        let mut form = form::of(&[("a", "1")]);
        name_resource(&mut form, Some("https://h"));
        assert_eq!(form::encode(&form), "a=1");
    }

    #[test]
    fn token_response_types_are_normalized() {
        let mut content = serde_json::from_str::<Map<String, Value>>(
            r#"{"access_token":"a","expires_in":"3600","scope":["a","b"],"refresh_token":null}"#,
        )
        .unwrap();
        straighten(&mut content);
        assert_eq!(Value::Object(content).to_string(), r#"{"access_token":"a","expires_in":3600,"scope":"a b"}"#);
    }

    #[test]
    fn user_token_is_found_beside_bot_token() {
        let mut content = serde_json::from_str::<Map<String, Value>>(
            r#"{"ok":true,"authed_user":{"id":"U1","access_token":"xoxp-1","token_type":"user","scope":"a,b"}}"#,
        )
        .unwrap();
        straighten(&mut content);
        let expected = r#"{"access_token":"xoxp-1","ok":true,"scope":"a,b","token_type":"Bearer"}"#;
        assert_eq!(Value::Object(content).to_string(), expected);
    }

    #[test]
    fn device_polling_has_a_pause_and_an_end() {
        let mut content =
            serde_json::from_str::<Map<String, Value>>(r#"{"device_code":"d","interval":0,"expires_in":1e14}"#)
                .unwrap();
        straighten(&mut content);
        assert_eq!(Value::Object(content).to_string(), r#"{"device_code":"d","expires_in":3600,"interval":1}"#);
    }
}
