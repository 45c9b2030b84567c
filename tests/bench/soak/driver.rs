//! The rounds: what the host asks, what the server publishes and which faults it has, and when the adapter is looked at.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use crate::books::Books;
use crate::fault::Fault;
use crate::host::{Adapter, Handles, Host, Outbox, Target, config_folder};
use crate::options::Options;
use crate::report::Report;
use crate::scratch::Scratch;
use crate::server::Server;
use crate::vitals::Vitals;
use crate::workload::Call;
use crate::{Outcome, log, process};

const INITIALIZE: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"soak","version":"1"}}}"#;
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST_TOOLS: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
const FIRST_CALL_ID: u32 = 2;
const ROOM: usize = 256 * 1024;
/// The calls of a round that are written at once, and those that are made a few at a time during the burst.
const WAVE: u32 = 1_000;
const BESIDE_BURST: u32 = 400;
const FEW: usize = 16;
/// Notifications of a burst, and in which time.
const BURST: u32 = 10_000;
const BURST_TIME: Duration = Duration::from_secs(1);
/// What is still unanswered after this long will not be answered: the adapter answers each request within 45 s.
const PATIENCE: Duration = Duration::from_secs(90);
const CLIENT_ID: &str = "soak-client";

pub(crate) struct Driver {
    host: Host,
    server: Server,
    out: Outbox,
    books: Books,
    vitals: Vec<Vitals>,
    started: Instant,
}

/// Some calls of a round.
struct Load {
    calls: u32,
    in_flight: usize,
    call: fn(u32) -> Call,
}

impl Driver {
    /// Starts the server, leaves a sign-in in the store, and makes the handshake as a host does.
    pub(crate) async fn start(options: &Options) -> Outcome<Self> {
        let server = Server::start().await?;
        let home = Scratch::new()?;
        sign_in(&server, &home)?;
        let adapter = Adapter {
            command: [&options.adapter, "{url}", "--no-browser"].map(str::to_owned).to_vec(),
            handles: Handles::SocketPairs,
            takes_authority: true,
            stderr_shown: options.stderr_shown,
        };
        let url = server.url();
        let target = Target { url: &url, authority_file: None };
        let (mut host, _) = Host::launch(&adapter, &target, home, ROOM)?;
        host.send(INITIALIZE).await?;
        timeout(PATIENCE, host.answer(0)).await.map_err(|_| "initialize was not answered")??;
        host.send(INITIALIZED).await?;
        host.send(LIST_TOOLS).await?;
        timeout(PATIENCE, host.answer(1)).await.map_err(|_| "tools/list was not answered")??;
        let books = Books::new(FIRST_CALL_ID);
        Ok(Self { host, server, out: Outbox::default(), books, vitals: Vec::new(), started: Instant::now() })
    }

    pub(crate) async fn run(mut self, options: &Options) -> Outcome<Report> {
        for round in 0..options.rounds {
            // What is wrong with the adapter is a result of the run, too.
            if let Err(error) = self.round(round, self.started + options.round * (round + 1)).await {
                self.books.violate(format!("round {round}: {error}"));
                break;
            }
            self.log_round(round);
        }
        self.finish().await
    }

    async fn round(&mut self, round: u32, end: Instant) -> Outcome<()> {
        let wave = match round % 3 {
            0 => {
                self.server.state().plan(WAVE / 2, Fault::SessionLost);
                Load { calls: WAVE, in_flight: WAVE as usize, call: quick_or_slow }
            }
            1 => {
                self.server.state().plan(WAVE / 2, Fault::TokensRevoked);
                Load { calls: WAVE, in_flight: WAVE as usize, call: quick_or_slow }
            }
            _ => Load { calls: WAVE, in_flight: WAVE as usize, call: |_| Call::Sleep { milliseconds: 1_500 } },
        };
        self.work(wave, self.server.published()).await?;
        let fault = match round % 4 {
            0 => Fault::StreamEnds,
            1 => Fault::StreamBreaks,
            2 => Fault::ConnectionsClosed,
            _ => Fault::ConnectionsReset,
        };
        let due = self.server.published() + BURST;
        let burst = tokio::spawn(self.server.clone().burst(BURST, BURST_TIME, fault));
        self.work(Load { calls: BESIDE_BURST, in_flight: FEW, call: of_each_kind }, due).await?;
        burst.await?;
        self.listen_until(end).await?;
        self.vitals.push(Vitals::of(self.host.pid)?);
        Ok(())
    }

