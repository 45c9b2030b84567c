//! Laws that hold for every input: what reads bytes from outside, against `serde_json` and against
//! the plainest code that does the same.

use std::time::Duration;

use bytes::Bytes;
use mcp_remote::internals::{
    Body, Call, EventStream, Id, Malformed, Message, OversizedLine, Part, Shape, ToolPattern, hide, judge,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, value::RawValue};

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// The bytes in pieces of these lengths, used again and again; a zero makes an empty piece.
fn cut(text: &[u8], lengths: &[usize]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut left = text;
    for length in lengths.iter().copied().chain([1]).cycle() {
        if left.is_empty() {
            break;
        }
        let (piece, after) = left.split_at(length.min(left.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        left = after;
    }
    pieces
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), vec(0_usize..12, 1..6), vec(0_usize..400, 1..3)]
}

// JSON texts

fn space() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// A string as it stands in a JSON text, all of whose characters have a value.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z /:,{}\\[\\]]{0,9}",
        1 => "[\u{7f}-\u{7ff}\u{2028}\u{feff}\u{1f980}\u{10ffff}]{1,3}",
        1 => select(vec![r"\n", r"\r", r#"\""#, r"\\", r"\/", r"\b", r"\f", r"\t", r"\u0000", r"\u00e9", r"\uD83D\ude00"])
            .prop_map(str::to_owned),
    ];
    vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,18})",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?",
        "[1-9][0-9]{20,30}"
    ]
}

fn key() -> impl Strategy<Value = String> {
    let known = vec![
        r#""jsonrpc""#,
        r#""id""#,
        r#""method""#,
        r#""params""#,
        r#""result""#,
        r#""error""#,
        r#""ID""#,
        r#""i\u0064""#,
        r#""m\u0065thod""#,
        r#""\u006asonrpc""#,
        r#""e\u0072ror""#,
        r#""result ""#,
        r#""jsonrpcjsonrpc""#,
        r#""""#,
    ];
    prop_oneof![3 => select(known).prop_map(str::to_owned), 1 => text()]
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (space(), key(), space(), space(), value, space())
        .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
    (space(), vec(member, 0..6)).prop_map(|(inside, members)| {
        if members.is_empty() { format!("{{{inside}}}") } else { format!("{{{}}}", members.join(",")) }
    })
}

