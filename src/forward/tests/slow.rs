//! Requests that take long.

use super::*;

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"a"}}"#;

/// What the ticks of so many seconds log.
fn ticks(forward: &mut Forward, is_servers_turn: bool, count: u32) -> Vec<String> {
    (0..count).filter_map(|_| forward.cx.host.tick(is_servers_turn, "a.example")).collect()
}

#[test]
fn slow_request_is_reported_once_after_five_seconds() {
    let mut forward = connected();
    assert!(ticks(&mut forward, true, 10).is_empty() && !forward.awaits_server(), "nothing is pending");
    host(&mut forward, LIST);
    assert!(forward.awaits_server());
    assert!(ticks(&mut forward, true, 5).is_empty(), "the first tick may come at once");
    assert_eq!(ticks(&mut forward, true, 10), ["tools/list has been waiting for a.example for 5 s"]);
    assert!(!forward.awaits_server(), "no tick is wanted any longer");
    host(&mut forward, CALL);
    server(&mut forward, &result(2));
    assert!(ticks(&mut forward, true, 10).is_empty(), "it was answered");
}

#[test]
fn slow_requests_share_one_line() {
    let mut forward = connected();
    host(&mut forward, CALL);
    for id in 3..6 {
        host(&mut forward, &CALL.replace(":2,", &format!(":{id},")));
    }
    let lines = ticks(&mut forward, true, 10);
    assert_eq!(lines, ["tools/call and 3 more requests have been waiting for a.example for 5 s"]);
}

#[test]
fn blocked_connection_delays_slow_report() {
    let mut forward = connected();
    host(&mut forward, CALL);
    assert!(ticks(&mut forward, false, 10).is_empty() && forward.awaits_server());
    assert_eq!(ticks(&mut forward, true, 6).len(), 1);
}

#[test]
fn notification_stream_is_never_slow() {
    let mut forward = connected();
    host(&mut forward, r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}"#);
    assert!(ticks(&mut forward, true, 10).is_empty() && !forward.awaits_server());
}
