//! `mcp-remote login`: signs in ahead of time, in a terminal.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, bail};
use rmcp::ServiceError;

use super::{
    client::{ClientTransport, RequestFailure, connect},
    finish,
};
use crate::{
    config::Config,
    mcp::method,
    oauth::fact::AuthorizationFact,
    observer::{Fact, Observer},
    report::{self, OWN_ERROR},
    text::host,
};

/// Signs in ahead of time.
///
/// # Errors
/// What the report says.
pub(crate) async fn run(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let server = config.server.url();
    if config.headers.contains_key(reqwest::header::AUTHORIZATION) {
        bail!("--header gives an Authorization for {}, so there is nothing to sign in to", host(server));
    }
    if io::stdin().is_terminal() && config.authorization.grant.has_redirect() {
        // For a browser elsewhere, whose redirect does not reach this machine. Not waited for.
        let folder = config.store.clone();
        _ = std::thread::Builder::new().name("paste".into()).spawn(move || paste(&folder));
        log::info!("if the browser is on another computer: paste the address here that it ends at");
    }
    let signed_in = sign_in(config).await?;
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
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(finish::hand_over(folder, &line))) {
            log::warn!("{error:#}");
        }
    }
}

/// Connects and asks for the tools, which some servers protect where `initialize` is open to all. Whether
/// there is a token to show now.
///
/// # Errors
/// The first step that failed, with the server's reason.
async fn sign_in(config: &Config) -> anyhow::Result<bool> {
    let host = host(config.server.url());
    let told = |failure: RequestFailure| {
        let line = report::line(&failure.sentence, failure.code, failure.hint.as_deref());
        anyhow::Error::msg(line)
    };
    let (observer, mut facts) = Observer::new();
    let service = connect(ClientTransport::new(config, observer)?, "mcp-remote login", &host).await.map_err(told)?;
    let declared = service.peer_info().is_some_and(|server| server.capabilities.tools.is_some());
    let asked = if declared { service.list_tools(None).await.map(drop) } else { Ok(()) };
    service.cancel().await.context("the connection did not end well")?;
    match asked {
        // What the server itself has against the request has nothing to do with the sign-in.
        Err(ServiceError::McpError(answer)) if answer.code.0 == OWN_ERROR => {
            Err(told(RequestFailure::of_answer(&answer, method::TOOLS_LIST, &host))).context("tools/list failed")
        }
        _ => Ok(std::iter::from_fn(|| facts.try_recv().ok())
            .any(|fact| matches!(fact, Fact::Authorization(AuthorizationFact::Credential(_))))),
    }
}
