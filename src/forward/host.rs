//! What the host is owed: its requests that are not answered yet, and everything that is written to it.
//!
//! # Invariants
//!
//! - `Host` is the only maker of [`Action::ToHost`].
//! - `Host` answers no request twice, and none that the host has not sent or has cancelled.
//! - `Host` announces nothing on a stream that the server has not acknowledged, or that is not about it.

use std::{
    collections::{VecDeque, hash_map::Entry},
    time::Duration,
};

use fnv::FnvHashMap;
use log::debug;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Action, Reminder, Settings, progress::ProgressKeepAlive};
use crate::{
    description::List,
    era::Era,
    mcp::{HOST_PATIENCE, method},
    message::{Body, Id, Message, Shape, peek},
    report::{self, Report},
    tools::{self, ToolPattern},
};

/// How long the server may take for a request before that is logged.
const SLOW_REQUEST: Duration = Duration::from_secs(5);
/// How often the loop looks for slow requests, if there are any. One reminder for all of them costs a message nothing.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Ticks after which a request has waited for [`SLOW_REQUEST`]: the first one may come at once.
const SLOW_TICKS: u32 = 5;
/// Cancelled requests remembered, for an answer that was on its way.
const MOST_CANCELLED: usize = 1024;

/// A request of the host that is not answered yet.
#[derive(Debug)]
struct Debt {
    /// How many requests have this id: a host may break the rule, and is owed all the same.
    count: u32,
    /// Bytes of their messages.
    bytes: usize,
    asked: Asked,
    /// Ticks in which the server had to answer it.
    ticks: u32,
}

impl Debt {
    /// Returns whether it may still be reported as slow.
    fn may_be_slow(&self) -> bool {
        self.ticks <= SLOW_TICKS && !matches!(self.asked, Asked::Listen(_))
    }
}

/// What a request of the host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    List(List, ListPage),
    Initialize,
    /// `server/discover`
    Discover,
    /// The `server/discover` that began the connection.
    FirstDiscover,
    /// A stream of notifications (MCP 2026-07-28, Subscriptions), and what it is about once the server has acknowledged
    /// it. It ends with the connection, and the host does not wait for that.
    Listen(Option<ListenFilter>),
    /// `tools/call`
    Call,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListPage {
    First,
    Later,
    /// Asked for in a batch, and not inspected.
    Unknown,
}

impl Asked {
    fn by(method: &str, page: impl FnOnce() -> ListPage) -> Self {
        match (method, List::of_method(method)) {
            (method::INITIALIZE, _) => Self::Initialize,
            (method::DISCOVER, _) => Self::Discover,
            (method::LISTEN, _) => Self::Listen(None),
            (method::TOOLS_CALL, _) => Self::Call,
            (_, Some(list)) => Self::List(list, page()),
            _ => Self::Other,
        }
    }

    /// Returns the name of the request in the log.
    fn name(self) -> &'static str {
        match self {
            Self::List(list, _) => list.method(),
            Self::Initialize => method::INITIALIZE,
            Self::Discover | Self::FirstDiscover => method::DISCOVER,
            Self::Listen(_) => method::LISTEN,
            Self::Call => method::TOOLS_CALL,
            Self::Other => "a request",
        }
    }

    pub(super) fn is_later_page(self) -> bool {
        matches!(self, Self::List(_, ListPage::Later))
    }
}

/// The lists whose changes a stream of notifications reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListenFilter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
}

impl ListenFilter {
    fn covers(self, list: List) -> bool {
        match list {
            List::Tools => self.tools_list_changed,
            List::Prompts => self.prompts_list_changed,
            List::Resources | List::Templates => self.resources_list_changed,
        }
    }
}

#[derive(Debug)]
pub(super) struct Host {
    owed: FnvHashMap<Id, Debt>,
    /// Bytes of the messages of all these requests.
    owed_bytes: usize,
    /// There may be requests that are not reported as slow yet.
    awaits_server: bool,
    /// Requests the host has cancelled, the latest ones.
    cancelled: VecDeque<Id>,
    /// With `--progress-keepalive`.
    progress: Option<ProgressKeepAlive>,
    /// Requests of this program to the host.
    asked: Vec<Id>,
    ignored_tools: Vec<ToolPattern>,
    pub(super) actions: VecDeque<Action>,
}

