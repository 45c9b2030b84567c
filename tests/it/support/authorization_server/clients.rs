//! Who asks: dynamic registration (RFC 7591) and client authentication (RFC 6749 §2.3, RFC 7523 §2.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Form, State, proof, refusal};
use crate::support::server::{Reply, Request};

/// A client the authorization server knows.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    /// `token_endpoint_auth_method`.
    pub method: String,
    /// Redirect URIs; none allows any.
    pub redirect_uris: Vec<String>,
    /// Scopes it may ask for, if they are fixed.
    pub scope: Option<String>,
    /// Grants it is registered for; none allows any.
    pub grants: Vec<String>,
    /// Public key of its assertions: a point on P-256, uncompressed.
    pub key: Option<Vec<u8>>,
}

impl Client {
    /// A client without a secret.
    pub fn public(id: &str) -> Self {
        Self { id: id.into(), method: "none".into(), ..Self::default() }
    }

    /// A client with a secret.
    pub fn confidential(id: &str, secret: &str, method: &str) -> Self {
        Self { id: id.into(), secret: Some(secret.into()), method: method.into(), ..Self::default() }
    }

    /// Whether it may use a grant.
    pub(super) fn may(&self, grant: &str) -> bool {
        self.grants.is_empty() || self.grants.iter().any(|registered| registered == grant)
    }

    /// Whether the redirect URI is registered, byte for byte (RFC 9700 §2.1).
    pub(super) fn redirects_to(&self, uri: &str) -> bool {
        self.redirect_uris.is_empty() || self.redirect_uris.iter().any(|registered| registered == uri)
    }
}

impl State {
    /// RFC 7591 §3.
    pub(super) fn register(&mut self, request: &Request) -> Reply {
        self.counts.registrations += 1;
        let body = request.json();
        if let Some(wrong) = self.wrong_registration(request, &body) {
            return self.problem(format!("registration: {wrong}: {body}"));
        }
        let method = self.settings.client_method.clone();
        let id = self.fresh("client");
        let secret = method.starts_with("client_secret").then(|| self.fresh_secret("client+secret%"));
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let list = |name: &str| {
            let members = body[name].as_array().into_iter().flatten();
            members.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        self.clients.insert(
            id.clone(),
            Client {
                id: id.clone(),
                secret: secret.clone(),
                method: method.clone(),
                redirect_uris: list("redirect_uris"),
                scope: text("scope"),
                grants: list("grant_types"),
                key: None,
            },
        );
        let mut answer = body;
        answer["client_id"] = json!(id);
        answer["token_endpoint_auth_method"] = json!(method);
        if let Some(secret) = secret {
            answer["client_secret"] = json!(secret);
            answer["client_secret_expires_at"] = json!(0);
        }
        (self.settings.edit_registration)(&mut answer, &self.at);
        Reply::status(201, "application/json", answer)
    }

    /// What no registration of ours may lack.
    fn wrong_registration(&self, request: &Request, body: &Value) -> Option<&'static str> {
        let has = |name: &str, value: &str| body[name].as_array().is_some_and(|all| all.contains(&json!(value)));
        let loopback = |uri: &Value| {
            let uri = uri.as_str().unwrap_or_default();
            ["http://localhost:", "http://127.0.0.1:", "http://[::1]:"].iter().any(|start| uri.starts_with(start))
        };
        let with_browser = has("grant_types", "authorization_code");
        if request.header("content-type") != Some("application/json") {
            Some("not sent as JSON (RFC 7591 §3.1)")
        } else if body["application_type"] != "native" {
            Some("application_type is not native (MCP 2026-07-28, Client Registration)")
        } else if !body["token_endpoint_auth_method"].is_string() {
            Some("no token_endpoint_auth_method, which would mean client_secret_basic (RFC 7591 §2)")
        } else if !has("grant_types", "refresh_token") {
            Some("grant_types without refresh_token (MCP SEP-2207)")
        } else if with_browser && !has("response_types", "code") {
            Some("response_types without code (RFC 7591 §2.1)")
        } else if with_browser
            && !body["redirect_uris"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(loopback))
        {
            Some("redirect_uris are not loopback (RFC 8252 §7.3)")
        } else if body["client_name"].as_str().is_none_or(str::is_empty) {
            Some("no client_name for the consent page (RFC 7591 §2)")
        } else {
            None
        }
    }

