//! Signing in with a browser, seen from outside: a real process between a host, a protected server,
//! its authorization server and a browser (MCP 2025-11-25 and 2026-07-28, Authorization).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    authorization_server::{
        Addresses, Arrived, AuthorizationServer, Client, Counts, Form, Iss, Place, Resource, Settings, edit, scopes,
    },
    browser::{Browser, get, get_with, redirect_of, visit},
    event_streams::EventStreams,
    host::{Host, WAIT, initialize_params, request},
    own_error,
    server::{Reply, ordinary},
    soon, stored,
};

type Change = fn(&mut Settings);
type Answer = fn() -> Reply;

/// What a sign-in costs at least.
const ONE_SIGN_IN: Counts = Counts {
    tabs: 1,
    registrations: 1,
    exchanges: 1,
    looks: 0,
    refreshes: 0,
    reuses: 0,
    revocations: 0,
    polls: 0,
    other_grants: 0,
};

/// A host that has signed in with a browser that consents.
async fn signed_in(server: &AuthorizationServer, flags: &[&str]) -> (Browser, Host) {
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), flags);
    let answer = host.initialize().await;
    assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
    (browser, host)
}

/// A server on which the sign-in fails; what the host is told.
async fn refused(name: &str, server: &AuthorizationServer, flags: &[&str]) -> String {
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), flags);
    let answer = host.initialize().await;
    assert!(answer["error"].is_object(), "{name}: {answer}");
    assert_eq!(server.counts().exchanges, 0, "{name}");
    own_error(&answer)
}

/// The same, and not even a browser opens.
async fn refused_without_browser(name: &str, change: impl FnOnce(&mut Settings), flags: &[&str]) -> String {
    let server = AuthorizationServer::with(change).await;
    let words = refused(name, &server, flags).await;
    let Counts { tabs, looks, .. } = server.counts();
    assert_eq!((tabs, looks), (0, 0), "{name}");
    words
}

/// A sign-in whose tab is open and waits for the test.
struct Open {
    browser: Browser,
    host: Host,
    /// What the browser was given.
    url: String,
    redirect_uri: String,
}

async fn open_sign_in(server: &AuthorizationServer, flags: &[&str]) -> Open {
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), flags);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let url = browser.tab().await.url;
    let redirect_uri = Form::of(&url).get("redirect_uri").unwrap().to_owned();
    Open { browser, host, url, redirect_uri }
}

/// A port for the redirect that no other socket takes, for flags that change what is derived.
fn quiet_port(server: &AuthorizationServer) -> String {
    stored::port(&server.url()).to_string()
}

fn port_of(uri: &str) -> u16 {
    reqwest::Url::parse(uri).unwrap().port().unwrap()
}

/// Waits until nobody listens at a port of loopback.
async fn closed(port: u16) {
    soon("the listener is gone", async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn page_of(html: &'static str, status: u16, at: &'static str) -> impl Fn(&mut Settings) {
    move |settings| {
        settings.first =
            Arc::new(move |request| (request.path == at).then(|| Reply::status(status, "text/html", html)));
    }
}

// A whole sign-in.

#[tokio::test]
async fn sign_in_takes_one_tab_registration_and_exchange() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (browser, mut host) = signed_in(&server, &[]).await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    host.close().await;
    assert_eq!(server.counts(), ONE_SIGN_IN);
    assert_eq!(browser.tabs().len(), 1);
    // Refused once, sent again once.
    assert_eq!(server.asked("initialize").len(), 2);
}

#[tokio::test]
async fn sign_in_makes_only_requests_of_specification() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (_browser, mut host) = signed_in(&server, &[]).await;
    host.ask(1, "tools/list", json!({})).await;
    let line = |a: &Arrived| format!("{} {} {}", a.request.method, a.path(), a.request.rpc()).trim().to_owned();
    let asked: Vec<_> = server.arrived().iter().map(line).collect();
    assert_eq!(
        asked[..9],
        [
            "POST /mcp initialize",
            "GET /.well-known/oauth-protected-resource/mcp",
            "GET /.well-known/oauth-authorization-server",
            "POST /oauth/register",
            "GET /oauth/authorize",
            "POST /oauth/token",
            "POST /mcp initialize",
            "POST /mcp notifications/initialized",
            "POST /mcp tools/list",
        ],
        "{asked:#?}"
    );
}

#[tokio::test]
async fn requests_after_sign_in_carry_token() {
    let server = AuthorizationServer::with(|settings| {
        settings.mcp = Arc::new(|request| if request.method == "GET" { Reply::events().0 } else { ordinary(request) });
    })
    .await;
    let (_browser, mut host) = signed_in(&server, &[]).await;
    host.ask(1, "tools/list", json!({})).await;
    server
        .until("a GET", |server| server.arrived().iter().any(|a| a.path() == "/mcp" && a.request.method == "GET"))
        .await;
    host.close().await;
    server.until("a DELETE", |server| server.arrived().iter().any(|a| a.request.method == "DELETE")).await;
    let later = server.arrived_at(Place::Mcp, "/mcp").split_off(1);
    assert!(later.len() >= 5, "{later:#?}");
    for arrived in later {
        assert!(
            arrived.request.header("authorization").is_some_and(|it| it.starts_with("Bearer access-")),
            "{arrived:?}"
        );
    }
}

#[tokio::test]
async fn callback_port_matches_npm_package_unless_taken() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let open = open_sign_in(&server, &[]).await;
    let derived = stored::port(&server.url());
    let port = port_of(&open.redirect_uri);
    assert!((derived..derived + 8).contains(&port), "{port}, derived {derived}");
    assert_eq!(open.redirect_uri, format!("http://localhost:{port}/oauth/callback"));
}

#[tokio::test]
async fn redirect_host_path_and_port_follow_flags() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let port = quiet_port(&server);
    let flags = [&port, "--host", "127.0.0.1", "--callback-path", "/back"];
    let mut open = open_sign_in(&server, &flags).await;
    assert_eq!(open.redirect_uri, format!("http://127.0.0.1:{port}/back"));
    assert_eq!(visit(&open.url).await.status, 200);
    assert!(open.host.json().await["result"].is_object());
}

