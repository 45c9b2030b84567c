//! What a modern host and a legacy server say to each other, in the words of the other.

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::super::{
    RequestMetadata,
    capabilities::{InputCapabilities, without_tasks},
    envelope::{
        self, CLIENT_CAPABILITIES, CLIENT_INFO, COMPLETE, LOG_LEVEL, RESULT_TYPE, SERVER_INFO, SUBSCRIPTION_ID,
        edit_meta, with_params,
    },
    input::MOST_REQUESTS,
    verdict::UNSUPPORTED_VERSION,
};
use crate::{
    mcp::{
        LOG_LEVELS,
        method::{DISCOVER, ELICITATION_CREATE, INITIALIZE, INITIALIZED},
        version::{FIRST_MODERN, NEWEST_LEGACY},
    },
    message::{Body, Id, Message, members::Members, peek},
    report,
};

/// What the server has said of itself, as the result of `server/discover`.
#[derive(Debug)]
pub(super) struct Introduction(pub(super) String);

/// A request of the server.
#[derive(Clone, Debug)]
pub(super) struct ServerRequest {
    pub(super) id: Id,
    pub(super) method: String,
    pub(super) params: Option<Box<RawValue>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) method: String,
    /// Of the params without what a retry may change.
    digest: Vec<u8>,
}

/// Returns the `initialize` that is sent in the place of a modern request (MCP 2025-11-25, Lifecycle, Initialization).
pub(crate) fn initialize_for(first: &Message) -> Option<Message> {
    let text = first.body.to_bytes();
    let whole = Members::read(&text)?;
    let params = whole.object("params").unwrap_or_default();
    let meta = params.object("_meta").unwrap_or_default();
    let mut capabilities = meta.object(CLIENT_CAPABILITIES).unwrap_or_default();
    without_tasks(&mut capabilities);
    let mut params = Members::default();
    params.put("protocolVersion", &NEWEST_LEGACY);
    params.put("capabilities", &capabilities);
    match meta.get(CLIENT_INFO) {
        Some(info) => params.set("clientInfo", info.to_owned()),
        None => params.put("clientInfo", &json!({ "name": "unknown", "version": "unknown" })),
    }
    let id = Id::fresh();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{INITIALIZE}","params":{}}}"#, params.to_json());
    Message::from_text(text).ok()
}

/// Returns the notification that ends the handshake.
pub(crate) fn initialized() -> Option<Message> {
    Message::from_text(format!(r#"{{"jsonrpc":"2.0","method":"{INITIALIZED}"}}"#)).ok()
}

impl Introduction {
    pub(super) fn of(server: &str, result: &Members<'_>) -> Self {
        let mut capabilities = result.object("capabilities").unwrap_or_default();
        without_tasks(&mut capabilities);
        let mut discovered = Members::default();
        discovered.put(RESULT_TYPE, &COMPLETE);
        discovered.put("supportedVersions", &[FIRST_MODERN]);
        discovered.put("capabilities", &capabilities);
        let mut meta = Members::default();
        match result.get("serverInfo") {
            Some(info) => meta.set(SERVER_INFO, info.to_owned()),
            None => meta.put(SERVER_INFO, &json!({ "name": server, "version": "unknown" })),
        }
        discovered.put("_meta", &meta);
        if let Some(instructions) = result.get("instructions") {
            discovered.set("instructions", instructions.to_owned());
        }
        discovered.put("ttlMs", &0);
        discovered.put("cacheScope", &"private");
        Self(discovered.to_json())
    }
}

impl Binding {
    /// Of a request; `None` if its params are no object.
    pub(super) fn of(method: &str, request: &Message) -> Option<Self> {
        let text = request.body.to_bytes();
        let whole = Members::read(&text)?;
        let mut params = match whole.get("params") {
            Some(_) => whole.object("params")?,
            None => Members::default(),
        };
        for changing in ["_meta", "inputResponses", "requestState"] {
            params.remove(changing);
        }
        let digest = digest(&SHA256, params.to_json().as_bytes()).as_ref().to_vec();
        Some(Self { method: method.to_owned(), digest })
    }
}

/// What a request says about its own answer.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) can: InputCapabilities,
    pub(super) level: Option<usize>,
}

impl Wishes {
    pub(super) fn of(request: &Message) -> Self {
        let text = request.body.to_bytes();
        let whole = Members::read(&text).unwrap_or_default();
        let params = whole.object("params").unwrap_or_default();
        let meta = params.object("_meta").unwrap_or_default();
        Self {
            can: meta.object(CLIENT_CAPABILITIES).as_ref().map(InputCapabilities::of).unwrap_or_default(),
            level: meta
                .value::<String>(LOG_LEVEL)
                .and_then(|level| LOG_LEVELS.iter().position(|known| *known == level)),
        }
    }
}

/// How severe a log message is; an unknown level counts as the most severe.
pub(super) fn level_of(message: &Message) -> usize {
    #[derive(Deserialize)]
    struct Params {
        level: String,
    }
    let named = peek::params::<Params>(message).map(|params| params.level);
    named.and_then(|named| LOG_LEVELS.iter().position(|known| *known == named)).unwrap_or(LOG_LEVELS.len())
}

/// Returns the code, the words and the data with which a request is refused because of its version (MCP 2026-07-28,
/// Versioning; Overview, `_meta`).
pub(super) fn wrong_version(request: &Message, method: &str) -> Option<(i32, String, Option<Value>)> {
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
        version: String,
    }
    let named = peek::params::<Params>(request).map(|params| params.meta.version);
    match named.as_deref() {
        Some(FIRST_MODERN) => None,
        // A host that asks what there is may not know yet what to send.
        None if method == DISCOVER && RequestMetadata::of(request).is_none() => None,
        None => {
            let why = "params._meta has no io.modelcontextprotocol/protocolVersion".to_owned();
            Some((report::INVALID_PARAMS, why, None))
        }
        Some(other) => {
            let data = json!({ "supported": [FIRST_MODERN], "requested": other });
            Some((UNSUPPORTED_VERSION as i32, format!("MCP {other:?} is not supported"), Some(data)))
        }
    }
}

