//! A connection that is being opened with a message of the host; the others wait for it.
//!
//! # Invariants
//!
//! - `Opening` answers the host's `initialize` itself only where the server cannot, and when the hold is over.
//! - `Opening` holds no message that is not sent, replayed to the placeholder, or answered with the failure.

use std::{collections::VecDeque, time::Duration};

use log::{debug, warn};

use super::{
    Action, Link, MOST_WAITING, Next,
    context::Context,
    hold::{Holding, Time},
    lists::LastListed,
    modern,
    open::{HostSession, Open},
    provisional::{Provisional, Stage, log_refusal},
    stand_in::StandIn,
};
use crate::{
    description::{Description, Learned, List},
    era,
    mcp::method,
    message::{Id, Message, Shape},
    oauth::{self, AskedBy, Asking, Need},
    remote::error::Error,
    report::{Code, Report},
};

#[derive(Debug)]
pub(super) struct Opening {
    /// What opens it.
    first: Message,
    beginning: Beginning,
    waiting: VecDeque<Message>,
    blocked: Option<Blocked>,
}

/// How a connection begins.
#[derive(Debug)]
enum Beginning {
    /// With the host's `initialize`, which may be answered here when the hold is over.
    Held(Holding),
    /// With the host's `initialize`, which only the server answers.
    Awaited,
    /// With an `initialize` that the server has answered.
    Introduced(Option<Holding>),
    /// With a request of the modern era, which knows no handshake.
    Modern(Option<Holding>),
    /// With something else; there is no handshake.
    Other,
}

/// Why the connection is blocked.
#[derive(Debug)]
enum Blocked {
    /// The server answers, and says that it is busy: it may only be slow.
    Busy(Report),
    Unreachable(Report),
}

impl Opening {
    /// Opens a connection with `first`; then the `waiting` follow. `since` is when a `server/discover` came that was
    /// refused just now.
    pub(super) fn begin(first: Message, waiting: VecDeque<Message>, since: Option<Duration>, cx: &mut Context) -> Next {
        cx.act(Action::Open(first.clone()));
        let beginning = if first.method() == Some(method::INITIALIZE) {
            Holding::begin(&first, since, cx).map_or(Beginning::Awaited, Beginning::Held)
        } else if era::begins_modern(&first) {
            let hold = Holding::begin(&first, None, cx);
            modern::begin(&first, cx, hold.as_ref());
            Beginning::Modern(hold)
        } else {
            Beginning::Other
        };
        Box::new(Self { first, beginning, waiting, blocked: None }).consider(cx) // somebody may be asked already
    }

    pub(super) fn hold_mut(&mut self) -> Option<&mut Holding> {
        match &mut self.beginning {
            Beginning::Held(hold) => Some(hold),
            Beginning::Introduced(hold) | Beginning::Modern(hold) => hold.as_mut(),
            Beginning::Awaited | Beginning::Other => None,
        }
    }

    /// Returns the host's `initialize`, if it opens this connection.
    fn initialize(&self) -> Option<&Message> {
        match self.beginning {
            Beginning::Held(_) | Beginning::Awaited | Beginning::Introduced(_) => Some(&self.first),
            Beginning::Modern(_) | Beginning::Other => None,
        }
    }

    fn opens_with(&self, id: &Id) -> bool {
        self.first.requests().any(|first| first == id)
    }

    /// Returns whether a batch of the server may answer this.
    pub(super) fn takes_in_batch(&self, id: &Id) -> bool {
        matches!(self.beginning, Beginning::Modern(_) | Beginning::Other) && self.opens_with(id)
    }

    /// Answers the host's `initialize` with the placeholder, if it is known that the server cannot answer, and the host is
    /// not to be held for it.
    pub(super) fn consider(mut self: Box<Self>, cx: &mut Context) -> Next {
        let has_reason = self.has_reason(cx);
        let is_certain = self.is_unreachable() || matches!(cx.person.need, Need::Person(_));
        let Beginning::Held(hold) = &mut self.beginning else { return Link::Opening(self).into() };
        if matches!(&cx.person.need, Need::Person(Asking { by: AskedBy::EndedProcess, .. })) {
            hold.extend_for_open_tab(cx);
        }
        if !has_reason && hold.time(cx) != Time::InAnyCase {
            hold.apply_limits_in_time(cx);
            return Link::Opening(self).into();
        }
        let known = cx.known_server();
        if known.is_none() {
            hold.apply_limits(cx);
            // What is to be opened comes a moment later than the need for it.
            let is_due = match hold.time(cx) {
                Time::Early => false,
                Time::ForReason => is_certain,
                Time::InAnyCase => true,
            };
            if !is_due {
                self.answer_waiting(cx);
                return Link::Opening(self).into();
            }
        }
        let report = self.report(cx);
        self.introduce(known, report, Stage::Opening { answer: None }, cx)
    }

