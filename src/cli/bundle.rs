//! `mcp-remote bundle`: what is written into an MCP bundle, which a vendor gives to its users.
//!
//! # Invariants
//!
//! - The bundle has no secret: a header's value consists of variables, and the host asks the user for them.
//! - The bundle has nothing of this computer: no file name, proxy or certificate.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{ArgMatches, FromArgMatches, Parser, ValueHint, builder::NonEmptyStringValueParser, parser::ValueSource};
use reqwest::Url;
use serde_json::Value;

use super::{
    Verb,
    flags::{Args, OUTPUT},
    headers::{WrittenHeader, headers, variables},
    mistakes::{Mistake, is_name},
    settings::config,
};
use crate::text;

/// The flags of an entry that mean the same on each computer.
const CARRIED: [&str; 34] = [
    "callback_port",
    "header",
    "allow_http",
    "transport",
    "protocol",
    "ignore_tool",
    "disable_cookies",
    "http1",
    "connect_timeout",
    "headers_timeout",
    "body_timeout",
    "auth_timeout",
    "start",
    "hold",
    "initialize_timeout",
    "retry_for",
    "max_message_size",
    "keep_alive",
    "ping_interval",
    "progress_keepalive",
    "device_code",
    "client_credentials",
    "authorization_endpoint",
    "token_endpoint",
    "authorize_param",
    "resource",
    "disable_resource_parameter",
    "use_id_token",
    "issuer",
    "sign_in_host",
    "assume_pkce",
    "static_oauth_client_info",
    "static_oauth_client_metadata",
    "client_metadata_url",
];
/// The flags of the command itself.
const OWN: [&str; 5] = ["name", "bundle_version", "output", "binary", "server_url"];
/// Parts of the names of parameters whose values are secrets.
const SECRET: [&str; 7] = ["auth", "key", "passw", "secret", "sig", "token", "credential"];

/// Returns whether a flag can be part of a bundle.
pub(super) fn is_carried(id: &str) -> bool {
    CARRIED.contains(&id) || OWN.contains(&id)
}

/// What to write.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The server.
    pub server: Url,
    /// The arguments of the program in the bundle.
    pub arguments: Vec<String>,
    /// The variables that the user of the bundle is asked for, and what each is for.
    pub variables: BTreeMap<String, String>,
    /// Name for people; the default is the server's host.
    pub name: Option<String>,
    /// Version of the bundle; the default is this program's.
    pub version: Option<String>,
    /// The file to write; the default is named after the bundle.
    pub output: Option<PathBuf>,
    /// The program for other systems.
    pub binaries: Vec<(BundlePlatform, PathBuf)>,
}

/// A system, as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BundlePlatform {
    /// macOS.
    Darwin,
    /// Linux.
    Linux,
    /// Windows.
    Win32,
}

#[derive(Debug, Parser)]
#[command(
    name = "mcp-remote bundle",
    version,
    about = "Make an MCP bundle (.mcpb) that installs one server with a double click",
    long_about = "Make an MCP bundle (.mcpb) that installs one server with a double click.\n\nA bundle is for the users of \
                  your server. It has this program, the server URL and the flags. The host asks each user for the \
                  variables in headers, such as ${API_KEY}. A bundle has no secrets."
)]
pub(super) struct BundleArgs {
    #[command(flatten)]
    args: Args,

    /// Set the name that users see
    ///
    /// The default is the host name of the server.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = OUTPUT)]
    name: Option<String>,

    /// Set the version of the bundle
    ///
    /// The default is the version of mcp-remote. Hosts replace a bundle by one with a higher version.
    #[arg(long, value_name = "VERSION", value_parser = NonEmptyStringValueParser::new(), help_heading = OUTPUT)]
    bundle_version: Option<String>,

    /// Write the bundle to this file
    ///
    /// The default is NAME.mcpb in the current folder.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    output: Option<PathBuf>,

    /// Add the program for another system
    ///
    /// Repeatable. PLATFORM is darwin, linux or win32. Example: --binary win32=downloads/mcp-remote.exe
    #[arg(long, value_name = "PLATFORM=FILE", value_parser = binary, help_heading = OUTPUT)]
    binary: Vec<(BundlePlatform, PathBuf)>,
}

fn binary(text: &str) -> Result<(BundlePlatform, PathBuf), String> {
    let (platform, file) = text.split_once('=').ok_or("must be PLATFORM=FILE")?;
    let platform = match platform {
        "darwin" | "macos" => BundlePlatform::Darwin,
        "linux" => BundlePlatform::Linux,
        "win32" | "windows" => BundlePlatform::Win32,
        _ => return Err("the platform must be darwin, linux or win32".to_owned()),
    };
    if file.is_empty() { Err("the file is missing".to_owned()) } else { Ok((platform, file.into())) }
}

