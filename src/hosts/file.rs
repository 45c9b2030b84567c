//! A configuration file on disk: read as a whole, and replaced in one step with a backup beside it.
//!
//! # Invariants
//!
//! - A link stays a link. The file that it leads to is replaced.
//! - The new file has the mode and the owner of the old one, or nothing is written.
//! - A file that is not as it was read is not replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// Largest file that is read, in bytes. Claude Code keeps its history in its file, which can be some tens of MB.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Why a file is not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unchanged {
    #[error("it is read-only")]
    ReadOnly,
    #[error("it is not text in UTF-8")]
    NotText,
    #[error("it is text in UTF-16, which hosts do not read. Save it as UTF-8")]
    Utf16,
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is a link to a file that does not exist")]
    LinkToNothing,
    #[cfg(unix)]
    #[error("it has more than one name (hard links), and all but one would keep the old content")]
    HardLinks,
    #[error("another program has changed it meanwhile")]
    ChangedMeanwhile,
    #[cfg(unix)]
    #[error("it belongs to another user")]
    OtherOwner,
    #[error("{}", crate::text::reason(.0))]
    Io(#[from] io::Error),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The file itself, where the path is a link.
    pub(crate) target: PathBuf,
    /// Its bytes. `None` if there is no file.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Content {
    /// Returns the text; that of no file is empty.
    pub(crate) fn text(&self) -> Result<&str, Unchanged> {
        let bytes = self.bytes.as_deref().unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| utf16(bytes).map_or(Unchanged::NotText, |_| Unchanged::Utf16))
    }
}

/// Returns the text of UTF-16 that begins with a byte order mark, as PowerShell writes it.
pub(crate) fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, unit): (_, fn([u8; 2]) -> u16) = match bytes {
        [0xff, 0xfe, units @ ..] => (units, u16::from_le_bytes),
        [0xfe, 0xff, units @ ..] => (units, u16::from_be_bytes),
        _ => return None,
    };
    let units: Vec<u16> = units.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}

/// Returns the bytes of a regular file, because opening a pipe would wait for its other end.
///
/// # Errors
/// The operating system's, and those of a file that is larger than any configuration.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(too_large());
    }
    Ok(content)
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} MiB", LARGEST / (1024 * 1024)))
}

/// Reads a file that is to be changed.
///
/// # Errors
/// [`Unchanged`], where it cannot be changed.
pub(crate) fn open(path: &Path) -> Result<Content, Unchanged> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is not replaced by a file.
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(Unchanged::LinkToNothing),
                Err(_) => Ok(Content { target: path.to_owned(), bytes: None }),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let metadata = fs::metadata(&target)?;
    if !metadata.is_file() {
        return Err(Unchanged::NotAFile);
    }
    // First, because a file without any permission is not only read-only.
    let bytes = read(&target)?;
    if metadata.permissions().readonly() {
        return Err(Unchanged::ReadOnly);
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return Err(Unchanged::HardLinks);
    }
    Ok(Content { target, bytes: Some(bytes) })
}

/// Replaces the file that `content` was read from. Returns the backup, if there was a file.
///
/// `moment` is a part of the backup's name.
///
/// # Errors
/// [`Unchanged`]. The file is then as it was.
pub(crate) fn replace(content: &Content, new: &[u8], moment: &str) -> Result<Option<PathBuf>, Unchanged> {
    let target = &content.target;
    let folder = target.parent().ok_or(Unchanged::NotAFile)?;
    if new.len() as u64 > LARGEST {
        return Err(too_large().into());
    }
    if content.bytes.is_none() {
        fs::create_dir_all(folder)?;
    }
    let temporary = prepare(content, new)?;
    let backup = match &content.bytes {
        Some(bytes) => match back_up(target, bytes, moment) {
            Ok(backup) => Some(backup),
            Err(error) => {
                _ = fs::remove_file(&temporary);
                return Err(error.into());
            }
        },
        None => None,
    };
    // As late as possible. After the rename, nothing can fail, so that a backup is removed only if the file is as it was.
    let done = check(content).and_then(|()| Ok(fs::rename(&temporary, target)?));
    if done.is_err() {
        _ = fs::remove_file(&temporary);
        backup.iter().for_each(|backup| _ = fs::remove_file(backup));
        return done.map(|()| None);
    }
    #[cfg(unix)]
    {
        _ = File::open(folder).and_then(|folder| folder.sync_all()); // the new name, too
    }
    Ok(backup)
}

