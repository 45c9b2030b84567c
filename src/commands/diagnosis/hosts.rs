//! The configuration files of hosts, as far as the diagnosis reports them: what is wrong with each, and the servers in it.
//!
//! # Invariants
//!
//! - Nothing is written.
//! - No text of a file is shown, except names of members and an escape that JSON does not have.

use std::{
    io,
    path::{Path, PathBuf},
};

use reqwest::Url;
use serde_json::{Map, Value};

use super::{
    entries::{command_line, judge, remarks},
    printer::{DiagnosisStep, Finding, Outcome, Printer},
};
use crate::{
    cli::Terminal,
    commands::install::Written,
    config::Config,
    hosts::{
        self, CLAUDE_CODE, CURSOR, Host, Syntax, VS_CODE, WINDSURF,
        entry::{ServerEntry, servers},
        file,
        launch::NAME,
        places::Scope,
        syntax::{self, Invalid},
    },
    report::Code,
    text,
};

/// Members of a file that are named where the servers are not.
const MOST_NAMES: usize = 5;
/// Members with which a host connects by itself.
const URL_MEMBERS: [&str; 4] = ["url", "serverUrl", "httpUrl", "uri"];

/// An entry of a host's settings.
#[derive(Debug)]
pub(super) struct Entry {
    /// The host's name for people.
    pub(super) host: &'static str,
    pub(super) file: PathBuf,
    pub(super) name: String,
    pub(super) server: ServerEntry,
    /// Whether the file is the user's, and not a project's.
    pub(super) is_users: bool,
}

impl Entry {
    /// Where the entry is.
    pub(super) fn place(&self) -> String {
        format!("{}, {}, {:?}", self.host, self.file.display(), self.name)
    }

    /// Which entry it is, on a line of a summary.
    pub(super) fn short(&self) -> String {
        format!("{}, {:?}", self.host, self.name)
    }
}

/// What the settings files of all hosts have.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// What is wrong with a file, or to be known of it.
    pub(super) findings: Vec<FileFinding>,
    /// Every server that a host starts as a program, this one or another.
    pub(super) entries: Vec<Entry>,
    /// Every server that a host does not start as a program.
    pub(super) others: Vec<OtherEntry>,
    /// The files that were read.
    pub(super) files: Vec<PathBuf>,
}

/// What is wrong with a file, or to be known of it.
#[derive(Debug)]
pub(super) struct FileFinding {
    /// The host's name for people.
    pub(super) host: String,
    pub(super) file: PathBuf,
    pub(super) finding: Finding,
    /// Whether this program does not know the servers in the file.
    pub(super) kind: FileKind,
}

impl FileFinding {
    /// An entry that mcp-remote has written, and that something else has removed.
    pub(super) fn gone(written: &Written) -> Self {
        let Written { host, file, name } = written;
        let text = format!(
            "{host}, {}: the entry {name:?} is gone, which mcp-remote wrote. A host that runs can drop changes of its file",
            file.display()
        );
        let tip = format!(
            "quit {host}, then type: mcp-remote install URL. If you removed the entry yourself, type: mcp-remote uninstall {name}"
        );
        let finding = Finding::warn(DiagnosisStep::Host, text, tip);
        Self { host: host.clone(), file: file.clone(), finding, kind: FileKind::Known }
    }
}

/// Whether the servers in a file are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// They are, or there are none.
    Known,
    /// The file cannot be read.
    Unreadable,
    /// It mentions this program, in a format that this program does not read.
    Foreign,
}

/// An entry without a program.
#[derive(Debug)]
pub(super) struct OtherEntry {
    pub(super) name: String,
    /// What is there instead.
    pub(super) text: String,
    /// What to write.
    pub(super) tip: String,
}

