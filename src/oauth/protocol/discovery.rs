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
//! - A resource that contains more than the MCP server counts only if its own metadata say the same.

use log::{debug, info, warn};
use reqwest::Url;

use super::{
    challenge::Challenge,
    issuer::{Name, published_as, same_issuer},
    members::Fault,
    metadata::{AuthorizationServer, Discovered, Metadata, ProtectedResource, ResourceMetadata, origin},
    well_known::{resource_documents, server_documents, without_well_known},
};
use crate::{
    oauth::{
        error::Error,
        http::{
            address::with_lost_scheme,
            client::{HttpClient, warn_of_lost_scheme, without_query},
        },
    },
    text::{is_obeyed, one_line},
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
    let (resource, mut named) = match protected_resource(http, challenge).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Discovered { resource: None, server: of_2025_03_26(http, challenge).await? }),
        // Its own origin counts only if it says itself that it is an authorization server, as with npm; nothing is
        // guessed.
        Err(trouble) if leaves_origin(&trouble) => {
            let server = published(http, &origin(http.server())).await;
            return server.map(|server| Discovered { resource: None, server }).map_err(|_| trouble);
        }
        Err(trouble) => return Err(trouble),
    };
    let is_present = |issuer: &str| present.is_some_and(|present| same_issuer(present, issuer));
    named.sort_by_key(|issuer| !is_present(issuer));
    if named.len() > MOST_ISSUERS {
        debug!("the server names {} authorization servers; trying the first {MOST_ISSUERS}", named.len());
        named.truncate(MOST_ISSUERS);
    }
    if named.is_empty() {
        // Which the specification demands of the server.
        let server = published(http, &origin(http.server()))
            .await
            .map_err(|_| Error::Metadata("the server's metadata names no authorization server".to_owned()))?;
        return Ok(Discovered { resource: Some(resource), server });
    }
    let mut reasons = Vec::new();
    for issuer in &named {
        match published(http, issuer).await {
            Ok(server) => return Ok(Discovered { resource: Some(resource), server }),
            Err(error @ Error::Network { .. }) if is_present(issuer) => return Err(error),
            Err(error) => {
                debug!("skipping the authorization server {}: {error}", one_line(issuer.as_bytes()));
                reasons.push(error);
            }
        }
    }
    match <[Error; 1]>::try_from(reasons) {
        Ok([only]) => Err(only),
        Err(reasons) => {
            let told: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            Err(Error::Metadata(format!("the server names no usable authorization server: {}", told.join("; "))))
        }
    }
}

/// Whether the server's own origin may be looked at where its metadata cannot be had. Not where they are those of
/// another resource, and not where they may be had later.
fn leaves_origin(trouble: &Error) -> bool {
    matches!(
        trouble,
        Error::Metadata(_) | Error::MetadataRefused { .. } | Error::Filtered { .. } | Error::Address { .. }
    )
}

