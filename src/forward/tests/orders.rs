//! Whatever happens in whatever order: each request is answered once, and the server is told of nothing
//! before its handshake.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::oauth;

/// Remembers a server with two tools, or nothing.
#[derive(Debug)]
struct Perhaps(bool);

impl Memory for Perhaps {
    fn recall(&mut self) -> Option<Description> {
        let text = r#"{"initialize":{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"prompts":7}},"lists":{"tools":[{"name":"a"},{"name":"b"}]}}"#;
        self.0.then(|| serde_json::from_str(text).unwrap())
    }

    fn keep(&mut self, _: Learned) {}

    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        None
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The host asks this, under a new id, or under one that it has used before.
    Asks(&'static str, Option<usize>),
    /// The same in a batch of two.
    AsksBoth(&'static str, &'static str),
    Initialized,
    /// The host takes back what it asked then.
    Cancels(usize),
    /// The server answers something that it was sent, or makes it lost.
    Answers(usize),
    Loses(usize),
    /// The server answers what it was not sent, by itself or in a batch.
    MakesUp(usize, bool),
    Introduces(&'static str),
    Opens,
    Fails(bool),
    Hurdle,
    Needs(u8),
    Renews(&'static str),
    /// A reminder that is due, whichever it is.
    Reminds(usize),
    Wakes,
}

const CAPABILITIES: [&str; 3] = ["{}", r#"{"tools":{}}"#, r#"{"tools":{},"prompts":{},"logging":{}}"#];
const METHODS: [&str; 8] = [
    "initialize",
    "tools/list",
    "prompts/list",
    "tools/call",
    "tools/call\",\"params\":{\"name\":\"mcp_remote_sign_in\"},\"x\":\"",
    "ping",
    "logging/setLevel",
    "resources/read",
];

fn step() -> impl Strategy<Value = Step> {
    let method = || prop::sample::select(METHODS.to_vec());
    let capabilities = || prop::sample::select(CAPABILITIES.to_vec());
    prop_oneof![
        6 => method().prop_map(|method| Step::Asks(method, None)),
        1 => (method(), 0..20_usize).prop_map(|(method, at)| Step::Asks(method, Some(at))),
        1 => (method(), method()).prop_map(|(one, other)| Step::AsksBoth(one, other)),
        2 => Just(Step::Initialized),
        1 => (0..20_usize).prop_map(Step::Cancels),
        4 => (0..20_usize).prop_map(Step::Answers),
        1 => (0..20_usize).prop_map(Step::Loses),
        1 => (0..20_usize, any::<bool>()).prop_map(|(id, batch)| Step::MakesUp(id, batch)),
        4 => capabilities().prop_map(Step::Introduces),
        4 => Just(Step::Opens),
        2 => any::<bool>().prop_map(Step::Fails),
        2 => Just(Step::Hurdle),
        4 => (0..5_u8).prop_map(Step::Needs),
        2 => capabilities().prop_map(Step::Renews),
        2 => (0..9_usize).prop_map(Step::Reminds),
        1 => Just(Step::Wakes),
    ]
}

/// What the two ends have seen.
struct World {
    forward: Forward,
    /// Per id: asked, answered; and whether it was ever taken back.
    asked: HashMap<String, (u32, u32, bool)>,
    ids: Vec<String>,
    /// The connection: what it was opened with, whether it is open, whether it was introduced.
    first: Option<String>,
    open: bool,
    introduced: bool,
    sent: Vec<String>,
    reminders: Vec<Reminder>,
}

impl World {
    fn new(known: bool) -> Self {
        let settings = Settings {
            server: Url::parse("http://a.example/mcp").unwrap(),
            ignored_tools: Vec::new(),
            max_message: 100_000,
            start: Start::Answer,
            progress: false,
        };
        Self {
            forward: Forward::new(settings, Box::new(Perhaps(known))),
            asked: HashMap::new(),
            ids: Vec::new(),
            first: None,
            open: false,
            introduced: false,
            sent: Vec::new(),
            reminders: Vec::new(),
        }
    }

    fn happens(&mut self, event: Event) {
        _ = self.forward.handle(event);
        self.look();
    }

    fn look(&mut self) {
        while let Some(action) = self.forward.action() {
            match action {
                Action::ToHost(body) => self.hears(&body),
                Action::Open(message) => {
                    let ids: Vec<_> = message.requests().map(ToString::to_string).collect();
                    let introduces = message.method() == Some("initialize");
                    (self.open, self.introduced) = (false, !introduces);
                    self.first = Some(ids.first().cloned().unwrap_or_default());
                    self.sent = if introduces { Vec::new() } else { ids };
                }
                Action::Send(message) => {
                    assert!(self.open, "nothing is sent before the connection is open");
                    assert!(message.method() != Some("initialize"), "one initialize for each connection");
                    self.sent.extend(message.requests().map(ToString::to_string));
                }
                Action::Remind(_, reminder) => {
                    assert!(reminder != Reminder::TryAgain || !self.reminders.contains(&reminder), "they add up");
                    self.reminders.push(reminder);
                }
                Action::Hurry | Action::Check => {}
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
                let Some((asked, answered, _)) = self.asked.get_mut(&id) else { panic!("nobody asked: {message}") };
                *answered += 1;
                assert!(answered <= asked, "answered twice: {message}");
            }
        }
    }

    fn asks(&mut self, method: &str, id: Option<usize>) -> String {
        let used = id.and_then(|at| self.ids.get(at).cloned());
        let id = used.unwrap_or_else(|| self.ids.len().to_string());
        self.ids.push(id.clone());
        self.asked.entry(id.clone()).or_default().0 += 1;
        request(&id, method)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Asks(method, id) => {
                let text = self.asks(method, id);
                self.happens(from_host(&text));
            }
            Step::AsksBoth(one, other) => {
                let text = format!("[{},{}]", self.asks(one, None), self.asks(other, None));
                self.happens(from_host(&text));
            }
            Step::Initialized => self.happens(from_host(INITIALIZED)),
            Step::Cancels(at) => {
                if let Some(id) = self.ids.get(at).cloned() {
                    self.asked.get_mut(&id).unwrap().2 = true;
                    self.happens(from_host(&cancelled(id)));
                }
            }
            Step::Answers(at) if self.open && at < self.sent.len() => {
                let id = self.sent.swap_remove(at);
                self.happens(from_server(&result(id)));
            }
            Step::Loses(at) if self.open && at < self.sent.len() => {
                let id = self.sent.swap_remove(at);
                self.happens(lost(&[&id]));
            }
            Step::MakesUp(id, false) => self.happens(from_server(&result(id))),
            Step::MakesUp(id, true) => self.happens(from_server(&format!("[{}]", result(id)))),
            Step::Introduces(capabilities) if !self.introduced => self.introduces(capabilities),
            Step::Opens if self.first.is_some() && !self.open && self.introduced => self.opens(),
            Step::Fails(by_person) if self.first.is_some() && !self.open && !self.introduced => {
                self.first = None; // what an introduction follows does not fail any more
                let error = if by_person {
                    Error::Unauthorized(Box::new(oauth::error::Error::Local("no".to_owned())))
                } else {
                    Error::NoAnswer("gone")
                };
                self.happens(Event::Opened(Err(error)));
            }
            Step::Hurdle if self.first.is_some() && !self.open => {
                self.happens(Event::Remote(remote::Event::Hurdle(Arc::new(Error::NoAnswer("down")))));
            }
            Step::Needs(which) => self.happens(Event::Need(match which {
                0 => Need::Nothing,
                1 => Need::Token,
                2 => Need::SignIn,
                3 => Need::Person(Some("https://as.example/".into())),
                _ => Need::Failed(oauth::error::Error::Local("no".to_owned())),
            })),
            Step::Renews(capabilities) if self.open => {
                let answer = Message::from_text(introduction("own", capabilities)).unwrap();
                self.happens(Event::Remote(remote::Event::Renewed(answer)));
            }
            Step::Reminds(at) if at < self.reminders.len() => {
                let reminder = self.reminders.swap_remove(at);
                self.happens(Event::Reminder(reminder));
            }
            Step::Wakes => self.happens(Event::Woke(Duration::from_secs(60))),
            _ => {}
        }
    }

    fn introduces(&mut self, capabilities: &str) {
        if let Some(first) = self.first.clone() {
            self.introduced = true;
            self.happens(from_server(&introduction(&first, capabilities)));
        }
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
    fn each_request_is_answered_once_and_the_connection_comes_to_stand(
        known: bool,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(known);
        let hello = world.asks("initialize", None);
        world.happens(from_host(&hello));
        for step in steps {
            world.step(step);
        }
        // From here on the server is well, and the host asks for something.
        world.happens(Event::Need(Need::Nothing));
        world.happens(from_host(INITIALIZED));
        let call = world.asks("tools/call", None);
        let id = world.ids.last().unwrap().clone();
        world.happens(from_host(&call));
        for _ in 0..50 {
            if world.first.is_none() || world.open {
                break;
            }
            if !world.introduced {
                world.introduces(r#"{"tools":{}}"#);
            }
            world.opens();
        }
        let (_, answered, _) = world.asked[&id];
        prop_assert!(answered == 1 || world.sent.contains(&id), "{:?}", world.forward);
        world.forward.close();
        world.look();
        for (id, (asked, answered, taken_back)) in &world.asked {
            prop_assert!(asked == answered || *taken_back, "{} was asked {} times, answered {}", id, asked, answered);
        }
    }
}
