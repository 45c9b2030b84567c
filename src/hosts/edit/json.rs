//! Splices for JSON and its relatives.
//!
//! A new member has the layout of its neighbors: on a line of its own with their indentation, or beside them. Without
//! neighbors it has the layout of the file.

use std::ops::Range;

use jsonc_parser::{
    CollectOptions, CommentCollectionStrategy,
    ast::{Array, Object, Value as Node},
    common::Ranged as _,
    parse_to_ast,
    tokens::{Token, TokenAndRange},
};
use serde_json::Value;

use super::{Change, Host, Member, Members, Refusal, Splice, Syntax, line_end};
use crate::hosts::syntax::options;

/// Indentation where the file shows none.
const INDENT: &str = "  ";

/// Returns a file with nothing but the new entry.
pub(super) fn whole(host: &Host, change: &Change) -> Option<Option<String>> {
    let Change::Add { name, members } = change else { return None };
    let layout = Layout { line_end: "\n", outer: String::new(), inner: INDENT.to_owned() };
    let servers = layout.deeper().object(&[(name.clone(), Text::of(members))]);
    Some(Some(format!("{{\n{INDENT}{}: {servers}\n}}\n", quoted(host.key))))
}

pub(super) fn splices(text: &str, syntax: Syntax, host: &Host, change: &Change) -> Result<Vec<Splice>, Refusal> {
    let collect = CollectOptions { comments: CommentCollectionStrategy::AsTokens, tokens: true };
    let parsed = parse_to_ast(text, &collect, &options(syntax)).map_err(|_| Refusal::Form)?;
    let tokens = parsed.tokens.unwrap_or_default();
    let Some(Node::Object(root)) = &parsed.value else { return Err(Refusal::NotAnObject(None)) };
    let editor = Editor { text, tokens: &tokens };
    match change {
        Change::Add { name, members } => match member(root, host.key) {
            Some(Node::Object(servers)) => Ok(editor.add(servers, name, Text::of(members))),
            Some(_) => Err(Refusal::NotAnObject(Some(host.key.to_owned()))),
            None => Ok(editor.add(root, host.key, Text::Object(vec![(name.clone(), Text::of(members))]))),
        },
        Change::Start { path, command, arguments } => {
            let Some(Node::Object(entry)) = find(root, path) else { return Err(Refusal::Form) };
            editor.start(entry, command, arguments)
        }
        Change::Remove { path } => {
            let (name, folders) = path.split_last().ok_or(Refusal::Form)?;
            let object = match find(root, folders) {
                Some(Node::Object(servers)) => servers,
                None if folders.is_empty() => root,
                _ => return Err(Refusal::Form),
            };
            // Without the last one, the host would read the one before.
            if count(object, name) > 1 {
                return Err(Refusal::Twice);
            }
            editor.remove(object, name).ok_or(Refusal::Form)
        }
    }
}

/// Returns a member. Hosts read the last one of several with the same name, as JavaScript, Go and Rust do.
fn member<'a, 'b>(object: &'b Object<'a>, name: &str) -> Option<&'b Node<'a>> {
    object.properties.iter().rev().find(|property| property.name.as_str() == name).map(|property| &property.value)
}

fn count(object: &Object<'_>, name: &str) -> usize {
    object.properties.iter().filter(|property| property.name.as_str() == name).count()
}

/// Returns the name on this path that several members have.
pub(super) fn repeated<'a>(text: &str, syntax: Syntax, path: &'a [String]) -> Option<&'a str> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options(syntax)).ok()?;
    let mut node = parsed.value.as_ref();
    path.iter().map(String::as_str).find(|name| {
        let Some(Node::Object(object)) = node else { return false };
        node = member(object, name);
        count(object, name) > 1
    })
}

fn find<'a, 'b>(root: &'b Object<'a>, path: &[String]) -> Option<&'b Node<'a>> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(member(root, first)?, |node, name| match node {
        Node::Object(object) => member(object, name),
        _ => None,
    })
}

/// A value to be written.
enum Text {
    Value(Value),
    Object(Vec<(String, Self)>),
}

impl Text {
    fn of(members: &Members) -> Self {
        let text = |member: &Member| match member {
            Member::Empty => Self::Object(Vec::new()),
            member => Self::Value(member.into()),
        };
        Self::Object(members.iter().map(|(name, member)| ((*name).to_owned(), text(member))).collect())
    }

