//! The store on disk, shared with npm's mcp-remote 0.15.1: where it is, how its files are called, how
//! they are written.
//!
//! npm's files hold what npm would put there; what it would misread is in files of ours beside them.
//! Files are replaced whole, never written in place (a reader sees the old one or the new one; the key of
//! proofs is [`crate::oauth::protocol::dpop`]'s own affair), and belong to the owner only.
//!
//! # Invariants
//!
//! - File names do not change, because that would sign people out.
//! - A damaged file is like none; one that cannot be read makes the store [`Unavailable`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use log::warn;
use md5::{Digest, Md5};
use reqwest::Url;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[cfg(not(unix))]
pub(crate) use self::access::is_in_profile;
use self::access::{Access, is_fault};
pub(crate) use self::access::{DISK_PATIENCE, Unavailable, within};
use crate::{
    report::{self, Code},
    text::{cannot_read, reason},
};

mod access;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod process;

/// The folder below the configuration folder: npm's name for the layout, not a version of ours.
pub(crate) const LAYOUT: &str = "mcp-remote-v1";

/// What is stored for one server.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    server_hash: String,
    access: Arc<Access>,
}

impl Store {
    /// Of the server with this hash, in this folder. Touches nothing.
    pub(crate) fn new(folder: PathBuf, server_hash: String) -> Self {
        Self { folder, server_hash, access: Arc::default() }
    }

    /// npm's name for the server.
    pub(crate) fn server_hash(&self) -> &str {
        &self.server_hash
    }

    /// The port of the redirect that npm derives: 3335 and up, from the first four digits of the hash.
    pub(crate) fn derived_port(&self) -> u16 {
        let digits = self.server_hash.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        3335 + digits.unwrap_or_default() % 45816
    }

