//! Spending a refresh token (RFC 6749 §6), which most servers accept once only (RFC 9700 §4.14.2): one
//! refresh per machine, however many copies run.
//!
//! The request and the rules of what a refresh keeps are rmcp's; `Ledger` is its credential store.
//! The lock is held around all of it, and the store is read again under the lock, which rmcp's own
//! guard does not do.
//!
//! Must never: spend a token that another copy has spent; remove one that has taken its place; show
//! it to anybody but the client, the issuer and the resource that it was issued to.

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use log::{debug, info, warn};
use rmcp::transport::auth::{AuthError, CredentialStore, StoredCredentials};
use serde_json::Value;

use super::{Credential, Desk, Errand, Obtained, error::Error, registration};
use crate::store::{
    grant::Provenance,
    lock::Purpose,
    tokens::{Drawer, Tokens},
};

/// What came of it.
pub(super) enum Refreshed {
    /// Newer tokens, ours or another copy's.
    Done(Credential),
    /// There is no refresh token, or it is not for this client, issuer or resource.
    Impossible,
}

/// Replaces the tokens in `drawer`, unless somebody has.
pub(super) async fn refresh(desk: &Desk, errand: &Errand, drawer: Drawer) -> Result<Refreshed, Error> {
    let _alone = desk.refreshing.lock().await;
    let _lock = desk.store.lock(Purpose::Tokens).await;
    if let Some(newer) = desk.newer(errand) {
        debug!("another copy has refreshed the token");
        return Ok(Refreshed::Done(newer));
    }
    let Some(tokens) = Tokens::load(&desk.store, drawer) else { return Ok(Refreshed::Impossible) };
    if tokens.refresh_token().is_none() {
        return Ok(Refreshed::Impossible);
    }
    let server = &errand.discovered.server;
    let provenance = Provenance::load(&desk.store, drawer, &tokens);
    let issued_here = tokens.issuer().is_none_or(|issuer| registration::same_issuer(issuer, &server.issuer));
    let for_this = provenance.as_ref().is_none_or(|from| from.resource == errand.resource);
    let client = registration::present(&desk.settings, &desk.store, server, None, desk.now())?;
    let client = client.filter(|client| provenance.as_ref().is_none_or(|from| from.client_id == client.id));
    let Some(client) = client.filter(|_| issued_here && for_this) else {
        info!("the stored sign-in is not for this client, authorization server and resource");
        return Ok(Refreshed::Impossible);
    };
    let _under_way = desk.under_way.read().await; // the end of the program waits for it
    let _lease = desk.store.lease().await;
    // npm may have been at it while we waited for its lease.
    if let Some(newer) = desk.newer(errand) {
        return Ok(Refreshed::Done(newer));
    }
    let exchange = desk.exchange(errand, client.clone());
    let redirect = "http://localhost/"; // rmcp wants one; a refresh has none
    let mut manager = exchange.manager(redirect).await?;
    manager.set_credential_store(Ledger { desk: desk.clone(), drawer, client_id: client.id.clone() });
    match manager.refresh_token().await {
        Ok(_) => match Tokens::load(&desk.store, drawer) {
            Some(tokens) => {
                info!("the access token was refreshed");
                if let Some(Err(error)) = provenance.map(|from| from.save(&desk.store, drawer, &tokens)) {
                    warn!("{error:#}");
                }
                let prover = errand.prover.clone().filter(|_| tokens.is_dpop());
                Ok(Refreshed::Done(desk.credential_of(tokens, prover, Obtained::Refreshed)))
            }
            None => Err(Error::Local("the refreshed token cannot be read again".to_owned())),
        },
        Err(error) => {
            let refused = exchange.refusal("the refresh", &error);
            if let Some(newer) = desk.newer(errand) {
                return Ok(Refreshed::Done(newer)); // by a program that does not know the lock
            }
            if !refused.is_refusal() {
                return Err(refused);
            }
            info!("the stored sign-in is over: {refused}");
            // Only what is spent for good is removed, and only if it is still what is stored.
            if refused.is("invalid_grant") {
                let stored = Tokens::load(&desk.store, drawer);
                if let Some(spent) = stored.filter(|now| now.refresh_token() == tokens.refresh_token()) {
                    let kept = spent.without_refresh_token();
                    desk.store.write(drawer.tokens(), &kept.to_json())?;
                }
            }
            if refused.is("invalid_client") || refused.is("unauthorized_client") {
                registration::forget(&desk.store, server, &client);
            }
            Ok(Refreshed::Impossible)
        }
    }
}

/// rmcp's `CredentialStore`: npm's file.
struct Ledger {
    desk: Desk,
    drawer: Drawer,
    client_id: String,
}

#[async_trait]
impl CredentialStore for Ledger {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let Some(tokens) = Tokens::load(&self.desk.store, self.drawer) else { return Ok(None) };
        let response = serde_json::from_value(tokens.response().expose().clone());
        let response = response.map_err(|error| AuthError::CredentialStoreError(error.to_string()))?;
        let scopes = tokens.scopes().map(ToOwned::to_owned).collect();
        Ok(Some(StoredCredentials::new(self.client_id.clone(), Some(response), scopes, None)))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let failed = |error: anyhow::Error| AuthError::CredentialStoreError(format!("{error:#}"));
        let response = serde_json::to_value(&credentials.token_response).map_err(|error| failed(error.into()))?;
        let Value::Object(response) = response else { return Ok(()) };
        let received =
            credentials.token_received_at.map_or_else(|| self.desk.now(), |at| UNIX_EPOCH + Duration::from_secs(at));
        let new = Tokens::of_response(response, credentials.issuer.as_deref(), received);
        let old = Tokens::load(&self.desk.store, self.drawer);
        let kept = old.map_or_else(|| new.clone(), |old| old.refreshed(new.clone()));
        self.desk.store.write(self.drawer.tokens(), &kept.to_json()).map_err(failed)
    }

    async fn clear(&self) -> Result<(), AuthError> {
        warn!("rmcp asks to forget the sign-in; it is kept"); // ours to decide
        Ok(())
    }
}
