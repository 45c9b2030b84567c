//! The configuration files of hosts: where they are, what is wrong with them, and the servers in them.
//!
//! The files and their shapes are those of Claude Desktop, Claude Code, Cursor, Windsurf, VS Code, Zed, Gemini CLI, opencode,
//! Cline and Copilot CLI. Codex (TOML) and goose (YAML) are only searched for the name of this program.
//!
//! # Invariants
//!
//! - Nothing is written.
//! - No text of a file is shown, except names of members and an escape that JSON does not have.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use jsonc_parser::{
    CollectOptions, ParseOptions, ParseStringErrorKind,
    errors::{ParseError, ParseErrorKind},
    parse_to_ast,
};
use reqwest::Url;
use serde_json::{Map, Value};

use super::{
    entries::{NAME, ServerEntry, command_line, judge, remarks},
    printer::{DiagnosisStep, Finding, Outcome, Printer},
};
use crate::{cli::Terminal, config::Config, report::Code, text};

/// Largest file that is read, in bytes: Claude Code keeps its history in the same one, some tens of MB.
const LARGEST: u64 = 64 * 1024 * 1024;
/// Members of a file that are named where the servers are not.
const MOST_NAMES: usize = 5;
/// Members with which a host connects by itself.
const URL_MEMBERS: [&str; 4] = ["url", "serverUrl", "httpUrl", "uri"];

/// What a host reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// JSON (RFC 8259).
    Json,
    /// JSON with comments.
    Comments,
    /// JSON with comments and with commas before a closing bracket.
    Jsonc,
    /// TOML or YAML, which this program does not read.
    Other,
}

/// A host, as far as its settings file matters.
#[derive(Clone, Copy, Debug)]
struct Host {
    name: &'static str,
    syntax: Syntax,
    /// The member that has the servers.
    key: &'static str,
    /// Whether the file is for nothing but servers.
    is_only_servers: bool,
}

const fn host(name: &'static str, syntax: Syntax, key: &'static str, is_only_servers: bool) -> Host {
    Host { name, syntax, key, is_only_servers }
}

const MCP_SERVERS: &str = "mcpServers";
const CLAUDE_DESKTOP: Host = host("Claude Desktop", Syntax::Json, MCP_SERVERS, false);
const CLAUDE_CODE: Host = host("Claude Code", Syntax::Json, MCP_SERVERS, false);
const PROJECT: Host = host("this project", Syntax::Json, MCP_SERVERS, true);
const CURSOR: Host = host("Cursor", Syntax::Json, MCP_SERVERS, true);
const WINDSURF: Host = host("Windsurf", Syntax::Json, MCP_SERVERS, true);
const VS_CODE: Host = host("VS Code", Syntax::Jsonc, "servers", true);
const ZED: Host = host("Zed", Syntax::Jsonc, "context_servers", false);
const GEMINI: Host = host("Gemini CLI", Syntax::Comments, MCP_SERVERS, false);
const OPENCODE: Host = host("opencode", Syntax::Jsonc, "mcp", false);
const CLINE: Host = host("Cline", Syntax::Json, MCP_SERVERS, true);
const COPILOT: Host = host("Copilot CLI", Syntax::Jsonc, MCP_SERVERS, true);
const CODEX: Host = host("Codex", Syntax::Other, "mcp_servers", false);
const GOOSE: Host = host("goose", Syntax::Other, "extensions", false);

