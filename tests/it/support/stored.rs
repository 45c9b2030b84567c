//! The store's files as npm's mcp-remote 0.15.1 names and writes them, read and written by a test
//! without the program's own code.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use md5::{Digest as _, Md5};
use serde_json::Value;

/// npm's name for a server without further flags.
pub fn hash(url: &str) -> String {
    Md5::digest(url).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The port npm derives for the redirect.
pub fn port(url: &str) -> u16 {
    let hash = u32::from_str_radix(&hash(url)[..4], 16).unwrap();
    u16::try_from(3335 + hash % 45816).unwrap()
}

/// The folder of all files.
pub fn folder(home: &Path) -> PathBuf {
    home.join("mcp-remote-v1")
}

/// One file of a server.
pub fn file(home: &Path, url: &str, name: &str) -> PathBuf {
    folder(home).join(format!("{}_{name}", hash(url)))
}

/// The file as JSON; null if there is none.
pub fn json(home: &Path, url: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(file(home, url, name)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Writes it as npm does.
pub fn write(home: &Path, url: &str, name: &str, value: &Value) {
    std::fs::create_dir_all(folder(home)).unwrap();
    std::fs::write(file(home, url, name), serde_json::to_string_pretty(value).unwrap()).unwrap();
}

/// Changes it.
pub fn change(home: &Path, url: &str, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = json(home, url, name);
    assert!(!value.is_null(), "there is no {name}");
    change(&mut value);
    write(home, url, name, &value);
}

/// Makes the stored access token look expired.
pub fn expire(home: &Path, url: &str) {
    change(home, url, "tokens.json", |tokens| tokens["expires_at"] = Value::from(now() - 1000));
}

/// Milliseconds since 1970, as npm counts.
pub fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
