//! One child process with its log file: started, watched, killed, stopped and paused by handle.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How often a condition is looked at: short beside the 30 ms in which redis-server is up.
const POLL: Duration = Duration::from_millis(5);
/// How much of a log an error shows.
const TAIL_BYTES: u64 = 4_096;
const TAIL_LINES: usize = 20;

/// A child process. It has a process group of its own, so that Ctrl-C on the terminal reaches only
/// us and we decide the order in which things end. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    command: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log` and without input.
    /// Where `setpriv` exists the child is killed when this process ends, however it ends.
    pub fn spawn(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::spawn_with_stdin(name, command, log, Stdio::null())
    }

    pub(crate) fn spawn_with_stdin(name: &str, command: Command, log: &Path, stdin: Stdio) -> Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let out = opened.map_err(Error::io(format!("opening the log {}", log.display())))?;
        let err = out.try_clone().map_err(Error::io("opening the log twice"))?;
        let line = line_of(&command);
        let mut command = dying_with_us(command);
        command.stdin(stdin).stdout(out).stderr(err).process_group(0);
        let child = spawn_from_lasting_thread(command).map_err(Error::io(format!("starting {line}")))?;
        Ok(Self { name: name.to_owned(), command: line, child, log: log.to_owned() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and wait until it is gone. Also ends a paused process.
    pub fn kill(&mut self) {
        // Both fail only when it is dead and reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits; kills it at the deadline, which is an error.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        for signal in ["TERM", "CONT"] {
            // It may end at any moment; a signal that did not reach it shows at the deadline.
            let _ = self.signal(signal);
        }
        let mut status = None;
        let ended = wait_until(deadline, || {
            status = self.exited();
            status.is_some()
        });
        match status {
            Some(status) if ended => Ok(status),
            _ => {
                self.kill();
                Err(self.error(format!("{} did not end within {deadline:?} and was killed", self.name)))
            }
        }
    }

    /// Sends a signal by name (`STOP`, `CONT`, `INT` ...). An error if the process is gone.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        if let Some(status) = self.exited() {
            return Err(self.error(format!("{} has ended ({status})", self.name)));
        }
        // The shell's own `kill`: the program of that name is missing on slim systems.
        let script = format!("kill -{signal} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &script]).output();
        match sent.map_err(Error::io(script))? {
            output if output.status.success() => Ok(()),
            output => Err(self.error(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }

    /// An error about this process, with its command line and the tail of its log.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::Process { what: what.into(), command: self.command.clone(), log: self.log_tail() }
    }

    /// Waits until `ready` says so; the process ending first, or the deadline, is an error.
    pub fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut(u32) -> bool) -> Result<()> {
        let pid = self.pid();
        let mut ended = None;
        let held = wait_until(deadline, || {
            ended = self.exited();
            ended.is_some() || ready(pid)
        });
        match ended {
            Some(status) => Err(self.error(format!("{} ended at start ({status})", self.name))),
            None if held => Ok(()),
            None => Err(self.error(format!("{} was not ready within {deadline:?}", self.name))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks at `condition` until it holds (true) or the deadline has passed (false).
pub fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// The same command under `setpriv --pdeathsig`, which replaces itself by it (so the process id is
/// the command's). SIGKILL, since a paused process obeys no other; the stores survive that by design.
fn dying_with_us(command: Command) -> Command {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let available = AVAILABLE.get_or_init(|| {
        let probe = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    if !available {
        return command;
    }
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// The kernel sends that signal when the *thread* which started the child ends, and a test's thread
/// ends with the test, while a server may be shared by all: one thread that lasts starts them all.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (send, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                // Nobody waits for the reply only if our caller panicked.
                let _ = reply.send(command.spawn());
            }
        });
        send
    });
    let (reply, child) = mpsc::channel();
    starter.send((command, reply)).map_err(std::io::Error::other)?;
    child.recv().map_err(std::io::Error::other)?
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| match word.to_string_lossy() {
        plain if !plain.is_empty() && !plain.contains([' ', '\'', '*', '$']) => plain.into_owned(),
        other => format!("'{other}'"),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("servers-process-{name}-{}.log", std::process::id()))
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_early_end_is_reported_with_command_and_log() {
        let log = log("early");
        let mut process = Process::spawn("demo", shell("echo out of luck; exit 3"), &log).unwrap();
        let error = process.wait_ready(Duration::from_secs(5), |_| false).unwrap_err().to_string();
        std::fs::remove_file(&log).unwrap();
        assert!(error.contains("ended at start (exit status: 3)"), "{error}");
        assert!(error.contains("sh -c 'echo out of luck; exit 3'"), "{error}");
        assert!(error.contains("\n    out of luck"), "{error}");
    }

    #[test]
    fn a_process_that_ignores_the_request_to_end_is_killed() {
        let log = log("stubborn");
        let stubborn = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let mut process = Process::spawn("stubborn", stubborn, &log).unwrap();
        process.wait_ready(Duration::from_secs(5), |_| tail(&log).unwrap() == "ready").unwrap();
        let error = process.stop(Duration::from_millis(100)).unwrap_err().to_string();
        std::fs::remove_file(&log).unwrap();
        assert!(error.contains("was killed"), "{error}");
        assert!(process.exited().is_some());
    }

    #[test]
    fn a_process_outlives_the_thread_that_started_it() {
        let log = log("thread");
        let started = thread::spawn({
            let log = log.clone();
            move || Process::spawn("sleeper", shell("exec sleep 60"), &log)
        });
        let mut process = started.join().unwrap().unwrap();
        let ended = wait_until(Duration::from_millis(100), || process.exited().is_some());
        std::fs::remove_file(&log).unwrap();
        assert!(!ended);
    }
}
