//! `mcp-remote` lets an MCP host that can only launch local programs reach a remote MCP server.
//!
//! A host starts the program with the server's address. Every JSON-RPC message crosses between the
//! host's stdin/stdout and the server as the bytes it came in; the host's first message opens the
//! connection; what cannot be answered by the server is answered with an error that says why.
//!
//! # The walk of a message, each file entered once
//!
//! stdin → [`local`] (a line) → [`message`] (kind, id, method) → [`forward`] → [`tools`] (refused? answered,
//! done) → the id is owed (`forward/owed.rs`) → [`remote`] (Streamable HTTP or HTTP+SSE) →
//! [`remote::http`] (headers, cookies, token) → server → body or event → [`message`] (one JSON value?)
//! → [`forward`] (the id is paid) → [`tools`] (hidden?) → [`local`] → stdout.
//!
//! # The walk of a challenge
//!
//! [`remote::http`] meets 401, or 403 that names a scope → [`oauth::challenge`] → [`oauth::Authorizer`]
//! (one flight per process) → [`store`] (has another copy done it?) → [`oauth::discovery`] →
//! [`oauth::refresh`] (one per machine: [`store::lock`]) → [`oauth::authorization_code`]: first
//! [`oauth::redirect`] is bound, its port is part of who we are; then [`oauth::registration`], the
//! [`oauth::browser`], the redirect, the exchange → [`store`] → the same request goes out again. Or one
//! of the other grants, each in its file. The layers above have seen a slow request.
//!
//! # The walk of a modern message
//!
//! The first message decides the [`era`] of a connection. A request of MCP 2026-07-28 → [`forward`] (`modern.rs`:
//! `server/discover` is never held; `listens.rs`: the streams that owe nobody) → [`remote::modern`] (one POST and one
//! stream each, headers by [`era::mirror`], what the answer says of the server by [`era::verdict`], kept by
//! [`store::eras`]) → back as above.
//!
//! # The walk of a start that the server does not answer
//!
//! [`remote`] meets a hurdle, or [`oauth::Authorizer`] needs a person (`forward/sign_in.rs`) → [`forward`] holds
//! the host's `initialize` for as long as this host waits (`hold.rs`, [`known_hosts`]), then answers it itself
//! (`provisional.rs`); a server whose last [`description`] is known ([`store::description`]) is shown at once
//! → lists are answered, or one tool stands in for them (`stand_in.rs`), calls are held → the connection stands: the host's own handshake goes to the server, then what was held; the host is
//! told which lists are others, and answered where it asks for what the server has not (`told.rs`); lists
//! that it has seen are looked at again (`survey.rs`). With a server that answers, nothing of this happens.
//!
//! # Invariants
//!
//! 1. Only [`local`] writes to stdout, and only messages. Logs go to stderr and the debug file.
//! 2. Ids and bodies pass unchanged, but for line breaks between tokens, the tools that [`tools`]
//!    hides, and an id that the server itself wrote in another way.
//! 3. Every request of the host is answered exactly once: by the server, by us as the server was last
//!    known, or with an error that says what, why and what to do. No message is dropped without a line
//!    in the log.
//! 4. No probe traffic but four: the sign-in page is looked at before a client that the user has given, a
//!    registration from disk, or one that names less scope, is used for it, and where its provider is
//!    known for a refusal; lists that the host has seen are asked for again after a session was replaced;
//!    a `ping` goes out after the machine has slept, or where the user wants one; and the tools are listed
//!    where a modern server wants headers for a call whose schema was never seen. The first request a
//!    server sees is the host's own. After a connection has failed, [`certificate`] looks on one of its
//!    own, without a request.
//! 5. A `tools/call` that may have run is never sent twice. A request goes out again at most once for
//!    each challenge.
//! 6. Headers given by the user, cookies, tokens and message bodies go to the server's origin only: not
//!    to an authorization server, not across a redirect.
//! 7. One network configuration for everything ([`network`]).
//! 8. Nothing secret implements `Display` or reaches a log; [`secret::Secret::expose`] marks the
//!    boundary.
//! 9. No task, port or file lock outlives [`forward::run`]; end of input ends the program within a
//!    second in every state, and waits in it for a token that is being spent.
//! 10. The loop is one closed event enum and a synchronous handler; a state is an enum variant with
//!     its data inside.
//! 11. Files of the store are replaced, never written in place (but for the key of proofs, which is made once
//!     under its own lock: [`oauth::dpop`]), and belong to their owner; a lost race never removes a newer
//!     token.
//! 12. The redirect's listener is on loopback, exists only while a sign-in is under way, and ignores
//!     what is not its own.
//!
//! # Who looks on
//!
//! [`diagnosis`] (`mcp-remote-client`) is a host of our own ([`client`]) on the same walk. What a host does
//! not learn, the transport and each step of an authorization, it hears from [`observer`].
//!
//! # What surrounds a message at the remote end
//!
//! Both transports share how an event stream is parsed ([`remote::event_stream`]), what a new session must
//! be told ([`remote::handshake`]), what must not overtake what ([`remote::order`]), when a message may go
//! out again ([`remote::retry`], and not at all once the host has cancelled it: [`remote::cancelled`]), and
//! how many go out at once ([`remote::window`]). Only Streamable HTTP resumes a stream ([`remote::reading`]).

