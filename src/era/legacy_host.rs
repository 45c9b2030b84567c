//! A legacy host before a modern server (MCP 2025-11-25 and 2026-07-28): `initialize` is answered from `server/discover`,
//! every request gets the metadata of its era, and what a modern server asks for in a result is put to the host as the
//! requests that legacy servers send.
//!
//! What has no counterpart is answered here: `ping`, `logging/setLevel` (the level goes with each later request),
//! `resources/subscribe` (a stream of notifications stands for it). Tasks of 2025-11-25 are refused; a call that a server
//! makes a task of its own extension is answered when the task ends.
//!
//! # Invariants
//!
//! - The host is sent no result but a complete one.
//! - A call that is sent again carries what its own server has asked for, and no other's.
//! - The host's params and the server's results stay as they are written, but for what the other era forbids.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use log::{debug, info, warn};
use serde::Deserialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    bridge::{Bridge, Due, Step},
    capabilities::{InputCapabilities, ServerCapabilities, TASKS_EXTENSION, is_url_mode, without_tasks},
    envelope::{
        self, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROTOCOL_VERSION, ResultType, SERVER_INFO, SUBSCRIPTION_ID,
        cancelled, edit_meta, result_type, with_params, with_result,
    },
    input::{InputRequest, InputRequired, MOST_ROUNDS, MOST_WAITING},
    listening::{Changes, Listening, NotificationFilter},
    tasks::{self, MOST_LOST, Task, TaskStatus},
    verdict,
};
use crate::{
    mcp::{
        LOG_LEVELS,
        method::{
            ACKNOWLEDGED, CANCELLED, DISCOVER, ELICITATION_CREATE, INITIALIZED, LISTEN, PING, PROGRESS, PROMPTS_GET,
            RESOURCES_READ, RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE, SET_LEVEL, TASKS_CANCEL, TASKS_GET,
            TASKS_UPDATE, TOOLS_CALL, TOOLS_LIST,
        },
        version::{FIRST_MODERN, LEGACY, NEWEST_LEGACY},
    },
    message::{Body, Id, Message, Shape, members::Members, peek},
    report::{self, Code, Report},
    text::one_line,
};

/// How long a person may take for what a server asks in the middle of a call.
const PERSON_PATIENCE: Duration = Duration::from_secs(600);
/// Pause before a stream of notifications is opened again that the server has ended: it may be restarting.
const REOPENING_PAUSE: Duration = Duration::from_secs(5);
/// Pause before a call is sent again that waits for nothing but the server; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The bridge.
#[derive(Debug)]
pub(crate) struct LegacyHost {
    /// Host and port of the server, for people.
    server: String,
    /// What the host has said of itself in its `initialize`.
    metadata: Metadata,
    can: InputCapabilities,
    offers: ServerCapabilities,
    level: Option<String>,
    calls: HashMap<Id, Call>,
    /// Requests to the server that are not under the id that the host has given.
    legs: HashMap<Id, Id>,
    /// Requests to the host.
    asked: HashMap<Id, Asked>,
    /// Requests about the tasks that calls have become, with the call.
    about_tasks: HashMap<Id, (Id, AboutTask)>,
    listening: Listening,
    steps: VecDeque<Step>,
}

/// The metadata of every request.
#[derive(Debug)]
struct Metadata {
    client_info: Option<Box<RawValue>>,
    capabilities: Box<RawValue>,
}

/// A request of the host that the server has not answered.
#[derive(Debug)]
struct Call {
    request: Message,
    /// The id under which it is at the server.
    leg: Id,
    /// How often it was sent again.
    round: u32,
    state: CallState,
    progress: Option<Reached>,
    /// The server needs tasks for it, and has been told that it may.
    with_tasks: bool,
    /// What the call has become, if that is a task.
    task: Option<Task>,
}

impl Call {
    /// Whether a request with this id is at the server for it.
    fn is_at_server(&self, id: &Id) -> bool {
        self.leg == *id && self.task.is_none() && matches!(self.state, CallState::Sent)
    }
}

/// How far the progress of a call is: it must increase, and a call that is sent again begins anew.
#[derive(Debug)]
struct Reached {
    token: Id,
    value: Option<f64>,
}

#[derive(Debug)]
enum CallState {
    /// It is at the server.
    Sent,
    /// The host is asked for what the server wants.
    Asking { state: Option<Box<RawValue>>, open: Vec<Id>, answers: Vec<(String, Box<RawValue>)> },
    /// It is sent again in a moment.
    Pausing { state: Option<Box<RawValue>> },
}

/// What a request about a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AboutTask {
    Get,
    Update,
    Cancel,
}

/// A request to the host in the middle of a call.
#[derive(Debug)]
struct Asked {
    call: Id,
    key: String,
}

/// Returns the `server/discover` that is asked in the place of a host's `initialize`.
pub(crate) fn discover_for(initialize: &Message) -> Option<Message> {
    let request = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{DISCOVER}"}}"#, Id::fresh());
    Metadata::of(initialize).applied_to(&Message::from_text(request).ok()?, None, false)
}

impl LegacyHost {
    /// Begins with the host's `initialize` and the server's answer to `server/discover`. Returns the answer to the host,
    /// too.
    ///
    /// # Errors
    /// Where no version is shared, in words.
    pub(crate) fn begin(server: String, initialize: &Message, discovered: &Message) -> Result<(Self, Message), String> {
        let versions = verdict::supported_versions(discovered);
        if !versions.iter().any(|version| version == FIRST_MODERN) {
            return Err(versions.join(", "));
        }
        let text = discovered.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let discovered = whole.object("result").unwrap_or_default();
        let answer = introduction(&server, initialize, &discovered);
        let text = initialize.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let params = whole.object("params").unwrap_or_default();
        let bridge = Self {
            server,
            metadata: Metadata::of(initialize),
            can: params.object("capabilities").as_ref().map(InputCapabilities::of).unwrap_or_default(),
            offers: discovered.object("capabilities").as_ref().map(ServerCapabilities::of).unwrap_or_default(),
            level: None,
            calls: HashMap::new(),
            legs: HashMap::new(),
            asked: HashMap::new(),
            about_tasks: HashMap::new(),
            listening: Listening::default(),
            steps: VecDeque::new(),
        };
        Ok((bridge, answer))
    }

    // The host's side.

