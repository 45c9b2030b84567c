//! How every target reads its input: cuts first, then the text.

use bytes::Bytes;

/// The text in pieces, and whole.
pub fn cut(input: &[u8]) -> Option<(Vec<Bytes>, &[u8])> {
    let (count, rest) = input.split_first()?;
    let (cuts, text) = rest.split_at_checked(usize::from(count % 16))?;
    let mut pieces = Vec::new();
    let mut left = text;
    let mut lengths = cuts.iter().map(|length| usize::from(*length)).cycle();
    while !left.is_empty() {
        // Empty pieces are pieces too, but not for ever.
        let length = lengths.next().map_or(left.len(), |length| length.min(left.len()));
        let (piece, after) = left.split_at(if pieces.len() > 2 * text.len() { left.len() } else { length });
        pieces.push(Bytes::copy_from_slice(piece));
        left = after;
    }
    Some((pieces, text))
}
