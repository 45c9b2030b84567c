//! A modern host before a legacy server (MCP 2026-07-28 and 2025-11-25): `server/discover` is answered from a real
//! `initialize`, and what a legacy server asks for in the middle of a call becomes the result of that call; the call that
//! the host then sends again continues the one that the server still works on.
//!
//! # Invariants
//!
//! - A host is sent no request and no notification that it has not asked for.
//! - A handle continues one call of one method with the same params, once.
//! - A call that the host does not continue ends at the server, too.

mod translation;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use log::{debug, info, warn};
use serde::Deserialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use self::translation::{
    Binding, Introduction, ServerRequest, Wishes, elicitations, for_legacy_server, for_modern_host, handle, handle_of,
    level_of, tagged, with_code, without_input, wrong_version,
};
pub(crate) use self::translation::{initialize_for, initialized};
use super::{
    bridge::{Bridge, Due, Step},
    capabilities::{InputCapabilities, ServerCapabilities},
    envelope::{self, COMPLETE, INPUT_REQUIRED, RESULT_TYPE, SUBSCRIPTION_ID, cancelled, with_params, with_result},
    input::{MOST_REQUESTS, MOST_ROUNDS, MOST_WAITING},
    listening::NotificationFilter,
};
use crate::{
    mcp::{
        LOG_LEVELS,
        method::{
            ACKNOWLEDGED, CANCELLED, DISCOVER, ELICITATION_COMPLETE, ELICITATION_CREATE, LISTEN, LOG_MESSAGE, PING,
            PROGRESS, PROMPTS_CHANGED, PROMPTS_GET, PROMPTS_LIST, RESOURCE_UPDATED, RESOURCES_CHANGED, RESOURCES_LIST,
            RESOURCES_READ, RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE, ROOTS_LIST, SAMPLING_CREATE, SET_LEVEL,
            TEMPLATES_LIST, TOOLS_CALL, TOOLS_CHANGED, TOOLS_LIST,
        },
    },
    message::{Body, Id, Message, Shape, members::Members, peek},
    report,
    text::one_line,
};

/// How long a host may take to continue a call that asks for input.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(600);
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
    /// Of the last call.
    serial: u64,
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

