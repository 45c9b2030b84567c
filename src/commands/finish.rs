//! `mcp-remote-client finish`: hands a redirect that another computer's browser received to the sign-in that waits for it.
//!
//! # Invariants
//!
//! - The redirect is read from stdin, never from an argument, because other users of the machine see arguments.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{anyhow, bail};
use reqwest::Url;

use crate::{
    oauth::{person::redirect, stored::sign_in::SignIn},
    store::Store,
    text::{chain, one_line},
};

/// How long a waiting sign-in may take to redeem a code.
const REDEEM_PATIENCE: Duration = Duration::from_secs(60);

/// Asks for the URL of the browser's last page, and hands it to the sign-in that waits for it.
///
/// # Errors
/// Where there is no such sign-in, or it fails.
pub(crate) async fn run(folder: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        writeln!(
            out,
            "Paste the URL of the browser's last page. It begins with http://localhost or http://127.0.0.1:"
        )?;
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    hand_over(folder, &line).await?;
    Ok(writeln!(out, "Signed in.")?)
}

/// Sends a redirect to the process that listens for it, at the address that it listens on.
pub(super) async fn hand_over(folder: &Path, pasted: &str) -> anyhow::Result<()> {
    let pasted = Url::parse(pasted.trim())
        .map_err(|_| anyhow!("the pasted text is not a URL\nTip: copy the whole URL from the browser's address bar"))?;
    let Some((_, state)) = pasted.query_pairs().find(|(name, _)| name == "state") else {
        bail!(
            "the pasted URL is not the last page of a sign-in, because it has no state parameter\n\
             Tip: copy the URL of the page that the browser shows after you approve access"
        );
    };
    let stores = Store::servers(folder);
    let all = |store| SignIn::all(store, SystemTime::now()).into_iter();
    let Some((store, sign_in)) =
        stores.iter().find_map(|store| Some((store, all(store).find(|one| one.state() == state)?)))
    else {
        bail!("no sign-in waits for the pasted URL\nTip: start the sign-in again, and paste the new URL");
    };
    let redirect = Url::parse(&sign_in.redirect_uri)?;
    let target = format!("{}?{}", redirect.path(), pasted.query().unwrap_or_default());
    match tokio::time::timeout(REDEEM_PATIENCE, redirect::hand_over(sign_in.port, &target)).await {
        Ok(Ok((redirect::GO_ON, _))) => {
            let next = all(store).find_map(|one| one.authorization_url).unwrap_or_default();
            bail!("a second sign-in is needed\nTip: paste the URL of the last page after you open {next}")
        }
        Ok(Ok((200..400, _))) => Ok(()),
        Ok(Ok((_, page))) => bail!("{}", one_line(page.as_bytes())),
        Ok(Err(error)) => bail!(
            "the sign-in no longer listens on port {}: {}\nTip: restart the entry in the host, then sign in again",
            sign_in.port,
            chain(&error)
        ),
        Err(_) => bail!(
            "the sign-in did not answer for {} s\nTip: restart the entry in the host, then sign in again",
            REDEEM_PATIENCE.as_secs()
        ),
    }
}
