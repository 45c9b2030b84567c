//! What a message asks of the server: at a glance when it is a call in the driver's own shape, by parsing when it was rewritten.

use std::time::Duration;

use serde_json::Value;

use crate::workload::{ARGUMENTS_INFIX, CALL_INFIX, ID_PREFIX, take_number};

/// Ids are kept as the JSON text they came as.
pub(crate) enum Asked {
    /// A notification, or no message at all.
    Nothing,
    Malformed,
    Initialize {
        id: String,
        version: String,
    },
    Discover {
        id: String,
    },
    Ping {
        id: String,
    },
    ListTools {
        id: String,
    },
    Call {
        id: String,
        call: ToolCall,
    },
    Unknown {
        id: String,
    },
}

pub(crate) enum ToolCall {
    Echo { text: String, sse: bool },
    Sleep { time: Duration },
    Burst { notifications: u32 },
    Big { bytes: usize, sse: bool },
    Swallow { received: usize },
    Bomb,
}

impl Asked {
    pub(crate) fn read(message: &[u8]) -> Self {
        if message.is_empty() {
            return Self::Nothing;
        }
        glance(message).unwrap_or_else(|| parse(message))
    }
}

/// The calls whose cost matters: small ones by number, `swallow` by size.
fn glance(message: &[u8]) -> Option<Asked> {
    let (id, rest) = message.strip_prefix(ID_PREFIX).and_then(take_number)?;
    let rest = rest.strip_prefix(CALL_INFIX)?;
    let name_length = rest.iter().position(|byte| *byte == b'"')?;
    let (name, rest) = rest.split_at(name_length);
    let text = rest.strip_prefix(ARGUMENTS_INFIX)?.strip_prefix(b"{\"text\":\"")?.strip_suffix(b"\"}}}")?;
    if text.contains(&b'"') || text.contains(&b'\\') {
        return None;
    }
    let call = match name {
        b"echo" => ToolCall::Echo { text: str::from_utf8(text).ok()?.to_owned(), sse: false },
        b"echo_sse" => ToolCall::Echo { text: str::from_utf8(text).ok()?.to_owned(), sse: true },
        b"swallow" => ToolCall::Swallow { received: text.len() },
        _ => return None,
    };
    Some(Asked::Call { id: id.to_string(), call })
}

fn parse(message: &[u8]) -> Asked {
    let Ok(message) = serde_json::from_slice::<Value>(message) else {
        return Asked::Malformed;
    };
    let (Some(method), Some(id)) = (message["method"].as_str(), message.get("id")) else {
        return Asked::Nothing;
    };
    let id = id.to_string();
    let params = &message["params"];
    match method {
        "initialize" => {
            Asked::Initialize { id, version: params["protocolVersion"].as_str().unwrap_or("2025-06-18").to_owned() }
        }
        "server/discover" => Asked::Discover { id },
        "ping" => Asked::Ping { id },
        "tools/list" => Asked::ListTools { id },
        "tools/call" => match tool_call(params) {
            Some(call) => Asked::Call { id, call },
            None => Asked::Malformed,
        },
        _ => Asked::Unknown { id },
    }
}

fn tool_call(params: &Value) -> Option<ToolCall> {
    let arguments = &params["arguments"];
    let text = || arguments["text"].as_str();
    Some(match params["name"].as_str()? {
        // The text goes into the answer as it stands, so it stays in JSON's spelling.
        name @ ("echo" | "echo_sse") => ToolCall::Echo { text: escaped(text()?), sse: name == "echo_sse" },
        "sleep" => ToolCall::Sleep { time: Duration::from_millis(arguments["ms"].as_u64()?) },
        "burst" => ToolCall::Burst { notifications: arguments["n"].as_u64()?.try_into().ok()? },
        "big" => ToolCall::Big {
            bytes: arguments["bytes"].as_u64()?.try_into().ok()?,
            sse: arguments["sse"].as_bool().unwrap_or(false),
        },
        "swallow" => ToolCall::Swallow { received: text()?.len() },
        "bomb" => ToolCall::Bomb,
        _ => return None,
    })
}

fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
