//! Data directories. Making one takes about a second, copying an empty one a fifth of that: so an
//! empty one is made once per server version and kept.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::{is_mariadb, version};
use crate::{Error, Program, Result, find};

/// The two differ in how they are set up; once running they are told apart by `SELECT VERSION()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Mariadb,
    Mysql,
}

impl Flavour {
    pub(crate) fn of(program: &Path) -> Self {
        if is_mariadb(program) { Self::Mariadb } else { Self::Mysql }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mariadb => "mariadbd",
            Self::Mysql => "mysqld",
        }
    }
}

/// Arguments for a server of a test or a try-out rather than a machine of its own: the redo log
/// alone would otherwise take 100 MB on disk for each. `loose`: MySQL has another name for it since 8.0.30.
pub(crate) fn small(flavour: Flavour) -> Vec<&'static str> {
    let mut arguments = vec!["--innodb-buffer-pool-size=64M", "--performance-schema=OFF"];
    match flavour {
        Flavour::Mariadb => arguments.push("--innodb-log-file-size=8M"),
        // A second port, and a directory under /var that need not exist.
        Flavour::Mysql => arguments.extend(["--loose-innodb-redo-log-capacity=8M", "--loose-mysqlx=OFF", "--secure-file-priv=NULL"]),
    }
    arguments
}

/// Both servers refuse to run as root unless told to. `dir` is one that we made, so its owner is us.
pub(crate) fn as_this_user(dir: &Path) -> Option<&'static str> {
    let root = fs::metadata(dir).is_ok_and(|dir| dir.uid() == 0);
    root.then_some("--user=root")
}

/// Makes `data` an empty data directory unless it exists.
pub(crate) fn prepare(program: &Path, flavour: Flavour, data: &Path, templates: &Path) -> Result<()> {
    if data.exists() {
        return Ok(());
    }
    let template = template(program, flavour, templates)?;
    let copy = || {
        // A copy cut short must not look like a data directory.
        let partial = data.with_extension("partial");
        remove(&partial)?;
        copy_dir(&template, &partial)?;
        fs::rename(&partial, data)
    };
    copy().map_err(Error::io(format!("copying {} to {}", template.display(), data.display())))
}

/// The kept empty data directory of this server version, made if absent. Processes that come at
/// the same time wait for the first.
fn template(program: &Path, flavour: Flavour, templates: &Path) -> Result<PathBuf> {
    let version: String = version(program)
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or("unknown")
        .replace('/', "_");
    let template = templates.join(format!("template-{}-{version}", flavour.name()));
    let failed = || format!("making {}", template.display());
    fs::create_dir_all(templates).map_err(Error::io(failed()))?;
    let lock = File::create(template.with_added_extension("lock")).map_err(Error::io(failed()))?;
    lock.lock().map_err(Error::io(failed()))?;
    if !template.exists() {
        let partial = template.with_added_extension("partial");
        remove(&partial).map_err(Error::io(failed()))?;
        fs::create_dir(&partial).map_err(Error::io(failed()))?;
        initialise(program, flavour, &partial)?;
        fs::rename(&partial, &template).map_err(Error::io(failed()))?;
    }
    Ok(template)
}

fn initialise(program: &Path, flavour: Flavour, dir: &Path) -> Result<()> {
    let mut command = match flavour {
        Flavour::Mariadb => {
            let mut command = Command::new(find(Program::MariadbInstallDb)?);
            // `--force`: it would else end where the machine's own name cannot be looked up.
            command.args(["--no-defaults", "--force", "--skip-test-db"]);
            command.arg("--auth-root-authentication-method=normal");
            command
        }
        Flavour::Mysql => {
            let mut command = Command::new(program);
            command.args(["--no-defaults", "--initialize-insecure"]);
            command
        }
    };
    command.args(small(flavour)).args(as_this_user(dir));
    command.arg(format!("--datadir={}", dir.display()));
    let output = command.output().map_err(Error::io(format!("starting {command:?}")))?;
    if output.status.success() {
        // MySQL's own id of a server: each copy makes one of its own.
        let _ = fs::remove_file(dir.join("auto.cnf"));
        return Ok(());
    }
    let log = [output.stdout, output.stderr].concat();
    Err(Error::Process {
        what: format!("could not make an empty data directory ({})", output.status),
        command: format!("{command:?}"),
        log: String::from_utf8_lossy(&log).into_owned(),
    })
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> std::io::Result<()> {
    if dir.exists() { fs::remove_dir_all(dir) } else { Ok(()) }
}
