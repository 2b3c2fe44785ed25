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

cargo xtask torture views [--minutes N] [--seed S] [--only FAULT,...] [--faults N] [--textbook]

Eight clients send views of 300 products through two APIs, while APIs, two workers, Redis (appendfsync always) and
MySQL are killed with -9, APIs and workers also at each step of a view's way; workers are stopped in mid-transaction,
connections cut, replies lost. When all is healed and drained MySQL must have of each product at least what was
accepted and at most what is in doubt beside it; the account must agree; no shown total may have fallen. In one round
of four Redis has everysec and loses the end of its log: nothing may be counted twice, nor more lost than that end.

  --minutes, --seed as above
  --only FAULT,...  only these faults: kill-api, kill-worker, kill-redis, kill-mysql, kill-before-push,
                    kill-after-push, kill-after-claim, kill-after-shard-lock, kill-after-watermarks,
                    kill-before-apply-commit, kill-after-apply, kill-after-settle, kill-redis-in-batch,
                    kill-mysql-in-batch, hold-batch, kill-connections, kill-clients, lose-commit,
                    lose-commit-reply, lose-push, lose-push-reply, lose-script, lose-script-reply, poison,
                    cut-tail, stop-in-batch
  --faults N        faults in a round, beside its stop or its power cuts [default: 26]
  --textbook        torture a worker that pops ten views and adds them in one transaction: it must fail

cargo xtask torture stock [--minutes N] [--seed S] [--only FAULT,...] [--faults N] [--release]

Twenty-four clients reserve crossing baskets of twelve products, commit, release, adjust and count through two APIs, and send again
what nobody answered for, while APIs, worker and MySQL are killed with -9, answers are lost and plain SQL locks rows the other way
round; in one round of three Redis is away from the first to the last. In consistent snapshots all the while, and at rest: each level is
the sum of its movements, what is reserved that of the active reservations, nothing is oversold; what was acknowledged is there once, what
was refused is not, and a key tells what became of its request.

  --minutes, --seed, --release as above
  --only FAULT,...  only these faults: kill-api, kill-in-commit, kill-worker, kill-mysql, kill-connections,
                    cut-mysql, lose-commit, lose-commit-reply, other-order, hold-row, stop-api
  --faults N        faults in a round [default: 14]

cargo xtask torture teeth [NAME...]

Shows that the above would see a fault: the protocols are broken in known ways, one after the other
(tests/teeth/*.patch), in a copy under target/teeth, and each time a violation must be found within a minute, as must
that of the textbook's worker. The copy as it is must pass.";

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
        [what @ ("prices" | "views" | "stock"), rest @ ..] => torture(what, rest),
        ["teeth", names @ ..] => teeth::run(names),
        [other, ..] => Err(format!("unknown torture `{other}`: prices, views, stock or teeth; --help says more").into()),
    }
}

fn torture(what: &str, arguments: &[&str]) -> Result<()> {
    let release = arguments.contains(&"--release");
    if release && what == "views" {
        return Err("views are tortured without --release: optimised programs cannot be held at the steps where they are killed".into());
    }
    let place = Place::find()?;
    need::servers()?;
    let profile = if release { "release" } else { "debug" };
    build(&mut place.cargo(), release, &["api", "worker", "cli", "tests"])?;
    let mut torture = Command::new(place.target.join(profile).join("torture"));
    torture.current_dir(&place.root).arg(what).args(arguments.iter().filter(|argument| **argument != "--release"));
    let status = torture.status()?;
    if status.success() { Ok(()) } else { Err(format!("`cargo xtask torture {what}` ended with {status}, see above").into()) }
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
