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

use super::{
    AskedBy, Credential, Desk, Errand, Obtained, browser,
    client_credentials::members,
    error::{Error, SIGN_IN_PAGE},
    exchange::Exchange,
    page::Page,
    port_holder,
    provider::{self, Remedy},
    redirect::{Listener, Outcome, Place, Redirect, sibling},
    registration::{self, AUTHORIZATION_CODE, Client, Origin, Wanted},
    scope,
};
use crate::{
    observer::Fact,
    report::{self, Code, Report},
    status::Disposition,
    store::sign_in::{LIFE, SignIn, Tabs},
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
pub(super) async fn obtain(desk: &Desk, errand: &mut Errand) -> Result<Credential, Error> {
    errand.discovered.server.allows_codes(desk.settings.assume_pkce)?;
    if errand.discovered.server.metadata.authorization_endpoint.is_none() {
        let issuer = errand.discovered.server.issuer.clone();
        return Err(Error::Unsupported { issuer, what: "has no page to sign in at" });
    }
    let mut anew = false;
    loop {
        let Some(waiting) = prepare(desk, errand, anew).await? else {
            let newer = desk.newer(errand);
            return newer.ok_or_else(|| Error::Local("the other copy's sign-in is gone".to_owned()));
        };
        let client = waiting.client.clone();
        desk.tell_client(&client);
        let error = match finish(desk, errand, waiting).await {
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
            registration::forget(&desk.store, &client);
        } // else it stays the client of the tokens that there are
        Tabs::forget(&desk.store); // that tab was ours to lose, not the person's
        anew = true;
    }
}

/// Takes up the sign-in that is under way, or begins one. `None` if another copy has signed in.
async fn prepare(desk: &Desk, errand: &Errand, anew: bool) -> Result<Option<Waiting>, Error> {
    if !anew && let Some(waiting) = resume(desk, errand) {
        return Ok(Some(waiting));
    }
    let Some(listener) = bind(desk, errand).await? else { return Ok(None) };
    if desk.newer(errand).is_some() {
        return Ok(None); // a copy of npm's has freed the port with its tokens on disk
    }
    let redirect_uri = listener.redirect_uri();
    let client = client(desk, errand, &redirect_uri, anew).await?;
    let (sign_in, url) = begin(desk, errand, &client, listener.port(), &redirect_uri).await?;
    Ok(Some(Waiting { listener, client, sign_in, url, resumed: false }))
}

/// The sign-in of a copy that is gone, or of us before we were started again.
fn resume(desk: &Desk, errand: &Errand) -> Option<Waiting> {
    let server = &errand.discovered.server;
    for sign_in in SignIn::all(&desk.store, desk.now()) {
        let expected = server.published.then_some(&server.issuer);
        let same = sign_in.authorization.expected_issuer.as_ref() == expected
            && sign_in.resource == errand.resource
            && sign_in.remedies == errand.remedies
            && sign_in.authorization.requested_scopes == errand.scopes;
        let Some(url) = sign_in.authorization_url.as_deref().and_then(|url| Url::parse(url).ok()) else { continue };
        if !same {
            continue;
        }
        let now = desk.now();
        let client =
            registration::present(&desk.settings, &desk.store, server, wanted(errand, &sign_in.redirect_uri), now);
        let Some(client) = client.filter(|client| client.id == sign_in.client_id) else { continue };
        let Ok(listener) = Listener::bind(&place(desk), sign_in.port) else { continue };
        if listener.redirect_uri() == sign_in.redirect_uri {
            return Some(Waiting { listener, client, sign_in, url, resumed: true });
        }
    }
    None
}

fn place(desk: &Desk) -> Place {
    Place {
        host: desk.settings.callback_host.clone(),
        path: desk.settings.callback_path.clone(),
        server_hash: desk.store.server_hash().to_owned(),
    }
}

/// Binds the redirect's port. `None` if a copy of npm's has it, and signs in meanwhile.
async fn bind(desk: &Desk, errand: &Errand) -> Result<Option<Listener>, Error> {
    let fixed = registration::fixed(&desk.settings, &errand.discovered.server).is_some();
    let place = place(desk);
    if let Some(named) = desk.settings.callback_port.filter(|named| BLOCKED.contains(named)) {
        warn!("browsers do not go to port {named}");
    }
    let stored = registration::stored_redirect_uris(&desk.store, &errand.discovered.server);
    let stored: Vec<u16> = stored.iter().filter_map(|uri| Url::parse(uri).ok()?.port()).collect();
    let ports = ports(desk.settings.callback_port, fixed, &stored, desk.store.derived_port());
    let mut first = None;
    for port in ports {
        match Listener::bind(&place, port) {
            Ok(listener) => {
                if let (Some(named), true) = (desk.settings.callback_port, first.is_some()) {
                    let holder = port_holder::of(named).map(|holder| format!(" by {holder}")).unwrap_or_default();
                    warn!("port {named} is taken{holder}; using {port}, with a new registration");
                }
                return Ok(Some(listener));
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::AddrInUse && sibling(port, desk.store.server_hash()).await {
                    match follow(desk, errand, &place, port).await {
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
async fn follow(desk: &Desk, errand: &Errand, place: &Place, port: u16) -> Followed {
    info!("another mcp-remote signs in on port {port}; waiting for it");
    errand.teller.another_asks(None);
    let patience = desk.settings.timeout.max(SHORTEST_FOLLOWING);
    let ended = tokio::time::timeout(patience, async {
        loop {
            if desk.newer(errand).is_some() {
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
async fn client(desk: &Desk, errand: &Errand, redirect_uri: &str, anew: bool) -> Result<Client, Error> {
    let server = &errand.discovered.server;
    let wanted = wanted(errand, redirect_uri);
    let present = registration::present(&desk.settings, &desk.store, server, wanted, desk.now());
    let may_be_helped = provider::may_help(&desk.settings, errand);
    if let Some(client) = present.filter(|_| !anew) {
        let is_certain = desk.has_registered(&client.id) && client.may_ask(&errand.scopes);
        let may_be_stale = client.origin == Origin::Stored && !is_certain;
        // Only the user can mend this one, so they are told what its page says.
        let is_configured = client.origin == Origin::Configured;
        if !may_be_stale && !may_be_helped && !is_configured {
            return Ok(client);
        }
        match look(desk, errand, &client, redirect_uri).await {
            // It stays the client of the tokens that there are.
            Some((Standing::TooNarrow, _)) if may_be_stale => {
                info!("{} has registered us for less; registering again", server.issuer);
            }
            Some((_, refusal)) if desk.has_remedy(errand, &refusal) => return Err(refusal),
            Some((Standing::Unknown, _)) if may_be_stale => {
                info!("{} does not know our registration any more; registering again", server.issuer);
                registration::forget(&desk.store, &client);
            }
            // The person is asked all the same: there are pages that answer only browsers.
            Some((Standing::Unknown, refusal)) if is_configured => {
                let report = Report::of_authorization(&refusal, desk.door.server());
                warn!("{}", report.line());
                desk.observer.tell(|| Fact::Warned { report, way: None });
                return Ok(client);
            }
            _ => return Ok(client),
        }
    }
    let client = registration::register(&desk.door, &desk.settings, &desk.store, server, wanted).await?;
    desk.note_registered(&client.id);
    if may_be_helped
        && let Some((_, refusal)) = look(desk, errand, &client, redirect_uri).await
        && desk.has_remedy(errand, &refusal)
    {
        return Err(refusal);
    }
    Ok(client)
}

fn wanted<'a>(errand: &'a Errand, redirect_uri: &'a str) -> Wanted<'a> {
    Wanted { grant: AUTHORIZATION_CODE, redirect_uri, scopes: &errand.scopes }
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
async fn look(desk: &Desk, errand: &Errand, client: &Client, redirect_uri: &str) -> Option<(Standing, Error)> {
    let made = async {
        let manager = manager(desk, errand, client, redirect_uri, InMemoryStateStore::new()).await?;
        authorization_url(desk, errand, &manager.0).await
    };
    let url = made.await.ok()?;
    let answer = tokio::time::timeout(PAGE_PATIENCE, desk.door.get(&url)).await.ok()?.ok()?; // else the person will see
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
        let refusal = match provider::refusal_in(&errand.discovered.server, &answer.body) {
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
    desk: &Desk,
    errand: &Errand,
    client: &Client,
    port: u16,
    redirect_uri: &str,
) -> Result<(SignIn, Url), Error> {
    let states = InMemoryStateStore::new();
    let (manager, _) = manager(desk, errand, client, redirect_uri, states.clone()).await?;
    let url = authorization_url(desk, errand, &manager).await?;
    let state = url.query_pairs().find(|(name, _)| name == "state").map(|(_, state)| state.into_owned());
    let kept = states.load(&state.unwrap_or_default()).await.ok().flatten();
    let authorization = kept.ok_or_else(|| Error::Local("rmcp kept no state".to_owned()))?;
    let sign_in = SignIn {
        authorization,
        client_id: client.id.clone(),
        resource: errand.resource.clone(),
        remedies: errand.remedies.clone(),
        redirect_uri: redirect_uri.to_owned(),
        port,
        authorization_url: Some(url.to_string()),
        deadline: SignIn::deadline_from(desk.now()),
    };
    if let Err(error) = sign_in.save(&desk.store) {
        report::warn(Code::StoreNotWritable, format!("no other copy can finish this sign-in: {error:#}"));
    }
    Ok((sign_in, url))
}

/// rmcp's manager for one client, over our [`Exchange`].
async fn manager(
    desk: &Desk,
    errand: &Errand,
    client: &Client,
    redirect_uri: &str,
    states: impl StateStore + 'static,
) -> Result<(AuthorizationManager, Exchange), Error> {
    let exchange = desk.exchange(errand, client.clone());
    let mut manager = exchange.manager(redirect_uri).await?;
    manager.set_state_store(states);
    Ok((manager, exchange))
}

/// The URL for the browser: rmcp's, with the resource as published and what the user adds.
async fn authorization_url(desk: &Desk, errand: &Errand, manager: &AuthorizationManager) -> Result<Url, Error> {
    let scopes: Vec<&str> = errand.scopes.iter().map(String::as_str).collect();
    let url = manager.get_authorization_url(&scopes).await.map_err(|error| Error::Local(error.to_string()))?;
    let mut url = desk.door.address("the authorization endpoint", &url).await?;
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.retain(|(name, _)| name != "resource");
    if let Some(resource) = &errand.resource {
        pairs.push(("resource".to_owned(), resource.clone()));
    }
    if let Some(resource) = errand.resource.as_ref().filter(|_| errand.has(Remedy::NameAudience)) {
        pairs.push(("audience".to_owned(), resource.clone()));
    }
    if errand.has(Remedy::AccessTypeOffline) {
        pairs.push(("access_type".to_owned(), "offline".to_owned()));
    }
    let needs_consent = scope::needs_consent(&errand.scopes) && !errand.has(Remedy::OmitPrompt);
    if needs_consent || errand.has(Remedy::PromptConsent) {
        pairs.push(("prompt".to_owned(), "consent".to_owned()));
    }
    for (name, value) in &desk.settings.authorize_params {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name.clone(), value.clone()));
    }
    url.query_pairs_mut().clear().extend_pairs(pairs);
    Ok(url)
}

/// Tells the person, waits for the redirect, and redeems the code.
///
/// Where the authorization server is known to want it otherwise, the tab that there is goes on; `errand`
/// is that other one then.
async fn finish(desk: &Desk, errand: &mut Errand, waiting: Waiting) -> Result<Credential, Error> {
    let Waiting { mut listener, client, mut sign_in, mut url, resumed } = waiting;
    listener.expect(sign_in.state());
    let mut tab = tell(desk, errand, &url, resumed);
    loop {
        let Some(redirect) = wait(desk, &mut listener, &url, tab).await else {
            SignIn::forget(&desk.store, sign_in.state());
            return Err(Error::NobodyCame { after: LIFE });
        };
        // A code can be spent once: nobody else is to take this sign-in up now.
        SignIn::forget(&desk.store, sign_in.state());
        // A person who says no has been there: the next tab need not wait.
        if matches!(&redirect.outcome, Outcome::Refused { error, .. } if error == "access_denied") {
            Tabs::answered(&desk.store, desk.now());
        }
        let redeemed = redeem(desk, errand, &client, &sign_in, &redirect.outcome, redirect.issuer.as_deref()).await;
        let error = match redeemed {
            Ok(credential) => {
                let server = host(desk.door.server());
                match &desk.settings.success_url {
                    Some(to) => redirect.send_to(to),
                    None => redirect.answer(&Page::SignedIn { server, host: desk.host_program() }),
                }
                return Ok(credential);
            }
            Err(error) => error,
        };
        if let Some(remedied) = desk.remedied(errand, &error) {
            *errand = remedied;
            let uri = sign_in.redirect_uri.clone();
            (sign_in, url) = begin(desk, errand, &client, listener.port(), &uri).await?;
            listener.expect(sign_in.state());
            tab = Tab::None;
            go_on(desk, errand, &url, AskedBy::ThisProcess);
            redirect.go_on_at(&url);
            continue;
        }
        let report = Report::of_authorization(&error, desk.door.server());
        let server = host(desk.door.server());
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
async fn wait(desk: &Desk, listener: &mut Listener, url: &Url, tab: Tab) -> Option<Redirect> {
    let mut end = std::pin::pin!(tokio::time::sleep(LIFE));
    let mut due = std::pin::pin!(async {
        match tab {
            Tab::None => std::future::pending().await,
            Tab::WhenHostStays => desk.stay.wait().await,
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
                open(desk, url, listener.port()).await;
            }
        }
    }
}

/// Tells that there is a tab.
fn go_on(desk: &Desk, errand: &Errand, url: &Url, by: AskedBy) {
    let server = host(desk.door.server());
    info!("go on signing in to {server} in the tab that is open, or open this address:\n\n    {url}\n");
    ask(desk, errand, url, by);
}

fn ask(desk: &Desk, errand: &Errand, url: &Url, by: AskedBy) {
    errand.teller.ask(url.as_str(), by);
    desk.observer.tell(|| Fact::Asking { url: url.clone(), code: None });
}

/// The URL is printed before the browser opens: it may not, or elsewhere.
fn tell(desk: &Desk, errand: &Errand, url: &Url, resumed: bool) -> Tab {
    let is_open = resumed && Tabs::is_open(&desk.store, desk.now());
    if resumed {
        go_on(desk, errand, url, if is_open { AskedBy::EndedProcess } else { AskedBy::ThisProcess });
    } else {
        let server = host(desk.door.server());
        let unless = if desk.settings.no_browser { "" } else { ", unless a browser does" };
        info!("sign in to {server}: open this address{unless}:\n\n    {url}\n");
        ask(desk, errand, url, AskedBy::ThisProcess);
    }
    if desk.settings.no_browser || is_open && !desk.settings.asked_for {
        return Tab::None;
    }
    if desk.settings.asked_for {
        return Tab::After(Duration::ZERO);
    }
    let pause = Tabs::pause(&desk.store, desk.now());
    if pause.is_zero() {
        return Tab::WhenHostStays;
    }
    warn!("not opening another browser tab for {} s: the previous sign-in is unfinished", pause.as_secs());
    Tab::After(pause)
}

async fn open(desk: &Desk, url: &Url, port: u16) {
    Tabs::count(&desk.store, desk.now());
    match browser::open(url, &desk.settings.surroundings).await {
        Ok(()) => info!("a browser is open; waiting for you"),
        Err(none) => {
            Tabs::take_back(&desk.store, desk.now());
            let server = host(desk.door.server());
            let sentence = format!("no browser was opened for the sign-in to {server}: {}", none.why);
            let report = report::warn(Code::NoBrowser, sentence);
            let way = browser::from_elsewhere(port, &desk.settings.surroundings);
            desk.observer.tell(|| Fact::Warned { report, way: way.clone() });
            if let Some(way) = way {
                info!("{way}");
            }
        }
    }
}

async fn redeem(
    desk: &Desk,
    errand: &Errand,
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
    let (manager, exchange) = manager(desk, errand, client, &sign_in.redirect_uri, states).await?;
    let _under_way = desk.under_way.read().await; // the end of the program waits for it
    let step = "the exchange of the code";
    let response = manager
        .exchange_code_for_token_with_issuer(code.expose(), sign_in.state(), issuer)
        .await
        .map_err(|error| exchange.refusal(step, &error))?;
    desk.keep(errand, members(step, &response)?, client, Obtained::SignedIn).await
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
