//! Time limits, sizes and pauses. They are used as they are given, so their flags are declared here: a new one is a field
//! and its use.

use std::time::Duration;

use super::{
    Start,
    values::{ping_interval, positive_seconds, seconds, size},
};

/// The heading of these flags in the help.
pub(crate) const HEADING: &str = "Timeouts and retries";
/// npm's default for `--ping-interval`.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The limits; each field is a flag, and its documentation the flag's help.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Limits {
    /// Choose how to answer the host until the server is ready
    ///
    /// It applies to the host's initialize if mcp-remote has not reached the server before.
    #[arg(long, value_name = "HOW", default_value = "hold", help_heading = HEADING)]
    pub start: Start,

    /// Hold the host's initialize for this long
    ///
    /// In seconds. The default depends on the host and is 3.5 for an unknown host.
    #[arg(long, alias = "answer-within", value_name = "SECONDS", value_parser = seconds, help_heading = HEADING)]
    pub hold: Option<Duration>,

    /// Limit the server's time to answer initialize
    ///
    /// In seconds.
    #[arg(long, value_name = "SECONDS", default_value = "45", value_parser = positive_seconds, help_heading = HEADING)]
    pub initialize_timeout: Duration,

    /// Retry this long while the server cannot be reached
    ///
    /// In seconds, for each message. 0 reports the failure at once.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, help_heading = HEADING)]
    pub retry_for: Duration,

    /// Limit the size of one message
    ///
    /// In bytes, or with K, M or G. All responses that are being received take at most twice this.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size, help_heading = HEADING)]
    pub max_message_size: usize,

    /// Ping the server every 30 seconds
    #[arg(long, help_heading = HEADING)]
    pub keep_alive: bool,

    /// Ping the server at this interval
    ///
    /// In seconds. Implies --keep-alive.
    #[arg(long, value_name = "SECONDS", value_parser = ping_interval, help_heading = HEADING)]
    pub ping_interval: Option<Duration>,

    /// Report progress to the host during long calls
    ///
    /// It applies to calls for which the server reports no progress. Hosts that end silent calls then keep waiting.
    #[arg(long, help_heading = HEADING)]
    pub progress_keepalive: bool,
}

impl Limits {
    /// Returns the pause between pings of this program, if there are to be any.
    pub(crate) fn ping(&self) -> Option<Duration> {
        self.ping_interval.or_else(|| self.keep_alive.then_some(PING_INTERVAL))
    }
}
