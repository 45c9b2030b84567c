//! The command line: forwarding, and the commands for a person (`login`, `logout`, `status`, `finish`).
//! Everything becomes a [`Command`] or one clear sentence.
//!
//! # Invariants
//!
//! - No message contains a secret.
//! - An unknown flag is an error (npm mcp-remote ignores it, and then starts without the header that was misspelled).

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use self::{
    flags::{Args, LOGS, NETWORK, names_sign_in},
    mistakes::{Mistake, mangled, mistake, no_command},
    settings::{all_servers, config, status, store_folder},
};
use crate::{
    config::{Authorization, Config, Network, Occasion, PlainHttp, ServerUrl, Start},
    logging,
    logging::LogMode,
    report::Report,
};

mod authorization;
mod flags;
mod headers;
mod mistakes;
mod network;
mod settings;
mod terminal;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use terminal::Terminal;

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Forward between a host on stdio and the server.
    Forward(Box<Config>),
    /// `mcp-remote-client`: tell the connection step by step and show what the server has, or try one
    /// thing.
    Client(Box<Config>, Box<ClientOptions>),
    /// `login`: sign in ahead of time.
    Login(Box<Config>),
    /// `logout`: forget what is stored, and revoke it.
    Logout(Logout),
    /// `status`: show who is signed in where.
    Status(Status),
    /// `finish`: hand a redirect that reached another computer to the sign-in that waits for it.
    Finish(Finish),
    /// `--help` or `--version`.
    Print(String),
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
}

/// What a person wants of a server.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum ClientAction {
    /// Everything looked at, and told.
    #[command(skip)]
    Diagnosis,
    /// Call one tool and print its result
    Call {
        /// Name of the tool
        tool: String,
        /// Arguments of the tool; a value is JSON where it can be and the tool does not say string
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        arguments: Vec<(String, String)>,
    },
    /// Read one resource and print it
    Read {
        /// Address of the resource
        uri: String,
    },
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

/// Everything that can be wrong about `call` and `read` has one remedy.
fn misplaced(verb: Verb, arguments: &[OsString], error: &clap::Error) -> Option<&'static str> {
    const FORM: &str = "call and read come last, after the server's address and the flags: \
                        mcp-remote-client https://example.com/mcp call TOOL KEY=VALUE, or read URI";
    let tried = verb == Verb::Client && arguments.iter().any(|word| word == "call" || word == "read");
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.clone(),
        Some(ContextValue::Strings(names)) => names.join(" "),
        _ => String::new(),
    };
    let about = match error.kind() {
        ErrorKind::UnknownArgument => error.get(ContextKind::SuggestedArg).is_none(),
        ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            ["TOOL", "URI", "KEY=VALUE", "SERVER-URL"].iter().any(|name| argument.contains(name))
        }
        _ => false,
    };
    (tried && about).then_some(FORM)
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

/// Which of the two programs was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `mcp-remote`.
    Adapter,
    /// `mcp-remote-client`.
    Client,
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
}

/// Environment variables, passed in.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const TAKEN_OVER: &str = "\
Give the address and the flags as they stand in the host's entry; every flag is accepted. A sign-in is kept under the \
address, headers, --resource, --authorize-param, --client-metadata-url and --token-endpoint exactly as written.";

const AFTER_CLIENT: &str = "\
mcp-remote-client https://example.com/mcp call add a=1 b=2   call a tool
mcp-remote-client https://example.com/mcp read file:///a     read a resource
mcp-remote-client finish                                     finish a sign-in whose browser is on another computer

Exit codes: 0 all is well; 1 something failed, also a tool that says so; 2 the arguments cannot be understood; \
3 a sign-in is needed, refused or not possible; 4 the network: name, connection, TLS, proxy, time-out; 5 the server \
refuses, or is no MCP server.";

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote-client",
    version,
    about = "Connects to a remote MCP server as mcp-remote does, tells each step as it happens, and shows what it has",
    long_about = None,
    after_help = AFTER_CLIENT,
    subcommand_help_heading = "Try one thing, after the address and the flags",
    subcommand_value_name = "call TOOL [KEY=VALUE]... | read URI",
    disable_help_subcommand = true
)]
struct ClientArgs {
    #[command(flatten)]
    args: Args,

    /// Print JSON
    #[arg(long, help_heading = LOGS, global = true)]
    json: bool,

    #[command(subcommand)]
    action: Option<ClientAction>,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote login",
    version,
    about = "Signs in to a server ahead of time, so that a host finds the sign-in done",
    long_about = None,
    after_help = TAKEN_OVER
)]
struct LoginArgs {
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote logout",
    version,
    about = "Forgets the sign-in to a server, and revokes its tokens where the server offers that",
    long_about = None,
    after_help = TAKEN_OVER
)]
struct LogoutArgs {
    #[command(flatten)]
    args: Args,

    /// Forget every server
    #[arg(long, conflicts_with = "server_url")]
    all: bool,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote status",
    version,
    about = "Shows who is signed in where, until when and with what scope; never a secret",
    long_about = None,
    after_help = TAKEN_OVER
)]
struct StatusArgs {
    #[command(flatten)]
    args: Args,

    /// Print JSON
    #[arg(long, help_heading = LOGS)]
    json: bool,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote-client finish",
    version,
    about = "Finishes a sign-in whose browser is on another computer",
    long_about = "Finishes a sign-in whose browser is on another computer: asks for the address that the browser \
                  ended at, on the terminal or on stdin, and hands it to the mcp-remote that waits for it."
)]
struct FinishArgs {
    /// Folder of stored sign-ins [default: MCP_REMOTE_CONFIG_DIR, or ~/.mcp-auth]
    #[arg(long, value_name = "FOLDER")]
    config_dir: Option<PathBuf>,
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
}

