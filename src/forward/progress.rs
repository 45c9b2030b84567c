//! Progress reported by this program, where the user wants it (`--progress-keepalive`): many hosts give a
//! request up after 60 s, unless they hear of progress (MCP 2025-11-25, Progress; Lifecycle, Timeouts).
//!
//! # Invariants
//!
//! - `ProgressKeepAlive` reports nothing of a request that carries no token, or after its answer.
//! - `ProgressKeepAlive` lets no value reach the host that is not greater than the one before (MCP 2025-11-25, Progress:
//!   "MUST increase").

use std::collections::HashMap;

use crate::message::{Id, Message, peek};

/// What one report counts: so little that whatever the server reports later is more.
const STEP: f64 = 1e-9;

/// The requests whose progress may be reported.
#[derive(Debug, Default)]
pub(super) struct ProgressKeepAlive {
    waits: HashMap<Id, Wait>,
    serial: u64,
}

#[derive(Debug)]
struct Wait {
    serial: u64,
    /// As the host wrote it; a server may write it in another way.
    token: Id,
    reported: Reported,
}

/// What the host has heard.
#[derive(Debug)]
enum Reported {
    Nothing,
    /// This value, by this program.
    Value(f64),
    /// Something by the server: from then on its values are for the server to keep in order.
    ByServer,
}

impl ProgressKeepAlive {
    /// Notes a request; returns the serial number to remind of it by, if it carries a token.
    pub(super) fn begin(&mut self, id: &Id, request: &Message) -> Option<u64> {
        let token = peek::progress_token(request)?;
        self.serial += 1;
        self.waits.insert(id.clone(), Wait { serial: self.serial, token, reported: Reported::Nothing });
        Some(self.serial)
    }

    /// The request is answered, or the host does not wait for it.
    pub(super) fn end(&mut self, id: &Id) {
        self.waits.remove(id);
    }

    /// Returns what the host is told after a while without an answer.
    pub(super) fn keep_alive(&mut self, serial: u64, server: &str) -> Option<String> {
        let wait = self.waits.values_mut().find(|wait| wait.serial == serial)?;
        let value = match wait.reported {
            Reported::Nothing => STEP,
            Reported::Value(before) => before + STEP,
            Reported::ByServer => return None,
        };
        wait.reported = Reported::Value(value);
        let message = serde_json::to_string(&format!("mcp-remote: {server} is still at work")).ok()?;
        Some(format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":{value:e},"message":{message}}}}}"#,
            wait.token
        ))
    }

    /// Returns whether the host may see progress that the server reports.
    pub(super) fn passes(&mut self, notification: &Message) -> bool {
        if self.waits.is_empty() {
            return true;
        }
        let Some((token, value)) = peek::progress(notification) else { return true };
        let Some(wait) = self.waits.values_mut().find(|wait| wait.token.same_value(&token)) else { return true };
        if matches!(wait.reported, Reported::Value(reported) if value <= reported) {
            return false;
        }
        wait.reported = Reported::ByServer;
        true
    }
}
