//! What tests, fuzz targets and benchmarks use. It changes without notice.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};

use crate::{
    cli::{self, Command, Output, Program, Status},
    commands::status,
    description::store::rewritten_description,
    era::{
        Era,
        known::{Eras, KnownEra},
    },
    known_hosts::{
        Evidence, HeldRequest,
        limits::{self, rewritten_limits},
    },
    oauth::{
        person::tabs::Tabs,
        protocol::client_auth::{AuthMethod, Client, Origin},
        stored::{
            busy::Busy,
            provenance::Provenance,
            registrations,
            remedies::{Remedies, Remedy},
            sign_in::SignIn,
            tokens::{TokenFile, Tokens},
        },
    },
    store::{Store, lease::rewritten_lease, rewritten},
};
pub use crate::{
    known_hosts::{Hold, HostEnvironment, HostName, ListHold, hold},
    local::{Incoming, Lines, Writer},
    message::{Body, Id, Malformed, Message, OversizedLine, Part, Shape},
    oauth::{
        person::redirect::receive_redirect,
        protocol::{
            challenge::challenge_of,
            discovery::places_of,
            metadata::{metadata_of, resource_metadata_of},
            registration::registration_of,
            rmcp::{device_authorization_of, library_token_response},
            token_endpoint::token_response_of,
        },
    },
    program::forward_between,
    remote::event_stream::{EventStream, EventTooLong, ServerSentEvent},
    report::{
        Code,
        catalogue::{CATALOGUE, Entry, Kind, NAME_THE_ADDRESS, START_AGAIN},
    },
    tools::{Call, ToolPattern, hide, judge},
};

/// Returns the file `name` of a store as it would be written again; `None` if it is damaged.
#[must_use]
pub fn rewrite_stored(name: &str, content: &[u8]) -> Option<Vec<u8>> {
    match name {
        "tokens.json" => Some(Tokens::from_json(content)?.to_json()),
        "grant.json" => rewritten::<Provenance>(content),
        "client_info.json" => rewritten::<Map<String, Value>>(content),
        "registrations.json" => rewritten::<Vec<Map<String, Value>>>(content),
        "remedies.json" => rewritten::<Remedies>(content),
        "registration_busy.json" => rewritten::<Busy>(content),
        "tabs.json" => rewritten::<Tabs>(content),
        "hosts.json" => rewritten_limits(content),
        "eras.json" => rewritten::<BTreeMap<String, KnownEra>>(content),
        "description.json" => rewritten_description(content),
        "refresh_in_progress.json" => rewritten_lease(content),
        _ if name.starts_with("sign_in_") => rewritten::<SignIn>(content),
        _ => None,
    }
}

