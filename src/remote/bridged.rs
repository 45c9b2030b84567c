//! A connection to a server of another era than the host's: a [`Bridge`] between the loop and a connection that knows
//! nothing of it.
//!
//! # Invariants
//!
//! - The bridge decides what crosses; this file does what it says.
//! - The task of the bridge ends with the connection.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{AnyConnection, Event, EventReceiver, EventSender, Remote};
use crate::{
    era::bridge::{Bridge, Due, Step},
    message::Message,
    reminders::Reminders,
    sync::LockExt,
};

/// A connection behind a bridge.
#[derive(Debug)]
pub(super) struct Bridged {
    connection: Arc<Mutex<Option<Remote>>>,
    from_host: mpsc::UnboundedSender<FromHost>,
    task: JoinSet<()>,
}

/// What the loop hands over.
#[derive(Debug)]
enum FromHost {
    Message(Message),
    /// Say when what came before is on its way.
    Settle(oneshot::Sender<()>),
}

impl Bridged {
    /// Puts a bridge between a connection, whose `events` come here, and the loop, which gets its own `to_host`.
    pub(super) fn new(
        bridge: impl Bridge + 'static,
        connection: Remote,
        events: EventReceiver,
        to_host: EventSender,
    ) -> Self {
        let connection = Arc::new(Mutex::new(Some(connection)));
        // The loop bounds what a host may have open.
        let (from_host, messages) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(run(Box::new(bridge), connection.clone(), events, to_host, messages));
        Self { connection, from_host, task }
    }
}

async fn run(
    mut bridge: Box<dyn Bridge>,
    connection: Arc<Mutex<Option<Remote>>>,
    mut events: EventReceiver,
    to_host: EventSender,
    mut messages: mpsc::UnboundedReceiver<FromHost>,
) {
    let mut reminders = Reminders::<Due>::default();
    loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => match event {
                Event::Message(message) => bridge.on_server(message, None),
                Event::Related { to, message } => bridge.on_server(message, Some(&to)),
                Event::Lost { ids, method, error } => {
                    let lost = bridge.on_lost(&ids);
                    if !lost.is_empty() || ids.is_empty() {
                        to_host.send(Event::Lost { ids: lost, method, error }).await;
                    }
                }
                Event::Renewed(answer) => bridge.on_renewed(&answer),
                blocked @ Event::Blocked(..) => to_host.send(blocked).await,
            },
            due = reminders.next() => bridge.on_due(due),
            message = messages.recv() => match message {
                Some(FromHost::Message(message)) => bridge.on_host(message),
                Some(FromHost::Settle(done)) => _ = done.send(()),
                None => return,
            },
        }
        while let Some(step) = bridge.step() {
            match step {
                Step::ToServer(message) => {
                    if let Some(connection) = &mut *connection.guard() {
                        connection.send(message);
                    }
                }
                Step::ToHost(message) => to_host.send(Event::Message(message)).await,
                Step::Remind(after, due) => reminders.add(after, due),
            }
        }
    }
}

impl AnyConnection for Bridged {
    fn send(&mut self, message: Message) {
        _ = self.from_host.send(FromHost::Message(message)); // the task ends with this connection only
    }

    fn check(&mut self) {
        if let Some(connection) = &mut *self.connection.guard() {
            connection.check();
        }
    }

    fn abandon(&mut self) {
        self.task.abort_all();
        if let Some(connection) = &mut *self.connection.guard() {
            connection.abandon();
        }
    }

    fn settle(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let (sender, done) = oneshot::channel();
            if self.from_host.send(FromHost::Settle(sender)).is_ok() {
                _ = done.await;
            }
            let connection = self.connection.guard().take();
            if let Some(mut connection) = connection {
                connection.settle().await;
                *self.connection.guard() = Some(connection);
            }
        })
    }

    fn close(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.abandon();
        Box::pin(async move {
            let connection = self.connection.guard().take();
            if let Some(connection) = connection {
                connection.close().await;
            }
        })
    }
}
