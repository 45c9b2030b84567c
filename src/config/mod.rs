//! The settings, made in [`crate::cli`] from arguments and environment.
//!
//! # Invariants
//!
//! - A value of these types is valid: it was checked when it was made.
//! - Settings do not change once the program runs.

mod authorization;
pub(crate) mod limits;
mod network;
pub(crate) mod values;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use reqwest::{Url, header::HeaderMap};

pub(crate) use self::{
    authorization::{AssertionSource, Authorization, Dpop, Endpoints, Grant, Occasion, Resource},
    limits::Limits,
    network::{ClientCertificate, Network, ProxyChoice},
};
use crate::{known_hosts::HostEnvironment, logging::LogMode, secret::Secret, tools::ToolPattern};

/// Everything the program was told.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the remote server is.
    pub server: ServerUrl,
    /// npm's name for this server, headers and resource; the prefix of their files in the store.
    pub server_hash: String,
    /// Whether addresses without TLS are allowed.
    pub plain_http: PlainHttp,
    /// Sent with every request to the server's origin, and nowhere else.
    pub headers: HeaderMap,
    /// Which transports, in which order.
    pub transport: TransportStrategy,
    /// How to reach the network.
    pub network: Arc<Network>,
    /// Time limits, sizes and pauses.
    pub limits: Limits,
    /// What the host says about itself in the environment.
    pub host_environment: HostEnvironment,
    /// Which protocol eras may be spoken with the server.
    pub protocol: Protocol,
    /// Tools to hide from the host and to refuse.
    pub ignored_tools: Vec<ToolPattern>,
    /// How much is said on stderr.
    pub log: LogMode,
    /// `RUST_LOG`: what env_logger is to show beyond that.
    pub log_filters: Option<String>,
    /// The folder of stored sign-ins and debug logs, shared with npm's mcp-remote.
    pub store: PathBuf,
    /// How to obtain authorization.
    pub authorization: Arc<Authorization>,
    /// What was noticed while reading the settings, to be logged once the log is open.
    pub remarks: Vec<String>,
}

impl Config {
    /// The eras that can be spoken: modern versions know Streamable HTTP only (MCP 2026-07-28, Transports).
    pub(crate) fn protocol(&self) -> Protocol {
        if self.transport == TransportStrategy::SseOnly { Protocol::Legacy } else { self.protocol }
    }
}

/// The server's address: `https`, or `http` where that is safe or allowed.
#[derive(Clone, Debug)]
pub(crate) struct ServerUrl(Url);

impl ServerUrl {
    /// Checks a URL. Plain http is for loopback, unless the user allows it.
    ///
    /// # Errors
    /// What is wrong with the URL, as the end of a sentence for the user.
    pub(crate) fn parse(text: &str, plain_http: PlainHttp) -> Result<Self, String> {
        // RFC 3986 §3.1
        let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Err("must begin with https://, or with http:// if the server is on this computer".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("is not valid: {error}"))?;
        // The URL Standard lets `${HOST}` pass, and no resolver or HTTP library does.
        if url.host_str().is_some_and(|host| host.contains(['{', '}', '$'])) {
            return Err("has a placeholder for its host, which mcp-remote does not replace".to_owned());
        }
        // Shown without what may be secret in it.
        let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let server = Self(url);
        match (server.0.scheme(), plain_http) {
            ("https", _) | ("http", PlainHttp::Allowed) => Ok(server),
            ("http", PlainHttp::ForLoopback) if server.is_loopback() => Ok(server),
            ("http", PlainHttp::ForLoopback) => Err(format!("is not encrypted ({shown}), which needs --allow-http")),
            (scheme, _) => Err(format!("must begin with https:// or http://, not {scheme}://")),
        }
    }

    /// Takes user and password off the URL, so that only the header made of them carries them.
    pub(crate) fn take_user_info(&mut self) -> Option<UserInfo> {
        let (user, password) = (self.0.username().to_owned(), self.0.password().unwrap_or_default().to_owned());
        _ = self.0.set_username("");
        _ = self.0.set_password(None);
        (!user.is_empty() || !password.is_empty())
            .then(|| UserInfo { user: Secret::new(user), password: Secret::new(password) })
    }

    /// The address.
    pub(crate) const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

/// User and password in a URL (RFC 3986 §3.2.1), percent-encoded.
#[derive(Debug)]
pub(crate) struct UserInfo {
    /// May be a token with an empty password.
    pub user: Secret<String>,
    /// May be empty.
    pub password: Secret<String>,
}

/// Whether a URL leads to this machine, by its address or by a name that means nothing else: no name server is asked, no
/// proxy, and no encryption is needed.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(|_| names_loopback(host), |address| address.to_canonical().is_loopback())
}

/// Whether a name means this machine, whatever a name server says of it (RFC 6761 §6.3).
pub(crate) fn names_loopback(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // The URL parser writes hosts in lower case; names from elsewhere may have any.
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

/// Where `http` without TLS is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    /// On this machine only.
    ForLoopback,
    /// Everywhere; the user said so.
    Allowed,
}

/// Which transports are tried, in which order (npm's `--transport`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TransportStrategy {
    /// Streamable HTTP, then HTTP+SSE
    #[default]
    HttpFirst,
    /// HTTP+SSE, then Streamable HTTP
    SseFirst,
    /// Streamable HTTP only
    HttpOnly,
    /// HTTP+SSE only
    SseOnly,
}

impl TransportStrategy {
    /// Whether the server is asked over Streamable HTTP first; only there are modern versions spoken.
    pub(crate) const fn has_http_first(self) -> bool {
        matches!(self, Self::HttpFirst | Self::HttpOnly)
    }
}

/// Which protocol eras may be spoken with the server (`--protocol`, as in the npm package). The terms are those
/// of MCP 2026-07-28, Versioning, Terminology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// The era of the host's first message, if the server speaks it
    #[default]
    Auto,
    /// Protocol versions 2024-11-05 to 2025-11-25, with initialize
    Legacy,
    /// Protocol version 2026-07-28
    Modern,
}

/// What becomes of a host's `initialize` that the server cannot answer before a person has signed in, or
/// because it cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Start {
    /// Hold initialize nearly as long as this host waits, then answer with a placeholder
    #[default]
    Hold,
    /// Answer with a placeholder at once
    Answer,
    /// Let the host wait, as long as --auth-timeout and --retry-for allow
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_unless_allowed() {
        for text in [
            "http://localhost:1/mcp",
            "http://127.0.0.1/",
            "http://127.9.9.9:80/",
            "http://app.localhost:3000/mcp",
            "http://LOCALHOST./mcp",
            "http://[::1]:3000/sse",
            "https://a.example",
        ] {
            assert!(ServerUrl::parse(text, PlainHttp::ForLoopback).is_ok(), "{text}");
        }
        for text in [
            "http://a.example/mcp",
            "http://192.168.0.1/",
            "http://localhost.example/",
            "http://notlocalhost/",
            "http://127.0.0.1.example/",
        ] {
            let refused = ServerUrl::parse(text, PlainHttp::ForLoopback).unwrap_err();
            assert!(refused.contains("--allow-http"), "{refused}");
            assert!(ServerUrl::parse(text, PlainHttp::Allowed).is_ok());
        }
        for text in ["ftp://a.example", "file:///etc/passwd", "a.example/mcp", ""] {
            assert!(ServerUrl::parse(text, PlainHttp::Allowed).is_err(), "{text}");
        }
    }
}
