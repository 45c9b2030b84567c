//! A host: starts the real binary as Node does, over socket pairs (or over pipes), speaks JSON-RPC
//! with it line by line, and sees how it ends.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use super::{PATIENCE, kept, soon};

/// The flags of a host that waits for the server itself. Most tests run what users run: without them.
pub const WAIT: [&str; 2] = ["--start", "wait"];

/// What the host hands over as stdin and stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handles {
    /// Node and Electron. On Windows, which has none, these are pipes too.
    SocketPairs,
    /// Most others.
    Pipes,
}

/// A running adapter and our ends of its pipes.
pub struct Host {
    pub child: Child,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    output: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    stderr: watch::Receiver<String>,
    collecting: JoinHandle<()>,
    /// Home and store of the adapter.
    pub home: Arc<TempDir>,
}

impl Host {
    /// Starts `mcp-remote URL FLAGS` over socket pairs.
    pub fn start(url: &str, flags: &[&str]) -> Self {
        Self::start_with(Handles::SocketPairs, url, flags, &[])
    }

    /// Starts `mcp-remote URL FLAGS --start wait`: it is not answered with a placeholder while the server does not answer.
    pub fn waiting(url: &str, flags: &[&str]) -> Self {
        Self::start(url, &[flags, &WAIT].concat())
    }

