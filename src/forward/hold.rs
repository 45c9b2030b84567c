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

use super::{Reminder, context::Context};
use crate::{
    config::Start,
    description::{Learned, List},
    known_hosts::{self, Evidence, HeldRequest, Hold, HostLimits, HostName, ListHold},
    mcp::method,
    message::{Id, Message},
};

/// How long a server may be slow before the host is answered, with `--start answer`: a start from nothing in a
/// cloud takes some seconds, and hosts give up after 30 to 60 s.
const SLOW_START: Duration = Duration::from_secs(20);
/// From one note that the host still waits to the next, by how much the time grows.
const NEXT_NOTE: f32 = 1.3;
/// Of the hold, before a host that ends without a word counts as one that gave up: its user may have closed it.
const SHARE_FOR_SILENT_END: u32 = 4;
/// A host that waits at least this long is one of those that are known: it ends without a word only for a reason.
const KNOWN_TO_WAIT: Duration = Duration::from_secs(10);
/// No host gives up sooner; from then on it matters what this host was seen to do.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// When the limits of this host are read, which takes a thread and a file: most servers answer sooner, and no limit is as
/// short.
const LIMITS_NEEDED: Duration = Duration::from_millis(100);
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
    limits: KeptLimits,
    note: Note,
    list: FirstList,
}

/// What the store knows of this host's limits.
#[derive(Debug)]
enum KeptLimits {
    NotRead,
    /// Read, or overruled by the user.
    Applied,
}

/// Whether the store has the note that the host waits.
#[derive(Debug)]
enum Note {
    Absent,
    Kept,
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

impl Holding {
    /// Begins with the host's first message, or with its `initialize` after a `server/discover` that came at `since`:
    /// some hosts have one limit for both. `None` if the host is answered by the server alone.
    pub(super) fn begin(first: &Message, since: Option<Duration>, cx: &mut Context) -> Option<Self> {
        let (start, user) = (cx.settings.limits.start, cx.settings.limits.hold);
        let host = HostName::of(first);
        let mut hold = match start {
            Start::Wait => return None,
            Start::Answer => Hold { initialize: Duration::ZERO, slow: SLOW_START, list: ListHold::For(Duration::ZERO) },
            Start::Hold => known_hosts::hold(&host, &cx.settings.host_environment),
        };
        if let Some(user) = user {
            hold.slow = user.max(FIRST_LOOK); // a server that answers at once is not overtaken
            if start == Start::Hold {
                hold.initialize = user;
            }
        }
        let now = cx.now();
        let since = since.unwrap_or(now);
        let left = |time: Duration| (since + time).saturating_sub(now);
        for time in [LIMITS_NEEDED, FIRST_LOOK, hold.initialize, hold.slow].into_iter().filter(|time| !time.is_zero()) {
            cx.remind(left(time), Reminder::Hold);
        }
        if start == Start::Hold {
            cx.remind(left(FIRST_LOOK), Reminder::HostWaits);
        }
        debug!("holding initialize of {} {} for at most {:?}", host.name, host.version, hold.initialize);
        // What the user says is not overruled by what was seen.
        let limits = if user.is_some() || start == Start::Answer { KeptLimits::Applied } else { KeptLimits::NotRead };
        Some(Self { host, hold, since, limits, note: Note::Absent, list: FirstList::Awaited })
    }

    pub(super) fn since(&self) -> Duration {
        self.since
    }

    pub(super) fn host(&self) -> &HostName {
        &self.host
    }

    /// Returns how long a slow server is waited for.
    pub(super) fn slow(&self) -> Duration {
        self.hold.slow
    }

    /// Returns whether it is time to answer `initialize` with a placeholder.
    pub(super) fn time(&self, cx: &Context) -> Time {
        let elapsed = cx.now().saturating_sub(self.since);
        if elapsed >= self.hold.slow {
            Time::InAnyCase
        } else if elapsed >= self.hold.initialize {
            Time::ForReason
        } else {
            Time::Early
        }
    }

    /// Notes that the host still waits for its `initialize`, in case that it ends this process without a word, as
    /// Codex does.
    pub(super) fn note_that_host_waits(&mut self, cx: &mut Context) {
        if cx.settings.limits.start != Start::Hold {
            return;
        }
        let after = cx.now().saturating_sub(self.since);
        if after >= FIRST_LOOK.max(self.hold.slow / SHARE_FOR_SILENT_END) {
            self.note = Note::Kept;
            let evidence = evidence(self.hold.slow);
            cx.descriptions.save(Learned::HostWaits { host: self.host.clone(), after, evidence });
        }
        let next = after.max(FIRST_LOOK).mul_f32(NEXT_NOTE);
        if next < self.hold.slow {
            cx.remind(next - after, Reminder::HostWaits);
        }
    }

    /// The host has the answer to its `initialize`, or has given up.
    pub(super) fn note_that_host_has_answer(&mut self, cx: &mut Context) {
        if let Note::Kept = std::mem::replace(&mut self.note, Note::Absent) {
            cx.descriptions.save(Learned::HostHasAnswer { host: self.host.clone() });
        }
    }

    /// Shortens the hold to what this host was seen to wait, as soon as a server is not one of the fast ones.
    pub(super) fn apply_limits_in_time(&mut self, cx: &mut Context) {
        if cx.now().saturating_sub(self.since) >= LIMITS_NEEDED {
            self.apply_limits(cx);
        }
    }