impl Settings {
    /// Reads the files of all hosts. If only one `url` matters, a file without it does not fail.
    pub(super) fn read(terminal: &Terminal, url: Option<&Url>) -> Self {
        let mut settings = Self::default();
        for hosts::places::HostFile { host, path: file, scope, .. } in terminal.places.files() {
            let text = match file::read(&file) {
                Ok(bytes) => {
                    if let Some(text) = file::utf16(&bytes) {
                        let outcome = if text.contains(NAME) { Outcome::Fail } else { Outcome::Info };
                        let tip = Some("save it as UTF-8".to_owned());
                        let text = "is text in UTF-16, which hosts do not read";
                        settings.add(host, &file, outcome, text, tip, FileKind::Unreadable);
                        continue;
                    }
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => {
                    let text = format!("cannot read this file: {}", text::chain(&error));
                    settings.add(host, &file, Outcome::Info, &text, None, FileKind::Unreadable);
                    continue;
                }
            };
            if scope == Scope::Unread {
                settings.unread(host, &file, &text);
                continue;
            }
            settings.take(host, &file, scope == Scope::User, &text, url);
            if host.syntax != Syntax::Yaml {
                settings.files.push(file);
            }
        }
        settings
    }

    fn add(&mut self, host: Host, file: &Path, outcome: Outcome, text: &str, tip: Option<String>, kind: FileKind) {
        let text = format!("{}, {}: {text}", host.name, file.display());
        let finding = Finding::new(DiagnosisStep::Host, outcome, text).with_action(tip);
        let is_bad = matches!(outcome, Outcome::Fail | Outcome::Warn);
        let finding = if is_bad { finding.with_code(Code::BadEntry) } else { finding };
        self.findings.push(FileFinding { host: host.name.to_owned(), file: file.to_owned(), finding, kind });
    }

    /// Reports a file that has an entry, and that its host does not read.
    fn unread(&mut self, host: Host, file: &Path, text: &str) {
        if !text.contains(NAME) {
            return;
        }
        let text = "has an entry for mcp-remote, but Claude Desktop does not read this file. It is a Windows package, \
                    and reads the file of that name below LocalCache";
        let tip = "write the entry into the other file: mcp-remote install URL --host claude-desktop".to_owned();
        self.add(host, file, Outcome::Warn, text, Some(tip), FileKind::Known);
    }

    fn take(&mut self, host: Host, file: &Path, is_users: bool, text: &str, url: Option<&Url>) {
        let bad = if url.is_none_or(|url| names(text, url)) { Outcome::Fail } else { Outcome::Warn };
        // A file of settings and history may speak of this program without starting it.
        let is_concerned = text.contains(NAME) || host.is_only_servers && text.contains("\"command\"");
        if host.syntax == Syntax::Yaml {
            if is_concerned {
                let tip = "give the server URL and the flags of the entry: mcp-remote client URL".to_owned();
                let text = "mentions mcp-remote, but mcp-remote client does not read this format";
                self.add(host, file, Outcome::Info, text, Some(tip), FileKind::Foreign);
            }
            return;
        }
        let text = text::without_mark(text);
        let value = match syntax::parse(text, host.syntax) {
            Ok(value) => value,
            // An empty file has no servers.
            Err(_) if text.trim().is_empty() => return,
            Err(Invalid { line, column, reason, tip }) => {
                let text = format!("line {line}, column {column}: {reason}");
                return self.add(host, file, bad, &text, Some(tip), FileKind::Unreadable);
            }
        };
        match servers(&host, &value) {
            Some(servers) => {
                for located in servers {
                    let name = located.name().to_owned();
                    match ServerEntry::of(located.value) {
                        Some(server) => {
                            self.entries.push(Entry { host: host.name, file: file.to_owned(), name, server, is_users })
                        }
                        None => self.others.push(OtherEntry::of(host, file, name, located.value)),
                    }
                }
            }
            None if is_concerned && host.name != CLAUDE_CODE.name => {
                let text = format!("has no {:?} object. In its place is {}", host.key, instead(&value, host.key));
                let tip = format!(r#"put the servers into {{"{}": {{"NAME": {{"command": …}}}}}}"#, host.key);
                self.add(host, file, bad, &text, Some(tip), FileKind::Unreadable);
            }
            None if host.is_only_servers => {
                let text = format!("has no {:?} object, so it has no servers", host.key);
                self.add(host, file, Outcome::Info, &text, None, FileKind::Known);
            }
            None => {}
        }
    }
}

impl OtherEntry {
    fn of(host: Host, file: &Path, name: String, entry: &Value) -> Self {
        let place = format!("{}, {}, {name:?}", host.name, file.display());
        if let Some(url) = URL_MEMBERS.iter().find(|member| entry[**member].is_string()) {
            let text = format!("{place} has {url:?}, so the host connects by itself, without mcp-remote");
            let tip = format!("to use mcp-remote, replace {url:?} with {}, \"args\": [\"SERVER-URL\"]", command_line());
            return Self { name, text, tip };
        }
        let members = entry.as_object().into_iter().flat_map(Map::keys).take(MOST_NAMES);
        let members: Vec<_> = members.map(|member| format!("{member:?}")).collect();
        let members = if members.is_empty() { String::new() } else { format!(" (it has {})", members.join(", ")) };
        let text = format!("{place} has no \"command\"{members}");
        Self { name, text, tip: format!("write {}", command_line()) }
    }
}

/// Whether a text has this URL, and not only a longer one.
fn names(text: &str, url: &Url) -> bool {
    let url = url.as_str().trim_end_matches('/');
    let ends = |rest: &str| {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || "/?#-._~%&=:@+".contains(next))
    };
    text.match_indices(url).any(|(at, _)| ends(&text[at + url.len()..]))
}

/// Prints what is wrong with the settings of hosts, and with every entry that starts this program.
pub(super) fn check(config: &Config, terminal: &Terminal, printer: &mut Printer<'_>) -> io::Result<()> {
    let Settings { findings, entries, .. } = Settings::read(terminal, Some(config.server.url()));
    let mut is_mentioned = false;
    for FileFinding { finding, .. } in findings {
        is_mentioned |= finding.outcome() != Outcome::Info;
        printer.print(finding)?;
    }
    for entry in entries.iter().filter(|entry| entry.server.is_ours(terminal)) {
        is_mentioned = true;
        let arguments = terminal.arguments.expose();
        printer.print(judge(&entry.place(), &entry.server, Some((config, arguments, &entry.name)), terminal))?;
        if entry.server.is_for(config.server.url()) {
            remarks(&entry.place(), &entry.server, entry.is_users)
                .into_iter()
                .try_for_each(|remark| printer.print(remark))?;
        }
    }
    if !is_mentioned {
        printer.print(Finding::skip(DiagnosisStep::Host, "no entry of a host starts mcp-remote"))?;
    }
    Ok(())
}

/// Returns what a file has in the place of its servers, by the names of its members.
fn instead(value: &Value, key: &str) -> String {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    match value {
        Value::Object(members) => match members.get(key) {
            Some(other) => format!("{} of that name", kind(other)),
            None if members.is_empty() => "nothing".to_owned(),
            None => {
                let names: Vec<_> = members.keys().take(MOST_NAMES).map(|name| format!("{name:?}")).collect();
                let more = if members.len() > MOST_NAMES { ", …" } else { "" };
                format!("{}{more}", names.join(", "))
            }
        },
        other => format!("{} instead of a JSON object", kind(other)),
    }
}

/// Whether a host replaces `${env:NAME}`.
fn has_variables(host: &str) -> bool {
    [VS_CODE.name, "VSCodium", CURSOR.name, WINDSURF.name].iter().any(|name| host.starts_with(name))
}

/// Returns the names in `${env:NAME}`, where a host replaces that.
pub(super) fn variables_of_host<'a>(host: &str, text: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = text.split("${env:").skip(if has_variables(host) { 1 } else { usize::MAX });
    parts.filter_map(|part| Some(part.split_once('}')?.0))
}

/// Replaces `${env:NAME}` where a host does that.
pub(super) fn expanded(host: &str, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> String {
    let replaces = has_variables(host);
    let mut parts = text.split("${env:");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((name, rest)) if replaces => {
                whole.push_str(&environment(name).unwrap_or_default());
                whole.push_str(rest);
            }
            _ => {
                whole.push_str("${env:");
                whole.push_str(part);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_that_replaces_variables_is_imitated() {
        let environment = |name: &str| (name == "KEY").then(|| "k".to_owned());
        for (host, expected) in [("Cursor", "a k b "), ("Claude Desktop", "a ${env:KEY} b ${env:NO}")] {
            assert_eq!(expanded(host, "a ${env:KEY} b ${env:NO}", &environment), expected);
        }
    }
}
