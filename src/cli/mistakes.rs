//! Arguments that cannot be understood: what is wrong in one sentence, and a tip with the text to type.
//!
//! # Invariants
//!
//! - A value that may be a piece of a secret is not shown, such as what a host has cut off a header.

use std::{borrow::Cow, error::Error, ffi::OsString, io, path::Path};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use reqwest::Url;

use super::{Verb, suggestions};
use crate::{
    config::is_loopback,
    report::{
        Code, Report,
        catalogue::{LEAVE_OUT_NPX, SPELL_VARIABLE},
    },
    text::{self, printable},
};

/// What a person types who starts a command and is not the host.
const QUOTE_VALUES: &str = "quote a value that has a space: --header \"Authorization:Bearer KEY\"";
const NEITHER: &str = "the first argument is neither a server URL nor a command";

/// What is wrong, and as which failure of the catalogue it is reported.
#[derive(Debug)]
pub(super) struct Mistake {
    code: Code,
    sentence: String,
    /// What to do. Without it, the catalogue says it, except for [`Code::BadArguments`].
    tip: Option<Cow<'static, str>>,
}

impl Mistake {
    /// A mistake with a tip.
    pub(super) fn new(sentence: impl Into<String>, tip: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::BadArguments, sentence: sentence.into(), tip: Some(tip.into()) }
    }

    /// The host has cut or quoted the arguments.
    pub(super) fn mangled(sentence: impl Into<String>) -> Self {
        Self { code: Code::MangledArguments, sentence: sentence.into(), tip: None }
    }

    /// A variable that an argument names does not reach this program.
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
        Self { code: Code::VariableNotSet, sentence, tip: Some(SPELL_VARIABLE.into()) }
    }

    /// A variable that an argument names is there and empty.
    pub(super) fn empty(place: &str, variable: &str) -> Self {
        let sentence = format!("{place} names the environment variable {variable}, which is empty");
        Self { code: Code::VariableNotSet, sentence, tip: None }
    }

    pub(super) fn report(self) -> Report {
        let mut report = Report::new(self.code, printable(&self.sentence), None);
        if self.tip.is_some() || self.code == Code::BadArguments {
            report.hint = self.tip.map(|tip| printable(&tip));
        }
        report
    }
}

/// Returns the one form for every file that cannot be read.
pub(super) fn unreadable(flag: &str, path: &Path, error: &io::Error) -> Mistake {
    let sentence = match error.kind() {
        io::ErrorKind::InvalidData => format!("cannot read {} ({flag}): it is not text in UTF-8", path.display()),
        _ => text::cannot_read(path, Some(flag), error),
    };
    let is_relative = error.kind() == io::ErrorKind::NotFound && !path.is_absolute();
    match is_relative {
        true => Mistake::new(sentence, "write the absolute path, because a host may start mcp-remote in any folder"),
        false => sentence.into(),
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

/// Returns what is wrong if the first argument looks like a command and is not one after `verb`.
pub(super) fn no_command(verb: Verb, arguments: &[OsString]) -> Option<Mistake> {
    let word = arguments.first()?.to_str()?;
    if word.starts_with('-') || !word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
        return None;
    }
    if verb == Verb::Client && ["call", "read"].contains(&word) {
        return None;
    }
    if let Some(mistake) = word_of_other_programs(word) {
        return Some(mistake);
    }
    let commands = clap::Command::new("mcp-remote").no_binary_name(true).disable_help_subcommand(true);
    let commands = commands.subcommands(Verb::NAMED.map(|(name, _)| clap::Command::new(name)));
    let nearest = match commands.try_get_matches_from([word]) {
        Ok(matches) => matches.subcommand_name()?.to_owned(),
        Err(error) => match error.get(ContextKind::SuggestedSubcommand)? {
            ContextValue::Strings(names) => names.last()?.clone(),
            _ => return None,
        },
    };
    // clap's measure alone takes `localhost` for `logout`, and `example` for `explain`.
    let near = different_letters(&nearest, word) <= 2;
    let (name, meant) = Verb::NAMED.into_iter().find(|(name, _)| near && *name == nearest)?;
    let command = if name == "mcp-remote-client" { name } else { meant.name() };
    // The word is not shown, because it may be a piece of a header that a host has cut.
    Some(Mistake::new(NEITHER, format!("a similar command exists: '{command}'")))
}

/// Returns how many letters only one of two words has. Two letters in the wrong order count nothing.
fn different_letters(one: &str, other: &str) -> usize {
    let count = |word: &str, letter| word.bytes().filter(|byte| *byte == letter).count();
    (0..=u8::MAX).map(|letter| count(one, letter).abs_diff(count(other, letter))).sum()
}

fn word_of_other_programs(word: &str) -> Option<Mistake> {
    let tip = suggestions::for_word(&word.to_ascii_lowercase())?;
    Some(Mistake::new(format!("unrecognized command '{word}'"), tip))
}

/// Signs of a host that splits or quotes arguments badly.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mangled {
    /// A header's value ended up outside of it.
    Split,
    /// Quotes that a shell would have taken.
    Quoted,
}

