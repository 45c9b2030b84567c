//! What known authorization servers do differently from the standards, and what helps: a table, each
//! row with the place that says so.
//!
//! Some rows hold from the start. The others wait for the failure that the provider is known for; then
//! the remedy is tried once, said aloud, and kept for this server and this issuer
//! ([`crate::store::remedies`]) if it helped. The user's flags come first: what they decide, no remedy
//! touches.
//!
//! Must never: recognise anybody by a part of a name that somebody else can have; touch PKCE, `state`
//! or `iss`; let a token lose its audience (RFC 8707 §2) where the scopes do not name it instead.

use log::{debug, info};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Authorization, Resource},
    oauth::{
        context::{AuthorizationAttempt, Context},
        error::Error,
        protocol::{
            discovery::AuthorizationServer,
            scope::{self, OFFLINE_ACCESS},
        },
        stored::{remedies::Remedies, tokens::Tokens},
    },
    observer::Fact,
    store::Store,
};

/// The scope that says no more than who somebody is (OpenID Connect Core §3.1.2.1).
const OPENID: &str = "openid";

/// One thing that is done otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// No `resource` (RFC 8707) in any request.
    OmitResource,
    /// The resource is also named as `audience` where the person signs in.
    NameAudience,
    /// The scope `offline_access` (OpenID Connect Core §11) is not asked for.
    OmitOfflineAccess,
    /// The scope `openid` is asked for where no other is.
    AskOpenid,
    /// `access_type=offline` asks for a refresh token.
    AccessTypeOffline,
    /// `prompt=consent` asks the person again.
    PromptConsent,
    /// No `prompt=consent`, although `offline_access` is asked for.
    OmitPrompt,
    /// A refresh names the scopes that were granted, which may be left out (RFC 6749 §6).
    NameScopes,
}

