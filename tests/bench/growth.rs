//! How cost grows: with the size of an answer, the number of instances, the number of calls, and an end that does not read.

use std::time::Duration;

use tokio::time::sleep;

use crate::options::Effort;
use crate::rows::{self, Row};
use crate::running_server::RunningServer;
use crate::scenario::{IDLE, MEGABYTE, Samples, megabytes, settled_peak};
use crate::session::{ROOM, Session, Way};
use crate::workload::{Call, Load};
use crate::{Outcome, process};

/// Enough for a million calls at a tenth of the rate that is expected.
pub(crate) const MILLION_LIMIT: Duration = Duration::from_secs(240);

pub(crate) const INSTANCES: &[&Row] = &[
    &rows::RESIDENT_OF_1,
    &rows::PRIVATE_OF_1,
    &rows::RESIDENT_OF_4,
    &rows::PRIVATE_OF_4,
    &rows::RESIDENT_OF_16,
    &rows::PRIVATE_OF_16,
];

/// Answers of one size, one after the other.
pub(crate) async fn answers(
    way: &Way,
    server: &RunningServer,
    bytes: usize,
    calls: u32,
    row: &'static Row,
) -> Outcome<Samples> {
    /// Slow peers stop here; their rate is of the calls that they have made.
    const BUDGET: Duration = Duration::from_secs(4);
    let mut session = Session::open(way, server, bytes + ROOM).await?;
    let load = |calls| Load { call: Call::Big { bytes, sse: false }, calls, in_flight: 1, budget: BUDGET };
    session.pump(load(calls.div_ceil(10))).await?;
    let tally = session.pump(load(calls)).await?;
    session.close().await?;
    Ok(vec![(row, megabytes(bytes) * tally.per_second())])
}

/// The memory of each of several idle instances, on average.
pub(crate) async fn instances(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    let mut samples = Samples::new();
    let mut sessions = Vec::new();
    let steps: [(u32, [&'static Row; 2]); 3] = [
        (1, [&rows::RESIDENT_OF_1, &rows::PRIVATE_OF_1]),
        (4, [&rows::RESIDENT_OF_4, &rows::PRIVATE_OF_4]),
        (16, [&rows::RESIDENT_OF_16, &rows::PRIVATE_OF_16]),
    ];
    let mut running = 0;
    for (count, [resident_row, private_row]) in steps {
        while running < count {
            sessions.push(Session::open(way, server, ROOM).await?);
            running += 1;
        }
        sleep(IDLE).await;
        let (mut resident, mut private) = (0.0, 0.0);
        for pid in sessions.iter().filter_map(Session::pid) {
            resident += process::resident(pid)?;
            private += process::private(pid)?;
        }
        samples.push((resident_row, resident / f64::from(count)));
        samples.push((private_row, private / f64::from(count)));
    }
    for session in sessions {
        session.close().await?;
    }
    Ok(samples)
}

/// The rate of all calls of a new session, and the memory of the process after them.
pub(crate) async fn many(
    way: &Way,
    server: &RunningServer,
    load: Load,
    [rate, resident]: [&'static Row; 2],
) -> Outcome<Samples> {
    let mut session = Session::open(way, server, ROOM).await?;
    let tally = session.pump(load).await?;
    if tally.calls < load.calls {
        return Err(format!("{} of {} calls in {} s", tally.calls, load.calls, load.budget.as_secs()).into());
    }
    let mut samples = vec![(rate, tally.per_second())];
    if let Some(pid) = session.pid() {
        samples.push((resident, process::resident(pid)?));
    }
    session.close().await?;
    Ok(samples)
}

pub(crate) async fn million(way: &Way, server: &RunningServer) -> Outcome<Samples> {
    /// What a contender has not done by then is not done within the limit either.
    const BUDGET: Duration = Duration::from_secs(200);
    let load = Load { call: Call::Echo, calls: 1_000_000, in_flight: 64, budget: BUDGET };
    many(way, server, load, [&rows::MILLION_RATE, &rows::RESIDENT_AFTER_MILLION]).await
}

/// 25 MB of notifications on one stream, while the host reads nothing.
pub(crate) async fn unread_notifications(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    const NOTIFICATIONS: u32 = 200_000;
    let call = Call::Burst { notifications: NOTIFICATIONS };
    let load = Load { call, calls: 1, in_flight: 1, budget: effort.limit };
    let mut session = Session::open(way, server, ROOM).await?;
    let arrived = load_unread(&mut session, load).await?;
    if arrived != NOTIFICATIONS {
        return Err(format!("{arrived} of {NOTIFICATIONS} notifications arrived in order").into());
    }
    peak(session, &rows::UNREAD_NOTIFICATIONS_PEAK).await
}

/// 400 MB of answers, while the host reads nothing.
pub(crate) async fn unread_answers(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let call = Call::Big { bytes: 4 * MEGABYTE, sse: false };
    let load = Load { call, calls: 100, in_flight: 100, budget: effort.limit };
    let mut session = Session::open(way, server, ROOM).await?;
    load_unread(&mut session, load).await?;
    peak(session, &rows::UNREAD_ANSWERS_PEAK).await
}

/// 512 MB of calls, while the server reads nothing.
pub(crate) async fn unread_calls(way: &Way, server: &RunningServer, effort: Effort) -> Outcome<Samples> {
    let call = Call::Swallow { bytes: 8 * MEGABYTE, may_be_refused: true };
    let load = Load { call, calls: 64, in_flight: 64, budget: effort.limit };
    server.reset().await?;
    let mut session = Session::open(way, server, ROOM).await?;
    session.pump_after(load, async { Ok(()) }).await?;
    peak(session, &rows::UNREAD_CALLS_PEAK).await
}

/// Reads nothing until the memory of the adapter grows no longer. Returns how many notifications arrived in order.
async fn load_unread(session: &mut Session, load: Load) -> Outcome<u32> {
    let pid = session.pid().ok_or("there is no adapter")?;
    let settled = async { settled_peak(pid).await.map(drop) };
    Ok(session.pump_after(load, settled).await?.notifications_in_order)
}

async fn peak(session: Session, row: &'static Row) -> Outcome<Samples> {
    let peak = session.pid().map(process::peak_resident).transpose()?;
    session.close().await?;
    Ok(peak.map(|peak| (row, peak)).into_iter().collect())
}
