//! The verdict on one entry of a host: whether this program can start that way.
//!
//! # Invariants
//!
//! - The value of an argument or a variable is not shown.

use std::{
    collections::BTreeMap,
    env,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::printer::{DiagnosisStep, Finding, Outcome};
use crate::{
    cli::Terminal,
    config::Config,
    hosts::{
        entry::ServerEntry,
        launch::{CLIENT, Launch, NAME, is_script, stem},
    },
    report::{
        Code, Report,
        catalogue::{ARGUMENTS_APART, LEAVE_OUT_NPX, MAKE_EXECUTABLE},
    },
    text::is_key,
};

/// How the name of this program begins, with typing errors.
const SIMILAR: [&str; 2] = ["mcp-remot", "mcp_remote"];
/// How long another mcp-remote may take to name its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);
/// Longest line with a version, in bytes.
const LONGEST_VERSION: u64 = 200;
/// Commands that no host starts.
const PERSON_COMMANDS: [&str; 10] =
    ["client", CLIENT, "finish", "install", "login", "logout", "migrate", "status", "undo", "uninstall"];

impl ServerEntry {
    /// Whether the arguments are those of a connection, each of them one of the list.
    pub(super) fn can_connect(&self) -> bool {
        !self.in_one && self.faults.is_empty() && self.person_command().is_none()
    }

    /// The command for people that the arguments begin with.
    fn person_command(&self) -> Option<&'static str> {
        let first = self.own_arguments().first()?;
        PERSON_COMMANDS.into_iter().find(|command| first == command)
    }

    /// Whether the entry is meant to start this program, or the npm package of the same name.
    pub(super) fn is_ours(&self, terminal: &Terminal) -> bool {
        let name = stem(&self.command);
        let is_similar = || SIMILAR.iter().any(|similar| name.starts_with(similar)) && self.has_no_program(terminal);
        self.launch() != Launch::Other || is_similar()
    }

    /// Whether `command` does not name a program.
    pub(super) fn has_no_program(&self, terminal: &Terminal) -> bool {
        matches!(find(&self.command, terminal), Found::Missing | Found::Folder)
    }

    /// `command` and `args`, each as a member. A secret part of an argument is left out.
    fn members(&self, terminal: &Terminal) -> String {
        let is_program = self.launch() == Launch::Program && matches!(find(&self.command, terminal), Found::There);
        let command = if is_program { member(&self.command) } else { command_line() };
        let arguments = self.own_arguments();
        let url = arguments.iter().find_map(|word| reqwest::Url::parse(word).ok().filter(is_open));
        let url = Value::from(url.map_or_else(|| "SERVER-URL".to_owned(), |url| url.to_string()));
        let more = if arguments.len() > 1 { ", …" } else { "" };
        format!("{command}, \"args\": [{url}{more}]")
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

/// What else is to be known of an entry. `is_users` says that the file is the user's own.
///
/// A program in the file of a project is not run: a host does that only after the user trusts the project.
pub(super) fn remarks(place: &str, entry: &ServerEntry, is_users: bool) -> Vec<Finding> {
    let mut remarks = Vec::new();
    if entry.is_disabled {
        let text = format!("{place}: this entry is disabled in the host");
        remarks.push(Finding::info(DiagnosisStep::Host, text));
    }
    if is_users && let Some(version) = other_version(entry) {
        let own = env!("CARGO_PKG_VERSION");
        let text = format!("{place}: this entry starts mcp-remote {version}, and this is {own}");
        remarks.push(Finding::info(DiagnosisStep::Host, text).with_exact_action(format!("write {}", command_line())));
    }
    for (name, _) in entry.variables.iter().filter(|(_, value)| is_example(value)) {
        let text = format!("{place}: the value of {name} in \"env\" is still an example");
        remarks.push(Finding::warn(DiagnosisStep::Host, text, format!("write your own value for {name} into \"env\"")));
    }
    remarks
}

/// Returns the version of the program that an entry starts, if it is another one than this.
fn other_version(entry: &ServerEntry) -> Option<String> {
    let command = Path::new(&entry.command);
    if entry.launch() != Launch::Program || command == own_path() || !command.is_absolute() || is_script(command) {
        return None;
    }
    let shown = shown_version(command)?;
    let version = shown.trim().strip_prefix(NAME)?.trim();
    let is_version =
        version.starts_with(|first: char| first.is_ascii_digit()) && !version.contains(char::is_whitespace);
    (is_version && version != env!("CARGO_PKG_VERSION")).then(|| version.to_owned())
}

/// Runs a program with `--version`, and returns what it prints.
fn shown_version(command: &Path) -> Option<String> {
    let mut started = Command::new(command);
    started.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = started.spawn().ok()?;
    let out = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    // Ends with the program, whose output it reads.
    thread::spawn(move || {
        let mut text = String::new();
        _ = out.take(LONGEST_VERSION).read_to_string(&mut text);
        _ = sender.send(text);
    });
    let text = receiver.recv_timeout(VERSION_PATIENCE).ok();
    _ = child.kill(); // it has said what it has to say
    _ = child.wait();
    text
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
    let is_for_server = given.is_none_or(|(config, ..)| entry.is_for(config.server.url()));
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
    if let Some(fault) = entry.faults.first() {
        let (text, tip) = fault.words();
        return with_line(outcome, &text, tip.to_owned()).with_code(Code::BadEntry);
    }
    if entry.is_npm_package() {
        let tip = "change it: mcp-remote migrate".to_owned();
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
    if entry.launch() == Launch::Client {
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
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
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
}
