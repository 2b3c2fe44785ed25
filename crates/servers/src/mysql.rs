//! A private MariaDB or MySQL, with the settings of `deploy/mariadb.cnf`.

use std::io::Read;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::mysql_data::{self, Flavour};
use crate::server::{Recipe, Server, absolute};
use crate::{Error, Program, Result, find};

const SETTINGS: &str = include_str!("../../../deploy/mariadb.cnf");

#[derive(Clone, Debug)]
pub struct MysqlOptions {
    /// Everything of this server lies here; made if absent, and kept.
    pub dir: PathBuf,
    /// `None`: a free one is chosen.
    pub port: Option<u16>,
    /// Made at start if absent. `a-z`, digits and `_` only.
    pub databases: Vec<String>,
    /// `false`: commits survive a kill but not a power cut, and cost no wait for the disk.
    pub fsync: bool,
    /// Where an empty data directory is kept to be copied (26 MB, made once in about a second).
    /// `None`: beside `dir`.
    pub templates: Option<PathBuf>,
    /// More arguments, e.g. `--innodb-buffer-pool-size=256M`; they win over all else.
    pub extra: Vec<String>,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self { dir: PathBuf::new(), port: None, databases: Vec::new(), fsync: true, templates: None, extra: Vec::new() }
    }
}

/// A running mariadbd or mysqld. Dropping it kills it; its data stay in its directory.
/// `root` and `inventory`, from 127.0.0.1 and without a password, may do everything.
#[derive(Debug)]
pub struct Mysql {
    server: Server,
    flavour: Flavour,
}

impl Mysql {
    /// Starts the server and waits until clients can log in. On a directory with data it has them.
    pub fn start(mut options: MysqlOptions) -> Result<Self> {
        let program = find(Program::MysqlServer)?;
        let flavour = Flavour::of(&program);
        options.dir = absolute(&options.dir)?;
        let (dir, port) = (options.dir.clone(), options.port);
        let templates = options.templates.clone().or_else(|| dir.parent().map(Path::to_owned));
        let databases = options.databases.clone();
        let recipe = Recipe {
            name: flavour.name(),
            dir: dir.clone(),
            command: {
                let program = program.clone();
                Box::new(move |port| command(&program, flavour, &options, port))
            },
            ready,
        };
        let prepare = || {
            let templates = templates.unwrap_or_default();
            mysql_data::prepare(&program, flavour, &dir.join("data"), &templates)?;
            let temporary = dir.join("tmp");
            std::fs::create_dir_all(&temporary).map_err(Error::io(format!("making {}", temporary.display())))?;
            write(&dir.join("my.cnf"), SETTINGS)?;
            write(&dir.join("init.sql"), &init_sql(&databases))
        };
        Ok(Self { server: Server::start(recipe, port, prepare)?, flavour })
    }

    /// For the account `inventory`.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://inventory@127.0.0.1:{}/{database}", self.port())
    }

    /// Whether it is MariaDB, by what the program prints.
    pub fn is_mariadb(&self) -> bool {
        self.flavour == Flavour::Mariadb
    }
}

