//! The authorization-code grant (RFC 6749 §4.1) with PKCE (RFC 7636), in the person's browser, with a
//! redirect to this machine (RFC 8252 §7.3).
//!
//! In order: the redirect's port is bound, since it is part of who we are; then the client; then the
//! URL, kept on disk, printed, and only then opened; the redirect; the exchange; and only then a page
//! that says that it worked. URL, `state`, verifier and the exchange are rmcp's; `iss` is checked here as well
//! (RFC 9207 §2.4), since rmcp does so for codes only.
//!
//! Must never: hand anything but http(s) to a browser; give a code or a verifier to another
//! authorization server than the one that was asked; open a second tab while one can be finished.

use std::{io, sync::Arc, time::Duration};

use log::{info, warn};
use reqwest::Url;
use rmcp::transport::auth::{AuthorizationManager, InMemoryStateStore, StateStore};
use serde_json::{Map, Value};

use crate::{
    oauth::{
        client::{self, AUTHORIZATION_CODE, Client, Origin, Wanted},
        context::{AuthorizationAttempt, Context},
        credential::{Credential, Obtained},
        error::{Error, SIGN_IN_PAGE},
        grants::client_credentials::members,
        person::{
            browser,
            page::Page,
            port_holder,
            redirect::{Listener, Outcome, Place, Redirect, sibling},
        },
        progress::AskedBy,
        protocol::{scope, token_endpoint::TokenEndpoint},
        providers::{self, Remedy},
        stored::sign_in::{LIFE, SignIn, Tabs},
    },
    observer::Fact,
    report::{self, Code, Report},
    status::Disposition,
    text::{host, one_line},
};

/// Ports tried from the derived one on, as npm does.
const PORTS: u16 = 8;
/// Ports tried after one that the user named and somebody else has.
const NEXT_PORTS: u16 = 16;
/// Ports that browsers do not go to, of those from 3335 on (WHATWG Fetch §2.9, port blocking).
const BLOCKED: [u16; 15] = [3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080];
/// How often it is looked whether a copy of npm's has finished its sign-in, as npm does.
const LOOK: Duration = Duration::from_millis(250);
/// How long another copy's sign-in is waited for at least, as npm does.
const SHORTEST_FOLLOWING: Duration = Duration::from_secs(180);
/// How long the sign-in page may take when it is only looked at: a person waits behind that.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// A sign-in that is ready to wait for its redirect.
struct Waiting {
    listener: Listener,
    client: Client,
    sign_in: SignIn,
    url: Url,
    resumed: bool,
}

/// Signs a person in.
pub(crate) async fn obtain(context: &Context, attempt: &mut AuthorizationAttempt) -> Result<Credential, Error> {
    attempt.discovered.server.allows_codes(context.settings.assume_pkce)?;
    if attempt.discovered.server.metadata.authorization_endpoint.is_none() {
        let issuer = attempt.discovered.server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "has no page to sign in at" });
    }
    let mut anew = false;
    loop {
        let Some(waiting) = prepare(context, attempt, anew).await? else {
            let newer = context.newer(attempt);
            return newer.ok_or_else(|| Error::Local("the other copy's sign-in is gone".to_owned()));
        };
        let client = waiting.client.clone();
        context.tell_client(&client);
        let error = match finish(context, attempt, waiting).await {
            Ok(credential) => return Ok(credential),
            Err(error) => error,
        };
        // Only a registration from disk can be stale: a fresh one would be refused again.
        let unknown = error.is("invalid_client") || error.is("unauthorized_client");
        if anew || client.origin != Origin::Stored || !(unknown || error.is("invalid_scope")) {
            return Err(error);
        }
        info!("{error}; registering again");
        if unknown {
            client::forget(&context.store, &client);
        } // else it stays the client of the tokens that there are
        Tabs::forget(&context.store); // that tab was ours to lose, not the person's
        anew = true;
    }
}

