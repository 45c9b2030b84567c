//! A request id (JSON-RPC 2.0 §4).
//!
//! # Invariants
//!
//! - An ID is not turned into a number or a text of this program: the host gets back what it wrote.

use std::fmt;

use smol_str::{SmolStr, format_smolstr};

use crate::text::one_line;

/// A request id: its JSON text, of whatever kind, as the sender wrote it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(SmolStr);

impl Id {
    /// An ID that this program makes: a JSON string of these characters, which need no escape.
    #[must_use]
    pub fn own(text: &str) -> Self {
        Self(format_smolstr!("\"{text}\""))
    }

    /// An id for a request of this program: no peer has it, because it holds random bits.
    pub(crate) fn fresh() -> Self {
        Self::own(&format!("mcp-remote-{:016x}", fastrand::u64(..)))
    }

    /// An id from its JSON text.
    #[must_use]
    pub fn from_json(raw: &[u8]) -> Self {
        Self(std::str::from_utf8(raw).unwrap_or("null").into()) // the scanner has checked it
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Returns the JSON text for the log: a peer may choose a long one.
    pub(crate) fn line(&self) -> String {
        one_line(self.0.as_bytes())
    }

    /// Whether this is the JSON `null`, which answers nobody in particular.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Whether both texts stand for one value: `1.0` and `1`, `"a"` and `"\u0061"`. A server may
    /// write an id in another way than it came.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        if self.differs_in_length(other) {
            return false;
        }
        let (mine, theirs) = (self.as_json(), other.as_json());
        match (mine.as_bytes()[0], theirs.as_bytes()[0]) {
            (b'"', b'"') => self.text().is_some_and(|text| other.text() == Some(text)),
            (b'-' | b'0'..=b'9', b'-' | b'0'..=b'9') => same_number(mine, theirs),
            _ => false,
        }
    }

    /// Whether both have the same value, or nearly: a number and its text, `7` and `"7"`, as some gateways write it, or this
    /// ID as a server writes it that reads all numbers as IEEE 754 binary64, as JavaScript does.
    #[must_use]
    pub fn matches_loosely(&self, other: &Self) -> bool {
        !self.differs_in_length(other)
            && (self.same_value(other)
                || self.is_text_of(other)
                || other.is_text_of(self)
                || self.rounded().is_some_and(|rounded| same_number(&rounded, other.as_json())))
    }

    /// Whether one is so much longer that they cannot mean the same, whatever is escaped in it. A peer may send an ID of many
    /// megabytes, which is not to be read once for each request.
    fn differs_in_length(&self, other: &Self) -> bool {
        /// A character of one byte takes six if it is escaped (RFC 8259 §7).
        const LONGEST_ESCAPE: usize = 6;
        /// For the digits of a number: as many as one of binary64 may have before its exponent, and more.
        const DIGITS: usize = 400;
        let (shorter, longer) = (self.0.len().min(other.0.len()), self.0.len().max(other.0.len()));
        longer > shorter * LONGEST_ESCAPE + DIGITS
    }

    /// The text of a JSON string.
    fn text(&self) -> Option<String> {
        serde_json::from_str(self.as_json()).ok()
    }

    fn is_text_of(&self, number: &Self) -> bool {
        self.as_json().starts_with('"') && self.text().is_some_and(|text| same_number(&text, number.as_json()))
    }

    /// A number as it is after a way through binary64, if that changes it.
    fn rounded(&self) -> Option<String> {
        let number = self.as_json();
        // Fewer digits are exact.
        (number.len() > 15 && Decimal::of(number).is_some())
            .then(|| number.parse::<f64>().ok())
            .flatten()
            .map(|number| number.to_string())
    }
}

/// Whether both are JSON numbers of one value, to the last digit.
fn same_number(one: &str, other: &str) -> bool {
    matches!((Decimal::of(one), Decimal::of(other)), (Some(one), Some(other)) if one == other)
}

/// The value of a JSON number: its digits without zeros at either end, and the power of ten of the last one.
#[derive(PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `None` for what is no number of JSON (RFC 8259 §6), or one whose exponent nobody writes.
    fn of(text: &str) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?.into()),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = [whole, fraction].concat();
        if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut exponent = exponent - i64::try_from(fraction.len()).ok()?;
        while digits.ends_with('0') {
            digits.pop();
            exponent += 1;
        }
        digits.drain(..digits.len() - digits.trim_start_matches('0').len());
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        Some(Self { is_negative, digits, exponent })
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
