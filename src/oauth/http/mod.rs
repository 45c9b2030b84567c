//! The guarded HTTP client of authorization, and which addresses it may go to.

pub(crate) mod address;
pub(crate) mod client;
