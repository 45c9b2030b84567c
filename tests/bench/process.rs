//! What the kernel knows about a process: processor time and memory.

use std::fs;
use std::time::Duration;

use crate::Outcome;

/// The kernel counts in hundredths of a second wherever this bench can run.
const TICK: Duration = Duration::from_millis(10);

pub(crate) fn processor_time(pid: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next().ok_or("no times in /proc/PID/stat");
    let user: u32 = next()?.parse()?;
    let system: u32 = next()?.parse()?;
    Ok(TICK * (user + system))
}

/// Megabytes in memory now.
pub(crate) fn resident(pid: u32) -> Outcome<f64> {
    status(pid, "VmRSS:")
}

/// Megabytes in memory at the worst moment.
pub(crate) fn peak_resident(pid: u32) -> Outcome<f64> {
    status(pid, "VmHWM:")
}

/// Megabytes in memory that no other process has mapped too.
pub(crate) fn private(pid: u32) -> Outcome<f64> {
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(megabytes(&map, "Private_Clean:")? + megabytes(&map, "Private_Dirty:")?)
}

fn status(pid: u32, field: &str) -> Outcome<f64> {
    megabytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, field)
}

/// The value of a field in kilobytes, as the kernel writes them, in megabytes.
fn megabytes(text: &str, field: &str) -> Outcome<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = value.and_then(|value| value.split_whitespace().next());
    let kilobytes = kilobytes.ok_or_else(|| format!("the kernel does not say {field}"))?;
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}

/// The processor's model name.
pub(crate) fn processor_model() -> String {
    fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned())
}
