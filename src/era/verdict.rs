//! What an answer to `server/discover` or to `initialize` says about the era of a server (MCP 2026-07-28, Streamable HTTP,
//! Backward Compatibility; Versioning, Backward Compatibility).
//!
//! # Invariants
//!
//! - An answer that is about authorization, about load or about a failure is no evidence.

use reqwest::StatusCode;
use serde::Deserialize;

use super::is_modern;
use crate::{
    mcp::version::FIRST_MODERN,
    message::{
        Message,
        peek::{self, ErrorObject},
    },
};

/// `HeaderMismatch` (MCP 2026-07-28, Error Codes).
pub(crate) const HEADER_MISMATCH: i64 = -32020;
/// `MissingRequiredClientCapability`
const MISSING_CAPABILITY: i64 = -32021;
/// `UnsupportedProtocolVersion`
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// JSON-RPC 2.0 §5.1.
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EraVerdict {
    /// The server speaks a modern version.
    Modern,
    /// The server speaks legacy versions only.
    Legacy,
    /// Nothing.
    Undecided,
}

/// The verdict of a JSON-RPC answer to a modern request, with whatever status it came.
pub(crate) fn of_answer(answer: &Message) -> EraVerdict {
    if let Some(error) = peek::error(&answer.body) {
        return of_error(&error);
    }
    // Else `{}`, or a server that answers with legacy versions only (go-sdk, stateful).
    if supported_versions(answer).iter().any(|version| is_modern(version)) {
        EraVerdict::Modern
    } else {
        EraVerdict::Legacy
    }
}

fn of_error(error: &ErrorObject) -> EraVerdict {
    let supported = versions_of(error);
    match error.code {
        // A server that names legacy versions only is asked in their way.
        HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION
            if supported.is_empty() || supported.iter().any(|version| is_modern(version)) =>
        {
            EraVerdict::Modern
        }
        _ => EraVerdict::Legacy,
    }
}

/// The versions that an error names.
fn versions_of(error: &ErrorObject) -> Vec<String> {
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let read = error.data.as_ref().and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    plausible(read.map(|data| data.supported).unwrap_or_default())
}

/// A refusal in the words of the modern era.
#[derive(Debug)]
pub(crate) struct ModernRefusal {
    /// The versions that the server names.
    pub supported: Vec<String>,
    error: ErrorObject,
}

impl ModernRefusal {
    /// Whether it names a version that this program speaks, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.supported.iter().any(|version| version == FIRST_MODERN)
    }

    /// The same refusal with another message; its id is `null`.
    pub(crate) fn answer(&self, message: &str) -> Option<Message> {
        let message = serde_json::to_string(message).ok()?;
        let ErrorObject { code, data, .. } = &self.error;
        let data = data.as_ref().map_or_else(String::new, |data| format!(r#","data":{}"#, data.get()));
        let text = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":{message}{data}}}}}"#);
        Message::from_text(text).ok()
    }
}

/// Whether an answer to `initialize` is one after which `server/discover` is asked: a refusal in the words of the modern
/// era, a server without the method, or a version that does not begin with `initialize`.
pub(crate) fn asks_for_discover(answer: &Message) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Introduction {
        protocol_version: String,
    }
    match peek::error(&answer.body) {
        Some(error) => {
            // A server that demands the metadata of the modern era has no code of its own for that.
            let wants_metadata = |words: &str| words.contains("_meta") || words.contains(super::PREFIX);
            match error.code {
                METHOD_NOT_FOUND => true,
                INVALID_PARAMS => error.message.as_deref().is_some_and(wants_metadata),
                _ => of_error(&error) == EraVerdict::Modern,
            }
        }
        None => peek::result::<Introduction>(&answer.body).is_some_and(|result| is_modern(&result.protocol_version)),
    }
}

/// Reads the answer to an `initialize`; `None` unless it says that the server speaks modern versions only.
pub(crate) fn modern_refusal(answer: &Message) -> Option<ModernRefusal> {
    let error = peek::error(&answer.body).filter(|error| of_error(error) == EraVerdict::Modern)?;
    Some(ModernRefusal { supported: versions_of(&error), error })
}

