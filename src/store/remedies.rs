//! What a server's authorization server was found to need ([`Remedy`]), so that it is not found out
//! again by failing.
//!
//! Must never: be used for another issuer than the one it was found with.

use serde::{Deserialize, Serialize};

use super::Store;
use crate::oauth::{provider::Remedy, registration::same_issuer};

/// Name of the record.
const REMEDIES: &str = "remedies.json";

/// What has helped, and with whom.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedies {
    issuer: String,
    remedies: Vec<Remedy>,
}

impl Remedies {
    /// What is known to help with this issuer.
    #[must_use]
    pub fn load(store: &Store, issuer: &str) -> Vec<Remedy> {
        let kept: Option<Self> = store.parse(REMEDIES, |content| serde_json::from_slice(content).ok());
        kept.filter(|kept| same_issuer(&kept.issuer, issuer)).map(|kept| kept.remedies).unwrap_or_default()
    }

    /// Keeps what helps with this issuer, in place of all that was known.
    pub fn save(store: &Store, issuer: &str, remedies: &[Remedy]) {
        if Self::load(store, issuer) == remedies {
            return;
        }
        let kept = Self { issuer: issuer.to_owned(), remedies: remedies.to_vec() };
        let written =
            serde_json::to_vec_pretty(&kept).map_err(Into::into).and_then(|text| store.write(REMEDIES, &text));
        if let Err(error) = written {
            // Found out again at the next start.
            crate::report::warn("store_not_writable", format!("the remedy is not kept: {error:#}"));
        }
    }

    /// It does not help any more.
    pub fn forget(store: &Store) {
        store.remove(REMEDIES);
    }
}
