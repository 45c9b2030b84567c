//! The entries of hosts, diagnosed one after the other, each with its own server URL, flags and variables.
//!
//! # Invariants
//!
//! - An entry is read as mcp-remote itself reads it: an argument that only `mcp-remote-client` knows fails.
//! - No entry gets the arguments of another one, and no value of an entry's variables is shown.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use serde_json::{Value, json};

use super::{
    Diagnosis, Exit,
    entries::judge,
    hosts::{Entry, Settings, expanded},
    printer::{DiagnosisStep, Finding, Outcome, Printer, Redactor, Style},
};
use crate::{
    cli::{self, ClientAction, ClientOptions, Command, EntryOptions, Output, Program},
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
    let Settings { findings, entries, files } = Settings::read(&options.terminal);
    let named = |entry: &&Entry| options.name.as_ref().is_none_or(|name| *name == entry.name);
    let chosen: Vec<_> = entries.iter().filter(named).filter(|entry| entry.server.is_ours()).collect();
    let mut all = All { options, environment, checked: Vec::new(), documents: Vec::new() };
    if options.action != ClientAction::Diagnosis {
        return match chosen.first() {
            Some(entry) => all.one_thing(entry, out).await,
            None => all.none(&entries, &files, Vec::new(), out),
        };
    }
    all.header(out)?;
    // With a name, the user means that entry; the files that cannot be read may have it.
    let findings = findings
        .into_iter()
        .filter(|(_, finding)| options.name.is_none() || chosen.is_empty() && finding.outcome() == Outcome::Fail);
    let findings: Vec<_> = findings.collect();
    let has_failed = findings.iter().any(|(_, finding)| finding.outcome() == Outcome::Fail);
    if chosen.is_empty() && (options.name.is_some() || !has_failed) {
        return all.none(&entries, &files, findings.into_iter().map(|(_, finding)| finding).collect(), out);
    }
    all.files(findings, out)?;
    for entry in chosen {
        all.check(entry, out).await?;
    }
    all.end(out)
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
        let redactor = Redactor::of_home(self.options.terminal.home.clone());
        Printer::new(self.out(out), self.style(), redactor)
    }

    fn header(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        self.printer(out).note(&format!("mcp-remote-client {}", env!("CARGO_PKG_VERSION")))
    }

    /// Prints what is wrong with whole files.
    fn files(&mut self, findings: Vec<(&'static str, Finding)>, out: &mut (dyn Write + Send)) -> io::Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        let mut printer = self.printer(out);
        printer.note("")?;
        for (host, finding) in findings {
            if finding.outcome() == Outcome::Fail {
                self.checked.push(Checked {
                    name: format!("{host}, settings file"),
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

    /// Diagnoses one entry.
    async fn check(&mut self, entry: &Entry, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
        let home = self.options.terminal.home.clone();
        let judged = judge(&entry.place(), &entry.server, None, &self.options.terminal);
        let read = self.read(entry);
        let variables = entry.server.variables();
        let has_failed = judged.outcome() == Outcome::Fail;
        let (config, options) = match read {
            Ok(read) if entry.server.is_apart() => read,
            failed => {
                let mut redactor = Redactor::of_home(home);
                redactor.learn(secrets(entry));
                let mut printer = Printer::new(self.out(out), self.style(), redactor);
                printer.note("")?;
                printer.note(&format!("{}:", entry.place()))?;
                printer.print(judged)?;
                let mut exit = Exit::Failed;
                if let Err(report) = failed {
                    exit = Exit::Arguments;
                    printer.print(Finding::report(DiagnosisStep::Settings, Outcome::Fail, report))?;
                }
                let step = if exit == Exit::Arguments && !has_failed { "settings" } else { "host" };
                let verdict = format!("failed at {step} (exit code {})", exit as u8);
                let steps = json!(printer.lines());
                self.note(entry, Outcome::Fail, verdict, exit, json!({ "exitCode": exit as u8, "steps": steps }));
                return Ok(());
            }
        };
        let mut redactor = Redactor::new(&config, home);
        redactor.learn(secrets(entry));
        let printer = Printer::new(self.out(out), self.style(), redactor);
        let mut diagnosis = Diagnosis::new(&config, printer);
        diagnosis.printer.note("")?;
        diagnosis.printer.note(&format!("{}: {}", entry.place(), super::shown(&config)))?;
        // The library that reads them knows the environment of this process only.
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter(|name| variables.contains_key(**name)) {
            let text = format!("mcp-remote-client does not use {name} of the entry");
            let tip = format!("set {name} in this terminal too, then test the entry again");
            diagnosis.printer.print(Finding::warn(DiagnosisStep::Settings, text, tip))?;
        }
        let inventory = diagnosis.everything(&options, Some(judged)).await?;
        let (outcome, exit, verdict) = (diagnosis.outcome(), diagnosis.exit(), diagnosis.verdict());
        let document = diagnosis.document(&inventory)?;
        self.note(entry, outcome, lower(&verdict), exit, document);
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
            Err(report) => {
                let mut redactor = Redactor::of_home(self.options.terminal.home.clone());
                redactor.learn(secrets(entry));
                let mut printer = Printer::new(super::aside(self.options.silent), self.style(), redactor);
                printer.print(Finding::report(DiagnosisStep::Settings, Outcome::Fail, report))?;
                return Ok(Exit::Arguments);
            }
        };
        super::run_with(&config, &options, secrets(entry), out).await
    }

    /// Reads the arguments of an entry, first as mcp-remote does, then for a diagnosis.
    fn read(&self, entry: &Entry) -> Result<(Box<Config>, Box<ClientOptions>), Report> {
        let EntryOptions { output, action, terminal, silent, verbose, .. } = self.options;
        let variables = entry.server.variables();
        let environment = |name: &str| {
            let own = variables.get(name).map(|value| expanded(entry.host, value, self.environment));
            own.or_else(|| (self.environment)(name))
        };
        let is_log_flag = |word: &&String| ["--debug", "--silent"].contains(&word.as_str());
        let words = entry.server.own_arguments().iter().filter(|word| !is_log_flag(word));
        let words: Vec<_> = words.map(|word| expanded(entry.host, word, self.environment)).collect();
        if let Some(asked) = words.iter().chain(variables.values()).find_map(|word| input(word)) {
            let text = format!("the host asks for ${{input:{asked}}}, which mcp-remote-client cannot do");
            return Err(Report::new(Code::VariableNotSet, text, None));
        }
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        match cli::parse(Program::Adapter, words.clone(), &environment) {
            Ok(Command::Forward(_)) => {}
            Ok(_) => {
                let text = "the entry starts a command for people instead of a connection to a server";
                return Err(Report::new(Code::BadEntry, text, None));
            }
            Err(usage) => return Err(usage.report),
        }
        match cli::parse(Program::Client, words, &environment) {
            Ok(Command::Client(config, mut options)) => {
                (options.output, options.action) = (*output, action.clone());
                (options.silent, options.verbose) = (*silent, *verbose);
                options.terminal.borrowed.retain(|borrowed| !variables.contains_key(&borrowed.name));
                options.terminal.has_colors = terminal.has_colors;
                Ok((config, options))
            }
            Ok(_) => Err(Report::new(Code::BadEntry, "the entry names no server URL", None)),
            Err(usage) => Err(usage.report),
        }
    }

    /// Reports that there is nothing to check, which is not a success.
    fn none(
        &mut self,
        entries: &[Entry],
        files: &[std::path::PathBuf],
        findings: Vec<Finding>,
        out: &mut (dyn Write + Send),
    ) -> anyhow::Result<Exit> {
        let of_other_program = |name: &String| entries.iter().find(|entry| entry.name == *name);
        let finding = match &self.options.name {
            Some(name) => {
                let text = match of_other_program(name) {
                    Some(entry) => format!("{} starts another program than mcp-remote", entry.place()),
                    None => format!("no host has an entry {name:?}"),
                };
                let mut names: Vec<_> = entries
                    .iter()
                    .filter(|entry| entry.server.is_ours())
                    .map(|entry| format!("{:?}", entry.name))
                    .collect();
                names.sort();
                names.dedup();
                let tip = match &*names.join(", ") {
                    "" => "test a server by its URL: mcp-remote-client https://example.com/mcp".to_owned(),
                    names => format!("use the name of an entry that starts mcp-remote: {names}"),
                };
                Finding::new(DiagnosisStep::Host, Outcome::Fail, text).with_action(Some(tip))
            }
            None => {
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                let text = match &*files.join(", ") {
                    "" => "no settings file of a host was found, so nothing was checked".to_owned(),
                    files => format!("no entry of a host starts mcp-remote, so nothing was checked (read: {files})"),
                };
                let tip = "test a server by its URL: mcp-remote-client https://example.com/mcp".to_owned();
                Finding::new(DiagnosisStep::Host, Outcome::Fail, text).with_action(Some(tip))
            }
        };
        let mut printer = self.printer(out);
        printer.note("")?;
        for finding in findings {
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
            let document = Redactor::of_home(self.options.terminal.home.clone()).clean_value(document);
            writeln!(out, "{}", text::json(&document)?)?;
        }
        Ok(())
    }
}

/// Returns what of an entry is secret: the values of its variables, also without a scheme before them. A header's value is
/// one of the settings' secrets.
fn secrets(entry: &Entry) -> Vec<String> {
    // The URL of a proxy is printed, unless it has a password.
    let is_open = |name: &str, value: &str| name.to_ascii_uppercase().ends_with("_PROXY") && !value.contains('@');
    let is_secret = |name: &str, value: &str| !NOT_SECRET.contains(&name) && !is_open(name, value);
    let secret = entry.server.variables().iter().filter(|(name, value)| is_secret(name, value));
    let values =
        secret.flat_map(|(_, value)| [Some(value.clone()), value.split_once(' ').map(|(_, rest)| rest.to_owned())]);
    values.flatten().collect()
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
