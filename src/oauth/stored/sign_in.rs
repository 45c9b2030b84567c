//! A sign-in under way, on disk: one file per `state`, so that whichever copy holds the redirect's
//! port can finish the tab that is open, one that was started again too. And how often a tab was
//! opened in vain.
//!
//! Must never: outlive its sign-in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rmcp::transport::auth::StoredAuthorizationState;
use serde::{Deserialize, Serialize};

use crate::{oauth::providers::Remedy, store::Store};

/// How long a sign-in can be finished. People are called away; authorization servers end their own
/// pages earlier.
pub const LIFE: Duration = Duration::from_secs(60 * 60);
/// How long the tab of a sign-in is taken to be open still: a copy that is started again opens no
/// second one before that.
const TAB_LIFE: Duration = Duration::from_secs(10 * 60);
/// What the files' names begin with.
const PREFIX: &str = "sign_in_";
/// Name of the record of tabs.
const TABS: &str = "tabs.json";
/// Pause after the first tab that led nowhere; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between tabs.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Times a person who says no is asked again at once: it may have been a slip.
const MOST_SECOND_THOUGHTS: u32 = 2;
/// After this long without a tab the count begins anew.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// Everything that finishing takes.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignIn {
    /// Verifier, `state`, issuer and requested scopes.
    pub authorization: StoredAuthorizationState,
    /// Who we are.
    pub client_id: String,
    /// What the token is to be for.
    pub resource: Option<String>,
    /// What is done otherwise for this authorization server.
    #[serde(default)]
    pub remedies: Vec<Remedy>,
    /// Where the browser comes back to.
    pub redirect_uri: String,
    /// Its port.
    pub port: u16,
    /// What the browser was given; `None` until then.
    pub authorization_url: Option<String>,
    /// Seconds since the epoch.
    pub deadline: u64,
}

impl SignIn {
    /// The `state`.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.authorization.csrf_token
    }

    /// Seconds since the epoch, [`LIFE`] from now.
    #[must_use]
    pub fn deadline_from(now: SystemTime) -> u64 {
        (seconds(now) + LIFE).as_secs()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, store: &Store) -> anyhow::Result<()> {
        store.write(&file(self.state()), &serde_json::to_vec(self)?)
    }

    /// The one with this `state`.
    #[must_use]
    pub fn load(store: &Store, state: &str) -> Option<Self> {
        store.parse(&file(state), |content| serde_json::from_slice(content).ok())
    }

    /// It is over.
    pub fn forget(store: &Store, state: &str) {
        store.remove(&file(state));
    }

    /// Those under way, the latest first; what is past its time is removed.
    #[must_use]
    pub fn all(store: &Store, now: SystemTime) -> Vec<Self> {
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

/// Whether a deadline is to come, and no farther away than any that is ours.
fn is_ahead(deadline: u64, now: SystemTime) -> bool {
    let left = Duration::from_secs(deadline).checked_sub(seconds(now));
    left.is_some_and(|left| !left.is_zero() && left <= LIFE)
}

/// `state` is ours, 22 characters of base64url; a name made of anything else is none.
fn file(state: &str) -> String {
    let safe: String = state.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    format!("{PREFIX}{safe}.json")
}

fn seconds(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Tabs that were opened since the last sign-in that succeeded.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Tabs {
    opened: u32,
    /// The last one was answered: with a no.
    #[serde(default)]
    answered: bool,
    /// Seconds since the epoch.
    last: u64,
}

impl Tabs {
    /// How long no tab is to be opened from now; a host that starts a dying child again and again
    /// must not open ten.
    #[must_use]
    pub fn pause(store: &Store, now: SystemTime) -> Duration {
        let tabs = Self::load(store, now);
        if tabs.opened == 0 || tabs.answered && tabs.opened <= MOST_SECOND_THOUGHTS {
            return Duration::ZERO;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (tabs.opened - 1).min(10)).min(LONGEST_PAUSE);
        Duration::from_secs(tabs.last).saturating_add(pause).saturating_sub(seconds(now)).min(pause)
    }

    /// Whether the last one can be taken to be open still.
    #[must_use]
    pub fn is_open(store: &Store, now: SystemTime) -> bool {
        let tabs = Self::load(store, now);
        tabs.opened > 0 && seconds(now).saturating_sub(Duration::from_secs(tabs.last)) < TAB_LIFE
    }

    /// One was opened.
    pub fn count(store: &Store, now: SystemTime) {
        Self::save(
            store,
            Self {
                opened: Self::load(store, now).opened.saturating_add(1),
                answered: false,
                last: seconds(now).as_secs(),
            },
        );
    }

    fn save(store: &Store, tabs: Self) {
        if let Err(error) = serde_json::to_vec(&tabs).map_err(Into::into).and_then(|tabs| store.write(TABS, &tabs)) {
            log::debug!("{error:#}"); // a sign-in that is not kept is told where it matters
        }
    }

    /// The one that was counted last did not open after all.
    pub fn take_back(store: &Store, now: SystemTime) {
        let tabs = Self::load(store, now);
        Self::save(store, Self { opened: tabs.opened.saturating_sub(1), ..tabs });
    }

    /// Somebody was there, and said no.
    pub fn answered(store: &Store, now: SystemTime) {
        Self::save(store, Self { answered: true, ..Self::load(store, now) });
    }

    /// A sign-in succeeded.
    pub fn forget(store: &Store) {
        store.remove(TABS);
    }

    fn load(store: &Store, now: SystemTime) -> Self {
        let tabs: Self = store.parse(TABS, |content| serde_json::from_slice(content).ok()).unwrap_or_default();
        // One from the future is a clock's mistake.
        let age = seconds(now).checked_sub(Duration::from_secs(tabs.last));
        if age.is_some_and(|age| age <= FORGOTTEN) { tabs } else { Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_between_tabs_grows_and_a_success_ends_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        assert_eq!(Tabs::pause(&store, at(0)), Duration::ZERO);
        Tabs::count(&store, at(0));
        assert_eq!(Tabs::pause(&store, at(10)), Duration::from_secs(20));
        assert_eq!(Tabs::pause(&store, at(30)), Duration::ZERO);
        Tabs::count(&store, at(30));
        assert_eq!(Tabs::pause(&store, at(30)), Duration::from_secs(60));
        assert_eq!(Tabs::pause(&store, at(30) + FORGOTTEN * 2), Duration::ZERO);
        Tabs::forget(&store);
        assert_eq!(Tabs::pause(&store, at(31)), Duration::ZERO);
    }
}
