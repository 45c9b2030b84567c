//! The loop: one event at a time between local and remote.
//!
//! [`Forward`] decides and does no I/O: an event goes in, actions and a verdict come out. [`run()`]
//! waits for events and carries the actions out.
//!
//! Must never: leave a request of the host unanswered, or answer one twice; write a response that
//! nobody asked for.

mod clock;
mod hold;
mod listens;
mod modern;
mod owed;
mod progress;
mod provisional;
mod run;
mod sign_in;
mod stand_in;
mod survey;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use log::{debug, info, warn};
use reqwest::Url;
use serde_json::Value;
use tokio::sync::oneshot;

pub use clock::Clock;
pub use run::{Ends, run};

use self::{
    hold::Holding,
    listens::Listens,
    owed::{Asked, Debt, Page, Shown},
    progress::{Progress, SILENCE},
    provisional::Provisional,
    sign_in::Offer,
    stand_in::StandIn,
    survey::{Survey, Surveyed},
    told::Told,
};
use crate::{
    config::{Protocol, Start},
    description::{self, Learned, List, Memory},
    era::Era,
    known_hosts::HostEnvironment,
    local::Incoming,
    message::{Body, Id, Malformed, Message, Part, Shape, peek::cancelled_id},
    oauth::Need,
    remote::{self, error::Error},
    report::{self, Code, FailureLog, Report},
    shutdown::Stop,
    text,
    tools::{self, ToolPattern},
};

/// The target of the loop's log lines. A command that prints how its own requests fail turns these off.
pub const LOG_TARGET: &str = module_path!();

/// Requests the host may have open; one more is refused. The input is read on in any case: it may
/// bring what settles them, and its end must be noticed.
const MOST_OWED: usize = 16 * 1024;
/// Cancelled requests remembered, for an answer that was on its way.
const MOST_CANCELLED: usize = 1024;
/// How a message of the Language Server Protocol begins. Cline's CLI tries this framing when it has given up on the
/// one of MCP.
const CONTENT_LENGTH: &[u8] = b"Content-Length:";
/// Messages that may wait for a connection that is being opened.
const MOST_WAITING: usize = 4096;

/// Something happened.
#[derive(Debug)]
pub enum Event {
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
pub enum Action {
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
    /// Connections may be dead: make new ones, and see whether the session is still there.
    Check,
    /// Come back to this after a while.
    Remind(Duration, Reminder),
}

/// What is to be thought of later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reminder {
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
}

/// Whether to go on.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for the next event.
    Continue,
    /// Read no more from the host, but let what is under way come to its end.
    Drain,
    /// Nothing more is to come.
    Stop,
}

/// The connection, as the loop sees it.
#[derive(Debug)]
enum Link {
    /// There is none; the next message that wants one opens it.
    Closed,
    /// It is being opened with a message; these wait.
    Opening(Box<Opening>),
    /// It comes about behind an answer that the host has.
    Provisional(Box<Provisional>),
    /// It is there.
    Open(Era),
}

/// A connection that is being opened.
#[derive(Debug)]
struct Opening {
    /// Who asks in the message that opens it.
    first: Vec<Id>,
    beginning: Beginning,
    waiting: VecDeque<Message>,
    /// What stands in the way.
    hurdle: Option<Hurdle>,
}

/// What stands in the way of a connection.
#[derive(Debug)]
struct Hurdle {
    report: Report,
    /// The server answers, and says that it is busy: it may only be slow.
    passing: bool,
}

/// How a connection begins.
#[derive(Debug)]
enum Beginning {
    /// With the host's `initialize`, which waits for its answer.
    Initialize(Message),
    /// With one that the server has answered.
    Introduced,
    /// With a request of the modern era, which knows no handshake.
    Modern,
    /// With something else; there is no handshake.
    Other,
}

impl Opening {
    /// The server has answered what opens it.
    fn answered(&mut self) {
        if matches!(self.beginning, Beginning::Initialize(_)) {
            self.beginning = Beginning::Introduced;
        }
    }
}