fn array(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let element = (space(), value, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
    (space(), vec(element, 0..4)).prop_map(|(inside, elements)| {
        if elements.is_empty() { format!("[{inside}]") } else { format!("[{}]", elements.join(",")) }
    })
}

fn json() -> impl Strategy<Value = String> {
    let literal = select(vec!["true", "false", "null", r#""2.0""#, r#""2.\u0030""#, "2.0"]).prop_map(str::to_owned);
    let leaf = prop_oneof![literal, number(), text()];
    leaf.prop_recursive(4, 24, 5, |inner| prop_oneof![3 => object(inner.clone()), 1 => array(inner)])
}

/// What a message is made of, in any order, each part there or not, with more between.
fn envelope() -> impl Strategy<Value = String> {
    let members = vec![
        prop_oneof![4 => Just(r#""jsonrpc":"2.0""#.to_owned()), 1 => Just(r#""jsonrpc" : 2"#.to_owned())].boxed(),
        json().prop_map(|id| format!("\"id\": {id}")).boxed(),
        prop_oneof![3 => text(), 1 => json()].prop_map(|method| format!("\"method\":{method}")).boxed(),
        (select(vec!["result", "error"]), json()).prop_map(|(key, value)| format!("\"{key}\":{value} ")).boxed(),
        (key(), space(), json()).prop_map(|(key, space, value)| format!("{key}{space}:{value}")).boxed(),
    ];
    (prop::sample::subsequence(members, 1..=5), any::<bool>())
        .prop_flat_map(|(members, _)| members)
        .prop_shuffle()
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

/// A message, a batch of them or any other JSON, with white space around it.
fn message() -> impl Strategy<Value = String> {
    let body = prop_oneof![6 => envelope(), 2 => array(envelope()), 1 => json()];
    (space(), body, space()).prop_map(|(a, body, b)| format!("{a}{body}{b}"))
}

/// What is done to a text to make it wrong, or not.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Truncate(usize),
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![
        2 => select(b"{}[]\",:\\ \n\r\t0123456789-+.eEutfnl/\x00\x1f\x7f".to_vec()),
        1 => any::<u8>(),
        1 => select(vec![0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff]),
    ];
    let at = 0_usize..1 << 20;
    prop_oneof![
        (at.clone(), byte.clone()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        (at.clone(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at.clone().prop_map(Damage::Remove),
        at.clone().prop_map(Damage::Truncate),
        at.prop_map(Damage::Repeat),
    ]
}

fn damaged(text: &str, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for damage in damages {
        let length = bytes.len().max(1);
        match *damage {
            Damage::Insert(at, byte) => bytes.insert(at % (bytes.len() + 1), byte),
            _ if bytes.is_empty() => {}
            Damage::Flip(at, byte) => bytes[at % length] = byte,
            Damage::Remove(at) => _ = bytes.remove(at % length),
            Damage::Truncate(at) => bytes.truncate(at % length),
            Damage::Repeat(at) => bytes.extend_from_within(at % length..),
        }
    }
    bytes
}

// What is expected of an envelope, by way of `serde_json::Value`

/// Kind, id, method.
type Told = (&'static str, Option<Value>, Option<String>);

fn expected(value: &Value, from_host: bool) -> Result<Told, Option<Value>> {
    let Value::Object(members) = value else { return Err(None) };
    let id = members.get("id").cloned();
    if from_host && members.get("jsonrpc") != Some(&"2.0".into()) {
        return Err(id);
    }
    let has_outcome = members.contains_key("result") || members.contains_key("error");
    match (members.get("method"), id) {
        (Some(_), id) if has_outcome => Err(id), // neither a request nor a response
        (Some(Value::String(method)), Some(id)) => Ok(("request", Some(id), Some(method.clone()))),
        (Some(Value::String(method)), None) => Ok(("notification", None, Some(method.clone()))),
        (Some(_), id) => Err(id),
        (None, None) if from_host => Err(None), // who is answered by it?
        (None, id) if has_outcome => Ok(("response", id, None)),
        (None, id) => Err(id),
    }
}

fn decoded(id: &Id) -> Value {
    serde_json::from_str(id.as_json()).unwrap()
}

fn told(shape: &Shape) -> Told {
    match shape {
        Shape::Request { id, method } => ("request", Some(decoded(id)), Some(method.to_string())),
        Shape::Notification { method } => ("notification", None, Some(method.to_string())),
        Shape::Response { id } => ("response", id.as_ref().map(decoded), None),
        Shape::Batch(_) => ("batch", None, None),
    }
}

fn agrees(read: &Result<Message, Malformed>, value: &Value, from_host: bool) -> Result<(), TestCaseError> {
    match (read, value) {
        (Ok(Message { shape: Shape::Batch(parts), .. }), Value::Array(values)) => {
            prop_assert_eq!(parts.len(), values.len());
            for (part, value) in parts.iter().zip(values) {
                match part {
                    Part::Message(shape, _) => prop_assert_eq!(Ok(told(shape)), expected(value, from_host)),
                    Part::Invalid(id) => prop_assert_eq!(Err(id.as_ref().map(decoded)), expected(value, from_host)),
                }
            }
        }
        (Err(Malformed::NotJsonRpc { id }), Value::Array(values)) => prop_assert!(values.is_empty() && id.is_none()),
        (Ok(message), value) => prop_assert_eq!(Ok(told(&message.shape)), expected(value, from_host)),
        (Err(Malformed::NotJsonRpc { id }), value) => {
            prop_assert_eq!(Err(id.as_ref().map(decoded)), expected(value, from_host));
        }
        (Err(Malformed::NotJson { at }), value) => prop_assert!(false, "not JSON at {}, yet it is {}", at, value),
    }
    Ok(())
}

/// What becomes of line breaks: none at the end, spaces elsewhere.
fn without_line_breaks(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).replace(['\r', '\n'], " ")
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn json_validity_matches_serde_json_however_cut(
        text in message(), damages in vec(damage(), 0..4), lengths in cuts(),
    ) {
        let text = damaged(&text, &damages);
        let valid = serde_json::from_slice::<&RawValue>(&text).is_ok();
        let from_host = Message::from_host(Bytes::copy_from_slice(&text));
        let whole = Message::from_remote(Body::One(Bytes::copy_from_slice(&text)));
        let pieces = Message::from_remote(Body::Many(cut(&text, &lengths)));
        for read in [&from_host, &whole, &pieces] {
            let taken = !matches!(read, Err(Malformed::NotJson { .. }));
            prop_assert_eq!(taken, valid, "{:?}", String::from_utf8_lossy(&text));
        }
        match (whole, pieces) {
            (Ok(whole), Ok(pieces)) => {
                prop_assert_eq!(whole.shape, pieces.shape);
                prop_assert_eq!(whole.body.to_bytes(), pieces.body.to_bytes());
            }
            (whole, pieces) => prop_assert_eq!(whole.unwrap_err(), pieces.unwrap_err()),
        }
        if let Err(Malformed::NotJson { at }) = from_host {
            // No text goes on from there, and what stands before may be the beginning of one.
            prop_assert!(at <= text.len());
            let before = Message::from_host(Bytes::copy_from_slice(&text[..at]));
            if let Err(Malformed::NotJson { at: earlier }) = before {
                prop_assert_eq!(earlier, at);
            }
        }
    }

    #[test]
    fn message_matches_members_and_bytes_except_line_breaks(
        text in message(), lengths in cuts(),
    ) {
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
        let from_host = Message::from_host(Bytes::copy_from_slice(text.as_bytes()));
        let from_remote = Message::from_remote(Body::Many(cut(text.as_bytes(), &lengths)));
        agrees(&from_host, &value, true)?;
        agrees(&from_remote, &value, false)?;
        if let Ok(message) = from_host {
            prop_assert_eq!(message.body.to_bytes(), text.as_bytes());
        }
        if let Ok(message) = from_remote {
            prop_assert_eq!(message.body.to_bytes(), without_line_breaks(&text));
        }
    }

    #[test]
    fn batch_parts_keep_bytes_of_elements(
        text in array(prop_oneof![4 => envelope(), 1 => json()]), lengths in cuts(),
    ) {
        let Ok(batch) = Message::from_remote(Body::Many(cut(text.as_bytes(), &lengths))) else { return Ok(()) };
        let elements: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
        let parts = batch.split();
        prop_assert_eq!(parts.len(), elements.len());
        for (part, element) in parts.into_iter().zip(elements) {
            if let Ok(part) = part {
                prop_assert_eq!(part.body.to_bytes(), element.get().replace(['\r', '\n'], " "));
            }
        }
    }

    #[test]
    fn replaced_id_changes_nothing_else(
        text in message(), lengths in cuts(), id in prop_oneof![number(), text(), Just("null".to_owned())],
    ) {
        let Ok(message) = Message::from_remote(Body::Many(cut(text.as_bytes(), &lengths))) else { return Ok(()) };
        let (Shape::Request { .. } | Shape::Response { .. }) = &message.shape else { return Ok(()) };
        let renamed = message.with_id(&Id::from_json(id.as_bytes()));
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["id"] = serde_json::from_str(&id).unwrap();
        let body = renamed.body.to_bytes();
        prop_assert_eq!(&serde_json::from_slice::<Value>(&body).unwrap(), &value);
        let before = message.body.to_bytes();
        if let Shape::Request { id: old, .. } | Shape::Response { id: Some(old) } = &message.shape {
            let old = old.as_json();
            let exchanged = |at: usize| [&before[..at], id.as_bytes(), &before[at + old.len()..]].concat() == body;
            let mut places = (0..before.len()).filter(|at| before[*at..].starts_with(old.as_bytes()));
            prop_assert!(places.any(exchanged), "{:?} {:?}", before, body);
        }
        let again = Message::from_remote(Body::One(body.clone())).unwrap();
        prop_assert_eq!(&again.shape, &renamed.shape);
        // And back: nothing is left of it.
        if let Shape::Request { id: old, .. } | Shape::Response { id: Some(old) } = &message.shape {
            prop_assert_eq!(renamed.with_id(old).body.to_bytes(), before);
        }
    }

    #[test]
    fn oversized_line_yields_id_of_whole_line(text in message(), lengths in cuts()) {
        let mut skim = OversizedLine::default();
        cut(text.as_bytes(), &lengths).iter().for_each(|piece| skim.push(piece));
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
        let id = value.get("method").and_then(|_| value.get("id")).cloned();
        prop_assert_eq!(skim.request().as_ref().map(decoded), id);
    }
}

// Event streams

/// An event: name, data, id.
type Event = (String, String, Option<String>);

#[derive(Debug, Default, PartialEq)]
struct Stream {
    events: Vec<Event>,
    last_id: Option<String>,
    retry: Option<Duration>,
}

fn parsed(pieces: &[Bytes], limit: usize) -> Option<Stream> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut stream = EventStream::new(limit);
    let mut read = Stream::default();
    for piece in pieces {
        stream.push(piece.clone());
        while let Some(event) = stream.next().ok()? {
            read.events.push((text(&event.name), text(&event.data.to_bytes()), event.id.as_ref().map(text)));
        }
    }
    read.last_id = stream.last_id().map(text);
    read.retry = stream.retry();
    Some(read)
}

/// WHATWG HTML §9.2.6, over the whole text at once; an event without data is none (MCP 2025-11-25:
/// it only moves the cursor), and each event keeps the id it had itself.
fn by_the_standard(text: &str) -> Stream {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let (mut name, mut data, mut id) = (String::new(), String::new(), None);
    let mut read = Stream::default();
    // What follows the last line end is no line.
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = if text.contains('\n') { complete.split('\n').collect() } else { Vec::new() };
    for line in lines {
        let (field, value) = match line.split_once(':') {
            _ if line.is_empty() => {
                read.last_id = id.clone().or(read.last_id);
                let (name, data, id) = (std::mem::take(&mut name), std::mem::take(&mut data), id.take());
                match data.strip_suffix('\n') {
                    Some("") | None => {}
                    Some(data) => read.events.push((name, data.to_owned(), id)),
                }
                continue;
            }
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None => (line, ""),
        };
        match field {
            "event" => name = value.to_owned(),
            "data" => data = format!("{data}{value}\n"),
            "id" if !value.contains('\0') => id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                read.retry = value.parse().ok().map(Duration::from_millis).or(read.retry);
            }
            _ => {}
        }
    }
    read
}

fn event_stream() -> impl Strategy<Value = String> {
    let field = select(vec![
        "data",
        "data",
        "data",
        "id",
        "event",
        "retry",
        "",
        "dat",
        "datax",
        "Data",
        "events",
        "\u{feff}data",
        " data",
    ]);
    let separator = select(vec![":", ": ", ":  ", "", " :", "::"]);
    let value = prop_oneof![
        3 => "[a-z:{} \t\u{e9}\u{2028}\u{1f980}\0]{0,12}",
        1 => "[0-9]{0,8}",
        1 => Just("184467440737095516160".to_owned()),
        1 => Just("message".to_owned()),
    ];
    let end = select(vec!["\n", "\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r", ""]);
    let line = (field, separator, value, end)
        .prop_map(|(field, separator, value, end)| format!("{field}{separator}{value}{end}"));
    (select(vec!["", "", "\u{feff}", "\u{feff}\u{feff}", "\n", "\r\n"]), vec(line, 0..16))
        .prop_map(|(start, lines)| start.to_owned() + &lines.concat())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn event_stream_matches_standard_however_cut(
        text in event_stream(), lengths in cuts(),
    ) {
        let expected = by_the_standard(&text);
        let whole = parsed(&[Bytes::copy_from_slice(text.as_bytes())], 1 << 20);
        prop_assert_eq!(whole.as_ref(), Some(&expected));
        prop_assert_eq!(parsed(&cut(text.as_bytes(), &lengths), 1 << 20), Some(expected));
    }

    #[test]
    fn event_within_limit_passes_however_cut(
        lines in vec("[a-z]{8,12}", 1..5), after in select(vec!["", "id: 7\n", "event: message\n", "retry: 1000\n", ": alive and well\n"]), lengths in cuts(),
    ) {
        let limit = lines.join("\n").len();
        let text: String = lines.iter().map(|line| format!("data: {line}\n")).chain([after.to_owned(), "\n".to_owned()]).collect();
        let whole = parsed(&[Bytes::copy_from_slice(text.as_bytes())], limit);
        prop_assert_eq!(whole.as_ref(), Some(&by_the_standard(&text)));
        prop_assert_eq!(parsed(&cut(text.as_bytes(), &lengths), limit), whole);
    }

    #[test]
    fn event_well_beyond_limit_is_refused_however_cut(
        limit in 0_usize..40, more in 10_usize..40, lengths in cuts(),
    ) {
        let text = format!("data: {}\n\n", "x".repeat(limit + more));
        prop_assert_eq!(parsed(&[Bytes::copy_from_slice(text.as_bytes())], limit), None);
        prop_assert_eq!(parsed(&cut(text.as_bytes(), &lengths), limit), None);
    }
}

// Tools

fn tool_name() -> impl Strategy<Value = String> {
    prop_oneof!["[abAB*]{0,4}", "[a-cA-C_\u{e9}\u{c9}\u{df}\u{130}\u{3a3}\u{3c3}]{0,5}"]
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof!["[abAB*]{0,6}", "[a-cA-C_*\u{e9}\u{c9}\u{df}\u{130}\u{3a3}\u{3c3}]{0,6}"]
}

fn fits(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|taken| fits(rest, &name[taken..])),
        [first, rest @ ..] => name.first() == Some(first) && fits(rest, &name[1..]),
    }
}

fn fits_in_any_case(pattern: &str, name: &str) -> bool {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    fits(&lower(pattern), &lower(name))
}

/// A tool as a server may write it, and its name.
fn tool() -> impl Strategy<Value = (String, Option<String>)> {
    let named = |name: String| {
        let escaped = name.chars().map(|character| format!("\\u{:04x}", u32::from(character))).collect::<String>();
        select(vec![serde_json::to_string(&name).unwrap(), format!("\"{escaped}\"")])
            .prop_map(move |raw| (raw, name.clone()))
    };
    let key = select(vec![r#""name""#, r#""n\u0061me""#]);
    (tool_name().prop_flat_map(named), key, json(), space(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |((raw, name), key, other, space, in_front, nameless)| {
            let name_member = format!("{key}{space}:{raw}{space}");
            let other = format!("{space}\"inputSchema\":{other}");
            match (nameless, in_front) {
                (true, _) => (format!("{{{other}}}"), None),
                (false, true) => (format!("{{{name_member},{other}}}"), Some(name)),
                (false, false) => (format!("{{{other}, {name_member}}}"), Some(name)),
            }
        },
    )
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn tool_pattern_agrees_with_naive_matcher(pattern in pattern(), name in tool_name()) {
        prop_assert_eq!(ToolPattern::new(&pattern).matches(&name), fits_in_any_case(&pattern, &name));
    }

    #[test]
    fn hidden_tools_go_and_every_other_byte_stays(
        tools in vec((space(), tool(), space()), 0..6), patterns in vec(pattern(), 0..3),
        other in json(), around in space(), lengths in cuts(),
    ) {
        let list: Vec<String> = tools.iter().map(|(a, (tool, _), b)| format!("{a}{tool}{b}")).collect();
        let front = format!(r#"{{{around}"x":{other},"id":1,"result":{{"first": {other}{around},"tools"{around}:{around}["#);
        let back = format!(r#"]{around}, "nextCursor":{other} }},"jsonrpc":"2.0"}}"#);
        let text = format!("{front}{}{back}", list.join(","));
        let answer = Message::from_remote(Body::Many(cut(text.as_bytes(), &lengths))).unwrap();
        let ignored: Vec<ToolPattern> = patterns.iter().map(|pattern| ToolPattern::new(pattern)).collect();
        let shown = String::from_utf8(hide(&ignored, answer).body.to_bytes().to_vec()).unwrap();

        let kept: Vec<&String> = tools
            .iter()
            .map(|(_, tool, _)| tool)
            .filter(|(_, name)| !name.as_ref().is_some_and(|name| patterns.iter().any(|pattern| fits_in_any_case(pattern, name))))
            .map(|(tool, _)| tool)
            .collect();
        let (front, back) = (without_line_breaks(&front), back.replace(['\r', '\n'], " "));
        let inside = shown.strip_prefix(&front).and_then(|rest| rest.strip_suffix(&back));
        prop_assert!(inside.is_some(), "what is around the list has changed:\n{}\n{}", text, shown);
        let inside = format!("[{}]", inside.unwrap());
        let left: Vec<&RawValue> = serde_json::from_str(&inside).unwrap();
        let left: Vec<&str> = left.iter().map(|tool| tool.get()).collect();
        let expected: Vec<String> = kept.iter().map(|tool| tool.replace(['\r', '\n'], " ")).collect();
        prop_assert_eq!(left, expected);
        if kept.len() == tools.len() {
            prop_assert_eq!(shown, without_line_breaks(&text));
        }
    }
}

/// What no generator above makes: names told twice, keys that have no value, arrays for objects.
#[test]
fn ignored_tool_is_hidden_in_any_list() {
    let ignored = [ToolPattern::new("drop")];
    let mut shown = Vec::new();
    for result in [
        r#"{"tools":[{"name":"drop","name":"drop"},{"name":"keep"}]}"#,
        r#"{"tools":[{"name":"drop","\ud800":1},{"name":"keep"}]}"#,
        r#"{"\ud800":1,"tools":[{"name":"drop"},{"name":"keep"}]}"#,
        r#"{"tools":[{"name":"drop"}],"tools":[{"name":"drop"},{"name":"keep"}]}"#,
    ] {
        let answer = Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)).unwrap();
        let body = hide(&ignored, answer).body.to_bytes();
        if body.windows(4).any(|text| text == b"drop") {
            shown.push(result);
        }
    }
    assert!(shown.is_empty(), "still shown: {shown:#?}");
}

#[test]
fn other_results_stay_unchanged() {
    for result in [r#"[[{"name":"drop"},{"name":"keep"}]]"#, r#"{"tools":[["drop"],{"name":"keep"}]}"#] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let answer = Message::from_text(text.clone()).unwrap();
        assert_eq!(hide(&[ToolPattern::new("drop")], answer).body.to_bytes(), text);
    }
}

#[test]
fn call_is_judged_by_its_certain_name() {
    let ignored = [ToolPattern::new("drop")];
    for call in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"keep","\ud800":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"\ud800":2,"method":"tools/call","params":{"name":"keep"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"keep","arguments":{"\ud800":1}}}"#,
    ] {
        let message = Message::from_text(call.to_owned()).unwrap();
        assert_eq!(judge(&ignored, &message), Call::Allowed, "{call}");
        let dropped = Message::from_text(call.replace("keep", "drop")).unwrap();
        assert!(matches!(judge(&ignored, &dropped), Call::Ignored(_)), "{call}");
    }
}
