//! A way to play a bridge, and random orders of what can happen before both.

use super::*;

pub(crate) const NOTHING: [String; 0] = [];

pub(crate) fn message(text: &str) -> Message {
    Message::from_text(text.to_owned()).unwrap()
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_bytes().to_vec()).unwrap()
}

/// What a bridge does, as lines: `>` to the server, `<` to the host, `!` a reminder. Ids and handles of the bridge are
/// numbered in the order in which they appear.
pub(crate) struct Played<B> {
    pub(crate) bridge: B,
    pub(crate) ids: Vec<String>,
    pub(crate) dues: Vec<Due>,
}

impl<B: Bridge> Played<B> {
    pub(crate) fn new(bridge: B) -> Self {
        Self { bridge, ids: Vec::new(), dues: Vec::new() }
    }

    pub(crate) fn host(&mut self, text: &str) -> Vec<String> {
        self.bridge.on_host(message(&self.with_ids(text)));
        self.steps()
    }

    pub(crate) fn server(&mut self, text: &str) -> Vec<String> {
        self.bridge.on_server(message(&self.with_ids(text)), None);
        self.steps()
    }

    /// In the middle of the answer to this request.
    pub(crate) fn related(&mut self, to: &str, text: &str) -> Vec<String> {
        let to = Id::from_json(self.with_ids(to).as_bytes());
        self.bridge.on_server(message(&self.with_ids(text)), Some(&to));
        self.steps()
    }

    pub(crate) fn due(&mut self, number: usize) -> Vec<String> {
        self.bridge.on_due(self.dues[number].clone());
        self.steps()
    }

    /// Puts the ids of the bridge in the place of `#1`, `#2`.
    fn with_ids(&self, text: &str) -> String {
        self.ids
            .iter()
            .enumerate()
            .rev()
            .fold(text.to_owned(), |text, (number, id)| text.replace(&format!("#{}", number + 1), id))
    }

    pub(crate) fn steps(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(step) = self.bridge.step() {
            let line = match step {
                Step::ToServer(message) => format!("> {}", text(&message)),
                Step::ToHost(message) => format!("< {}", text(&message)),
                Step::Remind(after, due) => {
                    self.dues.push(due);
                    format!("! {after:?}")
                }
            };
            self.note_ids(&line, "\"mcp-remote-", 29);
            self.note_ids(&line, "\"requestState\":\"", 0);
            let numbered =
                |line: String, (number, id): (usize, &String)| line.replace(id.as_str(), &format!("#{}", number + 1));
            lines.push(self.ids.iter().enumerate().fold(line, numbered));
        }
        lines
    }

    fn note_ids(&mut self, line: &str, start: &str, length: usize) {
        let mut rest = line;
        while let Some(at) = rest.find(start) {
            // Of a handle, what is between the quotation marks.
            let (from, length) = if length == 0 { (at + start.len(), 32) } else { (at, length) };
            let Some(id) = rest.get(from..from + length) else { return };
            let is_ours = start.starts_with("\"mcp") || id.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_ours && !self.ids.contains(&id.to_owned()) {
                self.ids.push(id.to_owned());
            }
            rest = &rest[from..];
            rest = rest.get(1..).unwrap_or_default();
        }
    }
}

// Random orders of what can happen, before both bridges.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{legacy_host::LegacyHost, modern_host::ModernHost};

#[derive(Clone, Copy, Debug)]
enum Happening {
    HostCalls,
    HostCancels(usize),
    /// The host answers what it was asked; with an error, if so.
    HostAnswers(usize, bool),
    ServerAsks(usize),
    ServerAnswers(usize),
    Loses(usize),
    IsDue(usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    use Happening::*;
    let one = prop_oneof![
        3 => Just(HostCalls),
        1 => any::<usize>().prop_map(HostCancels),
        4 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(at, fails)| HostAnswers(at, fails)),
        4 => any::<usize>().prop_map(ServerAsks),
        3 => any::<usize>().prop_map(ServerAnswers),
        1 => any::<usize>().prop_map(Loses),
        2 => any::<usize>().prop_map(IsDue),
    ];
    prop::collection::vec(one, 1..60)
}

