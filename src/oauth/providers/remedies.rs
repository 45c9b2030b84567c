//! What helps against the failures that providers are known for ([`super::table`]): tried once, logged, and kept
//! for this server and this issuer ([`crate::oauth::stored::remedies`]) if it helped. The user's flags come first: what
//! they decide, no remedy touches.
//!
//! # Invariants
//!
//! - PKCE, `state` and `iss` are not touched.
//! - No token loses its audience (RFC 8707 §2) where the scopes do not name it instead.

use log::{debug, info};
use reqwest::Url;

use super::table::{Row, When, rows};
use crate::{
    config::{Authorization, Resource},
    oauth::{
        attempt::{AuthorizationAttempt, pinned_scopes},
        context::Context,
        error::{Error, ErrorCode},
        fact::AuthorizationFact,
        protocol::{
            metadata::AuthorizationServer,
            scope::{self, OFFLINE_ACCESS},
        },
        stored::{
            remedies::{Remedies, Remedy},
            tokens::Tokens,
        },
    },
};

/// The scope that identifies the user and grants nothing else (OpenID Connect Core §3.1.2.1).
const OPENID: &str = "openid";

/// Whether a remedy would change anything, and the user has left it open.
fn is_open(remedy: Remedy, settings: &Authorization, attempt: &AuthorizationAttempt) -> bool {
    let free = |name: &str| settings.authorize_params.iter().all(|(known, _)| known != name);
    let resource = settings.resource == Resource::Published && attempt.resource.is_some();
    !attempt.has(remedy)
        && match remedy {
            Remedy::OmitResource => resource && names_resource(&attempt.scopes, attempt.resource.as_deref()),
            Remedy::NameAudience => resource && free("audience"),
            Remedy::OmitOfflineAccess => {
                let asked = |scopes: &[String]| scopes.iter().any(|scope| scope == OFFLINE_ACCESS);
                pinned_scopes(settings).is_none() && asked(&attempt.scopes) && !asked(&attempt.needed)
            }
            Remedy::AskOpenid => {
                let other = attempt.scopes.iter().any(|scope| scope != OFFLINE_ACCESS);
                pinned_scopes(settings).is_none() && !other && attempt.discovered.server.knows_scope(OPENID)
            }
            Remedy::AccessTypeOffline => free("access_type"),
            Remedy::PromptConsent => free("prompt"),
            Remedy::OmitPrompt => free("prompt") && scope::needs_consent(&attempt.scopes),
            Remedy::NameScopes => true,
        }
}

fn apply(remedy: Remedy, attempt: &mut AuthorizationAttempt) {
    match remedy {
        Remedy::OmitResource => attempt.resource = None,
        Remedy::OmitOfflineAccess => attempt.scopes.retain(|scope| scope != OFFLINE_ACCESS),
        Remedy::AskOpenid => attempt.scopes.insert(0, OPENID.to_owned()),
        Remedy::NameAudience
        | Remedy::AccessTypeOffline
        | Remedy::PromptConsent
        | Remedy::OmitPrompt
        | Remedy::NameScopes => {}
    }
    attempt.remedies.push(remedy);
}

/// Returns what is done, and the flag that decides it.
const fn words(remedy: Remedy) -> (&'static str, &'static str) {
    match remedy {
        Remedy::OmitResource => {
            ("without the resource indicator", "--disable-resource-parameter does so always, --resource URI never")
        }
        Remedy::NameAudience => ("with the resource as audience", "--authorize-param audience=NAME overrules it"),
        Remedy::OmitOfflineAccess => {
            ("without the scope offline_access", "the scopes in --static-oauth-client-metadata overrule it")
        }
        Remedy::AskOpenid => ("with the scope openid", "the scopes in --static-oauth-client-metadata overrule it"),
        Remedy::AccessTypeOffline => ("with access_type=offline", "--authorize-param access_type=… overrules it"),
        Remedy::PromptConsent => ("with prompt=consent", "--authorize-param prompt=… overrules it"),
        Remedy::OmitPrompt => ("without prompt=consent", "--authorize-param prompt=… overrules it"),
        Remedy::NameScopes => ("with the scopes in a refresh", "they are those that were granted"),
    }
}
/// Returns what the authorization request has besides what rmcp makes: consent for a refresh token (OpenID Connect Core
/// §11), and what remedies add.
pub(crate) fn parameters(attempt: &AuthorizationAttempt) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    if let Some(resource) = attempt.resource.as_ref().filter(|_| attempt.has(Remedy::NameAudience)) {
        pairs.push(("audience", resource.clone()));
    }
    if attempt.has(Remedy::AccessTypeOffline) {
        pairs.push(("access_type", "offline".to_owned()));
    }
    let needs_consent = scope::needs_consent(&attempt.scopes) && !attempt.has(Remedy::OmitPrompt);
    if needs_consent || attempt.has(Remedy::PromptConsent) {
        pairs.push(("prompt", "consent".to_owned()));
    }
    pairs
}

