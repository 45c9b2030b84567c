//! What is to be thought of later, in the order in which it is due.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// Things to be thought of, by when.
#[derive(Debug)]
pub(crate) struct Reminders<T> {
    due: BTreeMap<(Instant, u64), T>,
    count: u64,
    /// Until the first is due. Kept between waits, because a new timer for each turn of a loop costs more.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<T> Default for Reminders<T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), count: 0, sleep: None }
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
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().await;
        self.sleep = None; // it is over, and must not be awaited again
        match self.due.pop_first() {
            Some((_, reminder)) => reminder,
            None => std::future::pending().await,
        }
    }
}
