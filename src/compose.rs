//! The composition of the program: from a [`Config`] to the network, the authorizer, the remote end and the loop. Every
//! command takes its parts from here.
//!
//! # Invariants
//!
//! - Nothing here connects or starts a task.

use std::{sync::Arc, time::Duration};

use reqwest::header::AUTHORIZATION;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::{
    cli::AllServers,
    config::{Config, ServerUrl},
    description::store::{Account, AccountNow, DescriptionStore},
    era::known::Eras,
    forward::{self, Clock, Ends, Forward, Settings},
    local::{Lines, Writer},
    network::ClientFactory,
    oauth::{Authorizer, Executor, http::client::HttpClient},
    observer::Observer,
    remote::{
        self, EventReceiver, Opener,
        http::{Http, masking::Masker},
    },
    shutdown::Stop,
    store::Store,
};

/// The loop with all that belongs to it, ready to run between a host and the server.
#[derive(Debug)]
pub(crate) struct Forwarder {
    forward: Forward,
    opener: Opener,
    events: EventReceiver,
    max_message: usize,
}

impl Forwarder {
    /// Puts the program together. `observer` hears what a host does not.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub(crate) fn new(config: &Config, observer: Observer) -> anyhow::Result<Self> {
        let (opener, events) = remote_end(config, observer)?;
        let account: AccountNow = match &opener.authorizer {
            Some(authorizer) => authorizer.account_now(),
            None => Arc::new(|| Account::Nobody),
        };
        let descriptions = DescriptionStore::new(config, account);
        let settings = Settings {
            server: config.server.url().clone(),
            ignored_tools: config.ignored_tools.clone(),
            protocol: config.protocol(),
            limits: config.limits.clone(),
            host_environment: config.host_environment.clone(),
            clock: Clock::monotonic(),
            masker: Masker::of(&opener.http),
        };
        let forward = Forward::new(settings, Box::new(descriptions));
        Ok(Self { forward, opener, events, max_message: config.limits.max_message_size })
    }

    /// Forwards between a host at `reader` and `writer` and the server, until the host closes its end or a stop comes.
    /// A value of `wakes` says how long the machine has slept.
    pub(crate) async fn run<R, W>(
        self,
        reader: R,
        writer: W,
        stops: mpsc::Receiver<Stop>,
        wakes: mpsc::Receiver<Duration>,
    ) where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let ends = Ends {
            lines: Lines::new(reader, self.max_message),
            writer: Writer::new(writer),
            opener: self.opener,
            events: self.events,
            stops,
            wakes,
        };
        if let Some(authorizer) = &ends.opener.authorizer {
            authorizer.read_ahead();
        }
        forward::run(self.forward, ends).await;
    }
}

/// Returns what opens the remote end, and where the events of the remote end arrive.
pub(crate) fn remote_end(config: &Config, observer: Observer) -> anyhow::Result<(Opener, EventReceiver)> {
    let network = Arc::new(ClientFactory::new(&config.server, config.network.clone())?);
    // A header `Authorization` is the credential of the user, and no other is obtained.
    let authorizer = (!config.headers.contains_key(AUTHORIZATION)).then(|| {
        let client = authorization_client(config, network.clone());
        Arc::new(Authorizer::new(
            config.authorization.clone(),
            config.limits.start,
            client,
            store(config),
            observer.of_authorization(),
            Executor::thread(),
        ))
    });
    let http = Http::new(
        network,
        &config.server,
        &config.headers,
        &config.network,
        authorizer.clone(),
        config.limits.max_message_size,
        observer,
    )?;
    let (sender, events) = remote::events::channel();
    let opener = Opener {
        http: Arc::new(http),
        authorizer,
        strategy: config.transport,
        limits: config.limits.clone(),
        protocol: config.protocol(),
        eras: Eras::new(store(config), config.server.url()),
        events: sender,
    };
    Ok((opener, events))
}

/// Returns the files of the configured server.
pub(crate) fn store(config: &Config) -> Store {
    Store::new(config.store.clone(), config.server_hash.clone())
}

/// Returns the client for the authorization server's endpoints, for `logout` of the configured server.
pub(crate) fn revocation_client(config: &Config) -> anyhow::Result<Arc<HttpClient>> {
    let network = Arc::new(ClientFactory::new(&config.server, config.network.clone())?);
    let private_addresses = config.authorization.private_addresses;
    Ok(Arc::new(HttpClient::new(network, config.server.clone(), config.plain_http, private_addresses, &[])))
}

/// The same for a server that only the store knows.
pub(crate) fn revocation_client_of(server: &ServerUrl, all: &AllServers) -> anyhow::Result<Arc<HttpClient>> {
    let network = Arc::new(ClientFactory::new(server, all.network.clone())?);
    Ok(Arc::new(HttpClient::new(network, server.clone(), all.plain_http, false, &[])))
}

fn authorization_client(config: &Config, network: Arc<ClientFactory>) -> HttpClient {
    let settings = &config.authorization;
    let mut named = settings.grant.named_endpoints();
    named.extend(settings.endpoints.iter().flat_map(|endpoints| [&endpoints.authorization, &endpoints.token]));
    HttpClient::new(network, config.server.clone(), config.plain_http, settings.private_addresses, &named)
}