#[tokio::test]
async fn unauthorized_in_session_signs_in_and_answers() {
    let server = AuthorizationServer::with(|settings| settings.open = |request| request.rpc() != "tools/list").await;
    let (_browser, mut host) = signed_in(&server, &[]).await;
    assert_eq!(server.counts().tabs, 0);
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    assert_eq!(server.counts(), ONE_SIGN_IN);
}

#[tokio::test]
async fn ten_refused_requests_share_one_sign_in() {
    let server = AuthorizationServer::with(|settings| settings.open = |request| request.rpc() != "tools/call").await;
    let (_browser, mut host) = signed_in(&server, &[]).await;
    let calls: Vec<_> = (1..=10).map(|id| request(id, "tools/call", json!({"name": "a"}))).collect();
    for answer in host.talk(&calls, 10).await {
        assert!(serde_json::from_str::<Value>(&answer).unwrap()["result"].is_object(), "{answer}");
    }
    assert_eq!(server.counts(), ONE_SIGN_IN);
}

#[tokio::test]
async fn refused_event_stream_signs_in_too() {
    let server = AuthorizationServer::with(|settings| {
        settings.open = |request| request.method != "GET";
        settings.mcp = Arc::new(|request| if request.method == "GET" { Reply::events().0 } else { ordinary(request) });
    })
    .await;
    let (_browser, mut host) = signed_in(&server, &[]).await;
    host.ask(1, "tools/list", json!({})).await;
    let with_token =
        |a: &Arrived| a.path() == "/mcp" && a.request.method == "GET" && a.request.header("authorization").is_some();
    server.until("the stream is opened with a token", |server| server.arrived().iter().any(with_token)).await;
    assert_eq!(server.counts(), ONE_SIGN_IN);
}

#[tokio::test]
async fn sign_in_works_over_http_sse() {
    let streams = EventStreams::default();
    let ours = streams.clone();
    let server =
        AuthorizationServer::with(|settings| settings.mcp = Arc::new(move |request| ours.ordinary(request))).await;
    let (_browser, mut host) = signed_in(&server, &["--transport", "sse-only"]).await;
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    assert_eq!(server.counts(), ONE_SIGN_IN);
}

// Discovery.

#[tokio::test]
async fn every_discovery_layout_finds_authorization_server() {
    const PRM: &str = "/.well-known/oauth-protected-resource";
    let layouts: &[(&str, Change)] = &[
        ("metadata of the resource anywhere, named by the challenge", |s| s.prm_path = Some("/about/us.json".into())),
        ("no challenge, metadata under the path", |s| s.challenges.clear()),
        ("no challenge, metadata at the root, for the whole origin", |s| {
            s.challenges.clear();
            s.prm_path = Some(PRM.into());
            s.edit_prm = edit(|document, at| document["resource"] = json!(at.mcp));
        }),
        ("a page under the path, metadata at the root", |s| {
            s.challenges.clear();
            s.prm_path = Some(PRM.into());
            page_of("<html>Welcome</html>", 200, "/.well-known/oauth-protected-resource/mcp")(s);
        }),
        ("a failure under the path, metadata at the root", |s| {
            s.challenges.clear();
            s.prm_path = Some(PRM.into());
            page_of("oh", 500, "/.well-known/oauth-protected-resource/mcp")(s);
        }),
        ("OpenID Connect at the root", |s| s.metadata_path = Some("/.well-known/openid-configuration".into())),
        ("a page in place of RFC 8414, then OpenID Connect", |s| {
            s.metadata_path = Some("/.well-known/openid-configuration".into());
            page_of("<html>Welcome</html>", 200, "/.well-known/oauth-authorization-server")(s);
        }),
        ("a failure in place of RFC 8414, then OpenID Connect", |s| {
            s.metadata_path = Some("/.well-known/openid-configuration".into());
            page_of("oh", 500, "/.well-known/oauth-authorization-server")(s);
        }),
        ("an issuer with a path, RFC 8414", |s| {
            s.issuer_path = "/tenant".into();
            s.metadata_path = Some("/.well-known/oauth-authorization-server/tenant".into());
        }),
        ("an issuer with a path, OpenID Connect inserted", |s| {
            s.issuer_path = "/tenant".into();
            s.metadata_path = Some("/.well-known/openid-configuration/tenant".into());
        }),
        ("an issuer with a path, OpenID Connect appended", |s| {
            s.issuer_path = "/tenant".into();
            s.metadata_path = Some("/tenant/.well-known/openid-configuration".into());
        }),
        ("an issuer with a slash at the end", |s| s.issuer_path = "/".into()),
        ("2025-03-26: metadata at the server's origin", |s| {
            (s.one_origin, s.prm_path) = (true, None);
            s.challenges.clear();
        }),
        ("2025-03-26: no metadata at all", |s| {
            (s.one_origin, s.prm_path, s.metadata_path) = (true, None, None);
            (s.iss, s.iss_announced) = (Iss::Missing, false);
            s.challenges.clear();
            s.endpoints = String::new();
        }),
        ("the second of two authorization servers", |s| {
            s.edit_prm = edit(|document, at| {
                document["authorization_servers"] = json!([format!("{}/dead", at.mcp), at.authorization]);
            });
        }),
        ("the server is at the root", |s| {
            s.mcp_path = "/".into();
            s.challenges.clear();
            s.prm_path = Some(PRM.into());
        }),
        ("no grant types, no client authentication methods", |s| {
            s.edit_metadata = edit(|document, _| {
                let members = document.as_object_mut().unwrap();
                members.remove("grant_types_supported");
                members.remove("token_endpoint_auth_methods_supported");
            });
        }),
    ];
    for (name, change) in layouts {
        let server = AuthorizationServer::with(change).await;
        let browser = Browser::consenting();
        let mut host = browser.host(&server.url(), &[]);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{name}: {answer}\n{}", host.stderr());
        assert_eq!(server.counts(), ONE_SIGN_IN, "{name}");
        host.close().await;
    }
}

