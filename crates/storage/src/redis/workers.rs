//! Which workers are connected, as Redis tells it: each keeps one connection that asks for tickets, under a name of its own.
//!
//! A worker that hangs keeps its connection, but no longer asks.

use super::Node;
use crate::Error;
use redis::Cmd;
use telemetry::metrics::RedisOp;

/// Of the connections of workers; the process id follows.
const NAME: &str = "inventory-worker:";

/// A worker's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// `inventory-worker:` and the id of the process on its machine.
    pub name: String,
    /// Address and port that it comes from.
    pub address: String,
    pub connected_seconds: u64,
    /// Since it last asked for a ticket, which it does every second whatever else it is at.
    pub silent_seconds: u64,
}

/// A worker that has been silent for so long hangs, or cannot reach Redis.
const SILENT_SECONDS: u64 = 5;

impl Worker {
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.silent_seconds >= SILENT_SECONDS
    }
}

/// The name under which this process asks for tickets.
pub(super) fn own_name() -> String {
    format!("{NAME}{}", std::process::id())
}

/// Who asks for tickets, the longest connected first.
///
/// # Errors
/// As any command. A user without the right to list clients is refused, which is `Bug`.
pub async fn workers(queue: &Node) -> Result<Vec<Worker>, Error> {
    Ok(listed(&queue.session()?.command::<String>(RedisOp::Status, &list()).await?))
}

pub(super) fn list() -> Cmd {
    ::redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal").to_owned()
}

/// The workers among the clients that Redis listed.
pub(super) fn listed(clients: &str) -> Vec<Worker> {
    let mut workers: Vec<Worker> = clients.lines().filter_map(parse).collect();
    workers.sort_by_key(|worker| std::cmp::Reverse(worker.connected_seconds));
    workers
}

/// One line of the list: `id=3 addr=127.0.0.1:50002 name=… age=12 idle=0 … cmd=blpop …`.
/// <https://redis.io/docs/latest/commands/client-list/>
fn parse(line: &str) -> Option<Worker> {
    let field = |name: &str| line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let name = field("name").filter(|name| name.starts_with(NAME))?;
    Some(Worker {
        name: name.to_owned(),
        address: field("addr")?.to_owned(),
        connected_seconds: field("age")?.parse().ok()?,
        silent_seconds: field("idle")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_by_its_name_and_one_that_hangs_by_its_silence() {
        let line = |name: &str, idle: u64| {
            format!(
                "id=7 addr=10.1.2.3:50002 laddr=10.1.2.1:6379 fd=9 name={name} age=61 idle={idle} flags=b db=0 sub=0 cmd=blpop user=default"
            )
        };
        let worker = |silent_seconds| Worker {
            name: "inventory-worker:12".into(),
            address: "10.1.2.3:50002".into(),
            connected_seconds: 61,
            silent_seconds,
        };
        assert_eq!(parse(&line("inventory-worker:12", 1)), Some(worker(1)));
        assert_eq!([4, 5].map(|seconds| worker(seconds).hangs()), [false, true]);
        assert_eq!(parse(&line("", 0)), None);
        assert_eq!(parse("# nothing"), None);
    }
}
