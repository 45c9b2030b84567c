//! Sign-in flows as public reports describe them: refreshes that fail in unusual ways, filters before the sign-in page,
//! and a good sign-in that is kept until a better one is stored.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authorization_server::{AuthorizationServer, Counts, Form, Settings},
    browser::{Browser, get, visit},
    host::{Host, WAIT, initialize_params, notification, request},
    own_error,
    server::{Reply, Request, initialize_result, ordinary},
    stored,
};

type Answer = fn() -> Reply;

/// A home where a user has signed in before, and the server.
struct World {
    server: AuthorizationServer,
    home: Arc<TempDir>,
}

impl World {
    /// Signs in once and ends.
    async fn signed_in() -> Self {
        let server = AuthorizationServer::start(Settings::default()).await;
        let world = Self { server, home: Arc::new(tempfile::tempdir().unwrap()) };
        let browser = Browser::consenting();
        world.works(&browser).await;
        world
    }

    /// Starts a host, which must reach the server.
    async fn works(&self, browser: &Browser) {
        let mut host = self.host(browser);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
        host.close().await;
    }

    fn host(&self, browser: &Browser) -> Host {
        browser.host_at(&self.home, &self.server.url(), &[&["--retry-for", "0"][..], &WAIT].concat())
    }

    fn tokens(&self) -> Value {
        self.stored("tokens.json")
    }

    fn stored(&self, name: &str) -> Value {
        stored::json(self.home.path(), &self.server.url(), name)
    }

    /// The token endpoint answers the first `times` refreshes like this.
    fn fail_refreshes(&self, times: usize, answer: impl Fn() -> Reply + Send + Sync + 'static) {
        let count = AtomicUsize::new(0);
        self.first(move |request| {
            let is_refresh = request.path == "/oauth/token" && request.body.contains("grant_type=refresh_token");
            (is_refresh && count.fetch_add(1, Relaxed) < times).then(&answer)
        });
    }

    fn first(&self, answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        self.server.change(|settings| settings.first = Arc::new(answer));
    }

    /// Makes the failures so far look `seconds` older.
    fn age_failures(&self, seconds: u64) {
        stored::change(self.home.path(), &self.server.url(), "grant.json", |from| {
            from["failing"]["since"] = json!(from["failing"]["since"].as_u64().unwrap() - seconds);
        });
    }

    /// Tabs and registrations so far.
    fn spent(&self) -> (usize, usize) {
        let Counts { tabs, registrations, .. } = self.server.counts();
        (tabs, registrations)
    }
}

fn invalid_client() -> Reply {
    Reply::status(401, "application/json", json!({ "error": "invalid_client" }))
}

#[tokio::test]
async fn passing_invalid_client_keeps_sign_in() {
    let world = World::signed_in().await;
    world.server.revoke_access_tokens();
    world.fail_refreshes(1, invalid_client);
    world.works(&Browser::consenting()).await;
    assert_eq!(world.spent(), (1, 1));
    assert_eq!(world.server.counts().refreshes, 1);
}

#[tokio::test]
async fn unfinished_sign_in_keeps_registration_and_tokens() {
    let world = World::signed_in().await;
    let before = (world.tokens(), world.stored("client_info.json"));
    world.server.revoke_access_tokens();
    world.fail_refreshes(usize::MAX, invalid_client);
    let browser = Browser::waiting();
    let mut host = world.host(&browser);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    browser.tab().await; // with a new registration, and the user leaves it open
    assert_eq!(world.spent().1, 2);
    host.end_input();
    host.exit().await;
    assert_eq!((world.tokens(), world.stored("client_info.json")), before);
    // The authorization server knows the client again.
    world.first(|_| None);
    world.works(&Browser::waiting()).await;
    assert_eq!(world.spent().1, 2);
}

#[tokio::test]
async fn finished_sign_in_replaces_refused_registration() {
    let world = World::signed_in().await;
    let old = world.stored("client_info.json")["client_id"].clone();
    world.server.revoke_access_tokens();
    world.server.forget_clients();
    world.works(&Browser::consenting()).await;
    assert_eq!(world.spent(), (2, 2));
    assert_ne!(world.stored("client_info.json")["client_id"], old);
    let registrations = world.stored("registrations.json");
    assert!(registrations.as_array().unwrap().iter().all(|one| one["client_id"] != old), "{registrations}");
}

#[tokio::test]
async fn dead_refresh_token_leads_to_sign_in() {
    let answers: [(&str, Answer); 3] = [
        ("503", || Reply::status(503, "application/json", json!({ "error": "server_error" }))),
        ("500", || Reply::status(500, "text/plain", "oh")),
        ("a page", || Reply::status(200, "text/html", "<html>")),
    ];
    for (name, answer) in answers {
        let world = World::signed_in().await;
        let kept = world.tokens()["refresh_token"].clone();
        world.server.revoke_access_tokens();
        world.fail_refreshes(usize::MAX, answer);
        for _ in 0..2 {
            let mut host = world.host(&Browser::consenting());
            own_error(&host.initialize().await);
            host.end_input();
            host.exit().await;
        }
        assert_eq!(world.spent().0, 1, "{name}: not yet");
        assert_eq!(world.tokens()["refresh_token"], kept, "{name}");
        world.age_failures(600);
        world.works(&Browser::consenting()).await;
        assert_eq!(world.spent(), (2, 1), "{name}");
    }
}

