//! What a new session is sent, so that the host need not know that the old one is lost: the
//! host's own `initialize` and `notifications/initialized`, the log level it set, the resources it
//! subscribed to (MCP 2025-11-25, Lifecycle; Logging; Resources, Subscriptions).
//!
//! # Invariants
//!
//! - No request of this program has the id of a request of the host.

use std::sync::Mutex;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    mcp::method::{INITIALIZE, INITIALIZED, RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE, SET_LEVEL},
    message::{Id, Message, peek},
    sync::LockExt,
};

/// Remembers while messages pass.
#[derive(Debug, Default)]
pub(crate) struct Handshake(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    initialize: Option<Message>,
    initialized: Option<Message>,
    level: Option<Message>,
    subscriptions: Vec<(String, Message)>,
}

impl Handshake {
    /// Takes note of a message on its way to the server.
    pub(crate) fn note(&self, message: &Message) {
        let mut remembered = self.0.guard();
        match message.method() {
            Some(INITIALIZE) => {
                *remembered = Remembered { initialize: Some(message.clone()), ..Remembered::default() };
            }
            Some(INITIALIZED) => remembered.initialized = Some(message.clone()),
            Some(SET_LEVEL) => remembered.level = Some(message.clone()),
            Some(RESOURCES_SUBSCRIBE) => {
                if let Some(uri) = peek::uri(message) {
                    remembered.subscriptions.retain(|(known, _)| *known != uri);
                    remembered.subscriptions.push((uri, message.clone()));
                }
            }
            Some(RESOURCES_UNSUBSCRIBE) => {
                if let Some(uri) = peek::uri(message) {
                    remembered.subscriptions.retain(|(known, _)| *known != uri);
                }
            }
            _ => {}
        }
    }

    /// The host's `initialize`, under an id of ours; none if the host never sent one.
    pub(crate) fn initialize(&self) -> Option<Message> {
        let initialize = self.0.guard().initialize.clone()?;
        Some(initialize.with_id(&Id::fresh()))
    }

    /// The host's `notifications/initialized`.
    pub(crate) fn initialized(&self) -> Option<Message> {
        self.0.guard().initialized.clone()
    }

    /// The requests that restore the log level and the subscriptions, under ids of ours.
    pub(crate) fn restore(&self) -> Vec<Message> {
        let remembered = self.0.guard();
        let mut requests: Vec<_> = remembered.level.iter().cloned().collect();
        requests.extend(remembered.subscriptions.iter().map(|(_, message)| message.clone()));
        drop(remembered);
        requests.iter().map(|message| message.with_id(&Id::fresh())).collect()
    }

    /// A `ping` of this program (MCP, Ping).
    pub(crate) fn ping(&self) -> Option<Message> {
        let id = Id::fresh();
        Message::from_text(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).ok()
    }
}

/// What the answer to an `initialize` says to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Initialized {
    /// The revision the server chose.
    Version(String),
    /// The server's error, as its text.
    Error(String),
}

impl Initialized {
    /// Reads the answer.
    pub(crate) fn read(answer: &Message) -> Self {
        #[derive(Deserialize)]
        struct Answer<'a> {
            result: Option<Outcome>,
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Outcome {
            protocol_version: Option<String>,
        }
        let text: Bytes = answer.body.to_bytes();
        match serde_json::from_slice(&text) {
            Ok(Answer { error: Some(error), .. }) => Self::Error(error.get().to_owned()),
            Ok(Answer { result: Some(Outcome { protocol_version: Some(version) }), .. }) => Self::Version(version),
            // A result without a version: the oldest revision, which sends no version header.
            _ => Self::Version(String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(handshake: &Handshake, text: &str) {
        handshake.note(&Message::from_text(text.to_owned()).unwrap());
    }

    #[test]
    fn new_session_gets_what_still_holds() {
        let handshake = Handshake::default();
        note(&handshake, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x":1.0}}"#);
        note(&handshake, r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#);
        note(&handshake, r#"{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"error"}}"#);
        for (id, verb, uri) in
            [(3, "subscribe", "a"), (4, "subscribe", "b"), (5, "unsubscribe", "a"), (6, "subscribe", "b")]
        {
            note(
                &handshake,
                &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/{verb}","params":{{"uri":"{uri}"}}}}"#),
            );
        }
        let texts: Vec<_> = handshake
            .restore()
            .into_iter()
            .map(|message| {
                let own = message.requests().next().unwrap().clone();
                assert!(own.as_json().starts_with("\"mcp-remote-"));
                String::from_utf8(message.with_id(&Id::from_json(b"0")).body.to_bytes().to_vec()).unwrap()
            })
            .collect();
        assert_eq!(
            texts,
            [
                r#"{"jsonrpc":"2.0","id":0,"method":"logging/setLevel","params":{"level":"error"}}"#,
                r#"{"jsonrpc":"2.0","id":0,"method":"resources/subscribe","params":{"uri":"b"}}"#,
            ]
        );
        let initialize = handshake.initialize().unwrap().body.to_bytes();
        assert!(initialize.ends_with(br#","method":"initialize","params":{"x":1.0}}"#));
    }
}
