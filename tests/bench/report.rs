//! Everything that was measured, and the Markdown it becomes.

use std::collections::HashMap;
use std::fmt::Write;
use std::thread;

use crate::options::{Contender, Options, Role};
use crate::process;
use crate::rows::{self, Limits, Row};
use crate::scenario::Samples;

#[derive(Default)]
pub(crate) struct Report {
    /// By row and contender.
    samples: HashMap<(&'static str, usize), Vec<f64>>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, contender: usize, samples: Samples) {
        for (row, value) in samples {
            self.samples.entry((row.title, contender)).or_default().push(value);
        }
    }

    pub(crate) fn add_failure(&mut self, failure: String) {
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    pub(crate) fn to_markdown(&self, options: &Options) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(options, &mut out);
        out
    }

    fn write(&self, options: &Options, out: &mut String) -> std::fmt::Result {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let model = process::processor_model();
        writeln!(out, "{cores} cores, {model}; medians of {} passes; 1 MB = 1,048,576 bytes", options.passes)?;
        for (group, rows) in rows::GROUPS {
            let rows: Vec<_> = rows.iter().filter(|row| options.wants(row)).collect();
            if rows.is_empty() {
                continue;
            }
            let names: Vec<_> = options.contenders.iter().map(|contender| contender.name.as_str()).collect();
            writeln!(
                out,
                "\n### {group}\n\n| | aim | {} |\n|---|---|{}",
                names.join(" | "),
                "---|".repeat(names.len())
            )?;
            for row in rows {
                let cells: Vec<_> = options
                    .contenders
                    .iter()
                    .enumerate()
                    .map(|(place, contender)| self.cell(row, place, contender, options))
                    .collect();
                writeln!(out, "| {} | {} | {} |", row.title, row.aim.format(row.unit), cells.join(" | "))?;
            }
        }
        if !self.failures.is_empty() {
            writeln!(out, "\nNot measured:\n")?;
            for failure in &self.failures {
                writeln!(out, "- {failure}")?;
            }
        }
        Ok(())
    }

    fn cell(&self, row: &Row, place: usize, contender: &Contender, options: &Options) -> String {
        let Some(value) = self.median(row, place) else {
            return "–".to_owned();
        };
        let mut cell = row.unit.format(value);
        if contender.role == Role::Direct {
            return cell;
        }
        let of = |role| {
            let place = options.contenders.iter().position(|other| other.role == role);
            place.and_then(|place| self.median(row, place))
        };
        let limits = Limits { direct: of(Role::Direct), minimal: of(Role::Minimal) };
        cell.push_str(&row.compared.format(value, limits.direct));
        if contender.role == Role::Subject {
            cell.push_str(match row.aim.is_met(value, limits) {
                Some(true) => " ✓",
                Some(false) => " ✗",
                None => "",
            });
        }
        cell
    }

    fn median(&self, row: &Row, place: usize) -> Option<f64> {
        let mut values = self.samples.get(&(row.title, place))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len().is_multiple_of(2) {
            Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, values[middle]))
        } else {
            Some(values[middle])
        }
    }
}
