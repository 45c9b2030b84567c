//! The grants, each in its file: what is sent, and what comes of it. And the two ends of what they give: refresh and
//! revocation.

pub(crate) mod authorization_code;
mod client_credentials;
mod device_code;
mod id_jag;
mod keep;
pub(crate) mod refresh;
pub(crate) mod revocation;
mod workload_identity;

use log::info;
use reqwest::Url;

use super::{
    attempt::AuthorizationAttempt,
    context::Context,
    credential::{Credential, Obtained},
    error::{Error, ErrorCode},
    protocol::{metadata::AuthorizationServer, mix_up},
    providers::table,
};
use crate::{config::Grant, store::lock::Purpose};

/// Asks a person.
///
/// # Errors
/// [`Error`].
pub(crate) async fn with_person(context: &Context, attempt: &mut AuthorizationAttempt) -> Result<Credential, Error> {
    if context.settings.grant == Grant::DeviceCode {
        return device_code::obtain(context, attempt).await;
    }
    // Nobody here sees a browser of this machine: a code can be entered anywhere.
    let offered = attempt.discovered.server.metadata.device_authorization_endpoint.is_some();
    if offered && !context.settings.surroundings.may_have_browser() {
        match device_code::obtain(context, attempt).await {
            Err(error) if error.is(ErrorCode::AccessDenied) || error.is(ErrorCode::ExpiredToken) => return Err(error),
            Err(error) => info!("cannot sign in with a device code: {error}"),
            signed_in => return signed_in,
        }
    }
    authorization_code::obtain(context, attempt).await
}

/// Obtains a credential by a non-interactive grant, which is used again whenever a token is needed.
///
/// # Errors
/// [`Error`]; [`Error::Waiting`] for a grant of a person.
pub(crate) async fn without_person(context: &Context, attempt: &AuthorizationAttempt) -> Result<Credential, Error> {
    let _alone = context.refreshing.lock().await;
    let lock = context.store.lock(Purpose::Tokens).await;
    if let Some(newer) = attempt.newer(context) {
        return Ok(newer);
    }
    let (response, client) = match &context.settings.grant {
        Grant::ClientCredentials { key, .. } => client_credentials::obtain(context, attempt, key.as_deref()).await?,
        Grant::IdJag { token, token_endpoint, client_id } => {
            id_jag::obtain(context, attempt, token, token_endpoint, client_id).await?
        }
        Grant::WorkloadIdentity(source) => workload_identity::obtain(context, attempt, source).await?,
        Grant::AuthorizationCode | Grant::DeviceCode => return Err(Error::Waiting { prompt: None }),
    };
    drop(lock);
    context.tell_client(&client);
    keep::keep(context, attempt, response, &client, Obtained::Refreshed).await
}

/// Fails for a page that belongs neither to the authorization server nor to whom it is known to share its pages with,
/// unless the user has named its host.
fn check_page(context: &Context, server: &AuthorizationServer, page: &Url) -> Result<(), Error> {
    match mix_up::foreign_host(server, page) {
        Some(page) if !context.settings.sign_in_hosts.contains(&page) && !table::shares_page(server, &page) => {
            Err(Error::ForeignPage { issuer: server.issuer.clone(), page })
        }
        _ => Ok(()),
    }
}
