//! Proof of possession of the key that tokens are bound to (DPoP, RFC 9449).
//!
//! # Invariants
//!
//! - The key does not leave its file and this process.
//! - A file that has a key gets no second one.
//! - A nonce of one origin is not sent to another.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Seek, Write},
    path::Path,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Url;
use serde_json::{Value, json};

use super::jws::{SigningKey, numeric_date, random_id, sha256};
use crate::{sync::LockExt, text::cannot_read};

/// The header of a server's nonce (RFC 9449 §8.1).
const NONCE: &str = "dpop-nonce";

/// The key, and the latest nonce of each origin.
#[derive(Debug)]
pub(crate) struct Prover {
    key: SigningKey,
    jwk: Value,
    nonces: Mutex<HashMap<String, String>>,
}

impl Prover {
    /// What proofs are signed with, the algorithm that servers know best (RFC 7518 §3.1 recommends it).
    pub(crate) const ALGORITHM: &str = "ES256";

    /// Takes the key from `file` (PKCS#8, DER), or makes one there, readable by its owner only. All
    /// processes that do so at once end with the same key.
    ///
    /// # Errors
    /// Where the file can be neither read nor made.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let place = || format!("cannot create the DPoP key {}", file.display());
        let der = match fs::read(file) {
            Ok(der) => der,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            // Another one would make every token void that is bound to this one.
            Err(error) => bail!(cannot_read(file, None, &error)),
        };
        let (key, jwk) = match usable(&der) {
            Some(known) => known,
            None => make(file).with_context(place)?,
        };
        restrict(file);
        Ok(Self { key, jwk, nonces: Mutex::default() })
    }

    /// A proof for one request (RFC 9449 §4.2), to go into its `DPoP` header. With an access token it
    /// is bound to that one too (§7).
    ///
    /// # Errors
    /// Where there are no random numbers, or the clock is before 1970.
    pub(crate) fn proof(
        &self,
        method: &Method,
        url: &Url,
        access_token: Option<&str>,
        now: SystemTime,
    ) -> anyhow::Result<HeaderValue> {
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        // User info is not part of the target either (RFC 9110 §4.2.4).
        _ = target.set_username("");
        _ = target.set_password(None);
        let mut claims = json!({
            "jti": random_id()?,
            "htm": method.as_str(),
            "htu": target.as_str(),
            "iat": numeric_date(now)?,
        });
        if let Some(nonce) = self.nonces().get(&origin(url)) {
            claims["nonce"] = nonce.as_str().into();
        }
        if let Some(access_token) = access_token {
            claims["ath"] = sha256(access_token.as_bytes()).into();
        }
        let proof = self.key.sign(json!({ "typ": "dpop+jwt", "jwk": self.jwk }), Self::ALGORITHM, &claims)?;
        let mut header = HeaderValue::try_from(proof)?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// Keeps the nonce that a response from `url` carries, whatever its status (RFC 9449 §8.2). True
    /// if it is another than before, so that a refused request may go out again.
    pub(crate) fn keep_nonce(&self, url: &Url, headers: &HeaderMap) -> bool {
        let nonce = headers.get(NONCE).and_then(|nonce| nonce.to_str().ok()).filter(|nonce| !nonce.is_empty());
        let Some(nonce) = nonce else { return false };
        self.nonces().insert(origin(url), nonce.to_owned()).as_deref() != Some(nonce)
    }

    fn nonces(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.nonces.guard()
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The key and its public half, if it is one that proofs can be signed with.
fn usable(der: &[u8]) -> Option<(SigningKey, Value)> {
    let key = SigningKey::from_pkcs8(der).ok()?;
    let jwk = key.public_jwk()?;
    Some((key, jwk))
}

/// Makes the file one for its owner only, if it is not.
fn restrict(file: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(file).is_ok_and(|there| there.permissions().mode() & 0o077 != 0)
            && let Err(error) = fs::set_permissions(file, fs::Permissions::from_mode(0o600))
        {
            log::warn!("other users of this computer may be able to read {}: {error}", file.display());
        }
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// Written in place under the file's lock: who meets half a key finds it unusable, and waits here.
fn make(file: &Path) -> anyhow::Result<(SigningKey, Value)> {
    let mut folders = fs::DirBuilder::new();
    folders.recursive(true);
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folders.mode(0o700);
        options.mode(0o600);
    }
    if let Some(folder) = file.parent() {
        folders.create(folder)?;
    }
    let mut opened = options.open(file)?;
    opened.lock()?; // until it is closed
    let mut there = Vec::new();
    opened.read_to_end(&mut there)?;
    if let Some(known) = usable(&there) {
        return Ok(known);
    }
    if !there.is_empty() {
        log::warn!(
            "{} contains no valid DPoP key; creating a new key, which ends all sign-ins that use the old one",
            file.display()
        );
    }
    let (_, pkcs8) = SigningKey::generate()?;
    opened.set_len(0)?;
    opened.rewind()?;
    opened.write_all(pkcs8.expose())?;
    opened.sync_all()?;
    usable(pkcs8.expose()).context("a new key is not usable")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Barrier,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{super::jws::tests::opened_with_jwk, *};

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn prover() -> (Prover, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Prover::load(&folder.path().join("key")).unwrap(), folder)
    }

    /// Header and claims of a proof, verified with the key it names itself.
    fn proof(prover: &Prover, to: &str, access_token: Option<&str>) -> [Value; 2] {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let proof = prover.proof(&Method::POST, &url(to), access_token, now).unwrap();
        assert!(proof.is_sensitive());
        let proof = proof.to_str().unwrap();
        opened_with_jwk(proof, &prover.jwk)
    }

    fn nonce(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("dpop-nonce"), HeaderValue::from_static(value))])
    }

    #[test]
    fn proof_is_for_one_request() {
        let (prover, _folder) = prover();
        let [header, mut claims] = proof(&prover, "HTTPS://me:pw@As.Example:443/token?code=x#y", None);
        assert_eq!(header["typ"], "dpop+jwt");
        assert_eq!(header["alg"], "ES256");
        assert_eq!(header["jwk"], prover.jwk);
        assert_eq!(header["jwk"].as_object().unwrap().len(), 4, "the public members and no other");
        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert!(id.as_str().unwrap().len() >= 16, "{id}");
        assert_eq!(claims, json!({ "htm": "POST", "htu": "https://as.example/token", "iat": 1_700_000_000 }));
        assert_ne!(proof(&prover, "https://as.example/token", None)[1]["jti"], id);
    }

    #[test]
    fn proof_is_bound_to_its_token() {
        let (prover, _folder) = prover();
        // RFC 9449 §7.1.
        let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
        let [_, claims] = proof(&prover, "https://rs.example/mcp", Some(token));
        assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    }

    #[test]
    fn each_origin_gets_its_own_latest_nonce() {
        let (prover, _folder) = prover();
        assert!(prover.keep_nonce(&url("https://as.example/token"), &nonce("one")));
        assert!(!prover.keep_nonce(&url("https://as.example/other"), &nonce("one")));
        assert!(prover.keep_nonce(&url("https://as.example/token"), &nonce("two")));
        assert!(prover.keep_nonce(&url("https://as.example:8443/token"), &nonce("three")));
        assert!(!prover.keep_nonce(&url("https://as.example/token"), &HeaderMap::new()));
        assert!(!prover.keep_nonce(&url("https://as.example/token"), &nonce("")));
        let sent = |to| proof(&prover, to, None)[1].get("nonce").cloned();
        assert_eq!(sent("https://as.example/revoke"), Some(json!("two")));
        assert_eq!(sent("https://as.example:8443/token"), Some(json!("three")));
        assert_eq!(sent("http://as.example/token"), None);
        assert_eq!(sent("https://rs.example/mcp"), None);
    }

    #[test]
    fn processes_started_together_share_one_key() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a/b/key");
            let barrier = Barrier::new(8);
            let mut keys: Vec<String> = std::thread::scope(|scope| {
                let load = || {
                    barrier.wait();
                    Prover::load(&file).unwrap().jwk.to_string()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            keys.push(Prover::load(&file).unwrap().jwk.to_string());
            keys.dedup();
            assert_eq!(keys.len(), 1);
        }
    }

    #[cfg(unix)]
    #[test]
    fn key_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store/key");
        Prover::load(&file).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        Prover::load(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn damaged_key_file_gets_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let whole = SigningKey::generate().unwrap().1;
        for left in [&[][..], &whole.expose()[..100], &[0; 400]] {
            fs::write(&file, left).unwrap();
            let made = Prover::load(&file).unwrap().jwk.to_string();
            assert_eq!(Prover::load(&file).unwrap().jwk.to_string(), made);
        }
    }

    #[test]
    fn unwritable_key_is_an_error_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Prover::load(folder.path()).unwrap_err());
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn prover_does_not_show_its_key() {
        let (prover, _folder) = prover();
        assert!(format!("{prover:?}").starts_with("Prover { key: SigningKey(ES256), jwk: "));
    }
}
