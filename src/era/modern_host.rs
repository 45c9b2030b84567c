//! A modern host before a legacy server (MCP 2026-07-28 and 2025-11-25): `server/discover` is answered from a real
//! `initialize`, and what a legacy server asks for in the middle of a call becomes the result of that call; the call that
//! the host then sends again continues the one that the server still works on.
//!
//! # Invariants
//!
//! - A host is sent no request and no notification that it has not asked for.
//! - A handle continues one call of one method with the same params, once.
//! - A call that the host does not continue ends at the server, too.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use log::{debug, info, warn};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    RequestMetadata,
    bridge::{Bridge, Due, Step},
    capabilities::{InputCapabilities, ServerCapabilities, without_tasks},
    envelope::{
        self, CLIENT_CAPABILITIES, CLIENT_INFO, COMPLETE, INPUT_REQUIRED, LOG_LEVEL, RESULT_TYPE, SERVER_INFO,
        SUBSCRIPTION_ID, cancelled, edit_meta, with_params, with_result,
    },
    input::{MOST_REQUESTS, MOST_WAITING},
    listening::NotificationFilter,
    verdict::UNSUPPORTED_VERSION,
};
use crate::{
    mcp::{
        LOG_LEVELS,
        method::{
            ACKNOWLEDGED, CANCELLED, DISCOVER, ELICITATION_COMPLETE, ELICITATION_CREATE, INITIALIZE, INITIALIZED,
            LISTEN, LOG_MESSAGE, PING, PROGRESS, PROMPTS_CHANGED, PROMPTS_GET, PROMPTS_LIST, RESOURCE_UPDATED,
            RESOURCES_CHANGED, RESOURCES_LIST, RESOURCES_READ, RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE, ROOTS_LIST,
            SAMPLING_CREATE, SET_LEVEL, TEMPLATES_LIST, TOOLS_CALL, TOOLS_CHANGED, TOOLS_LIST,
        },
        version::{FIRST_MODERN, NEWEST_LEGACY},
    },
    message::{Body, Id, Message, Shape, members::Members, peek},
    report,
};

/// How long a host may take to continue a call that asks for input.
const HOST_PATIENCE: Duration = Duration::from_secs(600);
/// What a server asks for within this time is put to the host together.
const GATHERING: Duration = Duration::from_millis(20);
/// How long a question for the roots waits for a call: servers ask when they have just been told `initialized`.
const PARKING: Duration = Duration::from_secs(60);
/// MCP 2025-11-25, Elicitation, URL Elicitation Required; MCP 2026-07-28 has no such code.
const URL_ELICITATION_REQUIRED: i64 = -32042;
/// MCP 2025-11-25, Resources, Error Handling; `-32602` since.
const RESOURCE_NOT_FOUND: i64 = -32002;
/// Codes that MCP 2026-07-28 keeps for itself (Overview, Error Codes).
const RESERVED: std::ops::RangeInclusive<i64> = -32099..=-32020;

/// The bridge.
#[derive(Debug)]
pub(crate) struct ModernHost {
    introduction: Introduction,
    offers: ServerCapabilities,
    /// Calls by the id that they have at the server: the one of their first request.
    calls: HashMap<Id, Call>,
    /// The same by the id of the request that waits for them, where it is another one.
    legs: HashMap<Id, Id>,
    /// Calls that ask for input, by their handle.
    suspended: HashMap<String, Suspended>,
    streams: BTreeMap<String, ListenStream>,
    /// Requests of this bridge.
    own: HashMap<Id, Own>,
    /// What the log level is at the server, and requests that wait until it is.
    level: Option<usize>,
    waiting_for_level: Vec<Message>,
    /// The roots as the host has named them: it cannot say that they have changed.
    roots: Option<Box<RawValue>>,
    /// Questions for the roots that no call carries yet.
    parked: Vec<Id>,
    steps: VecDeque<Step>,
}

/// What the server has said of itself, as the result of `server/discover`.
#[derive(Debug)]
struct Introduction(String);

/// A request of the host at the server.
#[derive(Debug)]
struct Call {
    /// The request of the host that waits for the answer; none while the host is asked for input.
    leg: Option<Id>,
    /// What a handle is bound to.
    binding: Binding,
    can: InputCapabilities,
    /// The least severe log level that the host wants to see.
    level: Option<usize>,
    /// The progress token at the server, and the one of the request that waits now.
    tokens: Option<(Id, Id)>,
    /// What the server asks for, and the host has not been asked yet.
    gathered: Vec<ServerRequest>,
    /// The answer that came while the host was asked.
    kept: Option<Message>,
}

