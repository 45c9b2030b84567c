//! Reports of failures: one sentence (what failed, on which thing, the cause), one tip, one code. A report reads the same
//! on stderr, in the JSON-RPC error's `message`, on the page in the browser and in `mcp-remote-client`. The [`catalogue`]
//! has the codes and tips; `remote/report.rs` and `oauth/report.rs` make the sentences.
//!
//! # Invariants
//!
//! - A sentence names what failed, where, and the cause, and never ends in text to copy.
//! - A tip is in the imperative and has the text to type.

pub(crate) mod catalogue;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;
use log::Level;
use serde::Serialize;

pub use self::catalogue::Code;
use crate::{logging, message::Id, sync::LockExt};

/// The code of every JSON-RPC error that is this program's own. Outside the ranges that JSON-RPC 2.0
/// §5.1 (-32768 to -32000) and MCP 2026-07-28 (-32020 to -32099) keep for themselves, so that nobody
/// takes it for the server's.
pub(crate) const OWN_ERROR: i32 = -31000;
/// JSON-RPC 2.0 §5.1: the line is not JSON.
pub(crate) const PARSE_ERROR: i32 = -32700;
/// JSON-RPC 2.0 §5.1: the JSON is not JSON-RPC.
pub(crate) const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC 2.0 §5.1: there is no such method.
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC 2.0 §5.1: the method does not take these.
pub(crate) const INVALID_PARAMS: i32 = -32602;
/// JSON-RPC 2.0 §5.1, and what npm's mcp-remote answers to a call of an ignored tool.
pub(crate) const INTERNAL_ERROR: i32 = -32603;

/// Begins the `message` of every error that is this program's own.
const NAME_FIRST: &str = "mcp-remote: ";

/// A failure, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Its name in the [`catalogue`].
    pub code: Code,
    /// What and why, without the program's name.
    pub sentence: String,
    /// One thing to do.
    pub hint: Option<String>,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
}

/// The member `data` of our errors.
#[derive(Serialize)]
struct Data<'a> {
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

impl Report {
    /// A failure of the catalogue. What to do is what stands there, unless `hint` says it more exactly.
    pub(crate) fn new(code: Code, sentence: impl Into<String>, hint: Option<&str>) -> Self {
        let entry = code.entry();
        debug_assert!(hint.is_none_or(|hint| catalogue::is_ours(entry, hint)), "{hint:?} is not in the catalogue");
        let hint = hint.or(entry.action).map(ToOwned::to_owned);
        let sentence = without_end(sentence.into());
        debug_assert!(code == Code::BadArguments || !ends_in_url(&sentence), "{sentence:?} ends in a URL");
        Self { code, sentence, hint, status: None }
    }

    /// Returns whether the tip says more than the code's own.
    pub(crate) fn is_exact(&self) -> bool {
        self.hint.is_some() && self.hint.as_deref() != self.code.entry().action
    }

    /// Returns the failure as the answer to a request.
    pub(crate) fn answer(&self, id: &Id) -> Bytes {
        let data = Data { code: self.code, hint: self.hint.as_deref(), status: self.status };
        error_line(id, OWN_ERROR, &self.message(), Some(&data))
    }

    /// Returns the `message` of a JSON-RPC error: the whole [`line`](Self::line), because hosts show nothing else.
    /// `data` is for programs.
    pub(crate) fn message(&self) -> String {
        format!("{NAME_FIRST}{}", self.line())
    }

    /// Returns the failure as one line for people.
    pub(crate) fn line(&self) -> String {
        line(&self.sentence, self.code, self.hint.as_deref())
    }
}

/// Returns the one form in which a failure is printed on one line. The tip has no full stop, because it often ends in text
/// to copy: a command, a URL.
pub(crate) fn line(sentence: &str, code: Code, hint: Option<&str>) -> String {
    let stop = if sentence.ends_with('?') { "" } else { "." };
    format!("{sentence}{stop}{}", end_of_line(code, hint))
}

/// Returns what follows the sentence: the tip, and where the failure is explained.
fn end_of_line(code: Code, hint: Option<&str>) -> String {
    let tip = hint.map_or_else(String::new, |hint| format!(" Tip: {hint}"));
    format!("{tip} [Details: mcp-remote explain {code}]")
}

/// Returns a sentence that ends where a full stop can follow: no punctuation of a server or an operating system stands
/// there.
fn without_end(mut sentence: String) -> String {
    let kept = sentence.trim_end_matches(['.', ':', ';', ',', ' ']).len();
    sentence.truncate(kept);
    sentence
}

/// Returns whether a sentence ends in text to copy, which a full stop behind it would spoil.
fn ends_in_url(sentence: &str) -> bool {
    sentence.rsplit(' ').next().is_some_and(|word| word.contains("://") && !word.ends_with([')', '"', '\'']))
}

