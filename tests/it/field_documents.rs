//! Authorization servers as public reports describe them: endpoints that redirect, registrations that are busy, clients
//! that authenticate otherwise, parameters that are not known.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authorization_server::{Addresses, AuthorizationServer, Client, Form, Iss, Place, Settings, edit},
    browser::{Browser, USER_AGENT},
    host::{Host, WAIT, initialize_params, request},
    own_error,
    server::{Reply, Request},
    stored,
};

const NO_RETRY: [&str; 2] = ["--retry-for", "0"];

/// A home and the server.
struct World {
    server: AuthorizationServer,
    home: Arc<TempDir>,
    browser: Browser,
}

impl World {
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self {
            server: AuthorizationServer::with(change).await,
            home: Arc::new(tempfile::tempdir().unwrap()),
            browser: Browser::consenting(),
        }
    }

    /// Starts a host with a user who signs in. It must reach the server.
    async fn works(&self, flags: &[&str]) {
        let mut host = self.host(flags);
        let answer = host.initialize().await;
        assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
        host.close().await;
    }

    fn host(&self, flags: &[&str]) -> Host {
        self.browser.host_at(&self.home, &self.server.url(), &[&NO_RETRY[..], &WAIT, flags].concat())
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(stored::file(self.home.path(), &self.server.url(), name)).unwrap();
    }

    /// Answers some requests first, and counts them.
    fn first(&self, answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        self.server.change(|settings| {
            settings.first = Arc::new(move |request| answer(request).inspect(|_| _ = counter.fetch_add(1, Relaxed)));
        });
        count
    }
}

fn without_methods(document: &mut Value, _: &Addresses) {
    _ = document.as_object_mut().unwrap().remove("token_endpoint_auth_methods_supported");
}

fn refusal(status: u16, error: &str, words: &str) -> Reply {
    Reply::status(status, "application/json", json!({ "error": error, "error_description": words }))
}

#[tokio::test]
async fn posts_follow_redirects_on_their_origin() {
    let world = World::with(|_| {}).await;
    let redirects = world.first(|request| {
        let to = match &*request.path {
            "/oauth/register" => "/oauth/register?again",
            "/oauth/token" => "/oauth/token?again",
            _ => return None,
        };
        Some(Reply::empty(307).with("location", to))
    });
    world.works(&[]).await;
    assert_eq!(redirects.load(Relaxed), 2);
}

#[tokio::test]
async fn redirect_elsewhere_is_named_with_both_urls() {
    let world = World::with(|_| {}).await;
    world.first(|request| {
        let to = "https://other.example/register";
        (request.path == "/oauth/register").then(|| Reply::empty(308).with("location", to))
    });
    let mut host = world.host(&[]);
    let error = own_error(&host.initialize().await);
    let from = world.server.endpoint("register");
    let told = format!("{from} redirects the client registration to https://other.example/register");
    assert!(error.contains(&told) && error.contains("explain bad_metadata]"), "{error}");
    host.close().await;
}

#[tokio::test]
async fn registration_is_repeated_with_the_least_members() {
    let world = World::with(|_| {}).await;
    let registered = world.first(|request| {
        if request.path != "/oauth/register" {
            return None;
        }
        let body = request.json();
        if !body["software_id"].is_null() {
            return Some(refusal(400, "invalid_client_metadata", "unknown field software_id"));
        }
        let mut names: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["client_name", "redirect_uris", "token_endpoint_auth_method"]);
        Some(Reply::status(201, "application/json", json!({ "client_id": "c" })))
    });
    let mut host = world.host(&[]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    host.told("registered with").await;
    assert_eq!(registered.load(Relaxed), 2);
    host.end_input();
    host.exit().await;
}

#[tokio::test]
async fn busy_registration_is_tried_again() {
    let world = World::with(|_| {}).await;
    let count = AtomicUsize::new(0);
    let busy = world.first(move |request| {
        let is_first = request.path == "/oauth/register" && count.fetch_add(1, Relaxed) == 0;
        is_first.then(|| Reply::status(503, "text/plain", "come back"))
    });
    world.works(&[]).await;
    assert_eq!((busy.load(Relaxed), world.server.counts().registrations), (1, 1));
}