fn json_of(message: &Message) -> Value {
    serde_json::from_str(&text(message)).unwrap()
}

fn pick<T: Clone>(all: &[T], at: usize) -> Option<T> {
    (!all.is_empty()).then(|| all[at % all.len()].clone())
}

/// A host and a server around a bridge. A call's argument is its number, and so is everything that is asked or answered
/// for it: what crosses to another call shows.
#[derive(Default)]
struct World {
    calls: u64,
    /// Requests of the host that have no answer yet, with the number of their call.
    owed: BTreeMap<String, u64>,
    /// Ids of the host that had an answer, or were cancelled.
    over: BTreeSet<String>,
    /// Requests at the server, with the number of their call.
    at_server: Vec<(String, u64)>,
    /// What the host is asked: the id, or the handle; and the number of the call.
    questions: Vec<(String, u64)>,
    /// Requests of the server, with the number of their call (modern host).
    open: Vec<(u64, u64)>,
    dues: Vec<Due>,
    next: u64,
}

impl World {
    fn take<B: Bridge>(&mut self, bridge: &mut B) {
        while let Some(step) = bridge.step() {
            match step {
                Step::Remind(_, due) => self.dues.push(due),
                Step::ToServer(message) => self.server_gets(&json_of(&message)),
                Step::ToHost(message) => self.host_gets(&json_of(&message)),
            }
        }
    }

