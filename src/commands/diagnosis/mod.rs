//! `mcp-remote-client`: a connection shown step by step, and what the server has; or one call or reading.
//!
//! In order: this computer (`environment`, `hosts`), the path to the server (`reachability`), then the adapter's own
//! connection, which reports what it finds (`facts`). A failure has the words that a host would get ([`crate::report`]), at
//! the step where it happened. Without a server URL, `every` does this for the entries of hosts.
//!
//! # Invariants
//!
//! - The server gets nothing that the adapter would not send, except connections that carry nothing.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Instant,
};

use reqwest::StatusCode;
use rmcp::{
    RoleClient, ServiceError,
    model::{ClientConfig, Implementation, ServerCapabilities, ServerPeerInfo},
    service::RunningService,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    cli::{ClientAction, ClientOptions, Output, Terminal},
    commands::client::{self, ClientTransport, Inventory, Listed, RequestFailure, listed},
    commands::redactor::{Redactor, plain},
    config::Config,
    mcp::method,
    oauth::fact::AuthorizationFact,
    observer::{Fact, Observer},
    report::{Code, Report},
    text,
};

/// Most lines below one step, where a server decides how many there are.
const MOST_ROWS: usize = 1000;
/// Longest of such a line's parts, in characters: a paragraph.
const LONGEST: usize = 1000;

mod entries;
mod environment;
pub(crate) mod every;
mod exit;
mod facts;
mod handshake;
mod hosts;
mod invoke;
mod printer;
mod reachability;

pub(crate) use exit::Exit;
use exit::{is_proxy, is_tls};
use facts::Seen;
use printer::{DiagnosisStep, Finding, Outcome, Printer, Style};

