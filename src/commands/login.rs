//! `mcp-remote login`: signs in ahead of time, in a terminal.
//!
//! # Invariants
//!
//! - Instructions go to stderr, one at a time and in order; only the result goes to stdout.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use reqwest::Url;
use rmcp::ServiceError;
use tokio::time::{Instant, sleep_until};

use super::{
    client::{ClientTransport, RequestFailure, connect},
    finish, in_lines,
};
use crate::{
    config::Config,
    logging::LogMode,
    mcp::method,
    oauth::fact::AuthorizationFact,
    observer::{Fact, Observer},
    report::OWN_ERROR,
    text::{host, printable},
};

/// How long a browser may take to open before the URL is printed.
const BROWSER_PATIENCE: Duration = Duration::from_secs(3);

/// Signs in ahead of time.
///
/// # Errors
/// The failure, in lines.
pub(crate) async fn run(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let server = config.server.url();
    if config.headers.contains_key(reqwest::header::AUTHORIZATION) {
        bail!(
            "--header sets Authorization for {}, so no sign-in is possible\nTip: remove that header to sign in",
            host(server)
        );
    }
    let can_paste = io::stdin().is_terminal() && config.authorization.grant.has_redirect();
    if can_paste {
        // For a browser elsewhere, whose redirect does not reach this machine. Not waited for.
        let folder = config.store.clone();
        _ = std::thread::Builder::new().name("paste".into()).spawn(move || paste(&folder));
    }
    let mut instructions = Instructions::new(config, can_paste);
    let signed_in = sign_in(config, &mut instructions).await?;
    let server = host(server);
    Ok(if signed_in {
        writeln!(out, "Signed in to {server}.")
    } else {
        writeln!(out, "{server} does not ask for a sign-in.")
    }?)
}

fn paste(folder: &Path) {
    for line in io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into);
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(finish::hand_over(folder, &line))) {
            _ = writeln!(io::stderr(), "error: {}", printable(&format!("{error:#}")));
        }
    }
}

/// What the user has to do, as it becomes known.
struct Instructions {
    /// `--silent` prints nothing; a log prints the same itself.
    is_printed: bool,
    opens_browser: bool,
    can_paste: bool,
    server: String,
    /// A URL that is printed when no browser opens by then.
    pending: Option<(Url, Instant)>,
}

impl Instructions {
    fn new(config: &Config, can_paste: bool) -> Self {
        Self {
            is_printed: config.log == LogMode::Steps,
            opens_browser: !config.authorization.no_browser,
            can_paste,
            server: host(config.server.url()),
            pending: None,
        }
    }

    fn hear(&mut self, fact: &Fact) {
        let Fact::Authorization(fact) = fact else { return };
        match fact {
            AuthorizationFact::Asking { url, code: Some(code), scan } => {
                self.print(&format!("Open {url} on any device and enter the code {code}."));
                if let Some(scan) = scan
                    && io::stderr().is_terminal()
                    && let Ok(picture) = fast_qr::QRBuilder::new(scan.as_str()).build()
                {
                    self.print(&format!("Or scan this code:\n{}", picture.to_str()));
                }
                self.wait();
            }
            AuthorizationFact::Asking { url, .. } if self.opens_browser => {
                self.pending = Some((url.clone(), Instant::now() + BROWSER_PATIENCE));
            }
            AuthorizationFact::Asking { url, .. } => self.ask_to_open(url),
            AuthorizationFact::BrowserOpened => {
                if let Some((url, _)) = self.pending.take() {
                    self.print(&format!(
                        "A browser window was opened. Sign in to {} there.\nIf you see no window, open this URL:\n\n    {url}\n",
                        self.server
                    ));
                    self.wait();
                }
            }
            AuthorizationFact::AnotherAsks { url } => {
                self.print(
                    "Another mcp-remote process waits for this sign-in. Finish it in the browser tab that is open.",
                );
                if let Some(url) = url {
                    self.print(&format!("If there is no such tab, open this URL:\n\n    {}\n", printable(url)));
                }
                self.wait();
            }
            AuthorizationFact::Warned { report, way } => {
                let lines = in_lines(&report.sentence, report.code, None);
                self.print(&format!("warning: {}", lines.replace('\n', "\n  ")));
                if let Some((url, _)) = self.pending.take() {
                    self.ask_to_open(&url);
                }
                if let Some(way) = way {
                    self.print(way);
                }
            }
            _ => {}
        }
    }

    /// Prints a URL for which no browser opened in time.
    fn remind(&mut self) {
        if let Some((url, _)) = self.pending.take() {
            self.ask_to_open(&url);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|(_, due)| *due)
    }

    fn ask_to_open(&self, url: &Url) {
        self.print(&format!("Open this URL in a browser to sign in to {}:\n\n    {url}\n", self.server));
        self.wait();
    }

    fn wait(&self) {
        let paste = if self.can_paste {
            " If the browser is on another computer, paste the URL of its last page here."
        } else {
            ""
        };
        self.print(&format!("Waiting for you to sign in.{paste}"));
    }

    fn print(&self, text: &str) {
        if self.is_printed {
            _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// Connects and asks for the tools, which some servers protect although `initialize` is open to all. Returns whether there
/// is a token to show now.
///
/// # Errors
/// The first step that failed, with the server's reason.
async fn sign_in(config: &Config, instructions: &mut Instructions) -> anyhow::Result<bool> {
    let (observer, mut facts) = Observer::new();
    let mut work = std::pin::pin!(ask(config, observer));
    let mut has_credential = false;
    let mut hear = |fact: Fact, instructions: &mut Instructions| {
        has_credential |= matches!(fact, Fact::Authorization(AuthorizationFact::Credential(_)));
        instructions.hear(&fact);
    };
    let done = loop {
        let due = instructions.due();
        let reminder = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(fact) = facts.recv() => hear(fact, instructions),
            done = &mut work => break done,
            () = reminder => instructions.remind(),
        }
    };
    while let Ok(fact) = facts.try_recv() {
        hear(fact, instructions);
    }
    done.map(|()| has_credential)
}

async fn ask(config: &Config, observer: Observer) -> anyhow::Result<()> {
    let host = host(config.server.url());
    let failed = |failure: RequestFailure| {
        anyhow::Error::msg(in_lines(&failure.sentence, failure.code, failure.hint.as_deref()))
    };
    let service = connect(ClientTransport::new(config, observer)?, "mcp-remote login", &host).await.map_err(failed)?;
    let declared = service.peer_info().is_some_and(|server| server.capabilities.tools.is_some());
    let asked = if declared { service.list_tools(None).await.map(drop) } else { Ok(()) };
    service.cancel().await.context("cannot close the connection")?;
    match asked {
        // What the server itself has against the request has nothing to do with the sign-in.
        Err(ServiceError::McpError(answer)) if answer.code.0 == OWN_ERROR => {
            Err(failed(RequestFailure::of_answer(&answer, method::TOOLS_LIST, &host)))
        }
        _ => Ok(()),
    }
}
