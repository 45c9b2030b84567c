//! The crate's own client: connects as the adapter does, initializes, and lists what the server has.
//! [`super::diagnosis`] prints it.
//!
//! An rmcp client service runs over the crate's remote end, through the same loop as a host's messages:
//! [`ClientTransport`] is an rmcp transport.
//!
//! # Invariants
//!
//! - Nothing is sent that does not go through that loop.

use std::{io, sync::Arc};

use bytes::Bytes;
use rmcp::{
    RoleClient, ServiceError, ServiceExt,
    model::{
        ClientConfig, ErrorCode, ErrorData, Implementation, PaginatedRequestParams, Prompt, ProtocolVersion, Resource,
        ResourceTemplate, ServerPeerInfo, Tool,
    },
    service::{
        ClientInitializeError, ClientLifecycleMode, RunningService, RxJsonRpcMessage, TxJsonRpcMessage,
        serve_client_with_lifecycle,
    },
    transport::Transport,
};
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    compose::Forwarder,
    config::Config,
    known_hosts::OWN_CLIENT,
    local::{Incoming, Lines},
    mcp::method,
    message::{Message, Shape},
    observer::Observer,
    report::{
        self, OWN_ERROR, Report,
        catalogue::{CHECK_RESOURCE, CHECK_TOOL, Code, SIGN_IN_THERE, START_AGAIN, is_ours},
    },
    text::{chain, is_obeyed, one_line},
};

/// Bytes in flight inside the process: a few messages.
const PIPE: usize = 64 * 1024;
/// Longest sentence that is taken over, in characters: some have a URL to open.
const LONGEST: usize = 4000;
/// Pages of one list that are followed, because some servers' lists have no last page.
const MOST_PAGES: usize = 200;
/// Size of a list, in bytes, after which no more pages are followed: all of it is kept.
const LARGEST_LIST: usize = 32 * 1024 * 1024;

/// A connection to the remote server that any rmcp client service can run on. A clone is another handle of the same
/// connection.
#[derive(Clone, Debug)]
pub(super) struct ClientTransport {
    lines: Arc<Mutex<Lines<ReadHalf<DuplexStream>>>>,
    writer: Arc<Mutex<Option<WriteHalf<DuplexStream>>>>,
    /// The loop; it ends with the connection.
    forwarding: Arc<Mutex<JoinSet<()>>>,
}

impl ClientTransport {
    /// Starts the loop; the first message opens the connection.
    ///
    /// # Errors
    /// Where the settings do not fit together.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(config: &Config, observer: Observer) -> anyhow::Result<Self> {
        let (near, far) = tokio::io::duplex(PIPE);
        let (reader, writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        let forwarder = Forwarder::new(config, observer)?;
        let (stop, stops) = mpsc::channel(1);
        let (_, wakes) = mpsc::channel(1); // a command for people is over before the machine sleeps
        let mut forwarding = JoinSet::new();
        forwarding.spawn(async move {
            let _open = stop; // nothing but the end of input stops it
            forwarder.run(far_reader, far_writer, stops, wakes).await;
        });
        let lines = Arc::new(Mutex::new(Lines::new(reader, config.limits.max_message_size)));
        let (writer, forwarding) = (Arc::new(Mutex::new(Some(writer))), Arc::new(Mutex::new(forwarding)));
        Ok(Self { lines, writer, forwarding })
    }
}

impl Transport<RoleClient> for ClientTransport {
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
        let mut lines = self.lines.lock().await;
        loop {
            match lines.next().await {
                Incoming::Line(line) => match serde_json::from_slice(&line) {
                    Ok(message) => return Some(message),
                    Err(error) => {
                        log::warn!("the server sent an invalid message: {error}");
                        if let Some(told) = unreadable(line) {
                            return Some(told);
                        }
                    }
                },
                Incoming::TooLong(_) => log::warn!("the server sent a message that is too long"),
                Incoming::End => return None,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        if let Some(mut writer) = self.writer.lock().await.take() {
            writer.shutdown().await?; // the end of input, for the loop; dropping one half would not be
        }
        let mut forwarding = self.forwarding.lock().await;
        while forwarding.join_next().await.is_some() {}
        Ok(())
    }
}

/// Returns an error instead of an answer that rmcp cannot read, because the caller waits for an answer.
fn unreadable(line: Bytes) -> Option<RxJsonRpcMessage<RoleClient>> {
    let Ok(Message { shape: Shape::Response { id: Some(id) }, .. }) = Message::from_host(line) else { return None };
    let report = Report::new(Code::BadMessage, "the server's response does not match the protocol", None);
    serde_json::from_slice(&report.answer(&id)).ok()
}

/// What a server has.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Inventory {
    pub(crate) server: Option<ServerPeerInfo>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) resource_templates: Vec<ResourceTemplate>,
    pub(crate) prompts: Vec<Prompt>,
}

/// A list of a server's, as far as it was followed.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    /// It is not all: there were pages after the last one that was asked for.
    pub(crate) cut: bool,
}

