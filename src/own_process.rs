//! What the program asks of the operating system for its own process.
//!
//! # Invariants
//!
//! - A crash writes no memory, which holds tokens, to a disk.

/// Turns core dumps off (setrlimit(2), core(5)). A program that collects them, as systemd's does, heeds the limit.
pub(crate) fn write_no_core_dump() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        // The upper limit stays, so that a user can turn them on in a debugger.
        let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
        if let Err(error) = setrlimit(Resource::Core, limit) {
            log::debug!("cannot turn core dumps off: {error}");
        }
    }
}

/// Allows as many open files as the system lets a program allow itself: desktops start programs with 256 on macOS and 1024 on
/// Linux, and a host may have a thousand calls open, each with a connection.
pub(crate) fn raise_open_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        /// The most that macOS takes (OPEN_MAX).
        const MOST: u64 = 10_240;
        let limit = getrlimit(Resource::Nofile);
        let raised = limit.maximum.unwrap_or(MOST).min(MOST);
        if limit.current.is_some_and(|current| current < raised)
            && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit })
        {
            log::debug!("cannot raise the open file limit: {error}");
        }
    }
}

/// Lets a write beyond the largest file that is allowed fail like any other, instead of ending the program (SIGXFSZ,
/// setrlimit(2)).
///
/// # Panics
/// Outside a tokio runtime.
pub(crate) fn survive_file_size_limit() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        // The handler stays when its receiver is gone.
        if let Err(error) = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())) {
            log::debug!("cannot handle SIGXFSZ: {error}");
        }
    }
}
