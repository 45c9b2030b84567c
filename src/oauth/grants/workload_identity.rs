//! Workload identity federation (SEP-1933, a proposal: experimental): the assertion that a platform
//! gives its programs is the grant (RFC 7523 §2.1).
//!
//! # Invariants
//!
//! - No shell is used, and the program that prints the assertion gets no secret of this one.
//! - That program ends with its time, and with whoever waits for it.
//! - An assertion is not kept.
//! - Nothing is tried again, or otherwise, after a refusal. A busy token endpoint gets a new assertion.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    child::{ChildProgram, Rest, collect},
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
    surroundings::Surroundings,
    text::{cannot_read, one_line, reason},
};

/// How long the program may take that prints the assertion.
const ASSERTION_PATIENCE: Duration = Duration::from_secs(30);
/// Largest assertion, in bytes: it goes into a form, and servers take no headers or fields that are longer.
const LARGEST: usize = 64 * 1024;

/// Obtains a token for the workload.
pub(super) async fn obtain(
    context: &Context,
    attempt: &AuthorizationAttempt,
    source: &AssertionSource,
) -> Result<(Map<String, Value>, Client), Error> {
    let assertion = read(source, &context.settings.surroundings).await?;
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
async fn read(source: &AssertionSource, surroundings: &Surroundings) -> Result<Secret<String>, Error> {
    let text = match source {
        AssertionSource::File(path) => from_file(path)?,
        AssertionSource::Command { program, arguments } => from_command(program, arguments, surroundings).await?,
    };
    let text = text.expose().trim().to_owned();
    if text.is_empty() {
        Err(Error::Local("the platform's assertion is empty".to_owned()))
    } else {
        Ok(Secret::new(text))
    }
}

fn from_file(path: &Path) -> Result<Secret<String>, Error> {
    let fault = |error: std::io::Error| Error::Local(cannot_read(path, Some("--assertion-file"), &error));
    std::fs::read_to_string(path).map(Secret::new).map_err(fault)
}

async fn from_command(
    program: &str,
    arguments: &[String],
    surroundings: &Surroundings,
) -> Result<Secret<String>, Error> {
    let fault = |what: &dyn std::fmt::Display| Error::Local(format!("--assertion-command {program}: {what}"));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    surroundings.hide_secrets(&mut command);
    let mut running =
        ChildProgram::start(command).map_err(|error| fault(&format!("it does not start: {}", reason(&error))))?;
    let (output, errors) = running.outputs();
    let ended = tokio::time::timeout(ASSERTION_PATIENCE, async {
        // Both at once: it may not go on with one before the other is read.
        let (output, errors) =
            tokio::join!(collect(output, LARGEST, Rest::Refused), collect(errors, LARGEST, Rest::Ignored));
        running.ended().await.map(|status| (status, output, errors))
    });
    let Ok(ended) = ended.await else {
        return Err(fault(&format!("it did not end within {} s", ASSERTION_PATIENCE.as_secs())));
    };
    let (status, output, errors) = ended.map_err(|error| fault(&reason(&error)))?;
    if output.len() > LARGEST {
        return Err(fault(&format!("it printed more than {LARGEST} bytes")));
    }
    if !status.success() {
        return Err(fault(&format!("it ended with {status} (\"{}\")", one_line(&errors))));
    }
    String::from_utf8(output).map(Secret::new).map_err(|_| fault(&"it did not print UTF-8 text"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    async fn run(script: &str, surroundings: &Surroundings) -> Result<String, String> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let printed = from_command("/bin/sh", &arguments, surroundings).await;
        printed.map(|text| text.expose().clone()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn output_is_read_up_to_its_limit() {
        let nothing = Surroundings::default();
        assert_eq!(run("printf assertion", &nothing).await.unwrap(), "assertion");
        let refused = run("echo no >&2; exit 3", &nothing).await.unwrap_err();
        assert!(refused.contains("exit status: 3 (\"no\")"), "{refused}");
        let began = std::time::Instant::now();
        let endless = run("exec cat /dev/zero", &nothing).await.unwrap_err();
        assert!(endless.ends_with("it printed more than 65536 bytes"), "{endless}");
        let errors = "head -c 300000 /dev/zero >&2; printf assertion";
        assert_eq!(run(errors, &nothing).await.unwrap(), "assertion", "it says much else");
        assert!(began.elapsed() < ASSERTION_PATIENCE / 2);
    }

    #[tokio::test]
    async fn hanging_program_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!("sleep 1000 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
        let nothing = Surroundings::default();
        let hanging = tokio::time::timeout(Duration::from_secs(1), run(&script, &nothing)).await;
        assert!(hanging.is_err(), "nobody waits for it");
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        let is_gone = |pid: &str| !crate::store::process::is_alive(pid.parse().unwrap());
        let began = std::time::Instant::now();
        while !pids.lines().all(is_gone) {
            assert!(began.elapsed() < Duration::from_secs(10), "{pids}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn program_gets_no_secret_variable() {
        let surroundings = Surroundings { secrets: vec!["HOME".to_owned()], ..Surroundings::default() };
        assert_eq!(run("printf \"%s\" \"${HOME-none}\"", &surroundings).await.unwrap(), "none");
    }
}
