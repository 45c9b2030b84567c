//! The bridge for legacy hosts, step by step.

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
fn request_without_counterpart_is_answered_locally() {
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
fn input_request_is_answered_by_host_and_resent() {
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
fn refused_input_ends_call_and_other_requests() {
    let mut played = played();
    played.host(&call(1, ""));
    played.server(&elicit("1", &["a", "b", "c"]));
    let ended = played.host(r##"{"jsonrpc":"2.0","id":#2,"error":{"code":-1,"message":"no","data":1.0}}"##);
    let withdrawn =
        |id: &str| format!(r#"< {{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
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
    assert!(late[1].contains("no answer within 10 minutes. Tip: ") && late.len() == 2, "{late:?}");
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
fn results_unknown_to_legacy_hosts_become_errors() {
    let mut played = played();
    for (id, method, result) in [
        (1, "tools/call", r#"{"resultType":"weird"}"#),
        (2, "tools/call", r#"{"resultType":"task","taskId":"t"}"#),
        (3, "tools/list", r#"{"resultType":"input_required","requestState":"s"}"#),
        (4, "tools/call", r#"{"resultType":"input_required"}"#),
    ] {
        played.host(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#));
        let ended = played.server(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
        // No other host and no answer of a user would help.
        assert!(ended[0].contains("explain bad_message]") && ended.len() == 1, "{ended:?}");
    }
}

#[test]
fn unknown_kind_of_input_is_servers_fault() {
    let mut played = played();
    played.host(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#);
    let asks = r#"{"resultType":"input_required","inputRequests":{"k":{"method":"weather/ask"}}}"#;
    let ended = played.server(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{asks}}}"#));
    assert!(ended[0].contains(r#"asked for \"weather/ask\" during a call, which MCP does not allow"#), "{ended:?}");
    assert!(ended[0].contains("explain bad_message]") && ended.len() == 1, "{ended:?}");
}

#[test]
fn members_rejected_by_legacy_sdks_are_removed() {
    let answer = |method: &str, result: &str| {
        let mut played = played();
        played.host(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#));
        let lines = played.server(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
        lines[0].strip_prefix(r#"< {"jsonrpc":"2.0","id":1,"result":"#).unwrap().strip_suffix('}').unwrap().to_owned()
    };
    for (result, expected) in [
        (r#"{ "tools":[{"outputSchema":{"type":"object"} }]}"#, r#"{ "tools":[{"outputSchema":{"type":"object"} }]}"#),
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
fn url_elicitation_gets_id_for_legacy_hosts() {
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
    let acknowledge =
        |id: &str, agreed: &str| on_stream(id, "subscriptions/acknowledged", &format!(r#","notifications":{agreed}"#));
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
fn call_turned_task_is_answered_when_task_ends() {
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
    assert!(poll[0].contains(r##""id":#2,"method":"tasks/get","params":{"taskId":"t-\u0041","_meta":"##), "{poll:?}");
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
fn task_survives_lost_polls_and_ends_with_call() {
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
fn streams_ending_at_once_reopen_with_growing_pauses() {
    let mut played = played();
    played.host(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let mut pauses = Vec::new();
    for number in 1..10 {
        let acknowledged = format!(
            r##"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":#{number}}},"notifications":{{"toolsListChanged":true}}}}}}"##
        );
        played.server(&acknowledged);
        pauses.extend(played.server(&format!(r##"{{"jsonrpc":"2.0","id":#{number},"result":{{}}}}"##)));
        played.due(number - 1);
    }
    assert_eq!(pauses, ["! 5s", "! 10s", "! 20s", "! 40s", "! 80s", "! 160s", "! 320s", "! 320s", "! 320s"]);
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
