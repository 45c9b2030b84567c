//! OAuth 2 as its documents have it, one file each.
//!
//! # Invariants
//!
//! - Nothing here knows a store, a setting of the program, or who looks on.

pub(crate) mod authorization_code;
pub(crate) mod challenge;
pub(crate) mod client_assertion;
pub(crate) mod client_auth;
pub(crate) mod discovery;
pub(crate) mod dpop;
pub(crate) mod form;
pub(crate) mod issuer;
pub(crate) mod jws;
pub(crate) mod members;
pub(crate) mod metadata;
pub(crate) mod mix_up;
pub(crate) mod registration;
pub(crate) mod rmcp;
pub(crate) mod scope;
pub(crate) mod token_endpoint;
mod well_known;
