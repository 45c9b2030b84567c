//! Signatures of this program: compact JWS (RFC 7515 §7.1) with the algorithms of RFC 7518 §3, RFC 8037 §3.1
//! and RFC 9864 §2.2; the claims that all its JWTs have (RFC 7519).
//!
//! # Invariants
//!
//! - A private key is not shown.
//! - A key signs with its own algorithm only.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, ensure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest,
    error::KeyRejected,
    rand::{SecureRandom, SystemRandom},
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
    },
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::secret::Secret;

/// Random bytes of a `jti`: RFC 9449 §4.2 wants 96 bits or more.
const ID_LENGTH: usize = 16;

/// A private key.
pub(crate) struct SigningKey(Pair);

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<rsa::KeyPair>),
}

impl SigningKey {
    /// A new key for ES256, and the same as PKCS#8, to be kept.
    ///
    /// # Errors
    /// Where the operating system has no random numbers.
    pub(crate) fn generate() -> anyhow::Result<(Self, Secret<Vec<u8>>)> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| anyhow!("the operating system has no random numbers for a new key"))?;
        Ok((Self::from_pkcs8(pkcs8.as_ref())?, Secret::new(pkcs8.as_ref().to_vec())))
    }

    /// Reads PKCS#8 (RFC 5958) in DER.
    ///
    /// # Errors
    /// A key that cannot sign here, with what to do about it.
    pub(crate) fn from_pkcs8(der: &[u8]) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let readers: [&dyn Fn() -> Result<Pair, KeyRejected>; 4] = [
            &|| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).map(Pair::P256),
            &|| EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der, &random).map(Pair::P384),
            // Most programs leave the public key out, and this reader computes it.
            &|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519),
            &|| rsa::KeyPair::from_pkcs8(der).map(|pair| Pair::Rsa(Box::new(pair))),
        ];
        let mut reason = None;
        for read in readers {
            match read().map_err(|rejected| rejected.to_string()) {
                Ok(pair) => return Ok(Self(pair)),
                Err(why) if why == "WrongAlgorithm" => {} // the next may fit
                Err(why) => reason = reason.or(Some(why)),
            }
        }
        Err(unusable(reason.as_deref()))
    }

    /// Reads PEM (RFC 7468): PKCS#8, or what older programs write, PKCS#1 and SEC 1.
    ///
    /// # Errors
    /// A file without a key, or a key that cannot sign here, with what to do about it.
    pub(crate) fn from_pem(text: &str) -> anyhow::Result<Self> {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            let what = if text.contains("ENCRYPTED") {
                "the private key is encrypted"
            } else {
                "the file has no private key in PEM format"
            };
            anyhow!("{what} (openssl pkey -in OLD -out NEW.pem writes a readable one)")
        })?;
        match &key {
            PrivateKeyDer::Pkcs8(key) => Self::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(key) => Self::from_pkcs8(&pkcs8_of_sec1(key.secret_sec1_der())),
            PrivateKeyDer::Pkcs1(key) => match rsa::KeyPair::from_der(key.secret_pkcs1_der()) {
                Ok(pair) => Ok(Self(Pair::Rsa(Box::new(pair)))),
                Err(rejected) => Err(unusable(Some(&rejected.to_string()))),
            },
            _ => Err(unusable(None)),
        }
    }

    /// What it can sign with, the most widely known first.
    pub(crate) fn algorithms(&self) -> &'static [&'static str] {
        match &self.0 {
            Pair::P256(_) => &["ES256"],
            Pair::P384(_) => &["ES384"],
            Pair::Ed25519(_) => &["EdDSA", "Ed25519"], // one signature, its older and its newer name
            Pair::Rsa(_) => &["RS256", "PS256"],
        }
    }

    /// The public half as a JWK (RFC 7518 §6.2.1), of a P-256 key.
    pub(crate) fn public_jwk(&self) -> Option<Value> {
        let Pair::P256(pair) = &self.0 else { return None };
        // SEC 1 §2.3.3, uncompressed: 4, x, y.
        let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        Some(json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) }))
    }

    /// Signs `claims`; `alg` of the header is set here.
    ///
    /// # Errors
    /// An algorithm that is not the key's, or a header that is no object.
    pub(crate) fn sign(&self, mut header: Value, algorithm: &str, claims: &Value) -> anyhow::Result<String> {
        let known = self.algorithms();
        ensure!(known.contains(&algorithm), "the key signs with {}, not with {algorithm}", known.join(" or "));
        header.as_object_mut().context("the JOSE header is not an object")?.insert("alg".into(), algorithm.into());
        let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.signature(algorithm, input.as_bytes())?;
        Ok(format!("{input}.{}", base64url(signature)))
    }

    fn signature(&self, algorithm: &str, input: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        let signature = match &self.0 {
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&random, input).map(|signature| signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(input).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let padding: &dyn RsaEncoding = if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, input, &mut signature).map(|()| signature)
            }
        };
        signature.map_err(|_| anyhow!("the key failed to sign"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.algorithms().join(", "))
    }
}

