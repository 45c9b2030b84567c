//! What becomes of tokens: used, refreshed, widened, kept on disk, lost (RFC 6749 §5 and §6, MCP
//! 2025-11-25 Authorization "Token Handling" and "Scope Challenge Handling"; npm's files).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authorization_server::{AuthorizationServer, Client, Counts, Place, Settings, edit, proof, scopes},
    browser::Browser,
    host::{Host, WAIT, initialize_params, request},
    kept, own_error,
    server::{Reply, Request, Server, bind, ordinary, reserved_port},
    stored,
};

type Answer = fn() -> Reply;

/// A home, the browser before it, and the server it signs in to.
struct World {
    server: AuthorizationServer,
    browser: Browser,
    home: Arc<TempDir>,
}

impl World {
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let server = AuthorizationServer::with(change).await;
        Self { server, browser: Browser::consenting(), home: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// A host that has done the handshake, with a sign-in if it takes one.
    async fn host(&self, flags: &[&str]) -> Host {
        let mut host = self.browser.host_at(&self.home, &self.server.url(), flags);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
        host
    }

    /// The same with a home where somebody has signed in before and gone.
    async fn signed_in(change: impl FnOnce(&mut Settings)) -> Self {
        let desk = Self::with(change).await;
        desk.host(&[]).await.close().await;
        assert_eq!(desk.server.counts().tabs, 1);
        desk
    }

    fn tokens(&self) -> Value {
        stored::json(self.home.path(), &self.server.url(), "tokens.json")
    }

    fn change_tokens(&self, change: impl FnOnce(&mut Value)) {
        stored::change(self.home.path(), &self.server.url(), "tokens.json", change);
    }

    fn expire(&self) {
        stored::expire(self.home.path(), &self.server.url());
    }

    /// Tabs, registrations and refreshes so far.
    fn spent(&self) -> (usize, usize, usize) {
        let Counts { tabs, registrations, refreshes, .. } = self.server.counts();
        (tabs, registrations, refreshes)
    }

    /// The credentials that the MCP server was shown, request by request.
    fn shown(&self) -> Vec<Option<String>> {
        let requests = self.server.arrived_at(Place::Mcp, "/mcp");
        requests.iter().map(|arrived| arrived.request.header("authorization").map(str::to_owned)).collect()
    }
}

fn call(tool: &str) -> Value {
    json!({"name": tool, "arguments": {}})
}

#[track_caller]
fn assert_answered(answer: &Value, host: &Host) {
    assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
}

/// Answers the token endpoint in place of the server.
fn at_token(settings: &mut Settings, reply: impl Fn() -> Reply + Send + Sync + 'static) {
    settings.first = Arc::new(move |request| (request.path == "/oauth/token").then(&reply));
}

// Using and refreshing.

#[tokio::test]
async fn stored_sign_in_serves_first_request() {
    let desk = World::signed_in(|_| {}).await;
    let before = desk.server.arrived().len();
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    for arrived in &desk.server.arrived()[before..] {
        assert_eq!(arrived.path(), "/mcp", "{arrived:?}");
        assert!(arrived.request.header("authorization").is_some(), "{arrived:?}");
    }
    assert_eq!(desk.spent(), (1, 1, 0));
}

#[tokio::test]
async fn token_is_refreshed_before_expiry() {
    let desk = World::signed_in(|_| {}).await;
    desk.expire();
    let before = desk.shown().len();
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    assert_eq!(desk.spent(), (1, 1, 1));
    let fresh = format!("Bearer {}", desk.tokens()["access_token"].as_str().unwrap());
    assert!(desk.shown()[before..].iter().all(|shown| shown.as_ref() == Some(&fresh)), "{:?}", desk.shown());
}

#[tokio::test]
async fn refused_token_is_refreshed_and_request_resent() {
    let desk = World::with(|_| {}).await;
    let mut host = desk.host(&[]).await;
    // Once the server has taken everything that belongs to the handshake.
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    desk.server.revoke_access_tokens();
    assert_answered(&host.ask(2, "tools/call", call("a")).await, &host);
    assert_eq!(desk.spent(), (1, 1, 1));
    assert_eq!(desk.server.asked("tools/call").len(), 2);
}

#[tokio::test]
async fn many_requests_refused_at_once_are_one_refresh() {
    let desk = World::with(|settings| settings.token_delay = Duration::from_millis(200)).await;
    let mut host = desk.host(&[]).await;
    desk.server.revoke_access_tokens();
    let calls: Vec<_> = (1..=10).map(|id| request(id, "tools/call", call("a"))).collect();
    for answer in host.talk(&calls, 10).await {
        assert_answered(&serde_json::from_str(&answer).unwrap(), &host);
    }
    assert_eq!(desk.spent(), (1, 1, 1));
    assert_eq!(desk.server.counts().reuses, 0);
}

#[tokio::test]
async fn rotated_refresh_token_replaces_old_one() {
    let desk = World::with(|_| {}).await;
    let mut host = desk.host(&[]).await;
    for id in 1..=4 {
        desk.server.revoke_access_tokens();
        assert_answered(&host.ask(id, "tools/list", json!({})).await, &host);
    }
    host.close().await;
    desk.expire();
    desk.host(&[]).await;
    assert_eq!(desk.spent(), (1, 1, 5));
    assert_eq!(desk.server.counts().reuses, 0);
}

#[tokio::test]
async fn unrotated_refresh_token_is_kept() {
    let desk = World::with(|settings| settings.rotation = false).await;
    let mut host = desk.host(&[]).await;
    for id in 1..=2 {
        desk.server.revoke_access_tokens();
        assert_answered(&host.ask(id, "tools/list", json!({})).await, &host);
    }
    assert_eq!(desk.spent(), (1, 1, 2));
    assert!(desk.tokens()["refresh_token"].is_string(), "{}", desk.tokens());
}

#[tokio::test]
async fn refused_refresh_leads_to_one_sign_in() {
    let desk = World::with(|_| {}).await;
    let mut host = desk.host(&[]).await;
    desk.server.revoke_access_tokens();
    desk.server.revoke_refresh_tokens();
    assert_answered(&host.ask(1, "tools/call", call("a")).await, &host);
    assert_answered(&host.ask(2, "tools/call", call("a")).await, &host);
    assert_eq!(desk.spent(), (2, 1, 1));
}

#[tokio::test]
async fn token_always_refused_is_reported_after_sign_in() {
    let desk = World::with(|settings| {
        settings.first = Arc::new(|request| {
            (request.path == "/mcp" && request.header("authorization").is_some())
                .then(|| Reply::empty(401).with("www-authenticate", r#"Bearer error="invalid_token""#))
        });
    })
    .await;
    let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &[]);
    own_error(&host.initialize().await);
    assert_eq!(desk.spent().0, 1);
    assert!(desk.shown().iter().flatten().count() <= 2, "{:?}", desk.shown());
}

#[tokio::test]
async fn error_with_status_200_is_refusal() {
    let desk = World::with(|_| {}).await;
    let mut host = desk.host(&[]).await;
    desk.server.revoke_access_tokens();
    let refused = AtomicUsize::new(0);
    desk.server.change(|settings| {
        settings.first = Arc::new(move |request| {
            let refresh = request.body.contains("grant_type=refresh_token") && refused.fetch_add(1, Relaxed) == 0;
            refresh.then(|| Reply::json(json!({"error": "invalid_grant"})))
        });
    });
    assert_answered(&host.ask(1, "tools/call", call("a")).await, &host);
    assert_eq!(desk.spent().0, 2);
}

#[tokio::test]
async fn expired_sign_in_without_refresh_token_is_renewed() {
    let desk = World::signed_in(|settings| settings.refresh_tokens = false).await;
    desk.expire();
    desk.server.revoke_access_tokens();
    desk.host(&WAIT).await;
    assert_eq!(desk.spent(), (2, 1, 0));
}

#[tokio::test]
async fn valid_token_is_used_when_refresh_fails() {
    let failures: [(&str, Answer); 4] = [
        ("down", || Reply::Close),
        ("broken", || Reply::status(500, "text/plain", "oh")),
        ("busy", || Reply::status(503, "text/plain", "later").with("retry-after", "1")),
        ("garbage", || Reply::json("<html>")),
    ];
    for (name, failure) in failures {
        let desk = World::signed_in(|settings| settings.lifetime = json!(120)).await;
        // Within the time in which a token of two minutes is refreshed.
        desk.change_tokens(|tokens| tokens["expires_at"] = json!(stored::now() + 9_000));
        let kept = desk.tokens()["refresh_token"].clone();
        desk.server.change(|settings| at_token(settings, failure));
        let mut host = desk.host(&[]).await;
        assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
        assert_eq!(desk.spent().0, 1, "{name}");
        assert_eq!(desk.tokens()["refresh_token"], kept, "{name}");
        host.close().await;
        // And when the server is well again, so is everything.
        desk.server.change(|settings| settings.first = Arc::new(|_| None));
        desk.server.revoke_access_tokens();
        desk.host(&[]).await;
        assert_eq!(desk.spent().0, 1, "{name}");
    }
}

#[tokio::test]
async fn busy_authorization_server_is_asked_again() {
    for status in [429, 503] {
        let desk = World::signed_in(|_| {}).await;
        desk.server.revoke_access_tokens();
        let (asked, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = count.clone();
        desk.server.change(|settings| {
            settings.first = Arc::new(move |request| {
                let is_busy = request.path == "/oauth/token" && asked.fetch_add(1, Relaxed) < 3;
                seen.store(asked.load(Relaxed), Relaxed);
                is_busy.then(|| Reply::status(status, "text/plain", "later"))
            });
        });
        let mut host = desk.host(&[]).await;
        assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
        assert!(count.load(Relaxed) > 3, "{status}");
        assert_eq!(desk.spent().0, 1, "nobody signs in again after {status}");
        host.close().await;
    }
}

/// Makes the token endpoint busy for its first answers, and returns how often it was asked.
fn busy_for(desk: &World, answers: usize, retry_after: &'static str) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = count.clone();
    desk.server.change(|settings| {
        settings.first = Arc::new(move |request| {
            let is_busy = request.path == "/oauth/token" && asked.fetch_add(1, Relaxed) < answers;
            is_busy.then(|| Reply::status(503, "text/plain", "later").with("retry-after", retry_after))
        });
    });
    count
}

#[tokio::test]
async fn refresh_waits_as_token_endpoint_asks() {
    let desk = World::signed_in(|_| {}).await;
    let mut host = desk.host(&[]).await;
    desk.server.revoke_access_tokens();
    let count = busy_for(&desk, 1, "1");
    let began = Instant::now();
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((count.load(Relaxed), desk.spent().0), (2, 1));
}

#[tokio::test]
async fn busy_token_endpoint_is_not_asked_too_soon() {
    let desk = World::signed_in(|_| {}).await;
    let mut host = desk.host(&[]).await;
    desk.server.revoke_access_tokens();
    let count = busy_for(&desk, usize::MAX, "120");
    for id in 1..=3 {
        let words = own_error(&host.ask(id, "tools/list", json!({})).await);
        assert!(words.contains("HTTP 503 (\"later\"), and the authorization server asks to wait 2 min"), "{words}");
    }
    assert_eq!((count.load(Relaxed), desk.spent().0), (1, 1));
}

#[tokio::test]
async fn unprocessed_code_exchange_is_repeated() {
    for status in [429, 503] {
        let desk = World::with(|settings| {
            let asked = AtomicUsize::new(0);
            settings.first = Arc::new(move |request| {
                let is_busy = request.path == "/oauth/token" && asked.fetch_add(1, Relaxed) == 0;
                is_busy.then(|| Reply::status(status, "text/plain", "later").with("retry-after", "1"))
            });
        })
        .await;
        let began = Instant::now();
        let mut host = desk.host(&[]).await;
        assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
        assert!(began.elapsed() >= Duration::from_secs(1), "{status}: {:?}", began.elapsed());
        let exchanges = desk.server.arrived_at(Place::Authorization, "/oauth/token").len();
        assert_eq!((desk.spent().0, exchanges), (1, 2), "{status}");
    }
}

#[tokio::test]
async fn code_exchange_waits_for_refusing_endpoint() {
    let port = reserved_port().await;
    let desk = World::with(|settings| {
        settings.edit_metadata = edit(move |document, _| {
            document["token_endpoint"] = json!(format!("http://127.0.0.1:{port}/token"));
        });
        settings.first = Arc::new(|request| {
            let is_ours = request.header("authorization") == Some("Bearer late");
            (request.path == "/mcp" && is_ours).then(|| ordinary(request))
        });
    })
    .await;
    let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &WAIT);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    host.told("connection refused; retrying (1)").await;
    let endpoint = Server::on(bind(port).await, |_| async {
        Reply::json(json!({"access_token": "late", "token_type": "Bearer"}))
    });
    assert_answered(&host.json().await, &host);
    assert_eq!((desk.spent().0, endpoint.requests().len()), (1, 1));
}

#[tokio::test]
async fn other_process_is_blamed_for_its_refresh() {
    let desk = World::signed_in(|_| {}).await;
    desk.server.revoke_access_tokens();
    let lease = json!({"pid": std::process::id(), "nonce": "theirs", "at": stored::now()});
    let url = desk.server.url();
    stored::write(desk.home.path(), &url, "refresh_in_progress.json", &lease);
    let mut host = desk.browser.host_at(&desk.home, &url, &["--start", "hold", "--hold", "2"]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    assert_answered(&host.json().await, &host);
    host.told("waiting for another process, which is refreshing the access token").await;
    assert!(!host.stderr().contains("has not answered initialize"), "{}", host.stderr());
    std::fs::remove_file(stored::file(desk.home.path(), &url, "refresh_in_progress.json")).unwrap();
    host.told("refreshed the access token").await;
}

#[tokio::test]
async fn code_that_may_be_used_is_not_sent_again() {
    let failures: [(Answer, &str); 3] = [
        (|| Reply::Close, "did not complete the code exchange (the connection was closed)"),
        (|| Reply::status(502, "text/plain", "gateway"), "HTTP 502 (\"gateway\")"),
        (|| Reply::status(503, "text/plain", "later").with("retry-after", "600"), "asks to wait 10 min"),
    ];
    for (failure, reason) in failures {
        let desk = World::with(|settings| at_token(settings, failure)).await;
        let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &[]);
        let words = own_error(&host.initialize().await);
        assert!(words.contains(reason), "{words}");
        assert_eq!(words.contains("may have used the code"), reason.contains("complete"), "{words}");
        let exchanges = desk.server.arrived_at(Place::Authorization, "/oauth/token").len();
        assert_eq!((desk.spent().0, exchanges), (1, 1), "{reason}");
    }
}

#[tokio::test]
async fn unreachable_authorization_server_keeps_sign_in() {
    let desk = World::signed_in(|_| {}).await;
    let kept = desk.tokens()["refresh_token"].clone();
    desk.server.revoke_access_tokens();
    desk.server.change(|settings| at_token(settings, || Reply::status(503, "text/plain", "later")));
    let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &["--retry-for", "0", WAIT[0], WAIT[1]]);
    own_error(&host.initialize().await);
    assert_eq!(desk.tokens()["refresh_token"], kept);
    desk.server.change(|settings| settings.first = Arc::new(|_| None));
    assert_answered(&host.initialize().await, &host);
    assert_eq!(desk.spent().0, 1);
}

#[tokio::test]
async fn every_form_of_lifetime_is_understood() {
    for lifetime in [Value::Null, json!("3600"), json!(3600.0), json!(1_000_000_000_000_u64), json!(31_536_000)] {
        let desk = World::with(|settings| settings.lifetime = lifetime.clone()).await;
        let mut host = desk.host(&[]).await;
        assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
        host.close().await;
        desk.host(&[]).await;
        assert_eq!(desk.spent(), (1, 1, 0), "{lifetime}");
    }
}

#[tokio::test]
async fn short_lived_token_is_used_until_expiry() {
    let desk = World::with(|settings| settings.lifetime = json!(2)).await;
    let mut host = desk.host(&[]).await;
    for id in 1..=20 {
        assert_answered(&host.ask(id, "tools/list", json!({})).await, &host);
    }
    let early = desk.spent().2;
    assert!(early <= 1, "{early} refreshes for 20 calls");
    tokio::time::sleep(Duration::from_millis(2100)).await; // the token's life, not a guess
    let before = desk.shown().len();
    assert_answered(&host.ask(21, "tools/list", json!({})).await, &host);
    assert_eq!(desk.spent().0, 1);
    assert!(desk.spent().2 > early);
    assert_eq!(desk.shown().len(), before + 1, "refreshed before the request, not after a refusal");
}

#[tokio::test]
async fn token_type_matches_any_case_unknown_refused() {
    for (kind, good) in [("bearer", true), ("BEARER", true), ("mac", false)] {
        let desk = World::with(|settings| {
            settings.edit_token = edit(move |answer, _| answer["token_type"] = json!(kind));
        })
        .await;
        let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &[]);
        let answer = host.initialize().await;
        assert_eq!(answer["result"].is_object(), good, "{kind}: {answer}");
        assert_eq!(desk.shown().iter().flatten().count() > 0, good, "{kind}");
        assert!(desk.shown().iter().flatten().all(|shown| shown.starts_with("Bearer ")), "{kind}");
        assert_eq!(desk.spent().0, 1, "{kind}");
    }
}

