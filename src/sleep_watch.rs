//! Waking from sleep. Connections do not survive it, and nobody says so: the other end may have closed
//! them, a router may have forgotten them, and what is sent on one is answered by nothing. So whoever
//! holds connections is told, and looks before the next request finds out.
//!
//! # Invariants
//!
//! - A busy minute is not taken for a sleep.

use std::time::{Duration, SystemTime};

use tokio::{sync::mpsc, task::JoinSet};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// A look that is this late was slept through. A machine that is only slow is not this slow, and a wall
/// clock that is set by hand costs no more than new connections.
const LATE: Duration = Duration::from_secs(10);

/// Watches until the set is dropped; tells how long the machine has slept.
#[must_use]
pub(crate) fn watch() -> (mpsc::Receiver<Duration>, JoinSet<()>) {
    let (sender, wakes) = mpsc::channel(1);
    let mut watchers = JoinSet::new();
    watchers.spawn(async move {
        let mut last = SystemTime::now();
        loop {
            // A timer stands still while the machine sleeps, or is late; the wall clock goes on.
            tokio::time::sleep(LOOK).await;
            let now = SystemTime::now();
            if let Some(slept) = slept(last, now)
                && sender.send(slept).await.is_err()
            {
                return;
            }
            last = now;
        }
    });
    (wakes, watchers)
}

fn slept(last: SystemTime, now: SystemTime) -> Option<Duration> {
    let more = now.duration_since(last).ok()?.checked_sub(LOOK)?;
    (more >= LATE).then_some(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_late_check_means_sleep() {
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |seconds| slept(last, last + Duration::from_secs(seconds));
        assert_eq!((after(1), after(6), after(3601)), (None, None, Some(Duration::from_secs(3600))));
        assert_eq!(slept(last, last - Duration::from_secs(3600)), None, "a clock set back");
    }
}
