//! The exit codes of `mcp-remote-client`.
//!
//! Must never: mean another thing in another version; they are in people's scripts.

use crate::report::catalogue::{Kind, entry};

/// How a diagnosis, a call or a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All is well.
    Well = 0,
    /// Something failed: on this computer, in an entry of a host, or a tool that says so.
    Failed = 1,
    /// No sign-in: one is needed, or refused, or not possible; or a credential is refused.
    SignIn = 3,
    /// Name, connection, TLS, proxy, time-out.
    Network = 4,
    /// The server refuses, or is no MCP server.
    Server = 5,
}

impl Exit {
    /// By the code of the report.
    #[must_use]
    pub fn of(code: &str) -> Self {
        match entry(code).map(|entry| entry.kind) {
            Some(Kind::Network) => Self::Network,
            Some(Kind::SignIn) => Self::SignIn,
            Some(Kind::Local | Kind::Arguments) => Self::Failed,
            Some(Kind::Refusal) | None => Self::Server, // what is not ours is the server's own
        }
    }
}

/// Whether a report is about TLS.
#[must_use]
pub(super) fn is_tls(code: &str) -> bool {
    code.starts_with("tls_") || code.contains("certificate")
}

/// Whether it is about the proxy.
#[must_use]
pub(super) fn is_proxy(code: &str) -> bool {
    code.starts_with("proxy_")
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