#[tokio::test]
async fn token_does_not_follow_redirect_elsewhere() {
    let elsewhere = Arc::new(Server::with(ordinary).await);
    let desk = World::with(|_| {}).await;
    let mut host = desk.host(&[]).await;
    let target = elsewhere.url("/mcp");
    desk.server.change(|settings| {
        settings.mcp = Arc::new(move |request| match request.rpc().as_str() {
            "tools/list" => Reply::empty(307).with("location", &target),
            _ => ordinary(request),
        });
    });
    host.ask(1, "tools/list", json!({})).await;
    assert!(elsewhere.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn id_token_is_sent_where_configured() {
    let id_token = proof::unsigned(&json!({"sub": "me", "exp": proof::now() + 600}));
    let theirs = id_token.clone();
    let desk = World::with(|settings| {
        let (answered, shown) = (theirs.clone(), format!("Bearer {theirs}"));
        settings.edit_token = edit(move |answer, _| answer["id_token"] = json!(answered));
        settings.first =
            Arc::new(move |request| (request.header("authorization") == Some(&shown)).then(|| ordinary(request)));
    })
    .await;
    desk.host(&["--use-id-token"]).await;
    assert_eq!(desk.spent().0, 1);
    assert!(desk.shown().iter().flatten().all(|shown| *shown == format!("Bearer {id_token}")), "{:?}", desk.shown());
}

// Step-up.

/// The challenge of an ordinary server asks for `read`, the tool `admin` for `admin` besides.
fn steps_up(settings: &mut Settings) {
    settings.challenges = vec![r#"Bearer resource_metadata="{prm}", scope="read""#.into()];
    settings.tool_scopes = vec![("admin".into(), "admin".into())];
}

/// Answers every call with 403 and a scope of the function's choice.
fn never_enough(settings: &mut Settings, scope: impl Fn(usize) -> String + Send + Sync + 'static) {
    let asked = AtomicUsize::new(0);
    settings.first = Arc::new(move |request: &Request| {
        (request.rpc() == "tools/call" && request.header("authorization").is_some()).then(|| {
            let scope = scope(asked.fetch_add(1, Relaxed));
            Reply::status(403, "text/plain", "Forbidden")
                .with("www-authenticate", &format!(r#"Bearer error="insufficient_scope", scope="{scope}""#))
        })
    });
}

#[tokio::test]
async fn step_up_requests_union_of_scopes() {
    let desk = World::with(steps_up).await;
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/call", call("admin")).await, &host);
    assert_eq!(desk.spent(), (2, 1, 0));
    assert_eq!(desk.server.tabs()[1].get("scope").map(scopes), Some(scopes("read admin")));
    assert_eq!(desk.server.asked("tools/call").len(), 2);
    // The wider token is the one that stays.
    host.close().await;
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(2, "tools/call", call("admin")).await, &host);
    assert_eq!(desk.spent(), (2, 1, 0));
}

#[tokio::test]
async fn endless_step_up_stops_after_three() {
    let desk = World::with(|settings| {
        steps_up(settings);
        never_enough(settings, |times| format!("more{times}"));
    })
    .await;
    let mut host = desk.host(&[]).await;
    own_error(&host.ask("mine", "tools/call", call("a")).await);
    assert_eq!(desk.spent().0, 3);
    assert_answered(&host.ask(2, "tools/list", json!({})).await, &host);
    // The next call of the same tool does not ask the person again.
    own_error(&host.ask(3, "tools/call", call("a")).await);
    assert_eq!(desk.spent().0, 3);
}

#[tokio::test]
async fn repeated_challenge_is_error_for_host() {
    let desk = World::with(|settings| {
        steps_up(settings);
        never_enough(settings, |_| "admin".into());
    })
    .await;
    let mut host = desk.host(&[]).await;
    let words = own_error(&host.ask(1, "tools/call", call("a")).await);
    assert!(words.contains("requires the scope \"admin\", which mcp-remote has already requested"), "{words}");
    assert_eq!(desk.spent().0, 2);
}

#[tokio::test]
async fn narrower_grant_is_not_asked_forever() {
    let desk = World::with(|settings| {
        steps_up(settings);
        settings.grants = Some("read".into());
    })
    .await;
    let mut host = desk.host(&[]).await;
    for id in 1..=3 {
        own_error(&host.ask(id, "tools/call", call("admin")).await);
    }
    assert_eq!(desk.spent().0, 2);
    assert_answered(&host.ask(9, "tools/list", json!({})).await, &host);
}

/// A server whose calls need `write`, which its challenge does not say.
fn requires_unnamed_scope(settings: &mut Settings, listed: Option<Value>) {
    settings.challenges = vec![r#"Bearer resource_metadata="{prm}", scope="read""#.into()];
    settings.edit_prm = edit(move |document, _| document["scopes_supported"] = listed.clone().unwrap_or_default());
    settings.tool_scopes = vec![("write".into(), "write".into())];
    settings.last = Arc::new(|_, reply| match reply {
        Reply::Full(403, _, body) => {
            Reply::Full(403, vec![("www-authenticate".into(), r#"Bearer error="insufficient_scope""#.into())], body)
        }
        reply => reply,
    });
}

#[tokio::test]
async fn step_up_without_scope_requests_listed_scopes() {
    let desk = World::with(|settings| requires_unnamed_scope(settings, Some(json!(["read", "write"])))).await;
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/call", call("write")).await, &host);
    assert_eq!(desk.spent(), (2, 1, 0));
    assert_eq!(desk.server.tabs()[1].get("scope").map(scopes), Some(scopes("read write")));
}

#[tokio::test]
async fn step_up_without_more_scopes_opens_no_browser() {
    const CONFIGURED: &[&str] = &["--static-oauth-client-metadata", r#"{"scope":"read"}"#];
    for (listed, flags, reason) in [
        (None, &[][..], "its metadata lists no scopes to request"),
        (Some(json!(["read"])), &[], "mcp-remote has already requested all scopes that its metadata lists"),
        (Some(json!(["read", "write"])), CONFIGURED, "--static-oauth-client-metadata sets the scopes to request"),
    ] {
        let desk = World::with(|settings| requires_unnamed_scope(settings, listed)).await;
        let mut host = desk.host(flags).await;
        let mut looks = Vec::new();
        for id in 1..=2 {
            let words = own_error(&host.ask(id, "tools/call", call("write")).await);
            assert!(words.contains("requires more scopes than the token has, but does not name them"), "{words}");
            assert!(words.contains(reason), "{words}");
            let metadata = "/.well-known/oauth-authorization-server";
            looks.push(desk.server.arrived_at(Place::Authorization, metadata).len());
        }
        assert!(looks[0] > 0 && looks[0] == looks[1], "the second call is answered from memory: {looks:?}");
        assert_eq!(desk.spent().0, 1, "{reason}");
        assert_answered(&host.ask(9, "tools/list", json!({})).await, &host);
    }
}

#[tokio::test]
async fn repeated_challenge_without_scope_is_reported_truly() {
    let desk = World::with(|settings| {
        requires_unnamed_scope(settings, Some(json!(["read", "write"])));
        settings.grants = Some("read".into());
    })
    .await;
    let mut host = desk.host(&[]).await;
    let words = own_error(&host.ask(1, "tools/call", call("write")).await);
    assert!(words.contains("requires more scopes again, which it does not name"), "{words}");
    assert!(!words.contains("()"), "{words}");
    assert_eq!(desk.spent().0, 2);
}

#[tokio::test]
async fn fixed_scope_client_is_registered_anew() {
    let desk = World::with(|settings| {
        steps_up(settings);
        settings.fixed_scopes = true;
    })
    .await;
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/call", call("admin")).await, &host);
    let (tabs, registrations, _) = desk.spent();
    assert_eq!(registrations, 2);
    assert!(tabs <= 3, "{tabs} tabs");
    let last = desk.server.arrived_at(Place::Authorization, "/oauth/register").pop().unwrap().request.json();
    assert_eq!(last["scope"].as_str().map(scopes), Some(scopes("read admin")));
}

#[tokio::test]
async fn forbidden_without_scope_is_error() {
    let refusals: [Answer; 4] = [
        || Reply::status(403, "text/html", "<title>Blocked by policy</title>"),
        || Reply::empty(403).with("www-authenticate", r#"Bearer error="invalid_token""#),
        || Reply::empty(403).with("www-authenticate", r#"Bearer error_description="insufficient_scope""#),
        || Reply::empty(403).with("www-authenticate", r#"Basic realm="x""#),
    ];
    for refusal in refusals {
        let desk = World::with(|settings| {
            settings.mcp =
                Arc::new(move |request| if request.rpc() == "tools/call" { refusal() } else { ordinary(request) });
        })
        .await;
        let mut host = desk.host(&[]).await;
        own_error(&host.ask(1, "tools/call", call("a")).await);
        assert_eq!(desk.spent(), (1, 1, 0));
    }
}

// What is on disk.

const KEPT_BY_NPM: &str = include_str!("../../fixtures/npm-store/tokens.json");
const REGISTERED_BY_NPM: &str = include_str!("../../fixtures/npm-store/client_info.json");

/// A home where npm's mcp-remote 0.15.1 has signed in to this server.
async fn after_npm() -> World {
    let desk = World::with(|_| {}).await;
    let url = desk.server.url();
    let derived = stored::port(&url);
    let issuer = desk.server.issuer();
    let mut tokens: Value = serde_json::from_str(KEPT_BY_NPM).unwrap();
    tokens["access_token"] = json!(desk.server.access_token("mcp:tools"));
    tokens["issuer"] = json!(issuer);
    tokens["expires_at"] = json!(stored::now() + 3_600_000);
    let mut client: Value = serde_json::from_str(REGISTERED_BY_NPM).unwrap();
    client["issuer"] = json!(issuer);
    client["redirect_uris"] = json!([format!("http://localhost:{derived}/oauth/callback")]);
    stored::write(desk.home.path(), &url, "tokens.json", &tokens);
    stored::write(desk.home.path(), &url, "client_info.json", &client);
    desk
}

#[tokio::test]
async fn npm_sign_in_works_at_once() {
    let desk = after_npm().await;
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    assert_eq!(desk.server.counts(), Counts::default());
}

#[tokio::test]
async fn npm_sign_in_is_refreshed_with_its_registration() {
    let desk = after_npm().await;
    let registered: Value = serde_json::from_str(REGISTERED_BY_NPM).unwrap();
    let id = registered["client_id"].as_str().unwrap();
    let refresh = desk.server.refresh_token("mcp:tools", Client::public(id));
    desk.change_tokens(|tokens| tokens["refresh_token"] = json!(refresh));
    desk.expire();
    desk.host(&[]).await;
    assert_eq!(desk.spent(), (0, 0, 1));
    // npm finds what it needs afterwards.
    let tokens = desk.tokens();
    assert_ne!(tokens["refresh_token"], json!(refresh));
    assert!(tokens["expires_at"].as_u64().unwrap() > stored::now(), "{tokens}");
    assert_eq!(tokens["issuer"], json!(desk.server.issuer()));
}

#[tokio::test]
async fn stored_files_match_npm_format() {
    let desk = World::signed_in(|_| {}).await;
    let tokens = desk.tokens();
    for (name, kind) in
        [("access_token", "text"), ("refresh_token", "text"), ("token_type", "text"), ("expires_at", "number")]
    {
        let right = if kind == "text" { tokens[name].is_string() } else { tokens[name].is_u64() };
        assert!(right, "{name}: {tokens}");
    }
    let in_an_hour = tokens["expires_at"].as_u64().unwrap() - stored::now();
    assert!((3_500_000..=3_600_000).contains(&in_an_hour), "milliseconds: {tokens}");
    assert_eq!(tokens["issuer"], json!(desk.server.issuer()));
    let client = stored::json(desk.home.path(), &desk.server.url(), "client_info.json");
    assert_eq!(client["issuer"], json!(desk.server.issuer()), "{client}");
    assert_eq!(client["redirect_uris"], json!([desk.server.tabs()[0].get("redirect_uri")]));
    assert_eq!(client["client_id"].as_str(), desk.server.tabs()[0].get("client_id"));
    // Two spaces, no newline at the end.
    let text = std::fs::read_to_string(stored::file(desk.home.path(), &desk.server.url(), "tokens.json")).unwrap();
    assert!(text.starts_with("{\n  \"") && text.ends_with("\n}"), "{text}");
}

const OWN_TOKENS: &str = r#"{
  "access_token": _,
  "expires_at": _,
  "expires_in": 3600,
  "issuer": "ISSUER",
  "refresh_token": _,
  "token_type": "bearer"
}"#;
const OWN_GRANT: &str = r#"{
  "server": "SERVER",
  "grant": "authorization_code",
  "client_id": _,
  "issuer": "ISSUER",
  "resource": "SERVER",
  "requested_scopes": [],
  "resource_metadata": _,
  "sign_in": _,
  "over": false,
  "token": _
}"#;
const OWN_REGISTRATIONS: &str = r#"[
  {
    "application_type": "native",
    "client_id": _,
    "client_name": "mcp-remote",
    "grant_types": [
      "authorization_code",
      "refresh_token"
    ],
    "issuer": "ISSUER",
    "redirect_uris": [
      "http://localhost:PORT/oauth/callback"
    ],
    "response_types": [
      "code"
    ],
    "software_id": "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
    "software_version": _,
    "token_endpoint_auth_method": "none"
  }
]"#;
const OWN_DESCRIPTION: &str = concat!(
    r#"{"credential":_,"account":_,"description":{"initialize":{"capabilities":{"tools":{}},"#,
    r#""protocolVersion":"2025-11-25","serverInfo":{"name":"peer","version":"1"}},"#,
    r#""negotiated":{"2025-11-25":"2025-11-25"},"#,
);

/// Replaces what differs from run to run, so that the rest of a file can be compared as text.
fn without_values(mut text: String, members: &[&str]) -> String {
    let value: Value = serde_json::from_str(&text).unwrap();
    let value = value.get(0).unwrap_or(&value);
    for name in members {
        text = text.replace(&value[name].to_string(), "_");
    }
    text
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the redirect URI has another host on Windows")]
async fn stored_files_match_other_versions() {
    let desk = World::with(|settings| settings.lifetime = json!(3600)).await;
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    host.close().await;
    let (url, issuer) = (desk.server.url(), desk.server.issuer());
    let text = |name: &str, members: &[&str]| {
        let text = std::fs::read_to_string(stored::file(desk.home.path(), &url, name)).unwrap();
        let text = without_values(text, members).replace(&url, "SERVER").replace(&issuer, "ISSUER");
        text.replace(&format!("localhost:{}", stored::port(&url)), "localhost:PORT")
    };
    assert_eq!(text("tokens.json", &["access_token", "refresh_token", "expires_at"]), OWN_TOKENS);
    assert_eq!(text("grant.json", &["sign_in", "token", "client_id", "resource_metadata"]), OWN_GRANT);
    assert_eq!(text("registrations.json", &["client_id", "software_version"]), OWN_REGISTRATIONS);
    let description = text("description.json", &["credential", "account"]);
    assert!(description.starts_with(OWN_DESCRIPTION), "{description}");
}

#[cfg(unix)]
#[tokio::test]
async fn stored_files_are_private_without_leftovers() {
    use std::{os::unix::fs::PermissionsExt as _, path::Path};
    let desk = World::signed_in(|settings| settings.client_method = "client_secret_basic".into()).await;
    let folder = stored::folder(desk.home.path());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        assert!(!path.file_name().unwrap().to_string_lossy().contains("tmp"), "{}", path.display());
        // The sign-in is over: nothing of it stays.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let spent = desk.server.secrets().into_iter().filter(|secret| secret.starts_with("code-"));
        assert!(spent.into_iter().all(|code| !text.contains(&code)), "{}", path.display());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn readable_store_is_made_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = World::with(|_| {}).await;
    let folder = stored::folder(desk.home.path());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    desk.host(&[]).await;
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn byte_order_mark_costs_no_sign_in() {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let desk = World::signed_in(|settings| {
        settings.last = Arc::new(|request, reply| match reply {
            Reply::Full(status, headers, body) if request.path.starts_with("/oauth/") && body.starts_with(b"{") => {
                Reply::Full(status, headers, [MARK, &body].concat())
            }
            reply => reply,
        });
    })
    .await;
    for name in ["tokens.json", "client_info.json"] {
        let path = stored::file(desk.home.path(), &desk.server.url(), name);
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, [MARK, &content].concat()).unwrap();
    }
    desk.server.revoke_access_tokens();
    desk.host(&[]).await.close().await;
    assert_eq!(desk.spent(), (1, 1, 1));
}

#[tokio::test]
async fn session_works_despite_damaged_file() {
    let damages: [&[u8]; 6] = [b"", b"{", b"\xff\xfe\0\0", b"[]", br#"{"access_token": 7}"#, b"null"];
    for damage in damages {
        for name in ["tokens.json", "client_info.json"] {
            let desk = World::signed_in(|_| {}).await;
            let file = stored::file(desk.home.path(), &desk.server.url(), name);
            std::fs::write(&file, damage).unwrap();
            let mut host = desk.host(&[]).await;
            assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
            host.close().await;
            assert!(desk.spent().0 <= 2, "{name} {damage:?}");
            if name == "tokens.json" {
                assert!(desk.tokens()["access_token"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn damaged_file_is_named_on_stderr() {
    let desk = World::signed_in(|_| {}).await;
    let file = stored::file(desk.home.path(), &desk.server.url(), "tokens.json");
    std::fs::write(&file, "{").unwrap();
    let host = desk.host(&[]).await;
    assert!(host.stderr().contains("tokens.json"), "{}", host.stderr());
}

#[tokio::test]
async fn unwritable_store_is_reported_and_session_continues() {
    let desk = World::with(|_| {}).await;
    // A file where the folder should be; permissions would not stop root.
    std::fs::write(stored::folder(desk.home.path()), "").unwrap();
    let mut host = desk.host(&[]).await;
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    assert!(host.stderr().contains("mcp-remote-v1"), "{}", host.stderr());
}

#[tokio::test]
async fn running_instance_does_not_undo_logout() {
    let desk = World::with(|settings| {
        settings.clients = vec![Client::public("known")];
        // Its tokens live on after the sign-out.
        settings.edit_metadata =
            edit(|document, _| _ = document.as_object_mut().unwrap().remove("revocation_endpoint"));
    })
    .await;
    let url = desk.server.url();
    let mut host = desk.host(&["--static-oauth-client-info", r#"{"client_id":"known"}"#, "--auth-timeout", "3"]).await;
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .args(["logout", &url])
        .env_clear()
        .envs(kept())
        .env("MCP_REMOTE_CONFIG_DIR", desk.home.path())
        .output();
    assert!(command.await.unwrap().status.success());
    desk.server.change(|settings| settings.denies = Some(("access_denied".into(), "no".into())));
    desk.server.revoke_access_tokens();
    let answer = host.ask(1, "tools/list", json!({})).await;
    assert_eq!(answer["error"]["data"]["code"], "sign_in_denied", "{answer}");
    assert_eq!(desk.server.counts().refreshes, 0);
    assert!(!stored::file(desk.home.path(), &url, "tokens.json").exists());
    host.close().await;
}

#[tokio::test]
async fn token_is_refreshed_only_by_its_client() {
    let desk = World::with(|settings| settings.clients = vec![Client::public("other")]).await;
    desk.host(&[]).await.close().await;
    desk.server.revoke_access_tokens();
    desk.host(&["--static-oauth-client-info", r#"{"client_id":"other"}"#]).await;
    let theirs = desk.server.forms("token").into_iter().filter(|form| form.get("refresh_token").is_some());
    assert!(theirs.into_iter().all(|form| form.get("client_id") != Some("other")));
    assert_eq!(desk.server.counts().tabs, 2);
}

#[tokio::test]
async fn two_servers_at_one_origin_share_nothing() {
    let desk = World::with(|settings| {
        settings.mcp_path = "/mcp".into();
        settings.challenges = vec!["Bearer".into()];
    })
    .await;
    desk.host(&[]).await.close().await;
    desk.server.change(|settings| {
        settings.mcp_path = "/other".into();
        settings.prm_path = Some("/.well-known/oauth-protected-resource/other".into());
    });
    desk.host(&[]).await.close().await;
    let first = desk.server.arrived_at(Place::Mcp, "/other").remove(0);
    assert_eq!(first.request.header("authorization"), None);
    assert_eq!(desk.server.counts().tabs, 2);
}

#[tokio::test]
async fn npm_refresh_lease_is_respected() {
    let desk = World::signed_in(|_| {}).await;
    desk.expire();
    // npm, alive (this test's process), is refreshing.
    let lease =
        json!({"pid": std::process::id(), "nonce": "11111111-2222-3333-4444-555555555555", "at": stored::now()});
    stored::write(desk.home.path(), &desk.server.url(), "refresh_in_progress.json", &lease);
    let mut host = desk.browser.host_at(&desk.home, &desk.server.url(), &[]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    assert!(host.is_quiet(Duration::from_millis(500)).await);
    assert_eq!(desk.server.counts().refreshes, 0);
    // And is done.
    let fresh = desk.server.access_token("");
    desk.change_tokens(|tokens| {
        tokens["access_token"] = json!(fresh);
        tokens["expires_at"] = json!(stored::now() + 3_600_000);
    });
    std::fs::remove_file(stored::file(desk.home.path(), &desk.server.url(), "refresh_in_progress.json")).unwrap();
    assert_answered(&host.json().await, &host);
    assert_eq!(desk.server.counts().refreshes, 0);
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "elsewhere the lease of a dead process lasts until its age tells")]
async fn lease_of_dead_npm_process_delays_nothing() {
    let desk = World::signed_in(|_| {}).await;
    desk.expire();
    // No process has this number: it is above the greatest that Linux gives.
    let lease = json!({"pid": 99_999_999, "nonce": "x", "at": stored::now()});
    stored::write(desk.home.path(), &desk.server.url(), "refresh_in_progress.json", &lease);
    desk.host(&[]).await;
    assert_eq!(desk.spent(), (1, 1, 1));
}

#[tokio::test]
async fn refused_get_stream_costs_no_tab() {
    let desk = World::with(|settings| {
        settings.first = Arc::new(|request| {
            let stream = request.method == "GET" && request.path == "/mcp";
            stream.then(|| Reply::status(401, "text/plain", "no").with("www-authenticate", "Bearer"))
        });
    })
    .await;
    let mut host = desk.host(&[]).await;
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_answered(&host.ask(1, "tools/list", json!({})).await, &host);
    let streams = |server: &AuthorizationServer| {
        server.arrived_at(Place::Mcp, "/mcp").iter().filter(|arrived| arrived.request.method == "GET").count()
    };
    // The second time shows that the first was given up.
    desk.server.until("the stream is tried again", |server| streams(server) > 1).await;
    assert_answered(&host.ask(2, "tools/list", json!({})).await, &host);
    assert_eq!(desk.spent(), (1, 1, 0));
}
