//! How a command starts mcp-remote: as this program, or as the npm package through npx and its relatives.
//!
//! The words are those of npm 11 (`npx`, `npm exec`), pnpm, yarn, bun, deno, node, and of what stands before them: `cmd`,
//! version managers, shells.
//!
//! # Invariants
//!
//! - Words after the package are not judged. They are the arguments of mcp-remote.

use std::{fs::File, io::Read as _, path::Path};

/// The name of this program, and of the npm package.
pub(crate) const NAME: &str = "mcp-remote";
/// The name of the program for testing.
pub(crate) const CLIENT: &str = "mcp-remote-client";

/// What a command line starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    /// This program, or another one of its name.
    Program,
    /// The program for testing, which no host can use.
    Client,
    /// The npm package. The arguments of mcp-remote begin at this index.
    Package(usize),
    /// The npm package, in a way that cannot be written as a command and its arguments.
    Unclear(Obstacle),
    /// Another program.
    Other,
}

/// Why a command line cannot be written in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// A shell reads the line.
    Shell,
    /// The program runs in another system: WSL, a container, another computer.
    System,
    /// `env` sets variables.
    Variables,
}

impl Obstacle {
    /// Returns the reason, as the rest of a sentence.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Shell => "a shell reads its arguments",
            Self::System => "it runs in another system",
            Self::Variables => "env sets variables in its arguments",
        }
    }
}

/// Programs that start the npm package, and programs that start those.
pub(crate) const LAUNCHERS: [&str; 27] = [
    "npx",
    "npm",
    "pnpm",
    "pnpx",
    "yarn",
    "yarnpkg",
    "bun",
    "bunx",
    "deno",
    "node",
    "nodejs",
    "cmd",
    "powershell",
    "pwsh",
    "sh",
    "bash",
    "zsh",
    "fish",
    "env",
    "wsl",
    "docker",
    "ssh",
    "volta",
    "mise",
    "fnm",
    "asdf",
    "nvm",
];

/// Flags of npx, npm and the others whose value is the next word.
const WITH_VALUE: [&str; 11] = [
    "--cache",
    "--cwd",
    "--dir",
    "--loglevel",
    "--node-options",
    "--prefix",
    "--registry",
    "--userconfig",
    "--workspace",
    "-C",
    "-w",
];
/// Flags of node whose value is the next word.
const NODE_WITH_VALUE: [&str; 5] = ["-r", "--require", "--import", "--loader", "--env-file"];

/// Returns what a command line starts.
pub(crate) fn launch(command: &str, arguments: &[String]) -> Launch {
    match stem(command) {
        name if name.eq_ignore_ascii_case(NAME) => return Launch::Program,
        name if name.eq_ignore_ascii_case(CLIENT) => return Launch::Client,
        _ => {}
    }
    let words: Vec<&str> = std::iter::once(command).chain(arguments.iter().map(String::as_str)).collect();
    match package(&words, 0) {
        // `command` is no argument.
        Some(Ok(at)) => Launch::Package(at - 1),
        Some(Err(obstacle)) => Launch::Unclear(obstacle),
        None => Launch::Other,
    }
}

/// Returns the index after the package, if the word at `at` starts a launcher that starts the package.
fn package(words: &[&str], at: usize) -> Option<Result<usize, Obstacle>> {
    let launcher = stem(words.get(at)?).to_ascii_lowercase();
    let rest = at + 1;
    let mentions = || words[rest..].iter().any(|word| mentions(word));
    match &*launcher {
        "npx" | "pnpx" | "bunx" => of_npx(words, rest),
        "npm" => match *words.get(rest)? {
            "exec" | "x" => of_npx(words, rest + 1),
            _ => None,
        },
        "pnpm" | "yarn" | "yarnpkg" => {
            let verb = skip_flags(words, rest);
            matches!(*words.get(verb)?, "dlx" | "exec").then(|| of_npx(words, verb + 1))?
        }
        "bun" => (*words.get(rest)? == "x").then(|| of_npx(words, rest + 1))?,
        "deno" => (*words.get(rest)? == "run").then(|| of_npx(words, rest + 1))?,
        "node" | "nodejs" => {
            let mut at = rest;
            while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
                at += if NODE_WITH_VALUE.contains(word) { 2 } else { 1 };
            }
            is_npm_file(words.get(at)?).then_some(Ok(at + 1))
        }
        // cmd /d /s /c npx …
        "cmd" => {
            let switches = words[rest..].iter().take_while(|word| word.len() == 2 && word.starts_with('/')).count();
            let first = words.get(rest + switches)?;
            match first.contains(' ') {
                true => mentions().then_some(Err(Obstacle::Shell)),
                false => package(words, rest + switches),
            }
        }
        // volta run npx …, mise exec node@22 -- npx …
        "volta" | "mise" | "fnm" | "asdf" | "nvm" => {
            (rest..words.len()).find_map(|at| package(words, at).filter(|_| !words[at].starts_with('-')))
        }
        "sh" | "bash" | "zsh" | "fish" | "powershell" | "pwsh" => mentions().then_some(Err(Obstacle::Shell)),
        "wsl" | "docker" | "ssh" => mentions().then_some(Err(Obstacle::System)),
        "env" => match words.get(rest)?.contains(['=', '-']) {
            true => mentions().then_some(Err(Obstacle::Variables)),
            false => package(words, rest),
        },
        _ => None,
    }
}

