//! Whether the disk answers: a home folder on a network may be gone in the middle of a read, and a read error says nothing
//! of what a file holds.
//!
//! # Invariants
//!
//! - A file that cannot be read is never taken for one that is not there.
//! - A folder of another user, who could have put a sign-in of their own there, is not used; by root only with a warning.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{sync::LockExt, text::reason};

/// How long an operation may take before the store counts as unavailable: longer than a disk takes to start.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a person waits for a look into the store.
pub(crate) const DISK_PATIENCE: Duration = Duration::from_secs(2);
/// Times a read is tried again that failed, and the pause in between: too many open files, or a scanner, pass.
const MORE_TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What is under way in one store, and what has failed in it.
#[derive(Debug, Default)]
pub(super) struct Access {
    state: Mutex<State>,
    /// Whose the folder is, if it is another user's and must not be used.
    stranger: OnceLock<Option<Stranger>>,
}

/// The number of another user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stranger(u32);

impl fmt::Display for Stranger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "its folder belongs to another user (uid {})", self.0)
    }
}

#[derive(Debug, Default)]
struct State {
    under_way: BTreeMap<u64, (Instant, PathBuf)>,
    count: u64,
    /// Why files could not be read, the last time.
    faults: BTreeMap<PathBuf, String>,
}

/// The store cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The file.
    path: PathBuf,
    /// What the operating system says; none if it does not answer.
    why: Option<String>,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Some(why) => write!(formatter, "cannot read {path}: {why}"),
            None => write!(formatter, "the disk with {path} does not answer"),
        }
    }
}

impl Access {
    /// Runs an operation on a file, which is under way meanwhile.
    pub(super) fn run<T>(&self, path: &Path, operation: impl FnOnce() -> T) -> T {
        let number = {
            let mut state = self.state.guard();
            state.count += 1;
            let number = state.count;
            state.under_way.insert(number, (Instant::now(), path.to_owned()));
            number
        };
        let done = operation();
        self.state.guard().under_way.remove(&number);
        done
    }

    /// Reads a file, and notes whether that was possible. A failure that may pass is tried again.
    pub(super) fn read(&self, path: &Path, read: impl Fn() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        if let Err(error) = self.check_owner(path) {
            self.state.guard().faults.insert(path.to_owned(), error.to_string());
            return Err(error);
        }
        let tries = if self.state.guard().faults.contains_key(path) { 0 } else { MORE_TRIES };
        let content = self.run(path, || {
            let mut content = read();
            for _ in 0..tries {
                match &content {
                    Err(error) if is_fault(error) => thread::sleep(PAUSE),
                    _ => break,
                }
                content = read();
            }
            content
        });
        let mut state = self.state.guard();
        match &content {
            Err(error) if is_fault(error) => {
                state.faults.insert(path.to_owned(), reason(error));
            }
            _ => {
                state.faults.remove(path);
            }
        }
        content
    }

    /// Fails if the folder of this file is another user's.
    pub(super) fn check_owner(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        let stranger = self.stranger.get_or_init(|| self.run(folder, || stranger(folder)));
        stranger.map_or(Ok(()), |stranger| Err(io::Error::new(io::ErrorKind::PermissionDenied, stranger.to_string())))
    }

    /// Returns the operation that does not end, if there is one.
    pub(super) fn stuck(&self) -> Option<Unavailable> {
        let state = self.state.guard();
        let (_, path) = state.under_way.values().find(|(since, _)| since.elapsed() >= STORE_PATIENCE)?;
        Some(Unavailable { path: path.clone(), why: None })
    }

    /// Returns why a file could not be read, if so.
    pub(super) fn fault(&self, path: &Path) -> Option<Unavailable> {
        let why = self.state.guard().faults.get(path).cloned()?;
        Some(Unavailable { path: path.to_owned(), why: Some(why) })
    }

    /// Returns why the store is unavailable, if it is.
    pub(super) fn unavailable(&self) -> Option<Unavailable> {
        self.stuck().or_else(|| {
            let state = self.state.guard();
            let (path, why) = state.faults.iter().next()?;
            Some(Unavailable { path: path.clone(), why: Some(why.clone()) })
        })
    }
}

/// Returns whose folder this is, if it must not be used for that.
#[cfg(unix)]
fn stranger(folder: &Path) -> Option<Stranger> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(folder).ok()?.uid();
    match judge_owner(owner, rustix::process::geteuid().as_raw()) {
        Owner::Trusted => None,
        Owner::Odd => {
            log::warn!("{} belongs to another user (uid {owner}), who can read the files in it", folder.display());
            None
        }
        Owner::Stranger => Some(Stranger(owner)),
    }
}

