//! One JSON-RPC 2.0 message: its bytes, and the little of them that is read.
//!
//! A message is never parsed into a value and written again: whatever a newer revision of MCP puts
//! into it must arrive as it left. What is read is the envelope (JSON-RPC 2.0 §4, §5, §6): is this
//! one JSON value (RFC 8259), is it a request, a notification, a response or a batch, what are its
//! `id` and `method`. One pass over the bytes finds all of that, whether they come in one piece or
//! in a thousand.
//!
//! # Invariants
//!
//! - No byte of a message changes, except a line break between two tokens, which becomes a space because a line break
//!   ends a message on stdio (MCP, Transports, stdio).

mod body;
mod id;
pub(crate) mod members;
mod oversized_line;
pub(crate) mod peek;
mod scanner;

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use log::warn;
use smol_str::SmolStr;

pub use body::Body;
pub use id::Id;
pub use oversized_line::OversizedLine;
use scanner::{Envelope, Scanner};

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
        method: SmolStr,
    },
    /// Has a method and no id.
    Notification {
        /// Decoded.
        method: SmolStr,
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
    pub fn from_host(mut line: Bytes) -> Result<Self, Malformed> {
        if line.starts_with(BYTE_ORDER_MARK) {
            line.advance(BYTE_ORDER_MARK.len());
        }
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
        let mut spliced = BytesMut::with_capacity(text.len() + id.as_json().len() + 6);
        spliced.extend_from_slice(&text[..self.id_at.start]);
        let id_at = if self.id_at.is_empty() {
            spliced.extend_from_slice(b"\"id\":");
            let start = spliced.len();
            spliced.extend_from_slice(id.as_json().as_bytes());
            let end = spliced.len();
            spliced.extend_from_slice(b",");
            start..end
        } else {
            spliced.extend_from_slice(id.as_json().as_bytes());
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

    /// Every message of a batch of the server by itself, as [`split`](Self::split) does; what is no message is logged.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = Self> {
        self.split().into_iter().filter_map(|part| match part {
            Ok(message) => Some(message),
            Err(id) => {
                let id = id.map_or_else(String::new, |id| format!(" (ID {})", id.line()));
                warn!("ignoring a part of the server's batch that is not a JSON-RPC message{id}");
                None
            }
        })
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

/// What some programs write before a text in UTF-8. A reader may ignore it (RFC 8259 §8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Puts a message together from the pieces of a response body or an event, checking while they
/// come: nothing is a message before its last byte is here.
#[derive(Default)]
pub(crate) struct Assembly {
    /// Bytes of a byte order mark that were skipped.
    skipped: usize,
    has_begun: bool,
    scanner: Scanner,
    body: Body,
}

impl Assembly {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Malformed::NotJson`] as soon as the text can no longer be JSON.
    pub(crate) fn push(&mut self, mut piece: Bytes) -> Result<(), Malformed> {
        if !self.has_begun {
            self.skip_mark(&mut piece)?;
        }
        self.scanner.feed(&piece)?;
        self.body.push(piece);
        Ok(())
    }

    /// Skips a byte order mark, which may come in pieces.
    fn skip_mark(&mut self, piece: &mut Bytes) -> Result<(), Malformed> {
        while let (Some(first), Some(expected)) = (piece.first(), BYTE_ORDER_MARK.get(self.skipped)) {
            if first != expected {
                break;
            }
            piece.advance(1);
            self.skipped += 1;
        }
        self.has_begun = !piece.is_empty();
        let is_part = !matches!(self.skipped, 0 | 3);
        if self.has_begun && is_part { Err(Malformed::NotJson { at: 0 }) } else { Ok(()) }
    }

    /// Returns whether one JSON value is complete: only white space may follow.
    pub(crate) fn is_whole(&self) -> bool {
        self.scanner.is_whole()
    }

    /// The message, now that all of it is here.
    ///
    /// # Errors
    /// [`Malformed`] if the text ended early or is not JSON-RPC.
    pub(crate) fn finish(mut self) -> Result<Message, Malformed> {
        self.scanner.finish()?;
        self.body.take_out_line_breaks();
        Message::read(self.body, self.scanner, Strictness::Remote)
    }
}

impl Envelope {
    fn shape(&self, body: &Body, strictness: Strictness) -> Result<Shape, Option<Id>> {
        let id = || self.id.clone().map(|span| Id::from_json(&body.view(span)));
        let text = |span: &Option<Range<usize>>| {
            let raw = body.view(span.clone()?);
            match raw.as_ref() {
                [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => {
                    std::str::from_utf8(plain).ok().map(SmolStr::new)
                }
                // A lone surrogate is legal in JSON and no character: then the text stands as it is.
                [b'"', escaped @ .., b'"'] => Some(match serde_json::from_slice::<String>(&raw) {
                    Ok(text) => text.into(),
                    Err(_) => String::from_utf8_lossy(escaped).into(),
                }),
                _ => None,
            }
        };
        if !self.object {
            return Err(None);
        }
        let is_2_0 = || {
            let version = self.jsonrpc.clone().map(|span| body.view(span));
            // Escapes may spell it, too.
            version.as_deref() == Some(br#""2.0""#) || text(&self.jsonrpc).as_deref() == Some("2.0")
        };
        if matches!(strictness, Strictness::Host) && !is_2_0() {
            return Err(id());
        }
        match (&self.method, &self.outcome) {
            // JSON-RPC 2.0 §4, §5: a request has no result and a response no method. A reader that looks at one of them
            // first takes it for something else than a reader that looks at the other.
            (Some(_), Some(_)) => Err(id()),
            (Some(_), None) => match (text(&self.method), id()) {
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
    fn request_members_are_found_in_any_place() {
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
    fn ids_are_kept_as_written() {
        for id in ["\"a\"", "\"\"", "0", "-1", "1.0", "1e2", "18446744073709551616", "null", "true", "[1]", "{\"a\":1}"]
        {
            let message = host(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)).unwrap();
            assert_eq!(message.requests().map(Id::to_string).collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn invalid_json_rpc_differs_from_invalid_json() {
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
    fn batch_splits_byte_for_byte() {
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
    fn line_breaks_become_spaces_or_vanish_at_end() {
        let message = assemble(&["{\r\n \"id\":1", ",\n\"result\":\n{}}", "\n", "\r\n"]).unwrap();
        assert_eq!(message.body.to_bytes(), "{   \"id\":1, \"result\": {}}");
    }

    #[test]
    fn body_that_breaks_off_is_no_message() {
        assert_eq!(assemble(&["{\"id\":1,\"resu"]).unwrap_err(), Malformed::NotJson { at: 13 });
        assert_eq!(assemble(&[]).unwrap_err(), Malformed::NotJson { at: 0 });
    }

    #[test]
    fn id_is_replaced_or_added_alone() {
        let id = Id::from_json(b"\"h\"");
        let answer = assemble(&[r#"{"jsonrpc":"2.0", "id" : null ,"error":{}}"#]).unwrap().with_id(&id);
        assert_eq!(answer.body.to_bytes(), r#"{"jsonrpc":"2.0", "id" : "h" ,"error":{}}"#);
        assert_eq!(answer.with_id(&Id::from_json(b"1")).body.to_bytes(), r#"{"jsonrpc":"2.0", "id" : 1 ,"error":{}}"#);
        let added = assemble(&[r#" {"error":{}}"#]).unwrap().with_id(&id);
        assert_eq!(added.body.to_bytes(), r#" {"id":"h","error":{}}"#);
    }

    #[test]
    fn oversized_line_still_has_its_id() {
        let long = "x".repeat(20_000);
        for (text, expected) in [
            (format!(r#"{{"jsonrpc":"2.0","id":"a","method":"m","params":["{long}"]}}"#), Some("\"a\"")),
            (format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{long}"],"id":12}}"#), Some("12")),
            (format!(r#"{{"jsonrpc":"2.0","method":"m","params":["{long}"]}}"#), None),
            (format!(r#"{{"jsonrpc":"2.0","id":1,"result":["{long}"]}}"#), None),
            (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":["{long}"]"#), None),
        ] {
            let mut skim = OversizedLine::default();
            text.as_bytes().chunks(700).for_each(|piece| skim.push(piece));
            assert_eq!(skim.request().map(|id| id.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn byte_order_mark_is_skipped_however_cut() {
        let text = "\u{feff}{\"id\":1,\"result\":{}}".as_bytes();
        for cut in 0..text.len() {
            let mut assembly = Assembly::default();
            for piece in [&text[..cut], &text[cut..]] {
                assembly.push(Bytes::copy_from_slice(piece)).unwrap();
            }
            assert!(assembly.is_whole());
            let message = assembly.finish().unwrap();
            assert_eq!(message.body.to_bytes(), "{\"id\":1,\"result\":{}}", "cut at {cut}");
            assert_eq!(message.with_id(&Id::from_json(b"2")).body.to_bytes(), "{\"id\":2,\"result\":{}}");
        }
        let mut broken = Assembly::default();
        assert!(broken.push(Bytes::from_static(b"\xef\xbb{}")).is_err());
        let line = host("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}").unwrap();
        assert_eq!(line.body.to_bytes(), r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
    }

    #[test]
    fn number_and_its_text_match_loosely() {
        let matches = |a: &str, b: &str| Id::from_json(a.as_bytes()).matches_loosely(&Id::from_json(b.as_bytes()));
        assert!(matches("7", "\"7\"") && matches("\"7\"", "7") && matches("-1", "\"-1\"") && matches("7", "7.0"));
        assert!(
            !matches("7", "\"8\"")
                && !matches("7", "\"\"")
                && !matches("7", "\"seven\"")
                && !matches("null", "\"null\"")
        );
        assert!(!matches("7", "\" 7\"") && !matches("\"inf\"", "1e999"));
        // What JavaScript makes of the first, but not what it makes of the second.
        assert!(
            matches("1764300000000000001", "1764300000000000000") && matches("9007199254740993", "9007199254740992")
        );
        assert!(
            !matches("1764300000000000001", "1764300000000000002") && !matches("9007199254740992", "9007199254740993")
        );
    }

    #[test]
    fn endless_id_is_not_read() {
        let endless = format!("\"{}\"", "\\u0061".repeat(10_000_000));
        let (endless, asked) = (Id::from_json(endless.as_bytes()), Id::own("0f8fad5b-d9cb-469f-a165-70867728950e"));
        // It would take minutes.
        assert!((0..16_384).all(|_| !asked.matches_loosely(&endless) && !endless.same_value(&asked)));
    }

    #[test]
    fn ids_with_different_texts_compare_by_value() {
        let same = |a: &str, b: &str| Id::from_json(a.as_bytes()).same_value(&Id::from_json(b.as_bytes()));
        assert!(same("1.0", "1") && same("\"a\"", "\"\\u0061\""));
        assert!(
            same("100", "1e2")
                && same("-0.50e+1", "-5")
                && same("0", "-0.0")
                && same("1764300000000000001", "1764300000000000001.0")
        );
        assert!(!same("9007199254740993", "9007199254740992") && !same("1764300000000000001", "1764300000000000002"));
        assert!(!same("1", "\"1\"") && !same("1", "2") && !same("null", "0") && !same("\"a\"", "\"b\""));
    }
}
