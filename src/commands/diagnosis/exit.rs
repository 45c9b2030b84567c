//! The exit codes of `mcp-remote-client`.
//!
//! # Invariants
//!
//! - An exit code keeps its meaning, because people use it in scripts.

use crate::report::catalogue::{Code, Kind};

/// How a diagnosis, a call or a reading ended; a greater one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// All checks passed.
    Well = 0,
    /// Something failed: on this computer, in an entry of a host, or a tool that reports an error.
    Failed = 1,
    /// The arguments of an entry are wrong; those of this command never get here.
    Arguments = 2,
    /// No sign-in: it is needed, refused or not possible; or the server rejected a credential.
    SignIn = 3,
    /// DNS, connection, TLS, proxy, timeout.
    Network = 4,
    /// The server refused, or is not an MCP server.
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
            | Code::NoCaCertificates
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
