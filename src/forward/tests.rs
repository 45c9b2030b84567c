//! The loop, first as a pure function, then over tiny pipes.

mod hold;
mod orders;
mod progress;
mod provisional;
mod slow;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
};

use super::{messages::MOST_OWED, *};
use crate::{
    cli::{self, Command, Program},
    description::{Description, Learned, List},
    known_hosts::{HostLimits, HostName},
    local::{Lines, Writer},
    remote::error::Refusal,
    report,
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIMIT: usize = 1000;

/// Remembers nothing.
#[derive(Debug)]
struct Nothing;

impl Descriptions for Nothing {
    fn load(&mut self) -> Option<Description> {
        None
    }

    fn host_limits(&mut self, _: &HostName) -> HostLimits {
        HostLimits::default()
    }

    fn save(&mut self, _: Learned) {}

    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        None
    }
}

fn forward() -> Forward {
    ignoring(&[])
}

fn ignoring(patterns: &[&str]) -> Forward {
    let ignored_tools = patterns.iter().map(|pattern| ToolPattern::new(pattern)).collect();
    Forward::new(Settings { ignored_tools, ..settings(Start::Answer) }, Box::new(Nothing))
}

/// What all of these tests have in common; the time stands still.
fn settings(start: Start) -> Settings {
    Settings {
        server: Url::parse("http://a.example/mcp").unwrap(),
        ignored_tools: Vec::new(),
        protocol: Protocol::Auto,
        limits: limits(start),
        host_environment: HostEnvironment::default(),
        clock: Clock::new(|| Duration::ZERO),
        masker: Masker::default(),
    }
}

fn limits(start: Start) -> Limits {
    Limits {
        start,
        hold: None,
        initialize_timeout: Duration::from_secs(45),
        retry_for: Duration::from_secs(15),
        max_message_size: LIMIT,
        keep_alive: false,
        ping_interval: None,
        progress_keepalive: false,
    }
}

/// A clock that is set by hand, in milliseconds.
fn clock() -> (Clock, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(0));
    let shown = time.clone();
    (Clock::new(move || Duration::from_millis(shown.load(Relaxed))), time)
}

/// One whose connection is open, for which it took `first`.
fn open(mut forward: Forward, first: &str) -> Forward {
    assert_eq!(host(&mut forward, first), [format!("open {first}")]);
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), Vec::<String>::new());
    forward
}

fn connected() -> Forward {
    connected_with(LIMIT)
}

/// The same, with messages of up to so many bytes.
fn connected_with(max_message_size: usize) -> Forward {
    let limits = Limits { max_message_size, ..limits(Start::Answer) };
    let forward = Forward::new(Settings { limits, ..settings(Start::Answer) }, Box::new(Nothing));
    let mut forward = open(forward, INITIALIZE);
    assert_eq!(server(&mut forward, &result(0)), [to_host(&result(0))]);
    forward
}

/// What an event leads to, as text.
fn does(forward: &mut Forward, event: Event) -> Vec<String> {
    _ = forward.handle(event);
    actions(forward)
}

fn actions(forward: &mut Forward) -> Vec<String> {
    let text = |body: &Body| String::from_utf8(body.to_bytes().to_vec()).unwrap();
    std::iter::from_fn(|| forward.action())
        // Each `initialize` asks for these; what they lead to is tested with a clock.
        .filter(|action| {
            !matches!(
                action,
                Action::Remind(_, Reminder::Hold | Reminder::HostWaits) | Action::SignInIsNeeded | Action::UserAsks
            )
        })
        .map(|action| match action {
            Action::ToHost(body) => format!("host {}", text(&body)),
            Action::Open(message) => format!("open {}", text(&message.body)),
            Action::Send(message) => format!("send {}", text(&message.body)),
            Action::Hurry => "hurry".to_owned(),
            Action::SignInIsNeeded | Action::UserAsks => String::new(),
            Action::Check => "check".to_owned(),
            Action::Remind(after, reminder) => format!("remind {} s {reminder:?}", after.as_secs()),
        })
        .collect()
}

fn from_host(text: &str) -> Event {
    Event::Host(Incoming::Line(Bytes::copy_from_slice(text.as_bytes())))
}

