//! The callback server (RFC 8252 §7.3, §8.3, §8.10; RFC 6749 §3.1, §4.1.2; RFC 9207 §2). Its port is open during a sign-in
//! and a moment longer. The server receives the redirect from the browser, and identifies itself to other instances of
//! mcp-remote (`/.mcp-remote/id`, a path of the npm package).
//!
//! # Invariants
//!
//! - The port is open on loopback only.
//! - The server passes a redirect on only if a sign-in of this process waits for it, and only once. A browser that loads the
//!   redirect again gets the same page. A prefetch does not use up the redirect.
//! - The server itself reports no success. [`Redirect::answer`] does, once the tokens have arrived.
//! - A silent connection, a request body or a slow reader does not delay the next request.

mod instances;
mod port;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    io,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use reqwest::Url;
use tiny_http::Method;
use tokio::{
    io::AsyncRead,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

pub(crate) use self::instances::{hand_over, sibling};
use self::{
    instances::{IDENTITY, Identity},
    port::accept,
    wire::{Browser, RedirectAnswer, RedirectRequest, read_head},
};
use crate::{
    oauth::{error::ErrorCode, person::page::Page},
    secret::Secret,
    sync::LockExt,
    text::one_line,
};

/// Status of the response that sends the browser to sign in once more (RFC 9110 §15.4.8). It differs from the final redirect
/// because `mcp-remote-client finish` must distinguish the two.
pub(crate) const GO_ON: u16 = 307;
/// Path where older versions of npm mcp-remote ask whether the sign-in is complete. "Not yet" makes them ask again.
const WAIT_FOR_AUTH: &str = "/wait-for-auth";
/// How long a request may take to arrive. Browsers open connections ahead of need, and a tunnel over
/// SSH is slow to begin.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(20);
/// Silent connections at a time. A further connection closes the oldest. A browser opens six.
const MOST_SILENT: usize = 32;
/// How long the port stays open after the last page, for a browser that loads it again.
const LINGER: Duration = Duration::from_secs(3);
/// Browsers that wait for the same page at a time, apart from the first.
const MOST_REPEATED: usize = 8;
/// Errors without `state` that are reported, because any website can send the browser here.
const MOST_UNPROVEN: usize = 3;
/// Pause before the next `accept` if the computer has no socket left.
const SHORTAGE: Duration = Duration::from_millis(200);
/// Longest URL that is read, in bytes. Codes that are encrypted tokens have several thousand.
const LONGEST_URL: usize = 16 * 1024;

/// The redirect URI without its port, and the server that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Host name in the redirect URI: `localhost`, `127.0.0.1`, `[::1]`, …
    pub(crate) host: String,
    /// Path of the redirect URI, with its slash.
    pub(crate) path: String,
    /// The npm package's name for the server, reported to other instances.
    pub(crate) server_hash: String,
}

/// An open callback port. Dropping it closes the port at once and ends its tasks.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    // Held so that dropping the listener closes the port.
    _sockets: Vec<Arc<TcpListener>>,
    _serving: JoinSet<()>,
}

/// State shared by all connections.
struct Shared {
    place: Place,
    port: u16,
    /// [`Place::path`] in the form that browsers send.
    path: String,
    arrivals: mpsc::UnboundedSender<Arrival>,
    /// Number of errors without `state`.
    unproven: AtomicUsize,
    /// By `state`.
    sign_ins: Mutex<HashMap<String, RedirectState>>,
}

/// State of the redirect of a sign-in.
enum RedirectState {
    Waiting,
    /// Passed on. Browsers that load it again wait for the same page.
    HandedOver(Vec<Browser>),
    /// Answered. Browsers that load it later get the same answer.
    Answered(RedirectAnswer),
}

/// A redirect of a sign-in of this process. The browser waits for its page.
pub(crate) struct Redirect {
    /// The issuer that the redirect names (RFC 9207 §2), unchanged.
    pub(crate) issuer: Option<String>,
    /// The result of the sign-in.
    pub(crate) outcome: Outcome,
    browser: Browser,
    state: String,
    shared: Weak<Shared>,
}