/// A request of the server.
#[derive(Clone, Debug)]
struct ServerRequest {
    id: Id,
    method: String,
    params: Option<Box<RawValue>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Binding {
    method: String,
    /// Of the params without what a retry may change.
    digest: Vec<u8>,
}

/// A call that asks for input.
#[derive(Debug)]
struct Suspended {
    binding: Binding,
    what: Continuation,
}

#[derive(Debug)]
enum Continuation {
    /// The call still runs at the server, which waits for answers to these: its id there, and requests by key.
    Running { call: Id, asked: Vec<(String, ServerRequest)> },
    /// The server has ended the call: it is made anew.
    Anew,
}

/// A stream of notifications of the host.
#[derive(Debug)]
struct ListenStream {
    id: Id,
    filter: NotificationFilter,
    /// Resources that the server has not confirmed yet.
    pending: usize,
    is_acknowledged: bool,
}

/// What a request of this bridge was for.
#[derive(Debug)]
enum Own {
    SetLevel,
    /// For the stream with this id, as text.
    Subscribe {
        stream: String,
        uri: String,
    },
    Other,
}

/// Returns the `initialize` that is sent in the place of a modern request (MCP 2025-11-25, Lifecycle, Initialization).
pub(crate) fn initialize_for(first: &Message) -> Option<Message> {
    let text = first.body.to_bytes();
    let whole = Members::read(&text)?;
    let params = whole.object("params").unwrap_or_default();
    let meta = params.object("_meta").unwrap_or_default();
    let mut capabilities = meta.object(CLIENT_CAPABILITIES).unwrap_or_default();
    without_tasks(&mut capabilities);
    let mut params = Members::default();
    params.put("protocolVersion", &NEWEST_LEGACY);
    params.put("capabilities", &capabilities);
    match meta.get(CLIENT_INFO) {
        Some(info) => params.set("clientInfo", info.to_owned()),
        None => params.put("clientInfo", &json!({ "name": "unknown", "version": "unknown" })),
    }
    let id = Id::fresh();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{INITIALIZE}","params":{}}}"#, params.to_json());
    Message::from_text(text).ok()
}

/// Returns the notification that ends the handshake.
pub(crate) fn initialized() -> Option<Message> {
    Message::from_text(format!(r#"{{"jsonrpc":"2.0","method":"{INITIALIZED}"}}"#)).ok()
}

impl ModernHost {
    /// Begins with the server's answer to `initialize`.
    pub(crate) fn begin(server: &str, initialized: &Message) -> Self {
        let text = initialized.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let result = whole.object("result").unwrap_or_default();
        Self {
            introduction: Introduction::of(server, &result),
            offers: ServerCapabilities::of(&result.object("capabilities").unwrap_or_default()),
            calls: HashMap::new(),
            legs: HashMap::new(),
            suspended: HashMap::new(),
            streams: BTreeMap::new(),
            own: HashMap::new(),
            level: None,
            waiting_for_level: Vec::new(),
            roots: None,
            parked: Vec::new(),
            steps: VecDeque::new(),
        }
    }

    // The host's side.

    fn request(&mut self, id: &Id, method: &str, message: &Message) {
        if let Some((code, why, data)) = wrong_version(message, method) {
            let line = report::error_line(id, code, &format!("mcp-remote: {why}"), data.as_ref());
            return self.steps.extend(Message::from_remote(Body::One(line)).ok().map(Step::ToHost));
        }
        match method {
            DISCOVER => {
                let result = self.introduction.0.clone();
                self.answer(id, &result);
            }
            LISTEN => self.listen(id, message),
            TOOLS_CALL | PROMPTS_GET | RESOURCES_READ if handle_of(message).is_some() => {
                self.go_on(id, method, message)
            }
            _ if method.starts_with("tasks/") => {
                self.refuse(id, report::METHOD_NOT_FOUND, "the server speaks MCP 2025-11-25 or earlier: no tasks");
            }
            _ => self.call(id, method, message),
        }
    }

    fn call(&mut self, id: &Id, method: &str, message: &Message) {
        let Some(binding) = Binding::of(method, message) else {
            return self.refuse(id, report::INVALID_PARAMS, "params is no object");
        };
        let Some(sent) = for_legacy_server(message) else {
            return self.refuse(id, report::INVALID_PARAMS, "params is no object");
        };
        let wishes = Wishes::of(message);
        let level = wishes.level.filter(|_| self.offers.logging);
        let call = Call {
            leg: Some(id.clone()),
            binding,
            can: wishes.can,
            level,
            tokens: peek::progress_token(message).map(|token| (token.clone(), token)),
            gathered: Vec::new(),
            kept: None,
        };
        self.calls.insert(id.clone(), call);
        // The level is of the whole session: the most that any request wants, and each gets its own.
        if let Some(level) = level.filter(|level| self.level.is_none_or(|known| *level < known)) {
            self.level = Some(level);
            let own = self.ask_server(SET_LEVEL, &json!({ "level": LOG_LEVELS.get(level) }), Own::SetLevel);
            debug!("the log level is set to {level} with {own}");
            self.waiting_for_level.push(sent);
        } else if self.own.values().any(|own| matches!(own, Own::SetLevel)) && level.is_some() {
            self.waiting_for_level.push(sent);
        } else {
            self.steps.push_back(Step::ToServer(sent));
        }
        self.offer_parked(id);
    }

    /// A call is sent again with what it was asked for.
    fn go_on(&mut self, id: &Id, method: &str, message: &Message) {
        let handle = handle_of(message).unwrap_or_default();
        let binding = Binding::of(method, message);
        let is_bound = |suspended: &Suspended| binding.as_ref() == Some(&suspended.binding);
        if !self.suspended.get(&handle).is_some_and(is_bound) {
            let why = "requestState continues no call of these params: it was used before, has expired, or its server is gone";
            return self.refuse(id, report::INVALID_PARAMS, why);
        }
        let Some(Suspended { what, .. }) = self.suspended.remove(&handle) else { return };
        let (call_id, asked) = match what {
            Continuation::Running { call, asked } => (call, asked),
            Continuation::Anew => {
                return self.call(id, method, &without_input(message).unwrap_or_else(|| message.clone()));
            }
        };
        let text = message.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let params = whole.object("params").unwrap_or_default();
        let responses = params.object("inputResponses").unwrap_or_default();
        let wishes = Wishes::of(message);
        let mut missing = Vec::new();
        let mut answered = Vec::new();
        for (key, request) in asked {
            match responses.get(&key) {
                Some(response) => answered.push((request, response.to_owned())),
                None => missing.push(request),
            }
        }
        let Some(call) = self.calls.get_mut(&call_id) else {
            return self.refuse(id, report::INVALID_PARAMS, "the call is over at the server");
        };
        call.leg = Some(id.clone());
        call.can = wishes.can;
        if let (Some((_, token)), Some(new)) = (&mut call.tokens, peek::progress_token(message)) {
            *token = new;
        }
        call.gathered.extend(missing);
        let is_incomplete = !call.gathered.is_empty();
        let kept = call.kept.take();
        self.legs.insert(id.clone(), call_id.clone());
        for (request, response) in answered {
            if request.method == ROOTS_LIST {
                self.roots = Some(response.clone());
            }
            self.respond(&request.id, response.get());
        }
        match kept {
            Some(answer) => self.finish(&call_id, answer),
            None if is_incomplete => self.suspend(&call_id),
            None => {}
        }
    }

    fn cancel(&mut self, message: &Message) {
        let Some(id) = peek::cancelled_id(message) else { return };
        if let Some(stream) = self.streams.remove(id.as_json()) {
            return self.unsubscribe(&stream.filter);
        }
        let call_id = self.legs.remove(&id).unwrap_or(id);
        if self.calls.get(&call_id).is_some_and(|call| call.leg.is_some()) {
            self.end_at_server(&call_id);
        }
    }

    /// The host does not want a call any more.
    fn end_at_server(&mut self, call_id: &Id) {
        let Some(call) = self.calls.remove(call_id) else { return };
        self.legs.retain(|_, call| call != call_id);
        self.waiting_for_level.retain(|waiting| waiting.requests().next() != Some(call_id));
        for request in call.gathered {
            self.refuse_server(&request.id, "the call was cancelled");
        }
        self.steps.extend(cancelled(call_id).map(Step::ToServer));
    }

    // The server's side.

    fn response(&mut self, id: &Id, message: Message) {
        if let Some(own) = self.own.remove(id) {
            return self.own_answer(own, &message);
        }
        let Some(call) = self.calls.get_mut(id) else {
            return debug!("a response to {id} is dropped: nothing with that id is pending");
        };
        if call.leg.is_none() {
            call.kept = Some(message); // the host is still asked; the answer is for the request that it sends then
            return;
        }
        let gathered = std::mem::take(&mut call.gathered);
        for request in gathered {
            debug!("the server has answered without waiting for its own request {}", request.id);
        }
        self.finish(id, message);
    }

    fn finish(&mut self, call_id: &Id, answer: Message) {
        let Some(call) = self.calls.remove(call_id) else { return };
        let Some(leg) = call.leg else { return };
        self.legs.remove(&leg);
        let answer = if leg == *call_id { answer } else { answer.with_id(&leg) };
        if let Some(error) = peek::error(&answer.body) {
            if error.code == URL_ELICITATION_REQUIRED
                && let Some(requests) = elicitations(error.data.as_deref())
            {
                let lacks = requests
                    .iter()
                    .any(|(_, request)| call.can.lacks(ELICITATION_CREATE, request.params.as_deref()).is_some());
                if !lacks {
                    return self.ask(&leg, call.binding, Continuation::Anew, &requests);
                }
            }
            let code = match error.code {
                RESOURCE_NOT_FOUND => i64::from(report::INVALID_PARAMS),
                code if RESERVED.contains(&code) => i64::from(report::INTERNAL_ERROR),
                _ => return self.steps.push_back(Step::ToHost(answer)),
            };
            let coded = with_code(&answer, code).unwrap_or(answer);
            return self.steps.push_back(Step::ToHost(coded));
        }
        let is_cacheable = matches!(
            call.binding.method.as_str(),
            TOOLS_LIST | PROMPTS_LIST | RESOURCES_LIST | TEMPLATES_LIST | RESOURCES_READ
        );
        let complete = with_result(&answer, |result| {
            result.put_missing(RESULT_TYPE, &COMPLETE);
            if is_cacheable {
                result.put_missing("ttlMs", &0);
                result.put_missing("cacheScope", &"private");
            }
        });
        self.steps.push_back(Step::ToHost(complete.unwrap_or(answer)));
    }

    /// A request of the server, in the middle of the call with this id, if that is known.
    fn server_request(&mut self, id: &Id, method: &str, message: &Message, related: Option<&Id>) {
        match method {
            PING => return self.respond(id, "{}"),
            SAMPLING_CREATE | ELICITATION_CREATE | ROOTS_LIST => {}
            _ => return self.refuse_server(id, &format!("this client has no {method}")),
        }
        if let (ROOTS_LIST, Some(roots)) = (method, &self.roots) {
            let roots = roots.get().to_owned();
            return self.respond(id, &roots);
        }
        let text = message.body.to_bytes();
        let params = Members::read(&text).and_then(|whole| whole.get("params").map(ToOwned::to_owned));
        let request = ServerRequest { id: id.clone(), method: method.to_owned(), params };
        let takes = |call: &Call| {
            matches!(call.binding.method.as_str(), TOOLS_CALL | PROMPTS_GET | RESOURCES_READ)
                && call.can.lacks(method, request.params.as_deref()).is_none()
        };
        let call_id = match related.and_then(|related| self.calls.get_key_value(related)) {
            Some((related, call)) => takes(call).then(|| related.clone()),
            // Not said (HTTP+SSE, the GET stream): the only call that can carry it.
            None => {
                let mut able = self.calls.iter().filter(|(_, call)| call.leg.is_some() && takes(call));
                able.next().filter(|_| able.next().is_none()).map(|(id, _)| id.clone())
            }
        };
        match call_id {
            Some(call) => self.gather(&call, request),
            None if method == ROOTS_LIST && related.is_none() && self.parked.len() < MOST_REQUESTS => {
                self.parked.push(id.clone());
                self.steps.push_back(Step::Remind(PARKING, Due::Parked { request: id.clone() }));
            }
            None => {
                let why = "no call of this client can carry this: MCP 2026-07-28 has it in the middle of a call only";
                info!("{method} of the server is refused: {why}");
                self.refuse_server(id, why);
            }
        }
    }

    fn gather(&mut self, call_id: &Id, request: ServerRequest) {
        let Some(call) = self.calls.get_mut(call_id) else { return };
        if call.gathered.len() >= MOST_REQUESTS {
            return self.refuse_server(&request.id, "too many requests at once");
        }
        call.gathered.push(request);
        if call.gathered.len() == 1 && call.leg.is_some() {
            self.steps.push_back(Step::Remind(GATHERING, Due::Gathered { call: call_id.clone() }));
        }
    }

    /// Puts parked questions to the first call that can carry them.
    fn offer_parked(&mut self, call_id: &Id) {
        let takes = self.calls.get(call_id).is_some_and(|call| {
            matches!(call.binding.method.as_str(), TOOLS_CALL | PROMPTS_GET | RESOURCES_READ)
                && call.can.lacks(ROOTS_LIST, None).is_none()
        });
        if takes {
            for id in std::mem::take(&mut self.parked) {
                self.gather(call_id, ServerRequest { id, method: ROOTS_LIST.to_owned(), params: None });
            }
        }
    }

    /// Answers a request of the host with what the server asks for.
    fn suspend(&mut self, call_id: &Id) {
        let Some(call) = self.calls.get_mut(call_id) else { return };
        let Some(leg) = call.leg.take() else { return };
        let requests = std::mem::take(&mut call.gathered);
        let asked: Vec<_> =
            requests.into_iter().enumerate().map(|(at, request)| (format!("{}", at + 1), request)).collect();
        let binding = call.binding.clone();
        self.legs.remove(&leg);
        let shown = asked.clone();
        self.ask(&leg, binding, Continuation::Running { call: call_id.clone(), asked }, &shown);
    }

    fn ask(&mut self, leg: &Id, binding: Binding, what: Continuation, asked: &[(String, ServerRequest)]) {
        let Some(handle) = handle().filter(|_| self.suspended.len() < MOST_WAITING) else {
            if let Continuation::Running { call, asked } = what {
                for (_, request) in asked {
                    self.refuse_server(&request.id, "too many calls wait for input");
                }
                self.end_at_server(&call);
            }
            return self.refuse(leg, report::INTERNAL_ERROR, "too many calls wait for input");
        };
        let mut requests = Members::default();
        for (key, request) in asked {
            let mut member = Members::default();
            member.put("method", &request.method);
            if let Some(params) = &request.params {
                member.set("params", for_modern_host(&request.method, params));
            }
            requests.put(key, &member);
        }
        let mut result = Members::default();
        result.put(RESULT_TYPE, &INPUT_REQUIRED);
        result.put("inputRequests", &requests);
        result.put("requestState", &handle);
        self.answer(leg, &result.to_json());
        self.suspended.insert(handle.clone(), Suspended { binding, what });
        self.steps.push_back(Step::Remind(HOST_PATIENCE, Due::Handle(handle)));
    }

    fn notification(&mut self, method: &str, message: Message, related: Option<&Id>) {
        match method {
            TOOLS_CHANGED | PROMPTS_CHANGED | RESOURCES_CHANGED | RESOURCE_UPDATED => {
                let uri = peek::uri(&message);
                let covers = |filter: &NotificationFilter| match method {
                    TOOLS_CHANGED => filter.tools_list_changed,
                    PROMPTS_CHANGED => filter.prompts_list_changed,
                    RESOURCES_CHANGED => filter.resources_list_changed,
                    _ => uri.as_ref().is_some_and(|uri| filter.resource_subscriptions.contains(uri)),
                };
                let about = self.streams.values().filter(|stream| stream.is_acknowledged && covers(&stream.filter));
                let tagged = about.filter_map(|stream| tagged(&message, &stream.id)).map(Step::ToHost);
                self.steps.extend(tagged.collect::<Vec<_>>());
            }
            PROGRESS => {
                let Some((token, _)) = peek::progress(&message) else { return };
                let tokens =
                    self.calls.values().filter(|call| call.leg.is_some()).filter_map(|call| call.tokens.as_ref());
                let Some((first, now)) = tokens.into_iter().find(|(first, _)| first.same_value(&token)) else {
                    return debug!("progress of no request that waits is dropped");
                };
                let passed = if first == now {
                    Some(message)
                } else {
                    let now = RawValue::from_string(now.as_json().to_owned()).ok();
                    now.and_then(|now| with_params(&message, |params| params.set("progressToken", now)))
                };
                self.steps.extend(passed.map(Step::ToHost));
            }
            LOG_MESSAGE => {
                // MCP 2026-07-28, Logging: of a request, and only if it has asked.
                let wants =
                    |call: &Call| call.leg.is_some() && call.level.is_some_and(|level| level_of(&message) >= level);
                let is_wanted = match related {
                    Some(related) => self.calls.get(related).is_some_and(wants),
                    None => false,
                };
                if is_wanted {
                    self.steps.push_back(Step::ToHost(message));
                }
            }
            CANCELLED => {
                let Some(id) = peek::cancelled_id(&message) else { return };
                self.parked.retain(|parked| *parked != id);
                self.calls.values_mut().for_each(|call| call.gathered.retain(|request| request.id != id));
            }
            ELICITATION_COMPLETE => debug!("{method} is dropped: MCP 2026-07-28 has none"),
            _ => debug!("{method} of the server is dropped: no stream of MCP 2026-07-28 has it"),
        }
    }

    // Streams of notifications.

    fn listen(&mut self, id: &Id, message: &Message) {
        #[derive(Deserialize)]
        struct Params {
            #[serde(default)]
            notifications: NotificationFilter,
        }
        let asked = peek::params::<Params>(message).map(|params| params.notifications).unwrap_or_default();
        let offers = &self.offers;
        let mut filter = NotificationFilter {
            tools_list_changed: asked.tools_list_changed && offers.features.tools_list_changed,
            prompts_list_changed: asked.prompts_list_changed && offers.features.prompts_list_changed,
            resources_list_changed: asked.resources_list_changed && offers.features.resources_list_changed,
            resource_subscriptions: if offers.subscriptions {
                asked.resource_subscriptions
            } else {
                Default::default()
            },
        };
        let name = id.as_json().to_owned();
        let is_new =
            |uri: &&String| !self.streams.values().any(|stream| stream.filter.resource_subscriptions.contains(*uri));
        let new: Vec<String> = filter.resource_subscriptions.iter().filter(is_new).cloned().collect();
        let pending = new.len();
        filter.resource_subscriptions.retain(|uri| !uri.is_empty());
        self.streams.insert(name.clone(), ListenStream { id: id.clone(), filter, pending, is_acknowledged: false });
        for uri in new {
            let own = Own::Subscribe { stream: name.clone(), uri: uri.clone() };
            self.ask_server(RESOURCES_SUBSCRIBE, &json!({ "uri": uri }), own);
        }
        self.acknowledge(&name);
    }

    /// Acknowledges a stream, once everything of it is confirmed (MCP 2026-07-28, Subscriptions, Acknowledgment).
    fn acknowledge(&mut self, name: &str) {
        let Some(stream) = self.streams.get_mut(name).filter(|stream| stream.pending == 0 && !stream.is_acknowledged)
        else {
            return;
        };
        stream.is_acknowledged = true;
        let meta = to_raw_value(&stream.filter).map(|filter| filter.get().to_owned()).unwrap_or_default();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"{ACKNOWLEDGED}","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{}}},"notifications":{meta}}}}}"#,
            stream.id
        );
        self.steps.extend(Message::from_remote(Body::One(text.into())).ok().map(Step::ToHost));
    }

    /// Ends the subscriptions of a stream that is gone, as far as no other has them.
    fn unsubscribe(&mut self, gone: &NotificationFilter) {
        for uri in &gone.resource_subscriptions {
            if !self.streams.values().any(|stream| stream.filter.resource_subscriptions.contains(uri)) {
                self.ask_server(RESOURCES_UNSUBSCRIBE, &json!({ "uri": uri }), Own::Other);
            }
        }
    }

    fn own_answer(&mut self, own: Own, message: &Message) {
        let error = peek::error(&message.body);
        match own {
            Own::SetLevel => {
                if let Some(error) = error {
                    info!("the server takes no log level: {:?}", error.message.unwrap_or_default());
                }
                self.steps.extend(std::mem::take(&mut self.waiting_for_level).into_iter().map(Step::ToServer));
            }
            Own::Subscribe { stream, uri } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.pending -= 1;
                    if error.is_some() {
                        stream.filter.resource_subscriptions.remove(&uri);
                    }
                }
                self.acknowledge(&stream);
            }
            Own::Other => {}
        }
    }

