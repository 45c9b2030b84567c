//! What a server says of itself: its answer to `initialize` and its lists (MCP 2025-11-25, Lifecycle,
//! Initialization; Tools; Prompts; Resources). Kept from one connection for the start of the next one,
//! where the server cannot be asked.
//!
//! # Invariants
//!
//! - A description is not taken for what the server says now.

pub(crate) mod store;

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use tokio::sync::oneshot;

use crate::{
    known_hosts::{Evidence, HeldRequest, HostLimits, HostName},
    mcp::method,
    message::{Body, Message, peek},
};

/// The lists that a host shows to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

impl List {
    /// Each of them.
    pub(crate) const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The list that a method asks for.
    pub(crate) fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.method() == method)
    }

    /// The method that asks for it.
    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::Tools => method::TOOLS_LIST,
            Self::Prompts => method::PROMPTS_LIST,
            Self::Resources => method::RESOURCES_LIST,
            Self::Templates => method::TEMPLATES_LIST,
        }
    }

    /// The member of the result that it is.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The capability that a server with such a list declares.
    pub(crate) const fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The notification that it has changed; templates have none of their own.
    pub(crate) const fn changed(self) -> &'static str {
        match self {
            Self::Tools => method::TOOLS_CHANGED,
            Self::Prompts => method::PROMPTS_CHANGED,
            Self::Resources | Self::Templates => method::RESOURCES_CHANGED,
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// What was learned on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Learned {
    /// The host's `initialize` and the server's answer to it.
    Initialize {
        /// Of the host.
        request: Message,
        /// Of the server.
        answer: Body,
    },
    /// A list, as the pages that are there so far.
    List(List, Vec<Body>),
    /// The server's answer to `server/discover`.
    Discover(Body),
    /// The host still waits for its `initialize`: kept in case that it ends this process without a word.
    HostWaits {
        /// Which host.
        host: HostName,
        /// For how long so far.
        after: Duration,
        /// What an end would say.
        evidence: Evidence,
    },
    /// The host's `initialize` is answered.
    HostHasAnswer {
        /// Which host.
        host: HostName,
    },
    /// The host gave up on a request that was held.
    HostLimit {
        /// Which host.
        host: HostName,
        /// On what.
        request: HeldRequest,
        /// After how long.
        after: Duration,
        /// How sure that is.
        evidence: Evidence,
    },
}

impl Learned {
    /// How long what the server has said is, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Initialize { answer, .. } => answer.len(),
            Self::List(_, pages) => pages.iter().map(Body::len).sum(),
            Self::Discover(answer) => answer.len(),
            Self::HostLimit { .. } | Self::HostWaits { .. } | Self::HostHasAnswer { .. } => 0,
        }
    }
}

/// The last known description of one server, for one account.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Description {
    /// The result of the last `initialize`; no description without.
    pub initialize: Map<String, Value>,
    /// The protocol version that was negotiated for each one that a host has asked for.
    pub negotiated: BTreeMap<String, String>,
    /// The result of the last `server/discover`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discover: Option<Box<RawValue>>,
    /// The items of each list, by its member's name, as the server wrote them.
    pub lists: BTreeMap<String, Vec<Box<RawValue>>>,
}

