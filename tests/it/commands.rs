//! `mcp-remote login`, `logout` and `status`: signing in ahead of time, signing out, and who is signed
//! in where.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use crate::support::{
    authorization_server::{AuthorizationServer, Settings},
    browser::{Browser, redirect_of, visit},
    host::{initialize_params, request},
    kept,
    server::{Reply, ordinary, reserved_port},
    soon, stored,
};

struct World {
    server: AuthorizationServer,
    browser: Browser,
    home: Arc<TempDir>,
}

/// What a command has said.
struct Said {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl World {
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let server = AuthorizationServer::with(|settings| {
            // `login` may list the tools, which many servers protect and not the handshake.
            settings.mcp = Arc::new(|request| match request.rpc().as_str() {
                "tools/list" => Reply::result(request, r#"{"tools":[]}"#),
                _ => ordinary(request),
            });
            change(settings);
        })
        .await;
        Self { server, browser: Browser::consenting(), home: Arc::new(tempfile::tempdir().unwrap()) }
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let mut host = self.browser.host_with(&self.home, arguments, &[]);
        let stdout = host.rest().await.join("\n");
        let (status, _) = host.exit().await;
        Said { status, stdout, stderr: host.stderr() }
    }

    async fn succeeds(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments).await;
        assert!(said.status.success(), "{arguments:?}: {} {}\n{}", said.status, said.stdout, said.stderr);
        said
    }

    fn is_secretive(&self, said: &Said) {
        for secret in self.server.secrets() {
            assert!(!said.stdout.contains(&secret) && !said.stderr.contains(&secret), "{secret}: {}", said.stdout);
        }
    }
}

#[tokio::test]
async fn login_ahead_of_time_serves_host() {
    let desk = World::with(|_| {}).await;
    let said = desk.succeeds(&["login", &desk.server.url()]).await;
    desk.is_secretive(&said);
    let page = desk.browser.page().await.body;
    assert!(page.contains("go back to your terminal."), "{page}");
    let before = desk.server.counts();
    let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &[]);
    assert!(host.initialize().await["result"].is_object());
    assert_eq!(desk.server.counts(), before);
    assert_eq!(before.tabs, 1);
}

/// The query of a sign-in's URL differs each time.
fn without_query(text: &str) -> String {
    let lines = text.lines().map(|line| line.split('?').next().unwrap_or_default().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[tokio::test]
async fn login_prints_instructions_in_order() {
    let desk = World::with(|_| {}).await;
    let (url, at) = (desk.server.url(), desk.server.addresses());
    let host = at.mcp.strip_prefix("http://").unwrap();
    let page = format!("{}/oauth/authorize", at.authorization);
    let said = desk.succeeds(&["login", &url]).await;
    assert_eq!(
        without_query(&said.stderr),
        format!(
            "A browser window was opened. Sign in to {host} there.\nIf you see no window, open this URL:\n\n    {page}\n\n\
             Waiting for you to sign in.\n"
        )
    );
    assert_eq!(said.stdout, format!("Signed in to {host}."));
    // Silence is silence.
    let said = desk.succeeds(&["login", &url, "--silent"]).await;
    assert_eq!((&*said.stderr, said.stdout), ("", format!("Signed in to {host}.")));
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "Windows opens its own browser where the one of BROWSER fails")]
async fn login_without_browser_asks_to_open_url_once() {
    for (browser, reason) in [("/bin/false", "warning: cannot open a browser"), ("", "")] {
        let desk = World::with(|_| {}).await;
        let url = desk.server.url();
        let no_browser: &[&str] = if browser.is_empty() { &["--no-browser"] } else { &[] };
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
        command.args([&["login", &url], no_browser].concat()).env_clear().envs(kept()).env("HOME", desk.home.path());
        command.env("BROWSER", browser).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        let open = soon("the URL is printed", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it prints a URL");
                match line.trim().starts_with("http") {
                    true => break line.trim().to_owned(),
                    false => before.push(line),
                }
            }
        })
        .await;
        assert_eq!(before.pop().as_deref(), Some(""));
        let instruction = before.pop().unwrap();
        assert!(instruction.starts_with("Open this URL in a browser to sign in to 127.0.0.1:"), "{instruction}");
        assert!(before.join("\n").starts_with(reason) && before.is_empty() == reason.is_empty(), "{before:?}");
        visit(&open).await;
        let mut after = Vec::new();
        while let Some(line) = soon("login ends", lines.next_line()).await.unwrap() {
            after.push(line);
        }
        assert_eq!(after[..2], ["", "Waiting for you to sign in."], "{after:?}");
        assert!(!after.iter().any(|line| line.contains("http://") && line.contains("/authorize?")), "once: {after:?}");
        let done = soon("login ends", child.wait_with_output()).await.unwrap();
        assert!(String::from_utf8(done.stdout).unwrap().starts_with("Signed in to 127.0.0.1:"));
    }
}

