//! The commands for people: `login`, `logout`, `status`, `finish`, and `mcp-remote-client`, which is [`diagnosis`] on a
//! [`client`] of our own.
//!
//! # Invariants
//!
//! - A command shows nothing secret.

mod client;
pub(crate) mod diagnosis;
pub(crate) mod finish;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod status;
