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
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use log::{debug, info, warn};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Event,
    connection::{Connection, Core, Transport},
    error::Error,
    http::{Http, body::Content, event_reader::EventReader},
    matching::{sole_answer, take},
    resumable::{ResumableStream, StreamKind},
    retry::{Backoff, Tries},
    trail::Trails,
};
use crate::{
    description::next_cursor,
    era::known::{Eras, KnownEra},
    era::{
        Era, RequestMetadata,
        mirror::{self, Marks, Tool},
        verdict::{self, EraVerdict, HEADER_MISMATCH},
    },
    mcp::{
        self,
        method::{ACKNOWLEDGED, DISCOVER, LISTEN, TOOLS_CALL, TOOLS_LIST},
        version::FIRST_MODERN,
    },
    message::{Id, Message, Part, Shape, peek},
    observer::Fact,
    report::{self},
    sync::LockExt,
    text::chain,
    tools,
};

/// Longest pause before a lost stream of notifications is opened again.
const LONGEST_REOPENING_PAUSE: Duration = Duration::from_secs(30);
/// A stream that lasted this long was not refused.
const STABLE: Duration = Duration::from_secs(60);
/// Pages of the tools that are read for the schema of one.
const MOST_PAGES: usize = 50;
/// How much of an answer is looked at for what is kept as evidence, in bytes.
const EVIDENCE: usize = 1024;
/// Tools whose schemas are kept; a server can list without end.
const MOST_TOOLS: usize = 10_000;
/// Longest name of such a tool, in bytes.
const LONGEST_NAME: usize = 1024;

/// The transport.
#[derive(Debug)]
pub(super) struct Modern {
    core: Core,
    eras: Eras,
    /// Whether the server was seen to speak a modern version.
    is_proven: AtomicBool,
    tools: Mutex<HashMap<String, Result<Marks, String>>>,
    /// Streams that are read beyond their answer.
    trails: Trails,
}

/// How far one request is.
pub(super) struct ModernAttempt {
    /// As the host sent it.
    message: Message,
    /// As it goes to the server, perhaps under another id.
    sent: Message,
    metadata: RequestMetadata,
    /// Of a stream of notifications: what the server has agreed to, once it has.
    acknowledged: Option<NotificationFilter>,
    /// The stream is open again, and the host knows it already.
    reopened: bool,
    /// When it was sent last, and the pauses of a stream that is opened again.
    since: Instant,
    backoff: Backoff,
    /// The tools have been read for it.
    has_listed: bool,
    /// It may have run under this id.
    may_have_run: bool,
}

impl Modern {
    /// Returns a connection on which nothing has been sent.
    pub(super) fn connect(core: Core, eras: Eras) -> Connection<Self> {
        let (is_proven, tools, trails) = (AtomicBool::new(false), Mutex::default(), Trails::new());
        Connection::new(Arc::new(Self { core, eras, is_proven, tools, trails }), async {})
    }

    /// One POST and all that comes back.
    async fn exchange(&self, attempt: &mut ModernAttempt, unanswered: &mut Vec<Id>) -> Result<(), Error> {
        let headers = self.headers(&attempt.sent, &attempt.metadata);
        let response = self.core.http.post(self.core.http.server(), &headers, &attempt.sent).await?;
        match self.core.http.content(response).await? {
            Content::Events(reader) => return Box::pin(self.read_stream(attempt, unanswered, *reader)).await,
            Content::Message(message, _share) => {
                let asked: Vec<Id> = attempt.sent.requests().cloned().collect();
                let message = sole_answer(message, &asked, &self.core.http)?;
                self.deliver(attempt, unanswered, message).await?;
            }
            Content::Empty => {}
        }
        if unanswered.is_empty() { Ok(()) } else { Err(Error::NoAnswer("accepted the request but did not answer it")) }
    }