    /// Makes calls until they are answered and this many notifications have come.
    async fn work(&mut self, load: Load, notifications: u32) -> Outcome<()> {
        let end = Instant::now() + PATIENCE;
        let mut left = load.calls;
        let mut drops = self.server.state().counts.drops;
        while left > 0 || self.books.in_flight > 0 || self.books.next_notification < notifications {
            let now = self.server.state().counts.drops;
            // Once connections were dropped, no call is begun before the adapter must have noticed.
            if self.books.in_flight == 0 {
                drops = now;
            }
            while left > 0 && self.books.in_flight < load.in_flight && drops == now {
                self.books.issue((load.call)(left), drops, &mut self.out.bytes);
                left -= 1;
            }
            if timeout_at(end, self.turn()).await.is_err() {
                let unanswered: Vec<_> = self.books.unanswered().take(10).collect();
                let missing = notifications.saturating_sub(self.books.next_notification);
                let (in_flight, seconds) = (self.books.in_flight, PATIENCE.as_secs());
                return Err(format!(
                    "after {seconds} s {in_flight} calls are unanswered ({unanswered:?}) and {missing} notifications missing"
                )
                .into());
            }
        }
        Ok(())
    }

    /// Reads what comes while nothing is asked.
    async fn listen_until(&mut self, end: Instant) -> Outcome<()> {
        while let Ok(turned) = timeout_at(end, self.turn()).await {
            turned?;
        }
        Ok(())
    }

    async fn turn(&mut self) -> Outcome<()> {
        self.host.turn(&mut self.out).await?;
        let drops = self.server.state().counts.drops;
        while let Some(line) = self.host.take_line() {
            self.books.receive(line, drops);
        }
        Ok(())
    }

    fn log_round(&self, round: u32) {
        if let Some(vitals) = self.vitals.last() {
            log(&format!(
                "round {round} at {} s: {:.1} MB, {} threads, {} descriptors; {} calls, {} notifications, {} refreshes",
                self.started.elapsed().as_secs(),
                vitals.resident,
                vitals.threads,
                vitals.descriptors,
                self.books.issued(),
                self.books.notifications,
                self.server.state().counts.refreshes,
            ));
        }
    }

    async fn finish(mut self) -> Outcome<Report> {
        let elapsed = self.started.elapsed();
        let processor_time = process::processor_time(self.host.pid).ok();
        let peak = process::peak_resident(self.host.pid).ok();
        match self.host.close().await {
            Ok(Some(_)) => {}
            Ok(None) => self.books.violate("the adapter did not exit at the end of its input".to_owned()),
            Err(error) => self.books.violate(format!("the adapter's end: {error}")),
        }
        let not_run: Vec<_> = {
            let state = self.server.state();
            self.books.with_result().filter(|id| !state.has_executed(*id)).take(10).collect()
        };
        if !not_run.is_empty() {
            self.books.violate(format!("results of calls that the server has not run: {not_run:?}"));
        }
        let violations = self.server.state().violations.clone();
        violations.into_iter().for_each(|violation| self.books.violate(violation));
        let counts = self.server.state().counts.clone();
        let published = self.server.published();
        Ok(Report { elapsed, processor_time, peak, books: self.books, counts, published, vitals: self.vitals })
    }
}

/// Nine quick calls, and one that takes a moment.
fn quick_or_slow(number: u32) -> Call {
    if number.is_multiple_of(10) { Call::Sleep { milliseconds: 200 } } else { Call::Echo }
}

fn of_each_kind(number: u32) -> Call {
    match number % 3 {
        0 => Call::Echo,
        1 => Call::EchoSse,
        _ => Call::Sleep { milliseconds: 50 },
    }
}

/// Leaves what the npm package leaves after a sign-in.
fn sign_in(server: &Server, home: &Scratch) -> Outcome<()> {
    let mut tokens = server.state().grant();
    let lifetime = Duration::from_secs(tokens["expires_in"].as_u64().unwrap_or_default());
    let end = SystemTime::now().duration_since(UNIX_EPOCH)? + lifetime;
    tokens["expires_at"] = json!(u64::try_from(end.as_millis())?);
    tokens["issuer"] = json!(server.issuer());
    let client = json!({
        "client_id": CLIENT_ID,
        "redirect_uris": ["http://localhost:3335/oauth/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "issuer": server.issuer(),
    });
    let folder = config_folder(home).join("mcp-remote-v1");
    fs::create_dir_all(&folder)?;
    let hash: String = Md5::digest(server.url()).iter().map(|byte| format!("{byte:02x}")).collect();
    let write = |name: &str, value: &Value| fs::write(folder.join(format!("{hash}_{name}.json")), value.to_string());
    write("tokens", &tokens)?;
    write("client_info", &client)?;
    Ok(())
}
