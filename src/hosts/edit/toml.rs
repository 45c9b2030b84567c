//! Splices for TOML: a table for each entry, as Codex writes them, or an inline table or dotted keys, as users do.

use std::ops::Range;

use serde_json::Value;
use toml_edit::{Document, InlineTable, Item, Key, TableLike};

use super::{Change, Host, Member, Members, Refusal, Splice, line_end};

pub(super) fn splices(text: &str, host: &Host, change: &Change) -> Result<Vec<Splice>, Refusal> {
    let document = Document::parse(text).map_err(|_| Refusal::Form)?;
    let root = document.as_table();
    match change {
        Change::Add { name, members } => match root.get(host.key).and_then(Item::as_inline_table) {
            // An inline table is complete: no header can add to it.
            Some(servers) => Ok(vec![add_inside(text, servers, name, members)?]),
            None => Ok(vec![add_at_the_end(text, host, name, members)]),
        },
        Change::Start { path, command, arguments } => {
            let (entry, is_inline) = find(root, path).ok_or(Refusal::Form)?;
            start(text, entry, is_inline, command, arguments)
        }
        Change::Remove { path } => {
            let name = path.last().ok_or(Refusal::Form)?;
            let servers = root.get(host.key).ok_or(Refusal::Form)?;
            remove(text, host, servers, name)
        }
    }
}

/// Returns the table at a path, and whether an inline table is around it or is it.
fn find<'a>(root: &'a dyn TableLike, path: &[String]) -> Option<(&'a dyn TableLike, bool)> {
    path.iter().try_fold((root, false), |(table, is_inline), name| {
        let item = table.get(name)?;
        Some((item.as_table_like()?, is_inline || item.is_inline_table()))
    })
}

fn add_at_the_end(text: &str, host: &Host, name: &str, members: &Members) -> Splice {
    let end = line_end(text);
    let mut table = String::new();
    if !text.is_empty() {
        table.push_str(&end.repeat(if text.ends_with('\n') { 1 } else { 2 }));
    }
    table += &format!("[{}.{}]{end}", host.key, key(name));
    for (name, member) in members {
        table += &format!("{name} = {}{end}", value(member));
    }
    Splice::new(text.len()..text.len(), table)
}

/// Adds an entry behind the last one of an inline table.
fn add_inside(text: &str, servers: &InlineTable, name: &str, members: &Members) -> Result<Splice, Refusal> {
    let members: Vec<_> = members.iter().map(|(name, member)| format!("{name} = {}", value(member))).collect();
    let entry = format!("{} = {{ {} }}", key(name), members.join(", "));
    if servers.is_empty() {
        let whole = servers.span().ok_or(Refusal::Form)?;
        check_comments(&text[whole.clone()])?;
        return Ok(Splice::new(whole, format!("{{ {entry} }}")));
    }
    let end = leaves(servers).into_iter().map(|(_, end)| end).max().ok_or(Refusal::Form)?;
    Ok(Splice::new(end..end, format!(", {entry}")))
}

/// Checks that text between values, which goes, has no comment. TOML 1.1 allows some in an inline table.
fn check_comments(between: &str) -> Result<(), Refusal> {
    if between.contains('#') { Err(Refusal::Comment) } else { Ok(()) }
}

/// Rewrites command and arguments of an entry.
fn start(
    text: &str,
    entry: &dyn TableLike,
    is_inline: bool,
    command: &str,
    arguments: &[String],
) -> Result<Vec<Splice>, Refusal> {
    let (name, item) = entry.get_key_value("command").ok_or(Refusal::Form)?;
    if item.is_array() {
        let words: Vec<_> = std::iter::once(command.to_owned()).chain(arguments.iter().cloned()).collect();
        return list(text, item, &words);
    }
    let place = item.as_value().and_then(toml_edit::Value::span).ok_or(Refusal::Form)?;
    match entry.get("args") {
        Some(item) => {
            let mut splices = list(text, item, arguments)?;
            splices.push(Splice::new(place, quoted(command)));
            Ok(splices)
        }
        // Beside the command, or on a line of its own that begins as that of the command.
        None => {
            let before = if is_inline {
                ", ".to_owned()
            } else {
                let name = name.span().ok_or(Refusal::Form)?;
                let line = text[..name.start].rfind('\n').map_or(0, |at| at + 1);
                format!("{}{}", line_end(text), &text[line..name.start])
            };
            let list = value(&Member::List(arguments.to_vec()));
            Ok(vec![Splice::new(place, format!("{}{before}args = {list}", quoted(command)))])
        }
    }
}

