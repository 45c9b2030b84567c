//! The sign-in page, probed before a person sees it: how an authorization server refuses a client that it does not
//! know, or that may ask for less. No standard says; RFC 6749 §4.1.2.1 only that there is no redirect then.
//!
//! # Invariants
//!
//! - An answer of a server that is busy says nothing about the client.

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

/// Gets the page at `url` as a browser would, and returns how it refuses: any 4xx, and an error in
/// JSON, is about the client; so is an error redirect that names it, or its scope.
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
        let standing =
            if error == ErrorCode::InvalidScope { ClientStanding::TooNarrow } else { ClientStanding::Unknown };
        return Some((standing, refused(error, member("error_description"))));
    }
    if !answer.status.is_client_error() || Disposition::of(answer.status).may_pass() {
        return None;
    }
    let refusal = match remedies::refusal_in(server, &answer.body) {
        Some(known) => refused(code(known), None),
        None => {
            let words = Some(one_line(&answer.body)).filter(|words| !words.is_empty());
            let error = ErrorCode::Other(format!("HTTP {}", answer.status.as_u16()));
            Error::of_refusal(Step::SignInPage, error, words, redirect_uri)
        }
    };
    Some((ClientStanding::Unknown, refusal))
}
