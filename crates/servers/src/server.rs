//! What a private Redis and a private MySQL have in common: a directory that is theirs alone, a
//! port, a process, and being killed, restarted, paused and stopped.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::process::Process;
use crate::{Error, Result, free_port};

/// Up in 0.04 s (redis-server) to 0.8 s (MySQL 9) on an idle machine; a large log, or recovery
/// after a kill on a busy one, takes many times that.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A clean end writes everything out.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How often another process may take the port that we found free.
const PORT_TRIES: u32 = 10;

/// How one kind of server is started, and how it is known that it is up.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    /// The command that serves on this port.
    pub(crate) command: Box<dyn Fn(u16) -> Command + Send + Sync>,
    /// Whether the process with this id answers on this port.
    pub(crate) ready: fn(dir: &Path, port: u16, pid: u32) -> bool,
}

/// A running server. Dropping it kills it; its data stay in its directory.
pub struct Server {
    recipe: Recipe,
    port: u16,
    process: Process,
    /// Held by us and, as its standard input, by the server: even if we are killed and it is not,
    /// nobody starts a second one on the same data (redis-server would let that happen).
    lock: File,
}

impl Server {
    /// `prepare` makes what has to be in the directory, with the directory locked.
    pub(crate) fn start(recipe: Recipe, port: Option<u16>, prepare: impl FnOnce() -> Result<()>) -> Result<Self> {
        let lock = lock_dir(&recipe)?;
        prepare()?;
        let mut tries = 1;
        loop {
            let chosen = port.map_or_else(free_port, Ok)?;
            match launch(&recipe, chosen, &lock) {
                Ok(process) => {
                    return Ok(Self { recipe, port: chosen, process, lock });
                }
                Err(error) if port.is_none() && tries < PORT_TRIES && lost_the_port(&error) => {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where everything of this server lies; safe to change after `kill` and before `restart`.
    pub fn dir(&self) -> &Path {
        &self.recipe.dir
    }

    /// Whether it runs; false after `kill` or `stop`, and when it died by itself.
    pub fn is_running(&mut self) -> bool {
        self.exited().is_none()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// SIGKILL, and wait until it is gone. The data stay.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same directory, port and options, after `kill` or `stop`; if it
    /// still runs it is killed first.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(&self.recipe, self.port, &self.lock)?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; also ends a paused one.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_DEADLINE).map(|_| ())
    }

    /// SIGSTOP: its connections stay open and nothing answers.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal("STOP")
    }

    /// SIGCONT, after `pause`.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal("CONT")
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// An error about this server that holds its command line and the tail of its log.
    pub fn error(&self, what: impl Into<String>) -> Error {
        self.process.error(what)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, dir) = (self.recipe.name, &self.recipe.dir);
        write!(f, "{name} on port {} in {} ({:?})", self.port, dir.display(), self.process)
    }
}

fn launch(recipe: &Recipe, port: u16, lock: &File) -> Result<Process> {
    let log = recipe.dir.join(format!("{}.log", recipe.name));
    let stdin = lock.try_clone().map_err(Error::io("passing the lock on"))?;
    let mut process = Process::spawn_with_stdin(recipe.name, (recipe.command)(port), &log, stdin.into())?;
    process.wait_ready(START_DEADLINE, |pid| (recipe.ready)(&recipe.dir, port, pid))?;
    Ok(process)
}

/// The servers change their working directory, and read what they are given from there.
pub(crate) fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).map_err(Error::io(format!("the directory `{}`", dir.display())))
}

fn lock_dir(recipe: &Recipe) -> Result<File> {
    let dir = &recipe.dir;
    std::fs::create_dir_all(dir).map_err(Error::io(format!("making {}", dir.display())))?;
    let path = dir.join("lock");
    let lock = File::create(&path).map_err(Error::io(format!("making {}", path.display())))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(error)) => Err(Error::Io(format!("locking {}", path.display()), error)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Missing(format!("another {} is using {}: stop it, or take another directory", recipe.name, dir.display())))
        }
    }
}

/// The log may hold such a line from an earlier try: then one more is made, and no harm done.
fn lost_the_port(error: &Error) -> bool {
    let text = error.to_string();
    // Both servers print the system's words for EADDRINUSE.
    text.contains("ddress already in use")
}
