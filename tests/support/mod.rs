//! The peers of the tests: a host that starts the real binary, and a server that does and says
//! exactly what a test wants and remembers what it was asked.
//!
//! Everything waits for events and gives up after [`PATIENCE`], so that a broken program fails a
//! test and does not hang it.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs, reason = "each test file uses its own part")]

pub mod event_streams;
pub mod host;
pub mod server;

use std::time::Duration;

/// Far more than anything takes; only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(happened) => happened,
        Err(_) => panic!("did not happen: {what}"),
    }
}
