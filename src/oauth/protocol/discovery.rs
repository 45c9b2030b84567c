//! From a challenge to the authorization server: protected resource metadata (RFC 9728), then the
//! authorization server's own (RFC 8414, OpenID Connect Discovery), as MCP 2025-11-25 and 2026-07-28
//! (Authorization, Discovery) order them; and what MCP 2025-03-26 did before there was either.
//!
//! rmcp's own discovery is not used: it asks the MCP server itself once more, asks at a place between
//! the two that RFC 9728 knows, adds a slash to issuers and resources, forgives a missing S256, falls
//! back to the authorization server's scopes, and gives up at the first HTTP 500 (3.11.0, auth.rs).
//!
//! # Invariants
//!
//! - A document whose issuer is not the one that was asked for is not used.
//! - The MCP server's own origin is not taken where its metadata name another issuer.

use log::{debug, warn};
use reqwest::Url;

use super::{
    challenge::Challenge,
    issuer::same_issuer,
    metadata::{AuthorizationServer, Discovered, Metadata, ProtectedResource, ResourceMetadata, origin},
};
use crate::{
    oauth::{
        error::Error,
        http::client::{HttpClient, without_query},
    },
    text::{host, is_obeyed, one_line},
};

/// Authorization servers that are looked at, of those that one server names: each takes three requests, to
/// wherever the server likes, while a person waits. Servers name one or two.
const MOST_ISSUERS: usize = 8;
/// Longest issuer, in bytes, as much as of any address that people see: it is told to them.
const LONGEST_ISSUER: usize = 2000;

/// Finds the authorization server of the MCP server. `present` is the issuer of the tokens in use: of
/// several it stays, and where it does not answer, that is told.
///
/// # Errors
/// [`Error`], if there is none, or none that may be used.
pub(crate) async fn discover(
    http: &HttpClient,
    challenge: &Challenge,
    present: Option<&str>,
) -> Result<Discovered, Error> {
    let Some(resource) = protected_resource(http, challenge).await? else {
        return Ok(Discovered { resource: None, server: of_2025_03_26(http).await? });
    };
    let ResourceMetadata { authorization_servers, .. } = &resource.1;
    let mut named: Vec<&String> = authorization_servers.iter().flatten().collect();
    let is_present = |issuer: &str| present.is_some_and(|present| same_issuer(present, issuer));
    named.sort_by_key(|issuer| !is_present(issuer));
    if named.len() > MOST_ISSUERS {
        debug!("of {} authorization servers only {MOST_ISSUERS} are looked at", named.len());
        named.truncate(MOST_ISSUERS);
    }
    if named.is_empty() {
        // Which the specification demands of the server. Its own origin counts only if it says itself
        // that it is an authorization server, as with npm; nothing is guessed.
        let origin = origin(http.server());
        let server = published(http, &origin).await.map_err(|_| {
            Error::Metadata(format!("the metadata of {} name no authorization server", host(http.server())))
        })?;
        return Ok(Discovered { resource: Some(resource.0), server });
    }
    let mut reasons = Vec::new();
    for issuer in &named {
        match published(http, issuer).await {
            Ok(server) => return Ok(Discovered { resource: Some(resource.0), server }),
            Err(error @ Error::Network { .. }) if is_present(issuer) => return Err(error),
            Err(error) => {
                debug!("{error}");
                reasons.push(error);
            }
        }
    }
    match (<[Error; 1]>::try_from(reasons), named.as_slice()) {
        (Ok([only]), _) => Err(only),
        (Err(reasons), _) => {
            let told: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            Err(Error::Metadata(format!("no authorization server can be used: {}", told.join("; "))))
        }
    }
}

/// The MCP server's metadata: where the challenge says, else at the well-known places, the one with
/// the path first (MCP 2025-11-25, Authorization, Protected Resource Metadata Discovery).
async fn protected_resource(
    http: &HttpClient,
    challenge: &Challenge,
) -> Result<Option<(ProtectedResource, ResourceMetadata)>, Error> {
    let mut advertised = None;
    if let Some(text) = &challenge.resource_metadata {
        // May be relative; servers have done that.
        let text = http.server().join(text).map_or_else(|_| text.clone(), Into::into);
        advertised = Some(http.address("the address of the server's metadata", &text).await?);
    }
    let mut trouble = None;
    let places = advertised.iter().cloned().map(|url| (url, true));
    let well_known = well_known_resources(http.server());
    for (url, is_advertised) in places.chain(well_known.into_iter().map(|url| (url, false))) {
        let body = match http.metadata(&url).await {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            Err(error) => {
                trouble.get_or_insert(error);
                continue;
            }
        };
        let Ok(found) = serde_json::from_slice::<ResourceMetadata>(&body) else {
            debug!("{} is no protected resource metadata: {}", without_query(&url), one_line(&body));
            continue;
        };
        if !describes(&found.resource, http.server()) {
            return Err(Error::OtherResource { named: one_line(found.resource.as_bytes()) });
        }
        let resource = ProtectedResource {
            resource: found.resource.clone(),
            scopes: found.scopes_supported.clone().unwrap_or_default(),
            advertised: is_advertised.then(|| url.to_string()),
            wants_dpop: found.dpop_bound_access_tokens_required == Some(true),
        };
        return Ok(Some((resource, found)));
    }
    // Without metadata the server would be its own authorization server (MCP 2025-03-26). One that has
    // some, which cannot be had now, is not that.
    match (trouble, &advertised) {
        (Some(trouble), _) => Err(trouble),
        (None, Some(_)) => {
            Err(Error::Metadata(format!("the metadata that {} names are not there", host(http.server()))))
        }
        (None, None) => Ok(None),
    }
}

