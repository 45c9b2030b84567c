//! What comes back for one POST: JSON or an event stream (MCP 2025-11-25, Transports, Sending Messages to the Server).
//!
//! # Invariants
//!
//! - An answer to a request of this program is not delivered to the host.
//! - Reading beyond an answer is bounded in time and number.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use log::info;
use reqwest::{StatusCode, header::HeaderValue};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{StreamableHttp, session::Session};
use crate::{
    era::verdict,
    mcp::{HOST_PATIENCE, method::PROGRESS},
    message::{Id, Message, Part, Shape, peek},
    network::message_client::Response,
    oauth::Requester,
    remote::{
        Event,
        error::{Error, Refusal},
        handshake::Initialized,
        http::{Http, body::Content, event_reader::EventReader},
        matching::{sole_answer, take},
        resumable::{DEFAULT_RETRY, EMPTY_AND_HASTY, ResumableStream, StreamKind},
        retry::Backoff,
    },
    secret::Secret,
    sync::LockExt,
    text::one_line,
};

/// Longest pause between tries to resume a stream, which last for `--retry-for`.
const LONGEST_RESUMPTION_PAUSE: Duration = Duration::from_secs(4);
/// Longest silence of a resumed stream, before it is resumed anew. Servers and balancers end the idle within a minute.
const RESUMED_SILENCE: Duration = Duration::from_secs(60);
/// Such silences in a row, before an answer is lost: a server that knew of the request would have had something to resume.
const MOST_SILENCES: u32 = 3;
/// What is said of a server that accepts a request as if it were a notification.
const ACCEPTED_ONLY: &str = "accepted the request but did not answer it";
/// Longer answers than this, in bytes, are no mere error about the session.
const LONGEST_SESSION_ERROR: usize = 4096;
/// Resumptions in a row that bring nothing at all, before an answer is lost: at the usual pauses,
/// most of an hour of a server that only polls.
const MOST_EMPTY_RESUMPTIONS: u32 = 500;

/// Requests that the server has accepted with 202: the GET stream is to bring their answers.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    ids: Vec<Id>,
    /// How often the GET stream has reported progress meanwhile.
    progress: u64,
}

impl Accepted {
    /// Returns whether anybody waits.
    fn note_progress(&mut self) -> bool {
        self.progress += u64::from(!self.ids.is_empty());
        !self.ids.is_empty()
    }

    /// Waits until there has been no progress for as long as a host waits.
    async fn no_progress(mut accepted: watch::Receiver<Self>) {
        let mut seen = accepted.borrow().progress;
        while let Ok(Ok(now)) = timeout(HOST_PATIENCE, accepted.wait_for(|now| now.progress != seen)).await {
            seen = now.progress;
        }
    }
}

