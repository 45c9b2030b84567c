//! Dynamic client registration (RFC 7591): what is asked for, and what the answer is taken for.
//!
//! rmcp's `register_client` is not used: its body is fixed (no scope, no software id, method
//! `none` even where the server refuses that), and of the answer it keeps neither method nor expiry.
//!
//! # Invariants
//!
//! - An answer is not quoted, because there may be a secret in it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use log::debug;
use reqwest::{Url, header};
use serde_json::{Map, Value, json};

use super::{
    client_auth::{AuthMethod, Client, Origin, REQUESTED_SCOPE},
    metadata::AuthorizationServer,
};
use crate::{
    oauth::{
        error::{Error, ErrorCode, Step, status_and_words},
        http::client::{Answer, HttpClient},
    },
    status::{Disposition, retry_after},
    text::one_line,
};

/// The grant of a person in a browser (RFC 7591 §2).
pub(crate) const AUTHORIZATION_CODE: &str = "authorization_code";
/// RFC 6749 §6.
const REFRESH_TOKEN: &str = "refresh_token";
/// Redirects of one registration: `www.`, a slash.
const MOST_REDIRECTS: u32 = 3;
/// The npm package's identity for authorization servers that keep statistics, or lists, by software.
const SOFTWARE_ID: &str = "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d";

/// What a client is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The grant, besides refreshes.
    pub(crate) grant: &'a str,
    pub(crate) redirect_uri: &'a str,
    /// The scopes that will be asked for.
    pub(crate) scopes: &'a [String],
}

/// Registers a client (RFC 7591 §3). `own` are the user's members of the request. Returns the registration as it is to
/// be kept, and the client of it.
///
/// # Errors
/// [`Error::NoClient`] where there is no such endpoint, [`Error::Refused`], [`Error::RegistrationBusy`],
/// [`Error::Moved`], [`Error::Filtered`], [`Error::Network`].
pub(crate) async fn register(
    http: &HttpClient,
    server: &AuthorizationServer,
    wanted: Wanted<'_>,
    own: Option<&Map<String, Value>>,
) -> Result<(Map<String, Value>, Client), Error> {
    let Some(endpoint) = &server.metadata.registration_endpoint else {
        return Err(Error::NoClient { issuer: server.issuer.clone() });
    };
    let endpoint = http.address("the registration endpoint", endpoint).await?;
    let body = request(server, wanted, own);
    let registered = send(http, server, wanted.redirect_uri, endpoint.clone(), body.clone()).await;
    match registered {
        // RFC 7591 §2 wants unknown members ignored; some refuse what they do not know.
        Err(error) if error.is(ErrorCode::Other("invalid_client_metadata".to_owned())) => {
            debug!("{error}; registering with the required fields only");
            let least = least(body, own);
            send(http, server, wanted.redirect_uri, endpoint, least).await.map_err(|_| error)
        }
        registered => registered,
    }
}

/// Returns the members of a request without which no client can be used, and the user's.
fn least(mut body: Map<String, Value>, own: Option<&Map<String, Value>>) -> Map<String, Value> {
    const NEEDED: [&str; 3] = ["client_name", "redirect_uris", "token_endpoint_auth_method"];
    body.retain(|name, _| NEEDED.contains(&name.as_str()) || own.is_some_and(|own| own.contains_key(name)));
    body
}

async fn send(
    http: &HttpClient,
    server: &AuthorizationServer,
    redirect_uri: &str,
    mut endpoint: Url,
    body: Map<String, Value>,
) -> Result<(Map<String, Value>, Client), Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let text = Bytes::from(Value::Object(body.clone()).to_string());
    let has_secret = body.contains_key("client_secret");
    let mut redirects = 0;
    let answer = loop {
        let answer = http.send(Method::POST, &endpoint, headers.clone(), text.clone()).await?;
        if let Some(filtered) = answer.filtered(&endpoint) {
            return Err(filtered);
        }
        match answer.moved(Step::Registration, &endpoint, has_secret)? {
            Some(to) if redirects < MOST_REDIRECTS => {
                endpoint = http.address_in(&endpoint, "the registration endpoint", to.as_str()).await?;
                redirects += 1;
            }
            Some(_) => return Err(Error::Metadata(format!("{endpoint} redirects more than {MOST_REDIRECTS} times"))),
            None => break answer,
        }
    };
    let info = registration(server, &endpoint, body, redirect_uri, &answer)?;
    let client = Client::of(&info, server, Origin::Registered).ok_or_else(|| unusable(&answer))?;
    Ok((info, client))
}

