//! The credential in use, and what became of the attempts to obtain or to renew one.
//!
//! # Invariants
//!
//! - A person is not asked again for a scope that they were asked for before.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    credential::Credential,
    error::Error,
    protocol::{challenge::Challenge, metadata::Discovered},
};

/// Pause after a sign-in that came to nothing, before anything but a request of the host's asks for
/// another; and after step-ups that led nowhere.
pub(crate) const SECOND_THOUGHT: Duration = Duration::from_secs(10 * 60);
/// How long the failure of an attempt stands for the same attempt: the messages of a host's start come within less.
const SHARED_FAILURE: Duration = Duration::from_secs(10);
/// Pause after a refresh that failed while the token is still good.
pub(crate) const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// The longest `Retry-After` of a token endpoint that is obeyed: beyond it, a mistake would keep a sign-in that works
/// out of use.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// The shortest, so that a token endpoint that names 0 is not asked without a pause.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Step-ups in a row that lead to no success, after the first authorization: three in all (MCP
/// 2025-11-25, Step-Up Authorization Flow: "a few").
const MOST_STEP_UPS: u32 = 2;

/// What is known about the credential in use.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) current: Current,
    /// The one before it: the answers to requests that carry it may still come.
    pub(crate) former: Option<Arc<Credential>>,
    pub(crate) renewal: TokenRenewal,
    /// The token endpoint, if it asked to wait.
    busy: Option<BusyEndpoint>,
    /// The last attempt that came to nothing.
    failed: Option<Failure>,
    /// The user has asked for a sign-in, and none was attempted since.
    pub(crate) user_asks: bool,
    pub(crate) step_ups: StepUps,
    /// Whether the store did not take the last tokens, so that they are only in memory.
    pub(crate) unkept: bool,
    /// Where the metadata are, as the last challenge said.
    pub(crate) resource_metadata: Option<String>,
    /// What the last look at the metadata found.
    pub(crate) discovered: Option<Discovered>,
    /// Whether a person was asked once more because the server refused a token that only its issuer can
    /// read. Also where the store cannot keep what helps, they are not asked again for that.
    pub(crate) asked_for_audience: bool,
}

/// An attempt that came to nothing.
#[derive(Debug)]
struct Failure {
    at: Instant,
    error: Error,
    /// Where the challenge said that the metadata are.
    resource_metadata: Option<String>,
}

/// A token endpoint that asked to wait (RFC 9110 §10.2.3).
#[derive(Debug)]
struct BusyEndpoint {
    until: Instant,
    error: Error,
}

/// The credential that is sent.
#[derive(Debug, Default)]
pub(crate) enum Current {
    /// The store was not read yet.
    #[default]
    Unread,
    /// There is none.
    Nothing,
    /// This one.
    Credential(Arc<Credential>),
}

/// Whether a credential whose end is near is being replaced.
#[derive(Debug, Default)]
pub(crate) enum TokenRenewal {
    /// No.
    #[default]
    Idle,
    /// A task for it was started, and has not begun.
    Scheduled,
    /// The last one failed then.
    Failed(Instant),
}

/// Requests for more scopes than a token has (MCP 2025-11-25, Step-Up Authorization Flow).
#[derive(Debug, Default)]
pub(crate) struct StepUps {
    /// Scopes that a person was asked for in this process.
    asked: Vec<String>,
    /// Since the last request that succeeded after one.
    count: u32,
    last: Option<Instant>,
    /// The credential with which there is no other scope to ask for, and why.
    no_more: Option<(Arc<Credential>, Error)>,
}

impl Held {
    /// Notes that a sign-in came to nothing.
    pub(crate) fn note_failure(&mut self, error: &Error, challenge: &Challenge) {
        let resource_metadata = challenge.resource_metadata.clone();
        self.failed = Some(Failure { at: Instant::now(), error: error.clone(), resource_metadata });
    }

    /// Notes how long the token endpoint asks to wait, if the error says so. Returns whether it does.
    pub(crate) fn note_busy(&mut self, error: &Error) -> bool {
        let Some(after) = error.retry_after() else { return false };
        let until = Instant::now() + after.clamp(SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER);
        self.busy = Some(BusyEndpoint { until, error: error.clone() });
        true
    }

    /// Returns for how long the token endpoint must not be asked yet, and what it answered.
    pub(crate) fn busy(&self) -> Option<(Duration, Error)> {
        let busy = self.busy.as_ref()?;
        let left = busy.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (left, busy.error.clone()))
    }

    /// Returns the failure of the same attempt a moment ago, if it failed before a user was asked.
    pub(crate) fn recent_failure(&self, challenge: &Challenge) -> Option<Error> {
        let stands_for = |failed: &Failure| failed.error.stands_for().unwrap_or_default().max(SHARED_FAILURE);
        let failed = self.failed.as_ref().filter(|failed| failed.at.elapsed() < stands_for(failed))?;
        let is_same = failed.error.is_of_preparation() && failed.resource_metadata == challenge.resource_metadata;
        is_same.then(|| failed.error.clone())
    }

    /// Whether a sign-in came to nothing a short while ago.
    pub(crate) fn has_just_failed(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.at.elapsed() < SECOND_THOUGHT)
    }
}

