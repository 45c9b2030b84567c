//! The last known description of a server on disk: for one credential and one account, and shown to no
//! other.
//!
//! # Invariants
//!
//! - No message waits for a write, nor for a read longer than [`READ_PATIENCE`].

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use log::{debug, warn};
use reqwest::header::HeaderMap;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Description, Descriptions, Learned};
use crate::{
    config::Config,
    known_hosts::{HostLimits, HostName, limits},
    store::{self, Store, within},
    worker::Worker,
};

const FILE: &str = "description.json";
/// The most that is kept, in bytes: it is read while a host waits. What is longer is not even looked at:
/// as values it would take many times its length.
const MOST: usize = 4 * 1024 * 1024;

/// How long a read is waited for: the loop stands still meanwhile, so a disk that does not answer is waited for once.
const READ_PATIENCE: Duration = Duration::from_millis(250);

/// Who is signed in, as far as the files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// Nobody: whoever comes back is expected to be the one who was there last.
    Nobody,
    /// The sign-in of this name.
    SignedIn(String),
    /// Somebody whose token we still use, and who has signed out, or given way to another, meanwhile.
    Gone,
}

/// Tells who is signed in now.
pub(crate) type AccountNow = Arc<dyn Fn() -> Account + Send + Sync>;

/// The description of one server, for one credential.
pub(crate) struct DescriptionStore {
    shared: Arc<Shared>,
    /// What writes, from the first thing to write on.
    writer: Option<Worker>,
    /// The disk has not answered in time.
    is_slow: bool,
}

struct Shared {
    store: Store,
    credential: String,
    account: AccountNow,
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// What goes with every request, and could make another account of it.
    credential: String,
    /// Who was signed in; none on an open server.
    account: Option<String>,
    description: Description,
}

impl DescriptionStore {
    /// Touches nothing yet.
    pub(crate) fn new(config: &Config, account: AccountNow) -> Self {
        let store = Store::new(config.store.clone(), config.server_hash.clone());
        let shared = Shared { store, credential: credential(config), account };
        Self { shared: Arc::new(shared), writer: None, is_slow: false }
    }

    /// Reads on a thread of its own.
    fn read<T: Default + Send + 'static>(&mut self, read: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        if self.is_slow {
            return T::default();
        }
        let shared = self.shared.clone();
        within(READ_PATIENCE, move || read(&shared)).unwrap_or_else(|| {
            self.is_slow = true;
            warn!(
                "the disk did not answer within {} s; continuing without stored data about this server",
                READ_PATIENCE.as_secs_f32()
            );
            T::default()
        })
    }
}

impl std::fmt::Debug for DescriptionStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DescriptionStore").finish_non_exhaustive()
    }
}

impl Descriptions for DescriptionStore {
    fn load(&mut self) -> Option<Description> {
        self.read(Shared::load).filter(|known| !known.initialize.is_empty() || known.discover.is_some())
    }

    fn host_limits(&mut self, host: &HostName) -> HostLimits {
        let host = host.clone();
        self.read(move |shared| limits::limits(&shared.store, &host, SystemTime::now()))
    }

    fn save(&mut self, learned: Learned) {
        if learned.len() > MOST {
            return debug!("not storing the server description: it is longer than {MOST} bytes");
        }
        let shared = self.shared.clone();
        let writer = self.writer.get_or_insert_with(|| Worker::new("description", usize::MAX));
        _ = writer.run(move || shared.learn(&learned));
    }

    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        let (done, written) = oneshot::channel();
        _ = self.writer.take()?.run(move || _ = done.send(()));
        Some(written)
    }
}

impl Shared {
    fn load(&self) -> Option<Description> {
        let kept: Kept = self.store.parse(FILE, |content| serde_json::from_slice(content).ok())?;
        let same_account = match (self.account)() {
            Account::Nobody => true,
            Account::SignedIn(name) => kept.account == Some(name),
            Account::Gone => false,
        };
        (kept.credential == self.credential && same_account).then_some(kept.description)
    }

    fn learn(&self, learned: &Learned) {
        let now = SystemTime::now();
        match learned {
            Learned::HostLimit { host, request, after, evidence } => {
                return limits::save(&self.store, host, *request, (*after, *evidence), now);
            }
            Learned::HostWaits { host, after, evidence } => {
                return limits::note_waiting(&self.store, host, (*after, *evidence), now);
            }
            Learned::HostHasAnswer { host } => return limits::note_answered(&self.store, host, now),
            Learned::Initialize { .. } | Learned::List(..) | Learned::Discover(_) => {}
        }
        let account = match (self.account)() {
            Account::Nobody => None,
            Account::SignedIn(name) => Some(name),
            Account::Gone => return, // what they see is forgotten here
        };
        let kept: Option<Kept> = self.store.parse(FILE, |content| serde_json::from_slice(content).ok());
        let mut kept = kept
            .filter(|kept| kept.credential == self.credential && kept.account == account)
            .unwrap_or_else(|| Kept { credential: self.credential.clone(), account, ..Kept::default() });
        if !kept.description.learn(learned) {
            return;
        }
        let Some(text) = serde_json::to_vec(&kept).ok().filter(|text| text.len() <= MOST) else {
            return debug!("not storing the server description: it is longer than {MOST} bytes");
        };
        let written = self.store.write(FILE, &text);
        if let Err(error) = written {
            debug!("cannot store the server description: {error:#}");
        }
        // Another process may have signed out since the account was read.
        if (self.account)() == Account::Gone {
            self.store.remove(FILE);
        }
    }
}