#[cfg(not(unix))]
fn stranger(folder: &Path) -> Option<Stranger> {
    static WARNED: std::sync::Once = std::sync::Once::new();
    if !is_in_profile(folder) {
        WARNED.call_once(|| {
            log::warn!("{} is outside your user profile, so other users may be able to read it", folder.display());
        });
    }
    None
}

/// Returns whether a folder is in the user's profile, which Windows closes to other users: what is created there inherits
/// that. Elsewhere a new folder may inherit that all users can read it.
#[cfg(not(unix))]
pub(crate) fn is_in_profile(folder: &Path) -> bool {
    // A missing folder inherits from the nearest one that exists. Names have one spelling once they are resolved.
    let resolved = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        path.ancestors().find_map(|there| there.canonicalize().ok())
    };
    let profile = directories::BaseDirs::new().and_then(|dirs| resolved(dirs.home_dir()));
    matches!((resolved(folder), profile), (Some(folder), Some(profile)) if folder.starts_with(&profile))
}

/// What the owner of the store means for a process of this user.
#[cfg(unix)]
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Trusted,
    /// Root uses what a user has, as in a container with a folder from outside.
    Odd,
    Stranger,
}

#[cfg(unix)]
const fn judge_owner(owner: u32, user: u32) -> Owner {
    match (owner, user) {
        _ if owner == user || owner == 0 => Owner::Trusted,
        (_, 0) => Owner::Odd,
        _ => Owner::Stranger,
    }
}

/// Returns whether the file may be there and sound all the same.
pub(super) fn is_fault(error: &io::Error) -> bool {
    // A folder in the place of a file holds nothing.
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

/// Runs an operation on a thread of its own, and returns what comes of it unless that takes longer than `patience`.
pub(crate) fn within<T: Send + 'static>(
    patience: Duration,
    operation: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::channel();
    // Whoever waits may be gone.
    thread::Builder::new().name("store".into()).spawn(move || _ = done.send(operation())).ok()?;
    result.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_file_is_remembered_until_readable() {
        let access = Access::default();
        let path = Path::new("tokens.json");
        let refused = || Err(io::ErrorKind::PermissionDenied.into());
        access.read(path, refused).unwrap_err();
        assert_eq!(access.unavailable().unwrap().to_string(), "cannot read tokens.json: permission denied");
        access.read(path, || Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(access.unavailable(), None, "it is not there");
    }

    #[cfg(unix)]
    #[test]
    fn store_of_another_user_is_not_used() {
        assert_eq!(judge_owner(1000, 1000), Owner::Trusted);
        assert_eq!(judge_owner(0, 1000), Owner::Trusted);
        assert_eq!(judge_owner(12345, 0), Owner::Odd);
        assert_eq!(judge_owner(12345, 1000), Owner::Stranger);
        let access = Access::default();
        access.stranger.set(Some(Stranger(12345))).unwrap();
        let read = || unreachable!("it is another's");
        access.read(Path::new("a/tokens.json"), read).unwrap_err();
        assert_eq!(
            access.unavailable().unwrap().to_string(),
            "cannot read a/tokens.json: its folder belongs to another user (uid 12345)"
        );
    }

    #[cfg(windows)]
    #[test]
    fn only_folders_in_profile_inherit_privacy() {
        let profile = directories::BaseDirs::new().unwrap().home_dir().to_owned();
        let upper = PathBuf::from(profile.to_str().unwrap().to_uppercase());
        let temporary = tempfile::tempdir_in(&profile).unwrap();
        for inside in [&profile, &upper, temporary.path(), &profile.join("missing/folder")] as [&Path; 4] {
            assert!(is_in_profile(inside), "{}", inside.display());
        }
        let beside = profile.with_file_name(format!("{}2", profile.file_name().unwrap().to_str().unwrap()));
        for outside in [Path::new(r"C:\"), Path::new(r"C:\missing\folder"), &beside, &profile.join("..")] {
            assert!(!is_in_profile(outside), "{}", outside.display());
        }
    }

    #[test]
    fn transient_read_failure_is_retried() {
        let access = Access::default();
        let tries = std::cell::Cell::new(0);
        let read = || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(io::Error::from_raw_os_error(24)) } else { Ok(b"content".to_vec()) }
        };
        assert_eq!(access.read(Path::new("a"), read).unwrap(), b"content");
        assert_eq!((tries.get(), access.unavailable()), (3, None));
    }

    #[test]
    fn operation_that_does_not_end_is_not_awaited() {
        let (release, held) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(20), move || _ = held.recv()), None);
        drop(release);
        assert_eq!(within(Duration::from_secs(30), || 1), Some(1));
    }
}
