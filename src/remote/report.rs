//! Reports of failures of the connection to the server.
//!
//! # Invariants
//!
//! - A report names the server once, and quotes the server's own words where there are any.

use std::{error::Error as StdError, time::Duration};

use reqwest::{StatusCode, Url};
use rustls::{AlertDescription, CertificateError};

use super::{
    error::{Error, Place, Refusal},
    evidence::Cause,
    retry::only_reads,
};
use crate::{
    config::is_loopback,
    network::{
        certificate::CertificateInfo,
        failure::{
            Http2Fault, NoRoots, alert_words, certificate_words, is_closed_in_handshake, is_head_too_large, is_of_name,
            speaks_no_tls, tls_cause, tls_words, wants_password, words,
        },
        gzip::ExpandsTooMuch,
        lookup::LookupForProxyFailed,
        proxy::ProxyRefusal,
    },
    report::{
        Code, Report,
        catalogue::{
            ALLOW_HOST, ALLOW_HTTP_SSE, ASK_FOR_KEY, CHECK_ADDRESS, CHECK_HEADERS, CHECK_HOST_NAME, CHECK_PORT,
            CHECK_PROXY_PASSWORD, CHECK_ROUTE, FORWARD_SCHEME, GIVE_BASIC, NAME_ITSELF, NAME_WHOLE_PATH,
            OFFER_NEWER_TLS, READ_AGAIN, RENEW_AS_VERSION_3, RESOLVE_AT_PROXY, RUN_LOCAL_PROXY, SEND_FEWER_HEADERS,
            SEND_LESS, SEND_SMALLER_HEAD, SEND_UNENCODED, SHARE_SESSIONS, STILL_TRIED, TRUST_SELF_SIGNED, TRY_HTTPS,
            URL_WITH_ADDRESS, URL_WITH_NAME, USE_HTTP1, USE_OWN_PATH, USE_PLAIN_HTTP,
        },
    },
    text::{self, host},
};

/// A session that is lost sooner than this, again, was started by another instance of the server.
const SOON: Duration = Duration::from_secs(30);
/// How many of a certificate's names are shown: the rest says no more.
const MOST_NAMES: usize = 5;

