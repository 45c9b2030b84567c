//! What mcp-remote has written into hosts' files: the changes that `undo` puts back, and the entries that should be there.
//!
//! The record is a file in the folder of stored sign-ins. It has paths, names and hashes, and no text of a file.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::bail;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{World, claude_code, short};
use crate::{
    cli::{EntryChange, Which},
    hosts::{
        file::{self, Content, Unchanged},
        places::HostFile,
    },
    store::Store,
};

/// The file of the record.
const FILE: &str = "host-entries.json";
/// How many changes can be undone, one after the other.
const MOST_CHANGES: usize = 20;

/// An entry that mcp-remote has written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Written {
    /// The host's name for people.
    pub(crate) host: String,
    pub(crate) file: PathBuf,
    pub(crate) name: String,
}

/// A file that a command has changed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ChangedFile {
    file: PathBuf,
    /// What was there before. `None` if there was no file.
    backup: Option<PathBuf>,
    /// SHA-256 of what was written.
    written: String,
}

impl ChangedFile {
    pub(super) fn new(file: &Path, backup: Option<&Path>, written: &[u8]) -> Self {
        Self { file: file.to_owned(), backup: backup.map(Path::to_owned), written: hash(written) }
    }
}

/// What one command has changed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Changed {
    moment: String,
    command: String,
    files: Vec<ChangedFile>,
    /// The entries that Claude Code's command has added.
    claude_code: Vec<String>,
    added: Vec<Written>,
    removed: Vec<Written>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Contents {
    changes: Vec<Changed>,
    entries: Vec<Written>,
}

/// The record, as it is on disk and as it becomes.
pub(super) struct Record {
    store: Store,
    content: Contents,
}

impl Record {
    /// Reads the record. A damaged one is like none.
    pub(super) fn load(folder: &Path) -> Self {
        let store = Store::new(folder.to_owned(), String::new());
        let content = store.read_shared(FILE).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { store, content: content.unwrap_or_default() }
    }

    pub(super) fn begin(&mut self, moment: &str, command: &str) {
        let changed = Changed { moment: moment.to_owned(), command: command.to_owned(), ..Changed::default() };
        self.content.changes.push(changed);
        let surplus = self.content.changes.len().saturating_sub(MOST_CHANGES);
        self.content.changes.drain(..surplus);
    }

    fn last(&mut self) -> Option<&mut Changed> {
        self.content.changes.last_mut()
    }

    pub(super) fn file(&mut self, file: ChangedFile) {
        if let Some(last) = self.last() {
            last.files.push(file);
        }
    }

    pub(super) fn claude_code(&mut self, name: &str) {
        if let Some(last) = self.last() {
            last.claude_code.push(name.to_owned());
        }
    }

    pub(super) fn add(&mut self, file: &HostFile, name: &str) {
        let entry = Written { host: file.host.name.to_owned(), file: file.path.clone(), name: name.to_owned() };
        if !self.content.entries.contains(&entry) {
            self.content.entries.push(entry.clone());
            if let Some(last) = self.last() {
                last.added.push(entry);
            }
        }
    }

    pub(super) fn remove(&mut self, file: &HostFile, name: &str) {
        let is_it = |entry: &Written| entry.file == file.path && entry.name == name;
        let gone: Vec<_> = self.content.entries.iter().filter(|entry| is_it(entry)).cloned().collect();
        self.content.entries.retain(|entry| !is_it(entry));
        if let Some(last) = self.last() {
            last.removed.extend(gone);
        }
    }

    /// Writes the record. A command that has changed nothing is not in it.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let mut content = self.content.clone();
        content.changes.retain(|change| !change.files.is_empty() || !change.claude_code.is_empty());
        self.store.write_shared(FILE, &serde_json::to_vec_pretty(&content)?)
    }
}

/// Returns the entries that mcp-remote has written and not removed.
pub(crate) fn written(folder: &Path) -> Vec<Written> {
    Record::load(folder).content.entries
}

