//! The one network configuration: roots, client certificate, proxy, timeouts, IP family. Every connection of this program is
//! made by a client from here: messages to the MCP server by our own on hyper's connections (`message_client.rs`, `pool.rs`,
//! `connect.rs`), everything else by reqwest.
//!
//! # Invariants
//!
//! - No connection is opened before one is wanted, and no file is read, except that the roots for an https server are read
//!   ahead on a thread of their own, because its connection needs them.
//! - No client follows a redirect by itself.

pub(crate) mod certificate;
mod connect;
pub(crate) mod failure;
pub(crate) mod gzip;
pub(crate) mod lookup;
pub(crate) mod message_client;
mod pool;
pub(crate) mod proxy;
pub(crate) mod request_body;
mod tls;

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use hyper_util::client::proxy::matcher::Intercept;
use reqwest::{
    Client, Url,
    dns::Resolve,
    header::{ACCEPT_ENCODING, HeaderMap},
};
use rustls::{CertificateError, ClientConfig};

use self::{
    certificate::CertificateInfo, failure::tls_cause, lookup::Loopback, message_client::MessageClient,
    proxy::ProxyRefusal, tls::Tls,
};
use crate::config::{Network, ProxyChoice, ServerUrl};

/// Idle connections are closed before the usual balancer (60 s) closes them under a request.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// The same on this machine, where a new connection costs nothing: a server in a plug-in may serve one connection at a time,
/// and an idle one keeps the next request waiting.
const LOOPBACK_POOL_IDLE: Duration = Duration::from_secs(2);
/// Probes that find out about a peer that is gone without a word; also what keeps a NAT entry.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause between probes that are not answered, and how many: a peer that is gone is noticed within a
/// minute, where operating systems take eleven.
const TCP_PROBES: Duration = Duration::from_secs(10);
const MOST_TCP_PROBES: u32 = 3;
/// How long data may stay unacknowledged: probes are not sent meanwhile. reqwest has the same. Other systems have no such
/// limit of their own.
#[cfg(any(target_os = "android", target_os = "linux"))]
const TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// HTTP/2 receive windows, in bytes: the protocol's own 64 KiB would hold a far server's large
/// answer to one window a round trip.
const HTTP2_WINDOW: u32 = 4 * 1024 * 1024;

/// Header lines of a response over HTTP/1.1: hyper's own limit of 100 is less than some gateways send.
const MOST_HEADERS: usize = 400;

/// Makes clients, all with the same roots and the same proxies.
#[derive(Debug)]
pub(crate) struct ClientFactory {
    network: Arc<Network>,
    tls: Tls,
}

/// Where a client leads.
#[derive(Debug)]
pub(crate) enum Route {
    /// This machine: no proxy leads there.
    Loopback,
    /// Anywhere, by proxy if one leads there.
    Anywhere,
}

/// The versions of HTTP that a client offers over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersions {
    /// HTTP/2 and HTTP/1.1.
    Both,
    /// HTTP/1.1 only.
    Http1,
}

impl Route {
    /// How long an idle connection is kept.
    fn pool_idle(&self) -> Duration {
        match self {
            Self::Loopback => LOOPBACK_POOL_IDLE,
            Self::Anywhere => POOL_IDLE,
        }
    }

    /// Of a server.
    pub(crate) fn of(server: &ServerUrl) -> Self {
        if server.is_loopback() { Self::Loopback } else { Self::Anywhere }
    }
}

impl ClientFactory {
    /// Opens nothing and reads no file: roots are loaded with the first TLS connection, or beside it
    /// where `server` makes that certain.
    ///
    /// # Errors
    /// Where the settings do not fit together, such as a key that is not the certificate's.
    pub(crate) fn new(server: &ServerUrl, network: Arc<Network>) -> anyhow::Result<Self> {
        let tls = Tls::new(server, &network)?;
        Ok(Self { network, tls })
    }

    /// The proxies' hosts, which may be anywhere.
    pub(crate) fn proxy_hosts(&self) -> Vec<String> {
        match &self.network.proxy {
            ProxyChoice::Explicit { http, https, .. } => {
                let hosts = [http, https].into_iter().flatten().filter_map(|proxy| proxy.expose().host_str());
                hosts.map(ToOwned::to_owned).collect()
            }
            ProxyChoice::System => proxy::system_hosts(),
            ProxyChoice::Direct => Vec::new(),
        }
    }