impl TokenRenewal {
    /// Notes that a renewal is to be started. Returns whether there was one already that has not begun.
    pub(crate) fn schedule(&mut self) -> bool {
        matches!(std::mem::replace(self, Self::Scheduled), Self::Scheduled)
    }

    /// Notes that a renewal has begun: who comes from here on waits for it.
    pub(crate) fn begin(&mut self) {
        if matches!(self, Self::Scheduled) {
            *self = Self::Idle;
        }
    }

    pub(crate) fn fail(&mut self) {
        *self = Self::Failed(Instant::now());
    }

    /// Whether the last one failed a moment ago.
    pub(crate) fn has_just_failed(&self) -> bool {
        matches!(self, Self::Failed(at) if at.elapsed() < REFRESH_PAUSE)
    }
}

impl StepUps {
    /// Checks that another one may lead somewhere.
    ///
    /// # Errors
    /// [`Error::ScopeRefused`].
    pub(crate) fn check(&mut self, required: &[String]) -> Result<(), Error> {
        if self.last.is_some_and(|last| last.elapsed() > SECOND_THOUGHT) {
            self.count = 0; // a person may think again
        }
        let requested = !required.is_empty() && required.iter().all(|scope| self.has_asked(scope));
        let is_repeated = required.is_empty() && self.count > 0;
        if requested || is_repeated || self.count >= MOST_STEP_UPS {
            return Err(Error::ScopeRefused { scopes: required.join(" "), requested });
        }
        Ok(())
    }

    /// Returns whether a person was asked for a scope in this process.
    pub(crate) fn has_asked(&self, scope: &String) -> bool {
        self.asked.contains(scope)
    }

    /// Notes that there is no other scope to ask for with this credential.
    pub(crate) fn note_no_more(&mut self, used: Arc<Credential>, error: Error) {
        self.no_more = Some((used, error));
    }

    /// Returns why a step-up without a scope leads nowhere, if that was found out for this credential.
    pub(crate) fn no_more(&self, used: &Credential) -> Option<Error> {
        self.no_more.as_ref().filter(|(known, _)| known.is(used)).map(|(_, error)| error.clone())
    }

    pub(crate) fn note_step_up(&mut self) {
        self.count += 1;
        self.last = Some(Instant::now());
    }

    /// Notes which scopes were asked for.
    pub(crate) fn note_asked(&mut self, scopes: &[String]) {
        scopes.clone_into(&mut self.asked);
    }

    /// Notes that a request went through.
    pub(crate) fn note_success(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::oauth::error::Step;

    const MOMENT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn step_ups_pause_for_ten_minutes_after_two() {
        let scope = |name: &str| [name.to_owned()];
        let mut step_ups = StepUps::default();
        for name in ["a", "b"] {
            assert!(step_ups.check(&scope(name)).is_ok());
            step_ups.note_step_up();
            step_ups.note_asked(&scope(name));
        }
        let refused = |step_ups: &mut StepUps, required: &[String]| step_ups.check(required).unwrap_err().to_string();
        let often = "the server requires the scope \"c\" after mcp-remote has requested more scopes several times";
        assert_eq!(refused(&mut step_ups, &scope("c")), often);
        advance(SECOND_THOUGHT).await;
        assert_eq!(refused(&mut step_ups, &scope("c")), often);
        advance(MOMENT).await;
        assert!(step_ups.check(&scope("c")).is_ok());
        let before = "the server requires the scope \"b\", which mcp-remote has already requested";
        assert_eq!(refused(&mut step_ups, &scope("b")), before, "however long ago");
        step_ups.note_step_up();
        let unnamed = "the server requires more scopes again, which it does not name, after mcp-remote requested more";
        assert_eq!(refused(&mut step_ups, &[]), unnamed);
        step_ups.note_success();
        assert!(step_ups.check(&[]).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn renewal_pauses_after_a_failure() {
        let mut renewal = TokenRenewal::default();
        assert!(!renewal.schedule() && renewal.schedule());
        renewal.begin();
        assert!(!renewal.schedule());
        renewal.fail();
        renewal.begin();
        assert!(renewal.has_just_failed(), "one that begins later does not undo it");
        advance(REFRESH_PAUSE).await;
        assert!(!renewal.has_just_failed());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_obeyed_up_to_five_minutes() {
        let busy = |after| Error::Busy { step: Step::Refresh, what: "HTTP 503".to_owned(), after };
        let mut held = Held::default();
        assert!(!held.note_busy(&busy(None)) && held.busy().is_none());
        for (seconds, expected) in [(0, 1), (7, 7), (3600, 300)] {
            assert!(held.note_busy(&busy(Some(Duration::from_secs(seconds)))));
            let (left, error) = held.busy().unwrap();
            assert_eq!((left.as_secs(), error.retry_after()), (expected, Some(Duration::from_secs(seconds))));
        }
        advance(LONGEST_RETRY_AFTER).await;
        assert!(held.busy().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_sign_in_is_remembered_for_ten_minutes() {
        let mut held = Held::default();
        assert!(!held.has_just_failed());
        held.note_failure(&Error::Local(String::new()), &Challenge::default());
        advance(SECOND_THOUGHT - MOMENT).await;
        assert!(held.has_just_failed());
        advance(MOMENT).await;
        assert!(!held.has_just_failed());
    }
}
