//! `mcp-remote status`: the sign-ins in the store.
//!
//! # Invariants
//!
//! - Nothing secret is shown.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, Unit};
use serde::Serialize;

use crate::{
    cli::{Output, Status},
    oauth::stored::{
        provenance::Provenance,
        tokens::{TokenFile, Tokens},
    },
    store::Store,
    text::{self, one_line},
};

/// A sign-in, without anything secret.
#[derive(Debug, Serialize)]
pub(crate) struct StoredSignIn {
    /// Server URL, where it was noted: the npm package does not.
    server: Option<String>,
    /// The npm package's name for it.
    hash: String,
    pub(crate) issuer: Option<String>,
    grant: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
    /// As people say it.
    #[serde(skip)]
    expiry: Option<String>,
    /// RFC 3339, UTC.
    expires_at: Option<String>,
    pub(crate) expired: bool,
    /// Whether a new token can be obtained without the user.
    pub(crate) refreshable: bool,
}

impl StoredSignIn {
    /// How long it is good for, in words.
    pub(crate) fn until(&self) -> String {
        let Some(expiry) = &self.expiry else { return "never expires".to_owned() };
        match (self.expired, self.refreshable) {
            (false, true) => format!("{expiry}, then mcp-remote renews it"),
            (false, false) => format!("{expiry}, then you sign in again"),
            (true, true) => format!("{expiry}, mcp-remote renews it at the next start"),
            (true, false) => format!("{expiry}, sign in again"),
        }
    }
}

/// Returns when a token expires or expired, as people say it.
pub(crate) fn expiry(end: SystemTime, now: SystemTime) -> String {
    match end.duration_since(now) {
        Ok(left) => format!("expires in {}", span(left)),
        Err(past) => format!("expired {} ago", span(past.duration())),
    }
}

fn span(time: Duration) -> String {
    const HOUR: u64 = 60;
    const DAY: u64 = 24 * HOUR;
    let minutes = time.as_secs() / 60;
    match minutes {
        0 => "less than 1 min".to_owned(),
        1..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / HOUR),
        _ => format!("{} days", minutes / DAY),
    }
}

/// The sign-ins of one server.
pub(crate) fn sign_ins(store: &Store) -> Vec<StoredSignIn> {
    let now = SystemTime::now();
    TokenFile::all().filter_map(|file| show(store, file, now)).collect()
}

/// Shows who is signed in where.
///
/// # Errors
/// Where nothing can be written to `out`.
pub(crate) fn run(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let stores = match &status.server {
        Some((_, hash)) => vec![Store::new(status.store.clone(), hash.clone())],
        None => Store::servers(&status.store),
    };
    let mut all: Vec<StoredSignIn> = stores.iter().flat_map(sign_ins).collect();
    if let (Some((server, _)), [only]) = (&status.server, all.as_mut_slice()) {
        only.server.get_or_insert_with(|| server.url().to_string());
    }
    if status.output == Output::Json {
        return Ok(writeln!(out, "{}", text::json(&all)?)?);
    }
    if all.is_empty() {
        return Ok(writeln!(out, "No stored sign-ins in {}.", status.store.display())?);
    }
    for sign_in in all {
        let until = sign_in.until();
        let name =
            sign_in.server.unwrap_or_else(|| format!("a server that the npm package signed in to ({})", sign_in.hash));
        writeln!(out, "{}", text::printable(&name))?;
        writeln!(out, "  {until}")?;
        for (what, value) in [
            ("issued by", sign_in.issuer),
            ("scope", sign_in.scope),
            ("grant", sign_in.grant),
            ("client ID", sign_in.client_id),
        ] {
            if let Some(value) = value {
                writeln!(out, "  {what} {}", one_line(value.as_bytes()))?;
            }
        }
    }
    Ok(())
}

fn show(store: &Store, file: TokenFile, now: SystemTime) -> Option<StoredSignIn> {
    let tokens = Tokens::load(store, file)?;
    let from = Provenance::load(store, file, &tokens);
    Some(StoredSignIn {
        server: from.as_ref().map(|from| from.server.clone()),
        hash: store.server_hash().to_owned(),
        issuer: tokens.issuer().map(ToOwned::to_owned),
        grant: from.as_ref().map(|from| from.grant.clone()),
        client_id: from.map(|from| from.client_id),
        scope: tokens.scope().map(ToOwned::to_owned),
        expiry: tokens.expires_at().map(|end| expiry(end, now)),
        expires_at: tokens
            .expires_at()
            .and_then(|end| Some(Timestamp::try_from(end).ok()?.round(Unit::Second).ok()?.to_string())),
        expired: tokens.has_expired(now),
        refreshable: tokens.refresh_token().is_some() || !file.is_of_person(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_said_as_people_do() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (seconds, soon, past) in [
            (30, "expires in less than 1 min", "expired less than 1 min ago"),
            (3599, "expires in 59 min", "expired 59 min ago"),
            (2 * 3600, "expires in 2 h", "expired 2 h ago"),
            (3 * 24 * 3600, "expires in 3 days", "expired 3 days ago"),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!((&*expiry(now + time, now), &*expiry(now - time, now)), (soon, past));
        }
    }

    #[test]
    fn stored_text_moves_no_cursor() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned(), "0".repeat(32));
        let tokens = Tokens::from_json(br#"{"access_token":"a"}"#).unwrap();
        store.write("tokens.json", &tokens.to_json()).unwrap();
        let from = Provenance { server: "https://a.example/\u{1b}[2J\u{202e}".to_owned(), ..Provenance::default() };
        from.save(&store, TokenFile::NPM, &tokens).unwrap();
        let mut shown = Vec::new();
        run(&Status { store: folder.path().to_owned(), server: None, output: Output::Text }, &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with("https://a.example/\u{fffd}[2J\u{fffd}\n"), "{shown:?}");
    }
}
