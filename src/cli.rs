//! The command line of npm's mcp-remote 0.15.1, and what a host's stripped environment makes
//! necessary beside it. Everything becomes a [`Config`] or one clear sentence.
//!
//! The only reader of the environment. Must never: put a secret into a message; let a typo pass
//! (npm ignores unknown flags, and then starts without the header somebody misspelt).

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value};

use crate::{
    config::{
        Authorization, Config, Dpop, Grant, Identity, LogMode, Network, PlainHttp, Protocol, ProxyChoice, Resource,
        ServerUrl, TransportStrategy,
    },
    secret::Secret,
    store,
    tools::ToolPattern,
};

/// What the arguments ask for.
#[derive(Debug)]
pub enum Command {
    /// Forward between a host on stdio and the server.
    Forward(Box<Config>),
    /// `mcp-remote-client`: show what the server has.
    Client(Box<Config>, Output),
    /// `--help` or `--version`.
    Print(String),
}

/// How `mcp-remote-client` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// Which of the two programs was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `mcp-remote`.
    Adapter,
    /// `mcp-remote-client`.
    Client,
}

/// Arguments that cannot be understood.
#[derive(Debug)]
pub struct Usage {
    /// The program that was meant.
    pub program: Program,
    /// One sentence for the user.
    pub sentence: String,
}

/// Environment variables, passed in.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// npm's default for `--ping-interval`.
const PING_INTERVAL: Duration = Duration::from_secs(30);

const CONNECTING: &str = "Connecting";
const NETWORK: &str = "Network";
const SIGN_IN: &str = "Signing in (obtaining authorization)";
const CLIENT: &str = "Who we are to the authorization server";
const LIMITS: &str = "Limits and recovery";
const LOGS: &str = "Logs and files";

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Lets an MCP host that can only launch local programs reach a remote MCP server",
    long_about = "Carries every JSON-RPC message between an MCP host on stdin/stdout and a remote MCP server, over \
                  Streamable HTTP or the older HTTP+SSE, byte for byte.",
    args_override_self = true
)]
struct Args {
    /// Address of the remote MCP server: https, or http on this machine
    #[arg(value_name = "SERVER-URL")]
    server_url: String,

    /// Port of the sign-in redirect [default: derived from the server's address]
    #[arg(value_name = "CALLBACK-PORT", value_parser = clap::value_parser!(u16).range(1..))]
    callback_port: Option<u16>,

    /// Header for every request to the server; ${NAME} in the value is read from the environment
    #[arg(long, value_name = "NAME:VALUE", help_heading = CONNECTING)]
    header: Vec<String>,

    /// File with one header a line; blank lines and lines that begin with # are skipped
    #[arg(long, value_name = "FILE", help_heading = CONNECTING)]
    header_file: Vec<PathBuf>,

    /// Allow a server address without TLS that is not on this machine
    #[arg(long, help_heading = CONNECTING)]
    allow_http: bool,

    /// Which transports to try, in which order
    #[arg(long, value_name = "STRATEGY", default_value = "http-first", help_heading = CONNECTING)]
    transport: TransportStrategy,

    /// Which protocol generations the server may speak
    #[arg(long, value_name = "ERA", default_value = "legacy", help_heading = CONNECTING)]
    protocol: Protocol,

    /// Hide tools of this name from the host and refuse calls to them; * stands for anything
    #[arg(long, value_name = "PATTERN", help_heading = CONNECTING)]
    ignore_tool: Vec<String>,

    /// Do not keep the server's cookies
    #[arg(long, help_heading = CONNECTING)]
    disable_cookies: bool,

    /// Trust these certificates too (PEM), on top of the operating system's
    #[arg(long, value_name = "FILE", help_heading = NETWORK)]
    ca_cert: Vec<PathBuf>,