/// Does what is asked for, and prints it to `out`. What the user has to know meanwhile goes to stderr, if `out` is for a
/// program or for a result.
///
/// # Errors
/// Where the settings do not fit together, or nothing can be written.
pub(crate) async fn run(
    config: &Config,
    options: &ClientOptions,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Exit> {
    run_with(config, options, Vec::new(), out).await
}

/// The same, with more texts that are secret.
async fn run_with(
    config: &Config,
    options: &ClientOptions,
    secrets: Vec<String>,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<Exit> {
    let mut redactor = Redactor::new(config, options.terminal.places.home.clone());
    redactor.learn(secrets);
    let style = Style { is_verbose: options.verbose, ..style(options.output, &options.terminal) };
    let aside = || aside(options.silent);
    match (&options.action, options.output) {
        (ClientAction::Diagnosis, Output::Text) => {
            let mut diagnosis = Diagnosis::new(config, Printer::new(Box::new(out), style, redactor));
            diagnosis.header()?;
            diagnosis.everything(options, None).await?;
            diagnosis.printer.note("")?;
            diagnosis.printer.note(&diagnosis.verdict())?;
            Ok(diagnosis.exit())
        }
        (ClientAction::Diagnosis, Output::Json) => {
            let mut diagnosis = Diagnosis::new(config, Printer::new(aside(), style, redactor));
            diagnosis.header()?;
            let inventory = diagnosis.everything(options, None).await?;
            let document = diagnosis.document(&inventory)?;
            writeln!(out, "{}", text::json(&document)?)?;
            Ok(diagnosis.exit())
        }
        (action, output) => {
            let style = Style {
                is_sparing: true,
                has_colors: options.terminal.has_colors && io::stderr().is_terminal(),
                ..style
            };
            let mut diagnosis = Diagnosis::new(config, Printer::new(aside(), style, redactor));
            diagnosis.one_thing(action, output, out).await?;
            Ok(diagnosis.exit())
        }
    }
}

/// Where the user reads what is not the result.
fn aside(is_silent: bool) -> Box<dyn Write + Send> {
    if is_silent { Box::new(io::sink()) } else { Box::new(io::stderr()) }
}

/// How lines are printed where they go.
fn style(output: Output, terminal: &Terminal) -> Style {
    let is_terminal = match output {
        Output::Text => io::stdout().is_terminal(),
        Output::Json => io::stderr().is_terminal(),
    };
    Style { has_colors: terminal.has_colors && is_terminal, ..Style::default() }
}

/// The server's URL without what may be secret; what looks like a key is struck out later.
fn shown(config: &Config) -> String {
    let mut url = config.server.url().clone();
    url.set_query(None);
    url.set_fragment(None);
    _ = url.set_username("");
    _ = url.set_password(None);
    url.to_string()
}

/// One connection, and what was printed of it.
struct Diagnosis<'a> {
    config: &'a Config,
    host: String,
    printer: Printer<'a>,
    observer: Observer,
    facts: UnboundedReceiver<Fact>,
    /// What is asked of the server.
    asked: DiagnosisStep,
    /// What fails now, fails here.
    step: DiagnosisStep,
    /// When that began: a person's time is not the server's.
    since: Instant,
    seen: Seen,
    /// The server has answered HTTP 401, and nothing was found to show it.
    refused: bool,
    /// Lines whose outcome the server's first answer decides: the certificate, and what came after it.
    held: Vec<Finding>,
    /// The step and the exit code of the first failure.
    failed: Option<(DiagnosisStep, Exit)>,
}

type Service = RunningService<RoleClient, ClientConfig>;

impl<'a> Diagnosis<'a> {
    fn new(config: &'a Config, printer: Printer<'a>) -> Self {
        let (observer, facts) = Observer::new();
        let host = text::host(config.server.url());
        let (asked, step) = (DiagnosisStep::Transport, DiagnosisStep::Transport);
        let (seen, refused, held, failed) = (Seen::default(), false, Vec::new(), None);
        let since = Instant::now();
        Self { config, host, printer, observer, facts, asked, step, since, seen, refused, held, failed }
    }

    fn header(&mut self) -> io::Result<()> {
        let url = shown(self.config);
        self.printer.note(&format!("mcp-remote client {}: {url}", env!("CARGO_PKG_VERSION")))?;
        self.printer.note("")
    }

    /// All steps. `entry` is what was found of the host's entry that is diagnosed; without it the entries of all hosts are
    /// checked.
    async fn everything(&mut self, options: &ClientOptions, entry: Option<Vec<Finding>>) -> anyhow::Result<Inventory> {
        environment::check(self.config, &options.terminal, entry, &mut self.printer).await?;
        let way = reachability::check(self.config, &mut self.printer).await?;
        self.held.extend(way.certificate);
        self.step = way.failed_at.unwrap_or(DiagnosisStep::Transport);
        let mut inventory = Inventory::default();
        if let Some(service) = self.connect().await? {
            self.inspect(&service, &mut inventory).await?;
            self.end(service).await?;
        }
        self.note_failed_entries();
        Ok(inventory)
    }

    /// A call, or a reading.
    async fn one_thing(&mut self, action: &ClientAction, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
        let Some(service) = self.connect().await? else { return Ok(()) };
        match action {
            ClientAction::Diagnosis => {}
            ClientAction::Call { tool, arguments } => {
                self.ask(DiagnosisStep::Call);
                match self.heard(invoke::call(&service, tool, arguments)).await? {
                    Ok(result) => {
                        invoke::print_call(&result, output, out)?;
                        if result.is_error == Some(true) {
                            self.failed = Some((DiagnosisStep::Call, Exit::Failed));
                        }
                    }
                    Err(error) => self.fail(RequestFailure::of(&error, method::TOOLS_CALL, &self.host))?,
                }
            }
            ClientAction::Read { uri } => {
                self.ask(DiagnosisStep::Read);
                match self.heard(invoke::read(&service, uri)).await? {
                    Ok(result) => invoke::print_read(&result, output, out)?,
                    Err(error) => self.fail(RequestFailure::of(&error, method::RESOURCES_READ, &self.host))?,
                }
            }
        }
        self.end(service).await
    }

    async fn connect(&mut self) -> anyhow::Result<Option<Service>> {
        self.since = Instant::now();
        let connection = ClientTransport::new(self.config, self.observer.clone())?;
        let host = self.host.clone();
        let service = match self.heard(client::connect(connection, "mcp-remote-client", &host)).await? {
            Ok(service) => service,
            Err(failure) => {
                self.fail(failure)?;
                return Ok(None);
            }
        };
        if let Some(server) = service.peer_info() {
            self.printer.print(of_server(&server).after(self.since.elapsed()))?;
        }
        Ok(Some(service))
    }

    async fn end(&mut self, service: Service) -> anyhow::Result<()> {
        self.heard(service.cancel()).await??;
        Ok(())
    }

    /// Everything the server has. What it does not declare is not asked for (MCP 2025-11-25, Lifecycle,
    /// Capability Negotiation).
    async fn inspect(&mut self, service: &Service, inventory: &mut Inventory) -> anyhow::Result<()> {
        inventory.server = service.peer_info().map(|info| (*info).clone());
        let declared = inventory.server.as_ref().map(|server| server.capabilities.clone()).unwrap_or_default();
        let (tools, resources, prompts) =
            (declared.tools.is_some(), declared.resources.is_some(), declared.prompts.is_some());
        inventory.tools = self
            .list(
                DiagnosisStep::Tools,
                tools,
                method::TOOLS_LIST,
                listed(async |page| service.list_tools(Some(page)).await.map(|page| (page.tools, page.next_cursor))),
                |tool| (tool.name.to_string(), tool.description.as_deref().unwrap_or_default().to_owned()),
            )
            .await?;
        inventory.resources = self
            .list(
                DiagnosisStep::Resources,
                resources,
                method::RESOURCES_LIST,
                listed(async |page| {
                    service.list_resources(Some(page)).await.map(|page| (page.resources, page.next_cursor))
                }),
                |resource| (resource.uri.clone(), resource.name.clone()),
            )
            .await?;
        let templates = listed(async |page| {
            let page = service.list_resource_templates(Some(page)).await?;
            Ok((page.resource_templates, page.next_cursor))
        });
        inventory.resource_templates = self
            .list(DiagnosisStep::ResourceTemplates, resources, method::TEMPLATES_LIST, templates, |template| {
                (template.uri_template.clone(), template.name.clone())
            })
            .await?;
        inventory.prompts = self
            .list(
                DiagnosisStep::Prompts,
                prompts,
                method::PROMPTS_LIST,
                listed(async |page| {
                    service.list_prompts(Some(page)).await.map(|page| (page.prompts, page.next_cursor))
                }),
                |prompt| (prompt.name.clone(), prompt.description.as_deref().unwrap_or_default().to_owned()),
            )
            .await?;
        Ok(())
    }

    async fn list<T>(
        &mut self,
        step: DiagnosisStep,
        declared: bool,
        method: &str,
        request: impl Future<Output = Result<Listed<T>, ServiceError>>,
        row: impl Fn(&T) -> (String, String),
    ) -> anyhow::Result<Vec<T>> {
        if !declared {
            self.printer.print(Finding::skip(step, "not among the server's capabilities"))?;
            return Ok(Vec::new());
        }
        self.ask(step);
        match self.heard(request).await? {
            Ok(Listed { items, cut }) => {
                let rows = table(items.iter().take(MOST_ROWS).map(row).collect(), items.len());
                let line = if cut {
                    let text = format!("{} so far, because the server's list has no last page", items.len());
                    Finding::warn(step, text, "report this to the server's maintainers")
                } else {
                    Finding::ok(step, items.len().to_string())
                };
                self.printer.print(line.after(self.since.elapsed()).with_below(rows))?;
                Ok(items)
            }
            Err(error) => {
                self.fail(RequestFailure::of(&error, method, &self.host))?;
                Ok(Vec::new())
            }
        }
    }

    fn ask(&mut self, step: DiagnosisStep) {
        (self.asked, self.step, self.since) = (step, step, Instant::now());
    }

    /// Waits for `work`, and meanwhile prints what becomes known.
    async fn heard<T>(&mut self, work: impl Future<Output = T>) -> io::Result<T> {
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                Some(fact) = self.facts.recv() => self.hear(&fact)?,
                done = &mut work => break done,
            }
        };
        while let Ok(fact) = self.facts.try_recv() {
            self.hear(&fact)?;
        }
        Ok(done)
    }

    fn hear(&mut self, fact: &Fact) -> io::Result<()> {
        match fact {
            Fact::Challenged { status: StatusCode::UNAUTHORIZED, .. } => self.refused = true,
            Fact::Authorization(AuthorizationFact::Credential(_)) | Fact::Opened(..) => self.refused = false,
            _ => {}
        }
        if let Fact::Authorization(AuthorizationFact::Credential(credential)) = fact {
            self.printer.learn_tokens(credential.tokens());
        }
        match fact {
            // Found on disk, and not shown to the server yet.
            Fact::Authorization(AuthorizationFact::Credential(_)) if !self.held.is_empty() => {
                let (lines, _) = facts::lines(fact, self.config.transport, &self.seen);
                self.held.extend(lines);
                return Ok(());
            }
            // Only this user may see them.
            Fact::Authorization(AuthorizationFact::Asking { url, code, .. }) => {
                let query = url.query().map(ToOwned::to_owned);
                self.printer.learn(query.into_iter().chain(code.clone()));
            }
            Fact::Authorization(AuthorizationFact::AnotherAsks { url: Some(url) }) => {
                let query = url.split_once('?').map(|(_, query)| query.to_owned());
                self.printer.learn(query);
            }
            _ => {}
        }
        self.seen.note(fact);
        self.release()?;
        let (lines, next) = facts::lines(fact, self.config.transport, &self.seen);
        self.step = next.unwrap_or(self.asked);
        if !matches!(fact, Fact::Opened(..) | Fact::Discovered { .. }) {
            self.since = Instant::now();
        }
        lines.into_iter().try_for_each(|line| self.printer.print(line))
    }

    /// The server has answered, so its certificate is good.
    fn release(&mut self) -> io::Result<()> {
        self.held.drain(..).try_for_each(|line| self.printer.print(line))
    }

    fn fail(&mut self, failure: RequestFailure) -> io::Result<()> {
        let RequestFailure { mut code, sentence, mut hint } = failure;
        // A 401 that explains itself in JSON-RPC is a 401.
        if code == Code::ServerError && self.refused {
            let told = Report::new(Code::Unauthorized, "", None);
            (code, hint) = (told.code, told.hint);
        }
        let mut step = self.step;
        if is_tls(code) {
            if let Some(certificate) = self.held.first_mut() {
                certificate.set_outcome(Outcome::Info); // it is what the server shows, and no more
            }
            step = DiagnosisStep::Tls;
        } else if is_proxy(code) {
            step = DiagnosisStep::Proxy;
        } else if matches!(code, Code::Unauthorized | Code::CredentialRefused) {
            step = DiagnosisStep::Challenge;
        }
        self.release()?;
        self.failed.get_or_insert_with(|| (step, Exit::of(code)));
        self.printer.print(Finding::new(step, Outcome::Fail, sentence).with_code(code).with_action(hint))
    }

    /// An entry of a host that cannot work is a failure too, if a lesser one.
    fn note_failed_entries(&mut self) {
        if self.failed.is_none() && self.count(Outcome::Fail) > 0 {
            self.failed = Some((DiagnosisStep::Host, Exit::Failed));
        }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.printer.lines().iter().filter(|line| line.outcome() == outcome).count()
    }

    fn exit(&self) -> Exit {
        self.failed.map_or(Exit::Well, |(_, exit)| exit)
    }

    fn verdict(&self) -> String {
        match (self.failed, self.count(Outcome::Warn)) {
            (Some((step, exit)), _) => format!("Failed at {} (exit code {}).", step.name(), exit as u8),
            (None, 0) => "All checks passed.".to_owned(),
            (None, 1) => "All checks passed, with 1 warning.".to_owned(),
            (None, warnings) => format!("All checks passed, with {warnings} warnings."),
        }
    }

    fn outcome(&self) -> Outcome {
        match (self.failed, self.count(Outcome::Warn)) {
            (Some(_), _) => Outcome::Fail,
            (None, 0) => Outcome::Ok,
            (None, _) => Outcome::Warn,
        }
    }

    fn document(&self, inventory: &Inventory) -> anyhow::Result<Value> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            version: &'a str,
            exit_code: u8,
            steps: &'a [Finding],
            #[serde(flatten)]
            inventory: Value,
        }
        let document = Document {
            version: env!("CARGO_PKG_VERSION"),
            exit_code: self.exit() as u8,
            steps: self.printer.lines(),
            inventory: self.printer.redactor().clean_value(json!(inventory)),
        };
        Ok(serde_json::to_value(document)?)
    }
}

