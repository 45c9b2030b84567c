//! What a command would change in one file: a new text, a command of Claude Code, or what to do by hand.
//!
//! # Invariants
//!
//! - Nothing is written here.

use std::{ffi::OsString, io, path::Path};

use serde_json::{Map, Value};

use super::{
    World, claude_code,
    difference::{self, Line},
    has_own_command, is_only_shown,
    new_entry::{json, members, name_of, snippet},
    program::LastingProgram,
    warning,
};
use crate::{
    cli::{self, EntryChange, Install, Program, Which},
    hosts::{
        Syntax,
        edit::{self, Change, Refusal, apply},
        entry::{Located, ServerEntry, servers},
        file::{self, Content},
        launch::{Launch, NAME, is_script},
        places::{HostFile, Scope},
        syntax,
    },
    text::{is_key, without_mark},
};

/// What is to be done with one file.
#[derive(Debug)]
pub(super) enum Plan {
    /// Its text changes.
    Edit(Planned),
    /// Claude Code changes it.
    ClaudeCode(HostFile, claude_code::Step),
    /// Nothing, for this reason.
    Same(HostFile, String),
    /// Nothing, although there is something to change, for this reason.
    Refused(HostFile, String),
    /// The user changes it, for this reason. The text to write follows.
    ByHand(HostFile, String, String),
    /// Nothing, because no entry that should change can.
    Left(Planned),
}

/// An entry that stays as it is, although it should change.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) name: String,
    pub(super) reason: String,
    /// What the user writes into the entry. Empty if that is not known.
    pub(super) text: String,
}

impl Left {
    fn new(name: &str, reason: impl Into<String>) -> Self {
        Self { name: name.to_owned(), reason: reason.into(), text: String::new() }
    }
}

/// A change of one entry, and how it is called.
struct Wanted {
    what: &'static str,
    name: String,
    change: Change,
}

/// A change of a file's text.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) file: HostFile,
    /// What happens, as a verb and the names.
    pub(super) what: Vec<String>,
    pub(super) content: Content,
    pub(super) new: String,
    /// The lines that change, one entry after the other.
    pub(super) lines: Vec<Line>,
    /// What must not be shown of the text.
    pub(super) secrets: Vec<String>,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    /// What else is to be known, before and after.
    pub(super) remarks: Vec<String>,
    pub(super) left: Vec<Left>,
}

/// A file with its servers.
struct Read {
    file: HostFile,
    content: Content,
    root: Value,
}

impl Read {
    /// Reads a file, or says why it is left.
    fn new(file: &HostFile) -> Result<Self, String> {
        let content = file::open(&file.path).map_err(|error| format!("cannot change this file: {error}"))?;
        let text = content.text().map_err(|error| format!("cannot change this file: {error}"))?;
        let text = without_mark(text);
        let root = match file.host.syntax {
            _ if text.trim().is_empty() => Value::Object(Map::new()),
            Syntax::Yaml => Value::Null,
            syntax => match syntax::parse(text, syntax) {
                Ok(root) => root,
                Err(invalid) => {
                    let (line, column, reason) = (invalid.line, invalid.column, invalid.reason);
                    let text = format!("cannot change this file: line {line}, column {column}: {reason}");
                    return Err(format!("{text} ({})", invalid.tip));
                }
            },
        };
        Ok(Self { file: file.clone(), content, root })
    }

    fn servers(&self) -> Vec<Located<'_>> {
        servers(&self.file.host, &self.root).unwrap_or_default()
    }

    /// Returns the name on this path of which there are several, because the host reads only the last one.
    fn repeated<'a>(&self, path: &'a [String]) -> Option<&'a str> {
        edit::repeated(self.content.text().unwrap_or_default(), &self.file.host, path)
    }

    /// Applies changes one after the other. Returns those that are not possible, too.
    fn plan(&self, changes: Vec<Wanted>) -> (Planned, Vec<(Wanted, Refusal)>) {
        let mut text = self.content.text().unwrap_or_default().to_owned();
        let secrets = secrets(&self.root, &self.servers());
        let mut planned = Planned {
            what: Vec::new(),
            new: String::new(),
            lines: Vec::new(),
            secrets,
            added: Vec::new(),
            removed: Vec::new(),
            remarks: Vec::new(),
            left: Vec::new(),
            content: self.content.clone(),
            file: self.file.clone(),
        };
        let mut refused = Vec::new();
        for wanted in changes {
            let new = match apply(&text, &planned.file.host, &wanted.change) {
                Ok(new) => new,
                Err(refusal) => {
                    refused.push((wanted, refusal));
                    continue;
                }
            };
            planned.what.push(format!("{} {:?}", wanted.what, wanted.name));
            match wanted.change {
                Change::Remove { .. } => planned.removed.push(wanted.name),
                Change::Add { .. } | Change::Start { .. } => planned.added.push(wanted.name),
            }
            planned.lines.extend(difference::lines(&text, &new));
            text = new;
        }
        planned.new = text;
        (planned, refused)
    }
}