/// A request of the host at the server.
#[derive(Debug)]
struct Call {
    /// The request of the host that waits for the answer; none while the host is asked for input.
    leg: Option<Id>,
    /// In the order in which they came.
    serial: u64,
    /// How often the host was asked.
    rounds: u32,
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
            serial: 0,
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
                self.refuse(id, report::METHOD_NOT_FOUND, "the server does not support the tasks of MCP 2026-07-28");
            }
            _ => self.call(id, method, message),
        }
    }

    fn call(&mut self, id: &Id, method: &str, message: &Message) {
        let Some(binding) = Binding::of(method, message) else {
            return self.refuse(id, report::INVALID_PARAMS, "params is not an object");
        };
        let Some(sent) = for_legacy_server(message) else {
            return self.refuse(id, report::INVALID_PARAMS, "params is not an object");
        };
        let wishes = Wishes::of(message);
        let level = wishes.level.filter(|_| self.offers.logging);
        self.serial += 1;
        let call = Call {
            leg: Some(id.clone()),
            serial: self.serial,
            rounds: 0,
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
            debug!("setting the log level to {level} with request {own}");
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
            return self.refuse(id, report::INVALID_PARAMS, "the server has completed the call");
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

    /// The host no longer wants a call.
    fn end_at_server(&mut self, call_id: &Id) {
        let Some(call) = self.calls.remove(call_id) else { return };
        self.legs.retain(|_, call| call != call_id);
        self.waiting_for_level.retain(|waiting| waiting.requests().next() != Some(call_id));
        for request in call.gathered {
            self.refuse_server(&request.id, "the call was canceled");
        }
        self.steps.extend(cancelled(call_id).map(Step::ToServer));
    }

    // The server's side.

    fn response(&mut self, id: &Id, message: Message) {
        if let Some(own) = self.own.remove(id) {
            return self.own_answer(own, &message);
        }
        let Some(call) = self.calls.get_mut(id) else {
            return debug!("dropping the server's response to {}: no request with that ID is pending", id.line());
        };
        if call.leg.is_none() {
            call.kept = Some(message); // the host is still asked; the answer is for the request that it sends then
            return;
        }
        let gathered = std::mem::take(&mut call.gathered);
        for request in gathered {
            debug!("the server answered the call before it had an answer to its own request {}", request.id.line());
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
            _ => return self.refuse_server(id, &format!("this client does not support {method}")),
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
            // Not said (HTTP+SSE, the GET stream): the answer goes back under the server's own id, whichever call carries
            // the question. The first that carries none is the likeliest to have led to it.
            None => {
                let able = self.calls.iter().filter(|(_, call)| call.leg.is_some() && takes(call));
                able.min_by_key(|(_, call)| (call.gathered.len(), call.serial)).map(|(id, _)| id.clone())
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
                info!("refusing the server's request {}: {why}", one_line(method.as_bytes()));
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
        let Some(call) = self.calls.get_mut(call_id).filter(|call| call.leg.is_some()) else { return };
        let requests = std::mem::take(&mut call.gathered);
        if call.rounds >= MOST_ROUNDS {
            for request in requests {
                self.refuse_server(&request.id, "this call asked for input too often");
            }
            return;
        }
        call.rounds += 1;
        let Some(leg) = call.leg.take() else { return };
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
        self.steps.push_back(Step::Remind(CONTINUE_PATIENCE, Due::Handle(handle)));
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
                    return debug!("dropping a progress notification: no pending request has its token");
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
            ELICITATION_COMPLETE => debug!("dropping {method}: MCP 2026-07-28 has no such notification"),
            _ => {
                let method = one_line(method.as_bytes());
                debug!("dropping the server's {method}: no stream of MCP 2026-07-28 carries it");
            }
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
                    info!(
                        "the server rejected the log level: {}",
                        one_line(error.message.unwrap_or_default().as_bytes())
                    );
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
        self.steps.extend(envelope::response(id, result).map(Step::ToServer));
    }

    fn refuse_server(&mut self, id: &Id, why: &str) {
        self.steps.extend(envelope::refusal(id, report::METHOD_NOT_FOUND, why).map(Step::ToServer));
    }

    fn answer(&mut self, id: &Id, result: &str) {
        self.steps.extend(envelope::response(id, result).map(Step::ToHost));
    }

    fn refuse(&mut self, id: &Id, code: i32, why: &str) {
        self.steps.extend(envelope::refusal(id, code, why).map(Step::ToHost));
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
            Shape::Notification { method } => debug!("not sending {method}: MCP 2026-07-28 has no such notification"),
            Shape::Response { .. } => debug!("dropping a response of the host: no request was sent to the host"),
            Shape::Batch(_) => message.split().into_iter().flatten().for_each(|part| self.on_host(part)),
        }
    }

    fn on_server(&mut self, message: Message, related: Option<&Id>) {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                let id = id.clone();
                self.response(&id, message);
            }
            Shape::Response { id: None } => debug!("dropping a response without an ID"),
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
                    warn!(
                        "the host did not continue a call within {} min; ending the call",
                        CONTINUE_PATIENCE.as_secs() / 60
                    );
                    for (_, request) in asked {
                        self.refuse_server(&request.id, "the user did not answer");
                    }
                    self.end_at_server(&call);
                }
            }
            Due::Parked { request } => {
                if let Some(at) = self.parked.iter().position(|parked| *parked == request) {
                    self.parked.remove(at);
                    self.refuse_server(&request, "no call is open that could carry this request");
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

#[cfg(test)]
mod tests;