fn from_server(text: &str) -> Event {
    let body = Body::One(Bytes::copy_from_slice(text.as_bytes()));
    Event::Remote(remote::Event::Message(Message::from_remote(body).unwrap()))
}

fn host(forward: &mut Forward, text: &str) -> Vec<String> {
    does(forward, from_host(text))
}

fn server(forward: &mut Forward, text: &str) -> Vec<String> {
    does(forward, from_server(text))
}

fn lost(ids: &[&str]) -> Event {
    let ids = ids.iter().map(|id| Id::from_json(id.as_bytes())).collect();
    Event::Remote(remote::Event::Lost { ids, method: None, error: Arc::new(Error::NoAnswer("gone")) })
}

fn refused(answer: Option<&str>) -> Event {
    let answer = answer.map(|text| Message::from_text(text.to_owned()).unwrap());
    let status = StatusCode::BAD_REQUEST;
    Event::Opened(Err(Error::Refused(Box::new(Refusal {
        status,
        retry_after: None,
        text: String::new(),
        said: crate::secret::Secret::new(String::new()),
        had_headers: false,
        answer,
        cause: None,
        credential_since: None,
    }))))
}

fn request(id: impl std::fmt::Display, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}

fn result(id: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

fn cancelled(id: impl std::fmt::Display) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

fn to_host(text: &str) -> String {
    format!("host {text}")
}

fn send(text: &str) -> String {
    format!("send {text}")
}

/// The ids and codes of errors to the host, sorted by id.
fn errors(actions: &[String]) -> Vec<(String, i64)> {
    let mut errors: Vec<_> = actions
        .iter()
        .map(|action| {
            let line = action.strip_prefix("host ").unwrap_or_else(|| panic!("not to the host: {action}"));
            let answer: Value = serde_json::from_str(line).unwrap();
            (answer["id"].to_string(), answer["error"]["code"].as_i64().expect("an error"))
        })
        .collect();
    errors.sort();
    errors
}

fn own_errors(ids: &[&str]) -> Vec<(String, i64)> {
    ids.iter().map(|id| ((*id).to_owned(), i64::from(report::OWN_ERROR))).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn connection_is_checked_after_system_sleep() {
    let mut opening = forward();
    host(&mut opening, INITIALIZE);
    assert_eq!(does(&mut opening, Event::Woke(Duration::from_secs(60))), ["check", "hurry"]);
    assert_eq!(does(&mut connected(), Event::Woke(Duration::from_secs(60))), ["check"]);
}

// Opening

#[test]
fn first_message_opens_connection_others_wait() {
    let mut forward = forward();
    assert_eq!(host(&mut forward, INITIALIZE), [format!("open {INITIALIZE}")]);
    assert_eq!(host(&mut forward, INITIALIZED), NOTHING);
    assert_eq!(host(&mut forward, &request(1, "ping")), NOTHING);
    assert_eq!(host(&mut forward, &result(9)), NOTHING);
    let waited = [send(INITIALIZED), send(&request(1, "ping")), send(&result(9))];
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), waited);
    assert_eq!(host(&mut forward, &request(2, "ping")), [send(&request(2, "ping"))]);
}

