//! The exit codes of `mcp-remote-client`.
//!
//! Must never: mean another thing in another version; they are in people's scripts.

/// How a diagnosis, a call or a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All is well.
    Well = 0,
    /// Something failed: an entry of a host, or a tool that says so.
    Failed = 1,
    /// A sign-in is needed, or was refused; or a credential was.
    SignIn = 3,
    /// Name, connection, TLS, proxy, time-out.
    Network = 4,
    /// The server or its authorization server refused, or is no MCP server.
    Server = 5,
}

impl Exit {
    /// By the code of the report.
    #[must_use]
    pub fn of(code: &str) -> Self {
        match code {
            "sign_in_needed" | "sign_in_refused" | "sign_in_failed" | "unauthorized" | "credential_refused"
            | "token_refused" | "insufficient_scope" | "port_taken" => Self::SignIn,
            "name_not_found"
            | "cannot_connect"
            | "proxy_refused"
            | "timed_out"
            | "connection_broken"
            | "authorization_server_unreachable" => Self::Network,
            code if is_tls(code) => Self::Network,
            _ => Self::Server,
        }
    }
}

/// Whether a report is about TLS.
#[must_use]
pub(super) fn is_tls(code: &str) -> bool {
    code.starts_with("tls_") || code.starts_with("certificate_")
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