#[tokio::test]
async fn status_says_when_a_sign_in_expires() {
    let desk = World::with(|_| {}).await;
    let url = desk.server.url();
    desk.succeeds(&["login", &url]).await;
    let said = desk.succeeds(&["status"]).await;
    let expiry = said.stdout.lines().nth(1).unwrap_or_default();
    assert!(
        ["  expires in 59 min, then mcp-remote renews it", "  expires in 60 min, then mcp-remote renews it"]
            .contains(&expiry),
        "{}",
        said.stdout
    );
    let json: Value = serde_json::from_str(&desk.succeeds(&["status", "--json"]).await.stdout).unwrap();
    let date = json[0]["expires_at"].as_str().unwrap();
    assert!(date.starts_with("20") && date.ends_with('Z') && !said.stdout.contains(date), "{date}: {}", said.stdout);
}

#[tokio::test]
async fn command_for_people_logs_no_process_id() {
    let desk = World::with(|settings| settings.denies = Some(("access_denied".into(), "not today".into()))).await;
    let url = desk.server.url();
    for arguments in [&["login", &*url][..], &["logout", &url], &["logout", "--all"], &["status"], &["status", &url]] {
        let said = desk.run(arguments).await;
        let prefixed = said.stderr.lines().chain(said.stdout.lines()).find(|line| line.starts_with('['));
        assert_eq!(prefixed, None, "{arguments:?}");
    }
}

#[tokio::test]
async fn failed_login_has_exit_code_and_reason() {
    let desk = World::with(|settings| settings.denies = Some(("access_denied".into(), "not today".into()))).await;
    let said = desk.run(&["login", &desk.server.url()]).await;
    assert!(!said.status.success());
    assert!(said.stderr.contains("not today"), "{}", said.stderr);
    let failure: Vec<_> = said.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    let [sentence, tip, details] = failure[..] else { panic!("not three lines: {}", said.stderr) };
    assert!(sentence.contains("not today") && tip.starts_with("Tip: "), "{}", said.stderr);
    assert_eq!(details, "Details: mcp-remote explain sign_in_denied");
    assert_eq!(said.stderr.matches("not today").count(), 1, "it is printed once: {}", said.stderr);
}

#[tokio::test]
async fn login_to_unreachable_server_fails_at_once() {
    let desk = World::with(|_| {}).await;
    let url = format!("http://127.0.0.1:{}/mcp", reserved_port().await);
    let said = desk.run(&["login", &url]).await;
    let [sentence, tip, details] = said.stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("not three lines: {}", said.stderr)
    };
    assert!(sentence.starts_with("error: cannot connect to ") && tip.starts_with("Tip: "), "{}", said.stderr);
    assert_eq!(details, "Details: mcp-remote explain cannot_connect");
}

#[tokio::test]
async fn logout_without_sign_in_forgets_registration() {
    let desk = World::with(|settings| settings.denies = Some(("unauthorized_client".into(), "who?".into()))).await;
    let url = desk.server.url();
    desk.run(&["login", &url]).await;
    assert_ne!(stored::json(desk.home.path(), &url, "registrations.json"), Value::Null);
    let said = desk.succeeds(&["logout", &url]).await;
    assert_eq!(stored::json(desk.home.path(), &url, "registrations.json"), Value::Null);
    assert!(said.stdout.contains("A stored client registration, if any, was deleted."), "{}", said.stdout);
}

#[tokio::test]
async fn login_uses_servers_challenge() {
    // Where the metadata are, and which scope is wanted, stands in the challenge and nowhere else.
    let desk = World::with(|settings| {
        settings.prm_path = Some("/about/us.json".into());
        settings.challenges = vec![r#"Bearer resource_metadata="{prm}", scope="read:things""#.into()];
    })
    .await;
    desk.succeeds(&["login", &desk.server.url()]).await;
    assert_eq!(desk.server.tabs()[0].get("scope"), Some("read:things"));
}

#[tokio::test]
async fn login_without_offered_sign_in_names_server() {
    let desk = World::with(|settings| {
        settings.open = |_| true;
        (settings.prm_path, settings.metadata_path, settings.one_origin) = (None, None, true);
    })
    .await;
    let said = desk.run(&["login", &desk.server.url()]).await;
    assert_eq!(desk.browser.tabs(), []);
    assert!(said.stderr.contains("127.0.0.1") || said.stdout.contains("127.0.0.1"), "{}{}", said.stdout, said.stderr);
}

#[tokio::test]
async fn logout_revokes_and_forgets_tokens() {
    let desk = World::with(|settings| settings.client_method = "client_secret_basic".into()).await;
    let url = desk.server.url();
    desk.succeeds(&["login", &url]).await;
    let said = desk.succeeds(&["logout", &url]).await;
    desk.is_secretive(&said);
    assert!(desk.server.counts().revocations >= 1, "{} {}", said.stdout, said.stderr);
    for entry in std::fs::read_dir(stored::folder(desk.home.path())).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        assert!(desk.server.secrets().iter().all(|secret| !text.contains(secret.as_str())), "{text}");
    }
    let mut host = desk.browser.host_at(&desk.home, &url, &[]);
    assert!(host.initialize().await["result"].is_object());
    assert_eq!(desk.server.counts().tabs, 2);
}

