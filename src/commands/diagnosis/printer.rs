//! The lines of a diagnosis: each is printed when it is known, and all of them are kept for `--json`.
//!
//! # Invariants
//!
//! - A secret is not shown, even if a server repeats it.
//! - A server's words do not move the cursor.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anstyle::AnsiColor;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    config::{Config, ProxyChoice},
    oauth::stored::tokens::{TokenFile, Tokens},
    report::{Code, Report},
    store::{DISK_PATIENCE, Store, within},
    text::{is_key, is_obeyed},
};

/// Shorter texts are no secrets, and would be struck out of words that they are part of.
const SHORTEST_SECRET: usize = 6;
/// What stands in the place of a secret, and of what was cut off.
const STRUCK_OUT: &str = "…";
/// A shorter beginning of a secret says nothing of it: a header's is its scheme.
const SHORTEST_BEGINNING: usize = 8;
/// Width of the longest step's name.
const WIDTH: usize = 20;

/// A step of the way to what a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiagnosisStep {
    Arguments,
    Environment,
    Host,
    Store,
    StoredSignIn,
    CallbackPort,
    Proxy,
    Dns,
    Tcp,
    Tls,
    Transport,
    Protocol,
    Challenge,
    Resource,
    AuthorizationServer,
    Client,
    SignIn,
    Token,
    Handshake,
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
    Call,
    Read,
}

impl DiagnosisStep {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Environment => "environment",
            Self::Host => "host",
            Self::Store => "store",
            Self::StoredSignIn => "stored-sign-in",
            Self::CallbackPort => "callback-port",
            Self::Proxy => "proxy",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Transport => "transport",
            Self::Protocol => "protocol",
            Self::Challenge => "challenge",
            Self::Resource => "resource",
            Self::AuthorizationServer => "authorization-server",
            Self::Client => "client",
            Self::SignIn => "sign-in",
            Self::Token => "token",
            Self::Handshake => "handshake",
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resource-templates",
            Self::Prompts => "prompts",
            Self::Call => "call",
            Self::Read => "read",
        }
    }
}

impl Serialize for DiagnosisStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// Neither good nor bad.
    Info,
    /// There was nothing to look at.
    Skip,
    /// It works here and now, and may not elsewhere.
    Warn,
    /// It does not work.
    Fail,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    /// The name in a column of lines, in its color.
    fn column(self, has_colors: bool) -> String {
        let style = match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Fail => AnsiColor::Red.on_default(),
            Self::Info | Self::Skip => anstyle::Style::new(),
        };
        let style = if has_colors { style } else { anstyle::Style::new() };
        format!("{style}{:4}{style:#}", self.name())
    }
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    step: DiagnosisStep,
    outcome: Outcome,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u128>,
    /// The action has text to copy, in which the home folder keeps its name.
    #[serde(skip)]
    is_exact: bool,
    /// How it is known: only shown with `--verbose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    /// What only the person at this terminal is to see: a URL to open.
    #[serde(skip)]
    below: Vec<String>,
}

impl Finding {
    pub(super) fn new(step: DiagnosisStep, outcome: Outcome, text: impl Into<String>) -> Self {
        Self {
            step,
            outcome,
            text: text.into(),
            code: None,
            action: None,
            ms: None,
            is_exact: false,
            details: Vec::new(),
            below: Vec::new(),
        }
    }

    pub(super) fn ok(step: DiagnosisStep, text: impl Into<String>) -> Self {
        Self::new(step, Outcome::Ok, text)
    }

    pub(super) fn info(step: DiagnosisStep, text: impl Into<String>) -> Self {
        Self::new(step, Outcome::Info, text)
    }

    pub(super) fn skip(step: DiagnosisStep, text: impl Into<String>) -> Self {
        Self::new(step, Outcome::Skip, text)
    }

    pub(super) fn warn(step: DiagnosisStep, text: impl Into<String>, action: impl Into<String>) -> Self {
        Self { action: Some(action.into()), ..Self::new(step, Outcome::Warn, text) }
    }

    /// In the words of the catalogue.
    pub(super) fn report(step: DiagnosisStep, outcome: Outcome, report: Report) -> Self {
        let code = Some(report.code);
        Self { code, action: report.hint, ..Self::new(step, outcome, report.sentence) }
    }