    // What is sent.

    fn ask_server(&mut self, method: &str, params: &Value, own: Own) -> Id {
        let id = Id::fresh();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.steps.extend(Message::from_text(text).ok().map(Step::ToServer));
        self.own.insert(id.clone(), own);
        id
    }

    fn respond(&mut self, id: &Id, result: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        self.steps.extend(Message::from_remote(Body::One(text.into())).ok().map(Step::ToServer));
    }

    fn refuse_server(&mut self, id: &Id, why: &str) {
        let line = report::error_line(id, report::METHOD_NOT_FOUND, &format!("mcp-remote: {why}"), None::<&()>);
        self.steps.extend(Message::from_remote(Body::One(line)).ok().map(Step::ToServer));
    }

    fn answer(&mut self, id: &Id, result: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        self.steps.extend(Message::from_remote(Body::One(text.into())).ok().map(Step::ToHost));
    }

    fn refuse(&mut self, id: &Id, code: i32, why: &str) {
        let line = report::error_line(id, code, &format!("mcp-remote: {why}"), None::<&()>);
        self.steps.extend(Message::from_remote(Body::One(line)).ok().map(Step::ToHost));
    }
}

impl Bridge for ModernHost {
    fn on_host(&mut self, message: Message) {
        match &message.shape {
            Shape::Request { id, method } => {
                let (id, method) = (id.clone(), method.clone());
                self.request(&id, &method, &message);
            }
            Shape::Notification { method } if &**method == CANCELLED => self.cancel(&message),
            Shape::Notification { method } => debug!("{method} is not sent: MCP 2026-07-28 has no such notification"),
            Shape::Response { .. } => debug!("a response of the host is dropped: it was sent no request"),
            Shape::Batch(_) => message.split().into_iter().flatten().for_each(|part| self.on_host(part)),
        }
    }

