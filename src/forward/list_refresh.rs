//! The lists that this program asks for itself: after a session was replaced, those that the host was shown are asked for
//! again, and the host is told of those that have changed (MCP 2025-11-25, Tools, List Changed Notification, and the
//! same of prompts and resources).
//!
//! Beside `ping`, and what a new session is told ([`crate::remote::handshake`]), these are the only requests
//! of this program to the server.
//!
//! # Invariants
//!
//! - `ListRefresh` asks for no list that the host has not asked for.
//! - `ListRefresh` gives a server up whose pages do not end.

use super::host::own_id;
use crate::{
    description::{List, next_cursor},
    message::{Body, Id, Message},
};

/// Of each list, what is kept in memory to tell later whether it has changed, in bytes; a longer one is
/// taken to have.
pub(super) const MOST_SHOWN: usize = 1024 * 1024;
/// The same in pages: each keeps alive what came with it, however short it is. So many are followed, too.
pub(super) const MOST_PAGES: usize = 200;

/// The lists that are being asked for.
#[derive(Debug, Default)]
pub(super) struct ListRefresh(Vec<Inquiry>);

/// A list, as far as it has been answered.
#[derive(Debug)]
struct Inquiry {
    id: Id,
    list: List,
    pages: Vec<Body>,
}

/// What an answer led to.
#[derive(Debug)]
pub(super) enum Refreshed {
    /// The next page is to be asked for.
    Next(Message),
    /// A list is there as a whole.
    Whole(List, Vec<Body>),
    /// It is more than the host can have been shown.
    TooMuch(List),
    /// It goes no further; nothing is known about this list.
    Nothing,
}

impl ListRefresh {
    /// Begins anew; an earlier refresh, whose answers are of a session that is gone, is given up.
    pub(super) fn begin(&mut self, lists: Vec<List>) -> Vec<Message> {
        let inquiries = lists.into_iter().map(|list| Inquiry { id: own_id(), list, pages: Vec::new() });
        self.0 = inquiries.collect();
        self.0.iter().filter_map(|inquiry| inquiry.request(None)).collect()
    }

    /// Returns whether nothing is being asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether this list is still being asked for.
    pub(super) fn asks_for(&self, list: List) -> bool {
        self.0.iter().any(|inquiry| inquiry.list == list)
    }

    /// Takes an answer; `None` if it is not to a request of this program.
    pub(super) fn answered(&mut self, id: &Id, body: &Body) -> Option<Refreshed> {
        let at = self.0.iter().position(|inquiry| inquiry.id == *id)?;
        let mut inquiry = self.0.swap_remove(at);
        inquiry.pages.push(body.clone());
        if inquiry.pages.iter().map(Body::len).sum::<usize>() > MOST_SHOWN {
            return Some(Refreshed::TooMuch(inquiry.list));
        }
        let Some(cursor) = next_cursor(body) else { return Some(Refreshed::Whole(inquiry.list, inquiry.pages)) };
        if inquiry.pages.len() >= MOST_PAGES {
            return Some(Refreshed::TooMuch(inquiry.list));
        }
        inquiry.id = own_id();
        let Some(next) = inquiry.request(Some(&cursor)) else { return Some(Refreshed::Nothing) };
        self.0.push(inquiry);
        Some(Refreshed::Next(next))
    }

    /// These requests will not be answered.
    pub(super) fn lost(&mut self, ids: &[Id]) {
        self.0.retain(|inquiry| !ids.contains(&inquiry.id));
    }
}

impl Inquiry {
    fn request(&self, cursor: Option<&str>) -> Option<Message> {
        let params = cursor.map(|cursor| format!(r#","params":{{"cursor":{cursor}}}"#)).unwrap_or_default();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{}"{params}}}"#, self.id, self.list.method());
        Message::from_text(text).ok()
    }
}
