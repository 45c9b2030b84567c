//! How each row is measured: one scenario is one kind of session, and yields the values of one or more rows.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::growth;
use crate::options::{Effort, Role};
use crate::rows::{self, Row};
use crate::running_server::RunningServer;
use crate::session::{ROOM, Session, Way};
use crate::workload::{Call, Load};
use crate::{Outcome, process};

pub(crate) const MEGABYTE: usize = 1024 * 1024;
const LARGE: usize = 32 * MEGABYTE;
/// A little less than the largest message that is taken by default.
const LARGEST: usize = 63 * MEGABYTE;
const ARGUMENTS: usize = 8 * MEGABYTE;
const NOTIFICATIONS: u32 = 2_000;
pub(crate) const IDLE: Duration = Duration::from_millis(200);
/// Repetitions within one pass stop after this long.
const PATIENCE: Duration = Duration::from_secs(4);

/// The servers that run while the bench does.
pub(crate) struct Servers {
    pub(crate) near: RunningServer,
    pub(crate) encrypted: RunningServer,
    pub(crate) far: RunningServer,
    pub(crate) modern: RunningServer,
    /// It does not read large requests for some seconds.
    pub(crate) not_reading: RunningServer,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scenario {
    Start,
    EncryptedStart,
    FarReady,
    OneAtATime,
    Bridged,
    InFlight,
    InFlightEvents,
    EncryptedInFlight,
    FarInFlight,
    AllAtOnce,
    Sleeps,
    Notifications,
    LargeJson,
    LargeEvent,
    LargeArguments,
    Bombs,
    Idle,
    AfterManyCalls,
    Binary,
    EightInFlight,
    ManyInFlight,
    AnswersOf1Kb,
    AnswersOf64Kb,
    AnswersOf1Mb,
    LargestJson,
    Instances,
    Million,
    UnreadNotifications,
    UnreadAnswers,
    UnreadCalls,
}

pub(crate) type Samples = Vec<(&'static Row, f64)>;

impl Scenario {
    /// In the order of a pass.
    pub(crate) const ALL: [Self; 30] = [
        Self::Start,
        Self::EncryptedStart,
        Self::FarReady,
        Self::OneAtATime,
        Self::Bridged,
        Self::InFlight,
        Self::InFlightEvents,
        Self::EncryptedInFlight,
        Self::FarInFlight,
        Self::AllAtOnce,
        Self::Sleeps,
        Self::Notifications,
        Self::LargeJson,
        Self::LargeEvent,
        Self::LargeArguments,
        Self::Bombs,
        Self::Idle,
        Self::AfterManyCalls,
        Self::Binary,
        Self::EightInFlight,
        Self::ManyInFlight,
        Self::AnswersOf1Kb,
        Self::AnswersOf64Kb,
        Self::AnswersOf1Mb,
        Self::LargestJson,
        Self::Instances,
        Self::Million,
        Self::UnreadNotifications,
        Self::UnreadAnswers,
        Self::UnreadCalls,
    ];

    pub(crate) fn rows(self) -> &'static [&'static Row] {
        match self {
            Self::Start => &[&rows::INITIALIZE_HTTP, &rows::REQUESTS_BEFORE],
            Self::EncryptedStart => &[&rows::INITIALIZE_HTTPS],
            Self::FarReady => &[&rows::FAR_READY],
            Self::OneAtATime => &[&rows::ECHO_MEDIAN, &rows::ECHO_TAIL, &rows::ECHO_PROCESSOR, &rows::FLIGHT_1_RATE],
            Self::Bridged => &[&rows::BRIDGED_MEDIAN],
            Self::InFlight => &[&rows::FLIGHT_RATE, &rows::FLIGHT_PROCESSOR],
            Self::InFlightEvents => &[&rows::FLIGHT_EVENTS_RATE, &rows::FLIGHT_EVENTS_PROCESSOR],
            Self::EncryptedInFlight => &[&rows::FLIGHT_HTTPS_RATE, &rows::FLIGHT_HTTPS_PROCESSOR],
            Self::FarInFlight => &[&rows::FAR_FLIGHT_RATE],
            Self::AllAtOnce => &[&rows::BURST_RATE, &rows::BURST_CONNECTIONS],
            Self::Sleeps => &[&rows::SLEEPS],
            Self::Notifications => &[&rows::NOTIFICATION_RATE, &rows::NOTIFICATIONS_IN_ORDER],
            Self::LargeJson => &[&rows::LARGE_JSON, &rows::LARGE_JSON_PEAK],
            Self::LargeEvent => &[&rows::LARGE_EVENT, &rows::LARGE_EVENT_PEAK],
            Self::LargeArguments => &[&rows::ARGUMENTS, &rows::ARGUMENTS_PEAK],
            Self::Bombs => &[&rows::BOMBS_PEAK],
            Self::Idle => &[&rows::RESIDENT_IDLE, &rows::EXIT, &rows::DELETED],
            Self::AfterManyCalls => &[&rows::RESIDENT_AFTER, &rows::MANY_RATE],
            Self::Binary => &[&rows::BINARY],
            Self::EightInFlight => &[&rows::FLIGHT_8_RATE, &rows::FLIGHT_8_PROCESSOR],
            Self::ManyInFlight => &[&rows::FLIGHT_512_RATE, &rows::FLIGHT_512_PROCESSOR],
            Self::AnswersOf1Kb => &[&rows::ANSWERS_OF_1_KB],
            Self::AnswersOf64Kb => &[&rows::ANSWERS_OF_64_KB],
            Self::AnswersOf1Mb => &[&rows::ANSWERS_OF_1_MB],
            Self::LargestJson => &[&rows::LARGEST_JSON, &rows::LARGEST_JSON_PEAK],
            Self::Instances => growth::INSTANCES,
            Self::Million => &[&rows::MILLION_RATE, &rows::RESIDENT_AFTER_MILLION],
            Self::UnreadNotifications => &[&rows::UNREAD_NOTIFICATIONS_PEAK],
            Self::UnreadAnswers => &[&rows::UNREAD_ANSWERS_PEAK],
            Self::UnreadCalls => &[&rows::UNREAD_CALLS_PEAK],
        }
    }

    /// Whether this can be measured of a contender at all.
    pub(crate) fn suits(self, role: Role) -> bool {
        match role {
            Role::Subject | Role::Peer => true,
            // It speaks the era of its server and has no process.
            Role::Direct => !matches!(
                self,
                Self::Bridged
                    | Self::Bombs
                    | Self::Idle
                    | Self::Binary
                    | Self::Instances
                    | Self::UnreadNotifications
                    | Self::UnreadAnswers
                    | Self::UnreadCalls
            ),
            // It has neither TLS nor another era nor compression, and it is part of this binary.
            Role::Minimal => !matches!(
                self,
                Self::EncryptedStart | Self::EncryptedInFlight | Self::Bridged | Self::Bombs | Self::Binary
            ),
        }
    }

    /// How long one run of this may take.
    pub(crate) fn limit(self, effort: Effort) -> Duration {
        if self == Self::Million { effort.limit.max(growth::MILLION_LIMIT) } else { effort.limit }
    }

    pub(crate) async fn run(self, way: &Way, servers: &Servers, effort: Effort) -> Outcome<Samples> {
        let near = &servers.near;
        match self {
            Self::Start => start(way, near, effort).await,
            Self::EncryptedStart => encrypted_start(way, &servers.encrypted, effort).await,
            Self::FarReady => far_ready(way, &servers.far).await,
            Self::OneAtATime => one_at_a_time(way, near, effort).await,
            Self::Bridged => bridged(way, &servers.modern, effort).await,
            Self::InFlight => {
                let rows = [&rows::FLIGHT_RATE, &rows::FLIGHT_PROCESSOR];
                in_flight(way, near, effort, Call::Echo, 64, rows).await
            }
            Self::InFlightEvents => {
                let rows = [&rows::FLIGHT_EVENTS_RATE, &rows::FLIGHT_EVENTS_PROCESSOR];
                in_flight(way, near, effort, Call::EchoSse, 64, rows).await
            }
            Self::EncryptedInFlight => {
                let rows = [&rows::FLIGHT_HTTPS_RATE, &rows::FLIGHT_HTTPS_PROCESSOR];
                in_flight(way, &servers.encrypted, effort, Call::Echo, 64, rows).await
            }
            Self::EightInFlight => {
                let rows = [&rows::FLIGHT_8_RATE, &rows::FLIGHT_8_PROCESSOR];
                in_flight(way, near, effort, Call::Echo, 8, rows).await
            }
            Self::ManyInFlight => {
                let rows = [&rows::FLIGHT_512_RATE, &rows::FLIGHT_512_PROCESSOR];
                in_flight(way, near, effort, Call::Echo, 512, rows).await
            }
            Self::FarInFlight => far_in_flight(way, &servers.far, effort).await,
            Self::AllAtOnce => all_at_once(way, near).await,
            Self::Sleeps => sleeps(way, near).await,
            Self::Notifications => notifications(way, near).await,
            Self::LargeJson => {
                let call = Call::Big { bytes: LARGE, sse: false };
                large(way, near, call, LARGE, [&rows::LARGE_JSON, &rows::LARGE_JSON_PEAK]).await
            }
            Self::LargeEvent => {
                let call = Call::Big { bytes: LARGE, sse: true };
                large(way, near, call, LARGE, [&rows::LARGE_EVENT, &rows::LARGE_EVENT_PEAK]).await
            }
            Self::LargeArguments => {
                let call = Call::Swallow { bytes: ARGUMENTS, may_be_refused: false };
                large(way, near, call, ARGUMENTS, [&rows::ARGUMENTS, &rows::ARGUMENTS_PEAK]).await
            }
            Self::Bombs => bombs(way, near).await,
            Self::Idle => idle(way, near, effort).await,
            Self::AfterManyCalls => after_many_calls(way, near, effort).await,
            Self::Binary => Ok(binary(way)),
            Self::AnswersOf1Kb => growth::answers(way, near, 1024, 2_000, &rows::ANSWERS_OF_1_KB).await,
            Self::AnswersOf64Kb => growth::answers(way, near, 64 * 1024, 500, &rows::ANSWERS_OF_64_KB).await,
            Self::AnswersOf1Mb => growth::answers(way, near, MEGABYTE, 50, &rows::ANSWERS_OF_1_MB).await,
            Self::LargestJson => {
                let call = Call::Big { bytes: LARGEST, sse: false };
                large(way, near, call, LARGEST, [&rows::LARGEST_JSON, &rows::LARGEST_JSON_PEAK]).await
            }
            Self::Instances => growth::instances(way, near).await,
            Self::Million => growth::million(way, near).await,
            Self::UnreadNotifications => growth::unread_notifications(way, near, effort).await,
            Self::UnreadAnswers => growth::unread_answers(way, near, effort).await,
            Self::UnreadCalls => growth::unread_calls(way, &servers.not_reading, effort).await,
        }
    }
}

async fn start(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(effort.starts);
    while rounds.next() {
        server.reset().await?;
        let (session, time) = Session::initialize(way, server, ROOM).await?;
        samples.push((&rows::INITIALIZE_HTTP, milliseconds(time)));
        samples.push((&rows::REQUESTS_BEFORE, server.stats().await?.requests_until_initialize));
        session.close().await?;
    }
    Ok(samples)
}

async fn encrypted_start(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(effort.starts);
    while rounds.next() {
        let (session, time) = Session::initialize(way, server, ROOM).await?;
        samples.push((&rows::INITIALIZE_HTTPS, milliseconds(time)));
        session.close().await?;
    }
    Ok(samples)
}

async fn far_ready(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(3);
    while rounds.next() {
        let (mut session, to_initialize) = Session::initialize(way, server, ROOM).await?;
        let started = Instant::now();
        session.list_tools().await?;
        samples.push((&rows::FAR_READY, milliseconds(to_initialize + started.elapsed())));
        session.close().await?;
    }
    Ok(samples)
}

async fn one_at_a_time(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let load = |calls| Load { call: Call::Echo, calls, in_flight: 1, budget: PATIENCE };
    session.pump(load(200)).await?;
    let before = processor_time(&session)?;
    let tally = session.pump(load(effort.calls)).await?;
    let mut samples = vec![
        (&rows::ECHO_MEDIAN, microseconds(tally.quantile(0.5))),
        (&rows::ECHO_TAIL, microseconds(tally.quantile(0.99))),
        (&rows::FLIGHT_1_RATE, tally.per_second()),
    ];
    samples.extend(processor_sample(&rows::ECHO_PROCESSOR, before, &session, tally.calls)?);
    session.close().await?;
    Ok(samples)
}

/// A host that begins with `initialize` at a server that has none.
async fn bridged(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let load = |calls| Load { call: Call::Echo, calls, in_flight: 1, budget: PATIENCE };
    session.pump(load(200)).await?;
    let tally = session.pump(load(effort.calls)).await?;
    session.close().await?;
    Ok(vec![(&rows::BRIDGED_MEDIAN, microseconds(tally.quantile(0.5)))])
}

async fn in_flight(
    way: &Way,
    server: &RunningServer,
    effort: Effort,
    call: Call,
    in_flight: u32,
    [rate, processor]: [&'static Row; 2],
) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let load = |calls| Load { call, calls, in_flight, budget: PATIENCE };
    session.pump(load(in_flight * 10)).await?;
    let before = processor_time(&session)?;
    let tally = session.pump(load(effort.calls * 2)).await?;
    let mut samples = vec![(rate, tally.per_second())];
    samples.extend(processor_sample(processor, before, &session, tally.calls)?);
    session.close().await?;
    Ok(samples)
}

async fn far_in_flight(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let load = |calls| Load { call: Call::Echo, calls, in_flight: 64, budget: PATIENCE };
    session.pump(load(128)).await?;
    let tally = session.pump(load(effort.far_calls)).await?;
    session.close().await?;
    Ok(vec![(&rows::FAR_FLIGHT_RATE, tally.per_second())])
}

async fn all_at_once(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(3);
    while rounds.next() {
        server.reset().await?;
        let mut session = Session::open(way, server, ROOM).await?;
        let load = Load { call: Call::Echo, calls: 1_000, in_flight: 1_000, budget: PATIENCE };
        let tally = session.pump(load).await?;
        samples.push((&rows::BURST_RATE, tally.per_second()));
        samples.push((&rows::BURST_CONNECTIONS, server.stats().await?.connections));
        session.close().await?;
    }
    Ok(samples)
}

async fn sleeps(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let load = Load { call: Call::Sleep { milliseconds: 200 }, calls: 100, in_flight: 100, budget: PATIENCE };
    let tally = session.pump(load).await?;
    session.close().await?;
    Ok(vec![(&rows::SLEEPS, tally.elapsed.as_secs_f64())])
}

async fn notifications(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let load = |notifications| Load { call: Call::Burst { notifications }, calls: 1, in_flight: 1, budget: PATIENCE };
    session.pump(load(10)).await?;
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(5);
    while rounds.next() {
        let tally = session.pump(load(NOTIFICATIONS)).await?;
        let arrived = tally.notifications_in_order;
        samples.push((&rows::NOTIFICATION_RATE, f64::from(arrived) / tally.elapsed.as_secs_f64()));
        samples.push((&rows::NOTIFICATIONS_IN_ORDER, f64::from(arrived)));
    }
    session.close().await?;
    Ok(samples)
}

/// A fresh process, a small call to warm the connection, then large ones.
async fn large(
    way: &Way,
    server: &RunningServer,
    call: Call,
    bytes: usize,
    [rate, peak]: [&'static Row; 2],
) -> Outcome<Samples> {
    let mut session = Session::open(way, server, bytes + ROOM).await?;
    let load = |call| Load { call, calls: 1, in_flight: 1, budget: PATIENCE };
    session.pump(load(Call::Echo)).await?;
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(3);
    while rounds.next() {
        let tally = session.pump(load(call)).await?;
        samples.push((rate, megabytes(bytes) / tally.elapsed.as_secs_f64()));
    }
    if let Some(pid) = session.pid() {
        samples.push((peak, process::peak_resident(pid)?));
    }
    session.close().await?;
    Ok(samples)
}

/// A server that answers each call with much and never ends an answer.
async fn bombs(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    const CALLS: u32 = 20;
    let mut session = Session::open(way, server, ROOM).await?;
    let Some(pid) = session.pid() else {
        return Ok(Samples::new());
    };
    session.start_calls(Call::Bomb, CALLS).await?;
    let peak = settled_peak(pid).await?;
    session.close().await?;
    Ok(vec![(&rows::BOMBS_PEAK, peak)])
}

/// Waits until the peak of a process's memory grows no longer, and returns it.
pub(crate) async fn settled_peak(pid: u32) -> Outcome<f64> {
    /// Without a change for this long, no more comes.
    const SETTLED: Duration = Duration::from_secs(2);
    let (mut last, mut since) = (0.0, Instant::now());
    while since.elapsed() < SETTLED {
        sleep(Duration::from_millis(100)).await;
        let peak = process::peak_resident(pid)?;
        if peak > last {
            (last, since) = (peak, Instant::now());
        }
    }
    Ok(last)
}

async fn idle(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let mut samples = Samples::new();
    let mut rounds = Rounds::new(effort.ends);
    while rounds.next() {
        server.reset().await?;
        let session = Session::open(way, server, ROOM).await?;
        let Some(pid) = session.pid() else {
            return Ok(samples);
        };
        sleep(IDLE).await;
        samples.push((&rows::RESIDENT_IDLE, process::resident(pid)?));
        match session.close().await? {
            Some(time) => samples.push((&rows::EXIT, milliseconds(time))),
            None => return Err("did not exit at the end of its input".into()),
        }
        samples.push((&rows::DELETED, server.stats().await?.deletes.min(1.0)));
    }
    Ok(samples)
}

async fn after_many_calls(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let load = Load { call: Call::Echo, calls: 10_000, in_flight: 64, budget: effort.limit };
    growth::many(way, server, load, [&rows::MANY_RATE, &rows::RESIDENT_AFTER]).await
}

/// Only a command of one word is a binary; the others are an interpreter with something to interpret.
fn binary(way: &Way) -> Samples {
    let Way::Through(adapter) = way else {
        return Samples::new();
    };
    let [program] = adapter.command.as_slice() else {
        return Samples::new();
    };
    let size = fs::metadata(program).ok().and_then(|file| usize::try_from(file.len()).ok());
    size.map(|size| (&rows::BINARY, megabytes(size))).into_iter().collect()
}

/// So many repetitions, or as many as patience allows; at least one.
struct Rounds {
    left: u32,
    started: Instant,
    first: bool,
}

impl Rounds {
    fn new(count: u32) -> Self {
        Self { left: count, started: Instant::now(), first: true }
    }

    fn next(&mut self) -> bool {
        let goes_on = self.left > 0 && (self.first || self.started.elapsed() < PATIENCE);
        self.first = false;
        self.left = self.left.saturating_sub(1);
        goes_on
    }
}

fn processor_time(session: &Session) -> Outcome<Option<Duration>> {
    session.pid().map(process::processor_time).transpose()
}

/// What `calls` calls cost since `before`, scaled to ten thousand.
fn processor_sample(
    row: &'static Row,
    before: Option<Duration>,
    session: &Session,
    calls: u32,
) -> Outcome<Option<(&'static Row, f64)>> {
    let after = processor_time(session)?;
    Ok(before
        .zip(after)
        .map(|(before, after)| (row, after.saturating_sub(before).as_secs_f64() / f64::from(calls) * 10_000.0)))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "exact far beyond any size that is measured here")]
pub(crate) fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / MEGABYTE as f64
}
