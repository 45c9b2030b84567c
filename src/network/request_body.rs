//! The body of a request, and whether a request that waits was begun.
//!
//! Over HTTP/2 a server allows a number of streams at a time (RFC 9113 §5.1.2), and requests beyond it wait in the
//! connection, forever where earlier ones are never answered.
//!
//! hyper asks for a second piece of the body when the stream takes the first one, and not before the stream is open.
//!
//! # Invariants
//!
//! - A request that was not begun did not run: nothing of its body went out.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Tells whether a request was begun on its connection of HTTP/2.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening {
    has_begun: Arc<AtomicBool>,
}

/// How long a request waits for a stream before another connection is made.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request: nothing or one piece. With an [`Opening`], the body notes that hyper asks for the next piece.
#[derive(Debug)]
pub(crate) struct RequestBody {
    data: Option<Bytes>,
    opening: Option<Opening>,
}

impl RequestBody {
    pub(crate) fn new(data: Option<Bytes>) -> Self {
        Self { data, opening: None }
    }

    /// Returns what tells when a connection of HTTP/2, which gets the request now, begins it; `None` without a body, because
    /// then hyper asks for nothing.
    pub(super) fn open(&mut self) -> Option<Opening> {
        self.opening = self.data.as_ref().map(|_| Opening::default());
        self.opening.clone()
    }

    /// Bytes that are not sent yet.
    pub(super) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl Opening {
    /// Ends if the request is not begun in time, from now on.
    pub(super) async fn starves(&self) {
        tokio::time::sleep(PATIENCE).await;
        if self.has_begun.load(Relaxed) {
            std::future::pending().await
        }
    }

    fn begin(&self) {
        self.has_begun.store(true, Relaxed);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take();
        if let (None, Some(opening)) = (&data, &self.opening) {
            opening.begin();
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    /// False even after the one piece where its end is noted, or nobody asks again.
    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.opening.as_ref().is_none_or(|opening| opening.has_begun.load(Relaxed))
    }

    /// Known, so that the request has a Content-Length.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn request_starves_only_if_it_was_not_begun() {
        let mut body = RequestBody::new(Some(Bytes::from_static(b"{}")));
        assert!(!body.is_end_stream());
        let opening = body.open().unwrap();
        let starves = || tokio::time::timeout(10 * PATIENCE, opening.starves());
        let mut next = || {
            let frame = Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
            (matches!(frame, Poll::Ready(Some(_))), body.is_end_stream())
        };
        assert_eq!(next(), (true, false), "hyper asks again after the one piece");
        assert!(starves().await.is_ok(), "the stream is not open yet");
        assert_eq!(next(), (false, true));
        assert!(starves().await.is_err(), "it may run, so it must not be sent again");
        assert!(RequestBody::new(None).open().is_none(), "nothing shows that it was begun");
    }
}
