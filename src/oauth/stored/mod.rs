//! Formats of the files that authorization keeps in [`crate::store`]: npm's, and ours beside them.

pub(crate) mod provenance;
pub(crate) mod registrations;
pub(crate) mod remedies;
pub(crate) mod sign_in;
pub(crate) mod tokens;
