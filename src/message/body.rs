//! The bytes of a message, in as many pieces as they came in.
//!
//! # Invariants
//!
//! - A large answer is not joined.
//! - A small piece does not keep a whole chunk alive.

use std::{borrow::Cow, ops::Range};

use bytes::{Bytes, BytesMut};

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

    /// Adds the next piece. Small ones are copied together: each would keep the whole chunk alive in
    /// which it came.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        match self {
            Self::Many(pieces) if pieces.is_empty() => *self = Self::One(piece),
            Self::Many(pieces) => add(pieces, piece),
            Self::One(first) if first.is_empty() => *first = piece,
            Self::One(first) => {
                let mut pieces = Vec::with_capacity(2);
                add(&mut pieces, std::mem::take(first));
                add(&mut pieces, piece);
                *self = Self::Many(pieces);
            }
        }
    }

    /// Adds the pieces of another body.
    pub fn append(&mut self, other: Self) {
        match other {
            Self::One(piece) => self.push(piece),
            Self::Many(pieces) => pieces.into_iter().for_each(|piece| self.push(piece)),
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
        let mut copied = BytesMut::with_capacity(span.len().min(self.len().saturating_sub(span.start)));
        let mut at = 0;
        for piece in self.pieces() {
            let from = span.start.clamp(at, at + piece.len()) - at;
            let to = span.end.clamp(at, at + piece.len()) - at;
            copied.extend_from_slice(&piece[from..to]);
            at += piece.len();
        }
        copied.freeze()
    }

    /// Some of the bytes, copied only where they are not in one piece.
    pub(super) fn view(&self, span: Range<usize>) -> Cow<'_, [u8]> {
        match self {
            Self::One(piece) => Cow::Borrowed(&piece[span]),
            Self::Many(_) => Cow::Owned(self.copy(span).into()),
        }
    }

    /// Those at the end go, those between tokens become spaces; the scanner has made sure that
    /// there are no others.
    pub(super) fn take_out_line_breaks(&mut self) {
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

/// Pieces below this length are copied together, in bytes.
const SMALL: usize = 4096;
/// What is copied together grows to this length, in bytes.
const COPIED: usize = 64 * 1024;

fn add(pieces: &mut Vec<Bytes>, piece: Bytes) {
    if piece.len() >= SMALL {
        return pieces.push(piece);
    }
    let mut copied = match pieces.pop() {
        Some(last) if last.len() + piece.len() <= COPIED => last.try_into_mut().unwrap_or_else(|last| {
            let mut copied = BytesMut::with_capacity(last.len() + piece.len());
            copied.extend_from_slice(&last);
            copied
        }),
        Some(last) => {
            pieces.push(last);
            BytesMut::with_capacity(SMALL)
        }
        None => BytesMut::with_capacity(SMALL),
    };
    copied.extend_from_slice(&piece);
    pieces.push(copied.freeze());
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
