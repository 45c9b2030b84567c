//! The URLs at which metadata documents may be (RFC 8615): those of a protected resource (RFC 9728 §3.1), and those of an
//! authorization server (RFC 8414 §3, OpenID Connect Discovery §4).
//!
//! # Invariants
//!
//! - Every URL has the origin of what the document is about.

use reqwest::Url;

/// RFC 9728 §3.
const RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// RFC 8414 §3.
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// OpenID Connect Discovery §4.
const OPENID: &str = "/.well-known/openid-configuration";

/// Returns where a server's metadata may be: with the segment between host and path (RFC 9728 §3.1), then at the root.
pub(super) fn resource_documents(server: &Url) -> Vec<Url> {
    let mut root = server.clone();
    root.set_fragment(None);
    root.set_query(None);
    root.set_path(RESOURCE);
    if server.path() == "/" {
        return vec![root];
    }
    let mut inserted = server.clone();
    inserted.set_fragment(None);
    inserted.set_path(&format!("{RESOURCE}{}", server.path()));
    vec![inserted, root]
}

/// Returns where an issuer's metadata may be, in the order for issuers with and without a path (MCP 2025-11-25,
/// Authorization Server Metadata Discovery).
pub(super) fn server_documents(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let paths = if path.is_empty() {
        vec![OAUTH.to_owned(), OPENID.to_owned()]
    } else {
        vec![format!("{OAUTH}{path}"), format!("{OPENID}{path}"), format!("{path}{OPENID}")]
    };
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(&path);
        url
    };
    paths.into_iter().map(at).collect()
}

/// Returns the issuer of a URL at which an issuer's metadata stand, and whether it was such a URL: some servers name it
/// instead of the issuer.
pub(super) fn without_well_known(mut url: Url) -> (Url, bool) {
    let path = url.path().to_owned();
    let rest = [OAUTH, OPENID].iter().find_map(|segment| {
        path.strip_prefix(segment)
            .or_else(|| path.strip_suffix(segment))
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if let Some(rest) = rest {
        url.set_path(rest);
    }
    (url, rest.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn texts(urls: Vec<Url>) -> Vec<String> {
        urls.into_iter().map(Into::into).collect()
    }

    #[test]
    fn resource_metadata_urls_are_path_then_root() {
        assert_eq!(
            texts(resource_documents(&url("https://h:8443/a/b?tenant=1"))),
            [
                "https://h:8443/.well-known/oauth-protected-resource/a/b?tenant=1",
                "https://h:8443/.well-known/oauth-protected-resource"
            ]
        );
        assert_eq!(texts(resource_documents(&url("https://h/"))), ["https://h/.well-known/oauth-protected-resource"]);
    }

    #[test]
    fn issuer_metadata_urls_follow_the_specification() {
        assert_eq!(
            texts(server_documents(&url("https://h/t1/"))),
            [
                "https://h/.well-known/oauth-authorization-server/t1",
                "https://h/.well-known/openid-configuration/t1",
                "https://h/t1/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            texts(server_documents(&url("https://h"))),
            ["https://h/.well-known/oauth-authorization-server", "https://h/.well-known/openid-configuration"]
        );
    }
}
