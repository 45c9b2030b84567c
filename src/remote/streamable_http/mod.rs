//! Streamable HTTP (MCP 2025-03-26, 2025-06-18, 2025-11-25; Transports, Streamable HTTP).
//!
//! Each message is a POST of its own (here), whose answer is JSON or an event stream (`answers.rs`). Beside them one GET
//! stream carries what the server sends unasked (`listen.rs`). A session that the server has lost is replaced, once for all
//! messages that notice (`renewal.rs`).
//!
//! # Invariants
//!
//! - The exchange of a POST does not end without each of its requests being answered or reported lost.
//! - The host does not get an answer to a request of this program.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use log::warn;
use tokio::{sync::watch, task::JoinSet};

use self::{
    answers::{Accepted, Recipient},
    listen::Steering,
    renewal::Renewal,
    session::Session,
};
use super::{
    Event,
    connection::{Connection, Core, Ping, Transport},
    error::Error,
    retry::{Replay, Tries},
    session_loss,
    trail::Trails,
};
use crate::{
    mcp::{
        header::{PROTOCOL_VERSION, SESSION_ID},
        method::INITIALIZED,
        version::WITH_BATCHES,
    },
    message::{Id, Message},
    network::message_client::Response,
    sync::LockExt,
};

mod answers;
mod listen;
mod renewal;
mod session;

/// The transport.
#[derive(Debug)]
pub(super) struct StreamableHttp {
    core: Core,
    session: watch::Sender<Arc<Session>>,
    steering: watch::Sender<Steering>,
    accepted: watch::Sender<Accepted>,
    /// Streams that are read beyond their answer.
    trails: Trails,
    /// Those of them for which nobody waits.
    draining: Mutex<JoinSet<()>>,
}

/// How far one message is.
pub(super) struct HttpAttempt {
    session: Arc<Session>,
    may_renew: bool,
}

impl StreamableHttp {
    /// Returns a connection on which nothing has been sent.
    pub(super) fn connect(core: Core) -> Connection<Self> {
        let transport = Arc::new(Self {
            session: watch::Sender::new(Arc::new(Session::blank(&core.http))),
            core,
            steering: watch::Sender::default(),
            accepted: watch::Sender::default(),
            trails: Trails::new(),
            draining: Mutex::default(),
        });
        Connection::new(transport.clone(), transport.follow_sessions())
    }

    /// POSTs a message and delivers all of the answer.
    async fn exchange(
        &self,
        message: &Message,
        session: &Session,
        unanswered: &mut Vec<Id>,
        recipient: &mut Recipient,
    ) -> Result<(), Error> {
        let response = self.post(message, session).await?;
        if let Recipient::NewSession(session_id) = recipient {
            *session_id = response.headers().get(SESSION_ID).cloned();
        }
        self.answers(response, session, unanswered, recipient).await
    }

    async fn post(&self, message: &Message, session: &Session) -> Result<Response, Error> {
        let http = &self.core.http;
        http.post(http.server(), &session.headers, message).await.map_err(|error| match error {
            Error::Refused(refusal) => session.loss(refusal),
            error => error,
        })
    }
}

impl Transport for StreamableHttp {
    type Attempt = HttpAttempt;

    fn core(&self) -> &Core {
        &self.core
    }

    /// Only one protocol version has batches (MCP 2025-03-26, Base Protocol).
    fn takes_batches(&self) -> bool {
        self.session.borrow().headers.get(PROTOCOL_VERSION).is_some_and(|version| version == WITH_BATCHES)
    }

    async fn initialize(&self, initialize: &Message, retry_for: Duration) -> Result<(), Error> {
        let mut tries = Tries::new(self.core.http.server(), &self.core.http.retries, initialize, retry_for);
        loop {
            match self.establish(initialize).await {
                Ok(()) => {
                    tries.succeed();
                    return Ok(());
                }
                Err(error) => tries.wait_after(error).await?,
            }
        }
    }

    async fn begin(&self, message: &Message) -> Result<HttpAttempt, Event> {
        // The handshake is part of making a session; it does not ask for another one.
        Ok(HttpAttempt { session: self.session.borrow().clone(), may_renew: message.method() != Some(INITIALIZED) })
    }

    async fn carry_once(
        &self,
        message: &Message,
        unanswered: &mut Vec<Id>,
        attempt: &mut HttpAttempt,
    ) -> Result<(), Error> {
        attempt.session = self.session.borrow().clone();
        let session = &*attempt.session;
        self.wait_for_get_stream(message, session).await;
        self.exchange(message, session, unanswered, &mut Recipient::Host).await?;
        session.prove();
        Ok(())
    }

    async fn recover(&self, message: &Message, attempt: &mut HttpAttempt, error: Error) -> Result<(), Error> {
        let Error::SessionLost { refusal, is_named, lasted } = error else { return Err(error) };
        let renewal =
            if attempt.may_renew { self.renew(&attempt.session, &refusal).await? } else { Renewal::Pointless };
        match renewal {
            Renewal::Made if session_loss::did_not_run(&refusal) || Replay::of(message) == Replay::Safe => {
                attempt.may_renew = false;
                Ok(())
            }
            Renewal::Made => Err(Error::Refused(refusal)),
            Renewal::Pointless => Err(Error::SessionLost { refusal, is_named, lasted }),
        }
    }

    fn listen_now(&self) {
        self.want_get_stream();
    }

    /// A session that is lost is replaced before a request finds out, and after a sleep the GET stream is opened again.
    async fn ping_once(&self, reason: Ping) {
        if reason == Ping::AfterSleep {
            self.steering.send_modify(|steering| steering.sleeps += 1);
        }
        self.core.order.pass().await;
        let session = self.session.borrow().clone();
        let Some(ping) = self.core.handshake.ping().filter(|_| !session.is_blank()) else { return };
        match self.ask(&ping, &session).await {
            Ok(_) => session.prove(),
            Err(Error::SessionLost { refusal, .. }) => {
                if let Err(error) = self.renew(&session, &refusal).await {
                    warn!("cannot replace the lost session: {}", self.core.sentence(&error));
                }
            }
            Err(error) => warn!("the ping failed: {}", self.core.sentence(&error)),
        }
    }

    /// MCP 2025-11-25, Transports, Session Management: DELETE.
    async fn close(&self) {
        self.draining.guard().abort_all();
        let session = self.session.borrow().clone();
        if session.has_id() {
            self.core.http.delete(&session.headers).await;
        }
    }
}
