//! The network settings: certificates, proxies and their variables.
//!
//! # Invariants
//!
//! - No message shows a proxy's credentials.

use std::path::Path;

use reqwest::Url;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{
    Environment,
    flags::Args,
    mistakes::{Mistake, unreadable},
};
use crate::{
    config::{ClientCertificate, Network, ProxyChoice, values::limit},
    network::{certificate, proxy::default_port},
    secret::Secret,
};

pub(super) fn network(
    args: &Args,
    environment: Environment<'_>,
    remarks: &mut Vec<String>,
) -> Result<Network, Mistake> {
    let mut roots = Vec::new();
    for path in &args.ca_cert {
        roots.extend(certificates("--ca-cert", path)?);
    }
    if let Some(path) = environment("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty()) {
        match certificates("NODE_EXTRA_CA_CERTS", Path::new(&path)) {
            Ok(extra) => roots.extend(extra),
            // As Node does.
            Err(why) => remarks.push(format!("ignoring additional CA certificates: {}", why.report().sentence)),
        }
    }
    let identity = match (&args.client_cert, &args.client_key) {
        (Some(chain), Some(key)) => Some(ClientCertificate {
            chain: certificates("--client-cert", chain)?,
            key: Secret::new(
                PrivateKeyDer::from_pem_slice(&read("--client-key", key)?)
                    .map_err(|_| format!("{} (--client-key) has no private key in PEM form", key.display()))?,
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

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let text = read(flag, path)?;
    match certificate::in_pem(&text) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{} ({flag}) has no certificate in PEM form", path.display()).into()),
        Err(_) => Err(format!("{} ({flag}) has a damaged certificate", path.display()).into()),
    }
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Mistake> {
    std::fs::read(path).map_err(|error| unreadable(flag, path, &error))
}

fn proxy(flag: Option<&str>, environment: Environment<'_>) -> Result<ProxyChoice, Mistake> {
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
            _ => Err(Mistake::new(
                format!("{place} is not the URL of a proxy"),
                "begin it with http://, https:// or socks5://, such as http://USER:PASSWORD@HOST:PORT",
            )),
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