    /// The client behind a form, if it authenticates exactly as it has to.
    pub(super) fn client(&mut self, request: &Request, form: &Form) -> Result<Client, Reply> {
        let basic = request.header("authorization").and_then(|header| header.strip_prefix("Basic ")).map(str::to_owned);
        let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
        if [basic.is_some(), secret.is_some(), assertion.is_some()].iter().filter(|used| **used).count() > 1 {
            return Err(self.problem("more than one way of client authentication (RFC 6749 §2.3)"));
        }
        let (method, id, shown) = match (&basic, assertion) {
            (Some(basic), _) => {
                match decode_basic(basic) {
                    Some((id, secret)) => ("client_secret_basic", id, Some(secret)),
                    // What may be tried after a refusal.
                    None if self.refused => return Err(refusal(401, "invalid_client", "not form-encoded")),
                    None => {
                        return Err(self.problem("Basic credentials are not form-encoded (RFC 6749 §2.3.1)"));
                    }
                }
            }
            (_, Some(assertion)) => {
                let id = proof::claims(assertion)["sub"].as_str().unwrap_or_default().to_owned();
                ("private_key_jwt", id, None)
            }
            _ if secret.is_some() => {
                ("client_secret_post", form.get("client_id").unwrap_or_default().into(), secret.map(Into::into))
            }
            _ => ("none", form.get("client_id").unwrap_or_default().into(), None),
        };
        let Some(client) = self.clients.get(&id).cloned() else {
            self.refused = true;
            return Err(refusal(401, "invalid_client", "there is no such client"));
        };
        if client.method != method {
            let expected = &client.method;
            return Err(self.problem(format!("{id} authenticates by {method}, was registered for {expected}")));
        }
        if client.secret != shown {
            return Err(refusal(401, "invalid_client", "the secret is wrong"));
        }
        if let (Some(key), Some(assertion)) = (&client.key, assertion) {
            self.check_assertion(&id, key, assertion, form).map_err(|wrong| self.problem(wrong))?;
        }
        Ok(client)
    }

    /// RFC 7523 §3; the audience is the issuer (draft-ietf-oauth-rfc7523bis, MCP's conformance suite).
    fn check_assertion(&mut self, id: &str, key: &[u8], assertion: &str, form: &Form) -> Result<(), String> {
        let claims = proof::claims(assertion);
        self.secrets.insert(assertion.to_owned());
        let checks = [
            (proof::is_signed_by(assertion, key), "not signed by the client"),
            (proof::header(assertion)["alg"] == "ES256", "alg is not in the list of the server"),
            (claims["iss"] == id && claims["sub"] == id, "iss and sub are not the client"),
            (claims["aud"] == self.issuer() || claims["aud"] == json!([self.issuer()]), "aud is not the issuer"),
            (claims["exp"].as_u64().is_some_and(|time| time > proof::now()), "exp is missing or past"),
            (
                claims["jti"].as_str().is_some_and(|jti| self.seen.insert(jti.to_owned())),
                "jti is missing or seen before",
            ),
            (
                form.get("client_assertion_type") == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                "client_assertion_type is not jwt-bearer",
            ),
        ];
        match checks.iter().find(|(right, _)| !right) {
            Some((_, wrong)) => Err(format!("client assertion: {wrong}: {claims}")),
            None => Ok(()),
        }
    }
}

/// Name and password, which RFC 6749 §2.3.1 wants form-encoded first.
fn decode_basic(text: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        // What is not escaped cannot have come out of a form encoder.
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*+%".contains(&byte));
        plain.then(|| Form::parse(&format!("v={text}")).0.get("v").map(str::to_owned))?
    };
    Some((decoded(id)?, decoded(secret)?))
}
