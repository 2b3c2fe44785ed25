//! How far a run is, on stderr: a bar with the time left on a terminal, a line for each row elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `planned` is the time that all steps are to take together.
    pub(crate) fn start(planned: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(planned.as_millis() as u64);
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}  {elapsed}, about {eta} left");
            bar.set_style(style.expect("the template is well-formed"));
            // The time goes on while nothing else does.
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        Self { bar }
    }

    pub(crate) fn row(&self, title: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(title.to_owned()),
            None => eprintln!("measuring {title}"),
        }
    }

    pub(crate) fn advance(&self, planned: Duration) {
        if let Some(bar) = &self.bar {
            bar.inc(planned.as_millis() as u64);
        }
    }
}

/// Takes the bar away, so that figures or an error stand alone.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
