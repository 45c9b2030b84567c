//! The entries of hosts, diagnosed one after the other, each with its own server URL, flags and variables.
//!
//! # Invariants
//!
//! - An entry is read as mcp-remote itself reads it: an argument that only `mcp-remote-client` knows fails.
//! - No entry gets the arguments of another one, and no value of an entry's variables is shown.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    Diagnosis, Exit,
    entries::{command_line, judge, remarks},
    hosts::{Entry, FileFinding, FileKind, OtherEntry, Settings, expanded, variables_of_host},
    printer::{DiagnosisStep, Finding, Outcome, Printer, Style},
};
use crate::{
    cli::{self, Borrowed, ClientAction, ClientOptions, Command, EntryOptions, Output, Program},
    commands::{install::written, redactor::Redactor},
    config::Config,
    report::{Code, Report},
    text,
};

/// Variables whose values are no secrets: places and switches.
const NOT_SECRET: [&str; 14] = [
    "BROWSER",
    "CODEX_HOME",
    "DISPLAY",
    "HOME",
    "LANG",
    "MCP_REMOTE_CONFIG_DIR",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "PATH",
    "RUST_LOG",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "WAYLAND_DISPLAY",
    "no_proxy",
];

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why the arguments of an entry are not read.
enum Unread {
    /// They are wrong.
    Wrong(Report),
    /// The host asks its user for a part of them, as this says.
    Asks(String),
}

/// What became of one thing that was checked.
struct Checked {
    name: String,
    outcome: Outcome,
    verdict: String,
    exit: Exit,
}

/// Diagnoses the entries that the options name, and prints a line for each at the end.
///
/// # Errors
/// Where nothing can be written.
pub(crate) async fn run(
    options: &EntryOptions,
    environment: Environment<'_>,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Exit> {
    let Settings { mut findings, entries, others, files } = Settings::read(&options.terminal, None);
    let named = |entry: &&Entry| options.name.as_ref().is_none_or(|name| *name == entry.name);
    let is_ours = |entry: &&Entry| entry.server.is_ours(&options.terminal);
    let mut chosen: Vec<_> = entries.iter().filter(named).filter(is_ours).collect();
    if chosen.is_empty() && options.name.is_some() {
        // An entry that the user names is meant for mcp-remote.
        chosen = entries.iter().filter(named).filter(|entry| entry.server.has_no_program(&options.terminal)).collect();
    }
    let found = Found { entries: &entries, others: &others, files: &files };
    let mut all = All { options, environment, checked: Vec::new(), documents: Vec::new() };
    if options.action != ClientAction::Diagnosis {
        return match chosen.first() {
            Some(entry) => all.one_thing(entry, out).await,
            None => all.none(&found, Vec::new(), out),
        };
    }
    all.header(out)?;
    // With a name, the user means that entry; the files that cannot be read may have it.
    let is_elsewhere = |name: &String| {
        entries.iter().any(|entry| entry.name == *name) || others.iter().any(|entry| entry.name == *name)
    };
    let is_found = options.name.as_ref().is_some_and(is_elsewhere);
    let is_unread = |file: &Path| findings.iter().any(|of| of.kind == FileKind::Unreadable && of.file == file);
    let gone = written(&options.store).into_iter().filter(|one| {
        let is_there = |file: &Path, name: &str| one.file == file && one.name == name;
        let is_present = entries.iter().any(|entry| is_there(&entry.file, &entry.name))
            || others.iter().any(|entry| entry.name == one.name);
        !is_present && !is_unread(&one.file)
    });
    let gone: Vec<_> = gone.map(|one| FileFinding::gone(&one)).collect();
    findings.extend(gone);
    let mut findings: Vec<_> =
        findings.into_iter().filter(|of| options.name.is_none() || !is_found && of.kind != FileKind::Known).collect();
    for unreadable in findings.iter_mut().filter(|of| options.name.is_some() && of.kind == FileKind::Unreadable) {
        unreadable.finding.set_outcome(Outcome::Fail);
    }
    let has_failed = findings.iter().any(|of| of.finding.outcome() == Outcome::Fail);
    if chosen.is_empty() && !has_failed {
        return all.none(&found, findings, out);
    }
    all.files(findings, out)?;
    for entry in chosen {
        // A project may have come from anywhere. Its entry can send this terminal's variables and files to any server.
        if !entry.is_users && options.name.is_none() {
            all.leave(entry, out)?;
            continue;
        }
        all.check(entry, out).await?;
    }
    all.end(out)
}

