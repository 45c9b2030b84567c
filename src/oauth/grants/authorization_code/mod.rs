//! The authorization-code grant (RFC 6749 §4.1) with PKCE (RFC 7636), in the person's browser, with a redirect to this
//! machine (RFC 8252 §7.3).
//!
//! In order: the redirect's port is bound ([`port`]), because it is part of the client's registration; then the client;
//! then the URL, kept on disk, printed, and only then opened ([`tab`]); the redirect; the exchange; and only then a
//! page that says that it worked.
//!
//! # Invariants
//!
//! - Nothing but http(s) is handed to a browser.
//! - A code or a verifier is given to no other authorization server than the one that was asked.

mod exchange;
mod port;
mod tab;

use log::{info, warn};
use reqwest::Url;

use self::{port::Bound, tab::Tab};
use super::{check_page, keep::keep};
use crate::{
    config::Occasion,
    oauth::{
        attempt::AuthorizationAttempt,
        client::{
            self,
            probe::{ClientStanding, probe_page},
        },
        context::Context,
        credential::{Credential, Obtained},
        error::{Error, ErrorCode, Step},
        person::{
            page::{Page, StartedFrom},
            redirect::{Listener, Outcome},
            tabs::Tabs,
        },
        progress::{AskedBy, Need},
        protocol::{
            authorization_code::PendingAuthorization,
            client_auth::{Client, Origin},
            registration::{AUTHORIZATION_CODE, Wanted},
            rmcp,
        },
        providers::{remedies, table},
        stored::{
            registrations,
            sign_in::{LIFE, SignIn},
        },
    },
    report::{self, Code, Report},
    text::{host, one_line},
};

/// A sign-in that is ready to wait for its redirect.
struct Waiting {
    listener: Listener,
    client: Client,
    sign_in: SignIn,
    url: Url,
    beside: Beside,
}

/// What else asks the person for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// Nothing.
    Nothing,
    /// The tab of an ended process, which goes on here.
    Tab,
    /// Another instance, which signs in at this port.
    Instance(u16),
}

/// Signs a person in.
pub(super) async fn obtain(context: &Context, attempt: &mut AuthorizationAttempt) -> Result<Credential, Error> {
    let server = &attempt.discovered.server;
    server.check_code_grant(|| context.settings.assume_pkce || table::has_unlisted_s256(server))?;
    let Some(page) = &server.metadata.authorization_endpoint else {
        let issuer = server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "has no sign-in page (authorization_endpoint)" });
    };
    // What is no URL is refused when it is used.
    if context.settings.endpoints.is_none()
        && let Ok(page) = Url::parse(page)
    {
        check_page(context, server, &page)?;
    }
    let mut anew = false;
    loop {
        let Some(waiting) = prepare(context, attempt, anew).await? else {
            let newer = attempt.newer(context);
            return newer.ok_or_else(|| Error::Local("the sign-in of another mcp-remote process is gone".to_owned()));
        };
        let client = waiting.client.clone();
        context.tell_client(&client);
        let elsewhere = matches!(waiting.beside, Beside::Instance(_)).then(|| attempt.clone());
        let finished = tokio::select! {
            finished = finish(context, attempt, waiting) => finished,
            Some(newer) = async { Some(port::signed_in_elsewhere(context, elsewhere.as_ref()?).await) } => Ok(newer),
        };
        let error = match finished {
            Ok(credential) => return Ok(credential),
            Err(error) => error,
        };
        // Only a registration from disk can be stale: a fresh one would be refused again.
        let unknown = error.disowns_client();
        if anew || client.origin != Origin::Stored || !(unknown || error.is(ErrorCode::InvalidScope)) {
            return Err(error);
        }
        info!("{error}; registering again");
        if unknown {
            registrations::refuse(&context.store, &client);
        } // else it stays the client of the tokens that there are
        Tabs::forget(&context.store); // that tab was ours to lose, not the person's
        anew = true;
    }
}

/// Resumes the sign-in that is under way, or begins one. `None` if another instance has signed in.
async fn prepare(context: &Context, attempt: &AuthorizationAttempt, anew: bool) -> Result<Option<Waiting>, Error> {
    context.end_lingering().await;
    if !anew && let Some(waiting) = resume(context, attempt) {
        return Ok(Some(waiting));
    }
    let (listener, beside) = match port::bind(context, attempt).await? {
        Bound::Alone(listener) => (listener, Beside::Nothing),
        Bound::Beside(listener, port) => (listener, Beside::Instance(port)),
        Bound::SignedIn => return Ok(None),
    };
    if attempt.newer(context).is_some() {
        return Ok(None); // a copy of npm's has freed the port with its tokens on disk
    }
    let redirect_uri = listener.redirect_uri();
    let client = client(context, attempt, &redirect_uri, anew).await?;
    let (sign_in, url) = begin(context, attempt, &client, listener.port(), &redirect_uri).await?;
    Ok(Some(Waiting { listener, client, sign_in, url, beside }))
}

