//! The port over real sockets.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle as Task,
};

use super::{wire::LARGEST_HEAD, *};
use crate::oauth::person::page::StartedFrom;

/// Until a test has failed.
const TOO_LONG: Duration = Duration::from_secs(10);

fn place() -> Place {
    Place { host: "localhost".into(), path: "/oauth/callback".into(), server_hash: "0123abcd".into() }
}

fn listener() -> Listener {
    let listener = Listener::bind(&place(), 0).unwrap();
    listener.expect("s1");
    listener
}

/// What a client gets that sends this and reads to the end.
async fn exchange(address: SocketAddr, request: String) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(TOO_LONG, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    answer
}

async fn next(listener: &mut Listener) -> Redirect {
    match timeout(TOO_LONG, listener.next()).await.expect("no redirect") {
        Arrival::Redirect(redirect) => redirect,
        Arrival::Unproven { error, .. } => panic!("{error:?}"),
    }
}

fn v4(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn v6(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
}

fn request(line: &str, host: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn head_limit_is_same_in_any_pieces() {
    for (length, fits) in [(LARGEST_HEAD, true), (LARGEST_HEAD + 1, false)] {
        let bytes = ["x".repeat(length).as_bytes(), b"\r\n\r\nbody"].concat();
        assert_eq!(read_head(&mut &bytes[..]).await.is_some(), fits, "{length} at once");
        let (mut browser, mut stream) = tokio::io::duplex(1021);
        let write = async { _ = browser.write_all(&bytes).await };
        let read = async { assert_eq!(read_head(&mut stream).await.is_some(), fits, "{length} in pieces") };
        tokio::select! {
            () = read => {}
            () = async { write.await; pending().await } => {}
        }
    }
}

/// A browser that comes back; it waits for its page.
fn browse(port: u16, target: &str) -> Task<String> {
    tokio::spawn(exchange(v4(port), request(&format!("GET {target}"), &format!("localhost:{port}"))))
}

fn page(page: &Page) -> String {
    format!("<title>{}</title>", page.html().split_once("<title>").unwrap().1.split_once("</title>").unwrap().0)
}

fn success() -> Page {
    Page::SignedIn { server: "mcp.example".into(), by: "as.example".into(), start: StartedFrom::Terminal }
}

fn code(redirect: &Redirect) -> &str {
    match &redirect.outcome {
        Outcome::Code(code) => code.expose(),
        refused @ Outcome::Refused { .. } => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn redirect_arrives_in_either_address_family() {
    let mut listener = listener();
    let port = listener.port();
    assert_eq!(listener.redirect_uri(), format!("http://localhost:{port}/oauth/callback"));
    for (address, name) in
        [(v4(port), "localhost"), (v6(port), "LocalHost"), (v4(port), "127.0.0.1"), (v6(port), "[::1]")]
    {
        listener.expect("s 1");
        let target = "GET /oauth/callback?code=a%2Bb+c&state=s%201&iss=https%3A%2F%2Fas.example%2F&other=1&other=2";
        let browser = tokio::spawn(exchange(address, request(target, &format!("{name}:{port}"))));
        let redirect = next(&mut listener).await;
        assert_eq!(redirect.issuer.as_deref(), Some("https://as.example/"));
        assert_eq!(code(&redirect), "a+b c");
        assert!(!format!("{:?}", redirect.outcome).contains("a+b"));
        assert!(!browser.is_finished());
        redirect.answer(&success());
        let answer = browser.await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&success().html()), "{answer}");
        for header in [
            "Content-Type: text/html; charset=utf-8",
            "Cache-Control: no-store",
            "Referrer-Policy: no-referrer",
            "X-Content-Type-Options: nosniff",
            "Content-Security-Policy: default-src 'none'; style-src 'sha256-",
        ] {
            assert!(answer.contains(&format!("\r\n{header}")), "{header} is not in {answer}");
        }
    }
}

#[tokio::test]
async fn stray_requests_are_answered_and_ignored() {
    let mut listener = listener();
    let port = listener.port();
    let ours = format!("localhost:{port}");
    let good = "GET /oauth/callback?code=stolen&state=s1";
    let long = format!("GET /oauth/callback?state=s1&code={}", "x".repeat(LONGEST_URL));
    for (line, host, expected) in [
        ("GET /oauth/callback?code=c", &*ours, Page::NotWaiting),
        ("GET /oauth/callback?code=c&state=", &ours, Page::NotWaiting),
        ("GET /oauth/callback?code=c&state=S1", &ours, Page::NotWaiting),
        ("GET /oauth/callback?error=access_denied&state=s2", &ours, Page::NotWaiting),
        ("GET /oauth/callback", &ours, Page::NotWaiting),
        ("GET /oauth/callback?state=s1", &ours, Page::Malformed),
        ("GET /oauth/callback?state=s1&code=", &ours, Page::Malformed),
        ("GET /oauth/callback?code=c&code=d&state=s1", &ours, Page::Malformed),
        ("GET /oauth/callback?code=c&state=s1&state=s1", &ours, Page::Malformed),
        ("GET /oauth/callback?code=c&state=s1&iss=a&iss=", &ours, Page::Malformed),
        ("GET /oauth/callback/?code=c&state=s1", &ours, Page::NotFound),
        ("GET /?code=c&state=s1", &ours, Page::NotFound),
        ("GET http://localhost/oauth/callback?code=c&state=s1", &ours, Page::NotFound),
        ("POST /oauth/callback?code=c&state=s1", &ours, Page::MethodNotAllowed),
        (&long, &ours, Page::TooLong),
        (good, "localhost", Page::Misdirected),
        (good, &format!("evil.example:{port}"), Page::Misdirected),
        (good, &format!("localhost.evil.example:{port}"), Page::Misdirected),
        (good, &format!("localhost:{}", port ^ 1), Page::Misdirected),
        (good, &format!("{ours}\r\nHost: evil.example:{port}"), Page::Misdirected),
        ("GET /.mcp-remote/id", "evil.example", Page::Misdirected),
    ] {
        let answer = exchange(v4(port), request(line, host)).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {} ", expected.status())), "{line} {host}: {answer}");
        assert!(answer.contains(&page(&expected)), "{line} {host}: {answer}");
    }
    let nameless = exchange(v4(port), format!("{good} HTTP/1.0\r\n\r\n")).await;
    assert!(nameless.contains(&page(&Page::Misdirected)), "{nameless}");
    let head = exchange(v4(port), request("HEAD /oauth/callback?code=c&state=s1", &ours)).await;
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");

    let browser = browse(port, "/oauth/callback?code=c1&state=s1");
    let redirect = next(&mut listener).await;
    assert_eq!(code(&redirect), "c1");
    redirect.answer(&success());
    assert!(browser.await.unwrap().contains(&page(&success())));
}

#[tokio::test]
async fn refusal_wins_over_a_code() {
    let mut listener = listener();
    let _browser = browse(
        listener.port(),
        "/oauth/callback?state=s1&error=access_denied&error_description=You%0d%0asaid+no%07&code=c",
    );
    let redirect = next(&mut listener).await;
    let Outcome::Refused { error, description } = &redirect.outcome else { panic!("{:?}", redirect.outcome) };
    assert_eq!((error, description.as_deref()), (&ErrorCode::AccessDenied, Some("You said no")));
}

#[tokio::test]
async fn redirect_is_handed_over_once_per_expectation() {
    let mut listener = listener();
    let port = listener.port();
    let target = "/oauth/callback?code=c&state=s1";
    let first = browse(port, target);
    let redirect = next(&mut listener).await;
    let second = browse(port, target);
    while listener.repeated("s1") == 0 {
        tokio::task::yield_now().await;
    }
    redirect.answer(&success());
    for browser in [first, second, browse(port, target)] {
        assert!(browser.await.unwrap().contains(&page(&success())));
    }

    listener.expect("s1");
    let again = browse(port, target);
    next(&mut listener).await.send_to(&"https://a.example/done?x=1".parse().unwrap());
    let answer = again.await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 303 See Other\r\n"), "{answer}");
    assert!(answer.contains("\r\nLocation: https://a.example/done?x=1\r\n"), "{answer}");
    assert!(answer.contains("\r\nReferrer-Policy: no-referrer\r\n"), "{answer}");
}

#[tokio::test]
async fn prefetch_spends_no_redirect() {
    let mut listener = listener();
    let port = listener.port();
    let target = "GET /oauth/callback?code=c&state=s1";
    for header in ["Sec-Purpose: prefetch;prerender", "Purpose: prefetch", "X-Moz: prefetch"] {
        let ahead = request(target, &format!("localhost:{port}\r\n{header}"));
        let answer = exchange(v4(port), ahead).await;
        assert!(answer.starts_with("HTTP/1.0 503 ") && answer.contains("\r\nCache-Control: no-store\r\n"), "{answer}");
    }
    let browser = browse(port, "/oauth/callback?code=c&state=s1");
    next(&mut listener).await.answer(&success());
    assert!(browser.await.unwrap().contains(&page(&success())));
}

#[tokio::test]
async fn error_without_state_is_reported_sign_in_continues() {
    let mut listener = listener();
    let port = listener.port();
    let target = "/oauth/callback?error=invalid_request&error_description=resource%3A+Invalid+url";
    let expected =
        Page::Unproven { error: "invalid_request".into(), description: Some("resource: Invalid url".into()) };
    for _ in 0..MOST_UNPROVEN + 1 {
        assert!(browse(port, target).await.unwrap().contains(&page(&expected)));
    }
    for _ in 0..MOST_UNPROVEN {
        let Arrival::Unproven { error, description } = timeout(TOO_LONG, listener.next()).await.unwrap() else {
            panic!()
        };
        assert_eq!((error.as_str(), description.as_deref()), ("invalid_request", Some("resource: Invalid url")));
    }
    let browser = browse(port, "/oauth/callback?code=c&state=s1");
    next(&mut listener).await.answer(&success());
    browser.await.unwrap();
    // Nobody waits any longer, or two do.
    assert!(browse(port, target).await.unwrap().contains(&page(&Page::NotWaiting)));
    listener.expect("s2");
    listener.expect("s3");
    assert!(browse(port, target).await.unwrap().contains(&page(&Page::NotWaiting)));
}

#[tokio::test]
async fn unanswered_redirect_shows_no_success() {
    let mut listener = listener();
    let browser = browse(listener.port(), "/oauth/callback?code=c&state=s1");
    drop(next(&mut listener).await);
    let answer = browser.await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 503 ") && answer.contains(&page(&Page::Interrupted)), "{answer}");
}

#[tokio::test]
async fn dropped_listener_frees_port_and_serves_held_browser() {
    let mut listener = listener();
    let port = listener.port();
    let browser = browse(port, "/oauth/callback?code=c&state=s1");
    let redirect = next(&mut listener).await;
    drop(listener);
    let mut listener = bind_again(port).await;
    redirect.answer(&success());
    assert!(browser.await.unwrap().contains(&page(&success())));

    listener.expect("s2");
    let browser = browse(port, "/oauth/callback?code=c2&state=s2");
    assert_eq!(code(&next(&mut listener).await), "c2");
    browser.await.unwrap();
    for _ in 0..20 {
        drop(listener);
        listener = bind_again(port).await;
    }
}

/// Binds a port that a listener has left. A child that another test is just starting has a copy of the socket until it
/// becomes its own program.
async fn bind_again(port: u16) -> Listener {
    let bound = async {
        loop {
            match Listener::bind(&place(), port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::task::yield_now().await,
                bound => return bound.unwrap(),
            }
        }
    };
    timeout(TOO_LONG, bound).await.expect("the port is free")
}

#[tokio::test]
async fn port_taken_in_one_family_is_taken() {
    let ours = listener();
    let taken = |place: &Place, port| Listener::bind(place, port).err().map(|error| error.kind());
    assert_eq!(taken(&place(), ours.port()), Some(io::ErrorKind::AddrInUse));
    for (address, host, other) in [(v4(0), "127.0.0.1", "[::1]"), (v6(0), "[::1]", "127.0.0.1")] {
        let socket = TcpListener::bind(address).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(taken(&place(), port), Some(io::ErrorKind::AddrInUse));
        assert_eq!(taken(&Place { host: host.into(), ..place() }, port), Some(io::ErrorKind::AddrInUse));
        assert_eq!(taken(&Place { host: other.into(), ..place() }, port), None);
    }
}

/// Connections that will not say what they want.
async fn half_open(port: u16, number: usize) -> VecDeque<TcpStream> {
    let post = format!("POST / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 1000000\r\n\r\n");
    let starts = ["", "GET /oauth/call", "GET / HTTP/1.1\r\nHost: localhost\r\n", &post];
    let mut streams = VecDeque::new();
    for start in starts.into_iter().cycle().take(number) {
        let mut stream = TcpStream::connect(v4(port)).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        streams.push_back(stream);
    }
    streams
}

#[tokio::test]
async fn half_open_connections_are_few_and_block_nothing() {
    let mut listener = listener();
    let port = listener.port();
    let mut streams = half_open(port, 4 * MOST_SILENT).await;
    let browser = browse(port, "/oauth/callback?code=c1&state=s1");
    assert_eq!(code(&next(&mut listener).await), "c1");
    browser.await.unwrap();
    // Well before their time is up.
    let mut oldest = streams.pop_front().unwrap();
    _ = timeout(TOO_LONG, oldest.read(&mut [0])).await.expect("the oldest is not dropped");
}

#[tokio::test]
async fn half_open_connections_are_dropped_after_timeout() {
    let mut listener = Listener::bind_with(&place(), 0, Duration::from_millis(50)).unwrap();
    let port = listener.port();
    for mut stream in half_open(port, 8).await {
        _ = timeout(TOO_LONG, stream.read_to_end(&mut Vec::new())).await.expect("it is not dropped");
    }
    listener.expect("s1");
    let browser = browse(port, "/oauth/callback?code=c1&state=s1");
    assert_eq!(code(&next(&mut listener).await), "c1");
    browser.await.unwrap();
}

#[tokio::test]
async fn endless_head_is_not_kept() {
    let listener = listener();
    let mut stream = TcpStream::connect(v4(listener.port())).await.unwrap();
    let line = format!("X-Endless: {}\r\n", "x".repeat(1000));
    _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
    let mut sent = 0;
    while stream.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
        assert!(sent < 64 * LARGEST_HEAD, "nobody ends it");
    }
}

#[tokio::test]
async fn malformed_request_delivers_no_redirect() {
    let mut listener = listener();
    let port = listener.port();
    let host = format!("Host: localhost:{port}");
    let target = "/oauth/callback?code=stolen&state=s1";
    for head in [
        format!("GET {target} HTTP/2.0\r\n{host}"),
        format!("GET {target} x HTTP/1.1\r\n{host}"),
        format!("GET {target}\r\n{host}"),
        format!("GET {target} HTTP/1.1\r\n{host}\r\nno colon"),
    ] {
        let answer = exchange(v4(port), format!("{head}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 400 "), "{head}: {answer}");
    }
    let browser = browse(port, "/oauth/callback?code=c1&state=s1");
    assert_eq!(code(&next(&mut listener).await), "c1");
    browser.await.unwrap();
}

#[tokio::test]
async fn reset_connection_does_not_end_the_listener() {
    let mut listener = listener();
    let port = listener.port();
    for _ in 0..20 {
        let stream = std::net::TcpStream::connect(v4(port)).unwrap();
        Write::write_all(&mut &stream, request("GET /", &format!("localhost:{port}")).as_bytes()).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let browser = browse(port, "/oauth/callback?code=c1&state=s1");
    assert_eq!(code(&next(&mut listener).await), "c1");
    browser.await.unwrap();
}

#[tokio::test]
async fn dropped_wait_loses_no_redirect() {
    let mut listener = listener();
    assert!(timeout(Duration::ZERO, listener.next()).await.is_err());
    let browser = browse(listener.port(), "/oauth/callback?code=c1&state=s1");
    let icon = browse(listener.port(), "/favicon.ico");
    assert!(icon.await.unwrap().starts_with("HTTP/1.0 204 "));
    assert_eq!(code(&next(&mut listener).await), "c1");
    browser.await.unwrap();
}

#[tokio::test]
async fn instances_recognize_each_other() {
    let ours = listener();
    let answer = browse(ours.port(), "/.mcp-remote/id").await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains("\r\nContent-Type: application/json\r\n"));
    assert!(answer.ends_with("\r\n\r\n{\"mcpRemote\":true,\"serverUrlHash\":\"0123abcd\"}"), "{answer}");
    let older = browse(ours.port(), "/wait-for-auth?poll=false").await.unwrap();
    assert!(older.starts_with("HTTP/1.0 202 Accepted\r\n") && older.ends_with("\r\n\r\nAuthentication in progress"));

    assert!(sibling(ours.port(), "0123abcd").await);
    assert!(!sibling(ours.port(), "another").await);
    let only_v6 = Listener::bind(&Place { host: "[::1]".into(), ..place() }, 0).unwrap();
    assert!(sibling(only_v6.port(), "0123abcd").await);
    let port = ours.port();
    drop(ours);
    assert!(!sibling(port, "0123abcd").await);
}

#[tokio::test]
async fn other_program_on_port_is_no_instance() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\n\r\n{\"mcpRemote\":true,\"serverUrlHash\":\"0123abcd\"}",
        "HTTP/1.0 200 OK\r\n\r\n{\"mcpRemote\":false,\"serverUrlHash\":\"0123abcd\"}",
        "HTTP/1.0 200 OK\r\n\r\n<html>",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let other = TcpListener::bind(v4(0)).await.unwrap();
        let port = other.local_addr().unwrap().port();
        let program = tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.unwrap();
            _ = stream.read(&mut [0; 1024]).await;
            _ = stream.write_all(answer.as_bytes()).await;
        });
        assert!(!sibling(port, "0123abcd").await, "{answer}");
        program.await.unwrap();
    }
    let silent = TcpListener::bind(v4(0)).await.unwrap();
    assert!(!sibling(silent.local_addr().unwrap().port(), "0123abcd").await);
}

#[tokio::test]
async fn path_matches_as_browsers_write_it() {
    let place = Place { path: "/ä b/../cb?tenant=1".into(), ..place() };
    let mut listener = Listener::bind(&place, 0).unwrap();
    assert_eq!(listener.redirect_uri(), format!("http://localhost:{}/ä b/../cb?tenant=1", listener.port()));
    listener.expect("s1");
    let browser = browse(listener.port(), "/cb?tenant=1&code=c1&state=s1");
    assert_eq!(code(&next(&mut listener).await), "c1");
    browser.await.unwrap();
}