    /// Where a file of this server is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}_{name}", self.server_hash))
    }

    /// Returns why the store cannot be used now: an operation does not end, or a file could not be read. Then nobody is
    /// asked for what may be stored.
    pub(crate) fn unavailable(&self) -> Option<Unavailable> {
        self.access.unavailable()
    }

    /// Returns the same, if this file could not be read.
    pub(crate) fn unavailable_file(&self, name: &str) -> Option<Unavailable> {
        self.access.fault(&self.path(name))
    }

    /// Returns the same, if an operation does not end.
    pub(crate) fn stuck(&self) -> Option<Unavailable> {
        self.access.stuck()
    }

    /// Runs an operation on a file of this store that is not one of those below.
    pub(crate) fn access_to<T>(&self, path: &Path, operation: impl FnOnce() -> T) -> T {
        self.access.run(path, operation)
    }

    /// A file's content; `None` if there is none or, with a warning, if it is a folder, or if it cannot be read, which
    /// makes the store [unavailable](Self::unavailable).
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path(name);
        match self.access.read(&path, || fs::read(&path)) {
            Ok(content) => Some(content),
            // Where the folder is none, it is for whoever writes to say so.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) if is_fault(&error) => {
                log::debug!("cannot read {}: {error}", path.display()); // reported where it decides something
                None
            }
            Err(error) => {
                report::warn(
                    Code::StoreDamaged,
                    format!("{} (mcp-remote ignores it)", cannot_read(&path, None, &error)),
                );
                None
            }
        }
    }

    /// A file's JSON, read by `parse`; `None` if there is none or, with a warning, if it is damaged.
    pub(crate) fn parse<T>(&self, name: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let content = self.read(name)?;
        // Who edits a file by hand may leave a byte order mark.
        let parsed = parse(content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&content));
        if parsed.is_none() {
            report::warn(Code::StoreDamaged, format!("{} is damaged and is ignored", self.path(name).display()));
        }
        parsed
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// The operating system's, with the file's name.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        self.access
            .check_owner(&path)
            .and_then(|()| self.access.run(&path, || replace(&path, content, Loss::Matters)))
            .map_err(|error| anyhow::anyhow!("cannot write {}: {}", path.display(), reason(&error)))
    }

    /// The content of a file that all servers share, if it can be read.
    pub(crate) fn read_shared(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        self.access.run(&path, || fs::read(&path)).ok()
    }

    /// Replaces a file that all servers share.
    pub(crate) fn write_shared(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        self.access
            .run(&path, || replace(&path, content, Loss::IsCheap))
            .map_err(|error| anyhow::anyhow!("cannot write {}: {}", path.display(), reason(&error)))
    }

    /// Waits for the lock of a file that all servers share. The lock ends with the returned file.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn lock_shared(&self, name: &str) -> io::Result<File> {
        make_folder(&self.folder)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        owner_only(&mut options);
        let file = options.open(self.folder.join(name))?;
        file.lock()?;
        Ok(file)
    }

    /// Removes a file that may be there.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.path(name);
        match self.access.run(&path, || fs::remove_file(&path)) {
            // Without a folder, or with a file in its place, there is nothing to remove.
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                warn!("cannot remove {}: {error}", path.display())
            }
            _ => {}
        }
    }

    /// The names (without the hash) of this server's files that begin with `prefix`, also of those that
    /// somebody is writing, or died while writing.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let start = format!("{}_", self.server_hash);
        let entries = || -> io::Result<Vec<_>> { Ok(fs::read_dir(&self.folder)?.flatten().collect()) };
        let entries = self.access.run(&self.folder, entries).unwrap_or_default();
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| name.strip_prefix(&start).map(ToOwned::to_owned))
            .filter(|name| name.starts_with(prefix))
            .collect()
    }

    /// The servers that have files in `folder`, by hash.
    pub(crate) fn servers(folder: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut hashes: Vec<String> = names
            .filter_map(|name| {
                let (hash, _) = name.split_once('_')?;
                (hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| hash.to_owned())
            })
            .collect();
        hashes.sort();
        hashes.dedup();
        hashes.into_iter().map(|hash| Self::new(folder.to_owned(), hash)).collect()
    }

    /// Opens a file for its lock only, made if it is not there.
    fn open_lock(&self, name: &str) -> io::Result<File> {
        let path = self.path(name);
        self.access.run(&path, || {
            make_folder(&self.folder)?;
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            owner_only(&mut options);
            options.open(&path)
        })
    }

    /// Makes a file that must not be there yet, for npm's lease.
    fn create_new(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        self.access.run(&path, || {
            make_folder(&self.folder)?;
            let mut options = OpenOptions::new();
            options.create_new(true).write(true);
            owner_only(&mut options);
            options.open(&path)?.write_all(content)
        })
    }
}

/// Returns a file's content as it would be written again, for fuzz targets; `None` if it is damaged.
pub(crate) fn rewritten<T: DeserializeOwned + Serialize>(content: &[u8]) -> Option<Vec<u8>> {
    serde_json::to_vec(&serde_json::from_slice::<T>(content).ok()?).ok()
}

/// What it means if a file's last content is lost in a crash of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It exists nowhere else.
    Matters,
    /// It is learned again: the disk is not waited for, since hosts end a process within milliseconds.
    IsCheap,
}

/// How a file that is being written ends.
const TEMPORARY: &str = ".tmp";

/// Writes beside the file, then renames: a reader sees the old content or the new one, and a crash
/// leaves one of them.
fn replace(path: &Path, content: &[u8], loss: Loss) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_folder(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Several processes, and several writers in one, may be at it.
    name.push(format!(".{}.{:x}{TEMPORARY}", std::process::id(), fastrand::u64(..)));
    let temporary = folder.join(name);
    let written = (|| {
        let mut options = OpenOptions::new();
        options.create_new(true).write(true);
        owner_only(&mut options);
        let mut file = options.open(&temporary)?;
        file.write_all(content)?;
        if loss == Loss::Matters {
            file.sync_all()?; // a rotated refresh token exists nowhere else
        }
        rename(&temporary, path)
    })();
    if written.is_err() {
        _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(not(windows))]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Somebody who has the file open, a virus scanner or npm, is in the way for a moment.
#[cfg(windows)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    const TRIES: u32 = 10;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
    for _ in 1..TRIES {
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    fs::rename(from, to)
}

/// The folder, for the owner only. npm makes it with the permissions of the day, so it is tightened.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        builder.mode(0o700);
        // Not through a link: where it leads may be meant for others too.
        if let Ok(present) = fs::symlink_metadata(folder)
            && present.is_dir()
            && present.permissions().mode() & 0o077 != 0
        {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
    }
    builder.create(folder)
}

