//! The catalogue of failures, from outside: each row of the table sets up what is broken for real, and
//! says what must be told of it (sentence, code, what to do) and in which places.

use std::{
    any::Any,
    collections::BTreeSet,
    pin::Pin,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use mcp_remote::internals::{CATALOGUE, Code, NAME_THE_ADDRESS, START_AGAIN};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};

use crate::support::{
    authorization_server::{AuthorizationServer, Client, Iss, Settings, edit, refusal},
    browser::Browser,
    event_streams::EventStreams,
    host::{Handles, Host, WAIT, initialize_params, request},
    kept,
    server::{Reply, Request, Server, answer, ordinary, reserved_port},
    soon, stored,
};

// How it is told.

/// Where a failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// One line on the adapter's stderr.
    Stderr,
    /// The JSON-RPC error of the host's request.
    Answer,
    /// The page that the browser ends on.
    Page,
    /// What `mcp-remote-client` says of the same server.
    Client,
}

use Place::{Answer, Client as Tool, Page, Stderr};

/// Wherever a request is answered.
const ANSWERS: &[Place] = &[Stderr, Answer, Tool];
/// Where the browser comes back to an error.
const EVERYWHERE: &[Place] = &[Stderr, Answer, Page, Tool];
/// What only a host can meet.
const HOSTS: &[Place] = &[Stderr, Answer];
/// Nothing fails.
const WARNING: &[Place] = &[Stderr, Tool];

/// A row of the table.
struct Case {
    code: &'static str,
    set_up: fn() -> Scene,
    /// What the sentence must have in it; `{host}` is the server's.
    says: &'static [&'static str],
    /// What the action must have in it.
    does: &'static str,
    places: &'static [Place],
}

type Scene = Pin<Box<dyn Future<Output = Stage>>>;

/// Something broken, ready to be met.
struct Stage {
    /// Of the adapter, the server's address first.
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    browser: Option<Browser>,
    home: Arc<TempDir>,
    /// What the host says; the failure is the first answer that is an error of ours.
    script: Vec<Step>,
    /// Servers, files, ports.
    kept: Vec<Box<dyn Any>>,
}

enum Step {
    Ask(&'static str),
    Say(String),
    Close,
}

impl Stage {
    fn of(url: impl Into<String>, flags: &[&str]) -> Self {
        let mut arguments = vec![url.into()];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let home = Arc::new(tempfile::tempdir().unwrap());
        let script = vec![Step::Ask("initialize")];
        Self { arguments, environment: Vec::new(), browser: None, home, script, kept: Vec::new() }
    }

    fn keeping(mut self, kept: impl Any) -> Self {
        self.kept.push(Box::new(kept));
        self
    }

    fn asking(mut self, method: &'static str) -> Self {
        self.script.push(Step::Ask(method));
        self
    }

    fn with(mut self, browser: Browser) -> Self {
        self.browser = Some(browser);
        self
    }

    fn host_name(&self) -> String {
        let Ok(url) = Url::parse(&self.arguments[0]) else { return String::new() };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", url.host_str().unwrap_or_default())
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Every start of the adapter in this file. `--start wait`: what fails is answered with the failure.
    fn start(&self) -> Host {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).chain(WAIT).collect();
        match &self.browser {
            Some(browser) => browser.host_with(&self.home, &arguments, &self.environment()),
            None => Host::start_raw(Handles::SocketPairs, &arguments, &self.environment(), self.home.clone()),
        }
    }

    /// Runs `mcp-remote-client` on the same; all that it says.
    async fn run_client(&self, home: &TempDir) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote-client"));
        command
            .args(&self.arguments)
            .env_clear()
            .envs(kept())
            .env("HOME", home.path())
            .env("MCP_REMOTE_CONFIG_DIR", home.path());
        if let Some(browser) = &self.browser {
            command.envs(browser.environment());
        }
        command.envs(self.environment()).stdin(Stdio::null()).kill_on_drop(true);
        let done = soon(&format!("the client ends: {:?}", self.arguments), command.output()).await.unwrap();
        String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap()
    }
}

/// Copies what a set-up has put into the store.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&from, &to);
        } else {
            match std::fs::read_link(&from) {
                Ok(_) => std::os::unix::fs::symlink(&to, &to).unwrap(), // one that leads to itself
                Err(_) => _ = std::fs::copy(from, to).unwrap(),
            }
        }
    }
}

/// A failure as it was told.
#[derive(Debug)]
struct Told {
    sentence: String,
    hint: String,
}

impl Told {
    fn line(&self, code: &str) -> String {
        let stop = if self.sentence.ends_with('?') { "" } else { "." };
        format!("{}{stop}{}", self.sentence, end_of_line(code, &self.hint))
    }
}

/// Returns what follows the sentence on stderr and in the `message` of an answer.
fn end_of_line(code: &str, hint: &str) -> String {
    let tip = if hint.is_empty() { String::new() } else { format!("Tip: {hint} ") };
    format!(" {tip}{}", details(code))
}

/// Returns what ends each line.
fn details(code: &str) -> String {
    format!("[Details: mcp-remote explain {code}]")
}

/// The lines on stderr that say that something is wrong.
fn complaints(stderr: &str) -> impl Iterator<Item = &str> {
    stderr.lines().filter(|line| ["] error: ", "] warning: ", "] mcp-remote: "].iter().any(|sign| line.contains(sign)))
}

/// What differs from one sign-in to the next.
fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((address, rest)) if address.starts_with("http") => {
            let end = if rest.contains(';') { ";" } else { "" };
            format!("{address}{end}")
        }
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The callback page shows the report as sentences, and names the server and the failure only once. For some failures the
/// page has a tip of its own, because the user is in a browser.
fn check_page(page: &str, code: &str, told: &Told, server: &str) {
    const OWN_TIP: [&str; 5] =
        ["authorization_server_failed", "sign_in_denied", "sign_in_refused", "sign_in_timed_out", "wrong_issuer"];
    let page = page.replace("<code>", "").replace("</code>", "");
    let said = [
        format!("cannot sign in to {server}: "),
        "cannot sign in: ".into(),
        format!("{server}: "),
        format!("{server} "),
    ];
    let cause = said.iter().find_map(|said| told.sentence.strip_prefix(said)).unwrap_or(&told.sentence);
    let tip = if OWN_TIP.contains(&code) { "" } else { &*told.hint };
    let explain = format!("mcp-remote explain {code}");
    for text in [cause, tip, "close this tab", &explain] {
        // The first letter may be a capital.
        let text = escaped(text.get(1..).unwrap_or_default());
        assert!(page.contains(&text), "{code}: no {text:?} in {page}");
    }
    assert!(page.contains(&format!("mcp-remote could not sign you in to <bdi>{server}</bdi>.")), "{code}: {page}");
}

