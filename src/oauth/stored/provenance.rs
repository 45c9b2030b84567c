//! How stored tokens were obtained: by which client, from which issuer, for what. A file beside each file of tokens,
//! because the npm package's format has no place for it.
//!
//! # Invariants
//!
//! - The file holds no secret.

use serde::{Deserialize, Serialize};

use crate::{
    oauth::stored::tokens::{TokenFile, Tokens},
    store::Store,
};

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
    /// Their refresh token was refused: that there is none any more is not the server's habit.
    pub(crate) over: bool,
    /// Which access token this is said of ([`Tokens::digest`]): npm writes tokens and knows nothing of
    /// this file.
    pub(crate) token: String,
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

    /// Keeps it, as said of these tokens.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn save(&self, store: &Store, file: TokenFile, tokens: &Tokens) -> anyhow::Result<()> {
        let said = Self { token: tokens.digest(), ..self.clone() };
        store.write(&file.provenance_name(), &serde_json::to_vec_pretty(&said)?)
    }
}
