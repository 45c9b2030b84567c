//! What a host was told in the server's place that the server would have said otherwise, and what it asks
//! because of that.
//!
//! Must never: answer for a server what it has itself.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    Forward, Shown,
    stand_in::{names_stand_in, text_result},
};
use crate::{
    description::List,
    message::{Body, Message, Shape},
    report,
};

/// What a host was told in the server's place, where the server would have said something else.
#[derive(Debug)]
pub(super) struct Told {
    /// Capabilities the host was told of.
    capabilities: Map<String, Value>,
    /// Those of them that the server does not have.
    lacks: Vec<String>,
}

impl Told {
    pub(super) fn new(capabilities: Map<String, Value>, has: &Capabilities) -> Self {
        let lacks = capabilities.keys().filter(|name| !has.contains_key(*name)).cloned().collect();
        Self { capabilities, lacks }
    }
}

impl Forward {
    /// The server has another description now: what was answered for it, it may answer itself.
    pub(super) fn has_other(&mut self, answer: &Message) {
        let Some(told) = &mut self.told else { return };
        let has = capabilities(answer);
        **told = Told::new(std::mem::take(&mut told.capabilities), &has);
        let mut changed = Vec::new();
        for list in List::ALL {
            let shown = &mut self.shown[list.index()];
            if matches!(shown, Shown::InItsPlace) && has.contains_key(list.capability()) {
                *shown = Shown::Nothing;
                changed.push(list);
            }
        }
        self.announce(&changed);
    }

    /// Answers what the host asks of a server that has less than it was told. Whether it was that.
    pub(super) fn was_misled(&mut self, message: &Message) -> bool {
        let (Some(told), Shape::Request { id, method }) = (&self.told, &message.shape) else { return false };
        let id = id.clone();
        // Once the host has seen the server's own tools, one of that name is the server's.
        let seen = matches!(self.shown[List::Tools.index()], Shown::Pages(_) | Shown::TooMuch);
        if !seen && &**method == "tools/call" && names_stand_in(message) {
            self.answer(
                &id,
                &text_result("That is done: this server's own tools are there now. List the tools again."),
            );
            return true;
        }
        if !told.lacks.iter().any(|lacked| Some(lacked.as_str()) == capability(method)) {
            return false;
        }
        match List::of_method(method) {
            Some(list) => {
                self.answer(&id, &format!(r#"{{"{}":[]}}"#, list.member()));
                self.shown[list.index()] = Shown::InItsPlace;
            }
            None => {
                if self.forget(&id).is_some() {
                    let text = format!("mcp-remote: the server has no {method}");
                    let line = report::error_line(&id, report::METHOD_NOT_FOUND, &text, None::<&()>);
                    self.write(Body::One(line));
                }
            }
        }
        true
    }
}

/// The names of what a server has; the rest of its answer may be long, and would be longer as values.
pub(super) type Capabilities = BTreeMap<String, IgnoredAny>;

pub(super) fn capabilities(answer: &Message) -> Capabilities {
    #[derive(Deserialize)]
    struct Answer {
        result: Outcome,
    }
    #[derive(Deserialize)]
    struct Outcome {
        capabilities: Capabilities,
    }
    let answer = serde_json::from_slice::<Answer>(&answer.body.to_bytes());
    answer.map(|answer| answer.result.capabilities).unwrap_or_default()
}

/// The capability that a method belongs to (MCP 2025-11-25, Lifecycle, Capability Negotiation).
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
