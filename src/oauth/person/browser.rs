//! Opening the user's browser (RFC 8252 §4.1), and instructions for a user whose browser is on another computer.
//!
//! `$BROWSER` comes first, then the platform's way: the `webbrowser` crate on macOS and Windows. Elsewhere this module
//! starts the launchers that the crate would start, because there the crate passes this program's stdin to desktop entries
//! with `Terminal=true`, never waits for its children, and looks for the display in an environment that hosts have emptied.
//!
//! # Invariants
//!
//! - This module starts no shell, and opens http and https URLs only (CVE-2025-6514).
//! - A browser gets neither stdin nor stdout nor stderr of this program.
//! - This module starts no browser that needs a terminal, and leaves no zombie process.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use reqwest::Url;
use tokio::{sync::oneshot, time::timeout};

use crate::{surroundings::Surroundings, text::deepest};

/// How long a launcher may take to fail. A launcher that runs longer counts as the browser.
const HANDED_OVER: Duration = Duration::from_secs(2);
/// Browsers that need a terminal.
const TEXT_BROWSERS: [&str; 9] = ["browsh", "elinks", "eww", "links", "links2", "lynx", "netrik", "w3m", "www-browser"];
/// The separator of the commands in `$BROWSER`.
const SEPARATOR: char = if cfg!(windows) { ';' } else { ':' };

/// Why no browser was opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot open a browser: {why}")]
pub(crate) struct NoBrowser {
    /// The reason, as a clause.
    pub(crate) why: String,
}

impl NoBrowser {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// Returns the commands in `$BROWSER`, split at spaces without a shell. The URL replaces `%s`, or is appended.
fn named(surroundings: &Surroundings, url: &Url) -> Vec<Command> {
    let entries = surroundings.browser.iter().flat_map(|list| list.split(SEPARATOR));
    entries
        .filter_map(|entry| {
            let mut words: Vec<_> =
                entry.split_ascii_whitespace().map(|word| word.replace("%s", url.as_str())).collect();
            if !entry.contains("%s") {
                words.push(url.to_string());
            }
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let (program, arguments) = words.split_first()?;
            let name = Path::new(program).file_name()?.to_str()?;
            if TEXT_BROWSERS.contains(&name) {
                log::info!("not starting {name} from BROWSER: it needs a terminal");
                return None;
            }
            (!arguments.is_empty()).then(|| surroundings.command(program, arguments))
        })
        .collect()
}

/// Returns the commands that open the user's browser on Linux, on a BSD, or on Windows from WSL.
#[cfg(not(any(windows, target_vendor = "apple")))]
fn launchers(surroundings: &Surroundings, url: &Url) -> Vec<Command> {
    /// The browsers for xdg-open, whose own list includes text browsers.
    const GRAPHICAL: &str = "x-www-browser:firefox:epiphany:konqueror:chromium:chromium-browser:google-chrome";
    let url = url.as_str();
    let mut launchers = Vec::new();
    // Windows gets the command line as one string, so the URL must not end an argument early.
    if surroundings.is_wsl() && !url.contains(['"', '\\']) {
        for program in ["rundll32.exe", "/mnt/c/Windows/System32/rundll32.exe"] {
            launchers.push(surroundings.command(program, &["url.dll,FileProtocolHandler", url]));
        }
    }
    let mut xdg_open = surroundings.command("xdg-open", &[url]);
    xdg_open.env("BROWSER", GRAPHICAL);
    launchers.extend([
        xdg_open,
        surroundings.command("gio", &["open", url]),
        surroundings.command("x-www-browser", &[url]),
    ]);
    launchers
}

/// Opens the URL in a browser. Returns once a launcher has succeeded, or is still running.
///
/// # Errors
/// [`NoBrowser`] if the user cannot see a browser of this computer, or no browser starts.
pub(crate) async fn open(url: &Url, surroundings: &Surroundings) -> Result<(), NoBrowser> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(NoBrowser::new(format!("the sign-in URL begins with {}: instead of https:", url.scheme())));
    }
    // BROWSER comes before the check for a display, because a user who sets it knows how to reach a browser.
    let named = start_one(named(surroundings, url)).await;
    if named.is_ok() {
        return Ok(());
    }
    match surroundings.obstacle() {
        Some(why) => Err(NoBrowser::new(why)),
        None => open_on_desktop(url, surroundings).await,
    }
}

#[cfg(not(any(windows, target_vendor = "apple")))]
async fn open_on_desktop(url: &Url, surroundings: &Surroundings) -> Result<(), NoBrowser> {
    start_one(launchers(surroundings, url)).await
}