    /// Client certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = NETWORK)]
    client_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = NETWORK)]
    client_key: Option<PathBuf>,

    /// Proxy to the server: http://, https:// or socks5:// [default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY]
    #[arg(long, value_name = "URL", help_heading = NETWORK)]
    proxy: Option<String>,

    /// Accepted for npm's sake: the proxy variables are always honoured
    #[arg(long, help_heading = NETWORK)]
    enable_proxy: bool,

    /// Use IPv4 only
    #[arg(long, help_heading = NETWORK)]
    ipv4: bool,

    /// Time for a connection to come about
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = positive_seconds, help_heading = NETWORK)]
    connect_timeout: Duration,

    /// Time for the server to begin its answer; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, help_heading = NETWORK)]
    headers_timeout: Duration,

    /// Longest silence inside an answer or an event stream; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds, help_heading = NETWORK)]
    body_timeout: Duration,

    /// Time for the server to answer initialize
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = positive_seconds, help_heading = LIMITS)]
    initialize_timeout: Duration,

    /// How long a message waits for a server that is down; 0 answers at once
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, help_heading = LIMITS)]
    retry_for: Duration,

    /// Longest message in either direction, in bytes; K, M and G may follow
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size, help_heading = LIMITS)]
    max_message_size: usize,

    /// Ping the server regularly
    #[arg(long, help_heading = LIMITS)]
    keep_alive: bool,

    /// Time between pings; implies --keep-alive
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, help_heading = LIMITS)]
    ping_interval: Option<Duration>,

    /// Host name in the redirect URI
    #[arg(long, value_name = "NAME", default_value = if cfg!(windows) { "127.0.0.1" } else { "localhost" }, help_heading = SIGN_IN)]
    host: String,

    /// Path in the redirect URI
    #[arg(long, value_name = "PATH", default_value = "/oauth/callback", value_parser = callback_path, help_heading = SIGN_IN)]
    callback_path: String,

    /// How long a host's request waits for a person to sign in
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive_seconds, help_heading = SIGN_IN)]
    auth_timeout: Duration,

    /// Where the browser goes after signing in
    #[arg(long, value_name = "URL", help_heading = SIGN_IN)]
    auth_success_url: Option<String>,

    /// Resource indicator to ask a token for [default: what the server publishes]
    #[arg(long, value_name = "URI", help_heading = SIGN_IN)]
    resource: Option<String>,

    /// Send no resource indicator
    #[arg(long, help_heading = SIGN_IN)]
    disable_resource_parameter: bool,

    /// Parameter to add to the authorization request
    #[arg(long, value_name = "NAME=VALUE", help_heading = SIGN_IN)]
    authorize_param: Vec<String>,

    /// Send the id token in place of the access token
    #[arg(long, help_heading = SIGN_IN)]
    use_id_token: bool,

    /// Sign in with a code on another device
    #[arg(long, conflicts_with = "client_credentials", help_heading = SIGN_IN)]
    device_code: bool,

    /// Sign in as a program, without a person
    #[arg(long, help_heading = SIGN_IN)]
    client_credentials: bool,

    /// Token endpoint for --client-credentials
    #[arg(long, value_name = "URL", requires = "client_credentials", help_heading = SIGN_IN)]
    token_endpoint: Option<String>,

    /// Members to add to the client registration: JSON, or @FILE
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    static_oauth_client_metadata: Option<String>,

    /// Registration made elsewhere, with client_id and client_secret: JSON, or @FILE; ${NAME} is read from the environment
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    static_oauth_client_info: Option<String>,

    /// Address of a client id metadata document
    #[arg(long, value_name = "URL", help_heading = CLIENT)]
    client_metadata_url: Option<String>,

    /// Say more, with times, also to a file in the store's folder
    #[arg(long, help_heading = LOGS)]
    debug: bool,

    /// Say nothing on stderr
    #[arg(long, help_heading = LOGS)]
    silent: bool,

    /// Folder of stored sign-ins [default: MCP_REMOTE_CONFIG_DIR, or ~/.mcp-auth]
    #[arg(long, value_name = "FOLDER", help_heading = LOGS)]
    config_dir: Option<PathBuf>,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote-client",
    about = "Connects to a remote MCP server as mcp-remote does and shows what it has",
    version
)]
struct ClientArgs {
    #[command(flatten)]
    args: Args,

    /// Print JSON
    #[arg(long, help_heading = LOGS)]
    json: bool,
}

