//! `cargo xtask torture teeth`: the protocol broken on purpose, in a copy, and whether that is seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::screen::say;
use crate::{Result, need, torture};

/// What is broken, and under what it is to be seen: the faults that strike, and how many in a round. Entries are thrown out
/// beside them all the time.
const TEETH: &[(&str, &str, &str)] = &[
    ("plain-fill", "drop-entries", "10"),
    ("cache-before-commit", "drop-entries,lose-commit,cut-mysql", "6"),
    ("fixed-namespace", "older-aof,older-rdb", "4"),
    ("joins-a-select-already-sent", "hold-select", "8"),
    ("del-after-commit", "kill-api,drop-entries,cut-redis", "6"),
];

const PATCHES: &str = "tests/teeth";

/// In this time after its build each must be caught.
const LIMIT: Duration = Duration::from_secs(60);

/// The line that `torture` ends with, and what it must say of each of them. (Without its namespace an entry at rest is not
/// where it is looked for either, which proves nothing.)
const VERDICT: &str = "verdict: ";
const STALE: &str = "a read is older than what was returned before it began";

/// What became of one of them; nothing is broken in the first.
struct Bitten {
    name: &'static str,
    built: Duration,
    judged: Duration,
    verdict: String,
}

impl Bitten {
    fn is_caught(&self) -> bool {
        self.verdict.contains(STALE) && self.judged < LIMIT
    }
}

pub(crate) fn run(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !TEETH.iter().any(|(known, ..)| known == *name)) {
        let known: Vec<&str> = TEETH.iter().map(|(name, ..)| *name).collect();
        return Err(format!("unknown tooth `{unknown}`; there are {}", known.join(", ")).into());
    }
    let place = Place::find()?;
    need::servers()?;
    torture::build(&mut place.cargo(), false, &["tests"])?;
    let copy = Copy { place: &place, tree: place.target.join("teeth/tree"), target: place.target.join("teeth/target") };
    let mut all: Vec<&str> = TEETH.iter().flat_map(|(_, faults, _)| faults.split(',')).collect();
    all.sort_unstable();
    all.dedup();
    let whole = copy.bite("nothing broken", None, &all.join(","), "9")?;
    let mut bitten = Vec::new();
    for (name, faults, count) in TEETH.iter().filter(|(name, ..)| names.is_empty() || names.contains(name)) {
        bitten.push(copy.bite(name, Some(&place.root.join(PATCHES).join(format!("{name}.patch"))), faults, count)?);
    }
    say(format!("\n{:<28} {:>8} {:>8}  verdict", "tooth", "build s", "after s"));
    for Bitten { name, built, judged, verdict } in std::iter::once(&whole).chain(&bitten) {
        say(format!("{name:<28} {:>8.0} {:>8.0}  {verdict}", built.as_secs_f64(), judged.as_secs_f64()));
    }
    let missed: Vec<&str> = bitten.iter().filter(|bitten| !bitten.is_caught()).map(|bitten| bitten.name).collect();
    match (whole.verdict.as_str(), missed.as_slice()) {
        ("0 violations", []) => Ok(()),
        ("0 violations", missed) => Err(format!("not caught within {} s: {}", LIMIT.as_secs(), missed.join(", ")).into()),
        (verdict, _) => Err(format!("the copy as it is does not pass: {verdict}").into()),
    }
}

/// The tracked files once more. What changes between two builds is written and nothing else, so that cargo builds little.
struct Copy<'a> {
    place: &'a Place,
    tree: PathBuf,
    target: PathBuf,
}

impl Copy<'_> {
    /// Builds the copy with this patch and tortures what was built.
    fn bite(&self, name: &'static str, patch: Option<&Path>, faults: &str, count: &str) -> Result<Bitten> {
        say(format!("\n== {name}"));
        self.restore()?;
        if let Some(patch) = patch {
            let mut apply = Command::new("git");
            apply.arg("apply").arg(patch).current_dir(&self.tree);
            // The copy is no part of the work tree around it.
            apply.env("GIT_CEILING_DIRECTORIES", self.tree.parent().ok_or("the copy has no directory around it")?);
            if !apply.status()?.success() {
                return Err(format!("{} does not apply any longer, see above", patch.display()).into());
            }
        }
        let start = Instant::now();
        let mut cargo = self.place.cargo();
        // What a patch leaves unused must not end its build.
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).env("RUSTFLAGS", "--cap-lints=warn");
        torture::build(&mut cargo, false, &["api", "worker"])?;
        let (built, start) = (start.elapsed(), Instant::now());
        let mut torture = Command::new(self.place.programs.join("torture"));
        torture.current_dir(&self.place.root).args(["prices", "--minutes", "1", "--seed", "1", "--only", faults, "--faults", count]);
        torture.arg("--programs").arg(self.target.join("debug")).stderr(Stdio::inherit());
        let output = torture.output()?;
        let (judged, said) = (start.elapsed(), String::from_utf8_lossy(&output.stdout).into_owned());
        say(said.trim());
        let verdict = said.lines().filter_map(|line| line.strip_prefix(VERDICT)).next_back();
        Ok(Bitten { name, built, judged, verdict: verdict.unwrap_or("none").to_owned() })
    }

    /// Makes the copy the same as the work tree.
    fn restore(&self) -> Result<()> {
        let tracked = tracked(&self.place.root)?;
        let mut wanted = BTreeMap::new();
        for file in &tracked {
            // One that was deleted and not yet committed is not copied.
            if let Ok(content) = fs::read(self.place.root.join(file)) {
                wanted.insert(self.tree.join(file), content);
            }
        }
        remove_others(&self.tree, &wanted)?;
        for (path, content) in &wanted {
            if fs::read(path).ok().as_ref() != Some(content) {
                fs::create_dir_all(path.parent().ok_or("a file has no directory")?)?;
                fs::write(path, content)?;
            }
        }
        Ok(())
    }
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    let output = git.args(["ls-files", "-z"]).current_dir(root).output().map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// Removes what an earlier state of the work tree, or a patch, has left there.
fn remove_others(dir: &Path, wanted: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains_key(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