/// Returns the sign-in of an instance that is gone, or of this one before it was started again.
fn resume(context: &Context, attempt: &AuthorizationAttempt) -> Option<Waiting> {
    let server = &attempt.discovered.server;
    for sign_in in SignIn::all(&context.store, context.now()) {
        let expected = server.published.then_some(&server.issuer);
        let same = sign_in.authorization.expected_issuer.as_ref() == expected
            && sign_in.resource == attempt.resource
            && sign_in.remedies == attempt.remedies
            && sign_in.authorization.requested_scopes == attempt.scopes;
        let Some(url) = sign_in.authorization_url.as_deref().and_then(|url| Url::parse(url).ok()) else { continue };
        if !same {
            continue;
        }
        let now = context.now();
        let client =
            client::present(&context.settings, &context.store, server, wanted(attempt, &sign_in.redirect_uri), now);
        let Some(client) = client.filter(|client| client.id == sign_in.client_id) else { continue };
        let Ok(redirect_uri) = Url::parse(&sign_in.redirect_uri) else { continue };
        let place = port::place(context, redirect_uri.path());
        let Ok(listener) = Listener::bind(&place, sign_in.port) else { continue };
        if listener.redirect_uri() == sign_in.redirect_uri {
            return Some(Waiting { listener, client, sign_in, url, beside: Beside::Tab });
        }
    }
    None
}

/// Returns the client with this redirect URI. A registration that comes from disk, or that names less than is to
/// be asked for, is probed first: the person should not see an error page.
async fn client(
    context: &Context,
    attempt: &AuthorizationAttempt,
    redirect_uri: &str,
    anew: bool,
) -> Result<Client, Error> {
    let server = &attempt.discovered.server;
    let wanted = wanted(attempt, redirect_uri);
    let present = client::present(&context.settings, &context.store, server, wanted, context.now());
    let may_be_helped = remedies::may_help(context, attempt);
    if let Some(client) = present.filter(|_| !anew) {
        let is_certain = context.has_registered(&client.id) && client.may_ask(&attempt.scopes);
        let may_be_stale = client.origin == Origin::Stored && !is_certain;
        // Only the user can mend this one, so they are told what its page says.
        let is_configured = client.origin == Origin::Configured;
        if !may_be_stale && !may_be_helped && !is_configured {
            return Ok(client);
        }
        match probe(context, attempt, &client, redirect_uri).await {
            // It stays the client of the tokens that there are.
            Some((ClientStanding::TooNarrow, _)) if may_be_stale => {
                info!("{} registered the client for fewer scopes than needed; registering again", server.issuer);
            }
            Some((_, refusal)) if remedies::are_known(context, attempt, &refusal) => return Err(refusal),
            Some((ClientStanding::Unknown, _)) if may_be_stale => {
                info!("{} no longer recognizes the client ID; registering again", server.issuer);
                registrations::refuse(&context.store, &client);
            }
            // The person is asked all the same: there are pages that answer only browsers.
            Some((ClientStanding::Unknown, refusal)) if is_configured => {
                let report = Report::of_authorization(&refusal, context.http.server());
                warn!("{}", report.line());
                context.facts.warn(report);
                return Ok(client);
            }
            _ => return Ok(client),
        }
    }
    let client = client::register(context, server, wanted).await?;
    context.note_registered(&client.id);
    if may_be_helped
        && let Some((_, refusal)) = probe(context, attempt, &client, redirect_uri).await
        && remedies::are_known(context, attempt, &refusal)
    {
        return Err(refusal);
    }
    Ok(client)
}

fn wanted<'a>(attempt: &'a AuthorizationAttempt, redirect_uri: &'a str) -> Wanted<'a> {
    Wanted { grant: AUTHORIZATION_CODE, redirect_uri, scopes: &attempt.scopes }
}

/// Probes the page that the client would send the person to. `None` if it does not refuse.
async fn probe(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    redirect_uri: &str,
) -> Option<(ClientStanding, Error)> {
    let (url, _) = request(context, attempt, client, redirect_uri).await.ok()?;
    probe_page(&context.http, &attempt.discovered.server, &url, redirect_uri).await
}

/// Begins a new sign-in: the URL is made, and everything is on disk.
async fn begin(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    port: u16,
    redirect_uri: &str,
) -> Result<(SignIn, Url), Error> {
    let (url, authorization) = request(context, attempt, client, redirect_uri).await?;
    let sign_in = SignIn {
        authorization,
        client_id: client.id.clone(),
        resource: attempt.resource.clone(),
        remedies: attempt.remedies.clone(),
        redirect_uri: redirect_uri.to_owned(),
        port,
        authorization_url: Some(url.to_string()),
        deadline: SignIn::deadline_from(context.now()),
    };
    if let Err(error) = sign_in.save(&context.store) {
        report::warn(
            Code::StoreNotWritable,
            format!("other mcp-remote processes cannot finish this sign-in: {error:#}"),
        );
    }
    Ok((sign_in, url))
}

