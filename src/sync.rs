//! Locks that a panic elsewhere does not close: the program aborts on a panic, so a poisoned lock is only met in tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks without the question of poison.
pub(crate) trait LockExt<T> {
    /// Waits for the lock and returns its guard.
    fn guard(&self) -> MutexGuard<'_, T>;
}

impl<T> LockExt<T> for Mutex<T> {
    fn guard(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