    fn request(&mut self, id: &Id, method: &str, message: &Message) {
        match method {
            PING => self.answer(id, "{}"),
            SET_LEVEL if self.offers.logging => self.set_level(id, message),
            RESOURCES_SUBSCRIBE if self.offers.subscriptions => match peek::uri(message) {
                Some(uri) => {
                    let changes = self.listening.subscribe(id.clone(), uri);
                    self.follow(changes);
                }
                None => self.refuse(id, report::INVALID_PARAMS, "resources/subscribe has no uri"),
            },
            RESOURCES_UNSUBSCRIBE if self.offers.subscriptions => {
                let changes = peek::uri(message).map(|uri| self.listening.unsubscribe(&uri)).unwrap_or_default();
                self.answer(id, "{}");
                self.follow(changes);
            }
            SET_LEVEL | RESOURCES_SUBSCRIBE | RESOURCES_UNSUBSCRIBE => {
                self.refuse(id, report::METHOD_NOT_FOUND, &format!("the server has no {method}"));
            }
            _ if method.starts_with("tasks/") => {
                self.refuse(id, report::METHOD_NOT_FOUND, "the tasks of MCP 2025-11-25 do not exist at this server");
            }
            TOOLS_CALL if wants_task(message) => {
                self.refuse(id, report::INVALID_PARAMS, "the tasks of MCP 2025-11-25 do not exist at this server");
            }
            _ => self.send(id, message),
        }
    }

    fn send(&mut self, id: &Id, message: &Message) {
        let Some(sent) = self.metadata.applied_to(message, self.level.as_deref(), false) else {
            return self.refuse(id, report::INVALID_PARAMS, "params is no object");
        };
        let progress = peek::progress_token(message).map(|token| Reached { token, value: None });
        let call = Call {
            request: message.clone(),
            leg: id.clone(),
            round: 0,
            state: CallState::Sent,
            progress,
            with_tasks: false,
            task: None,
        };
        self.calls.insert(id.clone(), call);
        self.steps.push_back(Step::ToServer(sent));
    }

    fn set_level(&mut self, id: &Id, message: &Message) {
        #[derive(Deserialize)]
        struct Params {
            level: String,
        }
        match peek::params::<Params>(message).filter(|params| LOG_LEVELS.contains(&params.level.as_str())) {
            Some(Params { level }) => {
                self.level = Some(level);
                self.answer(id, "{}");
            }
            None => self.refuse(id, report::INVALID_PARAMS, "this is no log level"),
        }
    }

    fn cancel(&mut self, message: &Message) {
        let Some(id) = peek::cancelled_id(message) else { return };
        self.listening.forget(&id);
        let Some(call) = self.calls.remove(&id) else { return debug!("{id} is not pending: nothing to cancel") };
        self.legs.remove(&call.leg);
        if let Some(task) = &call.task {
            self.about_task(&id, task.id.clone(), AboutTask::Cancel, None);
        }
        match call.state {
            CallState::Sent if call.task.is_some() => {}
            CallState::Sent => self.cancel_at_server(&call.leg),
            CallState::Asking { open, .. } => self.withdraw(open),
            CallState::Pausing { .. } => {}
        }
    }

    /// The host has answered a request that this bridge has made.
    fn answered(&mut self, id: &Id, message: &Message) {
        let Some(Asked { call: call_id, key }) = self.asked.remove(id) else {
            return debug!("an answer of the host to {id} is dropped: nothing waits for it");
        };
        let Some(Call { state: CallState::Asking { open, answers, .. }, .. }) = self.calls.get_mut(&call_id) else {
            return;
        };
        open.retain(|open| open != id);
        let text = message.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let Some(result) = whole.get("result") else {
            // An answer cannot be made up, and a call without it cannot go on.
            let error = whole.get("error").map_or_else(|| "null".to_owned(), |error| error.get().to_owned());
            return self.end_with_error(&call_id, &error);
        };
        answers.push((key, result.to_owned()));
        if !open.is_empty() {
            return;
        }
        match self.calls.get(&call_id).and_then(|call| call.task.as_ref()).map(|task| task.id.clone()) {
            Some(task) => self.update_task(&call_id, task),
            None => self.send_again(&call_id),
        }
    }

    // The server's side.