#[tokio::test]
async fn challenge_is_read_in_every_notation() {
    for challenges in [
        vec![r#"bearer RESOURCE_METADATA="{prm}""#],
        vec![r#"Bearer realm="a, resource_metadata=\"http://x/\"", resource_metadata="{prm}", error="invalid_token""#],
        vec!["Basic realm=\"x\"", r#"Bearer resource_metadata="{prm}""#],
        vec![r#"Basic realm="x", Bearer resource_metadata="{prm}""#],
        vec![r#"DPoP algs="ES256", Bearer realm="y",resource_metadata="{prm}""#],
        vec!["Bearer resource_metadata={prm}"],
    ] {
        let server = AuthorizationServer::with(|settings| {
            settings.prm_path = Some("/named-in-the-challenge".into());
            settings.challenges = challenges.iter().map(|line| (*line).to_owned()).collect();
        })
        .await;
        let (_browser, host) = signed_in(&server, &[]).await;
        assert_eq!(server.documents(Place::Mcp), [] as [&str; 0], "{challenges:?}");
        host.close().await;
    }
}

#[tokio::test]
async fn discovery_follows_order_of_specification() {
    let server = AuthorizationServer::with(|settings| {
        settings.challenges.clear();
        settings.prm_path = Some("/.well-known/oauth-protected-resource".into());
        settings.issuer_path = "/tenant".into();
        settings.metadata_path = Some("/tenant/.well-known/openid-configuration".into());
    })
    .await;
    let (_browser, _host) = signed_in(&server, &[]).await;
    assert_eq!(
        server.documents(Place::Mcp),
        ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"]
    );
    assert_eq!(
        server.documents(Place::Authorization),
        [
            "/.well-known/oauth-authorization-server/tenant",
            "/.well-known/openid-configuration/tenant",
            "/tenant/.well-known/openid-configuration",
        ]
    );
}

#[tokio::test]
async fn server_at_root_is_asked_for_one_document() {
    let server = AuthorizationServer::with(|settings| {
        settings.mcp_path = "/".into();
        settings.challenges.clear();
        settings.prm_path = Some("/.well-known/oauth-protected-resource".into());
    })
    .await;
    let (_browser, _host) = signed_in(&server, &[]).await;
    assert_eq!(server.documents(Place::Mcp), ["/.well-known/oauth-protected-resource"]);
}

#[tokio::test]
async fn untrusted_metadata_opens_no_browser_and_is_reported() {
    let cases: &[(&str, Change)] = &[
        ("metadata of another resource", |s| {
            s.edit_prm = edit(|document, _| document["resource"] = json!("https://elsewhere.example/mcp"));
        }),
        ("metadata of another path", |s| {
            s.edit_prm = edit(|document, at| document["resource"] = json!(format!("{}/other", at.mcp)));
        }),
        ("no authorization server", |s| {
            s.edit_prm = edit(|document, _| _ = document.as_object_mut().unwrap().remove("authorization_servers"));
        }),
        ("an empty list of authorization servers", |s| {
            s.edit_prm = edit(|document, _| document["authorization_servers"] = json!([]));
        }),
        ("an authorization server in the clear", |s| {
            s.edit_prm = edit(|document, _| document["authorization_servers"] = json!(["http://as.example"]));
        }),
        ("another issuer", |s| {
            s.edit_metadata = edit(|document, _| document["issuer"] = json!("https://elsewhere.example"));
        }),
        ("no issuer", |s| {
            s.edit_metadata = edit(|document, _| _ = document.as_object_mut().unwrap().remove("issuer"));
        }),
        ("a script as authorize page", |s| {
            s.edit_metadata = edit(|document, _| document["authorization_endpoint"] = json!("javascript:alert(1)"));
        }),
        ("a file as authorize page", |s| {
            s.edit_metadata = edit(|document, _| document["authorization_endpoint"] = json!("file:///etc/passwd"));
        }),
        ("an authorize page in the clear", |s| {
            s.edit_metadata =
                edit(|document, _| document["authorization_endpoint"] = json!("http://as.example/authorize"));
        }),
        ("a token endpoint in the clear", |s| {
            s.edit_metadata = edit(|document, _| document["token_endpoint"] = json!("http://as.example/token"));
        }),
        ("a registration endpoint in the clear", |s| {
            s.edit_metadata =
                edit(|document, _| document["registration_endpoint"] = json!("http://as.example/register"));
        }),
        ("metadata in the clear", |s| {
            s.challenges = vec![r#"Bearer resource_metadata="http://rs.example/metadata""#.into()];
            s.prm_path = None;
            s.metadata_path = None;
        }),
    ];
    for (name, change) in cases {
        let words = refused_without_browser(name, change, &[]).await;
        assert!(words.len() > 40, "{name}: {words}");
    }
}

#[tokio::test]
async fn untrusted_authorization_server_gets_no_registration() {
    let server = AuthorizationServer::with(|settings| {
        settings.edit_prm = edit(|document, _| document["resource"] = json!("https://elsewhere.example/mcp"));
    })
    .await;
    refused("a foreign resource", &server, &[]).await;
    assert_eq!(server.counts(), Counts::default());
}

#[tokio::test]
async fn dead_authorization_servers_are_not_replaced_by_defaults() {
    let server = AuthorizationServer::with(|settings| {
        settings.one_origin = true;
        settings.endpoints = String::new();
        settings.metadata_path = None;
        settings.edit_prm =
            edit(|document, at| document["authorization_servers"] = json!([format!("{}/dead", at.mcp)]));
    })
    .await;
    refused("dead", &server, &[]).await;
    assert_eq!(server.counts(), Counts::default());
}

#[tokio::test]
async fn issuer_differing_by_slash_is_accepted_with_warning() {
    let cases: [(&str, Change); 2] = [
        ("published", |s| {
            s.edit_metadata = edit(|document, at| document["issuer"] = json!(format!("{}/", at.authorization)))
        }),
        ("named", |s| {
            s.edit_prm =
                edit(|document, at| document["authorization_servers"] = json!([format!("{}/", at.authorization)]));
        }),
    ];
    for (name, change) in cases {
        let server = AuthorizationServer::with(change).await;
        // The redirect's issuer is compared as it stands with the published one.
        let iss = if name == "published" { format!("{}/", server.issuer()) } else { server.issuer() };
        server.change(|settings| settings.iss = Iss::Is(iss));
        let (_browser, host) = signed_in(&server, &[]).await;
        assert!(host.stderr().contains("issuer"), "{name}: {}", host.stderr());
    }
}

#[tokio::test]
async fn metadata_that_never_arrives_times_out() {
    let server = AuthorizationServer::with(|settings| {
        settings.challenges.clear();
        settings.prm_path = Some("/.well-known/oauth-protected-resource".into());
        settings.first =
            Arc::new(|request| (request.path == "/.well-known/oauth-protected-resource/mcp").then_some(Reply::Hang));
    })
    .await;
    let (_browser, _host) = signed_in(&server, &[]).await;
}

// PKCE (RFC 7636) and what binds an answer to its question.

#[tokio::test]
async fn server_without_s256_is_refused_naming_flag() {
    let cases: &[(&str, Change)] = &[
        ("nothing said", |s| {
            s.edit_metadata =
                edit(|document, _| _ = document.as_object_mut().unwrap().remove("code_challenge_methods_supported"));
        }),
        ("nothing said, OpenID Connect", |s| {
            s.metadata_path = Some("/.well-known/openid-configuration".into());
            s.edit_metadata =
                edit(|document, _| _ = document.as_object_mut().unwrap().remove("code_challenge_methods_supported"));
        }),
        ("only plain", |s| {
            s.edit_metadata = edit(|document, _| document["code_challenge_methods_supported"] = json!(["plain"]));
        }),
    ];
    for (name, change) in cases {
        let words = refused_without_browser(name, change, &[]).await;
        assert!(words.contains("--assume-pkce"), "{name}: {words}");
    }
    // With the flag S256 is sent all the same; the server checks that.
    let server = AuthorizationServer::with(cases[0].1).await;
    let (_browser, _host) = signed_in(&server, &["--assume-pkce"]).await;
}

#[tokio::test]
async fn sign_ins_share_no_state_or_challenge() {
    let server = AuthorizationServer::start(Settings::default()).await;
    for _ in 0..2 {
        let (_browser, host) = signed_in(&server, &[]).await;
        host.close().await;
    }
    let [one, other] = &server.tabs()[..] else { panic!("two tabs") };
    for name in ["state", "code_challenge"] {
        assert_ne!(one.get(name), other.get(name), "{name}");
    }
}

#[tokio::test]
async fn forged_redirect_is_ignored_and_real_one_works() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut open = open_sign_in(&server, &[]).await;
    let real = redirect_of(&open.url).await;
    for forged in
        ["?code=forged", "?code=forged&state=wrong", "?state=wrong&error=access_denied", "?error=access_denied", ""]
    {
        let page = get(&format!("{}{forged}", open.redirect_uri)).await;
        assert!((400..500).contains(&page.status), "{forged}: {page:?}");
    }
    assert_eq!(get(&real).await.status, 200);
    assert!(open.host.json().await["result"].is_object());
    assert_eq!(server.counts().exchanges, 1);
}

#[tokio::test]
async fn redirect_issuer_decides_by_specification_table() {
    const GOOD: bool = true;
    type Told = fn(&Addresses) -> Iss;
    let cases: &[(&str, bool, Told, bool)] = &[
        ("announced and right", true, |_| Iss::Right, GOOD),
        ("announced and wrong", true, |_| Iss::Is("https://elsewhere.example".into()), !GOOD),
        ("announced and missing", true, |_| Iss::Missing, !GOOD),
        ("not announced and right", false, |_| Iss::Right, GOOD),
        ("not announced and wrong", false, |_| Iss::Is("https://elsewhere.example".into()), !GOOD),
        ("not announced and missing", false, |_| Iss::Missing, GOOD),
        ("a slash more", true, |at| Iss::Is(format!("{}/", at.authorization)), !GOOD),
        ("another case", true, |at| Iss::Is(at.authorization.replace("http:", "HTTP:")), !GOOD),
        ("an escape", true, |at| Iss::Is(at.authorization.replace("127", "%3127")), !GOOD),
        ("empty", true, |_| Iss::Is(String::new()), !GOOD),
    ];
    for (name, announced, iss, good) in cases {
        let server = AuthorizationServer::with(|settings| settings.iss_announced = *announced).await;
        let iss = iss(&server.addresses());
        server.change(|settings| settings.iss = iss);
        let browser = Browser::consenting();
        let mut host = browser.host(&server.url(), &[]);
        let answer = host.initialize().await;
        assert_eq!(answer["result"].is_object(), *good, "{name}: {answer}");
        assert_eq!(server.counts().exchanges, usize::from(*good), "{name}");
        if !good {
            own_error(&answer);
            assert!(browser.page().await.status >= 400, "{name}");
        }
    }
}

#[tokio::test]
async fn error_from_another_issuer_is_not_shown() {
    let server = AuthorizationServer::with(|settings| {
        settings.denies = Some(("access_denied".into(), "call-this-number".into()));
        settings.iss = Iss::Is("https://elsewhere.example".into());
    })
    .await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &["--debug", "--auth-timeout", "2"]);
    let answer = host.initialize().await;
    assert!(!own_error(&answer).contains("call-this-number"), "{answer}");
    assert!(!browser.page().await.body.contains("call-this-number"));
    assert!(!host.stderr().contains("call-this-number"), "{}", host.stderr());
}

#[tokio::test]
async fn refusal_ends_sign_in_with_reason() {
    let server = AuthorizationServer::with(|settings| {
        settings.denies = Some(("access_denied".into(), "<script>alert(1)</script> not today & never".into()));
    })
    .await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &[]);
    let words = own_error(&host.initialize().await);
    assert!(words.contains("not today & never"), "{words}");
    let page = browser.page().await;
    assert!(page.status >= 400, "{page:?}");
    assert!(page.body.contains("not today &amp; never") && !page.body.contains("<script>alert"), "{page:?}");
    let Counts { tabs, exchanges, .. } = server.counts();
    assert_eq!((tabs, exchanges), (1, 0));
    host.close().await;
}

#[tokio::test]
async fn request_after_refusal_may_ask_again() {
    let server = AuthorizationServer::with(|settings| {
        settings.denies = Some(("access_denied".into(), "not today".into()));
    })
    .await;
    let mut open = open_sign_in(&server, &[]).await;
    visit(&open.url).await;
    own_error(&open.host.json().await);
    server.change(|settings| settings.denies = None);
    open.host.send(request(1, "initialize", initialize_params("2025-11-25"))).await;
    // The address is told; whether a browser opens again so soon is another question.
    let again = open.host.told_address(&server.endpoint("authorize"), 2).await;
    assert_ne!(again, open.url);
    assert_eq!(visit(&again).await.status, 200);
    assert!(open.host.json().await["result"].is_object());
}

// Scope, resource and other parameters.

#[tokio::test]
async fn scope_choice_follows_specification() {
    let challenge = |s: &mut Settings| s.challenges = vec![r#"Bearer scope="a b", resource_metadata="{prm}""#.into()];
    let published =
        |s: &mut Settings| s.edit_prm = edit(|document, _| document["scopes_supported"] = json!(["c", "d"]));
    let server_lists =
        |s: &mut Settings| s.edit_metadata = edit(|document, _| document["scopes_supported"] = json!(["e", "openid"]));
    let offline = |s: &mut Settings| {
        s.edit_metadata = edit(|document, _| document["scopes_supported"] = json!(["a", "offline_access"]));
    };
    let configured: &[&str] = &["--static-oauth-client-metadata", r#"{"scope":"mine"}"#];
    type Changes<'a> = &'a [&'a dyn Fn(&mut Settings)];
    let cases: &[(&str, Changes<'_>, &[&str], Option<&str>)] = &[
        ("the challenge's", &[&challenge, &published, &server_lists], &[], Some("a b")),
        ("else all that the resource publishes", &[&published, &server_lists], &[], Some("c d")),
        ("else none, whatever the authorization server lists", &[&server_lists], &[], None),
        (
            "offline_access where the authorization server lists it",
            &[&challenge, &offline],
            &[],
            Some("a b offline_access"),
        ),
        ("the user's before all", &[&challenge, &published, &offline], configured, Some("mine")),
    ];
    for (name, changes, flags, expected) in cases {
        let server = AuthorizationServer::with(|settings| changes.iter().for_each(|change| change(settings))).await;
        let (_browser, host) = signed_in(&server, flags).await;
        let asked = server.tabs()[0].get("scope").map(scopes);
        assert_eq!(asked, expected.map(scopes), "{name}");
        host.close().await;
    }
}

#[tokio::test]
async fn resource_is_sent_as_published() {
    // The server compares it in the authorize page, the exchange and the refresh.
    let as_published: &[fn(&Addresses) -> String] = &[
        |at| format!("{}/mcp", at.mcp),
        |at| at.mcp.clone(),
        |at| format!("{}/", at.mcp),
        |at| at.mcp.replace("http:", "HTTP:"),
    ];
    for published in as_published {
        let server = AuthorizationServer::with(|settings| {
            settings.edit_prm = edit(move |document, at| document["resource"] = json!(published(at)));
        })
        .await;
        let (_browser, mut host) = signed_in(&server, &[]).await;
        server.revoke_access_tokens();
        assert!(host.ask(1, "tools/list", json!({})).await["result"].is_object());
        assert_eq!(server.counts().refreshes, 1);
        host.close().await;
    }
}

#[tokio::test]
async fn user_may_name_another_resource_or_none() {
    let cases: [(&[&str], Resource); 2] = [
        (&["--resource", "https://api.example/x"], Resource::Is("https://api.example/x".into())),
        (&["--disable-resource-parameter"], Resource::Absent),
    ];
    for (flags, resource) in cases {
        let server = AuthorizationServer::with(|settings| settings.resource = Some(resource)).await;
        let (_browser, mut host) = signed_in(&server, flags).await;
        server.revoke_access_tokens();
        assert!(host.ask(1, "tools/list", json!({})).await["result"].is_object());
        host.close().await;
    }
}

#[tokio::test]
async fn user_parameters_and_endpoint_query_reach_page() {
    let server = AuthorizationServer::with(|settings| {
        settings.edit_metadata = edit(|document, _| {
            let endpoint = format!("{}?tenant=a%20b", document["authorization_endpoint"].as_str().unwrap());
            document["authorization_endpoint"] = json!(endpoint);
        });
    })
    .await;
    let (browser, _host) = signed_in(&server, &["--authorize-param", "prompt=$(touch x)&calc\" 'a'"]).await;
    let tab = &server.tabs()[0];
    assert_eq!(tab.get("tenant"), Some("a b"));
    assert_eq!(tab.get("prompt"), Some("$(touch x)&calc\" 'a'"));
    assert_eq!(browser.tabs()[0].arguments, 1, "{:?}", browser.tabs());
}

// Who we are.

#[tokio::test]
async fn registration_decides_client_authentication() {
    for method in ["none", "client_secret_basic", "client_secret_post"] {
        let server = AuthorizationServer::with(|settings| settings.client_method = method.into()).await;
        let (_browser, mut host) = signed_in(&server, &[]).await;
        server.revoke_access_tokens();
        assert!(host.ask(1, "tools/list", json!({})).await["result"].is_object(), "{method}: {}", host.stderr());
        assert_eq!(server.counts().refreshes, 1, "{method}");
        host.close().await;
    }
}

#[tokio::test]
async fn registration_overrides_listed_authentication_methods() {
    // The server lists nothing but `none` and hands out a secret for `client_secret_post` all the same.
    let server = AuthorizationServer::with(|settings| {
        settings.client_method = "client_secret_post".into();
        settings.edit_metadata =
            edit(|document, _| document["token_endpoint_auth_methods_supported"] = json!(["none"]));
    })
    .await;
    let (_browser, _host) = signed_in(&server, &[]).await;
}

#[tokio::test]
async fn registration_with_only_client_id_suffices() {
    let server = AuthorizationServer::with(|settings| {
        settings.edit_registration = edit(|answer, _| *answer = json!({"client_id": answer["client_id"]}));
    })
    .await;
    let home = registered(&server).await;
    let (_browser, _host) = signed_in_again(&server, &home).await;
    assert_eq!(server.counts().registrations, 1);
}

#[tokio::test]
async fn configured_client_is_used_without_registration() {
    const SECRET: &str = "s3:cr%t+& \"é";
    for (method, secret) in
        [("none", None), ("client_secret_basic", Some(SECRET)), ("client_secret_post", Some(SECRET))]
    {
        let client = Client {
            id: "my:client".into(),
            secret: secret.map(Into::into),
            method: method.into(),
            ..Client::default()
        };
        let server = AuthorizationServer::with(|settings| {
            settings.client_method = method.into();
            settings.clients = vec![client];
        })
        .await;
        let info = json!({"client_id": "my:client", "client_secret": secret.map(|_| "${SECRET}")});
        let info = if secret.is_some() { info.to_string() } else { json!({"client_id": "my:client"}).to_string() };
        let browser = Browser::consenting();
        let home = Arc::new(tempfile::tempdir().unwrap());
        let arguments = [&server.url(), "--static-oauth-client-info", &info];
        let mut host = browser.host_with(&home, &arguments.map(|it| it as &str), &[("SECRET", SECRET)]);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{method}: {answer}\n{}", host.stderr());
        assert_eq!(server.counts(), Counts { registrations: 0, looks: 1, ..ONE_SIGN_IN }, "{method}");
    }
}

#[tokio::test]
async fn configured_client_comes_from_a_file_too() {
    let server = AuthorizationServer::with(|settings| settings.clients = vec![Client::public("filed")]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.json");
    std::fs::write(&file, r#"{"client_id": "filed"}"#).unwrap();
    let (_browser, _host) = signed_in(&server, &["--static-oauth-client-info", &format!("@{}", file.display())]).await;
    assert_eq!(server.counts().registrations, 0);
}

const DOCUMENT: &str = "https://client.example/mcp-remote.json";

fn takes_documents(settings: &mut Settings) {
    settings.clients = vec![Client::public(DOCUMENT), Client::public("configured")];
    settings.edit_metadata = edit(|document, _| document["client_id_metadata_document_supported"] = json!(true));
}

#[tokio::test]
async fn client_metadata_document_is_used_where_supported() {
    let server = AuthorizationServer::with(takes_documents).await;
    let (_browser, _host) = signed_in(&server, &[&quiet_port(&server), "--client-metadata-url", DOCUMENT]).await;
    assert_eq!(server.counts().registrations, 0);
    assert_eq!(server.tabs()[0].get("client_id"), Some(DOCUMENT));

    let server = AuthorizationServer::start(Settings::default()).await;
    let (_browser, _host) = signed_in(&server, &[&quiet_port(&server), "--client-metadata-url", DOCUMENT]).await;
    assert_eq!(server.counts().registrations, 1);
}

#[tokio::test]
async fn configured_client_precedes_document_and_registration() {
    let server = AuthorizationServer::with(takes_documents).await;
    let port = quiet_port(&server);
    let flags =
        [&port, "--client-metadata-url", DOCUMENT, "--static-oauth-client-info", r#"{"client_id":"configured"}"#];
    let (_browser, _host) = signed_in(&server, &flags).await;
    assert_eq!(server.tabs()[0].get("client_id"), Some("configured"));
}

#[tokio::test]
async fn missing_client_id_reports_what_to_configure() {
    let no_registration = |settings: &mut Settings| {
        settings.edit_metadata =
            edit(|document, _| _ = document.as_object_mut().unwrap().remove("registration_endpoint"));
    };
    let words = refused_without_browser("no registration", no_registration, &[]).await;
    assert!(words.contains("--static-oauth-client-info"), "{words}");
}

#[tokio::test]
async fn refused_registration_is_reported_in_servers_words() {
    let refuses = |settings: &mut Settings| {
        settings.first = Arc::new(|request| {
            let refusal = json!({"error": "invalid_redirect_uri", "error_description": "no loopback here"});
            (request.path == "/oauth/register").then(|| Reply::status(400, "application/json", refusal))
        });
    };
    let words = refused_without_browser("refused", refuses, &[]).await;
    assert!(words.contains("no loopback here"), "{words}");
}

#[tokio::test]
async fn user_metadata_is_part_of_registration() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let metadata = r#"{"client_name":"My program","logo_uri":"https://a.example/l.png","scope":"x y"}"#;
    let (_browser, _host) = signed_in(&server, &["--static-oauth-client-metadata", metadata]).await;
    let body = server.arrived_at(Place::Authorization, "/oauth/register")[0].request.json();
    for (name, value) in [("client_name", "My program"), ("logo_uri", "https://a.example/l.png"), ("scope", "x y")] {
        assert_eq!(body[name], value, "{body}");
    }
    assert_eq!(body["redirect_uris"], json!([server.tabs()[0].get("redirect_uri")]));
}

/// Signs in once and forgets the tokens, but not the registration.
async fn registered(server: &AuthorizationServer) -> Arc<TempDir> {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let browser = Browser::consenting();
    let mut host = browser.host_at(&home, &server.url(), &[]);
    assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
    host.close().await;
    std::fs::remove_file(stored::file(home.path(), &server.url(), "tokens.json")).unwrap();
    home
}

/// Signs in with a home that has been used.
async fn signed_in_again(server: &AuthorizationServer, home: &Arc<TempDir>) -> (Browser, Host) {
    let browser = Browser::consenting();
    let mut host = browser.host_at(home, &server.url(), &WAIT);
    let answer = host.initialize().await;
    assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
    (browser, host)
}

#[tokio::test]
async fn registration_is_used_again() {
    for method in ["none", "client_secret_basic"] {
        let server = AuthorizationServer::with(|settings| settings.client_method = method.into()).await;
        let home = registered(&server).await;
        let (_browser, _host) = signed_in_again(&server, &home).await;
        let Counts { registrations, tabs, .. } = server.counts();
        assert_eq!((registrations, tabs), (1, 2), "{method}");
    }
}

#[tokio::test]
async fn forgotten_registration_is_renewed_before_tab_opens() {
    let refusals: [(&str, Answer); 3] = [
        ("a page", || Reply::status(400, "text/html", "<title>Unknown client</title>")),
        ("JSON", || Reply::status(401, "application/json", json!({"error": "invalid_client"}))),
        ("JSON with success", || Reply::json(json!({"error": "unauthorized_client"}))),
    ];
    for (name, refusal) in refusals {
        let server = AuthorizationServer::start(Settings::default()).await;
        let home = registered(&server).await;
        let old = server.tabs()[0].get("client_id").unwrap().to_owned();
        server.change(|settings| {
            settings.first = Arc::new(move |request| {
                let authorize = request.path.starts_with("/oauth/authorize");
                (authorize && Form::of(&request.path).get("client_id") == Some(&old)).then(refusal)
            });
        });
        let (browser, _host) = signed_in_again(&server, &home).await;
        assert_eq!(browser.tabs().len(), 1, "{name}");
        assert_eq!(server.counts().registrations, 2, "{name}");
    }
}

#[tokio::test]
async fn registration_whose_secret_has_expired_is_renewed() {
    let server = AuthorizationServer::with(|settings| settings.client_method = "client_secret_post".into()).await;
    let home = registered(&server).await;
    stored::change(home.path(), &server.url(), "client_info.json", |info| info["client_secret_expires_at"] = json!(1));
    let (_browser, _host) = signed_in_again(&server, &home).await;
    assert_eq!(server.counts().registrations, 2);
}

#[tokio::test]
async fn registration_for_another_port_is_renewed() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let home = registered(&server).await;
    let port = port_of(server.tabs()[0].get("redirect_uri").unwrap());
    let _unrelated = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (_browser, _host) = signed_in_again(&server, &home).await;
    assert_eq!(server.counts().registrations, 2);
    assert_ne!(port_of(server.tabs()[1].get("redirect_uri").unwrap()), port);
}

#[tokio::test]
async fn new_authorization_server_gets_new_registration_only() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let home = Arc::new(tempfile::tempdir().unwrap());
    let (_browser, host) = signed_in_again(&server, &home).await;
    host.close().await;
    let other = AuthorizationServer::with(|settings| settings.resource = Some(Resource::Is(server.url()))).await;
    let (issuer, port) = (other.issuer(), port_of(&other.url()).to_string());
    server.revoke_access_tokens();
    server.change(|settings| {
        settings.edit_prm = edit(move |document, _| document["authorization_servers"] = json!([issuer]));
        settings.first = Arc::new(move |request| {
            let theirs = request.header("authorization").is_some_and(|shown| shown.ends_with(&port));
            theirs.then(|| ordinary(request))
        });
    });
    let refreshes = server.counts().refreshes;
    let (_browser, _host) = signed_in_again(&server, &home).await;
    assert_eq!(other.counts(), ONE_SIGN_IN);
    let old: Vec<_> =
        server.secrets().into_iter().chain([server.tabs()[0].get("client_id").unwrap().to_owned()]).collect();
    for arrived in other.arrived() {
        let all = format!("{:?}", arrived.request);
        assert!(!old.iter().any(|old| all.contains(old.as_str())), "{all}");
    }
    assert_eq!(server.counts().refreshes, refreshes, "the old server's token is no longer refreshed");
}

#[tokio::test]
async fn taken_port_fails_known_client_and_warns_others() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let server = AuthorizationServer::with(|settings| settings.clients = vec![Client::public("known")]).await;
    let flags = [port.as_str(), "--static-oauth-client-info", r#"{"client_id":"known"}"#];
    assert!(refused("taken", &server, &flags).await.contains(&port));

    let server = AuthorizationServer::start(Settings::default()).await;
    let (_browser, host) = signed_in(&server, &[&port]).await;
    assert!(host.stderr().contains(&port), "{}", host.stderr());
    assert_ne!(port_of(server.tabs()[0].get("redirect_uri").unwrap()).to_string(), port);
}

// The redirect's listener and its pages.

#[tokio::test]
async fn stray_requests_to_callback_are_answered() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut open = open_sign_in(&server, &[]).await;
    let port = port_of(&open.redirect_uri);
    let real = redirect_of(&open.url).await;
    for path in ["/", "/favicon.ico", "/oauth/callback/more", "/OAUTH/CALLBACK?code=x", "//oauth/callback"] {
        let page = get(&format!("http://localhost:{port}{path}")).await;
        assert!(page.status == 204 || (400..500).contains(&page.status), "{path}: {page:?}");
    }
    // DNS rebinding: a foreign name for this machine.
    for host in ["evil.example", "evil.example:80", "localhost.evil.example", ""] {
        let page = get_with(&real, &[("host", host)]).await;
        assert!((400..500).contains(&page.status), "{host}: {page:?}");
    }
    assert_eq!(server.counts().exchanges, 0);
    assert_eq!(get(&real).await.status, 200);
    assert!(open.host.json().await["result"].is_object());
    closed(port).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn callback_listens_on_loopback_of_both_families() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let open = open_sign_in(&server, &[]).await;
    let port = format!(":{:04X}", port_of(&open.redirect_uri));
    let mut listening = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines() {
            let columns: Vec<_> = line.split_whitespace().collect();
            // "0A": LISTEN
            if columns.len() > 3 && columns[3] == "0A" && columns[1].ends_with(&port) {
                listening.push(columns[1].trim_end_matches(&port).to_owned());
            }
        }
    }
    const V4: &str = "0100007F";
    const V6: &str = "00000000000000000000000001000000";
    assert!(listening.iter().all(|address| address == V4 || address == V6), "{listening:?}");
    assert!(listening.iter().any(|address| address == V4), "{listening:?}");
    if TcpListener::bind("[::1]:0").await.is_ok() {
        assert!(listening.iter().any(|address| address == V6), "{listening:?}");
    }
}

#[tokio::test]
async fn redirect_may_come_over_either_family() {
    for address in ["127.0.0.1", "[::1]"] {
        if TcpListener::bind(format!("{address}:0")).await.is_err() {
            continue;
        }
        let server = AuthorizationServer::start(Settings::default()).await;
        let mut open = open_sign_in(&server, &[]).await;
        let real = redirect_of(&open.url).await;
        let authority = format!("localhost:{}", port_of(&open.redirect_uri));
        let page = get_with(&real.replace("localhost", address), &[("host", &authority)]).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(open.host.json().await["result"].is_object());
    }
}

#[tokio::test]
async fn silent_and_half_open_connections_block_nothing() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut open = open_sign_in(&server, &[]).await;
    let port = port_of(&open.redirect_uri);
    let mut silent = Vec::new();
    for number in 0..40 {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { break };
        if number % 2 == 0 {
            stream.try_write(b"GET /oauth/callback?code=").unwrap();
        }
        silent.push(stream);
    }
    let since = Instant::now();
    assert_eq!(visit(&open.url).await.status, 200);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert!(open.host.json().await["result"].is_object());
}

#[tokio::test]
async fn page_is_self_contained_and_names_server() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (browser, _host) = signed_in(&server, &[]).await;
    let page = browser.page().await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"), "{page:?}");
    assert_eq!((page.header("cache-control"), page.header("referrer-policy")), (Some("no-store"), Some("no-referrer")));
    let server_name = server.addresses().mcp.replace("http://", "");
    assert!(page.body.contains(&server_name), "{page:?}");
    // What `initialize` says of the host program.
    assert!(page.body.contains("test"), "{page:?}");
    assert!(!page.body.contains("src=") && !page.body.contains("http-equiv"), "{page:?}");
}

#[tokio::test]
async fn page_reports_success_only_after_exchange() {
    let failures: [(&str, Answer); 4] = [
        ("refused", || {
            Reply::status(400, "application/json", json!({"error": "invalid_grant", "error_description": "too late"}))
        }),
        ("broken", || Reply::status(500, "text/html", "<title>Oh no</title>")),
        ("garbage", || Reply::json("{")),
        ("an error with success", || Reply::json(json!({"error": "invalid_request", "error_description": "too late"}))),
    ];
    for (name, failure) in failures {
        let server = AuthorizationServer::with(|settings| {
            settings.first = Arc::new(move |request| (request.path == "/oauth/token").then(failure));
        })
        .await;
        let browser = Browser::consenting();
        let mut host = browser.host(&server.url(), &[]);
        own_error(&host.initialize().await);
        let page = browser.page().await;
        assert!(page.status >= 400, "{name}: {page:?}");
        assert_eq!(browser.tabs().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn users_own_page_is_shown_after_success() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let done = format!("{}/done", server.addresses().mcp);
    let (browser, _host) = signed_in(&server, &["--auth-success-url", &done]).await;
    let page = browser.page().await;
    assert_eq!(page.url, done);
}

// The browser and the person.

#[tokio::test]
async fn sign_in_url_is_printed_on_stderr() {
    for browser_there in [true, false] {
        let server = AuthorizationServer::start(Settings::default()).await;
        let browser = Browser::waiting();
        let none: &[_] = if browser_there { &[] } else { &[("BROWSER", "/nonexistent/browser")] };
        let home = Arc::new(tempfile::tempdir().unwrap());
        let mut host = browser.host_with(&home, &[&server.url()], none);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        let url = host.told_address(&server.endpoint("authorize"), 1).await;
        if browser_there {
            assert_eq!(browser.tab().await.url, url);
        }
        assert_eq!(visit(&url).await.status, 200);
        assert!(host.json().await["result"].is_object());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn browser_gets_one_argument_and_no_handles() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let open = open_sign_in(&server, &[]).await;
    let tab = &open.browser.tabs()[0];
    assert_eq!(tab.arguments, 1, "{tab:?}");
    let pid = open.host.child.id().unwrap();
    for number in 0..3 {
        let ours = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        assert!(!tab.handles.iter().any(|theirs| *theirs == ours.to_string_lossy()), "{ours:?} {tab:?}");
    }
}

#[tokio::test]
async fn end_of_input_during_sign_in_ends_program() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut open = open_sign_in(&server, &[]).await;
    open.host.end_input();
    let (status, took) = open.host.exit().await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
    assert!(status.code().is_some(), "{status}");
    closed(port_of(&open.redirect_uri)).await;
}

#[tokio::test]
async fn end_of_input_ends_program_in_every_step() {
    for step in [
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/oauth/register",
        "/oauth/token",
    ] {
        let server = AuthorizationServer::with(|settings| {
            settings.first = Arc::new(move |request| (request.path == step).then_some(Reply::Hang));
        })
        .await;
        let browser = Browser::consenting();
        let mut host = browser.host(&server.url(), &[]);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        server.until(step, |server| server.arrived().iter().any(|arrived| arrived.path() == step)).await;
        host.end_input();
        let (status, took) = host.exit().await;
        assert!(took < Duration::from_secs(2) && status.code().is_some(), "{step}: {took:?}, {status}");
    }
}

#[tokio::test]
async fn late_sign_in_works_after_host_got_error() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut open = open_sign_in(&server, &["--auth-timeout", "1", WAIT[0], WAIT[1]]).await;
    let words = own_error(&open.host.json().await);
    assert!(words.contains(&open.url), "{words}");
    assert_eq!(visit(&open.url).await.status, 200);
    let answer = open.host.initialize().await;
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(server.counts(), ONE_SIGN_IN);
    assert_eq!(open.browser.tabs().len(), 1);
}

#[tokio::test]
async fn call_waiting_for_user_is_answered_in_time() {
    let server = AuthorizationServer::with(|settings| settings.open = |request| request.rpc() != "tools/list").await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &["--auth-timeout", "1"]);
    host.initialize().await;
    let words = own_error(&host.ask(1, "tools/list", json!({})).await);
    let url = browser.tab().await.url;
    assert!(words.contains(&url), "{words}");
    assert_eq!(visit(&url).await.status, 200);
    assert_eq!(host.ask(2, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    assert_eq!(browser.tabs().len(), 1);
}

#[tokio::test]
async fn request_during_open_tab_opens_no_other() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let mut open = open_sign_in(&server, &["--auth-timeout", "1", WAIT[0], WAIT[1]]).await;
    own_error(&open.host.json().await);
    let words = own_error(&open.host.ask(1, "initialize", initialize_params("2025-11-25")).await);
    assert!(words.contains(&open.url), "{words}");
    assert_eq!(open.browser.tabs().len(), 1);
}

#[tokio::test]
async fn refused_user_credential_starts_no_sign_in() {
    for name in ["Authorization", "authorization"] {
        let header = format!("{name}: Bearer mine");
        let server = AuthorizationServer::start(Settings::default()).await;
        let words = refused(name, &server, &["--header", &header]).await;
        assert!(words.to_lowercase().contains("authorization"), "{words}");
        assert_eq!(server.counts(), Counts::default());
        assert_eq!(server.asked("initialize")[0].header("authorization"), Some("Bearer mine"));
    }
}

#[tokio::test]
async fn user_headers_go_only_to_mcp_server() {
    let server = AuthorizationServer::start(Settings::default()).await;
    let (_browser, mut host) = signed_in(&server, &["--header", "X-Key: mine"]).await;
    host.ask(1, "tools/list", json!({})).await;
    for arrived in server.arrived() {
        let expected = (arrived.at == Place::Mcp && arrived.path() == "/mcp").then_some("mine");
        if arrived.at == Place::Authorization || expected.is_some() {
            assert_eq!(arrived.request.header("x-key"), expected, "{arrived:?}");
        }
    }
}
