//! Schemathesis for tests/it/openapi.rs and the linters for tests/it/deploy, each in a virtual environment of Python under `target`.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::need;
use crate::place::Place;
use crate::screen::say;

/// Environments; tests/<name>/requirements.txt has the one version of each package that the tests were written for.
const ENVIRONMENTS: [&str; 2] = ["schemathesis", "linters"];

/// Debian keeps what makes virtual environments in a package of its own.
const PACKAGE: &str = "python3-venv";

/// Installs what the requirements name, unless that was done before.
pub(crate) fn install(place: &Place) -> Result<()> {
    ENVIRONMENTS.iter().try_for_each(|name| environment(place, name))
}

fn environment(place: &Place, name: &str) -> Result<()> {
    let (dir, requirements) = (place.target.join(name), place.root.join("tests").join(name).join("requirements.txt"));
    let wanted = std::fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    let stamp = dir.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say(format!("installing {} into {}", wanted.trim(), dir.display()));
    if !made(&dir) {
        need::packages(PACKAGE)?;
        if !made(&dir) {
            return Err(format!("`python3 -m venv {}` failed, see above", dir.display()).into());
        }
    }
    let mut pip = Command::new(dir.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    if !pip.status().is_ok_and(|status| status.success()) {
        return Err(format!("installing what {} names failed, see above", requirements.display()).into());
    }
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// Makes an empty environment; whatever was there goes.
fn made(dir: &Path) -> bool {
    let status = Command::new("python3").args(["-m", "venv", "--clear"]).arg(dir).status();
    status.is_ok_and(|status| status.success())
}
