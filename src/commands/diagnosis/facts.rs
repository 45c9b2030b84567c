//! The findings of the real connection, as lines.
//!
//! # Invariants
//!
//! - A guess does not become a line.

use std::{fmt::Write as _, time::SystemTime};

use reqwest::StatusCode;

use super::printer::{DiagnosisStep, Finding, Outcome};
use crate::{
    commands::status::expiry,
    config::TransportStrategy,
    era::{Era, known::KnownEra},
    mcp::TransportKind,
    oauth::{
        credential::{Credential, Obtained},
        fact::AuthorizationFact,
        protocol::{
            challenge::Challenge,
            client_auth::Origin,
            metadata::{AuthorizationServer, Discovered},
        },
        providers::table::has_unlisted_s256,
    },
    observer::{Fact, NotDiscovered},
    report::Code,
    text::one_line,
};

/// Scopes that are listed by name; some servers have hundreds.
const MOST_SCOPES: usize = 12;

/// What earlier facts mean for later ones.
#[derive(Debug, Default)]
pub(super) struct Seen {
    fell_back: bool,
    not_discovered: Option<Box<NotDiscovered>>,
}

impl Seen {
    /// Keeps what the lines of later facts need.
    pub(super) fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::FellBack { .. } => self.fell_back = true,
            Fact::NotDiscovered(refused) => self.not_discovered = Some(refused.clone()),
            _ => {}
        }
    }

    /// Why the server was asked with `initialize`.
    fn not_discovered(&self) -> Vec<String> {
        let Some(refused) = &self.not_discovered else { return Vec::new() };
        match (&refused.why, &refused.known) {
            (Some(why), known) => {
                let why = format!("server/discover: {}", one_line(why.as_bytes()));
                std::iter::once(why).chain(known.as_ref().map(remembered)).collect()
            }
            (None, Some(known)) => {
                let learned = learned(known);
                vec![format!("server/discover was not sent, because the server is remembered ({learned})")]
            }
            (None, None) => vec!["server/discover was not sent".to_owned()],
        }
    }
}

/// The lines of a fact, and the step that comes next, on which fails what fails now; `None` where it is
/// what was asked for before.
pub(super) fn lines(fact: &Fact, strategy: TransportStrategy, seen: &Seen) -> (Vec<Finding>, Option<DiagnosisStep>) {
    match fact {
        Fact::FellBack { from, why } => {
            let text = format!("{} is not supported ({why}), so {} is next", name(*from), other(*from));
            (vec![Finding::info(DiagnosisStep::Transport, text)], None)
        }
        Fact::Opened(transport, era) => {
            let why = match strategy {
                TransportStrategy::HttpOnly | TransportStrategy::SseOnly => "the only one that --transport allows",
                _ if seen.fell_back => "fallback",
                TransportStrategy::HttpFirst => "first choice",
                TransportStrategy::SseFirst => "first choice of --transport",
            };
            let mut lines = vec![Finding::ok(DiagnosisStep::Transport, format!("{} ({why})", name(*transport)))];
            if *era == Era::Legacy {
                let text = "2025-11-25 or earlier: the server accepted initialize";
                lines.push(Finding::ok(DiagnosisStep::Protocol, text).with_details(seen.not_discovered()));
            }
            (lines, Some(DiagnosisStep::Handshake))
        }
        // The server's era is not known before `initialize` is answered, too.
        Fact::NotDiscovered(_) => (Vec::new(), None),
        Fact::Discovered { refuses_initialize, known } => {
            let only = if *refuses_initialize { " only" } else { "" };
            let text = format!("2026-07-28{only}: the server answered server/discover");
            let details = known.iter().map(|known| remembered(known)).collect();
            (vec![Finding::ok(DiagnosisStep::Protocol, text).with_details(details)], Some(DiagnosisStep::Handshake))
        }
        Fact::Challenged { status, challenge } => (
            vec![Finding::info(DiagnosisStep::Challenge, of_challenge(*status, challenge))],
            Some(DiagnosisStep::Resource),
        ),
        Fact::Authorization(fact) => of_authorization(fact),
    }
}

