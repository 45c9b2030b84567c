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
    era::{Era, known::KnownEra},
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
    /// The server has answered over this transport: `initialize`, or a request of the modern era.
    Opened(TransportKind, Era),
    /// A `server/discover` of the client was refused, and `initialize` comes next.
    NotDiscovered(Box<NotDiscovered>),
    /// `server/discover` was answered.
    Discovered {
        /// `initialize` was not, and never is.
        refuses_initialize: bool,
        /// What was remembered of the server before.
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

/// Why a server does not count as one that answers `server/discover`.
#[derive(Clone, Debug)]
pub(crate) struct NotDiscovered {
    /// The server's answer; `None` if the server was not asked.
    pub(crate) why: Option<String>,
    /// What was remembered of the server before.
    pub(crate) known: Option<KnownEra>,
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
