//! `mcp-remote-client`: connects as the adapter does, initialises, and shows what the server has.
//!
//! An rmcp client service runs over our own remote end, through the same loop as a host's messages:
//! [`Connection`] is an rmcp transport. Must never: show anything it did not get through that loop.

use std::{
    io::{self, Write},
    sync::Arc,
};

use anyhow::Context;
use bytes::Bytes;
use rmcp::{
    RoleClient, ServiceError, ServiceExt,
    model::{ClientConfig, Implementation, Prompt, ProtocolVersion, Resource, ResourceTemplate, ServerPeerInfo, Tool},
    service::{ClientInitializeError, Peer, RunningService, RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    cli::Output,
    config::Config,
    forward::{self, Ends, Forward},
    local::{Incoming, Lines, Writer},
    message::{Message, Shape},
    report::{self, OWN_ERROR, Report},
    store::description::Shelf,
};

/// Bytes in flight inside the process: a few messages.
const PIPE: usize = 64 * 1024;

/// A connection to the remote server that any rmcp client service can run on.
#[derive(Debug)]
pub struct Connection {
    lines: Lines<ReadHalf<DuplexStream>>,
    writer: Arc<Mutex<Option<WriteHalf<DuplexStream>>>>,
    /// The loop; it ends with the connection.
    forwarding: JoinSet<()>,
}

impl Connection {
    /// Starts the loop; the first message opens the connection.
    ///
    /// # Errors
    /// Where the settings do not fit together.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let (near, far) = tokio::io::duplex(PIPE);
        let (reader, writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        let (opener, events) = crate::opener(config)?;
        let shelf = Shelf::new(config, opener.http.account_now());
        let forward = Forward::new(crate::settings(config), Box::new(shelf));
        let (stop, stops) = mpsc::channel(1);
        let ends = Ends {
            lines: Lines::new(far_reader, config.max_message),
            writer: Writer::new(far_writer),
            opener,
            events,
            stops,
            wakes: mpsc::channel(1).1, // a command for people is over before they sleep
        };
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let _open = stop; // nothing but the end of input stops it
            forward::run(forward, ends).await;
        });
        let lines = Lines::new(reader, config.max_message);
        Ok(Self { lines, writer: Arc::new(Mutex::new(Some(writer))), forwarding })
    }
}

impl Transport<RoleClient> for Connection {
    type Error = io::Error;

    fn send(&mut self, message: TxJsonRpcMessage<RoleClient>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let writer = self.writer.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut writer = writer.lock().await;
            writer.as_mut().ok_or(io::ErrorKind::NotConnected)?.write_all(&line).await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            match self.lines.next().await {
                Incoming::Line(line) => match serde_json::from_slice(&line) {
                    Ok(message) => return Some(message),
                    Err(error) => {
                        log::warn!("the server sent a message that rmcp cannot read: {error}");
                        if let Some(told) = unreadable(line) {
                            return Some(told);
                        }
                    }
                },
                Incoming::TooLong(_) => log::warn!("a message of the server is too long"),
                Incoming::End => return None,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        if let Some(mut writer) = self.writer.lock().await.take() {
            writer.shutdown().await?; // the end of input, for the loop; dropping one half would not be
        }
        while self.forwarding.join_next().await.is_some() {}
        Ok(())
    }
}

/// An error in the place of an answer that rmcp cannot read: somebody waits for it.
fn unreadable(line: Bytes) -> Option<RxJsonRpcMessage<RoleClient>> {
    let Ok(Message { shape: Shape::Response { id: Some(id) }, .. }) = Message::from_host(line) else { return None };
    let report = Report::new("bad_message", "the server's answer is not what the protocol has in this place", None);
    serde_json::from_slice(&report.answer(&id)).ok()
}

/// What a server has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inventory {
    server: Option<ServerPeerInfo>,
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    resource_templates: Vec<ResourceTemplate>,
    prompts: Vec<Prompt>,
}

/// Connects, looks at everything, prints it to `out`.
///
/// # Errors
/// The first step that failed, with the server's reason.
pub async fn run(config: &Config, output: Output, out: &mut (impl Write + Send)) -> anyhow::Result<()> {
    let service = serve(config).await?;
    let inventory = look(&service).await;
    let ended = service.cancel().await;
    let inventory = inventory?;
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&inventory)?)?,
        Output::Text => tell(&inventory, out)?,
    }
    ended.context("the connection did not end well").map(|_| ())
}

