//! Authorization (MCP 2025-03-26 to 2026-07-28, Authorization): a challenge goes in, a credential comes out, or the
//! reason why there is none.
//!
//! In reading order: [`authorizer`] (one flight per process, who waits how long) (the walk from a challenge
//! to a credential) → [`grants`] → [`client`] (who we are), [`person`] (browser, page, redirect), [`providers`] (known
//! quirks) → [`stored`] (file formats) → [`protocol`] (RFCs only: no store, no settings) → [`http`] (the guarded client).
//! A file imports from below only.
//!
//! # Invariants
//!
//! - No browser opens where the user has given a credential.
//! - What was refused is not asked for twice.
//! - No request is held longer than its host waits.

pub mod authorizer;
pub mod context;
pub mod progress;

pub mod grants;

pub mod client;
pub mod person;
pub mod providers;

pub mod stored;

pub mod protocol;

pub mod http;

pub mod credential;
pub mod error;
mod report;

pub use self::{
    authorizer::{Authorizer, Deadline, Requester},
    credential::Credential,
    progress::{AskedBy, Asking, Need},
};
