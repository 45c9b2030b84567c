//! Nothing is altered on the way: every message of `fixtures/messages` crosses the real binary in
//! both directions, on Streamable HTTP with JSON bodies, on Streamable HTTP with event streams and on
//! HTTP+SSE, and arrives as the bytes that left (but for line breaks between tokens, which become
//! spaces).

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::support::{
    host::{Handles, Host},
    server::{Events, Reply, Request, Server, answer, initialize_result},
    soon,
};

const PLACEHOLDER: &str = "\"@ID@\"";
/// Follows what is looked at, so that a message that does not arrive is noticed without waiting.
const SENTINEL: &str = r#"{"jsonrpc":"2.0","method":"notifications/sentinel"}"#;
/// Ids that are easy to get wrong. Each is used while no other is open.
const IDS: [&str; 22] = [
    "1",
    "0",
    "-0",
    "1.0",
    "1e2",
    "1E-7",
    "-2.50",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e400",
    r#""a""#,
    r#""""#,
    r#""1""#,
    r#""null""#,
    r#""\u0061b""#,
    r#""\"id\":5,\\\/""#,
    r#""\ud83d\ude00 🦀""#,
    r#""nul\u0000""#,
    r#""@id@ ""#,
    r#""\ud800""#,
    r#""\uD83D\udc19\b\f\n\r\t""#,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Streamable HTTP, answers as JSON bodies.
    Json,
    /// Streamable HTTP, answers as event streams, and a GET stream.
    Events,
    /// The transport of 2024-11-05.
    HttpSse,
}

const FORMS: [Form; 3] = [Form::Json, Form::Events, Form::HttpSse];

// The corpus

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/messages")
}

/// The lines of a file, with their names for a report.
fn corpus(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let lines = text.strip_suffix('\n').unwrap().split('\n').enumerate();
    lines.map(|(at, line)| (format!("{file}:{}", at + 1), line.to_owned())).collect()
}

/// The multi-line bodies: name, body, the same with spaces for line breaks.
fn pretty() -> Vec<(String, String, String)> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder().join("pretty")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|kind| kind == "json"));
    names.sort();
    assert!(!names.is_empty());
    let read = |name: &PathBuf| {
        let (body, expected) =
            (fs::read_to_string(name).unwrap(), fs::read_to_string(name.with_extension("expected")).unwrap());
        (format!("pretty/{}", name.file_name().unwrap().to_string_lossy()), body, expected)
    };
    names.iter().map(read).collect()
}

/// What arrives of a body whose line breaks are spaces already: those at the end are left out.
fn trimmed<'a>(body: &str, expected: &'a str) -> &'a str {
    &expected[..body.trim_end_matches(['\r', '\n']).len()]
}

/// A top-level member as it stands in the text. Keys are compared decoded, as bytes, because a key
/// may be a lone surrogate.
fn member<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    struct Key(Vec<u8>);
    impl<'de> serde::Deserialize<'de> for Key {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Bytes;
            impl Visitor<'_> for Bytes {
                type Value = Vec<u8>;
                fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    formatter.write_str("a key")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                    Ok(bytes.to_vec())
                }
                fn visit_str<E>(self, text: &str) -> Result<Vec<u8>, E> {
                    Ok(text.as_bytes().to_vec())
                }
            }
            deserializer.deserialize_bytes(Bytes).map(Self)
        }
    }
    struct Find<'a>(&'a str);
    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Option<&'de RawValue>;
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some((Key(key), value)) = members.next_entry::<Key, &'de RawValue>()? {
                if key == self.0.as_bytes() {
                    found = Some(value);
                }
            }
            Ok(found)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(line);
    deserializer.deserialize_map(Find(wanted)).unwrap().map(RawValue::get)
}

fn is_request(line: &str) -> bool {
    member(line, "method").is_some() && member(line, "id").is_some()
}

