//! What an answer to `server/discover` says about the era of a server (MCP 2026-07-28, Streamable HTTP,
//! Backward Compatibility; Versioning, Backward Compatibility).
//!
//! # Invariants
//!
//! - An answer that is about authorization, about load or about a failure is no evidence.

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::is_modern;
use crate::message::Message;

/// `HeaderMismatch` (MCP 2026-07-28, Error Codes).
pub const HEADER_MISMATCH: i64 = -32020;
/// `MissingRequiredClientCapability`
const MISSING_CAPABILITY: i64 = -32021;
/// `UnsupportedProtocolVersion`
const UNSUPPORTED_VERSION: i64 = -32022;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server speaks a modern version.
    Modern,
    /// The server speaks legacy versions only.
    Legacy,
    /// Nothing.
    Open,
}

/// The verdict of a JSON-RPC answer to a modern request, with whatever status it came.
#[must_use]
pub fn of_answer(answer: &Message) -> Verdict {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        error: Option<Failure>,
    }
    #[derive(Deserialize)]
    struct Failure {
        code: i64,
        data: Option<serde_json::Value>,
    }
    let text = answer.body.to_bytes();
    match serde_json::from_slice::<Answer<'_>>(&text) {
        Ok(Answer { error: Some(Failure { code, data }), .. }) => match code {
            HEADER_MISMATCH | MISSING_CAPABILITY => Verdict::Modern,
            UNSUPPORTED_VERSION => {
                let supported = data.as_ref().and_then(|data| data.get("supported")?.as_array());
                let versions = || supported.into_iter().flatten().filter_map(serde_json::Value::as_str);
                // A server that names legacy versions only is asked in their way.
                if versions().next().is_some() && !versions().any(is_modern) {
                    Verdict::Legacy
                } else {
                    Verdict::Modern
                }
            }
            _ => Verdict::Legacy,
        },
        Ok(Answer { result: Some(result), .. }) => of_result(result.get()),
        _ => Verdict::Legacy,
    }
}

/// A refusal in the words of the modern era.
#[derive(Debug)]
pub struct ModernRefusal {
    /// The versions that the server names.
    pub supported: Vec<String>,
    code: i64,
    data: Option<Box<RawValue>>,
}

impl ModernRefusal {
    /// The same refusal with another message; its id is `null`.
    #[must_use]
    pub fn answer(&self, message: &str) -> Option<Message> {
        let message = serde_json::to_string(message).ok()?;
        let data = self.data.as_ref().map_or_else(String::new, |data| format!(r#","data":{}"#, data.get()));
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{},"message":{message}{data}}}}}"#, self.code);
        Message::from_text(text).ok()
    }
}

/// Reads the answer to an `initialize`; `None` unless it says that the server speaks modern versions only.
#[must_use]
pub fn modern_refusal(answer: &Message) -> Option<ModernRefusal> {
    #[derive(Deserialize)]
    struct Answer {
        error: Failure,
    }
    #[derive(Deserialize)]
    struct Failure {
        code: i64,
        data: Option<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let Answer { error: Failure { code, data } } = serde_json::from_slice(&answer.body.to_bytes()).ok()?;
    if !matches!(code, HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION) {
        return None;
    }
    let read = data.as_ref().and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    let supported = plausible(read.map(|data| data.supported).unwrap_or_default());
    let legacy = !supported.is_empty() && !supported.iter().any(|version| is_modern(version));
    (!legacy).then_some(ModernRefusal { supported, code, data })
}

/// A DiscoverResult (MCP 2026-07-28, Discovery).
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DiscoverResult {
    supported_versions: Vec<String>,
}

fn of_result(result: &str) -> Verdict {
    let DiscoverResult { supported_versions } = serde_json::from_str(result).unwrap_or_default();
    // Else `{}`, or a server that answers with legacy versions only (go-sdk, stateful).
    if supported_versions.iter().any(|version| is_modern(version)) { Verdict::Modern } else { Verdict::Legacy }
}

/// The versions that an answer to `server/discover` names.
#[must_use]
pub fn supported_versions(answer: &Message) -> Vec<String> {
    #[derive(Deserialize)]
    struct Answer {
        result: DiscoverResult,
    }
    let answer = serde_json::from_slice::<Answer>(&answer.body.to_bytes());
    plausible(answer.map(|answer| answer.result.supported_versions).unwrap_or_default())
}

/// No more and no longer versions than a protocol has: they are kept and shown.
fn plausible(versions: Vec<String>) -> Vec<String> {
    const MOST: usize = 32;
    /// In bytes; a date has 10.
    const LONGEST: usize = 32;
    versions.into_iter().filter(|version| version.len() <= LONGEST).take(MOST).collect()
}

/// The verdict of a status that came without a JSON-RPC answer.
#[must_use]
pub fn of_status(status: StatusCode) -> Verdict {
    match status {
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            Verdict::Legacy
        }
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => Verdict::Open,
        status if status.is_server_error() || status.is_redirection() => Verdict::Open,
        _ => Verdict::Legacy,
    }
}

/// The code of a JSON-RPC error.
#[must_use]
pub fn error_code(answer: &Message) -> Option<i64> {
    #[derive(Deserialize)]
    struct Answer {
        error: Failure,
    }
    #[derive(Deserialize)]
    struct Failure {
        code: i64,
    }
    serde_json::from_slice::<Answer>(&answer.body.to_bytes()).ok().map(|answer| answer.error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_to_discover_tells_the_era() {
        use Verdict::{Legacy, Modern};
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
    fn status_without_answer_tells_the_era_or_nothing() {
        for (status, expected) in [
            (202, Verdict::Legacy),
            (400, Verdict::Legacy),
            (404, Verdict::Legacy),
            (405, Verdict::Legacy),
            (406, Verdict::Legacy),
            (500, Verdict::Legacy),
            (501, Verdict::Legacy),
            (401, Verdict::Open),
            (403, Verdict::Open),
            (408, Verdict::Open),
            (429, Verdict::Open),
            (502, Verdict::Open),
            (503, Verdict::Open),
            (307, Verdict::Open),
        ] {
            assert_eq!(of_status(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