    async fn read_stream(
        &self,
        attempt: &mut ModernAttempt,
        unanswered: &mut Vec<Id>,
        reader: EventReader,
    ) -> Result<(), Error> {
        let mut stream = ResumableStream::new(reader, StreamKind::Unasked);
        let mut trail = self.trails.begin();
        loop {
            if unanswered.is_empty() {
                match trail.next(&mut stream, &self.core.http).await {
                    Some(message) => self.deliver(attempt, unanswered, message).await?,
                    None => return Ok(()),
                }
                continue;
            }
            match stream.next(&self.core.http).await {
                Ok(Some(message)) => self.deliver(attempt, unanswered, message).await?,
                Ok(None) => {
                    return Err(match stream.malformed.take() {
                        Some(malformed) => Error::BadMessage(malformed),
                        None => Error::NoAnswer("completed the response stream without an answer"),
                    });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands a message over to the host, if it may have it.
    async fn deliver(
        &self,
        attempt: &mut ModernAttempt,
        unanswered: &mut Vec<Id>,
        message: Message,
    ) -> Result<(), Error> {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                let mut asked: Vec<Id> = attempt.sent.requests().cloned().collect();
                if take(id, &mut asked).is_none() || unanswered.is_empty() {
                    let id = self.core.http.masked_line(id.as_json().as_bytes());
                    debug!("dropping the server's response to {id}: its stream belongs to another request");
                    return Ok(());
                }
                self.deliver_answer(attempt, unanswered, message).await
            }
            Shape::Response { id: None } => {
                debug!("dropping a response without an ID");
                Ok(())
            }
            // MCP 2026-07-28, Streamable HTTP, Receiving Messages: the server must not.
            Shape::Request { method, .. } => {
                let method = self.core.http.masked_line(method.as_bytes());
                warn!("dropping the server's request {method}: MCP 2026-07-28 has no such server request");
                Ok(())
            }
            Shape::Notification { method } if &**method == ACKNOWLEDGED => {
                let agreed = NotificationFilter::of(&message).within(&NotificationFilter::of(&attempt.message));
                self.prove();
                if attempt.reopened {
                    self.announce(attempt, &agreed).await; // the host has its acknowledgment
                } else {
                    self.core.events.send(Event::Message(message)).await;
                }
                attempt.acknowledged = Some(agreed);
                attempt.reopened = false;
                Ok(())
            }
            Shape::Notification { .. } => {
                self.core.events.send(Event::Message(message)).await;
                Ok(())
            }
            Shape::Batch(parts) => {
                let parts = parts.iter().filter(|part| matches!(part, Part::Message(..))).count();
                debug!("splitting a batch of {parts} messages: MCP 2026-07-28 has no batches");
                for part in message.into_parts() {
                    Box::pin(self.deliver(attempt, unanswered, part)).await?;
                }
                Ok(())
            }
        }
    }

    async fn deliver_answer(
        &self,
        attempt: &mut ModernAttempt,
        unanswered: &mut Vec<Id>,
        message: Message,
    ) -> Result<(), Error> {
        let method = attempt.message.method();
        if peek::error(&message.body).is_none() {
            self.prove();
        }
        let message = if method == Some(TOOLS_LIST) { self.learn_tools(message) } else { message };
        unanswered.clear();
        let message = match attempt.message.requests().next() {
            Some(asked) if attempt.sent.requests().next() != Some(asked) => message.with_id(asked),
            Some(asked) if matches!(&message.shape, Shape::Response { id: Some(id) } if id != asked) => {
                message.with_id(asked)
            }
            _ => message,
        };
        self.core.events.send(Event::Message(message)).await;
        Ok(())
    }

    /// Reports each thing that a stream covers as changed: what happened while it was lost is not known.
    async fn announce(&self, attempt: &ModernAttempt, agreed: &NotificationFilter) {
        let Some(id) = attempt.message.requests().next() else { return };
        for notification in agreed.changes(id) {
            self.core.events.send(Event::Message(notification)).await;
        }
    }

    /// All headers of a request: the user's, and those of the specification in their place.
    fn headers(&self, message: &Message, metadata: &RequestMetadata) -> HeaderMap {
        let marks = match message.method() {
            Some(TOOLS_CALL) => mirror::called_tool(message).and_then(|tool| self.tools.guard().get(&tool).cloned()),
            _ => None,
        };
        let marks = marks.and_then(Result::ok);
        let mut headers = self.core.http.headers().clone();
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
            let mut known = self.tools.guard();
            let is_new = known.get(&name) != Some(&marks);
            if let (Err(why), true) = (&marks, is_new) {
                let mask = |words: &str| self.core.http.masked_line(words.as_bytes());
                warn!("hiding the tool {}: {}", mask(&name), mask(why));
            }
            let hidden = marks.is_err();
            if name.len() <= LONGEST_NAME && known.len() < MOST_TOOLS || known.contains_key(&name) {
                known.insert(name, marks);
            }
            hidden
        })
    }