fn log_sources(row: &Row) {
    debug!("{}: {}, see {}", row.provider.unwrap_or("any"), words(row.remedy).0, row.sources.join(", "));
}

/// Whether scopes say what a token is for as well as the resource indicator does: each that is not of
/// OpenID Connect begins with the resource's own host, or with an application's id. Without both, Entra
/// makes tokens for Microsoft Graph, and any server could ask for them.
fn names_resource(scopes: &[String], resource: Option<&str>) -> bool {
    const NOBODYS: [&str; 4] = [OPENID, "profile", "email", OFFLINE_ACCESS]; // OpenID Connect Core §5.4, §11
    let resource = resource.and_then(|resource| Url::parse(resource).ok());
    let own = |scope: &str| {
        let Ok(scope) = Url::parse(scope) else { return false };
        scope.scheme() == "api"
            || scope.scheme() == "https" && resource.as_ref().is_some_and(|own| own.host_str() == scope.host_str())
    };
    let mut named = scopes.iter().filter(|scope| !NOBODYS.contains(&scope.as_str())).peekable();
    named.peek().is_some() && named.all(|scope| own(scope))
}

fn with(attempt: &AuthorizationAttempt, remedy: Remedy) -> AuthorizationAttempt {
    let mut attempt = attempt.clone();
    apply(remedy, &mut attempt);
    attempt
}

/// Applies what holds from the start, and what has helped before.
pub(crate) fn prepare(context: &Context, attempt: &mut AuthorizationAttempt) {
    let server = attempt.discovered.server.clone();
    let known = Remedies::load(&context.store, &server.issuer, &attempt.scopes);
    for row in rows(&server) {
        let always = matches!(row.when, When::Always);
        if (always || known.contains(&row.remedy)) && is_open(row.remedy, &context.settings, attempt) {
            if !always {
                let (words, flag) = words(row.remedy);
                info!("signing in with {} {words}, as this worked before ({flag})", server.issuer);
            }
            log_sources(row);
            apply(row.remedy, attempt);
        }
    }
}

/// Whether a look at the authorize page may show a failure that there is a remedy for.
pub(crate) fn may_help(context: &Context, attempt: &AuthorizationAttempt) -> bool {
    rows(&attempt.discovered.server)
        .any(|row| matches!(row.when, When::Refused(_)) && is_open(row.remedy, &context.settings, attempt))
}

/// Returns the words of a page that refuses in a known way.
pub(crate) fn refusal_in(server: &AuthorizationServer, page: &[u8]) -> Option<&'static str> {
    let page = String::from_utf8_lossy(page);
    rows(server).find_map(|row| match row.when {
        When::Refused(words) if says(&page, words) => Some(words),
        _ => None,
    })
}

/// Returns what helps against this refusal, if that is known, open, and not tried yet.
fn against(context: &Context, attempt: &AuthorizationAttempt, error: &Error) -> Option<&'static Row> {
    let Error::Refused { error, description, .. } = error else { return None };
    let told = format!("{} {}", error.as_str(), description.as_deref().unwrap_or_default());
    rows(&attempt.discovered.server)
        .filter(|row| match row.when {
            When::Refused(words) => says(&told, words),
            When::PromptRefused => error.is_of_request() && (says(&told, "prompt") || description.is_none()),
            _ => false,
        })
        .find(|row| is_open(row.remedy, &context.settings, attempt))
}

/// Returns the attempt as it is to be tried once more after this refusal, if anything is known to help.
pub(crate) fn after_refusal(
    context: &Context,
    attempt: &AuthorizationAttempt,
    error: &Error,
) -> Option<AuthorizationAttempt> {
    let row = against(context, attempt, error)?;
    let (words, flag) = words(row.remedy);
    let known = row.provider.map_or_else(String::new, |provider| format!(", as {provider} is known to need"));
    // Nothing but the scopes says then whose application the token is for.
    let for_what = match row.remedy {
        Remedy::OmitResource => format!(", for a token with {}", attempt.scopes.join(" ")),
        _ => String::new(),
    };
    say(context, format!("{error}; trying again {words}{for_what}{known} ({flag})"));
    log_sources(row);
    Some(with(attempt, row.remedy))
}