    /// The host waits no longer for its `initialize`.
    pub(super) fn end_hold(mut self: Box<Self>, cx: &mut Context) -> Next {
        if !self.has_reason(cx) {
            return Link::Opening(self).into();
        }
        let (known, report) = (cx.known_server(), self.report(cx));
        self.introduce(known, report, Stage::Opening { answer: None }, cx)
    }

    fn introduce(self: Box<Self>, known: Option<Description>, report: Report, stage: Stage, cx: &mut Context) -> Next {
        match *self {
            Self { first, beginning: Beginning::Held(hold), waiting, .. } => {
                let provisional =
                    Provisional::begin(first, hold, StandIn::new(known, report, &cx.settings.server), stage, cx);
                Next::Replay(Link::Provisional(provisional), waiting)
            }
            opening => Link::Opening(Box::new(opening)).into(),
        }
    }

    /// Returns whether the connection was blocked, and is tried again.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    fn is_unreachable(&self) -> bool {
        matches!(self.blocked, Some(Blocked::Unreachable(_)))
    }

    /// Returns whether it is known that the server cannot answer yet.
    fn has_reason(&self, cx: &Context) -> bool {
        self.is_unreachable() || cx.person.is_signing_in()
    }

    /// Reports why the server has not answered yet.
    fn report(&mut self, cx: &Context) -> Report {
        let blocked =
            self.blocked.as_ref().map(|(Blocked::Busy(report) | Blocked::Unreachable(report))| report.clone());
        match &cx.person.need {
            Need::Person(_) => cx.sign_in_needed(),
            // The time that a sign-in takes is not the server's silence.
            Need::SignIn => {
                blocked.filter(|report| report.code != Code::TimedOut).unwrap_or_else(|| cx.sign_in_needed())
            }
            // Nor is the time of another process.
            Need::OtherRefreshes => Report::of_authorization(&oauth::error::Error::OtherRefreshes, &cx.settings.server),
            _ => blocked.unwrap_or_else(|| {
                let waited = self.hold_mut().map(|hold| hold.slow()).unwrap_or_default();
                let slow = Report::of_slow_opening(&cx.settings.server, waited);
                warn!("{}", slow.line()); // what blocks the connection was logged when it was met
                slow
            }),
        }
    }

    /// A message of the host waits for the connection.
    pub(super) fn wait(&mut self, message: Message, cx: &mut Context) {
        let before: usize = self.waiting.iter().map(|message| message.body.len()).sum();
        if self.waiting.len() < MOST_WAITING && before <= cx.settings.limits.max_message_size {
            self.waiting.push_back(message);
            self.answer_waiting(cx);
        } else {
            cx.refuse_to_hold(&message);
        }
    }

    /// While `initialize` is held, a host that does not wait for it has its other questions answered: empty, never
    /// with an error, after which Gemini CLI gives the whole server up.
    fn answer_waiting(&mut self, cx: &mut Context) {
        if !matches!(self.beginning, Beginning::Held(_)) || !self.has_reason(cx) {
            return;
        }
        self.waiting.retain(|message| {
            let Shape::Request { id, method } = &message.shape else { return true };
            match List::of_method(method) {
                Some(List::Tools) => return true,
                Some(list) => {
                    cx.host.answer(id, &format!(r#"{{"{}":[]}}"#, list.member()));
                    cx.lists.set(list, LastListed::Placeholder);
                }
                None if &**method == method::PING => cx.host.answer(id, "{}"),
                None => return true,
            }
            false
        });
    }

    /// Takes a request back that waits; returns whether it was there.
    pub(super) fn take_back(&mut self, id: &Id) -> bool {
        let asks = |message: &Message| matches!(&message.shape, Shape::Request { id: asked, .. } if asked == id);
        let at = self.waiting.iter().position(asks);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// The host gave up on its `initialize`, or on the request that it `cancelled`.
    pub(super) fn on_given_up(&mut self, cancelled: Option<&Id>, cx: &mut Context) {
        let is_first = cancelled.is_none_or(|cancelled| self.opens_with(cancelled));
        if let Beginning::Held(hold) = &mut self.beginning
            && is_first
        {
            hold.on_initialize_given_up(cancelled, cx);
        }
    }

    pub(super) fn on_answer(&mut self, id: &Id, answer: Message, cx: &mut Context) {
        if !self.opens_with(id) {
            let id = cx.settings.masker.line(id.as_json());
            return debug!("dropping the server's response to {id}: no request with that ID was sent");
        }
        if matches!(self.beginning, Beginning::Held(_) | Beginning::Awaited) {
            log_refusal(&answer, &cx.settings);
        }
        cx.pay(id, answer, self.initialize());
        self.beginning = match std::mem::replace(&mut self.beginning, Beginning::Other) {
            Beginning::Held(mut hold) => {
                hold.note_that_host_has_answer(cx);
                Beginning::Introduced(Some(hold))
            }
            Beginning::Awaited => Beginning::Introduced(None),
            other => other,
        };
    }

    /// The answer of a session that the host has left.
    pub(super) fn on_renewed(&self, answer: Message, cx: &mut Context) {
        if let Some(request) = self.initialize().cloned() {
            cx.descriptions.save(Learned::Initialize { request, answer: answer.body });
        }
    }

    pub(super) fn on_opened(self: Box<Self>) -> Next {
        let Self { first, beginning, waiting, .. } = *self;
        let (session, hold) = match beginning {
            Beginning::Held(hold) => (HostSession::Legacy { initialize: Some(first) }, Some(hold)),
            Beginning::Awaited => (HostSession::Legacy { initialize: Some(first) }, None),
            Beginning::Introduced(hold) => (HostSession::Legacy { initialize: Some(first) }, hold),
            Beginning::Modern(hold) => (HostSession::Modern, hold),
            Beginning::Other => (HostSession::Legacy { initialize: None }, None),
        };
        Next::Replay(Link::Open(Open::new(session, hold)), waiting)
    }

    pub(super) fn on_not_opened(self: Box<Self>, error: &Error, cx: &mut Context) -> Next {
        let report = self.why_not_open(error, cx);
        cx.openings.log(&report);
        // What is known of this server from before is better than nothing, but not better than its own words.
        if error.answer().is_none()
            && matches!(self.beginning, Beginning::Held(_))
            && let Some(known) = cx.known_server()
        {
            return self.introduce(Some(known), report, Stage::after(error), cx);
        }
        for id in self.first.requests() {
            match error.answer() {
                Some(answer) if !matches!(self.beginning, Beginning::Other) => {
                    cx.pay(id, answer.with_id(id), self.initialize());
                }
                _ => cx.host.fail(id, &report),
            }
        }
        for message in &self.waiting {
            cx.host.fail_all(message, &report);
        }
        Link::default().into()
    }

    /// The connection cannot be opened for now.
    pub(super) fn on_blocked(mut self: Box<Self>, error: &Error, pause: Duration, cx: &mut Context) -> Next {
        let report = self.why_not_open(error, cx);
        cx.openings.log_retry(&report, pause);
        let is_busy = error.status().is_some();
        self.blocked = Some(if is_busy { Blocked::Busy(report) } else { Blocked::Unreachable(report) });
        self.consider(cx)
    }

    fn why_not_open(&self, error: &Error, cx: &Context) -> Report {
        match self.beginning {
            // What a server may have done with what opens the connection cannot be known.
            Beginning::Modern(_) | Beginning::Other => Report::of_remote(error, &cx.settings.server),
            _ => Report::of_opening(error, &cx.settings.server),
        }
    }

    /// The host may still wait for its `initialize`.
    pub(super) fn on_host_waits(&mut self, cx: &mut Context) {
        if let Beginning::Held(hold) = &mut self.beginning {
            hold.note_that_host_waits(cx);
        }
    }
}
