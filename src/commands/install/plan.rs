//! What a command would change in one file: a new text, a command of Claude Code, or what to do by hand.
//!
//! # Invariants
//!
//! - Nothing is written here.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    World, claude_code, difference, has_own_command, is_only_shown,
    new_entry::{json, members, name_of, snippet},
    program::Program,
    warning,
};
use crate::{
    cli::{EntryChange, Install, Which},
    hosts::{
        Syntax,
        edit::{Change, Refusal, apply},
        entry::{Located, ServerEntry, servers},
        file::{self, Content},
        launch::{Launch, NAME, is_script},
        places::{HostFile, Scope},
        syntax::{self, without_mark},
    },
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
    /// The user changes it, for this reason. The text to write follows.
    ByHand(HostFile, String, String),
}

/// A change of a file's text.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) file: HostFile,
    /// What happens, as a verb and the names.
    pub(super) what: Vec<String>,
    pub(super) content: Content,
    pub(super) new: String,
    /// The differences, one after the other.
    pub(super) steps: Vec<(String, String)>,
    /// What must not be shown of the text.
    pub(super) secrets: Vec<String>,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    /// What else is to be known, before and after.
    pub(super) remarks: Vec<String>,
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

    /// Applies changes one after the other.
    fn plan(&self, changes: Vec<(String, Change)>) -> Result<Planned, Refusal> {
        let mut text = self.content.text().unwrap_or_default().to_owned();
        let secrets = secrets(&self.servers());
        let mut planned = Planned {
            what: Vec::new(),
            new: String::new(),
            steps: Vec::new(),
            secrets,
            added: Vec::new(),
            removed: Vec::new(),
            remarks: Vec::new(),
            content: self.content.clone(),
            file: self.file.clone(),
        };
        for (what, change) in changes {
            let new = apply(&text, &planned.file.host, &change)?;
            planned.what.push(what);
            match change {
                Change::Add { name, .. } => planned.added.push(name),
                Change::Start { path, .. } => planned.added.extend(path.last().cloned()),
                Change::Remove { path } => planned.removed.extend(path.last().cloned()),
            }
            planned.steps.push((std::mem::replace(&mut text, new.clone()), new));
        }
        planned.new = text;
        Ok(planned)
    }
}

