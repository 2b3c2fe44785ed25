//! What `up` runs: two servers, two programs; how each is started, killed, started again and ended.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use servers::{Mysql, MysqlOptions, Process, Redis, RedisOptions, free_port};
use signal_hook::consts::SIGKILL;

use super::lives::{LASTING, Lives, SHORT_LIVES};
use super::{Stop, http};
use crate::place::Place;
use crate::screen::{live, say};
use crate::{Result, json};

/// Their usual time limit for ending (INVENTORY_SHUTDOWN_TIMEOUT, 25 s) and a little.
const END_DEADLINE: Duration = Duration::from_secs(30);
const READY_DEADLINE: Duration = Duration::from_secs(60);
const DATABASE: &str = "inventory";

/// The four that can be killed, by typing their name or from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Redis,
    Mysql,
    Api,
    Worker,
}

impl Part {
    /// Those first that the others need to be ready.
    pub(super) const ALL: [Self; 4] = [Self::Redis, Self::Mysql, Self::Api, Self::Worker];
    const SERVERS: [Self; 2] = [Self::Redis, Self::Mysql];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Redis => "redis",
            Self::Mysql => "mysql",
            Self::Api => "api",
        }
    }
}

pub(super) struct Stack {
    place: Place,
    ports: Ports,
    redis: Option<Redis>,
    mysql: Option<Mysql>,
    api: Option<Process>,
    worker: Option<Process>,
    /// In the order of `Part`.
    lives: [Lives; 4],
}

#[derive(Default)]
struct Ports {
    api: u16,
    api_ops: u16,
    worker_ops: u16,
}