/// When a row of the table holds.
enum When {
    /// From the start.
    Always,
    /// The authorization server has refused with these words, as error code or in its description.
    Refused(&'static str),
    /// A person has signed in, and there is no refresh token.
    NoRefreshToken,
    /// The server has refused a new token that is no JWS (RFC 7515 §3.1), so that only its issuer can read it.
    OpaqueTokenRefused,
}

/// How a provider is recognised. By host only with `https` and without a port.
enum Issuer {
    /// This host.
    Host(&'static str),
    /// Any host that ends so; the provider gives those names.
    Below(&'static str),
    /// A host of a region of Amazon's: this, the region, `.amazonaws.com`.
    Region(&'static str),
    /// Any host, where the last but one segment of the path is this: people run it themselves.
    Path(&'static str),
}

struct Row {
    provider: &'static str,
    issuers: &'static [Issuer],
    when: When,
    remedy: Remedy,
    /// Who says so. Without `https://`.
    sources: &'static [&'static str],
}

const ENTRA: &[Issuer] = &[
    Issuer::Host("login.microsoftonline.com"),
    Issuer::Host("login.microsoftonline.us"),
    Issuer::Host("login.partner.microsoftonline.cn"),
    Issuer::Host("sts.windows.net"),
    Issuer::Below(".ciamlogin.com"),
];
const GOOGLE: &[Issuer] = &[Issuer::Host("accounts.google.com")];
const AUTH0: &[Issuer] = &[Issuer::Below(".auth0.com")];
const KEYCLOAK: &[Issuer] = &[Issuer::Path("realms")];
const OKTA: &[Issuer] =
    &[Issuer::Below(".okta.com"), Issuer::Below(".oktapreview.com"), Issuer::Below(".okta-emea.com")];
const COGNITO: &[Issuer] = &[Issuer::Region("cognito-idp.")];
const SUPABASE: &[Issuer] = &[Issuer::Below(".supabase.co")];

/// The table.
const TABLE: &[Row] = &[
    // Administrators consent for all, and persons may not: a prompt then leads to "approval required".
    Row {
        provider: "Entra",
        issuers: ENTRA,
        when: When::Always,
        remedy: Remedy::OmitPrompt,
        sources: &[
            "github.com/modelcontextprotocol/inspector/issues/2068",
            "github.com/anthropics/claude-code/issues/94804",
            "learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow",
        ],
    },
    // The scopes name the resource there; the two must be the same to the letter.
    Row {
        provider: "Entra",
        issuers: ENTRA,
        when: When::Refused("AADSTS9010010"),
        remedy: Remedy::OmitResource,
        sources: &[
            "github.com/punkpeye/mcp-remote/issues/217",
            "github.com/anthropics/claude-code/issues/73460",
            "github.com/microsoft/vscode/issues/321249",
        ],
    },
    Row {
        provider: "Entra",
        issuers: ENTRA,
        when: When::Refused("AADSTS901002"),
        remedy: Remedy::OmitResource,
        sources: &["github.com/MicrosoftDocs/azure-docs/issues/33853"],
    },
    // Where a client is its own resource, a refresh without them is refused (AADSTS90009), or leads to a token
    // without scopes, which the server refuses. Salesforce, Railway and Anthropic refuse one with them.
    Row {
        provider: "Entra",
        issuers: ENTRA,
        when: When::Always,
        remedy: Remedy::NameScopes,
        sources: &[
            "github.com/punkpeye/mcp-remote/pull/357",
            "github.com/anthropics/claude-code/issues/89862",
            "github.com/danny-avila/LibreChat/pull/13412",
            "github.com/UsefulSoftwareCo/executor/pull/1982",
            "github.com/earendil-works/pi/issues/2357",
        ],
    },
    Row {
        provider: "Google",
        issuers: GOOGLE,
        when: When::Always,
        remedy: Remedy::AccessTypeOffline,
        sources: &[
            "developers.google.com/identity/protocols/oauth2/web-server#offline",
            "github.com/can1357/oh-my-pi/issues/12438",
        ],
    },
    Row {
        provider: "Google",
        issuers: GOOGLE,
        when: When::Always,
        remedy: Remedy::OmitOfflineAccess,
        sources: &["github.com/giantswarm/mcp-oauth/issues/156", "github.com/punkpeye/mcp-remote/pull/258"],
    },
    // A refresh token comes with the first consent only.
    Row {
        provider: "Google",
        issuers: GOOGLE,
        when: When::NoRefreshToken,
        remedy: Remedy::PromptConsent,
        sources: &[
            "stackoverflow.com/questions/10827920/not-receiving-google-oauth-refresh-token",
            "github.com/nicobailon/pi-mcp-adapter/issues/238",
        ],
    },
    // `resource` counts only in tenants that have been told so.
    Row {
        provider: "Auth0",
        issuers: AUTH0,
        when: When::Refused("userinfo audience is not allowed"),
        remedy: Remedy::NameAudience,
        sources: &["support.auth0.com/center/s/article/mcp-audience-error-with-auth0"],
    },
    Row {
        provider: "Auth0",
        issuers: AUTH0,
        when: When::OpaqueTokenRefused,
        remedy: Remedy::NameAudience,
        sources: &[
            "auth0.com/ai/docs/mcp/guides/resource-param-compatibility-profile",
            "github.com/auth0/nextjs-auth0/issues/1809",
            "github.com/danny-avila/LibreChat/issues/13401",
        ],
    },
    // The client does not have the scope.
    Row {
        provider: "Keycloak",
        issuers: KEYCLOAK,
        when: When::Refused("invalid_scope"),
        remedy: Remedy::OmitOfflineAccess,
        sources: &["github.com/evoila/meho/issues/912"],
    },
    // The person does not have the role, which shows when the code is redeemed.
    Row {
        provider: "Keycloak",
        issuers: KEYCLOAK,
        when: When::Refused("Offline tokens not allowed for the user or client"),
        remedy: Remedy::OmitOfflineAccess,
        sources: &["www.keycloak.org/docs/latest/server_admin/#_offline-access"],
    },
    // A request without scopes is refused unless an administrator has made one the default.
    Row {
        provider: "Okta",
        issuers: OKTA,
        when: When::Refused("No scopes were requested"),
        remedy: Remedy::AskOpenid,
        sources: &["github.com/anomalyco/opencode/issues/28811"],
    },
    // It lists no such scope, but servers do; refresh tokens come without.
    Row {
        provider: "Cognito",
        issuers: COGNITO,
        when: When::Always,
        remedy: Remedy::OmitOfflineAccess,
        sources: &[
            "github.com/aws-samples/anthropic-on-aws/issues/310",
            "github.com/BerriAI/litellm-docs/pull/1433",
            "docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html",
        ],
    },
    Row {
        provider: "Supabase",
        issuers: SUPABASE,
        when: When::Refused("unsupported scope: offline_access"),
        remedy: Remedy::OmitOfflineAccess,
        sources: &["github.com/supabase/auth/issues/2628"],
    },
];

impl Issuer {
    fn is(&self, issuer: &Url) -> bool {
        let host = issuer.host_str().filter(|_| issuer.scheme() == "https" && issuer.port().is_none());
        match self {
            Self::Host(name) => host == Some(name),
            Self::Below(end) => host.is_some_and(|host| host.len() > end.len() && host.ends_with(end)),
            Self::Region(start) => {
                let region = host.and_then(|host| host.strip_prefix(start)?.strip_suffix(".amazonaws.com"));
                // Two letters and a hyphen: `s3` and its like are no regions.
                region.is_some_and(|region| {
                    let mut parts = region.split('-');
                    let country = parts
                        .next()
                        .is_some_and(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_lowercase()));
                    country && parts.next().is_some() && !region.contains('.')
                })
            }
            Self::Path(name) => {
                let mut segments = issuer.path().trim_end_matches('/').rsplit('/');
                segments.next().is_some_and(|last| !last.is_empty()) && segments.next() == Some(name)
            }
        }
    }
}

/// The rows of an issuer. What is not published is guessed, and nobody's.
fn rows(server: &AuthorizationServer) -> impl Iterator<Item = &'static Row> {
    let issuer = Url::parse(&server.issuer).ok().filter(|_| server.published);
    let is_it =
        move |row: &&Row| issuer.as_ref().is_some_and(|issuer| row.issuers.iter().any(|known| known.is(issuer)));
    TABLE.iter().filter(is_it)
}

impl Row {
    fn tell_sources(&self) {
        debug!("{}: {}, see {}", self.provider, self.remedy.words().0, self.sources.join(", "));
    }
}

impl Remedy {
    /// Whether it would change anything, and the user has left it open.
    fn is_open(self, settings: &Authorization, attempt: &AuthorizationAttempt) -> bool {
        let free = |name: &str| settings.authorize_params.iter().all(|(known, _)| known != name);
        let resource = settings.resource == Resource::Published && attempt.resource.is_some();
        !attempt.remedies.contains(&self)
            && match self {
                Self::OmitResource => resource && names_resource(&attempt.scopes, attempt.resource.as_deref()),
                Self::NameAudience => resource && free("audience"),
                Self::OmitOfflineAccess => {
                    let asked = |scopes: &[String]| scopes.iter().any(|scope| scope == OFFLINE_ACCESS);
                    scope::pinned(settings).is_none() && asked(&attempt.scopes) && !asked(&attempt.needed)
                }
                Self::AskOpenid => {
                    let other = attempt.scopes.iter().any(|scope| scope != OFFLINE_ACCESS);
                    scope::pinned(settings).is_none() && !other && attempt.discovered.server.knows_scope(OPENID)
                }
                Self::AccessTypeOffline => free("access_type"),
                Self::PromptConsent | Self::OmitPrompt => free("prompt"),
                Self::NameScopes => true,
            }
    }

