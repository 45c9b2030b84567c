//! What a legacy host and a modern server say to each other, in the words of the other.

use serde::Deserialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::super::{
    capabilities::{TASKS_EXTENSION, is_url_mode, without_tasks},
    envelope::{
        self, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROTOCOL_VERSION, SERVER_INFO, edit_meta, with_params,
        with_result,
    },
    verdict,
};
use crate::{
    mcp::{
        method::{ELICITATION_CREATE, TOOLS_CALL, TOOLS_LIST},
        version::{FIRST_MODERN, LEGACY, NEWEST_LEGACY},
    },
    message::{Body, Id, Message, Shape, members::Members, peek},
    report::{Code, Report},
    text::one_line,
};

/// The metadata of every request.
#[derive(Debug)]
pub(super) struct Metadata {
    client_info: Option<Box<RawValue>>,
    capabilities: Box<RawValue>,
}

impl Metadata {
    pub(super) fn with_tasks(&self) -> Option<Box<RawValue>> {
        let mut capabilities = Members::read(self.capabilities.get().as_bytes())?;
        let extensions = {
            let mut extensions = capabilities.object("extensions").unwrap_or_default();
            extensions.put(TASKS_EXTENSION, &json!({}));
            to_raw_value(&extensions).ok()?
        };
        capabilities.set("extensions", extensions);
        to_raw_value(&capabilities).ok()
    }

    /// Reads what an `initialize` says of its host (MCP 2025-11-25, Lifecycle, Initialization).
    pub(super) fn of(initialize: &Message) -> Self {
        let text = initialize.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let params = whole.object("params").unwrap_or_default();
        let mut capabilities = params.object("capabilities").unwrap_or_default();
        without_tasks(&mut capabilities);
        Self {
            client_info: params.get("clientInfo").map(ToOwned::to_owned),
            capabilities: to_raw_value(&capabilities).unwrap_or_default(),
        }
    }

    /// Returns a request with its metadata, which declares tasks if the bridge does what the host does not; `None` if its
    /// params are no object.
    pub(super) fn applied_to(&self, request: &Message, level: Option<&str>, with_tasks: bool) -> Option<Message> {
        let capabilities = if with_tasks { self.with_tasks() } else { None };
        let capabilities = capabilities.unwrap_or_else(|| self.capabilities.clone());
        with_params(request, |params| {
            edit_meta(params, |meta| {
                envelope::strip(meta);
                meta.put(PROTOCOL_VERSION, &FIRST_MODERN);
                if let Some(info) = &self.client_info {
                    meta.set(CLIENT_INFO, info.clone());
                }
                meta.set(CLIENT_CAPABILITIES, capabilities);
                if let Some(level) = level {
                    meta.put(LOG_LEVEL, &level);
                }
            });
        })
    }
}

/// Returns the answer to an `initialize` that says what the answer to `server/discover` says: the one member that is
/// written anew.
pub(super) fn introduction(server: &str, initialize: &Message, discovered: &Members<'_>) -> Message {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        protocol_version: String,
    }
    let asked = peek::params::<Params>(initialize).map(|params| params.protocol_version);
    let version = asked.filter(|asked| LEGACY.contains(&asked.as_str()));
    let mut result = Members::default();
    result.put("protocolVersion", &version.as_deref().unwrap_or(NEWEST_LEGACY));
    let mut capabilities = discovered.object("capabilities").unwrap_or_default();
    without_tasks(&mut capabilities);
    result.put("capabilities", &capabilities);
    // Older drafts, and the conformance suite, have it in the body.
    let meta = discovered.object("_meta").unwrap_or_default();
    match meta.get(SERVER_INFO).or_else(|| discovered.get("serverInfo")) {
        Some(info) => result.set("serverInfo", info.to_owned()),
        None => result.put("serverInfo", &json!({ "name": server, "version": "unknown" })),
    }
    if let Some(instructions) = discovered.get("instructions") {
        result.set("instructions", instructions.to_owned());
    }
    let id = initialize.requests().next().map_or("null", Id::as_json);
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, result.to_json());
    // What is made of valid texts is valid.
    Message::from_remote(Body::One(text.into())).unwrap_or_else(|_| initialize.clone())
}

