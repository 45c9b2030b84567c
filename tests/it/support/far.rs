//! A server on loopback under the name of another: a proxy that answers every CONNECT itself, with a
//! certificate of a private authority for that name.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

/// The proxy, and the authority behind it.
pub struct Far {
    folder: TempDir,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Far {
    /// Leads everybody who asks for `name` to this port.
    pub async fn named(name: &str, to: u16) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(certificate.der().to_vec())],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(lead(stream, acceptor.clone(), to));
            }
        });
        Self { folder, port, _tasks: tasks }
    }

    /// Flags that lead there.
    pub fn flags(&self) -> [String; 4] {
        let authority = self.folder.path().join("ca.pem").to_str().unwrap().to_owned();
        ["--proxy".into(), format!("http://127.0.0.1:{}", self.port), "--ca-cert".into(), authority]
    }
}

async fn lead(mut stream: TcpStream, acceptor: TlsAcceptor, to: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut behind = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    _ = copy_bidirectional(&mut stream, &mut behind).await;
}
