//! What known authorization servers do differently from the standards, and what helps: a table, each row with the place
//! that says so.
//!
//! Some rows hold from the start. The others wait for the failure that the provider is known for ([`super::remedies`]).
//! What every authorization server is forgiven has no row, because it needs no name: an error with HTTP 200 (GitHub;
//! [`token_endpoint`](crate::oauth::protocol::token_endpoint)), and a secret for a client that is to have none
//! (FastMCP; [`registration`](crate::oauth::protocol::registration)).
//!
//! # Invariants
//!
//! - No provider is recognized by a part of a name that another party can own.

use log::debug;
use reqwest::Url;

use crate::oauth::{protocol::metadata::AuthorizationServer, stored::remedies::Remedy};

/// Entra's code for a resource and scopes that do not go together. It stands in the place of `invalid_target`
/// (RFC 8707 §2).
pub(crate) const ENTRA_RESOURCE_MISMATCH: &str = "AADSTS9010010";

/// When a row of the table holds.
pub(super) enum When {
    /// From the start.
    Always,
    /// The authorization server has refused with these words, as error code or in its description.
    Refused(&'static str),
    /// It has refused a request with a `prompt` (OpenID Connect Core §3.1.2.1), and says so or nothing more exact.
    PromptRefused,
    /// A person has signed in, and there is no refresh token.
    NoRefreshToken,
    /// The server has refused a new token that is no JWS (RFC 7515 §3.1), so that only its issuer can read it.
    OpaqueTokenRefused,
}

/// How a provider is recognized. By host only with `https` and without a port.
enum Issuer {
    /// This host.
    Host(&'static str),
    /// Any host that ends so; the provider gives those names.
    Below(&'static str),
    /// A host of a region of Amazon's: this, the region, `.amazonaws.com`.
    Region(&'static str),
    /// Any authorization server.
    Any,
    /// Any host, where the last but one segment of the path is this: people run it themselves.
    Path(&'static str),
}

pub(super) struct Row {
    /// `None`: nobody in particular.
    pub(super) provider: Option<&'static str>,
    issuers: &'static [Issuer],
    pub(super) when: When,
    pub(super) remedy: Remedy,
    /// Who says so. Without `https://`.
    pub(super) sources: &'static [&'static str],
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

/// Authorization servers that support S256 (RFC 7636 §4.2) without listing it, and where they say so.
const UNLISTED_S256: &[(&[Issuer], &str)] = &[
    (
        &[Issuer::Host("login.microsoftonline.com"), Issuer::Host("sts.windows.net")],
        "learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow",
    ),
    (
        &[Issuer::Below(".ciamlogin.com")],
        "learn.microsoft.com/entra/external-id/customers/how-to-web-app-node-sign-in-overview",
    ),
    (&[Issuer::Below(".b2clogin.com")], "learn.microsoft.com/azure/active-directory-b2c/authorization-code-flow"),
    (COGNITO, "docs.aws.amazon.com/cognito/latest/developerguide/using-pkce-in-authorization-code.html"),
];

/// Authorization servers that send persons to a host of another site of theirs, and where they say so.
const SHARED_PAGES: &[(&[Issuer], &[&str], &str)] = &[(
    ENTRA,
    &["microsoft.com", "www.microsoft.com", "login.microsoft.com"],
    "learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code",
)];

/// The table.
const TABLE: &[Row] = &[
    // Administrators consent for all, and persons may not: a prompt then leads to "approval required".
    Row {
        provider: Some("Entra"),
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
        provider: Some("Entra"),
        issuers: ENTRA,
        when: When::Refused(ENTRA_RESOURCE_MISMATCH),
        remedy: Remedy::OmitResource,
        sources: &[
            "github.com/punkpeye/mcp-remote/issues/217",
            "github.com/anthropics/claude-code/issues/73460",
            "github.com/microsoft/vscode/issues/321249",
        ],
    },
    Row {
        provider: Some("Entra"),
        issuers: ENTRA,
        when: When::Refused("AADSTS901002"),
        remedy: Remedy::OmitResource,
        sources: &["github.com/MicrosoftDocs/azure-docs/issues/33853"],
    },
    // Where a client is its own resource, a refresh without them is refused (AADSTS90009), or leads to a token
    // without scopes, which the server refuses. Salesforce, Railway and Anthropic refuse one with them.
    Row {
        provider: Some("Entra"),
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
        provider: Some("Google"),
        issuers: GOOGLE,
        when: When::Always,
        remedy: Remedy::AccessTypeOffline,
        sources: &[
            "developers.google.com/identity/protocols/oauth2/web-server#offline",
            "github.com/can1357/oh-my-pi/issues/12438",
        ],
    },
    Row {
        provider: Some("Google"),
        issuers: GOOGLE,
        when: When::Always,
        remedy: Remedy::OmitOfflineAccess,
        sources: &["github.com/giantswarm/mcp-oauth/issues/156", "github.com/punkpeye/mcp-remote/pull/258"],
    },
    // A refresh token comes with the first consent only.
    Row {
        provider: Some("Google"),
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
        provider: Some("Auth0"),
        issuers: AUTH0,
        when: When::Refused("userinfo audience is not allowed"),
        remedy: Remedy::NameAudience,
        sources: &["support.auth0.com/center/s/article/mcp-audience-error-with-auth0"],
    },
    Row {
        provider: Some("Auth0"),
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
        provider: Some("Keycloak"),
        issuers: KEYCLOAK,
        when: When::Refused("invalid_scope"),
        remedy: Remedy::OmitOfflineAccess,
        sources: &["github.com/evoila/meho/issues/912"],
    },
    // The person does not have the role, which shows when the code is redeemed.
    Row {
        provider: Some("Keycloak"),
        issuers: KEYCLOAK,
        when: When::Refused("Offline tokens not allowed for the user or client"),
        remedy: Remedy::OmitOfflineAccess,
        sources: &["www.keycloak.org/docs/latest/server_admin/#_offline-access"],
    },
    // A request without scopes is refused unless an administrator has made one the default.
    Row {
        provider: Some("Okta"),
        issuers: OKTA,
        when: When::Refused("No scopes were requested"),
        remedy: Remedy::AskOpenid,
        sources: &["github.com/anomalyco/opencode/issues/28811"],
    },
    // It lists no such scope, but servers do; refresh tokens come without.
    Row {
        provider: Some("Cognito"),
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
        provider: Some("Supabase"),
        issuers: SUPABASE,
        when: When::Refused("unsupported scope: offline_access"),
        remedy: Remedy::OmitOfflineAccess,
        sources: &["github.com/supabase/auth/issues/2628"],
    },
    // It lists `offline_access`, which OpenID Connect wants consent for, and knows no `prompt`.
    Row {
        provider: None,
        issuers: &[Issuer::Any],
        when: When::PromptRefused,
        remedy: Remedy::OmitPrompt,
        sources: &["github.com/heroku/heroku-mcp-server/issues/226"],
    },
];

/// Types of tokens that are sent as Bearer tokens although they are called otherwise (RFC 6749 §7.1), and where that is
/// said.
const BEARER_TYPES: &[(&[Issuer], &[&str], &str)] =
    &[(&[Issuer::Host("slack.com")], &["user", "bot"], "docs.slack.dev/authentication/installing-with-oauth")];

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
            Self::Any => true,
            Self::Path(name) => {
                let mut segments = issuer.path().trim_end_matches('/').rsplit('/');
                segments.next().is_some_and(|last| !last.is_empty()) && segments.next() == Some(name)
            }
        }
    }
}

/// Returns the issuer's URL, if the server publishes it: otherwise the issuer is a guess.
fn issuer(server: &AuthorizationServer) -> Option<Url> {
    Url::parse(&server.issuer).ok().filter(|_| server.published)
}

/// Returns the rows of an authorization server.
pub(super) fn rows(server: &AuthorizationServer) -> impl Iterator<Item = &'static Row> {
    let issuer = issuer(server);
    let is_it =
        move |row: &&Row| issuer.as_ref().is_some_and(|issuer| row.issuers.iter().any(|known| known.is(issuer)));
    TABLE.iter().filter(is_it)
}

/// Whether an authorization server is known to support S256, and lists no method at all.
pub(crate) fn has_unlisted_s256(server: &AuthorizationServer) -> bool {
    let Some(issuer) = issuer(server) else { return false };
    let known = UNLISTED_S256.iter().find(|(issuers, _)| issuers.iter().any(|known| known.is(&issuer)));
    match known.filter(|_| server.metadata.code_challenge_methods_supported.is_none()) {
        Some((_, source)) => {
            debug!("{} supports S256 without advertising it: {source}", server.issuer);
            true
        }
        None => false,
    }
}

/// Whether a sign-in page on this host is the authorization server's own, though on another site.
pub(crate) fn shares_page(server: &AuthorizationServer, host: &str) -> bool {
    let Some(issuer) = issuer(server) else { return false };
    let is_its = |issuers: &[Issuer]| issuers.iter().any(|known| known.is(&issuer));
    SHARED_PAGES.iter().any(|(issuers, hosts, _)| is_its(issuers) && hosts.contains(&host))
}

/// Whether tokens of this type are sent as Bearer tokens there.
pub(crate) fn is_bearer(server: &AuthorizationServer, kind: &str) -> bool {
    let Some(issuer) = issuer(server) else { return false };
    let is_its = |issuers: &[Issuer]| issuers.iter().any(|known| known.is(&issuer));
    BEARER_TYPES.iter().any(|(issuers, kinds, _)| is_its(issuers) && kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn server(issuer: &str) -> AuthorizationServer {
        AuthorizationServer { issuer: issuer.to_owned(), published: true, ..Default::default() }
    }

    fn provider(issuer: &str) -> Option<&'static str> {
        rows(&server(issuer)).find_map(|row| row.provider)
    }

    #[test]
    fn provider_is_recognized_by_its_issuer() {
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
    fn pages_are_shared_by_their_owner_only() {
        let entra = server("https://login.microsoftonline.com/organizations/v2.0");
        assert!(shares_page(&entra, "microsoft.com") && !shares_page(&entra, "microsoft.com.evil.example"));
        assert!(!shares_page(&server("https://as.evil.example/"), "microsoft.com"));
    }

    #[test]
    fn other_issuers_are_no_provider() {
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
    fn known_issuer_without_list_supports_s256() {
        let with = |issuer: &str, methods: Option<&str>| {
            let mut server = server(issuer);
            server.metadata.code_challenge_methods_supported = methods.map(|method| vec![method.to_owned()]);
            has_unlisted_s256(&server)
        };
        for issuer in [
            "https://login.microsoftonline.com/t/v2.0",
            "https://sts.windows.net/t/",
            "https://tenant.ciamlogin.com/t/v2.0",
            "https://tenant.b2clogin.com/tenant.onmicrosoft.com/policy/v2.0/",
            "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_pool",
        ] {
            assert!(with(issuer, None) && !with(issuer, Some("plain")), "{issuer}");
        }
        for issuer in [
            "https://as.example",
            "https://login.evil.login.microsoftonline.com",
            "https://login.microsoftonline.com.evil.example",
            "https://sts.evilsts.windows.net",
            "https://cognito-idp.s3.amazonaws.com",
            "https://evilb2clogin.com",
        ] {
            assert!(!with(issuer, None), "{issuer}");
        }
    }

    #[test]
    fn every_row_is_unique_with_source() {
        let mut seen = HashSet::new();
        for row in TABLE {
            assert!(
                !row.sources.is_empty() && row.sources.iter().all(|source| source.contains('/')),
                "{:?}",
                row.provider
            );
            let when = match row.when {
                When::Always => format!("always {:?}", row.remedy),
                When::Refused(words) => words.to_owned(),
                When::PromptRefused => "prompt".to_owned(),
                When::NoRefreshToken => "no refresh token".to_owned(),
                When::OpaqueTokenRefused => "opaque".to_owned(),
            };
            assert!(seen.insert((row.provider, when)), "{:?}", row.provider);
        }
    }
}