/// Returns what to write, if all of it can be given to others.
pub(super) fn bundle(matches: &ArgMatches) -> Result<Bundle, Mistake> {
    let BundleArgs { args, name, bundle_version, output, binary } =
        BundleArgs::from_arg_matches(matches).map_err(|error| error.to_string())?;
    let command = Verb::Bundle.command();
    let given: Vec<_> = command
        .get_arguments()
        .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
        .collect();
    if let Some(foreign) = given.iter().find(|arg| !is_carried(arg.get_id().as_str())) {
        let sentence = format!("--{} cannot be part of a bundle", foreign.get_long().unwrap_or_default());
        return Err(Mistake::new(sentence, "leave it out: it is about this computer only, or it has a secret"));
    }
    let written = headers(&args)?;
    let mut variables = asked_for(&written)?;
    for (flag, text) in [
        ("--static-oauth-client-info", &args.static_oauth_client_info),
        ("--static-oauth-client-metadata", &args.static_oauth_client_metadata),
    ] {
        variables.extend(client_variables(flag, text.as_deref().unwrap_or_default())?);
    }
    let config = config(&args, &|name| variables.contains_key(name).then(|| "value".to_owned()))?;
    let server = config.server.url().clone();
    let written_url = args.server_url.as_deref().and_then(|url| Url::parse(url).ok());
    if written_url.is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        let tip = "write --header 'Authorization:Basic ${CREDENTIALS}' instead";
        return Err(Mistake::new("a bundle cannot have a user or a password in the server URL", tip));
    }
    if server.path_segments().is_some_and(|mut parts| parts.any(text::is_key)) {
        let tip = "give each user the URL of their own: mcp-remote help hosts";
        return Err(Mistake::new("the path of the server URL has a secret, which a bundle cannot have", tip));
    }
    let in_query = server.query_pairs().map(|(name, _)| name.into_owned());
    let in_request = args.authorize_param.iter().filter_map(|param| Some(param.split_once('=')?.0.to_owned()));
    for (place, name) in
        in_query.map(|name| ("the server URL", name)).chain(in_request.map(|name| ("--authorize-param", name)))
    {
        if SECRET.iter().any(|part| name.to_ascii_lowercase().contains(part)) {
            let tip = "if the server takes it in a header, write --header 'NAME:${VARIABLE}' instead";
            return Err(Mistake::new(format!("{place} has a secret ({name}), which a bundle cannot have"), tip));
        }
    }
    let mut arguments = vec![args.server_url.unwrap_or_default()];
    for arg in given.iter().filter(|arg| CARRIED.contains(&arg.get_id().as_str())) {
        let values = matches.get_raw(arg.get_id().as_str()).unwrap_or_default();
        let values = values.map(|value| value.to_string_lossy().into_owned());
        match arg.get_long() {
            None => arguments.extend(values),
            Some(long) if !arg.get_action().takes_values() => arguments.push(format!("--{long}")),
            Some(long) => arguments.extend(values.flat_map(|value| [format!("--{long}"), value])),
        }
    }
    Ok(Bundle { server, arguments, variables, name, version: bundle_version, output, binaries: binary })
}

/// Returns the variables in headers, and what each is for.
fn asked_for(written: &[WrittenHeader]) -> Result<BTreeMap<String, String>, Mistake> {
    /// Words before a secret, which are none.
    const SCHEMES: [&str; 4] = ["", "Basic", "Bearer", "Token"];
    let mut found = BTreeMap::new();
    for WrittenHeader { name, value, .. } in written {
        let (before, after) = value.split_once("${").unwrap_or((value, ""));
        let is_only_variables = after.split_once('}').is_some_and(|(_, rest)| rest.trim().is_empty());
        if !is_only_variables || !SCHEMES.contains(&before.trim()) {
            let tip = format!(
                "write a variable instead, for which the host asks each user: --header '{name}:${{{}}}'",
                variable_of(name)
            );
            return Err(Mistake::new(format!("a bundle cannot have the value of the header {name}"), tip));
        }
        found.extend(variables(value).map(|variable| (variable.to_owned(), format!("the header {name}"))));
    }
    check_names(found)
}

/// Returns the variables in the JSON of an OAuth client.
fn client_variables(flag: &str, text: &str) -> Result<BTreeMap<String, String>, Mistake> {
    if text.starts_with('@') {
        let tip = "write the JSON instead of the name of a file of this computer";
        return Err(Mistake::new(format!("{flag} cannot name a file in a bundle"), tip));
    }
    let members: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
    for (name, value) in &members {
        let is_variable = value.as_str().is_some_and(|value| value.starts_with("${") && value.ends_with('}'));
        if SECRET.iter().any(|part| name.contains(part)) && value.is_string() && !is_variable && !is_public(name) {
            let tip = format!("write a variable instead, for which the host asks each user: \"{name}\":\"${{NAME}}\"");
            return Err(Mistake::new(format!("a bundle cannot have the {name} of {flag}"), tip));
        }
    }
    check_names(variables(text).map(|name| (name.to_owned(), "the OAuth client".to_owned())).collect())
}

/// Whether a member of a client's metadata is no secret, whatever its name suggests (RFC 7591 §2).
fn is_public(member: &str) -> bool {
    member.starts_with("token_endpoint_auth_") || member.ends_with("_alg")
}

