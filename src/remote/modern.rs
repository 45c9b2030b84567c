//! Streamable HTTP in the modern era (MCP 2026-07-28, Streamable HTTP): each request is a POST with a response
//! stream of its own; there is no session and no stream beside them.
//!
//! # Invariants
//!
//! - A cancelled request is cancelled by closing its stream; no notification and no response is sent.
//! - A request that may have run is sent again only if it is safe, and then under another id.
//! - The headers of the specification are those of the message, whatever the user has set.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use log::{debug, info, warn};
use reqwest::{Response, header::HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    Event, EventSender, Timing,
    cancelled::cancels,
    error::Error,
    http::{Http, body::is_event_stream},
    reading::Reading,
    retry::{Backoff, Tries},
    streamable_http::{settle, sole_answer},
};
use crate::{
    config::Protocol,
    description::next_cursor,
    era::known::{Eras, KnownEra},
    era::{
        Era, Metadata,
        mirror::{self, Marks, Tool},
        verdict::{self, HEADER_MISMATCH, Verdict},
    },
    mcp::Transport,
    message::{Id, Message, Part, Shape},
    observer::Fact,
    report::{self},
    text::{self, chain},
    tools,
};

/// The request that opens a stream of notifications (MCP 2026-07-28, Subscriptions).
pub const LISTEN: &str = "subscriptions/listen";
/// The request for what a server is (MCP 2026-07-28, Discovery).
pub const DISCOVER: &str = "server/discover";
/// The first message on a stream of notifications.
pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// Longest pause before a lost stream of notifications is opened again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A stream that lasted this long was not refused.
const STABLE: Duration = Duration::from_secs(60);
/// How long the rest of a response is read after its answer, so that its connection can be used again.
const REST: Duration = Duration::from_secs(5);
/// Pages of the tools that are read for the schema of one.
const MOST_PAGES: usize = 50;
/// How much of an answer is looked at for what is kept as evidence, in bytes.
const EVIDENCE: usize = 1024;
/// Tools whose schemas are kept; a server can list without end.
const MOST_TOOLS: usize = 10_000;
/// Longest name of such a tool, in bytes.
const LONGEST_NAME: usize = 1024;
/// Finished requests whose handles may be left over, before they are cleared away.
const LEFT_OVER: usize = 64;

/// A connection: nothing but what is under way. Dropping it ends everything.
#[derive(Debug)]
pub struct Modern {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// What is under way, by id.
    under_way: HashMap<Id, AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    http: Arc<Http>,
    timing: Timing,
    protocol: Protocol,
    events: EventSender,
    eras: Eras,
    /// Whether the server was seen to speak a modern version.
    proven: Mutex<bool>,
    tools: Mutex<HashMap<String, Result<Marks, String>>>,
}

/// How far one exchange with the server is.
struct Exchange<'a> {
    /// As the host sent it.
    message: &'a Message,
    /// As it goes to the server, perhaps under another id.
    sent: Message,
    metadata: Metadata,
    unanswered: Vec<Id>,
    /// Of a stream of notifications: what the server has agreed to, once it has.
    acknowledged: Option<Filter>,
    /// The stream is open again, and the host knows it already.
    reopened: bool,
}

impl Modern {
    /// A connection on which nothing has been sent.
    #[must_use]
    pub fn new(http: Arc<Http>, timing: Timing, protocol: Protocol, events: EventSender, eras: Eras) -> Self {
        let (proven, tools) = (Mutex::default(), Mutex::default());
        let shared = Shared { http, timing, protocol, events, eras, proven, tools };
        Self { shared: Arc::new(shared), tasks: JoinSet::new(), under_way: HashMap::new() }
    }

    /// Sends a message; what becomes of it comes as events.
    pub fn send(&mut self, message: Message) {
        while self.tasks.try_join_next().is_some() {}
        match &message.shape {
            Shape::Request { id, .. } => {
                if self.under_way.len() > 2 * self.tasks.len() + LEFT_OVER {
                    self.under_way.retain(|_, task| !task.is_finished());
                }
                let (id, shared) = (id.clone(), self.shared.clone());
                let task = self.tasks.spawn(async move { shared.carry(&message).await });
                self.under_way.insert(id, task);
            }
            Shape::Notification { method } if &**method == "notifications/cancelled" => {
                // MCP 2026-07-28, Cancellation: closing the stream says so.
                if let Some(task) = cancels(&message).and_then(|id| self.under_way.remove(&id)) {
                    task.abort();
                }
            }
            // MCP 2026-07-28, Streamable HTTP, Sending Messages: there are none.
            Shape::Notification { method } => debug!("{method} is not sent: MCP 2026-07-28 has no such notification"),
            Shape::Response { .. } => debug!("a response of the host is not sent: MCP 2026-07-28 has none"),
            Shape::Batch(_) => message.split().into_iter().flatten().for_each(|part| self.send(part)),
        }
    }