impl Description {
    /// The capabilities it declares.
    pub(crate) fn capabilities(&self) -> Map<String, Value> {
        self.initialize.get("capabilities").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// The protocol version to name to a host that asks for `asked`: what this server has chosen for the same
    /// wish, or else the older one of its last choice and the wish.
    pub(crate) fn version(&self, asked: &str) -> String {
        let last = self.initialize.get("protocolVersion").and_then(Value::as_str).unwrap_or(asked);
        // Revisions are dates: their order is that of the text.
        self.negotiated.get(asked).map_or_else(|| last.min(asked), String::as_str).to_owned()
    }

    /// The items of a list, if it was ever seen.
    pub(crate) fn items(&self, list: List) -> Option<&[Box<RawValue>]> {
        self.lists.get(list.member()).map(Vec::as_slice)
    }

    /// Takes note; `false` if there is nothing new in it.
    pub(crate) fn learn(&mut self, learned: &Learned) -> bool {
        match learned {
            Learned::Initialize { request, answer } => {
                let Some(result) = peek::result::<Map<String, Value>>(answer) else { return false };
                let chosen = result.get("protocolVersion").and_then(Value::as_str).map(ToOwned::to_owned);
                let mut new = self.initialize != result;
                if let (Some(asked), Some(chosen)) = (ClientCapabilities::of(request).version, chosen) {
                    new |= self.negotiated.get(&asked) != Some(&chosen);
                    self.negotiated.insert(asked, chosen);
                }
                self.initialize = result;
                new
            }
            Learned::List(list, pages) => {
                let Some(items) = items(*list, pages).filter(|_| pages.last().is_some_and(is_last)) else {
                    return false;
                };
                let known = self.lists.entry(list.member().to_owned()).or_default();
                let new = !alike(known, &items);
                *known = items;
                new
            }
            Learned::Discover(answer) => {
                let Some(result) = result(answer).and_then(|result| serde_json::to_string(&result).ok()) else {
                    return false;
                };
                let new = self.discover.as_ref().is_none_or(|known| known.get() != result);
                self.discover = RawValue::from_string(result).ok();
                new
            }
            Learned::HostLimit { .. } | Learned::HostWaits { .. } | Learned::HostHasAnswer { .. } => false,
        }
    }
}

/// Where descriptions are kept.
pub(crate) trait Descriptions: Debug + Send {
    /// What is known of this server for whoever is signed in.
    fn load(&mut self) -> Option<Description>;
    /// How long this host was seen to wait.
    fn host_limits(&mut self, host: &HostName) -> HostLimits;
    /// Keeps what was learned, later; nobody waits for it.
    fn save(&mut self, learned: Learned);
    /// Nothing more is to be kept; what is returned comes when everything is.
    fn end(&mut self) -> Option<oneshot::Receiver<()>>;
}

/// Of a host's `initialize`: what matters to whoever answers it in the server's place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCapabilities {
    /// The protocol version that it asks for.
    pub version: Option<String>,
    /// Whether it opens addresses for its user when asked (MCP 2025-11-25, Elicitation, URL mode).
    pub opens_urls: bool,
}

impl ClientCapabilities {
    /// Reads it.
    pub(crate) fn of(initialize: &Message) -> Self {
        let Some(params) = peek::params::<Value>(initialize) else { return Self::default() };
        Self {
            version: params["protocolVersion"].as_str().map(ToOwned::to_owned),
            opens_urls: params["capabilities"]["elicitation"]["url"].is_object(),
        }
    }
}

/// The cursor of the page after this one, as its JSON text.
pub(crate) fn next_cursor(page: &Body) -> Option<String> {
    result(page)?.get("nextCursor").filter(|cursor| cursor.get() != "null").map(|cursor| cursor.get().to_owned())
}