/// Returns the sentence in the `message` of an error with this code and hint in its `data`: the inverse of
/// [`Report::answer`].
pub(crate) fn sentence<'a>(message: &'a str, code: Code, hint: Option<&str>) -> &'a str {
    let message = message.strip_prefix(NAME_FIRST).unwrap_or(message);
    match message.strip_suffix(&end_of_line(code, hint)) {
        Some(sentence) => sentence.strip_suffix('.').unwrap_or(sentence),
        None => message,
    }
}

/// Returns the sentence if `message` is the whole [`Report::message`] of this entry, with the entry's own tip.
pub(crate) fn sentence_of<'a>(message: &'a str, entry: &catalogue::Entry) -> Option<&'a str> {
    let sentence = message.strip_prefix(NAME_FIRST)?.strip_suffix(&end_of_line(entry.code, entry.action))?;
    Some(sentence.strip_suffix('.').unwrap_or(sentence))
}

/// Logs a failure that is no answer to anything, in the words of the catalogue; the same one once in the
/// life of the process, because a damaged file is read again and again. Its repetitions are counted, and the count is
/// logged each time that it has grown tenfold.
pub(crate) fn warn(code: Code, sentence: impl Into<String>) -> Report {
    let report = Report::new(code, sentence, None);
    warn_of(&report);
    report
}

/// The same for a report with a tip of its own.
pub(crate) fn warn_of(report: &Report) {
    static TOLD: Mutex<BTreeMap<Code, BTreeMap<String, u32>>> = Mutex::new(BTreeMap::new());
    let line = report.line();
    let target = logging::of_report(report.code.as_str());
    match count(TOLD.guard().entry(report.code).or_default(), &line) {
        1 => log::warn!(target: &target, "{line}"),
        times if times == 10_u32.pow(times.ilog10()) => {
            log::info!(target: &target, "{} ({times} times since the start)", report.sentence);
        }
        _ => {}
    }
}

/// Returns how often a line was to be logged, this time included. As many lines are known of a code as the log takes in a
/// minute; the log counts those beyond, which a server has made up.
fn count(told: &mut BTreeMap<String, u32>, line: &str) -> u32 {
    if let Some(times) = told.get_mut(line) {
        *times = times.saturating_add(1);
        return *times;
    }
    if told.len() < logging::MOST_ALIKE {
        told.insert(line.to_owned(), 1);
    }
    1
}

/// The log of what is tried again and again, such as opening a connection. The lines count as those of the loop,
/// which owns this.
///
/// # Invariants
///
/// - `FailureLog` logs a report whole when it is met first, at once.
/// - `FailureLog` logs other failures with their count, each time that the count has doubled, so that a server that is
///   down overnight does not fill the log.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    /// What was logged since the last success.
    known: BTreeSet<String>,
    /// Failures since the last success.
    failures: u32,
}

/// A failure that is to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How many there were since the last success, with this one.
    pub(crate) count: u32,
    /// It is the first of its kind.
    pub(crate) is_new: bool,
}

impl FailureLog {
    /// Different failures that are logged whole: a server may put an ID into the words of each answer.
    const MOST_KNOWN: usize = 8;

    /// Logs a failed attempt after which a message of the host, or a minute, brings the next one.
    pub(crate) fn log(&mut self, report: &Report) {
        self.log_with(report, |count| if count == 1 { String::new() } else { format!(" (attempt {count})") });
    }

    /// Logs a failed attempt that is repeated after `pause`.
    pub(crate) fn log_retry(&mut self, report: &Report, pause: Duration) {
        self.log_with(report, |count| retrying(count, Some(pause)));
    }

    /// The attempt succeeded.
    pub(crate) fn clear(&mut self) {
        if self.failures > 0 {
            *self = Self::default();
        }
    }

    /// Counts a failure, and returns it if it is to be logged.
    pub(crate) fn note(&mut self, line: &str) -> Option<Failure> {
        self.failures = self.failures.saturating_add(1);
        let is_new = self.known.len() < Self::MOST_KNOWN && self.known.insert(line.to_owned());
        (is_new || self.failures.is_power_of_two()).then_some(Failure { count: self.failures, is_new })
    }

    fn log_with(&mut self, report: &Report, what_follows: impl Fn(u32) -> String) {
        let Some((level, line)) = self.line(report, what_follows) else { return };
        log::log!(target: logging::LOOP, level, "{line}");
    }

    fn line(&mut self, report: &Report, what_follows: impl Fn(u32) -> String) -> Option<(Level, String)> {
        let Failure { count, is_new } = self.note(&report.line())?;
        let sentence = report.sentence.clone() + &what_follows(count);
        Some(if is_new {
            (Level::Warn, Report { sentence, ..report.clone() }.line())
        } else {
            (Level::Info, sentence) // the tip is further up
        })
    }
}

/// Returns what follows the sentence of a failure after which something is tried again.
pub(crate) fn retrying(count: u32, pause: Option<Duration>) -> String {
    let pause = pause.map(|pause| format!(" in {:.1} s", pause.as_secs_f32())).unwrap_or_default();
    format!("; retrying ({count}){pause}")
}

