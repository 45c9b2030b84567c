//! The program: a parsed command becomes an exit code.
//!
//! # Invariants
//!
//! - Each command opens its log before it does anything else, and ends through [`run_to_end`].
//! - Only a command for people writes to stdout here; the messages for a host come from [`local`].

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::{
    cli::{self, Command, EntryChange, Logout, Program, Usage},
    commands::{
        self,
        install::{Running, World},
    },
    compose::Forwarder,
    config::Config,
    help::{self, Layout},
    local, logging,
    observer::Observer,
    own_process, refusal,
    report::{Code, Report},
    shutdown::{self, Parent},
    sleep_watch, text,
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
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Manual(page)) => print(&help::render(page, layout(&environment))),
        Ok(Command::Forward(config)) => {
            match start_with(&introduction(&config, sole, io::stdin().is_terminal()), &config, forward(&config, parent))
            {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let report =
                        Report { code: Code::BadArguments, sentence: format!("{error:#}"), hint: None, status: None };
                    refuse(&Usage::of_adapter(report))
                }
            }
        }
        Ok(Command::Client(config, options)) => {
            end_with(start(&config, commands::diagnosis::run(&config, &options, &mut io::stdout())))
        }
        Ok(Command::Entries(options)) => {
            let log = logging::start(options.log, options.store.join("debug.log"), options.log_filters.as_deref());
            let mut out = io::stdout();
            end_with(run_to_end(log, &[], commands::diagnosis::every::run(&options, &environment, &mut out)))
        }
        Ok(Command::Login(config)) => end(start(&config, commands::login::run(&config, &mut io::stdout()))),
        Ok(Command::Logout(Logout::Server(config))) => {
            end(start(&config, commands::logout::server(&config, &mut io::stdout())))
        }
        Ok(Command::Logout(Logout::All(all))) => {
            let log = logging::start(all.log, all.store.join("debug.log"), all.log_filters.as_deref());
            end(run_to_end(log, &all.remarks, commands::logout::all(&all, &mut io::stdout())))
        }
        Ok(Command::Status(status)) => end(commands::status::run(&status, &mut io::stdout())),
        Ok(Command::Finish(finish)) => {
            let log = logging::start(logging::LogMode::Person, PathBuf::new(), None);
            end(run_to_end(log, &[], commands::finish::run(&finish.store, &mut io::stdout())))
        }
        Ok(Command::ChangeEntries(change)) => end(change_entries(&change)),
        Ok(Command::Bundle(bundle)) => end(commands::bundle::run(&bundle, &mut io::stdout())),
        Err(usage) => refuse(&usage),
    }
}

/// Changes the configuration of hosts, with this terminal for the question.
fn change_entries(change: &EntryChange) -> anyhow::Result<()> {
    let mut ask = |question: &str| {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let mut out = io::stdout();
        out.write_all(question.as_bytes())?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
    };
    let mut world = World {
        ask: &mut ask,
        program: std::env::current_exe()?,
        moment: jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string(),
        running: Running::now(),
        has_colors: change.has_colors && io::stdout().is_terminal(),
    };
    commands::install::run(change, &mut world, &mut io::stdout())
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A pager that was left has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// How a page is laid out for stdout.
fn layout(environment: &dyn Fn(&str) -> Option<String>) -> Layout {
    /// Longer lines are hard to read.
    const WIDEST: usize = 100;
    let is_set = |name| environment(name).is_some_and(|value| !value.is_empty());
    if !io::stdout().is_terminal() {
        return Layout::default();
    }
    let width = terminal_size::terminal_size().map_or(80, |(terminal_size::Width(width), _)| usize::from(width));
    // https://no-color.org
    let styled = !is_set("NO_COLOR") && environment("TERM").is_none_or(|term| term != "dumb");
    Layout { width: width.min(WIDEST), styled }
}

/// How a command for people ends.
fn end(done: anyhow::Result<()>) -> ExitCode {
    end_with(done.map(|()| ExitCode::SUCCESS))
}

fn end_with(done: anyhow::Result<impl Into<ExitCode>>) -> ExitCode {
    match done {
        Ok(code) => code.into(),
        // Whoever reads has seen enough.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(usage: &Usage) -> ExitCode {
    refusal::refuse(usage);
    ExitCode::from(USAGE)
}

/// Returns the first lines of the log: which version connects to which server, and in a terminal what to type instead.
/// `sole` says that the server's URL is the only argument.
fn introduction(config: &Config, sole: bool, is_terminal: bool) -> Vec<String> {
    // A query is shown as "?…", so that nobody looks for the reason why it is missing.
    let url = text::url(config.server.url());
    let mut lines = vec![format!("mcp-remote {} connecting to {url}", env!("CARGO_PKG_VERSION"))];
    if is_terminal {
        let is_whole = sole && url == config.server.url().as_str();
        let command = "mcp-remote client";
        // Other arguments may be secrets, and a log is no place for them.
        let typed =
            if is_whole { format!("{command} {url}") } else { format!("{command}, then the same URL and flags") };
        lines.push(format!(
            "mcp-remote waits for messages from an MCP host on stdin. To test the connection, press Ctrl+C and type: \
             {typed}"
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
    own_process::write_no_core_dump();
    own_process::raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        own_process::survive_file_size_limit();
        run.await
    });
    runtime.shutdown_background(); // a name look-up or a read of a terminal is not waited for
    log.finish();
    done
}

/// Forwards as the program does with these arguments, but between the ends that are passed in; a value of `wakes` says how
/// long the machine has slept. For tests.
///
/// # Errors
/// If the arguments are not those of the adapter, or contradict each other.
#[doc(hidden)]
pub fn forward_between<R, W>(
    arguments: Vec<OsString>,
    reader: R,
    writer: W,
    wakes: mpsc::Receiver<Duration>,
) -> anyhow::Result<impl Future<Output = ()>>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let Ok(Command::Forward(config)) = cli::parse(Program::Adapter, arguments, &|_| None) else {
        anyhow::bail!("these arguments do not start the adapter");
    };
    let forwarder = Forwarder::new(&config, Observer::default())?;
    Ok(forwarder.run(reader, writer, mpsc::channel(1).1, wakes))
}

/// Forwards between this process's stdin and stdout and the server until the host, of which `parent` is the process,
/// closes its end.
async fn forward(config: &Config, parent: Parent) -> anyhow::Result<()> {
    let forwarder = Forwarder::new(config, Observer::default())?;
    let (reader, writer) = local::stdio();
    let (stops, _stop_watchers) = shutdown::watch(parent);
    let (wakes, _wake_watchers) = sleep_watch::watch();
    forwarder.run(reader, writer, stops, wakes).await;
    Ok(())
}