/// Reads arguments (without the program's name) and environment.
///
/// # Errors
/// [`Usage`].
pub fn parse(program: Program, arguments: Vec<OsString>, environment: Environment<'_>) -> Result<Command, Usage> {
    let mut arguments = arguments;
    let mut program = program;
    // `mcp-remote mcp-remote-client URL`: how npx users reach the second program.
    if arguments.first().is_some_and(|first| first == "mcp-remote-client") {
        arguments.remove(0);
        program = Program::Client;
    }
    read(program, arguments, environment).map_err(|sentence| Usage { program, sentence })
}

fn read(program: Program, arguments: Vec<OsString>, environment: Environment<'_>) -> Result<Command, String> {
    let mangled = mangled(&arguments);
    let told = |error: clap::Error| sentence(&error, mangled);
    let command = match program {
        Program::Adapter => Args::command(),
        Program::Client => ClientArgs::command(),
    };
    let name = OsString::from(command.get_name().to_owned());
    let matches = match command.try_get_matches_from(std::iter::once(name).chain(arguments)) {
        Ok(matches) => matches,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Command::Print(asked.render().to_string()));
        }
        Err(error) => return Err(told(error)),
    };
    match program {
        Program::Adapter => {
            let args = Args::from_arg_matches(&matches).map_err(told)?;
            Ok(Command::Forward(Box::new(config(args, environment)?)))
        }
        Program::Client => {
            let ClientArgs { args, json } = ClientArgs::from_arg_matches(&matches).map_err(told)?;
            Ok(Command::Client(Box::new(config(args, environment)?), if json { Output::Json } else { Output::Text }))
        }
    }
}

fn config(args: Args, environment: Environment<'_>) -> Result<Config, String> {
    if let Some(hint) = glued(&args.server_url) {
        return Err(hint.to_owned());
    }
    let plain_http = if args.allow_http { PlainHttp::Allowed } else { PlainHttp::ForLoopback };
    let server = ServerUrl::parse(&args.server_url, plain_http)?;
    let mut remarks = Vec::new();
    let written = headers(&args)?;
    let authorize_params =
        args.authorize_param.iter().map(|param| authorize_param(param)).collect::<Result<Vec<_>, _>>()?;
    let resource = match &args.resource {
        _ if args.disable_resource_parameter => Resource::Omitted,
        None => Resource::Published,
        Some(named) if named.trim().is_empty() => Resource::Omitted,
        Some(named) => {
            let named = named.trim().to_owned();
            Url::parse(&named).map_err(|error| format!("--resource {named:?} is not a URI: {error}"))?;
            Resource::Named(named)
        }
    };
    let client_metadata_url = args.client_metadata_url.as_deref().map(client_metadata_url).transpose()?;
    let token_endpoint = args.token_endpoint.as_deref().map(token_endpoint).transpose()?;
    let server_hash = store::server_hash(
        &args.server_url,
        &resource,
        &authorize_params,
        &written.iter().map(|header| (header.name.clone(), header.value.clone())).collect::<Vec<_>>(),
        client_metadata_url.as_ref(),
        token_endpoint.as_ref(),
    );
    let grant = match (args.device_code, args.client_credentials) {
        (true, _) => Grant::DeviceCode,
        (_, true) => Grant::ClientCredentials { token_endpoint, key: None },
        _ => Grant::AuthorizationCode,
    };
    let authorization = Authorization {
        callback_port: args.callback_port,
        callback_host: args.host.clone(),
        callback_path: args.callback_path.clone(),
        timeout: args.auth_timeout,
        success_url: args.auth_success_url.as_deref().map(|url| success_url(url, plain_http)).transpose()?,
        resource,
        authorize_params,
        client_metadata: args
            .static_oauth_client_metadata
            .as_deref()
            .map(|text| json_object("--static-oauth-client-metadata", text))
            .transpose()?,
        client_info: args.static_oauth_client_info.as_deref().map(|text| client_info(text, environment)).transpose()?,
        client_metadata_url,
        use_id_token: args.use_id_token,
        assume_pkce: false,
        dpop: Dpop::Auto,
        grant,
    };
    if args.protocol == Protocol::Auto {
        remarks.push("--protocol auto is not there yet and works as legacy".to_owned());
    }
    let network = network(&args, environment, &mut remarks)?;
    Ok(Config {
        headers: expanded(&written, environment)?,
        server,
        server_hash,
        transport: args.transport,
        protocol: args.protocol,
        network,
        max_message: args.max_message_size,
        retry_for: args.retry_for,
        initialize_patience: args.initialize_timeout,
        ping: args.ping_interval.or_else(|| args.keep_alive.then_some(PING_INTERVAL)),
        ignored_tools: args.ignore_tool.iter().map(|pattern| ToolPattern::new(pattern)).collect(),
        log: match (args.debug, args.silent) {
            (true, _) => LogMode::Debug,
            (_, true) => LogMode::Silent,
            _ => LogMode::Normal,
        },
        log_filters: environment("RUST_LOG"),
        store: store_folder(args.config_dir, environment)?,
        authorization,
        remarks,
    })
}

