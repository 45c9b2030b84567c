//! How a change of a file is shown: the lines that go and the lines that come.
//!
//! # Invariants
//!
//! - Only lines that change are shown.

use anstyle::{AnsiColor, Style};

/// Longest piece of a line that is shown, in characters. A file without line ends is one line.
const LONGEST: usize = 160;

/// Returns the changed lines, each with its sign. `clean` takes out what must not be shown.
pub(super) fn lines(before: &str, after: &str, clean: &dyn Fn(&str) -> String, has_colors: bool) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let first = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[first..], &new[first..]);
    let last = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - last], &new[..new.len() - last]);
    let (old, new) = (old.to_vec(), new.to_vec());
    // A new entry behind another one adds a comma to that: the entry is easier to read by itself.
    let after = before.lines().nth(first).filter(|_| old.is_empty());
    let new = match (&new[..], after) {
        ([head, tail @ ..], Some(close)) if !tail.is_empty() && head.strip_suffix(',') == Some(close) => {
            [tail, &[close]].concat()
        }
        _ => new,
    };
    let shown = |sign: char, line: &str| {
        let color = if sign == '-' { AnsiColor::Red } else { AnsiColor::Green };
        let style = if has_colors { color.on_default() } else { Style::new() };
        format!("  {style}{sign} {}{style:#}", clean(line))
    };
    if let ([one], [other]) = (&old[..], &new[..]) {
        let (one, other) = pieces(one, other);
        return vec![shown('-', &one), shown('+', &other)];
    }
    let cut = |line: &&str| match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => (*line).to_owned(),
    };
    let gone = old.iter().map(|line| shown('-', &cut(line)));
    gone.chain(new.iter().map(|line| shown('+', &cut(line)))).collect()
}

/// Reduces two long lines to what differs.
fn pieces(one: &str, other: &str) -> (String, String) {
    if one.chars().count().max(other.chars().count()) <= LONGEST {
        return (one.to_owned(), other.to_owned());
    }
    /// What is shown around a difference, in characters.
    const AROUND: usize = 20;
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let first = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let rest = |line: &[char]| line.len() - first;
    let most = rest(&one).min(rest(&other));
    let last = one.iter().rev().zip(other.iter().rev()).take(most).take_while(|(one, other)| one == other).count();
    let piece = |line: &[char]| {
        let from = first.saturating_sub(AROUND);
        let to = (line.len() - last + AROUND).min(line.len());
        let piece: String = line[from..to].iter().collect();
        let (begin, end) = (if from > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });
        format!("{begin}{piece}{end}")
    };
    (piece(&one), piece(&other))
}

#[cfg(test)]
mod tests {
    fn lines(before: &str, after: &str, has_colors: bool) -> Vec<String> {
        super::lines(before, after, &str::to_owned, has_colors)
    }

    #[test]
    fn only_changed_lines_are_shown() {
        assert_eq!(lines("a\nb\nc\n", "a\nx\ny\nc\n", false), ["  - b", "  + x", "  + y"]);
        assert_eq!(lines("a\n", "a\nb\n", false), ["  + b"]);
        assert_eq!(lines("", "", false), [""; 0]);
        let (before, after) = ("{\n a {\n }\n}\n", "{\n a {\n },\n b {\n }\n}\n");
        assert_eq!(lines(before, after, false), ["  +  b {", "  +  }"]);
        let long = "k".repeat(300);
        let shown = lines(&format!("{long}A{long}"), &format!("{long}BB{long}"), false);
        let around = "k".repeat(20);
        assert_eq!(shown, [format!("  - …{around}A{around}…"), format!("  + …{around}BB{around}…")]);
    }
}
