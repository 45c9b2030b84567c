//! The HTTP client that carries messages: hyper's connections, without the layers that reqwest puts around them, because
//! these cost more than all the rest of a small call (`tests/bench/README.md`). Everything else goes by reqwest.
//!
//! # Invariants
//!
//! - Each request comes with `Host`, which is left out over HTTP/2, because `:authority` says the same (RFC 9113 §8.3.1).
//! - The only header that is added to a request is `Proxy-Authorization`, for a proxy that forwards the request.
//! - No redirect is followed.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, Request, StatusCode, Uri, Version,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderValue, PROXY_AUTHORIZATION},
    response::Parts,
};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use reqwest::Url;

use super::{
    ClientFactory, HttpVersions, Route,
    connect::Connector,
    failure::{BodyError, RequestError},
    gzip::{self, Decoded},
    pool::{HttpConnection, Pool, Usage, Used},
    request_body::RequestBody,
};
use crate::text;

/// Connections that were there and turn out to be closed, before one is opened for the request alone.
const MOST_CLOSED: u32 = 8;
/// Longest body, in bytes, that the buffer of a socket takes at once.
const LARGE: usize = 64 * 1024;

/// A client with its connections.
#[derive(Clone, Debug)]
pub(crate) struct MessageClient {
    pool: Pool,
    /// The value of `Host` (RFC 9112 §3.2).
    host: HeaderValue,
    /// For the proxy that forwards requests without encryption.
    proxy_authorization: Option<HeaderValue>,
}

impl MessageClient {
    /// Returns a client of `server` that offers these versions of HTTP. Opens nothing.
    ///
    /// # Errors
    /// If the URL has no form that a request can have.
    pub(super) fn new(
        factory: &ClientFactory,
        server: &Url,
        route: &Route,
        versions: HttpVersions,
    ) -> Result<Self, http::Error> {
        let uri: Uri = server.as_str().parse()?;
        let connector = Connector::new(factory.network.clone(), factory.tls_of(versions), route);
        let pool = Pool::new(connector, uri, route.pool_idle());
        // An encrypted connection is a tunnel, whose credential the connector sends.
        let proxy = if server.scheme() == "http" { factory.proxy_to(server) } else { None };
        let proxy_authorization = proxy.and_then(|proxy| proxy.basic_auth().cloned());
        Ok(Self { pool, host: text::host(server).try_into()?, proxy_authorization })
    }

    /// The value of `Host` for the server, which each request has.
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Sends a request, on a connection that is free or a new one. It is sent again where a connection that was free turns
    /// out to be closed before the request went out.
    ///
    /// # Errors
    /// If there is no response. [`RequestError::NotBegun`] if a connection of HTTP/2 has no stream for the request.
    pub(crate) fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response, RequestError>> + Send {
        let uri = request.uri().clone();
        let mut closed = 0;
        // No `async fn`: its future would have room for the request twice, and each message carries it.
        async move {
            loop {
                let (connection, is_reused) = self.pool.connection(closed >= MOST_CLOSED).await?;
                let (unsent, error) = match connection {
                    HttpConnection::Http1(free) => {
                        let Some(mut used) = free.take() else { continue };
                        *request.uri_mut() = self.target(&uri, used.connection.is_forwarding);
                        if let (Some(credential), true) = (&self.proxy_authorization, used.connection.is_forwarding) {
                            request.headers_mut().entry(PROXY_AUTHORIZATION).or_insert_with(|| credential.clone());
                        }
                        match used.connection.sender.ready().await {
                            Err(error) => (Some(request), used.connection.fault(error)),
                            Ok(()) => {
                                let is_large = request.body().len() > LARGE;
                                match used.connection.sender.try_send_request(request).await {
                                    Ok(response) => {
                                        let peer = used.connection.peer;
                                        used.connection.note_keep_alive(response.headers());
                                        return Ok(Response::new(response, peer, Lease::Http1 { used, is_large }));
                                    }
                                    Err(mut unsent) => match unsent.take_message() {
                                        Some(message) => (Some(message), used.connection.fault(unsent.into_error())),
                                        None => (None, unsent.into_error()),
                                    },
                                }
                            }
                        }
                    }
                    HttpConnection::Http2(mut shared) => {
                        uri.clone_into(request.uri_mut());
                        request.headers_mut().remove(HOST);
                        let opening = request.body_mut().open();
                        let starves = async {
                            match &opening {
                                Some(opening) => opening.starves().await,
                                None => std::future::pending().await,
                            }
                        };
                        let answer = tokio::select! {
                            biased;
                            answer = shared.sender.try_send_request(request) => answer,
                            () = starves => return Err(RequestError::NotBegun),
                        };
                        match answer {
                            Ok(response) => {
                                let lease = Lease::Http2 { _usage: shared.usage };
                                return Ok(Response::new(response, shared.peer, lease));
                            }
                            Err(mut unsent) => (unsent.take_message(), unsent.into_error()),
                        }
                    }
                };
                match unsent {
                    Some(message) if is_reused => {
                        closed += 1;
                        request = message;
                        request.body_mut().give_back();
                        request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
                    }
                    Some(_) => return Err(RequestError::Unsent(error)),
                    None => return Err(RequestError::Exchange(error)),
                }
            }
        }
    }

