//! The loop: one event at a time between local and remote.
//!
//! [`Forward`] decides and does no I/O: an event goes in, actions and a verdict come out. [`run()`]
//! waits for events and carries the actions out.
//!
//! The connection is a [`Link`], each state of which is a file and owns its data; what survives it is the [`Context`].
//! This file has the only `match` over both a state and an event, and the only assignments of the state.
//!
//! # Invariants
//!
//! - `Forward` leaves no request of the host unanswered, and answers none twice.
//! - `Forward` writes no response that the host has not asked for.

mod clock;
mod context;
mod hold;
mod host;
mod lists;
mod messages;
mod modern;
mod open;
mod opening;
mod person;
mod progress;
mod promised;
mod provisional;
mod run;
mod stand_in;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use log::{debug, info};
use reqwest::Url;
use tokio::sync::oneshot;

pub(crate) use clock::Clock;
pub(crate) use run::{Ends, run};

use self::{
    context::{Context, RetryReminder, Stdin},
    hold::Holding,
    modern::Discover,
    open::Open,
    opening::Opening,
    provisional::Provisional,
};
use crate::{
    config::{Limits, Protocol, Start},
    description::Descriptions,
    known_hosts::{self, HostEnvironment, HostName},
    local::Incoming,
    mcp::method,
    message::{Body, Id, Message, Shape, peek},
    oauth::Need,
    remote::{self, error::Error, http::masking::Masker},
    report::{Code, Report},
    shutdown::Stop,
    text,
    tools::ToolPattern,
};

/// How long a host may be silent once the process that started this one is gone. A launcher may end while the host talks
/// on; the host itself may be gone while another process holds its pipe open.
const ORPHAN_SILENCE: Duration = Duration::from_secs(15);
/// Messages that may wait for a connection that is being opened.
const MOST_WAITING: usize = 4096;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The host sent something, or closed its end.
    Host(Incoming),
    /// Something came from the server.
    Remote(remote::Event),
    /// The connection that was to be opened is open, or is not.
    Opened(Result<(), Error>),
    /// Something else has to happen before the server answers.
    Need(Need),
    /// The time has come that was asked for.
    Reminder(Reminder),
    /// The machine has slept for so long.
    Woke(Duration),
    /// The program is to end.
    Stop(Stop),
}

/// Something to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Write to the host.
    ToHost(Body),
    /// Open a connection, in place of one that may be there, with this message.
    Open(Message),
    /// Send on the open connection.
    Send(Message),
    /// Try at once to open the connection that is being opened.
    Hurry,
    /// A request of the host needs the sign-in: no more time for seeing whether the host stays.
    SignInIsNeeded,
    /// The user asks for a sign-in by a call of the placeholder's tool.
    UserAsks,
    /// Connections may be dead: make new ones, and see whether the session is still there.
    Check,
    /// Come back to this after a while.
    Remind(Duration, Reminder),
}

/// What is to be thought of later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reminder {
    /// A request has been held for long enough.
    Overdue(u64),
    /// `initialize` may have been held for long enough.
    Hold,
    /// The host may still be waiting for its `initialize`.
    HostWaits,
    /// A list that waits for authorization at the server has been held for long enough.
    List(u64),
    /// `server/discover` has waited for long enough.
    Discover,
    /// An opening that failed may work by now.
    TryAgain,
    /// A request with a progress token is still open.
    Progress(u64),
    /// A host whose launcher is gone may have spoken since.
    Orphaned,
    /// A request may be slow; set by [`run()`].
    Tick,
}

/// Whether to go on.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Wait for the next event.
    Continue,
    /// Read no more from the host, but let what is under way come to its end.
    Drain,
    /// Nothing more is to come.
    Stop,
}

/// How the loop is to be.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where the server is, for people.
    pub server: Url,
    /// Tools to hide and to refuse.
    pub ignored_tools: Vec<ToolPattern>,
    /// Which eras may be spoken with the server.
    pub protocol: Protocol,
    /// What the user sets about start-up, times and sizes.
    pub limits: Limits,
    /// What the host says about itself in the environment.
    pub host_environment: HostEnvironment,
    /// Tells the time.
    pub clock: Clock,
    /// Masks what the server says before it is shown.
    pub masker: Masker,
}

