//! The loop's clock: tests set it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Tells the time since some moment in the past.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// The time of this machine, which never goes back.
    pub(crate) fn monotonic() -> Self {
        let since = Instant::now();
        Self::new(move || since.elapsed())
    }

    /// Any other.
    pub(crate) fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Clock").field(&self.now()).finish()
    }
}
