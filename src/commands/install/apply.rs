//! Shows what is planned, asks once, and writes.

use std::io::{self, Write};

use anyhow::bail;

use super::{
    World, claude_code, has_own_command, is_only_shown,
    plan::{ADD_VARIABLES, Left, Plan, Planned, with_warnings},
    program::LastingProgram,
    record::{ChangedFile, Record},
    short,
};
use crate::{
    cli::{EntryChange, EntryCommand},
    commands::redactor::Redactor,
    hosts::{Host, file},
    text::{printable, reason},
};

/// Shows all plans, asks, and carries them out.
///
/// # Errors
/// Where something could not be changed, or there is no user to ask.
pub(super) fn all(
    change: &EntryChange,
    world: &mut World<'_>,
    program: &LastingProgram,
    plans: Vec<Plan>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if plans.is_empty() {
        bail!(
            "no host was found on this computer\nTip: name it with --host, or print the entry: \
             mcp-remote install URL --print"
        );
    }
    let plans: Vec<_> = plans.into_iter().map(|plan| with_warnings(plan, world)).collect();
    for (index, plan) in plans.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        show(plan, change, world, out)?;
    }
    let count = plans.iter().filter(|plan| matches!(plan, Plan::Edit(_) | Plan::ClaudeCode(..))).count();
    let mut left: Vec<&str> = plans.iter().filter_map(Plan::left).collect();
    left.dedup();
    if !left.is_empty() {
        writeln!(out, "\nFor you to write, as shown above: {}", left.join(", "))?;
    }
    let mut undone = Undone::of(&plans, change);
    if count == 0 {
        if undone.is_empty() {
            writeln!(out, "\nNothing to change.")?;
        }
        return undone.check();
    }
    let is_new = matches!(change.command, EntryCommand::Install(_) | EntryCommand::Migrate);
    if is_new && let Some(from) = &program.copied_from {
        writeln!(
            out,
            "\n{} is in a cache, which can be emptied. mcp-remote copies itself to {} first.",
            from.display(),
            short(&program.command, change)
        )?;
    }
    writeln!(out)?;
    let places = if count == 1 { "this change".to_owned() } else { format!("these {count} changes") };
    if !change.yes {
        match (world.ask)(&format!("Make {places}? [y/N] "))? {
            Some(true) => {}
            Some(false) => return Ok(writeln!(out, "Nothing was changed.")?),
            None => {
                bail!("nothing was changed, because there is no terminal to ask on\nTip: repeat the command with --yes")
            }
        }
    }
    if is_new {
        program.put().map_err(|error| {
            anyhow::anyhow!("cannot copy mcp-remote to {}: {}", program.command.display(), reason(&error))
        })?;
    }
    carry_out(change, world, plans, &mut undone, out)?;
    undone.check()
}

/// Returns whether entries of this host are left to the user on this computer, whatever is in its file.
fn is_only_by_hand(host: &Host, change: &EntryChange) -> bool {
    is_only_shown(host) || has_own_command(host) && claude_code::command(change).is_none()
}

/// What was asked for and not done.
#[derive(Debug, Default)]
struct Undone {
    files: Vec<String>,
    /// Entries of files that were changed otherwise.
    entries: Vec<String>,
}

impl Undone {
    /// Returns what the plans leave to the user.
    fn of(plans: &[Plan], change: &EntryChange) -> Self {
        let mut undone = Self::default();
        // Who names no host asks for those that can be changed here, if there is one.
        let is_for_any = matches!(change.command, EntryCommand::Install(_))
            && change.hosts.is_empty()
            && plans.iter().any(|plan| matches!(plan, Plan::Edit(_) | Plan::ClaudeCode(..) | Plan::Same(..)));
        for plan in plans {
            match plan {
                Plan::ByHand(file, ..) if is_for_any && is_only_by_hand(&file.host, change) => {}
                Plan::Refused(file, _) | Plan::ByHand(file, ..) => undone.files.push(short(&file.path, change)),
                Plan::Edit(planned) | Plan::Left(planned) => {
                    let path = short(&planned.file.path, change);
                    undone.entries.extend(planned.left.iter().map(|left| format!("{:?} in {path}", left.name)));
                }
                Plan::Same(..) | Plan::ClaudeCode(..) => {}
            }
        }
        undone
    }