/// Looks at one failure in all its places. Returns the texts as a user sees them.
async fn check(case: &Case) -> String {
    let stage = (case.set_up)().await;
    let code = case.code;
    let clients_home = tempfile::tempdir().unwrap();
    copy(stage.home.path(), clients_home.path());
    let mut host = stage.start();
    let mut seen = format!("## {code}\n");
    let told = if case.places.contains(&Answer) {
        let answer = play(&stage, &mut host).await;
        let error = &answer["error"];
        assert_eq!(error["code"], -31000, "{code}: {answer}");
        assert_eq!(error["data"]["code"], code, "{answer}\n{}", host.stderr());
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{code}: {answer}")).to_owned();
        let message = text(&error["message"]);
        seen += &format!("\nJSON-RPC error -31000:\n  {message}\n");
        // What is wrong with the arguments has no tip in the catalogue.
        let hint = error["data"]["hint"].as_str().unwrap_or_default().to_owned();
        let sentence =
            message.strip_prefix("mcp-remote: ").and_then(|text| text.strip_suffix(&end_of_line(code, &hint)));
        let sentence = sentence.map(|sentence| sentence.strip_suffix('.').unwrap_or(sentence));
        let sentence = sentence.unwrap_or_else(|| panic!("{code}: the message is not whole: {answer}")).to_owned();
        let told = Told { sentence, hint };
        if case.places.contains(&Stderr) {
            host.told(&told.line(code)).await;
            let stderr = host.stderr();
            let first = complaints(&stderr).next().unwrap_or_default();
            assert!(first.ends_with(&told.line(code)), "{code}: the first line is {first}");
        }
        told
    } else {
        host.send(request(0, "initialize", initialize_params("2025-11-25"))).await;
        let line = host.told_line(&details(code)).await;
        let (sentence, rest) = line.split_once(". Tip: ").unwrap();
        let action = rest.strip_suffix(&format!(" {}", details(code))).unwrap();
        let actions = [Code::of(code).unwrap().entry().action, Some(NAME_THE_ADDRESS)];
        assert!(actions.contains(&Some(action)), "{code}: {line}");
        let (_, sentence) = sentence.split_once("] warning: ").unwrap();
        Told { sentence: sentence.to_owned(), hint: action.to_owned() }
    };
    for piece in case.says {
        let piece = piece.replace("{host}", &stage.host_name()).replace("{pid}", &std::process::id().to_string());
        assert!(told.sentence.contains(&piece), "{code}: no {piece:?} in {told:?}");
    }
    assert!(told.hint.contains(case.does), "{code}: no {:?} in {told:?}", case.does);
    if case.places.contains(&Page) {
        let page = stage.browser.as_ref().unwrap().page().await;
        check_page(&page.body, code, &told, &stage.host_name());
    }
    host.end_input();
    host.exit().await;
    let log = host.stderr();
    if let Some(line) = log.lines().find(|line| line.contains(&details(code))) {
        seen += &format!("\nLog of the host:\n  {line}\n");
    }
    for line in complaints(&host.stderr()) {
        assert!(line.contains("[Details: mcp-remote explain "), "{code}: nothing of the catalogue: {line}");
    }
    if !case.places.contains(&Answer) {
        assert_eq!(host.stderr().matches(&told.line(code)).count(), 1, "{code}: {}", host.stderr());
    }
    if case.places.contains(&Tool) {
        let shown = stage.run_client(&clients_home).await;
        let is_failure = |line: &str| line.starts_with("FAIL ") || line.starts_with("error: ");
        let failure = shown.lines().skip_while(|line| !is_failure(line));
        let failure: String =
            failure.take_while(|line| !line.starts_with("Failed at ")).map(|line| format!("  {line}\n")).collect();
        let details = format!("Details: mcp-remote explain {code}");
        if failure.contains(&details) || failure.starts_with("  error: ") {
            seen += &format!("\nTerminal (mcp-remote client):\n{}\n", failure.trim_end());
        }
        let shown = without_queries(&shown);
        // It is for reports, so the home has no name in it; and it meets a folder that cannot be written at
        // another file.
        let home = stage.home.path().to_str().unwrap();
        let sentence = if code == "store_not_writable" { String::new() } else { told.sentence.replace(home, "~") };
        // What the arguments alone make impossible has another form. The tip may be for a terminal instead of a host.
        if shown.starts_with(&without_queries(&format!("error: {sentence}\n\n  tip: "))) {
            return normal(&stage, &clients_home, &seen);
        }
        // It does not stay for a person to sign in.
        let hint = if code == "sign_in_needed" { START_AGAIN } else { &told.hint };
        for piece in
            [format!("{sentence}\n"), format!("Tip: {hint}\n"), format!("Details: mcp-remote explain {code}\n")]
        {
            assert!(shown.contains(&without_queries(&piece)), "{code}: no {piece:?} in {shown}");
        }
    }
    normal(&stage, &clients_home, &seen)
}

