//! What a replay sent and what became of it.

use crate::exit::Exit;
use crate::output::Row;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that all clients share.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) views_sent: Counter,
    pub(super) views_accepted: Counter,
    pub(super) views_unknown: Counter,
    pub(super) views_rejected: Counter,
    pub(super) prices_sent: Counter,
    pub(super) prices_accepted: Counter,
    pub(super) prices_failed: Counter,
    pub(super) prices_repeated: Counter,
    /// Clients that gave up because the API did not answer any more.
    pub(super) clients_gone: Counter,
    pub(super) complaints: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds one and gives the count before.
    pub(super) fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The result as it is shown. A view that is *unknown* was answered 503 or not at all: it is
/// counted once or not at all. A price that *failed* was refused, or never answered within the limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    pub(super) views_sent: u64,
    pub(super) views_accepted: u64,
    pub(super) views_unknown: u64,
    pub(super) views_rejected: u64,
    pub(super) prices_sent: u64,
    pub(super) prices_accepted: u64,
    pub(super) prices_failed: u64,
    /// Price requests sent once more after a 503 or no answer.
    pub(super) prices_repeated: u64,
    /// Product lines whose product the catalogue does not have; nothing was sent for them.
    pub(super) lines_without_product: u64,
    /// Lines of the file that could not be read.
    pub(super) lines_rejected: u64,
    pub(super) seconds: f64,
}

impl Report {
    pub(super) fn new(tally: &Tally, lines_without_product: u64, lines_rejected: u64, seconds: f64) -> Self {
        Self {
            views_sent: tally.views_sent.get(),
            views_accepted: tally.views_accepted.get(),
            views_unknown: tally.views_unknown.get(),
            views_rejected: tally.views_rejected.get(),
            prices_sent: tally.prices_sent.get(),
            prices_accepted: tally.prices_accepted.get(),
            prices_failed: tally.prices_failed.get(),
            prices_repeated: tally.prices_repeated.get(),
            lines_without_product,
            lines_rejected,
            seconds: (seconds * 1e3).round() / 1e3,
        }
    }

    /// Ok only if all that was in the file was sent and accepted.
    pub(super) fn exit(&self) -> Exit {
        let not_accepted = self.views_unknown + self.views_rejected + self.prices_failed;
        match not_accepted + self.lines_without_product + self.lines_rejected {
            0 => Exit::Ok,
            _ => Exit::SomeFailed,
        }
    }
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] = &[
        "views_sent",
        "views_accepted",
        "views_unknown",
        "views_rejected",
        "prices_sent",
        "prices_accepted",
        "prices_failed",
        "prices_repeated",
        "lines_without_product",
        "lines_rejected",
        "seconds",
    ];

    fn cells(&self) -> Vec<String> {
        let counts = [
            self.views_sent,
            self.views_accepted,
            self.views_unknown,
            self.views_rejected,
            self.prices_sent,
            self.prices_accepted,
            self.prices_failed,
            self.prices_repeated,
            self.lines_without_product,
            self.lines_rejected,
        ];
        counts.iter().map(ToString::to_string).chain([self.seconds.to_string()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_fields_of_the_columns_in_their_order() {
        let tally = Tally::default();
        tally.views_sent.add();
        tally.views_accepted.add();
        let report = Report::new(&tally, 0, 0, 1.23456);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            "{\"views_sent\":1,\"views_accepted\":1,\"views_unknown\":0,\"views_rejected\":0,\"prices_sent\":0,\
             \"prices_accepted\":0,\"prices_failed\":0,\"prices_repeated\":0,\"lines_without_product\":0,\
             \"lines_rejected\":0,\"seconds\":1.235}"
        );
        assert_eq!(report.cells().len(), Report::COLUMNS.len());
    }

    #[test]
    fn only_a_replay_that_was_accepted_whole_is_ok() {
        let exit = |tally: &Tally, without, rejected| Report::new(tally, without, rejected, 0.0).exit();
        assert_eq!(exit(&Tally::default(), 0, 0), Exit::Ok);
        assert_eq!(exit(&Tally::default(), 1, 0), Exit::SomeFailed);
        assert_eq!(exit(&Tally::default(), 0, 1), Exit::SomeFailed);
        let faults: [fn(&Tally) -> &Counter; 3] =
            [|tally| &tally.views_unknown, |tally| &tally.views_rejected, |tally| &tally.prices_failed];
        for fault in faults {
            let tally = Tally::default();
            fault(&tally).add();
            assert_eq!(exit(&tally, 0, 0), Exit::SomeFailed);
        }
    }
}
