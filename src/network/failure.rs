//! The cause of a failed request: its kind, and the words for it.
//!
//! # Invariants
//!
//! - Text is compared only where a library keeps the kind to itself.
//! - No words of a library reach a user, because they name its types and states.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

use super::connect::ConnectTimedOut;
use crate::text;

/// What hyper-util says if a proxy answers 407 (RFC 9110 §15.5.8).
const PROXY_AUTHORIZATION: &str = "proxy authorization required";

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// No connection was made.
    #[error("cannot connect")]
    Connect(#[source] BodyError),
    /// The connection failed after the request may have gone out.
    #[error("the exchange failed")]
    Exchange(#[source] hyper::Error),
    /// The connection ended before anything of the request went out: the request did not run.
    #[error("the connection ended before the request")]
    Unsent(#[source] hyper::Error),
    /// The connection of HTTP/2 did not begin the request in time: the request did not run.
    #[error("the server accepts no more concurrent requests")]
    NotBegun,
    /// The program ends.
    #[error("no more connections are opened")]
    Abandoned,
}

/// Why a body could not be read.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// Returns the error of rustls somewhere in the chain. It may be inside an I/O error, which does not count it among its
/// sources, and twice so.
pub(crate) fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error
        .downcast_ref::<rustls::Error>()
        .or_else(|| inside.and_then(|inside| tls_cause(inside)))
        .or_else(|| error.source().and_then(tls_cause))
}

/// Returns the error of HTTP/2 somewhere in the chain.
fn http2_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    error.downcast_ref::<h2::Error>().or_else(|| error.source().and_then(http2_cause))
}

/// Returns whether the connection was closed or reset. hyper does not tell of which version it was.
fn is_closed(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
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
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
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

/// Returns the kind of the first I/O error in the chain.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind.or_else(|| error.source().and_then(io_kind))
}

/// Returns whether the other side closed the connection where a TLS handshake was to be.
pub(crate) fn is_closed_in_handshake(error: &(dyn Error + 'static)) -> bool {
    io_kind(error) == Some(io::ErrorKind::UnexpectedEof)
}

/// Returns whether the other side answered a TLS handshake with something that is not TLS, as an HTTP server does.
pub(crate) fn speaks_no_tls(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

/// The system has no roots to verify a certificate with.
#[derive(Debug, thiserror::Error)]
#[error("this computer has no CA certificates")]
pub(crate) struct NoRoots;

impl NoRoots {
    /// Returns whether this is the error of TLS.
    pub(crate) fn is(error: &rustls::Error) -> bool {
        matches!(error, rustls::Error::Other(OtherError(cause)) if cause.downcast_ref::<Self>().is_some())
    }
}

/// Returns whether a host name could not be resolved. hyper-util and reqwest keep the kind to themselves.
pub(crate) fn is_of_name(error: &(dyn Error + 'static)) -> bool {
    let text = error.to_string();
    text.contains("dns error") || text.contains("dns name") || error.source().is_some_and(is_of_name)
}

/// Returns the cause of a failed request in words, by its kind.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    if let Some(cause) = tls_cause(error) {
        return tls_words(cause);
    }
    if let Some(reason) = http2_cause(error).and_then(h2::Error::reason) {
        return format!("HTTP/2 error {reason:?}"); // the name that RFC 9113 §7 gives it
    }
    if let Some(words) = io_kind(error).and_then(io_words) {
        return words.to_owned();
    }
    if is_timeout(error) {
        return "the connection timed out".to_owned();
    }
    if let Some(words) = http_words(error) {
        return words.to_owned();
    }
    let deepest = text::deepest(error);
    match deepest.as_str() {
        "tunnel error: unexpected end of file" => "the proxy closed the connection".to_owned(),
        "tunnel error: proxy headers too long for tunnel" => "the proxy sent too many response headers".to_owned(),
        words => {
            let words = words.strip_prefix("failed to lookup address information: ").unwrap_or(words);
            words.strip_prefix("tunnel error: ").unwrap_or(words).trim_end_matches(['.', ' ']).to_owned()
        }
    }
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout)
        || error.is::<ConnectTimedOut>()
        || error.source().is_some_and(is_timeout)
}

const fn io_words(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "the connection was reset",
        io::ErrorKind::ConnectionAborted => "the connection was aborted",
        io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            "the connection was closed"
        }
        io::ErrorKind::TimedOut => "the connection timed out",
        io::ErrorKind::HostUnreachable => "no route to the host",
        io::ErrorKind::NetworkUnreachable => "the network is unreachable",
        io::ErrorKind::NetworkDown => "the network is down",
        io::ErrorKind::AddrNotAvailable => "this computer has no IP address for the connection",
        _ => return None,
    })
}