impl Stack {
    pub(super) fn new(place: Place) -> Self {
        let ports = Ports::default();
        Self { place, ports, redis: None, mysql: None, api: None, worker: None, lives: Default::default() }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Both at once: they use different things (MySQL the disk, Redis next to nothing).
    pub(super) fn start_servers(&mut self) -> Result<()> {
        let up = self.place.up();
        let redis = RedisOptions { dir: up.join("redis"), ..Default::default() };
        let mysql = MysqlOptions {
            dir: up.join("mysql"),
            databases: vec![DATABASE.to_owned()],
            // Room for a month of prices without waiting for the disk at every turn.
            extra: ["--innodb-buffer-pool-size=256M", "--loose-innodb-log-file-size=64M", "--loose-innodb-redo-log-capacity=64M"]
                .map(String::from)
                .to_vec(),
            ..Default::default()
        };
        let (redis, mysql) = thread::scope(|scope| {
            let redis = scope.spawn(|| Redis::start(redis));
            let mysql = Mysql::start(mysql);
            (redis.join(), mysql)
        });
        let redis = redis.map_err(|_| "starting Redis panicked")?;
        // Both are kept before either error is looked at, so that the other is stopped cleanly.
        let (redis, redis_error) = split(redis);
        let (mysql, mysql_error) = split(mysql);
        (self.redis, self.mysql) = (redis, mysql);
        if let Some(error) = redis_error.or(mysql_error) {
            return Err(error.into());
        }
        Part::SERVERS.into_iter().for_each(|part| self.lives(part).serves(Instant::now()));
        Ok(())
    }

    /// API and worker, on their usual ports if those are free.
    pub(super) fn start_programs(&mut self, stop: &Stop) -> Result<()> {
        self.ports = Ports {
            api: usual_port("the API", 8080)?,
            api_ops: usual_port("the API's metrics and health", 8081)?,
            worker_ops: usual_port("the worker's metrics and health", 8082)?,
        };
        self.api = Some(self.program("api")?);
        self.worker = Some(self.program("worker")?);
        self.wait_for(Part::Api, stop)?;
        self.wait_for(Part::Worker, stop)
    }

    fn program(&self, name: &str) -> Result<Process> {
        let log = self.place.up().join(format!("{name}.log"));
        Ok(Process::spawn(name, self.command(&format!("inventory-{name}")), &log)?)
    }

    /// One of our three programs, pointed at these servers whatever the caller's environment says.
    pub(super) fn command(&self, program: &str) -> Command {
        const OURS: [&str; 6] = ["_URL", "_TOKEN", "_TLS_", "_LISTEN", "_KEY_PREFIX", "_CORS_"];
        let mut command = self.place.program(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("INVENTORY_") && OURS.iter().any(|part| text.contains(part)) {
                command.env_remove(&name);
            }
        }
        if let (Some(redis), Some(mysql)) = (&self.redis, &self.mysql) {
            command.env("INVENTORY_REDIS_URL", redis.url());
            command.env("INVENTORY_MYSQL_URL", mysql.url(DATABASE));
        }
        let local = |port: u16| format!("127.0.0.1:{port}");
        if self.ports.api != 0 {
            command.env("INVENTORY_API_LISTEN", local(self.ports.api));
            command.env("INVENTORY_API_OPS_LISTEN", local(self.ports.api_ops));
            command.env("INVENTORY_WORKER_OPS_LISTEN", local(self.ports.worker_ops));
            command.env("INVENTORY_URL", self.url());
        }
        command
    }

    /// Writes what a shell needs to speak to these servers, and says how to use it.
    pub(super) fn say_shell_line(&self) -> Result<()> {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut lines = format!("export PATH={}:\"$PATH\"\n", quoted(&self.place.programs.display().to_string()));
        if let Some(mysql) = &self.mysql {
            lines += &format!("export MYSQL_PORT={}\n", mysql.port());
        }
        for (key, value) in self.command("inventoryctl").get_envs() {
            lines += &match value {
                Some(value) => format!("export {}={}\n", key.display(), quoted(&value.to_string_lossy())),
                None => format!("unset {}\n", key.display()),
            };
        }
        let file = self.place.up().join("env");
        std::fs::write(&file, lines)?;
        let shown = file.strip_prefix(&self.place.root).unwrap_or(&file);
        say(format!("in a browser: http://127.0.0.1:{}/console", self.ports.api_ops));
        say(format!("in another terminal: . {}; inventoryctl --help", shown.display()));
        Ok(())
    }

    /// An `inventoryctl` command that may run for a while: what it prints goes to `NAME.out`, what
    /// it says of its progress to `NAME.log`, both in target/up.
    pub(super) fn inventoryctl(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let inner = self.command("inventoryctl");
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$@" > "$0""#]).arg(self.out(name)).arg(inner.get_program());
        command.args(arguments).current_dir(&self.place.root);
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Ok(Process::spawn(name, command, &self.place.up().join(format!("{name}.log")))?)
    }

    pub(super) fn output_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.out(name)).unwrap_or_default()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.place.up().join(format!("{name}.out"))
    }

    /// Prints the live line's figures, an object a second, for as long as it runs.
    pub(super) fn figures_command(&self) -> Command {
        let mut command = self.command("inventoryctl");
        command.args(["queue", "status", "--watch", "-o", "ndjson"]);
        command
    }

    /// Because its name was typed; such a death is not held against it.
    pub(super) fn kill(&mut self, part: Part) -> Result<u32> {
        *self.lives(part) = Lives::default();
        let pid = match part {
            Part::Redis => self.redis.as_mut().map(|it| (it.pid(), it.kill())),
            Part::Mysql => self.mysql.as_mut().map(|it| (it.pid(), it.kill())),
            Part::Api => self.api.as_mut().map(|it| (it.pid(), it.kill())),
            Part::Worker => self.worker.as_mut().map(|it| (it.pid(), it.kill())),
        };
        pid.map(|(pid, ())| pid).ok_or_else(|| format!("{} does not run", part.name()).into())
    }

    /// After it ended: starts it as it was, and waits until it serves. An error once it may not be tried again.
    pub(super) fn start_again(&mut self, part: Part, stop: &Stop) -> Result<()> {
        loop {
            let started = self.start(part, stop);
            stop.check()?;
            match started {
                Ok(()) => return Ok(()),
                Err(error) if !self.lives(part).ended(Instant::now()) => return Err(given_up(part, &error.to_string()).into()),
                Err(_) => say(format!("{} did not come up: trying again", part.name())),
            }
        }
    }

    fn start(&mut self, part: Part, stop: &Stop) -> Result<()> {
        match part {
            Part::Redis => self.redis.as_mut().map_or(Ok(()), |redis| redis.restart())?,
            Part::Mysql => self.mysql.as_mut().map_or(Ok(()), |mysql| mysql.restart())?,
            Part::Api => self.api = Some(self.program("api")?),
            Part::Worker => self.worker = Some(self.program("worker")?),
        }
        if Part::SERVERS.contains(&part) {
            self.lives(part).serves(Instant::now());
            return Ok(());
        }
        self.wait_for(part, stop)
    }

    /// A program is ready once its servers are, so these are looked after meanwhile.
    fn wait_for(&mut self, part: Part, stop: &Stop) -> Result<()> {
        let (process, port) = match part {
            Part::Api => (self.api.take(), self.ports.api_ops),
            _ => (self.worker.take(), self.ports.worker_ops),
        };
        let Some(mut process) = process else { return Ok(()) };
        let mut servers = Ok(());
        let waited = process.wait_ready(READY_DEADLINE, |_| {
            servers = stop.check().and_then(|()| self.look_after(&Part::SERVERS, stop));
            servers.is_err() || http::is_ok(port, "/readyz")
        });
        if waited.is_err() {
            // Alive, but not ready: the next one needs its ports.
            process.kill();
        }
        match part {
            Part::Api => self.api = Some(process),
            _ => self.worker = Some(process),
        }
        servers?;
        waited?;
        self.lives(part).serves(Instant::now());
        Ok(())
    }

    /// Starts again what ended without being asked to. An error once it may not be tried again.
    pub(super) fn look_after(&mut self, parts: &[Part], stop: &Stop) -> Result<()> {
        for &part in parts {
            let Some((pid, status)) = self.ended(part) else { continue };
            stop.check()?;
            // Nothing kills itself with -9; the rest may have been asked to end, or be a fault of its own.
            let how = if status.signal() == Some(SIGKILL) { "was killed from elsewhere" } else { "ended, not by us" };
            let what = format!("{} (process {pid}) {how} ({status})", part.name());
            if !self.lives(part).ended(Instant::now()) {
                return Err(given_up(part, &self.error(part, what)).into());
            }
            say(format!("{what}: starting it again"));
            let start = Instant::now();
            self.start_again(part, stop)?;
            say(format!("{} is back after {:.2} s", part.name(), start.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    /// The process of one of the four and how it ended, if it did.
    fn ended(&mut self, part: Part) -> Option<(u32, ExitStatus)> {
        match part {
            Part::Redis => self.redis.as_mut().and_then(|it| Some((it.pid(), it.exited()?))),
            Part::Mysql => self.mysql.as_mut().and_then(|it| Some((it.pid(), it.exited()?))),
            Part::Api => self.api.as_mut().and_then(|it| Some((it.pid(), it.exited()?))),
            Part::Worker => self.worker.as_mut().and_then(|it| Some((it.pid(), it.exited()?))),
        }
    }

    /// With its command line and the end of its log.
    fn error(&self, part: Part, what: String) -> String {
        let error = match part {
            Part::Redis => self.redis.as_ref().map(|it| it.error(&what)),
            Part::Mysql => self.mysql.as_ref().map(|it| it.error(&what)),
            Part::Api => self.api.as_ref().map(|it| it.error(&what)),
            Part::Worker => self.worker.as_ref().map(|it| it.error(&what)),
        };
        error.map_or(what, |error| error.to_string())
    }

    fn lives(&mut self, part: Part) -> &mut Lives {
        &mut self.lives[part as usize]
    }

    /// Ends everything in the order in which nothing is cut off: API (answers what it has), worker (settles the batch in hand), then the servers.
    pub(super) fn end(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut failed = None;
        for mut program in [self.api.take(), self.worker.take()].into_iter().flatten() {
            live(format!("ending {}", program.name()));
            failed = failed.or(program.stop(END_DEADLINE).err());
        }
        live("ending redis and mysql");
        failed = failed.or(self.redis.take().and_then(|mut redis| redis.stop().err()));
        failed = failed.or(self.mysql.take().and_then(|mut mysql| mysql.stop().err()));
        live("");
        say(format!("everything ended in {:.1} s", start.elapsed().as_secs_f64()));
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Logs are of this run only: an error shows their tails.
    pub(super) fn empty_logs(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.place.up())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_replayed(&self) -> bool {
        self.place.up().join("replayed").exists()
    }

    pub(super) fn mark_replay_begun(&self) -> Result<()> {
        Ok(std::fs::write(self.place.up().join("replay-begun"), "")?)
    }

    pub(super) fn mark_replayed(&self) -> Result<()> {
        Ok(std::fs::write(self.place.up().join("replayed"), self.output_of("replay"))?)
    }

    /// Half a month already played would be played again on top: then begin with empty servers.
    pub(super) fn forget_if_cut_short(&self) -> Result<()> {
        let begun = self.place.up().join("replay-begun");
        if self.is_replayed() || !begun.exists() {
            return Ok(());
        }
        say("the last replay was cut short: beginning anew with empty servers");
        for server in ["redis", "mysql"] {
            let dir = self.place.up().join(server);
            if dir.exists() {
                std::fs::remove_dir_all(dir)?;
            }
        }
        Ok(std::fs::remove_file(begun)?)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.api)
    }

    /// One for each path: read-through, write-through, write-behind.
    pub(super) fn say_curl_lines(&self) {
        const SKU: &str = "85123A";
        let url = self.url();
        let found = http::get(self.ports.api, &format!("/v1/products?skus={SKU}"));
        let id = found.ok().and_then(|answer| json::count(&answer, "id")).unwrap_or(1);
        say(format!("curl '{url}/v1/products?skus={SKU}'"));
        say(format!(
            "curl -X PUT {url}/v1/products/{id}/price -H 'Content-Type: application/json' -d '{{\"amount\":\"2.25\",\"currency\":\"GBP\"}}'"
        ));
        say(format!("curl -i -X POST {url}/v1/products/{id}/views\n"));
    }
}

fn given_up(part: Part, error: &str) -> String {
    format!("{} is not started again, as {SHORT_LIVES} starts in a row did not last {LASTING:?}: {error}", part.name())
}

fn split<T, E>(result: std::result::Result<T, E>) -> (Option<T>, Option<E>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}

fn usual_port(whose: &str, usual: u16) -> Result<u16> {
    if TcpListener::bind(("127.0.0.1", usual)).is_ok() {
        return Ok(usual);
    }
    let other = free_port()?;
    say(format!("port {usual} is taken: {whose} is on {other}"));
    Ok(other)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use servers::wait_until;

    use super::*;

    fn stack(name: &str) -> Stack {
        let target = std::env::temp_dir().join(format!("xtask-up-{name}-{}", std::process::id()));
        std::fs::create_dir_all(target.join("up")).unwrap();
        Stack::new(Place { root: target.clone(), programs: target.clone(), target })
    }

    fn remove(stack: Stack) {
        let target = stack.place.target.clone();
        drop(stack);
        std::fs::remove_dir_all(target).unwrap();
    }

    /// As somebody in another terminal does it.
    fn kill_from_elsewhere(stack: &mut Stack, part: Part, pid: u32) {
        let killed = Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap();
        assert!(killed.success());
        assert!(wait_until(Duration::from_secs(10), || stack.ended(part).is_some()));
    }

    #[test]
    fn servers_killed_from_elsewhere_at_once_are_started_again_where_they_were() {
        let mut stack = stack("killed");
        stack.start_servers().unwrap();
        let addresses = |stack: &Stack| (stack.redis.as_ref().unwrap().url(), stack.mysql.as_ref().unwrap().url(DATABASE));
        let pids = |stack: &Stack| [stack.redis.as_ref().unwrap().pid(), stack.mysql.as_ref().unwrap().pid()];
        let (before, [redis, mysql]) = (addresses(&stack), pids(&stack));
        kill_from_elsewhere(&mut stack, Part::Redis, redis);
        kill_from_elsewhere(&mut stack, Part::Mysql, mysql);
        stack.look_after(&Part::ALL, &Stop(Arc::default())).unwrap();
        assert_eq!(Part::ALL.map(|part| stack.ended(part)), [None; 4]);
        assert_eq!(addresses(&stack), before);
        let [redis_now, mysql_now] = pids(&stack);
        assert!(redis_now != redis && mysql_now != mysql);
        remove(stack);
    }

    #[test]
    fn what_cannot_start_again_is_given_up_with_its_name_its_status_and_the_end_of_its_log() {
        let mut stack = stack("given-up");
        let dir = stack.place.up().join("redis");
        let redis = stack.redis.insert(Redis::start(RedisOptions { dir: dir.clone(), ..Default::default() }).unwrap());
        let pid = redis.pid();
        let log = dir.join("appendonlydir/appendonly.aof.manifest");
        std::fs::write(log, "no manifest\n").unwrap();
        kill_from_elsewhere(&mut stack, Part::Redis, pid);
        let error = stack.look_after(&Part::ALL, &Stop(Arc::default())).unwrap_err().to_string();
        assert!(error.starts_with("redis is not started again, as 3 starts in a row did not last 5s: "), "{error}");
        assert!(error.contains("redis-server ended at start (exit status: 1)") && error.contains(">>> 'no manifest'"), "{error}");
        remove(stack);
    }
}
