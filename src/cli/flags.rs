//! The flags of npm's mcp-remote 0.15.1, those that a host's stripped environment makes necessary
//! beside them, and how they become a [`Config`].
//!
//! The only reader of the environment. Must never: put a secret into a message.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Parser, builder::NonEmptyStringValueParser};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value};

use super::{
    AllServers, Environment, Output, Status,
    mistakes::{Mistake, glued},
    words,
};
use crate::{
    config::{
        AssertionSource, Authorization, Config, Dpop, Grant, Identity, LogMode, Network, PlainHttp, Protocol,
        ProxyChoice, Resource, ServerUrl, Start, TransportStrategy,
    },
    known_hosts::HostEnvironment,
    secret::Secret,
    store,
    surroundings::Surroundings,
    tools::ToolPattern,
};

/// npm's default for `--ping-interval`.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Schemes of `Authorization` that are nothing without what follows them.
const BARE_SCHEMES: [&str; 3] = ["Basic", "Bearer", "Token"];

pub(super) const CONNECTING: &str = "Connecting";
pub(super) const NETWORK: &str = "Network";
pub(super) const SIGN_IN: &str = "Signing in (obtaining authorization)";
pub(super) const CLIENT: &str = "Who we are to the authorization server";
pub(super) const LIMITS: &str = "Limits and recovery";
pub(super) const LOGS: &str = "Logs and files";

const COMMANDS: &str = "\
Commands, in the place of the server's address; --help after each says more:
  mcp-remote login https://example.com/mcp    sign in ahead of time, from a terminal
  mcp-remote logout https://example.com/mcp   forget a sign-in, revoke its tokens; or --all
  mcp-remote status                           show who is signed in where, until when
  mcp-remote-client https://example.com/mcp   tell the connection step by step, show what a server has
  mcp-remote-client finish                    finish a sign-in whose browser is on another computer";

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Lets an MCP host that can only launch local programs reach a remote MCP server",
    long_about = "Carries every JSON-RPC message between an MCP host on stdin/stdout and a remote MCP server, over \
                  Streamable HTTP or the older HTTP+SSE, byte for byte.",
    after_help = COMMANDS,
    args_override_self = true
)]
pub(super) struct Args {
    /// Address of the remote MCP server: https, or http on this machine
    #[arg(value_name = "SERVER-URL", index = 1, required = true)]
    server_url: Option<String>,

    /// Port of the sign-in redirect [default: derived from the server's address]
    #[arg(value_name = "CALLBACK-PORT", index = 2, value_parser = clap::value_parser!(u16).range(1..))]
    callback_port: Option<u16>,

    /// Header for every request to the server; ${NAME} in the value is read from the environment
    #[arg(long, value_name = "NAME:VALUE", help_heading = CONNECTING)]
    pub(super) header: Vec<String>,

    /// File with one header a line; blank lines and lines that begin with # are skipped
    #[arg(long, value_name = "FILE", help_heading = CONNECTING)]
    pub(super) header_file: Vec<PathBuf>,

    /// Allow a server address without TLS that is not on this machine
    #[arg(long, help_heading = CONNECTING)]
    allow_http: bool,

    /// Which transports to try, in which order
    #[arg(long, value_name = "STRATEGY", default_value = "http-first", help_heading = CONNECTING)]
    transport: TransportStrategy,

    /// Protocol era to speak with the server
    #[arg(long, value_name = "ERA", default_value = "auto", help_heading = CONNECTING)]
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
    pub(super) proxy: Option<String>,

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

    /// What to do with the host's initialize while a server seen for the first time cannot answer it: hold it for as
    /// long as this host waits (hold), answer it with a placeholder at once (answer), or let it wait (wait)
    #[arg(long, value_name = "HOW", default_value = "hold", hide_possible_values = true, help_heading = LIMITS)]
    start: Start,

    /// How long to hold the host's initialize, in seconds [default: by host, 3.5 for hosts that are not known]
    #[arg(long, alias = "answer-within", value_name = "SECONDS", value_parser = seconds, help_heading = LIMITS)]
    hold: Option<Duration>,

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

    /// Tell the host of progress while a long call goes on and the server tells none, so that it does not give up
    #[arg(long, help_heading = LIMITS)]
    progress_keepalive: bool,