/// Returns the index after the flags.
fn skip_flags(words: &[&str], mut at: usize) -> usize {
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += if WITH_VALUE.contains(word) { 2 } else { 1 };
    }
    at
}

/// Reads `[flags] PACKAGE …` and `-p PACKAGE PROGRAM …`.
fn of_npx(words: &[&str], mut at: usize) -> Option<Result<usize, Obstacle>> {
    let mut is_named = false;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        let (flag, value) = word.split_once('=').map_or((*word, None), |(flag, value)| (flag, Some(value)));
        match flag {
            flag if flag == "--package" || is_short(flag) && flag.ends_with('p') => {
                let package = value.or_else(|| words.get(at + 1).copied())?;
                is_named |= is_package(package);
                at += usize::from(value.is_none());
            }
            // The value is a line for a shell.
            "-c" | "--call" => {
                let is_meant = words[at..].iter().any(|word| mentions(word));
                return is_meant.then_some(Err(Obstacle::Shell));
            }
            _ => at += usize::from(value.is_none() && WITH_VALUE.contains(&flag)),
        }
        at += 1;
    }
    let program = words.get(at)?;
    let is_program = is_package(program) || is_named && stem(program) == CLIENT;
    if !is_program {
        return None;
    }
    at += 1;
    // npx mcp-remote mcp-remote-client URL
    at += usize::from(words.get(at).is_some_and(|word| *word == CLIENT));
    // npm exec mcp-remote -- URL
    at += usize::from(words.get(at).is_some_and(|word| *word == "--"));
    Some(Ok(at))
}

/// Returns whether this is one dash with letters, such as `-y` and `-yp`.
fn is_short(flag: &str) -> bool {
    flag.strip_prefix('-')
        .is_some_and(|letters| !letters.is_empty() && letters.bytes().all(|one| one.is_ascii_lowercase()))
}

/// Returns whether a line has the name of the package as a word, perhaps with a version, or a file of it.
fn mentions(line: &str) -> bool {
    let words = line.split(|one: char| one.is_whitespace() || ['"', '\'', ';', '&', '|', '(', ')'].contains(&one));
    words.into_iter().any(|word| !word.starts_with('-') && (is_package(word) || word == CLIENT))
}

/// Returns whether a word names the npm package, perhaps with a version.
fn is_package(word: &str) -> bool {
    let name = word.strip_prefix("npm:").unwrap_or(word);
    !name.contains("://") && (stem(name) == NAME && !name.starts_with('@') || is_npm_file(name))
}

/// Returns whether this is a file of the npm package, for node. A package of the same name in a scope is another one.
fn is_npm_file(word: &str) -> bool {
    let path = word.replace('\\', "/");
    let Some((before, _)) = path.split_once("mcp-remote/dist/") else { return false };
    let folder = before.strip_suffix('/').unwrap_or(before).rsplit('/').next().unwrap_or_default();
    (before.is_empty() || before.ends_with('/')) && !folder.starts_with('@')
}

/// Returns whether a program is a script, as those of npm packages are.
pub(crate) fn is_script(path: &Path) -> bool {
    let mut begin = [0; 2];
    let begins = File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == *b"#!";
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    begins || ["cmd", "bat", "ps1", "js", "mjs"].iter().any(|one| ending == **one)
}

