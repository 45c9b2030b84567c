//! Why there is no authorization: the kinds a caller chooses by. What the user sees of them, and
//! what to do, stands in [`crate::report`].
//!
//! # Invariants
//!
//! - No error holds a token, a code or a secret.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::StatusCode;

use crate::{status::Disposition, store::Unavailable};

/// What an authorization server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// RFC 7591.
    Registration,
    /// The page is probed before a person sees it.
    SignInPage,
    /// A person signs in.
    SignIn,
    /// RFC 6749 §4.1.3.
    CodeExchange,
    /// RFC 8628.
    DeviceSignIn,
    /// RFC 6749 §4.4.
    ClientSignIn,
    /// RFC 8693.
    TokenExchange,
    /// With an ID-JAG.
    IdJagSignIn,
    /// With a platform's assertion.
    WorkloadSignIn,
    /// RFC 6749 §6.
    Refresh,
    /// RFC 7009.
    Revocation,
    /// Tokens are looked at.
    Tokens,
    /// Any of them.
    Request,
}

impl Step {
    /// Whether it is done without a person.
    const fn needs_nobody(self) -> bool {
        matches!(
            self,
            Self::Refresh | Self::ClientSignIn | Self::TokenExchange | Self::IdJagSignIn | Self::WorkloadSignIn
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Registration => "the client registration",
            Self::SignInPage => "opening the sign-in page",
            Self::SignIn => "the sign-in",
            Self::CodeExchange => "the authorization code exchange",
            Self::DeviceSignIn => "the device code sign-in",
            Self::ClientSignIn => "the client credentials request",
            Self::TokenExchange => "the token exchange with the identity provider",
            Self::IdJagSignIn => "the sign-in with the identity provider's assertion",
            Self::WorkloadSignIn => "the sign-in with the platform's assertion",
            Self::Refresh => "the token refresh",
            Self::Revocation => "the token revocation",
            Self::Tokens => "the token request",
            Self::Request => "the request",
        })
    }
}

/// An error code of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// RFC 6749 §4.1.2.1.
    AccessDenied,
    /// RFC 8628 §3.5.
    AuthorizationPending,
    /// RFC 8628 §3.5.
    ExpiredToken,
    /// RFC 6749 §5.2.
    InvalidClient,
    /// RFC 6749 §5.2.
    InvalidGrant,
    /// RFC 7591 §3.2.2.
    InvalidRedirectUri,
    /// RFC 6749 §4.1.2.1, §5.2.
    InvalidScope,
    /// RFC 8707 §2.
    InvalidTarget,
    /// Google's.
    RedirectUriMismatch,
    /// RFC 6749 §4.1.2.1.
    ServerError,
    /// RFC 8628 §3.5.
    SlowDown,
    /// RFC 6749 §4.1.2.1.
    TemporarilyUnavailable,
    /// RFC 6749 §4.1.2.1, §5.2.
    UnauthorizedClient,
    /// RFC 7009 §2.2.1.
    UnsupportedTokenType,
    /// RFC 9449 §8.
    UseDpopNonce,
    /// Any other.
    Other(String),
}

impl ErrorCode {
    const NAMED: [(Self, &str); 15] = [
        (Self::AccessDenied, "access_denied"),
        (Self::AuthorizationPending, "authorization_pending"),
        (Self::ExpiredToken, "expired_token"),
        (Self::InvalidClient, "invalid_client"),
        (Self::InvalidGrant, "invalid_grant"),
        (Self::InvalidRedirectUri, "invalid_redirect_uri"),
        (Self::InvalidScope, "invalid_scope"),
        (Self::InvalidTarget, "invalid_target"),
        (Self::RedirectUriMismatch, "redirect_uri_mismatch"),
        (Self::ServerError, "server_error"),
        (Self::SlowDown, "slow_down"),
        (Self::TemporarilyUnavailable, "temporarily_unavailable"),
        (Self::UnauthorizedClient, "unauthorized_client"),
        (Self::UnsupportedTokenType, "unsupported_token_type"),
        (Self::UseDpopNonce, "use_dpop_nonce"),
    ];

