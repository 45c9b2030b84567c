//! Which proxy leads to a URL: one set of rules for every connection.
//!
//! # Invariants
//!
//! - No proxy leads to this machine.
//! - A proxy's credentials are sent to the proxy only.

use std::{io, sync::Arc, time::Duration};

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::{StatusCode, Url, header::HeaderValue};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::lookup::lookup;
use crate::{
    config::{Network, ProxyChoice, is_loopback},
    secret::Secret,
    text,
};

/// How much of a proxy's answer is read, in bytes: any header section is shorter.
const PROXY_ANSWER: usize = 16 * 1024;
/// How long a proxy may take to repeat its refusal: an error message waits for it.
const LONGEST_REFUSAL: Duration = Duration::from_secs(5);

/// Returns the proxy that leads to `url`.
pub(crate) fn to(url: &Url, choice: &ProxyChoice) -> Option<Intercept> {
    if is_loopback(url) {
        return None;
    }
    matcher(choice)?.intercept(&url.as_str().parse().ok()?)
}

/// Returns the hosts of the proxies that the operating system names, for http and for https.
pub(super) fn system_hosts() -> Vec<String> {
    let system = Matcher::from_system();
    let of_scheme = |scheme: &str| {
        let anywhere = format!("{scheme}://example.com/").parse().ok()?;
        Some(system.intercept(&anywhere)?.uri().host()?.to_owned())
    };
    ["http", "https"].into_iter().filter_map(of_scheme).collect()
}

/// Returns the same rules for reqwest; `None` if they are those of the operating system, which reqwest asks itself.
pub(super) fn for_reqwest(choice: &ProxyChoice) -> Option<reqwest::Proxy> {
    let ProxyChoice::Explicit { http, https, .. } = choice else { return None };
    let (http, https) = (http.clone(), https.clone());
    let matcher = Arc::new(matcher(choice)?);
    Some(reqwest::Proxy::custom(move |url| {
        matcher.intercept(&url.as_str().parse().ok()?)?;
        let proxy = if url.scheme() == "https" { &https } else { &http };
        proxy.as_ref().map(|proxy| proxy.expose().clone())
    }))
}

fn matcher(choice: &ProxyChoice) -> Option<Matcher> {
    let text = |proxy: &Option<Secret<Url>>| proxy.as_ref().map(|proxy| proxy.expose().to_string()).unwrap_or_default();
    match choice {
        ProxyChoice::Direct => None,
        ProxyChoice::System => Some(Matcher::from_system()),
        ProxyChoice::Explicit { http, https, except } => {
            Some(Matcher::builder().http(text(http)).https(text(https)).no(except.clone()).build())
        }
    }
}

/// How a proxy refused a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyRefusal {
    /// The status line, made fit for a line of text.
    pub words: String,
    /// The status.
    pub status: Option<StatusCode>,
    /// The schemes of `Proxy-Authenticate` (RFC 9110 §11.7.1).
    pub schemes: Vec<String>,
}

/// A proxy that cannot reach the server at present. Nothing was sent, and it may be otherwise in a moment.
#[derive(Debug, thiserror::Error)]
#[error("the proxy answered \"{0}\"")]
pub(crate) struct UnreachableByProxy(pub String);

/// Returns host and port of a proxy: the one rule for a URL without a port.
pub(crate) fn host_and_port(proxy: &Intercept) -> (String, u16) {
    let uri = proxy.uri();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    (host, uri.port_u16().unwrap_or_else(|| default_port(uri.scheme_str().unwrap_or_default())))
}

/// Returns the port of a proxy whose URL has none.
pub(crate) fn default_port(scheme: &str) -> u16 {
    match scheme {
        "http" => 80,
        "https" => 443,
        _ => 1080, // RFC 1928 §3
    }
}

/// Returns the schemes in the value of a `Proxy-Authenticate` (RFC 9110 §11.6.1).
pub(crate) fn schemes(value: &str) -> Vec<String> {
    let mut is_quoted = false;
    let parts = value.split(|one| {
        is_quoted ^= one == '"';
        one == ',' && !is_quoted
    });
    // What has a sign after its first word is a parameter of the scheme before.
    let words = parts.map(str::trim).filter_map(|part| match part.split_once([' ', '\t']) {
        Some((_, rest)) if rest.trim_start().starts_with('=') => None,
        Some((word, _)) => Some(word),
        None => Some(part),
    });
    words.filter(|word| !word.is_empty() && !word.contains('=')).map(|word| text::one_line(word.as_bytes())).collect()
}

/// Asks a proxy for a tunnel to `target` (host and port) on a connection of its own, and returns its refusal. This second
/// connection is needed because hyper-util, which opens the real tunnels, drops the proxy's answer. Without `credential`
/// where the proxy refused it already, because an account may be locked after a few refusals.
pub(super) async fn refusal(
    proxy: &Intercept,
    credential: Option<&HeaderValue>,
    target: &str,
    network: &Network,
) -> Option<ProxyRefusal> {
    let patience = network.connect_timeout.min(LONGEST_REFUSAL);
    let opened = timeout(patience, dial(proxy, credential, target, network.ipv4, patience)).await;
    opened.ok()?.ok()?.err()?
}

/// Connects to `proxy` and opens a tunnel to `target`, or returns the proxy's refusal: `None` for a proxy that
/// does not speak plain HTTP, to which no connection is made.
pub(crate) async fn open_tunnel(
    proxy: &Intercept,
    target: &str,
    ipv4: bool,
    patience: Duration,
) -> io::Result<Result<TcpStream, Option<ProxyRefusal>>> {
    dial(proxy, proxy.basic_auth(), target, ipv4, patience).await
}

