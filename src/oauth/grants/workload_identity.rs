//! Workload identity federation (SEP-1933, a proposal: experimental): the assertion that a platform
//! gives its programs is the grant (RFC 7523 §2.1).
//!
//! # Invariants
//!
//! - No shell is used.
//! - An assertion is not kept.
//! - Nothing is tried again, or otherwise, after a refusal.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    config::AssertionSource,
    oauth::{
        attempt::AuthorizationAttempt,
        client,
        context::Context,
        error::{Error, Step},
        protocol::{
            client_auth::{Client, Origin},
            token_endpoint::RESOURCE,
        },
    },
    secret::Secret,
    text::one_line,
};

/// How long the program may take that prints the assertion.
const PATIENCE: Duration = Duration::from_secs(30);

/// Obtains a token for the workload.
pub(super) async fn obtain(
    context: &Context,
    attempt: &AuthorizationAttempt,
    source: &AssertionSource,
) -> Result<(Map<String, Value>, Client), Error> {
    let assertion = read(source).await?;
    let anonymous = || Client::public(String::new(), Origin::Configured);
    let client = client::fixed(&context.settings, &attempt.discovered.server).unwrap_or_else(anonymous);
    let endpoint = attempt.token_endpoint(context, client.clone(), None);
    let scope = attempt.scopes.join(" ");
    let mut form = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", assertion.expose().as_str()),
        RESOURCE,
    ];
    if !scope.is_empty() {
        form.push(("scope", &scope));
    }
    let response = endpoint.grant(Step::WorkloadSignIn, &form).await?;
    Ok((response, client))
}

/// Reads it afresh each time: platforms rotate their assertions.
async fn read(source: &AssertionSource) -> Result<Secret<String>, Error> {
    let text = match source {
        AssertionSource::File(path) => from_file(path)?,
        AssertionSource::Command { program, arguments } => from_command(program, arguments).await?,
    };
    let text = text.expose().trim().to_owned();
    if text.is_empty() {
        Err(Error::Local("the platform's assertion is empty".to_owned()))
    } else {
        Ok(Secret::new(text))
    }
}

fn from_file(path: &Path) -> Result<Secret<String>, Error> {
    let fault = |error| Error::Local(format!("--assertion-file {}: {error}", path.display()));
    std::fs::read_to_string(path).map(Secret::new).map_err(fault)
}

async fn from_command(program: &str, arguments: &[String]) -> Result<Secret<String>, Error> {
    let fault = |what: &dyn std::fmt::Display| Error::Local(format!("--assertion-command {program}: {what}"));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) => output.map_err(|error| fault(&error))?,
        Ok(Err(error)) => return Err(fault(&error)),
        Err(_) => return Err(fault(&format!("nothing within {} s", PATIENCE.as_secs()))),
    };
    if !output.status.success() {
        return Err(fault(&format!("{}: {}", output.status, one_line(&output.stderr))));
    }
    String::from_utf8(output.stdout).map(Secret::new).map_err(|_| fault(&"not a text"))
}
