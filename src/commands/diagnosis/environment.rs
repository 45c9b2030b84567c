//! Checks of this computer: the environment that a host may not pass on, the store, the stored sign-in, the callback port.
//!
//! # Invariants
//!
//! - The value of a variable is not shown.
//! - Stored files do not change.

use std::{fs, io, path::Path, sync::Arc};

use serde::de::IgnoredAny;

use super::printer::{DiagnosisStep, Finding, Outcome, Printer};
use crate::{
    cli::Terminal,
    commands::status,
    config::Config,
    oauth::{
        error::Error,
        person::{
            port_holder,
            redirect::{Listener, Place, sibling},
        },
        stored::tokens::{TokenFile, Tokens},
    },
    report::{Code, Report},
    store::{DISK_PATIENCE, Store, within},
    text,
};

/// Prints all of it. `entry` is what was found of the one entry that matters; without it, all entries are checked.
pub(super) async fn check(
    config: &Config,
    terminal: &Terminal,
    entry: Option<Vec<Finding>>,
    printer: &mut Printer<'_>,
) -> io::Result<()> {
    for remark in &config.remarks {
        printer.print(Finding::new(DiagnosisStep::Arguments, Outcome::Warn, remark))?;
    }
    for borrowed in &terminal.borrowed {
        let text = format!("this connection uses {}, which a host may not pass on", borrowed.name);
        printer.print(Finding::warn(DiagnosisStep::Environment, text, &borrowed.safe))?;
    }
    if terminal.borrowed.is_empty() {
        printer.print(Finding::ok(DiagnosisStep::Environment, "no variable is used that a host may not pass on"))?;
    }
    match entry {
        Some(entry) => entry.into_iter().try_for_each(|finding| printer.print(finding))?,
        None => super::hosts::check(config, terminal, printer)?,
    }
    if config.headers.contains_key(reqwest::header::AUTHORIZATION) {
        return printer
            .print(Finding::skip(DiagnosisStep::StoredSignIn, "not used, because --header sets Authorization"));
    }
    let store = Store::new(config.store.clone(), config.server_hash.clone());
    let (folder, read) = (config.store.clone(), store.clone());
    let Some((finding, sign_ins, unsound)) =
        within(DISK_PATIENCE, move || (self::store(&folder), status::sign_ins(&read), unsound(&read)))
    else {
        let text = format!("the disk with {} does not answer", config.store.display());
        let report = Report::new(Code::StoreUnavailable, text, None);
        return printer.print(Finding::report(DiagnosisStep::Store, Outcome::Warn, report));
    };
    printer.print(finding)?;
    for sign_in in &sign_ins {
        let by = sign_in.issuer.as_ref().map(|issuer| format!(" (issued by {issuer})")).unwrap_or_default();
        let outcome = if sign_in.expired && !sign_in.refreshable { Outcome::Info } else { Outcome::Ok };
        printer.print(Finding::new(DiagnosisStep::StoredSignIn, outcome, format!("{}{by}", sign_in.until())))?;
    }
    for report in unsound {
        printer.print(Finding::report(DiagnosisStep::StoredSignIn, Outcome::Warn, report))?;
    }
    if sign_ins.is_empty() {
        printer.print(Finding::skip(DiagnosisStep::StoredSignIn, "none for this server with these flags"))?;
    }
    if config.authorization.grant.has_redirect() {
        printer.print(callback_port(config, &store).await)?;
    }
    Ok(())
}

/// Reports on the stored files that are damaged, or cannot be read.
fn unsound(store: &Store) -> Vec<Report> {
    let names = store.names("").into_iter().filter(|name| name.ends_with(".json"));
    let report = |name: String| {
        let is_sound = match TokenFile::all().find(|file| file.name() == name) {
            Some(file) => Tokens::load(store, file).is_some(),
            None => store.read(&name).is_none_or(|content| serde_json::from_slice::<IgnoredAny>(&content).is_ok()),
        };
        let unreadable = store.unavailable_file(&name);
        match (unreadable, is_sound) {
            (Some(unavailable), _) => Some(Report::new(Code::StoreUnavailable, unavailable.to_string(), None)),
            (None, true) => None,
            (None, false) => {
                let text = format!("{} is damaged and is ignored", store.path(&name).display());
                Some(Report::new(Code::StoreDamaged, text, None))
            }
        }
    };
    names.filter_map(report).collect()
}

/// Whether the folder of sign-ins can be used, and belongs to its owner only.
fn store(folder: &Path) -> Finding {
    let name = folder.display();
    // A missing folder is created in the nearest one that exists.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    let trial = there.join(format!("{:016x}.tmp", fastrand::u64(..)));
    if let Err(error) = fs::OpenOptions::new().create_new(true).write(true).open(&trial) {
        let report = Report::new(
            Code::StoreNotWritable,
            format!("cannot save sign-ins in {name}: {}", text::chain(&error)),
            None,
        );
        return Finding::report(DiagnosisStep::Store, Outcome::Warn, report);
    }
    _ = fs::remove_file(&trial);
    let Some(metadata) = fs::metadata(folder).ok().filter(|_| there == folder) else {
        return Finding::skip(DiagnosisStep::Store, format!("the first sign-in creates {name}"));
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o077 != 0;
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let readable = files.filter(|file| file.metadata().is_ok_and(|metadata| open(&metadata))).count();
        match (open(&metadata), readable) {
            (true, _) => {
                let action = format!("chmod 700 {name}");
                return Finding::warn(
                    DiagnosisStep::Store,
                    format!("other users of this computer can read {name}"),
                    action,
                );
            }
            // A closed folder protects the files in it.
            (false, 1..) => {
                return Finding::info(
                    DiagnosisStep::Store,
                    format!("only you can open {name}, but {readable} of its files are readable to others"),
                );
            }
            (false, 0) => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        if !crate::store::is_in_profile(folder) {
            return Finding::warn(
                DiagnosisStep::Store,
                format!("{name} is outside your user profile, so other users may be able to read it"),
                format!("icacls \"{name}\" /inheritance:r /grant:r \"%USERNAME%:(OI)(CI)F\""),
            );
        }
    }
    Finding::ok(DiagnosisStep::Store, format!("{name} is writable, by you only"))
}

/// Whether the callback port is free, or, if it is not fixed, one of the next ports.
async fn callback_port(config: &Config, store: &Store) -> Finding {
    let settings = &config.authorization;
    let port = settings.callback_port.unwrap_or_else(|| store.derived_port());
    let place = Place {
        host: settings.callback_host.clone(),
        path: settings.callback_path.clone(),
        server_hash: config.server_hash.clone(),
    };
    match Listener::bind(&place, port) {
        Ok(_) => Finding::ok(DiagnosisStep::CallbackPort, format!("port {port} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && sibling(port, &config.server_hash).await => {
            Finding::info(
                DiagnosisStep::CallbackPort,
                format!("another mcp-remote process is signing in to this server on port {port}"),
            )
        }
        Err(error) => {
            let source = Arc::new(error);
            let holder = port_holder::of(port).map(|holder| holder.to_string());
            let report = Report::of_authorization(&Error::Port { port, source, holder }, config.server.url());
            let fixed = settings.client_info.is_some() || settings.client_metadata_url.is_some();
            if fixed || settings.callback_port.is_some() {
                Finding::report(DiagnosisStep::CallbackPort, Outcome::Warn, report)
            } else {
                Finding::info(
                    DiagnosisStep::CallbackPort,
                    format!("port {port} is in use, so a sign-in uses the next free port"),
                )
            }
        }
    }
}
