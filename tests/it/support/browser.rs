//! A stand-in for the browser and the person before it. What the adapter starts writes down what it was given and ends; the
//! test reads that and walks the redirects itself, at once, later, or never. On Unix it is a script, on Windows the program
//! of the tests.

use std::{
    ffi::OsString,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::Url;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::AbortHandle,
};

use super::{
    host::{Handles, Host},
    soon,
};

/// How the authorization server tells a browser from anything else.
pub const USER_AGENT: &str = "stand-in browser";

/// How often the script's notes are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// More redirects than any sign-in has.
const HOPS: usize = 8;

/// One start of the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tab {
    pub url: String,
    /// Arguments in all; a browser gets one.
    pub arguments: usize,
    /// What its standard input, output and error are.
    pub handles: [String; 3],
}

/// What a browser shows at the end of its redirects.
#[derive(Clone, Debug)]
pub struct Page {
    pub url: String,
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: String,
}

/// The browser, and the notes of what was opened.
pub struct Browser {
    folder: TempDir,
    command: String,
    tabs: watch::Receiver<Vec<Tab>>,
    pages: Arc<Mutex<Vec<Page>>>,
    watching: AbortHandle,
}

/// What the person does with a tab.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Person {
    Consents,
    Waits,
}

impl Browser {
    /// Goes where it is sent, at once.
    pub fn consenting() -> Self {
        Self::new(Person::Consents)
    }

    /// Opens tabs and leaves them alone; the test visits them when it likes.
    pub fn waiting() -> Self {
        Self::new(Person::Waits)
    }

