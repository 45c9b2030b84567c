//! `install`, `migrate`, `uninstall` and `undo`: the commands that change hosts' configuration.
//!
//! # Invariants
//!
//! - `install` takes the flags of a connection and checks them as the connection would. They go into the entry as they are, except
//!   that a relative path becomes an absolute one, because a host may start mcp-remote in any folder.
//! - A secret in the arguments is refused, because other users of the machine see the arguments of a process.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, FromArgMatches, Parser, ValueHint, error::ErrorKind};
use reqwest::Url;

use super::{
    Environment, Program, Verb,
    flags::Args,
    mistakes::{Mistake, mistake},
    settings::store_folder,
    terminal::{has_colors, places},
};
use crate::{
    hosts::{HOSTS, Host, places::Places},
    text::is_key,
};

/// A change of hosts' configuration.
#[derive(Debug)]
pub(crate) struct EntryChange {
    /// What.
    pub command: EntryCommand,
    /// Only these hosts; all if there is none.
    pub hosts: Vec<Host>,
    /// Do not ask.
    pub yes: bool,
    /// Print the entry, and write nothing.
    pub print: bool,
    /// The folder of stored sign-ins, which has the record of changes, too.
    pub store: PathBuf,
    /// Where hosts keep their files.
    pub places: Places,
    /// `PATH`.
    pub path: Option<OsString>,
    /// Whether colors are wanted where there is a terminal.
    pub has_colors: bool,
}

/// What is changed.
#[derive(Debug)]
pub(crate) enum EntryCommand {
    /// An entry is added to each host.
    Install(Install),
    /// Entries of the npm package become entries of this program.
    Migrate,
    /// Entries are removed: these, or all.
    Uninstall(Option<Which>),
    /// The last change is put back.
    Undo,
}

impl EntryCommand {
    /// Returns its name on the command line.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Install(_) => "install",
            Self::Migrate => "migrate",
            Self::Uninstall(_) => "uninstall",
            Self::Undo => "undo",
        }
    }
}

/// A new entry.
#[derive(Debug)]
pub(crate) struct Install {
    /// The server.
    pub url: Url,
    /// The name of the entry, if the user has given one.
    pub name: Option<String>,
    /// Server URL and flags, as they go into the entry.
    pub arguments: Vec<String>,
}

/// Which entries a user means.
#[derive(Debug)]
pub(crate) enum Which {
    /// Those with this name.
    Name(String),
    /// Those for this server.
    Url(Url),
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote install",
    version,
    about = "Add a server to the hosts on this computer",
    long_about = "Add a server to the hosts on this computer.\n\nThe command shows each change and asks once. It keeps a \
                  backup of each file, and mcp-remote undo puts the old text back."
)]
pub(super) struct InstallArgs {
    /// URL of the MCP server
    #[arg(value_name = "SERVER-URL", value_hint = ValueHint::Url)]
    server_url: Option<String>,

    /// Flags of the connection, as in 'mcp-remote SERVER-URL'
    #[arg(value_name = "FLAGS")]
    flags: Vec<String>,

    #[command(flatten)]
    choice: ChoiceArgs,

