//! `inventoryctl` as an operator runs it, off a terminal.

use crate::{Program, Shop, program};
use serde_json::Value;
use std::process::{Output, Stdio};
use tokio::process::{Child, Command};

/// A pipe that nobody reads any more.
#[must_use]
pub fn abandoned_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    writer.into()
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Its result, after checking how it ended.
    pub fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    fn of(output: std::io::Result<Output>) -> Self {
        let output = output.unwrap_or_else(|error| panic!("cannot run inventoryctl: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Shop {
    /// Runs `inventoryctl` with the rights of the API until it ends; `api` is the one that it calls.
    pub async fn ctl(&self, api: Option<&Program>, arguments: &[&str]) -> Outcome {
        self.ctl_as("inventory_api", api, arguments).await
    }

    /// The same with the rights of another user of MySQL.
    pub async fn ctl_as(&self, user: &str, api: Option<&Program>, arguments: &[&str]) -> Outcome {
        let mut command = self.command("inventoryctl", user, api);
        command.args(arguments);
        Outcome::of(command.output().await)
    }

    /// Starts it and goes on, with all that it says kept for its end.
    pub fn ctl_started(&self, arguments: &[&str]) -> Child {
        let mut command = self.command("inventoryctl", "inventory_api", None);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot run inventoryctl: {error}"))
    }

    /// Runs it with those two for what it says; what goes elsewhere than to a pipe of ours is not in the outcome.
    pub async fn ctl_into(&self, api: Option<&Program>, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Outcome {
        let mut command = self.command("inventoryctl", "inventory_api", api);
        command.args(arguments).stdout(stdout).stderr(stderr);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run inventoryctl: {error}"));
        Outcome::of(child.wait_with_output().await)
    }

    /// Runs a script of `sh` in which `"$0"` is `inventoryctl`.
    pub async fn ctl_in_shell(&self, api: Option<&Program>, script: &str) -> Outcome {
        let mut command = self.command("sh", "inventory_api", api);
        command.arg("-c").arg(script).arg(program::binary("inventoryctl"));
        Outcome::of(command.output().await)
    }

    fn command(&self, program: &str, user: &str, api: Option<&Program>) -> Command {
        let url = api.map(|api| ("INVENTORY_URL", api.url.clone()));
        let mut command = if program == "sh" { Command::new(program) } else { Command::new(program::binary(program)) };
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("INVENTORY_")) {
            command.env_remove(key);
        }
        command.envs(self.settings(user, url.as_slice())).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}
