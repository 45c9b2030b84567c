//! The connections to one server: those of HTTP/1.1 that are free, and the one of HTTP/2 that requests share.
//!
//! hyper-util's pool is not used, because it serves many servers: it looks up the connection of each request by URL, three
//! times, and starts a task for each response.
//!
//! # Invariants
//!
//! - A connection of HTTP/1.1 serves one request at a time, and is free again when the response was read to its end.
//! - A request takes what comes first: a connection that becomes free, or the one that is opened for it. If that fails, the
//!   request does.
//! - A connection of HTTP/2 is idle if no request on it awaits its response or reads it.
//! - A connection that its request no longer needs is kept for the next request.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::{HeaderMap, HeaderName, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use log::debug;
use tokio::{sync::oneshot, time::Instant};
use tower_service::Service;

use super::{
    HTTP2_WINDOW, MOST_HEADERS, TCP_KEEP_ALIVE, connect::Connector, failure::RequestError, request_body::RequestBody,
};
use crate::{sync::LockExt, text::chain};

/// The header by which many servers announce the end of a connection that nobody uses.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How long before its announced end a connection is no longer used, or half of its time: a request is on its way meanwhile.
const CLOSING_MARGIN: Duration = Duration::from_secs(1);

/// The connections to one server.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: Connector,
    server: Uri,
    /// How long a connection is kept that nobody uses.
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of HTTP/1.1, the one that was used last at the end, and until when it is kept.
    free: Vec<(Http1, Instant)>,
    /// Of HTTP/2.
    shared: Option<Http2>,
    waiting: VecDeque<oneshot::Sender<HttpConnection>>,
    /// A task closes what is not used.
    is_watched: bool,
}

/// A connection of HTTP/2: the pool's, or that of one request.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    /// The address at the other end.
    pub(super) peer: Option<SocketAddr>,
    pub(super) usage: Usage,
}

/// Keeps a connection of HTTP/2 from being idle: the pool has one, and each request until its response ends. It knows when
/// the last one was dropped.
#[derive(Clone, Debug)]
pub(super) struct Usage(Arc<Mutex<Instant>>);

impl Usage {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Returns since when no request uses the connection; now if one does.
    fn idle_since(&self) -> Instant {
        if Arc::strong_count(&self.0) > 1 { Instant::now() } else { *self.0.guard() }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        *self.0.guard() = Instant::now();
    }
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    /// It leads to a proxy that forwards requests.
    pub(super) is_forwarding: bool,
    /// The address at the other end.
    pub(super) peer: Option<SocketAddr>,
    /// How long it may be free before its announced end is near, where the server announces one.
    pub(super) keep_alive: Option<Duration>,
    /// Why it ended: a request that finds it closed does not hear of that from hyper.
    fault: Arc<Mutex<Option<hyper::Error>>>,
}

impl Http1 {
    /// Notes how long the server keeps the connection while nobody uses it (`Keep-Alive: timeout=SECONDS`, RFC 2068
    /// §19.7.1): a request that meets its end is lost.
    pub(super) fn note_keep_alive(&mut self, headers: &HeaderMap) {
        let Some(value) = headers.get(KEEP_ALIVE).and_then(|value| value.to_str().ok()) else { return };
        let named = value.split(',').find_map(|parameter| parameter.trim().strip_prefix("timeout=")?.parse().ok());
        self.keep_alive = named.map(|seconds| {
            let announced = Duration::from_secs(seconds);
            announced - CLOSING_MARGIN.min(announced / 2)
        });
    }

    /// Returns why the connection ended, if that is known, or else this error.
    pub(super) fn fault(&self, error: hyper::Error) -> hyper::Error {
        self.fault.guard().take().unwrap_or(error)
    }
}

/// A connection for one request.
#[derive(Debug)]
pub(super) enum HttpConnection {
    Http1(Free),
    Http2(Http2),
}

