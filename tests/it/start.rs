//! What a host sees at its first start, where somebody has to sign in or the server is away: it is
//! answered at once, and the server's tools come when they can, without a restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authorization_server::{AuthorizationServer, Settings},
    browser::{Browser, visit},
    host::{Handles, Host, initialize_params, notification, request},
    kept,
    server::{Reply, Request, Server, bind, initialize_result, ordinary, reserved_port},
    stored,
};

const ANSWER: [&str; 2] = ["--start", "answer"];
/// Long enough for what must not happen to happen in a broken program.
const MOMENT: Duration = Duration::from_millis(150);

/// A server whose one tool has this name, as long as nobody changes it.
fn tool(name: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| match request.rpc().as_str() {
        "initialize" => Reply::result(request, described(request, name)).with("mcp-session-id", name),
        "tools/list" => Reply::result(request, tools(name)),
        _ => ordinary(request),
    }
}

fn described(request: &Request, name: &str) -> Value {
    json!({
        "protocolVersion": request.json()["params"]["protocolVersion"],
        "capabilities": { "tools": {} },
        "serverInfo": { "name": name, "version": "1" },
    })
}

fn tools(name: &str) -> Value {
    json!({ "tools": [{ "name": name, "inputSchema": { "type": "object" } }] })
}

fn names(answer: &Value) -> Vec<String> {
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {answer}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

async fn protected(name: &'static str) -> AuthorizationServer {
    AuthorizationServer::with(|settings| settings.mcp = Arc::new(tool(name))).await
}

/// The same host again, in the same home.
fn again(url: &str, flags: &[&str], home: &Arc<TempDir>) -> Host {
    let mut arguments = vec![url];
    arguments.extend(flags);
    Host::start_raw(Handles::SocketPairs, &arguments, &[("BROWSER", "/nonexistent/browser")], home.clone())
}

/// A host that has signed in to a server with this tool, and has seen it.
async fn signed_in(tool: &'static str) -> (AuthorizationServer, Host) {
    let server = protected(tool).await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &ANSWER);
    host.initialize().await;
    while list(&mut host, 1).await != [tool] {
        assert_eq!(host.json().await["method"], TOOLS_CHANGED);
    }
    (server, host)
}

async fn list(host: &mut Host, id: u64) -> Vec<String> {
    names(&host.ask(id, "tools/list", json!({})).await)
}

const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

#[tokio::test]
async fn signed_out_start_is_answered_then_gets_tools() {
    let server = protected("real").await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &ANSWER);
    let answer = host.initialize().await;
    let tab = browser.tab().await;
    assert!(answer["result"]["instructions"].as_str().unwrap().contains(&tab.url), "{answer}");
    assert_eq!(list(&mut host, 1).await, ["mcp_remote_sign_in"]);
    // Both calls are held; one is answered by the server itself.
    host.send(request(2, "tools/call", json!({ "name": "mcp_remote_sign_in" }))).await;
    host.send(request(3, "tools/call", json!({ "name": "real" }))).await;
    assert!(host.is_quiet(MOMENT).await);

    visit(&tab.url).await;
    let mut seen = [host.json().await, host.json().await, host.json().await];
    seen.sort_by_key(|message| message["id"].as_u64());
    assert_eq!(seen[0]["method"], TOOLS_CHANGED);
    assert!(
        seen[1]["result"]["content"][0]["text"].as_str().unwrap().contains("own tools are available now"),
        "{seen:?}"
    );
    assert_eq!(seen[2]["result"], json!({ "echo": "tools/call" }));
    assert_eq!(list(&mut host, 4).await, ["real"]);
    // The handshake with the server is the host's own, and there was no other.
    let handshakes = server.asked("initialize");
    assert_eq!(handshakes.last().unwrap().json()["params"], initialize_params("2025-11-25"));
    assert_eq!(server.asked("notifications/initialized").len(), 1);
    host.close().await;
    assert_eq!((server.counts().tabs, server.counts().exchanges), (1, 1));
}

