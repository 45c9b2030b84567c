//! The bridge for modern hosts, step by step.

use super::{
    super::bridge::tests::{NOTHING, Played, message, text},
    *,
};

const META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"h","version":"1.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;
const INITIALIZED_ANSWER: &str = r#"{"jsonrpc":"2.0","id":"i","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},"tasks":{}},"serverInfo":{"name":"s","version":"2.0"},"instructions":"i\u0041"}}"#;

fn played() -> Played<ModernHost> {
    Played::new(ModernHost::begin("s:1", &message(INITIALIZED_ANSWER)))
}

fn request(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}"_meta":{{{META}}}}}}}"#)
}

fn call(id: u32, more: &str) -> String {
    request(id, "tools/call", &format!(r#""name":"t","arguments":{{"n":1.0}},{more}"#))
}

fn elicit(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{{"message":"m","elicitationId":"e"}}}}"#
    )
}

fn input_required(id: u32, requests: &str, handle: &str) -> String {
    format!(
        r#"< {{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{requests}}},"requestState":"{handle}"}}}}"#
    )
}

const ELICITED: &str = r#""1":{"method":"elicitation/create","params":{"message":"m"}}"#;

#[test]
fn initialize_is_made_of_metadata() {
    let initialize = text(&initialize_for(&message(&request(1, "server/discover", ""))).unwrap());
    assert!(
        initialize.ends_with(r#","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}},"clientInfo":{"name":"h","version":"1.0"}}}"#),
        "{initialize}"
    );
}

#[test]
fn discover_is_answered_from_initialize() {
    assert_eq!(
        played().host(&request(1, "server/discover", "")),
        [
            r#"< {"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2.0"}},"instructions":"i\u0041","ttlMs":0,"cacheScope":"private"}}"#
        ]
    );
}

#[test]
fn request_loses_metadata_and_result_gets_its_type() {
    let mut played = played();
    assert_eq!(
        played.host(&call(1, "")),
        [r#"> {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#]
    );
    assert_eq!(
        played.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[], "n":1e400}}"#),
        [r#"< {"jsonrpc":"2.0","id":1,"result":{"content":[],"n":1e400,"resultType":"complete"}}"#]
    );
    let progress = request(2, "tools/list", "").replace("\"_meta\":{", r#""_meta":{"progressToken":7,"#);
    assert_eq!(
        played.host(&progress),
        [r#"> {"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"progressToken":7}}}"#]
    );
    assert_eq!(
        played.server(r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}"#),
        [
            r#"< {"jsonrpc":"2.0","id":2,"result":{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}}"#
        ]
    );
}

#[test]
fn wrong_version_is_refused_without_the_server() {
    let mut played = played();
    let other = played.host(&request(1, "tools/list", "").replace("2026-07-28", "2099-01-01"));
    assert_eq!(
        other,
        [
            r#"< {"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"mcp-remote: MCP \"2099-01-01\" is not supported","data":{"requested":"2099-01-01","supported":["2026-07-28"]}}}"#
        ]
    );
    let none = played.host(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#);
    assert!(none[0].contains(r#""code":-32602"#) && none.len() == 1, "{none:?}");
    assert!(played.host(&request(3, "tasks/get", ""))[0].contains(r#""code":-32601"#));
}

#[test]
fn server_request_becomes_result_and_answer_continues_call() {
    let mut played = played();
    played.host(&call(1, ""));
    assert_eq!(played.related("1", &elicit("7")), ["! 20ms"]);
    assert_eq!(played.due(0), [input_required(1, ELICITED, "#1"), "! 600s".to_owned()]);
    let answers = r##""inputResponses":{"1":{"action":"accept" , "content":{}}},"requestState":"#1","##;
    assert_eq!(
        played.host(&call(2, answers)),
        [r#"> {"jsonrpc":"2.0","id":7,"result":{"action":"accept" , "content":{}}}"#]
    );
    // Another round, and then the answer.
    assert_eq!(played.related("1", &elicit("8")), ["! 20ms"]);
    assert_eq!(played.due(2)[0], input_required(2, ELICITED, "#2"));
    let answers = r##""inputResponses":{"1":{}},"requestState":"#2","##;
    assert_eq!(played.host(&call(3, answers)), [r#"> {"jsonrpc":"2.0","id":8,"result":{}}"#]);
    assert_eq!(
        played.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#),
        [r#"< {"jsonrpc":"2.0","id":3,"result":{"content":[],"resultType":"complete"}}"#]
    );
    assert!(played.bridge.calls.is_empty() && played.bridge.legs.is_empty() && played.bridge.suspended.is_empty());
}

#[test]
fn simultaneous_questions_are_sent_together_unanswered_ones_again() {
    let mut played = played();
    played.host(&call(1, ""));
    played.related("1", &elicit("7"));
    assert_eq!(played.related("1", r#"{"jsonrpc":"2.0","id":8,"method":"roots/list"}"#), NOTHING);
    let both = format!(r#"{ELICITED},"2":{{"method":"roots/list"}}"#);
    assert_eq!(played.due(0)[0], input_required(1, &both, "#1"));
    let one = r##""inputResponses":{"2":{"roots":[]}},"requestState":"#1","##;
    let asked = played.host(&call(2, one));
    assert_eq!(asked[0], r#"> {"jsonrpc":"2.0","id":8,"result":{"roots":[]}}"#);
    assert_eq!(asked[1], input_required(2, ELICITED, "#2"));
    // The roots are known now.
    assert_eq!(
        played.server(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#),
        [r#"> {"jsonrpc":"2.0","id":9,"result":{"roots":[]}}"#]
    );
}

#[test]
fn handle_continues_its_own_call_once() {
    let mut played = played();
    played.host(&call(1, ""));
    played.related("1", &elicit("7"));
    played.due(0);
    let answers = r##""inputResponses":{"1":{}},"requestState":"#1","##;
    for other in [
        call(2, answers).replace("\"name\":\"t\"", "\"name\":\"other\""),
        call(2, answers).replace("1.0", "2.0"),
        call(2, answers).replace("#1", "0123"),
        request(2, "resources/read", answers),
    ] {
        let refused = played.host(&other);
        assert!(refused[0].contains(r#""code":-32602"#) && refused.len() == 1, "{refused:?}");
    }
    assert_eq!(played.host(&call(3, answers)).len(), 1);
    assert!(played.host(&call(4, answers))[0].contains("it was used before"), "a second time");
}

#[test]
fn abandoned_call_is_cancelled_at_server() {
    let mut played = played();
    played.host(&call(1, ""));
    played.related("1", &elicit("7"));
    played.due(0);
    let ended = played.due(1);
    assert!(ended[0].starts_with(r#"> {"jsonrpc":"2.0","id":7,"error":"#), "{ended:?}");
    assert_eq!(ended[1], r#"> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    assert!(played.host(&call(2, r##""requestState":"#1","##))[0].contains(r#""code":-32602"#));
    // What is cancelled while it runs is cancelled at the server under its own id.
    played.host(&call(5, ""));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    assert_eq!(played.host(cancel), [format!("> {cancel}")]);
    assert_eq!(played.server(r#"{"jsonrpc":"2.0","id":5,"result":{}}"#), NOTHING);
}

#[test]
fn answer_arriving_during_question_is_kept() {
    let mut played = played();
    played.host(&call(1, ""));
    played.related("1", &elicit("7"));
    played.due(0);
    assert_eq!(played.server(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#), NOTHING);
    let done = played.host(&call(2, r##""inputResponses":{"1":{}},"requestState":"#1","##));
    assert_eq!(done[1], r#"< {"jsonrpc":"2.0","id":2,"result":{"content":[],"resultType":"complete"}}"#);
    // A lost one is lost for the request that waits, and a suspended one for its handle.
    played.host(&call(5, ""));
    assert_eq!(played.bridge.on_lost(&[Id::from_json(b"5")]), [Id::from_json(b"5")]);
}

#[test]
fn request_outside_calls_is_refused_or_parked() {
    let mut played = played();
    let sampling = r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#;
    assert!(played.server(sampling)[0].contains(r#""code":-32601"#));
    assert_eq!(
        played.server(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#),
        [r#"> {"jsonrpc":"2.0","id":8,"result":{}}"#]
    );
    assert_eq!(played.server(r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#), ["! 60s"]);
    // A call that cannot say what the server wants to know.
    played.host(&call(1, "").replace(r#""sampling":{},"#, ""));
    assert!(played.related("1", sampling)[0].contains(r#""code":-32601"#));
    assert_eq!(played.dues.len(), 2, "the call carries the roots");
    assert_eq!(played.due(1)[0], input_required(1, r#""1":{"method":"roots/list"}"#, "#1"));
    played.server(r#"{"jsonrpc":"2.0","id":10,"method":"roots/list"}"#);
    let late = played.dues.len() - 1;
    assert!(played.due(late)[0].contains(r#""id":10,"error""#));
}

#[test]
fn unrelated_question_goes_to_first_call_without_one() {
    let mut played = played();
    played.host(&call(1, ""));
    played.host(&call(2, ""));
    played.host(&request(3, "tools/list", ""));
    assert_eq!(played.server(&elicit("7")), ["! 20ms"]);
    assert_eq!(played.server(&elicit("8")), ["! 20ms"]);
    assert_eq!(played.due(0)[0], input_required(1, ELICITED, "#1"));
    assert_eq!(played.due(1)[0], input_required(2, ELICITED, "#2"));
    let answers = r##""inputResponses":{"1":{}},"requestState":"#2","##;
    assert_eq!(played.host(&call(4, answers)), [r#"> {"jsonrpc":"2.0","id":8,"result":{}}"#]);
}

#[test]
fn server_that_asks_without_end_is_refused() {
    let mut played = played();
    played.host(&call(1, ""));
    for round in 1..=MOST_ROUNDS {
        played.related("1", &elicit("7"));
        let due = played.dues.len() - 1;
        assert!(played.due(due)[0].contains("input_required"), "{round}");
        let answers = format!(r##""inputResponses":{{"1":{{}}}},"requestState":"#{round}","##);
        assert_eq!(played.host(&call(round + 1, &answers)).len(), 1);
    }
    played.related("1", &elicit("8"));
    let due = played.dues.len() - 1;
    let refused = played.due(due);
    assert!(refused[0].starts_with(r#"> {"jsonrpc":"2.0","id":8,"error""#) && refused.len() == 1, "{refused:?}");
    assert!(played.server(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)[0].contains(r#""id":11,"#), "the call goes on");
}

#[test]
fn error_codes_of_other_era_never_reach_host() {
    let mut played = played();
    for (id, code, expected) in [(1, -32002, -32602), (2, -32050, -32603), (3, -32000, -32000), (4, -32602, -32602)] {
        played.host(&request(id, "resources/read", r#""uri":"u:a","#));
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"m","data":1.0}}}}"#);
        assert_eq!(
            played.server(&answer),
            [format!("< {}", answer.replace(&code.to_string(), &i32::to_string(&expected)))]
        );
    }
    // Pages to visit first: the call is made anew after that.
    played.host(&call(5, ""));
    let asked = played.server(
        r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://a.example","message":"go","elicitationId":"e"}]}}}"#,
    );
    let page =
        r#""1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a.example","message":"go"}}"#;
    assert_eq!(asked[0], input_required(5, page, "#1"));
    assert_eq!(
        played.host(&call(6, r##""inputResponses":{"1":{"action":"accept"}},"requestState":"#1","##)),
        [r#"> {"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#]
    );
}

#[test]
fn notifications_reach_the_streams_that_are_about_them() {
    let mut played = played();
    let acknowledged = played.host(&request(
        1,
        "subscriptions/listen",
        r#""notifications":{"toolsListChanged":true,"promptsListChanged":true},"#,
    ));
    assert_eq!(
        acknowledged,
        [
            r#"< {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"notifications":{"toolsListChanged":true}}}"#
        ],
        "the server reports no changes of prompts"
    );
    let two = r#""notifications":{"resourceSubscriptions":["u:a"]},"#;
    let subscribing = played.host(&request(2, "subscriptions/listen", two));
    assert_eq!(subscribing, [r##"> {"jsonrpc":"2.0","id":#1,"method":"resources/subscribe","params":{"uri":"u:a"}}"##]);
    assert!(played.server(r##"{"jsonrpc":"2.0","id":#1,"result":{}}"##)[0].contains("acknowledged"));
    assert_eq!(played.host(&request(3, "subscriptions/listen", two)).len(), 1, "the server has this one");
    assert_eq!(
        played.server(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#),
        [
            r#"< {"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#
        ]
    );
    let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u:a"}}"#;
    assert_eq!(played.server(updated).len(), 2);
    let cancel =
        |id: u32| format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    assert_eq!(played.host(&cancel(2)), NOTHING, "another stream has the resource");
    assert_eq!(played.server(updated).len(), 1);
    assert!(played.host(&cancel(3))[0].contains("resources/unsubscribe"));
    assert_eq!(played.server(updated), NOTHING);
    played.bridge.on_renewed(&message(INITIALIZED_ANSWER));
    assert_eq!(played.steps().len(), 1, "what was missed is announced");
}

#[test]
fn refused_subscription_is_not_acknowledged() {
    let mut played = played();
    played.host(&request(1, "subscriptions/listen", r#""notifications":{"resourceSubscriptions":["u:a"]},"#));
    let acknowledged = played.server(r##"{"jsonrpc":"2.0","id":#1,"error":{"code":-32602,"message":"no"}}"##);
    assert!(acknowledged[0].ends_with(r#""notifications":{}}}"#), "{acknowledged:?}");
}

#[test]
fn log_level_is_set_before_request_and_filtered() {
    let mut played = played();
    let with_level = |id: u32, level: &str| {
        call(id, "").replace("\"_meta\":{", &format!(r#""_meta":{{"io.modelcontextprotocol/logLevel":"{level}","#))
    };
    let set = played.host(&with_level(1, "info"));
    assert_eq!(set, [r##"> {"jsonrpc":"2.0","id":#1,"method":"logging/setLevel","params":{"level":"info"}}"##]);
    assert_eq!(played.server(r##"{"jsonrpc":"2.0","id":#1,"result":{}}"##).len(), 1, "now the call");
    assert!(played.host(&with_level(2, "error"))[0].contains("tools/call"), "the session has a lower level already");
    assert!(played.host(&call(3, ""))[0].contains("tools/call"));
    let log = |level: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1}}}}"#)
    };
    for (to, level, passes) in [
        ("1", "info", true),
        ("1", "debug", false),
        ("2", "warning", false),
        ("2", "error", true),
        ("3", "error", false),
    ] {
        assert_eq!(played.related(to, &log(level)).len(), usize::from(passes), "{to} {level}");
    }
    assert_eq!(played.server(&log("emergency")), NOTHING, "of no request");
}

#[test]
fn progress_follows_the_request_that_waits() {
    let mut played = played();
    let with_token =
        |id: u32, more: &str| call(id, more).replace("\"_meta\":{", &format!(r#""_meta":{{"progressToken":"p{id}","#));
    played.host(&with_token(1, ""));
    let progress = |value: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p1","progress":{value}}}}}"#
        )
    };
    assert_eq!(played.related("1", &progress(1)), [format!("< {}", progress(1))]);
    played.related("1", &elicit("7"));
    played.due(0);
    assert_eq!(played.related("1", &progress(2)), NOTHING, "nobody waits");
    played.host(&with_token(2, r##""inputResponses":{"1":{}},"requestState":"#1","##));
    assert_eq!(played.related("1", &progress(3)), [format!("< {}", progress(3).replace("p1", "p2"))]);
}
