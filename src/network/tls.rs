//! The TLS of every connection: the platform's roots and the user's, the client certificate, ALPN.
//!
//! # Invariants
//!
//! - No root is loaded before a TLS connection is wanted, or certain to be.
//! - Only the platform's verifier, or the user who named a certificate, makes a certificate trusted.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use super::{
    certificate::{self, CertificateInfo},
    failure::NoRoots,
};
use crate::{
    config::{Network, ServerUrl},
    sync::LockExt,
};

/// Refused certificates that are remembered: one for each host of a sign-in, and some to spare.
const MOST_REFUSED: usize = 16;

/// The TLS of every connection, and the certificates that it refused.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: ClientConfig,
    roots: Arc<Roots>,
}

impl Tls {
    /// Reads no file. Roots are loaded with the first TLS connection, or on a thread of its own if `server` makes that
    /// connection certain.
    pub(super) fn new(server: &ServerUrl, network: &Network) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(Roots {
            extra: network.roots.clone(),
            hidden_roots: network.hidden_roots,
            provider: provider.clone(),
            verifier: OnceLock::new(),
            refused: Mutex::default(),
        });
        if server.url().scheme() == "https" {
            // Loading them takes milliseconds, which the connection needs anyway.
            let early = roots.clone();
            _ = std::thread::Builder::new().name("roots".into()).spawn(move || _ = early.verifier());
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous() // the name of rustls' door for a verifier of one's own; ours only delays the platform's
            .with_custom_certificate_verifier(roots.clone());
        let mut config = match &network.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.expose().clone_key())?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config, roots })
    }

    /// Returns the certificate that a server with this name presented last, if it was refused.
    pub(super) fn refused_certificate(&self, name: &str) -> Option<CertificateInfo> {
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let refused = self.roots.refused.guard();
        let (_, certificate) = refused.iter().find(|(refused, _)| *refused == name)?;
        CertificateInfo::read(certificate).ok()
    }
}

/// The platform's certificate verifier, made when the first certificate comes.
#[derive(Debug)]
struct Roots {
    extra: Vec<CertificateDer<'static>>,
    hidden_roots: bool,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, rustls::Error>>,
    /// The latest certificate refused for each name, because the handshake's error does not carry it.
    refused: Mutex<VecDeque<(ServerName<'static>, CertificateDer<'static>)>>,
}

impl Roots {
    fn note_refused(&self, name: &ServerName<'_>, certificate: &CertificateDer<'_>) {
        let name = name.to_owned();
        let mut refused = self.refused.guard();
        refused.retain(|(other, _)| *other != name);
        if refused.len() == MOST_REFUSED {
            refused.pop_front();
        }
        refused.push_back((name, certificate.clone().into_owned()));
    }

    fn verifier(&self) -> Result<&Verifier, rustls::Error> {
        let made = self.verifier.get_or_init(|| {
            let mut extra = self.extra.clone();
            if self.hidden_roots {
                extra.extend(system_folders());
            }
            Verifier::new_with_extra_roots(extra, self.provider.clone()).map_err(|error| match error {
                // The platform's verifier has this error where it found no root, and for nothing else.
                rustls::Error::General(_) => rustls::Error::Other(OtherError(Arc::new(NoRoots))),
                error => error,
            })
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
        let verified = self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = match verified {
            // The user has named this certificate. webpki refuses an authority's certificate as a server's, and
            // `openssl req -x509` makes such certificates; OpenSSL takes them.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if self.extra.contains(end_entity) => {
                let named = ParsedCertificate::try_from(end_entity)
                    .and_then(|certificate| verify_server_name(&certificate, server_name));
                match named {
                    Ok(()) if certificate::is_in_force(end_entity, now) => Ok(ServerCertVerified::assertion()),
                    Ok(()) => Err(CertificateError::Expired.into()),
                    Err(error) => Err(error),
                }
            }
            verified => verified,
        };
        if verified.is_err() {
            self.note_refused(server_name, end_entity);
        }
        verified
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
