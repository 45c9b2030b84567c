//! OAuth 2 as its documents have it, one file each.
//!
//! # Invariants
//!
//! - Nothing here knows a store, a setting of the program, or who looks on.

pub mod challenge;
pub mod client_assertion;
pub mod discovery;
pub mod dpop;
pub mod jws;
pub mod scope;
pub mod token_endpoint;