#[tokio::test]
async fn answering_server_sees_no_placeholder_traffic() {
    let server = Server::with(tool("real")).await;
    let mut host = Host::start(&server.url("/mcp"), &ANSWER);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "real");
    assert_eq!(list(&mut host, 1).await, ["real"]);
    assert!(host.is_quiet(MOMENT).await);
    let posts: Vec<_> = server.requests().iter().filter(|request| request.method == "POST").map(Request::rpc).collect();
    assert_eq!(posts, ["initialize", "notifications/initialized", "tools/list"]);
}

#[tokio::test]
async fn known_server_signed_out_shows_its_tools() {
    let (server, first) = signed_in("real").await;
    let home = first.home.clone();
    first.close().await;
    // Signed out: the tokens are no longer good, and cannot be replaced.
    server.revoke_access_tokens();
    server.revoke_refresh_tokens();

    let mut host = again(&server.url(), &ANSWER, &home);
    let answer = host.initialize().await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "real");
    assert_eq!(list(&mut host, 1).await, ["real"]);
    let url = host.told_address(&server.endpoint("authorize"), 1).await;
    host.send(request(2, "tools/call", json!({ "name": "real" }))).await;
    assert!(host.is_quiet(MOMENT).await);
    visit(&url).await;
    assert_eq!(host.json().await["result"], json!({ "echo": "tools/call" }));
    assert!(host.is_quiet(MOMENT).await, "nothing has changed, so nothing is announced");
    host.close().await;
}

#[tokio::test]
async fn description_is_not_shown_to_other_account() {
    let (server, first) = signed_in("secret").await;
    let home = first.home.clone();
    first.close().await;
    // Somebody else has signed in with npm's mcp-remote, and their token has ended.
    stored::change(home.path(), &server.url(), "tokens.json", |tokens| {
        tokens["access_token"] = json!("anothers");
        tokens["refresh_token"] = json!("anothers");
    });
    let mut host = again(&server.url(), &ANSWER, &home);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "mcp-remote");
    assert_eq!(list(&mut host, 1).await, ["mcp_remote_sign_in"]);
    host.close().await;
}

#[tokio::test]
async fn server_down_at_start_appears_without_restart() {
    let port = reserved_port().await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let mut host = Host::start(&url, &ANSWER);
    let answer = host.initialize().await;
    let words = answer["result"]["instructions"].as_str().unwrap();
    assert!(words.contains(&format!("127.0.0.1:{port}")) && words.contains("refused"), "{words}");
    assert_eq!(list(&mut host, 1).await, ["mcp_remote_status"]);
    host.send(request(2, "tools/call", json!({ "name": "real" }))).await;

    let real = tool("real");
    let _server = Server::on(bind(port).await, move |request| std::future::ready(real(&request)));
    let mut seen = [host.json().await, host.json().await];
    seen.sort_by_key(|message| message["id"].is_null());
    assert_eq!(seen[0]["result"], json!({ "echo": "tools/call" }));
    assert_eq!(seen[1]["method"], TOOLS_CHANGED);
    assert_eq!(list(&mut host, 3).await, ["real"]);
    host.close().await;
}

#[tokio::test]
async fn known_server_down_at_start_shows_tools() {
    let port = reserved_port().await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let real = tool("real");
    let server = Server::on(bind(port).await, move |request| std::future::ready(real(&request)));
    let mut host = Host::start(&url, &ANSWER);
    host.initialize().await;
    list(&mut host, 1).await;
    let home = host.home.clone();
    host.close().await;
    drop(server);

    let mut host = again(&url, &ANSWER, &home);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "real");
    assert_eq!(list(&mut host, 1).await, ["real"]);
    // Meanwhile it has got another tool.
    let other = tool("other");
    let _server = Server::on(bind(port).await, move |request| std::future::ready(other(&request)));
    host.send(request(2, "tools/call", json!({ "name": "real" }))).await;
    let mut seen = [host.json().await, host.json().await];
    seen.sort_by_key(|message| message["id"].is_null());
    assert_eq!(seen[0]["id"], 2);
    assert_eq!(seen[1]["method"], TOOLS_CHANGED);
    assert_eq!(list(&mut host, 3).await, ["other"]);
    host.close().await;
}

