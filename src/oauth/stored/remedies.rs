//! What the authorization server of a server was found to need ([`Remedy`]), so that it is not found out
//! again by failing.
//!
//! # Invariants
//!
//! - A remedy is not used for another issuer than the one that it was found with.

use serde::{Deserialize, Serialize};

use crate::{
    oauth::protocol::{client_auth::AuthMethod, issuer::same_issuer, scope::OFFLINE_ACCESS},
    report::{self, Code},
    store::Store,
};

/// Name of the record.
const REMEDIES: &str = "remedies.json";

/// One thing that is done otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Remedy {
    /// No `resource` (RFC 8707) in any request.
    OmitResource,
    /// The resource is also named as `audience` where the person signs in.
    NameAudience,
    /// The scope `offline_access` (OpenID Connect Core §11) is not asked for.
    OmitOfflineAccess,
    /// The scope `openid` is asked for where no other is.
    AskOpenid,
    /// `access_type=offline` asks for a refresh token.
    AccessTypeOffline,
    /// `prompt=consent` asks the person again.
    PromptConsent,
    /// No `prompt=consent`, although `offline_access` is asked for.
    OmitPrompt,
    /// A refresh names the scopes that were granted, which may be left out (RFC 6749 §6).
    NameScopes,
}

/// What has helped, and with whom.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remedies {
    issuer: String,
    remedies: Vec<Remedy>,
    /// What was asked for with them: without a resource indicator, scopes alone say what a token is for.
    #[serde(default)]
    scopes: Vec<String>,
    /// How clients with a secret authenticate, where it is not as they are registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_authentication: Option<AuthMethod>,
}

impl Remedies {
    /// What is known to help with this issuer, where these scopes are asked for.
    pub(crate) fn load(store: &Store, issuer: &str, scopes: &[String]) -> Vec<Remedy> {
        let Some(mut kept) = Self::of(store, issuer) else { return Vec::new() };
        if !scopes.iter().all(|scope| scope == OFFLINE_ACCESS || kept.scopes.contains(scope)) {
            kept.remedies.retain(|remedy| *remedy != Remedy::OmitResource); // perhaps another application's
        }
        kept.remedies
    }

    /// Returns how clients with a secret are known to authenticate there.
    pub(crate) fn client_authentication(store: &Store, issuer: &str) -> Option<AuthMethod> {
        Self::of(store, issuer)?.client_authentication
    }

    /// Keeps what helps with this issuer, in place of all that was known.
    pub(crate) fn save(store: &Store, issuer: &str, remedies: &[Remedy], scopes: &[String]) {
        if Self::load(store, issuer, scopes) == remedies {
            return;
        }
        let kept = Self {
            remedies: remedies.to_vec(),
            scopes: scopes.to_vec(),
            ..Self::of(store, issuer).unwrap_or_else(|| Self::none(issuer))
        };
        kept.write(store);
    }

    /// Keeps how clients with a secret authenticate there.
    pub(crate) fn save_client_authentication(store: &Store, issuer: &str, method: AuthMethod) {
        let kept = Self {
            client_authentication: Some(method),
            ..Self::of(store, issuer).unwrap_or_else(|| Self::none(issuer))
        };
        kept.write(store);
    }

    fn of(store: &Store, issuer: &str) -> Option<Self> {
        let kept: Option<Self> = store.parse(REMEDIES, |content| serde_json::from_slice(content).ok());
        kept.filter(|kept| same_issuer(&kept.issuer, issuer))
    }

    fn none(issuer: &str) -> Self {
        Self { issuer: issuer.to_owned(), remedies: Vec::new(), scopes: Vec::new(), client_authentication: None }
    }

    fn write(&self, store: &Store) {
        let written = serde_json::to_vec_pretty(self).map_err(Into::into).and_then(|text| store.write(REMEDIES, &text));
        if let Err(error) = written {
            // Found out again at the next start.
            report::warn(
                Code::StoreNotWritable,
                format!("a workaround for the authorization server is not stored: {error:#}"),
            );
        }
    }

    /// It no longer helps.
    pub(crate) fn forget(store: &Store) {
        store.remove(REMEDIES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_for_their_issuer_and_scopes() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        let scopes = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<String>>();
        let both = [Remedy::OmitResource, Remedy::OmitOfflineAccess];
        Remedies::save(&store, "https://as", &both, &scopes("a b"));
        let kept = std::fs::read_to_string(store.path(REMEDIES)).unwrap();
        let expected = serde_json::json!({
            "issuer": "https://as", "remedies": ["omit_resource", "omit_offline_access"], "scopes": ["a", "b"]
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&kept).unwrap(), expected);
        for (issuer, asked, found) in [
            ("https://as/", "a", &both[..]),
            ("https://as", "a offline_access", &both),
            ("https://as", "a c", &both[1..]),
            ("https://other", "a", &[]),
        ] {
            assert_eq!(Remedies::load(&store, issuer, &scopes(asked)), found, "{issuer} {asked}");
        }
        Remedies::save_client_authentication(&store, "https://as/", AuthMethod::BasicUnencoded);
        Remedies::save(&store, "https://as", &both[..1], &scopes("a"));
        assert_eq!(Remedies::client_authentication(&store, "https://as"), Some(AuthMethod::BasicUnencoded));
        assert_eq!(Remedies::client_authentication(&store, "https://other"), None);
        let kept = std::fs::read_to_string(store.path(REMEDIES)).unwrap();
        assert!(kept.contains(r#""client_authentication": "client_secret_basic_unencoded""#), "{kept}");
        Remedies::forget(&store);
        assert!(Remedies::load(&store, "https://as", &scopes("a")).is_empty());
    }
}