/// A connection that nobody uses: if it is dropped, it goes back.
#[derive(Debug)]
pub(super) struct Free {
    connection: Option<Http1>,
    pool: Weak<Inner>,
}

/// A connection in use: if it is dropped, it is closed.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) connection: Http1,
    pool: Weak<Inner>,
}

impl Pool {
    /// Opens nothing.
    pub(super) fn new(connector: Connector, server: Uri, idle: Duration) -> Self {
        Self(Arc::new(Inner { connector, server, idle, state: Mutex::default() }))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.state.guard().free.is_empty()
    }

    /// Returns a connection, and whether it was there before. A `fresh` one was not.
    ///
    /// # Errors
    /// If none is free and none can be opened.
    pub(super) async fn connection(&self, fresh: bool) -> Result<(HttpConnection, bool), RequestError> {
        if fresh {
            // Boxed, because this is rare and every request carries its room.
            return Ok((Box::pin(self.0.open()).await?, false));
        }
        let mut freed = {
            let mut state = self.0.state.guard();
            if let Some(found) = self.0.find(&mut state) {
                return Ok((found, true));
            }
            let (waiting, freed) = oneshot::channel();
            state.waiting.retain(|other| !other.is_closed());
            state.waiting.push_back(waiting);
            freed
        };
        let mut opened = self.0.clone().open_beside();
        tokio::select! {
            biased;
            // First, because one of HTTP/2 comes both ways.
            Ok(opened) = &mut opened => match (opened, freed.try_recv()) {
                (Err(_), Ok(connection)) => Ok((connection, true)),
                (opened, _) => opened.map(|connection| (connection, false)),
            },
            Ok(connection) = &mut freed => Ok((connection, true)),
            else => Err(RequestError::Abandoned),
        }
    }
}

impl Inner {
    fn find(self: &Arc<Self>, state: &mut State) -> Option<HttpConnection> {
        if let Some(shared) = &state.shared {
            if !shared.sender.is_closed() && shared.usage.idle_since().elapsed() < self.idle {
                return Some(HttpConnection::Http2(shared.clone()));
            }
            state.shared = None;
        }
        while let Some((connection, until)) = state.free.pop() {
            if !connection.sender.is_closed() && Instant::now() < until {
                return Some(HttpConnection::Http1(self.free(connection)));
            }
        }
        None
    }

    fn free(self: &Arc<Self>, connection: Http1) -> Free {
        Free { connection: Some(connection), pool: Arc::downgrade(self) }
    }

    /// Opens a connection in a task of its own, so that it is not lost if the request finds another one. The task lasts no
    /// longer than the connect timeout: a handshake of HTTP/1.1 or HTTP/2 after it awaits nothing from the server. hyper
    /// only writes the 24 bytes that begin HTTP/2 (RFC 9113 §3.4), for which a new socket has room.
    fn open_beside(self: Arc<Self>) -> oneshot::Receiver<Result<HttpConnection, RequestError>> {
        let (sender, opened) = oneshot::channel();
        tokio::spawn(async move { _ = sender.send(self.open().await) });
        opened
    }

    async fn open(self: &Arc<Self>) -> Result<HttpConnection, RequestError> {
        let stream = self.connector.clone().call(self.server.clone()).await.map_err(RequestError::Connect)?;
        let peer = stream.peer();
        if !stream.is_http2() {
            let is_forwarding = stream.is_forwarding();
            let opened = http1::Builder::new()
                .max_headers(MOST_HEADERS)
                // RFC 9112 §5.1 and §5.2: who receives a response removes the space, and joins the lines.
                .allow_spaces_after_header_name_in_responses(true)
                .allow_obsolete_multiline_headers_in_responses(true)
                .handshake(stream)
                .await;
            let (sender, connection) = opened.map_err(RequestError::Unsent)?;
            let fault = attend(connection);
            return Ok(HttpConnection::Http1(self.free(Http1 {
                sender,
                is_forwarding,
                peer,
                keep_alive: None,
                fault,
            })));
        }
        let opened = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_WINDOW)
            .initial_connection_window_size(HTTP2_WINDOW)
            .keep_alive_interval(TCP_KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .handshake(stream)
            .await;
        let (sender, connection) = opened.map_err(RequestError::Unsent)?;
        attend(connection);
        Ok(HttpConnection::Http2(self.share(Http2 { sender, peer, usage: Usage::new() })))
    }

