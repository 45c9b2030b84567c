//! What came of the run, and the Markdown it becomes.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use crate::books::Books;
use crate::fault::Fault;
use crate::process;
use crate::state::Counts;
use crate::vitals::{self, Course, Vitals};

pub(crate) struct Report {
    pub(crate) elapsed: Duration,
    pub(crate) processor_time: Option<Duration>,
    /// Megabytes.
    pub(crate) peak: Option<f64>,
    pub(crate) books: Books,
    pub(crate) counts: Counts,
    pub(crate) published: u32,
    /// At the end of each round.
    pub(crate) vitals: Vec<Vitals>,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        let courses = [vitals::memory(&self.vitals), vitals::threads(&self.vitals), vitals::descriptors(&self.vitals)];
        let has_lost = self.lost_calls() > 0 || self.lost_notifications() > 0;
        self.books.violations.is_empty() && !has_lost && courses.iter().flatten().all(|course| course.is_flat)
    }

    fn lost_calls(&self) -> usize {
        self.books.unanswered().count()
    }

    fn lost_notifications(&self) -> u32 {
        self.published.saturating_sub(self.books.notifications)
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { books, counts, .. } = self;
        let calls = u64::from(books.issued());
        let answers = books.results + books.cut;
        let messages = calls + answers + u64::from(books.notifications) + books.others;
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let minutes = self.elapsed.as_secs_f64() / 60.0;
        writeln!(out, "{cores} cores, {}; {minutes:.0} minutes; 1 MB = 1,048,576 bytes\n", process::processor_model())?;
        writeln!(out, "| load | |\n|---|---|")?;
        let most_in_service = u64::try_from(counts.most_in_service).unwrap_or(u64::MAX);
        let most_in_flight = u64::try_from(books.most_in_flight).unwrap_or(u64::MAX);
        let mut row = |what: &str, counts: &[u64]| {
            let counts: Vec<_> = counts.iter().map(|count| with_separators(*count)).collect();
            writeln!(out, "| {what} | {} |", counts.join("; "))
        };
        row("messages", &[messages])?;
        row("calls; most in flight; most in work at the server", &[calls, most_in_flight, most_in_service])?;
        row("notifications, in bursts of 10,000 a second", &[u64::from(books.notifications)])?;
        for fault in Fault::ALL {
            let times = counts.faults.iter().filter(|one| **one == fault).map(|_| 1).sum();
            row(fault.title(), &[times])?;
        }
        row("streams that ended before their answer and were resumed", &[counts.resumed_answers])?;
        row(
            "sessions; GET streams; connections; requests",
            &[counts.sessions, counts.streams, counts.connections, counts.requests],
        )?;
        row("token refreshes", &[counts.refreshes])?;
        row("requests refused for their token; for their session", &[counts.unauthorized, counts.without_session])?;
        if let Some(time) = self.processor_time {
            writeln!(out, "| processor time of the adapter | {:.1} s |", time.as_secs_f64())?;
        }

        writeln!(out, "\n| answers and order | | |\n|---|---|---|")?;
        writeln!(out, "| calls answered with their result | {} | |", with_separators(books.results))?;
        let codes: Vec<_> = books.codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        let codes = if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) };
        writeln!(
            out,
            "| calls on dropped connections, answered with an error | {}{codes} | |",
            with_separators(books.cut)
        )?;
        for (what, count) in [
            ("calls without an answer", self.lost_calls() as u64),
            ("calls answered twice", books.answered_twice),
            ("answers to no call, or wrong", books.unknown_answers + books.wrong_answers),
            ("notifications lost", u64::from(self.lost_notifications())),
            ("notifications out of order or twice", books.out_of_order),
        ] {
            writeln!(out, "| {what} | {count} | {} |", mark(count == 0))?;
        }
        writeln!(out, "| slowest call | {:.1} s | |", books.slowest.as_secs_f64())?;
        writeln!(out, "| session DELETEd at the end | {} | |", if counts.deletes > 0 { "yes" } else { "no" })?;

        match [vitals::memory(&self.vitals), vitals::threads(&self.vitals), vitals::descriptors(&self.vitals)] {
            [Some(memory), Some(threads), Some(descriptors)] => {
                writeln!(out, "\n| idle, after the warm-up | first quarter | last quarter | most | flat |")?;
                writeln!(out, "|---|---|---|---|---|")?;
                write_course(out, "memory", &memory, |value| format!("{value:.1} MB"))?;
                write_course(out, "threads", &threads, |value| format!("{value:.0}"))?;
                write_course(out, "descriptors", &descriptors, |value| format!("{value:.0}"))?;
            }
            _ => writeln!(out, "\nThe run was too short to show whether memory stays flat: that takes 6 minutes.")?,
        }
        if let Some(peak) = self.peak {
            writeln!(out, "\nPeak memory under load: {peak:.1} MB.")?;
        }
        if !books.violations.is_empty() {
            writeln!(out, "\nViolations:\n")?;
            books.violations.iter().try_for_each(|violation| writeln!(out, "- {violation}"))?;
        }
        Ok(())
    }
}

fn write_course(out: &mut String, what: &str, course: &Course, format: impl Fn(f64) -> String) -> std::fmt::Result {
    let [first, last, most] = [course.first, course.last, course.most].map(format);
    writeln!(out, "| {what} | {first} | {last} | {most} | {} |", mark(course.is_flat))
}

fn mark(holds: bool) -> &'static str {
    if holds { "✓" } else { "✗" }
}

fn with_separators(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