/// The connection, as the loop sees it.
#[derive(Debug)]
enum Link {
    /// There is none; the next message that wants one opens it.
    Closed {
        /// When a `server/discover` came that was refused just now.
        discovered: Option<Duration>,
    },
    /// It is being opened with a message; the others wait.
    Opening(Box<Opening>),
    /// It is established behind a placeholder that the host has.
    Provisional(Box<Provisional>),
    /// It is there.
    Open(Box<Open>),
}

/// What an event makes of the connection.
#[must_use]
#[derive(Debug)]
enum Next {
    /// It is this now, or still.
    Link(Link),
    /// It is this now, and what waited for it follows in order.
    Replay(Link, VecDeque<Message>),
    /// A new one is opened with the host's message in place of this one; then what waits follows.
    Begin { left: Link, first: Message, waiting: VecDeque<Message> },
}

impl Next {
    /// A new connection is opened, for which nothing waits yet.
    fn begin(left: Link, first: Message) -> Self {
        Self::Begin { left, first, waiting: VecDeque::new() }
    }
}

impl From<Link> for Next {
    fn from(link: Link) -> Self {
        Self::Link(link)
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::Closed { discovered: None }
    }
}

impl Link {
    fn hold_mut(&mut self) -> Option<&mut Holding> {
        match self {
            Self::Closed { .. } => None,
            Self::Opening(opening) => opening.hold_mut(),
            Self::Provisional(provisional) => Some(provisional.hold_mut()),
            Self::Open(open) => open.hold.as_mut(),
        }
    }

    /// Takes a request back that is not sent yet; returns whether it was there.
    fn take_back(&mut self, id: &Id) -> bool {
        match self {
            Self::Closed { .. } | Self::Open(_) => false,
            Self::Opening(opening) => opening.take_back(id),
            Self::Provisional(provisional) => provisional.take_back(id),
        }
    }

    /// Returns whether a batch of the host goes on whole.
    fn takes_batches(&self) -> bool {
        match self {
            Self::Closed { .. } | Self::Opening(_) => true,
            Self::Provisional(_) => false,
            Self::Open(open) => open.takes_batches(),
        }
    }

    /// Returns whether a batch of the server passes whole. A host that was answered with a placeholder may have been told a
    /// version without batches.
    fn passes_batches(&self) -> bool {
        !matches!(self, Self::Open(open) if open.promised.is_some())
    }

    /// Returns whether a batch of the server may answer this.
    fn takes_in_batch(&self, id: &Id) -> bool {
        match self {
            Self::Closed { .. } | Self::Provisional(_) => false,
            Self::Opening(opening) => opening.takes_in_batch(id),
            Self::Open(_) => true,
        }
    }
}

/// An event, as far as the connection decides what it leads to.
#[derive(Debug)]
enum LinkEvent {
    /// The host's.
    Message(Message),
    /// The host's, which has waited for the connection.
    Waited(Message),
    /// The host gave up on this request, or sends no more at all.
    GivenUp(Option<Id>),
    /// The host waits for its `initialize` no longer.
    EndHold,
    /// What is held is answered now.
    Release,
    /// The server's.
    Answer(Id, Message),
    Blocked(Arc<Error>, Duration),
    Renewed(Message),
    DiscoverRefused,
    Opened,
    NotOpened(Error),
    Need,
    Reminder(Reminder),
    Retry,
    Woke,
}

/// The state of the loop.
#[derive(Debug)]
pub(crate) struct Forward {
    link: Link,
    cx: Context,
}

impl Forward {
    /// Nothing has happened yet.
    pub(crate) fn new(settings: Settings, descriptions: Box<dyn Descriptions>) -> Self {
        Self { link: Link::default(), cx: Context::new(settings, descriptions) }
    }

