//! What a person is told of a failure: one sentence, one hint, one code, the same on stderr, in the
//! JSON-RPC error and in `mcp-remote-client`.
//!
//! Must never: say what failed without saying where; give a hint that is not something to do.

use std::{error::Error as StdError, fmt::Write as _};

use bytes::Bytes;
use reqwest::{StatusCode, Url};
use serde::Serialize;

use crate::{message::Id, oauth, remote::error::Error};

/// The code of every JSON-RPC error that is this program's own. Outside the ranges that JSON-RPC 2.0
/// §5.1 (-32768 to -32000) and MCP 2026-07-28 (-32020 to -32099) keep for themselves, so that nobody
/// takes it for the server's.
pub const OWN_ERROR: i32 = -31000;
/// JSON-RPC 2.0 §5.1: the line is not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC 2.0 §5.1: the JSON is not JSON-RPC.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC 2.0 §5.1: there is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC 2.0 §5.1, and what npm's mcp-remote answers to a call of an ignored tool.
pub const INTERNAL_ERROR: i32 = -32603;

/// How much of a server's words is shown, in characters.
const SHOWN: usize = 200;
/// A failure, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Stable name, for scripts and searches.
    pub code: &'static str,
    /// What and why, without the program's name.
    pub sentence: String,
    /// One thing to do.
    pub hint: Option<String>,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
}

/// The member `data` of our errors.
#[derive(Serialize)]
struct Data<'a> {
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

impl Report {
    /// A failure that is not the remote's.
    #[must_use]
    pub fn new(code: &'static str, sentence: impl Into<String>, hint: Option<&str>) -> Self {
        Self { code, sentence: sentence.into(), hint: hint.map(Into::into), status: None }
    }

    /// The failure as the answer to a request.
    #[must_use]
    pub fn answer(&self, id: &Id) -> Bytes {
        let data = Data { code: self.code, hint: self.hint.as_deref(), status: self.status };
        error_line(id, OWN_ERROR, &format!("mcp-remote: {}", self.sentence), Some(&data))
    }

    /// The failure as one line for people.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint} [{}]", self.sentence, self.code),
            None => format!("{} [{}]", self.sentence, self.code),
        }
    }

    /// Tells what happened at the remote end.
    #[must_use]
    pub fn of_remote(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let cause = deepest(error);
        let (code, sentence, hint) = match error {
            Error::Connect(_) => {
                let name = cause.contains("lookup") || cause.contains("resolve");
                let hint = if name {
                    "check the name in the server's address, and the network"
                } else {
                    "check that the server is running and that its address and port are right"
                };
                let code = if name { "name_not_found" } else { "cannot_connect" };
                (code, format!("cannot connect to {host}: {cause}"), hint)
            }
            Error::Tls(_) => (
                "tls_failed",
                format!("no secure connection to {host}: {cause}"),
                if cause.contains("CertificateRequired") {
                    "give the certificate it asks for with --client-cert FILE --client-key FILE"
                } else {
                    "if a company proxy or a private authority signs certificates here, name its file with --ca-cert FILE"
                },
            ),
            Error::Proxy(_) => (
                "proxy_refused",
                format!("the proxy does not lead to {host}: {cause}"),
                "give the proxy's user and password in --proxy http://USER:PASSWORD@HOST:PORT, or name hosts to reach without it in NO_PROXY",
            ),
            Error::Broken(_) => (
                "connection_broken",
                format!("the connection to {host} broke before the answer was complete: {cause}"),
                "the server may have acted on the request; look before you send it again",
            ),
            Error::Silent { what, after } => (
                "timed_out",
                format!("{host} was silent: no {what} within {} s", after.as_secs_f32()),
                "if the server needs longer, raise --headers-timeout, --body-timeout or --initialize-timeout (seconds; 0 waits for ever)",
            ),
            Error::Refused(refusal) => {
                let (code, hint) = of_status(refusal.status);
                (code, format!("{host} answered {refusal}"), hint)
            }
            Error::Unauthorized(error) => return Self::of_authorization(error, server),
            Error::SessionLost(refusal) => (
                "session_lost",
                format!("{host} has lost the session and refuses a new one: {refusal}"),
                "restart this server's entry in the host",
            ),
            Error::NoNewSession(why) => (
                "session_lost",
                format!("{host} has lost the session and refuses a new one: {why}"),
                "restart this server's entry in the host",
            ),
            Error::Redirected { status, to } => (
                "redirected",
                format!("{host} answered HTTP {} and points to {to}", status.as_u16()),
                "if that is the server you mean, use that address instead",
            ),
            Error::NotMcp(what) => (
                "not_mcp",
                format!("{host} does not answer as an MCP server: {what}"),
                "check the path of the server's address; it often ends in /mcp or /sse",
            ),
            Error::BadMessage(malformed) => (
                "bad_message",
                format!("{host} sent an answer that is no message: {malformed}"),
                "report this to the server's maintainers",
            ),
            Error::TooLarge { limit } => (
                "too_large",
                format!("{host} sent an answer of more than {limit} bytes"),
                "raise the limit with --max-message-size, or ask the server for less",
            ),
            Error::NoAnswer(what) => (
                "no_answer",
                format!("{host}: {what}"),
                "the server may have acted on the request; look before you send it again",
            ),
            Error::NoEndpoint(what) | Error::BadEndpoint(what) => (
                "no_event_stream",
                format!("{host}: {what}"),
                "check the server's address, or try --transport http-only",
            ),
            Error::BothTransports { first, second } => {
                let (first, second) = (Self::of_remote(first, server), Self::of_remote(second, server));
                let hint = "check the path of the server's address; it often ends in /mcp or /sse";
                ("no_transport", format!("neither transport works: {}; {}", first.sentence, second.sentence), hint)
            }
        };
        Self { code, sentence, hint: Some(hint.to_owned()), status: error.status().map(|status| status.as_u16()) }
    }
}

