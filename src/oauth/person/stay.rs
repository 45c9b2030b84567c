//! Whether the host keeps this process. Some hosts start a process to list the tools and end it 40 to 300 ms later
//! (`claude mcp list`, LangChain's adapters). A browser tab that such a process opened would be redirected to a closed
//! port.
//!
//! # Invariants
//!
//! - No browser tab is opened before the process has run for a second, or a request needs the sign-in.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// How long a process must have run: several times the lifetimes that were measured, and shorter than the 2 s after which
/// hosts that send `server/discover` first give up.
const MOMENT: Duration = Duration::from_secs(1);

/// When the host counts as keeping this process.
#[derive(Debug)]
pub(crate) struct Stay {
    since: Instant,
    ended: watch::Sender<bool>,
}

impl Stay {
    /// Returns the state of a process that has just started.
    pub(crate) fn from_now() -> Self {
        Self { since: Instant::now(), ended: watch::Sender::new(false) }
    }

    /// Ends the wait, because a request of the host needs the sign-in.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the host counts as keeping this process.
    pub(crate) async fn wait(&self) {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            () = tokio::time::sleep_until(self.since + MOMENT) => {}
            _ = ended.wait_for(|ended| *ended) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wait_ends_after_a_moment_or_on_demand() {
        let stay = Stay::from_now();
        stay.wait().await;
        assert_eq!(stay.since.elapsed(), MOMENT);
        stay.wait().await;
        assert_eq!(stay.since.elapsed(), MOMENT, "a process that has stayed does not wait again");
        let needed = Stay::from_now();
        needed.end();
        needed.wait().await;
        assert_eq!(needed.since.elapsed(), Duration::ZERO);
    }
}