/// Returns the words for what hyper met in HTTP/1.1.
fn http_words(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let Some(cause) = error.downcast_ref::<hyper::Error>() else { return http_words(error.source()?) };
    if cause.is_parse() {
        Some("the response is not valid HTTP")
    } else if cause.is_timeout() {
        Some("the connection timed out")
    } else if cause.is_incomplete_message() || cause.is_closed() || cause.is_canceled() || cause.is_body_write_aborted()
    {
        Some("the connection was closed")
    } else {
        cause.source().and_then(http_words)
    }
}

/// Returns what TLS met, in words.
pub(crate) fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(fault) => format!("the certificate {}", certificate_words(fault)),
        rustls::Error::AlertReceived(alert) => alert_words(*alert),
        rustls::Error::PeerIncompatible(_) => "the server offers no secure TLS version or cipher".to_owned(),
        rustls::Error::NoCertificatesPresented => "the server sent no certificate".to_owned(),
        rustls::Error::InvalidMessage(_) if speaks_no_tls(error) => {
            "the server does not speak TLS on this port".to_owned()
        }
        rustls::Error::Other(_) if NoRoots::is(error) => NoRoots.to_string(),
        rustls::Error::General(text) => {
            let words = text::without_number(text::one_line(text.as_bytes()));
            words.trim_end_matches(['.', ' ']).to_owned()
        }
        _ => "the server violates the TLS protocol".to_owned(),
    }
}

/// Returns what is wrong with a certificate.
pub(crate) const fn certificate_words(fault: &CertificateError) -> &'static str {
    use CertificateError as Fault;
    match fault {
        Fault::UnknownIssuer => "has an issuer that this computer does not trust",
        Fault::Expired | Fault::ExpiredContext { .. } => "expired",
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => "is not valid yet",
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => "is for another host name",
        Fault::Revoked => "was revoked",
        Fault::BadEncoding => "is malformed",
        Fault::BadSignature => "has an invalid signature",
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => "is not a server's",
        Fault::UnhandledCriticalExtension => "has an unknown critical extension",
        Fault::UnknownRevocationStatus | Fault::ExpiredRevocationList | Fault::ExpiredRevocationListContext { .. } => {
            "has an unknown revocation status"
        }
        _ => "is not accepted by this computer",
    }
}

/// Returns what a TLS alert of the server says (RFC 8446 §6.2).
pub(crate) fn alert_words(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::ProtocolVersion => "the server offers only outdated TLS versions".to_owned(),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "the server offers no secure TLS version or cipher".to_owned()
        }
        Alert::UnrecognisedName => "the server has no certificate for this host name".to_owned(),
        Alert::CertificateRequired => "the server requires a client certificate".to_owned(),
        alert => format!("the server sent TLS alert {}", u8::from(alert)),
    }
}

/// Returns whether the proxy wants credentials.
pub(crate) fn wants_password(error: &(dyn Error + 'static)) -> bool {
    error.to_string().contains(PROXY_AUTHORIZATION) || error.source().is_some_and(wants_password)
}

/// Returns whether a response over HTTP/1.1 has more header lines, or longer ones, than hyper reads.
pub(crate) fn is_head_too_large(error: &(dyn Error + 'static)) -> bool {
    error.to_string().contains("message head is too large") || error.source().is_some_and(is_head_too_large)
}

/// Returns whether a proxy refused CONNECT. hyper-util keeps the kind to itself, so its words are compared.
pub(crate) fn refused_by_proxy(error: &(dyn Error + 'static)) -> bool {
    let text = error.to_string();
    text.contains(PROXY_AUTHORIZATION)
        || text.contains("tunnel error: unsuccessful")
        || error.source().is_some_and(refused_by_proxy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn words_are_of_no_library() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let other = CertificateError::Other(OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity"))));
        let errors: [(Box<dyn Error>, &str); 9] = [
            (Box::new(io(io::ErrorKind::ConnectionRefused)), "connection refused"),
            (Box::new(io::Error::from_raw_os_error(111)), "connection refused"),
            (
                Box::new(io::Error::other(rustls::Error::InvalidCertificate(other))),
                "the certificate is not accepted by this computer",
            ),
            (
                Box::new(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)),
                "the server does not speak TLS on this port",
            ),
            (
                Box::new(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)),
                "the server offers no secure TLS version or cipher",
            ),
            (Box::new(rustls::Error::AlertReceived(AlertDescription::DecryptError)), "the server sent TLS alert 51"),
            (
                Box::new(rustls::Error::General("Invalid parameter. (os error -2147024809)".to_owned())),
                "Invalid parameter",
            ),
            (Box::new(h2::Error::from(h2::Reason::PROTOCOL_ERROR)), "HTTP/2 error PROTOCOL_ERROR"),
            (
                Box::new(io::Error::other("failed to lookup address information: Name or service not known")),
                "Name or service not known",
            ),
        ];
        for (error, expected) in errors {
            if cfg!(target_os = "linux") || !error.to_string().contains("os error") {
                assert_eq!(words(&*error), expected, "{error:?}");
            }
        }
    }
}
