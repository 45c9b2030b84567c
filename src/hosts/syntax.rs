//! The syntax of configuration files: what each host reads, and in plain words what is wrong with a file.
//!
//! JSON (RFC 8259), JSON with what some hosts allow beyond it, and TOML 1.1.
//!
//! # Invariants
//!
//! - No text of a file is shown, except an escape that JSON does not have.

use jsonc_parser::{
    CollectOptions, ParseOptions, ParseStringErrorKind,
    errors::{ParseError, ParseErrorKind},
    parse_to_ast,
};
use serde_json::{Map, Value};
use toml_edit::{Item, TableLike};

use super::Syntax;

/// Why a file is not what its host reads.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) reason: String,
    /// What to do, as a command.
    pub(crate) tip: String,
}

/// Reads a file as its host does. A byte order mark is not part of the text.
///
/// # Errors
/// [`Invalid`], where the host cannot read the file either. YAML is not read.
pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Value, Invalid> {
    match syntax {
        Syntax::Toml => parse_toml(text),
        _ => parse_json(text, syntax),
    }
}

/// Returns what a host accepts beyond JSON.
pub(crate) fn options(syntax: Syntax) -> ParseOptions {
    ParseOptions {
        allow_comments: syntax != Syntax::Json,
        allow_trailing_commas: syntax == Syntax::Jsonc,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn parse_json(text: &str, syntax: Syntax) -> Result<Value, Invalid> {
    let options = options(syntax);
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| invalid(text, &error))?;
    let value = parsed.value.map_or(Value::Null, Value::from);
    match serde_json::from_str::<Value>(text) {
        // What the other parser accepts and JSON does not have.
        Err(error) if syntax == Syntax::Json => {
            let reason = if error.to_string().starts_with("control character") {
                "a line break or a tab inside a string"
            } else {
                "the text here is not JSON"
            };
            let tip = "correct the file at that place".to_owned();
            Err(Invalid { line: error.line(), column: error.column(), reason: reason.to_owned(), tip })
        }
        _ => Ok(value),
    }
}

/// Returns the place and the reason in plain words.
fn invalid(text: &str, error: &ParseError) -> Invalid {
    use ParseErrorKind as Kind;
    let (line, column) = (error.line_display(), error.column_display());
    let at = |reason: &str, tip: &str| Invalid { line, column, reason: reason.to_owned(), tip: tip.to_owned() };
    match error.kind() {
        Kind::CommentsNotAllowed => at("a comment, which this host does not accept", "remove the comment"),
        Kind::TrailingCommasNotAllowed => {
            at("a comma before a closing bracket, which this host does not accept", "remove the comma")
        }
        Kind::ExpectedComma => at("a comma is missing here", "write a comma there"),
        Kind::ExpectedColonAfterObjectKey => at("a colon is missing after a name", "write a colon there"),
        Kind::ExpectedObjectValue => at("a value is missing after a colon", "write the value there"),
        Kind::ExpectedStringObjectProperty | Kind::UnexpectedTokenInObject => {
            at("a name in double quotes is missing", "write the name in double quotes")
        }
        Kind::SingleQuotedStringsNotAllowed => {
            at("single quotes, which JSON does not have", "write double quotes instead")
        }
        Kind::String(ParseStringErrorKind::UnterminatedStringLiteral) => {
            at("a string has no closing quote", "write the closing quote")
        }
        Kind::String(_) => bad_escape(text, error),
        Kind::UnterminatedObject => at("a closing } is missing for this {", "write the closing }"),
        Kind::UnterminatedArray => at("a closing ] is missing for this [", "write the closing ]"),
        Kind::UnterminatedCommentBlock => at("a comment has no end", "write */ at its end"),
        Kind::UnexpectedCloseBrace | Kind::UnexpectedCloseBracket => {
            at("a closing bracket in the wrong place", "check the brackets and the values before it")
        }
        Kind::UnexpectedComma => at("a comma with no value before it", "remove the comma"),
        Kind::UnexpectedColon => at("a colon in the wrong place", "remove the colon"),
        Kind::UnexpectedToken if text[error.range().start..].starts_with(['“', '”', '„']) => {
            at("curly quotes, which JSON does not have", "write straight double quotes instead: \"")
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken if text[error.range().start..].starts_with(char::is_control) => {
            at("a control character, which JSON does not allow", "remove it")
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken => {
            at("text without double quotes", "write the text in double quotes")
        }
        Kind::MultipleRootJsonValues => {
            at("text after the end of the JSON value", "put everything into one pair of { and }")
        }
        _ => at("the text here is not JSON", "correct the file at that place"),
    }
}

fn parse_toml(text: &str) -> Result<Value, Invalid> {
    match toml_edit::Document::parse(text) {
        Ok(document) => Ok(table(document.as_table())),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let before = text.get(..at).unwrap_or_default();
            let (reason, tip) = if error.message().contains("duplicate key") {
                ("this name is there twice, which TOML does not allow", "remove or rename one of the two")
            } else {
                ("the text here is not TOML", "correct the file at that place")
            };
            Err(Invalid {
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
                reason: reason.to_owned(),
                tip: tip.to_owned(),
            })
        }
    }
}

fn table(table: &dyn TableLike) -> Value {
    table.iter().map(|(name, item)| (name.to_owned(), item_value(item))).collect::<Map<_, _>>().into()
}

fn item_value(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => toml_value(value),
        Item::Table(inner) => table(inner),
        Item::ArrayOfTables(tables) => tables.iter().map(|inner| table(inner)).collect(),
    }
}

fn toml_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(is) => Value::from(*is.value()),
        // A string says as much as serde_json can hold.
        toml_edit::Value::Datetime(time) => Value::from(format!("{time:?}")),
        toml_edit::Value::Array(items) => items.iter().map(toml_value).collect(),
        toml_edit::Value::InlineTable(inner) => table(inner),
    }
}

