//! `mcp-remote help TOPIC` and `mcp-remote explain CODE`: which page of the manual is meant.

use clap::{Parser, builder::PossibleValuesParser};

use super::{Command, Verb, screens};
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

/// What `mcp-remote help` takes.
fn names() -> impl Iterator<Item = &'static str> {
    let topics = help::TOPICS.iter().map(|topic| topic.name);
    topics.chain(Verb::NAMED.into_iter().map(|(name, _)| name)).chain(codes())
}

/// Returns the page of a topic or of a code.
fn page(name: &str) -> Option<&'static str> {
    let topic = help::TOPICS.iter().find(|topic| topic.name == name).map(|topic| topic.text);
    topic.or_else(|| CATALOGUE.iter().find(|entry| entry.text == name).map(|entry| entry.page))
}