    fn response(&mut self, id: &Id, message: Message) {
        if self.listening.has(id) {
            let changes = match peek::error(&message.body) {
                Some(error) => {
                    info!("{} opens no stream of notifications: {}", self.server, quoted(error.message));
                    self.listening.on_refused(id)
                }
                None => self.listening.on_ended(id),
            };
            return self.follow(changes);
        }
        if let Some((call, about)) = self.about_tasks.remove(id) {
            return self.task_answer(&call, about, &message);
        }
        let call_id = self.legs.remove(id).unwrap_or_else(|| id.clone());
        let Some(call) = self.calls.get_mut(&call_id).filter(|call| call.is_at_server(id)) else {
            return debug!("a response to {id} is dropped: nothing with that id is pending");
        };
        let method = call.request.method().unwrap_or_default().to_owned();
        let method = method.as_str();
        if method == TOOLS_CALL && !call.with_tasks && tasks::are_required(&message.body) {
            call.with_tasks = true;
            call.state = CallState::Pausing { state: None };
            return self.send_again(&call_id); // it was refused, so it did not run
        }
        match result_type(&message.body) {
            ResultType::Complete => {
                let message = adapted(method, message);
                self.calls.remove(&call_id);
                self.steps.push_back(Step::ToHost(if *id == call_id { message } else { message.with_id(&call_id) }));
            }
            ResultType::InputRequired if matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ) => {
                match InputRequired::read(&message) {
                    Ok(input) => self.ask(&call_id, input),
                    Err(what) => self.fail(&call_id, &format!("asked for input in a way that cannot be read: {what}")),
                }
            }
            ResultType::InputRequired => {
                self.fail(&call_id, &format!("asked for input in the answer to {method}, where MCP has none"));
            }
            ResultType::Task => match Task::begin(&message.body).filter(|_| call.with_tasks) {
                Some(task) => {
                    debug!("the server makes {call_id} a task");
                    self.steps.push_back(Step::Remind(task.poll, Due::Poll { call: call_id.clone() }));
                    call.task = Some(task);
                }
                None => self.fail(&call_id, "answered with a task, which nobody has asked for"),
            },
            ResultType::Unknown(named) => {
                let named = one_line(named.as_bytes());
                self.fail(&call_id, &format!("answered with a result of the unknown type {named:?}"));
            }
        }
    }

    // Tasks.

    /// Asks the server something about a task.
    fn about_task(&mut self, call: &Id, task: Box<RawValue>, about: AboutTask, responses: Option<Box<RawValue>>) {
        let method = match about {
            AboutTask::Get => TASKS_GET,
            AboutTask::Update => TASKS_UPDATE,
            AboutTask::Cancel => TASKS_CANCEL,
        };
        let mut params = Members::default();
        params.set("taskId", task);
        if let Some(responses) = responses {
            params.set("inputResponses", responses);
        }
        let id = Id::fresh();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{}}}"#, params.to_json());
        let request = Message::from_text(text).ok().and_then(|request| self.metadata.applied_to(&request, None, true));
        self.about_tasks.insert(id, (call.clone(), about));
        self.steps.extend(request.map(Step::ToServer));
    }

    fn update_task(&mut self, call_id: &Id, task: Box<RawValue>) {
        let Some(call) = self.calls.get_mut(call_id) else { return };
        if let CallState::Asking { answers, .. } = std::mem::replace(&mut call.state, CallState::Sent) {
            self.about_task(call_id, task, AboutTask::Update, responses(&answers));
        }
    }

    fn task_answer(&mut self, call_id: &Id, about: AboutTask, answer: &Message) {
        let Some(call) = self.calls.get_mut(call_id) else { return };
        let Some(task) = &mut call.task else { return };
        let next = Step::Remind(task.poll, Due::Poll { call: call_id.clone() });
        if about != AboutTask::Get {
            return self.steps.push_back(next); // whether it was taken, the status will tell
        }
        let whole = answer.body.to_bytes();
        let whole = Members::read(&whole).unwrap_or_default();
        if let Some(error) = whole.get("error") {
            let error = error.get().to_owned();
            return self.end_with_error(call_id, &error);
        }
        match task.status(answer) {
            Ok(TaskStatus::Working) => self.steps.push_back(next),
            Ok(TaskStatus::InputRequired(requests)) => self.ask(call_id, InputRequired { requests, state: None }),
            Ok(TaskStatus::Completed(result)) => {
                let text = format!(r#"{{"jsonrpc":"2.0","id":{call_id},"result":{}}}"#, result.get());
                let answer = Message::from_remote(Body::One(text.into())).ok();
                self.end(call_id, answer.map(|answer| adapted(TOOLS_CALL, answer)));
            }
            Ok(TaskStatus::Failed(error)) => self.end_with_error(call_id, error.get()),
            Ok(TaskStatus::Cancelled) => self.fail(call_id, "has cancelled the task that this call had become"),
            Err(what) => {
                self.fail(call_id, &format!("tells the status of a task in a way that cannot be read: {what}"))
            }
        }
    }

    /// Puts to the host what the server asks for (MCP 2026-07-28, Multi Round-Trip Requests).
    fn ask(&mut self, call_id: &Id, input: InputRequired) {
        let waiting = self.calls.values().filter(|call| !matches!(call.state, CallState::Sent)).count();
        let Some(call) = self.calls.get_mut(call_id) else { return };
        if call.round >= MOST_ROUNDS {
            return self.fail(call_id, &format!("asked for input {MOST_ROUNDS} times and did not finish"));
        }
        if waiting >= MOST_WAITING {
            return self.fail(call_id, &format!("asks for input in more than {MOST_WAITING} calls at once"));
        }
        let lacks = |request: &InputRequest| self.can.lacks(&request.method, request.params.as_deref());
        if let Some(lacks) = input.requests.iter().find_map(lacks) {
            return self.end_with_report(
                call_id,
                &format!("{} asked for {lacks} in the middle of a call, which this host does not have", self.server),
            );
        }
        let round = call.round;
        if input.requests.is_empty() {
            call.state = CallState::Pausing { state: input.state };
            let pause = if round == 0 { Duration::ZERO } else { FIRST_PAUSE * 2_u32.pow(round.min(MOST_ROUNDS)) };
            self.steps.push_back(Step::Remind(pause, Due::Retry { call: call_id.clone(), round }));
            return;
        }
        let mut open = Vec::new();
        for InputRequest { key, method, params } in input.requests {
            let id = Id::fresh();
            let params = for_legacy_host(&method, params);
            let params = params.map_or_else(String::new, |params| format!(r#","params":{}"#, params.get()));
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}{params}}}"#, Value::String(method));
            if let Ok(request) = Message::from_remote(Body::One(text.into())) {
                self.asked.insert(id.clone(), Asked { call: call_id.clone(), key });
                open.push(id);
                self.steps.push_back(Step::ToHost(request));
            }
        }
        call.state = CallState::Asking { state: input.state, open, answers: Vec::new() };
        self.steps.push_back(Step::Remind(PERSON_PATIENCE, Due::Person { call: call_id.clone(), round }));
    }

    /// Sends a call again with what it was asked for, under an id of its own.
    fn send_again(&mut self, call_id: &Id) {
        let level = self.level.as_deref();
        let Some(call) = self.calls.get_mut(call_id) else { return };
        let (state, answers) = match std::mem::replace(&mut call.state, CallState::Sent) {
            CallState::Asking { state, answers, .. } => (state, answers),
            CallState::Pausing { state } => (state, Vec::new()),
            CallState::Sent => return,
        };
        let responses = responses(&answers);
        let again = self.metadata.applied_to(&call.request, level, call.with_tasks).and_then(|request| {
            with_params(&request, |params| {
                if let Some(responses) = responses {
                    params.set("inputResponses", responses);
                }
                if let Some(state) = state {
                    params.set("requestState", state);
                }
            })
        });
        let Some(again) = again else { return };
        // MCP 2026-07-28, Multi Round-Trip Requests: the id must be another one.
        call.leg = Id::fresh();
        call.round += 1;
        self.legs.insert(call.leg.clone(), call_id.clone());
        self.steps.push_back(Step::ToServer(again.with_id(&call.leg)));
    }

    fn notification(&mut self, method: &str, message: Message) {
        let stream = subscription_id(&message);
        match method {
            ACKNOWLEDGED => {
                let Some(id) = stream else { return };
                #[derive(Deserialize)]
                struct Params {
                    #[serde(default)]
                    notifications: NotificationFilter,
                }
                let agreed = peek::params::<Params>(&message).map(|params| params.notifications).unwrap_or_default();
                let changes = self.listening.on_acknowledged(&id, agreed);
                self.follow(changes);
            }
            CANCELLED => {
                // MCP 2026-07-28, Cancellation: the server ends that stream.
                let ended = peek::cancelled_id(&message).filter(|id| self.listening.has(id));
                let changes = ended.map(|id| self.listening.on_ended(&id)).unwrap_or_default();
                self.follow(changes);
            }
            PROGRESS => {
                if self.increases(&message) {
                    self.steps.push_back(Step::ToHost(message));
                }
            }
            _ if stream.is_some() => {
                let plain = with_params(&message, |params| {
                    edit_meta(params, |meta| _ = meta.remove(SUBSCRIPTION_ID));
                    if params.is_empty() {
                        debug!("a notification of a stream has no params but its stream");
                    }
                });
                self.steps.extend(plain.map(Step::ToHost));
            }
            _ => self.steps.push_back(Step::ToHost(message)),
        }
    }

    /// Whether progress is more than what the host knows (MCP 2025-11-25, Progress: it must increase).
    fn increases(&mut self, message: &Message) -> bool {
        let Some((token, value)) = peek::progress(message) else { return true };
        let reached = self.calls.values_mut().filter_map(|call| call.progress.as_mut());
        let Some(reached) = reached.into_iter().find(|reached| reached.token.same_value(&token)) else { return false };
        let is_more = reached.value.is_none_or(|known| value > known);
        if is_more {
            reached.value = Some(value);
        }
        is_more
    }

    /// Does what the streams of notifications need.
    fn follow(&mut self, changes: Changes) {
        let Changes { open, close, answer, announce, later } = changes;
        if let Some((id, filter)) = open {
            let filter = json!({ "notifications": filter });
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{LISTEN}","params":{filter}}}"#);
            let request = Message::from_text(text).ok();
            self.steps.extend(
                request.and_then(|request| self.metadata.applied_to(&request, None, false)).map(Step::ToServer),
            );
        }
        if let Some(close) = close {
            self.cancel_at_server(&close);
        }
        for (request, is_subscribed) in answer {
            if is_subscribed {
                self.answer(&request, "{}");
            } else {
                self.refuse(&request, report::INVALID_PARAMS, "the server reports no changes of this resource");
            }
        }
        for changed in announce.iter().flat_map(NotificationFilter::changes) {
            self.steps.push_back(Step::ToHost(changed));
        }
        if later {
            self.steps.push_back(Step::Remind(REOPENING_PAUSE, Due::Listen));
        }
    }

    // What is sent.

    fn answer(&mut self, id: &Id, result: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        self.steps.extend(Message::from_remote(Body::One(text.into())).ok().map(Step::ToHost));
    }

    fn refuse(&mut self, id: &Id, code: i32, why: &str) {
        let line = report::error_line(id, code, &format!("mcp-remote: {why}"), None::<&()>);
        self.steps.extend(Message::from_remote(Body::One(line)).ok().map(Step::ToHost));
    }

    /// Ends a call because of what the server has answered.
    fn fail(&mut self, call: &Id, what: &str) {
        self.end_with_report(call, &format!("{} {what}", self.server));
    }

    fn end_with_report(&mut self, call: &Id, sentence: &str) {
        let report = Report::new(Code::InputRequired, sentence, None);
        warn!("{}", report.line());
        self.end(call, Message::from_remote(Body::One(report.answer(call))).ok());
    }

    /// Ends a call with an error that the host has given for one of its parts.
    fn end_with_error(&mut self, call: &Id, error: &str) {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{call},"error":{error}}}"#);
        self.end(call, Message::from_remote(Body::One(text.into())).ok());
    }

    fn end(&mut self, call: &Id, answer: Option<Message>) {
        let Some(ended) = self.calls.remove(call) else { return };
        self.legs.remove(&ended.leg);
        let is_given_up = matches!(ended.state, CallState::Asking { .. });
        if let Some(task) = ended.task.filter(|_| is_given_up) {
            self.about_task(call, task.id, AboutTask::Cancel, None);
        }
        if let CallState::Asking { open, .. } = ended.state {
            self.withdraw(open);
        }
        self.steps.extend(answer.map(Step::ToHost));
    }

    /// Takes requests to the host back.
    fn withdraw(&mut self, requests: Vec<Id>) {
        for id in requests {
            self.asked.remove(&id);
            self.steps.extend(cancelled(&id).map(Step::ToHost));
        }
    }

    fn cancel_at_server(&mut self, id: &Id) {
        self.steps.extend(cancelled(id).map(Step::ToServer));
    }
}

