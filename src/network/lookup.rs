//! The lookup of host names.
//!
//! # Invariants
//!
//! - No name server is asked for a name that means this machine (RFC 6761 §6.3): its answer could lead elsewhere.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::names_loopback;

/// Returns the addresses of a host.
///
/// # Errors
/// The operating system's.
pub(crate) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if names_loopback(host) {
        return Ok(LOOPBACK.map(|address| SocketAddr::new(address.ip(), port)).to_vec());
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// A host name could not be resolved on this computer, which the proxy leaves to its clients (`socks5://`, `socks4://`).
#[derive(Debug, thiserror::Error)]
#[error("the host name could not be resolved for the proxy")]
pub(crate) struct LookupForProxyFailed(#[source] pub(super) io::Error);

impl LookupForProxyFailed {
    /// Returns whether it is somewhere in the chain.
    pub(crate) fn is_in(error: &(dyn Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::is_in)
    }
}

/// This machine, in the order in which operating systems name its addresses, with the port that stands for none.
pub(super) const LOOPBACK: [SocketAddr; 2] =
    [SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0), SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)];

/// The resolver of a client that leads to this machine only.
#[derive(Debug)]
pub(super) struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _name: Name) -> Resolving {
        Box::pin(async { Ok(Box::new(LOOPBACK.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_of_this_machine_are_not_looked_up() {
        for name in ["localhost", "app.localhost", "a.b.LocalHost."] {
            let found: Vec<_> = lookup(name, 80).await.unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(found, ["[::1]:80", "127.0.0.1:80"], "{name}");
        }
    }
}
