//! Reports of authorizations that failed.
//!
//! # Invariants
//!
//! - A report names the MCP server once, and quotes the authorization server's own words where there are any.

use reqwest::Url;

use super::{
    error::{Error, ErrorCode, ScopeLimit, Step},
    providers::table::ENTRA_RESOURCE_MISMATCH,
};
use crate::{
    report::{
        Code, Report,
        catalogue::{
            ADD_SCOPE, FINISH_IN_BROWSER, FORWARD_SCHEME, GIVE_ENDPOINTS, NAME_ENDPOINT, NAME_ISSUER, NAME_LOCALHOST,
            NAME_THE_ADDRESS, OMIT_PROMPT, SIGN_IN_ANEW, SIGN_IN_THERE, STILL_TRIED,
        },
    },
    text::{host, reason},
};

impl Report {
    /// Reports why there is no authorization for `server`.
    pub(crate) fn of_authorization(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let exact = |code, hint| Self::new(code, sentence(error, &host), hint);
        let plain = |code| exact(code, None);
        match error {
            Error::NotOffered(_) => plain(Code::Unauthorized),
            Error::HeaderRefused(_) => Self { status: Some(401), ..plain(Code::CredentialRefused) },
            Error::Waiting { prompt: Some(_) } => exact(Code::SignInNeeded, Some(SIGN_IN_THERE)),
            Error::Waiting { prompt: None } => plain(Code::SignInNeeded),
            Error::AnotherAsks { .. } => exact(Code::SignInNeeded, Some(FINISH_IN_BROWSER)),
            Error::OtherRefreshes => exact(Code::SignInFailed, Some(STILL_TRIED)),
            Error::NobodyCame { .. } => plain(Code::SignInTimedOut),
            Error::NoPkce { .. } => plain(Code::NoPkce),
            Error::NoClient { .. } => plain(Code::NoClient),
            Error::OtherIssuer { .. } => plain(Code::OtherIssuer),
            Error::ForeignPage { .. } => plain(Code::ForeignSignInPage),
            Error::IssuerNotNamed { .. } => plain(Code::IssuerNotNamed),
            Error::Port { .. } => plain(Code::PortTaken),
            Error::NoMoreScopes { limit: ScopeLimit::Configured } => exact(Code::InsufficientScope, Some(ADD_SCOPE)),
            Error::ScopeRefused { .. } | Error::NoMoreScopes { .. } => plain(Code::InsufficientScope),
            Error::TokenRefused(_) => plain(Code::TokenRefused),
            Error::CodeLost { .. } => exact(Code::AuthorizationServerUnreachable, Some(SIGN_IN_ANEW)),
            Error::Network { .. } => plain(Code::AuthorizationServerUnreachable),
            Error::WrongIssuer { .. } => plain(Code::WrongIssuer),
            Error::Address { near, .. } => plain(if *near { Code::PrivateAddress } else { Code::BadAddress }),
            // Users must not be sent to a URL that is not encrypted.
            Error::OtherResource { named } if named.starts_with("http://") => {
                exact(Code::ResourceMismatch, Some(FORWARD_SCHEME))
            }
            Error::OtherResource { .. } => plain(Code::ResourceMismatch),
            Error::NoMetadata { .. } => exact(Code::BadMetadata, Some(GIVE_ENDPOINTS)),
            Error::Metadata(_) | Error::MetadataRefused { .. } => plain(Code::BadMetadata),
            Error::IssuerMismatch { .. } => exact(Code::BadMetadata, Some(NAME_ISSUER)),
            Error::Filtered { status, .. } => Self { status: Some(status.as_u16()), ..plain(Code::BotFilter) },
            Error::Moved { .. } => exact(Code::BadMetadata, Some(NAME_ENDPOINT)),
            Error::RegistrationBusy { .. } => plain(Code::RegistrationBusy),
            Error::Unsupported { .. } => plain(Code::GrantNotOffered),
            Error::RedirectRefused { redirect_uri, .. } => exact(Code::RedirectUriRefused, other_host(redirect_uri)),
            Error::Answer { step: Step::Registration, .. } => plain(Code::RegistrationRefused),
            Error::Refused { error: kind, description: Some(words), .. }
                if kind.is_of_request() && words.to_ascii_lowercase().contains("prompt") =>
            {
                exact(Code::SignInRefused, Some(OMIT_PROMPT))
            }
            _ if error.is_of_client_authentication() => plain(Code::UnknownClient),
            Error::Answer { .. } | Error::Busy { .. } => plain(Code::AuthorizationServerFailed),
            Error::Refused { step, error: kind, description } => plain(match (kind, step) {
                (_, Step::Registration) => Code::RegistrationRefused,
                (ErrorCode::AccessDenied, _) => Code::SignInDenied,
                (ErrorCode::InvalidScope, _) => Code::ScopeRefused,
                _ if is_of_resource(kind, description.as_deref()) => Code::ResourceRefused,
                // RFC 6749 §4.1.2.1: so it is said where the client is unknown.
                (ErrorCode::InvalidClient | ErrorCode::UnauthorizedClient, _) | (_, Step::SignInPage) => {
                    Code::UnknownClient
                }
                (ErrorCode::ExpiredToken, _) => Code::SignInTimedOut,
                _ => Code::SignInRefused,
            }),
            Error::Store(_) => plain(Code::StoreUnavailable),
            Error::Local(_) => plain(Code::SignInFailed),
        }
    }
}

