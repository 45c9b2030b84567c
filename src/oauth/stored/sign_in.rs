//! A sign-in under way, on disk: one file per `state`, so that whichever instance holds the callback
//! port can finish the tab that is open, one that was started again too.
//!
//! # Invariants
//!
//! - A file does not outlive its sign-in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::remedies::Remedy;
use crate::{oauth::protocol::authorization_code::PendingAuthorization, store::Store};

/// How long a sign-in can be finished. People are called away; authorization servers end their own
/// pages earlier.
pub(crate) const LIFE: Duration = Duration::from_secs(60 * 60);
/// What the files' names begin with.
const PREFIX: &str = "sign_in_";

/// Everything that finishing takes.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SignIn {
    /// Verifier, `state`, issuer and requested scopes.
    pub(crate) authorization: PendingAuthorization,
    /// The client ID.
    pub(crate) client_id: String,
    /// What the token is to be for.
    pub(crate) resource: Option<String>,
    /// What is done otherwise for this authorization server.
    #[serde(default)]
    pub(crate) remedies: Vec<Remedy>,
    /// Where the browser comes back to.
    pub(crate) redirect_uri: String,
    /// Its port.
    pub(crate) port: u16,
    /// What the browser was given; `None` until then.
    pub(crate) authorization_url: Option<String>,
    /// Seconds since the epoch.
    pub(crate) deadline: u64,
}

impl SignIn {
    /// The `state`.
    pub(crate) fn state(&self) -> &str {
        &self.authorization.state
    }

    /// Seconds since the epoch, [`LIFE`] from now.
    pub(crate) fn deadline_from(now: SystemTime) -> u64 {
        (seconds(now) + LIFE).as_secs()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn save(&self, store: &Store) -> anyhow::Result<()> {
        store.write(&file(self.state()), &serde_json::to_vec(self)?)
    }

    /// Returns the URL of the latest sign-in that has one, for a process that waits for another instance.
    pub(crate) fn pending_url(store: &Store, now: SystemTime) -> Option<String> {
        Self::all(store, now).into_iter().find_map(|sign_in| sign_in.authorization_url)
    }

    /// It is over.
    pub(crate) fn forget(store: &Store, state: &str) {
        store.remove(&file(state));
    }

    /// Those under way, the latest first; what is past its time is removed.
    pub(crate) fn all(store: &Store, now: SystemTime) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for name in store.names(PREFIX).into_iter().filter(|name| name.ends_with(".json")) {
            match store.parse(&name, |content| serde_json::from_slice::<Self>(content).ok()) {
                Some(sign_in) if is_ahead(sign_in.deadline, now) => found.push(sign_in),
                _ => store.remove(&name),
            }
        }
        found.sort_by_key(|sign_in| std::cmp::Reverse(sign_in.deadline));
        found
    }
}

/// Whether a deadline is ahead, and no farther than any that this program sets.
fn is_ahead(deadline: u64, now: SystemTime) -> bool {
    let left = Duration::from_secs(deadline).checked_sub(seconds(now));
    left.is_some_and(|left| !left.is_zero() && left <= LIFE)
}

/// Returns the file's name. `state` is 22 characters of base64url; other characters are left out.
fn file(state: &str) -> String {
    let safe: String = state.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    format!("{PREFIX}{safe}.json")
}

fn seconds(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1.0 wrote it, with rmcp's structure inside.
    const FILE: &str = concat!(
        r#"{"authorization":{"pkce_verifier":"v","csrf_token":"s-1","expected_issuer":"https://as.example","#,
        r#""require_issuer":true,"created_at":1700000000,"requested_scopes":["a","b"]},"client_id":"c","#,
        r#""resource":"https://mcp.example/mcp","remedies":["omit_prompt","name_scopes"],"#,
        r#""redirect_uri":"http://localhost:3335/oauth/callback","port":3335,"#,
        r#""authorization_url":"https://as.example/authorize?state=s-1","deadline":3600}"#,
    );

    fn store() -> (Store, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        (Store::new(home.path().to_owned(), "0".repeat(32)), home)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sign_in() -> SignIn {
        SignIn {
            authorization: PendingAuthorization {
                pkce_verifier: "v".to_owned(),
                state: "s-1".to_owned(),
                expected_issuer: Some("https://as.example".to_owned()),
                require_issuer: true,
                created_at: 1_700_000_000,
                requested_scopes: vec!["a".to_owned(), "b".to_owned()],
            },
            client_id: "c".to_owned(),
            resource: Some("https://mcp.example/mcp".to_owned()),
            remedies: vec![Remedy::OmitPrompt, Remedy::NameScopes],
            redirect_uri: "http://localhost:3335/oauth/callback".to_owned(),
            port: 3335,
            authorization_url: Some("https://as.example/authorize?state=s-1".to_owned()),
            deadline: 3600,
        }
    }

    #[test]
    fn file_keeps_its_bytes() {
        let (store, _home) = store();
        sign_in().save(&store).unwrap();
        assert_eq!(std::fs::read_to_string(store.path("sign_in_s-1.json")).unwrap(), FILE);
        let [read] = &SignIn::all(&store, at(1))[..] else { panic!("one sign-in") };
        assert_eq!(serde_json::to_string(read).unwrap(), FILE);
    }

    #[test]
    fn file_without_later_members_is_read() {
        let old = r#"{"authorization":{"pkce_verifier":"v","csrf_token":"s","created_at":1},"client_id":"c","resource":null,"redirect_uri":"http://localhost:1/","port":1,"authorization_url":null,"deadline":9}"#;
        let (store, _home) = store();
        store.write("sign_in_s.json", old.as_bytes()).unwrap();
        let [read] = &SignIn::all(&store, at(1))[..] else { panic!("one sign-in") };
        assert_eq!((read.state(), read.remedies.len()), ("s", 0));
        assert_eq!((read.authorization.expected_issuer.as_ref(), read.authorization.require_issuer), (None, false));
        assert_eq!(SignIn::pending_url(&store, at(1)), None);
    }

    #[test]
    fn sign_in_lasts_until_its_deadline() {
        let (store, _home) = store();
        let kept = |now: u64| {
            sign_in().save(&store).unwrap();
            SignIn::all(&store, at(now)).len()
        };
        assert_eq!((kept(0), kept(3599), kept(3600)), (1, 1, 0));
        assert!(!store.path("sign_in_s-1.json").exists());
        let ahead = SignIn { deadline: 3601, ..sign_in() };
        ahead.save(&store).unwrap();
        assert!(SignIn::all(&store, at(0)).is_empty(), "farther away than any that is ours");
        assert_eq!(SignIn::deadline_from(at(1)), 3601);
    }
}
