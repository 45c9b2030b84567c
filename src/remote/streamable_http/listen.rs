//! The GET stream (MCP 2025-11-25, Transports, Listening for Messages from the Server): what the server sends unasked.
//!
//! # Invariants
//!
//! - There is at most one GET stream, and none before the host's `initialize` is answered.

use std::{sync::Arc, time::Duration};

use log::{debug, warn};
use reqwest::StatusCode;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    StreamableHttp,
    answers::Recipient,
    session::{Session, names_the_session},
};
use crate::{
    oauth::Requester,
    remote::{
        error::Error,
        resumable::{DEFAULT_RETRY, EMPTY_AND_HASTY, ResumableStream},
        retry::Backoff,
    },
    text::chain,
};

/// Longest pause between tries to open the GET stream. An idle stream is worth little traffic.
const LONGEST_STREAM_PAUSE: Duration = Duration::from_secs(60);
/// The GET stream waits for the first answer, so as not to take the one warm connection from the
/// request that follows the handshake; if the host asks nothing, it is opened after this.
const QUIET: Duration = Duration::from_millis(200);

/// What decides when the GET stream is opened.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// A request other than `initialize` has been answered.
    answered: bool,
    /// How often the machine has slept: then connections may be dead.
    pub(super) sleeps: u64,
}

impl Steering {
    /// Waits until the machine has slept more often than `seen`.
    async fn slept(steering: &mut watch::Receiver<Self>, seen: &mut u64) {
        if let Ok(now) = steering.wait_for(|now| now.sleeps != *seen).await {
            *seen = now.sleeps;
        }
    }
}

impl StreamableHttp {
    /// Notes an answer to a request of the host.
    pub(super) fn note_answer(&self, session: &Session) {
        session.prove();
        self.open_get_stream();
    }

    /// Lets the GET stream be opened now.
    pub(super) fn open_get_stream(&self) {
        self.steering.send_if_modified(|steering| !std::mem::replace(&mut steering.answered, true));
    }

    /// Keeps a GET stream open for each session.
    pub(super) async fn follow_sessions(self: Arc<Self>) {
        let mut sessions = self.session.subscribe();
        loop {
            let session = sessions.borrow_and_update().clone();
            if !session.is_blank() {
                tokio::select! {
                    () = self.follow(&session) => {}
                    _ = sessions.changed() => continue,
                }
            }
            if sessions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Keeps the GET stream of one session open. Returns when the server has none.
    async fn follow(&self, session: &Arc<Session>) {
        let http = &self.core.http;
        let mut steering = self.steering.subscribe();
        tokio::select! {
            _ = steering.wait_for(|steering| steering.answered) => {}
            () = async { self.core.initialized.notified().await; sleep(QUIET).await } => {}
        }
        let mut sleeps = steering.borrow().sleeps;
        let mut stream: Option<ResumableStream> = None;
        let mut backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
        loop {
            let last_id = stream.as_ref().and_then(|stream| stream.last_id.clone());
            let since = Instant::now();
            let opened = http.listen(&session.headers, last_id.as_ref(), Requester::Stream).await;
            let error = match (opened, &mut stream) {
                (Ok(response), stream) => {
                    let stream = match stream {
                        Some(stream) => {
                            stream.resume(response, http.limit);
                            stream
                        }
                        None => {
                            debug!("the server's own stream is open");
                            stream.insert(ResumableStream::new(response, http.limit))
                        }
                    };
                    tokio::select! {
                        error = self.pass_on(stream, session) => error,
                        () = Steering::slept(&mut steering, &mut sleeps) => continue,
                    }
                }
                (Err(Error::Refused(refusal)), Some(_)) if names_the_session(&refusal, session) => {
                    if let Err(error) = self.renew(session).await {
                        warn!("{}", chain(&error));
                    }
                    return;
                }
                // 405 is the specification's way to say no; servers have found others.
                (Err(Error::Refused(refusal)), None)
                    if refusal.status.is_client_error() || refusal.status == StatusCode::NOT_IMPLEMENTED =>
                {
                    debug!("the server offers no stream of its own: {refusal}");
                    return;
                }
                (Err(error), stream) => {
                    // Perhaps the server has forgotten the event: then a new stream is better than none.
                    if let (Error::Refused(refusal), Some(stream)) = (&error, stream)
                        && refusal.status.is_client_error()
                    {
                        stream.forget();
                    }
                    Some(error)
                }
            };
            if let Some(error) = &error {
                debug!("the server's own stream: {}", chain(error));
            }
            if since.elapsed() > LONGEST_STREAM_PAUSE {
                backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
            }
            let empty = stream.as_ref().map_or(0, |stream| stream.empty_resumptions);
            let pause = match (stream.as_ref().and_then(|stream| stream.retry), error) {
                (Some(named), None) if empty <= EMPTY_AND_HASTY => named,
                (named, _) => named.unwrap_or(DEFAULT_RETRY).max(backoff.pause()),
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = Steering::slept(&mut steering, &mut sleeps) => {}
            }
        }
    }

    /// Passes on what the server sends unasked, until the response ends. Returns what ended it, if not the server.
    async fn pass_on(&self, stream: &mut ResumableStream, session: &Session) -> Option<Error> {
        loop {
            match stream.next(&self.core.http).await {
                Ok(Some(message)) => self.deliver(message, &mut Vec::new(), &mut Recipient::Host(session)).await,
                Ok(None) => return None,
                Err(Error::BadMessage(malformed)) => warn!("an event of the server is dropped: {malformed}"),
                Err(error) => return Some(error),
            }
        }
    }
}