/// How the loop is to be.
#[derive(Debug)]
pub struct Settings {
    /// Where the server is, for people.
    pub server: Url,
    /// Tools to hide and to refuse.
    pub ignored_tools: Vec<ToolPattern>,
    /// Longest line from the host, in bytes.
    pub max_message: usize,
    /// Which eras may be spoken with the server.
    pub protocol: Protocol,
    /// Whether the host may be answered in the server's place, and when.
    pub start: Start,
    /// How long `initialize` is held, if the user says so.
    pub hold: Option<Duration>,
    /// What the host says about itself in the environment.
    pub host_environment: HostEnvironment,
    /// How long a call waits for a server that cannot be reached.
    pub retry_for: Duration,
    /// Tells the time.
    pub clock: Clock,
    /// Whether the host is told of progress where the server tells none.
    pub progress: bool,
}

/// The state of the loop.
#[derive(Debug)]
pub struct Forward {
    server: Url,
    ignored_tools: Vec<ToolPattern>,
    max_message: usize,
    protocol: Protocol,
    start: Start,
    hold: Option<Duration>,
    host_environment: HostEnvironment,
    retry_for: Duration,
    clock: Clock,
    memory: Box<dyn Memory>,
    link: Link,
    owed: HashMap<Id, Debt>,
    /// The host's last one.
    initialize: Option<Message>,
    /// The `server/discover` that began the connection, until it is answered.
    discovering: Option<Id>,
    /// Streams of notifications that the host has open, in the modern era.
    listens: Listens,
    need: Need,
    /// Since the host's last `initialize`.
    holding: Option<Holding>,
    shown: [Shown; 4],
    survey: Survey,
    /// While lists are answered in the server's place.
    stand_in: Option<Box<StandIn>>,
    /// Once the host was answered in the server's place.
    told: Option<Box<Told>>,
    offer: Option<Offer>,
    /// Requests of our own to the host.
    asked_host: Vec<Id>,
    /// Of the last message that was held.
    serial: u64,
    /// Whether a reminder to try again is on its way.
    tries_again: bool,
    openings: FailureLog,
    /// Where the user wants it.
    progress: Option<Progress>,
    /// Requests the host has given up, the latest ones.
    cancelled: VecDeque<Id>,
    draining: bool,
    actions: VecDeque<Action>,
}

impl Forward {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(settings: Settings, memory: Box<dyn Memory>) -> Self {
        let Settings {
            server,
            ignored_tools,
            max_message,
            protocol,
            start,
            hold,
            host_environment,
            retry_for,
            clock,
            progress,
        } = settings;
        Self {
            server,
            ignored_tools,
            max_message,
            protocol,
            start,
            hold,
            host_environment,
            retry_for,
            clock,
            memory,
            link: Link::Closed,
            owed: HashMap::new(),
            initialize: None,
            discovering: None,
            listens: Listens::default(),
            need: Need::Nothing,
            holding: None,
            shown: Default::default(),
            survey: Survey::default(),
            stand_in: None,
            told: None,
            offer: None,
            asked_host: Vec::new(),
            serial: 0,
            tries_again: false,
            openings: FailureLog::default(),
            progress: progress.then(Progress::default),
            cancelled: VecDeque::new(),
            draining: false,
            actions: VecDeque::new(),
        }
    }

