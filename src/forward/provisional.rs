//! Answering in the server's place, for as long as somebody has to sign in or the server cannot be
//! reached: hosts end a program that does not answer `initialize` within 30 to 60 s, and the sign-in with
//! it.
//!
//! The host gets a provisional answer to its `initialize`, from the last known [`Description`] or else a
//! neutral one; lists are answered from the same, calls are held for a while. Behind that the host's own
//! `initialize` is performed with the server. When the connection stands, what was held goes out, and the
//! host is told which lists are other than it was shown.
//!
//! Must never: be in the way of a server that answers; show one account what was learned for another;
//! hold without a limit.

use std::{collections::VecDeque, time::Duration};

use log::{debug, info, warn};
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::{
    Action, Beginning, Forward, Link, MOST_WAITING, Opening, Reminder, Shown,
    hold::Time,
    owed::Debt,
    stand_in::{StandIn, names_stand_in},
    survey::own_id,
    told::{Told, capabilities},
};
use crate::{
    description::{Description, Learned, List, Wish},
    era::Era,
    message::{Id, Message, Shape},
    oauth::{AskedBy, Need},
    remote::{error::Error, handshake::Initialized},
    report::{Code, Report},
    text,
};

/// How long a request is held: hosts give up after 60 s, and an answer that comes before says more than
/// their time-out.
const HOLD: Duration = Duration::from_secs(45);
/// Pause before an opening that failed is tried again unasked: what stands in the way is for somebody to
/// put right.
const SECOND_TRY: Duration = Duration::from_secs(60);
/// Revisions whose messages a host and a server of different ones can make of each other: each later one
/// only added to the earlier (MCP, Key Changes), but for the batches that only 2025-03-26 has, and those are
/// taken apart for a host that was answered in the server's place.
const RELATED: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The newest of them.
const NEWEST_LEGACY: &str = "2025-11-25";
/// What a host or a server means that names no revision: it can only be an old one.
const OLDEST: &str = "2024-11-05";
/// Added to what the stand-in tool says, where its call begins a new try.
const TRYING_AGAIN: &str = ". This is being tried again now: call this tool once more to see what came of it";
/// Every capability that a host could miss later (MCP 2025-11-25, Lifecycle, Capability Negotiation).
const NEUTRAL: &str = r#"{"completions":{},"logging":{},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}}"#;

/// The connection that comes about behind a provisional answer.
#[derive(Debug)]
pub(super) struct Provisional {
    /// The host's own, to be performed with the server.
    initialize: Message,
    readiness: Readiness,
    /// What the host was told.
    revision: String,
    capabilities: Map<String, Value>,
    stage: Stage,
    /// In order; for the server.
    held: VecDeque<Held>,
    /// The log level the host has set; it was answered.
    level: Option<Message>,
}

impl Provisional {
    /// The host has said that it is ready: until then nothing is asked of it (MCP 2025-11-25, Lifecycle).
    pub(super) fn is_host_ready(&self) -> bool {
        matches!(self.readiness, Readiness::Said(_))
    }
}

/// Whether the host is ready for a server (MCP 2025-11-25, Lifecycle).
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
enum Stage {
    /// It is being opened.
    Opening { answer: Option<Message> },
    /// It is open; the server's answer or the host's readiness is on its way.
    Opened { answer: Option<Message> },
    /// It is not; the next request tries again, and if `unasked` so does a reminder.
    Failed { unasked: bool },
    /// It stands, and is of no use to this host.
    Useless(Report),
}

#[derive(Debug)]
struct Held {
    serial: u64,
    message: Message,
    /// How long it is held in all, as far as is decided.
    waited: Duration,
}

impl Stage {
    /// An opening came to this. Nobody is asked to sign in unless somebody does something.
    fn after(error: &Error) -> Self {
        Self::Failed { unasked: !matches!(error, Error::Unauthorized(_)) }
    }
}