    fn apply(self, attempt: &mut AuthorizationAttempt) {
        match self {
            Self::OmitResource => attempt.resource = None,
            Self::OmitOfflineAccess => attempt.scopes.retain(|scope| scope != OFFLINE_ACCESS),
            Self::AskOpenid => attempt.scopes.insert(0, OPENID.to_owned()),
            Self::NameAudience
            | Self::AccessTypeOffline
            | Self::PromptConsent
            | Self::OmitPrompt
            | Self::NameScopes => {}
        }
        attempt.remedies.push(self);
    }

    /// What is done, and the flag that decides it.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::OmitResource => {
                ("without the resource indicator", "--disable-resource-parameter does so always, --resource URI never")
            }
            Self::NameAudience => ("with the resource as audience", "--authorize-param audience=NAME overrules it"),
            Self::OmitOfflineAccess => {
                ("without the scope offline_access", "the scopes in --static-oauth-client-metadata overrule it")
            }
            Self::AskOpenid => ("with the scope openid", "the scopes in --static-oauth-client-metadata overrule it"),
            Self::AccessTypeOffline => ("with access_type=offline", "--authorize-param access_type=… overrules it"),
            Self::PromptConsent => ("with prompt=consent", "--authorize-param prompt=… overrules it"),
            Self::OmitPrompt => ("without prompt=consent", "--authorize-param prompt=… overrules it"),
            Self::NameScopes => ("with the scopes in a refresh", "they are those that were granted"),
        }
    }
}

