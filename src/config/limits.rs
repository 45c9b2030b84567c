//! Time limits, sizes and pauses. They are used as they are given, so their flags are declared here: a new one is a field
//! and its use.

use std::time::Duration;

use super::{
    Start,
    values::{positive_seconds, seconds, size},
};

/// The heading of these flags in the help.
pub(crate) const HEADING: &str = "Limits and recovery";
/// npm's default for `--ping-interval`.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The limits; each field is a flag, and its documentation the flag's help.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Limits {
    /// What to do with the host's initialize while a server seen for the first time cannot answer it: hold it for as
    /// long as this host waits (hold), answer it with a placeholder at once (answer), or let it wait (wait)
    #[arg(long, value_name = "HOW", default_value = "hold", hide_possible_values = true, help_heading = HEADING)]
    pub start: Start,

    /// How long to hold the host's initialize, in seconds [default: by host, 3.5 for hosts that are not known]
    #[arg(long, alias = "answer-within", value_name = "SECONDS", value_parser = seconds, help_heading = HEADING)]
    pub hold: Option<Duration>,

    /// Time for the server to answer initialize
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = positive_seconds, help_heading = HEADING)]
    pub initialize_timeout: Duration,

    /// How long a message waits for a server that is down; 0 answers at once
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, help_heading = HEADING)]
    pub retry_for: Duration,

    /// Longest message in either direction, in bytes; K, M and G may follow. The answers that are being received take at
    /// most twice this
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size, help_heading = HEADING)]
    pub max_message_size: usize,

    /// Ping the server regularly
    #[arg(long, help_heading = HEADING)]
    pub keep_alive: bool,

    /// Time between pings; implies --keep-alive
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, help_heading = HEADING)]
    pub ping_interval: Option<Duration>,

    /// Tell the host of progress while a long call goes on and the server tells none, so that it does not give up
    #[arg(long, help_heading = HEADING)]
    pub progress_keepalive: bool,
}

impl Limits {
    /// Returns the pause between pings of this program, if there are to be any.
    pub(crate) fn ping(&self) -> Option<Duration> {
        self.ping_interval.or_else(|| self.keep_alive.then_some(PING_INTERVAL))
    }
}
