//! One MCP session, through an adapter or straight over HTTP: opened as a host opens it, loaded, closed.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::Outcome;
use crate::direct::Direct;
use crate::host::{Adapter, Host, Outbox, Target};
use crate::ledger::{Ledger, Tally};
use crate::running_server::RunningServer;
use crate::scratch::Scratch;
use crate::workload::{Call, Load};

const INITIALIZE: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST_TOOLS: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
const INITIALIZE_ID: u32 = 0;
const LIST_TOOLS_ID: u32 = 1;
/// The calls of loads are numbered from here.
pub(crate) const FIRST_CALL_ID: u32 = 2;

/// How much a session of small messages reads at once.
pub(crate) const ROOM: usize = 256 * 1024;
/// Who has not answered `initialize` by then will not.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The way to the server that is measured.
#[derive(Clone)]
pub(crate) enum Way {
    Direct,
    Through(Adapter),
}

pub(crate) enum Session {
    Direct(Direct),
    Host { host: Box<Host>, next_id: u32 },
}

impl Session {
    /// Starts, and has `initialize` answered; with the time that took. `room` is how much can be read at once.
    pub(crate) async fn initialize(way: &Way, server: &RunningServer, room: usize) -> Outcome<(Self, Duration)> {
        match way {
            Way::Direct => {
                let started = Instant::now();
                let direct = Direct::initialize(server.endpoint.clone(), room, INITIALIZE).await?;
                Ok((Self::Direct(direct), started.elapsed()))
            }
            Way::Through(adapter) => {
                let url = server.url();
                let target = Target { url: &url, authority_file: server.authority_file.as_deref() };
                let (mut host, started) = Host::launch(adapter, &target, Scratch::new()?, room)?;
                host.send(INITIALIZE).await?;
                timeout(HANDSHAKE_LIMIT, host.answer(INITIALIZE_ID))
                    .await
                    .map_err(|_| "initialize was not answered")??;
                Ok((Self::Host { host: Box::new(host), next_id: FIRST_CALL_ID }, started.elapsed()))
            }
        }
    }

    /// The whole handshake.
    pub(crate) async fn open(way: &Way, server: &RunningServer, room: usize) -> Outcome<Self> {
        let (mut session, _) = Self::initialize(way, server, room).await?;
        session.send(INITIALIZED).await?;
        Ok(session)
    }

    /// The rest of the handshake and the first thing hosts ask for.
    pub(crate) async fn list_tools(&mut self) -> Outcome<()> {
        self.send(INITIALIZED).await?;
        self.send(LIST_TOOLS).await?;
        match self {
            Self::Direct(_) => Ok(()),
            Self::Host { host, .. } => host.answer(LIST_TOOLS_ID).await,
        }
    }

    pub(crate) async fn pump(&mut self, load: Load) -> Outcome<Tally> {
        match self {
            Self::Direct(direct) => direct.pump(load).await,
            Self::Host { host, next_id } => pump(host, next_id, load).await,
        }
    }

    /// Writes all calls of a load while nothing is read, until `pause` has ended; then reads the answers.
    pub(crate) async fn pump_after(&mut self, load: Load, pause: impl Future<Output = Outcome<()>>) -> Outcome<Tally> {
        match self {
            Self::Direct(_) => Err("only a host can leave its input unread".into()),
            Self::Host { host, next_id } => pump_after(host, next_id, load, pause).await,
        }
    }

    /// Writes calls whose answers are not awaited.
    pub(crate) async fn start_calls(&mut self, call: Call, count: u32) -> Outcome<()> {
        for id in 0..count {
            let mut request = Vec::new();
            call.write_request(FIRST_CALL_ID + id, &mut request);
            self.send(&request).await?;
        }
        Ok(())
    }

    /// The adapter's process, if there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Direct(_) => None,
            Self::Host { host, .. } => Some(host.pid),
        }
    }

    /// How long the adapter took to exit, if there is one and it did.
    pub(crate) async fn close(self) -> Outcome<Option<Duration>> {
        match self {
            Self::Direct(_) => Ok(None),
            Self::Host { host, .. } => host.close().await,
        }
    }

    async fn send(&mut self, message: &[u8]) -> Outcome<()> {
        match self {
            Self::Direct(direct) => direct.send(message).await,
            Self::Host { host, .. } => host.send(message).await,
        }
    }
}

/// Keeps `load.in_flight` calls going until the load is done; all that is ready goes out in one write.
async fn pump(host: &mut Host, next_id: &mut u32, load: Load) -> Outcome<Tally> {
    let mut ledger = Ledger::new(load, *next_id);
    let mut out = Outbox::default();
    for _ in 0..load.in_flight {
        issue_line(&mut ledger, &mut out);
    }
    ledger.start();
    while !ledger.is_settled() {
        host.turn(&mut out).await?;
        while let Some(line) = host.take_line() {
            if ledger.receive(line)? {
                issue_line(&mut ledger, &mut out);
            }
        }
    }
    *next_id = ledger.next_id();
    Ok(ledger.close())
}

/// One call is prepared at a time, because many large ones would fill the memory of this process.
async fn pump_after(
    host: &mut Host,
    next_id: &mut u32,
    load: Load,
    pause: impl Future<Output = Outcome<()>>,
) -> Outcome<Tally> {
    let mut ledger = Ledger::new(load, *next_id);
    let mut out = Outbox::default();
    ledger.start();
    let mut pause = pin!(pause);
    loop {
        if out.bytes.is_empty() {
            issue_line(&mut ledger, &mut out);
        }
        tokio::select! {
            ended = &mut pause => break ended?,
            written = host.write(&mut out), if !out.bytes.is_empty() => written?,
        }
    }
    while !ledger.is_settled() {
        if out.bytes.is_empty() {
            issue_line(&mut ledger, &mut out);
        }
        host.turn(&mut out).await?;
        while let Some(line) = host.take_line() {
            ledger.receive(line)?;
        }
    }
    *next_id = ledger.next_id();
    Ok(ledger.close())
}

fn issue_line(ledger: &mut Ledger, out: &mut Outbox) {
    if ledger.issue(&mut out.bytes) {
        out.bytes.push(b'\n');
    }
}
