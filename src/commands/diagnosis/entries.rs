//! The settings of hosts, as far as they mention us: whether the command of an entry is there, and whether
//! the entry of this server has the arguments that were given here.
//!
//! The files and their shapes are those of Claude Desktop, Claude Code, Cursor, Windsurf, VS Code, Zed,
//! Gemini CLI, opencode, Cline and Copilot CLI; Codex (TOML) and goose (YAML) are only searched for our
//! name.
//!
//! # Invariants
//!
//! - Nothing is written.
//! - The value of an argument or a variable is not shown.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::printer::{DiagnosisStep, Finding, Outcome, Printer};
use crate::{
    cli::Terminal,
    config::Config,
    report::{
        Code, Report,
        catalogue::{ARGUMENTS_APART, LEAVE_OUT_NPX, MAKE_EXECUTABLE},
    },
};

/// Our name, in every way of starting us.
const NAME: &str = "mcp-remote";
/// Largest file that is read, in bytes: Claude Code keeps its history in the same one, some tens of MB.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Tells of every entry that is ours.
pub(super) fn check(config: &Config, terminal: &Terminal, printer: &mut Printer<'_>) -> io::Result<()> {
    let mut none = true;
    for (host, file) in files(terminal) {
        let here = format!("{host}, {}", file.display());
        let text = match read(&file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => {
                printer.print(Finding::info(DiagnosisStep::Host, format!("{here}: cannot be read: {error}")))?;
                continue;
            }
        };
        if !matches!(file.extension().and_then(OsStr::to_str), Some("json" | "jsonc")) {
            if text.contains(NAME) {
                none = false;
                printer.print(Finding::info(DiagnosisStep::Host, format!("{here}: mentions mcp-remote")))?;
            }
            continue;
        }
        let Ok(settings) = serde_json::from_str::<Value>(&plain_json(&text)) else {
            if text.contains(NAME) {
                none = false;
                let action = "correct the file; the host cannot read it either";
                printer.print(Finding::warn(
                    DiagnosisStep::Host,
                    format!("{here}: mentions mcp-remote and is no JSON"),
                    action,
                ))?;
            }
            continue;
        };
        // It reads JSON and nothing more.
        if host == "Claude Desktop"
            && text.contains(NAME)
            && serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')).is_err()
        {
            none = false;
            let text = format!("{here}: has comments or commas before a bracket, which this host does not read");
            printer.print(Finding::warn(DiagnosisStep::Host, text, "remove them from the file"))?;
        }
        let entries = entries(&settings);
        // Claude Code's file has what was talked about, too.
        if entries.is_empty() && host != "Claude Code" && text.contains(NAME) {
            none = false;
            printer.print(Finding::info(
                DiagnosisStep::Host,
                format!("{here}: mentions mcp-remote, but lists no servers"),
            ))?;
        }
        for (name, entry) in entries {
            if !entry.is_ours(config) {
                continue;
            }
            none = false;
            printer.print(judge(&format!("{here}, {name:?}"), &entry, config, terminal))?;
        }
    }
    if none {
        printer.print(Finding::skip(DiagnosisStep::Host, "no host's settings mention mcp-remote"))?;
    }
    Ok(())
}