/// A header as it was written, before `${NAME}` is expanded.
struct WrittenHeader {
    name: String,
    value: String,
    /// Where it was written, for messages, which must not show the value.
    place: String,
}

fn headers(args: &Args) -> Result<Vec<WrittenHeader>, String> {
    let mut written = Vec::new();
    for header in &args.header {
        written.push(split_header(header, "--header".to_owned())?);
    }
    for path in &args.header_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read --header-file {}: {error}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                written.push(split_header(line, format!("line {} of {}", number + 1, path.display()))?);
            }
        }
    }
    Ok(written)
}

fn split_header(text: &str, place: String) -> Result<WrittenHeader, String> {
    let text = unquoted(text);
    let Some((name, value)) = text.split_once(':') else {
        return Err(format!("{place} is no header: it must be NAME:VALUE"));
    };
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!("{place} is no header: its name has a character that no header name may have"));
    }
    Ok(WrittenHeader { name: name.to_owned(), value: value.trim_start().to_owned(), place })
}

/// Some hosts hand over the quotes that a person wrote for a shell.
fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.or_else(|| text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''))).unwrap_or(text)
}

fn expanded(written: &[WrittenHeader], environment: Environment<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in written {
        let text = expand(&header.value, environment).map_err(|name| {
            format!(
                "{} ({}) names the environment variable {name}, which is not set; hosts pass on only some variables: set it in the \"env\" of this entry",
                header.place, header.name
            )
        })?;
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_bytes(text.trim_end().as_bytes()))
        else {
            return Err(format!(
                "the value of {} ({}) has a character that no header value may have",
                header.place, header.name
            ));
        };
        if text.is_empty() {
            return Err(format!("{} ({}) has no value; {SPLIT}", header.place, header.name));
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// `${NAME}` becomes the variable's value.
///
/// # Errors
/// The name of a variable that is not set.
fn expand(text: &str, environment: Environment<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + length];
        if name.is_empty() {
            break;
        }
        expanded.push_str(&rest[..start]);
        expanded.push_str(&environment(name).ok_or_else(|| name.to_owned())?);
        rest = &rest[start + length + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn authorize_param(text: &str) -> Result<(String, String), String> {
    /// Set by the authorization itself.
    const RESERVED: [&str; 6] =
        ["client_id", "code_challenge", "code_challenge_method", "redirect_uri", "response_type", "state"];
    match text.split_once('=') {
        Some((name, _)) if RESERVED.contains(&name.trim()) => {
            Err(format!("--authorize-param cannot set {}: the sign-in itself does", name.trim()))
        }
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("--authorize-param {text:?} must be NAME=VALUE")),
    }
}

fn client_metadata_url(text: &str) -> Result<Url, String> {
    let fault = |what: &str| format!("--client-metadata-url {text:?} {what}");
    let url = Url::parse(text.trim()).map_err(|error| fault(&format!("is not a URL: {error}")))?;
    // Client ID Metadata Documents: https, a path, no fragment, no user information.
    if url.scheme() != "https" || url.path() == "/" || url.fragment().is_some() || !url.username().is_empty() {
        return Err(fault("must be https, with a path, without user and fragment"));
    }
    Ok(url)
}

fn token_endpoint(text: &str) -> Result<Url, String> {
    let server = ServerUrl::parse(text, PlainHttp::ForLoopback).map_err(|why| format!("--token-endpoint: {why}"))?;
    let url = server.url().clone();
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!(
            "--token-endpoint {:?} must have no user and no fragment",
            url.host_str().unwrap_or_default()
        ));
    }
    Ok(url)
}

