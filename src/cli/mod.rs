//! The command line: forwarding, and the commands for a person (`login`, `logout`, `status`, `finish`).
//! Everything becomes a [`Command`] or one clear sentence.
//!
//! # Invariants
//!
//! - No message contains a secret.
//! - An unknown flag is an error (npm mcp-remote ignores it, and then starts without the header that was misspelled).

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint, error::ErrorKind};

use self::{
    bundle::{BundleArgs, bundle},
    entries::entry_options,
    flags::{AUTHENTICATION, Args, CONNECTION, OUTPUT},
    install::{InstallArgs, MigrateArgs, UndoArgs, UninstallArgs, entry_change},
    manual::{ExplainArgs, HelpArgs},
    mistakes::{Mistake, mistake, no_command, no_server, one_dash},
    settings::{all_servers, config, status, store_folder},
};
use crate::{
    config::{Authorization, Config, Network, Occasion, PlainHttp, ServerUrl, Start},
    logging::LogMode,
    report::{Code, Report},
};

mod actions;
mod authorization;
mod bundle;
#[cfg(test)]
mod documents;
mod entries;
mod flags;
mod generate;
mod headers;
mod install;
mod manual;
mod mistakes;
#[cfg(test)]
mod mistyped;
mod network;
mod plain;
mod screens;
mod settings;
mod suggestions;
mod terminal;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use bundle::{Bundle, BundlePlatform};
pub(crate) use entries::EntryOptions;
pub(crate) use install::{EntryChange, EntryCommand, Install, Which};
pub(crate) use terminal::{Borrowed, Terminal, has_colors};

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Forward between a host on stdio and the server.
    Forward(Box<Config>),
    /// `mcp-remote-client`: tell the connection step by step and show what the server has, or try one
    /// thing.
    Client(Box<Config>, Box<ClientOptions>),
    /// `mcp-remote-client` without a server URL: the same for the entries of hosts.
    Entries(Box<EntryOptions>),
    /// `login`: sign in ahead of time.
    Login(Box<Config>),
    /// `logout`: forget what is stored, and revoke it.
    Logout(Logout),
    /// `status`: show who is signed in where.
    Status(Status),
    /// `finish`: hand a redirect that reached another computer to the sign-in that waits for it.
    Finish(Finish),
    /// `install`, `migrate`, `uninstall`, `undo`: change the configuration of hosts.
    ChangeEntries(Box<EntryChange>),
    /// `bundle`: write a bundle that installs one server.
    Bundle(Box<Bundle>),
    /// Help, the version, a completion script or a manual page.
    Print(String),
    /// A page of the manual, in Markdown.
    Manual(&'static str),
}

/// What `mcp-remote-client` is to do.
#[derive(Debug)]
pub(crate) struct ClientOptions {
    /// For whom.
    pub output: Output,
    /// What.
    pub action: ClientAction,
    /// This terminal, which a host is not.
    pub terminal: Terminal,
    /// Nothing on stderr.
    pub silent: bool,
    /// Skipped steps too.
    pub verbose: bool,
}

/// What a person wants of a server.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum ClientAction {
    /// Check everything, and report it.
    #[command(skip)]
    Diagnosis,
    /// Call one tool and print its result
    Call {
        /// Name of the tool
        tool: String,
        /// Arguments of the tool
        ///
        /// mcp-remote reads a value as JSON if it is valid JSON and the tool's schema does not say that it is a string.
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        arguments: Vec<(String, String)>,
    },
    /// Read one resource and print it
    Read {
        /// URI of the resource
        uri: String,
    },
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

/// What `logout` forgets.
#[derive(Debug)]
pub(crate) enum Logout {
    /// One server.
    Server(Box<Config>),
    /// Everything in the store.
    All(Box<AllServers>),
}

/// What is needed to forget every server.
#[derive(Debug)]
pub(crate) struct AllServers {
    /// The folder of stored sign-ins.
    pub store: PathBuf,
    /// Whether addresses without TLS are allowed.
    pub plain_http: PlainHttp,
    /// How to reach the authorization servers that revoke.
    pub network: Arc<Network>,
    /// How much is said on stderr.
    pub log: LogMode,
    /// `RUST_LOG`.
    pub log_filters: Option<String>,
    /// To be logged once the log is open.
    pub remarks: Vec<String>,
}

/// What `status` shows.
#[derive(Debug)]
pub(crate) struct Status {
    /// The folder of stored sign-ins.
    pub store: PathBuf,
    /// One server only: its address, and npm's name for it in the store.
    pub server: Option<(ServerUrl, String)>,
    /// For whom.
    pub output: Output,
}

