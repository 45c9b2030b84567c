//! Holding the host's first requests for as long as the host waits, while a server that was never seen before
//! cannot answer them.
//!
//! # Invariants
//!
//! - A hold ends with the server's answer, with the time of [`known_hosts`], with the host's cancellation, or with
//!   the end of input.
//! - A host that gave up on a held request is held for a shorter time the next time.

use std::time::Duration;

use log::{debug, info};

use super::{Action, Beginning, Forward, Link, Reminder};
use crate::{
    config::Start,
    description::{Evidence, HeldRequest, HostLimits, Learned, List},
    known_hosts::{self, Hold, HostName},
    message::{Id, Message},
};

/// How long a server may be slow before the host is answered, with `--start answer`: a start from nothing in a
/// cloud takes some seconds, and hosts give up after 30 to 60 s.
const SLOW: Duration = Duration::from_secs(20);
/// From one note that the host still waits to the next, by how much the time grows.
const NEXT_NOTE: f32 = 1.3;
/// Of the hold, before a host that ends without a word counts as one that gave up: its user may have closed it.
const SHARE_FOR_SILENT_END: u32 = 4;
/// A host that waits at least this long is one of those that are known: it ends without a word only for a reason.
const KNOWN_TO_WAIT: Duration = Duration::from_secs(10);
/// No host gives up sooner; from then on it matters what this host was seen to do.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How much of the time that a host was seen to wait is used the next time.
const SHARE_OF_LIMIT: f32 = 0.8;
/// The most that a `tools/list` is held that is waiting for authorization at the server: it gives up after 45 s,
/// with an error.
const LONGEST_LIST_IN_FLIGHT: Duration = Duration::from_secs(40);

/// The host's patience, and what of it is used.
#[derive(Debug)]
pub(super) struct Holding {
    host: HostName,
    hold: Hold,
    /// When `initialize` came, by the loop's clock.
    since: Duration,
    /// Whether the store was asked for what this host was seen to do.
    looked: bool,
    /// Whether the store holds that the host waits.
    noted: bool,
    list: FirstList,
}

/// The first `tools/list` of the host.
#[derive(Debug)]
enum FirstList {
    /// It has not come.
    Awaited,
    /// It is held since then, and answered at the reminder with this number.
    Held { id: Id, since: Duration, serial: u64 },
    /// It was answered.
    Answered,
}

impl Holding {
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    pub(super) fn host(&self) -> &HostName {
        &self.host
    }
}

/// Whether it is time for a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Not yet.
    Early,
    /// If there is a reason.
    ForReason,
    /// In any case.
    InAnyCase,
}

impl Forward {
    /// The host's first message has come, or its `initialize` after a `server/discover` that came at `since`: some hosts
    /// have one limit for both.
    pub(super) fn begin_hold(&mut self, first: &Message, since: Option<Duration>) {
        let host = HostName::of(first);
        let mut hold = match self.start {
            Start::Wait => return,
            Start::Answer => {
                Hold { initialize: Duration::ZERO, slow: SLOW, list: known_hosts::List::For(Duration::ZERO) }
            }
            Start::Hold => known_hosts::hold(&host, &self.host_environment),
        };
        if let Some(user) = self.hold {
            hold.slow = user.max(FIRST_LOOK); // a server that answers at once is not overtaken
            if self.start == Start::Hold {
                hold.initialize = user;
            }
        }
        let now = self.clock.now();
        let since = since.unwrap_or(now);
        let left = |time: Duration| (since + time).saturating_sub(now);
        let times = [FIRST_LOOK, hold.initialize, hold.slow].into_iter().filter(|time| !time.is_zero());
        self.actions.extend(times.map(|time| Action::Remind(left(time), Reminder::Hold)));
        if self.start == Start::Hold {
            self.actions.push_back(Action::Remind(left(FIRST_LOOK), Reminder::HostWaits));
        }
        debug!("{} {} is held for {:?} at most", host.name, host.version, hold.initialize);
        // What the user says is not overruled by what was seen.
        let looked = self.hold.is_some() || self.start == Start::Answer;
        self.holding = Some(Holding { host, hold, since, looked, noted: false, list: FirstList::Awaited });
    }

