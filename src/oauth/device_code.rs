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

use super::{
    AskedBy, Credential, Desk, Errand, Obtained, browser,
    client_credentials::{OAuthClient, members},
    error::Error,
    exchange::Exchange,
    registration::{self, Client, Origin, Wanted},
};
use crate::{
    observer::Fact,
    store::sign_in::Tabs,
    text::{host, one_line},
};

/// The grant (RFC 8628 §3.4).
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How long a lost connection is tried again while the person is busy elsewhere.
const LONGEST_POLL_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

/// Signs a person in with a code.
pub(super) async fn obtain(desk: &Desk, errand: &Errand) -> Result<Credential, Error> {
    let server = &errand.discovered.server;
    let Some(endpoint) = &server.metadata.device_authorization_endpoint else {
        let issuer = server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "does not offer sign-in with a code on another device" });
    };
    let endpoint = desk.door.address("the device authorization endpoint", endpoint).await?;
    // Nobody comes back there, but many servers register no client without one, and npm reads none.
    let redirect_uri = desk.derived_redirect_uri();
    let wanted = Wanted { grant: DEVICE_CODE, redirect_uri: &redirect_uri, scopes: &errand.scopes };
    let register = || registration::register(&desk.door, &desk.settings, &desk.store, server, wanted);
    let mut client = match registration::present(&desk.settings, &desk.store, server, wanted, desk.now()) {
        Some(client) => client,
        None => register().await?,
    };
    desk.tell_client(&client);
    let mut response = with_client(desk, errand, &client, &endpoint).await;
    if let Err(error) = &response
        && error.is("invalid_client")
        && client.origin == Origin::Stored
    {
        info!("{error}; registering again");
        registration::forget(&desk.store, &client);
        client = register().await?;
        desk.tell_client(&client);
        response = with_client(desk, errand, &client, &endpoint).await;
    }
    desk.keep(errand, response?, &client, Obtained::SignedIn).await
}

async fn with_client(
    desk: &Desk,
    errand: &Errand,
    client: &Client,
    endpoint: &Url,
) -> Result<Map<String, Value>, Error> {
    let server = &errand.discovered.server;
    let step = "the sign-in with a code";
    let exchange: Exchange = desk.exchange(errand, client.clone());
    let oauth = OAuthClient::new(ClientId::new(client.id.clone()))
        .set_token_uri(TokenUrl::from_url(server.token_endpoint()?))
        .set_device_authorization_url(DeviceAuthorizationUrl::from_url(endpoint.clone()));
    let mut request = oauth.exchange_device_code().add_extra_param("resource", "");
    for scope in &errand.scopes {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    let details: StandardDeviceAuthorizationResponse =
        request.request_async(&exchange).await.map_err(|error| exchange.refusal(step, &error))?;
    tell(desk, errand, &details).await?;
    let poll = oauth
        .exchange_device_access_token::<EmptyExtraDeviceAuthorizationFields>(&details)
        .add_extra_param("resource", "")
        .set_max_backoff_interval(LONGEST_POLL_PAUSE)
        .request_async(&exchange, tokio::time::sleep, None)
        .await;
    let response = poll.map_err(|error| exchange.refusal(step, &error))?;
    members(step, &response)
}

async fn tell(desk: &Desk, errand: &Errand, details: &StandardDeviceAuthorizationResponse) -> Result<(), Error> {
    let server = host(desk.door.server());
    // Shown to a person and opened in a browser, so only ever http(s), and nothing else in it.
    let what = "the address for the code";
    let plain = desk.door.address(what, details.verification_uri().as_str()).await?;
    let url = match details.verification_uri_complete() {
        Some(complete) => desk.door.address(what, complete.secret()).await?,
        None => plain.clone(),
    };
    let code = one_line(details.user_code().secret().as_bytes());
    info!("sign in to {server}: open {plain} on any device and enter the code {code}");
    if std::io::stderr().is_terminal()
        && let Ok(code) = fast_qr::QRBuilder::new(url.as_str()).build()
    {
        info!("or scan this:\n{}", code.to_str());
    }
    errand.teller.ask(&format!("{plain} and enter the code {code}"), AskedBy::ThisProcess);
    desk.observer.tell(|| Fact::Asking { url: plain.clone(), code: Some(code.clone()) });
    if !desk.settings.no_browser && Tabs::pause(&desk.store, desk.now()).is_zero() {
        if !desk.settings.asked_for {
            desk.stay.wait().await;
        }
        Tabs::count(&desk.store, desk.now());
        if browser::open(&url, &desk.settings.surroundings).await.is_err() {
            Tabs::take_back(&desk.store, desk.now()); // the person has none here: that is the point of a code
        }
    }
    Ok(())
}
