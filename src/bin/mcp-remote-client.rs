//! `mcp-remote-client`: the same connection, shown to a person.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_remote::main(mcp_remote::Program::Client)
}
