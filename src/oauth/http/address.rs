//! Where a server's metadata may send this program (RFC 9728 §7.7; MCP Security Best Practices, Server-Side Request
//! Forgery): to no address that is nearer to this machine than the server itself.
//!
//! An address is checked twice: the host as it is written, and every address that its name leads to, at the moment of
//! the connection, so that no answer of a name server can change in between. Where a proxy makes the connection, the name
//! is looked up here before; what only the proxy can look up is left to it, but for names that are private by their form.
//!
//! # Invariants
//!
//! - A name does not pass because an earlier answer was harmless.
//! - An unknown range is not taken for public.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::sync::OnceCell;

use crate::{
    config::{PlainHttp, is_loopback, names_loopback},
    network::lookup::lookup,
    sync::LockExt,
};

/// How near an address is, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddressScope {
    /// This machine.
    Loopback,
    /// This link, where clouds keep their machines' credentials (169.254.169.254).
    LinkLocal,
    /// A private network.
    Private,
    /// Nobody's, or many's: documentation, multicast, reserved.
    Reserved,
    /// The internet.
    Public,
}

impl AddressScope {
    /// Whether a server here may name an address there.
    const fn reaches(self, there: Self) -> bool {
        match (self, there) {
            (Self::Loopback, Self::Loopback | Self::Private)
            | (Self::LinkLocal, Self::LinkLocal | Self::Private)
            | (Self::Private, Self::Private)
            | (Self::Reserved, Self::Reserved)
            | (_, Self::Public) => true,
            (_, Self::Loopback | Self::LinkLocal | Self::Private | Self::Reserved) => false,
        }
    }
}

impl fmt::Display for AddressScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Loopback => "on this computer",
            Self::LinkLocal => "on the local network link",
            Self::Private => "on a private network",
            Self::Reserved => "at a reserved IP address",
            Self::Public => "on the internet",
        })
    }
}

/// Where an address is, by the IANA registries of special-purpose addresses (RFC 6890).
const fn scope_of(address: IpAddr) -> AddressScope {
    match address {
        IpAddr::V4(address) => of_ipv4(address),
        IpAddr::V6(address) => of_ipv6(address),
    }
}

const fn of_ipv4(address: Ipv4Addr) -> AddressScope {
    match address.octets() {
        // Connecting to the unspecified address reaches this machine.
        [127, ..] | [0, 0, 0, 0] => AddressScope::Loopback,
        [169, 254, ..] => AddressScope::LinkLocal,
        // RFC 1918; RFC 6598, where also some VPNs live.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => AddressScope::Private,
        // RFC 2544, for measurements; proxies that take over a machine's whole traffic answer every
        // name with one of these, the server's too.
        [198, 18..=19, ..] => AddressScope::Private,
        [0, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => {
            AddressScope::Reserved
        }
        _ => AddressScope::Public,
    }
}

const fn of_ipv6(address: Ipv6Addr) -> AddressScope {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => AddressScope::Loopback,
        // An IPv4 address inside: compatible and mapped (RFC 4291 §2.5.5), translated (RFC 2765 §2.1),
        // NAT64 (RFC 6052 §2.1), 6to4 (RFC 3056 §2).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            of_ipv4(Ipv4Addr::new(a, b, c, d))
        }
        [0xfe80..=0xfebf, ..] => AddressScope::LinkLocal,
        // Unique local (RFC 4193), site-local (RFC 3879), a network's own NAT64 (RFC 8215).
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => AddressScope::Private,
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddressScope::Reserved,
        // RFC 4291 §2.4: what is given out at all.
        [0x2000..=0x3fff, ..] => AddressScope::Public,
        _ => AddressScope::Reserved,
    }
}