    /// What an event leads to; take the actions with [`action`](Self::action).
    pub fn handle(&mut self, event: Event) -> Verdict {
        match event {
            Event::Host(Incoming::Line(line)) => self.line(line),
            Event::Host(Incoming::TooLong(id)) => self.too_long(id),
            Event::Host(Incoming::End) => {
                debug!("the host has closed its end");
                self.draining = true;
                self.end_holds();
            }
            Event::Stop(stop) => {
                info!("ending: {stop}");
                self.draining = true;
                self.end_holds();
            }
            Event::Remote(remote::Event::Message(message)) => self.server_message(message),
            Event::Remote(remote::Event::Lost { ids, method, error }) => self.lost(&ids, method.as_deref(), &error),
            Event::Remote(remote::Event::Hurdle(error)) => self.hurdle(&error),
            Event::Remote(remote::Event::Renewed(answer)) => self.renewed(answer),
            Event::Need(need) => self.needs(need),
            Event::Reminder(reminder) => self.reminded(reminder),
            Event::Woke(slept) => {
                info!("awake again after {} s; looking after the connection", slept.as_secs());
                self.actions.push_back(Action::Check);
                if matches!(self.link, Link::Opening(_)) {
                    self.actions.push_back(Action::Hurry); // no more of a pause that began before
                }
                self.try_unasked();
            }
            Event::Opened(Ok(())) => self.opened(),
            Event::Opened(Err(error)) => self.not_opened(&error),
        }
        match (self.draining, &self.link) {
            (false, _) => Verdict::Continue,
            (true, Link::Opening(_)) => Verdict::Drain,
            (true, _) if self.owes_nothing() => Verdict::Stop,
            (true, _) => Verdict::Drain,
        }
    }

    /// The next thing to do.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Ends the memory; what it returns comes when everything is kept.
    pub fn end_memory(&mut self) -> Option<oneshot::Receiver<()>> {
        self.memory.end()
    }

    /// The end: everything still owed is answered.
    pub fn close(&mut self) {
        let report = Report::new(Code::HostClosed, "the host closed the connection before the server answered", None);
        self.end_listens();
        for (id, count) in self.debts() {
            (0..count).for_each(|_| self.fail(&id, &report));
        }
    }

