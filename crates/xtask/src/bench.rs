//! `cargo xtask bench` and `soak`: builds everything in release, then hands over to the program `bench`.

use std::time::Instant;

use crate::place::Place;
use crate::screen::say;
use crate::{Result, need};

const BENCH_HELP: &str = "\
cargo xtask bench [--quick] [--only ROW...]
cargo xtask bench [--quick] --kills [--seed S]
cargo xtask bench [--quick] --console

Measures reads, views, prices, reservations and the drain beside the simplest servers that do the same, in
less than six minutes after the build, and prints one table of ratios; it is also in target/bench/latest.md
and latest.json. A missed mark is no failure; an error answer, a lost or doubled view and a piece that was
reserved and not acknowledged, or the other way round, are.

  --quick        few and short rounds: shows that it works, its figures say little
  --only ROW...  these rows only: get-64, get-256, view-64, view-256, view-always-64, view-always-256,
                 direct-zipf, direct-hot, textbook, trim, stream, price-1, price-16, stock-hot, stock-bought,
                 stock-baskets, stock-sold-out, batch, hot, drain, outage, live, idle, memory (judged only
                 after the whole table), slow; or all of a kin, such as get or stock
  --kills        another table instead, in about five minutes, also in target/bench/kills.md: what this design, one
                 UPDATE a view and three queues answer and leave behind at full load, and what they lose and double
                 when worker and API are killed with -9 twenty times each; fails if this design loses or doubles
  --seed S       of the moments of the kills [default: 42]
  --console      another table instead, in about five minutes, also in target/bench/console.md: instructions of the API a
                 request, counted by Callgrind, with the console open and one scrape a second, and without; needs valgrind

Needs Linux and two cores that nothing else uses: servers are pinned to one, the load generator to the
other.";

const SOAK_HELP: &str = "\
cargo xtask soak --minutes N [--seed S]

Moderate mixed load (reads, views, prices) on private servers for N minutes, a line every ten seconds,
and a verdict: fails on views that do not add up, on a price older than acknowledged, on an error answer,
on one that does not come within 15 s, and on memory that grows.

Memory of API, worker and Redis passes while the straight line through what was seen after the first fifth
rises by at most 8 MiB an hour; 3 MiB always pass, more than 16 MiB never, however long it takes: that is
0.8 MiB an hour in a day and 0.1 in a week.

  --minutes N  1 to 10080 (a week)
  --seed S     of the order in which products are asked for [default: 42]";

pub(crate) fn run(command: &str, arguments: &[&str]) -> Result<()> {
    if arguments.iter().any(|argument| ["--help", "-h"].contains(argument)) {
        println!("{}", if command == "bench" { BENCH_HELP } else { SOAK_HELP });
        return Ok(());
    }
    let place = Place::find()?;
    need::servers()?;
    say("building in release (some minutes the first time)");
    let start = Instant::now();
    let mut build = place.cargo();
    build.args(["build", "--release", "--locked", "--quiet", "--bins"]);
    build.args(["--package", "api", "--package", "worker", "--package", "cli", "--package", "bench"]);
    if !build.status()?.success() {
        return Err("the programs do not build in release, see above".into());
    }
    say(format!("built in {:.0} s", start.elapsed().as_secs_f64()));
    let mut bench = std::process::Command::new(place.target.join("release/bench"));
    let status = bench.current_dir(&place.root).arg(command).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("`cargo xtask {command}` ended with {status}, see above").into()) }
}
