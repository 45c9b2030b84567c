//! How a session is made by the host's `initialize`, and made again by this program when the server has lost it (MCP
//! 2025-11-25, Transports, Session Management).
//!
//! # Invariants
//!
//! - A lost session is replaced once, however many messages notice.

use std::sync::Arc;

use log::{info, warn};

use super::{StreamableHttp, answers::Recipient, session::Session};
use crate::{
    mcp::header::SESSION_ID,
    message::{Id, Message},
    network::message_client::Response,
    remote::{
        Event,
        error::{Error, Refusal},
        handshake::Initialized,
    },
    status::Disposition,
};

/// What came of a lost session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// There is a new one, made now or for another message meanwhile.
    Made,
    /// The lost one had never worked, or there is no `initialize` to repeat.
    Pointless,
}

impl StreamableHttp {
    /// Makes the session with the host's `initialize`.
    pub(super) async fn establish(&self, initialize: &Message) -> Result<(), Error> {
        let blank = self.session.borrow().clone();
        let mut unanswered: Vec<Id> = initialize.requests().cloned().collect();
        let mut recipient = Recipient::NewSession(None);
        let exchange = self.exchange(initialize, &blank, &mut unanswered, &mut recipient);
        let after = self.core.limits.initialize_timeout;
        let silent = Err(Error::Silent { what: "answer to initialize", after });
        self.core.timeout_excluding_sign_in(after, exchange).await.unwrap_or(silent)
    }

    /// Replaces the session that is `lost` according to `refusal`, unless that has been done already.
    pub(super) async fn renew(&self, lost: &Arc<Session>, refusal: &Refusal) -> Result<Renewal, Error> {
        let _closed = self.core.order.close().await;
        if !Arc::ptr_eq(&self.session.borrow(), lost) {
            return Ok(Renewal::Made);
        }
        if !lost.may_be_replaced(refusal) {
            return Ok(Renewal::Pointless);
        }
        let Some(initialize) = self.core.handshake.initialize() else { return Ok(Renewal::Pointless) };
        info!("the server lost the session ({refusal}); initializing again");
        let after = self.core.limits.initialize_timeout;
        let made = self.core.timeout_excluding_sign_in(after, self.make_session(&initialize, lost.unproven())).await;
        match made.unwrap_or(Err(Error::Silent { what: "answer to initialize", after })) {
            Ok((session, answer)) => {
                // In this order, because the new session ends whatever follows the old one, which may be the caller.
                self.core.events.send(Event::Renewed(answer)).await;
                self.session.send_replace(session);
                self.open_get_stream();
                Ok(Renewal::Made)
            }
            // It is only busy or starting: the message may be tried again as after any such answer. The
            // server's words are about a request of this program, so they are no answer to the host's.
            Err(Error::Refused(mut refusal)) if Disposition::of(refusal.status).may_pass() => {
                refusal.answer = None;
                Err(Error::Refused(refusal))
            }
            Err(error @ (Error::Refused(_) | Error::NoNewSession(_))) => {
                lost.set_irreplaceable();
                Err(match error {
                    Error::Refused(refusal) => Error::NoNewSession(refusal.to_string()),
                    error => error,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Repeats the handshake, and what the host had set.
    async fn make_session(&self, initialize: &Message, unproven: u32) -> Result<(Arc<Session>, Message), Error> {
        let blank = Session::blank(&self.core.http);
        let response = self.post(initialize, &blank).await?;
        let id = response.headers().get(SESSION_ID).cloned();
        let answer = self.own_answer(initialize, response, &blank).await?;
        let session = match Initialized::read(&answer) {
            Initialized::Version(version) => Arc::new(Session::new(&self.core.http, id, &version, unproven)),
            Initialized::Error(error) => {
                return Err(Error::NoNewSession(self.core.http.masked_error(&error)));
            }
        };
        if let Some(initialized) = self.core.handshake.initialized()
            && let Err(error) = self.post(&initialized, &session).await
        {
            warn!("the server did not accept notifications/initialized: {}", self.core.sentence(&error));
        }
        let new = &session;
        self.core.restore(|request| async move { self.ask(&request, new).await }).await;
        Ok((session, answer))
    }

    /// Sends a request of this program and returns its answer, which the host does not get.
    pub(super) async fn ask(&self, request: &Message, session: &Session) -> Result<Message, Error> {
        let response = self.post(request, session).await?;
        self.own_answer(request, response, session).await
    }

    async fn own_answer(&self, request: &Message, response: Response, session: &Session) -> Result<Message, Error> {
        let mut unanswered: Vec<Id> = request.requests().cloned().collect();
        let Some(id) = unanswered.first().cloned() else {
            return Err(Error::NoAnswer("was not asked: the message is not a request"));
        };
        let mut recipient = Recipient::Program(id, None);
        self.answers(response, session, &mut unanswered, &mut recipient).await?;
        match recipient {
            Recipient::Program(_, Some(answer)) => Ok(answer),
            _ => Err(Error::NoAnswer("did not answer a request of mcp-remote itself")),
        }
    }
}