/// Takes up the sign-in that is under way, or begins one. `None` if another copy has signed in.
async fn prepare(context: &Context, attempt: &AuthorizationAttempt, anew: bool) -> Result<Option<Waiting>, Error> {
    if !anew && let Some(waiting) = resume(context, attempt) {
        return Ok(Some(waiting));
    }
    let Some(listener) = bind(context, attempt).await? else { return Ok(None) };
    if context.newer(attempt).is_some() {
        return Ok(None); // a copy of npm's has freed the port with its tokens on disk
    }
    let redirect_uri = listener.redirect_uri();
    let client = client(context, attempt, &redirect_uri, anew).await?;
    let (sign_in, url) = begin(context, attempt, &client, listener.port(), &redirect_uri).await?;
    Ok(Some(Waiting { listener, client, sign_in, url, resumed: false }))
}

/// The sign-in of a copy that is gone, or of us before we were started again.
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
        let Ok(listener) = Listener::bind(&place(context), sign_in.port) else { continue };
        if listener.redirect_uri() == sign_in.redirect_uri {
            return Some(Waiting { listener, client, sign_in, url, resumed: true });
        }
    }
    None
}

fn place(context: &Context) -> Place {
    Place {
        host: context.settings.callback_host.clone(),
        path: context.settings.callback_path.clone(),
        server_hash: context.store.server_hash().to_owned(),
    }
}

