//! Load: the month, replayed through HTTP again and again for as long as it is wanted.

use std::time::{Duration, Instant};

use servers::Process;

use super::stack::Stack;
use crate::Result;
use crate::screen::say;

const PAUSE: Duration = Duration::from_secs(1);
/// Load that ends sooner than this after its start has not really run.
const AT_ONCE: Duration = Duration::from_secs(2);
/// So often in a row it may end at once before it is given up.
const TRIES: u32 = 5;

pub(super) struct Traffic {
    wanted: bool,
    process: Option<Process>,
    /// Of its start, or of its end while it waits to be started again.
    since: Instant,
    failures: u32,
}

impl Traffic {
    pub(super) fn off() -> Self {
        Self { wanted: false, process: None, since: Instant::now(), failures: 0 }
    }

    pub(super) fn is_on(&self) -> bool {
        self.wanted
    }

    /// Switching it off kills it: it holds nothing, and requests left unanswered are its purpose.
    pub(super) fn switch(&mut self, on: bool, stack: &Stack) -> Result<()> {
        *self = Self { wanted: on, ..Self::off() };
        if on { self.start(stack) } else { Ok(()) }
    }

    /// What it talks to is killed every now and then, and it may end of that: it is started again.
    pub(super) fn look_after(&mut self, stack: &Stack) -> Result<()> {
        if let Some(ended) = self.process.take_if(|process| process.exited().is_some()) {
            self.failures = if self.since.elapsed() < AT_ONCE { self.failures + 1 } else { 0 };
            self.since = Instant::now();
            if self.failures >= TRIES {
                self.wanted = false;
                say(format!("traffic is off: {}", ended.error("it ends at once, again and again")));
            }
        }
        if self.wanted && self.process.is_none() && self.since.elapsed() > PAUSE {
            self.start(stack)?;
        }
        Ok(())
    }

    fn start(&mut self, stack: &Stack) -> Result<()> {
        let file = stack.place().month().display().to_string();
        self.process = Some(stack.inventoryctl("traffic", &["replay", &file, "--repeat"])?);
        self.since = Instant::now();
        Ok(())
    }
}
