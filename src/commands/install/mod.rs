//! `install`, `migrate`, `uninstall` and `undo`: the entries of mcp-remote in the configuration of every host.
//!
//! A command plans its changes and shows each as a difference. It asks once, writes, and records what it wrote, so that `undo`
//! can put it back. Each session of Claude Code rewrites its file: its own command adds an entry, and the file is edited only
//! while no session runs.
//!
//! # Invariants
//!
//! - Nothing is written before the user has agreed, except with `--yes`.
//! - No secret is put into arguments, and none of a file is shown.
//! - The file of a project is not changed, because others may share it.
//! - A file that cannot be changed safely is left, and the text to write is shown.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::bail;

use crate::{
    cli::{EntryChange, EntryCommand, Which},
    hosts::{
        CLAUDE_CODE, CLAUDE_DESKTOP, GOOSE, Host, OPENCODE,
        places::{HostFile, Scope},
    },
    text::printable,
};

mod apply;
mod claude_code;
mod difference;
mod new_entry;
mod plan;
mod program;
mod record;
mod running;

pub(crate) use self::{
    record::{Written, written},
    running::Running,
};

/// What the commands use of the world.
pub(crate) struct World<'a> {
    /// Asks the user for agreement. Returns `None` if there is no user to ask.
    pub(crate) ask: &'a mut dyn FnMut(&str) -> io::Result<Option<bool>>,
    /// The file of this program.
    pub(crate) program: PathBuf,
    /// The time, as a part of file names.
    pub(crate) moment: String,
    /// Which programs run.
    pub(crate) running: Running,
    /// Whether the output is a terminal with colors.
    pub(crate) has_colors: bool,
}

/// Runs one of the four commands.
///
/// # Errors
/// Where something could not be changed, or the user was not asked.
pub(crate) fn run(change: &EntryChange, world: &mut World<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    match &change.command {
        EntryCommand::Undo => record::undo(change, world, out),
        EntryCommand::Install(install) => {
            let program = program::lasting(&world.program, change);
            if change.print {
                return new_entry::print(install, &program, &targets(change), out);
            }
            let plans =
                targets(change).into_iter().map(|file| plan::install(install, &program, file, change)).collect();
            apply::all(change, world, &program, plans, out)
        }
        EntryCommand::Migrate => {
            let program = program::lasting(&world.program, change);
            let plans: Vec<_> =
                files(change).into_iter().filter_map(|file| plan::migrate(&program, file, world)).collect();
            if plans.is_empty() {
                return Ok(writeln!(out, "No entry of a host starts the npm package.")?);
            }
            apply::all(change, world, &program, plans, out)
        }
        EntryCommand::Uninstall(which) => {
            let program = program::lasting(&world.program, change);
            let plans: Vec<_> =
                files(change).into_iter().filter_map(|file| plan::uninstall(which.as_ref(), file, world)).collect();
            if plans.is_empty() && record::forget(change, which.as_ref())? {
                return Ok(writeln!(out, "The entry is gone already.")?);
            }
            if plans.is_empty() {
                let name = match which {
                    Some(Which::Name(name))
                        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
                    {
                        format!(" --entry {name}")
                    }
                    _ => String::new(),
                };
                bail!("no host has such an entry for mcp-remote\nTip: list the entries with: mcp-remote client{name}");
            }
            apply::all(change, world, &program, plans, out)
        }
    }
}

/// Returns the files that may have entries: those of the named hosts, of the user and of the project.
fn files(change: &EntryChange) -> Vec<HostFile> {
    let is_named = |file: &HostFile| change.hosts.is_empty() || change.hosts.iter().any(|host| host.id == file.host.id);
    // A file in a folder that cannot be read may be there.
    let is_missing = |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let is_there = |file: &HostFile| !fs::symlink_metadata(&file.path).is_err_and(is_missing);
    each_once(change.places.files().into_iter().filter(is_there).collect(), change)
        .into_iter()
        .filter(is_named)
        .collect()
}

/// Returns each file once, where two hosts share one through links, under the host that comes first. A project has no file
/// elsewhere, because the user did not make a link in it.
fn each_once(files: Vec<HostFile>, change: &EntryChange) -> Vec<HostFile> {
    let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let project = change.places.project.as_deref().map(resolved);
    let mut known = Vec::new();
    let is_first = |file: &HostFile| {
        let target = resolved(&file.path);
        let is_inside = project.as_ref().is_some_and(|project| target.starts_with(project));
        if known.contains(&target) || file.scope == Scope::Project && !is_inside {
            return false;
        }
        known.push(target);
        true
    };
    files.into_iter().filter(is_first).collect()
}

/// Returns the files into which a new entry is written: one for each host, and for each edition of it.
fn targets(change: &EntryChange) -> Vec<HostFile> {
    let users: Vec<_> = change.places.files().into_iter().filter(|file| file.scope == Scope::User).collect();
    let mut targets: Vec<HostFile> = Vec::new();
    for file in &users {
        let is_named = change.hosts.iter().any(|host| host.id == file.host.id);
        let is_chosen = if change.hosts.is_empty() { file.is_there() } else { is_named };
        if !is_chosen {
            continue;
        }
        let is_same = |known: &&mut HostFile| known.host.id == file.host.id && known.host.name == file.host.name;
        match targets.iter_mut().find(is_same) {
            // opencode reads both of its files, and Cline has one for each editor.
            Some(known) if file.host.id == OPENCODE.id => {
                if !known.path.exists() && file.path.exists() {
                    *known = file.clone();
                }
            }
            Some(known) => {
                if !known.is_there() && file.is_there() {
                    *known = file.clone();
                } else if known.is_there() && file.is_there() {
                    targets.push(file.clone());
                }
            }
            None => targets.push(file.clone()),
        }
    }
    // A host that is named and not there: an edition of VS Code that nobody has is no target.
    let is_known = |host: &Host| targets.iter().any(|file| file.host.id == host.id && file.is_there());
    let known: Vec<&str> = change.hosts.iter().filter(|host| is_known(host)).map(|host| host.id).collect();
    let mut first: Vec<&str> = Vec::new();
    let chosen = targets.iter().filter(|file| {
        if change.hosts.is_empty() || known.contains(&file.host.id) {
            return file.is_there();
        }
        let is_first = !first.contains(&file.host.id);
        first.push(file.host.id);
        is_first
    });
    each_once(chosen.cloned().collect(), change)
}

/// Returns a path for people, with `~` for the home folder.
fn short(path: &Path, change: &EntryChange) -> String {
    let home = change.places.home.as_deref();
    let text = match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~{}{}", std::path::MAIN_SEPARATOR, rest.display()),
        None => path.display().to_string(),
    };
    printable(&text)
}

/// Returns whether only the host's own command changes its file.
fn has_own_command(host: &Host) -> bool {
    host.id == CLAUDE_CODE.id
}

/// Returns the warning about a host that runs and would undo a change.
fn warning(host: &Host, running: &Running) -> Option<&'static str> {
    match host.id {
        id if id == CLAUDE_DESKTOP.id && running.claude_desktop() => Some(
            "Claude Desktop is running. It rewrites this file and can drop the change. Quit it first, also from the tray \
             or the menu bar",
        ),
        _ => None,
    }
}

/// Returns whether a host's file cannot be edited by this program at all.
fn is_only_shown(host: &Host) -> bool {
    host.id == GOOSE.id
}