    fn server_gets(&mut self, message: &Value) {
        let id = message["id"].to_string();
        match message["method"].as_str() {
            Some("tools/call") => {
                let number = message["params"]["arguments"]["n"].as_u64().unwrap();
                let answers = message["params"]["inputResponses"].as_object().into_iter().flatten();
                answers.for_each(|(_, answer)| assert_eq!(answer["n"], number, "an answer for another call"));
                if !message["params"]["requestState"].is_null() {
                    assert_eq!(message["params"]["requestState"], number.to_string(), "the state of another call");
                }
                assert!(self.at_server.iter().all(|(there, _)| *there != id), "an id is used twice: {id}");
                self.at_server.push((id, number));
            }
            Some("notifications/cancelled") => {
                let id = message["params"]["requestId"].to_string();
                self.at_server.retain(|(there, _)| *there != id);
            }
            None => {
                let at = self.open.iter().position(|(asked, _)| json!(asked) == message["id"]).unwrap();
                let (_, number) = self.open.remove(at);
                if let Some(result) = message.get("result") {
                    assert_eq!(result["n"], number, "an answer for another call");
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn host_gets(&mut self, message: &Value) {
        let id = message["id"].to_string();
        match message["method"].as_str() {
            Some("notifications/cancelled") => {
                let id = message["params"]["requestId"].to_string();
                self.questions.retain(|(asked, _)| *asked != id);
            }
            Some(_) => self.questions.push((id, message["params"]["n"].as_u64().unwrap())),
            None => {
                let number = self.owed.remove(&id).unwrap_or_else(|| panic!("nobody waits for {message}"));
                self.over.insert(id);
                let result = &message["result"];
                if result["resultType"] == "input_required" {
                    let asked = result["inputRequests"].as_object().unwrap();
                    asked.values().for_each(|asked| assert_eq!(asked["params"]["n"], number));
                    self.questions.push((result["requestState"].as_str().unwrap().to_owned(), number));
                } else if !result.is_null() {
                    assert_eq!(result["n"], number, "the answer of another call");
                }
            }
        }
    }

    fn call<B: Bridge>(&mut self, bridge: &mut B, number: u64, more: Value) {
        self.next += 1;
        let mut params = json!({
            "name": "t", "arguments": { "n": number },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
            },
        });
        params.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let request = json!({ "jsonrpc": "2.0", "id": self.next, "method": "tools/call", "params": params });
        self.owed.insert(self.next.to_string(), number);
        bridge.on_host(message(&request.to_string()));
    }

    fn happens<B: Bridge>(&mut self, bridge: &mut B, happening: Happening, is_modern_host: bool) {
        match happening {
            Happening::HostCalls => {
                self.calls += 1;
                self.call(bridge, self.calls, json!({}));
            }
            Happening::HostCancels(at) => {
                let ids: Vec<_> = self.owed.keys().cloned().collect();
                if let Some(id) = pick(&ids, at) {
                    self.owed.remove(&id);
                    self.over.insert(id.clone());
                    let text = format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                    );
                    bridge.on_host(message(&text));
                }
            }
            Happening::HostAnswers(at, fails) => {
                let Some((question, number)) = pick(&self.questions, at) else { return };
                self.questions.retain(|(asked, _)| *asked != question);
                if is_modern_host {
                    let answers = if fails { json!({}) } else { json!({ "1": { "n": number }, "2": { "n": number } }) };
                    let more = json!({ "inputResponses": answers, "requestState": question });
                    self.call(bridge, number, more);
                } else {
                    let outcome = if fails { json!({ "code": -1, "message": "no" }) } else { json!({ "n": number }) };
                    let member = if fails { "error" } else { "result" };
                    bridge.on_host(message(&format!(r#"{{"jsonrpc":"2.0","id":{question},"{member}":{outcome}}}"#)));
                }
            }
            Happening::ServerAsks(at) => {
                let Some((id, number)) = pick(&self.at_server, at) else { return };
                let elicitation = json!({ "method": "elicitation/create", "params": { "n": number } });
                if is_modern_host {
                    self.next += 1;
                    let asked = 1_000_000 + self.next;
                    self.open.push((asked, number));
                    let mut request = elicitation;
                    request["jsonrpc"] = json!("2.0");
                    request["id"] = json!(asked);
                    let related = Id::from_json(id.as_bytes());
                    bridge.on_server(message(&request.to_string()), Some(&related));
                } else {
                    self.at_server.retain(|(there, _)| *there != id);
                    let result = json!({
                        "resultType": "input_required", "requestState": number.to_string(),
                        "inputRequests": { "1": elicitation, "2": elicitation },
                    });
                    bridge.on_server(message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)), None);
                }
            }
            Happening::ServerAnswers(at) => {
                let Some((id, number)) = pick(&self.at_server, at) else { return };
                self.at_server.retain(|(there, _)| *there != id);
                let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"n":{number}}}}}"#);
                bridge.on_server(message(&text), None);
            }
            Happening::Loses(at) => {
                let Some((id, _)) = pick(&self.at_server, at) else { return };
                self.at_server.retain(|(there, _)| *there != id);
                for lost in bridge.on_lost(&[Id::from_json(id.as_bytes())]) {
                    assert!(self.owed.remove(lost.as_json()).is_some(), "{lost} was not open");
                }
            }
            Happening::IsDue(at) => {
                if let Some(due) = pick(&self.dues, at) {
                    self.dues.retain(|other| *other != due);
                    bridge.on_due(due);
                }
            }
        }
    }

    /// Plays everything, and then lets all come to its end: every request of the host has its answer.
    fn play<B: Bridge>(mut self, mut bridge: B, all: Vec<Happening>, is_modern_host: bool) {
        for happening in all {
            self.happens(&mut bridge, happening, is_modern_host);
            self.take(&mut bridge);
        }
        for _ in 0..200 {
            let asks = if self.dues.is_empty() { None } else { Some(Happening::IsDue(0)) };
            let answers = (!self.at_server.is_empty()).then_some(Happening::ServerAnswers(0));
            let Some(next) = answers.or(asks) else { break };
            self.happens(&mut bridge, next, is_modern_host);
            self.take(&mut bridge);
        }
        assert!(self.owed.is_empty(), "without an answer: {:?}", self.owed);
        assert!(self.at_server.is_empty() && bridge.is_idle(), "{bridge:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn legacy_host_gets_each_answer_once_and_no_other(all in happenings()) {
        let initialize = message(
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"h","version":"1"}}}"#,
        );
        let discovered =
            message(r#"{"jsonrpc":"2.0","id":0,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#);
        let (bridge, _) = LegacyHost::begin("s:1".to_owned(), &initialize, &discovered).unwrap();
        World::default().play(bridge, all, false);
    }

    #[test]
    fn modern_host_gets_each_answer_once_and_no_other(all in happenings()) {
        let answer =
            message(r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#);
        World::default().play(ModernHost::begin("s:1", &answer), all, true);
    }
}
