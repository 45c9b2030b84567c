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
                    self.write(Body::One(line));
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
            Link::Opening { waiting, .. } => waiting.push_back(message),
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
            self.forget(&id);
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
            self.write(Body::One(report.answer(id)));
        }
    }

    fn write(&mut self, body: Body) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::StatusCode;
    use serde_json::Value;
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        cli::{self, Command, Program},
        remote::error::Refusal,
    };

    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;
    const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    const LIMIT: usize = 1000;

    fn forward() -> Forward {
        ignoring(&[])
    }

    fn ignoring(patterns: &[&str]) -> Forward {
        let patterns = patterns.iter().map(|pattern| ToolPattern::new(pattern)).collect();
        Forward::new(Url::parse("http://a.example/mcp").unwrap(), patterns, LIMIT)
    }

    /// One whose connection is open, for which it took `first`.
    fn open(mut forward: Forward, first: &str) -> Forward {
        assert_eq!(host(&mut forward, first), [format!("open {first}")]);
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), Vec::<String>::new());
        forward
    }

    fn connected() -> Forward {
        let mut forward = open(forward(), INITIALIZE);
        assert_eq!(server(&mut forward, &result(0)), [to_host(&result(0))]);
        forward
    }

    /// What an event leads to, as text.
    fn does(forward: &mut Forward, event: Event) -> Vec<String> {
        _ = forward.handle(event);
        actions(forward)
    }

    fn actions(forward: &mut Forward) -> Vec<String> {
        let text = |body: &Body| String::from_utf8(body.to_bytes().to_vec()).unwrap();
        std::iter::from_fn(|| forward.action())
            .map(|action| match action {
                Action::ToHost(body) => format!("host {}", text(&body)),
                Action::Open(message) => format!("open {}", text(&message.body)),
                Action::Send(message) => format!("send {}", text(&message.body)),
            })
            .collect()
    }

    fn from_host(text: &str) -> Event {
        Event::Host(Incoming::Line(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn from_server(text: &str) -> Event {
        let body = Body::One(Bytes::copy_from_slice(text.as_bytes()));
        Event::Remote(remote::Event::Message(Message::from_remote(body).unwrap()))
    }

    fn host(forward: &mut Forward, text: &str) -> Vec<String> {
        does(forward, from_host(text))
    }

    fn server(forward: &mut Forward, text: &str) -> Vec<String> {
        does(forward, from_server(text))
    }

    fn lost(ids: &[&str]) -> Event {
        let ids = ids.iter().map(|id| Id::from_json(id.as_bytes())).collect();
        Event::Remote(remote::Event::Lost { ids, method: None, error: Arc::new(Error::NoAnswer("gone")) })
    }

    fn refused(answer: Option<&str>) -> Event {
        let answer = answer.map(|text| Message::from_text(text.to_owned()).unwrap());
        let status = StatusCode::BAD_REQUEST;
        Event::Opened(Err(Error::Refused(Box::new(Refusal { status, retry_after: None, text: String::new(), answer }))))
    }

    fn request(id: impl std::fmt::Display, method: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
    }

    fn result(id: impl std::fmt::Display) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
    }

    fn cancelled(id: impl std::fmt::Display) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
    }

    fn to_host(text: &str) -> String {
        format!("host {text}")
    }

    fn send(text: &str) -> String {
        format!("send {text}")
    }

    /// The ids and codes of errors to the host, sorted by id.
    fn errors(actions: &[String]) -> Vec<(String, i64)> {
        let mut errors: Vec<_> = actions
            .iter()
            .map(|action| {
                let line = action.strip_prefix("host ").unwrap_or_else(|| panic!("not to the host: {action}"));
                let answer: Value = serde_json::from_str(line).unwrap();
                (answer["id"].to_string(), answer["error"]["code"].as_i64().expect("an error"))
            })
            .collect();
        errors.sort();
        errors
    }

    fn own_errors(ids: &[&str]) -> Vec<(String, i64)> {
        ids.iter().map(|id| ((*id).to_owned(), i64::from(report::OWN_ERROR))).collect()
    }

    const NOTHING: [&str; 0] = [];

    // Opening

    #[test]
    fn the_first_message_opens_the_connection_and_the_others_wait_in_order() {
        let mut forward = forward();
        assert_eq!(host(&mut forward, INITIALIZE), [format!("open {INITIALIZE}")]);
        assert_eq!(host(&mut forward, INITIALIZED), NOTHING);
        assert_eq!(host(&mut forward, &request(1, "ping")), NOTHING);
        assert_eq!(host(&mut forward, &result(9)), NOTHING);
        let waited = [send(INITIALIZED), send(&request(1, "ping")), send(&result(9))];
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), waited);
        assert_eq!(host(&mut forward, &request(2, "ping")), [send(&request(2, "ping"))]);
    }

    #[test]
    fn what_needs_no_server_opens_no_connection() {
        let mut forward = forward();
        assert_eq!(host(&mut forward, &result(1)), NOTHING);
        assert_eq!(host(&mut forward, &cancelled(1)), NOTHING);
        assert_eq!(errors(&host(&mut forward, "{bad")), [("null".to_owned(), -32700)]);
        assert_eq!(errors(&host(&mut forward, r#"{"id":[1],"x":1}"#)), [("[1]".to_owned(), -32600)]);
        assert_eq!(errors(&host(&mut forward, "[]")), [("null".to_owned(), -32600)]);
        assert_eq!(does(&mut forward, Event::Host(Incoming::TooLong(None))), NOTHING);
        let too_long = does(&mut forward, Event::Host(Incoming::TooLong(Some(Id::from_json(b"5")))));
        assert_eq!(errors(&too_long), own_errors(&["5"]));
        assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Stop);
    }

    #[test]
    fn a_connection_that_does_not_open_is_the_answer_to_all_that_waited_and_the_next_message_tries_again() {
        let mut forward = forward();
        host(&mut forward, INITIALIZE);
        host(&mut forward, INITIALIZED);
        host(&mut forward, &request(1, "ping"));
        host(&mut forward, &format!("[{},{}]", request(2, "ping"), request(3, "ping")));
        let failed = does(&mut forward, Event::Opened(Err(Error::NoAnswer("down"))));
        assert_eq!(errors(&failed), own_errors(&["0", "1", "2", "3"]));
        assert_eq!(host(&mut forward, INITIALIZE), [format!("open {INITIALIZE}")]);
        does(&mut forward, Event::Opened(Ok(())));
        assert_eq!(server(&mut forward, &result(0)), [to_host(&result(0))]);
        assert_eq!(server(&mut forward, &result(1)), NOTHING, "answered before");
    }

    #[test]
    fn a_refused_initialize_is_answered_in_the_servers_own_words_and_nothing_else_is() {
        let own = r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#;
        let mut forward = forward();
        host(&mut forward, INITIALIZE);
        host(&mut forward, &request(1, "ping"));
        let answers = does(&mut forward, refused(Some(own)));
        assert_eq!(answers[0], to_host(&own.replace("null", "0")));
        assert_eq!(errors(&answers[1..]), own_errors(&["1"]));
    }

    #[test]
    fn an_initialize_begins_anew_whatever_is_open() {
        let mut forward = connected();
        let (second, third) = (request(1, "initialize"), request(2, "initialize"));
        assert_eq!(host(&mut forward, &second), [format!("open {second}")]);
        // One that comes while another is under way waits, and what comes after it waits for it.
        assert_eq!(host(&mut forward, &third), NOTHING);
        assert_eq!(host(&mut forward, &request(3, "ping")), NOTHING);
        server(&mut forward, &result(1));
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [format!("open {third}")]);
        server(&mut forward, &result(2));
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&request(3, "ping"))]);
    }

    #[test]
    fn what_was_asked_on_a_connection_that_an_initialize_replaces_is_answered() {
        let mut forward = connected();
        host(&mut forward, &request(1, "tools/call"));
        let second = request(2, "initialize");
        let mut did = host(&mut forward, &second);
        did.extend(does(&mut forward, Event::Opened(Ok(()))));
        did.retain(|action| *action != format!("open {second}"));
        assert_eq!(errors(&did), own_errors(&["1"]));
    }

    // Answers

    #[test]
    fn every_request_is_answered_once() {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
        assert_eq!(server(&mut forward, &result(1)), NOTHING);
        assert_eq!(does(&mut forward, lost(&["1"])), NOTHING);

        host(&mut forward, &request(2, "ping"));
        assert_eq!(errors(&does(&mut forward, lost(&["2"]))), own_errors(&["2"]));
        assert_eq!(server(&mut forward, &result(2)), NOTHING);
        forward.close();
        assert_eq!(actions(&mut forward), NOTHING);
    }

    #[test]
    fn ids_are_told_apart_by_their_text() {
        let mut forward = connected();
        for id in ["1", r#""1""#, "1.0"] {
            host(&mut forward, &request(id, "ping"));
        }
        for id in ["1.0", r#""1""#, "1"] {
            assert_eq!(server(&mut forward, &result(id)), [to_host(&result(id))]);
        }
    }

    #[test]
    fn an_id_used_twice_is_owed_twice() {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        host(&mut forward, &request(1, "tools/call"));
        assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
        assert_eq!(errors(&does(&mut forward, lost(&["1"]))), own_errors(&["1"]));
        assert_eq!(server(&mut forward, &result(1)), NOTHING);
    }

    #[test]
    fn a_response_that_nobody_asked_for_is_dropped_and_what_the_server_says_by_itself_passes() {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        for dropped in [result(2), result(r#""1""#), result("null"), r#"{"jsonrpc":"2.0","error":{}}"#.to_owned()] {
            assert_eq!(server(&mut forward, &dropped), NOTHING, "{dropped}");
        }
        for passed in [request(1, "roots/list"), r#"{"method":"notifications/x"}"#.to_owned()] {
            assert_eq!(server(&mut forward, &passed), [to_host(&passed)]);
        }
        assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))], "a request of the server pays nothing");
    }

    // Cancellation

    #[test]
    fn a_request_cancelled_before_it_was_sent_is_not_sent() {
        let mut forward = forward();
        host(&mut forward, INITIALIZE);
        host(&mut forward, &request(1, "ping"));
        host(&mut forward, &request(2, "ping"));
        assert_eq!(host(&mut forward, &cancelled(1)), NOTHING);
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&request(2, "ping"))]);
        forward.close();
        assert_eq!(errors(&actions(&mut forward)), own_errors(&["0", "2"]));
    }

    #[test]
    fn the_server_hears_of_a_cancelled_request_that_it_has() {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        assert_eq!(host(&mut forward, &cancelled(1)), [send(&cancelled(1))]);
        // What is not open is the server's to judge.
        assert_eq!(host(&mut forward, &cancelled(7)), [send(&cancelled(7))]);

        let mut forward = self::forward();
        host(&mut forward, &request(1, "ping"));
        assert_eq!(host(&mut forward, &cancelled(1)), NOTHING);
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&cancelled(1))]);
    }

    #[test]
    fn the_answer_to_a_cancelled_request_passes_and_is_not_made_up() {
        let mut forward = connected();
        for id in 1..=3 {
            host(&mut forward, &request(id, "ping"));
            host(&mut forward, &cancelled(id));
        }
        assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
        assert_eq!(does(&mut forward, lost(&["2"])), NOTHING);
        assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Stop);
        forward.close();
        assert_eq!(actions(&mut forward), NOTHING);
    }

    #[test]
    fn an_initialize_cannot_be_cancelled() {
        let mut forward = forward();
        host(&mut forward, INITIALIZE);
        assert_eq!(host(&mut forward, &cancelled(0)), NOTHING);
        assert_eq!(errors(&does(&mut forward, Event::Opened(Err(Error::NoAnswer("down"))))), own_errors(&["0"]));
    }

    // Batches

    #[test]
    fn a_batch_goes_on_as_it_is_and_is_owed_one_by_one() {
        let mut forward = connected();
        let batch = format!("[{} , {},{}]", request(1, "ping"), result(8), request(2, "tools/list"));
        assert_eq!(host(&mut forward, &batch), [send(&batch)]);
        assert_eq!(server(&mut forward, &result(2)), [to_host(&result(2))]);
        assert_eq!(server(&mut forward, &result(8)), NOTHING);
        forward.close();
        assert_eq!(errors(&actions(&mut forward)), own_errors(&["1"]));
    }

    #[test]
    fn a_batch_with_a_part_that_does_not_go_on_as_it_is_is_taken_apart() {
        let mut forward = connected();
        for special in [INITIALIZED, &cancelled(9)] {
            let batch = format!("[{special},{}]", request(1, "ping"));
            assert_eq!(host(&mut forward, &batch), [send(special), send(&request(1, "ping"))]);
        }
        let did = host(&mut forward, &format!(r#"[{{"id":4}},7,{}]"#, request(5, "ping")));
        assert_eq!(did[2], send(&request(5, "ping")));
        assert_eq!(errors(&did[..2]), [("4".to_owned(), -32600), ("null".to_owned(), -32600)]);

        let mut forward = connected();
        let second = request(6, "initialize");
        assert_eq!(host(&mut forward, &format!("[{second},{}]", request(7, "ping"))), [format!("open {second}")]);
        assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&request(7, "ping"))]);
    }

    #[test]
    fn a_batch_of_the_server_passes_whole_if_all_of_it_is_wanted() {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        host(&mut forward, &request(2, "ping"));
        let batch = format!("[{}, {},{}]", result(1), result(2), request(1, "roots/list"));
        assert_eq!(server(&mut forward, &batch), [to_host(&batch)]);
        assert_eq!(server(&mut forward, &result(1)), NOTHING);
        assert_eq!(server(&mut forward, &result(2)), NOTHING);
    }

    #[test]
    fn a_batch_of_the_server_with_more_than_was_asked_is_taken_apart() {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        let batch = format!("[{},{},{},3]", result(1), result(1), result(2));
        assert_eq!(server(&mut forward, &batch), [to_host(&result(1))]);
    }

    // Tools

    #[test]
    fn an_ignored_tool_is_refused_here_and_hidden_there() {
        let mut forward = open(ignoring(&["delete*"]), INITIALIZE);
        let call = |id: u8, tool: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
        };
        assert_eq!(errors(&host(&mut forward, &call(1, "deleteAll"))), [("1".to_owned(), -32603)]);
        assert_eq!(host(&mut forward, &call(2, "read")), [send(&call(2, "read"))]);
        let did = host(&mut forward, &format!("[{},{}]", call(3, "deleteAll"), call(4, "read")));
        assert_eq!((errors(&did[..1]), &did[1..]), (vec![("3".to_owned(), -32603)], &[send(&call(4, "read"))][..]));

        host(&mut forward, &request(5, "tools/list"));
        let listed = r#"{"jsonrpc":"2.0","id":5,"result":{"tools":[{"name":"deleteAll"},{"name":"read"}]}}"#;
        let shown = server(&mut forward, &format!("[{listed}]")).join("\n");
        assert!(shown.contains("read") && !shown.contains("deleteAll"), "{shown}");
    }

    // The end

    #[test]
    fn the_end_of_input_waits_for_what_is_owed_and_a_signal_does_too() {
        for end in [Event::Host(Incoming::End), Event::Stop(Stop::Signal("SIGTERM"))] {
            let mut forward = connected();
            host(&mut forward, &request(1, "ping"));
            host(&mut forward, &request(2, "ping"));
            assert_eq!(forward.handle(end), Verdict::Drain);
            assert_eq!(forward.handle(from_server(&result(1))), Verdict::Drain);
            assert_eq!(forward.handle(from_server(r#"{"method":"notifications/x"}"#)), Verdict::Drain);
            assert_eq!(forward.handle(lost(&["2"])), Verdict::Stop);
            assert_eq!(actions(&mut forward).len(), 3);
        }
        assert_eq!(connected().handle(Event::Host(Incoming::End)), Verdict::Stop);
    }

    #[test]
    fn the_end_of_input_waits_for_a_connection_that_is_being_opened_and_for_what_waits_for_it() {
        let mut forward = forward();
        assert_eq!(forward.handle(from_host(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#)), Verdict::Continue);
        assert_eq!(forward.handle(from_host(&request(1, "ping"))), Verdict::Continue);
        assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Drain);
        assert_eq!(forward.handle(Event::Opened(Ok(()))), Verdict::Drain);
        assert_eq!(actions(&mut forward)[1], send(&request(1, "ping")));
        assert_eq!(forward.handle(from_server(&result(1))), Verdict::Stop);

        let mut forward = self::forward();
        _ = forward.handle(from_host(&request(1, "ping")));
        assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Drain);
        assert_eq!(forward.handle(Event::Opened(Err(Error::NoAnswer("down")))), Verdict::Stop);
    }

    #[test]
    fn closing_answers_everything_once() {
        let mut forward = connected();
        for id in [r#""a""#, "1", "1"] {
            host(&mut forward, &request(id, "ping"));
        }
        forward.close();
        assert_eq!(errors(&actions(&mut forward)), own_errors(&[r#""a""#, "1", "1"]));
        forward.close();
        assert_eq!(actions(&mut forward), NOTHING);
    }

    #[test]
    fn a_host_that_asks_too_much_is_not_read_until_something_is_answered() {
        let mut forward = connected();
        for id in 0..MOST_OWED {
            assert!(!forward.is_full());
            host(&mut forward, &request(id, "ping"));
        }
        assert!(forward.is_full());
        server(&mut forward, &result(7));
        assert!(!forward.is_full());

        let mut forward = self::forward();
        host(&mut forward, INITIALIZE);
        for id in 1.. {
            if forward.is_full() {
                break;
            }
            assert!(id < LIMIT, "never full");
            host(&mut forward, &request(id, "ping"));
        }
        does(&mut forward, Event::Opened(Ok(())));
        assert!(!forward.is_full());
    }

    // The loop over pipes that take eight bytes at a time

    /// The host's side of a running loop.
    struct Outside {
        input: Option<DuplexStream>,
        output: BufReader<DuplexStream>,
        stops: mpsc::Sender<Stop>,
        running: JoinHandle<()>,
    }

    impl Outside {
        fn start(port: u16) -> Self {
            let home = std::env::temp_dir().into_os_string();
            let arguments = vec![format!("http://127.0.0.1:{port}/mcp").into(), "--config-dir".into(), home];
            let Ok(Command::Forward(config)) = cli::parse(Program::Adapter, arguments, &|_| None) else {
                panic!("the arguments are right")
            };
            let (opener, events) = crate::opener(&config).unwrap();
            let ((input, reader), (output, writer)) = (tokio::io::duplex(8), tokio::io::duplex(8));
            let (stops, watched) = mpsc::channel(1);
            let (lines, writer) = (Lines::new(reader, LIMIT), Writer::new(writer));
            let ends = Ends { lines, writer, opener, events, stops: watched };
            let running = tokio::spawn(run(forward(), ends));
            Self { input: Some(input), output: BufReader::new(output), stops, running }
        }

        async fn say(&mut self, line: &str) {
            let line = format!("{line}\n");
            soon(self.input.as_mut().unwrap().write_all(line.as_bytes())).await.unwrap();
        }

        async fn line(&mut self) -> String {
            let mut line = String::new();
            soon(self.output.read_line(&mut line)).await.unwrap();
            line.pop();
            line
        }

        async fn rest(&mut self) -> String {
            let mut rest = String::new();
            soon(self.output.read_to_string(&mut rest)).await.unwrap();
            rest
        }
    }

    /// Far more than anything takes; only a failing test waits that long.
    async fn soon<T>(event: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), event).await.expect("it happens")
    }

    /// A server that answers every request after another with an echo of its body as `params`.
    async fn echo() -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    loop {
                        let (mut length, mut line) = (0, String::new());
                        while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                                length = value.trim().parse().unwrap();
                            }
                            line.clear();
                        }
                        let mut body = vec![0; length];
                        if line.is_empty() || stream.read_exact(&mut body).await.is_err() {
                            return;
                        }
                        let body = String::from_utf8(body).unwrap();
                        let id = serde_json::from_str::<Value>(&body).unwrap_or_default()["id"].take();
                        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{body}}}"#);
                        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
                        let reply = format!("{head} {}\r\n\r\n{answer}", answer.len());
                        if stream.write_all(reply.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, serving)
    }

    async fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn messages_cross_tiny_pipes_whole_and_the_end_of_input_ends_the_loop() {
        let (port, serving) = echo().await;
        let mut outside = Outside::start(port);
        for id in 1..=3 {
            let asked =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":"{}"}}"#, "é".repeat(200));
            outside.say(&asked).await;
            assert_eq!(outside.line().await, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{asked}}}"#));
        }
        outside.input = None;
        assert_eq!(outside.rest().await, "");
        soon(outside.running).await.unwrap();
        serving.abort();
    }

    #[tokio::test]
    async fn a_line_too_long_or_not_json_is_answered_and_the_loop_goes_on() {
        let mut outside = Outside::start(closed_port().await);
        for (line, expected) in [
            ("{bad".to_owned(), ("null".to_owned(), -32700)),
            (request(7, &"x".repeat(LIMIT)), ("7".to_owned(), -31000)),
            (r#"{"id":8}"#.to_owned(), ("8".to_owned(), -32600)),
        ] {
            outside.say(&line).await;
            assert_eq!(errors(&[to_host(&outside.line().await)]), [expected]);
        }
        outside.input = None;
        assert_eq!(outside.rest().await, "");
        soon(outside.running).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_input_while_the_server_is_down_answers_and_ends() {
        let mut outside = Outside::start(closed_port().await);
        outside.say(INITIALIZE).await;
        outside.say(&request(1, "ping")).await;
        outside.input = None;
        let rest = outside.rest().await;
        assert_eq!(errors(&rest.lines().map(to_host).collect::<Vec<_>>()), own_errors(&["0", "1"]));
        soon(outside.running).await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_ends_the_loop_although_the_host_keeps_its_end_open() {
        let mut outside = Outside::start(closed_port().await);
        outside.say(INITIALIZE).await;
        // An answer to a line after it shows that the first has been taken.
        outside.say("{bad").await;
        outside.line().await;
        outside.stops.send(Stop::Signal("SIGTERM")).await.unwrap();
        assert_eq!(errors(&[to_host(outside.rest().await.trim_end())]), own_errors(&["0"]));
        soon(outside.running).await.unwrap();
    }

    #[tokio::test]
    async fn a_host_that_does_not_read_any_more_ends_the_loop() {
        let mut outside = Outside::start(closed_port().await);
        drop(outside.output);
        let mut input = outside.input.take().unwrap();
        _ = soon(input.write_all(b"{bad\n")).await;
        soon(outside.running).await.unwrap();
        drop(input);
    }

    #[tokio::test]
    async fn a_host_that_does_not_read_does_not_hold_up_the_end() {
        let mut outside = Outside::start(closed_port().await);
        outside.say("{bad").await;
        outside.input = None;
        soon(&mut outside.running).await.unwrap();
        drop(outside.output);
    }
}
