//! Every failure that a user can meet, by its code: what the code means, and the tip. The tables of
//! `src/help/topics/errors.md` are this catalogue.
//!
//! # Invariants
//!
//! - A published code keeps its meaning, and is not given to another failure.
//! - A tip begins with a verb and has the text to type.

use std::fmt;

use serde::{Serialize, Serializer};

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The arguments of this program.
    Arguments,
    /// The connection to a server.
    Network,
    /// The sign-in: the user, or the authorization server.
    SignIn,
    /// The server answers, but rejects the request or sends something invalid.
    Refusal,
    /// The connection between the host and this program, or what is stored on this computer.
    Local,
}

/// A failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// The text of the code.
    pub text: &'static str,
    /// The kind.
    pub kind: Kind,
    /// What the code means.
    pub meaning: &'static str,
    /// The tip, if the code alone says what to do; a report may have a more exact one.
    pub action: Option<&'static str>,
    /// What `mcp-remote explain CODE` shows, in Markdown.
    pub page: &'static str,
}

/// Defines the tips that are more exact than a code's own, and the list of them.
macro_rules! tips {
    ($($(#[$doc:meta])* $visibility:vis $name:ident = $text:literal;)+) => {
        $($(#[$doc])* $visibility const $name: &str = $text;)+

        /// All tips that are more exact than a code's own.
        const EXACT_TIPS: &[&str] = &[$($name),+];
    };
}

tips! {
    /// Where the sign-in is open, and its URL known.
    pub(crate) SIGN_IN_THERE = "sign in on that page, then try again (the sign-in stays open)";
    /// Where another instance has asked the user.
    pub(crate) FINISH_IN_BROWSER = "finish the sign-in in the browser tab that is open";
    /// Where `mcp-remote-client` has waited, and ends.
    pub START_AGAIN = "run mcp-remote login with the same arguments, which waits an hour, or add --auth-timeout SECONDS here";
    /// Where a server requires a key and headers were given.
    pub(crate) CHECK_HEADERS = "check the name and value of each --header: one of them must be the API key";
    /// Where the connection was never established, so that the server has done nothing.
    pub(crate) CHECK_ADDRESS = "check the server URL: its scheme (http or https), port and path";
    /// Where a server is slow to start.
    pub(crate) STILL_TRIED = "wait while mcp-remote keeps trying, or let the host wait longer: --hold SECONDS";
    /// Where `127.0.0.1` or `[::1]` was rejected.
    pub(crate) NAME_LOCALHOST = "use localhost in the redirect URI: --host localhost";
    /// Where `localhost` was rejected.
    pub NAME_THE_ADDRESS = "use 127.0.0.1 in the redirect URI: --host 127.0.0.1";
    /// Where a server's certificate is self-signed.
    pub(crate) TRUST_SELF_SIGNED = "save that certificate in a PEM file and trust it: --ca-cert FILE";
    /// Where a server presents the certificate of a certificate authority.
    pub(crate) NAME_ITSELF = "trust that certificate itself, not its issuer's: --ca-cert FILE";
    /// Where a tool was called and the server knows no such tool, or not these arguments.
    pub(crate) CHECK_TOOL = "check the tool's name and arguments (mcp-remote client without call lists the tools)";
    /// Where a resource was read and the server knows no such resource.
    pub(crate) CHECK_RESOURCE = "check the resource URI (mcp-remote client without read lists the resources)";
    /// Where a program exists and cannot be executed.
    pub(crate) MAKE_EXECUTABLE = "make that file executable: chmod +x FILE";

    /// Where a redirect leads to an origin that only the server's proxy knows.
    pub(crate) USE_OWN_PATH = "use the URL in parentheses as the server URL";
    /// Where such a redirect leads nowhere else.
    pub(crate) FORWARD_SCHEME = "ask the server's operator to trust the X-Forwarded-Proto and X-Forwarded-Host headers of its proxy";
    /// Where a redirect leads to another server without TLS.
    pub(crate) TRY_HTTPS = "try that URL with https:// instead of http://, if it is the server you mean";
    /// Where an API gateway has no such route.
    pub(crate) CHECK_ROUTE = "check the path of the server URL, which begins with the stage behind an API gateway, such as /prod/mcp";
    /// 413.
    pub(crate) SEND_LESS = "send less in one request, or ask the server's operator to raise the request size limit";
    /// 431.
    pub(crate) SEND_FEWER_HEADERS = "shorten the values passed with --header, or add --disable-cookies";
    /// Where the server loses sessions that it has just started.
    pub(crate) SHARE_SESSIONS = "ask the server's operator for sticky sessions or a shared session store, if the server runs as several instances";
    /// Where a server on this machine rejected its IP address.
    pub(crate) URL_WITH_NAME = "use localhost instead of the IP address in the server URL";
    /// Where a server on this machine rejected `localhost`.
    pub(crate) URL_WITH_ADDRESS = "use 127.0.0.1 instead of localhost in the server URL";
    /// Where a server elsewhere rejected its host name.
    pub(crate) ALLOW_HOST = "ask the server's operator to add this host name to the server's allowed hosts";
    /// 401 with Basic.
    pub(crate) GIVE_BASIC = "put user name and password into the server URL: https://USER:PASSWORD@HOST/PATH (write @ in either as %40)";
    /// 401 with a scheme that this program does not support.
    pub(crate) ASK_FOR_KEY = "ask the server's operator for an API key or token to pass with --header";
    /// Where an event stream names an endpoint without the beginning of its own path.
    pub(crate) NAME_WHOLE_PATH = "ask the server's operator to include the proxy's path prefix in the endpoint (root_path, X-Forwarded-Prefix), or try --transport http-only";

    /// Where the server speaks HTTP without TLS, on this machine.
    pub(crate) USE_PLAIN_HTTP = "change https:// to http:// in the server URL";
    /// Where the server speaks HTTP without TLS, elsewhere.
    pub(crate) CHECK_PORT = "check the port in the server URL: HTTPS usually uses 443";
    /// Where a server or an inspecting proxy offers old TLS only.
    pub(crate) OFFER_NEWER_TLS = "ask the server's operator to enable TLS 1.3, or add --client-cert FILE --client-key FILE if the server requires a client certificate";
    /// Where TLS knows no such name.
    pub(crate) CHECK_HOST_NAME = "check the host name in the server URL";
    /// Where a certificate has no extensions.
    pub(crate) RENEW_AS_VERSION_3 = "create the certificate again as X.509 version 3: openssl req -x509 -addext subjectAltName=DNS:NAME";

    /// 407 with schemes that this program does not support.
    pub(crate) RUN_LOCAL_PROXY = "run a local proxy that signs in to this one, such as px or cntlm, then add --proxy http://127.0.0.1:PORT";
    /// 407 although a user and a password were sent.
    pub(crate) CHECK_PROXY_PASSWORD = "check user name and password in the proxy URL (write @ as %40 and : as %3A)";
    /// Where a response has too many header lines.
    pub(crate) SEND_SMALLER_HEAD = "ask the operator of the server or of its proxy to send fewer and shorter response headers";
    /// Where a body is encoded although the request did not ask for it.
    pub(crate) SEND_UNENCODED = "remove Accept-Encoding from --header, or ask the server's operator to use no encoding other than gzip";

    /// Where an argument has a placeholder of another program.
    pub(crate) SPELL_VARIABLE = "write ${NAME} there, and set NAME in the \"env\" of this entry";

    /// Where an entry has program and arguments, or all arguments, in one string.
    pub(crate) ARGUMENTS_APART = "write each argument as a separate element of \"args\"";
    /// Where an entry starts this program and still has the words for npx.
    pub(crate) LEAVE_OUT_NPX = "remove \"-y\" and \"mcp-remote\" before the server URL";

    /// Where metadata names another issuer than the one that was asked for.
    pub(crate) NAME_ISSUER = "ask the server's operator to use the same issuer, character for character, in both metadata documents";
    /// Where an authorization server publishes no metadata.
    pub(crate) GIVE_ENDPOINTS = "pass the endpoints and your client ID, if you know them: --authorization-endpoint URL --token-endpoint URL --static-oauth-client-info @FILE";
    /// Where a server speaks HTTP+SSE and only Streamable HTTP is allowed.
    pub(crate) ALLOW_HTTP_SSE = "allow HTTP+SSE: --transport sse-only";
    /// Where HTTP/2 does not work with a server.
    pub(crate) USE_HTTP1 = "use HTTP/1.1 for this server: --http1";
    /// Where an authorization server does not accept `prompt=consent`.
    pub(crate) OMIT_PROMPT = "send no prompt parameter: --authorize-param prompt=";
    /// Where the user has named the scopes, and the server requires others.
    pub(crate) ADD_SCOPE = "add the scope that the server requires to \"scope\" in --static-oauth-client-metadata";
    /// Where an authorization code may be used, and its tokens are lost.
    pub(crate) SIGN_IN_ANEW = "sign in again: the next request of the host starts a new sign-in, and so does mcp-remote login";
    /// Where a request that only reads got no answer.
    pub(crate) READ_AGAIN = "try again: the request only reads, so it changed nothing at the server";
    /// Where a name was looked up on this computer because of the kind of the proxy.
    pub(crate) RESOLVE_AT_PROXY = "write socks5h:// or socks4a:// as the scheme of the proxy URL, so that the proxy resolves the name";
    /// Where a server asks for input without end.
    pub(crate) ASKS_TOO_OFTEN = "report this to the server's maintainers: a call must not ask for input so often";
    /// Where too many calls wait for input.
    pub(crate) ANSWER_OTHERS = "wait until the questions of other calls are answered, then try again";
    /// Where an endpoint of an authorization server redirects.
    pub(crate) NAME_ENDPOINT = "ask the server's operator to publish the new URL as the endpoint";
}

/// Returns whether a tip is one of this program's for a failure, because any server can send an error that looks like this
/// program's.
pub(crate) fn is_ours(entry: &Entry, action: &str) -> bool {
    entry.action == Some(action) || EXACT_TIPS.contains(&action)
}

/// Defines [`Code`] and [`CATALOGUE`] in one order, so that a code is the index of its entry.
macro_rules! catalogue {
    ($($kind:ident: $variant:ident = $code:literal, $meaning:literal, $action:expr;)+) => {
        /// A failure's name. Its text is stable: users search for it and scripts compare it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        /// All failures, by kind, the more frequent first.
        pub const CATALOGUE: &[Entry] =
            &[$(Entry {
                code: Code::$variant,
                text: $code,
                kind: Kind::$kind,
                meaning: $meaning,
                action: $action,
                page: include_str!(concat!("../help/codes/", $code, ".md")),
            },)+];
    };
}

/// The tip of each failure after which the user signs in again.
const RUN_LOGIN: Option<&str> = Some("run mcp-remote login in a terminal, with the arguments of this entry");
/// The tip where the client has to be registered by the user.
const REGISTER_BY_HAND: Option<&str> =
    Some("register a client with the authorization server, then pass it: --static-oauth-client-info @FILE");
/// The tip where the path of the server URL is most often wrong.
const CHECK_PATH: Option<&str> = Some("check the path of the server URL, which often ends in /mcp or /sse");
/// The tip where a request may have run.
const LOOK_BEFORE_RESENDING: Option<&str> = Some("check whether the server did what you asked before you try again");
/// The tip where only the server's maintainers can help.
const REPORT: Option<&str> = Some("report this to the server's maintainers");
/// The tip where the failure may pass.
const TRY_LATER: Option<&str> = Some("try again later, and report this to the server's maintainers if it persists");

catalogue! {
    Arguments: BadArguments = "bad_arguments",
        "an argument is invalid or missing (exit code 2)",
        None;
    Arguments: MangledArguments = "mangled_arguments",
        "the host split an argument at a space, or left quotes around it (exit code 2)",
        Some("write each argument as a separate element of \"args\", without quotes, and put values with spaces into \"env\": --header \"Authorization:${AUTH}\"");
    Arguments: VariableNotSet = "variable_not_set",
        "an argument uses `${NAME}`, but that environment variable is not set, or is empty (exit code 2)",
        Some("set the variable in the \"env\" of this entry, because hosts pass on only a few of their own variables");
    Network: NameNotFound = "name_not_found",
        "the host name could not be resolved (DNS)",
        Some("check the host name in the server URL, and the network connection");
    Network: CannotConnect = "cannot_connect",
        "nothing answers at this host and port",
        Some("check that the server is running, and that host and port in the server URL are right");
    Network: ProxyUnreachable = "proxy_unreachable",
        "the proxy does not answer",
        Some("check the proxy URL in --proxy, HTTPS_PROXY or HTTP_PROXY, or list hosts to reach directly in NO_PROXY");
    Network: ProxyRefused = "proxy_refused",
        "the proxy requires a user name and password (407)",
        Some("set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT in the \"env\" of this entry, and remove --proxy");
    Network: ProxyForbids = "proxy_forbids",
        "the proxy refused to connect to this server; its message follows",
        Some("use another proxy with --proxy, or list hosts to reach directly in NO_PROXY");
    Network: CertificateNotTrusted = "certificate_not_trusted",
        "this computer does not trust the issuer of the server's certificate, often a company proxy, or the certificate is self-signed",
        Some("pass the issuer's certificate, if the issuer is your company or you: --ca-cert FILE");
    Network: NoCaCertificates = "no_ca_certificates",
        "this computer has no CA certificates, so it cannot check the server's certificate",
        Some("install the package ca-certificates, or pass a file with CA certificates: --ca-cert FILE, or SSL_CERT_FILE in \"env\"");
    Network: CertificateExpired = "certificate_expired",
        "the server's certificate expired, or is not valid yet",
        Some("check this computer's clock, then ask the server's operator to renew the certificate");
    Network: CertificateWrongName = "certificate_wrong_name",
        "the server's certificate is for other host names",
        Some("use a host name of the certificate in the server URL");
    Network: ClientCertificateNeeded = "client_certificate_needed",
        "the server requires a client certificate, or rejects the one it got",
        Some("pass a client certificate that the server accepts: --client-cert FILE --client-key FILE");
    Network: TlsFailed = "tls_failed",
        "the TLS handshake failed, most often because the server does not speak TLS on this port",
        Some("check https and the port in the server URL");
    Network: TimedOut = "timed_out",
        "the server accepts the connection but does not answer in time",
        Some("raise --headers-timeout, --body-timeout or --initialize-timeout SECONDS if the server needs longer (0 waits forever)");
    Network: ConnectionBroken = "connection_broken",
        "the connection broke before the response was complete",
        LOOK_BEFORE_RESENDING;
    Network: AuthorizationServerUnreachable = "authorization_server_unreachable",
        "the authorization server does not answer",
        Some("check the network, and whether that host needs --proxy URL or --ca-cert FILE");
    SignIn: SignInNeeded = "sign_in_needed",
        "you have to sign in first; if the sign-in page itself shows an error, see `unknown_client` and `redirect_uri_refused`",
        RUN_LOGIN;
    SignIn: SignInTimedOut = "sign_in_timed_out",
        "you did not finish the sign-in in time",
        RUN_LOGIN;
    SignIn: SignInDenied = "sign_in_denied",
        "you denied access, or the authorization server did (`access_denied`)",
        Some("sign in again and allow access, if you did not mean to deny it");
    SignIn: NoBrowser = "no_browser",
        "a warning: mcp-remote could not open a browser",
        Some("open the URL shown in any browser, and run mcp-remote finish here if that browser is on another computer");
    SignIn: NoRefreshToken = "no_refresh_token",
        "a warning: the authorization server issued no refresh token, so you have to sign in again when the access token expires",
        Some("request one: --authorize-param access_type=offline for Google, else add the scope offline_access in --static-oauth-client-metadata");
    SignIn: CredentialRefused = "credential_refused",
        "the server rejected your `Authorization` header (401)",
        Some("check the value of the header Authorization, or remove it if you can sign in to the server with a browser");
    SignIn: Unauthorized = "unauthorized",
        "the server requires a credential (401), and supports no sign-in with a browser",
        Some("pass an API key: --header \"Authorization:${AUTH}\" with AUTH in the \"env\" of this entry, or --header-file FILE");
    SignIn: InsufficientScope = "insufficient_scope",
        "the server requires a scope that the authorization server did not grant",
        Some("ask the server's operator for access, or sign in with an account that has it");
    SignIn: TokenRefused = "token_refused",
        "the server rejected a token that was just issued for it",
        Some("name the resource that the server expects: --resource URI");
    SignIn: RegistrationRefused = "registration_refused",
        "the authorization server rejected the client registration",
        REGISTER_BY_HAND;
    SignIn: RegistrationBusy = "registration_busy",
        "the authorization server is too busy to register a client",
        Some("wait, then run mcp-remote login in a terminal, with the arguments of this entry");
    SignIn: NoClient = "no_client",
        "the authorization server does not support dynamic client registration",
        REGISTER_BY_HAND;
    SignIn: UnknownClient = "unknown_client",
        "the authorization server does not recognize the client ID, or does not allow it this request",
        Some("correct --static-oauth-client-info, or delete the stored client registration: mcp-remote logout, with the arguments of this entry");
    SignIn: OtherIssuer = "other_issuer",
        "your client ID belongs to another authorization server",
        Some("register a client with that authorization server, then correct --static-oauth-client-info");
    SignIn: ForeignSignInPage = "foreign_sign_in_page",
        "the server's metadata names a sign-in page and a token endpoint on two different sites",
        Some("allow the page, if both sites belong to one provider: --sign-in-host HOST");
    SignIn: IssuerNotNamed = "issuer_not_named",
        "only the server names the authorization server that your assertion would go to; for a client secret, this is a warning",
        Some("name the authorization server that the credential is for: --issuer URL");
    SignIn: RedirectUriRefused = "redirect_uri_refused",
        "the authorization server rejected the redirect URI",
        Some("use the other of localhost and 127.0.0.1 in the redirect URI: --host NAME");
    SignIn: ScopeRefused = "scope_refused",
        "the authorization server does not know the requested scopes",
        Some("set the scopes to request: --static-oauth-client-metadata '{\"scope\":\"…\"}'");
    SignIn: ResourceRefused = "resource_refused",
        "the authorization server rejected the resource parameter (`invalid_target`, AADSTS9010010)",
        Some("omit the parameter: --disable-resource-parameter");
    SignIn: ResourceMismatch = "resource_mismatch",
        "the server's metadata is for another URL",
        Some("use the URL from the metadata as the server URL");
    SignIn: WrongIssuer = "wrong_issuer",
        "the response came from another authorization server (`iss`)",
        Some("try again, and report this to the server's maintainers if it persists");
    SignIn: NoPkce = "no_pkce",
        "the authorization server does not advertise PKCE with S256",
        Some("add --assume-pkce, if you know that the authorization server supports it");
    SignIn: GrantNotOffered = "grant_not_offered",
        "the authorization server does not support what a flag requests",
        Some("remove the flag that requests it");
    SignIn: BadMetadata = "bad_metadata",
        "the server's OAuth metadata is missing or invalid",
        Some("check the server URL, or report this to the server's maintainers");
    SignIn: BadAddress = "bad_address",
        "the server's OAuth metadata has an invalid or unencrypted URL",
        REPORT;
    SignIn: PrivateAddress = "private_address",
        "the server points to an authorization server on a private network",
        Some("add --allow-private-addresses, if you trust the server");
    SignIn: AuthorizationServerFailed = "authorization_server_failed",
        "the authorization server sent an invalid response",
        TRY_LATER;
    SignIn: SignInRefused = "sign_in_refused",
        "the authorization server rejected the sign-in; its error code and message follow",
        RUN_LOGIN;
    SignIn: SignInFailed = "sign_in_failed",
        "a file, a key or a program on this computer prevents the sign-in",
        Some("fix that file, key or program, then run mcp-remote login in a terminal, with the arguments of this entry");
    Refusal: NotMcp = "not_mcp",
        "something other than an MCP server answers, such as a web site",
        CHECK_PATH;
    Refusal: NoTransport = "no_transport",
        "the server supports neither Streamable HTTP nor HTTP+SSE at this URL, most often because the path is wrong",
        CHECK_PATH;
    Refusal: NotFound = "not_found",
        "the server answered 404 with one transport selected, or during a session",
        CHECK_PATH;
    Refusal: Redirected = "redirected",
        "the server redirects to another URL",
        Some("use the new URL as the server URL, if it is the server you mean");
    Refusal: Forbidden = "forbidden",
        "the server does not allow this with your credential (403)",
        Some("ask the server's operator for access, or check the credential passed with --header");
    Refusal: WebSignIn = "web_sign_in",
        "a web sign-in protects the server (Cloudflare Access, oauth2-proxy, a login page)",
        Some("pass a service token with --header, or ask the server's operator to exempt the path of this URL from the web sign-in");
    Refusal: BotFilter = "bot_filter",
        "a bot filter (Cloudflare, Vercel, AWS WAF) blocks mcp-remote, in front of the server or the authorization server",
        Some("ask the server's operator to exempt the path of this URL from the bot filter");
    Refusal: TooManyRequests = "too_many_requests",
        "the server answered 429 (too many requests) for 45 s",
        Some("wait, then try again");
    Refusal: ServerFailed = "server_failed",
        "the server answered with a server error (5xx); its message follows",
        TRY_LATER;
    Refusal: Refused = "refused",
        "the server answered with another client error (4xx); its message follows",
        Some("check the server URL and the headers passed with --header");
    Refusal: ServerError = "server_error",
        "`mcp-remote client`: the server answered with a JSON-RPC error of its own, which a host gets unchanged",
        REPORT;
    Refusal: SessionLost = "session_lost",
        "the server lost the session and does not start a new one",
        Some("restart this server's entry in the host");
    Refusal: ProtocolVersionNotShared = "protocol_version_not_shared",
        "the host and the server share no protocol version",
        Some("restart this server's entry in the host, then update the host or the server");
    Refusal: InputRequired = "input_required",
        "the server asked for input during a call (elicitation, sampling, roots) and did not get it",
        Some("use a host that supports this, or answer within ten minutes");
    Refusal: NoAnswer = "no_answer",
        "the server completed its response without an answer to the request",
        LOOK_BEFORE_RESENDING;
    Refusal: NoEventStream = "no_event_stream",
        "the HTTP+SSE event stream names no endpoint, or one on another server",
        Some("check the server URL, or try --transport http-only");
    Refusal: BadMessage = "bad_message",
        "the server's response is not valid JSON-RPC, or MCP does not allow it",
        REPORT;
    Refusal: TooLarge = "too_large",
        "a message exceeds the size limit",
        Some("raise the limit: --max-message-size BYTES");
    Local: PortTaken = "port_taken",
        "another program uses the callback port",
        Some("stop that program, or write another port after the server URL");
    Local: StoreNotWritable = "store_not_writable",
        "a warning: the credentials cannot be stored, so you have to sign in again at the next start",
        Some("make that folder writable, or use another one: --config-dir FOLDER");
    Local: StoreDamaged = "store_damaged",
        "a warning: a stored file is damaged and is ignored",
        Some("delete that file: the next sign-in creates a new one");
    Local: StoreUnavailable = "store_unavailable",
        "a stored file cannot be read, or its disk does not answer",
        Some("check that file or its disk, or use another folder: --config-dir FOLDER");
    Local: BadEntry = "bad_entry",
        "`mcp-remote client`: an entry in a host's configuration cannot work, most often because its command does not exist",
        Some("write the full path of an existing program into \"command\"");
    Local: TooMany = "too_many",
        "thousands of requests, or very large ones, are pending",
        Some("wait until some of the pending requests are answered");
    Local: SessionReplaced = "session_replaced",
        "the host sent `initialize` again before this request was answered",
        Some("send the request again in the new session");
    Local: HostClosed = "host_closed",
        "the host closed the connection before the server answered",
        Some("start this server's entry in the host again");
}

impl Code {
    /// Returns the entry of this failure.
    #[must_use]
    pub const fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }

    /// Returns the text of the code, for people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.entry().text
    }

    /// Returns the code with this text.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        CATALOGUE.iter().find(|entry| entry.text == text).map(|entry| entry.code)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every text of the catalogue, with its name.
    fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        let of_entries =
            CATALOGUE.iter().flat_map(|entry| [(entry.text, entry.meaning)].into_iter().chain(tip_of(entry)));
        of_entries.chain(EXACT_TIPS.iter().map(|tip| ("a tip", *tip)))
    }

    fn tip_of(entry: &Entry) -> Option<(&'static str, &'static str)> {
        entry.action.map(|action| (entry.text, action))
    }

    #[test]
    fn code_and_texts_fit_one_table_row() {
        let mut codes = HashSet::new();
        for entry in CATALOGUE {
            let code = entry.text;
            assert!(codes.insert(code), "{code} is there twice");
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
        for (name, text) in texts() {
            assert!(!text.is_empty() && !text.contains(['|', '\n']) && !text.ends_with('.'), "{name}: {text}");
        }
    }

    #[test]
    fn texts_have_at_most_30_words() {
        for (name, text) in texts() {
            let count = text.split_whitespace().count();
            assert!(count <= 30, "{name}: {count} words: {text}");
        }
    }

    #[test]
    fn tip_begins_with_a_verb() {
        const VERBS: &str = "add allow ask change check correct create delete finish fix install make name omit open pass put \
                             raise register remove report request restart run save send set shorten sign start stop trust \
                             try use wait write";
        let verbs: HashSet<_> = VERBS.split_whitespace().collect();
        for (name, tip) in CATALOGUE.iter().filter_map(tip_of).chain(EXACT_TIPS.iter().map(|tip| ("a tip", *tip))) {
            let first = tip.split([' ', ',', ':']).next().unwrap();
            assert!(verbs.contains(first), "{name}: {tip}");
        }
    }

    #[test]
    fn texts_use_the_standard_terms() {
        /// What the glossary replaces, in lower case, between the borders of words.
        const REPLACED: [&str; 51] = [
            "way back",
            "who we are",
            "we",
            "us",
            "our",
            "ours",
            "address",
            "copy",
            "copies",
            "npm's",
            "told",
            "tells",
            "owed",
            "owes",
            "debt",
            "settle",
            "hurdle",
            "remedy",
            "stand-in",
            "provisional",
            "in the server's place",
            "in the place of",
            "in place of",
            "comes about",
            "came about",
            "come about",
            "stands",
            "nearer",
            "somebody",
            "someone",
            "nobody",
            "whoever",
            "one signs in",
            "a person",
            "people",
            "signs in at",
            "sign in at",
            "the very",
            "such ones",
            "that is none",
            "sake",
            "in vain",
            "aloud",
            "for ever",
            "time-out",
            "set-up",
            "any more",
            "revision",
            "ends in",
            "metadata are",
            "in spite of",
        ];
        for (name, text) in texts() {
            let words: String = text
                .to_ascii_lowercase()
                .chars()
                .map(|one| if one.is_alphanumeric() || "'-".contains(one) { one } else { ' ' })
                .collect();
            let words = format!(" {words} ").replace(" ip address ", " ").replace("often ends in", "");
            let found = REPLACED.iter().find(|replaced| words.contains(&format!(" {replaced} ")));
            assert_eq!(found, None, "{name}: {text}");
        }
    }
}
