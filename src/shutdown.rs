//! Reasons to end that do not come through the pipe: signals, and a host that died without closing
//! it.
//!
//! # Invariants
//!
//! - A signal does not end the program by itself, because pending requests are answered first.

use std::fmt;
#[cfg(unix)]
use std::time::Duration;

use tokio::{sync::mpsc, task::JoinSet};

/// A reason to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGTERM, SIGINT or SIGHUP; a console control event on Windows.
    Signal(&'static str),
    /// The process that started us is gone; somebody else may still hold its end of the pipe.
    ParentGone,
    /// The same, where it only stood between the host and us.
    #[cfg_attr(not(unix), allow(dead_code, reason = "only on Unix is the parent watched"))]
    LauncherGone,
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(formatter, "{name}"),
            Self::ParentGone => formatter.write_str("the host exited"),
            Self::LauncherGone => formatter.write_str("the launcher exited"),
        }
    }
}

/// The process that started us, as it was known at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent(#[cfg(unix)] u32);

/// The variable in which a launcher names its process (`.packaging/launch.js`). A launcher ends after us, unless it was
/// killed for us.
#[cfg(unix)]
const LAUNCHER: &str = "MCP_REMOTE_LAUNCHER";

impl Parent {
    /// To be taken first of all: a parent that dies before is never known.
    pub(crate) fn now() -> Self {
        #[cfg(unix)]
        return Self(std::os::unix::process::parent_id());
        #[cfg(not(unix))]
        Self()
    }

    #[cfg(unix)]
    fn is_launcher(self) -> bool {
        std::env::var(LAUNCHER).is_ok_and(|process| process == self.0.to_string())
    }
}

/// How often the parent is looked at. A copy left behind costs little for a second.
#[cfg(unix)]
const LOOK: Duration = Duration::from_secs(1);
/// The same for a launcher, whose host may already start the next one.
#[cfg(unix)]
const LOOK_FOR_LAUNCHER: Duration = Duration::from_millis(300);

/// Watches until the set is dropped.
#[must_use]
pub(crate) fn watch(parent: Parent) -> (mpsc::Receiver<Stop>, JoinSet<()>) {
    let (sender, stops) = mpsc::channel(4);
    let mut watchers = JoinSet::new();
    signals(&mut watchers, &sender);
    #[cfg(unix)]
    watchers.spawn(async move {
        let is_launcher = parent.is_launcher();
        let (pause, stop) =
            if is_launcher { (LOOK_FOR_LAUNCHER, Stop::LauncherGone) } else { (LOOK, Stop::ParentGone) };
        while std::os::unix::process::parent_id() == parent.0 {
            tokio::time::sleep(pause).await;
        }
        _ = sender.send(stop).await;
    });
    #[cfg(not(unix))]
    let Parent() = parent;
    (stops, watchers)
}

#[cfg(unix)]
fn signals(watchers: &mut JoinSet<()>, sender: &mpsc::Sender<Stop>) {
    use tokio::signal::unix::{SignalKind, signal};
    for (kind, name) in
        [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT"), (SignalKind::hangup(), "SIGHUP")]
    {
        match signal(kind) {
            Ok(mut signals) => {
                let sender = sender.clone();
                watchers.spawn(async move {
                    while signals.recv().await.is_some() {
                        if sender.send(Stop::Signal(name)).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Err(error) => log::warn!("cannot handle {name}: {error}"),
        }
    }
}

/// Windows ends the process soon after the last three, whatever the program does meanwhile.
#[cfg(windows)]
fn signals(watchers: &mut JoinSet<()>, sender: &mpsc::Sender<Stop>) {
    use tokio::signal::windows;
    /// Spawns the watcher of one event.
    macro_rules! watch {
        ($event:ident, $name:literal) => {
            match windows::$event() {
                Ok(mut events) => {
                    let sender = sender.clone();
                    watchers.spawn(async move {
                        while events.recv().await.is_some() {
                            if sender.send(Stop::Signal($name)).await.is_err() {
                                return;
                            }
                        }
                    });
                }
                Err(error) => log::warn!("cannot handle {}: {error}", $name),
            }
        };
    }
    watch!(ctrl_c, "control-C");
    watch!(ctrl_break, "control-break");
    watch!(ctrl_close, "the closed console");
    watch!(ctrl_logoff, "the end of the Windows session");
    watch!(ctrl_shutdown, "the shutdown of Windows");
}
