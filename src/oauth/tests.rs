//! The walk and who waits for it, over a paused clock: the authorization server is a script, the store is real.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Requester,
    authorizer::Authorizer,
    credential::{Credential, Obtained},
    error::Error,
    executor::Executor,
    fact::Facts,
    flow::{self, Cause},
    http::client::{Answer, tests::scripted},
    progress::{AskedBy, Asking, Need, Phase, Progress},
    protocol::challenge::Challenge,
    stored::tokens::{TokenFile, Tokens},
};
use crate::{
    config::{Authorization, Grant, Start},
    secret::Secret,
    store::{Store, lock::Purpose},
    sync::LockExt,
};

const ISSUER: &str = "https://203.0.113.2";
const TOKEN_ENDPOINT: &str = "https://203.0.113.2/token";
const TEN_MINUTES: Duration = Duration::from_secs(600);
const MOMENT: Duration = Duration::from_secs(1);

/// An authorizer between a store and an authorization server.
struct World {
    authorizer: Arc<Authorizer>,
    store: Store,
    /// Answers of the token endpoint, in order; the last one stays.
    answers: Arc<Mutex<VecDeque<Value>>>,
    /// Paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
    /// What happens while the token endpoint is asked, the first time.
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
    _home: tempfile::TempDir,
}

type Meanwhile = Box<dyn FnOnce(&Store) + Send>;

fn client_credentials() -> Authorization {
    let token_endpoint = Some(Url::parse(TOKEN_ENDPOINT).unwrap());
    Authorization { grant: Grant::ClientCredentials { token_endpoint, key: None }, ..with_person() }
}

fn with_person() -> Authorization {
    let info = json!({ "client_id": "c", "client_secret": "hunter2" }).as_object().unwrap().clone();
    Authorization { client_info: Some(Secret::new(info)), timeout: Duration::from_secs(300), ..Default::default() }
}

impl World {
    fn new(settings: Authorization, answers: &[Value]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        let answers = Arc::new(Mutex::new(answers.iter().cloned().collect::<VecDeque<Value>>()));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let meanwhile: Arc<Mutex<Option<Meanwhile>>> = Arc::default();
        let (said, heard) = (answers.clone(), asked.clone());
        let (happens, there) = (meanwhile.clone(), store.clone());
        let http = scripted(move |url, _| {
            heard.guard().push(url.path().to_owned());
            let content = match url.path() {
                "/.well-known/oauth-protected-resource/mcp" => {
                    json!({ "resource": "https://203.0.113.1/mcp", "authorization_servers": [ISSUER] })
                }
                "/.well-known/oauth-authorization-server" => json!({
                    "issuer": ISSUER,
                    "authorization_endpoint": format!("{ISSUER}/authorize"),
                    "token_endpoint": TOKEN_ENDPOINT,
                    "code_challenge_methods_supported": ["S256"],
                }),
                "/token" => {
                    if let Some(happens) = happens.guard().take() {
                        happens(&there);
                    }
                    let mut said = said.guard();
                    if said.len() > 1 { said.pop_front() } else { said.front().cloned() }.unwrap_or_default()
                }
                _ => Value::Null,
            };
            let status = match &content {
                Value::Null => StatusCode::NOT_FOUND,
                content if content.get("error").is_some() => StatusCode::BAD_REQUEST,
                _ => StatusCode::OK,
            };
            Answer { status, headers: HeaderMap::new(), body: Bytes::from(content.to_string()) }
        });
        let authorizer = Arc::new(Authorizer::new(
            Arc::new(settings),
            Start::Wait,
            http,
            store.clone(),
            Facts::default(),
            Executor::Caller,
        ));
        Self { authorizer, store, answers, asked, meanwhile, _home: home }
    }

    fn token_requests(&self) -> usize {
        self.asked.guard().iter().filter(|path| *path == "/token").count()
    }

    /// Writes tokens as another instance would, `age` ago, of an hour's life.
    fn store_tokens(&self, file: TokenFile, access_token: &str, age: Duration) {
        let response = json!({
            "access_token": access_token, "token_type": "Bearer", "expires_in": 3600, "refresh_token": "refresh-token"
        });
        let tokens = Tokens::of_response(response.as_object().unwrap().clone(), Some(ISSUER), SystemTime::now() - age);
        self.store.write(&file.name(), &tokens.to_json()).unwrap();
    }

