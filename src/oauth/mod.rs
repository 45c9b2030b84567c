//! Authorization (MCP 2025-03-26 to 2026-07-28, Authorization): a challenge goes in, a credential comes out, or the
//! reason why there is none.
//!
//! From the top down: [`authorizer`] (one flight per process, who waits how long; on a thread of its own, [`executor`]) → [`flow`] (from a challenge to a
//! credential) → [`grants`] → [`client`] (client registration), [`providers`] (known quirks) → [`attempt`], [`context`] (what
//! all steps share) → [`person`] (browser, page, redirect) → [`held`] (the credential in use) → [`stored`] (file formats)
//! → [`protocol`] (RFCs only: no store, no settings) → [`http`] (the guarded client). A module uses only modules that are
//! declared below it.
//!
//! # Invariants
//!
//! - No browser opens where the user has given a credential.
//! - What was refused is not asked for twice.
//! - No request is held longer than its host waits.

mod authorizer;

mod executor;

mod report;

mod flow;

pub(crate) mod grants;

mod client;

pub(crate) mod providers;

mod attempt;

mod context;

pub(crate) mod person;

mod held;

pub(crate) mod fact;
mod progress;

pub(crate) mod credential;

pub(crate) mod stored;

pub(crate) mod protocol;

pub(crate) mod http;

pub(crate) mod error;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    authorizer::{Authorizer, Deadline, Requester},
    credential::Credential,
    executor::Executor,
    progress::{AskedBy, Asking, Need},
    report::page_host,
};
