//! The stream of notifications (MCP 2026-07-28, Subscriptions) that stands for what a legacy host gets unasked: changes of
//! the lists, and of the resources that it has subscribed to (MCP 2025-11-25, Resources, Subscriptions).
//!
//! # Invariants
//!
//! - A stream is closed when the one in its place is acknowledged, not before.
//! - At most two streams are open, however often the host changes its subscriptions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use serde_json::json;

use crate::{
    mcp::method::{PROMPTS_CHANGED, RESOURCE_UPDATED, RESOURCES_CHANGED, TOOLS_CHANGED},
    message::{Id, Message},
};

/// What a stream is about (Subscriptions, Notification Filter).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NotificationFilter {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tools_list_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) prompts_list_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) resources_list_changed: bool,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) resource_subscriptions: BTreeSet<String>,
}

impl NotificationFilter {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A legacy notification for each thing that it is about.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Message> {
        let lists = [
            (self.tools_list_changed, TOOLS_CHANGED),
            (self.prompts_list_changed, PROMPTS_CHANGED),
            (self.resources_list_changed, RESOURCES_CHANGED),
        ];
        let lists = lists.into_iter().filter(|(covered, _)| *covered);
        let lists = lists.map(|(_, method)| format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#));
        let resources = self
            .resource_subscriptions
            .iter()
            .map(|uri| json!({ "jsonrpc": "2.0", "method": RESOURCE_UPDATED, "params": { "uri": uri } }).to_string());
        lists.chain(resources).filter_map(|text| Message::from_text(text).ok())
    }

    /// What of it was `asked` for: a server cannot agree to more.
    fn within(mut self, asked: &Self) -> Self {
        self.tools_list_changed &= asked.tools_list_changed;
        self.prompts_list_changed &= asked.prompts_list_changed;
        self.resources_list_changed &= asked.resources_list_changed;
        self.resource_subscriptions.retain(|uri| asked.resource_subscriptions.contains(uri));
        self
    }
}

/// One stream.
#[derive(Debug)]
struct ListenStream {
    id: Id,
    filter: NotificationFilter,
}

/// What a change leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// A stream to open, and what it is about.
    pub(crate) open: Option<(Id, NotificationFilter)>,
    /// A stream to close.
    pub(crate) close: Option<Id>,
    /// Requests of the host to be answered, each with whether its resource is subscribed to.
    pub(crate) answer: Vec<(Id, bool)>,
    /// What may have changed unseen.
    pub(crate) announce: Option<NotificationFilter>,
    /// The server has ended the stream, and it is to be opened again after a while.
    pub(crate) later: bool,
}

/// The streams, and what they are to be about.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    wanted: NotificationFilter,
    /// Acknowledged; it is about what the server has agreed to.
    open: Option<ListenStream>,
    /// Not acknowledged yet.
    next: Option<ListenStream>,
    /// Subscriptions of the host that no stream has yet: request and resource.
    pending: Vec<(Id, String)>,
    /// The stream was lost or ended: what was missed is announced.
    has_missed: bool,
}

impl Listening {
    /// Begins, for the lists of which the server reports changes.
    pub(crate) fn begin(&mut self, lists: NotificationFilter) -> Changes {
        let NotificationFilter { tools_list_changed, prompts_list_changed, resources_list_changed, .. } = lists;
        self.wanted.tools_list_changed = tools_list_changed;
        self.wanted.prompts_list_changed = prompts_list_changed;
        self.wanted.resources_list_changed = resources_list_changed;
        self.go_on()
    }

    /// Subscribes to a resource for a request of the host.
    pub(crate) fn subscribe(&mut self, request: Id, resource: String) -> Changes {
        if self.open.as_ref().is_some_and(|open| open.filter.resource_subscriptions.contains(&resource)) {
            self.wanted.resource_subscriptions.insert(resource);
            return Changes { answer: vec![(request, true)], ..self.go_on() };
        }
        self.wanted.resource_subscriptions.insert(resource.clone());
        self.pending.push((request, resource));
        self.go_on()
    }