/// Reads a store as the program does: returns what `mcp-remote status` shows, for people and as JSON.
///
/// # Errors
/// Where a value has no JSON.
pub fn show_store(folder: &Path) -> anyhow::Result<[String; 2]> {
    let mut shown = [Vec::new(), Vec::new()];
    for (output, shown) in [Output::Text, Output::Json].into_iter().zip(&mut shown) {
        status::run(&Status { store: folder.to_owned(), server: None, output }, shown)?;
    }
    Ok(shown.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Keeps one of everything in a store of the server whose hash is 32 zeros, whatever its files hold. Returns the names
/// of the files in which it is not found afterwards.
pub async fn keep_in_store(folder: &Path) -> Vec<&'static str> {
    const ISSUER: &str = "https://as.example";
    let store = Store::new(folder.to_owned(), "0".repeat(32));
    let now = SystemTime::now();
    let soon = Duration::from_secs(3);
    let mut found = Vec::new();

    let host = HostName { name: "a".to_owned(), version: "1".to_owned() };
    let evidence = (soon, Evidence::Certain);
    limits::note_waiting(&store, &host, evidence, now);
    limits::save(&store, &host, HeldRequest::Initialize, evidence, now);
    let limit = limits::limits(&store, &host, now).initialize;
    found.push(("hosts.json", limit.is_some_and(|limit| limit <= soon)));

    if let Ok(url) = "https://mcp.example/mcp".parse() {
        let era = KnownEra::new(Era::Modern, vec!["1".to_owned()], "e".to_owned());
        _ = Eras::new(store.clone(), &url).load().await;
        Eras::new(store.clone(), &url).save(era).await;
        let era = Eras::new(store.clone(), &url).load().await;
        found.push(("eras.json", era.is_some_and(|known| known.era == Era::Modern)));
    }

    let ahead = SignIn::all(&store, now).len();
    found.push(("sign_in_s.json", SignIn::all(&store, now).len() == ahead));

    Busy::save(&store, ISSUER, now + soon);
    found.push(("registration_busy.json", Busy::load(&store, ISSUER, now).is_some_and(|left| left <= soon)));

    let scopes = ["a".to_owned()];
    Remedies::save(&store, ISSUER, &[Remedy::OmitResource], &scopes);
    Remedies::save_client_authentication(&store, ISSUER, AuthMethod::Post);
    let remedies = Remedies::load(&store, ISSUER, &scopes);
    let method = Remedies::client_authentication(&store, ISSUER);
    found.push(("remedies.json", remedies == [Remedy::OmitResource] && method == Some(AuthMethod::Post)));

    Tabs::count(&store, now);
    found.push(("tabs.json", Tabs::is_open(&store, now) && !Tabs::pause(&store, now).is_zero()));

    let client = Client::public("the-client".to_owned(), Origin::Registered);
    let info = [("client_id", "the-client"), ("issuer", ISSUER)];
    let info = info.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let has = || registrations::usable(&store, ISSUER).iter().any(|info| registrations::is_of(info, &client));
    registrations::add(&store, info);
    registrations::refuse(&store, &client);
    let is_refused = registrations::was_refused(&store, &client) && !has();
    registrations::accept(&store, ISSUER, &client, true);
    found.push(("registrations.json", is_refused && has()));
    registrations::keep_for_npm(&store, ISSUER, &client);
    found.push(("client_info.json", registrations::issuer_noted(&store).is_some()));

    let new = Map::from_iter([("access_token".to_owned(), "new".into()), ("expires_in".to_owned(), 9.into())]);
    let mut tokens = Tokens::of_response(new, Some(ISSUER), now);
    if let Some(old) = Tokens::load(&store, TokenFile::NPM) {
        _ = (old.is_due(now), old.has_expired(now), old.has_scopes(&scopes));
        tokens = old.without_refresh_token().with_scope(&scopes).refreshed(tokens);
    }
    let mut from = Provenance::any(&store, TokenFile::NPM).unwrap_or_default();
    from.note_failed_refresh(now);
    let kept = store.write(&TokenFile::NPM.name(), &tokens.to_json());
    let kept = kept.and_then(|()| from.save(&store, TokenFile::NPM, &tokens)).is_ok();
    let read = Tokens::load(&store, TokenFile::NPM);
    let noted = read.as_ref().and_then(|tokens| Provenance::load(&store, TokenFile::NPM, tokens));
    found.push(("tokens.json", kept && read.as_ref() == Some(&tokens)));
    found.push(("grant.json", noted.is_some_and(|noted| noted.failing == from.failing)));

    found.into_iter().filter(|(_, is_found)| !is_found).map(|(name, _)| name).collect()
}

/// Reads a command line. Returns what it asks for in no form that is fixed, and the times in it.
///
/// # Errors
/// What people are told.
pub fn read_command_line(
    program: Program,
    arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, Vec<Duration>), String> {
    let command = cli::parse(program, arguments, environment).map_err(|usage| usage.report.line())?;
    let times = match &command {
        Command::Forward(config) | Command::Client(config, _) | Command::Login(config) => {
            let (limits, network) = (&config.limits, &config.network);
            let always = [limits.initialize_timeout, limits.retry_for, config.authorization.timeout];
            let some = [limits.hold, limits.ping(), network.headers_timeout, network.body_timeout];
            always.into_iter().chain(some.into_iter().flatten()).chain([network.connect_timeout]).collect()
        }
        _ => Vec::new(),
    };
    Ok((format!("{command:?}"), times))
}
