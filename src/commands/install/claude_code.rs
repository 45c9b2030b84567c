//! Claude Code's own command for its entries.
//!
//! `claude mcp add-json NAME JSON --scope user` and `claude mcp remove NAME --scope user` (Claude Code 2.1).
//!
//! # Invariants
//!
//! - Only an entry without variables is passed as an argument, because other users of the machine see arguments.

use std::{
    env, io,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    cli::EntryChange,
    hosts::{CLAUDE_CODE, file},
    text,
};

/// A call of Claude Code's command.
#[derive(Clone, Debug)]
pub(super) struct Step {
    claude: PathBuf,
    pub(super) name: String,
    pub(super) json: String,
}

impl Step {
    pub(super) fn add(claude: PathBuf, name: String, json: String) -> Self {
        Self { claude, name, json }
    }

    /// Returns the call as a user would type it.
    pub(super) fn typed(&self) -> String {
        typed(&self.name, &self.json)
    }

    /// Adds the entry.
    ///
    /// # Errors
    /// Where the command fails, with its own words.
    pub(super) fn run(&self) -> io::Result<()> {
        run(&self.claude, &["mcp", "add-json", &self.name, &self.json, "--scope", "user"])
    }
}

/// Removes an entry of the user, if it is still this one.
///
/// # Errors
/// Where the command fails, with its own words.
pub(super) fn remove(change: &EntryChange, name: &str, json: &str) -> io::Result<()> {
    let file = change.places.home.as_ref().map(|home| home.join(".claude.json"));
    let now = file.and_then(|file| file::read(&file).ok()).and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    if let (Some(now), Ok(then)) = (now, serde_json::from_str::<Value>(json)) {
        let entry = &now[CLAUDE_CODE.key][name];
        if entry.is_object() && ["command", "args"].iter().any(|member| entry[*member] != then[*member]) {
            return Err(io::Error::other("the entry has changed since"));
        }
    }
    let claude = command(change).ok_or_else(|| io::Error::other("no folder in PATH has claude"))?;
    run(&claude, &["mcp", "remove", name, "--scope", "user"])
}

fn run(claude: &PathBuf, arguments: &[&str]) -> io::Result<()> {
    let done = Command::new(claude).args(arguments).stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = if done.stderr.is_empty() { &done.stdout } else { &done.stderr };
    Err(io::Error::other(text::one_line(said)))
}

/// Returns the command in `PATH`.
pub(super) fn command(change: &EntryChange) -> Option<PathBuf> {
    let names: &[&str] = if cfg!(windows) { &["claude.exe", "claude.cmd"] } else { &["claude"] };
    let folders = change.path.iter().flat_map(env::split_paths);
    let mut candidates = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

/// Returns the call that adds an entry, as a user would type it.
pub(super) fn typed(name: &str, json: &str) -> String {
    format!("claude mcp add-json {name} '{}' --scope user\n", json.replace('\'', r"'\''"))
}
