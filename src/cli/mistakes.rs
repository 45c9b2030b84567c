//! Arguments that cannot be understood, each told in one sentence that says what to write instead.
//!
//! # Invariants
//!
//! - A value that may be a piece of a secret is not shown, such as what a host has cut off a header.

use std::{borrow::Cow, error::Error, ffi::OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Verb;
use crate::{
    report::{Code, Report, catalogue::SPELL_VARIABLE},
    text::printable,
};

const COMMAND_FIRST: &str =
    "the server's address comes first; only a command goes before it: mcp-remote login https://example.com/mcp";

/// What is wrong, and as which failure of the catalogue it is told.
#[derive(Debug)]
pub(super) struct Mistake {
    code: Code,
    sentence: String,
    /// What to do, if that is more exact than what the catalogue says.
    tip: Option<&'static str>,
}

impl Mistake {
    /// The host has cut or quoted the arguments.
    pub(super) fn mangled(sentence: impl Into<String>) -> Self {
        Self { code: Code::MangledArguments, sentence: sentence.into(), tip: None }
    }

    /// A variable that an argument names does not reach us.
    pub(super) fn not_set(place: &str, variable: &str) -> Self {
        match variable {
            // The default may be a secret, and is not shown.
            variable if variable.contains(":-") => return Self::other_spelling(place, "${NAME:-DEFAULT}"),
            variable if !is_name(variable) => return Self::other_spelling(place, "${env:NAME}"),
            _ => {}
        }
        let sentence = format!("{place} names the environment variable {variable}, which is not set");
        Self { code: Code::VariableNotSet, sentence, tip: None }
    }

    /// A placeholder is spelled as another program wants it.
    pub(super) fn other_spelling(place: &str, spelling: &str) -> Self {
        let sentence = format!("{place} has a placeholder of the form {spelling}, which mcp-remote does not replace");
        Self { code: Code::VariableNotSet, sentence, tip: Some(SPELL_VARIABLE) }
    }

    /// A variable that an argument names is there and empty.
    pub(super) fn empty(place: &str, variable: &str) -> Self {
        let sentence = format!("{place} names the environment variable {variable}, which is empty");
        Self { code: Code::VariableNotSet, sentence, tip: None }
    }

    pub(super) fn report(self) -> Report {
        Report::new(self.code, printable(&self.sentence), self.tip)
    }
}

impl From<String> for Mistake {
    fn from(sentence: String) -> Self {
        Self { code: Code::BadArguments, sentence, tip: None }
    }
}

/// Returns whether this is the name of a variable (POSIX, Base Definitions, §8.1).
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|one: char| one.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Says so where the first word looks like a command and is none here. It is not shown: it might be a
/// piece of a header that a host has cut.
pub(super) fn no_command(arguments: &[OsString]) -> Option<String> {
    let word = arguments.first()?.to_str()?;
    if word.starts_with('-') || !word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
        return None;
    }
    let commands = clap::Command::new("mcp-remote").no_binary_name(true);
    let commands = commands.subcommands(Verb::NAMED.map(|(name, _)| clap::Command::new(name)));
    let nearest = match commands.try_get_matches_from([word]) {
        Ok(matches) => matches.subcommand_name()?.to_owned(),
        Err(error) => match error.get(ContextKind::SuggestedSubcommand)? {
            ContextValue::Strings(names) => names.last()?.clone(),
            _ => return None,
        },
    };
    // clap's measure alone takes `localhost` for `logout`.
    let near = nearest.len().abs_diff(word.len()) <= 2;
    let (_, meant) = Verb::NAMED.into_iter().find(|(name, _)| near && *name == nearest)?;
    let meant = meant.name();
    Some(format!("the first argument is neither a server's address nor a command here; did you mean {meant}?"))
}

/// Signs of a host that splits or quotes arguments badly.
#[derive(Clone, Copy)]
pub(super) enum Mangled {
    /// A header's value ended up outside of it.
    Split,
    /// Quotes that a shell would have taken.
    Quoted,
}

pub(super) fn mangled(arguments: &[OsString]) -> Option<Mangled> {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let cut = |pair: &[Cow<'_, str>]| pair[0] == "--header" && pair[1].ends_with(':');
    if texts.windows(2).any(cut) {
        return Some(Mangled::Split);
    }
    let stray = |text: &Cow<'_, str>| {
        let quotes = text.matches('"').count();
        (text.starts_with('"') || text.ends_with('"')) && !text.starts_with('{') && quotes % 2 == 1
    };
    texts.iter().any(stray).then_some(Mangled::Quoted)
}

