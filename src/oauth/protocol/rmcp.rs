//! The OAuth programming interfaces of rmcp 3.11 and of `oauth2`, on which rmcp is built. Both send over
//! [`TokenEndpoint`], by hooks that are implemented here.
//!
//! What the two libraries do: the URL of the authorization request with PKCE and `state`; the exchange of the code;
//! what a refresh sends, and when it may be sent; the requests of client credentials and of the device grant with its
//! polling. What is replaced: client authentication (rmcp has one rule for all registrations), `resource` (rmcp passes
//! it through a URL type, which adds a slash), and error answers, of which both make a text.
//!
//! # Invariants
//!
//! - No other file names rmcp's or `oauth2`'s types.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use log::warn;
use oauth2::{
    ClientId, CsrfToken, DeviceAuthorizationUrl, EmptyExtraDeviceAuthorizationFields, PkceCodeVerifier, Scope,
    StandardDeviceAuthorizationResponse, TokenUrl, basic::BasicErrorResponseType,
};
use reqwest::{Url, header};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, CredentialStore, InMemoryStateStore, OAuthClientConfig,
    OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest, OAuthTokenResponse, StateStore, StoredAuthorizationState,
    StoredCredentials,
};
use serde_json::{Map, Value};

use super::{
    authorization_code::PendingAuthorization,
    form,
    metadata::AuthorizationServer,
    token_endpoint::{RESOURCE, TokenEndpoint, straighten},
};
use crate::{
    oauth::error::{Error, Step},
    status::Disposition,
    sync::LockExt,
};

/// What is said of a token response that cannot be read.
const UNREADABLE: &str = "the response is not a token response";
/// How long a lost connection is tried again while the person is busy elsewhere.
const LONGEST_POLL_PAUSE: Duration = Duration::from_secs(30);

/// `oauth2`'s client with rmcp's token response, which keeps the members it does not know.
type OAuthClient = oauth2::Client<
    oauth2::StandardErrorResponse<BasicErrorResponseType>,
    OAuthTokenResponse,
    oauth2::basic::BasicTokenIntrospectionResponse,
    oauth2::StandardRevocableToken,
    oauth2::basic::BasicRevocationErrorResponse,
>;

/// Makes an authorization request (RFC 6749 §4.1.1). Returns its URL and what its response is checked by.
///
/// # Errors
/// [`Error::Metadata`], [`Error::Local`].
pub(crate) async fn authorization_request(
    endpoint: &TokenEndpoint,
    redirect_uri: &str,
    scopes: &[String],
) -> Result<(String, PendingAuthorization), Error> {
    let local = |error: AuthError| Error::Local(error.to_string());
    let states = InMemoryStateStore::new();
    let manager = manager(endpoint, redirect_uri, states.clone()).await?;
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let url = manager.get_authorization_url(&scopes).await.map_err(local)?;
    let parsed = Url::parse(&url).ok();
    let state = parsed.iter().flat_map(Url::query_pairs).find(|(name, _)| name == "state");
    let state = state.map(|(_, state)| state.into_owned()).unwrap_or_default();
    let kept = states.load(&state).await.ok().flatten();
    let kept = kept.ok_or_else(|| Error::Local("the authorization request has no state".to_owned()))?;
    let pending = PendingAuthorization {
        pkce_verifier: kept.pkce_verifier,
        state: kept.csrf_token,
        expected_issuer: kept.expected_issuer,
        require_issuer: kept.require_issuer,
        created_at: kept.created_at,
        requested_scopes: kept.requested_scopes,
    };
    Ok((url, pending))
}

/// Exchanges a code for tokens (RFC 6749 §4.1.3). `has_issuer` says whether the response named its issuer, which is
/// checked before.
///
/// # Errors
/// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
pub(crate) async fn redeem(
    endpoint: &TokenEndpoint,
    redirect_uri: &str,
    pending: &PendingAuthorization,
    code: &str,
    has_issuer: bool,
) -> Result<Map<String, Value>, Error> {
    let states = InMemoryStateStore::new();
    let kept = StoredAuthorizationState::new_with_expected_issuer(
        &PkceCodeVerifier::new(pending.pkce_verifier.clone()),
        &CsrfToken::new(pending.state.clone()),
        pending.expected_issuer.clone(),
        pending.require_issuer,
    );
    let kept = kept.with_requested_scopes(pending.requested_scopes.clone());
    states.save(&pending.state, kept).await.map_err(|error| Error::Local(error.to_string()))?;
    let manager = manager(endpoint, redirect_uri, states).await?;
    // Checked already (`check_issuer`), with an exception that rmcp does not know.
    let issuer = pending.expected_issuer.as_deref().filter(|_| has_issuer);
    let response = manager.exchange_code_for_token_with_issuer(code, &pending.state, issuer).await;
    let response = response.map_err(|error| match error {
        // rmcp quotes what it cannot read: there may be a token in it.
        AuthError::TokenExchangeFailed(_) => endpoint.refusal(Step::CodeExchange, &UNREADABLE),
        error => endpoint.refusal(Step::CodeExchange, &error),
    })?;
    members(Step::CodeExchange, &response)
}

