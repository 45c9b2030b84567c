//! Whom a server may send this program to, and with what: another party's sign-in page (RFC 9700 §4.4), another resource
//! (RFC 9728 §3.3), somebody else's client secret or assertion; and what the programs get that this one starts.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{
    authorization_server::{AuthorizationServer, Client, Counts, Form, Place, Resource, Settings, edit},
    browser::{Browser, visit},
    host::{Host, WAIT, initialize_params, request},
    own_error,
    server::{Reply, Server},
    stored,
};

fn new_home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// The same authorization server under the name `localhost`, so that it is of another site than 127.0.0.1.
fn localhost(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

fn called_localhost(settings: &mut Settings) {
    settings.edit_prm = edit(|document, at| document["authorization_servers"] = json!([localhost(&at.authorization)]));
    settings.edit_metadata = edit(|document, at| document["issuer"] = json!(localhost(&at.authorization)));
}

// Mix-up.

#[tokio::test]
async fn foreign_sign_in_page_needs_flag() {
    // Issuer and token endpoint are 127.0.0.1, the page is localhost.
    let other_page = |settings: &mut Settings| {
        settings.edit_metadata = edit(|document, _| {
            document["authorization_endpoint"] = json!(localhost(document["authorization_endpoint"].as_str().unwrap()));
        });
    };
    let server = AuthorizationServer::with(other_page).await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &WAIT);
    let answer = host.initialize().await;
    assert_eq!(answer["error"]["data"]["code"], "foreign_sign_in_page", "{answer}");
    assert_eq!(server.counts(), Counts::default(), "nothing is registered, no tab is open");
    host.close().await;
    let mut host = browser.host(&server.url(), &["--sign-in-host", "localhost", WAIT[0], WAIT[1]]);
    assert!(host.initialize().await["result"].is_object());
    assert_eq!(server.counts().tabs, 1);
    host.close().await;
}

#[tokio::test]
async fn device_code_for_foreign_page_needs_flag() {
    let server = AuthorizationServer::with(|settings| {
        settings.devices = true;
        settings.last = Arc::new(|request, reply| match reply {
            Reply::Full(status, headers, body) if request.path == "/oauth/device" => {
                let body = String::from_utf8(body).unwrap().replace("127.0.0.1", "localhost");
                Reply::Full(status, headers, body.into_bytes())
            }
            other => other,
        });
    })
    .await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &["--device-code", WAIT[0], WAIT[1]]);
    let answer = host.initialize().await;
    assert_eq!(answer["error"]["data"]["code"], "foreign_sign_in_page", "{answer}");
    assert!(browser.tabs().is_empty() && !host.stderr().contains("WDJB-MJHT"), "{}", host.stderr());
    host.close().await;
    let flags = ["--device-code", "--sign-in-host", "localhost", WAIT[0], WAIT[1]];
    let mut host = browser.host(&server.url(), &flags);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    host.told("WDJB-MJHT").await;
    assert!(host.json().await["result"].is_object());
    host.close().await;
}

#[tokio::test]
async fn each_issuer_has_its_own_redirect_uri() {
    let first = AuthorizationServer::start(Settings::default()).await;
    let (browser, home) = (Browser::consenting(), new_home());
    let mut host = browser.host_at(&home, &first.url(), &WAIT);
    assert!(host.initialize().await["result"].is_object());
    host.close().await;
    let second = AuthorizationServer::with(|settings| settings.resource = Some(Resource::Is(first.url()))).await;
    let issuer = second.issuer();
    first.change(|settings| {
        settings.edit_prm = edit(move |document, _| document["authorization_servers"] = json!([issuer]));
    });
    first.revoke_access_tokens();
    let mut host = browser.host_at(&home, &first.url(), &WAIT);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    second.until("somebody signs in there", |server| server.counts().exchanges == 1).await;
    let path = |tab: &Form| {
        let uri = tab.get("redirect_uri").unwrap().to_owned();
        uri.split_once("/oauth/callback").unwrap().1.to_owned()
    };
    let paths = [path(&first.tabs()[0]), path(&second.tabs()[0])];
    assert_eq!(paths[0], "", "the npm package's");
    assert!(paths[1].len() == 9 && paths[1].starts_with('/'), "{paths:?}");
    host.close().await;
}

// Client secrets and assertions.