    const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.entries.is_empty()
    }

    /// Fails if something was not done.
    fn check(self) -> anyhow::Result<()> {
        let part = |kind: [&str; 2], names: &[String]| match names {
            [] => None,
            [name] => Some(format!("1 {} was not changed: {name}", kind[0])),
            names => Some(format!("{} {} were not changed: {}", names.len(), kind[1], names.join(", "))),
        };
        let parts = [part(["file", "files"], &self.files), part(["entry", "entries"], &self.entries)];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { Ok(()) } else { bail!("{}", parts.join(", and ")) }
    }
}

fn show(plan: &Plan, change: &EntryChange, world: &World<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    match plan {
        Plan::Edit(planned) => {
            let Planned { file, what, content, remarks, .. } = planned;
            let new = if content.bytes.is_none() { " (new file)" } else { "" };
            writeln!(out, "{}, {}{new}: {}", file.host.name, short(&file.path, change), what.join(", "))?;
            let mut redactor = Redactor::of_home(None);
            redactor.learn(planned.secrets.iter().cloned());
            for line in &planned.lines {
                writeln!(out, "{}", line.shown(&|line| redactor.clean(line), world.has_colors))?;
            }
            for remark in remarks {
                writeln!(out, "  {}.", redactor.clean(remark))?;
            }
            for left in &planned.left {
                write!(out, "  {}", shown(left, &redactor))?;
            }
        }
        Plan::Left(planned) => {
            let mut redactor = Redactor::of_home(None);
            redactor.learn(planned.secrets.iter().cloned());
            let mut parts: Vec<_> = planned.left.iter().map(|left| shown(left, &redactor)).collect();
            parts.extend(planned.remarks.iter().map(|remark| format!("{}.\n", redactor.clean(remark))));
            write!(out, "{}, {}: {}", planned.file.host.name, short(&planned.file.path, change), parts.join("  "))?;
        }
        Plan::ClaudeCode(file, step) => {
            writeln!(
                out,
                "{}, {}: add {:?} with its own command",
                file.host.name,
                short(&file.path, change),
                step.name
            )?;
            write!(out, "  $ {}", step.typed())?;
        }
        Plan::Same(file, reason) | Plan::Refused(file, reason) => {
            writeln!(out, "{}, {}: {}", file.host.name, short(&file.path, change), lines(reason))?
        }
        Plan::ByHand(file, reason, text) => {
            let reason = lines(reason);
            writeln!(out, "{}, {}: {reason}. Write this yourself:", file.host.name, short(&file.path, change))?;
            for line in text.lines() {
                writeln!(out, "  {}", printable(line))?;
            }
        }
    }
    Ok(())
}

/// Returns what is said of an entry that stays, and the text to write into it.
fn shown(left: &Left, redactor: &Redactor) -> String {
    let Left { name, reason, text } = left;
    let first = redactor.clean(&format!("{name:?} stays as it is: {reason}"));
    if text.is_empty() {
        return format!("{first}.\n");
    }
    let lines: Vec<_> = text.lines().map(|line| format!("    {}\n", redactor.clean(line))).collect();
    let lines = lines.concat();
    // The redactor's sign, which the text itself does not have.
    let is_struck_out = lines.contains('…') && !text.contains('…');
    let secret = if is_struck_out { " (… is a secret that the entry has already)" } else { "" };
    format!("{first}. Write this into it{secret}:\n{lines}")
}