#![forbid(unsafe_code)]

// In reading order.
pub mod cli;
pub mod config;
pub mod secret;

pub mod description;
pub mod era;
mod mcp;
pub mod message;
mod sync;
pub mod text;

pub mod forward;
pub mod known_hosts;
pub mod local;
pub mod remote;
pub mod tools;

pub mod certificate;
pub mod network;
pub mod oauth;
pub mod store;

pub mod account;
pub mod client;
pub mod diagnosis;
pub mod observer;

pub mod logging;
mod refusal;
pub mod report;
pub mod shutdown;
pub mod wake;

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use crate::{
    cli::{Command, Logout, Program, Reader, Usage},
    config::{Config, Grant, LogMode},
    forward::{Clock, Ends, Forward, Settings},
    local::{Lines, Writer},
    network::Outlet,
    oauth::{Authorizer, door::Door},
    observer::Observer,
    remote::{EventReceiver, Opener, Timing, http::Http},
    report::{Code, Report},
    shutdown::Parent,
    store::{Store, description::Shelf, eras::Eras},
};

/// Exit code for arguments that cannot be understood, as of most programs.
const USAGE: u8 = 2;

/// The whole program: arguments and environment in, exit code out.
#[must_use]
pub fn main(program: Program) -> ExitCode {
    main_with(program, std::env::args_os().skip(1).collect())
}

/// [`main`] with the arguments (without the program's name) given, for a program that has this one
/// inside it.
#[must_use]
pub fn main_with(program: Program, arguments: Vec<OsString>) -> ExitCode {
    let parent = Parent::now();
    let sole = arguments.len() == 1;
    let environment = |name: &str| std::env::var(name).ok();
    match cli::parse(program, arguments, &environment) {
        Ok(Command::Print(text)) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(Command::Forward(config)) => match start_with(&introduction(&config, sole), &config, run(&config, parent)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(Reader::Host, &Report::new(Code::BadArguments, format!("{error:#}"), None)),
        },
        Ok(Command::Client(config, visit)) => {
            end_with("mcp-remote-client", start(&config, diagnosis::run(&config, &visit, &mut io::stdout())))
        }
        Ok(Command::Login(config)) => {
            end("mcp-remote login", start(&config, account::login(&config, &mut io::stdout())))
        }
        Ok(Command::Logout(Logout::Server(config))) => {
            end("mcp-remote logout", start(&config, account::logout(&config, &mut io::stdout())))
        }
        Ok(Command::Logout(Logout::All(all))) => {
            let log = logging::start(all.log, all.store.join("debug.log"), all.log_filters.as_deref());
            end("mcp-remote logout", run_to_end(log, &all.remarks, account::logout_all(&all, &mut io::stdout())))
        }
        Ok(Command::Status(status)) => end("mcp-remote status", account::status(&status, &mut io::stdout())),
        Ok(Command::Finish(finish)) => {
            let log = logging::start(LogMode::Normal, PathBuf::new(), None);
            end("mcp-remote-client finish", run_to_end(log, &[], account::finish(&finish.store, &mut io::stdout())))
        }
        Err(Usage { reader, report }) => refuse(reader, &report),
    }
}

/// How a command for people ends.
fn end(name: &str, done: anyhow::Result<()>) -> ExitCode {
    end_with(name, done.map(|()| ExitCode::SUCCESS))
}

