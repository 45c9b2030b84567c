//! A program that this one starts and waits for.
//!
//! # Invariants
//!
//! - It does not go on after its owner. Where it has to be ended, so is what it has started itself, except on Windows. What
//!   it leaves running when it ends by itself goes on.
//! - What it prints is read to the end, so that it can end, and kept up to a limit.

use std::{
    io::{self, Read},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus},
    time::Duration,
};

/// Pause between two checks whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// A program. Dropping it before its end ends it, together with what it has started.
pub(crate) struct ChildProgram {
    child: Child,
    /// Its end was seen, so that its number may be another program's.
    has_ended: bool,
}

impl ChildProgram {
    /// Starts a program in a process group of its own. Control-C in the terminal does not reach it there.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self { child: command.spawn()?, has_ended: false })
    }

    /// Takes the pipes of stdout and stderr.
    pub(crate) fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            match self.child.try_wait()? {
                Some(status) => {
                    self.has_ended = true;
                    return Ok(status);
                }
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

impl Drop for ChildProgram {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // The number is its own until its end is seen.
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        _ = self.child.kill();
        _ = self.child.wait();
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
