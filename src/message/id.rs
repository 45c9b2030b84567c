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
    /// An id of our own making: a JSON string of these characters, which need no escape.
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

impl Id {
    /// Returns whether both have the same value, or one is a number and the other its text: `7` and `"7"`. Some gateways
    /// write an id so.
    #[must_use]
    pub fn matches_loosely(&self, other: &Self) -> bool {
        self.same_value(other) || self.is_text_of(other) || other.is_text_of(self)
    }

    fn is_text_of(&self, number: &Self) -> bool {
        let Ok(text) = serde_json::from_str::<String>(self.as_json()) else { return false };
        let is_number = |text: &str| text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        is_number(&text)
            && is_number(number.as_json())
            && matches!((text.parse::<f64>(), number.as_json().parse::<f64>()), (Ok(one), Ok(other)) if one == other)
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