    /// Host name in the redirect URI
    #[arg(long, value_name = "NAME", default_value = if cfg!(windows) { "127.0.0.1" } else { "localhost" }, help_heading = SIGN_IN)]
    host: String,

    /// Path in the redirect URI
    #[arg(long, value_name = "PATH", default_value = "/oauth/callback", value_parser = callback_path, help_heading = SIGN_IN)]
    callback_path: String,

    /// With --start wait, and in mcp-remote-client, how long initialize waits for a person to sign in; other requests are
    /// held 45 s at most, and the sign-in stays open after that
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

    /// Never open a browser; print the address to open
    #[arg(long, help_heading = SIGN_IN)]
    pub(super) no_browser: bool,

    /// Follow a server on the internet to an authorization server in a private network
    #[arg(long, help_heading = SIGN_IN)]
    allow_private_addresses: bool,

    /// Go on where the authorization server does not list the PKCE method S256, which is sent in any case
    #[arg(long, help_heading = SIGN_IN)]
    assume_pkce: bool,

    /// Bind tokens to a key of ours (experimental): where the server asks for it, always, or never
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = SIGN_IN)]
    dpop: Dpop,

    /// Sign in with a code on another device
    #[arg(long, group = "grant", help_heading = SIGN_IN)]
    device_code: bool,

    /// Sign in as a program, without a person: with the client_secret of --static-oauth-client-info, or with a key
    #[arg(long, group = "grant", help_heading = SIGN_IN)]
    client_credentials: bool,

    /// Private key (PEM) in place of a client_secret for --client-credentials
    #[arg(long, value_name = "FILE", requires = "client_credentials", help_heading = SIGN_IN)]
    client_key_jwt: Option<PathBuf>,

    /// Token endpoint for --client-credentials
    #[arg(long, value_name = "URL", requires = "client_credentials", help_heading = SIGN_IN)]
    token_endpoint: Option<String>,

    /// Sign in through the company's identity provider: file with the person's identity token there
    #[arg(long, value_name = "FILE", group = "grant", requires = "id_jag_token_endpoint", help_heading = SIGN_IN)]
    id_jag_token: Option<PathBuf>,

    /// Token endpoint of that identity provider
    #[arg(long, value_name = "URL", requires = "id_jag_client_id", help_heading = SIGN_IN)]
    id_jag_token_endpoint: Option<String>,

    /// Who we are to that identity provider
    #[arg(long, value_name = "ID", requires = "id_jag_token", value_parser = NonEmptyStringValueParser::new(), help_heading = SIGN_IN)]
    id_jag_client_id: Option<String>,

    /// Sign in as a workload (experimental): file with the platform's assertion, read afresh each time
    #[arg(long, value_name = "FILE", group = "grant", help_heading = SIGN_IN)]
    assertion_file: Option<PathBuf>,

    /// The same with a program that prints the assertion (experimental); started without a shell
    #[arg(long, value_name = "COMMAND", group = "grant", help_heading = SIGN_IN)]
    assertion_command: Option<String>,

    /// Members to add to the client registration: JSON, or @FILE
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    static_oauth_client_metadata: Option<String>,

    /// Registration made elsewhere, with client_id and client_secret: JSON, or @FILE; ${NAME} is read from the environment
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    pub(super) static_oauth_client_info: Option<String>,

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
    pub(super) config_dir: Option<PathBuf>,
}

/// Whether an argument is among those that say which stored sign-in is meant: npm's hash is over these.
pub(super) fn names_sign_in(arg: &clap::Arg) -> bool {
    const NAMING: [&str; 11] = [
        "server_url",
        "header",
        "header_file",
        "allow_http",
        "resource",
        "disable_resource_parameter",
        "authorize_param",
        "client_credentials",
        "token_endpoint",
        "client_metadata_url",
        "config_dir",
    ];
    NAMING.contains(&arg.get_id().as_str())
}

/// A server and what else tells one stored sign-in from another.
struct Addressed {
    server: ServerUrl,
    server_hash: String,
    written: Vec<WrittenHeader>,
    authorize_params: Vec<(String, String)>,
    resource: Resource,
    client_metadata_url: Option<Url>,
    token_endpoint: Option<Url>,
}

