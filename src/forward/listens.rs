//! The streams of notifications that a modern host has open (MCP 2026-07-28, Subscriptions).
//!
//! # Invariants
//!
//! - Nothing is announced on a stream that the server has not acknowledged, or of what the stream is not about.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Forward, Link, owed::Asked};
use crate::{
    description::List,
    era::Era,
    mcp::method::{ACKNOWLEDGED, LISTEN},
    message::{Body, Id, Message, Shape, peek::cancelled_id},
};

/// What each stream is about, by the id of its request; `None` until the server has acknowledged it.
#[derive(Debug, Default)]
pub(super) struct Listens(HashMap<Id, Option<Filter>>);

/// What the server has agreed to.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
}

impl Filter {
    fn covers(self, list: List) -> bool {
        match list {
            List::Tools => self.tools_list_changed,
            List::Prompts => self.prompts_list_changed,
            List::Resources | List::Templates => self.resources_list_changed,
        }
    }
}

impl Listens {
    /// The request is answered, or nobody waits for it.
    pub(super) fn end(&mut self, id: &Id) {
        self.0.remove(id);
    }
}

impl Forward {
    /// A request of the host is about to go to the server.
    pub(super) fn note_listen(&mut self, request: &Message) {
        if let Shape::Request { id, method } = &request.shape
            && &**method == LISTEN
        {
            self.listens.0.insert(id.clone(), None);
        }
    }

    /// A notification of the server: it may acknowledge a stream, or end it.
    pub(super) fn note_stream_of_notifications(&mut self, notification: &Message) {
        if self.listens.0.is_empty() {
            return;
        }
        match notification.method() {
            Some(ACKNOWLEDGED) => {
                if let Some((id, filter)) = acknowledged(notification)
                    && let Some((_, known)) = self.listens.0.iter_mut().find(|(known, _)| known.same_value(&id))
                {
                    *known = Some(filter);
                }
            }
            // MCP 2026-07-28, Cancellation: the server ends that stream, and answers nothing more.
            Some("notifications/cancelled") => {
                if let Some(id) = cancelled_id(notification).filter(|id| self.listens.0.contains_key(id)) {
                    _ = self.forget(&id);
                }
            }
            _ => {}
        }
    }

    /// Reports a list as changed on each stream that is about it.
    pub(super) fn announce_on_listens(&mut self, list: List) {
        let covers = |filter: &Option<Filter>| filter.is_some_and(|filter| filter.covers(list));
        let streams: Vec<Id> =
            self.listens.0.iter().filter(|(_, filter)| covers(filter)).map(|(id, _)| id.clone()).collect();
        for id in streams {
            let method = list.changed();
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
            );
            self.write(Body::One(text.into()));
        }
    }

    /// Whether nobody waits for an answer. A stream of notifications has none before its end.
    pub(super) fn owes_nothing(&self) -> bool {
        self.owed.values().all(|debt| debt.asked == Asked::Listen)
    }

    /// The connection ends, and its streams with it: gracefully (MCP 2026-07-28, Subscriptions, Graceful Closure).
    pub(super) fn end_listens(&mut self) {
        if !matches!(self.link, Link::Open(Era::Modern)) {
            return;
        }
        let listens = self.owed.iter().filter(|(_, debt)| debt.asked == Asked::Listen);
        let ids: Vec<Id> = listens.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let result =
                format!(r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#);
            self.answer(&id, &result);
        }
    }
}

fn acknowledged(notification: &Message) -> Option<(Id, Filter)> {
    #[derive(Deserialize)]
    struct Notification<'a> {
        #[serde(borrow)]
        params: Params<'a>,
    }
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Meta<'a>,
        #[serde(default)]
        notifications: Filter,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
        id: &'a RawValue,
    }
    let text = notification.body.to_bytes();
    let Notification { params } = serde_json::from_slice(&text).ok()?;
    Some((Id::from_json(params.meta.id.get().as_bytes()), params.notifications))
}
