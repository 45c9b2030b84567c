//! The rows of the report: what is measured, in which unit, and what we aim at.

/// One line of the report.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) aim: Aim,
    /// Whether a cell also says how it compares with the direct way.
    pub(crate) compared: Compared,
    /// Whether it is measured only on request, because it takes long.
    pub(crate) is_long: bool,
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
    /// At most this many times what the minimal forwarder takes.
    TimesMinimal(f64),
}

/// What a row's value is compared with: the same row of other contenders, where they were measured.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) direct: Option<f64>,
    pub(crate) minimal: Option<f64>,
}

#[derive(Clone, Copy)]
pub(crate) enum Compared {
    No,
    Times,
    Share,
}

const fn row(title: &'static str, unit: Unit, aim: Aim, compared: Compared) -> Row {
    Row { title, unit, aim, compared, is_long: false }
}

const fn long_row(title: &'static str, unit: Unit, aim: Aim, compared: Compared) -> Row {
    Row { is_long: true, ..row(title, unit, aim, compared) }
}

pub(crate) const INITIALIZE_HTTP: Row =
    row("spawn → initialize answered, http", Unit::Milliseconds, Aim::AtMost(2.5), Compared::Times);
pub(crate) const REQUESTS_BEFORE: Row =
    row("HTTP requests until that initialize", Unit::Count, Aim::AtMost(1.0), Compared::No);
pub(crate) const INITIALIZE_HTTPS: Row =
    row("spawn → initialize answered, https", Unit::Milliseconds, Aim::AtMost(7.0), Compared::Times);
pub(crate) const FAR_READY: Row =
    row("spawn → tools/list answered, 25 ms away", Unit::Milliseconds, Aim::TimesDirect(1.05), Compared::Times);

pub(crate) const ECHO_MEDIAN: Row = row("small call, p50", Unit::Microseconds, Aim::TimesMinimal(1.3), Compared::Times);
pub(crate) const ECHO_TAIL: Row = row("small call, p99", Unit::Microseconds, Aim::None, Compared::Times);
pub(crate) const ECHO_PROCESSOR: Row =
    row("CPU per 10,000 calls, one at a time", Unit::ProcessorSeconds, Aim::None, Compared::No);

pub(crate) const BRIDGED_MEDIAN: Row =
    row("small call, p50, server of the other era", Unit::Microseconds, Aim::None, Compared::No);

pub(crate) const FLIGHT_RATE: Row =
    row("64 calls in flight", Unit::PerSecond, Aim::ShareOfDirect(0.7), Compared::Share);
pub(crate) const FLIGHT_PROCESSOR: Row =
    row("CPU per 10,000 calls, 64 in flight", Unit::ProcessorSeconds, Aim::AtMost(0.15), Compared::No);
pub(crate) const FLIGHT_EVENTS_RATE: Row =
    row("64 calls in flight, answers as SSE", Unit::PerSecond, Aim::ShareOfDirect(0.7), Compared::Share);
pub(crate) const FLIGHT_EVENTS_PROCESSOR: Row =
    row("CPU per 10,000 calls, 64 in flight, SSE", Unit::ProcessorSeconds, Aim::AtMost(0.15), Compared::No);