/// An arrival at the callback port.
pub(crate) enum Arrival {
    /// The redirect of a sign-in that waits.
    Redirect(Redirect),
    /// An error without the `state` that RFC 6749 §4.1.2.1 requires, while one sign-in waits. Any website can send it.
    Unproven {
        /// The error code.
        error: ErrorCode,
        /// What it adds.
        description: Option<String>,
    },
}

/// The result that the authorization server sent.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// RFC 6749 §4.1.2.
    Code(Secret<String>),
    /// An error (RFC 6749 §4.1.2.1), as one line of text.
    Refused {
        /// The error code.
        error: ErrorCode,
        /// What it adds.
        description: Option<String>,
    },
}

impl Listener {
    /// Opens the port in the loopback families of the host name: both, unless the host is an address. A port counts as free
    /// if every family of this computer can be bound, because the browser chooses the family (RFC 8252 §7.3). Port 0 is
    /// any free port. Must run in a Tokio runtime.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if the port is in use.
    pub(crate) fn bind(place: &Place, port: u16) -> io::Result<Self> {
        Self::bind_with(place, port, ARRIVAL_PATIENCE)
    }

    fn bind_with(place: &Place, port: u16, patience: Duration) -> io::Result<Self> {
        let sockets = port::open(&place.host, port)?;
        let port = sockets[0].local_addr()?.port();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            path: Url::parse(&redirect_uri(place, port))
                .map_or_else(|_| place.path.clone(), |uri| uri.path().to_owned()),
            place: place.clone(),
            port,
            arrivals: sender,
            unproven: AtomicUsize::new(0),
            sign_ins: Mutex::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(shared.clone(), sockets.iter().map(Arc::downgrade).collect(), patience));
        Ok(Self { shared, arrivals, _sockets: sockets, _serving: serving })
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.shared.port
    }

    /// Returns the redirect URI for registration, authorization and token request (RFC 6749 §4.1.3).
    pub(crate) fn redirect_uri(&self) -> String {
        redirect_uri(&self.shared.place, self.shared.port)
    }

    /// Registers a sign-in whose redirect is passed on, once. Redirects of other sign-ins are answered and ignored.
    pub(crate) fn expect(&self, state: &str) {
        self.shared.sign_ins().insert(state.to_owned(), RedirectState::Waiting);
    }

    /// Returns the next arrival. Dropping the future loses no arrival.
    pub(crate) async fn next(&mut self) -> Arrival {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            None => pending().await, // never: the shared holds a sender
        }
    }

    /// Returns how many browsers wait for the page of another browser.
    #[cfg(test)]
    fn repeated(&self, state: &str) -> usize {
        match self.shared.sign_ins().get(state) {
            Some(RedirectState::HandedOver(waiting)) => waiting.len(),
            _ => 0,
        }
    }

    /// Stays open for a moment, because a browser may load the page again.
    pub(crate) async fn linger(self) {
        sleep(LINGER).await;
    }
}

impl Redirect {
    /// Shows the page. The page is sent when this returns, even if the program ends.
    pub(crate) fn answer(self, page: &Page) {
        self.end(page.into());
    }

    /// Redirects the browser after a complete sign-in (RFC 9110 §15.4.4).
    pub(crate) fn send_to(self, url: &Url) {
        self.send(303, url);
    }

    /// Redirects the browser to sign in once more.
    pub(crate) fn go_on_at(self, url: &Url) {
        self.send(GO_ON, url);
    }

    fn send(self, status: u16, url: &Url) {
        let headers = vec![("Location", url.to_string())];
        self.end(RedirectAnswer { status, headers, body: String::new() });
    }

    /// Answers each browser that has loaded or will load this redirect.
    fn end(mut self, answer: RedirectAnswer) {
        self.browser.answer(&answer, false);
        let Some(shared) = self.shared.upgrade() else { return };
        let mut sign_ins = shared.sign_ins();
        if let Some(RedirectState::HandedOver(waiting)) = sign_ins.get_mut(&self.state) {
            for browser in waiting {
                browser.answer(&answer, false);
            }
            sign_ins.insert(self.state, RedirectState::Answered(answer));
        }
    }
}

