//! What the servers write: MCP results, and HTTP answers as JSON or as an event stream.

use std::io::Write;

use serde_json::json;

use crate::workload::{write_text_result_end, write_text_result_start};

pub(crate) fn initialize_result(id: &str, version: &str) -> String {
    let values = json!({
        "protocolVersion": version,
        "capabilities": { "tools": {}, "logging": {} },
        "serverInfo": { "name": "bench", "version": "1" },
    });
    result(id, &values.to_string())
}

/// MCP 2026-07-28, Discovery.
pub(crate) fn discovered(id: &str) -> String {
    let values = json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": { "tools": {}, "logging": {} },
        "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "bench", "version": "1" } },
        "ttlMs": 0,
        "cacheScope": "private",
    });
    result(id, &values.to_string())
}

/// MCP 2026-07-28, Versioning: what a server without `initialize` says to it.
pub(crate) fn refused_initialize(id: &str) -> String {
    let data = r#"{"supported":["2026-07-28"],"requested":"2025-06-18"}"#;
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32022,"message":"Unsupported protocol version","data":{data}}}}}"#
    )
}

pub(crate) fn tools() -> String {
    let tool = |name: &str, description: &str| json!({ "name": name, "description": description, "inputSchema": { "type": "object" } });
    json!({ "tools": [
        tool("echo", "The text, as JSON."),
        tool("echo_sse", "The text, as an event."),
        tool("sleep", "Answers after `ms` milliseconds."),
        tool("burst", "`n` log notifications, then the result."),
        tool("big", "A text of `bytes` bytes, as JSON or, with `sse`, as an event."),
        tool("swallow", "The length of `text`."),
        tool("bomb", "A compressed text that never ends."),
    ] })
    .to_string()
}

pub(crate) fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

pub(crate) fn unknown_method(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#)
}

pub(crate) fn text_result(id: &str, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    write_text_result_start(id, &mut out);
    out.extend_from_slice(text.as_bytes());
    write_text_result_end(&mut out);
    out
}

pub(crate) fn write_empty(out: &mut Vec<u8>, status: &str) {
    push(out, format_args!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
}

pub(crate) fn write_json(out: &mut Vec<u8>, fields: &str, body: &[u8]) {
    write_json_head(out, fields, body.len());
    out.extend_from_slice(body);
}

pub(crate) fn write_refusal(out: &mut Vec<u8>, body: &[u8]) {
    let length = body.len();
    push(
        out,
        format_args!("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"),
    );
    out.extend_from_slice(body);
}

pub(crate) fn write_json_head(out: &mut Vec<u8>, fields: &str, length: usize) {
    push(
        out,
        format_args!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n"),
    );
}

pub(crate) const EVENT_START: &[u8] = b"event: message\ndata: ";
pub(crate) const EVENT_END: &[u8] = b"\n\n";

pub(crate) fn write_events_head(out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
}

/// One event, one chunk: what a server that flushes each event puts on the wire.
pub(crate) fn write_event(out: &mut Vec<u8>, message: &[u8]) {
    write_chunk_size(out, EVENT_START.len() + message.len() + EVENT_END.len());
    out.extend_from_slice(EVENT_START);
    out.extend_from_slice(message);
    out.extend_from_slice(EVENT_END);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    push(out, format_args!("{size:x}\r\n"));
}

pub(crate) fn write_events_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}
