//! The figures of the view queue, as `inventoryctl queue status` measures them.

use crate::screen::grouped;
use crate::{Result, json};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    accepted: u64,
    persisted: u64,
    pub(super) pending: u64,
    dead: u64,
    lost: u64,
    twice: u64,
    oldest_seconds: f64,
}

impl Figures {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| json::count(text, name).ok_or_else(|| format!("`inventoryctl queue status` did not print {name}: {text}"));
        Ok(Self {
            accepted: field("accepted")?,
            persisted: field("persisted")?,
            pending: field("pending")?,
            dead: field("dead")?,
            lost: field("lost")?,
            twice: field("twice")?,
            // Nothing waits: no age.
            oldest_seconds: json::number(text, "oldest_age_seconds").unwrap_or(0.0),
        })
    }

    /// Accepted and where it went. `≠` if it does not add up.
    pub(super) fn sum(&self) -> String {
        let lost = if self.lost > 0 { format!(" + {} lost", grouped(self.lost)) } else { String::new() };
        let total = self.persisted + self.pending + self.dead + self.lost;
        let sign = if total == self.accepted { '=' } else { '≠' };
        let [accepted, persisted, pending, dead] = [self.accepted, self.persisted, self.pending, self.dead].map(grouped);
        format!("{accepted} accepted {sign} {persisted} in MySQL + {pending} pending + {dead} set aside{lost}")
    }

    /// The live line.
    pub(super) fn line(&self) -> String {
        let [accepted, persisted, pending] = [self.accepted, self.persisted, self.pending].map(grouped);
        let (oldest, lost, twice) = (self.oldest_seconds, grouped(self.lost), grouped(self.twice));
        format!("accepted {accepted} | in MySQL {persisted} | pending {pending} | oldest {oldest:.1} s | lost {lost} | twice {twice}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: &str = r#"{"accepted":34960,"persisted":34960,"pending":0,"dead":0,"lost":0,
        "twice":0,"oldest_age_seconds":null,"depth":0}"#;

    #[test]
    fn what_was_measured_is_what_is_printed() {
        let figures = Figures::parse(QUIET).unwrap();
        assert_eq!(figures.sum(), "34,960 accepted = 34,960 in MySQL + 0 pending + 0 set aside");
        assert_eq!(figures.line(), "accepted 34,960 | in MySQL 34,960 | pending 0 | oldest 0.0 s | lost 0 | twice 0");
    }

    #[test]
    fn a_sum_that_does_not_add_up_is_shown_as_such() {
        let short = QUIET.replace(r#""persisted":34960"#, r#""persisted":34950"#);
        let figures = Figures::parse(&short).unwrap();
        assert!(figures.sum().starts_with("34,960 accepted ≠ 34,950 in MySQL"));
        let explained = short.replace(r#""lost":0"#, r#""lost":10"#);
        let figures = Figures::parse(&explained).unwrap();
        assert!(figures.sum().ends_with("= 34,950 in MySQL + 0 pending + 0 set aside + 10 lost"));
    }

    #[test]
    fn a_missing_figure_is_named() {
        let error = Figures::parse("{}").unwrap_err().to_string();
        assert!(error.contains("did not print accepted"), "{error}");
    }
}