/// What the files of hosts have.
struct Found<'a> {
    entries: &'a [Entry],
    others: &'a [OtherEntry],
    files: &'a [PathBuf],
}

struct All<'a> {
    options: &'a EntryOptions,
    environment: Environment<'a>,
    checked: Vec<Checked>,
    documents: Vec<Value>,
}

impl All<'_> {
    fn style(&self) -> Style {
        Style { is_verbose: self.options.verbose, ..super::style(self.options.output, &self.options.terminal) }
    }

    /// Where people read: stderr if stdout is for a program.
    fn out<'o>(&self, out: &'o mut (dyn Write + Send)) -> Box<dyn Write + Send + 'o> {
        match self.options.output {
            Output::Text => Box::new(out),
            Output::Json => super::aside(self.options.silent),
        }
    }

    fn printer<'o>(&self, out: &'o mut (dyn Write + Send)) -> Printer<'o> {
        let redactor = Redactor::of_home(self.options.terminal.places.home.clone());
        Printer::new(self.out(out), self.style(), redactor)
    }

    fn header(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        self.printer(out).note(&format!("mcp-remote client {}", env!("CARGO_PKG_VERSION")))
    }

    /// Prints what is wrong with whole files.
    fn files(&mut self, findings: Vec<FileFinding>, out: &mut (dyn Write + Send)) -> io::Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        let mut printer = self.printer(out);
        printer.note("")?;
        for FileFinding { host, finding, .. } in findings {
            if finding.outcome() == Outcome::Fail {
                self.checked.push(Checked {
                    name: format!("{host}, configuration file"),
                    outcome: Outcome::Fail,
                    verdict: format!("the host cannot use it (exit code {})", Exit::Failed as u8),
                    exit: Exit::Failed,
                });
            }
            printer.print(finding)?;
        }
        self.documents.extend(printer.lines().iter().map(|line| json!(line)));
        Ok(())
    }

    /// Judges an entry without a connection.
    fn leave(&mut self, entry: &Entry, out: &mut (dyn Write + Send)) -> io::Result<()> {
        let judged = judge(&entry.place(), &entry.server, None, &self.options.terminal);
        let has_failed = judged.outcome() == Outcome::Fail;
        let mut printer = self.printer(out);
        printer.note("")?;
        printer.print(judged)?;
        let text = format!(
            "{}: no connection, because the file belongs to a project and is not yours alone. If you trust it, name the entry: \
             mcp-remote client --entry NAME",
            entry.place()
        );
        printer.print(Finding::info(DiagnosisStep::Host, text))?;
        self.documents.extend(printer.lines().iter().map(|line| json!(line)));
        if has_failed {
            self.checked.push(Checked {
                name: entry.short(),
                outcome: Outcome::Fail,
                verdict: format!("failed at host (exit code {})", Exit::Failed as u8),
                exit: Exit::Failed,
            });
        }
        Ok(())
    }

    /// Diagnoses one entry.
    async fn check(&mut self, entry: &Entry, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let home = self.options.terminal.places.home.clone();
        let judged = judge(&entry.place(), &entry.server, None, &self.options.terminal);
        let has_failed = judged.outcome() == Outcome::Fail;
        let judged: Vec<_> =
            std::iter::once(judged).chain(remarks(&entry.place(), &entry.server, entry.is_users)).collect();
        let read = self.read(entry);
        let variables = &entry.server.variables;
        let (config, options) = match read {
            Ok(read) if entry.server.can_connect() => read,
            failed => {
                // What is wrong with the entry says more than what follows from it.
                let failed = failed.err().filter(|_| entry.server.can_connect());
                let mut redactor = Redactor::of_home(home);
                redactor.learn(secrets(entry, self.environment));
                let mut printer = Printer::new(self.out(out), self.style(), redactor);
                printer.note("")?;
                printer.note(&format!("{}:", entry.place()))?;
                judged.into_iter().try_for_each(|finding| printer.print(finding))?;
                let mut exit = if has_failed { Exit::Failed } else { Exit::Well };
                match failed {
                    Some(Unread::Wrong(report)) => {
                        exit = Exit::Arguments;
                        printer.print(Finding::report(DiagnosisStep::Arguments, Outcome::Fail, report))?;
                    }
                    Some(Unread::Asks(text)) => {
                        printer.print(Finding::new(DiagnosisStep::Arguments, Outcome::Warn, text))?;
                    }
                    None => {}
                }
                let (outcome, verdict) = match exit {
                    Exit::Well => (Outcome::Warn, "not tested, because the host asks you for a value".to_owned()),
                    _ => {
                        let is_host = exit != Exit::Arguments;
                        let step = if is_host { DiagnosisStep::Host } else { DiagnosisStep::Arguments };
                        (Outcome::Fail, format!("failed at {} (exit code {})", step.name(), exit as u8))
                    }
                };
                let steps = json!(printer.lines());
                self.note(entry, outcome, verdict, exit, json!({ "exitCode": exit as u8, "steps": steps }));
                return Ok(());
            }
        };
        let mut redactor = Redactor::new(&config, home);
        redactor.learn(secrets(entry, self.environment));
        let printer = Printer::new(self.out(out), self.style(), redactor);
        let mut diagnosis = Diagnosis::new(&config, printer);
        diagnosis.printer.note("")?;
        diagnosis.printer.note(&format!("{}: {}", entry.place(), super::shown(&config)))?;
        // The library that reads them knows the environment of this process only.
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter(|name| variables.contains_key(**name)) {
            let text = format!("mcp-remote client does not use {name} of the entry");
            let tip = format!("set {name} in this terminal too, then test the entry again");
            diagnosis.printer.print(Finding::warn(DiagnosisStep::Arguments, text, tip))?;
        }
        let inventory = diagnosis.everything(&options, Some(judged)).await?;
        let (outcome, exit) = (diagnosis.outcome(), diagnosis.exit());
        let verdict = match outcome {
            Outcome::Warn if entry.server.is_npm_package() => {
                "the server answers, but the host does not start this program".to_owned()
            }
            _ => lower(&diagnosis.verdict()),
        };
        let document = diagnosis.document(&inventory)?;
        self.note(entry, outcome, verdict, exit, document);
        Ok(())
    }

    fn note(&mut self, entry: &Entry, outcome: Outcome, verdict: String, exit: Exit, document: Value) {
        let mut members = json!({ "host": entry.host, "file": entry.file, "entry": entry.name });
        if let (Some(members), Value::Object(document)) = (members.as_object_mut(), document) {
            members.extend(document);
        }
        self.documents.push(members);
        self.checked.push(Checked { name: entry.short(), outcome, verdict, exit });
    }

    /// A call, or a reading, with the first entry of that name.
    async fn one_thing(&self, entry: &Entry, out: &mut (dyn Write + Send)) -> anyhow::Result<Exit> {
        let (config, options) = match self.read(entry) {
            Ok(read) => read,
            Err(unread) => {
                let mut redactor = Redactor::of_home(self.options.terminal.places.home.clone());
                redactor.learn(secrets(entry, self.environment));
                let mut printer = Printer::new(super::aside(self.options.silent), self.style(), redactor);
                printer.print(match unread {
                    Unread::Wrong(report) => Finding::report(DiagnosisStep::Arguments, Outcome::Fail, report),
                    Unread::Asks(text) => Finding::new(DiagnosisStep::Arguments, Outcome::Fail, text),
                })?;
                return Ok(Exit::Arguments);
            }
        };
        super::run_with(&config, &options, secrets(entry, self.environment), out).await
    }

    /// Reads the arguments of an entry, first as mcp-remote does, then for a diagnosis.
    fn read(&self, entry: &Entry) -> Result<(Box<Config>, Box<ClientOptions>), Unread> {
        let EntryOptions { output, action, terminal, silent, verbose, .. } = self.options;
        let variables = &entry.server.variables;
        let environment = |name: &str| {
            let own = variables.get(name).map(|value| expanded(entry.host, value, self.environment));
            own.or_else(|| (self.environment)(name))
        };
        let is_log_flag = |word: &&String| ["--debug", "--silent"].contains(&word.as_str());
        let words = entry.server.own_arguments().iter().filter(|word| !is_log_flag(word));
        let words: Vec<_> = words.collect();
        if let Some(asked) = words.iter().copied().chain(variables.values()).find_map(|word| input(word)) {
            let text = format!("{} asks you for ${{input:{asked}}}, so this entry cannot be tested here", entry.host);
            return Err(Unread::Asks(text));
        }
        let taken = self.taken(entry, &words)?;
        let words = words.into_iter().map(|word| expanded(entry.host, word, self.environment));
        let words: Vec<OsString> = words.map(OsString::from).collect();
        match cli::parse(Program::Adapter, words.clone(), &environment) {
            Ok(Command::Forward(_)) => {}
            Ok(_) => {
                let text = "the entry starts a command for people instead of a connection to a server";
                return Err(Unread::Wrong(Report::new(Code::BadEntry, text, None)));
            }
            Err(usage) => return Err(Unread::Wrong(usage.report)),
        }
        match cli::parse(Program::Client, words, &environment) {
            Ok(Command::Client(config, mut options)) => {
                (options.output, options.action) = (*output, action.clone());
                (options.silent, options.verbose) = (*silent, *verbose);
                options.terminal.borrowed.retain(|borrowed| !variables.contains_key(&borrowed.name));
                options.terminal.borrowed.extend(taken);
                options.terminal.has_colors = terminal.has_colors;
                Ok((config, options))
            }
            Ok(_) => Err(Unread::Wrong(Report::new(Code::BadEntry, "the entry names no server URL", None))),
            Err(usage) => Err(Unread::Wrong(usage.report)),
        }
    }

    /// Returns the variables of this terminal that the host replaces by itself.
    fn taken(&self, entry: &Entry, words: &[&String]) -> Result<Vec<Borrowed>, Unread> {
        let words = words.iter().map(|word| ("args", *word));
        let values = entry.server.variables.values().map(|value| ("env", value));
        let mut taken = Vec::<Borrowed>::new();
        for (member, text) in words.chain(values) {
            for name in variables_of_host(entry.host, text) {
                let instead = match member {
                    "args" => {
                        format!("write ${{{name}}} instead of ${{env:{name}}}, and \"{name}\": \"…\" into \"env\"")
                    }
                    _ => format!("write the value into \"env\" instead of ${{env:{name}}}"),
                };
                if (self.environment)(name).is_none_or(|value| value.is_empty()) {
                    let text = format!("\"{member}\" uses ${{env:{name}}}, but {name} is not set");
                    let report = Report::new(Code::VariableNotSet, text, None);
                    return Err(Unread::Wrong(Report { hint: Some(instead), ..report }));
                }
                if !NOT_SECRET.contains(&name) && !taken.iter().any(|known| known.name == name) {
                    taken.push(Borrowed { name: name.to_owned(), safe: instead });
                }
            }
        }
        Ok(taken)
    }

    /// Reports that there is nothing to check, which is not a success.
    fn none(
        &mut self,
        Found { entries, others, files }: &Found<'_>,
        findings: Vec<FileFinding>,
        out: &mut (dyn Write + Send),
    ) -> anyhow::Result<Exit> {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let files = files.join(", ");
        let test = "test a server by its URL: mcp-remote client https://example.com/mcp".to_owned();
        let missing = |text: String| Finding::new(DiagnosisStep::Host, Outcome::Fail, text);
        let finding = match &self.options.name {
            Some(name) => {
                let of_other_program = entries.iter().find(|entry| entry.name == *name);
                let without_program = others.iter().find(|entry| entry.name == *name);
                let text = match of_other_program {
                    Some(entry) => format!("{} starts another program than mcp-remote", entry.place()),
                    None if files.is_empty() => {
                        "no configuration file of a host was found, so nothing was checked".to_owned()
                    }
                    None => format!("no entry {name:?} in: {files}"),
                };
                let mut names: Vec<_> = entries
                    .iter()
                    .filter(|entry| entry.server.is_ours(&self.options.terminal))
                    .map(|entry| format!("{:?}", entry.name))
                    .collect();
                names.sort();
                names.dedup();
                match (&*names.join(", "), without_program) {
                    (_, Some(other)) if of_other_program.is_none() => {
                        missing(other.text.clone()).with_exact_action(other.tip.clone()).with_code(Code::BadEntry)
                    }
                    ("", _) if of_other_program.is_some() => {
                        let tip = format!("write {}", command_line());
                        missing(text).with_exact_action(tip).with_code(Code::BadEntry)
                    }
                    ("", _) => missing(text).with_action(Some(test)),
                    (names, _) => {
                        let tip = format!("use the name of an entry that starts mcp-remote: {names}");
                        missing(text).with_action(Some(tip))
                    }
                }
            }
            None => {
                let text = match &*files {
                    "" => "no configuration file of a host was found, so nothing was checked".to_owned(),
                    files => format!("no entry of a host starts mcp-remote, so nothing was checked (read: {files})"),
                };
                missing(text).with_action(Some(test))
            }
        };
        let mut printer = self.printer(out);
        printer.note("")?;
        for FileFinding { finding, .. } in findings {
            printer.print(finding)?;
        }
        printer.print(finding)?;
        self.documents.extend(printer.lines().iter().map(|line| json!(line)));
        drop(printer);
        self.document(Exit::Failed, out)?;
        Ok(Exit::Failed)
    }

    /// A line for each thing that was checked, and the worst exit code.
    fn end(&self, out: &mut (dyn Write + Send)) -> anyhow::Result<Exit> {
        let worst = self.checked.iter().map(|checked| checked.exit).max().unwrap_or(Exit::Well);
        let mut printer = self.printer(out);
        printer.note("")?;
        printer.note("Summary")?;
        let width = self.checked.iter().map(|checked| checked.name.chars().count()).max().unwrap_or_default();
        for Checked { name, outcome, verdict, .. } in &self.checked {
            printer.summary(*outcome, &format!("{name:width$}  {verdict}"))?;
        }
        drop(printer);
        self.document(worst, out)?;
        Ok(worst)
    }

    fn document(&self, exit: Exit, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        if self.options.output == Output::Json {
            let (entries, steps): (Vec<_>, Vec<_>) =
                self.documents.iter().partition(|document| document.get("entry").is_some());
            let document = json!({
                "version": env!("CARGO_PKG_VERSION"), "exitCode": exit as u8, "steps": steps, "entries": entries,
            });
            let document = Redactor::of_home(self.options.terminal.places.home.clone()).clean_value(document);
            writeln!(out, "{}", text::json(&document)?)?;
        }
        Ok(())
    }
}

