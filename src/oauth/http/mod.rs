//! The guarded HTTP client of authorization, and which addresses it may go to.

pub mod address;
pub mod client;