impl Verb {
    /// The commands beside the one that is meant when none is named. No server's address is one of
    /// these words: each has a colon.
    const NAMED: [(&'static str, Self); 5] = [
        ("mcp-remote-client", Self::Client),
        ("login", Self::Login),
        ("logout", Self::Logout),
        ("status", Self::Status),
        ("finish", Self::Finish),
    ];

    /// Takes the words that name a command off the arguments.
    fn take(program: Program, arguments: &mut Vec<OsString>) -> Self {
        let mut verb = match program {
            Program::Adapter => Self::Forward,
            Program::Client => Self::Client,
        };
        while let Some(next) = arguments.first().and_then(|word| verb.then(word.to_str()?)) {
            arguments.remove(0);
            verb = next;
        }
        verb
    }

    /// The command that `word` names after this one.
    fn then(self, word: &str) -> Option<Self> {
        let (_, named) = Self::NAMED.into_iter().find(|(name, _)| *name == word)?;
        match (self, named) {
            // `mcp-remote mcp-remote-client URL`: how npx users reach the second program.
            (Self::Forward, Self::Client | Self::Login | Self::Logout | Self::Status)
            | (Self::Client, Self::Finish) => Some(named),
            _ => None,
        }
    }

    /// As one types it.
    const fn name(self) -> &'static str {
        match self {
            Self::Forward => "mcp-remote",
            Self::Client => "mcp-remote-client",
            Self::Login => "mcp-remote login",
            Self::Logout => "mcp-remote logout",
            Self::Status => "mcp-remote status",
            Self::Finish => "mcp-remote-client finish",
        }
    }

    fn command(self) -> clap::Command {
        match self {
            Self::Forward => Args::command(),
            // A person waits: a server that is down is told at once.
            Self::Client => ClientArgs::command().mut_arg("retry_for", |retry_for| retry_for.default_value("0")),
            Self::Login => {
                LoginArgs::command().mut_arg("retry_for", |retry_for| retry_for.default_value("0")).mut_args(|arg| {
                    let only_forwarding = ["ignore_tool", "keep_alive", "ping_interval", "max_message_size"]
                        .contains(&arg.get_id().as_str());
                    arg.hide(only_forwarding)
                })
            }
            Self::Logout => LogoutArgs::command()
                .mut_arg("server_url", |url| url.required(false).required_unless_present("all"))
                .mut_args(|arg| {
                    let shown = arg.get_help_heading() == Some(NETWORK)
                        || ["all", "static_oauth_client_info", "client_key_jwt", "debug", "silent"]
                            .contains(&arg.get_id().as_str());
                    let hidden = !shown && !names_sign_in(&arg);
                    arg.hide(hidden)
                }),
            Self::Status => StatusArgs::command().mut_arg("server_url", |url| url.required(false)).mut_args(|arg| {
                let hidden = arg.get_id() != "json" && !names_sign_in(&arg);
                arg.hide(hidden)
            }),
            Self::Finish => FinishArgs::command(),
        }
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
    let verb = Verb::take(program, &mut arguments);
    let reader = if verb == Verb::Forward { Reader::Host } else { Reader::Person };
    read(verb, &arguments, environment).map_err(|mistake| Usage { reader, report: mistake.report() })
}

fn read(verb: Verb, arguments: &[OsString], environment: Environment<'_>) -> Result<Command, Mistake> {
    if let Some(told) = no_command(arguments) {
        return Err(told.into());
    }
    let mangled = mangled(arguments);
    let told = |error: clap::Error| match misplaced(verb, arguments, &error) {
        Some(told) => told.to_owned().into(),
        None => mistake(&error, verb, mangled),
    };
    let name = OsString::from(verb.name());
    let matches = match verb.command().try_get_matches_from(std::iter::once(&name).chain(arguments)) {
        Ok(matches) => matches,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Command::Print(asked.render().to_string()));
        }
        Err(error) => return Err(told(error)),
    };
    let output = |json| if json { Output::Json } else { Output::Text };
    Ok(match verb {
        Verb::Forward => {
            let args = Args::from_arg_matches(&matches).map_err(told)?;
            Command::Forward(Box::new(config(&args, environment)?))
        }
        Verb::Client => {
            let ClientArgs { args, json, action } = ClientArgs::from_arg_matches(&matches).map_err(told)?;
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
            };
            Command::Client(Box::new(config), Box::new(options))
        }
        Verb::Login => {
            let LoginArgs { args } = LoginArgs::from_arg_matches(&matches).map_err(told)?;
            let mut config = config(&args, environment)?;
            config.limits.start = Start::Wait;
            config.authorization =
                Arc::new(Authorization { occasion: Occasion::Login, ..(*config.authorization).clone() });
            if config.log == LogMode::Normal && config.log_filters.is_none() {
                config.log_filters = Some(format!("{}=off", logging::LOOP)); // the command prints its failure
            }
            Command::Login(Box::new(config))
        }
        Verb::Logout => {
            let LogoutArgs { args, all } = LogoutArgs::from_arg_matches(&matches).map_err(told)?;
            Command::Logout(if all {
                Logout::All(Box::new(all_servers(&args, environment)?))
            } else {
                Logout::Server(Box::new(config(&args, environment)?))
            })
        }
        Verb::Status => {
            let StatusArgs { args, json } = StatusArgs::from_arg_matches(&matches).map_err(told)?;
            Command::Status(status(&args, output(json), environment)?)
        }
        Verb::Finish => {
            let FinishArgs { config_dir } = FinishArgs::from_arg_matches(&matches).map_err(told)?;
            Command::Finish(Finish { store: store_folder(config_dir, environment)? })
        }
    })
}
