//! Reports of failures at the remote end.
//!
//! # Invariants
//!
//! - A report names the server, and has the server's own words where there are some.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use rustls::{AlertDescription, CertificateError};

use super::{
    error::{Error, Place, Refusal},
    evidence::Cause,
};
use crate::{
    config::is_loopback,
    network::{
        certificate::CertificateInfo,
        failure::{Http2Fault, is_head_too_large, tls_cause, wants_password},
    },
    report::{
        Code, Report,
        catalogue::{
            ALLOW_HOST, ASK_FOR_KEY, CHECK_ADDRESS, CHECK_HEADERS, CHECK_HOST_NAME, CHECK_PROXY_PASSWORD, CHECK_ROUTE,
            FORWARD_SCHEME, GIVE_BASIC, NAME_ITSELF, NAME_WHOLE_PATH, OFFER_NEWER_TLS, RENEW_AS_VERSION_3,
            RUN_LOCAL_PROXY, SEND_FEWER_HEADERS, SEND_LESS, SEND_SMALLER_HEAD, SEND_UNENCODED, SHARE_SESSIONS,
            STILL_TRIED, TRY_HTTPS, URL_WITH_ADDRESS, URL_WITH_NAME, USE_HTTP1, USE_OWN_PATH,
        },
    },
    text::{self, chain, deepest, host},
};

/// A session that is lost sooner than this, again, was made by another instance of the server.
const SOON: Duration = Duration::from_secs(30);
/// How many of a certificate's names are told: the rest says no more.
const MOST_NAMES: usize = 5;
/// webpki's word for an authority's certificate in the place of a server's (RFC 5280 §4.2.1.9).
/// `openssl req -x509` makes such ones.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";
/// webpki's word for a certificate that is not of version 3 (RFC 5280 §4.1.2.1).
const OLD_CERTIFICATE: &str = "UnsupportedCertVersion";

