//! The channel of events from the remote end to the loop.
//!
//! # Invariants
//!
//! - No event is dropped, and none overtakes another.
//! - The events in the channel take no more memory than a host that does not read may cost.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Event;

/// Messages on the way: a burst, not a store.
const MOST: usize = 256;
/// Memory they may take together, in KiB; one message may be larger, and then goes alone.
const ROOM: u32 = 8 * 1024;

/// The end that the transports write to.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    events: mpsc::Sender<(Event, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// The end that the loop reads.
#[derive(Debug)]
pub(crate) struct EventReceiver(mpsc::Receiver<(Event, OwnedSemaphorePermit)>);

/// Both ends.
#[must_use]
pub(crate) fn channel() -> (EventSender, EventReceiver) {
    let (events, received) = mpsc::channel(MOST);
    (EventSender { events, room: Arc::new(Semaphore::new(ROOM as usize)) }, EventReceiver(received))
}

impl EventSender {
    /// Hands an event over, once there is room for it. Nothing happens if the loop has ended.
    pub(crate) async fn send(&self, event: Event) {
        let size = match &event {
            Event::Message(message) | Event::Related { message, .. } | Event::Renewed(message) => {
                message.body.len() / 1024
            }
            Event::Lost { .. } | Event::Blocked(..) => 0,
        };
        let needed = u32::try_from(size).unwrap_or(ROOM).clamp(1, ROOM);
        if let Ok(room) = self.room.clone().acquire_many_owned(needed).await {
            _ = self.events.send((event, room)).await;
        }
    }
}

impl EventReceiver {
    /// The next event; its room is free again. Safe to drop.
    pub(crate) async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await.map(|(event, _)| event)
    }
}