fn plain_answer(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

/// The line with a line break wherever one may stand behind a token, and what is to arrive of it.
fn spread(line: &str) -> (String, String) {
    let (mut broken, mut expected) = (String::new(), String::new());
    let (mut in_text, mut escaped) = (false, false);
    for character in line.chars() {
        broken.push(character);
        expected.push(character);
        match character {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            ',' | ':' | '{' | '[' if !in_text => {
                broken.push('\n');
                expected.push(' ');
            }
            _ => {}
        }
    }
    (broken, expected)
}

// Event streams

/// How a server may write the same event.
#[derive(Clone, Copy, Debug)]
enum Style {
    Plain,
    Crlf,
    /// Lines end in a carriage return; no space after the colon.
    Cr,
    /// Everything a stream may hold beside the data.
    Wordy,
}

const STYLES: [Style; 4] = [Style::Plain, Style::Crlf, Style::Cr, Style::Wordy];

/// An event with this text as its data: a `data` line for each line.
fn event(style: Style, text: &str) -> String {
    let (end, colon) = match style {
        Style::Plain | Style::Wordy => ("\n", ": "),
        Style::Crlf => ("\r\n", ": "),
        Style::Cr => ("\r", ":"),
    };
    let mut event = String::with_capacity(text.len() + 100);
    if let Style::Wordy = style {
        event.push_str(": a comment\nevent: message\ndata-x: y\nunknown\n");
    }
    for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
        // One space after the colon is not the data's.
        let colon = if line.starts_with(' ') { ": " } else { colon };
        _ = write!(event, "data{colon}{line}{end}");
    }
    if let Style::Wordy = style {
        event.push_str(":\nretry: 10\n\nevent: other\ndata: not a message\n\n: keep-alive\n");
    }
    event + end
}

/// What is to arrive of a text that went as the data of an event.
fn after_event(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").trim_end_matches('\n').replace('\n', " ")
}

/// Pieces of these lengths, again and again.
fn pieces(text: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut left = text;
    for length in lengths.iter().cycle() {
        if left.is_empty() {
            break;
        }
        let (piece, after) = left.split_at((*length).min(left.len()));
        pieces.push(piece.to_vec());
        left = after;
    }
    pieces
}

// The peers

/// A host and a server with the program between them, initialised.
struct Wire {
    form: Form,
    host: Host,
    server: Server,
    /// What the server says to the next POSTs, in pieces.
    answers: Arc<Mutex<VecDeque<Vec<Vec<u8>>>>>,
    /// The GET stream.
    stream: watch::Receiver<Option<Events>>,
    /// What does not arrive as it was sent.
    altered: Vec<String>,
}

