//! The report for people: a line for each check, then what deviates at length, then how many.
//!
//! Promises that it can be read without colours and on a narrow terminal, and that a line to be typed is never broken.

use checks::doctor::finding::{At, Finding, State};

/// Off a terminal, and the widest that is easy to read.
const WIDTH: usize = 100;
const WIDEST: usize = 120;
const NARROWEST: usize = 50;

/// `  ok    ` and the longest name of a check with two blanks.
const NAME_AT: usize = 8;
const FOUND_AT: usize = NAME_AT + 18;

/// `redis.conf` and two blanks.
const TEXT_AT: usize = 14;

/// Columns of the terminal that stdout is.
pub(super) fn width() -> usize {
    let columns = terminal_size::terminal_size_of(std::io::stdout()).map(|(columns, _)| usize::from(columns.0));
    columns.unwrap_or(WIDTH).clamp(NARROWEST, WIDEST)
}

pub(super) fn text(findings: &[Finding], width: usize) -> String {
    let mut text = String::new();
    for (number, finding) in findings.iter().enumerate() {
        if number == 0 || findings[number - 1].subject != finding.subject {
            text += &format!("{}{}\n", if number == 0 { "" } else { "\n" }, finding.subject.name());
        }
        let head = format!("  {:<6}{:<18}", mark(finding.state), finding.check);
        text += &wrapped(&head, FOUND_AT, &finding.found, width);
    }
    for state in [State::Bad, State::Warn, State::Note] {
        for finding in findings.iter().filter(|finding| finding.state == state) {
            text += &explained(finding, width);
        }
    }
    text + "\n" + &summary(findings) + "\n"
}

/// Capitals stand out where colours cannot.
fn mark(state: State) -> String {
    match state {
        State::Ok | State::Note => state.name().to_owned(),
        State::Warn | State::Bad => state.name().to_uppercase(),
    }
}

fn explained(finding: &Finding, width: usize) -> String {
    if finding.lost.is_empty() && finding.cure.is_empty() {
        return String::new();
    }
    let mut text = wrapped(&format!("\n{} {} {}: ", mark(finding.state), finding.subject.name(), finding.check), 2, &finding.found, width);
    let field = |name: &str, value: &str| match value {
        "" => String::new(),
        value => wrapped(&format!("  {name:<12}"), TEXT_AT, value, width),
    };
    if finding.state > State::Note {
        text += &field("rests on it", finding.rests);
    }
    text += &field("lost", &finding.lost);
    for cure in &finding.cure {
        text += &match cure.at {
            At::Do => field("do", &cure.line),
            at => typed(at, &cure.line, width),
        };
    }
    text
}

/// A line to be typed is whole: where it is too long beside its name it stands below it.
fn typed(at: At, line: &str, width: usize) -> String {
    if TEXT_AT + line.chars().count() <= width { format!("  {:<12}{line}\n", at.name()) } else { format!("  {}\n    {line}\n", at.name()) }
}

fn summary(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (bad, warn, notes) = (count(State::Bad), count(State::Warn), count(State::Note));
    let notes = if notes == 1 { "1 note".to_owned() } else { format!("{notes} notes") };
    format!("{bad} bad, {warn} warn, {notes}, {} ok", count(State::Ok))
}

/// `head`, then words as they fit, further lines `indent` to the right. A word that is too long stays whole.
fn wrapped(head: &str, indent: usize, words: &str, width: usize) -> String {
    let mut text = head.to_owned();
    let mut column = head.trim_start_matches('\n').chars().count();
    let mut is_first = true;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if !is_first && column + 1 + length > width {
            text += &format!("\n{:indent$}", "");
            column = indent;
        } else if !is_first {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += length;
        is_first = false;
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use checks::doctor::finding::{Subject, Verdict};

    fn findings() -> Vec<Finding> {
        let sync = Verdict::bad("sync_binlog = 0").lost("When the host crashes, commits that were seen may be taken back.");
        let sync = sync.cure(At::Sql, "SET GLOBAL sync_binlog = 1;").cure(At::MyCnf, "sync_binlog = 1");
        vec![
            Finding::new(Subject::MySql, "version", "", Verdict::ok("10.11.19-MariaDB")),
            Finding::new(Subject::MySql, "sync_binlog", "What was seen and cached is in the binlog.", sync),
            Finding::new(Subject::Redis, "memory", "", Verdict::note("no maxmemory").lost("Nothing while there is memory.")),
        ]
    }

    #[test]
    fn what_deviates_is_explained_and_what_is_in_order_is_short() {
        let expected = "\
mysql
  ok    version           10.11.19-MariaDB
  BAD   sync_binlog       sync_binlog = 0

redis
  note  memory            no maxmemory

BAD mysql sync_binlog: sync_binlog = 0
  rests on it What was seen and cached is in the
              binlog.
  lost        When the host crashes, commits that
              were seen may be taken back.
  sql         SET GLOBAL sync_binlog = 1;
  my.cnf      sync_binlog = 1

note redis memory: no maxmemory
  lost        Nothing while there is memory.

1 bad, 0 warn, 1 note, 1 ok
";
        assert_eq!(text(&findings(), 50), expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_but_those_to_be_typed() {
        let mut findings = findings();
        findings[1].cure[0].line = "x".repeat(70);
        for width in [NARROWEST, 60, WIDEST] {
            let text = text(&findings, width);
            let long: Vec<_> = text.lines().filter(|line| line.chars().count() > width && !line.contains("xxx")).collect();
            assert!(long.is_empty(), "{width}: {long:?}");
            assert!(text.contains(&"x".repeat(70)));
        }
    }
}
