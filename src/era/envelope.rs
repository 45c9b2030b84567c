//! What every message of MCP 2026-07-28 carries beside its content: the metadata of a request (Overview, `_meta`) and the
//! type of a result (Overview, Result Type).
//!
//! # Invariants
//!
//! - What a host or a server has written stays, but for the members that are named here.

use serde_json::value::{RawValue, to_raw_value};

use super::PREFIX;
use crate::{
    mcp::method::CANCELLED,
    message::{Body, Id, Message, members::Members, peek},
    report,
};

/// The keys of a request's metadata.
pub(crate) const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// The keys of a result's and a notification's metadata.
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
pub(crate) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// The member that says what a result is.
pub(crate) const RESULT_TYPE: &str = "resultType";
pub(crate) const COMPLETE: &str = "complete";
pub(crate) const INPUT_REQUIRED: &str = "input_required";
/// Of the tasks extension.
pub(crate) const TASK: &str = "task";

/// Returns a message with its `params`, which may be absent, edited; `None` if they are no object.
pub(crate) fn with_params(message: &Message, edit: impl FnOnce(&mut Members<'_>)) -> Option<Message> {
    let text = message.body.to_bytes();
    let mut whole = Members::read(&text)?;
    let params = {
        let mut params = match whole.get("params") {
            Some(_) => whole.object("params")?,
            None => Members::default(),
        };
        edit(&mut params);
        to_raw_value(&params).ok()?
    };
    whole.set("params", params);
    Message::from_text(whole.to_json()).ok()
}

/// Edits the `_meta` of params or of a result; one that becomes empty is taken away.
pub(crate) fn edit_meta(object: &mut Members<'_>, edit: impl FnOnce(&mut Members<'_>)) {
    let meta = {
        let mut meta = object.object("_meta").unwrap_or_default();
        edit(&mut meta);
        if meta.is_empty() { None } else { to_raw_value(&meta).ok() }
    };
    match meta {
        Some(meta) => object.set("_meta", meta),
        None => _ = object.remove("_meta"),
    }
}

/// Takes away what only the modern era has in a `_meta`.
pub(crate) fn strip(meta: &mut Members<'_>) {
    meta.retain(|name| !name.starts_with(PREFIX));
}

/// Returns a response with its `result` edited; `None` if it is no object.
pub(crate) fn with_result(response: &Message, edit: impl FnOnce(&mut Members<'_>)) -> Option<Message> {
    let text = response.body.to_bytes();
    let mut whole = Members::read(&text)?;
    let result = {
        let mut result = whole.object("result")?;
        edit(&mut result);
        to_raw_value(&result).ok()?
    };
    whole.set("result", result);
    Message::from_remote(Body::One(whole.to_json().into())).ok()
}

/// Returns a response with this result.
pub(crate) fn response(id: &Id, result: &str) -> Option<Message> {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    Message::from_remote(Body::One(text.into())).ok()
}

/// Returns an error of this program as a response.
pub(crate) fn refusal(id: &Id, code: i32, why: &str) -> Option<Message> {
    let line = report::error_line(id, code, &format!("mcp-remote: {why}"), None::<&()>);
    Message::from_remote(Body::One(line)).ok()
}

/// Returns the notification that cancels a request (MCP 2025-11-25 and 2026-07-28, Cancellation).
pub(crate) fn cancelled(id: &Id) -> Option<Message> {
    Message::from_text(format!(r#"{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{{"requestId":{id}}}}}"#)).ok()
}

/// What a result says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResultType {
    Complete,
    InputRequired,
    Task,
    /// A client that does not know the type takes the result for invalid (Overview, Result Type).
    Unknown(String),
}

/// Reads the type of a response's result; a result without one is complete, and so is an error.
pub(crate) fn result_type(response: &Body) -> ResultType {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outcome {
        result_type: Option<Box<RawValue>>,
    }
    let named = peek::result::<Outcome>(response).and_then(|outcome| outcome.result_type);
    match named.map(|named| serde_json::from_str::<String>(named.get()).unwrap_or_else(|_| named.get().to_owned())) {
        None => ResultType::Complete,
        Some(named) => match named.as_str() {
            COMPLETE => ResultType::Complete,
            INPUT_REQUIRED => ResultType::InputRequired,
            TASK => ResultType::Task,
            _ => ResultType::Unknown(named),
        },
    }
}