    /// Name of the entry
    ///
    /// The default is the main part of the server's host name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Print the entry for each host, and write nothing
    #[arg(long)]
    print: bool,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote migrate",
    version,
    about = "Change the entries that start the npm package, so that they start this program",
    long_about = "Change the entries that start the npm package, so that they start this program.\n\nName, arguments and \
                  variables of each entry stay as they are. The stored sign-ins are used again."
)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote uninstall",
    version,
    about = "Remove entries for mcp-remote from the hosts on this computer",
    long_about = None
)]
pub(super) struct UninstallArgs {
    /// Name or server URL of the entry; all entries by default
    #[arg(value_name = "NAME|SERVER-URL")]
    which: Option<String>,

    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote undo",
    version,
    about = "Undo the last install, migrate or uninstall",
    long_about = "Undo the last install, migrate or uninstall.\n\nA file that another program has changed since is left as it \
                  is."
)]
pub(super) struct UndoArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct ChoiceArgs {
    /// Only these hosts, separated by commas
    ///
    /// claude-desktop, claude-code, cursor, windsurf, vscode, zed, codex, gemini, opencode, cline, copilot, goose
    #[arg(long = "host", value_name = "HOSTS", value_delimiter = ',')]
    hosts: Vec<String>,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl ChoiceArgs {
    fn hosts(&self, verb: Verb) -> Result<Vec<Host>, Mistake> {
        let named = |id: &String| {
            let id = id.trim().to_ascii_lowercase();
            let known = HOSTS.into_iter().find(|host| host.id == id || host.name.eq_ignore_ascii_case(&id));
            known.ok_or_else(|| {
                let ids: Vec<_> = HOSTS.iter().map(|host| host.id).collect();
                let mut tip = format!("write one of {}", ids.join(", "));
                if verb == Verb::Install {
                    tip += ". To set the host name of the redirect URI: mcp-remote install URL -- --host NAME";
                }
                let is_word = id.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') && id.len() < 20;
                let shown = if is_word { format!("'{id}'") } else { "a name".to_owned() };
                Mistake::new(format!("--host has {shown}, which is not a host that mcp-remote knows"), tip)
            })
        };
        self.hosts.iter().filter(|id| !id.trim().is_empty()).map(named).collect()
    }
}

/// Reads the arguments of one of the four commands. Returns `None` where help is asked for.
///
/// # Errors
/// [`Mistake`].
pub(super) fn entry_change(
    verb: Verb,
    typed: &str,
    arguments: &[OsString],
    environment: Environment<'_>,
) -> Result<Result<EntryChange, clap::Error>, Mistake> {
    let (own, connection) = match verb {
        Verb::Install => split(arguments),
        _ => (arguments.to_vec(), Vec::new()),
    };
    let name = OsString::from(typed);
    let matches = match verb.command().bin_name(typed).try_get_matches_from(std::iter::once(&name).chain(&own)) {
        Ok(matches) => matches,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Err(asked));
        }
        Err(error) if error.kind() == ErrorKind::UnknownArgument && surplus(verb, &own) => {
            let (what, tip) = match verb {
                Verb::Migrate => {
                    ("no entry or server URL", "to change one host only: mcp-remote migrate --host cursor")
                }
                Verb::Uninstall => ("one name or server URL", "repeat the command for each entry"),
                _ => ("no argument", "it undoes the last change: mcp-remote undo"),
            };
            return Err(Mistake::new(format!("{} takes {what}", verb.word()), tip.to_owned()));
        }
        Err(error) => return Err(mistake(&error, verb, &own)),
    };
    let found = |error: clap::Error| mistake(&error, verb, &own);
    let (command, choice, print) = match verb {
        Verb::Install => {
            let args = InstallArgs::from_arg_matches(&matches).map_err(found)?;
            (EntryCommand::Install(install(args.name, &connection, args.print, environment)?), args.choice, args.print)
        }
        Verb::Migrate => {
            let args = MigrateArgs::from_arg_matches(&matches).map_err(found)?;
            (EntryCommand::Migrate, args.choice, false)
        }
        Verb::Uninstall => {
            let args = UninstallArgs::from_arg_matches(&matches).map_err(found)?;
            let which = args.which.map(|text| match Url::parse(&text) {
                Ok(url) if text.contains("://") => Which::Url(url),
                _ => Which::Name(text),
            });
            (EntryCommand::Uninstall(which), args.choice, false)
        }
        _ => {
            let args = UndoArgs::from_arg_matches(&matches).map_err(found)?;
            (EntryCommand::Undo, ChoiceArgs { hosts: Vec::new(), yes: args.yes }, false)
        }
    };
    Ok(Ok(EntryChange {
        command,
        hosts: choice.hosts(verb)?,
        yes: choice.yes,
        print,
        store: store_folder(None, environment)?,
        places: places(environment),
        path: environment("PATH").map(OsString::from),
        has_colors: has_colors(environment),
    }))
}

/// Returns whether there are more words than the command takes, and no flag that it does not know.
fn surplus(verb: Verb, arguments: &[OsString]) -> bool {
    let command = verb.command();
    let is_known = |word: &str| {
        let name = word.trim_start_matches("--").split('=').next();
        !word.starts_with('-') || word == "-y" || command.get_arguments().any(|arg| arg.get_long() == name)
    };
    arguments.iter().all(|word| is_known(&word.to_string_lossy()))
}

/// Takes the words of `install` itself out of the arguments. The others are for the connection, as is everything after `--`.
pub(super) fn split(arguments: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    const WITH_VALUE: [&str; 2] = ["--host", "--name"];
    const ALONE: [&str; 8] = ["--yes", "-y", "--print", "-h", "--help", "-V", "--version", "-yh"];
    let (mut own, mut connection) = (Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            connection.extend(words.by_ref().cloned());
        } else if WITH_VALUE.contains(&&*text) {
            own.push(word.clone());
            own.extend(words.next().cloned());
        } else if ALONE.contains(&&*text) || WITH_VALUE.iter().any(|flag| text.starts_with(&format!("{flag}="))) {
            own.push(word.clone());
        } else {
            connection.push(word.clone());
        }
    }
    (own, connection)
}

