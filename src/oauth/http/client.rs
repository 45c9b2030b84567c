//! The guarded HTTP client for authorization servers and for the MCP server's metadata (MCP Security Best Practices,
//! Server-Side Request Forgery; RFC 9728 §7.7): which URLs it requests, how long an answer may take, how much is read.
//!
//! # Invariants
//!
//! - No header, cookie or token of the MCP server is sent.
//! - No redirect of a request that has a secret in it is followed to another origin.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method};
use log::debug;
use reqwest::{Client, StatusCode, Url, dns::Resolve, header};

use crate::{
    bot_filter,
    config::{PlainHttp, ServerUrl, is_loopback},
    mcp::{EVENT_STREAM, header::PROTOCOL_VERSION, version::NEWEST_LEGACY},
    network::{
        ClientFactory, HttpVersions, Route,
        failure::{Http2Fault, tls_cause, words},
        gzip,
    },
    oauth::{
        error::{Error, Sent, Step},
        http::address::{GuardedResolver, Refused, with_lost_scheme},
    },
    report::{self, Code, Report, catalogue::FORWARD_SCHEME},
    status::Disposition,
    text::{self, host, one_line},
};

/// The most of an answer that is read, in bytes. Metadata and tokens are a few KB.
const LARGEST_ANSWER: usize = 1024 * 1024;
/// How long an answer may take, from the request to its last byte.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a metadata document may take: there are several places to look at, and a person waits.
const METADATA_PATIENCE: Duration = Duration::from_secs(10);
/// Redirects of one metadata document.
const MOST_REDIRECTS: usize = 5;
/// The protocol version whose discovery rules are followed, sent to servers that ask (MCP 2025-03-26,
/// Authorization, Server Metadata Discovery).
const REVISION: &str = NEWEST_LEGACY;

/// A client for one MCP server and whom its metadata name.
#[derive(Debug)]
pub(crate) struct HttpClient {
    clients: Arc<ClientFactory>,
    server: ServerUrl,
    plain_http: PlainHttp,
    /// Origins that the user has named.
    named: Vec<String>,
    /// Whether addresses may be nearer than the server is.
    private_addresses: bool,
    resolver: GuardedResolver,
    near: OnceLock<Client>,
    far: OnceLock<Client>,
    /// In the place of `far` where HTTP/2 does not work.
    far_http1: OnceLock<Client>,
    is_http1_only: AtomicBool,
    #[cfg(test)]
    script: Script,
}

/// Answers requests in place of the network: tests with a paused clock must not wait for sockets.
#[cfg(test)]
#[derive(Clone, Default)]
struct Script(Option<Arc<Answerer>>);
#[cfg(test)]
type Answerer = dyn Fn(&Url, &Bytes) -> Answer + Send + Sync;

