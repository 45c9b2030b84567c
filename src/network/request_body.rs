//! The body of a request, and whether a request that waits was begun.
//!
//! Over HTTP/2 a server allows a number of streams at a time (RFC 9113 §5.1.2), and requests beyond it wait in the
//! connection, forever where earlier ones are never answered.
//!
//! The client asks for a second piece of the body when it has sent the first one, and not before the stream is open.
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

/// Tells whether a body was sent.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    has_begun: Arc<AtomicBool>,
    /// Of its client: whether any request was begun.
    is_open: Arc<AtomicBool>,
}

/// How long a request waits for a stream before another connection is made.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request: nothing or one piece. With an [`Opening`], it tells that hyper has asked for the next piece.
#[derive(Debug)]
pub(crate) struct RequestBody {
    data: Option<Bytes>,
    opening: Option<Opening>,
}

impl RequestBody {
    pub(crate) fn new(data: Option<Bytes>, opening: Option<Opening>) -> Self {
        Self { data, opening }
    }

    /// Notes that the request goes out now, over HTTP/1.1, which has no streams to wait for.
    pub(super) fn begin(&self) {
        if let Some(opening) = &self.opening {
            opening.has_begun.store(true, Relaxed);
        }
    }

    /// Bytes that are not sent yet.
    pub(super) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl Opening {
    /// Returns what tells it of a request to a client, which `is_open` if a request was ever begun there.
    pub(crate) fn new(is_open: Arc<AtomicBool>) -> Self {
        Self { has_begun: Arc::default(), is_open }
    }

    /// Ends if the request is not begun in time, although the client has a connection. Where it has none, it connects.
    pub(crate) async fn starves(&self) {
        loop {
            tokio::time::sleep(PATIENCE).await;
            if self.has_begun.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.is_open.load(Relaxed) {
                return;
            }
        }
    }

    fn begin(&self) {
        self.has_begun.store(true, Relaxed);
        if !self.is_open.load(Relaxed) {
            self.is_open.store(true, Relaxed);
        }
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
    async fn request_starves_only_where_it_was_not_begun() {
        let opening = Opening::new(Arc::new(AtomicBool::new(true)));
        let body = RequestBody::new(Some(Bytes::from_static(b"{}")), Some(opening.clone()));
        assert!(!body.is_end_stream());
        let starves = || tokio::time::timeout(10 * PATIENCE, opening.starves());
        assert!(starves().await.is_ok(), "other requests were begun on the connection");
        body.begin();
        assert!(!body.is_end_stream(), "it is still to be sent");
        assert!(starves().await.is_err(), "it may run, so it must not be sent again");
    }
}