/// RFC 9728 §3.1: the segment goes between host and path; then at the root.
fn well_known_resources(server: &Url) -> Vec<Url> {
    const SEGMENT: &str = "/.well-known/oauth-protected-resource";
    let mut root = server.clone();
    root.set_fragment(None);
    root.set_query(None);
    root.set_path(SEGMENT);
    if server.path() == "/" {
        return vec![root];
    }
    let mut inserted = server.clone();
    inserted.set_fragment(None);
    inserted.set_path(&format!("{SEGMENT}{}", server.path()));
    vec![inserted, root]
}

/// Whether a resource indicator is the server, or something that contains it: same origin, and a
/// path that begins the server's (RFC 9728 §3.3 wants equality; servers publish their origin, and the
/// conformance suite has them do so).
fn describes(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    let path = resource.path().trim_end_matches('/');
    let rest = server.path().trim_end_matches('/').strip_prefix(path);
    resource.fragment().is_none()
        && resource.origin() == server.origin()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The published metadata of a named issuer.
///
/// # Errors
/// [`Error::NoMetadata`], [`Error::Metadata`] for such as may not be used, [`Error::Address`],
/// [`Error::Network`].
pub(crate) async fn published(http: &HttpClient, issuer: &str) -> Result<AuthorizationServer, Error> {
    let what = "the authorization server";
    let refused = |why: &str| Error::Address { what: what.to_owned(), why: why.to_owned(), near: false };
    if issuer.len() > LONGEST_ISSUER {
        return Err(refused("it is longer than any address"));
    }
    let url = http.address(what, issuer).await?;
    if issuer.chars().any(|character| is_obeyed(character) || character.is_whitespace()) {
        return Err(refused("it has characters that no address has")); // the parser drops some of them
    }
    let mut unusable = None;
    for place in well_known_servers(&url) {
        let body = match http.metadata(&place).await {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            Err(error) => {
                unusable.get_or_insert(error);
                continue;
            }
        };
        let Ok(metadata) = serde_json::from_slice::<Metadata>(&body) else {
            debug!("{place} is no authorization server metadata: {}", one_line(&body));
            continue;
        };
        // RFC 8414 §3.3: identical, or the document must not be used. Simple string comparison.
        let Some(published) = metadata.issuer.clone() else {
            unusable.get_or_insert_with(|| Error::Metadata(format!("the metadata at {place} name no issuer")));
            continue;
        };
        if published != issuer {
            if published.strip_suffix('/') != Some(issuer) && issuer.strip_suffix('/') != Some(&published) {
                let shown = one_line(published.as_bytes());
                unusable.get_or_insert_with(|| {
                    Error::Metadata(format!("the metadata at {place} are those of {shown}, not of {issuer}"))
                });
                continue;
            }
            warn!("the issuer is called {issuer} in one place and {published} in the other");
        }
        return checked(http, AuthorizationServer { issuer: published, metadata, published: true }).await;
    }
    Err(unusable.unwrap_or_else(|| Error::NoMetadata { issuer: issuer.to_owned() }))
}

/// MCP 2025-11-25, Authorization Server Metadata Discovery: the order for issuers with and without
/// a path.
fn well_known_servers(issuer: &Url) -> Vec<Url> {
    const OAUTH: &str = "/.well-known/oauth-authorization-server";
    const OPENID: &str = "/.well-known/openid-configuration";
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

/// MCP 2025-03-26, Authorization: the MCP server is its own authorization server, with metadata at the
/// root of its origin, else with endpoints at fixed places.
async fn of_2025_03_26(http: &HttpClient) -> Result<AuthorizationServer, Error> {
    let issuer = origin(http.server());
    match published(http, &issuer).await {
        Err(Error::NoMetadata { .. }) => {
            let endpoint = |path: &str| Some(format!("{issuer}{path}"));
            let metadata = Metadata {
                authorization_endpoint: endpoint("/authorize"),
                token_endpoint: endpoint("/token"),
                registration_endpoint: endpoint("/register"),
                ..Metadata::default()
            };
            Ok(AuthorizationServer { issuer, metadata, published: false })
        }
        published => published,
    }
}

/// All endpoints may be gone to: https, or loopback (MCP 2025-11-25, Communication Security).
async fn checked(http: &HttpClient, mut server: AuthorizationServer) -> Result<AuthorizationServer, Error> {
    let metadata = &mut server.metadata;
    for (what, endpoint) in [
        ("the authorization endpoint", &metadata.authorization_endpoint),
        ("the token endpoint", &metadata.token_endpoint),
    ] {
        if let Some(endpoint) = endpoint {
            http.address(what, endpoint).await?;
        }
    }
    // Without these there is another way.
    for (what, endpoint) in [
        ("the registration endpoint", &mut metadata.registration_endpoint),
        ("the device authorization endpoint", &mut metadata.device_authorization_endpoint),
        ("the revocation endpoint", &mut metadata.revocation_endpoint),
    ] {
        if let Some(named) = endpoint
            && let Err(error) = http.address(what, named).await
        {
            warn!("{error}; it is left out");
            *endpoint = None;
        }
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, Mutex},
    };

    use http::{HeaderMap, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        oauth::http::client::{Answer, tests::scripted},
        sync::LockExt,
    };

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn texts(urls: Vec<Url>) -> Vec<String> {
        urls.into_iter().map(Into::into).collect()
    }

    #[test]
    fn resource_metadata_urls_are_path_then_root() {
        assert_eq!(
            texts(well_known_resources(&url("https://h:8443/a/b?tenant=1"))),
            [
                "https://h:8443/.well-known/oauth-protected-resource/a/b?tenant=1",
                "https://h:8443/.well-known/oauth-protected-resource"
            ]
        );
        assert_eq!(texts(well_known_resources(&url("https://h/"))), ["https://h/.well-known/oauth-protected-resource"]);
    }

    #[test]
    fn issuer_metadata_urls_follow_the_specification() {
        assert_eq!(
            texts(well_known_servers(&url("https://h/t1/"))),
            [
                "https://h/.well-known/oauth-authorization-server/t1",
                "https://h/.well-known/openid-configuration/t1",
                "https://h/t1/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            texts(well_known_servers(&url("https://h"))),
            ["https://h/.well-known/oauth-authorization-server", "https://h/.well-known/openid-configuration"]
        );
    }

    #[test]
    fn resource_must_contain_the_server() {
        let server = url("https://h/a/mcp");
        for resource in
            ["https://h/a/mcp", "https://h/a/mcp/", "https://h", "https://h/", "https://h/a", "https://h:443/a/"]
        {
            assert!(describes(resource, &server), "{resource}");
        }
        for resource in ["https://h/a/m", "https://h/a/mcp/x", "http://h/a/mcp", "https://g/a/mcp", "https://h/#a", "h"]
        {
            assert!(!describes(resource, &server), "{resource}");
        }
    }

    const SERVER_METADATA: &str = "https://203.0.113.1/.well-known/oauth-protected-resource/mcp";
    const ROOT_METADATA: &str = "https://203.0.113.1/.well-known/oauth-protected-resource";
    const ISSUER: &str = "https://203.0.113.2";
    const ISSUER_METADATA: &str = "https://203.0.113.2/.well-known/oauth-authorization-server";

    /// Discovers over these documents. Returns the resource and the issuer, and which URLs were asked for.
    async fn discovered(
        documents: &[(&str, Value)],
        challenge: Challenge,
        present: Option<&str>,
    ) -> (Result<(Option<String>, String), String>, Vec<String>) {
        let documents: HashMap<String, Value> =
            documents.iter().map(|(url, document)| ((*url).to_owned(), document.clone())).collect();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = asked.clone();
        let http = scripted(move |url, _| {
            heard.guard().push(url.to_string());
            let (status, body) = match documents.get(url.as_str()) {
                Some(Value::Number(status)) => (status.as_u64().unwrap() as u16, String::new()),
                Some(document) => (200, document.to_string()),
                None => (404, String::new()),
            };
            let status = StatusCode::from_u16(status).unwrap();
            Answer { status, headers: HeaderMap::new(), body: body.into() }
        });
        let found = discover(&http, &challenge, present).await;
        let found = found.map(|found| (found.resource.map(|resource| resource.resource), found.server.issuer));
        let asked = asked.guard().clone();
        (found.map_err(|error| error.to_string()), asked)
    }

    fn resource(issuers: &[&str]) -> Value {
        json!({ "resource": "https://203.0.113.1/mcp", "authorization_servers": issuers })
    }

    fn issuer(issuer: &str) -> Value {
        json!({ "issuer": issuer, "token_endpoint": format!("{issuer}/token") })
    }

    fn found(issuer: &str) -> Result<(Option<String>, String), String> {
        Ok((Some("https://203.0.113.1/mcp".to_owned()), issuer.to_owned()))
    }

    #[tokio::test]
    async fn resource_metadata_follow_challenge_then_path_then_root() {
        let elsewhere = "https://203.0.113.1/metadata";
        let named = || Challenge { resource_metadata: Some("/metadata".to_owned()), ..Challenge::default() };
        let known = (ISSUER_METADATA, issuer(ISSUER));
        for (place, challenge, expected) in [
            (elsewhere, named(), vec![elsewhere, ISSUER_METADATA]),
            (SERVER_METADATA, named(), vec![elsewhere, SERVER_METADATA, ISSUER_METADATA]),
            (ROOT_METADATA, Challenge::default(), vec![SERVER_METADATA, ROOT_METADATA, ISSUER_METADATA]),
        ] {
            let documents = [(place, resource(&[ISSUER])), known.clone()];
            assert_eq!(
                discovered(&documents, challenge, None).await,
                (found(ISSUER), expected.into_iter().map(Into::into).collect())
            );
        }
        let busy = [(SERVER_METADATA, json!(503)), known];
        let (result, _) = discovered(&busy, Challenge::default(), None).await;
        assert_eq!(result.unwrap_err(), "no answer from 203.0.113.1: HTTP 503", "busy is not absent");
    }

    #[tokio::test]
    async fn metadata_of_another_party_are_not_used() {
        let other = json!({ "resource": "https://evil.example/", "authorization_servers": [ISSUER] });
        let (result, asked) = discovered(&[(SERVER_METADATA, other)], Challenge::default(), None).await;
        assert_eq!(result.unwrap_err(), "its metadata are those of another resource, https://evil.example/");
        assert_eq!(asked, [SERVER_METADATA]);
        let documents = [(SERVER_METADATA, resource(&[ISSUER])), (ISSUER_METADATA, issuer("https://evil.example"))];
        let (result, _) = discovered(&documents, Challenge::default(), None).await;
        let told = "the metadata at https://203.0.113.2/.well-known/oauth-authorization-server are those of \
                    https://evil.example, not of https://203.0.113.2";
        assert_eq!(result.unwrap_err(), told);
        let slash = [(SERVER_METADATA, resource(&[ISSUER])), (ISSUER_METADATA, issuer("https://203.0.113.2/"))];
        assert_eq!(discovered(&slash, Challenge::default(), None).await.0, found("https://203.0.113.2/"));
    }

    #[tokio::test]
    async fn present_issuer_is_kept_among_several() {
        let other = "https://203.0.113.3";
        let place = "https://203.0.113.3/.well-known/oauth-authorization-server";
        let both =
            [(SERVER_METADATA, resource(&[ISSUER, other])), (ISSUER_METADATA, issuer(ISSUER)), (place, issuer(other))];
        assert_eq!(discovered(&both, Challenge::default(), None).await.0, found(ISSUER));
        assert_eq!(discovered(&both, Challenge::default(), Some("https://203.0.113.3/")).await.0, found(other));
        let one = [both[0].clone(), both[1].clone(), (place, json!(404))];
        assert_eq!(discovered(&one, Challenge::default(), Some(other)).await.0, found(ISSUER));
        let silent = [both[0].clone(), both[1].clone(), (place, json!(503))];
        let (result, _) = discovered(&silent, Challenge::default(), Some(other)).await;
        assert_eq!(result.unwrap_err(), "no answer from 203.0.113.3: HTTP 503");
    }

    #[tokio::test]
    async fn server_without_metadata_is_its_own_authorization_server() {
        let origin = "https://203.0.113.1";
        let (result, _) = discovered(&[], Challenge::default(), None).await;
        assert_eq!(result, Ok((None, origin.to_owned())));
        let named = Challenge { resource_metadata: Some("/metadata".to_owned()), ..Challenge::default() };
        let (result, _) = discovered(&[], named, None).await;
        assert_eq!(result.unwrap_err(), "the metadata that 203.0.113.1 names are not there");
        let (result, _) = discovered(&[(SERVER_METADATA, resource(&[]))], Challenge::default(), None).await;
        assert_eq!(result.unwrap_err(), "the metadata of 203.0.113.1 name no authorization server");
    }
}
