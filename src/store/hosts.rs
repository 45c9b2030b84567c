//! How long MCP hosts were seen to wait before they gave up on a request that was held, by name and version;
//! one file for all servers.
//!
//! # Invariants
//!
//! - The file holds the shortest time that was seen, and forgets it after [`LIFE`].

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use log::debug;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::{
    description::{HeldRequest, HostLimits},
    known_hosts::HostName,
};

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
    /// Seconds since the epoch.
    at: u64,
}

type Hosts = BTreeMap<String, Seen>;

/// How long this host was seen to wait.
pub(super) fn limits(store: &Store, host: &HostName, now: SystemTime) -> HostLimits {
    let seen = load(store, now).remove(&key(host)).unwrap_or_default();
    HostLimits {
        initialize: seen.initialize_ms.map(Duration::from_millis),
        list: seen.tools_list_ms.map(Duration::from_millis),
    }
}

/// Keeps that the host gave up `after` this long, unless a shorter time is known.
pub(super) fn keep(store: &Store, host: &HostName, request: HeldRequest, after: Duration, now: SystemTime) {
    let mut hosts = load(store, now);
    if hosts.len() >= MOST_HOSTS && !hosts.contains_key(&key(host)) {
        let oldest = hosts.iter().min_by_key(|(_, seen)| seen.at).map(|(key, _)| key.clone());
        oldest.and_then(|oldest| hosts.remove(&oldest));
    }
    let seen = hosts.entry(key(host)).or_default();
    let limit = match request {
        HeldRequest::Initialize => &mut seen.initialize_ms,
        HeldRequest::ToolsList => &mut seen.tools_list_ms,
    };
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    *limit = Some(limit.map_or(after, |known| known.min(after)));
    seen.at = seconds(now);
    let written = serde_json::to_vec(&hosts).map_err(Into::into).and_then(|text| store.write_shared(FILE, &text));
    if let Err(error) = written {
        debug!("the limit of {} is not kept: {error:#}", host.name);
    }
}

fn load(store: &Store, now: SystemTime) -> Hosts {
    let mut hosts: Hosts =
        store.read_shared(FILE).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    hosts.retain(|_, seen| seconds(now).saturating_sub(seen.at) < LIFE.as_secs());
    hosts
}

fn key(host: &HostName) -> String {
    /// In characters; names come from outside.
    const LONGEST: usize = 100;
    let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
    format!("{} {}", cut(&host.name), cut(&host.version))
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

    #[test]
    fn shortest_limit_is_kept_by_version_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        let now = SystemTime::now();
        assert_eq!(limits(&store, &host("1"), now), HostLimits::default());
        for after in [9000, 4000, 6000] {
            keep(&store, &host("1"), HeldRequest::Initialize, Duration::from_millis(after), now);
        }
        keep(&store, &host("1"), HeldRequest::ToolsList, Duration::from_secs(2), now);
        let seen = limits(&store, &host("1"), now);
        assert_eq!(seen.initialize, Some(Duration::from_secs(4)));
        assert_eq!(seen.list, Some(Duration::from_secs(2)));
        assert_eq!(limits(&store, &host("2"), now), HostLimits::default());
        assert_eq!(limits(&store, &host("1"), now + LIFE), HostLimits::default());
    }

    #[test]
    fn damaged_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        keep(&store, &host("1"), HeldRequest::Initialize, Duration::from_secs(3), SystemTime::now());
        assert_eq!(limits(&store, &host("1"), SystemTime::now()).initialize, Some(Duration::from_secs(3)));
    }

    #[test]
    fn number_of_hosts_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        for version in 0..MOST_HOSTS + 10 {
            keep(
                &store,
                &host(&version.to_string()),
                HeldRequest::Initialize,
                Duration::from_secs(3),
                SystemTime::now(),
            );
        }
        assert_eq!(load(&store, SystemTime::now()).len(), MOST_HOSTS);
    }
}