impl Host {
    const fn here(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

/// An entry of a host's settings.
#[derive(Debug)]
pub(super) struct Entry {
    /// The host's name for people.
    pub(super) host: &'static str,
    pub(super) file: PathBuf,
    pub(super) name: String,
    pub(super) server: ServerEntry,
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
    pub(super) host: &'static str,
    pub(super) finding: Finding,
    /// Whether this program does not know the servers in the file.
    pub(super) kind: FileKind,
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
        for (host, file) in files(terminal) {
            let text = match read(&file) {
                Ok(text) => text,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => {
                    let text = format!("cannot read this file: {}", text::chain(&error));
                    settings.add(host, &file, Outcome::Info, &text, None, FileKind::Unreadable);
                    continue;
                }
            };
            settings.take(host, &file, &text, url);
            if host.syntax != Syntax::Other {
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
        self.findings.push(FileFinding { host: host.name, finding, kind });
    }

    fn take(&mut self, host: Host, file: &Path, text: &str, url: Option<&Url>) {
        let bad = if url.is_none_or(|url| names(text, url)) { Outcome::Fail } else { Outcome::Warn };
        // A file of settings and history may speak of this program without starting it.
        let is_concerned = text.contains(NAME) || host.is_only_servers && text.contains("\"command\"");
        if host.syntax == Syntax::Other {
            if is_concerned {
                let tip = "give the server URL and the flags of the entry: mcp-remote client URL".to_owned();
                let text = "mentions mcp-remote, but mcp-remote client does not read this format";
                self.add(host, file, Outcome::Info, text, Some(tip), FileKind::Foreign);
            }
            return;
        }
        let text = text.trim_start_matches('\u{feff}');
        let value = match parse(text, host.syntax) {
            Ok(value) => value,
            // An empty file has no servers.
            Err(_) if text.trim().is_empty() => return,
            Err(Invalid { line, column, reason, tip }) => {
                let text = format!("line {line}, column {column}: {reason}");
                return self.add(host, file, bad, &text, Some(tip), FileKind::Unreadable);
            }
        };
        let servers = entries(&value, host.key);
        match servers {
            Some(servers) => {
                for (name, entry) in servers {
                    match ServerEntry::of(entry) {
                        Some(server) => {
                            self.entries.push(Entry { host: host.name, file: file.to_owned(), name, server })
                        }
                        None => self.others.push(OtherEntry::of(host, file, name, entry)),
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
        if entry.server.is_for(config) {
            remarks(&entry.place(), &entry.server).into_iter().try_for_each(|remark| printer.print(remark))?;
        }
    }
    if !is_mentioned {
        printer.print(Finding::skip(DiagnosisStep::Host, "no entry of a host starts mcp-remote"))?;
    }
    Ok(())
}

/// Returns the text of a regular file: to open a pipe would wait for its other end.
fn read(file: &Path) -> io::Result<String> {
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    fs::File::open(file)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST / (1024 * 1024))));
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The files there may be: of the user, then of the project in the current folder.
fn files(terminal: &Terminal) -> Vec<(Host, PathBuf)> {
    let mut files = Vec::new();
    if let Some(settings) = &terminal.settings {
        files.push((CLAUDE_DESKTOP, settings.join("Claude/claude_desktop_config.json")));
        files.push((VS_CODE, settings.join("Code/User/mcp.json")));
        let cline = "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json";
        files.push((CLINE, settings.join(cline)));
        let zed = if cfg!(any(windows, target_os = "macos")) { "Zed/settings.json" } else { "zed/settings.json" };
        files.push((ZED, settings.join(zed)));
        if cfg!(windows) {
            files.push((GOOSE, settings.join("Block/goose/config/config.yaml")));
        }
    }
    if let Some(home) = &terminal.home {
        for (host, file) in [
            (CLAUDE_CODE, ".claude.json"),
            (CURSOR, ".cursor/mcp.json"),
            (WINDSURF, ".codeium/windsurf/mcp_config.json"),
            (GEMINI, ".gemini/settings.json"),
            (OPENCODE, ".config/opencode/opencode.jsonc"),
            (OPENCODE, ".config/opencode/opencode.json"),
            (COPILOT, ".copilot/mcp-config.json"),
            (CLINE, ".cline/data/settings/cline_mcp_settings.json"),
            (GOOSE, ".config/goose/config.yaml"),
        ] {
            files.push((host, home.join(file)));
        }
        files.push((CODEX, terminal.codex.clone().unwrap_or_else(|| home.join(".codex")).join("config.toml")));
    }
    for (host, file) in [
        (PROJECT, ".mcp.json"),
        (CURSOR.here("Cursor in this project"), ".cursor/mcp.json"),
        (VS_CODE.here("VS Code in this project"), ".vscode/mcp.json"),
        (ZED.here("Zed in this project"), ".zed/settings.json"),
        (GEMINI.here("Gemini CLI in this project"), ".gemini/settings.json"),
        (CODEX.here("Codex in this project"), ".codex/config.toml"),
    ] {
        if let Ok(file) = std::path::absolute(file)
            && !files.iter().any(|(_, known)| *known == file)
        {
            files.push((host, file));
        }
    }
    files
}

/// Why a file is not what its host reads.
#[derive(Debug)]
struct Invalid {
    line: usize,
    column: usize,
    reason: String,
    tip: String,
}

fn parse(text: &str, syntax: Syntax) -> Result<Value, Invalid> {
    let options = ParseOptions {
        allow_comments: syntax != Syntax::Json,
        allow_trailing_commas: syntax == Syntax::Jsonc,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| invalid(text, &error))?;
    let value = parsed.value.map_or(Value::Null, Value::from);
    match serde_json::from_str::<Value>(text) {
        // What the other parser accepts and JSON does not have.
        Err(error) if syntax == Syntax::Json => {
            let reason = if error.to_string().starts_with("control character") {
                "a line break or a tab inside a string"
            } else {
                "the text here is not JSON"
            };
            let tip = "correct the file at that place".to_owned();
            Err(Invalid { line: error.line(), column: error.column(), reason: reason.to_owned(), tip })
        }
        _ => Ok(value),
    }
}

/// Returns the place and the reason in plain words.
fn invalid(text: &str, error: &ParseError) -> Invalid {
    use ParseErrorKind as Kind;
    let (line, column) = (error.line_display(), error.column_display());
    let at = |reason: &str, tip: &str| Invalid { line, column, reason: reason.to_owned(), tip: tip.to_owned() };
    match error.kind() {
        Kind::CommentsNotAllowed => at("a comment, which this host does not accept", "remove the comment"),
        Kind::TrailingCommasNotAllowed => {
            at("a comma before a closing bracket, which this host does not accept", "remove the comma")
        }
        Kind::ExpectedComma => at("a comma is missing here", "write a comma there"),
        Kind::ExpectedColonAfterObjectKey => at("a colon is missing after a name", "write a colon there"),
        Kind::ExpectedObjectValue => at("a value is missing after a colon", "write the value there"),
        Kind::ExpectedStringObjectProperty | Kind::UnexpectedTokenInObject => {
            at("a name in double quotes is missing", "write the name in double quotes")
        }
        Kind::SingleQuotedStringsNotAllowed => {
            at("single quotes, which JSON does not have", "write double quotes instead")
        }
        Kind::String(ParseStringErrorKind::UnterminatedStringLiteral) => {
            at("a string has no closing quote", "write the closing quote")
        }
        Kind::String(_) => bad_escape(text, error),
        Kind::UnterminatedObject => at("a closing } is missing for this {", "write the closing }"),
        Kind::UnterminatedArray => at("a closing ] is missing for this [", "write the closing ]"),
        Kind::UnterminatedCommentBlock => at("a comment has no end", "write */ at its end"),
        Kind::UnexpectedCloseBrace | Kind::UnexpectedCloseBracket => {
            at("a closing bracket in the wrong place", "check the brackets and the values before it")
        }
        Kind::UnexpectedComma => at("a comma with no value before it", "remove the comma"),
        Kind::UnexpectedColon => at("a colon in the wrong place", "remove the colon"),
        Kind::UnexpectedToken if text[error.range().start..].starts_with(['“', '”', '„']) => {
            at("curly quotes, which JSON does not have", "write straight double quotes instead: \"")
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken => {
            at("text without double quotes", "write the text in double quotes")
        }
        Kind::MultipleRootJsonValues => {
            at("text after the end of the JSON value", "put everything into one pair of { and }")
        }
        _ => at("the text here is not JSON", "correct the file at that place"),
    }
}

/// Windows paths are the common case: `\U` of `C:\Users`.
fn bad_escape(text: &str, error: &ParseError) -> Invalid {
    // The parser names the escape, or the string that it is in.
    let begin = error.range().start.min(text.len());
    let rest = text.get(begin..).unwrap_or_default();
    let (skipped, escape) = first_bad_escape(rest);
    let before = &text[..begin + skipped];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let reason = format!("{escape} is not an escape that JSON has");
    let tip = format!(r#"write each backslash of a path twice: \{escape} instead of {escape}, as in "C:\\Users\\…""#);
    Invalid { line, column, reason, tip }
}

/// Returns where the first escape begins that JSON (RFC 8259 §7) does not have, and its backslash and letter.
fn first_bad_escape(text: &str) -> (usize, String) {
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let start = at + found;
        let mut after = text[start + 1..].chars();
        let Some(letter) = after.next() else { break };
        let is_known = match letter {
            'u' => after.clone().take(4).filter(char::is_ascii_hexdigit).count() == 4,
            _ => r#""\/bfnrt"#.contains(letter),
        };
        if !is_known {
            return (start, format!("\\{letter}"));
        }
        at = start + 1 + letter.len_utf8();
    }
    (0, "\\".to_owned())
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

/// Everything below the key under which a host lists servers; `None` if there is no such object.
fn entries<'a>(settings: &'a Value, key: &str) -> Option<Vec<(String, &'a Value)>> {
    let all = settings.as_object()?;
    // Claude Code keeps a list for each project.
    let projects = all.get("projects").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let scopes = std::iter::once(all).chain(projects.filter_map(Value::as_object));
    let lists: Vec<_> = scopes.filter_map(|scope| scope.get(key)?.as_object()).collect();
    if lists.is_empty() {
        return None;
    }
    Some(lists.into_iter().flatten().map(|(name, entry)| (name.clone(), entry)).collect())
}

/// Whether a host replaces `${env:NAME}`.
fn has_variables(host: &str) -> bool {
    [VS_CODE.name, CURSOR.name, WINDSURF.name].iter().any(|name| host.starts_with(name))
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
    fn syntax_accepts_what_its_host_reads() {
        let comment = "\u{feff}{ // one\n \"a\": \"http://x/*y*/\\\"//\", /* two\n // */ \"b\": [1, 2]}";
        let comma = r#"{"a": [1, 2,],}"#;
        let parse = |text: &str, syntax| parse(text.trim_start_matches('\u{feff}'), syntax);
        let expected = serde_json::json!({"a": "http://x/*y*/\"//", "b": [1, 2]});
        assert_eq!(parse(comment, Syntax::Jsonc).unwrap(), expected);
        assert_eq!(parse(comment, Syntax::Comments).unwrap(), expected);
        assert_eq!(parse(comma, Syntax::Jsonc).unwrap(), serde_json::json!({"a": [1, 2]}));
        for (text, syntax) in [(comment, Syntax::Json), (comma, Syntax::Json), (comma, Syntax::Comments)] {
            assert!(parse(text, syntax).unwrap_err().reason.ends_with("which this host does not accept"), "{text}");
        }
    }

    #[test]
    fn invalid_json_has_place_and_reason() {
        for (text, line, column, reason, tip) in [
            ("{\n  \"a\": 1,\n}", 2, 9, "a comma before a closing bracket", "remove the comma"),
            ("{\n  // b\n}", 2, 3, "a comment, which", "remove the comment"),
            ("{\"a\": 1\n \"b\": 2}", 1, 8, "a comma is missing", "write a comma"),
            ("{\"a\" 1}", 1, 6, "a colon is missing", "write a colon"),
            ("{'a': 1}", 1, 2, "single quotes", "double quotes"),
            ("{\"a\": [1}", 1, 9, "a closing bracket in the wrong place", "brackets"),
            ("{\"a\": b}", 1, 7, "text without double quotes", "in double quotes"),
            ("{\"a\": “b”}", 1, 7, "curly quotes", "straight double quotes"),
            ("{\"a\": {\"b\": 1}", 1, 1, "a closing } is missing", "write the closing }"),
            ("{\"a\": \"b}", 1, 7, "a string has no closing quote", "closing quote"),
            ("{\"a\": \"b\tc\"}", 1, 9, "a line break or a tab inside a string", "correct"),
            ("{\"a\": 1} {}", 1, 10, "text after the end", "one pair"),
            (
                "{\n \"command\": \"C:\\\\x\\Users\\me\"}",
                2,
                19,
                r"\U is not an escape that JSON has",
                r#"write each backslash of a path twice: \\U instead of \U, as in "C:\\Users\\…""#,
            ),
            ("{\"a\": \"C:\\new\\users\"}", 1, 14, r"\u is not an escape", r"\\u instead of \u"),
        ] {
            let invalid = parse(text, Syntax::Json).unwrap_err();
            assert_eq!((invalid.line, invalid.column), (line, column), "{text}: {}", invalid.reason);
            assert!(invalid.reason.contains(reason) && invalid.tip.contains(tip), "{text}: {invalid:?}");
        }
    }

    #[test]
    fn servers_are_found_where_each_host_keeps_them() {
        for (key, settings) in [
            ("mcpServers", r#"{"mcpServers":{"n":{"command":"c","args":["a"]}}}"#),
            ("servers", r#"{"servers":{"n":{"type":"stdio","command":"c","args":["a"]}}}"#),
            ("context_servers", r#"{"context_servers":{"n":{"command":{"path":"c","args":["a"]}}}}"#),
            ("mcp", r#"{"mcp":{"n":{"type":"local","command":["c","a"]}}}"#),
            ("mcpServers", r#"{"projects":{"/p":{"mcpServers":{"n":{"command":"c","args":["a"]}}}}}"#),
        ] {
            let settings: Value = serde_json::from_str(settings).unwrap();
            let found = entries(&settings, key).unwrap();
            let [(name, server)] = &found[..] else { panic!("{settings}: {found:?}") };
            let server = ServerEntry::of(server).unwrap();
            let words = (name.as_str(), server.command(), server.arguments());
            assert_eq!(words, ("n", "c", &["a".to_owned()][..]), "{settings}");
            assert!(entries(&settings, "other").is_none());
        }
    }

    #[test]
    fn host_that_replaces_variables_is_imitated() {
        let environment = |name: &str| (name == "KEY").then(|| "k".to_owned());
        for (host, expected) in [("Cursor", "a k b "), ("Claude Desktop", "a ${env:KEY} b ${env:NO}")] {
            assert_eq!(expanded(host, "a ${env:KEY} b ${env:NO}", &environment), expected);
        }
    }
}
