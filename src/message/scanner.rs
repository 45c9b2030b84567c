//! One pass over JSON text (RFC 8259) that checks every byte and remembers where the envelope of a
//! message stands: `jsonrpc`, `id`, `method`, and whether there is a `result` or an `error`.
//!
//! Incremental, because a large answer comes in pieces and is never joined; and written for this program, because
//! parsers that check pieces build values, and that is what a forwarder must not do. Its tests
//! compare it with serde_json (`tests/it/properties.rs`).
//!
//! # Invariants
//!
//! - `Scanner` does not accept what is not JSON.
//! - `Scanner` reads no member that lies deeper than the envelope.

use std::ops::Range;

use super::Malformed;

/// What the scanner found of one message object. Where a member occurs twice the last one counts,
/// as in every common parser.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) span: Range<usize>,
    /// `false` for an element of an array that is not an object.
    pub(super) object: bool,
    pub(super) jsonrpc: Option<Range<usize>>,
    pub(super) id: Option<Range<usize>>,
    pub(super) method: Option<Range<usize>>,
    pub(super) outcome: Option<Range<usize>>,
}

/// A member of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Jsonrpc,
    Id,
    Method,
    Outcome,
}

impl Member {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"jsonrpc" => Some(Self::Jsonrpc),
            b"id" => Some(Self::Id),
            b"method" => Some(Self::Method),
            b"result" | b"error" => Some(Self::Outcome),
            _ => None,
        }
    }
}

/// Longest text of a key of interest: `jsonrpc`, each character as a `\uXXXX` escape.
const LONGEST_KEY: usize = 6 * "jsonrpc".len();

/// The most elements a batch may have: each costs memory of its own, and nobody asks for so much at
/// once.
const MOST_PARTS: usize = 10_000;

/// The incremental reader of RFC 8259's grammar.
pub(super) struct Scanner {
    state: ScannerState,
    /// Bytes of earlier pieces.
    before: usize,
    open: Containers,
    /// The text is an array: the messages are its elements.
    pub(super) array: bool,
    pub(super) found: Vec<Envelope>,
    /// Text of the key being read, if it may be one of interest and is not all in one piece.
    key: [u8; LONGEST_KEY],
    key_length: usize,
    reading: Reading,
    member: Option<Member>,
    value_start: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: ScannerState::Value,
            before: 0,
            open: Containers::default(),
            array: false,
            found: Vec::new(),
            key: [0; LONGEST_KEY],
            key_length: 0,
            reading: Reading::Value,
            member: None,
            value_start: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScannerState {
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
    /// Inside a literal name: which one, and how many of its bytes have come.
    Literal(Literal, u8),
    /// After the outermost value: white space only.
    End,
}

/// The open containers, as deep as memory allows.
#[derive(Default)]
struct Containers {
    depth: usize,
    /// One bit for each of the innermost containers, the lowest for the last of them: 1 for an object.
    inner: u64,
    /// The bits of those around them, 64 at a time.
    outer: Vec<u64>,
}

impl Containers {
    fn push(&mut self, is_object: bool) {
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth.is_multiple_of(64)
            && let Some(outer) = self.outer.pop()
        {
            self.inner = outer;
        }
    }

    /// Returns whether the innermost one is an object.
    fn is_object(&self) -> bool {
        self.inner & 1 == 1
    }
}

/// What a string is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Value,
    /// A key of the envelope, which is kept.
    Member,
    /// A key that lies deeper.
    OtherKey,
}