/// Replaces what differs from run to run: ports, times, process ids, keys, and the names of folders and of this program.
fn normal(stage: &Stage, clients_home: &TempDir, text: &str) -> String {
    let mut text = text.to_owned();
    for home in [stage.home.path(), clients_home.path()] {
        text = text.replace(home.to_str().unwrap(), "HOME");
    }
    if let Some(browser) = &stage.browser {
        text = text.replace(browser.command(), "BROWSER");
    }
    // The kernel keeps 15 bytes of a program's name.
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_str().unwrap();
    text = text.replace(&program[..program.len().min(15)], "PROGRAM");
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut words = Vec::new();
        let mut previous = "";
        for word in line.split(' ') {
            words.push(normal_word(previous, word));
            previous = word;
        }
        lines.push(words.join(" ").trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

/// Replaces runs of digits that are long enough for a port or a serial, process ids, and the queries of URLs.
fn normal_word(previous: &str, word: &str) -> String {
    let word = match word.split_once('?') {
        Some((url, _)) if url.starts_with("http") => format!("{url}?…"),
        _ => word.to_owned(),
    };
    let mut out = String::new();
    let mut digits = String::new();
    let is_hash = |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = match word.split(['/', '_']).find(is_hash) {
        Some(hash) => word.replace(hash, "HASH"),
        None => word.clone(),
    };
    for one in word.chars().chain([' ']) {
        if one.is_ascii_digit() {
            digits.push(one);
            continue;
        }
        // Statuses and versions are shorter, or are part of the protocol. A process id may have any length.
        let is_pid = out == "[" && one == ']' || previous == "process";
        out += if is_pid || digits.len() >= 4 && !["31000", "65535"].contains(&&*digits) { "N" } else { &digits };
        digits.clear();
        out.push(one);
    }
    out.trim_end().to_owned()
}

/// Speaks the host's part, up to the first error of ours.
async fn play(stage: &Stage, host: &mut Host) -> Value {
    for (id, step) in stage.script.iter().enumerate() {
        match step {
            Step::Ask(method) => {
                let params =
                    if *method == "initialize" { initialize_params("2025-11-25") } else { json!({"name": "a"}) };
                let answer = host.ask(id, method, params).await;
                if answer["error"].is_object() {
                    return answer;
                }
                if *method == "initialize" {
                    host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
                }
            }
            Step::Say(line) => host.send(line).await,
            Step::Close => host.end_input(),
        }
    }
    loop {
        let answer = host.json().await;
        if answer["error"].is_object() {
            return answer;
        }
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

// What can be broken.

fn scene(stage: impl Future<Output = Stage> + 'static) -> Scene {
    Box::pin(stage)
}

/// No patience with a server that is down.
const AT_ONCE: [&str; 2] = ["--retry-for", "0"];

/// A server that answers everything like this.
fn answering(reply: fn(&Request) -> Reply) -> Scene {
    answering_with(reply, &AT_ONCE)
}

fn answering_with(reply: fn(&Request) -> Reply, flags: &'static [&'static str]) -> Scene {
    scene(async move {
        let server = Server::with(reply).await;
        Stage::of(server.url("/mcp"), flags).keeping(server)
    })
}

/// A server that does what it should but for `tools/list`.
fn listing(reply: fn(&Request) -> Reply) -> Scene {
    listing_with(reply, &AT_ONCE)
}

fn listing_with(reply: fn(&Request) -> Reply, flags: &'static [&'static str]) -> Scene {
    scene(async move {
        let server =
            Server::with(move |request| if request.rpc() == "tools/list" { reply(request) } else { ordinary(request) });
        let server = server.await;
        Stage::of(server.url("/mcp"), flags).keeping(server).asking("tools/list")
    })
}

/// A protected server, changed, and a person who says yes.
fn protected(change: fn(&mut Settings), flags: &'static [&'static str]) -> Scene {
    scene(async move {
        let server = AuthorizationServer::with(change).await;
        Stage::of(server.url(), flags).keeping(server).with(Browser::consenting())
    })
}

/// The authorization server is at another name than the MCP server.
fn called_localhost(settings: &mut Settings) {
    let other = |url: &str| url.replace("127.0.0.1", "localhost");
    settings.edit_prm = edit(move |document, at| document["authorization_servers"] = json!([other(&at.authorization)]));
    settings.edit_metadata = edit(move |document, at| {
        document["issuer"] = json!(other(&at.authorization));
    });
}

/// The authorization server comes back with an error.
fn denying(error: &'static str, description: &'static str) -> Scene {
    scene(async move {
        let server =
            AuthorizationServer::with(|settings| settings.denies = Some((error.into(), description.into()))).await;
        Stage::of(server.url(), &[]).keeping(server).with(Browser::consenting())
    })
}

/// A file of the store holds this.
fn damaged(name: &'static str, content: &'static str) -> Scene {
    scene(async move {
        let server = AuthorizationServer::start(Settings::default()).await;
        let stage = Stage::of(server.url(), &[]).keeping(server).with(Browser::consenting());
        std::fs::create_dir_all(stored::folder(stage.home.path())).unwrap();
        std::fs::write(stored::file(stage.home.path(), &stage.arguments[0], name), content).unwrap();
        stage
    })
}

/// The token endpoint answers like this.
fn exchanging(reply: fn() -> Reply) -> Scene {
    scene(async move {
        let server = AuthorizationServer::with(move |settings| {
            settings.first = Arc::new(move |request| (request.path == "/oauth/token").then(reply));
        });
        let server = server.await;
        Stage::of(server.url(), &[]).keeping(server).with(Browser::consenting())
    })
}

/// The registration endpoint answers like this.
fn registering(reply: fn() -> Reply, flags: &'static [&'static str]) -> Scene {
    scene(async move {
        let server = AuthorizationServer::with(move |settings| {
            settings.first = Arc::new(move |request| (request.path == "/oauth/register").then(reply));
        });
        let server = server.await;
        Stage::of(server.url(), flags).keeping(server).with(Browser::consenting())
    })
}

/// A private authority.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(organization: &str, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> String {
        self.folder.path().join("ca.pem").to_str().unwrap().to_owned()
    }

    /// A server's certificate, changed.
    fn config(&self, names: &[&str], change: fn(&mut CertificateParams), clients: Option<&Self>) -> ServerConfig {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(authority.issuer.der().to_vec())).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], key).unwrap()
    }
}

/// A port that speaks TLS, with an ordinary server behind it.
async fn tls(config: ServerConfig) -> (u16, impl Any) {
    let server = Server::with(ordinary).await;
    let (behind, acceptor) = (server.port, TlsAcceptor::from(Arc::new(config)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            open.spawn(async move {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(mut stream) => {
                        let Ok(mut behind) = TcpStream::connect(("127.0.0.1", behind)).await else { return };
                        _ = copy_bidirectional(&mut stream, &mut behind).await;
                    }
                    Err((_, mut refused)) => {
                        // What is unread at the close would turn our alert into a reset.
                        _ = refused.shutdown().await;
                        _ = tokio::io::copy(&mut refused, &mut tokio::io::sink()).await;
                    }
                }
            });
        }
    });
    (port, (server, tasks))
}

/// A server with a certificate of a private authority, which is trusted unless it is the fault.
fn certified(
    host: &'static str,
    names: &'static [&'static str],
    change: fn(&mut CertificateParams),
    is_trusted: bool,
) -> Scene {
    scene(async move {
        let authority = Authority::new("Example Corp", "TLS Inspection");
        let (port, kept) = tls(authority.config(names, change, None)).await;
        let ca = authority.file();
        let flags: &[&str] = if is_trusted { &["--ca-cert", &ca] } else { &[] };
        Stage::of(format!("https://{host}:{port}/mcp"), flags).keeping(kept).keeping(authority)
    })
}

/// A server whose certificate names itself as the issuer.
fn self_signed(is_ca: IsCa) -> Scene {
    scene(async move {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "mcp.internal");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let (port, kept) = tls(config).await;
        Stage::of(format!("https://127.0.0.1:{port}/mcp"), &[]).keeping(kept)
    })
}

/// A far server, and a proxy that says no.
fn through_proxy(reply: fn(&Request) -> Reply) -> Scene {
    scene(async move {
        let proxy = Server::with(reply).await;
        let address = proxy.url("");
        Stage::of("https://far.example/mcp", &["--proxy", &address, "--retry-for", "0"]).keeping(proxy)
    })
}

const KNOWN: &str = r#"{"client_id":"known"}"#;