#[test]
fn what_needs_no_server_opens_no_connection() {
    let mut forward = forward();
    assert_eq!(host(&mut forward, &result(1)), NOTHING);
    assert_eq!(host(&mut forward, &cancelled(1)), NOTHING);
    assert_eq!(errors(&host(&mut forward, "{bad")), [("null".to_owned(), -32700)]);
    assert_eq!(errors(&host(&mut forward, r#"{"id":[1],"x":1}"#)), [("[1]".to_owned(), -32600)]);
    assert_eq!(errors(&host(&mut forward, "[]")), [("null".to_owned(), -32600)]);
    assert_eq!(does(&mut forward, Event::Host(Incoming::TooLong(None))), NOTHING);
    let too_long = does(&mut forward, Event::Host(Incoming::TooLong(Some(Id::from_json(b"5")))));
    assert_eq!(errors(&too_long), own_errors(&["5"]));
    assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Stop);
}

#[test]
fn failed_opening_answers_waiting_and_next_retries() {
    let mut forward = forward();
    host(&mut forward, INITIALIZE);
    host(&mut forward, INITIALIZED);
    host(&mut forward, &request(1, "ping"));
    host(&mut forward, &format!("[{},{}]", request(2, "ping"), request(3, "ping")));
    let failed = does(&mut forward, Event::Opened(Err(Error::NoAnswer("down"))));
    assert_eq!(errors(&failed), own_errors(&["0", "1", "2", "3"]));
    assert_eq!(host(&mut forward, INITIALIZE), [format!("open {INITIALIZE}")]);
    does(&mut forward, Event::Opened(Ok(())));
    assert_eq!(server(&mut forward, &result(0)), [to_host(&result(0))]);
    assert_eq!(server(&mut forward, &result(1)), NOTHING, "answered before");
}

#[test]
fn only_failed_handshake_proves_nothing_ran() {
    for (first, hint) in
        [(INITIALIZE.to_owned(), "check the server URL"), (request(0, "tools/call"), "check whether the server did")]
    {
        let mut forward = forward();
        host(&mut forward, &first);
        let out = does(&mut forward, Event::Opened(Err(Error::NoAnswer("gone"))));
        assert!(out[0].contains(r#""code":"no_answer""#) && out[0].contains(hint), "{first}: {out:?}");
    }
}

#[test]
fn refused_initialize_has_servers_own_words() {
    let own = r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#;
    let mut forward = forward();
    host(&mut forward, INITIALIZE);
    host(&mut forward, &request(1, "ping"));
    let answers = does(&mut forward, refused(Some(own)));
    assert_eq!(answers[0], to_host(&own.replace("null", "0")));
    assert_eq!(errors(&answers[1..]), own_errors(&["1"]));
}

#[test]
fn initialize_begins_anew_whatever_is_open() {
    let mut forward = connected();
    let (second, third) = (request(1, "initialize"), request(2, "initialize"));
    assert_eq!(host(&mut forward, &second), [format!("open {second}")]);
    // One that comes while another is under way waits, and what comes after it waits for it.
    assert_eq!(host(&mut forward, &third), NOTHING);
    assert_eq!(host(&mut forward, &request(3, "ping")), NOTHING);
    server(&mut forward, &result(1));
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [format!("open {third}")]);
    server(&mut forward, &result(2));
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&request(3, "ping"))]);
}

#[test]
fn requests_on_replaced_connection_are_answered() {
    let mut forward = connected();
    host(&mut forward, &request(1, "tools/call"));
    let second = request(2, "initialize");
    let mut did = host(&mut forward, &second);
    did.extend(does(&mut forward, Event::Opened(Ok(()))));
    did.retain(|action| *action != format!("open {second}"));
    assert_eq!(errors(&did), own_errors(&["1"]));
}

// Answers

#[test]
fn every_request_is_answered_once() {
    let mut forward = connected();
    host(&mut forward, &request(1, "ping"));
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
    assert_eq!(server(&mut forward, &result(1)), NOTHING);
    assert_eq!(does(&mut forward, lost(&["1"])), NOTHING);

    host(&mut forward, &request(2, "ping"));
    assert_eq!(errors(&does(&mut forward, lost(&["2"]))), own_errors(&["2"]));
    assert_eq!(server(&mut forward, &result(2)), NOTHING);
    forward.close();
    assert_eq!(actions(&mut forward), NOTHING);
}

#[test]
fn ids_are_told_apart_by_their_text() {
    let mut forward = connected();
    for id in ["1", r#""1""#, "1.0"] {
        host(&mut forward, &request(id, "ping"));
    }
    for id in ["1.0", r#""1""#, "1"] {
        assert_eq!(server(&mut forward, &result(id)), [to_host(&result(id))]);
    }
}

#[test]
fn id_used_twice_is_owed_twice() {
    let mut forward = connected();
    host(&mut forward, &request(1, "ping"));
    host(&mut forward, &request(1, "tools/call"));
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
    assert_eq!(errors(&does(&mut forward, lost(&["1"]))), own_errors(&["1"]));
    assert_eq!(server(&mut forward, &result(1)), NOTHING);
}

