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

mod translation;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use log::{debug, info, warn};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use self::translation::{
    Metadata, adapted, for_legacy_host, introduction, quoted, responses, subscription_id, wants_task,
};
use super::{
    bridge::{Bridge, Due, Step},
    capabilities::{InputCapabilities, ServerCapabilities, is_input},
    envelope::{self, ResultType, SUBSCRIPTION_ID, cancelled, edit_meta, result_type, with_params},
    input::{InputRequest, InputRequired, MOST_ROUNDS, MOST_WAITING},
    listening::{Changes, Listening, NotificationFilter},
    tasks::{self, MOST_LOST, Task, TaskStatus},
    verdict,
};
use crate::{
    mcp::{
        LOG_LEVELS,
        method::{
            ACKNOWLEDGED, CANCELLED, DISCOVER, INITIALIZED, LISTEN, PING, PROGRESS, PROMPTS_GET, RESOURCES_READ,
            RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE, SET_LEVEL, TASKS_CANCEL, TASKS_GET, TASKS_UPDATE, TOOLS_CALL,
        },
        version::FIRST_MODERN,
    },
    message::{Body, Id, Message, Shape, members::Members, peek},
    report::{
        self, Code, Report,
        catalogue::{ANSWER_OTHERS, ASKS_TOO_OFTEN},
    },
    text::one_line,
};

