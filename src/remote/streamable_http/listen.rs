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
    time::{Instant, sleep, timeout},
};

use super::{StreamableHttp, answers::Recipient, session::Session};
use crate::{
    mcp::method::{PROMPTS_GET, RESOURCES_READ, TOOLS_CALL},
    message::Message,
    oauth::Requester,
    remote::{
        error::{Error, Refusal},
        resumable::{DEFAULT_RETRY, EMPTY_AND_HASTY, ResumableStream, StreamKind},
        retry::Backoff,
    },
    text::chain,
};

/// Longest pause between tries to open the GET stream. An idle stream is worth little traffic.
const LONGEST_STREAM_PAUSE: Duration = Duration::from_secs(60);
/// A stream that was open for this long ended for a reason of its own: balancers cut streams off after 30 s and more.
const LASTING: Duration = Duration::from_secs(20);
/// The longest `Retry-After` that is obeyed: one beyond it is a mistake.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// The GET stream waits for the first answer, so as not to take the one warm connection from the
/// request that follows the handshake; if the host asks nothing, it is opened after this.
const FIRST_ANSWER_PATIENCE: Duration = Duration::from_millis(200);

/// How long a call waits for the GET stream: servers that hold back the head of a stream are not waited for again.
const GET_STREAM_PATIENCE: Duration = Duration::from_millis(500);

