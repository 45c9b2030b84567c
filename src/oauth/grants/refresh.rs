//! Spending a refresh token (RFC 6749 §6), which most servers accept once only (RFC 9700 §4.14.2): one
//! refresh per machine, however many copies run.
//!
//! The request and the rules of what a refresh keeps are rmcp's; `StoreAdapter` is its credential store.
//! The lock is held around all of it, and the store is read again under the lock, which rmcp's own
//! guard does not do.
//!
//! Must never: spend a token that another copy has spent; remove one that has taken its place; show
//! it to anybody but the client, the issuer and the resource that it was issued to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use log::{debug, info, warn};
use rmcp::transport::auth::{AuthError, CredentialStore, StoredCredentials};
use serde_json::Value;

use crate::{
    oauth::{
        client,
        context::{AuthorizationAttempt, Context},
        credential::{Credential, Obtained},
        error::Error,
        protocol::scope::OFFLINE_ACCESS,
        providers::Remedy,
        stored::{
            provenance::Provenance,
            tokens::{TokenFile, Tokens},
        },
    },
    observer::Fact,
    report::{self, Code},
    store::lock::Purpose,
    text::host,
};

/// What came of it.
pub(crate) enum Refreshed {
    /// Newer tokens, ours or another copy's.
    Done(Credential),
    /// There is no refresh token, or it is not for this client, issuer or resource.
    Impossible,
}

/// Replaces the tokens in `file`, unless somebody has.
pub(crate) async fn refresh(
    context: &Context,
    attempt: &AuthorizationAttempt,
    file: TokenFile,
) -> Result<Refreshed, Error> {
    let _alone = context.refreshing.lock().await;
    let _lock = context.store.lock(Purpose::Tokens).await;
    if let Some(newer) = context.newer(attempt) {
        debug!("another copy has refreshed the token");
        return Ok(Refreshed::Done(newer));
    }
    // Whoever has removed what was kept has signed out.
    let held = attempt.used.as_ref().filter(|_| context.present().unkept).map(|used| used.tokens().clone());
    let Some(tokens) = held.or_else(|| Tokens::load(&context.store, file)) else { return Ok(Refreshed::Impossible) };
    if tokens.refresh_token().is_none() {
        if Provenance::load(&context.store, file, &tokens).is_some_and(|from| from.over) {
            return Ok(Refreshed::Impossible); // told when it was refused
        }
        let server = host(context.http.server());
        let sentence = format!("the sign-in to {server} is over, and no refresh token renews it");
        let report = report::warn(Code::NoRefreshToken, sentence);
        context.observer.tell(|| Fact::Warned { report, way: None });
        return Ok(Refreshed::Impossible);
    }
    let server = &attempt.discovered.server;
    let provenance = Provenance::load(&context.store, file, &tokens);
    let for_this = provenance.as_ref().is_none_or(|from| from.resource == attempt.resource);
    let of = provenance.as_ref().map(|from| from.client_id.as_str());
    let client = client::of_tokens(&context.settings, &context.store, server, of, context.now());
    let Some(client) = client.filter(|_| for_this && context.was_issued_by(&tokens, server, file)) else {
        info!("the stored sign-in is not for this client, authorization server and resource");
        return Ok(Refreshed::Impossible);
    };
    let _under_way = context.under_way.read().await; // the end of the program waits for it
    let _lease = context.store.lease().await;
    // npm may have been at it while we waited for its lease.
    if let Some(newer) = context.newer(attempt) {
        return Ok(Refreshed::Done(newer));
    }
    let exchange = context.token_endpoint_of(attempt, client.clone());
    let redirect = "http://localhost/"; // rmcp wants one; a refresh has none
    let mut manager = exchange.manager(redirect).await?;
    let held = Arc::new(Mutex::new(tokens.clone()));
    let scopes = granted(&tokens, attempt);
    if attempt.has(Remedy::NameScopes) {
        manager.set_refresh_scopes(scopes.clone());
    }
    let adapter = StoreAdapter { context: context.clone(), file, tokens: held, scopes, client_id: client.id.clone() };
    manager.set_credential_store(adapter.clone());
    match manager.refresh_token().await {
        Ok(_) => {
            let renewed = adapter.present();
            context.check_type(&renewed, attempt)?;
            info!("the access token was refreshed");
            let mut from = provenance.unwrap_or_else(|| Provenance {
                server: context.address(),
                grant: context.grant_name().to_owned(),
                client_id: client.id.clone(),
                issuer: Some(server.issuer.clone()),
                resource: attempt.resource.clone(),
                ..Provenance::default()
            });
            if from.sign_in.is_empty() {
                from.sign_in = tokens.digest(); // what npm's sign-in was called so far
            }
            if let Err(error) = from.save(&context.store, file, &renewed) {
                report::warn(Code::StoreNotWritable, format!("{error:#}"));
            }
            let prover = attempt.prover.clone().filter(|_| renewed.is_dpop());
            Ok(Refreshed::Done(context.credential_of(renewed, prover, Obtained::Refreshed)))
        }
        Err(error) => {
            let refused = exchange.refusal("the refresh", &error);
            if let Some(newer) = context.newer(attempt) {
                return Ok(Refreshed::Done(newer)); // by a program that does not know the lock
            }
            if !refused.is_refusal() {
                return Err(refused);
            }
            info!("the stored sign-in is over: {refused}");
            // Only what is spent for good is removed, and only if it is still what is stored.
            if refused.is("invalid_grant") {
                let stored = Tokens::load(&context.store, file);
                if let Some(spent) = stored.filter(|now| now.refresh_token() == tokens.refresh_token()) {
                    let kept = spent.without_refresh_token();
                    context.store.write(file.name(), &kept.to_json())?;
                    if let Some(from) = provenance {
                        Provenance { over: true, ..from }.save(&context.store, file, &kept)?;
                    }
                }
            }
            if refused.is("invalid_client") || refused.is("unauthorized_client") {
                client::forget(&context.store, &client);
            }
            Ok(Refreshed::Impossible)
        }
    }
}