    /// Whether it is time to answer `initialize` with a placeholder.
    pub(super) fn time_of_hold(&self) -> Time {
        let Some(holding) = &self.holding else { return Time::Early };
        let elapsed = self.clock.now().saturating_sub(holding.since);
        if elapsed >= holding.hold.slow {
            Time::InAnyCase
        } else if elapsed >= holding.hold.initialize {
            Time::ForReason
        } else {
            Time::Early
        }
    }

    /// Notes that the host still waits for its `initialize`, in case that it ends this process without a word, as
    /// Codex does.
    pub(super) fn note_that_host_waits(&mut self) {
        if self.start != Start::Hold || !self.may_be_introduced() {
            return;
        }
        let Some(holding) = &mut self.holding else { return };
        let after = self.clock.now().saturating_sub(holding.since);
        if after >= FIRST_LOOK.max(holding.hold.slow / SHARE_FOR_SILENT_END) {
            holding.noted = true;
            let evidence = evidence(holding.hold.slow);
            self.memory.keep(Learned::HostWaits { host: holding.host.clone(), after, evidence });
        }
        let next = after.max(FIRST_LOOK).mul_f32(NEXT_NOTE);
        if next < holding.hold.slow {
            self.actions.push_back(Action::Remind(next - after, Reminder::HostWaits));
        }
    }

    /// The host has the answer to its `initialize`, or has given up.
    pub(super) fn note_that_host_has_answer(&mut self) {
        if let Some(holding) = self.holding.as_mut().filter(|holding| holding.noted) {
            holding.noted = false;
            self.memory.keep(Learned::HostHasAnswer { host: holding.host.clone() });
        }
    }

    /// How long a slow server was waited for.
    pub(super) fn held_for(&self) -> Duration {
        self.holding.as_ref().map(|holding| holding.hold.slow).unwrap_or_default()
    }

    /// Shortens the hold to what this host was seen to wait.
    pub(super) fn look_at_limits(&mut self) {
        let Some(holding) = self.holding.as_mut().filter(|holding| !holding.looked) else { return };
        holding.looked = true;
        let HostLimits { initialize, list } = self.memory.host_limits(&holding.host);
        if let Some(limit) = initialize {
            let below = limit.mul_f32(SHARE_OF_LIMIT);
            holding.hold.initialize = holding.hold.initialize.min(below);
            holding.hold.slow = holding.hold.slow.min(below);
            let left = (holding.since + below).saturating_sub(self.clock.now());
            info!(
                "{} gave up after {:.1} s before; holding its initialize for less",
                holding.host.name,
                limit.as_secs_f32()
            );
            self.actions.push_back(Action::Remind(left, Reminder::Hold));
        }
        if let Some(limit) = list {
            let below = limit.mul_f32(SHARE_OF_LIMIT);
            holding.hold.list = match holding.hold.list {
                known_hosts::List::For(hold) => known_hosts::List::For(hold.min(below)),
                known_hosts::List::Within(hold) => known_hosts::List::Within(hold.min(below)),
            };
        }
    }

    /// An ended process has opened a browser tab: the person is signing in, so this start is worth a longer hold.
    pub(super) fn hold_for_open_tab(&mut self) {
        if self.start == Start::Hold
            && let Some(holding) = &mut self.holding
        {
            holding.hold.initialize = holding.hold.slow;
        }
    }

