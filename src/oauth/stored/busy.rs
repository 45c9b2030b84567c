//! Until when an authorization server is too busy to register clients, so that a program that starts often does not use
//! its quota up (RFC 6585 §4).
//!
//! # Invariants
//!
//! - A date that cannot be meant is not believed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{oauth::protocol::issuer::same_issuer, report, report::Code, store::Store};

/// Name of the record.
const BUSY: &str = "registration_busy.json";
/// The longest that a server is left alone for: quotas are by the hour or by the day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The record.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Busy {
    issuer: String,
    /// Seconds since the epoch.
    until: u64,
}

impl Busy {
    /// Returns how long this issuer is still to be left alone.
    pub(crate) fn load(store: &Store, issuer: &str, now: SystemTime) -> Option<Duration> {
        let kept: Self = store.parse(BUSY, |content| serde_json::from_slice(content).ok())?;
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(kept.until))?;
        let left = until.duration_since(now).ok()?;
        (same_issuer(&kept.issuer, issuer) && !left.is_zero() && left <= LONGEST).then_some(left)
    }

    /// Keeps until when this issuer is to be left alone.
    pub(crate) fn save(store: &Store, issuer: &str, until: SystemTime) {
        let until = until.min(SystemTime::now() + LONGEST).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let kept = Self { issuer: issuer.to_owned(), until };
        let written = serde_json::to_vec_pretty(&kept).map_err(Into::into).and_then(|text| store.write(BUSY, &text));
        if let Err(error) = written {
            report::warn(
                Code::StoreNotWritable,
                format!("the time of the next client registration is not stored: {error:#}"),
            );
        }
    }

    /// A client was registered.
    pub(crate) fn forget(store: &Store) {
        store.remove(BUSY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_kept_for_the_issuer() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        let now = SystemTime::now();
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Busy::save(&store, "https://as", now + minutes(30));
        let left = Busy::load(&store, "https://as/", now).unwrap();
        assert!(left > minutes(29) && left <= minutes(30), "{left:?}");
        assert_eq!(Busy::load(&store, "https://other", now), None);
        assert_eq!(Busy::load(&store, "https://as", now + minutes(31)), None);
        assert_eq!(Busy::load(&store, "https://as", now - minutes(24 * 60)), None, "the clock was set back");
        Busy::forget(&store);
        assert_eq!(Busy::load(&store, "https://as", now), None);
    }
}