    fn on_server(&mut self, message: Message, related: Option<&Id>) {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                let id = id.clone();
                self.response(&id, message);
            }
            Shape::Response { id: None } => debug!("a response without an id is dropped"),
            Shape::Request { id, method } => {
                let (id, method) = (id.clone(), method.clone());
                self.server_request(&id, &method, &message, related);
            }
            Shape::Notification { method } => {
                let method = method.clone();
                self.notification(&method, message, related);
            }
            Shape::Batch(_) => message.into_parts().for_each(|part| self.on_server(part, related)),
        }
    }

    fn on_lost(&mut self, ids: &[Id]) -> Vec<Id> {
        let mut lost = Vec::new();
        for id in ids {
            if let Some(own) = self.own.remove(id) {
                match own {
                    Own::SetLevel => {
                        self.steps.extend(std::mem::take(&mut self.waiting_for_level).into_iter().map(Step::ToServer));
                    }
                    Own::Subscribe { stream, uri } => {
                        if let Some(stream) = self.streams.get_mut(&stream) {
                            stream.pending -= 1;
                            stream.filter.resource_subscriptions.remove(&uri);
                        }
                        self.acknowledge(&stream);
                    }
                    Own::Other => {}
                }
                continue;
            }
            let Some(call) = self.calls.remove(id) else { continue };
            self.suspended
                .retain(|_, suspended| !matches!(&suspended.what, Continuation::Running { call, .. } if call == id));
            if let Some(leg) = call.leg {
                self.legs.remove(&leg);
                lost.push(leg);
            }
        }
        lost
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Gathered { call } => {
                if self.calls.get(&call).is_some_and(|call| !call.gathered.is_empty()) {
                    self.suspend(&call);
                }
            }
            Due::Handle(handle) => {
                if let Some(Suspended { what: Continuation::Running { call, asked }, .. }) =
                    self.suspended.remove(&handle)
                {
                    warn!("the host did not continue a call within {} minutes", HOST_PATIENCE.as_secs() / 60);
                    for (_, request) in asked {
                        self.refuse_server(&request.id, "the user gave no answer");
                    }
                    self.end_at_server(&call);
                }
            }
            Due::Parked { request } => {
                if let Some(at) = self.parked.iter().position(|parked| *parked == request) {
                    self.parked.remove(at);
                    self.refuse_server(&request, "no call has come that could carry this");
                }
            }
            Due::Person { .. } | Due::Retry { .. } | Due::Poll { .. } | Due::Listen => {}
        }
    }

    /// What may have changed unseen is announced.
    fn on_renewed(&mut self, answer: &Message) {
        let text = answer.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let result = whole.object("result").unwrap_or_default();
        self.offers = ServerCapabilities::of(&result.object("capabilities").unwrap_or_default());
        for stream in self.streams.values().filter(|stream| stream.is_acknowledged) {
            let changes = stream.filter.changes().filter_map(|change| tagged(&change, &stream.id));
            self.steps.extend(changes.map(Step::ToHost));
        }
    }

    fn step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.legs.is_empty() && self.suspended.is_empty() && self.own.is_empty()
    }
}

