//! `call` and `read` of `mcp-remote client`: what is wrong with the way in which they are written.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{
    Verb,
    mistakes::{Mistake, is_plain_word},
};

const CALL: &str = "call TOOL KEY=VALUE";
const READ: &str = "read URI";

/// Returns the report of an action before the server URL, and of flags after the action.
fn misplaced() -> Mistake {
    Mistake::new(
        "'call TOOL KEY=VALUE' and 'read URI' come after the server URL and the flags",
        "write one of them last: mcp-remote client https://example.com/mcp call TOOL KEY=VALUE",
    )
}

fn position(arguments: &[OsString]) -> Option<usize> {
    arguments.iter().position(|word| word == "call" || word == "read")
}

/// Returns what is wrong if neither a server URL nor an entry stands before the action.
pub(super) fn without_server(arguments: &[OsString]) -> Mistake {
    let at = position(arguments).unwrap_or_default();
    let is_url = |word: &OsString| {
        word.to_str().is_some_and(|word| ["https://", "http://"].iter().any(|scheme| word.starts_with(scheme)))
    };
    if arguments[at..].iter().any(is_url) {
        return misplaced();
    }
    let form = if arguments.get(at).is_some_and(|word| word == "read") { READ } else { CALL };
    Mistake::new("the server URL is missing", format!("add it: {} {form}", Verb::Client.example()))
}

/// Returns what is wrong about `call` and `read`, if it is about them.
pub(super) fn mistake(verb: Verb, arguments: &[OsString], error: &clap::Error) -> Option<Mistake> {
    let at = position(arguments).filter(|_| verb == Verb::Client)?;
    let before = &arguments[..at];
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => name.clone(),
        Some(ContextValue::Strings(names)) => names.join(" "),
        _ => String::new(),
    };
    let argument = context(ContextKind::InvalidArg);
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let is_about = match error.kind() {
        // What stands before the action is another mistake.
        ErrorKind::UnknownArgument => {
            error.get(ContextKind::SuggestedArg).is_none()
                && !before.iter().any(|word| word.to_string_lossy().starts_with(&argument))
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            ["TOOL", "URI", "KEY=VALUE"].iter().any(|name| argument.contains(name))
        }
        _ => false,
    };
    if !is_about {
        return None;
    }
    Some(if is_unknown && argument.starts_with('-') {
        misplaced()
    } else if before.iter().all(|word| word.to_string_lossy().starts_with('-')) {
        without_server(arguments)
    } else if is_unknown {
        Mistake::new("'read' takes one URI", "if the URI has a space, quote it: read \"URI\"")
    } else if argument.contains("TOOL") {
        Mistake::new("'call' needs the name of a tool", format!("add it: {CALL}"))
    } else if argument.contains("URI") {
        Mistake::new("'read' needs a URI", format!("add it: {READ}"))
    } else {
        let word = context(ContextKind::InvalidValue);
        match is_plain_word(&word) {
            true => Mistake::new(format!("'{word}' is not KEY=VALUE"), format!("write {word}=VALUE")),
            false => Mistake::new("an argument of the tool is not KEY=VALUE", format!("write it so: {CALL}")),
        }
    })
}
