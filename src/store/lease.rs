//! npm's refresh lease: `refresh_in_progress.json`, which a copy of npm's mcp-remote 0.15.1 makes
//! while it spends a refresh token. We wait for theirs and show them ours; among ourselves the lock
//! counts.
//!
//! # Invariants
//!
//! - Nobody waits for a lease whose holder is dead or stopped, or that is old.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use tokio::time::Instant;

use super::{
    Store,
    process::{STOPPED_PATIENCE, is_alive, is_stopped},
    rewritten,
};

const FILE: &str = "refresh_in_progress.json";
/// npm takes a lease of this age for abandoned.
const LIFE: Duration = Duration::from_secs(30);
/// npm's own pause between looks.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Content {
    pid: u32,
    nonce: String,
    /// Milliseconds since the epoch.
    at: u64,
}

/// Our lease; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    nonce: String,
}

impl Store {
    /// Waits until no copy of npm's is refreshing, and says that we are.
    pub(crate) async fn lease(&self) -> Lease {
        let nonce = format!("{:032x}", fastrand::u128(..));
        let began = Instant::now();
        loop {
            let at = u64::try_from(now().as_millis()).unwrap_or_default();
            let content = Content { pid: std::process::id(), nonce: nonce.clone(), at };
            let made = self.create_new(FILE, &serde_json::to_vec(&content).unwrap_or_default());
            match made {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if !self.lease_is_dead(began.elapsed() >= STOPPED_PATIENCE) {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    if let Err(error) = std::fs::remove_file(self.path(FILE))
                        && error.kind() != std::io::ErrorKind::NotFound
                    {
                        // A folder that cannot be written: nobody refreshes there, and the file stays.
                        log::debug!("cannot remove {}: {error}", self.path(FILE).display());
                        return Lease { store: self.clone(), nonce };
                    }
                }
                _ => return Lease { store: self.clone(), nonce },
            }
        }
    }

    /// Whether the lease counts no more; that of a stopped process, once it was waited for.
    fn lease_is_dead(&self, was_awaited: bool) -> bool {
        let Some(content) = self.read(FILE).and_then(|content| serde_json::from_slice::<Content>(&content).ok()) else {
            // Being written, or damaged: as old as the file is.
            let made = std::fs::metadata(self.path(FILE)).and_then(|file| file.modified());
            let made = made.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            return made.is_some_and(|made| now().abs_diff(made) > LIFE);
        };
        now().abs_diff(Duration::from_millis(content.at)) > LIFE
            || !is_alive(content.pid)
            || was_awaited && is_stopped(content.pid)
    }
}

/// Returns a lease as it would be written again, for fuzz targets; `None` if it is damaged.
pub(crate) fn rewritten_lease(content: &[u8]) -> Option<Vec<u8>> {
    rewritten::<Content>(content)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let held = self.store.read(FILE).and_then(|content| serde_json::from_slice::<Content>(&content).ok());
        if held.is_some_and(|held| held.nonce == self.nonce) {
            self.store.remove(FILE);
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(store: &Store, pid: u32, age: Duration) {
        let at = u64::try_from((now() - age).as_millis()).unwrap();
        let content = Content { pid, nonce: "theirs".to_owned(), at };
        store.write(FILE, &serde_json::to_vec(&content).unwrap()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_living_lease_is_awaited() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        write(&store, std::process::id(), Duration::ZERO);
        assert!(tokio::time::timeout(Duration::from_secs(5), store.lease()).await.is_err());
        write(&store, std::process::id(), Duration::from_secs(31));
        drop(store.lease().await);
        #[cfg(unix)]
        {
            write(&store, i32::MAX as u32, Duration::ZERO); // beyond any pid
            drop(store.lease().await);
        }
        assert_eq!(store.read(FILE), None, "ours is removed");
    }

    #[cfg(unix)] // elsewhere a folder cannot be opened as a file, to set its time
    #[tokio::test]
    async fn unremovable_dead_lease_delays_nobody() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        // As a file is in a folder that is not ours to write: it is there, and stays.
        std::fs::create_dir(store.path(FILE)).unwrap();
        let old = SystemTime::now() - LIFE * 2;
        std::fs::File::open(store.path(FILE)).unwrap().set_modified(old).unwrap();
        let (sender, had) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { drop(store.lease().await) });
            sender.send(()).unwrap();
        });
        assert!(had.recv_timeout(Duration::from_secs(5)).is_ok());
    }

    #[tokio::test]
    async fn damaged_lease_from_future_is_dead() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        store.write(FILE, b"").unwrap();
        let later = SystemTime::now() + LIFE * 100;
        std::fs::File::options().append(true).open(store.path(FILE)).unwrap().set_modified(later).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(5), store.lease()).await.is_ok());
    }
}
