//! The channel of events from the remote end to the loop.
//!
//! # Invariants
//!
//! - No event is dropped, and none overtakes another.
//! - The events in the channel take no more memory than a host that does not read may cost.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::Event;

/// Messages on the way: a burst, not a store.
const MOST: u32 = 256;
/// Memory they may take together, in KiB; one message may be larger, and then goes alone.
const ROOM: u32 = 8 * 1024;

/// The end that the transports write to.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    events: mpsc::UnboundedSender<(Event, Taken)>,
    /// In KiB. Each message takes some, so that it limits their number, too.
    room: Arc<Semaphore>,
}

/// The end that the loop reads.
#[derive(Debug)]
pub(crate) struct EventReceiver {
    events: mpsc::UnboundedReceiver<(Event, Taken)>,
    room: Arc<Semaphore>,
}

/// What an event takes of the room, in KiB.
type Taken = u32;

/// Both ends.
#[must_use]
pub(crate) fn channel() -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM as usize));
    (EventSender { events: sender, room: room.clone() }, EventReceiver { events: receiver, room })
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
        let taken = u32::try_from(size).unwrap_or(ROOM).clamp(ROOM / MOST, ROOM);
        if let Ok(room) = self.room.acquire_many(taken).await {
            room.forget(); // the receiver gives it back
            _ = self.events.send((event, taken));
        }
    }
}

impl EventReceiver {
    /// The next event; its room is free again. Safe to drop.
    pub(crate) async fn recv(&mut self) -> Option<Event> {
        let received = self.events.recv().await?;
        Some(self.free(received))
    }

    /// The same, if it is here already.
    pub(crate) fn try_recv(&mut self) -> Option<Event> {
        let received = self.events.try_recv().ok()?;
        Some(self.free(received))
    }

    fn free(&self, (event, taken): (Event, Taken)) -> Event {
        self.room.add_permits(taken as usize);
        event
    }
}

/// Nobody waits for room.
impl Drop for EventReceiver {
    fn drop(&mut self) {
        self.room.close();
    }
}
