//! Every failure that a person can meet, by its code: what it means and the one thing to do. The tables
//! under "When something does not work" in the README are this one.
//!
//! # Invariants
//!
//! - A published code keeps its meaning, and is not given to another failure.
//! - Each entry says what to do.

use std::fmt;

use serde::{Serialize, Serializer};

/// What kind of failure, for those who only want to know that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The arguments of this program.
    Arguments,
    /// The way to a server.
    Network,
    /// The sign-in: a person, or the authorization server.
    SignIn,
    /// The server was reached, and says no or nothing of use.
    Refusal,
    /// The connection between the host and this program, or what is kept on this computer.
    Local,
}

/// A failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which failure.
    pub code: Code,
    /// The text of the code.
    pub text: &'static str,
    /// What kind.
    pub kind: Kind,
    /// What it means, for somebody who looks it up.
    pub meaning: &'static str,
    /// One thing to do; a report may name the same more exactly.
    pub action: &'static str,
}

/// Where somebody waits for a person, and knows what they are to open.
pub(crate) const SIGN_IN_THERE: &str = "sign in there, then try again; the sign-in stays open";
/// Where another instance has asked the person.
pub(crate) const FINISH_IN_BROWSER: &str = "finish the sign-in in the browser tab that is open";
/// Where `mcp-remote-client` has waited, and ends.
pub const START_AGAIN: &str =
    "start this again, then sign in there; --auth-timeout SECONDS waits longer, and mcp-remote login an hour";
/// Where a server wants a key and headers were given.
pub(crate) const CHECK_HEADERS: &str =
    "check the names and values of the headers given with --header; one must be the key";
/// Where nothing came of the connection, so that nothing can have been done.
pub(crate) const CHECK_ADDRESS: &str = "check the server's address: http or https, its port and its path";
/// Where a server is only slow to begin.
pub(crate) const STILL_TRIED: &str = "wait, it is still tried; --hold SECONDS lets the host wait longer at the start";
/// Where `127.0.0.1` or `[::1]` was refused.
pub(crate) const NAME_LOCALHOST: &str = "let the redirect name localhost: --host localhost";
/// Where `localhost` was refused.
pub const NAME_THE_ADDRESS: &str = "let the redirect name 127.0.0.1: --host 127.0.0.1";
/// Where an authority's certificate is in the place of a server's.
pub(crate) const NAME_ITSELF: &str = "name that very certificate, not its issuer's: --ca-cert FILE";
/// Where a tool was called and the server knows no such tool, or not these arguments.
pub(crate) const CHECK_TOOL: &str =
    "check the tool's name and arguments: mcp-remote-client without call lists the tools";
/// The same of a resource.
pub(crate) const CHECK_RESOURCE: &str =
    "check the resource's address: mcp-remote-client without read lists the resources";
/// Where a program is there and cannot be executed.
pub(crate) const MAKE_EXECUTABLE: &str = "make that file executable: chmod +x";

/// Where a redirect names a path of the server, on an origin that only the server's proxy knows.
pub(crate) const USE_OWN_PATH: &str = "use the URL that is named last as the server's URL";
/// Where such a redirect leads nowhere else.
pub(crate) const FORWARD_SCHEME: &str =
    "ask the server's operator to let the server trust its proxy's X-Forwarded-Proto and X-Forwarded-Host headers";
/// Where a redirect leads to another server without TLS.
pub(crate) const TRY_HTTPS: &str =
    "if the URL that is named is the server you mean, try it with https:// instead of http://";
/// Where an API gateway has no such route.
pub(crate) const CHECK_ROUTE: &str =
    "check the path of the server's URL; behind an API gateway it begins with the stage, such as /prod/mcp";
/// 413.
pub(crate) const SEND_LESS: &str =
    "send less in one request, or ask the server's operator to raise the limit of the server or its proxy";