impl Forward {
    /// Answers the host's `initialize` in the server's place, if it is known that the server cannot, and the host is
    /// not to be held for it.
    pub(super) fn consider(&mut self) {
        let Link::Opening(opening) = &self.link else { return };
        if !self.may_be_introduced() {
            return;
        }
        let unreachable = opening.hurdle.as_ref().is_some_and(|hurdle| !hurdle.passing);
        let certain = unreachable || matches!(self.need, Need::Person(_));
        if matches!(&self.need, Need::Person(asking) if asking.by == AskedBy::EndedProcess) {
            self.hold_for_open_tab();
        }
        if !self.has_reason() && self.time_of_hold() != Time::InAnyCase {
            return self.look_at_limits();
        }
        let known = self.known_server();
        if known.is_none() {
            self.look_at_limits();
            // What is to be opened comes a moment later than the need for it.
            let due = match self.time_of_hold() {
                Time::Early => false,
                Time::ForReason => certain,
                Time::InAnyCase => true,
            };
            if !due {
                return self.answer_what_waits();
            }
        }
        let trouble = self.trouble();
        self.answer_provisionally(known, trouble, Stage::Opening { answer: None });
    }

    /// Whether it is known that the server cannot answer yet.
    fn has_reason(&self) -> bool {
        let Link::Opening(opening) = &self.link else { return false };
        opening.hurdle.as_ref().is_some_and(|hurdle| !hurdle.passing) || self.is_signing_in()
    }

    /// What is known of the server from before, if it has answered `initialize` then.
    pub(super) fn known_server(&mut self) -> Option<Description> {
        self.memory.recall().filter(|known| !known.initialize.is_empty())
    }

    /// Why the server has not answered yet.
    fn trouble(&self) -> Report {
        let hurdle = match &self.link {
            Link::Opening(opening) => opening.hurdle.as_ref().map(|hurdle| hurdle.report.clone()),
            _ => None,
        };
        match &self.need {
            Need::Person(_) => self.sign_in_needed(),
            // The time that a sign-in takes is not the server's silence.
            Need::SignIn => {
                hurdle.filter(|hurdle| hurdle.code != Code::TimedOut).unwrap_or_else(|| self.sign_in_needed())
            }
            _ => hurdle.unwrap_or_else(|| {
                let slow = Report::of_slow_opening(&self.server, self.held_for());
                warn!("{}", slow.line()); // a hurdle was logged when it was met
                slow
            }),
        }
    }