fn redirect_uri(place: &Place, port: u16) -> String {
    format!("http://{}:{port}{}", place.host, place.path)
}

/// Accepts connections until the sockets are closed.
async fn serve(shared: Arc<Shared>, sockets: Vec<Weak<TcpListener>>, patience: Duration) {
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
                let shared = shared.clone();
                by_age.push_back(connections.spawn(async move {
                    _ = timeout(patience, shared.receive(stream)).await;
                }));
            }
            Err(error) => {
                log::debug!("the callback server on port {} pauses: {error}", shared.port);
                sleep(SHORTAGE).await;
            }
        }
    }
}

impl Shared {
    fn sign_ins(&self) -> MutexGuard<'_, HashMap<String, RedirectState>> {
        self.sign_ins.guard()
    }

    /// Answers one request. The rest of the connection, including a body, is not read.
    async fn receive(self: Arc<Self>, mut stream: TcpStream) -> Option<()> {
        let head = read_head(&mut stream).await?;
        let mut browser = Browser::of(stream.into_std().ok()?);
        let request = RedirectRequest::parse(&head);
        match self.verdict(request.as_ref()) {
            Verdict::Ours { state, issuer, outcome } => {
                let shared = Arc::downgrade(&self);
                _ = self.arrivals.send(Arrival::Redirect(Redirect { issuer, outcome, browser, state, shared }));
            }
            Verdict::Repeated(state) => match self.sign_ins().get_mut(&state) {
                Some(RedirectState::Answered(answer)) => browser.answer(answer, false),
                Some(RedirectState::HandedOver(waiting)) if waiting.len() < MOST_REPEATED => waiting.push(browser),
                _ => browser.answer(&(&Page::AlreadyHandled).into(), false),
            },
            Verdict::Stray(answer) => {
                browser.answer(&answer, request.is_some_and(|request| request.method == Method::Head));
            }
        }
        Some(())
    }

    fn verdict(&self, request: Option<&RedirectRequest>) -> Verdict {
        request.map_or_else(|| Page::Malformed.into(), |request| self.read(request))
    }

    fn read(&self, request: &RedirectRequest) -> Verdict {
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
                RedirectAnswer::of(200, "application/json", serde_json::to_string(&identity).unwrap_or_default()).into()
            }
            WAIT_FOR_AUTH => RedirectAnswer::of(202, "text/plain", "Authentication in progress".into()).into(),
            // A HEAD request does not use up the code.
            path if path == self.path && request.method == Method::Head => {
                RedirectAnswer::of(200, "text/html", String::new()).into()
            }
            // A prefetch must not use up the code. Caches store no 503 (RFC 9110 §15.6.4).
            path if path == self.path && is_prefetch(request) => {
                RedirectAnswer { status: 503, headers: Vec::new(), body: String::new() }.into()
            }
            path if path == self.path => self.read_redirect(&url),
            "/favicon.ico" => RedirectAnswer { status: 204, headers: Vec::new(), body: String::new() }.into(),
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
        // RFC 6749 §10.12: without an expected state the redirect is not accepted, whatever else is right.
        let stray = || {
            log::debug!("ignoring a redirect: no pending sign-in has its state");
            Page::NotWaiting.into()
        };
        let Some(state) = state else {
            let is_about_one = error.is_some() && waiting(&sign_ins) == 1;
            return if is_about_one { self.unproven(error, description) } else { stray() };
        };
        let Some(sign_in) = sign_ins.get_mut(&state) else { return stray() };
        if !matches!(sign_in, RedirectState::Waiting) {
            return Verdict::Repeated(state);
        }
        let outcome = match (error, code) {
            (Some(error), _) => Outcome::Refused { error: error.into(), description },
            (None, Some(code)) => Outcome::Code(Secret::new(code)),
            (None, None) => return Page::Malformed.into(),
        };
        *sign_in = RedirectState::HandedOver(Vec::new());
        Verdict::Ours { state, issuer, outcome }
    }

    /// Reports an error that names no sign-in. The sign-in stays open, because an attacker may have invented the error.
    fn unproven(&self, error: Option<String>, description: Option<String>) -> Verdict {
        let error = error.unwrap_or_default();
        let page = Page::Unproven { error: error.clone(), description: description.clone() };
        if self.unproven.fetch_add(1, Relaxed) < MOST_UNPROVEN {
            _ = self.arrivals.send(Arrival::Unproven { error: error.into(), description });
        }
        page.into()
    }
}

