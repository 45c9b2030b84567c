//! The one door to the network: one client configuration (roots, proxy, time-outs, IP family) for
//! everything, the user's headers, cookies, redirects; what a refusal means.
//!
//! Must never: let a header, a cookie or a body reach another origin than the server's; follow a
//! redirect that leaves it; keep more of a body than the limit.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Client, Method, NoProxy, Proxy, Request, Response, StatusCode, Url,
    cookie::{CookieStore, Jar},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;

use super::{
    error::{Error, Refusal, same_origin},
    window::Window,
};
use crate::{
    config::{Network, ProxyChoice, ServerUrl},
    message::{Assembly, Body, Message, Shape},
    report::shown,
};

/// `Mcp-Session-Id` (MCP 2025-03-26 to 2025-11-25, Transports, Session Management).
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `MCP-Protocol-Version` (MCP 2025-06-18, Transports, Protocol Version Header).
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Last-Event-ID` (WHATWG HTML §9.2.4).
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What an event stream calls itself.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Redirects followed for one request: a mounted application adds a slash, a proxy another.
const MOST_REDIRECTS: usize = 5;
/// How much of a refusal's body is read, in bytes: enough for any JSON-RPC error.
const REFUSAL_BODY: usize = 256 * 1024;
/// How long a refusal's body may take.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);
/// Idle connections are closed before the usual balancer (60 s) closes them under a request.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// Probes that find out about a peer that is gone without a word; also what keeps a NAT entry.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// HTTP/2 receive windows, in bytes: the protocol's own 64 KiB would hold a far server's large
/// answer to one window a round trip.
const HTTP2_WINDOW: u32 = 4 * 1024 * 1024;

/// The client, and what goes with every request to the server.
#[derive(Debug)]
pub struct Http {
    client: Client,
    server: Url,
    headers: HeaderMap,
    cookies: Option<Cookies>,
    window: Window,
    headers_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    /// Largest answer and largest event, in bytes.
    pub limit: usize,
}

impl Http {
    /// Builds the client. Opens nothing and reads no file: roots are loaded with the first TLS
    /// connection.
    ///
    /// # Errors
    /// Where the settings do not fit together, such as a key that is not the certificate's.
    pub fn new(server: &ServerUrl, headers: &HeaderMap, network: &Network, limit: usize) -> anyhow::Result<Self> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none()) // followed below, where the origin is checked
            .tls_backend_preconfigured(tls(server, network)?)
            .connect_timeout(network.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(usize::MAX)
            .tcp_keepalive(TCP_KEEP_ALIVE)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(HTTP2_WINDOW)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            .http2_keep_alive_interval(TCP_KEEP_ALIVE)
            .http2_keep_alive_while_idle(true);
        if network.ipv4 {
            // An IPv4 source address leaves only IPv4 destinations.
            builder = builder.local_address(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        }
        builder = match &network.proxy {
            _ if server.is_loopback() => builder.no_proxy(),
            ProxyChoice::Direct => builder.no_proxy(),
            ProxyChoice::System => builder, // macOS and Windows settings; the variables are read in `cli`
            ProxyChoice::Explicit { http, https, except } => {
                let except = NoProxy::from_string(except);
                if let Some(proxy) = http {
                    builder = builder.proxy(Proxy::http(proxy.expose().clone())?.no_proxy(except.clone()));
                }
                if let Some(proxy) = https {
                    builder = builder.proxy(Proxy::https(proxy.expose().clone())?.no_proxy(except));
                }
                builder
            }
        };
        let mut all = HeaderMap::new();
        all.insert(header::USER_AGENT, HeaderValue::from_static(concat!("mcp-remote/", env!("CARGO_PKG_VERSION"))));
        for name in headers.keys() {
            all.remove(name);
            for value in headers.get_all(name) {
                all.append(name, value.clone());
            }
        }
        Ok(Self {
            client: builder.build()?,
            server: server.url().clone(),
            headers: all,
            cookies: network.cookies.then(|| Cookies::new(server.url())),
            window: Window::new(),
            headers_timeout: network.headers_timeout,
            body_timeout: network.body_timeout,
            limit,
        })
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// The headers every request carries.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// POSTs a message (MCP, Transports, Sending Messages to the Server), in its turn.
    ///
    /// # Errors
    /// [`Error`]; a status that is no success is one.
    pub async fn post(&self, url: &Url, headers: &HeaderMap, body: &Body) -> Result<Response, Error> {
        let body = body.to_bytes();
        let fill = |headers: &mut HeaderMap, request: &mut Option<reqwest::Body>| {
            // Both, whatever the user's headers say: the server chooses for each answer.
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request = Some(body.clone().into());
        };
        let _place = self.window.enter().await;
        self.request(Method::POST, url, headers, fill).await
    }

    /// GETs an event stream, from `last_id` on where there is one.
    ///
    /// # Errors
    /// [`Error`]; [`Error::NotMcp`] if what came is no event stream.
    pub async fn listen(&self, url: &Url, headers: &HeaderMap, last_id: Option<&Bytes>) -> Result<Response, Error> {
        let response = self
            .request(Method::GET, url, headers, |headers, _| {
                headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM));
                if let Some(last_id) = last_id.and_then(|id| HeaderValue::from_bytes(id).ok()) {
                    headers.insert(LAST_EVENT_ID, last_id);
                }
            })
            .await?;
        if is_event_stream(&response) { Ok(response) } else { Err(not_mcp(&response, &[])) }
    }

    /// DELETEs the session; whatever the server says to that is fine.
    pub async fn delete(&self, url: &Url, headers: &HeaderMap) {
        _ = self.request(Method::DELETE, url, headers, |_, _| {}).await;
    }

    async fn request(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        fill: impl Fn(&mut HeaderMap, &mut Option<reqwest::Body>),
    ) -> Result<Response, Error> {
        let mut url = url.clone();
        let mut redirects = 0;
        loop {
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            let mut body = None;
            fill(request.headers_mut(), &mut body);
            *request.body_mut() = body;
            if let Some(cookies) = &self.cookies {
                cookies.add_to(request.headers_mut(), &url);
            }
            let answer = self.client.execute(request);
            let response = match self.headers_timeout {
                None => answer.await,
                Some(after) => tokio::time::timeout(after, answer)
                    .await
                    .map_err(|_| Error::Silent { what: "response headers", after })?,
            }
            .map_err(Error::of_request)?;
            if let Some(cookies) = &self.cookies {
                cookies.keep(response.headers(), &url);
            }
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let Some(target) = redirect(&response, &url) else {
                return Err(Error::Refused(Box::new(refusal(response).await)));
            };
            // Only these two keep method and body (RFC 9110 §15.4.8, §15.4.9).
            let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            redirects += 1;
            let stays = same_origin(&target, &self.server);
            if !(stays && (keeps || method == Method::GET) && redirects <= MOST_REDIRECTS) {
                let mut to = target;
                to.set_query(None);
                to.set_fragment(None);
                _ = to.set_username("");
                _ = to.set_password(None);
                return Err(Error::Redirected { status, to: to.into() });
            }
            url = target;
        }
    }

    /// The next piece of a body; `None` at its end. An event stream may be quiet for as long as it
    /// likes unless the user set a limit.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection broke, [`Error::Silent`] after the body time-out.
    pub async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Error> {
        // A server that sends without end must not keep the thread to itself; neither must a decoder
        // that is always ready.
        tokio::task::coop::consume_budget().await;
        let chunk = response.chunk();
        match self.body_timeout {
            None => chunk.await,
            Some(after) => tokio::time::timeout(after, chunk)
                .await
                .map_err(|_| Error::Silent { what: "data from the server", after })?,
        }
        .map_err(Error::of_body)
    }

    /// Reads a whole JSON body as a message, checked while it comes; `None` if it is empty.
    ///
    /// # Errors
    /// [`Error::NotMcp`] for a body that is not JSON and does not claim to be,
    /// [`Error::BadMessage`] for one that does, [`Error::TooLarge`], and those of [`chunk`](Self::chunk).
    pub async fn message(&self, mut response: Response) -> Result<Option<Message>, Error> {
        let claims_json = essence(&response).is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"));
        let (mut assembly, mut length, mut beginning) = (Assembly::default(), 0, Bytes::new());
        let fault = |malformed, response: &Response, beginning: &[u8]| {
            if claims_json { Error::BadMessage(malformed) } else { not_mcp(response, beginning) }
        };
        while let Some(piece) = self.chunk(&mut response).await? {
            length += piece.len();
            if length > self.limit {
                return Err(Error::TooLarge { limit: self.limit });
            }
            if beginning.is_empty() {
                beginning = piece.clone();
            }
            assembly.push(piece).map_err(|malformed| fault(malformed, &response, &beginning))?;
        }
        if length == 0 {
            return Ok(None);
        }
        assembly.finish().map(Some).map_err(|malformed| fault(malformed, &response, &beginning))
    }
}

/// Whether the response is an event stream, by its type without parameters and in any case.
#[must_use]
pub fn is_event_stream(response: &Response) -> bool {
    essence(response).as_deref() == Some(EVENT_STREAM)
}

fn essence(response: &Response) -> Option<String> {
    let value = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn not_mcp(response: &Response, beginning: &[u8]) -> Error {
    let kind = essence(response).unwrap_or_else(|| "no content type".to_owned());
    let text = shown(beginning);
    Error::NotMcp(if text.is_empty() { format!("{kind} came back") } else { format!("{kind} came back: {text}") })
}

fn redirect(response: &Response, from: &Url) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}

async fn refusal(mut response: Response) -> Refusal {
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            text.extend_from_slice(&piece[..piece.len().min(REFUSAL_BODY - text.len())]);
            if text.len() == REFUSAL_BODY {
                break;
            }
        }
    };
    _ = tokio::time::timeout(REFUSAL_PATIENCE, read).await;
    let shown = shown(&text);
    let mut assembly = Assembly::default();
    let message = assembly.push(text.into()).and_then(|()| assembly.finish()).ok();
    let answer = message.filter(|message| matches!(message.shape, Shape::Response { .. }));
    let text = answer.as_ref().and_then(error_message).unwrap_or(shown);
    Refusal { status, retry_after, text, answer }
}

/// The `message` of a JSON-RPC error: what a person should see of it.
fn error_message(answer: &Message) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(&answer.body.to_bytes()).ok()?;
    Some(shown(value.get("error")?.get("message")?.as_str()?.as_bytes()))
}

/// Seconds or a date (RFC 9110 §10.2.3), from now.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

/// Cookies go back to the exact origin that set them, as npm's do: `Domain` and `Secure` are
/// ignored, `Path` and the two expiries count. A sticky balancer needs no more.
///
/// Not reqwest's own layer, which parses the address again for every request although most servers
/// never set a cookie.
#[derive(Debug)]
struct Cookies {
    origin: Url,
    jar: Jar,
    /// Whether there ever was one.
    any: AtomicBool,
}

impl Cookies {
    fn new(server: &Url) -> Self {
        Self { origin: server.clone(), jar: Jar::default(), any: AtomicBool::new(false) }
    }

    fn keep(&self, headers: &HeaderMap, url: &Url) {
        if !headers.contains_key(header::SET_COOKIE) || !same_origin(url, &self.origin) {
            return;
        }
        let counts = |attribute: &&str| {
            let name = attribute.split('=').next().unwrap_or_default().trim();
            !["domain", "secure", "samesite", "partitioned"].iter().any(|ignored| name.eq_ignore_ascii_case(ignored))
        };
        for value in headers.get_all(header::SET_COOKIE).iter().filter_map(|header| header.to_str().ok()) {
            let mut parts = value.split(';');
            let pair = parts.next().into_iter();
            let kept: Vec<_> = pair.chain(parts.filter(counts)).collect();
            self.jar.add_cookie_str(&kept.join(";"), url);
            self.any.store(true, Relaxed);
        }
    }

    /// The user's own `Cookie` header wins.
    fn add_to(&self, headers: &mut HeaderMap, url: &Url) {
        if self.any.load(Relaxed)
            && !headers.contains_key(header::COOKIE)
            && same_origin(url, &self.origin)
            && let Some(mut cookies) = self.jar.cookies(url)
        {
            cookies.set_sensitive(true);
            headers.insert(header::COOKIE, cookies);
        }
    }
}

fn tls(server: &ServerUrl, network: &Network) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(Roots {
        extra: network.roots.clone(),
        hidden_roots: network.hidden_roots,
        provider: provider.clone(),
        verifier: OnceLock::new(),
    });
    if server.url().scheme() == "https" {
        // Loading them takes milliseconds, which the connection needs anyway.
        let early = roots.clone();
        _ = std::thread::Builder::new().name("roots".into()).spawn(move || _ = early.verifier());
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // the name of rustls' door for a verifier of one's own; ours only delays the platform's
        .with_custom_certificate_verifier(roots);
    let mut config = match &network.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.expose().clone_key())?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The platform's certificate verifier, made when the first certificate comes.
#[derive(Debug)]
struct Roots {
    extra: Vec<CertificateDer<'static>>,
    hidden_roots: bool,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, rustls::Error>>,
}

impl Roots {
    fn verifier(&self) -> Result<&Verifier, rustls::Error> {
        let made = self.verifier.get_or_init(|| {
            let mut extra = self.extra.clone();
            if self.hidden_roots {
                extra.extend(system_folders());
            }
            Verifier::new_with_extra_roots(extra, self.provider.clone())
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
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn cookies_return_to_the_origin_that_set_them_and_to_no_other() {
        let url = |text: &str| Url::parse(text).unwrap();
        let store = Cookies::new(&url("http://127.0.0.1:1/mcp"));
        let set = |text: &'static str, from: &str| {
            let headers = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_static(text))]);
            store.keep(&headers, &url(from));
        };
        let sent = |to: &str| {
            let mut headers = HeaderMap::new();
            store.add_to(&mut headers, &url(to));
            headers.remove(header::COOKIE).map(|value| value.to_str().unwrap().to_owned())
        };
        set("node=a; Domain=elsewhere.example; Secure; Path=/mcp", "http://127.0.0.1:1/mcp");
        set("stray=b", "http://127.0.0.1:2/mcp");
        assert_eq!(sent("http://127.0.0.1:1/mcp/x").as_deref(), Some("node=a"));
        assert_eq!(sent("http://127.0.0.1:1/other"), None);
        assert_eq!(sent("http://127.0.0.1:2/mcp"), None);
    }
}
