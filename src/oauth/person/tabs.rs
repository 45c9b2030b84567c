//! How many browser tabs were opened without a sign-in, stored on disk because a host that restarts a failing process
//! again and again must not open ten tabs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::store::Store;

/// Name of the record of tabs.
const TABS: &str = "tabs.json";
/// How long the tab of a sign-in counts as open. A restarted process opens no second tab before that.
const TAB_LIFE: Duration = Duration::from_secs(10 * 60);
/// Pause after the first tab without a sign-in; each further tab doubles it.
const FIRST_TAB_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between tabs.
const LONGEST_TAB_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How often a user who declines is asked again at once, because the answer may have been a mistake.
const MOST_SECOND_THOUGHTS: u32 = 2;
/// Time without a tab after which the count restarts.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// The tabs that were opened since the last successful sign-in.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tabs {
    opened: u32,
    /// The user declined in the last tab.
    #[serde(default)]
    answered: bool,
    /// Seconds since the epoch.
    last: u64,
}

impl Tabs {
    /// Returns how long to open no further tab.
    pub(crate) fn pause(store: &Store, now: SystemTime) -> Duration {
        let tabs = Self::load(store, now);
        if tabs.opened == 0 || tabs.answered && tabs.opened <= MOST_SECOND_THOUGHTS {
            return Duration::ZERO;
        }
        let pause = FIRST_TAB_PAUSE.saturating_mul(1 << (tabs.opened - 1).min(10)).min(LONGEST_TAB_PAUSE);
        Duration::from_secs(tabs.last).saturating_add(pause).saturating_sub(seconds(now)).min(pause)
    }

    /// Returns whether the last tab is probably still open.
    pub(crate) fn is_open(store: &Store, now: SystemTime) -> bool {
        let tabs = Self::load(store, now);
        tabs.opened > 0 && seconds(now).saturating_sub(Duration::from_secs(tabs.last)) < TAB_LIFE
    }

    /// Records an opened tab.
    pub(crate) fn count(store: &Store, now: SystemTime) {
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
            log::debug!("cannot store the number of opened browser tabs: {error:#}"); // a sign-in that is not kept is told where it matters
        }
    }

    /// Removes the last tab from the count, because it did not open.
    pub(crate) fn take_back(store: &Store, now: SystemTime) {
        let tabs = Self::load(store, now);
        Self::save(store, Self { opened: tabs.opened.saturating_sub(1), ..tabs });
    }

    /// Records that the user declined in the last tab.
    pub(crate) fn answered(store: &Store, now: SystemTime) {
        Self::save(store, Self { answered: true, ..Self::load(store, now) });
    }

    /// Resets the count after a successful sign-in.
    pub(crate) fn forget(store: &Store) {
        store.remove(TABS);
    }

    fn load(store: &Store, now: SystemTime) -> Self {
        let tabs: Self = store.parse(TABS, |content| serde_json::from_slice(content).ok()).unwrap_or_default();
        // A time in the future comes from a wrong clock.
        let age = seconds(now).checked_sub(Duration::from_secs(tabs.last));
        if age.is_some_and(|age| age <= FORGOTTEN) { tabs } else { Self::default() }
    }
}

fn seconds(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_between_tabs_grows_until_a_success() {
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
