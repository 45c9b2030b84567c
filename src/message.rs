//! One JSON-RPC 2.0 message: its bytes, and the little we may read of them.
//!
//! A message is never parsed into a value and written again: whatever a newer revision of MCP puts
//! into it must arrive as it left. What is read is the envelope (JSON-RPC 2.0 §4, §5, §6): is this
//! one JSON value (RFC 8259), is it a request, a notification, a response or a batch, what are its
//! `id` and `method`. One pass over the bytes finds all of that, whether they come in one piece or
//! in a thousand.
//!
//! Must never: change a byte, except a line break between two tokens, which becomes a space because
//! a line break ends a message on stdio (MCP, Transports, stdio).

use std::{fmt, ops::Range};

use bytes::{Bytes, BytesMut};

/// A JSON-RPC message (or batch) as it crosses: bytes and envelope.
#[derive(Clone, Debug)]
pub struct Message {
    /// The text, without the line break that ends it on stdio.
    pub body: Body,
    /// What kind of message it is.
    pub shape: Shape,
    /// Where the `id` value stands, or the place right after the opening brace if there is none.
    id_at: Range<usize>,
}

/// What a message is (JSON-RPC 2.0 §4 to §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Has a method and an id: wants exactly one answer.
    Request {
        /// Chosen by the sender.
        id: Id,
        /// Decoded.
        method: Box<str>,
    },
    /// Has a method and no id.
    Notification {
        /// Decoded.
        method: Box<str>,
    },
    /// Has a result or an error. `id` is absent only in answers to what could not be read.
    Response {
        /// The id of the request that this answers.
        id: Option<Id>,
    },
    /// An array of messages (MCP 2025-03-26 only).
    Batch(Vec<Part>),
}

/// One element of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A message, and where it stands in the batch.
    Message(Shape, Range<usize>),
    /// Valid JSON that is not a JSON-RPC message, with its id where it has one.
    Invalid(Option<Id>),
}

/// Why some bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not one JSON value: the sender gets `-32700`.
    #[error("not JSON, at byte {at}")]
    NotJson {
        /// Offset of the first byte that no JSON text has there.
        at: usize,
    },
    /// JSON, but not JSON-RPC: the sender gets `-32600` under the id.
    #[error("JSON, but not a JSON-RPC message")]
    NotJsonRpc {
        /// Where there is one.
        id: Option<Id>,
    },
}

impl Message {
    /// Reads what a host sent: one line. Strict, because a host that sends something else should
    /// be told at once rather than by a server.
    ///
    /// # Errors
    /// [`Malformed`], with the id to answer under where there is one.
    pub fn from_host(line: Bytes) -> Result<Self, Malformed> {
        let mut scanner = Scanner::default();
        scanner.feed(&line)?;
        scanner.finish()?;
        Self::read(Body::One(line), scanner, Strictness::Host)
    }

