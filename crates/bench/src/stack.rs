//! Everything that is measured: private Redis and MySQL, API and worker, a baseline; started, pinned, watched, ended.

mod account;
mod baseline;

pub(crate) use account::Account;
pub(crate) use baseline::Baseline;

use crate::connection::{ANSWER_LIMIT, Connection};
use crate::machine::{self, Cores};
use crate::requests::PRODUCTS;
use crate::usage::{self, Memory, Used, Who};
use anyhow::{Context, ensure};
use mysql_async::Pool;
use mysql_async::prelude::Queryable;
use redis::aio::MultiplexedConnection;
use servers::{AppendFsync, Mysql, MysqlOptions, Process, Redis, RedisOptions, free_port};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Products beyond the others, which only probes view.
pub(crate) const PROBES: usize = 16;

/// The database of API and worker, and that of the baselines, which has the same tables.
pub(crate) const OURS: &str = "inventory";
pub(crate) const THEIRS: &str = "baseline";

const READY_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(30);

/// How long a command of `inventoryctl`, of which the migration is the longest, or a question to MySQL may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// How long what was accepted may take to be in MySQL, and how often that is looked at.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
const DRAIN_POLL: Duration = Duration::from_millis(5);

pub(crate) struct Stack {
    dir: PathBuf,
    /// Where our programs are: beside this one.
    programs: PathBuf,
    pub(crate) cores: Cores,
    redis: Redis,
    mysql: Mysql,
    pub(crate) sql: Pool,
    pub(crate) redis_commands: MultiplexedConnection,
    api: Option<Process>,
    worker: Option<Process>,
    addresses: Addresses,
    /// Where our programs find MySQL, if not at its own port.
    detour: Option<u16>,
    /// Views that were answered 202 to us.
    pub(crate) accepted: u64,
    worker_peak_mib: f64,
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    api: SocketAddr,
    api_ops: SocketAddr,
    worker_ops: SocketAddr,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Api,
    Worker,
}

impl Stack {
    /// Empty servers with what both sides need, API and worker on them.
    ///
    /// # Errors
    /// Something could not be started; the text holds its log.
    pub(crate) async fn start(dir: PathBuf, cores: Cores) -> anyhow::Result<Self> {
        for old in ["redis", "mysql"] {
            let old = dir.join(old);
            if old.exists() {
                std::fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
            }
        }
        let redis = Redis::start(RedisOptions { dir: dir.join("redis"), append_fsync: AppendFsync::EverySec, ..Default::default() })?;
        let databases = [OURS, THEIRS].map(String::from).to_vec();
        // As `cargo xtask up` has it: room for what is measured without waiting for a checkpoint at every turn.
        let extra = ["--innodb-buffer-pool-size=256M", "--loose-innodb-log-file-size=64M", "--loose-innodb-redo-log-capacity=64M"];
        let extra = extra.map(String::from).to_vec();
        let mysql = Mysql::start(MysqlOptions { dir: dir.join("mysql"), databases, extra, ..Default::default() })?;
        cores.pin_server(redis.pid())?;
        cores.pin_server(mysql.pid())?;
        let sql = Pool::from_url(mysql.url(OURS))?;
        let redis_commands = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
        let addresses = Addresses { api: free_address()?, api_ops: free_address()?, worker_ops: free_address()? };
        let own = std::env::current_exe().context("our own program has no path")?;
        let programs = own.parent().context("our own program has no directory")?.to_owned();
        let (api, worker, detour, accepted, worker_peak_mib) = (None, None, None, 0, 0.0);
        let mut stack =
            Self { dir, programs, cores, redis, mysql, sql, redis_commands, api, worker, addresses, detour, accepted, worker_peak_mib };
        stack.prepare().await?;
        stack.start_api()?;
        stack.start_worker()?;
        Ok(stack)
    }