fn addressed(args: &Args) -> Result<Addressed, Mistake> {
    // clap has made sure of it, wherever one is needed.
    let url = args.server_url.as_deref().unwrap_or_default();
    if let Some(mistake) = glued(url) {
        return Err(mistake);
    }
    let server = ServerUrl::parse(url, plain_http(args))?;
    let written = headers(args)?;
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
    let token_endpoint =
        args.token_endpoint.as_deref().map(|url| token_endpoint("--token-endpoint", url)).transpose()?;
    let server_hash = store::server_hash(
        url,
        resource.named(),
        &authorize_params,
        &written.iter().map(|header| (header.name.clone(), header.value.clone())).collect::<Vec<_>>(),
        client_metadata_url.as_ref(),
        token_endpoint.as_ref(),
    );
    Ok(Addressed { server, server_hash, written, authorize_params, resource, client_metadata_url, token_endpoint })
}

const fn plain_http(args: &Args) -> PlainHttp {
    if args.allow_http { PlainHttp::Allowed } else { PlainHttp::ForLoopback }
}

pub(super) fn config(args: &Args, environment: Environment<'_>) -> Result<Config, Mistake> {
    let Addressed { server, server_hash, written, authorize_params, resource, client_metadata_url, token_endpoint } =
        addressed(args)?;
    let client_info =
        args.static_oauth_client_info.as_deref().map(|text| client_info(text, environment)).transpose()?;
    let grant = grant(args, client_info.as_ref(), token_endpoint)?;
    let mut remarks = Vec::new();
    let authorization = Authorization {
        callback_port: args.callback_port,
        callback_host: args.host.clone(),
        callback_path: args.callback_path.clone(),
        timeout: args.auth_timeout,
        start: args.start,
        success_url: args.auth_success_url.as_deref().map(|url| success_url(url, plain_http(args))).transpose()?,
        resource,
        authorize_params,
        client_metadata: args
            .static_oauth_client_metadata
            .as_deref()
            .map(|text| json_object("--static-oauth-client-metadata", text))
            .transpose()?,
        client_info,
        client_metadata_url,
        use_id_token: args.use_id_token,
        assume_pkce: args.assume_pkce,
        private_addresses: args.allow_private_addresses,
        dpop: args.dpop,
        no_browser: args.no_browser,
        asked_for: false,
        surroundings: Surroundings::of(environment),
        grant,
    };
    let network = network(args, environment, &mut remarks)?;
    Ok(Config {
        headers: expanded(&written, environment)?,
        server,
        server_hash,
        plain_http: plain_http(args),
        transport: args.transport,
        network: Arc::new(network),
        max_message: args.max_message_size,
        retry_for: args.retry_for,
        initialize_patience: args.initialize_timeout,
        hold: args.hold,
        host_environment: HostEnvironment::of(environment),
        protocol: args.protocol,
        ping: args.ping_interval.or_else(|| args.keep_alive.then_some(PING_INTERVAL)),
        progress: args.progress_keepalive,
        ignored_tools: args.ignore_tool.iter().map(|pattern| ToolPattern::new(pattern)).collect(),
        log: log_mode(args),
        log_filters: environment("RUST_LOG"),
        store: store_folder(args.config_dir.clone(), environment)?,
        authorization: Arc::new(authorization),
        remarks,
    })
}

pub(super) fn status(args: &Args, output: Output, environment: Environment<'_>) -> Result<Status, Mistake> {
    let server = match args.server_url {
        Some(_) => addressed(args).map(|Addressed { server, server_hash, .. }| Some((server, server_hash)))?,
        None => None,
    };
    Ok(Status { store: store_folder(args.config_dir.clone(), environment)?, server, output })
}

pub(super) fn all_servers(args: &Args, environment: Environment<'_>) -> Result<AllServers, Mistake> {
    let mut remarks = Vec::new();
    Ok(AllServers {
        store: store_folder(args.config_dir.clone(), environment)?,
        plain_http: plain_http(args),
        network: Arc::new(network(args, environment, &mut remarks)?),
        log: log_mode(args),
        log_filters: environment("RUST_LOG"),
        remarks,
    })
}

const fn log_mode(args: &Args) -> LogMode {
    match (args.debug, args.silent) {
        (true, _) => LogMode::Debug,
        (_, true) => LogMode::Silent,
        _ => LogMode::Normal,
    }
}

