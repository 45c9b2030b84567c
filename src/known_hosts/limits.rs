//! How long MCP hosts were seen to wait before they gave up on a request that was held, by name and version;
//! one file for all servers.
//!
//! # Invariants
//!
//! - The file holds the shortest time that was seen, and forgets it after a week.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use log::debug;
use serde::{Deserialize, Serialize};

use super::{Evidence, HeldRequest, HostLimits, HostName};
use crate::store::{self, Store, process::is_alive};

const FILE: &str = "hosts.json";
/// After this long a limit is tried again: a user may have raised it, or have closed the host by chance.
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Hosts kept: names come from outside, and a machine has few.
const MOST_HOSTS: usize = 64;

/// What was seen of one host.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Seen {
    initialize_ms: Option<u64>,
    tools_list_ms: Option<u64>,
    /// It has ended once without a word.
    suspected: bool,
    /// A host that waits for its `initialize`.
    waiting: Option<Waiting>,
    /// Seconds since the epoch.
    at: u64,
}

/// A process that holds the `initialize` of a host.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Waiting {
    pid: u32,
    /// For how long, when this was written.
    after_ms: u64,
    evidence: Evidence,
    /// When this was written, in milliseconds since the epoch.
    at_ms: u64,
}

impl Waiting {
    /// A process that was ended while it waited: it is gone, or has not written the note that was due.
    fn ended(self, now: SystemTime) -> Option<Self> {
        /// The next note, or the end of the hold, comes before the time has grown by this share.
        const GROWTH: u64 = 3;
        const SLACK_MS: u64 = 1000;
        let silent = since_epoch(now).saturating_sub(self.at_ms) > self.after_ms / GROWTH + SLACK_MS;
        (self.pid != std::process::id() && (silent || !is_alive(self.pid))).then_some(self)
    }
}

impl Seen {
    /// Whether this is enough to believe in a limit.
    fn convinces(self, evidence: Evidence) -> bool {
        evidence == Evidence::Certain || self.suspected
    }

    fn limit_initialize(&mut self, after_ms: u64) {
        self.initialize_ms = Some(self.initialize_ms.map_or(after_ms, |known| known.min(after_ms)));
    }
}

type Hosts = BTreeMap<String, Seen>;

/// How long this host was seen to wait.
pub(crate) fn limits(store: &Store, host: &HostName, now: SystemTime) -> HostLimits {
    let seen = load(store, now).remove(&key(host)).unwrap_or_default();
    // The process was ended while it held the host: the host waits no longer than that.
    let ended = seen.waiting.and_then(|waiting| waiting.ended(now)).filter(|ended| seen.convinces(ended.evidence));
    let ended = ended.map(|ended| ended.after_ms);
    let initialize = [seen.initialize_ms, ended].into_iter().flatten().min();
    HostLimits {
        initialize: initialize.map(Duration::from_millis),
        list: seen.tools_list_ms.map(Duration::from_millis),
    }
}

/// Keeps that the host has waited for so long, and waits still.
pub(crate) fn note_waiting(store: &Store, host: &HostName, (after, evidence): (Duration, Evidence), now: SystemTime) {
    change(store, host, now, |seen| {
        if let Some(ended) = seen.waiting.and_then(|waiting| waiting.ended(now)) {
            if seen.convinces(ended.evidence) {
                seen.limit_initialize(ended.after_ms);
            }
            seen.suspected = true;
        }
        let (pid, at_ms) = (std::process::id(), since_epoch(now));
        seen.waiting = Some(Waiting { pid, after_ms: millis(after), evidence, at_ms });
    });
}

/// Keeps that the host waits no longer.
pub(crate) fn note_answered(store: &Store, host: &HostName, now: SystemTime) {
    change(store, host, now, |seen| {
        seen.suspected = false;
        seen.waiting = seen.waiting.filter(|waiting| waiting.pid != std::process::id());
    });
}

/// Keeps that the host gave up `after` this long, unless a shorter time is known.
pub(crate) fn save(
    store: &Store,
    host: &HostName,
    request: HeldRequest,
    (after, evidence): (Duration, Evidence),
    now: SystemTime,
) {
    change(store, host, now, |seen| {
        if seen.convinces(evidence) {
            let limit = match request {
                HeldRequest::Initialize => &mut seen.initialize_ms,
                HeldRequest::ToolsList => &mut seen.tools_list_ms,
            };
            *limit = Some(limit.map_or(millis(after), |known| known.min(millis(after))));
        }
        seen.suspected = true;
        seen.waiting = seen.waiting.filter(|waiting| waiting.pid != std::process::id());
    });
}