/// SHA-256 in base64url.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    base64url(digest::digest(&digest::SHA256, bytes))
}

/// A new `jti` (RFC 7519 §4.1.7).
pub(crate) fn random_id() -> anyhow::Result<String> {
    let mut id = [0; ID_LENGTH];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| anyhow!("the operating system has no random numbers for a token ID"))?;
    Ok(base64url(id))
}

/// A NumericDate (RFC 7519 §2).
pub(crate) fn numeric_date(time: SystemTime) -> anyhow::Result<u64> {
    Ok(time.duration_since(UNIX_EPOCH).context("this computer's clock is set before 1970")?.as_secs())
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn unusable(reason: Option<&str>) -> anyhow::Error {
    match reason {
        // ring wants the public key in an EC key, and this command adds it.
        Some("InvalidEncoding") => anyhow!(
            "the private key is malformed, or is an EC key without its public key (openssl ec -in OLD -out NEW.pem adds that)"
        ),
        Some("TooSmall") => anyhow!("the private key is too short (RSA keys need 2048 bits or more)"),
        Some(_) => anyhow!("the private key is not usable for signing (RSA keys need 2048 bits or more)"),
        None => anyhow!("the private key must be of type P-256, P-384, Ed25519 or RSA"),
    }
}

/// SEC 1's `ECPrivateKey` (RFC 5915 §3) in PKCS#8's `PrivateKeyInfo` (RFC 5208 §5), which names the
/// curve once more.
fn pkcs8_of_sec1(key: &[u8]) -> Vec<u8> {
    const VERSION_0: &[u8] = &[0x02, 1, 0];
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 5, 0x2b, 0x81, 0x04, 0x00, 0x22];
    let curve = if key.windows(P384.len()).any(|window| window == P384) { P384 } else { P256 };
    let algorithm = der(0x30, &[EC_PUBLIC_KEY, curve].concat());
    der(0x30, &[VERSION_0, &algorithm, &der(0x04, key)].concat())
}

/// One value in DER (X.690 §8.1.3, §10.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut value = vec![tag];
    if content.len() >= 0x80 {
        value.push(0x80 | length.len() as u8);
    }
    value.extend_from_slice(length);
    value.extend_from_slice(content);
    value
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
    };

    use super::*;

    /// The key of RFC 7515 §A.3, as openssl writes EC keys.
    pub(in crate::oauth) const EC: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49
AwEHoUQDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72b
focs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END EC PRIVATE KEY-----
";

    /// The key of RFC 7515 §A.2, as PKCS#1.
    pub(in crate::oauth) const RSA: &str = "-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0
