//! `mcp-remote bundle`: writes an MCP bundle (`.mcpb`) with this program, for the users of one server.
//!
//! # Invariants
//!
//! - The file is complete, or it is not there.

mod zip;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use self::zip::Zip;
use crate::{
    cli::{Bundle, BundlePlatform},
    text,
};

const RUNS: u32 = 0o755;
const READS: u32 = 0o644;

impl BundlePlatform {
    /// The system for which this program was built, if hosts of bundles run on it.
    const HERE: Option<Self> = if cfg!(target_os = "macos") {
        Some(Self::Darwin)
    } else if cfg!(target_os = "linux") {
        Some(Self::Linux)
    } else if cfg!(windows) {
        Some(Self::Win32)
    } else {
        None
    };

    const fn name(self) -> &'static str {
        match self {
            Self::Darwin => "darwin",
            Self::Linux => "linux",
            Self::Win32 => "win32",
        }
    }

    const fn name_for_people(self) -> &'static str {
        match self {
            Self::Darwin => "macOS",
            Self::Linux => "Linux",
            Self::Win32 => "Windows",
        }
    }

    /// Where the program is in the bundle.
    fn file(self) -> String {
        let end = if self == Self::Win32 { ".exe" } else { "" };
        format!("server/{}/mcp-remote{end}", self.name())
    }

    /// Returns whether a file begins as programs for this system do: Mach-O with one or several architectures, ELF, PE.
    fn is_program(self, bytes: &[u8]) -> bool {
        let starts: &[&[u8]] = match self {
            Self::Darwin => &[b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"],
            Self::Linux => &[b"\x7fELF"],
            Self::Win32 => &[b"MZ"],
        };
        starts.iter().any(|start| bytes.starts_with(start))
    }
}

/// Writes the bundle, and says to `out` what is in it.
///
/// # Errors
/// If a program cannot be read, or the bundle not written.
pub(crate) fn run(bundle: &Bundle, out: &mut impl Write) -> anyhow::Result<()> {
    let mut files = BTreeMap::new();
    if let Some(here) = BundlePlatform::HERE {
        files.insert(here, env::current_exe().context("cannot find the file of this program")?);
    }
    files.extend(bundle.binaries.iter().cloned());
    let mut programs = BTreeMap::new();
    for (platform, file) in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if !platform.is_program(&bytes) {
            bail!("{} is no program for {}", file.display(), platform.name_for_people());
        }
        programs.insert(platform, bytes);
    }
    let platforms: Vec<_> = programs.keys().copied().collect();
    let host = text::host(&bundle.server);
    let name = bundle.name.clone().unwrap_or_else(|| host.clone());
    let manifest = manifest(bundle, &name, &host, &platforms)?;

    let mut zip = Zip::default();
    zip.add("manifest.json", READS, serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    for (platform, bytes) in &programs {
        zip.add(&platform.file(), RUNS, bytes)?;
    }
    let bytes = zip.finish()?;
    let file = bundle.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.mcpb", identifier(&name))));
    write(&file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;

    let megabytes = bytes.len() as f64 / 1e6;
    writeln!(out, "Wrote {} ({megabytes:.1} MB).", file.display())?;
    writeln!(out, "It installs {} on {}.", text::url(&bundle.server), list(&platforms))?;
    if !bundle.variables.is_empty() {
        let names: Vec<_> = bundle.variables.keys().map(String::as_str).collect();
        writeln!(out, "The host asks the user for {}.", names.join(", "))?;
    }
    let missing: Vec<_> = [BundlePlatform::Darwin, BundlePlatform::Win32]
        .into_iter()
        .filter(|platform| !platforms.contains(platform))
        .collect();
    if let Some(first) = missing.first() {
        let tip = format!("add their programs, as in --binary {}=FILE", first.name());
        writeln!(out, "It does not run on {}. Tip: {tip}", list(&missing))?;
    }
    Ok(())
}

fn list(platforms: &[BundlePlatform]) -> String {
    platforms.iter().map(|platform| platform.name_for_people()).collect::<Vec<_>>().join(", ")
}

/// Writes a file beside it, and then gives it its name.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = file.with_file_name(name);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        _ = fs::remove_file(&beside);
    }
    written
}

/// The manifest of version 0.3, which all hosts of bundles read.
fn manifest(bundle: &Bundle, name: &str, host: &str, platforms: &[BundlePlatform]) -> anyhow::Result<Value> {
    let Some((first, others)) = platforms.split_first() else {
        bail!("there is no program for the bundle: add one with --binary");
    };
    let command = |platform: &BundlePlatform| format!("${{__dirname}}/{}", platform.file());
    let environment: BTreeMap<_, _> =
        bundle.variables.keys().map(|name| (name, format!("${{user_config.{name}}}"))).collect();
    let asked: BTreeMap<_, _> = bundle
        .variables
        .iter()
        .map(|(name, purpose)| {
            let description = format!("Sent to {host} in {purpose}");
            (
                name,
                json!({ "type": "string", "title": name, "description": description, "sensitive": true, "required": true }),
            )
        })
        .collect();
    let mut config = json!({ "command": command(first), "args": bundle.arguments, "env": environment });
    if !others.is_empty() {
        let overrides: BTreeMap<_, _> =
            others.iter().map(|platform| (platform.name(), json!({ "command": command(platform) }))).collect();
        config["platform_overrides"] = json!(overrides);
    }
    Ok(json!({
        "manifest_version": "0.3",
        "name": identifier(name),
        "display_name": name,
        "version": bundle.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION")),
        "description": format!("Connects to the MCP server at {host}"),
        "author": { "name": host },
        "license": "MIT",
        "server": { "type": "binary", "entry_point": first.file(), "mcp_config": config },
        "tools_generated": true,
        "prompts_generated": true,
        "user_config": asked,
        "compatibility": { "platforms": platforms.iter().map(|platform| platform.name()).collect::<Vec<_>>() },
    }))
}

/// Returns a name without blanks and signs.
fn identifier(name: &str) -> String {
    let words = name.split(|one: char| !one.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let joined = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if joined.is_empty() { "mcp-remote".to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_has_only_letters_digits_and_hyphens() {
        for (name, expected) in
            [("example.com", "example-com"), ("An Example!", "an-example"), ("[::1]", "1"), ("例", "mcp-remote")]
        {
            assert_eq!(identifier(name), expected, "{name}");
        }
    }
}