/// Connects and asks for the tools, which some servers protect where `initialize` is open to all.
///
/// # Errors
/// The first step that failed, with the server's reason.
pub async fn sign_in(config: &Config) -> anyhow::Result<()> {
    let service = serve(config).await?;
    let declared = service.peer_info().is_some_and(|server| server.capabilities.tools.is_some());
    let asked = if declared { service.list_tools(None).await.map(drop) } else { Ok(()) };
    service.cancel().await.context("the connection did not end well")?;
    match asked {
        // What the server itself has against the request has nothing to do with the sign-in.
        Err(ServiceError::McpError(error)) if error.code.0 == OWN_ERROR => Err(error).context("tools/list failed"),
        _ => Ok(()),
    }
}

async fn serve(config: &Config) -> anyhow::Result<RunningService<RoleClient, ClientConfig>> {
    let connection = Connection::new(config)?;
    let mut info = ClientConfig::default();
    info.client_info = Implementation::new("mcp-remote-client", env!("CARGO_PKG_VERSION"));
    // The newest that has an `initialize`; rmcp's own choice is newer.
    info.protocol_version = ProtocolVersion::V_2025_11_25;
    let host = report::host(config.server.url());
    let told = |error| match error {
        // An answer, ours or the server's: its words, without the form it came in.
        ClientInitializeError::JsonRpcError(answer) => {
            let member = |name| answer.data.as_ref().and_then(|data| data.get(name)?.as_str());
            let hint = member("hint").map(|hint| format!("; {hint}")).unwrap_or_default();
            let code = member("code").map(|code| format!(" [{code}]")).unwrap_or_default();
            anyhow::anyhow!("{}{hint}{code}", answer.message)
        }
        error => error.into(),
    };
    info.serve(connection).await.map_err(told).with_context(|| format!("cannot initialise with {host}"))
}

async fn look(peer: &Peer<RoleClient>) -> anyhow::Result<Inventory> {
    let server = peer.peer_info().map(|info| (*info).clone());
    // What the server does not declare is not asked for (MCP 2025-11-25, Lifecycle, Capability Negotiation).
    let declared = server.as_ref().map(|server| server.capabilities.clone()).unwrap_or_default();
    let mut inventory =
        Inventory { server, tools: vec![], resources: vec![], resource_templates: vec![], prompts: vec![] };
    if declared.tools.is_some() {
        inventory.tools = peer.list_all_tools().await.context("tools/list failed")?;
    }
    if declared.resources.is_some() {
        inventory.resources = peer.list_all_resources().await.context("resources/list failed")?;
        inventory.resource_templates =
            peer.list_all_resource_templates().await.context("resources/templates/list failed")?;
    }
    if declared.prompts.is_some() {
        inventory.prompts = peer.list_all_prompts().await.context("prompts/list failed")?;
    }
    Ok(inventory)
}

fn tell(inventory: &Inventory, out: &mut impl Write) -> io::Result<()> {
    if let Some(server) = &inventory.server {
        match &server.server_info {
            Some(Implementation { name, version, .. }) => write!(out, "{name} {version}")?,
            None => write!(out, "a server without a name")?,
        }
        writeln!(out, ", revision {}", server.protocol_version)?;
        if let Some(instructions) = &server.instructions {
            writeln!(out, "{instructions}")?;
        }
    }
    let first_line = |text: Option<&str>| text.and_then(|text| text.lines().next()).unwrap_or_default().to_owned();
    let tools = inventory.tools.iter().map(|tool| (tool.name.to_string(), first_line(tool.description.as_deref())));
    section(out, "tools", tools.collect())?;
    let resources = inventory.resources.iter().map(|resource| (resource.uri.clone(), resource.name.clone()));
    section(out, "resources", resources.collect())?;
    let templates =
        inventory.resource_templates.iter().map(|template| (template.uri_template.clone(), template.name.clone()));
    section(out, "resource templates", templates.collect())?;
    let prompts =
        inventory.prompts.iter().map(|prompt| (prompt.name.clone(), first_line(prompt.description.as_deref())));
    section(out, "prompts", prompts.collect())
}

fn section(out: &mut impl Write, title: &str, rows: Vec<(String, String)>) -> io::Result<()> {
    writeln!(out, "\n{title} ({})", rows.len())?;
    let width = rows.iter().map(|(name, _)| name.chars().count()).filter(|width| *width <= 40).max().unwrap_or(0);
    for (name, about) in rows {
        writeln!(out, "  {name:width$}  {about}")?;
    }
    Ok(())
}