fn owner_only(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}

/// npm's name for what belongs to one server: a hash over everything that makes its credentials
/// others. `url` is as it was typed, `headers` are as they were written, before `${NAME}` is
/// expanded, so that a new secret keeps the name.
pub(crate) fn server_hash(
    url: &str,
    resource: Option<&str>,
    authorize_params: &[(String, String)],
    headers: &[(String, String)],
    client_metadata_url: Option<&Url>,
    token_endpoint: Option<&Url>,
) -> String {
    let parts = [
        Some(url.to_owned()),
        resource.map(ToOwned::to_owned),
        json_object(authorize_params),
        json_object(headers),
        client_metadata_url.map(Url::to_string),
        token_endpoint.map(Url::to_string),
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("|");
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `JSON.stringify` writes it, sorted by UTF-16 code units; of equal names the later counts.
fn json_object(pairs: &[(String, String)]) -> Option<String> {
    let mut sorted: Vec<&(String, String)> = Vec::new();
    for pair in pairs {
        sorted.retain(|(known, _)| *known != pair.0);
        sorted.push(pair);
    }
    sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    let member =
        |(name, value): &&(String, String)| format!("{}:{}", Value::from(name.as_str()), Value::from(value.as_str()));
    let members: Vec<_> = sorted.iter().map(member).collect();
    (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn file_is_replaced_whole_and_private() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().join("a/b"), "0".repeat(32));
        assert_eq!(store.read("tokens.json"), None);
        store.write("tokens.json", b"one").unwrap();
        store.write("tokens.json", b"two").unwrap();
        assert_eq!(store.read("tokens.json").as_deref(), Some(&b"two"[..]));
        assert_eq!(store.names(""), ["tokens.json"], "nothing else is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&store.path("tokens.json")), 0o600);
            assert_eq!(mode(&home.path().join("a/b")), 0o700);
            // The target of a link is left as it is.
            let (target, link) = (home.path().join("target"), home.path().join("link"));
            fs::create_dir(&target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::symlink(&target, &link).unwrap();
            Store::new(link, "0".repeat(32)).write("tokens.json", b"one").unwrap();
            assert_eq!(mode(&target), 0o755);
        }
    }

    #[test]
    fn derived_port_matches_npm_package() {
        let port = |hash: &str| Store::new(PathBuf::new(), hash.to_owned()).derived_port();
        assert_eq!(port("9ca486285bd01d5fdc4abad83d5bb5d5"), 43435);
        assert_eq!(port("ff12414734d711ab210706ed355b5813"), 22817);
        assert_eq!(port("9e721942d4e1f98b1ee20f0278cbaf78"), 43897);
    }

    #[test]
    fn server_hash_matches_npm_package() {
        let plain = |url| server_hash(url, None, &[], &[], None, None);
        assert_eq!(plain("http://127.0.0.1:7802/mcp"), "9ca486285bd01d5fdc4abad83d5bb5d5");
        assert_eq!(plain("http://127.0.0.1:7804/mcp"), "ff12414734d711ab210706ed355b5813");
        let everything = server_hash(
            "http://127.0.0.1:7812/mcp",
            None,
            &[pair("prompt", "login"), pair("a", "b=c")],
            &[pair("X-Z", "1")],
            Some(&Url::parse("https://c.example/m.json").unwrap()),
            None,
        );
        assert_eq!(everything, "9e721942d4e1f98b1ee20f0278cbaf78");
    }
}