/// Returns lines without characters that a terminal obeys: they may have words of a file.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn carry_out(
    change: &EntryChange,
    world: &World<'_>,
    plans: Vec<Plan>,
    undone: &mut Undone,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    // The record is this process's until the end, and it can be written before anything else is.
    let mut record = Record::open(&change.store)?;
    record.save().map_err(|error| anyhow::anyhow!("nothing was changed, because undo would not know it: {error:#}"))?;
    record.begin(&world.moment, change.command.name());
    let mut changed: Vec<Host> = Vec::new();
    let mut variables: Vec<String> = Vec::new();
    // A reader that has left does not stop the changes.
    let mut print = |text: String| _ = writeln!(out, "{text}");
    let mut is_interrupted = false;
    for plan in plans {
        let path = match &plan {
            Plan::Same(..) | Plan::Refused(..) | Plan::ByHand(..) | Plan::Left(_) => continue,
            Plan::ClaudeCode(file, _) => short(&file.path, change),
            Plan::Edit(planned) => short(&planned.file.path, change),
        };
        if is_interrupted {
            undone.files.push(path);
            continue;
        }
        let (host, done) = match plan {
            Plan::Same(..) | Plan::Refused(..) | Plan::ByHand(..) | Plan::Left(_) => continue,
            Plan::ClaudeCode(file, step) => {
                let done = step.run(&file.path);
                is_interrupted = done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted);
                // What was done before the signal is recorded, too.
                let done = if is_interrupted && step.is_done(&file.path) { Ok(()) } else { done };
                let done = done.map_err(|error| reason(&error)).map(|()| {
                    record.claude_code(&step);
                    record.add(&file, &step.name);
                    format!("added {:?} with claude mcp add-json", step.name)
                });
                (file.host, done)
            }
            Plan::Edit(planned) => {
                let Planned { file, content, new, added, removed, remarks, .. } = planned;
                variables.extend(remarks.into_iter().filter(|remark| remark.starts_with(ADD_VARIABLES)));
                let done = file::replace(&content, new.as_bytes(), &world.moment);
                let done = done.map_err(|error| format!("{path} was not changed: {error}")).map(|backup| {
                    record.file(ChangedFile::new(&content, backup.as_deref(), new.as_bytes()));
                    added.iter().for_each(|name| record.add(&file, name));
                    removed.iter().for_each(|name| record.remove(&file, name));
                    let backup = backup.map(|backup| format!(" (backup: {})", short(&backup, change)));
                    format!("wrote {path}{}", backup.unwrap_or_default())
                });
                // A host that runs may have put its own text there at once.
                let is_there = done.is_err() || file::has(&content, new.as_bytes());
                let done = match done {
                    Ok(text) if !is_there => Err(format!("{text}, and another program has changed it since")),
                    done => done,
                };
                (file.host, done)
            }
        };
        // After each file, so that an interruption loses nothing.
        let saved = record.save();
        match done {
            Ok(text) => {
                print(format!("ok    {}: {text}", host.name));
                changed.push(host);
            }
            Err(text) => {
                print(format!("FAIL  {}: {text}", host.name));
                undone.files.push(path);
            }
        }
        saved.map_err(|error| anyhow::anyhow!("cannot record the change for undo: {error:#}"))?;
    }
    if !changed.is_empty() {
        writeln!(out, "\nNext:")?;
        let mut shown = Vec::new();
        for host in changed.into_iter().filter(|host| {
            let is_new = !shown.contains(&host.name);
            shown.push(host.name);
            is_new
        }) {
            writeln!(out, "  {}: {}", host.name, host.reload)?;
        }
        variables.dedup();
        for text in variables {
            writeln!(out, "  {text}")?;
        }
        if !matches!(change.command, EntryCommand::Uninstall(_)) {
            writeln!(out, "  Test the entries: mcp-remote client")?;
        }
        writeln!(out, "  Put the old text back: mcp-remote undo")?;
    }
    Ok(())
}
