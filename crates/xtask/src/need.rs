//! The servers that must be installed: found, installed, or named with the line to type.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::process::{Command, Stdio};

use crate::Result;
use crate::screen::say;

/// As root without a terminal the servers are installed, on a terminal we ask once, and otherwise
/// the error holds the one line to type.
pub(crate) fn servers() -> Result<()> {
    let missing = servers::missing();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" and ");
    let root = is_root();
    let line = if root || cfg!(target_os = "macos") { servers::install_line() } else { format!("sudo {}", servers::install_line()) };
    let terminal = on_a_terminal();
    if !terminal && !root {
        return Err(format!("not installed: {missing}; type\n  {line}").into());
    }
    if terminal && !agreed(&missing, &line)? {
        return Err(format!("not installed: {missing}; type\n  {line}").into());
    }
    say(format!("installing {missing}: {line}"));
    servers::install(!root)?;
    Ok(())
}

/// Programs that tests start beside the servers, and Debian's packages of them. Node.js from elsewhere brings its own npm.
const OF_TESTS: [(&str, &str); 7] = [
    ("curl", "curl"),
    ("chromium", "chromium fonts-liberation"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("systemd-analyze", "systemd"),
];

/// Installs those that are missing.
pub(crate) fn programs_of_tests() -> Result<()> {
    let missing: Vec<&str> = OF_TESTS.iter().filter(|(program, _)| !is_there(program)).map(|(_, packages)| *packages).collect();
    if missing.is_empty() { Ok(()) } else { packages(&missing.join(" ")) }
}

/// Installs packages of Debian, as root without a terminal; otherwise the error holds the line to type.
pub(crate) fn packages(packages: &str) -> Result<()> {
    // Recommended are exporters of other things and the like.
    let line = format!("apt-get install -y --no-install-recommends {packages}");
    if !is_root() || on_a_terminal() {
        return Err(format!("not installed: {packages}; on Debian type\n  {line}").into());
    }
    say(format!("installing {packages}: {line}"));
    // Services that come with packages are not to start: the tests start their own.
    let ran = |line: &str| {
        let mut command = Command::new("env");
        command.args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1"]).args(line.split(' '));
        command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if ran("apt-get update --quiet") && ran(&line) { Ok(()) } else { Err(format!("`{line}` failed, see above").into()) }
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    asked.is_ok_and(|output| output.status.success())
}

fn agreed(missing: &str, line: &str) -> Result<bool> {
    print!("Not installed: {missing}. Run this?\n  {line}\n[Y/n] ");
    stdout().flush()?;
    let mut answer = String::new();
    // End of input is no answer, and so no.
    let read = stdin().read_line(&mut answer)?;
    Ok(read > 0 && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

pub(crate) fn on_a_terminal() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
