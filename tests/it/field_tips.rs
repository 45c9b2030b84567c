//! Refusals whose cause is in the answer: the sentence names the cause, and the tip fits it.

use std::io::Write as _;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use crate::support::{
    event_streams::EventStreams,
    far::Far,
    host::{Host, WAIT, initialize_params},
    own_error,
    server::{Reply, Request, Server, ordinary},
};

/// The failure of `initialize` at this URL: code, and all words that a host shows.
async fn failure_at(url: &str, flags: &[&str]) -> (String, String) {
    let flags = [&["--retry-for", "0"], &WAIT[..], flags].concat();
    let mut host = Host::start(url, &flags);
    let answer = host.ask(0, "initialize", initialize_params("2025-11-25")).await;
    let told = own_error(&answer);
    host.close().await;
    (code(&answer), told)
}

fn code(answer: &Value) -> String {
    answer["error"]["data"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The failure of `initialize` at a server that answers everything like this.
async fn failure(reply: fn(&Request) -> Reply) -> (String, String) {
    let server = Server::with(reply).await;
    failure_at(&server.url("/prod/mcp"), &[]).await
}

fn page(status: u16, title: &str) -> Reply {
    Reply::status(status, "text/html; charset=utf-8", format!("<!DOCTYPE html><html><title>{title}</title></html>"))
}

#[track_caller]
fn assert_told((code, told): &(String, String), expected: &str, words: &[&str]) {
    assert_eq!(code, expected, "{told}");
    for words in words {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
}

#[tokio::test]
async fn bot_filter_is_named() {
    let cases: [fn(&Request) -> Reply; 4] = [
        |_| page(403, "Just a moment...").with("cf-mitigated", "challenge"),
        |_| page(403, "Attention Required! | Cloudflare"),
        |_| Reply::status(403, "text/plain", "error code: 1010"),
        |_| page(503, "Just a moment...").with("cf-mitigated", "challenge"),
    ];
    for reply in cases {
        assert_told(
            &failure(reply).await,
            "bot_filter",
            &["a bot filter in front of 127.0.0.1:", "exempt the path of this URL"],
        );
    }
}

#[tokio::test]
async fn status_without_a_name_is_a_number() {
    let told = failure(|_| Reply::status(524, "text/plain", "error code: 524")).await;
    assert_told(&told, "server_failed", &["answered HTTP 524 (\"error code: 524\")"]);
}

#[tokio::test]
async fn unknown_route_of_api_gateway_is_named() {
    let told = failure(|_| {
        Reply::status(403, "application/json", r#"{"message":"Missing Authentication Token"}"#)
            .with("x-amzn-errortype", "MissingAuthenticationTokenException")
    })
    .await;
    assert_told(&told, "not_found", &["no route with the path /prod/mcp", "begins with the stage"]);
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn refused_host_name_suggests_the_other() {
    let refuse = |request: &Request| {
        let host = request.header("host").unwrap_or_default().to_owned();
        if host.starts_with("localhost:") {
            ordinary(request)
        } else {
            Reply::status(403, "text/plain", "Access is only allowed at localhost:8931")
        }
    };
    let server = Server::with(refuse).await;
    let told = failure_at(&server.url("/mcp"), &[]).await;
    assert_told(
        &told,
        "forbidden",
        &["the server does not allow the host name 127.0.0.1:", "use localhost instead of the IP address"],
    );
    let mut host = Host::start(&format!("http://localhost:{}/mcp", server.port), &["--ipv4"]);
    assert!(host.initialize().await["result"].is_object(), "the tip works");

    let server = Server::with(|_| Reply::status(421, "text/plain", "Invalid Host header")).await;
    let told = failure_at(&format!("http://localhost:{}/mcp", server.port), &["--ipv4"]).await;
    assert_told(&told, "refused", &["use 127.0.0.1 instead of localhost"]);
    let far = Far::named("mcp.example", server.port).await;
    let flags = far.flags();
    let told = failure_at("https://mcp.example/mcp", &flags.each_ref().map(String::as_str)).await;
    assert_told(&told, "refused", &["ask the server's operator to add this host name"]);
}

#[tokio::test]
async fn too_large_request_has_its_own_tip() {
    assert_told(&failure(|_| Reply::empty(413)).await, "refused", &["HTTP 413", "send less in one request"]);
    assert_told(
        &failure(|_| Reply::empty(431)).await,
        "refused",
        &["HTTP 431", "shorten the values passed with --header"],
    );
}

#[tokio::test]
async fn schemes_other_than_bearer_are_named() {
    for (schemes, tip) in [
        ("Negotiate, NTLM", "ask the server's operator for an API key or token"),
        ("Digest realm=\"a, b\", nonce=\"c\"", "ask the server's operator for an API key or token"),
        ("Basic realm=\"a\"", "https://USER:PASSWORD@HOST/PATH"),
    ] {
        let server = Server::with(move |_| Reply::empty(401).with("www-authenticate", schemes)).await;
        let first = schemes.split([',', ' ']).next().unwrap();
        let told = failure_at(&server.url("/mcp"), &[]).await;
        assert_told(&told, "unauthorized", &[&format!("requires {first}"), tip]);
    }
}

#[tokio::test]
async fn endpoint_without_its_prefix_is_named() {
    let (server, _) = EventStreams::serve(|request, streams| match request.method.as_str() {
        "GET" => Some(streams.open_with("event: endpoint\ndata: /v1/messages?session=1\n\n")),
        _ => Some(Reply::status(404, "text/plain", "404 page not found")),
    })
    .await;
    for transport in ["sse-only", "http-first"] {
        let told = failure_at(&server.url("/api/v1/sse"), &["--transport", transport]).await;
        let words = ["named the endpoint /v1/messages", "include the proxy's path prefix in the endpoint"];
        assert_told(&told, &told.0, &words);
    }
}

// Web sign-ins in front of the server.

#[tokio::test]
async fn web_sign_in_is_recognized() {
    let cases: [fn(&Request) -> Reply; 6] = [
        |_| {
            Reply::empty(302).with("location", "https://team.cloudflareaccess.com/cdn-cgi/access/login/a.example?kid=1")
        },
        |_| Reply::empty(307).with("location", "/login?next=%2Fprod%2Fmcp"),
        |_| Reply::empty(302).with("location", "/oauth2/start?rd=%2Fprod%2Fmcp"),
        |_| page(200, "Sign in · Example"),
        |_| Reply::status(200, "text/html", "<html><form><input type=\"password\"></form></html>"),
        |_| page(403, "Forbidden").with("cf-access-domain", "a.example"),
    ];
    for reply in cases {
        let words = ["a web sign-in protects 127.0.0.1:", "pass a service token", "exempt the path"];
        assert_told(&failure(reply).await, "web_sign_in", &words);
    }
}

#[tokio::test]
async fn web_sign_in_gets_no_request() {
    let server = Server::with(|request| match request.path.as_str() {
        "/mcp" => Reply::empty(307).with("location", "/login"),
        _ => Reply::empty(405),
    })
    .await;
    assert_told(&failure_at(&server.url("/mcp"), &[]).await, "web_sign_in", &["/login"]);
    assert_eq!(server.requests().iter().filter(|request| request.path == "/login").count(), 0);
}

// Redirects behind a proxy that ends TLS.

/// A server behind such a proxy that redirects `/mcp` to `location`.
async fn redirecting(location: &'static str) -> (Server, Far) {
    let server = Server::with(move |request| match request.path.as_str() {
        "/mcp" => Reply::empty(307).with("location", location),
        _ => ordinary(request),
    })
    .await;
    let far = Far::named("mcp.example", server.port).await;
    (server, far)
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn redirect_that_lost_tls_stays_on_own_origin() {
    for location in ["http://mcp.example/mcp/?a=1", "http://mcp.example:8000/mcp/?a=1"] {
        let (server, far) = redirecting(location).await;
        let flags = far.flags();
        let mut host = Host::start("https://mcp.example/mcp", &flags.each_ref().map(String::as_str));
        assert!(host.initialize().await["result"].is_object(), "{}", host.stderr());
        let list = host.ask(1, "tools/list", json!({})).await;
        assert_eq!(list["result"]["echo"], "tools/list");
        assert!(server.requests().iter().any(|request| request.path == "/mcp/?a=1"));
        host.close().await;
    }
}

#[tokio::test]
#[cfg_attr(windows, ignore = "a private authority on Windows has not been seen to work: wine cannot show it")]
async fn redirect_to_inner_place_names_own_url() {
    // The inner address is this machine: what is followed would arrive.
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = inner.local_addr().unwrap().port();
    for (location, words, tip) in [
        ("http://mcp.example/mcp", "which is not encrypted", "X-Forwarded-Proto"),
        (
            "http://10.1.2.3:8080/mcp/",
            "(the same path on the server: https://mcp.example/mcp/)",
            "use the URL in parentheses",
        ),
        ("https://backend:8080/mcp/", "which is on a private network", "use the URL in parentheses"),
        ("http://other.example/mcp", "which is not encrypted", "https:// instead of http://"),
    ] {
        let (_server, far) = redirecting(location).await;
        let told = failure_at("https://mcp.example/mcp", &far.flags().each_ref().map(String::as_str)).await;
        assert_told(&told, "redirected", &[location, words, tip]);
    }
    let location: &'static str = Box::leak(format!("http://127.0.0.1:{port}/mcp/").into_boxed_str());
    let (_server, far) = redirecting(location).await;
    let told = failure_at("https://mcp.example/mcp", &far.flags().each_ref().map(String::as_str)).await;
    assert_told(&told, "redirected", &["(the same path on the server: https://mcp.example/mcp/)"]);
    tokio::select! {
        biased;
        arrived = inner.accept() => panic!("the redirect was followed: {arrived:?}"),
        () = std::future::ready(()) => {}
    }
}

// Proxies that ask for credentials.

#[tokio::test]
async fn proxy_tip_fits_scheme_and_given_password() {
    let tips = ["HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT", "such as px or cntlm", "write @ as %40"];
    for (schemes, user_info, tip) in [
        ("Basic realm=\"a, b\"", "", tips[0]),
        ("Basic realm=a", "anna:hush@", tips[2]),
        ("Negotiate, NTLM", "", tips[1]),
        ("Negotiate, NTLM", "anna:hush@", tips[1]),
    ] {
        let server = Server::with(move |_| Reply::empty(407).with("proxy-authenticate", schemes)).await;
        let proxy = format!("http://{user_info}127.0.0.1:{}", server.port);
        for url in ["https://far.example/mcp", "http://far.example/mcp"] {
            let told = failure_at(url, &["--allow-http", "--proxy", &proxy]).await;
            let first = schemes.split([',', ' ']).next().unwrap();
            let words = match (first, user_info.is_empty()) {
                ("Basic", false) => "rejected the user name and password".to_owned(),
                _ => format!("requires authentication ({first}"),
            };
            assert_told(&told, "proxy_refused", &["to connect to far.example", &words, tip]);
            assert!(!told.1.contains("hush"), "{}", told.1);
            let given = server.requests().iter().filter(|asked| asked.header("proxy-authorization").is_some()).count();
            let starts = 1 + usize::from(url.starts_with("http:"));
            assert!(user_info.is_empty() || given == starts, "an account may be locked: {given}");
        }
    }
}

// Bodies and heads.

#[tokio::test]
async fn encoding_that_was_not_asked_for_is_named() {
    for encoding in ["br", "deflate", "zstd", "gzip, gzip"] {
        let server = Server::with(move |_| Reply::json("\u{1}\u{2}").with("content-encoding", encoding)).await;
        let told = failure_at(&server.url("/mcp"), &[]).await;
        assert_told(&told, "bad_message", &[&format!("Content-Encoding {encoding}"), "no encoding other than gzip"]);
    }
    // The old name of the one that was asked for (RFC 9110 §8.4.1.3).
    let server = Server::with(|request| {
        let Reply::Full(status, headers, body) = ordinary(request) else { panic!() };
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&body).unwrap();
        Reply::Full(status, headers, encoder.finish().unwrap()).with("content-encoding", "x-gzip")
    })
    .await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    assert!(host.initialize().await["result"].is_object());
    host.close().await;
    // A label that is no coding is not believed.
    let server = Server::with(|request| ordinary(request).with("content-encoding", "utf-8")).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    assert!(host.initialize().await["result"].is_object());
    host.close().await;
}

fn with_headers(reply: Reply, count: usize) -> Reply {
    (0..count).fold(reply, |reply, number| reply.with(&format!("x-{number}"), "a"))
}

#[tokio::test]
async fn hundreds_of_header_lines_are_read() {
    let server = Server::with(|request| with_headers(ordinary(request), 300)).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    assert!(host.initialize().await["result"].is_object());
    host.close().await;
    let told = failure(|request| with_headers(ordinary(request), 1000)).await;
    assert_told(&told, "too_large", &["sent more or longer response headers", "fewer and shorter response headers"]);
}

// What proves TLS.

/// A server that answers each TLS handshake with this fatal alert (RFC 8446 §6).
async fn alerting(alert: u8) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/mcp", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            _ = stream.read(&mut [0; 16 * 1024]).await;
            _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
            _ = stream.shutdown().await;
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn tls_alert_has_its_own_tip() {
    for (alert, expected, words, tip) in [
        (40, "tls_failed", "no secure TLS version or cipher", "enable TLS 1.3"),
        (70, "tls_failed", "only outdated TLS versions", "enable TLS 1.3"),
        (71, "tls_failed", "no secure TLS version or cipher", "enable TLS 1.3"),
        (112, "tls_failed", "no certificate for this host name", "check the host name"),
        (42, "client_certificate_needed", "rejected the client certificate, or requires one", "--client-cert FILE"),
        (48, "client_certificate_needed", "rejected the client certificate, or requires one", "--client-cert FILE"),
    ] {
        let (url, _tasks) = alerting(alert).await;
        assert_told(&failure_at(&url, &[]).await, expected, &[words, tip]);
    }
}
