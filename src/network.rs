//! The one network configuration: roots, client certificate, proxy, time-outs, IP family. Whatever
//! leaves this program, to the MCP server or to an authorization server, leaves through a client made
//! here.
//!
//! Must never: read a file or open a connection before one is wanted; follow a redirect by itself.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, NoProxy, Proxy, Url, dns::Resolve};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use crate::{
    certificate,
    config::{Network, ProxyChoice, ServerUrl},
    remote::error::tls_cause,
};

/// Idle connections are closed before the usual balancer (60 s) closes them under a request.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// Probes that find out about a peer that is gone without a word; also what keeps a NAT entry.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause between probes that are not answered, and how many: a peer that is gone is noticed within a
/// minute, where operating systems take eleven.
const TCP_PROBES: Duration = Duration::from_secs(10);
const MOST_TCP_PROBES: u32 = 3;
/// HTTP/2 receive windows, in bytes: the protocol's own 64 KiB would hold a far server's large
/// answer to one window a round trip.
const HTTP2_WINDOW: u32 = 4 * 1024 * 1024;

/// Makes clients, all with the same roots and the same ways out.
#[derive(Debug)]
pub struct Outlet {
    network: Arc<Network>,
    tls: ClientConfig,
}

/// Where a client is to reach.
#[derive(Debug)]
pub enum Reach {
    /// This machine: no proxy leads there.
    Loopback,
    /// Anywhere.
    World,
}

impl Reach {
    /// Of a server.
    #[must_use]
    pub fn of(server: &ServerUrl) -> Self {
        if server.is_loopback() { Self::Loopback } else { Self::World }
    }
}

impl Outlet {
    /// Opens nothing and reads no file: roots are loaded with the first TLS connection, or beside it
    /// where `server` makes that certain.
    ///
    /// # Errors
    /// Where the settings do not fit together, such as a key that is not the certificate's.
    pub fn new(server: &ServerUrl, network: Arc<Network>) -> anyhow::Result<Self> {
        let tls = tls(server, &network)?;
        Ok(Self { network, tls })
    }

    /// The proxies' hosts, which may be anywhere.
    #[must_use]
    pub fn proxy_hosts(&self) -> Vec<String> {
        match &self.network.proxy {
            ProxyChoice::Explicit { http, https, .. } => {
                let hosts = [http, https].into_iter().flatten().filter_map(|proxy| proxy.expose().host_str());
                hosts.map(ToOwned::to_owned).collect()
            }
            ProxyChoice::Direct | ProxyChoice::System => Vec::new(),
        }
    }

    /// Whether the operating system may have a proxy that only it knows: macOS and Windows.
    #[must_use]
    pub fn has_unknown_proxy(&self) -> bool {
        cfg!(any(windows, target_os = "macos")) && matches!(self.network.proxy, ProxyChoice::System)
    }

    /// Whether IPv6 is ruled out.
    #[must_use]
    pub fn is_ipv4_only(&self) -> bool {
        self.network.ipv4
    }

    /// Who has issued the certificate at `url`, if a connection failed because nobody here trusts it.
    /// Names are looked up by `resolver`, if there is one.
    pub async fn distrusted(
        &self,
        error: &reqwest::Error,
        url: &Url,
        resolver: Option<Arc<dyn Resolve>>,
    ) -> Option<String> {
        match tls_cause(error) {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))) => {
                certificate::presented_to(url, &self.network, resolver).await.ok().map(|shown| shown.issuer)
            }
            _ => None,
        }
    }

    /// A client that follows no redirect. Names are looked up by `resolver`, if there is one.
    ///
    /// # Errors
    /// Where a proxy's address is none.
    pub fn client(&self, reach: &Reach, resolver: Option<Arc<dyn Resolve>>) -> anyhow::Result<Client> {
        let network = &*self.network;
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none()) // followed by the callers, who check where to
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(network.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(usize::MAX)
            .tcp_keepalive(TCP_KEEP_ALIVE)
            .tcp_keepalive_interval(TCP_PROBES)
            .tcp_keepalive_retries(MOST_TCP_PROBES)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(HTTP2_WINDOW)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            .http2_keep_alive_interval(TCP_KEEP_ALIVE)
            .http2_keep_alive_while_idle(true);
        if network.ipv4 {
            // An IPv4 source address leaves only IPv4 destinations.
            builder = builder.local_address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
        if let Some(resolver) = resolver {
            builder = builder.dns_resolver(resolver);
        }
        builder = match (reach, &network.proxy) {
            (Reach::Loopback, _) | (_, ProxyChoice::Direct) => builder.no_proxy(),
            (_, ProxyChoice::System) => builder, // macOS and Windows settings; the variables are read in `cli`
            (_, ProxyChoice::Explicit { http, https, except }) => {
                let except = NoProxy::from_string(except);
                if let Some(proxy) = http {
                    builder = builder.proxy(Proxy::http(proxy.expose().clone())?.no_proxy(except.clone()));
                }
                if let Some(proxy) = https {
                    builder = builder.proxy(Proxy::https(proxy.expose().clone())?.no_proxy(except));
                }
                builder
            }
        };
        Ok(builder.build()?)
    }
}

fn tls(server: &ServerUrl, network: &Network) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(Roots {
        extra: network.roots.clone(),
        hidden_roots: network.hidden_roots,
        provider: provider.clone(),
        verifier: OnceLock::new(),
    });
    if server.url().scheme() == "https" {
        // Loading them takes milliseconds, which the connection needs anyway.
        let early = roots.clone();
        _ = std::thread::Builder::new().name("roots".into()).spawn(move || _ = early.verifier());
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // the name of rustls' door for a verifier of one's own; ours only delays the platform's
        .with_custom_certificate_verifier(roots);
    let mut config = match &network.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.expose().clone_key())?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The platform's certificate verifier, made when the first certificate comes.
#[derive(Debug)]
struct Roots {
    extra: Vec<CertificateDer<'static>>,
    hidden_roots: bool,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, rustls::Error>>,
}

impl Roots {
    fn verifier(&self) -> Result<&Verifier, rustls::Error> {
        let made = self.verifier.get_or_init(|| {
            let mut extra = self.extra.clone();
            if self.hidden_roots {
                extra.extend(system_folders());
            }
            Verifier::new_with_extra_roots(extra, self.provider.clone())
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// The roots of the operating system's folders, which the platform verifier leaves out when
/// `SSL_CERT_FILE` is set: the user means that file on top of them.
#[cfg(all(unix, not(target_vendor = "apple"), not(target_os = "android")))]
fn system_folders() -> Vec<CertificateDer<'static>> {
    openssl_probe::candidate_cert_dirs()
        .flat_map(|folder| rustls_native_certs::load_certs_from_paths(None, Some(folder)).certs)
        .collect()
}

#[cfg(not(all(unix, not(target_vendor = "apple"), not(target_os = "android"))))]
fn system_folders() -> Vec<CertificateDer<'static>> {
    Vec::new()
}

impl ServerCertVerifier for Roots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The user has named this very certificate. webpki does not take one that calls itself an
            // authority's for a server's, and `openssl req -x509` makes such ones; OpenSSL takes them.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if self.extra.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                if certificate::is_in_force(end_entity, now) {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(CertificateError::Expired.into())
                }
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
