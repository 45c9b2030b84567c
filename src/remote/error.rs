//! The kinds of failure at the remote end, by which callers decide. Their reports are in `report.rs`.
//!
//! # Invariants
//!
//! - An error that says that nothing was sent is never one after which a message may have been sent.
//! - No error prints a secret of the user: what a server says is masked when the error is made.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url};
use tokio::time::Instant;

use super::evidence::Cause;
use crate::{
    message::{Id, Malformed, Message, Shape},
    network::{
        ClientFactory,
        certificate::CertificateInfo,
        failure::{BodyError, RequestError, refused_by_proxy, tls_cause, wants_password},
        gzip::{ExpandsTooMuch, expands_too_much},
        lookup::LookupForProxyFailed,
        proxy::{ProxyRefusal, UnreachableByProxy, host_and_port},
    },
    oauth,
    secret::Secret,
    status::Disposition,
};

/// What a library says of a failed request.
pub(crate) type Source = Box<dyn StdError + Send + Sync>;

/// A failure at the remote end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection came about, so nothing was sent: any message may be tried again.
    #[error("cannot connect")]
    Connect(#[source] Source),
    /// The same of the proxy that is to lead to the server.
    #[error("cannot connect to the proxy {proxy}")]
    ProxyDown {
        /// What happened.
        #[source]
        source: Source,
        /// Host and port.
        proxy: String,
    },
    /// TLS failed, on our side or the server's: trying again would fail again.
    #[error("TLS failed")]
    Tls {
        /// What TLS says.
        source: Source,
        /// What the server shows, where that is the reason and somebody has looked.
        certificate: Option<Box<CertificateInfo>>,
    },
    /// The proxy refuses to lead to the server: trying again would fail again.
    #[error("the proxy refused to connect")]
    Proxy {
        /// What the client says.
        source: Source,
        /// What the proxy says, where somebody has asked it.
        refusal: Option<ProxyRefusal>,
        /// Whether user and password of the proxy's URL were sent.
        had_credentials: bool,
    },
    /// The connection broke after the request may have gone out.
    #[error("the connection broke")]
    Broken(#[source] Source),
    /// The server has not begun the request, again and again: it did not run.
    #[error("the server accepts no more concurrent requests")]
    NotBegun,
    /// Nothing came for this long.
    #[error("the server sent no {what} within {} s", after.as_secs_f32())]
    Silent {
        /// What was waited for.
        what: &'static str,
        /// The limit that was reached.
        after: Duration,
    },
    /// An HTTP status that is no success.
    #[error("{}", .0)]
    Refused(Box<Refusal>),
    /// The server asks for authorization, and there is none.
    #[error("{0}")]
    Unauthorized(Box<oauth::error::Error>),
    /// The server no longer knows the session; a new one may take the message.
    #[error("the server lost the session")]
    SessionLost {
        /// How the server says so.
        refusal: Box<Refusal>,
        /// Whether its words name the session, of which the host does not know.
        is_named: bool,
        /// How long the session lasted.
        lasted: Duration,
    },
    /// An answer's stream broke off, and could not be resumed.
    #[error("the response broke off and could not be resumed: {0}")]
    NotResumed(Box<Self>),
    /// The session was lost and cannot be had back.
    #[error("the server lost the session and rejected a new one: {0}")]
    NoNewSession(String),
    /// The server is at another place, and what goes there is for the user to say.
    #[error("the server redirects to {to}")]
    Redirected {
        /// Status of the redirect.
        status: StatusCode,
        /// The `Location`, without anything after the path.
        to: String,
        /// What is wrong with it.
        place: Place,
    },
    /// A sign-in for people stands in front of the server.
    #[error("a web sign-in protects the server, which {seen}")]
    WebSignIn {
        /// Of the answer.
        status: StatusCode,
        /// What the answer did.
        seen: String,
    },
    /// A response that is neither JSON nor an event stream: what the server did.
    #[error("the server {0}")]
    NotMcp(String),
    /// A JSON answer that is none.
    #[error("the server sent an invalid response: {0}")]
    BadMessage(Malformed),
    /// A body in an encoding that was not asked for.
    #[error("the response has Content-Encoding {0}, which mcp-remote did not ask for")]
    Encoded(String),
    /// An answer or event beyond the limit.
    #[error("the response is longer than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The responses in flight take all the memory that there is for them.
    #[error("the responses in flight are longer than {limit} bytes in total")]
    NoRoom {
        /// In bytes.
        limit: usize,
    },
    /// A compressed body that expands more than any message does.
    #[error("{}", ExpandsTooMuch)]
    Expands,
    /// The server completed its response without an answer: what it did instead.
    #[error("the server {0}")]
    NoAnswer(&'static str),
    /// The answer to a POST is the event stream of the other transport.
    #[error("the server supports only HTTP+SSE (MCP 2024-11-05) at this URL")]
    SpeaksHttpSse,
    /// HTTP+SSE: the stream broke off and was not open again in time.
    #[error("the event stream broke and did not reopen in time: {0}")]
    StreamDown(Arc<Self>),
    /// The event stream that was to bring the answer was lost; the request may have run.
    #[error("{0}")]
    StreamLost(Arc<Self>),
    /// HTTP+SSE: the stream did not name an endpoint; what the server did instead.
    #[error("the server {0}")]
    NoEndpoint(String),
    /// HTTP+SSE: the endpoint is not a URL, or one elsewhere; what the server did.
    #[error("the server {0}")]
    BadEndpoint(String),
    /// The server speaks legacy versions only, and was asked in a modern one.
    #[error("the server does not support MCP 2026-07-28{}", words.as_ref().map_or_else(String::new, |words| format!(": {words}")))]
    LegacyServer {
        /// What it has answered, if it was asked now.
        words: Option<String>,
    },
    /// The server has answered `initialize` as modern servers do.
    #[error("the server rejected initialize: {words}")]
    NotLegacy {
        /// The answer.
        answer: Box<Message>,
        /// What the server says in it, for users.
        words: String,
    },
    /// The server speaks modern versions only, and was asked with `initialize`.
    #[error("{sentence}")]
    ModernServer {
        /// What is reported.
        sentence: String,
        /// The same as a JSON-RPC error, with the server's code and data.
        answer: Option<Box<Message>>,
    },
    /// Neither transport was accepted.
    #[error("neither transport works: {first}; {second}")]
    BothTransports {
        /// What the first one met.
        first: Box<Self>,
        /// What the second one met.
        second: Box<Self>,
    },
}

/// An HTTP status that is no success, and what came with it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// `Retry-After` (RFC 9110 §10.2.3), from now.
    pub retry_after: Option<Duration>,
    /// The beginning of the body, or the title of its page; masked, and made fit for a line of text.
    pub text: String,
    /// The same, not masked: what the refusal is judged by.
    pub said: Secret<String>,
    /// Whether headers of the user's own went with the request.
    pub had_headers: bool,
    /// The body, where it is a JSON-RPC response.
    pub answer: Option<Message>,
    /// Why, if the response proves more than its status does.
    pub cause: Option<Cause>,
    /// Since when this program has the credential that went with the request.
    pub credential_since: Option<Instant>,
}

/// Where a redirect leads that is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To another server, or with another method.
    Elsewhere,
    /// To another server, without TLS.
    Unencrypted,
    /// To the same host without TLS. `own` is the same path on the server's origin, if it was not asked there already.
    SchemeLost {
        /// A URL.
        own: Option<String>,
    },
    /// Into a private network, which the server itself is not in.
    Inner {
        /// As above.
        own: Option<String>,
    },
}

