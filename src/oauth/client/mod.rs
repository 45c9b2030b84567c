//! Who we are to an authorization server: a client configured by the user, a client id metadata
//! document, a dynamic registration (RFC 7591); in this order (MCP 2025-11-25, Authorization, Client
//! Registration Approaches).
//!
//! rmcp's `register_client` is not used: its body is fixed (no scope of ours, no software id, method
//! `none` even where the server refuses that), and of the answer it keeps neither method nor expiry.
//!
//! Must never: show a client to another issuer than its own; use a secret beyond its end.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use log::info;
use reqwest::header;
use serde_json::{Map, Value, json};

use crate::{
    config::{Authorization, Grant},
    oauth::{
        error::{Error, REGISTRATION},
        http::client::HttpClient,
        protocol::{discovery::AuthorizationServer, scope::split},
    },
    report::{self, Code},
    secret::Secret,
    store::Store,
    text::one_line,
};

/// The grant of a person in a browser (RFC 7591 §2).
pub const AUTHORIZATION_CODE: &str = "authorization_code";
/// npm's file: the registration with the present issuer.
const CLIENT_INFO: &str = "client_info.json";
/// Ours: registrations with all issuers, the latest first. npm's file is written only together with
/// tokens, so that a sign-in that is never finished leaves the tokens their client.
const REGISTRATIONS: &str = "registrations.json";
/// Most of these kept: a few ports and issuers.
const MOST_REGISTRATIONS: usize = 16;
/// Member of ours in a registration: what was asked for.
const REQUESTED_SCOPE: &str = "requested_scope";
/// npm's identity towards authorization servers that keep statistics, or lists, by software.
const SOFTWARE_ID: &str = "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d";

/// How a client proves who it is (RFC 7591 §2, token_endpoint_auth_method).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all: a public client.
    None,
    /// RFC 6749 §2.3.1, in a header.
    Basic,
    /// RFC 6749 §2.3.1, in the body.
    Post,
    /// RFC 7523 §2.2: a signed assertion.
    PrivateKeyJwt,
}

impl AuthMethod {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "client_secret_basic" => Some(Self::Basic),
            "client_secret_post" => Some(Self::Post),
            "private_key_jwt" => Some(Self::PrivateKeyJwt),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }
}

/// Where a client comes from, which decides what may be done when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
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
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Option<Secret<String>>,
    /// How it authenticates.
    pub method: AuthMethod,
    /// Where it comes from.
    pub origin: Origin,
    /// What it may ask for (RFC 7591 §2, `scope`), if it says: what it was given, and what it was asked
    /// for, since another registration would get no more.
    pub scopes: Option<Vec<String>>,
}

impl Client {
    /// Whether it may ask for these, as far as is known.
    #[must_use]
    pub fn may_ask(&self, scopes: &[String]) -> bool {
        self.scopes.as_ref().is_none_or(|known| scopes.iter().all(|scope| known.contains(scope)))
    }

    /// Of the members of a registration, or of what the user has written like one.
    fn of(info: &Map<String, Value>, server: &AuthorizationServer, origin: Origin) -> Option<Self> {
        let text = |name: &str| info.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let id = text("client_id")?.to_owned();
        let secret = text("client_secret").map(|secret| Secret::new(secret.to_owned()));
        let method = text("token_endpoint_auth_method").and_then(AuthMethod::parse);
        let method = method.unwrap_or_else(|| offered(server, secret.is_some()));
        let listed = |name| split(text(name));
        let scopes = text("scope").map(|_| [listed("scope"), listed(REQUESTED_SCOPE)].concat());
        Some(Self { id, secret, method, origin, scopes })
    }
}