fn end_with(name: &str, done: anyhow::Result<impl Into<ExitCode>>) -> ExitCode {
    match done {
        Ok(code) => code.into(),
        // Whoever reads has seen enough.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            _ = writeln!(io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(reader: Reader, report: &Report) -> ExitCode {
    refusal::refuse(reader, report);
    ExitCode::from(USAGE)
}

/// Returns the first lines of the log: which version runs, for which server, and in a terminal what to type instead.
/// `sole` says that the server's URL is the only argument.
fn introduction(config: &Config, sole: bool) -> Vec<String> {
    let url = text::url(config.server.url());
    let mut lines = vec![format!("mcp-remote {}, server {url}", env!("CARGO_PKG_VERSION"))];
    if io::stdin().is_terminal() {
        let whole = sole && url == config.server.url().as_str();
        let arguments = if whole { &url } else { "and the same arguments" };
        lines.push(format!(
            "mcp-remote waits for an MCP host on stdin. To test the connection, press Ctrl+C and type: \
             mcp-remote-client {arguments}"
        ));
    }
    lines
}

/// Opens the log and runs to the end.
fn start<T>(config: &Config, run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    start_with(&[], config, run)
}

/// The same, with these as the first lines of the log.
fn start_with<T>(
    introduction: &[String],
    config: &Config,
    run: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let file = config.store.join(format!("{}_debug.log", config.server_hash));
    let log = logging::start(config.log, file, config.log_filters.as_deref());
    for line in introduction {
        log::info!("{line}");
    }
    run_to_end(log, &config.remarks, run)
}

/// Runs on a runtime of one thread.
fn run_to_end<T>(
    log: logging::Log,
    remarks: &[String],
    run: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    for remark in remarks {
        log::warn!("{remark}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(run);
    runtime.shutdown_background(); // a name look-up or a read of a terminal is not waited for
    log.finish();
    done
}

/// Forwards between this process's stdin and stdout and the server, until the host goes, of which
/// `parent` is the process.
///
/// # Errors
/// Where the settings do not fit together; what happens later is answered to the host.
pub async fn run(config: &Config, parent: Parent) -> anyhow::Result<()> {
    let (opener, events) = opener(config, Observer::default())?;
    let (reader, writer) = local::stdio();
    let (stops, _stop_watchers) = shutdown::watch(parent);
    let (wakes, _wake_watchers) = wake::watch();
    let ends = Ends {
        lines: Lines::new(reader, config.max_message),
        writer: Writer::new(writer),
        opener,
        events,
        stops,
        wakes,
    };
    let shelf = Shelf::new(config, ends.opener.http.account_now());
    forward::run(Forward::new(settings(config), Box::new(shelf)), ends).await;
    Ok(())
}

/// How the loop is to be.
#[must_use]
pub fn settings(config: &Config) -> Settings {
    Settings {
        server: config.server.url().clone(),
        ignored_tools: config.ignored_tools.clone(),
        max_message: config.max_message,
        protocol: config.protocol(),
        start: config.authorization.start,
        hold: config.hold,
        host_environment: config.host_environment.clone(),
        retry_for: config.retry_for,
        clock: Clock::monotonic(),
        progress: config.progress,
    }
}

/// How to open the remote end, and where what comes back arrives.
///
/// # Errors
/// Where the settings do not fit together.
pub fn opener(config: &Config, observer: Observer) -> anyhow::Result<(Opener, EventReceiver)> {
    let outlet = Arc::new(Outlet::new(&config.server, config.network.clone())?);
    let http = Http::new(
        outlet.clone(),
        &config.server,
        &config.headers,
        &config.network,
        authorizer(config, outlet, observer.clone()),
        config.max_message,
        observer,
    )?;
    let timing = Timing {
        retry_for: config.retry_for,
        initialize_patience: config.initialize_patience,
        ping: config.ping,
        start: config.authorization.start,
    };
    let (sender, events) = remote::events::channel();
    let store = Store::new(config.store.clone(), config.server_hash.clone());
    let eras = Eras::new(store, config.server.url());
    let opener = Opener {
        http: Arc::new(http),
        strategy: config.transport,
        timing,
        protocol: config.protocol(),
        eras,
        events: sender,
    };
    Ok((opener, events))
}

/// Who obtains authorization for this server.
fn authorizer(config: &Config, outlet: Arc<Outlet>, observer: Observer) -> Authorizer {
    let settings = config.authorization.clone();
    let named = match &settings.grant {
        Grant::ClientCredentials { token_endpoint: Some(url), .. } | Grant::Enterprise { token_endpoint: url, .. } => {
            vec![url]
        }
        _ => Vec::new(),
    };
    let door = Door::new(outlet, config.server.clone(), config.plain_http, settings.private_addresses, &named);
    let store = Store::new(config.store.clone(), config.server_hash.clone());
    Authorizer::new(settings, door, store, observer)
}