/// Says what was known of the server's era before.
fn remembered(known: &KnownEra) -> String {
    let era = match known.era {
        _ if known.refuses_initialize => "2026-07-28 only",
        Era::Modern => "2026-07-28",
        Era::Legacy => "2025-11-25 or earlier",
    };
    format!("remembered before: {era} ({})", learned(known))
}

/// Says when, and from what.
fn learned(known: &KnownEra) -> String {
    let minutes = known.age().as_secs() / 60;
    let age = match minutes {
        0 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / (24 * 60)),
    };
    let evidence = one_line(known.evidence.as_bytes());
    format!("learned {age}: {}", evidence.strip_prefix("server/discover: ").unwrap_or(&evidence))
}

fn of_authorization(fact: &AuthorizationFact) -> (Vec<Finding>, Option<DiagnosisStep>) {
    match fact {
        AuthorizationFact::Discovered(discovered) => (of_discovered(discovered), Some(DiagnosisStep::Client)),
        AuthorizationFact::Client { id, origin } => {
            let how = match origin {
                Origin::Configured => "from --static-oauth-client-info",
                Origin::Document => "client ID metadata document",
                Origin::Stored => "registered earlier",
                Origin::Registered => "registered now by dynamic client registration",
            };
            (
                vec![Finding::ok(DiagnosisStep::Client, format!("{} ({how})", one_line(id.as_bytes())))],
                Some(DiagnosisStep::SignIn),
            )
        }
        AuthorizationFact::Asking { url, code, .. } => {
            let at = url.host_str().unwrap_or_default();
            let how = if code.is_some() { "Open this URL on any device" } else { "If no browser opens, open this URL" };
            let text = format!("waiting for you to sign in at {at}. {how}:");
            let mut below = vec![url.to_string()];
            below.extend(code.iter().map(|code| format!("Enter the code {code} there")));
            (vec![Finding::info(DiagnosisStep::SignIn, text).with_below(below)], Some(DiagnosisStep::SignIn))
        }
        AuthorizationFact::AnotherAsks { url } => {
            let text =
                "another mcp-remote process waits for you to sign in. Continue in the browser tab that it opened";
            let or = url.iter().flat_map(|url| ["If there is no such tab, open this URL:".to_owned(), url.clone()]);
            (vec![Finding::info(DiagnosisStep::SignIn, text).with_below(or.collect())], Some(DiagnosisStep::SignIn))
        }
        AuthorizationFact::Warned { report, way } => {
            let step = match report.code {
                Code::NoRefreshToken => DiagnosisStep::Token,
                Code::StoreNotWritable => DiagnosisStep::Store,
                _ => DiagnosisStep::SignIn,
            };
            let line = Finding::report(step, Outcome::Warn, report.clone());
            (vec![line.with_below(way.iter().cloned().collect())], Some(DiagnosisStep::SignIn))
        }
        AuthorizationFact::Remedied(what) => {
            (vec![Finding::info(DiagnosisStep::SignIn, what.clone())], Some(DiagnosisStep::SignIn))
        }
        // The line before it says what to do without a browser.
        AuthorizationFact::BrowserOpened => (Vec::new(), Some(DiagnosisStep::SignIn)),
        AuthorizationFact::Credential(credential) => (vec![of_credential(credential)], None),
    }
}

const fn name(transport: TransportKind) -> &'static str {
    match transport {
        TransportKind::StreamableHttp => "Streamable HTTP",
        TransportKind::HttpSse => "HTTP+SSE",
    }
}

const fn other(transport: TransportKind) -> &'static str {
    match transport {
        TransportKind::StreamableHttp => name(TransportKind::HttpSse),
        TransportKind::HttpSse => name(TransportKind::StreamableHttp),
    }
}