/// Whether two answers have the same items in the same order, or neither has any that can be read.
pub(crate) fn same(list: List, one: &[Body], other: &[Body]) -> bool {
    match (items(list, one), items(list, other)) {
        (Some(one), Some(other)) => alike(&one, &other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn alike(one: &[Box<RawValue>], other: &[Box<RawValue>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.get() == other.get())
}

fn items(list: List, pages: &[Body]) -> Option<Vec<Box<RawValue>>> {
    let mut items = Vec::new();
    for page in pages {
        let page = result(page)?;
        items.extend(serde_json::from_str::<Vec<Box<RawValue>>>(page.get(list.member())?.get()).ok()?);
    }
    Some(items)
}

fn is_last(page: &Body) -> bool {
    next_cursor(page).is_none()
}

fn result(page: &Body) -> Option<BTreeMap<String, Box<RawValue>>> {
    peek::result(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        Message::from_text(text.to_owned()).unwrap().body
    }

    fn learned(asked: &str, result: &str) -> Learned {
        let request = Message::from_text(format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{asked}"}}}}"#
        ));
        let answer = body(&format!(r#"{{"jsonrpc":"2.0","id":0,"result":{result}}}"#));
        Learned::Initialize { request: request.unwrap(), answer }
    }

    fn page(result: &str) -> Body {
        body(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#))
    }

    #[test]
    fn server_is_expected_to_choose_version_again() {
        let mut known = Description::default();
        assert!(known.learn(&learned("2025-11-25", r#"{"protocolVersion":"2025-06-18"}"#)));
        assert!(!known.learn(&learned("2025-11-25", r#"{"protocolVersion":"2025-06-18"}"#)));
        assert_eq!(known.version("2025-11-25"), "2025-06-18");
        assert_eq!(known.version("2024-11-05"), "2024-11-05");
        assert_eq!(known.version("2025-06-18"), "2025-06-18");
    }

    #[test]
    fn error_is_no_description() {
        let mut known = Description::default();
        let Learned::Initialize { request, .. } = learned("2025-11-25", "{}") else { unreachable!() };
        let answer = body(r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#);
        assert!(!known.learn(&Learned::Initialize { request, answer }));
        assert!(known.initialize.is_empty());
    }

    #[test]
    fn list_is_known_with_last_page_unchanged() {
        let mut known = Description::default();
        let first = page(r#"{"tools":[{"name":"a","x":1.0}],"nextCursor":"2"}"#);
        assert!(!known.learn(&Learned::List(List::Tools, vec![first.clone()])));
        let second = page(r#"{"tools":[{"name":"b"}]}"#);
        assert!(known.learn(&Learned::List(List::Tools, vec![first.clone(), second.clone()])));
        assert!(!known.learn(&Learned::List(List::Tools, vec![first, second])));
        let items: Vec<_> = known.items(List::Tools).unwrap().iter().map(|item| item.get()).collect();
        assert_eq!(items, [r#"{"name":"a","x":1.0}"#, r#"{"name":"b"}"#]);
        assert!(known.items(List::Prompts).is_none());
    }

    #[test]
    fn pagination_makes_no_difference_to_lists() {
        let whole = [page(r#"{"tools":[{"name":"a"},{"name":"b"}]}"#)];
        let cut = [page(r#"{"tools":[{"name":"a"}],"nextCursor":"2"}"#), page(r#"{"tools":[{"name":"b"}]}"#)];
        assert!(same(List::Tools, &whole, &cut));
        assert!(!same(List::Tools, &whole, &cut[..1]));
        assert!(!same(List::Tools, &[], &[page(r#"{"no":"tools"}"#)]));
        assert_eq!(next_cursor(&cut[0]).as_deref(), Some("\"2\""));
        assert_eq!(next_cursor(&page(r#"{"nextCursor":null}"#)), None);
    }

    #[test]
    fn cursor_is_one_inside_the_params() {
        let has = |params: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list"{params}}}"#);
            peek::has_cursor(&Message::from_text(text).unwrap())
        };
        assert!(has(r#","params":{"cursor":"x"}"#));
        assert!(!has(r#","params":{"_meta":{"cursor":"x"}}"#) && !has(r#","params":{}"#) && !has(""));
    }

    #[test]
    fn client_capabilities_are_read_from_initialize() {
        let text = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"url":{}}}}}"#;
        let wish = ClientCapabilities::of(&Message::from_text(text.to_owned()).unwrap());
        assert_eq!(wish, ClientCapabilities { version: Some("2025-11-25".to_owned()), opens_urls: true });
        let bare = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{"elicitation":{}}}}"#;
        assert_eq!(
            ClientCapabilities::of(&Message::from_text(bare.to_owned()).unwrap()),
            ClientCapabilities::default()
        );
    }
}
