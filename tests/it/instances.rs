//! Many copies of the program for one server, as hosts start them: real processes that share a home,
//! killed at the worst moments; and npm's mcp-remote 0.15.1 beside them.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{
    authorization_server::{AuthorizationServer, Counts, Form, Settings},
    browser::{Browser, get, visit},
    host::{Host, WAIT, initialize_params, request},
    own_error,
    server::{Reply, Server},
    stored,
};

/// A home that several copies share.
struct World {
    server: AuthorizationServer,
    browser: Browser,
    home: Arc<TempDir>,
}

impl World {
    async fn with(browser: Browser, change: impl FnOnce(&mut Settings)) -> Self {
        let server = AuthorizationServer::with(change).await;
        Self { server, browser, home: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// A house where somebody has signed in.
    async fn signed_in(change: impl FnOnce(&mut Settings)) -> Self {
        let house = Self::with(Browser::consenting(), change).await;
        let mut host = house.started(&[]).await;
        house.is_initialized(&mut host).await;
        host.close().await;
        house
    }

    /// A copy that was asked to initialize and has not answered.
    async fn started(&self, flags: &[&str]) -> Host {
        let mut host = self.browser.host_at(&self.home, &self.server.url(), flags);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        host
    }

    async fn instances(&self, count: usize) -> Vec<Host> {
        let mut copies = Vec::new();
        for _ in 0..count {
            copies.push(self.started(&WAIT).await);
        }
        copies
    }

    async fn is_initialized(&self, host: &mut Host) {
        let answer = host.json().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
    }

    async fn are_initialized(&self, copies: &mut [Host]) {
        for host in copies {
            self.is_initialized(host).await;
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        stored::file(self.home.path(), &self.server.url(), name)
    }
}

/// SIGKILL, as an impatient host or the system sends it.
async fn kill(host: &mut Host) {
    host.child.start_kill().unwrap();
    host.exit().await;
}

// Starting at once.

#[tokio::test]
async fn five_cold_instances_share_one_sign_in() {
    let house = World::with(Browser::consenting(), |_| {}).await;
    let mut copies = house.instances(5).await;
    house.are_initialized(&mut copies).await;
    assert_eq!(house.browser.tabs().len(), 1);
    let Counts { tabs, registrations, exchanges, refreshes, .. } = house.server.counts();
    assert_eq!((tabs, registrations, exchanges, refreshes), (1, 1, 1, 0));
    for host in &mut copies {
        assert_eq!(host.ask(1, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    }
}

#[tokio::test]
async fn waiting_instances_are_answered_by_one_consent() {
    let house = World::with(Browser::waiting(), |_| {}).await;
    let mut copies = house.instances(3).await;
    let tab = house.browser.tab().await;
    assert!(copies[2].is_quiet(Duration::from_millis(500)).await);
    assert_eq!(visit(&tab.url).await.status, 200);
    house.are_initialized(&mut copies).await;
    assert_eq!(house.browser.tabs().len(), 1);
}

#[tokio::test]
async fn refusal_is_reported_to_waiting_instance() {
    let house = World::with(Browser::waiting(), |settings| {
        settings.denies = Some(("access_denied".into(), "not today".into()));
    })
    .await;
    let mut copies = house.instances(2).await;
    visit(&house.browser.tab().await.url).await;
    // The one that asked is told at once; the other may ask the person itself.
    let (first, second) = copies.split_at_mut(1);
    let answered: Value = tokio::select! {
        answer = first[0].json() => answer,
        answer = second[0].json() => answer,
    };
    assert!(own_error(&answered).contains("not today"), "{answered}");
}

#[tokio::test]
async fn eight_instances_refresh_expired_rotating_token_once() {
    let house = World::signed_in(|settings| settings.token_delay = Duration::from_millis(300)).await;
    stored::expire(house.home.path(), &house.server.url());
    house.server.revoke_access_tokens();
    let mut copies = house.instances(8).await;
    house.are_initialized(&mut copies).await;
    let Counts { tabs, refreshes, reuses, .. } = house.server.counts();
    assert_eq!((tabs, refreshes, reuses), (1, 1, 0));
}

#[tokio::test]
async fn eight_instances_refresh_revoked_token_once() {
    let house = World::signed_in(|settings| settings.token_delay = Duration::from_millis(300)).await;
    let mut copies = house.instances(8).await;
    house.are_initialized(&mut copies).await;
    house.server.revoke_access_tokens();
    for host in &mut copies {
        host.send(request(1, "tools/list", json!({}))).await;
    }
    house.are_initialized(&mut copies).await;
    let Counts { tabs, refreshes, reuses, .. } = house.server.counts();
    assert_eq!((tabs, refreshes, reuses), (1, 1, 0));
}

#[tokio::test]
async fn simultaneous_step_ups_ask_user_once() {
    let house = World::signed_in(|settings| settings.tool_scopes = vec![("admin".into(), "admin".into())]).await;
    let mut copies = house.instances(3).await;
    house.are_initialized(&mut copies).await;
    for host in &mut copies {
        host.send(request(1, "tools/call", json!({"name": "admin"}))).await;
    }
    house.are_initialized(&mut copies).await;
    assert_eq!(house.server.counts().tabs, 2);
}

// Dying.

#[tokio::test]
async fn tab_of_killed_instance_is_finished_by_another() {
    let house = World::with(Browser::waiting(), |_| {}).await;
    let mut leader = house.started(&[]).await;
    let tab = house.browser.tab().await;
    let mut follower = house.started(&[]).await;
    assert!(follower.is_quiet(Duration::from_millis(500)).await);
    kill(&mut leader).await;
    follower.told(&tab.url).await;
    assert_eq!(visit(&tab.url).await.status, 200);
    house.is_initialized(&mut follower).await;
    let Counts { tabs, registrations, exchanges, .. } = house.server.counts();
    assert_eq!((tabs, registrations, exchanges), (1, 1, 1));
    assert_eq!(house.browser.tabs().len(), 1);
}

#[tokio::test]
async fn tab_of_ended_instance_is_finished_by_another() {
    let house = World::with(Browser::waiting(), |_| {}).await;
    let mut leader = house.started(&[]).await;
    let tab = house.browser.tab().await;
    let mut follower = house.started(&[]).await;
    leader.end_input();
    leader.exit().await;
    follower.told(&tab.url).await;
    assert_eq!(visit(&tab.url).await.status, 200);
    house.is_initialized(&mut follower).await;
    assert_eq!(house.browser.tabs().len(), 1);
}

#[tokio::test]
async fn consent_in_first_tab_works_after_restart() {
    let house = World::with(Browser::waiting(), |_| {}).await;
    let mut first = house.started(&[]).await;
    let tab = house.browser.tab().await;
    kill(&mut first).await;
    let mut second = house.started(&[]).await;
    second.told(&tab.url).await;
    assert_eq!(visit(&tab.url).await.status, 200);
    house.is_initialized(&mut second).await;
    let Counts { tabs, registrations, exchanges, .. } = house.server.counts();
    assert_eq!((tabs, registrations, exchanges), (1, 1, 1));
    assert_eq!(house.browser.tabs().len(), 1);
}

#[tokio::test]
async fn repeated_restarts_open_one_tab() {
    let house = World::with(Browser::waiting(), |_| {}).await;
    let mut host = house.started(&[]).await;
    let tab = house.browser.tab().await;
    for _ in 0..5 {
        kill(&mut host).await;
        host = house.started(&[]).await;
        host.told(&tab.url).await;
    }
    assert_eq!(house.browser.tabs().len(), 1);
    assert_eq!(house.server.counts().registrations, 1);
}

#[tokio::test]
async fn repeated_refusals_limit_tabs() {
    let house = World::with(Browser::consenting(), |settings| {
        settings.denies = Some(("access_denied".into(), "no".into()));
    })
    .await;
    for _ in 0..6 {
        let mut host = house.started(&["--auth-timeout", "1", WAIT[0], WAIT[1]]).await;
        own_error(&host.json().await);
        kill(&mut host).await;
    }
    assert!(house.browser.tabs().len() <= 3, "{} tabs", house.browser.tabs().len());
}

#[tokio::test]
async fn kill_between_exchange_and_save_signs_in_anew() {
    let house = World::with(Browser::waiting(), |settings| {
        settings.last = Arc::new(|request, reply| if request.path == "/oauth/token" { Reply::Hang } else { reply });
    })
    .await;
    let mut host = house.started(&[]).await;
    let url = house.browser.tab().await.url;
    let first = url.clone();
    let consenting = tokio::spawn(async move { visit(&url).await });
    house.server.until("the code is spent", |server| server.counts().exchanges == 1).await;
    kill(&mut host).await;
    consenting.await.unwrap();
    house.server.change(|settings| settings.last = Arc::new(|_, reply| reply));
    // The tab that is open no longer leads anywhere: another URL is reported.
    let mut next = house.started(&[]).await;
    let again = next.told_address(&house.server.endpoint("authorize"), 1).await;
    assert_ne!(again, first);
    assert_eq!(visit(&again).await.status, 200);
    house.is_initialized(&mut next).await;
    let Counts { tabs, registrations, exchanges, .. } = house.server.counts();
    assert_eq!((tabs, registrations, exchanges), (2, 1, 2));
}

#[tokio::test]
async fn kill_between_refresh_and_save_signs_in_once() {
    let house = World::signed_in(|_| {}).await;
    stored::expire(house.home.path(), &house.server.url());
    house.server.change(|settings| {
        settings.last = Arc::new(|request, reply| if request.path == "/oauth/token" { Reply::Hang } else { reply });
    });
    let mut host = house.started(&[]).await;
    house.server.until("the refresh token is spent", |server| server.counts().refreshes == 1).await;
    kill(&mut host).await;
    house.server.change(|settings| settings.last = Arc::new(|_, reply| reply));
    let mut copies = house.instances(3).await;
    house.are_initialized(&mut copies).await;
    let Counts { tabs, registrations, .. } = house.server.counts();
    assert_eq!((tabs, registrations), (2, 1));
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "elsewhere the lease of a killed instance lasts until its age tells")]
async fn instance_killed_while_refreshing_delays_nobody() {
    let house = World::signed_in(|_| {}).await;
    stored::expire(house.home.path(), &house.server.url());
    house.server.change(|settings| {
        settings.first = Arc::new(|request| (request.path == "/oauth/token").then_some(Reply::Hang));
    });
    let mut first = house.started(&[]).await;
    house
        .server
        .until("the first asks", |server| !server.forms("token").iter().all(|form| form.get("refresh_token").is_none()))
        .await;
    let mut second = house.started(&[]).await;
    assert!(second.is_quiet(Duration::from_millis(300)).await);
    house.server.change(|settings| settings.first = Arc::new(|_| None));
    kill(&mut first).await;
    house.is_initialized(&mut second).await;
    let Counts { tabs, refreshes, reuses, .. } = house.server.counts();
    assert_eq!((tabs, refreshes, reuses), (1, 1, 0));
}

// Others on the port.

#[tokio::test]
async fn unrelated_program_on_callback_port_is_harmless() {
    for answers in [true, false] {
        let house = World::with(Browser::consenting(), |_| {}).await;
        let port = stored::port(&house.server.url());
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let unrelated = Server::on(listener, move |_| async move {
            if answers { Reply::status(200, "text/html", "<title>Something else</title>") } else { Reply::Hang }
        });
        let mut copies = house.instances(3).await;
        house.are_initialized(&mut copies).await;
        let Counts { tabs, registrations, .. } = house.server.counts();
        assert_eq!((tabs, registrations), (1, 1));
        assert!(unrelated.requests().iter().all(|request| !request.path.contains("code=")));
    }
}

#[tokio::test]
async fn npm_probe_of_callback_port_gets_server_hash() {
    let house = World::with(Browser::waiting(), |_| {}).await;
    let _host = house.started(&[]).await;
    let url = house.browser.tab().await.url;
    let redirect = Form::of(&url).get("redirect_uri").unwrap().to_owned();
    let page = get(&redirect.replace("/oauth/callback", "/.mcp-remote/id").replace("localhost", "127.0.0.1")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let told: Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(told, json!({"mcpRemote": true, "serverUrlHash": stored::hash(&house.server.url())}));
}

#[tokio::test]
async fn sign_in_of_npm_package_is_awaited() {
    let house = World::with(Browser::consenting(), |_| {}).await;
    let url = house.server.url();
    let hash = stored::hash(&url);
    let listener = TcpListener::bind(("127.0.0.1", stored::port(&url))).await.unwrap();
    let npm = Server::on(listener, move |request| {
        let id = json!({"mcpRemote": true, "serverUrlHash": hash});
        async move { if request.path == "/.mcp-remote/id" { Reply::json(id) } else { Reply::empty(404) } }
    });
    let mut host = house.started(&[]).await;
    npm.until("we ask who it is", |npm| npm.requests().iter().any(|request| request.path == "/.mcp-remote/id")).await;
    assert!(host.is_quiet(Duration::from_millis(500)).await);
    assert_eq!(house.browser.tabs().len(), 0);
    let tokens = json!({
        "access_token": house.server.access_token(""), "token_type": "Bearer", "expires_in": 3600,
        "issuer": house.server.issuer(), "expires_at": stored::now() + 3_600_000, "requested_scope": "",
    });
    stored::write(house.home.path(), &url, "tokens.json", &tokens);
    drop(npm);
    house.is_initialized(&mut host).await;
    assert_eq!(house.server.counts(), Counts::default());
}

#[tokio::test]
async fn lost_race_never_replaces_a_newer_token() {
    // While we refresh, somebody else signs in and saves; our refresh is then refused.
    let house = World::signed_in(|settings| settings.token_delay = Duration::from_millis(500)).await;
    stored::expire(house.home.path(), &house.server.url());
    house.server.revoke_refresh_tokens();
    let mut host = house.started(&[]).await;
    house.server.until("we refresh", |server| server.counts().refreshes == 1).await;
    let newer = house.server.access_token("");
    stored::change(house.home.path(), &house.server.url(), "tokens.json", |tokens| {
        tokens["access_token"] = json!(newer);
        tokens["expires_at"] = json!(stored::now() + 3_600_000);
    });
    house.is_initialized(&mut host).await;
    assert_eq!(house.server.counts().tabs, 1);
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(house.file("tokens.json")).unwrap()).unwrap();
    assert_eq!(kept["access_token"], json!(newer));
}
