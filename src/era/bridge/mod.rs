//! What stands between a host and a server of different eras: messages go in, messages come out. There are two bridges:
//! for a [legacy host](super::legacy_host) before a modern server, and for a [modern host](super::modern_host) before a
//! legacy server.
//!
//! # Invariants
//!
//! - A bridge does no I/O and knows no time.
//! - A request of the host is answered once, or is reported lost by [`Bridge::on_lost`].

use std::{fmt, time::Duration};

use crate::message::{Id, Message};

/// One direction of the translation between the eras.
pub(crate) trait Bridge: fmt::Debug + Send {
    /// A message of the host.
    fn on_host(&mut self, message: Message);

    /// A message of the server; `related` is the request in the middle of whose answer it came, if that is known.
    fn on_server(&mut self, message: Message, related: Option<&Id>);

    /// These requests got no answer from the server and will get none. Returns the requests of the host that are lost with
    /// them.
    fn on_lost(&mut self, ids: &[Id]) -> Vec<Id>;

    /// The time has come that was asked for.
    fn on_due(&mut self, due: Due);

    /// A lost session was replaced by one that began with this answer.
    fn on_renewed(&mut self, _answer: &Message) {}

    /// The next thing to do.
    fn step(&mut self) -> Option<Step>;

    /// Whether nothing is remembered of any request.
    #[cfg(test)]
    fn is_idle(&self) -> bool;
}

/// Something to do.
#[derive(Debug)]
pub(crate) enum Step {
    ToServer(Message),
    ToHost(Message),
    /// Come back to this after a while.
    Remind(Duration, Due),
}

/// What is to be thought of later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A person has had the time for this round of a call.
    Person { call: Id, round: u32 },
    /// A call is sent again that asks for nothing.
    Retry { call: Id, round: u32 },
    /// The task that a call has become is asked for.
    Poll { call: Id },
    /// A stream of notifications that the server has ended is opened again.
    Listen,
    /// What a server asked for in one moment is put to the host together.
    Gathered { call: Id },
    /// A request for input that no call could carry is refused.
    Parked { request: Id },
    /// The host has had the time to continue a call with this handle.
    Handle(String),
}

#[cfg(test)]
pub(super) mod tests;