    /// Shortens the hold to what this host was seen to wait.
    pub(super) fn apply_limits(&mut self, cx: &mut Context) {
        let KeptLimits::NotRead = std::mem::replace(&mut self.limits, KeptLimits::Applied) else { return };
        let HostLimits { initialize, list } = cx.descriptions.host_limits(&self.host);
        if let Some(limit) = initialize {
            let below = limit.mul_f32(SHARE_OF_LIMIT);
            self.hold.initialize = self.hold.initialize.min(below);
            self.hold.slow = self.hold.slow.min(below);
            let left = (self.since + below).saturating_sub(cx.now());
            info!(
                "{} gave up on initialize after {:.1} s in an earlier run; answering it within {:.1} s",
                self.host.name,
                limit.as_secs_f32(),
                below.as_secs_f32()
            );
            cx.remind(left, Reminder::Hold);
        }
        if let Some(limit) = list {
            let below = limit.mul_f32(SHARE_OF_LIMIT);
            self.hold.list = match self.hold.list {
                ListHold::For(hold) => ListHold::For(hold.min(below)),
                ListHold::Within(hold) => ListHold::Within(hold.min(below)),
            };
        }
    }

    /// An ended process has opened a browser tab: the person is signing in, so this start is worth a longer hold.
    pub(super) fn extend_for_open_tab(&mut self, cx: &Context) {
        if cx.settings.limits.start == Start::Hold {
            self.hold.initialize = self.hold.slow;
        }
    }

    /// Holds the first `tools/list`, if it is that and is worth it; returns the number and the time of its reminder.
    pub(super) fn hold_list(
        &mut self,
        id: &Id,
        list: List,
        is_known: bool,
        cx: &mut Context,
    ) -> Option<(u64, Duration)> {
        let is_later_page = cx.host.asked(id).is_some_and(|asked| asked.is_later_page());
        if list != List::Tools || is_later_page || is_known {
            return None;
        }
        self.apply_limits(cx);
        if !matches!(self.list, FirstList::Awaited) {
            return None;
        }
        let since = cx.now();
        let left = self.hold.list.left(since.saturating_sub(self.since));
        if left.is_zero() {
            self.list = FirstList::Answered;
            return None;
        }
        let serial = cx.next_serial();
        self.list = FirstList::Held { id: id.clone(), since, serial };
        Some((serial, left))
    }

    /// The same for a list that waits at the server for authorization; returns whether it is held.
    pub(super) fn hold_list_in_flight(&mut self, id: &Id, list: List, is_known: bool, cx: &mut Context) -> bool {
        if matches!(&self.list, FirstList::Held { id: held, .. } if held == id) {
            return true;
        }
        let held = self.hold_list(id, list, is_known, cx);
        if let Some((serial, left)) = held {
            cx.remind(left.min(LONGEST_LIST_IN_FLIGHT), Reminder::List(serial));
        }
        held.is_some()
    }

    /// The time of the list's reminder has come; returns the id, if it is held.
    #[must_use]
    pub(super) fn end_list(&mut self, serial: u64) -> Option<Id> {
        match &self.list {
            FirstList::Held { id, serial: held, .. } if *held == serial => {
                let id = id.clone();
                self.list = FirstList::Answered;
                Some(id)
            }
            _ => None,
        }
    }

    /// The first list was answered.
    pub(super) fn list_was_answered(&mut self) {
        self.list = FirstList::Answered;
    }

    /// The host gave up on its `initialize`: it `cancelled` the request, or ended without a word.
    pub(super) fn on_initialize_given_up(&mut self, cancelled: Option<&Id>, cx: &mut Context) {
        self.on_given_up(HeldRequest::Initialize, self.since, self.hold.slow, cancelled, cx);
    }

    /// The same of its first `tools/list`, if that is held and is the one that the host cancelled, if any.
    pub(super) fn on_list_given_up(&mut self, cancelled: Option<&Id>, cx: &mut Context) {
        if let FirstList::Held { id, since, .. } = &self.list
            && cancelled.is_none_or(|cancelled| cancelled == id)
        {
            let hold = self.hold.list.left(since.saturating_sub(self.since));
            self.on_given_up(HeldRequest::ToolsList, *since, hold, cancelled, cx);
        }
    }

    fn on_given_up(
        &mut self,
        request: HeldRequest,
        since: Duration,
        hold: Duration,
        cancelled: Option<&Id>,
        cx: &mut Context,
    ) {
        let after = cx.now().saturating_sub(since);
        // A host that ends early was perhaps closed by its user.
        let (enough, evidence) = match cancelled {
            Some(_) => (FIRST_LOOK, Evidence::Certain),
            None => (FIRST_LOOK.max(hold / SHARE_FOR_SILENT_END), evidence(hold)),
        };
        if after < enough || cx.settings.limits.start != Start::Hold {
            return self.note_that_host_has_answer(cx);
        }
        let method = match request {
            HeldRequest::Initialize => method::INITIALIZE,
            HeldRequest::ToolsList => method::TOOLS_LIST,
        };
        info!("{} gave up on {method} after {:.1} s", self.host.name, after.as_secs_f32());
        cx.descriptions.save(Learned::HostLimit { host: self.host.clone(), request, after, evidence });
    }
}

/// What the silent end of a host says that is held for so long: behind generic names there are scripts, which their
/// users end as they like.
fn evidence(hold: Duration) -> Evidence {
    if hold >= KNOWN_TO_WAIT { Evidence::Certain } else { Evidence::Suspicion }
}
