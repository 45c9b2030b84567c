//! How long requests are held while the server cannot answer them.

use super::{orders::asking, *};
use crate::{
    known_hosts::HeldRequest,
    oauth::{AskedBy, Asking},
};

/// What the store knows of the host, and what is kept.
#[derive(Debug, Default)]
struct Store {
    known: Option<&'static str>,
    limits: HostLimits,
    kept: Arc<std::sync::Mutex<Vec<Learned>>>,
}

impl Descriptions for Store {
    fn load(&mut self) -> Option<Description> {
        self.known.map(|text| serde_json::from_str(text).unwrap())
    }

    fn host_limits(&mut self, _: &HostName) -> HostLimits {
        self.limits
    }

    fn save(&mut self, learned: Learned) {
        self.kept.lock().unwrap().push(learned);
    }

    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        None
    }
}

/// A loop whose time is set by hand, and its host.
struct Held {
    forward: Forward,
    time: Arc<AtomicU64>,
    kept: Arc<std::sync::Mutex<Vec<Learned>>>,
    reminders: Vec<(u64, Reminder)>,
}

impl Held {
    /// A host of this name has sent `initialize`.
    fn by(name: &str) -> Self {
        Self::with(name, Store::default(), settings(Start::Hold))
    }

    /// A host that has said nothing yet.
    fn silent() -> Self {
        Self::silent_with(Store::default())
    }

    fn silent_with(store: Store) -> Self {
        Self::new(store, settings(Start::Hold))
    }

    fn new(store: Store, settings: Settings) -> Self {
        let (clock, time) = clock();
        let kept = store.kept.clone();
        let forward = Forward::new(Settings { clock, ..settings }, Box::new(store));
        Self { forward, time, kept, reminders: Vec::new() }
    }

    fn with(name: &str, store: Store, settings: Settings) -> Self {
        let mut held = Self::new(store, settings);
        let hello = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","clientInfo":{{"name":"{name}","version":"1"}}}}}}"#
        );
        assert_eq!(held.host(&hello), [format!("open {hello}")]);
        held
    }

    fn host(&mut self, text: &str) -> Vec<String> {
        self.does(from_host(text))
    }

    fn does(&mut self, event: Event) -> Vec<String> {
        _ = self.forward.handle(event);
        self.actions()
    }

    fn actions(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(action) = self.forward.action() {
            match action {
                Action::Remind(after, reminder) => {
                    let due = self.time.load(Relaxed) + u64::try_from(after.as_millis()).unwrap();
                    self.reminders.push((due, reminder));
                }
                Action::ToHost(body) => told.push(String::from_utf8(body.to_bytes().to_vec()).unwrap()),
                Action::Open(message) => {
                    told.push(format!("open {}", String::from_utf8(message.body.to_bytes().to_vec()).unwrap()));
                }
                Action::Send(message) => {
                    told.push(format!("send {}", String::from_utf8(message.body.to_bytes().to_vec()).unwrap()));
                }
                Action::SignInIsNeeded => told.push("sign in".to_owned()),
                Action::Hurry | Action::UserAsks | Action::Check => {}
            }
        }
        told
    }

    /// Lets time pass up to this moment, in milliseconds, with the reminders that come due; what happens at which.
    fn until(&mut self, end: u64) -> Vec<(u64, String)> {
        let mut told = Vec::new();
        loop {
            let next =
                self.reminders.iter().enumerate().filter(|(_, (due, _))| *due <= end).min_by_key(|(_, (due, _))| *due);
            let Some((at, _)) = next else { break };
            let (due, reminder) = self.reminders.remove(at);
            self.time.store(due, Relaxed);
            told.extend(self.does(Event::Reminder(reminder)).into_iter().map(|text| (due, text)));
        }
        self.time.store(end, Relaxed);
        told
    }

    fn limits_kept(&self) -> Vec<(HeldRequest, u128)> {
        let kept = self.kept.lock().unwrap();
        let limit = |learned: &Learned| match learned {
            Learned::HostLimit { request, after, .. } => Some((*request, after.as_millis())),
            _ => None,
        };
        kept.iter().filter_map(limit).collect()
    }
}