impl Introduction {
    fn of(server: &str, result: &Members<'_>) -> Self {
        let mut capabilities = result.object("capabilities").unwrap_or_default();
        without_tasks(&mut capabilities);
        let mut discovered = Members::default();
        discovered.put(RESULT_TYPE, &COMPLETE);
        discovered.put("supportedVersions", &[FIRST_MODERN]);
        discovered.put("capabilities", &capabilities);
        let mut meta = Members::default();
        match result.get("serverInfo") {
            Some(info) => meta.set(SERVER_INFO, info.to_owned()),
            None => meta.put(SERVER_INFO, &json!({ "name": server, "version": "unknown" })),
        }
        discovered.put("_meta", &meta);
        if let Some(instructions) = result.get("instructions") {
            discovered.set("instructions", instructions.to_owned());
        }
        discovered.put("ttlMs", &0);
        discovered.put("cacheScope", &"private");
        Self(discovered.to_json())
    }
}

impl Binding {
    /// Of a request; `None` if its params are no object.
    fn of(method: &str, request: &Message) -> Option<Self> {
        let text = request.body.to_bytes();
        let whole = Members::read(&text)?;
        let mut params = match whole.get("params") {
            Some(_) => whole.object("params")?,
            None => Members::default(),
        };
        for changing in ["_meta", "inputResponses", "requestState"] {
            params.remove(changing);
        }
        let digest = digest(&SHA256, params.to_json().as_bytes()).as_ref().to_vec();
        Some(Self { method: method.to_owned(), digest })
    }
}

