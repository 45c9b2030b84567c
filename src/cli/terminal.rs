//! What a person's terminal has and a host may not: hosts start programs with little of the user's
//! environment (the MCP SDKs pass on `HOME`, `PATH` and a few more), so what works here may fail there.
//!
//! # Invariants
//!
//! - The value of a variable is not copied.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{Environment, flags::Args, headers::variables};
use crate::{
    config::{Config, is_loopback},
    hosts::places::{Places, System},
    secret::Secret,
    surroundings::Surroundings,
};

/// This terminal, as far as a host differs.
#[derive(Clone, Debug)]
pub(crate) struct Terminal {
    /// Variables that this connection uses.
    pub borrowed: Vec<Borrowed>,
    /// The flags and addresses as they were written, without the client's own.
    pub arguments: Secret<Vec<String>>,
    /// Where hosts keep their files.
    pub places: Places,
    /// `PATH`.
    pub path: Option<OsString>,
    /// Whether colors are wanted where there is a terminal.
    pub has_colors: bool,
}

/// A variable that is set here and used, and that a host may not pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Borrowed {
    /// Its name.
    pub name: String,
    /// What to write into the host's entry.
    pub safe: String,
}

/// Of hosts that pass on least: what the MCP SDKs' own lists have in common.
const PASSED_ON: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];

impl Terminal {
    pub(super) fn of(args: &Args, config: &Config, arguments: &[OsString], environment: Environment<'_>) -> Self {
        Self { borrowed: borrowed(args, config, environment), ..Self::here(arguments, environment) }
    }

    /// Without what a connection uses.
    pub(super) fn here(arguments: &[OsString], environment: Environment<'_>) -> Self {
        const OWN: [&str; 4] = ["--json", "--verbose", "--debug", "--silent"];
        let written = arguments.iter().filter_map(|word| word.to_str()).map(ToOwned::to_owned);
        Self {
            borrowed: Vec::new(),
            arguments: Secret::new(written.filter(|word| !OWN.contains(&word.as_str())).collect()),
            places: places(environment),
            path: environment("PATH").map(OsString::from),
            has_colors: has_colors(environment),
        }
    }
}

/// Returns the folders below which hosts keep their files.
pub(super) fn places(environment: Environment<'_>) -> Places {
    let folder = |name: &str| environment(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let dirs = directories::BaseDirs::new();
    let home = folder("HOME").or_else(|| dirs.as_ref().map(|dirs| dirs.home_dir().to_owned()));
    let settings = if System::HERE == System::Other {
        folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")))
    } else {
        dirs.as_ref().map(|dirs| dirs.config_dir().to_owned())
    };
    let local = dirs.filter(|_| cfg!(windows)).map(|dirs| dirs.data_local_dir().to_owned());
    let project = std::env::current_dir().ok();
    Places { system: System::HERE, home, settings, local, codex: folder("CODEX_HOME"), project }
}

/// Returns whether a terminal shows colors, and the user wants them (<https://no-color.org>).
pub(crate) fn has_colors(environment: Environment<'_>) -> bool {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    // An old console of Windows would print the codes.
    let shows = !cfg!(windows) || set("WT_SESSION").is_some() || set("TERM").is_some();
    shows && set("NO_COLOR").is_none() && set("TERM").is_none_or(|kind| kind != "dumb")
}

fn borrowed(args: &Args, config: &Config, environment: Environment<'_>) -> Vec<Borrowed> {
    let set = |name: &&&str| environment(name).is_some_and(|value| !value.is_empty());
    let mut borrowed = Vec::new();
    let mut borrow = |name: &str, safe: String| borrowed.push(Borrowed { name: name.to_owned(), safe });
    let in_env = |name: &str| format!("write it into the \"env\" of the host's entry: \"{name}\": \"…\"");
    for name in placeholders(args) {
        borrow(&name, in_env(&name));
    }
    let url = config.server.url();
    if args.proxy.is_none() && !is_loopback(url) {
        let of_scheme: &[&str] = match url.scheme() {
            "http" => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
            _ => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        };
        if let Some(name) = of_scheme.iter().find(set) {
            borrow(name, "write --proxy URL into the \"args\" of the host's entry".to_owned());
            if let Some(name) = ["NO_PROXY", "no_proxy"].iter().find(set) {
                borrow(name, in_env(name));
            }
        }
    }
    if url.scheme() == "https" {
        for name in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"].iter().filter(set) {
            borrow(name, "write --ca-cert FILE into the \"args\" of the host's entry".to_owned());
        }
        for name in ["SSL_CERT_DIR"].iter().filter(set) {
            borrow(name, in_env(name));
        }
    }
    if args.config_dir.is_none() {
        for name in ["MCP_REMOTE_CONFIG_DIR"].iter().filter(set) {
            borrow(name, "write --config-dir FOLDER into the \"args\" of the host's entry".to_owned());
        }
    }
    let asks_a_person = config.authorization.grant.has_redirect() && !args.no_browser;
    if asks_a_person && !config.headers.contains_key(reqwest::header::AUTHORIZATION) {
        for name in ["BROWSER"].iter().filter(set) {
            borrow(name, in_env(name));
        }
        // The program finds the screen by itself where it can; only what it cannot is borrowed.
        let stripped = Surroundings::of(&|name| environment(name).filter(|_| PASSED_ON.contains(&name)));
        if config.authorization.surroundings.may_have_browser()
            && !stripped.may_have_browser()
            && let Some(name) = ["WAYLAND_DISPLAY", "DISPLAY"].iter().find(set)
        {
            borrow(name, in_env(name));
        }
    }
    borrowed
}

/// The names in `${NAME}` of everything in which it is replaced.
fn placeholders(args: &Args) -> BTreeSet<String> {
    // Was read a moment ago; what is in a pipe is gone since, and to open it would wait for more.
    let read = |path: &Path| match path.is_file() {
        true => std::fs::read_to_string(path).unwrap_or_default(),
        false => String::new(),
    };
    let mut texts: Vec<String> = args.header.clone();
    texts.extend(args.header_file.iter().map(|path| read(path)));
    texts.extend(args.static_oauth_client_info.iter().map(|text| match text.strip_prefix('@') {
        Some(path) => read(Path::new(path)),
        None => text.clone(),
    }));
    let mut names = BTreeSet::new();
    for text in texts {
        names.extend(variables(&text).map(ToOwned::to_owned));
    }
    names
}
