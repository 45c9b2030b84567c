//! Arguments and environment: settings or one line that says what is wrong, without the secret that a variable holds.
//!
//! Flags that name files are left out, so that nothing is read from disk.

#![no_main]

mod shown;

use std::{
    ffi::OsString,
    time::{Duration, Instant, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use mcp_remote::{Program, internals::read_command_line};

/// The value of `${KEY}`.
const SECRET: &str = "hush-4b1d";
const FILES: [&str; 6] =
    ["--header-file", "--ca-cert", "--client-cert", "--client-key", "--assertion-file", "--id-jag-token"];

fuzz_target!(|input: &[u8]| {
    let Some((program, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if text.contains(SECRET) {
        return;
    }
    // Arguments, an empty line, variables.
    let (arguments, variables) = text.split_once("\n\n").unwrap_or((text, ""));
    let arguments: Vec<&str> = arguments.split('\n').collect();
    let names_file = |argument: &&str| {
        FILES.iter().any(|flag| argument.starts_with(flag)) || argument.starts_with('@') || argument.contains("=@")
    };
    if arguments.iter().any(names_file) {
        return;
    }
    let environment = |name: &str| match name {
        "KEY" => Some(SECRET.to_owned()),
        "NODE_EXTRA_CA_CERTS" => None,
        _ => variables.split('\n').find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(ToOwned::to_owned)),
    };
    let read = || {
        let program = if program % 2 == 0 { Program::Adapter } else { Program::Client };
        read_command_line(program, arguments.iter().map(OsString::from).collect(), &environment)
    };
    let first = read();
    assert_eq!(read(), first);
    match first {
        Ok((settings, times)) => {
            assert!(!settings.contains(SECRET), "{settings}");
            for time in times {
                // What is waited for ends at some time.
                let ends = Instant::now().checked_add(time).is_some() && SystemTime::now().checked_add(time).is_some();
                assert!(ends && time.checked_add(Duration::from_secs(3600)).is_some(), "{time:?}");
            }
        }
        Err(told) => {
            assert!(!told.contains(SECRET), "{told}");
            shown::assert_is_line(&told);
        }
    }
});
