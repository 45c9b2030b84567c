//! How fast messages cross the adapter, how soon it is ready, and what it costs: measured beside the direct way and beside peers.
//!
//! `cargo bench --bench forwarding -- --help` lists the options. A pass runs every scenario ([`scenario`]) through every
//! contender: our binary launched as a host would ([`host`]), the same work straight over HTTP ([`direct`]), a forwarder
//! that does nothing else ([`minimal`]), and any peers.
//! All of it goes to a server of our own in its own process ([`server`]), every answer is checked ([`ledger`]), and the
//! medians become Markdown ([`report`]). The order of the contenders rotates from pass to pass.

mod answers;
mod asked;
mod direct;
mod growth;
mod host;
mod http;
mod inbox;
mod ledger;
mod minimal;
mod options;
mod process;
mod report;
mod rows;
mod running_server;
mod scenario;
mod scratch;
mod server;
mod session;
mod tls;
mod workload;

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;
use std::{env, process::ExitCode};

use tokio::task::LocalSet;
use tokio::time::timeout;

use self::options::{HELP, Options, Wish};
use self::report::Report;
use self::running_server::RunningServer;
use self::scenario::{Scenario, Servers};
use self::scratch::Scratch;
use self::server::Manner;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const FAR: Duration = Duration::from_millis(25);
/// Longer than an adapter needs to take all that it is willing to hold.
const UNREAD: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut arguments = env::args().skip(1).peekable();
    if arguments.next_if_eq("serve").is_some() {
        return runtime.block_on(server::serve(arguments));
    }
    if arguments.next_if_eq("forward").is_some() {
        let url = arguments.next().ok_or("`forward` lacks its URL")?;
        return LocalSet::new().block_on(&runtime, minimal::forward(&url));
    }
    let text = match Options::parse(arguments)? {
        Wish::Help => HELP.to_owned(),
        Wish::List => titles(),
        Wish::Measure(options) => runtime.block_on(measure(&options))?.to_markdown(&options),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

async fn measure(options: &Options) -> Outcome<Report> {
    let scratch = Scratch::new()?;
    let authority_file = Some(scratch.path().join("authority.pem"));
    let servers = Servers {
        near: RunningServer::start(Manner::default()).await?,
        encrypted: RunningServer::start(Manner { authority_file, ..Manner::default() }).await?,
        far: RunningServer::start(Manner { round_trip: FAR, ..Manner::default() }).await?,
        modern: RunningServer::start(Manner { is_modern: true, ..Manner::default() }).await?,
        not_reading: RunningServer::start(Manner { unread: UNREAD, ..Manner::default() }).await?,
    };
    let scenarios = Scenario::ALL.iter();
    let scenarios: Vec<_> = scenarios.filter(|scenario| scenario.rows().iter().any(|row| options.wants(row))).collect();
    let places = options.contenders.len();

    let mut report = Report::default();
    // Who failed once would only fail again, and slowly.
    let mut failed = HashSet::new();
    for pass in 0..options.passes {
        for scenario in &scenarios {
            for place in (0..places).map(|turn| (turn + pass) % places) {
                if failed.contains(&(*scenario, place)) {
                    continue;
                }
                let contender = &options.contenders[place];
                if !scenario.suits(contender.role) {
                    continue;
                }
                let title = scenario.rows()[0].title;
                tell(&format!("pass {} of {}: {title}: {}", pass + 1, options.passes, contender.name));
                let run = scenario.run(&contender.way, &servers, options.effort);
                let limit = scenario.limit(options.effort);
                let problem = match timeout(limit, run).await {
                    Ok(Ok(samples)) => {
                        report.add(place, samples);
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("not done after {} s", limit.as_secs()),
                };
                report.add_failure(format!("{}: {title}: {problem}", contender.name));
                failed.insert((*scenario, place));
            }
        }
    }
    Ok(report)
}

fn titles() -> String {
    let rows = Scenario::ALL.iter().flat_map(|scenario| scenario.rows());
    let titles: Vec<_> = rows.map(|row| row.title).collect();
    titles.join("\n") + "\n"
}

/// Progress goes to stderr, so that stdout holds the report and nothing else.
fn tell(line: &str) {
    // With nobody listening there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
