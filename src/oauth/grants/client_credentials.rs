//! The client-credentials grant (RFC 6749 §4.4; MCP extension OAuth Client Credentials): a program
//! signs in as itself, with a secret or with a signed assertion (RFC 7523 §2.2).
//!
//! The request is `oauth2`'s. Must never: register a client, or open a browser.

use std::{path::Path, sync::Arc};

use oauth2::{ClientId, Scope, TokenUrl, basic::BasicErrorResponseType};
use rmcp::transport::auth::OAuthTokenResponse;
use serde_json::{Map, Value};

use crate::oauth::{
    client::{self, Client},
    context::{AuthorizationAttempt, Context},
    error::Error,
    protocol::jws::SigningKey,
};

/// `oauth2`'s client with rmcp's token response, which keeps the members it does not know.
pub(crate) type OAuthClient = oauth2::Client<
    oauth2::StandardErrorResponse<BasicErrorResponseType>,
    OAuthTokenResponse,
    oauth2::basic::BasicTokenIntrospectionResponse,
    oauth2::StandardRevocableToken,
    oauth2::basic::BasicRevocationErrorResponse,
>;

/// A token for the client itself.
pub(crate) async fn obtain(
    context: &Context,
    attempt: &AuthorizationAttempt,
    key: Option<&Path>,
) -> Result<(Map<String, Value>, Client), Error> {
    let step = "the client's sign-in";
    let server = &attempt.discovered.server;
    let client = client::fixed(&context.settings, server)
        .ok_or_else(|| Error::Local("--client-credentials needs --static-oauth-client-info".to_owned()))?;
    let key = key.map(read).transpose()?.map(Arc::new);
    let exchange = context.token_endpoint_with_key(attempt, client.clone(), key);
    let token_url = TokenUrl::from_url(server.token_endpoint()?);
    let oauth = OAuthClient::new(ClientId::new(client.id.clone())).set_token_uri(token_url);
    let mut request = oauth.exchange_client_credentials().add_extra_param("resource", "");
    for scope in &attempt.scopes {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    let response = request.request_async(&exchange).await.map_err(|error| exchange.refusal(step, &error))?;
    Ok((members(step, &response)?, client))
}

/// The members of a token response.
pub(crate) fn members(step: &'static str, response: &OAuthTokenResponse) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(response) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Error::Answer { step, what: "no token response".to_owned(), status: None }),
    }
}

fn read(path: &Path) -> Result<SigningKey, Error> {
    let fault = |error: &dyn std::fmt::Display| Error::Local(format!("--client-key-jwt {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
    SigningKey::from_pem(&text).map_err(|error| fault(&format!("{error:#}")))
}
