//! Bodies with the Content-Encoding `gzip` or `x-gzip`, another name of it (RFC 9110 §8.4.1.3). Decoded here rather than by
//! the client, because a client neither knows the second name nor limits how much a body expands.
//!
//! # Invariants
//!
//! - No piece of a decoded body is longer than [`PIECE`] and what one step may add.
//! - A body that expands beyond [`MOST_EXPANSION`] is refused while it comes.
//! - Several members are one body (RFC 1952 §2.2), and what follows the last one is not read: some servers
//!   fill it with zeros.

use std::{
    error::Error as StdError,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use flate2::write::GzDecoder;
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
/// With what a member begins (RFC 1952 §2.3.1).
const ID1: u8 = 0x1f;
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
    decoder: GzDecoder<Vec<u8>>,
    place: Place,
    /// Not decoded yet.
    encoded: Bytes,
    /// Bytes that have come, and bytes that have come of them.
    taken: u64,
    given: u64,
}

/// Where in a body the next byte is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a member.
    Inside,
    /// Behind the end of a member: another one may begin.
    Between,
    /// Behind the last member.
    Behind,
}

impl<B> Decoded<B> {
    pub(super) fn new(body: B) -> Self {
        let decoder = GzDecoder::new(Vec::new());
        Self { body, decoder, place: Place::Inside, encoded: Bytes::new(), taken: 0, given: 0 }
    }

    /// Decodes what has come, up to a piece.
    fn decode(&mut self) -> io::Result<Bytes> {
        while !self.encoded.is_empty() && self.decoder.get_ref().len() < PIECE {
            let step = match self.place {
                Place::Inside => self.decoder.write(&self.encoded[..self.encoded.len().min(STEP)])?,
                Place::Between if self.encoded[0] == ID1 => {
                    self.decoder = GzDecoder::new(std::mem::take(self.decoder.get_mut()));
                    self.place = Place::Inside;
                    continue;
                }
                Place::Between | Place::Behind => {
                    self.place = Place::Behind;
                    self.encoded.clear();
                    break;
                }
            };
            if step == 0 {
                self.decoder.try_finish()?; // whose sum was right
                self.place = Place::Between;
            }
            self.encoded.advance(step);
            self.taken += step as u64;
        }
        if self.encoded.is_empty() && matches!(self.place, Place::Inside) {
            self.decoder.flush()?;
        }
        let mut piece = std::mem::take(self.decoder.get_mut());
        piece.shrink_to_fit(); // a message keeps it, and up to half of its room is free
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
            // The rest of the body is not read, because it may have no end.
            if matches!(self.place, Place::Behind) {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.encoded = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                // The answer to a HEAD, or a status without a body, has nothing to end.
                None if self.taken == 0 => return Poll::Ready(None),
                None => match self.place {
                    Place::Inside => {
                        return Poll::Ready(self.decoder.try_finish().err().map(|error| Err(error.into())));
                    }
                    Place::Between | Place::Behind => return Poll::Ready(None),
                },
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
    fn what_follows_last_member_is_not_read() {
        let (first, second) = (encode(b"one "), encode(b"two"));
        for trailing in [&[0; 200][..], b"\r\n", b"<!-- cached -->"] {
            let body = [&first, &second, trailing].concat();
            for cut in [1, 7, body.len()] {
                let (pieces, error) = decode(&body, cut);
                assert_eq!((&pieces.concat()[..], error), (&b"one two"[..], None), "{trailing:?}, cut {cut}");
            }
        }
        let mut wrong = [&first[..], &second].concat();
        *wrong.last_mut().unwrap() ^= 1; // the length of the second member
        assert!(decode(&wrong, 9).1.is_some());
        assert!(decode(&[&first[..], &second[..second.len() - 1]].concat(), 9).1.is_some(), "cut off in its sum");
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
