//! One of our programs as a process that a test can kill, stop and start again.

use crate::{SOON, eventually};
use reqwest::StatusCode;
use servers::Process;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// A running `inventory-api` or `inventory-worker`.
pub struct Program {
    name: &'static str,
    environment: Vec<(String, String)>,
    log: PathBuf,
    /// Base address of the public API, empty for the worker.
    pub url: String,
    /// Base address of the ops listener.
    pub ops: String,
    process: Process,
    pub(crate) client: reqwest::Client,
}

static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Our programs are taken from this directory, and not from beside the binary that runs. To be said first.
pub fn programs_are_in(dir: PathBuf) {
    assert!(PROGRAMS.set(dir).is_ok(), "where programs are is said before the first is started");
}

/// `target/<profile>`: the tests are built in `deps` there, programs in itself.
pub(crate) fn built_in() -> PathBuf {
    let own = std::env::current_exe().expect("our own binary has a path");
    let dir = own.parent().expect("a binary is in a directory");
    if dir.ends_with("deps") { dir.parent().expect("target/<profile>/deps").to_owned() } else { dir.to_owned() }
}

/// The programs are built beside the tests.
#[must_use]
pub(crate) fn binary(name: &str) -> PathBuf {
    let built = PROGRAMS.get_or_init(built_in).join(name);
    assert!(built.exists(), "{} is not built; run `cargo xtask test`, or `cargo build --workspace --bins` first", built.display());
    built
}

impl Program {
    pub(crate) async fn start(name: &'static str, environment: Vec<(String, String)>, dir: &Path, number: usize) -> Self {
        let value = |key: &str| environment.iter().find(|(name, _)| name == key).map(|(_, value)| format!("http://{value}"));
        let ops = value(if name == "inventory-api" { "INVENTORY_API_OPS_LISTEN" } else { "INVENTORY_WORKER_OPS_LISTEN" });
        let log = dir.join(format!("{name}-{number}.log"));
        let process = spawn(name, &environment, &log);
        let url = value("INVENTORY_API_LISTEN").unwrap_or_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client without TLS can be built");
        Self { name, environment, log, url, ops: ops.expect("an ops listener is set"), process, client }
    }

    /// Waits until the ops listener says that the program is ready.
    pub async fn ready(&mut self) {
        let (client, url) = (self.client.clone(), format!("{}/readyz", self.ops));
        eventually(&format!("{} is ready", self.name), SOON, async || {
            if let Some(status) = self.process.exited() {
                panic!("{} ended with {status}\n{}", self.name, self.process.log_tail());
            }
            let answer = client.get(&url).send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`], with the same settings and ports, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(self.name, &self.environment, &self.log);
        self.ready().await;
    }

    /// Asks it to end and waits for it; returns its exit code.
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        self.process.stop(limit).expect("the process can be stopped").code()
    }

    /// Sends a signal such as `STOP`, `CONT` or `TERM`.
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name).expect("the process can be signalled");
    }

    /// Waits until it ends by itself; returns its exit code and all that it wrote.
    pub async fn ended(&mut self) -> (Option<i32>, String) {
        let status = eventually(&format!("{} ends", self.name), SOON, async || self.process.exited()).await;
        (status.code(), self.log())
    }

    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.process.exited()
    }

    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Everything that `/metrics` shows.
    pub async fn metrics(&self) -> String {
        let answer = self.client.get(format!("{}/metrics", self.ops)).send().await.expect("metrics are served");
        answer.text().await.expect("metrics are text")
    }

    /// The value of one series, named with its labels as `/metrics` shows it.
    pub async fn metric(&self, series: &str) -> f64 {
        metric_in(&self.metrics().await, series).unwrap_or_else(|| panic!("{} has no {series}", self.name))
    }
}

fn spawn(name: &str, environment: &[(String, String)], log: &Path) -> Process {
    let mut command = Command::new(binary(name));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("INVENTORY_")) {
        command.env_remove(key);
    }
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    Process::spawn(name, command, log).unwrap_or_else(|error| panic!("cannot start {name}: {error}"))
}

/// The value of one series in the text of `/metrics`.
#[must_use]
pub fn metric_in(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
}
