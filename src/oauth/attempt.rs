//! One attempt to obtain a credential: the authorization server, and what it is asked for.
//!
//! # Invariants
//!
//! - A configured client, or a program's credential, is not shown to another authorization server than its own.
//! - The assertion of a platform goes to no authorization server that only the MCP server names.

use std::{collections::HashSet, sync::Arc};

use reqwest::Url;

use super::{
    context::Context,
    credential::Credential,
    error::{Error, ScopeLimit},
    fact::AuthorizationFact,
    progress::Progress,
    protocol::{
        challenge::Challenge,
        client_auth::Client,
        discovery,
        dpop::Prover,
        issuer::same_issuer,
        jws::SigningKey,
        metadata::{AuthorizationServer, Discovered},
        mix_up::is_same_site,
        scope::{self, OFFLINE_ACCESS},
        token_endpoint::{Accepted, Parts, TokenEndpoint},
    },
    stored::{
        provenance::Provenance,
        remedies::{Remedies, Remedy},
    },
};
use crate::{
    config::{Authorization, Dpop, Endpoints, Grant, Resource},
    report::{self, Code},
    secret::Secret,
    text::host,
};

/// Longest scopes and resource, in bytes: they go into an address, which servers, browsers and the
/// arguments of a program on Windows (32 KiB) do not take longer.
const LONGEST_WISH: usize = 32 * 1024;

/// One walk from a challenge to a credential.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizationAttempt {
    pub(crate) discovered: Discovered,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: Option<String>,
    pub(crate) prover: Option<Arc<Prover>>,
    /// The credential that was refused or is about to end.
    pub(crate) used: Option<Arc<Credential>>,
    /// Scopes that a newer credential must have.
    pub(crate) needed: Vec<String>,
    /// What is done otherwise for this authorization server.
    pub(crate) remedies: Vec<Remedy>,
    pub(crate) progress: Progress,
}

/// Finds the authorization server, and reports it.
pub(crate) async fn discover(
    context: &Context,
    challenge: &Challenge,
    used: Option<&Arc<Credential>>,
) -> Result<Discovered, Error> {
    let settings = &context.settings;
    let discovered = match (settings.grant.token_endpoint(), &settings.endpoints) {
        (Some(token), _) => Discovered { resource: None, server: AuthorizationServer::of_endpoints(token, None) },
        (None, Some(Endpoints { authorization, token })) => {
            Discovered { resource: None, server: AuthorizationServer::of_endpoints(token, Some(authorization)) }
        }
        (None, None) => {
            let present = used.and_then(|used| used.tokens().issuer());
            discovery::discover(&context.http, challenge, present).await?
        }
    };
    context.facts.tell(|| AuthorizationFact::Discovered(Box::new(discovered.clone())));
    context.held().discovered = Some(discovered.clone());
    Ok(discovered)
}

impl AuthorizationAttempt {
    /// Returns what follows from what was discovered. `needed` are the scopes of a step-up, which must not lose those
    /// that are held.
    ///
    /// # Errors
    /// Where the authorization server does not give what is wanted, or is not the client's.
    pub(crate) fn new(
        context: &Context,
        discovered: Discovered,
        challenge: &Challenge,
        used: Option<Arc<Credential>>,
        needed: Option<Vec<String>>,
        progress: Progress,
    ) -> Result<Self, Error> {
        let settings = &context.settings;
        // What a step-up must keep: what was asked for before, and what was granted.
        let mut held = Vec::new();
        if let Some(used) = used.as_ref().filter(|_| needed.is_some()) {
            let file = context.token_file(used.is_bound());
            let noted = Provenance::load(&context.store, file, used.tokens());
            held.extend(noted.into_iter().flat_map(|from| from.requested_scopes));
            held.extend(used.tokens().scopes());
            let mut seen = HashSet::new();
            held.retain(|scope| seen.insert(scope.clone()));
        }
        let pinned = pinned_scopes(settings);
        let scopes = scope::wanted(pinned.as_deref(), settings.grant.needs_person(), challenge, &discovered, &held);
        let resource = match &settings.resource {
            Resource::Named(named) => Some(named.clone()),
            Resource::Omitted => None,
            Resource::Published if settings.grant.token_endpoint().is_some() => None,
            Resource::Published => Some(match &discovered.resource {
                Some(published) => published.resource.clone(),
                None => discovery::canonical(context.http.server()),
            }),
        };
        let length: usize = scopes.iter().chain(&resource).map(String::len).sum();
        if length > LONGEST_WISH {
            return Err(Error::Metadata(format!(
                "the server names scopes of {length} bytes, which is too long for a URL"
            )));
        }
        let prover = prover(context, &discovered, challenge, used.as_deref())?;
        let needed = needed.unwrap_or_default();
        let attempt = Self { discovered, scopes, resource, prover, used, needed, remedies: Vec::new(), progress };
        attempt.check_issuer(context)?;
        Ok(attempt)
    }