/// 431.
pub(crate) const SEND_FEWER_HEADERS: &str = "shorten the headers given with --header, or add --disable-cookies";
/// The server forgets sessions that it has just made.
pub(crate) const SHARE_SESSIONS: &str = "ask the server's operator whether it runs as several instances that do not share sessions: they need sticky sessions or a shared session store";
/// Where a server on this machine refused its IP address.
pub(crate) const URL_WITH_NAME: &str = "write localhost instead of the IP address into the server's URL";
/// Where a server on this machine refused `localhost`.
pub(crate) const URL_WITH_ADDRESS: &str = "write 127.0.0.1 instead of localhost into the server's URL";
/// The same of a server elsewhere.
pub(crate) const ALLOW_HOST: &str =
    "ask the server's operator to add this host name to the hosts that the server allows";
/// 401 with Basic.
pub(crate) const GIVE_BASIC: &str =
    "write user and password into the server's URL: https://USER:PASSWORD@HOST/PATH, with %40 for @ in either of them";
/// 401 with a scheme that this program does not speak.
pub(crate) const ASK_FOR_KEY: &str = "ask the server's operator for a key or token to give with --header; mcp-remote does not speak the scheme that is named";
/// Where an event stream names an endpoint without the beginning of its own path.
pub(crate) const NAME_WHOLE_PATH: &str = "ask the server's operator to let the server name its endpoint with the whole path (root_path or X-Forwarded-Prefix), or try --transport http-only";

/// Where a server or an inspecting proxy offers old TLS only.
pub(crate) const OFFER_NEWER_TLS: &str = "ask the server's operator to offer TLS 1.3, or TLS 1.2 with ECDHE; if the server asks for a client certificate: --client-cert FILE --client-key FILE";
/// Where TLS knows no such name.
pub(crate) const CHECK_HOST_NAME: &str = "check the host name in the server's URL";
/// Where a certificate has no extensions.
pub(crate) const RENEW_AS_VERSION_3: &str =
    "make the server's certificate again as version 3: openssl req -x509 with -addext subjectAltName=DNS:NAME";

/// 407 with schemes that this program does not speak.
pub(crate) const RUN_LOCAL_PROXY: &str =
    "run a local proxy that signs in to this one, such as px or cntlm, then name it: --proxy http://127.0.0.1:PORT";
/// 407 in spite of a user and a password.
pub(crate) const CHECK_PROXY_PASSWORD: &str =
    "check user and password in the proxy's URL, with %40 for @ and %3A for : in either of them";
/// Where a response has too many header lines.
pub(crate) const SEND_SMALLER_HEAD: &str =
    "ask the operator of the server or of its proxy to send fewer and shorter response headers";
/// Where a body is encoded in spite of the request.
pub(crate) const SEND_UNENCODED: &str =
    "leave Accept-Encoding out of --header, or ask the server's operator to use no encoding other than gzip";

/// Where an argument has a placeholder of another program.
pub(crate) const SPELL_VARIABLE: &str = "write ${NAME} there, and set NAME in the \"env\" of this entry";

/// Where an entry has program and arguments, or all arguments, in one.
pub(crate) const ARGUMENTS_APART: &str = "write each argument as an element of its own into \"args\"";
/// Where an entry names us and still has the words that were for npx.
pub(crate) const LEAVE_OUT_NPX: &str = "leave out \"-y\" and \"mcp-remote\" before the server's address";

/// Where metadata name another issuer than the one that was asked for.
pub(crate) const NAME_ISSUER: &str = "ask the server's operator to let its metadata and those of its authorization server name the same issuer, to the letter";
/// Where an authorization server publishes no metadata.
pub(crate) const GIVE_ENDPOINTS: &str = "if you know its endpoints and have a client there: --authorization-endpoint URL --token-endpoint URL --static-oauth-client-info @FILE";
/// Where HTTP/2 does not work with a server.
pub(crate) const USE_HTTP1: &str = "use HTTP/1.1 with this server: --http1";
/// Where an authorization server does not take `prompt=consent`.
pub(crate) const OMIT_PROMPT: &str = "send no prompt: --authorize-param prompt=";
/// Where an endpoint of an authorization server redirects.
pub(crate) const NAME_ENDPOINT: &str =
    "ask the server's operator to publish the URL that is named last as the endpoint";

