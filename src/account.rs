//! The commands beside forwarding: `login`, `logout`, `status`, and `finish`, which hands over a
//! redirect that reached another computer.
//!
//! Must never: show a secret; take a redirect as an argument, where other users of the machine see it.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use jiff::{Timestamp, Unit};
use reqwest::Url;
use serde::Serialize;

use crate::{
    cli::{AllServers, Output, Status},
    client,
    config::{Authorization, Config, Grant, PlainHttp, ServerUrl},
    network::Outlet,
    oauth::{
        door::Door,
        redirect,
        revocation::{Revoked, revoke},
    },
    store::{
        Store,
        grant::Provenance,
        sign_in::SignIn,
        tokens::{Drawer, Tokens},
    },
    text::{host, one_line},
};

/// How long a waiting sign-in may take to redeem a code.
const REDEEM_PATIENCE: Duration = Duration::from_secs(60);

/// Signs in ahead of time.
///
/// # Errors
/// What the report says.
pub async fn login(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let server = config.server.url();
    if config.headers.contains_key(reqwest::header::AUTHORIZATION) {
        bail!("--header gives an Authorization for {}, so there is nothing to sign in to", host(server));
    }
    if io::stdin().is_terminal() && config.authorization.grant == Grant::AuthorizationCode {
        // For a browser elsewhere, whose redirect does not reach this machine. Not waited for.
        let folder = config.store.clone();
        _ = std::thread::Builder::new().name("paste".into()).spawn(move || paste(&folder));
        log::info!("if the browser is on another computer: paste the address here that it ends at");
    }
    let signed_in = client::sign_in(config).await?;
    let server = host(server);
    Ok(if signed_in {
        writeln!(out, "Signed in to {server}.")
    } else {
        writeln!(out, "{server} asks for no sign-in.")
    }?)
}

fn paste(folder: &Path) {
    for line in io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into);
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(hand_over(folder, &line))) {
            log::warn!("{error:#}");
        }
    }
}

/// Forgets one server.
///
/// # Errors
/// Where nothing can be written to `out`.
pub async fn logout(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let outlet = Arc::new(Outlet::new(&config.server, config.network.clone())?);
    let door = Arc::new(Door::new(
        outlet,
        config.server.clone(),
        config.plain_http,
        config.authorization.private_addresses,
        &[],
    ));
    let store = Store::new(config.store.clone(), config.server_hash.clone());
    let revoked = revoke(door, &config.authorization, &store).await;
    tell(out, &host(config.server.url()), &revoked)
}

/// Forgets every server.
///
/// # Errors
/// Where nothing can be written to `out`.
pub async fn logout_all(all: &AllServers, out: &mut impl Write) -> anyhow::Result<()> {
    let stores = Store::servers(&all.store);
    if stores.is_empty() {
        writeln!(out, "Nobody is signed in ({}).", all.store.display())?;
    }
    for store in stores {
        let mut signed_in = Drawer::ALL.iter().filter_map(|drawer| Some((*drawer, Tokens::load(&store, *drawer)?)));
        let address = signed_in.next().and_then(|(drawer, tokens)| {
            let noted = Provenance::load(&store, drawer, &tokens).map(|from| from.server);
            noted.or_else(|| tokens.issuer().map(ToOwned::to_owned))
        });
        let address = address.unwrap_or_default();
        let Ok(server) = ServerUrl::parse(&address, PlainHttp::Allowed) else {
            let nowhere = ServerUrl::parse("https://invalid./", PlainHttp::ForLoopback).map_err(anyhow::Error::msg)?;
            forget(all, &nowhere, &store, out, store.server_hash()).await?;
            continue;
        };
        forget(all, &server, &store, out, &host(server.url())).await?;
    }
    Ok(())
}

async fn forget(
    all: &AllServers,
    server: &ServerUrl,
    store: &Store,
    out: &mut impl Write,
    name: &str,
) -> anyhow::Result<()> {
    let outlet = Arc::new(Outlet::new(server, all.network.clone())?);
    let door = Arc::new(Door::new(outlet, server.clone(), all.plain_http, false, &[]));
    let revoked = revoke(door, &Authorization::default(), store).await;
    tell(out, name, &revoked)
}

fn tell(out: &mut impl Write, name: &str, revoked: &Revoked) -> anyhow::Result<()> {
    match revoked {
        Revoked::Nothing => {
            writeln!(out, "{name}: nobody was signed in; a registration, if there was one, is forgotten.")?
        }
        Revoked::AtServer => writeln!(out, "{name}: signed out; the tokens are revoked.")?,
        Revoked::HereOnly(why) => {
            writeln!(out, "{name}: signed out here; the tokens could not be revoked: {why}")?;
        }
    }
    Ok(())
}

/// A sign-in, without anything secret.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// Address, where it was noted: npm does not.
    server: Option<String>,
    /// npm's name for it.
    hash: String,
    pub(crate) issuer: Option<String>,
    grant: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
    /// RFC 3339, UTC.
    expires_at: Option<String>,
    pub(crate) expired: bool,
    /// Whether a new token can be had without a person.
    pub(crate) refreshable: bool,
}

