//! How stored tokens were obtained: by which client, from which issuer, for what. A file beside each file of tokens,
//! because the npm package's format has no place for it.
//!
//! # Invariants
//!
//! - The file holds no secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{
    oauth::stored::tokens::{TokenFile, Tokens},
    store::Store,
};

/// Failed refreshes of one token after which it counts as dead, if they are spread over [`DEAD_AFTER`].
const MOST_FAILED_REFRESHES: u32 = 3;
/// How long an authorization server must have failed before its refresh token counts as dead: a restart of a server
/// takes less.
const DEAD_AFTER: Duration = Duration::from_secs(2 * 60);

/// Where tokens come from. They are used and refreshed by the same only (MCP 2026-07-28,
/// Authorization, Client Registration: credentials are bound to their issuer).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Provenance {
    /// Address of the MCP server, for people.
    pub(crate) server: String,
    /// Name of the grant, for people.
    pub(crate) grant: String,
    /// The client ID.
    pub(crate) client_id: String,
    /// Who issued them.
    pub(crate) issuer: Option<String>,
    /// What they are for (RFC 8707).
    pub(crate) resource: Option<String>,
    /// What was asked for.
    pub(crate) requested_scopes: Vec<String>,
    /// Where the server's metadata were found, if not at a well-known place.
    pub(crate) resource_metadata: Option<String>,
    /// A name for the sign-in that they all come from: by it, one account is told from the next. It stays
    /// through refreshes.
    pub(crate) sign_in: String,
    /// Their refresh token was refused: that there is none now is not the server's habit.
    pub(crate) over: bool,
    /// The failures since their refresh last succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failing: Option<FailingRefresh>,
    /// Which access token this is said of ([`Tokens::digest`]): npm writes tokens and knows nothing of
    /// this file.
    pub(crate) token: String,
}

/// Refreshes in a row that the authorization server has answered with a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailingRefresh {
    count: u32,
    /// When the first of them failed, in seconds since the epoch.
    since: u64,
}

impl Provenance {
    /// Of these tokens; `None` for tokens that npm has obtained or refreshed.
    pub(crate) fn load(store: &Store, file: TokenFile, tokens: &Tokens) -> Option<Self> {
        Self::any(store, file).filter(|from| from.token == tokens.digest())
    }

    /// Of whatever tokens were in the file last.
    pub(crate) fn any(store: &Store, file: TokenFile) -> Option<Self> {
        store.parse(&file.provenance_name(), |content| serde_json::from_slice(content).ok())
    }

    /// Notes that the authorization server has answered a refresh with a failure. Returns whether the refresh token
    /// counts as dead by now.
    pub(crate) fn note_failed_refresh(&mut self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let failing = self.failing.get_or_insert(FailingRefresh { count: 0, since: now });
        failing.count = failing.count.saturating_add(1);
        let elapsed = Duration::from_secs(now.saturating_sub(failing.since));
        failing.count >= MOST_FAILED_REFRESHES && elapsed >= DEAD_AFTER
    }

    /// Keeps it, as said of these tokens.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn save(&self, store: &Store, file: TokenFile, tokens: &Tokens) -> anyhow::Result<()> {
        let said = Self { token: tokens.digest(), ..self.clone() };
        store.write(&file.provenance_name(), &serde_json::to_vec_pretty(&said)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_token_is_dead_after_minutes_of_failures() {
        let mut from = Provenance::default();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        let dead = [0, 1, 2, 119, 120].map(|seconds| from.note_failed_refresh(at(seconds)));
        assert_eq!(dead, [false, false, false, false, true]);
        from.failing = None;
        assert!(!from.note_failed_refresh(at(200)), "a success starts anew");
        assert!(!from.note_failed_refresh(at(400)), "two failures are few, however long apart");
        assert!(from.note_failed_refresh(at(401)));
    }
}
