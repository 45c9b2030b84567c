//! What a connection tells somebody who looks on: `mcp-remote-client`. A closed list of facts, each said
//! where it is found out; the adapter has no observer, and pays nothing.
//!
//! # Invariants
//!
//! - An observer does not change what a connection does.
//! - An observer hears no secret.

use reqwest::StatusCode;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    era::known::KnownEra,
    mcp::TransportKind,
    oauth::{self, fact::Facts, protocol::challenge::Challenge},
};

/// Something that became known of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// A transport was not accepted, and the other one is tried.
    FellBack {
        /// Which.
        from: TransportKind,
        /// The server's answer.
        why: String,
    },
    /// `initialize` was answered.
    Opened(TransportKind),
    /// Which era the server speaks was found out.
    Era {
        /// It has accepted `initialize`; else it has answered `server/discover`.
        accepts_initialize: bool,
        /// What was remembered of it before.
        known: Option<Box<KnownEra>>,
    },
    /// The server wants authorization.
    Challenged {
        /// 401 or 403.
        status: StatusCode,
        /// What it says about it.
        challenge: Box<Challenge>,
    },
    /// From the authorizer.
    Authorization(oauth::fact::AuthorizationFact),
}

/// Who looks on, if anybody does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observer(Option<UnboundedSender<Fact>>);

impl Observer {
    /// One, and where it hears.
    pub(crate) fn new() -> (Self, UnboundedReceiver<Fact>) {
        let (sender, facts) = unbounded_channel();
        (Self(Some(sender)), facts)
    }

    /// Tells a fact, which is made only if somebody hears it.
    pub(crate) fn tell(&self, fact: impl FnOnce() -> Fact) {
        if let Some(sender) = &self.0 {
            _ = sender.send(fact()); // somebody who has gone does not want to know
        }
    }

    /// Returns where the authorizer reports its facts.
    pub(crate) fn of_authorization(&self) -> Facts {
        match self.0.clone() {
            Some(sender) => Facts::new(move |fact| _ = sender.send(Fact::Authorization(fact))),
            None => Facts::default(),
        }
    }
}