const CASES: &[Case] = &[
    // The arguments.
    Case {
        code: "bad_arguments",
        set_up: || scene(async { Stage::of("https://a.example/mcp", &["--heder", "a:b"]) }),
        says: &["unexpected argument '--heder' found"],
        does: "a similar argument exists: '--header'",
        places: ANSWERS,
    },
    Case {
        code: "mangled_arguments",
        set_up: || {
            scene(async { Stage::of("https://a.example/mcp", &["--header", "Authorization:", "Bearer", "hush"]) })
        },
        says: &["a header has lost its value"],
        does: "--header \"Authorization:${AUTH}\"",
        places: ANSWERS,
    },
    Case {
        code: "variable_not_set",
        set_up: || scene(async { Stage::of("https://a.example/mcp", &["--header", "Authorization:${STRIPPED}"]) }),
        says: &["--header (Authorization)", "the environment variable STRIPPED, which is not set"],
        does: "\"env\"",
        places: ANSWERS,
    },
    // The way to the server.
    Case {
        code: "name_not_found",
        // Longer than a label may be (RFC 1035 §2.3.4): no resolver asks anybody.
        set_up: || {
            let url = format!("http://{}.example/mcp", "n".repeat(64));
            scene(async { Stage::of(url, &["--allow-http", "--retry-for", "0"]) })
        },
        says: &["cannot resolve the host name nnnn"],
        does: "check the host name",
        places: ANSWERS,
    },
    Case {
        code: "cannot_connect",
        set_up: || scene(async { Stage::of(format!("http://127.0.0.1:{}/mcp", reserved_port().await), &AT_ONCE) }),
        says: &["cannot connect to {host}: connection refused"],
        does: "the server is running",
        places: ANSWERS,
    },
    Case {
        code: "proxy_unreachable",
        set_up: || {
            scene(async {
                let proxy = format!("http://127.0.0.1:{}", reserved_port().await);
                Stage::of("https://server.example/mcp".to_owned(), &["--proxy", &proxy, "--retry-for", "0"])
            })
        },
        says: &["cannot connect to the proxy 127.0.0.1:", "for {host}: connection refused"],
        does: "--proxy, HTTPS_PROXY or HTTP_PROXY",
        places: ANSWERS,
    },
    Case {
        code: "proxy_refused",
        set_up: || through_proxy(|_| Reply::empty(407)),
        says: &["the proxy requires authentication to connect to {host}"],
        does: "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
        places: ANSWERS,
    },
    Case {
        code: "proxy_forbids",
        set_up: || through_proxy(|_| Reply::Raw(b"HTTP/1.1 403 Blocked by policy\r\ncontent-length: 0\r\n\r\n".into())),
        says: &["the proxy refused to connect to {host} (\"HTTP/1.1 403 Blocked by policy\")"],
        does: "NO_PROXY",
        places: ANSWERS,
    },
    Case {
        code: "certificate_not_trusted",
        set_up: || certified("127.0.0.1", &["127.0.0.1"], |_| {}, false),
        says: &[
            "the certificate of {host} was issued by Example Corp / TLS Inspection, which this computer does not trust",
        ],
        does: "--ca-cert FILE",
        places: ANSWERS,
    },
    Case {
        code: "no_ca_certificates",
        set_up: || {
            scene(async {
                let mut stage = certified("127.0.0.1", &["127.0.0.1"], |_| {}, false).await;
                let none = tempfile::tempdir().unwrap();
                stage.environment.push(("SSL_CERT_DIR".into(), none.path().to_str().unwrap().into()));
                stage.keeping(none)
            })
        },
        says: &["cannot check the certificate of {host}, because this computer has no CA certificates"],
        does: "install the package ca-certificates",
        places: ANSWERS,
    },
    // As `openssl req -x509` makes it: its own issuer, and a certificate authority's.
    Case {
        code: "certificate_not_trusted",
        set_up: || self_signed(IsCa::Ca(BasicConstraints::Unconstrained)),
        says: &["the certificate of {host} is self-signed (subject: mcp.internal)"],
        does: "save that certificate in a PEM file and trust it: --ca-cert FILE",
        places: ANSWERS,
    },
    Case {
        code: "certificate_not_trusted",
        set_up: || self_signed(IsCa::ExplicitNoCa),
        says: &["the certificate of {host} is self-signed (subject: mcp.internal)"],
        does: "--ca-cert FILE",
        places: ANSWERS,
    },
    Case {
        code: "certificate_expired",
        set_up: || {
            certified(
                "127.0.0.1",
                &["127.0.0.1"],
                |params| (params.not_before, params.not_after) = (date_time_ymd(2001, 2, 3), date_time_ymd(2002, 3, 4)),
                true,
            )
        },
        says: &["the certificate of {host} expired on 2002-03-04"],
        does: "clock",
        places: ANSWERS,
    },
    Case {
        code: "certificate_expired",
        set_up: || {
            certified(
                "127.0.0.1",
                &["127.0.0.1"],
                |params| (params.not_before, params.not_after) = (date_time_ymd(4001, 2, 3), date_time_ymd(4002, 3, 4)),
                true,
            )
        },
        says: &["the certificate of {host} is not valid before 4001-02-03"],
        does: "clock",
        places: ANSWERS,
    },
    Case {
        code: "certificate_wrong_name",
        set_up: || certified("localhost", &["far.example", "127.0.0.1"], |_| {}, true),
        says: &["the certificate of {host} is only valid for far.example, 127.0.0.1"],
        does: "use a host name of the certificate",
        places: ANSWERS,
    },
    Case {
        code: "client_certificate_needed",
        set_up: || {
            scene(async {
                let (authority, clients) = (Authority::new("private", "a"), Authority::new("clients", "b"));
                let (port, kept) = tls(authority.config(&["127.0.0.1"], |_| {}, Some(&clients))).await;
                let url = format!("https://127.0.0.1:{port}/mcp");
                Stage::of(url, &["--ca-cert", &authority.file()]).keeping(kept).keeping(authority)
            })
        },
        says: &["{host} requires a client certificate"],
        does: "--client-cert FILE --client-key FILE",
        places: ANSWERS,
    },
    Case {
        code: "tls_failed",
        set_up: || {
            scene(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let url = format!("https://{}/mcp", listener.local_addr().unwrap());
                let mut tasks = JoinSet::new();
                tasks.spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        _ = stream.read(&mut [0; 16 * 1024]).await;
                        _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
                Stage::of(url, &AT_ONCE).keeping(tasks)
            })
        },
        says: &["the server at {host} speaks http, not https"],
        does: "change https:// to http://",
        places: ANSWERS,
    },
    Case {
        code: "timed_out",
        set_up: || answering_with(|_| Reply::Hang, &["--headers-timeout", "0.2", "--retry-for", "0"]),
        says: &["{host} sent no response headers within 0.2 s"],
        does: "--headers-timeout",
        places: ANSWERS,
    },
    Case {
        code: "connection_broken",
        set_up: || {
            scene(async {
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
                let server = Server::with(move |request| match request.rpc().as_str() {
                    "tools/call" => Reply::Raw(head.to_vec()),
                    _ => ordinary(request),
                });
                let server = server.await;
                Stage::of(server.url("/mcp"), &AT_ONCE).keeping(server).asking("tools/call")
            })
        },
        says: &["the connection to {host} broke"],
        does: "check whether the server did what you asked",
        places: HOSTS,
    },
    Case {
        code: "connection_broken",
        set_up: || answering(|_| Reply::Close),
        says: &["the connection to {host} broke"],
        does: "the server URL: its scheme (http or https)",
        places: ANSWERS,
    },
    Case {
        code: "authorization_server_unreachable",
        set_up: || {
            scene(async {
                let authority = Authority::new("Example Corp", "TLS Inspection");
                let (port, kept) = tls(authority.config(&["127.0.0.1"], |_| {}, None)).await;
                let issuer = format!("https://127.0.0.1:{port}");
                let server = AuthorizationServer::with(|settings| {
                    settings.edit_prm =
                        edit(move |document, _| document["authorization_servers"] = json!([issuer.clone()]));
                });
                let server = server.await;
                Stage::of(server.url(), &[]).keeping(server).keeping(kept)
            })
        },
        says: &[
            "cannot sign in to {host}: the authorization server 127.0.0.1:",
            "is not available: its certificate was issued by Example Corp / TLS Inspection",
        ],
        does: "--ca-cert FILE",
        places: ANSWERS,
    },
    Case {
        code: "authorization_server_unreachable",
        set_up: || exchanging(|| Reply::Close),
        says: &[
            "the authorization server 127.0.0.1:",
            "did not complete the code exchange (the connection was closed), and may have used the code",
        ],
        does: "sign in again",
        places: EVERYWHERE,
    },
    // The sign-in.
    Case {
        code: "sign_in_needed",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::start(Settings::default()).await;
                Stage::of(server.url(), &["--auth-timeout", "1"]).keeping(server).with(Browser::waiting())
            })
        },
        says: &["{host} needs you to sign in with 127.0.0.1:", ": open http://127.0.0.1:", " in your browser"],
        does: "sign in on that page",
        places: ANSWERS,
    },
    Case {
        code: "sign_in_timed_out",
        set_up: || {
            protected(
                |settings| (settings.devices, settings.device_polls) = (true, vec!["expired_token"; 9]),
                &["--device-code"],
            )
        },
        says: &["{host}", "expired_token"],
        does: "mcp-remote login",
        places: ANSWERS,
    },
    Case {
        code: "sign_in_denied",
        set_up: || denying("access_denied", "the <user> said \"no\""),
        says: &["{host}", "access_denied (\"the <user> said \"no\"\")"],
        does: "allow access",
        places: EVERYWHERE,
    },
    Case {
        code: "no_browser",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::start(Settings::default()).await;
                let mut stage = Stage::of(server.url(), &["--auth-timeout", "4"]).keeping(server);
                stage.environment.push(("CI".into(), "true".into()));
                stage
            })
        },
        says: &["cannot open a browser for the sign-in to {host}", "continuous integration"],
        does: "mcp-remote finish",
        places: WARNING,
    },
    Case {
        code: "no_refresh_token",
        set_up: || protected(|settings| settings.refresh_tokens = false, &[]),
        says: &["your sign-in to {host} expires in 60 min", "issued no refresh token"],
        does: "offline",
        places: WARNING,
    },
    Case {
        code: "no_refresh_token",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::start(Settings::default()).await;
                let stage = Stage::of(server.url(), &["--auth-timeout", "1"]).with(Browser::waiting());
                let ended = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 9, "expires_at": 9});
                stored::write(stage.home.path(), &server.url(), "tokens.json", &ended);
                stage.keeping(server)
            })
        },
        says: &["your sign-in to {host} expired", "no refresh token to renew it"],
        does: "offline",
        places: WARNING,
    },
    Case {
        code: "credential_refused",
        set_up: || {
            answering_with(|_| Reply::status(401, "text/plain", "bad key"), &["--header", "Authorization: Bearer hush"])
        },
        says: &["{host} rejected the credential passed with --header: HTTP 401 Unauthorized (\"bad key\")"],
        does: "the header Authorization",
        places: ANSWERS,
    },
    Case {
        code: "unauthorized",
        set_up: || {
            answering(|request| {
                let is_mcp = request.path == "/mcp";
                if is_mcp { Reply::status(401, "text/plain", "key, please") } else { Reply::empty(404) }
            })
        },
        says: &["{host} answered HTTP 401", "key, please"],
        does: "--header \"Authorization:${AUTH}\"",
        places: ANSWERS,
    },
    Case {
        code: "unauthorized",
        set_up: || answering_with(|_| Reply::status(401, "text/plain", "bad key"), &["--header", "X-Api-Key: hush"]),
        says: &["{host} answered HTTP 401", "bad key"],
        does: "the name and value of each --header",
        places: ANSWERS,
    },
    Case {
        code: "insufficient_scope",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::with(|settings| {
                    settings.tool_scopes = vec![("a".into(), "admin".into())];
                    settings.grants = Some("read".into());
                });
                let server = server.await;
                Stage::of(server.url(), &[]).keeping(server).with(Browser::consenting()).asking("tools/call")
            })
        },
        says: &["{host}", "admin"],
        does: "ask the server's operator for access",
        places: HOSTS,
    },
    Case {
        code: "token_refused",
        set_up: || {
            protected(
                |settings| {
                    settings.challenges = vec!["Bearer".into()];
                    settings.first = Arc::new(|request| {
                        let wrong = r#"Bearer error="invalid_token", error_description="not for me""#;
                        (request.path == "/mcp" && request.header("authorization").is_some())
                            .then(|| Reply::empty(401).with("www-authenticate", wrong))
                    });
                },
                &[],
            )
        },
        says: &["{host}", "not for me"],
        does: "--resource",
        places: ANSWERS,
    },
    Case {
        code: "token_refused",
        set_up: || {
            protected(
                |settings| {
                    settings.challenges = vec!["Bearer".into()];
                    settings.first = Arc::new(|request| {
                        (request.path == "/mcp" && request.header("authorization").is_some())
                            .then(|| Reply::status(401, "text/plain", "not this audience"))
                    });
                },
                &[],
            )
        },
        says: &["{host}", "not this audience"],
        does: "--resource",
        places: ANSWERS,
    },
    Case {
        code: "registration_refused",
        set_up: || registering(|| refusal(403, "access_denied", "not without an invitation"), &[]),
        says: &["{host}", "rejected the client registration", "not without an invitation"],
        does: "--static-oauth-client-info @FILE",
        places: ANSWERS,
    },
    Case {
        code: "registration_refused",
        set_up: || registering(|| Reply::status(403, "text/html", "<title>Forbidden here</title>"), &[]),
        says: &["{host}", "the client registration failed: HTTP 403 (\"Forbidden here\")"],
        does: "--static-oauth-client-info @FILE",
        places: ANSWERS,
    },
    Case {
        code: "registration_busy",
        set_up: || registering(|| refusal(429, "too_many", "come back").with("retry-after", "1800"), &[]),
        says: &["{host}", "too busy to register a client for the next 30 min"],
        does: "mcp-remote login",
        places: ANSWERS,
    },
    Case {
        code: "no_client",
        set_up: || {
            protected(
                |settings| {
                    settings.edit_metadata =
                        edit(|document, _| _ = document.as_object_mut().unwrap().remove("registration_endpoint"));
                },
                &[],
            )
        },
        says: &["{host}", "does not support dynamic client registration"],
        does: "--static-oauth-client-info @FILE",
        places: ANSWERS,
    },
    Case {
        code: "unknown_client",
        set_up: || denying("unauthorized_client", "who?"),
        says: &["{host}", "unauthorized_client (\"who?\")"],
        does: "--static-oauth-client-info",
        places: EVERYWHERE,
    },
    Case {
        code: "unknown_client",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::start(Settings::default()).await;
                let flags = ["--static-oauth-client-info", KNOWN, "--auth-timeout", "4"];
                Stage::of(server.url(), &flags).keeping(server).with(Browser::waiting())
            })
        },
        says: &["{host}", "rejected opening the sign-in page: HTTP 400 (\"Unknown client\")"],
        does: "--static-oauth-client-info",
        places: WARNING,
    },
    Case {
        code: "unknown_client",
        set_up: || exchanging(|| refusal(401, "invalid_client", "there is no such client")),
        says: &["{host}", "invalid_client (\"there is no such client\")"],
        does: "mcp-remote logout",
        places: EVERYWHERE,
    },
    Case {
        code: "other_issuer",
        set_up: || {
            protected(|_| {}, &["--static-oauth-client-info", r#"{"client_id":"known","issuer":"https://as.example"}"#])
        },
        says: &["{host}", "https://as.example"],
        does: "--static-oauth-client-info",
        places: ANSWERS,
    },
    Case {
        code: "foreign_sign_in_page",
        set_up: || {
            let page = |settings: &mut Settings| {
                settings.edit_metadata = edit(|document, _| {
                    document["authorization_endpoint"] = json!("https://login.honest.example/authorize");
                });
            };
            protected(page, &[])
        },
        says: &["{host}", "sends you to sign in with login.honest.example, which is another site"],
        does: "--sign-in-host HOST",
        places: ANSWERS,
    },
    Case {
        code: "issuer_not_named",
        set_up: || protected(called_localhost, &["--assertion-file", "/no/such/file"]),
        says: &["{host}", "http://localhost:", "which the platform's assertion may not be for"],
        does: "--issuer URL",
        places: ANSWERS,
    },
    Case {
        code: "issuer_not_named",
        set_up: || {
            let with_client = |settings: &mut Settings| {
                called_localhost(settings);
                settings.clients = vec![Client::confidential("known", "s", "client_secret_post")];
            };
            protected(with_client, &["--static-oauth-client-info", r#"{"client_id":"known","client_secret":"s"}"#])
        },
        says: &["mcp-remote sends your client_secret to http://localhost:", "which only 127.0.0.1:"],
        does: "--issuer URL",
        places: WARNING,
    },
    Case {
        code: "redirect_uri_refused",
        set_up: || registering(|| refusal(400, "invalid_redirect_uri", "must be 127.0.0.1"), &[]),
        says: &["{host}", "http://localhost:", "must be 127.0.0.1"],
        does: "--host 127.0.0.1",
        places: ANSWERS,
    },
    Case {
        code: "redirect_uri_refused",
        set_up: || registering(|| refusal(400, "invalid_redirect_uri", "localhost only"), &["--host", "127.0.0.1"]),
        says: &["{host}", "http://127.0.0.1:", "localhost only"],
        does: "--host localhost",
        places: ANSWERS,
    },
    Case {
        code: "redirect_uri_refused",
        set_up: || denying("invalid_request", "AADSTS50011: The redirect URI does not match"),
        says: &["{host}", "http://localhost:", "AADSTS50011"],
        does: "--host 127.0.0.1",
        places: EVERYWHERE,
    },
    Case {
        code: "redirect_uri_refused",
        set_up: || {
            scene(async {
                let elsewhere = vec!["http://localhost:1/elsewhere".to_owned()];
                let server = AuthorizationServer::with(|settings| {
                    settings.clients = vec![Client { redirect_uris: elsewhere, ..Client::public("known") }];
                });
                let server = server.await;
                let flags = ["--static-oauth-client-info", KNOWN, "--callback-path", "/other", "--auth-timeout", "4"];
                Stage::of(server.url(), &flags).keeping(server).with(Browser::waiting())
            })
        },
        says: &["{host}", "rejected the redirect URI", "/other: ", "Redirect URI is not registered"],
        does: "--host 127.0.0.1",
        places: WARNING,
    },
    Case {
        code: "scope_refused",
        set_up: || denying("invalid_scope", "no such scope"),
        says: &["{host}", "invalid_scope (\"no such scope\")"],
        does: "--static-oauth-client-metadata",
        places: EVERYWHERE,
    },
    Case {
        code: "resource_refused",
        set_up: || denying("invalid_target", "what resource?"),
        says: &["{host}", "invalid_target (\"what resource?\")"],
        does: "--disable-resource-parameter",
        places: EVERYWHERE,
    },
    Case {
        code: "resource_refused",
        set_up: || exchanging(|| refusal(400, "invalid_request", "AADSTS9010010: resource and scope do not match")),
        says: &["{host}", "AADSTS9010010"],
        does: "--disable-resource-parameter",
        places: EVERYWHERE,
    },
    Case {
        code: "resource_mismatch",
        set_up: || {
            protected(
                |settings| {
                    settings.edit_prm = edit(|document, _| document["resource"] = json!("https://other.example"))
                },
                &[],
            )
        },
        says: &["{host}", "https://other.example"],
        does: "use the URL from the metadata",
        places: ANSWERS,
    },
    Case {
        code: "wrong_issuer",
        set_up: || protected(|settings| settings.iss = Iss::Is("https://evil.example".into()), &[]),
        says: &["{host}", "another authorization server, not from http://127.0.0.1:"],
        does: "try again",
        places: EVERYWHERE,
    },
    Case {
        code: "no_pkce",
        set_up: || {
            protected(
                |settings| {
                    settings.edit_metadata = edit(|document, _| {
                        document.as_object_mut().unwrap().remove("code_challenge_methods_supported");
                    });
                },
                &[],
            )
        },
        says: &["cannot sign in", "does not advertise PKCE with S256"],
        does: "--assume-pkce",
        places: ANSWERS,
    },
    Case {
        code: "grant_not_offered",
        set_up: || protected(|_| {}, &["--device-code"]),
        says: &["{host}", "does not support the device code sign-in"],
        does: "remove the flag",
        places: ANSWERS,
    },
    Case {
        code: "bad_metadata",
        set_up: || protected(|settings| settings.metadata_path = None, &[]),
        says: &["{host}", "publishes no authorization server metadata"],
        does: "--authorization-endpoint URL --token-endpoint URL",
        places: ANSWERS,
    },
    Case {
        code: "bad_metadata",
        set_up: || {
            protected(|settings| settings.edit_metadata = edit(|document, _| document["issuer"] = json!(7)), &[])
        },
        says: &["{host}", "its member issuer is a number instead of a string"],
        does: "report this to the server's maintainers",
        places: ANSWERS,
    },
    Case {
        code: "bad_address",
        set_up: || {
            protected(
                |settings| {
                    settings.edit_prm =
                        edit(|document, _| document["authorization_servers"] = json!(["http://as.example"]));
                },
                &[],
            )
        },
        says: &["{host}", "the authorization server is not usable", "http://as.example is not encrypted"],
        does: "maintainers",
        places: ANSWERS,
    },
    Case {
        code: "private_address",
        // A far server, played by a proxy.
        set_up: || {
            scene(async {
                let proxy = Server::with(|request| match request.path.as_str() {
                    "http://far.example/mcp" => Reply::empty(401).with("www-authenticate", "Bearer"),
                    "http://far.example/.well-known/oauth-protected-resource/mcp" => Reply::json(
                        json!({"resource": "http://far.example/mcp", "authorization_servers": ["https://10.0.0.1"]}),
                    ),
                    _ => Reply::empty(404),
                });
                let proxy = proxy.await;
                let address = proxy.url("");
                Stage::of("http://far.example/mcp", &["--allow-http", "--proxy", &address]).keeping(proxy)
            })
        },
        says: &["{host}", "the authorization server is not usable", "10.0.0.1"],
        does: "--allow-private-addresses",
        places: ANSWERS,
    },
    Case {
        code: "authorization_server_failed",
        set_up: || exchanging(|| Reply::status(500, "text/plain", "out of order")),
        says: &["{host}", "the authorization code exchange failed", "HTTP 500 (\"out of order\")"],
        does: "try again later",
        places: EVERYWHERE,
    },
    Case {
        code: "sign_in_refused",
        set_up: || denying("temporarily_unavailable", "on holiday"),
        says: &["{host}", "temporarily_unavailable (\"on holiday\")"],
        does: "mcp-remote login",
        places: EVERYWHERE,
    },
    Case {
        code: "sign_in_failed",
        set_up: || protected(|_| {}, &["--assertion-file", "/no/such/file"]),
        says: &["{host}", "cannot read /no/such/file (--assertion-file): No such file or directory"],
        does: "fix that file",
        places: ANSWERS,
    },
    // The server's answers.
    Case {
        code: "not_mcp",
        set_up: || answering(|_| Reply::status(200, "text/html", "<html><title>Welcome to our site</title></html>")),
        says: &["{host} returned text/html (\"Welcome to our site\") instead of an MCP response"],
        does: "the path",
        places: ANSWERS,
    },
    // A web server for files only knows GET.
    Case {
        code: "not_mcp",
        set_up: || answering(|_| Reply::status(501, "text/html", "<title>Unsupported method</title>")),
        says: &["{host} answered HTTP 501 Not Implemented (\"Unsupported method\")"],
        does: "the path",
        places: ANSWERS,
    },
    Case {
        code: "no_transport",
        set_up: || answering(|_| Reply::status(404, "text/plain", "no such page")),
        says: &["{host} answered HTTP 404", "no such page"],
        does: "/mcp or /sse",
        places: ANSWERS,
    },
    Case {
        code: "not_found",
        set_up: || answering_with(|_| Reply::empty(404), &["--transport", "http-only", "--retry-for", "0"]),
        says: &["{host} answered HTTP 404"],
        does: "/mcp or /sse",
        places: ANSWERS,
    },
    Case {
        code: "redirected",
        set_up: || answering(|_| Reply::empty(307).with("location", "https://elsewhere.example/mcp")),
        says: &["{host} redirects (HTTP 307) to https://elsewhere.example/mcp"],
        does: "use the new URL",
        places: ANSWERS,
    },
    Case {
        code: "forbidden",
        set_up: || answering(|_| Reply::status(403, "text/plain", "members only")),
        says: &["{host} answered HTTP 403", "members only"],
        does: "ask the server's operator for access",
        places: ANSWERS,
    },
    Case {
        code: "web_sign_in",
        set_up: || {
            answering(|_| Reply::empty(302).with("location", "https://a.cloudflareaccess.com/cdn-cgi/access/login"))
        },
        says: &["a web sign-in protects {host}, which redirects to https://a.cloudflareaccess.com/", "(HTTP 302)"],
        does: "exempt the path of this URL",
        places: ANSWERS,
    },
    Case {
        code: "bot_filter",
        set_up: || answering(|_| Reply::status(403, "text/plain", "error code: 1010")),
        says: &["a bot filter in front of {host}", "answered HTTP 403 Forbidden (\"error code: 1010\")"],
        does: "exempt the path of this URL from the bot filter",
        places: ANSWERS,
    },
    Case {
        code: "too_many_requests",
        set_up: || answering(|_| Reply::status(429, "text/plain", "slow down").with("retry-after", "3600")),
        says: &["{host} answered HTTP 429", "slow down"],
        does: "wait",
        places: ANSWERS,
    },
    Case {
        code: "server_failed",
        set_up: || answering(|_| Reply::status(500, "text/plain", "out of order")),
        says: &["{host} answered HTTP 500", "out of order"],
        does: "try again later",
        places: ANSWERS,
    },
    Case {
        code: "refused",
        set_up: || answering(|_| Reply::status(418, "text/plain", "I am a teapot")),
        says: &["{host} answered HTTP 418", "I am a teapot"],
        does: "the headers passed with --header",
        places: ANSWERS,
    },
    Case {
        code: "session_lost",
        set_up: || {
            scene(async {
                let begun = AtomicBool::new(false);
                let server = Server::with(move |request| match request.rpc().as_str() {
                    "initialize" if begun.swap(true, Relaxed) => Reply::json(
                        json!({"jsonrpc": "2.0", "id": request.json()["id"], "error": {"code": 1, "message": "full up"}}),
                    ),
                    "tools/list" => Reply::empty(404),
                    _ => ordinary(request),
                });
                let server = server.await;
                Stage::of(server.url("/mcp"), &AT_ONCE).keeping(server).asking("tools/list")
            })
        },
        says: &["{host} lost the session and rejected a new one: \"full up\""],
        does: "restart this server's entry",
        places: HOSTS,
    },
    Case {
        code: "no_answer",
        set_up: || listing(|_| Reply::empty(202)),
        says: &["{host}"],
        does: "try again: the request only reads",
        places: ANSWERS,
    },
    Case {
        code: "no_answer",
        set_up: || {
            scene(async {
                let server = Server::with(|request| match &*request.rpc() {
                    "tools/call" => Reply::empty(202),
                    _ => ordinary(request),
                });
                let server = server.await;
                Stage::of(server.url("/mcp"), &AT_ONCE).keeping(server).asking("tools/call")
            })
        },
        says: &["{host}"],
        does: "check whether the server did what you asked",
        places: HOSTS,
    },
    Case {
        code: "no_answer",
        set_up: || answering(|_| Reply::empty(202)),
        says: &["{host}"],
        does: "the server URL: its scheme (http or https)",
        places: ANSWERS,
    },
    Case {
        code: "no_event_stream",
        set_up: || {
            scene(async {
                let (server, _) = EventStreams::serve(|_, _| Some(Reply::event_text(": nothing to say\n\n"))).await;
                let flags = ["--transport", "sse-only", "--retry-for", "0"];
                Stage::of(server.url("/sse"), &flags).keeping(server)
            })
        },
        says: &["{host}"],
        does: "--transport http-only",
        places: ANSWERS,
    },
    Case {
        code: "bad_message",
        set_up: || listing(|_| Reply::json("{\"jsonrpc\":")),
        says: &["{host} sent an invalid response"],
        does: "the server's maintainers",
        places: ANSWERS,
    },
    Case {
        code: "too_large",
        set_up: || {
            listing_with(
                |request| Reply::json(answer(request, format!("\"{}\"", "x".repeat(9000)))),
                &["--max-message-size", "4096"],
            )
        },
        says: &["{host} sent a response of more than 4096 bytes"],
        does: "--max-message-size",
        places: ANSWERS,
    },
    // This computer.
    Case {
        code: "port_taken",
        set_up: || {
            scene(async {
                // By the test, which is another process than the adapter.
                let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = taken.local_addr().unwrap().port().to_string();
                let server = AuthorizationServer::with(|settings| settings.clients = vec![Client::public("known")]);
                let server = server.await;
                let flags = [port.as_str(), "--static-oauth-client-info", KNOWN];
                Stage::of(server.url(), &flags).keeping(server).keeping(taken).with(Browser::consenting())
            })
        },
        says: if cfg!(target_os = "linux") {
            &["cannot listen on callback port ", " for the sign-in to {host}: process {pid} (it-", " uses it"]
        } else {
            &["cannot listen on callback port ", " for the sign-in to {host}"]
        },
        does: "write another port",
        places: ANSWERS,
    },
    Case {
        code: "store_not_writable",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::start(Settings::default()).await;
                let stage = Stage::of(server.url(), &[]).keeping(server).with(Browser::consenting());
                // A file where the folder should be; permissions would not stop root.
                std::fs::write(stored::folder(stage.home.path()), "").unwrap();
                stage
            })
        },
        says: &["not stored: cannot write ", "mcp-remote-v1", "File exists"],
        does: "--config-dir FOLDER",
        places: WARNING,
    },
    Case {
        code: "store_damaged",
        set_up: || damaged("tokens.json", "{\"access_token\":"),
        says: &["tokens.json is damaged and is ignored"],
        does: "delete that file",
        places: WARNING,
    },
    Case {
        code: "store_damaged",
        set_up: || damaged("registrations.json", "[["),
        says: &["registrations.json is damaged and is ignored"],
        does: "delete that file",
        places: WARNING,
    },
    Case {
        code: "store_unavailable",
        set_up: || {
            scene(async {
                let server = AuthorizationServer::start(Settings::default()).await;
                let stage = Stage::of(server.url(), &[]).keeping(server).with(Browser::consenting());
                std::fs::create_dir_all(stored::folder(stage.home.path())).unwrap();
                let file = stored::file(stage.home.path(), &stage.arguments[0], "tokens.json");
                std::os::unix::fs::symlink(&file, &file).unwrap(); // permissions would not stop root
                stage
            })
        },
        says: &["cannot read ", "tokens.json: "],
        does: "check that file or its disk",
        places: ANSWERS,
    },
    Case {
        code: "session_replaced",
        set_up: || {
            scene(async {
                let mut stage = listing(|_| Reply::Hang).await;
                let again = request("again", "initialize", initialize_params("2025-11-25"));
                stage.script = vec![
                    Step::Ask("initialize"),
                    Step::Say(request("slow", "tools/list", json!({}))),
                    Step::Say(again),
                ];
                stage
            })
        },
        says: &["the host started a new session"],
        does: "send the request again",
        places: &[Answer],
    },
    Case {
        code: "host_closed",
        set_up: || {
            scene(async {
                let mut stage = listing(|_| Reply::Hang).await;
                stage.script =
                    vec![Step::Ask("initialize"), Step::Say(request("slow", "tools/list", json!({}))), Step::Close];
                stage
            })
        },
        says: &["the host closed the connection"],
        does: "start this server's entry",
        places: &[Answer],
    },
];