/// Returns rmcp's manager for one client. It has the MCP server's own URL for the resource, which [`TokenEndpoint`]
/// replaces.
async fn manager(
    endpoint: &TokenEndpoint,
    redirect_uri: &str,
    states: InMemoryStateStore,
) -> Result<AuthorizationManager, Error> {
    let unusable = |error: AuthError| Error::Metadata(error.to_string());
    let over = Arc::new(endpoint.clone());
    let server = endpoint.http().server().clone();
    let mut manager = AuthorizationManager::new_with_oauth_http_client(server, over).await.map_err(unusable)?;
    manager.set_metadata(metadata(endpoint.server())?);
    let client = OAuthClientConfig::new(endpoint.client().id.clone(), redirect_uri);
    manager.configure_client(client).map_err(unusable)?;
    manager.set_state_store(states);
    Ok(manager)
}

/// Metadata as rmcp wants them. It insists on an authorization endpoint, which a server without a browser's grant does
/// not have; the placeholder leads nowhere.
fn metadata(server: &AuthorizationServer) -> Result<AuthorizationMetadata, Error> {
    let mut map = Map::new();
    map.insert("token_endpoint".to_owned(), server.token_endpoint()?.as_str().into());
    let authorize = server.metadata.authorization_endpoint.as_deref().unwrap_or("https://invalid./");
    map.insert("authorization_endpoint".to_owned(), authorize.into());
    if server.published {
        map.insert("issuer".to_owned(), server.issuer.as_str().into());
    }
    // Judged by `check_code_grant` already, with the exceptions that rmcp does not know.
    map.insert("code_challenge_methods_supported".to_owned(), vec!["S256"].into());
    map.insert("authorization_response_iss_parameter_supported".to_owned(), server.sends_issuer().into());
    serde_json::from_value(Value::Object(map)).map_err(|error| Error::Metadata(error.to_string()))
}

/// Receives a response to a refresh: its members, its issuer, and when it came, if rmcp noted it. Returns the token
/// response that is held from now on.
pub(crate) type Keep =
    Arc<dyn Fn(Map<String, Value>, Option<&str>, Option<SystemTime>) -> Map<String, Value> + Send + Sync>;

/// Spends the refresh token (RFC 6749 §6) of the token response `held`. `granted` are the scopes that were granted,
/// which the request names only if `names_scopes`. `keep` is called before this returns.
///
/// # Errors
/// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
pub(crate) async fn refresh(
    endpoint: &TokenEndpoint,
    held: Map<String, Value>,
    granted: Vec<String>,
    names_scopes: bool,
    keep: Keep,
) -> Result<(), Error> {
    let redirect = "http://localhost/"; // rmcp wants one; a refresh has none
    let mut manager = manager(endpoint, redirect, InMemoryStateStore::new()).await?;
    if names_scopes {
        manager.set_refresh_scopes(granted.clone());
    }
    let client_id = endpoint.client().id.clone();
    manager.set_credential_store(StoreAdapter { held: Mutex::new(held), granted, client_id, keep });
    manager.refresh_token().await.map(drop).map_err(|error| match error {
        AuthError::TokenRefreshFailed(_) => endpoint.refusal(Step::Refresh, &UNREADABLE),
        error => endpoint.refusal(Step::Refresh, &error),
    })
}

/// rmcp's `CredentialStore` over what holds the tokens here.
struct StoreAdapter {
    held: Mutex<Map<String, Value>>,
    granted: Vec<String>,
    client_id: String,
    keep: Keep,
}

