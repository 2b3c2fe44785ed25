//! `cargo xtask torture teeth`: the protocol broken on purpose, in a copy, and whether that is seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::screen::say;
use crate::{Result, need, torture};

/// What is broken, which torture is to see it, under what: the faults that strike, and how many in a round; and what must be
/// said of it. (Entries of the cache are thrown out beside that all the time. Without its namespace an entry at rest is not where
/// it is looked for either, which proves nothing.)
const TEETH: &[(&str, &str, &str, &str, &str)] = &[
    ("plain-fill", "prices", "drop-entries", "10", STALE),
    ("cache-before-commit", "prices", "drop-entries,lose-commit,cut-mysql", "6", STALE),
    ("fixed-namespace", "prices", "older-aof,older-rdb", "4", STALE),
    ("joins-a-select-already-sent", "prices", "hold-select", "8", STALE),
    ("del-after-commit", "prices", "kill-api,drop-entries,cut-redis", "6", STALE),
    ("no-shard-lock", "views", "hold-batch", "6", DOUBLED),
    ("watermarks-before-the-lock", "views", "hold-batch", "6", DOUBLED),
    ("settle-before-commit", "views", "kill-after-shard-lock,kill-before-apply-commit", "6", LOST),
    ("push-without-sequence", "views", "lose-push-reply", "8", ACCOUNT),
    ("stock-without-lock", "stock", "hold-row", "3", SUMS),
    ("expire-without-movement", "stock", "kill-worker", "3", SUMS),
    ("key-outside-the-transaction", "stock", "lose-commit,cut-mysql", "6", UNTRUE),
];

/// What is no patch: a worker that does what the textbook says, under kills.
const TEXTBOOK: &str = "textbook";
const TEXTBOOK_FAULTS: &str = "kill-worker,kill-redis,kill-connections";

const STALE: &str = "a read is older than what was returned before it began";
const LOST: &str = "accepted views are lost";
const DOUBLED: &str = "views are counted that nobody sent";
const ACCOUNT: &str = "the account does not agree with what is there";

const SUMS: &str = "stock is not the sum of its movements and reservations";
const UNTRUE: &str = "what was acknowledged is not there";

const PATCHES: &str = "tests/teeth";

/// In this time after its build each must be caught.
const LIMIT: Duration = Duration::from_secs(60);

/// A round of torture takes about so long; nothing new is begun when less is left.
const SHORTEST: Duration = Duration::from_secs(15);

/// From the first seed of one run of torture to that of the next; none has so many rounds in its minute.
const SEEDS: u64 = 100;

/// The line that `torture` ends with.
const VERDICT: &str = "verdict: ";

/// What became of one of them; nothing is broken in the first.
struct Bitten {
    name: String,
    /// What must be said of it.
    seen: &'static str,
    built: Duration,
    judged: Duration,
    verdict: String,
}

impl Bitten {
    fn of(name: String, seen: &'static str, judged: Duration, verdict: String) -> Self {
        Self { name, seen, built: Duration::ZERO, judged, verdict }
    }

    fn is_caught(&self) -> bool {
        self.verdict.contains(self.seen) && self.judged < LIMIT
    }
}

pub(crate) fn run(names: &[&str]) -> Result<()> {
    let known: Vec<&str> = TEETH.iter().map(|(name, ..)| *name).chain([TEXTBOOK]).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("unknown tooth `{unknown}`; there are {}", known.join(", ")).into());
    }
    let place = Place::find()?;
    need::servers()?;
    torture::build(&mut place.cargo(), false, &["tests"])?;
    let copy = Copy { place: &place, tree: place.target.join("teeth/tree"), target: place.target.join("teeth/target") };
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let teeth: Vec<_> = TEETH.iter().filter(|(name, ..)| wanted(name)).collect();
    let mut whole = Vec::new();
    for what in ["prices", "views", "stock"] {
        let mut all: Vec<&str> = teeth.iter().filter(|tooth| tooth.1 == what).flat_map(|tooth| tooth.2.split(',')).collect();
        all.sort_unstable();
        all.dedup();
        if !all.is_empty() {
            copy.build(None)?;
            let start = Instant::now();
            let verdict = copy.torture(&[what, "--only", &all.join(","), "--faults", "9"], 1)?;
            whole.push(Bitten::of(format!("nothing broken, {what}"), "0 violations", start.elapsed(), verdict));
        }
    }
    let mut bitten = Vec::new();
    for (name, what, faults, count, seen) in teeth {
        let built = copy.build(Some(&place.root.join(PATCHES).join(format!("{name}.patch"))))?;
        let bite = copy.bite(name, seen, &[what, "--only", faults, "--faults", count])?;
        bitten.push(Bitten { built, ..bite });
    }
    if wanted(TEXTBOOK) {
        bitten.push(copy.bite(TEXTBOOK, LOST, &["views", "--textbook", "--only", TEXTBOOK_FAULTS, "--faults", "20"])?);
    }
    say(format!("\n{:<28} {:>8} {:>8}  verdict", "tooth", "build s", "after s"));
    for Bitten { name, built, judged, verdict, .. } in whole.iter().chain(&bitten) {
        say(format!("{name:<28} {:>8.0} {:>8.0}  {verdict}", built.as_secs_f64(), judged.as_secs_f64()));
    }
    if let Some(Bitten { name, verdict, .. }) = whole.iter().find(|whole| whole.verdict != whole.seen) {
        return Err(format!("the copy as it is does not pass ({name}): {verdict}").into());
    }
    let missed: Vec<&str> = bitten.iter().filter(|bitten| !bitten.is_caught()).map(|bitten| bitten.name.as_str()).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught within {} s: {}", LIMIT.as_secs(), missed.join(", ")).into()) }
}

/// The tracked files once more. What changes between two builds is written and nothing else, so that cargo builds little.
struct Copy<'a> {
    place: &'a Place,
    tree: PathBuf,
    target: PathBuf,
}

impl Copy<'_> {
    /// Builds the copy with this patch, or as it is; returns how long that took.
    fn build(&self, patch: Option<&Path>) -> Result<Duration> {
        say(format!("\n== {}", patch.map_or("nothing broken".into(), |patch| patch.display().to_string())));
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
        torture::build(&mut cargo, false, &["api", "worker", "cli"])?;
        Ok(start.elapsed())
    }

    /// Tortures what was built, with one seed after the other, until it is seen or its time is over. A run ends with its first
    /// violation, and that may be another; and in a round with few faults it may be missed.
    fn bite(&self, name: &str, seen: &'static str, arguments: &[&str]) -> Result<Bitten> {
        let (start, mut seed) = (Instant::now(), 1);
        loop {
            let verdict = self.torture(arguments, seed)?;
            let judged = start.elapsed();
            if verdict.contains(seen) || judged + SHORTEST > LIMIT {
                return Ok(Bitten::of(name.to_owned(), seen, judged, verdict));
            }
            seed += SEEDS;
        }
    }

    /// Runs rounds for a minute, or to the first violation; returns the verdict.
    fn torture(&self, arguments: &[&str], seed: u64) -> Result<String> {
        let mut torture = Command::new(self.place.programs.join("torture"));
        torture.current_dir(&self.place.root).args(arguments).args(["--minutes", "1", "--seed", &seed.to_string()]);
        torture.arg("--programs").arg(self.target.join("debug")).stderr(Stdio::inherit());
        let said = String::from_utf8_lossy(&torture.output()?.stdout).into_owned();
        say(said.trim());
        let verdict = said.lines().filter_map(|line| line.strip_prefix(VERDICT)).next_back();
        Ok(verdict.unwrap_or("none").to_owned())
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