#[test]
fn unasked_response_is_dropped_but_requests_pass() {
    let mut forward = connected();
    host(&mut forward, &request(1, "ping"));
    for dropped in [result(2), result(r#""2""#), result("null"), r#"{"jsonrpc":"2.0","error":{}}"#.to_owned()] {
        assert_eq!(server(&mut forward, &dropped), NOTHING, "{dropped}");
    }
    for passed in [request(1, "roots/list"), r#"{"method":"notifications/x"}"#.to_owned()] {
        assert_eq!(server(&mut forward, &passed), [to_host(&passed)]);
    }
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))], "a request of the server pays nothing");
}

#[test]
fn answer_under_text_of_number_is_delivered() {
    let mut forward = connected();
    for (asked, answered) in [("7", r#""7""#), (r#""8""#, "8"), ("9", "9.0"), (r#""a""#, r#""\u0061""#)] {
        host(&mut forward, &request(asked, "ping"));
        assert_eq!(server(&mut forward, &result(answered)), [to_host(&result(asked))], "{asked}");
    }
    // The exact one comes first.
    host(&mut forward, &request(1, "ping"));
    host(&mut forward, &request(r#""1""#, "ping"));
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(r#""1""#))]);
}

#[test]
fn launcher_may_end_before_its_host() {
    let mut forward = connected();
    let gone = || Event::Stop(Stop::ParentGone);
    assert_eq!(does(&mut forward, gone()).len(), 1, "a reminder");
    host(&mut forward, &request(1, "ping"));
    assert_eq!(forward.handle(Event::Reminder(Reminder::Orphaned)), Verdict::Continue);
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
    let mut silent = connected();
    assert_eq!(silent.handle(gone()), Verdict::Continue);
    assert_eq!(silent.handle(Event::Reminder(Reminder::Orphaned)), Verdict::Stop);
}

// Cancellation

#[test]
fn request_cancelled_before_sending_is_not_sent() {
    let mut forward = forward();
    host(&mut forward, INITIALIZE);
    host(&mut forward, &request(1, "ping"));
    host(&mut forward, &request(2, "ping"));
    assert_eq!(host(&mut forward, &cancelled(1)), NOTHING);
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&request(2, "ping"))]);
    forward.close();
    assert_eq!(errors(&actions(&mut forward)), own_errors(&["0", "2"]));
}

#[test]
fn cancellation_of_sent_request_reaches_server() {
    let mut forward = connected();
    host(&mut forward, &request(1, "ping"));
    assert_eq!(host(&mut forward, &cancelled(1)), [send(&cancelled(1))]);
    // What is not open is the server's to judge.
    assert_eq!(host(&mut forward, &cancelled(7)), [send(&cancelled(7))]);

    let mut forward = self::forward();
    host(&mut forward, &request(1, "ping"));
    assert_eq!(host(&mut forward, &cancelled(1)), NOTHING);
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&cancelled(1))]);
}

#[test]
fn answer_to_cancelled_request_passes_once() {
    let mut forward = connected();
    for id in 1..=3 {
        host(&mut forward, &request(id, "ping"));
        host(&mut forward, &cancelled(id));
    }
    assert_eq!(server(&mut forward, &result(1)), [to_host(&result(1))]);
    assert_eq!(server(&mut forward, &result(1)), NOTHING);
    assert_eq!(does(&mut forward, lost(&["2"])), NOTHING);
    assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Stop);
    forward.close();
    assert_eq!(actions(&mut forward), NOTHING);
}

#[test]
fn initialize_cannot_be_cancelled() {
    let mut forward = forward();
    host(&mut forward, INITIALIZE);
    assert_eq!(host(&mut forward, &cancelled(0)), NOTHING);
    assert_eq!(errors(&does(&mut forward, Event::Opened(Err(Error::NoAnswer("down"))))), own_errors(&["0"]));
}

// Batches

#[test]
fn batch_passes_whole_and_is_owed_singly() {
    let mut forward = connected();
    let batch = format!("[{} , {},{}]", request(1, "ping"), result(8), request(2, "tools/list"));
    assert_eq!(host(&mut forward, &batch), [send(&batch)]);
    assert_eq!(server(&mut forward, &result(2)), [to_host(&result(2))]);
    assert_eq!(server(&mut forward, &result(8)), NOTHING);
    forward.close();
    assert_eq!(errors(&actions(&mut forward)), own_errors(&["1"]));
}

