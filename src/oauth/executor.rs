//! Where credentials are obtained: on a thread of its own, because that reads and writes files, and a disk that does not
//! answer must hold up neither the loop nor the end of the program.
//!
//! # Invariants
//!
//! - The thread is started with the first task, and ends with its owner, or with the program if the disk holds it.

use std::{io, sync::OnceLock, thread};

use log::warn;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinSet,
};

/// Where tasks run.
#[derive(Debug)]
pub(crate) enum Executor {
    /// With whoever spawns them: tests pause the clock of that runtime.
    #[cfg(test)]
    Caller,
    /// On a thread of their own.
    Thread(OnceLock<Option<Worker>>),
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Worker {
    runtime: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Executor {
    /// Returns the executor of the program. Starts nothing.
    pub(crate) fn thread() -> Self {
        Self::Thread(OnceLock::new())
    }

    /// Reads files beside the caller, who does not wait for the end.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn read(&self, work: impl FnOnce() + Send + 'static) {
        match self {
            #[cfg(test)]
            Self::Caller => work(),
            // The thread that looks up the server's name next, so this costs none of its own.
            Self::Thread(_) => _ = tokio::task::spawn_blocking(work),
        }
    }

    /// Runs a task there.
    pub(crate) fn spawn(&self, tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            #[cfg(test)]
            Self::Caller => _ = tasks.spawn(task),
            Self::Thread(worker) => {
                match worker.get_or_init(|| {
                    Worker::start().inspect_err(|error| warn!("cannot start a thread for authorization: {error}")).ok()
                }) {
                    Some(worker) => _ = tasks.spawn_on(task, &worker.runtime),
                    None => _ = tasks.spawn(task),
                }
            }
        }
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("authorization".into()).spawn(move || {
            _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _stop: stop })
    }
}
