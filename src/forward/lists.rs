//! What the host was last shown of the server's lists, by which it is told later that they have changed.
//!
//! # Invariants
//!
//! - `Lists` keeps no list without a limit.

use super::{
    Action,
    host::Host,
    list_refresh::{ListRefresh, MOST_PAGES, MOST_SHOWN, Refreshed},
};
use crate::{
    description::{self, Learned, List, Memory},
    era::Era,
    message::{Body, Id},
};

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
    /// Returns whether this is the server's own list.
    pub(super) fn is_of_server(&self) -> bool {
        matches!(self, Self::Pages(_) | Self::TooMuch)
    }
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    last: [LastListed; 4],
    refresh: ListRefresh,
}

impl Lists {
    pub(super) fn last(&self, list: List) -> &LastListed {
        &self.last[list.index()]
    }

    pub(super) fn is_placeholder(&self, list: List) -> bool {
        matches!(self.last(list), LastListed::Placeholder)
    }

    pub(super) fn set(&mut self, list: List, last: LastListed) {
        self.last[list.index()] = last;
    }

    /// Adds a page of the server to what the host was shown.
    pub(super) fn add_page(&mut self, list: List, page: &Body, memory: &mut dyn Memory) {
        let last = &mut self.last[list.index()];
        let LastListed::Pages(pages) = last else { return };
        pages.push(page.clone());
        memory.keep(Learned::List(list, pages.clone()));
        if pages.len() > MOST_PAGES || pages.iter().map(Body::len).sum::<usize>() > MOST_SHOWN {
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
        for list in &changed {
            self.set(*list, LastListed::Nothing);
        }
        changed
    }

    /// Returns the lists of the server that the host was shown and that are not being asked for: their session is gone.
    pub(super) fn refreshed_before(&self) -> Vec<List> {
        self.filter(|list, last| last.is_of_server() && !self.refresh.asks_for(list))
    }

    pub(super) fn is_refreshing(&self) -> bool {
        !self.refresh.is_idle()
    }

    /// Asks for the lists that the host was shown, to tell whether they are still the same.
    pub(super) fn refresh(&mut self, host: &mut Host) {
        host.announce(Era::Legacy, &self.filter(|_, last| matches!(last, LastListed::TooMuch)));
        let requests = self.refresh.begin(self.filter(|_, last| matches!(last, LastListed::Pages(_))));
        host.actions.extend(requests.into_iter().map(Action::Send));
    }

    /// Takes an answer to a request of this program; returns whether it was that.
    pub(super) fn refreshed(&mut self, id: &Id, answer: &Body, host: &mut Host, memory: &mut dyn Memory) -> bool {
        match self.refresh.answered(id, answer) {
            None => return false,
            Some(Refreshed::Next(request)) => host.actions.push_back(Action::Send(request)),
            Some(Refreshed::Whole(list, pages)) => {
                if matches!(self.last(list), LastListed::Pages(last) if !description::same(list, last, &pages)) {
                    host.announce(Era::Legacy, &[list]);
                }
                memory.keep(Learned::List(list, pages));
            }
            Some(Refreshed::TooMuch(list)) => host.announce(Era::Legacy, &[list]),
            Some(Refreshed::Nothing) => {}
        }
        true
    }

    /// These requests will not be answered.
    pub(super) fn lost(&mut self, ids: &[Id]) {
        self.refresh.lost(ids);
    }
}
