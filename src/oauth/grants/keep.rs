//! What a grant gave, kept on disk and ready to be sent.
//!
//! # Invariants
//!
//! - Tokens are on disk, or their loss is reported, before they are used.

use log::info;
use serde_json::{Map, Value};

use crate::{
    config::Dpop,
    oauth::{
        attempt::AuthorizationAttempt,
        context::Context,
        credential::{Credential, Obtained},
        error::{Error, Step},
        person::tabs::Tabs,
        protocol::client_auth::Client,
        providers::{remedies, table},
        stored::{
            provenance::Provenance,
            registrations,
            tokens::{TokenFile, Tokens},
        },
    },
    report::{self, Code},
    store::lock::Purpose,
    text::{host, one_line},
};

/// Keeps new tokens, on disk first.
pub(crate) async fn keep(
    context: &Context,
    attempt: &AuthorizationAttempt,
    response: Map<String, Value>,
    client: &Client,
    obtained: Obtained,
) -> Result<Credential, Error> {
    context.held().step_ups.note_asked(&attempt.scopes);
    let server = &attempt.discovered.server;
    let grant = &context.settings.grant;
    let mut tokens = Tokens::of_response(response, Some(&server.issuer), context.now());
    check_type(context, attempt, &tokens)?;
    if tokens.scope().is_none() {
        tokens = tokens.with_scope(&attempt.scopes); // RFC 6749 §5.1: as asked for
    }
    let mut provenance = Provenance {
        server: context.address(),
        grant: grant.name().to_owned(),
        client_id: client.id.clone(),
        issuer: Some(server.issuer.clone()),
        resource: attempt.resource.clone(),
        requested_scopes: attempt.scopes.clone(),
        resource_metadata: attempt.discovered.resource.as_ref().and_then(|resource| resource.advertised.clone()),
        sign_in: format!("{:016x}", fastrand::u64(..)),
        ..Provenance::default()
    };
    let file = context.token_file(tokens.is_dpop());
    let _lock = context.store.lock(Purpose::Tokens).await;
    let before = Provenance::any(&context.store, file).filter(|_| !grant.takes_assertions()).map(|from| from.sign_in);
    if let (Obtained::Refreshed, Some(before)) = (obtained, before.filter(|name| !name.is_empty())) {
        provenance.sign_in = before;
    }
    // A store that cannot be written costs a sign-in at the next start, not this one.
    let written = context.store.write(&file.name(), &tokens.to_json());
    context.held().unkept = written.is_err();
    let kept = written.and_then(|()| provenance.save(&context.store, file, &tokens));
    if let Err(error) = kept {
        let report = report::warn(Code::StoreNotWritable, format!("your sign-in is not stored: {error:#}"));
        context.facts.warn(report);
    }
    if file.is_of_person() {
        let other = if file == TokenFile::NPM { TokenFile::DPOP } else { TokenFile::NPM };
        context.store.remove(&other.name());
        context.store.remove(&other.provenance_name());
    }
    if obtained == Obtained::SignedIn {
        info!("signed in to {}", host(context.http.server()));
        Tabs::forget(&context.store);
        remedies::keep(context, attempt, &tokens);
        warn_of_end(context, &server.issuer, &tokens);
    }
    registrations::accept(&context.store, &server.issuer, client, file.is_of_person());
    if file == TokenFile::NPM {
        registrations::keep_for_npm(&context.store, &server.issuer, client);
    }
    let prover = attempt.prover.clone().filter(|_| tokens.is_dpop());
    Ok(context.credential_of(tokens, prover, obtained))
}

/// RFC 6749 §7.1: a token of an unknown type must not be used; RFC 9449 §5: nor one that is bound to a
/// key that this program does not hold.
pub(super) fn check_type(context: &Context, attempt: &AuthorizationAttempt, tokens: &Tokens) -> Result<(), Error> {
    let kind = tokens.kind();
    let what = if tokens.is_dpop() && attempt.prover.is_some() {
        return Ok(());
    } else if !kind.eq_ignore_ascii_case("bearer") && !table::is_bearer(&attempt.discovered.server, kind) {
        format!("the response has a token of the unknown type {:?}", one_line(kind.as_bytes()))
    } else if context.settings.dpop == Dpop::Require {
        "the token in the response is not bound to a DPoP key, which --dpop require demands".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Answer { step: Step::Tokens, what, status: None })
}

/// Warns that a sign-in ends with its token, where nothing renews it.
fn warn_of_end(context: &Context, issuer: &str, tokens: &Tokens) {
    let (Some(end), None) = (tokens.expires_at(), tokens.refresh_token()) else { return };
    let minutes = end.duration_since(context.now()).unwrap_or_default().as_secs().div_ceil(60);
    let life = match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / (24 * 60)),
    };
    let place = host(context.http.server());
    let sentence = format!("your sign-in to {place} expires in {life}, because {issuer} issued no refresh token");
    context.facts.warn(report::warn(Code::NoRefreshToken, sentence));
}