/// Whether this is what is to be done about a failure, in our own words: anybody can send an error that
/// looks like ours.
pub(crate) fn is_ours(entry: &Entry, action: &str) -> bool {
    const MORE_EXACT: &[&str] = &[
        SIGN_IN_THERE,
        FINISH_IN_BROWSER,
        START_AGAIN,
        CHECK_HEADERS,
        CHECK_ADDRESS,
        STILL_TRIED,
        NAME_LOCALHOST,
        NAME_THE_ADDRESS,
        NAME_ITSELF,
        CHECK_TOOL,
        CHECK_RESOURCE,
        MAKE_EXECUTABLE,
        ARGUMENTS_APART,
        LEAVE_OUT_NPX,
        USE_OWN_PATH,
        FORWARD_SCHEME,
        TRY_HTTPS,
        CHECK_ROUTE,
        SEND_LESS,
        SEND_FEWER_HEADERS,
        URL_WITH_NAME,
        URL_WITH_ADDRESS,
        ALLOW_HOST,
        GIVE_BASIC,
        ASK_FOR_KEY,
        NAME_WHOLE_PATH,
        OFFER_NEWER_TLS,
        CHECK_HOST_NAME,
        RENEW_AS_VERSION_3,
        SPELL_VARIABLE,
        RUN_LOCAL_PROXY,
        CHECK_PROXY_PASSWORD,
        SEND_SMALLER_HEAD,
        SEND_UNENCODED,
        SHARE_SESSIONS,
        USE_HTTP1,
        GIVE_ENDPOINTS,
        NAME_ISSUER,
        OMIT_PROMPT,
        NAME_ENDPOINT,
    ];
    action == entry.action || MORE_EXACT.contains(&action)
}

/// Defines [`Code`] and [`CATALOGUE`] in one order, so that a code is the index of its entry.
macro_rules! catalogue {
    ($($kind:ident: $variant:ident = $code:literal, $meaning:literal, $action:literal;)+) => {
        /// A failure's name. Its text is stable: users search for it and scripts compare it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        /// All failures, by kind, the more frequent first.
        pub const CATALOGUE: &[Entry] =
            &[$(Entry { code: Code::$variant, text: $code, kind: Kind::$kind, meaning: $meaning, action: $action },)+];
    };
}

