//! `mcp-remote`: the adapter a host starts. Under the name `mcp-remote-client`, it is that program.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_remote::main(mcp_remote::Program::started_as(std::env::args_os().next().as_deref()))
}
