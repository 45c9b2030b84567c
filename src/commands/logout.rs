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
    let stores = Store::servers(&all.store);
    if stores.is_empty() {
        writeln!(out, "No stored sign-ins in {}.", all.store.display())?;
    }
    for store in stores {
        let mut signed_in = TokenFile::all().filter_map(|file| Some((file, Tokens::load(&store, file)?)));
        let url = signed_in.next().and_then(|(file, tokens)| {
            let noted = Provenance::load(&store, file, &tokens).map(|from| from.server);
            noted.or_else(|| tokens.issuer().map(ToOwned::to_owned))
        });
        let url = url.unwrap_or_default();
        let Ok(server) = ServerUrl::parse(&url, PlainHttp::Allowed) else {
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
