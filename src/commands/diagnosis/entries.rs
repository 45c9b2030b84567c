//! One entry of a host's settings: how it starts this program, and whether that can work.
//!
//! # Invariants
//!
//! - The value of an argument or a variable is not shown.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::printer::{DiagnosisStep, Finding, Outcome};
use crate::{
    cli::Terminal,
    config::Config,
    report::{
        Code, Report,
        catalogue::{ARGUMENTS_APART, LEAVE_OUT_NPX, MAKE_EXECUTABLE},
    },
    text::is_key,
};

/// The name of this program, and of the npm package.
pub(super) const NAME: &str = "mcp-remote";
/// The name of the program for testing.
const CLIENT: &str = "mcp-remote-client";
/// How the name of this program begins, with typing errors.
const SIMILAR: [&str; 2] = ["mcp-remot", "mcp_remote"];
/// Commands that no host starts.
const PERSON_COMMANDS: [&str; 6] = ["client", CLIENT, "finish", "login", "logout", "status"];
/// Programs that start the npm package.
const LAUNCHERS: [&str; 20] = [
    "npx",
    "npm",
    "pnpm",
    "pnpx",
    "yarn",
    "yarnpkg",
    "bun",
    "bunx",
    "deno",
    "node",
    "cmd",
    "powershell",
    "pwsh",
    "sh",
    "bash",
    "zsh",
    "env",
    "wsl",
    "volta",
    "mise",
];

/// What an entry starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// This program.
    Adapter,
    /// The npm package, whose arguments begin there.
    NpmPackage(usize),
    /// Another program.
    Other,
}

/// A server in a host's settings that the host starts as a program.
#[derive(Debug)]
pub(super) struct ServerEntry {
    command: String,
    arguments: Vec<String>,
    /// The variables that the host passes on.
    variables: BTreeMap<String, String>,
    /// Whether its arguments are one text in the file, which no host takes apart.
    in_one: bool,
    /// Whether that text is `command`.
    is_whole_command: bool,
    /// Whether the host does not start it.
    is_disabled: bool,
}