    pub(super) const fn with_code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    pub(super) fn with_action(self, action: Option<String>) -> Self {
        Self { action, ..self }
    }

    /// An action with text to copy.
    pub(super) fn with_exact_action(self, action: String) -> Self {
        Self { action: Some(action), is_exact: true, ..self }
    }

    pub(super) fn after(self, time: Duration) -> Self {
        Self { ms: Some(time.as_millis()), ..self }
    }

    pub(super) fn with_below(self, below: Vec<String>) -> Self {
        Self { below, ..self }
    }

    pub(super) fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(super) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

/// How lines are printed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Only problems, and what the user has to do.
    pub(super) is_sparing: bool,
    /// Skipped steps too.
    pub(super) is_verbose: bool,
    pub(super) has_colors: bool,
}

/// Prints lines, and keeps them.
pub(super) struct Printer<'a> {
    out: Box<dyn Write + Send + 'a>,
    style: Style,
    lines: Vec<Finding>,
    redactor: Redactor,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: Box<dyn Write + Send + 'a>, style: Style, redactor: Redactor) -> Self {
        Self { out, style, lines: Vec::new(), redactor }
    }

    /// Prints a line at once, unless it is one of those that the style leaves out.
    pub(super) fn print(&mut self, line: Finding) -> io::Result<()> {
        let mut line = line;
        line.text = self.redactor.clean(&line.text);
        line.action = line.action.map(|action| match line.is_exact {
            true => self.redactor.without_secrets(plain(&action)),
            false => self.redactor.clean(&action),
        });
        line.details.iter_mut().for_each(|detail| *detail = self.redactor.clean(detail));
        let is_urgent = matches!(line.outcome, Outcome::Warn | Outcome::Fail)
            || line.step == DiagnosisStep::SignIn && !line.below.is_empty();
        let is_shown = self.style.is_verbose || line.outcome != Outcome::Skip;
        if is_urgent || is_shown && !self.style.is_sparing {
            let time = line.ms.map(|ms| format!(" ({ms} ms)")).unwrap_or_default();
            let (outcome, step) = (line.outcome.column(self.style.has_colors), line.step.name());
            writeln!(self.out, "{outcome}  {step:WIDTH$}  {}{time}", line.text)?;
            for detail in line.details.iter().filter(|_| self.style.is_verbose) {
                writeln!(self.out, "      {:WIDTH$}  {detail}", "")?;
            }
            for text in &line.below {
                // A URL to open has to be whole; only this user sees it.
                let text = if line.step == DiagnosisStep::SignIn { plain(text) } else { self.redactor.clean(text) };
                writeln!(self.out, "      {:WIDTH$}  {text}", "")?;
            }
            if let Some(action) = &line.action {
                writeln!(self.out, "      {:WIDTH$}  Tip: {action}", "")?;
            }
            if let Some(code) = &line.code {
                writeln!(self.out, "      {:WIDTH$}  Details: mcp-remote explain {code}", "")?;
            }
            self.out.flush()?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// A line without a step.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        if !self.style.is_sparing {
            writeln!(self.out, "{}", self.redactor.clean(text))?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// A line of a summary.
    pub(super) fn summary(&mut self, outcome: Outcome, text: &str) -> io::Result<()> {
        let outcome = outcome.column(self.style.has_colors);
        writeln!(self.out, "{outcome}  {}", self.redactor.clean(text))
    }

    pub(super) fn lines(&self) -> &[Finding] {
        &self.lines
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Adds texts that are secret.
    pub(super) fn learn(&mut self, secrets: impl IntoIterator<Item = String>) {
        self.redactor.learn(secrets);
    }

    /// Adds tokens, which are secret.
    pub(super) fn learn_tokens(&mut self, tokens: &Tokens) {
        self.redactor.learn_tokens(tokens);
    }
}

/// Strikes out what is secret, and makes text fit for a terminal.
pub(super) struct Redactor {
    secrets: Vec<String>,
    home: Option<PathBuf>,
}

impl Redactor {
    /// One that knows no secrets.
    pub(super) fn of_home(home: Option<PathBuf>) -> Self {
        Self { secrets: Vec::new(), home }
    }

    /// One that knows the secrets of these settings and of the store.
    pub(super) fn new(config: &Config, home: Option<PathBuf>) -> Self {
        let mut secrets = Vec::new();
        let url = config.server.url();
        secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(url.query().into_iter().flat_map(|query| query.split('&')).map(|pair| {
            pair.split_once('=').map_or(pair, |(_, value)| value).to_owned() // as it was written
        }));
        secrets.extend(url.password().map(ToOwned::to_owned));
        secrets.extend(url.path().split('/').filter(|part| is_key(part)).map(ToOwned::to_owned));
        for value in config.headers.values().filter_map(|value| value.to_str().ok()) {
            secrets.push(value.to_owned());
            secrets.extend(value.split_once(' ').map(|(_, credential)| credential.trim().to_owned())); // after its scheme
        }
        let info = config.authorization.client_info.as_ref();
        secrets.extend(info.and_then(|info| Some(info.expose().get("client_secret")?.as_str()?.to_owned())));
        if let ProxyChoice::Explicit { http, https, .. } = &config.network.proxy {
            let proxies = [http, https].into_iter().flatten();
            secrets.extend(proxies.filter_map(|proxy| proxy.expose().password().map(ToOwned::to_owned)));
        }
        let store = Store::new(config.store.clone(), config.server_hash.clone());
        let mut redactor = Self::of_home(home);
        redactor.learn(secrets);
        // A token that is read later is learned then.
        let stored =
            within(DISK_PATIENCE, move || TokenFile::all().filter_map(|file| Tokens::load(&store, file)).collect());
        let stored: Vec<_> = stored.unwrap_or_default();
        stored.iter().for_each(|tokens| redactor.learn_tokens(tokens));
        redactor
    }

    /// They may be in no store: it cannot always be written.
    fn learn_tokens(&mut self, tokens: &Tokens) {
        let all = [Some(tokens.access_token()), tokens.refresh_token(), tokens.id_token()];
        self.learn(all.into_iter().flatten().map(|token| (*token.expose()).to_owned()));
    }

    pub(super) fn learn(&mut self, secrets: impl IntoIterator<Item = String>) {
        self.secrets.extend(secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET));
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len())); // the whole before its part
        self.secrets.dedup();
    }

    /// Without secrets, the home folder and control characters.
    pub(super) fn clean(&self, text: &str) -> String {
        self.strike(plain(text))
    }

    /// The same for every text in a value; control characters are left to [`crate::text::json`].
    pub(super) fn clean_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.strike(text)),
            Value::Array(items) => items.into_iter().map(|item| self.clean_value(item)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, member)| (self.strike(name), self.clean_value(member))).collect()
            }
            other => other,
        }
    }

    fn strike(&self, text: String) -> String {
        let text = self.without_secrets(text);
        match self.home.as_ref().and_then(|home| home.to_str()).filter(|home| home.len() > 1) {
            Some(home) => text.replace(home.trim_end_matches(['/', '\\']), "~"),
            None => text,
        }
    }

    /// Without secrets, and with the home folder by its name.
    fn without_secrets(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, STRUCK_OUT);
            }
        }
        if text.contains(STRUCK_OUT) {
            let mut parts: Vec<&str> = text.split(STRUCK_OUT).collect();
            let all_but_last = parts.len() - 1;
            parts[..all_but_last].iter_mut().for_each(|part| *part = self.without_beginning(part));
            text = parts.join(STRUCK_OUT);
        }
        text
    }
}

impl Redactor {
    /// A text that was cut in the middle of a secret, without its beginning.
    fn without_beginning<'a>(&self, text: &'a str) -> &'a str {
        let begun = |secret: &String| {
            let lengths = (SHORTEST_BEGINNING..secret.len()).rev();
            lengths.filter_map(|length| text.strip_suffix(secret.get(..length)?)).next()
        };
        self.secrets.iter().find_map(begun).unwrap_or(text)
    }
}

/// One line of text, without characters that a terminal obeys.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|character| if is_obeyed(character) { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_in_path_differs_from_name() {
        for key in ["NjY5ZmQ0MTMtODk4ZS00", "0f8fad5b-d9cb-469f-a165-70867728950e"] {
            assert!(is_key(key), "{key}");
        }
        for name in ["mcp", "v1", "2025-06-18", "a-rather-long-name-of-a-server", "12345678901234567890"] {
            assert!(!is_key(name), "{name}");
        }
    }
}
