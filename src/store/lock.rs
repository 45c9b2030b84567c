//! One process at a time: locks that the kernel releases when their holder dies.
//!
//! The lock file is never removed: removing it would give two processes a lock each. Its content is the process id of the
//! last holder, for those who wait.
//!
//! # Invariants
//!
//! - The lock of tokens is not held while a person is waited for.
//! - Nobody waits forever: a holder that is stopped, or that holds the lock longer than it can need it, is passed by.

use std::{
    fs::{self, File},
    io::Write,
    time::Duration,
};

use log::warn;
use tokio::time::Instant;

use super::{
    Store,
    process::{STOPPED_PATIENCE, is_stopped},
};

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Spending a refresh token and writing what came for it. Held for one request.
    Tokens,
    /// Asking a person. Held for as long as that takes.
    SignIn,
}

impl Purpose {
    const fn file(self) -> &'static str {
        match self {
            Self::Tokens => "tokens.lock",
            Self::SignIn => "sign_in.lock",
        }
    }

    /// The longest that a running holder is waited for.
    const fn patience(self) -> Duration {
        match self {
            // Two requests of 30 s, since a refresh may be repeated once, and the npm package's lease before them; after
            // a pause of the machine the holder goes on too.
            Self::Tokens => Duration::from_secs(150),
            // Longer than any `--auth-timeout` that makes sense.
            Self::SignIn => Duration::from_secs(60 * 60),
        }
    }
}

/// A held lock; dropping it, or dying, releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

/// How often a held lock is tried again. Locks are held for a network request or for a person: in
/// both cases this is little.
const PAUSE: Duration = Duration::from_millis(50);

impl Store {
    /// Waits for a lock. Where the folder cannot be written or locked (a read-only home, a network
    /// file system), there is nobody to share with, and the lock is had at once.
    pub(crate) async fn lock(&self, purpose: Purpose) -> Lock {
        let none = |error| {
            log::debug!("continuing without the lock {}: {error}", self.path(purpose.file()).display());
            Lock { _file: None }
        };
        let file = match self.open_lock(purpose.file()) {
            Ok(file) => file,
            Err(error) => return none(error),
        };
        let began = Instant::now();
        loop {
            // Tried again rather than waited for: a thread that waits in the kernel cannot be stopped.
            match file.try_lock() {
                Ok(()) => {
                    sign(&file);
                    return Lock { _file: Some(file) };
                }
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return none(error),
            }
            let waited = began.elapsed();
            let is_stopped = || self.holder(purpose).is_some_and(is_stopped);
            if waited >= purpose.patience() || waited >= STOPPED_PATIENCE && is_stopped() {
                let holder = self.holder(purpose).map_or_else(
                    || "another mcp-remote process".to_owned(),
                    |pid| format!("the mcp-remote process {pid}"),
                );
                warn!(
                    "{holder} has held the lock {} for {} s; continuing without it",
                    self.path(purpose.file()).display(),
                    waited.as_secs()
                );
                return Lock { _file: None };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns the process that holds a lock, where it has said so.
    pub(crate) fn holder(&self, purpose: Purpose) -> Option<u32> {
        let path = self.path(purpose.file());
        let content = self.access.run(&path, || fs::read_to_string(&path)).ok()?;
        content.trim().parse().ok()
    }
}

/// Writes who has the lock. Nothing depends on it.
fn sign(mut file: &File) {
    let text = format!("{:<10}\n", std::process::id()); // always as long, so that no rest of an older one stays
    if let Err(error) = file.write_all(text.as_bytes()) {
        log::debug!("cannot write the process ID into the lock: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lock_of_silent_holder_is_passed_by() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        let _held = store.lock(Purpose::Tokens).await;
        assert_eq!(store.holder(Purpose::Tokens), Some(std::process::id()));
        let began = Instant::now();
        let passed = store.lock(Purpose::Tokens).await;
        assert!(passed._file.is_none() && began.elapsed() >= Purpose::Tokens.patience());
        let _asking = store.lock(Purpose::SignIn).await;
        let wait = tokio::time::timeout(Duration::from_secs(600), store.lock(Purpose::SignIn)).await;
        assert!(wait.is_err(), "a person takes longer");
    }

    #[tokio::test(start_paused = true)]
    async fn lock_is_exclusive_until_drop_by_purpose() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        let held = store.lock(Purpose::Tokens).await;
        let _other = store.lock(Purpose::SignIn).await;
        let wait = tokio::time::timeout(Duration::from_secs(1), store.lock(Purpose::Tokens)).await;
        assert!(wait.is_err());
        drop(held);
        drop(store.lock(Purpose::Tokens).await);
    }
}