    fn on_one_line(&self) -> String {
        match self {
            Self::Value(value) => compact(value),
            Self::Object(members) if members.is_empty() => "{}".to_owned(),
            Self::Object(members) => {
                let members = members.iter().map(|(name, text)| format!("{}: {}", quoted(name), text.on_one_line()));
                format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Returns a value on one line, with a blank after each comma.
pub(super) fn compact(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(", ")),
        Value::Object(members) if !members.is_empty() => {
            let members = members.iter().map(|(name, value)| format!("{}: {}", quoted(name), compact(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// How the members of an object are laid out over lines.
struct Layout {
    line_end: &'static str,
    /// Indentation of the line with the brace.
    outer: String,
    /// What the members have more.
    inner: String,
}

impl Layout {
    fn deeper(&self) -> Self {
        Self { outer: format!("{}{}", self.outer, self.inner), inner: self.inner.clone(), ..*self }
    }

    /// Writes an object over several lines, without the indentation of its first one.
    fn object(&self, members: &[(String, Text)]) -> String {
        if members.is_empty() {
            return "{}".to_owned();
        }
        let Self { line_end, outer, inner } = self;
        let members = members.iter().map(|(name, text)| format!("{outer}{inner}{}", self.member(name, text)));
        let members: Vec<_> = members.collect();
        format!("{{{line_end}{}{line_end}{outer}}}", members.join(&format!(",{line_end}")))
    }

    /// Writes a member of an object with this layout.
    fn member(&self, name: &str, text: &Text) -> String {
        let value = match text {
            Text::Value(value) => compact(value),
            Text::Object(members) => self.deeper().object(members),
        };
        format!("{}: {value}", quoted(name))
    }
}

struct Editor<'a> {
    text: &'a str,
    /// With comments.
    tokens: &'a [TokenAndRange<'a>],
}

impl Editor<'_> {
    /// Adds a member at the end of an object.
    fn add(&self, object: &Object<'_>, name: &str, text: Text) -> Vec<Splice> {
        let close = object.range.end - 1;
        let Some(last) = object.properties.last() else { return vec![self.first(object, name, &text)] };
        let after = self.tokens_in(last.range.end..close).find(|token| !is_comment(token));
        let comma = after.filter(|token| token.token == Token::Comma).map(|token| token.range.end);
        let is_over_lines = self.text[object.range.start..last.range.start].contains('\n');
        if !is_over_lines {
            let member = format!("{}: {}", quoted(name), text.on_one_line());
            return match comma {
                Some(comma) => vec![Splice::new(comma..comma, format!(" {member},"))],
                None => vec![Splice::new(last.range.end..last.range.end, format!(", {member}"))],
            };
        }
        let layout = self.layout(object, last.range.start);
        let indent = format!("{}{}", layout.outer, layout.inner);
        let line = self.end_of_line(comma.unwrap_or(last.range.end), close);
        let trailing = if comma.is_some() { "," } else { "" };
        let member = format!("{}{indent}{}{trailing}", layout.line_end, layout.member(name, &text));
        match comma {
            // A splice at one place twice would have no order.
            None if line == last.range.end => vec![Splice::new(line..line, format!(",{member}"))],
            None => vec![Splice::new(last.range.end..last.range.end, ","), Splice::new(line..line, member)],
            Some(_) => vec![Splice::new(line..line, member)],
        }
    }

    /// Adds the only member of an object.
    fn first(&self, object: &Object<'_>, name: &str, text: &Text) -> Splice {
        let (open, close) = (object.range.start + 1, object.range.end - 1);
        let inside = &self.text[open..close];
        let has_comment = !inside.trim().is_empty();
        let outer = self.indent(object.range.start);
        let is_over_lines = self.text[..].contains('\n') || self.text.trim_end().len() <= 2;
        if !is_over_lines && !has_comment {
            return Splice::new(open..close, format!(" {}: {} ", quoted(name), text.on_one_line()));
        }
        let layout = Layout { line_end: line_end(self.text), outer, inner: self.inner() };
        let Layout { line_end, outer, inner } = &layout;
        // Behind a comment, which may reach to the end of its line.
        let from = open + inside.trim_end().len();
        let from = if has_comment { from } else { open };
        Splice::new(from..close, format!("{line_end}{outer}{inner}{}{line_end}{outer}", layout.member(name, text)))
    }

    /// Rewrites command and arguments of an entry.
    fn start(&self, entry: &Object<'_>, command: &str, arguments: &[String]) -> Result<Vec<Splice>, Refusal> {
        let replace = |node: &Node<'_>| {
            let range = node.range();
            Splice::new(range.start..range.end, quoted(command))
        };
        let list = |splices: &mut Vec<Splice>, holder: &Object<'_>, place: &Node<'_>| -> Result<(), Refusal> {
            match member(holder, "args") {
                Some(Node::Array(array)) => splices.extend(self.list(array, arguments)?),
                Some(node) => {
                    let range = node.range();
                    splices.push(Splice::new(range.start..range.end, compact(&Value::from(arguments.to_vec()))));
                }
                // Beside the command.
                None => {
                    let end = place.range().end;
                    let member = format!("\"args\": {}", compact(&Value::from(arguments.to_vec())));
                    let is_over_lines = self.text[holder.range.start..place.range().start].contains('\n');
                    let blank = if is_over_lines {
                        format!("{}{}", line_end(self.text), self.indent(end))
                    } else {
                        " ".to_owned()
                    };
                    splices.push(Splice::new(end..end, format!(",{blank}{member}")));
                }
            }
            Ok(())
        };
        match member(entry, "command").ok_or(Refusal::Form)? {
            Node::Array(array) => {
                let words: Vec<_> = std::iter::once(command.to_owned()).chain(arguments.iter().cloned()).collect();
                self.list(array, &words)
            }
            Node::Object(inner) => {
                let path = member(inner, "path").ok_or(Refusal::Form)?;
                let mut splices = vec![replace(path)];
                list(&mut splices, inner, path)?;
                Ok(splices)
            }
            node => {
                let mut splices = vec![replace(node)];
                list(&mut splices, entry, node)?;
                // A command that grows beside a new member is one splice.
                if let [one, other] = &mut splices[..]
                    && one.range.end == other.range.start
                    && other.range.is_empty()
                {
                    one.text.push_str(&other.text);
                    splices.truncate(1);
                }
                Ok(splices)
            }
        }
    }

    /// Rewrites an array so that it has these elements. The last ones that it has already stay as they are.
    fn list(&self, array: &Array<'_>, words: &[String]) -> Result<Vec<Splice>, Refusal> {
        let texts: Option<Vec<&str>> =
            array.elements.iter().map(|node| Some(node.as_string_lit()?.value.as_ref())).collect();
        let texts = texts.ok_or(Refusal::NotText)?;
        let same = texts.iter().rev().zip(words.iter().rev()).take_while(|(old, new)| **old == new.as_str()).count();
        let (old, new) = (texts.len() - same, &words[..words.len() - same]);
        let whole = |new: &[String]| compact(&Value::from(new.to_vec()));
        let Some(first) = array.elements.first() else {
            return Ok(vec![Splice::new(array.range.start..array.range.end, whole(words))]);
        };
        let indent = self.text[array.range.start..first.range().start].contains('\n');
        let separator = if indent {
            format!(",{}{}", line_end(self.text), self.indent(first.range().start))
        } else {
            ", ".to_owned()
        };
        let new = new.iter().map(|word| quoted(word)).collect::<Vec<_>>();
        let mut splices = Vec::new();
        let gone = match (new.is_empty(), old) {
            (true, _) => 0..old,
            (false, 0) => {
                let at = first.range().start;
                let text: String = new.iter().map(|word| format!("{word}{separator}")).collect();
                return Ok(vec![Splice::new(at..at, text)]);
            }
            (false, _) => {
                let range = first.range();
                splices.push(Splice::new(range.start..range.end, new.join(&separator)));
                1..old
            }
        };
        splices.extend(self.without(array, gone));
        Ok(splices)
    }

    /// Removes elements of an array, and leaves the comments.
    fn without(&self, array: &Array<'_>, gone: Range<usize>) -> Vec<Splice> {
        let close = array.range.end - 1;
        let is_to_the_end = gone.end == array.elements.len();
        let mut splices = Vec::new();
        for index in gone.clone() {
            let range = array.elements[index].range();
            let after = self.tokens_in(range.end..close).find(|token| !is_comment(token));
            let comma = after.filter(|token| token.token == Token::Comma).map(|token| token.range);
            let end = comma.as_ref().map_or(range.end, |comma| comma.end);
            // A comment between the element and its comma stays.
            match comma {
                Some(comma) if self.text[range.end..comma.start].trim() != "" => {
                    splices.push(Splice::new(range.start..range.end, ""));
                    splices.push(Splice::new(comma.start..self.blanks(comma.end, close, false), ""));
                }
                _ => splices.push(Splice::new(range.start..self.blanks(end, close, true), "")),
            }
        }
        // The comma before the removed ones.
        if is_to_the_end && gone.start > 0 && gone.start < gone.end {
            let (from, to) = (array.elements[gone.start - 1].range().end, array.elements[gone.start].range().start);
            if let Some(comma) = self.tokens_in(from..to).find(|token| token.token == Token::Comma) {
                splices.push(Splice::new(comma.range.start..comma.range.end, ""));
            }
        }
        splices
    }

    /// Removes a member of an object, with the line that it stands on.
    fn remove(&self, object: &Object<'_>, name: &str) -> Option<Vec<Splice>> {
        let index = object.properties.iter().position(|property| property.name.as_str() == name)?;
        let range = &object.properties[index].range;
        let close = object.range.end - 1;
        let is_last = index + 1 == object.properties.len();
        let after = self.tokens_in(range.end..close).find(|token| !is_comment(token));
        let comma = after.filter(|token| token.token == Token::Comma).map(|token| token.range.end);
        let mut end = comma.unwrap_or(range.end);
        let line = self.text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        // With a comment behind it. The line before may end in a comment, too, so its end stays unless the line is empty then.
        let line_ends = self.end_of_line(end, close);
        let is_only = |at: usize| self.text[at..].trim_start_matches([' ', '\t', '\r']).starts_with('\n');
        let begins = self.text[line..range.start].trim().is_empty() && line > object.range.start;
        let stands_alone = begins && is_only(line_ends);
        let mut start = range.start;
        if stands_alone {
            end = line_ends;
            start = line - 1;
            start -= usize::from(self.text[..start].ends_with('\r'));
        } else if !is_last {
            end = self.blanks(end, close, false);
        }
        let mut splices = Vec::new();
        if is_last && comma.is_none() && index > 0 {
            let from = object.properties[index - 1].range.end;
            let comma = self.tokens_in(from..range.start).find(|token| token.token == Token::Comma)?;
            let is_beside = !stands_alone && self.text[comma.range.end..range.start].trim().is_empty();
            if is_beside {
                start = comma.range.start;
            } else if comma.range.end > start {
                // The comma stands on the line of the member.
                start = start.min(comma.range.start);
            } else {
                splices.push(Splice::new(comma.range.start..comma.range.end, ""));
            }
        } else if object.properties.len() == 1 && !stands_alone {
            let open = object.range.start + 1;
            if self.text[open..close].trim() == self.text[range.start..end].trim() {
                (start, end) = (open, close);
            }
        }
        // A member that was alone leaves no blank lines.
        if object.properties.len() == 1 && stands_alone {
            let (open, rest) = (object.range.start + 1, &self.text[end..close]);
            if self.text[open..start].trim().is_empty() && rest.trim().is_empty() {
                (start, end) = (open, close);
            }
        }
        splices.push(Splice::new(start..end, ""));
        Some(splices)
    }

    fn tokens_in(&self, range: Range<usize>) -> impl Iterator<Item = &TokenAndRange<'_>> {
        let first = self.tokens.partition_point(|token| token.range.start < range.start);
        self.tokens[first..].iter().take_while(move |token| token.range.start < range.end)
    }

    /// Returns where the line ends on which `at` is, behind its comments but before `close`.
    fn end_of_line(&self, at: usize, close: usize) -> usize {
        let mut end = at;
        for token in self.tokens_in(at..close) {
            if !is_comment(token) || self.text[end..token.range.start].contains('\n') {
                break;
            }
            end = token.range.end;
        }
        // The parser counts the end of a line to its comment, or does not.
        let comment = &self.text[at..end];
        at + comment.trim_end_matches(['\r', '\n']).len()
    }

    /// Returns where the blanks end that begin at `at`. `lines`: also those of the lines below.
    fn blanks(&self, at: usize, close: usize, lines: bool) -> usize {
        let rest = &self.text[at..close];
        let same_line = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let all = rest.len() - rest.trim_start().len();
        let is_end = rest.trim_start().is_empty();
        at + if lines && !is_end { all } else { same_line }
    }

    /// The indentation of the line on which `at` is.
    fn indent(&self, at: usize) -> String {
        let line = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        self.text[line..].chars().take_while(|one| *one == ' ' || *one == '\t').collect()
    }

    /// What a level has more than the one around it: the first indented line shows it.
    fn inner(&self) -> String {
        let mut lines = self.text.lines().skip(1);
        let first = lines.find(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
        let indent = first.map(|line| line.chars().take_while(|one| *one == ' ' || *one == '\t').collect::<String>());
        indent.unwrap_or_else(|| INDENT.to_owned())
    }

    /// The layout of an object whose member at `at` has a line of its own.
    fn layout(&self, object: &Object<'_>, at: usize) -> Layout {
        let line_end = line_end(self.text);
        let (outer, indent) = (self.indent(object.range.start), self.indent(at));
        match indent.strip_prefix(&outer) {
            Some(inner) if !inner.is_empty() => Layout { line_end, inner: inner.to_owned(), outer },
            // Members are not indented: what is inside of them is.
            _ => Layout { line_end, outer: indent, inner: String::new() },
        }
    }
}

fn is_comment(token: &TokenAndRange<'_>) -> bool {
    matches!(token.token, Token::CommentLine(_) | Token::CommentBlock(_))
}
