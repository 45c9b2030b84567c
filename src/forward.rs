//! The loop: one event at a time between local and remote.
//!
//! [`Forward`] decides and does no I/O: an event goes in, actions and a verdict come out. [`run`]
//! waits for events and carries the actions out.
//!
//! Must never: leave a request of the host unanswered, or answer one twice; write a response that
//! nobody asked for.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use log::{debug, info, warn};
use reqwest::Url;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    local::{Incoming, Lines, Writer},
    message::{Body, Id, Malformed, Message, Part, Shape},
    remote::{self, Opener, Remote, error::Error},
    report::{self, Report, chain},
    shutdown::Stop,
    tools::{self, ToolPattern},
};

/// From the end of input to the end of the program, everything included: a host that closes stdin
/// waits about two seconds before it kills, and a person less.
const GRACE: Duration = Duration::from_millis(950);
/// Of this, what is left for ending the session; what the server does with the request is its own
/// affair.
const GRACE_FOR_DELETE: Duration = Duration::from_millis(300);
/// The most that ending the session may take.
const LONGEST_DELETE: Duration = Duration::from_millis(500);
/// Bytes waiting for the host at which nothing more is taken from the server: one gathered write.
const GATHERED: usize = 256 * 1024;
/// Requests the host may have open before its input is left unread.
const MOST_OWED: usize = 16 * 1024;

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
    /// The host does not want the answer any more (MCP, Cancellation): it passes if it comes, and
    /// is not made up if it does not.
    cancelled: bool,
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
            draining: false,
            actions: VecDeque::new(),
        }
    }

    /// What an event leads to; take the actions with [`action`](Self::action).
    pub fn handle(&mut self, event: Event) -> Verdict {
        match event {
            Event::Host(Incoming::Line(line)) => self.from_host(line),
            Event::Host(Incoming::TooLong(id)) => self.too_long(id),
            Event::Host(Incoming::End) => {
                debug!("the host has closed its end");
                self.draining = true;
            }
            Event::Stop(stop) => {
                info!("ending: {stop}");
                self.draining = true;
            }
            Event::Remote(remote::Event::Message(message)) => self.from_remote(message),
            Event::Remote(remote::Event::Lost { ids, method, error }) => self.lost(&ids, method.as_deref(), &error),
            Event::Opened(Ok(())) => self.opened(),
            Event::Opened(Err(error)) => self.not_opened(&error),
        }
        match (self.draining, &self.link) {
            (false, _) => Verdict::Continue,
            (true, Link::Opening { .. }) => Verdict::Drain,
            (true, _) if self.owed.values().all(|debt| debt.cancelled) => Verdict::Stop,
            (true, _) => Verdict::Drain,
        }
    }

    /// The next thing to do.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether so much is unanswered that the host's input is better left unread for a while.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let waiting = match &self.link {
            Link::Opening { waiting, .. } => waiting.iter().map(|message| message.body.len()).sum(),
            Link::Closed | Link::Open => 0,
        };
        self.owed.len() >= MOST_OWED || waiting > self.max_message
    }

    /// The end: everything still owed is answered.
    pub fn close(&mut self) {
        let report = Report::new("host_closed", "the host closed the connection before the server answered", None);
        let owed: Vec<Id> = self.owed.keys().cloned().collect();
        for id in owed {
            self.fail(&id, &report);
        }
    }

    fn from_host(&mut self, line: Bytes) {
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
        self.to_host(Body::One(line));
    }

    fn too_long(&mut self, id: Option<Id>) {
        let what = format!("the host's message is longer than {} bytes", self.max_message);
        let report = Report::new("too_large", what, Some("raise the limit with --max-message-size"));
        warn!("{}", report.line());
        if let Some(id) = id {
            self.to_host(Body::One(report.answer(&id)));
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
                        &**method != "initialize" && !(&**method == "tools/call" && !self.ignored_tools.is_empty())
                    }
                    Part::Message(Shape::Notification { method }, _) => {
                        !matches!(&**method, "notifications/initialized" | "notifications/cancelled")
                    }
                    Part::Message(Shape::Response { .. }, _) => true,
                    Part::Message(Shape::Batch(_), _) | Part::Invalid(_) => false,
                };
                if parts.iter().all(plain) {
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
                    self.to_host(Body::One(line));
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
        let initialize = message.method() == Some("initialize");
        match &mut self.link {
            Link::Opening { waiting, .. } => waiting.push_back(message),
            Link::Open if !initialize => self.actions.push_back(Action::Send(message)),
            // An `initialize` begins anew, whatever is open.
            Link::Open | Link::Closed => {
                let first = message.requests().cloned().collect();
                self.link = Link::Opening { first, initialize, waiting: VecDeque::new() };
                self.actions.push_back(Action::Open(message));
            }
        }
    }

    /// Notes that the host does not want an answer any more; whether the server is to be told.
    fn cancel(&mut self, message: &Message) -> bool {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow)]
            params: Params<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params<'a> {
            #[serde(borrow)]
            request_id: &'a RawValue,
        }
        let text = message.body.to_bytes();
        let Ok(cancelled) = serde_json::from_slice::<Cancelled<'_>>(&text) else { return true };
        let id = Id::from_json(cancelled.params.request_id.get().as_bytes());
        let Some(debt) = self.owed.get_mut(&id) else { return !matches!(self.link, Link::Closed) };
        if debt.asked == Asked::Initialize {
            debug!("initialize cannot be cancelled"); // MCP 2025-11-25, Cancellation
            return false;
        }
        debt.cancelled = true;
        // Not sent yet: then the server need not hear of either.
        if let Link::Opening { waiting, .. } = &mut self.link
            && let Some(at) = waiting
                .iter()
                .position(|waiting| matches!(&waiting.shape, Shape::Request { id: waits, .. } if *waits == id))
        {
            waiting.remove(at);
            self.owed.remove(&id);
            return false;
        }
        true
    }

    fn opened(&mut self) {
        if let Link::Opening { waiting, .. } = std::mem::replace(&mut self.link, Link::Open) {
            for message in waiting {
                self.pass_on(message);
            }
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
                        self.to_host(body);
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

    fn from_remote(&mut self, message: Message) {
        debug!("server: {} bytes, {:?}", message.body.len(), message.shape);
        match &message.shape {
            Shape::Request { .. } | Shape::Notification { .. } => self.to_host(message.body),
            Shape::Response { id: Some(id) } => {
                let id = id.clone();
                match self.pay(&id, message) {
                    Some(body) => self.to_host(body),
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
                let ids: Vec<&Id> = parts
                    .iter()
                    .filter_map(|part| match part {
                        Part::Message(Shape::Response { id: Some(id) }, _) => Some(id),
                        _ => None,
                    })
                    .collect();
                let distinct = ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id));
                if distinct && parts.iter().all(settles) {
                    for id in ids {
                        self.forget(id);
                    }
                    self.to_host(message.body);
                } else {
                    message.split().into_iter().flatten().for_each(|part| self.from_remote(part));
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
        let debt = self.owed.entry(id.clone()).or_insert(Debt { count: 0, asked, cancelled: false });
        debt.count += 1;
        debt.cancelled = false;
    }

    /// Settles a debt with an answer; what goes to the host, if it was owed.
    fn pay(&mut self, id: &Id, answer: Message) -> Option<Body> {
        let debt = self.forget(id)?;
        let hides = debt.asked == Asked::ToolsList && !self.ignored_tools.is_empty();
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
        if let Some(debt) = self.forget(id)
            && !debt.cancelled
        {
            self.to_host(Body::One(report.answer(id)));
        }
    }

    fn to_host(&mut self, body: Body) {
        self.actions.push_back(Action::ToHost(body));
    }
}

/// The two ends that the loop stands between.
#[derive(Debug)]
pub struct Ends<R, W> {
    /// Lines from the host.
    pub lines: Lines<R>,
    /// Lines to the host.
    pub writer: Writer<W>,
    /// How to open the remote end.
    pub opener: Opener,
    /// What comes from there.
    pub events: mpsc::Receiver<remote::Event>,
    /// Signals, and the host's end.
    pub stops: mpsc::Receiver<Stop>,
}

/// Runs the loop until the host goes, or the program is told to.
pub async fn run<R, W>(mut forward: Forward, mut ends: Ends<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut link = Connection::default();
    // Far away until the end begins.
    let mut deadline = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    let mut verdict = Verdict::Continue;
    while verdict != Verdict::Stop {
        let event = tokio::select! {
            biased;
            Some(stop) = ends.stops.recv() => {
                if verdict == Verdict::Drain {
                    info!("ending at once: {stop}");
                    break;
                }
                Event::Stop(stop)
            }
            () = tokio::time::sleep_until(deadline), if verdict == Verdict::Drain => break,
            // While there is more to say to the host than one write takes, no more is taken from the
            // server; the host itself is still heard, it may be writing before it reads.
            Some(event) = ends.events.recv(), if ends.writer.backlog() < GATHERED => Event::Remote(event),
            opened = link.opened(), if link.is_opening() => Event::Opened(opened),
            incoming = ends.lines.next(), if verdict == Verdict::Continue && !forward.is_full() => Event::Host(incoming),
            // Last: everything that is ready by now goes out in one write.
            written = ends.writer.write(), if ends.writer.backlog() > 0 => match written {
                Ok(()) => continue,
                Err(error) => {
                    info!("the host does not read any more: {error}");
                    break;
                }
            },
        };
        let next = forward.handle(event);
        if verdict == Verdict::Continue && next != Verdict::Continue {
            deadline = Instant::now() + GRACE - GRACE_FOR_DELETE;
        }
        verdict = next;
        carry_out(&mut forward, &mut ends, &mut link);
    }
    forward.close();
    carry_out(&mut forward, &mut ends, &mut link);
    let end = Instant::now().max(deadline.min(Instant::now() + GRACE - GRACE_FOR_DELETE)) + GRACE_FOR_DELETE;
    tokio::select! {
        () = async {
            tokio::join!(
                async {
                    if let Ok(Err(error)) = tokio::time::timeout_at(end, ends.writer.finish()).await {
                        debug!("the last messages did not reach the host: {error}");
                    }
                },
                link.close(end),
            );
        } => {}
        Some(stop) = ends.stops.recv() => info!("ending at once: {stop}"),
    }
}

fn carry_out<R, W: AsyncWrite + Unpin>(forward: &mut Forward, ends: &mut Ends<R, W>, link: &mut Connection) {
    while let Some(action) = forward.action() {
        match action {
            Action::ToHost(body) => ends.writer.push(&body),
            Action::Open(first) => link.open(ends.opener.clone(), first),
            Action::Send(message) => link.send(message),
        }
    }
}

/// The remote end as the loop holds it.
#[derive(Default)]
struct Connection {
    opening: Option<JoinHandle<Result<Remote, Error>>>,
    remote: Option<Remote>,
    /// Connections that a new `initialize` has replaced, ending their sessions.
    closing: JoinSet<()>,
}

impl Connection {
    fn open(&mut self, opener: Opener, first: Message) {
        if let Some(replaced) = self.remote.take() {
            self.closing.spawn(async move { _ = tokio::time::timeout(LONGEST_DELETE, replaced.close()).await });
        }
        self.opening = Some(tokio::spawn(opener.open(first)));
    }

    fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    async fn opened(&mut self) -> Result<(), Error> {
        let Some(opening) = &mut self.opening else { return std::future::pending().await };
        let opened = opening.await;
        self.opening = None;
        match opened {
            Ok(remote) => remote.map(|remote| self.remote = Some(remote)),
            Err(error) => {
                warn!("opening the connection failed: {}", chain(&error));
                Err(Error::NoAnswer("opening the connection failed"))
            }
        }
    }

    fn send(&mut self, message: Message) {
        if let Some(remote) = &mut self.remote {
            remote.send(message);
        }
    }

    async fn close(&mut self, end: Instant) {
        if let Some(opening) = self.opening.take() {
            opening.abort();
        }
        if let Some(mut remote) = self.remote.take() {
            let settled = end - GRACE_FOR_DELETE / 2;
            _ = tokio::time::timeout_at(settled, remote.settle()).await;
            let end = end.min(Instant::now() + LONGEST_DELETE);
            _ = tokio::time::timeout_at(end, remote.close()).await;
        }
        while let Ok(Some(_)) = tokio::time::timeout_at(end, self.closing.join_next()).await {}
    }
}