/// What some servers write before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// Without headers, for fuzz targets.
    ///
    /// # Errors
    /// Where there is no such status.
    pub(crate) fn of(status: u16, body: &[u8]) -> Result<Self, String> {
        let status = StatusCode::from_u16(status).map_err(|error| error.to_string())?;
        Ok(Self { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body) })
    }

    /// Returns whom a bot filter has answered for, if it was one.
    pub(crate) fn filtered(&self, url: &Url) -> Option<Error> {
        let words = one_line(&self.body);
        bot_filter::has_answered(self.status, &self.headers, &words).then(|| Error::Filtered {
            host: host(url),
            status: self.status,
            words,
        })
    }

    /// Returns where a redirect leads that a POST to `url` follows, if this is one: on the same origin with the same
    /// method (RFC 9110 §15.4.8, §15.4.9); without a secret also to the same host with or without `www.`, and where only
    /// a slash at the end differs with any redirect, because a POST that becomes a GET was not meant.
    ///
    /// # Errors
    /// [`Error::Moved`] for any other redirect.
    pub(crate) fn moved(&self, step: Step, url: &Url, has_secret: bool) -> Result<Option<Url>, Error> {
        let location = self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location.filter(|_| self.status.is_redirection()) else { return Ok(None) };
        let moved = |to: String| Error::Moved { step, status: self.status, from: text::url(url), to };
        let Ok(to) = url.join(location) else { return Err(moved(one_line(location.as_bytes()))) };
        let to = with_lost_scheme(url, &to).unwrap_or(to);
        let keeps = matches!(self.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let may_become_get = matches!(self.status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND);
        let bare = |url: &Url| url.host_str().map(|host| host.strip_prefix("www.").unwrap_or(host).to_owned());
        let same_path =
            to.path().trim_end_matches('/') == url.path().trim_end_matches('/') && to.query() == url.query();
        let same_origin = to.origin() == url.origin();
        let same_site = same_origin
            || to.scheme() == url.scheme() && to.port() == url.port() && bare(&to).is_some() && bare(&to) == bare(url);
        let may_follow = same_origin && keeps || !has_secret && same_site && (keeps || may_become_get && same_path);
        if may_follow && to != *url { Ok(Some(to)) } else { Err(moved(text::url(&to))) }
    }
}

/// Says, once, what a server behind a proxy got wrong.
pub(crate) fn warn_of_lost_scheme(what: &str, url: &Url) {
    let sentence = format!("the server publishes {what} as {}, and mcp-remote uses https instead", text::url(url));
    report::warn_of(&Report::new(Code::BadAddress, sentence, Some(FORWARD_SCHEME)));
}

impl HttpClient {
    /// On behalf of `server`. Makes no client yet. `named` are addresses that the user has named:
    /// they may be anywhere.
    pub(crate) fn new(
        clients: Arc<ClientFactory>,
        server: ServerUrl,
        plain_http: PlainHttp,
        private_addresses: bool,
        named: &[&Url],
    ) -> Self {
        let hosts = named.iter().filter_map(|url| url.host_str().map(ToOwned::to_owned)).collect();
        let unguarded = [clients.proxy_hosts(), hosts].concat();
        let named = named.iter().map(|url| url.origin().ascii_serialization()).collect();
        let resolver = GuardedResolver::new(server.url(), unguarded, clients.is_ipv4_only());
        Self {
            clients,
            server,
            plain_http,
            named,
            private_addresses,
            resolver,
            near: OnceLock::new(),
            far: OnceLock::new(),
            far_http1: OnceLock::new(),
            is_http1_only: AtomicBool::new(false),
            #[cfg(test)]
            script: Script::default(),
        }
    }

    /// The MCP server.
    pub(crate) fn server(&self) -> &Url {
        self.server.url()
    }

    /// The server's challenge has come from this address.
    pub(crate) fn note_server_at(&self, address: IpAddr) {
        self.resolver.note_server_at(address);
    }

