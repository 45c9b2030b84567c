//! Signatures on P-256: a client's assertions (RFC 7523) and proofs of possession (RFC 9449 §4.3).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use serde_json::{Value, json};

use super::{Place, State};
use crate::support::server::{Reply, Request};

/// How far a clock may be off, in seconds.
const CLOCK: u64 = 60;
/// How many of the nonces given last are taken: requests overtake each other.
const NONCES: usize = 4;

/// A key of a client: PEM (PKCS#8), and the public point.
pub fn new_key() -> (String, Vec<u8>) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let text = STANDARD.encode(document.as_ref());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    (pem, pair.public_key().as_ref().to_vec())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The header of a JWT; null if it is none.
pub fn header(jwt: &str) -> Value {
    part(jwt, 0)
}

/// The claims of a JWT; null if it is none.
pub fn claims(jwt: &str) -> Value {
    part(jwt, 1)
}

fn part(jwt: &str, at: usize) -> Value {
    let text = jwt.split('.').nth(at).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

/// Whether the key that belongs to this point has signed the JWT with ES256.
pub fn is_signed_by(jwt: &str, point: &[u8]) -> bool {
    let Some((signed, signature)) = jwt.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).is_ok()
}

fn sha256(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// The nonces each server has given, newest last.
#[derive(Default)]
pub(super) struct Nonces {
    mcp: Vec<String>,
    authorization: Vec<String>,
}

impl Nonces {
    fn given(&mut self, at: Place) -> &mut Vec<String> {
        match at {
            Place::Mcp => &mut self.mcp,
            Place::Authorization => &mut self.authorization,
        }
    }

    /// A new one.
    pub(super) fn next(&mut self, at: Place) -> String {
        let given = self.given(at);
        given.push(format!("nonce-{at:?}-{}", given.len()));
        given.last().cloned().unwrap_or_default()
    }

    fn takes(&mut self, at: Place, nonce: &Value) -> bool {
        self.given(at).iter().rev().take(NONCES).any(|given| nonce == given)
    }
}

impl State {
    /// Checks the proof of a request; its key's thumbprint (RFC 7638), or what to answer.
    pub(super) fn proof(
        &mut self,
        request: &Request,
        at: Place,
        htu: &str,
        token: Option<&str>,
    ) -> Result<String, Reply> {
        let Some(jwt) = request.header("dpop") else {
            return Err(match at {
                Place::Mcp => self.unauthorized("invalid_dpop_proof"),
                Place::Authorization => super::refusal(400, "invalid_dpop_proof", "no proof"),
            });
        };
        let (header, claims) = (header(jwt), claims(jwt));
        let jwk = &header["jwk"];
        let point = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap_or_default();
        let key = [vec![4], point("x"), point("y")].concat();
        let members = ["crv", "kty", "x", "y"].map(|name| format!("\"{name}\":{}", jwk[name]));
        let checks = [
            (!jwt.contains(','), "more than one proof"),
            (header["typ"] == "dpop+jwt", "typ is not dpop+jwt"),
            (header["alg"] == "ES256" && jwk["kty"] == "EC", "alg is not in the list of the server"),
            (jwk["d"].is_null(), "the private key is in the proof"),
            (is_signed_by(jwt, &key), "not signed by its key"),
            (claims["htm"] == request.method, "htm is another method"),
            (claims["htu"] == htu, "htu is another address, or has a query"),
            (claims["iat"].as_u64().is_some_and(|time| time.abs_diff(now()) <= CLOCK), "iat is not now"),
            (
                claims["jti"].as_str().is_some_and(|jti| self.seen.insert(jti.to_owned())),
                "jti is missing or seen before",
            ),
            (token.is_none_or(|token| claims["ath"] == sha256(token)), "ath is not the token's hash"),
        ];
        if let Some((_, wrong)) = checks.iter().find(|(right, _)| !right) {
            return Err(self.problem(format!("DPoP proof: {wrong}: {header} {claims} (at {htu})")));
        }
        if self.settings.nonces && !self.nonces.takes(at, &claims["nonce"]) {
            let nonce = self.nonces.next(at);
            // RFC 9449 §8 and §9.
            let reply = match at {
                Place::Authorization => super::refusal(400, "use_dpop_nonce", "a nonce is needed"),
                Place::Mcp => Reply::status(401, "text/plain", "Unauthorized")
                    .with("www-authenticate", r#"DPoP error="use_dpop_nonce", error_description="a nonce is needed""#),
            };
            return Err(reply.with("dpop-nonce", &nonce));
        }
        Ok(sha256(&format!("{{{}}}", members.join(","))))
    }
}

/// An unsigned JWT with these claims, for what only has to look like one.
pub fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "ES256", "typ": "JWT"})), part(claims))
}
