//! An entry of a host's configuration: a server, and how the host starts it.
//!
//! # Invariants
//!
//! - The values of arguments and variables are not shown.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Host,
    launch::{LAUNCHERS, Launch, NAME, launch, stem},
};

/// Characters that a shell does not take as they are.
const SHELL: [char; 14] = ['"', '\'', '$', '%', '&', '|', '<', '>', '^', ';', '`', '(', ')', '\\'];

/// Long flags of npx and its relatives that can stand before the package.
const LAUNCHER_FLAGS: [&str; 6] = ["--", "--yes", "--silent", "--quiet", "--prefer-offline", "--no-install"];

/// A server in a configuration file.
#[derive(Clone, Debug)]
pub(crate) struct Located<'a> {
    /// The names of the members that lead to it, its own name last.
    pub(crate) path: Vec<String>,
    pub(crate) value: &'a Value,
}

impl Located<'_> {
    pub(crate) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }
}

/// Returns everything below the key under which a host lists servers. Returns `None` if there is no such object.
pub(crate) fn servers<'a>(host: &Host, root: &'a Value) -> Option<Vec<Located<'a>>> {
    let all = root.as_object()?;
    // Claude Code keeps a list for each project.
    let projects = all.get("projects").and_then(Value::as_object).into_iter().flatten();
    let projects = projects.map(|(folder, scope)| (vec!["projects".to_owned(), folder.clone()], scope));
    let scopes = std::iter::once((Vec::new(), root)).chain(projects);
    let lists = scopes.filter_map(|(path, scope)| Some((path, scope.get(host.key)?.as_object()?)));
    let lists: Vec<(Vec<String>, &Map<String, Value>)> = lists.collect();
    if lists.is_empty() {
        return None;
    }
    let located = |(path, list): (Vec<String>, &'a Map<String, Value>)| {
        let path_of = move |name: &String| [&path[..], &[host.key.to_owned(), name.clone()]].concat();
        list.iter().map(move |(name, value)| Located { path: path_of(name), value })
    };
    Some(lists.into_iter().flat_map(located).collect())
}

/// A server in a host's settings that the host starts as a program.
#[derive(Debug)]
pub(crate) struct ServerEntry {
    pub(crate) command: String,
    pub(crate) arguments: Vec<String>,
    /// The variables that the host passes on.
    pub(crate) variables: BTreeMap<String, String>,
    /// Whether its arguments are one text in the file, which no host takes apart.
    pub(crate) in_one: bool,
    /// Whether that text is `command`.
    pub(crate) is_whole_command: bool,
    /// Whether the host does not start it.
    pub(crate) is_disabled: bool,
    /// What of it no host passes on.
    pub(crate) faults: Vec<Fault>,
}

/// A part of an entry that is not of the type that hosts read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `args` is not a list.
    Arguments,
    /// An element of the arguments is not a string.
    Argument,
    /// `env` is not an object.
    Variables,
    /// The value of this variable is a list, for example.
    Variable(String),
}

impl Fault {
    /// Returns what is wrong, and what to do.
    pub(crate) fn words(&self) -> (String, &'static str) {
        match self {
            Self::Arguments => {
                ("\"args\" is not a list".to_owned(), "write a list of strings: \"args\": [\"SERVER-URL\"]")
            }
            Self::Argument => (
                "an element of its arguments is not a string".to_owned(),
                "write each element of the list in double quotes, numbers too",
            ),
            Self::Variables => {
                ("\"env\" is not an object".to_owned(), "write an object: \"env\": {\"NAME\": \"VALUE\"}")
            }
            Self::Variable(name) => {
                (format!("the value of {name} in \"env\" is not a string"), "write the value in double quotes")
            }
        }
    }
}

/// Returns what of an entry is not of the type that hosts read. Some hosts read numbers as the values of variables.
fn faults(entry: &Value) -> Vec<Fault> {
    let command = &entry["command"];
    let list = match command {
        Value::Array(_) => command,
        Value::Object(command) => command.get("args").unwrap_or(&Value::Null),
        _ => &entry["args"],
    };
    let mut faults = match list {
        Value::Array(words) if !words.iter().all(Value::is_string) => vec![Fault::Argument],
        // One string is a mistake of its own.
        Value::Array(_) | Value::Null | Value::String(_) => Vec::new(),
        _ => vec![Fault::Arguments],
    };
    for variables in ["env", "environment"].iter().filter_map(|key| entry.get(*key)) {
        match variables {
            Value::Object(members) => {
                let is_odd = |value: &Value| value.is_null() || value.is_array() || value.is_object();
                let odd = members.iter().filter(|(_, value)| is_odd(value));
                faults.extend(odd.map(|(name, _)| Fault::Variable(name.clone())));
            }
            Value::Null => {}
            _ => faults.push(Fault::Variables),
        }
    }
    faults
}

