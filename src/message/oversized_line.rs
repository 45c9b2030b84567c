//! What can still be told of a line that is too long: the id to answer under (JSON-RPC 2.0 §4).
//!
//! # Invariants
//!
//! - `OversizedLine` keeps no more of the line than its two ends.

use super::{Id, scanner::Scanner};

/// A line too long to keep: only what is needed to answer it is.
#[derive(Default)]
pub struct OversizedLine {
    scanner: Scanner,
    broken: bool,
    length: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl OversizedLine {
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