impl Report {
    /// Reports a failure of the connection to `server`.
    pub(crate) fn of_remote(error: &Error, server: &Url) -> Self {
        let host = host(server);
        let plain = |code, sentence| (code, sentence, None);
        let (code, sentence, tip) = match error {
            Error::Connect(source) if server.scheme() == "https" && is_closed_in_handshake(&**source) => {
                plain(Code::TlsFailed, format!("{host} closed the connection during the TLS handshake"))
            }
            Error::Connect(source) if LookupForProxyFailed::is_in(&**source) => {
                let name = server.host_str().unwrap_or(&host);
                let sentence = format!(
                    "cannot resolve the host name {name} on this computer, which the proxy requires: {}",
                    words(&**source)
                );
                (Code::NameNotFound, sentence, Some(RESOLVE_AT_PROXY))
            }
            Error::Connect(source) if is_of_name(&**source) => {
                let name = server.host_str().unwrap_or(&host);
                plain(Code::NameNotFound, format!("cannot resolve the host name {name}: {}", words(&**source)))
            }
            Error::Connect(source) => {
                plain(Code::CannotConnect, format!("cannot connect to {host}: {}", words(&**source)))
            }
            Error::ProxyDown { proxy, source } => plain(
                Code::ProxyUnreachable,
                format!("cannot connect to the proxy {proxy} for {host}: {}", words(&**source)),
            ),
            Error::Tls { source, certificate } => of_tls(&**source, certificate.as_deref(), server),
            Error::Proxy { source, refusal, had_credentials } if wants_password(&**source) => {
                let schemes = refusal.as_ref().map_or(&[][..], |refusal| &refusal.schemes);
                let (sentence, tip) = of_proxy_authentication(schemes, *had_credentials, &host);
                (Code::ProxyRefused, sentence, tip)
            }
            Error::Proxy { refusal, .. } => plain(Code::ProxyForbids, of_proxy(refusal.as_ref(), &host)),
            Error::Broken(source) if is_head_too_large(&**source) => (
                Code::TooLarge,
                format!("{host} sent more or longer response headers than mcp-remote accepts"),
                Some(SEND_SMALLER_HEAD),
            ),
            Error::Encoded(encoding) => {
                let sentence = format!(
                    "{host} sent a response with Content-Encoding {encoding}, which mcp-remote did not ask for"
                );
                (Code::BadMessage, sentence, Some(SEND_UNENCODED))
            }
            Error::Broken(source) => {
                let is_of_http2 = matches!(Http2Fault::of(&**source), Some(Http2Fault::Refused | Http2Fault::Broken));
                let (over, tip) = if is_of_http2 { ("HTTP/2 ", Some(USE_HTTP1)) } else { ("", None) };
                let cause = words(&**source);
                let sentence =
                    format!("the {over}connection to {host} broke before the response was complete: {cause}");
                (Code::ConnectionBroken, sentence, tip)
            }
            Error::NotBegun => {
                (Code::TimedOut, format!("{host} accepts no more concurrent requests over HTTP/2"), Some(USE_HTTP1))
            }
            Error::Silent { what, after } => {
                plain(Code::TimedOut, format!("{host} sent no {what} within {} s", after.as_secs_f32()))
            }
            Error::Refused(refusal) => of_refusal(refusal, server),
            Error::Unauthorized(error) => return Self::of_authorization(error, server),
            Error::SessionLost { refusal, lasted, .. } => of_lost_session(refusal, *lasted, &host),
            Error::StreamLost(lost) => return Self::of_remote(lost, server),
            Error::StreamDown(last) => {
                let last = Self::of_remote(last, server);
                let sentence = format!("the event stream broke and did not reopen in time: {}", last.sentence);
                return Self { sentence, ..last };
            }
            Error::NotResumed(last) => {
                let last = Self::of_remote(last, server);
                let sentence = format!("the response broke off and could not be resumed: {}", last.sentence);
                plain(Code::ConnectionBroken, sentence)
            }
            Error::SpeaksHttpSse => (
                Code::NoTransport,
                format!("{host} supports only HTTP+SSE (MCP 2024-11-05) at this URL"),
                Some(ALLOW_HTTP_SSE),
            ),
            Error::NoNewSession(why) => {
                plain(Code::SessionLost, format!("{host} lost the session and rejected a new one: {why}"))
            }
            Error::Redirected { status, to, place } => of_redirect(*status, to, place, &host),
            Error::WebSignIn { seen, .. } => {
                plain(Code::WebSignIn, format!("a web sign-in protects {host}, which {seen}"))
            }
            Error::NotMcp(what) => plain(Code::NotMcp, format!("{host} {what}")),
            Error::BadMessage(malformed) => {
                plain(Code::BadMessage, format!("{host} sent an invalid response: {malformed}"))
            }
            Error::TooLarge { limit } => {
                plain(Code::TooLarge, format!("{host} sent a response of more than {limit} bytes"))
            }
            Error::NoRoom { limit } => {
                plain(Code::TooLarge, format!("{host} has unfinished responses of more than {limit} bytes in total"))
            }
            Error::Expands => plain(Code::BadMessage, format!("{host} sent an invalid response: {ExpandsTooMuch}")),
            Error::NoAnswer(what) => plain(Code::NoAnswer, format!("{host} {what}")),
            Error::NoEndpoint(what) | Error::BadEndpoint(what) => plain(Code::NoEventStream, format!("{host} {what}")),
            Error::LegacyServer { words } => {
                let words = words.as_ref().map_or_else(String::new, |words| format!(" (\"{words}\")"));
                let sentence = format!(
                    "protocol version not shared: the host uses MCP 2026-07-28, and {host} supports only earlier versions{words}"
                );
                plain(Code::ProtocolVersionNotShared, sentence)
            }
            Error::NotLegacy { words, .. } => {
                plain(Code::ProtocolVersionNotShared, format!("{host} rejected initialize: {words}"))
            }
            Error::ModernServer { sentence, .. } => plain(Code::ProtocolVersionNotShared, sentence.clone()),
            Error::BothTransports { first, second } => {
                let both = [Self::of_remote(first, server), Self::of_remote(second, server)];
                let tip = both.iter().find(|one| one.is_exact()).and_then(|one| one.hint.clone());
                let [first, second] = both.map(|one| one.sentence);
                let both = if first == second { first } else { format!("{first}, then {}", after(&second, &host)) };
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

    /// The same for a request with this method. One that only reads has changed nothing at the server.
    pub(crate) fn of_request(error: &Error, server: &Url, method: Option<&str>) -> Self {
        let report = Self::of_remote(error, server);
        let may_have_run = matches!(report.code, Code::ConnectionBroken | Code::NoAnswer) && !report.is_exact();
        if may_have_run && method.is_some_and(only_reads) {
            Self { hint: Some(READ_AGAIN.to_owned()), ..report }
        } else {
            report
        }
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

/// Code and sentence of a report; the tip, if it is more exact than the code's own.
type Parts = (Code, String, Option<&'static str>);

/// Returns a sentence about `host` as it follows another one about the same host.
fn after(sentence: &str, host: &str) -> String {
    let rest = sentence.strip_prefix(host).map_or(sentence, str::trim_start);
    rest.replace(host, "the server")
}

/// A status that is no success, by what the answer proves, or else by the status alone.
fn of_refusal(refusal: &Refusal, server: &Url) -> Parts {
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
            (Code::WebSignIn, format!("a web sign-in protects {host}, which answered {refusal}"), None)
        }
        Some(Cause::BotFilter) => (
            Code::BotFilter,
            format!("a bot filter in front of {host} blocked mcp-remote and answered {refusal}"),
            None,
        ),
        Some(Cause::NoRoute) => {
            let path = server.path();
            let sentence =
                format!("the API gateway at {host} has no route with the path {path} and answered {refusal}");
            (Code::NotFound, sentence, Some(CHECK_ROUTE))
        }
        Some(Cause::HostNotAllowed) => {
            let tip = match server.host_str() {
                Some("localhost") => URL_WITH_ADDRESS,
                _ if is_loopback(server) => URL_WITH_NAME,
                _ => ALLOW_HOST,
            };
            (by_status, format!("the server does not allow the host name {host} and answered {refusal}"), Some(tip))
        }
        Some(Cause::OtherSchemes(schemes)) => {
            let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic"));
            let schemes = text::one_line(schemes.join(", ").as_bytes());
            let (more, tip) = match (refusal.had_headers, has_basic) {
                (true, true) => ("", CHECK_HEADERS),
                (false, true) => ("", GIVE_BASIC),
                (_, false) => (", which mcp-remote does not support", ASK_FOR_KEY),
            };
            let sentence = format!("{host} requires {schemes} authentication{more}, and answered {refusal}");
            (by_status, sentence, Some(tip))
        }
        Some(Cause::Proxy { schemes, had_credentials }) => {
            let (sentence, tip) = of_proxy_authentication(schemes, *had_credentials, &host);
            (by_status, format!("{sentence}: {refusal}"), tip)
        }
        Some(Cause::Endpoint(path)) => {
            let path = text::one_line(path.as_bytes());
            let sentence = format!("the event stream of {host} named the endpoint {path}, which answered {refusal}");
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

/// Returns the sentence for a proxy that refused a tunnel.
fn of_proxy(refusal: Option<&ProxyRefusal>, host: &str) -> String {
    let words = refusal.map_or_else(String::new, |refusal| format!(" (\"{}\")", refusal.words));
    format!("the proxy refused to connect to {host}{words}")
}

/// Returns the sentence and the tip for a proxy that answered 407.
fn of_proxy_authentication(schemes: &[String], had_credentials: bool, host: &str) -> (String, Option<&'static str>) {
    let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("Basic"));
    let requires = || {
        let which = if schemes.is_empty() { String::new() } else { format!(" ({})", schemes.join(", ")) };
        format!("the proxy requires authentication{which} to connect to {host}")
    };
    match (has_basic, had_credentials) {
        (false, _) if !schemes.is_empty() => (requires(), Some(RUN_LOCAL_PROXY)),
        (_, true) => {
            let sentence = format!("the proxy rejected the user name and password that it got to connect to {host}");
            (sentence, Some(CHECK_PROXY_PASSWORD))
        }
        _ => (requires(), None),
    }
}

/// A redirect that is not followed.
fn of_redirect(status: StatusCode, to: &str, place: &Place, host: &str) -> Parts {
    let (what, own, tip) = match place {
        Place::Elsewhere => ("", &None, None),
        Place::Unencrypted => (", which is not encrypted", &None, Some(TRY_HTTPS)),
        Place::SchemeLost { own } => (", which is not encrypted", own, Some(USE_OWN_PATH)),
        Place::Inner { own } => (", which is on a private network", own, Some(USE_OWN_PATH)),
    };
    let status = status.as_u16();
    let (also, tip) = match (own, place) {
        (Some(own), _) => (format!(" (the same path on the server: {own})"), tip),
        (None, Place::SchemeLost { .. } | Place::Inner { .. }) => (String::new(), Some(FORWARD_SCHEME)),
        (None, _) => (String::new(), tip),
    };
    let end = if what.is_empty() { " instead of answering" } else { "" };
    (Code::Redirected, format!("{host} redirects (HTTP {status}) to {to}{what}{also}{end}"), tip)
}

/// The session was lost, and so was the one that replaced it, or it was too young to be replaced.
fn of_lost_session(refusal: &Refusal, lasted: Duration, host: &str) -> Parts {
    let seconds = lasted.as_secs();
    let sentence = format!("{host} lost the session {seconds} s after it began: {refusal}");
    (Code::SessionLost, sentence, (lasted < SOON).then_some(SHARE_SESSIONS))
}

/// Reports a TLS failure: whose certificate was rejected, or what the alert of the server proves.
fn of_tls(error: &(dyn StdError + 'static), certificate: Option<&CertificateInfo>, server: &Url) -> Parts {
    let host = host(server);
    match tls_cause(error) {
        Some(rustls::Error::InvalidCertificate(fault)) => of_certificate(fault, certificate, &host),
        Some(rustls::Error::AlertReceived(alert)) => of_alert(*alert, &host),
        // The server chose what this program did not offer.
        Some(rustls::Error::PeerIncompatible(_)) => of_alert(AlertDescription::ProtocolVersion, &host),
        Some(cause) if NoRoots::is(cause) => {
            (Code::NoCaCertificates, format!("cannot check the certificate of {host}, because {NoRoots}"), None)
        }
        Some(cause) if speaks_no_tls(cause) => {
            let tip = if is_loopback(server) { USE_PLAIN_HTTP } else { CHECK_PORT };
            (Code::TlsFailed, format!("the server at {host} speaks http, not https"), Some(tip))
        }
        Some(cause) => (Code::TlsFailed, in_handshake(&host, &tls_words(cause)), None),
        None => (Code::TlsFailed, in_handshake(&host, &words(error)), None),
    }
}

fn in_handshake(host: &str, why: &str) -> String {
    format!("the TLS handshake with {host} failed: {why}")
}

/// Reports an alert, which proves that the other side speaks TLS (RFC 8446 §6.2).
fn of_alert(alert: AlertDescription, host: &str) -> Parts {
    use AlertDescription as Alert;
    let tip = match alert {
        Alert::CertificateRequired => {
            return (Code::ClientCertificateNeeded, format!("{host} requires a client certificate"), None);
        }
        // TLS 1.2 has no alert for a certificate that is missing.
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            let sentence = format!("{host} rejected the client certificate, or requires one");
            return (Code::ClientCertificateNeeded, sentence, None);
        }
        Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => Some(OFFER_NEWER_TLS),
        Alert::UnrecognisedName => Some(CHECK_HOST_NAME),
        _ => None,
    };
    (Code::TlsFailed, in_handshake(host, &alert_words(alert)), tip)
}

fn of_certificate(fault: &CertificateError, certificate: Option<&CertificateInfo>, host: &str) -> Parts {
    use CertificateError as Fault;
    match (fault, certificate) {
        (Fault::Other(_), Some(shown)) if shown.is_version_1 => {
            let sentence = format!("the certificate of {host} has the outdated format X.509 version 1");
            (Code::CertificateNotTrusted, sentence, Some(RENEW_AS_VERSION_3))
        }
        // What the verifier of an operating system has no other word for is `Other`.
        (Fault::UnknownIssuer | Fault::Other(_), Some(shown)) if shown.is_self_signed() => {
            let sentence = format!("the certificate of {host} {}", shown.distrust());
            (Code::CertificateNotTrusted, sentence, Some(TRUST_SELF_SIGNED))
        }
        (Fault::Other(_), Some(shown)) if shown.is_authority => {
            let sentence =
                format!("the certificate of {host} belongs to a certificate authority (subject: {})", shown.subject);
            (Code::CertificateNotTrusted, sentence, Some(NAME_ITSELF))
        }
        (Fault::UnknownIssuer | Fault::Other(_), Some(shown)) => {
            (Code::CertificateNotTrusted, format!("the certificate of {host} {}", shown.distrust()), None)
        }
        (Fault::UnknownIssuer | Fault::Other(_), None) => {
            (Code::CertificateNotTrusted, format!("this computer does not trust the certificate of {host}"), None)
        }
        (Fault::Expired | Fault::ExpiredContext { .. }, _) => {
            let end = certificate.map(|shown| format!(" on {}", shown.not_after.strftime("%F"))).unwrap_or_default();
            (Code::CertificateExpired, format!("the certificate of {host} expired{end}"), None)
        }
        (Fault::NotValidYet | Fault::NotValidYetContext { .. }, _) => {
            let begin = certificate.map(|shown| format!("before {}", shown.not_before.strftime("%F")));
            let begin = begin.unwrap_or_else(|| "yet".to_owned());
            (Code::CertificateExpired, format!("the certificate of {host} is not valid {begin}"), None)
        }
        (Fault::NotValidForName | Fault::NotValidForNameContext { .. }, _) => {
            let names = match certificate {
                Some(shown) if !shown.names.is_empty() => {
                    let more = if shown.names.len() > MOST_NAMES { " and other names" } else { "" };
                    let names: Vec<_> = shown.names.iter().take(MOST_NAMES).map(String::as_str).collect();
                    format!("is only valid for {}{more}", names.join(", "))
                }
                Some(_) => "names no host".to_owned(),
                None => "is for another host name".to_owned(),
            };
            (Code::CertificateWrongName, format!("the certificate of {host} {names}"), None)
        }
        _ => (Code::TlsFailed, format!("the certificate of {host} {}", certificate_words(fault)), None),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use jiff::Timestamp;

    use super::*;

    fn certificate(subject: &str) -> CertificateInfo {
        CertificateInfo {
            issuer: "Example CA".to_owned(),
            subject: subject.to_owned(),
            names: Vec::new(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::UNIX_EPOCH,
            is_version_1: false,
            is_authority: false,
        }
    }

    /// As rustls hands on what it has no word for.
    fn other() -> CertificateError {
        CertificateError::Other(rustls::OtherError(Arc::new(io::Error::other("CaUsedAsEndEntity"))))
    }

    #[test]
    fn rejected_certificate_has_its_own_tip() {
        let old = CertificateInfo { is_version_1: true, ..certificate("a.example") };
        let authority = CertificateInfo { is_authority: true, ..certificate("Other CA") };
        for (fault, info, words, tip) in [
            (other(), Some(old), "has the outdated format X.509 version 1", Some(RENEW_AS_VERSION_3)),
            (other(), Some(certificate("Example CA")), "is self-signed (subject: Example CA)", Some(TRUST_SELF_SIGNED)),
            (
                CertificateError::UnknownIssuer,
                Some(certificate("Example CA")),
                "is self-signed (subject: Example CA)",
                Some(TRUST_SELF_SIGNED),
            ),
            (other(), Some(authority), "belongs to a certificate authority (subject: Other CA)", Some(NAME_ITSELF)),
            (
                other(),
                Some(certificate("a.example")),
                "was issued by Example CA, which this computer does not trust",
                None,
            ),
        ] {
            let (code, sentence, found) = of_certificate(&fault, info.as_ref(), "a.example");
            assert_eq!((code, found), (Code::CertificateNotTrusted, tip), "{sentence}");
            assert_eq!(sentence, format!("the certificate of a.example {words}"));
        }
        let (_, sentence, _) = of_certificate(&other(), None, "a.example");
        assert_eq!(sentence, "this computer does not trust the certificate of a.example");
    }

    #[test]
    fn second_sentence_does_not_repeat_the_host() {
        assert_eq!(after("a.example:1 answered HTTP 404", "a.example:1"), "answered HTTP 404");
        assert_eq!(after("a bot filter blocks a.example:1", "a.example:1"), "a bot filter blocks the server");
    }
}