/// The text of a file, and of nothing that is none: to open a pipe would wait for its other end.
fn read(file: &Path) -> io::Result<String> {
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut content = Vec::new();
    fs::File::open(file)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST / (1024 * 1024))));
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The files there may be: of the user, then of the project that is worked on here.
fn files(terminal: &Terminal) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    if let Some(settings) = &terminal.settings {
        files.push(("Claude Desktop", settings.join("Claude/claude_desktop_config.json")));
        files.push(("VS Code", settings.join("Code/User/mcp.json")));
        let cline = "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json";
        files.push(("Cline", settings.join(cline)));
        let zed = if cfg!(any(windows, target_os = "macos")) { "Zed/settings.json" } else { "zed/settings.json" };
        files.push(("Zed", settings.join(zed)));
        if cfg!(windows) {
            files.push(("goose", settings.join("Block/goose/config/config.yaml")));
        }
    }
    if let Some(home) = &terminal.home {
        for (host, file) in [
            ("Claude Code", ".claude.json"),
            ("Cursor", ".cursor/mcp.json"),
            ("Windsurf", ".codeium/windsurf/mcp_config.json"),
            ("Gemini CLI", ".gemini/settings.json"),
            ("opencode", ".config/opencode/opencode.jsonc"),
            ("opencode", ".config/opencode/opencode.json"),
            ("Copilot CLI", ".copilot/mcp-config.json"),
            ("Cline", ".cline/data/settings/cline_mcp_settings.json"),
            ("goose", ".config/goose/config.yaml"),
        ] {
            files.push((host, home.join(file)));
        }
        files.push(("Codex", terminal.codex.clone().unwrap_or_else(|| home.join(".codex")).join("config.toml")));
    }
    for (host, file) in [
        ("this project", ".mcp.json"),
        ("Cursor in this project", ".cursor/mcp.json"),
        ("VS Code in this project", ".vscode/mcp.json"),
        ("Zed in this project", ".zed/settings.json"),
        ("Gemini CLI in this project", ".gemini/settings.json"),
        ("Codex in this project", ".codex/config.toml"),
    ] {
        if let Ok(file) = std::path::absolute(file)
            && !files.iter().any(|(_, known)| *known == file)
        {
            files.push((host, file));
        }
    }
    files
}

/// A server in a host's settings.
#[derive(Debug)]
struct ServerEntry {
    command: String,
    arguments: Vec<String>,
    /// Whether its arguments are one text in the file, which no host takes apart.
    in_one: bool,
}

impl ServerEntry {
    /// A program that is started; `None` for a server that the host reaches by itself.
    fn of(entry: &Value) -> Option<Self> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        match &entry["command"] {
            // opencode: all in one.
            Value::Array(_) => {
                let mut words = texts(&entry["command"]);
                (!words.is_empty()).then(|| Self::apart(words.remove(0), words))
            }
            // Zed, until 2025.
            Value::Object(command) => Some(Self::apart(
                command.get("path")?.as_str()?.to_owned(),
                texts(command.get("args").unwrap_or(&Value::Null)),
            )),
            command => Some(match entry["args"].as_str() {
                Some(text) => Self { in_one: true, ..Self::apart(command.as_str()?.to_owned(), words(text)) },
                None => Self::apart(command.as_str()?.to_owned(), texts(&entry["args"])),
            }),
        }
    }

    /// What was written as one is judged by its words; a path may have blanks, so an address must be there.
    fn apart(command: String, arguments: Vec<String>) -> Self {
        let in_one = |text: &String| text.contains("://") && words(text).len() > 1;
        let begins = |text: &String| in_one(text) && words(text)[0].contains("://");
        if in_one(&command) {
            let mut all = words(&command);
            let command = all.remove(0);
            all.extend(arguments);
            return Self { command, arguments: all, in_one: true };
        }
        let in_one = arguments.iter().any(begins);
        let arguments = if in_one { arguments.iter().flat_map(|text| words(text)).collect() } else { arguments };
        Self { command, arguments, in_one }
    }

    fn is_ours(&self, config: &Config) -> bool {
        let named = |text: &str| {
            let name = text.rsplit(['/', '\\']).next().unwrap_or_default();
            !text.contains("://") && name.split('@').next().unwrap_or_default().trim_end_matches(".exe") == NAME
        };
        named(&self.command) || self.arguments.iter().any(|word| named(word)) || self.begins(config).is_some()
    }

    /// Where the arguments of ours begin, if the entry is of this very server.
    fn begins(&self, config: &Config) -> Option<usize> {
        let url = config.server.url();
        let is_it = |word: &String| reqwest::Url::parse(word).is_ok_and(|word| word == *url);
        self.arguments.iter().any(is_it).then(|| {
            let package = |word: &String| word.split('@').next() == Some(NAME);
            self.arguments.iter().position(package).map_or(0, |at| at + 1)
        })
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Everything below the keys under which hosts list servers.
fn entries(settings: &Value) -> Vec<(String, ServerEntry)> {
    const KEYS: [&str; 4] = ["mcpServers", "servers", "context_servers", "mcp"];
    let mut found = Vec::new();
    let mut collect = |scope: &Map<String, Value>| {
        for servers in KEYS.iter().filter_map(|key| scope.get(*key)?.as_object()) {
            found.extend(servers.iter().filter_map(|(name, entry)| Some((name.clone(), ServerEntry::of(entry)?))));
        }
    };
    let Some(all) = settings.as_object() else { return found };
    collect(all);
    // Claude Code keeps a list for each project.
    for project in all.get("projects").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        project.as_object().into_iter().for_each(&mut collect);
    }
    found
}