/// What `finish` needs; the redirect itself is asked for, never an argument.
#[derive(Debug)]
pub(crate) struct Finish {
    /// The folder of stored sign-ins, where those that wait are noted.
    pub store: PathBuf,
}

/// How `mcp-remote-client` and `status` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// What Windows has behind the name of a program.
const EXE: &str = ".exe";

/// Which of the two programs was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `mcp-remote`.
    Adapter,
    /// `mcp-remote-client`.
    Client,
}

impl Program {
    /// Returns the program that a user has started by this name: packages have one file for both. A link, a copy and a
    /// launcher may have any case, and `.exe` or nothing behind it.
    #[must_use]
    pub fn started_as(name: Option<&OsStr>) -> Self {
        let name = name.and_then(|name| Path::new(name).file_name()?.to_str()).unwrap_or_default();
        let stem = match name.split_at_checked(name.len().saturating_sub(EXE.len())) {
            Some((stem, end)) if end.eq_ignore_ascii_case(EXE) => stem,
            _ => name,
        };
        if stem.eq_ignore_ascii_case("mcp-remote-client") { Self::Client } else { Self::Adapter }
    }
}

/// Who learns that the arguments cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A host that has started the adapter: its first request is to be answered too.
    Host,
    /// A person; stderr is enough, and nothing on stdin is theirs.
    Person,
}

/// Arguments that cannot be understood.
#[derive(Debug)]
pub(crate) struct Usage {
    /// For whom.
    pub reader: Reader,
    /// What is wrong.
    pub report: Report,
    /// The same for a person: with the usage of the command, or the first screen of help if nothing was typed.
    pub text: String,
}

impl Usage {
    /// Settings with which the adapter cannot start.
    pub(crate) fn of_adapter(report: Report) -> Self {
        Self::new(Reader::Host, report, Verb::Forward.command())
    }

    fn new(reader: Reader, report: Report, mut command: clap::Command) -> Self {
        let tip = report.hint.as_ref().map(|tip| format!("  tip: {tip}\n\n")).unwrap_or_default();
        let details = match report.code {
            Code::BadArguments => String::new(),
            code => format!("Details: mcp-remote explain {code}\n\n"),
        };
        let usage = command.render_usage();
        let text =
            format!("error: {}\n\n{tip}{details}{usage}\n\nFor more information, try '--help'.\n", report.sentence);
        Self { reader, report, text }
    }
}

/// Environment variables, passed in.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote-client",
    version,
    about = "Connect to an MCP server as a host would, report each step, and show what the server offers",
    long_about = None,
    subcommand_help_heading = "Actions (after the server URL and the flags)",
    subcommand_value_name = "ACTION",
    disable_help_subcommand = true
)]
struct ClientArgs {
    #[command(flatten)]
    args: Args,

    /// Use the entry of this name from a host's configuration
    ///
    /// The entry has the server URL, the flags and the environment variables. Without it and without a server URL, every
    /// entry of every host is checked.
    #[arg(long, value_name = "NAME", conflicts_with = "server_url", help_heading = CONNECTION)]
    entry: Option<String>,

    /// Print JSON
    #[arg(long, help_heading = OUTPUT, global = true)]
    json: bool,

    /// Show skipped steps, too
    #[arg(long, help_heading = OUTPUT, global = true)]
    verbose: bool,

    #[command(subcommand)]
    action: Option<ClientAction>,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote login",
    version,
    about = "Sign in to a server ahead of time, so that its host needs no sign-in",
    long_about = None
)]
struct LoginArgs {
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote logout",
    version,
    about = "Remove a stored sign-in, and revoke its tokens if the server supports that",
    long_about = None
)]
struct LogoutArgs {
    #[command(flatten)]
    args: Args,

    /// Remove the sign-ins of all servers
    #[arg(long, conflicts_with = "server_url", help_heading = AUTHENTICATION)]
    all: bool,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote status",
    version,
    about = "Show the stored sign-ins, when they expire and their scopes, but no secrets",
    long_about = None
)]
struct StatusArgs {
    #[command(flatten)]
    args: Args,

