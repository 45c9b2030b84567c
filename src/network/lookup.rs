//! The lookup of host names.
//!
//! # Invariants
//!
//! - No name server is asked for a name that means this machine (RFC 6761 §6.3): its answer could lead elsewhere.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::names_loopback;

/// Returns the addresses of a host.
///
/// # Errors
/// The operating system's.
pub(crate) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if names_loopback(host) {
        return Ok(loopback(port).to_vec());
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// This machine, in the order in which operating systems name its addresses.
const fn loopback(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), port),
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port),
    ]
}

/// The resolver of a client that leads to this machine only.
#[derive(Debug)]
pub(super) struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _name: Name) -> Resolving {
        Box::pin(async { Ok(Box::new(loopback(0).into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_of_this_machine_are_not_looked_up() {
        for name in ["localhost", "app.localhost", "a.b.LocalHost."] {
            assert_eq!(lookup(name, 80).await.unwrap(), loopback(80), "{name}");
        }
    }
}
