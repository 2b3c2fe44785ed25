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