    /// Whether the answer to this list is held, while the connection is established behind a placeholder.
    pub(super) fn holds_list(&mut self, id: &Id, list: List, later_page: bool) -> Option<(u64, Duration)> {
        let knows = self.stand_in.as_ref().is_some_and(|stand_in| stand_in.knows(List::Tools));
        if list != List::Tools || later_page || knows {
            return None;
        }
        self.look_at_limits();
        let holding = self.holding.as_mut()?;
        if !matches!(holding.list, FirstList::Awaited) {
            return None;
        }
        let since = self.clock.now();
        let left = holding.hold.list.left(since.saturating_sub(holding.since));
        if left.is_zero() {
            holding.list = FirstList::Answered;
            return None;
        }
        self.serial += 1;
        holding.list = FirstList::Held { id: id.clone(), since, serial: self.serial };
        Some((self.serial, left))
    }

    /// The same for a list that waits at the server for authorization; the reminder follows by itself.
    pub(super) fn holds_list_in_flight(&mut self, id: &Id, list: List, later_page: bool) -> bool {
        if let Some(FirstList::Held { id: held, .. }) = self.holding.as_ref().map(|holding| &holding.list)
            && held == id
        {
            return true;
        }
        let held = self.holds_list(id, list, later_page);
        let remind =
            |(serial, left): (u64, Duration)| Action::Remind(left.min(LONGEST_LIST_IN_FLIGHT), Reminder::List(serial));
        self.actions.extend(held.map(remind));
        held.is_some()
    }

    /// The hold of a list in flight is over: the id, if it was held.
    pub(super) fn list_hold_is_over(&mut self, serial: u64) -> Option<Id> {
        let holding = self.holding.as_mut()?;
        match &holding.list {
            FirstList::Held { id, serial: held, .. } if *held == serial => {
                let id = id.clone();
                holding.list = FirstList::Answered;
                Some(id)
            }
            _ => None,
        }
    }

    /// The first list was answered.
    pub(super) fn list_was_answered(&mut self) {
        if let Some(holding) = &mut self.holding {
            holding.list = FirstList::Answered;
        }
    }

    /// The host gave up on a held request: it said so, or `ended` without a word.
    pub(super) fn note_given_up(&mut self, cancelled: Option<&Id>) {
        let waits_for_initialize = self.may_be_introduced();
        let Some(holding) = &self.holding else { return };
        let now = self.clock.now();
        let (request, after, hold) = match (&holding.list, &self.link) {
            (FirstList::Held { id, since, .. }, _) if cancelled.is_none_or(|cancelled| cancelled == id) => {
                let hold = holding.hold.list.left(since.saturating_sub(holding.since));
                (HeldRequest::ToolsList, now.saturating_sub(*since), hold)
            }
            (_, Link::Opening(opening))
                if waits_for_initialize && cancelled.is_none_or(|cancelled| opening.first.contains(cancelled)) =>
            {
                (HeldRequest::Initialize, now.saturating_sub(holding.since), holding.hold.slow)
            }
            _ => return,
        };
        // A host that ends early was perhaps closed by its user.
        let enough = if cancelled.is_some() { FIRST_LOOK } else { FIRST_LOOK.max(hold / SHARE_FOR_SILENT_END) };
        if after < enough || self.start != Start::Hold {
            return self.note_that_host_has_answer();
        }
        info!("{} gave up on {request:?} after {:.1} s", holding.host.name, after.as_secs_f32());
        let evidence = if cancelled.is_some() { Evidence::Certain } else { evidence(hold) };
        self.memory.keep(Learned::HostLimit { host: holding.host.clone(), request, after, evidence });
    }

    /// Whether the host waits for the answer to its `initialize`, and may have ours.
    pub(super) fn may_be_introduced(&self) -> bool {
        let Link::Opening(opening) = &self.link else { return false };
        self.start != Start::Wait && matches!(opening.beginning, Beginning::Initialize(_))
    }
}

/// What the silent end of a host says that is held for so long: behind generic names there are scripts, which their
/// users end as they like.
fn evidence(hold: Duration) -> Evidence {
    if hold >= KNOWN_TO_WAIT { Evidence::Certain } else { Evidence::Suspicion }
}
