//! The settings, as types that cannot be wrong: made in [`crate::cli`] from arguments and environment, read
//! everywhere.
//!
//! Must never: be changed once the program runs.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Url, header::HeaderMap};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{known_hosts::HostEnvironment, secret::Secret, surroundings::Surroundings, tools::ToolPattern};

/// Everything the program was told.
#[derive(Debug)]
pub struct Config {
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
    /// Longest line from the host, longest answer and longest event of the server, in bytes.
    pub max_message: usize,
    /// How long a message waits for a server that is down or only starting.
    pub retry_for: Duration,
    /// How long a server may take to answer `initialize`.
    pub initialize_patience: Duration,
    /// How long the host's `initialize` is held, instead of for as long as this host is known to wait.
    pub hold: Option<Duration>,
    /// What the host says about itself in the environment.
    pub host_environment: HostEnvironment,
    /// Which protocol eras may be spoken with the server.
    pub protocol: Protocol,
    /// Pause between pings of our own.
    pub ping: Option<Duration>,
    /// Whether the host is told of progress where the server tells none.
    pub progress: bool,
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
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        if self.transport.has_http_first() { self.protocol } else { Protocol::Legacy }
    }
}

/// The server's address: `https`, or `http` where that is safe or allowed.
#[derive(Clone, Debug)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// Checks an address. Plain http is for loopback, unless the user allows it.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn parse(text: &str, plain_http: PlainHttp) -> Result<Self, String> {
        // RFC 3986 §3.1
        let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Err("the server's address must begin with https://, or http:// on this machine".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("the server's address is not a URL: {error}"))?;
        // The URL Standard lets `${HOST}` pass, and no resolver or HTTP library does.
        if url.host_str().is_some_and(|host| host.contains(['{', '}', '$'])) {
            return Err("the server's address has a placeholder for its host: write the host itself".to_owned());
        }
        // Shown without what may be secret in it.
        let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let server = Self(url);
        match (server.0.scheme(), plain_http) {
            ("https", _) | ("http", PlainHttp::Allowed) => Ok(server),
            ("http", PlainHttp::ForLoopback) if server.is_loopback() => Ok(server),
            ("http", PlainHttp::ForLoopback) => Err(format!(
                "{shown} is not encrypted: use https, or add --allow-http if the network between here and there is trusted"
            )),
            (scheme, _) => Err(format!("the server's address must be http or https, not {scheme}")),
        }
    }

    /// The address.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the server is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }
}

/// Whether a URL leads to this machine (RFC 6761 §6.3 for `localhost`).
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

/// Where `http` without TLS is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// On this machine only.
    ForLoopback,
    /// Everywhere; the user said so.
    Allowed,
}

/// Which transports are tried, in which order (npm's `--transport`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TransportStrategy {
    /// Streamable HTTP, then HTTP+SSE.
    #[default]
    HttpFirst,
    /// HTTP+SSE, then Streamable HTTP.
    SseFirst,
    /// Streamable HTTP.
    HttpOnly,
    /// HTTP+SSE.
    SseOnly,
}

impl TransportStrategy {
    /// Whether the server is asked over Streamable HTTP first; only there are modern versions spoken.
    #[must_use]
    pub const fn has_http_first(self) -> bool {
        matches!(self, Self::HttpFirst | Self::HttpOnly)
    }
}

/// Which protocol eras may be spoken with the server (`--protocol`, as in the npm package). The terms are those
/// of MCP 2026-07-28, Versioning, Terminology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// The era of the host's first message, where the server speaks it
    #[default]
    Auto,
    /// Versions with an `initialize` handshake: 2024-11-05 to 2025-11-25
    Legacy,
    /// Versions with metadata in each request: 2026-07-28
    Modern,
}

/// What becomes of a host's `initialize` that the server cannot answer before a person has signed in, or
/// because it cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Start {
    /// Hold it for as long as this host waits, then answer it with a placeholder
    #[default]
    Hold,
    /// Answer it with a placeholder at once
    Answer,
    /// Let it wait, for as long as --auth-timeout and --retry-for allow
    Wait,
}

/// How to reach the network.
#[derive(Debug)]
pub struct Network {
    /// Trusted besides the operating system's roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// `SSL_CERT_FILE` is set, which would hide the operating system's roots.
    pub hidden_roots: bool,
    /// Shown to servers that ask who we are.
    pub identity: Option<Identity>,
    /// Which proxy.
    pub proxy: ProxyChoice,
    /// No IPv6.
    pub ipv4: bool,
    /// Keep the server's cookies.
    pub cookies: bool,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// From a request to its response headers.
    pub headers_timeout: Option<Duration>,
    /// Between two pieces of a body.
    pub body_timeout: Option<Duration>,
}

/// A client certificate (RFC 8446 §4.4.2).
#[derive(Debug)]
pub struct Identity {
    /// Own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Secret<PrivateKeyDer<'static>>,
}

