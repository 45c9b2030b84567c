//! Requests the host no longer wants (MCP, Cancellation) and that are waiting to be sent once more:
//! they must not go out after all.
//!
//! Must never: hold back a message that asks for something else too.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{Id, Message};

/// Cancellations kept. They matter for the seconds that a request may wait.
const KEPT: usize = 1024;

/// The latest cancellations.
#[derive(Debug, Default)]
pub struct Cancelled(Mutex<VecDeque<Id>>);

impl Cancelled {
    /// Takes note of a message on its way to the server; returns what it cancels, if anything.
    pub fn note(&self, message: &Message) -> Option<Id> {
        let mut cancelled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !cancelled.is_empty() {
            // A host that uses an id again means another request.
            message.requests().for_each(|id| cancelled.retain(|known| known != id));
        }
        if message.method() != Some("notifications/cancelled") {
            return None;
        }
        let id = cancels(message)?;
        if cancelled.len() == KEPT {
            cancelled.pop_front();
        }
        cancelled.push_back(id.clone());
        Some(id)
    }

    /// Whether a message asks for nothing but what is cancelled.
    pub fn covers(&self, message: &Message) -> bool {
        let cancelled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !cancelled.is_empty()
            && message.requests().next().is_some()
            && message.requests().all(|id| cancelled.contains(id))
    }
}

/// The request that a `notifications/cancelled` names.
#[must_use]
pub fn cancels(message: &Message) -> Option<Id> {
    #[derive(Deserialize)]
    struct Notification<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params<'a> {
        #[serde(borrow)]
        request_id: &'a RawValue,
    }
    let text = message.body.to_bytes();
    let notification = serde_json::from_slice::<Notification<'_>>(&text).ok()?;
    Some(Id::from_json(notification.params.request_id.get().as_bytes()))
}
