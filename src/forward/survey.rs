//! What has changed behind the host's back: after a session was replaced, the lists that the host has
//! seen are asked for again, by us, and the host is told of those that are other than it has seen them
//! (MCP 2025-11-25, Tools, List Changed Notification, and the same of prompts and resources).
//!
//! The only requests of our own beside `ping`. Must never: ask for a list that the host has not asked
//! for; go on for ever with a server whose pages do not end.

use super::owed::{MOST_PAGES, MOST_SHOWN};
use crate::{
    description::{List, next_cursor},
    message::{Body, Id, Message},
};

/// The lists that are being asked for.
#[derive(Debug, Default)]
pub(super) struct Survey(Vec<Asked>);

#[derive(Debug)]
struct Asked {
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
        let asked = lists.into_iter().map(|list| Asked { id: own_id(), list, pages: Vec::new() });
        self.0 = asked.collect();
        self.0.iter().filter_map(|asked| request(asked, None)).collect()
    }

    /// Whether nothing is being asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this list is still being asked for.
    pub(super) fn asks_for(&self, list: List) -> bool {
        self.0.iter().any(|asked| asked.list == list)
    }

    /// Takes an answer, if it is for us.
    pub(super) fn answered(&mut self, id: &Id, body: &Body) -> Surveyed {
        let Some(at) = self.0.iter().position(|asked| asked.id == *id) else { return Surveyed::NotOurs };
        let asked = &mut self.0[at];
        asked.pages.push(body.clone());
        if asked.pages.iter().map(Body::len).sum::<usize>() > MOST_SHOWN {
            return Surveyed::TooMuch(self.0.swap_remove(at).list);
        }
        let Some(cursor) = next_cursor(body) else {
            let Asked { list, pages, .. } = self.0.swap_remove(at);
            return Surveyed::Whole(list, pages);
        };
        if asked.pages.len() < MOST_PAGES {
            asked.id = own_id();
            if let Some(next) = request(asked, Some(&cursor)) {
                return Surveyed::Next(next);
            }
            self.0.swap_remove(at);
            return Surveyed::Nothing;
        }
        Surveyed::TooMuch(self.0.swap_remove(at).list)
    }

    /// These requests will not be answered.
    pub(super) fn lost(&mut self, ids: &[Id]) {
        self.0.retain(|asked| !ids.contains(&asked.id));
    }
}

fn request(asked: &Asked, cursor: Option<&str>) -> Option<Message> {
    let params = cursor.map(|cursor| format!(r#","params":{{"cursor":{cursor}}}"#)).unwrap_or_default();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{}"{params}}}"#, asked.id, asked.list.method());
    Message::from_text(text).ok()
}

/// An id that no request of the host's has: it holds random bits that the host never sees.
pub(super) fn own_id() -> Id {
    Id::own(&format!("mcp-remote-{:016x}", fastrand::u64(..)))
}
