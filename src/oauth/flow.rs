//! The walk from a challenge to a credential: another instance's result, a refresh, the grant; and the replacement of a
//! credential whose end is near.
//!
//! # Invariants
//!
//! - No browser opens where the user has given a credential.
//! - A person is not asked while another instance asks, or has just succeeded.
//! - Nothing new takes the place of what is stored and cannot be read now.

use std::{sync::Arc, time::Duration};

use log::{info, warn};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    attempt::{AuthorizationAttempt, discover},
    context::Context,
    credential::{Credential, Obtained},
    error::Error,
    fact::AuthorizationFact,
    grants::{
        self,
        refresh::{self, Refreshed},
    },
    progress::{Need, Phase, Progress},
    protocol::{challenge::Challenge, metadata::Discovered, scope},
    providers::remedies,
    stored::{provenance::Provenance, sign_in::SignIn, tokens::TokenFile},
};
use crate::{config::Occasion, report, store::lock::Purpose, text::one_line};

/// Longest wait for a token endpoint that asks for one, in one attempt: a request waits for 45 s, and is then to be
/// answered by the server, or with what the token endpoint said.
const LONGEST_BUSY_WAIT: Duration = Duration::from_secs(20);
/// Answers of a busy token endpoint in one attempt.
const MOST_BUSY_ANSWERS: u32 = 3;
/// After this long, the holder of the sign-in lock is waiting for a person.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Why a credential is wanted.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// The server answered 401.
    Challenged(Challenge),
    /// The server answered 403, insufficient_scope.
    StepUp(Challenge),
}

impl Cause {
    pub(crate) fn challenge(&self) -> &Challenge {
        match self {
            Self::Challenged(challenge) | Self::StepUp(challenge) => challenge,
        }
    }
}

/// Obtains a credential in place of `used`. Asks a person only if `may_ask`.
///
/// # Errors
/// [`Error`], for all who wait.
pub(crate) async fn obtain(
    context: &Context,
    cause: Cause,
    mut used: Option<Arc<Credential>>,
    may_ask: bool,
    progress: Progress,
) -> Result<Arc<Credential>, Error> {
    if used.is_none() {
        // The request did not wait for a slow disk, or was sent before another had signed in. What is stored says also
        // which authorization server is the right one.
        used = context.current();
        let needed = match &cause {
            Cause::Challenged(_) => Vec::new(),
            Cause::StepUp(challenge) => scope::split(challenge.scope.as_deref()),
        };
        let may_do = |stored: &&Arc<Credential>| {
            !stored.tokens().has_expired(context.now()) && stored.tokens().has_scopes(&needed)
        };
        if let Some(stored) = used.as_ref().filter(may_do) {
            return Ok(stored.clone());
        }
    }
    obtain_anew(context, &cause, used, may_ask, progress).await.map(Arc::new)
}