/// Rewrites an array so that it has these elements. The last ones that it has already stay as they are.
fn list(text: &str, item: &Item, words: &[String]) -> Result<Vec<Splice>, Refusal> {
    let whole = item.as_value().and_then(toml_edit::Value::span).ok_or(Refusal::Form)?;
    let anew = || vec![Splice::new(whole.clone(), value(&Member::List(words.to_vec())))];
    // All in one string.
    let Some(array) = item.as_array() else { return Ok(anew()) };
    let texts: Option<Vec<&str>> = array.iter().map(toml_edit::Value::as_str).collect();
    let texts = texts.ok_or(Refusal::NotText)?;
    let spans: Option<Vec<Range<usize>>> = array.iter().map(toml_edit::Value::span).collect();
    let spans = spans.ok_or(Refusal::Form)?;
    let dropped = texts.len().checked_sub(words.len()).filter(|dropped| texts[*dropped..] == *words);
    let Some(dropped) = dropped else {
        let begins = spans.iter().map(|span| span.start).chain([whole.end]);
        let ends = [whole.start].into_iter().chain(spans.iter().map(|span| span.end));
        let has_comment = ends.zip(begins).any(|(from, to)| text[from..to].contains('#'));
        return if has_comment { Err(Refusal::Comment) } else { Ok(anew()) };
    };
    let mut splices = Vec::new();
    for (index, span) in spans[..dropped].iter().enumerate() {
        // Up to the next element: what stands between is a comma, unless there is a comment.
        let next = spans.get(index + 1).map_or(span.end, |next| next.start);
        let between = text.get(span.end..next).ok_or(Refusal::Form)?;
        let end = if between.contains('#') { span.end + between.find(',').map_or(0, |at| at + 1) } else { next };
        splices.push(Splice::new(span.start..end, ""));
    }
    Ok(splices)
}

/// Returns where each key with a value begins and ends, also those of dotted keys, but not those under a header.
fn leaves(table: &dyn TableLike) -> Vec<(usize, usize)> {
    let places = table.iter().filter_map(|(name, _)| table.get_key_value(name)).map(|(key, item)| of_key(key, item));
    places.flatten().collect()
}

/// Returns the same for one key.
fn of_key(key: &Key, item: &Item) -> Vec<(usize, usize)> {
    match item.as_table_like().filter(|table| table.is_dotted()) {
        Some(table) => leaves(table),
        None => {
            let ends = item.as_value().and_then(toml_edit::Value::span).map(|span| span.end);
            key.span().zip(ends).map(|(key, end)| (key.start, end)).into_iter().collect()
        }
    }
}

/// Removes an entry, however it is written.
fn remove(text: &str, host: &Host, servers: &Item, name: &str) -> Result<Vec<Splice>, Refusal> {
    let table = servers.as_table_like().ok_or(Refusal::Form)?;
    let (key, item) = table.get_key_value(name).ok_or(Refusal::Form)?;
    if let Some(servers) = servers.as_inline_table() {
        return remove_inside(text, servers, of_key(key, item));
    }
    let lines = of_key(key, item).into_iter().map(|(start, end)| {
        let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        Splice::new(start..text[end..].find('\n').map_or(text.len(), |at| end + at + 1), "")
    });
    let splices: Vec<_> = lines.chain(tables(text, host, name)).collect();
    if splices.is_empty() { Err(Refusal::Form) } else { Ok(splices) }
}

/// Removes a member of an inline table, with one of the commas beside it.
fn remove_inside(text: &str, servers: &InlineTable, leaves: Vec<(usize, usize)>) -> Result<Vec<Splice>, Refusal> {
    // Dotted keys may stand apart from one another.
    let [(start, end)] = leaves[..] else { return Err(Refusal::Form) };
    let inside = servers.span().filter(|span| span.len() >= 2).map(|span| span.start + 1..span.end - 1);
    let inside = inside.ok_or(Refusal::Form)?;
    let before = text.get(inside.start..start).ok_or(Refusal::Form)?;
    let after = text.get(end..inside.end).ok_or(Refusal::Form)?;
    let range = if let Some(rest) = after.trim_start().strip_prefix(',') {
        start..inside.end - rest.trim_start().len()
    } else if let Some(rest) = before.trim_end().strip_suffix(',') {
        inside.start + rest.len()..end
    } else {
        inside
    };
    check_comments(&text[range.start..start])?;
    check_comments(&text[end..range.end])?;
    Ok(vec![Splice::new(range, "")])
}

/// Removes the lines of a table and of the tables inside it, up to the next header, without the comments before that.
fn tables(text: &str, host: &Host, name: &str) -> Vec<Splice> {
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
    splices
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