fn person() -> Event {
    Event::Need(Need::Person(asking("https://as.example/authorize")))
}

fn unreachable_server() -> Event {
    Event::Remote(remote::Event::Blocked(Arc::new(Error::NoAnswer("it is down")), Duration::from_secs(1)))
}

fn tools(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#)
}

/// The moment and the tool of the only answer.
fn placeholder(told: &[(u64, String)]) -> (u64, String) {
    let [(at, answer)] = told else { panic!("not one answer: {told:?}") };
    let answer: Value = serde_json::from_str(answer).unwrap();
    (*at, answer["result"]["tools"][0]["name"].as_str().unwrap_or_default().to_owned())
}

const INTRODUCTION: &str =
    r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}"#;

#[test]
fn initialize_and_first_list_are_held() {
    for (name, initialize, list) in
        [("unknown", 3_500, 3_500), ("codex-mcp-client", 25_000, 25_000), ("claude-ai", 45_000, 10_000)]
    {
        for reason in [person(), unreachable_server()] {
            let mut held = Held::by(name);
            assert_eq!(held.does(reason), Vec::<String>::new(), "{name}");
            let (at, _) = placeholder(&held.until(initialize));
            assert_eq!(at, initialize, "{name}");
            held.host(INITIALIZED);
            assert_eq!(held.host(&tools(1)), Vec::<String>::new(), "{name}");
            let (at, tool) = placeholder(&held.until(initialize + list));
            assert_eq!(at, initialize + list, "{name}");
            assert!(tool.starts_with("mcp_remote_"), "{tool}");
            assert_eq!(held.host(&tools(2)).len(), 1, "only the first list is held");
        }
    }
}

#[test]
fn shared_limit_leaves_no_time_for_list() {
    let mut held = Held::by("mcporter");
    held.does(person());
    assert_eq!(placeholder(&held.until(24_000)).0, 24_000);
    assert_eq!(held.host(&tools(1)).len(), 1);
}

#[test]
fn sign_in_within_hold_gives_real_handshake() {
    let mut held = Held::by("unknown");
    held.does(person());
    assert!(held.until(3_000).is_empty());
    held.does(Event::Need(Need::Nothing));
    assert_eq!(held.does(from_server(INTRODUCTION)), [INTRODUCTION]);
    held.does(Event::Opened(Ok(())));
    assert_eq!(held.host(&tools(1)), [format!("send {}", tools(1))]);
    assert!(held.until(60_000).is_empty(), "reminders that are due later do nothing");
}

#[test]
fn sign_in_during_held_list_gives_tools() {
    let mut held = Held::by("unknown");
    held.does(person());
    held.until(3_500);
    held.host(INITIALIZED);
    held.host(&tools(1));
    held.does(Event::Need(Need::Nothing));
    held.does(from_server(INTRODUCTION));
    let sent = held.does(Event::Opened(Ok(())));
    assert_eq!(
        sent,
        [format!("send {INITIALIZED}"), format!("send {}", tools(1))],
        "no list_changed: the host has seen none"
    );
    assert!(held.until(60_000).is_empty());
}

#[test]
fn known_server_is_shown_at_once() {
    let known = r#"{"initialize":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}},"lists":{"tools":[{"name":"a"}]}}"#;
    let mut held = Held::with("claude-ai", Store { known: Some(known), ..Store::default() }, settings(Start::Hold));
    assert_eq!(held.does(Event::Need(Need::SignIn)).len(), 1);
    let listed: Value = serde_json::from_str(&held.host(&tools(1))[0]).unwrap();
    assert_eq!(listed["result"]["tools"][0]["name"], "a");
}

#[test]
fn slow_server_is_awaited_while_host_waits() {
    let mut held = Held::by("unknown");
    let told = held.until(3_500);
    assert_eq!(told.len(), 1);
    assert!(told[0].1.contains("has not answered initialize within 3.5 s. Tip: wait"), "{told:?}");
    let mut answering = Held::with("claude-ai", Store::default(), settings(Start::Answer));
    assert_eq!(answering.until(30_000)[0].0, 20_000);
}