/// Who gets the answers of an exchange.
pub(super) enum Recipient {
    /// The host.
    Host,
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
        recipient: &mut Recipient,
    ) -> Result<(), Error> {
        let is_accepted = response.status() == StatusCode::ACCEPTED;
        match self.core.http.content(response).await {
            // Boxed: the common future stays small, and it is moved and zeroed for each message.
            Ok(Content::Events(reader)) => {
                return Box::pin(self.answers_in_events(*reader, session, unanswered, recipient)).await;
            }
            Ok(Content::Message(message, _share)) => {
                let message = sole_answer(message, unanswered, &self.core.http)?;
                self.deliver(message, session, unanswered, recipient).await?;
            }
            Ok(Content::Empty) => {}
            // Nothing was asked, so the body does not matter (some servers send a page or a word).
            Err(_) if unanswered.is_empty() => {}
            Err(error) => return Err(error),
        }
        if unanswered.is_empty() {
            Ok(())
        } else if is_accepted && matches!(recipient, Recipient::Host) {
            Box::pin(self.await_on_get_stream(unanswered)).await
        } else {
            Err(Error::NoAnswer(ACCEPTED_ONLY))
        }
    }

    /// Waits for answers that the server promises with 202, which is for notifications only, and sends by the GET stream.
    /// The SDK for TypeScript takes them there. Their progress shows that they will come.
    async fn await_on_get_stream(&self, unanswered: &mut Vec<Id>) -> Result<(), Error> {
        /// Takes the ids off the list, however the wait ends.
        struct Awaited<'a>(&'a watch::Sender<Accepted>, Vec<Id>);
        impl Drop for Awaited<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|accepted| accepted.ids.retain(|id| !self.1.contains(id)));
            }
        }
        let awaited = Awaited(&self.accepted, unanswered.clone());
        let (mut accepted, progress) = (self.accepted.subscribe(), self.accepted.subscribe());
        let mut steering = self.steering.subscribe();
        self.accepted.send_modify(|accepted| accepted.ids.extend(awaited.1.iter().cloned()));
        self.open_get_stream();
        let answered = accepted.wait_for(|accepted| awaited.1.iter().all(|id| !accepted.ids.contains(id)));
        let outcome = tokio::select! {
            biased;
            _ = answered => Ok(()),
            _ = steering.wait_for(|steering| steering.has_no_stream) => Err(Error::NoAnswer(ACCEPTED_ONLY)),
            () = Accepted::no_progress(progress) => {
                Err(Error::NoAnswer("accepted the request but answered neither there nor on its GET stream"))
            }
        };
        unanswered.retain(|id| self.accepted.borrow().ids.contains(id));
        outcome
    }

    async fn answers_in_events(
        &self,
        reader: EventReader,
        session: &Session,
        unanswered: &mut Vec<Id>,
        recipient: &mut Recipient,
    ) -> Result<(), Error> {
        let mut stream = ResumableStream::new(reader, StreamKind::Answer);
        if unanswered.is_empty() {
            self.drain(stream); // because a notification is accepted, and others wait for that
            return Ok(());
        }
        let mut trail = self.trails.begin();
        let mut silences = 0;
        loop {
            let next = if unanswered.is_empty() {
                Ok(trail.next(&mut stream, &self.core.http).await)
            } else if stream.is_resumed() {
                // The server had the answer's position and said nothing: it may have forgotten the request.
                let heard = stream.length();
                match timeout(RESUMED_SILENCE, stream.next(&self.core.http)).await {
                    Ok(next) => next,
                    // Comments tell that it has not.
                    Err(_) if stream.length() > heard => continue,
                    Err(_) => {
                        Err(Error::Silent { what: "event on the resumed response stream", after: RESUMED_SILENCE })
                    }
                }
            } else {
                stream.next(&self.core.http).await
            };
            let error = match next {
                Ok(Some(message)) => {
                    silences = 0;
                    self.deliver(message, session, unanswered, recipient).await?;
                    if unanswered.is_empty() && !matches!(recipient, Recipient::Host) {
                        self.drain(stream); // because the caller waits for this answer, not for the end of the stream
                        return Ok(());
                    }
                    continue;
                }
                _ if unanswered.is_empty() => return Ok(()),
                Err(
                    error @ (Error::TooLarge { .. } | Error::NoRoom { .. } | Error::Expands | Error::SpeaksHttpSse),
                ) => return Err(error),
                Err(error @ Error::Silent { .. }) if stream.is_resumed() => {
                    silences += 1;
                    if silences >= MOST_SILENCES {
                        return Err(Error::NoAnswer("resumed the response but sent nothing more"));
                    }
                    error
                }
                Err(error) => error,
                Ok(None) => match stream.malformed.take() {
                    Some(malformed) => Error::BadMessage(malformed),
                    None => Error::NoAnswer("completed the response stream without an answer"),
                },
            };
            // Boxed, because it is rare and larger than all the rest.
            let reader = Box::pin(self.resume(&mut stream, session, error)).await?;
            stream.resume(reader);
        }
    }

    /// Returns the rest of a stream that broke off with `error`.
    ///
    /// # Errors
    /// The `error`, if the stream has no position; else why the server does not send the rest.
    async fn resume(
        &self,
        stream: &mut ResumableStream,
        session: &Session,
        error: Error,
    ) -> Result<EventReader, Error> {
        stream.close();
        // MCP 2025-11-25, Transports, Resumability: only a stream with an event id can go on.
        let Some(last_id) = stream.last_id() else { return Err(error) };
        if stream.empty_resumptions >= MOST_EMPTY_RESUMPTIONS {
            return Err(error);
        }
        let retry = stream.retry().unwrap_or(DEFAULT_RETRY); // SEP-1699: exactly the time asked for
        let pause = if stream.empty_resumptions > EMPTY_AND_HASTY { retry.max(Backoff::FIRST) } else { retry };
        let mut pause = pause.max(stream.rest());
        if matches!(error, Error::Broken(_)) {
            info!("the response stream was interrupted ({}); resuming it", self.core.sentence(&error));
        }
        let began = Instant::now();
        let mut backoff = Backoff::up_to(LONGEST_RESUMPTION_PAUSE);
        loop {
            tokio::time::sleep(pause).await;
            let error = match self.core.http.listen(&session.headers, Some(&last_id), Requester::Stream).await {
                Ok(reader) => {
                    self.core.http.retries.clear(self.core.http.server());
                    return Ok(reader);
                }
                Err(error) => error,
            };
            pause = retry.max(backoff.pause()).max(error.retry_after().unwrap_or_default());
            if !error.may_pass() || began.elapsed() + pause > self.core.limits.retry_for {
                return Err(Error::NotResumed(Box::new(error)));
            }
            self.core.http.retries.retry(&error, self.core.http.server(), pause);
        }
    }

    /// Reads a stream to its end in the background.
    fn drain(&self, mut stream: ResumableStream) {
        let (http, events, mut trail) = (self.core.http.clone(), self.core.events.clone(), self.trails.begin());
        let mut draining = self.draining.guard();
        while draining.try_join_next().is_some() {}
        draining.spawn(async move {
            while let Some(message) = trail.next(&mut stream, &http).await {
                for part in message.into_parts() {
                    events.send(Event::Message(part)).await;
                }
            }
        });
    }

    /// Delivers a message to its recipient.
    ///
    /// # Errors
    /// [`Error::SessionLost`] if the answer says so, [`Error::NotLegacy`] if the answer to `initialize` does; it is not
    /// delivered then.
    pub(super) async fn deliver(
        &self,
        message: Message,
        session: &Session,
        unanswered: &mut Vec<Id>,
        recipient: &mut Recipient,
    ) -> Result<(), Error> {
        let message = match &message.shape {
            Shape::Response { id: Some(id) } => match take(id, unanswered) {
                Some(asked) => match self.answer(asked, message, session, unanswered, recipient)? {
                    Some(answer) => answer,
                    None => return Ok(()),
                },
                None => self.answer_of_accepted(message),
            },
            Shape::Batch(parts) => {
                if !matches!(recipient, Recipient::Host) || !is_exact(parts, unanswered) {
                    for part in message.into_parts() {
                        Box::pin(self.deliver(part, session, unanswered, recipient)).await?;
                    }
                    return Ok(());
                }
                for part in parts {
                    if let Part::Message(Shape::Response { id: Some(id) }, _) = part {
                        take(id, unanswered);
                    }
                }
                self.note_answer(session);
                message
            }
            Shape::Request { .. } | Shape::Notification { .. } => {
                // On the GET stream, where nothing else is unanswered.
                if unanswered.is_empty() && message.method() == Some(PROGRESS) {
                    self.accepted.send_if_modified(Accepted::note_progress);
                }
                if let ([to], Recipient::Host) = (&unanswered[..], &*recipient) {
                    self.core.events.send(Event::Related { to: to.clone(), message }).await;
                    return Ok(());
                }
                message
            }
            Shape::Response { id: None } => message,
        };
        self.core.events.send(Event::Message(message)).await;
        Ok(())
    }

    /// Returns the answer to the request that was `asked` under this ID, if the host is to get it.
    ///
    /// # Errors
    /// As [`Self::deliver`].
    fn answer(
        &self,
        asked: Id,
        mut answer: Message,
        session: &Session,
        unanswered: &mut Vec<Id>,
        recipient: &mut Recipient,
    ) -> Result<Option<Message>, Error> {
        if !matches!(&answer.shape, Shape::Response { id: Some(id) } if *id == asked) {
            answer = answer.with_id(&asked);
        }
        if let Some(loss) = loss_in_answer(&answer, session, &self.core.http) {
            unanswered.push(asked);
            return Err(loss);
        }
        if matches!(recipient, Recipient::NewSession(_)) && verdict::asks_for_discover(&answer) {
            return Err(self.core.http.not_legacy(answer));
        }
        match recipient {
            Recipient::Host => self.note_answer(session),
            Recipient::NewSession(session_id) => self.begin_session(session_id.take(), &answer),
            Recipient::Program(own, kept) if *own == asked => {
                *kept = Some(answer);
                return Ok(None);
            }
            Recipient::Program(..) => {}
        }
        Ok(Some(answer))
    }

    /// Returns the answer under the ID it was asked with, if it is one to a request that was accepted with 202.
    fn answer_of_accepted(&self, answer: Message) -> Message {
        let Shape::Response { id: Some(id) } = &answer.shape else { return answer };
        let mut asked = None;
        self.accepted.send_if_modified(|accepted| {
            asked = take(id, &mut accepted.ids);
            asked.is_some()
        });
        match asked {
            Some(asked) if asked != *id => answer.with_id(&asked),
            _ => answer,
        }
    }

    /// Makes the session, because the server has answered the host's `initialize`.
    fn begin_session(&self, session_id: Option<HeaderValue>, answer: &Message) {
        match Initialized::read(answer) {
            Initialized::Version(version) => {
                info!(
                    "connected over Streamable HTTP, protocol version {}",
                    self.core.http.masked_line(version.as_bytes())
                );
                self.session.send_replace(Arc::new(Session::new(&self.core.http, session_id, &version, 0)));
            }
            Initialized::Error(_) => {} // reported by the loop, which passes the answer on
        }
    }
}

