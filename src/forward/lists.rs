//! The server's lists as last sent to the host, kept to detect and announce later changes (MCP 2025-11-25,
//! Tools, List Changed Notification, and the same of prompts and resources). After a session was replaced, this program
//! asks for those lists again. The other requests of this
//! program to the server are in invariant 4 of the crate.
//!
//! # Invariants
//!
//! - `Lists` keeps no list without a limit, and gives a server up whose pages do not end.
//! - `Lists` asks for no list that the host has not asked for.

use super::{Action, host::Host};
use crate::{
    description::{self, Descriptions, Learned, List, next_cursor},
    era::Era,
    message::{Body, Id, Message},
};

/// Of each list, what is kept in memory to tell later whether it has changed, in bytes; a longer one is
/// taken to have.
pub(super) const MOST_SHOWN: usize = 1024 * 1024;
/// The same in pages: each keeps alive what came with it, however short it is. So many are followed, too.
const MOST_PAGES: usize = 200;

/// What the host was last shown of a list.
#[derive(Debug, Default)]
pub(super) enum LastListed {
    #[default]
    Nothing,
    /// The server's answers, page by page.
    Pages(Vec<Body>),
    /// The same, and more than is kept.
    TooMuch,
    /// The placeholder of this program.
    Placeholder,
}

impl LastListed {
    pub(super) fn is_of_server(&self) -> bool {
        matches!(self, Self::Pages(_) | Self::TooMuch)
    }
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    last: [LastListed; 4],
    /// The lists that this program asks for.
    refreshes: Vec<ListRefresh>,
}

/// A list that this program asks for, as far as it has been answered.
#[derive(Debug)]
struct ListRefresh {
    id: Id,
    list: List,
    pages: Vec<Body>,
}

impl ListRefresh {
    fn request(&self, cursor: Option<&str>) -> Option<Action> {
        let params = cursor.map(|cursor| format!(r#","params":{{"cursor":{cursor}}}"#)).unwrap_or_default();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{},"method":"{}"{params}}}"#, self.id, self.list.method());
        Message::from_text(text).ok().map(Action::Send)
    }
}

impl Lists {
    pub(super) fn last(&self, list: List) -> &LastListed {
        &self.last[list.index()]
    }

    pub(super) fn set(&mut self, list: List, last: LastListed) {
        self.last[list.index()] = last;
    }

    /// Adds a page of the server to what the host was shown.
    pub(super) fn add_page(&mut self, list: List, page: &Body, descriptions: &mut dyn Descriptions) {
        let last = &mut self.last[list.index()];
        let LastListed::Pages(pages) = last else { return };
        pages.push(page.clone());
        descriptions.save(Learned::List(list, pages.clone()));
        if is_too_much(pages) || pages.len() > MOST_PAGES {
            *last = LastListed::TooMuch;
        }
    }

    /// Returns the lists of which this is true.
    pub(super) fn filter(&self, is_wanted: impl Fn(List, &LastListed) -> bool) -> Vec<List> {
        List::ALL.into_iter().filter(|list| is_wanted(*list, self.last(*list))).collect()
    }

    /// Forgets what the host was shown of the lists that are others now, and returns them: the host is to be told.
    #[must_use]
    pub(super) fn reconcile(&mut self, is_other: impl Fn(List, &LastListed) -> bool) -> Vec<List> {
        let changed = self.filter(is_other);
        changed.iter().for_each(|list| self.set(*list, LastListed::Nothing));
        changed
    }

    /// The session was replaced: asks for the lists that the host was shown, to tell whether they are still the same.
    ///
    /// A request that met the session's end goes to the new one by itself; begun anew, a server that loses its session
    /// over a list would be asked for that list forever.
    pub(super) fn refresh_if_idle(&mut self, host: &mut Host) {
        if self.refreshes.is_empty() {
            return self.refresh(host);
        }
        // What was answered before is of a session that is gone.
        let is_asked_for = |list| self.refreshes.iter().any(|refresh| refresh.list == list);
        host.announce(Era::Legacy, &self.filter(|list, last| last.is_of_server() && !is_asked_for(list)));
    }

    /// The same, in any case; an earlier refresh, whose answers are of a session that is gone, is given up.
    pub(super) fn refresh(&mut self, host: &mut Host) {
        host.announce(Era::Legacy, &self.filter(|_, last| matches!(last, LastListed::TooMuch)));
        let lists = self.filter(|_, last| matches!(last, LastListed::Pages(_))).into_iter();
        self.refreshes = lists.map(|list| ListRefresh { id: Id::fresh(), list, pages: Vec::new() }).collect();
        host.actions.extend(self.refreshes.iter().filter_map(|refresh| refresh.request(None)));
    }

    /// Takes an answer to a request of this program; returns whether it was that.
    pub(super) fn refreshed(
        &mut self,
        id: &Id,
        answer: &Body,
        host: &mut Host,
        descriptions: &mut dyn Descriptions,
    ) -> bool {
        let Some(at) = self.refreshes.iter().position(|refresh| refresh.id == *id) else { return false };
        let mut refresh = self.refreshes.swap_remove(at);
        let list = refresh.list;
        refresh.pages.push(answer.clone());
        if is_too_much(&refresh.pages) {
            host.announce(Era::Legacy, &[list]); // it is more than the host can have been shown
        } else if let Some(cursor) = next_cursor(answer) {
            if refresh.pages.len() >= MOST_PAGES {
                host.announce(Era::Legacy, &[list]);
                return true;
            }
            refresh.id = Id::fresh();
            if let Some(next) = refresh.request(Some(&cursor)) {
                host.actions.push_back(next);
                self.refreshes.push(refresh);
            }
        } else {
            if matches!(self.last(list), LastListed::Pages(last) if !description::same(list, last, &refresh.pages)) {
                host.announce(Era::Legacy, &[list]);
            }
            descriptions.save(Learned::List(list, refresh.pages));
        }
        true
    }

    /// These requests will not be answered; returns whether they were of this program.
    pub(super) fn lost(&mut self, ids: &[Id]) -> bool {
        let before = self.refreshes.len();
        self.refreshes.retain(|refresh| !ids.contains(&refresh.id));
        self.refreshes.len() < before
    }
}

fn is_too_much(pages: &[Body]) -> bool {
    pages.iter().map(Body::len).sum::<usize>() > MOST_SHOWN
}
