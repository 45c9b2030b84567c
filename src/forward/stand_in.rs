//! What is shown in the server's place, and how: its last known lists, or a single tool that says what
//! stands in the way.
//!
//! Must never: have a name that a server's tool could have; show a tool that is to be hidden.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Forward, Link, Shown};
use crate::{
    description::{Description, List},
    era::Era,
    message::{Body, Id, Message},
    report::{Code, Report},
};

/// The stand-in tool where a person has to sign in, and where not. The prefix is ours, so no server's tool
/// has the name.
const SIGN_IN_TOOL: &str = "mcp_remote_sign_in";
const STATUS_TOOL: &str = "mcp_remote_status";

/// What every list has in the modern era (MCP 2026-07-28, Caching): nothing of this is worth keeping.
const MODERN_MEMBERS: &str = r#","resultType":"complete","ttlMs":0,"cacheScope":"private""#;

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
        let tool = if trouble.code == Code::SignInNeeded { SIGN_IN_TOOL } else { STATUS_TOOL };
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

    /// Whether the server has said what is in this list.
    pub(super) fn knows(&self, list: List) -> bool {
        self.known.as_ref().is_some_and(|known| known.items(list).is_some())
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

impl Forward {
    /// Something else stands in the way now.
    pub(super) fn restate(&mut self, trouble: Report) {
        let Some(stand_in) = &mut self.stand_in else { return };
        // The same in other words is not worth a new list, but another address to open is.
        let same = stand_in.trouble.code == trouble.code
            && (trouble.code != Code::SignInNeeded || stand_in.trouble.sentence == trouble.sentence);
        **stand_in = StandIn::new(stand_in.known.take(), trouble);
        if !same && matches!(self.shown[List::Tools.index()], Shown::InItsPlace) {
            self.announce(&[List::Tools]);
        }
    }

    /// Answers a list from the stand-in.
    pub(super) fn answer_list(&mut self, id: &Id, list: List) {
        let Some(stand_in) = &self.stand_in else { return };
        let Some(debt) = self.owed.get(id) else { return };
        // A later page of a list that is not from here.
        let (items, known) = if debt.is_later_page() { ("[]".to_owned(), false) } else { stand_in.items(list) };
        let modern = if matches!(self.link, Link::Open(Era::Modern)) { MODERN_MEMBERS } else { "" };
        let text = format!(r#"{{"{}":{items}{modern}}}"#, list.member());
        let Some(body) = self.answer_whole(id, &text) else { return };
        self.shown[list.index()] = if known { Shown::Pages(vec![body]) } else { Shown::InItsPlace };
        if list == List::Tools {
            self.list_was_answered();
        }
    }

    /// Answers a call of the stand-in tool.
    pub(super) fn tell(&mut self, id: &Id, more: &str) {
        let words = match &self.stand_in {
            Some(stand_in) => stand_in.words(),
            None => String::new(),
        };
        self.answer(id, &text_result(&format!("{words}{more}")));
    }

    /// Answers with a result of our own.
    pub(super) fn answer(&mut self, id: &Id, result: &str) {
        _ = self.answer_whole(id, result);
    }

    /// The same; what it was before tools were hidden, if it was owed.
    fn answer_whole(&mut self, id: &Id, result: &str) -> Option<Body> {
        // What is on disk may have been laid out in lines since.
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let answer = Message::from_remote(Body::One(text.into())).ok()?;
        let whole = answer.body.clone();
        let body = self.settle(id, answer)?;
        self.write(body);
        Some(whole)
    }
}

/// A tool's result of so many words (MCP 2025-11-25, Tools, Text Content).
pub(super) fn text_result(text: &str) -> String {
    json!({ "content": [{ "type": "text", "text": text }] }).to_string()
}
