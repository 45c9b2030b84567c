//! The parser of the `text/event-stream` format (WHATWG HTML §9.2.5, §9.2.6).
//!
//! `sse-stream`, rmcp's parser, was the first choice; it copies each line into a `String`, has no
//! limit and made 32 MB events the slowest thing this program did. Here an event's data are slices
//! of the chunks that arrived.
//!
//! # Invariants
//!
//! - [`EventStream::next`] delivers no event before the blank line that ends it.
//! - No more of an event is kept than the limit.

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::message::Body;

/// An event that carries something: its `data` is not empty.
#[derive(Debug)]
pub struct ServerSentEvent {
    /// The `event` field; empty means `message`.
    pub name: Bytes,
    /// The `data` lines, joined by line feeds.
    pub data: Body,
    /// The `id` field of this very event, if it had one.
    pub id: Option<Bytes>,
}

/// The event is longer than the limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit} bytes")]
pub struct EventTooLong {
    /// In bytes.
    pub limit: usize,
}

/// What a line may hold beside data of the limit's length, in bytes: a field name, or an event name
/// or id where there are no data.
const LINE_ALLOWANCE: usize = 1024;

/// What an event may hold beside twice the limit, in bytes, comments and unknown fields included.
const EVENT_ALLOWANCE: usize = 64 * 1024;

/// Longest name and longest id that are kept, in bytes. The names in use have seven; an id comes back in a header, and
/// servers refuse one that is longer.
const LONGEST_FIELD: usize = 4096;

/// The byte order mark, which may stand at the beginning of a stream.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// The name of most events.
const MESSAGE: &[u8] = b"message";

/// Parser of one stream.
#[derive(Debug)]
pub struct EventStream {
    limit: usize,
    chunk: Bytes,
    /// The beginning of a line whose end has not arrived.
    line: Body,
    line_length: usize,
    first_line: bool,
    /// The last line ended in a carriage return; a line feed now belongs to that end.
    after_return: bool,
    name: Bytes,
    data: Body,
    data_lines: usize,
    data_length: usize,
    /// Of all lines since the last event, comments included.
    event_length: usize,
    id: Option<Bytes>,
    last_id: Option<Bytes>,
    retry: Option<Duration>,
}