    /// The schema and the products, in both databases.
    async fn prepare(&self) -> anyhow::Result<()> {
        for database in [OURS, THEIRS] {
            self.inventoryctl(&["migrate", "--mysql-url", &self.mysql.url(database)]).await?;
        }
        let mut sql = self.sql.get_conn().await?;
        let row = |id: usize| format!("({id},'BENCH-{id}','Product {id} of the benchmark',9.99,'GBP')");
        let rows: Vec<String> = (1..=PRODUCTS + PROBES).map(row).collect();
        for database in [OURS, THEIRS] {
            let insert = format!("INSERT INTO {database}.products (id, sku, name, price, currency) VALUES {}", rows.join(","));
            sql.query_drop(insert).await?;
        }
        // An UPDATE needs rows that are there.
        sql.query_drop(format!("INSERT INTO {THEIRS}.product_views (product_id, views) SELECT id, 0 FROM {THEIRS}.products")).await?;
        Ok(())
    }

    fn spawn(&self, program: &str, name: &str) -> anyhow::Result<Process> {
        let mut command = self.cores.command(&self.programs.join(program));
        self.set_environment(&mut command);
        let log = self.dir.join(format!("{name}.log"));
        Ok(Process::spawn(name, command, &log)?)
    }

    /// Ours alone, whatever the caller's environment says.
    fn set_environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("INVENTORY_")) {
            command.env_remove(name);
        }
        let (own, port) = (self.mysql_port(), self.detour.unwrap_or(self.mysql_port()));
        let mysql = self.mysql.url(OURS).replace(&format!(":{own}/"), &format!(":{port}/"));
        command.env("INVENTORY_REDIS_URL", self.redis.url()).env("INVENTORY_MYSQL_URL", mysql);
        command.env("INVENTORY_API_THREADS", "1");
        command.env("INVENTORY_API_LISTEN", self.addresses.api.to_string());
        command.env("INVENTORY_API_OPS_LISTEN", self.addresses.api_ops.to_string());
        command.env("INVENTORY_WORKER_OPS_LISTEN", self.addresses.worker_ops.to_string());
    }

    pub(crate) fn mysql_port(&self) -> u16 {
        self.mysql.port()
    }

    /// Starts API and worker anew, with MySQL at this port, or at its own.
    ///
    /// # Errors
    /// One of them did not end, or is not ready in time.
    pub(crate) fn reroute(&mut self, port: Option<u16>) -> anyhow::Result<()> {
        self.stop_worker()?;
        if let Some(mut api) = self.api.take() {
            api.stop(END_LIMIT)?;
        }
        self.detour = port;
        self.start_api()?;
        self.start_worker()
    }

    fn start_api(&mut self) -> anyhow::Result<()> {
        self.api = Some(self.spawn("inventory-api", "api")?);
        wait_ready(self.api.as_mut(), self.addresses.api_ops)
    }

    /// Starts the API anew under another program; returns its process id, which is the same as that program's.
    ///
    /// # Errors
    /// It did not end, or is not ready in time.
    pub(crate) fn restart_api_under(&mut self, tool: &Path, arguments: &[&str]) -> anyhow::Result<u32> {
        if let Some(mut api) = self.api.take() {
            api.stop(END_LIMIT)?;
        }
        let mut command = self.cores.command(tool);
        command.args(arguments).arg(self.programs.join("inventory-api"));
        self.set_environment(&mut command);
        let api = self.api.insert(Process::spawn("api", command, &self.dir.join("api.log"))?);
        let pid = api.pid();
        wait_ready(self.api.as_mut(), self.addresses.api_ops)?;
        Ok(pid)
    }

    pub(crate) fn start_worker(&mut self) -> anyhow::Result<()> {
        self.worker = Some(self.spawn("inventory-worker", "worker")?);
        wait_ready(self.worker.as_mut(), self.addresses.worker_ops)
    }

    pub(crate) fn stop_worker(&mut self) -> anyhow::Result<()> {
        self.worker_memory()?;
        if let Some(mut worker) = self.worker.take() {
            worker.stop(END_LIMIT)?;
        }
        Ok(())
    }

    /// Kills one of ours with -9 and starts it again; nobody waits until it is ready.
    ///
    /// # Errors
    /// It had died by itself, or could not be started again.
    pub(crate) fn kill(&mut self, victim: Victim) -> anyhow::Result<()> {
        match victim {
            Victim::Api => {
                self.api.as_mut().map_or(Ok(()), kill)?;
                self.api = Some(self.spawn("inventory-api", "api")?);
            }
            Victim::Worker => {
                self.worker.as_mut().map_or(Ok(()), kill)?;
                self.worker = Some(self.spawn("inventory-worker", "worker")?);
            }
        }
        Ok(())
    }

    pub(crate) fn kill_mysql(&mut self) {
        self.mysql.kill();
    }

    /// Starts MySQL again; returns when clients can log in.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn return_mysql(&mut self) -> anyhow::Result<()> {
        self.mysql.restart()?;
        self.cores.pin_server(self.mysql.pid())?;
        self.sql = Pool::from_url(self.mysql.url(OURS))?;
        Ok(())
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.addresses.api
    }

    pub(crate) fn api_ops(&self) -> SocketAddr {
        self.addresses.api_ops
    }

    /// Redis syncs its log `always` or `everysec` from now on.
    pub(crate) async fn set_appendfsync(&mut self, fsync: &str) -> anyhow::Result<()> {
        let mut set = redis::cmd("CONFIG");
        Ok(set.arg("SET").arg("appendfsync").arg(fsync).query_async(&mut self.redis_commands).await?)
    }

    /// A figure of Redis's `INFO memory`.
    pub(crate) async fn redis_used_memory(&mut self) -> anyhow::Result<u64> {
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut self.redis_commands).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.context("INFO memory has no used_memory")
    }

    /// Deletes the cached record of a product.
    pub(crate) async fn drop_entry(&mut self, id: u64) -> anyhow::Result<()> {
        let pattern = format!("*:c:*:p:{id}");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut self.redis_commands).await?;
        for key in keys {
            redis::cmd("DEL").arg(key).query_async::<()>(&mut self.redis_commands).await?;
        }
        Ok(())
    }

    /// A number out of MySQL.
    pub(crate) async fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let answer = async { self.sql.get_conn().await?.query_first(sql).await };
        let answer = tokio::time::timeout(COMMAND_LIMIT, answer).await;
        let answer = answer.with_context(|| format!("MySQL has not answered after {COMMAND_LIMIT:?}: {sql}"))?;
        let value: Option<Option<u64>> = answer.with_context(|| sql.to_owned())?;
        Ok(value.flatten().unwrap_or_default())
    }

    pub(crate) async fn views_in(&self, database: &str) -> anyhow::Result<u64> {
        self.number(&format!("SELECT CAST(SUM(views) AS UNSIGNED) FROM {database}.product_views")).await
    }

    /// Views of each product that everything is measured with, in the order of their ids.
    pub(crate) async fn views_by_product(&self, database: &str) -> anyhow::Result<Vec<u64>> {
        let sql = format!("SELECT product_id, views FROM {database}.product_views WHERE product_id <= {PRODUCTS}");
        let rows: Vec<(u64, u64)> = self.sql.get_conn().await?.query(sql).await?;
        let mut views = vec![0; PRODUCTS];
        rows.into_iter().for_each(|(id, counted)| views[id as usize - 1] = counted);
        Ok(views)
    }

    /// Waits until every accepted view is in MySQL.
    ///
    /// # Errors
    /// It takes too long, or MySQL has more or less than was accepted.
    pub(crate) async fn wait_drained(&self) -> anyhow::Result<()> {
        let end = Instant::now() + DRAIN_LIMIT;
        let accepted = self.accepted;
        loop {
            // A row a shard: looking must not take time from what is looked at.
            let persisted = self.number("SELECT CAST(SUM(persisted) AS UNSIGNED) FROM view_shards").await?;
            if persisted >= accepted {
                break;
            }
            ensure!(Instant::now() < end, "{persisted} of {accepted} views are in MySQL after {DRAIN_LIMIT:?}: see worker.log");
            tokio::time::sleep(DRAIN_POLL).await;
        }
        let views = self.views_in(OURS).await?;
        ensure!(views == accepted, "{accepted} views were accepted and MySQL counts {views}");
        Ok(())
    }

    pub(crate) async fn api_metric(&self, series: &str) -> anyhow::Result<f64> {
        metric(self.addresses.api_ops, series).await
    }

    pub(crate) async fn worker_metric(&self, series: &str) -> anyhow::Result<f64> {
        metric(self.addresses.worker_ops, series).await
    }

    /// What was used up to now; of `baseline` instead of API and worker where there is one.
    ///
    /// # Errors
    /// One of them died.
    pub(crate) fn used(&self, baseline: Option<&Baseline>) -> anyhow::Result<Used> {
        let (server, worker) = match baseline {
            Some(baseline) => baseline.processes(),
            None => (self.api.as_ref(), self.worker.as_ref()),
        };
        let mut used = Used::new();
        for (who, pid) in [(Who::Redis, self.redis.pid()), (Who::Mysql, self.mysql.pid()), (Who::Load, std::process::id())] {
            used.insert(who, usage::of_process(pid)?);
        }
        for (who, process) in [(Who::Server, server), (Who::Worker, worker)] {
            if let Some(process) = process {
                used.insert(who, usage::of_process(process.pid()).map_err(|_| process.error("died while it was measured"))?);
            }
        }
        if let Cores::Apart { servers, load, .. } = &self.cores {
            used.insert(Who::ServersCore, usage::of_core(*servers)?);
            used.insert(Who::LoadCore, usage::of_core(*load)?);
        }
        Ok(used)
    }

    pub(crate) fn api_memory(&self) -> anyhow::Result<Memory> {
        usage::memory(self.api.as_ref().context("the API does not run")?.pid())
    }

    /// Its peak is that of all workers so far.
    pub(crate) fn worker_memory(&mut self) -> anyhow::Result<Memory> {
        let memory = self.worker.as_ref().map_or(Ok(Memory::default()), |worker| usage::memory(worker.pid()))?;
        self.worker_peak_mib = self.worker_peak_mib.max(memory.peak_mib);
        Ok(Memory { peak_mib: self.worker_peak_mib, ..memory })
    }

    pub(crate) fn redis_memory(&self) -> anyhow::Result<Memory> {
        usage::memory(self.redis.pid())
    }

    /// Versions of both servers, by what they say.
    pub(crate) async fn versions(&mut self) -> anyhow::Result<String> {
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut self.redis_commands).await?;
        let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?").trim().to_owned();
        let mysql: Option<String> = self.sql.get_conn().await?.query_first("SELECT VERSION()").await?;
        let name = if self.mysql.is_mariadb() { "MariaDB" } else { "MySQL" };
        Ok(format!("Redis {redis}, {name} {}", mysql.unwrap_or_default()))
    }

    /// What everything ran on, for the head of a table.
    pub(crate) async fn heading(&mut self) -> anyhow::Result<String> {
        Ok(format!("{}; {}  \n{}", machine::name(), self.cores.describe(), self.versions().await?))
    }

    /// Ends all in the order in which nothing is cut off.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        for mut program in [self.api.take(), self.worker.take()].into_iter().flatten() {
            program.stop(END_LIMIT)?;
        }
        self.redis.stop()?;
        Ok(self.mysql.stop()?)
    }
}

/// One that had died by itself is an error.
fn kill(process: &mut Process) -> anyhow::Result<()> {
    ensure!(process.exited().is_none(), "{}", process.error(format!("{} died by itself", process.name())));
    process.kill();
    Ok(())
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

fn wait_ready(process: Option<&mut Process>, ops: SocketAddr) -> anyhow::Result<()> {
    let process = process.context("it was not started")?;
    Ok(process.wait_ready(READY_LIMIT, |_| is_ready(ops).unwrap_or(false))?)
}

/// Without the runtime, which waits meanwhile.
fn is_ready(ops: SocketAddr) -> std::io::Result<bool> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(ops)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b"200"))
}

async fn metric(ops: SocketAddr, series: &str) -> anyhow::Result<f64> {
    let mut connection = Connection::open(ops).await?;
    let answer = connection.exchange_within(ANSWER_LIMIT, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await?;
    let text = std::str::from_utf8(answer.body)?;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.with_context(|| format!("{ops} has no metric {series}"))
}