/// An error answer, with the id as it came.
pub(crate) fn error_line(id: &Id, code: i32, message: &str, data: Option<&impl Serialize>) -> Bytes {
    let text = |value: Result<String, serde_json::Error>| value.unwrap_or_else(|_| "null".to_owned());
    let mut line = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}"#,
        text(serde_json::to_string(message))
    );
    if let Some(data) = data {
        _ = write!(line, r#","data":{}"#, text(serde_json::to_string(data)));
    }
    line.push_str("}}");
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_message_carries_code_and_tip() {
        let report = Report::new(Code::TooManyRequests, "a:1: \"busy\"", None);
        assert_eq!(
            report.answer(&Id::from_json(b"1e2")),
            r#"{"jsonrpc":"2.0","id":1e2,"error":{"code":-31000,"message":"mcp-remote: a:1: \"busy\". Tip: wait, then try again [Details: mcp-remote explain too_many_requests]","data":{"code":"too_many_requests","hint":"wait, then try again"}}}"#
        );
    }

    #[test]
    fn sentence_inverts_message() {
        for (message, code, hint) in [
            ("mcp-remote: a:1: no [x]. Tip: wait [Details: mcp-remote explain refused]", Code::Refused, Some("wait")),
            ("mcp-remote: a:1: no [x]. [Details: mcp-remote explain refused]", Code::Refused, None),
            ("a:1: no [x]", Code::Refused, Some("wait")),
        ] {
            assert_eq!(sentence(message, code, hint), "a:1: no [x]");
        }
        assert_eq!(
            sentence("no. Tip: wait [Details: mcp-remote explain refused]", Code::Refused, Some("other")),
            "no. Tip: wait [Details: mcp-remote explain refused]",
            "the tip differs"
        );
    }

    #[test]
    fn sentence_takes_a_full_stop() {
        let question = Report::new(Code::BadArguments, "did you mean --header?", None);
        assert_eq!(question.line(), "did you mean --header? [Details: mcp-remote explain bad_arguments]");
        assert_eq!(sentence(&question.message(), question.code, None), question.sentence);
        for (said, kept) in [
            ("it said \"no.\"", "it said \"no.\""),
            ("the file is gone.", "the file is gone"),
            ("see a.example: ", "see a.example"),
        ] {
            assert_eq!(Report::new(Code::Refused, said, None).sentence, kept);
        }
        for (sentence, ends) in [
            ("open https://a.example", true),
            ("https://a.example is down", false),
            ("no (see https://a.example)", false),
        ] {
            assert_eq!(ends_in_url(sentence), ends, "{sentence}");
        }
    }

    #[test]
    fn repeated_report_is_counted_within_memory() {
        let mut told = BTreeMap::new();
        let counts: Vec<_> = ["a", "b", "a", "a"].iter().map(|line| count(&mut told, line)).collect();
        assert_eq!(counts, [1, 1, 2, 3]);
        let made_up = (0..10_000).filter(|number: &u32| count(&mut told, &number.to_string()) == 1).count();
        assert_eq!((made_up, told.len()), (10_000, logging::MOST_ALIKE), "what is too much is the log's to count");
    }

    #[test]
    fn repeated_failure_is_counted() {
        let (down, busy) =
            (Report::new(Code::CannotConnect, "a:1: no", None), Report::new(Code::ServerFailed, "a:1: 503", None));
        let mut failures = FailureLog::default();
        let pause = Duration::from_millis(1250);
        let lines = |failures: &mut FailureLog, report, times| {
            (0..times).filter_map(|_| failures.line(report, |count| retrying(count, Some(pause)))).collect::<Vec<_>>()
        };
        let whole = |report: &Report, count| {
            let sentence = format!("{}; retrying ({count}) in 1.2 s", report.sentence);
            (Level::Warn, Report { sentence, ..report.clone() }.line())
        };
        let short = |sentence: &str, count| (Level::Info, format!("{sentence}; retrying ({count}) in 1.2 s"));
        assert_eq!(lines(&mut failures, &down, 5), [whole(&down, 1), short("a:1: no", 2), short("a:1: no", 4)]);
        assert_eq!(lines(&mut failures, &busy, 1), [whole(&busy, 6)], "another report is news");
        assert_eq!(lines(&mut failures, &down, 2), [short("a:1: no", 8)], "the first one is not");
        failures.clear();
        assert_eq!(lines(&mut failures, &down, 1), [whole(&down, 1)], "a failure after a success is");
        let made_up = (0..1000).filter(|number| {
            let report = Report::new(Code::ServerFailed, format!("a:1: request {number}"), None);
            failures.line(&report, |_| String::new()).is_some()
        });
        assert!(made_up.count() < 2 * FailureLog::MOST_KNOWN, "words that a server makes up are not all news");
    }

    #[test]
    fn own_error_code_is_outside_reserved_ranges() {
        assert!(!(-32768..=-32000).contains(&OWN_ERROR));
    }
}