    /// Ends the subscription to a resource.
    pub(crate) fn unsubscribe(&mut self, resource: &str) -> Changes {
        self.wanted.resource_subscriptions.remove(resource);
        let mut answer = Vec::new();
        self.pending.retain(|(request, pending)| {
            if pending == resource {
                answer.push((request.clone(), true)); // it has come and gone
            }
            pending != resource
        });
        Changes { answer, ..self.go_on() }
    }

    /// The host no longer waits for this request.
    pub(crate) fn forget(&mut self, request: &Id) {
        self.pending.retain(|(pending, _)| pending != request);
    }

    /// Whether this is the id of a stream.
    pub(crate) fn has(&self, id: &Id) -> bool {
        self.streams().any(|stream| stream.id.same_value(id))
    }

    fn streams(&self) -> impl Iterator<Item = &ListenStream> {
        self.open.iter().chain(&self.next)
    }

    /// The server has acknowledged a stream.
    pub(crate) fn on_acknowledged(&mut self, id: &Id, agreed: NotificationFilter) -> Changes {
        let Some(next) = self.next.take_if(|next| next.id.same_value(id)) else { return Changes::default() };
        let agreed = agreed.within(&next.filter);
        let mut answer = Vec::new();
        self.pending.retain(|(request, resource)| {
            let is_asked = next.filter.resource_subscriptions.contains(resource);
            if is_asked {
                answer.push((request.clone(), agreed.resource_subscriptions.contains(resource)));
            }
            !is_asked
        });
        let refused = next.filter.resource_subscriptions.difference(&agreed.resource_subscriptions);
        for resource in refused.cloned().collect::<Vec<_>>() {
            self.wanted.resource_subscriptions.remove(&resource);
        }
        // What the server does not agree to is not asked for again.
        self.wanted.tools_list_changed &= agreed.tools_list_changed;
        self.wanted.prompts_list_changed &= agreed.prompts_list_changed;
        self.wanted.resources_list_changed &= agreed.resources_list_changed;
        let announce = std::mem::take(&mut self.has_missed).then(|| agreed.clone());
        let close = self.open.replace(ListenStream { id: next.id, filter: agreed }).map(|stream| stream.id);
        Changes { answer, announce, close, ..self.go_on() }
    }

    /// A stream is over: the server has refused it, or it was lost for good.
    pub(crate) fn on_refused(&mut self, id: &Id) -> Changes {
        if let Some(refused) = self.next.take_if(|next| next.id.same_value(id)) {
            let mut answer = Vec::new();
            self.pending.retain(|(request, resource)| {
                let is_refused = refused.filter.resource_subscriptions.contains(resource);
                if is_refused {
                    answer.push((request.clone(), false));
                }
                !is_refused
            });
            // What there was goes on.
            self.wanted = self.open.as_ref().map(|open| open.filter.clone()).unwrap_or_default();
            self.wanted.resource_subscriptions.extend(self.pending.iter().map(|(_, resource)| resource.clone()));
            return Changes { answer, ..self.go_on() };
        }
        self.on_ended(id)
    }

    /// The server has ended a stream (Subscriptions, Graceful Closure).
    pub(crate) fn on_ended(&mut self, id: &Id) -> Changes {
        if self.next.take_if(|next| next.id.same_value(id)).is_none()
            && self.open.take_if(|open| open.id.same_value(id)).is_none()
        {
            return Changes::default();
        }
        self.has_missed = true;
        Changes { later: self.next.is_none(), ..Changes::default() }
    }

    /// The time has come to open a stream again that the server has ended.
    pub(crate) fn on_due(&mut self) -> Changes {
        self.go_on()
    }