fn install(
    name: Option<String>,
    connection: &[OsString],
    is_printed: bool,
    environment: Environment<'_>,
) -> Result<Install, Mistake> {
    if connection.is_empty() {
        return Err(Mistake::new(
            "install needs a server URL".to_owned(),
            "write it after the command: mcp-remote install https://example.com/mcp".to_owned(),
        ));
    }
    let is_url = |word: &OsString| word.to_str().is_some_and(|word| Url::parse(word).is_ok() && word.contains("://"));
    if connection.iter().take(2).filter(|word| is_url(word)).count() > 1 {
        return Err(Mistake::new(
            "install takes one server URL".to_owned(),
            "repeat the command for each server".to_owned(),
        ));
    }
    if let Some(name) = &name
        && (name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
    {
        return Err(Mistake::new(
            "--name has characters that not every host accepts".to_owned(),
            "write letters, digits, hyphens and underscores".to_owned(),
        ));
    }
    // The connection's own checks. A variable that only the host sets is no mistake.
    let set = |name: &str| environment(name).or_else(|| Some("set by the host".to_owned()));
    let passed = |name: &str| if is_variable_of(connection, name) { set(name) } else { environment(name) };
    super::read(Program::Adapter, Verb::Forward, "mcp-remote install", connection, &passed)?;
    let words: Option<Vec<String>> = connection.iter().map(|word| word.to_str().map(ToOwned::to_owned)).collect();
    let words = words.ok_or_else(|| Mistake::from("an argument is not text in UTF-8".to_owned()))?;
    let url = words.iter().find_map(|word| Url::parse(word).ok().filter(|_| word.contains("://")));
    let url = url.ok_or_else(|| Mistake::from("install needs a server URL with http:// or https://".to_owned()))?;
    if !is_printed && let Some(secret) = secret(&words, &url) {
        return Err(secret);
    }
    Ok(Install { url, name, arguments: absolute(words) })
}

/// Returns whether an argument has `${NAME}` for this variable.
fn is_variable_of(connection: &[OsString], name: &str) -> bool {
    connection.iter().any(|word| word.to_string_lossy().contains(&format!("${{{name}}}")))
}

/// Returns what is wrong if the arguments have a secret.
fn secret(words: &[String], url: &Url) -> Option<Mistake> {
    const IN_FILE: &str =
        "write \"NAME: VALUE\" into a file that only you can read, and give the file: --header-file FILE";
    let print = "the server knows you by this URL alone. Print the entry, and write it into the host yourself: \
                 mcp-remote install URL --print";
    if url.password().is_some() || !url.username().is_empty() {
        return Some(Mistake::new("the server URL has a user or a password".to_owned(), IN_FILE.to_owned()));
    }
    let is_secret_name = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["auth", "key", "token", "secret", "password", "cookie", "credential", "session", "sig"]
            .iter()
            .any(|word| name.contains(word))
    };
    let of_fragment = url.fragment().and_then(|fragment| fragment.split_once('='));
    if url.query_pairs().any(|(name, value)| is_secret_name(&name) && !value.is_empty() || is_key(&value))
        || of_fragment.is_some_and(|(name, _)| is_secret_name(name))
        || url.path().split('/').any(is_key)
    {
        return Some(Mistake::new("the server URL has a key".to_owned(), print.to_owned()));
    }
    for (flag, value) in values(words) {
        match flag {
            "--header" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                let value = without_variables(value);
                let words =
                    value.split_whitespace().filter(|word| !SCHEMES.iter().any(|one| one.eq_ignore_ascii_case(word)));
                let words: Vec<_> = words.collect();
                if !words.is_empty() && is_secret_name(name) || words.iter().any(|word| is_key(word)) {
                    return Some(Mistake::new(format!("the header {name} has a secret"), IN_FILE.to_owned()));
                }
            }
            "--static-oauth-client-info" if !value.starts_with('@') && value.contains("client_secret") => {
                let tip = "write the JSON into a file that only you can read: --static-oauth-client-info @FILE";
                return Some(Mistake::new(format!("{flag} has a client secret"), tip.to_owned()));
            }
            "--resource" if Url::parse(value).is_ok_and(|url| url.password().is_some()) => {
                return Some(Mistake::new("--resource has a password".to_owned(), "leave the password out".to_owned()));
            }
            "--proxy" if Url::parse(value).is_ok_and(|proxy| proxy.password().is_some()) => {
                let tip = "set the variable HTTPS_PROXY in the \"env\" of the entry instead";
                return Some(Mistake::new("--proxy has a password".to_owned(), tip.to_owned()));
            }
            _ => {}
        }
    }
    None
}

/// Schemes of a header with credentials, which are no secrets themselves.
const SCHEMES: [&str; 3] = ["Basic", "Bearer", "Token"];

/// Returns a text without each `${NAME}`.
fn without_variables(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(|part| part.split_once('}').map_or(part, |(_, rest)| rest)).collect::<String>()
}

