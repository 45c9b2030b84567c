//! The flags: those of npm's mcp-remote 0.15.1, and those that a host's stripped environment makes necessary beside them.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, builder::NonEmptyStringValueParser};

use crate::config::{
    Dpop, Limits, Protocol, TransportStrategy,
    values::{positive_seconds, seconds},
};

pub(super) const CONNECTING: &str = "Connecting";
pub(super) const NETWORK: &str = "Network";
pub(super) const SIGN_IN: &str = "Signing in (obtaining authorization)";
pub(super) const CLIENT: &str = "Who we are to the authorization server";
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
    pub(super) server_url: Option<String>,

    /// Port of the sign-in redirect [default: derived from the server's address]
    #[arg(value_name = "CALLBACK-PORT", index = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) callback_port: Option<u16>,

    /// Header for every request to the server; ${NAME} in the value is read from the environment
    #[arg(long, value_name = "NAME:VALUE", help_heading = CONNECTING)]
    pub(super) header: Vec<String>,

    /// File with one header a line; blank lines and lines that begin with # are skipped
    #[arg(long, value_name = "FILE", help_heading = CONNECTING)]
    pub(super) header_file: Vec<PathBuf>,

    /// Allow a server address without TLS that is not on this machine
    #[arg(long, help_heading = CONNECTING)]
    pub(super) allow_http: bool,

    /// Which transports to try, in which order
    #[arg(long, value_name = "STRATEGY", default_value = "http-first", help_heading = CONNECTING)]
    pub(super) transport: TransportStrategy,

    /// Protocol era to speak with the server
    #[arg(long, value_name = "ERA", default_value = "auto", help_heading = CONNECTING)]
    pub(super) protocol: Protocol,

    /// Hide tools of this name from the host and refuse calls to them; * stands for anything
    #[arg(long, value_name = "PATTERN", help_heading = CONNECTING)]
    pub(super) ignore_tool: Vec<String>,

    /// Do not keep the server's cookies
    #[arg(long, help_heading = CONNECTING)]
    pub(super) disable_cookies: bool,

    /// Trust these certificates too (PEM), on top of the operating system's
    #[arg(long, value_name = "FILE", help_heading = NETWORK)]
    pub(super) ca_cert: Vec<PathBuf>,

    /// Client certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = NETWORK)]
    pub(super) client_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = NETWORK)]
    pub(super) client_key: Option<PathBuf>,

    /// Proxy to the server: http://, https:// or socks5:// [default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY]
    #[arg(long, value_name = "URL", help_heading = NETWORK)]
    pub(super) proxy: Option<String>,

    /// Accepted for npm's sake: the proxy variables are always honoured
    #[arg(long, help_heading = NETWORK)]
    pub(super) enable_proxy: bool,

    /// Use IPv4 only
    #[arg(long, help_heading = NETWORK)]
    pub(super) ipv4: bool,

    /// Use HTTP/1.1 only
    #[arg(long, help_heading = NETWORK)]
    pub(super) http1: bool,

    /// Time for a connection to come about
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = positive_seconds, help_heading = NETWORK)]
    pub(super) connect_timeout: Duration,

    /// Time for the server to begin its answer; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, help_heading = NETWORK)]
    pub(super) headers_timeout: Duration,

    /// Longest silence inside an answer or an event stream; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds, help_heading = NETWORK)]
    pub(super) body_timeout: Duration,

    #[command(flatten)]
    pub(super) limits: Limits,

    /// Host name in the redirect URI
    #[arg(long, value_name = "NAME", default_value = if cfg!(windows) { "127.0.0.1" } else { "localhost" }, help_heading = SIGN_IN)]
    pub(super) host: String,

    /// Path in the redirect URI
    #[arg(long, value_name = "PATH", default_value = "/oauth/callback", value_parser = callback_path, help_heading = SIGN_IN)]
    pub(super) callback_path: String,

    /// With --start wait, and in mcp-remote-client, how long initialize waits for a person to sign in; other requests are
    /// held 45 s at most, and the sign-in stays open after that
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive_seconds, help_heading = SIGN_IN)]
    pub(super) auth_timeout: Duration,

    /// Where the browser goes after signing in
    #[arg(long, value_name = "URL", help_heading = SIGN_IN)]
    pub(super) auth_success_url: Option<String>,

    /// Resource indicator to ask a token for [default: what the server publishes]
    #[arg(long, value_name = "URI", help_heading = SIGN_IN)]
    pub(super) resource: Option<String>,

    /// Send no resource indicator
    #[arg(long, help_heading = SIGN_IN)]
    pub(super) disable_resource_parameter: bool,

    /// Parameter to add to the authorization request
    #[arg(long, value_name = "NAME=VALUE", help_heading = SIGN_IN)]
    pub(super) authorize_param: Vec<String>,

    /// Send the id token in place of the access token
    #[arg(long, help_heading = SIGN_IN)]
    pub(super) use_id_token: bool,

    /// Never open a browser; print the address to open
    #[arg(long, help_heading = SIGN_IN)]
    pub(super) no_browser: bool,

    /// Follow a server on the internet to an authorization server in a private network
    #[arg(long, help_heading = SIGN_IN)]
    pub(super) allow_private_addresses: bool,

    /// Authorization server that may get the client's secrets and assertions, as its metadata name it; another one that
    /// the server names is refused
    #[arg(long, value_name = "URL", help_heading = SIGN_IN)]
    pub(super) issuer: Option<String>,

    /// Host of a sign-in page that is not on the site of its authorization server; may be repeated
    #[arg(long, value_name = "HOST", help_heading = SIGN_IN)]
    pub(super) sign_in_host: Vec<String>,

    /// Go on where the authorization server does not list the PKCE method S256, which is sent in any case
    #[arg(long, help_heading = SIGN_IN)]
    pub(super) assume_pkce: bool,

    /// Bind tokens to a key of ours (experimental): where the server asks for it, always, or never
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = SIGN_IN)]
    pub(super) dpop: Dpop,

    /// Sign in with a code on another device
    #[arg(long, group = "grant", help_heading = SIGN_IN)]
    pub(super) device_code: bool,

    /// Sign in as a program, without a person: with the client_secret of --static-oauth-client-info, or with a key
    #[arg(long, group = "grant", help_heading = SIGN_IN)]
    pub(super) client_credentials: bool,

    /// Private key (PEM) in place of a client_secret for --client-credentials
    #[arg(long, value_name = "FILE", requires = "client_credentials", help_heading = SIGN_IN)]
    pub(super) client_key_jwt: Option<PathBuf>,

    /// Token endpoint for --client-credentials or --authorization-endpoint
    #[arg(long, value_name = "URL", help_heading = SIGN_IN)]
    pub(super) token_endpoint: Option<String>,

    /// Authorization endpoint of an authorization server that publishes no metadata; with --token-endpoint and
    /// --static-oauth-client-info
    #[arg(long, value_name = "URL", requires = "token_endpoint", requires = "static_oauth_client_info", conflicts_with = "grant", help_heading = SIGN_IN)]
    pub(super) authorization_endpoint: Option<String>,

    /// Sign in through the company's identity provider: file with the person's identity token there
    #[arg(long, value_name = "FILE", group = "grant", requires = "id_jag_token_endpoint", help_heading = SIGN_IN)]
    pub(super) id_jag_token: Option<PathBuf>,

    /// Token endpoint of that identity provider
    #[arg(long, value_name = "URL", requires = "id_jag_client_id", help_heading = SIGN_IN)]
    pub(super) id_jag_token_endpoint: Option<String>,

    /// Who we are to that identity provider
    #[arg(long, value_name = "ID", requires = "id_jag_token", value_parser = NonEmptyStringValueParser::new(), help_heading = SIGN_IN)]
    pub(super) id_jag_client_id: Option<String>,

    /// Sign in as a workload (experimental): file with the platform's assertion, read afresh each time
    #[arg(long, value_name = "FILE", group = "grant", help_heading = SIGN_IN)]
    pub(super) assertion_file: Option<PathBuf>,

    /// The same with a program that prints the assertion (experimental); started without a shell
    #[arg(long, value_name = "COMMAND", group = "grant", help_heading = SIGN_IN)]
    pub(super) assertion_command: Option<String>,

    /// Members to add to the client registration: JSON, or @FILE
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    pub(super) static_oauth_client_metadata: Option<String>,

    /// Registration made elsewhere, with client_id and client_secret: JSON, or @FILE; ${NAME} is read from the environment
    #[arg(long, value_name = "JSON", help_heading = CLIENT)]
    pub(super) static_oauth_client_info: Option<String>,

    /// Address of a client id metadata document
    #[arg(long, value_name = "URL", help_heading = CLIENT)]
    pub(super) client_metadata_url: Option<String>,

    /// Say more, with times, also to a file in the store's folder
    #[arg(long, help_heading = LOGS)]
    pub(super) debug: bool,

    /// Say nothing on stderr
    #[arg(long, help_heading = LOGS)]
    pub(super) silent: bool,

    /// Folder of stored sign-ins [default: MCP_REMOTE_CONFIG_DIR, or ~/.mcp-auth]
    #[arg(long, value_name = "FOLDER", help_heading = LOGS)]
    pub(super) config_dir: Option<PathBuf>,
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

fn callback_path(text: &str) -> Result<String, String> {
    match text {
        "/wait-for-auth" | "/.mcp-remote/id" => Err("is used by mcp-remote itself".to_owned()),
        path if path.starts_with('/') => Ok(path.to_owned()),
        _ => Err("must begin with /".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn naming_arguments_exist() {
        let named = Args::command().get_arguments().filter(|arg| names_sign_in(arg)).count();
        assert_eq!(named, NAMING.len());
    }
}
