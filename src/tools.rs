//! Ignored tools: hidden from what `tools/list` answers, refused in `tools/call` (npm's
//! `--ignore-tool`).
//!
//! # Invariants
//!
//! - No call of an ignored tool passes, however its name is written.
//! - A list changes in nothing but the tools that are taken out.

use std::fmt;

use bytes::BytesMut;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::message::{Body, Message};

/// A name in which `*` stands for anything; upper and lower case are alike, as in npm's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPattern(Vec<char>);

impl ToolPattern {
    /// Reads a pattern; every text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.chars().flat_map(char::to_lowercase).collect())
    }

    /// Whether the whole name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
        let (mut at, mut in_name) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while in_name < name.len() {
            match self.0.get(at) {
                Some('*') => {
                    star = Some((at, in_name));
                    at += 1;
                }
                Some(character) if *character == name[in_name] => {
                    at += 1;
                    in_name += 1;
                }
                _ => match star {
                    // The last star takes one character more.
                    Some((star_at, taken)) => {
                        star = Some((star_at, taken + 1));
                        at = star_at + 1;
                        in_name = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        self.0[at..].iter().all(|character| *character == '*')
    }
}

/// What is to be done with a `tools/call`.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// It goes on.
    Allowed,
    /// It is answered here; the name, as far as it can be told.
    Ignored(String),
}

/// Judges a `tools/call`. One whose name cannot be told (missing, not a string) is not let past a
/// filter, nor one of which any name is ignored, if there are several.
#[must_use]
pub fn judge(patterns: &[ToolPattern], call: &Message) -> Call {
    let text = call.body.to_bytes();
    let Ok(text) = std::str::from_utf8(&text) else { return Call::Ignored("?".to_owned()) };
    let names: Vec<Option<String>> =
        named(text, "params").flat_map(|params| named(params.get(), "name")).map(decoded).collect();
    let ignored = |name: &String| patterns.iter().any(|pattern| pattern.matches(name));
    match names.iter().flatten().find(|name| ignored(name)) {
        Some(name) => Call::Ignored(name.clone()),
        None if names.is_empty() || names.contains(&None) => Call::Ignored("?".to_owned()),
        None => Call::Allowed,
    }
}

/// An answer to `tools/list` without the ignored tools; every other byte as it came.
#[must_use]
pub fn hide(patterns: &[ToolPattern], answer: Message) -> Message {
    hide_where(answer, &|tool| {
        let mut names = named(tool, "name").filter_map(decoded);
        names.any(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
    })
}

/// An answer to `tools/list` without the tools that `hides`, which is shown the JSON text of each; every other byte
/// as it came.
#[must_use]
pub(crate) fn hide_where(answer: Message, hides: &dyn Fn(&str) -> bool) -> Message {
    let bytes = answer.body.to_bytes();
    let Ok(text) = std::str::from_utf8(&bytes) else { return answer };
    let mut spliced = BytesMut::with_capacity(text.len());
    let mut copied = 0;
    // Each list there is, should there be more than one.
    for list in named(text, "result").flat_map(|result| named(result.get(), "tools")) {
        let Ok(tools) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else { continue };
        let kept: Vec<_> = tools.iter().filter(|tool| !hides(tool.get())).map(|tool| tool.get()).collect();
        let (Some(first), Some(last)) = (tools.first(), tools.last()) else { continue };
        if kept.len() == tools.len() {
            continue;
        }
        // Where the slices stand in the text that they borrow.
        let at = |part: &RawValue| part.get().as_ptr() as usize - text.as_ptr() as usize;
        spliced.extend_from_slice(&bytes[copied..at(first)]);
        spliced.extend_from_slice(kept.join(",").as_bytes());
        copied = at(last) + last.get().len();
    }
    if copied == 0 {
        return answer;
    }
    spliced.extend_from_slice(&bytes[copied..]);
    Message::from_remote(Body::One(spliced.freeze())).unwrap_or(answer)
}

/// The values of an object's members of this name: usually one.
fn named<'a>(object: &'a str, name: &'static str) -> impl Iterator<Item = &'a RawValue> {
    let members = members(object).unwrap_or_default();
    members.into_iter().filter(move |(key, _)| key == name.as_bytes()).map(|(_, value)| value)
}

/// A string's text; a lone surrogate in it, which is no character, becomes the replacement character.
fn decoded(value: &RawValue) -> Option<String> {
    let JsonString(bytes) = serde_json::from_str(value.get()).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// An object's members in order, each with its decoded key; `None` for what is no object.
fn members(object: &str) -> Option<Vec<(Vec<u8>, &RawValue)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Vec<u8>, &'de RawValue)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((JsonString(key), value)) = map.next_entry()? {
                members.push((key, value));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Members).ok()
}

/// A JSON string as bytes, which also holds lone surrogates (legal by RFC 8259 §8.2, and no `str`).
struct JsonString(Vec<u8>);

impl<'de> Deserialize<'de> for JsonString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;
        impl Visitor<'_> for Characters {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_str<E>(self, text: &str) -> Result<Vec<u8>, E> {
                Ok(text.as_bytes().to_vec())
            }
        }
        deserializer.deserialize_bytes(Characters).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<ToolPattern> {
        texts.iter().map(|text| ToolPattern::new(text)).collect()
    }

    #[test]
    fn pattern_star_matches_anything_ignoring_case() {
        for (pattern, name, expected) in [
            ("delete*", "DeleteTask", true),
            ("delete*", "undelete", false),
            ("*", "", true),
            ("*_x", "a_x_x", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a.c", "abc", false),
            ("a[b", "A[B", true),
            ("", "a", false),
        ] {
            assert_eq!(ToolPattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn hidden_tool_is_cut_out_alone() {
        let list = |tools: &str| {
            format!(r#"{{ "id" : 1,"result":{{"x":1.0, "tools": [{tools}] ,"nextCursor":null}},"jsonrpc":"2.0"}}"#)
        };
        for (before, after) in [
            (r#" {"name":"a","z":1e2} , {"name":"drop"} ,{"name":"b"} "#, r#" {"name":"a","z":1e2},{"name":"b"} "#),
            (r#"{"name":"drop"}"#, ""),
            (r#"{"name":"DROP","inputSchema":{"name":"a"}},{"name":"a"}"#, r#"{"name":"a"}"#),
            (r#"{"name":"a"} , {"name":"b"}"#, r#"{"name":"a"} , {"name":"b"}"#),
            ("", ""),
        ] {
            let answer = Message::from_text(list(before)).unwrap();
            assert_eq!(hide(&patterns(&["drop"]), answer).body.to_bytes(), list(after));
        }
    }

    #[test]
    fn call_is_judged_by_decoded_unique_name() {
        let call = |params: &str| {
            Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#))
                .unwrap()
        };
        let judged = |params| judge(&patterns(&["drop"]), &call(params));
        assert_eq!(judged(r#"{"name":"keep"}"#), Call::Allowed);
        assert_eq!(judged(r#"{"name":"dr\u006fp"}"#), Call::Ignored("drop".into()));
        assert_eq!(judged(r#"{"name":"keep","name":"drop"}"#), Call::Ignored("drop".into()));
        assert_eq!(judged("{}"), Call::Ignored("?".into()));
    }
}
