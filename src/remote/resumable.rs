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
use reqwest::header::HeaderValue;

use super::{
    error::Error,
    event_stream::ServerSentEvent,
    http::{Http, event_reader::EventReader},
};
use crate::{
    mcp::method::{PROMPTS_CHANGED, RESOURCE_UPDATED, RESOURCES_CHANGED, TOOLS_CHANGED},
    message::{Malformed, Message},
};

/// Reconnection time of a stream that named none.
pub(super) const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// The longest `retry` of a server that is obeyed: one beyond it is a mistake or a trap.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// After this many resumptions in a row that bring nothing, a server that asks for no pause gets one all the same.
pub(super) const EMPTY_AND_HASTY: u32 = 3;
/// Event ids kept of a stream, to know what a server replays after a resumption.
const REMEMBERED_IDS: usize = 1024;
/// How much of an event's data is compared, in bytes.
const COMPARED: usize = 256;

/// A stream over all the responses that carry it.
#[derive(Debug)]
pub(super) struct ResumableStream {
    reader: EventReader,
    kind: StreamKind,
    /// The first event that was no message.
    pub(super) malformed: Option<Malformed>,
    last_id: Option<Bytes>,
    retry: Option<Duration>,
    /// Responses in a row that brought no message.
    pub(super) empty_resumptions: u32,
    resumed: bool,
    /// The position in this response is not to be asked for.
    is_forgotten: bool,
    hasher: RandomState,
    seen: VecDeque<u64>,
}

/// What the stream was opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// A POST, whose answer it brings.
    Answer,
    /// The GET for what the server sends unasked.
    Unasked,
}

impl ResumableStream {
    /// Returns the stream that begins with the events of `reader`.
    pub(super) fn new(reader: EventReader, kind: StreamKind) -> Self {
        Self {
            reader,
            kind,
            malformed: None,
            last_id: None,
            retry: None,
            empty_resumptions: 0,
            resumed: false,
            is_forgotten: false,
            hasher: RandomState::new(),
            seen: VecDeque::new(),
        }
    }

    /// Continues with another response.
    pub(super) fn resume(&mut self, reader: EventReader) {
        self.advance();
        self.is_forgotten = false;
        self.reader = reader;
        self.resumed = true;
        self.empty_resumptions += 1;
    }

    /// Returns what `Last-Event-ID` is to hold; none if the stream cannot be resumed.
    pub(super) fn last_id(&mut self) -> Option<Bytes> {
        self.advance();
        self.last_id.clone()
    }

    /// Returns the reconnection time the server asked for, up to [`LONGEST_RETRY`].
    pub(super) fn retry(&mut self) -> Option<Duration> {
        self.advance();
        self.retry.map(|retry| retry.min(LONGEST_RETRY))
    }

    /// Returns how long the server is left alone before the next response ([`EventReader::rest`]).
    pub(super) fn rest(&self) -> Duration {
        self.reader.rest()
    }

    /// Reads no more of this response.
    pub(super) fn close(&mut self) {
        self.advance();
        self.reader.close();
    }

    /// Returns how many bytes of this response have come, comments included.
    pub(super) fn length(&self) -> u64 {
        self.reader.length()
    }

    /// Returns whether the stream has been resumed.
    pub(super) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Returns the next message; `None` when the response has ended. Other events and replayed ones are skipped, and so are
    /// data that are no message, which some servers send as a heartbeat.
    ///
    /// # Errors
    /// [`Error::SpeaksHttpSse`] if the answer to a POST names an endpoint, [`Error::TooLarge`], and those of
    /// [`Http::chunk`].
    pub(super) async fn next(&mut self, http: &Http) -> Result<Option<Message>, Error> {
        loop {
            let event = self.reader.next(http).await;
            self.advance();
            let Some(event) = event? else { return Ok(None) };
            match &event.name[..] {
                b"" | b"message" => {
                    let is_replayed = self.is_replayed(&event);
                    if !is_replayed {
                        self.empty_resumptions = 0;
                    }
                    match http.message_of_event(event.data) {
                        Ok(message) if is_replayed && !may_be_repeated(&message) => {
                            debug!("dropping an event that the server has sent before");
                        }
                        Ok(message) => return Ok(Some(message)),
                        Err(malformed) => _ = self.malformed.get_or_insert(malformed),
                    }
                }
                // MCP 2024-11-05, HTTP with SSE: only that transport has this event.
                b"endpoint" if self.kind == StreamKind::Answer => return Err(Error::SpeaksHttpSse),
                _ => {}
            }
        }
    }

    fn advance(&mut self) {
        let Some(parser) = self.reader.parser().filter(|_| !self.is_forgotten) else { return };
        self.retry = parser.retry().or(self.retry);
        let Some(id) = parser.last_id() else { return };
        if self.last_id.as_ref() != Some(id) {
            // An empty id resets the cursor (WHATWG HTML §9.2.6), and one that no header can hold cannot
            // be asked for. Copied: the chunk it came in may be large.
            let usable = !id.is_empty() && HeaderValue::from_bytes(id).is_ok();
            self.last_id = usable.then(|| Bytes::copy_from_slice(id));
        }
    }

    /// Forgets the last event, so that the next response begins a new stream.
    pub(super) fn forget(&mut self) {
        self.is_forgotten = true;
        self.last_id = None;
        self.seen.clear();
    }

    /// Returns whether a resuming server sends this event again. Compares id and beginning of the data, because some
    /// servers number their events anew on each response, which is no replay.
    fn is_replayed(&mut self, event: &ServerSentEvent) -> bool {
        let Some(id) = event.id.as_ref().filter(|id| !id.is_empty()) else { return false };
        let hash = self.hasher.hash_one((id, event.data.len(), event.data.copy(0..COMPARED)));
        if self.resumed && self.seen.contains(&hash) {
            return true;
        }
        if self.seen.len() == REMEMBERED_IDS {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        false
    }
}

/// Returns whether a message has the same text each time it is sent, and harms nobody who gets it twice: a server that numbers
/// its events anew may mean it.
fn may_be_repeated(message: &Message) -> bool {
    matches!(message.method(), Some(TOOLS_CHANGED | PROMPTS_CHANGED | RESOURCES_CHANGED | RESOURCE_UPDATED))
}
