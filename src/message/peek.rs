//! Typed readers of single members of a message. The message itself crosses as bytes; these read what this program must
//! know of it.
//!
//! # Invariants
//!
//! - A reader never fails: a member that is missing, or of another type, is `None`.
//! - A reader is not called on the path of a message that nothing has to be known of.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::{RawValue, Value};

use super::{Body, Id, Message};

/// The error of a response (JSON-RPC 2.0 §5.1).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ErrorObject {
    /// What kind of error.
    pub(crate) code: i64,
    /// For people. A message of another type does not make it another error.
    #[serde(default, deserialize_with = "text")]
    pub(crate) message: Option<String>,
    /// Whatever the sender adds.
    #[serde(default)]
    pub(crate) data: Option<Box<RawValue>>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_str().map(ToOwned::to_owned))
}

/// Returns the `params` of a request or notification.
pub(crate) fn params<T: DeserializeOwned>(message: &Message) -> Option<T> {
    #[derive(Deserialize)]
    struct Request<T> {
        params: T,
    }
    Some(serde_json::from_slice::<Request<T>>(&message.body.to_bytes()).ok()?.params)
}

/// Returns the `result` of a response.
pub(crate) fn result<T: DeserializeOwned>(response: &Body) -> Option<T> {
    #[derive(Deserialize)]
    struct Response<T> {
        result: T,
    }
    Some(serde_json::from_slice::<Response<T>>(&response.to_bytes()).ok()?.result)
}

/// Returns the `error` of a response.
pub(crate) fn error(response: &Body) -> Option<ErrorObject> {
    #[derive(Deserialize)]
    struct Response {
        error: ErrorObject,
    }
    Some(serde_json::from_slice::<Response>(&response.to_bytes()).ok()?.error)
}

/// Returns the id of the request that a `notifications/cancelled` cancels, as it is written (MCP 2025-11-25,
/// Cancellation).
pub(crate) fn cancelled_id(notification: &Message) -> Option<Id> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        request_id: Box<RawValue>,
    }
    let Params { request_id } = params(notification)?;
    Some(Id::from_json(request_id.get().as_bytes()))
}

/// Returns the progress token of a request, as it is written (MCP 2025-11-25, Progress).
pub(crate) fn progress_token(request: &Message) -> Option<Id> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        progress_token: Box<RawValue>,
    }
    let Params { meta } = params(request)?;
    Some(Id::from_json(meta.progress_token.get().as_bytes()))
}

/// Returns the token and the value of a `notifications/progress`.
pub(crate) fn progress(notification: &Message) -> Option<(Id, f64)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        progress_token: Box<RawValue>,
        progress: f64,
    }
    let Params { progress_token, progress } = params(notification)?;
    Some((Id::from_json(progress_token.get().as_bytes()), progress))
}

/// Returns the `name` of what a `tools/call` or `prompts/get` names.
pub(crate) fn name(request: &Message) -> Option<String> {
    #[derive(Deserialize)]
    struct Params {
        name: String,
    }
    params(request).map(|Params { name }| name)
}

/// Returns the `uri` of the resource that a request names.
pub(crate) fn uri(request: &Message) -> Option<String> {
    #[derive(Deserialize)]
    struct Params {
        uri: String,
    }
    params(request).map(|Params { uri }| uri)
}

/// Returns whether a request for a list asks for a later page of it (MCP 2025-11-25, Pagination).
pub(crate) fn has_cursor(request: &Message) -> bool {
    #[derive(Deserialize)]
    struct Params {
        #[serde(default)]
        cursor: Option<Box<RawValue>>,
    }
    params(request).is_some_and(|Params { cursor }| cursor.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::from_text(text.to_owned()).unwrap()
    }

    #[test]
    fn reader_returns_member_as_written() {
        let call = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\u00e9","uri":"u:1","_meta":{"progressToken":1e1}}}"#,
        );
        assert_eq!(name(&call).as_deref(), Some("aé"));
        assert_eq!(uri(&call).as_deref(), Some("u:1"));
        assert_eq!(progress_token(&call).unwrap().as_json(), "1e1");
        let cancelled =
            message(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0031"}}"#);
        assert_eq!(cancelled_id(&cancelled).unwrap().as_json(), r#""\u0031""#);
        let told = message(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"a","progress":0.5}}"#,
        );
        let (token, value) = progress(&told).unwrap();
        assert_eq!((token.as_json(), value), (r#""a""#, 0.5));
        let refused = message(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no","data":[1, 2]}}"#);
        let ErrorObject { code, message, data } = error(&refused.body).unwrap();
        assert_eq!((code, message.as_deref()), (-32601, Some("no")));
        assert_eq!(data.unwrap().get(), "[1, 2]");
    }

    #[test]
    fn missing_or_other_member_is_none() {
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":1,"uri":{},"_meta":7,"cursor":null}}"#,
        ] {
            let request = message(text);
            assert!(name(&request).is_none() && uri(&request).is_none(), "{text}");
            assert!(progress_token(&request).is_none() && cancelled_id(&request).is_none(), "{text}");
            assert!(progress(&request).is_none() && !has_cursor(&request), "{text}");
        }
        assert!(error(&message(r#"{"jsonrpc":"2.0","id":1,"result":{"code":1}}"#).body).is_none());
        assert!(result::<u8>(&message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).body).is_none());
    }
}
