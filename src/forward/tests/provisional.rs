//! Answering in the server's place, as a pure function.

use std::sync::Mutex;

use super::{orders::asking, *};
use crate::{
    oauth::{self, Asking},
    report::catalogue::STILL_TRIED,
};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}"#;
const OPENS_URLS: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"url":{}}}}}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a"}}"#;
const CALL_SIGN_IN: &str = r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"mcp_remote_sign_in"}}"#;
const CALL_STATUS: &str = r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"mcp_remote_status"}}"#;
const TOOLS_CHANGED: &str = r#"host {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const PROMPTS_CHANGED: &str = r#"host {"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#;
const RESOURCES_CHANGED: &str = r#"host {"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#;

/// Remembers a server, and what it is to keep.
#[derive(Debug)]
struct Known(Option<String>, Arc<Mutex<Vec<Learned>>>);

impl Descriptions for Known {
    fn load(&mut self) -> Option<Description> {
        self.0.as_ref().map(|text| serde_json::from_str(text).unwrap())
    }

    fn host_limits(&mut self, _: &HostName) -> HostLimits {
        HostLimits::default()
    }

    fn save(&mut self, learned: Learned) {
        self.1.lock().unwrap().push(learned);
    }

    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        None
    }
}

fn knowing(description: &str) -> Forward {
    start(Start::Answer, Some(description), &[])
}

fn start(start: Start, known: Option<&str>, ignored: &[&str]) -> Forward {
    let ignored_tools = ignored.iter().map(|pattern| ToolPattern::new(pattern)).collect();
    let known = Known(known.map(ToOwned::to_owned), Arc::default());
    Forward::new(Settings { ignored_tools, ..settings(start) }, Box::new(known))
}

const TWO_TOOLS: &str = r#"{"initialize":{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"prompts":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"be kind"},"negotiated":{"2025-11-25":"2025-06-18"},"lists":{"tools":[{"name":"a","x":1.0},{"name":"b"}]}}"#;

fn json(action: &str) -> Value {
    serde_json::from_str(action.strip_prefix("host ").unwrap_or_else(|| panic!("not to the host: {action}"))).unwrap()
}

fn only(actions: &[String]) -> &str {
    let [action] = actions else { panic!("not one action: {actions:?}") };
    action
}

fn sign_in() -> Event {
    Event::Need(Need::Person(asking("https://as.example/authorize?x")))
}

fn unreachable_server() -> Event {
    Event::Remote(remote::Event::Blocked(Arc::new(Error::NoAnswer("it is down")), Duration::from_secs(1)))
}

fn names(answer: &Value) -> Vec<&str> {
    answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

fn introduction(revision: &str, capabilities: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"{revision}","capabilities":{capabilities}}}}}"#)
}

/// A host that was answered for a server that wants a sign-in, and has said that it is ready.
fn signing_in() -> Forward {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    assert_eq!(host(&mut forward, INITIALIZED), NOTHING);
    forward
}

/// The server behind it answers; nobody has to sign in.
fn stands(forward: &mut Forward, introduction: &str) -> Vec<String> {
    assert_eq!(does(forward, Event::Need(Need::Nothing)), NOTHING);
    assert_eq!(server(forward, introduction), NOTHING, "the host has its answer");
    does(forward, Event::Opened(Ok(())))
}

#[test]
fn server_that_answers_is_never_answered_for() {
    let mut forward = knowing(TWO_TOOLS);
    assert_eq!(host(&mut forward, HELLO), [format!("open {HELLO}")]);
    let own = introduction("2025-11-25", "{}");
    assert_eq!(server(&mut forward, &own), [to_host(&own)]);
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), NOTHING);
    let list = request(1, "tools/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
}

#[test]
fn sign_in_answers_host_with_one_tool() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    assert_eq!(does(&mut forward, Event::Need(Need::SignIn)), NOTHING, "there may be no sign-in at all");
    let answer = json(only(&does(&mut forward, sign_in())));
    assert_eq!(answer["id"], 0);
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(answer["result"]["capabilities"]["resources"]["subscribe"], true);
    assert!(answer["result"]["instructions"].as_str().unwrap().contains("https://as.example/authorize?x"));
    let tools = json(only(&host(&mut forward, &request(1, "tools/list"))));
    assert_eq!(names(&tools), ["mcp_remote_sign_in"]);
    assert!(tools["result"]["tools"][0]["description"].as_str().unwrap().contains("https://as.example/authorize?x"));
    for (method, member) in [
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        assert_eq!(json(only(&host(&mut forward, &request(2, method))))["result"][member], serde_json::json!([]));
    }
    assert_eq!(host(&mut forward, &request(3, "ping")), [to_host(&result(3))]);
}

