//! What has changed behind the host's back: after a session was replaced, the lists that the host has
//! seen are asked for again, by us, and the host is told of those that are other than it has seen them
//! (MCP 2025-11-25, Tools, List Changed Notification, and the same of prompts and resources).
//!
//! Beside `ping`, and what a new session is told ([`crate::remote::handshake`]), these are the only requests
//! of our own to the server.
//!
//! Must never: ask for a list that the host has not asked for; go on for ever with a server whose pages do
//! not end.

use super::owed::{MOST_PAGES, MOST_SHOWN};
use crate::{
    description::{List, next_cursor},
    message::{Body, Id, Message},
};

/// The lists that are being asked for.
#[derive(Debug, Default)]
pub(super) struct Survey(Vec<Inquiry>);

/// A list, as far as it has been answered.
#[derive(Debug)]
struct Inquiry {
    id: Id,
    list: List,
    pages: Vec<Body>,
}

/// What an answer led to.
#[derive(Debug)]
pub(super) enum Surveyed {
    /// It was not one of ours.
    NotOurs,
    /// The next page is to be asked for.
    Next(Message),
    /// A list is there as a whole.
    Whole(List, Vec<Body>),
    /// It is more than the host can have been shown.
    TooMuch(List),
    /// It goes no further; nothing is known about this list.
    Nothing,
}

impl Survey {
    /// Begins anew; an earlier survey, whose answers are of a session that is gone, is given up.
    pub(super) fn begin(&mut self, lists: impl IntoIterator<Item = List>) -> Vec<Message> {
        let inquiries = lists.into_iter().map(|list| Inquiry { id: own_id(), list, pages: Vec::new() });
        self.0 = inquiries.collect();
        self.0.iter().filter_map(|inquiry| request(inquiry, None)).collect()
    }

    /// Whether nothing is being asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this list is still being asked for.
    pub(super) fn asks_for(&self, list: List) -> bool {
        self.0.iter().any(|inquiry| inquiry.list == list)
    }

    /// Takes an answer, if it is for us.
    pub(super) fn answered(&mut self, id: &Id, body: &Body) -> Surveyed {
        let Some(at) = self.0.iter().position(|inquiry| inquiry.id == *id) else { return Surveyed::NotOurs };
        let inquiry = &mut self.0[at];
        inquiry.pages.push(body.clone());
        if inquiry.pages.iter().map(Body::len).sum::<usize>() > MOST_SHOWN {
            return Surveyed::TooMuch(self.0.swap_remove(at).list);
        }
        let Some(cursor) = next_cursor(body) else {
            let Inquiry { list, pages, .. } = self.0.swap_remove(at);
            return Surveyed::Whole(list, pages);
        };
        if inquiry.pages.len() < MOST_PAGES {
            inquiry.id = own_id();
            if let Some(next) = request(inquiry, Some(&cursor)) {
                return Surveyed::Next(next);
            }
            self.0.swap_remove(at);
            return Surveyed::Nothing;
        }
        Surveyed::TooMuch(self.0.swap_remove(at).list)
    }

    /// These requests will not be answered.
    pub(super) fn lost(&mut self, ids: &[Id]) {
        self.0.retain(|inquiry| !ids.contains(&inquiry.id));
    }
}

fn request(inquiry: &Inquiry, cursor: Option<&str>) -> Option<Message> {
    let params = cursor.map(|cursor| format!(r#","params":{{"cursor":{cursor}}}"#)).unwrap_or_default();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{}"{params}}}"#, inquiry.id, inquiry.list.method());
    Message::from_text(text).ok()
}

/// An id that no request of the host's has: it holds random bits that the host never sees.
pub(super) fn own_id() -> Id {
    Id::own(&format!("mcp-remote-{:016x}", fastrand::u64(..)))
}
