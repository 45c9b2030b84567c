//! The token endpoint with every grant, revocation (RFC 7009) and the device endpoint (RFC 8628).

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{Client, Form, Place, State, covers, from_now, proof, refusal};
use crate::support::server::{Reply, Request};

/// What an access token is good for.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) scope: String,
    /// Which sign-in it descends from.
    family: usize,
    expires: Option<Instant>,
    /// Thumbprint of the key it is bound to (RFC 9449 §6).
    pub(super) bound_to: Option<String>,
}

impl Access {
    pub(super) fn is_current(&self) -> bool {
        self.expires.is_none_or(|time| Instant::now() < time)
    }
}

/// What a refresh token is good for.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    client: String,
    scope: String,
    family: usize,
    spent: bool,
    bound_to: Option<String>,
}

/// A device that waits for its person.
#[derive(Clone, Debug)]
pub(super) struct Device {
    client: String,
    scope: String,
    interval: Duration,
    /// When it may ask again.
    not_before: Instant,
}

/// Who a token is for.
struct Grant {
    client: String,
    scope: String,
    family: usize,
    bound_to: Option<String>,
    /// Whether the grant comes with a refresh token where the server gives them.
    refreshable: bool,
}

/// The device grant's interval: short, so that tests are.
const DEVICE_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 8628 §3.5.
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// Timers may be early by this much.
const TOLERANCE: Duration = Duration::from_millis(30);

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

impl State {
    pub(super) fn token(&mut self, request: &Request) -> Reply {
        let (form, twice) = Form::parse(&request.body);
        if let Some(name) = twice {
            return self.problem(format!("{name} twice at the token endpoint (RFC 6749 §3.2)"));
        }
        let grant = form.get("grant_type").unwrap_or_default().to_owned();
        match grant.as_str() {
            "authorization_code" => self.counts.exchanges += 1,
            "refresh_token" => self.counts.refreshes += 1,
            DEVICE_CODE => self.counts.polls += 1,
            _ => self.counts.other_grants += 1,
        }
        if request.header("content-type") != Some("application/x-www-form-urlencoded") {
            return self.problem("the token request is not a form (RFC 6749 §3.2)");
        }
        // RFC 8707 §2.2, MCP 2025-11-25 "Resource Parameter Implementation".
        let expected = self.expected_resource();
        if form.get("resource") != expected.as_deref() {
            let named = form.get("resource");
            return self.problem(format!("{grant} names resource {named:?}, not {expected:?}"));
        }
        let bound_to = if self.settings.dpop {
            let here = self.endpoint("token");
            match self.proof(request, Place::Authorization, &here, None) {
                Ok(thumbprint) => Some(thumbprint),
                Err(reply) => return reply,
            }
        } else {
            None
        };
        let outcome = match grant.as_str() {
            "authorization_code" => self.exchange(request, &form, bound_to),
            "refresh_token" => self.refresh(request, &form, bound_to),
            "client_credentials" => self.client_credentials(request, &form, bound_to),
            DEVICE_CODE => self.poll(request, &form, bound_to),
            JWT_BEARER => self.jwt_bearer(request, &form, bound_to),
            _ => Err(refusal(400, "unsupported_grant_type", &grant)),
        };
        let reply = match outcome {
            Ok(grant) => self.grant(grant),
            Err(reply) => reply,
        };
        if self.settings.nonces {
            return reply.with("dpop-nonce", &self.nonces.next(Place::Authorization));
        }
        reply
    }