#[async_trait]
impl CredentialStore for StoreAdapter {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let response = serde_json::from_value(Value::Object(self.held.guard().clone()));
        // The error is not quoted: there may be a token in it.
        let response = response.map_err(|_| AuthError::CredentialStoreError(UNREADABLE.to_owned()))?;
        Ok(Some(StoredCredentials::new(self.client_id.clone(), Some(response), self.granted.clone(), None)))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let Ok(Value::Object(response)) = serde_json::to_value(&credentials.token_response) else {
            return Err(AuthError::CredentialStoreError(UNREADABLE.to_owned()));
        };
        let received = credentials.token_received_at.map(|at| UNIX_EPOCH + Duration::from_secs(at));
        *self.held.guard() = (self.keep)(response, credentials.issuer.as_deref(), received);
        Ok(())
    }

    async fn clear(&self) -> Result<(), AuthError> {
        warn!("the OAuth library asked to delete the stored tokens; keeping them"); // ours to decide
        Ok(())
    }
}

/// Asks for a token for the client itself (RFC 6749 §4.4).
///
/// # Errors
/// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
pub(crate) async fn client_credentials(
    endpoint: &TokenEndpoint,
    scopes: &[String],
) -> Result<Map<String, Value>, Error> {
    let step = Step::ClientSignIn;
    let oauth = OAuthClient::new(ClientId::new(endpoint.client().id.clone()))
        .set_token_uri(TokenUrl::from_url(endpoint.server().token_endpoint()?));
    let request = oauth.exchange_client_credentials().add_extra_param(RESOURCE.0, RESOURCE.1);
    let request = request.add_scopes(scopes.iter().cloned().map(Scope::new));
    let response = request.request_async(endpoint).await.map_err(|error| endpoint.refusal(step, &error))?;
    members(step, &response)
}

/// The answer to a device authorization request (RFC 8628 §3.2).
pub(crate) struct DeviceAuthorization(StandardDeviceAuthorizationResponse);

impl DeviceAuthorization {
    /// Asks for it at `device_endpoint`.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
    pub(crate) async fn request(
        endpoint: &TokenEndpoint,
        device_endpoint: &Url,
        scopes: &[String],
    ) -> Result<Self, Error> {
        let oauth = OAuthClient::new(ClientId::new(endpoint.client().id.clone()))
            .set_token_uri(TokenUrl::from_url(endpoint.server().token_endpoint()?))
            .set_device_authorization_url(DeviceAuthorizationUrl::from_url(device_endpoint.clone()));
        let request = oauth.exchange_device_code().add_extra_param(RESOURCE.0, RESOURCE.1);
        let request = request.add_scopes(scopes.iter().cloned().map(Scope::new));
        let details = request.request_async(endpoint).await;
        details.map(Self).map_err(|error| endpoint.refusal(Step::DeviceSignIn, &error))
    }

    pub(crate) fn verification_uri(&self) -> &str {
        self.0.verification_uri()
    }

    /// The same with the code in it.
    pub(crate) fn verification_uri_complete(&self) -> Option<&str> {
        self.0.verification_uri_complete().map(|uri| uri.secret().as_str())
    }

    pub(crate) fn user_code(&self) -> &str {
        self.0.user_code().secret()
    }

    /// Polls the token endpoint (RFC 8628 §3.4) until the person has decided.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Network`], [`Error::Answer`].
    pub(crate) async fn poll(&self, endpoint: &TokenEndpoint) -> Result<Map<String, Value>, Error> {
        let step = Step::DeviceSignIn;
        let oauth = OAuthClient::new(ClientId::new(endpoint.client().id.clone()))
            .set_token_uri(TokenUrl::from_url(endpoint.server().token_endpoint()?));
        let poll = oauth
            .exchange_device_access_token::<EmptyExtraDeviceAuthorizationFields>(&self.0)
            .add_extra_param(RESOURCE.0, RESOURCE.1)
            .set_max_backoff_interval(LONGEST_POLL_PAUSE)
            .request_async(endpoint, tokio::time::sleep, None)
            .await;
        members(step, &poll.map_err(|error| endpoint.refusal(step, &error))?)
    }
}

fn members(step: Step, response: &OAuthTokenResponse) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(response) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Error::Answer { step, what: UNREADABLE.to_owned(), status: None }),
    }
}

/// Returns a token response as rmcp gives it back, for fuzz targets; `None` if rmcp takes it for none.
#[must_use]
pub fn library_token_response(body: &[u8]) -> Option<Vec<u8>> {
    let response = serde_json::from_slice::<OAuthTokenResponse>(body).ok()?;
    serde_json::to_vec(&members(Step::Tokens, &response).ok()?).ok()
}

/// Returns address and code of the answer to a device authorization request, for fuzz targets; `None` if `oauth2` takes it
/// for none.
#[must_use]
pub fn device_authorization_of(body: &[u8]) -> Option<[String; 2]> {
    let details = DeviceAuthorization(serde_json::from_slice(body).ok()?);
    Some(
        [details.verification_uri_complete().unwrap_or_else(|| details.verification_uri()), details.user_code()]
            .map(Into::into),
    )
}

