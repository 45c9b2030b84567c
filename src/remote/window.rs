//! How many POSTs may wait for their response headers at once.
//!
//! A burst of quick calls is done fastest over a few connections; a connection for each would cost
//! more than the calls. Slow calls must not wait for each other. So a POST holds a place only for a
//! moment: once it has waited that long it is a slow call, gives its place back and makes room for
//! one more. A hundred slow calls are all out after a few such moments; a thousand quick ones share
//! a handful of connections.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

/// Places at the start: what saturates a loopback server, and few enough for any server.
const PLACES: usize = 16;
/// The most that places may grow to.
const MOST_PLACES: usize = 256;
/// A call that has no response headers after this is slow. Above the time a quick call takes in a
/// burst, below the round trip of most networks.
const SLOW: Duration = Duration::from_millis(4);
/// The same while very many calls are out: then places are given up late, so that even a thousand
/// calls at once to a far server do not open a thousand connections.
const SLOW_IN_A_CROWD: Duration = Duration::from_millis(100);
/// Calls without headers that make a crowd.
const CROWD: usize = 192;

/// The places, and who waits for one.
#[derive(Debug)]
pub struct Window(Mutex<State>);

#[derive(Debug)]
struct State {
    taken: usize,
    places: usize,
    /// All POSTs without headers, slow ones included.
    out: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Window {
    /// All places free.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(State { taken: 0, places: PLACES, out: 0, waiting: VecDeque::new() }))
    }

    /// Runs a POST up to its headers, in its turn.
    pub async fn run<T>(&self, post: impl Future<Output = T>) -> T {
        let mut place = self.enter().await;
        let slow_after = if self.state().out > CROWD { SLOW_IN_A_CROWD } else { SLOW };
        tokio::pin!(post);
        if let Ok(headers) = tokio::time::timeout(slow_after, &mut post).await {
            return headers;
        }
        place.give_up();
        post.await
    }

    async fn enter(&self) -> Place<'_> {
        let turn = {
            let mut state = self.state();
            if state.taken < state.places && state.waiting.is_empty() {
                state.taken += 1;
                None
            } else {
                let (sender, turn) = oneshot::channel();
                state.waiting.push_back(sender);
                Some(turn)
            }
        };
        if let Some(turn) = turn {
            _ = turn.await; // the place was taken for us
        }
        self.state().out += 1;
        Place { window: self, slow: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self) {
        while self.taken < self.places
            && let Some(next) = self.waiting.pop_front()
        {
            if next.send(()).is_ok() {
                self.taken += 1;
            }
        }
    }
}

struct Place<'a> {
    window: &'a Window,
    slow: bool,
}

impl Place<'_> {
    fn give_up(&mut self) {
        let mut state = self.window.state();
        self.slow = true;
        state.taken -= 1;
        state.places = (state.places + 1).min(MOST_PLACES);
        state.admit();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.window.state();
        state.out -= 1;
        if !self.slow {
            state.taken -= 1;
            state.places = (state.places - 1).max(PLACES);
            state.admit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        time::Duration,
    };

    use super::*;

    async fn most_at_once(calls: usize, each: Duration) -> (usize, Duration) {
        let (window, now, most) =
            (Arc::new(Window::new()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let started = tokio::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..calls {
            let (window, now, most) = (window.clone(), now.clone(), most.clone());
            tasks.spawn(async move {
                let post = async {
                    most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                    tokio::time::sleep(each).await;
                    now.fetch_sub(1, Relaxed);
                };
                window.run(post).await;
            });
        }
        tasks.join_all().await;
        (most.load(Relaxed), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_quick_calls_shares_a_few_connections() {
        let (most, _) = most_at_once(1000, Duration::from_millis(1)).await;
        assert_eq!(most, PLACES);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_do_not_wait_for_each_other() {
        let (most, took) = most_at_once(100, Duration::from_millis(200)).await;
        assert_eq!(most, 100);
        assert!(took < Duration::from_millis(230), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_calls_to_a_far_server_do_not_open_a_thousand_connections() {
        let (most, took) = most_at_once(1000, Duration::from_millis(25)).await;
        assert!(most < 500, "{most} at once");
        assert!(took < Duration::from_millis(200), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_endless_calls_all_go_out() {
        let (most, _) = most_at_once(1000, Duration::from_secs(60)).await;
        assert_eq!(most, 1000);
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_leaves_its_place() {
        let window = Window::new();
        for _ in 0..2 * PLACES {
            let endless = window.run(std::future::pending::<()>());
            assert!(tokio::time::timeout(Duration::ZERO, endless).await.is_err());
        }
        window.run(async {}).await;
    }
}
