//! The arguments of most entries of hosts, read without clap. Building clap's definition of 80 flags and their help takes as
//! long as everything else that the program does before it connects.
//!
//! # Invariants
//!
//! - What this module reads, it reads as clap does: a test compares them. It leaves everything else to clap, mistakes too.

use std::{ffi::OsString, time::Duration};

use clap::ValueEnum as _;

use super::flags::{Args, port};
use crate::config::{Dpop, Limits, Protocol, Start, TransportStrategy};

/// Returns what the arguments of the adapter mean, if they are a server URL, perhaps a port, and flags that many entries
/// have, each written in its usual form.
pub(super) fn args(arguments: &[OsString]) -> Option<Args> {
    let mut args = unset();
    let mut has_transport = false;
    let mut words = arguments.iter().map(|word| word.to_str());
    while let Some(word) = words.next() {
        let mut value = || words.next().flatten().filter(|value| !value.is_empty() && !value.starts_with('-'));
        match word? {
            "--header" => args.header.push(value()?.to_owned()),
            "--transport" if !has_transport => {
                args.transport = TransportStrategy::from_str(value()?, false).ok()?;
                has_transport = true;
            }
            "--allow-http" if !args.allow_http => args.allow_http = true,
            "--debug" if !args.debug => args.debug = true,
            "--silent" if !args.silent => args.silent = true,
            "" => return None,
            word if word.starts_with('-') => return None,
            word if args.server_url.is_none() => args.server_url = Some(word.to_owned()),
            word if args.callback_port.is_none() => args.callback_port = Some(port(word).ok()?),
            _ => return None,
        }
    }
    args.server_url.is_some().then_some(args)
}

/// The values of all flags where none is given.
fn unset() -> Args {
    Args {
        server_url: None,
        callback_port: None,
        header: Vec::new(),
        header_file: Vec::new(),
        allow_http: false,
        transport: TransportStrategy::default(),
        protocol: Protocol::default(),
        ignore_tool: Vec::new(),
        disable_cookies: false,
        ca_cert: Vec::new(),
        client_cert: None,
        client_key: None,
        proxy: None,
        enable_proxy: false,
        ipv4: false,
        http1: false,
        connect_timeout: Duration::from_secs(10),
        headers_timeout: Duration::from_secs(300),
        body_timeout: Duration::ZERO,
        auth_timeout: Duration::from_secs(300),
        limits: Limits {
            start: Start::default(),
            hold: None,
            initialize_timeout: Duration::from_secs(45),
            retry_for: Duration::from_secs(15),
            max_message_size: 64 << 20,
            keep_alive: false,
            ping_interval: None,
            progress_keepalive: false,
        },
        no_browser: false,
        device_code: false,
        client_credentials: false,
        assertion_file: None,
        assertion_command: None,
        id_jag_token: None,
        id_jag_token_endpoint: None,
        id_jag_client_id: None,
        authorization_endpoint: None,
        token_endpoint: None,
        authorize_param: Vec::new(),
        resource: None,
        disable_resource_parameter: false,
        use_id_token: false,
        dpop: Dpop::default(),
        issuer: None,
        sign_in_host: Vec::new(),
        allow_private_addresses: false,
        assume_pkce: false,
        auth_success_url: None,
        config_dir: None,
        static_oauth_client_info: None,
        static_oauth_client_metadata: None,
        client_metadata_url: None,
        client_key_jwt: None,
        host: if cfg!(windows) { "127.0.0.1" } else { "localhost" }.to_owned(),
        callback_path: "/oauth/callback".to_owned(),
        debug: false,
        silent: false,
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::cli::Verb;

    #[test]
    fn plain_arguments_mean_what_clap_reads() {
        let words = [
            "https://a.example/mcp",
            "3334",
            "0",
            "",
            "word",
            "--header",
            "A: b",
            "--allow-http",
            "--debug",
            "--silent",
            "--transport",
            "sse-only",
            "--",
            "-h",
            "--ipv4",
            "--header=A:b",
        ];
        let command = Verb::Forward.command();
        let mut read = 0;
        let mut lines: Vec<Vec<&str>> = vec![vec![]];
        for _ in 0..3 {
            lines = lines.iter().flat_map(|line| words.map(|word| [&line[..], &[word]].concat())).collect();
            for line in &lines {
                let line: Vec<OsString> = line.iter().map(OsString::from).collect();
                let Some(args) = args(&line) else { continue };
                read += 1;
                let name = OsString::from("mcp-remote");
                let matches = command.clone().try_get_matches_from(std::iter::once(&name).chain(&line));
                let expected = Args::from_arg_matches(&matches.expect("clap reads it too")).unwrap();
                assert_eq!(format!("{args:?}"), format!("{expected:?}"), "{line:?}");
            }
        }
        assert!(read > 100, "{read}");
    }

    #[test]
    fn usual_entries_are_read_without_clap() {
        for line in [
            &["https://a.example/mcp"][..],
            &["https://a.example/mcp", "3334", "--header", "Authorization:${AUTH}", "--header", "B: c", "--debug"],
            &["--transport", "http-only", "http://a.example/mcp", "--allow-http"],
        ] {
            assert!(args(&line.iter().map(OsString::from).collect::<Vec<_>>()).is_some(), "{line:?}");
        }
    }
}
