//! A new entry: its name, its members in the form of each host, and the text to write where mcp-remote does not write.

use std::{io::Write, path::Path};

use reqwest::Url;
use serde_json::Value;

use super::program::LastingProgram;
use crate::{
    cli::Install,
    hosts::{
        Form, Host, Syntax,
        edit::{Change, Member, Members, apply},
        places::HostFile,
    },
};

/// Returns a name for the server of this URL: the part of its host that people know it by.
pub(super) fn name_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let is_name = host.contains('.') && !host.ends_with(|last: char| last.is_ascii_digit()) && !host.starts_with('[');
    let label = match psl::domain_str(host).filter(|_| is_name) {
        Some(domain) => domain.split('.').next().unwrap_or(domain).to_owned(),
        None => match url.port() {
            Some(port) => format!("{host}-{port}"),
            None => host.to_owned(),
        },
    };
    // Claude Code takes letters, digits, hyphens and underscores.
    let plain = label.chars().map(|one| if one.is_ascii_alphanumeric() || one == '_' { one } else { '-' });
    let name = plain.collect::<String>().trim_matches('-').to_owned();
    if name.is_empty() { "mcp-remote".to_owned() } else { name }
}

/// Returns the members of an entry in the form of a host.
pub(super) fn members(form: Form, command: &Path, arguments: &[String]) -> Members {
    let text = |text: &str| Member::Text(text.to_owned());
    let command = command.to_string_lossy().into_owned();
    let whole = [std::slice::from_ref(&command), arguments].concat();
    let pair = || [("command", Member::Text(command.clone())), ("args", Member::List(arguments.to_vec()))];
    match form {
        Form::Plain | Form::Goose => pair().into(),
        Form::Stdio => [("type", text("stdio"))].into_iter().chain(pair()).collect(),
        Form::Zed => {
            let rest = [("env", Member::Empty)];
            [("source", text("custom"))].into_iter().chain(pair()).chain(rest).collect()
        }
        Form::Opencode => {
            vec![("type", text("local")), ("command", Member::List(whole)), ("enabled", Member::Flag(true))]
        }
        Form::Copilot => {
            let rest = [("tools", Member::List(vec!["*".to_owned()]))];
            [("type", text("local"))].into_iter().chain(pair()).chain(rest).collect()
        }
        Form::Cline => pair().into_iter().chain([("disabled", Member::Flag(false))]).collect(),
    }
}

/// Returns an entry as one JSON object, its members in order.
pub(super) fn json(members: &Members) -> String {
    let member = |(name, member): &(&str, Member)| format!("{}:{}", Value::from(*name), Value::from(member));
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

/// Returns the text of a file that has only this entry.
pub(super) fn snippet(host: &Host, name: &str, command: &Path, arguments: &[String]) -> String {
    if host.syntax == Syntax::Yaml {
        return yaml(name, command, arguments);
    }
    let add = Change::Add { name: name.to_owned(), members: members(host.form, command, arguments) };
    apply("", host, &add).unwrap_or_default()
}

/// Strings of JSON are strings of YAML (YAML 1.2.2, §7.3.1).
fn yaml(name: &str, command: &Path, arguments: &[String]) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let arguments: String = arguments.iter().map(|word| format!("      - {}\n", quoted(word))).collect();
    format!(
        "extensions:\n  {name}:\n    name: {name}\n    type: stdio\n    enabled: true\n    cmd: {}\n    args:\n{arguments}    \
         envs: {{}}\n    timeout: 300\n",
        quoted(&command.to_string_lossy())
    )
}

/// Prints the entry for each host, and writes nothing.
pub(super) fn print(
    install: &Install,
    program: &LastingProgram,
    targets: &[HostFile],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let name = install.name.clone().unwrap_or_else(|| name_of(&install.url));
    if let Some(from) = &program.copied_from {
        writeln!(out, "Copy {} to {} first.\n", from.display(), program.command.display())?;
    }
    for (index, HostFile { host, path, .. }) in targets.iter().enumerate() {
        // Alone, the text of a file is for another program.
        if targets.len() > 1 {
            let blank = if index == 0 { "" } else { "\n" };
            writeln!(out, "{blank}{}, {}:\n", host.name, path.display())?;
        }
        write!(out, "{}", snippet(host, &name, &program.command, &install.arguments))?;
    }
    if targets.is_empty() {
        write!(out, "{}", snippet(&crate::hosts::CLAUDE_DESKTOP, &name, &program.command, &install.arguments))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_what_people_know_the_server_by() {
        for (url, name) in [
            ("https://mcp.linear.app/mcp", "linear"),
            ("https://api.example.co.uk/mcp", "example"),
            ("https://localhost/mcp", "localhost"),
            ("http://localhost:8080/mcp", "localhost-8080"),
            ("http://127.0.0.1:8080/mcp", "127-0-0-1-8080"),
            ("http://[::1]:8080/mcp", "1--8080"),
            ("https://intranet/mcp", "intranet"),
        ] {
            assert_eq!(name_of(&Url::parse(url).unwrap()), name, "{url}");
        }
    }
}