/// Why an address is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Neither https nor http.
    #[error("{0} is not https or http")]
    Scheme(String),
    /// Not encrypted, and not on this machine.
    #[error("http://{0} is not encrypted")]
    Plain(String),
    /// Credentials inside.
    #[error("the URL of {0} contains a user name or password")]
    UserInfo(String),
    /// Nearer than the server.
    #[error("{host} is {there}, but the server is {server}")]
    TooNear {
        /// As it is named.
        host: String,
        /// Where it is.
        there: AddressScope,
        /// Where the server is.
        server: AddressScope,
    },
}

/// Checks an address that the server at `server`, or its metadata, names. A name leads where the
/// [`GuardedResolver`] lets it; a server that is known by name counts as public here.
///
/// # Errors
/// What is wrong with it.
fn may_name(server: &Url, url: &Url, plain_http: PlainHttp) -> Result<(), Refused> {
    judge(written(server).unwrap_or(AddressScope::Public), url, plain_http)
}

fn judge(home: AddressScope, url: &Url, plain_http: PlainHttp) -> Result<(), Refused> {
    let host = url.host_str().unwrap_or_default();
    let there = written(url);
    match url.scheme() {
        "https" => {}
        // On this machine, which below only a server on this machine may name.
        "http" if is_loopback(url) || plain_http == PlainHttp::Allowed => {}
        "http" => return Err(Refused::Plain(host.to_owned())),
        scheme => return Err(Refused::Scheme(scheme.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::UserInfo(host.to_owned()));
    }
    match there {
        Some(there) if !home.reaches(there) => Err(Refused::TooNear { host: host.to_owned(), there, server: home }),
        _ => Ok(()),
    }
}

/// Where a host is that is written as an address, in any spelling since `Url` knows them all, or as a
/// name that means this machine (RFC 6761 §6.3).
pub(crate) fn written(url: &Url) -> Option<AddressScope> {
    let host = url.host_str()?;
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some(scope_of(address));
    }
    names_loopback(host).then_some(AddressScope::Loopback)
}

/// Returns a URL with the scheme and the port of `asked`, which was requested over TLS, if it names the same host without
/// TLS: a server behind a proxy that ends TLS takes its own scheme for the client's. Never for this machine, where both
/// may be meant, and never from https to http.
pub(crate) fn with_lost_scheme(asked: &Url, url: &Url) -> Option<Url> {
    let is_lost = asked.scheme() == "https"
        && url.scheme() == "http"
        && url.host_str() == asked.host_str()
        && written(url) != Some(AddressScope::Loopback);
    let mut regained = url.clone();
    (is_lost && regained.set_scheme("https").is_ok() && regained.set_port(asked.port()).is_ok()).then_some(regained)
}

pub(super) type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks names up for the requests of authorization, and leaves out the addresses that are nearer than
/// the server. Addresses written into a URL never come here: [`may_name`](Self::may_name) is for them.
#[derive(Clone)]
pub(crate) struct GuardedResolver(Arc<Guard>);

struct Guard {
    server: Url,
    /// Where its last challenge has come from: because the owner of its name can answer each lookup differently.
    seen: Mutex<Option<AddressScope>>,
    /// Where nothing has come yet: looked up when it is first needed, and then kept.
    home: OnceCell<AddressScope>,
    unguarded: Vec<String>,
    ipv4_only: bool,
    lookup: Box<dyn Fn(String) -> Answer + Send + Sync>,
    /// Names that a proxy may be asked for, as far as they were looked up.
    by_proxy: Mutex<HashMap<String, Option<AddressScope>>>,
}

impl GuardedResolver {
    /// For what `server` and its metadata name. `unguarded` are names from the user, the proxies',
    /// which may be anywhere.
    pub(crate) fn new(server: &Url, unguarded: Vec<String>, ipv4_only: bool) -> Self {
        Self::with_lookup(server, unguarded, ipv4_only, |name| Box::pin(async move { lookup(&name, 0).await }))
    }