    /// While `initialize` is held, a host that does not wait for it has its other questions answered: empty, never
    /// with an error, after which Gemini CLI gives the whole server up.
    pub(super) fn answer_what_waits(&mut self) {
        if !self.may_be_introduced() || !self.has_reason() {
            return;
        }
        let Link::Opening(opening) = &mut self.link else { return };
        let is_simple = |message: &Message| match &message.shape {
            Shape::Request { method, .. } => {
                &**method == "ping" || List::of_method(method).is_some_and(|list| list != List::Tools)
            }
            _ => false,
        };
        let (simple, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut opening.waiting).into_iter().partition(is_simple);
        opening.waiting = waiting;
        for message in simple {
            let Shape::Request { id, method } = &message.shape else { continue };
            match List::of_method(method) {
                Some(list) => {
                    self.answer(id, &format!(r#"{{"{}":[]}}"#, list.member()));
                    self.shown[list.index()] = Shown::InItsPlace;
                }
                None => self.answer(id, "{}"),
            }
        }
    }

    /// The host has cancelled its `initialize`.
    pub(super) fn end_hold_of_initialize(&mut self) {
        if self.may_be_introduced() && self.has_reason() {
            let (known, trouble) = (self.known_server(), self.trouble());
            self.answer_provisionally(known, trouble, Stage::Opening { answer: None });
        }
    }

    /// The host sends no more: what is held for it is answered now.
    pub(super) fn end_holds(&mut self) {
        self.note_given_up(None);
        self.end_hold_of_initialize();
        match &mut self.link {
            Link::Provisional(provisional) => {
                let held = std::mem::take(&mut provisional.held);
                let report = match &self.stand_in {
                    Some(stand_in) => stand_in.trouble.clone(),
                    None => self.sign_in_needed(),
                };
                held.into_iter().for_each(|held| self.release(held.message, &report));
            }
            Link::Open(_) => self.answer_open_lists(),
            Link::Closed | Link::Opening(_) => {}
        }
    }

    /// The connection does not come about: what is known of this server from before is better than
    /// nothing. Whether there is something.
    pub(super) fn falls_back(&mut self, error: &Error, trouble: &Report) -> bool {
        if !self.may_be_introduced() {
            return false;
        }
        let Some(known) = self.known_server() else { return false };
        self.answer_provisionally(Some(known), trouble.clone(), Stage::after(error));
        true
    }

    fn answer_provisionally(&mut self, known: Option<Description>, trouble: Report, stage: Stage) {
        if !self.may_be_introduced() {
            return;
        }
        let Link::Opening(opening) = std::mem::replace(&mut self.link, Link::Closed) else { return };
        let Opening { first, beginning: Beginning::Initialize(initialize), mut waiting, .. } = *opening else { return };
        let asked = Wish::of(&initialize).revision.unwrap_or_else(|| OLDEST.to_owned());
        let asked = newest_legacy(asked);
        let stand_in = StandIn::new(known, trouble);
        let mut result = match &stand_in.known {
            Some(known) => known.initialize.clone(),
            None => Map::new(),
        };
        let revision =
            stand_in.known.as_ref().map_or_else(|| asked.clone(), |known| newest_legacy(known.revision(&asked)));
        let capabilities = match &stand_in.known {
            Some(known) => with_changes(known.capabilities()),
            None => serde_json::from_str(NEUTRAL).unwrap_or_default(),
        };
        result.insert("protocolVersion".to_owned(), Value::String(revision.clone()));
        result.insert("capabilities".to_owned(), Value::Object(capabilities.clone()));
        if stand_in.known.is_none() {
            let info = json!({ "name": "mcp-remote", "title": text::host(&self.server), "version": env!("CARGO_PKG_VERSION") });
            result.insert("serverInfo".to_owned(), info);
            let words = format!(
                "{}. Until then this server has one tool, {}, which says how it stands; its own tools appear by \
                 themselves.",
                stand_in.words(),
                stand_in.tool
            );
            result.insert("instructions".to_owned(), Value::String(words));
        }
        info!(
            "answering the host with {} until the server is available",
            match stand_in.known {
                Some(_) => "what the server was last known to have",
                None => "a placeholder",
            }
        );
        for id in &first {
            self.answer(id, &Value::Object(result.clone()).to_string());
        }
        let again = matches!(stage, Stage::Failed { unasked: true });
        self.stand_in = Some(Box::new(stand_in));
        self.link = Link::Provisional(Box::new(Provisional {
            initialize,
            readiness: Readiness::Awaited,
            revision,
            capabilities,
            stage,
            held: VecDeque::new(),
            level: None,
        }));
        if again {
            self.remind_to_try();
        }
        while let Some(message) = waiting.pop_front() {
            if message.method() == Some("initialize") {
                return self.open(message, waiting); // on a connection of its own
            }
            // A batch was kept whole for a server that answers.
            message.split().into_iter().flatten().for_each(|part| self.meanwhile(part));
        }
    }

    /// A message of the host's before the connection stands; requests are owed already.
    pub(super) fn meanwhile(&mut self, message: Message) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        if matches!(&message.shape, Shape::Request { method, .. } if &**method != "ping") {
            if matches!(provisional.readiness, Readiness::Awaited) {
                provisional.readiness = Readiness::Shown;
            }
            self.complete();
        }
        let person_is_asked = self.is_signing_in();
        let Link::Provisional(provisional) = &mut self.link else {
            if !self.was_misled(&message) {
                self.pass_on(message);
            }
            return;
        };
        let is_under_way = matches!(provisional.stage, Stage::Opening { .. } | Stage::Opened { .. });
        match &message.shape {
            Shape::Request { id, method } => match (&**method, List::of_method(method)) {
                ("ping", _) => self.answer(&id.clone(), "{}"),
                ("logging/setLevel", _) => {
                    let id = id.clone();
                    provisional.level = Some(message);
                    self.answer(&id, "{}");
                }
                (_, Some(list)) => {
                    let id = id.clone();
                    let may_come = matches!(
                        provisional.stage,
                        Stage::Opening { .. } | Stage::Opened { .. } | Stage::Failed { unasked: true }
                    );
                    let later_page = self.owed.get(&id).is_some_and(Debt::is_later_page);
                    match self.holds_list(&id, list, later_page).filter(|_| may_come) {
                        Some((serial, time)) => self.hold_as(message, serial, time),
                        None => self.answer_list(&id, list),
                    }
                }
                // While a person is asked, the call is worth waiting for: its answer is then that it is done.
                ("tools/call", _) if names_stand_in(&message) && !(person_is_asked && is_under_way) => {
                    let id = id.clone();
                    let failed = matches!(provisional.stage, Stage::Failed { .. });
                    self.try_again();
                    self.tell(&id, if failed { TRYING_AGAIN } else { "" });
                }
                _ => self.hold(message),
            },
            Shape::Notification { method } if &**method == "notifications/initialized" => {
                provisional.readiness = Readiness::Said(message);
                self.offer();
                self.complete();
            }
            _ => self.hold(message),
        }
    }

    fn hold(&mut self, message: Message) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        if let Stage::Useless(report) = &provisional.stage {
            let report = report.clone();
            return self.fail_all(&message, &report);
        }
        let time = self.time_for_call();
        if message.requests().next().is_some() {
            self.actions.push_back(Action::SignInIsNeeded);
        }
        self.serial += 1;
        self.hold_as(message, self.serial, time);
    }

