//! A host: launches an adapter, hands it its standard input and output, and reads every line it writes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Outcome;
use crate::inbox::Inbox;
use crate::scratch::Scratch;
use crate::workload::Line;

/// Proxy settings of whoever runs the bench must not reach the adapters.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// What a host hands over as standard input and output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handles {
    /// As Node and Electron hosts do.
    SocketPairs,
    Fifos,
}

/// A program that can be launched as an adapter.
#[derive(Clone)]
pub(crate) struct Adapter {
    /// Program and arguments; `{url}` stands for the server, which is appended with `--allow-http` where it is missing.
    pub(crate) command: Vec<String>,
    pub(crate) handles: Handles,
    /// Whether it knows the option `--ca-cert`; others find the authority in the environment.
    pub(crate) takes_authority: bool,
    pub(crate) stderr_shown: bool,
}

/// The server that an adapter is launched for.
pub(crate) struct Target<'a> {
    pub(crate) url: &'a str,
    /// The certificate authority to trust.
    pub(crate) authority_file: Option<&'a Path>,
}

pub(crate) struct Host {
    pub(crate) pid: u32,
    process: Child,
    stdin: Box<dyn AsyncWrite + Unpin>,
    stdout: Box<dyn AsyncRead + Unpin>,
    inbox: Inbox,
    _home: Scratch,
}

/// Bytes for the adapter, some of which may be written already.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }
}

impl Adapter {
    fn command(&self, target: &Target<'_>, home: &Scratch) -> Outcome<Command> {
        let (program, arguments) = self.command.split_first().ok_or("an empty command")?;
        let url = target.url;
        let mut command = Command::new(program);
        command.args(arguments.iter().map(|argument| argument.replace("{url}", url)));
        if !arguments.iter().any(|argument| argument.contains("{url}")) {
            command.args([url, "--allow-http"]);
        }
        for name in PROXY_VARIABLES {
            command.env_remove(name);
        }
        command.env("HOME", home.path()).env("MCP_REMOTE_CONFIG_DIR", config_folder(home));
        if let Some(file) = target.authority_file {
            if self.takes_authority {
                command.arg("--ca-cert").arg(file);
            } else {
                command.env("NODE_EXTRA_CA_CERTS", file).env("SSL_CERT_FILE", file);
            }
        }
        command.stderr(if self.stderr_shown { Stdio::inherit() } else { Stdio::null() }).kill_on_drop(true);
        Ok(command)
    }
}

type Spawned = (Instant, Child, Box<dyn AsyncWrite + Unpin>, Box<dyn AsyncRead + Unpin>);

#[cfg(unix)]
fn spawn(command: &mut Command, handles: Handles) -> Outcome<Spawned> {
    use std::io;
    use std::os::{fd::OwnedFd, unix::net::UnixStream};
    use tokio::net::unix::pipe;

    let ours = |stream: UnixStream| {
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    };
    let (stdin, stdout): (Box<dyn AsyncWrite + Unpin>, Box<dyn AsyncRead + Unpin>) = match handles {
        Handles::SocketPairs => {
            let (ours_in, theirs_in) = UnixStream::pair()?;
            let (ours_out, theirs_out) = UnixStream::pair()?;
            command.stdin(OwnedFd::from(theirs_in)).stdout(OwnedFd::from(theirs_out));
            (Box::new(ours(ours_in)?), Box::new(ours(ours_out)?))
        }
        Handles::Fifos => {
            let (theirs_in, ours_in) = io::pipe()?;
            let (ours_out, theirs_out) = io::pipe()?;
            command.stdin(OwnedFd::from(theirs_in)).stdout(OwnedFd::from(theirs_out));
            (
                Box::new(pipe::Sender::from_owned_fd(ours_in.into())?),
                Box::new(pipe::Receiver::from_owned_fd(ours_out.into())?),
            )
        }
    };
    Ok((Instant::now(), command.spawn()?, stdin, stdout))
}

/// Elsewhere a host has only one kind of pipes.
#[cfg(not(unix))]
fn spawn(command: &mut Command, handles: Handles) -> Outcome<Spawned> {
    let (Handles::SocketPairs | Handles::Fifos) = handles;
    let started = Instant::now();
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(stdin), Some(stdout)) = (process.stdin.take(), process.stdout.take()) else {
        return Err("the adapter has no pipes".into());
    };
    Ok((started, process, Box::new(stdin), Box::new(stdout)))
}

impl Host {
    /// Launches the adapter; the clock of a start begins at the moment returned. `room` is how much may be read at once.
    pub(crate) fn launch(
        adapter: &Adapter,
        target: &Target<'_>,
        home: Scratch,
        room: usize,
    ) -> Outcome<(Self, Instant)> {
        let mut command = adapter.command(target, &home)?;
        let inbox = Inbox::with_room(room);
        let (started, process, stdin, stdout) = spawn(&mut command, adapter.handles)?;
        let pid = process.id().ok_or("the adapter ended at once")?;
        Ok((Self { pid, process, stdin, stdout, inbox, _home: home }, started))
    }

    /// Writes one message.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Outcome<()> {
        let mut line = message.to_vec();
        line.push(b'\n');
        self.stdin.write_all(&line).await?;
        Ok(())
    }

    /// Waits for the one answer that is due.
    pub(crate) async fn answer(&mut self, expected: u32) -> Outcome<()> {
        loop {
            while let Some(line) = self.inbox.take_line() {
                match Line::read(line) {
                    Line::Answer { id } if id == expected && contains(line, b"\"result\"") => {
                        return Ok(());
                    }
                    Line::Answer { .. } | Line::NotJson => {
                        return Err(format!("instead of the answer: {}", String::from_utf8_lossy(line)).into());
                    }
                    Line::Notification { .. } | Line::Other => {}
                }
            }
            if self.inbox.fill(&mut *self.stdout).await? == 0 {
                return Err("the adapter closed its output".into());
            }
        }
    }

    /// Writes some of `out`. Cancel safe.
    pub(crate) async fn write(&mut self, out: &mut Outbox) -> Outcome<()> {
        let count = self.stdin.write(out.unwritten()).await?;
        out.advance(count);
        Ok(())
    }

    /// Writes some of `out` or reads something, whichever is possible. Cancel safe.
    pub(crate) async fn turn(&mut self, out: &mut Outbox) -> Outcome<()> {
        tokio::select! {
            biased;
            count = self.stdin.write(out.unwritten()), if !out.unwritten().is_empty() => out.advance(count?),
            count = self.inbox.fill(&mut *self.stdout) => {
                if count? == 0 {
                    return Err("the adapter closed its output".into());
                }
            }
        }
        Ok(())
    }

    /// Returns the next line that was read whole.
    pub(crate) fn take_line(&mut self) -> Option<&[u8]> {
        self.inbox.take_line()
    }

    /// Ends the adapter's input, and says how long it took to exit; `None` when it had to be killed.
    pub(crate) async fn close(mut self) -> Outcome<Option<Duration>> {
        let started = Instant::now();
        drop(self.stdin);
        let exited = async {
            // A reset at this point is an end like any other.
            while let Ok(1..) = self.inbox.fill(&mut *self.stdout).await {
                self.inbox.clear();
            }
            self.process.wait().await
        };
        if let Ok(status) = timeout(EXIT_LIMIT, exited).await {
            status?;
            return Ok(Some(started.elapsed()));
        }
        self.process.kill().await?;
        Ok(None)
    }
}

/// Where an adapter with this home keeps its files.
pub(crate) fn config_folder(home: &Scratch) -> PathBuf {
    home.path().join("config")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
