//! The lines of a diagnosis: each is printed when it is known, and all of them are kept for `--json`.
//!
//! # Invariants
//!
//! - A secret is not shown, even if a server repeats it.
//! - A server's words do not move the cursor.

use std::{
    io::{self, Write},
    time::Duration,
};

use anstyle::AnsiColor;
use serde::{Serialize, Serializer};

use crate::{
    commands::redactor::{Redactor, plain},
    oauth::stored::tokens::Tokens,
    report::{Code, Report},
};

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
