//! The network settings: certificates, proxies and their variables.
//!
//! # Invariants
//!
//! - No message shows a proxy's credentials.

use std::path::Path;

use reqwest::Url;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Environment, flags::Args};
use crate::{
    config::{ClientCertificate, Network, ProxyChoice, values::limit},
    network::proxy::default_port,
    secret::Secret,
};

pub(super) fn network(args: &Args, environment: Environment<'_>, remarks: &mut Vec<String>) -> Result<Network, String> {
    let mut roots = Vec::new();
    for path in &args.ca_cert {
        roots.extend(certificates(path).map_err(|why| format!("--ca-cert {}: {why}", path.display()))?);
    }
    if let Some(path) = environment("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty()) {
        match certificates(Path::new(&path)) {
            Ok(extra) => roots.extend(extra),
            Err(why) => remarks.push(format!("NODE_EXTRA_CA_CERTS={path} is left out: {why}")), // as Node does
        }
    }
    let identity = match (&args.client_cert, &args.client_key) {
        (Some(chain), Some(key)) => Some(ClientCertificate {
            chain: certificates(chain).map_err(|why| format!("--client-cert {}: {why}", chain.display()))?,
            key: Secret::new(
                PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("--client-key {}: {error}", key.display()))?,
            ),
        }),
        _ => None,
    };
    Ok(Network {
        roots,
        hidden_roots: environment("SSL_CERT_FILE").is_some_and(|path| !path.is_empty()),
        identity,
        proxy: proxy(args.proxy.as_deref(), environment)?,
        ipv4: args.ipv4,
        http1: args.http1,
        cookies: !args.disable_cookies,
        connect_timeout: args.connect_timeout,
        headers_timeout: limit(args.headers_timeout),
        body_timeout: limit(args.body_timeout),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(certificates) }
}

fn proxy(flag: Option<&str>, environment: Environment<'_>) -> Result<ProxyChoice, String> {
    let variable = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| Some((name, environment(name).filter(|text| !text.is_empty())?)))
    };
    let parse = |place: &str, text: &str| {
        // A bare host and port means http, as curl has it.
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        match url {
            Ok(mut url)
                if matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h")
                    && url.has_host() =>
            {
                // The client would take 80 for any scheme that it does not know.
                if url.port_or_known_default().is_none() {
                    _ = url.set_port(Some(default_port(url.scheme())));
                }
                Ok(Secret::new(url))
            }
            _ => {
                Err(format!("{place} is not a proxy's address: it must be http://, https:// or socks5:// with a host"))
            }
        }
    };
    let for_scheme = |names| match (flag, variable(names).or_else(|| variable(["ALL_PROXY", "all_proxy"]))) {
        (Some(flag), _) => parse("--proxy", flag).map(Some),
        (None, Some((name, text))) => parse(name, &text).map(Some),
        (None, None) => Ok(None),
    };
    let (http, https) = (for_scheme(["HTTP_PROXY", "http_proxy"])?, for_scheme(["HTTPS_PROXY", "https_proxy"])?);
    let named = variable(["NO_PROXY", "no_proxy"]).map(|(_, hosts)| hosts).unwrap_or_default();
    if named.split(',').any(|host| host.trim() == "*") {
        return Ok(ProxyChoice::Direct);
    }
    if http.is_none() && https.is_none() {
        return Ok(ProxyChoice::System);
    }
    Ok(ProxyChoice::Explicit { http, https, except: format!("localhost,127.0.0.0/8,::1,{named}") })
}
