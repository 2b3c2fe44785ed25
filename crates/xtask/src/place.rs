//! Where things are: the repository, the programs that cargo built, and what `up` keeps.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// January 2011 of UCI Online Retail, see data/README.md.
const MONTH: &str = "data/online-retail-2011-01.csv.gz";

pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// Beside our own program: `target/debug` unless cargo was told otherwise.
    pub(crate) programs: PathBuf,
    pub(crate) target: PathBuf,
}

impl Place {
    pub(crate) fn find() -> Result<Self> {
        let root = root();
        // Unknown where /proc is not mounted.
        let own = std::env::current_exe().unwrap_or_else(|_| root.join("target/debug/xtask"));
        let programs = own.parent().ok_or("our own program has no directory")?;
        let target = programs.parent().ok_or("our own program is not in a target directory")?;
        Ok(Self { root, programs: programs.to_owned(), target: target.to_owned() })
    }

    /// Everything that `cargo xtask up` keeps from one time to the next.
    pub(crate) fn up(&self) -> PathBuf {
        self.target.join("up")
    }

    pub(crate) fn month(&self) -> PathBuf {
        self.root.join(MONTH)
    }

    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.root);
        command
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        command
    }

    /// Held for as long as `up` runs, so that a second one does not start on the same data.
    pub(crate) fn lock(&self) -> Result<File> {
        std::fs::create_dir_all(self.up())?;
        let lock = File::create(self.up().join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::Error(error)) => Err(error.into()),
            Err(TryLockError::WouldBlock) => Err("another `cargo xtask up` of this checkout is running: end it with Ctrl-C first".into()),
        }
    }
}

/// Cargo says where this package is when it runs us; what it was at build time is the second best.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.ancestors().nth(2).map(Path::to_owned);
    root.unwrap_or(package)
}
