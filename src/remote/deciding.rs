//! A connection for a host of the modern era: which era the server speaks is found out with the first request, and what
//! comes meanwhile waits.
//!
//! # Invariants
//!
//! - Messages go to the server in the order in which they came.
//! - A question that fails is asked again with the next request.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
};

use log::debug;
use tokio::task::JoinSet;

use super::{AnyConnection, Event, EventSender, Remote, error::Error};
use crate::{
    message::{Message, Shape},
    sync::LockExt,
};

/// Opens a connection with a request, which is sent, answered, or lost with the error.
type Decide = dyn Fn(Message) -> Pin<Box<dyn Future<Output = Result<Remote, Error>> + Send>> + Send + Sync;

/// A connection that may not have been decided yet.
pub(super) struct Deciding {
    decide: Arc<Decide>,
    events: EventSender,
    state: Arc<Mutex<State>>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing is known, and nothing was asked.
    #[default]
    Unknown,
    /// The server is asked; these wait.
    Asking(Vec<Message>),
    Open(Remote),
}

impl Deciding {
    /// Returns a connection on which nothing has been sent.
    pub(super) fn new(decide: Arc<Decide>, events: EventSender) -> Self {
        Self { decide, events, state: Arc::default(), tasks: JoinSet::new() }
    }
}

/// Finds out with a request which era the server speaks; it is answered or lost with that.
async fn run(decide: Arc<Decide>, events: EventSender, state: Arc<Mutex<State>>, first: Message) {
    let opened = decide(first.clone()).await;
    let lost = {
        let mut state = state.guard();
        let State::Asking(waiting) = std::mem::take(&mut *state) else { return };
        match opened {
            Ok(mut remote) => {
                waiting.into_iter().for_each(|message| remote.send(message));
                *state = State::Open(remote);
                return;
            }
            Err(error) => (waiting, Arc::new(error)),
        }
    };
    let (waiting, error) = lost;
    for message in std::iter::once(first).chain(waiting) {
        let ids: Vec<_> = message.requests().cloned().collect();
        if !ids.is_empty() {
            let method = message.method().map(Into::into);
            events.send(Event::Lost { ids, method, error: error.clone() }).await;
        }
    }
}

impl fmt::Debug for Deciding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Deciding").field("state", &self.state).finish_non_exhaustive()
    }
}

impl AnyConnection for Deciding {
    fn send(&mut self, message: Message) {
        let mut state = self.state.guard();
        match &mut *state {
            State::Open(remote) => remote.send(message),
            State::Asking(waiting) => waiting.push(message), // the loop bounds what a host may have open
            State::Unknown if matches!(message.shape, Shape::Request { .. } | Shape::Batch(_)) => {
                *state = State::Asking(Vec::new());
                self.tasks.spawn(run(self.decide.clone(), self.events.clone(), self.state.clone(), message));
            }
            // Nothing is there that it could be about.
            State::Unknown => debug!("dropping a message before the first request of the host"),
        }
    }

    fn check(&mut self) {
        if let State::Open(remote) = &mut *self.state.guard() {
            remote.check();
        }
    }

    fn abandon(&mut self) {
        self.tasks.abort_all();
        if let State::Open(remote) = &mut *self.state.guard() {
            remote.abandon();
        }
    }

    fn settle(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let state = std::mem::take(&mut *self.state.guard());
            if let State::Open(mut remote) = state {
                remote.settle().await;
                *self.state.guard() = State::Open(remote);
            }
        })
    }

    fn close(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.abandon();
        Box::pin(async move {
            let state = std::mem::take(&mut *self.state.guard());
            if let State::Open(remote) = state {
                remote.close().await;
            }
        })
    }
}