/// What decides when the GET stream is opened.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// A request other than `initialize` has been answered.
    answered: bool,
    /// Something needs the stream as soon as the handshake is over.
    wanted: bool,
    /// Whether there is a stream is known in this session, or is not waited for any longer.
    settled: bool,
    /// The server offers no GET stream in this session.
    pub(super) has_no_stream: bool,
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

    /// Lets the GET stream be opened as soon as the handshake is over.
    pub(super) fn want_get_stream(&self) {
        self.steering.send_if_modified(|steering| !std::mem::replace(&mut steering.wanted, true));
    }

    /// Waits for the GET stream before a call in whose middle a server may ask something: without the stream, what is asked
    /// there is lost, and the call never ends.
    pub(super) async fn wait_for_get_stream(&self, message: &Message, session: &Session) {
        let may_ask = matches!(message.method(), Some(TOOLS_CALL | PROMPTS_GET | RESOURCES_READ));
        if !may_ask || session.is_blank() || self.steering.borrow().settled {
            return;
        }
        self.want_get_stream();
        let mut steering = self.steering.subscribe();
        if timeout(GET_STREAM_PATIENCE, steering.wait_for(|steering| steering.settled)).await.is_err() {
            debug!("no longer waiting for the GET stream");
            self.settle_get_stream();
        }
    }

    fn settle_get_stream(&self) {
        self.steering.send_if_modified(|steering| !std::mem::replace(&mut steering.settled, true));
    }

    /// Keeps a GET stream open for each session.
    pub(super) async fn follow_sessions(self: Arc<Self>) {
        let mut sessions = self.session.subscribe();
        loop {
            let session = sessions.borrow_and_update().clone();
            if !session.is_blank() {
                self.steering.send_modify(|steering| {
                    steering.has_no_stream = false;
                    steering.settled = false;
                });
                tokio::select! {
                    () = self.follow(&session) => {}
                    _ = sessions.changed() => continue,
                }
                self.steering.send_modify(|steering| {
                    steering.has_no_stream = true;
                    steering.settled = true;
                });
            }
            if sessions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Keeps the GET stream of one session open. Returns when the server has none.
    async fn follow(&self, session: &Arc<Session>) {
        let http = &self.core.http;
        self.until_wanted().await;
        let mut steering = self.steering.subscribe();
        let mut sleeps = steering.borrow().sleeps;
        let mut stream: Option<ResumableStream> = None;
        let mut backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
        loop {
            let last_id = stream.as_mut().and_then(ResumableStream::last_id);
            let since = Instant::now();
            let opened = http.listen(&session.headers, last_id.as_ref(), Requester::Stream).await;
            self.settle_get_stream();
            let error = match opened {
                Ok(reader) => {
                    let stream = match &mut stream {
                        Some(stream) => {
                            stream.resume(reader);
                            stream
                        }
                        None => {
                            debug!("the GET stream is open");
                            stream.insert(ResumableStream::new(reader, StreamKind::Unasked))
                        }
                    };
                    tokio::select! {
                        error = self.pass_on(stream, session) => error,
                        () = Steering::slept(&mut steering, &mut sleeps) => {
                            // A server that has only one stream for a client refuses another one.
                            stream.close();
                            continue;
                        }
                    }
                }
                Err(error) => match StreamVerdict::of(error, session, stream.is_some()) {
                    StreamVerdict::None(error) => {
                        debug!("the server offers no GET stream: {}", chain(&error));
                        return;
                    }
                    StreamVerdict::SessionLost(refusal) => {
                        if let Err(error) = self.renew(session, &refusal).await {
                            warn!("cannot replace the lost session: {}", self.core.sentence(&error));
                        }
                        return;
                    }
                    StreamVerdict::Later(error) => Some(error),
                },
            };
            if let Some(error) = &error {
                self.note_interruption(error, stream.as_mut());
            }
            if since.elapsed() > LASTING {
                backoff = Backoff::up_to(LONGEST_STREAM_PAUSE);
            }
            tokio::select! {
                () = sleep(pause_before_reopening(stream.as_mut(), error.as_ref(), &mut backoff)) => {}
                () = Steering::slept(&mut steering, &mut sleeps) => {}
            }
        }
    }

    /// Waits until the GET stream is to be opened for the first time.
    async fn until_wanted(&self) {
        let (mut steering, mut wishes) = (self.steering.subscribe(), self.steering.subscribe());
        let no_answer = async {
            self.core.initialized.notified().await;
            _ = timeout(FIRST_ANSWER_PATIENCE, wishes.wait_for(|steering| steering.wanted)).await;
        };
        tokio::select! {
            _ = steering.wait_for(|steering| steering.answered) => {}
            () = no_answer => {}
        }
    }

    /// Notes why the GET stream cannot be read, and forgets its position if that stands in the way.
    fn note_interruption(&self, error: &Error, stream: Option<&mut ResumableStream>) {
        debug!("the GET stream was interrupted: {}", chain(error));
        let Some(stream) = stream else { return };
        match error {
            // Perhaps the server has forgotten the event: then a new stream is better than none.
            Error::Refused(refusal)
                if matches!(refusal.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE) =>
            {
                stream.forget();
            }
            // The server would send the same event again, and all that follow would wait for it.
            Error::TooLarge { .. } | Error::Expands => {
                warn!(
                    "cannot take an event of the GET stream ({}); going on without what the server has sent meanwhile",
                    self.core.sentence(error)
                );
                stream.forget();
            }
            _ => {}
        }
    }

    /// Passes on what the server sends unasked, until the response ends. Returns what ended it, if not the server.
    async fn pass_on(&self, stream: &mut ResumableStream, session: &Session) -> Option<Error> {
        loop {
            match stream.next(&self.core.http).await {
                Ok(Some(message)) => {
                    // Nothing is asked here, so no answer can lose the session.
                    if let Err(error) = self.deliver(message, session, &mut Vec::new(), &mut Recipient::Host).await {
                        return Some(error);
                    }
                }
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }
}

/// Returns how long to wait before the GET stream is opened again, which ended with this `error` or by the server.
fn pause_before_reopening(
    stream: Option<&mut ResumableStream>,
    error: Option<&Error>,
    backoff: &mut Backoff,
) -> Duration {
    let (named, is_empty, rest) = stream.map_or((None, false, Duration::ZERO), |stream| {
        (stream.retry(), stream.empty_resumptions > EMPTY_AND_HASTY, stream.rest())
    });
    let pause = match (named, error) {
        // SEP-1699: a server that closes its stream names the time, whether it has sent something or not.
        (Some(named), None) if is_empty => named.max(Backoff::FIRST),
        (Some(named), None) => named,
        (named, error) => {
            let asked = error.and_then(Error::retry_after).unwrap_or_default();
            named.unwrap_or(DEFAULT_RETRY).max(backoff.pause()).max(asked.min(LONGEST_RETRY_AFTER))
        }
    };
    pause.max(rest)
}

/// What a GET that brought no stream means.
#[derive(Debug)]
enum StreamVerdict {
    /// The server has no such stream.
    None(Error),
    /// It may have one later.
    Later(Error),
    /// The session is lost, and the stream with it.
    SessionLost(Box<Refusal>),
}

impl StreamVerdict {
    /// Judges the `error` of a GET; `was_open` is whether the session has had a stream.
    fn of(error: Error, session: &Session, was_open: bool) -> Self {
        let Error::Refused(refusal) = error else {
            // Something came that is no event stream: what has never been one will not become one.
            return if was_open || !matches!(error, Error::NotMcp(_)) { Self::Later(error) } else { Self::None(error) };
        };
        match (session.loss(refusal), was_open) {
            (Error::SessionLost { refusal, .. }, true) => Self::SessionLost(refusal),
            // MCP 2025-11-25, Transports: 405 is how a server says no; servers have found others.
            (Error::SessionLost { refusal, .. }, false) => Self::None(Error::Refused(refusal)),
            (Error::Refused(refusal), was_open) => {
                let is_taken = match refusal.status {
                    StatusCode::CONFLICT => true,
                    // The old stream is kept for a while by a gateway.
                    StatusCode::BAD_REQUEST => refusal.said.expose().to_ascii_lowercase().contains("exist"),
                    _ => false,
                };
                let error = Error::Refused(refusal);
                if was_open || is_taken || error.may_pass() { Self::Later(error) } else { Self::None(error) }
            }
            (error, _) => Self::Later(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::{mcp::header::SESSION_ID, secret::Secret};

    fn verdict(status: u16, text: &str, was_open: bool) -> &'static str {
        let headers = HeaderMap::from_iter([(SESSION_ID, HeaderValue::from_static("s"))]);
        let session = Session::with_headers(headers, 0);
        let status = StatusCode::from_u16(status).unwrap();
        let refusal = Refusal {
            status,
            retry_after: None,
            text: text.to_owned(),
            said: Secret::new(text.to_owned()),
            had_headers: false,
            cause: None,
            credential_since: None,
            answer: None,
        };
        match StreamVerdict::of(Error::Refused(Box::new(refusal)), &session, was_open) {
            StreamVerdict::None(_) => "none",
            StreamVerdict::Later(_) => "later",
            StreamVerdict::SessionLost(_) => "lost",
        }
    }

    #[test]
    fn refusal_of_get_has_one_of_three_verdicts() {
        for status in [404, 405, 406, 501, 400, 401, 403] {
            assert_eq!(verdict(status, "", false), "none", "{status}");
        }
        for status in [408, 409, 425, 429, 500, 502, 503, 504] {
            assert_eq!((verdict(status, "", false), verdict(status, "", true)), ("later", "later"), "{status}");
        }
        assert_eq!(verdict(400, "session already exists", false), "later");
        assert_eq!(verdict(400, "session already exists", true), "later");
        assert_eq!((verdict(404, "", true), verdict(400, "unknown session", true)), ("lost", "lost"));
        assert_eq!((verdict(405, "", true), verdict(403, "", true)), ("later", "later"));
    }
}
