//! Formats of the files that authorization keeps in [`crate::store`]: those of the npm package, and others beside them.

pub(crate) mod busy;
pub(crate) mod provenance;
pub(crate) mod registrations;
pub(crate) mod remedies;
pub(crate) mod sign_in;
pub(crate) mod tokens;