/// What is told of this program (RFC 7591 §2).
fn request(server: &AuthorizationServer, wanted: Wanted<'_>, own: Option<&Map<String, Value>>) -> Map<String, Value> {
    // A program on a person's machine keeps no secret (RFC 8252 §8.5), so `none` wherever it is offered.
    let method = AuthMethod::listed(server, [AuthMethod::None, AuthMethod::Post, AuthMethod::Basic]);
    let mut body = Map::new();
    body.insert("client_name".to_owned(), "mcp-remote".into());
    body.insert("software_id".to_owned(), SOFTWARE_ID.into());
    body.insert("software_version".to_owned(), env!("CARGO_PKG_VERSION").into());
    body.insert("application_type".to_owned(), "native".into()); // OpenID Connect Registration §2; SEP-837
    // RFC 7591 §2: servers refuse what they do not list.
    let listed = server.metadata.grant_types_supported.as_deref();
    let refreshes = listed.is_none_or(|grants| grants.iter().any(|grant| grant == REFRESH_TOKEN));
    let grants = [wanted.grant].into_iter().chain(refreshes.then_some(REFRESH_TOKEN));
    body.insert("grant_types".to_owned(), grants.collect());
    body.insert("response_types".to_owned(), json!(["code"]));
    body.insert("token_endpoint_auth_method".to_owned(), method.unwrap_or(AuthMethod::None).name().into());
    body.insert("redirect_uris".to_owned(), json!([wanted.redirect_uri]));
    if !wanted.scopes.is_empty() {
        body.insert("scope".to_owned(), wanted.scopes.join(" ").into());
    }
    body.extend(own.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    body
}

/// Reads the answer to a request with the members `asked` (RFC 7591 §3.2).
fn registration(
    server: &AuthorizationServer,
    endpoint: &Url,
    asked: Map<String, Value>,
    redirect_uri: &str,
    answer: &Answer,
) -> Result<Map<String, Value>, Error> {
    let step = Step::Registration;
    let content = serde_json::from_slice::<Map<String, Value>>(&answer.body);
    // Nothing is published, and the default endpoint registers no clients: there is no sign-in.
    let is_registration = answer.status.is_success() && content.is_ok();
    if !server.published && !is_registration {
        let why = format!("it publishes no metadata, and {endpoint} answered HTTP {}", answer.status.as_u16());
        return Err(Error::NotOffered(why));
    }
    let member = |name: &str| content.as_ref().ok()?.get(name)?.as_str().map(|text| one_line(text.as_bytes()));
    // Some refuse with HTTP 200.
    let error = member("error").filter(|error| !error.is_empty());
    if !answer.status.is_success() || error.is_some() {
        let what = || status_and_words(answer.status, &one_line(&answer.body));
        let error = error.map(ErrorCode::from);
        // RFC 6585 §4, RFC 9110 §15.6.4: not the registration is refused, but the moment.
        let is_passing = Disposition::of(answer.status).may_pass()
            || matches!(error, Some(ErrorCode::TemporarilyUnavailable | ErrorCode::ServerError | ErrorCode::SlowDown));
        return Err(match error {
            error if is_passing => Error::RegistrationBusy {
                issuer: server.issuer.clone(),
                why: error.map_or_else(what, |error| error.as_str().to_owned()),
                after: retry_after(&answer.headers),
            },
            Some(error) => Error::of_refusal(step, error, member("error_description"), redirect_uri),
            None => Error::Answer { step, what: what(), status: Some(answer.status) },
        });
    }
    let mut info = content.map_err(|_| unusable(answer))?;
    // RFC 7591 §3.2.1 wants all that was asked for repeated; npm needs these two.
    for (name, value) in asked {
        if name == "scope" {
            info.insert(REQUESTED_SCOPE.to_owned(), value.clone());
        }
        if name == "token_endpoint_auth_method" {
            info.entry(name).or_insert(value);
        } else if name == "redirect_uris" {
            // Only what was asked for is used, whatever else the answer lists: each would be a port to try.
            info.insert(name, value);
        }
    }
    let declared = info.get("token_endpoint_auth_method").and_then(Value::as_str);
    let offered = AuthMethod::offered(server, true);
    if declared == Some("none") && info.contains_key("client_secret") && offered != AuthMethod::None {
        // A secret for a client that is to have none: the server means it to be used (FastMCP).
        info.insert("token_endpoint_auth_method".to_owned(), offered.name().into());
    }
    info.insert("issuer".to_owned(), server.issuer.as_str().into());
    Ok(info)
}

/// Returns the registration that is kept of this answer of `https://as.example`, for fuzz targets.
///
/// # Errors
/// What people are told.
pub fn registration_of(status: u16, body: &[u8]) -> Result<Vec<u8>, String> {
    let server = AuthorizationServer {
        issuer: "https://as.example".to_owned(),
        published: true,
        ..AuthorizationServer::default()
    };
    let (redirect_uri, scopes) = ("http://localhost:3335/oauth/callback", ["a".to_owned()]);
    let asked = request(&server, Wanted { grant: AUTHORIZATION_CODE, redirect_uri, scopes: &scopes }, None);
    let told = |error: Error| error.to_string();
    let endpoint = Url::parse("https://as.example/register").map_err(|error| error.to_string())?;
    let answer = Answer::of(status, body)?;
    let info = registration(&server, &endpoint, asked, redirect_uri, &answer).map_err(told)?;
    Client::of(&info, &server, Origin::Registered).ok_or_else(|| told(unusable(&answer)))?;
    serde_json::to_vec(&info).map_err(|error| error.to_string())
}

fn unusable(answer: &Answer) -> Error {
    let what = format!("the response ({} bytes) is not a client registration", answer.body.len());
    Error::Answer { step: Step::Registration, what, status: None }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    const REDIRECT: &str = "http://localhost:1/cb";

    fn server(published: bool, methods: Option<&[&str]>) -> AuthorizationServer {
        let mut server = AuthorizationServer { issuer: "https://as".to_owned(), published, ..Default::default() };
        server.metadata.token_endpoint_auth_methods_supported =
            methods.map(|methods| methods.iter().map(ToString::to_string).collect());
        server
    }

    fn asked(server: &AuthorizationServer, scopes: &[&str], own: &Value) -> Map<String, Value> {
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        let wanted = Wanted { grant: AUTHORIZATION_CODE, redirect_uri: REDIRECT, scopes: &scopes };
        request(server, wanted, own.as_object())
    }

    fn read(server: &AuthorizationServer, status: u16, body: &str) -> Result<Value, String> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) };
        let asked = asked(server, &["a"], &Value::Null);
        let endpoint = Url::parse("https://as/register").unwrap();
        let read = registration(server, &endpoint, asked, REDIRECT, &answer);
        read.map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn request_names_grant_redirect_method_and_scopes() {
        let body = asked(&server(true, None), &["a", "b"], &json!({ "client_name": "mine", "x": 1 }));
        for (name, value) in [
            ("client_name", json!("mine")),
            ("x", json!(1)),
            ("grant_types", json!(["authorization_code", "refresh_token"])),
            ("redirect_uris", json!([REDIRECT])),
            ("scope", json!("a b")),
            ("token_endpoint_auth_method", json!("none")),
        ] {
            assert_eq!(body[name], value, "{name}");
        }
        assert!(!asked(&server(true, None), &[], &Value::Null).contains_key("scope"));
        for (listed, grants) in [
            (&["authorization_code"][..], json!(["authorization_code"])),
            (&["authorization_code", "refresh_token"], json!(["authorization_code", "refresh_token"])),
            (&[], json!(["authorization_code"])),
        ] {
            let mut server = server(true, None);
            server.metadata.grant_types_supported = Some(listed.iter().map(ToString::to_string).collect());
            assert_eq!(asked(&server, &[], &Value::Null)["grant_types"], grants, "{listed:?}");
        }
        for (listed, method) in [
            (&["client_secret_basic", "none"][..], "none"),
            (&["client_secret_basic", "client_secret_post"], "client_secret_post"),
            (&["client_secret_basic"], "client_secret_basic"),
            (&["private_key_jwt"], "none"),
        ] {
            let body = asked(&server(true, Some(listed)), &[], &Value::Null);
            assert_eq!(body["token_endpoint_auth_method"], method, "{listed:?}");
        }
    }

    #[test]
    fn registration_is_completed_with_what_was_asked() {
        assert_eq!(
            read(&server(true, None), 201, r#"{"client_id":"c"}"#).unwrap(),
            json!({
                "client_id": "c", "issuer": "https://as", "redirect_uris": [REDIRECT], "requested_scope": "a",
                "token_endpoint_auth_method": "none"
            })
        );
        let secret = r#"{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"none"}"#;
        for (listed, method) in
            [(None, "client_secret_basic"), (Some(&["client_secret_post"][..]), "client_secret_post")]
        {
            assert_eq!(read(&server(true, listed), 201, secret).unwrap()["token_endpoint_auth_method"], method);
        }
    }

    #[test]
    fn busy_server_wait_is_bounded() {
        for (value, expected) in [("1800", Some(1800)), ("18446744073709551615", Some(24 * 60 * 60)), ("soon", None)] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
            let answer = Answer { status: StatusCode::TOO_MANY_REQUESTS, headers, body: Bytes::new() };
            let endpoint = Url::parse("https://as/register").unwrap();
            let read = registration(&server(true, None), &endpoint, Map::new(), REDIRECT, &answer);
            let Err(Error::RegistrationBusy { after, .. }) = read else { panic!("{read:?}") };
            assert_eq!(after.map(|after| after.as_secs()), expected, "{value}");
        }
    }

    #[test]
    fn refusal_differs_from_missing_endpoint() {
        let refused = r#"{"error":"invalid_client_metadata","error_description":"no"}"#;
        for (published, status, body, told) in [
            (
                true,
                400,
                refused,
                "the authorization server rejected the client registration: invalid_client_metadata (\"no\")",
            ),
            (
                true,
                400,
                r#"{"error":"invalid_redirect_uri"}"#,
                "the authorization server rejected the redirect URI http://localhost:1/cb: invalid_redirect_uri",
            ),
            (true, 502, "busy", "https://as is too busy to register a client (HTTP 502 (\"busy\"))"),
            (true, 500, "", "https://as is too busy to register a client (HTTP 500)"),
            (true, 429, r#"{"error":"slow_down"}"#, "https://as is too busy to register a client (slow_down)"),
            (true, 405, "", "the client registration failed: HTTP 405"),
            (
                true,
                200,
                refused,
                "the authorization server rejected the client registration: invalid_client_metadata (\"no\")",
            ),
            (true, 200, "hush", "the client registration failed: the response (4 bytes) is not a client registration"),
            (
                false,
                404,
                "",
                "the server requires a credential (HTTP 401) and supports no sign-in: it publishes no metadata, and https://as/register answered HTTP 404",
            ),
            (
                false,
                200,
                "<html>",
                "the server requires a credential (HTTP 401) and supports no sign-in: it publishes no metadata, and https://as/register answered HTTP 200",
            ),
        ] {
            assert_eq!(read(&server(published, None), status, body).unwrap_err(), told);
        }
    }
}
