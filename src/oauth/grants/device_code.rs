//! The device grant (RFC 8628): the person signs in with a code, on whatever device has a browser.
//!
//! Requests and polling, with `slow_down` and expiry, are `oauth2`'s. Must never: bind a port; poll
//! faster than the server allows.

use std::io::IsTerminal;

use log::info;
use oauth2::{
    ClientId, DeviceAuthorizationUrl, EmptyExtraDeviceAuthorizationFields, Scope, StandardDeviceAuthorizationResponse,
    TokenUrl,
};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::{
    oauth::{
        client::{self, Client, Origin, Wanted},
        context::{AuthorizationAttempt, Context},
        credential::{Credential, Obtained},
        error::Error,
        grants::client_credentials::{OAuthClient, members},
        person::browser,
        progress::AskedBy,
        protocol::token_endpoint::TokenEndpoint,
        stored::sign_in::Tabs,
    },
    observer::Fact,
    text::{host, one_line},
};

/// The grant (RFC 8628 §3.4).
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How long a lost connection is tried again while the person is busy elsewhere.
const LONGEST_POLL_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Signs a person in with a code.
pub(crate) async fn obtain(context: &Context, attempt: &AuthorizationAttempt) -> Result<Credential, Error> {
    let server = &attempt.discovered.server;
    let Some(endpoint) = &server.metadata.device_authorization_endpoint else {
        let issuer = server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "does not offer sign-in with a code on another device" });
    };
    let endpoint = context.http.address("the device authorization endpoint", endpoint).await?;
    // Nobody comes back there, but many servers register no client without one, and npm reads none.
    let redirect_uri = context.derived_redirect_uri();
    let wanted = Wanted { grant: DEVICE_CODE, redirect_uri: &redirect_uri, scopes: &attempt.scopes };
    let register = || client::register(&context.http, &context.settings, &context.store, server, wanted);
    let mut client = match client::present(&context.settings, &context.store, server, wanted, context.now()) {
        Some(client) => client,
        None => register().await?,
    };
    context.tell_client(&client);
    let mut response = with_client(context, attempt, &client, &endpoint).await;
    if let Err(error) = &response
        && error.is("invalid_client")
        && client.origin == Origin::Stored
    {
        info!("{error}; registering again");
        client::forget(&context.store, &client);
        client = register().await?;
        context.tell_client(&client);
        response = with_client(context, attempt, &client, &endpoint).await;
    }
    context.keep(attempt, response?, &client, Obtained::SignedIn).await
}

async fn with_client(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    endpoint: &Url,
) -> Result<Map<String, Value>, Error> {
    let server = &attempt.discovered.server;
    let step = "the sign-in with a code";
    let exchange: TokenEndpoint = context.token_endpoint_of(attempt, client.clone());
    let oauth = OAuthClient::new(ClientId::new(client.id.clone()))
        .set_token_uri(TokenUrl::from_url(server.token_endpoint()?))
        .set_device_authorization_url(DeviceAuthorizationUrl::from_url(endpoint.clone()));
    let mut request = oauth.exchange_device_code().add_extra_param("resource", "");
    for scope in &attempt.scopes {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    let details: StandardDeviceAuthorizationResponse =
        request.request_async(&exchange).await.map_err(|error| exchange.refusal(step, &error))?;
    tell(context, attempt, &details).await?;
    let poll = oauth
        .exchange_device_access_token::<EmptyExtraDeviceAuthorizationFields>(&details)
        .add_extra_param("resource", "")
        .set_max_backoff_interval(LONGEST_POLL_PAUSE)
        .request_async(&exchange, tokio::time::sleep, None)
        .await;
    let response = poll.map_err(|error| exchange.refusal(step, &error))?;
    members(step, &response)
}

async fn tell(
    context: &Context,
    attempt: &AuthorizationAttempt,
    details: &StandardDeviceAuthorizationResponse,
) -> Result<(), Error> {
    let server = host(context.http.server());
    // Shown to a person and opened in a browser, so only ever http(s), and nothing else in it.
    let what = "the address for the code";
    let plain = context.http.address(what, details.verification_uri().as_str()).await?;
    let url = match details.verification_uri_complete() {
        Some(complete) => context.http.address(what, complete.secret()).await?,
        None => plain.clone(),
    };
    let code = one_line(details.user_code().secret().as_bytes());
    info!("sign in to {server}: open {plain} on any device and enter the code {code}");
    if std::io::stderr().is_terminal()
        && let Ok(code) = fast_qr::QRBuilder::new(url.as_str()).build()
    {
        info!("or scan this:\n{}", code.to_str());
    }
    attempt.progress.ask(&format!("{plain} and enter the code {code}"), AskedBy::ThisProcess);
    context.observer.tell(|| Fact::Asking { url: plain.clone(), code: Some(code.clone()) });
    if !context.settings.no_browser && Tabs::pause(&context.store, context.now()).is_zero() {
        if !context.settings.asked_for {
            context.stay.wait().await;
        }
        Tabs::count(&context.store, context.now());
        if browser::open(&url, &context.settings.surroundings).await.is_err() {
            Tabs::take_back(&context.store, context.now()); // the person has none here: that is the point of a code
        }
    }
    Ok(())
}