/// For servers that have no sign-in.
const GIVE_CREDENTIAL: &str =
    "if it takes an API key, give it with --header \"Authorization:Bearer …\" or --header-file FILE";

impl Report {
    /// Tells why there is no authorization.
    #[must_use]
    pub fn of_authorization(error: &oauth::error::Error, server: &Url) -> Self {
        use oauth::error::Error;
        let host = host(server);
        let again =
            "sign in ahead of time in a terminal: mcp-remote login, with the arguments of this entry".to_owned();
        let ask_admin = "give a client that was registered by hand with --static-oauth-client-info @FILE".to_owned();
        let (code, sentence, hint) = match error {
            Error::NotOffered(_) => ("unauthorized", format!("{host}: {error}"), GIVE_CREDENTIAL.to_owned()),
            Error::HeaderRefused(_) => (
                "credential_refused",
                format!("{host}: {error}"),
                "check the value of the header Authorization, or leave it out to sign in with a browser".to_owned(),
            ),
            Error::Waiting { prompt: Some(url) } => (
                "sign_in_needed",
                format!("{host} needs you to sign in: open {url}"),
                "sign in there, then try again; the sign-in stays open".to_owned(),
            ),
            Error::Waiting { prompt: None } => ("sign_in_needed", format!("{host} needs you to sign in"), again),
            Error::NobodyCame { .. } => ("sign_in_needed", format!("{host}: {error}"), again),
            Error::NoPkce { .. } => (
                "no_pkce",
                format!("{host} cannot be signed in to safely: {error}"),
                "if you know that it does, add --assume-pkce".to_owned(),
            ),
            Error::NoClient { .. } => ("no_client", format!("{host}: {error}"), ask_admin),
            Error::OtherIssuer { .. } => (
                "other_issuer",
                format!("{host}: {error}"),
                "register the client there, and correct --static-oauth-client-info".to_owned(),
            ),
            Error::Port { port, source } => (
                "port_taken",
                format!("the sign-in to {host} needs port {port} of this machine, which cannot be had: {source}"),
                "end the program that has it, or name another port after the server's address".to_owned(),
            ),
            Error::ScopeRefused(_) => (
                "insufficient_scope",
                format!("{host}: {error}"),
                "ask for access to this, or sign in as somebody who has it".to_owned(),
            ),
            Error::TokenRefused(_) => (
                "token_refused",
                format!("{host}: {error}"),
                "tell the server's maintainers, or try --resource or --disable-resource-parameter".to_owned(),
            ),
            Error::Network { .. } => (
                "authorization_server_unreachable",
                format!("{host}: {error}"),
                "check the network, and try again".to_owned(),
            ),
            Error::WrongIssuer { .. } => (
                "wrong_issuer",
                format!("the sign-in to {host} was broken off: {error}"),
                "try again; if it stays, tell the server's maintainers".to_owned(),
            ),
            Error::Address { .. } => (
                "bad_address",
                format!("{host}: {error}"),
                "tell the server's maintainers; if an address in a private network is right, add --allow-private-addresses"
                    .to_owned(),
            ),
            Error::Metadata(_) | Error::NoMetadata { .. } | Error::Answer { .. } | Error::Unsupported { .. } => (
                "bad_metadata",
                format!("{host}: {error}"),
                "check the server's address, or tell its maintainers".to_owned(),
            ),
            Error::Refused { error: kind, .. } => {
                let hint = match kind.as_str() {
                    "access_denied" => "if that was not meant, try again and allow it".to_owned(),
                    "invalid_client" | "unauthorized_client" | "invalid_redirect_uri" => ask_admin,
                    "invalid_scope" => {
                        "name the scopes to ask for with --static-oauth-client-metadata '{\"scope\":\"…\"}'".to_owned()
                    }
                    "invalid_target" => "try --resource URI or --disable-resource-parameter".to_owned(),
                    _ => again,
                };
                ("sign_in_refused", format!("{host}: {error}"), hint)
            }
            Error::Local(_) => ("sign_in_failed", format!("{host}: {error}"), again),
        };
        let status = matches!(error, Error::HeaderRefused(_)).then_some(401);
        Self { code, sentence, hint: Some(hint), status }
    }
}

