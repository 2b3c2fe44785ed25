//! The servers that must be installed: found, installed, or named with the line to type.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::process::Command;

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

/// Installs packages of Debian for `what`, which is missing: as root without a terminal; otherwise the error holds the line to type.
pub(crate) fn packages(what: &str, packages: &[&str]) -> Result<()> {
    let line = format!("apt-get install -y {}", packages.join(" "));
    if !is_root() || on_a_terminal() {
        return Err(format!("not installed: {what}; on Debian type\n  {line}").into());
    }
    say(format!("installing {what}: {line}"));
    let apt = |arguments: &[&str]| Command::new("apt-get").args(arguments).status().is_ok_and(|status| status.success());
    let installed = apt(&["update", "--quiet"]) && apt(&[&["install", "-y"], packages].concat());
    if installed { Ok(()) } else { Err(format!("`{line}` failed, see above").into()) }
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