#[tokio::test]
async fn assertion_is_not_sent_to_unnamed_issuer() {
    let server = AuthorizationServer::with(|settings| {
        called_localhost(settings);
        settings.assertions = vec!["an.as.sertion".into()];
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("assertion");
    std::fs::write(&file, "an.as.sertion").unwrap();
    let issuer = localhost(&server.issuer());
    let flags = ["--assertion-file", file.to_str().unwrap()];
    let mut host = Host::waiting(&server.url(), &flags);
    let answer = host.initialize().await;
    assert_eq!(answer["error"]["data"]["code"], "issuer_not_named", "{answer}");
    assert!(own_error(&answer).contains(&issuer), "{answer}");
    assert_eq!(server.forms("token").len(), 0);
    host.close().await;
    for (named, code) in [(issuer.as_str(), Value::Null), ("https://as.example", json!("other_issuer"))] {
        let mut host = Host::waiting(&server.url(), &[&flags[..], &["--issuer", named]].concat());
        assert_eq!(host.initialize().await["error"]["data"]["code"], code, "{named}");
        host.close().await;
    }
    assert_eq!(server.forms("token").len(), 1);
}

#[tokio::test]
async fn secret_for_unnamed_issuer_is_warned_of_once() {
    let server = AuthorizationServer::with(|settings| {
        called_localhost(settings);
        settings.client_method = "client_secret_post".into();
        settings.clients = vec![Client::confidential("program", "hush-hush-hush", "client_secret_post")];
    })
    .await;
    let info = r#"{"client_id":"program","client_secret":"hush-hush-hush"}"#;
    let flags = ["--client-credentials", "--static-oauth-client-info", info];
    let issuer = localhost(&server.issuer());
    let home = new_home();
    let browser = Browser::consenting();
    for (more, warnings) in [(&[][..], 1), (&[], 0), (&["--issuer", &issuer], 0)] {
        let mut host = browser.host_at(&home, &server.url(), &[&flags, &WAIT[..], more].concat());
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
        let line = format!("mcp-remote sends your client_secret to {issuer}");
        assert_eq!(host.stderr().matches(&line).count(), warnings, "{more:?}: {}", host.stderr());
        host.close().await;
        server.revoke_access_tokens();
    }
}

// Resources.

#[tokio::test]
async fn broader_resource_needs_confirmation_by_its_owner() {
    for confirmed in [true, false] {
        let server = AuthorizationServer::with(|settings| {
            settings.edit_prm = edit(|document, at| document["resource"] = json!(at.mcp));
            if !confirmed {
                let root = "/.well-known/oauth-protected-resource";
                settings.first = Arc::new(move |request| (request.path == root).then(|| Reply::empty(404)));
            }
        })
        .await;
        let whole = server.addresses().mcp;
        let expected = if confirmed { whole } else { server.url() };
        server.change(|settings| settings.resource = Some(Resource::Is(expected.clone())));
        let browser = Browser::consenting();
        let mut host = browser.host(&server.url(), &WAIT);
        assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
        let asked: Vec<_> = server.tabs().iter().map(|tab| tab.get("resource").unwrap().to_owned()).collect();
        assert_eq!(asked, [expected], "{confirmed}");
        assert_eq!(host.stderr().contains("does not confirm"), !confirmed);
        // The same in a refresh.
        server.revoke_access_tokens();
        assert!(host.ask(1, "tools/list", json!({})).await["result"].is_object());
        assert_eq!(server.counts().refreshes, 1);
        host.close().await;
    }
}

// The callback port.

/// A program on the port that this server's sign-in comes back to, which says that it is an mcp-remote.
async fn squatter(url: &str) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", stored::port(url))).await.unwrap();
    let hash = stored::hash(url);
    Server::on(listener, move |request| {
        let id = json!({"mcpRemote": true, "serverUrlHash": hash});
        async move { if request.path == "/.mcp-remote/id" { Reply::json(id) } else { Reply::empty(404) } }
    })
}

#[tokio::test]
async fn squatter_on_callback_port_costs_a_moment() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let _squatter = squatter(&server.url()).await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &WAIT);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let began = Instant::now();
    let address = host.told_address(&server.endpoint("authorize"), 1).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(browser.tabs(), [], "an instance of the npm package would have opened one");
    assert_eq!(visit(&address).await.status, 200);
    assert!(host.json().await["result"].is_object());
    host.close().await;
}

#[tokio::test]
async fn ports_added_by_registration_answer_are_ignored() {
    let server = AuthorizationServer::with(|settings| {
        settings.edit_registration = edit(|document, _| {
            let ours = document["redirect_uris"].as_array().unwrap().clone();
            let many = (20_000..20_061).map(|port| json!(format!("http://localhost:{port}/oauth/callback")));
            document["redirect_uris"] = Value::Array(many.chain(ours).collect());
        });
    })
    .await;
    let (browser, home) = (Browser::consenting(), new_home());
    let mut host = browser.host_at(&home, &server.url(), &WAIT);
    assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
    host.close().await;
    let uri = server.tabs()[0].get("redirect_uri").unwrap().to_owned();
    for name in ["registrations.json", "client_info.json"] {
        let kept = stored::json(home.path(), &server.url(), name);
        let kept = kept.get(0).unwrap_or(&kept);
        assert_eq!(kept["redirect_uris"], json!([uri]), "{name}");
    }
}

// What children get.

#[tokio::test]
async fn children_get_no_secret_variable() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = folder.path().join("browser");
    std::fs::write(&script, format!("#!/bin/sh\n/usr/bin/env > {0}.new; mv {0}.new {0}\n", seen.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = new_home();
    let url = server.url();
    let arguments = [&url, "--header", "X-Key: ${API_KEY}", "--header", "X-User: ${USER}", WAIT[0], WAIT[1]];
    let environment = [
        ("API_KEY", "hush-api-key"),
        ("USER", "ann"),
        ("HTTPS_PROXY", "http://ann:hush-proxy@127.0.0.1:9"),
        ("OTHER", "stays"),
        ("BROWSER", script.to_str().unwrap()),
        ("PATH", "/usr/bin:/bin"),
    ];
    let mut host = Host::start_raw(crate::support::host::Handles::SocketPairs, &arguments, &environment, home.clone());
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let began = Instant::now();
    while !seen.exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "the browser starts: {}", host.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(!seen.contains("hush"), "{seen}");
    assert!(seen.contains("OTHER=stays") && seen.contains("USER=ann"), "{seen}");
    let keyed = server.arrived_at(Place::Mcp, "/mcp");
    assert!(keyed.iter().all(|one| one.request.header("x-key") == Some("hush-api-key")), "the server gets it");
    host.end_input();
    host.exit().await;
}
