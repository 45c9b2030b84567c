//! Connections for the client that carries messages: TCP, TLS and the way through a proxy, by the pieces of hyper-util.
//! reqwest makes the same connections for all other clients and does not lend its connector.
//!
//! # Invariants
//!
//! - TLS is that of [`tls`](super::tls), and a proxy leads where [`proxy::to`] says.
//! - A connection takes no longer than the connect timeout, whatever it consists of.

use std::{
    error::Error as StdError,
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use http::{Uri, uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::{
        legacy::connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
            proxy::{SocksV4, SocksV5, Tunnel},
        },
        proxy::matcher::Intercept,
    },
    rt::TokioIo,
};
use reqwest::Url;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use super::{
    MOST_TCP_PROBES, Route, TCP_KEEP_ALIVE, TCP_PROBES,
    lookup::{LOOPBACK, LookupForProxyFailed, lookup},
    proxy,
};
use crate::config::Network;

type Fault = Box<dyn StdError + Send + Sync>;
type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// No connection was made in time.
#[derive(Debug, thiserror::Error)]
#[error("the connection timed out")]
pub(super) struct ConnectTimedOut;

/// Opens connections to one server.
#[derive(Clone, Debug)]
pub(super) struct Connector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: Arc<Network>,
    /// To the server, or through a tunnel.
    dialer: Dialer,
    /// To a proxy, which is asked in HTTP/1.1.
    proxy_dialer: Dialer,
    is_loopback: bool,
}

impl Connector {
    pub(super) fn new(network: Arc<Network>, tls: ClientConfig, route: &Route) -> Self {
        let is_loopback = matches!(route, Route::Loopback);
        let mut tcp = HttpConnector::new_with_resolver(Resolver { is_loopback });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(TCP_PROBES));
        tcp.set_keepalive_retries(Some(MOST_TCP_PROBES));
        #[cfg(any(target_os = "android", target_os = "linux"))]
        tcp.set_tcp_user_timeout(Some(super::TCP_UNACKNOWLEDGED));
        // Each address of a name has its share, so that one that swallows packets leaves some time for the next.
        tcp.set_connect_timeout(Some(network.connect_timeout));
        // An IPv4 source address leaves only IPv4 destinations.
        tcp.set_local_address(network.ipv4.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let mut proxy_tls = tls.clone();
        proxy_tls.alpn_protocols.clear();
        Self(Arc::new(Inner {
            network,
            proxy_dialer: Dialer { tcp: tcp.clone(), tls: Arc::new(proxy_tls) },
            dialer: Dialer { tcp, tls: Arc::new(tls) },
            is_loopback,
        }))
    }
}

impl Service<Uri> for Connector {
    type Response = NetworkStream;
    type Error = Fault;
    type Future = Pending<NetworkStream, Fault>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(inner.network.connect_timeout, inner.connect(server)).await;
            connected.unwrap_or_else(|_| Err(ConnectTimedOut.into()))
        })
    }
}

impl Inner {
    async fn connect(&self, server: Uri) -> Result<NetworkStream, Fault> {
        match self.proxy_to(&server)? {
            None => self.dialer.clone().call(server).await,
            Some(proxy) => self.connect_through(&proxy, server).await,
        }
    }

    fn proxy_to(&self, server: &Uri) -> Result<Option<Intercept>, Fault> {
        Ok(if self.is_loopback { None } else { proxy::to(&Url::parse(&server.to_string())?, &self.network.proxy) })
    }

    async fn connect_through(&self, proxy: &Intercept, server: Uri) -> Result<NetworkStream, Fault> {
        let (at, mut dialer) = (proxy.uri().clone(), self.proxy_dialer.clone());
        let is_encrypted = server.scheme() == Some(&uri::Scheme::HTTPS);
        let stream = match at.scheme_str() {
            Some(scheme @ ("socks4" | "socks4a")) => {
                let target = if scheme == "socks4" { with_address(&server, true).await? } else { with_port(&server)? };
                NetworkStream::Plain(SocksV4::new(at, dialer.tcp).call(target).await?)
            }
            Some(scheme @ ("socks5" | "socks5h")) => {
                let ipv4 = self.network.ipv4;
                let target = if scheme == "socks5" { with_address(&server, ipv4).await? } else { with_port(&server)? };
                let mut socks = SocksV5::new(at, dialer.tcp);
                if let Some((user, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                NetworkStream::Plain(socks.call(target).await?)
            }
            _ if is_encrypted => {
                let mut tunnel = Tunnel::new(at, dialer);
                if let Some(credential) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credential.clone());
                }
                tunnel.call(server.clone()).await?
            }
            _ => return Ok(NetworkStream::Forwarding(Box::new(dialer.call(at).await?))),
        };
        if is_encrypted { encrypt(stream, &server, &self.dialer.tls).await } else { Ok(stream) }
    }
}

/// Returns the URL with an address instead of the name, for a proxy that does not resolve names.
async fn with_address(server: &Uri, ipv4: bool) -> Result<Uri, Fault> {
    let addresses = lookup(host(server), port(server)).await.map_err(LookupForProxyFailed)?;
    let address = addresses.into_iter().find(|address| address.is_ipv4() || !ipv4);
    let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    with_authority(server, &address.to_string())
}