/// Returns the sentence of a report, which names the MCP server at `host` once.
fn sentence(error: &Error, host: &str) -> String {
    match error {
        Error::Waiting { prompt: Some(url) } => {
            let with = page_host(url).map_or_else(String::new, |page| format!(" with {page}"));
            format!("{host} needs you to sign in{with}: open {url} in your browser")
        }
        Error::Waiting { prompt: None } => format!("{host} needs you to sign in"),
        Error::AnotherAsks { prompt } => {
            let open = prompt.as_ref().map_or_else(String::new, |url| format!(": open {url} in your browser"));
            format!("another mcp-remote process is waiting for you to sign in to {host}{open}")
        }
        Error::OtherRefreshes => format!("cannot use {host} yet: {error}"),
        Error::NobodyCame { after } => format!("you did not sign in to {host} within {} minutes", after.as_secs() / 60),
        Error::Port { port, source, holder } => {
            let reason = match holder {
                Some(holder) => format!("{holder} uses it"),
                None => reason(source),
            };
            format!("cannot listen on callback port {port} for the sign-in to {host}: {reason}")
        }
        Error::Network { host: other, why, .. } if other == host => {
            format!("the authorization server {host} is not available: {why}")
        }
        Error::Network { host: other, why, .. } => {
            format!("cannot sign in to {host}: the authorization server {other} is not available: {why}")
        }
        Error::Store(_) => error.to_string(),
        error => {
            let text = error.to_string();
            match text.strip_prefix("the server ") {
                Some(rest) => format!("{host} {rest}"),
                None if text.contains(host) => format!("cannot sign in: {text}"),
                None => format!("cannot sign in to {host}: {text}"),
            }
        }
    }
}

/// Returns the host of the page that a prompt begins with: a person should see whose page it is before they open it.
pub(crate) fn page_host(prompt: &str) -> Option<String> {
    let url = Url::parse(prompt.split_whitespace().next()?).ok()?;
    url.has_host().then(|| host(&url))
}

/// RFC 8707 §2; Entra, which has a number for it in the place of a code; and servers that do not know the parameter.
fn is_of_resource(error: &ErrorCode, description: Option<&str>) -> bool {
    let names_it = |text: &str| {
        let text = text.to_ascii_lowercase().replace("resource owner", "").replace("resource server", "");
        text.contains("resource")
    };
    *error == ErrorCode::InvalidTarget
        || description
            .is_some_and(|text| text.contains(ENTRA_RESOURCE_MISMATCH) || error.is_of_request() && names_it(text))
}

/// Authorization servers know one of the two names of this computer (RFC 8252 §7.3, §8.3) and not the
/// other.
fn other_host(redirect_uri: &str) -> Option<&'static str> {
    match Url::parse(redirect_uri).ok()?.host_str()? {
        "localhost" => Some(NAME_THE_ADDRESS),
        "127.0.0.1" | "[::1]" => Some(NAME_LOCALHOST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn unfinished_sign_in_is_reported_as_timed_out() {
        let server = Url::parse("https://mcp.example/mcp").unwrap();
        let report = Report::of_authorization(&Error::NobodyCame { after: Duration::from_secs(1800) }, &server);
        assert_eq!(
            report.line(),
            "you did not sign in to mcp.example within 30 minutes. Tip: run mcp-remote login in a terminal, with the \
             arguments of this entry [Details: mcp-remote explain sign_in_timed_out]"
        );
    }

    #[test]
    fn sentence_names_the_server_once() {
        let words = |error: &Error| sentence(error, "a.example");
        let no_client = |issuer: &str| Error::NoClient { issuer: issuer.to_owned() };
        for (error, expected) in [
            (
                Error::TokenRefused("wrong audience".to_owned()),
                "a.example rejected a token that was just issued for it (wrong audience)",
            ),
            (
                no_client("https://as.example"),
                "cannot sign in to a.example: https://as.example does not support dynamic client registration",
            ),
            (
                no_client("https://a.example"),
                "cannot sign in: https://a.example does not support dynamic client registration",
            ),
        ] {
            assert_eq!(words(&error), expected);
        }
    }

    #[test]
    fn refused_redirect_host_suggests_the_other() {
        for (refused, other) in [
            ("http://localhost:1/oauth/callback", Some("--host 127.0.0.1")),
            ("http://127.0.0.1:1/oauth/callback", Some("--host localhost")),
            ("http://[::1]:1/oauth/callback", Some("--host localhost")),
            ("https://redirect.example/oauth/callback", None),
        ] {
            let told = other_host(refused).map(|hint| hint.split_once(": ").unwrap().1);
            assert_eq!(told, other, "{refused}");
        }
    }
}