    /// Ends everything under way.
    pub fn abandon(&mut self) {
        self.tasks.abort_all();
    }
}

impl Shared {
    /// Takes a request of the host all the way, until it is answered or lost.
    async fn carry(&self, message: &Message) {
        let Some(id) = message.requests().next().cloned() else { return };
        if let Some(refusal) = self.refuse_hidden_tool(message, &id) {
            return self.events.send(Event::Message(refusal)).await;
        }
        let is_discover = message.method() == Some(DISCOVER);
        if is_discover && self.is_known_as_legacy().await {
            let error = Arc::new(Error::LegacyServer { words: None });
            return self.lose(message, vec![id], error).await;
        }
        let mut exchange = Exchange {
            message,
            sent: message.clone(),
            metadata: Metadata::of(message).unwrap_or_default(),
            unanswered: vec![id.clone()],
            acknowledged: None,
            reopened: false,
        };
        let Err(error) = self.exchange_until_answered(&mut exchange).await else { return };
        // Any other request may fail for many reasons; but a 4xx that does not answer it is one of a server that has
        // not understood it.
        let is_evidence = is_discover || is_not_understood(&error, &exchange.sent);
        let verdict = if is_evidence && !self.is_proven() { verdict_of(&error) } else { Verdict::Open };
        if is_discover {
            self.remember(verdict, chain(&error), Vec::new()).await;
        }
        let error = match verdict {
            Verdict::Legacy => Error::LegacyServer { words: words_of(&error) },
            Verdict::Modern | Verdict::Open => error,
        };
        match (exchange.unanswered.as_slice(), error.answer()) {
            ([asked], Some(answer)) => self.events.send(Event::Message(answer.with_id(asked))).await,
            _ => self.lose(message, exchange.unanswered, Arc::new(error)).await,
        }
    }

    async fn lose(&self, message: &Message, ids: Vec<Id>, error: Arc<Error>) {
        self.events.send(Event::Lost { ids, method: message.method().map(Into::into), error }).await;
    }

    /// Sends the request, again where that may help.
    async fn exchange_until_answered(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        // A host does not wait for the answer to `server/discover`; it goes on with `initialize`, which is tried again.
        let is_discover = exchange.message.method() == Some(DISCOVER);
        let window = if is_discover { Duration::ZERO } else { self.timing.retry_for };
        let mut tries = Tries::new(exchange.message, window);
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        let mut has_listed = false;
        loop {
            let since = Instant::now();
            let error = match self.exchange(exchange).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if exchange.acknowledged.is_some() && (error.may_pass() || matches!(error, Error::TooLarge { .. })) {
                if since.elapsed() >= STABLE {
                    backoff = Backoff::up_to(LONGEST_PAUSE);
                }
                exchange.reopened = true;
                let pause = backoff.pause();
                info!(
                    "the stream of notifications is lost ({}); opening it again in {:.1} s",
                    chain(&error),
                    pause.as_secs_f32()
                );
                tokio::time::sleep(pause).await;
                continue;
            }
            // MCP 2026-07-28, Streamable HTTP, Client Behavior: the schema has changed, or was never seen.
            let mismatch = error.answer().and_then(verdict::error_code) == Some(HEADER_MISMATCH);
            if mismatch && exchange.message.method() == Some("tools/call") && !std::mem::replace(&mut has_listed, true)
            {
                info!("the server wants other headers for this tool; reading its schema");
                if self.read_schema(exchange).await {
                    continue;
                }
            }
            let may_have_run = !matches!(error, Error::Connect(_) | Error::ProxyDown { .. });
            tries.wait_after(error).await?;
            if may_have_run && exchange.message.method() != Some(LISTEN) {
                // MCP 2026-07-28, Overview, Requests: an id is used once.
                exchange.sent = exchange.message.with_id(&own_id());
            }
        }
    }