/// What a refresh may ask for (RFC 6749 §6: no more than was granted).
fn granted(tokens: &Tokens, attempt: &AuthorizationAttempt) -> Vec<String> {
    let mut granted: Vec<String> = tokens.scopes().map(ToOwned::to_owned).collect();
    if granted.is_empty() {
        return attempt.scopes.clone(); // an answer that names none grants what was asked (RFC 6749 §5.1)
    }
    // Some grant it with a refresh token and without listing it.
    let unlisted = |scope: &&String| *scope == OFFLINE_ACCESS && !granted.contains(scope);
    granted.extend(attempt.scopes.iter().find(unlisted).cloned());
    granted
}

/// rmcp's `CredentialStore`: npm's file, and what it holds.
#[derive(Clone)]
struct StoreAdapter {
    context: Context,
    file: TokenFile,
    tokens: Arc<Mutex<Tokens>>,
    scopes: Vec<String>,
    client_id: String,
}

impl StoreAdapter {
    fn present(&self) -> Tokens {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl CredentialStore for StoreAdapter {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let tokens = self.present();
        let response = serde_json::from_value(tokens.response().expose().clone());
        let response = response.map_err(|error| AuthError::CredentialStoreError(error.to_string()))?;
        Ok(Some(StoredCredentials::new(self.client_id.clone(), Some(response), self.scopes.clone(), None)))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let response = serde_json::to_value(&credentials.token_response);
        let Ok(Value::Object(response)) = response else {
            return Err(AuthError::CredentialStoreError("no token response".to_owned()));
        };
        let received = credentials.token_received_at.map(|at| UNIX_EPOCH + Duration::from_secs(at));
        let received = received.unwrap_or_else(|| self.context.now());
        let new = Tokens::of_response(response, credentials.issuer.as_deref(), received);
        let kept = self.present().refreshed(new);
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        // The spent token is gone at the server: what came for it counts, also where it cannot be written.
        let written = self.context.store.write(self.file.name(), &kept.to_json());
        self.context.present().unkept = written.is_err();
        if let Err(error) = written {
            report::warn(Code::StoreNotWritable, format!("the refreshed sign-in is not kept: {error:#}"));
        }
        Ok(())
    }

    async fn clear(&self) -> Result<(), AuthError> {
        warn!("rmcp asks to forget the sign-in; it is kept"); // ours to decide
        Ok(())
    }
}
