//! What Streamable HTTP repeats of a modern message in headers (MCP 2026-07-28, Streamable HTTP, Request
//! Metadata): protocol version, method, name, and the parameters that a tool's schema marks with
//! `x-mcp-header`.
//!
//! # Invariants
//!
//! - A value reaches a header only in the encoding of the specification: nothing of it can end a header.
//! - A tool whose marks break the rules of the specification is hidden from the host, and the others are not.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::RequestMetadata;
use crate::{
    mcp::{
        header::{METHOD, NAME, PROTOCOL_VERSION},
        method,
    },
    message::Message,
};

/// What the header of a marked parameter begins with.
const PARAM_PREFIX: &str = "mcp-param-";
/// The mark in a tool's schema.
const MARK: &str = "x-mcp-header";
/// The integers that JavaScript keeps exact, which the specification allows (Schema Extension).
const LARGEST_INTEGER: f64 = 9_007_199_254_740_991.0;
/// The most parameters of a tool that are marked: each is a header, and servers refuse requests with many.
const MOST_MARKS: usize = 64;
/// How deep schemas are walked: servers choose them.
const DEEPEST: usize = 64;

/// The headers of a modern message. They replace whatever the user has set under their names.
pub(crate) fn headers(message: &Message, metadata: &RequestMetadata, marks: Option<&Marks>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let version = metadata.version().unwrap_or_else(|| crate::mcp::version::FIRST_MODERN.to_owned());
    if let Ok(version) = HeaderValue::from_str(&version) {
        headers.insert(PROTOCOL_VERSION, version);
    }
    let Some(method) = message.method() else { return headers };
    headers.insert(METHOD, encoded(method));
    let text = message.body.to_bytes();
    if let Some(member) = name_member(method)
        && let Ok(Request { params }) = serde_json::from_slice::<Request<'_>>(&text)
        && let Some(name) = params.get(member).and_then(|value| serde_json::from_str::<String>(value.get()).ok())
    {
        headers.insert(NAME, encoded(&name));
    }
    if let Some(marks) = marks.filter(|marks| !marks.0.is_empty())
        && let Ok(MirroredCall { params }) = serde_json::from_slice::<MirroredCall>(&text)
    {
        for mark in &marks.0 {
            let value = mark.path.iter().try_fold(&params.arguments, |value, key| value.get(key));
            if let Some(text) = value.and_then(as_text) {
                headers.insert(mark.header.clone(), encoded(&text));
            }
        }
    }
    headers
}

/// Whether a header belongs to the specification, so that no value of the user's is sent in it.
pub(crate) fn is_mirrored(name: &HeaderName) -> bool {
    *name == PROTOCOL_VERSION || *name == METHOD || *name == NAME || name.as_str().starts_with(PARAM_PREFIX)
}

/// The tool that a `tools/call` names.
pub(crate) fn called_tool(call: &Message) -> Option<String> {
    let text = call.body.to_bytes();
    let Request { params } = serde_json::from_slice(&text).ok()?;
    serde_json::from_str(params.get("name")?.get()).ok()
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    params: HashMap<std::borrow::Cow<'a, str>, &'a RawValue>,
}

#[derive(Deserialize)]
struct MirroredCall {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    arguments: Value,
}

/// The member of `params` that `Mcp-Name` repeats; tasks are an extension that says the same of `taskId`.
fn name_member(method: &str) -> Option<&'static str> {
    match method {
        method::TOOLS_CALL | method::PROMPTS_GET => Some("name"),
        method::RESOURCES_READ => Some("uri"),
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL | method::TASKS_RESULT => Some("taskId"),
        _ => None,
    }
}

