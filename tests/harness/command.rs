//! `inventoryctl` as an operator runs it, off a terminal.

use crate::{Program, Shop, program};
use serde_json::Value;
use std::process::Stdio;
use tokio::process::Command;

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
}

impl Shop {
    /// Runs `inventoryctl` with the rights of the API until it ends; `api` is the one that it calls.
    pub async fn ctl(&self, api: Option<&Program>, arguments: &[&str]) -> Outcome {
        self.ctl_as("inventory_api", api, arguments).await
    }

    /// The same with the rights of another user of MySQL.
    pub async fn ctl_as(&self, user: &str, api: Option<&Program>, arguments: &[&str]) -> Outcome {
        let url = api.map(|api| ("INVENTORY_URL", api.url.clone()));
        let mut command = Command::new(program::binary("inventoryctl"));
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("INVENTORY_")) {
            command.env_remove(key);
        }
        command.envs(self.settings(user, url.as_slice()));
        let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = output.await.unwrap_or_else(|error| panic!("cannot run inventoryctl: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
