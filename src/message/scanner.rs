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
            state: ScannerState::Value,
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
    /// Inside `true`, `false` or `null`: what must still come.
    Literal(&'static [u8]),
    /// After the outermost value: white space only.
    End,
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
        let mut i = 0;
        while let Some(&byte) = piece.get(i) {
            let at = self.before + i;
            let unexpected = Malformed::NotJson { at };
            match self.state {
                ScannerState::StringState(StringState::Plain) => {
                    let plain = plain_prefix(&piece[i..]);
                    if plain > 0 {
                        self.keep_key(&piece[i..i + plain]);
                        i += plain;
                        continue;
                    }
                    self.state = match byte {
                        b'"' => self.text_end(at + 1),
                        b'\\' => ScannerState::StringState(StringState::Escape),
                        0xc2..=0xdf => ScannerState::StringState(StringState::Utf8(1, 0x80, 0xbf)),
                        0xe0 => ScannerState::StringState(StringState::Utf8(2, 0xa0, 0xbf)),
                        0xed => ScannerState::StringState(StringState::Utf8(2, 0x80, 0x9f)),
                        0xe1..=0xef => ScannerState::StringState(StringState::Utf8(2, 0x80, 0xbf)),
                        0xf0 => ScannerState::StringState(StringState::Utf8(3, 0x90, 0xbf)),
                        0xf1..=0xf3 => ScannerState::StringState(StringState::Utf8(3, 0x80, 0xbf)),
                        0xf4 => ScannerState::StringState(StringState::Utf8(3, 0x80, 0x8f)),
                        _ => return Err(unexpected),
                    };
                    if byte != b'"' {
                        self.keep_key(&[byte]);
                    }
                }
                ScannerState::StringState(inner) => {
                    self.keep_key(&[byte]);
                    self.state = ScannerState::StringState(match (inner, byte) {
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
                        _ => return Err(unexpected),
                    });
                }
                ScannerState::Number(number) => {
                    use Number::{Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero};
                    self.state = ScannerState::Number(match (number, byte) {
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
                ScannerState::Literal(rest) => match rest.split_first() {
                    Some((expected, rest)) if *expected == byte => {
                        self.state = if rest.is_empty() { self.value_end(at + 1) } else { ScannerState::Literal(rest) };
                    }
                    _ => return Err(unexpected),
                },
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
                ScannerState::ValueOrEnd if byte == b']' => self.state = self.close(at),
                ScannerState::Value | ScannerState::ValueOrEnd => self.state = self.value_start(byte, at)?,
                ScannerState::KeyOrEnd if byte == b'}' => self.state = self.close(at),
                ScannerState::Key | ScannerState::KeyOrEnd if byte == b'"' => {
                    self.reading_key = true;
                    self.key_length = 0;
                    self.state = ScannerState::StringState(StringState::Plain);
                }
                ScannerState::Colon if byte == b':' => self.state = ScannerState::Value,
                ScannerState::CommaOrEnd if byte == b',' => {
                    self.state = if self.in_object() { ScannerState::Key } else { ScannerState::Value };
                }
                ScannerState::CommaOrEnd if byte == if self.in_object() { b'}' } else { b']' } => {
                    self.state = self.close(at);
                }
                _ => return Err(unexpected),
            }
            i += 1;
        }
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
            b't' => ScannerState::Literal(b"rue"),
            b'f' => ScannerState::Literal(b"alse"),
            b'n' => ScannerState::Literal(b"ull"),
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
        if !std::mem::take(&mut self.reading_key) {
            return self.value_end(end);
        }
        if self.depth == self.level() {
            self.member = self.key_member();
        }
        ScannerState::Colon
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