/// Asks for one page after the other (MCP 2025-11-25, Pagination).
pub(crate) async fn listed<T, P>(page: impl Fn(PaginatedRequestParams) -> P) -> Result<Listed<T>, ServiceError>
where
    T: Serialize,
    P: Future<Output = Result<(Vec<T>, Option<String>), ServiceError>>,
{
    let mut listed = Listed { items: Vec::new(), cut: true };
    let mut cursor = None;
    let mut size = 0;
    for _ in 0..MOST_PAGES {
        let (items, next) = page(PaginatedRequestParams::default().with_cursor(cursor)).await?;
        size += serde_json::to_vec(&items).map_or(0, |text| text.len());
        listed.items.extend(items);
        cursor = next;
        if cursor.is_none() {
            listed.cut = false;
            break;
        }
        if size > LARGEST_LIST {
            break;
        }
    }
    Ok(listed)
}

/// Why a request failed, in the words that a host would get.
#[derive(Debug)]
pub(crate) struct RequestFailure {
    pub(crate) code: Code,
    pub(crate) sentence: String,
    pub(crate) hint: Option<String>,
}

impl RequestFailure {
    pub(super) fn of_answer(answer: &ErrorData, asked: &str, host: &str) -> Self {
        let data = |member| Some(answer.data.as_ref()?.get(member)?.as_str()?.to_owned());
        // A server can send what looks like ours, but no code and nothing to do that is not in the catalogue.
        if answer.code.0 == OWN_ERROR
            && let Some(code) = data("code").and_then(|code| Code::of(&code))
        {
            let sentence = report::sentence(&answer.message, code, data("hint").as_deref()).chars();
            let sentence = sentence.take(LONGEST).map(|one| if is_obeyed(one) { ' ' } else { one }).collect();
            let hint = data("hint")
                .filter(|hint| is_ours(code.entry(), hint))
                .or_else(|| code.entry().action.map(ToOwned::to_owned));
            // A host's adapter keeps running; this command is about to end, and its callback port closes.
            let hint = hint.map(|hint| if hint == SIGN_IN_THERE { START_AGAIN.to_owned() } else { hint });
            return Self { code, sentence, hint };
        }
        // A modern server's refusal keeps the server's code and data: only its message names the failure.
        let not_shared = Code::ProtocolVersionNotShared;
        if let Some(sentence) = report::sentence_of(&answer.message, not_shared.entry()) {
            return Self::reported(Report::new(not_shared, one_line(sentence.as_bytes()), None));
        }
        let (code, message) = (answer.code.0, one_line(answer.message.as_bytes()));
        // MCP 2025-11-25, Tools and Resources, Error Handling: what was asked for is not there.
        let absent = [ErrorCode::INVALID_PARAMS, ErrorCode::RESOURCE_NOT_FOUND].contains(&answer.code);
        let hint = match asked {
            method::TOOLS_CALL if absent => Some(CHECK_TOOL),
            method::RESOURCES_READ if absent => Some(CHECK_RESOURCE),
            _ => None,
        };
        Self::reported(Report::new(
            Code::ServerError,
            format!("{host} answered {asked} with error {code}: {message}"),
            hint,
        ))
    }

    fn reported(report: Report) -> Self {
        Self { code: report.code, sentence: report.sentence, hint: report.hint }
    }

    fn other(error: &dyn std::error::Error, asked: &str, host: &str) -> Self {
        log::debug!("{asked}: {}", chain(error)); // the words of a library
        Self::reported(Report::new(Code::BadMessage, format!("{host} sent an invalid response to {asked}"), None))
    }

    /// Of a request.
    pub(crate) fn of(error: &ServiceError, asked: &str, host: &str) -> Self {
        match error {
            ServiceError::McpError(answer) => Self::of_answer(answer, asked, host),
            error => Self::other(error, asked, host),
        }
    }
}

/// Connects as a client of both eras: asks `server/discover`, and continues with `initialize` where that is refused
/// (MCP 2026-07-28, Versioning, Backward Compatibility). After a sign-in, the page in the browser sends the user back to
/// what is `called` so.
pub(crate) async fn connect(
    connection: ClientTransport,
    called: &str,
    host: &str,
) -> Result<RunningService<RoleClient, ClientConfig>, RequestFailure> {
    let mut info = ClientConfig::default();
    info.client_info = Implementation::new(OWN_CLIENT, env!("CARGO_PKG_VERSION")).with_title(called);
    // The newest that has an `initialize`; rmcp's own choice is newer.
    info.protocol_version = ProtocolVersion::V_2025_11_25;
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    // Not rmcp's mode for both eras, which waits 10 s for a sign-in and continues after any error.
    let failed = |error: &ClientInitializeError, asked| match error {
        ClientInitializeError::JsonRpcError(answer) => RequestFailure::of_answer(answer, asked, host),
        error => RequestFailure::other(error, asked, host),
    };
    match serve_client_with_lifecycle(info.clone(), connection.clone(), modern).await {
        Err(ClientInitializeError::JsonRpcError(refused)) if refused.code == ErrorCode::METHOD_NOT_FOUND => {}
        connected => return connected.map_err(|error| failed(&error, method::DISCOVER)),
    }
    info.serve(connection).await.map_err(|error| failed(&error, method::INITIALIZE))
}
