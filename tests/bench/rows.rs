//! The rows of the report: what is measured, in which unit, and what we aim at.

/// One line of the report.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) aim: Aim,
    /// Whether a cell also says how it compares with the direct way.
    pub(crate) compared: Compared,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    Seconds,
    /// Processor seconds for ten thousand calls.
    ProcessorSeconds,
    PerSecond,
    Megabytes,
    MegabytesPerSecond,
    Count,
    YesNo,
}

#[derive(Clone, Copy)]
pub(crate) enum Aim {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// At most this many times what the direct way takes.
    TimesDirect(f64),
    /// At least this share of what the direct way reaches.
    ShareOfDirect(f64),
}

#[derive(Clone, Copy)]
pub(crate) enum Compared {
    No,
    Times,
    Share,
}

const fn row(title: &'static str, unit: Unit, aim: Aim, compared: Compared) -> Row {
    Row { title, unit, aim, compared }
}

pub(crate) const INITIALIZE_HTTP: Row =
    row("spawn → initialize answered, http", Unit::Milliseconds, Aim::AtMost(5.0), Compared::Times);
pub(crate) const REQUESTS_BEFORE: Row =
    row("HTTP requests until that initialize", Unit::Count, Aim::AtMost(1.0), Compared::No);
pub(crate) const INITIALIZE_HTTPS: Row =
    row("spawn → initialize answered, https", Unit::Milliseconds, Aim::AtMost(10.0), Compared::Times);
pub(crate) const FAR_READY: Row =
    row("spawn → tools/list answered, 25 ms away", Unit::Milliseconds, Aim::TimesDirect(1.05), Compared::Times);

pub(crate) const ECHO_MEDIAN: Row = row("small call, p50", Unit::Microseconds, Aim::AtMost(100.0), Compared::Times);
pub(crate) const ECHO_TAIL: Row = row("small call, p99", Unit::Microseconds, Aim::None, Compared::Times);
pub(crate) const ECHO_PROCESSOR: Row =
    row("CPU per 10,000 calls, one at a time", Unit::ProcessorSeconds, Aim::None, Compared::No);

pub(crate) const BRIDGED_MEDIAN: Row =
    row("small call, p50, server of the other era", Unit::Microseconds, Aim::None, Compared::No);

pub(crate) const FLIGHT_RATE: Row =
    row("64 calls in flight", Unit::PerSecond, Aim::ShareOfDirect(0.5), Compared::Share);
pub(crate) const FLIGHT_PROCESSOR: Row =
    row("CPU per 10,000 calls, 64 in flight", Unit::ProcessorSeconds, Aim::AtMost(0.3), Compared::No);
pub(crate) const FLIGHT_EVENTS_RATE: Row =
    row("64 calls in flight, answers as SSE", Unit::PerSecond, Aim::ShareOfDirect(0.5), Compared::Share);
pub(crate) const FLIGHT_EVENTS_PROCESSOR: Row =
    row("CPU per 10,000 calls, 64 in flight, SSE", Unit::ProcessorSeconds, Aim::AtMost(0.3), Compared::No);
pub(crate) const FAR_FLIGHT_RATE: Row =
    row("64 calls in flight, 25 ms away", Unit::PerSecond, Aim::ShareOfDirect(0.95), Compared::Share);
