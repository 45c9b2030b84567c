//! The client-credentials grant (RFC 6749 §4.4; MCP extension OAuth Client Credentials): a program
//! signs in as itself, with a secret or with a signed assertion (RFC 7523 §2.2).
//!
//! # Invariants
//!
//! - No client is registered, and no browser opened.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    oauth::{
        attempt::AuthorizationAttempt,
        client,
        context::Context,
        error::Error,
        protocol::{client_auth::Client, jws::SigningKey, rmcp},
    },
    text::cannot_read,
};

/// Obtains a token for the client itself.
pub(super) async fn obtain(
    context: &Context,
    attempt: &AuthorizationAttempt,
    key: Option<&Path>,
) -> Result<(Map<String, Value>, Client), Error> {
    let client = client::fixed(&context.settings, &attempt.discovered.server)
        .ok_or_else(|| Error::Local("--client-credentials needs --static-oauth-client-info".to_owned()))?;
    let key = key.map(read).transpose()?;
    let endpoint = attempt.token_endpoint(context, client.clone(), key);
    Ok((rmcp::client_credentials(&endpoint, &attempt.scopes).await?, client))
}

fn read(path: &Path) -> Result<SigningKey, Error> {
    const FLAG: &str = "--client-key-jwt";
    let text = std::fs::read_to_string(path).map_err(|error| Error::Local(cannot_read(path, Some(FLAG), &error)))?;
    SigningKey::from_pem(&text)
        .map_err(|error| Error::Local(format!("cannot use {} ({FLAG}): {error:#}", path.display())))
}