/// Returns a description as it would be written again, for fuzz targets; `None` if it is damaged.
pub(crate) fn rewritten_description(content: &[u8]) -> Option<Vec<u8>> {
    store::rewritten::<Kept>(content)
}

/// A name for everything in the settings that a server could know its users by. The file's own name does
/// not cover it: that is made of headers as they are written, before `${NAME}` is replaced.
fn credential(config: &Config) -> String {
    let mut digest = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part);
    };
    for (name, value) in sorted(&config.headers) {
        add(name.as_bytes());
        add(value);
    }
    add(b"certificate");
    if let Some(identity) = &config.network.identity {
        identity.chain.iter().take(1).for_each(|certificate| add(certificate));
    }
    add(b"client");
    let info = config.authorization.client_info.as_ref();
    add(info.and_then(|info| info.expose().get("client_id")?.as_str()).unwrap_or_default().as_bytes());
    let grant = &config.authorization.grant;
    add(if grant.needs_person() { b"person" } else { grant.name().as_bytes() });
    digest.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{self, Command, Program},
        message::Message,
    };

    fn config(folder: &std::path::Path, flags: &[&str]) -> Box<Config> {
        config_with(folder, flags, "one")
    }

    fn config_with(folder: &std::path::Path, flags: &[&str], key: &str) -> Box<Config> {
        let folder = folder.to_str().unwrap();
        let mut arguments = vec!["http://127.0.0.1:1/mcp", "--config-dir", folder];
        arguments.extend(flags);
        let arguments = arguments.into_iter().map(Into::into);
        let environment = |name: &str| (name == "KEY").then(|| key.to_owned());
        let Ok(Command::Forward(config)) = cli::parse(Program::Adapter, arguments.collect(), &environment) else {
            panic!("the arguments are good")
        };
        config
    }

    fn of(account: &Account) -> AccountNow {
        let account = account.clone();
        Arc::new(move || account.clone())
    }

    fn initialize(server: &str) -> Learned {
        let request = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
        let answer = format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"serverInfo":{{"name":"{server}"}}}}}}"#);
        Learned::Initialize {
            request: Message::from_text(request.to_owned()).unwrap(),
            answer: Message::from_text(answer).unwrap().body,
        }
    }

    fn keep(descriptions: &mut DescriptionStore, learned: Learned) {
        descriptions.save(learned);
        descriptions.end().unwrap().blocking_recv().unwrap();
    }

    fn name(descriptions: &mut DescriptionStore) -> Option<String> {
        Some(descriptions.load()?.initialize["serverInfo"]["name"].as_str()?.to_owned())
    }

    #[test]
    fn description_is_shown_only_to_its_account() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &[]);
        let ann = Account::SignedIn("ann".to_owned());
        let mut descriptions = DescriptionStore::new(&config, of(&ann));
        assert_eq!(name(&mut descriptions), None);
        keep(&mut descriptions, initialize("a"));
        assert_eq!(name(&mut descriptions).as_deref(), Some("a"));
        let ben = Account::SignedIn("ben".to_owned());
        assert_eq!(name(&mut DescriptionStore::new(&config, of(&ben))), None);
        // Nobody is signed in: the last one is expected back.
        assert_eq!(name(&mut DescriptionStore::new(&config, of(&Account::Nobody))).as_deref(), Some("a"));
        keep(&mut DescriptionStore::new(&config, of(&ben)), initialize("b"));
        assert_eq!(name(&mut DescriptionStore::new(&config, of(&ann))), None);
    }

    #[test]
    fn other_header_key_or_client_is_other_credential() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = Account::Nobody;
        let with = |flags: &[&str]| credential(&config(folder.path(), flags));
        let mut descriptions = DescriptionStore::new(&config(folder.path(), &["--header", "X-Key:one"]), of(&nobody));
        keep(&mut descriptions, initialize("a"));
        assert_eq!(with(&["--header", "X-Key:one"]), with(&["--header", "X-Key:${KEY}"]));
        let others = [
            with(&["--header", "X-Key:two"]),
            with(&["--static-oauth-client-info", r#"{"client_id":"other"}"#]),
            with(&["--header", "X-Key:one", "--header", "X-Other:one"]),
            with(&[]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != with(&["--header", "X-Key:one"]) && !others[..at].contains(other));
        }
        assert_eq!(
            name(&mut DescriptionStore::new(&config(folder.path(), &["--header", "X-Key:two"]), of(&nobody))),
            None
        );
    }

    #[test]
    fn other_variable_value_is_other_credential() {
        let folder = tempfile::tempdir().unwrap();
        let descriptions = |key| {
            DescriptionStore::new(&config_with(folder.path(), &["--header", "X-Key:${KEY}"], key), of(&Account::Nobody))
        };
        keep(&mut descriptions("one"), initialize("a"));
        assert_eq!(name(&mut descriptions("one")).as_deref(), Some("a"));
        assert_eq!(name(&mut descriptions("two")), None);
        keep(&mut descriptions("two"), initialize("b"));
        assert_eq!(name(&mut descriptions("one")), None);
    }

    #[cfg(unix)]
    #[test]
    fn file_belongs_to_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &[]);
        let mut descriptions = DescriptionStore::new(&config, of(&Account::Nobody));
        keep(&mut descriptions, initialize("a"));
        let path = descriptions.shared.store.path(FILE);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn oversized_description_is_skipped_and_later_kept() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &[]);
        let mut descriptions = DescriptionStore::new(&config, of(&Account::Nobody));
        descriptions.save(initialize(&"a".repeat(MOST)));
        assert!(descriptions.end().is_none(), "nothing is under way");
        keep(&mut descriptions, initialize("b"));
        assert_eq!(name(&mut descriptions).as_deref(), Some("b"));
    }
}