/// Forgets an entry that something else has removed. Returns whether there was one.
///
/// # Errors
/// The store's.
pub(super) fn forget(change: &EntryChange, which: Option<&Which>) -> anyhow::Result<bool> {
    let mut record = Record::load(&change.store);
    let before = record.content.entries.len();
    record.content.entries.retain(|entry| match which {
        Some(Which::Name(name)) => entry.name != *name,
        Some(Which::Url(_)) => true,
        None => false,
    });
    if record.content.entries.len() == before {
        return Ok(false);
    }
    record.save()?;
    Ok(true)
}

/// Puts back what the last command has changed, where nothing else has changed it since.
///
/// # Errors
/// Where there is nothing to put back, or a part of it cannot be put back.
pub(super) fn undo(change: &EntryChange, world: &mut World<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut record = Record::load(&change.store);
    let Some(last) = record.content.changes.last().cloned() else {
        bail!("there is nothing to undo: mcp-remote has not changed a file of a host");
    };
    writeln!(out, "mcp-remote {} ({}) changed:", last.command, moment(&last.moment))?;
    for changed in &last.files {
        writeln!(out, "  {}", short(&changed.file, change))?;
    }
    for name in &last.claude_code {
        writeln!(out, "  Claude Code, {name:?}")?;
    }
    writeln!(out)?;
    if !change.yes {
        match (world.ask)("Put back what was there before? [y/N] ")? {
            Some(true) => {}
            Some(false) => return Ok(writeln!(out, "Nothing was changed.")?),
            None => {
                bail!("nothing was changed, because there is no terminal to ask on\nTip: repeat the command with --yes")
            }
        }
    }
    let mut left = Changed { files: Vec::new(), claude_code: Vec::new(), ..last.clone() };
    for changed in last.files {
        match put_back(&changed, &world.moment) {
            Ok(()) => writeln!(out, "ok    put back {}", short(&changed.file, change))?,
            Err(reason) => {
                writeln!(out, "FAIL  {} was not changed: {reason}", short(&changed.file, change))?;
                if let Some(backup) = &changed.backup {
                    writeln!(out, "      what was there before is in {}", short(backup, change))?;
                }
                left.files.push(changed);
            }
        }
    }
    for name in last.claude_code {
        match claude_code::remove(change, &name) {
            Ok(()) => writeln!(out, "ok    removed {name:?} from Claude Code")?,
            Err(error) => {
                writeln!(out, "FAIL  Claude Code, {name:?}: {error}")?;
                left.claude_code.push(name);
            }
        }
    }
    let is_all = left.files.is_empty() && left.claude_code.is_empty();
    record.content.changes.pop();
    if is_all {
        record.content.entries.retain(|entry| !last.added.contains(entry));
        record.content.entries.extend(last.removed);
    } else {
        record.content.changes.push(left);
    }
    record.save()?;
    if !is_all {
        bail!("a part of the change was not undone");
    }
    Ok(())
}

fn put_back(changed: &ChangedFile, moment: &str) -> Result<(), String> {
    let content = file::open(&changed.file).map_err(|error| error.to_string())?;
    let is_as_written = content.bytes.as_deref().is_some_and(|bytes| hash(bytes) == changed.written);
    if !is_as_written {
        return Err("another program has changed it since".to_owned());
    }
    let Some(backup) = &changed.backup else {
        return file::remove(&content).map_err(|error| error.to_string());
    };
    let old = fs::read(backup).map_err(|error| crate::text::cannot_read(backup, None, &error))?;
    restore(&content, &old, moment).map_err(|error| error.to_string())?;
    _ = fs::remove_file(backup);
    Ok(())
}

/// Writes the old content; what is replaced is known, so it needs no backup.
fn restore(content: &Content, old: &[u8], moment: &str) -> Result<(), Unchanged> {
    if let Some(own) = file::replace(content, old, moment)? {
        _ = fs::remove_file(own);
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the time in a file name as people write it.
fn moment(text: &str) -> String {
    match (text.get(..4), text.get(4..6), text.get(6..8), text.get(9..11), text.get(11..13)) {
        (Some(year), Some(month), Some(day), Some(hour), Some(minute)) => {
            format!("{year}-{month}-{day} {hour}:{minute} UTC")
        }
        _ => text.to_owned(),
    }
}
