//! One thing tried with a server: a tool called, a resource read; and how the result is printed.
//!
//! # Invariants
//!
//! - Nothing but the result is printed to `out`.

use std::io::{self, Write};

use rmcp::{
    RoleClient, ServiceError,
    model::{
        CallToolRequestParams, CallToolResult, ClientConfig, ContentBlock, ReadResourceRequestParams,
        ReadResourceResult, ResourceContents, Tool,
    },
    service::RunningService,
};
use serde_json::Value;

use crate::{cli::Output, commands::client::listed, commands::redactor::plain, text};

type Service = RunningService<RoleClient, ClientConfig>;

/// Calls a tool. Its schema decides what a value is, so it is looked up where there are values.
pub(super) async fn call(
    service: &Service,
    tool: &str,
    arguments: &[(String, String)],
) -> Result<CallToolResult, ServiceError> {
    let described = if arguments.is_empty() { None } else { described(service, tool).await };
    let described = described.as_ref();
    let arguments = arguments.iter().map(|(key, text)| (key.clone(), value(described, key, text))).collect();
    service.call_tool(CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)).await
}

/// What the server says of a tool, if it says anything.
async fn described(service: &Service, name: &str) -> Option<Tool> {
    let page = async |page| service.list_tools(Some(page)).await.map(|page| (page.tools, page.next_cursor));
    listed(page).await.ok()?.items.into_iter().find(|tool| tool.name == name)
}

/// JSON where it can be, unless the tool wants a text there.
fn value(tool: Option<&Tool>, key: &str, text: &str) -> Value {
    let wants_text = tool.is_some_and(|tool| {
        let kind = tool.input_schema.get("properties").and_then(|all| all.get(key)?.get("type"));
        kind.and_then(Value::as_str) == Some("string")
    });
    let parsed = if wants_text { None } else { serde_json::from_str(text).ok() };
    parsed.unwrap_or_else(|| Value::from(text))
}

/// Reads a resource.
pub(super) async fn read(service: &Service, uri: &str) -> Result<ReadResourceResult, ServiceError> {
    service.read_resource(ReadResourceRequestParams::new(uri)).await
}

/// Texts as texts, the rest as JSON.
pub(super) fn print_call(result: &CallToolResult, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    if output == Output::Json {
        return json(result, out);
    }
    for content in &result.content {
        match content {
            ContentBlock::Text(text) => print(&text.text, out)?,
            other => json(other, out)?,
        }
    }
    match &result.structured_content {
        // The same is there as text too, for those who do not read this member (MCP 2025-06-18, Structured
        // Content).
        Some(structured) if result.content.is_empty() => json(structured, out),
        _ => Ok(()),
    }
}

/// The same.
pub(super) fn print_read(result: &ReadResourceResult, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    if output == Output::Json {
        return json(result, out);
    }
    for contents in &result.contents {
        match contents {
            ResourceContents::TextResourceContents { text, .. } => print(text, out)?,
            other => json(other, out)?,
        }
    }
    Ok(())
}

fn print(text: &str, out: &mut dyn Write) -> io::Result<()> {
    for line in text.lines() {
        writeln!(out, "{}", plain(line))?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize, out: &mut dyn Write) -> anyhow::Result<()> {
    Ok(writeln!(out, "{}", text::json(value)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn value_is_json_unless_text_is_wanted() {
        let schema: Map<String, Value> =
            serde_json::from_value(json!({"properties": {"zip": {"type": "string"}, "n": {"type": "number"}}}))
                .unwrap();
        let tool = Tool::new("t", "", schema);
        for (key, text, expected) in [
            ("zip", "01234", json!("01234")),
            ("zip", "5", json!("5")),
            ("n", "5", json!(5)),
            ("unknown", r#"{"a":[1]}"#, json!({"a": [1]})),
            ("unknown", "true", json!(true)),
            ("unknown", "two words", json!("two words")),
            ("unknown", "", json!("")),
        ] {
            assert_eq!(value(Some(&tool), key, text), expected, "{key}={text}");
        }
        assert_eq!(value(None, "zip", "5"), json!(5));
    }
}