    /// Whether the request itself is refused, for one of its parameters (RFC 6749 §4.1.2.1).
    pub(crate) fn is_of_request(&self) -> bool {
        matches!(self, Self::Other(code) if code == "invalid_request")
    }

    /// As the server wrote it.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            named => Self::NAMED.iter().find(|(code, _)| code == named).map_or("", |(_, text)| *text),
        }
    }
}

impl From<String> for ErrorCode {
    fn from(text: String) -> Self {
        let named = Self::NAMED.into_iter().find(|(_, name)| *name == text);
        named.map_or(Self::Other(text), |(code, _)| code)
    }
}

/// A failure to obtain authorization. Cloned to every request that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server wants a credential and says nowhere how one is obtained.
    #[error("the server requires a credential (HTTP 401) and supports no sign-in: {0}")]
    NotOffered(String),
    /// A metadata document is unusable, or none was found where there must be one.
    #[error("{0}")]
    Metadata(String),
    /// The metadata describe another resource than the server, and MUST NOT be used (RFC 9728 §3.3).
    #[error("the server's metadata is for another resource ({named})")]
    OtherResource {
        /// Which.
        named: String,
    },
    /// An authorization server has no metadata at any of the places where they may be.
    #[error("{issuer} publishes no authorization server metadata")]
    NoMetadata {
        /// The authorization server.
        issuer: String,
    },
    /// The place of a metadata document is closed to us, which leaves open whether there is one.
    #[error("the server rejected the request for the metadata at {place} (HTTP 403{})", quoted(words))]
    MetadataRefused {
        /// Which.
        place: String,
        /// The server's words.
        words: String,
    },
    /// A bot filter has answered in the place of a server.
    #[error("a bot filter in front of {host} blocked mcp-remote (HTTP {}{})", status.as_u16(), quoted(words))]
    Filtered {
        /// Whom it stands in front of.
        host: String,
        /// Its status.
        status: StatusCode,
        /// Its words.
        words: String,
    },
    /// The metadata of an authorization server name another issuer, and MUST NOT be used (RFC 8414 §3.3).
    #[error("the metadata at {place} names the issuer {published}, but mcp-remote asked for {named} there")]
    IssuerMismatch {
        /// Where they are.
        place: String,
        /// Whom they name.
        published: String,
        /// Who was asked for.
        named: String,
    },
    /// An endpoint redirects a request that is not sent to another place.
    #[error("{from} redirects {step} to {to}, which mcp-remote does not follow (HTTP {})", status.as_u16())]
    Moved {
        /// What was asked for.
        step: Step,
        /// Which redirect.
        status: StatusCode,
        /// Where.
        from: String,
        /// To where.
        to: String,
    },
    /// The authorization server registers no client at the moment.
    #[error("{issuer} is too busy to register a client{} ({why})", wait(*after))]
    RegistrationBusy {
        /// The authorization server.
        issuer: String,
        /// What it says.
        why: String,
        /// How long it asks to wait.
        after: Option<Duration>,
    },
    /// The metadata do not list S256 (MCP 2025-11-25, Authorization, Authorization Code Protection).
    #[error("{issuer} does not advertise PKCE with S256")]
    NoPkce {
        /// The authorization server.
        issuer: String,
    },
    /// A URL that another party named must not be requested.
    #[error("{what} is not usable: {why}")]
    Address {
        /// Which.
        what: String,
        /// What is wrong with it.
        why: String,
        /// Whether it is only nearer than the server, which the user may allow.
        near: bool,
    },
    /// There is no client ID, and the authorization server does not support dynamic client registration.
    #[error("{issuer} does not support dynamic client registration")]
    NoClient {
        /// The authorization server.
        issuer: String,
    },
    /// The sign-in page is neither the issuer's nor that of the party that gets the code (RFC 9700 §4.4).
    #[error("{issuer} sends you to sign in with {page}, which is another site")]
    ForeignPage {
        /// The authorization server.
        issuer: String,
        /// The host of the page.
        page: String,
    },
    /// A platform's assertion would go to whomever the server names.
    #[error("the server names the authorization server {named}, which the platform's assertion may not be for")]
    IssuerNotNamed {
        /// The authorization server.
        named: String,
    },
    /// The configured client belongs to another authorization server.
    #[error("your client ID was registered with {registered}, but the server now uses {named} for sign-ins")]
    OtherIssuer {
        /// Whose client it is.
        registered: String,
        /// Who asks for it.
        named: String,
    },
    /// The authorization server does not offer what the chosen grant needs.
    #[error("{issuer} {what}")]
    Unsupported {
        /// The authorization server.
        issuer: String,
        /// What it does not do.
        what: &'static str,
    },
    /// An error answer of the authorization server (RFC 6749 §4.1.2.1, §5.2; RFC 7591 §3.2.2).
    #[error("the authorization server rejected {step}: {}", code_and_words(error.as_str(), description.as_deref()))]
    Refused {
        /// What was asked for.
        step: Step,
        /// The error's code.
        error: ErrorCode,
        /// Its description, made fit for a line of text.
        description: Option<String>,
    },
    /// The authorization server does not accept the redirect URI (RFC 6749 §3.1.2.4, RFC 7591 §3.2.2).
    #[error("the authorization server rejected the redirect URI {redirect_uri}: {why}")]
    RedirectRefused {
        /// Ours.
        redirect_uri: String,
        /// In the authorization server's words.
        why: String,
    },
    /// An answer of the authorization server that makes no sense.
    #[error("{step} failed: {what}")]
    Answer {
        /// What was asked for.
        step: Step,
        /// What came, made fit for a line of text.
        what: String,
        /// Status, where there was one.
        status: Option<StatusCode>,
    },
    /// The authorization server has not processed a request, because it is busy (RFC 6585 §4, RFC 9110 §15.6.4).
    #[error("{step} failed: {what}{}", asked_wait(*after))]
    Busy {
        /// What was asked for.
        step: Step,
        /// What came, made fit for a line of text.
        what: String,
        /// How long it asks to wait.
        after: Option<Duration>,
    },
    /// The connection broke while a code was exchanged, so that the authorization server may have used it.
    #[error("the authorization server {host} did not complete the code exchange ({why}), and may have used the code")]
    CodeLost {
        /// The authorization server.
        host: String,
        /// What happened.
        why: String,
    },
    /// The redirect's `iss` is not the issuer that was asked (RFC 9207 §2.4).
    #[error("the response came from another authorization server, not from {expected}, so it is ignored")]
    WrongIssuer {
        /// Who was asked.
        expected: String,
    },
    /// The redirect's port cannot be had.
    #[error("cannot listen on callback port {port}")]
    Port {
        /// Which.
        port: u16,
        /// What the operating system says.
        source: Arc<std::io::Error>,
        /// Who has it, where that can be told.
        holder: Option<String>,
    },
    /// A person is to sign in, and has not yet.
    #[error("waiting for you to sign in")]
    Waiting {
        /// What to open, if it is known.
        prompt: Option<String>,
    },
    /// Another instance of mcp-remote has asked the person to sign in.
    #[error("another mcp-remote process is waiting for you to sign in")]
    AnotherAsks {
        /// What to open, if it is known.
        prompt: Option<String>,
    },
    /// Another process spends the refresh token, and is waited for.
    #[error("another process on this computer is refreshing the access token")]
    OtherRefreshes,
    /// Nobody came.
    #[error("you did not sign in within {} minutes", after.as_secs() / 60)]
    NobodyCame {
        /// How long was waited.
        after: Duration,
    },
    /// The server refuses a token that was obtained for it just now.
    #[error("the server rejected a token that was just issued for it ({0})")]
    TokenRefused(String),
    /// The server asks for more scopes after a request for more led nowhere.
    #[error("the server requires {}", repeated(scopes, *requested))]
    ScopeRefused {
        /// What the server asks for; empty if it does not say.
        scopes: String,
        /// Whether the authorization server was asked for all of them already.
        requested: bool,
    },
    /// The server asks for more scopes without naming them, and there are no others to ask for.
    #[error("the server requires more scopes than the token has, but does not name them, and {}", exhausted(*limit))]
    NoMoreScopes {
        /// Why there are none.
        limit: ScopeLimit,
    },
    /// The user's own credential was refused.
    #[error("the server rejected the credential passed with --header: {0}")]
    HeaderRefused(String),
    /// No connection to the authorization server, or it broke.
    #[error("{host} is not available: {why}")]
    Network {
        /// Whom.
        host: String,
        /// What happened.
        why: String,
        /// What became of the request.
        sent: Sent,
    },
    /// What is stored cannot be read now, and nobody is asked for what may be there.
    #[error("{0}")]
    Store(Unavailable),
    /// Something on this machine: a file, a key, a program.
    #[error("{0}")]
    Local(String),
}

