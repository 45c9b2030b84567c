//! `mcp-remote login`, `logout` and `status`: signing in ahead of time, signing out, and who is signed
//! in where.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::support::{
    authorization_server::{AuthorizationServer, Settings},
    browser::{Browser, redirect_of},
    host::{initialize_params, request},
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

#[tokio::test]
async fn failed_login_has_exit_code_and_reason() {
    let desk = World::with(|settings| settings.denies = Some(("access_denied".into(), "not today".into()))).await;
    let said = desk.run(&["login", &desk.server.url()]).await;
    assert!(!said.status.success());
    assert!(said.stderr.contains("not today"), "{}", said.stderr);
    let last = said.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("mcp-remote login: ") && last.contains(". Tip: ") && last.ends_with("explain sign_in_denied]"),
        "{last}"
    );
    assert_eq!(said.stderr.matches("not today").count(), 1, "it is printed once: {}", said.stderr);
}

#[tokio::test]
async fn login_to_unreachable_server_fails_at_once() {
    let desk = World::with(|_| {}).await;
    let url = format!("http://127.0.0.1:{}/mcp", reserved_port().await);
    let said = desk.run(&["login", &url]).await;
    let [line] = said.stderr.lines().collect::<Vec<_>>()[..] else { panic!("not one line: {}", said.stderr) };
    assert!(
        line.starts_with("mcp-remote login: cannot connect to ")
            && line.contains(". Tip: ")
            && line.ends_with("explain cannot_connect]"),
        "{line}"
    );
}

#[tokio::test]
async fn logout_without_sign_in_forgets_registration() {
    let desk = World::with(|settings| settings.denies = Some(("unauthorized_client".into(), "who?".into()))).await;
    let url = desk.server.url();
    desk.run(&["login", &url]).await;
    assert_ne!(stored::json(desk.home.path(), &url, "registrations.json"), Value::Null);
    let said = desk.succeeds(&["logout", &url]).await;
    assert_eq!(stored::json(desk.home.path(), &url, "registrations.json"), Value::Null);
    assert!(said.stdout.contains("a registration, if there was one, is forgotten"), "{}", said.stdout);
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
    command.arg("finish").env_clear().env("HOME", desk.home.path()).env("MCP_REMOTE_CONFIG_DIR", desk.home.path());
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
        assert!(!said.status.success() && !said.stderr.is_empty(), "{wrong}: {}", said.stdout);
    }
    let said = finish(&desk, &redirect).await;
    assert!(said.status.success(), "{}", said.stderr);
    desk.is_secretive(&said);
    assert!(host.json().await["result"].is_object());
    assert_eq!(desk.server.counts().exchanges, 1);
}