impl ServerEntry {
    /// A program that is started; `None` for a server that the host reaches by itself.
    pub(crate) fn of(entry: &Value) -> Option<Self> {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        let server = match &entry["command"] {
            // opencode: all in one.
            Value::Array(_) => {
                let mut words = texts(&entry["command"]);
                if words.is_empty() {
                    return None;
                }
                Self::apart(words.remove(0), words)
            }
            // Zed, until 2025.
            Value::Object(command) => Self::apart(
                command.get("path")?.as_str()?.to_owned(),
                texts(command.get("args").unwrap_or(&Value::Null)),
            ),
            command => match entry["args"].as_str() {
                Some(text) => Self { in_one: true, ..Self::apart(command.as_str()?.to_owned(), words(text)) },
                None => Self::apart(command.as_str()?.to_owned(), texts(&entry["args"])),
            },
        };
        let of_command = variables(&entry["command"]); // Zed, until 2025
        let is_disabled = entry["disabled"] == true || entry["enabled"] == false; // opencode: enabled
        let variables = if of_command.is_empty() { variables(entry) } else { of_command };
        Some(Self { variables, is_disabled, faults: faults(entry), ..server })
    }

    /// What was written as one is judged by its words. A path may have blanks, so a URL or the package must be there.
    pub(crate) fn apart(command: String, arguments: Vec<String>) -> Self {
        let (variables, is_disabled, faults) = (BTreeMap::new(), false, Vec::new());
        let is_many = |text: &String| {
            let words = words(text);
            words.len() > 1 && (text.contains("://") || LAUNCHERS.contains(&stem(&words[0])))
        };
        if is_many(&command) {
            let mut all = words(&command);
            let command = all.remove(0);
            all.extend(arguments);
            return Self {
                command,
                arguments: all,
                variables,
                in_one: true,
                is_whole_command: true,
                is_disabled,
                faults,
            };
        }
        // Only what stands before mcp-remote's own flags can be a line: the value of a flag may have blanks.
        let line =
            arguments.iter().take_while(|text| !text.starts_with("--") || LAUNCHER_FLAGS.contains(&text.as_str()));
        let Some(at) = line.enumerate().find(|(_, text)| is_line(text)).map(|(at, _)| at) else {
            return Self { command, arguments, variables, in_one: false, is_whole_command: false, is_disabled, faults };
        };
        let mut apart = arguments[..at].to_vec();
        apart.extend(words(&arguments[at]));
        apart.extend_from_slice(&arguments[at + 1..]);
        Self { command, arguments: apart, variables, in_one: true, is_whole_command: false, is_disabled, faults }
    }
}

/// Returns whether one argument has several: the server URL and what follows, or what starts the package.
fn is_line(text: &str) -> bool {
    let all = words(text);
    let Some(first) = all.first().filter(|_| all.len() > 1) else { return false };
    let is_package = |word: &String| word.split('@').next() == Some(NAME);
    let begins = first.starts_with('-') || is_package(first) || LAUNCHERS.contains(&stem(first));
    first.contains("://") || begins && !text.contains(SHELL) && all.iter().any(is_package)
}

impl ServerEntry {
    /// Returns what the entry starts.
    pub(crate) fn launch(&self) -> Launch {
        launch(&self.command, &self.arguments)
    }

    /// Returns the arguments of mcp-remote itself.
    pub(crate) fn own_arguments(&self) -> &[String] {
        match self.launch() {
            Launch::Package(at) => &self.arguments[at.min(self.arguments.len())..],
            _ => &self.arguments,
        }
    }

    /// Returns whether the host starts the npm package.
    pub(crate) fn is_npm_package(&self) -> bool {
        matches!(self.launch(), Launch::Package(_) | Launch::Unclear(_))
    }

    /// Returns the program that starts the npm package.
    pub(crate) fn launcher(&self) -> &str {
        let words = std::iter::once(&self.command).chain(&self.arguments).map(|word| stem(word));
        words.take_while(|word| *word != NAME).filter(|word| LAUNCHERS.contains(word)).last().unwrap_or("npx")
    }

