//! `cargo xtask deny`: licences, sources and doubled versions of the dependencies, by deny.toml.
//! Apart from `test`, since building cargo-deny takes minutes.

use std::process::Command;

use crate::Result;
use crate::place::Place;
use crate::screen::say;

pub(crate) fn run(install: bool) -> Result<()> {
    let place = Place::find()?;
    let tools = place.target.join("tools");
    if install {
        say("installing cargo-deny into target/tools (some minutes)");
        let mut command = place.cargo();
        command.args(["install", "--locked", "cargo-deny", "--root"]).arg(&tools);
        if !command.status()?.success() {
            return Err("could not install cargo-deny, see above".into());
        }
    }
    let own = tools.join("bin/cargo-deny");
    let program = if own.exists() { own } else { "cargo-deny".into() };
    if !Command::new(&program).arg("--version").output().is_ok_and(|o| o.status.success()) {
        return Err("cargo-deny is not installed: type `cargo xtask deny --install` (into \
                    target/tools), or\n  cargo install --locked cargo-deny"
            .into());
    }
    let mut command = Command::new(program);
    command.current_dir(&place.root).args(["--locked", "check", "bans", "licenses", "sources"]);
    if command.status()?.success() { Ok(()) } else { Err("the dependencies break deny.toml, see above".into()) }
}
