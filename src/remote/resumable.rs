//! An event stream that can be resumed over another response (MCP 2025-11-25, Transports, Resumability and Redelivery).
//!
//! # Invariants
//!
//! - An event that a resuming server replays is not delivered again.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use bytes::Bytes;
use log::debug;
use reqwest::{Response, header::HeaderValue};

use super::{
    error::Error,
    event_stream::{EventStream, ServerSentEvent},
    http::Http,
};
use crate::message::Message;

/// Reconnection time of a stream that named none.
pub(super) const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// After this many resumptions in a row that bring nothing, a server that asks for no pause gets one all the same.
pub(super) const EMPTY_AND_HASTY: u32 = 3;
/// Event ids kept of a stream, to know what a server replays after a resumption.
const REMEMBERED_IDS: usize = 1024;
/// How much of an event's data is compared, in bytes.
const COMPARED: usize = 256;

/// A stream over all the responses that carry it.
#[derive(Debug)]
pub(super) struct ResumableStream {
    response: Response,
    parser: EventStream,
    /// What `Last-Event-ID` is to hold; none if the stream cannot be resumed.
    pub(super) last_id: Option<Bytes>,
    /// The reconnection time the server asked for.
    pub(super) retry: Option<Duration>,
    /// Responses in a row that brought no message.
    pub(super) empty_resumptions: u32,
    resumed: bool,
    hasher: RandomState,
    seen: VecDeque<u64>,
}

impl ResumableStream {
    /// Returns the stream that `response` begins, with events of at most `limit` bytes.
    pub(super) fn new(response: Response, limit: usize) -> Self {
        Self {
            response,
            parser: EventStream::new(limit),
            last_id: None,
            retry: None,
            empty_resumptions: 0,
            resumed: false,
            hasher: RandomState::new(),
            seen: VecDeque::new(),
        }
    }

    /// Continues with another response.
    pub(super) fn resume(&mut self, response: Response, limit: usize) {
        self.response = response;
        self.parser = EventStream::new(limit);
        self.resumed = true;
        self.empty_resumptions += 1;
    }

    /// Returns the next message; `None` when the response has ended. Other events and replayed ones are skipped.
    ///
    /// # Errors
    /// [`Error::BadMessage`], after which the stream can be read on, [`Error::TooLarge`], and those of
    /// [`Http::chunk`].
    pub(super) async fn next(&mut self, http: &Http) -> Result<Option<Message>, Error> {
        loop {
            let event = self.parser.next().map_err(|too_long| Error::TooLarge { limit: too_long.limit })?;
            self.advance();
            match event {
                Some(event) => {
                    if matches!(&event.name[..], b"" | b"message") && !self.replayed(&event) {
                        self.empty_resumptions = 0;
                        return Message::from_remote(event.data).map(Some).map_err(Error::BadMessage);
                    }
                }
                None => match http.chunk(&mut self.response).await? {
                    Some(chunk) => self.parser.push(chunk),
                    None => return Ok(None),
                },
            }
        }
    }

    fn advance(&mut self) {
        self.retry = self.parser.retry().or(self.retry);
        let Some(id) = self.parser.last_id() else { return };
        if self.last_id.as_ref() != Some(id) {
            // An empty id resets the cursor (WHATWG HTML §9.2.6), and one that no header can hold cannot
            // be asked for. Copied: the chunk it came in may be large.
            let usable = !id.is_empty() && HeaderValue::from_bytes(id).is_ok();
            self.last_id = usable.then(|| Bytes::copy_from_slice(id));
        }
    }

    /// Forgets the last event, so that the next response begins a new stream.
    pub(super) fn forget(&mut self) {
        self.last_id = None;
        self.seen.clear();
    }

    /// Returns whether a resuming server sends this event again. Compares id and beginning of the data, because some
    /// servers number their events anew on each response, which is no replay.
    fn replayed(&mut self, event: &ServerSentEvent) -> bool {
        let Some(id) = event.id.as_ref().filter(|id| !id.is_empty()) else { return false };
        let hash = self.hasher.hash_one((id, event.data.len(), event.data.copy(0..COMPARED)));
        if self.resumed && self.seen.contains(&hash) {
            debug!("an event that the server replays is dropped");
            return true;
        }
        if self.seen.len() == REMEMBERED_IDS {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        false
    }
}