/// What a request says about its own answer.
#[derive(Default)]
struct Wishes {
    can: InputCapabilities,
    level: Option<usize>,
}

impl Wishes {
    fn of(request: &Message) -> Self {
        let text = request.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let params = whole.object("params").unwrap_or_default();
        let meta = params.object("_meta").unwrap_or_default();
        Self {
            can: meta.object(CLIENT_CAPABILITIES).as_ref().map(InputCapabilities::of).unwrap_or_default(),
            level: meta
                .value::<String>(LOG_LEVEL)
                .and_then(|level| LOG_LEVELS.iter().position(|known| *known == level)),
        }
    }
}

/// How severe a log message is; an unknown level counts as the most severe.
fn level_of(message: &Message) -> usize {
    #[derive(Deserialize)]
    struct Params {
        level: String,
    }
    let named = peek::params::<Params>(message).map(|params| params.level);
    named.and_then(|named| LOG_LEVELS.iter().position(|known| *known == named)).unwrap_or(LOG_LEVELS.len())
}

/// Returns the code, the words and the data with which a request is refused because of its version (MCP 2026-07-28,
/// Versioning; Overview, `_meta`).
fn wrong_version(request: &Message, method: &str) -> Option<(i32, String, Option<Value>)> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
        version: String,
    }
    let named = peek::params::<Params>(request).map(|params| params.meta.version);
    match named.as_deref() {
        Some(FIRST_MODERN) => None,
        // A host that asks what there is may not know yet what to send.
        None if method == DISCOVER && RequestMetadata::of(request).is_none() => None,
        None => {
            let why = "params._meta has no io.modelcontextprotocol/protocolVersion".to_owned();
            Some((report::INVALID_PARAMS, why, None))
        }
        Some(other) => {
            let data = json!({ "supported": [FIRST_MODERN], "requested": other });
            Some((UNSUPPORTED_VERSION as i32, format!("MCP {other:?} is not supported"), Some(data)))
        }
    }
}

/// Returns a request without what legacy servers do not know.
fn for_legacy_server(request: &Message) -> Option<Message> {
    with_params(request, |params| edit_meta(params, envelope::strip))
}

/// Returns a request without the answers and the handle of a retry.
fn without_input(request: &Message) -> Option<Message> {
    with_params(request, |params| {
        params.remove("inputResponses");
        params.remove("requestState");
    })
}

/// Returns the handle in a request that continues a call.
fn handle_of(request: &Message) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        request_state: String,
    }
    peek::params::<Params>(request).map(|params| params.request_state)
}

/// Returns a handle that nobody can guess (MCP 2026-07-28, Multi Round-Trip Requests, Server Requirements).
fn handle() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns params of a server's request as modern hosts take them.
fn for_modern_host(method: &str, params: &RawValue) -> Box<RawValue> {
    let plain = || {
        let mut elicitation = Members::read(params.get().as_bytes())?;
        (method == ELICITATION_CREATE && elicitation.remove("elicitationId"))
            .then(|| to_raw_value(&elicitation).ok())?
    };
    plain().unwrap_or_else(|| params.to_owned())
}

/// Reads the pages that a server wants to be visited before a call (MCP 2025-11-25, URL Elicitation Required).
fn elicitations(data: Option<&RawValue>) -> Option<Vec<(String, ServerRequest)>> {
    let data = Members::read(data?.get().as_bytes())?;
    let pages: Vec<&RawValue> = data.value("elicitations")?;
    if pages.is_empty() || pages.len() > MOST_REQUESTS {
        return None;
    }
    let request = |(at, page): (usize, &RawValue)| {
        let request =
            ServerRequest { id: Id::fresh(), method: ELICITATION_CREATE.to_owned(), params: Some(page.to_owned()) };
        (format!("{}", at + 1), request)
    };
    Some(pages.into_iter().enumerate().map(request).collect())
}

/// Returns an error under another code.
fn with_code(answer: &Message, code: i64) -> Option<Message> {
    let text = answer.body.to_bytes();
    let mut whole = Members::read(&text)?;
    let error = {
        let mut error = whole.object("error")?;
        error.put("code", &code);
        to_raw_value(&error).ok()?
    };
    whole.set("error", error);
    Message::from_remote(Body::One(whole.to_json().into())).ok()
}

