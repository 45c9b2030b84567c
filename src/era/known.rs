//! What is known of the era of servers, by origin and path, for all accounts and instances (MCP 2026-07-28,
//! Versioning, Backward Compatibility: "Clients SHOULD cache the result … and MAY persist it").
//!
//! # Invariants
//!
//! - No request waits for the disk for longer than a quarter of a second.
//! - The file holds no URL: a path may hold a key.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use log::debug;
use reqwest::Url;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Era;
use crate::{mcp::TransportKind, store::Store, sync::LockExt};

const FILE: &str = "eras.json";
/// How long a legacy server is not asked again: it may be updated.
const LIFE_OF_LEGACY: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Servers kept, the latest ones.
const MOST_SERVERS: usize = 256;
/// How long a disk may take, before it counts as one without an answer.
const FILE_PATIENCE: Duration = Duration::from_millis(250);

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KnownEra {
    /// The era that the server was seen to speak; modern also if it speaks both.
    pub era: Era,
    /// The transport on which it has answered `initialize`, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_transport: Option<TransportKind>,
    /// It has refused `initialize`, and speaks modern versions only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_initialize: bool,
    /// The versions it has named.
    #[serde(default)]
    pub versions: Vec<String>,
    /// What it has answered to what.
    pub evidence: String,
    /// When, in seconds since the epoch.
    pub seen: u64,
}

type Servers = BTreeMap<String, KnownEra>;

/// The memory of one server's era.
#[derive(Clone, Debug)]
pub(crate) struct Eras {
    store: Store,
    key: String,
    /// What was read or written last, in this process.
    last: Arc<Mutex<Option<KnownEra>>>,
}

impl KnownEra {
    /// What has just been learned.
    pub(crate) fn new(era: Era, versions: Vec<String>, evidence: String) -> Self {
        Self { era, legacy_transport: None, refuses_initialize: false, versions, evidence, seen: 0 }
    }
}

impl KnownEra {
    /// How long ago it was learned.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_secs(seconds(SystemTime::now()).saturating_sub(self.seen))
    }
}

impl Eras {
    /// Of the server at this URL. Touches nothing.
    pub(crate) fn new(store: Store, server: &Url) -> Self {
        let place = format!("{}{}", server.origin().ascii_serialization(), server.path());
        let digest = digest(&SHA256, place.as_bytes());
        let key = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { store, key, last: Arc::default() }
    }

    /// What is known.
    pub(crate) async fn load(&self) -> Option<KnownEra> {
        let eras = self.clone();
        let now = seconds(SystemTime::now());
        let read = tokio::task::spawn_blocking(move || eras.read().remove(&eras.key));
        let known = tokio::time::timeout(FILE_PATIENCE, read).await.ok()?.ok()??;
        let is_old = known.era == Era::Legacy && now.saturating_sub(known.seen) >= LIFE_OF_LEGACY.as_secs();
        let known = (!is_old).then_some(known);
        self.last().clone_from(&known);
        known
    }

    /// What was read or written last: `None` if nothing was in this process.
    pub(crate) fn known(&self) -> Option<KnownEra> {
        self.last().clone()
    }

    fn last(&self) -> MutexGuard<'_, Option<KnownEra>> {
        self.last.guard()
    }

    /// Keeps what was learned; returns when it is on disk.
    pub(crate) async fn save(&self, mut known: KnownEra) {
        let eras = self.clone();
        known.seen = seconds(SystemTime::now());
        *self.last() = Some(known.clone());
        let write = tokio::task::spawn_blocking(move || eras.write(known));
        if tokio::time::timeout(FILE_PATIENCE, write).await.is_err() {
            debug!(
                "no longer waiting for the server's era to be stored: the disk did not answer within {} s",
                FILE_PATIENCE.as_secs_f32()
            );
        }
    }

    fn read(&self) -> Servers {
        self.store.read_shared(FILE).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn write(&self, known: KnownEra) {
        let mut servers = self.read();
        let before = servers.get(&self.key);
        let known = KnownEra {
            legacy_transport: known.legacy_transport.or_else(|| before.and_then(|before| before.legacy_transport)),
            ..known
        };
        servers.insert(self.key.clone(), known);
        while servers.len() > MOST_SERVERS {
            let oldest = servers.iter().min_by_key(|(_, known)| known.seen).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| servers.remove(&oldest));
        }
        let text = serde_json::to_vec(&servers).map_err(Into::into);
        if let Err(error) = text.and_then(|text| self.store.write_shared(FILE, &text)) {
            debug!("cannot store the server's era: {error:#}");
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eras(folder: &std::path::Path, url: &str) -> Eras {
        let store = Store::new(folder.to_owned(), "0".repeat(32));
        Eras::new(store, &Url::parse(url).unwrap())
    }

    fn known(era: Era) -> KnownEra {
        KnownEra::new(era, Vec::new(), "e".to_owned())
    }

    #[tokio::test]
    async fn era_is_known_by_origin_and_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |url| eras(folder.path(), url);
        assert_eq!(at("https://a.example/mcp").load().await, None);
        at("https://a.example/mcp?key=1").save(known(Era::Modern)).await;
        assert_eq!(at("https://a.example/mcp?key=2").load().await.unwrap().era, Era::Modern);
        assert_eq!(at("https://a.example/other").load().await, None);
        let mut legacy = known(Era::Legacy);
        legacy.legacy_transport = Some(TransportKind::HttpSse);
        at("https://a.example/mcp").save(legacy).await;
        at("https://a.example/mcp").save(known(Era::Legacy)).await;
        let kept = at("https://a.example/mcp").load().await.unwrap();
        assert_eq!((kept.era, kept.legacy_transport), (Era::Legacy, Some(TransportKind::HttpSse)));
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!text.contains("a.example"), "{text}");
    }

    #[tokio::test]
    async fn legacy_server_is_asked_again_after_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let eras = eras(folder.path(), "https://a.example/mcp");
        for (era, remembered) in [(Era::Legacy, false), (Era::Modern, true)] {
            eras.write(KnownEra { seen: seconds(SystemTime::now()) - LIFE_OF_LEGACY.as_secs(), ..known(era) });
            assert_eq!(eras.load().await.is_some(), remembered);
        }
    }

    #[tokio::test]
    async fn damaged_file_and_missing_folder_are_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "[").unwrap();
        let eras = eras(folder.path(), "https://a.example/mcp");
        assert_eq!(eras.load().await, None);
        eras.save(known(Era::Modern)).await;
        assert!(eras.load().await.is_some());
    }
}
