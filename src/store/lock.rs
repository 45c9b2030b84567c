//! One process at a time: locks that the kernel releases when their holder dies.
//!
//! The lock file is no data file and is never removed: removing it would give two processes a lock
//! each.
//!
//! # Invariants
//!
//! - The lock of tokens is not held while a person is waited for.

use std::{fs::File, time::Duration};

use super::Store;

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
        let file = match self.open_lock(purpose.file()) {
            Ok(file) => file,
            Err(error) => {
                log::debug!("no lock in {}: {error}", self.path(purpose.file()).display());
                return Lock { _file: None };
            }
        };
        loop {
            // Tried again rather than waited for: a thread that waits in the kernel cannot be stopped.
            match file.try_lock() {
                Ok(()) => return Lock { _file: Some(file) },
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(std::fs::TryLockError::Error(error)) => {
                    log::debug!("no lock in {}: {error}", self.path(purpose.file()).display());
                    return Lock { _file: None };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
