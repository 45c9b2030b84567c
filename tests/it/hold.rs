//! The first start with default flags: the host is held for as long as it waits, and sees the real tools first.

use std::{sync::Arc, time::Duration, time::Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    authorization_server::AuthorizationServer,
    browser::{Browser, visit},
    host::{Handles, Host, notification, request},
    server::{Reply, Request, Server, bind, ordinary, reserved_port},
};

/// What users get.
const DEFAULT: [&str; 2] = ["--start", "hold"];

async fn protected() -> AuthorizationServer {
    AuthorizationServer::with(|settings| settings.mcp = Arc::new(with_tools)).await
}

fn with_tools(request: &Request) -> Reply {
    match request.rpc().as_str() {
        "tools/list" => Reply::result(request, r#"{"tools":[{"name":"real"}]}"#),
        _ => ordinary(request),
    }
}

fn initialize_by(name: &str) -> String {
    let info = json!({ "name": name, "version": "1" });
    request(0, "initialize", json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info }))
}

async fn ready(host: &mut Host) {
    host.send(notification("notifications/initialized", json!({}))).await;
}

fn first_tool(answer: &Value) -> &str {
    answer["result"]["tools"][0]["name"].as_str().unwrap_or_else(|| panic!("no tools: {answer}"))
}

fn home() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn person_who_signs_in_within_the_hold_gets_the_real_handshake() {
    let server = protected().await;
    let browser = Browser::consenting();
    let mut host = browser.host(&server.url(), &DEFAULT);
    host.send(initialize_by("anything")).await;
    assert_eq!(host.json().await["result"]["serverInfo"]["name"], "peer", "not a placeholder");
    ready(&mut host).await;
    assert_eq!(first_tool(&host.ask(1, "tools/list", json!({})).await), "real");
    host.close().await;
    assert_eq!(server.counts().tabs, 1);
}

#[tokio::test]
async fn person_who_signs_in_while_the_first_list_is_held_gives_it_the_real_tools() {
    let server = protected().await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &DEFAULT);
    let began = Instant::now();
    host.send(initialize_by("anything")).await;
    assert_eq!(host.json().await["result"]["serverInfo"]["name"], "mcp-remote");
    assert!((3400..8000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    ready(&mut host).await;
    host.send(request(1, "tools/list", json!({}))).await;
    assert_eq!(host.ask(2, "prompts/list", json!({})).await["result"], json!({ "prompts": [] }), "at once, and empty");
    visit(&browser.tab().await.url).await;
    assert_eq!(first_tool(&host.json().await), "real");
    host.close().await;
}

#[tokio::test]
async fn server_that_comes_up_within_the_hold_answers_itself() {
    let port = reserved_port().await;
    let mut host = Host::start(&format!("http://127.0.0.1:{port}/mcp"), &DEFAULT);
    host.send(initialize_by("codex-mcp-client")).await;
    host.told("cannot connect").await;
    let _server = Server::on(bind(port).await, |request| std::future::ready(with_tools(&request)));
    assert_eq!(host.json().await["result"]["serverInfo"]["name"], "peer");
    host.close().await;
}

#[tokio::test]
async fn host_that_only_has_a_look_opens_no_tab() {
    let server = protected().await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &DEFAULT);
    host.send(initialize_by("mcp-test-client")).await;
    assert!(host.json().await["result"].is_object(), "this host is not held");
    host.end_input();
    host.exit().await;
    assert!(browser.tabs().is_empty(), "the redirect would meet a closed port");
}

#[tokio::test]
async fn call_that_needs_the_sign_in_opens_the_tab_and_is_held() {
    let server = protected().await;
    let browser = Browser::waiting();
    let mut host = browser.host(&server.url(), &["--start", "answer"]);
    host.initialize().await;
    assert_eq!(first_tool(&host.ask(1, "tools/list", json!({})).await), "mcp_remote_sign_in");
    host.send(request(2, "tools/call", json!({ "name": "mcp_remote_sign_in" }))).await;
    visit(&browser.tab().await.url).await;
    let mut seen = [host.json().await, host.json().await];
    seen.sort_by_key(|message| message["id"].is_null());
    assert!(seen[0]["result"]["content"][0]["text"].as_str().unwrap().contains("List the tools again"), "{seen:?}");
    host.close().await;
}

#[tokio::test]
async fn limit_that_the_host_enforces_is_remembered_for_its_next_start() {
    let server = protected().await;
    let browser = Browser::waiting();
    let home = home();
    let mut host = browser.host_at(&home, &server.url(), &DEFAULT);
    host.send(initialize_by("impatient")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await; // what a host with such a limit does
    host.send(notification("notifications/cancelled", json!({ "requestId": 0 }))).await;
    assert!(host.json().await["result"].is_object(), "the hold ends at once");
    host.end_input();
    host.exit().await;
    let mut host = browser.host_at(&home, &server.url(), &DEFAULT);
    let began = Instant::now();
    host.send(initialize_by("impatient")).await;
    host.json().await;
    assert!(began.elapsed() < Duration::from_millis(3000), "{:?}", began.elapsed());
    host.end_input();
    host.exit().await;
    assert_eq!(browser.tabs().len(), 1, "the second start goes on in the tab that is open");
}

#[tokio::test]
async fn second_instance_in_another_home_names_the_first_one() {
    let server = protected().await;
    let browser = Browser::waiting();
    let url = server.url();
    let mut first = browser.host_at(&home(), &url, &["--start", "hold", "--hold", "1"]);
    first.send(initialize_by("one")).await;
    let tab = browser.tab().await;
    let mut second = browser.host_at(&home(), &url, &["--start", "hold", "--hold", "2"]);
    let began = Instant::now();
    second.send(initialize_by("other")).await;
    let answer = second.json().await;
    assert!(began.elapsed() < Duration::from_secs(4), "as if it were alone: {:?}", began.elapsed());
    let said = answer["result"]["instructions"].as_str().unwrap();
    assert!(said.contains("another mcp-remote process is waiting for you to sign in to"), "{said}");
    assert_eq!(browser.tabs().len(), 1);
    visit(&tab.url).await;
    first.json().await;
    for mut host in [first, second] {
        host.end_input();
        host.exit().await;
    }
}

#[tokio::test]
async fn framing_of_the_language_server_protocol_is_named_in_the_log() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start_raw(Handles::Pipes, &[&server.url("/mcp"), "--start", "hold"], &[], home());
    host.send_raw(b"Content-Length: 20\r\n\r\n").await;
    host.told("Content-Length").await;
    host.end_input();
    host.exit().await;
}
