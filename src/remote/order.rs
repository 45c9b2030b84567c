//! What must not overtake what, now that each message is an HTTP request of its own.
//!
//! Nothing follows `notifications/initialized` before the server has taken it (MCP 2025-11-25,
//! Lifecycle), nothing goes to a lost session while a new one is made, and notifications keep their
//! order among themselves. Requests and responses wait for nothing else.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{Mutex, OwnedRwLockWriteGuard, RwLock, RwLockWriteGuard};

/// How long a message holds back others if the server does not take it. It is on its way by then;
/// a server that hangs on one notification must not silence the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// Both locks are fair: who comes first goes first.
#[derive(Debug, Default)]
pub struct Order {
    gate: Arc<RwLock<()>>,
    turn: Mutex<()>,
}

impl Order {
    /// Closes the gate for what comes after, once what came before has passed.
    pub async fn barrier(&self) -> OwnedRwLockWriteGuard<()> {
        self.gate.clone().write_owned().await
    }

    /// The same, for making a new session.
    pub async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// Waits until the gate is open.
    pub async fn pass(&self) {
        drop(self.gate.read().await);
    }

    /// Runs the sending of a notification after those before it.
    pub async fn in_turn<T>(&self, send: Pin<&mut impl Future<Output = T>>) -> T {
        hold(self.turn.lock().await, send).await
    }
}

/// Runs `send` while `guard` is held, or for as long as patience lasts.
pub async fn hold<T, G>(guard: G, mut send: Pin<&mut impl Future<Output = T>>) -> T {
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut send).await {
        return done;
    }
    drop(guard);
    send.await
}