    /// One POST and all that comes back.
    async fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        let headers = self.headers(&exchange.sent, &exchange.metadata);
        let response = self.http.post(self.http.server(), &headers, &exchange.sent).await?;
        if is_event_stream(&response) {
            return Box::pin(self.read_stream(exchange, response)).await;
        }
        if let Some(message) = self.http.message(response).await? {
            let asked: Vec<Id> = exchange.sent.requests().cloned().collect();
            let message = sole_answer(message, &asked)?;
            self.deliver(exchange, message).await?;
        }
        if exchange.unanswered.is_empty() {
            Ok(())
        } else {
            Err(Error::NoAnswer("the server accepted the request but sent no answer to it"))
        }
    }

    async fn read_stream(&self, exchange: &mut Exchange<'_>, response: Response) -> Result<(), Error> {
        let mut reading = Reading::new(response, self.http.limit);
        loop {
            let next = if exchange.unanswered.is_empty() {
                match tokio::time::timeout(REST, reading.next(&self.http)).await {
                    Ok(Ok(Some(message))) => Ok(Some(message)),
                    _ => return Ok(()),
                }
            } else {
                reading.next(&self.http).await
            };
            match next {
                Ok(Some(message)) => self.deliver(exchange, message).await?,
                Ok(None) => return Err(Error::NoAnswer("the server ended the stream without answering")),
                Err(Error::BadMessage(malformed)) if exchange.acknowledged.is_some() => {
                    warn!("an event of the server is dropped: {malformed}");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands a message over to the host, if it may have it.
    async fn deliver(&self, exchange: &mut Exchange<'_>, message: Message) -> Result<(), Error> {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                let mut asked: Vec<Id> = exchange.sent.requests().cloned().collect();
                if settle(id, &mut asked).is_none() || exchange.unanswered.is_empty() {
                    debug!("a response to {id} is dropped: this stream is of another request");
                    return Ok(());
                }
                self.deliver_answer(exchange, message).await
            }
            Shape::Response { id: None } => {
                debug!("a response without an id is dropped");
                Ok(())
            }
            // MCP 2026-07-28, Streamable HTTP, Receiving Messages: the server must not.
            Shape::Request { method, .. } => {
                warn!("a request of the server is dropped: MCP 2026-07-28 has no {method} from a server");
                Ok(())
            }
            Shape::Notification { method } if &**method == ACKNOWLEDGED => {
                let agreed = Filter::of(&message).within(&Filter::of(exchange.message));
                self.prove();
                if exchange.reopened {
                    self.announce(exchange, &agreed).await; // the host has its acknowledgment
                } else {
                    self.events.send(Event::Message(message)).await;
                }
                exchange.acknowledged = Some(agreed);
                exchange.reopened = false;
                Ok(())
            }
            Shape::Notification { .. } => {
                self.events.send(Event::Message(message)).await;
                Ok(())
            }
            Shape::Batch(parts) => {
                let parts = parts.iter().filter(|part| matches!(part, Part::Message(..))).count();
                debug!("a batch of {parts} messages is taken apart: MCP 2026-07-28 has none");
                for part in message.split().into_iter().flatten() {
                    Box::pin(self.deliver(exchange, part)).await?;
                }
                Ok(())
            }
        }
    }

    async fn deliver_answer(&self, exchange: &mut Exchange<'_>, message: Message) -> Result<(), Error> {
        let method = exchange.message.method();
        if method == Some(DISCOVER) {
            let verdict = verdict::of_answer(&message);
            let words = text::one_line(&message.body.copy(0..EVIDENCE));
            self.remember(verdict, words.clone(), verdict::supported_versions(&message)).await;
            if verdict == Verdict::Legacy {
                return Err(Error::LegacyServer { words: Some(words) });
            }
        }
        if verdict::error_code(&message).is_none() {
            self.prove();
        }
        let message = if method == Some("tools/list") { self.learn_tools(message) } else { message };
        exchange.unanswered.clear();
        let message = match exchange.message.requests().next() {
            Some(asked) if exchange.sent.requests().next() != Some(asked) => message.with_id(asked),
            Some(asked) if matches!(&message.shape, Shape::Response { id: Some(id) } if id != asked) => {
                message.with_id(asked)
            }
            _ => message,
        };
        self.events.send(Event::Message(message)).await;
        Ok(())
    }

    /// Reports each thing that a stream covers as changed: what happened while it was lost is not known.
    async fn announce(&self, exchange: &Exchange<'_>, agreed: &Filter) {
        let Some(id) = exchange.message.requests().next() else { return };
        for notification in agreed.changes(id) {
            self.events.send(Event::Message(notification)).await;
        }
    }

    /// All headers of a request: the user's, and those of the specification in their place.
    fn headers(&self, message: &Message, metadata: &Metadata) -> HeaderMap {
        let marks = match message.method() {
            Some("tools/call") => mirror::called_tool(message).and_then(|tool| self.tools().get(&tool).cloned()),
            _ => None,
        };
        let marks = marks.and_then(Result::ok);
        let mut headers = self.http.headers().clone();
        let taken: Vec<_> = headers.keys().filter(|name| mirror::is_mirrored(name)).cloned().collect();
        for name in taken {
            headers.remove(name);
        }
        headers.extend(mirror::headers(message, metadata, marks.as_ref()));
        headers
    }

    /// The tools of a list without those whose marks are invalid (MCP 2026-07-28, Streamable HTTP, Schema
    /// Extension: a client MUST exclude them); the others are remembered.
    fn learn_tools(&self, list: Message) -> Message {
        tools::hide_where(list, &|tool| {
            let Some(Tool { name, marks }) = mirror::read_tool(tool) else { return false };
            let mut known = self.tools();
            let is_new = known.get(&name) != Some(&marks);
            if let (Err(why), true) = (&marks, is_new) {
                warn!("the tool {} is hidden: {why}", text::one_line(name.as_bytes()));
            }
            let hidden = marks.is_err();
            if name.len() <= LONGEST_NAME && known.len() < MOST_TOOLS || known.contains_key(&name) {
                known.insert(name, marks);
            }
            hidden
        })
    }

    /// Reads the tools until the one that is called is there. Whether it is.
    async fn read_schema(&self, exchange: &Exchange<'_>) -> bool {
        let Some(tool) = mirror::called_tool(exchange.message) else { return false };
        self.tools().remove(&tool);
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let meta = exchange.metadata.to_json();
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":"tools/list","params":{{{cursor}"_meta":{meta}}}}}"#,
                own_id()
            );
            let Ok(request) = Message::from_text(text) else { return false };
            let page = match self.ask(&request, &exchange.metadata).await {
                Ok(page) => page,
                Err(error) => {
                    debug!("the tools cannot be read: {}", chain(&error));
                    return false;
                }
            };
            let next = next_cursor(&page.body);
            self.learn_tools(page);
            if self.tools().contains_key(&tool) {
                return true;
            }
            let Some(next) = next else { return false };
            cursor = format!(r#""cursor":{next},"#);
        }
        false
    }

    /// A request of this program; its answer stays here.
    async fn ask(&self, request: &Message, metadata: &Metadata) -> Result<Message, Error> {
        let response = self.http.post(self.http.server(), &self.headers(request, metadata), request).await?;
        let mut asked: Vec<Id> = request.requests().cloned().collect();
        if !is_event_stream(&response) {
            let answer = self.http.message(response).await?.ok_or(Error::NoAnswer("the answer is empty"))?;
            return sole_answer(answer, &asked);
        }
        let mut reading = Reading::new(response, self.http.limit);
        while let Some(message) = reading.next(&self.http).await? {
            if matches!(&message.shape, Shape::Response { id: Some(id) } if settle(id, &mut asked).is_some()) {
                return Ok(message);
            }
        }
        Err(Error::NoAnswer("the server ended the stream without answering"))
    }

    /// The answer to a call of a hidden tool.
    fn refuse_hidden_tool(&self, message: &Message, id: &Id) -> Option<Message> {
        if message.method() != Some("tools/call") {
            return None;
        }
        let tool = mirror::called_tool(message)?;
        let why = self.tools().get(&tool)?.as_ref().err().cloned()?;
        let text = format!("mcp-remote: the tool {tool} cannot be called: {why}");
        let line = report::error_line(id, report::INVALID_PARAMS, &text, None::<&()>);
        Message::from_remote(crate::message::Body::One(line)).ok()
    }

    fn tools(&self) -> MutexGuard<'_, HashMap<String, Result<Marks, String>>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_proven(&self) -> bool {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server speaks a modern version.
    fn prove(&self) {
        let before = std::mem::replace(&mut *self.proven.lock().unwrap_or_else(PoisonError::into_inner), true);
        if !before {
            info!("connected over Streamable HTTP, protocol version {}", crate::mcp::version::FIRST_MODERN);
            self.http.observer.tell(|| Fact::Opened(Transport::StreamableHttp));
        }
    }

    async fn is_known_as_legacy(&self) -> bool {
        // A user who forces the modern era wants the server to be asked.
        self.protocol == Protocol::Auto && self.eras.recall().await.is_some_and(|known| known.era == Era::Legacy)
    }

    /// Keeps what the answer to `server/discover` says, before the host has it: hosts end the process that asks.
    async fn remember(&self, verdict: Verdict, evidence: String, versions: Vec<String>) {
        let era = match verdict {
            Verdict::Modern => Era::Modern,
            Verdict::Legacy => Era::Legacy,
            Verdict::Open => return,
        };
        if self.eras.recall().await.is_none_or(|before| before.era != era) {
            self.eras.keep(KnownEra::new(era, versions, format!("{DISCOVER}: {evidence}"))).await;
        }
    }
}

