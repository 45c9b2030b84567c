//! The order of messages, each of which is an HTTP request of its own.
//!
//! Nothing follows `notifications/initialized` before the server has taken it (MCP 2025-11-25,
//! Lifecycle), nothing goes to a lost session while a new one is made, and notifications keep their
//! order among themselves. Requests and responses wait for nothing else.
//!
//! # Invariants
//!
//! - A message that the server does not take does not silence the rest.

use std::{pin::Pin, time::Duration};

use tokio::sync::{Mutex, RwLock, RwLockWriteGuard};

use crate::{
    mcp::method::INITIALIZED,
    message::{Message, Shape},
};

/// How long a message holds back others if the server does not take it. It is on its way by then.
const LONGEST_HOLD: Duration = Duration::from_secs(5);

/// Two locks. Both are fair: messages pass in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Order {
    initialized_gate: RwLock<()>,
    notification_order: Mutex<()>,
}

impl Order {
    /// Runs `carry`, which takes `message` to the server, once nothing must come before it.
    pub(super) async fn send<T>(&self, message: &Message, carry: Pin<&mut impl Future<Output = T>>) -> T {
        match &message.shape {
            Shape::Notification { method } if &**method == INITIALIZED => {
                hold(self.initialized_gate.write().await, carry).await
            }
            Shape::Notification { .. } => {
                self.pass().await;
                hold(self.notification_order.lock().await, carry).await
            }
            Shape::Request { .. } | Shape::Response { .. } | Shape::Batch(_) => {
                self.pass().await;
                carry.await
            }
        }
    }

    /// Closes the gate once what came before has passed, while a new session is made.
    pub(super) async fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.initialized_gate.write().await
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        // The cheap way. It fails while the gate is closed, or about to be.
        if self.initialized_gate.try_read().is_err() {
            drop(self.initialized_gate.read().await);
        }
    }
}

/// Runs `carry` while `guard` is held, or for as long as patience lasts.
async fn hold<T, G>(guard: G, mut carry: Pin<&mut impl Future<Output = T>>) -> T {
    if let Ok(done) = tokio::time::timeout(LONGEST_HOLD, &mut carry).await {
        return done;
    }
    drop(guard);
    carry.await
}