#[test]
fn busy_server_is_only_slow() {
    let mut held = Held::with("unknown", Store::default(), settings(Start::Answer));
    let busy = Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after: None,
        text: String::new(),
        said: crate::secret::Secret::new(String::new()),
        had_headers: false,
        answer: None,
        cause: None,
        credential_since: None,
    };
    held.does(Event::Remote(remote::Event::Blocked(Arc::new(Error::Refused(Box::new(busy))), Duration::from_secs(1))));
    let told = held.until(30_000);
    assert_eq!(told[0].0, 20_000);
    assert!(told[0].1.contains("503"), "{told:?}");
}

#[test]
fn user_decides_how_long_initialize_is_held() {
    let hold = Some(Duration::from_secs(7));
    let mut held = Held::with(
        "claude-ai",
        Store::default(),
        Settings { limits: Limits { hold, ..limits(Start::Hold) }, ..settings(Start::Hold) },
    );
    held.does(person());
    assert_eq!(held.until(60_000)[0].0, 7_000);
}

#[test]
fn other_requests_are_answered_empty_during_hold() {
    let mut held = Held::by("gemini-cli-mcp-client");
    held.does(person());
    let ask = |id: u64, method: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#);
    for (id, method, result) in [
        (1, "ping", "{}"),
        (2, "prompts/list", r#"{"prompts":[]}"#),
        (3, "resources/templates/list", r#"{"resourceTemplates":[]}"#),
    ] {
        assert_eq!(held.host(&ask(id, method)), [format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)]);
    }
    assert_eq!(held.host(&tools(4)), Vec::<String>::new());
}

#[test]
fn pipelined_requests_go_to_server_that_answers() {
    let mut held = Held::by("unknown");
    let prompts = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/list"}"#;
    assert_eq!(held.host(prompts), Vec::<String>::new());
    held.does(from_server(INTRODUCTION));
    assert_eq!(held.does(Event::Opened(Ok(()))), [format!("send {prompts}")]);
}

#[test]
fn cancellation_ends_hold_and_is_remembered() {
    let cancel =
        |id: u64| format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    let mut held = Held::by("claude-ai");
    held.does(person());
    held.until(9_000);
    assert_eq!(held.host(&cancel(0)).len(), 1, "initialize is answered all the same");
    assert_eq!(held.limits_kept(), [(HeldRequest::Initialize, 9_000)]);
    held.host(INITIALIZED);
    held.host(&tools(1));
    held.until(13_000);
    held.host(&cancel(1));
    assert_eq!(held.limits_kept()[1..], [(HeldRequest::ToolsList, 4_000)]);
    assert!(held.until(60_000).iter().all(|(_, told)| told.starts_with("open")), "a cancelled list is not answered");
}

#[test]
fn end_of_input_ends_hold_and_is_remembered() {
    for (after, kept) in [(2_000, &[][..]), (30_000, &[(HeldRequest::Initialize, 30_000)])] {
        let mut held = Held::by("claude-ai");
        held.does(person());
        held.until(after);
        assert_eq!(held.forward.handle(Event::Host(Incoming::End)), Verdict::Stop, "nothing is owed");
        assert_eq!(held.actions().len(), 1);
        assert_eq!(held.limits_kept(), kept);
    }
}

#[test]
fn end_of_input_answers_held_list_and_call() {
    let mut held = Held::by("unknown");
    held.does(person());
    held.until(3_500);
    held.host(INITIALIZED);
    held.host(&tools(1));
    assert_eq!(held.host(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x"}}"#), ["sign in"]);
    assert_eq!(held.forward.handle(Event::Stop(Stop::Signal("SIGTERM"))), Verdict::Stop);
    let told = held.actions();
    assert!(told[0].contains("mcp_remote_sign_in") && told[1].contains("sign_in_needed"), "{told:?}");
}

#[test]
fn enforced_host_limit_shortens_hold() {
    let limits = HostLimits { initialize: Some(Duration::from_secs(10)), list: Some(Duration::from_secs(5)) };
    let mut held = Held::with("claude-ai", Store { limits, ..Store::default() }, settings(Start::Hold));
    held.does(person());
    assert_eq!(placeholder(&held.until(60_000)).0, 8_000);
    held.host(&tools(1));
    assert_eq!(placeholder(&held.until(100_000)).0, 64_000);
    let mut slow = Held::with("claude-ai", Store { limits, ..Store::default() }, settings(Start::Hold));
    assert_eq!(slow.until(60_000)[0].0, 8_000, "the same for a server that is only slow");
}

#[test]
fn one_shot_host_is_held_with_open_tab() {
    let host_environment =
        HostEnvironment { claude_code_entrypoint: Some("sdk-cli".to_owned()), ..HostEnvironment::default() };
    let by = |by| Event::Need(Need::Person(Asking { by, ..asking("https://as.example/") }));
    let start = || {
        let settings = Settings { host_environment: host_environment.clone(), ..settings(Start::Hold) };
        Held::with("claude-code", Store::default(), settings)
    };
    assert_eq!(start().does(by(AskedBy::ThisProcess)).len(), 1, "at once");
    let mut again = start();
    assert_eq!(again.does(by(AskedBy::EndedProcess)), Vec::<String>::new());
    assert_eq!(placeholder(&again.until(60_000)).0, 20_000);
}

#[test]
fn wait_for_other_instance_is_held_and_named() {
    let mut held = Held::by("unknown");
    let asking = Asking { prompt: None, complete: None, by: AskedBy::AnotherInstance };
    assert_eq!(held.does(Event::Need(Need::Person(asking))), Vec::<String>::new());
    let told = held.until(3_500);
    assert!(told[0].1.contains("another mcp-remote process is waiting for you to sign in to a.example"), "{told:?}");
}

#[test]
fn call_is_held_longer_for_person_than_network() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
    let stand_in = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"mcp_remote_sign_in"}}"#;
    let mut down = Held::by("unknown");
    down.does(unreachable_server());
    down.until(3_500);
    down.host(call);
    assert_eq!(down.until(60_000)[0].0, 18_500, "--retry-for");
    let mut asked = Held::by("unknown");
    asked.does(person());
    asked.until(3_500);
    asked.host(call);
    assert_eq!(asked.host(stand_in), ["sign in"], "the placeholder's tool is held as other calls are");
    let told = asked.until(60_000);
    assert_eq!([told[0].0, told[1].0], [48_500, 48_500]);
    assert!(told[1].1.contains("https://as.example/authorize"), "{told:?}");
    let mut later = Held::by("unknown");
    later.does(unreachable_server());
    later.until(3_500);
    later.host(call);
    later.until(10_000);
    later.does(person());
    assert_eq!(later.until(60_000).last().unwrap().0, 48_500, "a person is asked meanwhile");
}

