//! That README and manual show only what the program accepts, and each flag in one place.

use std::collections::BTreeMap;

use super::*;
use crate::{
    help,
    report::catalogue::{CATALOGUE, Kind},
};

/// README, topics and pages of codes.
fn documents() -> Vec<(&'static str, &'static str)> {
    let readme = [("README", include_str!("../../README.md"))];
    let topics = help::TOPICS.iter().map(|topic| (topic.name, topic.text));
    let codes = CATALOGUE.iter().map(|entry| (entry.text, entry.page));
    readme.into_iter().chain(topics).chain(codes).collect()
}

/// Pieces of code: the lines of code blocks, and code spans.
fn code(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    let mut joined = String::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            match line.trim().strip_suffix('\\') {
                Some(begin) => joined.push_str(begin),
                None => {
                    joined.push_str(line.trim());
                    found.push(std::mem::take(&mut joined));
                }
            }
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The arguments of a command line of this program, with values where the documents have placeholders.
fn command_line(text: &str) -> Option<(Program, Vec<OsString>)> {
    let text = text.trim_start_matches("$ ");
    let words = words::split(text).ok()?;
    let start = words.iter().position(|word| {
        let name = word.rsplit(['/', '\\']).next().unwrap_or(word).trim_end_matches(".exe");
        ["mcp-remote", "mcp-remote-client"].contains(&name)
    })?;
    // Only what begins with the program, or with another one that starts it.
    let starts_it = words[..start]
        .iter()
        .all(|word| word.contains('=') || ["docker", "exec", "-it", "NAME"].contains(&word.as_str()));
    // `mcp-remote client 0.1.0: …` is what the program prints.
    let is_version = |word: &String| word.starts_with(|one: char| one.is_ascii_digit()) && word.ends_with(':');
    if words[start + 1..].iter().take(2).any(is_version) {
        return None;
    }
    let is_output =
        words.get(start + 1).is_some_and(|next| next.starts_with(|one: char| one.is_ascii_digit()) || !next.is_ascii());
    if !starts_it || is_output {
        return None;
    }
    let program = if words[start].contains("client") { Program::Client } else { Program::Adapter };
    let is_end = |word: &String| ["#", "|", "<", ">", "&&", "2>"].contains(&word.as_str()) || word.starts_with("2>");
    let arguments = words[start + 1..].iter().take_while(|word| !is_end(word));
    let value = |word: &String| match word.as_str() {
        "URL" | "SERVER-URL" => "https://example.com/mcp".to_owned(),
        "SECONDS" | "PORT" => "5".to_owned(),
        "TOPIC" => "hosts".to_owned(),
        "CODE" => "not_mcp".to_owned(),
        "NAME:VALUE" | "KEY=VALUE" => word.clone(),
        word => word.to_owned(),
    };
    Some((program, arguments.map(value).map(OsString::from).collect()))
}

#[test]
fn command_lines_of_documents_are_accepted() {
    let mut count = 0;
    for (name, text) in documents() {
        for line in code(text) {
            let Some((program, mut arguments)) = command_line(&line) else { continue };
            // A bare name, or what a command begins with, is running text.
            if arguments.is_empty() || arguments.iter().any(|word| word == "…" || word == "..." || word == "COMMAND")
            {
                continue;
            }
            count += 1;
            let (verb, _) = Verb::take(program, &mut arguments);
            let parsed = |verb: Verb, arguments: Vec<OsString>| {
                verb.command().try_get_matches_from(std::iter::once(OsString::from("x")).chain(arguments))
            };
            let parsed = match verb {
                Verb::Install => {
                    let (own, connection) = install::split(&arguments);
                    parsed(verb, own).and_then(|_| parsed(Verb::Forward, connection))
                }
                _ => parsed(verb, arguments),
            };
            if let Err(error) = parsed {
                // `mcp-remote login` alone is the name of a command.
                let is_name = error.kind() == ErrorKind::MissingRequiredArgument;
                let is_answer = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind());
                assert!(is_name || is_answer, "{name}: {line}\n{error}");
            }
        }
    }
    assert!(count > 50, "{count} command lines");
}

