//! The events of one response, as servers really send them: an event is a JSON value, so it is complete when the value is.
//!
//! # Invariants
//!
//! - An event whose blank line is missing is delivered only if its data are one whole message.
//! - Dropping [`EventReader::next`] loses nothing.
//! - After an error or the end, the server sees that nobody reads the response.

use std::time::Duration;

use bytes::Bytes;

use super::{Http, memory::Share};
use crate::{
    message::{Body, Message},
    network::message_client::Response,
    remote::{
        error::Error,
        event_stream::{EventStream, ServerSentEvent},
    },
};

/// How long the rest of a value is waited for that is complete already: longer than any pause inside one write of a server,
/// and short enough for a host that waits.
pub(crate) const REST_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a response for which a millisecond passes before the next one: a tenth of what a processor reads in that time.
const BYTES_PER_MILLISECOND: u64 = 16 * 1024;
/// The longest rest: a server may have much to say.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// A response that is read event by event.
#[derive(Debug)]
pub(crate) struct EventReader {
    response: Response,
    arrived: Arrived,
    /// Of the memory, for the event that has begun, or was returned last.
    share: Share,
    /// Bytes that have come.
    length: u64,
    /// What has arrived was looked at, and is not whole.
    is_checked: bool,
    /// How the response ended.
    end: Option<Result<(), Error>>,
}

/// What has arrived of the response.
#[derive(Debug)]
struct Arrived {
    format: Format,
    /// Of an event stream.
    parser: EventStream,
}

/// What the response holds, whatever its label says.
#[derive(Debug)]
enum Format {
    /// Nothing has arrived that tells.
    Unknown,
    Events,
    /// One JSON value, labelled as an event stream.
    Json(Body),
}

impl EventReader {
    /// Returns a reader of events of at most `limit` bytes.
    pub(crate) fn new(response: Response, limit: usize, share: Share) -> Self {
        let arrived = Arrived { format: Format::Unknown, parser: EventStream::new(limit) };
        Self { response, arrived, share, length: 0, is_checked: false, end: None }
    }

    /// Returns a reader of a response whose first piece has been read.
    pub(crate) fn begun(response: Response, limit: usize, share: Share, first: Bytes) -> Self {
        let mut parser = EventStream::new(limit);
        parser.push(first);
        Self {
            response,
            arrived: Arrived { format: Format::Events, parser },
            share,
            length: 0,
            is_checked: false,
            end: None,
        }
    }

    /// The parser, while the response is an event stream.
    pub(crate) fn parser(&self) -> Option<&EventStream> {
        match self.arrived.format {
            Format::Unknown | Format::Events => Some(&self.arrived.parser),
            Format::Json(_) => None,
        }
    }

    /// Returns how long a server is to be left alone that has ended this response: what it has sent was work, and a server
    /// that repeats it without a pause would keep a processor busy.
    pub(crate) fn rest(&self) -> Duration {
        let milliseconds = self.length / BYTES_PER_MILLISECOND;
        Duration::from_millis(milliseconds).min(LONGEST_REST)
    }

    /// Returns the next event; `None` when the response has ended.
    ///
    /// # Errors
    /// [`Error::TooLarge`], and those of [`Http::chunk`].
    pub(crate) async fn next(&mut self, http: &Http) -> Result<Option<ServerSentEvent>, Error> {
        let event = self.next_within(http).await;
        if !matches!(event, Ok(Some(_))) {
            // What has not ended never does (WHATWG HTML §9.2.6); the stream may wait for long before it is resumed.
            self.close();
        }
        event
    }

    /// Reads no more: the server may have only one stream for a client, and holds a new one for a second.
    pub(crate) fn close(&mut self) {
        self.response.close();
        self.arrived.discard();
        self.share.free();
        self.end.get_or_insert(Ok(()));
    }

