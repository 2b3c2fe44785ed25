//! `cargo xtask`: the project's own commands. Small, and quick to build, so that the first line is
//! there within seconds of a clone; what needs more than that is asked of `inventoryctl`.

mod bench;
mod deny;
mod json;
mod mysql;
mod need;
mod npm;
mod place;
mod schemathesis;
mod screen;
mod teeth;
mod test;
mod torture;
mod up;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
cargo xtask up               run everything here: Redis, MySQL, API, worker, and a month of real trade
cargo xtask test [-- ARGS]   format, lints, build and every test against real servers; ARGS go to the test binaries
  --server mysql|mariadb     on this one, wherever it stands on the PATH; MySQL is made under target/mysql if it is not installed
  --smoke                    some minutes of tests of what meets the servers, without the rest
cargo xtask bench [--quick]  what each path costs beside the simplest servers that do the same; --help says more
cargo xtask soak --minutes N moderate load for a while: nothing drifts, nothing grows; --help says more
cargo xtask torture prices   histories under faults, judged; the same of `views` and `stock`; `teeth` shows that it sees; --help says more
cargo xtask deny [--install] licences, sources and doubled versions of the dependencies (needs cargo-deny)
cargo xtask help             this list";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["up"] => up::run(),
        ["test", rest @ ..] => test::run(rest),
        [command @ ("bench" | "soak"), rest @ ..] => bench::run(command, rest),
        ["torture", rest @ ..] => torture::run(rest),
        ["deny"] => deny::run(false),
        ["deny", "--install"] => deny::run(true),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("unknown command `{}`; there are:\n{HELP}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