#[test]
fn batch_with_changed_part_is_split() {
    let mut forward = connected();
    for special in [INITIALIZED, &cancelled(9)] {
        let batch = format!("[{special},{}]", request(1, "ping"));
        assert_eq!(host(&mut forward, &batch), [send(special), send(&request(1, "ping"))]);
    }
    let did = host(&mut forward, &format!(r#"[{{"id":4}},7,{}]"#, request(5, "ping")));
    assert_eq!(did[2], send(&request(5, "ping")));
    assert_eq!(errors(&did[..2]), [("4".to_owned(), -32600), ("null".to_owned(), -32600)]);

    let mut forward = connected();
    let second = request(6, "initialize");
    assert_eq!(host(&mut forward, &format!("[{second},{}]", request(7, "ping"))), [format!("open {second}")]);
    assert_eq!(does(&mut forward, Event::Opened(Ok(()))), [send(&request(7, "ping"))]);
}

#[test]
fn wanted_server_batch_passes_whole() {
    let mut forward = connected();
    host(&mut forward, &request(1, "ping"));
    host(&mut forward, &request(2, "ping"));
    let batch = format!("[{}, {},{}]", result(1), result(2), request(1, "roots/list"));
    assert_eq!(server(&mut forward, &batch), [to_host(&batch)]);
    assert_eq!(server(&mut forward, &result(1)), NOTHING);
    assert_eq!(server(&mut forward, &result(2)), NOTHING);
}

#[test]
fn server_batch_with_extra_answers_is_split() {
    let mut forward = connected();
    host(&mut forward, &request(1, "ping"));
    let batch = format!("[{},{},{},3]", result(1), result(1), result(2));
    assert_eq!(server(&mut forward, &batch), [to_host(&result(1))]);
}

// Tools

#[test]
fn ignored_tool_is_refused_and_hidden() {
    let mut forward = open(ignoring(&["delete*"]), INITIALIZE);
    let call = |id: u8, tool: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
    };
    assert_eq!(errors(&host(&mut forward, &call(1, "deleteAll"))), [("1".to_owned(), -32603)]);
    assert_eq!(host(&mut forward, &call(2, "read")), [send(&call(2, "read"))]);
    let did = host(&mut forward, &format!("[{},{}]", call(3, "deleteAll"), call(4, "read")));
    assert_eq!((errors(&did[..1]), &did[1..]), (vec![("3".to_owned(), -32603)], &[send(&call(4, "read"))][..]));

    // Without an id nobody can be told.
    let silent = |tool: &str| format!(r#"{{"jsonrpc":"2.0","method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    assert_eq!(host(&mut forward, &silent("deleteAll")), NOTHING);
    assert_eq!(host(&mut forward, &silent("read")), [send(&silent("read"))]);
    let batch = format!("[{},{}]", silent("deleteAll"), silent("read"));
    assert_eq!(host(&mut forward, &batch), [send(&silent("read"))]);

    host(&mut forward, &request(5, "tools/list"));
    let listed = r#"{"jsonrpc":"2.0","id":5,"result":{"tools":[{"name":"deleteAll"},{"name":"read"}]}}"#;
    let shown = server(&mut forward, &format!("[{listed}]")).join("\n");
    assert!(shown.contains("read") && !shown.contains("deleteAll"), "{shown}");
}

// The end

#[test]
fn end_of_input_and_signal_wait_for_answers() {
    for end in [Event::Host(Incoming::End), Event::Stop(Stop::Signal("SIGTERM"))] {
        let mut forward = connected();
        host(&mut forward, &request(1, "ping"));
        host(&mut forward, &request(2, "ping"));
        assert_eq!(forward.handle(end), Verdict::Drain);
        assert_eq!(forward.handle(from_server(&result(1))), Verdict::Drain);
        assert_eq!(forward.handle(from_server(r#"{"method":"notifications/x"}"#)), Verdict::Drain);
        assert_eq!(forward.handle(lost(&["2"])), Verdict::Stop);
        assert_eq!(actions(&mut forward).len(), 3);
    }
    assert_eq!(connected().handle(Event::Host(Incoming::End)), Verdict::Stop);
}

#[test]
fn end_of_input_waits_for_opening_connection() {
    let mut forward = forward();
    assert_eq!(forward.handle(from_host(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#)), Verdict::Continue);
    assert_eq!(forward.handle(from_host(&request(1, "ping"))), Verdict::Continue);
    assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Drain);
    assert_eq!(forward.handle(Event::Opened(Ok(()))), Verdict::Drain);
    assert_eq!(actions(&mut forward)[1], send(&request(1, "ping")));
    assert_eq!(forward.handle(from_server(&result(1))), Verdict::Stop);

    let mut forward = self::forward();
    _ = forward.handle(from_host(&request(1, "ping")));
    assert_eq!(forward.handle(Event::Host(Incoming::End)), Verdict::Drain);
    assert_eq!(forward.handle(Event::Opened(Err(Error::NoAnswer("down")))), Verdict::Stop);
}

#[test]
fn closing_answers_everything_once() {
    let mut forward = connected();
    for id in [r#""a""#, "1", "1"] {
        host(&mut forward, &request(id, "ping"));
    }
    forward.close();
    assert_eq!(errors(&actions(&mut forward)), own_errors(&[r#""a""#, "1", "1"]));
    forward.close();
    assert_eq!(actions(&mut forward), NOTHING);
}

#[test]
fn request_beyond_limit_is_refused_until_answers() {
    let mut forward = connected_with(MOST_OWED * 100);
    for id in 0..MOST_OWED {
        assert_eq!(host(&mut forward, &request(id, "ping")), [send(&request(id, "ping"))]);
    }
    let refused = host(&mut forward, &request(r#""more""#, "ping"));
    assert_eq!(errors(&refused), own_errors(&[r#""more""#]));
    server(&mut forward, &result(7));
    assert_eq!(host(&mut forward, &request(7, "ping")), [send(&request(7, "ping"))]);
    host(&mut forward, &cancelled(8));
    assert_eq!(
        host(&mut forward, &request(8, "ping")),
        [send(&request(8, "ping"))],
        "what is cancelled counts no more"
    );
}

#[test]
fn requests_beyond_limit_in_bytes_are_refused_until_answers() {
    let mut forward = connected();
    let large = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":"{}"}}"#, "x".repeat(600));
    for id in 1..=3 {
        assert_eq!(host(&mut forward, &large(id)), [send(&large(id))], "two messages of the largest size fit");
    }
    assert_eq!(errors(&host(&mut forward, &large(4))), own_errors(&["4"]));
    server(&mut forward, &result(2));
    assert_eq!(host(&mut forward, &large(4)), [send(&large(4))]);
    host(&mut forward, &cancelled(3));
    assert_eq!(host(&mut forward, &large(5)), [send(&large(5))], "what is cancelled counts no more");
    let batch = format!("[{}]", large(6));
    assert_eq!(errors(&host(&mut forward, &batch)), own_errors(&["6"]));
    for id in [1, 4, 5] {
        server(&mut forward, &result(id));
    }
    assert_eq!(host(&mut forward, &large(7)), [send(&large(7))]);
    for _ in 0..5 {
        assert_eq!(host(&mut forward, &large(7)), [send(&large(7))], "an ID that is used again before its answer");
        server(&mut forward, &result(7));
    }
}

#[test]
fn messages_beyond_waiting_limit_are_refused() {
    let mut forward = forward();
    host(&mut forward, INITIALIZE);
    let refused = (1..LIMIT).map(|id| host(&mut forward, &request(id, "ping"))).find(|done| *done != NOTHING);
    assert_eq!(refused.map(|done| errors(&done).len()), Some(1), "LIMIT bytes may wait, and one more message");
}

// The loop over pipes that take eight bytes at a time

/// The host's side of a running loop.
struct Outside {
    input: Option<DuplexStream>,
    output: BufReader<DuplexStream>,
    stops: mpsc::Sender<Stop>,
    running: JoinHandle<()>,
}

impl Outside {
    fn start(port: u16) -> Self {
        let home = std::env::temp_dir().into_os_string();
        let url = format!("http://127.0.0.1:{port}/mcp");
        let arguments = vec![url.into(), "--config-dir".into(), home, "--start".into(), "wait".into()];
        let Ok(Command::Forward(config)) = cli::parse(Program::Adapter, arguments, &|_| None) else {
            panic!("the arguments are right")
        };
        let (opener, events) = crate::compose::remote_end(&config, crate::observer::Observer::default()).unwrap();
        let ((input, reader), (output, writer)) = (tokio::io::duplex(8), tokio::io::duplex(8));
        let (stops, watched) = mpsc::channel(1);
        let (lines, writer) = (Lines::new(reader, LIMIT), Writer::new(writer));
        let ends = Ends { lines, writer, opener, events, stops: watched, wakes: mpsc::channel(1).1 };
        let running = tokio::spawn(run(forward(), ends));
        Self { input: Some(input), output: BufReader::new(output), stops, running }
    }

    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        soon(self.input.as_mut().unwrap().write_all(line.as_bytes())).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.output.read_line(&mut line)).await.unwrap();
        line.pop();
        line
    }

    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        soon(self.output.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}

/// Far more than anything takes; only a failing test waits that long.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event).await.expect("it happens")
}

/// A server that answers every request after another with an echo of its body as `params`.
async fn echo() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let (mut length, mut line) = (0, String::new());
                    while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    if line.is_empty() || stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let body = String::from_utf8(body).unwrap();
                    let id = serde_json::from_str::<Value>(&body).unwrap_or_default()["id"].take();
                    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{body}}}"#);
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
                    let reply = format!("{head} {}\r\n\r\n{answer}", answer.len());
                    if stream.write_all(reply.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, serving)
}

async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn messages_cross_tiny_pipes_whole() {
    let (port, serving) = echo().await;
    let mut outside = Outside::start(port);
    for id in 1..=3 {
        let asked = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":"{}"}}"#, "é".repeat(200));
        outside.say(&asked).await;
        assert_eq!(outside.line().await, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{asked}}}"#));
    }
    outside.input = None;
    assert_eq!(outside.rest().await, "");
    soon(outside.running).await.unwrap();
    serving.abort();
}

#[tokio::test]
async fn bad_line_is_answered_and_loop_continues() {
    let mut outside = Outside::start(closed_port().await);
    for (line, expected) in [
        ("{bad".to_owned(), ("null".to_owned(), -32700)),
        (request(7, &"x".repeat(LIMIT)), ("7".to_owned(), -31000)),
        (r#"{"id":8}"#.to_owned(), ("8".to_owned(), -32600)),
    ] {
        outside.say(&line).await;
        assert_eq!(errors(&[to_host(&outside.line().await)]), [expected]);
    }
    outside.input = None;
    assert_eq!(outside.rest().await, "");
    soon(outside.running).await.unwrap();
}

#[tokio::test]
async fn end_of_input_answers_while_server_down() {
    let mut outside = Outside::start(closed_port().await);
    outside.say(INITIALIZE).await;
    outside.say(&request(1, "ping")).await;
    outside.input = None;
    let rest = outside.rest().await;
    assert_eq!(errors(&rest.lines().map(to_host).collect::<Vec<_>>()), own_errors(&["0", "1"]));
    soon(outside.running).await.unwrap();
}

#[tokio::test]
async fn stop_ends_loop_despite_open_input() {
    let mut outside = Outside::start(closed_port().await);
    outside.say(INITIALIZE).await;
    // An answer to a line after it shows that the first has been taken.
    outside.say("{bad").await;
    outside.line().await;
    outside.stops.send(Stop::Signal("SIGTERM")).await.unwrap();
    assert_eq!(errors(&[to_host(outside.rest().await.trim_end())]), own_errors(&["0"]));
    soon(outside.running).await.unwrap();
}

#[tokio::test]
async fn host_that_stops_reading_ends_loop() {
    let mut outside = Outside::start(closed_port().await);
    drop(outside.output);
    let mut input = outside.input.take().unwrap();
    _ = soon(input.write_all(b"{bad\n")).await;
    soon(outside.running).await.unwrap();
    drop(input);
}

#[tokio::test]
async fn blocked_host_does_not_delay_end() {
    let mut outside = Outside::start(closed_port().await);
    outside.say("{bad").await;
    outside.input = None;
    soon(&mut outside.running).await.unwrap();
    drop(outside.output);
}
