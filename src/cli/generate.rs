//! Completion scripts and manual pages, made of the definitions that also parse the arguments.

use clap::Command;
use clap_complete::Shell;

use super::{Program, Verb};

/// The commands that completions and the manual page name.
const SHOWN: [Verb; 12] = [
    Verb::Install,
    Verb::Migrate,
    Verb::Uninstall,
    Verb::Undo,
    Verb::Client,
    Verb::Login,
    Verb::Logout,
    Verb::Status,
    Verb::Finish,
    Verb::Bundle,
    Verb::Help,
    Verb::Explain,
];

/// Returns the completion script of a program.
pub(super) fn completions(program: Program, shell: Shell) -> String {
    let (name, mut command) = match program {
        Program::Adapter => {
            let commands = SHOWN.map(|verb| visible(verb.word(), &verb.command()));
            ("mcp-remote", with_commands(visible("mcp-remote", &Verb::Forward.command()), commands))
        }
        Program::Client => ("mcp-remote-client", visible("mcp-remote-client", &Verb::Client.command())),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // clap_complete takes the hyphens of the program's name for spaces in half of the labels of its bash script.
    String::from_utf8_lossy(&script).replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))
}

/// Returns the manual page of the program, or of one of its commands.
///
/// # Errors
/// Where the page cannot be made.
pub(super) fn man(command: Option<&str>) -> std::io::Result<String> {
    let page = match SHOWN.into_iter().find(|verb| Some(verb.word()) == command) {
        Some(verb) => {
            let mut command = verb.command().bin_name(verb.name());
            let usage = command.render_usage().to_string();
            command.name(verb.page()).override_usage(usage.trim_start_matches("Usage: ").to_owned())
        }
        None => with_commands(Verb::Forward.command(), SHOWN.map(|verb| verb.command().name(verb.word()))),
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn with_commands(program: Command, commands: [Command; SHOWN.len()]) -> Command {
    let program = program.disable_help_subcommand(true).subcommands(commands);
    program.subcommand_negates_reqs(true).args_conflicts_with_subcommands(true)
}

/// Returns a command without its hidden arguments, which the scripts would complete.
fn visible(name: &'static str, command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let visible = Command::new(name).version(env!("CARGO_PKG_VERSION")).args(arguments);
    let visible = visible.subcommands(command.get_subcommands().cloned()).disable_help_subcommand(true);
    match command.get_about() {
        Some(about) => visible.about(about.clone()),
        None => visible,
    }
}