/// Codes that no row has, and the file and the test that have them instead.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("protocol_version_not_shared", "src/forward/tests/provisional.rs", "other_version_passes_only_if_related"),
    ("input_required", "src/era/legacy_host/tests.rs", "refused_input_ends_call_and_other_requests"),
    ("bad_entry", "tests/it/diagnosis.rs", "host_entries_are_judged_without_secrets"),
    ("server_error", "tests/it/diagnosis.rs", "server_error_is_reported_with_its_message"),
    ("too_many", "src/forward/tests.rs", "request_beyond_limit_is_refused_until_answers"),
];

/// Compares the texts of all failures with those that were read and found good. `WRITE_MESSAGES=1` writes them anew.
fn compare(seen: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/failures.md");
    let seen = format!("# What users see of each failure\n\nWritten by `tests/it/catalogue.rs`.\n\n{seen}");
    if std::env::var_os("WRITE_MESSAGES").is_some() {
        std::fs::write(&file, &seen).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    for (seen, expected) in seen.split("\n## ").zip(expected.split("\n## ")) {
        assert_eq!(seen, expected, "\n--- is\n{seen}\n--- should be\n{expected}");
    }
    assert_eq!(seen.len(), expected.len());
}

/// Rows that are looked at side by side: each is two processes that mostly wait.
const SIDE_BY_SIDE: usize = 8;

#[tokio::test]
async fn failure_has_same_words_everywhere() {
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let all = async {
        let mut rows = JoinSet::new();
        for (index, case) in CASES.iter().enumerate() {
            let places = places.clone();
            rows.spawn_local(async move {
                let _place = places.acquire().await.unwrap();
                (index, check(case).await)
            });
        }
        let (mut failed, mut seen) = (0, std::collections::BTreeMap::new());
        while let Some(row) = rows.join_next().await {
            match row {
                Ok((index, text)) => _ = seen.insert(index, text),
                Err(_) => failed += 1, // what was wrong is told already
            }
        }
        assert_eq!(failed, 0, "of {} rows", CASES.len());
        compare(&seen.into_values().collect::<Vec<_>>().join("\n"));
    };
    LocalSet::new().run_until(all).await;
}

#[test]
fn every_catalogue_code_is_tested() {
    let met: BTreeSet<_> = CASES.iter().map(|case| case.code).chain(ELSEWHERE.iter().map(|(code, ..)| *code)).collect();
    let all: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.text).collect();
    assert_eq!(met, all);
    for (_, file, name) in ELSEWHERE {
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(&format!("fn {name}(")), "{file} has no {name}");
    }
}