    /// Returns the target of a request over HTTP/1.1 (RFC 9112 §3.2.1, §3.2.2).
    fn target(&self, uri: &Uri, is_forwarding: bool) -> Uri {
        if is_forwarding { uri.clone() } else { uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from) }
    }
}

/// A response whose body is read piece by piece, decoded where it is encoded as gzip.
#[derive(Debug)]
pub(crate) struct Response {
    head: Parts,
    body: ResponseBody,
    peer: Option<SocketAddr>,
    /// Given back at the end of the body.
    lease: Option<Lease>,
}

/// The connection of a response.
#[derive(Debug)]
enum Lease {
    Http1 {
        used: Used,
        /// The request may not be sent to its end.
        is_large: bool,
    },
    Http2 {
        _usage: Usage,
    },
}

#[derive(Debug)]
enum ResponseBody {
    Plain(Incoming),
    Gzip(Box<Decoded<Incoming>>),
    Dropped,
    #[cfg(test)]
    Whole(Option<Bytes>),
}

impl Response {
    fn new(response: http::Response<Incoming>, peer: Option<SocketAddr>, lease: Lease) -> Self {
        let (mut head, body) = response.into_parts();
        let body = if gzip::is_encoded(&head.headers) {
            for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
                head.headers.remove(name);
            }
            ResponseBody::Gzip(Box::new(Decoded::new(body)))
        } else {
            ResponseBody::Plain(body)
        };
        let mut response = Self { head, body, peer, lease: Some(lease) };
        response.end_if_read();
        response
    }

    fn end_if_read(&mut self) {
        if self.is_read() {
            self.end();
        }
    }

    /// The body was read to its end.
    fn end(&mut self) {
        match self.lease.take() {
            Some(Lease::Http1 { used, is_large: true }) => used.give_back_when_ready(),
            Some(Lease::Http1 { used, is_large: false }) => used.give_back(),
            Some(Lease::Http2 { .. }) | None => {}
        }
    }

    /// Reads no more of the body. What is left of it is up to hyper, which closes the connection or the stream if the server
    /// has not ended it.
    pub(crate) fn close(&mut self) {
        self.body = ResponseBody::Dropped;
        if let Some(Lease::Http1 { used, .. }) = self.lease.take() {
            used.give_back_when_ready();
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(crate) fn version(&self) -> Version {
        self.head.version
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The address at the other end: the server's, or that of a proxy.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The length of the body in bytes, if it is known from the beginning.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Returns whether nothing of the body is left, as far as that is known without a look at the connection.
    pub(crate) fn is_read(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Returns the next piece of the body; `None` at its end. Safe to drop.
    ///
    /// # Errors
    /// If the connection broke, or the encoding is wrong.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    self.end_if_read();
                    return Ok(Some(data));
                }
                Some(Err(_trailers)) => {}
                None => {
                    self.end();
                    return Ok(None);
                }
            }
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.close();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
            Self::Gzip(body) => Pin::new(&mut **body).poll_frame(context),
            Self::Dropped => Poll::Ready(None),
            #[cfg(test)]
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Gzip(_) => false,
            Self::Dropped => true,
            #[cfg(test)]
            Self::Whole(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Gzip(_) | Self::Dropped => http_body::SizeHint::default(),
            #[cfg(test)]
            Self::Whole(body) => http_body::SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
        }
    }
}