#[test]
fn entries_of_documents_are_accepted() {
    let mut count = 0;
    for (name, text) in documents() {
        for block in text.split("```json").skip(1).filter_map(|rest| rest.split("```").next()) {
            let whole = block.trim();
            let whole = if whole.starts_with('{') || whole.starts_with('[') {
                whole.to_owned()
            } else {
                format!("{{{}}}", whole.trim_end_matches(','))
            };
            let value: serde_json::Value =
                serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
            let entries = match &value {
                serde_json::Value::Object(all) if all.contains_key("mcpServers") => {
                    value["mcpServers"].as_object().unwrap().values().cloned().collect()
                }
                _ => vec![value],
            };
            for entry in entries {
                let Some(arguments) = entry["args"].as_array().or(entry.as_array()) else { continue };
                let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
                let arguments: Vec<_> = arguments.filter(|argument| *argument != "…").collect();
                if arguments.first().is_some_and(|first| first.starts_with('-') && !first.starts_with("--")) {
                    continue; // an entry of npx, shown as what is replaced
                }
                count += 1;
                let arguments = std::iter::once("x").chain(arguments);
                if let Err(error) = Verb::Forward.command().try_get_matches_from(arguments) {
                    assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{name}: {block}\n{error}");
                }
            }
        }
    }
    assert!(count > 10, "{count} entries");
}

#[test]
fn flag_is_defined_in_one_topic() {
    let mut defined: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for topic in help::TOPICS {
        for line in topic.text.lines() {
            let Some(rest) = line.strip_prefix("| `--").or_else(|| line.strip_prefix("- `--")) else { continue };
            let flag: String = rest.chars().take_while(|one| one.is_ascii_alphanumeric() || *one == '-').collect();
            // `--host` is another flag in the commands that change hosts.
            let flag = if topic.name == "entries" { format!("{flag} of entries") } else { flag };
            defined.entry(flag).or_default().push(topic.name);
        }
    }
    let of_entries = |flag: &mut String| *flag += " of entries";
    let commands = [Verb::Forward, Verb::Client, Verb::Login, Verb::Logout, Verb::Status, Verb::Finish, Verb::Bundle];
    let mut flags: Vec<String> = commands
        .into_iter()
        .flat_map(|verb| {
            verb.command().get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned)).collect::<Vec<_>>()
        })
        .filter(|flag| !["help", "version"].contains(&flag.as_str()))
        .collect();
    for verb in [Verb::Install, Verb::Migrate, Verb::Uninstall, Verb::Undo] {
        let command = verb.command();
        let own = command.get_arguments().filter_map(|flag| flag.get_long().map(str::to_owned));
        let mut own: Vec<_> = own.filter(|flag| !["help", "version"].contains(&flag.as_str())).collect();
        own.iter_mut().for_each(of_entries);
        flags.extend(own);
    }
    flags.sort();
    flags.dedup();
    for flag in &flags {
        let topics = defined.get(flag).map_or(&[][..], Vec::as_slice);
        assert_eq!(topics.len(), 1, "--{flag} is defined in {topics:?}");
    }
    for flag in defined.keys() {
        assert!(flags.contains(flag), "--{flag} is no flag");
    }
}

#[test]
fn code_page_has_the_common_form() {
    for entry in CATALOGUE {
        let headings: Vec<_> = entry.page.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {}", entry.text);
        assert_eq!(headings, [title.as_str(), "## What you see", "## Causes", "## What to do"], "{}", entry.text);
    }
}

#[test]
fn topic_has_title_and_introduction() {
    for topic in help::TOPICS {
        let mut lines = topic.text.lines().filter(|line| !line.is_empty());
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{}", topic.name);
        assert!(
            lines.next().is_some_and(|line| !line.starts_with(['#', '|', '-']) && !line.starts_with("```")),
            "{}",
            topic.name
        );
    }
}

#[test]
fn errors_topic_is_the_catalogue() {
    const HEADINGS: [(Kind, &str); 5] = [
        (Kind::Arguments, "## Arguments"),
        (Kind::Network, "## Network and TLS"),
        (Kind::SignIn, "## Sign-in"),
        (Kind::Refusal, "## Server responses"),
        (Kind::Local, "## Host and local files"),
    ];
    let topic = help::TOPICS.iter().find(|topic| topic.name == "errors").unwrap().text;
    let tables = topic.find(HEADINGS[0].1).unwrap();
    let shown: Vec<_> =
        topic[tables..].lines().filter(|line| line.starts_with("## ") || line.starts_with("| `")).collect();
    let mut expected = Vec::new();
    for (kind, heading) in HEADINGS {
        expected.push(heading.to_owned());
        expected.extend(
            CATALOGUE.iter().filter(|entry| entry.kind == kind).map(|entry| {
                format!("| `{}` | {} | {} |", entry.text, entry.meaning, entry.action.unwrap_or_default())
            }),
        );
    }
    assert_eq!(shown, expected);
}
