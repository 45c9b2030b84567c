//! Hosts of the modern era, which ask `server/discover` first, and go on without it after 2.5 s (Claude Code), 3.6 s
//! (OpenAI Agents) or 9 s (Copilot, the Python SDK).
//!
//! # Invariants
//!
//! - The `server/discover` that begins a connection is never held: where the server cannot answer, it is answered from the
//!   kept description, or refused so that the host goes on with `initialize`, which can be held. With `--start wait` it
//!   waits for the server and for the user, as `initialize` does.

use std::time::Duration;

use log::info;
use serde_json::{Map, Value};

use super::{Reminder, context::Context, hold::Holding};
use crate::{
    config::Start,
    known_hosts,
    mcp::method,
    message::{Id, Message, Shape},
    remote::error::Error,
    report::Report,
    text,
};

/// How long `server/discover` may wait for the server: the most impatient host goes on after 2.5 s.
const DISCOVER_PATIENCE: Duration = Duration::from_secs(2);
/// The same with `--start wait`: a slow server with the discovery of its authorization answers within this time, and a
/// server that leaves unknown methods unanswered costs no more.
const LONG_DISCOVER_PATIENCE: Duration = Duration::from_secs(10);

/// What became of the `server/discover` that began the connection.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discover {
    /// It waits, or is answered as the server would.
    Kept,
    /// It is refused: the next message decides the era again.
    Refused,
}

/// A modern connection begins with this message. Nothing is left to do where it is refused: the connection is open in a
/// moment.
pub(super) fn begin(first: &Message, cx: &mut Context, hold: Option<&Holding>) {
    if let Shape::Request { id, method } = &first.shape
        && &**method == method::DISCOVER
    {
        cx.host.begins_with_discover(id);
        if waits(cx) {
            return cx.remind(LONG_DISCOVER_PATIENCE, Reminder::Discover);
        }
        cx.remind(DISCOVER_PATIENCE, Reminder::Discover);
        _ = on_sign_in(cx, hold);
    }
}

/// Refuses `server/discover` while a person has to sign in, if the host is known to continue with `initialize`. Any
/// other host may still get the server's answer in time. Returns `None` if `server/discover` is not what waits.
pub(super) fn on_sign_in(cx: &mut Context, hold: Option<&Holding>) -> Option<Discover> {
    cx.host.first_discover()?;
    let falls_back = hold.is_some_and(|hold| known_hosts::falls_back(hold.host()));
    let is_due = cx.person.is_signing_in() && (falls_back || knows_discover(cx));
    Some(if is_due { on_due(cx) } else { Discover::Kept })
}

/// The `server/discover` that began the connection can wait no longer.
pub(super) fn on_due(cx: &mut Context) -> Discover {
    let Some(id) = cx.host.first_discover() else { return Discover::Kept };
    if waits(cx) && cx.person.is_signing_in() {
        cx.remind(LONG_DISCOVER_PATIENCE, Reminder::Discover);
        return Discover::Kept;
    }
    if !waits(cx)
        && let Some(result) = cx.descriptions.load().and_then(|known| known.discover)
    {
        info!("answering server/discover with the server's last known description");
        cx.host.answer(&id, &expired(result.get()));
        return Discover::Kept;
    }
    let why = if cx.person.is_signing_in() {
        cx.sign_in_needed().sentence
    } else {
        format!("{} has not answered yet", text::host(&cx.settings.server))
    };
    refuse(&id, &format!("cannot answer server/discover: {why}"), cx)
}

/// The server does not speak a modern version, or cannot be reached: a host that has asked goes on with
/// `initialize`, which can be held. Returns `None` if `server/discover` is not what was lost.
pub(super) fn on_lost(ids: &[Id], error: &Error, cx: &mut Context) -> Option<Discover> {
    let id = cx.host.first_discover().filter(|id| ids == [id.clone()])?;
    let is_legacy = matches!(error, Error::LegacyServer { .. });
    if !is_legacy && waits(cx) {
        return None; // the host waits for the reason, not for a placeholder
    }
    if !is_legacy && knows_discover(cx) {
        return Some(on_due(cx));
    }
    Some(refuse(&id, &Report::of_remote(error, &cx.settings.server).sentence, cx))
}

/// With a code outside those of MCP 2026-07-28, after which hosts would not go on with `initialize` (stdio,
/// Backward Compatibility).
pub(super) fn refuse(id: &Id, why: &str, cx: &mut Context) -> Discover {
    info!("{why}; the host can continue with initialize");
    cx.host.fail_method(id, why);
    Discover::Refused
}

/// Whether the host's first request waits for as long as the user allows.
fn waits(cx: &Context) -> bool {
    cx.settings.limits.start == Start::Wait
}

fn knows_discover(cx: &mut Context) -> bool {
    cx.descriptions.load().is_some_and(|known| known.discover.is_some())
}

/// Returns a kept result, which is good for this moment only (MCP 2026-07-28, Caching).
fn expired(result: &str) -> String {
    match serde_json::from_str::<Map<String, Value>>(result) {
        Ok(mut result) => {
            result.insert("ttlMs".to_owned(), 0.into());
            Value::Object(result).to_string()
        }
        Err(_) => result.to_owned(),
    }
}