    /// Reads the tools until the one that is called is there. Whether it is.
    async fn read_schema(&self, attempt: &ModernAttempt) -> bool {
        let Some(tool) = mirror::called_tool(&attempt.message) else { return false };
        self.tools.guard().remove(&tool);
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let meta = attempt.metadata.to_json();
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":"tools/list","params":{{{cursor}"_meta":{meta}}}}}"#,
                Id::fresh()
            );
            let Ok(request) = Message::from_text(text) else { return false };
            let page = match self.ask(&request, &attempt.metadata).await {
                Ok(page) => page,
                Err(error) => {
                    debug!("cannot list the tools: {}", chain(&error));
                    return false;
                }
            };
            let next = next_cursor(&page.body);
            self.learn_tools(page);
            if self.tools.guard().contains_key(&tool) {
                return true;
            }
            let Some(next) = next else { return false };
            cursor = format!(r#""cursor":{next},"#);
        }
        false
    }

    /// A request of this program; its answer stays here.
    async fn ask(&self, request: &Message, metadata: &RequestMetadata) -> Result<Message, Error> {
        let response = self.core.http.post(self.core.http.server(), &self.headers(request, metadata), request).await?;
        let mut asked: Vec<Id> = request.requests().cloned().collect();
        let reader = match self.core.http.content(response).await? {
            Content::Events(reader) => reader,
            Content::Message(answer, _) => return sole_answer(answer, &asked, &self.core.http),
            Content::Empty => return Err(Error::NoAnswer("sent an empty response")),
        };
        let mut stream = ResumableStream::new(*reader, StreamKind::Unasked);
        while let Some(message) = stream.next(&self.core.http).await? {
            if matches!(&message.shape, Shape::Response { id: Some(id) } if take(id, &mut asked).is_some()) {
                return Ok(message);
            }
        }
        Err(Error::NoAnswer("completed the response stream without an answer"))
    }

    /// Asks `server/discover`; returns the answer of a server that speaks a modern version.
    async fn discover(&self, request: &Message, retry_for: Duration) -> Result<Message, Error> {
        let metadata = RequestMetadata::of(request).unwrap_or_default();
        let mut tries = Tries::new(self.core.http.server(), &self.core.http.retries, request, retry_for);
        let (mut request, mut has_repeated) = (request.clone(), false);
        let after = self.core.limits.initialize_timeout;
        loop {
            let asked = self.core.timeout_excluding_sign_in(after, self.ask(&request, &metadata)).await;
            let error = match asked.unwrap_or(Err(Error::Silent { what: "answer to server/discover", after })) {
                Ok(answer) if peek::error(&answer.body).is_none() => {
                    let verdict = verdict::of_answer(&answer);
                    let words = self.core.http.masked_line(&answer.body.copy(0..EVIDENCE));
                    self.remember(verdict, words.clone(), verdict::supported_versions(&answer)).await;
                    if verdict == EraVerdict::Legacy {
                        return Err(Error::LegacyServer { words: Some(words) });
                    }
                    self.prove();
                    return Ok(answer);
                }
                Ok(refusal) => self.core.http.not_legacy(refusal),
                Err(error) => error,
            };
            // MCP 2026-07-28, Versioning: again with a version that both have, also if it is the one that was asked.
            let shared = error.answer().and_then(verdict::modern_refusal).is_some_and(|refusal| refusal.is_shared());
            if shared && !std::mem::replace(&mut has_repeated, true) {
                request = request.with_id(&Id::fresh());
                continue;
            }
            let (verdict, words) = (verdict_of(&error), words_of(&error, &self.core.http));
            self.remember(verdict, words.clone(), Vec::new()).await;
            if verdict == EraVerdict::Legacy {
                return Err(Error::LegacyServer { words: Some(words) });
            }
            tries.wait_after(error).await?;
        }
    }

    /// The answer to a call of a hidden tool.
    fn refuse_hidden_tool(&self, message: &Message) -> Option<Message> {
        let Some(TOOLS_CALL) = message.method() else { return None };
        let tool = mirror::called_tool(message)?;
        let why = self.tools.guard().get(&tool)?.as_ref().err().cloned()?;
        let text = format!("mcp-remote: the tool {tool} cannot be called: {why}");
        let line = report::error_line(message.requests().next()?, report::INVALID_PARAMS, &text, None::<&()>);
        Message::from_remote(crate::message::Body::One(line)).ok()
    }

    /// The server speaks a modern version.
    fn prove(&self) {
        if !self.is_proven.swap(true, Relaxed) {
            info!("connected over Streamable HTTP, protocol version {}", FIRST_MODERN);
            self.core.http.observer.tell(|| Fact::Opened(mcp::TransportKind::StreamableHttp, Era::Modern));
        }
    }

    /// Keeps what the answer to `server/discover` says, before the host has it: hosts end the process that asks.
    async fn remember(&self, verdict: EraVerdict, evidence: String, versions: Vec<String>) {
        let era = match verdict {
            EraVerdict::Modern => Era::Modern,
            EraVerdict::Legacy => Era::Legacy,
            EraVerdict::Undecided => return,
        };
        if self.eras.load().await.is_none_or(|before| before.era != era) {
            self.eras.save(KnownEra::new(era, versions, format!("{DISCOVER}: {evidence}"))).await;
        }
    }
}