l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pC
gNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSX
ndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD
Zlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8
q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQABAoIBABKucaRpzQorw35S
bEUAVx8dYXUdZOlJcHtiWQ+dC6V8ljxAHj/PLyzTveyI5QO/xkObCyjIL303l2cf
UhPu2MFaJdjVzqACXuOrLot/eSFvxjvqVidTtAZExqFRJ9mylUVAoLvhowVWmC1O
n95fZCXxTUtxNEG1Xcc7m0rtzJKs45J+N/V9DP1edYH6USyPSWGp6wuA+KgHRnKK
Vf9GRx80JQY7nVNkL17eHoTWEwga+lwi0FEoW9Y7lDtWXYmKBWhUE+U8PGxlJf8f
40493HDw1WRQ/aSLoS4QTp3rn7gYgeHEvfJdkkf0UMhlknlo53M09EFPdadQ4TlU
bjqKc50CgYEA4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH/5IB3jw3bcxGn6QLvnE
tfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw/Py5PJdTJNPY8cQn7ouZ2KKDcmnPG
BY5t7yLc1QlQ5xHdwW1VhvKn+nXqhJTBgIPgtldC+KDV5z+y2XDwGUcCgYEAuQPE
fgmVtjL0Uyyx88GZFF1fOunH3+7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYs
p1ZSe7zFYHj7C6ul7TjeLQeZD/YwD66t62wDmpe/HlB+TnBA+njbglfIsRLtXlnD
zQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdcCgYAHAp9XcCSrn8wVkMVkKdb7
DOX4IKjzdahm+ctDAJN4O/y7OW5FKebvUjdAIt2GuoTZ71iTG+7F0F+lP88jtjP4
U4qe7VHoewl4MKOfXZKTe+YCS1XbNvfgwJ3Ltyl1OH9hWvu2yza7q+d5PCsDzqtm
27kxuvULVeya+TEdAB1ijQKBgQCH/3r6YrVH/uCWGy6bzV1nGNOdjKc9tmkfOJmN
54dxdixdpozCQ6U4OxZrsj3FcOhHBsqAHvX2uuYjagqvo3cOj1TRqNocX40omfCC
Mx3bD1yPPf/6TI2XECva/ggqEY2mYzmIiA5LVVmc5nrybr+lssFKneeyxN2Wq93S
0iJMdQKBgCGHewxzoa1r8ZMD0LETNrToK423K377UCYqXfg5XMclbrjPbEC3YI1Z
NqMtuhdBJqUnBi6tjKMF+34Xf0CUN8ncuXGO2CAYvO8PdyCixHX52ybaDjy1FtCE
6yUXjoKNXKvUm7MWGsAYH6f4IegOetN5NvmUMFStCSkh7ixZLkN1
-----END RSA PRIVATE KEY-----
";

    /// The key of RFC 8037 §A.1, as PKCS#8.
    const ED: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

    /// A P-384 key as openssl writes it.
    const P384: &str = "-----BEGIN EC PARAMETERS-----