    /// Print JSON
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote finish",
    version,
    about = "Complete a sign-in from a browser on another computer",
    long_about = "Complete a sign-in from a browser on another computer.\n\nThe command asks for the URL at which the \
                  browser ended, on the terminal or on stdin, and passes it to the mcp-remote process that waits for it."
)]
struct FinishArgs {
    /// Store sign-ins in this folder
    ///
    /// The default is the environment variable MCP_REMOTE_CONFIG_DIR, or else ~/.mcp-auth.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    config_dir: Option<PathBuf>,
}

#[derive(Debug, Parser)]
#[command(name = "mcp-remote completions", version, about = "Print a completion script for a shell", long_about = None)]
struct CompletionsArgs {
    /// Shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

#[derive(Debug, Parser)]
#[command(name = "mcp-remote man", version, about = "Print the manual page", long_about = None)]
struct ManArgs {
    /// Command to print the page of
    #[arg(value_name = "COMMAND", value_parser = [
        "login", "logout", "status", "client", "finish", "install", "migrate", "uninstall", "undo", "bundle",
    ])]
    command: Option<String>,
}

/// What the first words ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Forward,
    Client,
    Login,
    Logout,
    Status,
    Finish,
    Install,
    Migrate,
    Uninstall,
    Undo,
    Bundle,
    Help,
    Explain,
    Version,
    Completions,
    Man,
}

impl Verb {
    /// The commands beside the one that is meant when none is named. No server URL is one of these words, because each
    /// URL has a colon.
    const NAMED: [(&'static str, Self); 16] = [
        ("client", Self::Client),
        ("mcp-remote-client", Self::Client),
        ("login", Self::Login),
        ("logout", Self::Logout),
        ("status", Self::Status),
        ("finish", Self::Finish),
        ("install", Self::Install),
        ("migrate", Self::Migrate),
        ("uninstall", Self::Uninstall),
        ("undo", Self::Undo),
        ("bundle", Self::Bundle),
        ("help", Self::Help),
        ("explain", Self::Explain),
        ("version", Self::Version),
        ("completions", Self::Completions),
        ("man", Self::Man),
    ];

    /// Takes the words that name a command off the arguments. Returns the command, and its name as it was typed.
    fn take(program: Program, arguments: &mut Vec<OsString>) -> (Self, String) {
        let (mut verb, mut typed) = match program {
            Program::Adapter => (Self::Forward, "mcp-remote".to_owned()),
            Program::Client => (Self::Client, "mcp-remote-client".to_owned()),
        };
        while let Some(word) = arguments.first().and_then(|word| word.to_str())
            && let Some(next) = verb.then(word)
        {
            typed = if word == "mcp-remote-client" { word.to_owned() } else { format!("{typed} {word}") };
            arguments.remove(0);
            verb = next;
        }
        (verb, typed)
    }

    /// The command that `word` names after this one.
    fn then(self, word: &str) -> Option<Self> {
        let (_, named) = Self::NAMED.into_iter().find(|(name, _)| *name == word)?;
        match (self, named) {
            // `mcp-remote mcp-remote-client URL`: how npx users reach the second program.
            (Self::Forward, _)
            | (Self::Client, Self::Finish | Self::Help | Self::Explain | Self::Version | Self::Completions) => {
                Some(named)
            }
            _ => None,
        }
    }

    /// Returns the command as the user types it.
    const fn name(self) -> &'static str {
        match self {
            Self::Forward => "mcp-remote",
            Self::Client => "mcp-remote client",
            Self::Login => "mcp-remote login",
            Self::Logout => "mcp-remote logout",
            Self::Status => "mcp-remote status",
            Self::Finish => "mcp-remote finish",
            Self::Install => "mcp-remote install",
            Self::Migrate => "mcp-remote migrate",
            Self::Uninstall => "mcp-remote uninstall",
            Self::Undo => "mcp-remote undo",
            Self::Bundle => "mcp-remote bundle",
            Self::Help => "mcp-remote help",
            Self::Explain => "mcp-remote explain",
            Self::Version => "mcp-remote version",
            Self::Completions => "mcp-remote completions",
            Self::Man => "mcp-remote man",
        }
    }

