//! What a connection tells somebody who looks on: `mcp-remote-client`. A closed list of facts, each said
//! where it is found out; the adapter has no observer, and pays nothing.
//!
//! # Invariants
//!
//! - An observer does not change what a connection does.
//! - An observer hears no secret.

use std::sync::Arc;

use reqwest::{StatusCode, Url};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    mcp::Transport,
    oauth::{
        client::Origin,
        credential::Credential,
        protocol::{challenge::Challenge, discovery::Discovered},
    },
    report::Report,
};

/// Something that became known of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// A transport was not accepted, and the other one is tried.
    FellBack {
        /// Which.
        from: Transport,
        /// The server's answer.
        why: String,
    },
    /// `initialize` was answered.
    Opened(Transport),
    /// The server wants authorization.
    Challenged {
        /// 401 or 403.
        status: StatusCode,
        /// What it says about it.
        challenge: Box<Challenge>,
    },
    /// Where tokens for the server come from.
    Discovered(Box<Discovered>),
    /// Who we are there.
    Client {
        /// The client id.
        id: String,
        /// How it was come by.
        origin: Origin,
    },
    /// A person is asked to sign in.
    Asking {
        /// What to open.
        url: Url,
        /// What to enter there.
        code: Option<String>,
    },
    /// Another copy has asked a person, and is waited for.
    AnotherAsks {
        /// What to open, if that is known.
        url: Option<String>,
    },
    /// Something that is no failure yet.
    Warned {
        /// What.
        report: Report,
        /// How a browser on another computer can be used, where none was opened.
        way: Option<String>,
    },
    /// What is tried once more in another way, and why.
    Remedied(String),
    /// There is a token to send.
    Credential(Arc<Credential>),
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
}