    /// What an event leads to; take the actions with [`action`](Self::action).
    pub(crate) fn handle(&mut self, event: Event) -> Verdict {
        match event {
            Event::Host(Incoming::Line(line)) => {
                self.note_line();
                self.line(line);
            }
            Event::Host(Incoming::TooLong(id)) => {
                self.note_line();
                self.too_long(id.as_ref());
            }
            Event::Host(Incoming::End) => {
                debug!("the host closed stdin");
                self.end_input();
            }
            Event::Stop(Stop::ParentGone) if self.cx.stdin == Stdin::Open => {
                self.cx.stdin = Stdin::Orphaned;
                self.cx.act(Action::Remind(ORPHAN_SILENCE, Reminder::Orphaned));
            }
            Event::Stop(stop) => {
                info!("shutting down: {stop}");
                self.end_input();
            }
            Event::Reminder(Reminder::Orphaned) if self.cx.stdin == Stdin::Orphaned => {
                info!("shutting down: {}", Stop::ParentGone);
                self.end_input();
            }
            Event::Remote(remote::Event::Message(message) | remote::Event::Related { message, .. }) => {
                self.server_message(message);
            }
            Event::Remote(remote::Event::Lost { ids, method, error }) => self.lost(&ids, method.as_deref(), &error),
            Event::Remote(remote::Event::Blocked(error, pause)) => self.step(LinkEvent::Blocked(error, pause)),
            Event::Remote(remote::Event::Renewed(answer)) => self.step(LinkEvent::Renewed(answer)),
            Event::Need(need) => {
                self.cx.person.need = need;
                if self.cx.settings.limits.start != Start::Wait {
                    self.step(LinkEvent::Need);
                }
            }
            Event::Reminder(Reminder::Progress(serial)) => {
                let server = text::host(&self.cx.settings.server);
                self.cx.host.keep_alive(serial, &server);
            }
            Event::Reminder(Reminder::Discover) => {
                let discover = modern::on_due(&mut self.cx);
                self.after(discover);
            }
            Event::Reminder(Reminder::Tick) => self.tick(),
            Event::Reminder(Reminder::TryAgain) => {
                self.cx.retry_reminder = RetryReminder::Unset;
                self.step(LinkEvent::Retry);
            }
            Event::Reminder(reminder) => self.step(LinkEvent::Reminder(reminder)),
            Event::Woke(slept) => {
                info!("system resumed after {} s; checking the connection", slept.as_secs());
                self.cx.act(Action::Check);
                self.step(LinkEvent::Woke);
            }
            Event::Opened(Ok(())) => {
                self.cx.openings.clear();
                self.step(LinkEvent::Opened);
            }
            Event::Opened(Err(error)) => self.step(LinkEvent::NotOpened(error)),
        }
        match (self.cx.stdin, &self.link) {
            (Stdin::Open | Stdin::Orphaned, _) => Verdict::Continue,
            (Stdin::Ended, Link::Opening(_)) => Verdict::Drain,
            (Stdin::Ended, _) if self.cx.host.waits_for_nothing() => Verdict::Stop,
            (Stdin::Ended, _) => Verdict::Drain,
        }
    }

