//! Debian's Prometheus, with promtool, for tests/it/prometheus.rs.

use std::process::{Command, Stdio};

use crate::Result;
use crate::need;
use crate::screen::say;

/// Without its recommendations, which are exporters of other things.
const PACKAGE_LINE: &str = "apt-get install -y --no-install-recommends prometheus";

/// As root without a terminal it is installed where it is missing; otherwise the error holds the line to type.
pub(crate) fn install() -> Result<()> {
    if ["prometheus", "promtool"].iter().all(|program| is_there(program)) {
        return Ok(());
    }
    if !need::is_root() || need::on_a_terminal() {
        return Err(format!("Prometheus is not installed; on Debian type\n  {PACKAGE_LINE}").into());
    }
    say(format!("installing Prometheus: {PACKAGE_LINE}"));
    // The service that comes with the package is not to start: the tests start their own.
    let ran = |line: &str| {
        let mut command = Command::new("env");
        command.args(["DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1"]).args(line.split(' '));
        command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if ran("apt-get update --quiet") && ran(PACKAGE_LINE) { Ok(()) } else { Err(format!("`{PACKAGE_LINE}` failed, see above").into()) }
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    asked.is_ok_and(|output| output.status.success())
}