impl Report {
    /// Tells what happened at the remote end.
    pub(crate) fn of_remote(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let cause = deepest(error);
        let plain = |code, sentence| (code, sentence, None);
        let (code, sentence, tip) = match error {
            // What speaks no TLS, or does not want to with us, hangs up.
            Error::Connect(_) if chain(error).contains("tls handshake eof") => {
                plain(Code::TlsFailed, format!("no secure connection to {host}: it hangs up in the TLS handshake"))
            }
            Error::Connect(_) => {
                // hyper-util's words, and rustls'; what stands behind them differs from system to system.
                let name = ["dns error", "dns name"].iter().any(|words| chain(error).contains(words));
                let code = if name { Code::NameNotFound } else { Code::CannotConnect };
                plain(code, format!("cannot connect to {host}: {cause}"))
            }
            Error::ProxyDown { proxy, .. } => plain(
                Code::ProxyUnreachable,
                format!("cannot connect to the proxy {proxy}, which is to lead to {host}: {cause}"),
            ),
            Error::Tls { source, certificate } => of_tls(source, certificate.as_deref(), &host, &cause),
            Error::Proxy { source, refusal, had_credentials } if wants_password(source) => {
                let schemes = refusal.as_ref().map_or(&[][..], |refusal| &refusal.schemes);
                let (asked, tip) = of_proxy_authentication(schemes, *had_credentials);
                (Code::ProxyRefused, format!("the proxy does not lead to {host}: {cause}{asked}"), tip)
            }
            Error::Proxy { refusal, .. } => {
                let cause = refusal.as_ref().map_or(&cause, |refusal| &refusal.words);
                plain(Code::ProxyForbids, format!("the proxy does not lead to {host}: {cause}"))
            }
            Error::Broken(source) if is_head_too_large(source) => (
                Code::TooLarge,
                format!("{host} sent more header lines, or longer ones, than mcp-remote reads"),
                Some(SEND_SMALLER_HEAD),
            ),
            Error::Encoded(encoding) => {
                let sentence =
                    format!("{host} sent an answer with Content-Encoding {encoding}, which was not asked for");
                (Code::BadMessage, sentence, Some(SEND_UNENCODED))
            }
            Error::Broken(source)
                if matches!(Http2Fault::of(source), Some(Http2Fault::Refused | Http2Fault::Broken)) =>
            {
                (
                    Code::ConnectionBroken,
                    format!("HTTP/2 broke with {host} before the answer was complete: {cause}"),
                    Some(USE_HTTP1),
                )
            }
            Error::Broken(_) => plain(
                Code::ConnectionBroken,
                format!("the connection to {host} broke before the answer was complete: {cause}"),
            ),
            Error::NotBegun => {
                (Code::TimedOut, format!("{host} takes no more requests at a time over HTTP/2"), Some(USE_HTTP1))
            }
            Error::Silent { what, after } => {
                plain(Code::TimedOut, format!("{host} was silent: no {what} within {} s", after.as_secs_f32()))
            }
            Error::Refused(refusal) => of_refusal(refusal, server),
            Error::Unauthorized(error) => return Self::of_authorization(error, server),
            Error::SessionLost { refusal, lasted, .. } => of_lost_session(refusal, *lasted, &host),
            Error::StreamDown(last) => {
                let last = Self::of_remote(last, server);
                let sentence = format!("the event stream is down and did not come back in time: {}", last.sentence);
                return Self { sentence, ..last };
            }
            Error::NotResumed(last) => {
                let last = Self::of_remote(last, server);
                let sentence = format!("the answer broke off and could not be resumed: {}", last.sentence);
                plain(Code::ConnectionBroken, sentence)
            }
            Error::SpeaksHttpSse => {
                plain(Code::NoTransport, format!("{host} speaks HTTP+SSE (MCP 2024-11-05) at this URL"))
            }
            Error::NoNewSession(why) => {
                plain(Code::SessionLost, format!("{host} has lost the session and refuses a new one: {why}"))
            }
            Error::Redirected { status, to, place } => of_redirect(*status, to, place, &host),
            Error::WebSignIn { seen, .. } => {
                plain(Code::WebSignIn, format!("a web sign-in stands in front of {host}: it {seen}"))
            }
            Error::NotMcp(what) => plain(Code::NotMcp, format!("{host} does not answer as an MCP server: {what}")),
            Error::BadMessage(malformed) => {
                plain(Code::BadMessage, format!("{host} sent an answer that is no message: {malformed}"))
            }
            Error::TooLarge { limit } => {
                plain(Code::TooLarge, format!("{host} sent an answer of more than {limit} bytes"))
            }
            Error::NoRoom { limit } => plain(
                Code::TooLarge,
                format!("{host} sends answers of more than {limit} bytes at a time, and does not end them"),
            ),
            Error::Expands => plain(Code::BadMessage, format!("{host} sent an answer, but {error}")),
            Error::NoAnswer(what) => plain(Code::NoAnswer, format!("{host}: {what}")),
            Error::NoEndpoint(what) | Error::BadEndpoint(what) => plain(Code::NoEventStream, format!("{host}: {what}")),
            Error::LegacyServer { words } => {
                let words = words.as_ref().map_or_else(String::new, |words| format!(" ({words})"));
                let sentence = format!(
                    "protocol version not shared: this host asks in MCP 2026-07-28, and {host} speaks earlier versions only{words}"
                );
                plain(Code::ProtocolVersionNotShared, sentence)
            }
            Error::NotLegacy(_) => plain(Code::ProtocolVersionNotShared, format!("{host}: {error}")),
            Error::ModernServer { sentence, .. } => plain(Code::ProtocolVersionNotShared, sentence.clone()),
            Error::BothTransports { first, second } => {
                let both = [Self::of_remote(first, server), Self::of_remote(second, server)];
                let tip = both.iter().find(|one| one.is_exact()).and_then(|one| one.hint.clone());
                let [first, second] = both.map(|one| one.sentence);
                let both = if first == second { first } else { format!("{first}; {second}") };
                let report = Self::new(Code::NoTransport, format!("neither transport works: {both}"), None);
                let status = error.status().map(|status| status.as_u16());
                return Self { status, hint: tip.or(report.hint), ..report };
            }
        };
        let status = error.status().map(|status| status.as_u16());
        Self { status, ..Self::new(code, sentence, tip) }
    }

