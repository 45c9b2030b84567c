//! Ignored tools: hidden from what `tools/list` answers, refused in `tools/call` (npm's
//! `--ignore-tool`).
//!
//! Must never: let a call of an ignored tool through, however its name is written; change anything
//! of a list but the tools taken out.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
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

/// Judges a `tools/call`. One whose name cannot be told for certain (missing, not a string, there
/// twice) is not let past a filter.
#[must_use]
pub fn judge(patterns: &[ToolPattern], call: &Message) -> Call {
    #[derive(Deserialize)]
    struct Request {
        params: Params,
    }
    #[derive(Deserialize)]
    struct Params {
        name: String,
    }
    match serde_json::from_slice::<Request>(&call.body.to_bytes()) {
        Ok(request) if patterns.iter().any(|pattern| pattern.matches(&request.params.name)) => {
            Call::Ignored(request.params.name)
        }
        Ok(_) => Call::Allowed,
        Err(_) => Call::Ignored("?".to_owned()),
    }
}

/// An answer to `tools/list` without the ignored tools; every other byte as it came.
#[must_use]
pub fn hide(patterns: &[ToolPattern], answer: Message) -> Message {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        result: List<'a>,
    }
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Tool {
        name: String,
    }
    let text = answer.body.to_bytes();
    let Ok(parsed) = serde_json::from_slice::<Answer<'_>>(&text) else { return answer };
    let tools = parsed.result.tools;
    let ignored = |tool: &&RawValue| {
        let named = serde_json::from_str::<Tool>(tool.get());
        named.is_ok_and(|tool| patterns.iter().any(|pattern| pattern.matches(&tool.name)))
    };
    let kept: Vec<_> = tools.iter().filter(|tool| !ignored(tool)).map(|tool| tool.get()).collect();
    let (Some(first), Some(last)) = (tools.first(), tools.last()) else { return answer };
    if kept.len() == tools.len() {
        return answer;
    }
    // Where the slices stand in the text that they borrow.
    let at = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let (start, end) = (at(first.get()), at(last.get()) + last.get().len());
    let mut spliced = BytesMut::with_capacity(text.len());
    spliced.extend_from_slice(&text[..start]);
    spliced.extend_from_slice(kept.join(",").as_bytes());
    spliced.extend_from_slice(&text[end..]);
    let spliced: Bytes = spliced.freeze();
    Message::from_remote(Body::One(spliced)).unwrap_or(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<ToolPattern> {
        texts.iter().map(|text| ToolPattern::new(text)).collect()
    }

    #[test]
    fn a_star_stands_for_anything_and_case_does_not_count() {
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
    fn a_hidden_tool_is_cut_out_and_nothing_else_changes() {
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
    fn a_call_is_judged_by_its_decoded_name_and_refused_if_there_are_two() {
        let call = |params: &str| {
            Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#))
                .unwrap()
        };
        let judged = |params| judge(&patterns(&["drop"]), &call(params));
        assert_eq!(judged(r#"{"name":"keep"}"#), Call::Allowed);
        assert_eq!(judged(r#"{"name":"dr\u006fp"}"#), Call::Ignored("drop".into()));
        assert_eq!(judged(r#"{"name":"keep","name":"drop"}"#), Call::Ignored("?".into()));
        assert_eq!(judged("{}"), Call::Ignored("?".into()));
    }
}
