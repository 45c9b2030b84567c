//! Whatever happens in whatever order: each request is answered once, and the server is told of nothing
//! before its handshake.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::oauth::{self, AskedBy, Asking};

/// Remembers a server with two tools, and its answer to `server/discover`, or nothing of both.
#[derive(Debug)]
struct Perhaps(bool, bool);

impl Descriptions for Perhaps {
    fn load(&mut self) -> Option<Description> {
        let text = r#"{"initialize":{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"prompts":7}},"lists":{"tools":[{"name":"a"},{"name":"hidden"}]}}"#;
        let discover = r#"{"discover":{"supportedVersions":["2026-07-28"]}}"#;
        match (self.0, self.1) {
            (true, false) => serde_json::from_str(text).ok(),
            (true, true) => serde_json::from_str(&format!("{},{}", &discover[..discover.len() - 1], &text[1..])).ok(),
            (false, true) => serde_json::from_str(discover).ok(),
            (false, false) => None,
        }
    }

    fn host_limits(&mut self, _: &HostName) -> HostLimits {
        HostLimits::default()
    }

    fn save(&mut self, _: Learned) {}

    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        None
    }
}

/// A person is asked by this process.
pub(super) fn asking(url: &str) -> Asking {
    Asking { prompt: Some(url.into()), complete: None, by: AskedBy::ThisProcess }
}

