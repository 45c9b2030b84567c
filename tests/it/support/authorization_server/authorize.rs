//! The authorize page (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1, RFC 9207): consents at once, or
//! answers as the test dictates.

use super::{Form, State, covers};
use crate::support::{
    browser::USER_AGENT,
    server::{Reply, Request},
};

/// The `iss` of the redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Iss {
    Right,
    Missing,
    Is(String),
}

/// A code and what it was given for.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) scope: String,
    pub(super) resource: Option<String>,
}

/// Whether a browser asks; the program itself may take a look first.
pub(super) fn by_browser(request: &Request) -> bool {
    request.header("user-agent") == Some(USER_AGENT)
}

impl State {
    pub(super) fn authorize(&mut self, request: &Request) -> Reply {
        if by_browser(request) {
            self.counts.tabs += 1;
        } else {
            self.counts.looks += 1;
        }
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let (form, twice) = Form::parse(query);
        if let Some(name) = twice {
            return self.problem(format!("{name} twice on the authorize page (RFC 6749 §3.1)"));
        }
        let get = |name: &str| form.get(name).unwrap_or_default();
        let (uri, state, challenge) = (get("redirect_uri"), get("state"), get("code_challenge"));
        // RFC 6749 §4.1.2.1: without a known client and redirect URI the page itself says no.
        let known = self.clients.get(get("client_id")).filter(|client| client.may("authorization_code"));
        let Some(client) = known.cloned() else {
            return Reply::status(400, "text/html", "<title>Unknown client</title>");
        };
        if !client.redirects_to(uri) {
            if by_browser(request) {
                return self.problem(format!("redirect_uri {uri} is not one of {:?}", client.redirect_uris));
            }
            return Reply::status(400, "text/html", "<title>Redirect URI is not registered</title>");
        }
        let expected = self.expected_resource();
        let checks = [
            (get("response_type") == "code", "response_type is not code"),
            (get("code_challenge_method") == "S256" && challenge.len() == 43, "no PKCE with S256 (RFC 7636 §4.3)"),
            (state.len() >= 16, "a state that can be guessed"),
            (form.get("resource") == expected.as_deref(), "resource is not the published one"),
            (form.get("scope") != Some(""), "an empty scope"),
            (form.get("client_secret").is_none(), "a secret in a URL"),
        ];
        if let Some((_, wrong)) = checks.iter().find(|(right, _)| !right) {
            return self.problem(format!("authorize: {wrong}: {query} (resource: {expected:?})"));
        }
        let scope = get("scope");
        let too_much = self.settings.fixed_scopes && !covers(client.scope.as_deref().unwrap_or_default(), scope);
        let answer = match &self.settings.denies {
            Some((error, description)) => vec![("error", error.clone()), ("error_description", description.clone())],
            None if too_much => {
                let description = "requested scope is not allowed".to_owned();
                vec![("error", "invalid_scope".to_owned()), ("error_description", description)]
            }
            None => {
                let code = self.fresh_secret("code");
                let (redirect_uri, challenge, scope) = (uri.to_owned(), challenge.to_owned(), scope.to_owned());
                self.codes.insert(
                    code.clone(),
                    Code { client: client.id, redirect_uri, challenge, scope, resource: expected },
                );
                vec![("code", code)]
            }
        };
        let mut redirect = reqwest::Url::parse(uri).expect("a redirect URI");
        redirect.query_pairs_mut().extend_pairs(answer).append_pair("state", state);
        match &self.settings.iss {
            Iss::Right => _ = redirect.query_pairs_mut().append_pair("iss", &self.issuer()),
            Iss::Is(iss) => _ = redirect.query_pairs_mut().append_pair("iss", iss),
            Iss::Missing => {}
        }
        Reply::empty(302).with("location", redirect.as_str())
    }
}