pub(crate) const FLIGHT_HTTPS_RATE: Row =
    row("64 calls in flight, https (HTTP/1.1)", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const FLIGHT_HTTPS_PROCESSOR: Row =
    row("CPU per 10,000 calls, 64 in flight, https", Unit::ProcessorSeconds, Aim::None, Compared::No);
pub(crate) const FAR_FLIGHT_RATE: Row =
    row("64 calls in flight, 25 ms away", Unit::PerSecond, Aim::ShareOfDirect(0.97), Compared::Share);
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

pub(crate) const RESIDENT_IDLE: Row = row("memory, idle", Unit::Megabytes, Aim::AtMost(5.0), Compared::No);
pub(crate) const RESIDENT_AFTER: Row =
    row("memory after 10,000 calls", Unit::Megabytes, Aim::AtMost(12.0), Compared::No);
pub(crate) const EXIT: Row = row("end of input → exit, idle", Unit::Milliseconds, Aim::AtMost(5.0), Compared::No);
pub(crate) const DELETED: Row = row("session DELETEd", Unit::YesNo, Aim::AtLeast(1.0), Compared::No);
pub(crate) const BINARY: Row = row("size of the binary", Unit::Megabytes, Aim::AtMost(6.0), Compared::No);

pub(crate) const FLIGHT_1_RATE: Row = row("1 call in flight", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const FLIGHT_8_RATE: Row = row("8 calls in flight", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const FLIGHT_8_PROCESSOR: Row =
    row("CPU per 10,000 calls, 8 in flight", Unit::ProcessorSeconds, Aim::None, Compared::No);
pub(crate) const FLIGHT_512_RATE: Row = row("512 calls in flight", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const FLIGHT_512_PROCESSOR: Row =
    row("CPU per 10,000 calls, 512 in flight", Unit::ProcessorSeconds, Aim::None, Compared::No);

pub(crate) const ANSWERS_OF_1_KB: Row = row("1 KB answers, JSON", Unit::MegabytesPerSecond, Aim::None, Compared::Share);
pub(crate) const ANSWERS_OF_64_KB: Row =
    row("64 KB answers, JSON", Unit::MegabytesPerSecond, Aim::None, Compared::Share);
pub(crate) const ANSWERS_OF_1_MB: Row = row("1 MB answers, JSON", Unit::MegabytesPerSecond, Aim::None, Compared::Share);
pub(crate) const LARGEST_JSON: Row = row("63 MB answer, JSON", Unit::MegabytesPerSecond, Aim::None, Compared::Share);
pub(crate) const LARGEST_JSON_PEAK: Row = row("peak memory, 63 MB JSON", Unit::Megabytes, Aim::None, Compared::No);

pub(crate) const RESIDENT_OF_1: Row =
    row("memory of each instance, 1 instance", Unit::Megabytes, Aim::None, Compared::No);
pub(crate) const PRIVATE_OF_1: Row = row("of which private, 1 instance", Unit::Megabytes, Aim::None, Compared::No);
pub(crate) const RESIDENT_OF_4: Row =
    row("memory of each instance, 4 instances", Unit::Megabytes, Aim::None, Compared::No);
pub(crate) const PRIVATE_OF_4: Row = row("of which private, 4 instances", Unit::Megabytes, Aim::None, Compared::No);
pub(crate) const RESIDENT_OF_16: Row =
    row("memory of each instance, 16 instances", Unit::Megabytes, Aim::None, Compared::No);
pub(crate) const PRIVATE_OF_16: Row = row("of which private, 16 instances", Unit::Megabytes, Aim::None, Compared::No);

pub(crate) const MANY_RATE: Row = row("10,000 calls in a new session", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const MILLION_RATE: Row =
    long_row("1,000,000 calls in a new session", Unit::PerSecond, Aim::None, Compared::Share);
pub(crate) const RESIDENT_AFTER_MILLION: Row =
    long_row("memory after 1,000,000 calls", Unit::Megabytes, Aim::AtMost(12.0), Compared::No);

/// Three messages of the largest size that is taken by default, and a little more.
const HELD: Aim = Aim::AtMost(200.0);
pub(crate) const UNREAD_NOTIFICATIONS_PEAK: Row =
    row("peak memory, host reads nothing, 200,000 notifications", Unit::Megabytes, Aim::AtMost(16.0), Compared::No);
pub(crate) const UNREAD_ANSWERS_PEAK: Row =
    row("peak memory, host reads nothing, 100 answers of 4 MB", Unit::Megabytes, HELD, Compared::No);
pub(crate) const UNREAD_CALLS_PEAK: Row =
    row("peak memory, server reads nothing, 64 calls of 8 MB", Unit::Megabytes, HELD, Compared::No);

/// The tables of the report. A row may be in two of them.
pub(crate) const GROUPS: [(&str, &[&Row]); 5] = [
    ("Start", &[&INITIALIZE_HTTP, &REQUESTS_BEFORE, &INITIALIZE_HTTPS, &FAR_READY]),
    (
        "Calls",
        &[
            &ECHO_MEDIAN,
            &ECHO_TAIL,
            &ECHO_PROCESSOR,
            &BRIDGED_MEDIAN,
            &FLIGHT_RATE,
            &FLIGHT_PROCESSOR,
            &FLIGHT_EVENTS_RATE,
            &FLIGHT_EVENTS_PROCESSOR,
            &FLIGHT_HTTPS_RATE,
            &FLIGHT_HTTPS_PROCESSOR,
            &FAR_FLIGHT_RATE,
            &BURST_RATE,
            &BURST_CONNECTIONS,
            &SLEEPS,
            &NOTIFICATION_RATE,
            &NOTIFICATIONS_IN_ORDER,
        ],
    ),
    (
        "Large messages",
        &[&LARGE_JSON, &LARGE_JSON_PEAK, &LARGE_EVENT, &LARGE_EVENT_PEAK, &ARGUMENTS, &ARGUMENTS_PEAK, &BOMBS_PEAK],
    ),
    ("Footprint and end", &[&RESIDENT_IDLE, &EXIT, &DELETED, &RESIDENT_AFTER, &BINARY]),
    (
        "Growth",
        &[
            &FLIGHT_1_RATE,
            &FLIGHT_8_RATE,
            &FLIGHT_RATE,
            &FLIGHT_512_RATE,
            &ECHO_PROCESSOR,
            &FLIGHT_8_PROCESSOR,
            &FLIGHT_PROCESSOR,
            &FLIGHT_512_PROCESSOR,
            &ANSWERS_OF_1_KB,
            &ANSWERS_OF_64_KB,
            &ANSWERS_OF_1_MB,
            &LARGE_JSON,
            &LARGEST_JSON,
            &LARGEST_JSON_PEAK,
            &RESIDENT_OF_1,
            &RESIDENT_OF_4,
            &RESIDENT_OF_16,
            &PRIVATE_OF_1,
            &PRIVATE_OF_4,
            &PRIVATE_OF_16,
            &MANY_RATE,
            &MILLION_RATE,
            &RESIDENT_AFTER,
            &RESIDENT_AFTER_MILLION,
            &UNREAD_NOTIFICATIONS_PEAK,
            &UNREAD_ANSWERS_PEAK,
            &UNREAD_CALLS_PEAK,
        ],
    ),
];

impl Unit {
    pub(crate) fn format(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Microseconds => format!("{value:.0} µs"),
            Self::Seconds | Self::ProcessorSeconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{}/s", with_separators(value)),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::MegabytesPerSecond if value < 10.0 => format!("{value:.1} MB/s"),
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
            (Self::TimesMinimal(most), _) => format!("≤ {most}× minimal"),
        }
    }

    /// Nothing to say without an aim, or without the contender that the aim refers to.
    pub(crate) fn is_met(self, value: f64, limits: Limits) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::TimesDirect(most) => limits.direct.map(|direct| value <= most * direct),
            Self::ShareOfDirect(least) => limits.direct.map(|direct| value >= least * direct),
            Self::TimesMinimal(most) => limits.minimal.map(|minimal| value <= most * minimal),
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
