//! Authorization (MCP 2025-03-26 to 2026-07-28, Authorization): a challenge goes in, a credential comes out, or the
//! reason why there is none.
//!
//! In reading order: [`authorizer`] (one flight per process, who waits how long) → [`flow`] (the walk from a challenge
//! to a credential) → [`grants`] → [`client`] (client registration), [`person`] (browser, page, redirect),
//! [`providers`] (known quirks) → [`stored`] (file formats) → [`protocol`] (RFCs only: no store, no settings) →
//! [`http`] (the guarded client). A file imports from below only.
//!
//! # Invariants
//!
//! - No browser opens where the user has given a credential.
//! - What was refused is not asked for twice.
//! - No request is held longer than its host waits.

mod authorizer;
mod flow;

mod attempt;
mod context;
mod held;
mod progress;

pub(crate) mod grants;

mod client;
pub(crate) mod person;
pub(crate) mod providers;

pub(crate) mod stored;

pub(crate) mod protocol;

pub(crate) mod http;

pub(crate) mod credential;
pub(crate) mod error;
pub(crate) mod fact;
mod report;
#[cfg(test)]
mod tests;

pub(crate) use self::credential::Credential;
pub(crate) use self::{
    authorizer::{Authorizer, Deadline, Requester},
    progress::{AskedBy, Asking, Need},
};