    /// Reports that the server has not answered `initialize` yet; the opening continues.
    pub(crate) fn of_slow_opening(server: &Url, after: Duration) -> Self {
        let sentence = format!("{} has not answered initialize within {} s", host(server), after.as_secs_f32());
        Self::new(Code::TimedOut, sentence, Some(STILL_TRIED))
    }

    /// The same where `initialize` was to open a connection: nothing was asked for that the server may have done.
    pub(crate) fn of_opening(error: &Error, server: &Url) -> Self {
        let report = Self::of_remote(error, server);
        match error {
            Error::Broken(_) | Error::NoAnswer(_) if !report.is_exact() => {
                Self { hint: Some(CHECK_ADDRESS.to_owned()), ..report }
            }
            _ => report,
        }
    }
}

/// What a report is made of; the tip, if it says more than the code's own.
type Told = (Code, String, Option<&'static str>);

/// A status that is no success, by what the answer proves, or else by the status alone.
fn of_refusal(refusal: &Refusal, server: &Url) -> Told {
    let host = host(server);
    let by_status = match refusal.status.as_u16() {
        401 => Code::Unauthorized,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        407 => Code::ProxyRefused,
        429 => Code::TooManyRequests,
        // RFC 9110 §15.6.2: it does not know POST at all.
        501 => Code::NotMcp,
        400..=499 => Code::Refused,
        _ => Code::ServerFailed,
    };
    match &refusal.cause {
        Some(Cause::WebSignIn) => {
            (Code::WebSignIn, format!("a web sign-in stands in front of {host}: it answered {refusal}"), None)
        }
        Some(Cause::BotFilter) => (
            Code::BotFilter,
            format!("a bot filter in front of {host} refuses mcp-remote: it answered {refusal}"),
            None,
        ),
        Some(Cause::NoRoute) => {
            let path = server.path();
            let sentence =
                format!("the API gateway at {host} has no route with the path {path}: it answered {refusal}");
            (Code::NotFound, sentence, Some(CHECK_ROUTE))
        }
        Some(Cause::HostNotAllowed) => {
            let tip = match server.host_str() {
                Some("localhost") => URL_WITH_ADDRESS,
                _ if is_loopback(server) => URL_WITH_NAME,
                _ => ALLOW_HOST,
            };
            (by_status, format!("{host} is not a name that the server allows: it answered {refusal}"), Some(tip))
        }
        Some(Cause::OtherSchemes(schemes)) => {
            let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic"));
            let tip = match (refusal.had_headers, has_basic) {
                (true, true) => CHECK_HEADERS,
                (false, true) => GIVE_BASIC,
                (_, false) => ASK_FOR_KEY,
            };
            let schemes = text::one_line(schemes.join(", ").as_bytes());
            (by_status, format!("{host} asks for {schemes}: it answered {refusal}"), Some(tip))
        }
        Some(Cause::Proxy { schemes, had_credentials }) => {
            let (asked, tip) = of_proxy_authentication(schemes, *had_credentials);
            (by_status, format!("the proxy does not lead to {host}: it answered {refusal}{asked}"), tip)
        }
        Some(Cause::Endpoint(path)) => {
            let path = text::one_line(path.as_bytes());
            let sentence = format!("{host} answered {refusal}, at {path}, the endpoint that its event stream names");
            (by_status, sentence, Some(NAME_WHOLE_PATH))
        }
        None => {
            let tip = match refusal.status {
                StatusCode::UNAUTHORIZED if refusal.had_headers => Some(CHECK_HEADERS),
                StatusCode::PAYLOAD_TOO_LARGE => Some(SEND_LESS),
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(SEND_FEWER_HEADERS),
                _ => None,
            };
            (by_status, format!("{host} answered {refusal}"), tip)
        }
    }
}

/// 407: what the proxy asks for, and what to do about it.
fn of_proxy_authentication(schemes: &[String], had_credentials: bool) -> (String, Option<&'static str>) {
    let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic"));
    let asked = match schemes {
        [] => String::new(),
        schemes => format!("; it asks for {}", schemes.join(", ")),
    };
    match (has_basic, had_credentials) {
        (false, _) if !schemes.is_empty() => (asked, Some(RUN_LOCAL_PROXY)),
        (_, true) => (format!("{asked}, and refuses the user and password given"), Some(CHECK_PROXY_PASSWORD)),
        _ => (asked, None),
    }
}

/// A redirect that is not followed.
fn of_redirect(status: StatusCode, to: &str, place: &Place, host: &str) -> Told {
    let (what, own, tip) = match place {
        Place::Elsewhere => ("", &None, None),
        Place::Unencrypted => (", which is not encrypted", &None, Some(TRY_HTTPS)),
        Place::SchemeLost { own } => (", which is not encrypted", own, Some(USE_OWN_PATH)),
        Place::Inner { own } => (", which is on a private network", own, Some(USE_OWN_PATH)),
    };
    let (own, tip) = match (own, place) {
        (Some(own), _) => (format!("; the same path on the server itself is {own}"), tip),
        (None, Place::SchemeLost { .. } | Place::Inner { .. }) => (String::new(), Some(FORWARD_SCHEME)),
        (None, _) => (String::new(), tip),
    };
    (Code::Redirected, format!("{host} answered HTTP {} and points to {to}{what}{own}", status.as_u16()), tip)
}

/// The session was lost, and so was the one that replaced it, or it was too young to be replaced.
fn of_lost_session(refusal: &Refusal, lasted: Duration, host: &str) -> Told {
    let seconds = lasted.as_secs();
    let sentence = format!("{host} lost the session {seconds} s after it began: {refusal}");
    (Code::SessionLost, sentence, (lasted < SOON).then_some(SHARE_SESSIONS))
}

/// Reports a TLS failure: whose certificate was refused, or what the alert of the server proves.
fn of_tls(error: &reqwest::Error, certificate: Option<&CertificateInfo>, host: &str, cause: &str) -> Told {
    match tls_cause(error) {
        Some(rustls::Error::InvalidCertificate(fault)) => of_certificate(fault, certificate, host, cause),
        Some(rustls::Error::AlertReceived(alert)) => of_alert(*alert, host, cause),
        // The server chose what this program did not offer.
        Some(rustls::Error::PeerIncompatible(_)) => of_alert(AlertDescription::ProtocolVersion, host, cause),
        _ => (Code::TlsFailed, format!("no secure connection to {host}: {cause}"), None),
    }
}

/// An alert proves that the other side speaks TLS (RFC 8446 §6.2).
fn of_alert(alert: AlertDescription, host: &str, cause: &str) -> Told {
    use AlertDescription as Alert;
    let failed = |why: &str, tip| (Code::TlsFailed, format!("no secure connection to {host}: {why} ({cause})"), tip);
    match alert {
        Alert::CertificateRequired => {
            let sentence = format!("no secure connection to {host}: it wants a certificate from this side ({cause})");
            (Code::ClientCertificateNeeded, sentence, None)
        }
        // TLS 1.2 has no alert for a certificate that is missing.
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            let sentence =
                format!("no secure connection to {host}: it refuses the client certificate, or wants one ({cause})");
            (Code::ClientCertificateNeeded, sentence, None)
        }
        Alert::ProtocolVersion => failed("it offers only TLS versions that are too old", Some(OFFER_NEWER_TLS)),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            failed("it offers no TLS version or cipher that is safe today", Some(OFFER_NEWER_TLS))
        }
        Alert::UnrecognisedName => failed("it has no certificate for this name", Some(CHECK_HOST_NAME)),
        _ => (Code::TlsFailed, format!("no secure connection to {host}: {cause}"), None),
    }
}