    /// Returns the last word of the name.
    fn word(self) -> &'static str {
        self.name().rsplit(' ').next().unwrap_or_default()
    }

    /// Returns whether the command is about a server.
    const fn takes_url(self) -> bool {
        !matches!(self, Self::Help | Self::Explain | Self::Completions | Self::Man)
    }

    /// Returns the name of the manual page.
    const fn page(self) -> &'static str {
        match self {
            Self::Client => "mcp-remote-client",
            Self::Login => "mcp-remote-login",
            Self::Logout => "mcp-remote-logout",
            Self::Status => "mcp-remote-status",
            Self::Finish => "mcp-remote-finish",
            Self::Install => "mcp-remote-install",
            Self::Migrate => "mcp-remote-migrate",
            Self::Uninstall => "mcp-remote-uninstall",
            Self::Undo => "mcp-remote-undo",
            Self::Bundle => "mcp-remote-bundle",
            Self::Forward | Self::Help | Self::Explain | Self::Version | Self::Completions | Self::Man => "mcp-remote",
        }
    }

    /// Returns a whole command line.
    fn example(self) -> String {
        match self {
            Self::Forward | Self::Client | Self::Login | Self::Logout | Self::Install | Self::Bundle => {
                format!("{} https://example.com/mcp", self.name())
            }
            Self::Help => format!("{} signing-in", self.name()),
            Self::Explain => format!("{} sign_in_needed", self.name()),
            Self::Completions => format!("{} bash", self.name()),
            Self::Uninstall => format!("{} example", self.name()),
            Self::Status | Self::Finish | Self::Migrate | Self::Undo | Self::Version | Self::Man => {
                self.name().to_owned()
            }
        }
    }

    fn command(self) -> clap::Command {
        let command = match self {
            Self::Forward | Self::Version => Args::command(),
            // The user waits: a server that is down is reported at once.
            Self::Client => ClientArgs::command()
                .mut_arg("retry_for", |retry_for| retry_for.default_value("0"))
                .mut_arg("server_url", |url| url.required(false)),
            Self::Login => LoginArgs::command().mut_arg("retry_for", |retry_for| retry_for.default_value("0")),
            Self::Logout => {
                LogoutArgs::command().mut_arg("server_url", |url| url.required(false).required_unless_present("all"))
            }
            Self::Status => StatusArgs::command().mut_arg("server_url", |url| url.required(false)),
            Self::Finish => FinishArgs::command(),
            Self::Install => InstallArgs::command(),
            Self::Migrate => MigrateArgs::command(),
            Self::Uninstall => UninstallArgs::command(),
            Self::Undo => UndoArgs::command(),
            Self::Bundle => BundleArgs::command(),
            Self::Help => HelpArgs::command(),
            Self::Explain => ExplainArgs::command(),
            Self::Completions => CompletionsArgs::command(),
            Self::Man => ManArgs::command(),
        };
        screens::with_help(self, command)
    }
}

/// Reads arguments (without the program's name) and environment.
///
/// # Errors
/// [`Usage`].
pub(crate) fn parse(
    program: Program,
    arguments: Vec<OsString>,
    environment: Environment<'_>,
) -> Result<Command, Usage> {
    let mut arguments = arguments;
    let (verb, typed) = Verb::take(program, &mut arguments);
    let reader = if verb == Verb::Forward { Reader::Host } else { Reader::Person };
    read(program, verb, &typed, &arguments, environment).map_err(|mistake| {
        let mut usage = Usage::new(reader, mistake.report(), verb.command().bin_name(&typed));
        if verb == Verb::Forward && arguments.is_empty() {
            usage.text = screens::on_one_screen(verb.command()).render_help().to_string();
        }
        usage
    })
}