/// At most one of its flags is given, and none alone: clap has seen to that.
fn grant(
    args: &Args,
    client_info: Option<&Secret<Map<String, Value>>>,
    token_endpoint: Option<Url>,
) -> Result<Grant, String> {
    if args.device_code {
        return Ok(Grant::DeviceCode);
    }
    if args.client_credentials {
        let known = |member| {
            let text = client_info.and_then(|info| info.expose().get(member)).and_then(Value::as_str);
            text.is_some_and(|text| !text.is_empty())
        };
        if !known("client_id") {
            return Err("--client-credentials needs a client_id: add --static-oauth-client-info @FILE".to_owned());
        }
        let key = args.client_key_jwt.clone();
        match &key {
            // Signing comes later; a wrong name is told at once.
            Some(path) => _ = File::open(path).map_err(|why| format!("--client-key-jwt {}: {why}", path.display()))?,
            None if known("client_secret") => {}
            None => {
                return Err("--client-credentials needs a client_secret in --static-oauth-client-info, or a key: \
                            --client-key-jwt FILE"
                    .to_owned());
            }
        }
        return Ok(Grant::ClientCredentials { token_endpoint, key });
    }
    if let (Some(token), Some(endpoint), Some(client_id)) =
        (&args.id_jag_token, &args.id_jag_token_endpoint, &args.id_jag_client_id)
    {
        if client_info.is_none() && args.client_metadata_url.is_none() {
            return Err("--id-jag-token needs to know who we are to the MCP server's own authorization server: add \
                        --static-oauth-client-info @FILE"
                .to_owned());
        }
        return Ok(Grant::Enterprise {
            token: token.clone(),
            token_endpoint: self::token_endpoint("--id-jag-token-endpoint", endpoint)?,
            client_id: client_id.clone(),
        });
    }
    if let Some(file) = &args.assertion_file {
        return Ok(Grant::WorkloadIdentity(AssertionSource::File(file.clone())));
    }
    if let Some(command) = &args.assertion_command {
        let mut words = words::split(command).map_err(|why| format!("--assertion-command {why}"))?.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or("--assertion-command names no program")?;
        return Ok(Grant::WorkloadIdentity(AssertionSource::Command { program, arguments: words.collect() }));
    }
    Ok(Grant::AuthorizationCode)
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

fn expanded(written: &[WrittenHeader], environment: Environment<'_>) -> Result<HeaderMap, Mistake> {
    let mut headers = HeaderMap::new();
    for header in written {
        let place = || format!("{} ({})", header.place, header.name);
        let text = expand(&header.value, environment).map_err(|name| Mistake::not_set(&place(), &name))?;
        let text = text.trim();
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_bytes(text.as_bytes()))
        else {
            return Err(format!("the value of {} has a character that no header value may have", place()).into());
        };
        // `Bearer` and nothing is what an empty variable leaves, or a host that cuts at the space.
        let is_bare = BARE_SCHEMES.iter().any(|scheme| text.eq_ignore_ascii_case(scheme));
        if text.is_empty() || name == AUTHORIZATION && is_bare {
            let empty =
                variables(&header.value).find(|name| environment(name).is_some_and(|value| value.trim().is_empty()));
            return Err(match empty {
                Some(variable) => Mistake::empty(&place(), variable),
                None if text.is_empty() => Mistake::mangled(format!("{} has no value", place())),
                None => Mistake::mangled(format!("{} has no key after {text}", place())),
            });
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// The variables that a text names.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|part| Some(part.split_once('}')?.0)).filter(|name| !name.is_empty())
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

fn token_endpoint(flag: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{flag} is not a URL: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    // OAuth 2.1 §1.5: only loopback may do without TLS.
    if ServerUrl::parse(text, PlainHttp::ForLoopback).is_err() {
        return Err(format!("{flag} {host:?} must be https, or http on this machine"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("{flag} {host:?} must have no user and no fragment"));
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

fn client_info(text: &str, environment: Environment<'_>) -> Result<Secret<Map<String, Value>>, Mistake> {
    let flag = "--static-oauth-client-info";
    let mut info = json_object(flag, text)?;
    // After parsing, so that no character of a secret can break the JSON.
    for value in info.values_mut() {
        if let Value::String(text) = value {
            *text = expand(text, environment).map_err(|name| Mistake::not_set(flag, &name))?;
        }
    }
    if info.get("client_id").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(format!("{flag} has no client_id").into());
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

pub(super) fn store_folder(flag: Option<PathBuf>, environment: Environment<'_>) -> Result<PathBuf, String> {
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
