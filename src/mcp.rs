//! Names of the Model Context Protocol: methods, headers and protocol versions, each written once.

use std::time::Duration;

use reqwest::header::HeaderName;
use serde::{Deserialize, Serialize};

/// How long a request may wait before this program answers it: MCP hosts give up after 60 s (the default of the
/// TypeScript and Python SDKs), and an answer that comes before says more than their timeout.
pub(crate) const HOST_PATIENCE: Duration = Duration::from_secs(45);

/// A transport of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TransportKind {
    /// MCP 2025-03-26 and later.
    StreamableHttp,
    /// MCP 2024-11-05.
    HttpSse,
}

/// The levels of log messages, least severe first (MCP 2025-11-25, Logging, Log Levels).
pub(crate) const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// The media type of an event stream (HTML Living Standard, Server-Sent Events).
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Methods of requests and notifications.
pub(crate) mod method {
    pub(crate) const INITIALIZE: &str = "initialize";
    pub(crate) const INITIALIZED: &str = "notifications/initialized";
    pub(crate) const PING: &str = "ping";
    pub(crate) const CANCELLED: &str = "notifications/cancelled";
    pub(crate) const PROGRESS: &str = "notifications/progress";

    pub(crate) const TOOLS_LIST: &str = "tools/list";
    pub(crate) const TOOLS_CALL: &str = "tools/call";
    pub(crate) const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
    pub(crate) const PROMPTS_LIST: &str = "prompts/list";
    pub(crate) const PROMPTS_GET: &str = "prompts/get";
    pub(crate) const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";
    pub(crate) const RESOURCES_LIST: &str = "resources/list";
    pub(crate) const TEMPLATES_LIST: &str = "resources/templates/list";
    pub(crate) const RESOURCES_READ: &str = "resources/read";
    pub(crate) const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
    pub(crate) const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
    pub(crate) const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";
    pub(crate) const SET_LEVEL: &str = "logging/setLevel";

    pub(crate) const LOG_MESSAGE: &str = "notifications/message";
    pub(crate) const RESOURCE_UPDATED: &str = "notifications/resources/updated";
    pub(crate) const ROOTS_LIST: &str = "roots/list";
    pub(crate) const SAMPLING_CREATE: &str = "sampling/createMessage";
    pub(crate) const ELICITATION_CREATE: &str = "elicitation/create";
    pub(crate) const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";

    /// MCP 2025-11-25 (experimental) and the tasks extension of 2026-07-28.
    pub(crate) const TASKS_GET: &str = "tasks/get";
    pub(crate) const TASKS_RESULT: &str = "tasks/result";
    pub(crate) const TASKS_LIST: &str = "tasks/list";
    pub(crate) const TASKS_CANCEL: &str = "tasks/cancel";
    pub(crate) const TASKS_UPDATE: &str = "tasks/update";

    /// MCP 2026-07-28.
    pub(crate) const DISCOVER: &str = "server/discover";
    pub(crate) const LISTEN: &str = "subscriptions/listen";
    pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
}

/// Headers (MCP 2025-11-25, Transports; MCP 2026-07-28, Streamable HTTP).
pub(crate) mod header {
    use super::HeaderName;

    pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
    pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
    pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
    /// MCP 2026-07-28: the method of the message in the body.
    pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
    /// MCP 2026-07-28: what a message names (a tool, a prompt, a resource).
    pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");
}

/// Protocol versions. They are dates, so their order is that of the text.
pub(crate) mod version {
    /// What a peer means that names no version.
    pub(crate) const OLDEST: &str = "2024-11-05";
    /// The only version with batches.
    pub(crate) const WITH_BATCHES: &str = "2025-03-26";
    pub(crate) const JUNE_2025: &str = "2025-06-18";
    /// The newest that begins with `initialize`.
    pub(crate) const NEWEST_LEGACY: &str = "2025-11-25";
    /// Those that begin with `initialize`, oldest first.
    pub(crate) const LEGACY: [&str; 4] = [OLDEST, WITH_BATCHES, JUNE_2025, NEWEST_LEGACY];
    /// The first without `initialize` and sessions.
    pub(crate) const FIRST_MODERN: &str = "2026-07-28";
}