fn mangled(arguments: &[OsString]) -> Option<Mangled> {
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

/// Returns what is wrong with a text that cannot be a server URL. The text is not shown as it is, because it may hold a
/// secret.
pub(super) fn no_url(text: &str) -> Option<Mistake> {
    let trimmed = text.trim();
    if trimmed.len() != text.len() && !trimmed.is_empty() && !trimmed.contains(char::is_whitespace) {
        let place = if text.starts_with(char::is_whitespace) { "begins" } else { "ends" };
        Some(Mistake::new(format!("the server URL {place} with a space"), "remove it"))
    } else if text.contains(char::is_whitespace) {
        Some(Mistake::mangled("the server URL contains a space"))
    } else if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        Some(Mistake::mangled("the server URL has quotes around it"))
    } else if text.starts_with('<') || text.ends_with('>') {
        Some(Mistake::new("the server URL has < and > around it", "remove < and >"))
    } else if Verb::NAMED.iter().any(|(name, _)| *name == text) {
        Some(command_late(text))
    } else if let Some(url) = with_one_slash(text) {
        let tip = format!("did you mean {}?", text::url(&url));
        Some(Mistake::new("the server URL has one slash after the scheme, and needs two", tip))
    } else if text.contains("://") || text.starts_with('{') {
        None
    } else if let Some(url) = with_scheme(text) {
        Some(Mistake::new("the server URL has no scheme", format!("did you mean {}?", text::url(&url))))
    } else {
        let tip = "begin the server URL with https://, or see the commands: mcp-remote -h";
        Some(word_of_other_programs(text).unwrap_or_else(|| Mistake::new(NEITHER, tip)))
    }
}

/// Returns the URL that is meant by `http:/example.com`.
fn with_one_slash(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once(":/").filter(|(scheme, _)| ["http", "https"].contains(scheme))?;
    if rest.starts_with('/') { None } else { Url::parse(&format!("{scheme}://{rest}")).ok() }
}

/// Returns whether a word is too short and too plain for a secret.
pub(super) fn is_plain_word(word: &str) -> bool {
    const LONGEST: usize = 30;
    (1..=LONGEST).contains(&word.len())
        && !text::is_key(word)
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || [b'-', b'_'].contains(&byte))
}

/// Returns whether a word can be shown that stands where a server URL must be. What follows the value of a flag may be the
/// rest of a header that a host has cut.
fn is_shown(word: &str, arguments: &[OsString]) -> bool {
    let before = match arguments.iter().position(|argument| argument == word) {
        Some(0) => return is_plain_word(word),
        Some(at) => arguments[at - 1].to_string_lossy(),
        None => return false,
    };
    before.starts_with("--") && !before.contains(['=', ':', ' ']) && is_plain_word(word)
}

/// Returns what is wrong if a command that the user types has a word instead of a server URL.
pub(super) fn no_server(verb: Verb, word: &str, arguments: &[OsString]) -> Option<Mistake> {
    let is_other = Verb::NAMED.iter().any(|(name, _)| *name == word) || suggestions::for_word(word).is_some();
    if verb == Verb::Forward || is_other || !is_shown(word, arguments) || with_scheme(word).is_some() {
        return None;
    }
    let tip = match verb {
        Verb::Client => format!("to test the entry \"{word}\": mcp-remote client --entry {word}"),
        _ => format!("write the whole server URL: {} https://example.com/mcp", verb.name()),
    };
    Some(Mistake::new(format!("'{word}' is not a server URL"), tip))
}