impl EventStream {
    /// A stream whose events are at most `limit` bytes long.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            chunk: Bytes::new(),
            line: Body::new(),
            line_length: 0,
            first_line: true,
            after_return: false,
            name: Bytes::new(),
            data: Body::new(),
            data_lines: 0,
            data_length: 0,
            event_length: 0,
            id: None,
            last_id: None,
            retry: None,
        }
    }

    /// Largest event, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes the next chunk; call [`next`](Self::next) until it has no more events before the next.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "events of the chunk before are still to be taken");
        self.chunk = chunk;
    }

    /// The next complete event.
    ///
    /// # Errors
    /// [`EventTooLong`]; the stream cannot be read on.
    #[expect(clippy::should_implement_trait, reason = "an iterator would have to borrow the stream between chunks")]
    pub fn next(&mut self) -> Result<Option<ServerSentEvent>, EventTooLong> {
        loop {
            if self.after_return && !self.chunk.is_empty() {
                self.after_return = false;
                if self.chunk[0] == b'\n' {
                    self.chunk.advance(1);
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.chunk) else {
                let rest = std::mem::take(&mut self.chunk);
                self.line_length += rest.len();
                self.line.push(rest);
                return self.within_limit(self.line_length).map(|()| None);
            };
            let piece = self.chunk.split_to(end);
            self.after_return = self.chunk[0] == b'\r';
            self.chunk.advance(1);
            let line = if self.line_length == 0 {
                Body::One(piece)
            } else {
                self.line_length = 0;
                self.line.push(piece);
                std::mem::take(&mut self.line)
            };
            if let Some(event) = self.take_line(line)? {
                return Ok(Some(event));
            }
        }
    }

    /// The id of the last complete event that had one: what `Last-Event-ID` is to hold.
    #[must_use]
    pub fn last_id(&self) -> Option<&Bytes> {
        self.last_id.as_ref()
    }

    /// The reconnection time the server asked for.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Returns how much is kept of an event that has not ended, in bytes; comments count, because they may keep a chunk.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.event_length + self.line_length
    }

    /// Returns whether data of an event have arrived that has not ended.
    #[must_use]
    pub fn has_begun_event(&self) -> bool {
        self.data_lines > 0 || self.line_length > 0
    }

    /// Returns the event that has begun, without the blank line that is to end it, if its data so far satisfy `is_whole`.
    /// The standard discards such an event (WHATWG HTML §9.2.6), but some servers never write that line.
    pub fn take_unended(&mut self, is_whole: impl FnOnce(&Body) -> bool) -> Option<ServerSentEvent> {
        let mut data = self.data.clone();
        if !self.line.is_empty()
            && let (Field::Data, value) = split_field(self.line.clone())
        {
            if self.data_lines > 0 {
                data.push(Bytes::from_static(b"\n"));
            }
            data.append(value);
        }
        if data.is_empty() || !is_whole(&data) {
            return None;
        }
        self.line = Body::new();
        self.line_length = 0;
        self.data = data;
        self.dispatch()
    }

    /// Drops the event that has begun; the position and the reconnection time stay.
    pub fn discard_unended(&mut self) {
        (self.chunk, self.line, self.line_length) = (Bytes::new(), Body::new(), 0);
        (self.name, self.data, self.id) = (Bytes::new(), Body::new(), None);
        (self.data_lines, self.data_length, self.event_length) = (0, 0, 0);
    }

    fn take_line(&mut self, mut line: Body) -> Result<Option<ServerSentEvent>, EventTooLong> {
        if std::mem::take(&mut self.first_line)
            && line.pieces().first().is_some_and(|first| first.starts_with(&MARK[..1]))
            && line.copy(0..MARK.len()) == MARK
        {
            line = Body::One(line.to_bytes().slice(MARK.len()..)); // one is ignored
        }
        let length = line.len();
        if length == 0 {
            return Ok(self.dispatch());
        }
        self.event_length += length + 1;
        self.within_limit(length)?;
        let (field, value) = split_field(line);
        match field {
            Field::Data => {
                if self.data_lines > 0 {
                    self.data.push(Bytes::from_static(b"\n"));
                    self.data_length += 1;
                }
                self.data_lines += 1;
                self.data_length += value.len();
                self.data.append(value);
                self.within_limit(0)?;
            }
            // The usual name is not copied.
            Field::Event if matches!(&value, Body::One(name) if name == MESSAGE) => {
                self.name = Bytes::from_static(MESSAGE);
            }
            Field::Event => self.name = value.copy(0..LONGEST_FIELD),
            Field::Id => {
                // One that cannot be sent back is like an empty one: it resets the position (WHATWG HTML §9.2.6).
                let id = if value.len() > LONGEST_FIELD { Bytes::new() } else { value.to_bytes() };
                if !id.contains(&0) {
                    self.id = Some(id);
                }
            }
            Field::Retry => {
                let digits = value.to_bytes();
                if digits.iter().all(u8::is_ascii_digit)
                    && let Some(milliseconds) = std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok())
                {
                    self.retry = Some(Duration::from_millis(milliseconds));
                }
            }
            Field::Other => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Option<ServerSentEvent> {
        let id = self.id.take();
        if let Some(id) = &id {
            self.last_id = Some(id.clone());
        }
        self.data_lines = 0;
        self.data_length = 0;
        self.event_length = 0;
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        // An id with empty data only moves the cursor (MCP 2025-11-25, Transports: priming event).
        (!data.is_empty()).then_some(ServerSentEvent { name, data, id })
    }

    /// However the bytes are cut: a line counts by its whole length, the data by theirs.
    fn within_limit(&self, line: usize) -> Result<(), EventTooLong> {
        let limit = self.limit;
        let too_long = line > limit.saturating_add(LINE_ALLOWANCE)
            || self.data_length > limit
            || self.event_length > limit.saturating_mul(2).saturating_add(EVENT_ALLOWANCE);
        if too_long { Err(EventTooLong { limit }) } else { Ok(()) }
    }
}

/// The fields of the standard (WHATWG HTML §9.2.6).
#[derive(Clone, Copy)]
enum Field {
    Data,
    Event,
    Id,
    Retry,
    /// A comment, or a field of the future.
    Other,
}

impl Field {
    fn of(name: &[u8]) -> Self {
        match name {
            b"data" => Self::Data,
            b"event" => Self::Event,
            b"id" => Self::Id,
            b"retry" => Self::Retry,
            _ => Self::Other,
        }
    }
}