    /// Whether IPv6 is ruled out.
    pub(crate) fn is_ipv4_only(&self) -> bool {
        self.network.ipv4
    }

    /// Returns the proxy that leads to `url`.
    pub(crate) fn proxy_to(&self, url: &Url) -> Option<Intercept> {
        proxy::to(url, &self.network.proxy)
    }

    /// Asks the proxy that refused a tunnel to `url` why, on a connection of its own; without the credential where the proxy
    /// refused that already.
    pub(crate) async fn refusal_of_proxy(&self, url: &Url, with_credential: bool) -> Option<ProxyRefusal> {
        let target = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
        let proxy = self.proxy_to(url)?;
        let credential = proxy.basic_auth().filter(|_| with_credential);
        proxy::refusal(&proxy, credential, &target, &self.network).await
    }

    /// Returns the certificate that the server at `url` presented last, if it was refused.
    pub(crate) fn refused_certificate(&self, url: &Url) -> Option<CertificateInfo> {
        self.tls.refused_certificate(url.host_str()?.trim_start_matches('[').trim_end_matches(']'))
    }

    /// Returns why this computer does not trust the certificate at `url`, if a connection failed because of that.
    pub(crate) fn distrust(&self, error: &(dyn Error + 'static), url: &Url) -> Option<String> {
        match tls_cause(error) {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))) => {
                self.refused_certificate(url).map(|certificate| certificate.distrust())
            }
            _ => None,
        }
    }

    /// Returns a client that carries messages to `server`. Opens nothing.
    ///
    /// # Errors
    /// If the URL has no form that a request can have.
    pub(crate) fn message_client(
        &self,
        server: &Url,
        route: &Route,
        versions: HttpVersions,
    ) -> Result<MessageClient, http::Error> {
        MessageClient::new(self, server, route, versions)
    }

    fn tls_of(&self, versions: HttpVersions) -> ClientConfig {
        let mut tls = self.tls.config.clone();
        if self.network.http1 || versions == HttpVersions::Http1 {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        tls
    }

    /// A client for everything else. It follows no redirect. `resolver`, if there is one, resolves names.
    ///
    /// # Errors
    /// Where a proxy's address is none.
    pub(crate) fn client(
        &self,
        route: &Route,
        versions: HttpVersions,
        resolver: Option<Arc<dyn Resolve>>,
    ) -> anyhow::Result<Client> {
        let network = &*self.network;
        let versions = if network.http1 { HttpVersions::Http1 } else { versions };
        let mut builder = Client::builder()
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, gzip::ACCEPTED)]))
            .redirect(reqwest::redirect::Policy::none()) // followed by the callers, who check where to
            .tls_backend_preconfigured(self.tls_of(versions))
            .connect_timeout(network.connect_timeout)
            .pool_idle_timeout(route.pool_idle())
            .pool_max_idle_per_host(usize::MAX)
            .tcp_keepalive(TCP_KEEP_ALIVE)
            .tcp_keepalive_interval(TCP_PROBES)
            .tcp_keepalive_retries(MOST_TCP_PROBES)
            .tcp_nodelay(true)
            .http1_max_headers(MOST_HEADERS)
            .http1_allow_spaces_after_header_name_in_responses(true) // see pool.rs
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http2_initial_stream_window_size(HTTP2_WINDOW)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            .http2_keep_alive_interval(TCP_KEEP_ALIVE)
            .http2_keep_alive_while_idle(true);
        if versions == HttpVersions::Http1 {
            builder = builder.http1_only();
        }
        if network.ipv4 {
            // An IPv4 source address leaves only IPv4 destinations.
            builder = builder.local_address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
        builder = match (resolver, route) {
            (Some(resolver), _) => builder.dns_resolver(resolver),
            (None, Route::Loopback) => builder.dns_resolver(Arc::new(Loopback)),
            (None, Route::Anywhere) => builder,
        };
        builder = match (route, &network.proxy) {
            (Route::Loopback, _) | (_, ProxyChoice::Direct) => builder.no_proxy(),
            (_, ProxyChoice::System) => builder, // macOS and Windows settings; the variables are read in `cli`
            (_, choice @ ProxyChoice::Explicit { .. }) => match proxy::for_reqwest(choice) {
                Some(proxy) => builder.proxy(proxy),
                None => builder,
            },
        };
        Ok(builder.build()?)
    }
}
