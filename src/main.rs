//! `mcp-remote`: the adapter a host starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_remote::main(mcp_remote::Program::Adapter)
}
