//! Where the programs are, and the one line that installs them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// A server program that the project needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    RedisServer,
    /// MariaDB or MySQL, whichever comes first on the PATH.
    MysqlServer,
    /// Fills MariaDB's data directory. MySQL does without.
    MariadbInstallDb,
}

impl Program {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::RedisServer => &["redis-server"],
            Self::MysqlServer => &["mariadbd", "mysqld"],
            Self::MariadbInstallDb => &["mariadb-install-db", "mysql_install_db"],
        }
    }
}

/// Places beyond the PATH: Debian keeps servers in sbin, which users' PATHs lack; Fedora in libexec.
const USUAL_PLACES: &[&str] = &[
    "/usr/sbin",
    "/usr/bin",
    "/usr/libexec",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/local/mysql/bin",
    "/usr/local/mariadb/bin",
    "/opt/homebrew/bin",
];

/// The program's path, or an error that holds the line which installs it.
pub fn find(program: Program) -> Result<PathBuf> {
    search(program.names()).ok_or_else(|| missing_error(program))
}

/// The MySQL or MariaDB that [`find`] would find with another PATH.
pub fn find_on(path: &OsStr) -> Result<PathBuf> {
    let program = Program::MysqlServer;
    candidates(program.names(), path).next().ok_or_else(|| missing_error(program))
}

fn missing_error(program: Program) -> Error {
    let names = program.names().join(" or ");
    Error::Missing(format!("{names} is not installed: type\n  {}", install_line()))
}

/// A MySQL, or a MariaDB, wherever it stands on the PATH or in the usual places; told apart by what it says of itself.
pub fn find_mysql(mariadb: bool) -> Option<PathBuf> {
    find_mysql_on(&own_path(), mariadb)
}

fn find_mysql_on(path: &OsStr, mariadb: bool) -> Option<PathBuf> {
    candidates(Program::MysqlServer.names(), path).find(|server| {
        let version = version(server);
        version.contains("Ver ") && version.contains("MariaDB") == mariadb
    })
}

/// The servers that are not installed, by name. (MariaDB's helper counts only beside MariaDB.)
pub fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if find(Program::RedisServer).is_err() {
        missing.push("redis-server");
    }
    match find(Program::MysqlServer) {
        Err(_) => missing.push("mariadbd (or mysqld)"),
        Ok(server) if is_mariadb(&server) && find(Program::MariadbInstallDb).is_err() => {
            missing.push("mariadb-install-db");
        }
        Ok(_) => {}
    }
    missing
}

/// The one line for this machine's package manager that installs the servers.
pub fn install_line() -> String {
    Manager::of_this_machine().install.to_owned()
}

/// Installs the servers with the system's package manager; its output goes where ours goes.
/// Works as root, with `sudo` for others, and with Homebrew, which wants neither.
pub fn install(sudo: bool) -> Result<()> {
    let manager = Manager::of_this_machine();
    if search(&[manager.program]).is_none() {
        return Err(Error::Missing(format!(
            "no package manager that we know (apt-get, dnf, apk, brew): install {} by hand",
            missing().join(" and ")
        )));
    }
    for (line, needed) in [(manager.refresh, false), (manager.install, true)] {
        let ran = sh(line, sudo && manager.program != "brew")?;
        if needed && !ran {
            return Err(Error::Missing(format!("this failed, see above: {line}")));
        }
    }
    match missing() {
        none if none.is_empty() => Ok(()),
        missing => Err(Error::Missing(format!(
            "still not found after `{}`: {}; put its directory on the PATH",
            manager.install,
            missing.join(" and ")
        ))),
    }
}

struct Manager {
    program: &'static str,
    /// What a fresh machine needs first. Its failure is not the end: an old list may do.
    refresh: &'static str,
    install: &'static str,
}

/// On Debian the `-core` packages: MariaDB's programs without the system service that comes with
/// `mariadb-server` (mariadb-client-core has a helper that mariadb-install-db calls).
const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        refresh: "apt-get update",
        install: "apt-get install -y --no-install-recommends redis-server mariadb-server-core mariadb-client-core",
    },
    Manager { program: "dnf", refresh: "true", install: "dnf install -y redis mariadb-server" },
    Manager { program: "apk", refresh: "true", install: "apk add redis mariadb mariadb-common" },
    Manager { program: "brew", refresh: "true", install: "brew install redis mariadb" },
];

impl Manager {
    fn of_this_machine() -> &'static Self {
        let present = MANAGERS.iter().find(|m| search(&[m.program]).is_some());
        present.unwrap_or(&MANAGERS[0])
    }
}

/// Runs one line, as root where `sudo` says so. SYSTEMD_OFFLINE: the system service that Debian starts
/// with the package is not wanted, we start our own. (Without systemd, as in containers, none starts.)
fn sh(line: &str, sudo: bool) -> Result<bool> {
    let mut command = Command::new(if sudo { "sudo" } else { "env" });
    command.args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1", "sh", "-c", line]);
    let status = command.stdin(if sudo { Stdio::inherit() } else { Stdio::null() }).status();
    Ok(status.map_err(Error::io(format!("running `{line}`")))?.success())
}

fn search(names: &[&str]) -> Option<PathBuf> {
    candidates(names, &own_path()).next()
}

fn own_path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// Directory by directory, so that a MySQL put first on the PATH wins over a MariaDB behind it.
fn candidates(names: &[&str], path: &OsStr) -> impl Iterator<Item = PathBuf> {
    let dirs: Vec<PathBuf> = env::split_paths(path).chain(USUAL_PLACES.iter().map(PathBuf::from)).collect();
    dirs.into_iter().flat_map(|dir| names.iter().map(move |name| dir.join(name))).filter(|file| file.is_file())
}

/// What `--version` prints; empty if it cannot be run.
pub fn version(server: &Path) -> String {
    let output = Command::new(server).args(["--no-defaults", "--version"]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// By what the program says of itself: `mysqld` is often MariaDB under its old name.
pub(crate) fn is_mariadb(server: &Path) -> bool {
    version(server).contains("MariaDB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_together_with_the_line_that_installs_it() {
        assert_eq!(search(&["no-such-server"]), None);
        assert!(install_line().contains("redis"));
        assert!(install_line().contains("mariadb"));
    }

    #[test]
    fn a_server_is_told_by_what_it_says_and_not_by_its_name() {
        use std::os::unix::fs::PermissionsExt;
        let dir = env::temp_dir().join(format!("servers-kinds-{}", std::process::id()));
        let server = |place: &str, says: &str| {
            let program = dir.join(place).join("mysqld");
            std::fs::create_dir_all(dir.join(place)).unwrap();
            std::fs::write(&program, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            program
        };
        let link = server("1", "mysqld  Ver 10.11.19-MariaDB for debian-linux-gnu");
        let mysql = server("2", "mysqld  Ver 9.7.4 for Linux on x86_64");
        server("0", "no server at all");
        let path = env::join_paths(["0", "1", "2"].map(|place| dir.join(place))).unwrap();
        assert_eq!(find_mysql_on(&path, true), Some(link));
        assert_eq!(find_mysql_on(&path, false), Some(mysql));
        assert_eq!(find_on(&path).unwrap(), dir.join("0/mysqld"), "which comes first");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_servers_are_found() {
        assert_eq!(missing(), Vec::<&str>::new());
    }
}