#[tokio::test]
async fn slow_server_is_awaited_within_limit() {
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let held = release.clone();
    let server = Server::start(move |request| {
        let held = held.clone();
        async move {
            if request.rpc() == "initialize" {
                held.acquire().await.unwrap().forget();
            }
            tool("slow")(&request)
        }
    })
    .await;
    let flags = ["--start", "answer", "--answer-within", "1"];
    let mut host = Host::start(&server.url("/mcp"), &flags);
    let answer = host.initialize().await;
    assert!(
        answer["result"]["instructions"].as_str().unwrap().contains("has not answered initialize within 1 s"),
        "{answer}"
    );
    assert_eq!(list(&mut host, 1).await, ["mcp_remote_status"]);
    release.add_permits(1);
    assert_eq!(host.json().await["method"], TOOLS_CHANGED);
    assert_eq!(list(&mut host, 2).await, ["slow"]);
    assert_eq!(server.asked("initialize").len(), 1, "it was the same request all the time");
    host.close().await;
}

#[tokio::test]
async fn redeployed_server_is_announced_only_if_changed() {
    for (changes, announced) in [(true, true), (false, false)] {
        let generation = Arc::new(AtomicUsize::new(0));
        let changed = Arc::new(AtomicBool::new(false));
        let (now, other) = (generation.clone(), changed.clone());
        let server = Server::with(move |request| {
            let session = now.load(Relaxed).to_string();
            match request.rpc().as_str() {
                "initialize" => Reply::result(request, initialize_result(request)).with("mcp-session-id", &session),
                _ if request.header("mcp-session-id") != Some(&session) => Reply::empty(404),
                "tools/list" => Reply::result(request, tools(if other.load(Relaxed) { "new" } else { "old" })),
                _ => ordinary(request),
            }
        })
        .await;
        let mut host = Host::start(&server.url("/mcp"), &ANSWER);
        host.initialize().await;
        assert_eq!(list(&mut host, 1).await, ["old"]);
        changed.store(changes, Relaxed);
        generation.fetch_add(1, Relaxed);
        assert_eq!(host.ask(2, "tools/call", json!({})).await["id"], 2);
        server.until("the list is asked for again", |server| server.asked("tools/list").len() == 2).await;
        if announced {
            assert_eq!(host.json().await["method"], TOOLS_CHANGED);
            assert_eq!(list(&mut host, 3).await, ["new"]);
        } else {
            assert!(host.is_quiet(MOMENT).await);
        }
        host.close().await;
    }
}

#[tokio::test]
async fn list_needing_sign_in_is_answered_and_announced() {
    let server = AuthorizationServer::with(|settings: &mut Settings| {
        settings.mcp = Arc::new(tool("real"));
        settings.open = |request| matches!(request.rpc().as_str(), "initialize" | "notifications/initialized");
    })
    .await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &ANSWER);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "real");
    assert_eq!(list(&mut host, 1).await, ["mcp_remote_sign_in"]);
    visit(&browser.tab().await.url).await;
    assert_eq!(host.json().await["method"], TOOLS_CHANGED);
    assert_eq!(list(&mut host, 2).await, ["real"]);
    host.close().await;
}

#[tokio::test]
async fn refused_sign_in_is_shown_in_tool() {
    let server = AuthorizationServer::with(|settings: &mut Settings| {
        settings.mcp = Arc::new(tool("real"));
        settings.denies = Some(("access_denied".to_owned(), "not today".to_owned()));
    })
    .await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &ANSWER);
    host.initialize().await;
    list(&mut host, 1).await;
    visit(&browser.tab().await.url).await;
    assert_eq!(host.json().await["method"], TOOLS_CHANGED);
    let answer = host.ask(2, "tools/list", json!({})).await;
    assert_eq!(names(&answer), ["mcp_remote_status"]);
    assert!(
        answer["result"]["tools"][0]["description"].as_str().unwrap().contains("explain sign_in_denied]"),
        "{answer}"
    );
    assert!(host.is_quiet(MOMENT).await);
    assert_eq!(server.counts().tabs, 1);
    host.close().await;
}

