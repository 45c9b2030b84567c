//! The client ID at an authorization server: a client configured by the user, a client id metadata
//! document, a dynamic registration (RFC 7591); in this order (MCP 2025-11-25, Authorization, Client
//! Registration Approaches).
//!
//! # Invariants
//!
//! - A secret is not used beyond its end.

pub(crate) mod probe;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{debug, info};
use reqwest::Url;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use crate::{
    config::{Authorization, Occasion},
    oauth::{
        context::Context,
        error::Error,
        protocol::{
            client_auth::{AuthMethod, Client, Origin},
            metadata::AuthorizationServer,
            registration::{self, AUTHORIZATION_CODE, Wanted},
        },
        stored::{
            busy::Busy,
            registrations::{self, redirect_uris},
        },
    },
    report,
    store::Store,
    text::one_line,
};

/// How long a busy registration is tried again: a host's request waits for less than a minute.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// Pause before the first of these tries, where the server names none; then twice as long each time.
const FIRST_BUSY_PAUSE: Duration = Duration::from_secs(2);
/// How long a server that names no time is left alone afterwards.
const BUSY_UNNAMED: Duration = Duration::from_secs(60);

/// Returns the client to use, from what is at hand; `None` if one must be registered.
pub(crate) fn present(
    settings: &Authorization,
    store: &Store,
    server: &AuthorizationServer,
    wanted: Wanted<'_>,
    now: SystemTime,
) -> Option<Client> {
    if let Some(client) = fixed(settings, server) {
        return Some(client);
    }
    // RFC 7591 §2: of a list that is left out, the authorization code.
    let has_grant = |info: &Map<String, Value>| match info.get("grant_types").and_then(Value::as_array) {
        Some(grants) => grants.iter().any(|grant| grant == wanted.grant),
        None => wanted.grant == AUTHORIZATION_CODE,
    };
    let has_redirect = |info: &Map<String, Value>| redirect_uris(info).any(|uri| uri == wanted.redirect_uri);
    let usable = |info: &Map<String, Value>| {
        has_grant(info) && (has_redirect(info) || wanted.grant != AUTHORIZATION_CODE) && !has_ended(info, now)
    };
    let found = registrations::usable(store, &server.issuer).into_iter().find(usable)?;
    Client::of(&found, server, Origin::Stored)
}

/// Returns the client that stored tokens were issued to; `id` is known unless the npm package wrote them.
pub(crate) fn of_tokens(
    settings: &Authorization,
    store: &Store,
    server: &AuthorizationServer,
    id: Option<&str>,
    now: SystemTime,
) -> Option<Client> {
    let is_it = |client: &Client| id.is_none_or(|id| id == client.id);
    if let Some(client) = fixed(settings, server) {
        return Some(client).filter(is_it);
    }
    let all = registrations::of_issuer(store, &server.issuer).into_iter().filter(|info| !has_ended(info, now));
    all.filter_map(|info| Client::of(&info, server, Origin::Stored)).find(is_it)
}

/// Returns the client that nothing on disk can change: the user's, or the document.
pub(crate) fn fixed(settings: &Authorization, server: &AuthorizationServer) -> Option<Client> {
    if let Some(info) = &settings.client_info {
        let mut client = Client::of(info.expose(), server, Origin::Configured)?;
        if settings.grant.signs_assertions() {
            client.method = AuthMethod::PrivateKeyJwt;
        }
        return Some(client);
    }
    let document = settings.client_metadata_url.as_ref()?;
    // MCP 2025-11-25, Client ID Metadata Documents: only where the server says that it reads them.
    (server.metadata.client_id_metadata_document_supported == Some(true))
        .then(|| Client::public(document.to_string(), Origin::Document))
}

/// Redirect URIs of stored registrations that are looked at: each is a port that may be tried.
const MOST_REDIRECT_URIS: usize = 16;

/// Returns the redirect URIs of stored registrations at `path` or below it, the port of which is best taken again.
pub(crate) fn stored_redirect_uris(store: &Store, server: &AuthorizationServer, path: &str) -> Vec<Url> {
    let stored = registrations::of_issuer(store, &server.issuer);
    let is_below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    let ours = |url: &Url| url.scheme() == "http" && url.path().strip_prefix(path).is_some_and(is_below);
    let mut uris = Vec::new();
    for uri in stored.iter().flat_map(redirect_uris).filter_map(|uri| Url::parse(uri).ok()).filter(ours) {
        if !uris.contains(&uri) {
            uris.push(uri);
        }
    }
    uris.truncate(MOST_REDIRECT_URIS);
    uris
}

