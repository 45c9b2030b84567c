//! Authorization servers with wishes of their own, under their own names: what they refuse is tried
//! once more as they want it, said, and remembered. The names lead to this machine, through a proxy.

use std::{process::Stdio, sync::Arc};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::support::{
    PATIENCE,
    authorization_server::{AuthorizationServer, Client, Form, Resource, Settings, edit, scopes},
    browser::{Browser, Page, get, redirect_of},
    far::Far,
    host::{Host, WAIT, initialize_params, request},
    kept, own_error,
    server::{Reply, Request},
    soon, stored,
};

const CLIENT: [&str; 2] = ["--static-oauth-client-info", r#"{"client_id":"app"}"#];
const SCOPE: &str = "api://app/mcp.read";
const MISMATCH: &str = "AADSTS9010010: The resource parameter provided in the request doesn't match with the \
                        requested scopes. Trace ID: 1";

/// A provider under its name, and what leads there.
struct Provider {
    server: AuthorizationServer,
    far: Far,
    origin: String,
}

impl Provider {
    async fn at(name: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let origin = format!("https://{name}");
        let server = AuthorizationServer::with(|settings| {
            settings.origin = Some(origin.clone());
            change(settings);
        })
        .await;
        let far = Far::named(name, server.port()).await;
        Self { server, far, origin }
    }

    /// Starts the program in a home, and sends the handshake.
    async fn start(&self, browser: &Browser, home: &Arc<TempDir>, flags: &[&str]) -> Host {
        let leading = self.far.flags();
        let flags: Vec<&str> = flags.iter().copied().chain(leading.iter().map(String::as_str)).collect();
        let mut host = browser.host_at(home, &self.server.url(), &flags);
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        host
    }

    /// The person visits the nth tab (from 1) and says yes.
    async fn consent(&self, browser: &Browser, nth: usize) -> Page {
        self.visit(&tab(browser, nth).await).await
    }

    /// Opens an address of the provider and follows all redirects but those that lead there again.
    async fn visit(&self, url: &str) -> Page {
        let mut page = get(&self.here(url)).await;
        while let Some(location) = page.header("location").filter(|location| !location.starts_with(&self.origin)) {
            page = get(location).await;
        }
        page
    }

    /// An address of the provider, as a browser of this machine reaches it.
    fn here(&self, url: &str) -> String {
        let rest = url.strip_prefix(&self.origin).unwrap_or_else(|| panic!("{url} is not at {}", self.origin));
        format!("http://127.0.0.1:{}{rest}", self.server.port())
    }

    fn remembered(&self, home: &TempDir) -> Value {
        stored::json(home.path(), &self.server.url(), "remedies.json")
    }
}

/// The address of the nth tab (from 1).
async fn tab(browser: &Browser, nth: usize) -> String {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(tab) = browser.tabs().get(nth - 1) {
            return tab.url.clone();
        }
        assert!(tokio::time::Instant::now() < until, "tab {nth} does not open");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn signed_in(host: &mut Host) {
    let answer = host.json().await;
    assert!(answer["result"].is_object(), "{answer}\n{}", host.stderr());
}

fn home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

/// Microsoft's: no registration, no list of PKCE methods, scopes that name the resource.
fn entra(settings: &mut Settings) {
    settings.issuer_path = "/tenant/v2.0".into();
    settings.metadata_path = Some("/.well-known/oauth-authorization-server/tenant/v2.0".into());
    settings.clients = vec![Client::public("app")];
    settings.edit_prm = edit(|document, _| document["scopes_supported"] = json!([SCOPE]));
    settings.edit_metadata = edit(|document, _| {
        let document = document.as_object_mut().unwrap();
        document.remove("registration_endpoint");
        document.remove("code_challenge_methods_supported");
        document.insert("scopes_supported".into(), json!(["openid", "offline_access"]));
    });
}

const ENTRA: &str = "login.microsoftonline.com";

/// The answer of an authorize page that refuses.
fn refuse(form: &Form, [error, description]: [&str; 2]) -> Reply {
    let mut back = reqwest::Url::parse(form.get("redirect_uri").unwrap()).unwrap();
    let answer = [("error", error), ("error_description", description), ("state", form.get("state").unwrap())];
    back.query_pairs_mut().extend_pairs(answer);
    Reply::empty(302).with("location", back.as_str())
}

/// Refuses what names a resource at an endpoint.
fn no_resource_at(endpoint: &'static str) -> impl Fn(&mut Settings) {
    move |settings| {
        settings.first = Arc::new(move |request: &Request| {
            let path = format!("/oauth/{endpoint}");
            let here = request.path.split('?').next() == Some(&path);
            let named = request.path.contains("&resource=") || request.body.contains("resource=");
            (here && named).then(|| match endpoint {
                "authorize" => refuse(&Form::of(&request.path), ["invalid_target", MISMATCH]),
                _ => Reply::status(
                    400,
                    "application/json",
                    json!({"error": "invalid_target", "error_description": MISMATCH}),
                ),
            })
        });
    }
}

#[tokio::test]
async fn entra_refusing_resource_at_exchange_reuses_tab() {
    let provider = Provider::at(ENTRA, |settings| {
        entra(settings);
        no_resource_at("token")(settings);
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    let page = provider.consent(&browser, 1).await;
    provider.server.change(|settings| settings.resource = Some(Resource::Absent));
    provider.visit(page.header("location").unwrap()).await;
    signed_in(&mut host).await;
    assert!(host.stderr().contains("Entra is known to need"), "{}", host.stderr());
    host.close().await;
    assert_eq!(provider.server.forms("token").len(), 2);
    let tabs = provider.server.tabs();
    assert!(tabs[0].get("resource").is_some() && tabs[1].get("resource").is_none());
    assert_eq!(tabs[1].get("scope").map(scopes), Some(scopes(&format!("{SCOPE} offline_access"))));
    let issuer = format!("https://{ENTRA}/tenant/v2.0");
    let remembered = json!({"issuer": issuer, "remedies": ["omit_resource"], "scopes": [SCOPE, "offline_access"]});
    assert_eq!(provider.remembered(&home), remembered);

    // The next start refreshes as it signed in: the server asserts that no resource is named.
    stored::expire(home.path(), &provider.server.url());
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    signed_in(&mut host).await;
    host.close().await;
    assert_eq!(provider.server.counts().refreshes, 1);

    // And the next sign-in succeeds at once.
    provider.server.revoke_access_tokens();
    provider.server.revoke_refresh_tokens();
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    provider.consent(&browser, 2).await;
    signed_in(&mut host).await;
    assert!(!host.stderr().contains("AADSTS"), "{}", host.stderr());
    host.close().await;
    assert_eq!((browser.tabs().len(), provider.server.forms("token").len()), (2, 5), "a refresh was tried first");
}

#[tokio::test]
async fn entra_refusing_resource_at_page_costs_no_tab() {
    let provider = Provider::at(ENTRA, |settings| {
        entra(settings);
        no_resource_at("authorize")(settings);
        settings.resource = Some(Resource::Absent);
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    provider.consent(&browser, 1).await;
    signed_in(&mut host).await;
    let stderr = host.stderr();
    for word in ["AADSTS9010010", "Entra is known to need", "without the resource", "--disable-resource-parameter"] {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
    host.close().await;
    assert_eq!((browser.tabs().len(), provider.server.counts().tabs), (1, 1));
}

#[tokio::test]
async fn entra_consent_of_administrators_is_not_repeated() {
    let provider = Provider::at(ENTRA, entra).await;
    let browser = Browser::waiting();
    let _host = provider.start(&browser, &home(), &CLIENT).await;
    let asked = Form::of(&tab(&browser, 1).await);
    assert_eq!((asked.get("prompt"), asked.get("code_challenge_method")), (None, Some("S256")));
    assert!(asked.get("scope").unwrap().contains("offline_access") && asked.get("resource").is_some());
}

#[tokio::test]
async fn refresh_names_scopes_only_at_entra() {
    let asked = format!("{SCOPE} offline_access");
    // What is granted silently is not listed, and what is listed may be all, or nothing.
    for (name, listed, named) in [
        (ENTRA, Some(SCOPE), Some(asked.as_str())),
        (ENTRA, None, Some(&asked)),
        ("login.company.example", Some(SCOPE), None),
    ] {
        let provider = Provider::at(name, |settings| {
            entra(settings);
            settings.edit_metadata =
                edit(|document, _| document["scopes_supported"] = json!(["openid", "offline_access"]));
            settings.edit_token = edit(move |answer, _| match listed {
                Some(scope) => answer["scope"] = json!(scope),
                None => _ = answer.as_object_mut().unwrap().remove("scope"),
            });
        })
        .await;
        let (browser, home) = (Browser::waiting(), home());
        let mut host = provider.start(&browser, &home, &CLIENT).await;
        provider.consent(&browser, 1).await;
        signed_in(&mut host).await;
        host.close().await;
        for _ in 0..2 {
            stored::expire(home.path(), &provider.server.url());
            let mut host = provider.start(&browser, &home, &CLIENT).await;
            signed_in(&mut host).await;
            host.close().await;
        }
        let forms = provider.server.forms("token");
        let sent: Vec<_> = forms.iter().map(|form| form.get("scope")).collect();
        assert_eq!(sent, [None, named, named], "{name}, {listed:?}");
        assert_eq!(browser.tabs().len(), 1);
    }
}

#[tokio::test]
async fn user_resource_is_always_sent() {
    let provider = Provider::at(ENTRA, |settings| {
        entra(settings);
        no_resource_at("token")(settings);
        settings.resource = Some(Resource::Is("api://app".into()));
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let port = stored::port(&provider.server.url()).to_string();
    let flags = [&CLIENT[..], &["--resource", "api://app", &port]].concat();
    let mut host = provider.start(&browser, &home, &flags).await;
    provider.consent(&browser, 1).await;
    assert!(own_error(&host.json().await).contains("AADSTS9010010"), "{}", host.stderr());
    host.close().await;
    assert_eq!((browser.tabs().len(), provider.server.forms("token").len()), (1, 1));
    assert_eq!(provider.server.counts().looks, 1, "of a client that was given, and no more");
}

#[tokio::test]
async fn resource_stays_with_foreign_scopes() {
    let provider = Provider::at(ENTRA, |settings| {
        entra(settings);
        no_resource_at("token")(settings);
        settings.edit_prm =
            edit(|document, _| document["scopes_supported"] = json!(["https://graph.microsoft.com/Mail.Read"]));
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    provider.consent(&browser, 1).await;
    assert!(own_error(&host.json().await).contains("AADSTS9010010"));
    host.close().await;
    assert_eq!((browser.tabs().len(), provider.server.forms("token").len()), (1, 1));
}

#[tokio::test]
async fn similar_provider_name_gets_no_workaround() {
    let provider = Provider::at("login.microsoftonline.com.evil.example", |settings| {
        entra(settings);
        settings.edit_metadata = edit(|document, _| document["scopes_supported"] = json!(["openid", "offline_access"]));
        no_resource_at("token")(settings);
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    assert_eq!(Form::of(&tab(&browser, 1).await).get("prompt"), Some("consent"));
    provider.consent(&browser, 1).await;
    assert!(own_error(&host.json().await).contains("AADSTS9010010"));
    host.close().await;
    assert_eq!((browser.tabs().len(), provider.server.forms("token").len()), (1, 1));
    assert_eq!(provider.remembered(&home), Value::Null);
}

#[tokio::test]
async fn refused_workaround_is_forgotten() {
    let provider = Provider::at(ENTRA, |settings| {
        entra(settings);
        no_resource_at("authorize")(settings);
        settings.resource = Some(Resource::Absent);
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &[CLIENT, WAIT].concat()).await;
    provider.consent(&browser, 1).await;
    signed_in(&mut host).await;
    host.close().await;
    assert!(provider.remembered(&home).is_object());
    provider.server.revoke_access_tokens();
    provider.server.revoke_refresh_tokens();
    provider.server.change(|settings| {
        settings.first = Arc::new(|_| None);
        settings.denies = Some(("invalid_request".into(), "a resource is required".into()));
    });
    let mut host = provider.start(&browser, &home, &[CLIENT, WAIT].concat()).await;
    provider.consent(&browser, 2).await;
    assert!(own_error(&host.json().await).contains("a resource is required"));
    host.close().await;
    assert_eq!(provider.remembered(&home), Value::Null);
    // The plain attempt again.
    provider.server.change(|settings| {
        settings.denies = None;
        settings.resource = None;
    });
    let mut host = provider.start(&browser, &home, &[CLIENT, WAIT].concat()).await;
    let url = host.told_address(&provider.origin, 1).await; // a tab would open later
    provider.visit(&url).await;
    signed_in(&mut host).await;
    host.close().await;
    assert!(provider.server.tabs()[2].get("resource").is_some());
}

fn google(settings: &mut Settings) {
    settings.clients = vec![Client::public("app")];
    settings.edit_prm = edit(|document, _| document["scopes_supported"] = json!(["mail", "offline_access"]));
    settings.edit_metadata = edit(|document, _| _ = document.as_object_mut().unwrap().remove("registration_endpoint"));
}

const GOOGLE: &str = "accounts.google.com";

#[tokio::test]
async fn google_gets_access_type_and_consent_prompt() {
    let provider = Provider::at(GOOGLE, |settings| {
        google(settings);
        settings.refresh_tokens = false;
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    provider.consent(&browser, 1).await;
    signed_in(&mut host).await;
    host.told("no refresh token; the next sign-in is with prompt=consent").await;
    host.close().await;
    provider.server.revoke_access_tokens();
    provider.server.change(|settings| settings.refresh_tokens = true);
    let mut host = provider.start(&browser, &home, &CLIENT).await;
    provider.consent(&browser, 2).await;
    signed_in(&mut host).await;
    host.close().await;
    let tabs = provider.server.tabs();
    for (tab, prompt) in tabs.iter().zip([None, Some("consent")]) {
        assert_eq!((tab.get("access_type"), tab.get("prompt")), (Some("offline"), prompt));
        assert_eq!(tab.get("scope"), Some("mail"));
    }
    assert_eq!(tabs.len(), 2);
    assert_eq!(provider.server.counts().looks, 2, "one for each sign-in of a client that was given");
}

#[tokio::test]
async fn user_parameters_reach_google_unchanged() {
    let provider = Provider::at(GOOGLE, google).await;
    let browser = Browser::waiting();
    let port = stored::port(&provider.server.url()).to_string();
    let own = ["--authorize-param", "access_type=online", "--authorize-param", "prompt=select_account"];
    let scope = ["--static-oauth-client-metadata", r#"{"scope":"mail offline_access"}"#, &port];
    let flags = [&CLIENT[..], &own, &scope].concat();
    let _host = provider.start(&browser, &home(), &flags).await;
    let asked = Form::of(&tab(&browser, 1).await);
    assert_eq!((asked.get("access_type"), asked.get("prompt")), (Some("online"), Some("select_account")));
    assert_eq!(asked.get("scope"), Some("mail offline_access"));
}

#[tokio::test]
async fn auth0_opaque_token_asks_again_with_audience() {
    let provider = Provider::at("tenant.eu.auth0.com", |settings| {
        settings.edit_token = edit(|token, _| token["access_token"] = json!("opaque"));
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &[]).await;
    provider.consent(&browser, 1).await;
    let second = tab(&browser, 2).await;
    provider.server.change(|settings| settings.edit_token = edit(|_, _| {}));
    provider.visit(&second).await;
    signed_in(&mut host).await;
    host.close().await;
    let tabs = provider.server.tabs();
    assert_eq!((tabs[0].get("audience"), tabs[1].get("audience")), (None, Some(provider.server.url().as_str())));
    assert_eq!(tabs[1].get("resource"), Some(provider.server.url().as_str()), "it stays");
    assert_eq!(provider.remembered(&home)["remedies"], json!(["name_audience"]));
    assert_eq!(provider.server.counts().registrations, 1);
}

#[tokio::test]
async fn unwritable_store_asks_only_once_more() {
    let provider = Provider::at("tenant.eu.auth0.com", |settings| {
        settings.edit_token = edit(|token, _| token["access_token"] = json!("opaque"));
    })
    .await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = provider.start(&browser, &home, &[WAIT[0], WAIT[1], "--config-dir", "/dev/null/nowhere"]).await;
    provider.consent(&browser, 1).await;
    provider.consent(&browser, 2).await;
    let answer = host.json().await;
    assert_eq!(answer["error"]["data"]["code"], "token_refused", "{answer}");
    assert_eq!((browser.tabs().len(), provider.server.tabs().len()), (2, 2));
    host.close().await;
}

/// A provider that refuses at its page, and how it wants to be asked.
struct Refusing {
    name: &'static str,
    path: &'static str,
    /// What the server publishes.
    scopes: &'static [&'static str],
    refused: fn(&Form) -> bool,
    words: [&'static str; 2],
    /// What the person's tab asks for: scopes, and audience or not.
    asked: (&'static str, bool),
}

#[tokio::test]
async fn page_refusal_is_worked_around_before_tab() {
    fn offline(form: &Form) -> bool {
        form.get("scope").is_some_and(|scope| scope.contains("offline_access"))
    }
    for case in [
        Refusing {
            name: "id.company.example",
            path: "/realms/staff",
            scopes: &["tools", "offline_access"],
            refused: offline,
            words: ["invalid_scope", "Invalid scopes: tools offline_access"],
            asked: ("tools", false),
        },
        Refusing {
            name: "project.supabase.co",
            path: "/auth/v1",
            scopes: &["tools", "offline_access"],
            refused: offline,
            words: ["invalid_request", "unsupported scope: offline_access"],
            asked: ("tools", false),
        },
        Refusing {
            name: "company.okta.com",
            path: "/oauth2/default",
            scopes: &[],
            refused: |form| form.get("scope").is_none(),
            words: ["invalid_scope", "No scopes were requested"],
            asked: ("openid", false),
        },
        Refusing {
            name: "tenant.auth0.com",
            path: "",
            scopes: &["tools"],
            refused: |form| form.get("audience").is_none(),
            words: ["invalid_request", "The userinfo audience is not allowed for third party clients."],
            asked: ("tools", true),
        },
    ] {
        let Refusing { name, path, scopes, refused, words, asked } = case;
        let provider = Provider::at(name, |settings| {
            settings.issuer_path = path.into();
            settings.metadata_path = Some(format!("/.well-known/oauth-authorization-server{path}"));
            settings.edit_metadata = edit(|document, _| document["scopes_supported"] = json!(["openid"]));
            settings.edit_prm = edit(move |document, _| document["scopes_supported"] = json!(scopes));
            settings.first = Arc::new(move |request: &Request| {
                let form = Form::of(&request.path);
                (request.path.starts_with("/oauth/authorize") && refused(&form)).then(|| refuse(&form, words))
            });
        })
        .await;
        let (browser, home) = (Browser::waiting(), home());
        let mut host = provider.start(&browser, &home, &[]).await;
        provider.consent(&browser, 1).await;
        signed_in(&mut host).await;
        assert!(host.stderr().contains("is known to need"), "{name}: {}", host.stderr());
        host.close().await;
        let tabs = provider.server.tabs();
        assert_eq!((tabs.len(), provider.server.counts().registrations), (1, 1), "{name}");
        assert_eq!((tabs[0].get("scope"), tabs[0].get("audience").is_some()), (Some(asked.0), asked.1), "{name}");
        assert!(tabs[0].get("resource").is_some(), "{name}");
        assert!(provider.remembered(&home).is_object(), "{name}");
    }
}

#[tokio::test]
async fn cognito_gets_no_unsupported_scope() {
    let provider = Provider::at("cognito-idp.eu-central-1.amazonaws.com", google).await;
    let browser = Browser::waiting();
    let _host = provider.start(&browser, &home(), &CLIENT).await;
    assert_eq!(Form::of(&tab(&browser, 1).await).get("scope"), Some("mail"));
}

/// A Keycloak where nobody has the role for `offline_access`, which shows when the code is redeemed.
async fn keycloak_without_role() -> AuthorizationServer {
    AuthorizationServer::with(|settings| {
        settings.issuer_path = "/realms/staff".into();
        settings.metadata_path = Some("/.well-known/oauth-authorization-server/realms/staff".into());
        settings.edit_prm = edit(|document, _| document["scopes_supported"] = json!(["tools", "offline_access"]));
        settings.edit_token = edit(|token, _| {
            if token["scope"].as_str().is_some_and(|scope| scope.contains("offline_access")) {
                *token = json!({
                    "error": "not_allowed",
                    "error_description": "Offline tokens not allowed for the user or client",
                });
            }
        });
    })
    .await
}

#[tokio::test]
async fn keycloak_without_offline_access_reuses_tab() {
    let server = keycloak_without_role().await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &[]);
    assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
    host.close().await;
    let asked: Vec<_> = server.tabs().iter().map(|tab| tab.get("scope").unwrap().to_owned()).collect();
    assert_eq!(asked, ["tools offline_access", "tools"]);
    assert_eq!((browser.tabs().len(), server.counts().registrations), (1, 1));
}

/// Runs `mcp-remote finish` with this line: whether it succeeds, and what it says.
async fn paste(home: &TempDir, line: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote-client"));
    command.arg("finish").env_clear().envs(kept()).env("HOME", home.path()).env("MCP_REMOTE_CONFIG_DIR", home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let output = soon("the command ends", child.wait_with_output()).await.unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn pasted_redirect_of_continued_sign_in_is_explained() {
    let server = keycloak_without_role().await;
    let (browser, home) = (Browser::waiting(), home());
    let mut host = browser.host_at(&home, &server.url(), &[]);
    host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
    let first = redirect_of(&tab(&browser, 1).await).await;
    let (done, said) = paste(&home, &first).await;
    assert!(!done && said.contains("second sign-in"), "{said}");
    let at = said.find(&server.endpoint("authorize")).unwrap_or_else(|| panic!("no address: {said}"));
    let second = redirect_of(said[at..].split(", and").next().unwrap()).await;
    let (done, said) = paste(&home, &second).await;
    assert!(done, "{said}");
    signed_in(&mut host).await;
    host.close().await;
}
