//! No secret is seen anywhere: every grant runs with `--debug`, and what passed is searched for in
//! stdout, stderr, the debug file, the arguments of every process and the browser's page.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::AbortHandle;

use crate::support::{
    authorization_server::{AuthorizationServer, Client, Settings, edit, proof},
    browser::Browser,
    host::request,
    server::{Reply, ordinary},
    stored,
};

/// In a header of the user's.
const HEADER: &str = "header-secret-4711";
/// Of a configured client; with what forms and JSON escape.
const SECRET: &str = "client:s3cr%t+\"&4711";
const IDENTITY: &str = "identity-secret-4711";
const ASSERTION: &str = "assertion.secret.4711";

/// The arguments of the adapter's children, as long as it lives.
struct Children {
    seen: Arc<Mutex<BTreeSet<String>>>,
    looking: AbortHandle,
}

impl Children {
    fn of(pid: u32) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let found = seen.clone();
        let arguments = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let looking = tokio::spawn(async move {
            loop {
                found.lock().unwrap().insert(arguments(&pid.to_string()));
                for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                    let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                    found.lock().unwrap().extend(children.split_whitespace().map(arguments));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self { seen, looking: looking.abort_handle() }
    }

    fn arguments(&self) -> String {
        self.looking.abort();
        let seen = self.seen.lock().unwrap();
        assert!(!seen.is_empty());
        seen.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// A run of one grant.
struct Run {
    name: &'static str,
    server: AuthorizationServer,
    browser: Browser,
    home: Arc<TempDir>,
    files: TempDir,
    flags: Vec<String>,
    /// The token endpoint repeats in its last refusal what it was sent.
    repeats: bool,
    /// Its last answer is an error page, which repeats it too.
    fails: bool,
}

impl Run {
    async fn of(name: &'static str, change: impl FnOnce(&mut Settings)) -> Self {
        let server = AuthorizationServer::with(change).await;
        let files = tempfile::tempdir().unwrap();
        let headers = files.path().join("headers");
        std::fs::write(&headers, format!("X-Key: {HEADER}\n")).unwrap();
        let flags = vec!["--debug".to_owned(), "--header-file".to_owned(), headers.display().to_string()];
        let home = Arc::new(tempfile::tempdir().unwrap());
        Self { name, server, browser: Browser::consenting(), home, files, flags, repeats: false, fails: false }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn flag(&mut self, name: &str, value: impl std::fmt::Display) {
        self.flags.extend([name.to_owned(), value.to_string()]);
    }

    /// Signs in, calls, is refused, refreshes, is refused for good, and ends; then searches.
    async fn keeps_its_secrets(self) {
        let name = self.name;
        let url = self.server.url();
        let mut arguments = vec![url.as_str()];
        arguments.extend(self.flags.iter().map(String::as_str));
        let mut host = self.browser.host_with(&self.home, &arguments, &[("SECRET", SECRET), ("RUST_LOG", "trace")]);
        let children = Children::of(host.child.id().unwrap());
        let mut stdout = host.initialize().await.to_string();
        assert!(stdout.contains("result"), "{name}: {stdout}\n{}", host.stderr());
        stdout += &host.ask(1, "tools/list", json!({})).await.to_string();
        self.server.revoke_access_tokens();
        let answer = host.ask(2, "tools/call", json!({"name": "a"})).await;
        assert!(answer["result"].is_object(), "{name}: {answer}");
        stdout += &answer.to_string();
        self.server.revoke_access_tokens();
        let (repeats, fails) = (self.repeats, self.fails);
        self.server.change(|settings| {
            settings.first = Arc::new(move |request| {
                let words = if repeats { format!("no: {}", request.body) } else { "no".to_owned() };
                let refusal = json!({"error": "invalid_grant", "error_description": words});
                (request.path == "/oauth/token").then(|| match fails {
                    true => Reply::status(500, "text/plain", format!("cannot handle {}", request.body)),
                    false => Reply::status(400, "application/json", refusal),
                })
            });
        });
        host.send(request(3, "tools/list", json!({}))).await;
        stdout += &host.json().await.to_string();
        let arguments = children.arguments();
        host.end_input();
        host.exit().await;
        stdout += &host.rest().await.join("\n");
        let files = std::fs::read_dir(stored::folder(self.home.path())).unwrap().flatten().map(|entry| entry.path());
        let logs = files.filter(|path| path.to_string_lossy().ends_with("_debug.log"));
        let debug: String = logs.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let pages: Vec<_> = self.browser.pages().into_iter().map(|page| page.head + &page.body).collect();
        let places = [
            ("stdout", stdout),
            ("stderr", host.stderr()),
            ("the debug file", debug),
            ("arguments", arguments),
            ("the browser's arguments", self.browser.tabs().into_iter().map(|tab| tab.url).collect()),
            ("the page", pages.join("\n")),
        ];
        // What is searched is there: the debug file tells of every request.
        assert!(places[2].1.contains("tools/list"), "{name}: {}", places[2].1);
        let passed = self.server.secrets();
        assert!(passed.len() >= 2, "{name}: {passed:?}");
        for secret in passed.iter().map(String::as_str).chain([HEADER, SECRET, IDENTITY, ASSERTION]) {
            for form in forms(secret) {
                for (place, text) in &places {
                    let at = text.find(&form);
                    let around = at.map(|at| text[..at].lines().next_back().unwrap_or_default());
                    assert!(at.is_none(), "{name}: {secret} is in {place}, after: {around:?}");
                }
            }
        }
    }
}

/// A secret as it may be written: plainly, in a form, in JSON, in Basic credentials.
fn forms(secret: &str) -> Vec<String> {
    let mut url = reqwest::Url::parse("http://x/").unwrap();
    url.query_pairs_mut().append_pair("v", secret);
    let json = json!(secret).to_string();
    let encoded = url.query().unwrap()[2..].to_owned();
    // Any id before the secret ends at one of three places of base64; its inner part stays the same.
    let inner = |pad: &str, skip: usize| {
        let text = STANDARD.encode(format!("{pad}{encoded}"));
        text.trim_end_matches('=').get(skip..text.len().saturating_sub(4)).unwrap_or_default().to_owned()
    };
    let basic = [inner("", 0), inner("a", 2), inner("aa", 3)].into_iter().filter(|text| text.len() >= 12);
    [secret.to_owned(), encoded.clone(), json.trim_matches('"').to_owned()].into_iter().chain(basic).collect()
}

#[tokio::test]
async fn browser_sign_in_shows_no_secret() {
    Run::of("browser", |_| {}).await.keeps_its_secrets().await;
}

#[tokio::test]
async fn secrets_repeated_by_server_are_not_shown() {
    let mut run = Run::of("repeated", |settings| settings.client_method = "client_secret_post".into()).await;
    run.repeats = true;
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn secrets_in_error_page_are_not_shown() {
    let mut run = Run::of("error page", |settings| settings.client_method = "client_secret_post".into()).await;
    run.fails = true;
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn registration_keeps_its_client_secret_hidden() {
    for method in ["client_secret_basic", "client_secret_post"] {
        Run::of("registration", |settings| settings.client_method = method.into()).await.keeps_its_secrets().await;
    }
}

#[tokio::test]
async fn sign_in_without_expiry_keeps_its_secrets() {
    // npm prints the whole answer in this case.
    Run::of("no expiry", |settings| settings.lifetime = json!(null)).await.keeps_its_secrets().await;
}

#[tokio::test]
async fn configured_client_secret_is_not_shown() {
    for inline in [true, false] {
        let mut run = Run::of("configured", |settings| {
            settings.client_method = "client_secret_basic".into();
            settings.clients = vec![Client::confidential("known", SECRET, "client_secret_basic")];
        })
        .await;
        let info =
            json!({"client_id": "known", "client_secret": if inline { "${SECRET}" } else { SECRET }}).to_string();
        let value = if inline { info } else { format!("@{}", run.file("client.json", &info).display()) };
        run.flag("--static-oauth-client-info", value);
        run.flags.insert(0, stored::port(&run.server.url()).to_string());
        run.keeps_its_secrets().await;
    }
}

#[tokio::test]
async fn device_keeps_its_secrets() {
    let mut run = Run::of("device", |settings| settings.devices = true).await;
    run.flags.push("--device-code".into());
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn id_token_is_not_shown() {
    let id_token = proof::unsigned(&json!({"sub": "me", "exp": proof::now() + 600}));
    let mut run = Run::of("id token", |settings| {
        let (answered, shown) = (id_token.clone(), format!("Bearer {id_token}"));
        settings.edit_token = edit(move |answer, _| answer["id_token"] = json!(answered));
        settings.first =
            Arc::new(move |request| (request.header("authorization") == Some(&shown)).then(|| ordinary(request)));
    })
    .await;
    run.flags.push("--use-id-token".into());
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn client_credentials_keep_their_secrets() {
    let mut run = Run::of("client credentials", |settings| {
        settings.client_method = "client_secret_post".into();
        settings.clients = vec![Client::confidential("program", SECRET, "client_secret_post")];
    })
    .await;
    let info = json!({"client_id": "program", "client_secret": SECRET}).to_string();
    let file = run.file("client.json", &info);
    run.flags.push("--client-credentials".into());
    run.flag("--static-oauth-client-info", format!("@{}", file.display()));
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn client_key_and_its_assertions_are_not_shown() {
    let (pem, point) = proof::new_key();
    let mut run = Run::of("key", |settings| {
        settings.client_method = "private_key_jwt".into();
        settings.clients = vec![Client {
            id: "program".into(),
            method: "private_key_jwt".into(),
            key: Some(point),
            ..Client::default()
        }];
    })
    .await;
    let key = run.file("key.pem", &pem);
    run.flags.push("--client-credentials".into());
    run.flag("--client-key-jwt", key.display());
    run.flag("--static-oauth-client-info", r#"{"client_id":"program"}"#);
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn enterprise_managed_authorization_keeps_its_secrets() {
    let mut run = Run::of("enterprise", |settings| {
        settings.client_method = "client_secret_basic".into();
        settings.clients = vec![Client::confidential("program", SECRET, "client_secret_basic")];
        settings.subject_token = IDENTITY.into();
    })
    .await;
    let info = run.file("client.json", &json!({"client_id": "program", "client_secret": SECRET}).to_string());
    let identity = run.file("identity", IDENTITY);
    let endpoint = run.server.endpoint("idp");
    run.flag("--id-jag-token", identity.display());
    run.flag("--id-jag-token-endpoint", endpoint);
    run.flag("--id-jag-client-id", "us");
    run.flag("--static-oauth-client-info", format!("@{}", info.display()));
    run.keeps_its_secrets().await;
}

#[tokio::test]
async fn workload_identity_keeps_its_assertions() {
    for from_program in [false, true] {
        let mut run = Run::of("workload", |settings| settings.assertions = vec![ASSERTION.into()]).await;
        let assertion = run.file("assertion", ASSERTION);
        if from_program {
            let program = run.file("program", &format!("#!/bin/sh\ncat {}\n", assertion.display()));
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            run.flag("--assertion-command", program.display());
        } else {
            run.flag("--assertion-file", assertion.display());
        }
        run.keeps_its_secrets().await;
    }
}

#[tokio::test]
async fn bound_tokens_are_not_shown() {
    Run::of("DPoP", |settings| {
        settings.dpop = true;
        settings.nonces = true;
        settings.challenges = vec![r#"DPoP algs="ES256", resource_metadata="{prm}""#.into()];
    })
    .await
    .keeps_its_secrets()
    .await;
}

#[tokio::test]
async fn token_repeated_by_mcp_server_is_not_shown() {
    for dpop in [false, true] {
        let server = AuthorizationServer::with(|settings| {
            settings.dpop = dpop;
            if dpop {
                settings.challenges = vec![r#"DPoP algs="ES256", resource_metadata="{prm}""#.into()];
            }
            settings.first = Arc::new(|request| {
                let carried = |name| request.header(name).unwrap_or_default().to_owned();
                let words = format!("seen: {} {} end", carried("authorization"), carried("dpop"));
                let page = || Reply::status(200, "text/html", words);
                (request.rpc() == "tools/call" && request.header("authorization").is_some()).then(page)
            });
        })
        .await;
        let (browser, home) = (Browser::consenting(), Arc::new(tempfile::tempdir().unwrap()));
        let mut host = browser.host_with(&home, &[&server.url(), "--debug"], &[]);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
        let answer = host.ask(1, "tools/call", json!({ "name": "a" })).await.to_string();
        host.end_input();
        host.exit().await;
        let stderr = host.stderr();
        assert!(answer.contains(" … ") && stderr.contains(" … "), "{answer}\n{stderr}");
        assert!(!answer.contains("eyJ") && !stderr.contains("eyJ"), "{answer}\n{stderr}");
        for secret in server.secrets() {
            assert!(!answer.contains(&secret) && !stderr.contains(&secret), "{secret}: {answer}\n{stderr}");
        }
    }
}
