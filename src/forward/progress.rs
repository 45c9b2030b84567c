//! Progress in the server's place, where the user wants it (`--progress-keepalive`): many hosts give a
//! request up after 60 s, unless they hear of progress (MCP 2025-11-25, Progress; Lifecycle, Timeouts).
//!
//! Must never: speak for a request that carries no token, or after its answer; let a value reach the host
//! that is not greater than the one before (MCP 2025-11-25, Progress: "MUST increase").

use std::{collections::HashMap, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{Id, Message};

/// How long nothing is said: hosts give up after 60 s.
pub(super) const SILENCE: Duration = Duration::from_secs(45);
/// What one sign of life counts: so little that whatever the server says later is more.
const STEP: f64 = 1e-9;

/// The requests that progress may be told of.
#[derive(Debug, Default)]
pub(super) struct Progress {
    waits: HashMap<Id, Wait>,
    serial: u64,
}

#[derive(Debug)]
struct Wait {
    serial: u64,
    /// As the host wrote it; a server may write it in another way.
    token: Id,
    /// The last value that we have told, if any.
    told: Option<f64>,
    /// The server has told some of its own: from then on it is the server's affair.
    servers: bool,
}

impl Progress {
    /// A request on its way; the serial number to remind of it by, if it carries a token.
    pub(super) fn begin(&mut self, id: &Id, request: &Message) -> Option<u64> {
        let token = token(request)?;
        self.serial += 1;
        let wait = Wait { serial: self.serial, token, told: None, servers: false };
        self.waits.insert(id.clone(), wait);
        Some(self.serial)
    }

    /// It is answered, or nobody waits for it.
    pub(super) fn end(&mut self, id: &Id) {
        self.waits.remove(id);
    }

    /// A while has passed without an answer: what is to be told the host.
    pub(super) fn sign_of_life(&mut self, serial: u64, server: &str) -> Option<String> {
        let wait = self.waits.values_mut().find(|wait| wait.serial == serial && !wait.servers)?;
        let value = wait.told.unwrap_or(0.0) + STEP;
        wait.told = Some(value);
        let message = serde_json::to_string(&format!("mcp-remote: {server} is still at work")).ok()?;
        Some(format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":{value:e},"message":{message}}}}}"#,
            wait.token
        ))
    }

    /// The server's own progress; whether the host may see it.
    pub(super) fn passes(&mut self, notification: &Message) -> bool {
        #[derive(Deserialize)]
        struct Notification<'a> {
            #[serde(borrow)]
            params: Params<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params<'a> {
            #[serde(borrow)]
            progress_token: &'a RawValue,
            progress: f64,
        }
        if self.waits.is_empty() {
            return true;
        }
        let text = notification.body.to_bytes();
        let Ok(Notification { params }) = serde_json::from_slice(&text) else { return true };
        let token = Id::from_json(params.progress_token.get().as_bytes());
        let Some(wait) = self.waits.values_mut().find(|wait| wait.token.same_value(&token)) else {
            return true;
        };
        if wait.told.is_some_and(|told| params.progress <= told) {
            return false;
        }
        wait.servers = true;
        wait.told = None; // its values are for the server to keep in order
        true
    }
}

/// The progress token of a request, as it is written.
fn token(request: &Message) -> Option<Id> {
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Meta<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta<'a> {
        #[serde(borrow)]
        progress_token: &'a RawValue,
    }
    let text = request.body.to_bytes();
    let request = serde_json::from_slice::<Request<'_>>(&text).ok()?;
    Some(Id::from_json(request.params.meta.progress_token.get().as_bytes()))
}