#[tokio::test]
async fn busy_registration_is_left_alone_over_starts() {
    let world = World::with(|_| {}).await;
    let busy = world.first(|request| {
        let busy = || refusal(429, "too_many", "come back").with("retry-after", "1800");
        (request.path == "/oauth/register").then(busy)
    });
    for _ in 0..2 {
        let mut host = world.host(&[]);
        let error = own_error(&host.initialize().await);
        assert!(error.contains("for the next 30 min") && error.contains("explain registration_busy]"), "{error}");
        host.close().await;
    }
    assert_eq!(busy.load(Relaxed), 1);
    // What the user asks for themselves is tried.
    world.first(|_| None);
    let arguments = ["login", &world.server.url(), "--retry-for", "0"];
    let mut login = world.browser.host_with(&world.home, &arguments, &[]);
    let said = login.rest().await.join("\n");
    assert!(said.contains("Signed in to"), "{said}\n{}", login.stderr());
}

#[tokio::test]
async fn client_authenticates_as_the_server_takes_it() {
    let world = World::with(|settings| {
        settings.client_method = "client_secret_post".into();
        settings.edit_metadata = edit(without_methods);
        settings.edit_registration = edit(|document, _| {
            _ = document.as_object_mut().unwrap().remove("token_endpoint_auth_method");
        });
    })
    .await;
    let refused = world.first(|request| {
        let is_basic = request.path == "/oauth/token" && request.header("authorization").is_some();
        is_basic.then(|| refusal(400, "invalid_request", "missing client_id"))
    });
    world.works(&[]).await;
    // Encoded and as it stands, then in the form with the same code.
    assert_eq!((refused.load(Relaxed), world.server.counts().exchanges), (2, 1));
    stored::expire(world.home.path(), &world.server.url());
    world.server.revoke_access_tokens();
    world.works(&[]).await;
    assert_eq!((refused.load(Relaxed), world.server.counts().refreshes), (2, 1), "it is remembered");
}

#[tokio::test]
async fn basic_credentials_are_sent_unencoded_after_refusal() {
    const SECRET: &str = "aB+c/d==";
    let world = World::with(|settings| {
        settings.clients = vec![Client::confidential("c", SECRET, "any")];
        settings.edit_metadata = edit(without_methods);
    })
    .await;
    let token = world.server.access_token("");
    let seen = world.first(move |request| {
        let pair = request.header("authorization").filter(|_| request.path == "/oauth/token")?;
        let pair = String::from_utf8(STANDARD.decode(pair.strip_prefix("Basic ")?).unwrap()).unwrap();
        Some(if pair == format!("c:{SECRET}") {
            let answer =
                json!({ "access_token": token, "token_type": "Bearer", "refresh_token": "r", "expires_in": 3600 });
            Reply::status(200, "application/json", answer)
        } else {
            refusal(401, "invalid_client", "unknown client")
        })
    });
    let info = json!({ "client_id": "c", "client_secret": SECRET }).to_string();
    let flags = ["--static-oauth-client-info", &info];
    world.works(&flags).await;
    assert_eq!(seen.load(Relaxed), 2, "encoded, as RFC 6749 §2.3.1 has it, then as it stands");
    stored::expire(world.home.path(), &world.server.url());
    world.works(&flags).await;
    assert_eq!(seen.load(Relaxed), 3, "it is remembered");
}