impl Shown {
    /// How long it is good for, in words.
    pub(crate) fn until(&self) -> String {
        match (&self.expires_at, self.expired, self.refreshable) {
            (Some(end), false, true) => format!("token until {end}, then refreshed"),
            (Some(end), false, false) => format!("token until {end}, then sign in again"),
            (Some(_), true, true) => "token to be refreshed".to_owned(),
            (Some(end), true, false) => format!("token ended {end}: sign in again"),
            (None, ..) => "token without an end".to_owned(),
        }
    }
}

/// The sign-ins of one server.
pub(crate) fn sign_ins(store: &Store) -> Vec<Shown> {
    let now = SystemTime::now();
    Drawer::ALL.into_iter().filter_map(|drawer| show(store, drawer, now)).collect()
}

/// Shows who is signed in where.
///
/// # Errors
/// Where nothing can be written to `out`.
pub fn status(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let stores = match &status.server {
        Some((_, hash)) => vec![Store::new(status.store.clone(), hash.clone())],
        None => Store::servers(&status.store),
    };
    let mut all: Vec<Shown> = stores.iter().flat_map(sign_ins).collect();
    if let (Some((server, _)), [only]) = (&status.server, all.as_mut_slice()) {
        only.server.get_or_insert_with(|| server.url().to_string());
    }
    if status.output == Output::Json {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    if all.is_empty() {
        return Ok(writeln!(out, "Nobody is signed in ({}).", status.store.display())?);
    }
    for sign_in in all {
        let until = sign_in.until();
        let name = sign_in
            .server
            .unwrap_or_else(|| format!("a server that npm's mcp-remote has signed in to ({})", sign_in.hash));
        writeln!(out, "{name}")?;
        writeln!(out, "  {until}")?;
        for (what, value) in
            [("by", sign_in.issuer), ("scope", sign_in.scope), ("grant", sign_in.grant), ("client", sign_in.client_id)]
        {
            if let Some(value) = value {
                writeln!(out, "  {what} {}", one_line(value.as_bytes()))?;
            }
        }
    }
    Ok(())
}

fn show(store: &Store, drawer: Drawer, now: SystemTime) -> Option<Shown> {
    let tokens = Tokens::load(store, drawer)?;
    let from = Provenance::load(store, drawer, &tokens);
    let people = matches!(drawer, Drawer::Npm | Drawer::Dpop);
    Some(Shown {
        server: from.as_ref().map(|from| from.server.clone()),
        hash: store.server_hash().to_owned(),
        issuer: tokens.issuer().map(ToOwned::to_owned),
        grant: from.as_ref().map(|from| from.grant.clone()),
        client_id: from.map(|from| from.client_id),
        scope: tokens.scope().map(ToOwned::to_owned),
        expires_at: tokens
            .expires_at()
            .and_then(|end| Some(Timestamp::try_from(end).ok()?.round(Unit::Second).ok()?.to_string())),
        expired: tokens.has_expired(now),
        refreshable: tokens.refresh_token().is_some() || !people,
    })
}

/// Asks for the address that the browser ended at, and hands it to the sign-in that waits for it.
///
/// # Errors
/// Where there is no such sign-in, or it fails.
pub async fn finish(folder: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        writeln!(
            out,
            "Paste the address that the browser ended at (it begins with http://localhost or http://127.0.0.1):"
        )?;
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    hand_over(folder, &line).await?;
    Ok(writeln!(out, "Signed in.")?)
}

/// Gives a redirect to the process that listens for it, at the very address that it listens at.
async fn hand_over(folder: &Path, pasted: &str) -> anyhow::Result<()> {
    let pasted = Url::parse(pasted.trim()).context("that is not an address")?;
    let Some((_, state)) = pasted.query_pairs().find(|(name, _)| name == "state") else {
        bail!("that is not the address of a finished sign-in: it has no state");
    };
    let stores = Store::servers(folder);
    let all = |store| SignIn::all(store, SystemTime::now()).into_iter();
    let Some((store, sign_in)) =
        stores.iter().find_map(|store| Some((store, all(store).find(|one| one.state() == state)?)))
    else {
        bail!("no sign-in waits for that address; start it again, and use the new one");
    };
    let redirect = Url::parse(&sign_in.redirect_uri)?;
    let target = format!("{}?{}", redirect.path(), pasted.query().unwrap_or_default());
    match tokio::time::timeout(REDEEM_PATIENCE, redirect::hand_over(sign_in.port, &target)).await {
        Ok(Ok((redirect::GO_ON, _))) => {
            let next = all(store).find_map(|one| one.authorization_url).unwrap_or_default();
            bail!("it takes a second sign-in: open {next}, and paste the address that the browser ends at then")
        }
        Ok(Ok((200..400, _))) => Ok(()),
        Ok(Ok((_, page))) => bail!("{}", one_line(page.as_bytes())),
        Ok(Err(error)) => bail!("the sign-in does not listen any more ({error}); start the host's entry again"),
        Err(_) => bail!("the sign-in was silent for {} s", REDEEM_PATIENCE.as_secs()),
    }
}