    pub(super) fn with_lookup(
        server: &Url,
        unguarded: Vec<String>,
        ipv4_only: bool,
        lookup: impl Fn(String) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (server, lookup) = (server.clone(), Box::new(lookup));
        let (seen, home) = (Mutex::default(), OnceCell::new());
        Self(Arc::new(Guard { server, seen, home, unguarded, ipv4_only, lookup, by_proxy: Mutex::default() }))
    }

    /// The server has answered from this address.
    pub(crate) fn note_server_at(&self, address: IpAddr) {
        *self.0.seen.guard() = Some(scope_of(address));
    }

    /// As the function [`may_name`], but a server that is known by name is looked up where that
    /// decides.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub(crate) async fn may_name(&self, url: &Url, plain_http: PlainHttp) -> Result<(), Refused> {
        match may_name(&self.0.server, url, plain_http) {
            Err(Refused::TooNear { .. }) => judge(self.0.home().await, url, plain_http),
            decided => decided,
        }
    }

    /// Checks the name of a host to which a proxy leads, because the proxy's own lookup cannot be checked.
    ///
    /// # Errors
    /// [`Refused::TooNear`].
    pub(crate) async fn may_name_to_proxy(&self, url: &Url) -> Result<(), Refused> {
        let Some(name) = url.domain() else { return Ok(()) };
        if self.0.unguarded.iter().any(|unguarded| unguarded == name) {
            return Ok(());
        }
        let Some(there) = self.0.nearest(name).await else { return Ok(()) };
        let home = self.0.home().await;
        if home.reaches(there) {
            return Ok(());
        }
        Err(Refused::TooNear { host: name.to_owned(), there, server: home })
    }
}

/// How long the lookup of a name is waited for that a proxy may look up: networks with a proxy often have no name server
/// that knows more than they do.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(3);

/// Whether a name is one of a private network by its form: without a dot, or below a name that the internet does not have
/// (RFC 6762 §3 and appendix G, RFC 8375, RFC 9476, ICANN's .internal).
fn is_private_name(name: &str) -> bool {
    const PRIVATE: [&str; 12] = [
        "alt",
        "corp",
        "home",
        "home.arpa",
        "internal",
        "intranet",
        "invalid",
        "lan",
        "local",
        "localdomain",
        "private",
        "test",
    ];
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.contains('.')
        || PRIVATE.iter().any(|private| name.strip_suffix(private).is_some_and(|rest| rest.ends_with('.')))
}

impl Guard {
    async fn home(&self) -> AddressScope {
        if let Some(written) = written(&self.server) {
            return written;
        }
        if let Some(seen) = *self.seen.guard() {
            return seen;
        }
        let name = self.server.host_str().unwrap_or_default();
        let look = async || {
            let addresses = (self.lookup)(name.to_owned()).await.unwrap_or_default();
            // The farthest, because the owner of the name can add nearer ones.
            addresses.iter().map(|address| scope_of(address.ip())).max().ok_or(())
        };
        // What only a proxy can look up is where its form says.
        let by_form = if is_private_name(name) { AddressScope::Private } else { AddressScope::Public };
        self.home.get_or_try_init(look).await.copied().unwrap_or(by_form)
    }

    /// Returns where the nearest address of a name is; `None` if there is nothing to say against it.
    async fn nearest(&self, name: &str) -> Option<AddressScope> {
        if let Some(known) = self.by_proxy.guard().get(name) {
            return *known;
        }
        let found = tokio::time::timeout(LOOKUP_PATIENCE, (self.lookup)(name.to_owned())).await;
        let found = found.ok().and_then(Result::ok).unwrap_or_default();
        let nearest = found.iter().map(|address| scope_of(address.ip())).min();
        let nearest = nearest.or_else(|| is_private_name(name).then_some(AddressScope::Private));
        // Also where there is no answer: the owner of the name could withhold the answer each time.
        self.by_proxy.guard().insert(name.to_owned(), nearest);
        nearest
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let mut addresses = (self.lookup)(name.to_owned()).await?;
        addresses.retain(|address| address.is_ipv4() || !self.ipv4_only);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")).into());
        }
        let place = |address: &SocketAddr| scope_of(address.ip());
        let Some(near) = addresses.iter().map(place).find(|place| *place != AddressScope::Public) else {
            return Ok(addresses);
        };
        if self.unguarded.iter().any(|unguarded| unguarded == name) {
            return Ok(addresses);
        }
        let home = self.home().await;
        addresses.retain(|address| home.reaches(place(address)));
        if addresses.is_empty() {
            return Err(Refused::TooNear { host: name.to_owned(), there: near, server: home }.into());
        }
        Ok(addresses)
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GuardedResolver").field("home", &self.0.home).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::{AddressScope::*, *};

