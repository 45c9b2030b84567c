//! Documents that describe an MCP server (RFC 9728 §2) and an authorization server (RFC 8414 §2, OpenID Connect
//! Discovery §3): their members that are used here, and what follows from them.
//!
//! # Invariants
//!
//! - Nothing is taken for supported because it is not said to be unsupported, but for what a document lets mean that.

use reqwest::Url;
use serde::Serialize;

use super::members::{Fault, Members, spared};
use crate::oauth::error::Error;

/// What is known of the server and of who issues tokens for it.
#[derive(Clone, Debug)]
pub(crate) struct Discovered {
    /// The MCP server's metadata; `None` if it publishes none.
    pub(crate) resource: Option<ProtectedResource>,
    /// Who issues tokens.
    pub(crate) server: AuthorizationServer,
}

/// Protected resource metadata (RFC 9728 §2), the members that are used.
#[derive(Clone, Debug)]
pub(crate) struct ProtectedResource {
    /// The resource indicator, as it was published.
    pub(crate) resource: String,
    /// All scopes there are.
    pub(crate) scopes: Vec<String>,
    /// Where the document was, if the challenge said so.
    pub(crate) advertised: Option<String>,
    /// Whether tokens must be bound to a key (RFC 9449): `dpop_bound_access_tokens_required`.
    pub(crate) wants_dpop: bool,
}

/// An authorization server.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthorizationServer {
    /// Its name as it stands in its own metadata; for one without metadata, the base of its endpoints.
    pub(crate) issuer: String,
    /// Its endpoints and abilities.
    pub(crate) metadata: Metadata,
    /// Whether the metadata are published, or the defaults of MCP 2025-03-26.
    pub(crate) published: bool,
}

/// Authorization server metadata (RFC 8414 §2), the members that are used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: Option<String>,
    /// For the browser.
    pub(crate) authorization_endpoint: Option<String>,
    /// For grants.
    pub(crate) token_endpoint: Option<String>,
    /// RFC 7591.
    pub(crate) registration_endpoint: Option<String>,
    /// RFC 8628 §4.
    pub(crate) device_authorization_endpoint: Option<String>,
    /// RFC 7009.
    pub(crate) revocation_endpoint: Option<String>,
    /// All scopes there are.
    pub(crate) scopes_supported: Option<Vec<String>>,
    pub(crate) response_types_supported: Option<Vec<String>>,
    /// All grants there are.
    pub(crate) grant_types_supported: Option<Vec<String>>,
    /// How clients may authenticate.
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// How assertions may be signed.
    pub(crate) token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    pub(crate) code_challenge_methods_supported: Option<Vec<String>>,
    /// A client id may be the address of a document.
    pub(crate) client_id_metadata_document_supported: Option<bool>,
    pub(crate) authorization_response_iss_parameter_supported: Option<bool>,
    /// RFC 9449 §5.1.
    pub(crate) dpop_signing_alg_values_supported: Option<Vec<String>>,
}

/// Protected resource metadata (RFC 9728 §2) as they were published.
#[derive(Debug, Serialize)]
pub(crate) struct ResourceMetadata {
    /// Of what they are. One is demanded; some name several, or none.
    #[serde(rename = "resource")]
    pub(crate) resources: Vec<String>,
    pub(crate) authorization_servers: Vec<String>,
    pub(crate) scopes_supported: Vec<String>,
    pub(crate) dpop_bound_access_tokens_required: bool,
}

impl ResourceMetadata {
    /// Reads a document.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn of(body: &[u8]) -> Result<Self, Fault> {
        let members = Members::of(body)?;
        let resources = match members.text("resource") {
            Ok(resource) => resource.into_iter().collect(),
            Err(fault) => members.list("resource").map_err(|_| fault)?.unwrap_or_default(),
        };
        Ok(Self {
            resources,
            authorization_servers: members.list("authorization_servers")?.unwrap_or_default(),
            scopes_supported: spared(members.list("scopes_supported")).unwrap_or_default(),
            dpop_bound_access_tokens_required: members.flag("dpop_bound_access_tokens_required")? == Some(true),
        })
    }
}

