//! The flags: those of npm's mcp-remote 0.15.1, and those that a host's stripped environment makes necessary beside them.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use clap::{Parser, ValueHint, builder::NonEmptyStringValueParser};
use reqwest::Url;

use crate::config::{
    Dpop, Limits, Protocol, TransportStrategy,
    limits::HEADING as LIMITS,
    values::{positive_seconds, seconds},
};

pub(super) const CONNECTION: &str = "Connection";
pub(super) const TLS: &str = "TLS and proxy";
pub(super) const AUTHENTICATION: &str = "Authentication";
pub(super) const CLIENT: &str = "OAuth client";
pub(super) const OUTPUT: &str = "Output";

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote",
    version,
    about = "Connect MCP hosts that only launch local (stdio) servers to remote MCP servers",
    long_about = "Connect MCP hosts that only launch local (stdio) servers to remote MCP servers.\n\n\
                  mcp-remote forwards each JSON-RPC message between a host on stdin and stdout and a server, over \
                  Streamable HTTP or HTTP+SSE. If the server asks for it, mcp-remote signs you in with OAuth.",
    args_override_self = true
)]
pub(super) struct Args {
    /// URL of the MCP server
    ///
    /// It begins with https://, or with http:// if the server is on this computer. User and password in it are sent as
    /// HTTP Basic authentication.
    #[arg(value_name = "SERVER-URL", index = 1, required = true, value_hint = ValueHint::Url)]
    pub(super) server_url: Option<String>,

    /// Port for the OAuth redirect
    ///
    /// From 1 to 65535. The default is derived from the server URL.
    #[arg(value_name = "CALLBACK-PORT", index = 2, value_parser = port)]
    pub(super) callback_port: Option<u16>,

    /// Add a header to every request to the server
    ///
    /// Repeatable. In the value, ${NAME} is replaced with the environment variable NAME. Example: --header
    /// "Authorization:${AUTH}"
    #[arg(long, value_name = "NAME:VALUE", help_heading = CONNECTION)]
    pub(super) header: Vec<String>,

    /// Read headers from a file, one per line
    ///
    /// Repeatable. Blank lines and lines that begin with # are skipped. ${NAME} is replaced as in --header.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CONNECTION)]
    pub(super) header_file: Vec<PathBuf>,

    /// Allow http:// for a server on another computer
    ///
    /// Anyone on the network between can then read your messages and tokens. A server on this computer (localhost,
    /// 127.0.0.0/8, ::1) does not need this flag.
    #[arg(long, help_heading = CONNECTION)]
    pub(super) allow_http: bool,

    /// Set which transports to try, in which order
    #[arg(long, value_name = "STRATEGY", default_value = "http-first", help_heading = CONNECTION)]
    pub(super) transport: TransportStrategy,

    /// Set the MCP era to speak with the server
    #[arg(long, value_name = "ERA", default_value = "auto", help_heading = CONNECTION)]
    pub(super) protocol: Protocol,

    /// Hide matching tools and reject calls to them
    ///
    /// Repeatable. In the pattern, * matches any characters. Example: --ignore-tool "delete_*"
    #[arg(long, value_name = "PATTERN", help_heading = CONNECTION)]
    pub(super) ignore_tool: Vec<String>,

    /// Ignore the server's cookies
    #[arg(long, help_heading = CONNECTION)]
    pub(super) disable_cookies: bool,

    /// Trust additional CA certificates (PEM file)
    ///
    /// Repeatable. These certificates are trusted in addition to those of the operating system. The environment variables
    /// NODE_EXTRA_CA_CERTS and SSL_CERT_FILE name such files too.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = TLS)]
    pub(super) ca_cert: Vec<PathBuf>,

    /// Present a client certificate (PEM file)
    ///
    /// The file holds the certificate chain. Needs --client-key.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "client_key", help_heading = TLS)]
    pub(super) client_cert: Option<PathBuf>,

    /// Use this private key for --client-cert (PEM file)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "client_cert", help_heading = TLS)]
    pub(super) client_key: Option<PathBuf>,

    /// Connect through this proxy
    ///
    /// The URL begins with http://, https:// or socks5://. Write user and password into it: http://USER:PASSWORD@HOST:PORT.
    /// The default is the environment variable HTTPS_PROXY, HTTP_PROXY or ALL_PROXY. Hosts in NO_PROXY and servers on this
    /// computer are reached without a proxy.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = TLS)]
    pub(super) proxy: Option<String>,

    /// Accept the npm package's flag for proxy variables
    ///
    /// It has no effect, because mcp-remote always uses the proxy variables.
    #[arg(long, hide = true, help_heading = TLS)]
    pub(super) enable_proxy: bool,

    /// Connect over IPv4 only
    #[arg(long, help_heading = TLS)]
    pub(super) ipv4: bool,

    /// Use HTTP/1.1 only
    #[arg(long, help_heading = TLS)]
    pub(super) http1: bool,

    /// Limit the time to establish a connection
    ///
    /// In seconds. Fractions are allowed.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = positive_seconds, help_heading = LIMITS)]
    pub(super) connect_timeout: Duration,

