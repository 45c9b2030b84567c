//! Spending a refresh token (RFC 6749 §6), which most servers accept once only (RFC 9700 §4.14.2): one
//! refresh per machine, however many instances run.
//!
//! The request and the rules of what a refresh keeps are rmcp's. The lock is held around all of it, and the store is
//! read again under the lock, which rmcp's own guard does not do.
//!
//! # Invariants
//!
//! - A token that another instance has spent is not spent again, and one that has taken its place is neither removed nor
//!   replaced. Who has signed out meanwhile stays signed out.
//! - A token is shown only to the client, the issuer and the resource that it was issued to.
//! - A registration and a refresh token are kept until new tokens are stored, except a token that the authorization
//!   server calls invalid.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use log::{debug, info};
use tokio::time::{sleep, timeout};

use super::keep::check_type;
use crate::{
    oauth::{
        attempt::AuthorizationAttempt,
        client,
        context::Context,
        credential::{Credential, Obtained},
        error::{Error, ErrorCode},
        progress::Need,
        protocol::{client_auth::Origin, rmcp, scope::OFFLINE_ACCESS},
        stored::{
            provenance::Provenance,
            registrations,
            remedies::Remedy,
            tokens::{TokenFile, Tokens},
        },
    },
    report::{self, Code},
    store::{Store, lock::Purpose},
    sync::LockExt,
    text::host,
};

/// Pause before a refresh is repeated whose client was called unknown: a replica that lags behind has caught up by
/// then. Once only, because a user may be waiting.
const REPLICA_LAG: Duration = Duration::from_secs(2);

/// After this long, another process is refreshing: the time that files take is less.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// What came of it.
pub(crate) enum Refreshed {
    /// Newer tokens, from this instance or another one.
    Done(Credential),
    /// There is no refresh token, or it is not for this client, issuer or resource.
    Impossible,
}

/// Replaces the tokens in `file`, unless another instance has.
pub(crate) async fn refresh(
    context: &Context,
    attempt: &AuthorizationAttempt,
    file: TokenFile,
) -> Result<Refreshed, Error> {
    let _alone = context.refreshing.lock().await;
    let _lock = unless_other_refreshes(attempt, context.store.lock(Purpose::Tokens)).await;
    if let Some(newer) = attempt.newer(context) {
        debug!("another mcp-remote process has refreshed the access token");
        return Ok(Refreshed::Done(newer));
    }
    // Whoever has removed what was kept has signed out.
    let held = attempt.used.as_ref().filter(|_| context.held().unkept).map(|used| used.tokens().clone());
    let Some(tokens) = held.or_else(|| Tokens::load(&context.store, file)) else { return Ok(Refreshed::Impossible) };
    if tokens.refresh_token().is_none() {
        if Provenance::load(&context.store, file, &tokens).is_some_and(|from| from.over) {
            return Ok(Refreshed::Impossible); // told when it was refused
        }
        let server = host(context.http.server());
        let sentence = format!("your sign-in to {server} expired, and there is no refresh token to renew it");
        context.facts.warn(report::warn(Code::NoRefreshToken, sentence));
        return Ok(Refreshed::Impossible);
    }
    let server = &attempt.discovered.server;
    let provenance = Provenance::load(&context.store, file, &tokens);
    let for_this = provenance.as_ref().is_none_or(|from| from.resource == attempt.resource);
    let of = provenance.as_ref().map(|from| from.client_id.as_str());
    let client = client::of_tokens(&context.settings, &context.store, server, of, context.now());
    let Some(client) = client.filter(|_| for_this && context.was_issued_by(&tokens, server, file)) else {
        info!("not refreshing the stored tokens: they belong to another client, authorization server or resource");
        return Ok(Refreshed::Impossible);
    };
    let _under_way = context.under_way.read().await; // the end of the program waits for it
    let _lease = unless_other_refreshes(attempt, context.store.lease()).await;
    // The npm package may have refreshed while its lease was waited for.
    if let Some(newer) = attempt.newer(context) {
        return Ok(Refreshed::Done(newer));
    }
    let endpoint = attempt.token_endpoint(context, client.clone(), None);
    let renewed = Arc::new(Mutex::new(Renewed { tokens: tokens.clone(), place: Place::Same }));
    let keep = keep(context, file, tokens.clone(), renewed.clone());
    let (response, granted) = (tokens.response(), granted(&tokens, attempt));
    let names_scopes = attempt.has(Remedy::NameScopes);
    let send = || rmcp::refresh(&endpoint, response.clone(), granted.clone(), names_scopes, keep.clone());
    let mut answer = send().await;
    // RFC 6749 §5.2: the client was refused before the token was looked at, so the token is not spent.
    if let Err(refused) = &answer
        && refused.is(ErrorCode::InvalidClient)
        && client.origin == Origin::Stored
        && !registrations::was_refused(&context.store, &client)
    {
        info!("{refused}{}", report::retrying(1, Some(REPLICA_LAG)));
        sleep(REPLICA_LAG).await;
        answer = send().await;
    }
    let of_npm = || Provenance {
        server: context.address(),
        grant: context.settings.grant.name().to_owned(),
        client_id: client.id.clone(),
        issuer: Some(server.issuer.clone()),
        resource: attempt.resource.clone(),
        ..Provenance::default()
    };
    match answer {
        Ok(()) => {
            registrations::accept(&context.store, &server.issuer, &client, false);
            let Renewed { tokens: renewed, place } = renewed.guard().clone();
            check_type(context, attempt, &renewed)?;
            info!("refreshed the access token");
            if place == Place::Taken {
                if let Some(newer) = attempt.newer(context) {
                    return Ok(Refreshed::Done(newer));
                }
            } else {
                let mut from = provenance.unwrap_or_else(of_npm);
                from.failing = None;
                if from.sign_in.is_empty() {
                    from.sign_in = tokens.digest(); // what npm's sign-in was called so far
                }
                // Where the tokens were not kept, that is reported already.
                if let Err(error) = from.save(&context.store, file, &renewed)
                    && !context.held().unkept
                {
                    report::warn(Code::StoreNotWritable, format!("{error:#}"));
                }
            }
            let prover = attempt.prover.clone().filter(|_| renewed.is_dpop());
            Ok(Refreshed::Done(context.credential_of(renewed, prover, Obtained::Refreshed)))
        }
        Err(refused) => {
            if let Some(newer) = attempt.newer(context) {
                return Ok(Refreshed::Done(newer)); // by a program that does not know the lock
            }
            if !refused.is_refusal() {
                if !refused.is_answered() {
                    return Err(refused);
                }
                let mut from = provenance.unwrap_or_else(of_npm);
                let is_dead = from.note_failed_refresh(context.now());
                // Only if the token that failed is still what is stored.
                if Tokens::load(&context.store, file).is_some_and(|stored| stored == tokens) {
                    from.save(&context.store, file, &tokens)?;
                }
                if !is_dead {
                    return Err(refused);
                }
                info!("no longer using the refresh token: {refused}");
                return Ok(Refreshed::Impossible);
            }
            info!("stored credentials are no longer valid: {refused}");
            // Only what is spent for good is removed, and only if it is still what is stored.
            if refused.is(ErrorCode::InvalidGrant) {
                let stored = Tokens::load(&context.store, file);
                if let Some(spent) = stored.filter(|now| now.refresh_token() == tokens.refresh_token()) {
                    let kept = spent.without_refresh_token();
                    context.store.write(&file.name(), &kept.to_json())?;
                    if let Some(from) = provenance {
                        Provenance { over: true, ..from }.save(&context.store, file, &kept)?;
                    }
                }
            }
            if refused.disowns_client() {
                registrations::refuse(&context.store, &client);
            }
            Ok(Refreshed::Impossible)
        }
    }
}

