//! Points between two steps of a protocol where a test may hold a process, to play one order of steps exactly.
//!
//! In a build with debug assertions a process that was started with [`VARIABLE`] connects to that port at each point,
//! writes the point and what it is about as one line, and goes on when a line comes back or the connection closes.
//! Without the variable nothing happens; a release build has no points, and refuses the variable.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::net::SocketAddr;

/// Where somebody listens for points, such as `127.0.0.1:4000`; on this machine. Known in builds with debug assertions only.
pub const VARIABLE: &str = "INVENTORY_PAUSE_POINTS";

/// All points; each stands in one line of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausePoint {
    /// A writer holds the product's row and has changed it.
    AfterLock,
    /// Its marker is in Redis.
    AfterMark,
    /// Nothing but COMMIT is left of its transaction.
    BeforeCommit,
    /// Committed, not yet published.
    AfterCommit,
    /// Published, not yet answered.
    AfterPublish,
    /// A reader has taken leases.
    AfterLease,
    /// It has read the rows, and filled nothing yet.
    AfterSelect,
    /// It has filled, and not yet answered.
    AfterFill,
    /// A thread of the API is about to send a push, or to send it again.
    BeforePush,
    /// The push was answered, those who wait for it were not.
    AfterPush,
    /// A worker has a batch in hand.
    AfterClaim,
    /// It holds the shard's row.
    AfterShardLock,
    /// It has read the watermarks.
    AfterWatermarks,
    /// Nothing but COMMIT is left of its transaction.
    BeforeApplyCommit,
    /// The batch is in MySQL, and sealed in Redis.
    AfterApply,
    /// Redis has forgotten the batch.
    AfterSettle,
}

/// Waits for as long as somebody holds this process at `point`; `detail` says what it is about.
#[cfg(debug_assertions)]
pub async fn reached(point: PausePoint, detail: impl Debug) {
    if let Some(address) = listener() {
        // Nobody there, or no longer: nobody holds.
        let _ = held_by(address, format!("{point:?} {detail:?}\n")).await;
    }
}

/// Nothing, in this build.
#[cfg(not(debug_assertions))]
pub async fn reached(_: PausePoint, _: impl Debug) {}

#[cfg(debug_assertions)]
fn listener() -> Option<SocketAddr> {
    static LISTENER: std::sync::OnceLock<Option<SocketAddr>> = std::sync::OnceLock::new();
    *LISTENER.get_or_init(|| parse_listener(&std::env::var_os(VARIABLE)?).ok())
}

#[cfg(debug_assertions)]
async fn held_by(address: SocketAddr, line: String) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(line.as_bytes()).await?;
    stream.read_u8().await.map(|_| ())
}

/// Reads the value of [`VARIABLE`].
///
/// # Errors
/// It is no address with a port, or not on this machine.
pub(crate) fn parse_listener(value: &OsStr) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = value.to_str().and_then(|value| value.parse().ok());
    let there = address.filter(|address| address.ip().is_loopback());
    there.ok_or_else(|| format!("{VARIABLE}={}: write an address on this machine with its port, such as 127.0.0.1:4000", value.display()))
}
