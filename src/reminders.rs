//! What is to be thought of later, in the order in which it is due.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Things to be thought of, by when.
#[derive(Debug)]
pub(crate) struct Reminders<T> {
    due: BTreeMap<(Instant, u64), T>,
    count: u64,
}

impl<T> Default for Reminders<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), count: 0 }
    }
}

impl<T> Reminders<T> {
    /// Adds what is due after a while.
    pub(crate) fn add(&mut self, after: Duration, reminder: T) {
        self.count += 1;
        self.due.insert((Instant::now() + after, self.count), reminder);
    }

    /// Waits for what is due next. Safe to drop.
    pub(crate) async fn next(&mut self) -> T {
        let Some((due, _)) = self.due.keys().next().copied() else { return std::future::pending().await };
        tokio::time::sleep_until(due).await;
        match self.due.pop_first() {
            Some((_, reminder)) => reminder,
            None => std::future::pending().await,
        }
    }
}