#[derive(Clone, Debug)]
enum Step {
    /// The host asks this, under a new id, or under one that it has used before.
    Asks(&'static str, Option<usize>),
    /// The same in a batch of two.
    AsksBoth(&'static str, &'static str),
    Initialized,
    /// The host answers somebody.
    Responds,
    /// The host takes back what it asked then.
    Cancels(usize),
    /// The server answers something that it was sent, or makes it lost.
    Answers(usize),
    Loses(usize),
    /// The server answers this much of what it was sent in one batch, the last one twice or not.
    AnswersAll(usize, bool),
    /// What comes from a connection that was left.
    ComesLate(usize, bool),
    /// The server acknowledges a stream of notifications that it was sent, or ends it.
    Acknowledges(usize),
    EndsStream(usize),
    /// The server turns out to be of the legacy era.
    IsLegacy,
    /// The server tells of progress.
    Progresses(usize, u8),
    /// The server answers what it was not sent, by itself or in a batch.
    MakesUp(usize, bool),
    Introduces(&'static str),
    /// The server wants none of it.
    Refuses,
    /// Whether that is known before the answer is read.
    Opens(bool),
    Fails(bool),
    Blocked,
    Needs(u8),
    Renews(&'static str),
    /// A reminder that is due, whichever it is.
    Reminds(usize),
    Wakes,
    /// So many seconds.
    Passes(u8),
    /// The host closes its end.
    Ends,
}

const CAPABILITIES: [&str; 3] = ["{}", r#"{"tools":{}}"#, r#"{"tools":{},"prompts":{},"logging":{}}"#];
const METHODS: [&str; 15] = [
    "initialize",
    "tools/list",
    "prompts/list",
    "tools/call",
    "tools/call\",\"params\":{\"name\":\"mcp_remote_sign_in\"},\"x\":\"",
    "ping",
    "logging/setLevel",
    "resources/read",
    "tools/call\",\"params\":{\"name\":\"hidden\"},\"x\":\"",
    "tools/call\",\"params\":{\"_meta\":{\"progressToken\":TOKEN}},\"x\":\"",
    "tools/list\",\"params\":{\"cursor\":\"2\"},\"x\":\"",
    DISCOVER,
    LISTEN,
    MODERN_LIST,
    "tools/call\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}},\"x\":\"",
];
const DISCOVER: &str = "server/discover";
const LISTEN: &str = "subscriptions/listen";
/// What asks for the first page of the tools.
const FIRST_PAGES: [&str; 2] = ["tools/list", MODERN_LIST];
const MODERN_LIST: &str =
    "tools/list\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}},\"x\":\"";

fn step() -> impl Strategy<Value = Step> {
    let method = || prop::sample::select(METHODS.to_vec());
    let capabilities = || prop::sample::select(CAPABILITIES.to_vec());
    prop_oneof![
        6 => method().prop_map(|method| Step::Asks(method, None)),
        1 => (method(), 0..20_usize).prop_map(|(method, at)| Step::Asks(method, Some(at))),
        1 => (method(), method()).prop_map(|(one, other)| Step::AsksBoth(one, other)),
        2 => Just(Step::Initialized),
        1 => Just(Step::Responds),
        1 => (0..20_usize).prop_map(Step::Cancels),
        4 => (0..20_usize).prop_map(Step::Answers),
        1 => (0..20_usize).prop_map(Step::Loses),
        1 => (1..5_usize, any::<bool>()).prop_map(|(most, twice)| Step::AnswersAll(most, twice)),
        1 => (0..20_usize, any::<bool>()).prop_map(|(at, lost)| Step::ComesLate(at, lost)),
        1 => (0..20_usize, 0..3_u8).prop_map(|(at, value)| Step::Progresses(at, value)),
        2 => (0..20_usize).prop_map(Step::Acknowledges),
        1 => (0..20_usize).prop_map(Step::EndsStream),
        1 => Just(Step::IsLegacy),
        1 => (0..20_usize, any::<bool>()).prop_map(|(id, batch)| Step::MakesUp(id, batch)),
        4 => capabilities().prop_map(Step::Introduces),
        1 => Just(Step::Refuses),
        4 => prop::bool::weighted(0.2).prop_map(Step::Opens),
        2 => any::<bool>().prop_map(Step::Fails),
        2 => Just(Step::Blocked),
        4 => (0..5_u8).prop_map(Step::Needs),
        2 => capabilities().prop_map(Step::Renews),
        2 => (0..9_usize).prop_map(Step::Reminds),
        1 => Just(Step::Wakes),
        2 => (0..5_u8).prop_map(Step::Passes),
        1 => prop::bool::weighted(0.1).prop_map(|ends| if ends { Step::Ends } else { Step::Wakes }),
    ]
}

/// What the two ends have seen.
struct World {
    forward: Forward,
    time: Arc<AtomicU64>,
    hides: bool,
    /// Per id: asked, answered; and whether it was ever taken back.
    asked: HashMap<String, (u32, u32, bool)>,
    /// With what method, where an id was used once.
    methods: HashMap<String, &'static str>,
    ids: Vec<String>,
    /// Those of streams of notifications: nobody waits for them at the end.
    streams: HashSet<String>,
    /// The connection: what it was opened with, whether it is open, whether it was introduced.
    first: Option<String>,
    open: bool,
    introduced: bool,
    has_session: bool,
    begun: Option<String>,
    sent: Vec<String>,
    /// What was sent on connections that were left.
    left: Vec<String>,
    reminders: Vec<Reminder>,
    /// The last progress that each token has heard of, and whether it was ours.
    progress: HashMap<String, (f64, bool)>,
    verdict: Verdict,
    /// Which one the server's list of tools is, and whether it has one.
    version: u32,
    has_tools: bool,
    /// Which one the host has last seen; none of the server's, if it was ours.
    seen: Option<Option<u32>>,
    /// It was told since that there is another.
    told: bool,
    /// Nobody can know whether the host has seen the server's list.
    doubtful: bool,
}

impl World {
    fn new(
        (known, knows_discover): (bool, bool),
        hides: bool,
        progress: bool,
        start: Start,
        protocol: Protocol,
    ) -> Self {
        let (clock, time) = clock();
        let settings = Settings {
            ignored_tools: hides.then(|| ToolPattern::new("hidden")).into_iter().collect(),
            limits: Limits { max_message_size: 100_000, progress_keepalive: progress, ..limits(start) },
            protocol,
            clock,
            ..settings(start)
        };
        Self {
            forward: Forward::new(settings, Box::new(Perhaps(known, knows_discover))),
            time,
            hides,
            asked: HashMap::new(),
            methods: HashMap::new(),
            ids: Vec::new(),
            streams: HashSet::new(),
            first: None,
            open: false,
            introduced: false,
            has_session: false,
            begun: None,
            sent: Vec::new(),
            left: Vec::new(),
            reminders: Vec::new(),
            progress: HashMap::new(),
            verdict: Verdict::Continue,
            version: 0,
            has_tools: false,
            seen: None,
            told: false,
            doubtful: false,
        }
    }

    fn happens(&mut self, event: Event) {
        if self.verdict == Verdict::Stop || self.verdict == Verdict::Drain && matches!(event, Event::Host(_)) {
            return; // nobody listens
        }
        let verdict = self.forward.handle(event);
        assert!(self.verdict == Verdict::Continue || verdict != Verdict::Continue, "it goes on after the end");
        self.verdict = verdict;
        self.look();
        if verdict == Verdict::Stop {
            let is_open = |(id, (asked, answered, taken_back)): (&String, &(u32, u32, bool))| {
                asked != answered && !taken_back && !self.streams.contains(id)
            };
            assert!(!self.asked.iter().any(is_open), "it stops before all is answered");
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.forward.action() {
            match action {
                Action::ToHost(body) => self.hears(&body),
                Action::Open(message) => {
                    let ids: Vec<_> = message.requests().map(ToString::to_string).collect();
                    let introduces = message.method() == Some("initialize");
                    self.version += 1;
                    if !introduces || ids.first() != self.begun.as_ref() {
                        (self.seen, self.told) = (None, false); // the host begins anew
                    }
                    self.begun = ids.first().cloned();
                    (self.open, self.introduced, self.has_session) = (false, !introduces, introduces);
                    self.first = Some(ids.first().cloned().unwrap_or_default());
                    self.left.append(&mut self.sent);
                    self.sent = if introduces { Vec::new() } else { ids };
                    self.has_tools &= introduces; // there is nobody to tell a modern host by, or it is not known
                }
                Action::Send(message) => {
                    assert!(self.open, "nothing is sent before the connection is open");
                    assert!(message.method() != Some("initialize"), "one initialize for each connection");
                    let text = message.body.to_bytes();
                    assert!(
                        !self.hides || !text.windows(8).any(|part| part == b"\"hidden\""),
                        "a call of a hidden tool"
                    );
                    self.sent.extend(message.requests().map(ToString::to_string));
                }
                Action::Remind(_, reminder) => {
                    assert!(reminder != Reminder::TryAgain || !self.reminders.contains(&reminder), "they add up");
                    self.reminders.push(reminder);
                }
                Action::Hurry | Action::SignInIsNeeded | Action::UserAsks | Action::Check => {}
            }
        }
    }

    fn hears(&mut self, body: &Body) {
        let text = body.to_bytes();
        assert!(!text.contains(&b'\n'));
        let message: Value = serde_json::from_slice(&text).unwrap();
        for message in message.as_array().cloned().unwrap_or_else(|| vec![message]) {
            if message["method"].is_null() {
                let id = message["id"].to_string();
                let Some((asked, answered, taken_back)) = self.asked.get_mut(&id) else {
                    panic!("nobody asked: {message}")
                };
                *answered += 1;
                assert!(answered <= asked, "answered twice: {message}");
                if !*taken_back && FIRST_PAGES.contains(&self.methods[&id]) && !message["result"].is_null() {
                    let version = |tool: &Value| tool["name"].as_str()?.strip_prefix('v')?.parse().ok();
                    let tools = message["result"]["tools"].as_array();
                    self.seen = Some(tools.map_or(Some(self.version), |tools| tools.iter().find_map(version)));
                    self.told = false;
                }
                let lists = self.methods.get(&id).is_some_and(|method| method.starts_with("tools/list"));
                assert!(!(self.hides && lists && message.to_string().contains("hidden")), "a hidden tool: {message}");
            } else if message["method"] == "notifications/tools/list_changed" {
                self.told = true;
            } else if message["method"] == "notifications/progress" {
                let token = message["params"]["progressToken"].to_string();
                let value = message["params"]["progress"].as_f64().unwrap();
                let ours = message["params"]["message"].is_string();
                let (asked, answered, taken_back) = self.asked[&token];
                assert!(!ours || asked > answered || taken_back, "progress after the answer");
                if let Some((before, was_ours)) = self.progress.insert(token, (value, ours)) {
                    assert!(!(ours || was_ours) || value > before, "{value} after {before}");
                }
            }
        }
    }

    fn asks(&mut self, method: &'static str, id: Option<usize>) -> String {
        let used = id.and_then(|at| self.ids.get(at).cloned());
        let count = self.ids.len();
        let new = || if count % 3 == 2 { format!("\"{count}\"") } else { count.to_string() };
        let id = used.unwrap_or_else(new);
        if method == LISTEN {
            self.streams.insert(id.clone());
        }
        self.ids.push(id.clone());
        self.asked.entry(id.clone()).or_default().0 += 1;
        if self.methods.insert(id.clone(), method).is_some() {
            self.methods.insert(id.clone(), "");
            self.doubtful = true;
            self.progress.remove(&id);
        }
        request(&id, &method.replace("TOKEN", &id))
    }

    fn host_asks(&mut self, method: &'static str, id: Option<usize>) {
        if self.verdict == Verdict::Continue {
            let text = self.asks(method, id);
            self.happens(from_host(&text));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Asks(method, id) => self.host_asks(method, id),
            Step::AsksBoth(one, other) if self.verdict == Verdict::Continue => {
                let text = format!("[{},{}]", self.asks(one, None), self.asks(other, None));
                // What is asked for in a batch is looked at only where it is taken apart.
                self.doubtful |= [one, other].iter().any(|method| FIRST_PAGES.contains(method));
                self.happens(from_host(&text));
            }
            Step::Initialized => self.happens(from_host(INITIALIZED)),
            Step::Responds => self.happens(from_host(&result(77))),
            Step::Cancels(at) => {
                if let Some(id) = self.ids.get(at).cloned() {
                    self.asked.get_mut(&id).unwrap().2 = true;
                    self.happens(from_host(&cancelled(id)));
                }
            }
            Step::Answers(at) if self.open && at < self.sent.len() => {
                let id = self.sent.swap_remove(at);
                self.happens(from_server(&self.tools(id)));
            }
            Step::Loses(at) if self.open && at < self.sent.len() => {
                let id = self.sent.swap_remove(at);
                self.doubtful |= self.is_ours(&id);
                self.happens(lost(&[&id]));
            }
            Step::AnswersAll(most, twice) if self.open && !self.sent.is_empty() => {
                let ids: Vec<_> = self.sent.drain(..most.min(self.sent.len())).collect();
                let mut answers: Vec<_> = ids.iter().map(|id| self.tools(id)).collect();
                answers.extend(twice.then(|| self.tools(&ids[0])));
                self.happens(from_server(&format!("[{}]", answers.join(","))));
            }
            Step::ComesLate(at, is_lost) if at < self.left.len() => {
                let id = self.left.swap_remove(at);
                self.happens(if is_lost { lost(&[&id]) } else { from_server(&self.tools(id)) });
            }
            Step::Progresses(at, value) if self.open && at < self.sent.len() => {
                let (token, value) = (&self.sent[at], f64::from(value));
                if self.asked.contains_key(token) && self.methods[token].contains("TOKEN") {
                    let params = format!(r#"{{"progressToken":{token},"progress":{value}}}"#);
                    let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
                    self.happens(from_server(&text));
                }
            }
            Step::Acknowledges(at) if self.open && at < self.sent.len() => {
                let id = &self.sent[at];
                let params = format!(
                    r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}},"notifications":{{"toolsListChanged":true}}}}"#
                );
                let method = "notifications/subscriptions/acknowledged";
                self.happens(from_server(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)));
            }
            Step::EndsStream(at)
                if self.is_modern() && self.open && at < self.sent.len() && self.streams.contains(&self.sent[at]) =>
            {
                let id = self.sent.swap_remove(at);
                if let Some(asked) = self.asked.get_mut(&id) {
                    asked.2 = true;
                }
                self.happens(from_server(&cancelled(id)));
            }
            Step::IsLegacy if !self.sent.is_empty() => {
                let id = self.sent.remove(0);
                self.doubtful |= self.is_ours(&id);
                let ids = vec![Id::from_json(id.as_bytes())];
                let error = Arc::new(Error::LegacyServer { words: None });
                self.happens(Event::Remote(remote::Event::Lost { ids, method: None, error }));
            }
            Step::MakesUp(id, batch) => {
                self.doubtful |= self.first == Some(id.to_string()); // it may be an introduction
                let answer = result(id);
                self.happens(from_server(&if batch { format!("[{answer}]") } else { answer }));
            }
            Step::Introduces(capabilities) if !self.introduced => self.introduces(capabilities),
            Step::Refuses if !self.introduced && self.first.is_some() => {
                let id = self.first.clone().unwrap();
                (self.introduced, self.has_tools) = (true, false);
                let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"no"}}}}"#);
                self.happens(from_server(&text));
            }
            Step::Opens(early) if self.first.is_some() && !self.open && (self.introduced || early) => self.opens(),
            // What an introduction follows no longer fails.
            Step::Fails(by_person)
                if self.first.is_some() && !self.open && (!self.introduced || !self.sent.is_empty()) =>
            {
                self.first = None;
                self.left.append(&mut self.sent);
                let error = if by_person {
                    Error::Unauthorized(Box::new(oauth::error::Error::Local("no".to_owned())))
                } else {
                    Error::NoAnswer("gone")
                };
                self.happens(Event::Opened(Err(error)));
            }
            Step::Blocked if self.first.is_some() && !self.open => {
                self.happens(Event::Remote(remote::Event::Blocked(
                    Arc::new(Error::NoAnswer("down")),
                    Duration::from_secs(1),
                )));
            }
            Step::Needs(which) => self.happens(Event::Need(match which {
                0 => Need::Nothing,
                1 => Need::Token,
                2 => Need::SignIn,
                3 => Need::Person(asking("https://as.example/")),
                _ => Need::Failed(oauth::error::Error::Local("no".to_owned())),
            })),
            Step::Renews(capabilities) if self.open && self.introduced && self.has_session => {
                self.version += 1;
                self.has_tools = capabilities.contains("tools");
                let answer = Message::from_text(introduction("own", capabilities)).unwrap();
                self.happens(Event::Remote(remote::Event::Renewed(answer)));
            }
            Step::Reminds(at) if at < self.reminders.len() => {
                let reminder = self.reminders.swap_remove(at);
                self.happens(Event::Reminder(reminder));
            }
            Step::Passes(seconds) => _ = self.time.fetch_add(u64::from(seconds) * 1000, Relaxed),
            Step::Wakes => self.happens(Event::Woke(Duration::from_secs(60))),
            Step::Ends => self.happens(Event::Host(Incoming::End)),
            _ => {}
        }
    }

    fn introduces(&mut self, capabilities: &str) {
        if let Some(first) = self.first.clone() {
            self.introduced = true;
            self.has_tools = capabilities.contains("tools");
            self.happens(from_server(&introduction(&first, capabilities)));
        }
    }

    fn is_modern(&self) -> bool {
        matches!(&self.forward.link, Link::Open(open) if matches!(open.session, open::HostSession::Modern))
    }

    fn is_ours(&self, id: &str) -> bool {
        !self.asked.contains_key(id)
    }

    /// The server's answer; one tool is to be hidden.
    fn tools(&self, id: impl std::fmt::Display) -> String {
        let tools = format!(r#"{{"tools":[{{"name":"a"}},{{"name":"hidden"}},{{"name":"v{}"}}]}}"#, self.version);
        result(id).replace("{}", &tools)
    }

    fn opens(&mut self) {
        self.open = true;
        self.happens(Event::Opened(Ok(())));
    }
}