    /// The next thing to do.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.cx.host.actions.pop_front()
    }

    /// Returns whether a [`Reminder::Tick`] is wanted.
    pub(crate) fn awaits_server(&self) -> bool {
        self.cx.host.awaits_server()
    }

    /// Ends the descriptions; what it returns comes when everything is kept.
    pub(crate) fn end_descriptions(&mut self) -> Option<oneshot::Receiver<()>> {
        self.cx.descriptions.end()
    }

    /// The end: everything still owed is answered.
    pub(crate) fn close(&mut self) {
        let report = Report::new(Code::HostClosed, "the host closed the connection before the server answered", None);
        if let Link::Open(open) = &self.link {
            open.close(&mut self.cx);
        }
        for (id, count) in self.cx.host.debts() {
            (0..count).for_each(|_| self.cx.host.fail(&id, &report));
        }
        if let Some(hold) = self.link.hold_mut() {
            hold.note_that_host_has_answer(&mut self.cx);
        }
    }

    /// Notes that the host is alive: from now on only the end of its pipe ends this process.
    fn note_line(&mut self) {
        if self.cx.stdin == Stdin::Orphaned {
            self.cx.stdin = Stdin::Open;
        }
    }

    /// Logs the requests for which the server takes long. While the connection is blocked or a person has to sign in, the
    /// log has the reason already.
    fn tick(&mut self) {
        let is_servers_turn = match &self.link {
            Link::Closed { .. } | Link::Provisional(_) => false,
            Link::Opening(opening) => !opening.is_blocked(),
            Link::Open(_) => true,
        };
        let is_servers_turn = is_servers_turn && !matches!(self.cx.person.need, Need::Person(_) | Need::OtherRefreshes);
        if let Some(line) = self.cx.host.tick(is_servers_turn, &text::host(&self.cx.settings.server)) {
            info!("{line}");
        }
    }

    fn end_input(&mut self) {
        self.cx.stdin = Stdin::Ended;
        self.step(LinkEvent::GivenUp(None));
        self.step(LinkEvent::EndHold);
        self.step(LinkEvent::Release);
    }

    fn lost(&mut self, ids: &[Id], method: Option<&str>, error: &Error) {
        if let Some(discover) = modern::on_lost(ids, error, &mut self.cx) {
            return self.after(discover);
        }
        let server = &self.cx.settings.server;
        let is_first = self.cx.host.first_discover().is_some_and(|id| ids == [id]);
        let report =
            if is_first { Report::of_opening(error, server) } else { Report::of_request(error, server, method) };
        let method = method.unwrap_or("a message");
        let is_own = self.cx.lists.lost(ids);
        if ids.is_empty() || is_own || ids.iter().any(|id| self.cx.host.asked(id).is_some()) {
            self.cx.log_loss(method, &report);
        } else {
            // The host has cancelled it, or has its answer by another stream.
            debug!("{method}: {}", report.line());
        }
        ids.iter().for_each(|id| self.cx.host.fail(id, &report));
    }

    fn after(&mut self, discover: Discover) {
        if discover == Discover::Refused {
            self.step(LinkEvent::DiscoverRefused);
        }
    }

    /// One event in the life of the connection.
    fn step(&mut self, event: LinkEvent) {
        use LinkEvent as On;
        let cx = &mut self.cx;
        let next = match (std::mem::take(&mut self.link), event) {
            (link @ Link::Closed { .. }, On::Message(message) | On::Waited(message)) => {
                if ends_here(&message, cx) {
                    link.into()
                } else {
                    Next::begin(link, message)
                }
            }
            (Link::Opening(state), On::Message(message) | On::Waited(message)) => {
                stay(Link::Opening, state, |state| state.wait(message, cx))
            }
            (link @ Link::Provisional(_), On::Message(first)) if first.method() == Some(method::INITIALIZE) => {
                Next::begin(link, first)
            }
            (Link::Provisional(state), On::Message(message) | On::Waited(message)) => state.hold_or_answer(message, cx),
            (Link::Open(state), On::Message(message)) => state.on_message(message, cx),
            (Link::Open(state), On::Waited(message)) => state.forward(message, cx),

            (Link::Opening(state), On::GivenUp(id)) => {
                stay(Link::Opening, state, |state| state.on_given_up(id.as_ref(), cx))
            }
            (Link::Provisional(state), On::GivenUp(id)) => {
                stay(Link::Provisional, state, |state| state.hold_mut().on_list_given_up(id.as_ref(), cx))
            }
            (Link::Open(state), On::GivenUp(id)) => stay(Link::Open, state, |state| state.on_given_up(id.as_ref(), cx)),
            (Link::Opening(state), On::EndHold) => state.end_hold(cx),
            (Link::Provisional(state), On::Release) => stay(Link::Provisional, state, |state| state.release_all(cx)),

            (Link::Opening(state), On::Answer(id, answer)) => {
                stay(Link::Opening, state, |state| state.on_answer(&id, answer, cx))
            }
            (Link::Provisional(state), On::Answer(id, answer)) => state.on_answer(&id, answer, cx),
            (Link::Open(state), On::Answer(id, answer)) => {
                stay(Link::Open, state, |state| state.on_answer(&id, answer, cx))
            }
            (link @ Link::Closed { .. }, On::Answer(id, answer)) => {
                cx.pay(&id, answer, None);
                link.into()
            }
            (Link::Opening(state), On::Renewed(answer)) => {
                stay(Link::Opening, state, |state| state.on_renewed(answer, cx))
            }
            (Link::Provisional(state), On::Renewed(answer)) => {
                stay(Link::Provisional, state, |state| state.on_renewed(answer))
            }
            (Link::Open(state), On::Renewed(answer)) => stay(Link::Open, state, |state| state.on_renewed(answer, cx)),
            (Link::Open(state), On::DiscoverRefused) => state.on_discover_refused(cx),

            (Link::Opening(state), On::Opened) => state.on_opened(),
            (Link::Provisional(state), On::Opened) => state.on_opened(cx),
            (Link::Opening(state), On::NotOpened(error)) => state.on_not_opened(&error, cx),
            (Link::Provisional(state), On::NotOpened(error)) => {
                stay(Link::Provisional, state, |state| state.on_not_opened(&error, cx))
            }
            (Link::Opening(state), On::Blocked(error, pause)) => state.on_blocked(&error, pause, cx),
            (Link::Provisional(state), On::Blocked(error, pause)) => {
                stay(Link::Provisional, state, |state| state.on_blocked(&error, pause, cx))
            }
            (link, On::Blocked(error, pause)) => {
                cx.openings.log_retry(&Report::of_opening(&error, &cx.settings.server), pause);
                link.into()
            }

            (Link::Opening(state), On::Need | On::Reminder(Reminder::Hold)) => state.consider(cx),
            (Link::Provisional(state), On::Need) => stay(Link::Provisional, state, |state| state.on_need(cx)),
            (Link::Open(state), On::Need) => state.on_need(cx),
            (Link::Opening(state), On::Reminder(Reminder::HostWaits)) => {
                stay(Link::Opening, state, |state| state.on_host_waits(cx))
            }
            (Link::Provisional(state), On::Reminder(Reminder::Overdue(serial))) => {
                stay(Link::Provisional, state, |state| state.on_overdue(serial, cx))
            }
            (Link::Open(state), On::Reminder(Reminder::List(serial))) => {
                stay(Link::Open, state, |state| state.on_list_due(serial, cx))
            }
            (Link::Provisional(state), On::Retry | On::Woke) => stay(Link::Provisional, state, |state| state.retry(cx)),
            (link @ Link::Opening(_), On::Woke) => {
                cx.act(Action::Hurry); // no more of a pause that began before
                link.into()
            }
            // It came too late, or is nothing to this state.
            (
                link,
                On::GivenUp(_)
                | On::EndHold
                | On::Release
                | On::Renewed(_)
                | On::DiscoverRefused
                | On::Opened
                | On::NotOpened(_)
                | On::Need
                | On::Reminder(_)
                | On::Retry
                | On::Woke,
            ) => link.into(),
        };
        self.follow(next);
    }

    /// Makes the connection what an event has made of it.
    fn follow(&mut self, next: Next) {
        match next {
            Next::Link(link) => self.link = link,
            Next::Replay(link, mut waiting) => {
                self.link = link;
                while let Some(message) = waiting.pop_front() {
                    if message.method() == Some(method::INITIALIZE) {
                        let left = std::mem::take(&mut self.link);
                        return self.follow(Next::Begin { left, first: message, waiting });
                    }
                    if let Link::Provisional(_) = self.link {
                        // A batch was kept whole for a server that answers.
                        message.split().into_iter().flatten().for_each(|part| self.step(LinkEvent::Waited(part)));
                    } else {
                        self.step(LinkEvent::Waited(message));
                    }
                }
            }
            Next::Begin { mut left, first, waiting } => {
                self.cx.leave_session(&first, &waiting);
                if let Some(hold) = left.hold_mut() {
                    hold.note_that_host_has_answer(&mut self.cx);
                }
                let since = if let Link::Closed { discovered } = left { discovered } else { None };
                let next = Opening::begin(first, waiting, since, &mut self.cx);
                self.follow(next);
            }
        }
    }
}

/// An event that leaves the state what it is.
fn stay<S>(link: fn(Box<S>) -> Link, mut state: Box<S>, act: impl FnOnce(&mut S)) -> Next {
    act(&mut state);
    Next::Link(link(state))
}

/// Returns whether a message of the host needs no connection where there is none; it is answered then, or dropped.
fn ends_here(message: &Message, cx: &mut Context) -> bool {
    match &message.shape {
        // Nobody can have asked before there was a connection.
        Shape::Response { .. } => debug!("dropping a response of the host: no connection is open"),
        Shape::Notification { method } if &**method == method::CANCELLED => {
            return peek::cancelled_id(message).is_some();
        }
        // Where only legacy versions are spoken, a host that can goes on with `initialize`.
        Shape::Request { id, method }
            if &**method == method::DISCOVER
                && cx.settings.protocol == Protocol::Legacy
                && known_hosts::falls_back(&HostName::of(message)) =>
        {
            let why = "server/discover is not supported: --protocol legacy or --transport sse-only is set";
            _ = modern::refuse(id, why, cx);
        }
        _ => return false,
    }
    true
}