fn success_url(text: &str, plain_http: PlainHttp) -> Result<Url, String> {
    let server = ServerUrl::parse(text, plain_http).map_err(|why| format!("--auth-success-url: {why}"))?;
    let url = server.url().clone();
    if !url.username().is_empty() || url.password().is_some() || text.contains(['?', '#']) {
        return Err("--auth-success-url must have no user, no query and no fragment".to_owned());
    }
    Ok(url)
}

/// JSON given inline or as `@FILE`. The error never shows the text: it may hold a secret.
fn json_object(flag: &str, text: &str) -> Result<Map<String, Value>, String> {
    let read;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            read = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read the file of {flag}, {path}: {error}"))?;
            &read
        }
        None => text,
    };
    serde_json::from_str(text).map_err(|error| {
        format!(
            "{flag} is not a JSON object (line {}, column {}); a file avoids quoting trouble: {flag} @FILE",
            error.line(),
            error.column()
        )
    })
}

fn client_info(text: &str, environment: Environment<'_>) -> Result<Secret<Map<String, Value>>, String> {
    let flag = "--static-oauth-client-info";
    let mut info = json_object(flag, text)?;
    // After parsing, so that no character of a secret can break the JSON.
    for value in info.values_mut() {
        if let Value::String(text) = value {
            *text = expand(text, environment)
                .map_err(|name| format!("{flag} names the environment variable {name}, which is not set"))?;
        }
    }
    if !info.get("client_id").is_some_and(Value::is_string) {
        return Err(format!("{flag} has no client_id"));
    }
    Ok(Secret::new(info))
}

fn network(args: &Args, environment: Environment<'_>, remarks: &mut Vec<String>) -> Result<Network, String> {
    let mut roots = Vec::new();
    for path in &args.ca_cert {
        roots.extend(certificates(path).map_err(|why| format!("--ca-cert {}: {why}", path.display()))?);
    }
    if let Some(path) = environment("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty()) {
        match certificates(Path::new(&path)) {
            Ok(extra) => roots.extend(extra),
            Err(why) => remarks.push(format!("NODE_EXTRA_CA_CERTS={path} is left out: {why}")), // as Node does
        }
    }
    let identity = match (&args.client_cert, &args.client_key) {
        (Some(chain), Some(key)) => Some(Identity {
            chain: certificates(chain).map_err(|why| format!("--client-cert {}: {why}", chain.display()))?,
            key: Secret::new(
                PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| format!("--client-key {}: {error}", key.display()))?,
            ),
        }),
        _ => None,
    };
    Ok(Network {
        roots,
        hidden_roots: environment("SSL_CERT_FILE").is_some_and(|path| !path.is_empty()),
        identity,
        proxy: proxy(args.proxy.as_deref(), environment)?,
        ipv4: args.ipv4,
        cookies: !args.disable_cookies,
        connect_timeout: args.connect_timeout,
        headers_timeout: limit(args.headers_timeout),
        body_timeout: limit(args.body_timeout),
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(certificates) }
}

fn proxy(flag: Option<&str>, environment: Environment<'_>) -> Result<ProxyChoice, String> {
    let variable = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| Some((name, environment(name).filter(|text| !text.is_empty())?)))
    };
    let parse = |place: &str, text: &str| {
        // A bare host and port means http, as curl has it.
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        match url {
            Ok(url)
                if matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h")
                    && url.has_host() =>
            {
                Ok(Secret::new(url))
            }
            _ => {
                Err(format!("{place} is not a proxy's address: it must be http://, https:// or socks5:// with a host"))
            }
        }
    };
    let for_scheme = |names| match (flag, variable(names).or_else(|| variable(["ALL_PROXY", "all_proxy"]))) {
        (Some(flag), _) => parse("--proxy", flag).map(Some),
        (None, Some((name, text))) => parse(name, &text).map(Some),
        (None, None) => Ok(None),
    };
    let (http, https) = (for_scheme(["HTTP_PROXY", "http_proxy"])?, for_scheme(["HTTPS_PROXY", "https_proxy"])?);
    let named = variable(["NO_PROXY", "no_proxy"]).map(|(_, hosts)| hosts).unwrap_or_default();
    if named.split(',').any(|host| host.trim() == "*") {
        return Ok(ProxyChoice::Direct);
    }
    if http.is_none() && https.is_none() {
        return Ok(ProxyChoice::System);
    }
    Ok(ProxyChoice::Explicit { http, https, except: format!("localhost,127.0.0.0/8,::1,{named}") })
}