/// Returns what of a file's entries is secret: the values of variables and of headers.
fn secrets(servers: &[Located<'_>]) -> Vec<String> {
    let mut secrets = Vec::new();
    for server in servers.iter().filter_map(|located| ServerEntry::of(located.value)) {
        secrets.extend(server.variables.values().cloned());
        for words in server.arguments.windows(2).filter(|words| words[0] == "--header") {
            secrets.extend(words[1].split_once(':').map(|(_, value)| value.trim().to_owned()));
        }
    }
    let after_scheme = secrets.iter().filter_map(|value| Some(value.split_once(' ')?.1.to_owned())).collect::<Vec<_>>();
    secrets.extend(after_scheme);
    secrets
}

/// Plans a new entry in one file.
pub(super) fn install(install: &Install, program: &Program, file: HostFile, change: &EntryChange) -> Plan {
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
            // Without flags, those of the entry stay.
            let arguments =
                if install.arguments.len() > 1 { install.arguments.clone() } else { entry.own_arguments().to_vec() };
            let is_same = program.is(&entry.command) && entry.arguments == arguments && !entry.in_one;
            if is_same {
                return Plan::Same(read.file, format!("no change: it has this server already, as {name:?}"));
            }
            if has_own_command(&read.file.host) {
                let tip = format!("{name:?} is another entry for this server. To rewrite it, type: mcp-remote migrate");
                return Plan::Same(read.file, tip);
            }
            let start = Change::Start {
                path: located.path.clone(),
                command: program.command.to_string_lossy().into_owned(),
                arguments,
            };
            drop(present);
            return edit(read, vec![(format!("rewrite {name:?}"), start)], |file, reason| by_hand(file, reason, &name));
        }
        _ => {
            let is_taken = |name: &str| present.iter().any(|located| located.name() == name);
            if !is_taken(&derived) {
                derived
            } else if install.name.is_some() {
                let reason = format!("it has another server of the name {derived:?}. Give another one with --name");
                drop(present);
                return Plan::Same(read.file, reason);
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
    let what = format!("add {name:?}");
    let add = Change::Add { name: name.clone(), members };
    let mut plan = edit(read, vec![(what, add)], |file, reason| by_hand(file, reason, &name));
    if let Plan::Edit(planned) = &mut plan {
        planned.remarks.extend(variables(&install.arguments));
    }
    plan
}

/// Returns which variables the user sets in the entry.
fn variables(arguments: &[String]) -> Option<String> {
    let parts = arguments.iter().flat_map(|word| word.split("${").skip(1));
    let names: Vec<&str> = parts.filter_map(|part| Some(part.split_once('}')?.0)).collect();
    (!names.is_empty()).then(|| format!("Add {} to the \"env\" of the entry", names.join(", ")))
}

fn edit(read: Read, changes: Vec<(String, Change)>, by_hand: impl FnOnce(HostFile, String) -> Plan) -> Plan {
    match read.plan(changes) {
        Ok(planned) => Plan::Edit(planned),
        Err(refusal) => by_hand(read.file, format!("cannot change this file: {refusal}")),
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

/// Plans that each entry of a file that starts the npm package starts this program. Returns `None` if there is no such entry.
pub(super) fn migrate(program: &Program, file: HostFile, world: &World<'_>) -> Option<Plan> {
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
        Err(reason) => {
            let text = String::from_utf8_lossy(&file::read(&file.path).ok()?).into_owned();
            return text.contains(NAME).then_some(Plan::Same(file, reason));
        }
    };
    let mut changes = Vec::new();
    let mut remarks = Vec::new();
    for located in read.servers() {
        let Some(entry) = ServerEntry::of(located.value) else { continue };
        let name = located.name();
        match started(&entry, program) {
            Started::Here | Started::Other => {}
            Started::Elsewhere(reason) => remarks.push(format!("{name:?} stays as it is: {reason}")),
            Started::Npm => {
                let arguments = entry.own_arguments().to_vec();
                if entry.in_one && arguments.iter().any(|word| word.contains(['"', '\''])) {
                    remarks.push(format!("{name:?} stays as it is: its arguments are one string with quotes"));
                    continue;
                }
                let command = program.command.to_string_lossy().into_owned();
                let change = Change::Start { path: located.path.clone(), command, arguments };
                changes.push((format!("rewrite {name:?}"), change));
            }
        }
    }
    if changes.is_empty() {
        return (!remarks.is_empty()).then(|| Plan::Same(read.file, remarks.join("\n  ")));
    }
    if let Some(reason) = sessions(&read.file, world) {
        return Some(Plan::Same(read.file, reason));
    }
    let host = read.file.host;
    let plan = edit(read, changes, |file, reason| {
        Plan::ByHand(
            file,
            format!("{reason}. The command becomes the line below"),
            format!("{}\n", program.command.display()),
        )
    });
    Some(match plan {
        Plan::Edit(mut planned) => {
            remarks.extend(warning(&host, &world.running).map(ToOwned::to_owned));
            planned.remarks = remarks;
            Plan::Edit(planned)
        }
        other => other,
    })
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
    /// mcp-remote in a way that stays, for this reason.
    Elsewhere(String),
    /// Another program.
    Other,
}

fn started(entry: &ServerEntry, program: &Program) -> Started {
    match entry.launch() {
        Launch::Package(_) => Started::Npm,
        Launch::Unclear(obstacle) => Started::Elsewhere(obstacle.reason().to_owned()),
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

impl Program {
    /// Returns whether an entry's command is this program.
    fn is(&self, command: &str) -> bool {
        Path::new(command) == self.command
    }
}

/// Plans that the entries which the user means are removed from a file. Returns `None` if it has none of them.
pub(super) fn uninstall(which: Option<&Which>, file: HostFile, world: &World<'_>) -> Option<Plan> {
    if file.scope == Scope::Unread || is_only_shown(&file.host) {
        let text = String::from_utf8_lossy(&file::read(&file.path).ok()?).into_owned();
        let reason = "mcp-remote does not change this file. Remove the entry for mcp-remote yourself";
        return text.contains(NAME).then(|| Plan::Same(file, reason.to_owned()));
    }
    let read = match Read::new(&file) {
        Ok(read) => read,
        Err(reason) => {
            let text = String::from_utf8_lossy(&file::read(&file.path).ok()?).into_owned();
            return text.contains(NAME).then_some(Plan::Same(file, reason));
        }
    };
    let all = read.servers();
    let is_meant = |located: &&Located<'_>| {
        let Some(entry) = ServerEntry::of(located.value) else { return false };
        // An entry of another program stays, whatever its name.
        let is_ours = entry.launch() != Launch::Other;
        is_ours
            && match which {
                Some(Which::Name(name)) => located.name() == name,
                Some(Which::Url(url)) => entry.is_for(url),
                None => true,
            }
    };
    let meant: Vec<Vec<String>> = all.iter().filter(is_meant).map(|located| located.path.clone()).collect();
    if meant.is_empty() {
        return None;
    }
    drop(all);
    if let Some(reason) = sessions(&read.file, world) {
        return Some(Plan::Same(read.file, reason));
    }
    let name = |path: &[String]| path.last().cloned().unwrap_or_default();
    let changes =
        meant.into_iter().map(|path| (format!("remove {:?}", name(&path)), Change::Remove { path })).collect();
    Some(edit(read, changes, |file, reason| Plan::Same(file, format!("{reason}. Remove the entry yourself"))))
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
            _ => None,
        }
    }
}

impl Planned {
    /// Returns the lines of all differences.
    pub(super) fn shown(&self, clean: &dyn Fn(&str) -> String, has_colors: bool) -> Vec<String> {
        self.steps.iter().flat_map(|(before, after)| difference::lines(before, after, clean, has_colors)).collect()
    }
}
