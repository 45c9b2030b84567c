//! `mcp-remote-client finish`: hands a redirect that reached another computer to the sign-in that waits for it.
//!
//! # Invariants
//!
//! - The redirect is read from stdin, never from an argument, because other users of the machine see arguments.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use reqwest::Url;

use crate::{
    oauth::{person::redirect, stored::sign_in::SignIn},
    store::Store,
    text::one_line,
};

/// How long a waiting sign-in may take to redeem a code.
const REDEEM_PATIENCE: Duration = Duration::from_secs(60);

/// Asks for the address that the browser ended at, and hands it to the sign-in that waits for it.
///
/// # Errors
/// Where there is no such sign-in, or it fails.
pub(crate) async fn run(folder: &Path, out: &mut impl Write) -> anyhow::Result<()> {
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
pub(super) async fn hand_over(folder: &Path, pasted: &str) -> anyhow::Result<()> {
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
