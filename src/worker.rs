//! Threads that exist only while they have work.
//!
//! # Invariants
//!
//! - A [`Worker`] does its jobs one at a time, in the order in which they came.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::sync::LockExt;

/// How long a [`Worker`]'s thread waits for more work: lines of a log come in bursts, and a thread costs 50 µs.
const LINGER: Duration = Duration::from_secs(1);

/// Work of one kind, done in its order beside everything else. Its thread exists only while there is work.
#[derive(Clone)]
pub(crate) struct Worker(Arc<Queue>);

type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    name: &'static str,
    most: usize,
    jobs: Mutex<Jobs>,
    /// Wakes the thread.
    arrived: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    has_thread: bool,
}

impl Worker {
    /// Returns a worker without a thread, whose threads have this name. At most `most` jobs wait.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        Self(Arc::new(Queue { name, most, jobs: Mutex::default(), arrived: Condvar::new() }))
    }

    /// Has `job` done after those that wait. Returns false, and forgets it, if too many wait or no thread can be started.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let mut jobs = self.0.jobs.guard();
        if jobs.waiting.len() >= self.0.most {
            return false;
        }
        if !jobs.has_thread {
            let queue = self.0.clone();
            if thread::Builder::new().name(self.0.name.into()).spawn(move || queue.work()).is_err() {
                return false;
            }
            jobs.has_thread = true;
        }
        jobs.waiting.push_back(Box::new(job));
        self.0.arrived.notify_one();
        true
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Worker").field(&self.0.name).finish()
    }
}

impl Queue {
    fn work(&self) {
        let mut jobs = self.jobs.guard();
        loop {
            while let Some(job) = jobs.waiting.pop_front() {
                drop(jobs);
                job();
                jobs = self.jobs.guard();
            }
            let (waited, time) = self.arrived.wait_timeout(jobs, LINGER).unwrap_or_else(PoisonError::into_inner);
            jobs = waited;
            if time.timed_out() && jobs.waiting.is_empty() {
                jobs.has_thread = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn worker_thread_ends_and_comes_back() {
        let worker = Worker::new("test", 2);
        for round in 0..2 {
            let (done, result) = mpsc::channel();
            let (release, held) = mpsc::channel::<()>();
            assert!(worker.run(move || _ = held.recv()));
            while !worker.0.jobs.guard().waiting.is_empty() {
                thread::yield_now();
            }
            for number in 0..3 {
                let done = done.clone();
                assert_eq!(worker.run(move || _ = done.send((round, number))), number < 2, "two may wait");
            }
            drop((release, done));
            assert_eq!(result.iter().collect::<Vec<_>>(), [(round, 0), (round, 1)]);
            while worker.0.jobs.guard().has_thread {
                thread::sleep(LINGER / 20);
            }
        }
    }
}