fn say(context: &Context, what: String) {
    info!("{what}");
    context.facts.tell(|| AuthorizationFact::Remedied(what));
}

/// Whether anything is known to help against this refusal.
pub(crate) fn are_known(context: &Context, attempt: &AuthorizationAttempt, error: &Error) -> bool {
    against(context, attempt, error).is_some()
}

/// Returns the same after the server has refused a token that was new.
pub(crate) fn after_token_refused(context: &Context, attempt: &AuthorizationAttempt) -> Option<AuthorizationAttempt> {
    let opaque = attempt.used.as_ref().is_some_and(|used| is_opaque(used.tokens()));
    let mut rows = rows(&attempt.discovered.server).filter(|row| matches!(row.when, When::OpaqueTokenRefused));
    let is_new = opaque && !context.held().asked_for_audience;
    let Some(row) = rows.find(|row| is_new && is_open(row.remedy, &context.settings, attempt)) else {
        if !opaque && attempt.has(Remedy::NameAudience) {
            forget(context, attempt);
        }
        return None;
    };
    context.held().asked_for_audience = true;
    let (words, flag) = words(row.remedy);
    say(
        context,
        format!(
            "the server rejected a token that only {} can read; signing in again {words}, as {} is known to need ({flag})",
            attempt.discovered.server.issuer,
            row.provider.unwrap_or("this provider"),
        ),
    );
    Some(with(attempt, row.remedy))
}

/// Keeps what has helped, after a person has signed in.
pub(crate) fn keep(context: &Context, attempt: &AuthorizationAttempt, tokens: &Tokens) {
    let server = &attempt.discovered.server;
    let always = |remedy: &Remedy| rows(server).any(|row| row.remedy == *remedy && matches!(row.when, When::Always));
    let mut found: Vec<Remedy> = attempt.remedies.iter().copied().filter(|remedy| !always(remedy)).collect();
    let missing = rows(server).find(|row| matches!(row.when, When::NoRefreshToken));
    if let Some(row) = missing.filter(|_| tokens.refresh_token().is_none())
        && is_open(row.remedy, &context.settings, attempt)
    {
        let (words, flag) = words(row.remedy);
        info!("{} issued no refresh token; the next sign-in is {words} ({flag})", server.issuer);
        found.push(row.remedy);
    }
    if !found.is_empty() {
        Remedies::save(&context.store, &server.issuer, &found, &attempt.scopes);
    }
}

/// Forgets what had helped before, if the sign-in was refused with it: it may be just that.
pub(crate) fn doubt(context: &Context, attempt: &AuthorizationAttempt, error: &Error) {
    if error.is_refusal() && !error.is(ErrorCode::AccessDenied) {
        forget(context, attempt);
    }
}

fn forget(context: &Context, attempt: &AuthorizationAttempt) {
    let issuer = &attempt.discovered.server.issuer;
    if !Remedies::load(&context.store, issuer, &attempt.scopes).is_empty() {
        info!("the workaround that was stored for {issuer} no longer works; removing it");
        Remedies::forget(&context.store);
    }
}

/// Whether only its issuer can read a token, because it is no JWS in compact form (RFC 7515 §7.1).
fn is_opaque(tokens: &Tokens) -> bool {
    tokens.access_token().expose().split('.').count() != 3
}

/// Whether a text has these words, and not as the beginning of a longer one: codes are numbers.
fn says(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_ascii_lowercase(), words.to_ascii_lowercase());
    text.match_indices(&words).any(|(at, _)| !text[at + words.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_does_not_match_longer_code() {
        assert!(says("invalid_target AADSTS9010010: The resource", "AADSTS9010010"));
        assert!(says("aadsts901002", "AADSTS901002"));
        assert!(!says("AADSTS9010020: something else", "AADSTS901002"));
    }

    #[test]
    fn resource_is_omitted_only_where_scopes_name_it() {
        let named = |scopes: &str| names_resource(&scope::split(Some(scopes)), Some("https://mcp.example/mcp"));
        assert!(named("api://app-id/mcp.read offline_access openid"));
        assert!(named("https://mcp.example/.default"));
        for scopes in [
            "",
            "openid offline_access",
            "Mail.Read",
            "api://app-id/mcp.read Mail.Read",
            "https://graph.microsoft.com/Mail.Read",
            "https://mcp.example.evil.example/x",
            "00000003-0000-0000-c000-000000000000/.default",
        ] {
            assert!(!named(scopes), "{scopes}");
        }
    }
}