async fn dial(
    proxy: &Intercept,
    credential: Option<&HeaderValue>,
    target: &str,
    ipv4: bool,
    patience: Duration,
) -> io::Result<Result<TcpStream, Option<ProxyRefusal>>> {
    if proxy.uri().scheme_str() != Some("http") {
        return Ok(Err(None));
    }
    let (host, port) = host_and_port(proxy);
    let stream = connect(&host, port, ipv4, patience).await?;
    Ok(tunnel(stream, credential, target).await?.map_err(Some))
}

/// Connects to the first address that answers. Each has its share of the time, so that one that swallows packets leaves
/// some for the next.
pub(crate) async fn connect(host: &str, port: u16, ipv4: bool, patience: Duration) -> io::Result<TcpStream> {
    let mut addresses = lookup(host, port).await?;
    addresses.retain(|address| address.is_ipv4() || !ipv4);
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    Err(io::ErrorKind::NotConnected.into())
}

/// Opens a tunnel through `stream`, a connection to `proxy` (RFC 9110 §9.3.6), or returns the proxy's refusal.
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    credential: Option<&HeaderValue>,
    target: &str,
) -> io::Result<Result<S, ProxyRefusal>> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(credential) = credential {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credential.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    // Byte by byte, because what follows the header section is the server's.
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < PROXY_ANSWER {
        answer.push(stream.read_u8().await?);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status.len() == 3 && status.starts_with(b"2") {
        return Ok(Ok(stream));
    }
    let head = String::from_utf8_lossy(&answer);
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let asked = fields.filter(|(name, _)| name.eq_ignore_ascii_case("Proxy-Authenticate"));
    Ok(Err(ProxyRefusal {
        words: text::one_line(line),
        status: StatusCode::from_bytes(status).ok(),
        schemes: asked.flat_map(|(_, value)| schemes(value)).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(except: &str) -> ProxyChoice {
        let proxy = |text: &str| Some(Secret::new(Url::parse(text).unwrap()));
        ProxyChoice::Explicit {
            http: proxy("http://plain.example:1/"),
            https: proxy("http://anna:hush@secure.example:2/"),
            except: except.to_owned(),
        }
    }

    #[test]
    fn rules_choose_by_scheme_exception_and_loopback() {
        for (url, proxy) in [
            ("http://mcp.example/", Some("http://plain.example:1/")),
            ("https://mcp.example/", Some("http://secure.example:2/")),
            ("https://other.example/", None),
            ("https://a.other.example/", None),
            ("https://10.1.2.3/", None),
            ("http://127.0.0.1:9/", None),
            ("http://localhost/", None),
        ] {
            let choice = explicit("other.example,10.0.0.0/8");
            let found = to(&Url::parse(url).unwrap(), &choice).map(|proxy| proxy.uri().to_string());
            assert_eq!(found.as_deref(), proxy, "{url}");
        }
    }

    #[tokio::test]
    async fn refused_tunnel_returns_status_line() {
        let proxy = to(&Url::parse("https://mcp.example/").unwrap(), &explicit("")).unwrap();
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"HTTP/1.1 403 Not for\x1b[31m you\r\nVia: x\r\n\r\n").await.unwrap();
        let refusal = tunnel(near, proxy.basic_auth(), "mcp.example:443").await.unwrap().unwrap_err();
        assert_eq!(refusal.words, "HTTP/1.1 403 Not for [31m you");
        let mut request = String::new();
        far.read_to_string(&mut request).await.unwrap();
        assert_eq!(
            request,
            "CONNECT mcp.example:443 HTTP/1.1\r\nHost: mcp.example:443\r\nProxy-Authorization: Basic YW5uYTpodXNo\r\n\r\n"
        );
    }

    #[test]
    fn proxy_schemes_are_told_from_parameters() {
        for (value, expected) in [
            ("Negotiate, NTLM", &["Negotiate", "NTLM"][..]),
            (" Basic realm=\"a, Digest\", charset=UTF-8", &["Basic"]),
            ("Digest realm = x, nonce =y, Basic realm=z", &["Digest", "Basic"]),
            ("NTLM TlRMTVNTUAAB==", &["NTLM"]),
            ("", &[]),
        ] {
            assert_eq!(schemes(value), expected, "{value}");
        }
    }

    #[test]
    fn proxy_port_defaults_by_scheme() {
        for (scheme, port) in [("http", 80), ("https", 443), ("socks5", 1080), ("socks4a", 1080)] {
            let at = Some(Secret::new(Url::parse(&format!("{scheme}://[::1]/")).unwrap()));
            let choice = ProxyChoice::Explicit { http: None, https: at, except: String::new() };
            let proxy = to(&Url::parse("https://mcp.example/").unwrap(), &choice).unwrap();
            assert_eq!(host_and_port(&proxy), ("::1".to_owned(), port), "{scheme}");
        }
    }

    #[tokio::test]
    async fn proxy_without_plain_http_is_not_dialed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for (scheme, dialed) in [("https", false), ("socks5", false), ("http", true)] {
            let at = Some(Secret::new(Url::parse(&format!("{scheme}://127.0.0.1:{port}/")).unwrap()));
            let choice = ProxyChoice::Explicit { http: None, https: at, except: String::new() };
            let proxy = to(&Url::parse("https://mcp.example/").unwrap(), &choice).unwrap();
            let opened = open_tunnel(&proxy, "mcp.example:443", true, LONGEST_REFUSAL);
            tokio::select! {
                opened = opened => assert!(!dialed && matches!(opened, Ok(Err(None))), "{scheme}: {opened:?}"),
                connection = listener.accept() => assert!(dialed && connection.is_ok(), "{scheme}"),
            }
        }
    }
}