fn of_certificate(fault: &CertificateError, certificate: Option<&CertificateInfo>, host: &str, cause: &str) -> Told {
    use CertificateError as Fault;
    match fault {
        Fault::Other(_) if cause.contains(OLD_CERTIFICATE) => {
            let sentence = format!("the certificate of {host} has the old format X.509 version 1{}", said(cause));
            (Code::CertificateNotTrusted, sentence, Some(RENEW_AS_VERSION_3))
        }
        // What an operating system's verifier has no other word for is `Other`.
        Fault::UnknownIssuer | Fault::Other(_) => {
            let why = if *fault == Fault::UnknownIssuer { String::new() } else { said(cause) };
            if cause.contains(AUTHORITY_AS_SERVER) {
                let whose = certificate.map(|shown| format!(" ({})", shown.subject)).unwrap_or_default();
                let sentence = format!(
                    "the certificate of {host} is an authority's own{whose}, trusted as a server's only if it is itself named{why}"
                );
                return (Code::CertificateNotTrusted, sentence, Some(NAME_ITSELF));
            }
            let issuer = match certificate {
                Some(shown) if shown.issuer == shown.subject => format!("itself ({})", shown.issuer),
                Some(shown) => shown.issuer.clone(),
                None => "somebody".to_owned(),
            };
            let sentence =
                format!("the certificate of {host} was issued by {issuer}, which this computer does not trust{why}");
            (Code::CertificateNotTrusted, sentence, None)
        }
        Fault::Expired | Fault::ExpiredContext { .. } => {
            let end = certificate.map(|shown| format!(" on {}", shown.not_after.strftime("%F")));
            let end = end.unwrap_or_else(|| said(cause));
            (Code::CertificateExpired, format!("the certificate of {host} has ended{end}"), None)
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            let begin = certificate.map(|shown| format!(" before {}", shown.not_before.strftime("%F")));
            let begin = begin.unwrap_or_else(|| said(cause));
            (Code::CertificateExpired, format!("the certificate of {host} is not good{begin}"), None)
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            let names = match certificate {
                Some(shown) if !shown.names.is_empty() => {
                    let more = if shown.names.len() > MOST_NAMES { " and others" } else { "" };
                    let names: Vec<_> = shown.names.iter().take(MOST_NAMES).map(String::as_str).collect();
                    format!("for {}{more}, and for no other name", names.join(", "))
                }
                Some(_) => "for no name at all".to_owned(),
                None => format!("not for this name: {cause}"),
            };
            (Code::CertificateWrongName, format!("the certificate of {host} is {names}"), None)
        }
        _ => (Code::TlsFailed, format!("no secure connection to {host}: {cause}"), None),
    }
}

fn said(cause: &str) -> String {
    format!(": {cause}")
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn certificate_of_version_1_has_its_own_tip() {
        // As webpki names it, which rustls hands on as another library's error.
        let fault = CertificateError::Other(rustls::OtherError(Arc::new(io::Error::other("old"))));
        let cause = "invalid peer certificate: Other(OtherError(UnsupportedCertVersion))";
        let (code, sentence, tip) = of_certificate(&fault, None, "a.example", cause);
        assert_eq!((code, tip), (Code::CertificateNotTrusted, Some(RENEW_AS_VERSION_3)));
        assert!(sentence.starts_with("the certificate of a.example has the old format X.509 version 1"), "{sentence}");
    }
}
