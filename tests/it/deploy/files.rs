//! The files of `deploy/` and the programs that read them.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use telemetry::config::ALL_VARIABLES;

/// The path of a file of the repository.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(name)
}

pub(super) fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files below `deploy/`, named from the root of the repository; what git is told to leave out is not among them.
pub(super) fn all() -> Vec<String> {
    let (root, mut found, mut folders) = (path(""), Vec::new(), vec![path("deploy")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("docker/secrets") => {}
                true => folders.push(path),
                false => found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// The version of the programs, which images are tagged with.
pub(super) fn version() -> String {
    let manifest = text("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    version.expect("the workspace has a version").trim_matches('"').to_owned()
}

/// A path below the directory of builds.
pub(super) fn target(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join(name)
}

/// One of our programs; they are built beside the tests.
pub(super) fn built(program: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(program)
}

/// A program of the environment of Python that `cargo xtask test` makes.
pub(super) fn linter(name: &str) -> Command {
    let dir = target("linters");
    let program = dir.join("bin").join(name);
    assert!(
        program.exists(),
        "{name} is not installed; run `cargo xtask test`, or\n  python3 -m venv {0} && {0}/bin/pip install -r tests/linters/requirements.txt",
        dir.display()
    );
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

pub(super) fn promtool() -> Command {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    assert!(found, "promtool is not installed; on Debian type\n  apt-get install -y --no-install-recommends prometheus");
    Command::new("promtool")
}

/// Whether it ended well, and all that it said.
pub(super) fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The documents of a YAML file. A key that stands twice is a fault.
pub(super) fn yaml(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Strings of a list; empty where there is none.
pub(super) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap_or_else(|| panic!("{item} is no text"))).collect()
}

/// A time as compose, systemd and our settings write it (`25s`, `2m`), or whole seconds, in seconds.
pub(super) fn seconds(time: &Value) -> u64 {
    match time {
        Value::Number(seconds) => seconds.as_u64().unwrap(),
        time => telemetry::config::parse_duration(time.as_str().unwrap()).unwrap().as_secs(),
    }
}

/// What is handed to the shell or to a program as one of our settings.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("INVENTORY_")).collect()
}

/// Read when the programs are built; and what the runbook misspells to show how a start is refused.
const OTHERS: [&str; 2] = ["INVENTORY_COMMIT", "INVENTORY_FLUSH_INTERVALL"];

#[test]
fn every_setting_that_a_file_names_is_one() {
    let known: BTreeSet<&str> = ALL_VARIABLES.iter().copied().chain(OTHERS).collect();
    let mut named = 0;
    for file in all() {
        let text = text(&file);
        let variables = variables(&text);
        let unknown: Vec<_> = variables.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
        named += variables.len();
    }
    assert!(named > 30, "{named} are named in all");
}