#[cfg(any(windows, target_vendor = "apple"))]
async fn open_on_desktop(url: &Url, _: &Surroundings) -> Result<(), NoBrowser> {
    let url = url.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let mut options = webbrowser::BrowserOptions::new();
        options.with_suppress_output(true);
        webbrowser::open_browser_with_options(webbrowser::Browser::Default, url.as_str(), &options)
    });
    match opened.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(NoBrowser::new(deepest(&error))),
        Err(error) => Err(NoBrowser::new(error.to_string())),
    }
}

/// Starts the commands one after the other until one does not fail.
async fn start_one(commands: Vec<Command>) -> Result<(), NoBrowser> {
    let mut why = "no program that opens a browser is installed".to_owned();
    for command in commands {
        let name = command.get_program().to_string_lossy().into_owned();
        match start(command).await {
            Ok(()) => return Ok(()),
            Err(Failure::NotInstalled) => {}
            Err(Failure::Other(what)) => {
                log::debug!("{name} failed: {what}");
                why = format!("{name} failed: {what}");
            }
        }
    }
    Err(NoBrowser { why })
}

enum Failure {
    NotInstalled,
    Other(String),
}

/// Starts a program that inherits no stream, on a thread that waits for the end of the program.
async fn start(mut command: Command) -> Result<(), Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A new process group, because a signal that ends this program must not end the user's browser.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let (sender, ended) = oneshot::channel();
    let work = move || _ = sender.send(command.status());
    std::thread::Builder::new().name("browser".into()).spawn(work).map_err(|error| Failure::Other(deepest(&error)))?;
    match timeout(HANDED_OVER, ended).await {
        Err(_) => Ok(()),
        Ok(Ok(Ok(status))) if status.success() => Ok(()),
        Ok(Ok(Ok(status))) => Err(Failure::Other(described(status))),
        Ok(Ok(Err(error))) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::NotInstalled),
        Ok(Ok(Err(error))) => Err(Failure::Other(deepest(&error))),
        Ok(Err(_)) => Err(Failure::Other("the exit status is unknown".into())),
    }
}

fn described(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}

