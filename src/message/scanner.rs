//! One pass over JSON text (RFC 8259) that checks every byte and remembers where the envelope of a
//! message stands: `jsonrpc`, `id`, `method`, and whether there is a `result` or an `error`.
//!
//! Incremental, because a large answer comes in pieces and is never joined; of our own, because
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
    /// One bit for each open container, 1 for an object; as deep as memory allows.
    containers: Vec<u64>,
    depth: usize,
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
            containers: Vec::new(),
            depth: 0,
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
    StringState(StringState),
    Number(Number),
    /// Inside a literal name: which one, and how many of its bytes have come.
    Literal(Literal, u8),
    /// After the outermost value: white space only.
    End,
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
enum StringState {
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
            match state {
                ScannerState::StringState(StringState::Plain) => {
                    i -= 1;
                    let plain = plain_prefix(&piece[i..]);
                    self.keep_key(&piece[i..i + plain]);
                    i += plain;
                    // Nearly always the end of the string, which is not worth another turn.
                    let Some(&byte) = piece.get(i) else { break };
                    let at = self.before + i;
                    i += 1;
                    state = match byte {
                        b'"' => self.text_end(at + 1),
                        b'\\' => ScannerState::StringState(StringState::Escape),
                        0xc2..=0xdf => ScannerState::StringState(StringState::Utf8(1, 0x80, 0xbf)),
                        0xe0 => ScannerState::StringState(StringState::Utf8(2, 0xa0, 0xbf)),
                        0xed => ScannerState::StringState(StringState::Utf8(2, 0x80, 0x9f)),
                        0xe1..=0xef => ScannerState::StringState(StringState::Utf8(2, 0x80, 0xbf)),
                        0xf0 => ScannerState::StringState(StringState::Utf8(3, 0x90, 0xbf)),
                        0xf1..=0xf3 => ScannerState::StringState(StringState::Utf8(3, 0x80, 0xbf)),
                        0xf4 => ScannerState::StringState(StringState::Utf8(3, 0x80, 0x8f)),
                        _ => return Err(Malformed::NotJson { at }),
                    };
                    if byte != b'"' {
                        self.keep_key(&[byte]);
                    }
                }
                ScannerState::Key | ScannerState::KeyOrEnd if byte == b'"' => {
                    let is_member = self.depth == self.level();
                    let plain = plain_prefix(&piece[i..]);
                    if piece.get(i + plain) == Some(&b'"') {
                        // Nearly every key: without an escape, and all of it is here.
                        if is_member {
                            self.member = Member::of(&piece[i..i + plain]);
                        }
                        i += plain + 1;
                        state = ScannerState::Colon;
                    } else {
                        self.reading = if is_member { Reading::Member } else { Reading::OtherKey };
                        self.key_length = 0;
                        state = ScannerState::StringState(StringState::Plain);
                    }
                }
                ScannerState::Colon if byte == b':' => state = ScannerState::Value,
                ScannerState::CommaOrEnd if byte == b',' => {
                    state = if self.in_object() { ScannerState::Key } else { ScannerState::Value };
                }
                ScannerState::CommaOrEnd if byte == if self.in_object() { b'}' } else { b']' } => {
                    state = self.close(at);
                }
                ScannerState::StringState(inner) => {
                    self.keep_key(&[byte]);
                    state = ScannerState::StringState(match (inner, byte) {
                        (StringState::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                            StringState::Plain
                        }
                        (StringState::Escape, b'u') => StringState::Hex(4),
                        (StringState::Hex(1), _) if byte.is_ascii_hexdigit() => StringState::Plain,
                        (StringState::Hex(left), _) if byte.is_ascii_hexdigit() => StringState::Hex(left - 1),
                        (StringState::Utf8(left, low, high), _) if (low..=high).contains(&byte) => {
                            if left == 1 {
                                StringState::Plain
                            } else {
                                StringState::Utf8(left - 1, 0x80, 0xbf)
                            }
                        }
                        _ => return Err(Malformed::NotJson { at }),
                    });
                }
                ScannerState::Number(number) => {
                    use Number::{Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero};
                    state = ScannerState::Number(match (number, byte) {
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
                    });
                }
                ScannerState::Literal(literal, come) => {
                    let text = literal.text();
                    if text[usize::from(come)] != byte {
                        return Err(Malformed::NotJson { at });
                    }
                    let come = come + 1;
                    let is_whole = usize::from(come) == text.len();
                    state = if is_whole { self.value_end(at + 1) } else { ScannerState::Literal(literal, come) };
                }
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
                ScannerState::ValueOrEnd if byte == b']' => state = self.close(at),
                ScannerState::Value | ScannerState::ValueOrEnd => state = self.value_start(byte, at)?,
                ScannerState::KeyOrEnd if byte == b'}' => state = self.close(at),
                _ => return Err(Malformed::NotJson { at }),
            }
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

    fn in_object(&self) -> bool {
        let top = self.depth - 1;
        self.containers[top / 64] >> (top % 64) & 1 == 1
    }

    fn value_start(&mut self, byte: u8, at: usize) -> Result<ScannerState, Malformed> {
        let outermost = self.depth == 0;
        let message = if self.array { self.depth == 1 } else { outermost && byte != b'[' };
        if message {
            if self.found.len() == MOST_PARTS {
                return Err(Malformed::NotJsonRpc { id: None });
            }
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
            b'"' => ScannerState::StringState(StringState::Plain),
            b'-' => ScannerState::Number(Number::Minus),
            b'0' => ScannerState::Number(Number::Zero),
            b'1'..=b'9' => ScannerState::Number(Number::Integer),
            b't' => ScannerState::Literal(Literal::True, 1),
            b'f' => ScannerState::Literal(Literal::False, 1),
            b'n' => ScannerState::Literal(Literal::Null, 1),
            _ => return Err(Malformed::NotJson { at }),
        })
    }

    fn open(&mut self, object: bool) -> ScannerState {
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
        if object { ScannerState::KeyOrEnd } else { ScannerState::ValueOrEnd }
    }

    fn close(&mut self, at: usize) -> ScannerState {
        self.depth -= 1;
        self.value_end(at + 1)
    }

    /// A value has ended before `end`, at the present depth.
    fn value_end(&mut self, end: usize) -> ScannerState {
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
        if self.depth == 0 { ScannerState::End } else { ScannerState::CommaOrEnd }
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

/// Bytes that are looked at one by one before it pays to look at eight at a time: most strings of an envelope are short.
const SHORT: usize = 16;

/// How many bytes from the start are plain string content.
fn plain_prefix(bytes: &[u8]) -> usize {
    let is_plain = |byte: &&u8| PLAIN[usize::from(**byte)];
    let short = bytes.iter().take(SHORT).take_while(is_plain).count();
    if short < SHORT { short } else { short + plain_words(&bytes[SHORT..]) }
}

/// The same, eight bytes at a time: a long text is most of a long message.
fn plain_words(bytes: &[u8]) -> usize {
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
        let special = special(u64::from_le_bytes(word));
        if special != 0 {
            // The lowest bit is right; a borrow may set higher ones.
            return done + special.trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    done + bytes[done..].iter().take_while(|byte| PLAIN[usize::from(**byte)]).count()
}