#[test]
fn known_server_is_described_without_waiting() {
    let mut forward = knowing(TWO_TOOLS);
    host(&mut forward, HELLO);
    let answer = json(only(&does(&mut forward, Event::Need(Need::SignIn))));
    assert_eq!(answer["result"]["serverInfo"]["name"], "s");
    assert_eq!(answer["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(answer["result"]["capabilities"]["tools"]["listChanged"], true, "it may have to be said");
    let list = host(&mut forward, &request(1, "tools/list"));
    let shown = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","x":1.0},{"name":"b"}]}}"#;
    assert_eq!(list, [to_host(shown)]);
}

#[test]
fn ignored_tool_is_hidden_from_known_description() {
    let mut forward = start(Start::Answer, Some(TWO_TOOLS), &["b"]);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    assert_eq!(names(&json(only(&host(&mut forward, &request(1, "tools/list"))))), ["a"]);
}

#[test]
fn start_wait_answers_for_nobody() {
    let mut forward = start(Start::Wait, Some(TWO_TOOLS), &[]);
    host(&mut forward, HELLO);
    assert_eq!(does(&mut forward, sign_in()), NOTHING);
    assert_eq!(does(&mut forward, unreachable_server()), NOTHING);
    assert_eq!(errors(&does(&mut forward, Event::Opened(Err(Error::NoAnswer("down"))))), own_errors(&["0"]));
}

#[test]
fn established_connection_gets_handshake_then_held_messages() {
    let mut forward = signing_in();
    host(&mut forward, &request(1, "tools/list"));
    host(&mut forward, &request(2, "resources/list"));
    host(&mut forward, &request(3, "prompts/list"));
    assert_eq!(host(&mut forward, CALL), ["remind 45 s Overdue(1)", "hurry"]);
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{},"resources":{}}"#));
    // The server has no prompts, so that list stays as it was shown.
    assert_eq!(out, [send(INITIALIZED), send(CALL), TOOLS_CHANGED.to_owned(), RESOURCES_CHANGED.to_owned()]);
    assert_eq!(server(&mut forward, &result(7)), [to_host(&result(7))]);
    let list = request(9, "tools/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
}

#[test]
fn host_without_lists_hears_of_no_change() {
    let mut forward = signing_in();
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#)), [send(INITIALIZED)]);
}

#[test]
fn quick_server_does_not_overtake_handshake() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", "{}")), NOTHING);
    assert_eq!(host(&mut forward, INITIALIZED), [send(INITIALIZED)]);
}

#[test]
fn missing_capabilities_are_answered_for_server() {
    let mut forward = signing_in();
    stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    let prompts = host(&mut forward, &request(1, "prompts/list"));
    assert_eq!(prompts, [to_host(r#"{"jsonrpc":"2.0","id":1,"result":{"prompts":[]}}"#)]);
    assert_eq!(errors(&host(&mut forward, &request(2, "resources/read"))), [("2".to_owned(), -32601)]);
    let done = json(only(&host(&mut forward, CALL_SIGN_IN)));
    assert!(done["result"]["content"][0]["text"].as_str().unwrap().contains("List the tools again"));
    assert_eq!(host(&mut forward, CALL), [send(CALL)]);
}

#[test]
fn held_request_for_missing_capability_stays() {
    let mut forward = signing_in();
    host(&mut forward, &request(1, "prompts/get"));
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    assert_eq!(out[0], send(INITIALIZED));
    assert_eq!(errors(&out[1..]), [("1".to_owned(), -32601)]);
}

#[test]
fn log_level_is_answered_and_set_later() {
    let level = r#"{"jsonrpc":"2.0","id":4,"method":"logging/setLevel","params":{"level":"error"}}"#;
    let mut forward = signing_in();
    assert_eq!(host(&mut forward, level), [to_host(&result(4))]);
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"logging":{}}"#));
    assert_eq!(out.len(), 2, "{out:?}");
    assert!(
        out[1].starts_with(r#"send {"jsonrpc":"2.0","id":"mcp-remote-"#) && out[1].ends_with(r#""level":"error"}}"#)
    );
    let mut forward = signing_in();
    host(&mut forward, level);
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", "{}")), [send(INITIALIZED)]);
}

#[test]
fn overdue_held_call_is_answered_and_not_sent() {
    let mut forward = signing_in();
    host(&mut forward, CALL);
    let answer = json(only(&does(&mut forward, Event::Reminder(Reminder::Overdue(1)))));
    assert_eq!((&answer["id"], &answer["error"]["data"]["code"]), (&7.into(), &"sign_in_needed".into()));
    assert!(answer["error"]["message"].as_str().unwrap().contains("https://as.example/authorize?x"));
    assert_eq!(does(&mut forward, Event::Reminder(Reminder::Overdue(1))), NOTHING);
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", "{}")), [send(INITIALIZED)]);
}

#[test]
fn signed_in_person_is_not_asked_again() {
    let mut forward = signing_in();
    host(&mut forward, &request(6, "tools/list"));
    host(&mut forward, CALL);
    assert_eq!(does(&mut forward, Event::Need(Need::Nothing)), NOTHING, "no new list for a moment");
    let answer = json(only(&does(&mut forward, Event::Reminder(Reminder::Overdue(1)))));
    assert_eq!(answer["error"]["data"]["code"], "timed_out");
    assert_eq!(
        answer["error"]["message"],
        format!(
            "mcp-remote: a.example has not answered yet. Tip: {STILL_TRIED} [Details: mcp-remote explain timed_out]"
        )
    );
}

#[test]
fn cancelled_held_call_is_not_sent() {
    let mut forward = signing_in();
    host(&mut forward, CALL);
    assert_eq!(host(&mut forward, &cancelled(7)), NOTHING);
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", "{}")), [send(INITIALIZED)]);
}

#[test]
fn no_more_is_held_than_may_wait() {
    let mut forward = signing_in();
    let large = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":"{}"}}"#, "y".repeat(LIMIT));
    host(&mut forward, &large);
    assert_eq!(errors(&host(&mut forward, &request(2, "x"))), own_errors(&["2"]));
}

#[test]
fn unreachable_server_shows_status_tool_and_retries() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    let answer = json(only(&does(&mut forward, unreachable_server())));
    let words = answer["result"]["instructions"].as_str().unwrap();
    assert!(words.contains("is not available") && !words.contains("it is down"), "{words}");
    host(&mut forward, INITIALIZED);
    assert_eq!(names(&json(only(&host(&mut forward, &request(1, "tools/list"))))), ["mcp_remote_status"]);
    assert_eq!(host(&mut forward, CALL_STATUS)[0], "hurry");
    // Now a person has to sign in: the tool is another.
    assert_eq!(does(&mut forward, sign_in()), [TOOLS_CHANGED]);
    assert_eq!(names(&json(only(&host(&mut forward, &request(2, "tools/list"))))), ["mcp_remote_sign_in"]);
}

#[test]
fn reworded_report_announces_no_new_list() {
    let down = |why| Event::Remote(remote::Event::Blocked(Arc::new(Error::NoAnswer(why)), Duration::from_secs(1)));
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    does(&mut forward, down("it is down"));
    host(&mut forward, INITIALIZED);
    host(&mut forward, &request(1, "tools/list"));
    assert_eq!(does(&mut forward, down("it is away")), NOTHING);
    assert!(
        host(&mut forward, CALL_STATUS).iter().any(|line| line.contains("it is away")),
        "the tool's result says it"
    );
    let other = Event::Remote(remote::Event::Blocked(
        Arc::new(Error::NotMcp("text/html came back".to_owned())),
        Duration::from_secs(1),
    ));
    assert_eq!(does(&mut forward, other), [TOOLS_CHANGED]);
}

#[test]
fn time_of_person_does_not_count_for_server() {
    let mut forward = signing_in();
    host(&mut forward, &request(1, "tools/list"));
    assert_eq!(does(&mut forward, unreachable_server()), NOTHING);
    assert_eq!(names(&json(only(&host(&mut forward, &request(2, "tools/list"))))), ["mcp_remote_sign_in"]);
}

#[test]
fn failure_after_placeholder_answers_held_and_retries() {
    let mut forward = signing_in();
    host(&mut forward, &request(1, "tools/list"));
    host(&mut forward, CALL);
    let denied = Error::Unauthorized(Box::new(oauth::error::Error::Refused {
        step: oauth::error::Step::SignIn,
        error: oauth::error::ErrorCode::AccessDenied,
        description: None,
    }));
    let failed = does(&mut forward, Event::Opened(Err(denied)));
    assert_eq!(json(&failed[0])["id"], 7);
    assert!(json(&failed[0])["error"]["message"].as_str().unwrap().contains("access_denied"));
    assert_eq!(failed[1..], [TOOLS_CHANGED], "and no sign-in is begun unasked");
    let again = host(&mut forward, CALL_STATUS);
    assert_eq!(again[0], format!("open {HELLO}"));
    assert!(json(&again[1])["result"]["content"][0]["text"].as_str().unwrap().contains("access_denied"));
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    assert_eq!(out, [send(INITIALIZED), TOOLS_CHANGED.to_owned()]);
}

#[test]
fn network_failure_is_retried_unasked() {
    let mut forward = signing_in();
    let failed = does(&mut forward, refused(None));
    assert_eq!(failed, ["remind 60 s TryAgain"]);
    assert_eq!(does(&mut forward, Event::Reminder(Reminder::TryAgain)), [format!("open {HELLO}")]);
    assert_eq!(does(&mut forward, Event::Reminder(Reminder::TryAgain)), ["hurry"], "it is being tried already");
}

#[test]
fn failing_known_server_is_shown_unknown_is_error() {
    let mut forward = knowing(TWO_TOOLS);
    host(&mut forward, HELLO);
    let fallen_back = does(&mut forward, Event::Opened(Err(Error::NotMcp("text/html came back".to_owned()))));
    assert_eq!(json(&fallen_back[0])["result"]["serverInfo"]["name"], "s");
    assert_eq!(fallen_back[1..], ["remind 60 s TryAgain"]);
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    let failed = does(&mut forward, Event::Opened(Err(Error::NotMcp("text/html came back".to_owned()))));
    assert_eq!(errors(&failed), own_errors(&["0"]));
}

#[test]
fn known_list_is_refreshed_and_change_announced() {
    for (now, announced) in [(r#"[{"name":"a","x":1.0},{"name":"b"}]"#, false), (r#"[{"name":"c"}]"#, true)] {
        let mut forward = knowing(TWO_TOOLS);
        host(&mut forward, HELLO);
        does(&mut forward, sign_in());
        host(&mut forward, INITIALIZED);
        host(&mut forward, &request(1, "tools/list"));
        let out = stands(&mut forward, &introduction("2025-06-18", r#"{"tools":{},"prompts":{}}"#));
        assert_eq!(out[0], send(INITIALIZED));
        let asked: Value = serde_json::from_str(out[1].strip_prefix("send ").unwrap()).unwrap();
        assert_eq!((out.len(), &asked["method"]), (2, &"tools/list".into()));
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":{now}}}}}"#, asked["id"]);
        let told = server(&mut forward, &answer);
        assert_eq!(told, if announced { vec![TOOLS_CHANGED.to_owned()] } else { vec![] });
    }
}

#[test]
fn renewed_session_refreshes_seen_lists_by_page() {
    let mut forward = connected();
    host(&mut forward, &request(1, "prompts/list"));
    let page = |id: &dyn std::fmt::Display, prompts: &str, next: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"prompts":[{prompts}]{next}}}}}"#)
    };
    server(&mut forward, &page(&1, r#"{"name":"a"}"#, r#","nextCursor":"2""#));
    host(&mut forward, r#"{"jsonrpc":"2.0","id":2,"method":"prompts/list","params":{"cursor":"2"}}"#);
    server(&mut forward, &page(&2, r#"{"name":"b"}"#, ""));
    let renewed = Message::from_text(introduction("2025-11-25", "{}")).unwrap();
    let asked = does(&mut forward, Event::Remote(remote::Event::Renewed(renewed)));
    let asked: Value = serde_json::from_str(only(&asked).strip_prefix("send ").unwrap()).unwrap();
    assert_eq!(asked["method"], "prompts/list");
    let next = server(&mut forward, &page(&asked["id"], r#"{"name":"a"}"#, r#","nextCursor":"x""#));
    let next: Value = serde_json::from_str(only(&next).strip_prefix("send ").unwrap()).unwrap();
    assert_eq!(next["params"]["cursor"], "x");
    assert_eq!(server(&mut forward, &page(&next["id"], r#"{"name":"changed"}"#, "")), [PROMPTS_CHANGED]);
}

#[test]
fn other_version_passes_only_if_related() {
    let mut forward = signing_in();
    assert_eq!(stands(&mut forward, &introduction("2025-03-26", "{}")), [send(INITIALIZED)]);
    let mut forward = signing_in();
    host(&mut forward, CALL);
    let refused = stands(&mut forward, &introduction("2031-01-01", "{}"));
    assert_eq!(json(&refused[0])["error"]["data"]["code"], "protocol_version_not_shared");
    assert!(json(&refused[0])["error"]["message"].as_str().unwrap().contains("protocol version not shared"));
    assert_eq!(errors(&host(&mut forward, CALL)), own_errors(&["7"]));
}

#[test]
fn url_opening_host_is_offered_sign_in() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, OPENS_URLS);
    assert_eq!(does(&mut forward, sign_in()).len(), 1, "not before the handshake");
    let offer = json(only(&host(&mut forward, INITIALIZED)));
    assert_eq!((&offer["method"], &offer["params"]["mode"]), (&"elicitation/create".into(), &"url".into()));
    assert_eq!(offer["params"]["url"], "https://as.example/authorize?x");
    let accepted = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept"}}}}"#, offer["id"]);
    assert_eq!(host(&mut forward, &accepted), NOTHING, "the server has not asked");
    let out = stands(&mut forward, &introduction("2025-11-25", "{}"));
    assert_eq!(out[0], send(INITIALIZED));
    assert_eq!(json(&out[1])["method"], "notifications/elicitation/complete");
    assert_eq!(json(&out[1])["params"]["elicitationId"], offer["params"]["elicitationId"]);
}

#[test]
fn offered_address_has_the_device_code_in_it() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, OPENS_URLS);
    let complete = Some("https://as.example/device?code=AB".into());
    let asking = Asking { complete, ..asking("https://as.example/device and enter the code AB") };
    does(&mut forward, Event::Need(Need::Person(asking)));
    let offer = json(only(&host(&mut forward, INITIALIZED)));
    assert_eq!(offer["params"]["url"], "https://as.example/device?code=AB");
    assert!(offer["params"]["message"].as_str().unwrap().ends_with("/device and enter the code AB"), "{offer}");
}

#[test]
fn list_meeting_sign_in_is_answered_with_placeholder() {
    let mut forward = connected();
    let list = request(1, "tools/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
    let answer = json(only(&does(&mut forward, sign_in())));
    assert_eq!((&answer["id"], names(&answer)), (&1.into(), vec!["mcp_remote_sign_in"]));
    assert_eq!(names(&json(only(&host(&mut forward, &request(2, "tools/list"))))), ["mcp_remote_sign_in"]);
    assert_eq!(host(&mut forward, CALL), [send(CALL)], "the server's to answer, when it can");
    assert_eq!(does(&mut forward, Event::Need(Need::Nothing)), [TOOLS_CHANGED]);
    let own = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
    assert_eq!(server(&mut forward, own), NOTHING, "answered before");
    let list = request(3, "tools/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
}

#[test]
fn failed_sign_in_is_repeated_only_by_host() {
    let mut forward = connected();
    host(&mut forward, &request(1, "tools/list"));
    does(&mut forward, sign_in());
    let failed = Event::Need(Need::Failed(oauth::error::Error::Local("it broke".to_owned())));
    assert_eq!(does(&mut forward, failed), [TOOLS_CHANGED], "what the tool says is another thing now");
    let tools = json(only(&host(&mut forward, &request(2, "tools/list"))));
    assert!(tools["result"]["tools"][0]["description"].as_str().unwrap().contains("explain sign_in_failed]"));
    let told = host(&mut forward, CALL_STATUS);
    assert!(json(&told[0])["result"]["content"][0]["text"].as_str().unwrap().contains("it broke"));
    assert_eq!(told[1..], [TOOLS_CHANGED]);
    let list = request(3, "tools/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
}

#[test]
fn new_initialize_answers_held_messages() {
    let mut forward = signing_in();
    host(&mut forward, CALL);
    let anew = HELLO.replace(r#""id":0"#, r#""id":10"#);
    let out = host(&mut forward, &anew);
    assert_eq!(json(&out[0])["error"]["data"]["code"], "session_replaced");
    assert_eq!(out[1], format!("open {anew}"));
    assert_eq!(json(&out[2])["id"], 10, "the same person is still asked");
}

#[test]
fn end_of_input_does_not_wait_for_person() {
    let mut forward = signing_in();
    assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Stop);
    let mut forward = signing_in();
    host(&mut forward, CALL);
    assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Stop);
    assert_eq!(errors(&actions(&mut forward)), own_errors(&["7"]));
}

#[test]
fn only_servers_own_description_is_kept() {
    let kept = Arc::default();
    let mut forward = Forward::new(settings(Start::Answer), Box::new(Known(None, Arc::clone(&kept))));
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    host(&mut forward, INITIALIZED);
    host(&mut forward, &request(1, "tools/list"));
    assert!(kept.lock().unwrap().is_empty());
    stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    host(&mut forward, &request(2, "tools/list"));
    server(&mut forward, r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"a"}]}}"#);
    let mut known = Description::default();
    assert!(kept.lock().unwrap().iter().all(|learned| known.learn(learned)));
    assert_eq!(known.version("2025-11-25"), "2025-11-25");
    assert_eq!(known.items(List::Tools).unwrap()[0].get(), r#"{"name":"a"}"#);
}

#[test]
fn waiting_second_initialize_gets_own_connection() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    let second = HELLO.replace(r#""id":0"#, r#""id":10"#);
    assert_eq!(host(&mut forward, &second), NOTHING);
    let out = does(&mut forward, sign_in());
    assert_eq!(json(&out[0])["id"], 0);
    assert_eq!(out[1], format!("open {second}"));
    assert_eq!(json(&out[2])["id"], 10);
    assert_eq!(out.len(), 3, "{out:?}");
}

#[test]
fn batch_that_waited_is_taken_apart() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    host(&mut forward, &format!("[{},{CALL}]", request(1, "tools/list")));
    let out = does(&mut forward, sign_in());
    assert_eq!(names(&json(&out[1])), ["mcp_remote_sign_in"]);
    assert_eq!(host(&mut forward, &cancelled(7)), NOTHING);
    assert_eq!(host(&mut forward, INITIALIZED), NOTHING);
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    assert_eq!(out, [send(INITIALIZED), TOOLS_CHANGED.to_owned()], "the call was taken back");
}

#[test]
fn reused_initialize_id_still_reaches_server() {
    let mut forward = signing_in();
    let call = CALL.replace(r#""id":7"#, r#""id":0"#);
    host(&mut forward, &call);
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    assert_eq!(out, [send(INITIALIZED), send(&call)]);
    assert_eq!(server(&mut forward, &result(0)), [to_host(&result(0))]);
}

#[test]
fn answer_to_unsent_request_is_dropped() {
    let mut forward = signing_in();
    host(&mut forward, CALL);
    assert_eq!(server(&mut forward, &result(7)), NOTHING);
    let out = stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    assert_eq!(out, [send(INITIALIZED), send(CALL)]);
    assert_eq!(server(&mut forward, &result(7)), [to_host(&result(7))]);
}

#[test]
fn opening_connection_takes_only_its_answer() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    let second = HELLO.replace(r#""id":0"#, r#""id":10"#);
    host(&mut forward, CALL);
    host(&mut forward, &second);
    for made_up in [result(7), result(10), format!("[{},{}]", result(7), result(10))] {
        assert_eq!(server(&mut forward, &made_up), NOTHING);
    }
    let out = does(&mut forward, sign_in());
    assert_eq!(json(&out[0])["id"], 0, "the server has not introduced itself");
}

#[test]
fn obstacle_after_servers_answer_answers_nothing() {
    for event in [unreachable_server(), sign_in()] {
        let mut forward = start(Start::Answer, None, &[]);
        host(&mut forward, HELLO);
        let own = introduction("2025-11-25", r#"{"tools":{}}"#);
        assert_eq!(server(&mut forward, &own), [to_host(&own)]);
        assert_eq!(does(&mut forward, event), NOTHING);
        does(&mut forward, Event::Opened(Ok(())));
        host(&mut forward, INITIALIZED);
        assert_eq!(host(&mut forward, CALL), [send(CALL)]);
    }
}

#[test]
fn own_answer_is_known_in_batch_or_reuse() {
    let own = introduction("2025-11-25", r#"{"tools":{}}"#);
    for answer in [own.clone(), format!("[{own}]")] {
        let mut forward = open(start(Start::Answer, None, &[]), &request(0, "tools/call"));
        let out = host(&mut forward, HELLO);
        assert_eq!(json(&out[0])["error"]["data"]["code"], "session_replaced");
        assert_eq!(out[1], format!("open {HELLO}"));
        assert_eq!(server(&mut forward, &answer), [to_host(&own)]);
        assert_eq!(does(&mut forward, unreachable_server()), NOTHING);
    }
}

#[test]
fn retries_of_host_start_no_further_retries() {
    let mut forward = signing_in();
    assert_eq!(does(&mut forward, refused(None)), ["remind 60 s TryAgain"]);
    for _ in 0..3 {
        assert_eq!(host(&mut forward, CALL_STATUS)[0], format!("open {HELLO}"));
        assert_eq!(does(&mut forward, refused(None)), NOTHING, "one reminder is set already");
    }
    assert_eq!(does(&mut forward, Event::Reminder(Reminder::TryAgain)), [format!("open {HELLO}")]);
    assert_eq!(does(&mut forward, refused(None)), ["remind 60 s TryAgain"]);
}

#[test]
fn reminder_and_sleep_respect_refused_sign_in() {
    let mut forward = signing_in();
    assert_eq!(does(&mut forward, refused(None)), ["remind 60 s TryAgain"]);
    host(&mut forward, CALL_STATUS);
    let denied = Error::Unauthorized(Box::new(oauth::error::Error::Local("no".to_owned())));
    does(&mut forward, Event::Opened(Err(denied)));
    assert_eq!(does(&mut forward, Event::Reminder(Reminder::TryAgain)), NOTHING);
    assert_eq!(does(&mut forward, Event::Woke(Duration::from_secs(3600))), ["check"]);
    assert_eq!(host(&mut forward, CALL_STATUS)[0], format!("open {HELLO}"), "the host may");
}

#[test]
fn session_replaced_before_ready_is_asked_nothing() {
    let mut forward = knowing(TWO_TOOLS);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    host(&mut forward, &request(1, "tools/list"));
    // This host lists too early; what it asks of the stand-in says nothing to the server.
    let renewed = Message::from_text(introduction("2025-03-26", r#"{"tools":{}}"#)).unwrap();
    assert_eq!(does(&mut forward, Event::Remote(remote::Event::Renewed(renewed))), NOTHING);
}

#[test]
fn added_capability_is_announced_and_forwarded() {
    let mut forward = signing_in();
    host(&mut forward, &request(1, "prompts/list"));
    stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    let renewed = Message::from_text(introduction("2025-11-25", r#"{"tools":{},"prompts":{}}"#)).unwrap();
    assert_eq!(does(&mut forward, Event::Remote(remote::Event::Renewed(renewed))), [PROMPTS_CHANGED]);
    let list = request(2, "prompts/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
}

#[test]
fn host_without_initialized_gets_tools() {
    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    assert_eq!(names(&json(only(&host(&mut forward, &request(1, "tools/list"))))), ["mcp_remote_sign_in"]);
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#)), [TOOLS_CHANGED]);
    let list = request(2, "tools/list");
    assert_eq!(host(&mut forward, &list), [send(&list)]);

    let mut forward = start(Start::Answer, None, &[]);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    assert_eq!(stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#)), NOTHING);
    assert_eq!(host(&mut forward, &request(1, "ping")), [to_host(&result(1))], "not yet");
    assert_eq!(host(&mut forward, &list), [send(&list)]);
}

#[test]
fn formatted_description_is_one_line_to_host() {
    let laid_out = TWO_TOOLS.replace(r#"{"name":"b"}"#, "{\n  \"name\": \"b\"\n}");
    let mut forward = knowing(&laid_out);
    host(&mut forward, HELLO);
    does(&mut forward, sign_in());
    let list = host(&mut forward, &request(1, "tools/list"));
    assert!(!only(&list).contains('\n'), "{list:?}");
    assert_eq!(names(&json(only(&list))), ["a", "b"]);
}

#[test]
fn server_without_version_is_carried_over() {
    let mut forward = signing_in();
    let bare = r#"{"jsonrpc":"2.0","id":0,"result":{"capabilities":{"tools":{}}}}"#;
    assert_eq!(stands(&mut forward, bare), [send(INITIALIZED)]);
}

#[test]
fn session_lost_during_refresh_ends_refresh() {
    let mut forward = connected();
    host(&mut forward, &request(1, "tools/list"));
    server(&mut forward, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
    let renewed = || {
        let answer = Message::from_text(introduction("2025-11-25", r#"{"tools":{}}"#)).unwrap();
        Event::Remote(remote::Event::Renewed(answer))
    };
    assert_eq!(does(&mut forward, renewed()).len(), 1);
    assert_eq!(does(&mut forward, renewed()), NOTHING, "the request on its way is sent again by itself");
}

#[test]
fn endless_pages_are_kept_within_limit() {
    let mut forward = connected();
    host(&mut forward, &request(1, "tools/list"));
    server(&mut forward, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
    let answer = Message::from_text(introduction("2025-11-25", r#"{"tools":{}}"#)).unwrap();
    let mut out = does(&mut forward, Event::Remote(remote::Event::Renewed(answer)));
    let much = format!(r#"{{"name":"{}"}}"#, "x".repeat(lists::MOST_SHOWN / 2));
    for _ in 0..3 {
        let Some(sent) = out.first().and_then(|sent| sent.strip_prefix("send ")) else { break };
        let asked: Value = serde_json::from_str(sent).unwrap();
        let page =
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[{much}],"nextCursor":"x"}}}}"#, asked["id"]);
        out = server(&mut forward, &page);
    }
    assert_eq!(out, [TOOLS_CHANGED], "it is more than the host was shown, so it is another list");
}

#[test]
fn new_connection_answers_lists_during_sign_in() {
    let mut forward = knowing(TWO_TOOLS);
    host(&mut forward, HELLO);
    server(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    does(&mut forward, Event::Opened(Ok(())));
    host(&mut forward, &request(1, "tools/list"));
    assert_eq!(names(&json(&does(&mut forward, sign_in())[0])), ["a", "b"]);
    // The host begins anew; the server asks for no sign-in at that.
    let again = HELLO.replace(r#""id":0"#, r#""id":2"#);
    host(&mut forward, &again);
    host(&mut forward, INITIALIZED);
    server(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#).replace(r#""id":0"#, r#""id":2"#));
    does(&mut forward, Event::Opened(Ok(())));
    let listed = host(&mut forward, &request(3, "tools/list"));
    assert_eq!(names(&json(only(&listed))), ["a", "b"]);
}

#[test]
fn list_of_many_pages_counts_as_oversized() {
    let kept = Arc::default();
    let mut forward = start(Start::Answer, None, &[]);
    forward.cx.descriptions = Box::new(Known(None, Arc::clone(&kept)));
    let mut forward = open(forward, INITIALIZE);
    server(&mut forward, &result(0));
    for page in 1..1000 {
        let cursor = if page == 1 { String::new() } else { format!(r#","params":{{"cursor":"{page}"}}"#) };
        host(&mut forward, &format!(r#"{{"jsonrpc":"2.0","id":{page},"method":"tools/list"{cursor}}}"#));
        server(&mut forward, &format!(r#"{{"jsonrpc":"2.0","id":{page},"result":{{"tools":[],"nextCursor":"n"}}}}"#));
    }
    let pages = |learned: &Learned| if let Learned::List(_, pages) = learned { pages.len() } else { 0 };
    let pages: usize = kept.lock().unwrap().iter().map(pages).sum();
    assert!(pages < 30_000, "{pages} pages are handed over");
    let answer = Message::from_text(introduction("2025-11-25", r#"{"tools":{}}"#)).unwrap();
    assert_eq!(does(&mut forward, Event::Remote(remote::Event::Renewed(answer))), [TOOLS_CHANGED]);
}

#[test]
fn list_grown_beyond_limit_is_changed() {
    let mut forward = connected();
    host(&mut forward, &request(1, "tools/list"));
    server(&mut forward, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
    let answer = Message::from_text(introduction("2025-11-25", r#"{"tools":{}}"#)).unwrap();
    let mut out = does(&mut forward, Event::Remote(remote::Event::Renewed(answer)));
    let mut pages = 0;
    while let Some(sent) = out.first().and_then(|sent| sent.strip_prefix("send ")) {
        let asked: Value = serde_json::from_str(sent).unwrap();
        pages += 1;
        assert!(pages < 1000, "for ever");
        let page = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[],"nextCursor":"x"}}}}"#, asked["id"]);
        out = server(&mut forward, &page);
    }
    assert_eq!(out, [TOOLS_CHANGED]);
}

#[test]
fn server_batch_is_split_for_other_version() {
    let mut forward = signing_in();
    stands(&mut forward, &introduction("2025-03-26", r#"{"tools":{}}"#));
    for id in [1, 2] {
        host(&mut forward, &request(id, "tools/call"));
    }
    let batch = format!("[{},{}]", result(1), result(2));
    assert_eq!(server(&mut forward, &batch), [to_host(&result(1)), to_host(&result(2))]);
}

#[test]
fn list_missing_at_first_is_announced_later() {
    let mut forward = signing_in();
    stands(&mut forward, &introduction("2025-11-25", r#"{"tools":{}}"#));
    let listed = host(&mut forward, &request(1, "prompts/list"));
    assert_eq!(json(only(&listed))["result"]["prompts"], serde_json::json!([]));
    let renewed = Message::from_text(introduction("2025-11-25", r#"{"tools":{},"prompts":{}}"#)).unwrap();
    assert_eq!(does(&mut forward, Event::Remote(remote::Event::Renewed(renewed))), [PROMPTS_CHANGED]);
}

#[test]
fn list_refreshed_before_second_loss_is_announced() {
    let mut forward = connected();
    for (id, list) in [(1, "tools"), (2, "prompts")] {
        host(&mut forward, &request(id, &format!("{list}/list")));
        server(&mut forward, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"{list}":[]}}}}"#));
    }
    let renewed = || {
        let answer = Message::from_text(introduction("2025-11-25", r#"{"tools":{},"prompts":{}}"#)).unwrap();
        Event::Remote(remote::Event::Renewed(answer))
    };
    let asked: Vec<Value> =
        does(&mut forward, renewed()).iter().map(|sent| serde_json::from_str(&sent[5..]).unwrap()).collect();
    let [tools, prompts] = &asked[..] else { panic!("{asked:?}") };
    let same = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[]}}}}"#, tools["id"]);
    assert_eq!(server(&mut forward, &same), NOTHING);
    assert_eq!(does(&mut forward, renewed()), [TOOLS_CHANGED], "the other one is still asked for");
    let same = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"prompts":[]}}}}"#, prompts["id"]);
    assert_eq!(server(&mut forward, &same), NOTHING);
}