#[tokio::test]
async fn recovered_server_refreshes_despite_earlier_failures() {
    let world = World::signed_in().await;
    world.server.revoke_access_tokens();
    world.fail_refreshes(usize::MAX, || Reply::status(500, "text/plain", "oh"));
    let mut host = world.host(&Browser::consenting());
    own_error(&host.initialize().await);
    host.end_input();
    host.exit().await;
    world.age_failures(600);
    world.first(|_| None);
    world.works(&Browser::waiting()).await;
    assert_eq!(world.spent(), (1, 1));
}

#[tokio::test]
async fn login_signs_in_despite_failing_refresh() {
    let answers: [(&str, Answer); 3] = [
        ("503", || Reply::status(503, "application/json", json!({ "error": "server_error" }))),
        ("500", || Reply::status(500, "text/plain", "oh")),
        ("no answer", || Reply::Close),
    ];
    for (name, answer) in answers {
        let world = World::signed_in().await;
        world.server.revoke_access_tokens();
        world.fail_refreshes(usize::MAX, answer);
        let browser = Browser::consenting();
        let mut login = browser.host_with(&world.home, &["login", &world.server.url(), "--retry-for", "0"], &[]);
        let said = login.rest().await.join("\n");
        let (status, _) = login.exit().await;
        assert!(said.contains("Signed in to"), "{name}: {said}\n{}", login.stderr());
        assert!(status.success(), "{name}");
        assert_eq!(world.spent(), (2, 1), "{name}");
    }
}

#[tokio::test]
async fn bot_filter_before_page_costs_no_registration() {
    let world = World::signed_in().await;
    std::fs::remove_file(stored::file(world.home.path(), &world.server.url(), "tokens.json")).unwrap();
    world.first(|request| {
        let is_browser = request.header("user-agent") == Some(crate::support::browser::USER_AGENT);
        (request.path.starts_with("/oauth/authorize") && !is_browser)
            .then(|| Reply::status(403, "text/html", "<title>Just a moment...</title>"))
    });
    world.works(&Browser::consenting()).await;
    assert_eq!(world.spent(), (2, 1));
}