/// Waits for the right to spend the refresh token, and reports it if another process has that.
async fn unless_other_refreshes<T>(attempt: &AuthorizationAttempt, right: impl Future<Output = T>) -> T {
    let mut right = pin!(right);
    if let Ok(right) = timeout(SHORT_WAIT, &mut right).await {
        return right;
    }
    info!("waiting for another process, which is refreshing the access token");
    attempt.progress.need(Need::OtherRefreshes);
    let right = right.await;
    attempt.progress.need(Need::Token);
    right
}

/// Returns what a refresh may ask for (RFC 6749 §6: no more than was granted).
fn granted(tokens: &Tokens, attempt: &AuthorizationAttempt) -> Vec<String> {
    let mut granted = tokens.scopes();
    if granted.is_empty() {
        return attempt.scopes.clone(); // an answer that names none grants what was asked (RFC 6749 §5.1)
    }
    // Some grant it with a refresh token and without listing it.
    let unlisted = |scope: &&String| *scope == OFFLINE_ACCESS && !granted.contains(scope);
    granted.extend(attempt.scopes.iter().find(unlisted).cloned());
    granted
}

/// The tokens after a refresh.
#[derive(Clone)]
struct Renewed {
    tokens: Tokens,
    place: Place,
}

/// What became of the file while the request took its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It holds the spent token, or nothing that can be read.
    Same,
    /// It is gone, which is a sign-out, or holds another sign-in.
    Taken,
}

/// Returns what keeps the response to a refresh of `spent`, in `file` and in `renewed`, which holds the tokens so far.
fn keep(context: &Context, file: TokenFile, spent: Tokens, renewed: Arc<Mutex<Renewed>>) -> rmcp::Keep {
    let (store, state) = (context.store.clone(), context.held.clone());
    let is_unkept = context.held().unkept;
    Arc::new(move |response, issuer, received| {
        let new = Tokens::of_response(response, issuer, received.unwrap_or_else(SystemTime::now));
        let mut renewed = renewed.guard();
        renewed.tokens = renewed.tokens.refreshed(new);
        if !is_unkept && !still_holds(&store, file, &spent) {
            info!(
                "another program changed or removed {} during the refresh; leaving it unchanged",
                store.path(&file.name()).display()
            );
            renewed.place = Place::Taken;
            return renewed.tokens.response();
        }
        // The spent token is gone at the server: what came for it counts, also where it cannot be written.
        let written = store.write(&file.name(), &renewed.tokens.to_json());
        state.guard().unkept = written.is_err();
        if let Err(error) = written {
            report::warn(Code::StoreNotWritable, format!("the refreshed token is not stored: {error:#}"));
        }
        renewed.tokens.response()
    })
}

/// Whether a file holds the token that was spent, or nothing that can be read.
fn still_holds(store: &Store, file: TokenFile, spent: &Tokens) -> bool {
    match store.read(&file.name()) {
        Some(content) => Tokens::from_json(&content).is_none_or(|now| now.refresh_token() == spent.refresh_token()),
        None => store.unavailable_file(&file.name()).is_some(),
    }
}