/// What became of a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It may have arrived.
    Perhaps,
    /// There was no connection to send it on.
    NotConnected,
    /// It was not sent over a connection that cannot be trusted, which does not pass in a moment.
    NotTrusted,
}

/// Why there is no other scope to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScopeLimit {
    /// The user has named the scopes.
    Configured,
    /// The server's metadata lists no scopes.
    NoneListed,
    /// All that the server's metadata lists were asked for.
    AllRequested,
}

/// Returns what the server requires again.
fn repeated(scopes: &str, requested: bool) -> String {
    match (scopes, requested) {
        ("", _) => "more scopes again, which it does not name, after mcp-remote requested more".to_owned(),
        (scopes, true) => format!("the scope \"{scopes}\", which mcp-remote has already requested"),
        (scopes, false) => format!("the scope \"{scopes}\" after mcp-remote has requested more scopes several times"),
    }
}

/// Returns why there is no other scope to ask for.
const fn exhausted(limit: ScopeLimit) -> &'static str {
    match limit {
        ScopeLimit::Configured => "--static-oauth-client-metadata sets the scopes to request",
        ScopeLimit::NoneListed => "its metadata lists no scopes to request",
        ScopeLimit::AllRequested => "mcp-remote has already requested all scopes that its metadata lists",
    }
}