    /// Shares a connection of HTTP/2, unless there is one: then that is returned.
    fn share(self: &Arc<Self>, opened: Http2) -> Http2 {
        let mut state = self.state.guard();
        if let Some(shared) = &state.shared
            && !shared.sender.is_closed()
        {
            return shared.clone();
        }
        state.shared = Some(opened.clone());
        for waiting in state.waiting.drain(..) {
            _ = waiting.send(HttpConnection::Http2(opened.clone()));
        }
        self.watch(&mut state);
        opened
    }

    /// Takes a connection back, or hands it to a request that waits.
    fn put(self: &Arc<Self>, connection: Http1) {
        if connection.sender.is_closed() {
            return;
        }
        let mut state = self.state.guard();
        let mut free = self.free(connection);
        while let Some(waiting) = state.waiting.pop_front() {
            match waiting.send(HttpConnection::Http1(free)) {
                Ok(()) => return,
                Err(HttpConnection::Http1(back)) => free = back,
                Err(HttpConnection::Http2(_)) => return,
            }
        }
        if let Some(connection) = free.connection.take() {
            let idle = connection.keep_alive.map_or(self.idle, |announced| announced.min(self.idle));
            state.free.push((connection, Instant::now() + idle));
            self.watch(&mut state);
        }
    }

    /// Starts the task that closes what is not used. It ends when nothing is left, or the pool is gone.
    fn watch(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.is_watched, true) {
            return;
        }
        let (pool, idle) = (Arc::downgrade(self), self.idle);
        tokio::spawn(async move {
            let mut next = Instant::now() + idle;
            loop {
                tokio::time::sleep_until(next).await;
                let Some(pool) = pool.upgrade() else { return };
                let mut state = pool.state.guard();
                let now = Instant::now();
                state.free.retain(|(connection, until)| now < *until && !connection.sender.is_closed());
                state.shared.take_if(|shared| shared.usage.idle_since().elapsed() >= idle || shared.sender.is_closed());
                let shared = state.shared.iter().map(|shared| shared.usage.idle_since() + idle);
                let Some(first) = state.free.iter().map(|(_, until)| *until).chain(shared).min() else {
                    state.is_watched = false;
                    return;
                };
                next = first;
            }
        });
    }
}

/// Lets a connection run until it is closed, by the server or because nobody uses it. Why it ended will be where
/// this returns.
fn attend(
    connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static,
) -> Arc<Mutex<Option<hyper::Error>>> {
    let fault = Arc::new(Mutex::new(None));
    let noted = fault.clone();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!("a connection ended: {}", chain(&error));
            *noted.guard() = Some(error);
        }
    });
    fault
}

impl Free {
    /// Takes the connection into use.
    pub(super) fn take(mut self) -> Option<Used> {
        Some(Used { connection: self.connection.take()?, pool: std::mem::take(&mut self.pool) })
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.upgrade()) {
            pool.put(connection);
        }
    }
}

impl Used {
    /// Gives the connection back, whose request was sent and whose response was read, both to their end.
    pub(super) fn give_back(self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self.connection);
        }
    }

    /// Gives the connection back once hyper can use it again: it sends the rest of a request that was answered early, and
    /// reads the rest of a response if that is here. Else it closes the connection.
    pub(super) fn give_back_when_ready(mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if self.connection.sender.ready().await.is_ok() {
                self.give_back();
            }
        });
    }
}