/// Whether a batch is nothing but what the host asked for under these very IDs, so that it may stay whole.
fn is_exact(parts: &[Part], unanswered: &[Id]) -> bool {
    parts.iter().all(|part| match part {
        Part::Message(Shape::Response { id: Some(id) }, _) => unanswered.contains(id),
        Part::Message(Shape::Request { .. } | Shape::Notification { .. }, _) => true,
        _ => false,
    })
}

/// Returns the loss of the session that a server reports in an answer (JSON-RPC error with status 200).
fn loss_in_answer(answer: &Message, session: &Session, http: &Http) -> Option<Error> {
    /// Found once for all answers.
    static ERROR: LazyLock<memchr::memmem::Finder<'static>> =
        LazyLock::new(|| memchr::memmem::Finder::new(br#""error""#));
    // Most answers are none, and this costs least.
    if answer.body.len() > LONGEST_SESSION_ERROR || !session.has_id() || ERROR.find(&answer.body.to_bytes()).is_none() {
        return None;
    }
    let words = peek::error(&answer.body)?.message.unwrap_or_default();
    let refusal = Refusal {
        status: StatusCode::OK,
        retry_after: None,
        text: http.masked_line(words.as_bytes()),
        said: Secret::new(one_line(words.as_bytes())),
        had_headers: false,
        cause: None,
        credential_since: None,
        answer: Some(answer.clone()),
    };
    match session.loss(Box::new(refusal)) {
        loss @ Error::SessionLost { .. } => Some(loss),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_extends_wait_for_accepted_answer() {
        let accepted = watch::Sender::new(Accepted { ids: vec![Id::from_json(b"1")], progress: 0 });
        let began = Instant::now();
        let waiting = tokio::spawn(Accepted::no_progress(accepted.subscribe()));
        tokio::time::sleep(HOST_PATIENCE * 3 / 4).await;
        accepted.send_if_modified(Accepted::note_progress);
        accepted.send_modify(|accepted| accepted.ids.push(Id::from_json(b"2"))); // another call is no progress
        waiting.await.unwrap();
        assert_eq!(began.elapsed(), HOST_PATIENCE * 7 / 4);
        accepted.send_modify(|accepted| accepted.ids.clear());
        assert!(!accepted.send_if_modified(Accepted::note_progress), "nobody is woken if nobody waits");
    }
}
