//! What hosts and servers declare (MCP 2025-11-25, Lifecycle, Capability Negotiation; MCP 2026-07-28, Overview, `_meta`),
//! as far as a bridge between the eras has to know it.
//!
//! # Invariants
//!
//! - A host is asked for nothing that it has not declared.

use serde_json::value::{RawValue, to_raw_value};

use super::listening::NotificationFilter;
use crate::{
    mcp::method::{ELICITATION_CREATE, ROOTS_LIST, SAMPLING_CREATE},
    message::members::Members,
};

/// What a client declares that takes tasks (extension `io.modelcontextprotocol/tasks`).
pub(crate) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// What a host has declared that servers may ask it for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InputCapabilities {
    pub(crate) sampling: bool,
    /// Elicitation of values.
    pub(crate) form: bool,
    /// Elicitation by a page in the browser.
    pub(crate) url: bool,
    pub(crate) roots: bool,
}

impl InputCapabilities {
    /// Reads client capabilities.
    pub(crate) fn of(capabilities: &Members<'_>) -> Self {
        let elicitation = capabilities.object("elicitation");
        let has = |name: &str| elicitation.as_ref().is_some_and(|modes| modes.get(name).is_some());
        Self {
            sampling: capabilities.get("sampling").is_some(),
            // Without a mode, the one that was there first (MCP 2025-11-25, Elicitation, Capabilities).
            form: has("form") || elicitation.is_some() && !has("url"),
            url: has("url"),
            roots: capabilities.get("roots").is_some(),
        }
    }

    /// Returns the capability that a request needs and the host has not declared.
    pub(crate) fn lacks(self, method: &str, params: Option<&RawValue>) -> Option<&'static str> {
        let (has, name) = match method {
            SAMPLING_CREATE => (self.sampling, "sampling"),
            ROOTS_LIST => (self.roots, "roots"),
            ELICITATION_CREATE if is_url_mode(params) => (self.url, "elicitation in a browser"),
            ELICITATION_CREATE => (self.form, "elicitation"),
            _ => (false, "what the server asks for"),
        };
        (!has).then_some(name)
    }
}

/// Whether a server may ask for this in the middle of a call (MCP 2026-07-28, Multi Round-Trip Requests).
pub(crate) fn is_input(method: &str) -> bool {
    matches!(method, SAMPLING_CREATE | ROOTS_LIST | ELICITATION_CREATE)
}

/// Whether an elicitation sends the user to a page; without a mode it does not (MCP 2026-07-28, Elicitation).
pub(crate) fn is_url_mode(params: Option<&RawValue>) -> bool {
    let params = params.and_then(|params| Members::read(params.get().as_bytes()));
    params.and_then(|params| params.value::<String>("mode")).is_some_and(|mode| mode == "url")
}

/// What a server has declared.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerCapabilities {
    /// The lists of which it reports changes.
    pub(crate) lists: NotificationFilter,
    /// The lists that it has: some legacy SDKs report changes without declaring that they do.
    pub(crate) features: NotificationFilter,
    /// It reports changes of resources.
    pub(crate) subscriptions: bool,
    pub(crate) logging: bool,
}

impl ServerCapabilities {
    /// Reads server capabilities.
    pub(crate) fn of(capabilities: &Members<'_>) -> Self {
        let has = |feature: &str, member: &str| {
            capabilities.object(feature).and_then(|feature| feature.value::<bool>(member)).unwrap_or_default()
        };
        Self {
            lists: NotificationFilter {
                tools_list_changed: has("tools", "listChanged"),
                prompts_list_changed: has("prompts", "listChanged"),
                resources_list_changed: has("resources", "listChanged"),
                ..NotificationFilter::default()
            },
            features: NotificationFilter {
                tools_list_changed: capabilities.get("tools").is_some(),
                prompts_list_changed: capabilities.get("prompts").is_some(),
                resources_list_changed: capabilities.get("resources").is_some(),
                ..NotificationFilter::default()
            },
            subscriptions: has("resources", "subscribe"),
            logging: capabilities.get("logging").is_some(),
        }
    }
}

/// Takes away what the other era does not understand of capabilities: the tasks of 2025-11-25 are not those of the
/// extension, and neither is bridged for a peer that declares them.
pub(crate) fn without_tasks(capabilities: &mut Members<'_>) {
    capabilities.remove("tasks");
    let extensions = capabilities.object("extensions").map(|mut extensions| {
        extensions.remove(TASKS_EXTENSION);
        to_raw_value(&extensions).ok()
    });
    if let Some(extensions) = extensions.flatten() {
        capabilities.set("extensions", extensions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_asked_for_what_it_has_declared() {
        let lacks = |declared: &str, method: &str, params: &str| {
            let capabilities = InputCapabilities::of(&Members::read(declared.as_bytes()).unwrap());
            let params = RawValue::from_string(params.to_owned()).unwrap();
            capabilities.lacks(method, Some(&params)).is_some()
        };
        let (form, url) = (r#"{"message":"m"}"#, r#"{"mode":"url"}"#);
        for (declared, form_lacks, url_lacks) in [
            ("{}", true, true),
            (r#"{"elicitation":{}}"#, false, true),
            (r#"{"elicitation":{"form":{}}}"#, false, true),
            (r#"{"elicitation":{"url":{}}}"#, true, false),
            (r#"{"elicitation":{"form":{},"url":{}}}"#, false, false),
        ] {
            assert_eq!(lacks(declared, ELICITATION_CREATE, form), form_lacks, "{declared}");
            assert_eq!(lacks(declared, ELICITATION_CREATE, url), url_lacks, "{declared}");
        }
        assert!(!lacks(r#"{"sampling":{}}"#, SAMPLING_CREATE, "{}") && lacks("{}", SAMPLING_CREATE, "{}"));
        assert!(!lacks(r#"{"roots":{}}"#, ROOTS_LIST, "{}") && lacks(r#"{"roots":{}}"#, "other/method", "{}"));
    }
}
