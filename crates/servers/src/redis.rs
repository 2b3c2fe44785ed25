//! A private redis-server, with the settings of `deploy/redis.conf`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::server::{Recipe, Server, absolute};
use crate::{Error, Program, Result, find};

const SETTINGS: &str = include_str!("../../../deploy/redis.conf");

/// What Redis remembers of the writes that it acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendFsync {
    /// All, even after a power cut.
    #[default]
    Always,
    /// All after a kill; all but the last second or two after a power cut.
    EverySec,
    /// Nothing: without a log, a restarted server is empty.
    Off,
}

#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Everything of this server lies here; made if absent, and kept.
    pub dir: PathBuf,
    /// `None`: a free one is chosen.
    pub port: Option<u16>,
    pub append_fsync: AppendFsync,
    /// `None`: no limit.
    pub maxmemory_bytes: Option<u64>,
    /// `None`: as in `deploy/redis.conf`.
    pub maxmemory_policy: Option<String>,
    /// More arguments, e.g. `--hz`, `100`; they win over all else.
    pub extra: Vec<String>,
}

/// A running redis-server. Dropping it kills it; its data stay in its directory.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts the server and waits until it answers PING. On a directory with data it has them.
    pub fn start(mut options: RedisOptions) -> Result<Self> {
        let program = find(Program::RedisServer)?;
        options.dir = absolute(&options.dir)?;
        let (dir, port) = (options.dir.clone(), options.port);
        let settings = dir.join("redis.conf");
        let recipe = Recipe {
            name: "redis-server",
            dir,
            command: {
                let settings = settings.clone();
                Box::new(move |port| command(&program, &settings, &options, port))
            },
            ready,
        };
        let prepare = || std::fs::write(&settings, SETTINGS).map_err(Error::io(format!("writing {}", settings.display())));
        Server::start(recipe, port, prepare).map(Self)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port())
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}

fn command(program: &Path, settings: &Path, options: &RedisOptions, port: u16) -> Command {
    let mut command = Command::new(program);
    command.arg(settings).args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    command.arg("--dir").arg(&options.dir).args(["--daemonize", "no"]);
    match options.append_fsync {
        AppendFsync::Always => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        AppendFsync::EverySec => command.args(["--appendonly", "yes", "--appendfsync", "everysec"]),
        AppendFsync::Off => command.args(["--appendonly", "no"]),
    };
    if let Some(bytes) = options.maxmemory_bytes {
        command.args(["--maxmemory", &bytes.to_string()]);
    }
    if let Some(policy) = &options.maxmemory_policy {
        command.args(["--maxmemory-policy", policy]);
    }
    command.args(&options.extra);
    command
}

/// PING is refused while data are being loaded; the process id tells our server from one that took
/// the port before it.
fn ready(_dir: &Path, port: u16, pid: u32) -> bool {
    let answer = ask(port, "PING\r\nINFO server\r\nQUIT\r\n").unwrap_or_default();
    answer.starts_with("+PONG") && answer.contains(&format!("process_id:{pid}\r\n"))
}

fn ask(port: u16, commands: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(commands.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_until;

    fn start(name: &str, change: impl FnOnce(&mut RedisOptions)) -> Redis {
        let name = format!("servers-redis-{name}-{}", std::process::id());
        let mut options = RedisOptions { dir: std::env::temp_dir().join(name), ..Default::default() };
        change(&mut options);
        Redis::start(options).unwrap()
    }

    fn say(redis: &Redis, command: &str) -> String {
        ask(redis.port(), &format!("{command}\r\nQUIT\r\n")).unwrap()
    }

    fn remove(redis: Redis) {
        let dir = redis.dir().to_owned();
        drop(redis);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_acknowledged_write_survives_a_kill_and_a_stop() {
        let mut redis = start("kill", |_| {});
        let (pid, port) = (redis.pid(), redis.port());
        assert!(say(&redis, "SET colour red").starts_with("+OK"));
        redis.kill();
        assert!(!redis.is_running());
        redis.restart().unwrap();
        assert!(redis.pid() != pid && redis.port() == port);
        assert!(say(&redis, "GET colour").contains("red"));
        redis.stop().unwrap();
        redis.restart().unwrap();
        assert!(say(&redis, "GET colour").contains("red"));
        assert!(redis.log_tail().contains("Ready to accept connections"));
        remove(redis);
    }

    #[test]
    fn a_paused_server_answers_again_when_resumed_and_can_be_stopped() {
        let mut redis = start("pause", |options| options.append_fsync = AppendFsync::EverySec);
        redis.pause().unwrap();
        assert!(ask(redis.port(), "PING\r\nQUIT\r\n").is_err());
        redis.resume().unwrap();
        assert!(wait_until(Duration::from_secs(2), || ask(redis.port(), "PING\r\nQUIT\r\n").is_ok()));
        redis.pause().unwrap();
        redis.stop().unwrap();
        remove(redis);
    }

    #[test]
    fn the_settings_of_deploy_hold_unless_an_option_says_otherwise() {
        let redis = start("settings", |options| {
            options.maxmemory_bytes = Some(64 << 20);
            options.extra = vec!["--hz".into(), "50".into()];
        });
        for (name, value) in [("appendfsync", "always"), ("maxmemory-policy", "volatile-lfu"), ("maxmemory", "67108864"), ("hz", "50")] {
            let answer = say(&redis, &format!("CONFIG GET {name}"));
            assert!(answer.contains(&format!("\r\n{value}\r\n")), "{name}: {answer}");
        }
        remove(redis);
        let forgetful = start("forgetful", |options| options.append_fsync = AppendFsync::Off);
        assert!(say(&forgetful, "CONFIG GET appendonly").contains("no"));
        remove(forgetful);
    }

    #[test]
    fn a_second_server_on_the_same_directory_is_refused() {
        let redis = start("twice", |_| {});
        let options = RedisOptions { dir: redis.dir().to_owned(), ..Default::default() };
        let error = Redis::start(options).unwrap_err().to_string();
        assert!(error.contains("another redis-server is using"), "{error}");
        remove(redis);
    }

    #[test]
    fn a_taken_port_and_a_bad_option_are_explained() {
        let redis = start("port", |_| {});
        let dir = redis.dir().join("second");
        let options = RedisOptions { dir: dir.clone(), port: Some(redis.port()), ..Default::default() };
        let error = Redis::start(options).unwrap_err().to_string();
        assert!(error.contains("already in use") && error.contains("--port"), "{error}");
        let extra = vec!["--no-such-setting".into(), "1".into()];
        // Another directory: a process that another test is just starting may hold the lock of the last one a moment longer.
        let dir = redis.dir().join("third");
        let error = Redis::start(RedisOptions { dir, extra, ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains("no-such-setting"), "{error}");
        remove(redis);
    }
}
