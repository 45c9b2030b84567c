//! What mcp-remote has written into hosts' files: the changes that `undo` puts back, and the entries that should be there.
//!
//! The record is a file in the folder of stored sign-ins. It has paths, names and hashes, and no text of a file.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::bail;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{
    World,
    claude_code::{self, Step},
    short,
};
use crate::{
    cli::{EntryChange, Which},
    hosts::{
        CLAUDE_CODE,
        file::{self, Content, Unchanged},
        places::HostFile,
    },
    store::Store,
    text,
};

/// The file of the record.
const FILE: &str = "host-entries.json";
/// The file whose lock lets one process after the other change the record.
const LOCK: &str = "host-entries.lock";
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
    /// SHA-256 of what was there before.
    before: Option<String>,
    /// SHA-256 of what was written.
    written: String,
}

impl ChangedFile {
    pub(super) fn new(content: &Content, backup: Option<&Path>, written: &[u8]) -> Self {
        Self {
            file: content.target.clone(),
            backup: backup.map(Path::to_owned),
            before: content.bytes.as_deref().map(hash),
            written: hash(written),
        }
    }
}

/// An entry that Claude Code's command has added.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Added {
    name: String,
    json: String,
}

/// What one command has changed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Changed {
    moment: String,
    command: String,
    files: Vec<ChangedFile>,
    /// The entries that Claude Code's command has added.
    claude_code: Vec<Added>,
    added: Vec<Written>,
    removed: Vec<Written>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Contents {
    changes: Vec<Changed>,
    entries: Vec<Written>,
}

/// The record, as it is on disk and as it becomes. No other process changes it meanwhile.
pub(super) struct Record {
    store: Store,
    content: Contents,
    /// Keeps the lock.
    _lock: File,
}

impl Record {
    /// Waits for other processes, then reads the record. A damaged one is set aside.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let store = Store::new(folder.to_owned(), String::new());
        let cannot = |error: &io::Error| {
            anyhow::anyhow!("nothing was changed, because {} cannot be used: {}", folder.display(), text::reason(error))
        };
        let lock = store.lock_shared(LOCK).map_err(|error| cannot(&error))?;
        let content = match store.read_shared(FILE).map(|bytes| serde_json::from_slice(&bytes)) {
            Some(Ok(content)) => content,
            None => Contents::default(),
            Some(Err(_)) => {
                let aside = folder.join(format!("{FILE}.damaged"));
                fs::rename(folder.join(FILE), aside).map_err(|error| cannot(&error))?;
                Contents::default()
            }
        };
        Ok(Self { store, content, _lock: lock })
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

    pub(super) fn claude_code(&mut self, step: &Step) {
        if let Some(last) = self.last() {
            last.claude_code.push(Added { name: step.name.clone(), json: step.json.clone() });
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
    let bytes = Store::new(folder.to_owned(), String::new()).read_shared(FILE);
    let content = bytes.and_then(|bytes| serde_json::from_slice::<Contents>(&bytes).ok());
    content.unwrap_or_default().entries
}

/// Forgets an entry that something else has removed. Returns whether there was one.
///
/// # Errors
/// The store's.
pub(super) fn forget(change: &EntryChange, which: Option<&Which>) -> anyhow::Result<bool> {
    let mut record = Record::open(&change.store)?;
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
    let mut record = Record::open(&change.store)?;
    let Some(last) = record.content.changes.last().cloned() else {
        bail!("there is no change to undo");
    };
    writeln!(out, "mcp-remote {} ({}) changed:", last.command, moment(&last.moment))?;
    for changed in &last.files {
        writeln!(out, "  {}", short(&changed.file, change))?;
    }
    for Added { name, .. } in &last.claude_code {
        writeln!(out, "  Claude Code, {name:?}")?;
    }
    writeln!(out)?;
    let own = change.places.home.as_ref().and_then(|home| fs::canonicalize(home.join(".claude.json")).ok());
    if world.running.claude_code() && last.files.iter().any(|changed| Some(&changed.file) == own.as_ref()) {
        bail!(
            "nothing was changed, because Claude Code is running, and each session rewrites its file\nTip: end all sessions, then \
             repeat the command"
        );
    }
    if !change.yes {
        match (world.ask)("Put back what was there before? [y/N] ")? {
            Some(true) => {}
            Some(false) => return Ok(writeln!(out, "Nothing was changed.")?),
            None => {
                bail!("nothing was changed, because there is no terminal to ask on\nTip: repeat the command with --yes")
            }
        }
    }
    record.content.changes.pop();
    let mut failed = 0;
    let mut print = |text: String| _ = writeln!(out, "{text}");
    for changed in last.files {
        let path = short(&changed.file, change);
        match put_back(&changed, &world.moment) {
            Ok(()) => {
                let is_of_it = |entry: &Written| {
                    fs::canonicalize(&entry.file).unwrap_or_else(|_| entry.file.clone()) == changed.file
                };
                record.content.entries.retain(|entry| !(last.added.contains(entry) && is_of_it(entry)));
                record.content.entries.extend(last.removed.iter().filter(|entry| is_of_it(entry)).cloned());
                print(format!("ok    put back {path}"));
            }
            // The change is forgotten, so that an older one can be undone.
            Err(reason) => {
                failed += 1;
                print(format!("FAIL  {path} was not changed: {reason}"));
                if let Some(backup) = &changed.backup {
                    print(format!("      what was there before is in {}", short(backup, change)));
                }
            }
        }
    }
    let mut steps = last.claude_code.into_iter();
    // What a signal leaves undone is kept for another `undo`.
    let mut kept = Vec::new();
    while let Some(step) = steps.next() {
        let Added { name, json } = &step;
        match claude_code::remove(change, name, json) {
            Ok(()) => {
                record.content.entries.retain(|entry| entry.host != CLAUDE_CODE.name || entry.name != *name);
                print(format!("ok    removed {name:?} from Claude Code"));
            }
            Err(error) => {
                failed += 1;
                print(format!("FAIL  Claude Code, {name:?}: {error}"));
                if error.kind() == io::ErrorKind::Interrupted {
                    kept.push(step);
                    kept.extend(steps.by_ref());
                }
            }
        }
    }
    if !kept.is_empty() {
        let (moment, command) = (last.moment, last.command);
        record.content.changes.push(Changed { moment, command, claude_code: kept, ..Changed::default() });
    }
    record.save()?;
    if failed > 0 {
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
    let old = file::read(backup).map_err(|error| text::cannot_read(backup, None, &error))?;
    if Some(hash(&old)) != changed.before {
        return Err("its backup has changed since".to_owned());
    }
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