impl Refusal {
    /// Whether the body is the server's answer to a request of this very message: then it has
    /// understood it, and may have acted on it.
    pub(crate) fn answers(&self, message: &Message) -> bool {
        match self.answer.as_ref().map(|answer| &answer.shape) {
            Some(Shape::Response { id: Some(id) }) => message.requests().any(|asked| asked.matches_loosely(id)),
            _ => false,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "HTTP {}", self.status.as_str())?;
        if let Some(reason) = self.status.canonical_reason() {
            write!(formatter, " {reason}")?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(formatter, " (\"{}\")", self.text) }
    }
}

impl Error {
    /// Of a request that got no response.
    pub(crate) fn of_request(error: RequestError) -> Self {
        match (tls_cause(&error).is_some(), refused_by_proxy(&error), matches!(error, RequestError::Connect(_))) {
            (true, _, _) => Self::Tls { source: error.into(), certificate: None },
            (_, true, _) => Self::Proxy { source: error.into(), refusal: None, had_credentials: false },
            (_, _, true) => Self::Connect(error.into()),
            (_, _, false) => Self::Broken(error.into()),
        }
    }

    /// Of a response whose body broke off.
    pub(crate) fn of_body(error: BodyError) -> Self {
        if expands_too_much(&*error) {
            Self::Expands
        } else if tls_cause(&*error).is_some() {
            Self::Tls { source: error, certificate: None }
        } else {
            Self::Broken(error)
        }
    }

