//! The command line of the soak.

use std::time::Duration;

use crate::Outcome;

pub(crate) const HELP: &str = "\
Runs an adapter for a long time between a host and a server that fails now and then, and checks that nothing leaks,
nothing is lost and nothing comes twice. Exits with 1 if something does.

    cargo bench --bench soak -- [options]

  --adapter BINARY   run this binary instead of the one of this package
  --minutes N        run for N minutes (default 60)
  --stderr           show what the adapter prints on stderr
";

/// One round: what is done in it takes a few seconds, and the adapter is idle for the rest.
const ROUND: Duration = Duration::from_secs(15);
const ROUNDS_PER_MINUTE: u32 = 4;

pub(crate) struct Options {
    pub(crate) adapter: String,
    pub(crate) rounds: u32,
    pub(crate) round: Duration,
    pub(crate) stderr_shown: bool,
}

impl Options {
    /// Returns the options, or `None` if the user asks for help.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Option<Self>> {
        let mut adapter = option_env!("CARGO_BIN_EXE_mcp-remote").map(str::to_owned);
        let mut minutes: u32 = 60;
        let mut stderr_shown = false;
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} lacks its value"));
            match name.as_str() {
                // What cargo itself adds.
                "--bench" => {}
                "--help" | "-h" => return Ok(None),
                "--adapter" => adapter = Some(value()?),
                "--minutes" => minutes = value()?.parse()?,
                "--stderr" => stderr_shown = true,
                other => return Err(format!("unknown option {other}\n\n{HELP}").into()),
            }
        }
        let adapter = adapter.ok_or("--adapter BINARY is missing")?;
        if !(1..=24 * 60).contains(&minutes) {
            return Err("--minutes takes 1 to 1440".into());
        }
        Ok(Some(Self { adapter, rounds: minutes * ROUNDS_PER_MINUTE, round: ROUND, stderr_shown }))
    }
}