impl Bridge for LegacyHost {
    fn on_host(&mut self, message: Message) {
        match &message.shape {
            Shape::Request { id, method } => {
                let (id, method) = (id.clone(), method.clone());
                self.request(&id, &method, &message);
            }
            Shape::Notification { method } => match &**method {
                INITIALIZED => {
                    let changes = self.listening.begin(self.offers.lists.clone());
                    self.follow(changes);
                }
                CANCELLED => self.cancel(&message),
                method => debug!("{method} is not sent: MCP 2026-07-28 has no such notification of a client"),
            },
            Shape::Response { id: Some(id) } => self.answered(id, &message),
            Shape::Response { id: None } => {}
            Shape::Batch(_) => message.split().into_iter().flatten().for_each(|part| self.on_host(part)),
        }
    }

    fn on_server(&mut self, message: Message, _related: Option<&Id>) {
        match &message.shape {
            Shape::Response { id: Some(id) } => {
                let id = id.clone();
                self.response(&id, message);
            }
            Shape::Notification { method } => {
                let method = method.clone();
                self.notification(&method, message);
            }
            Shape::Request { method, .. } => {
                warn!("a request of the server is dropped: MCP 2026-07-28 has no {method}")
            }
            Shape::Response { id: None } => debug!("a response without an id is dropped"),
            Shape::Batch(_) => message.into_parts().for_each(|part| self.on_server(part, None)),
        }
    }

    fn on_lost(&mut self, ids: &[Id]) -> Vec<Id> {
        let mut lost = Vec::new();
        for id in ids {
            if self.listening.has(id) {
                let changes = self.listening.on_refused(id);
                self.follow(changes);
                continue;
            }
            if let Some((call, _)) = self.about_tasks.remove(id) {
                // The task goes on without its poll.
                let task = self.calls.get_mut(&call).and_then(|call| call.task.as_mut());
                let Some(task) = task else { continue };
                task.lost += 1;
                if task.lost <= MOST_LOST {
                    self.steps.push_back(Step::Remind(task.poll, Due::Poll { call }));
                } else {
                    self.calls.remove(&call);
                    lost.push(call);
                }
                continue;
            }
            let call = self.legs.remove(id).unwrap_or_else(|| id.clone());
            if self.calls.get(&call).is_some_and(|call| call.is_at_server(id)) {
                self.calls.remove(&call);
                lost.push(call);
            }
        }
        lost
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Person { call, round } => {
                let waits = self
                    .calls
                    .get(&call)
                    .is_some_and(|waiting| waiting.round == round && matches!(waiting.state, CallState::Asking { .. }));
                if waits {
                    let minutes = PERSON_PATIENCE.as_secs() / 60;
                    let why = format!("{} asked for input, and got no answer within {minutes} minutes", self.server);
                    self.end_with_report(&call, &why);
                }
            }
            Due::Retry { call, round } => {
                let waits = self.calls.get(&call).is_some_and(|waiting| {
                    waiting.round == round && matches!(waiting.state, CallState::Pausing { .. })
                });
                if waits {
                    self.send_again(&call);
                }
            }
            Due::Poll { call } => {
                let task = self.calls.get(&call).and_then(|call| call.task.as_ref()).map(|task| task.id.clone());
                if let Some(task) = task {
                    self.about_task(&call, task, AboutTask::Get, None);
                }
            }
            Due::Listen => {
                let changes = self.listening.on_due();
                self.follow(changes);
            }
            Due::Gathered { .. } | Due::Parked { .. } | Due::Handle(_) => {}
        }
    }

    fn step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.legs.is_empty() && self.asked.is_empty() && self.about_tasks.is_empty()
    }
}

