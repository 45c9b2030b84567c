//! The MCP hosts whose time limits are known, and how long each can be kept waiting for a server that
//! cannot answer yet.
//!
//! A host ends a program that does not answer `initialize` in time, and not every host asks for the tools
//! again after `notifications/tools/list_changed`. So an answer is held for nearly as long as the host
//! waits: the real tools are then the first that the host sees.
//!
//! # Invariants
//!
//! - A hold is shorter than the limit of the host it was measured at.
//! - A host with an unknown name is treated like the most impatient library that hides behind such names.

pub(crate) mod limits;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::Message;

/// How long requests of a host are held while the server cannot answer them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// `initialize`, where a reason is known: a person has to sign in, or the server cannot be reached.
    pub initialize: Duration,
    /// `initialize`, where the server is only slow, or where the person is signing in already.
    pub slow: Duration,
    /// The first `tools/list` after that.
    pub list: ListHold,
}

/// How long the first `tools/list` is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListHold {
    /// For this long from its arrival: it has a limit of its own.
    For(Duration),
    /// As long as is left of this from the arrival of `initialize`: one limit covers both.
    Within(Duration),
}

impl ListHold {
    /// What is left of the hold when `tools/list` arrives `elapsed` after `initialize`.
    #[must_use]
    pub fn left(self, elapsed: Duration) -> Duration {
        match self {
            Self::For(hold) => hold,
            Self::Within(limit) => limit.saturating_sub(elapsed),
        }
    }
}

/// A host as it names itself (MCP 2025-11-25, Lifecycle, Initialization: `clientInfo`; MCP 2026-07-28,
/// `io.modelcontextprotocol/clientInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HostName {
    /// `clientInfo.name`.
    pub name: String,
    /// `clientInfo.version`.
    pub version: String,
}

impl HostName {
    /// Reads the name from an `initialize`, or from the metadata of a request of MCP 2026-07-28.
    #[must_use]
    pub fn of(request: &Message) -> Self {
        #[derive(Deserialize)]
        struct Request {
            params: Params,
        }
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "clientInfo")]
            legacy: Option<HostName>,
            #[serde(rename = "_meta")]
            meta: Option<Meta>,
        }
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "io.modelcontextprotocol/clientInfo")]
            modern: Option<HostName>,
        }
        let request = serde_json::from_slice::<Request>(&request.body.to_bytes());
        let name = request.ok().and_then(|Request { params }| params.legacy.or_else(|| params.meta?.modern));
        name.unwrap_or_default()
    }
}

/// What a host says about itself in the environment of the programs it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostEnvironment {
    /// `MCP_TIMEOUT`: Claude Code's limit for `initialize`, as its user set it.
    pub mcp_timeout: Option<Duration>,
    /// `CLAUDE_CODE_ENTRYPOINT`: `cli` for the terminal, `sdk-cli` for one-shot runs and SDK sessions.
    pub claude_code_entrypoint: Option<String>,
}

impl HostEnvironment {
    /// Reads the variables.
    #[must_use]
    pub fn of(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let timeout = environment("MCP_TIMEOUT").and_then(|text| text.trim().parse().ok());
        Self {
            mcp_timeout: timeout.map(Duration::from_millis),
            claude_code_entrypoint: environment("CLAUDE_CODE_ENTRYPOINT"),
        }
    }
}

/// A row of the table: seconds that a host is held.
struct Row {
    /// `clientInfo.name`, or how it begins if the row ends in `*`.
    name: &'static str,
    initialize: f32,
    slow: f32,
    list: Limit,
}

/// The column of `tools/list`, in seconds.
enum Limit {
    Own(f32),
    Shared(f32),
}
use Limit::{Own, Shared};

/// OpenAI Agents (Python and npm, 5 s) and pydantic-ai (5 s) hide behind names like `mcp`, `fastmcp`, or the
/// application's own.
const UNKNOWN: Row = row("*", 3.5, 3.5, Own(3.5));

const fn row(name: &'static str, initialize: f32, slow: f32, list: Limit) -> Row {
    Row { name, initialize, slow, list }
}

