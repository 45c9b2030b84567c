//! Disks that do not answer, files that cannot be read, and instances that stand still: what is stored is never taken for
//! absent, and nobody waits for it forever.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    authorization_server::{AuthorizationServer, Counts, Settings},
    browser::{Browser, visit},
    host::{Handles, Host, WAIT, initialize_params, request},
    own_error,
    server::{Reply, Server, ordinary},
    stored,
};

/// Every file that this program keeps for a server.
const FILES: [&str; 14] = [
    "client_info.json",
    "description.json",
    "dpop_grant.json",
    "dpop_key.pem",
    "dpop_tokens.json",
    "grant.json",
    "refresh_in_progress.json",
    "registration_busy.json",
    "registrations.json",
    "remedies.json",
    "sign_in.lock",
    "tabs.json",
    "tokens.json",
    "tokens.lock",
];
/// And for all of them.
const SHARED: [&str; 2] = ["eras.json", "hosts.json"];

/// Puts a FIFO in the place of a file: opening it does not return, as on a disk that is gone.
fn hang(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    _ = std::fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn file(home: &Path, url: &str, name: &str) -> PathBuf {
    if SHARED.contains(&name) { stored::folder(home).join(name) } else { stored::file(home, url, name) }
}

fn new_home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// A server, and a home where somebody has signed in to it.
async fn signed_in() -> (AuthorizationServer, Browser, Arc<TempDir>) {
    let server = AuthorizationServer::with(|_| {}).await;
    let (browser, home) = (Browser::consenting(), new_home());
    let mut host = browser.host_at(&home, &server.url(), &WAIT);
    assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
    host.close().await;
    (server, browser, home)
}

async fn ends_soon(mut host: Host, what: &str) {
    host.end_input();
    let began = Instant::now();
    let (status, _) = host.exit().await;
    assert!(status.success() && began.elapsed() < Duration::from_secs(3), "{what}: {status:?} {:?}", began.elapsed());
}

#[tokio::test]
async fn open_server_needs_no_disk() {
    let server = Server::with(ordinary).await;
    let url = server.url("/mcp");
    let home = new_home();
    for name in FILES.iter().chain(&SHARED) {
        hang(&file(home.path(), &url, name));
    }
    for protocol in ["legacy", "auto"] {
        let arguments = [&url, "--protocol", protocol];
        let mut host = Host::start_raw(Handles::SocketPairs, &arguments, &[], home.clone());
        let began = Instant::now();
        assert!(host.initialize().await["result"].is_object());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(host.ask(1, "tools/list", json!({})).await["result"].is_object());
        ends_soon(host, protocol).await;
    }
}

#[tokio::test]
async fn hanging_file_blocks_neither_answer_nor_exit() {
    let mut tests = tokio::task::JoinSet::new();
    for name in FILES.iter().chain(&SHARED) {
        tests.spawn(async move {
            let (server, browser, home) = signed_in().await;
            stored::expire(home.path(), &server.url()); // so that the store is needed
            hang(&file(home.path(), &server.url(), name));
            let mut host = browser.host_at(&home, &server.url(), &WAIT);
            let began = Instant::now();
            let answer = host.initialize().await;
            assert!(began.elapsed() < Duration::from_secs(15), "{name}: {:?}", began.elapsed());
            if answer["error"].is_object() {
                let told = own_error(&answer);
                assert!(told.contains("does not answer") && told.contains(name), "{name}: {told}");
                assert_eq!(answer["error"]["data"]["code"], "store_unavailable", "{name}");
            }
            assert_eq!(server.counts().tabs, 1, "{name}: nobody is asked again");
            ends_soon(host, name).await;
        });
    }
    while let Some(test) = tests.join_next().await {
        test.unwrap();
    }
}

/// Makes a file that no process can open, not even root's: a link to itself.
fn make_unreadable(path: &Path) {
    _ = std::fs::remove_file(path);
    symlink(path, path).unwrap();
}

#[tokio::test]
async fn unreadable_file_opens_no_tab() {
    for name in ["tokens.json", "registrations.json"] {
        let (server, browser, home) = signed_in().await;
        stored::expire(home.path(), &server.url());
        let file = stored::file(home.path(), &server.url(), name);
        let content = std::fs::read(&file).unwrap();
        make_unreadable(&file);
        let mut host = browser.host_at(&home, &server.url(), &WAIT);
        let answer = host.initialize().await;
        let Counts { tabs, registrations, .. } = server.counts();
        assert_eq!((tabs, registrations), (1, 1), "{name}");
        if name == "tokens.json" {
            let told = own_error(&answer);
            assert_eq!(answer["error"]["data"]["code"], "store_unavailable", "{told}");
            assert!(
                told.contains("cannot read ") && told.contains("tokens.json: ") && !told.contains("delete"),
                "{told}"
            );
            // The file is itself again: the next request finds it.
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, content).unwrap();
            assert!(host.initialize().await["result"].is_object());
            assert_eq!(server.counts().tabs, 1);
        }
        host.close().await;
    }
}

