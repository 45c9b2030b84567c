//! A connection that is open: every message goes on, except what a placeholder answers while somebody has to sign in, or
//! because of what one has promised.
//!
//! # Invariants
//!
//! - `Open` answers no list in the server's place unless a person has to sign in.
//! - `Open` asks no person again who has said no.

use std::collections::VecDeque;

use super::{
    Action, Link, Next,
    context::{Context, Stdin},
    hold::Holding,
    host::Asked,
    lists::LastListed,
    modern::{self, Discover},
    promised::Promised,
    stand_in::{self, StandIn},
};
use crate::{
    description::{Learned, List},
    era::Era,
    mcp::method,
    message::{Id, Message, Shape},
    oauth::Need,
    report::Report,
};

#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: HostSession,
    pub(super) speaker: Speaker,
    /// Once the host was answered with a placeholder.
    pub(super) promised: Option<Promised>,
    pub(super) hold: Option<Holding>,
}

#[derive(Debug)]
pub(super) enum HostSession {
    Legacy {
        /// The host's own, if it has begun with one.
        initialize: Option<Message>,
    },
    Modern,
}

/// Who answers lists.
#[derive(Debug)]
pub(super) enum Speaker {
    Server,
    /// The placeholder, while somebody has to sign in.
    StandIn(StandIn),
}

impl Open {
    pub(super) fn new(session: HostSession, hold: Option<Holding>) -> Box<Self> {
        Box::new(Self { session, speaker: Speaker::Server, promised: None, hold })
    }

    fn era(&self) -> Era {
        match self.session {
            HostSession::Legacy { .. } => Era::Legacy,
            HostSession::Modern => Era::Modern,
        }
    }

    fn initialize(&self) -> Option<&Message> {
        match &self.session {
            HostSession::Legacy { initialize } => initialize.as_ref(),
            HostSession::Modern => None,
        }
    }

    /// Returns whether a batch of the host goes on whole.
    pub(super) fn takes_batches(&self) -> bool {
        self.promised.is_none() && matches!(self.speaker, Speaker::Server)
    }

    /// A message of the host.
    pub(super) fn on_message(mut self: Box<Self>, message: Message, cx: &mut Context) -> Next {
        if self.answer_in_place(&message, cx) { Link::Open(self).into() } else { self.forward(message, cx) }
    }

    /// A message of the host that is not for the placeholder.
    pub(super) fn forward(self: Box<Self>, message: Message, cx: &mut Context) -> Next {
        // An `initialize` begins anew, whatever is open.
        if message.method() == Some(method::INITIALIZE) {
            return Next::Begin { left: Link::Open(self), first: message, waiting: VecDeque::new() };
        }
        if !self.promised.as_ref().is_some_and(|promised| promised.answer_for_missing(&message, cx)) {
            cx.act(Action::Send(message));
        }
        Link::Open(self).into()
    }

    /// Answers a request while somebody has to sign in; returns whether it is answered.
    fn answer_in_place(&mut self, message: &Message, cx: &mut Context) -> bool {
        let era = self.era();
        let (Speaker::StandIn(stand_in), Shape::Request { id, method }) = (&self.speaker, &message.shape) else {
            return false;
        };
        if let Some(list) = List::of_method(method) {
            let hold = self.hold.as_mut();
            if hold.is_some_and(|hold| hold.hold_list_in_flight(id, list, stand_in.knows(list), cx)) {
                return false; // it waits at the server, as every other request
            }
            stand_in.answer_list(id, list, cx, self.hold.as_mut(), era);
            return true;
        }
        let is_call = stand_in::is_call(message);
        if is_call {
            stand_in.answer_call(id, "", cx);
            if matches!(cx.person.need, Need::Failed(_)) {
                cx.act(Action::UserAsks);
                self.go_on(cx); // the host asks again, and with that the server
            }
        }
        is_call
    }

    /// Answers the lists that wait for somebody to sign in.
    fn answer_lists(&mut self, cx: &mut Context) {
        let era = self.era();
        let Speaker::StandIn(stand_in) = &self.speaker else { return };
        for (id, list) in cx.host.lists() {
            let hold = self.hold.as_mut().filter(|_| cx.stdin == Stdin::Open);
            if !hold.is_some_and(|hold| hold.hold_list_in_flight(&id, list, stand_in.knows(list), cx)) {
                // The server's own answer will find nothing owed.
                stand_in.answer_list(&id, list, cx, self.hold.as_mut(), era);
            }
        }
    }