    /// The same as [`start`](Self::start) with chosen handles and environment.
    pub fn start_with(handles: Handles, url: &str, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut arguments = vec![url];
        arguments.extend(flags);
        Self::start_raw(handles, &arguments, environment, Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Starts `mcp-remote ARGUMENTS` with a home folder of the test's choice.
    pub fn start_raw(handles: Handles, arguments: &[&str], environment: &[(&str, &str)], home: Arc<TempDir>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
        command.args(arguments);
        command.env_clear().envs(kept()).env("HOME", home.path()).env("MCP_REMOTE_CONFIG_DIR", home.path());
        command.envs(environment.iter().copied()).stderr(Stdio::piped()).kill_on_drop(true);
        let (input, output): (Box<dyn AsyncWrite + Send + Unpin>, Box<dyn AsyncRead + Send + Unpin>);
        let mut child;
        match handles {
            #[cfg(unix)]
            Handles::SocketPairs => {
                let pair = || {
                    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                    ours.set_nonblocking(true).unwrap();
                    let ours = tokio::net::UnixStream::from_std(ours).unwrap();
                    (ours, Stdio::from(std::os::fd::OwnedFd::from(theirs)))
                };
                let ((ours_in, stdin), (ours_out, stdout)) = (pair(), pair());
                child = command.stdin(stdin).stdout(stdout).spawn().unwrap();
                (input, output) = (Box::new(ours_in), Box::new(ours_out));
            }
            _ => {
                child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                (input, output) = (Box::new(child.stdin.take().unwrap()), Box::new(child.stdout.take().unwrap()));
            }
        }
        drop(command); // and with it our copies of the child's ends
        let (collected, stderr) = watch::channel(String::new());
        let mut pipe = child.stderr.take().unwrap();
        let collecting = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
                collected.send_modify(|text| text.push_str(&String::from_utf8_lossy(&buffer[..length])));
            }
        });
        Self { child, input: Some(input), output: BufReader::new(output), stderr, collecting, home }
    }

    /// Writes a line.
    pub async fn send(&mut self, line: impl AsRef<[u8]>) {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        self.send_raw(&bytes).await;
    }

    /// Writes bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("the input is open");
        soon("the adapter reads", input.write_all(bytes)).await.unwrap();
    }

    /// The next line, without its end; `None` at the end of output.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = soon("a line from the adapter", self.output.read_until(b'\n', &mut line)).await.unwrap();
        if read == 0 {
            return None;
        }
        assert_eq!(line.pop(), Some(b'\n'), "a line without an end: {}", String::from_utf8_lossy(&line));
        Some(String::from_utf8(line).expect("stdout is UTF-8"))
    }

    /// The next line, as JSON.
    pub async fn json(&mut self) -> Value {
        let line = self.line().await.unwrap_or_else(|| panic!("the output has ended; stderr:\n{}", self.stderr()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
    }

    /// Whether nothing comes for this long. Only for what must not happen.
    pub async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.output.fill_buf()).await.is_err()
    }

    /// Sends a request and returns the next line, as JSON.
    pub async fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Value {
        self.send(request(id, method, params)).await;
        self.json().await
    }

    /// The handshake of 2025-11-25, up to `notifications/initialized`; returns the answer.
    pub async fn initialize(&mut self) -> Value {
        self.initialize_in("2025-11-25").await
    }

    /// The same for another revision.
    pub async fn initialize_in(&mut self, revision: &str) -> Value {
        let answer = self.ask(0, "initialize", initialize_params(revision)).await;
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer
    }

    /// Closes the adapter's stdin.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// Everything on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.borrow().clone()
    }

    /// Waits until stderr holds a text.
    pub async fn told(&self, text: &str) {
        let mut stderr = self.stderr.clone();
        let told = soon(&format!("stderr says {text:?}"), stderr.wait_for(|all| all.contains(text))).await;
        assert!(told.is_ok(), "the adapter ended without saying {text:?}");
    }

    /// Waits until stderr holds a whole line with this text, and returns the line.
    pub async fn told_line(&self, text: &str) -> String {
        let find = |all: &str| {
            let whole = &all[..all.rfind('\n')?];
            whole.lines().find(|line| line.contains(text)).map(ToOwned::to_owned)
        };
        let mut stderr = self.stderr.clone();
        let what = format!("stderr has a line with {text:?}");
        let told = soon(&what, stderr.wait_for(|all| find(all).is_some())).await;
        told.ok().and_then(|all| find(&all)).unwrap_or_else(|| panic!("the adapter ended without: {what}"))
    }

    /// Waits for the nth address on stderr (from 1) that begins like this, and returns all of it.
    pub async fn told_address(&self, start: &str, nth: usize) -> String {
        let find = |all: &str| {
            let (at, _) = all.match_indices(start).nth(nth - 1)?;
            // An address that is not followed by anything may be half there.
            let (address, _) = all[at..].split_once(char::is_whitespace)?;
            Some(address.to_owned())
        };
        let mut stderr = self.stderr.clone();
        let what = format!("stderr tells address {nth} at {start}");
        let told = soon(&what, stderr.wait_for(|all| find(all).is_some())).await;
        told.ok().and_then(|all| find(&all)).unwrap_or_else(|| panic!("the adapter ended without: {what}"))
    }

    /// Waits for the exit; all of stderr is there afterwards.
    pub async fn exit(&mut self) -> (ExitStatus, Duration) {
        let since = Instant::now();
        let status = soon("the adapter exits", self.child.wait()).await.unwrap();
        let took = since.elapsed();
        _ = tokio::time::timeout(PATIENCE, &mut self.collecting).await;
        (status, took)
    }

    /// The rest of the output, line by line, until its end.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }

    /// A host around a process that the test has started itself. Its stderr is collected unless the
    /// test has taken it.
    pub fn around(mut child: Child, home: Arc<TempDir>) -> Self {
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (collected, stderr) = watch::channel(String::new());
        let pipe = child.stderr.take();
        let collecting = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = vec![0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
                collected.send_modify(|text| text.push_str(&String::from_utf8_lossy(&buffer[..length])));
            }
        });
        let output = BufReader::new(Box::new(output) as Box<dyn AsyncRead + Send + Unpin>);
        Self { child, input: Some(Box::new(input)), output, stderr, collecting, home }
    }

    /// Closes our end of the adapter's stdout.
    pub fn close_output(&mut self) {
        self.output = BufReader::new(Box::new(tokio::io::empty()));
    }

    /// Writes all lines and reads so many at the same time.
    pub async fn talk(&mut self, lines: &[String], answers: usize) -> Vec<String> {
        let Self { input, output, .. } = self;
        let input = input.as_mut().expect("the input is open");
        let write = async {
            for line in lines {
                input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
        };
        let read = async {
            let mut read = output.lines();
            let mut seen = Vec::new();
            while seen.len() < answers {
                seen.push(read.next_line().await.unwrap().expect("the output has ended"));
            }
            seen
        };
        soon("everything is written and read", async { tokio::join!(write, read).1 }).await
    }

    /// Ends the input and waits for a clean exit.
    pub async fn close(mut self) {
        self.end_input();
        let (status, _) = self.exit().await;
        assert!(status.success(), "{status}; stderr:\n{}", self.stderr());
    }
}

pub fn request(id: impl Into<Value>, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}).to_string()
}

pub fn notification(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

pub fn initialize_params(revision: &str) -> Value {
    json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})
}
