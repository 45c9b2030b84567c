//! Where the program runs, as far as it matters for a browser: SSH, a container, a display, WSL.
//!
//! # Invariants
//!
//! - No program is started with a secret of this one's environment: a browser lives for days.
//! - Variables are read once, at the start; the file system only when a browser is wanted.

#[cfg(unix)]
use std::path::Path;
use std::{fs, path::PathBuf, process::Command};

/// How a program finds the person's screen.
const SESSION: [&str; 4] = ["DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
/// Set in containers by whoever runs them.
const CONTAINER: [&str; 4] = ["CODESPACES", "REMOTE_CONTAINERS", "KUBERNETES_SERVICE_HOST", "container"];
/// Left in containers by Docker and Podman.
const CONTAINER_FILES: [&str; 2] = [".dockerenv", "run/.containerenv"];

/// Where the program runs, as far as it matters for a browser.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) browser: Option<String>,
    pub(crate) session: Vec<(&'static str, String)>,
    /// Both ends' addresses and ports, as in `$SSH_CONNECTION`; empty where only `$SSH_TTY` is set.
    pub(crate) ssh: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) container: bool,
    /// Continuous integration: nobody looks at a screen.
    pub(crate) unattended: bool,
    pub(crate) path: Option<String>,
    /// Variables that no started program gets, because their values are secrets.
    pub(crate) secrets: Vec<String>,
    /// Of the file system.
    pub(crate) root: PathBuf,
}

impl Default for Surroundings {
    /// Nothing is known.
    fn default() -> Self {
        Self::of(&|_| None)
    }
}

impl Surroundings {
    /// Reads the variables; the file system is looked at when a browser is wanted.
    pub(crate) fn of(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        Self {
            browser: set("BROWSER"),
            session: SESSION.into_iter().filter_map(|name| Some((name, set(name)?))).collect(),
            ssh: set("SSH_CONNECTION").or_else(|| set("SSH_TTY").map(|_| String::new())),
            user: set("USER").or_else(|| set("LOGNAME")),
            container: CONTAINER.into_iter().any(|name| set(name).is_some()),
            unattended: set("CI").is_some_and(|value| value != "false"),
            path: set("PATH"),
            secrets: Vec::new(),
            root: "/".into(),
        }
    }

    /// Why no browser can be seen by the person.
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        if self.unattended {
            return Some("mcp-remote runs in continuous integration (CI is set)");
        }
        // A display that came with the connection is the person's; one of this machine is not.
        if self.ssh.is_some() && !has_display(&self.session) {
            return Some("mcp-remote runs in an SSH session");
        }
        if cfg!(not(any(windows, target_vendor = "apple"))) && !has_display(&self.session()) && !self.is_wsl() {
            return Some(if self.is_container() {
                "mcp-remote runs in a container without a display"
            } else {
                "no display was found"
            });
        }
        None
    }

    pub(crate) fn is_container(&self) -> bool {
        self.container || CONTAINER_FILES.iter().any(|file| self.root.join(file).exists())
    }

    /// Whether programs of Windows can be started; the newer name is systemd's doing.
    pub(crate) fn is_wsl(&self) -> bool {
        ["WSLInterop", "WSLInterop-late"].into_iter().any(|name| {
            let file = self.root.join("proc/sys/fs/binfmt_misc").join(name);
            fs::read_to_string(file).is_ok_and(|state| state.contains("enabled"))
        })
    }

    /// The variables that lead to the screen.
    #[cfg(not(unix))]
    fn session(&self) -> Vec<(&'static str, String)> {
        self.session.clone()
    }

    /// The variables that lead to the screen: hosts strip them, and the sockets they name are still
    /// there.
    #[cfg(unix)]
    fn session(&self) -> Vec<(&'static str, String)> {
        let mut session = self.session.clone();
        let given = |name| self.session.iter().find(|(other, _)| *other == name).map(|(_, value)| PathBuf::from(value));
        let runtime = given("XDG_RUNTIME_DIR").unwrap_or_else(|| {
            let folder = self.root.join(format!("run/user/{}", rustix::process::getuid().as_raw()));
            if folder.is_dir() {
                session.push(("XDG_RUNTIME_DIR", folder.display().to_string()));
            }
            folder
        });
        let bus = runtime.join("bus");
        if given("DBUS_SESSION_BUS_ADDRESS").is_none() && is_our_socket(&bus) {
            session.push(("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", bus.display())));
        }
        // The screen of this machine is not where a person sits who came over SSH.
        if !has_display(&session) && self.ssh.is_none() {
            let wayland = ["wayland-0", "wayland-1"].into_iter().find(|name| is_our_socket(&runtime.join(name)));
            session.extend(wayland.map(|name| ("WAYLAND_DISPLAY", name.to_owned())));
            let x11 = self.root.join("tmp/.X11-unix");
            let x11 = ["0", "1"].into_iter().find(|number| is_our_socket(&x11.join(format!("X{number}"))));
            session.extend(x11.map(|number| ("DISPLAY", format!(":{number}"))));
        }
        session
    }

    /// A command that finds the person's screen.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).envs(self.session()).envs(self.path.as_ref().map(|path| ("PATH", path)));
        self.hide_secrets(&mut command);
        command
    }

    /// Takes the secrets out of the environment of a program that is to be started.
    pub(crate) fn hide_secrets(&self, command: &mut Command) {
        for name in &self.secrets {
            command.env_remove(name);
        }
    }

    /// Whether there may be a browser that the person sees; otherwise they are elsewhere.
    pub(crate) fn may_have_browser(&self) -> bool {
        self.browser.is_some() || self.obstacle().is_none()
    }
}

fn has_display(session: &[(&str, String)]) -> bool {
    session.iter().any(|(name, _)| matches!(*name, "DISPLAY" | "WAYLAND_DISPLAY"))
}

/// Whether it is a socket of this person, or of the system for them: not of a login screen or of
/// somebody else who sits here.
#[cfg(unix)]
fn is_our_socket(path: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let owners = [rustix::process::getuid().as_raw(), 0];
    fs::metadata(path).is_ok_and(|file| file.file_type().is_socket() && owners.contains(&file.uid()))
}
