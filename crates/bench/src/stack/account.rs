//! What the operator's command line says and does.

use super::{COMMAND_LIMIT, Stack};
use anyhow::{Context, ensure};
use std::process::Command;

/// The views' account, as `inventoryctl queue status` gives it.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub(crate) struct Account {
    pub(crate) accepted: u64,
    pub(crate) persisted: u64,
    pub(crate) pending: u64,
    pub(crate) dead: u64,
    pub(crate) lost: u64,
    pub(crate) oldest_age_seconds: f64,
}

impl Account {
    pub(crate) fn drift(&self) -> i64 {
        let kept = self.persisted + self.pending + self.dead + self.lost;
        self.accepted.cast_signed() - kept.cast_signed()
    }
}

impl Stack {
    /// The account at this moment.
    ///
    /// # Errors
    /// A store is away.
    pub(crate) async fn account(&self) -> anyhow::Result<Account> {
        let printed = self.inventoryctl(&["queue", "status", "-o", "json"]).await?;
        serde_json::from_str(&printed).with_context(|| format!("`inventoryctl queue status` printed {printed}"))
    }

    /// # Errors
    /// It fails, or takes too long.
    pub(super) async fn inventoryctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.programs.join("inventoryctl"));
        self.set_environment(&mut command);
        command.args(arguments);
        let line = arguments.join(" ");
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(COMMAND_LIMIT, output).await;
        let output = output.with_context(|| format!("`inventoryctl {line}` has not ended after {COMMAND_LIMIT:?}"))?;
        let output = output.context("starting inventoryctl")?;
        ensure!(output.status.success(), "`inventoryctl {line}` failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