    /// Adds what the error of the failed connection does not carry: whether it was a connection to a proxy, which
    /// certificate was refused, and what a proxy had to say.
    pub(crate) async fn looked_into(self, server: &Url, network: &ClientFactory) -> Self {
        match self {
            Self::Connect(source) => match network.proxy_to(server) {
                Some(proxy) if !LookupForProxyFailed::is_in(&*source) => {
                    let (_, port) = host_and_port(&proxy);
                    Self::ProxyDown { source, proxy: format!("{}:{port}", proxy.uri().host().unwrap_or_default()) }
                }
                _ => Self::Connect(source),
            },
            Self::Tls { source, .. } if matches!(tls_cause(&*source), Some(rustls::Error::InvalidCertificate(_))) => {
                let certificate = network.refused_certificate(server).map(Box::new);
                Self::Tls { source, certificate }
            }
            Self::Proxy { source, .. } => {
                let with_credential = !wants_password(&*source);
                let refusal = network.refusal_of_proxy(server, with_credential).await;
                if let Some(ProxyRefusal { words, status: Some(status), .. }) = &refusal
                    && Disposition::of(*status) == Disposition::Busy
                {
                    return Self::Connect(UnreachableByProxy(words.clone()).into());
                }
                let had_credentials = network.proxy_to(server).is_some_and(|proxy| proxy.basic_auth().is_some());
                Self::Proxy { source, refusal, had_credentials }
            }
            error => error,
        }
    }

    /// The status, where there was one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refusal) | Self::SessionLost { refusal, .. } => Some(refusal.status),
            Self::Redirected { status, .. } | Self::WebSignIn { status, .. } => Some(*status),
            Self::BothTransports { first, .. } => first.status(),
            _ => None,
        }
    }

    /// Whether the connection ended before anything of the request went out.
    pub(crate) fn is_of_unsent(&self) -> bool {
        matches!(self, Self::Broken(source) if matches!(source.downcast_ref(), Some(RequestError::Unsent(_))))
    }

    /// Whether the same request may succeed later: the server could not be reached, broke off or is busy.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::ProxyDown { .. }
            | Self::Broken(_)
            | Self::NotBegun
            | Self::Silent { .. }
            | Self::NoAnswer(_)
            | Self::NotResumed(_) => true,
            Self::Unauthorized(error) => error.may_pass(),
            Self::Refused(refusal) => Disposition::of(refusal.status).may_pass(),
            Self::BothTransports { first, second } => first.may_pass() || second.may_pass(),
            _ => false,
        }
    }

    /// Whether there were too many requests for the server.
    pub(crate) fn is_throttled(&self) -> bool {
        matches!(self, Self::Refused(refusal) if Disposition::of(refusal.status) == Disposition::Throttled)
    }

    /// Whether the server has refused a message as one that it does not know: it was not asked in its own way.
    pub(crate) fn is_not_understood(&self, message: &Message) -> bool {
        match self {
            Self::Refused(refusal) => {
                let status = refusal.status;
                let names_method =
                    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
                names_method && !refusal.answers(message)
            }
            Self::NotLegacy { .. } => true,
            Self::BothTransports { first, second } => {
                first.is_not_understood(message) || second.is_not_understood(message)
            }
            _ => false,
        }
    }

    /// How long the server asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Unauthorized(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The answer to the host: the server's own words, if they are for one request only.
    pub(crate) fn answer_to(&self, unanswered: &[Id]) -> Option<Message> {
        match unanswered {
            [id] => Some(self.answer()?.with_id(id)),
            _ => None,
        }
    }

    /// The server's own JSON-RPC answer, where it came with a status that is no success.
    pub(crate) fn answer(&self) -> Option<&Message> {
        match self {
            Self::Refused(refusal) => refusal.answer.as_ref(),
            Self::SessionLost { refusal, is_named: false, .. } => refusal.answer.as_ref(),
            Self::ModernServer { answer, .. } => answer.as_deref(),
            Self::NotLegacy { answer, .. } => Some(answer),
            _ => None,
        }
    }
}

/// Scheme, host and port: what headers, cookies and tokens are bound to (RFC 6454 §4).
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}
