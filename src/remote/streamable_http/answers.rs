//! What comes back for one POST: JSON or an event stream (MCP 2025-11-25, Transports, Sending Messages to the Server).
//!
//! # Invariants
//!
//! - An answer to a request of this program is not delivered to the host.
//! - Reading beyond an answer is bounded in time and number.

use std::{sync::Arc, time::Duration};

use log::{debug, info, warn};
use reqwest::{Response, header::HeaderValue};

use super::{StreamableHttp, session::Session};
use crate::{
    message::{Id, Message, Part, Shape},
    oauth::Requester,
    remote::{
        Event,
        error::Error,
        handshake::Initialized,
        http::body::is_event_stream,
        matching::{sole_answer, take},
        resumable::{DEFAULT_RETRY, EMPTY_AND_HASTY, ResumableStream},
        retry::Backoff,
    },
    sync::LockExt,
    text::{chain, one_line},
};

/// Failed tries in a row to resume a stream, each after a growing pause, before its answer is lost.
const MOST_RESUMPTIONS: u32 = 8;
/// Resumptions in a row that bring nothing at all, before an answer is lost: at the usual pauses,
/// most of an hour of a server that only polls.
const MOST_EMPTY_RESUMPTIONS: u32 = 500;
/// How long the rest of a stream is read after its answer, if nothing comes: servers should end it
/// then, and a connection that is not read to its end cannot be used again.
const REST: Duration = Duration::from_secs(5);
/// The most streams read beyond their answer at a time: each is a connection.
pub(super) const MOST_TRAILING: usize = 64;

/// Who gets the answers of an exchange.
pub(super) enum Recipient<'a> {
    /// The host.
    Host(&'a Session),
    /// The host, but the answer to its `initialize` makes the session first, with this id.
    NewSession(Option<HeaderValue>),
    /// This program: the answer to this id stays here.
    Program(Id, Option<Message>),
}

impl StreamableHttp {
    /// Delivers everything that comes back for one POST; after `Ok`, nothing is unanswered.
    pub(super) async fn answers(
        &self,
        response: Response,
        session: &Session,
        unanswered: &mut Vec<Id>,
        recipient: &mut Recipient<'_>,
    ) -> Result<(), Error> {
        if is_event_stream(&response) {
            // Boxed: the common future stays small, and it is moved and zeroed for each message.
            return Box::pin(self.answers_in_events(response, session, unanswered, recipient)).await;
        }
        match self.core.http.message(response).await {
            Ok(Some(message)) => {
                let message = sole_answer(message, unanswered)?;
                self.deliver(message, unanswered, recipient).await;
            }
            Ok(None) => {}
            // Nothing was asked, so the body does not matter (some servers send a page or a word).
            Err(_) if unanswered.is_empty() => {}
            Err(error) => return Err(error),
        }
        if unanswered.is_empty() {
            Ok(())
        } else {
            Err(Error::NoAnswer("the server accepted the request but sent no answer to it"))
        }
    }

