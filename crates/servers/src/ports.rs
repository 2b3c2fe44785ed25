//! Ports for private servers.
//!
//! They lie below the range from which the system takes the ports of outgoing connections: while a
//! killed server is down, a client that keeps trying its port could otherwise connect to *itself*
//! and hold the port, and the server could not come back.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// Above the ports that people give to their own programs (3000, 6379, 8080, 9090 ...).
const LOWEST: u16 = 15_000;
/// Linux's default lower end of the ephemeral range; where /proc is absent it is higher (49152).
const EPHEMERAL_START: u16 = 32_768;

/// A port of 127.0.0.1 that nobody listens on right now. Two calls in one process never answer the
/// same port; another process may still take it first, so a server that then fails to bind is to
/// be started again on another one.
pub fn free_port() -> Result<u16> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let end = ephemeral_start();
    let count = u32::from(end - LOWEST);
    let next = NEXT.get_or_init(|| AtomicU32::new(seed()));
    for _ in 0..count {
        let step = next.fetch_add(1, Ordering::Relaxed) % count;
        let port = LOWEST + u16::try_from(step).expect("the range is one of u16");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::Missing(format!("no free port between {LOWEST} and {end} on 127.0.0.1: stop what holds them")))
}

fn ephemeral_start() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let start = range.ok().and_then(|r| r.split_whitespace().next()?.parse().ok());
    // A machine whose ephemeral range begins lower leaves no room below it: take our chance inside.
    start.filter(|start| *start > LOWEST + 1_000).unwrap_or(EPHEMERAL_START)
}

/// Processes that start in the same instant begin far apart.
fn seed() -> u32 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.subsec_nanos());
    // Fibonacci hashing: neighbouring process ids land far from each other.
    std::process::id().wrapping_mul(2_654_435_769).wrapping_add(clock) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_below_the_ephemeral_range_and_differ() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let mut distinct = ports.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| (LOWEST..ephemeral_start()).contains(port)));
    }
}