/// Returns a request without what legacy servers do not know.
pub(super) fn for_legacy_server(request: &Message) -> Option<Message> {
    with_params(request, |params| edit_meta(params, envelope::strip))
}

/// Returns a request without the answers and the handle of a retry.
pub(super) fn without_input(request: &Message) -> Option<Message> {
    with_params(request, |params| {
        params.remove("inputResponses");
        params.remove("requestState");
    })
}

/// Returns the handle in a request that continues a call.
pub(super) fn handle_of(request: &Message) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        request_state: String,
    }
    peek::params::<Params>(request).map(|params| params.request_state)
}

/// Returns a handle that nobody can guess (MCP 2026-07-28, Multi Round-Trip Requests, Server Requirements).
pub(super) fn handle() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns params of a server's request as modern hosts take them.
pub(super) fn for_modern_host(method: &str, params: &RawValue) -> Box<RawValue> {
    let plain = || {
        let mut elicitation = Members::read(params.get().as_bytes())?;
        (method == ELICITATION_CREATE && elicitation.remove("elicitationId"))
            .then(|| to_raw_value(&elicitation).ok())?
    };
    plain().unwrap_or_else(|| params.to_owned())
}

/// Reads the pages that a server wants to be visited before a call (MCP 2025-11-25, URL Elicitation Required).
pub(super) fn elicitations(data: Option<&RawValue>) -> Option<Vec<(String, ServerRequest)>> {
    let data = Members::read(data?.get().as_bytes())?;
    let pages: Vec<&RawValue> = data.value("elicitations")?;
    if pages.is_empty() || pages.len() > MOST_REQUESTS {
        return None;
    }
    let request = |(at, page): (usize, &RawValue)| {
        let request =
            ServerRequest { id: Id::fresh(), method: ELICITATION_CREATE.to_owned(), params: Some(page.to_owned()) };
        (format!("{}", at + 1), request)
    };
    Some(pages.into_iter().enumerate().map(request).collect())
}

/// Returns an error under another code.
pub(super) fn with_code(answer: &Message, code: i64) -> Option<Message> {
    let text = answer.body.to_bytes();
    let mut whole = Members::read(&text)?;
    let error = {
        let mut error = whole.object("error")?;
        error.put("code", &code);
        to_raw_value(&error).ok()?
    };
    whole.set("error", error);
    Message::from_remote(Body::One(whole.to_json().into())).ok()
}

/// Returns a notification with the stream that it belongs to.
pub(super) fn tagged(notification: &Message, stream: &Id) -> Option<Message> {
    let id = RawValue::from_string(stream.as_json().to_owned()).ok()?;
    with_params(notification, |params| edit_meta(params, |meta| meta.set(SUBSCRIPTION_ID, id)))
}