/// How long a person may take for what a server asks in the middle of a call.
const PERSON_PATIENCE: Duration = Duration::from_secs(600);
/// Pause before a stream of notifications is opened again that the server has ended: it may be restarting. It doubles
/// while streams end without a notification.
const REOPENING_PAUSE: Duration = Duration::from_secs(5);
/// How often it doubles: up to five minutes.
const MOST_DOUBLINGS: u32 = 6;
/// Pause before a call is sent again that waits for nothing but the server; it doubles.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(250);

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
    /// Streams in a row that the server has ended without a notification.
    empty_streams: u32,
    steps: VecDeque<Step>,
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
            empty_streams: 0,
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
                self.refuse(id, report::METHOD_NOT_FOUND, &format!("the server does not support {method}"));
            }
            _ if method.starts_with("tasks/") => {
                self.refuse(id, report::METHOD_NOT_FOUND, "the server does not support the tasks of MCP 2025-11-25");
            }
            TOOLS_CALL if wants_task(message) => {
                self.refuse(id, report::INVALID_PARAMS, "the server does not support the tasks of MCP 2025-11-25");
            }
            _ => self.send(id, message),
        }
    }

    fn send(&mut self, id: &Id, message: &Message) {
        let Some(sent) = self.metadata.applied_to(message, self.level.as_deref(), false) else {
            return self.refuse(id, report::INVALID_PARAMS, "params is not an object");
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
            None => self.refuse(id, report::INVALID_PARAMS, "the log level is unknown"),
        }
    }

    fn cancel(&mut self, message: &Message) {
        let Some(id) = peek::cancelled_id(message) else { return };
        self.listening.forget(&id);
        let Some(call) = self.calls.remove(&id) else {
            return debug!("ignoring a cancellation: no request {} is pending", id.line());
        };
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
            return debug!("dropping the host's response to {}: no request with that ID is pending", id.line());
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
                    info!("{} refuses a notification stream: {}", self.server, quoted(error.message));
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
            return debug!("dropping the server's response to {}: no request with that ID is pending", id.line());
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
                    Err(what) => self.fail(&call_id, &format!("asked for input in an invalid way: {what}")),
                }
            }
            ResultType::InputRequired => {
                self.fail(&call_id, &format!("asked for input in the answer to {method}, which MCP does not allow"));
            }
            ResultType::Task => match Task::begin(&message.body).filter(|_| call.with_tasks) {
                Some(task) => {
                    debug!("the server runs {call_id} as a task");
                    self.steps.push_back(Step::Remind(task.poll, Due::Poll { call: call_id.clone() }));
                    call.task = Some(task);
                }
                None => self.fail(&call_id, "answered with a task, which mcp-remote did not ask for"),
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
                let answer = envelope::response(call_id, result.get());
                self.end(call_id, answer.map(|answer| adapted(TOOLS_CALL, answer)));
            }
            Ok(TaskStatus::Failed(error)) => self.end_with_error(call_id, error.get()),
            Ok(TaskStatus::Cancelled) => {
                let sentence = format!("{} canceled the task of this call", self.server);
                self.end_with_report(call_id, &Report::new(Code::NoAnswer, sentence, None));
            }
            Err(what) => self.fail(call_id, &format!("sent an invalid task status: {what}")),
        }
    }

    /// Puts to the host what the server asks for (MCP 2026-07-28, Multi Round-Trip Requests).
    fn ask(&mut self, call_id: &Id, input: InputRequired) {
        let waiting = self.calls.values().filter(|call| !matches!(call.state, CallState::Sent)).count();
        let Some(call) = self.calls.get_mut(call_id) else { return };
        if call.round >= MOST_ROUNDS {
            let sentence = format!("{} asked for input {MOST_ROUNDS} times and did not finish", self.server);
            return self.end_with_report(call_id, &Report::new(Code::InputRequired, sentence, Some(ASKS_TOO_OFTEN)));
        }
        if waiting >= MOST_WAITING {
            let sentence = format!("{} asks for input in more than {MOST_WAITING} calls at once", self.server);
            return self.end_with_report(call_id, &Report::new(Code::InputRequired, sentence, Some(ANSWER_OTHERS)));
        }
        if let Some(unknown) = input.requests.iter().find(|request| !is_input(&request.method)) {
            let method = one_line(unknown.method.as_bytes());
            return self.fail(call_id, &format!("asked for {method:?} during a call, which MCP does not allow"));
        }
        let lacks = |request: &InputRequest| self.can.lacks(&request.method, request.params.as_deref());
        if let Some(lacks) = input.requests.iter().find_map(lacks) {
            let sentence = format!("{} asked for {lacks} during a call, which the host does not support", self.server);
            return self.end_with_report(call_id, &Report::new(Code::InputRequired, sentence, None));
        }
        let round = call.round;
        if input.requests.is_empty() {
            call.state = CallState::Pausing { state: input.state };
            let pause = if round == 0 { Duration::ZERO } else { FIRST_RETRY_PAUSE * 2_u32.pow(round.min(MOST_ROUNDS)) };
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
                self.empty_streams = 0;
                let plain = with_params(&message, |params| {
                    edit_meta(params, |meta| _ = meta.remove(SUBSCRIPTION_ID));
                    if params.is_empty() {
                        debug!("a notification has no params besides its subscription ID");
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
            let pause = REOPENING_PAUSE * 2_u32.pow(self.empty_streams.min(MOST_DOUBLINGS));
            self.empty_streams += 1;
            self.steps.push_back(Step::Remind(pause, Due::Listen));
        }
    }

    // What is sent.

    fn answer(&mut self, id: &Id, result: &str) {
        self.steps.extend(envelope::response(id, result).map(Step::ToHost));
    }

    fn refuse(&mut self, id: &Id, code: i32, why: &str) {
        self.steps.extend(envelope::refusal(id, code, why).map(Step::ToHost));
    }

    /// Ends a call because the server has answered what it must not.
    fn fail(&mut self, call: &Id, what: &str) {
        let sentence = format!("{} {what}", self.server);
        self.end_with_report(call, &Report::new(Code::BadMessage, sentence, None));
    }

    fn end_with_report(&mut self, call: &Id, report: &Report) {
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
                method => debug!("not sending {method}: MCP 2026-07-28 has no such client notification"),
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
                let method = one_line(method.as_bytes());
                warn!("dropping the server's request {method}: MCP 2026-07-28 has no such server request");
            }
            Shape::Response { id: None } => debug!("dropping a response without an ID"),
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
                    self.end_with_report(&call, &Report::new(Code::InputRequired, why, None));
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

#[cfg(test)]
mod tests;
