//! The placeholder: what is shown while the server cannot be asked. That is its last known lists, or a single tool that
//! says what the connection waits for.
//!
//! # Invariants
//!
//! - `StandIn` has no name that a tool of a server could have.
//! - `StandIn` shows no tool that is to be hidden.
//! - What a model reads as instructions, or as a tool's description, has no words of a server, a gateway or a portal: only
//!   the tool's result has them, in quotation marks.

use reqwest::Url;
use serde_json::{Value, json};

use super::{context::Context, hold::Holding, lists::LastListed};
use crate::{
    description::{Description, List},
    era::Era,
    mcp::method,
    message::{Id, Message, peek},
    report::{self, Code, Report},
    text,
};

/// The placeholder's tool where a person has to sign in, and where not. The prefix is this program's, so no server's
/// tool has the name.
const SIGN_IN_TOOL: &str = "mcp_remote_sign_in";
const STATUS_TOOL: &str = "mcp_remote_status";

/// What every list has in the modern era (MCP 2026-07-28, Caching): nothing of this is worth keeping.
const MODERN_MEMBERS: &str = r#","resultType":"complete","ttlMs":0,"cacheScope":"private""#;

/// What lists are answered from.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) known: Option<Description>,
    /// What the connection waits for.
    pub(super) report: Report,
    pub(super) tool: &'static str,
    /// Host and port of the server.
    server: String,
}

impl StandIn {
    pub(super) fn new(known: Option<Description>, report: Report, server: &Url) -> Self {
        Self { known, tool: tool_for(&report), report, server: text::host(server) }
    }

    /// Something else is to be reported now.
    pub(super) fn replace_report(&mut self, report: Report) {
        self.tool = tool_for(&report);
        self.report = report;
    }

    /// The same; the host is told if the tool is another one by that.
    pub(super) fn set_report(&mut self, report: Report, cx: &mut Context, era: Era) {
        // The same in other words is not worth a new list, but another address to open is.
        let same = self.report.code == report.code
            && (report.code != Code::SignInNeeded || self.report.sentence == report.sentence);
        self.replace_report(report);
        if !same && matches!(cx.lists.last(List::Tools), LastListed::Placeholder) {
            cx.host.announce(era, &[List::Tools]);
        }
    }

    /// Returns whether the server has said what is in this list.
    pub(super) fn knows(&self, list: List) -> bool {
        self.known.as_ref().is_some_and(|known| known.items(list).is_some())
    }

    /// Answers a list, if it is owed.
    pub(super) fn answer_list(&self, id: &Id, list: List, cx: &mut Context, hold: Option<&mut Holding>, era: Era) {
        let Some(asked) = cx.host.asked(id) else { return };
        let known = self.known.as_ref().and_then(|known| known.items(list)).filter(|_| !asked.is_later_page());
        let items = match known {
            Some(items) => items.iter().map(|item| item.get()).collect::<Vec<_>>().join(","),
            None if list == List::Tools && !asked.is_later_page() => self.tool().to_string(),
            None => String::new(),
        };
        let modern = if era == Era::Modern { MODERN_MEMBERS } else { "" };
        let text = format!(r#"{{"{}":[{items}]{modern}}}"#, list.member());
        let Some(body) = cx.host.answer_whole(id, &text) else { return };
        let last = if known.is_some() { LastListed::Pages(vec![body]) } else { LastListed::Placeholder };
        cx.lists.set(list, last);
        if let Some(hold) = hold.filter(|_| list == List::Tools) {
            hold.list_was_answered();
        }
    }

    /// Answers a call of the placeholder's tool.
    pub(super) fn answer_call(&self, id: &Id, more: &str, cx: &mut Context) {
        cx.host.answer(id, &text_result(&format!("{}{more}", self.quoted_words())));
    }

    fn tool(&self) -> Value {
        let about = "This server's own tools replace this tool when the connection is established. If the host does not \
                     show them then, restart the server's entry in the host. Call this tool to see the status, and to try \
                     again after a failure.";
        json!({
            "name": self.tool,
            "title": if self.tool == SIGN_IN_TOOL { "Sign in" } else { "Connection status" },
            "description": format!("{} {about}", self.words()),
            "inputSchema": { "type": "object", "properties": {} },
            "annotations": { "readOnlyHint": true, "openWorldHint": false },
        })
    }

    /// Returns what the connection waits for, in this program's words.
    pub(super) fn words(&self) -> String {
        if is_own(self.report.code) {
            return self.with_hint(&self.report.sentence);
        }
        let status = self.report.status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
        self.with_hint(&format!("{} is not available{status}", self.server))
    }

    /// Returns the same with what others have said of it, quoted.
    fn quoted_words(&self) -> String {
        if is_own(self.report.code) {
            return self.words();
        }
        format!(
            "{} The reason, which may quote the server or a proxy in front of it: {:?}",
            self.words(),
            self.report.sentence
        )
    }

    fn with_hint(&self, words: &str) -> String {
        report::line(words, self.report.code, self.report.hint.as_deref())
    }
}

fn tool_for(report: &Report) -> &'static str {
    if report.code == Code::SignInNeeded { SIGN_IN_TOOL } else { STATUS_TOOL }
}

/// Returns whether the sentences of a failure are this program's own. What they quote is an address to open, a port, or
/// what the operating system says.
fn is_own(code: Code) -> bool {
    matches!(
        code,
        Code::CannotConnect
            | Code::NameNotFound
            | Code::PortTaken
            | Code::SignInNeeded
            | Code::SignInTimedOut
            | Code::TimedOut
    )
}

/// Returns whether a request is a call of the placeholder's tool.
pub(super) fn is_call(request: &Message) -> bool {
    request.method() == Some(method::TOOLS_CALL)
        && peek::name(request).is_some_and(|name| name == SIGN_IN_TOOL || name == STATUS_TOOL)
}

/// Returns a tool's result with this text (MCP 2025-11-25, Tools, Text Content).
pub(super) fn text_result(text: &str) -> String {
    json!({ "content": [{ "type": "text", "text": text }] }).to_string()
}
