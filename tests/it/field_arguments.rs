//! Arguments that people copy from elsewhere: what cannot be used is refused by name, and the rest is used.

use crate::support::{
    host::{Host, WAIT, initialize_params},
    own_error,
    server::{Reply, Server, ordinary},
};

/// What the host is told of arguments that are refused.
async fn refusal(url: &str, flags: &[&str]) -> String {
    let mut host = Host::start(url, flags);
    let answer = host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    let told = own_error(&answer);
    host.end_input();
    let (status, _) = host.exit().await;
    assert_eq!(status.code(), Some(2), "{told}");
    told
}

#[tokio::test]
async fn user_in_url_is_sent_as_basic() {
    let server = Server::with(|request| match request.header("authorization") {
        Some(_) => ordinary(request),
        None => Reply::empty(401).with("www-authenticate", "Basic realm=\"a\""),
    })
    .await;
    for (user_info, expected) in [
        ("anna:p%40ss:w%C3%B6rd", "Basic YW5uYTpwQHNzOnfDtnJk"),
        ("token", "Basic dG9rZW46"),
        (":100%25", "Basic OjEwMCU="),
    ] {
        let mut host = Host::start(&format!("http://{user_info}@127.0.0.1:{}/mcp", server.port), &["--debug"]);
        assert!(host.initialize().await["result"].is_object(), "{user_info}");
        let request = server.requests().pop().unwrap();
        assert_eq!(request.header("authorization"), Some(expected));
        assert_eq!(request.path, "/mcp");
        host.end_input();
        host.exit().await;
        let secret = expected.strip_prefix("Basic ").unwrap();
        for secret in [secret, user_info] {
            assert!(!host.stderr().contains(secret), "{}", host.stderr());
        }
    }
}

#[tokio::test]
async fn user_in_url_and_header_conflict() {
    let told = refusal("https://anna:hush@a.example/mcp", &["--header", "Authorization:Bearer hush"]).await;
    assert!(told.contains("the server URL has a user, and --header gives an Authorization"), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

#[tokio::test]
async fn header_of_the_client_is_refused_by_name() {
    for (header, tip) in [
        ("Content-Length: 5", "leave it out"),
        ("transfer-encoding: chunked", "leave it out"),
        ("Connection: close", "leave it out"),
        ("Host: localhost:8931", "into the server URL"),
        ("Proxy-Authorization: Basic aHVzaA==", "into the proxy's URL"),
        ("TE: trailers", "leave it out"),
        ("Upgrade: h2c", "leave it out"),
        ("Content-Encoding: gzip", "leave it out"),
    ] {
        let name = header.split(':').next().unwrap();
        let told = refusal("https://a.example/mcp", &["--header", header]).await;
        assert!(told.contains(&format!("--header gives {name}, ")) && told.contains(tip), "{told}");
    }
}

#[tokio::test]
async fn placeholder_of_another_program_is_recognized() {
    for (value, spelling) in [
        ("Bearer ${env:TOKEN}", "${env:NAME}"),
        ("${input:token}", "${env:NAME}"),
        ("${{ secrets.TOKEN }}", "${env:NAME}"),
        ("Bearer ${TOKEN:-hush}", "${NAME:-DEFAULT}"),
        ("{env:TOKEN}", "{env:NAME}"),
        ("Bearer {{TOKEN}}", "{env:NAME}"),
        ("%TOKEN%", "%NAME%"),
        ("Bearer $TOKEN", "$NAME"),
        ("$env:TOKEN", "$env:NAME"),
        ("Bearer <your-token>", "<NAME>"),
        ("<YOUR API KEY>", "<NAME>"),
    ] {
        let told = refusal("https://a.example/mcp", &["--header", &format!("Authorization: {value}")]).await;
        assert!(told.contains(&format!("of the form {spelling}, ")), "{value}: {told}");
        assert!(told.contains("write ${NAME} there, and set NAME in the \"env\""), "{told}");
        assert!(!told.contains("hush"), "a default may be a secret: {told}");
    }
    let info = r#"{"client_id":"a","client_secret":"${env:SECRET}"}"#;
    let told = refusal("https://a.example/mcp", &["--static-oauth-client-info", info]).await;
    assert!(told.contains("${env:NAME}"), "{told}");
}

#[tokio::test]
async fn value_like_a_placeholder_may_be_a_variable() {
    let server = Server::with(ordinary).await;
    let flags = ["--header", "X-Key: ${KEY}", "--header", "X-Range: $5 < 7 %", "--header", "X-Json: {\"a\":1}"];
    let flags = [&flags[..], &WAIT].concat();
    let (handles, environment) = (crate::support::host::Handles::Pipes, [("KEY", "%ODD%")]);
    let mut host = Host::start_with(handles, &server.url("/mcp"), &flags, &environment);
    assert!(host.initialize().await["result"].is_object());
    let request = server.request("POST", "initialize").await;
    assert_eq!(request.header("x-key"), Some("%ODD%"));
    assert_eq!(request.header("x-range"), Some("$5 < 7 %"));
    assert_eq!(request.header("x-json"), Some("{\"a\":1}"));
    host.close().await;
}
