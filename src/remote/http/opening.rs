//! Whether a request that waits was begun, over HTTP/2: a server allows a number of streams at a time (RFC 9113 §5.1.2),
//! and requests beyond it wait in the connection, forever where earlier ones are never answered.
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
pub(super) struct Opening {
    has_begun: Arc<AtomicBool>,
    /// Of its client: whether any request was begun.
    is_open: Arc<AtomicBool>,
}

/// How long a request waits for a stream before another connection is made.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body of one piece that notes when it is asked for the next.
#[derive(Debug)]
struct NotedBody {
    data: Option<Bytes>,
    opening: Opening,
}

impl Opening {
    /// Returns what tells it of a request to a client, which `is_open` if a request was ever begun there.
    pub(super) fn new(is_open: Arc<AtomicBool>) -> Self {
        Self { has_begun: Arc::default(), is_open }
    }

    /// Returns a body that is noted here.
    pub(super) fn body(&self, data: Bytes) -> reqwest::Body {
        reqwest::Body::wrap(NotedBody { data: Some(data), opening: self.clone() })
    }

    /// Ends if the request is not begun in time, although the client has a connection. Where it has none, it connects.
    pub(super) async fn starves(&self) {
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

impl Body for NotedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take();
        if data.is_none() {
            self.opening.begin();
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    /// False even after the one piece, or nobody asks again.
    fn is_end_stream(&self) -> bool {
        self.opening.has_begun.load(Relaxed)
    }

    /// Known, so that the request has a Content-Length.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