#[cfg(test)]
impl<T: Into<Bytes>> From<http::Response<T>> for Response {
    fn from(response: http::Response<T>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body: ResponseBody::Whole(Some(body.into())), peer: None, lease: None }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        config::{Network, PlainHttp, ProxyChoice, ServerUrl},
        network::failure::Http2Fault,
        secret::Secret,
    };

    fn client(server: &str, proxy: ProxyChoice) -> MessageClient {
        let server = ServerUrl::parse(server, PlainHttp::Allowed).unwrap();
        let network = Network::with_proxy(proxy);
        let factory = ClientFactory::new(&server, Arc::new(network)).unwrap();
        factory.message_client(server.url(), &Route::of(&server), HttpVersions::Both).unwrap()
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp?a=b", listener.local_addr().unwrap());
        (listener, url)
    }

    fn request(url: &str) -> Request<RequestBody> {
        let body = RequestBody::new(Some(Bytes::from_static(b"{}")));
        Request::post(url).header(HOST, "set.example").body(body).unwrap()
    }

    /// Reads a request to the end of its body, which is `{}`; `None` if the client closes the connection instead.
    async fn asked(stream: &mut TcpStream) -> Option<String> {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n{}") {
            text.push(stream.read_u8().await.ok()?);
        }
        String::from_utf8(text).ok()
    }

    async fn answer(stream: &mut TcpStream) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody").await.unwrap();
    }

    async fn read(response: Response) -> Bytes {
        let mut response = response;
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.unwrap() {
            body.extend_from_slice(&piece);
        }
        body.into()
    }

    #[tokio::test]
    async fn connection_serves_again_when_its_response_was_read() {
        let (listener, url) = listen().await;
        let client = client(&url, ProxyChoice::Direct);
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let begin = "POST /mcp?a=b HTTP/1.1\r\nhost: set.example\r\ncontent-length: 2\r\n\r\n{}";
            assert_eq!(asked(&mut first).await.as_deref(), Some(begin));
            answer(&mut first).await;
            assert!(asked(&mut first).await.is_some(), "the same connection");
            answer(&mut first).await;
            assert!(asked(&mut first).await.is_some(), "also after a response that nobody has read");
            first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo").await.unwrap();
            let (mut second, _) = listener.accept().await.unwrap();
            assert!(asked(&mut second).await.is_some());
            answer(&mut second).await;
            assert_eq!(asked(&mut first).await, None, "closed, because its last response was not whole");
            second
        };
        let requests = async {
            assert_eq!(read(client.send(request(&url)).await.unwrap()).await, "body");
            drop(client.send(request(&url)).await.unwrap());
            while client.pool.is_empty() {
                tokio::task::yield_now().await;
            }
            drop(client.send(request(&url)).await.unwrap());
            assert_eq!(read(client.send(request(&url)).await.unwrap()).await, "body");
        };
        let (mut second, ()) = tokio::join!(server, requests);
        // After the time of an idle connection.
        assert_eq!(asked(&mut second).await, None, "closed, because nobody uses it");
    }

    #[tokio::test]
    async fn connection_near_its_announced_end_is_not_used() {
        let (listener, url) = listen().await;
        let client = client(&url, ProxyChoice::Direct);
        let announcing =
            |keep_alive: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nKeep-Alive: {keep_alive}\r\n\r\nbody");
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            assert!(asked(&mut first).await.is_some());
            first.write_all(announcing("timeout=60, max=100").as_bytes()).await.unwrap();
            assert!(asked(&mut first).await.is_some(), "the same connection");
            first.write_all(announcing("timeout=0").as_bytes()).await.unwrap();
            let (mut second, _) = listener.accept().await.unwrap();
            assert!(asked(&mut second).await.is_some());
            answer(&mut second).await;
        };
        let requests = async {
            for _ in 0..3 {
                assert_eq!(read(client.send(request(&url)).await.unwrap()).await, "body");
            }
        };
        let both = async { tokio::join!(server, requests) };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    }

    #[tokio::test]
    async fn closed_connection_is_replaced() {
        let (listener, url) = listen().await;
        let client = client(&url, ProxyChoice::Direct);
        for _ in 0..3 {
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(asked(&mut stream).await.is_some());
                answer(&mut stream).await;
            };
            let (response, ()) = tokio::join!(client.send(request(&url)), server);
            assert_eq!(read(response.unwrap()).await, "body");
        }
    }

    #[tokio::test]
    async fn request_takes_connection_that_becomes_free() {
        let (listener, _) = listen().await;
        let proxy = Url::parse(&format!("socks5h://{}", listener.local_addr().unwrap())).unwrap();
        let proxy = ProxyChoice::Explicit { http: Some(Secret::new(proxy)), https: None, except: String::new() };
        let url = "http://mcp.example/mcp";
        let client = client(url, proxy);
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut greeting = [0; 3];
            first.read_exact(&mut greeting).await.unwrap();
            first.write_all(&[5, 0]).await.unwrap();
            let mut connect = [0; 18];
            first.read_exact(&mut connect).await.unwrap();
            assert_eq!(&connect[5..16], b"mcp.example", "the proxy looks the name up");
            assert_eq!(&connect[16..], [0, 80], "the port of http");
            first.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            assert!(asked(&mut first).await.is_some());
            // The proxy opens no second connection.
            let hanging = listener.accept().await.unwrap();
            answer(&mut first).await;
            assert!(asked(&mut first).await.is_some(), "the second request, on the first connection");
            answer(&mut first).await;
            hanging
        };
        let send = || async { read(client.send(request(url)).await.unwrap()).await };
        let (first, second, _) = tokio::join!(send(), send(), server);
        assert_eq!((&*first, &*second), (&b"body"[..], &b"body"[..]));
    }

    #[tokio::test]
    async fn forwarding_proxy_gets_its_credential_unless_user_gives_one() {
        let (listener, _) = listen().await;
        let proxy = Url::parse(&format!("http://user:word@{}", listener.local_addr().unwrap())).unwrap();
        let proxy = ProxyChoice::Explicit { http: Some(Secret::new(proxy)), https: None, except: String::new() };
        let url = "http://mcp.example/mcp";
        let client = client(url, proxy);
        let mut of_user = request(url);
        of_user.headers_mut().insert(PROXY_AUTHORIZATION, HeaderValue::from_static("Custom"));
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let begin = "POST http://mcp.example/mcp HTTP/1.1\r\nhost: set.example\r\n";
            let credential = "proxy-authorization: Basic dXNlcjp3b3Jk\r\ncontent-length: 2\r\n\r\n{}";
            assert_eq!(asked(&mut stream).await, Some(format!("{begin}{credential}")));
            answer(&mut stream).await;
            let credential = "proxy-authorization: Custom\r\ncontent-length: 2\r\n\r\n{}";
            assert_eq!(asked(&mut stream).await, Some(format!("{begin}{credential}")));
            answer(&mut stream).await;
        };
        let requests = async {
            read(client.send(request(url)).await.unwrap()).await;
            read(client.send(of_user).await.unwrap()).await;
        };
        tokio::join!(server, requests);
    }

    #[tokio::test]
    async fn request_that_is_answered_early_holds_up_no_other() {
        let (listener, url) = listen().await;
        let client = client(&url, ProxyChoice::Direct);
        // More than the buffers of both ends take.
        let length = 32 * 1024 * 1024;
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let mut begin = Vec::new();
            while !begin.ends_with(b"\r\n\r\n") {
                begin.push(first.read_u8().await.unwrap());
            }
            answer(&mut first).await;
            let (mut second, _) = listener.accept().await.unwrap();
            assert!(asked(&mut second).await.is_some());
            answer(&mut second).await;
            let mut rest = vec![0; length];
            first.read_exact(&mut rest).await.unwrap();
            assert!(rest.iter().all(|byte| *byte == b'x'), "the first request comes to its end");
        };
        let requests = async {
            let body = RequestBody::new(Some(vec![b'x'; length].into()));
            let large = Request::post(&url).header(HOST, "set.example").body(body).unwrap();
            assert_eq!(read(client.send(large).await.unwrap()).await, "body");
            assert_eq!(read(client.send(request(&url)).await.unwrap()).await, "body");
        };
        let both = async { tokio::join!(server, requests) };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    }

    #[tokio::test]
    async fn request_on_closed_new_connection_is_unsent() {
        let (listener, _) = listen().await;
        let proxy = Url::parse(&format!("socks5h://{}", listener.local_addr().unwrap())).unwrap();
        let proxy = ProxyChoice::Explicit { http: Some(Secret::new(proxy)), https: None, except: String::new() };
        let url = "http://mcp.example/mcp";
        let client = client(url, proxy);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 3]).await.unwrap();
            stream.write_all(&[5, 0]).await.unwrap();
            stream.read_exact(&mut [0; 18]).await.unwrap();
            // The end is here when the client begins.
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(asked(&mut stream).await, None, "nothing goes out");
        };
        let (failed, ()) = tokio::join!(client.send(request(url)), server);
        let error = failed.unwrap_err();
        assert!(matches!(error, RequestError::Unsent(_)), "{error:?}");
    }

    #[tokio::test]
    async fn request_fails_with_its_connection() {
        let (listener, url) = listen().await;
        let client = client(&url, ProxyChoice::Direct);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(asked(&mut stream).await.is_some());
        };
        let (failed, ()) = tokio::join!(client.send(request(&url)), server);
        let error = failed.unwrap_err();
        assert!(matches!(error, RequestError::Exchange(_)), "{error:?}");
        drop(listener);
        let error = client.send(request(&url)).await.unwrap_err();
        assert!(matches!(error, RequestError::Connect(_)) && Http2Fault::of(&error).is_none(), "{error:?}");
    }
}
