//! `doctor`: do the servers keep what our guarantees rest on, and what to type where they do not?
//!
//! Promises to change nothing, and to examine what can be reached whatever cannot. What there is to know of MySQL and Redis is in
//! the crate `checks`; here are the API that may run (`api.rs`), the report and the exit code.

mod api;
mod report;

use crate::args::{Connection, DoctorArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use crate::stores::{mysql as connect, usage};
use checks::doctor::finding::{Finding, State};
use checks::doctor::{Failed, examine};
use std::sync::Arc;
use telemetry::metrics::{Registry, StoreMetrics};

pub(crate) async fn run(args: &DoctorArgs, connection: &Connection, output: &Output) -> Result<Exit, Failure> {
    let mysql = connect(connection, &Arc::new(StoreMetrics::new(&Registry::new("inventoryctl"))))?;
    let token = crate::token(connection)?;
    let (stores, api) = tokio::join!(examine(&connection.stores, &mysql), api::examine(args.api_ops_listen, token.as_deref()));
    let stores = stores.map_err(usage)?;
    let findings: Vec<Finding> = stores.findings.into_iter().chain(api?).collect();
    match output.format() {
        Format::Table => output.text(&report::text(&findings, report::width()))?,
        Format::Json | Format::Ndjson | Format::Csv => output.rows(&findings)?,
    }
    Ok(exit(stores.failed, &findings))
}

fn exit(failed: Option<Failed>, findings: &[Finding]) -> Exit {
    let deviates = findings.iter().any(|finding| finding.state > State::Note);
    match failed {
        Some(Failed::Unreachable) => Exit::Unreachable,
        Some(Failed::NotAllowed) => Exit::NotAllowed,
        None if deviates => Exit::Conflict,
        None => Exit::Ok,
    }
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["subject", "check", "state", "found", "rests", "lost", "cure"];

    /// The cure has a line for each of its steps.
    fn cells(&self) -> Vec<String> {
        let cure: Vec<_> = self.cure.iter().map(|cure| format!("{}: {}", cure.at.name(), cure.line)).collect();
        let text = [self.subject.name(), self.check, self.state.name(), &self.found, self.rests, &self.lost];
        text.into_iter().map(str::to_owned).chain([cure.join("\n")]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use checks::doctor::finding::{At, Subject, Verdict};

    #[test]
    fn the_exit_code_tells_the_worst() {
        let finding = |state: fn(&'static str) -> Verdict| Finding::new(Subject::Redis, "x", "", state(""));
        let with = |verdict: fn(&'static str) -> Verdict| exit(None, &[finding(Verdict::ok), finding(verdict)]);
        assert_eq!([with(Verdict::ok), with(Verdict::note)], [Exit::Ok; 2]);
        assert_eq!([with(Verdict::warn), with(Verdict::bad)], [Exit::Conflict; 2]);
        for (failed, code) in [(Failed::NotAllowed, Exit::NotAllowed), (Failed::Unreachable, Exit::Unreachable)] {
            assert_eq!(exit(Some(failed), &[finding(Verdict::bad)]), code);
        }
    }

    #[test]
    fn a_finding_has_the_same_words_in_every_form() {
        let verdict = Verdict::warn("x = 0").lost("much").cure(At::Sql, "SET x = 1;").cure(At::MyCnf, "x = 1");
        let finding = Finding::new(Subject::MySql, "x", "all", verdict);
        assert_eq!(finding.cells(), ["mysql", "x", "warn", "x = 0", "all", "much", "sql: SET x = 1;\nmy.cnf: x = 1"]);
    }
}