#[tokio::test]
async fn logout_reports_unreadable_tokens_as_not_revoked() {
    let (server, _browser, home) = signed_in().await;
    make_unreadable(&stored::file(home.path(), &server.url(), "tokens.json"));
    let logout = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .args(["logout", &server.url()])
        .env("MCP_REMOTE_CONFIG_DIR", home.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&logout.stdout);
    assert!(said.contains(" on this computer. The tokens could not be revoked: "), "{said}");
    assert!(said.contains("cannot read ") && said.contains("tokens.json: "), "{said}");
    let file = stored::file(home.path(), &server.url(), "tokens.json");
    assert!(file.symlink_metadata().is_err(), "{said}");
}

/// The first request to the token endpoint is never answered, the others are.
fn first_refresh_hangs(settings: &mut Settings) {
    let asked = AtomicUsize::new(0);
    settings.first = Arc::new(move |request| {
        let is_refresh = request.path == "/oauth/token" && request.body.contains("grant_type=refresh_token");
        (is_refresh && asked.fetch_add(1, Relaxed) == 0).then_some(Reply::Hang)
    });
}

#[tokio::test]
async fn stopped_holder_of_lock_is_passed_by() {
    let server = AuthorizationServer::with(first_refresh_hangs).await;
    let (browser, home) = (Browser::consenting(), new_home());
    let mut host = browser.host_at(&home, &server.url(), &WAIT);
    assert!(host.initialize().await["result"].is_object());
    host.close().await;
    stored::expire(home.path(), &server.url());
    let mut stopped = browser.host_at(&home, &server.url(), &WAIT);
    stopped.send(request(1, "initialize", initialize_params("2025-11-25"))).await;
    server
        .until("a refresh is under way", |server| {
            server
                .arrived()
                .iter()
                .any(|one| one.path() == "/oauth/token" && one.request.body.contains("refresh_token"))
        })
        .await;
    let pid = stopped.child.id().unwrap();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
    signal("-STOP");
    let mut host = browser.host_at(&home, &server.url(), &WAIT);
    let began = Instant::now();
    assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    host.told(&format!("the mcp-remote process {pid} has held ")).await;
    assert_eq!(server.counts().tabs, 1);
    host.close().await;
    let began = Instant::now();
    let logout = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .args(["logout", &server.url()])
        .env("MCP_REMOTE_CONFIG_DIR", home.path())
        .output()
        .await
        .unwrap();
    assert!(logout.status.success() && began.elapsed() < Duration::from_secs(12), "{logout:?} {:?}", began.elapsed());
    assert!(!stored::file(home.path(), &server.url(), "tokens.json").exists());
    signal("-CONT");
    drop(stopped);
}

#[tokio::test]
async fn file_size_limit_is_survived_core_dumps_disabled() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let home = new_home();
    // No file may grow beyond nothing.
    let script = "ulimit -f 0; exec \"$0\" \"$@\"";
    let child = tokio::process::Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mcp-remote"), &server.url(), "--no-browser", WAIT[0], WAIT[1]])
        .env("MCP_REMOTE_CONFIG_DIR", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let mut host = Host::around(child, home);
    host.send(request(1, "initialize", initialize_params("2025-11-25"))).await;
    visit(&host.told_address(&server.endpoint("authorize"), 1).await).await;
    assert!(host.json().await["result"].is_object(), "{}", host.stderr());
    host.told("explain store_not_writable]").await;
    if let Ok(limits) = std::fs::read_to_string(format!("/proc/{pid}/limits")) {
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    host.close().await;
}

#[tokio::test]
async fn client_names_disk_that_does_not_answer() {
    let server = Server::with(ordinary).await;
    let home = new_home();
    hang(&file(home.path(), &server.url("/mcp"), "tokens.json"));
    let client = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote-client"))
        .args([&server.url("/mcp"), "--config-dir", home.path().to_str().unwrap()])
        .kill_on_drop(true)
        .output();
    let told = tokio::time::timeout(Duration::from_secs(30), client).await.expect("the client ends").unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("does not answer\n") && told.contains("explain store_unavailable\n"), "{told}");
    assert!(told.contains("ok    handshake "), "{told}");
}