    /// Opens the stream that is wanted, unless it is there or another is on its way.
    fn go_on(&mut self) -> Changes {
        if self.next.is_some() || self.open.as_ref().is_some_and(|open| open.filter == self.wanted) {
            return Changes::default();
        }
        if self.wanted.is_empty() {
            return Changes { close: self.open.take().map(|stream| stream.id), ..Changes::default() };
        }
        let (id, filter) = (Id::fresh(), self.wanted.clone());
        self.next = Some(ListenStream { id: id.clone(), filter: filter.clone() });
        Changes { open: Some((id, filter)), ..Changes::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> NotificationFilter {
        NotificationFilter { tools_list_changed: true, prompts_list_changed: true, ..Default::default() }
    }

    fn request(name: &str) -> Id {
        Id::own(name)
    }

    fn opened(changes: &Changes) -> (Id, NotificationFilter) {
        changes.open.clone().unwrap_or_else(|| panic!("{changes:?}"))
    }

    #[test]
    fn new_stream_is_acknowledged_before_old_closes() {
        let mut listening = Listening::default();
        let (first, filter) = opened(&listening.begin(lists()));
        assert_eq!(filter, lists());
        assert_eq!(listening.on_acknowledged(&first, lists()), Changes::default());
        let (second, filter) = opened(&listening.subscribe(request("a"), "u:a".to_owned()));
        assert!(filter.tools_list_changed && filter.resource_subscriptions.contains("u:a"));
        assert!(listening.has(&first) && listening.has(&second));
        let changes = listening.on_acknowledged(&second, filter);
        assert_eq!(changes, Changes { close: Some(first), answer: vec![(request("a"), true)], ..Changes::default() });
    }

    #[test]
    fn rapid_changes_open_one_stream_more() {
        let mut listening = Listening::default();
        let (first, filter) = opened(&listening.subscribe(request("0"), "u:0".to_owned()));
        for number in 1..10 {
            let changes = listening.subscribe(request(&number.to_string()), format!("u:{number}"));
            assert_eq!(changes, Changes::default(), "one is on its way");
        }
        let gone = listening.unsubscribe("u:5");
        assert_eq!(gone, Changes { answer: vec![(request("5"), true)], ..Changes::default() });
        let changes = listening.on_acknowledged(&first, filter);
        assert_eq!(changes.answer, [(request("0"), true)]);
        let (second, filter) = opened(&changes);
        assert_eq!(filter.resource_subscriptions.len(), 9);
        let changes = listening.on_acknowledged(&second, filter);
        assert_eq!((changes.close, changes.answer.len(), changes.open), (Some(first), 8, None));
    }

    #[test]
    fn unacknowledged_notification_is_not_subscribed() {
        let mut listening = Listening::default();
        let (first, _) = opened(&listening.begin(lists()));
        let tools = NotificationFilter { tools_list_changed: true, ..Default::default() };
        assert_eq!(listening.on_acknowledged(&first, tools.clone()), Changes::default());
        let (second, _) = opened(&listening.subscribe(request("a"), "u:a".to_owned()));
        let changes = listening.on_acknowledged(&second, tools);
        assert_eq!(changes.answer, [(request("a"), false)]);
        assert_eq!(changes.open, None, "it is not asked for again");
    }

    #[test]
    fn refused_stream_is_not_opened_again() {
        let mut listening = Listening::default();
        let (first, _) = opened(&listening.begin(lists()));
        assert_eq!(listening.on_refused(&first), Changes::default());
        let (second, filter) = opened(&listening.subscribe(request("a"), "u:a".to_owned()));
        assert!(!filter.tools_list_changed, "{filter:?}");
        let changes = listening.on_refused(&second);
        assert_eq!((changes.answer, changes.open), (vec![(request("a"), false)], None));
    }

    #[test]
    fn ended_stream_is_opened_again_later_and_announced() {
        let mut listening = Listening::default();
        let (first, _) = opened(&listening.begin(lists()));
        listening.on_acknowledged(&first, lists());
        assert!(listening.on_ended(&first).later);
        assert!(!listening.on_ended(&first).later, "once");
        let (second, _) = opened(&listening.on_due());
        assert_eq!(listening.on_acknowledged(&second, lists()).announce, Some(lists()));
    }

    #[test]
    fn last_subscription_closes_its_stream() {
        let mut listening = Listening::default();
        let (first, filter) = opened(&listening.subscribe(request("a"), "u:a".to_owned()));
        listening.on_acknowledged(&first, filter);
        assert_eq!(listening.subscribe(request("b"), "u:a".to_owned()).answer, [(request("b"), true)]);
        assert_eq!(listening.unsubscribe("u:a"), Changes { close: Some(first), ..Changes::default() });
    }
}
