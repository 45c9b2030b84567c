//! The help screens: which flags and examples each command shows.
//!
//! # Invariants
//!
//! - `-h` fits on one screen: the flags that most users need, without defaults.
//! - `--help` has every flag that does something in the command. The others are hidden, and accepted all the same,
//!   because users copy the flags of a host's entry.

use clap::{Arg, Command};

use super::{
    Verb,
    bundle::is_carried,
    flags::{TLS, names_sign_in},
};

const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}{all-args}{after-help}";
/// Width of `-h`, so that it fits every terminal.
const NARROW: usize = 80;
/// Width of `--help` in a wide terminal.
const WIDE: usize = 100;

const ADAPTER_USAGE: &str = "\
mcp-remote [OPTIONS] <SERVER-URL> [CALLBACK-PORT]
       mcp-remote <COMMAND> [ARGUMENTS]";
const ADAPTER: &str = "\
Examples:
  mcp-remote https://example.com/mcp         connect the host that starts this
  mcp-remote client https://example.com/mcp  test the connection
  mcp-remote login https://example.com/mcp   sign in before the host starts

Commands:
  install    Add a server to the hosts on this computer
  migrate    Change the entries that start the npm package
  uninstall  Remove entries from the hosts
  undo       Undo the last install, migrate or uninstall
  client     Test a connection step by step, or call a tool
  login      Sign in to a server ahead of time
  logout     Remove a stored sign-in and revoke its tokens
  status     Show the stored sign-ins
  finish     Complete a sign-in from a browser on another computer
  help       Show a topic or the help of a command
  explain    Explain an error code";
const ADAPTER_AFTER: &str = "Type 'mcp-remote --help' for all flags, 'mcp-remote COMMAND --help' for more.";
const ADAPTER_AFTER_LONG: &str = "\
Type 'mcp-remote COMMAND --help' for the flags of a command, and 'mcp-remote help' for the list of topics.
'mcp-remote completions SHELL' prints a completion script, and 'mcp-remote man' the manual page.
'mcp-remote bundle' makes a bundle for the users of your server ('mcp-remote help packages').";

const CLIENT: &str = "\
Examples:
  mcp-remote client                  check every entry of every host
  mcp-remote client --entry example  check one entry
  mcp-remote client https://example.com/mcp
  mcp-remote client https://example.com/mcp call add a=1 b=2
  mcp-remote client https://example.com/mcp read file:///a";
const EXIT_CODES: &str = "\
Exit codes:
  0  Success
  1  Something failed, or the tool reported an error
  2  The arguments cannot be understood
  3  A sign-in is needed, was rejected or is not possible
  4  The network failed: name, connection, TLS, proxy, timeout
  5  The server rejected the request, or is not an MCP server";

const LOGIN: &str = "\
Examples:
  mcp-remote login https://example.com/mcp
  mcp-remote login https://example.com/mcp --device-code";
const LOGOUT: &str = "\
Examples:
  mcp-remote logout https://example.com/mcp
  mcp-remote logout --all";
const STATUS: &str = "\
Examples:
  mcp-remote status
  mcp-remote status https://example.com/mcp
  mcp-remote status --json";
const SAME_FLAGS: &str = "\
Write the server URL and the flags as they are in the host's entry, because they are part of the sign-in's name: \
headers, --resource, --authorize-param, --client-metadata-url and --token-endpoint.";
const FINISH: &str = "\
Example:
  mcp-remote finish";
const INSTALL: &str = "\
Examples:
  mcp-remote install https://example.com/mcp
  mcp-remote install https://example.com/mcp --host cursor,zed --name example
  mcp-remote install https://example.com/mcp --header-file ./key.txt
  mcp-remote install https://example.com/mcp --print";
const INSTALL_AFTER: &str = "\
All other flags are those of the connection, and go into the entry.
Type 'mcp-remote --help' for them.";
const MIGRATE: &str = "\
Examples:
  mcp-remote migrate
  mcp-remote migrate --host claude-desktop --yes";
const UNINSTALL: &str = "\
Examples:
  mcp-remote uninstall example
  mcp-remote uninstall https://example.com/mcp
  mcp-remote uninstall";
const UNDO: &str = "\
Example:
  mcp-remote undo";
const BUNDLE: &str = "\
Examples:
  mcp-remote bundle https://example.com/mcp
  mcp-remote bundle https://example.com/mcp --header 'X-Api-Key:${API_KEY}'
  mcp-remote bundle https://example.com/mcp --binary win32=mcp-remote.exe";
const COMPLETIONS: &str = "\
Examples:
  source <(mcp-remote completions bash)
  mcp-remote completions zsh > ~/.zfunc/_mcp-remote
  mcp-remote completions fish > ~/.config/fish/completions/mcp-remote.fish
  mcp-remote completions powershell >> $PROFILE";
