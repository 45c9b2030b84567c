//! What is told where no authorization came about.
//!
//! Must never: leave out the server it was for, or the authorization server's own words where it has
//! some.

use reqwest::Url;

use super::{
    Report,
    catalogue::{FINISH_IN_BROWSER, NAME_LOCALHOST, NAME_THE_ADDRESS, SIGN_IN_THERE},
    host,
};
use crate::oauth::error::{Error, REGISTRATION, SIGN_IN_PAGE};

impl Report {
    /// Tells why there is no authorization.
    #[must_use]
    pub fn of_authorization(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let plain = |code| Self::new(code, format!("{host}: {error}"), None);
        match error {
            Error::NotOffered(_) => plain("unauthorized"),
            Error::HeaderRefused(_) => Self { status: Some(401), ..plain("credential_refused") },
            Error::Waiting { prompt: Some(url) } => {
                Self::new("sign_in_needed", format!("{host} needs you to sign in: open {url}"), Some(SIGN_IN_THERE))
            }
            Error::Waiting { prompt: None } => {
                Self::new("sign_in_needed", format!("{host} needs you to sign in"), None)
            }
            Error::AnotherAsks { prompt } => {
                let at = prompt.as_ref().map_or_else(String::new, |url| format!(" at {url}"));
                let sentence = format!("another mcp-remote process is waiting for you to sign in to {host}{at}");
                Self::new("sign_in_needed", sentence, Some(FINISH_IN_BROWSER))
            }
            Error::NobodyCame { .. } => plain("sign_in_timed_out"),
            Error::NoPkce { .. } => {
                Self::new("no_pkce", format!("{host} cannot be signed in to safely: {error}"), None)
            }
            Error::NoClient { .. } => plain("no_client"),
            Error::OtherIssuer { .. } => plain("other_issuer"),
            Error::Port { port, source, holder } => {
                let reason = match holder {
                    Some(holder) => format!("{holder} has it"),
                    None => source.to_string(),
                };
                let sentence =
                    format!("the sign-in to {host} needs port {port} of this computer, which cannot be had: {reason}");
                Self::new("port_taken", sentence, None)
            }
            Error::ScopeRefused(_) => plain("insufficient_scope"),
            Error::TokenRefused(_) => plain("token_refused"),
            Error::Network { .. } => plain("authorization_server_unreachable"),
            Error::WrongIssuer { .. } => {
                Self::new("wrong_issuer", format!("the sign-in to {host} was broken off: {error}"), None)
            }
            Error::Address { near, .. } => plain(if *near { "private_address" } else { "bad_address" }),
            Error::OtherResource { .. } => plain("resource_mismatch"),
            Error::Metadata(_) | Error::NoMetadata { .. } => plain("bad_metadata"),
            Error::Unsupported { .. } => plain("grant_not_offered"),
            Error::RedirectRefused { redirect_uri, .. } => {
                Self::new("redirect_uri_refused", format!("{host}: {error}"), other_host(redirect_uri))
            }
            Error::Answer { step: REGISTRATION, .. } => plain("registration_refused"),
            Error::Answer { .. } => plain("authorization_server_failed"),
            Error::Refused { step, error: kind, description } => plain(match (kind.as_str(), *step) {
                (_, REGISTRATION) => "registration_refused",
                ("access_denied", _) => "sign_in_denied",
                ("invalid_scope", _) => "scope_refused",
                _ if is_of_resource(kind, description.as_deref()) => "resource_refused",
                // RFC 6749 §4.1.2.1: so it is said where the client is unknown.
                ("invalid_client" | "unauthorized_client", _) | (_, SIGN_IN_PAGE) => "unknown_client",
                ("expired_token", _) => "sign_in_timed_out",
                _ => "sign_in_refused",
            }),
            Error::Local(_) => plain("sign_in_failed"),
        }
    }
}

/// RFC 8707 §2, and Entra, which has a number for it in the place of a code.
fn is_of_resource(error: &str, description: Option<&str>) -> bool {
    const ENTRA: &str = "AADSTS9010010"; // resource and scope do not go together
    error == "invalid_target" || description.is_some_and(|text| text.contains(ENTRA))
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
    fn a_sign_in_that_nobody_finished_is_told_as_one() {
        let server = Url::parse("https://mcp.example/mcp").unwrap();
        let report = Report::of_authorization(&Error::NobodyCame { after: Duration::from_secs(1800) }, &server);
        assert_eq!(
            report.line(),
            "mcp.example: nobody signed in within 30 minutes [sign_in_timed_out]. Tip: sign in again: mcp-remote login, with the arguments of this entry"
        );
    }

    #[test]
    fn the_other_name_of_this_computer_is_the_one_that_was_not_refused() {
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
