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
fn long_call_reports_growing_progress() {
    let mut forward = wanting();
    let first = does(&mut forward, SILENT);
    let second = does(&mut forward, SILENT);
    assert_eq!(first[1..], ["remind 45 s Progress(1)"]);
    assert!(value(&first[0]) > 0.0 && value(&second[0]) > value(&first[0]));
    assert!(first[0].contains(r#""message":"mcp-remote: a.example is still at work""#), "{first:?}");
}

#[test]
fn progress_stops_after_answer_or_server_progress() {
    let mut forward = wanting();
    server(&mut forward, &result(1));
    assert_eq!(does(&mut forward, SILENT), NOTHING);
    let mut forward = wanting();
    assert_eq!(server(&mut forward, &of_server("0")), [to_host(&of_server("0"))]);
    assert_eq!(does(&mut forward, SILENT), NOTHING);
}

#[test]
fn later_server_progress_passes_if_greater() {
    let mut forward = wanting();
    does(&mut forward, SILENT);
    assert_eq!(server(&mut forward, &of_server("0")), NOTHING, "it would go back");
    assert_eq!(server(&mut forward, &of_server("0.01")), [to_host(&of_server("0.01"))]);
    assert_eq!(does(&mut forward, SILENT), NOTHING);
}

#[test]
fn progress_needs_flag_and_token() {
    let mut forward = connected();
    assert_eq!(host(&mut forward, CALL), [send(CALL)]);
    let mut forward = wanting();
    let plain = request(2, "tools/call");
    assert_eq!(host(&mut forward, &plain), [send(&plain)]);
    let of_another = of_server("0").replace("\"t\"", "7");
    assert_eq!(server(&mut forward, &of_another), [to_host(&of_another)]);
}

#[test]
fn progress_token_matches_in_any_spelling() {
    let mut forward = wanting();
    does(&mut forward, SILENT);
    let lower = of_server("0").replace(r#""t""#, r#""\u0074""#);
    assert_eq!(server(&mut forward, &lower), NOTHING, "not more than the host has heard of");
}