    fn new(person: Person) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("notes");
        let command = stand_in(folder.path(), &notes);
        let (opened, tabs) = watch::channel(Vec::new());
        let pages = Arc::new(Mutex::new(Vec::new()));
        let visited = pages.clone();
        let watching = tokio::spawn(async move {
            let mut known = 0;
            loop {
                let tabs = read(&notes);
                for tab in &tabs[known.min(tabs.len())..] {
                    if person == Person::Consents {
                        let (url, visited) = (tab.url.clone(), visited.clone());
                        tokio::spawn(async move {
                            let page = visit(&url).await;
                            visited.lock().unwrap().push(page);
                        });
                    }
                }
                if tabs.len() > known {
                    known = tabs.len();
                    opened.send_replace(tabs);
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { folder, command, tabs, pages, watching: watching.abort_handle() }
    }

    /// What `BROWSER` must be for the adapter to start this browser.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The variables with which the adapter finds this browser.
    pub fn environment(&self) -> Vec<(&str, OsString)> {
        let path = if cfg!(windows) { None } else { Some(("PATH", "/usr/local/bin:/usr/bin:/bin".into())) };
        path.into_iter().chain([("BROWSER", self.command().into())]).collect()
    }

    /// Starts `mcp-remote URL FLAGS` with this browser and a new home.
    pub fn host(&self, url: &str, flags: &[&str]) -> Host {
        self.host_at(&Arc::new(tempfile::tempdir().unwrap()), url, flags)
    }

    /// The same with a home that others have too.
    pub fn host_at(&self, home: &Arc<TempDir>, url: &str, flags: &[&str]) -> Host {
        self.host_with(home, &[&[url], flags].concat(), &[])
    }

    /// Starts `mcp-remote ARGUMENTS` with more in its environment.
    pub fn host_with(&self, home: &Arc<TempDir>, arguments: &[&str], environment: &[(&str, &str)]) -> Host {
        let ours = self.environment();
        let ours: Vec<_> = ours.iter().map(|(name, value)| (*name, value.to_str().unwrap())).collect();
        Host::start_raw(Handles::SocketPairs, arguments, &[&ours, environment].concat(), home.clone())
    }

    /// What was opened so far.
    pub fn tabs(&self) -> Vec<Tab> {
        read(&self.folder.path().join("notes"))
    }

    /// Waits for the first tab.
    pub async fn tab(&self) -> Tab {
        let mut tabs = self.tabs.clone();
        let tabs = soon("a tab opens", tabs.wait_for(|tabs| !tabs.is_empty())).await.unwrap();
        tabs[0].clone()
    }

    /// The pages that a consenting person has ended on.
    pub fn pages(&self) -> Vec<Page> {
        self.pages.lock().unwrap().clone()
    }

    /// Waits for the first of them.
    pub async fn page(&self) -> Page {
        soon("the person ends on a page", async {
            loop {
                if let Some(page) = self.pages().first() {
                    return page.clone();
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Makes what the adapter starts, and returns the command for it.
#[cfg(unix)]
fn stand_in(folder: &Path, notes: &Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    // One write a start, so that the notes of two do not mix.
    let script = format!(
        "#!/bin/sh\nfd() {{ readlink /proc/$$/fd/$1; }}\nprintf '%s\\t%s\\t%s\\t%s\\t%s\\n' $# \"$1\" \"$(fd 0)\" \"$(fd 1)\" \"$(fd 2)\" >> {}\n",
        notes.display()
    );
    // `$(...)` has a pipe as its own standard output, so the script looks at its parent's, `$$`.
    let path = folder.join("browser");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What follows the program's name where it is to be the browser. For the program of the tests these are names of tests to
/// run, and so are the notes and the URL after them, by which no test is called.
#[cfg(windows)]
const AS_BROWSER: [&str; 2] = ["--exact", "support::browser::program_of_tests_is_a_browser"];

#[cfg(windows)]
fn stand_in(_folder: &Path, notes: &Path) -> String {
    let program = std::env::current_exe().unwrap();
    format!("{} {} {}", program.display(), AS_BROWSER.join(" "), notes.display())
}

/// As a test it does nothing; started as a browser it writes down what it was given.
#[cfg(windows)]
#[test]
fn program_of_tests_is_a_browser() {
    use std::io::Write as _;
    let arguments: Vec<_> = std::env::args().collect();
    let Some([notes, urls @ ..]) =
        arguments.get(1..).and_then(|rest| rest.strip_prefix(AS_BROWSER.map(str::to_owned).as_slice()))
    else {
        return;
    };
    let note = format!("{}\t{}\t?\t?\t?\n", urls.len(), urls.first().map_or("", String::as_str));
    let mut file = std::fs::File::options().append(true).create(true).open(notes).unwrap();
    file.write_all(note.as_bytes()).unwrap();
}

/// The notes of the browser.
fn read(notes: &Path) -> Vec<Tab> {
    let text = std::fs::read_to_string(notes).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let tab = |line: &str| {
        let [arguments, url, one, two, three]: [&str; 5] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("not a note: {line}"));
        let handles = [one, two, three].map(str::to_owned);
        Tab { url: url.to_owned(), arguments: arguments.parse().unwrap(), handles }
    };
    whole.lines().map(tab).collect()
}

/// Opens an address as a person does who says yes to everything, and follows every redirect.
pub async fn visit(url: &str) -> Page {
    let mut page = get(url).await;
    for _ in 0..HOPS {
        let Some(location) = page.location() else { return page };
        page = get(&location).await;
    }
    panic!("too many redirects, last to {}", page.url);
}

/// Opens an address, and follows redirects until one leads back to this machine's program: the
/// address that a browser would open next.
pub async fn redirect_of(url: &str) -> String {
    let page = get(url).await;
    page.location().unwrap_or_else(|| panic!("no redirect: {page:?}"))
}

/// One GET. A name with several addresses is tried as browsers do, one after the other.
pub async fn get(url: &str) -> Page {
    get_with(url, &[]).await
}

/// One GET with headers in place of the usual ones.
pub async fn get_with(url: &str, headers: &[(&str, &str)]) -> Page {
    let parsed = Url::parse(url).unwrap_or_else(|error| panic!("{url} is no URL: {error}"));
    assert_eq!(parsed.scheme(), "http", "only loopback: {url}");
    let port = parsed.port_or_known_default().unwrap();
    let host = parsed.host_str().unwrap().trim_matches(['[', ']']).to_owned();
    let mut stream = TcpStream::connect((host.as_str(), port))
        .await
        .unwrap_or_else(|error| panic!("nobody listens at {url}: {error}"));
    // As written: a parser would tidy up what a test makes odd on purpose.
    let target = url.splitn(4, '/').nth(3).unwrap_or_default();
    let authority = format!("{}:{port}", parsed.host_str().unwrap());
    let mut head = format!("GET /{target} HTTP/1.1\r\n");
    let usual =
        [("host", authority.as_str()), ("user-agent", USER_AGENT), ("accept", "text/html"), ("connection", "close")];
    let kept = usual.iter().filter(|(name, _)| !headers.iter().any(|(other, _)| other == name));
    for (name, value) in kept.chain(headers) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(&format!("{url} answers"), async {
        // The end of the connection is the end too, and so is a reset.
        while !is_complete(&answer) && stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Page { url: url.to_owned(), status, head: header_names_in_lower_case(head), body: body.to_owned() }
}

/// Whether an answer has all of the body it announces.
fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with("0\r\n\r\n"),
    }
}

fn header_names_in_lower_case(head: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    };
    head.lines().map(line).collect::<Vec<_>>().join("\n")
}

impl Page {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    }

    fn location(&self) -> Option<String> {
        let location = self.header("location").filter(|_| (300..400).contains(&self.status))?;
        Some(Url::parse(&self.url).unwrap().join(location).unwrap().into())
    }
}
