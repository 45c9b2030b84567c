//! A client at an authorization server, and how it authenticates (RFC 6749 §2.3; RFC 7591 §2,
//! `token_endpoint_auth_method`; RFC 7523 §2.2).
//!
//! # Invariants
//!
//! - A client whose method is `none` sends no secret.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue};
use reqwest::header;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    client_assertion::client_assertion, form, form::Form, jws::SigningKey, metadata::AuthorizationServer, scope,
};
use crate::{oauth::error::Error, secret::Secret};

/// Member that this program adds to a registration: the scopes that were asked for.
pub(crate) const REQUESTED_SCOPE: &str = "requested_scope";
/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How a client proves who it is (RFC 7591 §2, `token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AuthMethod {
    /// Not at all: a public client.
    #[serde(rename = "none")]
    None,
    /// RFC 6749 §2.3.1, in a header.
    #[serde(rename = "client_secret_basic")]
    Basic,
    /// The same with id and secret as they stand, which some servers compare without decoding them.
    #[serde(rename = "client_secret_basic_unencoded")]
    BasicUnencoded,
    /// RFC 6749 §2.3.1, in the body.
    #[serde(rename = "client_secret_post")]
    Post,
    /// RFC 7523 §2.2: a signed assertion.
    #[serde(rename = "private_key_jwt")]
    PrivateKeyJwt,
}

impl AuthMethod {
    const ALL: [Self; 4] = [Self::None, Self::Basic, Self::Post, Self::PrivateKeyJwt];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == text)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic | Self::BasicUnencoded => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Returns its name for people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::BasicUnencoded => "client_secret_basic without form encoding",
            _ => self.name(),
        }
    }

    /// Whether the server lists it, or lists nothing.
    fn may_be_known(self, server: &AuthorizationServer) -> bool {
        let list = server.metadata.token_endpoint_auth_methods_supported.as_deref();
        list.is_none_or(|list| list.iter().any(|name| name == self.name()))
    }

    /// Returns the first of `preferred` that the server lists; `None` if it lists none of them, or nothing.
    pub(crate) fn listed(server: &AuthorizationServer, preferred: [Self; 3]) -> Option<Self> {
        let list = server.metadata.token_endpoint_auth_methods_supported.as_deref()?;
        preferred.into_iter().find(|method| list.iter().any(|name| name == method.name()))
    }

    /// Returns the method of a client whose registration names none: the best that the server lists; without a list
    /// Basic, which RFC 8414 §2 takes for granted.
    pub(crate) fn offered(server: &AuthorizationServer, has_secret: bool) -> Self {
        if !has_secret {
            return Self::None;
        }
        Self::listed(server, [Self::Basic, Self::Post, Self::None]).unwrap_or(Self::Basic)
    }
}

/// Where a client comes from, which decides what may be done when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The user's settings: only the user can change it.
    Configured,
    /// A document: the same everywhere.
    Document,
    /// Registered earlier, perhaps by another program, perhaps forgotten by the server since.
    Stored,
    /// Registered just now.
    Registered,
}

/// A client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: Option<Secret<String>>,
    /// How it authenticates.
    pub(crate) method: AuthMethod,
    /// Whether the user has named the method, so that no other is tried.
    pub(crate) is_method_fixed: bool,
    pub(crate) origin: Origin,
    /// What it may ask for (RFC 7591 §2, `scope`), if it says: what it was given, and what it was asked
    /// for, because another registration would get no more.
    pub(crate) scopes: Option<Vec<String>>,
}

impl Client {
    /// A public client, about which nothing but its id is known.
    pub(crate) const fn public(id: String, origin: Origin) -> Self {
        Self { id, secret: None, method: AuthMethod::None, is_method_fixed: false, origin, scopes: None }
    }

    /// Reads the members of a registration, or of what the user has written like one.
    pub(crate) fn of(info: &Map<String, Value>, server: &AuthorizationServer, origin: Origin) -> Option<Self> {
        let text = |name: &str| info.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let id = match info.get("client_id")? {
            Value::Number(number) => number.to_string(),
            _ => text("client_id")?.to_owned(),
        };
        let secret = text("client_secret").map(|secret| Secret::new(secret.to_owned()));
        let declared = text("token_endpoint_auth_method").and_then(AuthMethod::parse);
        let method = match declared {
            // Whatever is declared: there is nothing to authenticate with.
            Some(AuthMethod::Basic | AuthMethod::Post) if secret.is_none() => AuthMethod::None,
            Some(declared) => declared,
            None => AuthMethod::offered(server, secret.is_some()),
        };
        let listed = |name| scope::split(text(name));
        let scopes = text("scope").map(|_| [listed("scope"), listed(REQUESTED_SCOPE)].concat());
        let is_method_fixed = origin == Origin::Configured && declared.is_some();
        Some(Self { id, secret, method, is_method_fixed, origin, scopes })
    }

    /// Returns how it may authenticate, the likeliest first: its own method; then what servers take in its place, as far
    /// as `server` does not rule it out.
    pub(crate) fn methods(&self, server: &AuthorizationServer) -> Vec<AuthMethod> {
        let mut methods = vec![self.method];
        let Some(secret) = self.secret.as_ref().filter(|_| self.method != AuthMethod::PrivateKeyJwt) else {
            return methods;
        };
        let is_altered = |text: &str| form::encode_one(text) != text;
        let unencoded = (is_altered(&self.id) || is_altered(secret.expose())).then_some(AuthMethod::BasicUnencoded);
        if self.method == AuthMethod::Basic {
            methods.extend(unencoded);
        }
        if !self.is_method_fixed {
            methods.extend([AuthMethod::Basic].into_iter().chain(unencoded).chain([AuthMethod::Post]));
            // A user who gives a secret means it to be used.
            methods.extend((self.origin != Origin::Configured).then_some(AuthMethod::None));
        }
        let mut seen = Vec::new();
        methods.retain(|method| {
            let is_new = !seen.contains(method);
            seen.push(*method);
            is_new && (*method == self.method || method.may_be_known(server))
        });
        methods
    }

    /// Whether it may ask for these, as far as is known.
    pub(crate) fn may_ask(&self, scopes: &[String]) -> bool {
        self.scopes.as_ref().is_none_or(|known| scopes.iter().all(|scope| known.contains(scope)))
    }

    /// Puts the client's authentication by `method` on a request to the token endpoint of `server`. `key` signs
    /// assertions.
    ///
    /// # Errors
    /// [`Error::Local`] where there is no key, or it cannot sign as the server wants it.
    pub(crate) fn authenticate(
        &self,
        method: AuthMethod,
        server: &AuthorizationServer,
        key: Option<&SigningKey>,
        form: &mut Form,
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        form.retain(|(name, _)| name != "client_id" && name != "client_secret");
        let secret = self.secret.as_ref().map_or("", |secret| secret.expose().as_str());
        match method {
            AuthMethod::None if self.id.is_empty() => {} // an assertion says who we are (RFC 7521 §4.1)
            AuthMethod::None => form.push(("client_id".to_owned(), self.id.clone())),
            AuthMethod::Post => {
                form.push(("client_id".to_owned(), self.id.clone()));
                form.push(("client_secret".to_owned(), secret.to_owned()));
            }
            AuthMethod::Basic | AuthMethod::BasicUnencoded => {
                // RFC 6749 §2.3.1: each is form-encoded first.
                let pair = match method {
                    AuthMethod::Basic => format!("{}:{}", form::encode_one(&self.id), form::encode_one(secret)),
                    _ => format!("{}:{secret}", self.id),
                };
                let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
                let mut value = HeaderValue::from_str(&value)
                    .map_err(|_| Error::Local("the client credentials do not fit into a header".to_owned()))?;
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            AuthMethod::PrivateKeyJwt => {
                let Some(key) = key else {
                    let why = "the client authenticates with private_key_jwt, which needs --client-key-jwt FILE";
                    return Err(Error::Local(why.to_owned()));
                };
                let supported = server.metadata.token_endpoint_auth_signing_alg_values_supported.as_deref();
                // The issuer (MCP extension OAuth Client Credentials); RFC 7523 §3 where no issuer is published.
                let endpoint = server.token_endpoint()?;
                let audience = if server.published { &server.issuer } else { endpoint.as_str() };
                let assertion = client_assertion(key, &self.id, audience, supported, SystemTime::now())?;
                form.push(("client_assertion_type".to_owned(), ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion".to_owned(), assertion.expose().clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(methods: Option<&[&str]>) -> AuthorizationServer {
        let mut server = AuthorizationServer { issuer: "https://as".to_owned(), published: true, ..Default::default() };
        server.metadata.token_endpoint_auth_methods_supported =
            methods.map(|methods| methods.iter().map(ToString::to_string).collect());
        server
    }

    fn client(info: Value, methods: Option<&[&str]>) -> Client {
        Client::of(info.as_object().unwrap(), &server(methods), Origin::Stored).unwrap()
    }

    #[test]
    fn method_follows_registration_then_server_list_then_basic() {
        let with_secret = json!({ "client_id": "c", "client_secret": "s" });
        for (info, methods, expected) in [
            (json!({ "client_id": "c" }), None, AuthMethod::None),
            (json!({ "client_id": "c" }), Some(&["client_secret_basic"][..]), AuthMethod::None),
            (with_secret.clone(), None, AuthMethod::Basic),
            (with_secret.clone(), Some(&["client_secret_post", "none"]), AuthMethod::Post),
            (with_secret.clone(), Some(&["client_secret_post", "client_secret_basic"]), AuthMethod::Basic),
            (with_secret.clone(), Some(&["none"]), AuthMethod::None),
            (with_secret, Some(&["tls_client_auth"]), AuthMethod::Basic),
            (
                json!({ "client_id": "c", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post" }),
                None,
                AuthMethod::Post,
            ),
            (json!({ "client_id": "c", "token_endpoint_auth_method": "unknown" }), None, AuthMethod::None),
            (json!({ "client_id": "c", "token_endpoint_auth_method": "client_secret_basic" }), None, AuthMethod::None),
        ] {
            assert_eq!(client(info.clone(), methods).method, expected, "{info} {methods:?}");
        }
        assert!(Client::of(&Map::new(), &server(None), Origin::Stored).is_none());
    }

    #[test]
    fn remaining_methods_exclude_ruled_out_ones() {
        use AuthMethod::{Basic, BasicUnencoded, None, Post};
        let info = |method: &str, secret: &str| json!({ "client_id": "c", "client_secret": secret, "token_endpoint_auth_method": method });
        for (info, origin, listed, expected) in [
            (info("client_secret_basic", "s"), Origin::Stored, Option::None, &[Basic, Post, None][..]),
            (info("client_secret_basic", "a+/="), Origin::Stored, Option::None, &[Basic, BasicUnencoded, Post, None]),
            (info("client_secret_basic", "s"), Origin::Stored, Some(&["client_secret_basic"][..]), &[Basic]),
            (info("client_secret_post", "s"), Origin::Registered, Option::None, &[Post, Basic, None]),
            (info("client_secret_post", "a+/="), Origin::Configured, Option::None, &[Post]),
            (info("client_secret_basic", "a+/="), Origin::Configured, Option::None, &[Basic, BasicUnencoded]),
            (info("", "s"), Origin::Configured, Option::None, &[Basic, Post]),
            (json!({ "client_id": 7 }), Origin::Registered, Option::None, &[None]),
        ] {
            let server = server(listed);
            let client = Client::of(info.as_object().unwrap(), &server, origin).unwrap();
            assert_eq!(client.methods(&server), expected, "{info} {origin:?} {listed:?}");
        }
    }

    #[test]
    fn authentication_is_in_form_or_header() {
        let sent = |method: &str, secret: &str| {
            let info = json!({ "client_id": "a:b", "client_secret": secret, "token_endpoint_auth_method": method });
            let (mut form, mut headers) = (
                vec![("client_id".to_owned(), "of rmcp".to_owned()), ("code".to_owned(), "1".to_owned())],
                HeaderMap::new(),
            );
            let client = client(info, None);
            client.authenticate(client.method, &server(None), None, &mut form, &mut headers).unwrap();
            let header = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            (form::encode(&form), header)
        };
        assert_eq!(sent("none", "s"), ("code=1&client_id=a%3Ab".to_owned(), None));
        assert_eq!(sent("client_secret_post", "s&"), ("code=1&client_id=a%3Ab&client_secret=s%26".to_owned(), None));
        let pair = BASE64_STANDARD.encode("a%3Ab:s%26");
        assert_eq!(sent("client_secret_basic", "s&"), ("code=1".to_owned(), Some(format!("Basic {pair}"))));
    }

    #[test]
    fn client_may_ask_for_registered_and_requested_scopes() {
        let narrow = client(json!({ "client_id": "c", "scope": "a", "requested_scope": "a b" }), None);
        let open = client(json!({ "client_id": "c" }), None);
        let scopes = |text| scope::split(Some(text));
        assert!(narrow.may_ask(&scopes("a b")) && !narrow.may_ask(&scopes("a c")) && open.may_ask(&scopes("c")));
    }
}
