//! The machine: its cores, who runs on which of them, and what the servers are.

use anyhow::Context;
use std::process::Command;

/// Who runs where. Apart, so that what measures does not take time from what is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cores {
    Apart {
        servers: usize,
        load: usize,
        /// They are hyper-threads of one core, and each slows the other.
        siblings: bool,
    },
    /// Nothing is pinned; the text says why.
    Shared(String),
}

impl Cores {
    /// Takes the first two cores that this process may use and pins it to the second.
    ///
    /// # Errors
    /// Not on Linux, or `taskset` is not installed.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("this needs Linux: it reads /proc")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let [servers, load] = match parse_list(list).as_slice() {
            [servers, load, ..] => [*servers, *load],
            _ => return Ok(Self::Shared("one core only: servers and load generator share it".to_owned())),
        };
        let cores = Self::Apart { servers, load, siblings: are_siblings(servers, load) };
        Ok(match pin(std::process::id(), load)? {
            Ok(()) => cores,
            Err(refusal) => Self::Shared(format!("cores cannot be chosen here ({refusal}): servers and load generator share them")),
        })
    }

    /// Moves a process and all its threads to the servers' core.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn pin_server(&self, pid: u32) -> anyhow::Result<()> {
        match self {
            Self::Apart { servers, .. } => pin(pid, *servers)?.map_err(anyhow::Error::msg),
            Self::Shared(_) => Ok(()),
        }
    }

    /// The command, on the servers' core from its first instruction: it counts its cores when it starts.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        match self {
            Self::Apart { servers, .. } => {
                let mut command = Command::new("taskset");
                command.args(["-c", &servers.to_string()]).arg(program);
                command
            }
            Self::Shared(_) => Command::new(program),
        }
    }

    /// For the heading of the figures.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Apart { servers, load, siblings } => {
                let apart = format!("all servers on core {servers}, load generator on core {load}");
                if *siblings { apart + ", which are hyper-threads of one core: each slows the other" } else { apart }
            }
            Self::Shared(why) => why.clone(),
        }
    }
}

/// The inner error is a refusal by the system.
fn pin(pid: u32, core: usize) -> anyhow::Result<Result<(), String>> {
    let output = Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &pid.to_string()]).output();
    let output = output.context("taskset is not installed: type\n  apt-get install -y util-linux")?;
    let refusal = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(refusal) })
}

/// As far as the system says: a container may hide it.
/// <https://docs.kernel.org/admin-guide/cputopology.html>
fn are_siblings(one: usize, other: usize) -> bool {
    let list = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{one}/topology/thread_siblings_list"));
    parse_list(&list.unwrap_or_default()).contains(&other)
}

/// `0-2,5` → 0, 1, 2, 5
fn parse_list(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Number of cores and the processor's name.
pub(crate) fn name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.trim()));
    let cores = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = cores.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    format!("{cores} {} {}", if cores == 1 { "core" } else { "cores" }, model.unwrap_or(std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("\t0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_list("3\n"), [3]);
        assert_eq!(parse_list(""), [0; 0]);
    }

    #[test]
    fn the_heading_says_where_two_cores_are_one() {
        let heading = |siblings| Cores::Apart { servers: 0, load: 1, siblings }.describe();
        assert_eq!(heading(false), "all servers on core 0, load generator on core 1");
        assert!(heading(true).ends_with("core 1, which are hyper-threads of one core: each slows the other"));
    }

    #[test]
    fn a_core_is_its_own_sibling_and_not_that_of_one_that_is_not_there() {
        assert!(!are_siblings(0, usize::MAX) && !are_siblings(usize::MAX, 0));
        assert_eq!(are_siblings(0, 0), std::path::Path::new("/sys/devices/system/cpu/cpu0/topology").exists());
    }
}
