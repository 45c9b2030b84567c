//! Which hosts run, as far as a running host would undo a change.

use std::process::{Command, Stdio};

/// The names of the programs that run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    names: Vec<String>,
}

impl Running {
    /// Asks the operating system. If it does not answer, nothing is known to run.
    pub(crate) fn now() -> Self {
        Self { names: names() }
    }

    /// Returns whether Claude Desktop runs.
    pub(crate) fn claude_desktop(&self) -> bool {
        // On Windows, both programs are called claude.exe.
        let names: &[&str] = if cfg!(windows) { &["claude.exe"] } else { &["Claude", "claude-desktop"] };
        self.has(names)
    }

    /// Returns whether a session of Claude Code runs.
    pub(crate) fn claude_code(&self) -> bool {
        self.has(if cfg!(windows) { &["claude.exe"] } else { &["claude"] })
    }

    fn has(&self, names: &[&str]) -> bool {
        let is = |name: &String| match cfg!(windows) {
            true => names.iter().any(|known| name.eq_ignore_ascii_case(known)),
            false => names.contains(&name.as_str()),
        };
        self.names.iter().any(is)
    }
}

fn names() -> Vec<String> {
    let mut command = if cfg!(windows) { Command::new("tasklist") } else { Command::new("ps") };
    command.args(if cfg!(windows) { &["/fo", "csv", "/nh"] } else { &["-A", "-o", "comm="] }); // POSIX ps
    let shown = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let name = |line: &str| match cfg!(windows) {
        true => line.split('"').nth(1).unwrap_or_default().to_owned(),
        false => line.trim().rsplit('/').next().unwrap_or_default().to_owned(), // a whole path on macOS
    };
    shown.lines().map(name).collect()
}