impl Connection<Modern> {
    /// Asks `server/discover` with this request of the program, or of the host; the answer does not go to the host.
    ///
    /// # Errors
    /// [`Error::LegacyServer`] if the server speaks no modern version, and those of any request.
    pub(super) async fn discover(&self, request: &Message, retry_for: Duration) -> Result<Message, Error> {
        self.transport().discover(request, retry_for).await
    }
}

impl Transport for Modern {
    type Attempt = ModernAttempt;

    /// MCP 2026-07-28, Cancellation.
    const CANCELS_BY_CLOSING: bool = true;

    fn core(&self) -> &Core {
        &self.core
    }

    /// MCP 2026-07-28, Streamable HTTP, Sending Messages: a client sends requests only.
    fn takes(&self, message: &Message) -> bool {
        match &message.shape {
            Shape::Notification { method } => debug!("not sending {method}: MCP 2026-07-28 has no such notification"),
            Shape::Response { .. } => {
                debug!("not sending a response of the host: MCP 2026-07-28 has no client responses")
            }
            Shape::Request { .. } | Shape::Batch(_) => return true,
        }
        false
    }

    /// A host does not wait for the answer to `server/discover`; it goes on with `initialize`, which is tried again.
    fn retry_for(&self, message: &Message) -> Duration {
        if message.method() == Some(DISCOVER) { Duration::ZERO } else { self.core.limits.retry_for }
    }

    async fn begin(&self, message: &Message) -> Result<ModernAttempt, Event> {
        if let Some(refusal) = self.refuse_hidden_tool(message) {
            return Err(Event::Message(refusal));
        }
        Ok(ModernAttempt {
            message: message.clone(),
            sent: message.clone(),
            metadata: RequestMetadata::of(message).unwrap_or_default(),
            acknowledged: None,
            reopened: false,
            since: Instant::now(),
            backoff: Backoff::up_to(LONGEST_REOPENING_PAUSE),
            has_listed: false,
            may_have_run: false,
        })
    }

