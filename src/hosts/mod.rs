//! Hosts, as far as their configuration matters: where the file is, how it is written, what an entry in it looks like,
//! and how an entry is changed.
//!
//! The files and their shapes are those of Claude Desktop, Claude Code, Cursor, Windsurf, VS Code, Zed, Codex, Gemini CLI,
//! opencode, Cline, Copilot CLI and goose. YAML, which goose reads, is only searched for the name of this program.
//!
//! # Invariants
//!
//! - [`edit`] changes nothing outside of the entry, whatever the layout of the file. If it cannot do that, it refuses.
//! - [`mod@file`] replaces a file in one step, and only if it still has the content that was read.

pub(crate) mod edit;
pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod launch;
pub(crate) mod places;
pub(crate) mod syntax;

/// What a host reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// JSON (RFC 8259).
    Json,
    /// JSON with comments.
    Comments,
    /// JSON with comments and with commas before a closing bracket.
    Jsonc,
    /// TOML 1.0.
    Toml,
    /// YAML, which this program does not read.
    Yaml,
}

/// What an entry has beside the command and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Plain,
    /// `"type": "stdio"`.
    Stdio,
    /// `"source": "custom"` and an `env`.
    Zed,
    /// `"type": "local"`; the command and its arguments are one array.
    Opencode,
    /// `"type": "local"` and which tools are on.
    Copilot,
    /// `"disabled": false`.
    Cline,
    /// Members of its own names.
    Goose,
}

/// A host, as far as its configuration matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// The name for the command line.
    pub(crate) id: &'static str,
    /// The name for people.
    pub(crate) name: &'static str,
    pub(crate) syntax: Syntax,
    /// The member that has the servers.
    pub(crate) key: &'static str,
    /// Whether the file is for nothing but servers.
    pub(crate) is_only_servers: bool,
    pub(crate) form: Form,
    /// What the user does so that the host reads the file again.
    pub(crate) reload: &'static str,
}

const MCP_SERVERS: &str = "mcpServers";

/// Claude Desktop.
pub(crate) const CLAUDE_DESKTOP: Host = Host {
    id: "claude-desktop",
    name: "Claude Desktop",
    syntax: Syntax::Json,
    key: MCP_SERVERS,
    is_only_servers: false,
    form: Form::Plain,
    reload: "quit it, also from the tray or the menu bar, then start it again",
};
/// Claude Code. Each running session rewrites its file, so only its own command changes it.
pub(crate) const CLAUDE_CODE: Host = Host {
    id: "claude-code",
    name: "Claude Code",
    syntax: Syntax::Json,
    key: MCP_SERVERS,
    is_only_servers: false,
    form: Form::Stdio,
    reload: "start a new session, or type /mcp in a running one",
};
/// A project's `.mcp.json`, which Claude Code and others read.
pub(crate) const PROJECT: Host = Host {
    id: "project",
    name: "this project",
    syntax: Syntax::Json,
    key: MCP_SERVERS,
    is_only_servers: true,
    form: Form::Plain,
    reload: "start a new session of the host, which asks whether you trust the entry",
};
/// Cursor.
pub(crate) const CURSOR: Host = Host {
    id: "cursor",
    name: "Cursor",
    syntax: Syntax::Json,
    key: MCP_SERVERS,
    is_only_servers: true,
    form: Form::Plain,
    reload: "turn the server on under Settings, Tools & MCP, if it is off",
};
/// Windsurf.
pub(crate) const WINDSURF: Host = Host {
    id: "windsurf",
    name: "Windsurf",
    syntax: Syntax::Json,
    key: MCP_SERVERS,
    is_only_servers: true,
    form: Form::Plain,
    reload: "press Refresh in its list of MCP servers",
};
/// VS Code.
pub(crate) const VS_CODE: Host = Host {
    id: "vscode",
    name: "VS Code",
    syntax: Syntax::Jsonc,
    key: "servers",
    is_only_servers: true,
    form: Form::Stdio,
    reload: "run the command MCP: List Servers, choose the server and start it",
};
/// Zed.
pub(crate) const ZED: Host = Host {
    id: "zed",
    name: "Zed",
    syntax: Syntax::Jsonc,
    key: "context_servers",
    is_only_servers: false,
    form: Form::Zed,
    reload: "nothing, because it reads the file again by itself",
};
/// Codex.
pub(crate) const CODEX: Host = Host {
    id: "codex",
    name: "Codex",
    syntax: Syntax::Toml,
    key: "mcp_servers",
    is_only_servers: false,
    form: Form::Plain,
    reload: "start a new session",
};
/// Gemini CLI.
pub(crate) const GEMINI: Host = Host {
    id: "gemini",
    name: "Gemini CLI",
    syntax: Syntax::Comments,
    key: MCP_SERVERS,
    is_only_servers: false,
    form: Form::Plain,
    reload: "start a new session, or type /mcp refresh in a running one",
};
/// opencode.
pub(crate) const OPENCODE: Host = Host {
    id: "opencode",
    name: "opencode",
    syntax: Syntax::Jsonc,
    key: "mcp",
    is_only_servers: false,
    form: Form::Opencode,
    reload: "start it again",
};
/// Cline.
pub(crate) const CLINE: Host = Host {
    id: "cline",
    name: "Cline",
    syntax: Syntax::Json,
    key: MCP_SERVERS,
    is_only_servers: true,
    form: Form::Cline,
    reload: "nothing, because it reads the file again by itself",
};
/// Copilot CLI.
pub(crate) const COPILOT: Host = Host {
    id: "copilot",
    name: "Copilot CLI",
    syntax: Syntax::Jsonc,
    key: MCP_SERVERS,
    is_only_servers: true,
    form: Form::Copilot,
    reload: "start a new session",
};
/// goose.
pub(crate) const GOOSE: Host = Host {
    id: "goose",
    name: "goose",
    syntax: Syntax::Yaml,
    key: "extensions",
    is_only_servers: false,
    form: Form::Goose,
    reload: "start a new session",
};

/// The hosts that a user can name, in the order in which they are shown.
pub(crate) const HOSTS: [Host; 12] =
    [CLAUDE_DESKTOP, CLAUDE_CODE, CURSOR, WINDSURF, VS_CODE, ZED, CODEX, GEMINI, OPENCODE, CLINE, COPILOT, GOOSE];

impl Host {
    /// The same host under another name: an edition of it, or its file in a project.
    pub(crate) const fn called(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}
