//! Changes of one entry in the text of a configuration file.
//!
//! A change is a list of splices: pieces of the old text, by their place, and what stands there instead. All other bytes stay as
//! they are: comments, order, indentation, line ends, a byte order mark.
//!
//! # Invariants
//!
//! - A text is changed only if its host can read it.
//! - The result is parsed again. It has the values of the old text, except for the entry, or the change is refused.

use std::ops::Range;

use serde_json::{Map, Value};

use super::{
    Host, Syntax,
    syntax::{self, Invalid},
};
use crate::text::without_mark;

mod json;
mod toml;

/// A member of a new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    Text(String),
    List(Vec<String>),
    Flag(bool),
    /// An object without members.
    Empty,
}

impl From<&Member> for Value {
    fn from(member: &Member) -> Self {
        match member {
            Member::Text(text) => Self::from(text.as_str()),
            Member::List(words) => Self::from(words.clone()),
            Member::Flag(is) => Self::from(*is),
            Member::Empty => Self::Object(Map::new()),
        }
    }
}

/// An entry to be written, its members in order.
pub(crate) type Members = Vec<(&'static str, Member)>;

/// A change of one entry.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Adds an entry with this name.
    Add { name: String, members: Members },
    /// Rewrites the command and the arguments of the entry at this path. Everything else of the entry stays.
    Start { path: Vec<String>, command: String, arguments: Vec<String> },
    /// Removes the entry at this path.
    Remove { path: Vec<String> },
}

/// Why a text is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The host cannot read it either.
    #[error("line {}, column {}: {}", .0.line, .0.column, .0.reason)]
    Invalid(Invalid),
    /// The servers are not where they must be: in this member, or in anything.
    #[error("{} is not an object", .0.as_ref().map_or_else(|| "its content".to_owned(), |member| format!("its {member:?}")))]
    NotAnObject(Option<String>),
    /// An argument is a number, for example.
    #[error("an element of its arguments is not a string")]
    NotText,
    /// The syntax is not changed by this program.
    #[error("mcp-remote does not change YAML")]
    Yaml,
    /// A comment would be lost.
    #[error("a comment in the text that changes would be lost")]
    Comment,
    /// Several members have the same name.
    #[error("its name occurs more than once in the file")]
    Twice,
    /// The file has a form that these changes do not fit.
    #[error("mcp-remote cannot change it without changing other text of the file")]
    Form,
}

/// A piece of the text, and what stands there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Splice {
    range: Range<usize>,
    text: String,
}

impl Splice {
    fn new(range: Range<usize>, text: impl Into<String>) -> Self {
        Self { range, text: text.into() }
    }
}

/// Applies a change to the text of a host's file. An empty text becomes a file with nothing but the entry.
///
/// # Errors
/// [`Refusal`], where something else than the entry would change.
pub(crate) fn apply(text: &str, host: &Host, change: &Change) -> Result<String, Refusal> {
    let body = without_mark(text);
    let mark = &text[..text.len() - body.len()];
    let is_empty = body.trim().is_empty();
    let before = match host.syntax {
        Syntax::Yaml => return Err(Refusal::Yaml),
        _ if is_empty => Value::Object(Map::new()),
        syntax => syntax::parse(body, syntax).map_err(Refusal::Invalid)?,
    };
    let expected = changed(before, host, change)?;
    let after = match host.syntax {
        Syntax::Toml => spliced(body, toml::splices(body, host, change)?),
        _ if is_empty => json::whole(host, change).ok_or(Refusal::Form)?,
        syntax => spliced(body, json::splices(body, syntax, host, change)?),
    }
    .ok_or(Refusal::Form)?;
    let is_as_expected = syntax::parse(&after, host.syntax)
        .is_ok_and(|after| without_empty_list(after, host) == without_empty_list(expected, host));
    if is_as_expected { Ok(format!("{mark}{after}")) } else { Err(Refusal::Form) }
}

/// Returns the values that the changed text must have.
fn changed(mut root: Value, host: &Host, change: &Change) -> Result<Value, Refusal> {
    let not_an_object = |member: Option<&str>| Refusal::NotAnObject(member.map(ToOwned::to_owned));
    match change {
        Change::Add { name, members } => {
            let all = root.as_object_mut().ok_or_else(|| not_an_object(None))?;
            let servers = all.entry(host.key).or_insert_with(|| Value::Object(Map::new()));
            let servers = servers.as_object_mut().ok_or_else(|| not_an_object(Some(host.key)))?;
            let entry: Map<_, _> = members.iter().map(|(name, member)| ((*name).to_owned(), member.into())).collect();
            servers.insert(name.clone(), entry.into());
        }
        Change::Start { path, command, arguments } => {
            start(find(&mut root, path).ok_or(Refusal::Form)?, command, arguments);
        }
        Change::Remove { path } => {
            let (name, folders) = path.split_last().ok_or(Refusal::Form)?;
            let servers = find(&mut root, folders).and_then(Value::as_object_mut).ok_or(Refusal::Form)?;
            servers.remove(name).ok_or(Refusal::Form)?;
        }
    }
    Ok(root)
}

/// Rewrites the command and the arguments of an entry in the form that it has.
fn start(entry: &mut Value, command: &str, arguments: &[String]) {
    match &mut entry["command"] {
        Value::Array(words) => {
            *words = std::iter::once(command).chain(arguments.iter().map(String::as_str)).map(Value::from).collect();
        }
        Value::Object(inner) => {
            inner.insert("path".to_owned(), Value::from(command));
            inner.insert("args".to_owned(), Value::from(arguments.to_vec()));
        }
        place => {
            *place = Value::from(command);
            entry["args"] = Value::from(arguments.to_vec());
        }
    }
}

/// Returns the lines that a user writes into an entry, so that it starts this command.
pub(crate) fn lines(host: &Host, entry: &Value, command: &str, arguments: &[String]) -> String {
    let mut entry = entry.clone();
    start(&mut entry, command, arguments);
    let members = ["command", "args"].into_iter().filter_map(|name| Some((name, entry.get(name)?)));
    // A string and an array of JSON are those of TOML, too.
    let (members, end): (Vec<_>, _) = match host.syntax {
        Syntax::Toml => (members.map(|(name, value)| format!("{name} = {}", json::compact(value))).collect(), "\n"),
        _ => (members.map(|(name, value)| format!("{}: {}", Value::from(name), json::compact(value))).collect(), ",\n"),
    };
    members.join(end) + "\n"
}

/// Returns the name on this path that several members of the file have.
pub(crate) fn repeated<'a>(text: &str, host: &Host, path: &'a [String]) -> Option<&'a str> {
    match host.syntax {
        // No such text is TOML.
        Syntax::Toml | Syntax::Yaml => None,
        syntax => json::repeated(without_mark(text), syntax, path),
    }
}

/// The table of the servers of TOML is there or not if it is empty, as its last entry was written.
fn without_empty_list(mut root: Value, host: &Host) -> Value {
    if let Some(all) = root.as_object_mut().filter(|_| host.syntax == Syntax::Toml)
        && all.get(host.key).and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        all.remove(host.key);
    }
    root
}

fn find<'a>(root: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(root, |value, name| value.as_object_mut()?.get_mut(name))
}

/// Applies splices, which are in any order and do not overlap.
fn spliced(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for Splice { range, text: new } in splices {
        out.push_str(text.get(at..range.start)?);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// Returns how the lines of a text end: as its first one.
fn line_end(text: &str) -> &'static str {
    match text.split_once('\n') {
        Some((line, _)) if line.ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

#[cfg(test)]
mod tests;
