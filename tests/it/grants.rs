//! Every way to a token without a browser: device code (RFC 8628), client credentials with a secret
//! or a key (RFC 6749 §4.4, RFC 7523), enterprise-managed authorization, workload identity; and tokens
//! that are bound to a key (DPoP, RFC 9449).

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authorization_server::{AuthorizationServer, Client, Counts, Place, Resource, Settings, edit, proof, scopes},
    browser::Browser,
    host::{Handles, Host, WAIT, initialize_params, request},
    own_error,
    server::Reply,
    stored,
};

/// A server, a browser that nobody should need, a home, and a folder for the user's files.
struct World {
    server: AuthorizationServer,
    browser: Browser,
    home: Arc<TempDir>,
    files: TempDir,
}

impl World {
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let server = AuthorizationServer::with(change).await;
        let (home, files) = (Arc::new(tempfile::tempdir().unwrap()), tempfile::tempdir().unwrap());
        Self { server, browser: Browser::consenting(), home, files }
    }

    fn host(&self, flags: &[&str]) -> Host {
        self.browser.host_at(&self.home, &self.server.url(), flags)
    }

    async fn signed_in(&self, flags: &[&str]) -> Host {
        let mut host = self.host(flags);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
        host
    }

    async fn refused(&self, flags: &[&str]) -> String {
        let mut host = self.host(flags);
        own_error(&host.initialize().await)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A program of the user's.
    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.file(name, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn no_browser(&self) {
        assert_eq!(self.browser.tabs(), []);
        let Counts { tabs, looks, exchanges, .. } = self.server.counts();
        assert_eq!((tabs, looks, exchanges), (0, 0, 0));
    }
}

async fn answered(host: &mut Host, id: i32) {
    let answer = host.ask(id, "tools/list", json!({})).await;
    assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
}

// Device code.

#[tokio::test]
async fn device_code_is_shown_and_polled_until_consent() {
    let desk = World::with(|settings| {
        settings.devices = true;
        settings.device_polls = vec!["authorization_pending"];
    })
    .await;
    let mut host = desk.host(&["--device-code"]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    host.told("WDJB-MJHT").await;
    host.told(&format!("{}/activate", desk.server.addresses().authorization)).await;
    assert!(host.json().await["result"].is_object());
    let Counts { polls, registrations, .. } = desk.server.counts();
    assert_eq!((polls, registrations), (2, 1));
    assert_eq!(desk.server.counts().tabs, 0);
    // And refreshed like any other.
    desk.server.revoke_access_tokens();
    answered(&mut host, 1).await;
    assert_eq!(desk.server.counts().refreshes, 1);
}

#[tokio::test]
async fn slow_down_lengthens_device_polling() {
    let desk = World::with(|settings| {
        settings.devices = true;
        settings.device_polls = vec!["slow_down"];
    })
    .await;
    // The server checks the pause.
    desk.signed_in(&["--device-code", WAIT[0], WAIT[1]]).await;
    assert_eq!(desk.server.counts().polls, 2);
}

#[tokio::test]
async fn refused_or_expired_device_code_ends_polling() {
    for error in ["access_denied", "expired_token"] {
        let desk = World::with(|settings| {
            settings.devices = true;
            settings.device_polls = vec![error; 50];
        })
        .await;
        desk.refused(&["--device-code"]).await;
        let Counts { polls, tabs, .. } = desk.server.counts();
        assert_eq!((polls, tabs), (1, 0), "{error}");
    }
}

#[tokio::test]
async fn device_polling_stops_when_code_expires() {
    let desk = World::with(|settings| {
        settings.devices = true;
        settings.device_lifetime = 3;
        settings.device_polls = vec!["authorization_pending"; 50];
    })
    .await;
    desk.refused(&["--device-code", WAIT[0], WAIT[1]]).await;
    assert!(desk.server.counts().polls <= 4, "{:?}", desk.server.counts());
}

#[tokio::test]
async fn device_survives_a_poll_that_fails() {
    let desk = World::with(|settings| settings.devices = true).await;
    let failed = std::sync::atomic::AtomicBool::new(false);
    desk.server.change(|settings| {
        settings.first = Arc::new(move |request| {
            let first = request.path == "/oauth/token" && !failed.swap(true, std::sync::atomic::Ordering::Relaxed);
            first.then_some(Reply::Close)
        });
    });
    desk.signed_in(&["--device-code"]).await;
}

#[tokio::test]
async fn missing_device_grant_names_server() {
    let desk = World::with(|_| {}).await;
    let words = desk.refused(&["--device-code"]).await;
    assert!(words.contains("device"), "{words}");
    assert_eq!(desk.server.counts(), Counts::default());
}

#[tokio::test]
async fn browser_and_device_registrations_are_separate() {
    for flags in [[&[][..], &["--device-code"]], [&["--device-code"], &[][..]]] {
        let desk = World::with(|settings| settings.devices = true).await;
        for flags in flags {
            desk.signed_in(&[flags, &WAIT].concat()).await.close().await;
            std::fs::remove_file(stored::file(desk.home.path(), &desk.server.url(), "tokens.json")).unwrap();
        }
        assert_eq!(desk.server.counts().registrations, 2, "{flags:?}");
    }
}

#[tokio::test]
async fn device_grant_is_used_without_browser() {
    let server = AuthorizationServer::with(|settings| settings.devices = true).await;
    let environment = [("PATH", "/nonexistent"), ("SSH_CONNECTION", "192.0.2.1 5 192.0.2.2 22")];
    let mut host = Host::start_with(Handles::SocketPairs, &server.url(), &[], &environment);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    host.told("WDJB-MJHT").await;
    assert!(host.json().await["result"].is_object(), "{}", host.stderr());
    assert_eq!(server.counts().polls, 1);
}

#[tokio::test]
async fn five_instances_show_one_device_code() {
    let desk = World::with(|settings| {
        settings.devices = true;
        settings.device_polls = vec!["authorization_pending"];
    })
    .await;
    let mut copies = Vec::new();
    for _ in 0..5 {
        let mut host = desk.host(&["--device-code"]);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        copies.push(host);
    }
    for host in &mut copies {
        let answer = host.json().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
    }
    assert_eq!(desk.server.forms("device").len(), 1);
}

// Client credentials.

const SECRET: &str = "s3:cr%t+& é";

fn program(method: &str) -> Client {
    Client::confidential("program:1", SECRET, method)
}

/// The configured client, in a file: what a user writes on the command line others can read.
fn info(desk: &World, method: &str) -> String {
    let info = json!({"client_id": "program:1", "client_secret": SECRET, "token_endpoint_auth_method": method});
    format!("@{}", desk.file("client.json", &info.to_string()).display())
}

#[tokio::test]
async fn client_credentials_are_used_again_at_expiry() {
    for method in ["client_secret_basic", "client_secret_post"] {
        let desk = World::with(|settings| {
            settings.client_method = method.into();
            settings.clients = vec![program(method)];
            settings.challenges = vec![r#"Bearer resource_metadata="{prm}", scope="a b""#.into()];
        })
        .await;
        let info = info(&desk, method);
        let mut host = desk.signed_in(&["--client-credentials", "--static-oauth-client-info", &info]).await;
        desk.server.revoke_access_tokens();
        answered(&mut host, 1).await;
        assert_eq!(desk.server.counts(), Counts { other_grants: 2, ..Counts::default() }, "{method}");
        assert_eq!(desk.server.forms("token")[0].get("scope").map(scopes), Some(scopes("a b")));
        desk.no_browser();
    }
}

#[tokio::test]
async fn configured_client_stays_with_its_authorization_server() {
    for flags in [&["--client-credentials"][..], &[]] {
        let desk = World::with(|settings| {
            settings.client_method = "client_secret_post".into();
            settings.clients = vec![program("client_secret_post")];
        })
        .await;
        let info = info(&desk, "client_secret_post");
        let mut host = desk.signed_in(&[flags, &["--static-oauth-client-info", &info]].concat()).await;
        let other = AuthorizationServer::with(|settings| {
            settings.resource = Some(Resource::Is(desk.server.url()));
            settings.clients = vec![program("client_secret_post")];
        })
        .await;
        let issuer = other.issuer();
        let tabs = desk.browser.tabs().len();
        desk.server.revoke_access_tokens();
        desk.server.change(|settings| {
            settings.edit_prm = edit(move |document, _| document["authorization_servers"] = json!([issuer]));
        });
        let told = host.ask(1, "tools/list", json!({})).await;
        assert_eq!(told["error"]["data"]["code"], "other_issuer", "{flags:?}: {told}");
        assert!(own_error(&told).contains(&other.issuer()), "{told}");
        assert_eq!(desk.browser.tabs().len(), tabs, "{flags:?}");
        assert_eq!(other.counts(), Counts::default(), "{flags:?}: only its metadata are looked at");
    }
}

#[tokio::test]
async fn client_credentials_token_is_kept_apart() {
    let desk = World::with(|settings| {
        settings.client_method = "client_secret_basic".into();
        settings.clients = vec![program("client_secret_basic")];
    })
    .await;
    let info = info(&desk, "client_secret_basic");
    desk.signed_in(&["--client-credentials", "--static-oauth-client-info", &info]).await.close().await;
    assert_eq!(stored::json(desk.home.path(), &desk.server.url(), "tokens.json"), Value::Null);
    // The next start takes it from wherever it is, or asks for another: without a person either way.
    desk.signed_in(&["--client-credentials", "--static-oauth-client-info", &info]).await;
    desk.no_browser();
}

#[tokio::test]
async fn service_account_signs_in_with_its_key() {
    let (pem, point) = proof::new_key();
    let desk = World::with(|settings| {
        settings.client_method = "private_key_jwt".into();
        settings.clients = vec![Client {
            id: "program".into(),
            method: "private_key_jwt".into(),
            key: Some(point),
            ..Client::default()
        }];
    })
    .await;
    let key = desk.file("key.pem", &pem);
    let flags = [
        "--client-credentials",
        "--client-key-jwt",
        key.to_str().unwrap(),
        "--static-oauth-client-info",
        r#"{"client_id":"program"}"#,
    ];
    let mut host = desk.signed_in(&flags).await;
    desk.server.revoke_access_tokens();
    answered(&mut host, 1).await;
    assert_eq!(desk.server.counts(), Counts { other_grants: 2, ..Counts::default() });
}

#[tokio::test]
async fn unsupported_key_is_reported_before_sending() {
    let (pem, point) = proof::new_key();
    let desk = World::with(|settings| {
        settings.client_method = "private_key_jwt".into();
        settings.clients = vec![Client {
            id: "program".into(),
            method: "private_key_jwt".into(),
            key: Some(point),
            ..Client::default()
        }];
        settings.edit_metadata =
            edit(|document, _| document["token_endpoint_auth_signing_alg_values_supported"] = json!(["RS512"]));
    })
    .await;
    let key = desk.file("key.pem", &pem);
    let flags = [
        "--client-credentials",
        "--client-key-jwt",
        key.to_str().unwrap(),
        "--static-oauth-client-info",
        r#"{"client_id":"program"}"#,
    ];
    let words = desk.refused(&flags).await;
    assert!(words.contains("RS512"), "{words}");
    assert_eq!(desk.server.counts(), Counts::default());
}

#[tokio::test]
async fn given_token_endpoint_is_used_without_discovery() {
    let desk = World::with(|settings| {
        settings.client_method = "client_secret_basic".into();
        settings.clients = vec![program("client_secret_basic")];
        settings.resource = Some(Resource::Absent);
    })
    .await;
    let (info, endpoint) = (info(&desk, "client_secret_basic"), desk.server.endpoint("token"));
    let flags = ["--client-credentials", "--token-endpoint", &endpoint, "--static-oauth-client-info", &info];
    desk.signed_in(&flags).await;
    assert_eq!(desk.server.documents(Place::Mcp), [] as [&str; 0]);
    assert_eq!(desk.server.documents(Place::Authorization), [] as [&str; 0]);
}

#[tokio::test]
async fn refused_client_credentials_open_no_browser() {
    let desk = World::with(|settings| {
        settings.client_method = "client_secret_basic".into();
        settings.clients = vec![program("client_secret_basic")];
        settings.tool_scopes = vec![("admin".into(), "admin".into())];
        settings.grants = Some("read".into());
    })
    .await;
    let info = info(&desk, "client_secret_basic");
    let mut host = desk.signed_in(&["--client-credentials", "--static-oauth-client-info", &info]).await;
    own_error(&host.ask(1, "tools/call", json!({"name": "admin"})).await);
    assert!(desk.server.counts().other_grants <= 2, "{:?}", desk.server.counts());
    desk.server.forget_clients();
    desk.server.revoke_access_tokens();
    own_error(&host.ask(2, "tools/list", json!({})).await);
    desk.no_browser();
}

// Enterprise-managed authorization.

const IDENTITY: &str = "identity-token-of-a-person";

async fn enterprise(change: impl FnOnce(&mut Settings)) -> (World, Vec<String>) {
    let desk = World::with(|settings| {
        settings.client_method = "client_secret_basic".into();
        settings.clients = vec![program("client_secret_basic")];
        settings.subject_token = IDENTITY.into();
        change(settings);
    })
    .await;
    let token = desk.file("identity", IDENTITY);
    let flags = [
        "--id-jag-token",
        token.to_str().unwrap(),
        "--id-jag-token-endpoint",
        &desk.server.endpoint("idp"),
        "--id-jag-client-id",
        "us-at-the-idp",
        "--static-oauth-client-info",
        &info(&desk, "client_secret_basic"),
    ];
    let flags = flags.map(str::to_owned).to_vec();
    (desk, flags)
}

fn as_flags(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn identity_token_becomes_id_jag_becomes_token() {
    let (desk, flags) = enterprise(|_| {}).await;
    let mut host = desk.signed_in(&as_flags(&flags)).await;
    assert_eq!(desk.server.counts(), Counts { other_grants: 2, ..Counts::default() });
    assert_eq!(desk.server.forms("idp")[0].get("client_id"), Some("us-at-the-idp"));
    // The identity token is read afresh each time.
    desk.file("identity", "another-identity-token");
    desk.server.change(|settings| settings.subject_token = "another-identity-token".into());
    desk.server.revoke_access_tokens();
    answered(&mut host, 1).await;
    desk.no_browser();
}

#[tokio::test]
async fn other_token_type_of_identity_provider_is_refused() {
    for (name, value) in
        [("issued_token_type", "urn:ietf:params:oauth:token-type:access_token"), ("token_type", "Bearer")]
    {
        let (desk, flags) = enterprise(|settings| {
            settings.edit_token = edit(move |answer, _| {
                if answer.get("issued_token_type").is_some() {
                    answer[name] = json!(value);
                }
            });
        })
        .await;
        desk.refused(&as_flags(&flags)).await;
        assert_eq!(desk.server.forms("token").len(), 0, "{name}");
        desk.no_browser();
    }
}

#[tokio::test]
async fn unsupported_grant_is_reported_before_sending() {
    let (desk, flags) = enterprise(|settings| {
        settings.edit_metadata = edit(|document, _| document["grant_types_supported"] = json!(["authorization_code"]));
    })
    .await;
    let words = desk.refused(&as_flags(&flags)).await;
    assert!(words.contains(&desk.server.issuer()) && words.contains("assertion"), "{words}");
    assert_eq!(desk.server.counts(), Counts::default());
}

// Workload identity.

#[tokio::test]
async fn assertion_file_is_read_each_time() {
    let desk =
        World::with(|settings| settings.assertions = vec!["first.as.sertion".into(), "second.as.sertion".into()]).await;
    let file = desk.file("assertion", "first.as.sertion\n");
    let mut host = desk.signed_in(&["--assertion-file", file.to_str().unwrap()]).await;
    desk.file("assertion", "second.as.sertion\n");
    desk.server.revoke_access_tokens();
    answered(&mut host, 1).await;
    let forms = desk.server.forms("token");
    let used: Vec<_> = forms.iter().map(|form| form.get("assertion").unwrap()).collect();
    assert_eq!(used, ["first.as.sertion", "second.as.sertion"]);
    assert_eq!(desk.server.counts().registrations, 0);
    desk.no_browser();
}

#[tokio::test]
async fn platform_assertion_comes_from_command() {
    let desk = World::with(|settings| settings.assertions = vec!["an.as.sertion".into()]).await;
    let program = desk.program("assertion", "echo an.as.sertion");
    desk.signed_in(&["--assertion-command", program.to_str().unwrap()]).await;
    desk.no_browser();
}

#[tokio::test]
async fn assertion_command_runs_without_shell() {
    let desk = World::with(|settings| settings.assertions = vec!["an.as.sertion".into()]).await;
    let program = desk.program("assertion", "echo an.as.sertion");
    let canary = desk.files.path().join("canary");
    let command = format!("{} ; touch {}", program.display(), canary.display());
    desk.signed_in(&["--assertion-command", &command]).await;
    assert!(!canary.exists());
}

#[tokio::test]
async fn refused_assertion_is_reported_and_not_repeated() {
    let desk = World::with(|_| {}).await;
    let file = desk.file("assertion", "no.good.one");
    let words = desk.refused(&["--assertion-file", file.to_str().unwrap()]).await;
    assert!(words.contains("the assertion is not trusted"), "{words}");
    assert_eq!(desk.server.counts(), Counts { other_grants: 1, ..Counts::default() });
    desk.no_browser();
}

#[tokio::test]
async fn missing_assertion_is_reported_before_sending() {
    let desk = World::with(|_| {}).await;
    let words = desk.refused(&["--assertion-file", "/nonexistent/assertion"]).await;
    assert!(words.contains("/nonexistent/assertion"), "{words}");
    let program = desk.program("fails", "echo something-secret; exit 3");
    let words = desk.refused(&["--assertion-command", program.to_str().unwrap()]).await;
    assert!(words.contains('3') && !words.contains("something-secret"), "{words}");
    assert_eq!(desk.server.counts(), Counts::default());
}

// DPoP.

fn bound(settings: &mut Settings) {
    settings.dpop = true;
    settings.challenges = vec![r#"DPoP algs="ES256", resource_metadata="{prm}""#.into()];
}

fn bound_with_nonces(settings: &mut Settings) {
    bound(settings);
    settings.nonces = true;
}

#[tokio::test]
async fn dpop_binds_tokens_and_requests_where_requested() {
    for change in [bound, bound_with_nonces] {
        // The server checks every proof.
        let desk = World::with(change).await;
        let mut host = desk.signed_in(&[]).await;
        for id in 1..=10 {
            answered(&mut host, id).await;
        }
        desk.server.revoke_access_tokens();
        answered(&mut host, 11).await;
        let Counts { tabs, registrations, refreshes, .. } = desk.server.counts();
        assert_eq!((tabs, registrations), (1, 1));
        assert!(refreshes >= 1);
        host.close().await;
        // The key is kept, and the owner's alone.
        desk.signed_in(&[]).await;
        assert_eq!(desk.server.counts().tabs, 1);
        for entry in std::fs::read_dir(stored::folder(desk.home.path())).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn new_nonce_costs_one_request() {
    let desk = World::with(bound_with_nonces).await;
    let mut host = desk.signed_in(&[]).await;
    for id in 1..=10 {
        answered(&mut host, id).await;
    }
    // Once without a token, once without a nonce, and then never again.
    assert_eq!(desk.server.asked("initialize").len(), 3);
    assert_eq!(desk.server.asked("tools/list").len(), 10);
    let exchanges = desk.server.forms("token").len();
    assert_eq!(exchanges, 2);
    assert_eq!(desk.server.counts().tabs, 1);
}

#[tokio::test]
async fn dpop_token_is_kept_apart() {
    let desk = World::with(bound).await;
    desk.signed_in(&[]).await.close().await;
    let tokens = stored::json(desk.home.path(), &desk.server.url(), "tokens.json");
    assert_eq!(tokens, Value::Null);
}

#[tokio::test]
async fn proof_is_sent_only_where_requested() {
    for flags in [&[][..], &["--dpop", "off"]] {
        let desk = World::with(|_| {}).await;
        desk.signed_in(flags).await;
        assert!(desk.server.arrived().iter().all(|arrived| arrived.request.header("dpop").is_none()));
    }
}

#[tokio::test]
async fn unbound_token_is_refused_where_required() {
    let desk = World::with(|_| {}).await;
    desk.refused(&["--dpop", "require"]).await;
    let requests = desk.server.arrived_at(Place::Mcp, "/mcp");
    assert!(requests.iter().all(|arrived| arrived.request.header("authorization").is_none()));
}

#[tokio::test]
async fn eight_instances_refresh_bound_token_once() {
    let desk = World::with(|settings| {
        bound(settings);
        settings.token_delay = Duration::from_millis(200);
    })
    .await;
    desk.signed_in(&[]).await.close().await;
    desk.server.revoke_access_tokens();
    let mut copies = Vec::new();
    for _ in 0..8 {
        let mut host = desk.host(&[]);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        copies.push(host);
    }
    for host in &mut copies {
        let answer = host.json().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
    }
    let Counts { tabs, refreshes, reuses, .. } = desk.server.counts();
    assert_eq!((tabs, refreshes, reuses), (1, 1, 0));
}
