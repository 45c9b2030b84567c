//! Claude Code's own command for its entries.
//!
//! `claude mcp add-json NAME JSON --scope user` and `claude mcp remove NAME --scope user` (Claude Code 2.1).
//!
//! # Invariants
//!
//! - Only an entry without variables is passed as an argument, because other users of the machine see arguments.
//! - The command ends within [`CLAUDE_PATIENCE`], and with this program. On Windows, what the command has started may go on.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    child::{ChildProgram, Rest, collect},
    cli::EntryChange,
    hosts::{CLAUDE_CODE, file},
    shutdown::{self, Parent, Stop},
    text,
};

/// How long the command may take. It takes one to three seconds, and about ten on a computer that has just started. One that
/// takes longer waits for something that does not come, such as an answer on a terminal.
const CLAUDE_PATIENCE: Duration = Duration::from_secs(30);
/// How much of its output is kept, in bytes: more than is shown.
const MOST_OUTPUT: usize = 16 * 1024;

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

    /// Adds the entry to this file, which is Claude Code's own.
    ///
    /// # Errors
    /// Where the command fails, with its own words, or does not end. [`io::ErrorKind::Interrupted`] if this program is to end.
    pub(super) fn run(&self, file: &Path) -> io::Result<()> {
        let arguments = ["mcp", "add-json", &self.name, &self.json, "--scope", "user"];
        match run(&self.claude, &arguments, CLAUDE_PATIENCE) {
            // It may have done its work before.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                if self.is_done(file) {
                    return Ok(());
                }
                let typed = self.typed();
                Err(io::Error::new(error.kind(), format!("{error}. Run it yourself: {}", typed.trim_end())))
            }
            done => done,
        }
    }

    /// Whether the entry is in this file now.
    pub(super) fn is_done(&self, file: &Path) -> bool {
        written(file, &self.name).is_some_and(|entry| is_same(&entry, &self.json))
    }
}

/// Removes an entry of the user, if it is still this one.
///
/// # Errors
/// Where the command fails, with its own words, or does not end. [`io::ErrorKind::Interrupted`] if this program is to end.
pub(super) fn remove(change: &EntryChange, name: &str, json: &str) -> io::Result<()> {
    let file = change.places.home.as_ref().map(|home| home.join(".claude.json"));
    let entry = || file.as_ref().and_then(|file| written(file, name));
    if entry().is_some_and(|entry| !is_same(&entry, json)) {
        return Err(io::Error::other("the entry has changed since"));
    }
    let claude = command(change).ok_or_else(|| io::Error::other("no folder in PATH has claude"))?;
    match run(&claude, &["mcp", "remove", name, "--scope", "user"], CLAUDE_PATIENCE) {
        // It may have done its work before.
        Err(error) if error.kind() == io::ErrorKind::TimedOut && file.is_some() && entry().is_none() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let text = format!("{error}. Run it yourself: claude mcp remove {} --scope user", word(name));
            Err(io::Error::new(error.kind(), text))
        }
        done => done,
    }
}

/// Returns the user's entry of this name, as it is in the file now.
fn written(file: &Path, name: &str) -> Option<Value> {
    let mut root: Value = serde_json::from_slice(&file::read(file).ok()?).ok()?;
    Some(root.get_mut(CLAUDE_CODE.key)?.get_mut(name)?.take()).filter(Value::is_object)
}

/// Returns whether an entry starts what this JSON does.
fn is_same(entry: &Value, json: &str) -> bool {
    serde_json::from_str::<Value>(json)
        .is_ok_and(|then| ["command", "args"].iter().all(|member| entry[*member] == then[*member]))
}

/// Runs the command to its end, and for `patience` at most.
fn run(claude: &Path, arguments: &[&str], patience: Duration) -> io::Result<()> {
    let mut command = Command::new(claude);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (stops, _watchers) = shutdown::watch(Parent::now());
        let mut child = ChildProgram::start(command)?;
        tokio::select! {
            ended = output(&mut child) => ended,
            () = tokio::time::sleep(patience) => {
                let text = format!("claude did not end within {} seconds, and was stopped", patience.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            () = signal(stops) => Err(io::Error::new(io::ErrorKind::Interrupted, "claude was stopped by a signal")),
        }
    });
    // A pipe can stay open in a program that left its group.
    runtime.shutdown_background();
    let (status, said) = ended?;
    if status.success() { Ok(()) } else { Err(io::Error::other(said)) }
}

/// Waits for the end of the command. Returns what it said, too.
async fn output(child: &mut ChildProgram) -> io::Result<(ExitStatus, String)> {
    let (output, errors) = child.outputs();
    let (output, errors) =
        tokio::join!(collect(output, MOST_OUTPUT, Rest::Ignored), collect(errors, MOST_OUTPUT, Rest::Ignored));
    let status = child.ended().await?;
    let said = text::one_line(if errors.is_empty() { &output } else { &errors });
    Ok((status, if said.is_empty() { format!("claude ended with {status}") } else { said }))
}

/// Waits for a signal that ends this program.
async fn signal(mut stops: tokio::sync::mpsc::Receiver<Stop>) {
    loop {
        match stops.recv().await {
            Some(Stop::Signal(_)) => return,
            // A shell that has ended leaves its commands running.
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
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
    format!("claude mcp add-json {} {} --scope user\n", word(name), quoted(json))
}

/// Returns the calls that replace an entry, as a user would type them.
pub(super) fn typed_again(name: &str, json: &str) -> String {
    format!("claude mcp remove {} --scope user\n{}", word(name), typed(name, json))
}

/// Returns a name as a word of a shell. That of an entry in a file can be anything.
fn word(name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::store::process::is_alive;

    #[test]
    fn hanging_command_is_stopped_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // It closes its output, so that only its end can be waited for.
        let lines = format!("echo $$ > '{}'\nexec >&- 2>&-\nexec sleep 1000\n", at("pid").display());
        fs::write(at("script"), format!("#!/bin/sh\n{lines}")).unwrap();
        fs::set_permissions(at("script"), fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: a file that this one has open for writing cannot be started.
        assert!(Command::new("cp").args([at("script"), at("claude")]).status().unwrap().success());
        let error = run(&at("claude"), &["mcp"], Duration::from_secs(3)).unwrap_err();
        assert_eq!(error.to_string(), "claude did not end within 3 seconds, and was stopped");
        assert!(!is_alive(fs::read_to_string(at("pid")).unwrap().trim().parse().unwrap()));
    }
}
