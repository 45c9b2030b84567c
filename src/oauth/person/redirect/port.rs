//! Listening on one port in each loopback family (RFC 8252 §7.3, §8.3).
//!
//! # Invariants
//!
//! - The sockets listen on loopback addresses only.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Weak},
    task::Poll,
};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 32;
/// Attempts to find any free port, because a port can be free in one family and in use in the other.
const TRIES: usize = 16;

/// Opens one socket for each loopback family.
pub(super) fn open(host: &str, port: u16) -> io::Result<Vec<Arc<TcpListener>>> {
    let addresses = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => vec![address],
        // RFC 8252 §8.3: loopback only, for any name.
        _ => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    };
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for _ in 0..if port == 0 { TRIES } else { 1 } {
        match sockets_at(&addresses, port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            result => return result,
        }
    }
    Err(last)
}

fn sockets_at(addresses: &[IpAddr], mut port: u16) -> io::Result<Vec<Arc<TcpListener>>> {
    let mut sockets = Vec::new();
    let mut missing = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match listen(SocketAddr::new(*address, port)) {
            Ok(socket) => {
                port = socket.local_addr()?.port();
                sockets.push(Arc::new(socket));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                return Err(error);
            }
            Err(error) => missing = error, // a family that this machine does not have
        }
    }
    if sockets.is_empty() { Err(missing) } else { Ok(sockets) }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A port whose last connection lingers (TIME_WAIT) is free. On Windows this would mean sharing.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The next connection, in whichever family. Does not keep the sockets alive.
pub(super) async fn accept(sockets: &[Weak<TcpListener>]) -> Option<io::Result<TcpStream>> {
    poll_fn(|context| {
        for socket in sockets {
            let Some(socket) = socket.upgrade() else { return Poll::Ready(None) };
            if let Poll::Ready(accepted) = socket.poll_accept(context) {
                return Poll::Ready(Some(accepted.map(|(stream, _)| stream)));
            }
        }
        Poll::Pending
    })
    .await
}
