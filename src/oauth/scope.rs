//! Which scopes to ask for (MCP 2025-11-25 and 2026-07-28, Authorization, Scope Selection Strategy and
//! Step-Up Authorization Flow).
//!
//! Must never: make up a scope, or take the authorization server's list for the resource's.

use super::{challenge::Challenge, discovery::Discovered};
use crate::config::{Authorization, Grant};

/// Asks for a refresh token (OpenID Connect Core §11).
const OFFLINE_ACCESS: &str = "offline_access";

/// The scopes to ask for: the user's, else the challenge's, else all of the resource's, else none.
/// `held` is what a step-up must not lose.
#[must_use]
pub fn wanted(
    settings: &Authorization,
    challenge: &Challenge,
    discovered: &Discovered,
    held: &[String],
) -> Vec<String> {
    let mut scopes: Vec<String> = held.to_vec();
    let mut add = |more: &[String]| {
        for scope in more {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
    };
    let challenged = split(challenge.scope.as_deref());
    if let Some(pinned) = pinned(settings) {
        add(&pinned);
        if !held.is_empty() {
            add(&challenged); // a step-up without the challenge's scopes would lead to the same challenge
        }
        return scopes;
    }
    match &discovered.resource {
        _ if !challenged.is_empty() => add(&challenged),
        Some(resource) if held.is_empty() => add(&resource.scopes),
        _ => {}
    }
    // SEP-2207: only where the authorization server lists it.
    let with_person = matches!(settings.grant, Grant::AuthorizationCode | Grant::DeviceCode);
    if with_person && discovered.server.knows_scope(OFFLINE_ACCESS) {
        add(&[OFFLINE_ACCESS.to_owned()]);
    }
    scopes
}

/// What the user has written in `--static-oauth-client-metadata`.
fn pinned(settings: &Authorization) -> Option<Vec<String>> {
    let scope = settings.client_metadata.as_ref()?.get("scope")?.as_str()?;
    Some(split(Some(scope)))
}

/// Whether the person must be asked again: OpenID Connect Core §11 wants consent for offline access.
#[must_use]
pub fn needs_consent(scopes: &[String]) -> bool {
    scopes.iter().any(|scope| scope == OFFLINE_ACCESS)
}

/// The scopes of a text (RFC 6749 §3.3).
#[must_use]
pub fn split(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split_ascii_whitespace().map(ToOwned::to_owned).collect()
}
