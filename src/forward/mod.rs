//! The loop: one event at a time between local and remote.
//!
//! [`Forward`] decides and does no I/O: an event goes in, actions and a verdict come out. [`run()`]
//! waits for events and carries the actions out.
//!
//! Must never: leave a request of the host unanswered, or answer one twice; write a response that
//! nobody asked for.

mod run;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use log::{debug, info, warn};
use reqwest::Url;

pub use run::{Ends, run};

use crate::{
    local::Incoming,
    message::{Body, Id, Malformed, Message, Part, Shape},
    remote::{self, cancelled::cancels, error::Error},
    report::{self, Report},
    shutdown::Stop,
    tools::{self, ToolPattern},
};

/// Requests the host may have open; one more is refused. The input is read on in any case: it may
/// bring what settles them, and its end must be noticed.
const MOST_OWED: usize = 16 * 1024;

/// Cancelled requests remembered, for an answer that was on its way.
const MOST_CANCELLED: usize = 1024;
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
    Opening { first: Vec<Id>, initialize: bool, waiting: VecDeque<Message> },
    /// It is there.
    Open,
}

/// A request of the host that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Debt {
    /// How many requests have this id: a host may break the rule, and is owed all the same.
    count: u32,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ToolsList,
    Initialize,
    Other,
}

/// The state of the loop.
#[derive(Debug)]
pub struct Forward {
    server: Url,
    ignored_tools: Vec<ToolPattern>,
    max_message: usize,
    link: Link,
    owed: HashMap<Id, Debt>,
    /// Requests the host has given up, the latest ones.
    cancelled: VecDeque<Id>,
    draining: bool,
    actions: VecDeque<Action>,
}

