//! The grants, each in its file: what is sent, and what comes of it. And the two ends of what they give: refresh and
//! revocation.

pub(crate) mod authorization_code;
mod client_credentials;
pub(crate) mod device_code;
mod id_jag;
mod keep;
pub(crate) mod refresh;
pub(crate) mod revocation;
mod workload_identity;

use super::{
    attempt::AuthorizationAttempt,
    context::Context,
    credential::{Credential, Obtained},
    error::Error,
};
use crate::{config::Grant, store::lock::Purpose};

/// Obtains a credential by a grant that needs nobody: such a grant is asked for again whenever a token is wanted.
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
        Grant::Enterprise { token, token_endpoint, client_id } => {
            id_jag::obtain(context, attempt, token, token_endpoint, client_id).await?
        }
        Grant::WorkloadIdentity(source) => workload_identity::obtain(context, attempt, source).await?,
        Grant::AuthorizationCode | Grant::DeviceCode => return Err(Error::Waiting { prompt: None }),
    };
    drop(lock);
    context.tell_client(&client);
    keep::keep(context, attempt, response, &client, Obtained::Refreshed).await
}