    /// Returns whether an argument is this URL.
    pub(crate) fn is_for(&self, url: &reqwest::Url) -> bool {
        self.arguments.iter().any(|word| reqwest::Url::parse(word).is_ok_and(|word| word == *url))
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// The variables of an entry, as its host passes them on.
fn variables(entry: &Value) -> BTreeMap<String, String> {
    // opencode has its own name for them.
    let members = ["env", "environment"].iter().find_map(|key| entry.get(*key)?.as_object());
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    members.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts;

    #[test]
    fn servers_are_found_where_each_host_keeps_them() {
        for (host, settings) in [
            (hosts::CURSOR, r#"{"mcpServers":{"n":{"command":"c","args":["a"]}}}"#),
            (hosts::VS_CODE, r#"{"servers":{"n":{"type":"stdio","command":"c","args":["a"]}}}"#),
            (hosts::ZED, r#"{"context_servers":{"n":{"command":{"path":"c","args":["a"]}}}}"#),
            (hosts::OPENCODE, r#"{"mcp":{"n":{"type":"local","command":["c","a"]}}}"#),
            (hosts::CODEX, r#"{"mcp_servers":{"n":{"command":"c","args":["a"]}}}"#),
            (hosts::CLAUDE_CODE, r#"{"projects":{"/p":{"mcpServers":{"n":{"command":"c","args":["a"]}}}}}"#),
        ] {
            let settings: Value = serde_json::from_str(settings).unwrap();
            let found = servers(&host, &settings).unwrap();
            let [located] = &found[..] else { panic!("{settings}: {found:?}") };
            let server = ServerEntry::of(located.value).unwrap();
            let words = (located.name(), server.command.as_str(), &server.arguments[..]);
            assert_eq!(words, ("n", "c", &["a".to_owned()][..]), "{settings}");
            assert_eq!(located.path.iter().try_fold(&settings, |value, name| value.get(name)), Some(located.value));
            assert!(servers(&Host { key: "other", ..host }, &settings).is_none());
        }
    }

    #[test]
    fn own_arguments_begin_after_the_package() {
        for (command, arguments, own) in [
            ("/opt/mcp-remote", "https://a/mcp --ipv4", "https://a/mcp --ipv4"),
            ("npx", "-y mcp-remote@latest https://a/mcp", "https://a/mcp"),
            ("cmd", "/c npx -y mcp-remote https://a/mcp", "https://a/mcp"),
            ("cmd", "/c npx -y supergateway https://a/mcp", "/c npx -y supergateway https://a/mcp"),
        ] {
            let entry = ServerEntry::apart(command.to_owned(), words(arguments));
            assert_eq!(entry.own_arguments(), words(own), "{command} {arguments}");
        }
    }

    #[test]
    fn one_string_with_all_words_is_taken_apart() {
        let of = |json: Value| ServerEntry::of(&json).unwrap();
        for entry in [
            serde_json::json!({"command": "npx -y mcp-remote https://a/mcp --ipv4"}),
            serde_json::json!({"command": "npx", "args": "-y mcp-remote https://a/mcp --ipv4"}),
            serde_json::json!({"command": "npx", "args": ["-y mcp-remote https://a/mcp --ipv4"]}),
            serde_json::json!({"command": "npx", "args": ["-y", "mcp-remote https://a/mcp", "--ipv4"]}),
            serde_json::json!({"command": "cmd", "args": ["/c", "npx -y mcp-remote https://a/mcp --ipv4"]}),
        ] {
            let read = of(entry.clone());
            assert!(read.in_one, "{entry}");
            assert_eq!(read.own_arguments(), ["https://a/mcp", "--ipv4"], "{entry}");
        }
        for entry in [
            serde_json::json!({"command": "npx", "args": ["mcp-remote", "https://a/mcp", "--header", "User-Agent: mcp-remote"]}),
            serde_json::json!({"command": "/o/mcp-remote", "args": ["https://a/mcp", "--header", "Origin:https://x for me"]}),
            serde_json::json!({"command": "/o/mcp-remote", "args": ["--header", "https://x y", "https://a/mcp"]}),
        ] {
            assert!(!of(entry.clone()).in_one, "{entry}");
        }
        let quoted = of(serde_json::json!({"command": "cmd", "args": ["/c", "npx mcp-remote https://a \"X: y\""]}));
        assert!(matches!(quoted.launch(), Launch::Unclear(_)), "a shell reads quotes");
    }
}
