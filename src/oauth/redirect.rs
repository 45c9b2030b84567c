//! The loopback redirect (RFC 8252 §7.3, §8.3, §8.10; RFC 6749 §3.1, §4.1.2; RFC 9207 §2): a port that
//! is open while a sign-in is in flight, waits for the browser to come back, and tells copies of
//! mcp-remote who is here (`/.mcp-remote/id`, npm's own).
//!
//! The HTTP is tiny_http's, the connections are not: its `Server` panics when a client resets its
//! connection early (`peer_addr().unwrap()`), which would end the program; it leaves connections
//! unserved behind silent ones when several come at once; and it has no limit of time, size or number.
//!
//! Must never: listen on anything but loopback; hand over what no sign-in here waits for, or the same
//! redirect twice; show success by itself ([`Redirect::answer`] does, once the tokens are there);
//! let a silent connection, a body or a slow reader hold up the next request.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::{pending, poll_fn},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::Duration,
};

use memchr::memmem;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tiny_http::{HTTPVersion, Header, Method, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::page::Page;
use crate::{report::shown, secret::Secret};

/// Status of the answer that sends the browser to sign in once more (RFC 9110 §15.4.8), so that whoever
/// has pasted the redirect elsewhere can tell it from the end.
pub const GO_ON: u16 = 307;
/// Where a copy of mcp-remote says who it is; npm's path.
const IDENTITY: &str = "/.mcp-remote/id";
/// Where older copies of npm's mcp-remote ask whether the sign-in is done; "not yet" makes them ask on.
const WAIT_FOR_AUTH: &str = "/wait-for-auth";
/// How long a request may take to arrive. Browsers open connections ahead of need, and a tunnel over
/// SSH is slow to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that may be silent at a time; one more, and the oldest goes. A browser opens six.
const MOST_SILENT: usize = 32;
/// Connections the kernel holds for us until we take them.
const BACKLOG: i32 = 32;
/// Pause before the next `accept`, where the machine has no socket left.
const SHORTAGE: Duration = Duration::from_millis(200);
/// Largest head of a request, in bytes: every program of a developer leaves cookies at `localhost`.
const LARGEST_HEAD: usize = 256 * 1024;
/// Longest address looked at, in bytes: codes that are encrypted tokens have some thousand.
const LONGEST_URL: usize = 16 * 1024;
/// Ports tried where any will do: one may be free in one family and taken in the other.
const TRIES: usize = 16;
/// How long a program on the port may take to say who it is: as long as npm's.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(1);
/// Largest answer to that, in bytes: headers and two members.
const IDENTITY_SIZE: u64 = 8 * 1024;
/// The most of a page that is read, in bytes.
const PAGE_SIZE: u64 = 64 * 1024;

/// Where the redirect comes to, apart from the port.
#[derive(Clone, Debug)]
pub struct Place {
    /// Host name in the redirect URI: `localhost`, `127.0.0.1`, `[::1]`, …
    pub host: String,
    /// Path of the redirect URI, with its slash.
    pub path: String,
    /// npm's name for the server, told to other copies.
    pub server_hash: String,
}

/// An open port. Dropping it closes the port at once and ends its tasks.
pub struct Listener {
    desk: Arc<Desk>,
    redirects: mpsc::UnboundedReceiver<Redirect>,
    // Only held, for the port to close in the very moment they are dropped.
    _sockets: Vec<Arc<TcpListener>>,
    _serving: JoinSet<()>,
}

/// What every connection needs.
struct Desk {
    place: Place,
    port: u16,
    /// [`Place::path`] as browsers write it.
    path: String,
    redirects: mpsc::UnboundedSender<Redirect>,
    /// By `state`.
    sign_ins: Mutex<HashMap<String, SignIn>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SignIn {
    Waiting,
    HandedOver,
}

/// A redirect that belongs to a sign-in of ours; the browser waits for its page.
pub struct Redirect {
    /// Which sign-in (RFC 6749 §4.1.2).
    pub state: String,
    /// Which authorization server says so (RFC 9207 §2), as it stands.
    pub issuer: Option<String>,
    /// What it says.
    pub outcome: Outcome,
    browser: Browser,
}

/// What the authorization server answered.
#[derive(Debug)]
pub enum Outcome {
    /// RFC 6749 §4.1.2.
    Code(Secret<String>),
    /// RFC 6749 §4.1.2.1, fit for one line of text.
    Refused {
        /// The error code.
        error: String,
        /// What it adds.
        description: Option<String>,
    },
}

/// Who waits for an answer, and gets one whatever happens.
struct Browser(Option<std::net::TcpStream>);

impl Listener {
    /// Opens the port in the loopback families of the host name: both, unless it is an address. A port
    /// counts as free if every family that this machine has can be bound (RFC 8252 §7.3: the browser
    /// chooses the family). Port 0 is any. Needs the runtime around it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if the port is taken.
    pub fn bind(place: &Place, port: u16) -> io::Result<Self> {
        Self::bind_with(place, port, PATIENCE)
    }

    fn bind_with(place: &Place, port: u16, patience: Duration) -> io::Result<Self> {
        let sockets = sockets(&place.host, port)?;
        let port = sockets[0].local_addr()?.port();
        let (sender, redirects) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk {
            path: Url::parse(&redirect_uri(place, port))
                .map_or_else(|_| place.path.clone(), |uri| uri.path().to_owned()),
            place: place.clone(),
            port,
            redirects: sender,
            sign_ins: Mutex::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(desk.clone(), sockets.iter().map(Arc::downgrade).collect(), patience));
        Ok(Self { desk, redirects, _sockets: sockets, _serving: serving })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.desk.port
    }

    /// The redirect URI, for registration, authorization and token request alike (RFC 6749 §4.1.3).
    #[must_use]
    pub fn redirect_uri(&self) -> String {
        redirect_uri(&self.desk.place, self.desk.port)
    }

    /// A sign-in whose redirect is to be handed over, once. Redirects of others are answered and
    /// ignored.
    pub fn expect(&self, state: &str) {
        self.desk.sign_ins().insert(state.to_owned(), SignIn::Waiting);
    }

    /// The next redirect that is ours. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Redirect {
        match self.redirects.recv().await {
            Some(redirect) => redirect,
            None => pending().await, // never: the desk holds a sender
        }
    }
}

impl Redirect {
    /// Shows the page. It is on its way when this returns, even if the program ends.
    pub fn answer(mut self, page: &Page) {
        self.browser.answer(&Answer::from(page), false);
    }

    /// Sends the browser on: the sign-in is done (RFC 9110 §15.4.4).
    pub fn send_to(self, url: &Url) {
        self.send(303, url);
    }

    /// Sends the browser back: the sign-in is not done yet.
    pub fn go_on_at(self, url: &Url) {
        self.send(GO_ON, url);
    }

    fn send(mut self, status: u16, url: &Url) {
        let headers = vec![("Location", url.to_string())];
        self.browser.answer(&Answer { status, headers, body: String::new() }, false);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.answer(&Answer::from(&Page::Interrupted), false);
    }
}

fn redirect_uri(place: &Place, port: u16) -> String {
    format!("http://{}:{port}{}", place.host, place.path)
}

/// One socket for each loopback family.
fn sockets(host: &str, port: u16) -> io::Result<Vec<Arc<TcpListener>>> {
    let addresses = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => vec![address],
        // RFC 8252 §8.3: whatever the name, nothing but loopback.
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

/// Takes connections until the sockets are gone.
async fn serve(desk: Arc<Desk>, sockets: Vec<Weak<TcpListener>>, patience: Duration) {
    let mut connections = JoinSet::new();
    let mut by_age = VecDeque::new();
    while let Some(accepted) = accept(&sockets).await {
        while connections.try_join_next().is_some() {}
        by_age.retain(|connection: &tokio::task::AbortHandle| !connection.is_finished());
        if by_age.len() >= MOST_SILENT {
            _ = by_age.pop_front().map(|oldest| oldest.abort());
        }
        match accepted {
            Ok(stream) => {
                let desk = desk.clone();
                by_age.push_back(connections.spawn(async move {
                    _ = timeout(patience, desk.receive(stream)).await;
                }));
            }
            Err(error) => {
                log::debug!("the redirect listener on port {} pauses: {error}", desk.port);
                sleep(SHORTAGE).await;
            }
        }
    }
}

/// The next connection, in whichever family. Does not keep the sockets alive.
async fn accept(sockets: &[Weak<TcpListener>]) -> Option<io::Result<TcpStream>> {
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

impl Desk {
    fn sign_ins(&self) -> MutexGuard<'_, HashMap<String, SignIn>> {
        self.sign_ins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, one answer. What follows on the connection, a body too, is not read.
    async fn receive(&self, mut stream: TcpStream) -> Option<()> {
        let head = read_head(&mut stream).await?;
        let mut browser = Browser(Some(stream.into_std().ok()?));
        let request = Request::parse(&head);
        match request.as_ref().map_or_else(|| Page::Malformed.into(), |request| self.read(request)) {
            Verdict::Ours { state, issuer, outcome } => {
                _ = self.redirects.send(Redirect { state, issuer, outcome, browser });
            }
            Verdict::Stray(answer) => {
                browser.answer(&answer, request.is_some_and(|request| request.method == Method::Head));
            }
        }
        Some(())
    }

    fn read(&self, request: &Request) -> Verdict {
        let mut hosts = request.headers.iter().filter(|header| header.field.equiv("Host"));
        // RFC 9110 §7.4: a page elsewhere may lead a name of its own here (DNS rebinding).
        if !matches!((hosts.next(), hosts.next()), (Some(host), None) if self.is_our_name(host.value.as_str())) {
            return Page::Misdirected.into();
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return Page::MethodNotAllowed.into();
        }
        if request.target.len() > LONGEST_URL {
            return Page::TooLong.into();
        }
        let origin_form = request.target.starts_with('/').then(|| format!("http://localhost{}", request.target));
        let Some(url) = origin_form.and_then(|url| Url::parse(&url).ok()) else { return Page::NotFound.into() };
        match url.path() {
            IDENTITY => {
                let identity = Identity { mcp_remote: true, server_url_hash: self.place.server_hash.clone() };
                Answer::of(200, "application/json", serde_json::to_string(&identity).unwrap_or_default()).into()
            }
            WAIT_FOR_AUTH => Answer::of(202, "text/plain", "Authentication in progress".into()).into(),
            // Who only asks whether the address is good does not use the code up.
            path if path == self.path && request.method == Method::Head => {
                Answer::of(200, "text/html", String::new()).into()
            }
            path if path == self.path => self.read_redirect(&url),
            "/favicon.ico" => Answer { status: 204, headers: Vec::new(), body: String::new() }.into(),
            _ => Page::NotFound.into(),
        }
    }

    fn is_our_name(&self, host: &str) -> bool {
        let Some((name, port)) = host.rsplit_once(':') else { return false };
        port == self.port.to_string()
            && [&self.place.host, "localhost", "127.0.0.1", "[::1]"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
    }

    fn read_redirect(&self, url: &Url) -> Verdict {
        let Some(Parameters { code, state, issuer, error, description }) = Parameters::of(url) else {
            return Page::Malformed.into();
        };
        let mut sign_ins = self.sign_ins();
        // RFC 6749 §10.12: without our state it is not our redirect, whatever else is right.
        let mut sign_in = match state.map(|state| sign_ins.entry(state)) {
            Some(Entry::Occupied(sign_in)) => sign_in,
            Some(Entry::Vacant(_)) | None => {
                log::debug!("ignored a redirect that no sign-in here waits for");
                return Page::NotWaiting.into();
            }
        };
        if *sign_in.get() == SignIn::HandedOver {
            return Page::AlreadyHandled.into();
        }
        let outcome = match (error, code) {
            (Some(error), _) => Outcome::Refused { error, description },
            (None, Some(code)) => Outcome::Code(Secret::new(code)),
            (None, None) => return Page::Malformed.into(),
        };
        *sign_in.get_mut() = SignIn::HandedOver;
        Verdict::Ours { state: sign_in.key().clone(), issuer, outcome }
    }
}

/// What a request turned out to be.
enum Verdict {
    Ours { state: String, issuer: Option<String>, outcome: Outcome },
    Stray(Answer),
}

impl From<Answer> for Verdict {
    fn from(answer: Answer) -> Self {
        Self::Stray(answer)
    }
}

impl From<Page> for Verdict {
    fn from(page: Page) -> Self {
        Answer::from(&page).into()
    }
}

/// The query of a redirect; others than these are ignored (RFC 6749 §4.1.2).
#[derive(Default)]
struct Parameters {
    code: Option<String>,
    state: Option<String>,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Parameters {
    /// RFC 6749 §3.1: none may come twice; one without a value counts as omitted.
    fn of(url: &Url) -> Option<Self> {
        let mut seen = Self::default();
        for (name, value) in url.query_pairs() {
            let slot = match &*name {
                "code" => &mut seen.code,
                "state" => &mut seen.state,
                "iss" => &mut seen.issuer,
                "error" => &mut seen.error,
                "error_description" => &mut seen.description,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        Some(Self {
            code: given(seen.code),
            state: given(seen.state),
            issuer: given(seen.issuer),
            error: given(seen.error).map(|error| shown(error.as_bytes())),
            description: given(seen.description).map(|description| shown(description.as_bytes())),
        })
    }
}

/// The head of a request, to its empty line (RFC 9112 §2.1).
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = memmem::find(&bytes, b"\r\n\r\n") {
            bytes.truncate(end);
            return String::from_utf8(bytes).ok();
        }
        if bytes.len() > LARGEST_HEAD || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

struct Request {
    method: Method,
    target: String,
    headers: Vec<Header>,
}

impl Request {
    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?.parse().ok()?, words.next()?.to_owned(), words.next()?);
        if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return None;
        }
        let headers = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
        Some(Self { method, target, headers })
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    fn of(status: u16, kind: &str, body: String) -> Self {
        Self { status, headers: vec![("Content-Type", kind.to_owned())], body }
    }
}

impl From<&Page> for Answer {
    fn from(page: &Page) -> Self {
        let headers = Page::headers().into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        Self { status: page.status(), headers, body: page.html() }
    }
}

impl Browser {
    /// Answers, once.
    fn answer(&mut self, answer: &Answer, without_body: bool) {
        // The address has a code in it: kept by no cache, told to no page that follows (RFC 9700 §4.2.4).
        const ALWAYS: [(&str, &str); 3] =
            [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")];
        let Some(mut stream) = self.0.take() else { return };
        // RFC 9110 §15.5.6.
        let allow: &[_] = if answer.status == 405 { &[("Allow", "GET, HEAD")] } else { &[] };
        let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.chain(ALWAYS).chain(allow.iter().copied());
        let headers = headers.filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
        let (body, length) = (answer.body.as_bytes(), answer.body.len());
        let response = Response::new(StatusCode(answer.status), headers, body, Some(length), None);
        let mut bytes = Vec::new();
        // HTTP/1.0 says that the connection ends here; tiny_http has no other way to.
        _ = response.raw_print(&mut bytes, HTTPVersion(1, 0), &[], without_body, None);
        // Does not block, and need not: it fits into the buffer of a socket that was not written to.
        if let Err(error) = stream.write_all(&bytes) {
            log::debug!("the browser did not take its page: {error}");
        }
    }
}

/// What a copy of mcp-remote says of itself; the members are npm's.
#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "mcpRemote")]
    mcp_remote: bool,
    #[serde(rename = "serverUrlHash")]
    server_url_hash: String,
}

/// Whether a copy of mcp-remote, npm's or ours, is on the port for the same server.
pub async fn sibling(port: u16, server_hash: &str) -> bool {
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

/// Hands a redirect, given as path and query, to the listener on a port of this machine. Status and
/// page.
///
/// # Errors
/// Where nobody listens, or what listens speaks no HTTP.
pub async fn hand_over(port: u16, target: &str) -> io::Result<(u16, String)> {
    match get(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), target, PAGE_SIZE).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            get(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), target, PAGE_SIZE).await
        }
        answer => answer,
    }
}

/// Asked on the wire: no proxy, no client's time-outs or pool, between two programs on one machine.
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

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle as Task;

    use super::*;

    /// Until a test has failed.
    const TOO_LONG: Duration = Duration::from_secs(10);

    fn place() -> Place {
        Place { host: "localhost".into(), path: "/oauth/callback".into(), server_hash: "0123abcd".into() }
    }

    fn listener() -> Listener {
        let listener = Listener::bind(&place(), 0).unwrap();
        listener.expect("s1");
        listener
    }

    /// What a client gets that sends this and reads to the end.
    async fn exchange(address: SocketAddr, request: String) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(TOO_LONG, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
        answer
    }

    async fn next(listener: &mut Listener) -> Redirect {
        timeout(TOO_LONG, listener.next()).await.expect("no redirect")
    }

    fn v4(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    fn v6(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
    }

    fn request(line: &str, host: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    }

    /// A browser that comes back; it waits for its page.
    fn browse(port: u16, target: &str) -> Task<String> {
        tokio::spawn(exchange(v4(port), request(&format!("GET {target}"), &format!("localhost:{port}"))))
    }

    fn page(page: &Page) -> String {
        format!("<title>{}</title>", page.html().split_once("<title>").unwrap().1.split_once("</title>").unwrap().0)
    }

    fn success() -> Page {
        Page::SignedIn { server: "mcp.example".into(), host: None }
    }

    fn code(redirect: &Redirect) -> &str {
        match &redirect.outcome {
            Outcome::Code(code) => code.expose(),
            refused @ Outcome::Refused { .. } => panic!("{refused:?}"),
        }
    }

    #[tokio::test]
    async fn the_browser_comes_back_in_either_family_and_waits_for_the_page() {
        let mut listener = listener();
        let port = listener.port();
        assert_eq!(listener.redirect_uri(), format!("http://localhost:{port}/oauth/callback"));
        for (address, name) in
            [(v4(port), "localhost"), (v6(port), "LocalHost"), (v4(port), "127.0.0.1"), (v6(port), "[::1]")]
        {
            listener.expect("s 1");
            let target = "GET /oauth/callback?code=a%2Bb+c&state=s%201&iss=https%3A%2F%2Fas.example%2F&other=1&other=2";
            let browser = tokio::spawn(exchange(address, request(target, &format!("{name}:{port}"))));
            let redirect = next(&mut listener).await;
            assert_eq!(redirect.state, "s 1");
            assert_eq!(redirect.issuer.as_deref(), Some("https://as.example/"));
            assert_eq!(code(&redirect), "a+b c");
            assert!(!format!("{:?}", redirect.outcome).contains("a+b"));
            assert!(!browser.is_finished());
            redirect.answer(&success());
            let answer = browser.await.unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with(&success().html()), "{answer}");
            for header in [
                "Content-Type: text/html; charset=utf-8",
                "Cache-Control: no-store",
                "Referrer-Policy: no-referrer",
                "X-Content-Type-Options: nosniff",
                "Content-Security-Policy: default-src 'none'; style-src 'sha256-",
            ] {
                assert!(answer.contains(&format!("\r\n{header}")), "{header} is not in {answer}");
            }
        }
    }

    #[tokio::test]
    async fn strays_are_answered_and_ignored() {
        let mut listener = listener();
        let port = listener.port();
        let ours = format!("localhost:{port}");
        let good = "GET /oauth/callback?code=stolen&state=s1";
        let long = format!("GET /oauth/callback?state=s1&code={}", "x".repeat(LONGEST_URL));
        for (line, host, expected) in [
            ("GET /oauth/callback?code=c", &*ours, Page::NotWaiting),
            ("GET /oauth/callback?code=c&state=", &ours, Page::NotWaiting),
            ("GET /oauth/callback?code=c&state=S1", &ours, Page::NotWaiting),
            ("GET /oauth/callback?error=access_denied&state=s2", &ours, Page::NotWaiting),
            ("GET /oauth/callback", &ours, Page::NotWaiting),
            ("GET /oauth/callback?state=s1", &ours, Page::Malformed),
            ("GET /oauth/callback?state=s1&code=", &ours, Page::Malformed),
            ("GET /oauth/callback?code=c&code=d&state=s1", &ours, Page::Malformed),
            ("GET /oauth/callback?code=c&state=s1&state=s1", &ours, Page::Malformed),
            ("GET /oauth/callback?code=c&state=s1&iss=a&iss=", &ours, Page::Malformed),
            ("GET /oauth/callback/?code=c&state=s1", &ours, Page::NotFound),
            ("GET /?code=c&state=s1", &ours, Page::NotFound),
            ("GET http://localhost/oauth/callback?code=c&state=s1", &ours, Page::NotFound),
            ("POST /oauth/callback?code=c&state=s1", &ours, Page::MethodNotAllowed),
            (&long, &ours, Page::TooLong),
            (good, "localhost", Page::Misdirected),
            (good, &format!("evil.example:{port}"), Page::Misdirected),
            (good, &format!("localhost.evil.example:{port}"), Page::Misdirected),
            (good, &format!("localhost:{}", port ^ 1), Page::Misdirected),
            (good, &format!("{ours}\r\nHost: evil.example:{port}"), Page::Misdirected),
            ("GET /.mcp-remote/id", "evil.example", Page::Misdirected),
        ] {
            let answer = exchange(v4(port), request(line, host)).await;
            assert!(answer.starts_with(&format!("HTTP/1.0 {} ", expected.status())), "{line} {host}: {answer}");
            assert!(answer.contains(&page(&expected)), "{line} {host}: {answer}");
        }
        let nameless = exchange(v4(port), format!("{good} HTTP/1.0\r\n\r\n")).await;
        assert!(nameless.contains(&page(&Page::Misdirected)), "{nameless}");
        let head = exchange(v4(port), request("HEAD /oauth/callback?code=c&state=s1", &ours)).await;
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");

        let browser = browse(port, "/oauth/callback?code=c1&state=s1");
        let redirect = next(&mut listener).await;
        assert_eq!(code(&redirect), "c1");
        redirect.answer(&success());
        assert!(browser.await.unwrap().contains(&page(&success())));
    }

    #[tokio::test]
    async fn a_refusal_is_handed_over_with_its_reason_and_wins_over_a_code() {
        let mut listener = listener();
        let _browser = browse(
            listener.port(),
            "/oauth/callback?state=s1&error=access_denied&error_description=You%0d%0asaid+no%07&code=c",
        );
        let redirect = next(&mut listener).await;
        let Outcome::Refused { error, description } = &redirect.outcome else { panic!("{:?}", redirect.outcome) };
        assert_eq!((&**error, description.as_deref()), ("access_denied", Some("You said no")));
    }

    #[tokio::test]
    async fn a_redirect_is_handed_over_once_unless_it_is_expected_again() {
        let mut listener = listener();
        let port = listener.port();
        let target = "/oauth/callback?code=c&state=s1";
        let first = browse(port, target);
        let redirect = next(&mut listener).await;
        assert!(browse(port, target).await.unwrap().contains(&page(&Page::AlreadyHandled)));
        redirect.answer(&success());
        first.await.unwrap();
        assert!(browse(port, target).await.unwrap().contains(&page(&Page::AlreadyHandled)));

        listener.expect("s1");
        let again = browse(port, target);
        next(&mut listener).await.send_to(&"https://a.example/done?x=1".parse().unwrap());
        let answer = again.await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 303 See Other\r\n"), "{answer}");
        assert!(answer.contains("\r\nLocation: https://a.example/done?x=1\r\n"), "{answer}");
        assert!(answer.contains("\r\nReferrer-Policy: no-referrer\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_redirect_that_nobody_answers_shows_no_success() {
        let mut listener = listener();
        let browser = browse(listener.port(), "/oauth/callback?code=c&state=s1");
        drop(next(&mut listener).await);
        let answer = browser.await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 503 ") && answer.contains(&page(&Page::Interrupted)), "{answer}");
    }

    #[tokio::test]
    async fn the_port_is_free_at_once_and_a_held_browser_still_gets_its_page() {
        let mut listener = listener();
        let port = listener.port();
        let browser = browse(port, "/oauth/callback?code=c&state=s1");
        let redirect = next(&mut listener).await;
        drop(listener);
        let mut listener = Listener::bind(&place(), port).unwrap();
        redirect.answer(&success());
        assert!(browser.await.unwrap().contains(&page(&success())));

        listener.expect("s2");
        let browser = browse(port, "/oauth/callback?code=c2&state=s2");
        assert_eq!(code(&next(&mut listener).await), "c2");
        browser.await.unwrap();
        for _ in 0..20 {
            drop(listener);
            listener = Listener::bind(&place(), port).unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_in_one_family_is_taken() {
        let ours = listener();
        let taken = |place: &Place, port| Listener::bind(place, port).err().map(|error| error.kind());
        assert_eq!(taken(&place(), ours.port()), Some(io::ErrorKind::AddrInUse));
        for (address, host, other) in [(v4(0), "127.0.0.1", "[::1]"), (v6(0), "[::1]", "127.0.0.1")] {
            let socket = TcpListener::bind(address).await.unwrap();
            let port = socket.local_addr().unwrap().port();
            assert_eq!(taken(&place(), port), Some(io::ErrorKind::AddrInUse));
            assert_eq!(taken(&Place { host: host.into(), ..place() }, port), Some(io::ErrorKind::AddrInUse));
            assert_eq!(taken(&Place { host: other.into(), ..place() }, port), None);
        }
    }

    /// Connections that will not say what they want.
    async fn half_open(port: u16, number: usize) -> VecDeque<TcpStream> {
        let post = format!("POST / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 1000000\r\n\r\n");
        let starts = ["", "GET /oauth/call", "GET / HTTP/1.1\r\nHost: localhost\r\n", &post];
        let mut streams = VecDeque::new();
        for start in starts.into_iter().cycle().take(number) {
            let mut stream = TcpStream::connect(v4(port)).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            streams.push_back(stream);
        }
        streams
    }

    #[tokio::test]
    async fn half_open_connections_hold_nothing_up_and_are_never_many() {
        let mut listener = listener();
        let port = listener.port();
        let mut streams = half_open(port, 4 * MOST_SILENT).await;
        let browser = browse(port, "/oauth/callback?code=c1&state=s1");
        assert_eq!(code(&next(&mut listener).await), "c1");
        browser.await.unwrap();
        // Well before their time is up.
        let mut oldest = streams.pop_front().unwrap();
        _ = timeout(TOO_LONG, oldest.read(&mut [0])).await.expect("the oldest is not dropped");
    }

    #[tokio::test]
    async fn half_open_connections_are_dropped_in_the_end() {
        let mut listener = Listener::bind_with(&place(), 0, Duration::from_millis(50)).unwrap();
        let port = listener.port();
        for mut stream in half_open(port, 8).await {
            _ = timeout(TOO_LONG, stream.read_to_end(&mut Vec::new())).await.expect("it is not dropped");
        }
        listener.expect("s1");
        let browser = browse(port, "/oauth/callback?code=c1&state=s1");
        assert_eq!(code(&next(&mut listener).await), "c1");
        browser.await.unwrap();
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_kept() {
        let listener = listener();
        let mut stream = TcpStream::connect(v4(listener.port())).await.unwrap();
        let line = format!("X-Endless: {}\r\n", "x".repeat(1000));
        _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        let mut sent = 0;
        while stream.write_all(line.as_bytes()).await.is_ok() {
            sent += line.len();
            assert!(sent < 64 * LARGEST_HEAD, "nobody ends it");
        }
    }

    #[tokio::test]
    async fn what_is_not_http_gets_no_redirect_through() {
        let mut listener = listener();
        let port = listener.port();
        let host = format!("Host: localhost:{port}");
        let target = "/oauth/callback?code=stolen&state=s1";
        for head in [
            format!("GET {target} HTTP/2.0\r\n{host}"),
            format!("GET {target} x HTTP/1.1\r\n{host}"),
            format!("GET {target}\r\n{host}"),
            format!("GET {target} HTTP/1.1\r\n{host}\r\nno colon"),
        ] {
            let answer = exchange(v4(port), format!("{head}\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.0 400 "), "{head}: {answer}");
        }
        let browser = browse(port, "/oauth/callback?code=c1&state=s1");
        assert_eq!(code(&next(&mut listener).await), "c1");
        browser.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_does_not_end_the_listener() {
        let mut listener = listener();
        let port = listener.port();
        for _ in 0..20 {
            let stream = std::net::TcpStream::connect(v4(port)).unwrap();
            Write::write_all(&mut &stream, request("GET /", &format!("localhost:{port}")).as_bytes()).unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let browser = browse(port, "/oauth/callback?code=c1&state=s1");
        assert_eq!(code(&next(&mut listener).await), "c1");
        browser.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_wait_is_given_up() {
        let mut listener = listener();
        assert!(timeout(Duration::ZERO, listener.next()).await.is_err());
        let browser = browse(listener.port(), "/oauth/callback?code=c1&state=s1");
        let icon = browse(listener.port(), "/favicon.ico");
        assert!(icon.await.unwrap().starts_with("HTTP/1.0 204 "));
        assert_eq!(code(&next(&mut listener).await), "c1");
        browser.await.unwrap();
    }

    #[tokio::test]
    async fn copies_of_mcp_remote_know_each_other() {
        let ours = listener();
        let answer = browse(ours.port(), "/.mcp-remote/id").await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("\r\nContent-Type: application/json\r\n"));
        assert!(answer.ends_with("\r\n\r\n{\"mcpRemote\":true,\"serverUrlHash\":\"0123abcd\"}"), "{answer}");
        let older = browse(ours.port(), "/wait-for-auth?poll=false").await.unwrap();
        assert!(
            older.starts_with("HTTP/1.0 202 Accepted\r\n") && older.ends_with("\r\n\r\nAuthentication in progress")
        );

        assert!(sibling(ours.port(), "0123abcd").await);
        assert!(!sibling(ours.port(), "another").await);
        let only_v6 = Listener::bind(&Place { host: "[::1]".into(), ..place() }, 0).unwrap();
        assert!(sibling(only_v6.port(), "0123abcd").await);
        let port = ours.port();
        drop(ours);
        assert!(!sibling(port, "0123abcd").await);
    }

    #[tokio::test]
    async fn another_program_on_the_port_is_no_copy() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\n\r\n{\"mcpRemote\":true,\"serverUrlHash\":\"0123abcd\"}",
            "HTTP/1.0 200 OK\r\n\r\n{\"mcpRemote\":false,\"serverUrlHash\":\"0123abcd\"}",
            "HTTP/1.0 200 OK\r\n\r\n<html>",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "",
        ] {
            let other = TcpListener::bind(v4(0)).await.unwrap();
            let port = other.local_addr().unwrap().port();
            let program = tokio::spawn(async move {
                let (mut stream, _) = other.accept().await.unwrap();
                _ = stream.read(&mut [0; 1024]).await;
                _ = stream.write_all(answer.as_bytes()).await;
            });
            assert!(!sibling(port, "0123abcd").await, "{answer}");
            program.await.unwrap();
        }
        let silent = TcpListener::bind(v4(0)).await.unwrap();
        assert!(!sibling(silent.local_addr().unwrap().port(), "0123abcd").await);
    }

    #[tokio::test]
    async fn a_path_is_known_as_browsers_write_it() {
        let place = Place { path: "/ä b/../cb?tenant=1".into(), ..place() };
        let mut listener = Listener::bind(&place, 0).unwrap();
        assert_eq!(listener.redirect_uri(), format!("http://localhost:{}/ä b/../cb?tenant=1", listener.port()));
        listener.expect("s1");
        let browser = browse(listener.port(), "/cb?tenant=1&code=c1&state=s1");
        assert_eq!(code(&next(&mut listener).await), "c1");
        browser.await.unwrap();
    }
}
