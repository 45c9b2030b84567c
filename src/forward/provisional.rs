//! Answering in the server's place, for as long as somebody has to sign in or the server cannot be
//! reached: hosts end a program that does not answer `initialize` within 30 to 60 s, and the sign-in with
//! it.
//!
//! The host gets a placeholder as the answer to its `initialize`, from the last known [`Description`](crate::description::Description) or else a
//! neutral one; lists are answered from the same, calls are held for a while. Behind that the host's own
//! `initialize` is performed with the server. When that is done, what was held is sent, and the
//! host is told which lists are other than it was shown.
//!
//! # Invariants
//!
//! - `Provisional` is never in the way of a server that answers.
//! - `Provisional` shows one account nothing that was learned for another.
//! - `Provisional` holds nothing without a limit, and drops nothing that it held: it is sent or answered.

use std::{collections::VecDeque, time::Duration};

use log::{debug, info, warn};
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::{
    Action, Link, MOST_WAITING, Next, Reminder, Settings,
    context::{Context, RetryReminder},
    hold::Holding,
    lists::LastListed,
    open::{HostSession, Open, Speaker},
    promised::{Promised, capabilities},
    stand_in::{self, StandIn},
};
use crate::{
    description::{ClientCapabilities, Learned, List},
    era::Era,
    mcp::{
        HOST_PATIENCE, method,
        version::{JUNE_2025, NEWEST_LEGACY, OLDEST, WITH_BATCHES},
    },
    message::{Id, Message, Shape},
    oauth::Need,
    remote::{error::Error, handshake::Initialized},
    report::{Code, Report, catalogue::STILL_TRIED},
    text,
};

/// Pause before an opening that failed is retried without a request: what blocks it is for somebody to put right.
const SECOND_TRY: Duration = Duration::from_secs(60);
/// Versions whose messages a host and a server of different ones can make of each other: each later one
/// only added to the earlier (MCP, Key Changes), but for the batches that only 2025-03-26 has, and those are
/// taken apart for a host that was answered with a placeholder.
const RELATED: [&str; 4] = [OLDEST, WITH_BATCHES, JUNE_2025, NEWEST_LEGACY];
/// Added to what the placeholder's tool says, where its call begins a new try.
const TRYING_AGAIN: &str = ". This is being tried again now: call this tool once more to see what came of it";
/// Every capability that a host could miss later (MCP 2025-11-25, Lifecycle, Capability Negotiation).
const NEUTRAL: &str = r#"{"completions":{},"logging":{},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}}"#;

/// The connection that is established behind a placeholder.
#[derive(Debug)]
pub(super) struct Provisional {
    /// The host's own, to be performed with the server.
    initialize: Message,
    /// What the host was told.
    version: String,
    capabilities: Map<String, Value>,
    stand_in: StandIn,
    hold: Holding,
    readiness: Readiness,
    stage: Stage,
    /// In order; for the server.
    held: VecDeque<Held>,
    /// The log level the host has set; it was answered.
    level: Option<Message>,
}

/// Whether the host is ready for a server: until then nothing is asked of it (MCP 2025-11-25, Lifecycle).
#[derive(Debug)]
enum Readiness {
    /// It may not be yet.
    Awaited,
    /// It has asked for something, so it leaves `notifications/initialized` out, or is early.
    Shown,
    /// It has said so, with this.
    Said(Message),
}

/// How far that connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is being opened.
    Opening { answer: Option<Message> },
    /// It is open; the server's answer or the host's readiness is on its way.
    Opened { answer: Option<Message> },
    /// It is not; the next request tries again, and so does a reminder.
    Failed,
    /// It is not; only a request tries again, because somebody would be asked to sign in.
    Declined,
    /// It is open, and is of no use to this host.
    Useless(Report),
}

/// A message that is held for the server. Whoever takes it sends it, or answers its requests.
#[must_use]
#[derive(Debug)]
struct Held {
    serial: u64,
    message: Message,
    /// How long it is held in all, as far as is decided.
    waited: Duration,
}

impl Held {
    fn is_call(&self) -> bool {
        self.message.method().and_then(List::of_method).is_none()
    }
}