impl Metadata {
    fn with_tasks(&self) -> Option<Box<RawValue>> {
        let mut capabilities = Members::read(self.capabilities.get().as_bytes())?;
        let extensions = {
            let mut extensions = capabilities.object("extensions").unwrap_or_default();
            extensions.put(TASKS_EXTENSION, &json!({}));
            to_raw_value(&extensions).ok()?
        };
        capabilities.set("extensions", extensions);
        to_raw_value(&capabilities).ok()
    }

    /// Reads what an `initialize` says of its host (MCP 2025-11-25, Lifecycle, Initialization).
    fn of(initialize: &Message) -> Self {
        let text = initialize.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let params = whole.object("params").unwrap_or_default();
        let mut capabilities = params.object("capabilities").unwrap_or_default();
        without_tasks(&mut capabilities);
        Self {
            client_info: params.get("clientInfo").map(ToOwned::to_owned),
            capabilities: to_raw_value(&capabilities).unwrap_or_default(),
        }
    }

    /// Returns a request with its metadata, which declares tasks if the bridge does what the host does not; `None` if its
    /// params are no object.
    fn applied_to(&self, request: &Message, level: Option<&str>, with_tasks: bool) -> Option<Message> {
        let capabilities = if with_tasks { self.with_tasks() } else { None };
        let capabilities = capabilities.unwrap_or_else(|| self.capabilities.clone());
        with_params(request, |params| {
            edit_meta(params, |meta| {
                envelope::strip(meta);
                meta.put(PROTOCOL_VERSION, &FIRST_MODERN);
                if let Some(info) = &self.client_info {
                    meta.set(CLIENT_INFO, info.clone());
                }
                meta.set(CLIENT_CAPABILITIES, capabilities);
                if let Some(level) = level {
                    meta.put(LOG_LEVEL, &level);
                }
            });
        })
    }
}

/// Returns the answer to an `initialize` that says what the answer to `server/discover` says: the one member that is
/// written anew.
fn introduction(server: &str, initialize: &Message, discovered: &Members<'_>) -> Message {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        protocol_version: String,
    }
    let asked = peek::params::<Params>(initialize).map(|params| params.protocol_version);
    let version = asked.filter(|asked| LEGACY.contains(&asked.as_str()));
    let mut result = Members::default();
    result.put("protocolVersion", &version.as_deref().unwrap_or(NEWEST_LEGACY));
    let mut capabilities = discovered.object("capabilities").unwrap_or_default();
    without_tasks(&mut capabilities);
    result.put("capabilities", &capabilities);
    // Older drafts, and the conformance suite, have it in the body.
    let meta = discovered.object("_meta").unwrap_or_default();
    match meta.get(SERVER_INFO).or_else(|| discovered.get("serverInfo")) {
        Some(info) => result.set("serverInfo", info.to_owned()),
        None => result.put("serverInfo", &json!({ "name": server, "version": "unknown" })),
    }
    if let Some(instructions) = discovered.get("instructions") {
        result.set("instructions", instructions.to_owned());
    }
    let id = initialize.requests().next().map_or("null", Id::as_json);
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, result.to_json());
    // What is made of valid texts is valid.
    Message::from_remote(Body::One(text.into())).unwrap_or_else(|_| initialize.clone())
}

/// Returns a result as legacy SDKs take it. They reject a whole list because of one `outputSchema` that is not of an
/// object, and a result because of `structuredContent` that is none (MCP 2025-11-25, Tools, Output Schema).
fn adapted(method: &str, message: Message) -> Message {
    let adapted = match method {
        TOOLS_LIST => without_other_schemas(&message),
        TOOLS_CALL => with_object_content(&message),
        _ => without_modern_error(&message),
    };
    adapted.unwrap_or(message)
}

fn without_other_schemas(message: &Message) -> Option<Message> {
    let text = message.body.to_bytes();
    let whole = Members::read(&text)?;
    let result = whole.object("result")?;
    let mut tools: Vec<Members<'_>> = result.value("tools")?;
    let is_other = |tool: &Members<'_>| {
        tool.get("outputSchema").is_some()
            && tool.object("outputSchema").and_then(|schema| schema.value::<String>("type")).as_deref()
                != Some("object")
    };
    if !tools.iter().any(is_other) {
        return None;
    }
    for tool in tools.iter_mut().filter(|tool| is_other(tool)) {
        tool.remove("outputSchema");
    }
    let tools = to_raw_value(&tools).ok()?;
    with_result(message, |result| result.set("tools", tools))
}

fn with_object_content(message: &Message) -> Option<Message> {
    let text = message.body.to_bytes();
    let whole = Members::read(&text)?;
    let Some(result) = whole.object("result") else { return without_modern_error(message) };
    let content = result.get("structuredContent")?.get();
    if content.starts_with('{') {
        return None;
    }
    let has_text = result.value::<Vec<&RawValue>>("content").is_some_and(|blocks| !blocks.is_empty());
    let copy = json!([{ "type": "text", "text": content }]);
    with_result(message, |result| {
        result.remove("structuredContent");
        if !has_text {
            result.put("content", &copy);
        }
    })
}

/// Returns a refusal of the version with the versions in its words: legacy hosts show nothing else of an error.
fn without_modern_error(message: &Message) -> Option<Message> {
    let refusal = verdict::modern_refusal(message).filter(|refusal| !refusal.supported.is_empty())?;
    let Shape::Response { id: Some(id) } = &message.shape else { return None };
    let versions = one_line(refusal.supported.join(", ").as_bytes());
    let words = format!("the server speaks MCP {versions} only");
    Some(refusal.answer(&Report::new(Code::ProtocolVersionNotShared, words, None).message())?.with_id(id))
}

/// Returns what a call carries that is asked for these; nothing if there are none.
fn responses(answers: &[(String, Box<RawValue>)]) -> Option<Box<RawValue>> {
    let mut responses = Members::default();
    for (key, answer) in answers {
        responses.set(key, answer.clone());
    }
    (!answers.is_empty()).then(|| to_raw_value(&responses).ok()).flatten()
}