/// How to authenticate where the registration does not say: as the server's list has it, the best
/// first; without a list Basic, which is what RFC 8414 §2 takes for granted.
fn offered(server: &AuthorizationServer, has_secret: bool) -> AuthMethod {
    if !has_secret {
        return AuthMethod::None;
    }
    let Some(list) = &server.metadata.token_endpoint_auth_methods_supported else { return AuthMethod::Basic };
    [AuthMethod::Basic, AuthMethod::Post, AuthMethod::None]
        .into_iter()
        .find(|method| list.iter().any(|name| name == method.name()))
        .unwrap_or(AuthMethod::Basic)
}

/// What a client is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The grant, besides refreshes.
    pub grant: &'a str,
    /// The redirect URI.
    pub redirect_uri: &'a str,
    /// The scopes that will be asked for.
    pub scopes: &'a [String],
}

/// The client to use, from what is at hand; `None` if one must be registered.
#[must_use]
pub fn present(
    settings: &Authorization,
    store: &Store,
    server: &AuthorizationServer,
    wanted: Wanted<'_>,
    now: SystemTime,
) -> Option<Client> {
    if let Some(client) = fixed(settings, server) {
        return Some(client);
    }
    // RFC 7591 §2: of a list that is left out, the authorization code.
    let has_grant = |info: &Map<String, Value>| match info.get("grant_types").and_then(Value::as_array) {
        Some(grants) => grants.iter().any(|grant| grant == wanted.grant),
        None => wanted.grant == AUTHORIZATION_CODE,
    };
    let has_redirect = |info: &Map<String, Value>| redirect_uris(info).any(|uri| uri == wanted.redirect_uri);
    let usable = |info: &Map<String, Value>| {
        has_grant(info) && (has_redirect(info) || wanted.grant != AUTHORIZATION_CODE) && !has_ended(info, now)
    };
    let found = stored(store, server).into_iter().find(usable)?;
    Client::of(&found, server, Origin::Stored)
}

/// The client that stored tokens were issued to; `id` is known of tokens of ours.
#[must_use]
pub fn of_tokens(
    settings: &Authorization,
    store: &Store,
    server: &AuthorizationServer,
    id: Option<&str>,
    now: SystemTime,
) -> Option<Client> {
    let is_it = |client: &Client| id.is_none_or(|id| id == client.id);
    if let Some(client) = fixed(settings, server) {
        return Some(client).filter(is_it);
    }
    let all = stored(store, server).into_iter().filter(|info| !has_ended(info, now));
    all.filter_map(|info| Client::of(&info, server, Origin::Stored)).find(is_it)
}

/// The client that nothing on disk can change: the user's, or the document.
#[must_use]
pub fn fixed(settings: &Authorization, server: &AuthorizationServer) -> Option<Client> {
    if let Some(info) = &settings.client_info {
        let mut client = Client::of(info.expose(), server, Origin::Configured)?;
        if matches!(settings.grant, Grant::ClientCredentials { key: Some(_), .. }) {
            client.method = AuthMethod::PrivateKeyJwt;
        }
        return Some(client);
    }
    let document = settings.client_metadata_url.as_ref()?;
    // MCP 2025-11-25, Client ID Metadata Documents: only where the server says that it reads them.
    (server.metadata.client_id_metadata_document_supported == Some(true)).then(|| Client {
        id: document.to_string(),
        secret: None,
        method: AuthMethod::None,
        origin: Origin::Document,
        scopes: None,
    })
}

/// The redirect URIs of the stored registration, the port of which is best taken again.
#[must_use]
pub fn stored_redirect_uris(store: &Store, server: &AuthorizationServer) -> Vec<String> {
    stored(store, server).iter().flat_map(redirect_uris).map(ToOwned::to_owned).collect()
}