impl Stage {
    /// An opening came to this. Nobody is asked to sign in unless somebody does something.
    pub(super) fn after(error: &Error) -> Self {
        if matches!(error, Error::Unauthorized(_)) { Self::Declined } else { Self::Failed }
    }
}

impl Provisional {
    /// Answers the host's `initialize` with the placeholder.
    pub(super) fn begin(
        initialize: Message,
        mut hold: Holding,
        stand_in: StandIn,
        stage: Stage,
        cx: &mut Context,
    ) -> Box<Self> {
        let asked = newest_legacy(ClientCapabilities::of(&initialize).version.unwrap_or_else(|| OLDEST.to_owned()));
        let (mut result, version, capabilities) = match &stand_in.known {
            Some(known) => {
                (known.initialize.clone(), newest_legacy(known.version(&asked)), with_changes(known.capabilities()))
            }
            None => {
                (described(&stand_in, &cx.settings.server), asked, serde_json::from_str(NEUTRAL).unwrap_or_default())
            }
        };
        result.insert("protocolVersion".to_owned(), Value::String(version.clone()));
        result.insert("capabilities".to_owned(), Value::Object(capabilities.clone()));
        info!(
            "answering the host with {} until the server is available",
            match stand_in.known {
                Some(_) => "the server's last known description",
                None => "a placeholder",
            }
        );
        let result = Value::Object(result).to_string();
        initialize.requests().for_each(|id| cx.host.answer(id, &result));
        hold.note_that_host_has_answer(cx);
        let (readiness, held, level) = (Readiness::Awaited, VecDeque::new(), None);
        let this = Self { initialize, version, capabilities, stand_in, hold, readiness, stage, held, level };
        this.remind_to_retry(cx);
        Box::new(this)
    }

    pub(super) fn hold_mut(&mut self) -> &mut Holding {
        &mut self.hold
    }

    /// A message of the host before the connection is established; requests are owed already.
    pub(super) fn hold_or_answer(mut self: Box<Self>, message: Message, cx: &mut Context) -> Next {
        let (id, method) = match &message.shape {
            Shape::Request { id, method } => (id.clone(), method.clone()),
            Shape::Notification { method } if &**method == method::INITIALIZED => {
                self.readiness = Readiness::Said(message);
                cx.offer(Some(&self.initialize));
                return self.complete_if_ready(cx);
            }
            _ => {
                self.hold(message, cx);
                return Link::Provisional(self).into();
            }
        };
        if &*method != method::PING {
            if matches!(self.readiness, Readiness::Awaited) {
                self.readiness = Readiness::Shown;
            }
            self = match self.complete(cx) {
                Ok(open) => return Next::Replay(Link::Open(open), VecDeque::from([message])),
                Err(provisional) => provisional,
            };
        }
        match (&*method, List::of_method(&method)) {
            (method::PING, _) => cx.host.answer(&id, "{}"),
            (method::SET_LEVEL, _) => {
                self.level = Some(message);
                cx.host.answer(&id, "{}");
            }
            (_, Some(list)) => {
                let may_come = self.is_under_way() || matches!(self.stage, Stage::Failed);
                let held = self.hold.hold_list(&id, list, self.stand_in.knows(list), cx);
                match held.filter(|_| may_come) {
                    Some((serial, time)) => self.hold_as(message, serial, time, cx),
                    None => self.answer_list(&id, list, cx),
                }
            }
            // While a person is asked, the call is worth waiting for: its answer is then that it is done.
            _ if stand_in::is_call(&message) && !(cx.person.is_signing_in() && self.is_under_way()) => {
                let has_failed = matches!(self.stage, Stage::Failed | Stage::Declined);
                cx.act(Action::UserAsks);
                self.try_again(cx);
                self.stand_in.answer_call(&id, if has_failed { TRYING_AGAIN } else { "" }, cx);
            }
            _ => self.hold(message, cx),
        }
        Link::Provisional(self).into()
    }

    fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Opening { .. } | Stage::Opened { .. })
    }

    fn hold(&mut self, message: Message, cx: &mut Context) {
        if let Stage::Useless(report) = &self.stage {
            return cx.host.fail_all(&message, report);
        }
        if message.requests().next().is_some() {
            cx.act(Action::SignInIsNeeded);
        }
        let (serial, time) = (cx.next_serial(), self.time_for_call(cx));
        self.hold_as(message, serial, time, cx);
    }

    /// Returns how long a call is held: for a person nearly as long as hosts wait, for the network as long as everything is
    /// tried again.
    fn time_for_call(&self, cx: &Context) -> Duration {
        let is_slow = self.stand_in.report.code == Code::TimedOut || matches!(cx.person.need, Need::OtherRefreshes);
        if cx.person.is_signing_in() || is_slow {
            HOST_PATIENCE
        } else {
            HOST_PATIENCE.min(cx.settings.limits.retry_for)
        }
    }

    fn hold_as(&mut self, message: Message, serial: u64, time: Duration, cx: &mut Context) {
        let before: usize = self.held.iter().map(|held| held.message.body.len()).sum();
        if self.held.len() >= MOST_WAITING || before > cx.settings.limits.max_message_size {
            return cx.refuse_to_hold(&message);
        }
        let is_request = message.requests().next().is_some();
        self.held.push_back(Held { serial, message, waited: time });
        if is_request {
            cx.remind(time, Reminder::Overdue(serial));
            self.try_again(cx);
        }
    }

    /// Answers what was held, now that it is held no longer: a list with the placeholder, a call with the reason.
    fn release(&mut self, held: Held, report: &Report, cx: &mut Context) {
        let message = held.message;
        match &message.shape {
            Shape::Request { id, method } => match List::of_method(method) {
                Some(list) => self.answer_list(id, list, cx),
                None if stand_in::is_call(&message) => self.stand_in.answer_call(id, "", cx),
                None => cx.host.fail_all(&message, report),
            },
            _ => cx.host.fail_all(&message, report),
        }
    }

    fn answer_list(&mut self, id: &Id, list: List, cx: &mut Context) {
        self.stand_in.answer_list(id, list, cx, Some(&mut self.hold), Era::Legacy);
    }

    /// The host sends no more: what is held for it is answered now.
    pub(super) fn release_all(&mut self, cx: &mut Context) {
        let report = self.stand_in.report.clone();
        for held in std::mem::take(&mut self.held) {
            self.release(held, &report, cx);
        }
    }

    /// The time of a held message is over.
    pub(super) fn on_overdue(&mut self, serial: u64, cx: &mut Context) {
        let Some(at) = self.held.iter().position(|held| held.serial == serial) else { return };
        let time = self.time_for_call(cx);
        // A person is asked by now: the call is held for as long as that is worth it.
        if let Some(held) = self.held.get_mut(at).filter(|held| held.is_call() && time > held.waited) {
            cx.remind(time - held.waited, Reminder::Overdue(serial));
            held.waited = time;
        } else if let Some(held) = self.held.remove(at) {
            let report = self.stand_in.report.clone();
            self.release(held, &report, cx);
        }
    }

    /// Takes a held request back; returns whether it was there.
    pub(super) fn take_back(&mut self, id: &Id) -> bool {
        let asks = |held: &Held| matches!(&held.message.shape, Shape::Request { id: asked, .. } if asked == id);
        let at = self.held.iter().position(asks);
        at.and_then(|at| self.held.remove(at)).is_some()
    }

    /// Somebody waits: no time for pauses.
    fn try_again(&mut self, cx: &mut Context) {
        match self.stage {
            Stage::Opening { .. } => cx.act(Action::Hurry),
            Stage::Failed | Stage::Declined => {
                self.stage = Stage::Opening { answer: None };
                cx.act(Action::Open(self.initialize.clone()));
            }
            Stage::Opened { .. } | Stage::Useless(_) => {}
        }
    }

    /// Nobody waits: no person is asked again who has said no.
    pub(super) fn retry(&mut self, cx: &mut Context) {
        if !matches!(self.stage, Stage::Declined) {
            self.try_again(cx);
        }
    }

    fn remind_to_retry(&self, cx: &mut Context) {
        if matches!(self.stage, Stage::Failed) && cx.retry_reminder == RetryReminder::Unset {
            cx.retry_reminder = RetryReminder::Set;
            cx.remind(SECOND_TRY, Reminder::TryAgain);
        }
    }

    /// What has to happen before the server answers has changed.
    pub(super) fn on_need(&mut self, cx: &mut Context) {
        match &cx.person.need {
            Need::Person(_) => {
                self.stand_in.set_report(cx.sign_in_needed(), cx, Era::Legacy);
                if matches!(self.readiness, Readiness::Said(_)) {
                    cx.offer(Some(&self.initialize));
                }
            }
            // The person has done it, and the server is to answer; a moment later it will have. Until then its silence
            // is what the connection waits for, which is not worth a new list.
            Need::Nothing if self.stand_in.report.code == Code::SignInNeeded => {
                let sentence = format!("{} has not answered yet", text::host(&cx.settings.server));
                self.stand_in.replace_report(Report::new(Code::TimedOut, sentence, Some(STILL_TRIED)));
            }
            _ => {}
        }
    }

    /// The connection cannot be opened for now.
    pub(super) fn on_blocked(&mut self, error: &Error, pause: Duration, cx: &mut Context) {
        let report = Report::of_opening(error, &cx.settings.server);
        cx.openings.log_retry(&report, pause);
        // While a person is asked the server has nothing to answer.
        if !cx.person.is_signing_in() {
            self.stand_in.set_report(report, cx, Era::Legacy);
        }
    }

    /// The server's answer to the host's `initialize`.
    pub(super) fn on_answer(mut self: Box<Self>, id: &Id, message: Message, cx: &mut Context) -> Next {
        match &mut self.stage {
            Stage::Opening { answer } | Stage::Opened { answer }
                if answer.is_none() && self.initialize.requests().any(|asked| asked == id) =>
            {
                *answer = Some(message);
                self.complete_if_ready(cx)
            }
            _ => {
                let id = cx.settings.masker.line(id.as_json());
                debug!("dropping the server's response to {id}: no request with that ID was sent");
                Link::Provisional(self).into()
            }
        }
    }

    /// The server's answer to the `initialize` of a session that was replaced before the host was ready. The lists are
    /// looked at when the handshake is done.
    pub(super) fn on_renewed(&mut self, message: Message) {
        if let Stage::Opened { answer } = &mut self.stage {
            *answer = Some(message);
        }
    }

    pub(super) fn on_opened(mut self: Box<Self>, cx: &mut Context) -> Next {
        if let Stage::Opening { answer } = &mut self.stage {
            self.stage = Stage::Opened { answer: answer.take() };
        }
        self.complete_if_ready(cx)
    }

    pub(super) fn on_not_opened(&mut self, error: &Error, cx: &mut Context) {
        let report = Report::of_opening(error, &cx.settings.server);
        cx.openings.log(&report);
        self.give_up(&report, Stage::after(error), cx);
        self.remind_to_retry(cx);
    }

    /// What is held is answered with why; later requests go on from there.
    fn give_up(&mut self, report: &Report, stage: Stage, cx: &mut Context) {
        self.stage = stage;
        let (calls, lists): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held).into_iter().partition(Held::is_call);
        calls.into_iter().for_each(|held| self.release(held, report, cx));
        self.stand_in.set_report(report.clone(), cx, Era::Legacy);
        lists.into_iter().for_each(|held| self.release(held, report, cx));
    }

    fn complete_if_ready(self: Box<Self>, cx: &mut Context) -> Next {
        self.complete(cx).map_or_else(Link::Provisional, Link::Open).into()
    }

    /// Goes on with the server itself, if it is there.
    fn complete(mut self: Box<Self>, cx: &mut Context) -> Result<Box<Open>, Box<Self>> {
        let Stage::Opened { answer: Some(answer) } = &self.stage else { return Err(self) };
        // The handshake comes first; a host that leaves it out is not waited for.
        if matches!(self.readiness, Readiness::Awaited) {
            return Err(self);
        }
        let answer = answer.clone();
        let chosen = match Initialized::read(&answer) {
            Initialized::Version(chosen) => chosen,
            Initialized::Error(error) => {
                let report = refusal(&error, &cx.settings);
                warn!("{}", report.line());
                self.give_up(&report, Stage::Declined, cx);
                return Err(self);
            }
        };
        cx.descriptions.save(Learned::Initialize { request: self.initialize.clone(), answer: answer.body.clone() });
        if !carries_over(&self.version, &chosen) {
            let report = not_shared(&cx.settings, &self.version, &chosen);
            warn!("{}", report.line());
            self.give_up(&report.clone(), Stage::Useless(report), cx);
            return Err(self);
        }
        Ok(self.into_open(&answer, cx))
    }

    fn into_open(self: Box<Self>, answer: &Message, cx: &mut Context) -> Box<Open> {
        let Self { initialize, capabilities: told, stand_in, hold, readiness, held, level, .. } = *self;
        let has = capabilities(answer);
        if let Readiness::Said(initialized) = readiness {
            cx.act(Action::Send(initialized));
        }
        if let Some(level) = level.filter(|_| has.contains_key("logging")) {
            cx.act(Action::Send(level.with_id(&Id::fresh())));
        }
        let promised = Promised::new(told, &has);
        for Held { message, .. } in held {
            if !promised.answer_for_missing(&message, cx) {
                cx.act(Action::Send(message));
            }
        }
        // Somebody may still be asked: `initialize` may be open to all, and the lists not.
        let speaker = if matches!(cx.person.need, Need::Person(_)) {
            Speaker::StandIn(stand_in)
        } else {
            cx.person.complete_offer(&mut cx.host);
            Speaker::Server
        };
        let changed = cx.lists.reconcile(|list, last| {
            let is_there = has.contains_key(list.capability());
            match last {
                LastListed::Nothing => false,
                LastListed::Placeholder => is_there || list == List::Tools,
                LastListed::Pages(_) | LastListed::TooMuch => !is_there,
            }
        });
        cx.host.announce(Era::Legacy, &changed);
        cx.lists.refresh(&mut cx.host);
        Box::new(Open {
            session: HostSession::Legacy { initialize: Some(initialize) },
            speaker,
            promised: Some(promised),
            hold: Some(hold),
        })
    }
}