/// Whether a server has refused a request without an answer to it.
fn is_not_understood(error: &Error, request: &Message) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.status.is_client_error() && !refusal.answers(request))
}

/// What a failed exchange says about the era of the server.
fn verdict_of(error: &Error) -> Verdict {
    match (error, error.answer()) {
        (Error::LegacyServer { .. }, _) => Verdict::Legacy,
        (Error::Refused(refusal), Some(answer)) => match verdict::of_status(refusal.status) {
            Verdict::Open => Verdict::Open,
            _ => verdict::of_answer(answer),
        },
        (Error::Refused(refusal), None) => verdict::of_status(refusal.status),
        (Error::NotMcp(_) | Error::BadMessage(_) | Error::NoAnswer(_), _) => Verdict::Legacy,
        _ => Verdict::Open,
    }
}

fn words_of(error: &Error) -> Option<String> {
    match error {
        Error::LegacyServer { words } => words.clone(),
        error => Some(chain(error)),
    }
}

/// An id that no request of the host's has: it holds random bits that the host never sees.
fn own_id() -> Id {
    Id::own(&format!("mcp-remote-{:016x}", fastrand::u64(..)))
}

/// What a stream of notifications covers (MCP 2026-07-28, Subscriptions, Notification Filter).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<Box<RawValue>>,
}

