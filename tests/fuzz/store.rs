//! A file of the store, whatever it holds: it is read and written again as the same, shown in lines, and in nobody's way
//! when something is kept.

#![no_main]

mod alike;
mod shown;

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::{keep_in_store, rewrite_stored, show_store};
use tokio::runtime::Runtime;

const NAMES: [&str; 12] = [
    "tokens.json",
    "grant.json",
    "client_info.json",
    "registrations.json",
    "remedies.json",
    "registration_busy.json",
    "tabs.json",
    "hosts.json",
    "eras.json",
    "description.json",
    "refresh_in_progress.json",
    "sign_in_s.json",
];
/// Files that all servers share.
const SHARED: [&str; 2] = ["hosts.json", "eras.json"];
/// SHA-256 of "t", cut as in provenance: with it a file of provenance can be about the tokens.
const TOKENS: &[u8] = br#"{"access_token":"t","token_type":"Bearer"}"#;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("mcp-remote-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
});
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

fuzz_target!(|input: &[u8]| {
    let Some((kind, content)) = input.split_first() else { return };
    let name = NAMES[usize::from(*kind) % NAMES.len()];
    let rewritten = rewrite_stored(name, content);
    if let Some(written) = &rewritten {
        let again = rewrite_stored(name, written).unwrap();
        alike::assert_alike(&again, written);
    }
    // The disk takes its time.
    if rewritten.is_none() && kind / 16 != 0 {
        return;
    }
    for entry in fs::read_dir(&*FOLDER).unwrap() {
        _ = fs::remove_file(entry.unwrap().path());
    }
    let path = |name: &str| match SHARED.contains(&name) {
        true => FOLDER.join(name),
        false => FOLDER.join(format!("{}_{name}", "0".repeat(32))),
    };
    if name == "grant.json" {
        fs::write(path("tokens.json"), TOKENS).unwrap();
    }
    fs::write(path(name), content).unwrap();
    let [text, json] = show_store(&FOLDER).unwrap();
    text.lines().for_each(shown::assert_is_line);
    json.lines().for_each(shown::assert_is_line);
    serde_json::from_str::<Vec<serde_json::Value>>(&json).unwrap();
    assert_eq!(RUNTIME.block_on(keep_in_store(&FOLDER)), [] as [&str; 0], "lost after {name}");
});
