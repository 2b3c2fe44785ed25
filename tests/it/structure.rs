//! What holds the repository together: the arrows between crates, names that several programs share, files' headers.

use harness::SOON;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Which of our crates each crate may name. `tests` and benchmarks may name all.
const ARROWS: [(&str, &str); 12] = [
    ("domain", ""),
    ("telemetry", ""),
    ("storage", "domain telemetry"),
    ("catalog", "storage domain telemetry"),
    ("stock", "storage domain telemetry"),
    ("checks", "catalog stock storage domain telemetry"),
    ("api", "checks catalog stock storage domain telemetry"),
    ("worker", "catalog stock storage domain telemetry"),
    ("cli", "checks catalog stock storage domain telemetry"),
    ("servers", ""),
    ("model", ""),
    ("xtask", "servers"),
];

/// Crates of others that only some of ours may name: the stores stay behind `storage`, HTTP at the edge.
const KEPT: [(&str, &str); 6] = [
    ("mysql_async", "storage tests bench"),
    ("redis", "storage tests bench"),
    ("actix-web", "api telemetry bench"),
    ("actix-cors", "api"),
    ("refinery", "storage"),
    ("utoipa", "api"),
];

/// Names of all dependencies of each crate of the workspace, those for tests and builds too.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let of = |package: &Value| (name(package), package["dependencies"].as_array().unwrap().iter().map(name).collect());
    metadata["packages"].as_array().unwrap().iter().map(of).collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

#[test]
fn the_arrows_between_crates_point_one_way() {
    let dependencies = dependencies();
    let ours: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    for (name, allowed) in ARROWS {
        let named: BTreeSet<&str> = dependencies[name].iter().map(String::as_str).filter(|name| ours.contains(name)).collect();
        let allowed = words(allowed);
        let wrong: Vec<_> = named.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
    let covered: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).chain(["tests", "bench"]).collect();
    assert!(ours.is_subset(&covered), "a crate without an arrow: {:?}", ours.difference(&covered));
}

#[test]
fn only_the_crates_at_an_edge_name_what_stands_behind_it() {
    for (name, named) in dependencies() {
        for (kept, by) in KEPT {
            assert!(!named.contains(kept) || words(by).contains(name.as_str()), "{name} must not depend on {kept}");
        }
    }
}

#[test]
fn crates_without_a_dependency_stay_so() {
    let dependencies = dependencies();
    for std_only in ["servers", "model"] {
        assert!(dependencies[std_only].is_empty(), "{std_only} is std only: {:?}", dependencies[std_only]);
    }
    for io in ["tokio", "reqwest", "tracing"] {
        assert!(!dependencies["domain"].contains(io), "domain does no I/O, so it has no use for {io}");
    }
}

/// The programs are built beside the tests.
fn beside(program: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(program)
}

/// The help of a program, with that of all its commands.
fn help(program: &str, commands: &[&str]) -> String {
    let output = Command::new(beside(program)).args(commands).arg("--help").output().unwrap();
    assert!(output.status.success(), "{program} {commands:?} --help");
    let mut text = String::from_utf8(output.stdout).unwrap();
    let listed = text.split_once("\nCommands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default().to_owned());
    // What is further in goes on with the line before it.
    for line in listed.unwrap_or_default().lines().filter(|line| !line.starts_with("   ")) {
        match line.split_whitespace().next() {
            Some("help") | None => {}
            Some(command) => text.push_str(&help(program, &[commands, &[command]].concat())),
        }
    }
    text
}

/// The variables that a help text names.
fn variables(help: &str) -> BTreeSet<&str> {
    let named = help.split("[env: ").skip(1);
    named.map(|rest| rest.split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap()).collect()
}

#[test]
fn every_variable_that_a_program_reads_is_known_to_its_siblings() {
    let known: BTreeSet<&str> = telemetry::config::ALL_VARIABLES.iter().copied().collect();
    for (program, own) in [
        ("inventory-api", "INVENTORY_API_LISTEN"),
        ("inventory-worker", "INVENTORY_WORKER_OPS_LISTEN"),
        ("inventoryctl", "INVENTORY_SHARDS"),
    ] {
        let help = help(program, &[]);
        let read = variables(&help);
        assert!(read.contains(own) && read.contains("INVENTORY_LOG_FORMAT"), "{program}: {read:?}");
        let unknown: Vec<_> = read.difference(&known).collect();
        assert!(unknown.is_empty(), "{program} reads {unknown:?}, which its siblings would refuse");
    }
}

/// A variable that another program knows is no fault; one that none knows stops the start.
#[tokio::test]
async fn a_variable_that_no_program_knows_refuses_the_start_and_the_nearest_is_named() {
    let anywhere = "127.0.0.1:0";
    for program in ["inventory-api", "inventory-worker", "inventoryctl"] {
        let mut command = tokio::process::Command::new(beside(program));
        if program == "inventoryctl" {
            command.args(["queue", "status"]);
        }
        // Were it started after all, it would disturb nobody.
        command.env("INVENTORY_MYSQL_URL", format!("mysql://nobody@127.0.0.1:{}/none", servers::free_port().unwrap()));
        for listener in ["INVENTORY_API_LISTEN", "INVENTORY_API_OPS_LISTEN", "INVENTORY_WORKER_OPS_LISTEN"] {
            command.env(listener, anywhere);
        }
        let ended = command.env("INVENTORY_REDIS_ULR", "redis://127.0.0.1:1/0").kill_on_drop(true).output();
        let ended = tokio::time::timeout(SOON, ended).await.unwrap_or_else(|_| panic!("{program} was started"));
        let output = ended.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{program}: {said}");
        assert!(said.contains("INVENTORY_REDIS_ULR") && said.contains("INVENTORY_REDIS_URL"), "{program}: {said}");
    }
}

/// Files below a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has files");
    found
}