impl ServerEntry {
    /// A program that is started; `None` for a server that the host reaches by itself.
    pub(super) fn of(entry: &Value) -> Option<Self> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        let server = match &entry["command"] {
            // opencode: all in one.
            Value::Array(_) => {
                let mut words = texts(&entry["command"]);
                if words.is_empty() {
                    return None;
                }
                Self::apart(words.remove(0), words)
            }
            // Zed, until 2025.
            Value::Object(command) => Self::apart(
                command.get("path")?.as_str()?.to_owned(),
                texts(command.get("args").unwrap_or(&Value::Null)),
            ),
            command => match entry["args"].as_str() {
                Some(text) => Self { in_one: true, ..Self::apart(command.as_str()?.to_owned(), words(text)) },
                None => Self::apart(command.as_str()?.to_owned(), texts(&entry["args"])),
            },
        };
        let of_command = variables(&entry["command"]); // Zed, until 2025
        let is_disabled = entry["disabled"] == true || entry["enabled"] == false; // opencode: enabled
        let variables = if of_command.is_empty() { variables(entry) } else { of_command };
        Some(Self { variables, is_disabled, ..server })
    }

    /// What was written as one is judged by its words; a path may have blanks, so a URL must be there.
    fn apart(command: String, arguments: Vec<String>) -> Self {
        let (variables, is_disabled) = (BTreeMap::new(), false);
        let in_one = |text: &String| {
            let words = words(text);
            words.len() > 1 && (text.contains("://") || LAUNCHERS.contains(&stem(&words[0])))
        };
        let begins = |text: &String| in_one(text) && words(text)[0].contains("://");
        if in_one(&command) {
            let mut all = words(&command);
            let command = all.remove(0);
            all.extend(arguments);
            return Self { command, arguments: all, variables, in_one: true, is_whole_command: true, is_disabled };
        }
        let in_one = arguments.iter().any(begins);
        let arguments = if in_one { arguments.iter().flat_map(|text| words(text)).collect() } else { arguments };
        Self { command, arguments, variables, in_one, is_whole_command: false, is_disabled }
    }

    #[cfg(test)]
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    #[cfg(test)]
    pub(super) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    pub(super) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Whether the arguments are those of a connection, each of them one of the list.
    pub(super) fn can_connect(&self) -> bool {
        !self.in_one && self.person_command().is_none()
    }

    /// The command for people that the arguments begin with.
    fn person_command(&self) -> Option<&'static str> {
        let first = self.own_arguments().first()?;
        PERSON_COMMANDS.into_iter().find(|command| first == command)
    }

    fn started(&self) -> Started {
        let command = stem(&self.command);
        if command == NAME {
            return Started::Adapter;
        }
        let is_package = |word: &String| !word.contains("://") && stem(word) == NAME || is_script(word);
        match self.arguments.iter().position(is_package) {
            Some(at) if LAUNCHERS.contains(&&*command.to_ascii_lowercase()) => Started::NpmPackage(at + 1),
            _ => Started::Other,
        }
    }

    /// Whether the entry is meant to start this program, or the npm package of the same name.
    pub(super) fn is_ours(&self, terminal: &Terminal) -> bool {
        let name = stem(&self.command);
        let is_similar = || SIMILAR.iter().any(|similar| name.starts_with(similar)) && self.has_no_program(terminal);
        self.started() != Started::Other || name == CLIENT || is_similar()
    }

    /// Whether `command` does not name a program.
    pub(super) fn has_no_program(&self, terminal: &Terminal) -> bool {
        matches!(find(&self.command, terminal), Found::Missing | Found::Folder)
    }

    /// Whether the host starts the npm package.
    pub(super) fn is_npm_package(&self) -> bool {
        matches!(self.started(), Started::NpmPackage(_))
    }

    /// The program that starts the npm package.
    fn launcher(&self) -> &str {
        let words = std::iter::once(&self.command).chain(&self.arguments).map(|word| stem(word));
        words.take_while(|word| *word != NAME).filter(|word| LAUNCHERS.contains(word)).last().unwrap_or("npx")
    }

    /// `command` and `args`, each as a member. A secret part of an argument is left out.
    fn members(&self, terminal: &Terminal) -> String {
        let is_program = self.started() == Started::Adapter && matches!(find(&self.command, terminal), Found::There);
        let command = if is_program { member(&self.command) } else { command_line() };
        let arguments = self.own_arguments();
        let url = arguments.iter().find_map(|word| reqwest::Url::parse(word).ok().filter(is_open));
        let url = Value::from(url.map_or_else(|| "SERVER-URL".to_owned(), |url| url.to_string()));
        let more = if arguments.len() > 1 { ", …" } else { "" };
        format!("{command}, \"args\": [{url}{more}]")
    }

    /// The arguments of mcp-remote itself.
    pub(super) fn own_arguments(&self) -> &[String] {
        match self.started() {
            Started::NpmPackage(at) => &self.arguments[at..],
            Started::Adapter | Started::Other => &self.arguments,
        }
    }

    /// Whether the entry is for this server.
    pub(super) fn is_for(&self, config: &Config) -> bool {
        let url = config.server.url();
        self.arguments.iter().any(|word| reqwest::Url::parse(word).is_ok_and(|word| word == *url))
    }

    /// Whether the words that were for npx are still there.
    fn has_arguments_of_npx(&self) -> bool {
        let package = |word: &String| word.split('@').next() == Some(NAME);
        self.arguments.iter().take_while(|word| !word.contains("://")).any(|word| package(word) || word == "-y")
    }
}

/// Whether a URL has no part that may be secret.
fn is_open(url: &reqwest::Url) -> bool {
    let has_secret = url.query().is_some() || url.password().is_some() || !url.username().is_empty();
    url.has_host() && !has_secret && !url.path().split('/').any(is_key)
}