/// Returns the flags that have a value, with it.
fn values(words: &[String]) -> impl Iterator<Item = (&str, &str)> {
    words.iter().enumerate().filter_map(|(index, word)| match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => Some((flag, value)),
        _ if word.starts_with("--") => Some((word, words.get(index + 1)?)),
        _ => None,
    })
}

/// Makes the paths in the flags absolute.
fn absolute(words: Vec<String>) -> Vec<String> {
    let command = Args::command();
    let takes_path = |flag: &str| {
        let is_it = |arg: &&clap::Arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
        command.get_arguments().find(is_it).is_some_and(|arg| {
            matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
        })
    };
    let resolved = |path: &str| {
        let path = Path::new(path);
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
    };
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        let before = out.last().cloned().unwrap_or_default();
        let whole = |flag: &str, value: &str| match value.strip_prefix('@') {
            Some(path) if flag.starts_with("--static-oauth-") => format!("@{}", resolved(path)),
            _ if takes_path(flag) => resolved(value),
            _ => value.to_owned(),
        };
        let new = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => format!("{flag}={}", whole(flag, value)),
            _ if word.starts_with("--") || !before.starts_with("--") || before.contains('=') => word,
            _ => whole(&before, &word),
        };
        out.push(new);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<EntryChange, String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let (verb, rest) = words.split_first().unwrap();
        let verb = Verb::NAMED.into_iter().find(|(name, _)| verb == *name).unwrap().1;
        let home = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
        entry_change(verb, "mcp-remote", rest, &home).map(Result::unwrap).map_err(|mistake| mistake.report().sentence)
    }

    fn arguments(line: &str) -> Vec<String> {
        match parse(line).unwrap().command {
            EntryCommand::Install(install) => install.arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_of_install_and_of_the_connection_are_told_apart() {
        let line = "install --yes https://a.example/mcp --host cursor,zed 3334 --header X-Region:eu --name mine -- --host 127.0.0.1";
        assert_eq!(
            arguments(line),
            ["https://a.example/mcp", "3334", "--header", "X-Region:eu", "--host", "127.0.0.1"]
        );
        let change = parse(line).unwrap();
        assert_eq!(change.hosts.iter().map(|host| host.id).collect::<Vec<_>>(), ["cursor", "zed"]);
        assert!(change.yes && !change.print);
        let EntryCommand::Install(install) = change.command else { panic!() };
        assert_eq!(install.name.as_deref(), Some("mine"));
    }

    #[test]
    fn relative_paths_become_absolute() {
        let here = std::env::current_dir().unwrap();
        let file = |name: &str| here.join(name).to_string_lossy().into_owned();
        assert_eq!(
            arguments("install https://a.example/mcp --config-dir=x"),
            ["https://a.example/mcp".to_owned(), format!("--config-dir={}", file("x"))]
        );
        assert_eq!(arguments("install https://a.example/mcp --config-dir y")[2], file("y"));
    }

    #[test]
    fn secrets_and_slips_are_refused() {
        for (line, sentence) in [
            ("install https://a.example/mcp --header Authorization:hush", "the header Authorization has a secret"),
            ("install https://a.example/mcp --header X-Api-Key:hush", "the header X-Api-Key has a secret"),
            ("install https://u:p@a.example/mcp", "the server URL has a user or a password"),
            ("install https://a.example/mcp?api_key=hush", "the server URL has a key"),
            ("install https://a.example/mcp --header X-Key:hush${A}", "the header X-Key has a secret"),
            ("install https://a.example/mcp#token=hush", "the server URL has a key"),
            (
                "install https://a.example/mcp --host nano",
                "--host has 'nano', which is not a host that mcp-remote knows",
            ),
            ("install https://a.example/mcp --name a/b", "--name has characters that not every host accepts"),
            ("install --yes", "install needs a server URL"),
            ("install https://a.example/mcp https://b.example/mcp", "install takes one server URL"),
            ("migrate https://a.example/mcp", "migrate takes no entry or server URL"),
            ("uninstall --host cursor a b", "uninstall takes one name or server URL"),
            ("undo it --yes", "undo takes no argument"),
            ("undo --soft", "unexpected argument '--soft' found"),
            ("install https://a.example/mcp --heder X:1", "unexpected argument '--heder' found"),
        ] {
            assert_eq!(parse(line).unwrap_err(), sentence, "{line}");
        }
        for line in [
            "install https://a.example/mcp --header Authorization:${AUTH}",
            "install https://a.example/mcp --header Authorization:Bearer\u{a0}${KEY}",
            "install https://a.example/mcp?api_key=hush --print",
            "install https://a.example/mcp --header X-Region:eu",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
        }
    }
}