#[test]
fn every_script_says_its_purpose_keys_arguments_and_result() {
    let included = std::fs::read_to_string(Path::new(ROOT).join("crates/storage/src/redis/scripts.rs")).unwrap();
    for (path, text) in files("crates/storage/src/redis/lua", &["lua"]) {
        let file = path.file_name().unwrap().to_str().unwrap();
        let (head, body): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("--"));
        assert!(text.starts_with("-- ") && !text.starts_with("-- KEYS"), "{file} opens with its purpose");
        for (field, used) in [("KEYS", "KEYS"), ("ARGV", "ARGV"), ("returns", "return")] {
            let said = head.iter().any(|line| line.starts_with(&format!("-- {field} ")));
            assert_eq!(said, body.iter().any(|line| line.contains(used)), "{file}: {field} is said if it is used");
        }
        assert!(included.contains(&format!("include_str!(\"lua/{file}\")")), "{file} is not used");
    }
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    for (path, text) in files("crates", &["rs"]).into_iter().chain(files("tests", &["rs"])) {
        assert!(text.starts_with("//! "), "{} does not say what it is for", path.display());
    }
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let places = ["/home/", "/Users/", "/tmp/", "C:\\"];
    for folder in ["crates", "migrations", "deploy"] {
        for (path, text) in files(folder, &["rs", "lua", "sql", "toml", "md", "conf", "cnf", "service", "yml", "yaml"]) {
            for (number, line) in text.lines().enumerate() {
                let place = places.iter().find(|place| line.contains(*place));
                assert_eq!(place, None, "{} line {}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn no_test_is_left_out() {
    let (ignored, only) = (concat!("#[", "ignore"), concat!("#[", "cfg(ignored"));
    for (path, text) in files("tests", &["rs"]).into_iter().chain(files("crates", &["rs"])) {
        assert!(!text.contains(ignored) && !text.contains(only), "{} leaves a test out", path.display());
    }
    let tests = files("tests/it", &["rs"]);
    for (path, _) in &tests {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let registered = tests.iter().any(|(_, text)| text.lines().any(|line| line.trim() == format!("mod {name};")));
        assert!(registered || ["main", "mod"].contains(&name), "{} is no module of main.rs", path.display());
    }
}

#[test]
fn every_tooth_says_what_it_breaks_and_still_applies() {
    let known = std::fs::read_to_string(Path::new(ROOT).join("crates/xtask/src/teeth.rs")).unwrap();
    for (path, text) in files("tests/teeth", &["patch"]) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(known.contains(&format!("(\"{name}\", ")), "`cargo xtask torture teeth` does not know {name}");
        assert!(text.starts_with("Breaks: "), "{name} does not say what it breaks");
        let git = Path::new(ROOT).join(".git").exists();
        let mut apply = Command::new(if git { "git" } else { "patch" });
        apply.args(if git { ["apply", "--check"].as_slice() } else { &["--dry-run", "--force", "--strip=1", "--input"] });
        let output = apply.arg(&path).current_dir(ROOT).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name} does not apply to the sources as they are: {said}");
    }
}