/// The name of a program or a package, without folder, version and ending.
fn stem(word: &str) -> &str {
    let name = word.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    [".exe", ".cmd", ".bat", ".EXE"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// Whether this is a file of the npm package, for node.
fn is_script(word: &str) -> bool {
    word.replace('\\', "/").contains("/mcp-remote/dist/")
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// The variables of an entry, as its host passes them on.
fn variables(entry: &Value) -> BTreeMap<String, String> {
    // opencode has its own name for them.
    let members = ["env", "environment"].iter().find_map(|key| entry.get(*key)?.as_object());
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    members.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// The file of this program, for the `command` of an entry. `mcp-remote` and `mcp-remote-client` are neighbors.
fn own_path() -> PathBuf {
    let here = env::current_exe().unwrap_or_else(|_| NAME.into());
    let neighbor = here.with_file_name(format!("{NAME}{}", env::consts::EXE_SUFFIX));
    if neighbor.is_file() { neighbor } else { here }
}

/// The line to write into an entry.
pub(super) fn command_line() -> String {
    member(&own_path().to_string_lossy())
}

/// `command` as JSON, in which each backslash is doubled.
fn member(command: &str) -> String {
    format!("\"command\": {}", Value::from(command))
}

/// What else is to be known of an entry.
pub(super) fn remarks(place: &str, entry: &ServerEntry) -> Vec<Finding> {
    let mut remarks = Vec::new();
    if entry.is_disabled {
        let text = format!("{place}: this entry is disabled in the host");
        remarks.push(Finding::info(DiagnosisStep::Host, text));
    }
    for (name, _) in entry.variables.iter().filter(|(_, value)| is_example(value)) {
        let text = format!("{place}: the value of {name} in \"env\" is still an example");
        remarks.push(Finding::warn(DiagnosisStep::Host, text, format!("write your own value for {name} into \"env\"")));
    }
    remarks
}

/// Whether a value was copied from a manual, to be replaced.
fn is_example(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let has_brackets = value.split_once('<').is_some_and(|(_, rest)| rest.contains('>'));
    let has_word =
        ["your-", "your_", "your ", "changeme", "replace-me", "replace_me"].iter().any(|word| lower.contains(word));
    has_brackets || has_word || lower.len() > 2 && lower.bytes().all(|byte| byte == b'x')
}

/// Judges an entry that starts this program. `given` are the settings and the arguments of this terminal, and the entry's
/// name; without them the entry is tried as it is.
pub(super) fn judge(
    place: &str,
    entry: &ServerEntry,
    given: Option<(&Config, &[String], &str)>,
    terminal: &Terminal,
) -> Finding {
    let is_for_server = given.is_none_or(|(config, ..)| entry.is_for(config));
    let outcome = if is_for_server { Outcome::Fail } else { Outcome::Warn };
    let command = &entry.command;
    let bad = |text: &str, tip| {
        Finding::report(DiagnosisStep::Host, outcome, Report::new(Code::BadEntry, format!("{place}: {text}"), tip))
    };
    let with_line = |outcome, text: &str, tip: String| {
        Finding::new(DiagnosisStep::Host, outcome, format!("{place}: {text}")).with_exact_action(tip)
    };
    if entry.is_whole_command {
        let text = "\"command\" has the program and its arguments in one string";
        let tip = format!("write {}", entry.members(terminal));
        return with_line(outcome, text, tip).with_code(Code::BadEntry);
    }
    if entry.in_one {
        return bad("all arguments are one string", Some(ARGUMENTS_APART));
    }
    if entry.is_npm_package() {
        let tip = format!("write {} and begin \"args\" with the server URL", command_line());
        if entry.has_no_program(terminal) {
            let text = format!(
                "this entry starts the npm package through {}, but no folder in PATH has {}",
                entry.launcher(),
                stem(command)
            );
            return with_line(outcome, &text, tip).with_code(Code::BadEntry);
        }
        let text = format!(
            "this entry starts the npm package through {launcher}, not this program. \
             The checks below say nothing about {launcher}",
            launcher = entry.launcher()
        );
        return with_line(Outcome::Warn, &text, tip);
    }
    if command.contains(char::is_control) {
        let text = "\"command\" has a control character: JSON takes a single backslash for an escape";
        return with_line(outcome, text, format!("write {}", command_line())).with_code(Code::BadEntry);
    }
    if command.starts_with('~') {
        let text = "\"command\" begins with ~, which hosts do not replace with the home folder";
        return with_line(outcome, text, format!("write {}", command_line())).with_code(Code::BadEntry);
    }
    if stem(command) == CLIENT {
        let text = format!("\"command\" names {command}, which is the program for testing");
        return with_line(outcome, &text, format!("write {}", command_line())).with_code(Code::BadEntry);
    }
    let is_bare = Path::new(command).components().count() == 1;
    match find(command, terminal) {
        Found::Missing if is_bare => {
            let text = format!("\"command\" is {command} without a path, and no folder in PATH has it");
            return with_line(outcome, &text, format!("write {}", command_line())).with_code(Code::BadEntry);
        }
        Found::Missing => {
            let text = format!("\"command\" names {command}, which does not exist");
            return with_line(outcome, &text, format!("write {}", command_line())).with_code(Code::BadEntry);
        }
        Found::Folder => {
            let text = format!("\"command\" names {command}, which is a folder");
            return with_line(outcome, &text, format!("write {}", command_line())).with_code(Code::BadEntry);
        }
        // Without its name in the tip, which may be anything.
        Found::NotExecutable => {
            return bad(&format!("\"command\" names {command}, which is not executable"), Some(MAKE_EXECUTABLE));
        }
        Found::ByPath => {
            let text =
                format!("\"command\" is {command} without a path, and a host may have another PATH than this terminal");
            return with_line(Outcome::Warn, &text, format!("write {}", command_line()));
        }
        Found::There => {}
    }
    if let Some(first) = entry.person_command() {
        let text = format!("\"args\" begins with {first:?}, which is for a terminal");
        let tip = format!("remove {first:?}, so that \"args\" begins with the server URL");
        return with_line(outcome, &text, tip).with_code(Code::BadEntry);
    }
    if entry.has_arguments_of_npx() {
        return bad("\"args\" still has the arguments of npx, which mcp-remote does not take", Some(LEAVE_OUT_NPX));
    }
    let Some((_, arguments, name)) = given else {
        return Finding::ok(DiagnosisStep::Host, format!("{place}: its command exists"));
    };
    if !is_for_server {
        return Finding::ok(
            DiagnosisStep::Host,
            format!("{place}: its command exists; the entry is for another server"),
        );
    }
    let differences = differences(&entry.arguments, arguments);
    if differences.is_empty() {
        return Finding::ok(
            DiagnosisStep::Host,
            format!("{place}: its command exists, and its arguments are those given here"),
        );
    }
    let text = format!("{place}: the entry has other arguments than given here: {}", differences.join(", "));
    // Only a name that no shell reads otherwise is text to copy.
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let name = if is_plain(name) { name } else { "NAME" };
    let tip = format!("test the entry itself: mcp-remote client --entry {name}");
    Finding::warn(DiagnosisStep::Host, text, tip)
}

enum Found {
    There,
    /// Only in a folder of this terminal's `PATH`.
    ByPath,
    NotExecutable,
    Folder,
    Missing,
}

fn find(command: &str, terminal: &Terminal) -> Found {
    let path = Path::new(command);
    if path.components().count() > 1 {
        return match (path.is_file(), is_executable(path)) {
            (true, true) => Found::There,
            (true, false) => Found::NotExecutable,
            (false, _) if path.is_dir() => Found::Folder,
            (false, _) => Found::Missing,
        };
    }
    let folders = terminal.path.iter().flat_map(env::split_paths);
    let names = if cfg!(windows) {
        [".exe", ".cmd", ".bat", ""].map(|end| format!("{command}{end}")).to_vec()
    } else {
        vec![command.to_owned()]
    };
    let mut candidates = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>());
    if candidates.any(|path| path.is_file() && is_executable(&path)) { Found::ByPath } else { Found::Missing }
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_: &Path) -> bool {
    true
}

/// The flags that are not the same, by name.
fn differences(there: &[String], here: &[String]) -> Vec<String> {
    let (there, here) = (flags(there), flags(here));
    let mut different = Vec::new();
    for (name, values) in &there {
        match here.get(name) {
            None => different.push(format!("{name} is only in the entry")),
            Some(others) if others != values => different.push(format!("{name} has another value")),
            Some(_) => {}
        }
    }
    let missing = here.keys().filter(|name| !there.contains_key(*name));
    different.extend(missing.map(|name| format!("{name} is missing in the entry")));
    different
}

/// Flags with their values, in any order; the words without a flag are the server URL and the callback port.
fn flags(words: &[String]) -> BTreeMap<&str, Vec<&str>> {
    const BARE: &str = "the server URL or the callback port";
    let mut flags = BTreeMap::<&str, Vec<&str>>::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            _ if !word.starts_with("--") => flags.entry(BARE).or_default().push(word),
            Some((name, value)) => flags.entry(name).or_default().push(value),
            None => {
                // What follows is its value, or the server URL, whose place is anywhere.
                let value = words.next_if(|next| !next.starts_with("--") && !next.contains("://"));
                flags.entry(word).or_default().extend(value.map(String::as_str));
            }
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn arguments_differ_by_name_whatever_their_order() {
        let there = words("https://a/mcp 3334 --header X:1 --transport=http-only --allow-http");
        let here = words("--allow-http https://a/mcp --transport http-only --header X:2 3334 --ipv4");
        assert_eq!(differences(&there, &here), ["--header has another value", "--ipv4 is missing in the entry"]);
        assert_eq!(differences(&there, &there), [""; 0]);
    }

    #[test]
    fn entry_is_ours_if_it_starts_mcp_remote() {
        let entry = |command: &str, arguments: &str| ServerEntry::apart(command.to_owned(), words(arguments));
        for (command, arguments, started, own) in [
            ("/opt/mcp-remote", "https://a/mcp --ipv4", Started::Adapter, "https://a/mcp --ipv4"),
            (r"C:\bin\mcp-remote.exe", "https://a/mcp", Started::Adapter, "https://a/mcp"),
            ("npx", "-y mcp-remote@latest https://a/mcp", Started::NpmPackage(2), "https://a/mcp"),
            (r"C:\nodejs\npx.cmd", "mcp-remote https://a/mcp", Started::NpmPackage(1), "https://a/mcp"),
            ("cmd", "/c npx -y mcp-remote https://a/mcp", Started::NpmPackage(4), "https://a/mcp"),
            ("node", "/x/node_modules/mcp-remote/dist/proxy.js https://a/mcp", Started::NpmPackage(1), "https://a/mcp"),
            ("cat", "mcp-remote", Started::Other, "mcp-remote"),
            ("npx", "-y supergateway https://a/mcp-remote", Started::Other, "-y supergateway https://a/mcp-remote"),
            ("/opt/mcp-remote-client", "https://a/mcp", Started::Other, "https://a/mcp"),
        ] {
            let entry = entry(command, arguments);
            assert_eq!((entry.started(), entry.own_arguments()), (started, &*words(own)), "{command} {arguments}");
        }
    }
}
