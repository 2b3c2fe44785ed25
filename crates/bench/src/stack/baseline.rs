//! The processes of a baseline: its server, and the worker of its queue where it has one.

use super::{READY_LIMIT, Stack, THEIRS, Victim, free_address, kill};
use crate::baselines::{Kind, TOTALS};
use crate::connection::{ANSWER_LIMIT, Connection};
use anyhow::ensure;
use servers::Process;
use std::net::SocketAddr;
use std::process::Command;

/// Dropping it kills both.
pub(crate) struct Baseline {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// What it answers a GET of any product with.
    product: String,
    server: Process,
    worker: Option<Process>,
}

impl Baseline {
    pub(super) fn processes(&self) -> (Option<&Process>, Option<&Process>) {
        (Some(&self.server), self.worker.as_ref())
    }
}

impl Stack {
    /// A server to compare with, with the API's own answer for a product. Kept for one row.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) async fn start_baseline(&self, kind: Kind) -> anyhow::Result<Baseline> {
        let mut connection = Connection::open(self.api()).await?;
        let answer = connection.exchange_within(ANSWER_LIMIT, b"GET /v1/products/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await?;
        ensure!(answer.is_success(), "the API does not answer for product 1: {}", String::from_utf8_lossy(answer.body));
        let product = String::from_utf8_lossy(answer.body).into_owned();
        let address = free_address()?;
        let mut server = self.spawn_server(kind, address, &product)?;
        server.wait_ready(READY_LIMIT, |_| std::net::TcpStream::connect(address).is_ok())?;
        Ok(Baseline { kind, address, product, server, worker: None })
    }

    fn spawn_server(&self, kind: Kind, address: SocketAddr, product: &str) -> anyhow::Result<Process> {
        let arguments = ["serve", kind.name(), "--listen", &address.to_string(), "--product", product];
        Ok(Process::spawn(kind.name(), self.own_command(&arguments), &self.dir.join(format!("{}.log", kind.name())))?)
    }

    /// Does nothing where no view waits.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) fn start_worker_of(&self, baseline: &mut Baseline) -> anyhow::Result<()> {
        if baseline.kind.queue().is_some() {
            let name = format!("{}-worker", baseline.kind.name());
            let command = self.own_command(&["work", baseline.kind.name()]);
            baseline.worker = Some(Process::spawn(&name, command, &self.dir.join(format!("{name}.log")))?);
        }
        Ok(())
    }

    /// As [`Stack::kill`], for a baseline.
    ///
    /// # Errors
    /// It had died by itself, or could not be started again.
    pub(crate) fn kill_of(&self, baseline: &mut Baseline, victim: Victim) -> anyhow::Result<()> {
        match victim {
            Victim::Api => {
                kill(&mut baseline.server)?;
                baseline.server = self.spawn_server(baseline.kind, baseline.address, &baseline.product)?;
            }
            Victim::Worker => {
                baseline.worker.as_mut().map_or(Ok(()), kill)?;
                self.start_worker_of(baseline)?;
            }
        }
        Ok(())
    }

    /// How many views wait.
    pub(crate) async fn waiting_in(&mut self, baseline: &Baseline) -> anyhow::Result<u64> {
        let Some((length, key)) = baseline.kind.queue() else { return Ok(0) };
        Ok(redis::cmd(length).arg(key).query_async(&mut self.redis_commands).await?)
    }

    /// Ends the worker and throws away what it has not got to; returns how many views that were.
    ///
    /// # Errors
    /// It died by itself.
    pub(crate) async fn forget_views_of(&mut self, baseline: &mut Baseline) -> anyhow::Result<u64> {
        if let Some(mut worker) = baseline.worker.take() {
            ensure!(worker.exited().is_none(), "{}", worker.error("the baseline's worker died by itself"));
            worker.kill();
        }
        let left = self.waiting_in(baseline).await?;
        if let Some((_, key)) = baseline.kind.queue() {
            redis::cmd("DEL").arg(key).arg(TOTALS).query_async::<()>(&mut self.redis_commands).await?;
        }
        Ok(left)
    }

    fn own_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cores.command(&self.programs.join("bench"));
        command.args(arguments).args(["--mysql-url", &self.mysql.url(THEIRS), "--redis-url", &self.redis.url()]);
        command
    }
}
