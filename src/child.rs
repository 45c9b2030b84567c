//! A program that this one starts and waits for.
//!
//! # Invariants
//!
//! - It ends with its owner, together with everything that it has started itself.
//! - What it prints is read to the end, so that it can end, and kept up to a limit.

use std::{
    io::{self, Read},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

/// Pause between two checks whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// A program with everything that it has started. Dropping it ends them.
pub(crate) struct ChildProgram(pub(crate) Child);

impl ChildProgram {
    /// Starts a program in a process group of its own. Control-C in the terminal does not reach it there.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map(Self)
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.0.try_wait()? {
                Some(status) => return Ok(status),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for ChildProgram {
    fn drop(&mut self) {
        // What is left of its group, also where it has ended itself: the number is not given again while the group is there.
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        }
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// What a program prints beyond what is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It cannot go on printing, which ends it.
    Refused,
    /// It is read, so that the program ends as it would.
    Ignored,
}

/// Reads what a program prints. Keeps one byte more than `most` at most.
pub(crate) async fn collect(pipe: Option<impl Read + Send + 'static>, most: usize, rest: Rest) -> Vec<u8> {
    let read = move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            _ = pipe.by_ref().take(most as u64 + 1).read_to_end(&mut text);
            if rest == Rest::Ignored {
                _ = io::copy(&mut pipe, &mut io::sink());
            }
        }
        text
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}
