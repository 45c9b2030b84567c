//! What is shown in the server's place: its last known lists, or a single tool that says what stands in
//! the way.
//!
//! Must never: have a name that a server's tool could have.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    description::{Description, List},
    message::Message,
    report::Report,
};

/// The stand-in tool where a person has to sign in, and where not. The prefix is ours, so no server's tool
/// has the name.
const SIGN_IN_TOOL: &str = "mcp_remote_sign_in";
const STATUS_TOOL: &str = "mcp_remote_status";

/// What lists are answered from.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) known: Option<Description>,
    /// What stands in the way.
    pub(super) trouble: Report,
    pub(super) tool: &'static str,
}

impl StandIn {
    pub(super) fn new(known: Option<Description>, trouble: Report) -> Self {
        let tool = if trouble.code == "sign_in_needed" { SIGN_IN_TOOL } else { STATUS_TOOL };
        Self { known, trouble, tool }
    }

    /// The items of a list, as JSON, and whether the server has said them.
    pub(super) fn items(&self, list: List) -> (String, bool) {
        match self.known.as_ref().and_then(|known| known.items(list)) {
            Some(items) => (format!("[{}]", items.iter().map(|item| item.get()).collect::<Vec<_>>().join(",")), true),
            None if list == List::Tools => (format!("[{}]", self.tool()), false),
            None => ("[]".to_owned(), false),
        }
    }

    fn tool(&self) -> Value {
        let about = "This server's own tools appear here by themselves when that is done; if this host does not show \
                     them then, restart the server's entry. Call this tool to see how it stands, and to try again where \
                     something was refused or has failed.";
        json!({
            "name": self.tool,
            "title": if self.tool == SIGN_IN_TOOL { "Sign in" } else { "Connection status" },
            "description": format!("{}. {about}", self.words()),
            "inputSchema": { "type": "object", "properties": {} },
            "annotations": { "readOnlyHint": true, "openWorldHint": false },
        })
    }

    pub(super) fn words(&self) -> String {
        let mut words = self.trouble.sentence.clone();
        if let Some(hint) = &self.trouble.hint {
            words = format!("{words}. What to do: {hint}");
        }
        words
    }
}

/// Whether a call is of the stand-in tool.
pub(super) fn names_stand_in(call: &Message) -> bool {
    #[derive(Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        name: Cow<'a, str>,
    }
    let text = call.body.to_bytes();
    let name = serde_json::from_slice::<Call<'_>>(&text).map(|call| call.params.name);
    name.is_ok_and(|name| name == SIGN_IN_TOOL || name == STATUS_TOOL)
}
