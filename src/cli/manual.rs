//! `mcp-remote help TOPIC` and `mcp-remote explain CODE`: which page of the manual is meant.

use std::ffi::OsString;

use clap::{
    Arg, Parser,
    builder::PossibleValuesParser,
    error::{ContextKind, ContextValue},
};

use super::{
    Command, Verb,
    mistakes::{Mistake, is_plain_word},
    screens,
};
use crate::{help, report::catalogue::CATALOGUE};

#[derive(Debug, Parser)]
#[command(name = "mcp-remote help", version, about = "Show a topic of the manual, or the help of a command", long_about = None)]
pub(super) struct HelpArgs {
    /// Topic, command or error code; without it, all topics
    #[arg(value_name = "TOPIC", value_parser = PossibleValuesParser::new(names()), hide_possible_values = true)]
    name: Option<String>,
}

#[derive(Debug, Parser)]
#[command(name = "mcp-remote explain", version, about = "Explain an error code", long_about = None)]
pub(super) struct ExplainArgs {
    /// Code at the end of an error; without it, all codes
    #[arg(value_name = "CODE", value_parser = PossibleValuesParser::new(codes()), hide_possible_values = true)]
    code: Option<String>,
}

impl HelpArgs {
    /// Returns what is printed.
    pub(super) fn into_command(self) -> Command {
        let Some(name) = self.name else { return Command::Print(help::index()) };
        if let Some(page) = page(&name) {
            return Command::Manual(page);
        }
        match Verb::NAMED.into_iter().find(|(command, _)| *command == name) {
            Some((_, verb)) => {
                let mut command = verb.command().bin_name(verb.name());
                Command::Print(screens::trimmed(&command.render_long_help().to_string()))
            }
            None => Command::Print(help::index()),
        }
    }
}

impl ExplainArgs {
    /// Returns what is printed.
    pub(super) fn into_command(self) -> Command {
        let name = self.code.as_deref().unwrap_or("errors");
        page(name).map_or_else(|| Command::Print(help::index()), Command::Manual)
    }
}

fn codes() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|entry| entry.text)
}

fn topics() -> impl Iterator<Item = &'static str> {
    help::TOPICS.iter().map(|topic| topic.name)
}

fn commands() -> impl Iterator<Item = &'static str> {
    Verb::NAMED.into_iter().map(|(name, _)| name)
}

/// What `mcp-remote help` takes, beside the aliases of topics.
fn names() -> impl Iterator<Item = &'static str> {
    topics().chain(commands()).chain(codes())
}

/// Returns the page of a topic or of a code.
fn page(name: &str) -> Option<&'static str> {
    let topic = help::TOPICS.iter().find(|topic| topic.name == name).map(|topic| topic.text);
    topic.or_else(|| CATALOGUE.iter().find(|entry| entry.text == name).map(|entry| entry.page))
}

/// Returns the name in the manual that is typed as `text`: an alias, or with `_` and `-` interchanged.
fn known(verb: Verb, text: &str) -> Option<&'static str> {
    let spelled = |name: &str| name.replace('_', "-") == text.replace('_', "-");
    if verb == Verb::Explain {
        return codes().find(|name| spelled(name));
    }
    names().find(|name| spelled(name)).or_else(|| help::topic_of_alias(&text.replace('_', "-")))
}

/// Returns the arguments of `help` and `explain` with the name of the page as the manual spells it. Case, brackets and the
/// words before a pasted code do not matter, and a name may be typed in several words.
pub(super) fn normalized(verb: Verb, arguments: &[OsString]) -> Option<Vec<OsString>> {
    let texts: Option<Vec<_>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let texts = texts.filter(|texts| !texts.iter().any(|text| text.starts_with('-')))?.join(" ");
    let clean = |word: &str| word.trim_matches(|one: char| !one.is_ascii_alphanumeric()).to_ascii_lowercase();
    let words: Vec<_> = texts.split_whitespace().map(clean).filter(|word| !word.is_empty()).collect();
    let pasted = match &*words {
        [.., before, last] if before == "explain" || before == "help" => known(verb, last),
        _ => None,
    };
    let name = match known(verb, &words.join("-")).or(pasted) {
        Some(name) => name.to_owned(),
        None if words.is_empty() => return None,
        None => words.join(" "),
    };
    Some(vec![name.into()])
}

/// Returns the report of a name that the manual does not have.
pub(super) fn unknown(error: &clap::Error) -> Option<Mistake> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg)?;
    let word = context(ContextKind::InvalidValue).filter(|word| !word.is_empty())?;
    let (kind, all, tip) = match argument {
        "[TOPIC]" => ("topic", names().chain(help::aliases()).collect(), "'mcp-remote help' lists the topics"),
        "[CODE]" => ("error code", codes().collect::<Vec<_>>(), "'mcp-remote explain' lists the codes"),
        _ => return None,
    };
    let sentence = match is_plain_word(word) {
        true => format!("there is no {kind} '{word}'"),
        false => format!("there is no such {kind}"),
    };
    Some(match nearest(word, &all) {
        Some(name) => {
            let kind = if codes().any(|code| code == name) {
                "code"
            } else if commands().any(|command| command == name) {
                "command"
            } else {
                "topic"
            };
            Mistake::new(sentence, format!("a similar {kind} exists: '{name}'"))
        }
        None => Mistake::new(sentence, tip),
    })
}

/// Returns the first name that begins with the word, or else what clap finds similar.
fn nearest(word: &str, names: &[&'static str]) -> Option<String> {
    const SHORTEST: usize = 3;
    if word.len() >= SHORTEST
        && let Some(name) = names.iter().find(|name| name.starts_with(word))
    {
        return Some((*name).to_owned());
    }
    let argument = Arg::new("name").value_parser(PossibleValuesParser::new(names));
    let command = clap::Command::new("mcp-remote").no_binary_name(true).arg(argument);
    match command.try_get_matches_from([word]).err()?.get(ContextKind::SuggestedValue)? {
        ContextValue::String(name) => Some(name.clone()),
        _ => None,
    }
}
