//! The two eras of MCP (MCP 2026-07-28, Versioning, Terminology): *legacy* versions begin with `initialize`,
//! *modern* ones carry their metadata in each request.
//!
//! Here is which era a message is of, which questions decide the era of a server ([`opening`]), what an answer says about a server's era ([`verdict`]), what the transport must
//! repeat of a modern message in headers ([`mirror`]), and the two bridges between a host and a server of different eras
//! ([`legacy_host`], [`modern_host`]), which are made of the same parts ([`bridge`] and the private modules). None of these
//! does I/O. What is known of servers is kept on disk ([`known`]).
//!
//! # Invariants
//!
//! - A message of a legacy connection is never looked into for its era: the first message of a connection decides.

pub(crate) mod bridge;
mod capabilities;
mod envelope;
mod input;
pub(crate) mod known;
pub(crate) mod legacy_host;
mod listening;
pub(crate) mod mirror;
pub(crate) mod modern_host;
pub(crate) mod opening;
mod tasks;
pub(crate) mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    mcp::{method, version::FIRST_MODERN},
    message::{Id, Message, peek},
};

/// The key of a request's protocol version in `_meta` (MCP 2026-07-28, Overview, `_meta`).
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// What the keys of request metadata begin with.
const PREFIX: &str = "io.modelcontextprotocol/";

/// The era of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// 2024-11-05 to 2025-11-25.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// The metadata that a modern request carries in `params._meta`.
#[derive(Debug, Default)]
pub(crate) struct RequestMetadata(BTreeMap<String, Box<RawValue>>);

impl RequestMetadata {
    /// Reads the metadata; `None` if the message names no modern protocol version.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "_meta")]
            meta: BTreeMap<String, Box<RawValue>>,
        }
        let Params { mut meta } = peek::params(message)?;
        meta.retain(|key, _| key.starts_with(PREFIX));
        let metadata = Self(meta);
        metadata.version().is_some_and(|version| is_modern(&version)).then_some(metadata)
    }

    /// The protocol version of the request.
    pub(crate) fn version(&self) -> Option<String> {
        serde_json::from_str(self.0.get(PROTOCOL_VERSION)?.get()).ok()
    }

    /// The metadata as the JSON text of a `_meta` member, for a request that this program adds.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// Whether a protocol version is modern. Not every text is a version: `DRAFT-…` is none.
pub(crate) fn is_modern(version: &str) -> bool {
    version.starts_with(|first: char| first.is_ascii_digit()) && version >= FIRST_MODERN
}

/// Whether the first message of a connection makes it a modern one. `server/discover` is one also where a host
/// leaves its metadata out: no legacy version has that method.
pub(crate) fn begins_modern(first: &Message) -> bool {
    match first.method() {
        Some(method::INITIALIZE) | None => false,
        Some(method::DISCOVER) => true,
        Some(_) => RequestMetadata::of(first).is_some(),
    }
}

/// Returns a `server/discover` with the metadata of a host's request.
pub(crate) fn discover_like(request: &Message) -> Option<Message> {
    let meta = RequestMetadata::of(request)?.to_json();
    let id = Id::fresh();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{}","params":{{"_meta":{meta}}}}}"#, method::DISCOVER);
    Message::from_text(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(method: &str, params: &str) -> Message {
        Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"{params}}}"#)).unwrap()
    }

    #[test]
    fn first_message_decides_the_era() {
        let meta = |version: &str| {
            format!(r#","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}"}}}}"#)
        };
        for (method, params, modern) in [
            ("initialize", meta("2026-07-28"), false),
            ("server/discover", String::new(), true),
            ("tools/list", meta("2026-07-28"), true),
            ("tools/list", meta("2099-01-01"), true),
            ("tools/list", meta("2025-11-25"), false),
            ("tools/list", meta("DRAFT"), false),
            ("tools/list", r#","params":{"_meta":{"progressToken":1}}"#.to_owned(), false),
            ("tools/list", String::new(), false),
        ] {
            assert_eq!(begins_modern(&message(method, &params)), modern, "{method} {params}");
        }
    }

    #[test]
    fn metadata_for_own_requests_leaves_progress_out() {
        let params =
            r#","params":{"_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","x":2}}"#;
        let metadata = RequestMetadata::of(&message("tools/call", params)).unwrap();
        assert_eq!(metadata.to_json(), r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#);
    }
}
