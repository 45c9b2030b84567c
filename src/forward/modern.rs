//! Hosts of the modern era, which ask `server/discover` first, and go on without it after 2.5 s (Claude Code), 3.6 s
//! (OpenAI Agents) or 9 s (Copilot, the Python SDK).
//!
//! # Invariants
//!
//! - The `server/discover` that begins a connection is never held: where the server cannot answer, it is answered from the kept description, or
//!   refused so that the host goes on with `initialize`, which can be held.

use std::time::Duration;

use log::info;

use super::{Action, Forward, Link, Reminder};
use crate::{
    config::Protocol,
    era::{self, Era},
    known_hosts,
    mcp::method::DISCOVER,
    message::{Body, Id, Message, Shape},
    remote::error::Error,
    report::{self, Report},
    text,
};

/// How long `server/discover` may wait for the server: the most impatient host goes on after 2.5 s.
const DISCOVER_PATIENCE: Duration = Duration::from_secs(2);

impl Forward {
    /// Whether a connection that begins with this message is a modern one.
    pub(super) fn begins_modern(&self, first: &Message) -> bool {
        self.protocol != Protocol::Legacy && era::begins_modern(first)
    }

    /// A modern connection begins.
    pub(super) fn begin_modern(&mut self, first: &Message) {
        self.begin_hold(first, None);
        if let Shape::Request { id, method } = &first.shape
            && &**method == DISCOVER
        {
            self.discovering = Some(id.clone());
            self.actions.push_back(Action::Remind(DISCOVER_PATIENCE, Reminder::Discover));
            self.refuses_discover_for_sign_in();
        }
    }

    /// `server/discover` where only legacy versions are spoken: the host goes on with `initialize`. Whether it was that.
    pub(super) fn answers_discover(&mut self, message: &Message) -> bool {
        let Shape::Request { id, method } = &message.shape else { return false };
        if &**method != DISCOVER || self.protocol != Protocol::Legacy || !matches!(self.link, Link::Closed) {
            return false;
        }
        let id = id.clone();
        self.refuse(
            &id,
            "server/discover is not supported: --protocol legacy, or a transport that begins with SSE, is set",
        );
        true
    }

    /// Refuses `server/discover` while a person has to sign in, if the host is known to continue with `initialize`. Any
    /// other host may still get the server's answer in time. Returns whether `server/discover` is what waits.
    pub(super) fn refuses_discover_for_sign_in(&mut self) -> bool {
        if self.discovering.is_none() {
            return false;
        }
        let falls_back = self.holding.as_ref().is_some_and(|holding| known_hosts::falls_back(holding.host()));
        if self.is_signing_in() && (falls_back || self.knows_discover()) {
            self.discover_is_due();
        }
        true
    }

    /// The `server/discover` that began the connection can wait no longer.
    pub(super) fn discover_is_due(&mut self) {
        let Some(id) = self.discovering.clone() else { return };
        if let Some(result) = self.memory.recall().and_then(|known| known.discover) {
            info!("answering server/discover as the server was last known");
            return self.answer(&id, &expired(result.get()));
        }
        let why = if self.is_signing_in() {
            self.sign_in_needed().sentence
        } else {
            format!("{} has not answered yet", text::host(&self.server))
        };
        self.refuse(&id, &format!("server/discover cannot be answered: {why}"));
        self.leave_modern();
    }

    /// The server does not speak a modern version, or cannot be reached: a host that has asked goes on with
    /// `initialize`, which can be held. Whether it was that.
    pub(super) fn refuse_discover(&mut self, ids: &[Id], error: &Error) -> bool {
        let [id] = ids else { return false };
        if self.discovering.as_ref() != Some(id) {
            return false;
        }
        if !matches!(error, Error::LegacyServer { .. }) && self.knows_discover() {
            self.discover_is_due();
            return true;
        }
        self.refuse(id, &Report::of_remote(error, &self.server).sentence);
        self.leave_modern();
        true
    }

    /// The next message decides the era again.
    fn leave_modern(&mut self) {
        if self.owed.is_empty() && matches!(self.link, Link::Open(Era::Modern)) {
            self.link = Link::Closed;
        }
    }

    /// With a code outside those of MCP 2026-07-28, after which hosts would not go on with `initialize` (stdio,
    /// Backward Compatibility).
    fn refuse(&mut self, id: &Id, why: &str) {
        info!("{why}; the host can continue with initialize");
        if self.forget(id).is_some() {
            let text = format!("mcp-remote: {why}");
            let line = report::error_line(id, report::METHOD_NOT_FOUND, &text, None::<&()>);
            self.write(Body::One(line));
        }
    }

    fn knows_discover(&mut self) -> bool {
        self.memory.recall().is_some_and(|known| known.discover.is_some())
    }
}

/// A kept result, which is good for this moment only (MCP 2026-07-28, Caching).
fn expired(result: &str) -> String {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(result) {
        Ok(mut result) => {
            result.insert("ttlMs".to_owned(), 0.into());
            serde_json::Value::Object(result).to_string()
        }
        Err(_) => result.to_owned(),
    }
}
