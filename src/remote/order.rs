//! What must not overtake what, now that each message is an HTTP request of its own.
//!
//! Nothing follows `notifications/initialized` before the server has taken it (MCP 2025-11-25,
//! Lifecycle), nothing goes to a lost session while a new one is made, and notifications keep their
//! order among themselves. Requests and responses wait for nothing else.
//!
//! Must never: let one message that the server does not take silence the rest.

use std::{pin::Pin, time::Duration};

use tokio::sync::{Mutex, RwLock, RwLockWriteGuard};

use crate::message::{Message, Shape};

/// How long a message holds back others if the server does not take it. It is on its way by then;
/// a server that hangs on one notification must not silence the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// Both locks are fair: who comes first goes first.
#[derive(Debug, Default)]
pub struct Order {
    gate: RwLock<()>,
    turn: Mutex<()>,
}

impl Order {
    /// Runs `carry`, which takes `message` to the server, when its turn has come.
    pub async fn send<T>(&self, message: &Message, carry: Pin<&mut impl Future<Output = T>>) -> T {
        match &message.shape {
            Shape::Notification { method } if &**method == "notifications/initialized" => {
                hold(self.gate.write().await, carry).await
            }
            Shape::Notification { .. } => {
                self.pass().await;
                hold(self.turn.lock().await, carry).await
            }
            Shape::Request { .. } | Shape::Response { .. } | Shape::Batch(_) => {
                self.pass().await;
                carry.await
            }
        }
    }

    /// Closes the gate, once what came before has passed; for making a new session.
    pub async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// Waits until the gate is open.
    pub async fn pass(&self) {
        drop(self.gate.read().await);
    }
}

/// Runs `carry` while `guard` is held, or for as long as patience lasts.
async fn hold<T, G>(guard: G, mut carry: Pin<&mut impl Future<Output = T>>) -> T {
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut carry).await {
        return done;
    }
    drop(guard);
    carry.await
}
