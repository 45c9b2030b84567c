//! What a host was promised by the placeholder, and what it asks for because of that.
//!
//! # Invariants
//!
//! - `Promised` answers for nothing that the server has itself.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    context::Context,
    lists::LastListed,
    stand_in::{self, text_result},
};
use crate::{
    description::List,
    era::Era,
    message::{Message, Shape, peek},
};

/// What the placeholder has named to a host, where the server may name something else.
#[derive(Debug, Default)]
pub(super) struct Promised {
    /// Capabilities the host was told of.
    capabilities: Map<String, Value>,
    /// Those of them that the server does not have.
    lacks: Vec<String>,
}

impl Promised {
    pub(super) fn new(capabilities: Map<String, Value>, has: &Capabilities) -> Self {
        let lacks = capabilities.keys().filter(|name| !has.contains_key(*name)).cloned().collect();
        Self { capabilities, lacks }
    }

    /// The server has another description now: what was answered for it, it may answer itself.
    pub(super) fn server_changed(&mut self, answer: &Message, cx: &mut Context) {
        let has = capabilities(answer);
        *self = Self::new(std::mem::take(&mut self.capabilities), &has);
        let is_there = |list: List, last: &LastListed| {
            matches!(last, LastListed::Placeholder) && has.contains_key(list.capability())
        };
        let changed = cx.lists.reconcile(is_there);
        cx.host.announce(Era::Legacy, &changed);
    }

    /// Answers a request for what the server lacks; returns whether it was that.
    pub(super) fn answer_for_missing(&self, message: &Message, cx: &mut Context) -> bool {
        let Shape::Request { id, method } = &message.shape else { return false };
        // Once the host has seen the server's own tools, one of that name is the server's.
        if !cx.lists.last(List::Tools).is_of_server() && stand_in::is_call(message) {
            let done = text_result(
                "The connection is established. List the tools again: this server's own tools are available now.",
            );
            cx.host.answer(id, &done);
            return true;
        }
        if !self.lacks.iter().any(|lacked| Some(lacked.as_str()) == capability(method)) {
            return false;
        }
        match List::of_method(method) {
            Some(list) => {
                cx.host.answer(id, &format!(r#"{{"{}":[]}}"#, list.member()));
                cx.lists.set(list, LastListed::Placeholder);
            }
            None => cx.host.fail_method(id, &format!("the server does not support {method}")),
        }
        true
    }
}

/// The names of what a server has; the rest of its answer may be long, and would be longer as values.
pub(super) type Capabilities = BTreeMap<String, IgnoredAny>;

pub(super) fn capabilities(answer: &Message) -> Capabilities {
    #[derive(Deserialize)]
    struct Outcome {
        capabilities: Capabilities,
    }
    peek::result(&answer.body).map(|Outcome { capabilities }| capabilities).unwrap_or_default()
}

/// Returns the capability that a method belongs to (MCP 2025-11-25, Lifecycle, Capability Negotiation).
fn capability(method: &str) -> Option<&'static str> {
    match method.split_once('/')?.0 {
        "tools" => Some("tools"),
        "prompts" => Some("prompts"),
        "resources" => Some("resources"),
        "logging" => Some("logging"),
        "completion" => Some("completions"),
        _ => None,
    }
}
