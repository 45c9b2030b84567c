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
//! - Nothing of the body goes out later if the [`StreamOpening`] was dropped before: the request may run elsewhere meanwhile.

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

/// Tells whether a request was begun on its connection of HTTP/2. If this is dropped before, the request is given up.
#[derive(Debug)]
pub(super) struct StreamOpening(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    has_begun: AtomicBool,
    is_given_up: AtomicBool,
}

/// How long a request waits for a stream before another connection is made.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request: nothing or one piece. For a [`StreamOpening`], the body notes that hyper asks for the next piece.
#[derive(Debug)]
pub(crate) struct RequestBody {
    data: Option<Bytes>,
    progress: Option<Arc<Progress>>,
}

impl RequestBody {
    pub(crate) fn new(data: Option<Bytes>) -> Self {
        Self { data, progress: None }
    }

    /// Returns what tells when a connection of HTTP/2, which gets the request now, begins it; `None` without a body, because
    /// then hyper asks for nothing.
    pub(super) fn open(&mut self) -> Option<StreamOpening> {
        self.progress = self.data.as_ref().map(|_| Arc::default());
        self.progress.clone().map(StreamOpening)
    }

    /// Forgets the connection of HTTP/2 that gave the request back.
    pub(super) fn give_back(&mut self) {
        self.progress = None;
    }

    /// Bytes that are not sent yet.
    pub(super) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl StreamOpening {
    /// Ends if the request is not begun in time, from now on.
    pub(super) async fn starves(&self) {
        tokio::time::sleep(STREAM_PATIENCE).await;
        if self.0.has_begun.load(Relaxed) {
            std::future::pending().await
        }
    }
}

impl Drop for StreamOpening {
    fn drop(&mut self) {
        self.0.is_given_up.store(true, Relaxed);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(progress) = &self.progress {
            if self.data.is_none() {
                progress.has_begun.store(true, Relaxed);
            } else if progress.is_given_up.load(Relaxed) {
                return Poll::Pending; // until hyper resets the stream, because nobody awaits the response
            }
        }
        let data = self.data.take();
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    /// False even after the one piece where its end is noted, or nobody asks again.
    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.progress.as_ref().is_none_or(|progress| progress.has_begun.load(Relaxed))
    }

    /// Known, so that the request has a Content-Length.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn next(body: &mut RequestBody) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn request_starves_only_if_it_was_not_begun() {
        let mut body = RequestBody::new(Some(Bytes::from_static(b"{}")));
        let opening = body.open().unwrap();
        let starves = || tokio::time::timeout(10 * STREAM_PATIENCE, opening.starves());
        assert!(!body.is_end_stream());
        assert!(matches!(next(&mut body), Poll::Ready(Some(_))));
        assert!(!body.is_end_stream(), "hyper asks again after the one piece");
        assert!(starves().await.is_ok(), "the stream is not open yet");
        assert!(matches!(next(&mut body), Poll::Ready(None)));
        assert!(body.is_end_stream());
        assert!(starves().await.is_err(), "it may run, so it must not be sent again");
        assert!(RequestBody::new(None).open().is_none(), "nothing shows that it was begun");
    }

    #[test]
    fn request_that_was_given_up_never_begins() {
        let mut body = RequestBody::new(Some(Bytes::from_static(b"{}")));
        drop(body.open());
        assert!(next(&mut body).is_pending());
        body.give_back();
        assert!(matches!(next(&mut body), Poll::Ready(Some(_))), "on another connection");
    }
}