impl Forward {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(server: Url, ignored_tools: Vec<ToolPattern>, max_message: usize) -> Self {
        Self {
            server,
            ignored_tools,
            max_message,
            link: Link::Closed,
            owed: HashMap::new(),
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
            }
            Event::Stop(stop) => {
                info!("ending: {stop}");
                self.draining = true;
            }
            Event::Remote(remote::Event::Message(message)) => self.server_message(message),
            Event::Remote(remote::Event::Lost { ids, method, error }) => self.lost(&ids, method.as_deref(), &error),
            Event::Opened(Ok(())) => self.opened(),
            Event::Opened(Err(error)) => self.not_opened(&error),
        }
        match (self.draining, &self.link) {
            (false, _) => Verdict::Continue,
            (true, Link::Opening { .. }) => Verdict::Drain,
            (true, _) if self.owed.is_empty() => Verdict::Stop,
            (true, _) => Verdict::Drain,
        }
    }

    /// The next thing to do.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The end: everything still owed is answered.
    pub fn close(&mut self) {
        let report = Report::new("host_closed", "the host closed the connection before the server answered", None);
        let owed: Vec<(Id, u32)> = self.owed.iter().map(|(id, debt)| (id.clone(), debt.count)).collect();
        for (id, count) in owed {
            (0..count).for_each(|_| self.fail(&id, &report));
        }
    }

    fn line(&mut self, line: Bytes) {
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
                warn!("the host sent a line that is {error}");
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
        let report = Report::new("too_large", what, Some("raise the limit with --max-message-size"));
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
                if self.owed.len() + parts.len() <= MOST_OWED && parts.iter().all(plain) {
                    for part in parts {
                        if let Part::Message(Shape::Request { id, method }, _) = part {
                            self.owe(id, method);
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
                if self.owed.len() >= MOST_OWED {
                    let report = Report::new("too_many", format!("more than {MOST_OWED} requests are open"), None);
                    self.write(Body::One(report.answer(id)));
                    return;
                }
                self.owe(id, method);
                self.pass_on(message);
            }
            Shape::Notification { method } if &**method == "notifications/cancelled" => {
                if self.cancel(&message) {
                    self.pass_on(message);
                }
            }
            Shape::Notification { .. } => self.pass_on(message),
            // Nobody can have asked before there was a connection.
            Shape::Response { .. } if matches!(self.link, Link::Closed) => {
                debug!("a response of the host is dropped: there is no connection")
            }
            Shape::Response { .. } => self.pass_on(message),
        }
    }

    fn pass_on(&mut self, message: Message) {
        match &mut self.link {
            Link::Opening { waiting, .. } => {
                let before: usize = waiting.iter().map(|message| message.body.len()).sum();
                if waiting.len() < MOST_WAITING && before <= self.max_message {
                    waiting.push_back(message);
                } else {
                    let report = Report::new("too_many", "too much waits for the connection", None);
                    warn!("{}: {}", message.method().unwrap_or("a response"), report.line());
                    message.requests().cloned().collect::<Vec<_>>().iter().for_each(|id| self.fail(id, &report));
                }
            }
            // An `initialize` begins anew, whatever is open.
            Link::Open if message.method() != Some("initialize") => self.actions.push_back(Action::Send(message)),
            Link::Open | Link::Closed => self.open(message, VecDeque::new()),
        }
    }

    /// Opens a connection with `first`; then the `waiting` follow.
    fn open(&mut self, first: Message, waiting: VecDeque<Message>) {
        self.leave_session(&first, &waiting);
        let ids = first.requests().cloned().collect();
        let initialize = first.method() == Some("initialize");
        self.link = Link::Opening { first: ids, initialize, waiting };
        self.actions.push_back(Action::Open(first));
    }

    /// What was sent on a connection that the host leaves will not be answered there.
    fn leave_session(&mut self, first: &Message, waiting: &VecDeque<Message>) {
        let mut still_to_send = HashMap::<&Id, u32>::new();
        for id in std::iter::once(first).chain(waiting).flat_map(Message::requests) {
            *still_to_send.entry(id).or_default() += 1;
        }
        let report = Report::new("session_replaced", "the host has begun a new session", None);
        let owed: Vec<(Id, u32)> = self.owed.iter().map(|(id, debt)| (id.clone(), debt.count)).collect();
        for (id, count) in owed {
            for _ in still_to_send.get(&id).copied().unwrap_or_default()..count {
                self.fail(&id, &report);
            }
        }
    }

    /// Notes that the host does not want an answer any more; whether the server is to be told.
    fn cancel(&mut self, message: &Message) -> bool {
        let Some(id) = cancels(message) else { return true };
        let Some(debt) = self.owed.get(&id) else { return !matches!(self.link, Link::Closed) };
        if debt.asked == Asked::Initialize {
            debug!("initialize cannot be cancelled"); // MCP 2025-11-25, Cancellation
            return false;
        }
        // Nobody waits for it any more (MCP, Cancellation): none is made up, but one that comes passes.
        self.forget(&id);
        if self.cancelled.len() == MOST_CANCELLED {
            self.cancelled.pop_front();
        }
        self.cancelled.push_back(id.clone());
        // Not sent yet: then the server need not hear of either.
        if let Link::Opening { waiting, .. } = &mut self.link
            && let Some(at) = waiting
                .iter()
                .position(|waiting| matches!(&waiting.shape, Shape::Request { id: waits, .. } if *waits == id))
        {
            waiting.remove(at);
            return false;
        }
        true
    }

    fn opened(&mut self) {
        let Link::Opening { mut waiting, .. } = std::mem::replace(&mut self.link, Link::Open) else { return };
        while let Some(message) = waiting.pop_front() {
            if message.method() == Some("initialize") {
                return self.open(message, waiting);
            }
            self.actions.push_back(Action::Send(message));
        }
    }

    fn not_opened(&mut self, error: &Error) {
        let Link::Opening { first, initialize, waiting } = std::mem::replace(&mut self.link, Link::Closed) else {
            return;
        };
        let report = Report::of_remote(error, &self.server);
        warn!("{}", report.line());
        for id in &first {
            match error.answer() {
                Some(answer) if initialize => {
                    if let Some(body) = self.pay(id, answer.with_id(id)) {
                        self.write(body);
                    }
                }
                _ => self.fail(id, &report),
            }
        }
        for message in waiting {
            for id in message.requests() {
                self.fail(id, &report);
            }
        }
    }

    fn server_message(&mut self, message: Message) {
        debug!("server: {} bytes, {:?}", message.body.len(), message.shape);
        match &message.shape {
            Shape::Request { .. } | Shape::Notification { .. } => self.write(message.body),
            Shape::Response { id: Some(id) } => {
                let id = id.clone();
                match self.pay(&id, message) {
                    Some(body) => self.write(body),
                    None => debug!("a response to {id} is dropped: nothing with that id is open"),
                }
            }
            Shape::Response { id: None } => warn!("a response without an id is dropped"),
            Shape::Batch(parts) => {
                let settles = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => self
                        .owed
                        .get(id)
                        .is_some_and(|debt| debt.asked == Asked::Other || self.ignored_tools.is_empty()),
                    Part::Message(Shape::Request { .. } | Shape::Notification { .. }, _) => true,
                    _ => false,
                };
                let mut ids = HashSet::new();
                let distinct = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => ids.insert(id.clone()),
                    _ => true,
                };
                if parts.iter().all(settles) && parts.iter().all(distinct) {
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

    fn lost(&mut self, ids: &[Id], method: Option<&str>, error: &Error) {
        let report = Report::of_remote(error, &self.server);
        warn!("{}: {}", method.unwrap_or("a message"), report.line());
        for id in ids {
            self.fail(id, &report);
        }
    }

    fn owe(&mut self, id: &Id, method: &str) {
        let asked = match method {
            "tools/list" => Asked::ToolsList,
            "initialize" => Asked::Initialize,
            _ => Asked::Other,
        };
        self.cancelled.retain(|cancelled| cancelled != id); // used again, it means another request
        let debt = self.owed.entry(id.clone()).or_insert(Debt { count: 0, asked });
        debt.count += 1;
    }

    /// Settles a debt with an answer; what goes to the host, if it was owed.
    fn pay(&mut self, id: &Id, answer: Message) -> Option<Body> {
        let may_list_tools = match self.forget(id) {
            Some(debt) => debt.asked == Asked::ToolsList,
            None => {
                let at = self.cancelled.iter().position(|cancelled| cancelled == id)?;
                self.cancelled.remove(at);
                true
            }
        };
        let hides = may_list_tools && !self.ignored_tools.is_empty();
        Some(if hides { tools::hide(&self.ignored_tools, answer).body } else { answer.body })
    }

    fn forget(&mut self, id: &Id) -> Option<Debt> {
        let debt = self.owed.get_mut(id)?;
        debt.count -= 1;
        let debt = *debt;
        if debt.count == 0 {
            self.owed.remove(id);
        }
        Some(debt)
    }

    /// Settles what is owed under an id with our own error.
    fn fail(&mut self, id: &Id, report: &Report) {
        if self.forget(id).is_some() {
            self.write(Body::One(report.answer(id)));
        }
    }

    fn write(&mut self, body: Body) {
        self.actions.push_back(Action::ToHost(body));
    }
}
