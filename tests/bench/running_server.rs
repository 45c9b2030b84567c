//! The measured side's view of a server process: where it is, and what it counted.

use std::path::PathBuf;
use std::process::Stdio;
use std::{env, io};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio_rustls::TlsConnector;

use crate::direct::Connection;
use crate::server::Manner;
use crate::{Outcome, tls};

pub(crate) struct RunningServer {
    pub(crate) endpoint: Endpoint,
    pub(crate) authority_file: Option<PathBuf>,
    control: Endpoint,
    /// The server ends when this does.
    _lifeline: Option<ChildStdin>,
    _process: Child,
}

/// A place to connect to.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    pub(crate) tls: Option<TlsConnector>,
}

/// What a server counted since it was last reset.
#[derive(Clone, Copy)]
pub(crate) struct Stats {
    pub(crate) connections: f64,
    pub(crate) deletes: f64,
    pub(crate) requests_until_initialize: f64,
}

impl RunningServer {
    pub(crate) async fn start(manner: Manner) -> Outcome<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(manner.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut ports = String::new();
        let stdout = process.stdout.take().ok_or("the server has no output")?;
        BufReader::new(stdout).read_line(&mut ports).await?;
        let (port, control) = ports.trim().split_once(' ').ok_or("the server did not start")?;
        let connector = manner.authority_file.as_deref().map(tls::connector).transpose()?;
        Ok(Self {
            endpoint: Endpoint { port: port.parse()?, tls: connector },
            authority_file: manner.authority_file,
            control: Endpoint { port: control.parse()?, tls: None },
            _lifeline: process.stdin.take(),
            _process: process,
        })
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.endpoint.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/mcp", self.endpoint.port)
    }

    pub(crate) async fn reset(&self) -> Outcome<()> {
        self.ask("POST /reset").await.map(drop)
    }

    pub(crate) async fn stats(&self) -> Outcome<Stats> {
        let stats: Value = serde_json::from_slice(&self.ask("GET /stats").await?)?;
        let count =
            |name: &str| stats[name].as_f64().ok_or_else(|| io::Error::other("the server's stats lack a count"));
        Ok(Stats {
            connections: count("connections")?,
            deletes: count("deletes")?,
            requests_until_initialize: count("requests_until_initialize")?,
        })
    }

    async fn ask(&self, request: &str) -> Outcome<Vec<u8>> {
        let mut connection = Connection::open(&self.control).await?;
        let answer = connection.exchange(request, None, b"").await?;
        Ok(answer.body.to_vec())
    }
}