fn redirect_uris(info: &Map<String, Value>) -> impl Iterator<Item = &str> {
    info.get("redirect_uris").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn has_ended(info: &Map<String, Value>, now: SystemTime) -> bool {
    // RFC 7591 §3.2.1: seconds since the epoch, 0 for never.
    let end = info.get("client_secret_expires_at").and_then(Value::as_u64).unwrap_or_default();
    end != 0 && end <= now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The registrations with this issuer: npm's file, then ours.
fn stored(store: &Store, server: &AuthorizationServer) -> Vec<Map<String, Value>> {
    let of_issuer = |info: &Map<String, Value>| match info.get("issuer").and_then(Value::as_str) {
        Some(issuer) => same_issuer(issuer, &server.issuer),
        None => true, // written before npm noted it
    };
    let npms = store.parse(CLIENT_INFO, |content| serde_json::from_slice(content).ok());
    let npms: Option<Map<String, Value>> = npms;
    let mut all: Vec<_> = ours(store);
    if let Some(npms) = npms {
        all.retain(|info| info.get("client_id") != npms.get("client_id")); // npm may have noted more
        all.insert(0, npms);
    }
    all.retain(of_issuer);
    all
}

fn ours(store: &Store) -> Vec<Map<String, Value>> {
    store.parse(REGISTRATIONS, |content| serde_json::from_slice(content).ok()).unwrap_or_default()
}

/// The issuer of the registration in npm's file.
#[must_use]
pub fn issuer_noted(store: &Store) -> Option<String> {
    let npms: Map<String, Value> = store.parse(CLIENT_INFO, |content| serde_json::from_slice(content).ok())?;
    npms.get("issuer")?.as_str().map(ToOwned::to_owned)
}

/// Writes the client of stored tokens where npm looks for it.
pub fn keep_for_npm(store: &Store, server: &AuthorizationServer, client: &Client) {
    let is_it = |info: &Map<String, Value>| info.get("client_id").and_then(Value::as_str) == Some(&client.id);
    if matches!(client.origin, Origin::Stored | Origin::Registered)
        && let Some(info) = stored(store, server).into_iter().find(is_it)
    {
        save(store, CLIENT_INFO, &info);
    }
}

/// As npm compares stored issuers: one slash at the end is forgiven.
#[must_use]
pub fn same_issuer(one: &str, other: &str) -> bool {
    one == other || one.strip_suffix('/') == Some(other) || other.strip_suffix('/') == Some(one)
}

/// The registration was refused: it is not used again.
pub fn forget(store: &Store, client: &Client) {
    let is_it = |info: &Map<String, Value>| info.get("client_id").and_then(Value::as_str) == Some(&client.id);
    let npms = store.parse(CLIENT_INFO, |content| serde_json::from_slice::<Map<String, Value>>(content).ok());
    if npms.is_some_and(|info| is_it(&info)) {
        store.remove(CLIENT_INFO);
    }
    let mut all = ours(store);
    all.retain(|info| !is_it(info));
    save(store, REGISTRATIONS, &all);
}

fn save(store: &Store, name: &str, content: &impl serde::Serialize) {
    let written = serde_json::to_vec_pretty(content).map_err(Into::into).and_then(|text| store.write(name, &text));
    if let Err(error) = written {
        // It works for now; the next start registers again.
        report::warn(Code::StoreNotWritable, format!("the registration is not kept: {error:#}"));
    }
}

/// Registers a client (RFC 7591 §3) and keeps it.
///
/// # Errors
/// [`Error::NoClient`] where nobody is registered, [`Error::Refused`], [`Error::Network`].
pub async fn register(
    http: &HttpClient,
    settings: &Authorization,
    store: &Store,
    server: &AuthorizationServer,
    wanted: Wanted<'_>,
) -> Result<Client, Error> {
    let step = REGISTRATION;
    let Some(endpoint) = &server.metadata.registration_endpoint else {
        return Err(Error::NoClient { issuer: server.issuer.clone() });
    };
    let endpoint = http.address("the registration endpoint", endpoint).await?;
    let body = request(settings, server, wanted);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let text = Value::Object(body.clone()).to_string();
    let answer = http.send(Method::POST, &endpoint, headers, Bytes::from(text)).await?;
    // Nothing is published, and at the default place nobody registers anybody: there is no sign-in.
    let is_registration = |body: &[u8]| serde_json::from_slice::<Map<String, Value>>(body).is_ok();
    let is_registration = answer.status.is_success() && is_registration(&answer.body);
    if !server.published && !is_registration {
        let why = format!("it publishes no metadata, and {endpoint} answers HTTP {}", answer.status.as_u16());
        return Err(Error::NotOffered(why));
    }
    let content = serde_json::from_slice::<Map<String, Value>>(&answer.body);
    if !answer.status.is_success() {
        let member = |name: &str| content.as_ref().ok()?.get(name)?.as_str().map(|text| one_line(text.as_bytes()));
        return Err(match member("error") {
            Some(error) => Error::of_refusal(step, error, member("error_description"), wanted.redirect_uri),
            None => {
                let what = format!("HTTP {} {}", answer.status.as_u16(), one_line(&answer.body));
                Error::Answer { step, what, status: Some(answer.status) }
            }
        });
    }
    // Not quoted: there may be a secret in it.
    let unusable = || Error::Answer {
        step,
        what: format!("{} bytes came that are no registration", answer.body.len()),
        status: None,
    };
    let mut info = content.map_err(|_| unusable())?;
    // RFC 7591 §3.2.1 wants all that was asked for repeated; npm needs these two.
    for (name, value) in body {
        if name == "scope" {
            info.insert(REQUESTED_SCOPE.to_owned(), value.clone());
        }
        if matches!(name.as_str(), "redirect_uris" | "token_endpoint_auth_method") {
            info.entry(name).or_insert(value);
        }
    }
    let declared = info.get("token_endpoint_auth_method").and_then(Value::as_str);
    if declared == Some("none") && info.contains_key("client_secret") && offered(server, true) != AuthMethod::None {
        // A secret for a client that is to have none: the server means it to be used (FastMCP).
        info.insert("token_endpoint_auth_method".to_owned(), offered(server, true).name().into());
    }
    info.insert("issuer".to_owned(), server.issuer.as_str().into());
    let client = Client::of(&info, server, Origin::Registered).ok_or_else(unusable)?;
    info!("registered with {} as {}", server.issuer, one_line(client.id.as_bytes()));
    let mut all = ours(store);
    all.insert(0, info);
    all.truncate(MOST_REGISTRATIONS);
    save(store, REGISTRATIONS, &all);
    Ok(client)
}

/// What we tell of ourselves.
fn request(settings: &Authorization, server: &AuthorizationServer, wanted: Wanted<'_>) -> Map<String, Value> {
    let list = server.metadata.token_endpoint_auth_methods_supported.as_deref();
    // A program on a person's machine keeps no secret (RFC 8252 §8.5), so `none` wherever it is offered.
    let method = [AuthMethod::None, AuthMethod::Post, AuthMethod::Basic]
        .into_iter()
        .find(|method| list.is_some_and(|list| list.iter().any(|name| name == method.name())))
        .unwrap_or(AuthMethod::None);
    let mut body = Map::new();
    body.insert("client_name".to_owned(), "mcp-remote".into());
    body.insert("software_id".to_owned(), SOFTWARE_ID.into());
    body.insert("software_version".to_owned(), env!("CARGO_PKG_VERSION").into());
    body.insert("application_type".to_owned(), "native".into()); // OpenID Connect Registration §2; SEP-837
    body.insert("grant_types".to_owned(), json!([wanted.grant, "refresh_token"]));
    body.insert("response_types".to_owned(), json!(["code"]));
    body.insert("token_endpoint_auth_method".to_owned(), method.name().into());
    body.insert("redirect_uris".to_owned(), json!([wanted.redirect_uri]));
    if !wanted.scopes.is_empty() {
        body.insert("scope".to_owned(), wanted.scopes.join(" ").into());
    }
    for (name, value) in settings.client_metadata.iter().flatten() {
        body.insert(name.clone(), value.clone());
    }
    body
}
