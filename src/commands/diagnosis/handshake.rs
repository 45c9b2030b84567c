//! A TLS handshake with the server for the diagnosis (RFC 8446, RFC 5246): which protocol it speaks and which certificate
//! it presents, trusted or not.
//!
//! # Invariants
//!
//! - This module sends no application data and no client certificate.
//! - What a handshake accepts here is not taken for a verification.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::Url;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{
    config::Network,
    network::{
        certificate::CertificateInfo,
        proxy::{self, connect},
    },
    sync::LockExt,
};

/// Upper bound on the handshake regardless of `--connect-timeout`, because the next step waits for it.
const LONGEST: Duration = Duration::from_secs(5);

/// What a server presents.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) protocol: &'static str,
    pub(super) certificate: CertificateInfo,
}

/// Why no certificate was presented.
#[derive(Debug)]
pub(super) enum HandshakeError {
    /// The proxy does not lead to the server.
    Proxy,
    /// No connection, no handshake, no certificate that can be read; or nothing in time.
    Handshake,
}

impl From<io::Error> for HandshakeError {
    fn from(_: io::Error) -> Self {
        Self::Handshake
    }
}

/// Performs a handshake with the server at `url`, through the proxy that leads there.
pub(super) async fn perform(url: &Url, network: &Network) -> Result<Presented, HandshakeError> {
    let patience = network.connect_timeout.min(LONGEST);
    timeout(patience, handshake(url, network, patience)).await.map_err(|_| HandshakeError::Handshake)?
}

async fn handshake(url: &Url, network: &Network, patience: Duration) -> Result<Presented, HandshakeError> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(HandshakeError::Handshake);
    };
    let name = ServerName::try_from(bare(host).to_owned()).map_err(|_| HandshakeError::Handshake)?;
    let stream = match proxy::to(url, &network.proxy) {
        None => connect(bare(host), port, network.ipv4, patience).await?,
        Some(intercept) => {
            let target = format!("{host}:{port}");
            proxy::open_tunnel(&intercept, &target, network.ipv4, patience).await?.map_err(|_| HandshakeError::Proxy)?
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let recorder = Arc::new(RecordingVerifier { provider: provider.clone(), recorded: Mutex::default() });
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()]; // as the real connection offers
    _ = TlsConnector::from(Arc::new(tls)).connect(name, stream).await; // a server may refuse after its certificate
    let Recorded { certificate, protocol } = std::mem::take(&mut *recorder.recorded.guard());
    let certificate = certificate.and_then(|certificate| CertificateInfo::read(&certificate).ok());
    Ok(Presented { protocol: protocol.unwrap_or("TLS"), certificate: certificate.ok_or(HandshakeError::Handshake)? })
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[derive(Debug, Default)]
struct Recorded {
    certificate: Option<CertificateDer<'static>>,
    protocol: Option<&'static str>,
}

/// Accepts every certificate and records it. Nothing is sent over the connection that it accepts.
#[derive(Debug)]
struct RecordingVerifier {
    provider: Arc<CryptoProvider>,
    recorded: Mutex<Recorded>,
}

impl RecordingVerifier {
    fn note(&self, protocol: &'static str) -> HandshakeSignatureValid {
        self.recorded.guard().protocol = Some(protocol);
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.recorded.guard().certificate = Some(end_entity.clone().into_owned());
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
    use crate::{config::ProxyChoice, secret::Secret};
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    fn network(proxy: ProxyChoice) -> Network {
        Network {
            roots: Vec::new(),
            hidden_roots: false,
            identity: None,
            proxy,
            ipv4: true,
            http1: false,
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
    async fn untrusted_certificate_is_presented_and_nothing_sent() {
        let (port, mut said) = server().await;
        let url = Url::parse(&format!("https://127.0.0.1:{port}/mcp")).unwrap();
        let Presented { protocol, certificate } = perform(&url, &network(ProxyChoice::Direct)).await.unwrap();
        assert_eq!(protocol, "TLS 1.3");
        assert_eq!(certificate.issuer, "Example Corp / TLS Inspection");
        assert_eq!(certificate.subject, certificate.issuer);
        assert_eq!(certificate.names, ["mcp.example", "127.0.0.1"]);
        assert_eq!(certificate.not_before.to_string(), "2001-02-03T00:00:00Z");
        assert_eq!(certificate.not_after.to_string(), "2002-03-04T00:00:00Z");
        assert_eq!(said.recv().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn proxy_leads_to_certificate_or_refuses() {
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
                    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
                }
            }
        });
        let https = Some(Secret::new(Url::parse(&proxy).unwrap()));
        let network = network(ProxyChoice::Explicit { http: None, https, except: "other.example".into() });
        let url = Url::parse("https://mcp.example/mcp").unwrap();
        assert_eq!(perform(&url, &network).await.unwrap().certificate.names[0], "mcp.example");
        let refused = perform(&url, &network).await.unwrap_err();
        assert!(matches!(refused, HandshakeError::Proxy), "{refused:?}");
    }

    #[tokio::test]
    async fn server_without_tls_presents_no_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        });
        assert!(matches!(perform(&url, &network(ProxyChoice::Direct)).await, Err(HandshakeError::Handshake)));
    }
}
