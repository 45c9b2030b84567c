//! Progress in the server's place, as a pure function.

use super::*;

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t"}}}"#;
const SILENT: Event = Event::Reminder(Reminder::Progress(1));

fn wanting() -> Forward {
    let settings =
        Settings { limits: Limits { progress_keepalive: true, ..limits(Start::Answer) }, ..settings(Start::Answer) };
    let mut forward = open(Forward::new(settings, Box::new(Nothing)), INITIALIZE);
    server(&mut forward, &result(0));
    assert_eq!(host(&mut forward, CALL), ["remind 45 s Progress(1)".to_owned(), send(CALL)]);
    forward
}

fn of_server(progress: &str) -> String {
    let params = format!(r#"{{"progressToken":"t","progress":{progress},"total":9}}"#);
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)
}

fn value(action: &str) -> f64 {
    let said: Value = serde_json::from_str(action.strip_prefix("host ").unwrap()).unwrap();
    assert_eq!((&said["method"], &said["params"]["progressToken"]), (&"notifications/progress".into(), &"t".into()));
    said["params"]["progress"].as_f64().unwrap()
}

#[test]
fn a_long_call_is_told_to_be_alive_again_and_again_with_growing_values() {
    let mut forward = wanting();
    let first = does(&mut forward, SILENT);
    let second = does(&mut forward, SILENT);
    assert_eq!(first[1..], ["remind 45 s Progress(1)"]);
    assert!(value(&first[0]) > 0.0 && value(&second[0]) > value(&first[0]));
    assert!(first[0].contains(r#""message":"mcp-remote: a.example is still at work""#), "{first:?}");
}

#[test]
fn nothing_is_said_after_the_answer_or_where_the_server_speaks_for_itself() {
    let mut forward = wanting();
    server(&mut forward, &result(1));
    assert_eq!(does(&mut forward, SILENT), NOTHING);
    let mut forward = wanting();
    assert_eq!(server(&mut forward, &of_server("0")), [to_host(&of_server("0"))]);
    assert_eq!(does(&mut forward, SILENT), NOTHING);
}

#[test]
fn what_the_server_says_later_passes_if_it_is_more_than_what_was_said() {
    let mut forward = wanting();
    does(&mut forward, SILENT);
    assert_eq!(server(&mut forward, &of_server("0")), NOTHING, "it would go back");
    assert_eq!(server(&mut forward, &of_server("0.01")), [to_host(&of_server("0.01"))]);
    assert_eq!(does(&mut forward, SILENT), NOTHING);
}

#[test]
fn without_the_users_wish_or_a_token_nothing_is_said_or_read() {
    let mut forward = connected();
    assert_eq!(host(&mut forward, CALL), [send(CALL)]);
    let mut forward = wanting();
    let plain = request(2, "tools/call");
    assert_eq!(host(&mut forward, &plain), [send(&plain)]);
    let of_another = of_server("0").replace("\"t\"", "7");
    assert_eq!(server(&mut forward, &of_another), [to_host(&of_another)]);
}

#[test]
fn a_token_is_the_same_in_whatever_way_the_server_writes_it() {
    let mut forward = wanting();
    does(&mut forward, SILENT);
    let lower = of_server("0").replace(r#""t""#, r#""\u0074""#);
    assert_eq!(server(&mut forward, &lower), NOTHING, "not more than the host has heard of");
}
