//! The TLS of every connection: the platform's roots and the user's, the client certificate, ALPN.
//!
//! # Invariants
//!
//! - No root is loaded before a TLS connection is wanted, or certain to be.
//! - Only the platform's roots, or the user who named a certificate, make a certificate trusted.
//! - Only the platform's verifier refuses a certificate: some of its roots are enough to trust, all of them are needed to
//!   refuse.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
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
    pub(super) fn new(server: &ServerUrl, network: &Arc<Network>) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(Roots {
            network: network.clone(),
            provider: provider.clone(),
            bundle: OnceLock::new(),
            verifier: OnceLock::new(),
            refused: Mutex::default(),
        });
        if server.url().scheme() == "https" {
            // Loading them takes milliseconds, which the connection needs anyway.
            let early = roots.clone();
            _ = std::thread::Builder::new().name("roots".into()).spawn(move || early.load());
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous() // the name of rustls' door for a verifier of one's own; ours trusts what the platform's trusts
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
    network: Arc<Network>,
    provider: Arc<CryptoProvider>,
    /// The user's roots and those of the platform's one file. Folders of roots have a file for each, and mostly the same
    /// ones: they are read only if these here do not suffice.
    bundle: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
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

    /// Loads what the first certificate needs.
    fn load(&self) {
        if self.bundle().is_none() {
            _ = self.verifier();
        }
    }

    fn bundle(&self) -> Option<&WebPkiServerVerifier> {
        self.bundle
            .get_or_init(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(bundle()?);
                for extra in &self.network.roots {
                    roots.add(extra.clone()).ok()?; // the platform's verifier says what is wrong with it
                }
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build().ok()
            })
            .as_deref()
    }

    fn verifier(&self) -> Result<&Verifier, rustls::Error> {
        let made = self.verifier.get_or_init(|| {
            let mut extra = self.network.roots.clone();
            if self.network.hidden_roots {
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

/// Returns the roots of the platform's one file, if the platform has such a file and nothing in it is damaged.
#[cfg(all(unix, not(target_vendor = "apple"), not(target_os = "android")))]
fn bundle() -> Option<Vec<CertificateDer<'static>>> {
    // As rustls-native-certs looks for it.
    let file = match (std::env::var_os("SSL_CERT_FILE"), std::env::var_os("SSL_CERT_DIR")) {
        (Some(file), _) => file.into(),
        (None, Some(folders)) if !folders.is_empty() => return None, // only what is in there is meant
        _ => openssl_probe::probe().cert_file?,
    };
    certificate::in_pem(&std::fs::read(file).ok()?).ok()
}

#[cfg(not(all(unix, not(target_vendor = "apple"), not(target_os = "android"))))]
fn bundle() -> Option<Vec<CertificateDer<'static>>> {
    None
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
        if let Some(bundle) = self.bundle()
            && let Ok(verified) = bundle.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            return Ok(verified);
        }
        let verified = self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = match verified {
            // The user has named this certificate. webpki refuses an authority's certificate as a server's, and
            // `openssl req -x509` makes such certificates; OpenSSL takes them.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.network.roots.contains(end_entity) =>
            {
                let named = ParsedCertificate::try_from(end_entity)
                    .and_then(|certificate| verify_server_name(&certificate, server_name));
                named
                    .and_then(|()| certificate::check_dates(end_entity, now).map_err(Into::into))
                    .map(|()| ServerCertVerified::assertion())
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
        match self.bundle() {
            Some(bundle) => bundle.verify_tls12_signature(message, cert, dss),
            None => self.verifier()?.verify_tls12_signature(message, cert, dss),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.bundle() {
            Some(bundle) => bundle.verify_tls13_signature(message, cert, dss),
            None => self.verifier()?.verify_tls13_signature(message, cert, dss),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