    /// Reads what a server sent, all of which is here; its line breaks are taken out.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_remote(body: Body) -> Result<Self, Malformed> {
        let mut assembly = Assembly::default();
        match body {
            Body::One(piece) => assembly.push(piece)?,
            Body::Many(pieces) => pieces.into_iter().try_for_each(|piece| assembly.push(piece))?,
        }
        assembly.finish()
    }

    /// Reads what this program wrote itself.
    ///
    /// # Errors
    /// [`Malformed`] if it is no message.
    pub fn from_text(text: String) -> Result<Self, Malformed> {
        Self::from_host(Bytes::from(text))
    }

    fn read(body: Body, scanner: Scanner, strictness: Strictness) -> Result<Self, Malformed> {
        let Scanner { array, mut found, .. } = scanner;
        if array {
            if found.is_empty() {
                return Err(Malformed::NotJsonRpc { id: None }); // JSON-RPC 2.0 §6: an empty batch is invalid
            }
            let parts = found.iter().map(|envelope| match envelope.shape(&body, strictness) {
                Ok(shape) => Part::Message(shape, envelope.span.clone()),
                Err(id) => Part::Invalid(id),
            });
            let shape = Shape::Batch(parts.collect());
            return Ok(Self { body, shape, id_at: 0..0 });
        }
        let Some(envelope) = found.pop() else {
            return Err(Malformed::NotJsonRpc { id: None });
        };
        let shape = envelope.shape(&body, strictness).map_err(|id| Malformed::NotJsonRpc { id })?;
        let after_brace = envelope.span.start + 1;
        let id_at = envelope.id.unwrap_or(after_brace..after_brace);
        Ok(Self { body, shape, id_at })
    }

    /// The method of a request or notification.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.shape {
            Shape::Request { method, .. } | Shape::Notification { method } => Some(method),
            Shape::Response { .. } | Shape::Batch(_) => None,
        }
    }

    /// The ids this message wants answers for, in order: none, one, or those of a batch.
    pub fn requests(&self) -> impl Iterator<Item = &Id> {
        let single = match &self.shape {
            Shape::Request { id, .. } => Some(id),
            _ => None,
        };
        let parts = match &self.shape {
            Shape::Batch(parts) => parts.as_slice(),
            _ => &[],
        };
        single.into_iter().chain(parts.iter().filter_map(|part| match part {
            Part::Message(Shape::Request { id, .. }, _) => Some(id),
            _ => None,
        }))
    }

    /// The same message under another id: that one value is exchanged (or put first where there was
    /// none), every other byte stays.
    #[must_use]
    pub fn with_id(&self, id: &Id) -> Self {
        let text = self.body.to_bytes();
        let mut spliced = BytesMut::with_capacity(text.len() + id.0.len() + 6);
        spliced.extend_from_slice(&text[..self.id_at.start]);
        let id_at = if self.id_at.is_empty() {
            spliced.extend_from_slice(b"\"id\":");
            let start = spliced.len();
            spliced.extend_from_slice(&id.0);
            let end = spliced.len();
            spliced.extend_from_slice(b",");
            start..end
        } else {
            spliced.extend_from_slice(&id.0);
            self.id_at.start..spliced.len()
        };
        spliced.extend_from_slice(&text[self.id_at.end..]);
        let shape = match self.shape.clone() {
            Shape::Request { method, .. } => Shape::Request { id: id.clone(), method },
            Shape::Response { .. } => Shape::Response { id: Some(id.clone()) },
            other => other,
        };
        Self { body: Body::One(spliced.freeze()), shape, id_at }
    }

    /// Every message of a batch by itself, each the very bytes it had there; `Err` holds the id, if
    /// any, of an element that is no message. A single message is returned as it is.
    #[must_use]
    pub fn split(self) -> Vec<Result<Self, Option<Id>>> {
        let Shape::Batch(parts) = self.shape else { return vec![Ok(self)] };
        let text = self.body.to_bytes();
        let one = |part| match part {
            Part::Message(_, span) => Self::from_remote(Body::One(text.slice(span))).map_err(|_| None),
            Part::Invalid(id) => Err(id),
        };
        parts.into_iter().map(one).collect()
    }
}

/// How much of JSON-RPC's envelope is demanded.
#[derive(Clone, Copy)]
enum Strictness {
    /// `"jsonrpc":"2.0"` must be there (JSON-RPC 2.0 §4).
    Host,
    /// A server's message is the host's to judge; only its kind must be clear.
    Remote,
}

/// The bytes of a message, in the pieces in which they came.
#[derive(Clone, Debug)]
pub enum Body {
    /// Contiguous.
    One(Bytes),
    /// In order; joining them would double the memory of a large answer.
    Many(Vec<Bytes>),
}