/// Binds the redirect's port. `None` if a copy of npm's has it, and signs in meanwhile.
async fn bind(context: &Context, attempt: &AuthorizationAttempt) -> Result<Option<Listener>, Error> {
    let fixed = client::fixed(&context.settings, &attempt.discovered.server).is_some();
    let place = place(context);
    if let Some(named) = context.settings.callback_port.filter(|named| BLOCKED.contains(named)) {
        warn!("browsers do not go to port {named}");
    }
    let stored = client::stored_redirect_uris(&context.store, &attempt.discovered.server);
    let stored: Vec<u16> = stored.iter().filter_map(|uri| Url::parse(uri).ok()?.port()).collect();
    let ports = ports(context.settings.callback_port, fixed, &stored, context.store.derived_port());
    let mut first = None;
    for port in ports {
        match Listener::bind(&place, port) {
            Ok(listener) => {
                if let (Some(named), true) = (context.settings.callback_port, first.is_some()) {
                    let holder = port_holder::of(named).map(|holder| format!(" by {holder}")).unwrap_or_default();
                    warn!("port {named} is taken{holder}; using {port}, with a new registration");
                }
                return Ok(Some(listener));
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::AddrInUse && sibling(port, context.store.server_hash()).await {
                    match follow(context, attempt, &place, port).await {
                        Followed::SignedIn => return Ok(None),
                        Followed::Gone(listener) => return Ok(Some(listener)),
                        Followed::InVain => {}
                    }
                }
                first.get_or_insert_with(|| Error::Port {
                    port,
                    source: Arc::new(error),
                    holder: port_holder::of(port),
                });
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::Local("no port to try".to_owned())))
}

/// The ports to try, in order.
fn ports(named: Option<u16>, fixed: bool, stored: &[u16], derived: u16) -> Vec<u16> {
    let ports: Vec<u16> = match (named, fixed) {
        // A client made elsewhere names its redirect URI: another port is another URI.
        (Some(named), true) => return vec![named],
        (None, true) => return vec![derived],
        (Some(named), false) => (0..=NEXT_PORTS).filter_map(|step| named.checked_add(step)).collect(),
        (None, false) => stored.iter().copied().chain((0..PORTS).map(|step| derived + step)).collect(),
    };
    ports.into_iter().filter(|port| !BLOCKED.contains(port)).collect()
}

/// What came of another copy's sign-in.
enum Followed {
    SignedIn,
    /// It is gone, and its port is ours.
    Gone(Listener),
    /// It does nothing any more: npm's copies outlive their hosts.
    InVain,
}

/// A copy of npm's signs in on this port: its tokens will do, and if it goes away the port is ours.
async fn follow(context: &Context, attempt: &AuthorizationAttempt, place: &Place, port: u16) -> Followed {
    info!("another mcp-remote signs in on port {port}; waiting for it");
    attempt.progress.another_asks(None);
    let patience = context.settings.timeout.max(SHORTEST_FOLLOWING);
    let ended = tokio::time::timeout(patience, async {
        loop {
            if context.newer(attempt).is_some() {
                return Followed::SignedIn;
            }
            if let Ok(listener) = Listener::bind(place, port) {
                return Followed::Gone(listener);
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    ended.await.unwrap_or(Followed::InVain)
}

/// The client with this redirect URI. A registration that comes from disk, or that names less than is to
/// be asked for, is looked at first: the person should not see an error page.
async fn client(
    context: &Context,
    attempt: &AuthorizationAttempt,
    redirect_uri: &str,
    anew: bool,
) -> Result<Client, Error> {
    let server = &attempt.discovered.server;
    let wanted = wanted(attempt, redirect_uri);
    let present = client::present(&context.settings, &context.store, server, wanted, context.now());
    let may_be_helped = providers::may_help(&context.settings, attempt);
    if let Some(client) = present.filter(|_| !anew) {
        let is_certain = context.has_registered(&client.id) && client.may_ask(&attempt.scopes);
        let may_be_stale = client.origin == Origin::Stored && !is_certain;
        // Only the user can mend this one, so they are told what its page says.
        let is_configured = client.origin == Origin::Configured;
        if !may_be_stale && !may_be_helped && !is_configured {
            return Ok(client);
        }
        match look(context, attempt, &client, redirect_uri).await {
            // It stays the client of the tokens that there are.
            Some((Standing::TooNarrow, _)) if may_be_stale => {
                info!("{} has registered us for less; registering again", server.issuer);
            }
            Some((_, refusal)) if context.has_remedy(attempt, &refusal) => return Err(refusal),
            Some((Standing::Unknown, _)) if may_be_stale => {
                info!("{} does not know our registration any more; registering again", server.issuer);
                client::forget(&context.store, &client);
            }
            // The person is asked all the same: there are pages that answer only browsers.
            Some((Standing::Unknown, refusal)) if is_configured => {
                let report = Report::of_authorization(&refusal, context.http.server());
                warn!("{}", report.line());
                context.observer.tell(|| Fact::Warned { report, way: None });
                return Ok(client);
            }
            _ => return Ok(client),
        }
    }
    let client = client::register(&context.http, &context.settings, &context.store, server, wanted).await?;
    context.note_registered(&client.id);
    if may_be_helped
        && let Some((_, refusal)) = look(context, attempt, &client, redirect_uri).await
        && context.has_remedy(attempt, &refusal)
    {
        return Err(refusal);
    }
    Ok(client)
}

fn wanted<'a>(attempt: &'a AuthorizationAttempt, redirect_uri: &'a str) -> Wanted<'a> {
    Wanted { grant: AUTHORIZATION_CODE, redirect_uri, scopes: &attempt.scopes }
}

/// What a refusal says of a client.
enum Standing {
    /// It may not ask for these scopes.
    TooNarrow,
    /// It is not known.
    Unknown,
    /// Nothing.
    Open,
}

/// Looks at the authorize page as a browser would, and tells how it refuses: any 4xx, and an error in
/// JSON, is about the client; so is an error redirect that names it, or its scope.
async fn look(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    redirect_uri: &str,
) -> Option<(Standing, Error)> {
    let made = async {
        let manager = manager(context, attempt, client, redirect_uri, InMemoryStateStore::new()).await?;
        authorization_url(context, attempt, &manager.0).await
    };
    let url = made.await.ok()?;
    let answer = tokio::time::timeout(PAGE_PATIENCE, context.http.get(&url)).await.ok()?.ok()?; // else the person will see
    let refused = |error: &str, description: Option<&str>| Error::Refused {
        step: "the sign-in",
        error: one_line(error.as_bytes()),
        description: description.map(|text| one_line(text.as_bytes())),
    };
    let location = answer.headers.get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok());
    let redirect = location.and_then(|location| url.join(location).ok());
    let told = |wanted: &str| {
        let mut pairs = redirect.as_ref()?.query_pairs();
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    if let Some(error) = told("error") {
        let standing = match error.as_str() {
            "invalid_scope" => Standing::TooNarrow,
            "invalid_client" | "unauthorized_client" => Standing::Unknown,
            _ => Standing::Open,
        };
        return Some((standing, refused(&error, told("error_description").as_deref())));
    }
    let content = serde_json::from_slice::<Map<String, Value>>(&answer.body).unwrap_or_default();
    let member = |name: &str| content.get(name).and_then(Value::as_str);
    if let Some(error) = member("error") {
        let standing = if error == "invalid_scope" { Standing::TooNarrow } else { Standing::Unknown };
        return Some((standing, refused(error, member("error_description"))));
    }
    // Not of the busy, who say nothing about the client.
    if answer.status.is_client_error() && !Disposition::of(answer.status).may_pass() {
        let refusal = match providers::refusal_in(&attempt.discovered.server, &answer.body) {
            Some(known) => refused(known, None),
            None => {
                let words = Some(one_line(&answer.body)).filter(|words| !words.is_empty());
                Error::of_refusal(SIGN_IN_PAGE, format!("HTTP {}", answer.status.as_u16()), words, redirect_uri)
            }
        };
        return Some((Standing::Unknown, refusal));
    }
    None
}

/// A new sign-in: URL made, everything on disk.
async fn begin(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    port: u16,
    redirect_uri: &str,
) -> Result<(SignIn, Url), Error> {
    let states = InMemoryStateStore::new();
    let (manager, _) = manager(context, attempt, client, redirect_uri, states.clone()).await?;
    let url = authorization_url(context, attempt, &manager).await?;
    let state = url.query_pairs().find(|(name, _)| name == "state").map(|(_, state)| state.into_owned());
    let kept = states.load(&state.unwrap_or_default()).await.ok().flatten();
    let authorization = kept.ok_or_else(|| Error::Local("rmcp kept no state".to_owned()))?;
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
        report::warn(Code::StoreNotWritable, format!("no other copy can finish this sign-in: {error:#}"));
    }
    Ok((sign_in, url))
}

/// rmcp's manager for one client, over our [`TokenEndpoint`].
async fn manager(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    redirect_uri: &str,
    states: impl StateStore + 'static,
) -> Result<(AuthorizationManager, TokenEndpoint), Error> {
    let exchange = context.token_endpoint_of(attempt, client.clone());
    let mut manager = exchange.manager(redirect_uri).await?;
    manager.set_state_store(states);
    Ok((manager, exchange))
}

/// The URL for the browser: rmcp's, with the resource as published and what the user adds.
async fn authorization_url(
    context: &Context,
    attempt: &AuthorizationAttempt,
    manager: &AuthorizationManager,
) -> Result<Url, Error> {
    let scopes: Vec<&str> = attempt.scopes.iter().map(String::as_str).collect();
    let url = manager.get_authorization_url(&scopes).await.map_err(|error| Error::Local(error.to_string()))?;
    let mut url = context.http.address("the authorization endpoint", &url).await?;
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.retain(|(name, _)| name != "resource");
    if let Some(resource) = &attempt.resource {
        pairs.push(("resource".to_owned(), resource.clone()));
    }
    if let Some(resource) = attempt.resource.as_ref().filter(|_| attempt.has(Remedy::NameAudience)) {
        pairs.push(("audience".to_owned(), resource.clone()));
    }
    if attempt.has(Remedy::AccessTypeOffline) {
        pairs.push(("access_type".to_owned(), "offline".to_owned()));
    }
    let needs_consent = scope::needs_consent(&attempt.scopes) && !attempt.has(Remedy::OmitPrompt);
    if needs_consent || attempt.has(Remedy::PromptConsent) {
        pairs.push(("prompt".to_owned(), "consent".to_owned()));
    }
    for (name, value) in &context.settings.authorize_params {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name.clone(), value.clone()));
    }
    url.query_pairs_mut().clear().extend_pairs(pairs);
    Ok(url)
}

/// Tells the person, waits for the redirect, and redeems the code.
///
/// Where the authorization server is known to want it otherwise, the tab that there is goes on; `attempt`
/// is that other one then.
async fn finish(context: &Context, attempt: &mut AuthorizationAttempt, waiting: Waiting) -> Result<Credential, Error> {
    let Waiting { mut listener, client, mut sign_in, mut url, resumed } = waiting;
    listener.expect(sign_in.state());
    let mut tab = tell(context, attempt, &url, resumed);
    loop {
        let Some(redirect) = wait(context, &mut listener, &url, tab).await else {
            SignIn::forget(&context.store, sign_in.state());
            return Err(Error::NobodyCame { after: LIFE });
        };
        // A code can be spent once: nobody else is to take this sign-in up now.
        SignIn::forget(&context.store, sign_in.state());
        // A person who says no has been there: the next tab need not wait.
        if matches!(&redirect.outcome, Outcome::Refused { error, .. } if error == "access_denied") {
            Tabs::answered(&context.store, context.now());
        }
        let redeemed = redeem(context, attempt, &client, &sign_in, &redirect.outcome, redirect.issuer.as_deref()).await;
        let error = match redeemed {
            Ok(credential) => {
                let server = host(context.http.server());
                match &context.settings.success_url {
                    Some(to) => redirect.send_to(to),
                    None => redirect.answer(&Page::SignedIn { server, host: context.host_program() }),
                }
                return Ok(credential);
            }
            Err(error) => error,
        };
        if let Some(remedied) = context.remedied(attempt, &error) {
            *attempt = remedied;
            let uri = sign_in.redirect_uri.clone();
            (sign_in, url) = begin(context, attempt, &client, listener.port(), &uri).await?;
            listener.expect(sign_in.state());
            tab = Tab::None;
            go_on(context, attempt, &url, AskedBy::ThisProcess);
            redirect.go_on_at(&url);
            continue;
        }
        let report = Report::of_authorization(&error, context.http.server());
        let server = host(context.http.server());
        redirect.answer(&Page::Failed { server, reason: report.sentence, next: report.hint, code: report.code });
        return Err(error);
    }
}

/// Whether a tab is to be opened.
enum Tab {
    /// No: there is one, or the user wants none.
    None,
    /// As soon as the host counts as there to stay.
    WhenHostStays,
    /// After a pause: the last sign-in is unfinished.
    After(Duration),
}

/// The redirect; `None` if nobody comes. Meanwhile the tab is opened.
async fn wait(context: &Context, listener: &mut Listener, url: &Url, tab: Tab) -> Option<Redirect> {
    let mut end = std::pin::pin!(tokio::time::sleep(LIFE));
    let mut due = std::pin::pin!(async {
        match tab {
            Tab::None => std::future::pending().await,
            Tab::WhenHostStays => context.stay.wait().await,
            Tab::After(pause) => tokio::time::sleep(pause).await,
        }
    });
    let mut is_open = false;
    loop {
        tokio::select! {
            redirect = listener.next() => return Some(redirect),
            () = &mut end => return None,
            () = &mut due, if !is_open => {
                is_open = true;
                open(context, url, listener.port()).await;
            }
        }
    }
}

/// Tells that there is a tab.
fn go_on(context: &Context, attempt: &AuthorizationAttempt, url: &Url, by: AskedBy) {
    let server = host(context.http.server());
    info!("go on signing in to {server} in the tab that is open, or open this address:\n\n    {url}\n");
    ask(context, attempt, url, by);
}

fn ask(context: &Context, attempt: &AuthorizationAttempt, url: &Url, by: AskedBy) {
    attempt.progress.ask(url.as_str(), by);
    context.observer.tell(|| Fact::Asking { url: url.clone(), code: None });
}

/// The URL is printed before the browser opens: it may not, or elsewhere.
fn tell(context: &Context, attempt: &AuthorizationAttempt, url: &Url, resumed: bool) -> Tab {
    let is_open = resumed && Tabs::is_open(&context.store, context.now());
    if resumed {
        go_on(context, attempt, url, if is_open { AskedBy::EndedProcess } else { AskedBy::ThisProcess });
    } else {
        let server = host(context.http.server());
        let unless = if context.settings.no_browser { "" } else { ", unless a browser does" };
        info!("sign in to {server}: open this address{unless}:\n\n    {url}\n");
        ask(context, attempt, url, AskedBy::ThisProcess);
    }
    if context.settings.no_browser || is_open && !context.settings.asked_for {
        return Tab::None;
    }
    if context.settings.asked_for {
        return Tab::After(Duration::ZERO);
    }
    let pause = Tabs::pause(&context.store, context.now());
    if pause.is_zero() {
        return Tab::WhenHostStays;
    }
    warn!("not opening another browser tab for {} s: the previous sign-in is unfinished", pause.as_secs());
    Tab::After(pause)
}

async fn open(context: &Context, url: &Url, port: u16) {
    Tabs::count(&context.store, context.now());
    match browser::open(url, &context.settings.surroundings).await {
        Ok(()) => info!("a browser is open; waiting for you"),
        Err(none) => {
            Tabs::take_back(&context.store, context.now());
            let server = host(context.http.server());
            let sentence = format!("no browser was opened for the sign-in to {server}: {}", none.why);
            let report = report::warn(Code::NoBrowser, sentence);
            let way = browser::from_elsewhere(port, &context.settings.surroundings);
            context.observer.tell(|| Fact::Warned { report, way: way.clone() });
            if let Some(way) = way {
                info!("{way}");
            }
        }
    }
}

async fn redeem(
    context: &Context,
    attempt: &AuthorizationAttempt,
    client: &Client,
    sign_in: &SignIn,
    outcome: &Outcome,
    issuer: Option<&str>,
) -> Result<Credential, Error> {
    let authorization = &sign_in.authorization;
    // MCP 2026-07-28, Authorization Response Validation; RFC 9207 §2.4: also of an error, before any of
    // it is believed. rmcp checks it for codes only.
    let expected = authorization.expected_issuer.as_deref();
    let genuine = match (issuer, expected) {
        (Some(received), Some(expected)) => received == expected,
        (None, Some(_)) => !authorization.require_issuer,
        (_, None) => true,
    };
    if !genuine {
        return Err(Error::WrongIssuer { expected: expected.unwrap_or_default().to_owned() });
    }
    let code = match outcome {
        Outcome::Code(code) => code,
        Outcome::Refused { error, description } => {
            let description = description.as_ref().map(|text| one_line(text.as_bytes()));
            return Err(Error::of_refusal(
                "the sign-in",
                one_line(error.as_bytes()),
                description,
                &sign_in.redirect_uri,
            ));
        }
    };
    let states = InMemoryStateStore::new();
    states.save(sign_in.state(), authorization.clone()).await.map_err(|error| Error::Local(error.to_string()))?;
    let (manager, exchange) = manager(context, attempt, client, &sign_in.redirect_uri, states).await?;
    let _under_way = context.under_way.read().await; // the end of the program waits for it
    let step = "the exchange of the code";
    let response = manager
        .exchange_code_for_token_with_issuer(code.expose(), sign_in.state(), issuer)
        .await
        .map_err(|error| exchange.refusal(step, &error))?;
    context.keep(attempt, members(step, &response)?, client, Obtained::SignedIn).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_registrations_then_the_derived_one_and_the_next_seven_but_none_that_browsers_refuse() {
        assert_eq!(ports(None, false, &[4000], 3335), [4000, 3335, 3336, 3337, 3338, 3339, 3340, 3341, 3342]);
        assert_eq!(ports(None, false, &[6667], 6664), [6664, 6670, 6671]);
    }

    #[test]
    fn a_named_port_is_the_only_one_for_a_fixed_client_and_the_first_otherwise() {
        assert_eq!(ports(Some(9000), true, &[4000], 3335), [9000]);
        assert_eq!(ports(None, true, &[4000], 3335), [3335]);
        let next = ports(Some(65530), false, &[4000], 3335);
        assert_eq!(next, [65530, 65531, 65532, 65533, 65534, 65535]);
    }
}