catalogue! {
    Arguments: BadArguments = "bad_arguments",
        "the arguments cannot be understood; exit code 2",
        "correct what is named; mcp-remote --help lists all arguments";
    Arguments: MangledArguments = "mangled_arguments",
        "the host has cut an argument at a space, or left quotes around it; exit code 2",
        "give each argument as an element of its own in \"args\", without quotes; a value with a space goes into \"env\": --header \"Authorization:${AUTH}\"";
    Arguments: VariableNotSet = "variable_not_set",
        "a `${NAME}` names an environment variable that does not reach this program, or reaches it empty; exit code 2",
        "set it in the \"env\" of this entry: hosts pass on only some variables of their own";
    Network: NameNotFound = "name_not_found",
        "the name in the server's address has no address",
        "check the name in the server's address, and the network";
    Network: CannotConnect = "cannot_connect",
        "nothing answers at that address",
        "check that the server is running and that its address and port are right";
    Network: ProxyUnreachable = "proxy_unreachable",
        "the proxy itself does not answer",
        "check the proxy's address, in --proxy or HTTPS_PROXY and HTTP_PROXY, or name hosts to reach without one in NO_PROXY";
    Network: ProxyRefused = "proxy_refused",
        "the proxy wants a user and a password (407)",
        "in the \"env\" of this entry set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, and leave out --proxy";
    Network: ProxyForbids = "proxy_forbids",
        "the proxy does not lead to this server; its own words follow",
        "name another proxy with --proxy, or the hosts to reach without one in NO_PROXY";
    Network: CertificateNotTrusted = "certificate_not_trusted",
        "this computer does not trust whoever has issued the server's certificate; the sentence names them: often a company proxy",
        "if that is your company or your own authority, give its certificate: --ca-cert FILE";
    Network: CertificateExpired = "certificate_expired",
        "the server's certificate has ended, or has not begun",
        "check this computer's clock; if it is right, the server's certificate must be renewed";
    Network: CertificateWrongName = "certificate_wrong_name",
        "the server's certificate is for other names; the sentence tells them",
        "use a name that the certificate has in the server's address";
    Network: ClientCertificateNeeded = "client_certificate_needed",
        "the server wants a certificate from this side",
        "give the one that it asks for: --client-cert FILE --client-key FILE";
    Network: TlsFailed = "tls_failed",
        "no secure connection, for another reason: most often that port speaks no TLS",
        "check that https and the port in the server's address are right";
    Network: TimedOut = "timed_out",
        "the server accepts but does not answer",
        "if the server needs longer, raise --headers-timeout, --body-timeout or --initialize-timeout (seconds; 0 waits for ever)";
    Network: ConnectionBroken = "connection_broken",
        "the connection broke before the answer was complete",
        "the server may have acted on the request: look before you send it again";
    Network: AuthorizationServerUnreachable = "authorization_server_unreachable",
        "no answer from where one signs in",
        "check the network, and whether that host needs --proxy or --ca-cert FILE";
    SignIn: SignInNeeded = "sign_in_needed",
        "a person has to sign in, and has not yet; if the sign-in page itself shows an error, look at `unknown_client` and `redirect_uri_refused`",
        "sign in ahead of time in a terminal: mcp-remote login, with the arguments of this entry";
    SignIn: SignInTimedOut = "sign_in_timed_out",
        "nobody finished the sign-in in time",
        "sign in again: mcp-remote login, with the arguments of this entry";
    SignIn: SignInDenied = "sign_in_denied",
        "the person, or the authorization server for them, said no (`access_denied`)",
        "if that was not meant, try again and allow it";
    SignIn: NoBrowser = "no_browser",
        "a warning: none could be opened",
        "open the address that is shown in any browser; if that is on another computer, run mcp-remote-client finish here";
    SignIn: NoRefreshToken = "no_refresh_token",
        "a warning: the sign-in cannot be renewed and ends with its token",
        "ask for one: --authorize-param access_type=offline at Google, elsewhere the scope offline_access in --static-oauth-client-metadata";
    SignIn: CredentialRefused = "credential_refused",
        "401, in spite of your `Authorization` header",
        "check the value of the header Authorization, or leave it out if the server lets you sign in with a browser";
    SignIn: Unauthorized = "unauthorized",
        "401, and the server offers no sign-in",
        "if it takes a key: --header \"Authorization:${AUTH}\" with AUTH in the \"env\" of this entry, or --header-file FILE";
    SignIn: InsufficientScope = "insufficient_scope",
        "the server still wants more than was granted",
        "ask for access to this, or sign in as somebody who has it";
    SignIn: TokenRefused = "token_refused",
        "the server refuses a token that it has just had made",
        "name the resource that it expects: --resource URI";
    SignIn: RegistrationRefused = "registration_refused",
        "the authorization server does not register this program",
        "give a client that was registered by hand: --static-oauth-client-info @FILE";
    SignIn: RegistrationBusy = "registration_busy",
        "the authorization server is too busy to register this program",
        "wait, then sign in: mcp-remote login, with the arguments of this entry";
    SignIn: NoClient = "no_client",
        "the authorization server registers nobody by itself",
        "give a client that was registered by hand: --static-oauth-client-info @FILE";
    SignIn: UnknownClient = "unknown_client",
        "the authorization server does not know the client, or not for this",
        "correct --static-oauth-client-info, or forget the registration: mcp-remote logout, with the arguments of this entry";
    SignIn: OtherIssuer = "other_issuer",
        "the given client belongs to another authorization server",
        "register the client there, and correct --static-oauth-client-info";
    SignIn: ForeignSignInPage = "foreign_sign_in_page",
        "the server's metadata send you to a sign-in page of another site than that which gets the code",
        "if both belong to one provider, name the page: --sign-in-host HOST";
    SignIn: IssuerNotNamed = "issuer_not_named",
        "an assertion would be sent to an authorization server that only the server names; for a client secret a warning",
        "name the authorization server that it is meant for: --issuer URL";
    SignIn: RedirectUriRefused = "redirect_uri_refused",
        "the authorization server does not send people back to that address",
        "let the redirect name the other of localhost and 127.0.0.1: --host NAME";
    SignIn: ScopeRefused = "scope_refused",
        "the authorization server does not know the scopes that were asked for",
        "name the scopes to ask for: --static-oauth-client-metadata '{\"scope\":\"…\"}'";
    SignIn: ResourceRefused = "resource_refused",
        "the authorization server does not take the resource that was asked for (`invalid_target`, AADSTS9010010)",
        "leave it out: --disable-resource-parameter";
    SignIn: ResourceMismatch = "resource_mismatch",
        "the server's metadata are those of another address",
        "use the address that the metadata name as the server's address";
    SignIn: WrongIssuer = "wrong_issuer",
        "the answer came from another authorization server (`iss`)",
        "try again; if it stays, tell the server's maintainers";
    SignIn: NoPkce = "no_pkce",
        "the authorization server does not say that it knows PKCE with S256",
        "if you know that it does: --assume-pkce";
    SignIn: GrantNotOffered = "grant_not_offered",
        "the authorization server does not offer what the flags ask for",
        "leave out the flag that asks for it";
    SignIn: BadMetadata = "bad_metadata",
        "what the server says about signing in makes no sense",
        "check the server's address, or tell its maintainers";
    SignIn: BadAddress = "bad_address",
        "the server names an address for the sign-in that is none, or is not encrypted",
        "tell the server's maintainers";
    SignIn: PrivateAddress = "private_address",
        "the server names an address for the sign-in that is nearer to this computer than the server is",
        "if that is right: --allow-private-addresses";
    SignIn: AuthorizationServerFailed = "authorization_server_failed",
        "the authorization server answers with what no standard knows",
        "try again later; if it stays, tell the server's maintainers";
    SignIn: SignInRefused = "sign_in_refused",
        "the authorization server said no; its own code and words follow",
        "sign in again: mcp-remote login, with the arguments of this entry";
    SignIn: SignInFailed = "sign_in_failed",
        "a file, a key or a program on this computer; the sentence names it",
        "put right what is named, then sign in: mcp-remote login, with the arguments of this entry";
    Refusal: NotMcp = "not_mcp",
        "something else answers, such as a web page",
        "check the path of the server's address; it often ends in /mcp or /sse";
    Refusal: NoTransport = "no_transport",
        "neither transport is there, as with a wrong path",
        "check the path of the server's address; it often ends in /mcp or /sse";
    Refusal: NotFound = "not_found",
        "404 where only one transport was to be tried, or in a session",
        "check the path of the server's address; it often ends in /mcp or /sse";
    Refusal: Redirected = "redirected",
        "the server is elsewhere",
        "if the address that is named is the server you mean, use it instead";
    Refusal: Forbidden = "forbidden",
        "403: the credential is not enough for this server",
        "ask for access to this server, or check the credential given with --header";
    Refusal: WebSignIn = "web_sign_in",
        "a sign-in for people stands in front of the server (Cloudflare Access, oauth2-proxy, a login page)",
        "give a service token's headers with --header, or ask the server's operator to exempt the path of this URL from the web sign-in";
    Refusal: BotFilter = "bot_filter",
        "a bot filter in front of the server, or of where one signs in (Cloudflare, Vercel, AWS WAF), takes mcp-remote for a robot",
        "ask the server's operator to let the path of this URL pass the bot filter";
    Refusal: TooManyRequests = "too_many_requests",
        "429, and not over in 45 s",
        "wait, then try again";
    Refusal: ServerFailed = "server_failed",
        "5xx; the server's own words follow",
        "try again later; if it stays, tell the server's maintainers";
    Refusal: Refused = "refused",
        "another 4xx; the server's own words follow",
        "check the server's address and the headers given with --header";
    Refusal: ServerError = "server_error",
        "`mcp-remote-client`: the server answers with an error of its own, which a host gets as it is",
        "tell the server's maintainers";
    Refusal: SessionLost = "session_lost",
        "the server forgot the session and gives no new one",
        "restart this server's entry in the host";
    Refusal: ProtocolVersionNotShared = "protocol_version_not_shared",
        "the host and the server have no protocol version in common",
        "restart this server's entry in the host, then look for an update of the host or of the server";
    Refusal: InputRequired = "input_required",
        "the server asked for input in the middle of a call (elicitation, sampling, roots) and did not get it",
        "use a host that supports it, or answer within ten minutes";
    Refusal: NoAnswer = "no_answer",
        "the server ended its answer without answering",
        "the server may have acted on the request: look before you send it again";
    Refusal: NoEventStream = "no_event_stream",
        "HTTP+SSE: the stream names no endpoint, or one elsewhere",
        "check the server's address, or try --transport http-only";
    Refusal: BadMessage = "bad_message",
        "the server's answer is no JSON-RPC",
        "report this to the server's maintainers";
    Refusal: TooLarge = "too_large",
        "a message beyond the limit",
        "raise the limit with --max-message-size";
    Local: PortTaken = "port_taken",
        "another program has the port of the way back from the sign-in",
        "end that program, or name another port after the server's address";
    Local: StoreNotWritable = "store_not_writable",
        "a warning: the sign-in cannot be kept, and is asked for again at the next start",
        "make the folder that is named writable, or name another: --config-dir FOLDER";
    Local: StoreDamaged = "store_damaged",
        "a warning: a stored file is damaged and is left out",
        "remove the file that is named; the next sign-in writes it anew";
    Local: StoreUnavailable = "store_unavailable",
        "a stored file cannot be read now, or its disk does not answer",
        "check the file or the disk that is named, or name another folder: --config-dir FOLDER";
    Local: BadEntry = "bad_entry",
        "`mcp-remote-client`: an entry in a host's settings cannot work, mostly since its command is not there",
        "write the whole path of a program that is there into \"command\"";
    Local: TooMany = "too_many",
        "thousands of requests are open at once",
        "wait for the answers to some of them";
    Local: SessionReplaced = "session_replaced",
        "the host sent `initialize` again before this request was answered",
        "send the request again in the new session";
    Local: HostClosed = "host_closed",
        "the host ended the connection before the server answered",
        "start this server's entry in the host again";
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

    #[test]
    fn failure_has_own_code_meaning_and_action() {
        let mut codes = HashSet::new();
        for Entry { text: code, meaning, action, .. } in CATALOGUE {
            assert!(codes.insert(code), "{code} is there twice");
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
            assert!(!meaning.is_empty() && !action.is_empty(), "{code}");
            for text in [meaning, action] {
                assert!(!text.contains(['|', '\n']) && !text.ends_with('.'), "{code}: {text}");
            }
        }
    }

    /// As the README writes an entry.
    fn row(entry: &Entry) -> String {
        format!("| `{}` | {} | {} |", entry.text, entry.meaning, entry.action)
    }

    #[test]
    fn readme_is_the_catalogue() {
        const HEADINGS: [(Kind, &str); 5] = [
            (Kind::Arguments, "### It does not start"),
            (Kind::Network, "### No way to the server"),
            (Kind::SignIn, "### The sign-in"),
            (Kind::Refusal, "### The server's answers"),
            (Kind::Local, "### On this computer"),
        ];
        let readme = include_str!("../../README.md");
        let (_, section) = readme.split_once("\n## When something does not work\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let told: Vec<_> = section.lines().filter(|line| line.starts_with("### ") || line.starts_with("| `")).collect();
        let mut expected = Vec::new();
        for (kind, heading) in HEADINGS {
            expected.push(heading.to_owned());
            expected.extend(CATALOGUE.iter().filter(|entry| entry.kind == kind).map(row));
        }
        assert_eq!(told, expected);
    }
}