/// A whole command line in the place of the address. What is wrong is said without the text: it may
/// hold a secret.
pub(super) fn glued(url: &str) -> Option<Mistake> {
    if url.contains(char::is_whitespace) {
        Some(Mistake::mangled("the server's address contains a space"))
    } else if url.starts_with(['"', '\'']) || url.ends_with(['"', '\'']) {
        Some(Mistake::mangled("the server's address has quotes around it"))
    } else if Verb::NAMED.iter().any(|(name, _)| *name == url) {
        Some(COMMAND_FIRST.to_owned().into())
    } else {
        None
    }
}

/// What clap found.
pub(super) fn mistake(error: &clap::Error, verb: Verb, mangled: Option<Mangled>) -> Mistake {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    // Without the value's name, and the address as one speaks of it.
    let flag = |argument: &str| match argument.split([' ', '=']).next().unwrap_or_default() {
        "[SERVER-URL]" | "<SERVER-URL>" => "a server's address".to_owned(),
        flag => flag.to_owned(),
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let mut cut = mangled.is_some();
    let told = match error.kind() {
        // What is left of `npx -y mcp-remote URL`, with our path in the place of npx.
        ErrorKind::UnknownArgument if argument == "-y" => {
            "unknown flag -y, which is npx's: leave out \"-y\" and \"mcp-remote\" before the server's address"
                .to_owned()
        }
        // `"--header Authorization:…"`. What follows the name is not shown.
        ErrorKind::UnknownArgument if argument.starts_with('-') && argument.contains([' ', ':']) => {
            cut = true;
            let name = argument.split([' ', ':']).next().unwrap_or_default();
            format!("{name} and its value are one argument")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => match context(ContextKind::SuggestedArg) {
            Some(nearest) => format!("unknown flag {argument}; did you mean {nearest}?"),
            None => format!("unknown flag {argument}; {} --help lists them all", verb.name()),
        },
        // Not shown: the redirect holds the authorization code.
        ErrorKind::UnknownArgument if verb == Verb::Finish => {
            "the redirected address must not be an argument, which every program can read: start \
             mcp-remote-client finish alone, it asks for it"
                .to_owned()
        }
        // Not shown: it may be what a host has cut off a header, and a secret.
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            cut = true;
            "unexpected argument after the server's address".to_owned()
        }
        ErrorKind::MissingRequiredArgument if argument.contains("SERVER-URL") => {
            let or = if verb == Verb::Logout { ", or --all" } else { "" };
            format!("the server's address is missing: {} https://example.com/mcp{or}", verb.name())
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<_> = argument.split(", ").map(flag).collect();
            let (are, them) = if missing.len() == 1 { ("is", "it") } else { ("are", "them") };
            format!("{} {are} missing: another flag needs {them}", missing.join(" and "))
        }
        ErrorKind::ArgumentConflict => {
            let prior = context(ContextKind::PriorArg).unwrap_or_default();
            format!("{} cannot be used with {}", flag(&argument), flag(&prior))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let why = match (context(ContextKind::ValidValue), error.source()) {
                (Some(valid), _) => format!("must be one of {valid}"),
                (None, Some(why)) => why.to_string(),
                (None, None) => "is not valid".to_owned(),
            };
            match (value.is_empty(), &*flag(&argument)) {
                (true, flag) => format!("{flag} needs a value"),
                (false, "[CALLBACK-PORT]") if value.contains("://") || verb.then(&value).is_some() => {
                    COMMAND_FIRST.to_owned()
                }
                (false, "[CALLBACK-PORT]") => {
                    cut = true;
                    "the second argument is no callback port (1 to 65535)".to_owned()
                }
                (false, flag) => format!("{flag} {value:?} {why}"),
            }
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let told = match mangled {
        Some(Mangled::Split) => format!("{told}; a header has lost its value"),
        Some(Mangled::Quoted) => format!("{told}; there are stray quotes among the arguments"),
        None => told,
    };
    if cut { Mistake::mangled(told) } else { told.into() }
}
