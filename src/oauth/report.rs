//! Reports of authorizations that failed.
//!
//! # Invariants
//!
//! - A report names the MCP server, and has the authorization server's own words where there are some.

use reqwest::Url;

use super::{
    error::{Error, ErrorCode, Step},
    providers::table::ENTRA_RESOURCE_MISMATCH,
};
use crate::{
    report::{
        Code, Report,
        catalogue::{
            FINISH_IN_BROWSER, FORWARD_SCHEME, GIVE_ENDPOINTS, NAME_ENDPOINT, NAME_ISSUER, NAME_LOCALHOST,
            NAME_THE_ADDRESS, OMIT_PROMPT, SIGN_IN_THERE,
        },
    },
    text::host,
};

impl Report {
    /// Tells why there is no authorization.
    pub(crate) fn of_authorization(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let plain = |code| Self::new(code, format!("{host}: {error}"), None);
        match error {
            Error::NotOffered(_) => plain(Code::Unauthorized),
            Error::HeaderRefused(_) => Self { status: Some(401), ..plain(Code::CredentialRefused) },
            Error::Waiting { prompt: Some(url) } => {
                let at = page_host(url).map_or_else(String::new, |page| format!(" with {page}"));
                Self::new(
                    Code::SignInNeeded,
                    format!("{host} needs you to sign in{at}: open {url}"),
                    Some(SIGN_IN_THERE),
                )
            }
            Error::Waiting { prompt: None } => {
                Self::new(Code::SignInNeeded, format!("{host} needs you to sign in"), None)
            }
            Error::AnotherAsks { prompt } => {
                let at = prompt.as_ref().map_or_else(String::new, |url| format!(" at {url}"));
                let sentence = format!("another mcp-remote process is waiting for you to sign in to {host}{at}");
                Self::new(Code::SignInNeeded, sentence, Some(FINISH_IN_BROWSER))
            }
            Error::NobodyCame { .. } => plain(Code::SignInTimedOut),
            Error::NoPkce { .. } => {
                Self::new(Code::NoPkce, format!("{host} cannot be signed in to safely: {error}"), None)
            }
            Error::NoClient { .. } => plain(Code::NoClient),
            Error::OtherIssuer { .. } => plain(Code::OtherIssuer),
            Error::ForeignPage { .. } => plain(Code::ForeignSignInPage),
            Error::IssuerNotNamed { .. } => plain(Code::IssuerNotNamed),
            Error::Port { port, source, holder } => {
                let reason = match holder {
                    Some(holder) => format!("{holder} has it"),
                    None => source.to_string(),
                };
                let sentence =
                    format!("the sign-in to {host} needs port {port} of this computer, which cannot be had: {reason}");
                Self::new(Code::PortTaken, sentence, None)
            }
            Error::ScopeRefused(_) => plain(Code::InsufficientScope),
            Error::TokenRefused(_) => plain(Code::TokenRefused),
            Error::Network { .. } => plain(Code::AuthorizationServerUnreachable),
            Error::WrongIssuer { .. } => {
                Self::new(Code::WrongIssuer, format!("the sign-in to {host} was broken off: {error}"), None)
            }
            Error::Address { near, .. } => plain(if *near { Code::PrivateAddress } else { Code::BadAddress }),
            // Nobody is sent to an address that is not encrypted.
            Error::OtherResource { named } if named.starts_with("http://") => {
                Self::new(Code::ResourceMismatch, format!("{host}: {error}"), Some(FORWARD_SCHEME))
            }
            Error::OtherResource { .. } => plain(Code::ResourceMismatch),
            Error::NoMetadata { .. } => Self::new(Code::BadMetadata, format!("{host}: {error}"), Some(GIVE_ENDPOINTS)),
            Error::Metadata(_) | Error::MetadataRefused { .. } => plain(Code::BadMetadata),
            Error::IssuerMismatch { .. } => Self::new(Code::BadMetadata, format!("{host}: {error}"), Some(NAME_ISSUER)),
            Error::Filtered { status, .. } => Self { status: Some(status.as_u16()), ..plain(Code::BotFilter) },
            Error::Moved { .. } => Self::new(Code::BadMetadata, format!("{host}: {error}"), Some(NAME_ENDPOINT)),
            Error::RegistrationBusy { .. } => plain(Code::RegistrationBusy),
            Error::Unsupported { .. } => plain(Code::GrantNotOffered),
            Error::RedirectRefused { redirect_uri, .. } => {
                Self::new(Code::RedirectUriRefused, format!("{host}: {error}"), other_host(redirect_uri))
            }
            Error::Answer { step: Step::Registration, .. } => plain(Code::RegistrationRefused),
            Error::Refused { error: kind, description: Some(words), .. }
                if kind.is_of_request() && words.to_ascii_lowercase().contains("prompt") =>
            {
                Self::new(Code::SignInRefused, format!("{host}: {error}"), Some(OMIT_PROMPT))
            }
            _ if error.is_of_client_authentication() => plain(Code::UnknownClient),
            Error::Answer { .. } => plain(Code::AuthorizationServerFailed),
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
            "mcp.example: nobody signed in within 30 minutes [sign_in_timed_out]. Tip: sign in again: mcp-remote login, with the arguments of this entry"
        );
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