#[tokio::test]
async fn refused_prompt_is_left_out_and_stays_out() {
    let world = World::with(|settings| {
        settings.edit_metadata = edit(|document, _| {
            document["scopes_supported"] = json!(["offline_access"]);
        });
        settings.iss = Iss::Missing;
        settings.iss_announced = false;
        settings.first = Arc::new(|request| {
            let asked = Form::of(&request.path);
            let is_browser = request.header("user-agent") == Some(USER_AGENT);
            asked.get("prompt").filter(|_| is_browser)?;
            let (to, state) = (asked.get("redirect_uri")?, asked.get("state")?);
            let words = "error=invalid_request&error_description=unsupported+prompt+value+requested";
            Some(Reply::empty(302).with("location", &format!("{to}?{words}&state={state}")))
        });
    })
    .await;
    let prompts = || {
        let tabs = world.server.tabs();
        tabs.iter().map(|tab| tab.get("prompt").map(ToOwned::to_owned)).collect::<Vec<_>>()
    };
    world.works(&[]).await;
    assert_eq!(prompts(), [Some("consent".to_owned()), None]);
    world.remove("tokens.json");
    world.works(&[]).await;
    assert_eq!(prompts()[2..], [None], "it is remembered");
}

#[tokio::test]
async fn empty_prompt_means_none() {
    let world = World::with(|settings| {
        settings.edit_metadata = edit(|document, _| {
            document["scopes_supported"] = json!(["offline_access"]);
        });
    })
    .await;
    world.works(&["--authorize-param", "prompt="]).await;
    assert_eq!(world.server.tabs()[0].get("prompt"), None);
}

#[tokio::test]
async fn given_endpoints_take_the_place_of_metadata() {
    let world = World::with(|settings| {
        settings.prm_path = None;
        settings.metadata_path = None;
        settings.challenges = vec!["Bearer".into()];
        settings.clients = vec![Client::public("c")];
        settings.iss = Iss::Missing;
    })
    .await;
    // A port that nobody takes, because the one that is derived depends on the flags.
    let port = stored::port(&world.server.url()).to_string();
    let flags = [
        &port,
        "--authorization-endpoint",
        &world.server.endpoint("authorize"),
        "--token-endpoint",
        &world.server.endpoint("token"),
        "--static-oauth-client-info",
        r#"{"client_id":"c"}"#,
    ];
    world.works(&flags).await;
    assert_eq!(world.server.counts().exchanges, 1);
    for place in [Place::Mcp, Place::Authorization] {
        assert_eq!(world.server.documents(place), [""; 0], "nothing is looked up");
    }
}

#[tokio::test]
async fn metadata_count_whatever_scheme_the_challenge_names() {
    for challenge in ["Negotiate", r#"Basic realm="a""#, r#"Token realm="api""#] {
        let world = World::with(|settings| settings.challenges = vec![challenge.into()]).await;
        world.works(&[]).await;
        assert_eq!(world.server.counts().exchanges, 1, "{challenge}");
    }
}

#[tokio::test]
async fn login_starts_new_sign_in_despite_valid_one() {
    let world = World::with(|_| {}).await;
    world.works(&[]).await;
    let before = stored::json(world.home.path(), &world.server.url(), "tokens.json");
    let arguments = ["login", &world.server.url(), "--retry-for", "0"];
    let mut login = world.browser.host_with(&world.home, &arguments, &[]);
    let said = login.rest().await.join("\n");
    assert!(said.contains("Signed in to"), "{said}\n{}", login.stderr());
    let counts = world.server.counts();
    assert_eq!((counts.tabs, counts.exchanges, counts.refreshes), (2, 2, 0));
    assert_ne!(stored::json(world.home.path(), &world.server.url(), "tokens.json"), before);
}

#[tokio::test]
async fn bot_filter_before_authorization_server_is_named() {
    for path in ["/.well-known/oauth-authorization-server", "/oauth/register", "/oauth/token"] {
        let world = World::with(|_| {}).await;
        world.first(move |request| {
            let page = "<title>Just a moment...</title>";
            request.path.starts_with(path).then(|| Reply::status(403, "text/html", page))
        });
        let mut host = world.host(&[]);
        let error = own_error(&host.initialize().await);
        let authority = world.server.issuer().replace("http://", "");
        let told =
            format!("a bot filter in front of {authority} blocked mcp-remote (HTTP 403, \"Just a moment...\"). Tip: ");
        assert!(error.contains(&told), "{path}: {error}");
        host.close().await;
    }
}