fn store_folder(flag: Option<PathBuf>, environment: Environment<'_>) -> Result<PathBuf, String> {
    let variable = || environment("MCP_REMOTE_CONFIG_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || directories::BaseDirs::new().map(|dirs| dirs.home_dir().join(".mcp-auth"));
    let folder =
        flag.or_else(variable).or_else(home).ok_or("there is no home folder: name a folder with --config-dir")?;
    Ok(folder.join(store::LAYOUT))
}

fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim().parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "must be a number of seconds, not below 0".to_owned())
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|time| limit(time).ok_or_else(|| "must be more than 0 seconds".to_owned()))
}

fn size(text: &str) -> Result<usize, String> {
    let fault = || "must be a number of bytes, such as 1000000 or 64M".to_owned();
    let (digits, unit) = match text.trim().to_ascii_uppercase().split_at_checked(text.trim().len().saturating_sub(1)) {
        Some((digits, "K")) => (digits.to_owned(), 1 << 10),
        Some((digits, "M")) => (digits.to_owned(), 1 << 20),
        Some((digits, "G")) => (digits.to_owned(), 1 << 30),
        _ => (text.trim().to_owned(), 1),
    };
    let number: usize = digits.parse().map_err(|_| fault())?;
    number.checked_mul(unit).filter(|size| *size > 0).ok_or_else(fault)
}

fn callback_path(text: &str) -> Result<String, String> {
    match text {
        "/wait-for-auth" | "/.mcp-remote/id" => Err("is used by mcp-remote itself".to_owned()),
        path if path.starts_with('/') => Ok(path.to_owned()),
        _ => Err("must begin with /".to_owned()),
    }
}

const SPLIT: &str = "if the host cut a value at its space, write it without one and put it in the entry's \"env\": --header \"Authorization:${AUTH}\"";

/// Signs of a host that splits or quotes arguments badly.
#[derive(Clone, Copy)]
enum Mangled {
    /// A header's value ended up outside of it.
    Split,
    /// Quotes that a shell would have taken.
    Quoted,
}

fn mangled(arguments: &[OsString]) -> Option<Mangled> {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let cut = |pair: &[std::borrow::Cow<'_, str>]| pair[0] == "--header" && pair[1].ends_with(':');
    if texts.windows(2).any(cut) {
        return Some(Mangled::Split);
    }
    let stray = |text: &std::borrow::Cow<'_, str>| {
        let quotes = text.matches('"').count();
        (text.starts_with('"') || text.ends_with('"')) && !text.starts_with('{') && quotes % 2 == 1
    };
    texts.iter().any(stray).then_some(Mangled::Quoted)
}

/// A whole command line in the place of the address. What is wrong is said without the text: it may
/// hold a secret.
fn glued(url: &str) -> Option<&'static str> {
    if url.contains(char::is_whitespace) {
        Some(
            "the server's address contains a space; give each argument as an element of its own in the entry's \"args\"",
        )
    } else if url.starts_with(['"', '\'']) || url.ends_with(['"', '\'']) {
        Some("the server's address has quotes around it; leave them out, the host needs none")
    } else {
        None
    }
}