impl Planned {
    /// Returns the plan: to write the file, or to leave it.
    fn or_left(self) -> Plan {
        if self.what.is_empty() { Plan::Left(self) } else { Plan::Edit(self) }
    }
}

/// Returns the texts of a file that are not shown: all but what an entry starts, flags, and URLs without a secret.
fn secrets(root: &Value, servers: &[Located<'_>]) -> Vec<String> {
    let mut secrets = Vec::new();
    let shown: Vec<&Value> = servers
        .iter()
        .flat_map(|located| {
            let command = &located.value["command"];
            [command, &located.value["args"], &command["path"], &command["args"]]
        })
        .collect();
    texts(root, &shown, &mut secrets);
    for entry in servers.iter().filter_map(|located| ServerEntry::of(located.value)) {
        secrets.extend(entry.variables.values().cloned());
        secrets.extend(entry.own_arguments().iter().flat_map(|word| hidden(word)));
    }
    // The name of this program is in every line that is shown.
    secrets.retain(|text| !NAME.contains(text.as_str()));
    // As it stands in the file, too.
    let escaped: Vec<_> = secrets.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    secrets.extend(escaped.into_iter().map(|text| text[1..text.len() - 1].to_owned()));
    secrets
}

/// Collects every string of a value, but for what is shown and for the kind of an entry.
fn texts(value: &Value, shown: &[&Value], found: &mut Vec<String>) {
    if shown.iter().any(|shown| std::ptr::eq(*shown, value)) {
        return;
    }
    match value {
        Value::String(text) => match of_url(text) {
            Some(parts) => found.extend(parts),
            None => found.push(text.clone()),
        },
        Value::Array(items) => items.iter().for_each(|item| texts(item, shown, found)),
        Value::Object(members) => {
            let members = members.iter().filter(|(name, _)| !["type", "source", "command"].contains(&name.as_str()));
            members.for_each(|(_, member)| texts(member, shown, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns what of a URL may be secret; `None` if the text is not a URL.
fn of_url(text: &str) -> Option<Vec<String>> {
    let url = reqwest::Url::parse(text).ok().filter(reqwest::Url::has_host)?;
    let parts = [url.query(), url.fragment(), url.password()].into_iter().flatten();
    let keys = url.path().split('/').filter(|part| is_key(part));
    Some(parts.chain(keys).map(ToOwned::to_owned).collect())
}

/// Returns what of an argument is not shown: the value of a header, and what may be a key.
fn hidden(word: &str) -> Vec<String> {
    let value = word.split_once('=').filter(|_| word.starts_with("--")).map_or(word, |(_, value)| value);
    if let Some(parts) = of_url(value) {
        return parts;
    }
    let is_name = |text: &str| text.bytes().all(|one| one.is_ascii_alphanumeric() || b"-_./@\\*".contains(&one));
    if value.starts_with("--") || is_name(value) && !is_key(value) {
        return Vec::new();
    }
    let of_header = value.split_once(':').map_or(value, |(_, value)| value).trim();
    let after_scheme = of_header.split_once(' ').map(|(_, rest)| rest.trim().to_owned());
    let of_json = value.starts_with('{').then(|| value.to_owned());
    [Some(of_header.to_owned()), after_scheme, of_json].into_iter().flatten().collect()
}

/// Plans a new entry in one file.
pub(super) fn install(install: &Install, program: &LastingProgram, file: HostFile, change: &EntryChange) -> Plan {
    let derived = install.name.clone().unwrap_or_else(|| name_of(&install.url));
    let by_hand = |file: HostFile, reason: String, name: &str| {
        let text = snippet(&file.host, name, &program.command, &install.arguments);
        Plan::ByHand(file, reason, text)
    };
    if is_only_shown(&file.host) {
        return by_hand(file, "mcp-remote does not change YAML".to_owned(), &derived);
    }
    let read = match Read::new(&file) {
        Ok(read) => read,
        Err(reason) => return by_hand(file, reason, &derived),
    };
    let present = read.servers();
    // Entries of a project are not those of the user.
    let present: Vec<_> = present.iter().filter(|located| located.path.len() == 2).collect();
    let name = match present.iter().find(|located| is_of(located, &install.url)) {
        Some(located) if install.name.as_deref().is_none_or(|name| name == located.name()) => {
            let name = located.name().to_owned();
            let Some(entry) = ServerEntry::of(located.value) else {
                let reason = format!("no change: it connects to this server by itself, as {name:?}");
                return Plan::Same(read.file, reason);
            };
            if let Launch::Unclear(obstacle) = entry.launch() {
                let reason = format!("no change: {name:?} is for this server, and stays because {}", obstacle.reason());
                return Plan::Same(read.file, reason);
            }
            // Without flags, those of the entry stay.
            let arguments =
                if install.arguments.len() > 1 { install.arguments.clone() } else { entry.own_arguments().to_vec() };
            let is_same = program.is(&entry.command) && entry.arguments == arguments && !entry.in_one;
            if is_same {
                return Plan::Same(read.file, format!("no change: it has this server already, as {name:?}"));
            }
            if has_own_command(&read.file.host) {
                let is_of_user = install.arguments.len() > 1;
                return replaced_by_user(&read, located, &program.command, &arguments, is_of_user);
            }
            let start = Change::Start {
                path: located.path.clone(),
                command: program.command.to_string_lossy().into_owned(),
                arguments,
            };
            drop(present);
            let wanted = Wanted { what: "rewrite", name: name.clone(), change: start };
            return edit(&read, wanted, |reason| by_hand(file, format!("cannot change {name:?}: {reason}"), &name));
        }
        _ => {
            let is_taken = |name: &str| present.iter().any(|located| located.name() == name);
            if !is_taken(&derived) {
                derived
            } else if install.name.is_some() {
                let reason = format!("it has another server of the name {derived:?}. Give another one with --name");
                drop(present);
                return Plan::Refused(read.file, reason);
            } else {
                let mut numbers = (2..).map(|number| format!("{derived}-{number}"));
                numbers.find(|name| !is_taken(name)).unwrap_or(derived)
            }
        }
    };
    drop(present);
    let members = members(read.file.host.form, &program.command, &install.arguments);
    if has_own_command(&read.file.host) {
        let json = json(&members);
        return match claude_code::command(change) {
            Some(claude) => Plan::ClaudeCode(read.file, claude_code::Step::add(claude, name, json)),
            None => {
                let text = claude_code::typed(&name, &json);
                Plan::ByHand(
                    read.file,
                    "its entries are added by its own command, and no folder in PATH has claude".to_owned(),
                    text,
                )
            }
        };
    }
    let add = Wanted { what: "add", name: name.clone(), change: Change::Add { name: name.clone(), members } };
    let mut plan = edit(&read, add, |reason| by_hand(file, format!("cannot change this file: {reason}"), &name));
    if let Plan::Edit(planned) = &mut plan {
        planned.remarks.extend(variables(&install.arguments));
    }
    plan
}

/// Leaves it to the user to replace an entry that only the host's own command changes. `is_of_user` says that the arguments
/// are those of this command, and not of the entry.
fn replaced_by_user(
    read: &Read,
    located: &Located<'_>,
    command: &Path,
    arguments: &[String],
    is_of_user: bool,
) -> Plan {
    let (host, name) = (&read.file.host, located.name());
    // A new entry would lose what else is in this one, and a command line would show it.
    let has_more = located.value.as_object().is_none_or(|all| {
        all.iter().any(|(name, value)| match name.as_str() {
            "type" | "command" | "args" => false,
            "env" => value.as_object().is_none_or(|variables| !variables.is_empty()),
            _ => true,
        })
    });
    if !has_more && (is_of_user || arguments.len() <= 1) {
        let text = claude_code::typed_again(name, &json(&members(host.form, command, arguments)));
        return Plan::ByHand(read.file.clone(), format!("{name:?} is another entry for this server"), text);
    }
    let reason = "it is another entry for this server, and each session of Claude Code rewrites this file. End all \
                  sessions first";
    let text = edit::lines(host, located.value, &command.to_string_lossy(), arguments);
    let left = Left { text, ..Left::new(name, reason.to_owned()) };
    let (planned, _) = read.plan(Vec::new());
    Planned { left: vec![left], ..planned }.or_left()
}

/// How the remark begins about variables that the entry needs.
pub(super) const ADD_VARIABLES: &str = "Add to the \"env\" of the entry: ";

/// Returns which variables the user sets in the entry.
fn variables(arguments: &[String]) -> Option<String> {
    let parts = arguments.iter().flat_map(|word| word.split("${").skip(1));
    let names: Vec<&str> = parts.filter_map(|part| Some(part.split_once('}')?.0)).collect();
    (!names.is_empty()).then(|| format!("{ADD_VARIABLES}{}", names.join(", ")))
}

/// Plans one change, or what the user does instead, for a reason.
fn edit(read: &Read, wanted: Wanted, by_hand: impl FnOnce(Refusal) -> Plan) -> Plan {
    let (planned, refused) = read.plan(vec![wanted]);
    match refused.into_iter().next() {
        None => Plan::Edit(planned),
        Some((_, refusal)) => by_hand(refusal),
    }
}

/// Returns whether an entry is for a server, through mcp-remote or by the host itself.
fn is_of(located: &Located<'_>, url: &reqwest::Url) -> bool {
    match ServerEntry::of(located.value) {
        Some(entry) => entry.launch() != Launch::Other && entry.is_for(url),
        None => ["url", "serverUrl", "httpUrl", "uri"]
            .iter()
            .filter_map(|member| located.value[*member].as_str())
            .any(|text| reqwest::Url::parse(text).is_ok_and(|other| other == *url)),
    }
}

/// Returns whether a file that cannot be changed may have an entry: its text names this program, or cannot be read.
fn may_have_entry(file: &HostFile) -> bool {
    match file::read(&file.path) {
        Ok(bytes) => file::utf16(&bytes).unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()).contains(NAME),
        // A link that leads nowhere has none.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether a text that is not read as YAML has this name or URL as a word of its own.
fn has_word(text: &str, word: &str) -> bool {
    let is_border = |one: char| one.is_whitespace() || "\"',[]{}".contains(one);
    text.split(is_border).any(|found| found.trim_end_matches([':', '/']) == word)
}

/// Plans that each entry of a file that starts the npm package starts this program. Returns `None` if there is no such entry.
pub(super) fn migrate(program: &LastingProgram, file: HostFile, world: &World<'_>) -> Option<Plan> {
    if file.scope == Scope::Unread {
        return None;
    }
    if is_only_shown(&file.host) {
        let text = String::from_utf8_lossy(&file::read(&file.path).ok()?).into_owned();
        let is_meant = text.contains(NAME) && (text.contains("npx") || text.contains("bunx"));
        let reason =
            "mcp-remote does not change YAML. The cmd of its entry becomes the line below, and npx, -y and mcp-remote leave its \
                      args"
                .to_owned();
        return is_meant.then(|| Plan::ByHand(file, reason, format!("{}\n", program.command.display())));
    }
    let read = match Read::new(&file) {
        Ok(read) => read,
        Err(reason) => return may_have_entry(&file).then_some(Plan::Refused(file, reason)),
    };
    let command = program.command.to_string_lossy().into_owned();
    let (mut changes, mut left, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    for located in read.servers() {
        let Some(entry) = ServerEntry::of(located.value) else { continue };
        let name = located.name();
        match started(&entry, program) {
            Started::Here | Started::Other => {}
            Started::Elsewhere(reason) => remarks.push(format!("{name:?} stays as it is: {reason}")),
            Started::Unclear(reason) => left.push(Left::new(name, reason)),
            Started::Npm => {
                let arguments = entry.own_arguments().to_vec();
                if entry.in_one && arguments.iter().any(|word| word.contains(['"', '\''])) {
                    left.push(Left::new(name, "its arguments are one string with quotes"));
                    continue;
                }
                remarks.extend(mistake(&entry).map(|why| format!("{name:?} will not start: {why}")));
                if let Some(name) = read.repeated(&located.path) {
                    let remark = format!("{name:?} occurs more than once in the file. The host reads the last one");
                    remarks.extend(Some(remark).filter(|remark| !remarks.contains(remark)));
                }
                let change = Change::Start { path: located.path.clone(), command: command.clone(), arguments };
                changes.push(Wanted { what: "rewrite", name: name.to_owned(), change });
            }
        }
    }
    if changes.is_empty() && left.is_empty() {
        return (!remarks.is_empty()).then(|| Plan::Same(read.file, remarks.join("\n  ")));
    }
    if !changes.is_empty() {
        if read.file.scope == Scope::Project {
            return Some(Plan::Refused(read.file, OF_PROJECT.to_owned()));
        }
        if let Some(reason) = sessions(&read.file, world) {
            return Some(Plan::Refused(read.file, reason));
        }
    }
    let (mut planned, refused) = read.plan(changes);
    let by_hand = |(wanted, refusal): (Wanted, Refusal)| {
        let text = match &wanted.change {
            Change::Start { path, command, arguments } => {
                let value = path.iter().try_fold(&read.root, |value, name| value.get(name)).unwrap_or(&Value::Null);
                edit::lines(&read.file.host, value, command, arguments)
            }
            Change::Add { .. } | Change::Remove { .. } => String::new(),
        };
        Left { text, ..Left::new(&wanted.name, refusal.to_string()) }
    };
    left.extend(refused.into_iter().map(by_hand));
    planned.left = left;
    planned.remarks = remarks;
    Some(planned.or_left())
}

/// Why a project's file stays: an absolute path is of one computer, and its users share the file.
const OF_PROJECT: &str =
    "not changed, because the file belongs to a project, which others may share. Change it yourself";

/// Returns why mcp-remote would refuse an entry's arguments, if it is clear without the host.
fn mistake(entry: &ServerEntry) -> Option<String> {
    let words = entry.own_arguments();
    // A host replaces ${env:NAME} and ${input:NAME}.
    if words.iter().any(|word| word.contains("${env:") || word.contains("${input:")) {
        return None;
    }
    let variables = |name: &str| entry.variables.get(name).cloned();
    cli::parse(Program::Adapter, words.iter().map(OsString::from).collect(), &variables)
        .err()
        .map(|usage| usage.report.sentence)
}

/// Returns why the file of Claude Code is not changed now.
fn sessions(file: &HostFile, world: &World<'_>) -> Option<String> {
    const REASON: &str =
        "Claude Code is running, and each session rewrites this file. End all sessions, then repeat the command";
    (has_own_command(&file.host) && world.running.claude_code()).then(|| REASON.to_owned())
}

/// What an entry starts, as far as it can be rewritten.
enum Started {
    /// This program, at its lasting place.
    Here,
    /// The npm package.
    Npm,
    /// Another mcp-remote, which stays, for this reason.
    Elsewhere(String),
    /// The npm package in a way that cannot be written as a command and its arguments, for this reason.
    Unclear(&'static str),
    /// Another program.
    Other,
}

fn started(entry: &ServerEntry, program: &LastingProgram) -> Started {
    match entry.launch() {
        Launch::Package(_) => Started::Npm,
        Launch::Unclear(obstacle) => Started::Unclear(obstacle.reason()),
        Launch::Other => Started::Other,
        _ if program.is(&entry.command) && !entry.in_one => Started::Here,
        // The program for testing does not serve a host.
        Launch::Client => Started::Npm,
        Launch::Program => {
            let path = Path::new(&entry.command);
            let is_native = path.is_absolute() && path.is_file() && !is_script(path);
            match is_native {
                true => Started::Elsewhere(format!("it starts another mcp-remote, {}", path.display())),
                false => Started::Npm,
            }
        }
    }
}

impl LastingProgram {
    /// Returns whether an entry's command is this program.
    fn is(&self, command: &str) -> bool {
        Path::new(command) == self.command
    }
}

/// Plans that the entries which the user means are removed from a file. Returns `None` if it has none of them.
pub(super) fn uninstall(which: Option<&Which>, file: HostFile, world: &World<'_>) -> Option<Plan> {
    if file.scope == Scope::Unread || is_only_shown(&file.host) {
        let text = String::from_utf8_lossy(&file::read(&file.path).ok()?).into_owned();
        let is_meant = text.contains(NAME)
            && match which {
                Some(Which::Name(name)) => has_word(&text, name),
                Some(Which::Url(url)) => has_word(&text, url.as_str().trim_end_matches('/')),
                None => true,
            };
        let reason = "mcp-remote does not change this file. Remove the entry for mcp-remote yourself".to_owned();
        // No host reads the other one.
        let plan = if is_only_shown(&file.host) { Plan::Refused } else { Plan::Same };
        return is_meant.then(|| plan(file, reason));
    }
    let read = match Read::new(&file) {
        Ok(read) => read,
        Err(reason) => return may_have_entry(&file).then_some(Plan::Refused(file, reason)),
    };
    let all = read.servers();
    let (mut meant, mut left, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    for located in &all {
        let Some(entry) = ServerEntry::of(located.value) else { continue };
        let is_named = match which {
            Some(Which::Name(name)) => located.name() == name,
            Some(Which::Url(url)) => entry.is_for(url),
            None => true,
        };
        match entry.launch() {
            // An entry of another program stays, whatever its name.
            Launch::Other => {}
            _ if !is_named => {}
            Launch::Unclear(obstacle) if which.is_none() => {
                remarks.push(format!("{:?} stays because {}. Remove it yourself", located.name(), obstacle.reason()));
            }
            Launch::Unclear(obstacle) => {
                left.push(Left::new(located.name(), format!("{}. Remove it yourself", obstacle.reason())));
            }
            // The user may go on with it.
            Launch::Package(_) if which.is_none() => remarks.push(format!(
                "{:?} stays, because it starts the npm package. To remove it: mcp-remote uninstall NAME",
                located.name()
            )),
            Launch::Program | Launch::Client | Launch::Package(_) => meant.push(located.path.clone()),
        }
    }
    if !meant.is_empty() && read.file.scope == Scope::Project {
        return Some(Plan::Refused(read.file.clone(), OF_PROJECT.to_owned()));
    }
    if meant.is_empty() && left.is_empty() {
        return (!remarks.is_empty()).then(|| Plan::Same(read.file.clone(), remarks.join("\n  ")));
    }
    if !meant.is_empty()
        && let Some(reason) = sessions(&read.file, world)
    {
        return Some(Plan::Refused(read.file, reason));
    }
    let remove = |path: Vec<String>| {
        let name = path.last().cloned().unwrap_or_default();
        Wanted { what: "remove", name, change: Change::Remove { path } }
    };
    let (mut planned, refused) = read.plan(meant.into_iter().map(remove).collect());
    let by_hand =
        |(wanted, refusal): (Wanted, Refusal)| Left::new(&wanted.name, format!("{refusal}. Remove it yourself"));
    left.extend(refused.into_iter().map(by_hand));
    planned.left = left;
    planned.remarks = remarks;
    Some(planned.or_left())
}

/// Adds what is to be known of a host that runs.
pub(super) fn with_warnings(plan: Plan, world: &World<'_>) -> Plan {
    match plan {
        Plan::Edit(mut planned) => {
            if let Some(warning) = warning(&planned.file.host, &world.running)
                && !planned.remarks.iter().any(|remark| remark == warning)
            {
                planned.remarks.push(warning.to_owned());
            }
            Plan::Edit(planned)
        }
        other => other,
    }
}

impl Plan {
    /// Returns the host whose file the user changes.
    pub(super) fn left(&self) -> Option<&'static str> {
        match self {
            Self::ByHand(file, ..) => Some(file.host.name),
            Self::Edit(planned) | Self::Left(planned) => {
                planned.left.iter().any(|left| !left.text.is_empty()).then_some(planned.file.host.name)
            }
            _ => None,
        }
    }
}