    async fn answers_in_events(
        &self,
        response: Response,
        session: &Session,
        unanswered: &mut Vec<Id>,
        recipient: &mut Recipient<'_>,
    ) -> Result<(), Error> {
        let mut stream = ResumableStream::new(response, self.core.http.limit);
        loop {
            let next = if unanswered.is_empty() {
                let Ok(_permit) = self.trailing_of_host.try_acquire() else { return Ok(()) };
                match tokio::time::timeout(REST, stream.next(&self.core.http)).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                }
            } else {
                stream.next(&self.core.http).await
            };
            let error = match next {
                Ok(Some(message)) => {
                    self.deliver(message, unanswered, recipient).await;
                    if unanswered.is_empty() && !matches!(recipient, Recipient::Host(_)) {
                        self.drain(stream); // because the caller waits for this answer, not for the end of the stream
                        return Ok(());
                    }
                    continue;
                }
                Err(Error::BadMessage(malformed)) if unanswered.is_empty() => {
                    warn!("an event of the server is dropped: {malformed}");
                    continue;
                }
                _ if unanswered.is_empty() => return Ok(()),
                Err(error @ (Error::TooLarge { .. } | Error::BadMessage(_))) => return Err(error),
                Err(error) => error,
                Ok(None) => Error::NoAnswer("the server ended the stream without answering"),
            };
            // MCP 2025-11-25, Transports, Resumability: only a stream with an event id can go on.
            let resumed = self.resume(&mut stream, session).await.ok_or(error)?;
            stream.resume(resumed, self.core.http.limit);
        }
    }

    /// Returns the rest of a stream that broke off, or `None` if the server does not send it.
    async fn resume(&self, stream: &mut ResumableStream, session: &Session) -> Option<Response> {
        let last_id = stream.last_id.clone()?;
        if stream.empty_resumptions >= MOST_EMPTY_RESUMPTIONS {
            return None;
        }
        let mut backoff = Backoff::up_to(Duration::from_secs(15));
        let mut pause = stream.retry.unwrap_or(DEFAULT_RETRY); // SEP-1699: exactly the time asked for
        if stream.empty_resumptions > EMPTY_AND_HASTY {
            pause = pause.max(Backoff::FIRST);
        }
        for _ in 0..MOST_RESUMPTIONS {
            tokio::time::sleep(pause).await;
            match self.core.http.listen(&session.headers, Some(&last_id), Requester::Stream).await {
                Ok(response) => return Some(response),
                Err(error) if error.may_pass() => {}
                Err(error) => {
                    debug!("cannot resume: {}", chain(&error));
                    return None;
                }
            }
            pause = stream.retry.unwrap_or(DEFAULT_RETRY).max(backoff.pause());
        }
        None
    }

    /// Reads a stream to its end in the background.
    fn drain(&self, mut stream: ResumableStream) {
        let (http, events) = (self.core.http.clone(), self.core.events.clone());
        let mut trailing = self.trailing.guard();
        while trailing.try_join_next().is_some() {}
        if trailing.len() >= MOST_TRAILING {
            return;
        }
        trailing.spawn(async move {
            while let Ok(Ok(Some(message))) = tokio::time::timeout(REST, stream.next(&http)).await {
                for part in message.split().into_iter().flatten() {
                    events.send(Event::Message(part)).await;
                }
            }
        });
    }

    /// Delivers a message to its recipient.
    pub(super) async fn deliver(&self, mut message: Message, unanswered: &mut Vec<Id>, recipient: &mut Recipient<'_>) {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                if let Some(asked) = take(id, unanswered) {
                    if asked != *id {
                        message = message.with_id(&asked);
                    }
                    match recipient {
                        Recipient::Host(session) => self.note_answer(session),
                        Recipient::NewSession(session_id) => self.begin_session(session_id.take(), &message),
                        Recipient::Program(own, answer) if *own == asked => {
                            *answer = Some(message);
                            return;
                        }
                        Recipient::Program(..) => {}
                    }
                }
            }
            Shape::Batch(parts) => {
                // Whole, if it is nothing but what the host asked for in these very words.
                let exact = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => unanswered.contains(id),
                    Part::Message(Shape::Request { .. } | Shape::Notification { .. }, _) => true,
                    _ => false,
                };
                if !matches!(recipient, Recipient::Host(_)) || !parts.iter().all(exact) {
                    for part in message.split().into_iter().flatten() {
                        Box::pin(self.deliver(part, unanswered, recipient)).await;
                    }
                    return;
                }
                for part in parts {
                    if let Part::Message(Shape::Response { id: Some(id) }, _) = part {
                        take(id, unanswered);
                    }
                }
                if let Recipient::Host(session) = recipient {
                    self.note_answer(session);
                }
            }
            _ => {}
        }
        self.core.events.send(Event::Message(message)).await;
    }

    /// Makes the session, because the server has answered the host's `initialize`.
    fn begin_session(&self, session_id: Option<HeaderValue>, answer: &Message) {
        match Initialized::read(answer) {
            Initialized::Version(version) => {
                info!("connected over Streamable HTTP, revision {}", one_line(version.as_bytes()));
                self.session.send_replace(Arc::new(Session::new(&self.core.http, session_id, &version)));
            }
            Initialized::Error(error) => debug!("the server refuses the session: {}", one_line(error.as_bytes())),
        }
    }
}