fn check_names(found: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Mistake> {
    match found.keys().find(|name| !is_name(name)) {
        Some(name) => Err(Mistake::not_set("the bundle", name)),
        None => Ok(found),
    }
}

/// Returns a variable's name that tells what is asked for.
fn variable_of(header: &str) -> String {
    match header.to_ascii_lowercase().as_str() {
        "authorization" => "AUTHORIZATION".to_owned(),
        _ => header.to_ascii_uppercase().replace(|one: char| !one.is_ascii_alphanumeric(), "_"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{
        super::{Command, Program, parse},
        *,
    };

    const URL: &str = "https://example.com/mcp";

    fn read(arguments: &[&str]) -> Result<Bundle, String> {
        let arguments = [&["bundle"], arguments].concat().into_iter().map(OsString::from).collect();
        match parse(Program::Adapter, arguments, &|_| None) {
            Ok(Command::Bundle(bundle)) => Ok(*bundle),
            Ok(other) => panic!("{other:?}"),
            Err(usage) => Err(usage.text),
        }
    }

    #[test]
    fn arguments_of_entry_are_carried() {
        let bundle = read(&[
            URL,
            "3334",
            "--transport=sse-only",
            "--header",
            "Authorization: Bearer ${API_KEY}",
            "--header",
            "X-Team:${TEAM}",
            "--ignore-tool=delete_*",
            "--http1",
            "--static-oauth-client-info",
            r#"{"client_id":"a","client_secret":"${SECRET}"}"#,
            "--name=An Example",
            "--output=there.mcpb",
            "--binary=win32=a.exe",
            "--binary",
            "macos=/opt/a=b",
        ])
        .unwrap();
        let expected = [
            URL,
            "3334",
            "--header",
            "Authorization: Bearer ${API_KEY}",
            "--header",
            "X-Team:${TEAM}",
            "--transport",
            "sse-only",
            "--ignore-tool",
            "delete_*",
            "--http1",
            "--static-oauth-client-info",
            r#"{"client_id":"a","client_secret":"${SECRET}"}"#,
        ];
        assert_eq!(bundle.arguments, expected);
        assert_eq!(bundle.variables.keys().collect::<Vec<_>>(), ["API_KEY", "SECRET", "TEAM"]);
        assert_eq!(bundle.binaries[0], (BundlePlatform::Win32, "a.exe".into()));
        assert_eq!(bundle.binaries[1], (BundlePlatform::Darwin, "/opt/a=b".into()));
        assert_eq!((bundle.name.as_deref(), bundle.output), (Some("An Example"), Some("there.mcpb".into())));
    }

    #[test]
    fn secret_is_refused_and_not_shown() {
        for (arguments, expected) in [
            (&["--header", "Authorization:Bearer hush"][..], "the value of the header Authorization"),
            (&["--header", "X-Api-Key:hush"], "--header 'X-Api-Key:${X_API_KEY}'"),
            (&["--header", "X-Api-Key:hush${KEY}"], "the value of the header X-Api-Key"),
            (&["--header", "X-Api-Key:${KEY}hush"], "the value of the header X-Api-Key"),
            (&["--header", "Authorization:Bearer ${A:-hush}"], "${NAME:-DEFAULT}"),
            (&["--header-file", "hush"], "--header-file cannot be part of a bundle"),
            (&["--proxy", "http://u:hush@p.example"], "--proxy cannot be part of a bundle"),
            (&["--client-key", "hush", "--client-cert", "hush"], "cannot be part of a bundle"),
            (&["--config-dir", "hush"], "--config-dir cannot be part of a bundle"),
            (&["--static-oauth-client-info", "@hush.json"], "cannot name a file in a bundle"),
            (
                &["--static-oauth-client-info", r#"{"client_id":"a","client_secret":"hush"}"#],
                "the client_secret of --static-oauth-client-info",
            ),
            (&["--authorize-param", "api_token=hush"], "--authorize-param has a secret (api_token)"),
        ] {
            let refused = read(&[&[URL], arguments].concat()).unwrap_err();
            assert!(refused.contains(expected), "{arguments:?}: {refused}");
            assert!(!refused.contains("hush"), "{refused}");
        }
        for (url, expected) in [
            ("https://user:hush@example.com/mcp", "a user or a password in the server URL"),
            (
                "https://example.com/s/NjE2ZjU4hush4ZDk5YmE3ZDU2YzQ1ZTgyMzQ5/mcp",
                "the path of the server URL has a secret",
            ),
            ("https://example.com/mcp?apiKey=hush", "the server URL has a secret (apiKey)"),
        ] {
            let refused = read(&[url]).unwrap_err();
            assert!(refused.contains(expected) && !refused.contains("hush"), "{refused}");
        }
    }

    #[test]
    fn carried_flags_exist() {
        let command = Verb::Bundle.command();
        let exists = |id: &&&str| command.get_arguments().any(|arg| arg.get_id() == **id);
        assert_eq!(CARRIED.iter().chain(&OWN).find(|id| !exists(id)), None);
    }
}
