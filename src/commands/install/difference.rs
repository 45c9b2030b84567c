//! How a change of a file is shown: the lines that go and the lines that come.
//!
//! # Invariants
//!
//! - Only lines that change are shown, and of a very long line only what changes.

use anstyle::{AnsiColor, Style};

/// Longest piece of a line that is shown, in characters. A file without line ends is one line.
const LONGEST: usize = 240;

/// A line that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Whether it comes. Otherwise it goes.
    is_new: bool,
    text: String,
}

impl Line {
    /// Returns the line with its sign. `clean` takes out what must not be shown.
    pub(super) fn shown(&self, clean: &dyn Fn(&str) -> String, has_colors: bool) -> String {
        let (sign, color) = if self.is_new { ('+', AnsiColor::Green) } else { ('-', AnsiColor::Red) };
        let style = if has_colors { color.on_default() } else { Style::new() };
        // A secret is looked for in the whole line.
        format!("  {style}{sign} {}{style:#}", cut(&clean(&self.text)))
    }
}

/// Returns the lines that change.
pub(super) fn lines(before: &str, after: &str) -> Vec<Line> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let first = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[first..], &new[first..]);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - last], &new[..new.len() - last]);
    // A new entry behind another one adds a comma to that: the entry is easier to read by itself.
    let close = before.lines().nth(first).filter(|_| old.is_empty());
    let new = match (new, close) {
        ([head, tail @ ..], Some(close)) if !tail.is_empty() && head.strip_suffix(',') == Some(close) => {
            [tail, &[close]].concat()
        }
        _ => new.to_vec(),
    };
    let line = |is_new: bool, text: &str| Line { is_new, text: text.to_owned() };
    if let ([one], [other]) = (old, &new[..]) {
        let (one, other) = pieces(one, other);
        return vec![line(false, &one), line(true, &other)];
    }
    let gone = old.iter().map(|text| line(false, text));
    gone.chain(new.iter().map(|text| line(true, text))).collect()
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// Reduces two long lines to what differs.
fn pieces(one: &str, other: &str) -> (String, String) {
    if one.chars().count().max(other.chars().count()) <= LONGEST {
        return (one.to_owned(), other.to_owned());
    }
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let first = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let rest = |line: &[char]| line.len() - first;
    let most = rest(&one).min(rest(&other));
    let last = one.iter().rev().zip(other.iter().rev()).take(most).take_while(|(one, other)| one == other).count();
    let piece = |line: &[char]| {
        let (from, to) = (first, line.len() - last);
        let piece: String = line[from..to].iter().collect();
        if piece.is_empty() {
            return "…".to_owned();
        }
        let (begin, end) = (if from > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });
        format!("{begin}{piece}{end}")
    };
    (piece(&one), piece(&other))
}

#[cfg(test)]
mod tests {
    fn lines(before: &str, after: &str) -> Vec<String> {
        super::lines(before, after).iter().map(|line| line.shown(&str::to_owned, false)).collect()
    }

    #[test]
    fn only_changed_lines_are_shown() {
        assert_eq!(lines("a\nb\nc\n", "a\nx\ny\nc\n"), ["  - b", "  + x", "  + y"]);
        assert_eq!(lines("a\n", "a\nb\n"), ["  + b"]);
        assert_eq!(lines("", ""), [""; 0]);
        let (before, after) = ("{\n a {\n }\n}\n", "{\n a {\n },\n b {\n }\n}\n");
        assert_eq!(lines(before, after), ["  +  b {", "  +  }"]);
        let long = "k".repeat(300);
        let shown = lines(&format!("{long}A{long}"), &format!("{long}BB{long}"));
        assert_eq!(shown, ["  - …A…", "  + …BB…"]);
    }
}
