//! A section of the runbook on a real shop: its commands are run in the order of the text, by `sh`, with the environment that the
//! opening speaks of.

use super::book::{Block, Book, Kind, is_like};
use harness::{Program, Shop};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Above every wait that the text asks for.
const LIMIT: Duration = Duration::from_secs(120);

/// A shop, and where a reader is in a section.
pub(super) struct Walk {
    name: String,
    blocks: Vec<Block>,
    at: usize,
    /// The opening's settings and functions.
    opening: String,
    environment: Vec<(String, String)>,
    /// What stands in the text for what is this shop's own.
    names: Vec<(String, String)>,
    directory: std::path::PathBuf,
}

fn built() -> std::path::PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// The client of the server that the tests use; by its other name where that is MySQL.
pub(super) fn client(mariadb: &str, mysql: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).exists());
    let found = [mariadb, mysql].into_iter().find(is_there);
    found.unwrap_or_else(|| panic!("{mariadb} is not installed; type\n  apt-get install curl mariadb-client redis-tools")).to_owned()
}

/// How an administrator reaches a server, for a client's command line.
pub(super) fn as_root(port: u16) -> String {
    format!("-h 127.0.0.1 -P {port} -u root")
}

impl Walk {
    /// Begins a section, as somebody at the machine of this API and this worker, which need not run.
    pub(super) fn new(name: &str, shop: &Shop, api: &Program, worker: &Program) -> Self {
        for name in ["curl", "redis-cli"] {
            client(name, name);
        }
        let book = Book::read();
        let host = |url: &str| url.trim_start_matches("http://").to_owned();
        let mut environment = shop.settings("inventory_api", &[]);
        let path = std::env::var("PATH").unwrap_or_default();
        let (database, root) = (shop.database(), as_root(shop.mysql_port()));
        for (name, value) in [
            ("PATH", format!("{}:{path}", built().display())),
            ("USER", "anna".into()),
            ("HOSTNAME", "shop1".into()),
            ("INVENTORY_URL", api.url.clone()),
            ("INVENTORY_API_OPS_LISTEN", host(&api.ops)),
            ("INVENTORY_WORKER_OPS_LISTEN", host(&worker.ops)),
            ("SQL", format!("{} --table {root} {database}", client("mariadb", "mysql"))),
            ("DATABASE", database.into()),
            ("DUMP_OPTIONS", format!("--single-transaction {root}")),
            ("MIGRATE_URL", shop.mysql_url("inventory_migrate")),
            ("SKU", "P1".into()),
        ] {
            environment.push((name.into(), value));
        }
        let opening = book.opening.clone();
        let section = book.section(name);
        let names = vec![(database.to_owned(), "inventory".to_owned())];
        Self { name: name.into(), blocks: section.blocks.clone(), at: 0, opening, environment, names, directory: shop.dir().into() }
    }

    /// The words in the first column of its table.
    pub(super) fn table(&self) -> Vec<String> {
        let book = Book::read();
        let rows = book.section(&self.name).text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        rows.map(str::to_owned).collect()
    }

    /// One of the variables that the text names, or another value for it.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Runs what comes until something is to be done by hand, or the section ends; returns what each block printed.
    pub(super) async fn run(&mut self) -> Vec<String> {
        let mut printed = Vec::<String>::new();
        while let Some(block) = self.next() {
            match block.kind {
                Kind::ByHand if is_looking(&block) => {}
                Kind::ByHand => {
                    self.at -= 1;
                    break;
                }
                Kind::Output => {
                    let output = printed.last().expect("output stands behind a command");
                    let found = is_like(&block.text, output);
                    found.unwrap_or_else(|why| panic!("{}, line {}: {why} in\n{output}", self.name, block.line));
                }
                Kind::Sh => printed.push(self.sh(&block).await),
            }
        }
        printed
    }

    /// Runs what comes up to the block that begins with these words.
    pub(super) async fn run_before(&mut self, start: &str) {
        let found = self.blocks[self.at..].iter().position(|block| block.kind == Kind::Sh && block.text.starts_with(start));
        let end = self.at + found.unwrap_or_else(|| panic!("{}: no block begins with {start}", self.name));
        let after = self.blocks.split_off(end);
        self.run().await;
        assert_eq!(self.at, end, "{}: something is to be done by hand before {start}", self.name);
        self.blocks.extend(after);
    }

    /// What the text has to be done now and cannot be typed here. The caller does it.
    pub(super) fn by_hand(&mut self, lines: &[&str]) {
        let block = self.next().unwrap_or_else(|| panic!("{}: the section ends before {lines:?}", self.name));
        let told: Vec<_> = block.text.lines().filter(|line| !line.starts_with("journalctl ")).collect();
        assert_eq!((block.kind, told.as_slice()), (Kind::ByHand, lines), "{}, line {}", self.name, block.line);
    }

    /// Nothing is left.
    pub(super) fn end(mut self) {
        let left = self.next();
        assert!(left.is_none(), "{}: {left:?} was not run", self.name);
    }

    fn next(&mut self) -> Option<Block> {
        let block = self.blocks.get(self.at).cloned();
        self.at += usize::from(block.is_some());
        block
    }

    async fn sh(&self, block: &Block) -> String {
        let script = format!("exec 2>&1\nset -e\n{}\n{}", self.opening, block.text);
        let mut command = Command::new("sh");
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("INVENTORY_")) {
            command.env_remove(key);
        }
        command.arg("-c").arg(script).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.current_dir(&self.directory).stdin(Stdio::null()).kill_on_drop(true);
        let place = format!("{}, line {}", self.name, block.line);
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{place}: no end within {LIMIT:?}")).expect("sh can be run");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        for (own, name) in &self.names {
            text = text.replace(own, name);
        }
        println!("--- {place}\n{}{text}[exit code {:?}]", block.text, output.status.code());
        assert_eq!(output.status.code(), Some(block.exit_code()), "{place}: {}{text}", block.text);
        text
    }
}

/// Only looks at what systemd knows.
fn is_looking(block: &Block) -> bool {
    block.text.lines().all(|line| line.starts_with("journalctl ") || line.starts_with("systemctl status "))
}
