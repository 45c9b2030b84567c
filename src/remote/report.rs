//! Reports of failures at the remote end.
//!
//! # Invariants
//!
//! - A report names the server, and has the server's own words where there are some.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use rustls::{AlertDescription, CertificateError};

use super::error::Error;
use crate::{
    network::{
        certificate::CertificateInfo,
        failure::{tls_cause, wants_password},
    },
    report::{
        Code, Report,
        catalogue::{CHECK_ADDRESS, CHECK_HEADERS, NAME_ITSELF, STILL_TRIED},
    },
    text::{chain, deepest, host},
};

/// How many of a certificate's names are told: the rest says no more.
const MOST_NAMES: usize = 5;
/// webpki's word for an authority's certificate in the place of a server's (RFC 5280 §4.2.1.9).
/// `openssl req -x509` makes such ones.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

impl Report {
    /// Tells what happened at the remote end.
    pub(crate) fn of_remote(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let cause = deepest(error);
        let (code, sentence) = match error {
            // What speaks no TLS, or does not want to with us, hangs up.
            Error::Connect(_) if chain(error).contains("tls handshake eof") => {
                (Code::TlsFailed, format!("no secure connection to {host}: it hangs up in the TLS handshake"))
            }
            Error::Connect(_) => {
                // hyper-util's words, and rustls'; what stands behind them differs from system to system.
                let name = ["dns error", "dns name"].iter().any(|words| chain(error).contains(words));
                let code = if name { Code::NameNotFound } else { Code::CannotConnect };
                (code, format!("cannot connect to {host}: {cause}"))
            }
            Error::ProxyDown { proxy, .. } => (
                Code::ProxyUnreachable,
                format!("cannot connect to the proxy {proxy}, which is to lead to {host}: {cause}"),
            ),
            Error::Tls { source, certificate } => of_tls(source, certificate.as_deref(), &host, &cause),
            Error::Proxy { source, words } => {
                let code = if wants_password(source) { Code::ProxyRefused } else { Code::ProxyForbids };
                let cause = words.as_ref().unwrap_or(&cause);
                (code, format!("the proxy does not lead to {host}: {cause}"))
            }
            Error::Broken(_) => (
                Code::ConnectionBroken,
                format!("the connection to {host} broke before the answer was complete: {cause}"),
            ),
            Error::Silent { what, after } => {
                (Code::TimedOut, format!("{host} was silent: no {what} within {} s", after.as_secs_f32()))
            }
            Error::Refused(refusal) => (of_status(refusal.status), format!("{host} answered {refusal}")),
            Error::Unauthorized(error) => return Self::of_authorization(error, server),
            Error::SessionLost { refusal, lasted, .. } => {
                let seconds = lasted.as_secs();
                (Code::SessionLost, format!("{host} lost the session {seconds} s after it began: {refusal}"))
            }
            Error::NotResumed(last) => {
                let last = Self::of_remote(last, server);
                let sentence = format!("the answer broke off and could not be resumed: {}", last.sentence);
                (Code::ConnectionBroken, sentence)
            }
            Error::SpeaksHttpSse => (Code::NoTransport, format!("{host} speaks HTTP+SSE (MCP 2024-11-05) at this URL")),
            Error::NoNewSession(why) => {
                (Code::SessionLost, format!("{host} has lost the session and refuses a new one: {why}"))
            }
            Error::Redirected { status, to } => {
                (Code::Redirected, format!("{host} answered HTTP {} and points to {to}", status.as_u16()))
            }
            Error::NotMcp(what) => (Code::NotMcp, format!("{host} does not answer as an MCP server: {what}")),
            Error::BadMessage(malformed) => {
                (Code::BadMessage, format!("{host} sent an answer that is no message: {malformed}"))
            }
            Error::TooLarge { limit } => (Code::TooLarge, format!("{host} sent an answer of more than {limit} bytes")),
            Error::NoAnswer(what) => (Code::NoAnswer, format!("{host}: {what}")),
            Error::NoEndpoint(what) | Error::BadEndpoint(what) => (Code::NoEventStream, format!("{host}: {what}")),
            Error::LegacyServer { words } => {
                let words = words.as_ref().map_or_else(String::new, |words| format!(" ({words})"));
                let sentence = format!(
                    "protocol version not shared: this host asks in MCP 2026-07-28, and {host} speaks earlier versions only{words}"
                );
                (Code::ProtocolVersionNotShared, sentence)
            }
            Error::ModernServer { sentence, .. } => (Code::ProtocolVersionNotShared, sentence.clone()),
            Error::BothTransports { first, second } => {
                let (first, second) = (Self::of_remote(first, server), Self::of_remote(second, server));
                let (first, second) = (first.sentence, second.sentence);
                let both = if first == second { first } else { format!("{first}; {second}") };
                (Code::NoTransport, format!("neither transport works: {both}"))
            }
        };
        let status = error.status().map(|status| status.as_u16());
        let hint = match error {
            Error::Refused(refusal) if refusal.status == StatusCode::UNAUTHORIZED && refusal.had_headers => {
                Some(CHECK_HEADERS)
            }
            _ => cause.contains(AUTHORITY_AS_SERVER).then_some(NAME_ITSELF),
        };
        Self { status, ..Self::new(code, sentence, hint) }
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
            Error::Broken(_) | Error::NoAnswer(_) => Self { hint: Some(CHECK_ADDRESS.to_owned()), ..report },
            _ => report,
        }
    }
}