/// Returns a notification with the stream that it belongs to.
fn tagged(notification: &Message, stream: &Id) -> Option<Message> {
    let id = RawValue::from_string(stream.as_json().to_owned()).ok()?;
    with_params(notification, |params| edit_meta(params, |meta| meta.set(SUBSCRIPTION_ID, id)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::bridge::tests::{NOTHING, Played, message, text},
        *,
    };

    const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"h","version":"1.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;
    const INITIALIZED_ANSWER: &str = r#"{"jsonrpc":"2.0","id":"i","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},"tasks":{}},"serverInfo":{"name":"s","version":"2.0"},"instructions":"i\u0041"}}"#;

    fn played() -> Played<ModernHost> {
        Played::new(ModernHost::begin("s:1", &message(INITIALIZED_ANSWER)))
    }

    fn request(id: u32, method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}"_meta":{{{META}}}}}}}"#)
    }

    fn call(id: u32, more: &str) -> String {
        request(id, "tools/call", &format!(r#""name":"t","arguments":{{"n":1.0}},{more}"#))
    }

    fn elicit(id: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{{"message":"m","elicitationId":"e"}}}}"#
        )
    }

    fn input_required(id: u32, requests: &str, handle: &str) -> String {
        format!(
            r#"< {{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{requests}}},"requestState":"{handle}"}}}}"#
        )
    }

    const ELICITED: &str = r#""1":{"method":"elicitation/create","params":{"message":"m"}}"#;

    #[test]
    fn initialize_is_made_of_metadata() {
        let initialize = text(&initialize_for(&message(&request(1, "server/discover", ""))).unwrap());
        assert!(
            initialize.ends_with(r#","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}},"clientInfo":{"name":"h","version":"1.0"}}}"#),
            "{initialize}"
        );
    }

    #[test]
    fn discover_is_answered_from_initialize() {
        assert_eq!(
            played().host(&request(1, "server/discover", "")),
            [
                r#"< {"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2.0"}},"instructions":"i\u0041","ttlMs":0,"cacheScope":"private"}}"#
            ]
        );
    }

    #[test]
    fn request_loses_metadata_and_result_gets_its_type() {
        let mut played = played();
        assert_eq!(
            played.host(&call(1, "")),
            [r#"> {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#]
        );
        assert_eq!(
            played.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[], "n":1e400}}"#),
            [r#"< {"jsonrpc":"2.0","id":1,"result":{"content":[],"n":1e400,"resultType":"complete"}}"#]
        );
        let progress = request(2, "tools/list", "").replace("\"_meta\":{", r#""_meta":{"progressToken":7,"#);
        assert_eq!(
            played.host(&progress),
            [r#"> {"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"progressToken":7}}}"#]
        );
        assert_eq!(
            played.server(r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#),
            [
                r#"< {"jsonrpc":"2.0","id":2,"result":{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}}"#
            ]
        );
    }

    #[test]
    fn wrong_version_is_refused_without_the_server() {
        let mut played = played();
        let other = played.host(&request(1, "tools/list", "").replace("2026-07-28", "2099-01-01"));
        assert_eq!(
            other,
            [
                r#"< {"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"mcp-remote: MCP \"2099-01-01\" is not supported","data":{"requested":"2099-01-01","supported":["2026-07-28"]}}}"#
            ]
        );
        let none = played.host(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#);
        assert!(none[0].contains(r#""code":-32602"#) && none.len() == 1, "{none:?}");
        assert!(played.host(&request(3, "tasks/get", ""))[0].contains(r#""code":-32601"#));
    }

    #[test]
    fn request_of_the_server_becomes_the_result_and_its_answer_continues_the_call() {
        let mut played = played();
        played.host(&call(1, ""));
        assert_eq!(played.related("1", &elicit("7")), ["! 20ms"]);
        assert_eq!(played.due(0), [input_required(1, ELICITED, "#1"), "! 600s".to_owned()]);
        let answers = r##""inputResponses":{"1":{"action":"accept" , "content":{}}},"requestState":"#1","##;
        assert_eq!(
            played.host(&call(2, answers)),
            [r#"> {"jsonrpc":"2.0","id":7,"result":{"action":"accept" , "content":{}}}"#]
        );
        // Another round, and then the answer.
        assert_eq!(played.related("1", &elicit("8")), ["! 20ms"]);
        assert_eq!(played.due(2)[0], input_required(2, ELICITED, "#2"));
        let answers = r##""inputResponses":{"1":{}},"requestState":"#2","##;
        assert_eq!(played.host(&call(3, answers)), [r#"> {"jsonrpc":"2.0","id":8,"result":{}}"#]);
        assert_eq!(
            played.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#),
            [r#"< {"jsonrpc":"2.0","id":3,"result":{"content":[],"resultType":"complete"}}"#]
        );
        assert!(played.bridge.calls.is_empty() && played.bridge.legs.is_empty() && played.bridge.suspended.is_empty());
    }

    #[test]
    fn requests_of_one_moment_are_asked_together_and_missing_ones_again() {
        let mut played = played();
        played.host(&call(1, ""));
        played.related("1", &elicit("7"));
        assert_eq!(played.related("1", r#"{"jsonrpc":"2.0","id":8,"method":"roots/list"}"#), NOTHING);
        let both = format!(r#"{ELICITED},"2":{{"method":"roots/list"}}"#);
        assert_eq!(played.due(0)[0], input_required(1, &both, "#1"));
        let one = r##""inputResponses":{"2":{"roots":[]}},"requestState":"#1","##;
        let asked = played.host(&call(2, one));
        assert_eq!(asked[0], r#"> {"jsonrpc":"2.0","id":8,"result":{"roots":[]}}"#);
        assert_eq!(asked[1], input_required(2, ELICITED, "#2"));
        // The roots are known now.
        assert_eq!(
            played.server(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#),
            [r#"> {"jsonrpc":"2.0","id":9,"result":{"roots":[]}}"#]
        );
    }

    #[test]
    fn handle_continues_its_own_call_once() {
        let mut played = played();
        played.host(&call(1, ""));
        played.related("1", &elicit("7"));
        played.due(0);
        let answers = r##""inputResponses":{"1":{}},"requestState":"#1","##;
        for other in [
            call(2, answers).replace("\"name\":\"t\"", "\"name\":\"other\""),
            call(2, answers).replace("1.0", "2.0"),
            call(2, answers).replace("#1", "0123"),
            request(2, "resources/read", answers),
        ] {
            let refused = played.host(&other);
            assert!(refused[0].contains(r#""code":-32602"#) && refused.len() == 1, "{refused:?}");
        }
        assert_eq!(played.host(&call(3, answers)).len(), 1);
        assert!(played.host(&call(4, answers))[0].contains("it was used before"), "a second time");
    }

    #[test]
    fn call_that_is_not_continued_ends_at_the_server() {
        let mut played = played();
        played.host(&call(1, ""));
        played.related("1", &elicit("7"));
        played.due(0);
        let ended = played.due(1);
        assert!(ended[0].starts_with(r#"> {"jsonrpc":"2.0","id":7,"error":"#), "{ended:?}");
        assert_eq!(ended[1], r#"> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
        assert!(played.host(&call(2, r##""requestState":"#1","##))[0].contains(r#""code":-32602"#));
        // What is cancelled while it runs is cancelled at the server under its own id.
        played.host(&call(5, ""));
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
        assert_eq!(played.host(cancel), [format!("> {cancel}")]);
        assert_eq!(played.server(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#), NOTHING);
    }

    #[test]
    fn answer_that_comes_while_the_host_is_asked_is_kept() {
        let mut played = played();
        played.host(&call(1, ""));
        played.related("1", &elicit("7"));
        played.due(0);
        assert_eq!(played.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#), NOTHING);
        let done = played.host(&call(2, r##""inputResponses":{"1":{}},"requestState":"#1","##));
        assert_eq!(done[1], r#"< {"jsonrpc":"2.0","id":2,"result":{"content":[],"resultType":"complete"}}"#);
        // A lost one is lost for the request that waits, and a suspended one for its handle.
        played.host(&call(5, ""));
        assert_eq!(played.bridge.on_lost(&[Id::from_json(b"5")]), [Id::from_json(b"5")]);
    }

    #[test]
    fn request_that_no_call_carries_is_refused_or_parked() {
        let mut played = played();
        let sampling = r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#;
        assert!(played.server(sampling)[0].contains(r#""code":-32601"#));
        assert_eq!(
            played.server(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#),
            [r#"> {"jsonrpc":"2.0","id":8,"result":{}}"#]
        );
        assert_eq!(played.server(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#), ["! 60s"]);
        // A call that cannot say what the server wants to know.
        played.host(&call(1, "").replace(r#""sampling":{},"#, ""));
        assert!(played.related("1", sampling)[0].contains(r#""code":-32601"#));
        assert_eq!(played.dues.len(), 2, "the call carries the roots");
        assert_eq!(played.due(1)[0], input_required(1, r#""1":{"method":"roots/list"}"#, "#1"));
        played.server(r#"{"jsonrpc":"2.0","id":10,"method":"roots/list"}"#);
        let late = played.dues.len() - 1;
        assert!(played.due(late)[0].contains(r#""id":10,"error""#));
    }

    #[test]
    fn codes_of_the_other_era_do_not_reach_the_host() {
        let mut played = played();
        for (id, code, expected) in [(1, -32002, -32602), (2, -32050, -32603), (3, -32000, -32000), (4, -32602, -32602)]
        {
            played.host(&request(id, "resources/read", r#""uri":"u:a","#));
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"m","data":1.0}}}}"#);
            assert_eq!(
                played.server(&answer),
                [format!("< {}", answer.replace(&code.to_string(), &i32::to_string(&expected)))]
            );
        }
        // Pages to visit first: the call is made anew after that.
        played.host(&call(5, ""));
        let asked = played.server(
            r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://a.example","message":"go","elicitationId":"e"}]}}}"#,
        );
        let page =
            r#""1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a.example","message":"go"}}"#;
        assert_eq!(asked[0], input_required(5, page, "#1"));
        assert_eq!(
            played.host(&call(6, r##""inputResponses":{"1":{"action":"accept"}},"requestState":"#1","##)),
            [r#"> {"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#]
        );
    }

    #[test]
    fn notifications_reach_the_streams_that_are_about_them() {
        let mut played = played();
        let acknowledged = played.host(&request(
            1,
            "subscriptions/listen",
            r#""notifications":{"toolsListChanged":true,"promptsListChanged":true},"#,
        ));
        assert_eq!(
            acknowledged,
            [
                r#"< {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"notifications":{"toolsListChanged":true}}}"#
            ],
            "the server reports no changes of prompts"
        );
        let two = r#""notifications":{"resourceSubscriptions":["u:a"]},"#;
        let subscribing = played.host(&request(2, "subscriptions/listen", two));
        assert_eq!(
            subscribing,
            [r##"> {"jsonrpc":"2.0","id":#1,"method":"resources/subscribe","params":{"uri":"u:a"}}"##]
        );
        assert!(played.server(r##"{"jsonrpc":"2.0","id":#1,"result":{}}"##)[0].contains("acknowledged"));
        assert_eq!(played.host(&request(3, "subscriptions/listen", two)).len(), 1, "the server has this one");
        assert_eq!(
            played.server(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#),
            [
                r#"< {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#
            ]
        );
        let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u:a"}}"#;
        assert_eq!(played.server(updated).len(), 2);
        let cancel = |id: u32| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
        };
        assert_eq!(played.host(&cancel(2)), NOTHING, "another stream has the resource");
        assert_eq!(played.server(updated).len(), 1);
        assert!(played.host(&cancel(3))[0].contains("resources/unsubscribe"));
        assert_eq!(played.server(updated), NOTHING);
        played.bridge.on_renewed(&message(INITIALIZED_ANSWER));
        assert_eq!(played.steps().len(), 1, "what was missed is announced");
    }

    #[test]
    fn refused_subscription_is_not_acknowledged() {
        let mut played = played();
        played.host(&request(1, "subscriptions/listen", r#""notifications":{"resourceSubscriptions":["u:a"]},"#));
        let acknowledged = played.server(r##"{"jsonrpc":"2.0","id":#1,"error":{"code":-32602,"message":"no"}}"##);
        assert!(acknowledged[0].ends_with(r#""notifications":{}}}"#), "{acknowledged:?}");
    }

    #[test]
    fn log_level_is_set_before_the_request_and_filtered_for_it() {
        let mut played = played();
        let with_level = |id: u32, level: &str| {
            call(id, "").replace("\"_meta\":{", &format!(r#""_meta":{{"io.modelcontextprotocol/logLevel":"{level}","#))
        };
        let set = played.host(&with_level(1, "info"));
        assert_eq!(set, [r##"> {"jsonrpc":"2.0","id":#1,"method":"logging/setLevel","params":{"level":"info"}}"##]);
        assert_eq!(played.server(r##"{"jsonrpc":"2.0","id":#1,"result":{}}"##).len(), 1, "now the call");
        assert!(played.host(&with_level(2, "error"))[0].contains("tools/call"), "less than that is told already");
        assert!(played.host(&call(3, ""))[0].contains("tools/call"));
        let log = |level: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1}}}}"#)
        };
        for (to, level, passes) in [
            ("1", "info", true),
            ("1", "debug", false),
            ("2", "warning", false),
            ("2", "error", true),
            ("3", "error", false),
        ] {
            assert_eq!(played.related(to, &log(level)).len(), usize::from(passes), "{to} {level}");
        }
        assert_eq!(played.server(&log("emergency")), NOTHING, "of no request");
    }

    #[test]
    fn progress_follows_the_request_that_waits() {
        let mut played = played();
        let with_token = |id: u32, more: &str| {
            call(id, more).replace("\"_meta\":{", &format!(r#""_meta":{{"progressToken":"p{id}","#))
        };
        played.host(&with_token(1, ""));
        let progress = |value: u32| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p1","progress":{value}}}}}"#
            )
        };
        assert_eq!(played.related("1", &progress(1)), [format!("< {}", progress(1))]);
        played.related("1", &elicit("7"));
        played.due(0);
        assert_eq!(played.related("1", &progress(2)), NOTHING, "nobody waits");
        played.host(&with_token(2, r##""inputResponses":{"1":{}},"requestState":"#1","##));
        assert_eq!(played.related("1", &progress(3)), [format!("< {}", progress(3).replace("p1", "p2"))]);
    }
}