/// Returns the MCP server's metadata and the issuers that they name, from where the challenge says, else from the
/// well-known places, the one with the path first (MCP 2025-11-25, Authorization, Protected Resource Metadata Discovery).
async fn protected_resource(
    http: &HttpClient,
    challenge: &Challenge,
) -> Result<Option<(ProtectedResource, Vec<String>)>, Error> {
    let server = http.server();
    let mut trouble = None;
    let mut advertised = None;
    if let Some(text) = &challenge.resource_metadata {
        // May be relative; servers have done that.
        match http.address_in(server, "the URL of the server's metadata", text).await {
            Ok(url) => advertised = Some(url),
            Err(error) => trouble = Some(error),
        }
    }
    let places = advertised.iter().cloned().map(|url| (url, true));
    let well_known = resource_documents(server);
    for (url, is_advertised) in places.chain(well_known.into_iter().map(|url| (url, false))) {
        let body = match http.metadata(&url).await {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            // A server that guards all of its paths; only what it names itself is known to be there.
            Err(error @ Error::MetadataRefused { .. }) if !is_advertised => {
                debug!("skipping {}: {error}", without_query(&url));
                continue;
            }
            Err(error) => {
                trouble.get_or_insert(error);
                continue;
            }
        };
        let found = match ResourceMetadata::of(&body) {
            Ok(found) => found,
            // Many servers answer each path with a page.
            Err(Fault::NotAnObject) if !is_advertised => {
                debug!("{} is not protected resource metadata: {}", without_query(&url), one_line(&body));
                continue;
            }
            Err(fault) => {
                trouble.get_or_insert_with(|| {
                    Error::Metadata(format!("the metadata at {} is invalid: {fault}", shown(&url)))
                });
                continue;
            }
        };
        let Some(resource) = resource_of(&found, server) else {
            let named = one_line(found.resources.join(" ").as_bytes());
            trouble.get_or_insert(Error::OtherResource { named });
            continue;
        };
        let resource = confirmed(http, resource, &url).await;
        let resource = ProtectedResource {
            resource,
            scopes: found.scopes_supported,
            advertised: is_advertised.then(|| url.to_string()),
            wants_dpop: found.dpop_bound_access_tokens_required,
        };
        return Ok(Some((resource, found.authorization_servers)));
    }
    // Without metadata the server would be its own authorization server (MCP 2025-03-26). One that has
    // some, which cannot be had now, is not that.
    match (trouble, &advertised) {
        (Some(trouble), _) => Err(trouble),
        (None, Some(url)) => Err(Error::Metadata(format!(
            "the server names {} as the URL of its metadata, but there is none",
            shown(url)
        ))),
        (None, None) => Ok(None),
    }
}

/// Returns the `resource` that the document at `place` names, unless it contains more than the server, as a whole origin
/// does, and the document that belongs to *it* does not name it (RFC 9728 §3.3): the owner of one path does not speak for
/// the others. Then it is the server's own.
async fn confirmed(http: &HttpClient, resource: String, place: &Url) -> String {
    let server = http.server();
    let own = canonical(server);
    let Ok(named) = Url::parse(&resource) else { return own };
    if named.path().trim_end_matches('/') == server.path().trim_end_matches('/') {
        return resource;
    }
    let [its_own, ..] = &resource_documents(&named)[..] else { return own };
    if its_own == place {
        return resource;
    }
    let says_the_same = match http.metadata(its_own).await {
        Ok(Some(body)) => ResourceMetadata::of(&body).is_ok_and(|found| {
            let is_it = |other: &String| other.trim_end_matches('/') == resource.trim_end_matches('/');
            found.resources.iter().any(is_it)
        }),
        _ => false,
    };
    if says_the_same {
        return resource;
    }
    let named = one_line(resource.as_bytes());
    warn!("the server's metadata names the resource {named}, which {} does not confirm; using {own}", shown(its_own));
    own
}

/// Returns the resource that metadata describe, if that is the server (RFC 9728 §3.3): as they name it, for it is
/// compared to the letter elsewhere; of several the one that is the server; without any the server's own URI.
fn resource_of(found: &ResourceMetadata, server: &Url) -> Option<String> {
    if found.resources.is_empty() {
        return Some(canonical(server));
    }
    if let Some(same) = found.resources.iter().find(|resource| describes(resource, server)) {
        return Some(same.clone());
    }
    found.resources.iter().find_map(|resource| {
        let lost = Url::parse(resource).ok()?;
        let regained = with_lost_scheme(server, &lost).filter(|url| describes(url.as_str(), server))?;
        warn_of_lost_scheme("its resource identifier", &lost);
        Some(canonical(&regained))
    })
}

/// Returns a server's canonical URI (MCP 2025-11-25, Canonical Server URI): no fragment, and no slash that
/// nobody wrote.
pub(crate) fn canonical(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    url.set_query(None); // RFC 8707 §2: SHOULD NOT have one, and it may hold a key
    _ = url.set_username("");
    _ = url.set_password(None);
    let bare = url.path() == "/";
    let text = String::from(url);
    if bare { text.trim_end_matches('/').to_owned() } else { text }
}

