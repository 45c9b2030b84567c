//! The authorization-code grant (RFC 6749 §4.1) with PKCE (RFC 7636), as far as it is about what is sent and what comes
//! back: the request that waits for its response, and whose the response is (RFC 9207).
//!
//! # Invariants
//!
//! - A response is not believed before its issuer is checked, an error no more than a code.

use serde::{Deserialize, Serialize};

use super::issuer::{Name, published_as};
use crate::oauth::error::Error;

/// An authorization request that waits for its response. The order and the names of the members are those of files
/// that earlier versions wrote.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingAuthorization {
    /// RFC 7636 §4.1.
    pub(crate) pkce_verifier: String,
    /// `state` (RFC 6749 §4.1.1).
    #[serde(rename = "csrf_token")]
    pub(crate) state: String,
    /// The issuer that was asked, if its metadata are published.
    #[serde(default)]
    pub(crate) expected_issuer: Option<String>,
    /// Whether the response must name its issuer (RFC 9207 §3).
    #[serde(default)]
    pub(crate) require_issuer: bool,
    /// Seconds since the epoch.
    pub(crate) created_at: u64,
    #[serde(default)]
    pub(crate) requested_scopes: Vec<String>,
}

impl PendingAuthorization {
    /// Checks the issuer of a response, an error response too (MCP 2026-07-28, Authorization Response Validation;
    /// RFC 9207 §2.4). rmcp does so for codes only.
    ///
    /// # Errors
    /// [`Error::WrongIssuer`].
    pub(crate) fn check_issuer(&self, received: Option<&str>) -> Result<(), Error> {
        match (received, self.expected_issuer.as_deref()) {
            (Some(received), Some(expected)) if is_name(expected, received) => Ok(()),
            (None, Some(_)) if !self.require_issuer => Ok(()),
            (_, None) => Ok(()),
            (_, Some(expected)) => Err(Error::WrongIssuer { expected: expected.to_owned() }),
        }
    }
}

/// Whether a response's `iss` is the issuer that was asked: to the letter (RFC 9207 §2.4), or as a server behind a proxy
/// that ends TLS writes it, which then has the same host.
fn is_name(expected: &str, received: &str) -> bool {
    matches!(published_as(expected, received), Name::Exact | Name::SchemeLost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_comes_from_the_issuer_that_was_asked() {
        for (expected, required, received, genuine) in [
            (Some("a"), false, Some("a"), true),
            (Some("a"), true, Some("a"), true),
            (Some("a"), false, Some("a/"), false),
            (Some("https://a.example"), true, Some("http://a.example"), true),
            (Some("https://a.example"), true, Some("http://b.example"), false),
            (Some("a"), false, None, true),
            (Some("a"), true, None, false),
            (None, true, None, true),
            (None, false, Some("b"), true),
        ] {
            let pending = PendingAuthorization {
                pkce_verifier: String::new(),
                state: String::new(),
                expected_issuer: expected.map(Into::into),
                require_issuer: required,
                created_at: 0,
                requested_scopes: Vec::new(),
            };
            assert_eq!(pending.check_issuer(received).is_ok(), genuine, "{expected:?} {required} {received:?}");
        }
    }
}
