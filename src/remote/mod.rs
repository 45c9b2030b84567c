//! The remote end: how a connection is opened, its transports, and what comes back as events.
//!
//! # Invariants
//!
//! - What becomes of a message comes as an event, and nothing else does.

use std::{sync::Arc, time::Duration};

use smol_str::SmolStr;

use crate::message::{Id, Message};

mod bridged;
mod cancelled;
mod connection;
mod deciding;
pub(crate) mod error;
pub(crate) mod event_stream;
pub(crate) mod events;
mod evidence;
pub(crate) mod handshake;
pub(crate) mod http;
mod http_sse;
mod matching;
mod modern;
mod open;
mod order;
mod report;
mod resumable;
mod retry;
mod session_loss;
mod streamable_http;
mod trail;

pub(crate) use connection::AnyConnection;
use error::Error;
pub(crate) use events::{EventReceiver, EventSender};
pub(crate) use open::Opener;

/// What comes from the remote end.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message of the server.
    Message(Message),
    /// A request or a notification of the server, in the middle of its answer to this request.
    Related {
        /// The request.
        to: Id,
        /// The message.
        message: Message,
    },
    /// A message got no answer and will get none; `ids` is what it asked, if anything.
    Lost {
        /// The requests that stay unanswered.
        ids: Vec<Id>,
        /// Of the message.
        method: Option<SmolStr>,
        /// Why.
        error: Arc<Error>,
    },
    /// The connection is not established for now; it is tried again after this pause.
    Blocked(Arc<Error>, Duration),
    /// A lost session has been replaced; this is the server's answer to the host's `initialize`, sent
    /// again.
    Renewed(Message),
}

/// An open connection.
pub(crate) type Remote = Box<dyn AnyConnection>;