impl TokenEndpoint {
    /// Sends a request as rmcp and `oauth2` have made it. They make a text of an error, so it is kept.
    async fn carry_out(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        self.translate(request).await.inspect_err(|error| self.keep_refusal(Some(error.clone())))
    }

    async fn translate(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        let url = self.http().address("an endpoint", &request.uri().to_string()).await?;
        let answer = self.post(&url, form::decode(request.body())).await?;
        // As it is kept: without what the answer repeats of the form's secrets.
        let refusal = self.kept_refusal();
        let may_pass = Disposition::of(answer.status).may_pass();
        if let (true, Some(error @ (Error::Answer { .. } | Error::Busy { .. }))) = (may_pass, &refusal) {
            return Err(error.clone()); // a failed request to oauth2, which goes on polling then
        }
        let mut status = answer.status;
        let mut body = answer.body.to_vec();
        if let Some(Error::Refused { error, description, .. }) = refusal {
            // An error with HTTP 200 (GitHub), or with any other status: oauth2 understands 400.
            status = StatusCode::BAD_REQUEST;
            let mut told = Map::from_iter([("error".to_owned(), Value::from(error.as_str()))]);
            if let Some(description) = description {
                told.insert("error_description".to_owned(), description.into());
            }
            body = Value::Object(told).to_string().into_bytes();
        } else if let Ok(mut content) = serde_json::from_slice::<Map<String, Value>>(&body) {
            straighten(&mut content);
            body = Value::Object(content).to_string().into_bytes();
        }
        let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
        response.body(body).map_err(|error| Error::Local(error.to_string()))
    }
}

impl OAuthHttpClient for TokenEndpoint {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move { Ok(self.carry_out(request.request).await?) })
    }
}

impl<'c> oauth2::AsyncHttpClient<'c> for TokenEndpoint {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, Error>> + Send + 'c>>;