    /// A configured client, or a program's credential, belongs to one authorization server; where the MCP
    /// server now names another one, it is not shown there (MCP 2026-07-28, Client Registration).
    fn check_issuer(&self, context: &Context) -> Result<(), Error> {
        let settings = &context.settings;
        let info = settings.client_info.as_ref().map(Secret::expose);
        let needs_none = info.is_none() && settings.grant.needs_person() && settings.issuer.is_none();
        if needs_none || settings.grant.token_endpoint().is_some() || settings.endpoints.is_some() {
            return Ok(());
        }
        let noted = || info.and_then(|info| info.get("issuer")?.as_str());
        let used = || self.used.as_ref().and_then(|used| used.tokens().issuer());
        let named = &self.discovered.server.issuer;
        match settings.issuer.as_deref().or_else(noted).or_else(used) {
            Some(registered) if same_issuer(registered, named) => Ok(()),
            Some(registered) => Err(Error::OtherIssuer { registered: registered.to_owned(), named: named.clone() }),
            None if is_at(context.http.server(), named) => Ok(()),
            None if matches!(settings.grant, Grant::WorkloadIdentity(_)) => {
                Err(Error::IssuerNotNamed { named: named.clone() })
            }
            None => {
                if info.is_some_and(|info| info.contains_key("client_secret")) {
                    let server = host(context.http.server());
                    let sentence = format!(
                        "mcp-remote sends your client_secret to {named}, which only {server} names as its authorization server"
                    );
                    context.facts.warn(report::warn(Code::IssuerNotNamed, sentence));
                }
                Ok(())
            }
        }
    }

    /// Checks that there is a scope to ask a person for that the credential in use lacks, where a step-up is wanted by a
    /// server that names none. Without one, the person would consent to the same again.
    ///
    /// # Errors
    /// [`Error::NoMoreScopes`].
    pub(crate) fn check_step_up(&self, context: &Context) -> Result<(), Error> {
        let Some(used) = self.used.as_ref().filter(|_| self.needed.is_empty()) else { return Ok(()) };
        let granted = used.tokens().scopes();
        let is_more = |scope: &String| {
            // It asks for a refresh token, and some grant it without listing it.
            scope != OFFLINE_ACCESS && !granted.contains(scope) && !context.held().step_ups.has_asked(scope)
        };
        if self.scopes.iter().any(is_more) {
            return Ok(());
        }
        let lists_some = self.discovered.resource.as_ref().is_some_and(|resource| !resource.scopes.is_empty());
        let limit = match pinned_scopes(&context.settings) {
            Some(_) => ScopeLimit::Configured,
            None if lists_some => ScopeLimit::AllRequested,
            None => ScopeLimit::NoneListed,
        };
        Err(Error::NoMoreScopes { limit })
    }

    /// Returns a credential on disk that is newer than the one that was used, and good for this attempt.
    pub(crate) fn newer(&self, context: &Context) -> Option<Credential> {
        let stored = context.stored()?;
        let is_other = self.used.as_ref().is_none_or(|used| !used.is(&stored));
        let tokens = stored.tokens();
        let good = is_other
            && tokens.has_scopes(&self.needed)
            && !tokens.has_expired(context.now())
            && tokens.issuer().is_none_or(|issuer| same_issuer(issuer, &self.discovered.server.issuer));
        good.then_some(stored)
    }

    /// Returns the token endpoint for this client; `key` signs the client's assertions.
    pub(crate) fn token_endpoint(&self, context: &Context, client: Client, key: Option<SigningKey>) -> TokenEndpoint {
        let (store, issuer) = (context.store.clone(), self.discovered.server.issuer.clone());
        let known_method =
            client.secret.as_ref().and_then(|_| Remedies::client_authentication(&context.store, &issuer));
        TokenEndpoint::new(Parts {
            known_method,
            accepted: Accepted::new(move |method| Remedies::save_client_authentication(&store, &issuer, method)),
            http: context.http.clone(),
            server: self.discovered.server.clone(),
            client,
            resource: self.resource.clone(),
            prover: self.prover.clone(),
            key,
        })
    }

    pub(crate) fn has(&self, remedy: Remedy) -> bool {
        self.remedies.contains(&remedy)
    }
}

/// Whether an issuer is of the MCP server's own site, to which the user has sent us.
fn is_at(server: &Url, issuer: &str) -> bool {
    Url::parse(issuer).is_ok_and(|issuer| is_same_site(&issuer, server))
}

/// Returns the scopes that the user has written in `--static-oauth-client-metadata`.
pub(crate) fn pinned_scopes(settings: &Authorization) -> Option<Vec<String>> {
    let scope = settings.client_metadata.as_ref()?.get("scope")?.as_str()?;
    Some(scope::split(Some(scope)))
}

/// Returns what proves possession of this program's key, if tokens are to be bound to it.
fn prover(
    context: &Context,
    discovered: &Discovered,
    challenge: &Challenge,
    used: Option<&Credential>,
) -> Result<Option<Arc<Prover>>, Error> {
    let is_wanted = discovered.resource.as_ref().is_some_and(|resource| resource.wants_dpop)
        || (challenge.dpop && !challenge.bearer)
        || used.is_some_and(Credential::is_bound);
    match context.settings.dpop {
        Dpop::Off => return Ok(None),
        Dpop::Auto if !is_wanted => return Ok(None),
        Dpop::Auto | Dpop::Require => {}
    }
    // RFC 9449 §5.1, §7.1: what may sign, where that is said.
    let listed = discovered.server.metadata.dpop_signing_alg_values_supported.as_deref();
    let accepts = |list: &[String]| list.is_empty() || list.iter().any(|name| name == Prover::ALGORITHM);
    if !accepts(&challenge.dpop_algorithms) || !accepts(listed.unwrap_or_default()) {
        let issuer = discovered.server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "does not accept DPoP proofs signed with ES256" });
    }
    context.prover().map(Some)
}