/// Windows paths are the common case: `\U` of `C:\Users`.
fn bad_escape(text: &str, error: &ParseError) -> Invalid {
    // The parser names the escape, or the string that it is in.
    let begin = error.range().start.min(text.len());
    let rest = text.get(begin..).unwrap_or_default();
    let (skipped, escape) = first_bad_escape(rest);
    let before = &text[..begin + skipped];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let reason = format!("{escape} is not an escape that JSON has");
    let tip = format!(r#"write each backslash of a path twice: \{escape} instead of {escape}, as in "C:\\Users\\…""#);
    Invalid { line, column, reason, tip }
}

/// Returns where the first escape begins that JSON (RFC 8259 §7) does not have, and its backslash and letter.
fn first_bad_escape(text: &str) -> (usize, String) {
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let start = at + found;
        let mut after = text[start + 1..].chars();
        let Some(letter) = after.next() else { break };
        let is_known = match letter {
            'u' => after.clone().take(4).filter(char::is_ascii_hexdigit).count() == 4,
            _ => r#""\/bfnrt"#.contains(letter),
        };
        if !is_known {
            return (start, format!("\\{letter}"));
        }
        at = start + 1 + letter.len_utf8();
    }
    (0, "\\".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_accepts_what_its_host_reads() {
        let comment = "\u{feff}{ // one\n \"a\": \"http://x/*y*/\\\"//\", /* two\n // */ \"b\": [1, 2]}";
        let comma = r#"{"a": [1, 2,],}"#;
        let parse = |text: &str, syntax| parse(text.trim_start_matches('\u{feff}'), syntax);
        let expected = serde_json::json!({"a": "http://x/*y*/\"//", "b": [1, 2]});
        assert_eq!(parse(comment, Syntax::Jsonc).unwrap(), expected);
        assert_eq!(parse(comment, Syntax::Comments).unwrap(), expected);
        assert_eq!(parse(comma, Syntax::Jsonc).unwrap(), serde_json::json!({"a": [1, 2]}));
        for (text, syntax) in [(comment, Syntax::Json), (comma, Syntax::Json), (comma, Syntax::Comments)] {
            assert!(parse(text, syntax).unwrap_err().reason.ends_with("which this host does not accept"), "{text}");
        }
    }

    #[test]
    fn invalid_json_has_place_and_reason() {
        for (text, line, column, reason, tip) in [
            ("{\n  \"a\": 1,\n}", 2, 9, "a comma before a closing bracket", "remove the comma"),
            ("{\n  // b\n}", 2, 3, "a comment, which", "remove the comment"),
            ("{\"a\": 1\n \"b\": 2}", 1, 8, "a comma is missing", "write a comma"),
            ("{\"a\" 1}", 1, 6, "a colon is missing", "write a colon"),
            ("{'a': 1}", 1, 2, "single quotes", "double quotes"),
            ("{\"a\": [1}", 1, 9, "a closing bracket in the wrong place", "brackets"),
            ("{\"a\": b}", 1, 7, "text without double quotes", "in double quotes"),
            ("{\"a\": “b”}", 1, 7, "curly quotes", "straight double quotes"),
            ("{\"a\": {\"b\": 1}", 1, 1, "a closing } is missing", "write the closing }"),
            ("{\"a\": \"b}", 1, 7, "a string has no closing quote", "closing quote"),
            ("{\"a\": \"b\tc\"}", 1, 9, "a line break or a tab inside a string", "correct"),
            ("{\"a\": 1}\0", 1, 9, "a control character", "remove it"),
            ("{\"a\": 1} {}", 1, 10, "text after the end", "one pair"),
            (
                "{\n \"command\": \"C:\\\\x\\Users\\me\"}",
                2,
                19,
                r"\U is not an escape that JSON has",
                r#"write each backslash of a path twice: \\U instead of \U, as in "C:\\Users\\…""#,
            ),
            ("{\"a\": \"C:\\new\\users\"}", 1, 14, r"\u is not an escape", r"\\u instead of \u"),
        ] {
            let invalid = parse(text, Syntax::Json).unwrap_err();
            assert_eq!((invalid.line, invalid.column), (line, column), "{text}: {}", invalid.reason);
            assert!(invalid.reason.contains(reason) && invalid.tip.contains(tip), "{text}: {invalid:?}");
        }
    }

    #[test]
    fn toml_is_read_as_the_same_tree() {
        let text = "a = 1\n[mcp_servers.x] # c\ncommand = 'c'\nargs = [\"a\", \"b\"]\nenv = { K = \"v\" }\non = true\n";
        let expected = serde_json::json!({
            "a": 1, "mcp_servers": {"x": {"command": "c", "args": ["a", "b"], "env": {"K": "v"}, "on": true}},
        });
        assert_eq!(parse(text, Syntax::Toml).unwrap(), expected);
        let invalid = parse("a = 1\nb = = 2\n", Syntax::Toml).unwrap_err();
        assert_eq!((invalid.line, invalid.column), (2, 5));
        let invalid = parse("[a.b]\nc = 1\n[a.b]\n", Syntax::Toml).unwrap_err();
        assert_eq!((invalid.line, &*invalid.reason), (3, "this name is there twice, which TOML does not allow"));
    }
}
