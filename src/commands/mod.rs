//! The commands for people: `login`, `logout`, `status`, `finish`, [`bundle`]; [`install`] and its relatives; and
//! `mcp-remote-client`, which is [`diagnosis`] on the crate's own [`client`].
//!
//! # Invariants
//!
//! - A command shows nothing secret.

pub(crate) mod bundle;
mod client;
pub(crate) mod diagnosis;
pub(crate) mod finish;
pub(crate) mod install;
pub(crate) mod login;
pub(crate) mod logout;
mod redactor;
pub(crate) mod status;

use crate::report::Code;

/// Returns a failure for a terminal: the tip and the details have lines of their own.
fn in_lines(sentence: &str, code: Code, hint: Option<&str>) -> String {
    let tip = hint.map(|hint| format!("\nTip: {hint}")).unwrap_or_default();
    format!("{sentence}{tip}\nDetails: mcp-remote explain {code}")
}