#[test]
fn placeholder_never_names_a_version_without_initialize() {
    let (clock, _) = clock();
    let mut forward = Forward::new(Settings { clock, ..settings(Start::Answer) }, Box::new(Nothing));
    host(&mut forward, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2026-07-28"}}"#);
    let told = does(&mut forward, person());
    assert!(told[0].contains(r#""protocolVersion":"2025-11-25""#), "{told:?}");
}

#[test]
fn list_waiting_for_sign_in_is_held() {
    let mut held = Held::by("inspector-cli");
    held.does(from_server(INTRODUCTION));
    held.does(Event::Opened(Ok(())));
    assert_eq!(held.host(&tools(1)).len(), 1, "sent");
    assert_eq!(held.does(person()), Vec::<String>::new());
    assert_eq!(placeholder(&held.until(60_000)), (40_000, "mcp_remote_sign_in".to_owned()));
}

#[test]
fn waiting_host_is_noted_until_answered() {
    let mut held = Held::by("codex-mcp-client");
    held.does(person());
    held.until(10_000);
    let notes = |held: &Held| -> Vec<String> {
        let kept = held.kept.lock().unwrap();
        let note = |learned: &Learned| match learned {
            Learned::HostWaits { after, .. } => Some(format!("waits {} s", after.as_secs())),
            Learned::HostHasAnswer { .. } => Some("answered".to_owned()),
            _ => None,
        };
        kept.iter().filter_map(note).collect()
    };
    assert_eq!(notes(&held), ["waits 6 s", "waits 8 s"], "a host that ends sooner was perhaps closed by its user");
    held.does(Event::Need(Need::Nothing));
    held.does(from_server(INTRODUCTION));
    assert_eq!(notes(&held).last().unwrap(), "answered");
    held.until(30_000);
    assert_eq!(notes(&held).len(), 3);
    let mut prompt = Held::by("codex-mcp-client");
    prompt.does(from_server(INTRODUCTION));
    prompt.until(30_000);
    assert!(notes(&prompt).is_empty(), "a server that answers costs nothing");
}

#[test]
fn refused_discover_and_initialize_share_one_hold() {
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"fastmcp","version":"1"}}"#;
    let discover = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"server/discover","params":{{{meta}}}}}"#);
    let mut held = Held::silent();
    assert_eq!(held.host(&discover), [format!("open {discover}")]);
    held.does(Event::Opened(Ok(())));
    let refused = held.until(2_000);
    assert!(refused.len() == 1 && refused[0].1.contains("-32601"), "{refused:?}");
    let hello =
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"clientInfo":{"name":"fastmcp","version":"1"}}}"#;
    held.host(hello);
    held.does(unreachable_server());
    assert_eq!(held.until(10_000)[0].0, 3_500, "pydantic-ai waits 5 s for both");
}