fn change(store: &Store, host: &HostName, now: SystemTime, change: impl FnOnce(&mut Seen)) {
    let mut hosts = load(store, now);
    if hosts.len() >= MOST_HOSTS && !hosts.contains_key(&key(host)) {
        let oldest = hosts.iter().min_by_key(|(_, seen)| seen.at).map(|(key, _)| key.clone());
        oldest.and_then(|oldest| hosts.remove(&oldest));
    }
    let seen = hosts.entry(key(host)).or_default();
    change(seen);
    seen.at = seconds(now);
    if !seen.suspected && seen.initialize_ms.is_none() && seen.tools_list_ms.is_none() && seen.waiting.is_none() {
        hosts.remove(&key(host));
    }
    let written = serde_json::to_vec(&hosts).map_err(Into::into).and_then(|text| store.write_shared(FILE, &text));
    if let Err(error) = written {
        debug!("cannot store the timeout of {}: {error:#}", host.name);
    }
}

fn load(store: &Store, now: SystemTime) -> Hosts {
    let mut hosts: Hosts =
        store.read_shared(FILE).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    hosts.retain(|_, seen| seconds(now).saturating_sub(seen.at) < LIFE.as_secs());
    hosts
}

/// Returns the limits of all hosts as they would be written again, for fuzz targets; `None` if the file is damaged.
pub(crate) fn rewritten_limits(content: &[u8]) -> Option<Vec<u8>> {
    store::rewritten::<Hosts>(content)
}

fn key(host: &HostName) -> String {
    /// In characters; names come from outside.
    const LONGEST: usize = 100;
    let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
    format!("{} {}", cut(&host.name), cut(&host.version))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn since_epoch(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(version: &str) -> HostName {
        HostName { name: "a".to_owned(), version: version.to_owned() }
    }

    fn certain(after: Duration) -> (Duration, Evidence) {
        (after, Evidence::Certain)
    }

    #[test]
    fn suspicion_counts_the_second_time_in_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        let now = SystemTime::now();
        let end = || {
            let after = (Duration::from_secs(2), Evidence::Suspicion);
            save(&store, &host("1"), HeldRequest::Initialize, after, now);
            limits(&store, &host("1"), now).initialize
        };
        assert_eq!(end(), None);
        note_answered(&store, &host("1"), now);
        assert_eq!(end(), None, "it was answered in between");
        assert_eq!(end(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn shortest_limit_is_kept_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        let now = SystemTime::now();
        assert_eq!(limits(&store, &host("1"), now), HostLimits::default());
        for after in [9000, 4000, 6000] {
            save(&store, &host("1"), HeldRequest::Initialize, certain(Duration::from_millis(after)), now);
        }
        save(&store, &host("1"), HeldRequest::ToolsList, certain(Duration::from_secs(2)), now);
        let seen = limits(&store, &host("1"), now);
        assert_eq!(seen.initialize, Some(Duration::from_secs(4)));
        assert_eq!(seen.list, Some(Duration::from_secs(2)));
        assert_eq!(limits(&store, &host("2"), now), HostLimits::default());
        assert_eq!(limits(&store, &host("1"), now + LIFE), HostLimits::default());
    }

    #[cfg(unix)]
    #[test]
    fn silently_killing_host_is_recognized() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        let now = SystemTime::now();
        note_waiting(&store, &host("1"), certain(Duration::from_secs(8)), now);
        assert_eq!(limits(&store, &host("1"), now).initialize, None, "this process lives");
        note_answered(&store, &host("1"), now);
        assert!(load(&store, now).is_empty());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let waiting =
            Some(Waiting { pid: child.id(), after_ms: 8000, evidence: Evidence::Certain, at_ms: since_epoch(now) });
        change(&store, &host("1"), now, |seen| seen.waiting = waiting);
        assert_eq!(limits(&store, &host("1"), now).initialize, Some(Duration::from_secs(8)));
        let silent = Some(Waiting { pid: 1, after_ms: 6000, evidence: Evidence::Certain, at_ms: since_epoch(now) });
        change(&store, &host("2"), now, |seen| seen.waiting = silent);
        assert_eq!(limits(&store, &host("2"), now).initialize, None, "its next note is not due yet");
        let later = now + Duration::from_secs(4);
        assert_eq!(limits(&store, &host("2"), later).initialize, Some(Duration::from_secs(6)));
        note_waiting(&store, &host("1"), certain(Duration::from_secs(1)), now);
        note_answered(&store, &host("1"), now);
        assert_eq!(limits(&store, &host("1"), now).initialize, Some(Duration::from_secs(8)), "the next start keeps it");
    }

    #[test]
    fn damaged_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        save(&store, &host("1"), HeldRequest::Initialize, certain(Duration::from_secs(3)), SystemTime::now());
        assert_eq!(limits(&store, &host("1"), SystemTime::now()).initialize, Some(Duration::from_secs(3)));
    }

    #[test]
    fn number_of_hosts_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        for version in 0..MOST_HOSTS + 10 {
            save(
                &store,
                &host(&version.to_string()),
                HeldRequest::Initialize,
                certain(Duration::from_secs(3)),
                SystemTime::now(),
            );
        }
        assert_eq!(load(&store, SystemTime::now()).len(), MOST_HOSTS);
    }
}