pub(crate) const BURST_RATE: Row = row("1,000 calls written at once", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const BURST_CONNECTIONS: Row = row("connections for these", Unit::Count, Aim::None, Compared::No);
pub(crate) const SLEEPS: Row = row("100 concurrent calls of 200 ms", Unit::Seconds, Aim::AtMost(0.3), Compared::Times);

pub(crate) const NOTIFICATION_RATE: Row =
    row("2,000 notifications on one stream", Unit::PerSecond, Aim::AtLeast(200_000.0), Compared::Share);
pub(crate) const NOTIFICATIONS_IN_ORDER: Row =
    row("of which arrived in order", Unit::Count, Aim::AtLeast(2_000.0), Compared::No);

pub(crate) const LARGE_JSON: Row =
    row("32 MB answer, JSON", Unit::MegabytesPerSecond, Aim::AtLeast(300.0), Compared::Share);
pub(crate) const LARGE_JSON_PEAK: Row =
    row("peak memory, 32 MB JSON", Unit::Megabytes, Aim::AtMost(50.0), Compared::No);
pub(crate) const LARGE_EVENT: Row =
    row("32 MB answer, SSE", Unit::MegabytesPerSecond, Aim::AtLeast(300.0), Compared::Share);
pub(crate) const LARGE_EVENT_PEAK: Row =
    row("peak memory, 32 MB SSE", Unit::Megabytes, Aim::AtMost(50.0), Compared::No);
pub(crate) const ARGUMENTS: Row =
    row("8 MB of arguments", Unit::MegabytesPerSecond, Aim::AtLeast(250.0), Compared::Share);
pub(crate) const ARGUMENTS_PEAK: Row = row("peak memory, 8 MB of arguments", Unit::Megabytes, Aim::None, Compared::No);
pub(crate) const BOMBS_PEAK: Row = row(
    "peak memory, 20 answers of 60 MB, compressed, without an end",
    Unit::Megabytes,
    Aim::AtMost(150.0),
    Compared::No,
);

pub(crate) const RESIDENT_IDLE: Row = row("memory, idle", Unit::Megabytes, Aim::AtMost(7.0), Compared::No);
pub(crate) const RESIDENT_AFTER: Row =
    row("memory after 10,000 calls", Unit::Megabytes, Aim::AtMost(12.0), Compared::No);
pub(crate) const EXIT: Row = row("end of input → exit, idle", Unit::Milliseconds, Aim::AtMost(5.0), Compared::No);
pub(crate) const DELETED: Row = row("session DELETEd", Unit::YesNo, Aim::AtLeast(1.0), Compared::No);
pub(crate) const BINARY: Row = row("size of the binary", Unit::Megabytes, Aim::AtMost(8.0), Compared::No);

impl Unit {
    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Microseconds => format!("{value:.0} µs"),
            Self::Seconds | Self::ProcessorSeconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{}/s", with_separators(value)),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::MegabytesPerSecond => format!("{value:.0} MB/s"),
            Self::Count => with_separators(value),
            Self::YesNo if value >= 1.0 => "yes".to_owned(),
            Self::YesNo if value <= 0.0 => "no".to_owned(),
            Self::YesNo => "sometimes".to_owned(),
        }
    }

    fn format_aim(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value} ms"),
            Self::Microseconds => format!("{value} µs"),
            Self::Seconds | Self::ProcessorSeconds => format!("{value} s"),
            Self::Megabytes => format!("{value} MB"),
            Self::PerSecond | Self::MegabytesPerSecond | Self::Count | Self::YesNo => self.format(value),
        }
    }
}

impl Aim {
    pub(crate) fn format(self, unit: Unit) -> String {
        match (self, unit) {
            (Self::None, _) => String::new(),
            (_, Unit::YesNo) => "yes".to_owned(),
            (Self::AtMost(most), _) => format!("≤ {}", unit.format_aim(most)),
            (Self::AtLeast(least), _) => format!("≥ {}", unit.format_aim(least)),
            (Self::TimesDirect(most), _) => format!("≤ {most}× direct"),
            (Self::ShareOfDirect(least), _) => format!("≥ {:.0} % of direct", least * 100.0),
        }
    }

    /// Nothing to say without an aim, or without the direct way where the aim refers to it.
    pub(crate) fn is_met(self, value: f64, direct: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::TimesDirect(most) => direct.map(|direct| value <= most * direct),
            Self::ShareOfDirect(least) => direct.map(|direct| value >= least * direct),
        }
    }
}

impl Compared {
    pub(crate) fn format(self, value: f64, direct: Option<f64>) -> String {
        match (self, direct) {
            (Self::Times, Some(direct)) if value / direct >= 10.0 => {
                format!(" ({:.0}×)", value / direct)
            }
            (Self::Times, Some(direct)) => format!(" ({:.2}×)", value / direct),
            (Self::Share, Some(direct)) => format!(" ({:.0} %)", value / direct * 100.0),
            _ => String::new(),
        }
    }
}

fn with_separators(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
