//! `cargo xtask torture`: builds the programs, then hands over to the program `torture`, or to its teeth.

use std::process::Command;

use crate::place::Place;
use crate::screen::say;
use crate::{Result, need, teeth};

const HELP: &str = "\
cargo xtask torture prices [--minutes N] [--seed S] [--only FAULT,...] [--faults N] [--release]

Twelve clients read and write eight hot products through two APIs, while API, worker, Redis and MySQL are
killed, stopped, cut off, emptied and put back to older data. What the clients were told must be the history
of a register for each product: no read older than what was acknowledged or read before it began, no refused
write ever seen. In rounds on fresh private servers, each with a seed of its own; ends at the first violation,
and shows it with the calls around it.

  --minutes N       how long it may take, 1 to 1440 [default: 5]
  --seed S          of the first round; the next one has S + 1 [default: a new one]
  --only FAULT,...  only these faults: kill-api, kill-worker, kill-redis, empty-redis, older-aof, older-rdb,
                    kill-mysql, kill-connections, flush, drop-entries, low-memory, cut-redis, hold-redis,
                    cut-mysql, hold-select, lose-commit, lose-commit-reply, lose-script, lose-script-reply,
                    stop-api, stop-worker, stop-mysql, stop-redis, long-stop
  --faults N        faults in a round, beside its one long stop [default: 17]
  --release         with optimised programs: several times the operations, after a longer build

cargo xtask torture teeth [NAME...]

Shows that the above would see a fault: the protocol is broken in known ways, one after the other
(tests/teeth/*.patch), in a copy under target/teeth, and each time a violation must be found within a minute.
The copy as it is must pass.";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        [] => {
            println!("{HELP}");
            Ok(())
        }
        _ if arguments.iter().any(|argument| ["--help", "-h"].contains(argument)) => {
            println!("{HELP}");
            Ok(())
        }
        ["prices", rest @ ..] => prices(rest),
        ["teeth", names @ ..] => teeth::run(names),
        [other, ..] => Err(format!("unknown torture `{other}`: prices or teeth; --help says more").into()),
    }
}

fn prices(arguments: &[&str]) -> Result<()> {
    let place = Place::find()?;
    need::servers()?;
    let release = arguments.contains(&"--release");
    let profile = if release { "release" } else { "debug" };
    build(&mut place.cargo(), release, &["api", "worker", "tests"])?;
    let mut torture = Command::new(place.target.join(profile).join("torture"));
    torture.current_dir(&place.root).arg("prices").args(arguments.iter().filter(|argument| **argument != "--release"));
    let status = torture.status()?;
    if status.success() { Ok(()) } else { Err(format!("`cargo xtask torture prices` ended with {status}, see above").into()) }
}

/// Builds the programs of these packages.
pub(crate) fn build(cargo: &mut Command, release: bool, packages: &[&str]) -> Result<()> {
    say(format!("building {}", packages.join(", ")));
    cargo.args(["build", "--locked", "--quiet", "--bins"]);
    cargo.args(release.then_some("--release"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    if cargo.status()?.success() { Ok(()) } else { Err(format!("{} do not build, see above", packages.join(", ")).into()) }
}