impl Filter {
    /// Reads the filter of a request or an acknowledgment.
    fn of(message: &Message) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            params: Params,
        }
        #[derive(Deserialize)]
        struct Params {
            #[serde(default)]
            notifications: Filter,
        }
        let read = serde_json::from_slice::<Envelope>(&message.body.to_bytes());
        read.map(|read| read.params.notifications).unwrap_or_default()
    }

    /// What of it was `asked` for: a server cannot agree to more.
    fn within(mut self, asked: &Self) -> Self {
        self.tools_list_changed &= asked.tools_list_changed;
        self.prompts_list_changed &= asked.prompts_list_changed;
        self.resources_list_changed &= asked.resources_list_changed;
        let mut known = HashSet::new();
        let uris = asked.resource_subscriptions.iter().map(|uri| uri.get()).collect::<HashSet<_>>();
        self.resource_subscriptions.retain(|uri| uris.contains(uri.get()) && known.insert(uri.get().to_owned()));
        self
    }

    /// A notification for each thing that is covered, on the stream of this id.
    fn changes(&self, id: &Id) -> Vec<Message> {
        let lists = [
            (self.tools_list_changed, "tools"),
            (self.prompts_list_changed, "prompts"),
            (self.resources_list_changed, "resources"),
        ];
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        let lists = lists.into_iter().filter(|(covered, _)| *covered).map(|(_, list)| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed","params":{{{meta}}}}}"#)
        });
        let resources = self.resource_subscriptions.iter().map(|uri| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{{meta},"uri":{}}}}}"#,
                uri.get()
            )
        });
        lists.chain(resources).filter_map(|text| Message::from_text(text).ok()).collect()
    }
}