fn wait(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!(" for the next {}", in_words(after)))
}

fn asked_wait(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!(", and the authorization server asks to wait {}", in_words(after)))
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// Returns the status of an unexpected response, with the words that came with it.
pub(crate) fn status_and_words(status: StatusCode, words: &str) -> String {
    let words = if words.is_empty() { String::new() } else { format!(" (\"{words}\")") };
    format!("HTTP {}{words}", status.as_u16())
}

/// Returns the words of another party as they follow a status.
fn quoted(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(", \"{words}\"") }
}

/// Returns an error code as it is shown, with its description.
pub(crate) fn code_and_words(error: &str, description: Option<&str>) -> String {
    match description {
        Some(description) if !description.is_empty() => format!("{error} (\"{description}\")"),
        _ => error.to_owned(),
    }
}

impl Error {
    /// Returns an error answer to a step in which the redirect URI was named. No standard has a code for such a
    /// refusal but RFC 7591; elsewhere it is in the description (Entra: AADSTS50011).
    pub(crate) fn of_refusal(step: Step, error: ErrorCode, description: Option<String>, redirect_uri: &str) -> Self {
        let told = description.as_deref().unwrap_or_default().to_ascii_lowercase().replace(['_', '-', ' '], "");
        if matches!(error, ErrorCode::InvalidRedirectUri | ErrorCode::RedirectUriMismatch)
            || told.contains("redirecturi")
        {
            let why = code_and_words(error.as_str(), description.as_deref());
            return Self::RedirectRefused { redirect_uri: redirect_uri.to_owned(), why };
        }
        Self::Refused { step, error, description }
    }

