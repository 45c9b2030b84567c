//! The memory for responses that are being read, all together. A limit for each message says nothing of a server that
//! answers every call of a host at once, and stops before the end of each answer.
//!
//! One message of the largest size is shared by all; one more is for a single response at a time, so that one always comes
//! to its end. Who finds no room stops reading, and waits, over HTTP/1.1. Over HTTP/2 it fails, because data that are not
//! read take the window of all streams of the connection (RFC 9113 §5.2.1). While room is needed, a response whose server is
//! silent is given up.
//!
//! # Invariants
//!
//! - The responses that are larger than [`SMALL`] take no more than two messages of the largest size, and a piece each.
//! - A response that is not larger never waits.
//! - What a dropped [`Share`] had is free.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Version;
use tokio::{sync::Notify, time::Instant};

use crate::{network::message_client::Response, remote::error::Error, sync::LockExt};

/// What a response may take without being counted, in bytes: nearly all are smaller.
const SMALL: usize = 64 * 1024;
/// How long a server may be silent in the middle of a response whose memory others need.
const STALL: Duration = Duration::from_secs(5);
/// How long a response waits for room in which none becomes free.
const ROOM_PATIENCE: Duration = Duration::from_secs(45);

/// The memory for all responses of one server.
#[derive(Debug)]
pub(super) struct Memory {
    /// The size of the largest message, in bytes.
    limit: usize,
    taken: Mutex<Taken>,
    /// Something has become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// Of what is shared, in bytes.
    shared: usize,
    /// The reserve has an owner.
    reserve: bool,
    /// Responses that wait for room.
    waiting: usize,
    /// When a response found none that does not wait.
    refused: Option<Instant>,
}

impl Taken {
    /// Whether somebody needs what a silent response has.
    fn is_needed(&self) -> bool {
        self.waiting > 0 || self.refused.is_some_and(|refused| refused.elapsed() <= STALL)
    }
}

/// What one response has of the memory.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Memory>,
    room: Room,
    may_wait: bool,
}

#[derive(Clone, Copy, Debug)]
enum Room {
    /// It is small.
    Uncounted,
    /// So many bytes of what is shared.
    Shared(usize),
    /// The reserve.
    Reserve,
}

impl Memory {
    /// Returns memory for two messages of `limit` bytes.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Returns a share for this response, which has nothing yet.
    pub(super) fn share(self: &Arc<Self>, response: &Response) -> Share {
        self.new_share(response.version() < Version::HTTP_2)
    }

    fn new_share(self: &Arc<Self>, may_wait: bool) -> Share {
        Share { memory: self.clone(), room: Room::Uncounted, may_wait }
    }
}

impl Share {
    /// Sets the size of what is kept of the response, in bytes, and waits until there is room for it. Safe to drop.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if none becomes free for too long, or if this response cannot wait.
    pub(super) async fn keep(&mut self, bytes: usize) -> Result<(), Error> {
        if self.fits(bytes) {
            return Ok(());
        }
        let limit = self.memory.limit.saturating_mul(2);
        if !self.may_wait {
            self.memory.taken.guard().refused = Some(Instant::now());
            return Err(Error::NoRoom { limit });
        }
        let memory = self.memory.clone();
        let _waiting = Waiting::new(&memory);
        loop {
            let mut freed = pin!(memory.freed.notified());
            freed.as_mut().enable(); // before the look, so that nothing is missed in between
            if self.fits(bytes) {
                return Ok(());
            }
            tokio::time::timeout(ROOM_PATIENCE, freed).await.map_err(|_| Error::NoRoom { limit })?;
        }
    }

    /// Waits for the next piece of the response. Safe to drop if `piece` is.
    ///
    /// # Errors
    /// [`Error::Silent`] if the server is silent while others need the memory of this response.
    pub(super) async fn fed<T>(&self, mut piece: Pin<&mut impl Future<Output = T>>) -> Result<T, Error> {
        if matches!(self.room, Room::Uncounted) {
            return Ok(piece.await);
        }
        loop {
            match tokio::time::timeout(STALL, piece.as_mut()).await {
                Ok(piece) => return Ok(piece),
                Err(_) if self.memory.taken.guard().is_needed() => {
                    return Err(Error::Silent { what: "more of a large response", after: STALL });
                }
                Err(_) => {}
            }
        }
    }

