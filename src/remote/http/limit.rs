//! The limit on POSTs that wait for their response headers at once.
//!
//! A burst of quick calls is done fastest over a few connections; a connection for each would cost
//! more than the calls. Slow calls must not wait for each other. So a POST holds a permit only for a
//! moment: while others wait, a clock ticks, and a POST that has been out for a whole tick is slow,
//! gives its permit back and makes room for one more. A hundred slow calls are all out after a few
//! ticks; a thousand quick ones share a handful of connections. The clock is one task: a timer for
//! each POST that waits costs a system call. It ends with the tick in which nobody waits, so
//! the first tick of a burst may be a short one, or right after a crowd a long one.
//!
//! # Invariants
//!
//! - Slow calls do not wait for the answers of each other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::oneshot, time::sleep};

use crate::sync::LockExt;

/// Permits at the start: what saturates a loopback server, and few enough for any server.
const PERMITS: usize = 64;
/// The most that permits may grow to.
const MOST_PERMITS: usize = 256;
/// A tick. Above the time a quick call takes in a burst, below the round trip of most networks.
const TICK: Duration = Duration::from_millis(4);
/// A tick while very many calls are out: then permits are given up late, so that even a thousand
/// calls at once to a far server do not open a thousand connections.
const TICK_IN_A_CROWD: Duration = Duration::from_millis(100);
/// Calls without headers that make a crowd.
const CROWD: usize = 192;

/// The permits, and who waits for one.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    permits: usize,
    /// Which tick it is.
    tick: u64,
    /// POSTs without headers that began in this tick, in the one before, and earlier.
    young: usize,
    old: usize,
    slow: usize,
    waiting: VecDeque<oneshot::Sender<u64>>,
    has_clock: bool,
}

impl ConcurrencyLimit {
    /// All permits free.
    pub(super) fn new() -> Self {
        let state =
            State { permits: PERMITS, tick: 0, young: 0, old: 0, slow: 0, waiting: VecDeque::new(), has_clock: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A permit for a POST, to be held up to its response headers.
    pub(super) async fn enter(&self) -> Permit<'_> {
        let turn = {
            let mut state = self.state();
            if state.waiting.is_empty() && state.has_room() {
                return Permit { limit: self, began: state.begin() };
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push_back(sender);
            if !std::mem::replace(&mut state.has_clock, true) {
                tokio::spawn(keep_time(self.0.clone(), state.tick_length()));
            }
            turn
        };
        let mut turn = Turn { limit: self, turn };
        let began = (&mut turn.turn).await.unwrap_or_else(|_| self.state().begin());
        Permit { limit: self, began }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.guard()
    }
}

/// Lets the clock tick until nobody waits.
async fn keep_time(state: Arc<Mutex<State>>, mut length: Duration) {
    loop {
        sleep(length).await;
        let mut state = state.guard();
        state.waiting.retain(|waiting| !waiting.is_closed());
        if state.waiting.is_empty() {
            state.has_clock = false;
            return;
        }
        state.end_tick();
        length = state.tick_length();
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.young + self.old < self.permits
    }

    fn begin(&mut self) -> u64 {
        self.young += 1;
        self.tick
    }

    fn end(&mut self, began: u64) {
        match self.tick - began {
            0 => self.young -= 1,
            1 => self.old -= 1,
            _ => self.slow -= 1,
        }
        if self.young + self.old + self.slow == 0 {
            self.permits = PERMITS; // the next burst may be a quick one
        }
        self.admit();
    }

    fn end_tick(&mut self) {
        self.tick += 1;
        self.permits = (self.permits + self.old).min(MOST_PERMITS);
        self.slow += std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        self.admit();
    }

    fn tick_length(&self) -> Duration {
        if self.young + self.old + self.slow > CROWD { TICK_IN_A_CROWD } else { TICK }
    }

    fn admit(&mut self) {
        while self.has_room()
            && let Some(next) = self.waiting.pop_front()
        {
            if next.send(self.tick).is_ok() {
                self.young += 1;
            }
        }
    }
}

/// A place among those that wait. If it is dropped when its turn has come, the permit goes back.
struct Turn<'a> {
    limit: &'a ConcurrencyLimit,
    turn: oneshot::Receiver<u64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turn.close(); // nothing may come after the look
        if let Ok(began) = self.turn.try_recv() {
            self.limit.state().end(began);
        }
    }
}

/// Given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limit: &'a ConcurrencyLimit,
    /// The tick in which the POST began.
    began: u64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limit.state().end(self.began);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Waker},
    };

    use tokio::time::Instant;

    use super::*;

    async fn most_at_once(calls: usize, each: Duration) -> (usize, Duration) {
        let (limit, now, most) =
            (Arc::new(ConcurrencyLimit::new()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..calls {
            let (limit, now, most) = (limit.clone(), now.clone(), most.clone());
            tasks.spawn(async move {
                let _permit = limit.enter().await;
                most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                sleep(each).await;
                now.fetch_sub(1, Relaxed);
            });
        }
        tasks.join_all().await;
        (most.load(Relaxed), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn burst_of_quick_calls_shares_few_connections() {
        let (most, _) = most_at_once(1000, Duration::from_millis(1)).await;
        assert!(most <= 2 * PERMITS, "{most} at once");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_do_not_wait_for_each_other() {
        let (most, took) = most_at_once(100, Duration::from_millis(200)).await;
        assert_eq!(most, 100);
        assert!(took < Duration::from_millis(240), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_to_far_server_share_connections() {
        let (most, took) = most_at_once(1000, Duration::from_millis(25)).await;
        assert!(most < 500, "{most} at once");
        assert!(took < Duration::from_millis(400), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn endless_calls_are_all_sent() {
        let (most, _) = most_at_once(1000, Duration::from_secs(60)).await;
        assert_eq!(most, 1000);
    }

    #[tokio::test]
    async fn abandoned_call_returns_its_permit() {
        let limit = ConcurrencyLimit::new();
        for _ in 0..2 * PERMITS {
            let given_up = async {
                let _permit = limit.enter().await;
                std::future::pending::<()>().await;
            };
            assert!(tokio::time::timeout(Duration::ZERO, given_up).await.is_err());
        }
        drop(limit.enter().await);
    }

    #[tokio::test]
    async fn call_abandoned_at_its_turn_returns_its_permit() {
        let limit = ConcurrencyLimit::new();
        let mut permits = Vec::new();
        for _ in 0..PERMITS {
            permits.push(limit.enter().await);
        }
        let mut waits = Box::pin(limit.enter());
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        permits.pop(); // now it is its turn, which it does not see
        drop(waits);
        drop(permits);
        let state = limit.state();
        assert_eq!((state.young, state.old, state.slow), (0, 0, 0));
    }
}
