//! The books of one load: every call is entered when it goes out, every answer is checked and struck off once.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::workload::{Line, Load};

pub(crate) struct Ledger {
    load: Load,
    first_id: u32,
    calls: Vec<Entry>,
    answered: u32,
    started: Instant,
    ended: Instant,
    notifications: u32,
    in_order: u32,
}

enum Entry {
    Waiting { since: Instant },
    Answered { after: Duration },
}

/// What came of a load.
pub(crate) struct Tally {
    pub(crate) calls: u32,
    pub(crate) elapsed: Duration,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) notifications_in_order: u32,
}

impl Ledger {
    pub(crate) fn new(load: Load, first_id: u32) -> Self {
        let now = Instant::now();
        Self { load, first_id, calls: Vec::new(), answered: 0, started: now, ended: now, notifications: 0, in_order: 0 }
    }

    /// The clock runs from here; calls that were prepared before count from here too.
    pub(crate) fn start(&mut self) {
        self.started = Instant::now();
        for entry in &mut self.calls {
            *entry = Entry::Waiting { since: self.started };
        }
    }

    /// Appends the next call, if there is one, and says whether there was.
    pub(crate) fn issue(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.has_more() {
            return false;
        }
        self.load.call.write_request(self.next_id(), out);
        self.calls.push(Entry::Waiting { since: Instant::now() });
        true
    }

    /// Enters a line from the other end; true when it answered a call.
    pub(crate) fn receive(&mut self, line: &[u8]) -> Outcome<bool> {
        let now = Instant::now();
        match Line::read(line) {
            Line::Answer { id } => {
                let place = id.checked_sub(self.first_id).and_then(|place| usize::try_from(place).ok());
                let Some(entry) = place.and_then(|place| self.calls.get_mut(place)) else {
                    return Err(format!("an answer nobody waits for: {}", beginning(line)).into());
                };
                let Entry::Waiting { since } = *entry else {
                    return Err(format!("answered twice: {}", beginning(line)).into());
                };
                *entry = Entry::Answered { after: now - since };
                self.answered += 1;
                self.ended = now;
                if !self.load.call.is_answered_by(id, line) {
                    return Err(format!("not the answer to {}: {}", self.load.call.tool(), beginning(line)).into());
                }
                Ok(true)
            }
            Line::Notification { number } => {
                self.in_order += u32::from(number == self.notifications);
                self.notifications += 1;
                Ok(false)
            }
            Line::Other => Ok(false),
            Line::NotJson => Err(format!("not a message: {}", beginning(line)).into()),
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.answered == self.issued() && !self.has_more()
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.first_id + self.issued()
    }

    pub(crate) fn close(self) -> Tally {
        let answered = |entry: &Entry| match *entry {
            Entry::Answered { after } => Some(after),
            Entry::Waiting { .. } => None,
        };
        let mut latencies: Vec<_> = self.calls.iter().filter_map(answered).collect();
        latencies.sort_unstable();
        Tally {
            calls: self.answered,
            elapsed: self.ended - self.started,
            latencies,
            notifications_in_order: self.in_order,
        }
    }

    fn issued(&self) -> u32 {
        u32::try_from(self.calls.len()).unwrap_or(u32::MAX)
    }

    fn has_more(&self) -> bool {
        self.issued() < self.load.calls && self.started.elapsed() < self.load.budget
    }
}

impl Tally {
    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.calls) / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` of the calls did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (share * f64::from(self.calls)).ceil().max(1.0);
        let mut seen = 0.0;
        for latency in &self.latencies {
            seen += 1.0;
            if seen >= rank {
                return *latency;
            }
        }
        Duration::ZERO
    }
}

fn beginning(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(160)]).into_owned()
}
