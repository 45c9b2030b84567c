//! The exit codes of `mcp-remote-client`.
//!
//! # Invariants
//!
//! - An exit code keeps its meaning, because people use it in scripts.

use crate::report::catalogue::{Code, Kind};

/// How a diagnosis, a call or a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
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
    pub(crate) fn of(code: Code) -> Self {
        match code.entry().kind {
            Kind::Network => Self::Network,
            Kind::SignIn => Self::SignIn,
            Kind::Local | Kind::Arguments => Self::Failed,
            Kind::Refusal => Self::Server,
        }
    }
}

/// Whether a report is about TLS.
pub(super) const fn is_tls(code: Code) -> bool {
    matches!(
        code,
        Code::TlsFailed
            | Code::CertificateNotTrusted
            | Code::CertificateExpired
            | Code::CertificateWrongName
            | Code::ClientCertificateNeeded
    )
}

/// Whether it is about the proxy.
pub(super) const fn is_proxy(code: Code) -> bool {
    matches!(code, Code::ProxyUnreachable | Code::ProxyRefused | Code::ProxyForbids)
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
