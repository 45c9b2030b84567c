//! Splices for TOML: a table for each entry, as Codex writes them.

use std::ops::Range;

use serde_json::Value;
use toml_edit::{Document, Item, Table};

use super::{Change, Host, Member, Refusal, Splice, line_end};

pub(super) fn splices(text: &str, host: &Host, change: &Change) -> Result<Vec<Splice>, Refusal> {
    let document = Document::parse(text).map_err(|_| Refusal::Form)?;
    match change {
        Change::Add { name, members } => {
            let end = line_end(text);
            let mut table = String::new();
            if !text.is_empty() {
                table.push_str(&end.repeat(if text.ends_with('\n') { 1 } else { 2 }));
            }
            table += &format!("[{}.{}]{end}", host.key, key(name));
            for (name, member) in members {
                table += &format!("{name} = {}{end}", value(member));
            }
            Ok(vec![Splice::new(text.len()..text.len(), table)])
        }
        Change::Start { path, command, arguments } => {
            let entry = find(document.as_table(), path).ok_or(Refusal::Form)?;
            let place = entry.get("command").and_then(Item::span).ok_or(Refusal::Form)?;
            let mut splices = vec![Splice::new(place.clone(), quoted(command))];
            match entry.get("args") {
                Some(item) => {
                    let array = item.as_array().ok_or(Refusal::Form)?;
                    let texts: Option<Vec<&str>> = array.iter().map(toml_edit::Value::as_str).collect();
                    let texts = texts.ok_or(Refusal::NotText)?;
                    let spans: Option<Vec<Range<usize>>> = array.iter().map(toml_edit::Value::span).collect();
                    let spans = spans.ok_or(Refusal::Form)?;
                    let dropped = texts.len().checked_sub(arguments.len()).ok_or(Refusal::Form)?;
                    if texts[dropped..] != *arguments {
                        return Err(Refusal::Form);
                    }
                    for (index, span) in spans[..dropped].iter().enumerate() {
                        // Up to the next element: what stands between is a comma, unless there is a comment.
                        let next = spans.get(index + 1).map_or(span.end, |next| next.start);
                        let between = text.get(span.end..next).ok_or(Refusal::Form)?;
                        let end = if between.contains('#') {
                            span.end + between.find(',').map_or(0, |at| at + 1)
                        } else {
                            next
                        };
                        splices.push(Splice::new(span.start..end, ""));
                    }
                }
                None => splices.push(Splice::new(
                    place.end..place.end,
                    format!("{}args = {}", line_end(text), value(&Member::List(arguments.clone()))),
                )),
            }
            Ok(splices)
        }
        Change::Remove { path } => {
            let name = path.last().ok_or(Refusal::Form)?;
            remove(text, host, name).ok_or(Refusal::Form)
        }
    }
}

fn find<'a>(root: &'a Table, path: &[String]) -> Option<&'a Table> {
    path.iter().try_fold(root, |table, name| table.get(name)?.as_table())
}

/// Removes the lines of a table and of the tables inside it, up to the next header, without the comments before that.
fn remove(text: &str, host: &Host, name: &str) -> Option<Vec<Splice>> {
    let own = |header: &str| {
        let inner = header.strip_prefix('[')?.split(']').next()?.trim();
        let rest = inner.strip_prefix(host.key)?.trim_start().strip_prefix('.')?.trim_start();
        let rest =
            [key(name), quoted(name), format!("'{name}'")].iter().find_map(|key| rest.strip_prefix(key.as_str()))?;
        (rest.is_empty() || rest.trim_start().starts_with('.')).then_some(())
    };
    let mut splices = Vec::new();
    let mut gone: Option<usize> = None;
    // Where the last line of the table ends that is neither blank nor a comment.
    let mut last = 0;
    let mut at = 0;
    let mut close = |gone: &mut Option<usize>, last: usize| {
        if let Some(start) = gone.take() {
            splices.push(Splice::new(start..last, ""));
        }
    };
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') && own(trimmed).is_some() {
            close(&mut gone, last);
            gone = Some(at);
        } else if trimmed.starts_with('[') && !trimmed.starts_with("[\"") && is_header(trimmed) {
            close(&mut gone, last);
        }
        at += line.len();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            last = at;
        }
    }
    close(&mut gone, last);
    // The blank line before what is gone goes with it.
    for splice in &mut splices {
        let before = &text[..splice.range.start];
        let is_blank = before.ends_with("\n\n") || before.ends_with("\r\n\r\n");
        if is_blank {
            splice.range.start -= if before.ends_with("\r\n") { 2 } else { 1 };
        }
    }
    (!splices.is_empty()).then_some(splices)
}

/// Returns whether a line that begins with a bracket is a header, and not a line of an array.
fn is_header(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim_end();
    line.ends_with(']') && !line.contains(',') && !line.contains('=')
}

/// Returns a name as a key: bare where TOML allows it.
fn key(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// Returns a basic string. Its escapes are those of JSON (TOML 1.0, String), except for a slash, which JSON does not need.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn value(member: &Member) -> String {
    match member {
        Member::Text(text) => quoted(text),
        Member::List(words) => {
            format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
        }
        Member::Flag(is) => is.to_string(),
        Member::Empty => "{}".to_owned(),
    }
}
