//! How to reach the network.

use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::secret::Secret;

/// How to reach the network.
#[derive(Debug)]
pub(crate) struct Network {
    /// Trusted besides the operating system's roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// `SSL_CERT_FILE` is set, which would hide the operating system's roots.
    pub hidden_roots: bool,
    /// Shown to servers that ask who we are.
    pub identity: Option<ClientCertificate>,
    /// Which proxy.
    pub proxy: ProxyChoice,
    /// No IPv6.
    pub ipv4: bool,
    /// No HTTP/2.
    pub http1: bool,
    /// Keep the server's cookies.
    pub cookies: bool,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// From a request to its response headers.
    pub headers_timeout: Option<Duration>,
    /// Between two pieces of a body.
    pub body_timeout: Option<Duration>,
}

#[cfg(test)]
impl Network {
    /// Returns the settings of a user who sets nothing but the proxy, without cookies and time-outs.
    pub(crate) fn with_proxy(proxy: ProxyChoice) -> Self {
        Self {
            roots: Vec::new(),
            hidden_roots: false,
            identity: None,
            proxy,
            ipv4: false,
            http1: false,
            cookies: false,
            connect_timeout: Duration::from_secs(10),
            headers_timeout: None,
            body_timeout: None,
        }
    }
}

/// A client certificate (RFC 8446 §4.4.2).
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// Own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Secret<PrivateKeyDer<'static>>,
}

/// Which proxy leads to the server. None ever does to loopback.
#[derive(Debug)]
pub(crate) enum ProxyChoice {
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