    const SERVER: &str = "https://mcp.example/mcp";
    const METADATA_OF_CLOUDS: &str = "169.254.169.254";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn place(address: &str) -> AddressScope {
        scope_of(address.parse().unwrap())
    }

    #[test]
    fn scheme_is_regained_on_the_same_host_only() {
        for (asked, named, expected) in [
            ("https://a.example/mcp", "http://a.example/x?y", Some("https://a.example/x?y")),
            ("https://a.example:8443/mcp", "http://a.example:8000/x", Some("https://a.example:8443/x")),
            ("https://a.example/", "http://b.example/x", None),
            ("http://a.example/", "http://a.example/x", None),
            ("https://localhost:8443/", "http://localhost/x", None),
            ("https://a.example/", "https://a.example:1/x", None),
        ] {
            let regained = with_lost_scheme(&url(asked), &url(named));
            assert_eq!(regained.as_ref().map(Url::as_str), expected, "{asked} {named}");
        }
    }

    #[test]
    fn each_address_is_where_the_registries_say() {
        let table: [(AddressScope, &[&str]); 5] = [
            (
                Loopback,
                &["127.0.0.1", "127.255.255.255", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
            ),
            (
                LinkLocal,
                &[
                    METADATA_OF_CLOUDS,
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.169.254",
                    "::a9fe:a9fe",
                    "2002:a9fe:a9fe::",
                ],
            ),
            (
                Private,
                &[
                    "10.0.0.0",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                    "100.127.255.255",
                    "198.18.0.1",
                    "198.19.255.255",
                    "fc00::1",
                    "fd00:ec2::254",
                    "fec0::1",
                    "64:ff9b:1::1",
                    "64:ff9b::10.0.0.1",
                    "2002:0a00:0001::1",
                    "::ffff:192.168.0.1",
                    "::ffff:0:10.0.0.1",
                ],
            ),
            (
                Reserved,
                &[
                    "0.0.0.1",
                    "192.0.0.192",
                    "192.0.2.1",
                    "192.88.99.1",
                    "198.51.100.1",
                    "203.0.113.1",
                    "224.0.0.1",
                    "240.0.0.1",
                    "255.255.255.255",
                    "::2",
                    "100::1",
                    "2001::1",
                    "2001:db8::1",
                    "3fff::1",
                    "4000::1",
                    "5f00::1",
                    "ff02::1",
                ],
            ),
            (
                Public,
                &[
                    "1.1.1.1",
                    "9.255.255.255",
                    "11.0.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                    "172.15.255.255",
                    "172.32.0.0",
                    "192.0.1.1",
                    "198.17.255.255",
                    "198.20.0.0",
                    "223.255.255.255",
                    "2606:4700::1111",
                    "2001:200::1",
                    "3fff:1000::1",
                    "::ffff:8.8.8.8",
                    "64:ff9b::8.8.8.8",
                    "2002:808:808::1",
                ],
            ),
        ];
        for (expected, addresses) in table {
            for address in addresses {
                assert_eq!(place(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn server_cannot_name_more_private_address() {
        let allowed = |server: &str, there: &str| {
            let [server, there] = [server, there].map(|host| url(&format!("https://{host}/")));
            may_name(&server, &there, PlainHttp::ForLoopback).is_ok()
        };
        let servers = ["127.0.0.1", "169.254.1.1", "192.168.1.1", "1.1.1.1", "mcp.example"];
        for (there, by) in [
            ("127.0.0.1", [true, false, false, false, false]),
            (METADATA_OF_CLOUDS, [false, true, false, false, false]),
            ("10.0.0.1", [true, true, true, false, false]),
            ("192.0.2.1", [false; 5]),
            ("8.8.8.8", [true; 5]),
            ("as.example", [true; 5]),
            ("mcp.example", [true; 5]),
        ] {
            assert_eq!(servers.map(|server| allowed(server, there)), by, "{there}");
        }
        assert!(allowed("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn host_spelling_does_not_hide_its_scope() {
        for host in [
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1.",
            "１２７.0.0.1",
            "%31%32%37.0.0.1",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:0:0:1]",
            "[::127.0.0.1]",
            "localhost",
            "LOCALHOST.",
            "as.localhost",
            "0",
        ] {
            let there = url(&format!("https://{host}/"));
            let refused = may_name(&url(SERVER), &there, PlainHttp::Allowed).unwrap_err();
            assert!(matches!(refused, Refused::TooNear { there: Loopback, server: Public, .. }), "{host}: {refused}");
            assert_eq!(may_name(&url("http://localhost:1/"), &there, PlainHttp::ForLoopback), Ok(()), "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "127.0.0.1.example"] {
            assert_eq!(may_name(&url(SERVER), &url(&format!("https://{host}/")), PlainHttp::ForLoopback), Ok(()));
        }
    }

    #[test]
    fn address_must_be_encrypted_and_without_credentials() {
        let refused = |there: &str, plain_http| may_name(&url(SERVER), &url(there), plain_http).err();
        let plain = || Some(Refused::Plain("as.example".into()));
        assert_eq!(refused("http://as.example/", PlainHttp::ForLoopback), plain());
        assert_eq!(refused("http://as.example/", PlainHttp::Allowed), None);
        let from_loopback = may_name(&url("http://localhost/"), &url("http://as.example/"), PlainHttp::ForLoopback);
        assert_eq!(from_loopback.err(), plain());
        for (server, there, allowed) in [
            ("http://localhost:1/", "http://127.0.0.1:2/", true),
            ("https://[::1]/", "http://as.localhost/", true),
            (SERVER, "http://127.0.0.1/", false),
            ("https://10.0.0.1/", "http://10.0.0.1/", false),
        ] {
            assert_eq!(
                may_name(&url(server), &url(there), PlainHttp::ForLoopback).is_ok(),
                allowed,
                "{server} {there}"
            );
        }
        for there in ["https://me@as.example/", "https://:pw@as.example/"] {
            assert_eq!(refused(there, PlainHttp::Allowed), Some(Refused::UserInfo("as.example".into())));
        }
        for there in ["file:///etc/passwd", "data:,x", "ftp://as.example/", "javascript:alert(1)"] {
            assert!(matches!(refused(there, PlainHttp::Allowed), Some(Refused::Scheme(_))), "{there}");
        }
    }

    #[tokio::test]
    async fn dns_rebinding_cannot_widen_address_scope() {
        for (near, there) in [("10.0.0.1", "https://10.0.0.2/"), ("127.0.0.1", "http://127.0.0.1:9200/")] {
            let lookup =
                move |_| -> Answer { Box::pin(async move { Ok(vec![SocketAddr::new(near.parse().unwrap(), 0)]) }) };
            let resolver = GuardedResolver::with_lookup(&url(SERVER), Vec::new(), false, lookup);
            let may = async || resolver.may_name(&url(there), PlainHttp::ForLoopback).await;
            assert_eq!(may().await, Ok(()), "as far as the name tells");
            resolver.note_server_at("1.1.1.1".parse().unwrap());
            assert!(matches!(may().await, Err(Refused::TooNear { server: Public, .. })), "{there}");
            resolver.note_server_at(near.parse().unwrap());
            assert_eq!(may().await, Ok(()));
        }
    }

    /// A resolver whose answers are the ones given, and the names it was asked for.
    fn resolver(
        server: &str,
        ipv4_only: bool,
        answers: &'static [(&'static str, &'static [&'static str])],
    ) -> (GuardedResolver, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let lookup = move |name: String| -> Answer {
            let answer = answers.iter().find(|(known, _)| *known == name);
            let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
            let answer = answer.map(|(_, all)| all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect());
            kept.lock().unwrap().push(name);
            Box::pin(std::future::ready(answer))
        };
        (GuardedResolver::with_lookup(&url(server), vec!["proxy.corp".into()], ipv4_only, lookup), asked)
    }

    async fn addresses(resolver: &GuardedResolver, name: &str) -> Result<Vec<String>, String> {
        let found = resolver.0.resolve(name).await.map_err(|error| error.to_string())?;
        Ok(found.iter().map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn resolver_drops_more_private_addresses() {
        let answers: &[(&str, &[&str])] = &[
            ("mcp.example", &["1.1.1.1"]),
            ("mcp.corp", &["10.0.0.1"]),
            ("as.corp", &["10.0.0.2"]),
            ("as.example", &["8.8.8.8", "127.0.0.1"]),
            ("rebound.example", &["127.0.0.1"]),
            ("clouds.example", &[METADATA_OF_CLOUDS]),
            ("proxy.corp", &["10.0.0.3"]),
        ];
        let (public, asked) = resolver(SERVER, false, answers);
        assert_eq!(addresses(&public, "as.example").await.unwrap(), ["8.8.8.8"]);
        for name in ["rebound.example", "clouds.example", "as.corp"] {
            let refused = addresses(&public, name).await.unwrap_err();
            assert!(refused.contains(name) && refused.contains("but the server is on the internet"), "{refused}");
        }
        assert_eq!(addresses(&public, "proxy.corp").await.unwrap(), ["10.0.0.3"]);
        assert!(addresses(&public, "nowhere.example").await.is_err());
        let for_home = asked.lock().unwrap().iter().filter(|name| *name == "mcp.example").count();
        assert_eq!(for_home, 1);

        let (private, _) = resolver("https://mcp.corp/", false, answers);
        assert_eq!(addresses(&private, "as.corp").await.unwrap(), ["10.0.0.2"]);
        assert!(addresses(&private, "rebound.example").await.is_err());
        assert!(addresses(&private, "clouds.example").await.is_err());

        let (loopback, asked) = resolver("http://localhost:1/", false, answers);
        assert_eq!(addresses(&loopback, "rebound.example").await.unwrap(), ["127.0.0.1"]);
        assert_eq!(addresses(&loopback, "as.corp").await.unwrap(), ["10.0.0.2"]);
        assert!(addresses(&loopback, "clouds.example").await.is_err());
        assert!(!asked.lock().unwrap().contains(&"localhost".into()));
    }

    #[tokio::test]
    async fn name_for_proxy_is_looked_up_here_too() {
        let answers: &[(&str, &[&str])] = &[
            ("mcp.example", &["1.1.1.1"]),
            ("mcp.corp.example", &["10.0.0.1"]),
            ("as.example", &["8.8.8.8"]),
            ("mixed.example", &["8.8.8.8", "10.0.0.7"]),
            ("intranet.corp.example", &["10.0.0.2"]),
            ("proxy.corp", &["10.0.0.3"]),
        ];
        let (public, asked) = resolver(SERVER, false, answers);
        let may = async |guard: &GuardedResolver, name: &str| {
            guard.may_name_to_proxy(&url(&format!("https://{name}/a?b"))).await.is_ok()
        };
        for name in ["as.example", "as.example", "proxy.corp", "known.to.the.proxy.only.example", "8.8.8.8"] {
            assert!(may(&public, name).await, "{name}");
        }
        for name in ["intranet.corp.example", "mixed.example", "metadata.google.internal", "wiki", "printer.local."] {
            assert!(!may(&public, name).await, "{name}");
        }
        assert_eq!(asked.lock().unwrap().iter().filter(|name| *name == "as.example").count(), 1);
        let (private, _) = resolver("https://mcp.corp.example/", false, answers);
        assert!(may(&private, "intranet.corp.example").await && may(&private, "wiki").await);
        // What has no answer here is where its form says, the server too.
        let (behind_proxy, _) = resolver("https://mcp.lan/", false, answers);
        assert!(may(&behind_proxy, "as.lan").await && may(&behind_proxy, "intranet.corp.example").await);
    }

    #[tokio::test]
    async fn name_with_private_and_public_addresses_is_public() {
        let (both, _) =
            resolver(SERVER, false, &[("mcp.example", &["127.0.0.1", "1.1.1.1"]), ("as.corp", &["10.0.0.2"])]);
        assert!(addresses(&both, "as.corp").await.is_err());
        let (unknown, _) = resolver(SERVER, false, &[("as.corp", &["10.0.0.2"])]);
        assert!(addresses(&unknown, "as.corp").await.is_err());
    }

    #[tokio::test]
    async fn without_ipv6_only_ipv4_addresses_remain() {
        let answers: &[(&str, &[&str])] =
            &[("both.example", &["2606:4700::1", "8.8.8.8"]), ("six.example", &["2606:4700::1"])];
        let (resolver, _) = resolver(SERVER, true, answers);
        assert_eq!(addresses(&resolver, "both.example").await.unwrap(), ["8.8.8.8"]);
        assert_eq!(addresses(&resolver, "six.example").await.unwrap_err(), "six.example has no address");
    }

    #[tokio::test]
    async fn literal_address_is_judged_by_resolved_server() {
        let answers: &[(&str, &[&str])] = &[("mcp.example", &["1.1.1.1"]), ("mcp.corp", &["10.0.0.1"])];
        let (public, _) = resolver(SERVER, false, answers);
        let (private, asked) = resolver("https://mcp.corp/", false, answers);
        let near = url("https://10.0.0.2/");
        assert!(public.may_name(&near, PlainHttp::ForLoopback).await.is_err());
        assert_eq!(private.may_name(&url("https://as.example/"), PlainHttp::ForLoopback).await, Ok(()));
        assert!(asked.lock().unwrap().is_empty());
        assert_eq!(private.may_name(&near, PlainHttp::ForLoopback).await, Ok(()));
        let plain = private.may_name(&url("http://10.0.0.2/"), PlainHttp::ForLoopback).await;
        assert_eq!(plain, Err(Refused::Plain("10.0.0.2".into())));
    }

    #[tokio::test]
    async fn client_with_guarded_resolver_reports_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let to = format!("http://rebound.example:{}/", listener.local_addr().unwrap().port());
        let answers: &[(&str, &[&str])] = &[("mcp.example", &["1.1.1.1"]), ("rebound.example", &["127.0.0.1"])];
        let (resolver, _) = resolver(SERVER, false, answers);
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().dns_resolver(resolver).build().unwrap();
        let refused = crate::text::chain(&client.get(to).send().await.unwrap_err());
        assert!(refused.contains("rebound.example is on this computer"), "{refused}");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ipv4_address_keeps_its_scope_inside_ipv6(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let wrapped = [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ];
            for wrapped in wrapped {
                prop_assert_eq!(scope_of(wrapped.into()), scope_of(address.into()));
            }
        }

        #[test]
        fn scope_agrees_with_standard_library(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let place = scope_of(address.into());
            prop_assert!(!address.is_loopback() || place == Loopback);
            prop_assert!(!address.is_private() || place == Private);
            prop_assert!(!address.is_link_local() || place == LinkLocal);
            prop_assert!(!(address.is_documentation() || address.is_multicast()) || place == Reserved);
        }
    }
}