    /// How long a call is held: for a person nearly as long as hosts wait, for the network as long as everything is
    /// tried again.
    fn time_for_call(&self) -> Duration {
        let slow = self.stand_in.as_ref().is_some_and(|stand_in| stand_in.trouble.code == Code::TimedOut);
        if self.is_signing_in() || slow { HOLD } else { HOLD.min(self.retry_for) }
    }

    pub(super) fn is_signing_in(&self) -> bool {
        matches!(self.need, Need::SignIn | Need::Person(_))
    }

    fn hold_as(&mut self, message: Message, serial: u64, time: Duration) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        let before: usize = provisional.held.iter().map(|held| held.message.body.len()).sum();
        if provisional.held.len() >= MOST_WAITING || before > self.max_message {
            return self.refuse_to_hold(&message);
        }
        let is_request = message.requests().next().is_some();
        provisional.held.push_back(Held { serial, message, waited: time });
        if is_request {
            self.actions.push_back(Action::Remind(time, Reminder::Overdue(serial)));
            self.try_again();
        }
        self.complete();
    }

    /// Answers what was held, now that it is held no longer: a list with the placeholder, a call with the reason.
    fn release(&mut self, message: Message, report: &Report) {
        match &message.shape {
            Shape::Request { id, method } => match List::of_method(method) {
                Some(list) => {
                    let id = id.clone();
                    self.answer_list(&id, list);
                }
                None if &**method == "tools/call" && names_stand_in(&message) => self.tell(&id.clone(), ""),
                None => self.fail_all(&message, report),
            },
            _ => self.fail_all(&message, report),
        }
    }

    /// Somebody waits: no time for pauses.
    fn try_again(&mut self) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        match provisional.stage {
            Stage::Opening { .. } => self.actions.push_back(Action::Hurry),
            Stage::Failed { .. } => {
                provisional.stage = Stage::Opening { answer: None };
                self.actions.push_back(Action::Open(provisional.initialize.clone()));
            }
            Stage::Opened { .. } | Stage::Useless(_) => {}
        }
    }

    /// Nobody waits: no person is asked again who has said no.
    pub(super) fn try_unasked(&mut self) {
        let Link::Provisional(provisional) = &self.link else { return };
        if !matches!(provisional.stage, Stage::Failed { unasked: false }) {
            self.try_again();
        }
    }

    /// One reminder at a time, however often it fails.
    fn remind_to_try(&mut self) {
        if !std::mem::replace(&mut self.tries_again, true) {
            self.actions.push_back(Action::Remind(SECOND_TRY, Reminder::TryAgain));
        }
    }

    /// The time of a reminder has come.
    pub(super) fn reminded(&mut self, reminder: Reminder) {
        match reminder {
            Reminder::TryAgain => {
                self.tries_again = false;
                self.try_unasked();
            }
            Reminder::Progress(serial) => self.sign_of_life(serial),
            Reminder::Overdue(serial) => {
                let Link::Provisional(provisional) = &mut self.link else { return };
                let Some(at) = provisional.held.iter().position(|held| held.serial == serial) else { return };
                let Some(held) = provisional.held.remove(at) else { return };
                let is_call = held.message.method().and_then(List::of_method).is_none();
                let time = self.time_for_call();
                // A person is asked by now: the call is held for as long as that is worth it.
                if is_call && time > held.waited {
                    let Held { message, waited, .. } = held;
                    self.actions.push_back(Action::Remind(time - waited, Reminder::Overdue(serial)));
                    if let Link::Provisional(provisional) = &mut self.link {
                        provisional.held.insert(at, Held { serial, message, waited: time });
                    }
                    return;
                }
                let report = match &self.stand_in {
                    Some(stand_in) => stand_in.trouble.clone(),
                    None => self.sign_in_needed(),
                };
                self.release(held.message, &report);
            }
            Reminder::Hold => self.consider(),
            Reminder::HostWaits => self.note_that_host_waits(),
            Reminder::Discover => self.discover_is_due(),
            Reminder::List(serial) => {
                if let Some(id) = self.list_hold_is_over(serial)
                    && self.stand_in.is_some()
                    && matches!(self.link, Link::Open(_))
                {
                    self.answer_list(&id, List::Tools); // the server's own answer will find nothing owed
                }
            }
        }
    }

    /// Takes a held request back; whether it was there.
    pub(super) fn take_back(&mut self, id: &Id) -> bool {
        let Link::Provisional(provisional) = &mut self.link else { return false };
        let asks = |held: &Held| matches!(&held.message.shape, Shape::Request { id: asked, .. } if asked == id);
        let at = provisional.held.iter().position(asks);
        at.and_then(|at| provisional.held.remove(at)).is_some()
    }

    /// The server's answer to the host's `initialize`, where it was answered already.
    pub(super) fn server_introduced(&mut self, id: &Id, message: Message) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        match &mut provisional.stage {
            Stage::Opening { answer } | Stage::Opened { answer }
                if answer.is_none() && provisional.initialize.requests().any(|asked| asked == id) =>
            {
                *answer = Some(message);
                self.complete();
            }
            _ => debug!("a response to {id} is dropped: nothing with that id was sent"),
        }
    }

    /// The server's answer to the `initialize` of a session that was replaced before the host was ready;
    /// whether it was that.
    pub(super) fn introduced_again(&mut self, message: &Message) -> bool {
        let Link::Provisional(provisional) = &mut self.link else { return false };
        if let Stage::Opened { answer } = &mut provisional.stage {
            *answer = Some(message.clone());
        }
        true
    }

    /// The connection behind the provisional answer is open.
    pub(super) fn opened_behind(&mut self) {
        if let Link::Provisional(provisional) = &mut self.link
            && let Stage::Opening { answer } = &mut provisional.stage
        {
            provisional.stage = Stage::Opened { answer: answer.take() };
            self.complete();
        }
    }

    /// The connection behind the provisional answer did not come about.
    pub(super) fn not_opened_behind(&mut self, error: &Error) {
        let report = Report::of_opening(error, &self.server);
        self.openings.log(&report);
        let stage = Stage::after(error);
        let again = matches!(stage, Stage::Failed { unasked: true });
        self.give_up(&report, stage);
        if again {
            self.remind_to_try();
        }
    }

    /// What is held is answered with why; later requests go on from there.
    fn give_up(&mut self, report: &Report, stage: Stage) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        provisional.stage = stage;
        let held = std::mem::take(&mut provisional.held);
        let is_call = |held: &Held| held.message.method().and_then(List::of_method).is_none();
        let (calls, lists): (Vec<_>, Vec<_>) = held.into_iter().partition(is_call);
        calls.into_iter().for_each(|held| self.release(held.message, report));
        self.restate(report.clone());
        lists.into_iter().for_each(|held| self.release(held.message, report));
    }

    /// Goes on with the server itself, if it is there.
    fn complete(&mut self) {
        let Link::Provisional(provisional) = &mut self.link else { return };
        let Stage::Opened { answer: Some(answer) } = &provisional.stage else { return };
        // The handshake comes first; a host that leaves it out is not waited for.
        if matches!(provisional.readiness, Readiness::Awaited) {
            return;
        }
        let answer = answer.clone();
        let chosen = match Initialized::read(&answer) {
            Initialized::Version(chosen) => chosen,
            Initialized::Error(error) => {
                let report = refusal(&error, &self.server);
                warn!("{}", report.line());
                return self.give_up(&report, Stage::Failed { unasked: false });
            }
        };
        self.memory.keep(Learned::Initialize { request: provisional.initialize.clone(), answer: answer.body.clone() });
        if !carries_over(&provisional.revision, &chosen) {
            let report = not_shared(&text::host(&self.server), &provisional.revision, &chosen);
            warn!("{}", report.line());
            return self.give_up(&report.clone(), Stage::Useless(report));
        }
        let Link::Provisional(provisional) = std::mem::replace(&mut self.link, Link::Open(Era::Legacy)) else { return };
        let Provisional { readiness, held, level, capabilities: told, .. } = *provisional;
        let has = capabilities(&answer);
        let level = level.filter(|_| has.contains_key("logging")).map(|level| level.with_id(&own_id()));
        self.told = Some(Box::new(Told::new(told, &has)));
        let initialized = if let Readiness::Said(initialized) = readiness { Some(initialized) } else { None };
        self.actions.extend(initialized.into_iter().chain(level).map(Action::Send));
        for Held { message, .. } in held {
            if !self.was_misled(&message) {
                self.actions.push_back(Action::Send(message));
            }
        }
        // Somebody may still be asked: `initialize` may be open to all, and the lists not.
        if !matches!(self.need, Need::Person(_)) {
            self.stand_in = None;
            self.offer_is_over();
        }
        let mut changed = Vec::new();
        for list in List::ALL {
            let shown = &mut self.shown[list.index()];
            let there = has.contains_key(list.capability());
            match shown {
                Shown::InItsPlace if there || list == List::Tools => changed.push(list),
                Shown::Pages(_) | Shown::TooMuch if !there => changed.push(list),
                _ => continue,
            }
            *shown = Shown::Nothing;
        }
        self.announce(&changed);
        self.look_again();
    }
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
pub(super) fn log_refusal(answer: &Message, server: &Url) {
    if let Initialized::Error(error) = Initialized::read(answer) {
        warn!("{}", refusal(&error, server).line());
    }
}

fn refusal(error: &str, server: &Url) -> Report {
    let sentence = format!("{} refuses the session: {}", text::host(server), text::one_line(error.as_bytes()));
    Report::new(Code::Refused, sentence, None)
}

fn not_shared(host: &str, told: &str, chosen: &str) -> Report {
    let chosen = text::one_line(chosen.as_bytes());
    let sentence =
        format!("protocol version not shared: the host was told {told} in {host}'s place, which has chosen {chosen}");
    Report::new(Code::ProtocolVersionNotShared, sentence, None)
}