    /// Limit the wait for the server's response headers
    ///
    /// In seconds. 0 disables the limit.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, help_heading = LIMITS)]
    pub(super) headers_timeout: Duration,

    /// Limit the idle time of responses and event streams
    ///
    /// In seconds. 0 disables the limit.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds, help_heading = LIMITS)]
    pub(super) body_timeout: Duration,

    /// Limit how long initialize waits for you to sign in
    ///
    /// In seconds. It applies to --start wait and to mcp-remote client. Other requests wait 45 seconds at most. The
    /// sign-in itself stays open longer.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive_seconds, help_heading = LIMITS)]
    pub(super) auth_timeout: Duration,

    #[command(flatten)]
    pub(super) limits: Limits,

    /// Print the sign-in URL, but open no browser
    #[arg(long, help_heading = AUTHENTICATION)]
    pub(super) no_browser: bool,

    /// Sign in with a code on another device
    ///
    /// The authorization server must support the device authorization grant (RFC 8628).
    #[arg(long, group = "grant", help_heading = AUTHENTICATION)]
    pub(super) device_code: bool,

    /// Sign in as a service account (client credentials)
    ///
    /// Needs --static-oauth-client-info with a client_secret, or with --client-key-jwt.
    #[arg(long, group = "grant", help_heading = AUTHENTICATION)]
    pub(super) client_credentials: bool,

    /// Sign in as a workload, with an assertion from a file
    ///
    /// Experimental. mcp-remote reads the file again for each token, because platforms replace it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, group = "grant", help_heading = AUTHENTICATION)]
    pub(super) assertion_file: Option<PathBuf>,

    /// Sign in as a workload, with an assertion from a command
    ///
    /// Experimental. The command prints the assertion. It is started without a shell. Example: --assertion-command "gcloud
    /// auth print-identity-token"
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString, group = "grant", help_heading = AUTHENTICATION)]
    pub(super) assertion_command: Option<String>,

    /// Sign in through a company identity provider (ID-JAG)
    ///
    /// The file holds your ID token from that identity provider. Needs --id-jag-token-endpoint and --id-jag-client-id.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, group = "grant", requires = "id_jag_token_endpoint", help_heading = AUTHENTICATION)]
    pub(super) id_jag_token: Option<PathBuf>,

    /// Set the token endpoint of the identity provider
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, requires = "id_jag_client_id", help_heading = AUTHENTICATION)]
    pub(super) id_jag_token_endpoint: Option<String>,

    /// Set the client ID at the identity provider
    #[arg(long, value_name = "ID", requires = "id_jag_token", value_parser = NonEmptyStringValueParser::new(), help_heading = AUTHENTICATION)]
    pub(super) id_jag_client_id: Option<String>,

    /// Set the authorization endpoint
    ///
    /// For an authorization server that publishes no metadata. Needs --token-endpoint and --static-oauth-client-info.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, requires = "token_endpoint", requires = "static_oauth_client_info", conflicts_with = "grant", help_heading = AUTHENTICATION)]
    pub(super) authorization_endpoint: Option<String>,

    /// Set the token endpoint
    ///
    /// Goes with --authorization-endpoint or --client-credentials.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = AUTHENTICATION)]
    pub(super) token_endpoint: Option<String>,

    /// Add a parameter to the authorization request
    ///
    /// Repeatable. Example: --authorize-param prompt=select_account
    #[arg(long, value_name = "NAME=VALUE", help_heading = AUTHENTICATION)]
    pub(super) authorize_param: Vec<String>,

    /// Set the resource indicator of the token (RFC 8707)
    ///
    /// The default is the resource that the server publishes.
    #[arg(long, value_name = "URI", value_hint = ValueHint::Url, help_heading = AUTHENTICATION)]
    pub(super) resource: Option<String>,

    /// Send no resource indicator
    #[arg(long, help_heading = AUTHENTICATION)]
    pub(super) disable_resource_parameter: bool,

    /// Send the ID token instead of the access token
    #[arg(long, help_heading = AUTHENTICATION)]
    pub(super) use_id_token: bool,

    /// Bind tokens to a key (DPoP, experimental)
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = AUTHENTICATION)]
    pub(super) dpop: Dpop,

    /// Require this authorization server
    ///
    /// mcp-remote sends client secrets and assertions to no other authorization server. Write the issuer exactly as the
    /// metadata of that authorization server names it.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = AUTHENTICATION)]
    pub(super) issuer: Option<String>,

    /// Allow a sign-in page on this host
    ///
    /// Repeatable. Without it, the sign-in page must be on the site of its authorization server.
    #[arg(long, value_name = "HOST", value_hint = ValueHint::Hostname, help_heading = AUTHENTICATION)]
    pub(super) sign_in_host: Vec<String>,

    /// Allow an authorization server on a private network
    ///
    /// Without it, a server on the internet cannot point mcp-remote to private IP addresses.
    #[arg(long, help_heading = AUTHENTICATION)]
    pub(super) allow_private_addresses: bool,

    /// Continue if PKCE S256 is not advertised
    ///
    /// mcp-remote always sends a PKCE challenge. Without this flag, it requires that the authorization server advertises S256.
    #[arg(long, help_heading = AUTHENTICATION)]
    pub(super) assume_pkce: bool,

    /// Redirect the browser here after the sign-in
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = AUTHENTICATION)]
    pub(super) auth_success_url: Option<String>,

    /// Store sign-ins in this folder
    ///
    /// The default is the environment variable MCP_REMOTE_CONFIG_DIR, or else ~/.mcp-auth.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, help_heading = AUTHENTICATION)]
    pub(super) config_dir: Option<PathBuf>,

    /// Use an OAuth client that is already registered
    ///
    /// A JSON object with client_id and, if the client has one, client_secret, or @FILE. ${NAME} is replaced with the
    /// environment variable NAME. Example: --static-oauth-client-info @client.json
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    pub(super) static_oauth_client_info: Option<String>,

    /// Add members to the client registration
    ///
    /// A JSON object, or @FILE. A scope in it is requested in the sign-in. Example: --static-oauth-client-metadata
    /// '{"scope":"files:read"}'
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    pub(super) static_oauth_client_metadata: Option<String>,

    /// Use a client ID metadata document
    ///
    /// The URL begins with https:// and has a path.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = CLIENT)]
    pub(super) client_metadata_url: Option<String>,

    /// Authenticate with this private key (PEM file)
    ///
    /// Replaces the client_secret of --client-credentials (private_key_jwt). The key is P-256, P-384, Ed25519 or RSA.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "client_credentials", help_heading = CLIENT)]
    pub(super) client_key_jwt: Option<PathBuf>,

    /// Set the host name in the redirect URI
    ///
    /// The default is localhost, on Windows 127.0.0.1.
    #[arg(long, value_name = "NAME", default_value = if cfg!(windows) { "127.0.0.1" } else { "localhost" }, hide_default_value = true, value_parser = callback_host, help_heading = CLIENT)]
    pub(super) host: String,

    /// Set the path in the redirect URI
    #[arg(long, value_name = "PATH", default_value = "/oauth/callback", value_parser = callback_path, help_heading = CLIENT)]
    pub(super) callback_path: String,

    /// Log every step, also to a file
    ///
    /// The file is HASH_debug.log in the folder of --config-dir. The log has no message bodies, headers, tokens or keys.
    #[arg(long, help_heading = OUTPUT)]
    pub(super) debug: bool,

    /// Log nothing to stderr
    #[arg(long, help_heading = OUTPUT)]
    pub(super) silent: bool,
}