#[tokio::test]
async fn invalid_token_is_refreshed_whatever_the_status() {
    for status in [400, 403] {
        let world = World::signed_in().await;
        let old = format!("Bearer {}", world.tokens()["access_token"].as_str().unwrap());
        world.first(move |request| {
            (request.path == "/mcp" && request.header("authorization") == Some(&old))
                .then(|| Reply::empty(status).with("www-authenticate", r#"Bearer error="invalid_token""#))
        });
        world.works(&Browser::waiting()).await;
        assert_eq!(world.server.counts().refreshes, 1, "{status}");
        assert_eq!(world.spent(), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn refused_registration_is_requested_once_at_start() {
    let registrations = Arc::new(AtomicUsize::new(0));
    let server = AuthorizationServer::with(|settings| {
        let count = registrations.clone();
        settings.first = Arc::new(move |request| {
            (request.path == "/oauth/register").then(|| {
                count.fetch_add(1, Relaxed);
                Reply::status(429, "application/json", json!({ "error": "too_many" })).with("retry-after", "1800")
            })
        });
    })
    .await;
    let mut host = Browser::waiting().host(&server.url(), &[&["--retry-for", "0"][..], &WAIT].concat());
    own_error(&host.initialize().await);
    for id in 1..=3 {
        own_error(&host.ask(id, "tools/list", json!({})).await);
    }
    assert_eq!(registrations.load(Relaxed), 1);
}

#[tokio::test]
async fn placeholder_call_signs_in_despite_failing_refresh() {
    let world = World::signed_in().await;
    world.server.revoke_access_tokens();
    world.fail_refreshes(usize::MAX, || Reply::status(500, "text/plain", "oh"));
    let browser = Browser::consenting();
    let mut host = browser.host_at(&world.home, &world.server.url(), &["--retry-for", "0"]);
    host.initialize().await;
    host.told("the token refresh").await;
    assert_eq!(world.spent().0, 1);
    host.send(request(1, "tools/call", json!({ "name": "mcp_remote_status" }))).await;
    browser.tab().await;
    browser.page().await;
    assert_eq!(world.spent(), (2, 1));
}

#[tokio::test]
async fn diagnosis_signs_in_despite_failing_refresh() {
    let world = World::signed_in().await;
    world.server.revoke_access_tokens();
    world.fail_refreshes(usize::MAX, || Reply::status(500, "text/plain", "oh"));
    let browser = Browser::consenting();
    tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote-client"))
        .args([&world.server.url(), "--retry-for", "0"])
        .env("MCP_REMOTE_CONFIG_DIR", world.home.path())
        .envs(browser.environment())
        .output()
        .await
        .unwrap();
    assert_eq!(world.spent(), (2, 1));
}

#[tokio::test]
async fn invalid_token_in_body_only_is_refreshed() {
    for status in [400, 403] {
        let world = World::signed_in().await;
        let old = format!("Bearer {}", world.tokens()["access_token"].as_str().unwrap());
        world.first(move |request| {
            let is_dead = request.path == "/mcp" && request.header("authorization") == Some(&old);
            let body = json!({ "error": "invalid_token", "error_description": "Token expired" });
            is_dead.then(|| Reply::status(status, "application/json", body))
        });
        world.works(&Browser::waiting()).await;
        assert_eq!(world.server.counts().refreshes, 1, "{status}");
        assert_eq!(world.spent(), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn server_failure_with_stored_token_causes_one_refresh() {
    let world = World::signed_in().await;
    let old = format!("Bearer {}", world.tokens()["access_token"].as_str().unwrap());
    world.first(move |request| {
        (request.path == "/mcp" && request.header("authorization") == Some(&old))
            .then(|| Reply::status(500, "application/json", json!({ "error": "server_error" })))
    });
    world.works(&Browser::waiting()).await;
    assert_eq!((world.server.counts().refreshes, world.spent()), (1, (1, 1)));
    // A server that fails with any token is not asked with one refresh after the other.
    world.first(|request| (request.path == "/mcp").then(|| Reply::status(500, "text/plain", "oh")));
    let mut host = world.host(&Browser::waiting());
    own_error(&host.initialize().await);
    host.end_input();
    host.exit().await;
    assert_eq!((world.server.counts().refreshes, world.spent()), (2, (1, 1)));
}

#[tokio::test]
async fn token_bound_session_is_replaced_after_refresh() {
    let refusals: [(&str, Answer); 3] = [
        ("401", || Reply::empty(401).with("www-authenticate", r#"Bearer error="invalid_token""#)),
        ("403", || {
            let error = json!({ "code": -32001, "message": "session does not belong to this token" });
            Reply::status(403, "application/json", json!({ "jsonrpc": "2.0", "id": null, "error": error }))
        }),
        ("403 as text", || Reply::status(403, "text/plain", "This session belongs to another user")),
    ];
    for (name, refusal) in refusals {
        let world = World::signed_in().await;
        // A session id is the token that it was made with.
        world.server.change(|settings| {
            settings.mcp = Arc::new(move |request| {
                let token = request.header("authorization").unwrap_or_default().replace(' ', "-");
                match request.header("mcp-session-id") {
                    None => Reply::result(request, initialize_result(request)).with("mcp-session-id", &token),
                    Some(session) if session == token => ordinary(request),
                    Some(_) => refusal(),
                }
            });
        });
        let browser = Browser::waiting();
        let mut host = world.host(&browser);
        host.initialize().await;
        host.send(notification("notifications/initialized", json!({}))).await;
        let listed = host.ask(1, "tools/list", json!({})).await;
        assert!(listed["result"].is_object(), "{name}: {listed}\n{}", host.stderr());
        world.server.revoke_access_tokens();
        let answer = host.ask(2, "tools/call", json!({ "name": "a" })).await;
        assert!(answer["result"].is_object(), "{name}: {answer}\n{}", host.stderr());
        assert_eq!((world.server.counts().refreshes, world.spent()), (1, (1, 1)), "{name}");
        assert_eq!(browser.tabs().len(), 0, "{name}");
        host.close().await;
    }
}

#[tokio::test]
async fn error_without_state_is_shown_and_logged() {
    let server = AuthorizationServer::with(|settings| {
        settings.first = Arc::new(|request| {
            let asked = Form::of(&request.path);
            let to = asked.get("redirect_uri").filter(|_| request.path.starts_with("/oauth/authorize"))?;
            let words = "error=access_denied&error_description=not+for+you";
            Some(Reply::empty(302).with("location", &format!("{to}?{words}")))
        });
    })
    .await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &["--retry-for", "0"]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let page = browser.page().await;
    assert!(page.body.contains("access_denied: not for you"), "{}", page.body);
    host.told("the authorization server rejected the sign-in: access_denied (\"not for you\")").await;
    host.told("so this one stays open").await;
    // It does: the same port takes the real redirect.
    server.change(|settings| settings.first = Arc::new(|_| None));
    let url = browser.tabs()[0].url.clone();
    let end = visit(&url).await;
    assert_eq!(end.status, 200, "{}", end.body);
    // Loaded once more.
    assert_eq!(get(&end.url).await.body, end.body);
    host.end_input();
    host.exit().await;
}