    /// RFC 6749 §4.1.3.
    fn exchange(&mut self, request: &Request, form: &Form, bound_to: Option<String>) -> Result<Grant, Reply> {
        let client = self.client(request, form)?;
        let code = form.get("code").unwrap_or_default();
        let verifier = form.get("code_verifier").unwrap_or_default();
        self.secrets.insert(verifier.to_owned());
        let Some(given) = self.codes.remove(code) else {
            return Err(self.problem("a code that was never given, or is spent (RFC 6749 §10.5)"));
        };
        let challenge = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes()));
        let checks = [
            (given.client == client.id, "the code is another client's"),
            (form.get("redirect_uri") == Some(&given.redirect_uri), "redirect_uri is not repeated (RFC 6749 §4.1.3)"),
            (given.challenge == challenge, "the verifier does not match (RFC 7636 §4.6)"),
            ((43..=128).contains(&verifier.len()), "the verifier is too short or too long (RFC 7636 §4.1)"),
            (given.resource.as_deref() == form.get("resource"), "resource is not the authorized one (RFC 8707 §2.2)"),
        ];
        if let Some((_, wrong)) = checks.iter().find(|(right, _)| !right) {
            return Err(self.problem(format!("exchange: {wrong}")));
        }
        self.serial += 1;
        Ok(Grant { client: client.id, scope: given.scope, family: self.serial, bound_to, refreshable: true })
    }

    /// RFC 6749 §6, with rotation and detection of reuse (RFC 9700 §4.14.2).
    fn refresh(&mut self, request: &Request, form: &Form, bound_to: Option<String>) -> Result<Grant, Reply> {
        let client = self.client(request, form)?;
        let token = form.get("refresh_token").unwrap_or_default();
        let rotation = self.settings.rotation;
        let Some(known) = self.refresh.get_mut(token) else {
            return Err(refusal(400, "invalid_grant", "there is no such refresh token"));
        };
        if known.spent {
            let family = known.family;
            self.counts.reuses += 1;
            self.refresh.retain(|_, other| other.family != family);
            self.access.retain(|_, other| other.family != family);
            return Err(refusal(400, "invalid_grant", "the refresh token was used before; everything is revoked"));
        }
        let scope = form.get("scope").unwrap_or(&known.scope).to_owned();
        if known.client != client.id {
            return Err(self.problem("the refresh token is another client's"));
        }
        if !covers(&known.scope, &scope) {
            return Err(self.problem(format!("a refresh asks for more than was granted: {scope} (RFC 6749 §6)")));
        }
        if known.bound_to != bound_to {
            return Err(self.problem("a refresh with another key (RFC 9449 §5)"));
        }
        known.spent = rotation;
        let family = known.family;
        Ok(Grant { client: client.id, scope, family, bound_to, refreshable: rotation })
    }

    /// RFC 6749 §4.4.
    fn client_credentials(&mut self, request: &Request, form: &Form, bound_to: Option<String>) -> Result<Grant, Reply> {
        let client = self.client(request, form)?;
        if client.method == "none" {
            return Err(self.problem("client credentials without credentials (RFC 6749 §4.4)"));
        }
        let scope = form.get("scope").unwrap_or_default().to_owned();
        Ok(Grant { client: client.id, scope, family: 0, bound_to, refreshable: false })
    }

    /// RFC 7523 §2.1. A client that says who it is has to authenticate; a workload need not say.
    fn jwt_bearer(&mut self, request: &Request, form: &Form, bound_to: Option<String>) -> Result<Grant, Reply> {
        let says_who = form.get("client_id").is_some()
            || form.get("client_assertion").is_some()
            || request.header("authorization").is_some();
        let client = if says_who { self.client(request, form)? } else { Client::default() };
        let assertion = form.get("assertion").unwrap_or_default();
        self.secrets.insert(assertion.to_owned());
        if !self.settings.assertions.iter().any(|known| known == assertion) {
            return Err(refusal(400, "invalid_grant", "the assertion is not trusted"));
        }
        let scope = form.get("scope").unwrap_or_default().to_owned();
        Ok(Grant { client: client.id, scope, family: 0, bound_to, refreshable: false })
    }

    /// RFC 8628 §3.1.
    pub(super) fn device(&mut self, request: &Request) -> Reply {
        let form = Form::parse(&request.body).0;
        let client = match self.client(request, &form) {
            Ok(client) if client.may(DEVICE_CODE) => client.id,
            Ok(_) => return refusal(400, "unauthorized_client", "not registered for the device grant"),
            Err(reply) => return reply,
        };
        let code = self.fresh_secret("device");
        let scope = form.get("scope").unwrap_or_default().to_owned();
        // The interval is between two polls (RFC 8628 §3.2); the first may come at once.
        let not_before = Instant::now();
        self.devices.insert(code.clone(), Device { client, scope, interval: DEVICE_INTERVAL, not_before });
        let page = format!("{}/activate", self.at.authorization);
        Reply::json(json!({
            "device_code": code,
            "user_code": "WDJB-MJHT",
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code=WDJB-MJHT"),
            "expires_in": self.settings.device_lifetime,
            "interval": DEVICE_INTERVAL.as_secs(),
        }))
    }

    /// RFC 8628 §3.4 and §3.5.
    fn poll(&mut self, request: &Request, form: &Form, bound_to: Option<String>) -> Result<Grant, Reply> {
        let client = self.client(request, form)?;
        let code = form.get("device_code").unwrap_or_default();
        let scripted = (!self.settings.device_polls.is_empty()).then(|| self.settings.device_polls.remove(0));
        let Some(device) = self.devices.get_mut(code).filter(|device| device.client == client.id) else {
            return Err(self.problem("a device code that was never given, or is spent"));
        };
        if Instant::now() + TOLERANCE < device.not_before {
            return Err(self.problem("a device asks too early (RFC 8628 §3.5)"));
        }
        if scripted == Some("slow_down") {
            device.interval += SLOW_DOWN;
        }
        device.not_before = Instant::now() + device.interval;
        if let Some(error) = scripted {
            return Err(refusal(400, error, "says the test"));
        }
        let scope = device.scope.clone();
        self.devices.remove(code);
        self.serial += 1;
        Ok(Grant { client: client.id, scope, family: self.serial, bound_to, refreshable: true })
    }

    /// The identity provider's token endpoint: an identity token becomes an ID-JAG
    /// (RFC 8693, MCP extension Enterprise-Managed Authorization).
    pub(super) fn identity_provider(&mut self, request: &Request) -> Reply {
        self.counts.other_grants += 1;
        let (form, _) = Form::parse(&request.body);
        let expected = [
            ("grant_type", TOKEN_EXCHANGE.to_owned()),
            ("requested_token_type", ID_JAG.to_owned()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token".to_owned()),
            ("subject_token", self.settings.subject_token.clone()),
            ("audience", self.issuer()),
            ("resource", self.mcp_url()),
        ];
        self.secrets.insert(self.settings.subject_token.clone());
        for (name, value) in &expected {
            if form.get(name) != Some(value) {
                return self.problem(format!("token exchange: {name} is {:?}, not {value:?}", form.get(name)));
            }
        }
        let claims = json!({
            "iss": format!("{}/idp", self.at.authorization), "aud": self.issuer(), "resource": self.mcp_url(),
            "client_id": form.get("client_id"), "sub": "somebody", "jti": self.fresh("jag"), "exp": proof::now() + 300,
        });
        let grant = proof::unsigned(&claims);
        self.secrets.insert(grant.clone());
        self.settings.assertions.push(grant.clone());
        let mut answer =
            json!({"issued_token_type": ID_JAG, "access_token": grant, "token_type": "N_A", "expires_in": 300});
        (self.settings.edit_token)(&mut answer, &self.at);
        Reply::json(answer)
    }

    /// RFC 7009 §2.
    pub(super) fn revoke(&mut self, request: &Request) -> Reply {
        self.counts.revocations += 1;
        let form = Form::parse(&request.body).0;
        if let Err(reply) = self.client(request, &form) {
            return reply;
        }
        let token = form.get("token").unwrap_or_default();
        let family = self
            .refresh
            .get(token)
            .map(|known| known.family)
            .or_else(|| self.access.get(token).map(|known| known.family));
        if let Some(family) = family {
            self.refresh.retain(|_, other| other.family != family);
            self.access.retain(|_, other| other.family != family);
        }
        Reply::empty(200)
    }

    pub(super) fn new_access(&mut self, scope: &str, family: usize, bound_to: Option<String>) -> String {
        let token = self.fresh_secret("access");
        let lifetime = &self.settings.lifetime;
        let lifetime = lifetime.as_f64().or_else(|| lifetime.as_str()?.parse().ok());
        let access = Access { scope: scope.into(), family, expires: lifetime.map(from_now), bound_to };
        self.access.insert(token.clone(), access);
        token
    }

    /// A refresh token out of the blue, for a client out of the blue.
    pub(super) fn new_refresh(&mut self, scope: &str, client: Client) -> String {
        let token = self.fresh_secret("refresh");
        self.serial += 1;
        let (id, scope, family) = (client.id.clone(), scope.to_owned(), self.serial);
        self.clients.insert(id.clone(), client);
        self.refresh.insert(token.clone(), Refresh { client: id, scope, family, spent: false, bound_to: None });
        token
    }

    /// RFC 6749 §5.1.
    fn grant(&mut self, grant: Grant) -> Reply {
        let Grant { client, scope, family, bound_to, refreshable } = grant;
        let scope = self.settings.grants.clone().unwrap_or(scope);
        let kind = if bound_to.is_some() { "DPoP" } else { "Bearer" };
        let access = self.new_access(&scope, family, bound_to.clone());
        let mut answer = json!({"access_token": access, "token_type": kind});
        if !self.settings.lifetime.is_null() {
            answer["expires_in"] = self.settings.lifetime.clone();
        }
        if !scope.is_empty() {
            answer["scope"] = json!(scope);
        }
        if refreshable && self.settings.refresh_tokens {
            let token = self.fresh_secret("refresh");
            answer["refresh_token"] = json!(token);
            self.refresh.insert(token, Refresh { client, scope, family, spent: false, bound_to });
        }
        (self.settings.edit_token)(&mut answer, &self.at);
        // RFC 6749 §5.1 wants both.
        Reply::json(answer).with("cache-control", "no-store").with("pragma", "no-cache")
    }
}