/// A line's field and value, one space after the colon taken away.
fn split_field(line: Body) -> (Field, Body) {
    /// `event:` and one more, which may be the space.
    const LONGEST: usize = 7;
    let Body::One(mut whole) = line else {
        // The line came in pieces; bring enough of its start together to see the field.
        let mut pieces = line.pieces().iter().cloned();
        let mut start = Vec::with_capacity(LONGEST);
        let mut rest = Body::new();
        for mut piece in pieces.by_ref() {
            let missing = LONGEST.saturating_sub(start.len()).min(piece.len());
            start.extend_from_slice(&piece.split_to(missing));
            rest.push(piece);
        }
        let (field, mut value) = split_field(Body::One(Bytes::from(start)));
        value.append(rest);
        return (field, value);
    };
    let Some(colon) = memchr::memchr(b':', &whole) else { return (Field::of(&whole), Body::new()) };
    let field = Field::of(&whole[..colon]);
    whole.advance(if whole.get(colon + 1) == Some(&b' ') { colon + 2 } else { colon + 1 });
    (field, Body::One(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<(String, String, Option<String>)> {
        let mut stream = EventStream::new(1000);
        let mut events = Vec::new();
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        for chunk in chunks {
            stream.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = stream.next().unwrap() {
                events.push((text(event.name), text(event.data.to_bytes()), event.id.map(text)));
            }
        }
        events
    }

    fn data(chunks: &[&[u8]]) -> Vec<String> {
        events(chunks).into_iter().map(|(_, data, _)| data).collect()
    }

    #[test]
    fn event_ends_with_any_blank_line() {
        for text in ["data: a\n\ndata:b\n\n", "data: a\r\rdata:b\r\r", "data: a\r\n\r\ndata:b\r\n\r\n"] {
            assert_eq!(data(&[text.as_bytes()]), ["a", "b"], "{text:?}");
        }
        assert!(data(&[b"data: never ended\n"]).is_empty());
    }

    #[test]
    fn events_are_same_however_bytes_are_cut() {
        let text = "\u{feff}: hello\r\nevent: message\r\ndata: {\"a\":\r\ndata:  \"\u{e9}\"}\r\nid: 7\r\n\r\nunknown: x\ndata\n\nid\ndata: z\n\n";
        let whole = events(&[text.as_bytes()]);
        assert_eq!(
            whole,
            [
                ("message".into(), "{\"a\":\n \"\u{e9}\"}".into(), Some("7".into())),
                (String::new(), "z".into(), Some(String::new())),
            ]
        );
        for cut in 0..text.len() {
            let (left, right) = text.as_bytes().split_at(cut);
            assert_eq!(events(&[left, right]), whole, "cut at {cut}");
        }
        let single: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(events(&single), whole);
    }

    #[test]
    fn unended_event_is_taken_if_whole() {
        for text in ["id: 1\ndata: {}\n", "id: 1\ndata: {}", "id: 1\r\ndata: {}\r\n", "id: 1\ndata: {\ndata:}"] {
            let mut stream = EventStream::new(100);
            assert!(!stream.has_begun_event());
            stream.push(Bytes::copy_from_slice(text.as_bytes()));
            assert!(stream.next().unwrap().is_none());
            assert!(stream.has_begun_event() && stream.take_unended(|_| false).is_none(), "{text:?}");
            let event = stream.take_unended(|_| true).unwrap();
            assert!(matches!(&event.data.to_bytes()[..], b"{}" | b"{\n}"), "{text:?}");
            assert_eq!((event.id.as_deref(), stream.has_begun_event()), (Some(&b"1"[..]), false), "{text:?}");
            // The line that ends it comes after all.
            stream.push(Bytes::from_static(b"\n\ndata: 2\n\n"));
            assert_eq!(stream.next().unwrap().unwrap().data.to_bytes(), "2", "{text:?}");
        }
        let mut stream = EventStream::new(100);
        stream.push(Bytes::from_static(b"event: endpoint\n: a comment"));
        assert!(stream.next().unwrap().is_none());
        assert!(stream.take_unended(|_| true).is_none());
    }

    #[test]
    fn priming_event_only_sets_last_id() {
        let mut stream = EventStream::new(100);
        stream.push(Bytes::from_static(b"retry: 500\nid: first\ndata:\n\nid: second\n"));
        assert!(stream.next().unwrap().is_none());
        assert_eq!(stream.last_id().unwrap(), "first", "the second event has not ended");
        assert_eq!(stream.retry(), Some(Duration::from_millis(500)));
    }

    #[test]
    fn endless_name_and_id_are_not_kept() {
        let long = "x".repeat(LONGEST_FIELD + 1);
        let mut stream = EventStream::new(100_000);
        stream.push(Bytes::from(format!("id: 1\ndata: a\n\nevent: {long}\nid: {long}\ndata: b\n\n")));
        assert_eq!(stream.next().unwrap().unwrap().id.unwrap(), "1");
        let event = stream.next().unwrap().unwrap();
        assert_eq!((event.name.len(), event.id.unwrap().len()), (LONGEST_FIELD, 0));
        assert_eq!(stream.last_id().unwrap(), "");
    }

    #[test]
    fn null_in_id_and_invalid_retry_are_ignored() {
        let mut stream = EventStream::new(100);
        stream.push(Bytes::from_static(b"id: a\0b\nretry: soon\nretry: -1\ndata: x\n\n"));
        assert_eq!(stream.next().unwrap().unwrap().id, None);
        assert_eq!((stream.last_id(), stream.retry()), (None, None));
    }

    #[test]
    fn oversized_event_is_refused_early() {
        let mut stream = EventStream::new(10);
        stream.push(Bytes::from_static(b"data: 0123456789\n\n"));
        assert!(stream.next().unwrap().is_some());
        stream.push(Bytes::from_static(b"data: 01234567890\n"));
        assert_eq!(stream.next().unwrap_err(), EventTooLong { limit: 10 });
        let mut endless = EventStream::new(10);
        endless.push(Bytes::from(vec![b'x'; 10 + LINE_ALLOWANCE + 1]));
        assert_eq!(endless.next().unwrap_err(), EventTooLong { limit: 10 });
        let mut lines = EventStream::new(10);
        lines.push(Bytes::from_static(b"data: 01234\ndata: 01234\ndata: 01234\ndata: 01234\n"));
        assert_eq!(lines.next().unwrap_err(), EventTooLong { limit: 10 });
    }
}
