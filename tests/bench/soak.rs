//! One hour of work and of faults: whether memory, threads and descriptors of the adapter stay flat, and whether each call
//! is answered once and each notification arrives in order.
//!
//! `cargo bench --bench soak -- --help` lists the options. The binary is launched as a host would launch it ([`host`]). The
//! server ([`server`]) runs in this process: MCP over Streamable HTTP behind OAuth with access tokens that live for 30 s. Each
//! round ([`driver`]) has a thousand calls at once, ten thousand notifications in a second, and one or two faults. Every
//! line of the adapter is checked ([`books`]), and its process is looked at when it is idle ([`vitals`]).

#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod answers;
#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod asked;
#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod host;
#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod http;
#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod inbox;
#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod process;
mod scratch;
#[allow(dead_code, reason = "the forwarding benchmark uses the rest")]
mod workload;

#[path = "soak/books.rs"]
mod books;
#[path = "soak/driver.rs"]
mod driver;
#[path = "soak/fault.rs"]
mod fault;
#[path = "soak/options.rs"]
mod options;
#[path = "soak/report.rs"]
mod report;
#[path = "soak/server.rs"]
mod server;
#[path = "soak/state.rs"]
mod state;
#[path = "soak/vitals.rs"]
mod vitals;

use std::error::Error;
use std::io::{self, Write};
use std::{env, process::ExitCode};

use self::driver::Driver;
use self::options::{HELP, Options};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything held.
fn run() -> Outcome<bool> {
    let Some(options) = Options::parse(env::args().skip(1))? else {
        io::stdout().write_all(HELP.as_bytes())?;
        return Ok(true);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async { Driver::start(&options).await?.run(&options).await })?;
    io::stdout().write_all(report.to_markdown().as_bytes())?;
    Ok(report.is_clean())
}

/// Writes a line of progress to stderr, so that stdout holds the report and nothing else.
fn log(line: &str) {
    // A closed stderr is no reason to end the run.
    let _ = writeln!(io::stderr(), "{line}");
}