/// Returns what follows from a URL, each value with its name, for fuzz targets: its canonical form, where metadata are
/// looked for, and the resource if the URL is a server's that publishes the document `body`.
#[must_use]
pub fn places_of(url: &str, body: &[u8]) -> Option<Vec<(&'static str, String)>> {
    let url = Url::parse(url).ok()?;
    let mut places = vec![("origin", origin(&url)), ("canonical", canonical(&url))];
    places.extend(resource_documents(&url).into_iter().map(|place| ("resource_metadata", place.into())));
    let issuer = without_well_known(url.clone()).0;
    places.extend(server_documents(&issuer).into_iter().map(|place| ("metadata", place.into())));
    let found = ResourceMetadata::of(body).ok();
    places.extend(found.and_then(|found| resource_of(&found, &url)).map(|resource| ("resource", resource)));
    Some(places)
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

/// Returns the published metadata of a named issuer. Where the document there is another issuer's, that issuer is asked
/// itself: if its own document has the same endpoints, the owner of both origins has said whose they are.
///
/// # Errors
/// [`Error::NoMetadata`], [`Error::Metadata`] and [`Error::IssuerMismatch`] for such as may not be used,
/// [`Error::Address`], [`Error::Network`], [`Error::MetadataRefused`], [`Error::Filtered`].
pub(crate) async fn published(http: &HttpClient, issuer: &str) -> Result<AuthorizationServer, Error> {
    let (place, other) = match documents(http, issuer).await? {
        Found::Own(server) => return Ok(*server),
        Found::Others { place, server } => (place, *server),
    };
    if let Ok(Found::Own(own)) = documents(http, &other.issuer).await
        && own.metadata.authorization_endpoint == other.metadata.authorization_endpoint
        && own.metadata.token_endpoint == other.metadata.token_endpoint
    {
        info!("using the authorization server {}, which {issuer} refers to", own.issuer);
        return Ok(*own);
    }
    Err(Error::IssuerMismatch {
        place: shown(&place).into(),
        published: one_line(other.issuer.as_bytes()),
        named: issuer.to_owned(),
    })
}

/// What stands at the well-known places of an issuer.
enum Found {
    /// Its metadata.
    Own(Box<AuthorizationServer>),
    /// The metadata of another one.
    Others { place: Url, server: Box<AuthorizationServer> },
}

async fn documents(http: &HttpClient, issuer: &str) -> Result<Found, Error> {
    let what = "the authorization server";
    let refused = |why: &str| Error::Address { what: what.to_owned(), why: why.to_owned(), near: false };
    if issuer.len() > LONGEST_ISSUER {
        return Err(refused("it is too long for a URL"));
    }
    let url = Url::parse(issuer).map_err(|_| refused(&format!("\"{}\" is not a URL", one_line(issuer.as_bytes()))))?;
    let regained = with_lost_scheme(http.server(), &url);
    let url = http.address_in(http.server(), what, issuer).await?;
    if issuer.chars().any(|character| is_obeyed(character) || character.is_whitespace()) {
        return Err(refused("it has characters that are not allowed in a URL")); // the parser drops some of them
    }
    let (url, stripped) = without_well_known(url);
    let issuer = if regained.is_some() || stripped { &*canonical(&url) } else { issuer };
    let mut unusable = None;
    let mut others = None;
    for place in server_documents(&url) {
        let body = match http.metadata(&place).await {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            Err(error) => {
                unusable.get_or_insert(error);
                continue;
            }
        };
        let metadata = match Metadata::of(&body) {
            Ok(metadata) => metadata,
            Err(Fault::NotAnObject) => {
                debug!("{place} is not authorization server metadata: {}", one_line(&body));
                continue;
            }
            Err(fault) => {
                let fault = format!("the metadata at {} is invalid: {fault}", shown(&place));
                unusable.get_or_insert(Error::Metadata(fault));
                continue;
            }
        };
        let Some(published) = metadata.issuer.clone() else {
            let fault = format!("the metadata at {} names no issuer", shown(&place));
            unusable.get_or_insert(Error::Metadata(fault));
            continue;
        };
        let name = published_as(issuer, &published);
        let issuer = match name {
            Name::Exact | Name::Other => published,
            Name::OtherSlash => {
                warn!("the server spells the issuer {issuer}, but its metadata spells it {published}");
                published
            }
            Name::SchemeLost | Name::Template => {
                debug!("{place} names the issuer {}", one_line(published.as_bytes()));
                issuer.to_owned()
            }
        };
        let server = AuthorizationServer { issuer, metadata, published: true };
        if name != Name::Other {
            return checked(http, &place, server).await.map(|server| Found::Own(Box::new(server)));
        }
        others.get_or_insert((place, server));
    }
    match others {
        Some((place, server)) => Ok(Found::Others { server: Box::new(checked(http, &place, server).await?), place }),
        None => Err(unusable.unwrap_or_else(|| Error::NoMetadata { issuer: issuer.to_owned() })),
    }
}

/// Where metadata stand, for people.
fn shown(place: &Url) -> Url {
    without_query(place)
}

/// MCP 2025-03-26, Authorization: the MCP server is its own authorization server, with metadata at the
/// root of its origin, else with endpoints at fixed places.
async fn of_2025_03_26(http: &HttpClient, challenge: &Challenge) -> Result<AuthorizationServer, Error> {
    let issuer = origin(http.server());
    match published(http, &issuer).await {
        // A server that asks for something other than a token has no such endpoints.
        Err(_) if !challenge.only_other.is_empty() => {
            let schemes = challenge.only_other.join(", ");
            Err(Error::NotOffered(format!("it asks for {schemes}")))
        }
        Err(Error::NoMetadata { .. } | Error::MetadataRefused { .. }) => {
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

/// All endpoints may be gone to: https, or loopback (MCP 2025-11-25, Communication Security). `place` is where they are
/// named.
async fn checked(
    http: &HttpClient,
    place: &Url,
    mut server: AuthorizationServer,
) -> Result<AuthorizationServer, Error> {
    let metadata = &mut server.metadata;
    for (what, endpoint) in [
        ("the authorization endpoint", &mut metadata.authorization_endpoint),
        ("the token endpoint", &mut metadata.token_endpoint),
    ] {
        if let Some(named) = endpoint {
            *endpoint = Some(http.address_in(place, what, named).await?.into());
        }
    }
    // Without these there is another way.
    for (what, endpoint) in [
        ("the registration endpoint", &mut metadata.registration_endpoint),
        ("the device authorization endpoint", &mut metadata.device_authorization_endpoint),
        ("the revocation endpoint", &mut metadata.revocation_endpoint),
    ] {
        if let Some(named) = endpoint {
            *endpoint = match http.address_in(place, what, named).await {
                Ok(url) => Some(url.into()),
                Err(error) => {
                    warn!("{error}; not using {what}");
                    None
                }
            };
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
        assert_eq!(result.unwrap_err(), "203.0.113.1 is not available: HTTP 503", "busy is not absent");
    }

    #[tokio::test]
    async fn metadata_of_another_party_are_not_used() {
        let other = json!({ "resource": "https://evil.example/", "authorization_servers": [ISSUER] });
        let (result, asked) = discovered(&[(SERVER_METADATA, other)], Challenge::default(), None).await;
        assert_eq!(result.unwrap_err(), "the server's metadata is for another resource (https://evil.example/)");
        assert_eq!(asked, [SERVER_METADATA, ROOT_METADATA]);
        let documents = [(SERVER_METADATA, resource(&[ISSUER])), (ISSUER_METADATA, issuer("https://evil.example"))];
        let (result, _) = discovered(&documents, Challenge::default(), None).await;
        let told = "the metadata at https://203.0.113.2/.well-known/oauth-authorization-server names the issuer \
                    https://evil.example, but mcp-remote asked for https://203.0.113.2 there";
        assert_eq!(result.unwrap_err(), told);
        let slash = [(SERVER_METADATA, resource(&[ISSUER])), (ISSUER_METADATA, issuer("https://203.0.113.2/"))];
        assert_eq!(discovered(&slash, Challenge::default(), None).await.0, found("https://203.0.113.2/"));
    }

    /// What is found where these documents are, the challenge being the ordinary one.
    async fn found_in(documents: &[(&str, Value)]) -> Result<(Option<String>, String), String> {
        discovered(documents, Challenge::default(), None).await.0
    }

    const ORIGIN: &str = "https://203.0.113.1";
    const ORIGIN_METADATA: &str = "https://203.0.113.1/.well-known/oauth-authorization-server";

    #[tokio::test]
    async fn malformed_resource_metadata_is_read_if_unambiguous() {
        let known = (ISSUER_METADATA, issuer(ISSUER));
        let other = "https://evil.example/";
        for (resource, issuers) in [
            (json!(["https://203.0.113.1/mcp"]), json!([ISSUER])),
            (json!([other, "https://203.0.113.1/mcp"]), json!([ISSUER])),
            (Value::Null, json!([ISSUER])),
            (json!("https://203.0.113.1/mcp"), json!(ISSUER)),
            (json!("http://203.0.113.1/mcp"), json!([ISSUER, 7])),
        ] {
            let document = json!({ "resource": resource, "authorization_servers": issuers, "scopes_supported": 7 });
            assert_eq!(
                found_in(&[(SERVER_METADATA, document.clone()), known.clone()]).await,
                found(ISSUER),
                "{document}"
            );
        }
        for (member, value, told) in [
            ("resource", json!(7), "its member resource is a number instead of a string"),
            ("authorization_servers", json!({}), "its member authorization_servers is an object instead of a list"),
        ] {
            let mut document = resource(&[ISSUER]);
            document[member] = value;
            let at = "the metadata at https://203.0.113.1/.well-known/oauth-protected-resource/mcp is invalid: ";
            let documents = [(SERVER_METADATA, document.clone()), known.clone()];
            assert_eq!(found_in(&documents).await, Err(format!("{at}{told}")));
            let next = [(SERVER_METADATA, document), known.clone(), (ROOT_METADATA, resource(&[ISSUER]))];
            assert_eq!(found_in(&next).await, found(ISSUER), "the next place is asked, too");
        }
    }

    #[tokio::test]
    async fn malformed_issuer_metadata_is_read_if_unambiguous() {
        let known = (SERVER_METADATA, resource(&[ISSUER]));
        let with = |member: &str, value: Value| {
            let mut document = issuer(ISSUER);
            document[member] = value;
            [known.clone(), (ISSUER_METADATA, document)]
        };
        for (member, value) in [
            ("scopes_supported", json!("read write")),
            ("client_id_metadata_document_supported", json!("true")),
            ("registration_endpoint", json!("")),
            ("registration_endpoint", json!(7)),
        ] {
            assert_eq!(found_in(&with(member, value)).await, found(ISSUER), "{member}");
        }
        assert_eq!(
            found_in(&with("token_endpoint", json!(7))).await.unwrap_err(),
            "the metadata at https://203.0.113.2/.well-known/oauth-authorization-server is invalid: its member \
             token_endpoint is a number instead of a string"
        );
    }

    #[tokio::test]
    async fn origin_counts_where_advertised_metadata_are_absent() {
        let named = || Challenge { resource_metadata: Some("/gone".to_owned()), ..Challenge::default() };
        let own = [(ORIGIN_METADATA, issuer(ORIGIN))];
        assert_eq!(discovered(&own, named(), None).await.0, Ok((None, ORIGIN.to_owned())));
        let unencrypted =
            Challenge { resource_metadata: Some("http://as.example/x".to_owned()), ..Challenge::default() };
        assert_eq!(discovered(&own, unencrypted.clone(), None).await.0, Ok((None, ORIGIN.to_owned())));
        assert_eq!(
            discovered(&[], unencrypted, None).await.0.unwrap_err(),
            "the URL of the server's metadata is not usable: http://as.example is not encrypted"
        );
        // Metadata of another resource say that something is wrong, and nothing else is looked at.
        let others = [(SERVER_METADATA, json!({ "resource": "https://evil.example/" })), own[0].clone()];
        assert!(found_in(&others).await.unwrap_err().contains("another resource"));
    }

    #[tokio::test]
    async fn lost_scheme_is_regained_on_the_same_host() {
        let challenge = Challenge {
            resource_metadata: Some("http://203.0.113.1/.well-known/oauth-protected-resource/mcp".to_owned()),
            ..Challenge::default()
        };
        let documents = [
            (
                SERVER_METADATA,
                json!({ "resource": "http://203.0.113.1/mcp", "authorization_servers": ["http://203.0.113.1"] }),
            ),
            (
                ORIGIN_METADATA,
                json!({ "issuer": "http://203.0.113.1", "token_endpoint": "http://203.0.113.1:8000/token" }),
            ),
        ];
        let (result, asked) = discovered(&documents, challenge, None).await;
        assert_eq!(result, found(ORIGIN));
        assert!(asked.iter().all(|url| url.starts_with("https://")), "{asked:?}");
        let elsewhere = [(SERVER_METADATA, resource(&["http://203.0.113.2"])), (ISSUER_METADATA, issuer(ISSUER))];
        assert_eq!(
            found_in(&elsewhere).await.unwrap_err(),
            "the authorization server is not usable: http://203.0.113.2 is not encrypted"
        );
    }

    #[tokio::test]
    async fn other_issuer_is_used_if_its_metadata_agrees() {
        let facade = json!({ "issuer": ISSUER, "token_endpoint": "https://203.0.113.2/token" });
        let both = [(ORIGIN_METADATA, facade.clone()), (ISSUER_METADATA, issuer(ISSUER))];
        assert_eq!(found_in(&both).await, Ok((None, ISSUER.to_owned())));
        let refused = "the metadata at https://203.0.113.1/.well-known/oauth-authorization-server names the issuer \
                       https://203.0.113.2, but mcp-remote asked for https://203.0.113.1 there";
        let mut other = issuer(ISSUER);
        other["token_endpoint"] = json!("https://203.0.113.2/other");
        for own in [json!(404), other, issuer("https://203.0.113.3")] {
            let documents = [(ORIGIN_METADATA, facade.clone()), (ISSUER_METADATA, own)];
            assert_eq!(found_in(&documents).await.unwrap_err(), refused);
        }
    }

    #[tokio::test]
    async fn place_of_metadata_is_taken_for_its_issuer() {
        for named in [ISSUER_METADATA, "https://203.0.113.2/.well-known/openid-configuration"] {
            let documents = [(SERVER_METADATA, resource(&[named])), (ISSUER_METADATA, issuer(ISSUER))];
            assert_eq!(found_in(&documents).await, found(ISSUER), "{named}");
        }
    }

    #[tokio::test]
    async fn refused_metadata_url_is_not_treated_as_missing() {
        let documents = [(SERVER_METADATA, resource(&[ISSUER])), (ISSUER_METADATA, json!(403))];
        assert_eq!(
            found_in(&documents).await.unwrap_err(),
            "the server rejected the request for the metadata at https://203.0.113.2/.well-known/oauth-authorization-server (HTTP 403)"
        );
    }

    #[tokio::test]
    async fn other_schemes_do_not_end_the_search() {
        let challenge = || Challenge { only_other: vec!["Negotiate".to_owned()], ..Challenge::default() };
        let known = [(SERVER_METADATA, resource(&[ISSUER])), (ISSUER_METADATA, issuer(ISSUER))];
        assert_eq!(discovered(&known, challenge(), None).await.0, found(ISSUER));
        assert_eq!(
            discovered(&[], challenge(), None).await.0.unwrap_err(),
            "the server requires a credential (HTTP 401) and supports no sign-in: it asks for Negotiate"
        );
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
        assert_eq!(result.unwrap_err(), "203.0.113.3 is not available: HTTP 503");
    }

    #[tokio::test]
    async fn server_without_metadata_is_its_own_authorization_server() {
        let origin = "https://203.0.113.1";
        let (result, _) = discovered(&[], Challenge::default(), None).await;
        assert_eq!(result, Ok((None, origin.to_owned())));
        let named = Challenge { resource_metadata: Some("/metadata".to_owned()), ..Challenge::default() };
        let (result, _) = discovered(&[], named, None).await;
        assert_eq!(
            result.unwrap_err(),
            "the server names https://203.0.113.1/metadata as the URL of its metadata, but there is none"
        );
        let (result, _) = discovered(&[(SERVER_METADATA, resource(&[]))], Challenge::default(), None).await;
        assert_eq!(result.unwrap_err(), "the server's metadata names no authorization server");
    }
}
