//! What tests/it/console.rs clicks with: the npm packages of tests/console, under `target`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::place::Place;
use crate::screen::say;

/// What npm is to install, and the exact versions with their checksums.
const FILES: [&str; 2] = ["package.json", "package-lock.json"];
const SOURCE: &str = "tests/console";

/// Installs what the lock file names, unless that was done before.
pub(crate) fn install(place: &Place) -> Result<()> {
    let (source, dir) = (place.root.join(SOURCE), place.target.join("console"));
    let wanted = texts(&source)?;
    let stamp = dir.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted.concat()) {
        return Ok(());
    }
    say(format!("installing what {SOURCE}/{} names into {}", FILES[1], dir.display()));
    std::fs::create_dir_all(&dir)?;
    for (file, text) in FILES.iter().zip(&wanted) {
        std::fs::write(dir.join(file), text)?;
    }
    // The packages need no scripts; a browser would be downloaded by one.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&dir).stdin(Stdio::null());
    if !npm.status().is_ok_and(|status| status.success()) {
        return Err(format!("`npm ci` failed in {}, see above", dir.display()).into());
    }
    std::fs::write(stamp, wanted.concat())?;
    Ok(())
}

fn texts(source: &Path) -> Result<Vec<String>> {
    let text = |file: &&str| std::fs::read_to_string(source.join(file)).map_err(|error| format!("{SOURCE}/{file}: {error}").into());
    FILES.iter().map(text).collect()
}