impl Body {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self::Many(Vec::new())
    }

    /// Adds the next piece.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        match self {
            Self::Many(pieces) if pieces.is_empty() => *self = Self::One(piece),
            Self::Many(pieces) => pieces.push(piece),
            Self::One(first) => *self = Self::Many(vec![std::mem::take(first), piece]),
        }
    }

    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        match self {
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }

    /// Total length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces().iter().all(Bytes::is_empty)
    }

    /// All bytes in one piece: free for [`Body::One`], a copy otherwise.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::One(piece) => piece.clone(),
            Self::Many(_) => self.copy(0..self.len()),
        }
    }

    /// A copy of some of the bytes; what lies beyond the end is left out.
    #[must_use]
    pub fn copy(&self, span: Range<usize>) -> Bytes {
        let mut copied = BytesMut::with_capacity(span.len());
        let mut at = 0;
        for piece in self.pieces() {
            let from = span.start.clamp(at, at + piece.len()) - at;
            let to = span.end.clamp(at, at + piece.len()) - at;
            copied.extend_from_slice(&piece[from..to]);
            at += piece.len();
        }
        copied.freeze()
    }

    /// Those at the end go, those between tokens become spaces; the scanner has made sure that
    /// there are no others.
    fn take_out_line_breaks(&mut self) {
        let trim = |piece: &mut Bytes| {
            let kept = piece.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
            piece.truncate(kept.map_or(0, |last| last + 1));
            !piece.is_empty()
        };
        match self {
            Self::One(piece) => {
                trim(piece);
                blank_line_breaks(piece);
            }
            Self::Many(pieces) => {
                while let Some(last) = pieces.last_mut()
                    && !trim(last)
                {
                    pieces.pop();
                }
                pieces.iter_mut().for_each(blank_line_breaks);
            }
        }
    }
}