/// Which proxy leads to the server. None ever does to loopback.
#[derive(Debug)]
pub enum ProxyChoice {
    /// None.
    Direct,
    /// What the operating system is set to.
    System,
    /// What the user or the environment says.
    Explicit {
        /// For `http` servers.
        http: Option<Secret<Url>>,
        /// For `https` servers.
        https: Option<Secret<Url>>,
        /// Hosts without proxy, as in `NO_PROXY`.
        except: String,
    },
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// A line for each change of state.
    #[default]
    Normal,
    /// Nothing.
    Silent,
    /// Every message and request, with times, also to a file.
    Debug,
}

/// How to obtain authorization where the server asks for it.
#[derive(Clone, Debug, Default)]
pub struct Authorization {
    /// Port of the redirect, if the user named one.
    pub callback_port: Option<u16>,
    /// Host name in the redirect URI.
    pub callback_host: String,
    /// Path of the redirect URI.
    pub callback_path: String,
    /// How long a host's request waits for a person.
    pub timeout: Duration,
    /// Whether the host's `initialize` waits at all.
    pub start: Start,
    /// Where the browser goes after success.
    pub success_url: Option<Url>,
    /// The resource indicator (RFC 8707).
    pub resource: Resource,
    /// Added to the authorization request.
    pub authorize_params: Vec<(String, String)>,
    /// Merged into the registration (RFC 7591 §2).
    pub client_metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// A registration made elsewhere: `client_id` and perhaps `client_secret`.
    pub client_info: Option<Secret<serde_json::Map<String, serde_json::Value>>>,
    /// A client id metadata document.
    pub client_metadata_url: Option<Url>,
    /// Send the id token in place of the access token.
    pub use_id_token: bool,
    /// Go on where the authorization server does not say that it knows S256 (`--assume-pkce`).
    pub assume_pkce: bool,
    /// Whether the server's metadata may name addresses nearer than the server is
    /// (`--allow-private-addresses`).
    pub private_addresses: bool,
    /// Whether tokens are bound to a key (RFC 9449).
    pub dpop: Dpop,
    /// Print the address and open no browser.
    pub no_browser: bool,
    /// A person has asked for this very sign-in, at a terminal: nothing else waits for it.
    pub asked_for: bool,
    /// Where we run, as far as a browser cares.
    pub surroundings: Surroundings,
    /// Which grant.
    pub grant: Grant,
}

/// The resource indicator to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resource {
    /// What the server publishes.
    #[default]
    Published,
    /// What the user says.
    Named(String),
    /// None.
    Omitted,
}

impl Resource {
    /// Returns what the user says.
    #[must_use]
    pub fn named(&self) -> Option<&str> {
        match self {
            Self::Named(named) => Some(named),
            Self::Published | Self::Omitted => None,
        }
    }
}

/// Whether tokens are bound to a key of ours (RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Dpop {
    /// Where a challenge or the authorization server's metadata ask for it.
    #[default]
    Auto,
    /// Always.
    Require,
    /// Never.
    Off,
}

/// The OAuth grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// RFC 6749 §4.1, in a browser.
    #[default]
    AuthorizationCode,
    /// RFC 8628.
    DeviceCode,
    /// RFC 6749 §4.4.
    ClientCredentials {
        /// Where, if the server's metadata are not to be asked.
        token_endpoint: Option<Url>,
        /// File with the private key (PEM) that signs the client's assertions (RFC 7523 §2.2),
        /// in place of a client secret.
        key: Option<PathBuf>,
    },
    /// Enterprise-managed authorization (MCP extension): an identity provider's ID-JAG is the grant.
    Enterprise {
        /// File with the identity token of the person, read afresh each time.
        token: PathBuf,
        /// Token endpoint of the identity provider.
        token_endpoint: Url,
        /// Who we are to the identity provider.
        client_id: String,
    },
    /// Workload identity (SEP-1933, a proposal): the platform's assertion is the grant (RFC 7523 §2.1).
    WorkloadIdentity(AssertionSource),
}

/// Where a platform's assertion comes from, read afresh each time since platforms rotate them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertionSource {
    /// A file.
    File(PathBuf),
    /// What a program prints; started without a shell.
    Command {
        /// Which.
        program: String,
        /// With these.
        arguments: Vec<String>,
    },
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
            "http://[::1]:3000/sse",
            "https://a.example",
        ] {
            assert!(ServerUrl::parse(text, PlainHttp::ForLoopback).is_ok(), "{text}");
        }
        for text in
            ["http://a.example/mcp", "http://192.168.0.1/", "http://localhost.example/", "http://127.0.0.1.example/"]
        {
            let refused = ServerUrl::parse(text, PlainHttp::ForLoopback).unwrap_err();
            assert!(refused.contains("--allow-http"), "{refused}");
            assert!(ServerUrl::parse(text, PlainHttp::Allowed).is_ok());
        }
        for text in ["ftp://a.example", "file:///etc/passwd", "a.example/mcp", ""] {
            assert!(ServerUrl::parse(text, PlainHttp::Allowed).is_err(), "{text}");
        }
    }
}
