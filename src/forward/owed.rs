//! What the host is owed: its requests that are not answered yet. And what it has seen of the lists, by
//! which it is told later that they have changed.
//!
//! Must never: settle a debt twice; keep lists without a limit.

use super::Forward;
use crate::{
    description::{Learned, List},
    mcp::method::{DISCOVER, LISTEN},
    message::{Body, Id, Message},
    report::Report,
    tools,
};

/// Of each list, what is kept in memory to tell later whether it has changed, in bytes; a longer one is
/// taken to have.
pub(super) const MOST_SHOWN: usize = 1024 * 1024;
/// The same in pages: each keeps alive what came with it, however short it is. So many are followed, too.
pub(super) const MOST_PAGES: usize = 200;

/// A request of the host that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Debt {
    /// How many requests have this id: a host may break the rule, and is owed all the same.
    count: u32,
    pub(super) asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    List(List, Page),
    Initialize,
    /// `server/discover`
    Discover,
    /// A stream of notifications: it ends with the connection, and nobody waits for that.
    Listen,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    First,
    Later,
    /// Asked for in a batch, and not looked at.
    Unknown,
}

impl Asked {
    pub(super) fn by(method: &str, page: impl FnOnce() -> Page) -> Self {
        match (method, List::of_method(method)) {
            ("initialize", _) => Self::Initialize,
            (DISCOVER, _) => Self::Discover,
            (LISTEN, _) => Self::Listen,
            (_, Some(list)) => Self::List(list, page()),
            _ => Self::Other,
        }
    }
}

impl Debt {
    pub(super) fn list(&self) -> Option<List> {
        match self.asked {
            Asked::List(list, _) => Some(list),
            _ => None,
        }
    }

    pub(super) fn is_later_page(&self) -> bool {
        matches!(self.asked, Asked::List(_, Page::Later))
    }
}

/// What the host was last shown of a list.
#[derive(Debug, Default)]
pub(super) enum Shown {
    #[default]
    Nothing,
    /// The server's answers, page by page.
    Pages(Vec<Body>),
    /// The same, and more than is kept.
    TooMuch,
    /// Something of ours.
    InItsPlace,
}

impl Forward {
    /// Every id, and how many requests have it.
    pub(super) fn debts(&self) -> Vec<(Id, u32)> {
        self.owed.iter().map(|(id, debt)| (id.clone(), debt.count)).collect()
    }

    pub(super) fn owe(&mut self, id: &Id, asked: Asked) {
        self.cancelled.retain(|cancelled| cancelled != id); // used again, it means another request
        let debt = self.owed.entry(id.clone()).or_insert(Debt { count: 0, asked });
        debt.count += 1;
    }

    /// Settles a debt with the server's answer, and learns from it; what goes to the host, if it was owed.
    pub(super) fn pay(&mut self, id: &Id, answer: Message) -> Option<Body> {
        match self.owed.get(id).map(|debt| debt.asked) {
            Some(Asked::List(list, page)) => self.saw(list, page, &answer.body),
            Some(Asked::Initialize) => {
                if let Some(request) = self.initialize.clone() {
                    self.memory.keep(Learned::Initialize { request, answer: answer.body.clone() });
                }
            }
            Some(Asked::Discover) => self.memory.keep(Learned::Discover(answer.body.clone())),
            Some(Asked::Listen | Asked::Other) | None => {}
        }
        self.settle(id, answer)
    }

    /// Settles a debt; the answer without the tools that are not to be seen, if it was owed.
    pub(super) fn settle(&mut self, id: &Id, answer: Message) -> Option<Body> {
        let may_list_tools = match self.forget(id) {
            Some(debt) => debt.list() == Some(List::Tools),
            None => {
                let at = self.cancelled.iter().position(|cancelled| cancelled == id)?;
                self.cancelled.remove(at);
                true
            }
        };
        let hides = may_list_tools && !self.ignored_tools.is_empty();
        Some(if hides { tools::hide(&self.ignored_tools, answer).body } else { answer.body })
    }

    /// The host is shown a page of a list.
    fn saw(&mut self, list: List, page: Page, answer: &Body) {
        let shown = &mut self.shown[list.index()];
        match page {
            Page::First => *shown = Shown::Pages(Vec::new()),
            Page::Later => {}
            Page::Unknown => return,
        }
        let Shown::Pages(pages) = shown else { return };
        pages.push(answer.clone());
        self.memory.keep(Learned::List(list, pages.clone()));
        if pages.len() > MOST_PAGES || pages.iter().map(Body::len).sum::<usize>() > MOST_SHOWN {
            *shown = Shown::TooMuch;
        }
    }

    /// One request with this id is owed no more.
    pub(super) fn forget(&mut self, id: &Id) -> Option<Debt> {
        if self.owed.get(id)?.asked == Asked::Initialize {
            self.note_that_host_has_answer();
        }
        let debt = self.owed.get_mut(id)?;
        debt.count -= 1;
        let debt = *debt;
        if debt.count == 0 {
            self.owed.remove(id);
            if let Some(progress) = &mut self.progress {
                progress.end(id);
            }
            self.listens.end(id);
            self.discovering.take_if(|discovering| *discovering == *id);
        }
        Some(debt)
    }

    /// Settles what is owed under an id with our own error.
    pub(super) fn fail(&mut self, id: &Id, report: &Report) {
        if self.forget(id).is_some() {
            self.write(Body::One(report.answer(id)));
        }
    }

    /// The same of every request in a message.
    pub(super) fn fail_all(&mut self, message: &Message, report: &Report) {
        message.requests().cloned().collect::<Vec<_>>().iter().for_each(|id| self.fail(id, report));
    }
}
