//! The processes that hold something of the store: whether they live, and whether they go on.

use std::time::Duration;

/// How long a stopped holder is waited for: a shell may let it go on.
pub(super) const STOPPED_PATIENCE: Duration = Duration::from_secs(3);

/// Whether a process runs.
#[cfg(unix)]
pub(crate) fn is_alive(pid: u32) -> bool {
    let known = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // EPERM: it lives, as somebody else's.
    known.is_some_and(|known| rustix::process::test_kill_process(known) != Err(rustix::io::Errno::SRCH))
        && !is_zombie(pid)
}

/// Whether a process has ended, and its parent has not asked for its status yet.
#[cfg(unix)]
fn is_zombie(pid: u32) -> bool {
    matches!(state(pid), Some('Z' | 'X'))
}

/// Whether a process is stopped by a signal. Known on Linux only. One that a debugger or tracer holds ('t') goes on.
pub(super) fn is_stopped(pid: u32) -> bool {
    matches!(state(pid), Some('T'))
}

/// Returns the state of a process (Linux, proc(5)).
fn state(pid: u32) -> Option<char> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    status.rsplit_once(") ")?.1.chars().next()
}

#[cfg(not(unix))]
pub(crate) fn is_alive(_pid: u32) -> bool {
    true // its age decides
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn zombie_process_is_not_alive() {
        use std::io::Read;
        let mut child = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        assert!(is_alive(std::process::id()));
        _ = output.read(&mut [0]).unwrap(); // its end is the end of its output, or a moment after that
        let began = std::time::Instant::now();
        while is_alive(child.id()) {
            assert!(began.elapsed() < Duration::from_secs(10), "it is a zombie");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn stopped_process_is_recognized() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        assert!(!is_stopped(child.id()));
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let began = std::time::Instant::now();
        while !is_stopped(child.id()) {
            assert!(began.elapsed() < Duration::from_secs(10), "it is stopped");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
