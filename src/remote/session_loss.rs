//! Whether a server has lost the session (MCP 2025-11-25, Transports, Session Management): the one judge for POST, GET,
//! HTTP+SSE and the `ping` of this program.
//!
//! The specification has one sign, status 404. Frameworks and gateways have others: a JSON-RPC error with status 404, 400
//! or 200, and status 410. Text decides only what a status or a code leaves open.
//!
//! # Invariants
//!
//! - A refusal that names a session which exists, or is to be named, does not lose it.

use reqwest::StatusCode;
use tokio::time::Instant;

use super::error::Refusal;
use crate::message::peek;

/// The codes by which frameworks say that a session is unknown.
const UNKNOWN_SESSION: [i64; 2] = [-32001, -32005];
/// JSON-RPC 2.0 §5.1: the codes that a server defines, as opposed to an application behind it.
const SERVER_ERRORS: std::ops::RangeInclusive<i64> = -32099..=-32000;
/// JSON-RPC 2.0 §5.1: Invalid Request.
const INVALID_REQUEST: i64 = -32600;

/// What a session that is gone is called. `invalid` is one of them, unless it is said of the request.
const GONE: [&str; 30] = [
    "not found",
    "not exist",
    "n't exist",
    "not be found",
    "cannot find",
    "can't find",
    "unknown",
    "expired",
    "invalid",
    "not valid",
    "no valid",
    "no active",
    "not active",
    "inactive",
    "no longer",
    "no such",
    "no session",
    "not recognized",
    "not recognised",
    "unrecognized",
    "unrecognised",
    "terminated",
    "closed",
    " ended",
    "deleted",
    "timed out",
    "stale",
    "lost",
    " gone",
    "not initialized",
];
/// Said of the request, not of the session.
const OF_THE_REQUEST: [&str; 3] = ["invalid request", "invalid param", "invalid argument"];
/// What a session that exists, or is missing from the request, is called.
const NOT_GONE: [&str; 4] = ["already", "required", "missing", "conflict"];

/// Returns whether a refusal of a request with a session id says that the session is lost.
pub(super) fn is_lost(refusal: &Refusal) -> bool {
    match refusal.status {
        StatusCode::NOT_FOUND => true, // whatever the body
        StatusCode::BAD_REQUEST | StatusCode::GONE => is_named(refusal),
        status if status.is_success() => code(refusal).is_some_and(is_of_server) && is_named(refusal),
        _ => false,
    }
}

/// Returns whether a session that began at this time is refused to the token of the request, which is newer: some servers
/// bind a session to the token that it was made with, which a refresh replaces. A new session is made with the new token.
pub(super) fn is_of_other_token(refusal: &Refusal, began: Instant) -> bool {
    let is_newer = refusal.credential_since.is_some_and(|since| since > began);
    let names_session = || refusal.said.expose().to_ascii_lowercase().contains("session");
    let is_refused =
        refusal.status == StatusCode::UNAUTHORIZED || refusal.status == StatusCode::FORBIDDEN && names_session();
    is_newer && is_refused
}

/// Returns whether a refusal names the session as unknown, expired, not found or invalid.
pub(super) fn is_named(refusal: &Refusal) -> bool {
    let words = refusal.said.expose().to_ascii_lowercase();
    if !words.contains("session") {
        return words.contains("not initialized");
    }
    let about_session = OF_THE_REQUEST.iter().fold(words, |words, phrase| words.replace(phrase, ""));
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| about_session.contains(phrase));
    if about_session.contains("already") {
        return false;
    }
    says(&GONE) || code(refusal).is_some_and(|code| UNKNOWN_SESSION.contains(&code)) && !says(&NOT_GONE)
}

/// Returns whether the request did not run: the refusal came instead of an answer, or with a code that says so.
pub(super) fn did_not_run(refusal: &Refusal) -> bool {
    let not_run = |code| UNKNOWN_SESSION.contains(&code) || code == INVALID_REQUEST;
    !refusal.status.is_success() || code(refusal).is_some_and(not_run)
}

fn is_of_server(code: i64) -> bool {
    SERVER_ERRORS.contains(&code) || code == INVALID_REQUEST
}

fn code(refusal: &Refusal) -> Option<i64> {
    Some(peek::error(&refusal.answer.as_ref()?.body)?.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Message, secret::Secret, text::one_line};

    fn refusal(status: u16, code: i64, words: &str) -> Refusal {
        let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"{words}"}}}}"#);
        let text = one_line(words.as_bytes());
        let answer = Some(Message::from_text(answer).unwrap());
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            said: Secret::new(text.clone()),
            text,
            had_headers: false,
            cause: None,
            credential_since: None,
            answer,
        }
    }

    #[test]
    fn status_404_loses_session_with_any_message() {
        for (code, words) in [(-32601, "Method not found"), (-32001, "Session not found"), (-32000, "")] {
            assert!(is_lost(&refusal(404, code, words)), "{code} {words}");
        }
    }

    #[test]
    fn message_decides_if_status_is_ambiguous() {
        for words in [
            "Session not found",
            "Invalid or missing session ID",
            "Bad Request: No valid session ID provided",
            "Invalid Request: session expired",
            "Bad Request: Server not initialized",
            "Unknown Mcp-Session-Id",
            "The session does not exist",
            "session terminated",
        ] {
            for status in [200, 400, 410] {
                assert!(is_lost(&refusal(status, -32000, words)), "{status} {words}");
            }
            assert!(!is_lost(&refusal(200, -32603, words)), "an application's own error: {words}");
            assert!(!is_lost(&refusal(500, -32000, words)) && !is_lost(&refusal(403, -32000, words)), "{words}");
        }
        for words in [
            "session already exists",
            "Conflict: session id is in use",
            "Bad Request: Mcp-Session-Id header is required",
            "Missing session ID",
            "Invalid request: session id required",
            "invalid parameter: session already exists",
            "Unsupported protocol version",
            "",
        ] {
            for status in [200, 400, 410] {
                assert!(!is_lost(&refusal(status, -32000, words)), "{status} {words}");
                assert!(!is_lost(&refusal(status, -32001, words)), "{status} -32001 {words}");
            }
        }
        assert!(is_lost(&refusal(200, -32001, "Session abc")) && is_lost(&refusal(400, -32005, "bad session")));
        assert!(!is_lost(&refusal(200, -32001, "Request timed out")));
    }

    #[tokio::test(start_paused = true)]
    async fn session_of_old_token_rejects_new_token() {
        let began = Instant::now();
        let later = began + std::time::Duration::from_secs(1);
        let refused = |status, words, since| Refusal { credential_since: since, ..refusal(status, -32000, words) };
        let other = "session does not belong to this token";
        for (status, words, since, expected) in [
            (403, other, Some(later), true),
            (401, "", Some(later), true),
            (403, "no access", Some(later), false),
            (403, other, Some(began), false),
            (403, other, None, false),
            (400, other, Some(later), false),
        ] {
            assert_eq!(is_of_other_token(&refused(status, words, since), began), expected, "{status} {words}");
        }
    }

    #[test]
    fn call_refused_in_an_answer_may_have_run() {
        assert!(did_not_run(&refusal(404, -32000, "Session not found")));
        assert!(did_not_run(&refusal(200, -32001, "Session not found")));
        assert!(did_not_run(&refusal(200, -32600, "Unknown session")));
        assert!(!did_not_run(&refusal(200, -32000, "Session not found")));
    }
}