    /// Parses a URL that another party has named, and checks that it may be requested.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub(crate) async fn address(&self, what: &str, text: &str) -> Result<Url, Error> {
        let url = Url::parse(text).map_err(|_| not_a_url(what, text))?;
        self.check(what, &url).await?;
        Ok(url)
    }

    /// Parses a URL that stands in a document which came from `from`: it may be relative to that, and where only its
    /// scheme was lost at a proxy, it is the https one (MCP 2025-11-25, Communication Security).
    ///
    /// # Errors
    /// [`Error::Address`].
    pub(crate) async fn address_in(&self, from: &Url, what: &str, text: &str) -> Result<Url, Error> {
        let url = from.join(text).map_err(|_| not_a_url(what, text))?;
        let url = match with_lost_scheme(from, &url) {
            Some(regained) => {
                warn_of_lost_scheme(what, &url);
                regained
            }
            None => url,
        };
        self.check(what, &url).await?;
        Ok(url)
    }

    async fn check(&self, what: &str, url: &Url) -> Result<(), Error> {
        if self.named.contains(&url.origin().ascii_serialization()) {
            return Ok(()); // where the user sends us
        }
        let may_name = async {
            self.resolver.may_name(url, self.plain_http).await?;
            if self.clients.proxy_to(url).is_some() { self.resolver.may_name_to_proxy(url).await } else { Ok(()) }
        };
        match may_name.await {
            Ok(()) => Ok(()),
            Err(Refused::TooNear { .. }) if self.private_addresses => Ok(()),
            Err(refused) => Err(Error::Address {
                what: what.to_owned(),
                near: matches!(refused, Refused::TooNear { .. }),
                why: refused.to_string(),
            }),
        }
    }

    /// GETs a metadata document. `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Network`]; [`Error::Filtered`] and [`Error::MetadataRefused`], which leave open whether there is one;
    /// [`Error::Address`] for a redirect that leads where it must not.
    pub(crate) async fn metadata(&self, url: &Url) -> Result<Option<Bytes>, Error> {
        let silent = || network(url, format!("no response within {} s", METADATA_PATIENCE.as_secs()));
        let answer = tokio::time::timeout(METADATA_PATIENCE, self.follow(url)).await.unwrap_or_else(|_| Err(silent()));
        let answer = answer.inspect_err(|error| debug!("GET {} failed: {error}", without_query(url)))?;
        if let Some(filtered) = answer.filtered(url) {
            return Err(filtered);
        }
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            // Busy, not absent: what follows from there being none would be wrong.
            status if Disposition::of(status).is_busy() => Err(network(url, format!("HTTP {}", status.as_u16()))),
            StatusCode::FORBIDDEN => {
                Err(Error::MetadataRefused { place: text::url(url), words: one_line(&answer.body) })
            }
            _ => Ok(None),
        }
    }

    async fn follow(&self, url: &Url) -> Result<Answer, Error> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.get(&url).await?;
            let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            match location {
                Some(location) if answer.status.is_redirection() => {
                    // Each hop anew: MCP Security Best Practices, SSRF, "Validate redirect targets".
                    url = self.address_in(&url, "a redirect", location).await?;
                }
                _ => return Ok(answer),
            }
        }
        Err(Error::Metadata(format!("the server redirects more than {MOST_REDIRECTS} times")))
    }

    /// GETs a URL, following nothing.
    ///
    /// # Errors
    /// [`Error::Network`].
    pub(crate) async fn get(&self, url: &Url) -> Result<Answer, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(REVISION));
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// One request and all of its answer.
    ///
    /// # Errors
    /// [`Error::Network`].
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Error> {
        #[cfg(test)]
        if let Some(answer) = &self.script.0 {
            return Ok(answer(url, &body));
        }
        let failed = |error: reqwest::Error| match self.clients.distrust(&error, url) {
            Some(why) => {
                Error::Network { host: host(url), why: format!("its certificate {why}"), sent: Sent::NotTrusted }
            }
            None => {
                let sent = match (error.is_connect(), tls_cause(&error)) {
                    (true, Some(_)) => Sent::NotTrusted,
                    (true, None) => Sent::NotConnected,
                    (false, _) => Sent::Perhaps,
                };
                Error::Network { host: host(url), why: words(&error), sent }
            }
        };
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("mcp-remote/", env!("CARGO_PKG_VERSION"))));
        let client = self.client(url).map_err(|error| network(url, format!("{error:#}")))?;
        let whole = async {
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if !body.is_empty() {
                request = request.body(body.clone());
            }
            let mut response = match request.send().await {
                Ok(response) => response,
                Err(error) if self.gives_up_http2(&error, &method, url) => {
                    let again = self.client(url).map_err(|error| network(url, format!("{error:#}")))?;
                    let again = again.request(method.clone(), url.clone()).headers(headers).body(body);
                    again.send().await.map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            };
            response = gzip::decoded(response);
            let mut body = Vec::new();
            // A server that streams events at every path would be read forever.
            let streams = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
            if streams {
                return Ok(Answer { status: response.status(), headers: HeaderMap::new(), body: Bytes::new() });
            }
            while let Some(piece) = response.chunk().await.map_err(|error| network(url, words(&error)))? {
                if body.len() + piece.len() > LARGEST_ANSWER {
                    return Err(network(url, format!("it sent a response of more than {LARGEST_ANSWER} bytes")));
                }
                body.extend_from_slice(&piece);
            }
            let headers = std::mem::take(response.headers_mut());
            let mut body = Bytes::from(body);
            // It may be ignored before JSON (RFC 8259 §8.1).
            if body.starts_with(BYTE_ORDER_MARK) {
                body.advance(BYTE_ORDER_MARK.len());
            }
            Ok(Answer { status: response.status(), headers, body })
        };
        let answer = tokio::time::timeout(ANSWER_PATIENCE, whole)
            .await
            .map_err(|_| network(url, format!("no response within {} s", ANSWER_PATIENCE.as_secs())))??;
        debug!("{method} {}: HTTP {}", without_query(url), answer.status);
        Ok(answer)
    }

    /// Uses HTTP/1.1 from now on, if an error shows that HTTP/2 does not work there. Returns whether the request is sent
    /// again: it did not run, or it only reads.
    fn gives_up_http2(&self, error: &reqwest::Error, method: &Method, url: &Url) -> bool {
        let fault = Http2Fault::of(error).filter(|fault| *fault != Http2Fault::NotBegun);
        let Some(fault) = fault.filter(|_| url.scheme() == "https" && !is_loopback(url)) else { return false };
        if self.is_http1_only.swap(true, Relaxed) {
            return false;
        }
        // Which version of HTTP a closed connection had is not known.
        let what = if fault == Http2Fault::Closed { "the connection broke" } else { "HTTP/2 failed" };
        debug!("{what} with {} ({}); using HTTP/1.1", host(url), words(error));
        fault == Http2Fault::Refused || *method == Method::GET
    }

    fn client(&self, url: &Url) -> anyhow::Result<&Client> {
        let (slot, route, versions) = if is_loopback(url) {
            (&self.near, Route::Loopback, HttpVersions::Both)
        } else if self.is_http1_only.load(Relaxed) {
            (&self.far_http1, Route::Anywhere, HttpVersions::Http1)
        } else {
            (&self.far, Route::Anywhere, HttpVersions::Both)
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.clients.client(&route, versions, self.resolver())?;
        Ok(slot.get_or_init(|| client))
    }

    /// Who looks names up. It is asked for the proxy's name, too.
    fn resolver(&self) -> Option<Arc<dyn Resolve>> {
        (!self.private_addresses).then(|| Arc::new(self.resolver.clone()) as Arc<dyn Resolve>)
    }
}