fn of_challenge(status: StatusCode, challenge: &Challenge) -> String {
    let mut text = format!("HTTP {}", status.as_u16());
    let schemes = match (challenge.bearer, challenge.dpop, &challenge.only_other[..]) {
        (true, true, _) => "Bearer or DPoP".to_owned(),
        (true, false, _) => "Bearer".to_owned(),
        (false, true, _) => "DPoP".to_owned(),
        (false, false, []) => "without a challenge".to_owned(),
        (false, false, others) => format!("only {}", one_line(others.join(", ").as_bytes())),
    };
    _ = write!(text, ", {schemes}");
    for (what, value) in [
        ("resource_metadata", &challenge.resource_metadata),
        ("scope", &challenge.scope),
        ("error", &challenge.error),
        ("error_description", &challenge.error_description),
    ] {
        if let Some(value) = value {
            _ = write!(text, "; {what} {}", one_line(value.as_bytes()));
        }
    }
    text
}

fn of_discovered(discovered: &Discovered) -> Vec<Finding> {
    let resource = match &discovered.resource {
        Some(resource) => {
            let mut text = one_line(resource.resource.as_bytes());
            text.push_str(&listed("; scopes", &resource.scopes));
            if resource.wants_dpop {
                text.push_str("; requires DPoP-bound tokens");
            }
            Finding::ok(DiagnosisStep::Resource, text)
        }
        None => Finding::info(
            DiagnosisStep::Resource,
            "the server publishes no metadata, as is usual before MCP 2025-06-18",
        ),
    };
    let AuthorizationServer { issuer, metadata, published } = &discovered.server;
    let mut text = one_line(issuer.as_bytes());
    if !published {
        text.push_str("; no metadata, so mcp-remote uses the default endpoints of MCP 2025-03-26");
        return vec![resource, Finding::info(DiagnosisStep::AuthorizationServer, text)];
    }
    let has_s256 = discovered.server.check_code_grant(|| has_unlisted_s256(&discovered.server)).is_ok();
    text.push_str(if has_s256 { "; PKCE S256" } else { "; PKCE S256 is not listed" });
    let mut ways = Vec::new();
    if metadata.client_id_metadata_document_supported == Some(true) {
        ways.push("client ID metadata documents");
    }
    if metadata.registration_endpoint.is_some() {
        ways.push("dynamic registration");
    }
    let ways = if ways.is_empty() { "manual only".to_owned() } else { ways.join(", ") };
    _ = write!(text, "; client registration: {ways}");
    if metadata.device_authorization_endpoint.is_some() {
        text.push_str("; device code sign-in");
    }
    text.push_str(&listed("; scopes", metadata.scopes_supported.as_deref().unwrap_or_default()));
    vec![resource, Finding::ok(DiagnosisStep::AuthorizationServer, text)]
}

fn listed(what: &str, scopes: &[String]) -> String {
    if scopes.is_empty() {
        return String::new();
    }
    let more = scopes.len().saturating_sub(MOST_SCOPES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let first: Vec<_> = scopes.iter().take(MOST_SCOPES).map(|scope| one_line(scope.as_bytes())).collect();
    format!("{what} {}{more}", first.join(" "))
}

fn of_credential(credential: &Credential) -> Finding {
    let tokens = credential.tokens();
    let mut text = match credential.obtained() {
        Obtained::Stored => "from an earlier sign-in",
        Obtained::Refreshed => "obtained without user interaction",
        Obtained::SignedIn => "just signed in",
    }
    .to_owned();
    _ = write!(text, "; {}", one_line(tokens.kind().as_bytes()));
    if let Some(scope) = tokens.scope() {
        _ = write!(text, "; scope {}", one_line(scope.as_bytes()));
    }
    let now = SystemTime::now();
    let expired = tokens.has_expired(now);
    match tokens.expires_at() {
        Some(end) => _ = write!(text, "; {}", expiry(end, now)),
        None => text.push_str("; never expires"),
    }
    text.push_str(if tokens.refresh_token().is_some() { "; can be refreshed" } else { "; no refresh token" });
    Finding::new(DiagnosisStep::Token, if expired { Outcome::Info } else { Outcome::Ok }, text)
}
