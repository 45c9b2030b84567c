//! Requests that the host has cancelled (MCP 2025-11-25, Cancellation), while they may be waiting to be sent again.
//!
//! # Invariants
//!
//! - A message that asks for something else too is not held back.

use std::{collections::VecDeque, sync::Mutex};

use crate::{
    mcp::method::CANCELLED,
    message::{Id, Message, peek::cancelled_id},
    sync::LockExt,
};

/// Cancellations kept. They matter for the seconds that a request may wait.
const KEPT: usize = 1024;

/// The latest cancellations.
#[derive(Debug, Default)]
pub(super) struct Cancelled(Mutex<VecDeque<Id>>);

impl Cancelled {
    /// Notes a message on its way to the server; returns the id that it cancels, if any.
    pub(super) fn note(&self, message: &Message) -> Option<Id> {
        let mut cancelled = self.0.guard();
        if !cancelled.is_empty() {
            // A host that uses an id again means another request.
            message.requests().for_each(|id| cancelled.retain(|known| known != id));
        }
        if message.method() != Some(CANCELLED) {
            return None;
        }
        let id = cancelled_id(message)?;
        if cancelled.len() == KEPT {
            cancelled.pop_front();
        }
        cancelled.push_back(id.clone());
        Some(id)
    }

    /// Returns whether a message asks for nothing but what is cancelled.
    pub(super) fn covers(&self, message: &Message) -> bool {
        let cancelled = self.0.guard();
        !cancelled.is_empty()
            && message.requests().next().is_some()
            && message.requests().all(|id| cancelled.contains(id))
    }
}