/// Measured on Linux in November 2026 with the versions named, or read in a source or a report where that
/// is said. Each hold leaves 10 to 25 % for the host's own start, a wrapper (`npx`, `cmd`) and slow machines.
const TABLE: [Row; 24] = [
    // Claude Desktop: 60 s (reports: modelcontextprotocol/servers#4153). It asks for the tools again and keeps
    // the first ones (report: anthropics/claude-ai-mcp#960). Nobody has measured its limit for tools/list.
    row("claude-ai", 45.0, 45.0, Own(10.0)),
    // Codex 0.169: 30 s each; never asks again. Older versions: see `codex_is_old`.
    row("codex-mcp-client", 25.0, 25.0, Own(25.0)),
    // Qwen Code 0.24, Kimi Code 2.1, mcporter 0.12: 30 s for both together; never ask again.
    row("qwen-cli-mcp-client*", 24.0, 24.0, Shared(24.0)),
    row("kimi-code", 24.0, 24.0, Shared(24.0)),
    row("mcporter", 24.0, 24.0, Shared(24.0)),
    // Continue CLI 1.5: 60 s; never asks again.
    row("continue-cli-client", 45.0, 45.0, Own(10.0)),
    // Cline CLI 3.0: 1.5 s for initialize, at least 40 s for tools/list; never asks again.
    row("@cline/core", 0.0, 1.0, Own(35.0)),
    // Cline in VS Code: 60 s and 5 s (source).
    row("Cline", 10.0, 10.0, Own(3.5)),
    // @langchain/mcp-adapters 1.1 (npm), mcp-use 1.34: 60 s each.
    row("@langchain/mcp-adapters", 50.0, 50.0, Own(50.0)),
    row("mcp-use", 50.0, 50.0, Own(50.0)),
    // MCP inspector 2.12, command line: 30 s and 60 s; one shot.
    row("inspector-cli", 24.0, 24.0, Own(50.0)),
    // @ai-sdk/mcp 1.0 and 2.0: no limit in 130 s.
    row("ai-sdk-mcp-client", 120.0, 120.0, Own(0.0)),
    // `gemini mcp list`: 5 s, and nothing but a ping follows.
    row("mcp-test-client", 0.0, 3.5, Own(0.0)),
    // Gemini CLI 0.61: 600 s; asks again.
    row("gemini-cli-mcp-client", 45.0, 45.0, Own(0.0)),
    // GitHub Copilot CLI 1.0: 60 s each; asks again at the next prompt.
    row("copilot-cli", 45.0, 45.0, Own(10.0)),
    // opencode 1.18: 30 s each; asks again.
    row("opencode", 24.0, 24.0, Own(20.0)),
    // VS Code: no limit (source), but a chat's first message waits, and it keeps the tools between sessions.
    row("Visual Studio Code*", 30.0, 30.0, Own(0.0)),
    // Zed, Cursor, Windsurf: 60 s (source; reports), in Windsurf perhaps for both. They ask again (reports).
    row("Zed", 45.0, 45.0, Own(0.0)),
    row("cursor-vscode", 45.0, 45.0, Own(0.0)),
    row("windsurf-client", 45.0, 45.0, Own(0.0)),
    // goose: 300 s (source).
    row("goose", 60.0, 60.0, Own(0.0)),
    // Python SDK, FastMCP (and OpenAI Agents, see UNKNOWN).
    row("mcp", 3.5, 3.5, Own(3.5)),
    row("fastmcp", 3.5, 3.5, Own(3.5)),
    // Factory droid 0.215: its status list leaves after about 5 s.
    row("factory-cli", 3.5, 3.5, Own(0.0)),
];

/// What the commands of this program that connect as clients call themselves.
pub(crate) const OWN_CLIENT: &str = "mcp-remote-client";

/// Hosts that ask `server/discover` first and go on with `initialize` after any error (measured).
const FALL_BACK: [&str; 6] = ["claude-code", "copilot-cli", "mcp", "fastmcp", "ai-sdk-mcp-client", OWN_CLIENT];

/// Claude Code's limit for `initialize` where its user set none (2.1.330).
const CLAUDE_CODE_LIMIT: Duration = Duration::from_secs(30);
/// Claude Code stops 3 s before its limit (2.1.330), and needs as much again and a little for its own start.
const CLAUDE_CODE_MARGIN: Duration = Duration::from_secs(8);
/// Claude Code asks for the tools again as soon as they have changed: its user is not kept longer.
const CLAUDE_CODE_HOLD: Duration = Duration::from_secs(20);

/// How long this host can be held.
#[must_use]
pub fn hold(host: &HostName, environment: &HostEnvironment) -> Hold {
    if host.name == "claude-code" {
        return hold_of_claude_code(environment);
    }
    if host.name == "codex-mcp-client" && codex_is_old(&host.version) {
        return hold_of(&row("", 8.0, 8.0, Own(8.0))); // 10 s (report: openai/codex#11851)
    }
    hold_of(TABLE.iter().find(|row| row.names(&host.name)).unwrap_or(&UNKNOWN))
}

/// Whether this host is known to go on with `initialize` when `server/discover` is refused.
pub(crate) fn falls_back(host: &HostName) -> bool {
    FALL_BACK.contains(&host.name.as_str())
}

fn hold_of_claude_code(environment: &HostEnvironment) -> Hold {
    let limit = environment.mcp_timeout.unwrap_or(CLAUDE_CODE_LIMIT);
    let slow = limit.saturating_sub(CLAUDE_CODE_MARGIN).min(CLAUDE_CODE_HOLD);
    match environment.claude_code_entrypoint.as_deref() {
        // `claude -p` sends its first model request after 1 to 2 s, whatever its servers do; `claude mcp list`
        // waits 5 s for tools/list; SDK sessions ask again.
        Some("sdk-cli") => Hold { initialize: Duration::ZERO, slow, list: ListHold::For(seconds(3.5)) },
        _ => Hold { initialize: slow, slow, list: ListHold::For(Duration::ZERO) },
    }
}

