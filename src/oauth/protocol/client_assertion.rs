//! The signed JWT that stands in for a client secret (`private_key_jwt`; RFC 7523 §2.2 and §3, as the
//! MCP extension for client credentials wants it).
//!
//! # Invariants
//!
//! - An assertion is used once.
//! - An assertion names no other audience than the one authorization server.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::json;

use crate::{
    oauth::protocol::jws::{SigningKey, numeric_date, random_id},
    secret::Secret,
    text::one_line,
};

/// How long an assertion is good for. It is used at once, so the rest is room for a clock that is slow
/// here; servers that set a limit set it at five minutes of their own clock.
const LIFETIME: Duration = Duration::from_secs(4 * 60);

/// Proves to the authorization server `issuer` that this client is `client_id`. `supported` are its
/// `token_endpoint_auth_signing_alg_values_supported` (RFC 8414 §2).
///
/// # Errors
/// Where the server takes no algorithm that the key can sign with.
pub(crate) fn client_assertion(
    key: &SigningKey,
    client_id: &str,
    issuer: &str,
    supported: Option<&[String]>,
    now: SystemTime,
) -> anyhow::Result<Secret<String>> {
    let issued = numeric_date(now)?;
    let claims = json!({
        // RFC 7523 §3: both are the client.
        "iss": client_id,
        "sub": client_id,
        // One string, not a list: no other server may accept it.
        "aud": issuer,
        "iat": issued,
        "exp": issued + LIFETIME.as_secs(),
        "jti": random_id()?,
    });
    key.sign(json!({ "typ": "JWT" }), algorithm(key, supported)?, &claims).map(Secret::new)
}

/// The first of the key's algorithms that the server takes; of a server that says nothing, the first.
fn algorithm(key: &SigningKey, supported: Option<&[String]>) -> anyhow::Result<&'static str> {
    let taken =
        |algorithm: &&&str| supported.is_none_or(|supported| supported.iter().any(|other| other == **algorithm));
    key.algorithms().iter().find(taken).copied().with_context(|| {
        format!(
            "the authorization server accepts client assertions signed with {}, but the key signs with {}",
            one_line(supported.unwrap_or_default().join(", ").as_bytes()),
            key.algorithms().join(" or ")
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::Value;

    use super::{
        super::jws::tests::{EC, RSA, opened_with_jwk},
        *,
    };

    const ISSUER: &str = "https://as.example/tenant";

    fn assertion(key: &SigningKey, supported: Option<&[String]>) -> anyhow::Result<Secret<String>> {
        client_assertion(key, "client 1", ISSUER, supported, UNIX_EPOCH + Duration::from_millis(1_700_000_000_900))
    }

    fn signed(key: &SigningKey) -> [Value; 2] {
        opened_with_jwk(assertion(key, None).unwrap().expose(), &key.public_jwk().unwrap())
    }

    #[test]
    fn assertion_names_client_audience_and_expiry() {
        let key = SigningKey::from_pem(EC).unwrap();
        let [header, claims] = signed(&key);
        assert_eq!(header, json!({ "alg": "ES256", "typ": "JWT" }));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("client 1"), &json!("client 1")));
        assert_eq!(claims["aud"], ISSUER);
        assert_eq!(claims["iat"], 1_700_000_000);
        let lifetime = claims["exp"].as_u64().unwrap() - 1_700_000_000;
        assert!((60..=300).contains(&lifetime), "{lifetime}");
    }

    #[test]
    fn no_two_assertions_have_the_same_id() {
        let key = SigningKey::from_pem(EC).unwrap();
        let [first, second] =
            [signed(&key), signed(&key)].map(|[_, claims]| claims["jti"].as_str().unwrap().to_owned());
        assert_ne!(first, second);
        assert!(first.len() >= 16);
    }

    #[test]
    fn assertion_algorithm_is_known_to_both_sides() {
        let key = SigningKey::from_pem(RSA).unwrap();
        let list = |names: &[&str]| names.iter().copied().map(String::from).collect::<Vec<_>>();
        assert_eq!(algorithm(&key, None).unwrap(), "RS256");
        assert_eq!(algorithm(&key, Some(&list(&["ES256", "PS256", "RS256"]))).unwrap(), "RS256");
        assert_eq!(algorithm(&key, Some(&list(&["ES256", "PS256"]))).unwrap(), "PS256");
        let refused = assertion(&key, Some(&list(&["ES256", "HS256"]))).unwrap_err().to_string();
        assert!(refused.contains("ES256, HS256") && refused.contains("RS256 or PS256"), "{refused}");
    }
}
