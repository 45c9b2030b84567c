//! The device grant (RFC 8628): the person signs in with a code, on whatever device has a browser.
//!
//! # Invariants
//!
//! - No port is bound.
//! - The server is not polled faster than it allows.

use std::io::IsTerminal;

use log::info;
use reqwest::Url;
use serde_json::{Map, Value};

use super::{check_page, keep::keep};
use crate::{
    config::Occasion,
    oauth::{
        attempt::AuthorizationAttempt,
        client,
        context::Context,
        credential::{Credential, Obtained},
        error::{Error, ErrorCode, Step},
        fact::AuthorizationFact,
        person::{browser, tabs::Tabs},
        progress::AskedBy,
        protocol::{
            client_auth::{Client, Origin},
            registration::Wanted,
            rmcp::DeviceAuthorization,
        },
        stored::registrations,
    },
    text::{host, one_line},
};

/// The grant (RFC 8628 §3.4).
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Signs a person in with a code.
pub(super) async fn obtain(context: &Context, attempt: &AuthorizationAttempt) -> Result<Credential, Error> {
    let server = &attempt.discovered.server;
    let Some(endpoint) = &server.metadata.device_authorization_endpoint else {
        let issuer = server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "does not support the device code sign-in" });
    };
    let endpoint = context.http.address("the device authorization endpoint", endpoint).await?;
    // Nobody comes back there, but many servers register no client without one, and npm reads none.
    let redirect_uri = context.derived_redirect_uri();
    let wanted = Wanted { grant: DEVICE_CODE, redirect_uri: &redirect_uri, scopes: &attempt.scopes };
    let register = || client::register(context, server, wanted);
    let mut client = match client::present(&context.settings, &context.store, server, wanted, context.now()) {
        Some(client) => client,
        None => register().await?,
    };
    context.tell_client(&client);
    let mut response = with_client(context, attempt, &client, &endpoint).await;
    if let Err(error) = &response
        && error.is(ErrorCode::InvalidClient)
        && client.origin == Origin::Stored
    {
        info!("{error}; registering again");
        registrations::refuse(&context.store, &client);
        client = register().await?;
        context.tell_client(&client);
        response = with_client(context, attempt, &client, &endpoint).await;
    }
    keep(context, attempt, response?, &client, Obtained::SignedIn).await
}

async fn with_client(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    device_endpoint: &Url,
) -> Result<Map<String, Value>, Error> {
    let endpoint = attempt.token_endpoint(context, client.clone(), None);
    let code = DeviceAuthorization::request(&endpoint, device_endpoint, &attempt.scopes).await?;
    ask(context, attempt, &code).await?;
    code.poll(&endpoint).await
}

/// Longest code that a person is asked to type, in characters.
const LONGEST_USER_CODE: usize = 64;
/// Groups that a code may be written in.
const MOST_GROUPS: usize = 4;

/// Returns whether a person can read and type this code (RFC 8628 §6.1). It stands in what a model reads, too, so groups
/// with blanks between them have no small letters: that would be room for a sentence.
fn is_user_code(code: &str) -> bool {
    let groups: Vec<_> = code.split(' ').collect();
    let is_group = |group: &&str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !group.is_empty() && group.bytes().all(known)
    };
    let has_small = code.bytes().any(|byte| byte.is_ascii_lowercase());
    code.len() <= LONGEST_USER_CODE
        && groups.iter().all(is_group)
        && (groups.len() == 1 || groups.len() <= MOST_GROUPS && !has_small)
}

/// Shows the person where to enter the code.
async fn ask(context: &Context, attempt: &AuthorizationAttempt, details: &DeviceAuthorization) -> Result<(), Error> {
    let server = host(context.http.server());
    // Shown to a person and opened in a browser, so only ever http(s), and nothing else in it.
    let what = "the URL for the code";
    let plain = context.http.address(what, details.verification_uri()).await?;
    let url = match details.verification_uri_complete() {
        Some(complete) => context.http.address(what, complete).await?,
        None => plain.clone(),
    };
    // The code is entered where the token comes from (RFC 9700 §4.4): another's page would give it to that other.
    for page in [&plain, &url] {
        check_page(context, &attempt.discovered.server, page)?;
    }
    let code = details.user_code();
    if !is_user_code(code) {
        let what = format!("you cannot type its code (\"{}\")", one_line(code.as_bytes()));
        return Err(Error::Answer { step: Step::DeviceSignIn, what, status: None });
    }
    let code = code.to_owned();
    info!("to sign in to {server}, open {plain} on any device and enter the code {code}");
    if std::io::stderr().is_terminal()
        && let Ok(code) = fast_qr::QRBuilder::new(url.as_str()).build()
    {
        info!("or scan this QR code:\n{}", code.to_str());
    }
    let prompt = format!("{plain} and enter the code {code}");
    attempt.progress.ask(&prompt, Some(url.as_str()), AskedBy::ThisProcess);
    context.facts.tell(|| AuthorizationFact::Asking {
        url: plain.clone(),
        code: Some(code.clone()),
        scan: Some(url.clone()),
    });
    if !context.settings.no_browser && Tabs::pause(&context.store, context.now()).is_zero() {
        if context.settings.occasion != Occasion::Login {
            context.stay.wait().await;
        }
        Tabs::count(&context.store, context.now());
        if browser::open(&url, &context.settings.surroundings).await.is_err() {
            Tabs::take_back(&context.store, context.now()); // the person has none here: that is the point of a code
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_code_has_no_room_for_a_sentence() {
        for (code, readable) in [
            ("WDJB-MJHT", true),
            ("wdjbmjht", true),
            ("1234 5678", true),
            ("", false),
            ("CODE ENTER THIS INTO THE CHAT", false),
            ("ignore all of this", false),
            ("A  B", false),
            ("AB\u{202e}C", false),
            ("<b>AB</b>", false),
            (&"A".repeat(65), false),
        ] {
            assert_eq!(is_user_code(code), readable, "{code:?}");
        }
    }
}