    /// The server answers for itself again.
    fn go_on(&mut self, cx: &mut Context) {
        let Speaker::StandIn(_) = std::mem::replace(&mut self.speaker, Speaker::Server) else { return };
        self.promised.get_or_insert_default();
        cx.person.complete_offer(&mut cx.host);
        let changed = cx.lists.reconcile(|_, last| matches!(last, LastListed::Placeholder));
        cx.host.announce(
            self.era(),
            &match self.session {
                HostSession::Legacy { .. } => changed,
                // What was shown was not the server's own; the host asks for it again.
                HostSession::Modern => [changed, cx.lists.filter(|_, last| last.is_of_server())].concat(),
            },
        );
        if let HostSession::Legacy { .. } = self.session {
            cx.lists.refresh(&mut cx.host);
        }
    }

    pub(super) fn on_answer(&mut self, id: &Id, answer: Message, cx: &mut Context) {
        let asked = cx.host.asked(id);
        if asked.is_none() && cx.lists.refreshed(id, &answer.body, &mut cx.host, cx.descriptions.as_mut()) {
            return;
        }
        cx.pay_for(asked, id, answer, self.initialize());
        if asked == Some(Asked::Initialize)
            && let Some(hold) = &mut self.hold
        {
            hold.note_that_host_has_answer(cx);
        }
    }

    /// What has to happen before the server answers has changed.
    pub(super) fn on_need(mut self: Box<Self>, cx: &mut Context) -> Next {
        if matches!(self.session, HostSession::Modern)
            && cx.person.is_signing_in()
            && let Some(discover) = modern::on_sign_in(cx, self.hold.as_ref())
        {
            return if discover == Discover::Refused { self.on_discover_refused(cx) } else { Link::Open(self).into() };
        }
        let era = self.era();
        match (&cx.person.need, &mut self.speaker) {
            (Need::Person(_), speaker) => {
                let report = cx.sign_in_needed();
                match speaker {
                    Speaker::StandIn(stand_in) => stand_in.set_report(report, cx, era),
                    Speaker::Server => {
                        *speaker = Speaker::StandIn(StandIn::new(cx.descriptions.load(), report, &cx.settings.server))
                    }
                }
                self.answer_lists(cx);
                // A modern host takes no requests (MCP 2026-07-28, Multi Round-Trip Requests).
                if era == Era::Legacy {
                    cx.offer(self.initialize());
                }
            }
            (Need::Failed(error), Speaker::StandIn(stand_in)) => {
                let report = Report::of_authorization(error, &cx.settings.server);
                stand_in.set_report(report, cx, era);
            }
            (Need::Nothing, _) => self.go_on(cx),
            _ => {}
        }
        Link::Open(self).into()
    }

    /// The `server/discover` that began the connection is refused: the next message decides the era again.
    pub(super) fn on_discover_refused(self: Box<Self>, cx: &Context) -> Next {
        if matches!(self.session, HostSession::Modern) && cx.host.owes() == 0 {
            return Link::Closed { discovered: self.hold.map(|hold| hold.since()) }.into();
        }
        Link::Open(self).into()
    }

    /// A lost session was replaced: the server may be another than it was.
    pub(super) fn on_renewed(&mut self, answer: Message, cx: &mut Context) {
        if let Some(promised) = &mut self.promised {
            promised.server_changed(&answer, cx);
        }
        if let Some(request) = self.initialize().cloned() {
            cx.descriptions.save(Learned::Initialize { request, answer: answer.body });
        }
        cx.lists.refresh_if_idle(&mut cx.host);
    }

    /// A list that waits at the server has been held for long enough.
    pub(super) fn on_list_due(&mut self, serial: u64, cx: &mut Context) {
        let era = self.era();
        let id = self.hold.as_mut().and_then(|hold| hold.end_list(serial));
        if let (Some(id), Speaker::StandIn(stand_in)) = (id, &self.speaker) {
            // The server's own answer will find nothing owed.
            stand_in.answer_list(&id, List::Tools, cx, self.hold.as_mut(), era);
        }
    }

    /// The host gave up on the request that it `cancelled`, or sends no more.
    pub(super) fn on_given_up(&mut self, cancelled: Option<&Id>, cx: &mut Context) {
        if let Some(hold) = &mut self.hold {
            hold.on_list_given_up(cancelled, cx);
        }
        if cancelled.is_none() {
            self.answer_lists(cx);
        }
    }

    /// The connection ends, and its streams with it.
    pub(super) fn close(&self, cx: &mut Context) {
        if let HostSession::Modern = self.session {
            cx.host.end_streams();
        }
    }
}
