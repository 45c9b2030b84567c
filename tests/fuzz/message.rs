//! One message: accepted exactly where `serde_json` accepts it, classified as `serde_json` does.

#![no_main]

mod cuts;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::{Body, Id, Malformed, Message, Part, Shape, OversizedLine};
use serde_json::{Value, value::RawValue};

fuzz_target!(|input: &[u8]| {
    let Some((pieces, text)) = cuts::cut(input) else { return };
    let valid = serde_json::from_slice::<&RawValue>(text).is_ok();
    let host = Message::from_host(Bytes::copy_from_slice(text));
    assert_eq!(!matches!(host, Err(Malformed::NotJson { .. })), valid, "from_host");
    if let Err(Malformed::NotJson { at }) = host {
        assert!(at <= text.len());
        assert!(serde_json::from_slice::<&RawValue>(&text[..at]).is_err() || at < text.len());
    }
    let remote = Message::from_remote(Body::Many(pieces.clone()));
    assert_eq!(!matches!(remote, Err(Malformed::NotJson { .. })), valid, "from_remote");
    let whole = Message::from_remote(Body::One(Bytes::copy_from_slice(text)));
    match (&remote, &whole) {
        (Ok(cut), Ok(whole)) => {
            assert_eq!(cut.shape, whole.shape);
            assert_eq!(cut.body.to_bytes(), whole.body.to_bytes());
        }
        (Err(cut), Err(whole)) => assert_eq!(cut, whole),
        _ => panic!("the pieces decide: {remote:?} {whole:?}"),
    }
    let mut skim = OversizedLine::default();
    pieces.iter().for_each(|piece| skim.push(piece));
    let skimmed = skim.request();
    if let Ok(message) = &host {
        assert_eq!(message.body.to_bytes(), text);
        if let Shape::Request { id, .. } = &message.shape
            && text.len() <= 4096
        {
            assert_eq!(skimmed.as_ref(), Some(id));
        }
    } else if !valid {
        assert_eq!(skimmed, None);
    }
    if let Ok(message) = &remote {
        let end = text.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
        let expected: Vec<u8> =
            text[..end].iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect();
        assert_eq!(message.body.to_bytes(), expected);
    }
    // Lone surrogates, huge exponents and great depth have no value.
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    agrees(&host, &value, true);
    agrees(&remote, &value, false);
    if let Ok(message) = remote {
        if let Shape::Response { .. } | Shape::Request { .. } = message.shape {
            renamed(&message, value);
        } else if let Shape::Batch(_) = message.shape {
            let elements: Vec<&RawValue> = serde_json::from_slice(text).unwrap();
            for (part, element) in message.split().into_iter().zip(elements) {
                if let Ok(part) = part {
                    let text = element.get().replace(['\r', '\n'], " ");
                    assert_eq!(part.body.to_bytes(), text.as_bytes());
                }
            }
        }
    }
});

fn renamed(message: &Message, mut value: Value) {
    let renamed = message.with_id(&Id::from_json(b"\"new\""));
    let again = Message::from_remote(Body::One(renamed.body.to_bytes())).unwrap();
    assert_eq!(again.shape, renamed.shape);
    value["id"] = "new".into();
    assert_eq!(serde_json::from_slice::<Value>(&renamed.body.to_bytes()).unwrap(), value);
}

fn agrees(read: &Result<Message, Malformed>, value: &Value, host: bool) {
    match (read, value) {
        (Ok(Message { shape: Shape::Batch(parts), .. }), Value::Array(values)) => {
            assert_eq!(parts.len(), values.len());
            for (part, value) in parts.iter().zip(values) {
                match part {
                    Part::Message(shape, _) => assert_eq!(Ok(told(shape)), expected(value, host)),
                    Part::Invalid(id) => assert_eq!(Err(id.as_ref().map(decoded)), expected(value, host)),
                }
            }
        }
        (Ok(message), value) => assert_eq!(Ok(told(&message.shape)), expected(value, host)),
        (Err(Malformed::NotJsonRpc { id }), Value::Array(values)) => assert!(values.is_empty() && id.is_none()),
        (Err(Malformed::NotJsonRpc { id }), value) => {
            assert_eq!(Err(id.as_ref().map(decoded)), expected(value, host));
        }
        (Err(Malformed::NotJson { .. }), _) => unreachable!(),
    }
}

/// Kind, id, method.
type Told = (&'static str, Option<Value>, Option<String>);

fn told(shape: &Shape) -> Told {
    match shape {
        Shape::Request { id, method } => ("request", Some(decoded(id)), Some(method.to_string())),
        Shape::Notification { method } => ("notification", None, Some(method.to_string())),
        Shape::Response { id } => ("response", id.as_ref().map(decoded), None),
        Shape::Batch(_) => ("batch", None, None),
    }
}

fn decoded(id: &Id) -> Value {
    serde_json::from_str(id.as_json()).unwrap()
}

fn expected(value: &Value, host: bool) -> Result<Told, Option<Value>> {
    let Value::Object(members) = value else { return Err(None) };
    let id = members.get("id").cloned();
    if host && members.get("jsonrpc") != Some(&"2.0".into()) {
        return Err(id);
    }
    match (members.get("method"), id) {
        (Some(Value::String(method)), Some(id)) => Ok(("request", Some(id), Some(method.clone()))),
        (Some(Value::String(method)), None) => Ok(("notification", None, Some(method.clone()))),
        (Some(_), id) => Err(id),
        (None, id) if members.contains_key("result") || members.contains_key("error") => {
            if host && id.is_none() {
                Err(None)
            } else {
                Ok(("response", id, None))
            }
        }
        (None, id) => Err(id),
    }
}