/// The arguments that say which stored sign-in is meant: npm's hash is over these.
const NAMING: [&str; 12] = [
    "server_url",
    "header",
    "header_file",
    "allow_http",
    "resource",
    "disable_resource_parameter",
    "authorize_param",
    "client_credentials",
    "authorization_endpoint",
    "token_endpoint",
    "client_metadata_url",
    "config_dir",
];

/// Returns whether an argument says which stored sign-in is meant.
pub(super) fn names_sign_in(arg: &clap::Arg) -> bool {
    NAMING.contains(&arg.get_id().as_str())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| "not a valid port (1 to 65535)".to_owned())
}

/// Parses a host as it stands in a URL: a name, or an IP address.
fn callback_host(text: &str) -> Result<String, String> {
    let url = Url::parse(&format!("http://{text}:1"));
    let is_host = !text.contains(['/', '\\', '@', '?', '#']) && !text.contains(char::is_whitespace);
    if is_host && url.is_ok_and(|url| url.port() == Some(1)) {
        return Ok(text.to_owned());
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(format!("an IPv6 address is written in brackets: [{address}]"));
    }
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let meant = Url::parse(&with_scheme).ok();
    Err(match meant.as_ref().and_then(Url::host_str) {
        Some(host) => format!("must be the host name alone: {host}"),
        None => "must be a host name or an IP address, such as localhost".to_owned(),
    })
}

/// Parses a path as it stands in a URL, because the browser asks for it in that form.
fn callback_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("must begin with /".to_owned());
    }
    if ["/wait-for-auth", "/.mcp-remote/id"].contains(&text) {
        return Err("is used by mcp-remote itself".to_owned());
    }
    match Url::parse(&format!("http://localhost{text}")) {
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            Err("must be a path without ? and #, such as /oauth/callback".to_owned())
        }
        Ok(url) if url.path() != text => Err(format!("must be written as in a URL: {}", url.path())),
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a path, such as /oauth/callback".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn host_and_path_of_redirect_are_those_of_a_url() {
        for host in ["localhost", "127.0.0.1", "[::1]", "a.example", "bücher.example", "my_host", "LOCALHOST"] {
            assert_eq!(callback_host(host).as_deref(), Ok(host));
        }
        for path in ["/", "/cb", "/a/b.c", "//x", "/a%20b", "/a:b;c=d|e~(f)*", "/oauth/callback/"] {
            assert_eq!(callback_path(path).as_deref(), Ok(path));
        }
    }

    #[test]
    fn naming_arguments_exist() {
        let named = Args::command().get_arguments().filter(|arg| names_sign_in(arg)).count();
        assert_eq!(named, NAMING.len());
    }
}
