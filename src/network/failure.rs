//! What a failed request says of its cause: the TLS library, or a proxy.
//!
//! # Invariants
//!
//! - Text is compared only where a library keeps the kind to itself.

/// What hyper-util says if a proxy answers 407 (RFC 9110 §15.5.8).
const PROXY_AUTHORIZATION: &str = "proxy authorization required";

/// Returns the error of rustls somewhere in the chain. It may be inside an I/O error, which does not count it among its
/// sources, and twice so.
pub(crate) fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error
        .downcast_ref::<rustls::Error>()
        .or_else(|| inside.and_then(|inside| tls_cause(inside)))
        .or_else(|| error.source().and_then(tls_cause))
}

/// Returns the error of HTTP/2 somewhere in the chain.
fn http2_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a h2::Error> {
    error.downcast_ref::<h2::Error>().or_else(|| error.source().and_then(http2_cause))
}

/// Returns whether the connection was closed or reset. hyper does not tell of which version it was.
fn is_closed(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
        || error.source().is_some_and(is_closed)
}

/// What an error of HTTP/2 says about the protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http2Fault {
    /// The request was not begun: its stream was refused, or the connection is to end before it (RFC 9113 §6.8, §8.7).
    NotBegun,
    /// The server asks for HTTP/1.1 (RFC 9113 §7, HTTP_1_1_REQUIRED): it has done nothing.
    Refused,
    /// One side breaks the rules.
    Broken,
    /// The connection was closed: a server may have said why, and closed so fast that nobody could read it.
    Closed,
}

impl Http2Fault {
    /// Returns the fault that a failed request met, if it was one of the protocol.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let Some(cause) = http2_cause(error) else { return is_closed(error).then_some(Self::Closed) };
        let reason = cause.reason()?;
        let is_ending = cause.is_go_away() && reason == h2::Reason::NO_ERROR;
        if cause.is_remote() && (is_ending || cause.is_reset() && reason == h2::Reason::REFUSED_STREAM) {
            return Some(Self::NotBegun);
        }
        match reason {
            h2::Reason::HTTP_1_1_REQUIRED => Some(Self::Refused),
            h2::Reason::PROTOCOL_ERROR
            | h2::Reason::FRAME_SIZE_ERROR
            | h2::Reason::COMPRESSION_ERROR
            | h2::Reason::FLOW_CONTROL_ERROR
            | h2::Reason::SETTINGS_TIMEOUT
            | h2::Reason::INADEQUATE_SECURITY => Some(Self::Broken),
            _ => None,
        }
    }
}

/// Returns whether the proxy wants credentials.
pub(crate) fn wants_password(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string().contains(PROXY_AUTHORIZATION) || error.source().is_some_and(wants_password)
}

/// Returns whether a response over HTTP/1.1 has more header lines, or longer ones, than hyper reads.
pub(crate) fn is_head_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string().contains("message head is too large") || error.source().is_some_and(is_head_too_large)
}

/// Returns whether a proxy refused CONNECT. hyper-util keeps the kind to itself, so its words are compared.
pub(crate) fn refused_by_proxy(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = error.to_string();
    text.contains(PROXY_AUTHORIZATION)
        || text.contains("tunnel error: unsuccessful")
        || error.source().is_some_and(refused_by_proxy)
}