    fn call(&'c self, request: Request<Vec<u8>>) -> Self::Future {
        Box::pin(self.carry_out(request))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::oauth::{
        http::client::{Answer, tests::scripted},
        protocol::{
            client_auth::{Client, Origin},
            metadata::Metadata,
            token_endpoint::{Accepted, Parts},
        },
    };

    const REDIRECT_URI: &str = "http://localhost:1/oauth/callback";

    type Forms = Arc<Mutex<Vec<HashMap<String, String>>>>;

    /// A token endpoint that answers so, and the forms that it got.
    fn endpoint(answers: &[(u16, Value)]) -> (TokenEndpoint, Forms) {
        let forms = Forms::default();
        let (received, answers) = (forms.clone(), Mutex::new(answers.to_vec()));
        let http = scripted(move |_, body| {
            received.guard().push(form::decode(body).into_iter().collect());
            let (status, body) = answers.guard().remove(0);
            let status = StatusCode::from_u16(status).unwrap();
            Answer { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
        });
        let issuer = "https://203.0.113.2";
        let metadata = json!({
            "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            "authorization_response_iss_parameter_supported": true
        });
        let metadata = Metadata::of(metadata.to_string().as_bytes()).unwrap();
        let endpoint = TokenEndpoint::new(Parts {
            known_method: None,
            accepted: Accepted::nowhere(),
            http: Arc::new(http),
            server: AuthorizationServer { issuer: issuer.to_owned(), metadata, published: true },
            client: Client::public("the-client".to_owned(), Origin::Stored),
            resource: Some("https://203.0.113.1/mcp".to_owned()),
            prover: None,
            key: None,
        });
        (endpoint, forms)
    }

    fn scopes() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[tokio::test]
    async fn code_is_exchanged_with_its_verifier() {
        let token = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": "60", "unknown": { "x": 1 } });
        let (endpoint, forms) = endpoint(&[(200, token)]);
        let (url, pending) = authorization_request(&endpoint, REDIRECT_URI, &scopes()).await.unwrap();
        let url = Url::parse(&url).unwrap();
        let asked: HashMap<_, _> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "the-client"),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "a b"),
            ("code_challenge_method", "S256"),
            ("state", &pending.state),
        ] {
            assert_eq!(asked[name], value, "{name}");
        }
        assert_eq!((pending.expected_issuer.as_deref(), pending.require_issuer), (Some("https://203.0.113.2"), true));
        assert_eq!(pending.requested_scopes, scopes());
        let response = redeem(&endpoint, REDIRECT_URI, &pending, "the-code", true).await.unwrap();
        assert_eq!((&response["access_token"], &response["expires_in"]), (&json!("t"), &json!(60)));
        assert_eq!(response["unknown"], json!({ "x": 1 }), "members that rmcp does not know stay");
        let form = &forms.guard()[0];
        for (name, value) in [
            ("grant_type", "authorization_code"),
            ("code", "the-code"),
            ("code_verifier", &pending.pkce_verifier),
            ("redirect_uri", REDIRECT_URI),
            ("client_id", "the-client"),
            ("resource", "https://203.0.113.1/mcp"),
        ] {
            assert_eq!(form[name], value, "{name}");
        }
    }

    #[tokio::test]
    async fn error_answer_is_the_servers_whatever_its_status() {
        let refused = json!({ "error": "bad_verification_code", "error_description": "The code is wrong" });
        for status in [200, 400, 401, 500] {
            let (endpoint, _) = endpoint(&[(status, refused.clone())]);
            let (_, pending) = authorization_request(&endpoint, REDIRECT_URI, &[]).await.unwrap();
            let error = redeem(&endpoint, REDIRECT_URI, &pending, "the-code", true).await.unwrap_err();
            let told = "the authorization server rejected the authorization code exchange: bad_verification_code (\"The code is wrong\")";
            assert_eq!(error.to_string(), told, "{status}");
        }
    }

    #[tokio::test]
    async fn unreadable_token_response_is_not_quoted() {
        for answer in [json!("the-token"), json!({ "access_token": "a", "token_type": "b", "refresh_token": 4711 })] {
            let (endpoint, _) = endpoint(&[(200, answer)]);
            let (_, pending) = authorization_request(&endpoint, REDIRECT_URI, &[]).await.unwrap();
            let error = redeem(&endpoint, REDIRECT_URI, &pending, "the-code", true).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "the authorization code exchange failed: the response is not a token response"
            );
        }
        let held =
            json!({ "access_token": "a", "token_type": "Bearer", "refresh_token": "r", "expires_in": "the-token" });
        let held = held.as_object().unwrap().clone();
        let (endpoint, _) = endpoint(&[]);
        let error = refresh(&endpoint, held, scopes(), false, Arc::new(|response, _, _| response)).await.unwrap_err();
        assert!(!error.to_string().contains("the-token"), "{error}");
    }

    #[tokio::test]
    async fn refresh_sends_scopes_only_if_required() {
        let held = json!({ "access_token": "old", "token_type": "Bearer", "refresh_token": "the-refresh-token" });
        let new = json!({ "access_token": "new", "token_type": "Bearer" });
        for names_scopes in [false, true] {
            let (endpoint, forms) = endpoint(&[(200, new.clone())]);
            let kept: Arc<Mutex<Option<Value>>> = Arc::default();
            let keeper = kept.clone();
            let keep: Keep = Arc::new(move |response, _, _| {
                *keeper.guard() = response.get("access_token").cloned();
                response
            });
            let held = held.as_object().unwrap().clone();
            refresh(&endpoint, held, scopes(), names_scopes, keep).await.unwrap();
            assert_eq!(*kept.guard(), Some(json!("new")));
            let form = &forms.guard()[0];
            assert_eq!((&*form["grant_type"], &*form["refresh_token"]), ("refresh_token", "the-refresh-token"));
            assert_eq!(form.get("scope").map(String::as_str), names_scopes.then_some("a b"));
            assert_eq!(form["resource"], "https://203.0.113.1/mcp");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn device_is_polled_until_user_decides() {
        let begun = json!({
            "device_code": "the-device-code", "user_code": "U-1", "verification_uri": "https://203.0.113.2/device",
            "expires_in": 600, "interval": "5"
        });
        let pending = json!({ "error": "authorization_pending" });
        let decided = json!({ "access_token": "t", "token_type": "Bearer" });
        let (endpoint, forms) =
            endpoint(&[(200, begun.clone()), (400, pending.clone()), (503, json!({})), (200, decided)]);
        let url = Url::parse("https://203.0.113.2/device_authorization").unwrap();
        let code = DeviceAuthorization::request(&endpoint, &url, &scopes()).await.unwrap();
        assert_eq!((code.user_code(), code.verification_uri()), ("U-1", "https://203.0.113.2/device"));
        let start = tokio::time::Instant::now();
        assert_eq!(code.poll(&endpoint).await.unwrap()["access_token"], "t");
        assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(forms.guard().len(), 4);
    }
}