impl Wire {
    async fn start(form: Form, handles: Handles) -> Self {
        let answers = Arc::new(Mutex::new(VecDeque::<Vec<Vec<u8>>>::new()));
        let (opened, mut stream) = watch::channel(None);
        let scripted = answers.clone();
        let server = Server::with(move |request| reply(form, request, &scripted, &opened)).await;
        let flags: &[&str] = if form == Form::HttpSse { &["--transport", "sse-only"] } else { &[] };
        let mut host = Host::start_with(handles, &server.url("/mcp"), flags, &[]);
        host.initialize().await;
        let own = format!(r#"{{"jsonrpc":"2.0","id":"{form:?}","method":"x/first"}}"#);
        host.send(&own).await;
        assert_eq!(host.line().await, Some(plain_answer(&format!("\"{form:?}\""))));
        if form != Form::Json {
            soon("the stream is open", stream.wait_for(Option::is_some)).await.unwrap();
        }
        Self { form, host, server, answers, stream, altered: Vec::new() }
    }

    fn posts(&self) -> usize {
        self.server.requests().iter().filter(|request| request.method == "POST").count()
    }

    fn compare(&mut self, name: &str, arrived: &str, sent: &str) {
        if arrived != sent {
            let at = arrived.bytes().zip(sent.bytes()).take_while(|(arrived, sent)| arrived == sent).count();
            let shown =
                |text: &str| String::from_utf8_lossy(&text.as_bytes()[at..text.len().min(at + 80)]).into_owned();
            self.altered.push(format!(
                "{name}, from byte {at}:\n  is     {}\n  not    {}",
                shown(arrived),
                shown(sent)
            ));
        }
    }

    /// A request of the host under this id, answered by the server with these pieces.
    async fn asked(&mut self, id: &str, answer: Vec<Vec<u8>>) {
        self.answers.lock().unwrap().push_back(answer);
        self.host.send(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x/ask"}}"#)).await;
    }

    /// Lines up to the sentinel, against these.
    async fn expect(&mut self, names: &[(&str, &str)]) {
        let mut arrived = Vec::new();
        let last = names.last().map_or("nothing", |(name, _)| name).to_owned();
        loop {
            let line = soon(&format!("{last} or what follows it arrives"), self.host.line()).await;
            let line = line.unwrap_or_else(|| panic!("the output has ended; stderr:\n{}", self.host.stderr()));
            if line == SENTINEL {
                break;
            }
            arrived.push(line);
        }
        if arrived.len() == names.len() {
            for (line, (name, sent)) in arrived.iter().zip(names) {
                self.compare(name, line, sent);
            }
        } else {
            let lost = names.iter().filter(|(_, sent)| !arrived.iter().any(|line| line == sent));
            let lost: Vec<&str> = lost.map(|(name, _)| *name).collect();
            self.altered.push(format!("{} of {} arrived; not {lost:?}", arrived.len(), names.len()));
        }
    }

    /// Sends on the GET stream.
    fn say(&self, text: impl AsRef<[u8]>) {
        self.stream.borrow().as_ref().expect("the stream is open").raw(text);
    }

    async fn finish(self) {
        assert!(
            self.altered.is_empty(),
            "{:?}: {} altered:\n{}",
            self.form,
            self.altered.len(),
            self.altered.join("\n")
        );
        self.host.close().await;
    }
}

fn reply(
    form: Form,
    request: &Request,
    scripted: &Mutex<VecDeque<Vec<Vec<u8>>>>,
    stream: &watch::Sender<Option<Events>>,
) -> Reply {
    match request.method.as_str() {
        "GET" if form == Form::Json => return Reply::empty(405),
        "GET" => {
            let (reply, events) = Reply::events();
            if form == Form::HttpSse {
                events.raw("event: endpoint\ndata: /messages\n\n");
            }
            stream.send_replace(Some(events));
            return reply;
        }
        "POST" => {}
        _ => return Reply::empty(200),
    }
    let own = if request.rpc() == "initialize" {
        Some(answer(request, initialize_result(request)))
    } else if request.body.trim_start().starts_with('{') && is_request(&request.body) {
        member(&request.body, "id").map(plain_answer)
    } else {
        None
    };
    let Some(own) = own else { return Reply::empty(202) };
    // By hand: some ids have no `serde_json::Value`.
    let asks = request.body.starts_with('{') && member(&request.body, "method") == Some("\"x/ask\"");
    let scripted = if asks { scripted.lock().unwrap().pop_front() } else { None };
    let pieces = scripted.unwrap_or_else(|| {
        vec![if form == Form::Json { own.into_bytes() } else { event(Style::Plain, &own).into_bytes() }]
    });
    match form {
        Form::Json => match <[_; 1]>::try_from(pieces) {
            Ok([body]) => Reply::Full(200, vec![("content-type".into(), "application/json".into())], body),
            Err(pieces) => {
                let (mut reply, events) = Reply::events();
                if let Reply::Pieces(headers, _) = &mut reply {
                    headers[0].1 = "application/json".into();
                }
                pieces.iter().for_each(|piece| events.raw(piece));
                reply
            }
        },
        Form::Events => {
            let (reply, events) = Reply::events();
            pieces.iter().for_each(|piece| events.raw(piece));
            reply
        }
        Form::HttpSse => {
            let stream = stream.borrow();
            pieces.iter().for_each(|piece| stream.as_ref().unwrap().raw(piece));
            Reply::status(202, "text/plain", "Accepted")
        }
    }
}

/// The server's lines that are nobody's answer, with their names.
fn unasked() -> Vec<(String, String)> {
    corpus("server-to-host.jsonl").into_iter().filter(|(_, line)| !line.contains(PLACEHOLDER)).collect()
}

/// The server's answers, each with an id.
fn answers(shift: usize) -> Vec<(String, String, &'static str)> {
    let lines = corpus("server-to-host.jsonl").into_iter().filter(|(_, line)| line.contains(PLACEHOLDER));
    let with_id = |(at, (name, line)): (usize, (String, String))| {
        let id = IDS[(at + shift) % IDS.len()];
        (format!("{name} under {id}"), line.replace(PLACEHOLDER, id), id)
    };
    lines.enumerate().map(with_id).collect()
}

// To the server

#[tokio::test]
async fn what_a_host_says_reaches_the_server_as_it_was_said() {
    for form in FORMS {
        for handles in [Handles::SocketPairs, Handles::Pipes] {
            let mut wire = Wire::start(form, handles).await;
            for (name, line) in corpus("host-to-server.jsonl") {
                let before = wire.posts();
                wire.host.send(&line).await;
                wire.server
                    .until(&format!("{name} reaches the server ({form:?})"), |server| {
                        server.requests().iter().filter(|request| request.method == "POST").count() > before
                    })
                    .await;
                let posts = wire.server.requests().into_iter().filter(|request| request.method == "POST");
                let arrived: Vec<String> = posts.skip(before).map(|request| request.body).collect();
                wire.compare(&name, &arrived[0], &line);
                assert_eq!(arrived.len(), 1, "{name} was sent twice");
                if is_request(&line) {
                    let answer = wire.host.line().await.unwrap();
                    wire.compare(
                        &format!("the answer to {name}"),
                        &answer,
                        &plain_answer(member(&line, "id").unwrap()),
                    );
                }
            }
            wire.finish().await;
        }
    }
}

#[tokio::test]
async fn what_a_host_says_all_at_once_reaches_the_server_too() {
    for form in FORMS {
        let mut wire = Wire::start(form, Handles::SocketPairs).await;
        let lines = corpus("host-to-server.jsonl");
        let before = wire.posts();
        wire.host.send_raw(&fs::read(folder().join("host-to-server.jsonl")).unwrap()).await;
        let count = lines.len();
        wire.server
            .until("everything reaches the server", |server| {
                server.requests().iter().filter(|request| request.method == "POST").count() >= before + count
            })
            .await;
        let posts = wire.server.requests().into_iter().filter(|request| request.method == "POST").skip(before);
        let mut arrived: Vec<String> = posts.map(|request| request.body).collect();
        for (name, line) in &lines {
            match arrived.iter().position(|body| body == line) {
                Some(at) => _ = arrived.swap_remove(at),
                None => wire.altered.push(name.clone()),
            }
        }
        wire.altered.extend(arrived.iter().map(|body| format!("nobody said {body}")));
        let requests: Vec<&(String, String)> = lines.iter().filter(|(_, line)| is_request(line)).collect();
        let mut answered = Vec::new();
        for _ in &requests {
            answered.push(wire.host.line().await.unwrap());
        }
        for (name, line) in requests {
            if !answered.contains(&plain_answer(member(line, "id").unwrap())) {
                wire.altered.push(format!("the answer to {name}"));
            }
        }
        wire.finish().await;
    }
}

#[tokio::test]
async fn lines_of_a_host_may_end_in_crlf_and_come_in_any_pieces() {
    for lengths in [[1, 1].as_slice(), &[7, 2, 64], &[1000]] {
        let mut wire = Wire::start(Form::Json, Handles::SocketPairs).await;
        let mut lines = corpus("host-to-server.jsonl");
        lines.retain(|(_, line)| line.len() < 2000);
        let before = wire.posts();
        let text: String = lines.iter().map(|(_, line)| format!("{line}\r\n\r\n")).collect();
        let mut answers = 0;
        for piece in pieces(text.as_bytes(), lengths) {
            wire.host.send_raw(&piece).await;
        }
        for (_, line) in &lines {
            answers += usize::from(is_request(line));
        }
        for _ in 0..answers {
            wire.host.line().await.unwrap();
        }
        let count = lines.len();
        wire.server
            .until("everything reaches the server", |server| {
                server.requests().iter().filter(|request| request.method == "POST").count() >= before + count
            })
            .await;
        let bodies: Vec<String> = wire.server.requests().into_iter().map(|request| request.body).collect();
        wire.altered.extend(lines.iter().filter(|(_, line)| !bodies.contains(line)).map(|(name, _)| name.clone()));
        wire.finish().await;
    }
}

// To the host

#[tokio::test]
async fn an_answer_in_a_json_body_reaches_the_host_as_it_was_given() {
    for (shift, handles) in [Handles::SocketPairs, Handles::Pipes].into_iter().enumerate() {
        let mut wire = Wire::start(Form::Json, handles).await;
        for (name, answer, id) in answers(shift) {
            wire.asked(id, vec![answer.clone().into_bytes()]).await;
            let line = wire.host.line().await.unwrap();
            wire.compare(&name, &line, &answer);
        }
        for (name, body, expected) in pretty() {
            for id in IDS {
                let (body, expected) = (body.replace(PLACEHOLDER, id), expected.replace(PLACEHOLDER, id));
                wire.asked(id, vec![body.clone().into_bytes()]).await;
                let line = wire.host.line().await.unwrap();
                wire.compare(&format!("{name} under {id}"), &line, trimmed(&body, &expected));
            }
        }
        wire.finish().await;
    }
}

#[tokio::test]
async fn an_answer_in_a_json_body_may_come_in_any_pieces() {
    let mut wire = Wire::start(Form::Json, Handles::SocketPairs).await;
    for (at, (name, answer, id)) in answers(2).into_iter().enumerate() {
        let lengths = if answer.len() < 1000 { [1, 1, 1] } else { [[4095, 1, 7], [16384, 3, 1]][at % 2] };
        wire.asked(id, pieces(answer.as_bytes(), &lengths)).await;
        let line = wire.host.line().await.unwrap();
        wire.compare(&name, &line, &answer);
    }
    for (name, body, expected) in pretty() {
        let (body, expected) = (body.replace(PLACEHOLDER, "-0"), expected.replace(PLACEHOLDER, "-0"));
        wire.asked("-0", pieces(body.as_bytes(), &[1, 2])).await;
        let line = wire.host.line().await.unwrap();
        wire.compare(&name, &line, trimmed(&body, &expected));
    }
    wire.finish().await;
}

#[tokio::test]
async fn a_batch_in_a_json_body_reaches_the_host_as_it_was_given() {
    let (answers_seen, stream) = (Arc::new(Mutex::new(VecDeque::new())), watch::channel(None).0);
    let scripted = answers_seen.clone();
    let server = Server::with(move |request| reply(Form::Json, request, &scripted, &stream)).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    host.initialize_in("2025-03-26").await;
    let unasked: Vec<String> = unasked().into_iter().map(|(_, line)| line).collect();
    for (name, answer, id) in answers(3) {
        let batch = format!("[ {} ,\t{answer}]", unasked[name.len() % unasked.len()]);
        answers_seen.lock().unwrap().push_back(vec![batch.clone().into_bytes()]);
        host.send(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x/ask"}}"#)).await;
        assert_eq!(host.line().await.unwrap(), batch, "{name}");
    }
    let lines: Vec<String> = corpus("host-to-server.jsonl")
        .into_iter()
        .map(|(_, line)| line)
        .filter(|line| !is_request(line) && line.len() < 10_000)
        .collect();
    let batch = format!("[{}]", lines.join(" ,\t"));
    host.send(&batch).await;
    server.until("the batch arrives as it is", |server| server.requests().last().unwrap().body == batch).await;
    host.close().await;
}

#[tokio::test]
async fn what_comes_in_events_reaches_the_host_as_it_was_said() {
    for form in [Form::Events, Form::HttpSse] {
        for (shift, handles) in [Handles::SocketPairs, Handles::Pipes].into_iter().enumerate() {
            let mut wire = Wire::start(form, handles).await;
            for (at, (name, answer, id)) in answers(shift).into_iter().enumerate() {
                let style = STYLES[(at + shift) % 4];
                let said = event(style, &answer) + &event(style, SENTINEL);
                wire.asked(id, vec![said.into_bytes()]).await;
                wire.expect(&[(&name, &answer)]).await;
            }
            for (name, body, _) in pretty() {
                for (at, id) in IDS.into_iter().enumerate() {
                    let body = body.replace(PLACEHOLDER, id);
                    let style = STYLES[at % 4];
                    wire.asked(id, vec![(event(style, &body) + &event(style, SENTINEL)).into_bytes()]).await;
                    wire.expect(&[(&format!("{name} under {id}, {style:?}"), &after_event(&body))]).await;
                }
            }
            wire.finish().await;
        }
    }
}

#[tokio::test]
async fn what_a_server_says_unasked_reaches_the_host_as_it_was_said() {
    for form in [Form::Events, Form::HttpSse] {
        for handles in [Handles::SocketPairs, Handles::Pipes] {
            let mut wire = Wire::start(form, handles).await;
            for style in STYLES {
                for (name, line) in unasked() {
                    wire.say(event(style, &line) + &event(style, SENTINEL));
                    wire.expect(&[(&name, &line)]).await;
                }
            }
            wire.finish().await;
        }
    }
}

#[tokio::test]
async fn what_a_server_says_before_its_answer_reaches_the_host_in_order() {
    for form in [Form::Events, Form::HttpSse] {
        let mut wire = Wire::start(form, Handles::SocketPairs).await;
        for style in STYLES {
            let mut all = unasked();
            all.push(("the answer".to_owned(), plain_answer("1e2")));
            let said: String = all.iter().map(|(_, line)| event(style, line)).collect();
            wire.asked("1e2", vec![(said + &event(style, SENTINEL)).into_bytes()]).await;
            let names: Vec<(&str, &str)> = all.iter().map(|(name, line)| (&**name, &**line)).collect();
            wire.expect(&names).await;
        }
        wire.finish().await;
    }
}

#[tokio::test]
async fn data_over_many_lines_is_one_message() {
    for form in [Form::Events, Form::HttpSse] {
        let mut wire = Wire::start(form, Handles::SocketPairs).await;
        for (at, (name, line)) in unasked().into_iter().enumerate() {
            let ((broken, expected), style) = (spread(&line), STYLES[at % 4]);
            wire.say(event(style, &broken) + &event(style, SENTINEL));
            wire.expect(&[(&format!("{name}, {style:?}"), &expected)]).await;
        }
        for (at, (name, line, id)) in answers(4).into_iter().enumerate() {
            let ((broken, expected), style) = (spread(&line), STYLES[at % 4]);
            wire.asked(id, vec![(event(style, &broken) + &event(style, SENTINEL)).into_bytes()]).await;
            wire.expect(&[(&format!("{name}, {style:?}"), &expected)]).await;
        }
        wire.finish().await;
    }
}

#[tokio::test]
async fn events_may_come_in_any_pieces() {
    let lengths: [&[usize]; 6] = [&[1], &[2, 1, 3], &[5, 1], &[63, 1, 64], &[1000, 1], &[16384, 1, 4096]];
    for form in [Form::Events, Form::HttpSse] {
        let mut wire = Wire::start(form, Handles::SocketPairs).await;
        for (round, lengths) in lengths.into_iter().enumerate() {
            let mut all = unasked();
            if lengths[0] < 63 {
                all.retain(|(_, line)| line.len() < 1000);
            }
            let style = STYLES[(round + usize::from(form == Form::Events)) % 4];
            let said: String = all.iter().map(|(_, line)| event(style, line)).collect();
            let id = IDS[round];
            let answers: Vec<_> = answers(0).into_iter().filter(|(_, _, answered)| *answered == id).take(1).collect();
            let said = said + &event(style, &answers[0].1) + &event(style, SENTINEL);
            all.push((answers[0].0.clone(), answers[0].1.clone()));
            wire.asked(id, pieces(said.as_bytes(), lengths)).await;
            let names: Vec<(&str, &str)> = all.iter().map(|(name, line)| (&**name, &**line)).collect();
            wire.expect(&names).await;
        }
        wire.finish().await;
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_a_missing_last_line_end_do_no_harm() {
    let mut wire = Wire::start(Form::Events, Handles::SocketPairs).await;
    for lengths in [[1, 1], [1000, 1]] {
        let said = format!("\u{feff}{}data: never ended", event(Style::Plain, &plain_answer("7")));
        let said = said.replace("data: never", &(event(Style::Plain, SENTINEL) + "data: never"));
        wire.asked("7", pieces(said.as_bytes(), &lengths)).await;
        wire.expect(&[("the answer after the mark", &plain_answer("7"))]).await;
    }
    wire.finish().await;
}

// Large

/// Elements of about this many bytes together, never the same twice: characters of every length,
/// escapes, numbers as nobody would write them again; many short ones first, then long texts.
fn large(bytes: usize, between: &str) -> String {
    let mut text = String::with_capacity(bytes + 10_000);
    let plain = "0123456789abcdef: {[,]} ".repeat(200);
    let mut at = 0_u64;
    while text.len() < bytes {
        if at > 0 {
            text.push_str(between);
        }
        let odd = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let plain = if at < 5000 { "" } else { &plain[(at % 97) as usize..] };
        _ = write!(text, r#"{{"k{at}":[{odd}.0e+1,-0.0,null],"t":"\u0061\/\\ {odd:x} é 🦀 \ud800 \"data: {plain}"}}"#);
        at += 1;
    }
    text
}

const LARGE: usize = 20 << 20;

#[tokio::test]
async fn a_message_of_20_megabytes_reaches_the_server() {
    for (form, handles) in
        [(Form::Json, Handles::SocketPairs), (Form::Events, Handles::Pipes), (Form::HttpSse, Handles::SocketPairs)]
    {
        let mut wire = Wire::start(form, handles).await;
        let line = format!(r#"{{"jsonrpc":"2.0","method":"x/large","params":[{}],"id":1.0}}"#, large(LARGE, " ,"));
        wire.host.send(&line).await;
        assert_eq!(wire.host.line().await, Some(plain_answer("1.0")));
        let arrived = wire.server.requests().pop().unwrap().body;
        wire.compare("the message", &arrived, &line);
        wire.finish().await;
    }
}

#[tokio::test]
async fn an_answer_of_20_megabytes_reaches_the_host() {
    let answer = |between: &str| format!(r#"{{"id":-0,"result":[{}],"jsonrpc":"2.0"}}"#, large(LARGE, between));
    let (compact, lined) = (answer(","), answer(",\n"));
    for (form, handles) in
        [(Form::Json, Handles::Pipes), (Form::Events, Handles::SocketPairs), (Form::HttpSse, Handles::Pipes)]
    {
        let mut wire = Wire::start(form, handles).await;
        for body in [&compact, &lined] {
            let text = if form == Form::Json { body.clone() } else { event(Style::Plain, body) };
            wire.asked("-0", pieces(text.as_bytes(), &[1 << 20, 16384, 1, 65536])).await;
            let line = wire.host.line().await.unwrap();
            wire.compare("the answer", &line, &after_event(body));
        }
        wire.finish().await;
    }
}
