//! Words of servers and libraries, made fit for one line of a log, an error or a page.
//!
//! # Invariants
//!
//! - No text from here makes a terminal do anything: no controls, no ends of lines, no changes of direction.
//! - A URL is shown without user, password, query and what looks like a key.

use std::{error::Error, fmt::Write as _, io, path::Path};

use reqwest::Url;
use serde::Serialize;

/// How much of a server's words is shown, in characters.
const LONGEST: usize = 200;

/// What a server says, made fit for one line of text: the title of a page, or its first characters.
pub(crate) fn one_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]);
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        let end = start + lower[start..].find("</title>")?;
        text.get(start..end)
    });
    let words: Vec<&str> = title
        .unwrap_or(&text)
        .split(|character: char| character.is_whitespace() || is_obeyed(character))
        .filter(|word| !word.is_empty())
        .collect();
    let line: String = words.join(" ").chars().take(LONGEST + 1).collect();
    if line.chars().count() > LONGEST { line.chars().take(LONGEST).chain(['…']).collect() } else { line }
}

/// Returns a text without the byte order mark that editors on Windows put before it (RFC 8259 §8.1 for JSON).
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// What a terminal obeys or nobody sees: controls, the ends of lines that are none of them, what turns the direction of
/// writing, what has no width, tags and the selectors that text can be hidden in (Unicode Technical Report 36 §2, §3.5).
pub(crate) fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e01ef}'
        )
}

/// Returns a text for a terminal, with a mark where it has characters that [`is_obeyed`] names.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|one| if is_obeyed(one) { char::REPLACEMENT_CHARACTER } else { one }).collect()
}

/// Returns a value for a program, or for a terminal: JSON (RFC 8259 §7) has to escape only some of the characters that
/// [`is_obeyed`] names. They are in strings alone.
///
/// # Errors
/// Where the value has no JSON.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = String::new();
    for character in serde_json::to_string_pretty(value)?.chars() {
        if is_obeyed(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(character);
        }
    }
    Ok(text)
}

/// Returns a URL as it may be logged: without user, password and query, and without what looks like a key in the path.
pub(crate) fn url(url: &Url) -> String {
    let path: Vec<_> = url.path().split('/').map(|part| if is_key(part) { "…" } else { part }).collect();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{}{}{query}", url.scheme(), host(url), path.join("/"))
}

/// Returns whether a part of a path is a key: long, and of letters and digits. Some services have it there.
pub(crate) fn is_key(part: &str) -> bool {
    const SHORTEST_KEY: usize = 20;
    part.len() >= SHORTEST_KEY
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Host and port as a person would write them.
pub(crate) fn host(server: &Url) -> String {
    match (server.host_str(), server.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => server.to_string(),
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Libraries like to repeat their cause in their own text, and reqwest to name the address.
        if !line.contains(&text) && !inner.is::<reqwest::Error>() {
            _ = write!(line, ": {text}");
        }
        cause = inner.source();
    }
    without_number(line)
}

/// The innermost cause: what the operating system or the TLS library said.
pub(crate) fn deepest(error: &(dyn Error + 'static)) -> String {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match (inside, error.source()) {
        (Some(inside), _) => deepest(inside),
        (None, Some(source)) => deepest(source),
        (None, None) => without_number(error.to_string()),
    }
}

/// Returns the operating system's words for an error, without its number and without a full stop.
pub(crate) fn reason(error: &io::Error) -> String {
    let mut words = without_number(error.to_string());
    words.truncate(words.trim_end_matches(['.', ' ', '\r', '\n']).len());
    words
}

/// Returns the one sentence for a file that cannot be read. `flag` is the flag that names it.
pub(crate) fn cannot_read(file: &Path, flag: Option<&str>, error: &io::Error) -> String {
    let flag = flag.map_or_else(String::new, |flag| format!(" ({flag})"));
    format!("cannot read {}{flag}: {}", file.display(), reason(error))
}

/// Removes the operating system's number of an error, which stands behind the words for it.
pub(crate) fn without_number(mut text: String) -> String {
    const BEFORE: &str = " (os error ";
    while let Some(start) = text.find(BEFORE) {
        let number = &text[start + BEFORE.len()..];
        // Those of Windows' own libraries are negative.
        let sign = usize::from(number.starts_with('-'));
        let digits = number[sign..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || !number[sign + digits..].starts_with(')') {
            break;
        }
        text.replace_range(start..start + BEFORE.len() + sign + digits + 1, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_json_is_same_and_moves_no_cursor() {
        let value = serde_json::json!({"a\u{9b}2J": ["\u{7f}\u{1b}[1m\r\n\u{202e}b\u{200f}\u{e0041}", 1]});
        let text = json(&value).unwrap();
        assert!(text.chars().all(|character| character == '\n' || !is_obeyed(character)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn one_line_shows_title_or_beginning() {
        assert_eq!(one_line(b"<html><head><TITLE>Sign\n in</TITLE>"), "Sign in");
        assert_eq!(one_line(b"  no\tsuch \x07 thing\r\n"), "no such thing");
        assert_eq!(one_line("ab\u{202e}dc\u{2066}e\u{2028}f".as_bytes()), "ab dc e f", "nothing turns the text around");
        assert_eq!(one_line("x".repeat(300).as_bytes()).chars().count(), LONGEST + 1);
    }

    #[test]
    fn cause_has_no_error_number() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(deepest(&refused), chain(&refused));
        assert!(!chain(&refused).contains("os error"), "{}", chain(&refused));
        let absent = io::Error::from_raw_os_error(2);
        assert!(cannot_read(Path::new("a.pem"), None, &absent).starts_with("cannot read a.pem: "));
        let named = cannot_read(Path::new("a.pem"), Some("--ca-cert"), &absent);
        assert!(named.starts_with("cannot read a.pem (--ca-cert): "), "{named}");
        assert!(!reason(&absent).contains("os error") && !reason(&io::Error::other("It is gone. ")).ends_with('.'));
        for (text, expected) in [
            ("a (os error 2): b (os error 10061)", "a: b"),
            ("a (os error", "a (os error"),
            ("a (os error x)", "a (os error x)"),
        ] {
            assert_eq!(without_number(text.to_owned()), expected);
        }
    }

    #[test]
    fn logged_url_has_no_secret() {
        for (whole, logged) in [
            ("https://a.example", "https://a.example/"),
            ("http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/mcp"),
            ("https://me:hush@a.example/mcp?api_key=hush", "https://a.example/mcp?…"),
            ("https://a.example/s/0f8fad5b-d9cb-469f-a165-70867728950e/mcp", "https://a.example/s/…/mcp"),
        ] {
            assert_eq!(url(&Url::parse(whole).unwrap()), logged);
        }
    }
}