/// Returns how to sign in with a browser on another computer, if the user cannot see a browser of this one.
pub(crate) fn from_elsewhere(port: u16, surroundings: &Surroundings) -> Option<String> {
    surroundings.obstacle()?;
    let paste = "open the sign-in URL in any browser and sign in. Copy the URL of the page that then fails to load, run \
                 this command on the computer where mcp-remote runs, and paste the URL:\n  mcp-remote finish";
    if surroundings.ssh.is_none() && surroundings.is_container() {
        return Some(paste.to_owned()); // no SSH server
    }
    // OpenSSH sets SSH_CONNECTION to "client-address port server-address port".
    let mut here = surroundings.ssh.as_deref().unwrap_or_default().split_ascii_whitespace().skip(2);
    let name = fs::read_to_string(surroundings.root.join("etc/hostname")).unwrap_or_default();
    let host = here.next().or_else(|| name.split_ascii_whitespace().next()).unwrap_or("HOST");
    let ssh_port = here.next().filter(|port| *port != "22").map(|port| format!(" -p {port}")).unwrap_or_default();
    let user = surroundings.user.as_deref().unwrap_or("USER");
    Some(format!(
        "run this command on the computer with your browser, then open the sign-in URL in that browser:\n  \
         ssh -L {port}:127.0.0.1:{port}{ssh_port} {user}@{host}\nor {paste}"
    ))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{io::Write, os::unix::net::UnixListener, path::PathBuf};

    use tempfile::TempDir;

    use super::*;

    const URL: &str = "https://as.example/authorize?a=$(touch%20x)&b=%27;`id`|%22&state=%s";

    /// A file system with nothing in it, and programs that write down how they were started.
    struct Machine {
        root: TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let root = TempDir::new().unwrap();
            fs::create_dir(root.path().join("bin")).unwrap();
            Self { root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        /// A program, written by another process: a file that this one has open for writing cannot be
        /// started (ETXTBSY), and a fork of another test may hold it open.
        fn program(&self, name: &str, last_line: &str) -> String {
            let file = self.path("bin").join(name);
            let record = self.path(name);
            let script = format!(
                "#!/bin/sh\nPATH=/usr/bin:/bin\nstreams=$(for f in 0 1 2; do readlink /proc/$$/fd/$f; done)\n\
                 read -r _ _ _ _ group _ < /proc/$$/stat\n{{ echo $$; echo $group; echo \"$streams\"; \
                 echo \"$DISPLAY $WAYLAND_DISPLAY $XDG_RUNTIME_DIR $DBUS_SESSION_BUS_ADDRESS $BROWSER\"; \
                 for a in \"$@\"; do echo \"$a\"; done; }} > {0}.tmp; mv {0}.tmp {0}\n{last_line}\n",
                record.display()
            );
            let mut writer = Command::new("/bin/sh")
                .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
                .arg(&file)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            writer.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(writer.wait().unwrap().success());
            file.to_str().unwrap().to_owned()
        }

        /// What a program wrote: its pid, its group, its three streams, its variables, its arguments.
        fn record(&self, name: &str) -> Option<Vec<String>> {
            let text = fs::read_to_string(self.path(name)).ok()?;
            Some(text.lines().map(str::to_owned).collect())
        }

        fn socket(&self, name: &str) -> UnixListener {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            UnixListener::bind(self.path(name)).unwrap()
        }

        fn surroundings(&self, variables: &[(&str, &str)]) -> Surroundings {
            let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
            let mut surroundings = Surroundings::of(&|name| {
                let given = variables.iter().find(|(other, _)| *other == name);
                given.map(|(_, value)| (*value).to_owned()).or_else(|| (name == "PATH").then(|| path.clone()))
            });
            surroundings.root = self.root.path().into();
            // Programs of the machine under the test are not to be started.
            surroundings.path = Some(self.path("bin").display().to_string());
            surroundings
        }
    }

    fn url() -> Url {
        URL.parse().unwrap()
    }

    #[tokio::test]
    async fn browser_gets_one_argument_and_no_streams() {
        let machine = Machine::new();
        let browser = format!("{} --new-tab", machine.program("firefox", ""));
        open(&url(), &machine.surroundings(&[("BROWSER", &browser)])).await.unwrap();

        let record = machine.record("firefox").unwrap();
        assert_eq!(record[2..5], ["/dev/null"; 3]);
        assert_eq!(record[6..], ["--new-tab", url().as_str()]);
        assert_eq!(record[0], record[1], "what ends our group ends it too");
        let pid = rustix::process::Pid::from_raw(record[0].parse().unwrap()).unwrap();
        assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    }

    #[tokio::test]
    async fn url_replaces_its_placeholder() {
        let machine = Machine::new();
        let browser = format!("{} --app=%s --quiet", machine.program("firefox", ""));
        open(&url(), &machine.surroundings(&[("BROWSER", &browser)])).await.unwrap();
        assert_eq!(machine.record("firefox").unwrap()[6..], [format!("--app={}", url()), "--quiet".into()]);
    }

    #[tokio::test]
    async fn only_http_urls_are_opened() {
        let machine = Machine::new();
        let surroundings = machine.surroundings(&[("BROWSER", &machine.program("firefox", ""))]);
        for text in ["file:///etc/passwd", "javascript:alert(1)", "ms-word:ofe|u|x", "data:,x"] {
            let NoBrowser { why } = open(&text.parse().unwrap(), &surroundings).await.unwrap_err();
            assert!(why.contains("instead of https:"), "{why}");
        }
        assert_eq!(machine.record("firefox"), None);
    }

    #[tokio::test]
    async fn failing_browser_gives_way_to_the_next() {
        let machine = Machine::new();
        let browsers = format!(
            "{}:/no/such/thing:{}:{}",
            machine.program("lynx", ""),
            machine.program("broken", "exit 3"),
            machine.program("firefox", "")
        );
        open(&url(), &machine.surroundings(&[("BROWSER", &browsers)])).await.unwrap();
        assert_eq!(machine.record("lynx"), None);
        assert!(machine.record("broken").is_some());
        assert!(machine.record("firefox").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_browser_counts_as_opened() {
        let machine = Machine::new();
        let gate = machine.path("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        let browser = machine.program("firefox", &format!("read line < {}", gate.display()));
        open(&url(), &machine.surroundings(&[("BROWSER", &browser)])).await.unwrap();

        fs::write(&gate, "close\n").unwrap(); // waits for the browser to open it
        let pid = machine.record("firefox").unwrap()[0].parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let start = std::time::Instant::now();
        while rustix::process::test_kill_process(pid).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10), "nobody waits for it");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn screen_is_found_by_its_sockets() {
        let machine = Machine::new();
        machine.program("xdg-open", "");
        let runtime = format!("run/user/{}", rustix::process::getuid().as_raw());
        let _sockets = [
            machine.socket(&format!("{runtime}/wayland-0")),
            machine.socket(&format!("{runtime}/bus")),
            machine.socket("tmp/.X11-unix/X0"),
        ];
        open(&url(), &machine.surroundings(&[])).await.unwrap();

        let record = machine.record("xdg-open").unwrap();
        let runtime = machine.path(&runtime).display().to_string();
        let session = format!(":0 wayland-0 {runtime} unix:path={runtime}/bus x-www-browser:firefox");
        assert!(record[5].starts_with(&session), "{} is not {session}", record[5]);
        assert_eq!(record[6..], [url().as_str()]);
    }

    #[tokio::test]
    async fn remaining_display_variables_are_kept() {
        let machine = Machine::new();
        machine.program("xdg-open", "");
        let _other = machine.socket("tmp/.X11-unix/X0");
        open(&url(), &machine.surroundings(&[("WAYLAND_DISPLAY", "wayland-7"), ("XDG_RUNTIME_DIR", "/r")]))
            .await
            .unwrap();
        let record = machine.record("xdg-open").unwrap();
        assert!(record[5].contains(" wayland-7 /r "), "{}", record[5]);
        assert!(!record[5].contains(":0"), "{}", record[5]);
    }

    #[tokio::test]
    async fn no_browser_opens_without_a_local_screen() {
        let machine = Machine::new();
        machine.program("xdg-open", "");
        let why =
            async |variables: &[(&str, &str)]| open(&url(), &machine.surroundings(variables)).await.unwrap_err().why;
        assert_eq!(why(&[]).await, "no display was found");
        assert_eq!(why(&[("CODESPACES", "true")]).await, "mcp-remote runs in a container without a display");
        fs::write(machine.path(".dockerenv"), "").unwrap();
        assert_eq!(why(&[]).await, "mcp-remote runs in a container without a display");
        let _screen = machine.socket("tmp/.X11-unix/X0"); // somebody else's, seen from afar
        assert_eq!(why(&[("SSH_TTY", "/dev/pts/0")]).await, "mcp-remote runs in an SSH session");
        assert_eq!(why(&[("CI", "true")]).await, "mcp-remote runs in continuous integration (CI is set)");
        assert_eq!(machine.record("xdg-open"), None);
    }

    #[tokio::test]
    async fn browser_variable_is_used_without_a_screen() {
        let machine = Machine::new();
        let browser = machine.program("code-helper", "");
        let _screen = machine.socket("tmp/.X11-unix/X0"); // in front of somebody else, over SSH
        for place in ["CI", "SSH_TTY", "REMOTE_CONTAINERS"] {
            open(&url(), &machine.surroundings(&[("BROWSER", &browser), (place, "true")])).await.unwrap();
            assert_eq!(machine.record("code-helper").unwrap()[5].starts_with(":0 "), place != "SSH_TTY");
        }
    }

    #[tokio::test]
    async fn launcher_failure_is_reported() {
        let machine = Machine::new();
        let _screen = machine.socket("tmp/.X11-unix/X0");
        let why = async || open(&url(), &machine.surroundings(&[])).await.unwrap_err().why;
        assert_eq!(why().await, "no program that opens a browser is installed");
        machine.program("xdg-open", "exit 3");
        assert_eq!(why().await, "xdg-open failed: exit status 3");
        machine.program("x-www-browser", "");
        open(&url(), &machine.surroundings(&[])).await.unwrap();
    }

    #[tokio::test]
    async fn wsl_opens_windows_browser() {
        let machine = Machine::new();
        machine.program("rundll32.exe", "");
        fs::create_dir_all(machine.path("proc/sys/fs/binfmt_misc")).unwrap();
        fs::write(machine.path("proc/sys/fs/binfmt_misc/WSLInterop-late"), "enabled\n").unwrap();
        open(&url(), &machine.surroundings(&[])).await.unwrap();
        let record = machine.record("rundll32.exe").unwrap();
        assert_eq!(record[6..], ["url.dll,FileProtocolHandler", url().as_str()]);
    }

    #[test]
    fn remote_user_gets_exact_tunnel_command() {
        let machine = Machine::new();
        let tell = |variables: &[(&str, &str)]| from_elsewhere(5598, &machine.surroundings(variables));
        let text = tell(&[("SSH_CONNECTION", "10.0.0.2 50000 10.0.0.5 2222"), ("USER", "ann")]).unwrap();
        assert!(text.contains("\n  ssh -L 5598:127.0.0.1:5598 -p 2222 ann@10.0.0.5\n"), "{text}");
        assert!(text.ends_with("\n  mcp-remote finish"), "{text}");

        // What a host that strips SSH_CONNECTION leaves.
        fs::create_dir(machine.path("etc")).unwrap();
        fs::write(machine.path("etc/hostname"), "build-7\n").unwrap();
        let text = tell(&[("LOGNAME", "ann")]).unwrap();
        assert!(text.contains("ssh -L 5598:127.0.0.1:5598 ann@build-7\n"), "{text}");

        let text = tell(&[("REMOTE_CONTAINERS", "true")]).unwrap();
        assert!(!text.contains("ssh") && text.contains("mcp-remote finish"), "{text}");

        assert_eq!(tell(&[("DISPLAY", ":0")]), None);
    }
}