fn of_status(status: StatusCode) -> Code {
    match status.as_u16() {
        401 => Code::Unauthorized,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        407 => Code::ProxyRefused,
        429 => Code::TooManyRequests,
        // RFC 9110 §15.6.2: it does not know POST at all.
        501 => Code::NotMcp,
        400..=499 => Code::Refused,
        _ => Code::ServerFailed,
    }
}

/// TLS failed: whose certificate it was, as far as somebody has looked.
fn of_tls(error: &reqwest::Error, certificate: Option<&CertificateInfo>, host: &str, cause: &str) -> (Code, String) {
    use CertificateError as Fault;
    match tls_cause(error) {
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => (
            Code::ClientCertificateNeeded,
            format!("no secure connection to {host}: it wants a certificate from this side ({cause})"),
        ),
        // What an operating system's verifier has no other word for is `Other`.
        Some(rustls::Error::InvalidCertificate(fault @ (Fault::UnknownIssuer | Fault::Other(_)))) => {
            let why = if *fault == Fault::UnknownIssuer { String::new() } else { said(cause) };
            if cause.contains(AUTHORITY_AS_SERVER) {
                let whose = certificate.map(|shown| format!(" ({})", shown.subject)).unwrap_or_default();
                let sentence = format!(
                    "the certificate of {host} is an authority's own{whose}, trusted as a server's only if it is itself named{why}"
                );
                return (Code::CertificateNotTrusted, sentence);
            }
            let issuer = match certificate {
                Some(shown) if shown.issuer == shown.subject => format!("itself ({})", shown.issuer),
                Some(shown) => shown.issuer.clone(),
                None => "somebody".to_owned(),
            };
            (
                Code::CertificateNotTrusted,
                format!("the certificate of {host} was issued by {issuer}, which this computer does not trust{why}"),
            )
        }
        Some(rustls::Error::InvalidCertificate(Fault::Expired | Fault::ExpiredContext { .. })) => {
            let end = certificate.map(|shown| format!(" on {}", shown.not_after.strftime("%F")));
            (
                Code::CertificateExpired,
                format!("the certificate of {host} has ended{}", end.unwrap_or_else(|| said(cause))),
            )
        }
        Some(rustls::Error::InvalidCertificate(Fault::NotValidYet | Fault::NotValidYetContext { .. })) => {
            let begin = certificate.map(|shown| format!(" before {}", shown.not_before.strftime("%F")));
            let begin = begin.unwrap_or_else(|| said(cause));
            (Code::CertificateExpired, format!("the certificate of {host} is not good{begin}"))
        }
        Some(rustls::Error::InvalidCertificate(Fault::NotValidForName | Fault::NotValidForNameContext { .. })) => {
            let names = match certificate {
                Some(shown) if !shown.names.is_empty() => {
                    let more = if shown.names.len() > MOST_NAMES { " and others" } else { "" };
                    let names: Vec<_> = shown.names.iter().take(MOST_NAMES).map(String::as_str).collect();
                    format!("for {}{more}, and for no other name", names.join(", "))
                }
                Some(_) => "for no name at all".to_owned(),
                None => format!("not for this name: {cause}"),
            };
            (Code::CertificateWrongName, format!("the certificate of {host} is {names}"))
        }
        _ => (Code::TlsFailed, format!("no secure connection to {host}: {cause}")),
    }
}

fn said(cause: &str) -> String {
    format!(": {cause}")
}