impl Deref for Mysql {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Mysql {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn command(program: &Path, flavour: Flavour, options: &MysqlOptions, port: u16) -> Command {
    let dir = options.dir.display();
    let mut command = Command::new(program);
    // First, so that nothing under /etc is read.
    command.arg(format!("--defaults-file={dir}/my.cnf"));
    command.args(mysql_data::small(flavour)).args(mysql_data::as_this_user(&options.dir));
    command.args([
        format!("--datadir={dir}/data"),
        // Of its own: a server that starts deletes the temporary tables that it finds there, also those of another.
        format!("--tmpdir={dir}/tmp"),
        format!("--init-file={dir}/init.sql"),
        format!("--pid-file={dir}/pid"),
        // Relative to the data directory: a socket's whole path may have no more than 107 bytes.
        "--socket=mysqld.sock".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={port}"),
    ]);
    if flavour == Flavour::Mysql {
        // With a log as small as that of the kept data directory it writes pages out all the time: 3,000 price writes took 21.5
        // and 32 s, and 5 and 21 s with this one, in turns on a busy machine.
        command.arg("--loose-innodb-redo-log-capacity=64M");
    }
    if !options.fsync {
        command.args(["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"]);
    }
    command.args(&options.extra);
    command
}

/// Runs at every start, before the first client is let in; one statement a line.
/// MariaDB's own root logs in by the owner of the socket only, hence accounts of our own.
fn init_sql(databases: &[String]) -> String {
    let accounts = ["root", "inventory"].map(|name| {
        format!(
            "CREATE USER IF NOT EXISTS '{name}'@'127.0.0.1';\n\
             GRANT ALL PRIVILEGES ON *.* TO '{name}'@'127.0.0.1' WITH GRANT OPTION;\n"
        )
    });
    let databases = databases.iter().map(|name| format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4;\n"));
    accounts.into_iter().chain(databases).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(format!("writing {}", path.display())))
}

/// The pid file is written once the port is ours, and the greeting comes once init.sql has run.
fn ready(dir: &Path, port: u16, pid: u32) -> bool {
    let written = std::fs::read_to_string(dir.join("pid")).unwrap_or_default();
    written.trim() == pid.to_string() && greets(port).unwrap_or(false)
}

/// Whether the first packet is a greeting (protocol 10) and not an error such as "too many
/// connections" (0xff). <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>
fn greets(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut packet = [0; 5];
    stream.read_exact(&mut packet)?;
    Ok(packet[4] == 10)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn options(name: &str) -> MysqlOptions {
        let temp = std::env::temp_dir();
        MysqlOptions {
            dir: temp.join(format!("servers-mysql-{name}-{}", std::process::id())),
            databases: vec!["shop".into()],
            ..Default::default()
        }
    }

    fn remove(mysql: Mysql) {
        let dir = mysql.dir().to_owned();
        drop(mysql);
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// Just enough of a client: logs in as `user` without a password, and answers what a statement
    /// answered, raw.
    fn query(mysql: &Mysql, user: &str, statement: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", mysql.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        read_packet(&mut stream);
        let plugin = if mysql.is_mariadb() { "mysql_native_password" } else { "caching_sha2_password" };
        // PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH, 16 MB packets, utf8mb4, no password.
        let mut login = vec![0x00, 0x82, 0x08, 0x00, 0, 0, 0, 1, 45];
        login.extend([0; 23]);
        login.extend(user.as_bytes());
        login.extend([0, 0]);
        login.extend(plugin.as_bytes());
        login.push(0);
        write_packet(&mut stream, 1, &login);
        let answer = read_packet(&mut stream);
        assert_eq!(answer[0], 0, "{}", String::from_utf8_lossy(&answer));
        write_packet(&mut stream, 0, &[&[3], statement.as_bytes()].concat());
        write_packet(&mut stream, 0, &[1]); // COM_QUIT: the server closes, and we read to the end.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; usize::from(header[0]) + 256 * usize::from(header[1])];
        stream.read_exact(&mut body).unwrap();
        body
    }

    fn write_packet(stream: &mut TcpStream, sequence: u8, body: &[u8]) {
        let length = u8::try_from(body.len()).unwrap();
        stream.write_all(&[&[length, 0, 0, sequence], body].concat()).unwrap();
    }

    #[test]
    fn commits_survive_a_kill_and_a_stop_and_the_accounts_work() {
        let mut mysql = Mysql::start(options("kill")).unwrap();
        let (pid, port) = (mysql.pid(), mysql.port());
        query(&mysql, "root", "CREATE TABLE shop.t (word VARCHAR(20))");
        query(&mysql, "inventory", "INSERT INTO shop.t VALUES ('kept')");
        mysql.kill();
        assert!(!mysql.is_running());
        mysql.restart().unwrap();
        assert!(mysql.pid() != pid && mysql.port() == port);
        assert!(query(&mysql, "inventory", "SELECT word FROM shop.t").contains("kept"));
        mysql.pause().unwrap();
        mysql.stop().unwrap();
        mysql.restart().unwrap();
        assert!(query(&mysql, "inventory", "SELECT word FROM shop.t").contains("kept"));
        assert!(mysql.log_tail().contains("ready for connections"));
        remove(mysql);
    }

    #[test]
    fn the_settings_of_deploy_hold_unless_an_option_says_otherwise() {
        let settings = "SELECT CONCAT_WS(',', @@binlog_format, @@log_bin + 0, @@sync_binlog, \
                        @@innodb_flush_log_at_trx_commit, @@character_set_server, @@time_zone)";
        let mysql = Mysql::start(options("settings")).unwrap();
        let answer = query(&mysql, "inventory", settings);
        assert!(answer.contains("ROW,1,1,1,utf8mb4,+00:00"), "{answer}");
        remove(mysql);
        let extra = vec!["--max-connections=77".into()];
        let cheap = Mysql::start(MysqlOptions { fsync: false, extra, ..options("cheap") }).unwrap();
        let answer = query(&cheap, "inventory", settings);
        assert!(answer.contains("ROW,1,0,2,utf8mb4,+00:00"), "{answer}");
        assert!(query(&cheap, "root", "SELECT @@max_connections").contains("77"));
        remove(cheap);
    }

    #[test]
    fn a_bad_option_is_explained_by_command_and_log() {
        let extra = vec!["--no-such-setting=1".to_owned()];
        let options = MysqlOptions { extra, ..options("bad") };
        let dir = options.dir.clone();
        let error = Mysql::start(options).unwrap_err().to_string();
        std::fs::remove_dir_all(dir).unwrap();
        assert!(error.contains("ended at start") && error.contains("--defaults-file="), "{error}");
        assert!(error.contains("unknown variable 'no-such-setting=1'"), "{error}");
    }
}