    /// Takes this many bytes, more or less than before, if there is room.
    fn fits(&mut self, bytes: usize) -> bool {
        if bytes <= SMALL {
            self.free();
            return true;
        }
        let mut taken = self.memory.taken.guard();
        let had = match self.room {
            Room::Uncounted => 0,
            Room::Shared(had) => had,
            Room::Reserve => return true,
        };
        let shared = taken.shared - had + bytes;
        if shared <= self.memory.limit {
            taken.shared = shared;
            self.room = Room::Shared(bytes);
        } else if !taken.reserve {
            taken.reserve = true;
            taken.shared -= had;
            self.room = Room::Reserve;
        } else {
            return false;
        }
        let has_shrunk = bytes < had;
        drop(taken);
        if has_shrunk || matches!(self.room, Room::Reserve) && had > 0 {
            self.memory.freed.notify_waiters();
        }
        true
    }

    pub(super) fn free(&mut self) {
        let mut taken = match self.room {
            Room::Uncounted => return,
            Room::Shared(_) | Room::Reserve => self.memory.taken.guard(),
        };
        match std::mem::replace(&mut self.room, Room::Uncounted) {
            Room::Uncounted => {}
            Room::Shared(had) => taken.shared -= had,
            Room::Reserve => taken.reserve = false,
        }
        drop(taken);
        self.memory.freed.notify_waiters();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.free();
    }
}

/// One response that waits.
struct Waiting<'a>(&'a Memory);

impl<'a> Waiting<'a> {
    fn new(memory: &'a Memory) -> Self {
        memory.taken.guard().waiting += 1;
        Self(memory)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.taken.guard().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABYTE: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn one_response_always_has_room() {
        let memory = Memory::new(4 * MEGABYTE);
        let (mut first, mut second, mut third) =
            (memory.new_share(true), memory.new_share(true), memory.new_share(true));
        first.keep(3 * MEGABYTE).await.unwrap();
        second.keep(MEGABYTE).await.unwrap();
        second.keep(2 * MEGABYTE).await.unwrap(); // the reserve
        third.keep(MEGABYTE).await.unwrap(); // what the second has left
        assert!(!third.fits(2 * MEGABYTE) && !first.fits(4 * MEGABYTE) && second.fits(4 * MEGABYTE));
        third.keep(SMALL).await.unwrap();
        first.keep(4 * MEGABYTE).await.unwrap();
        assert!(matches!(third.keep(SMALL + 1).await, Err(Error::NoRoom { limit }) if limit == 8 * MEGABYTE));
        assert_eq!(memory.taken.guard().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_response_goes_on_when_another_ends() {
        let memory = Memory::new(MEGABYTE);
        let (mut first, mut second, mut third) =
            (memory.new_share(true), memory.new_share(true), memory.new_share(true));
        first.keep(MEGABYTE).await.unwrap();
        second.keep(MEGABYTE).await.unwrap();
        let waiting = tokio::spawn(async move { third.keep(MEGABYTE).await });
        tokio::task::yield_now().await;
        drop(second);
        waiting.await.unwrap().unwrap();
        assert!(!memory.taken.guard().reserve, "the share is dropped with the task");
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_response_fails_only_if_others_wait() {
        let memory = Memory::new(MEGABYTE);
        let (mut first, mut second, mut third) =
            (memory.new_share(true), memory.new_share(true), memory.new_share(true));
        first.keep(MEGABYTE).await.unwrap();
        second.keep(MEGABYTE).await.unwrap();
        let never = std::future::pending::<()>;
        assert!(tokio::time::timeout(10 * STALL, first.fed(pin!(never()))).await.is_err(), "nobody waits");
        let waiting = tokio::spawn(async move { third.keep(MEGABYTE).await });
        tokio::task::yield_now().await;
        assert!(matches!(first.fed(pin!(never())).await, Err(Error::Silent { after: STALL, .. })));
        drop(first);
        waiting.await.unwrap().unwrap();
        let small = memory.new_share(true);
        assert!(tokio::time::timeout(10 * STALL, small.fed(pin!(never()))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn response_that_cannot_wait_fails_at_once() {
        let memory = Memory::new(MEGABYTE);
        let (mut first, mut second, mut third) =
            (memory.new_share(false), memory.new_share(false), memory.new_share(false));
        first.keep(MEGABYTE).await.unwrap();
        second.keep(MEGABYTE).await.unwrap();
        let began = Instant::now();
        assert!(matches!(third.keep(MEGABYTE).await, Err(Error::NoRoom { .. })));
        assert!(began.elapsed().is_zero());
        let never = std::future::pending::<()>;
        assert!(matches!(first.fed(pin!(never())).await, Err(Error::Silent { .. })), "it was needed a moment ago");
        assert!(tokio::time::timeout(10 * STALL, second.fed(pin!(never()))).await.is_err(), "and no longer is");
    }
}