/// What the placeholder says of itself, where nothing is known of the server.
fn described(stand_in: &StandIn, server: &Url) -> Map<String, Value> {
    let info = json!({ "name": "mcp-remote", "title": text::host(server), "version": env!("CARGO_PKG_VERSION") });
    let words = format!(
        "{} Until the connection is established, this server has one tool, {}, which shows the status. Then \
         its own tools replace that tool.",
        stand_in.words(),
        stand_in.tool
    );
    Map::from_iter([("serverInfo".to_owned(), info), ("instructions".to_owned(), Value::String(words))])
}

/// A server's capabilities, with the announcements that we may have to make in its place.
fn with_changes(mut capabilities: Map<String, Value>) -> Map<String, Value> {
    for name in ["tools", "prompts", "resources"] {
        if let Some(Value::Object(capability)) = capabilities.get_mut(name) {
            capability.insert("listChanged".to_owned(), Value::Bool(true));
        }
    }
    capabilities
}

/// Returns the version to name to a host that asks for a modern one in `initialize`, as rmcp's client does: a
/// connection that begins with `initialize` cannot have a modern version (MCP 2026-07-28, Versioning).
fn newest_legacy(version: String) -> String {
    // Versions are dates: their order is that of the text.
    if version.as_str() > NEWEST_LEGACY { NEWEST_LEGACY.to_owned() } else { version }
}

fn carries_over(told: &str, chosen: &str) -> bool {
    let chosen = if chosen.is_empty() { OLDEST } else { chosen }; // it has named none
    told == chosen || RELATED.contains(&told) && RELATED.contains(&chosen)
}

/// Logs that the server's answer to `initialize`, which the host gets as it is, refuses the session.
pub(super) fn log_refusal(answer: &Message, settings: &Settings) {
    if let Initialized::Error(error) = Initialized::read(answer) {
        warn!("{}", refusal(&error, settings).line());
    }
}

fn refusal(error: &str, settings: &Settings) -> Report {
    let sentence = format!("{} rejected initialize: {}", text::host(&settings.server), settings.masker.error(error));
    Report::new(Code::Refused, sentence, None)
}

fn not_shared(settings: &Settings, told: &str, chosen: &str) -> Report {
    let (host, chosen) = (text::host(&settings.server), settings.masker.line(chosen));
    let sentence = format!(
        "protocol version not shared: mcp-remote answered the host with {told}, and {host} then chose {chosen}"
    );
    Report::new(Code::ProtocolVersionNotShared, sentence, None)
}
