//! The requests that instances of mcp-remote, including the npm package, send to each other's callback ports: the identity
//! request, and a redirect that arrived in another way.
//!
//! # Invariants
//!
//! - A response has a time limit and a size limit, because any program may listen on the port.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Path of the identity request, from the npm package.
pub(super) const IDENTITY: &str = "/.mcp-remote/id";
/// How long an identity response may take: as long as in the npm package.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(1);
/// Largest identity response, in bytes: headers and two members.
const IDENTITY_SIZE: u64 = 8 * 1024;
/// Largest part of a page that is read, in bytes.
const PAGE_SIZE: u64 = 64 * 1024;

/// The identity response of an instance; the members are those of the npm package.
#[derive(Serialize, Deserialize)]
pub(super) struct Identity {
    #[serde(rename = "mcpRemote")]
    pub(super) mcp_remote: bool,
    #[serde(rename = "serverUrlHash")]
    pub(super) server_url_hash: String,
}

/// Returns whether an instance of mcp-remote, the npm package or this program, listens on the port for the same server.
pub(crate) async fn sibling(port: u16, server_hash: &str) -> bool {
    let asked = timeout(IDENTITY_PATIENCE, async {
        match identity(Ipv4Addr::LOCALHOST.into(), port).await {
            Some(identity) => Some(identity),
            None => identity(Ipv6Addr::LOCALHOST.into(), port).await,
        }
    });
    matches!(asked.await, Ok(Some(Identity { mcp_remote: true, server_url_hash })) if server_url_hash == server_hash)
}

async fn identity(address: IpAddr, port: u16) -> Option<Identity> {
    let (status, body) = get(SocketAddr::new(address, port), IDENTITY, IDENTITY_SIZE).await.ok()?;
    (status == 200).then(|| serde_json::from_str(&body).ok()).flatten()
}

/// Sends a redirect, given as path and query, to the listener on a port of this computer. Returns status and page.
///
/// # Errors
/// If no program listens on the port, or the program does not speak HTTP.
pub(crate) async fn hand_over(port: u16, target: &str) -> io::Result<(u16, String)> {
    match get(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), target, PAGE_SIZE).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            get(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), target, PAGE_SIZE).await
        }
        answer => answer,
    }
}

/// Sends a GET request over a plain TCP connection, because two programs on one computer need no proxy and no pool.
async fn get(address: SocketAddr, target: &str, limit: u64) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(limit).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let parts =
        answer.split_once("\r\n\r\n").and_then(|(head, body)| Some((head.split(' ').nth(1)?.parse().ok()?, body)));
    let (status, body) = parts.ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}