/// Returns a result as legacy SDKs take it. They reject a whole list because of one `outputSchema` that is not of an
/// object, and a result because of `structuredContent` that is no object (MCP 2025-11-25, Tools, Output Schema).
pub(super) fn adapted(method: &str, message: Message) -> Message {
    let adapted = match method {
        TOOLS_LIST => without_other_schemas(&message),
        TOOLS_CALL => with_object_content(&message),
        _ => without_modern_error(&message),
    };
    adapted.unwrap_or(message)
}

pub(super) fn without_other_schemas(message: &Message) -> Option<Message> {
    let text = message.body.to_bytes();
    let whole = Members::read(&text)?;
    let result = whole.object("result")?;
    let mut tools: Vec<Members<'_>> = result.value("tools")?;
    let is_other = |tool: &Members<'_>| {
        tool.get("outputSchema").is_some()
            && tool.object("outputSchema").and_then(|schema| schema.value::<String>("type")).as_deref()
                != Some("object")
    };
    if !tools.iter().any(is_other) {
        return None;
    }
    for tool in tools.iter_mut().filter(|tool| is_other(tool)) {
        tool.remove("outputSchema");
    }
    let tools = to_raw_value(&tools).ok()?;
    with_result(message, |result| result.set("tools", tools))
}

pub(super) fn with_object_content(message: &Message) -> Option<Message> {
    let text = message.body.to_bytes();
    let whole = Members::read(&text)?;
    let Some(result) = whole.object("result") else { return without_modern_error(message) };
    let content = result.get("structuredContent")?.get();
    if content.starts_with('{') {
        return None;
    }
    let has_text = result.value::<Vec<&RawValue>>("content").is_some_and(|blocks| !blocks.is_empty());
    let copy = json!([{ "type": "text", "text": content }]);
    with_result(message, |result| {
        result.remove("structuredContent");
        if !has_text {
            result.put("content", &copy);
        }
    })
}

/// Returns a refusal of the version with the versions in its words: legacy hosts show nothing else of an error.
pub(super) fn without_modern_error(message: &Message) -> Option<Message> {
    let refusal = verdict::modern_refusal(message).filter(|refusal| !refusal.supported.is_empty())?;
    let Shape::Response { id: Some(id) } = &message.shape else { return None };
    let versions = one_line(refusal.supported.join(", ").as_bytes());
    let words = format!("protocol version not shared: the server supports only MCP {versions}");
    Some(refusal.answer(&Report::new(Code::ProtocolVersionNotShared, words, None).message())?.with_id(id))
}

/// Returns what a call carries that is asked for these; nothing if there are none.
pub(super) fn responses(answers: &[(String, Box<RawValue>)]) -> Option<Box<RawValue>> {
    let mut responses = Members::default();
    for (key, answer) in answers {
        responses.set(key, answer.clone());
    }
    (!answers.is_empty()).then(|| to_raw_value(&responses).ok()).flatten()
}

/// Returns params of a server's request as legacy hosts take them.
pub(super) fn for_legacy_host(method: &str, params: Option<Box<RawValue>>) -> Option<Box<RawValue>> {
    if method != ELICITATION_CREATE || !is_url_mode(params.as_deref()) {
        return params;
    }
    let mut elicitation = Members::read(params.as_ref()?.get().as_bytes())?;
    // MCP 2025-11-25 demands one (Elicitation, URL Mode), and 2026-07-28 has none.
    let id = Id::fresh();
    elicitation.put_missing("elicitationId", &id.as_json().trim_matches('"'));
    to_raw_value(&elicitation).ok()
}

/// Whether a call asks for a task (MCP 2025-11-25, Tasks).
pub(super) fn wants_task(call: &Message) -> bool {
    #[derive(Deserialize)]
    struct Params {
        #[serde(default)]
        task: Option<Box<RawValue>>,
    }
    peek::params::<Params>(call).is_some_and(|params| params.task.is_some())
}

/// Returns the stream that a notification belongs to.
pub(super) fn subscription_id(notification: &Message) -> Option<Id> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
        id: Box<RawValue>,
    }
    let Params { meta } = peek::params(notification)?;
    Some(Id::from_json(meta.id.get().as_bytes()))
}

pub(super) fn quoted(words: Option<String>) -> String {
    format!("{:?}", one_line(words.unwrap_or_default().as_bytes()))
}