impl Host {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            owed: FnvHashMap::default(),
            owed_bytes: 0,
            awaits_server: false,
            cancelled: VecDeque::new(),
            progress: settings.limits.progress_keepalive.then(ProgressKeepAlive::default),
            asked: Vec::new(),
            ignored_tools: settings.ignored_tools.clone(),
            actions: VecDeque::new(),
        }
    }

    // What is owed.

    /// Owes an answer to a request.
    pub(super) fn owe(&mut self, id: &Id, request: &Message) {
        let page = || if peek::has_cursor(request) { ListPage::Later } else { ListPage::First };
        self.owe_as(id, Asked::by(request.method().unwrap_or_default(), page), request.body.len());
        let serial = self.progress.as_mut().and_then(|progress| progress.begin(id, request));
        self.actions.extend(serial.map(|serial| Action::Remind(HOST_PATIENCE, Reminder::Progress(serial))));
    }

    /// Owes an answer to a request in a batch that is forwarded whole, of which it has so many bytes.
    pub(super) fn owe_part(&mut self, id: &Id, method: &str, bytes: usize) {
        self.owe_as(id, Asked::by(method, || ListPage::Unknown), bytes);
    }

    fn owe_as(&mut self, id: &Id, asked: Asked, bytes: usize) {
        self.cancelled.retain(|cancelled| cancelled != id); // used again, it means another request
        let debt = self.owed.entry(id.clone()).or_insert(Debt { count: 0, bytes: 0, asked, ticks: 0 });
        debt.count += 1;
        debt.bytes += bytes;
        self.owed_bytes += bytes;
        self.awaits_server = true;
    }

    /// Returns whether there may be a request to report as slow.
    pub(super) fn awaits_server(&self) -> bool {
        self.awaits_server
    }

    /// A [`TICK`] has passed, in which the server had to answer or not. Returns a line for the requests that have waited
    /// for [`SLOW_REQUEST`] now.
    pub(super) fn tick(&mut self, is_servers_turn: bool, server: &str) -> Option<String> {
        let (mut first, mut others) = (None, 0_u32);
        for debt in self.owed.values_mut().filter(|debt| is_servers_turn && debt.may_be_slow()) {
            debt.ticks += 1;
            if debt.ticks > SLOW_TICKS {
                others += u32::from(first.is_some());
                first.get_or_insert(debt.asked);
            }
        }
        self.awaits_server = self.owed.values().any(Debt::may_be_slow);
        let name = first?.name();
        let waited = SLOW_REQUEST.as_secs();
        Some(match others {
            0 => format!("{name} has been waiting for {server} for {waited} s"),
            _ => format!("{name} and {others} more requests have been waiting for {server} for {waited} s"),
        })
    }

    /// Marks a `server/discover` as the one that begins the connection.
    pub(super) fn begins_with_discover(&mut self, id: &Id) {
        if let Some(debt) = self.owed.get_mut(id) {
            debt.asked = Asked::FirstDiscover;
        }
    }

    /// Returns the number of ids that are owed an answer.
    pub(super) fn owes(&self) -> usize {
        self.owed.len()
    }

    /// Returns the bytes of the requests that are not answered yet.
    pub(super) fn owed_bytes(&self) -> usize {
        self.owed_bytes
    }

    /// Returns what was asked under an id that is owed an answer.
    pub(super) fn asked(&self, id: &Id) -> Option<Asked> {
        self.owed.get(id).map(|debt| debt.asked)
    }

    /// Returns the id that the host has used, where the server has written it otherwise: a number as its text, or the
    /// reverse. None if the server's own text is open, nothing is like it, or more than one is.
    pub(super) fn other_spelling(&self, id: &Id) -> Option<Id> {
        if self.owed.contains_key(id) || self.cancelled.contains(id) {
            return None;
        }
        let same_value = self.owed.keys().find(|owed| owed.same_value(id));
        let loosely = || {
            let mut matching = self.owed.keys().chain(&self.cancelled).filter(|known| known.matches_loosely(id));
            let found = matching.next().filter(|known| self.owed.contains_key(known))?;
            // A wrong answer is worse than none.
            matching.next().is_none().then_some(found)
        };
        same_value.or_else(loosely).cloned()
    }

    /// Returns whether the host waits for no answer. A stream of notifications has none before its end.
    pub(super) fn waits_for_nothing(&self) -> bool {
        self.owed.values().all(|debt| matches!(debt.asked, Asked::Listen(_)))
    }

    /// Returns every id, and how many requests have it.
    pub(super) fn debts(&self) -> Vec<(Id, u32)> {
        self.owed.iter().map(|(id, debt)| (id.clone(), debt.count)).collect()
    }

    /// Returns the lists that are owed.
    pub(super) fn lists(&self) -> Vec<(Id, List)> {
        let list = |(id, debt): (&Id, &Debt)| match debt.asked {
            Asked::List(list, _) => Some((id.clone(), list)),
            _ => None,
        };
        self.owed.iter().filter_map(list).collect()
    }

    /// Returns the `server/discover` that began the connection, until it is answered.
    pub(super) fn first_discover(&self) -> Option<Id> {
        self.owed.iter().find(|(_, debt)| debt.asked == Asked::FirstDiscover).map(|(id, _)| id.clone())
    }

    /// Owes one request with this id no longer; returns what it asked for.
    pub(super) fn forget(&mut self, id: &Id) -> Option<Asked> {
        let Entry::Occupied(mut entry) = self.owed.entry(id.clone()) else { return None };
        let debt = entry.get_mut();
        // Of requests with the same id, nobody can tell which one this was.
        let bytes = debt.bytes / usize::try_from(debt.count).unwrap_or(1);
        debt.bytes -= bytes;
        self.owed_bytes -= bytes;
        debt.count -= 1;
        let Debt { count, asked, .. } = *debt;
        if count == 0 {
            entry.remove();
            if let Some(progress) = &mut self.progress {
                progress.end(id);
            }
        }
        Some(asked)
    }

    /// The host no longer wants an answer: none is made up, but one that comes passes (MCP, Cancellation).
    pub(super) fn cancel(&mut self, id: Id) {
        self.forget(&id);
        if self.cancelled.len() == MOST_CANCELLED {
            self.cancelled.pop_front();
        }
        self.cancelled.push_back(id);
    }

    // Answers.

    /// Writes an answer without the tools that are hidden, if it is owed; returns whether it was.
    pub(super) fn pay(&mut self, id: &Id, answer: Message) -> bool {
        let may_list_tools = match self.forget(id) {
            Some(asked) => matches!(asked, Asked::List(List::Tools, _)),
            None => {
                let Some(at) = self.cancelled.iter().position(|cancelled| cancelled == id) else { return false };
                self.cancelled.remove(at);
                true
            }
        };
        let hides = may_list_tools && self.hides_tools();
        self.write(if hides { tools::hide(&self.ignored_tools, answer).body } else { answer.body });
        true
    }

    /// Answers with a result of this program.
    pub(super) fn answer(&mut self, id: &Id, result: &str) {
        _ = self.answer_whole(id, result);
    }

    /// The same; returns the answer as it was before tools were hidden, if it was owed.
    pub(super) fn answer_whole(&mut self, id: &Id, result: &str) -> Option<Body> {
        // What is on disk may have been laid out in lines since.
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let answer = Message::from_remote(Body::One(text.into())).ok()?;
        let whole = answer.body.clone();
        self.pay(id, answer).then_some(whole)
    }

    /// Answers a request with an error of this program.
    pub(super) fn fail(&mut self, id: &Id, report: &Report) {
        if self.forget(id).is_some() {
            self.reject_with(id, report);
        }
    }

    /// The same of every request in a message.
    pub(super) fn fail_all(&mut self, message: &Message, report: &Report) {
        message.requests().for_each(|id| self.fail(id, report));
    }

    /// Answers that a method does not exist.
    pub(super) fn fail_method(&mut self, id: &Id, why: &str) {
        if self.forget(id).is_some() {
            self.reject(id, report::METHOD_NOT_FOUND, &format!("mcp-remote: {why}"));
        }
    }

    /// Answers what is not owed, because it goes no further.
    pub(super) fn reject(&mut self, id: &Id, code: i32, message: &str) {
        self.write(Body::One(report::error_line(id, code, message, None::<&()>)));
    }

    /// The same with a report.
    pub(super) fn reject_with(&mut self, id: &Id, report: &Report) {
        self.write(Body::One(report.answer(id)));
    }

    /// Answers what is not JSON-RPC.
    pub(super) fn reject_malformed(&mut self, id: Option<&Id>) {
        let null = Id::from_json(b"null"); // JSON-RPC 2.0 §5: where the id cannot be told
        let message = "mcp-remote: Invalid Request: not a JSON-RPC 2.0 message";
        self.reject(id.unwrap_or(&null), report::INVALID_REQUEST, message);
    }

    /// Ends the streams of notifications, which end with the connection: gracefully (MCP 2026-07-28, Subscriptions,
    /// Graceful Closure).
    pub(super) fn end_streams(&mut self) {
        for id in self.streams(|_| true) {
            let result =
                format!(r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#);
            self.answer(&id, &result);
        }
    }

    fn streams(&self, which: impl Fn(Option<ListenFilter>) -> bool) -> Vec<Id> {
        let wanted = |debt: &Debt| matches!(debt.asked, Asked::Listen(filter) if which(filter));
        self.owed.iter().filter(|(_, debt)| wanted(debt)).map(|(id, _)| id.clone()).collect()
    }

    // What else the host hears and says.

    /// Passes on a request or a notification of the server.
    pub(super) fn forward(&mut self, message: Message) {
        match message.method() {
            Some(method::PROGRESS)
                if matches!(message.shape, Shape::Notification { .. })
                    && self.progress.as_mut().is_some_and(|progress| !progress.passes(&message)) =>
            {
                return debug!("dropping a progress notification: its value does not increase");
            }
            Some(method::ACKNOWLEDGED) => self.acknowledged(&message),
            // MCP 2026-07-28, Cancellation: the server ends that stream, and answers nothing more.
            Some(method::CANCELLED) => {
                let id = peek::cancelled_id(&message);
                if let Some(id) = id.filter(|id| matches!(self.asked(id), Some(Asked::Listen(_)))) {
                    self.forget(&id);
                }
            }
            _ => {}
        }
        self.write(message.body);
    }

    /// Passes on a batch of the server whole; it answers these requests.
    pub(super) fn forward_batch<'a>(&mut self, batch: Message, answered: impl IntoIterator<Item = &'a Id>) {
        for id in answered {
            self.forget(id);
        }
        self.write(batch.body);
    }

    /// Notes what a stream of notifications is about.
    fn acknowledged(&mut self, notification: &Message) {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "_meta")]
            meta: Meta,
            #[serde(default)]
            notifications: ListenFilter,
        }
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
            id: Box<RawValue>,
        }
        let Some(Params { meta, notifications }) = peek::params(notification) else { return };
        let acknowledged = Id::from_json(meta.id.get().as_bytes());
        for (id, debt) in &mut self.owed {
            if let Asked::Listen(filter) = &mut debt.asked
                && id.same_value(&acknowledged)
            {
                *filter = Some(notifications);
                return;
            }
        }
    }

    /// Tells the host that these lists have changed: in the modern era on each stream that is about them.
    pub(super) fn announce(&mut self, era: Era, lists: &[List]) {
        let mut announced = Vec::new();
        for list in lists {
            let method = list.changed();
            if announced.contains(&method) {
                continue;
            }
            announced.push(method);
            match era {
                Era::Legacy => self.notify(method, None),
                Era::Modern => {
                    for id in self.streams(|filter| filter.is_some_and(|filter| filter.covers(*list))) {
                        let text = format!(
                            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
                        );
                        self.write(Body::One(text.into()));
                    }
                }
            }
        }
    }

    pub(super) fn notify(&mut self, method: &str, params: Option<&Value>) {
        let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#);
        self.write(Body::One(text.into()));
    }

    /// Asks the host something.
    pub(super) fn ask(&mut self, method: &str, params: &Value) {
        let id = Id::fresh();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.asked.push(id);
        self.write(Body::One(text.into()));
    }

    /// Takes the host's answer to a request of this program; returns whether it was that.
    pub(super) fn answers_us(&mut self, id: &Id) -> bool {
        let is_ours = self.asked.contains(id);
        self.asked.retain(|asked| asked != id);
        is_ours
    }

    /// Reports progress of a request that has had none for a while.
    pub(super) fn keep_alive(&mut self, serial: u64, server: &str) {
        if let Some(line) = self.progress.as_mut().and_then(|progress| progress.keep_alive(serial, server)) {
            self.write(Body::One(line.into()));
            self.actions.push_back(Action::Remind(HOST_PATIENCE, Reminder::Progress(serial)));
        }
    }

    // Tools.

    pub(super) fn hides_tools(&self) -> bool {
        !self.ignored_tools.is_empty()
    }

    /// Returns the name of the ignored tool that a request calls.
    pub(super) fn ignored_tool(&self, request: &Message) -> Option<String> {
        if !self.hides_tools() || request.method() != Some(method::TOOLS_CALL) {
            return None;
        }
        match tools::judge(&self.ignored_tools, request) {
            tools::Call::Ignored(name) => Some(name),
            tools::Call::Allowed => None,
        }
    }

    fn write(&mut self, body: Body) {
        self.actions.push_back(Action::ToHost(body));
    }
}
