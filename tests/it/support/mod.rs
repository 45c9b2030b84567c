//! The peers of the tests: a host that starts the real binary, a server that does and says exactly
//! what a test wants and remembers what it was asked, an authorization server, and a browser.
//!
//! Everything waits for events and gives up after [`PATIENCE`], so that a broken program fails a
//! test and does not hang it.

pub mod authorization_server;
pub mod browser;
pub mod event_streams;
pub mod far;
pub mod host;
pub mod server;
pub mod stored;

use std::{ffi::OsString, time::Duration};

use serde_json::{Value, json};

/// Far more than anything takes; only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The variables without which no program starts or finds the user's folders, on Windows; elsewhere there are none.
pub fn kept() -> impl Iterator<Item = (&'static str, OsString)> {
    const OF_WINDOWS: &[&str] = &["SYSTEMROOT", "TEMP", "TMP", "PATH", "USERPROFILE", "APPDATA", "LOCALAPPDATA"];
    let names = if cfg!(windows) { OF_WINDOWS } else { &[] };
    names.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(happened) => happened,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// Asserts that an answer is an error of the program's own, and returns its words: message and hint.
#[track_caller]
pub fn own_error(answer: &Value) -> String {
    let error = &answer["error"];
    assert_eq!(error["code"], json!(-31000), "{answer}");
    assert!(error["data"]["code"].is_string(), "{answer}");
    format!("{} {}", error["message"].as_str().unwrap_or_default(), error["data"]["hint"].as_str().unwrap_or_default())
}