/// Whether scopes say what a token is for as well as the resource indicator does: each that is not of
/// OpenID Connect begins with the resource's own host, or with an application's id. Without both, Entra
/// makes tokens for Microsoft Graph, and any server could ask for them.
fn names_resource(scopes: &[String], resource: Option<&str>) -> bool {
    const NOBODYS: [&str; 4] = [OPENID, "profile", "email", OFFLINE_ACCESS]; // OpenID Connect Core §5.4, §11
    let resource = resource.and_then(|resource| Url::parse(resource).ok());
    let own = |scope: &str| {
        let Ok(scope) = Url::parse(scope) else { return false };
        scope.scheme() == "api"
            || scope.scheme() == "https" && resource.as_ref().is_some_and(|own| own.host_str() == scope.host_str())
    };
    let mut named = scopes.iter().filter(|scope| !NOBODYS.contains(&scope.as_str())).peekable();
    named.peek().is_some() && named.all(|scope| own(scope))
}

impl AuthorizationAttempt {
    fn with(&self, remedy: Remedy) -> Self {
        let mut attempt = self.clone();
        remedy.apply(&mut attempt);
        attempt
    }

    pub(crate) fn has(&self, remedy: Remedy) -> bool {
        self.remedies.contains(&remedy)
    }
}

/// Applies what holds from the start, and what has helped before.
pub(crate) fn prepare(settings: &Authorization, store: &Store, attempt: &mut AuthorizationAttempt) {
    let server = attempt.discovered.server.clone();
    let known = Remedies::load(store, &server.issuer, &attempt.scopes);
    for row in rows(&server) {
        let always = matches!(row.when, When::Always);
        if (always || known.contains(&row.remedy)) && row.remedy.is_open(settings, attempt) {
            if !always {
                let (words, flag) = row.remedy.words();
                info!("as it has helped before with {}: {words} ({flag})", server.issuer);
            }
            row.tell_sources();
            row.remedy.apply(attempt);
        }
    }
}

/// Whether a look at the authorize page may show a failure that there is a remedy for.
pub(crate) fn may_help(settings: &Authorization, attempt: &AuthorizationAttempt) -> bool {
    rows(&attempt.discovered.server)
        .any(|row| matches!(row.when, When::Refused(_)) && row.remedy.is_open(settings, attempt))
}

/// The words of a page that refuses in a known way.
pub(crate) fn refusal_in(server: &AuthorizationServer, page: &[u8]) -> Option<&'static str> {
    let page = String::from_utf8_lossy(page);
    rows(server).find_map(|row| match row.when {
        When::Refused(words) if says(&page, words) => Some(words),
        _ => None,
    })
}

/// What helps against this refusal, if that is known, open, and not tried yet.
fn against(settings: &Authorization, attempt: &AuthorizationAttempt, error: &Error) -> Option<&'static Row> {
    let Error::Refused { error, description, .. } = error else { return None };
    let told = format!("{error} {}", description.as_deref().unwrap_or_default());
    rows(&attempt.discovered.server)
        .filter(|row| matches!(row.when, When::Refused(words) if says(&told, words)))
        .find(|row| row.remedy.is_open(settings, attempt))
}

