//! Formats of the files that authorization keeps in [`crate::store`]: npm's, and ours beside them.

pub mod provenance;
pub mod remedies;
pub mod sign_in;
pub mod tokens;