/// The name of a program or a package, without folder, version and ending.
pub(crate) fn stem(word: &str) -> &str {
    let name = word.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let ending = name.len().checked_sub(4).filter(|at| name.is_char_boundary(*at)).map(|at| name.split_at(at));
    match ending {
        Some((name, end)) if [".exe", ".cmd", ".bat", ".ps1"].iter().any(|one| end.eq_ignore_ascii_case(one)) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launch_of_each_spelling_is_recognized() {
        use Launch::{Client, Other, Package, Program, Unclear};
        for (line, expected) in [
            ("/opt/mcp-remote https://a/mcp", Program),
            (r"C:\bin\MCP-REMOTE.EXE https://a/mcp", Program),
            ("mcp-remote.cmd https://a/mcp", Program),
            ("/opt/mcp-remote-client https://a/mcp", Client),
            ("npx mcp-remote https://a/mcp", Package(1)),
            ("npx -y mcp-remote@latest https://a/mcp", Package(2)),
            ("npx --yes --registry https://r.example mcp-remote https://a/mcp", Package(4)),
            ("npx -p mcp-remote@0.1.37 mcp-remote-client https://a/mcp", Package(3)),
            ("npx -y --package=mcp-remote@0.1.37 mcp-remote https://a/mcp", Package(3)),
            ("npx -yp mcp-remote mcp-remote https://a/mcp", Package(3)),
            ("npm exec mcp-remote -- https://a/mcp", Package(3)),
            ("npx -y -p mcp-remote -p supergateway supergateway --stdio x", Other),
            ("node /x/node_modules/@acme/mcp-remote/dist/index.js https://a/mcp", Other),
            ("yarn run mcp-remote https://a/mcp", Other),
            ("docker run --rm acme/weather --label not-mcp-remote", Other),
            ("bash -lc ~/mcp-remote-tests/run", Other),
            ("npx -y mcp-remote mcp-remote-client https://a/mcp", Package(3)),
            (r"C:\nodejs\npx.cmd -y mcp-remote https://a/mcp", Package(2)),
            ("cmd /c npx -y mcp-remote https://a/mcp", Package(4)),
            ("cmd.exe /D /S /C npx.cmd mcp-remote https://a/mcp", Package(5)),
            ("bunx mcp-remote https://a/mcp", Package(1)),
            ("bun x mcp-remote https://a/mcp", Package(2)),
            ("pnpm dlx mcp-remote@0.1.38 https://a/mcp", Package(2)),
            ("pnpm --silent dlx mcp-remote https://a/mcp", Package(3)),
            ("pnpx mcp-remote https://a/mcp", Package(1)),
            ("yarn dlx -q mcp-remote https://a/mcp", Package(3)),
            ("npm exec --yes -- mcp-remote https://a/mcp", Package(4)),
            ("npm x mcp-remote https://a/mcp", Package(2)),
            ("deno run -A npm:mcp-remote@0.1.38 https://a/mcp", Package(3)),
            ("node /x/node_modules/mcp-remote/dist/proxy.js https://a/mcp", Package(1)),
            (r"node --no-warnings C:\x\node_modules\mcp-remote\dist\proxy.js https://a/mcp", Package(2)),
            ("node -r ./x.js /x/mcp-remote/dist/proxy.js https://a/mcp", Package(3)),
            ("volta run npx -y mcp-remote https://a/mcp", Package(4)),
            ("mise exec node@22 -- npx -y mcp-remote https://a/mcp", Package(6)),
            ("env npx -y mcp-remote https://a/mcp", Package(3)),
            ("env A=b npx -y mcp-remote https://a/mcp", Unclear(Obstacle::Variables)),
            ("wsl npx -y mcp-remote https://a/mcp", Unclear(Obstacle::System)),
            ("npx -c mcp-remote https://a/mcp", Unclear(Obstacle::Shell)),
            ("bash -lc mcp-remote", Unclear(Obstacle::Shell)),
            ("cat mcp-remote", Other),
            ("npx -y supergateway https://a/mcp-remote", Other),
            ("npx -y @other/mcp-remote https://a/mcp", Other),
            ("npx -y supergateway mcp-remote", Other),
            ("npm run mcp-remote", Other),
            ("npx", Other),
        ] {
            let mut words = line.split(' ').map(str::to_owned);
            let command = words.next().unwrap();
            assert_eq!(launch(&command, &words.collect::<Vec<_>>()), expected, "{line}");
        }
        let shell = |command: &str, line: &str| launch(command, &["/c".to_owned(), line.to_owned()]);
        assert_eq!(shell("cmd", "npx -y mcp-remote https://a/mcp"), Unclear(Obstacle::Shell));
        assert_eq!(shell("cmd", "npx -y other"), Other);
    }
}