const MAN: &str = "\
Examples:
  mcp-remote man > mcp-remote.1
  mcp-remote man login > mcp-remote-login.1";

/// The flags that `-h` shows, as far as the command has them.
const COMMON: [&str; 15] = [
    "entry",
    "header",
    "allow_http",
    "transport",
    "ca_cert",
    "proxy",
    "no_browser",
    "device_code",
    "debug",
    "json",
    "verbose",
    "all",
    "name",
    "output",
    "binary",
];

/// Flags that do nothing in a command that has no host.
const FOR_HOSTS: [&str; 3] = ["start", "hold", "progress_keepalive"];
/// Flags that do nothing in `login`, which only makes a connection, and waits for the user an hour.
const FOR_SESSIONS: [&str; 5] = ["ignore_tool", "keep_alive", "ping_interval", "max_message_size", "auth_timeout"];
/// Flags of `logout` beside those that name the sign-in and those of the network.
const FOR_REVOCATION: [&str; 9] = [
    "all",
    "connect_timeout",
    "headers_timeout",
    "body_timeout",
    "static_oauth_client_info",
    "client_key_jwt",
    "allow_private_addresses",
    "debug",
    "silent",
];

/// Flags that allow --token-endpoint, which is part of the sign-in's name. `status` does not ask for them.
const FOR_ENDPOINTS: [&str; 2] = ["client_credentials", "authorization_endpoint"];

/// Returns whether an argument does something in this command.
fn has_effect(verb: Verb, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    match verb {
        _ if arg.is_hide_set() => false,
        Verb::Client => !FOR_HOSTS.contains(&id),
        Verb::Login => !FOR_HOSTS.contains(&id) && !FOR_SESSIONS.contains(&id),
        Verb::Logout => arg.get_help_heading() == Some(TLS) || FOR_REVOCATION.contains(&id) || names_sign_in(arg),
        Verb::Bundle => is_carried(id),
        Verb::Status => id == "json" || names_sign_in(arg) && !FOR_ENDPOINTS.contains(&id),
        _ => true,
    }
}

/// Gives a command its help.
pub(super) fn with_help(verb: Verb, command: Command) -> Command {
    let command = command.help_template(TEMPLATE).max_term_width(WIDE).mut_args(|arg| {
        let effect = has_effect(verb, &arg);
        arg.hide(!effect)
    });
    match verb {
        Verb::Forward => command
            .override_usage(ADAPTER_USAGE)
            .before_help(ADAPTER)
            .after_help(ADAPTER_AFTER)
            .after_long_help(ADAPTER_AFTER_LONG),
        Verb::Client => command.before_help(CLIENT).after_long_help(EXIT_CODES),
        Verb::Login => command.before_help(LOGIN).after_help(SAME_FLAGS),
        Verb::Logout => command.before_help(LOGOUT).after_help(SAME_FLAGS),
        Verb::Status => command.before_help(STATUS).after_help(SAME_FLAGS),
        Verb::Finish => command.before_help(FINISH),
        Verb::Install => command
            .override_usage("mcp-remote install [OPTIONS] <SERVER-URL> [FLAGS]...")
            .before_help(INSTALL)
            .after_help(INSTALL_AFTER),
        Verb::Migrate => command.before_help(MIGRATE),
        Verb::Uninstall => command.before_help(UNINSTALL),
        Verb::Undo => command.before_help(UNDO),
        Verb::Bundle => command.before_help(BUNDLE),
        Verb::Help | Verb::Explain => command,
        Verb::Completions => command.before_help(COMPLETIONS),
        Verb::Man => command.before_help(MAN),
        Verb::Version => command,
    }
}

/// Reduces the help to one screen.
pub(super) fn on_one_screen(command: Command) -> Command {
    command.max_term_width(NARROW).mut_args(|arg| {
        if arg.is_positional() {
            return arg;
        }
        let is_common = COMMON.contains(&arg.get_id().as_str());
        let arg = arg.help_heading(None).hide_short_help(!is_common);
        if arg.get_action().takes_values() { arg.hide_default_value(true).hide_possible_values(true) } else { arg }
    })
}

/// Returns a help screen without the blanks that clap writes into the empty lines between paragraphs.
pub(super) fn trimmed(screen: &str) -> String {
    screen.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{super::flags::Args, *};

    #[test]
    fn listed_flags_exist() {
        let command = Args::command();
        let exists = |id: &&str| command.get_arguments().any(|arg| arg.get_id() == id);
        let mut listed = [&COMMON[..], &FOR_HOSTS, &FOR_SESSIONS, &FOR_REVOCATION, &FOR_ENDPOINTS].concat();
        listed.retain(|id| !["all", "binary", "entry", "json", "name", "output", "verbose"].contains(id));
        assert_eq!(listed.iter().find(|id| !exists(id)), None);
    }
}
