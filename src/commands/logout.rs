//! `mcp-remote logout`: forgets the sign-in with one server or with all of them, and revokes the tokens (RFC 7009).

use std::io::Write;

use crate::{
    cli::AllServers,
    compose,
    config::{Authorization, Config, PlainHttp, ServerUrl},
    oauth::{
        grants::revocation::{Revoked, revoke},
        stored::{
            provenance::Provenance,
            registrations,
            tokens::{TokenFile, Tokens},
        },
    },
    store::Store,
    text::host,
};

/// Forgets one server.
///
/// # Errors
/// Where nothing can be written to `out`.
pub(crate) async fn server(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let store = compose::store(config);
    let revoked = revoke(compose::revocation_client(config)?, &config.authorization, &store).await;
    print(out, &host(config.server.url()), &revoked)
}

/// Forgets every server.
///
/// # Errors
/// Where nothing can be written to `out`.
pub(crate) async fn all(all: &AllServers, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut sign_ins, mut registrations) = (0, 0);
    for store in Store::servers(&all.store) {
        let nowhere = ServerUrl::parse("https://invalid./", PlainHttp::ForLoopback).map_err(anyhow::Error::msg)?;
        if !TokenFile::all().any(|file| store.path(&file.name()).exists()) {
            registrations += usize::from(registrations::is_stored(&store));
            // What else is there belongs to no sign-in.
            revoke(compose::revocation_client_of(&nowhere, all)?, &Authorization::default(), &store).await;
            continue;
        }
        sign_ins += 1;
        let mut signed_in = TokenFile::all().filter_map(|file| Some((file, Tokens::load(&store, file)?)));
        let url = signed_in.next().and_then(|(file, tokens)| {
            let noted = Provenance::load(&store, file, &tokens).map(|from| from.server);
            noted.or_else(|| tokens.issuer().map(ToOwned::to_owned))
        });
        let url = url.unwrap_or_default();
        let Ok(server) = ServerUrl::parse(&url, PlainHttp::Allowed) else {
            forget(all, &nowhere, &store, out, "an unknown server").await?;
            continue;
        };
        forget(all, &server, &store, out, &host(server.url())).await?;
    }
    match (sign_ins, registrations) {
        (0, 0) => writeln!(out, "Nothing to sign out of.")?,
        (_, 0) => {}
        (_, 1) => writeln!(out, "Deleted 1 client registration.")?,
        (_, registrations) => writeln!(out, "Deleted {registrations} client registrations.")?,
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
    let revoked = revoke(compose::revocation_client_of(server, all)?, &Authorization::default(), store).await;
    print(out, name, &revoked)
}

fn print(out: &mut impl Write, name: &str, revoked: &Revoked) -> anyhow::Result<()> {
    match revoked {
        Revoked::Nothing => {
            writeln!(out, "{name}: there was no sign-in. A stored client registration, if any, was deleted.")?
        }
        Revoked::AtServer => writeln!(out, "Signed out of {name}. The tokens are revoked.")?,
        Revoked::HereOnly(why) => {
            writeln!(out, "Signed out of {name} on this computer. The tokens could not be revoked: {why}")?;
        }
    }
    Ok(())
}