/// Returns the failure of a request of which something may have arrived.
fn network(url: &Url, why: String) -> Error {
    Error::Network { host: host(url), why, sent: Sent::Perhaps }
}

fn not_a_url(what: &str, text: &str) -> Error {
    let why = format!("\"{}\" is not a URL", one_line(text.as_bytes()));
    Error::Address { what: what.to_owned(), why, near: false }
}

/// For the log: what comes after the path may be secret.
pub(crate) fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt;

    use super::*;
    use crate::{
        config::{Network, ProxyChoice},
        secret::Secret,
    };

    impl fmt::Debug for Script {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("Script")
        }
    }

    /// A client of the server at <https://203.0.113.1/mcp> to which `script` answers.
    pub(crate) fn scripted(script: impl Fn(&Url, &Bytes) -> Answer + Send + Sync + 'static) -> HttpClient {
        HttpClient { script: Script(Some(Arc::new(script))), ..http(false, &[]) }
    }

    fn http(private_addresses: bool, named: &[&Url]) -> HttpClient {
        http_by(ProxyChoice::Direct, private_addresses, named)
    }

    fn http_by(proxy: ProxyChoice, private_addresses: bool, named: &[&Url]) -> HttpClient {
        let server = ServerUrl::parse("https://203.0.113.1/mcp", PlainHttp::ForLoopback).unwrap();
        let network = Network { connect_timeout: ANSWER_PATIENCE, ..Network::with_proxy(proxy) };
        let clients = Arc::new(ClientFactory::new(&server, Arc::new(network)).unwrap());
        HttpClient::new(clients, server, PlainHttp::ForLoopback, private_addresses, named)
    }

    #[tokio::test]
    async fn name_resolved_by_proxy_is_checked() {
        let proxy = Some(Secret::new(Url::parse("http://proxy.example:3128").unwrap()));
        let by_proxy = || ProxyChoice::Explicit { http: None, https: proxy.clone(), except: String::new() };
        for (choice, is_refused) in [(by_proxy(), true), (ProxyChoice::Direct, false)] {
            let server = Url::parse("https://203.0.113.1/mcp").unwrap();
            let resolver = GuardedResolver::with_lookup(&server, Vec::new(), false, |_| {
                Box::pin(async { Ok(vec!["10.0.0.2:0".parse().unwrap()]) })
            });
            let http = HttpClient { resolver, ..http_by(choice, false, &[]) };
            let checked = http.address("the token endpoint", "https://intranet.corp.example/admin?x=1").await;
            // Without a proxy the resolver refuses it when the connection is made.
            assert_eq!(matches!(checked, Err(Error::Address { near: true, .. })), is_refused, "{checked:?}");
        }
    }

    #[test]
    fn post_follows_same_origin_redirects_only() {
        let url = Url::parse("https://as.example/token").unwrap();
        let moved = |status: u16, to: &'static str, has_secret| {
            let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(to))]);
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
            match answer.moved(Step::CodeExchange, &url, has_secret) {
                Ok(Some(to)) => to.to_string(),
                Ok(None) => "stays".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        for (status, to, has_secret, expected) in [
            (307, "/token/", true, "https://as.example/token/"),
            (308, "/v2/token", true, "https://as.example/v2/token"),
            (307, "http://as.example/v2/token", true, "https://as.example/v2/token"),
            (301, "/token/", false, "https://as.example/token/"),
            (302, "https://www.as.example/token", false, "https://www.as.example/token"),
            (307, "https://www.as.example/token", false, "https://www.as.example/token"),
            (200, "/elsewhere", true, "stays"),
        ] {
            assert_eq!(moved(status, to, has_secret), expected, "{status} {to}");
        }
        for (status, to, has_secret) in [
            (301, "/token/", true),
            (307, "https://www.as.example/token", true),
            (307, "https://other.example/token", false),
            (302, "/sign-in", false),
            (303, "/token/", false),
            (307, "http://www.as.example/token", false),
            (307, "/token", true),
        ] {
            let told = moved(status, to, has_secret);
            let start = "https://as.example/token redirects the authorization code exchange to http";
            let end = format!(", which mcp-remote does not follow (HTTP {status})");
            assert!(told.starts_with(start) && told.ends_with(&end), "{told}");
        }
    }

    #[tokio::test]
    async fn private_address_needs_flag_and_tls() {
        let near = Url::parse("https://10.0.0.1/token").unwrap();
        assert!(http(false, &[]).address("it", near.as_str()).await.is_err());
        assert!(http(true, &[]).address("it", near.as_str()).await.is_ok());
        assert!(http(false, &[&near]).address("it", near.as_str()).await.is_ok());
        for other in ["http://10.0.0.1/token", "https://10.0.0.1:9200/token"] {
            assert!(http(false, &[&near]).address("it", other).await.is_err(), "{other}");
        }
        assert!(http(true, &[]).address("it", "http://10.0.0.1/token").await.is_err());
    }
}