    /// Returns how many bytes have come, comments included.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    async fn next_within(&mut self, http: &Http) -> Result<Option<ServerSentEvent>, Error> {
        loop {
            if let Some(event) = self.arrived.next()? {
                return Ok(Some(event));
            }
            if let Some(end) = self.end.take() {
                self.end = Some(Ok(()));
                return end.map(|()| None);
            }
            self.share.keep(self.arrived.kept()).await?;
            let chunk = http.chunk(&mut self.response, &self.share);
            let chunk = if self.arrived.has_begun() && !self.is_checked {
                match tokio::time::timeout(REST_PATIENCE, chunk).await {
                    Ok(chunk) => chunk,
                    Err(_) => {
                        self.is_checked = true;
                        match self.arrived.take_whole() {
                            Some(event) => return Ok(Some(event)),
                            None => continue,
                        }
                    }
                }
            } else {
                chunk.await
            };
            match chunk {
                Ok(Some(chunk)) => {
                    self.is_checked = false;
                    self.length += chunk.len() as u64;
                    self.arrived.push(chunk)?;
                }
                ended => {
                    self.end = Some(ended.map(|_| ()));
                    if let Some(event) = self.arrived.take_last() {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }
}

impl Arrived {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        if matches!(self.format, Format::Unknown) {
            match first_character(&chunk) {
                // No line of an event stream begins so: a field of this name means nothing.
                Some(b'{' | b'[') => self.format = Format::Json(Body::new()),
                Some(_) => self.format = Format::Events,
                None => {}
            }
        }
        match &mut self.format {
            Format::Unknown | Format::Events => self.parser.push(chunk),
            Format::Json(body) => {
                body.push(chunk);
                let limit = self.parser.limit();
                if body.len() > limit {
                    return Err(Error::TooLarge { limit });
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<ServerSentEvent>, Error> {
        match self.format {
            Format::Unknown | Format::Events => {
                self.parser.next().map_err(|too_long| Error::TooLarge { limit: too_long.limit })
            }
            Format::Json(_) => Ok(None),
        }
    }

    /// Returns how much is kept of what has not ended, in bytes.
    fn kept(&self) -> usize {
        match &self.format {
            Format::Unknown | Format::Events => self.parser.kept(),
            Format::Json(body) => body.len(),
        }
    }

    fn has_begun(&self) -> bool {
        match &self.format {
            Format::Unknown | Format::Events => self.parser.has_begun_event(),
            Format::Json(body) => !body.is_empty(),
        }
    }

    /// Takes what has arrived if it is one whole message.
    fn take_whole(&mut self) -> Option<ServerSentEvent> {
        match &self.format {
            Format::Unknown | Format::Events => self.parser.take_unended(is_whole_message),
            Format::Json(body) if is_whole_message(body) => self.take_body(),
            Format::Json(_) => None,
        }
    }

    /// Takes what is left at the end of the response.
    fn take_last(&mut self) -> Option<ServerSentEvent> {
        match &self.format {
            Format::Json(body) if !body.is_empty() => self.take_body(),
            _ => self.take_whole(),
        }
    }

    /// Drops what has not ended.
    fn discard(&mut self) {
        match &mut self.format {
            Format::Unknown | Format::Events => self.parser.discard_unended(),
            Format::Json(body) => *body = Body::new(),
        }
    }

    fn take_body(&mut self) -> Option<ServerSentEvent> {
        let Format::Json(body) = &mut self.format else { return None };
        Some(ServerSentEvent { name: Bytes::new(), data: std::mem::take(body), id: None })
    }
}

/// Returns whether a response that is not labelled so begins as an event stream.
pub(crate) fn begins_as_events(beginning: &[u8]) -> bool {
    let line = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
    [&b"event:"[..], b"data:", b"id:", b"retry:", b":"].iter().any(|field| line.starts_with(field))
}

fn first_character(chunk: &[u8]) -> Option<u8> {
    let text = chunk.strip_prefix(b"\xef\xbb\xbf").unwrap_or(chunk);
    text.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

fn is_whole_message(data: &Body) -> bool {
    // Looked at first because the rest may be long.
    let end = data.pieces().last().map(|piece| piece.trim_ascii_end().last().copied());
    matches!(end, Some(Some(b'}' | b']'))) && Message::from_remote(data.clone()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_distinguish_events_json_and_pages() {
        for events in ["event: message\n", "data:{}", "\n\nid: 1\n", ": ping", "\u{feff}retry: 5\n"] {
            assert!(begins_as_events(events.as_bytes()), "{events:?}");
        }
        for other in ["", "{\"data:\":1}", "<html>data:", "database error", "[]"] {
            assert!(!begins_as_events(other.as_bytes()), "{other:?}");
        }
        assert_eq!(first_character("\u{feff} \n{".as_bytes()), Some(b'{'));
        assert_eq!(first_character(b"\r\n"), None);
    }

    #[test]
    fn only_a_whole_message_is_taken_unended() {
        let is_whole = |text: &str| is_whole_message(&Body::One(Bytes::copy_from_slice(text.as_bytes())));
        assert!(is_whole("{\"id\":1,\"result\":{}} \r"));
        assert!(!is_whole("{\"id\":1,\"result\":{}") && !is_whole("{}") && !is_whole("[DONE]") && !is_whole(""));
    }
}