fn judge(here: &str, entry: &ServerEntry, config: &Config, terminal: &Terminal) -> Finding {
    let begins = entry.begins(config);
    let outcome = if begins.is_some() { Outcome::Fail } else { Outcome::Warn };
    let command = &entry.command;
    if entry.in_one {
        let text = format!("{here}: its arguments are one text");
        return Finding::report(DiagnosisStep::Host, outcome, Report::new(Code::BadEntry, text, Some(ARGUMENTS_APART)));
    }
    match find(command, terminal) {
        Found::Missing => {
            let text = format!("{here}: its command {command} is not there");
            return Finding::report(DiagnosisStep::Host, outcome, Report::new(Code::BadEntry, text, None));
        }
        Found::NotExecutable => {
            let text = format!("{here}: its command {command} cannot be executed");
            // Without its name, which may be anybody's.
            return Finding::report(
                DiagnosisStep::Host,
                outcome,
                Report::new(Code::BadEntry, text, Some(MAKE_EXECUTABLE)),
            );
        }
        Found::ByPath(path) => {
            let text = format!("{here}: a host may have another PATH than this terminal, and not find {command}");
            let action = format!("write the whole path into \"command\": {}", path.display());
            return Finding::warn(DiagnosisStep::Host, text, action);
        }
        Found::There => {}
    }
    let Some(begins) = begins else {
        return Finding::ok(DiagnosisStep::Host, format!("{here}: its command is there; it is for another server"));
    };
    let ours = Path::new(command).file_stem().is_some_and(|name| name == NAME);
    if ours && begins > 0 {
        let text = format!("{here}: its command is mcp-remote, which does not take npx's arguments");
        return Finding::report(DiagnosisStep::Host, outcome, Report::new(Code::BadEntry, text, Some(LEAVE_OUT_NPX)));
    }
    let differences = differences(&entry.arguments[begins..], terminal.arguments.expose());
    if differences.is_empty() {
        return Finding::ok(
            DiagnosisStep::Host,
            format!("{here}: its command is there, with the arguments given here"),
        );
    }
    let text = format!("{here}: is for this server with other arguments than here: {}", differences.join(", "));
    Finding::warn(DiagnosisStep::Host, text, "try it here with the very arguments of the entry")
}

enum Found {
    There,
    /// Only in a folder of this terminal's `PATH`.
    ByPath(PathBuf),
    NotExecutable,
    Missing,
}