/// Returns the URL with its port written out: hyper-util takes a missing one for that of https.
fn with_port(server: &Uri) -> Result<Uri, Fault> {
    with_authority(server, &format!("{}:{}", server.host().unwrap_or_default(), port(server)))
}

fn with_authority(server: &Uri, authority: &str) -> Result<Uri, Fault> {
    let mut parts = server.clone().into_parts();
    parts.authority = Some(authority.parse()?);
    Ok(Uri::from_parts(parts)?)
}

fn port(server: &Uri) -> u16 {
    let default = if server.scheme() == Some(&uri::Scheme::HTTPS) { 443 } else { 80 };
    server.port_u16().unwrap_or(default)
}

/// The host without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

async fn encrypt(stream: NetworkStream, server: &Uri, tls: &Arc<ClientConfig>) -> Result<NetworkStream, Fault> {
    let name = ServerName::try_from(host(server).to_owned())?;
    let stream = TlsConnector::from(tls.clone()).connect(name, TokioIo::new(stream)).await?;
    Ok(NetworkStream::Encrypted(Box::new(TokioIo::new(stream))))
}

/// Opens a connection to what a URL names: encrypted if its scheme says so.
#[derive(Clone, Debug)]
struct Dialer {
    tcp: HttpConnector<Resolver>,
    tls: Arc<ClientConfig>,
}

impl Service<Uri> for Dialer {
    type Response = NetworkStream;
    type Error = Fault;
    type Future = Pending<NetworkStream, Fault>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut dialer = self.clone();
        Box::pin(async move {
            let stream = NetworkStream::Plain(dialer.tcp.call(to.clone()).await?);
            if to.scheme() == Some(&uri::Scheme::HTTPS) { encrypt(stream, &to, &dialer.tls).await } else { Ok(stream) }
        })
    }
}

/// Looks names up: those of this machine here, all others by the operating system on a thread of its own.
#[derive(Clone, Debug)]
struct Resolver {
    is_loopback: bool,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pending<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let is_loopback = self.is_loopback;
        Box::pin(async move {
            if is_loopback {
                return Ok(LOOPBACK.to_vec().into_iter());
            }
            let found: Vec<_> = GaiResolver::new().call(name).await?.collect();
            Ok(found.into_iter())
        })
    }
}

/// A request of at most this length, in bytes, is written as one piece, which costs the kernel less than several. Most are
/// shorter, also with an access token.
const JOINED: usize = 2048;

/// A connection to the server.
#[derive(Debug)]
pub(super) enum NetworkStream {
    Plain(TokioIo<TcpStream>),
    Encrypted(Box<TokioIo<TlsStream<TokioIo<Self>>>>),
    /// To a proxy that forwards requests whose target is a whole URL (RFC 9112 §3.2.2).
    Forwarding(Box<Self>),
}

/// What every kind of connection can do.
trait Duplex: Read + Write + Unpin {}
impl<T: Read + Write + Unpin> Duplex for T {}

impl NetworkStream {
    /// Whether the server has chosen HTTP/2 (RFC 7301; RFC 9113 §3.2).
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Encrypted(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Whether it leads to a proxy that forwards requests whose target is a whole URL.
    pub(super) fn is_forwarding(&self) -> bool {
        matches!(self, Self::Forwarding(_))
    }

    /// The address at the other end: the server's, or that of a proxy.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.inner().peer_addr().ok(),
            Self::Encrypted(stream) => stream.inner().get_ref().0.inner().peer(),
            Self::Forwarding(stream) => stream.peer(),
        }
    }

    fn duplex(self: Pin<&mut Self>) -> Pin<&mut dyn Duplex> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream),
            Self::Encrypted(stream) => Pin::new(&mut **stream),
            Self::Forwarding(stream) => Pin::new(&mut **stream),
        }
    }
}

impl Read for NetworkStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_read(context, buffer)
    }
}

impl Write for NetworkStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.duplex().poll_write(context, data)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.duplex().poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
            Self::Forwarding(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if length > JOINED {
            return self.duplex().poll_write_vectored(context, pieces);
        }
        let mut joined = [0; JOINED];
        let mut room = &mut joined[..];
        for piece in pieces {
            let (filled, rest) = room.split_at_mut(piece.len());
            filled.copy_from_slice(piece);
            room = rest;
        }
        self.duplex().poll_write(context, &joined[..length])
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::{PlainHttp, ProxyChoice, ServerUrl},
        network::{ClientFactory, HttpVersions, TCP_UNACKNOWLEDGED},
    };

    #[tokio::test]
    async fn peer_that_is_gone_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = ServerUrl::parse(&url, PlainHttp::Allowed).unwrap();
        let network = Arc::new(Network::with_proxy(ProxyChoice::Direct));
        let factory = ClientFactory::new(&server, network.clone()).unwrap();
        let mut connector = Connector::new(network, factory.tls_of(HttpVersions::Both), &Route::of(&server));
        let NetworkStream::Plain(stream) = connector.call(url.parse().unwrap()).await.unwrap() else {
            panic!("encrypted")
        };
        let socket = SockRef::from(stream.inner());
        // While it owes an acknowledgment, and while the connection is idle.
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(TCP_UNACKNOWLEDGED));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), TCP_KEEP_ALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), TCP_PROBES);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), MOST_TCP_PROBES);
    }
}