/// Returns the path of the redirect URI for this authorization server: each that this MCP server has named has its own, so
/// that a response cannot pass for another's (RFC 9700 §4.4.2.2). The first one has the configured path, which is the npm
/// package's.
pub(crate) fn redirect_path(settings: &Authorization, store: &Store, server: &AuthorizationServer) -> String {
    let configured = &settings.callback_path;
    if fixed(settings, server).is_some() {
        return configured.clone(); // it was registered elsewhere with this one
    }
    if let Some(stored) = stored_redirect_uris(store, server, configured).first() {
        return stored.path().to_owned();
    }
    if !registrations::has_other_issuer(store, &server.issuer) {
        return configured.clone();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, server.issuer.as_bytes());
    let name: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{name}", configured.trim_end_matches('/'))
}

/// Whether the client's secret is beyond its end (RFC 7591 §3.2.1: seconds since the epoch, 0 for never). An end that
/// cannot be meant does not count: one without a secret, and one that is not after the registration.
fn has_ended(info: &Map<String, Value>, now: SystemTime) -> bool {
    /// In seconds the year 5138, in milliseconds 1973: servers write both.
    const FIRST_IN_MILLISECONDS: u64 = 100_000_000_000;
    let seconds = |name: &str| match info.get(name).and_then(Value::as_u64).unwrap_or_default() {
        time @ FIRST_IN_MILLISECONDS.. => time / 1000,
        time => time,
    };
    let end = seconds("client_secret_expires_at");
    if end == 0 || !info.get("client_secret").is_some_and(Value::is_string) {
        return false;
    }
    if end <= seconds("client_id_issued_at") {
        debug!("ignoring client_secret_expires_at: it is not later than client_id_issued_at");
        return false;
    }
    end <= now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Registers a client and keeps it. A server that is busy is asked again for a while, and then, however often this
/// program starts, not before the time that it has named, unless the user asks for the sign-in.
///
/// # Errors
/// [`Error::NoClient`] where no client can be registered, [`Error::RegistrationBusy`], [`Error::Refused`],
/// [`Error::Network`].
pub(crate) async fn register(
    context: &Context,
    server: &AuthorizationServer,
    wanted: Wanted<'_>,
) -> Result<Client, Error> {
    let store = &context.store;
    if let Some(left) =
        Busy::load(store, &server.issuer, context.now()).filter(|_| context.occasion() < Occasion::Asked)
    {
        let why = "as it said before".to_owned();
        return Err(Error::RegistrationBusy { issuer: server.issuer.clone(), why, after: Some(left) });
    }
    let give_up = Instant::now() + BUSY_PATIENCE;
    let mut pause = FIRST_BUSY_PAUSE;
    let mut retries = 0;
    let own = context.settings.client_metadata.as_ref();
    let (info, client) = loop {
        let busy = match registration::register(&context.http, server, wanted, own).await {
            Err(error @ Error::RegistrationBusy { .. }) => error,
            answered => break answered?,
        };
        let Error::RegistrationBusy { after, .. } = &busy else { return Err(busy) };
        let wait = after.unwrap_or_default().max(pause);
        if Instant::now() + wait > give_up {
            Busy::save(store, &server.issuer, context.now() + after.unwrap_or(BUSY_UNNAMED));
            return Err(busy);
        }
        retries += 1;
        info!("{busy}{}", report::retrying(retries, Some(wait)));
        sleep(wait).await;
        pause *= 2;
    };
    info!("registered with {} as client {}", server.issuer, one_line(client.id.as_bytes()));
    registrations::add(store, info);
    Busy::forget(store);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::Grant, secret::Secret};

    const REDIRECT_URI: &str = "http://localhost:3335/oauth/callback";
    const SECONDS: u64 = 1000;

    fn server(reads_documents: bool) -> AuthorizationServer {
        let mut server = AuthorizationServer { issuer: "https://as".to_owned(), published: true, ..Default::default() };
        server.metadata.client_id_metadata_document_supported = Some(reads_documents);
        server
    }

    fn store(registrations: &[Value]) -> (Store, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path().to_owned(), "0".repeat(32));
        for registration in registrations.iter().rev() {
            registrations::add(&store, registration.as_object().unwrap().clone());
        }
        (store, home)
    }

    fn registration(id: &str, more: &[(&str, Value)]) -> Value {
        let mut all = json!({ "client_id": id, "issuer": "https://as/", "redirect_uris": [REDIRECT_URI] });
        for (name, value) in more {
            all[*name] = value.clone();
        }
        all
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(SECONDS)
    }

    fn chosen(settings: &Authorization, reads_documents: bool, registrations: &[Value]) -> Option<(String, Origin)> {
        let (store, _home) = store(registrations);
        let wanted = Wanted { grant: AUTHORIZATION_CODE, redirect_uri: REDIRECT_URI, scopes: &[] };
        let client = present(settings, &store, &server(reads_documents), wanted, now());
        client.map(|client| (client.id, client.origin))
    }

    #[test]
    fn configured_client_precedes_document_and_registration() {
        let stored = [registration("stored", &[])];
        let document = || Authorization {
            client_metadata_url: Some("https://client.example/metadata.json".parse().unwrap()),
            ..Authorization::default()
        };
        let info = json!({ "client_id": "configured" }).as_object().unwrap().clone();
        let configured = Authorization { client_info: Some(Secret::new(info)), ..document() };
        let of = |id: &str, origin| Some((id.to_owned(), origin));
        assert_eq!(chosen(&configured, true, &stored), of("configured", Origin::Configured));
        let url = "https://client.example/metadata.json";
        assert_eq!(chosen(&document(), true, &stored), of(url, Origin::Document));
        assert_eq!(chosen(&document(), false, &stored), of("stored", Origin::Stored));
        assert_eq!(chosen(&document(), false, &[]), None);
    }

    #[test]
    fn stored_registration_is_used_if_it_fits() {
        for (more, fits) in [
            (("scope", json!("a")), true),
            (("grant_types", json!(["authorization_code", "refresh_token"])), true),
            (("grant_types", json!(["client_credentials"])), false),
            (("redirect_uris", json!(["http://localhost:1/"])), false),
            (("issuer", json!("https://other")), false),
            (("client_secret_expires_at", json!(0)), true),
            // Without a secret, as here, there is nothing that could expire.
            (("client_secret_expires_at", json!(SECONDS)), true),
            (("client_secret_expires_at", json!(SECONDS + 1)), true),
        ] {
            let found = chosen(&Authorization::default(), false, &[registration("c", std::slice::from_ref(&more))]);
            assert_eq!(found.is_some(), fits, "{more:?}");
        }
    }

    #[test]
    fn expired_secret_ends_registration() {
        for (end, fits) in [(SECONDS, false), (SECONDS + 1, true), (0, true)] {
            let more = [("client_secret", json!("s")), ("client_secret_expires_at", json!(end))];
            assert_eq!(chosen(&Authorization::default(), false, &[registration("c", &more)]).is_some(), fits, "{end}");
        }
    }

    #[test]
    fn implausible_secret_expiry_is_ignored() {
        const NOW: u64 = 1_800_000_000;
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        for (issued, end, ended) in [
            (json!(NOW - 5), json!(NOW - 5), false),
            (json!(NOW - 5), json!(1), false),
            (json!(NOW - 5), json!(NOW - 1), true),
            (Value::Null, json!(NOW - 1), true),
            (json!(NOW - 5), json!((NOW + 60) * 1000), false),
            (json!((NOW - 60) * 1000), json!((NOW - 5) * 1000), true),
            (json!((NOW - 60) * 1000), json!(NOW - 5), true),
        ] {
            let info = json!({
                "client_secret": "s", "client_id_issued_at": issued, "client_secret_expires_at": end
            });
            assert_eq!(has_ended(info.as_object().unwrap(), now), ended, "{issued} {end}");
        }
    }

    #[test]
    fn tokens_stay_with_their_client() {
        let (store, _home) = store(&[registration("new", &[]), registration("old", &[])]);
        let of = |id: Option<&str>| {
            let client = of_tokens(&Authorization::default(), &store, &server(false), id, now());
            client.map(|client| client.id)
        };
        assert_eq!(of(Some("old")).as_deref(), Some("old"));
        assert_eq!(of(None).as_deref(), Some("new"));
        assert_eq!(of(Some("gone")), None);
    }

    #[test]
    fn key_makes_the_configured_client_sign_assertions() {
        let info = json!({ "client_id": "c", "client_secret": "s" }).as_object().unwrap().clone();
        let with = |key: Option<&str>| {
            let grant = Grant::ClientCredentials { token_endpoint: None, key: key.map(Into::into) };
            let settings =
                Authorization { client_info: Some(Secret::new(info.clone())), grant, ..Authorization::default() };
            fixed(&settings, &server(false)).unwrap().method
        };
        assert_eq!((with(None), with(Some("key.pem"))), (AuthMethod::Basic, AuthMethod::PrivateKeyJwt));
    }
}
