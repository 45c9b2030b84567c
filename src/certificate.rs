//! Which certificate a server shows (RFC 5280), trusted or not: a TLS handshake (RFC 8446, RFC 5246) on
//! a connection of its own, made only once a real one has failed or a person asks, so that the failure
//! can be told with the name of who signed it.
//!
//! Must never: send a byte of application data, or our own certificate; be taken for a verification.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use jiff::Timestamp;
use reqwest::{
    Url,
    dns::{Name, Resolve},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time, x509::X509Name,
};

use crate::{
    config::{Network, ProxyChoice, is_loopback},
    secret::Secret,
    text,
};

/// Longest look, whatever the connect time-out: somebody waits for the sentence.
const LONGEST: Duration = Duration::from_secs(5);
/// How much of a proxy's answer is read, in bytes: any header block is shorter.
const PROXY_ANSWER: usize = 16 * 1024;
/// Most names of a certificate that are kept: a content network's has hundreds.
const MOST_NAMES: usize = 100;

/// The certificate that a server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The protocol of the handshake.
    pub protocol: &'static str,
    /// Who signed it: organization and common name.
    pub issuer: String,
    /// Whose it is, in the same form.
    pub subject: String,
    /// The names and addresses it is good for (RFC 5280 §4.2.1.6).
    pub names: Vec<String>,
    /// Good from here on.
    pub not_before: Timestamp,
    /// Good until here.
    pub not_after: Timestamp,
}

/// Why no certificate was seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address names no host, or one that TLS cannot name.
    #[error("{0} has no name for TLS")]
    NoName(Url),
    /// No way to the server.
    #[error("no connection to {host}: {source}")]
    Connect {
        /// The server or the proxy.
        host: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The proxy does not lead there.
    #[error("the proxy {host} does not lead there: {why}")]
    Proxy {
        /// Which.
        host: String,
        /// Its words, or what kind of proxy it is.
        why: String,
    },
    /// The handshake ended before a certificate came.
    #[error("no TLS handshake: {0}")]
    Handshake(#[from] io::Error),
    /// A certificate came that is none.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// Nothing came for this long.
    #[error("no TLS handshake within {} s", .0.as_secs_f32())]
    Silent(Duration),
}

/// Looks at the certificate of the server at `url`, on the way that `network` takes to it.
///
/// # Errors
/// [`Error`]; none where the handshake fails after the certificate came.
pub async fn presented(url: &Url, network: &Network) -> Result<Presented, Error> {
    presented_to(url, network, None).await
}

/// The same with names looked up by `resolver`, for an address that somebody else has named.
///
/// # Errors
/// As of [`presented`].
pub async fn presented_to(
    url: &Url,
    network: &Network,
    resolver: Option<Arc<dyn Resolve>>,
) -> Result<Presented, Error> {
    let patience = network.connect_timeout.min(LONGEST);
    let way = Way { resolver, ipv4: network.ipv4, patience };
    timeout(patience, look(url, network, &way)).await.map_err(|_| Error::Silent(patience))?
}

/// Whether a certificate's dates include now (RFC 5280 §4.1.2.5).
pub(crate) fn is_in_force(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    now.is_some_and(|now| parsed.validity().is_valid_at(now))
}

/// How connections are made.
struct Way {
    resolver: Option<Arc<dyn Resolve>>,
    ipv4: bool,
    patience: Duration,
}

async fn look(url: &Url, network: &Network, way: &Way) -> Result<Presented, Error> {
    let no_name = || Error::NoName(url.clone());
    let host = url.host_str().ok_or_else(no_name)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| no_name())?;
    let port = url.port_or_known_default().ok_or_else(no_name)?;
    let stream = match proxy(url, network) {
        None => way.connect(bare, port).await?,
        Some(proxy) => tunnel(way, &proxy, &format!("{host}:{port}")).await?,
    };

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let witness = Arc::new(Witness { provider: provider.clone(), seen: Mutex::default() });
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()]; // as the real connection offers
    let handshake = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    let seen = std::mem::take(&mut *witness.seen.lock().unwrap_or_else(PoisonError::into_inner));
    match (seen, handshake) {
        (Seen { certificate: Some(certificate), protocol }, _) => read(&certificate, protocol.unwrap_or("TLS")),
        (_, Err(error)) => Err(error.into()),
        (_, Ok(_)) => Err(Error::Unreadable("none came".to_owned())),
    }
}

/// The proxy that leads there, by the rules of `network::Outlet`.
pub(crate) fn proxy(url: &Url, network: &Network) -> Option<Intercept> {
    let matcher = match &network.proxy {
        _ if is_loopback(url) => return None,
        ProxyChoice::Direct => return None,
        ProxyChoice::System => Matcher::from_system(),
        ProxyChoice::Explicit { http, https, except } => {
            let text = |proxy: &Option<Secret<Url>>| {
                proxy.as_ref().map(|proxy| proxy.expose().to_string()).unwrap_or_default()
            };
            Matcher::builder().http(text(http)).https(text(https)).no(except.clone()).build()
        }
    };
    matcher.intercept(&url.as_str().parse().ok()?)
}

impl Way {
    /// Whichever address answers first in their order; each has its share of the time, so that one that
    /// swallows packets leaves some for the next.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let failed = |source| Error::Connect { host: format!("{host}:{port}"), source };
        let mut addresses = self.addresses(host, port).await.map_err(failed)?;
        addresses.retain(|address| address.is_ipv4() || !self.ipv4);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address of the wanted family");
        let share = self.patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed(last))
    }

    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match &self.resolver {
            Some(resolver) if host.parse::<IpAddr>().is_err() => {
                let name: Name = host.parse().map_err(io::Error::other)?;
                let found = resolver.resolve(name).await.map_err(io::Error::other)?;
                Ok(found.map(|address| SocketAddr::new(address.ip(), port)).collect())
            }
            _ => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
        }
    }
}