/// The literal names of JSON (RFC 8259 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
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
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        // Kept at hand: nothing here looks at the field.
        let mut state = self.state;
        let mut i = 0;
        while let Some(&byte) = piece.get(i) {
            let at = self.before + i;
            i += 1;
            state = match state {
                ScannerState::Key | ScannerState::KeyOrEnd => match byte {
                    b'"' => {
                        let is_member = self.open.depth == self.level();
                        let plain = plain_prefix(&piece[i..]);
                        if piece.get(i + plain) != Some(&b'"') {
                            self.reading = if is_member { Reading::Member } else { Reading::OtherKey };
                            self.key_length = 0;
                            ScannerState::Text(Text::Plain)
                        } else {
                            // Nearly every key: without an escape, and all of it is here.
                            if is_member {
                                self.member = Member::of(&piece[i..i + plain]);
                            }
                            i += plain + 1;
                            if piece.get(i) == Some(&b':') {
                                i += 1;
                                ScannerState::Value
                            } else {
                                ScannerState::Colon
                            }
                        }
                    }
                    b' ' | b'\t' | b'\n' | b'\r' => state,
                    b'}' if state == ScannerState::KeyOrEnd => self.close(at),
                    _ => return Err(Malformed::NotJson { at }),
                },
                ScannerState::Colon => match byte {
                    b':' => ScannerState::Value,
                    b' ' | b'\t' | b'\n' | b'\r' => state,
                    _ => return Err(Malformed::NotJson { at }),
                },
                ScannerState::Value | ScannerState::ValueOrEnd => match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => state,
                    b']' if state == ScannerState::ValueOrEnd => self.close(at),
                    _ => {
                        let begun = self.value_start(byte, at)?;
                        if byte == b'"' {
                            i += plain_prefix(&piece[i..]);
                            if piece.get(i) == Some(&b'"') {
                                i += 1;
                                self.value_end(self.before + i)
                            } else {
                                begun
                            }
                        } else {
                            begun
                        }
                    }
                },
                ScannerState::CommaOrEnd => match byte {
                    b',' if self.open.is_object() => ScannerState::Key,
                    b',' => ScannerState::Value,
                    b'}' if self.open.is_object() => self.close(at),
                    b']' if !self.open.is_object() => self.close(at),
                    b' ' | b'\t' | b'\n' | b'\r' => state,
                    _ => return Err(Malformed::NotJson { at }),
                },
                ScannerState::Text(Text::Plain) => {
                    let plain = plain_prefix(&piece[i - 1..]);
                    self.keep_key(&piece[i - 1..i - 1 + plain]);
                    i += plain;
                    let at = at + plain;
                    let Some(&byte) = piece.get(i - 1) else {
                        i -= 1;
                        continue;
                    };
                    if byte == b'"' {
                        self.text_end(at + 1)
                    } else {
                        self.keep_key(&[byte]);
                        ScannerState::Text(match byte {
                            b'\\' => Text::Escape,
                            0xc2..=0xdf => Text::Utf8(1, 0x80, 0xbf),
                            0xe0 => Text::Utf8(2, 0xa0, 0xbf),
                            0xed => Text::Utf8(2, 0x80, 0x9f),
                            0xe1..=0xef => Text::Utf8(2, 0x80, 0xbf),
                            0xf0 => Text::Utf8(3, 0x90, 0xbf),
                            0xf1..=0xf3 => Text::Utf8(3, 0x80, 0xbf),
                            0xf4 => Text::Utf8(3, 0x80, 0x8f),
                            _ => return Err(Malformed::NotJson { at }),
                        })
                    }
                }
                ScannerState::Text(inner) => {
                    self.keep_key(&[byte]);
                    ScannerState::Text(match (inner, byte) {
                        (Text::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Text::Plain,
                        (Text::Escape, b'u') => Text::Hex(4),
                        (Text::Hex(1), _) if byte.is_ascii_hexdigit() => Text::Plain,
                        (Text::Hex(left), _) if byte.is_ascii_hexdigit() => Text::Hex(left - 1),
                        (Text::Utf8(1, low, high), _) if (low..=high).contains(&byte) => Text::Plain,
                        (Text::Utf8(left, low, high), _) if (low..=high).contains(&byte) => {
                            Text::Utf8(left - 1, 0x80, 0xbf)
                        }
                        _ => return Err(Malformed::NotJson { at }),
                    })
                }
                ScannerState::Number(number) => {
                    use Number::{Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero};
                    ScannerState::Number(match (number, byte) {
                        (Integer, b'0'..=b'9') | (Minus, b'1'..=b'9') => Integer,
                        (Minus, b'0') => Zero,
                        (Zero | Integer, b'.') => Point,
                        (Point | Fraction, b'0'..=b'9') => Fraction,
                        (Zero | Integer | Fraction, b'e' | b'E') => Exponent,
                        (Exponent, b'+' | b'-') => ExponentSign,
                        (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
                        (Zero | Integer | Fraction | ExponentDigits, _) => {
                            state = self.value_end(at);
                            i -= 1; // the byte belongs to what follows
                            continue;
                        }
                        _ => return Err(Malformed::NotJson { at }),
                    })
                }
                ScannerState::Literal(literal, come) => {
                    let text = literal.text();
                    if text[usize::from(come)] != byte {
                        return Err(Malformed::NotJson { at });
                    }
                    let come = come + 1;
                    let is_whole = usize::from(come) == text.len();
                    if is_whole { self.value_end(at + 1) } else { ScannerState::Literal(literal, come) }
                }
                ScannerState::End => match byte {
                    b' ' | b'\t' | b'\n' | b'\r' => state,
                    _ => return Err(Malformed::NotJson { at }),
                },
            };
        }
        self.state = state;
        self.before += piece.len();
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Malformed> {
        if let ScannerState::Number(Number::Zero | Number::Integer | Number::Fraction | Number::ExponentDigits) =
            self.state
        {
            self.state = self.value_end(self.before);
        }
        if self.state == ScannerState::End { Ok(()) } else { Err(Malformed::NotJson { at: self.before }) }
    }

    /// Returns whether one value is complete and only white space may follow.
    pub(super) fn is_whole(&self) -> bool {
        self.state == ScannerState::End
    }

    /// How deep the members of a message object lie.
    fn level(&self) -> usize {
        1 + usize::from(self.array)
    }

    fn value_start(&mut self, byte: u8, at: usize) -> Result<ScannerState, Malformed> {
        let outermost = self.open.depth == 0;
        let message = if self.array { self.open.depth == 1 } else { outermost && byte != b'[' };
        if message {
            if self.found.len() == MOST_PARTS {
                return Err(Malformed::NotJsonRpc { id: None });
            }
            self.found.push(Envelope { span: at..at, object: byte == b'{', ..Envelope::default() });
        }
        if self.open.depth == self.level() {
            self.value_start = at;
        }
        Ok(match byte {
            b'{' => {
                self.open.push(true);
                ScannerState::KeyOrEnd
            }
            b'[' => {
                self.array |= outermost;
                self.open.push(false);
                ScannerState::ValueOrEnd
            }
            b'"' => ScannerState::Text(Text::Plain),
            b'-' => ScannerState::Number(Number::Minus),
            b'0' => ScannerState::Number(Number::Zero),
            b'1'..=b'9' => ScannerState::Number(Number::Integer),
            b't' => ScannerState::Literal(Literal::True, 1),
            b'f' => ScannerState::Literal(Literal::False, 1),
            b'n' => ScannerState::Literal(Literal::Null, 1),
            _ => return Err(Malformed::NotJson { at }),
        })
    }

    fn close(&mut self, at: usize) -> ScannerState {
        self.open.pop();
        self.value_end(at + 1)
    }

    /// A value has ended before `end`, at the present depth.
    fn value_end(&mut self, end: usize) -> ScannerState {
        let level = self.level();
        if self.open.depth == level
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
        if self.open.depth == level - 1
            && let Some(envelope) = self.found.last_mut()
        {
            envelope.span.end = end;
        }
        if self.open.depth == 0 { ScannerState::End } else { ScannerState::CommaOrEnd }
    }

    fn text_end(&mut self, end: usize) -> ScannerState {
        match std::mem::replace(&mut self.reading, Reading::Value) {
            Reading::Value => return self.value_end(end),
            Reading::Member => self.member = self.key_member(),
            Reading::OtherKey => {}
        }
        ScannerState::Colon
    }

    fn keep_key(&mut self, text: &[u8]) {
        if self.reading == Reading::Member {
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
        if !raw.contains(&b'\\') {
            return Member::of(raw);
        }
        // Rare: a key may be written with escapes and still be the same key (RFC 8259 §8.3).
        let quoted = [b"\"", raw, b"\""].concat();
        let decoded = serde_json::from_slice::<String>(&quoted).ok()?;
        Member::of(decoded.as_bytes())
    }
}

/// Which bytes are plain string content: ASCII, no quote, no backslash, no control character.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// How many bytes from the start are plain string content: eight bytes at a time.
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
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            // The lowest bit is right; a borrow may set higher ones.
            return bytes.len() - rest.len() + special.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    bytes.len() - rest.len() + rest.iter().take_while(|byte| PLAIN[usize::from(**byte)]).count()
}