#[test]
fn discover_during_sign_in_uses_known_description() {
    let known = r#"{"discover":{"supportedVersions":["2026-07-28"],"ttlMs":5000},"lists":{"tools":[{"name":"a"}]}}"#;
    let mut held = Held::silent_with(Store { known: Some(known), ..Store::default() });
    held.host(r#"{"jsonrpc":"2.0","id":7,"method":"server/discover"}"#);
    held.does(Event::Opened(Ok(())));
    let told = held.does(person());
    assert_eq!(told, [r#"{"jsonrpc":"2.0","id":7,"result":{"supportedVersions":["2026-07-28"],"ttlMs":0}}"#]);
    held.does(person());
    let listed = held.host(&tools(1));
    let expected = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}],"resultType":"complete","ttlMs":0,"cacheScope":"private"}}"#;
    assert_eq!(listed, [expected]);
    let listen = r#"{"jsonrpc":"2.0","id":2,"method":"subscriptions/listen"}"#;
    assert_eq!(held.host(listen), [format!("send {listen}")]);
    held.does(from_server(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2},"notifications":{"toolsListChanged":true}}}"#));
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":2}}}"#;
    assert_eq!(held.does(Event::Need(Need::Nothing)), [changed]);
    assert_eq!(held.forward.handle(Event::Host(Incoming::End)), Verdict::Stop, "nobody waits for a stream");
    held.forward.close();
    let graceful = r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":2}}}"#;
    assert_eq!(held.actions(), [graceful]);
}

#[test]
fn later_discover_waits_for_the_server() {
    let mut held = Held::silent();
    let discover = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover"}}"#);
    let discovered =
        |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"supportedVersions":["2026-07-28"]}}}}"#);
    held.host(&discover(1));
    held.does(Event::Opened(Ok(())));
    assert_eq!(held.does(from_server(&discovered(1))), [discovered(1)]);
    assert!(held.until(1_900).is_empty());
    assert_eq!(held.host(&discover(2)), [format!("send {}", discover(2))], "Claude Code's ping");
    assert!(held.until(60_000).is_empty(), "the first one's time is not the second one's");
    held.does(person());
    assert_eq!(held.does(from_server(&discovered(2))), [discovered(2)]);
}
