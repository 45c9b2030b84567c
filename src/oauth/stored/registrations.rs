//! Client registrations on disk: the npm package's `client_info.json`, and `registrations.json` beside it.
//!
//! # Invariants
//!
//! - A registration is not shown to another issuer than its own.
//! - The npm package's file is written only with tokens, so that an unfinished sign-in leaves the tokens their
//!   client.
//! - A refused registration is kept until the tokens of its successor are stored, because its own tokens need it.

use serde_json::{Map, Value};

use crate::{
    oauth::protocol::{
        client_auth::{Client, Origin},
        issuer::same_issuer,
    },
    report::{self, Code},
    store::Store,
};

/// The npm package's file: the registration with the present issuer.
const CLIENT_INFO: &str = "client_info.json";
/// This program's file: registrations with all issuers, the latest first.
const REGISTRATIONS: &str = "registrations.json";
/// Most of these kept: a few ports and issuers.
const MOST_REGISTRATIONS: usize = 16;
/// Member of a registration that the authorization server has refused.
const REFUSED: &str = "refused";

/// The members of a registration (RFC 7591 §3.2.1).
type Registration = Map<String, Value>;

/// Returns the registrations with this issuer that a sign-in may use: those that were not refused.
pub(crate) fn usable(store: &Store, issuer: &str) -> Vec<Registration> {
    let mut all = of_issuer(store, issuer);
    all.retain(|info| !is_refused(info));
    all
}

/// Returns the registrations with this issuer, the refused ones included: of the npm package's file, then of this
/// program's.
pub(crate) fn of_issuer(store: &Store, issuer: &str) -> Vec<Registration> {
    let of_issuer = |info: &Registration| match info.get("issuer").and_then(Value::as_str) {
        Some(named) => same_issuer(named, issuer),
        None => true, // written before npm noted it
    };
    let mut all = ours(store);
    if let Some(mut npms) = npms(store) {
        let is_same = |info: &Registration| info.get("client_id") == npms.get("client_id");
        if all.iter().any(|info| is_same(info) && is_refused(info)) {
            npms.insert(REFUSED.to_owned(), true.into());
        }
        all.retain(|info| info.get("client_id") != npms.get("client_id")); // npm may have noted more
        all.insert(0, npms);
    }
    all.retain(of_issuer);
    all
}

/// Returns whether a client is registered with another issuer.
pub(crate) fn has_other_issuer(store: &Store, issuer: &str) -> bool {
    let is_other = |info: &Registration| {
        info.get("issuer").and_then(Value::as_str).is_some_and(|named| !same_issuer(named, issuer))
    };
    ours(store).iter().chain(&npms(store)).any(is_other)
}

