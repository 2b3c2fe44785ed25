//! Being asked to end: the first SIGTERM or SIGINT asks, the second ends the process at once.
//!
//! Whoever listens finishes what it has in hand. An end at once loses nothing that was acknowledged,
//! since no protocol relies on a graceful one.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a shell expects of a program that was ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Whether the process was asked to end. Clones share one answer.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: watch::Sender<bool>,
}

impl Shutdown {
    /// One that only [`Self::request`] raises.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT raise. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn on_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::new();
        let asked = shutdown.clone();
        tokio::spawn(async move {
            let mut next = async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
            let name = next().await;
            tracing::info!("{name}: finishing what is in hand; a second signal ends at once");
            asked.request();
            let name = next().await;
            tracing::warn!("{name} again: ending at once");
            end_at_once();
        });
        Ok(shutdown)
    }

    /// Asks to end, as a signal would.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits until the end is requested; at once if it was. Cancel safe.
    pub async fn requested(&self) {
        let asked = self.requested.subscribe().wait_for(|requested| *requested).await.is_ok();
        debug_assert!(asked, "the sender lives in self");
    }

    /// Waits that long, or until the end is requested. Cancel safe.
    pub async fn sleep(&self, time: Duration) {
        tokio::select! { () = tokio::time::sleep(time) => {}, () = self.requested() => {} }
    }
}

#[expect(clippy::disallowed_methods, reason = "the second signal asks for exactly that, and nothing acknowledged is lost")]
fn end_at_once() -> ! {
    std::process::exit(EXIT_INTERRUPTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_the_request_and_so_do_those_who_come_later() {
        let shutdown = Shutdown::new();
        let waiting = [shutdown.clone(), shutdown.clone()].map(|clone| tokio::spawn(async move { clone.requested().await }));
        let sleeping = tokio::spawn({
            let clone = shutdown.clone();
            async move { clone.sleep(Duration::from_secs(3600)).await }
        });
        assert!(!shutdown.is_requested());
        shutdown.request();
        for waiter in waiting {
            waiter.await.unwrap();
        }
        sleeping.await.unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