    async fn credential(&self, requester: Requester) -> Option<Arc<Credential>> {
        self.authorizer.credential(requester, self.authorizer.patience(requester)).await
    }

    async fn meet(
        &self,
        status: StatusCode,
        scope: &str,
        used: Option<&Arc<Credential>>,
        requester: Requester,
    ) -> Result<(), Error> {
        let challenge = Challenge { bearer: true, scope: Some(scope.to_owned()), ..Challenge::default() };
        let deadline = self.authorizer.patience(requester);
        self.authorizer.meet(status, challenge, used.cloned(), requester, deadline).await
    }

    async fn challenged(&self, requester: Requester) -> Result<(), Error> {
        self.meet(StatusCode::UNAUTHORIZED, "", None, requester).await
    }
}

fn token(name: &str) -> Value {
    json!({ "access_token": name, "token_type": "Bearer" })
}

fn text(credential: Option<&Arc<Credential>>) -> Option<&str> {
    credential.map(|credential| *credential.tokens().access_token().expose())
}

#[tokio::test(start_paused = true)]
async fn requests_share_one_flight() {
    let world = World::new(client_credentials(), &[token("a"), token("b")]);
    let all = tokio::join!(
        world.challenged(Requester::Initialize),
        world.challenged(Requester::Request),
        world.challenged(Requester::Stream)
    );
    assert!(matches!(all, (Ok(()), Ok(()), Ok(()))), "{all:?}");
    assert_eq!(world.token_requests(), 1);
    assert_eq!(text(world.credential(Requester::Request).await.as_ref()), Some("a"));
    // The challenge to a request that was sent without it is answered already.
    world.challenged(Requester::Request).await.unwrap();
    assert_eq!(world.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn stored_tokens_are_used_unless_they_were_refused() {
    let world = World::new(client_credentials(), &[token("new")]);
    let file = TokenFile::of(&client_credentials().grant, false);
    world.store_tokens(file, "stored", Duration::ZERO);
    let stored = world.credential(Requester::Request).await.unwrap();
    assert_eq!((text(Some(&stored)), stored.obtained()), (Some("stored"), Obtained::Stored));
    world.store_tokens(file, "newer", Duration::ZERO); // by another instance
    world.meet(StatusCode::UNAUTHORIZED, "", Some(&stored), Requester::Request).await.unwrap();
    let newer = world.credential(Requester::Request).await.unwrap();
    assert_eq!((text(Some(&newer)), world.token_requests()), (Some("newer"), 0));
    world.meet(StatusCode::UNAUTHORIZED, "", Some(&newer), Requester::Request).await.unwrap();
    assert_eq!(text(world.credential(Requester::Request).await.as_ref()), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn new_token_refused_is_not_requested_again() {
    let world = World::new(client_credentials(), &[token("a")]);
    world.challenged(Requester::Request).await.unwrap();
    let used = world.credential(Requester::Request).await.unwrap();
    let refused = world.meet(StatusCode::UNAUTHORIZED, "", Some(&used), Requester::Request).await;
    assert!(matches!(refused, Err(Error::TokenRefused(_))), "{refused:?}");
    assert_eq!(world.token_requests(), 1);
    // Later it is one that has come to its end.
    sleep(Duration::from_secs(60)).await;
    world.meet(StatusCode::UNAUTHORIZED, "", Some(&used), Requester::Request).await.unwrap();
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn request_waits_as_long_as_its_host() {
    for (requester, seconds) in [(Requester::Request, 45), (Requester::Initialize, 300)] {
        let world = World::new(with_person(), &[]);
        let _another_instance = world.store.lock(Purpose::SignIn).await;
        let (need, begun) = (world.authorizer.need(), Instant::now());
        let waited = tokio::join!(world.challenged(requester), async {
            sleep(Duration::from_secs(2)).await;
            let Need::Person(Asking { prompt: None, by, .. }) = need.borrow().clone() else { panic!("{need:?}") };
            assert_eq!(by, AskedBy::AnotherInstance);
        });
        assert!(matches!(waited.0, Err(Error::Waiting { prompt: None })), "{waited:?}");
        assert_eq!(begun.elapsed().as_secs(), seconds, "{requester:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_instances_sign_in_ends_the_wait() {
    let world = World::new(with_person(), &[]);
    let lock = world.store.lock(Purpose::SignIn).await;
    let met = tokio::join!(world.challenged(Requester::Request), async {
        sleep(Duration::from_secs(20)).await;
        world.store_tokens(TokenFile::NPM, "theirs", Duration::ZERO);
        drop(lock);
    });
    met.0.unwrap();
    assert_eq!(text(world.credential(Requester::Request).await.as_ref()), Some("theirs"));
    assert_eq!(world.token_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn stream_waits_ten_minutes_after_failed_sign_in() {
    let world = World::new(client_credentials(), &[json!({ "error": "invalid_scope" }), token("a")]);
    assert!(matches!(world.challenged(Requester::Request).await, Err(Error::Refused { .. })));
    assert!(matches!(world.challenged(Requester::Stream).await, Err(Error::Waiting { prompt: None })));
    sleep(TEN_MINUTES - MOMENT).await;
    assert!(matches!(world.challenged(Requester::Stream).await, Err(Error::Waiting { prompt: None })));
    assert!(matches!(world.challenged(Requester::End).await, Err(Error::Waiting { prompt: None })));
    assert_eq!(world.token_requests(), 1);
    sleep(MOMENT).await;
    world.challenged(Requester::Stream).await.unwrap();
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn step_ups_end_after_two_until_one_succeeds() {
    let world = World::new(client_credentials(), &[token("a"), token("b"), token("c"), token("d")]);
    world.challenged(Requester::Request).await.unwrap();
    let step_up = async |scope: &str| {
        let used = world.credential(Requester::Request).await.unwrap();
        world.meet(StatusCode::FORBIDDEN, scope, Some(&used), Requester::Request).await
    };
    step_up("one").await.unwrap();
    assert!(matches!(step_up("one").await, Err(Error::ScopeRefused { scopes, .. }) if scopes == "one"));
    step_up("two").await.unwrap();
    assert!(matches!(step_up("three").await, Err(Error::ScopeRefused { .. })));
    world.authorizer.succeeded();
    step_up("three").await.unwrap();
    let held = world.credential(Requester::Request).await.unwrap();
    assert_eq!(held.tokens().scope(), Some("one two three"), "a step-up keeps what was asked for before");
    assert_eq!(world.token_requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn ending_token_is_replaced_once_between_pauses() {
    let world = World::new(client_credentials(), &[json!({ "error": "temporarily_unavailable" }), token("new")]);
    let file = TokenFile::of(&client_credentials().grant, false);
    world.store_tokens(file, "ending", Duration::from_secs(3600 - 30));
    let ending = async || {
        let all = tokio::join!(world.credential(Requester::Request), world.credential(Requester::Stream));
        assert_eq!((text(all.0.as_ref()), text(all.1.as_ref())), (Some("ending"), Some("ending")));
        sleep(MOMENT).await; // the replacement is a task of its own
    };
    assert_eq!(text(world.credential(Requester::End).await.as_ref()), Some("ending"));
    sleep(MOMENT).await;
    assert_eq!(world.token_requests(), 0, "the end of a session spends nothing");
    ending().await;
    ending().await;
    assert_eq!(world.token_requests(), 1);
    sleep(Duration::from_secs(30)).await;
    ending().await;
    assert_eq!(world.token_requests(), 2);
    assert_eq!(text(world.credential(Requester::Request).await.as_ref()), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn expired_token_is_waited_for() {
    let world = World::new(client_credentials(), &[token("new")]);
    let file = TokenFile::of(&client_credentials().grant, false);
    world.store_tokens(file, "expired", Duration::from_secs(3600));
    let all = tokio::join!(world.credential(Requester::Request), world.credential(Requester::Stream));
    assert_eq!((text(all.0.as_ref()), text(all.1.as_ref())), (Some("new"), Some("new")));
    assert_eq!(world.token_requests(), 1);
    assert_eq!(world.answers.guard().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn refresh_is_tried_before_user_sign_in() {
    let world = World::new(with_person(), &[token("new")]);
    world.store_tokens(TokenFile::NPM, "old", Duration::ZERO);
    let old = world.credential(Requester::Request).await.unwrap();
    world.meet(StatusCode::UNAUTHORIZED, "", Some(&old), Requester::Request).await.unwrap();
    let new = world.credential(Requester::Request).await.unwrap();
    assert_eq!((text(Some(&new)), new.obtained()), (Some("new"), Obtained::Refreshed));
    let kept = Tokens::load(&world.store, TokenFile::NPM).unwrap();
    assert_eq!((*kept.access_token().expose(), *kept.refresh_token().unwrap().expose()), ("new", "refresh-token"));
    assert_eq!(world.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_refused_refresh_asks_user() {
    for (code, asks) in [("invalid_grant", true), ("server_error", false)] {
        let world = World::new(with_person(), &[json!({ "error": code })]);
        world.store_tokens(TokenFile::NPM, "old", Duration::ZERO);
        let _another_instance = world.store.lock(Purpose::SignIn).await;
        let old = world.credential(Requester::Request).await.unwrap();
        let met = world.meet(StatusCode::UNAUTHORIZED, "", Some(&old), Requester::Request).await;
        assert_eq!(matches!(met, Err(Error::Waiting { .. })), asks, "{met:?}");
        let kept = Tokens::load(&world.store, TokenFile::NPM).unwrap();
        assert_eq!(kept.refresh_token().is_none(), asks, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn late_stored_sign_in_keeps_its_issuer() {
    let late = async |age: Duration| {
        let world = World::new(with_person(), &[token("new")]);
        let response = json!({ "access_token": "stored", "token_type": "Bearer", "expires_in": 3600 });
        let issued = SystemTime::now() - age;
        let tokens = Tokens::of_response(response.as_object().unwrap().clone(), Some("https://honest.example"), issued);
        world.store.write(&TokenFile::NPM.name(), &tokens.to_json()).unwrap();
        // The request was sent before the disk had answered.
        let progress = Progress::new(watch::channel(Phase::Working).0, None);
        let cause = Cause::Challenged(Challenge::default());
        let obtained = flow::obtain(&world.authorizer.context, cause, None, true, progress).await;
        assert_eq!(world.token_requests(), 0);
        obtained
    };
    assert_eq!(text(late(Duration::ZERO).await.ok().as_ref()), Some("stored"));
    let expired = late(Duration::from_secs(3600)).await;
    let Err(Error::OtherIssuer { registered, named }) = expired else { panic!("{expired:?}") };
    assert_eq!((registered.as_str(), named.as_str()), ("https://honest.example", ISSUER));
}

#[tokio::test(start_paused = true)]
async fn refresh_restores_no_sign_in_that_ended_meanwhile() {
    for signs_in_anew in [false, true] {
        let world = World::new(with_person(), &[token("refreshed")]);
        world.store_tokens(TokenFile::NPM, "old", Duration::ZERO);
        let old = world.credential(Requester::Request).await.unwrap();
        let theirs = json!({ "access_token": "theirs", "token_type": "Bearer", "refresh_token": "theirs" });
        let theirs = Tokens::of_response(theirs.as_object().unwrap().clone(), Some(ISSUER), SystemTime::now());
        *world.meanwhile.guard() = Some(Box::new(move |store| match signs_in_anew {
            true => store.write(&TokenFile::NPM.name(), &theirs.to_json()).unwrap(),
            false => store.remove(&TokenFile::NPM.name()),
        }));
        world.meet(StatusCode::UNAUTHORIZED, "", Some(&old), Requester::Request).await.unwrap();
        let used = world.credential(Requester::Request).await;
        let stored =
            Tokens::load(&world.store, TokenFile::NPM).map(|stored| stored.access_token().expose().to_string());
        if signs_in_anew {
            assert_eq!((text(used.as_ref()), stored.as_deref()), (Some("theirs"), Some("theirs")));
        } else {
            assert_eq!((text(used.as_ref()), stored), (Some("refreshed"), None));
            let files = world.store.names("");
            assert!(!files.contains(&TokenFile::NPM.provenance_name()), "{files:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refresh_replaces_what_cannot_be_read() {
    let world = World::new(with_person(), &[token("refreshed")]);
    world.store_tokens(TokenFile::NPM, "old", Duration::ZERO);
    let old = world.credential(Requester::Request).await.unwrap();
    let damage = |store: &Store| store.write(&TokenFile::NPM.name(), b"{").unwrap();
    *world.meanwhile.guard() = Some(Box::new(damage));
    world.meet(StatusCode::UNAUTHORIZED, "", Some(&old), Requester::Request).await.unwrap();
    let stored = Tokens::load(&world.store, TokenFile::NPM).unwrap();
    assert_eq!(*stored.access_token().expose(), "refreshed");
}