/// A value for a header (Value Encoding): as it is where that is safe, else in Base64 with a mark.
fn encoded(text: &str) -> HeaderValue {
    let is_safe = !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && text.trim_matches([' ', '\t']).len() == text.len()
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    let plain = is_safe.then(|| HeaderValue::from_str(text).ok()).flatten();
    plain.unwrap_or_else(|| {
        let text = format!("=?base64?{}?=", STANDARD.encode(text));
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

/// A parameter's value as text; `None` where it has no header: `null`, and what is no primitive.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) if integer.unsigned_abs() as f64 <= LARGEST_INTEGER => Some(integer.to_string()),
            // `42.0` and `1e2` are integers too.
            (None, Some(float)) if float.fract() == 0.0 && float.abs() <= LARGEST_INTEGER => {
                Some(format!("{float:.0}"))
            }
            (None, Some(float)) if float.fract() != 0.0 => Some(number.to_string()),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The marked parameters of one tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(Vec<Mark>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    path: Vec<String>,
    header: HeaderName,
}

/// A tool of a `tools/list` answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its name.
    pub name: String,
    /// Its marked parameters, or why the tool must be hidden.
    pub marks: Result<Marks, String>,
}

/// Reads a tool; `None` for what has no name.
pub(crate) fn read_tool(tool: &str) -> Option<Tool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Definition<'a> {
        name: String,
        #[serde(borrow)]
        input_schema: Option<&'a RawValue>,
    }
    let Definition { name, input_schema } = serde_json::from_str(tool).ok()?;
    // Most schemas have no mark, and need not become values.
    let Some(schema) = input_schema.filter(|schema| schema.get().contains(MARK) || schema.get().contains("\\u")) else {
        return Some(Tool { name, marks: Ok(Marks::default()) });
    };
    let marks = match serde_json::from_str(schema.get()) {
        Ok(schema) => {
            let mut walk = Walk::default();
            walk.schema(&schema, true, 0).map(|()| Marks(walk.found))
        }
        Err(_) => Ok(Marks::default()), // deeper than serde_json goes: no server means that
    };
    Some(Tool { name, marks })
}

/// A walk through a schema.
#[derive(Default)]
struct Walk {
    path: Vec<String>,
    found: Vec<Mark>,
}