fn read(
    program: Program,
    verb: Verb,
    typed: &str,
    arguments: &[OsString],
    environment: Environment<'_>,
) -> Result<Command, Mistake> {
    if verb == Verb::Version {
        let command = if program == Program::Client { Verb::Client } else { Verb::Forward };
        return Ok(Command::Print(command.command().render_version()));
    }
    if matches!(verb, Verb::Install | Verb::Migrate | Verb::Uninstall | Verb::Undo) {
        return Ok(match entry_change(verb, typed, arguments, environment)? {
            Ok(change) => Command::ChangeEntries(Box::new(change)),
            Err(asked) => Command::Print(screens::trimmed(&asked.render().to_string())),
        });
    }
    let named = if verb.takes_url() { None } else { manual::normalized(verb, arguments) };
    let arguments = named.as_deref().unwrap_or(arguments);
    if let Some(mistake) = no_command(verb, arguments).filter(|_| verb.takes_url()) {
        return Err(mistake);
    }
    if verb == Verb::Forward
        && let Some(args) = plain::args(arguments)
    {
        return Ok(Command::Forward(Box::new(config(&args, environment)?)));
    }
    let found = |error: clap::Error| {
        let special = actions::mistake(verb, arguments, &error).or_else(|| manual::unknown(&error));
        special.unwrap_or_else(|| mistake(&error, verb, arguments))
    };
    let name = OsString::from(typed);
    let mut command = verb.command().bin_name(typed);
    // Not at the start of every connection, which has no help to show.
    if arguments.iter().any(|argument| argument == "-h") {
        command = screens::on_one_screen(command);
    }
    let matches = match command.try_get_matches_from(std::iter::once(&name).chain(arguments)) {
        Ok(matches) => matches,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // clap reads `-header` as `-h`.
            if let Some(mistake) = one_dash(verb, arguments) {
                return Err(mistake);
            }
            return Ok(Command::Print(screens::trimmed(&asked.render().to_string())));
        }
        Err(error) => return Err(found(error)),
    };
    let output = |json| if json { Output::Json } else { Output::Text };
    if verb.takes_url()
        && let Ok(Some(url)) = matches.try_get_one::<String>("server_url")
        && let Some(mistake) = no_server(verb, url, arguments)
    {
        return Err(mistake);
    }
    Ok(match verb {
        Verb::Forward => {
            let args = Args::from_arg_matches(&matches).map_err(found)?;
            Command::Forward(Box::new(config(&args, environment)?))
        }
        Verb::Client => {
            let client = ClientArgs::from_arg_matches(&matches).map_err(found)?;
            if client.args.server_url.is_none() {
                return Ok(Command::Entries(Box::new(entry_options(client, &matches, arguments, environment)?)));
            }
            let ClientArgs { args, json, verbose, action, .. } = client;
            let mut config = config(&args, environment)?;
            config.limits.start = Start::Wait;
            config.authorization =
                Arc::new(Authorization { occasion: Occasion::Watched, ..(*config.authorization).clone() });
            let silent = config.log == LogMode::Silent;
            if config.log == LogMode::Normal {
                config.log = LogMode::Silent; // the steps tell it all
            }
            let terminal = Terminal::of(&args, &config, arguments, environment);
            let options = ClientOptions {
                output: output(json),
                action: action.unwrap_or(ClientAction::Diagnosis),
                terminal,
                silent,
                verbose,
            };
            Command::Client(Box::new(config), Box::new(options))
        }
        Verb::Login => {
            let LoginArgs { args } = LoginArgs::from_arg_matches(&matches).map_err(found)?;
            let mut config = config(&args, environment)?;
            config.limits.start = Start::Wait;
            config.authorization =
                Arc::new(Authorization { occasion: Occasion::Login, ..(*config.authorization).clone() });
            if config.log == LogMode::Normal && config.log_filters.is_none() {
                config.log = LogMode::Steps;
            }
            Command::Login(Box::new(config))
        }
        Verb::Logout => {
            let LogoutArgs { args, all } = LogoutArgs::from_arg_matches(&matches).map_err(found)?;
            let person = |log| if log == LogMode::Normal { LogMode::Person } else { log };
            Command::Logout(if all {
                let all = all_servers(&args, environment)?;
                Logout::All(Box::new(AllServers { log: person(all.log), ..all }))
            } else {
                let config = config(&args, environment)?;
                Logout::Server(Box::new(Config { log: person(config.log), ..config }))
            })
        }
        Verb::Status => {
            let StatusArgs { args, json } = StatusArgs::from_arg_matches(&matches).map_err(found)?;
            Command::Status(status(&args, output(json), environment)?)
        }
        Verb::Finish => {
            let FinishArgs { config_dir } = FinishArgs::from_arg_matches(&matches).map_err(found)?;
            Command::Finish(Finish { store: store_folder(config_dir, environment)? })
        }
        // They are read above.
        Verb::Install | Verb::Migrate | Verb::Uninstall | Verb::Undo => return Err(String::new().into()),
        Verb::Bundle => Command::Bundle(Box::new(bundle(&matches)?)),
        Verb::Help => HelpArgs::from_arg_matches(&matches).map_err(found)?.into_command(),
        Verb::Explain => ExplainArgs::from_arg_matches(&matches).map_err(found)?.into_command(),
        Verb::Version => Command::Print(verb.command().render_version()),
        Verb::Completions => {
            let CompletionsArgs { shell } = CompletionsArgs::from_arg_matches(&matches).map_err(found)?;
            Command::Print(generate::completions(program, shell))
        }
        Verb::Man => {
            let ManArgs { command } = ManArgs::from_arg_matches(&matches).map_err(found)?;
            Command::Print(generate::man(command.as_deref()).map_err(|why| why.to_string())?)
        }
    })
}