/// Returns the URL for the browser, with the resource as published and what remedies and the user add; and what the
/// response is checked by.
async fn request(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    redirect_uri: &str,
) -> Result<(Url, PendingAuthorization), Error> {
    let endpoint = attempt.token_endpoint(context, client.clone(), None);
    let (url, pending) = rmcp::authorization_request(&endpoint, redirect_uri, &attempt.scopes).await?;
    let mut url = context.http.address("the authorization endpoint", &url).await?;
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.retain(|(name, _)| name != "resource");
    pairs.extend(attempt.resource.iter().map(|resource| ("resource".to_owned(), resource.clone())));
    pairs.extend(remedies::parameters(attempt).into_iter().map(|(name, value)| (name.to_owned(), value)));
    for (name, value) in &context.settings.authorize_params {
        pairs.retain(|(known, _)| known != name);
        // There is no empty prompt (OpenID Connect Core §3.1.2.1): it means none.
        if !(name == "prompt" && value.is_empty()) {
            pairs.push((name.clone(), value.clone()));
        }
    }
    url.query_pairs_mut().clear().extend_pairs(pairs);
    Ok((url, pending))
}

/// Announces the sign-in, waits for the redirect, and redeems the code.
///
/// Where the authorization server is known to want it otherwise, the tab that there is goes on; `attempt`
/// is that other one then.
async fn finish(context: &Context, attempt: &mut AuthorizationAttempt, waiting: Waiting) -> Result<Credential, Error> {
    let Waiting { mut listener, client, mut sign_in, mut url, beside } = waiting;
    listener.expect(sign_in.state());
    let mut tab = tab::announce(context, attempt, &url, beside);
    loop {
        let Some(redirect) = tab::wait(context, &mut listener, &url, tab).await else {
            SignIn::forget(&context.store, sign_in.state());
            return Err(Error::NobodyCame { after: LIFE });
        };
        // A code can be spent once: no other instance may resume this sign-in now.
        SignIn::forget(&context.store, sign_in.state());
        // A person who says no has been there: the next tab need not wait.
        if matches!(&redirect.outcome, Outcome::Refused { error, .. } if *error == ErrorCode::AccessDenied) {
            Tabs::answered(&context.store, context.now());
        }
        let redeemed = redeem(context, attempt, &client, &sign_in, &redirect.outcome, redirect.issuer.as_deref()).await;
        let error = match redeemed {
            Ok(credential) => {
                // Before the page says so: what the host asks for then is for the server.
                attempt.progress.need(Need::Nothing);
                let server = host(context.http.server());
                match &context.settings.success_url {
                    Some(to) => redirect.send_to(to),
                    None => redirect.answer(&Page::SignedIn { server, by: host(&url), start: started_from(context) }),
                }
                context.linger(listener);
                return Ok(credential);
            }
            Err(error) => error,
        };
        if let Some(remedied) = remedies::after_refusal(context, attempt, &error) {
            *attempt = remedied;
            let uri = sign_in.redirect_uri.clone();
            (sign_in, url) = begin(context, attempt, &client, listener.port(), &uri).await?;
            listener.expect(sign_in.state());
            tab = Tab::None;
            tab::go_on(context, attempt, &url, AskedBy::ThisProcess);
            redirect.go_on_at(&url);
            continue;
        }
        let report = Report::of_authorization(&error, context.http.server());
        let server = host(context.http.server());
        redirect.answer(&Page::Failed {
            server,
            start: started_from(context),
            reason: report.sentence,
            next: report.hint,
            code: report.code,
        });
        context.linger(listener);
        return Err(error);
    }
}

/// Returns the program that the user goes back to after the sign-in.
fn started_from(context: &Context) -> StartedFrom {
    match context.settings.occasion {
        Occasion::Host | Occasion::Asked => StartedFrom::Host(context.host_program()),
        Occasion::Watched | Occasion::Login => StartedFrom::Terminal,
    }
}

/// Checks whose response it is, and exchanges the code.
async fn redeem(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    sign_in: &SignIn,
    outcome: &Outcome,
    issuer: Option<&str>,
) -> Result<Credential, Error> {
    sign_in.authorization.check_issuer(issuer)?;
    let code = match outcome {
        Outcome::Code(code) => code,
        Outcome::Refused { error, description } => {
            let description = description.as_ref().map(|text| one_line(text.as_bytes()));
            return Err(Error::of_refusal(Step::SignIn, error.clone(), description, &sign_in.redirect_uri));
        }
    };
    let endpoint = attempt.token_endpoint(context, client.clone(), None);
    let (response, _under_way) =
        exchange::exchange(context, &attempt.progress, &endpoint, sign_in, code.expose(), issuer.is_some()).await?;
    keep(context, attempt, response, client, Obtained::SignedIn).await
}