fn waiting(sign_ins: &HashMap<String, RedirectState>) -> usize {
    sign_ins.values().filter(|state| matches!(state, RedirectState::Waiting)).count()
}

/// Returns the values that a listener on port 3335, which waits for the `state` "s", reads from this request, each with its
/// name, and the response that needs no sign-in. Returns `None` for an incomplete request. For fuzz targets.
pub async fn receive_redirect(mut stream: impl AsyncRead + Unpin) -> Option<(Vec<(&'static str, String)>, Vec<u8>)> {
    let head = read_head(&mut stream).await?;
    let place = Place { host: "localhost".to_owned(), path: "/oauth/callback".to_owned(), server_hash: "0".repeat(32) };
    let (sender, mut arrivals) = mpsc::unbounded_channel();
    let sign_ins = HashMap::from([("s".to_owned(), RedirectState::Waiting)]);
    let shared = Shared {
        path: place.path.clone(),
        place,
        port: 3335,
        arrivals: sender,
        unproven: AtomicUsize::new(0),
        sign_ins: Mutex::new(sign_ins),
    };
    let request = RedirectRequest::parse(&head);
    let (mut taken, answer) = match shared.verdict(request.as_ref()) {
        Verdict::Ours { state, issuer, outcome } => {
            let mut taken = vec![("state", Some(state)), ("iss", issuer)];
            match outcome {
                Outcome::Code(code) => taken.push(("code", Some(code.expose().clone()))),
                Outcome::Refused { error, description } => {
                    taken.extend([("error", Some(error.as_str().to_owned())), ("error_description", description)]);
                }
            }
            (taken, Vec::new())
        }
        Verdict::Repeated(state) => (vec![("repeated", Some(state))], Vec::new()),
        Verdict::Stray(answer) => {
            let without_body = request.is_some_and(|request| request.method == Method::Head);
            (Vec::new(), answer.to_bytes(without_body))
        }
    };
    if let Ok(Arrival::Unproven { error, description }) = arrivals.try_recv() {
        taken.extend([("unproven", Some(error.as_str().to_owned())), ("error_description", description)]);
    }
    Some((taken.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(), answer))
}

/// Returns whether the request is a prefetch (`Sec-Purpose` of Fetch Metadata; `Purpose` and `X-Moz` in older browsers).
fn is_prefetch(request: &RedirectRequest) -> bool {
    request.headers.iter().any(|header| {
        ["Sec-Purpose", "Purpose", "X-Moz"].iter().any(|name| header.field.equiv(name))
            && header.value.as_str().to_ascii_lowercase().starts_with("prefetch")
    })
}

/// The kind of a request.
enum Verdict {
    Ours {
        state: String,
        issuer: Option<String>,
        outcome: Outcome,
    },
    /// The redirect with this `state`, loaded again.
    Repeated(String),
    Stray(RedirectAnswer),
}

impl From<RedirectAnswer> for Verdict {
    fn from(answer: RedirectAnswer) -> Self {
        Self::Stray(answer)
    }
}

impl From<Page> for Verdict {
    fn from(page: Page) -> Self {
        RedirectAnswer::from(&page).into()
    }
}

/// The query of a redirect. Other parameters are ignored (RFC 6749 §4.1.2).
#[derive(Default)]
struct Parameters {
    code: Option<String>,
    state: Option<String>,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Parameters {
    /// Reads the parameters. None may occur twice, and an empty value counts as omitted (RFC 6749 §3.1).
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
            error: given(seen.error).map(|error| one_line(error.as_bytes())),
            description: given(seen.description).map(|description| one_line(description.as_bytes())),
        })
    }
}