/// Returns the redirect URIs of a registration.
pub(crate) fn redirect_uris(info: &Registration) -> impl Iterator<Item = &str> {
    info.get("redirect_uris").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns the issuer of the registration in the npm package's file.
pub(crate) fn issuer_noted(store: &Store) -> Option<String> {
    npms(store)?.get("issuer")?.as_str().map(ToOwned::to_owned)
}

/// Keeps a new registration.
pub(crate) fn add(store: &Store, info: Registration) {
    let mut all = ours(store);
    all.insert(0, info);
    all.truncate(MOST_REGISTRATIONS);
    save(store, REGISTRATIONS, &all);
}

/// Writes the client of stored tokens where npm looks for it.
pub(crate) fn keep_for_npm(store: &Store, issuer: &str, client: &Client) {
    if matches!(client.origin, Origin::Stored | Origin::Registered)
        && let Some(info) = of_issuer(store, issuer).into_iter().find(|info| is_of(info, client))
    {
        save(store, CLIENT_INFO, &info);
    }
}

/// Notes that a registration was refused: no sign-in uses it from now on, and the tokens issued to it still do.
pub(crate) fn refuse(store: &Store, client: &Client) {
    let mut all = ours(store);
    if !all.iter().any(|info| is_of(info, client)) {
        all.extend(npms(store).filter(|info| is_of(info, client)));
    }
    for info in all.iter_mut().filter(|info| is_of(info, client)) {
        info.insert(REFUSED.to_owned(), true.into());
    }
    save(store, REGISTRATIONS, &all);
}

/// Returns whether this client's registration was refused.
pub(crate) fn was_refused(store: &Store, client: &Client) -> bool {
    ours(store).iter().any(|info| is_of(info, client) && is_refused(info))
}

/// Notes that the authorization server has accepted the client of new tokens. With `replaces` no other tokens are
/// left that need a refused registration, and all of those with this issuer are forgotten.
pub(crate) fn accept(store: &Store, issuer: &str, client: &Client, replaces: bool) {
    let refused = of_issuer(store, issuer).into_iter().filter(is_refused).collect::<Vec<_>>();
    if refused.is_empty() {
        return;
    }
    let is_gone = |info: &Registration| {
        replaces && !is_of(info, client) && refused.iter().any(|gone| gone.get("client_id") == info.get("client_id"))
    };
    if npms(store).is_some_and(|info| is_gone(&info)) {
        store.remove(CLIENT_INFO);
    }
    let mut all = ours(store);
    all.retain(|info| !is_gone(info));
    for info in all.iter_mut().filter(|info| is_of(info, client)) {
        info.remove(REFUSED);
    }
    save(store, REGISTRATIONS, &all);
}

fn is_refused(info: &Registration) -> bool {
    info.get(REFUSED).and_then(Value::as_bool) == Some(true)
}

/// Returns whether a registration is this client's.
pub(crate) fn is_of(info: &Registration, client: &Client) -> bool {
    info.get("client_id").and_then(Value::as_str) == Some(&client.id)
}

fn npms(store: &Store) -> Option<Registration> {
    store.parse(CLIENT_INFO, |content| serde_json::from_slice(content).ok())
}

fn ours(store: &Store) -> Vec<Registration> {
    store.parse(REGISTRATIONS, |content| serde_json::from_slice(content).ok()).unwrap_or_default()
}

fn save(store: &Store, name: &str, content: &impl serde::Serialize) {
    let written = serde_json::to_vec_pretty(content).map_err(Into::into).and_then(|text| store.write(name, &text));
    if let Err(error) = written {
        // It works for now; the next start registers again.
        report::warn(Code::StoreNotWritable, format!("the client registration is not stored: {error:#}"));
    }
}

/// Whether a registration is stored, of this program or of the npm package.
pub(crate) fn is_stored(store: &Store) -> bool {
    [CLIENT_INFO, REGISTRATIONS].into_iter().any(|name| store.path(name).exists())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://as";

    fn store() -> (Store, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        (Store::new(home.path().to_owned(), "0".repeat(32)), home)
    }

    fn registration(id: &str, issuer: &str) -> Registration {
        json!({ "client_id": id, "issuer": issuer }).as_object().unwrap().clone()
    }

    fn ids(store: &Store) -> Vec<String> {
        of_issuer(store, ISSUER).iter().map(|info| info["client_id"].as_str().unwrap().to_owned()).collect()
    }

    fn client(id: &str, origin: Origin) -> Client {
        Client::public(id.to_owned(), origin)
    }

    #[test]
    fn npm_registration_comes_before_others_of_its_issuer() {
        let (store, _home) = store();
        for (id, issuer) in [("a", ISSUER), ("b", "https://other"), ("c", "https://as/")] {
            add(&store, registration(id, issuer));
        }
        assert_eq!(ids(&store), ["c", "a"]);
        keep_for_npm(&store, ISSUER, &client("a", Origin::Stored));
        assert_eq!(
            (ids(&store), issuer_noted(&store)),
            (vec!["a".to_owned(), "c".to_owned()], Some(ISSUER.to_owned()))
        );
        store.write(CLIENT_INFO, br#"{"client_id":"old"}"#).unwrap();
        assert_eq!(ids(&store), ["old", "c", "a"], "written before an issuer was noted");
    }

    #[test]
    fn npm_file_gets_only_registered_clients() {
        let (store, _home) = store();
        add(&store, registration("a", ISSUER));
        for origin in [Origin::Configured, Origin::Document] {
            keep_for_npm(&store, ISSUER, &client("a", origin));
            assert!(!store.path(CLIENT_INFO).exists());
        }
        keep_for_npm(&store, ISSUER, &client("a", Origin::Registered));
        let kept = std::fs::read_to_string(store.path(CLIENT_INFO)).unwrap();
        assert_eq!(kept, "{\n  \"client_id\": \"a\",\n  \"issuer\": \"https://as\"\n}");
    }

    #[test]
    fn refused_registration_is_kept_until_replaced() {
        let (store, _home) = store();
        let usable = || usable(&store, ISSUER).iter().map(|info| info["client_id"].clone()).collect::<Vec<_>>();
        // As the npm package leaves it: in its own file only.
        store.write(CLIENT_INFO, br#"{"client_id":"a","issuer":"https://as"}"#).unwrap();
        let (a, b) = (client("a", Origin::Stored), client("b", Origin::Registered));
        refuse(&store, &a);
        add(&store, registration("b", ISSUER));
        assert_eq!((usable(), ids(&store)), (vec!["b".into()], vec!["a".to_owned(), "b".to_owned()]));
        assert!(store.path(CLIENT_INFO).exists() && was_refused(&store, &a));
        accept(&store, ISSUER, &b, true);
        assert_eq!(ids(&store), ["b"]);
        assert!(!store.path(CLIENT_INFO).exists());
    }

    #[test]
    fn refused_registration_is_usable_after_acceptance() {
        let (store, _home) = store();
        add(&store, registration("a", ISSUER));
        let a = client("a", Origin::Stored);
        refuse(&store, &a);
        assert!(usable(&store, ISSUER).is_empty());
        accept(&store, ISSUER, &a, false);
        assert_eq!(usable(&store, ISSUER).len(), 1);
    }

    #[test]
    fn oldest_registrations_give_way() {
        let (store, _home) = store();
        for number in 0..=MOST_REGISTRATIONS {
            add(&store, registration(&number.to_string(), ISSUER));
        }
        let ids = ids(&store);
        assert_eq!((ids.len(), ids[0].as_str(), ids.last().unwrap().as_str()), (MOST_REGISTRATIONS, "16", "1"));
    }
}