    async fn carry_once(
        &self,
        message: &Message,
        unanswered: &mut Vec<Id>,
        attempt: &mut ModernAttempt,
    ) -> Result<(), Error> {
        if std::mem::take(&mut attempt.may_have_run) && message.method() != Some(LISTEN) {
            // MCP 2026-07-28, Overview, Requests: an id is used once.
            attempt.sent = message.with_id(&Id::fresh());
        }
        attempt.since = Instant::now();
        self.exchange(attempt, unanswered).await
    }

    async fn recover(&self, message: &Message, attempt: &mut ModernAttempt, error: Error) -> Result<(), Error> {
        // Not refused, but lost.
        if attempt.acknowledged.is_some()
            && (error.may_pass() || matches!(error, Error::TooLarge { .. } | Error::NoRoom { .. } | Error::Expands))
        {
            if attempt.since.elapsed() >= STABLE {
                attempt.backoff = Backoff::up_to(LONGEST_REOPENING_PAUSE);
            }
            attempt.reopened = true;
            let pause = attempt.backoff.pause();
            let sentence = format!("the notification stream was lost ({})", self.core.sentence(&error));
            self.core.http.retries.note(&sentence, Some(pause));
            tokio::time::sleep(pause).await;
            return Ok(());
        }
        // MCP 2026-07-28, Streamable HTTP, Client Behavior: the schema has changed, or was never seen.
        let mismatch = error
            .answer()
            .and_then(|answer| peek::error(&answer.body))
            .is_some_and(|error| error.code == HEADER_MISMATCH);
        if mismatch && message.method() == Some(TOOLS_CALL) && !std::mem::replace(&mut attempt.has_listed, true) {
            info!("the server requires other headers for this tool; reading its schema");
            if self.read_schema(attempt).await {
                attempt.may_have_run = true; // an id is used once, also where the request was refused
                return Ok(());
            }
        }
        attempt.may_have_run = !matches!(error, Error::Connect(_) | Error::ProxyDown { .. });
        Err(error)
    }

    async fn explain(&self, _: &Message, attempt: &ModernAttempt, error: Error) -> Error {
        // A request may fail for many reasons; but a 4xx that does not answer it is one of a server that has not
        // understood it.
        let is_evidence = !self.is_proven.load(Relaxed) && is_not_understood(&error, &attempt.sent);
        if is_evidence && verdict_of(&error) == EraVerdict::Legacy {
            return Error::LegacyServer { words: Some(words_of(&error, &self.core.http)) };
        }
        error
    }
}

/// Returns whether a server has refused a request without an answer to it.
fn is_not_understood(error: &Error, request: &Message) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.status.is_client_error() && !refusal.answers(request))
}

/// What a failed exchange says about the era of the server.
fn verdict_of(error: &Error) -> EraVerdict {
    match (error, error.answer()) {
        (Error::NotLegacy { answer, .. }, _) => verdict::of_answer(answer),
        (Error::Refused(refusal), Some(answer)) => match verdict::of_status(refusal.status) {
            EraVerdict::Undecided => EraVerdict::Undecided,
            _ => verdict::of_answer(answer),
        },
        (Error::Refused(refusal), None) => verdict::of_status(refusal.status),
        (Error::NotMcp(_) | Error::BadMessage(_) | Error::NoAnswer(_), _) => EraVerdict::Legacy,
        _ => EraVerdict::Undecided,
    }
}

/// The server's words, where they are the answer to the request.
fn words_of(error: &Error, http: &Http) -> String {
    let words = match error {
        Error::NotLegacy { answer, .. } => peek::error(&answer.body).and_then(|error| error.message),
        _ => None,
    };
    words.map_or_else(|| chain(error), |words| http.masked_line(words.as_bytes()))
}

/// What a stream of notifications covers (MCP 2026-07-28, Subscriptions, Notification Filter).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NotificationFilter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<Box<RawValue>>,
}

impl NotificationFilter {
    /// Reads the filter of a request or an acknowledgment.
    fn of(message: &Message) -> Self {
        #[derive(Default, Deserialize)]
        struct Params {
            #[serde(default)]
            notifications: NotificationFilter,
        }
        peek::params::<Params>(message).unwrap_or_default().notifications
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