fn of_status(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        401 => ("unauthorized", GIVE_CREDENTIAL),
        403 => ("forbidden", "ask for access to this server, or check the credential given with --header"),
        404 => ("not_found", "check the path of the server's address; it often ends in /mcp or /sse"),
        407 => ("proxy_refused", "give the proxy's user and password in --proxy http://USER:PASSWORD@HOST:PORT"),
        429 => ("too_many_requests", "wait, then try again"),
        400..=499 => ("refused", "check the server's address and the headers given with --header"),
        _ => ("server_failed", "try again later; if it stays, tell the server's maintainers"),
    }
}

/// An error answer, with the id as it came.
pub(crate) fn error_line(id: &Id, code: i32, message: &str, data: Option<&impl Serialize>) -> Bytes {
    let text = |value: Result<String, serde_json::Error>| value.unwrap_or_else(|_| "null".to_owned());
    let mut line = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}"#,
        text(serde_json::to_string(message))
    );
    if let Some(data) = data {
        _ = write!(line, r#","data":{}"#, text(serde_json::to_string(data)));
    }
    line.push_str("}}");
    line.into()
}

/// What a server says, made fit for one line of text: the title of a page, or its first characters.
#[must_use]
pub fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]);
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = start + lower[start..].find("</title>")?;
        text.get(start..end)
    });
    let words: Vec<&str> = title
        .unwrap_or(&text)
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line: String = words.join(" ").chars().take(SHOWN + 1).collect();
    if line.chars().count() > SHOWN { line.chars().take(SHOWN).chain(['…']).collect() } else { line }
}

/// Host and port as a person would write them.
#[must_use]
pub fn host(server: &Url) -> String {
    match (server.host_str(), server.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => server.to_string(),
    }
}

/// An error and what caused it, in one line.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Libraries like to repeat their cause in their own text, and reqwest to name the address.
        if !line.contains(&text) && !inner.is::<reqwest::Error>() {
            _ = write!(line, ": {text}");
        }
        cause = inner.source();
    }
    line
}

/// The innermost cause: what the operating system or the TLS library said.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match (inside, error.source()) {
        (Some(inside), _) => deepest(inside),
        (None, Some(source)) => deepest(source),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_shown_by_its_title_and_a_text_by_its_beginning() {
        assert_eq!(shown(b"<html><head><TITLE>Sign\n in</TITLE>"), "Sign in");
        assert_eq!(shown(b"  no\tsuch \x07 thing\r\n"), "no such thing");
        assert_eq!(shown("x".repeat(300).as_bytes()).chars().count(), SHOWN + 1);
    }

    #[test]
    fn our_errors_have_one_form() {
        let report = Report::new("cannot_connect", "cannot connect to a:1: \"refused\"", Some("start it"));
        assert_eq!(
            report.answer(&Id::from_json(b"1e2")),
            r#"{"jsonrpc":"2.0","id":1e2,"error":{"code":-31000,"message":"mcp-remote: cannot connect to a:1: \"refused\"","data":{"code":"cannot_connect","hint":"start it"}}}"#
        );
    }

    #[test]
    fn the_own_code_is_in_nobodys_range() {
        assert!(!(-32768..=-32000).contains(&OWN_ERROR));
    }
}