/// CONNECT (RFC 9110 §9.3.6).
async fn tunnel(way: &Way, proxy: &Intercept, target: &str) -> Result<TcpStream, Error> {
    let host = proxy.uri().host().unwrap_or_default();
    let refused = |why: String| Error::Proxy { host: host.to_owned(), why };
    if proxy.uri().scheme_str() != Some("http") {
        return Err(refused("it is no plain HTTP proxy, and through others nobody looks".to_owned()));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = way.connect(bare, proxy.uri().port_u16().unwrap_or(80)).await?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credential) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credential.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    // By the byte: what comes after the header block is the server's.
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < PROXY_ANSWER {
        answer.push(stream.read_u8().await?);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status.len() == 3 && status.starts_with(b"2") { Ok(stream) } else { Err(refused(fit(line))) }
}

fn read(certificate: &CertificateDer<'_>, protocol: &'static str) -> Result<Presented, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| Error::Unreadable(error.to_string()))?;
    let time =
        |time: ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|error| Error::Unreadable(error.to_string()));
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(fit(name)),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    Ok(Presented {
        protocol,
        issuer: readable(parsed.issuer()),
        subject: readable(parsed.subject()),
        names: names.take(MOST_NAMES).collect(),
        not_before: time(parsed.validity().not_before)?,
        not_after: time(parsed.validity().not_after)?,
    })
}

/// `O / CN`, or what there is of both; else everything.
fn readable(name: &X509Name<'_>) -> String {
    let organization = name.iter_organization().next().and_then(|part| part.as_str().ok());
    let common = name.iter_common_name().next().and_then(|part| part.as_str().ok());
    match (organization, common) {
        (Some(organization), Some(common)) if organization != common => {
            format!("{} / {}", fit(organization), fit(common))
        }
        (Some(one), _) | (None, Some(one)) => fit(one),
        (None, None) => fit(name.to_string()),
    }
}

/// A stranger's words as one line of text.
fn fit(text: impl AsRef<[u8]>) -> String {
    text::one_line(text.as_ref())
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
    four.or_else(|_| sixteen()).ok()
}

#[derive(Debug, Default)]
struct Seen {
    certificate: Option<CertificateDer<'static>>,
    protocol: Option<&'static str>,
}

/// Believes every certificate, and keeps it. Nothing is sent over what it lets through.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

impl Witness {
    fn note(&self, protocol: &'static str) -> HandshakeSignatureValid {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).protocol = Some(protocol);
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.certificate = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(self.note("TLS 1.2"))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(self.note("TLS 1.3"))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    fn network(proxy: ProxyChoice) -> Network {
        Network {
            roots: Vec::new(),
            hidden_roots: false,
            identity: None,
            proxy,
            ipv4: true,
            cookies: false,
            connect_timeout: Duration::from_secs(4),
            headers_timeout: None,
            body_timeout: None,
        }
    }

    /// Shows a certificate to whoever connects, and tells each connection's first bytes after that.
    async fn server() -> (u16, tokio::sync::mpsc::Receiver<Vec<u8>>) {
        let mut params = CertificateParams::new(vec!["mcp.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Example Corp");
        params.distinguished_name.push(DnType::CommonName, "TLS\nInspection");
        (params.not_before, params.not_after) = (date_time_ymd(2001, 2, 3), date_time_ymd(2002, 3, 4));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, said) = tokio::sync::mpsc::channel(9);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut bytes = Vec::new();
                _ = stream.read_to_end(&mut bytes).await;
                sender.send(bytes).await.unwrap();
            }
        });
        (port, said)
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_trusts_is_told_and_nothing_is_sent() {
        let (port, mut said) = server().await;
        let url = Url::parse(&format!("https://127.0.0.1:{port}/mcp")).unwrap();
        let seen = presented(&url, &network(ProxyChoice::Direct)).await.unwrap();
        assert_eq!(seen.protocol, "TLS 1.3");
        assert_eq!(seen.issuer, "Example Corp / TLS Inspection");
        assert_eq!(seen.subject, seen.issuer);
        assert_eq!(seen.names, ["mcp.example", "127.0.0.1"]);
        assert_eq!(seen.not_before.to_string(), "2001-02-03T00:00:00Z");
        assert_eq!(seen.not_after.to_string(), "2002-03-04T00:00:00Z");
        assert_eq!(said.recv().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_proxy_leads_to_the_certificate_or_says_why_not() {
        let (port, _said) = server().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://anna:secret@{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in ["200 Fine", "403 Not for\x1b[31m\nyou"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let request = String::from_utf8(request).unwrap();
                assert!(request.starts_with("CONNECT mcp.example:443 HTTP/1.1\r\n"), "{request}");
                assert!(request.contains("Proxy-Authorization: Basic YW5uYTpzZWNyZXQ=\r\n"), "{request}");
                stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
                if answer.starts_with('2') {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
                }
            }
        });
        let https = Some(Secret::new(Url::parse(&proxy).unwrap()));
        let network = network(ProxyChoice::Explicit { http: None, https, except: "other.example".into() });
        let url = Url::parse("https://mcp.example/mcp").unwrap();
        assert_eq!(presented(&url, &network).await.unwrap().names[0], "mcp.example");
        let refused = presented(&url, &network).await.unwrap_err();
        assert!(refused.to_string().ends_with(": HTTP/1.1 403 Not for [31m you"), "{refused}");
    }

    #[tokio::test]
    async fn what_speaks_no_tls_has_no_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        });
        assert!(matches!(presented(&url, &network(ProxyChoice::Direct)).await, Err(Error::Handshake(_))));
    }
}
