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
        match code {
            "unauthorized" | "credential_refused" | "token_refused" | "insufficient_scope" | "port_taken"
            | "no_client" | "other_issuer" | "no_pkce" | "wrong_issuer" | "bad_metadata" | "bad_address" => {
                Self::SignIn
            }
            code if code.starts_with("sign_in_") => Self::SignIn,
            "name_not_found"
            | "cannot_connect"
            | "timed_out"
            | "connection_broken"
            | "authorization_server_unreachable" => Self::Network,
            code if is_tls(code) || is_proxy(code) => Self::Network,
            _ => Self::Server,
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