/// The same, where the server has refused what there is.
async fn obtain_anew(
    context: &Context,
    cause: &Cause,
    used: Option<Arc<Credential>>,
    may_ask: bool,
    progress: Progress,
) -> Result<Credential, Error> {
    let (challenge, step_up) = (cause.challenge(), matches!(cause, Cause::StepUp(_)));
    if challenge.resource_metadata.is_some() {
        context.held().resource_metadata.clone_from(&challenge.resource_metadata);
    }
    let needs_person = context.settings.grant.needs_person();
    let required = step_up.then(|| scope::split(challenge.scope.as_deref()));
    let mut attempt = begin(context, None, challenge, used, required, progress).await?;
    if let Some(newer) = attempt.newer(context) {
        info!("another mcp-remote process has signed in; using its tokens");
        return Ok(newer);
    }
    if step_up {
        if needs_person && let Err(error) = attempt.check_step_up(context) {
            if let Some(used) = attempt.used {
                context.held().step_ups.note_no_more(used, error.clone());
            }
            return Err(error);
        }
        context.held().step_ups.note_step_up();
    }
    let refused = attempt.used.as_ref().and_then(|used| used.refused_when_new(context.now()));
    let last_resort = if needs_person { Obtained::SignedIn } else { Obtained::Refreshed };
    if !step_up && refused == Some(last_resort) {
        let why = challenge.error_description.as_deref().unwrap_or("no reason given");
        let Some(remedied) = remedies::after_token_refused(context, &attempt) else {
            return Err(Error::TokenRefused(one_line(why.as_bytes())));
        };
        attempt = remedied;
    }
    if !needs_person {
        if attempt.used.is_none() {
            check_store(context)?; // it would tell which authorization server is the right one
        }
        return without_person_when_free(context, &attempt).await;
    }
    let is_login = context.settings.occasion == Occasion::Login;
    if !step_up && !is_login && !matches!(refused, Some(Obtained::Refreshed | Obtained::SignedIn)) {
        let file = context.token_file(attempt.prover.is_some());
        match refresh_when_free(context, &attempt, file).await {
            Ok(Refreshed::Done(credential)) => return Ok(credential),
            Ok(Refreshed::Impossible) => {}
            Err(failed) if context.occasion() > Occasion::Host => info!("{failed}; signing in again"),
            // Signing in again would not help: the server does not answer, and it would cost a tab.
            Err(failed) => return Err(failed),
        }
    }
    if !may_ask {
        return Err(Error::Waiting { prompt: None });
    }
    check_store(context)?;
    attempt.progress.need(Need::SignIn);
    let mut lock = std::pin::pin!(context.store.lock(Purpose::SignIn));
    let _lock = match timeout(SHORT_WAIT, &mut lock).await {
        Ok(lock) => lock,
        Err(_) => {
            let pending = SignIn::pending_url(&context.store, context.now());
            context.facts.tell(|| AuthorizationFact::AnotherAsks { url: pending.clone() });
            info!(
                "another mcp-remote process is waiting for you to sign in{}",
                pending.as_ref().map_or_else(String::new, |url| format!(": {url}"))
            );
            attempt.progress.another_asks(pending.as_deref());
            lock.await
        }
    };
    if let Some(newer) = attempt.newer(context) {
        info!("another mcp-remote process has signed in; using its tokens");
        return Ok(newer);
    }
    check_store(context)?;
    sign_in(context, attempt).await
}

/// Waits for a token endpoint that asks for it (RFC 9110 §10.2.3), as long as a request can. No lock and no port is held
/// meanwhile.
struct BusyWait {
    began: Instant,
    answers: u32,
}

impl BusyWait {
    fn begin() -> Self {
        Self { began: Instant::now(), answers: 0 }
    }

    /// Waits until the time that the token endpoint has named.
    ///
    /// # Errors
    /// What the token endpoint answered, where a request cannot wait for so long.
    async fn until_free(&self, context: &Context) -> Result<(), Error> {
        let busy = context.held().busy();
        let Some((left, error)) = busy else { return Ok(()) };
        if self.began.elapsed() + left > LONGEST_BUSY_WAIT {
            return Err(error);
        }
        info!("{error}{}", report::retrying(self.answers.max(1), Some(left)));
        sleep(left).await;
        Ok(())
    }

    /// Notes what the token endpoint answered. Returns whether it is asked again.
    fn repeats(&mut self, context: &Context, error: &Error) -> bool {
        self.answers += 1;
        context.held().note_busy(error) && self.answers < MOST_BUSY_ANSWERS
    }
}

async fn refresh_when_free(
    context: &Context,
    attempt: &AuthorizationAttempt,
    file: TokenFile,
) -> Result<Refreshed, Error> {
    let mut wait = BusyWait::begin();
    loop {
        wait.until_free(context).await?;
        match refresh::refresh(context, attempt, file).await {
            Err(error) if wait.repeats(context, &error) => {}
            refreshed => return refreshed,
        }
    }
}