fn of_server(server: &ServerPeerInfo) -> Finding {
    let name = match &server.server_info {
        Some(Implementation { name, version, .. }) => format!("{} {}", cut(name), cut(version)),
        None => "unnamed server".to_owned(),
    };
    let version = cut(&server.protocol_version.to_string());
    let text = format!("{name}, protocol version {version}, capabilities: {}", capabilities(&server.capabilities));
    let mut below: Vec<_> = server.instructions.iter().flat_map(|text| text.lines()).map(cut).take(MOST_ROWS).collect();
    if server.instructions.as_ref().is_some_and(|text| text.lines().nth(MOST_ROWS).is_some()) {
        below.push("…".to_owned());
    }
    Finding::ok(DiagnosisStep::Handshake, text).with_below(below)
}

/// By their names in the protocol.
fn capabilities(capabilities: &ServerCapabilities) -> String {
    let value = json!(capabilities);
    let names: Vec<_> = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Names, and the first line of what is said about them, aligned; `all` is how many there are.
fn table(rows: Vec<(String, String)>, all: usize) -> Vec<String> {
    /// In characters; a longer name is alone in its column.
    const WIDEST: usize = 40;
    let width = rows.iter().map(|(name, _)| name.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let more = all.saturating_sub(rows.len());
    let row = |(name, about): (String, String)| {
        let about = about.lines().next().unwrap_or_default();
        plain(&format!("{:width$}  {}", cut(&name), cut(about))).trim_end().to_owned()
    };
    let mut rows: Vec<_> = rows.into_iter().map(row).collect();
    if more > 0 {
        rows.push(format!("and {more} more (--json lists all)"));
    }
    rows
}

/// The beginning of what is too long for a line.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