/// Returns what is wrong if a long flag has one dash only.
pub(super) fn one_dash(verb: Verb, arguments: &[OsString]) -> Option<Mistake> {
    let command = verb.command();
    let mut names = arguments.iter().filter_map(|word| word.to_str()?.strip_prefix('-')?.split('=').next());
    let name = names.find(|name| command.get_arguments().any(|flag| flag.get_long() == Some(name)))?;
    Some(Mistake::new(format!("unexpected argument '-{name}' found"), format!("write two dashes: --{name}")))
}

/// Returns the URL that is meant by a text without a scheme: a host that can be one, perhaps a port and a path.
fn with_scheme(text: &str) -> Option<Url> {
    let text = text.trim_start_matches('/');
    let url = Url::parse(&format!("https://{text}")).ok()?;
    let host = url.host_str()?;
    let is_local = is_loopback(&url);
    // The last label of a name on the internet has letters only. A token with dots has others there.
    let is_public = host.rsplit_once('.').is_some_and(|(name, last)| {
        !name.is_empty() && (2..=24).contains(&last.len()) && last.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    // The URL standard reads a number as an IPv4 address.
    let is_address = host.starts_with('[') || text.contains('.') && host.parse::<std::net::Ipv4Addr>().is_ok();
    if !(is_local || is_public || is_address || url.port().is_some()) {
        return None;
    }
    if is_local { Url::parse(&format!("http://{text}")).ok() } else { Some(url) }
}

fn command_late(name: &str) -> Mistake {
    let tip = match Verb::NAMED.into_iter().find(|(named, _)| *named == name) {
        Some((_, verb)) => format!("begin with the command: {}", verb.example()),
        None => "begin with the command: mcp-remote login https://example.com/mcp".to_owned(),
    };
    Mistake::new(format!("the command '{name}' must be the first argument"), tip)
}

/// Returns what clap found.
pub(super) fn mistake(error: &clap::Error, verb: Verb, arguments: &[OsString]) -> Mistake {
    let mangled = mangled(arguments);
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let found = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let nearest = context(ContextKind::SuggestedArg);
            one_dash(verb, arguments).unwrap_or_else(|| unknown_flag(&argument, verb, nearest))
        }
        // Not shown: the redirect holds the authorization code.
        ErrorKind::UnknownArgument if verb == Verb::Finish => Mistake::new(
            "the redirected URL must not be an argument, because other programs can read arguments",
            "start the command alone, and paste the URL when it asks: mcp-remote finish",
        ),
        // Not shown: it may be what a host has cut off a header, and a secret.
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            Mistake::mangled("unexpected argument after the server URL")
        }
        ErrorKind::MissingRequiredArgument if argument.contains("SERVER-URL") => {
            let or = if verb == Verb::Logout { ", or --all" } else { "" };
            Mistake::new("the server URL is missing", format!("add it{or}: {}", verb.example()))
        }
        ErrorKind::MissingRequiredArgument if argument.contains("SHELL") => {
            Mistake::new("the shell is missing", format!("add it: {}", verb.example()))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<_> = argument.split(", ").map(flag).collect();
            let (are, them) = if missing.len() == 1 { ("is", "it") } else { ("are", "them") };
            format!("{} {are} missing, and another flag needs {them}", missing.join(" and ")).into()
        }
        ErrorKind::ArgumentConflict => {
            let prior = context(ContextKind::PriorArg).unwrap_or_default();
            format!("{} cannot be used with {}", flag(&argument), flag(&prior)).into()
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if value.is_empty() => {
            format!("{} needs a value", shown(&argument)).into()
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if argument == "[CALLBACK-PORT]" => {
            no_port(&value, verb, arguments)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let sentence = format!("invalid value '{value}' for {}", shown(&argument));
            match (context(ContextKind::ValidValue), error.source()) {
                (Some(valid), _) => Mistake::new(sentence, format!("use one of {valid}")),
                (None, Some(why)) => format!("{sentence}: {why}").into(),
                (None, None) => sentence.into(),
            }
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned().into(),
    };
    let found = match mangled {
        Some(Mangled::Split) => found.with_sign("a header has lost its value"),
        Some(Mangled::Quoted) => found.with_sign("the arguments have stray quotes"),
        None => found,
    };
    // Only a host's settings have "args" and "env", of which the catalogue's tip speaks.
    if verb != Verb::Forward && found.code == Code::MangledArguments && found.tip.is_none() {
        return Mistake { tip: Some(QUOTE_VALUES.into()), ..found };
    }
    found
}

impl Mistake {
    /// Adds a sign of bad splitting or quoting. The host is then the likely cause, unless there is a better tip.
    fn with_sign(self, sign: &str) -> Self {
        let code = if self.tip.is_none() { Code::MangledArguments } else { self.code };
        Self { code, sentence: format!("{}, and {sign}", self.sentence), tip: self.tip }
    }
}

/// Returns an argument's name without its value.
fn flag(argument: &str) -> String {
    match argument.split([' ', '=']).next().unwrap_or_default() {
        "[SERVER-URL]" | "<SERVER-URL>" => "a server URL".to_owned(),
        flag => flag.to_owned(),
    }
}

/// Returns an argument as clap shows it.
fn shown(argument: &str) -> String {
    format!("'{argument}'")
}

fn unknown_flag(argument: &str, verb: Verb, nearest: Option<String>) -> Mistake {
    // `"--header Authorization:…"`. What follows the name is not shown.
    if argument.contains([' ', ':']) {
        let name = argument.split([' ', ':']).next().unwrap_or_default();
        return Mistake::mangled(format!("{name} and its value are one argument"));
    }
    let sentence = format!("unexpected argument '{argument}' found");
    // What is left of `npx -y mcp-remote URL`, with the path of this program instead of npx.
    if argument == "-y" {
        return Mistake::new(format!("{sentence}: it belongs to npx"), LEAVE_OUT_NPX);
    }
    if argument == "--entry" {
        return Mistake::new(
            sentence,
            match verb {
                Verb::Forward => "test the entry: mcp-remote client --entry NAME",
                _ => "this command does not read entries: copy the server URL and the flags of the entry",
            },
        );
    }
    if let Some((reason, tip)) = suggestions::for_flag(argument, verb == Verb::Client) {
        return Mistake::new(sentence + reason, tip);
    }
    match nearest {
        Some(nearest) => Mistake::new(sentence, format!("a similar argument exists: '{nearest}'")),
        None => sentence.into(),
    }
}

fn no_port(value: &str, verb: Verb, arguments: &[OsString]) -> Mistake {
    /// Longer numbers may be keys.
    const LONGEST: usize = 6;
    let is_number = value.len() <= LONGEST && value.bytes().all(|byte| byte.is_ascii_digit());
    let before = arguments.windows(2).find(|pair| pair[1] == value).and_then(|pair| pair[0].to_str());
    // Anything else before it may be a header that a host has cut.
    let follows_url = before.is_some_and(|word| word.starts_with("https://") || word.starts_with("http://"));
    match mangled(arguments) {
        _ if verb.then(value).is_some() => command_late(value),
        _ if before.is_some_and(|word| verb.then(word).is_some()) => command_late(before.unwrap_or_default()),
        _ if value.contains("://") => Mistake::new(
            "the server URL is the second argument, and must be the first",
            format!("write it first: {}", verb.example()),
        ),
        None if is_number => {
            let tip = "choose another port, or leave it out: mcp-remote then derives the port from the server URL";
            Mistake::new(format!("'{value}' is not a valid port (1 to 65535)"), tip)
        }
        None if verb == Verb::Client && follows_url && is_plain_word(value) => Mistake::new(
            format!("'{value}' is neither a port nor an action"),
            "the actions are 'call TOOL KEY=VALUE' and 'read URI'; without one, the tools are listed",
        ),
        _ => Mistake::mangled("the second argument is not a valid port (1 to 65535)"),
    }
}