async fn without_person_when_free(context: &Context, attempt: &AuthorizationAttempt) -> Result<Credential, Error> {
    let mut wait = BusyWait::begin();
    loop {
        wait.until_free(context).await?;
        match grants::without_person(context, attempt).await {
            Err(error) if wait.repeats(context, &error) => {}
            obtained => return obtained,
        }
    }
}

/// Fails while a sign-in may be stored that cannot be read: another one would take its place.
fn check_store(context: &Context) -> Result<(), Error> {
    context.store.unavailable().map_or(Ok(()), |unavailable| Err(Error::Store(unavailable)))
}

/// Finds the authorization server, unless it is `known`, and what it is to be asked for.
async fn begin(
    context: &Context,
    known: Option<Discovered>,
    challenge: &Challenge,
    used: Option<Arc<Credential>>,
    needed: Option<Vec<String>>,
    progress: Progress,
) -> Result<AuthorizationAttempt, Error> {
    let discovered = match known {
        Some(known) => known,
        None => discover(context, challenge, used.as_ref()).await?,
    };
    let mut attempt = AuthorizationAttempt::new(context, discovered, challenge, used, needed, progress)?;
    if context.settings.grant.needs_person() {
        remedies::prepare(context, &mut attempt);
    }
    Ok(attempt)
}

/// Asks a person, and once more for each known remedy that what was refused has.
async fn sign_in(context: &Context, mut attempt: AuthorizationAttempt) -> Result<Credential, Error> {
    loop {
        let error = match grants::with_person(context, &mut attempt).await {
            Err(error) => error,
            signed_in => return signed_in,
        };
        let Some(remedied) = remedies::after_refusal(context, &attempt, &error) else {
            remedies::doubt(context, &attempt, &error);
            return Err(error);
        };
        attempt = remedied;
    }
}

/// Replaces a credential whose end is near. `None` if that failed.
pub(crate) async fn renew(context: &Context, credential: Arc<Credential>) -> Option<Arc<Credential>> {
    let _alone = context.renewal.lock().await;
    context.held().renewal.begin();
    if let Some(current) = context.current().filter(|current| !current.is(&credential)) {
        return Some(current); // somebody else was quicker
    }
    if !context.may_renew(&credential) {
        return None;
    }
    let renewed = match renewed(context, &credential).await {
        Ok(renewed) => renewed.map(Arc::new),
        Err(error) => {
            warn!("cannot refresh the access token: {error}");
            context.held().note_busy(&error);
            None
        }
    };
    match &renewed {
        Some(renewed) => context.set_current(renewed),
        None => context.held().renewal.fail(),
    }
    renewed
}

async fn renewed(context: &Context, credential: &Arc<Credential>) -> Result<Option<Credential>, Error> {
    let needs_person = context.settings.grant.needs_person();
    let file = context.token_file(credential.is_bound());
    let noted = Provenance::load(&context.store, file, credential.tokens()).unwrap_or_default();
    // A new look is for a challenge (MCP 2026-07-28, Client Registration); the same server refreshes.
    let (resource_metadata, known) = {
        let held = context.held();
        (held.resource_metadata.clone(), held.discovered.clone())
    };
    let challenge = Challenge {
        resource_metadata: resource_metadata.or(noted.resource_metadata),
        // A grant without a person asks for the same again.
        scope: (!needs_person).then(|| noted.requested_scopes.join(" ")),
        ..Challenge::default()
    };
    let progress = Progress::new(watch::channel(Phase::Working).0, None);
    let attempt = begin(context, known, &challenge, Some(credential.clone()), None, progress).await?;
    if !needs_person {
        return grants::without_person(context, &attempt).await.map(Some);
    }
    Ok(match refresh::refresh(context, &attempt, file).await? {
        Refreshed::Done(credential) => Some(credential),
        Refreshed::Impossible => None,
    })
}