/// Whether a text has these words, and not as the beginning of a longer one: codes are numbers.
fn says(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_ascii_lowercase(), words.to_ascii_lowercase());
    text.match_indices(&words).any(|(at, _)| !text[at + words.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

impl Context {
    /// The attempt as it is to be tried once more after this refusal, if anything is known to help.
    pub(crate) fn remedied(&self, attempt: &AuthorizationAttempt, error: &Error) -> Option<AuthorizationAttempt> {
        let row = against(&self.settings, attempt, error)?;
        let (words, flag) = row.remedy.words();
        let provider = row.provider;
        // Nothing but the scopes says then whose application the token is for.
        let for_what = match row.remedy {
            Remedy::OmitResource => format!(", for a token with {}", attempt.scopes.join(" ")),
            _ => String::new(),
        };
        self.say(format!("{error}; {provider} is known for that: trying once more {words}{for_what} ({flag})"));
        row.tell_sources();
        Some(attempt.with(row.remedy))
    }

    fn say(&self, what: String) {
        info!("{what}");
        self.observer.tell(|| Fact::Remedied(what));
    }

    /// Whether anything is known to help against this refusal.
    pub(crate) fn has_remedy(&self, attempt: &AuthorizationAttempt, error: &Error) -> bool {
        against(&self.settings, attempt, error).is_some()
    }

    /// The same after the server has refused a token that was new.
    pub(crate) fn remedied_token(&self, attempt: &AuthorizationAttempt) -> Option<AuthorizationAttempt> {
        let opaque = attempt.used.as_ref().is_some_and(|used| is_opaque(used.tokens()));
        let mut rows = rows(&attempt.discovered.server).filter(|row| matches!(row.when, When::OpaqueTokenRefused));
        let is_new = opaque && !self.present().asked_for_audience;
        let Some(row) = rows.find(|row| is_new && row.remedy.is_open(&self.settings, attempt)) else {
            if !opaque && attempt.has(Remedy::NameAudience) {
                self.forget_remedies(attempt);
            }
            return None;
        };
        self.present().asked_for_audience = true;
        let (words, flag) = row.remedy.words();
        self.say(format!(
            "the server refuses a token that only {} can read; {} is known for that: signing in once more {words} ({flag})",
            attempt.discovered.server.issuer, row.provider
        ));
        Some(attempt.with(row.remedy))
    }

    /// A person has signed in: what has helped is kept.
    pub(crate) fn keep_remedies(&self, attempt: &AuthorizationAttempt, tokens: &Tokens) {
        let server = &attempt.discovered.server;
        let always =
            |remedy: &Remedy| rows(server).any(|row| row.remedy == *remedy && matches!(row.when, When::Always));
        let mut found: Vec<Remedy> = attempt.remedies.iter().copied().filter(|remedy| !always(remedy)).collect();
        let missing = rows(server).find(|row| matches!(row.when, When::NoRefreshToken));
        if let Some(row) = missing.filter(|_| tokens.refresh_token().is_none())
            && row.remedy.is_open(&self.settings, attempt)
        {
            let (words, flag) = row.remedy.words();
            info!("{} has given no refresh token; the next sign-in is {words} ({flag})", server.issuer);
            found.push(row.remedy);
        }
        if !found.is_empty() {
            Remedies::save(&self.store, &server.issuer, &found, &attempt.scopes);
        }
    }

    /// The sign-in was refused with what had helped before: it may be just that.
    pub(crate) fn doubt_remedies(&self, attempt: &AuthorizationAttempt, error: &Error) {
        if error.is_refusal() && !error.is("access_denied") {
            self.forget_remedies(attempt);
        }
    }

    fn forget_remedies(&self, attempt: &AuthorizationAttempt) {
        let issuer = &attempt.discovered.server.issuer;
        if !Remedies::load(&self.store, issuer, &attempt.scopes).is_empty() {
            info!("what helped with {issuer} before does not any more, and is forgotten");
            Remedies::forget(&self.store);
        }
    }
}

/// Whether nobody but its issuer can read a token: it is no JWS in compact form (RFC 7515 §7.1).
fn is_opaque(tokens: &Tokens) -> bool {
    tokens.access_token().expose().split('.').count() != 3
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn server(issuer: &str) -> AuthorizationServer {
        AuthorizationServer { issuer: issuer.to_owned(), metadata: Default::default(), published: true }
    }

    fn provider(issuer: &str) -> Option<&'static str> {
        rows(&server(issuer)).next().map(|row| row.provider)
    }

    #[test]
    fn a_provider_is_recognised_by_its_issuer() {
        for (issuer, name) in [
            ("https://login.microsoftonline.com/organizations/v2.0", "Entra"),
            ("https://login.microsoftonline.us/t/v2.0", "Entra"),
            ("https://LOGIN.microsoftonline.com/t/v2.0", "Entra"),
            ("https://tenant.ciamlogin.com/t/v2.0", "Entra"),
            ("https://accounts.google.com", "Google"),
            ("https://accounts.google.com/", "Google"),
            ("https://tenant.eu.auth0.com/", "Auth0"),
            ("https://id.company.example/auth/realms/staff", "Keycloak"),
            ("http://localhost:8080/realms/staff/", "Keycloak"),
            ("https://project.supabase.co/auth/v1", "Supabase"),
            ("https://company.okta.com/oauth2/default", "Okta"),
            ("https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_pool", "Cognito"),
        ] {
            assert_eq!(provider(issuer), Some(name), "{issuer}");
        }
    }

    #[test]
    fn nobody_else_is_taken_for_a_provider() {
        for issuer in [
            "https://login.microsoftonline.com.evil.example/",
            "https://login.microsoftonline.com@evil.example/v2.0",
            "https://evil.example/login.microsoftonline.com/v2.0",
            "https://evil.example/?https://login.microsoftonline.com/",
            "https://xlogin.microsoftonline.com/",
            "https://login.microsoftonline.com:8443/v2.0",
            "http://login.microsoftonline.com/v2.0",
            "https://evilauth0.com/",
            "https://.auth0.com/",
            "https://auth0.com.evil.example/",
            "https://cognito-idp.s3.amazonaws.com/",
            "https://cognito-idp.s3-us-west-2.amazonaws.com/",
            "https://cognito-idp.bucket.s3.us-west-2.amazonaws.com/",
            "https://cognito-idp.eu-central-1.amazonaws.com.evil.example/",
            "https://accounts.google.com.evil.example/",
            "https://evil.example/realms/",
            "https://evil.example/realms",
            "https://evil.example/norealms/x",
            "not an address",
        ] {
            assert_eq!(provider(issuer), None, "{issuer}");
        }
        let guessed = AuthorizationServer { published: false, ..server("https://accounts.google.com") };
        assert_eq!(rows(&guessed).count(), 0, "its issuer is not its own word");
    }

    #[test]
    fn a_code_is_not_found_in_a_longer_one() {
        assert!(says("invalid_target AADSTS9010010: The resource", "AADSTS9010010"));
        assert!(says("aadsts901002", "AADSTS901002"));
        assert!(!says("AADSTS9010020: something else", "AADSTS901002"));
    }

    #[test]
    fn a_resource_is_left_out_only_where_the_scopes_name_it() {
        let named = |scopes: &str| names_resource(&scope::split(Some(scopes)), Some("https://mcp.example/mcp"));
        assert!(named("api://app-id/mcp.read offline_access openid"));
        assert!(named("https://mcp.example/.default"));
        for scopes in [
            "",
            "openid offline_access",
            "Mail.Read",
            "api://app-id/mcp.read Mail.Read",
            "https://graph.microsoft.com/Mail.Read",
            "https://mcp.example.evil.example/x",
            "00000003-0000-0000-c000-000000000000/.default",
        ] {
            assert!(!named(scopes), "{scopes}");
        }
    }

    #[test]
    fn every_row_has_a_source_and_stands_once() {
        let mut seen = HashSet::new();
        for row in TABLE {
            assert!(
                !row.sources.is_empty() && row.sources.iter().all(|source| source.contains('/')),
                "{}",
                row.provider
            );
            let when = match row.when {
                When::Always => format!("always {:?}", row.remedy),
                When::Refused(words) => words.to_owned(),
                When::NoRefreshToken => "no refresh token".to_owned(),
                When::OpaqueTokenRefused => "opaque".to_owned(),
            };
            assert!(seen.insert((row.provider, when)), "{}", row.provider);
        }
    }
}