    /// The same as an answer to this step.
    pub(crate) fn at(self, step: Step) -> Self {
        match self {
            Self::Refused { error, description, .. } => Self::Refused { step, error, description },
            Self::Answer { what, status, .. } => Self::Answer { step, what, status },
            Self::Busy { what, after, .. } => Self::Busy { step, what, after },
            Self::Moved { status, from, to, .. } => Self::Moved { step, status, from, to },
            error => error,
        }
    }

    /// Whether it is an error answer with this code.
    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Refused { error, .. } if *error == code)
    }

    /// Whether the authorization server does not know the client, or not as one for this.
    pub(crate) fn disowns_client(&self) -> bool {
        self.is(ErrorCode::InvalidClient) || self.is(ErrorCode::UnauthorizedClient)
    }

    /// Whether the client was refused for the way in which it authenticates, or for not doing so (RFC 6749 §5.2).
    pub(crate) fn is_of_client_authentication(&self) -> bool {
        const NAMES: [&str; 3] = ["client_id", "client_secret", "client authentication"];
        match self {
            Self::Refused { error: ErrorCode::InvalidClient, .. } => true,
            Self::Refused { error, description: Some(words), .. } => {
                let words = words.to_ascii_lowercase();
                error.is_of_request() && NAMES.iter().any(|name| words.contains(name))
            }
            Self::Answer { status, .. } => *status == Some(StatusCode::UNAUTHORIZED),
            _ => false,
        }
    }

    /// Whether the authorization server has said no, rather than nothing or that it is busy: then asking
    /// again is useless.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { error, .. } => {
                !matches!(error, ErrorCode::ServerError | ErrorCode::SlowDown | ErrorCode::TemporarilyUnavailable)
            }
            Self::RedirectRefused { .. } => true,
            Self::Answer { status: Some(status), .. } => {
                status.is_client_error() && !Disposition::of(*status).may_pass()
            }
            _ => false,
        }
    }

    /// Whether an attempt failed at its documents or at the registration, before a user was asked.
    pub(crate) fn is_of_preparation(&self) -> bool {
        matches!(
            self,
            Self::Refused { step: Step::Registration, .. }
                | Self::Answer { step: Step::Registration, .. }
                | Self::Moved { step: Step::Registration, .. }
                | Self::RegistrationBusy { .. }
                | Self::Metadata(_)
                | Self::MetadataRefused { .. }
                | Self::Filtered { .. }
                | Self::IssuerMismatch { .. }
                | Self::NoMetadata { .. }
                | Self::OtherResource { .. }
                | Self::ForeignPage { .. }
                | Self::IssuerNotNamed { .. }
        )
    }

    /// How long the failure of an attempt stands for the same attempt, where the error itself says so.
    pub(crate) fn stands_for(&self) -> Option<Duration> {
        match self {
            Self::RegistrationBusy { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether the same may succeed in a moment, without a person: the authorization server could not be reached, or was busy
    /// when it was asked for a token.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Answer { step, status: Some(status), .. } => {
                step.needs_nobody() && Disposition::of(*status).is_busy()
            }
            Self::Busy { step, .. } => step.needs_nobody(),
            _ => false,
        }
    }

    /// How long the authorization server asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether the authorization server has answered, and not only that it is busy at the moment.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Refused { error, .. } => !matches!(error, ErrorCode::SlowDown | ErrorCode::TemporarilyUnavailable),
            Self::RedirectRefused { .. } => true,
            // A gateway says 502 and 504, and nothing of the server behind it (RFC 9110 §15.6.3, §15.6.5).
            Self::Answer { status, .. } => status.is_none_or(|status| !Disposition::of(status).is_busy()),
            _ => false,
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(format!("{error:#}"))
    }
}
