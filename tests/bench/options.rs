//! The command line of the bench.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::host::{Adapter, Handles};
use crate::rows::Row;
use crate::session::Way;

pub(crate) const HELP: &str = "\
Measures an adapter between a host and an MCP server, beside the direct way and beside its peers.

    cargo bench --bench forwarding -- [options]

  --adapter COMMAND    measure this command instead of the binary of this package
  --stdio KIND         what the adapter gets as stdin and stdout: socket, fifo or both (default)
  --peer NAME=COMMAND  measure this too; {url} stands for the server, otherwise `URL --allow-http` is appended
  --npm DIR            measure npm's mcp-remote too, installed in DIR/node_modules
  --peers DIR          install the peers that tests/bench/peers.txt lists into DIR, and measure them too
  --no-minimal         leave out the minimal forwarder
  --passes N           repeat everything N times, in rotating order (default 3)
  --quick              one short pass
  --long               also the rows with 1,000,000 calls
  --only TEXT          only the rows whose title contains TEXT; may be repeated
  --limit SECONDS      give up a row of a program after this long (default 30)
  --stderr             show what the adapters print on stderr
  --list               print the titles of the rows
";

pub(crate) struct Options {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) passes: usize,
    pub(crate) effort: Effort,
    pub(crate) only: Vec<String>,
    pub(crate) long: bool,
}

/// A column of the report.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) way: Way,
    pub(crate) role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The aims are for this one.
    Subject,
    Direct,
    /// What an adapter reaches that does nothing but forward ([`crate::minimal`]).
    Minimal,
    Peer,
}

/// How much is done in one pass.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) starts: u32,
    pub(crate) ends: u32,
    pub(crate) calls: u32,
    pub(crate) far_calls: u32,
    pub(crate) limit: Duration,
}

pub(crate) enum Wish {
    Measure(Options),
    Help,
    List,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Wish> {
        let mut adapter = option_env!("CARGO_BIN_EXE_mcp-remote").map(str::to_owned);
        let mut peers: Vec<(String, String)> = Vec::new();
        let mut handles = vec![Handles::SocketPairs, Handles::Fifos];
        let mut effort =
            Effort { starts: 20, ends: 5, calls: 20_000, far_calls: 2_560, limit: Duration::from_secs(30) };
        let mut passes = 3;
        let mut only = Vec::new();
        let mut long = false;
        let mut with_minimal = true;
        let mut stderr_shown = false;

        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} lacks its value"));
            match name.as_str() {
                // What cargo itself adds.
                "--bench" => {}
                "--help" | "-h" => return Ok(Wish::Help),
                "--list" => return Ok(Wish::List),
                "--adapter" => adapter = Some(value()?),
                "--stdio" => {
                    handles = match value()?.as_str() {
                        "socket" => vec![Handles::SocketPairs],
                        "fifo" => vec![Handles::Fifos],
                        "both" => vec![Handles::SocketPairs, Handles::Fifos],
                        other => {
                            return Err(format!("--stdio knows socket, fifo and both, not {other}").into());
                        }
                    }
                }
                "--peer" => {
                    let peer = value()?;
                    let (name, command) = peer.split_once('=').ok_or("--peer wants NAME=COMMAND")?;
                    peers.push((name.to_owned(), command.to_owned()));
                }
                "--npm" => {
                    let script = Path::new(&value()?).join("node_modules/mcp-remote/dist/proxy.js");
                    let script = std::path::absolute(script)?;
                    if !script.is_file() {
                        return Err(format!("there is no {}", script.display()).into());
                    }
                    peers.push(("npm mcp-remote".to_owned(), format!("node {}", script.display())));
                }
                "--peers" => peers.extend(install_peers(Path::new(&value()?))?),
                "--no-minimal" => with_minimal = false,
                "--passes" => passes = value()?.parse()?,
                "--quick" => {
                    passes = 1;
                    effort = Effort { starts: 5, ends: 2, calls: 5_000, far_calls: 1_280, ..effort };
                }
                "--long" => long = true,
                "--only" => only.push(value()?),
                "--limit" => effort.limit = Duration::from_secs(value()?.parse()?),
                "--stderr" => stderr_shown = true,
                other => return Err(format!("unknown option {other}\n\n{HELP}").into()),
            }
        }

        let launch = |command: &str, handles, takes_authority| {
            let command = command.split_whitespace().map(str::to_owned).collect();
            Way::Through(Adapter { command, handles, takes_authority, stderr_shown })
        };
        let mut contenders = Vec::new();
        if let Some(adapter) = &adapter {
            for handles in &handles {
                let name = match handles {
                    Handles::SocketPairs => "mcp-remote (socket pair)",
                    Handles::Fifos => "mcp-remote (FIFO)",
                };
                let way = launch(adapter, *handles, true);
                contenders.push(Contender { name: name.to_owned(), way, role: Role::Subject });
            }
        }
        contenders.push(Contender { name: "direct".to_owned(), way: Way::Direct, role: Role::Direct });
        if with_minimal {
            let program = env::current_exe()?.display().to_string();
            let command = vec![program, "forward".to_owned(), "{url}".to_owned()];
            let adapter = Adapter { command, handles: handles[0], takes_authority: false, stderr_shown };
            let way = Way::Through(adapter);
            contenders.push(Contender { name: "minimal on hyper".to_owned(), way, role: Role::Minimal });
        }
        for (name, command) in peers {
            contenders.push(Contender { name, way: launch(&command, handles[0], false), role: Role::Peer });
        }
        Ok(Wish::Measure(Self { contenders, passes, effort, only, long }))
    }

    pub(crate) fn wants(&self, row: &Row) -> bool {
        (self.long || !row.is_long)
            && (self.only.is_empty() || self.only.iter().any(|text| row.title.contains(text.as_str())))
    }
}

/// Installs the peers into `folder` where they are missing; returns their names and commands.
fn install_peers(folder: &Path) -> Outcome<Vec<(String, String)>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/peers.sh");
    let output = Command::new(script).arg(folder).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the peers could not be installed".into());
    }
    let list = String::from_utf8(output.stdout)?;
    let peers = list.lines().filter_map(|line| line.split_once('='));
    Ok(peers.map(|(name, command)| (name.to_owned(), command.to_owned())).collect())
}
