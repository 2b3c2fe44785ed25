//! What processes and cores used, from /proc.

use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeMap;

/// Ticks of /proc are hundredths of a second on every architecture that Linux runs on.
/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
const TICK_MICROS: u64 = 10_000;

/// Who may use time while something is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Server,
    Worker,
    Redis,
    Mysql,
    /// This process.
    Load,
    ServersCore,
    LoadCore,
}

/// Microseconds used up to a moment: user and system time of processes, time not idle of cores.
pub(crate) type Used = BTreeMap<Who, u64>;

/// What was used between two moments.
pub(crate) fn between(before: &Used, after: &Used) -> Used {
    after.iter().map(|(who, used)| (*who, used.saturating_sub(*before.get(who).unwrap_or(used)))).collect()
}

/// User and system time of a process so far, microseconds.
///
/// # Errors
/// It is gone.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    process_ticks(&stat).map(|ticks| ticks * TICK_MICROS).context("/proc/PID/stat is not as it was documented")
}

/// The name in parentheses may hold anything, so fields are counted from its end.
fn process_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Time that a core was not idle so far, microseconds.
///
/// # Errors
/// There is no such core.
pub(crate) fn of_core(core: usize) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    core_ticks(&stat, core).map(|ticks| ticks * TICK_MICROS).with_context(|| format!("/proc/stat has no core {core}"))
}

/// user, nice, system, (idle, iowait,) irq, softirq, steal.
fn core_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let fields: Vec<u64> =
        stat.lines().find_map(|line| line.strip_prefix(&name))?.split(' ').filter_map(|field| field.parse().ok()).collect();
    let busy = fields.iter().take(8).sum::<u64>();
    Some(busy.saturating_sub(fields.get(3)? + fields.get(4)?))
}

/// Memory in MiB: resident now, and the most it ever was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Memory {
    pub(crate) resident_mib: f64,
    pub(crate) peak_mib: f64,
}

/// # Errors
/// The process is gone.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let mib = |name: &str| -> Option<f64> {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(rest.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    let memory = || Some(Memory { resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? });
    memory().with_context(|| format!("process {pid} has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_holds() {
        let stat = "4711 (a) b (c)) S 1 4711 4711 0 -1 4194560 100 0 0 0 250 30 7 8 20 0 1 0 100 1000 10";
        assert_eq!(process_ticks(stat), Some(280));
        assert!(of_process(std::process::id()).is_ok());
    }

    #[test]
    fn waiting_for_the_disk_is_idle() {
        let stat = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 9 9 9 9 9 9 9 9 0 0\ncpu1 10 20 30 4000 500 1 2 3 0 0\n";
        assert_eq!(core_ticks(stat, 1), Some(66));
        assert_eq!(core_ticks(stat, 7), None);
    }

    #[test]
    fn only_what_was_used_meanwhile_counts() {
        let used = |redis, core| Used::from([(Who::Redis, redis), (Who::LoadCore, core)]);
        assert_eq!(between(&used(10, 5), &used(35, 5)), used(25, 0));
    }

    #[test]
    fn resident_memory_is_at_most_its_peak() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident_mib > 0.5 && memory.resident_mib <= memory.peak_mib, "{memory:?}");
    }
}
