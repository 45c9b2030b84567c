//! What comes on a response stream after its answer. Servers should end the stream then (MCP 2025-11-25, Transports, Sending
//! Messages to the Server), and a connection that is not read to its end cannot be used again.
//!
//! # Invariants
//!
//! - Reading beyond an answer is bounded in time and number.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{http::Http, resumable::ResumableStream};
use crate::message::Message;

/// How long a stream is read on in which nothing comes.
const QUIET_REST: Duration = Duration::from_secs(5);
/// How long a stream is read on at all.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// The most streams read beyond their answer at a time: each is a connection.
const MOST_TRAILS: usize = 64;

/// The streams of one connection that are read beyond their answer.
#[derive(Debug)]
pub(super) struct Trails(Arc<Semaphore>);

/// The rest of one stream.
#[derive(Debug)]
pub(super) struct Trail {
    trails: Arc<Semaphore>,
    /// Held once something is waited for.
    permit: Option<OwnedSemaphorePermit>,
    /// When it is read no longer, once something has come or is waited for.
    end: Option<Instant>,
}

impl Trails {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MOST_TRAILS)))
    }

    /// Returns the rest of a stream that is not answered yet.
    pub(super) fn begin(&self) -> Trail {
        Trail { trails: self.0.clone(), permit: None, end: None }
    }
}

impl Trail {
    /// Returns the next message after the answer; `None` if there is none, or it is not waited for any longer.
    pub(super) async fn next(&mut self, stream: &mut ResumableStream, http: &Http) -> Option<Message> {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return None;
        }
        let mut next = pin!(stream.next(http));
        // Most servers end the stream with the answer, and a timer costs more than another look.
        if let Some(next) = at_hand(next.as_mut()).await {
            let message = next.ok().flatten()?;
            self.end.get_or_insert_with(|| Instant::now() + LONGEST_REST);
            return Some(message);
        }
        if self.permit.is_none() {
            self.permit = Some(self.trails.clone().try_acquire_owned().ok()?);
        }
        let now = Instant::now();
        let end = *self.end.get_or_insert(now + LONGEST_REST);
        timeout_at(end.min(now + QUIET_REST), next).await.ok()?.ok()?
    }
}

/// Returns what comes at once: now, or after the tasks that are ready have had their turn.
async fn at_hand<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut is_second_look = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(ready) => Poll::Ready(Some(ready)),
        Poll::Pending if is_second_look => Poll::Ready(None),
        Poll::Pending => {
            is_second_look = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