impl Metadata {
    /// Reads a document.
    ///
    /// # Errors
    /// [`Fault`], for a member without which nobody can sign in.
    pub(crate) fn of(body: &[u8]) -> Result<Self, Fault> {
        let members = Members::of(body)?;
        let text = |name| spared(members.text(name));
        let list = |name| spared(members.list(name));
        let flag = |name| spared(members.flag(name));
        Ok(Self {
            issuer: members.text("issuer")?,
            authorization_endpoint: members.text("authorization_endpoint")?,
            token_endpoint: members.text("token_endpoint")?,
            registration_endpoint: text("registration_endpoint"),
            device_authorization_endpoint: text("device_authorization_endpoint"),
            revocation_endpoint: text("revocation_endpoint"),
            scopes_supported: list("scopes_supported"),
            response_types_supported: list("response_types_supported"),
            grant_types_supported: list("grant_types_supported"),
            token_endpoint_auth_methods_supported: list("token_endpoint_auth_methods_supported"),
            token_endpoint_auth_signing_alg_values_supported: list("token_endpoint_auth_signing_alg_values_supported"),
            code_challenge_methods_supported: list("code_challenge_methods_supported"),
            client_id_metadata_document_supported: flag("client_id_metadata_document_supported"),
            authorization_response_iss_parameter_supported: flag("authorization_response_iss_parameter_supported"),
            dpop_signing_alg_values_supported: list("dpop_signing_alg_values_supported"),
        })
    }
}

impl AuthorizationServer {
    /// Endpoints that were named on the command line, with nothing published.
    pub(crate) fn of_endpoints(token: &Url, authorization: Option<&Url>) -> Self {
        let metadata = Metadata {
            token_endpoint: Some(token.to_string()),
            authorization_endpoint: authorization.map(ToString::to_string),
            ..Metadata::default()
        };
        Self { issuer: origin(token), metadata, published: false }
    }

    /// Checks whether the authorization-code grant may be used: `code`, and S256 listed (MCP 2025-11-25,
    /// Authorization Code Protection), or supported all the same as `knows_s256` has it. Where nothing is published
    /// there is nothing to look at.
    ///
    /// # Errors
    /// [`Error::NoPkce`], [`Error::Unsupported`].
    pub(crate) fn check_code_grant(&self, knows_s256: impl FnOnce() -> bool) -> Result<(), Error> {
        let issuer = || self.issuer.clone();
        let metadata = &self.metadata;
        if metadata.response_types_supported.as_ref().is_some_and(|types| !types.iter().any(|kind| kind == "code")) {
            return Err(Error::Unsupported { issuer: issuer(), what: "does not support the authorization code grant" });
        }
        let listed = metadata.code_challenge_methods_supported.iter().flatten().any(|method| method == "S256");
        if !self.published || listed || knows_s256() { Ok(()) } else { Err(Error::NoPkce { issuer: issuer() }) }
    }

    /// Whether redirects carry `iss` (RFC 9207 §3).
    pub(crate) fn sends_issuer(&self) -> bool {
        self.metadata.authorization_response_iss_parameter_supported == Some(true)
    }

    /// Whether `name` is among the scopes it knows.
    pub(crate) fn knows_scope(&self, name: &str) -> bool {
        self.metadata.scopes_supported.iter().flatten().any(|scope| scope == name)
    }

    /// The token endpoint.
    ///
    /// # Errors
    /// [`Error::Metadata`] if there is none.
    pub(crate) fn token_endpoint(&self) -> Result<Url, Error> {
        let endpoint = self.metadata.token_endpoint.as_deref();
        let missing = || Error::Metadata(format!("the metadata of {} names no token endpoint", self.issuer));
        Url::parse(endpoint.ok_or_else(missing)?).map_err(|_| missing())
    }
}

/// Returns a document about an authorization server, written again as it was read, for fuzz targets.
///
/// # Errors
/// Why it cannot be used.
pub fn metadata_of(body: &[u8]) -> Result<String, String> {
    let metadata = Metadata::of(body).map_err(|fault| fault.to_string())?;
    serde_json::to_string(&metadata).map_err(|error| error.to_string())
}

/// Returns a document about an MCP server, written again as it was read, for fuzz targets.
///
/// # Errors
/// Why it cannot be used.
pub fn resource_metadata_of(body: &[u8]) -> Result<String, String> {
    let metadata = ResourceMetadata::of(body).map_err(|fault| fault.to_string())?;
    serde_json::to_string(&metadata).map_err(|error| error.to_string())
}

/// Scheme, host and port, without a slash at the end.
pub(crate) fn origin(server: &Url) -> String {
    server.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s256_must_be_listed_or_known() {
        for (methods, known, allowed) in [
            (Some(vec!["plain", "S256"]), false, true),
            (None, false, false),
            (None, true, true),
            (Some(vec!["plain"]), false, false),
        ] {
            let methods: Option<Vec<String>> = methods.map(|methods| methods.into_iter().map(Into::into).collect());
            let metadata = Metadata { code_challenge_methods_supported: methods.clone(), ..Metadata::default() };
            let server = AuthorizationServer { issuer: "https://as.example".to_owned(), metadata, published: true };
            assert_eq!(server.check_code_grant(|| known).is_ok(), allowed, "{methods:?} {known}");
        }
        assert!(AuthorizationServer::default().check_code_grant(|| false).is_ok(), "nothing is published");
    }
}
