//! What the adapter's process holds while it is idle, and whether that grows.

use std::fs;

use crate::{Outcome, process};

/// The first of so many parts of the run warms the adapter up.
const WARM_UP: usize = 6;
/// Rounds after which all kinds of rounds and faults have come together; the warm-up has all of them.
const CYCLE: usize = 12;
/// What the figures at the end may exceed those after the warm-up by.
const GROWTH: f64 = 0.05;
const MEGABYTES: f64 = 0.5;
const DESCRIPTORS: f64 = 2.0;

#[derive(Clone, Copy)]
pub(crate) struct Vitals {
    /// Megabytes in memory.
    pub(crate) resident: f64,
    pub(crate) threads: f64,
    pub(crate) descriptors: f64,
}

/// One figure over the run: median of the first quarter after the warm-up, of the last quarter, and the largest after the
/// warm-up.
pub(crate) struct Course {
    pub(crate) first: f64,
    pub(crate) last: f64,
    pub(crate) most: f64,
    pub(crate) is_flat: bool,
}

impl Vitals {
    pub(crate) fn of(pid: u32) -> Outcome<Self> {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
        let count = |count: usize| u32::try_from(count).map(f64::from);
        Ok(Self { resident: process::resident(pid)?, threads: count(threads)?, descriptors: count(descriptors)? })
    }
}

pub(crate) fn memory(vitals: &[Vitals]) -> Option<Course> {
    course(vitals, |vitals| vitals.resident, |first| (first * GROWTH).max(MEGABYTES))
}

pub(crate) fn threads(vitals: &[Vitals]) -> Option<Course> {
    course(vitals, |vitals| vitals.threads, |_| 0.0)
}

pub(crate) fn descriptors(vitals: &[Vitals]) -> Option<Course> {
    course(vitals, |vitals| vitals.descriptors, |_| DESCRIPTORS)
}

/// Returns `None` if the run was too short for a warm-up and one cycle of rounds.
fn course(vitals: &[Vitals], figure: impl Fn(&Vitals) -> f64, growth: impl Fn(f64) -> f64) -> Option<Course> {
    let warm_up = (vitals.len() / WARM_UP).max(CYCLE);
    let figures: Vec<_> = vitals.get(warm_up..)?.iter().map(figure).collect();
    if figures.len() < CYCLE {
        return None;
    }
    let quarter = figures.len() / 4;
    let first = median(&figures[..quarter]);
    let last = median(&figures[figures.len() - quarter..]);
    let most = figures.iter().copied().fold(0.0, f64::max);
    Some(Course { first, last, most, is_flat: last <= first + growth(first) })
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