/// Codex before 0.169 waits 10 s for `initialize` (0.101), not 30.
fn codex_is_old(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(0)), Some(Ok(minor))) if minor < 169)
}

impl Row {
    fn names(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.name,
        }
    }
}

fn hold_of(row: &Row) -> Hold {
    let list = match row.list {
        Own(own) => ListHold::For(seconds(own)),
        Shared(both) => ListHold::Within(seconds(both)),
    };
    Hold { initialize: seconds(row.initialize), slow: seconds(row.slow), list }
}

fn seconds(seconds: f32) -> Duration {
    Duration::from_secs_f32(seconds)
}

/// How sure it is that a host has given up on a held request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Evidence {
    /// It has said so, or it is known to wait longer than its users like to.
    Certain,
    /// It has ended without a word: that counts if it happens twice in a row.
    Suspicion,
}

/// A request that is held for a host that limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldRequest {
    /// `initialize`
    Initialize,
    /// The first `tools/list`
    ToolsList,
}

/// How long a host was seen to wait before it gave up; `None` where that was never seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostLimits {
    /// For the answer to `initialize`.
    pub initialize: Option<Duration>,
    /// For the answer to the first `tools/list`.
    pub list: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, version: &str) -> Hold {
        hold(&HostName { name: name.to_owned(), version: version.to_owned() }, &HostEnvironment::default())
    }

    fn secs(hold: Hold) -> (u64, u64, ListHold) {
        (hold.initialize.as_millis() as u64, hold.slow.as_millis() as u64, hold.list)
    }

    #[test]
    fn hold_depends_on_host_name() {
        let own = |millis| ListHold::For(Duration::from_millis(millis));
        for (name, version, expected) in [
            ("claude-ai", "0.1.0", (45_000, 45_000, own(10_000))),
            ("codex-mcp-client", "0.169.0", (25_000, 25_000, own(25_000))),
            ("codex-mcp-client", "0.101.0", (8_000, 8_000, own(8_000))),
            ("qwen-cli-mcp-client-files", "0.0.1", (24_000, 24_000, ListHold::Within(Duration::from_secs(24)))),
            ("@cline/core", "0.0.0", (0, 1_000, own(35_000))),
            ("Visual Studio Code - Insiders", "1.99", (30_000, 30_000, own(0))),
            ("mcp", "0.1.0", (3_500, 3_500, own(3_500))),
            ("clauderon", "1", (3_500, 3_500, own(3_500))),
            ("", "", (3_500, 3_500, own(3_500))),
        ] {
            assert_eq!(secs(of(name, version)), expected, "{name} {version}");
        }
    }

    #[test]
    fn claude_code_hold_follows_environment() {
        let host = HostName { name: "claude-code".to_owned(), version: "2.1.330".to_owned() };
        let with = |timeout: Option<u64>, entrypoint: Option<&str>| {
            let environment = |name: &str| match name {
                "MCP_TIMEOUT" => timeout.map(|timeout| timeout.to_string()),
                "CLAUDE_CODE_ENTRYPOINT" => entrypoint.map(ToOwned::to_owned),
                _ => None,
            };
            let hold = hold(&host, &HostEnvironment::of(&environment));
            (hold.initialize.as_secs(), hold.slow.as_secs())
        };
        assert_eq!(with(None, Some("cli")), (20, 20));
        assert_eq!(with(Some(12_000), Some("cli")), (4, 4));
        assert_eq!(with(Some(120_000), None), (20, 20));
        assert_eq!(with(None, Some("sdk-cli")), (0, 20));
    }

    #[test]
    fn shared_limit_counts_from_initialize() {
        let shared = ListHold::Within(Duration::from_secs(24));
        assert_eq!(shared.left(Duration::from_secs(5)), Duration::from_secs(19));
        assert_eq!(shared.left(Duration::from_secs(25)), Duration::ZERO);
        assert_eq!(ListHold::For(Duration::from_secs(3)).left(Duration::from_secs(25)), Duration::from_secs(3));
    }

    #[test]
    fn host_name_is_read_in_both_eras() {
        let legacy = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"clientInfo":{"name":"a","version":"1","title":"A"}}}"#;
        let modern = r#"{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/clientInfo":{"name":"b","version":"2"}}}}"#;
        let name = |text: &str| HostName::of(&Message::from_text(text.to_owned()).unwrap());
        assert_eq!(name(legacy), HostName { name: "a".to_owned(), version: "1".to_owned() });
        assert_eq!(name(modern), HostName { name: "b".to_owned(), version: "2".to_owned() });
        assert_eq!(name(r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#), HostName::default());
    }
}
