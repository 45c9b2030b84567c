//! Ending a sign-in at the authorization server (RFC 7009), for `logout`.
//!
//! # Invariants
//!
//! - No sign-in is kept because the server could not be told.

use std::{sync::Arc, time::SystemTime};

use crate::{
    config::Authorization,
    oauth::{
        client,
        error::{Error, ErrorCode},
        http::client::HttpClient,
        protocol::{
            discovery,
            token_endpoint::{Accepted, Parts, TokenEndpoint},
        },
        stored::{
            provenance::Provenance,
            registrations,
            remedies::Remedies,
            tokens::{TokenFile, Tokens},
        },
    },
    store::{Store, lock::Purpose},
};

/// What stays when a sign-in is forgotten: the log, and locks that others may hold.
const KEPT: [&str; 3] = [".lock", ".log", ".log.1"];

/// What became of a server's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// There were none.
    Nothing,
    /// The authorization server has ended them.
    AtServer,
    /// They are gone from this machine only, and why.
    HereOnly(String),
}

/// Ends what is stored for a server, and removes it.
pub(crate) async fn revoke(http: Arc<HttpClient>, settings: &Authorization, store: &Store) -> Revoked {
    let _lock = store.lock(Purpose::Tokens).await;
    let mut revoked = Revoked::Nothing;
    for file in TokenFile::all() {
        let Some(tokens) = Tokens::load(store, file) else {
            if let Some(unavailable) = store.unavailable_file(&file.name()) {
                revoked = Revoked::HereOnly(unavailable.to_string());
            }
            continue;
        };
        match tell_server(&http, settings, store, file, &tokens).await {
            Ok(()) if revoked == Revoked::Nothing => revoked = Revoked::AtServer,
            Ok(()) => {}
            Err(error) => revoked = Revoked::HereOnly(error.to_string()),
        }
    }
    for name in store.names("") {
        if !KEPT.iter().any(|end| name.ends_with(end)) {
            store.remove(&name);
        }
    }
    revoked
}

async fn tell_server(
    http: &Arc<HttpClient>,
    settings: &Authorization,
    store: &Store,
    file: TokenFile,
    tokens: &Tokens,
) -> Result<(), Error> {
    // npm leaves the issuer out when it refreshes ahead of time; its registration has it.
    let noted = tokens.issuer().map(ToOwned::to_owned).or_else(|| registrations::issuer_noted(store));
    let Some(issuer) = noted.as_deref() else {
        return Err(Error::Metadata("the stored tokens do not name their issuer".to_owned()));
    };
    let server = discovery::published(http, issuer).await?;
    let Some(endpoint) = &server.metadata.revocation_endpoint else {
        return Err(Error::Unsupported { issuer: issuer.to_owned(), what: "does not support token revocation" });
    };
    let endpoint = http.address("the revocation endpoint", endpoint).await?;
    let from = Provenance::load(store, file, tokens);
    let id = from.as_ref().map(|from| from.client_id.as_str());
    let Some(client) = client::of_tokens(settings, store, &server, id, SystemTime::now()) else {
        return Err(Error::Local("the stored client registration is gone".to_owned()));
    };
    let parts = Parts {
        known_method: Remedies::client_authentication(store, &server.issuer),
        accepted: Accepted::nowhere(),
        http: http.clone(),
        server,
        client,
        resource: None,
        prover: None,
        key: None,
    };
    let tokens_endpoint = TokenEndpoint::new(parts);
    // The refresh token first: with it go the access tokens, at most servers (RFC 7009 §2.1).
    if let Some(token) = tokens.refresh_token() {
        tokens_endpoint.revoke(&endpoint, token.expose(), "refresh_token").await?;
    }
    match tokens_endpoint.revoke(&endpoint, tokens.access_token().expose(), "access_token").await {
        // RFC 7009 §2.2.1: what says by itself who it is for, such as a JWT, ends by itself.
        Err(error) if error.is(ErrorCode::UnsupportedTokenType) && tokens.refresh_token().is_some() => Ok(()),
        result => result,
    }
}
