//! `mcp-remote-client` without a server URL: the entries of hosts take its place.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgMatches, parser::ValueSource};

use super::{
    ClientAction, ClientArgs, Environment, Output, Terminal, Verb, actions::without_server, mistakes::Mistake,
    settings::store_folder,
};
use crate::logging::LogMode;

/// Arguments that have a meaning for the entries of hosts. The entry has all others.
const OWN: [&str; 5] = ["entry", "json", "verbose", "debug", "silent"];

/// What `mcp-remote-client` does with the entries of hosts.
#[derive(Debug)]
pub(crate) struct EntryOptions {
    /// The entries with this name only.
    pub name: Option<String>,
    /// For whom.
    pub output: Output,
    /// What.
    pub action: ClientAction,
    /// This terminal, which a host is not.
    pub terminal: Terminal,
    /// Nothing on stderr.
    pub silent: bool,
    /// Skipped steps too.
    pub verbose: bool,
    /// How much is logged on stderr.
    pub log: LogMode,
    /// `RUST_LOG`.
    pub log_filters: Option<String>,
    /// The folder of stored sign-ins.
    pub store: PathBuf,
}

/// Returns the options, if the arguments fit the entries of hosts.
pub(super) fn entry_options(
    client: ClientArgs,
    matches: &ArgMatches,
    arguments: &[OsString],
    environment: Environment<'_>,
) -> Result<EntryOptions, Mistake> {
    let ClientArgs { args, entry: name, json, verbose, action } = client;
    if name.is_none() && action.is_some() {
        return Err(without_server(arguments));
    }
    let command = Verb::Client.command();
    let is_given = |arg: &&clap::Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let mut given = command.get_arguments().filter(is_given);
    if let Some(foreign) = given.find(|arg| !OWN.contains(&arg.get_id().as_str())) {
        let flag = format!("--{}", foreign.get_long().unwrap_or_default());
        return Err(match name {
            Some(_) => format!("{flag} cannot be used with --entry, because all flags come from the entry").into(),
            None => {
                let tip = format!("add the server URL: mcp-remote client https://example.com/mcp {flag}");
                Mistake::new(format!("{flag} needs a server URL"), tip)
            }
        });
    }
    Ok(EntryOptions {
        name,
        output: if json { Output::Json } else { Output::Text },
        action: action.unwrap_or(ClientAction::Diagnosis),
        terminal: Terminal::here(arguments, environment),
        silent: args.silent,
        verbose,
        log: if args.debug { LogMode::Debug } else { LogMode::Silent },
        log_filters: environment("RUST_LOG"),
        store: store_folder(None, environment)?,
    })
}
