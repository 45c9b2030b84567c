//! Enterprise-managed authorization (MCP extension, SEP-990): the company's identity provider vouches
//! for the person with an ID-JAG, obtained by token exchange (RFC 8693), which is the grant at the MCP
//! server's authorization server (RFC 7523 §2.1).
//!
//! `oauth2` knows neither grant, so the forms are made here.
//!
//! # Invariants
//!
//! - The person is not sent to the authorization server's page.
//! - Nothing but an ID-JAG is taken for one.

use std::path::Path;

use reqwest::Url;
use serde_json::{Map, Value};

use crate::{
    oauth::{
        attempt::AuthorizationAttempt,
        client,
        context::Context,
        error::{Error, Step},
        protocol::{
            client_auth::{Client, Origin},
            metadata::AuthorizationServer,
            token_endpoint::{Accepted, Parts, RESOURCE, TokenEndpoint},
        },
    },
    secret::Secret,
    text::{cannot_read, one_line},
};

/// The kind of token that is asked for (draft-ietf-oauth-identity-assertion-authz-grant §4).
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
/// The grant that spends it.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Obtains a token for the person in `token_file`.
pub(super) async fn obtain(
    context: &Context,
    attempt: &AuthorizationAttempt,
    token_file: &Path,
    identity_provider: &Url,
    client_id: &str,
) -> Result<(Map<String, Value>, Client), Error> {
    let server = &attempt.discovered.server;
    if server.metadata.grant_types_supported.as_ref().is_some_and(|grants| !grants.iter().any(|one| one == JWT_BEARER))
    {
        let issuer = server.issuer.clone();
        return Err(Error::Unsupported {
            issuer,
            what: "does not accept an assertion of an identity provider (ID-JAG)",
        });
    }
    let client = client::fixed(&context.settings, server)
        .ok_or_else(|| Error::Local("--id-jag-token needs --static-oauth-client-info".to_owned()))?;
    let assertion = id_jag(context, attempt, token_file, identity_provider, client_id).await?;
    let endpoint = attempt.token_endpoint(context, client.clone(), None);
    let scope = attempt.scopes.join(" ");
    let mut form = vec![("grant_type", JWT_BEARER), ("assertion", assertion.expose().as_str()), RESOURCE];
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    let response = endpoint.grant(Step::IdJagSignIn, &form).await?;
    Ok((response, client))
}

/// Obtains the identity provider's assertion (draft §4.3).
async fn id_jag(
    context: &Context,
    attempt: &AuthorizationAttempt,
    token_file: &Path,
    identity_provider: &Url,
    client_id: &str,
) -> Result<Secret<String>, Error> {
    let step = Step::TokenExchange;
    let text = std::fs::read_to_string(token_file)
        .map_err(|error| Error::Local(cannot_read(token_file, Some("--id-jag-token"), &error)))?;
    let endpoint = TokenEndpoint::new(Parts {
        known_method: None,
        accepted: Accepted::nowhere(),
        http: context.http.clone(),
        server: AuthorizationServer::of_endpoints(identity_provider, None),
        client: Client::public(client_id.to_owned(), Origin::Configured),
        resource: attempt.resource.clone(),
        prover: None,
        key: None,
    });
    let scope = attempt.scopes.join(" ");
    let mut form = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ID_JAG),
        ("audience", &attempt.discovered.server.issuer),
        RESOURCE,
        ("subject_token", text.trim()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
    ];
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    let answer = endpoint.grant(step, &form).await?;
    let member = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, use_as) = (member("issued_token_type"), member("token_type"));
    if kind != ID_JAG || !use_as.eq_ignore_ascii_case("n_a") {
        let what = format!("it returned a token of the type {:?} instead of an ID-JAG", one_line(kind.as_bytes()));
        return Err(Error::Answer { step, what, status: None });
    }
    Ok(Secret::new(member("access_token").to_owned()))
}
