//! Which scopes to ask for (MCP 2025-11-25 and 2026-07-28, Authorization, Scope Selection Strategy and
//! Step-Up Authorization Flow).
//!
//! # Invariants
//!
//! - No scope is made up.
//! - The authorization server's list is not taken for the resource's.

use super::{challenge::Challenge, metadata::Discovered};

/// Asks for a refresh token (OpenID Connect Core §11).
pub(crate) const OFFLINE_ACCESS: &str = "offline_access";

/// Returns the scopes to ask for: the user's, else the challenge's, else all of the resource's, else none. A challenge of
/// a step-up is no exception (Step-Up Authorization Flow: as in the Scope Selection Strategy). `held` is what a step-up
/// must not lose.
pub(crate) fn wanted(
    pinned: Option<&[String]>,
    needs_person: bool,
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
    if let Some(pinned) = pinned {
        add(pinned);
        if !held.is_empty() {
            add(&challenged); // a step-up without the challenge's scopes would lead to the same challenge
        }
        return scopes;
    }
    match &discovered.resource {
        _ if !challenged.is_empty() => add(&challenged),
        Some(resource) => add(&resource.scopes),
        None => {}
    }
    // SEP-2207: only where the authorization server lists it.
    if needs_person && discovered.server.knows_scope(OFFLINE_ACCESS) {
        add(&[OFFLINE_ACCESS.to_owned()]);
    }
    scopes
}

/// Whether the person must be asked again: OpenID Connect Core §11 wants consent for offline access.
pub(crate) fn needs_consent(scopes: &[String]) -> bool {
    scopes.iter().any(|scope| scope == OFFLINE_ACCESS)
}

/// Returns the scopes of a text (RFC 6749 §3.3). GitHub and Slack write commas between them, which may stand inside a
/// scope as well, so they divide only where nothing else does.
pub(crate) fn split(text: Option<&str>) -> Vec<String> {
    let text = text.unwrap_or_default().trim_ascii();
    let divides = if text.contains(|character: char| character.is_ascii_whitespace()) {
        |character: char| character.is_ascii_whitespace()
    } else {
        |character: char| character == ','
    };
    text.split(divides).filter(|scope| !scope.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::protocol::metadata::{AuthorizationServer, Metadata, ProtectedResource};

    fn discovered(resource: &str, server: &str) -> Discovered {
        let resource = ProtectedResource {
            resource: "https://h".to_owned(),
            scopes: split(Some(resource)),
            advertised: None,
            wants_dpop: false,
        };
        let metadata = Metadata { scopes_supported: Some(split(Some(server))), ..Metadata::default() };
        let server = AuthorizationServer { issuer: "https://as".to_owned(), metadata, published: true };
        Discovered { resource: Some(resource), server }
    }

    fn asked(pinned: Option<&str>, challenge: Option<&str>, published: (&str, &str), held: &str) -> String {
        let pinned = pinned.map(|scopes| split(Some(scopes)));
        let challenge = Challenge { scope: challenge.map(ToOwned::to_owned), ..Challenge::default() };
        let discovered = discovered(published.0, published.1);
        wanted(pinned.as_deref(), true, &challenge, &discovered, &split(Some(held))).join(" ")
    }

    #[test]
    fn scopes_follow_user_then_challenge_then_resource() {
        assert_eq!(asked(Some("u"), Some("c"), ("r s", "a"), ""), "u");
        assert_eq!(asked(None, Some("c d"), ("r s", "a"), ""), "c d");
        assert_eq!(asked(None, None, ("r s", "a"), ""), "r s");
        assert_eq!(
            asked(None, None, ("", "a openid"), ""),
            "",
            "the authorization server's list is not the resource's"
        );
    }

    #[test]
    fn commas_divide_scopes_where_nothing_else_does() {
        for (text, expected) in
            [("a b", &["a", "b"][..]), ("a,b", &["a", "b"]), (" a,b c\t", &["a,b", "c"]), ("a,", &["a"]), ("", &[])]
        {
            assert_eq!(split(Some(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn offline_access_is_added_where_listed() {
        assert_eq!(asked(None, Some("c"), ("", "offline_access"), ""), "c offline_access");
        assert_eq!(asked(Some("u"), None, ("", "offline_access"), ""), "u");
    }

    #[test]
    fn step_up_adds_only_the_challenge() {
        assert_eq!(asked(None, Some("b c"), ("r", ""), "a b"), "a b c");
        assert_eq!(asked(Some("u"), Some("c"), ("r", ""), "u"), "u c");
    }

    #[test]
    fn step_up_without_scopes_adds_the_resources() {
        assert_eq!(asked(None, None, ("a r", ""), "a"), "a r");
        assert_eq!(asked(None, None, ("", "b"), "a"), "a", "the authorization server's list is not the resource's");
        assert_eq!(asked(Some("u"), None, ("r", ""), "u"), "u", "the user's choice is not widened by a guess");
    }
}