/// Returns params of a server's request as legacy hosts take them.
fn for_legacy_host(method: &str, params: Option<Box<RawValue>>) -> Option<Box<RawValue>> {
    if method != ELICITATION_CREATE || !is_url_mode(params.as_deref()) {
        return params;
    }
    let mut elicitation = Members::read(params.as_ref()?.get().as_bytes())?;
    // MCP 2025-11-25 demands one (Elicitation, URL Mode), and 2026-07-28 has none.
    let id = Id::fresh();
    elicitation.put_missing("elicitationId", &id.as_json().trim_matches('"'));
    to_raw_value(&elicitation).ok()
}

/// Whether a call asks for a task (MCP 2025-11-25, Tasks).
fn wants_task(call: &Message) -> bool {
    #[derive(Deserialize)]
    struct Params {
        #[serde(default)]
        task: Option<Box<RawValue>>,
    }
    peek::params::<Params>(call).is_some_and(|params| params.task.is_some())
}

/// Returns the stream that a notification belongs to.
fn subscription_id(notification: &Message) -> Option<Id> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
        id: Box<RawValue>,
    }
    let Params { meta } = peek::params(notification)?;
    Some(Id::from_json(meta.id.get().as_bytes()))
}

fn quoted(words: Option<String>) -> String {
    format!("{:?}", one_line(words.unwrap_or_default().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::bridge::tests::{NOTHING, Played, message, text},
        *,
    };

    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"elicitation":{},"sampling":{},"roots":{"listChanged":true},"tasks":{}},"clientInfo":{"name":"h","version":"1.0"}}}"#;
    const DISCOVERED: &str = r#"{"jsonrpc":"2.0","id":"d","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2.0"}},"instructions":"i\u0041","ttlMs":0}}"#;
    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"h","version":"1.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{},"roots":{"listChanged":true}}"#;

    fn played() -> Played<LegacyHost> {
        Played::new(LegacyHost::begin("s:1".to_owned(), &message(INITIALIZE), &message(DISCOVERED)).unwrap().0)
    }

    fn call(id: u32, more: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t"{more}}}}}"#)
    }

    fn sent(id: &str, more: &str) -> String {
        format!(r#"> {{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"t",{META}}}{more}}}}}"#)
    }

    #[test]
    fn initialize_is_answered_from_discover() {
        let (_, answer) = LegacyHost::begin("s:1".to_owned(), &message(INITIALIZE), &message(DISCOVERED)).unwrap();
        assert_eq!(
            text(&answer),
            r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},"extensions":{}},"serverInfo":{"name":"s","version":"2.0"},"instructions":"i\u0041"}}"#
        );
        for asked in ["2026-07-28", "2099-01-01", "1"] {
            let initialize = message(&INITIALIZE.replace("2025-06-18", asked));
            let (_, answer) = LegacyHost::begin("s:1".to_owned(), &initialize, &message(DISCOVERED)).unwrap();
            assert!(text(&answer).contains(r#""protocolVersion":"2025-11-25""#), "{asked}");
        }
        let newer = message(&DISCOVERED.replace("2026-07-28", "2027-01-01"));
        let refused = LegacyHost::begin("s:1".to_owned(), &message(INITIALIZE), &newer).map(|_| ());
        assert_eq!(refused, Err("2027-01-01".to_owned()));
        let discover = text(&discover_for(&message(INITIALIZE)).unwrap());
        assert!(discover.ends_with(&format!(r#","method":"server/discover","params":{{{META}}}}}}}"#)), "{discover}");
    }

    #[test]
    fn request_gets_metadata_and_keeps_the_rest() {
        let mut played = played();
        assert_eq!(
            played.host(
                r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"_meta":{"progressToken":7,"x":1.0},"name":"t","arguments":{"n":1e400}}}"#
            ),
            [format!(
                r#"> {{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"_meta":{{"progressToken":7,"x":1.0,{}}},"name":"t","arguments":{{"n":1e400}}}}}}"#,
                &META[9..]
            )]
        );
        assert_eq!(
            played.host(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#),
            [format!(r#"> {{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{{{META}}}}}}}"#)]
        );
        let answer = r#"{"jsonrpc":"2.0","id":"a","result":{ "resultType" : "complete", "content":[], "n":1.0 }}"#;
        assert_eq!(played.server(answer), [format!("< {answer}")]);
        assert_eq!(played.server(answer), NOTHING, "a second answer");
    }

    #[test]
    fn what_has_no_counterpart_is_answered_here() {
        let mut played = played();
        let ask = |id: u32, method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
        };
        assert_eq!(played.host(&ask(1, "ping", "")), [r#"< {"jsonrpc":"2.0","id":1,"result":{}}"#]);
        assert!(played.host(&ask(2, "logging/setLevel", r#""level":"loud""#))[0].contains(r#""code":-32602"#));
        assert_eq!(
            played.host(&ask(3, "logging/setLevel", r#""level":"info""#)),
            [r#"< {"jsonrpc":"2.0","id":3,"result":{}}"#]
        );
        assert_eq!(
            played.host(&call(4, "")),
            [sent("4", r#","io.modelcontextprotocol/logLevel":"info"}"#).replace("}},\"io", "},\"io")]
        );
        assert!(played.host(&ask(5, "tasks/list", ""))[0].contains(r#""code":-32601"#));
        assert!(played.host(&call(6, r#","task":{}"#))[0].contains(r#""code":-32602"#));
        for gone in ["notifications/roots/list_changed", "notifications/progress"] {
            assert_eq!(played.host(&format!(r#"{{"jsonrpc":"2.0","method":"{gone}"}}"#)), NOTHING);
        }
    }

    #[test]
    fn input_is_asked_of_the_host_and_given_with_the_call() {
        let mut played = played();
        played.host(&call(1, ""));
        let asked = played.server(
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"{ \"a\": \u0041","inputRequests":{"who":{"method":"elicitation/create","params":{"message":"m"}},"r":{"method":"roots/list"}}}}"#,
        );
        assert_eq!(
            asked,
            [
                r##"< {"jsonrpc":"2.0","id":#1,"method":"elicitation/create","params":{"message":"m"}}"##,
                r##"< {"jsonrpc":"2.0","id":#2,"method":"roots/list"}"##,
                "! 600s",
            ]
        );
        assert_eq!(played.host(r##"{"jsonrpc":"2.0","id":#2,"result":{ "roots" : [] }}"##), NOTHING);
        let again = played.host(r##"{"jsonrpc":"2.0","id":#1,"result":{"action":"decline"}}"##);
        let more =
            r#","inputResponses":{"r":{ "roots" : [] },"who":{"action":"decline"}},"requestState":"{ \"a\": \u0041""#;
        assert_eq!(again, [sent("#3", more)]);
        // A round that asks for nothing is sent again by itself.
        let state = r##"{"jsonrpc":"2.0","id":#3,"result":{"resultType":"input_required","requestState":"b"}}"##;
        assert_eq!(played.server(state), ["! 500ms"]);
        assert_eq!(played.due(1), [sent("#4", r#","requestState":"b""#)]);
        assert_eq!(played.due(0), NOTHING, "that round is over");
        assert_eq!(
            played.server(r##"{"jsonrpc":"2.0","id":#4,"result":{"content":[]}}"##),
            [r#"< {"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#]
        );
        assert!(played.bridge.legs.is_empty() && played.bridge.asked.is_empty());
    }

    fn elicit(id: &str, keys: &[&str]) -> String {
        let requests: Vec<_> =
            keys.iter().map(|key| format!(r#""{key}":{{"method":"elicitation/create","params":{{}}}}"#)).collect();
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{}}}}}}}"#,
            requests.join(",")
        )
    }

    #[test]
    fn answers_of_two_calls_do_not_cross() {
        let mut played = played();
        played.host(&call(1, ""));
        played.host(&call(2, ""));
        played.server(&elicit("1", &["k"]));
        played.server(&elicit("2", &["k"]));
        let second = played.host(r##"{"jsonrpc":"2.0","id":#2,"result":{"action":"second"}}"##);
        assert_eq!(second, [sent("#3", r#","inputResponses":{"k":{"action":"second"}}"#)]);
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert_eq!(
            played.host(cancel),
            [r##"< {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":#1}}"##]
        );
        // The person answers all the same.
        assert_eq!(played.host(r##"{"jsonrpc":"2.0","id":#1,"result":{"action":"first"}}"##), NOTHING);
        assert_eq!(
            played.host(&cancel.replace("\"requestId\":1", "\"requestId\":2")),
            [r##"> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":#3}}"##]
        );
        assert_eq!(played.server(r##"{"jsonrpc":"2.0","id":#3,"result":{}}"##), NOTHING, "too late");
    }

    #[test]
    fn refused_input_ends_the_call_and_its_other_requests() {
        let mut played = played();
        played.host(&call(1, ""));
        played.server(&elicit("1", &["a", "b", "c"]));
        let ended = played.host(r##"{"jsonrpc":"2.0","id":#2,"error":{"code":-1,"message":"no","data":1.0}}"##);
        let withdrawn = |id: &str| {
            format!(r#"< {{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
        };
        assert_eq!(
            ended,
            [
                withdrawn("#1"),
                withdrawn("#3"),
                r#"< {"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no","data":1.0}}"#.to_owned()
            ]
        );
        // What the host has not declared is not asked for.
        played.host(&call(2, ""));
        let url = elicit("2", &["u"]).replace("\"params\":{}", r#""params":{"mode":"url"}"#);
        let refused = played.server(&url);
        assert!(refused[0].contains("elicitation in a browser") && refused.len() == 1, "{refused:?}");
        played.host(&call(3, ""));
        played.server(&elicit("3", &["a"]));
        let late = played.due(1);
        assert!(late[1].contains("no answer within 10 minutes [input_required]") && late.len() == 2, "{late:?}");
    }

    #[test]
    fn endless_rounds_end() {
        let mut played = played();
        played.host(&call(1, ""));
        let mut answer =
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s"}}"#.to_owned();
        for round in 0..MOST_ROUNDS {
            assert_eq!(played.server(&answer).len(), 1);
            assert_eq!(played.due(round as usize).len(), 1, "round {round}");
            answer = answer.replace(
                &if round == 0 { "\"id\":1".to_owned() } else { format!("\"id\":#{round},") },
                &if round == 0 { "\"id\":#1".to_owned() } else { format!("\"id\":#{},", round + 1) },
            );
        }
        let ended = played.server(&answer);
        assert!(ended[0].contains("asked for input 10 times"), "{ended:?}");
        assert!(played.bridge.calls.is_empty() && played.bridge.legs.is_empty());
    }

    #[test]
    fn results_and_tasks_that_no_legacy_host_takes_are_errors() {
        let mut played = played();
        for (id, method, result) in [
            (1, "tools/call", r#"{"resultType":"weird"}"#),
            (2, "tools/call", r#"{"resultType":"task","taskId":"t"}"#),
            (3, "tools/list", r#"{"resultType":"input_required","requestState":"s"}"#),
            (4, "tools/call", r#"{"resultType":"input_required"}"#),
        ] {
            played.host(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#));
            let ended = played.server(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
            assert!(ended[0].contains("[input_required]") && ended.len() == 1, "{ended:?}");
        }
    }

    #[test]
    fn what_legacy_sdks_reject_is_taken_away() {
        let answer = |method: &str, result: &str| {
            let mut played = played();
            played.host(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#));
            let lines = played.server(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
            lines[0]
                .strip_prefix(r#"< {"jsonrpc":"2.0","id":1,"result":"#)
                .unwrap()
                .strip_suffix('}')
                .unwrap()
                .to_owned()
        };
        for (result, expected) in [
            (
                r#"{ "tools":[{"outputSchema":{"type":"object"} }]}"#,
                r#"{ "tools":[{"outputSchema":{"type":"object"} }]}"#,
            ),
            (
                r#"{ "tools":[{"name":"a", "outputSchema":{"type":"array"}},{"b":1.0 , "outputSchema":true}]}"#,
                r#"{"tools":[{"name":"a"},{"b":1.0}]}"#,
            ),
        ] {
            assert_eq!(answer("tools/list", result), expected);
        }
        for (result, expected) in [
            (r#"{ "structuredContent":{}}"#, r#"{ "structuredContent":{}}"#),
            (
                r#"{"content":[{"type":"text","text":"a"}],"structuredContent":[1.0]}"#,
                r#"{"content":[{"type":"text","text":"a"}]}"#,
            ),
            (r#"{"content":[],"structuredContent":[1.0]}"#, r#"{"content":[{"text":"[1.0]","type":"text"}]}"#),
        ] {
            assert_eq!(answer("tools/call", result), expected);
        }
    }

    #[test]
    fn url_elicitation_gets_the_id_that_legacy_hosts_demand() {
        let initialize = INITIALIZE.replace(r#""elicitation":{}"#, r#""elicitation":{"url":{}}"#);
        let (bridge, _) = LegacyHost::begin("s:1".to_owned(), &message(&initialize), &message(DISCOVERED)).unwrap();
        let mut played = Played::new(bridge);
        played.host(&call(1, ""));
        let url = elicit("1", &["u"]).replace("\"params\":{}", r#""params":{"mode":"url","url":"https://a.example"}"#);
        let asked = played.server(&url);
        assert!(
            asked[0].contains(r#""params":{"mode":"url","url":"https://a.example","elicitationId":"mcp-remote-"#)
                || asked[0].contains(r#""params":{"mode":"url","url":"https://a.example","elicitationId":#"#),
            "{asked:?}"
        );
    }

    #[test]
    fn changes_come_over_a_stream_without_its_id() {
        let mut played = played();
        let opened = played.host(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(
            opened,
            [format!(
                r##"> {{"jsonrpc":"2.0","id":#1,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{META}}}}}}}"##
            )]
        );
        let on_stream = |id: &str, method: &str, more: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}{more}}}}}"#
            )
        };
        let acknowledge = |id: &str, agreed: &str| {
            on_stream(id, "subscriptions/acknowledged", &format!(r#","notifications":{agreed}"#))
        };
        assert_eq!(played.server(&acknowledge("#1", r#"{"toolsListChanged":true}"#)), NOTHING);
        assert_eq!(
            played.server(&on_stream("#1", "tools/list_changed", "")),
            [r#"< {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}"#]
        );
        let subscribe = r#"{"jsonrpc":"2.0","id":5,"method":"resources/subscribe","params":{"uri":"u:a"}}"#;
        assert_eq!(played.host(subscribe).len(), 1, "another stream");
        let both = r#"{"toolsListChanged":true,"resourceSubscriptions":["u:a"]}"#;
        assert_eq!(
            played.server(&acknowledge("#2", both)),
            [
                r##"> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":#1}}"##,
                r#"< {"jsonrpc":"2.0","id":5,"result":{}}"#,
            ]
        );
        assert_eq!(
            played.server(&on_stream("#2", "resources/updated", r#","uri":"u:a""#)),
            [r#"< {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u:a"}}"#]
        );
        // The server ends the stream: it is opened again, and what was missed is announced.
        assert_eq!(played.server(r##"{"jsonrpc":"2.0","id":#2,"result":{"resultType":"complete"}}"##), ["! 5s"]);
        assert_eq!(played.due(0).len(), 1);
        assert_eq!(
            played.server(&acknowledge("#3", both)),
            [
                r#"< {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
                r#"< {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u:a"}}"#,
            ]
        );
    }

    #[test]
    fn call_that_becomes_a_task_is_answered_at_its_end() {
        let mut played = played();
        played.host(&call(1, ""));
        let required = r##"{"jsonrpc":"2.0","id":1,"error":{"code":-32021,"message":"m","data":{"requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}}"##;
        let again = played.server(required);
        assert!(again[0].contains(r##""id":#1,"method":"tools/call""##), "{again:?}");
        assert!(again[0].contains(r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#), "{again:?}");
        let task = |id: &str, more: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"taskId":"t-\u0041","pollIntervalMs":2000,{more}}}}}"#)
        };
        assert_eq!(played.server(&task("#1", r#""resultType":"task","status":"working""#)), ["! 2s"]);
        let poll = played.due(0);
        assert!(
            poll[0].contains(r##""id":#2,"method":"tasks/get","params":{"taskId":"t-\u0041","_meta":"##),
            "{poll:?}"
        );
        assert_eq!(played.server(&task("#2", r#""status":"working""#)), ["! 2s"]);
        assert_eq!(played.bridge.on_lost(&[Id::from_json(b"1")]), [], "the request is over");
        played.due(1);
        let asks = r#""status":"input_required","inputRequests":{"k":{"method":"roots/list"}}"#;
        let asked = played.server(&task("#3", asks));
        assert_eq!(asked[0], r##"< {"jsonrpc":"2.0","id":#4,"method":"roots/list"}"##);
        let update = played.host(r##"{"jsonrpc":"2.0","id":#4,"result":{"roots":[]}}"##);
        assert!(
            update[0].contains(
                r##""id":#5,"method":"tasks/update","params":{"taskId":"t-\u0041","inputResponses":{"k":{"roots":[]}},"##
            ),
            "{update:?}"
        );
        assert_eq!(played.server(r##"{"jsonrpc":"2.0","id":#5,"result":{}}"##), ["! 2s"]);
        played.due(3);
        assert_eq!(played.server(&task("#6", asks)), ["! 2s"], "a key is asked once");
        played.due(4);
        assert_eq!(
            played.server(&task("#7", r#""status":"completed","result":{"content":[],"n":1.0}"#)),
            [r#"< {"jsonrpc":"2.0","id":1,"result":{"content":[],"n":1.0}}"#]
        );
        assert!(played.bridge.calls.is_empty() && played.bridge.about_tasks.is_empty());
    }

    #[test]
    fn task_is_cancelled_with_its_call_and_survives_lost_polls() {
        let mut played = played();
        let begin = |played: &mut Played<LegacyHost>, id: u32| {
            played.host(&call(id, ""));
            played.server(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32021,"message":"m","data":{{"requiredCapabilities":{{"extensions":{{"io.modelcontextprotocol/tasks":{{}}}}}}}}}}}}"#
            ));
            let leg = format!("#{}", played.ids.len());
            played.server(&format!(
                r#"{{"jsonrpc":"2.0","id":{leg},"result":{{"resultType":"task","taskId":"t","status":"working"}}}}"#
            ));
        };
        begin(&mut played, 1);
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        let cancelled = played.host(cancel);
        assert!(cancelled[0].contains(r#""method":"tasks/cancel","params":{"taskId":"t","#) && cancelled.len() == 1);
        begin(&mut played, 2);
        for lost in 0..=MOST_LOST {
            let due = played.dues.len() - 1;
            played.due(due);
            let poll = Id::from_json(played.ids.last().unwrap().as_bytes());
            let given_up = played.bridge.on_lost(&[poll]);
            played.steps();
            assert_eq!(given_up.is_empty(), lost < MOST_LOST, "{lost}");
        }
    }

    #[test]
    fn progress_increases_over_all_rounds() {
        let mut played = played();
        played.host(&call(1, r#","_meta":{"progressToken":"p"}"#));
        let progress = |value: u32| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p","progress":{value}}}}}"#
            )
        };
        assert_eq!(played.server(&progress(5)).len(), 1);
        played.server(&elicit("1", &["a"]));
        played.host(r##"{"jsonrpc":"2.0","id":#1,"result":{}}"##);
        assert_eq!((played.server(&progress(1)).len(), played.server(&progress(6)).len()), (0, 1));
        assert_eq!(played.bridge.on_lost(&[Id::from_json(played.ids[1].as_bytes())]), [Id::from_json(b"1")]);
    }
}
