//! Who we are to an authorization server: a client configured by the user, a client id metadata
//! document, a dynamic registration (RFC 7591); in this order (MCP 2025-11-25, Authorization, Client
//! Registration Approaches).
//!
//! # Invariants
//!
//! - A secret is not used beyond its end.

pub(crate) mod probe;

use std::time::{SystemTime, UNIX_EPOCH};

use log::info;
use serde_json::{Map, Value};

use crate::{
    config::Authorization,
    oauth::{
        error::Error,
        http::client::HttpClient,
        protocol::{
            client_auth::{AuthMethod, Client, Origin},
            metadata::AuthorizationServer,
            registration::{self, AUTHORIZATION_CODE, Wanted},
        },
        stored::registrations::{self, redirect_uris},
    },
    store::Store,
    text::one_line,
};

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
    let found = registrations::of_issuer(store, &server.issuer).into_iter().find(usable)?;
    Client::of(&found, server, Origin::Stored)
}

/// Returns the client that stored tokens were issued to; `id` is known of tokens of ours.
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

/// Returns the redirect URIs of stored registrations, the port of which is best taken again.
pub(crate) fn stored_redirect_uris(store: &Store, server: &AuthorizationServer) -> Vec<String> {
    let stored = registrations::of_issuer(store, &server.issuer);
    stored.iter().flat_map(redirect_uris).map(ToOwned::to_owned).collect()
}

fn has_ended(info: &Map<String, Value>, now: SystemTime) -> bool {
    // RFC 7591 §3.2.1: seconds since the epoch, 0 for never.
    let end = info.get("client_secret_expires_at").and_then(Value::as_u64).unwrap_or_default();
    end != 0 && end <= now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Registers a client and keeps it.
///
/// # Errors
/// [`Error::NoClient`] where nobody is registered, [`Error::Refused`], [`Error::Network`].
pub(crate) async fn register(
    http: &HttpClient,
    settings: &Authorization,
    store: &Store,
    server: &AuthorizationServer,
    wanted: Wanted<'_>,
) -> Result<Client, Error> {
    let (info, client) = registration::register(http, server, wanted, settings.client_metadata.as_ref()).await?;
    info!("registered with {} as {}", server.issuer, one_line(client.id.as_bytes()));
    registrations::add(store, info);
    Ok(client)
}
