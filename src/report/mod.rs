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
/// life of the process, since a damaged file is read again and again.
pub(crate) fn warn(code: Code, sentence: impl Into<String>) -> Report {
    let report = Report::new(code, sentence, None);
    warn_of(&report);
    report
}

/// The same for a report with a tip of its own.
pub(crate) fn warn_of(report: &Report) {
    static TOLD: Mutex<BTreeMap<Code, BTreeSet<String>>> = Mutex::new(BTreeMap::new());
    let line = report.line();
    if is_new(TOLD.guard().entry(report.code).or_default(), &line) {
        log::warn!(target: &logging::of_report(report.code.as_str()), "{line}");
    }
}

/// Returns whether a line is to be logged, and notes it. As many are known of a code as the log takes in a minute; those
/// beyond, which a server has made up, the log counts.
fn is_new(told: &mut BTreeSet<String>, line: &str) -> bool {
    if told.contains(line) {
        return false;
    }
    if told.len() < logging::MOST_ALIKE {
        told.insert(line.to_owned());
    }
    true
}

/// The log of what is tried again and again, such as opening a connection. The lines count as those of the loop,
/// which owns this.
///
/// # Invariants
///
/// - A report is logged whole when it is met first, at once.
/// - Its repetitions are logged with a count, each time that the count has doubled, so that a server that is down
///   overnight does not fill the log.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    /// The line of the last report, and how often in a row it was met.
    last: Option<(String, u32)>,
}

impl FailureLog {
    /// Logs a failed attempt.
    pub(crate) fn log(&mut self, report: &Report) {
        if let Some((level, line)) = self.note(report) {
            log::log!(target: logging::LOOP, level, "{line}");
        }
    }

    /// The attempt succeeded.
    pub(crate) fn clear(&mut self) {
        self.last = None;
    }

    fn note(&mut self, report: &Report) -> Option<(Level, String)> {
        let line = report.line();
        match &mut self.last {
            Some((last, count)) if *last == line => {
                *count = count.saturating_add(1);
                let words = self::line(&report.sentence, report.code, None);
                count.is_power_of_two().then(|| (Level::Info, format!("attempt {count} failed, too: {words}")))
            }
            last => {
                *last = Some((line.clone(), 1));
                Some((Level::Warn, line))
            }
        }
    }
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
    fn report_is_told_once_as_far_as_memory_goes() {
        let mut told = BTreeSet::new();
        assert!(is_new(&mut told, "a") && is_new(&mut told, "b") && !is_new(&mut told, "a"));
        let made_up = (0..10_000).filter(|number| is_new(&mut told, &number.to_string())).count();
        assert_eq!((made_up, told.len()), (10_000, logging::MOST_ALIKE), "what is too much is the log's to count");
    }

    #[test]
    fn repeated_failure_is_counted() {
        let (down, busy) =
            (Report::new(Code::CannotConnect, "a:1: no", None), Report::new(Code::ServerFailed, "a:1: 503", None));
        let mut failures = FailureLog::default();
        let lines = |failures: &mut FailureLog, report, times| {
            (0..times).filter_map(|_| failures.note(report)).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&mut failures, &down, 5),
            [
                (Level::Warn, down.line()),
                (
                    Level::Info,
                    "attempt 2 failed, too: a:1: no. [Details: mcp-remote explain cannot_connect]".to_owned()
                ),
                (
                    Level::Info,
                    "attempt 4 failed, too: a:1: no. [Details: mcp-remote explain cannot_connect]".to_owned()
                ),
            ]
        );
        assert_eq!(lines(&mut failures, &busy, 1), [(Level::Warn, busy.line())], "another report is news");
        assert_eq!(lines(&mut failures, &down, 1), [(Level::Warn, down.line())], "so is the first one after another");
        failures.clear();
        assert_eq!(lines(&mut failures, &down, 1), [(Level::Warn, down.line())], "so is a failure after a success");
    }

    #[test]
    fn own_error_code_is_outside_reserved_ranges() {
        assert!(!(-32768..=-32000).contains(&OWN_ERROR));
    }
}
