//! What the manual says in numbers is what the program does.

use mcp_remote::internals::{HostEnvironment, HostName, hold};

/// A host's name for people, its name and version in the protocol, and its environment.
type Known = (&'static str, &'static str, &'static str, Option<&'static str>);

const HOSTS: [Known; 19] = [
    ("Claude Desktop", "claude-ai", "0.1.0", None),
    ("Claude Code", "claude-code", "2.1.330", Some("cli")),
    ("Codex", "codex-mcp-client", "0.169.0", None),
    ("Gemini CLI", "gemini-cli-mcp-client", "0.61.0", None),
    ("Copilot CLI", "copilot-cli", "1.0.102", None),
    ("opencode", "opencode", "1.18.33", None),
    ("VS Code", "Visual Studio Code", "1.99", None),
    ("Zed", "Zed", "1", None),
    ("Cursor", "cursor-vscode", "1", None),
    ("Windsurf", "windsurf-client", "1", None),
    ("goose", "goose", "1", None),
    ("Cline in VS Code", "Cline", "1", None),
    ("Cline CLI", "@cline/core", "0.0.0", None),
    ("Continue CLI (`cn`)", "continue-cli-client", "1.0.0", None),
    ("Qwen Code", "qwen-cli-mcp-client-x", "0.0.1", None),
    ("Kimi Code", "kimi-code", "0.0.0", None),
    ("MCP Inspector with `--cli`", "inspector-cli", "2.12.0", None),
    ("SDK scripts in Python or TypeScript", "mcp", "0.1.0", None),
    ("any other host", "unheard-of", "1", None),
];

#[test]
fn host_table_shows_the_time_of_each_hold() {
    let manual = include_str!("../../src/help/topics/hosts.md");
    let (_, section) = manual.split_once("\n## What the host shows\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let shown: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(host, time)| *host != "host" && !time.starts_with("No time: ")) // these do not wait for a server
        .map(|(host, time)| (host, time.split_once(" s. Then ").unwrap_or_else(|| panic!("{time}")).0))
        .collect();
    let expected = HOSTS.map(|(people, name, version, entrypoint)| {
        let host = HostName { name: name.to_owned(), version: version.to_owned() };
        let environment = |name: &str| entrypoint.filter(|_| name == "CLAUDE_CODE_ENTRYPOINT").map(ToOwned::to_owned);
        let hold = hold(&host, &HostEnvironment::of(&environment));
        (people, format!("{}", (hold.initialize + hold.list.left(hold.initialize)).as_secs_f32()))
    });
    assert_eq!(shown, expected.each_ref().map(|(people, time)| (*people, time.as_str())));
}