#[tokio::test]
async fn logout_forgets_tokens_of_unreachable_server() {
    let desk = World::with(|_| {}).await;
    let url = desk.server.url();
    desk.succeeds(&["login", &url]).await;
    desk.server.change(|settings| settings.first = Arc::new(|_| Some(Reply::Close)));
    desk.run(&["logout", &url]).await;
    assert_eq!(stored::json(desk.home.path(), &url, "tokens.json"), Value::Null);
}

#[tokio::test]
async fn logout_forgets_leftovers_of_killed_instance() {
    let desk = World::with(|_| {}).await;
    let url = desk.server.url();
    desk.succeeds(&["login", &url]).await;
    let left = stored::file(desk.home.path(), &url, "tokens.json.4711.abc.tmp");
    std::fs::copy(stored::file(desk.home.path(), &url, "tokens.json"), &left).unwrap();
    desk.succeeds(&["logout", &url]).await;
    assert!(!left.exists());
}

#[tokio::test]
async fn logout_all_revokes_and_forgets_tokens() {
    let desk = World::with(|_| {}).await;
    let url = desk.server.url();
    desk.succeeds(&["login", &url]).await;
    let said = desk.succeeds(&["logout", "--all"]).await;
    assert_eq!(stored::json(desk.home.path(), &url, "tokens.json"), Value::Null);
    assert!(desk.server.counts().revocations >= 1, "{} {}", said.stdout, said.stderr);
}

#[tokio::test]
async fn logout_all_counts_registrations_and_names_no_hash() {
    let desk = World::with(|_| {}).await;
    assert_eq!(desk.succeeds(&["logout", "--all"]).await.stdout.trim_end(), "Nothing to sign out of.");
    let folder = stored::folder(desk.home.path());
    std::fs::create_dir_all(&folder).unwrap();
    let put = |hash: char, name: &str, text: &str| {
        std::fs::write(folder.join(format!("{}_{name}", hash.to_string().repeat(32))), text).unwrap();
    };
    put('1', "tokens.lock", "");
    assert_eq!(desk.succeeds(&["logout", "--all"]).await.stdout.trim_end(), "Nothing to sign out of.");
    put('2', "client_info.json", r#"{"client_id":"a"}"#);
    assert_eq!(desk.succeeds(&["logout", "--all"]).await.stdout.trim_end(), "Deleted 1 client registration.");
    put('2', "registrations.json", "{}");
    put('3', "registrations.json", "{}");
    assert_eq!(desk.succeeds(&["logout", "--all"]).await.stdout.trim_end(), "Deleted 2 client registrations.");
    put('4', "tokens.json", r#"{"access_token":"hush-token"}"#);
    let said = desk.succeeds(&["logout", "--all"]).await.stdout;
    assert!(said.starts_with("Signed out of an unknown server on this computer."), "{said}");
    assert!(!said.contains("4444") && said.lines().count() == 1, "{said}");
    assert_eq!(desk.succeeds(&["logout", "--all"]).await.stdout.trim_end(), "Nothing to sign out of.");
}

#[tokio::test]
async fn status_lists_sign_ins_without_secrets() {
    let desk = World::with(|settings| {
        settings.challenges = vec![r#"Bearer resource_metadata="{prm}", scope="read:things""#.into()];
    })
    .await;
    let url = desk.server.url();
    desk.succeeds(&["status"]).await;
    desk.succeeds(&["login", &url]).await;
    let text = desk.succeeds(&["status"]).await;
    desk.is_secretive(&text);
    assert!(text.stdout.contains(&url) && text.stdout.contains("read:things"), "{}", text.stdout);
    let json = desk.succeeds(&["status", "--json"]).await;
    desk.is_secretive(&json);
    let value: Value = serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {}", json.stdout));
    assert!(value.to_string().contains(&url), "{value}");
}

/// Runs `mcp-remote-client finish` and gives it this line.
async fn finish(desk: &World, line: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote-client"));
    command
        .arg("finish")
        .env_clear()
        .envs(kept())
        .env("HOME", desk.home.path())
        .env("MCP_REMOTE_CONFIG_DIR", desk.home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    drop(stdin);
    let output = soon("the command ends", child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[tokio::test]
async fn finish_hands_redirect_over() {
    let mut desk = World::with(|_| {}).await;
    desk.browser = Browser::waiting();
    let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &[]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let redirect = redirect_of(&desk.browser.tab().await.url).await;
    for wrong in ["", "nonsense", "http://localhost:1/oauth/callback?code=x", "http://localhost/?code=x&state=unknown"]
    {
        let said = finish(&desk, wrong).await;
        assert!(!said.status.success() && said.stderr.starts_with("error: "), "{wrong}: {}", said.stdout);
        assert!(said.stderr.lines().nth(1).is_some_and(|line| line.starts_with("Tip: ")), "{wrong}: {}", said.stderr);
    }
    let said = finish(&desk, &redirect).await;
    assert!(said.status.success(), "{}", said.stderr);
    desk.is_secretive(&said);
    assert!(host.json().await["result"].is_object());
    assert_eq!(desk.server.counts().exchanges, 1);
}