fn introduction(id: &str, capabilities: &str) -> String {
    let id = if id == "own" { "\"own\"" } else { id };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{capabilities}}}}}"#
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_answered_once_and_connection_opens(
        (known, knows_discover, hides, progress, lists, holds) in any::<(bool, bool, bool, bool, bool, bool)>(),
        (first, protocol) in (prop::sample::select(vec!["initialize", "initialize", DISCOVER, MODERN_LIST, LISTEN]), prop_oneof![
            6 => Just(Protocol::Auto), 1 => Just(Protocol::Legacy), 1 => Just(Protocol::Modern),
        ]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let start = if holds { Start::Hold } else { Start::Answer };
        let mut world = World::new((known, knows_discover), hides, progress, start, protocol);
        world.host_asks(first, None);
        for step in steps {
            world.step(step);
        }
        if world.verdict == Verdict::Continue {
            // From here on the server is well, and the host asks for something.
            world.happens(Event::Need(Need::Nothing));
            world.happens(from_host(INITIALIZED));
            let asked = if lists { &["tools/list", "resources/read"][..] } else { &["resources/read"] };
            asked.iter().for_each(|method| world.host_asks(method, None));
            for _ in 0..50 {
                if world.first.is_none() || world.open && world.introduced {
                    break;
                }
                if !world.introduced {
                    world.introduces(r#"{"tools":{}}"#);
                }
                if !world.open {
                    world.opens();
                }
            }
            for id in &world.ids[world.ids.len() - asked.len()..] {
                let (_, answered, _) = world.asked[id];
                prop_assert!(answered == 1 || world.sent.contains(id), "{:?}", world.forward);
            }
            while world.open && !world.sent.is_empty() {
                world.step(Step::Answers(0));
            }
            let stands = matches!(world.forward.link, Link::Open(_)) && world.has_tools;
            if let (Some(seen), true, false) = (world.seen, stands, world.doubtful) {
                prop_assert!(seen == Some(world.version) || world.told, "the host goes on with another list of tools");
            }
        }
        world.forward.close();
        world.look();
        for (id, (asked, answered, taken_back)) in &world.asked {
            prop_assert!(asked == answered || *taken_back, "{} was asked {} times, answered {}", id, asked, answered);
        }
    }
}
