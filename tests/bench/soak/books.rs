//! The books of the whole run: every call, every answer, every notification.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::workload::{Call, Line};

/// The codes of the errors by which the adapter answers a call whose connection broke.
const BROKEN: [&str; 2] = ["connection_broken", "no_answer"];
/// What is kept of violations; a run with more is as wrong as one with so many.
const MOST_VIOLATIONS: usize = 100;
const BEGINNING: usize = 200;

#[derive(Default)]
pub(crate) struct Books {
    first_id: u32,
    calls: Vec<Entry>,
    pub(crate) in_flight: usize,
    pub(crate) most_in_flight: usize,
    pub(crate) results: u64,
    /// Calls that were answered with an error because a fault had dropped their connection.
    pub(crate) cut: u64,
    /// The same by code.
    pub(crate) codes: BTreeMap<String, u64>,
    pub(crate) slowest: Duration,
    pub(crate) notifications: u32,
    /// The number of the next notification.
    pub(crate) next_notification: u32,
    /// Messages of the server that are neither.
    pub(crate) others: u64,
    pub(crate) unknown_answers: u64,
    pub(crate) answered_twice: u64,
    pub(crate) wrong_answers: u64,
    pub(crate) out_of_order: u64,
    pub(crate) violations: Vec<String>,
}

enum Entry {
    /// Since when, and how often connections had been dropped by then.
    Waiting {
        call: Call,
        since: Instant,
        drops: u32,
    },
    Result,
    Error,
}

impl Books {
    pub(crate) fn new(first_id: u32) -> Self {
        Self { first_id, ..Self::default() }
    }

    /// Appends the line of a new call.
    pub(crate) fn issue(&mut self, call: Call, drops: u32, out: &mut Vec<u8>) {
        call.write_request(self.next_id(), out);
        out.push(b'\n');
        self.calls.push(Entry::Waiting { call, since: Instant::now(), drops });
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.first_id + self.issued()
    }

    pub(crate) fn issued(&self) -> u32 {
        u32::try_from(self.calls.len()).unwrap_or(u32::MAX)
    }

    /// Enters a line of the adapter. `drops` is how often connections have been dropped by now.
    pub(crate) fn receive(&mut self, line: &[u8], drops: u32) {
        match Line::read(line) {
            Line::Answer { id } => self.receive_answer(id, line, drops),
            Line::Notification { number } => {
                if number != self.next_notification {
                    self.out_of_order += 1;
                    self.violate(format!("notification {number} in place of {}", self.next_notification));
                }
                self.notifications += 1;
                self.next_notification = number + 1;
            }
            Line::Other => self.others += 1,
            Line::NotJson => self.violate(format!("not a message: {}", beginning(line))),
        }
    }

    fn receive_answer(&mut self, id: u32, line: &[u8], drops: u32) {
        let place = id.checked_sub(self.first_id).and_then(|place| usize::try_from(place).ok());
        let Some(entry) = place.and_then(|place| self.calls.get_mut(place)) else {
            self.unknown_answers += 1;
            return self.violate(format!("an answer to no call: {}", beginning(line)));
        };
        let Entry::Waiting { call, since, drops: before } = *entry else {
            self.answered_twice += 1;
            return self.violate(format!("answered twice: {}", beginning(line)));
        };
        self.in_flight -= 1;
        self.slowest = self.slowest.max(since.elapsed());
        if call.is_answered_by(id, line) {
            *entry = Entry::Result;
            self.results += 1;
            return;
        }
        *entry = Entry::Error;
        let answer: Value = serde_json::from_slice(line).unwrap_or_default();
        let code = answer["error"]["data"]["code"].as_str().unwrap_or_default();
        if before < drops && BROKEN.contains(&code) {
            self.cut += 1;
            *self.codes.entry(code.to_owned()).or_default() += 1;
        } else {
            self.wrong_answers += 1;
            self.violate(format!("not the answer to {}: {}", call.tool(), beginning(line)));
        }
    }

    /// Returns the IDs of the calls that no answer has come for.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = u32> {
        self.ids(|entry| matches!(entry, Entry::Waiting { .. }))
    }

    /// Returns the IDs of the calls that were answered with a result.
    pub(crate) fn with_result(&self) -> impl Iterator<Item = u32> {
        self.ids(|entry| matches!(entry, Entry::Result))
    }

    fn ids(&self, is_wanted: impl Fn(&Entry) -> bool) -> impl Iterator<Item = u32> {
        let entries = (self.first_id..).zip(&self.calls);
        entries.filter(move |(_, entry)| is_wanted(entry)).map(|(id, _)| id)
    }

    pub(crate) fn violate(&mut self, violation: String) {
        if self.violations.len() < MOST_VIOLATIONS {
            crate::log(&format!("violation: {violation}"));
            self.violations.push(violation);
        }
    }
}

fn beginning(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(BEGINNING)]).into_owned()
}