impl Walk {
    /// `reachable`: through `properties` only (Schema Extension).
    fn schema(&mut self, schema: &Value, reachable: bool, depth: usize) -> Result<(), String> {
        let Value::Object(schema) = schema else { return Ok(()) };
        if depth > DEEPEST {
            return Ok(());
        }
        if let Some(mark) = schema.get(MARK) {
            self.mark(mark, schema, reachable)?;
        }
        for (keyword, value) in schema {
            match (keyword.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    for (name, property) in properties {
                        self.path.push(name.clone());
                        self.schema(property, reachable, depth + 1)?;
                        self.path.pop();
                    }
                }
                ("$defs" | "definitions" | "patternProperties" | "dependentSchemas", Value::Object(named)) => {
                    named.values().try_for_each(|schema| self.schema(schema, false, depth + 1))?;
                }
                // Data, not schemas.
                ("const" | "default" | "enum" | "examples", _) => {}
                (_, Value::Object(_)) => self.schema(value, false, depth + 1)?,
                (_, Value::Array(schemas)) => {
                    schemas.iter().try_for_each(|schema| self.schema(schema, false, depth + 1))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn mark(&mut self, mark: &Value, schema: &Map<String, Value>, reachable: bool) -> Result<(), String> {
        let at = self.path.join(".");
        if !reachable || self.path.is_empty() {
            return Err(format!("{MARK} is allowed at properties of the schema only, and stands elsewhere"));
        }
        let Some(name) = mark.as_str().filter(|name| !name.is_empty()) else {
            return Err(format!("{MARK} of {at} is not a name"));
        };
        let header = HeaderName::from_bytes(format!("{PARAM_PREFIX}{name}").as_bytes());
        let Ok(header) = header else { return Err(format!("{MARK} of {at} is not a header name")) };
        if !matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
            return Err(format!("{MARK} of {at} is at a parameter that is no string, integer or boolean"));
        }
        if self.found.iter().any(|found| found.header == header) {
            return Err(format!("{MARK} {name} is used twice"));
        }
        if self.found.len() == MOST_MARKS {
            return Err(format!("{MARK} stands at more than {MOST_MARKS} parameters"));
        }
        self.found.push(Mark { path: self.path.clone(), header });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(schema: &str) -> Result<Marks, String> {
        read_tool(&format!(r#"{{"name":"t","inputSchema":{schema}}}"#)).unwrap().marks
    }

    fn sent(message: &str, marks: Option<&Marks>) -> Vec<(String, String)> {
        let message = Message::from_text(message.to_owned()).unwrap();
        let metadata = RequestMetadata::of(&message).unwrap_or_default();
        let headers = headers(&message, &metadata, marks);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn call(arguments: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{arguments},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#
        )
    }

    #[test]
    fn version_method_and_name_are_repeated() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let version = header("mcp-protocol-version", "2026-07-28");
        assert_eq!(
            sent(&call("{}"), None),
            [version.clone(), header("mcp-method", "tools/call"), header("mcp-name", "t")]
        );
        for (method, params, name) in [
            ("resources/read", r#"{"uri":"file:///a b"}"#, Some("file:///a b")),
            ("prompts/get", r#"{"name":"gr\u00fc\u00df"}"#, Some("=?base64?Z3LDvMOf?=")),
            ("tasks/get", r#"{"taskId":"7"}"#, Some("7")),
            ("tools/list", r#"{"name":"x"}"#, None),
            ("tools/call", r#"{"name":7}"#, None),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let mut expected = vec![version.clone(), header("mcp-method", method)];
            expected.extend(name.map(|name| header("mcp-name", name)));
            assert_eq!(sent(&text, None), expected);
        }
    }

    #[test]
    fn values_are_encoded_as_specified() {
        for (text, value) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("a\r\nX-Evil: 1", "=?base64?YQ0KWC1FdmlsOiAx?="),
            ("", "=?base64??="),
            ("a\tb", "a\tb"),
        ] {
            assert_eq!(encoded(text).to_str().unwrap(), value, "{text:?}");
        }
    }

    #[test]
    fn marked_parameters_are_repeated_and_null_is_not() {
        let marks = marks(
            r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},"deep":{"type":"object","properties":{"on":{"type":"boolean","x-mcp-header":"On"}}}}}"#,
        )
        .unwrap();
        let params = |arguments: &str| -> Vec<(String, String)> {
            sent(&call(arguments), Some(&marks)).into_iter().filter(|(name, _)| name.starts_with("mcp-param")).collect()
        };
        let mut all = params(r#"{"region":"eu","n":42.0,"deep":{"on":true},"other":"x"}"#);
        all.sort();
        let expected = [("mcp-param-n", "42"), ("mcp-param-on", "true"), ("mcp-param-region", "eu")];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(params(r#"{"region":null,"deep":{}}"#).is_empty());
        assert!(params(r#"{"region":["a"],"n":9007199254740993,"deep":7}"#).is_empty());
        assert_eq!(params(r#"{"n":-9007199254740991}"#)[0].1, "-9007199254740991");
    }

    #[test]
    fn number_of_marks_is_bounded() {
        let schema = |count: usize| {
            let property = |at: usize| format!(r#""p{at}":{{"type":"string","x-mcp-header":"P{at}"}}"#);
            let properties: Vec<_> = (0..count).map(property).collect();
            format!(r#"{{"properties":{{{}}}}}"#, properties.join(","))
        };
        assert!(marks(&schema(MOST_MARKS)).is_ok());
        assert!(marks(&schema(MOST_MARKS + 1)).is_err());
    }

    #[test]
    fn tool_with_invalid_marks_is_rejected() {
        let property = |property: &str| format!(r#"{{"type":"object","properties":{{"a":{property}}}}}"#);
        for schema in [
            property(r#"{"type":"string","x-mcp-header":""}"#),
            property(r#"{"type":"string","x-mcp-header":7}"#),
            property(r#"{"type":"string","x-mcp-header":"two words"}"#),
            property(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#),
            property(r#"{"type":"number","x-mcp-header":"A"}"#),
            property(r#"{"type":"object","x-mcp-header":"A"}"#),
            property(r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#),
            property(r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#),
            property(r#"{"type":"string","\u0078-mcp-header":"two words"}"#),
            r#"{"x-mcp-header":"A"}"#.to_owned(),
            r##"{"$defs":{"a":{"type":"string","x-mcp-header":"A"}},"properties":{"a":{"$ref":"#/$defs/a"}}}"##
                .to_owned(),
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#
                .to_owned(),
        ] {
            assert!(marks(&schema).is_err(), "{schema}");
        }
        for schema in [
            r#"{"properties":{"x-mcp-header":{"type":"string"}}}"#.to_owned(),
            property(r#"{"type":"object","default":{"x-mcp-header":7}}"#),
            property(r#"{"type":"string","x-mcp-header":"A!#$%&'*+-.^_`|~9"}"#),
        ] {
            assert!(marks(&schema).is_ok(), "{schema}");
        }
    }
}