/// Returns whether a file has these bytes now: a host that runs may have written its own after a change.
pub(crate) fn has(content: &Content, bytes: &[u8]) -> bool {
    read(&content.target).is_ok_and(|present| present == bytes)
}

/// Removes a file that has these bytes.
///
/// # Errors
/// [`Unchanged`]. The file is then as it was.
pub(crate) fn remove(content: &Content) -> Result<(), Unchanged> {
    check(content)?;
    Ok(fs::remove_file(&content.target)?)
}

fn check(content: &Content) -> Result<(), Unchanged> {
    let now = match read(&content.target) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if now == content.bytes { Ok(()) } else { Err(Unchanged::ChangedMeanwhile) }
}

/// Writes the old content beside the file, for its owner only.
fn back_up(target: &Path, bytes: &[u8], moment: &str) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        let again = if number == 0 { String::new() } else { format!("-{number}") };
        name.push(format!(".mcp-remote-{moment}{again}.bak"));
        let backup = target.with_file_name(name);
        match create(&backup) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            file => {
                let written = file.and_then(|mut file| {
                    file.write_all(bytes)?;
                    file.sync_all()
                });
                if written.is_err() {
                    _ = fs::remove_file(&backup);
                }
                return written.map(|()| backup);
            }
        }
    }
}

/// Makes a new file for its owner only.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes the new content beside the file.
fn prepare(content: &Content, new: &[u8]) -> Result<PathBuf, Unchanged> {
    let target = &content.target;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:x}.tmp", std::process::id(), fastrand::u64(..)));
    let temporary = target.with_file_name(name);
    let done = (|| {
        let mut file = create(&temporary)?;
        if content.bytes.is_some() {
            like(target, &temporary)?;
        }
        file.write_all(new)?;
        Ok(file.sync_all()?)
    })();
    match done {
        Ok(()) => Ok(temporary),
        Err(error) => {
            _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Gives a new file the owner and the mode of the old one.
fn like(old: &Path, new: &Path) -> Result<(), Unchanged> {
    let metadata = fs::metadata(old)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, chown};
        let made = fs::metadata(new)?;
        if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
            chown(new, Some(metadata.uid()), Some(metadata.gid())).map_err(|_| Unchanged::OtherOwner)?;
        }
    }
    Ok(fs::set_permissions(new, metadata.permissions())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaced_file_has_backup_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        fs::write(&file, "old").unwrap();
        let content = open(&file).unwrap();
        let backup = replace(&content, b"new", "M").unwrap().unwrap();
        assert_eq!((fs::read(&file).unwrap(), fs::read(&backup).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        // A second change at the same moment has a backup of its own.
        replace(&open(&file).unwrap(), b"newer", "M").unwrap();
        assert_eq!(names(folder.path()), ["a.json", "a.json.mcp-remote-M-1.bak", "a.json.mcp-remote-M.bak"]);
    }

    #[test]
    fn file_that_changed_meanwhile_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        fs::write(&file, "old").unwrap();
        let content = open(&file).unwrap();
        fs::write(&file, "foreign").unwrap();
        assert!(matches!(replace(&content, b"new", "M"), Err(Unchanged::ChangedMeanwhile)));
        assert!(matches!(remove(&content), Err(Unchanged::ChangedMeanwhile)));
        assert_eq!((fs::read(&file).unwrap(), names(folder.path())), (b"foreign".to_vec(), vec!["a.json".to_owned()]));
        // One that did not exist, and does now.
        let missing = open(&folder.path().join("b.json")).unwrap();
        fs::write(folder.path().join("b.json"), "foreign").unwrap();
        assert!(matches!(replace(&missing, b"new", "M"), Err(Unchanged::ChangedMeanwhile)));
    }

    #[cfg(unix)]
    #[test]
    fn link_mode_and_refusals_are_kept() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        let backup = replace(&open(&link).unwrap(), b"new", "M").unwrap().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&backup)), (0o640, 0o600));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&link).unwrap(), b"new");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        assert!(matches!(open(&file), Err(Unchanged::ReadOnly)));
        let nowhere = folder.path().join("nowhere.json");
        symlink(folder.path().join("missing"), &nowhere).unwrap();
        assert!(matches!(open(&nowhere), Err(Unchanged::LinkToNothing)));
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "x").unwrap();
        fs::hard_link(&one, &other).unwrap();
        assert!(matches!(open(&one), Err(Unchanged::HardLinks)));
    }
}