fn find(command: &str, terminal: &Terminal) -> Found {
    let path = Path::new(command);
    if path.components().count() > 1 {
        return match (path.is_file(), is_executable(path)) {
            (true, true) => Found::There,
            (true, false) => Found::NotExecutable,
            (false, _) => Found::Missing,
        };
    }
    let folders = terminal.path.iter().flat_map(std::env::split_paths);
    let names = if cfg!(windows) {
        [".exe", ".cmd", ".bat", ""].map(|end| format!("{command}{end}")).to_vec()
    } else {
        vec![command.to_owned()]
    };
    let mut candidates = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>());
    candidates.find(|path| path.is_file() && is_executable(path)).map_or(Found::Missing, Found::ByPath)
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
    let mut told = Vec::new();
    for (name, values) in &there {
        match here.get(name) {
            None => told.push(format!("{name} is only there")),
            Some(others) if others != values => told.push(format!("{name} has another value")),
            Some(_) => {}
        }
    }
    told.extend(here.keys().filter(|name| !there.contains_key(*name)).map(|name| format!("{name} is only here")));
    told
}

/// Flags with their values, in any order; the words without a flag are the address and the port.
fn flags(words: &[String]) -> BTreeMap<&str, Vec<&str>> {
    const BARE: &str = "the address or the port";
    let mut flags = BTreeMap::<&str, Vec<&str>>::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            _ if !word.starts_with("--") => flags.entry(BARE).or_default().push(word),
            Some((name, value)) => flags.entry(name).or_default().push(value),
            None => {
                // What follows is its value, or the address, whose place is anywhere.
                let value = words.next_if(|next| !next.starts_with("--") && !next.contains("://"));
                flags.entry(word).or_default().extend(value.map(String::as_str));
            }
        }
    }
    flags
}

/// JSON without the comments and the commas at an end that editors allow.
fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('"', _) => {
                plain.push('"');
                while let Some(inner) = characters.next() {
                    plain.push(inner);
                    match inner {
                        '\\' => plain.extend(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ('/', Some('/')) => while characters.next_if(|next| *next != '\n').is_some() {},
            ('/', Some('*')) => {
                let mut last = ' ';
                characters.next();
                for next in characters.by_ref() {
                    if last == '*' && next == '/' {
                        break;
                    }
                    last = next;
                }
            }
            ('}' | ']', _) => {
                let end = plain.trim_end().len();
                if plain[..end].ends_with(',') {
                    plain.truncate(end - 1);
                }
                plain.push(character);
            }
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_removed() {
        let text = "\u{feff}{ // one\n \"a\": \"http://x/*y*/\\\"//\", /* two\n // */ \"b\": [1, 2,\n], }";
        let value: Value = serde_json::from_str(&plain_json(text)).unwrap();
        assert_eq!(value, serde_json::json!({"a": "http://x/*y*/\"//", "b": [1, 2]}));
    }

    #[test]
    fn arguments_differ_by_name_whatever_their_order() {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let there = words("https://a/mcp 3334 --header X:1 --transport=http-only --allow-http");
        let here = words("--allow-http https://a/mcp --transport http-only --header X:2 3334 --ipv4");
        assert_eq!(differences(&there, &here), ["--header has another value", "--ipv4 is only here"]);
        assert_eq!(differences(&there, &there), [""; 0]);
    }

    #[test]
    fn servers_are_found_where_each_host_keeps_them() {
        for settings in [
            r#"{"mcpServers":{"n":{"command":"c","args":["a"]}}}"#,
            r#"{"servers":{"n":{"type":"stdio","command":"c","args":["a"]}}}"#,
            r#"{"context_servers":{"n":{"command":{"path":"c","args":["a"]}}}}"#,
            r#"{"mcp":{"n":{"type":"local","command":["c","a"]}}}"#,
            r#"{"projects":{"/p":{"mcpServers":{"n":{"command":"c","args":["a"]}}}}}"#,
        ] {
            let found = entries(&serde_json::from_str(settings).unwrap());
            let [(name, ServerEntry { command, arguments, .. })] = &found[..] else { panic!("{settings}: {found:?}") };
            assert_eq!((name.as_str(), command.as_str(), arguments), ("n", "c", &vec!["a".to_owned()]), "{settings}");
        }
    }
}