/// One sentence for what clap found.
fn sentence(error: &clap::Error, mangled: Option<Mangled>) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let flag = argument.split([' ', '=']).next().unwrap_or_default();
    let told = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => match context(ContextKind::SuggestedArg) {
            Some(nearest) => format!("unknown flag {argument}; did you mean {nearest}?"),
            None => format!("unknown flag {argument}; mcp-remote --help lists them all"),
        },
        // Not shown: it may be what a host has cut off a header, and a secret.
        ErrorKind::UnknownArgument => format!("unexpected argument after the server's address; {SPLIT}"),
        ErrorKind::MissingRequiredArgument if argument.contains("SERVER-URL") => {
            "the server's address is missing: mcp-remote https://example.com/mcp".to_owned()
        }
        ErrorKind::MissingRequiredArgument => format!("{argument} is missing"),
        ErrorKind::ArgumentConflict => {
            format!("{flag} cannot be used with {}", context(ContextKind::PriorArg).unwrap_or_default())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let why = match (context(ContextKind::ValidValue), std::error::Error::source(error)) {
                (Some(valid), _) => format!("must be one of {valid}"),
                (None, Some(why)) => why.to_string(),
                (None, None) => "is not valid".to_owned(),
            };
            match (value.is_empty(), flag) {
                (true, _) => format!("{flag} needs a value"),
                (false, "[CALLBACK-PORT]") => {
                    format!("the second argument is no callback port (1 to 65535); {SPLIT}")
                }
                (false, _) => format!("{flag} {value:?} {why}"),
            }
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    match mangled {
        Some(Mangled::Split) if !told.contains(SPLIT) => format!("{told}; {SPLIT}"),
        Some(Mangled::Quoted) => format!("{told}; there are stray quotes among the arguments: the host needs none"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Command, Usage> {
        let environment = |name: &str| match name {
            "TOKEN" => Some("t\"o\\k".to_owned()),
            "EMPTY" => Some(String::new()),
            "MCP_REMOTE_CONFIG_DIR" => Some("/store".to_owned()),
            _ => None,
        };
        parse(Program::Adapter, arguments.iter().map(OsString::from).collect(), &environment)
    }

    fn config(arguments: &[&str]) -> Config {
        match run(arguments) {
            Ok(Command::Forward(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn refused(arguments: &[&str]) -> String {
        run(arguments).expect_err("must be refused").sentence
    }

    const URL: &str = "https://a.example/mcp";

    #[test]
    fn the_hash_and_so_the_files_are_npms() {
        for (arguments, hash) in [
            (vec!["http://127.0.0.1:7802/mcp"], "9ca486285bd01d5fdc4abad83d5bb5d5"),
            (vec!["http://127.0.0.1:7804/mcp"], "ff12414734d711ab210706ed355b5813"),
            (
                vec![
                    "http://127.0.0.1:7812/mcp",
                    "--authorize-param",
                    "prompt=login",
                    "--authorize-param",
                    "a=b=c",
                    "--header",
                    "X-Z: 1",
                    "--client-metadata-url",
                    "https://c.example/m.json",
                ],
                "9e721942d4e1f98b1ee20f0278cbaf78",
            ),
        ] {
            assert_eq!(config(&arguments).server_hash, hash, "{arguments:?}");
        }
    }

    #[test]
    fn every_flag_of_npm_is_understood_in_any_order_and_both_forms() {
        let config = config(&[
            "--debug",
            "--header",
            "X-Api-Key: ${TOKEN}",
            "--header=Other:plain",
            "--transport=sse-first",
            "--ipv4",
            "--keep-alive",
            URL,
            "--ping-interval",
            "0.5",
            "3334",
            "--ignore-tool",
            "delete*",
            "--ignore-tool=*_x",
            "--disable-cookies",
            "--host",
            "127.0.0.1",
            "--callback-path",
            "/cb",
            "--auth-timeout",
            "7",
            "--auth-success-url",
            "https://ok.example/done",
            "--resource",
            "https://r.example",
            "--authorize-param",
            "prompt=login",
            "--static-oauth-client-metadata",
            r#"{"scope":"a b"}"#,
            "--static-oauth-client-info",
            r#"{"client_id":"id","client_secret":"${TOKEN}"}"#,
            "--client-metadata-url",
            "https://c.example/m.json",
            "--use-id-token",
            "--client-credentials",
            "--token-endpoint",
            "https://t.example/token",
            "--protocol",
            "auto",
            "--enable-proxy",
            "--connect-timeout",
            "1.5",
            "--headers-timeout",
            "0",
            "--body-timeout",
            "2",
            "--allow-http",
            "--silent",
        ]);
        assert_eq!(config.headers["x-api-key"], "t\"o\\k");
        assert_eq!(config.headers["other"], "plain");
        assert_eq!(config.transport, TransportStrategy::SseFirst);
        assert_eq!(config.ping, Some(Duration::from_millis(500)));
        assert_eq!((config.network.headers_timeout, config.network.body_timeout), (None, Some(Duration::from_secs(2))));
        assert_eq!(config.authorization.callback_port, Some(3334));
        assert_eq!(config.authorization.client_info.unwrap().expose()["client_secret"], "t\"o\\k");
        assert_eq!(config.authorization.resource, Resource::Named("https://r.example".into()));
        assert_eq!(config.store, Path::new("/store/mcp-remote-v1"));
        assert_eq!(config.remarks.len(), 1, "{:?}", config.remarks);
    }

    #[test]
    fn a_mistake_is_told_in_one_sentence_that_names_it() {
        for (arguments, expected) in [
            (vec![], "address is missing"),
            (vec![URL, "--heder", "a:b"], "did you mean --header?"),
            (vec![URL, "--transport", "carrier-pigeon"], "must be one of http-first, sse-first, http-only, sse-only"),
            (vec![URL, "--connect-timeout", "0"], "--connect-timeout \"0\" must be more than 0 seconds"),
            (vec![URL, "--max-message-size", "lots"], "must be a number of bytes"),
            (vec![URL, "--header"], "--header needs a value"),
            (vec![URL, "--header", "no colon"], "it must be NAME:VALUE"),
            (vec![URL, "--header", "A: ${NOT_SET}"], "variable NOT_SET, which is not set"),
            (vec![URL, "--header-file", "/no/such/file"], "cannot read --header-file /no/such/file"),
            (vec![URL, "--callback-path", "x"], "must begin with /"),
            (vec![URL, "--authorize-param", "state=1"], "cannot set state"),
            (vec![URL, "--static-oauth-client-info", "{\"client_secret\":\"hush\""], "not a JSON object"),
            (vec![URL, "--static-oauth-client-info", "{}"], "has no client_id"),
            (vec![URL, "--client-metadata-url", "https://c.example/"], "with a path"),
            (vec![URL, "--token-endpoint", "https://t.example"], "--client-credentials"),
            (vec![URL, "--client-cert", "/c.pem"], "--client-key"),
            (vec![URL, "--ca-cert", "/no/such/file"], "--ca-cert /no/such/file"),
            (vec![URL, "--proxy", "ftp://x"], "--proxy is not a proxy's address"),
            (vec!["http://far.example"], "--allow-http"),
            (vec!["ws://far.example"], "must be http or https"),
        ] {
            let sentence = refused(&arguments);
            assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("hush"), "{sentence}");
        }
    }

    #[test]
    fn arguments_that_a_host_has_mangled_come_with_a_hint() {
        for arguments in [
            vec![URL, "--header", "Authorization:", "Bearer", "token"],
            vec![URL, "--header", "Authorization:"],
            vec![URL, "stray"],
        ] {
            let sentence = refused(&arguments);
            assert!(sentence.contains("--header \"Authorization:${AUTH}\""), "{arguments:?}: {sentence}");
        }
        assert!(refused(&["https://a.example/mcp --debug"]).contains("element of its own"));
        assert!(refused(&["\"https://a.example/mcp\""]).contains("quotes"));
        assert!(refused(&[URL, "\"--debug"]).contains("stray quotes"));
        assert_eq!(config(&[URL, "--header", "'X-Key: a b'"]).headers["x-key"], "a b");
    }

    #[test]
    fn no_secret_shows_in_the_settings() {
        let config = config(&[
            URL,
            "--header",
            "Authorization: Bearer ${TOKEN}",
            "--static-oauth-client-info",
            r#"{"client_id":"i","client_secret":"hush"}"#,
        ]);
        let shown = format!("{config:?}");
        assert!(!shown.contains("hush") && !shown.contains("Bearer"), "{shown}");
    }

    #[test]
    fn help_is_grouped_by_purpose() {
        let Ok(Command::Print(help)) = run(&["--help"]) else { panic!("no help") };
        for heading in [CONNECTING, NETWORK, SIGN_IN, CLIENT, LIMITS, LOGS] {
            assert!(help.contains(heading), "{heading}");
        }
    }
}
