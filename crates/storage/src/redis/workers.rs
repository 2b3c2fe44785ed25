//! Which workers are connected, as Redis tells it: each keeps one connection that waits for tickets, under a name of its own.
//!
//! A worker that hangs keeps its connection, so that being listed is not yet being at work.

use super::Node;
use crate::Error;
use telemetry::metrics::RedisOp;

/// Of the connections of workers; the process id follows.
pub(super) const NAME: &str = "inventory-worker:";

/// A worker's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// `inventory-worker:` and the id of the process on its machine.
    pub name: String,
    /// Address and port that it comes from.
    pub address: String,
    pub connected_seconds: u64,
    /// Whether it waits for a ticket at this moment; otherwise it drains, or hangs.
    pub waits: bool,
}

/// The name under which this process waits for tickets.
pub(super) fn own_name() -> String {
    format!("{NAME}{}", std::process::id())
}

/// Who waits for tickets, the longest connected first.
///
/// # Errors
/// As any command. A user without the right to list clients is refused, which is `Bug`.
pub async fn workers(queue: &Node) -> Result<Vec<Worker>, Error> {
    let mut command = ::redis::cmd("CLIENT");
    command.arg("LIST").arg("TYPE").arg("normal");
    let text: String = queue.session()?.command(RedisOp::Status, &command).await?;
    let mut workers: Vec<Worker> = text.lines().filter_map(parse).collect();
    workers.sort_by_key(|worker| std::cmp::Reverse(worker.connected_seconds));
    Ok(workers)
}

/// One line of the list: `id=3 addr=127.0.0.1:50002 name=… age=12 … flags=b … cmd=blpop …`.
/// <https://redis.io/docs/latest/commands/client-list/>
fn parse(line: &str) -> Option<Worker> {
    let field = |name: &str| line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let name = field("name").filter(|name| name.starts_with(NAME))?;
    Some(Worker {
        name: name.to_owned(),
        address: field("addr")?.to_owned(),
        connected_seconds: field("age")?.parse().ok()?,
        waits: field("flags")?.contains('b'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_by_its_name() {
        let line = |name: &str, flags: &str| {
            format!(
                "id=7 addr=10.1.2.3:50002 laddr=10.1.2.1:6379 fd=9 name={name} age=61 idle=0 flags={flags} db=0 sub=0 cmd=blpop user=default"
            )
        };
        let worker = |waits| Worker { name: "inventory-worker:12".into(), address: "10.1.2.3:50002".into(), connected_seconds: 61, waits };
        assert_eq!(parse(&line("inventory-worker:12", "b")), Some(worker(true)));
        assert_eq!(parse(&line("inventory-worker:12", "N")), Some(worker(false)));
        assert_eq!(parse(&line("", "b")), None);
        assert_eq!(parse("# nothing"), None);
    }
}
