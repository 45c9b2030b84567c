//! A token, ready to be sent (RFC 6750 §2.1; RFC 9449 §7.1), and whether the server accepted it.
//!
//! # Invariants
//!
//! - A token is not printed.
//! - A token goes nowhere but into the header of a request to the MCP server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Url, header};
use tokio::time::Instant;

use crate::{
    oauth::{error::Error, protocol::dpop::Prover, stored::tokens::Tokens},
    secret::Secret,
};

/// A token this young that the server has never taken will not be helped by another of its kind.
const FRESH: Duration = Duration::from_secs(60);

/// A token, ready to be sent.
#[derive(Debug)]
pub(crate) struct Credential {
    tokens: Tokens,
    token: Secret<String>,
    account: String,
    prover: Option<Arc<Prover>>,
    obtained: Obtained,
    since: Instant,
    /// Whether the server has ever taken it.
    accepted: AtomicBool,
}

/// How a credential was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obtained {
    /// From disk: of an earlier run, or of another instance.
    Stored,
    /// By a refresh, or by a grant without a person.
    Refreshed,
    /// By a person.
    SignedIn,
}

impl Credential {
    pub(crate) fn new(
        tokens: Tokens,
        token: Secret<String>,
        account: String,
        prover: Option<Arc<Prover>>,
        obtained: Obtained,
    ) -> Self {
        Self { tokens, token, account, prover, obtained, since: Instant::now(), accepted: AtomicBool::new(false) }
    }

    /// Puts the token, and a proof where it needs one, on a request (RFC 6750 §2.1, RFC 9449 §7.1).
    ///
    /// # Errors
    /// [`Error::Local`] for a token that no header can hold, or a key that does not sign.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, method: &Method, url: &Url) -> Result<(), Error> {
        let scheme = if self.prover.is_some() { "DPoP" } else { "Bearer" };
        let mut value = HeaderValue::from_str(&format!("{scheme} {}", self.token.expose()))
            .map_err(|_| Error::Local("the access token has a character that is not allowed in a header".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        if let Some(prover) = &self.prover {
            headers.insert("dpop", prover.proof(method, url, Some(self.token.expose()), SystemTime::now())?);
        }
        Ok(())
    }

    /// Keeps the nonce of a response (RFC 9449 §8.2); whether it is a new one.
    pub(crate) fn keep_nonce(&self, url: &Url, headers: &HeaderMap) -> bool {
        self.prover.as_ref().is_some_and(|prover| prover.keep_nonce(url, headers))
    }

    /// The server has taken it: a refusal that follows is about something new.
    pub(crate) fn note_accepted(&self) {
        self.accepted.store(true, Relaxed);
    }

    /// How it came, if the server has refused it from the first.
    pub(crate) fn refused_when_new(&self, now: SystemTime) -> Option<Obtained> {
        let is_new = !self.accepted.load(Relaxed) && self.since.elapsed() < FRESH && !self.tokens.has_expired(now);
        is_new.then_some(self.obtained)
    }

    /// Whether it may have died in use. Another one would be refused like one that was just obtained.
    pub(crate) fn may_have_died(&self) -> bool {
        self.obtained == Obtained::Stored || self.is_older_than(FRESH)
    }

    /// Whether it comes from disk and the server has not taken it yet: it may have died since it was stored.
    pub(crate) fn is_untried(&self) -> bool {
        self.obtained == Obtained::Stored && !self.accepted.load(Relaxed)
    }

    /// Since when this process has it.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it has been in use for this long.
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        self.since.elapsed() >= age
    }

    /// Returns how it was obtained.
    pub(crate) fn obtained(&self) -> Obtained {
        self.obtained
    }

    /// Whose it is: the name of the sign-in that it came from.
    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// Returns what is sent: the access token, or the ID token in its place.
    pub(crate) fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// The tokens it is made of.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.prover.is_some()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.token == other.token
    }
}