fn blank_line_breaks(piece: &mut Bytes) {
    let Some(first) = memchr::memchr2(b'\n', b'\r', piece) else { return };
    let mut bytes = std::mem::take(piece).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    for byte in &mut bytes[first..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    *piece = bytes.freeze();
}

impl Default for Body {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts a message together from the pieces of a response body or an event, checking while they
/// come: nothing is a message before its last byte is here.
#[derive(Default)]
pub struct Assembly {
    scanner: Scanner,
    body: Body,
}

impl Assembly {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Malformed::NotJson`] as soon as the text cannot be JSON any more.
    pub fn push(&mut self, piece: Bytes) -> Result<(), Malformed> {
        self.scanner.feed(&piece)?;
        self.body.push(piece);
        Ok(())
    }

    /// The message, now that all of it is here.
    ///
    /// # Errors
    /// [`Malformed`] if the text ended early or is not JSON-RPC.
    pub fn finish(mut self) -> Result<Message, Malformed> {
        self.scanner.finish()?;
        self.body.take_out_line_breaks();
        Message::read(self.body, self.scanner, Strictness::Remote)
    }
}

/// A line too long to keep: only what is needed to answer it is.
#[derive(Default)]
pub struct Skim {
    scanner: Scanner,
    broken: bool,
    length: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Skim {
    /// Members of the envelope stand at the beginning or at the end; this much of both is kept, in
    /// bytes.
    const KEPT: usize = 4096;

    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.broken = self.broken || self.scanner.feed(piece).is_err();
        let missing = Self::KEPT.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..missing]);
        self.length += piece.len();
        self.tail.extend_from_slice(&piece[piece.len().saturating_sub(Self::KEPT)..]);
        self.tail.drain(..self.tail.len().saturating_sub(Self::KEPT));
    }

    /// The id, if the line was a request and its id could be kept.
    #[must_use]
    pub fn request(mut self) -> Option<Id> {
        if self.broken || self.scanner.finish().is_err() || self.scanner.array {
            return None;
        }
        let envelope = self.scanner.found.pop()?;
        let span = envelope.id.filter(|_| envelope.method.is_some())?;
        let tail_start = self.length - self.tail.len();
        let raw = match self.head.get(span.clone()) {
            Some(raw) => raw,
            None => self.tail.get(span.start.checked_sub(tail_start)?..span.end - tail_start)?,
        };
        Some(Id::from_json(raw))
    }
}

/// A request id: its JSON text, of whatever kind, as the sender wrote it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Bytes);

impl Id {
    /// An id of our own making: a JSON string of these characters, which need no escape.
    #[must_use]
    pub fn own(text: &str) -> Self {
        Self(Bytes::from(format!("\"{text}\"")))
    }

    /// An id from its JSON text.
    #[must_use]
    pub fn from_json(raw: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(raw))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("null") // the scanner has checked it
    }

    /// Whether this is the JSON `null`, which answers nobody in particular.
    #[must_use]
    pub fn is_null(&self) -> bool {
        &self.0[..] == b"null"
    }

    /// Whether both texts stand for one value: `1.0` and `1`, `"a"` and `"\u0061"`. A server may
    /// write an id in another way than it came.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let (mine, theirs) = (self.as_json(), other.as_json());
        match (mine.as_bytes()[0], theirs.as_bytes()[0]) {
            (b'"', b'"') => {
                let decode = |raw| serde_json::from_str::<String>(raw).ok();
                decode(mine).is_some_and(|text| decode(theirs) == Some(text))
            }
            (b'-' | b'0'..=b'9', b'-' | b'0'..=b'9') => {
                matches!((mine.parse::<f64>(), theirs.parse::<f64>()), (Ok(mine), Ok(theirs)) if mine == theirs)
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_json())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_json())
    }
}

/// What the scanner found of one message object. Where a member occurs twice the last one counts,
/// as in every common parser.
#[derive(Debug, Default)]
struct Envelope {
    span: Range<usize>,
    /// `false` for an element of an array that is not an object.
    object: bool,
    jsonrpc: Option<Range<usize>>,
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    outcome: Option<Range<usize>>,
}

impl Envelope {
    fn shape(&self, body: &Body, strictness: Strictness) -> Result<Shape, Option<Id>> {
        let id = || self.id.clone().map(|span| Id(body.copy(span)));
        let text = |span: &Option<Range<usize>>| {
            let raw = body.copy(span.clone()?);
            match raw.as_ref() {
                [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => {
                    std::str::from_utf8(plain).ok().map(Box::<str>::from)
                }
                // A lone surrogate is legal in JSON and no character: then the text stands as it is.
                [b'"', escaped @ .., b'"'] => Some(
                    serde_json::from_slice(&raw)
                        .unwrap_or_else(|_| String::from_utf8_lossy(escaped).into_owned().into()),
                ),
                _ => None,
            }
        };
        if !self.object {
            return Err(None);
        }
        if matches!(strictness, Strictness::Host) && text(&self.jsonrpc).as_deref() != Some("2.0") {
            return Err(id());
        }
        match (&self.method, &self.outcome) {
            (Some(_), _) => match (text(&self.method), id()) {
                (Some(method), Some(id)) => Ok(Shape::Request { id, method }),
                (Some(method), None) => Ok(Shape::Notification { method }),
                (None, id) => Err(id),
            },
            (None, Some(_)) => match (strictness, id()) {
                (Strictness::Host, None) => Err(None),
                (_, id) => Ok(Shape::Response { id }),
            },
            (None, None) => Err(id()),
        }
    }
}

/// A member of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Jsonrpc,
    Id,
    Method,
    Outcome,
}

/// Longest text of a key of interest: `jsonrpc`, each character as a `\uXXXX` escape.
const LONGEST_KEY: usize = 6 * "jsonrpc".len();

/// The incremental reader of RFC 8259's grammar.
struct Scanner {
    state: State,
    /// Bytes of earlier pieces.
    before: usize,
    /// One bit for each open container, 1 for an object; as deep as memory allows.
    containers: Vec<u64>,
    depth: usize,
    /// The text is an array: the messages are its elements.
    array: bool,
    found: Vec<Envelope>,
    /// Text of the key being read, if it may be one of interest.
    key: [u8; LONGEST_KEY],
    key_length: usize,
    reading_key: bool,
    member: Option<Member>,
    value_start: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Value,
            before: 0,
            containers: Vec::new(),
            depth: 0,
            array: false,
            found: Vec::new(),
            key: [0; LONGEST_KEY],
            key_length: 0,
            reading_key: false,
            member: None,
            value_start: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come.
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After `,` in an object.
    Key,
    Colon,
    /// After a value inside a container.
    CommaOrEnd,
    Text(Text),
    Number(Number),
    /// Inside `true`, `false` or `null`: what must still come.
    Literal(&'static [u8]),
    /// After the outermost value: white space only.
    End,
}

/// Inside a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Plain,
    Escape,
    /// Hexadecimal digits still to come.
    Hex(u8),
    /// Inside a UTF-8 sequence (RFC 3629 §4): bytes still to come, and the range of the next one.
    Utf8(u8, u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Scanner {
    fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        let mut i = 0;
        while let Some(&byte) = piece.get(i) {
            let at = self.before + i;
            let unexpected = Malformed::NotJson { at };
            match self.state {
                State::Text(Text::Plain) => {
                    let plain = plain_prefix(&piece[i..]);
                    if plain > 0 {
                        self.keep_key(&piece[i..i + plain]);
                        i += plain;
                        continue;
                    }
                    self.state = match byte {
                        b'"' => self.text_end(at + 1),
                        b'\\' => State::Text(Text::Escape),
                        0xc2..=0xdf => State::Text(Text::Utf8(1, 0x80, 0xbf)),
                        0xe0 => State::Text(Text::Utf8(2, 0xa0, 0xbf)),
                        0xed => State::Text(Text::Utf8(2, 0x80, 0x9f)),
                        0xe1..=0xef => State::Text(Text::Utf8(2, 0x80, 0xbf)),
                        0xf0 => State::Text(Text::Utf8(3, 0x90, 0xbf)),
                        0xf1..=0xf3 => State::Text(Text::Utf8(3, 0x80, 0xbf)),
                        0xf4 => State::Text(Text::Utf8(3, 0x80, 0x8f)),
                        _ => return Err(unexpected),
                    };
                    if byte != b'"' {
                        self.keep_key(&[byte]);
                    }
                }
                State::Text(inner) => {
                    self.keep_key(&[byte]);
                    self.state = State::Text(match (inner, byte) {
                        (Text::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Text::Plain,
                        (Text::Escape, b'u') => Text::Hex(4),
                        (Text::Hex(1), _) if byte.is_ascii_hexdigit() => Text::Plain,
                        (Text::Hex(left), _) if byte.is_ascii_hexdigit() => Text::Hex(left - 1),
                        (Text::Utf8(left, low, high), _) if (low..=high).contains(&byte) => {
                            if left == 1 {
                                Text::Plain
                            } else {
                                Text::Utf8(left - 1, 0x80, 0xbf)
                            }
                        }
                        _ => return Err(unexpected),
                    });
                }
                State::Number(number) => {
                    use Number::{Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero};
                    self.state = State::Number(match (number, byte) {
                        (Minus, b'0') => Zero,
                        (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Integer,
                        (Zero | Integer, b'.') => Point,
                        (Point | Fraction, b'0'..=b'9') => Fraction,
                        (Zero | Integer | Fraction, b'e' | b'E') => Exponent,
                        (Exponent, b'+' | b'-') => ExponentSign,
                        (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
                        (Zero | Integer | Fraction | ExponentDigits, _) => {
                            self.state = self.value_end(at);
                            continue; // the byte belongs to what follows
                        }
                        _ => return Err(unexpected),
                    });
                }
                State::Literal(rest) => match rest.split_first() {
                    Some((expected, rest)) if *expected == byte => {
                        self.state = if rest.is_empty() { self.value_end(at + 1) } else { State::Literal(rest) };
                    }
                    _ => return Err(unexpected),
                },
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
                State::ValueOrEnd if byte == b']' => self.state = self.close(at),
                State::Value | State::ValueOrEnd => self.state = self.value_start(byte, at)?,
                State::KeyOrEnd if byte == b'}' => self.state = self.close(at),
                State::Key | State::KeyOrEnd if byte == b'"' => {
                    self.reading_key = true;
                    self.key_length = 0;
                    self.state = State::Text(Text::Plain);
                }
                State::Colon if byte == b':' => self.state = State::Value,
                State::CommaOrEnd if byte == b',' => {
                    self.state = if self.in_object() { State::Key } else { State::Value };
                }
                State::CommaOrEnd if byte == if self.in_object() { b'}' } else { b']' } => {
                    self.state = self.close(at);
                }
                _ => return Err(unexpected),
            }
            i += 1;
        }
        self.before += piece.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        if let State::Number(Number::Zero | Number::Integer | Number::Fraction | Number::ExponentDigits) = self.state {
            self.state = self.value_end(self.before);
        }
        if self.state == State::End { Ok(()) } else { Err(Malformed::NotJson { at: self.before }) }
    }

    /// How deep the members of a message object lie.
    fn level(&self) -> usize {
        1 + usize::from(self.array)
    }

    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.containers[top / 64] >> (top % 64) & 1 == 1
    }

    fn value_start(&mut self, byte: u8, at: usize) -> Result<State, Malformed> {
        let outermost = self.depth == 0;
        let message = if self.array { self.depth == 1 } else { outermost && byte != b'[' };
        if message {
            self.found.push(Envelope { span: at..at, object: byte == b'{', ..Envelope::default() });
        }
        if self.depth == self.level() {
            self.value_start = at;
        }
        Ok(match byte {
            b'{' => self.open(true),
            b'[' => {
                self.array |= outermost;
                self.open(false)
            }
            b'"' => State::Text(Text::Plain),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            _ => return Err(Malformed::NotJson { at }),
        })
    }

    fn open(&mut self, object: bool) -> State {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.containers.len() {
            self.containers.push(0);
        }
        let mask = 1 << bit;
        if object {
            self.containers[word] |= mask;
        } else {
            self.containers[word] &= !mask;
        }
        self.depth += 1;
        if object { State::KeyOrEnd } else { State::ValueOrEnd }
    }

    fn close(&mut self, at: usize) -> State {
        self.depth -= 1;
        self.value_end(at + 1)
    }

    /// A value has ended before `end`, at the present depth.
    fn value_end(&mut self, end: usize) -> State {
        let level = self.level();
        if self.depth == level
            && let Some(member) = self.member.take()
            && let Some(envelope) = self.found.last_mut()
        {
            let span = Some(self.value_start..end);
            match member {
                Member::Jsonrpc => envelope.jsonrpc = span,
                Member::Id => envelope.id = span,
                Member::Method => envelope.method = span,
                Member::Outcome => envelope.outcome = span,
            }
        }
        if self.depth == level - 1
            && let Some(envelope) = self.found.last_mut()
        {
            envelope.span.end = end;
        }
        if self.depth == 0 { State::End } else { State::CommaOrEnd }
    }

    fn text_end(&mut self, end: usize) -> State {
        if !std::mem::take(&mut self.reading_key) {
            return self.value_end(end);
        }
        if self.depth == self.level() {
            self.member = self.key_member();
        }
        State::Colon
    }

    fn keep_key(&mut self, text: &[u8]) {
        if self.reading_key && self.depth == self.level() {
            // A longer key is none of ours; one byte past the end says so.
            let room = LONGEST_KEY.saturating_sub(self.key_length).min(text.len());
            if room > 0 {
                self.key[self.key_length..self.key_length + room].copy_from_slice(&text[..room]);
            }
            self.key_length += text.len();
        }
    }

    fn key_member(&self) -> Option<Member> {
        let raw = self.key.get(..self.key_length)?;
        let decoded;
        let name = if raw.contains(&b'\\') {
            // Rare: a key may be written with escapes and still be the same key (RFC 8259 §8.3).
            let quoted = [b"\"", raw, b"\""].concat();
            decoded = serde_json::from_slice::<String>(&quoted).ok()?;
            decoded.as_bytes()
        } else {
            raw
        };
        match name {
            b"jsonrpc" => Some(Member::Jsonrpc),
            b"id" => Some(Member::Id),
            b"method" => Some(Member::Method),
            b"result" | b"error" => Some(Member::Outcome),
            _ => None,
        }
    }
}

/// How many bytes from the start are plain string content: ASCII, no quote, no backslash, no
/// control character. Eight at a time: a long text is most of a long message.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let zero_byte = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let special = |word: u64| {
        let quote = zero_byte(word ^ (ONES * b'"' as u64));
        let backslash = zero_byte(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        (quote | backslash | control | word) & HIGHS
    };
    let mut done = 0;
    for chunk in bytes.chunks_exact(8) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        if special(u64::from_le_bytes(word)) != 0 {
            break;
        }
        done += 8;
    }
    let plain = |byte: &&u8| matches!(byte, 0x20..=0x7f) && !matches!(byte, b'"' | b'\\');
    done + bytes[done..].iter().take_while(plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Result<Message, Malformed> {
        Message::from_host(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn assemble(pieces: &[&str]) -> Result<Message, Malformed> {
        let mut assembly = Assembly::default();
        for piece in pieces {
            assembly.push(Bytes::copy_from_slice(piece.as_bytes()))?;
        }
        assembly.finish()
    }

    #[test]
    fn a_request_is_known_by_method_and_id_wherever_they_stand() {
        for text in [
            r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#,
            r#" {"params":{"id":1,"method":"x"},"method" : "ping" ,"id":7 ,"jsonrpc":"2.0"} "#,
            r#"{"jsonrpc":"2.0","\u0069d":7,"me\u0074hod":"p\u0069ng"}"#,
            r#"{"id":3,"jsonrpc":"2.0","method":"ping","id":7}"#,
        ] {
            let message = host(text).unwrap();
            let expected = Shape::Request { id: Id::from_json(b"7"), method: "ping".into() };
            assert_eq!(message.shape, expected, "{text}");
            assert_eq!(message.body.to_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn every_kind_of_id_is_kept_as_it_was_written() {
        for id in ["\"a\"", "\"\"", "0", "-1", "1.0", "1e2", "18446744073709551616", "null", "true", "[1]", "{\"a\":1}"]
        {
            let message = host(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)).unwrap();
            assert_eq!(message.requests().map(Id::to_string).collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn what_is_not_json_rpc_is_told_apart_from_what_is_not_json() {
        let id = |raw: &str| Some(Id::from_json(raw.as_bytes()));
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"#, Malformed::NotJson { at: 33 }),
            ("not json", Malformed::NotJson { at: 1 }),
            (r#"{"a":1}}"#, Malformed::NotJson { at: 7 }),
            ("{\"a\":\"\u{1}\"}", Malformed::NotJson { at: 6 }),
            ("[]", Malformed::NotJsonRpc { id: None }),
            ("42", Malformed::NotJsonRpc { id: None }),
            ("\"text\"", Malformed::NotJsonRpc { id: None }),
            (r#"{"id":5,"method":"ping"}"#, Malformed::NotJsonRpc { id: id("5") }),
            (r#"{"jsonrpc":"1.0","id":"x","method":"ping"}"#, Malformed::NotJsonRpc { id: id("\"x\"") }),
            (r#"{"jsonrpc":"2.0","id":8,"method":5}"#, Malformed::NotJsonRpc { id: id("8") }),
            (r#"{"jsonrpc":"2.0","id":9}"#, Malformed::NotJsonRpc { id: id("9") }),
        ] {
            assert_eq!(host(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_utf8_is_not_json() {
        let line = Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}");
        assert_eq!(Message::from_host(line).unwrap_err(), Malformed::NotJson { at: 27 });
        let surrogate = Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xed\xa0\x80\"}");
        assert_eq!(Message::from_host(surrogate).unwrap_err(), Malformed::NotJson { at: 28 });
    }

    #[test]
    fn a_batch_gives_up_its_messages_byte_for_byte() {
        let batch = host(r#"[ {"jsonrpc":"2.0","id":1,"method":"a"}, 5 ,{"jsonrpc":"2.0", "method":"b"}]"#).unwrap();
        let texts: Vec<_> = batch
            .split()
            .into_iter()
            .map(|part| part.map(|message| String::from_utf8(message.body.to_bytes().to_vec()).unwrap()))
            .collect();
        assert_eq!(
            texts,
            [
                Ok(r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#.to_owned()),
                Err(None),
                Ok(r#"{"jsonrpc":"2.0", "method":"b"}"#.to_owned())
            ]
        );
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces_and_those_at_the_end_go() {
        let message = assemble(&["{\r\n \"id\":1", ",\n\"result\":\n{}}", "\n", "\r\n"]).unwrap();
        assert_eq!(message.body.to_bytes(), "{   \"id\":1, \"result\": {}}");
    }

    #[test]
    fn a_body_that_breaks_off_is_no_message() {
        assert_eq!(assemble(&["{\"id\":1,\"resu"]).unwrap_err(), Malformed::NotJson { at: 13 });
        assert_eq!(assemble(&[]).unwrap_err(), Malformed::NotJson { at: 0 });
    }

    #[test]
    fn the_id_is_exchanged_or_added_and_nothing_else_changes() {
        let id = Id::from_json(b"\"h\"");
        let answer = assemble(&[r#"{"jsonrpc":"2.0", "id" : null ,"error":{}}"#]).unwrap().with_id(&id);
        assert_eq!(answer.body.to_bytes(), r#"{"jsonrpc":"2.0", "id" : "h" ,"error":{}}"#);
        assert_eq!(answer.with_id(&Id::from_json(b"1")).body.to_bytes(), r#"{"jsonrpc":"2.0", "id" : 1 ,"error":{}}"#);
        let added = assemble(&[r#" {"error":{}}"#]).unwrap().with_id(&id);
        assert_eq!(added.body.to_bytes(), r#" {"id":"h","error":{}}"#);
    }

    #[test]
    fn a_line_too_long_to_keep_still_tells_its_id() {
        let long = "x".repeat(20_000);
        for (text, expected) in [
            (format!(r#"{{"jsonrpc":"2.0","id":"a","method":"m","params":["{long}"]}}"#), Some("\"a\"")),
            (format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{long}"],"id":12}}"#), Some("12")),
            (format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{long}"]}}"#), None),
            (format!(r#"{{"jsonrpc":"2.0","id":1,"result":["{long}"]}}"#), None),
            (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":["{long}"]"#), None),
        ] {
            let mut skim = Skim::default();
            text.as_bytes().chunks(700).for_each(|piece| skim.push(piece));
            assert_eq!(skim.request().map(|id| id.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn ids_are_compared_by_value_where_their_texts_differ() {
        let same = |a: &str, b: &str| Id::from_json(a.as_bytes()).same_value(&Id::from_json(b.as_bytes()));
        assert!(same("1.0", "1") && same("\"a\"", "\"\\u0061\"") && same("9007199254740993", "9007199254740992"));
        assert!(!same("1", "\"1\"") && !same("1", "2") && !same("null", "0") && !same("\"a\"", "\"b\""));
    }
}