    fn line(&mut self, line: Bytes) {
        let framed = line.get(..CONTENT_LENGTH.len()).is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_LENGTH));
        match Message::from_host(line) {
            Ok(message) => self.accept(message),
            Err(Malformed::NotJsonRpc { id }) => {
                warn!("the host sent JSON that is not JSON-RPC");
                self.malformed(
                    id.as_ref(),
                    report::INVALID_REQUEST,
                    "mcp-remote: Invalid Request: not a JSON-RPC 2.0 message",
                );
            }
            Err(error @ Malformed::NotJson { .. }) => {
                if framed {
                    warn!(
                        "the host frames its messages with Content-Length, as the Language Server Protocol does; MCP over stdio is one message a line"
                    );
                } else {
                    warn!("the host sent a line that is {error}");
                }
                self.malformed(None, report::PARSE_ERROR, &format!("mcp-remote: Parse error: the line is {error}"));
            }
        }
    }

    fn malformed(&mut self, id: Option<&Id>, code: i32, message: &str) {
        let null = Id::from_json(b"null"); // JSON-RPC 2.0 §5: where the id cannot be told
        let line = report::error_line(id.unwrap_or(&null), code, message, None::<&()>);
        self.write(Body::One(line));
    }

    fn too_long(&mut self, id: Option<Id>) {
        let what = format!("the host's message is longer than {} bytes", self.max_message);
        let report = Report::new(Code::TooLarge, what, Some("raise the limit with --max-message-size"));
        warn!("{}", report.line());
        if let Some(id) = id {
            self.write(Body::One(report.answer(&id)));
        }
    }

    fn accept(&mut self, message: Message) {
        debug!("host: {} bytes, {:?}", message.body.len(), message.shape);
        match &message.shape {
            Shape::Batch(parts) => {
                // Taken apart where some of it does not go on as it is; `initialize` is never part
                // of a batch (MCP 2025-03-26, Lifecycle).
                let plain = |part: &Part| match part {
                    Part::Message(Shape::Request { method, .. }, _) => {
                        &**method != "initialize" && (&**method != "tools/call" || self.ignored_tools.is_empty())
                    }
                    Part::Message(Shape::Notification { method }, _) => {
                        !matches!(&**method, "notifications/initialized" | "notifications/cancelled")
                    }
                    Part::Message(Shape::Response { .. }, _) => true,
                    Part::Message(Shape::Batch(_), _) | Part::Invalid(_) => false,
                };
                let direct = self.told.is_none() && self.stand_in.is_none();
                if self.owed.len() + parts.len() <= MOST_OWED && direct && parts.iter().all(plain) {
                    for part in parts {
                        if let Part::Message(Shape::Request { id, method }, _) = part {
                            self.owe(id, Asked::by(method, || Page::Unknown));
                        }
                    }
                    self.pass_on(message);
                } else {
                    for part in message.split() {
                        match part {
                            Ok(message) => self.accept(message),
                            Err(id) => self.malformed(
                                id.as_ref(),
                                report::INVALID_REQUEST,
                                "mcp-remote: Invalid Request: not a JSON-RPC 2.0 message",
                            ),
                        }
                    }
                }
            }
            Shape::Request { id, method } => {
                if &**method == "tools/call"
                    && !self.ignored_tools.is_empty()
                    && let tools::Call::Ignored(name) = tools::judge(&self.ignored_tools, &message)
                {
                    let text = format!("Tool \"{name}\" is not available");
                    let line = report::error_line(id, report::INTERNAL_ERROR, &text, None::<&()>);
                    self.write(Body::One(line));
                    return;
                }
                if &**method == "initialize" && self.protocol == Protocol::Modern {
                    let sentence =
                        "protocol version not shared: this host begins with initialize, and --protocol modern is set";
                    let report = Report::new(Code::ProtocolVersionNotShared, sentence, None);
                    warn!("{}", report.line());
                    self.write(Body::One(report.answer(id)));
                    return;
                }
                if self.owed.len() >= MOST_OWED {
                    let report = Report::new(Code::TooMany, format!("more than {MOST_OWED} requests are open"), None);
                    self.write(Body::One(report.answer(id)));
                    return;
                }
                let page = || if crate::message::peek::has_cursor(&message) { Page::Later } else { Page::First };
                self.owe(id, Asked::by(method, page));
                let waits = self.progress.as_mut().and_then(|progress| progress.begin(id, &message));
                self.actions.extend(waits.map(|serial| Action::Remind(SILENCE, Reminder::Progress(serial))));
                if !(self.answers_discover(&message) || self.stands_in(&message) || self.was_misled(&message)) {
                    self.note_listen(&message);
                    self.pass_on(message);
                }
            }
            Shape::Notification { method } if &**method == "notifications/cancelled" => {
                if self.cancel(&message) {
                    self.pass_on(message);
                }
            }
            Shape::Notification { .. } => self.pass_on(message),
            Shape::Response { id: Some(id) } if self.asked_host.contains(id) => {
                debug!("the host has answered {id}");
                self.asked_host.retain(|asked| asked != id);
            }
            // Nobody can have asked before there was a connection.
            Shape::Response { .. } if matches!(self.link, Link::Closed) => {
                debug!("a response of the host is dropped: there is no connection")
            }
            Shape::Response { .. } => self.pass_on(message),
        }
    }

    fn pass_on(&mut self, message: Message) {
        match &mut self.link {
            Link::Opening(opening) => {
                let waiting = &mut opening.waiting;
                let before: usize = waiting.iter().map(|message| message.body.len()).sum();
                if waiting.len() < MOST_WAITING && before <= self.max_message {
                    waiting.push_back(message);
                    self.answer_what_waits();
                } else {
                    self.refuse_to_hold(&message);
                }
            }
            // An `initialize` begins anew, whatever is open.
            Link::Open(_) if message.method() != Some("initialize") => self.actions.push_back(Action::Send(message)),
            Link::Provisional(_) if message.method() != Some("initialize") => self.meanwhile(message),
            Link::Open(_) | Link::Closed | Link::Provisional(_) => self.open(message, VecDeque::new()),
        }
    }

    /// More waits for the connection than is held.
    fn refuse_to_hold(&mut self, message: &Message) {
        let report = Report::new(Code::TooMany, "too much waits for the connection", None);
        warn!("{}: {}", message.method().unwrap_or("a response"), report.line());
        self.fail_all(message, &report);
    }

    /// Opens a connection with `first`; then the `waiting` follow.
    fn open(&mut self, first: Message, waiting: VecDeque<Message>) {
        self.leave_session(&first, &waiting);
        let ids = first.requests().cloned().collect();
        self.initialize = (first.method() == Some("initialize")).then(|| first.clone());
        let beginning = match &self.initialize {
            Some(initialize) => Beginning::Initialize(initialize.clone()),
            None if self.begins_modern(&first) => Beginning::Modern,
            None => Beginning::Other,
        };
        let opener = matches!(beginning, Beginning::Modern).then(|| first.clone());
        (self.shown, self.survey) = (Default::default(), Survey::default());
        (self.stand_in, self.told, self.offer) = (None, None, None);
        // Of a `server/discover` that was refused just now.
        let since = self.holding.take().filter(|_| matches!(self.link, Link::Closed)).map(|holding| holding.since());
        self.link = Link::Opening(Box::new(Opening { first: ids, beginning, waiting, hurdle: None }));
        self.actions.push_back(Action::Open(first));
        (self.discovering, self.listens) = (None, Listens::default());
        if let Some(initialize) = self.initialize.clone() {
            self.begin_hold(&initialize, since);
        }
        if let Some(opener) = opener {
            self.note_listen(&opener);
            self.begin_modern(&opener);
        }
        self.consider(); // somebody may be asked already
    }

    /// What was sent on a connection that the host leaves will not be answered there.
    fn leave_session(&mut self, first: &Message, waiting: &VecDeque<Message>) {
        let mut still_to_send = HashMap::<&Id, u32>::new();
        for id in std::iter::once(first).chain(waiting).flat_map(Message::requests) {
            *still_to_send.entry(id).or_default() += 1;
        }
        let report = Report::new(Code::SessionReplaced, "the host has begun a new session", None);
        for (id, count) in self.debts() {
            for _ in still_to_send.get(&id).copied().unwrap_or_default()..count {
                self.fail(&id, &report);
            }
        }
    }

    /// Notes that the host does not want an answer any more; whether the server is to be told.
    fn cancel(&mut self, message: &Message) -> bool {
        let Some(id) = cancelled_id(message) else { return true };
        let Some(debt) = self.owed.get(&id) else { return !matches!(self.link, Link::Closed) };
        let asked = debt.asked;
        self.note_given_up(Some(&id));
        if asked == Asked::Initialize {
            debug!("initialize cannot be cancelled"); // MCP 2025-11-25, Cancellation
            self.end_hold_of_initialize();
            return false;
        }
        // Nobody waits for it any more (MCP, Cancellation): none is made up, but one that comes passes.
        self.forget(&id);
        if self.cancelled.len() == MOST_CANCELLED {
            self.cancelled.pop_front();
        }
        self.cancelled.push_back(id.clone());
        // Not sent yet: then the server need not hear of either.
        if self.take_back(&id) {
            return false;
        }
        if let Link::Opening(opening) = &mut self.link
            && let Some(at) = opening
                .waiting
                .iter()
                .position(|waiting| matches!(&waiting.shape, Shape::Request { id: waits, .. } if *waits == id))
        {
            opening.waiting.remove(at);
            return false;
        }
        true
    }

    fn opened(&mut self) {
        self.openings.clear();
        if matches!(self.link, Link::Provisional(_)) {
            return self.opened_behind();
        }
        let Link::Opening(opening) = &self.link else { return };
        let era = match opening.beginning {
            Beginning::Modern => Era::Modern,
            Beginning::Initialize(_) | Beginning::Introduced | Beginning::Other => Era::Legacy,
        };
        let Link::Opening(opening) = std::mem::replace(&mut self.link, Link::Open(era)) else { return };
        let mut waiting = opening.waiting;
        while let Some(message) = waiting.pop_front() {
            if message.method() == Some("initialize") {
                return self.open(message, waiting);
            }
            self.actions.push_back(Action::Send(message));
        }
    }

    fn not_opened(&mut self, error: &Error) {
        if matches!(self.link, Link::Provisional(_)) {
            return self.not_opened_behind(error);
        }
        let report = self.why_not_open(error);
        self.openings.log(&report);
        if error.answer().is_none() && self.falls_back(error, &report) {
            return;
        }
        let Link::Opening(opening) = std::mem::replace(&mut self.link, Link::Closed) else { return };
        self.holding = None;
        let Opening { first, beginning, waiting, .. } = *opening;
        for id in &first {
            match error.answer() {
                Some(answer) if !matches!(beginning, Beginning::Other) => {
                    if let Some(body) = self.pay(id, answer.with_id(id)) {
                        self.write(body);
                    }
                }
                _ => self.fail(id, &report),
            }
        }
        for message in waiting {
            self.fail_all(&message, &report);
        }
    }

    fn server_message(&mut self, message: Message) {
        debug!("server: {} bytes, {:?}", message.body.len(), message.shape);
        match &message.shape {
            Shape::Notification { method }
                if &**method == "notifications/progress"
                    && self.progress.as_mut().is_some_and(|progress| !progress.passes(&message)) =>
            {
                debug!("progress that is none is dropped");
            }
            Shape::Request { .. } | Shape::Notification { .. } => {
                self.note_stream_of_notifications(&message);
                self.write(message.body);
            }
            Shape::Response { id: Some(id) } => {
                let id = id.clone();
                match &mut self.link {
                    Link::Provisional(_) => return self.server_introduced(&id, message),
                    Link::Opening(opening) if opening.first.contains(&id) => {
                        if matches!(opening.beginning, Beginning::Initialize(_)) {
                            provisional::log_refusal(&message, &self.server);
                        }
                        opening.answered();
                    }
                    Link::Opening(_) => {
                        return debug!("a response to {id} is dropped: nothing with that id was sent yet");
                    }
                    Link::Open(_) | Link::Closed => {}
                }
                if !self.owed.contains_key(&id) && self.surveyed(&id, &message) {
                    return;
                }
                match self.pay(&id, message) {
                    Some(body) => self.write(body),
                    None => debug!("a response to {id} is dropped: nothing with that id is open"),
                }
            }
            Shape::Response { id: None } => warn!("a response without an id is dropped"),
            Shape::Batch(parts) => {
                let sent = |id: &Id| match &self.link {
                    Link::Open(_) => true,
                    Link::Opening(opening) => {
                        matches!(opening.beginning, Beginning::Other | Beginning::Modern) && opening.first.contains(id)
                    }
                    Link::Closed | Link::Provisional(_) => false,
                };
                let settles = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) if sent(id) => {
                        self.owed.get(id).is_some_and(|debt| match debt.asked {
                            Asked::Other => true,
                            Asked::List(_, Page::Unknown) => self.ignored_tools.is_empty(),
                            Asked::List(..) | Asked::Initialize | Asked::Discover | Asked::Listen => false,
                        })
                    }
                    Part::Message(Shape::Request { .. } | Shape::Notification { .. }, _) => true,
                    _ => false,
                };
                let mut ids = HashSet::new();
                let distinct = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => ids.insert(id.clone()),
                    _ => true,
                };
                // A host that was answered in the server's place may have been told a revision without batches.
                let direct = self.told.is_none();
                if direct && parts.iter().all(settles) && parts.iter().all(distinct) {
                    for id in &ids {
                        self.forget(id);
                    }
                    self.write(message.body);
                } else {
                    message.split().into_iter().flatten().for_each(|part| self.server_message(part));
                }
            }
        }
    }

    fn why_not_open(&self, error: &Error) -> Report {
        match &self.link {
            // What a server may have done with what opens the connection, nobody knows.
            Link::Opening(opening) if matches!(opening.beginning, Beginning::Other | Beginning::Modern) => {
                Report::of_remote(error, &self.server)
            }
            _ => Report::of_opening(error, &self.server),
        }
    }

    /// The connection does not come about for now.
    fn hurdle(&mut self, error: &Error) {
        let report = self.why_not_open(error);
        let passing = error.status().is_some();
        self.openings.log(&report);
        match &mut self.link {
            Link::Opening(opening) => {
                opening.hurdle = Some(Hurdle { report, passing });
                self.consider();
            }
            Link::Provisional(_) => {
                // While a person is asked the server has nothing to answer.
                if !matches!(self.need, Need::SignIn | Need::Person(_)) {
                    self.restate(report);
                }
            }
            Link::Closed | Link::Open(_) => {}
        }
    }

    /// A lost session was replaced: the server may be another than it was.
    fn renewed(&mut self, answer: Message) {
        if self.introduced_again(&answer) {
            return; // the lists are looked at when the handshake is done
        }
        self.has_other(&answer);
        if let Some(request) = self.initialize.clone() {
            self.memory.keep(Learned::Initialize { request, answer: answer.body });
        }
        // A request that met the session's end goes to the new one by itself; begun anew, a server that
        // loses its session over a list would be asked for that list for ever.
        if self.survey.is_idle() {
            return self.look_again();
        }
        // What was answered before is of a session that is gone.
        let seen = |list: &List| matches!(self.shown[list.index()], Shown::Pages(_) | Shown::TooMuch);
        let answered: Vec<List> =
            List::ALL.into_iter().filter(|list| seen(list) && !self.survey.asks_for(*list)).collect();
        self.announce(&answered);
    }

    /// Asks for the lists that the host has seen, to tell whether they are still the same.
    fn look_again(&mut self) {
        let too_much: Vec<List> =
            List::ALL.into_iter().filter(|list| matches!(self.shown[list.index()], Shown::TooMuch)).collect();
        self.announce(&too_much);
        let seen = List::ALL.into_iter().filter(|list| matches!(self.shown[list.index()], Shown::Pages(_)));
        self.actions.extend(self.survey.begin(seen).into_iter().map(Action::Send));
    }

    /// Takes an answer to a request of our own. Whether it was one.
    fn surveyed(&mut self, id: &Id, message: &Message) -> bool {
        match self.survey.answered(id, &message.body) {
            Surveyed::NotOurs => return false,
            Surveyed::Next(request) => self.actions.push_back(Action::Send(request)),
            Surveyed::Whole(list, pages) => {
                if matches!(&self.shown[list.index()], Shown::Pages(shown) if !description::same(list, shown, &pages)) {
                    self.announce(&[list]);
                }
                self.memory.keep(Learned::List(list, pages));
            }
            Surveyed::TooMuch(list) => self.announce(&[list]),
            Surveyed::Nothing => {}
        }
        true
    }

    fn lost(&mut self, ids: &[Id], method: Option<&str>, error: &Error) {
        if self.refuse_discover(ids, error) {
            return;
        }
        let report = Report::of_remote(error, &self.server);
        warn!("{}: {}", method.unwrap_or("a message"), report.line());
        self.survey.lost(ids);
        for id in ids {
            self.fail(id, &report);
        }
    }

    fn sign_of_life(&mut self, serial: u64) {
        let server = text::host(&self.server);
        if let Some(line) = self.progress.as_mut().and_then(|progress| progress.sign_of_life(serial, &server)) {
            self.write(Body::One(line.into()));
            self.actions.push_back(Action::Remind(SILENCE, Reminder::Progress(serial)));
        }
    }

    /// Tells the host that these lists are others now.
    fn announce(&mut self, lists: &[List]) {
        let mut told = Vec::new();
        for list in lists {
            if !told.contains(&list.changed()) {
                told.push(list.changed());
                match self.link {
                    Link::Open(Era::Modern) => self.announce_on_listens(*list),
                    _ => self.notify(list.changed(), None),
                }
            }
        }
    }

    fn notify(&mut self, method: &str, params: Option<&Value>) {
        let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#);
        self.write(Body::One(text.into()));
    }

    fn write(&mut self, body: Body) {
        self.actions.push_back(Action::ToHost(body));
    }
}
