//! Bodies with the Content-Encoding `gzip` or `x-gzip`, another name of it (RFC 9110 §8.4.1.3). Decoded here rather than by
//! the client, because a client neither knows the second name nor limits how much a body expands.
//!
//! # Invariants
//!
//! - No piece of a decoded body is longer than [`PIECE`] and what one step may add.
//! - A body that expands beyond [`MOST_EXPANSION`] is refused while it comes.

use std::{
    error::Error as StdError,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http_body::{Body, Frame};
use reqwest::{
    Response,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue},
};

/// What is asked for with each request (RFC 9110 §12.5.3).
pub(crate) const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip");

/// Decoded bytes that are passed on at a time.
const PIECE: usize = 32 * 1024;
/// Encoded bytes that are decoded in one step: a thousand times as much may come of them.
const STEP: usize = 64;
/// Decoded bytes that may come for one encoded byte. JSON of real servers stays far below: a table of equal rows reaches 40.
const MOST_EXPANSION: u64 = 100;
/// Decoded bytes of a body that may come whatever their number, because a short body proves nothing.
const FREE: u64 = 8 * 1024 * 1024;

/// The body expands more than any message does.
#[derive(Debug, thiserror::Error)]
#[error("the compressed body expands more than {MOST_EXPANSION}-fold")]
pub(crate) struct ExpandsTooMuch;

/// Returns whether this is why a body could not be read.
pub(crate) fn expands_too_much(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<ExpandsTooMuch>() || inner.is_some_and(|inner| inner.is::<ExpandsTooMuch>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns whether a body is encoded this way.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    encoding.eq_ignore_ascii_case(b"gzip") || encoding.eq_ignore_ascii_case(b"x-gzip")
}

/// Returns the response with its body decoded piece by piece as it comes, if it is encoded this way.
pub(crate) fn decoded(response: Response) -> Response {
    if !is_encoded(response.headers()) {
        return response;
    }
    let mut response = http::Response::from(response);
    for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
        response.headers_mut().remove(name);
    }
    response.map(|body| reqwest::Body::wrap(Decoded::new(body))).into()
}

/// A body that is decoded while it is read.
#[derive(Debug)]
pub(super) struct Decoded<B> {
    body: B,
    decoder: MultiGzDecoder<Vec<u8>>,
    /// Not decoded yet.
    encoded: Bytes,
    /// Bytes that have come, and bytes that have come of them.
    taken: u64,
    given: u64,
}

impl<B> Decoded<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, decoder: MultiGzDecoder::new(Vec::new()), encoded: Bytes::new(), taken: 0, given: 0 }
    }

    /// Decodes what has come, up to a piece.
    fn decode(&mut self) -> io::Result<Bytes> {
        while !self.encoded.is_empty() && self.decoder.get_ref().len() < PIECE {
            let step = self.encoded.len().min(STEP);
            self.decoder.write_all(&self.encoded[..step])?;
            self.encoded.advance(step);
            self.taken += step as u64;
        }
        if self.encoded.is_empty() {
            self.decoder.flush()?;
        }
        let piece = std::mem::take(self.decoder.get_mut());
        self.given += piece.len() as u64;
        if self.given > FREE.max(self.taken.saturating_mul(MOST_EXPANSION)) {
            return Err(io::Error::other(ExpandsTooMuch));
        }
        Ok(piece.into())
    }
}

impl<B> Body for Decoded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if !self.encoded.is_empty() {
                let decoded = self.decode()?;
                if !decoded.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(decoded))));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.encoded = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                // The answer to a HEAD, or a status without a body, has nothing to end.
                None if self.taken == 0 => return Poll::Ready(None),
                None => return Poll::Ready(self.decoder.try_finish().err().map(|error| Err(error.into()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The pieces that come of a body which arrives in pieces of `cut` bytes, and the error that ended it.
    fn decode(encoded: &[u8], cut: usize) -> (Vec<Bytes>, Option<String>) {
        let pieces = encoded.chunks(cut.max(1)).map(Bytes::copy_from_slice).collect();
        let mut body = Decoded::new(Pieces(pieces));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut decoded = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => decoded.extend(frame.into_data().ok()),
                Poll::Ready(Some(Err(error))) => return (decoded, Some(error.to_string())),
                Poll::Ready(None) => return (decoded, None),
                Poll::Pending => unreachable!("all pieces are there"),
            }
        }
    }

    #[test]
    fn body_is_same_however_it_is_cut() {
        let text: Vec<u8> =
            (0..300_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_be_bytes()).collect();
        let encoded = [encode(&text[..500_000]), encode(&text[500_000..])].concat(); // two members are one body
        for cut in [1, 1000, encoded.len()] {
            let (pieces, error) = decode(&encoded, cut);
            assert_eq!((pieces.concat() == text, error), (true, None), "cut {cut}");
        }
    }

    #[test]
    fn empty_body_has_no_end_to_miss() {
        assert_eq!(decode(b"", 1), (Vec::new(), None));
        assert!(decode(&encode(b"text")[..12], 5).1.is_some());
    }

    #[test]
    fn bomb_is_refused_in_small_pieces() {
        let encoded = encode(&vec![b' '; 64 * 1024 * 1024]);
        let (pieces, error) = decode(&encoded, encoded.len());
        assert_eq!(error.unwrap(), ExpandsTooMuch.to_string());
        let total: usize = pieces.iter().map(Bytes::len).sum();
        assert!(total as u64 <= FREE, "{total}");
        assert!(
            pieces.iter().all(|piece| piece.len() <= PIECE + STEP * 1100),
            "{:?}",
            pieces.iter().map(Bytes::len).max()
        );
    }

    #[test]
    fn short_body_expands_without_limit() {
        let text = vec![b'0'; 4 * 1024 * 1024];
        let (pieces, error) = decode(&encode(&text), 10_000);
        assert_eq!((pieces.concat() == text, error), (true, None));
    }
}