#[tokio::test]
async fn end_of_input_ends_signed_out_start() {
    let server = protected("real").await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &ANSWER);
    host.initialize().await;
    browser.tab().await;
    host.send(request(1, "tools/call", json!({ "name": "real" }))).await;
    host.send(notification("notifications/x", json!({}))).await;
    host.end_input();
    let rest = host.rest().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].contains("sign_in_needed"), "{rest:?}");
    let (status, took) = host.exit().await;
    assert!(status.success() && took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn server_without_sign_in_is_error() {
    let server = Server::with(|_| Reply::empty(401)).await;
    let mut host = Host::start(&server.url("/mcp"), &ANSWER);
    let answer = host.initialize().await;
    assert_eq!(answer["error"]["data"]["code"], "unauthorized");
    host.close().await;
}

#[tokio::test]
async fn description_is_private_and_forgotten_at_logout() {
    let (server, host) = signed_in("real").await;
    let home = host.home.clone();
    host.close().await;
    let file = stored::file(home.path(), &server.url(), "description.json");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    for secret in server.secrets() {
        assert!(!std::fs::read_to_string(&file).unwrap().contains(&secret));
    }
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .args(["logout", &server.url()])
        .env_clear()
        .envs(kept())
        .env("MCP_REMOTE_CONFIG_DIR", home.path())
        .output();
    assert!(command.await.unwrap().status.success());
    assert!(!file.exists());
}

#[tokio::test]
async fn list_answered_with_404_is_not_repeated() {
    let generation = Arc::new(AtomicUsize::new(0));
    let gone = Arc::new(AtomicBool::new(false));
    let (now, no_prompts) = (generation.clone(), gone.clone());
    let server = Server::with(move |request| {
        let session = now.load(Relaxed).to_string();
        match request.rpc().as_str() {
            "initialize" => Reply::result(request, initialize_result(request)).with("mcp-session-id", &session),
            _ if request.header("mcp-session-id") != Some(&session) => Reply::empty(404),
            "tools/list" => Reply::result(request, tools("a")),
            "prompts/list" if no_prompts.load(Relaxed) => Reply::empty(404),
            "prompts/list" => Reply::result(request, json!({ "prompts": [{ "name": "p" }] })),
            _ => ordinary(request),
        }
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &ANSWER);
    host.initialize().await;
    list(&mut host, 1).await;
    host.ask(2, "prompts/list", json!({})).await;
    gone.store(true, Relaxed);
    generation.fetch_add(1, Relaxed);
    assert_eq!(host.ask(3, "tools/call", json!({})).await["id"], 3);
    host.is_quiet(Duration::from_secs(1)).await;
    let handshakes = server.asked("initialize").len();
    assert!((2..=4).contains(&handshakes), "{handshakes} handshakes");
    host.close().await;
}

#[tokio::test]
async fn description_is_not_kept_for_new_account() {
    let (server, mut first) = signed_in("secret").await;
    // Another program signs somebody else in; this one still has the token it began with.
    let home = first.home.clone();
    stored::change(home.path(), &server.url(), "tokens.json", |tokens| {
        tokens["access_token"] = json!("anothers");
        tokens["refresh_token"] = json!("anothers");
    });
    first.initialize().await;
    assert_eq!(list(&mut first, 2).await, ["secret"]);
    first.close().await;

    let mut host = again(&server.url(), &ANSWER, &home);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "mcp-remote");
    assert_eq!(list(&mut host, 1).await, ["mcp_remote_sign_in"]);
    host.close().await;
}

#[tokio::test]
async fn description_after_logout_is_not_kept() {
    let (server, mut first) = signed_in("secret").await;
    first.initialize().await;
    let home = first.home.clone();
    let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .args(["logout", &server.url()])
        .env_clear()
        .envs(kept())
        .env("MCP_REMOTE_CONFIG_DIR", home.path())
        .output();
    server.change(|settings| settings.open = |_| true); // its token is good for a while yet
    assert!(command.await.unwrap().status.success());
    assert_eq!(list(&mut first, 2).await, ["secret"]);
    first.close().await;
    assert!(!stored::file(home.path(), &server.url(), "description.json").exists());
}

#[tokio::test]
async fn hurried_host_respects_retry_after() {
    let server = Server::with(|_| Reply::empty(503).with("retry-after", "60")).await;
    let mut host = Host::start(&server.url("/mcp"), &["--start", "answer", "--answer-within", "1"]);
    host.initialize().await;
    host.send(request(1, "tools/call", json!({ "name": "real" }))).await;
    assert!(host.is_quiet(Duration::from_secs(2)).await);
    assert_eq!(server.asked("initialize").len(), 1);
    host.close().await;
}

#[tokio::test]
async fn npm_sign_in_keeps_account_after_refresh() {
    let (server, host) = signed_in("real").await;
    let home = host.home.clone();
    host.close().await;
    // As npm's leaves it: tokens, and nothing of where they come from.
    std::fs::remove_file(stored::file(home.path(), &server.url(), "grant.json")).unwrap();

    let mut host = again(&server.url(), &ANSWER, &home);
    host.initialize().await;
    assert_eq!(list(&mut host, 1).await, ["real"]);
    server.revoke_access_tokens();
    host.ask(2, "tools/call", json!({ "name": "real" })).await;
    host.close().await;
    assert_eq!(server.counts().refreshes, 1);

    server.revoke_access_tokens();
    server.revoke_refresh_tokens();
    let mut host = again(&server.url(), &ANSWER, &home);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "real");
    host.close().await;
}

