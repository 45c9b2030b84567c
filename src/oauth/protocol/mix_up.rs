//! Mix-up of authorization servers (RFC 9700 §2.1, §4.4): metadata whose token endpoint is one party's and whose sign-in
//! page is another's bring the code that the one gives, and the verifier that protects it, to the other.
//!
//! # Invariants
//!
//! - A sign-in page is opened only if its owner is the issuer or has the token endpoint, unless the user names its host.

use reqwest::Url;

use super::metadata::AuthorizationServer;

/// Returns the host of a sign-in page, if neither the issuer nor the token endpoint is of its site. An issuer is known to
/// be its own, since its metadata stand there; a token endpoint is where the code goes, a person's or a device's.
pub(crate) fn foreign_host(server: &AuthorizationServer, page: &Url) -> Option<String> {
    let owners = [Some(server.issuer.as_str()), server.metadata.token_endpoint.as_deref()];
    let is_theirs = |owner: &str| Url::parse(owner).is_ok_and(|owner| is_same_site(&owner, page));
    if owners.into_iter().flatten().any(is_theirs) {
        return None;
    }
    Some(page.host_str()?.to_owned())
}

/// Whether two hosts are below one registrable domain (HTML Living Standard, "same site", without the scheme: a proxy may
/// have lost it), by the Public Suffix List.
pub(crate) fn is_same_site(one: &Url, other: &Url) -> bool {
    if one.host_str() == other.host_str() {
        return true;
    }
    let site = |url: &Url| url.domain().and_then(psl::domain_str).map(ToOwned::to_owned);
    site(one).is_some_and(|site_of_one| site(other) == Some(site_of_one))
}

#[cfg(test)]
mod tests {
    use super::{super::metadata::Metadata, *};

    fn foreign([issuer, page, token]: [&str; 3]) -> Option<String> {
        let server = AuthorizationServer {
            issuer: issuer.to_owned(),
            metadata: Metadata { token_endpoint: Some(token.to_owned()), ..Metadata::default() },
            published: true,
        };
        foreign_host(&server, &Url::parse(page).unwrap())
    }

    /// As they are published: issuer, authorization endpoint, token endpoint.
    const PUBLISHED: [[&str; 3]; 16] = [
        [
            "https://accounts.google.com",
            "https://accounts.google.com/o/oauth2/v2/auth",
            "https://oauth2.googleapis.com/token",
        ],
        [
            "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
            "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
            "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        ],
        [
            "https://sts.windows.net/9188040d-6c67-4c5b-b112-36a304b66dad/",
            "https://login.microsoftonline.com/common/oauth2/authorize",
            "https://login.microsoftonline.com/common/oauth2/token",
        ],
        ["https://samples.auth0.com/", "https://samples.auth0.com/authorize", "https://samples.auth0.com/oauth/token"],
        [
            "https://acme.okta.com/oauth2/default",
            "https://acme.okta.com/oauth2/default/v1/authorize",
            "https://acme.okta.com/oauth2/default/v1/token",
        ],
        [
            "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEf123",
            "https://acme.auth.us-east-1.amazoncognito.com/oauth2/authorize",
            "https://acme.auth.us-east-1.amazoncognito.com/oauth2/token",
        ],
        [
            "https://sso.acme.example/realms/main",
            "https://sso.acme.example/realms/main/protocol/openid-connect/auth",
            "http://keycloak.svc.internal:8080/realms/main/protocol/openid-connect/token",
        ],
        [
            "https://github.com/login/oauth",
            "https://github.com/login/oauth/authorize",
            "https://github.com/login/oauth/access_token",
        ],
        [
            "https://cf.mcp.atlassian.com",
            "https://mcp.atlassian.com/v1/authorize",
            "https://cf.mcp.atlassian.com/v1/token",
        ],
        [
            "https://auth.atlassian.com",
            "https://auth.atlassian.com/authorize",
            "https://auth.atlassian.com/oauth/token",
        ],
        [
            "https://login.salesforce.com",
            "https://login.salesforce.com/services/oauth2/authorize",
            "https://login.salesforce.com/services/oauth2/token",
        ],
        [
            "https://slack.com",
            "https://slack.com/oauth/v2_user/authorize",
            "https://slack.com/api/oauth.v2.user.access",
        ],
        ["https://api.figma.com", "https://www.figma.com/oauth/mcp", "https://api.figma.com/v1/oauth/token"],
        [
            "https://www.facebook.com",
            "https://facebook.com/dialog/oauth/",
            "https://graph.facebook.com/oauth/access_token",
        ],
        ["https://mcp.linear.app", "https://mcp.linear.app/authorize", "https://mcp.linear.app/token"],
        ["http://127.0.0.1:8080", "http://127.0.0.1:8080/authorize", "http://127.0.0.1:9090/token"],
    ];

    #[test]
    fn published_metadata_of_providers_pass() {
        for provider in PUBLISHED {
            assert_eq!(foreign(provider), None, "{provider:?}");
        }
    }

    #[test]
    fn page_of_another_site_is_named() {
        for (evil, honest) in [
            ("evil.example", "login.honest.example"),
            ("evil.vercel.app", "honest.vercel.app"), // a suffix under which anyone registers
            ("evil.co.uk", "honest.co.uk"),
            ("192.0.2.1", "192.0.2.2"),
            ("evil.example", "evil.example.honest.example"),
        ] {
            let at = |host: &str, path: &str| format!("https://{host}{path}");
            let named = foreign([&at(evil, ""), &at(honest, "/authorize"), &at(evil, "/token")]);
            assert_eq!(named.as_deref(), Some(honest), "{evil}");
        }
    }
}
