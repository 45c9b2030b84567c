//! The file that an entry names as its command: this program, at a place that lasts.
//!
//! A program that runs out of a cache of npx or uvx is copied first, because the cache can be emptied at any time.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cli::EntryChange,
    hosts::{launch::NAME, places::Places},
};

/// Parts of a path that belong to a cache.
const CACHES: [&str; 6] = ["_npx", "archive-v0", "builds-v0", "environments-v2", "dlx", "bunx"];
/// Parts of a path that belong to one version of a program: Homebrew, Nix, Scoop.
const VERSIONED: [&str; 3] = ["Cellar", "store", "apps"];

/// The program as an entry names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastingProgram {
    /// What is written into `command`.
    pub(crate) command: PathBuf,
    /// Where this program is now, if it must be copied.
    pub(crate) copied_from: Option<PathBuf>,
}

/// Returns the program that an entry can rely on.
pub(super) fn lasting(here: &Path, change: &EntryChange) -> LastingProgram {
    // `mcp-remote` and `mcp-remote-client` are neighbors.
    let neighbor = here.with_file_name(format!("{NAME}{}", env::consts::EXE_SUFFIX));
    let here = if neighbor.is_file() { neighbor } else { here.to_owned() };
    if has_part(&here, &CACHES)
        && let Some(folder) = own_folder(&change.places)
    {
        let command = folder.join(format!("{NAME}{}", env::consts::EXE_SUFFIX));
        return LastingProgram { command, copied_from: Some(here) };
    }
    let command = if has_part(&here, &VERSIONED) { linked(&here, change).unwrap_or(here) } else { here };
    LastingProgram { command, copied_from: None }
}

fn has_part(path: &Path, parts: &[&str]) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        parts.iter().any(|known| *part == **known || *known == "bunx" && part.starts_with("bunx-"))
    })
}

/// Returns where copies of this program are kept.
fn own_folder(places: &Places) -> Option<PathBuf> {
    let base = match &places.local {
        Some(local) => local.clone(),
        None => places.home.as_ref()?.join(".local").join("share"),
    };
    Some(base.join(NAME).join("bin"))
}

/// Returns the name in `PATH` that leads to this program, and that stays when a package manager replaces it.
fn linked(here: &Path, change: &EntryChange) -> Option<PathBuf> {
    let name = format!("{NAME}{}", env::consts::EXE_SUFFIX);
    let target = fs::canonicalize(here).ok()?;
    let candidates = change.path.iter().flat_map(env::split_paths).map(|folder| folder.join(&name));
    candidates
        .filter(|candidate| candidate.is_absolute() && !has_part(candidate, &["Cellar", "apps"]))
        .find(|candidate| fs::canonicalize(candidate).is_ok_and(|found| found == target))
}

impl LastingProgram {
    /// Copies the program to its lasting place, unless the same bytes are there.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn put(&self) -> io::Result<bool> {
        let Some(from) = &self.copied_from else { return Ok(false) };
        let bytes = fs::read(from)?;
        if fs::read(&self.command).is_ok_and(|present| present == bytes) {
            return Ok(false);
        }
        let folder = self.command.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let beside = |end: &str| {
            let mut name = self.command.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}.{:x}.{end}", std::process::id(), fastrand::u64(..)));
            self.command.with_file_name(name)
        };
        let temporary = beside("tmp");
        let done = fs::write(&temporary, &bytes)
            .and_then(|()| fs::set_permissions(&temporary, fs::metadata(from)?.permissions()))
            .and_then(|()| match fs::rename(&temporary, &self.command) {
                // Windows does not replace a program that runs, but renames it.
                Err(_) if cfg!(windows) => {
                    fs::rename(&self.command, beside("old"))?;
                    fs::rename(&temporary, &self.command)
                }
                done => done,
            });
        if done.is_err() {
            _ = fs::remove_file(&temporary);
        }
        done.map(|()| true)
    }
}