/// Returns what of an entry is secret: the values of its variables, as the host passes them on, also without a scheme before
/// them. A header's value is one of the settings' secrets.
fn secrets(entry: &Entry, environment: Environment<'_>) -> Vec<String> {
    // The URL of a proxy is printed, unless it has a password.
    let is_open = |name: &str, value: &str| name.to_ascii_uppercase().ends_with("_PROXY") && !value.contains('@');
    let is_secret = |name: &str, value: &str| !NOT_SECRET.contains(&name) && !is_open(name, value);
    // Without its value, the text is a name.
    let is_set = |value: &str| {
        let mut names = variables_of_host(entry.host, value);
        names.all(|name| environment(name).is_some_and(|value| !value.is_empty()))
    };
    let secret = entry.server.variables.iter().filter(|(name, value)| is_secret(name, value) && is_set(value));
    let values = secret.map(|(_, value)| expanded(entry.host, value, environment));
    values
        .flat_map(|value| {
            let rest = value.split_once(' ').map(|(_, rest)| rest.to_owned());
            std::iter::once(value).chain(rest)
        })
        .collect()
}

/// The name in `${input:NAME}`, for which a host asks its user.
fn input(word: &str) -> Option<&str> {
    Some(word.split_once("${input:")?.1.split_once('}')?.0)
}

/// A sentence as a part of a line.
fn lower(sentence: &str) -> String {
    let mut characters = sentence.trim_end_matches('.').chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}