/// The versions that an answer to `server/discover` names (MCP 2026-07-28, Discovery).
pub(crate) fn supported_versions(answer: &Message) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DiscoverResult {
        supported_versions: Vec<String>,
    }
    let read = peek::result::<DiscoverResult>(&answer.body);
    plausible(read.map(|result| result.supported_versions).unwrap_or_default())
}

/// No more and no longer versions than a protocol has: they are kept and shown.
fn plausible(versions: Vec<String>) -> Vec<String> {
    const MOST: usize = 32;
    /// In bytes; a date has 10.
    const LONGEST: usize = 32;
    versions.into_iter().filter(|version| version.len() <= LONGEST).take(MOST).collect()
}

/// The verdict of a status that came without a JSON-RPC answer.
pub(crate) fn of_status(status: StatusCode) -> EraVerdict {
    match status {
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            EraVerdict::Legacy
        }
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => EraVerdict::Undecided,
        status if status.is_server_error() || status.is_redirection() => EraVerdict::Undecided,
        _ => EraVerdict::Legacy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discover_response_determines_era() {
        use EraVerdict::{Legacy, Modern};
        for (answer, expected) in [
            (r#""result":{"supportedVersions":["2026-07-28"]}"#, Modern),
            (r#""result":{"supportedVersions":["2025-11-25","2026-07-28"]}"#, Modern),
            (r#""result":{"supportedVersions":["2025-11-25"]}"#, Legacy),
            (r#""result":{}"#, Legacy),
            (r#""error":{"code":-32020,"message":"m"}"#, Modern),
            (r#""error":{"code":-32021,"message":"m"}"#, Modern),
            (r#""error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}"#, Modern),
            (r#""error":{"code":-32022,"message":"m","data":{"supported":["2025-11-25"]}}"#, Legacy),
            (r#""error":{"code":-32022,"message":"m"}"#, Modern),
            (r#""error":{"code":-32601,"message":"m"}"#, Legacy),
            (r#""error":{"code":-32000,"message":"Server not initialized"}"#, Legacy),
            (r#""error":"odd""#, Legacy),
        ] {
            let answer = Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#)).unwrap();
            assert_eq!(of_answer(&answer), expected, "{:?}", answer.body);
        }
    }

    #[test]
    fn refused_initialize_asks_for_discover_or_not() {
        for (answer, expected) in [
            (r#""result":{"protocolVersion":"2025-11-25"}"#, false),
            (r#""result":{"protocolVersion":"2026-07-28"}"#, true),
            (r#""result":{}"#, false),
            (r#""error":{"code":-32022,"message":"m","data":{"supported":["2026-07-28"]}}"#, true),
            (r#""error":{"code":-32022,"message":"m","data":{"supported":["2025-11-25"]}}"#, false),
            (r#""error":{"code":-32020,"message":"Missing header"}"#, true),
            (r#""error":{"code":-32601,"message":"Method not found"}"#, true),
            (r#""error":{"code":-32602,"message":"params._meta is required"}"#, true),
            (r#""error":{"code":-32602,"message":"Invalid request parameters"}"#, false),
            (r#""error":{"code":-32600,"message":"Invalid Request"}"#, false),
            (r#""error":{"code":-32000,"message":"no"}"#, false),
        ] {
            let answer = Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#)).unwrap();
            assert_eq!(asks_for_discover(&answer), expected, "{:?}", answer.body);
        }
    }

    #[test]
    fn status_alone_determines_era_or_nothing() {
        for (status, expected) in [
            (202, EraVerdict::Legacy),
            (400, EraVerdict::Legacy),
            (404, EraVerdict::Legacy),
            (405, EraVerdict::Legacy),
            (406, EraVerdict::Legacy),
            (500, EraVerdict::Legacy),
            (501, EraVerdict::Legacy),
            (401, EraVerdict::Undecided),
            (403, EraVerdict::Undecided),
            (408, EraVerdict::Undecided),
            (429, EraVerdict::Undecided),
            (502, EraVerdict::Undecided),
            (503, EraVerdict::Undecided),
            (307, EraVerdict::Undecided),
        ] {
            assert_eq!(of_status(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