BgUrgQQAIg==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDAnyp2zMs7afW5FHlKg6YFvmu3VhBe6xkbWayD9oV0XXFnY4WsembOi
ryqWw0ZRpgugBwYFK4EEACKhZANiAARfUTMPts2KP2VNAULPyDtzS/QCwlR74R4s
OIPIX3zp6UraiSMyUm3poeQ7BnUcB16G+eZ34SOgon+3NzbnYY5j7V9gcvVzIWUQ
HIoqsjo8ofRg0qqh7QlEZg2zKYnumwg=
-----END EC PRIVATE KEY-----
";

    fn public(key: &SigningKey) -> Vec<u8> {
        match &key.0 {
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// Header and claims of a JWS, once its signature is verified.
    pub(in crate::oauth) fn opened(
        jws: &str,
        verification: &'static dyn VerificationAlgorithm,
        public: &[u8],
    ) -> [Value; 2] {
        let (input, signature) = jws.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(verification, public).verify(input.as_bytes(), &signature).unwrap();
        let (header, claims) = input.split_once('.').unwrap();
        [header, claims].map(|part| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
    }

    /// As [`opened`], for a P-256 key that is known by its JWK.
    pub(in crate::oauth) fn opened_with_jwk(jws: &str, jwk: &Value) -> [Value; 2] {
        let member = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        opened(jws, &ECDSA_P256_SHA256_FIXED, &[vec![4], member("x"), member("y")].concat())
    }

    #[test]
    fn signature_is_verified_by_the_public_key() {
        let cases: [(&str, &str, &'static dyn VerificationAlgorithm); 6] = [
            (EC, "ES256", &ECDSA_P256_SHA256_FIXED),
            (P384, "ES384", &ECDSA_P384_SHA384_FIXED),
            (ED, "EdDSA", &ED25519),
            (ED, "Ed25519", &ED25519),
            (RSA, "RS256", &RSA_PKCS1_2048_8192_SHA256),
            (RSA, "PS256", &RSA_PSS_2048_8192_SHA256),
        ];
        for (pem, algorithm, verification) in cases {
            let key = SigningKey::from_pem(pem).unwrap();
            assert!(key.algorithms().contains(&algorithm), "{key:?}");
            let jws = key.sign(json!({ "typ": "x", "alg": "none" }), algorithm, &json!({ "a": "ü" })).unwrap();
            let [header, claims] = opened(&jws, verification, &public(&key));
            assert_eq!(header, json!({ "typ": "x", "alg": algorithm }));
            assert_eq!(claims, json!({ "a": "ü" }));
        }
    }

    #[test]
    fn signatures_are_those_of_the_standards() {
        // RFC 7515 §A.2, whose claims have line breaks.
        let input = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = SigningKey::from_pem(RSA).unwrap().signature("RS256", input.as_bytes()).unwrap();
        assert_eq!(
            base64url(signature),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
        // RFC 8037 §A.4, whose payload is no JSON.
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = SigningKey::from_pem(ED).unwrap().signature("EdDSA", input.as_bytes()).unwrap();
        assert_eq!(
            base64url(signature),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn public_key_is_the_one_of_the_standard() {
        // RFC 7515 §A.3.1.
        let jwk = SigningKey::from_pem(EC).unwrap().public_jwk().unwrap();
        assert_eq!(jwk["x"], "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        assert_eq!(jwk["y"], "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        assert_eq!((&jwk["kty"], &jwk["crv"]), (&json!("EC"), &json!("P-256")));
    }

    #[test]
    fn new_key_can_be_kept_and_read() {
        let (key, pkcs8) = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pkcs8(pkcs8.expose()).unwrap().public_jwk(), key.public_jwk());
        assert_ne!(SigningKey::generate().unwrap().0.public_jwk(), key.public_jwk());
    }

    #[test]
    fn unusable_key_says_what_to_do() {
        let refused = |pem: &str| format!("{:#}", SigningKey::from_pem(pem).unwrap_err());
        let without_public_key = "-----BEGIN EC PRIVATE KEY-----
MDECAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49
AwEH
-----END EC PRIVATE KEY-----";
        assert!(refused(without_public_key).contains("openssl ec -in OLD -out NEW.pem"));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----";
        assert!(refused(encrypted).contains("openssl pkey -in OLD -out NEW.pem"));
        assert!(refused("").contains("no private key"));
        let secp256k1 = "-----BEGIN PRIVATE KEY-----
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgnA1T+OD8WP1r8oeDuyaO
71kv+72LXo3eCp8/HeVkUSShRANCAASO/J9eEWHM4XQksF6VLympj5HvroFhIM/c
zlcr0CPbDNIKueYGs0RU8w3/eYYI9YL3hmzDEkrJt1gNvgka24rG
-----END PRIVATE KEY-----";
        assert!(refused(secp256k1).contains("P-256, P-384, Ed25519 or RSA"));
        let small = "-----BEGIN PRIVATE KEY-----
MIICdQIBADANBgkqhkiG9w0BAQEFAASCAl8wggJbAgEAAoGBAMDUwMl1Bqrxm6D3
S4E371ROBXjFCuptQ+HGnyI3JV2ro8RaLxUmZjp4iL0VITHXhyPDx+QFw2Onm9io
HfGkhr1XtrmLuzGjGF6XO6IyJXUStXRHQc07ZaqX9uJo2+Dg2wgG/JIUe2KhghDZ
9hozOnhFp4ha0iQ04DoI+H/rhi9fAgMBAAECgYAvpeKlZRdqshzkn3a2zV2EFWtg
tj/GQY2egnfb+ohvJvRmlmo/7achF5uiLVBwgnNQMRZ5j7sCKu5lkNUlWqQ4Qzb8
ms9Y2YO90+2b/sWACnn0mZxEIwzMt+Sp/9ayL8nx0ofg1kkkBa6PaUD9dI0RO0D4
Ci2irXZdCn1ABrdzUQJBAOqkmNBPO2a3qVbe7GwTcFbRl18KHOTfXTeXkoH3WohX
LpmqjjhJo69/4jBHaLLbxGhsxLLUd4W1+7nrs3gBFhUCQQDSYeZGsZ5kJGTS6gml
i3oQTn0lqqakefm1NaSgaH4F3faBv9x+rDE5/YyJHGRVHC9CRe+mARNblfQPNh0K
6KCjAkBS8fJvGMMX0W7UHaOXpNt+ZULMPuft5COwpi0NMmJXdfIsMgVqUmXBgUR0
6plROKzaeTCjQsYphyZAF9juX/vtAkAB+jmX4IOEnXL1KI3+qFj1Xkd+2yPF1/+o
3GA3wcOtenCet5by+dtcmC2B/GpVAnbPQKkH/mqYKcipe/C58YXRAkBCaEbmkjuq
BZpuwXL6nEP9o8HVfloZghB1DlIfllPUupkDhee1lgKJUQfQuqWqc4AOLoyla+FM
aj8UgXnJTqFZ
-----END PRIVATE KEY-----";
        assert!(refused(small).contains("2048"));
    }

    #[test]
    fn algorithm_of_another_key_is_refused() {
        let key = SigningKey::from_pem(EC).unwrap();
        for algorithm in ["RS256", "none", "HS256", "ES384"] {
            assert!(key.sign(json!({}), algorithm, &json!({})).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn key_is_not_shown() {
        assert_eq!(format!("{:?}", SigningKey::from_pem(RSA).unwrap()), "SigningKey(RS256, PS256)");
    }
}
