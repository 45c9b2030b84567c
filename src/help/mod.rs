//! The manual inside the program: a page for each topic (`mcp-remote help TOPIC`) and for each error code
//! (`mcp-remote explain CODE`).
//!
//! The pages are Markdown files beside this one, so that they can be read on the repository page and with rustdoc, too.
//! [`render`] lays them out for a terminal.
//!
//! # Invariants
//!
//! - Each error code has a page, because the catalogue includes it.
//! - Each flag is defined on one topic's page only (`tests/it/manual.rs`).

mod rendering;

pub use rendering::{Layout, render};

/// A page of the manual.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// What is typed after `mcp-remote help`.
    pub name: &'static str,
    /// What the page is about, for the list of topics.
    pub summary: &'static str,
    /// The page, in Markdown.
    pub text: &'static str,
}

/// Makes the list of topics, and a module of the documentation for each page.
macro_rules! topics {
    ($($module:ident = $name:literal, $summary:literal;)+) => {
        /// All topics, in the order in which a new user needs them.
        pub const TOPICS: &[Topic] = &[$(Topic {
            name: $name,
            summary: $summary,
            text: include_str!(concat!("topics/", $name, ".md")),
        },)+];

        $(
            #[doc = include_str!(concat!("topics/", $name, ".md"))]
            #[allow(rustdoc::invalid_html_tags, rustdoc::bare_urls)]
            pub mod $module {}
        )+
    };
}

topics! {
    getting_started = "getting-started", "Install, connect a host to a server, test the connection";
    entries = "entries", "Add servers to hosts: install, migrate, uninstall, undo";
    hosts = "hosts", "Configuration of each host, and what the host shows";
    signing_in = "signing-in", "Sign in with the browser, scopes, signing out";
    headless = "headless", "Sign in over SSH, in a container, on another device";
    client_registration = "client-registration", "Client IDs: registered, your own, metadata documents";
    providers = "providers", "What individual authorization servers need";
    service_accounts = "service-accounts", "Sign in without a user: client credentials, workloads";
    storage = "storage", "What is stored where, output and log files";
    instances = "instances", "Several mcp-remote processes at once";
    security = "security", "What mcp-remote protects, and what it cannot";
    network = "network", "TLS, proxies, timeouts, retries";
    errors = "errors", "All error codes";
    packages = "packages", "Install, upgrade, uninstall; bundles for your users";
    npm = "npm", "Migrate from the npm package, and go back";
    exit_codes = "exit-codes", "Exit codes of all commands";
    environment = "environment", "Environment variables";
    protocol = "protocol", "Protocol versions and transports";
}

/// Words for which users look in the list of topics, and the topics that are meant.
const ALIASES: [(&str, &[&str]); 10] = [
    ("getting-started", &["api-key", "key", "header", "upgrade"]),
    ("entries", &["add", "remove", "configure", "backup"]),
    ("hosts", &["codex", "cursor", "vscode", "zed", "claude", "windsurf"]),
    ("signing-in", &["oauth", "auth"]),
    ("headless", &["ssh", "browser", "container", "docker", "device-code"]),
    ("storage", &["logs", "debug"]),
    ("network", &["proxy", "tls", "certificate", "timeout"]),
    ("packages", &["bundles", "homebrew", "mcpb", "pypi", "uvx"]),
    ("npm", &["npx"]),
    ("errors", &["codes"]),
];

/// Returns all aliases of topics.
pub fn aliases() -> impl Iterator<Item = &'static str> {
    ALIASES.iter().flat_map(|(_, aliases)| aliases.iter().copied())
}

/// Returns the topic that an alias stands for.
pub fn topic_of_alias(alias: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(_, aliases)| aliases.contains(&alias)).map(|(topic, _)| *topic)
}

/// Returns the list of topics, as `mcp-remote help` prints it.
pub fn index() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    let row = |topic: &Topic| format!("  {:width$}  {}\n", topic.name, topic.summary);
    let rows: String = TOPICS.iter().map(row).collect();
    format!(
        "Topics, shown by mcp-remote help TOPIC:\n\n{rows}\n\
         An error code is explained by mcp-remote explain CODE, and a command by mcp-remote COMMAND --help.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_names_every_topic_within_80_columns() {
        let index = index();
        for topic in TOPICS {
            let row = index.lines().find(|line| line.trim_start().starts_with(topic.name)).unwrap();
            assert!(row.ends_with(topic.summary) && row.len() <= 80, "{row}");
        }
    }

    #[test]
    fn alias_leads_to_one_topic() {
        for alias in aliases() {
            let topic = topic_of_alias(alias).unwrap();
            assert!(TOPICS.iter().any(|known| known.name == topic), "{topic}");
            assert!(!TOPICS.iter().any(|known| known.name == alias), "{alias}");
            assert_eq!(aliases().filter(|other| *other == alias).count(), 1, "{alias}");
        }
    }
}
