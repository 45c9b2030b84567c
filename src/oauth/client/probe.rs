//! The sign-in page, probed before a person sees it: how an authorization server refuses a client that it does not
//! know, or that may ask for less. No standard says; RFC 6749 §4.1.2.1 only that there is no redirect then.
//!
//! # Invariants
//!
//! - An answer of a server that is busy says nothing about the client.
//! - A page that does not speak of the client says nothing about it either: a filter for bots may have sent it.

use std::time::Duration;

use reqwest::{Url, header};
use serde_json::{Map, Value};

use crate::{
    oauth::{
        error::{Error, ErrorCode, Step},
        http::client::HttpClient,
        protocol::metadata::AuthorizationServer,
        providers::remedies,
    },
    status::Disposition,
    text::one_line,
};

/// How long the page may take when it is only probed: a person waits behind that.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// What a refusal says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientStanding {
    /// It may not ask for these scopes.
    TooNarrow,
    /// It is not known.
    Unknown,
    /// Nothing.
    Open,
}

/// Gets the page at `url` as a browser would, and returns how it refuses: an OAuth error, in a redirect or in JSON, or
/// a 4xx whose words name the client or its redirect URI.
pub(crate) async fn probe_page(
    http: &HttpClient,
    server: &AuthorizationServer,
    url: &Url,
    redirect_uri: &str,
) -> Option<(ClientStanding, Error)> {
    // Where it fails, the person will see.
    let answer = tokio::time::timeout(PAGE_PATIENCE, http.get(url)).await.ok()?.ok()?;
    let refused = |error: ErrorCode, description: Option<&str>| Error::Refused {
        step: Step::SignIn,
        error,
        description: description.map(|text| one_line(text.as_bytes())),
    };
    let code = |error: &str| ErrorCode::from(one_line(error.as_bytes()));
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let redirect = location.and_then(|location| url.join(location).ok());
    let parameter = |wanted: &str| {
        let mut pairs = redirect.as_ref()?.query_pairs();
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    if let Some(error) = parameter("error").as_deref().map(code) {
        let standing = match error {
            ErrorCode::InvalidScope => ClientStanding::TooNarrow,
            ErrorCode::InvalidClient | ErrorCode::UnauthorizedClient => ClientStanding::Unknown,
            _ => ClientStanding::Open,
        };
        return Some((standing, refused(error, parameter("error_description").as_deref())));
    }
    let content = serde_json::from_slice::<Map<String, Value>>(&answer.body).unwrap_or_default();
    let member = |name: &str| content.get(name).and_then(Value::as_str);
    if let Some(error) = member("error").map(code) {
        let description = member("error_description");
        let standing = match error {
            ErrorCode::InvalidScope => ClientStanding::TooNarrow,
            ErrorCode::InvalidClient
            | ErrorCode::UnauthorizedClient
            | ErrorCode::InvalidRedirectUri
            | ErrorCode::RedirectUriMismatch => ClientStanding::Unknown,
            _ if description.is_some_and(names_client) => ClientStanding::Unknown,
            _ => ClientStanding::Open,
        };
        return Some((standing, refused(error, description)));
    }
    if !answer.status.is_client_error() || Disposition::of(answer.status).may_pass() {
        return None;
    }
    let refusal = match remedies::refusal_in(server, &answer.body) {
        Some(known) => refused(code(known), None),
        None => {
            let echo = url.query().unwrap_or_default(); // a filter may quote the URL, which names the client
            let words = Some(one_line(&answer.body)).filter(|words| names_client(&words.replace(echo, "")))?;
            let error = ErrorCode::Other(format!("HTTP {}", answer.status.as_u16()));
            Error::of_refusal(Step::SignInPage, error, Some(words), redirect_uri)
        }
    };
    Some((ClientStanding::Unknown, refusal))
}

/// Returns whether a refusal speaks of the client or of its redirect URI.
fn names_client(words: &str) -> bool {
    let words = words.to_ascii_lowercase().replace("client error", ""); // what HTTP calls any 4xx (RFC 9110 §15.5)
    ["client", "redirect_uri", "redirect uri"].iter().any(|name| words.contains(name))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::oauth::http::client::{Answer, tests::scripted};

    const REDIRECT_URI: &str = "http://localhost:1/oauth/callback";

    async fn probed(issuer: &str, status: u16, location: &'static str, body: &str) -> Option<(ClientStanding, String)> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let http = scripted(move |_, _| {
            let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(location))]);
            Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.clone() }
        });
        let server = AuthorizationServer { issuer: issuer.to_owned(), published: true, ..Default::default() };
        let url = Url::parse("https://as.example/authorize?client_id=c").unwrap();
        let refused = probe_page(&http, &server, &url, REDIRECT_URI).await;
        refused.map(|(standing, error)| (standing, error.to_string()))
    }

    #[tokio::test]
    async fn refusal_is_read_from_redirect_json_or_status() {
        use ClientStanding::{Open, TooNarrow, Unknown};
        let back = |query: &str| format!("{REDIRECT_URI}?{query}");
        let back = |query: &str| &*back(query).leak();
        for (status, location, body, expected) in [
            (200, "", "<html>", None),
            (302, "/login", "", None),
            (
                302,
                back("error=invalid_scope"),
                "",
                Some((TooNarrow, "the authorization server rejected the sign-in: invalid_scope")),
            ),
            (
                302,
                back("error=invalid_client"),
                "",
                Some((Unknown, "the authorization server rejected the sign-in: invalid_client")),
            ),
            (
                302,
                back("error=unauthorized_client"),
                "",
                Some((Unknown, "the authorization server rejected the sign-in: unauthorized_client")),
            ),
            (
                302,
                back("error=login_required&error_description=no%0Aone"),
                "",
                Some((Open, "the authorization server rejected the sign-in: login_required (\"no one\")")),
            ),
            (
                200,
                "",
                r#"{"error":"invalid_scope"}"#,
                Some((TooNarrow, "the authorization server rejected the sign-in: invalid_scope")),
            ),
            (200, "", r#"{"error":"x"}"#, Some((Open, "the authorization server rejected the sign-in: x"))),
            (
                400,
                "",
                r#"{"error":"invalid_request","error_description":"bad client_id"}"#,
                Some((Unknown, "the authorization server rejected the sign-in: invalid_request (\"bad client_id\")")),
            ),
            (404, "", "", None),
            (401, "", "<title>Sign in to your network</title>", None),
            (403, "", "<title>Just a moment...</title>", None),
            (403, "", "403 Client Error: Forbidden", None),
            (403, "", "not allowed: /authorize?client_id=c", None),
            (
                400,
                "",
                "no such client",
                Some((
                    Unknown,
                    "the authorization server rejected opening the sign-in page: HTTP 400 (\"no such client\")",
                )),
            ),
            (
                400,
                "",
                "bad redirect_uri",
                Some((
                    Unknown,
                    "the authorization server rejected the redirect URI http://localhost:1/oauth/callback: HTTP 400 (\"bad redirect_uri\")",
                )),
            ),
            (429, "", "", None),
            (408, "", "", None),
            (500, "", "", None),
        ] {
            let expected = expected.map(|(standing, text)| (standing, text.to_owned()));
            assert_eq!(
                probed("https://as.example", status, location, body).await,
                expected,
                "{status} {location} {body}"
            );
        }
    }

    #[tokio::test]
    async fn known_refusal_of_a_provider_is_its_words() {
        let page = "<p>AADSTS9010010: The resource parameter does not match</p>";
        let entra = "https://login.microsoftonline.com/t/v2.0";
        let known =
            (ClientStanding::Unknown, "the authorization server rejected the sign-in: AADSTS9010010".to_owned());
        assert_eq!(probed(entra, 400, "", page).await, Some(known));
        assert_eq!(probed("https://as.example", 400, "", page).await, None);
    }
}