#[tokio::test]
async fn words_of_server_are_quoted_in_result_only() {
    let server = Server::with(|_| Reply::status(503, "text/plain", "deploying")).await;
    let mut host = Host::start(&server.url("/mcp"), &["--start", "answer", "--answer-within", "1"]);
    let answer = host.initialize().await;
    let words = answer["result"]["instructions"].as_str().unwrap();
    let own = "is not available (HTTP 503). Tip: try again later";
    assert!(words.contains(own) && !words.contains("deploying"), "{words}");
    let listed = host.ask(1, "tools/list", json!({})).await;
    let described = listed["result"]["tools"][0]["description"].as_str().unwrap();
    assert!(described.contains(own) && !described.contains("deploying"), "{described}");
    let called = host.ask(2, "tools/call", json!({ "name": "mcp_remote_status" })).await;
    let told = called["result"]["content"][0]["text"].as_str().unwrap();
    assert!(
        told.contains("may quote the server or a proxy in front of it: \"") && told.contains("deploying"),
        "{told}"
    );
    host.close().await;
}

#[tokio::test]
async fn refused_refresh_token_is_not_reported_missing() {
    let (server, host) = signed_in("real").await;
    let home = host.home.clone();
    host.close().await;
    server.revoke_access_tokens();
    server.revoke_refresh_tokens();
    for _ in 0..2 {
        let mut host = again(&server.url(), &ANSWER, &home);
        host.initialize().await;
        host.told("in to 127.0.0.1").await; // a new sign-in, or the one that is open
        host.end_input();
        host.exit().await;
        assert!(!host.stderr().contains("no_refresh_token"), "{}", host.stderr());
    }
}

#[tokio::test]
async fn retry_for_zero_tries_once_at_start() {
    let url = format!("http://127.0.0.1:{}/mcp", reserved_port().await);
    for how in ["hold", "answer"] {
        let mut host = Host::start(&url, &["--start", how, "--retry-for", "0"]);
        let answer = host.initialize().await;
        assert_eq!(answer["error"]["data"]["code"], "cannot_connect", "{how}: {answer}");
        assert!(!host.stderr().contains("retrying"), "{}", host.stderr());
    }
}
