//! The figures as one table, for a terminal, for the README, and as JSON.

use crate::figures::{Spread, grouped};
use crate::usage::Memory;
use serde::Serialize;

/// What a figure has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Mark {
    pub(crate) fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
            Self::Below(bound) => figure < bound,
        }
    }

    fn text(self, unit: Option<Unit>) -> String {
        let shown = |bound: f64| unit.map_or_else(|| bound.to_string(), |unit| unit.text(bound));
        match self {
            Self::AtLeast(bound) => format!("≥ {}", shown(bound)),
            Self::AtMost(bound) => format!("≤ {}", shown(bound)),
            Self::Below(bound) => format!("< {}", shown(bound)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Mib,
    RowsPerView,
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Milliseconds => format!("{} ms", millis(value)),
            Self::Mib => format!("{value:.0} MiB"),
            Self::RowsPerView => format!("{value:.3}"),
        }
    }
}

/// One of the two that are compared: medians of the rounds, means of what was used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Side {
    pub(crate) per_second: f64,
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
    /// Microseconds of processor time a request.
    pub(crate) cpu_micros: Cpu,
    /// Share of a core that all servers together used, 0 to 1, and that the load generator did: what was the bottleneck.
    pub(crate) servers_busy: f64,
    pub(crate) load_busy: f64,
    /// Share of the busier core that neither used: the kernel, and what else ran. None where nothing is pinned.
    pub(crate) others_busy: Option<f64>,
}

impl Side {
    /// The generator had no time left while the servers had some: they could have done more.
    fn is_limited_by_load(&self) -> bool {
        self.load_busy > SATURATED && self.servers_busy < SATURATED
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    pub(crate) redis: f64,
    pub(crate) mysql: f64,
    pub(crate) worker: f64,
    /// Of the load generator.
    pub(crate) load: f64,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) row: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    pub(crate) baseline: Option<f64>,
    pub(crate) ratio: Option<Spread>,
    pub(crate) mark: Option<Mark>,
    /// `None` without a mark, and where it cannot be judged; a note says why.
    pub(crate) met: Option<bool>,
    /// Candidate and baseline.
    pub(crate) sides: Vec<Side>,
    /// p50 and p99 of a figure that has no sides.
    pub(crate) delay_millis: Option<[f64; 2]>,
    pub(crate) api: Option<Memory>,
    pub(crate) worker: Option<Memory>,
    pub(crate) notes: Vec<String>,
}

impl Line {
    /// A figure without a baseline.
    pub(crate) fn figure(row: &str, title: impl Into<String>, unit: Unit, value: f64, mark: Option<Mark>) -> Self {
        let met = mark.map(|mark| mark.is_met(value));
        let (row, title, sides) = (row.to_owned(), title.into(), Vec::new());
        Self {
            row,
            title,
            unit,
            value,
            baseline: None,
            ratio: None,
            mark,
            met,
            sides,
            delay_millis: None,
            api: None,
            worker: None,
            notes: Vec::new(),
        }
    }

    /// A figure beside that of a baseline; the mark is for their ratio.
    pub(crate) fn against(mut self, baseline: f64, ratio: Option<Spread>, mark: Option<Mark>) -> Self {
        self.met = mark.and_then(|mark| ratio.map(|ratio| mark.is_met(ratio.median)));
        Self { baseline: Some(baseline), ratio, mark, ..self }
    }

    /// What both sides took; the mark is not judged where that says nothing of the servers.
    pub(crate) fn of_sides(self, sides: Vec<Side>) -> Self {
        let line = Self { sides, ..self };
        match limited(&line.sides, line.unit) {
            Some(why) => line.not_judged(why),
            None => line,
        }
    }

    pub(crate) fn not_judged(self, why: &str) -> Self {
        Self { met: None, ..self }.note(why)
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let side = |place: usize, text: fn(&Side) -> String| self.sides.get(place).map(text).unwrap_or_default();
        let both = |[p50, p99]: [f64; 2]| format!("{} / {}", millis(p50), millis(p99));
        let latency = |place: usize| self.sides.get(place).map(|side| both([side.p50_millis, side.p99_millis]));
        let cpu = |side: &Side| format!("{:.1} + {:.1}", side.cpu_micros.server, side.cpu_micros.redis);
        let busy = |side: &Side| format!("{:.0} / {:.0} %", 100.0 * side.servers_busy, 100.0 * side.load_busy);
        let memory = |memory: Option<Memory>| memory.map(|of| format!("{:.0} ({:.0})", of.resident_mib, of.peak_mib)).unwrap_or_default();
        let ratio = |spread: Spread| match spread {
            Spread { median, samples: 1, .. } => format!("{median:.2}"),
            Spread { median, min, max, .. } => format!("{median:.2} ({min:.2}–{max:.2})"),
        };
        let mark_unit = self.baseline.is_none().then_some(self.unit);
        let judged = |met| match met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not judged",
        };
        let mark = |mark: Mark| format!("{}, {}", mark.text(mark_unit), judged(self.met));
        [
            self.title.clone(),
            self.unit.text(self.value),
            self.baseline.map(|value| self.unit.text(value)).unwrap_or_default(),
            self.ratio.map(ratio).unwrap_or_default(),
            self.mark.map(mark).unwrap_or_default(),
            latency(0).or(self.delay_millis.map(both)).unwrap_or_default(),
            latency(1).unwrap_or_default(),
            side(0, cpu),
            side(1, cpu),
            side(0, busy),
            side(1, busy),
            memory(self.api),
            memory(self.worker),
        ]
    }
}

/// Which side's figure is the load generator's rather than the servers', and what that says of the ratio.
fn limited(sides: &[Side], unit: Unit) -> Option<&'static str> {
    let by_load = |place: usize| sides.get(place).is_some_and(Side::is_limited_by_load);
    // A rate that was held down is too low, a latency too high.
    let lower = unit == Unit::PerSecond;
    match (by_load(0), by_load(1)) {
        (false, false) => None,
        (true, true) => Some("the load generator was the limit of both: the ratio says nothing"),
        (_, baseline) if baseline == lower => Some("the load generator was the limit: the ratio is at most this"),
        _ => Some("the load generator was the limit: the ratio is at least this"),
    }
}

/// Share of a core from which on it is what limits.
const SATURATED: f64 = 0.95;

/// Share of a core that others may take before the figures are doubted. The kernel itself takes some of it.
const DISTURBING: f64 = 0.15;

const COLUMNS: [&str; 13] = [
    "row",
    "ours",
    "baseline",
    "ratio (min–max)",
    "mark",
    "p50 / p99 ms",
    "baseline's",
    "CPU µs a request (server + Redis)",
    "baseline's",
    "core busy by servers / load",
    "baseline's",
    "API MiB (peak)",
    "worker MiB (peak)",
];

/// Those that the README has room for; the others are for the terminal, and in the JSON.
const README_COLUMNS: usize = 9;

/// All that one run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) servers: String,
    pub(crate) cores: String,
    pub(crate) method: String,
    pub(crate) seconds: f64,
    pub(crate) account: String,
    pub(crate) lines: Vec<Line>,
}

impl Report {
    /// For a terminal: columns two spaces apart.
    pub(crate) fn table(&self) -> String {
        let rows: Vec<[String; COLUMNS.len()]> = self.rows().collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        let mut text = self.heading().join("\n") + "\n\n";
        for row in rows {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text += padded.join("  ").trim_end();
            text.push('\n');
        }
        self.notes().for_each(|note| text += &format!("\n{note}"));
        text + &format!("\n{}\n", self.account)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = self.heading().join("  \n") + "\n\n";
        for (place, row) in self.rows().enumerate() {
            text += &format!("| {} |\n", row[..README_COLUMNS].join(" | "));
            if place == 0 {
                text += &format!("|{}\n", "---|".repeat(README_COLUMNS));
            }
        }
        self.notes().for_each(|note| text += &format!("\n{note}  "));
        text + &format!("\n{}\n", self.account)
    }

    fn heading(&self) -> [String; 3] {
        [format!("{}; {}", self.machine, self.cores), self.servers.clone(), self.method.clone()]
    }

    fn rows(&self) -> impl Iterator<Item = [String; COLUMNS.len()]> {
        std::iter::once(COLUMNS.map(String::from)).chain(self.lines.iter().map(Line::cells))
    }

    fn notes(&self) -> impl Iterator<Item = String> {
        let of_line = |line: &Line| line.notes.iter().map(|note| format!("{}: {note}", line.title)).collect::<Vec<_>>();
        self.lines.iter().flat_map(of_line).chain(self.disturbance())
    }

    fn disturbance(&self) -> Option<String> {
        let most = self.lines.iter().flat_map(|line| &line.sides).filter_map(|side| side.others_busy).fold(0.0, f64::max);
        (most > DISTURBING).then(|| format!("others took up to {:.0} % of a core while this was measured: do not trust it", 100.0 * most))
    }
}

/// Two significant digits below ten.
pub(crate) fn millis(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value => grouped(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let side = |per_second| Side {
            per_second,
            p50_millis: 0.5214,
            p99_millis: 12.34,
            cpu_micros: Cpu { server: 9.96, redis: 2.0, ..Cpu::default() },
            servers_busy: 0.998,
            load_busy: 0.5,
            others_busy: Some(0.2),
        };
        let spread = Spread { median: 0.45, min: 0.4, max: 0.5, samples: 5 };
        let get = Line::figure("get-64", "GET", Unit::PerSecond, 45_000.4, None);
        let get = get.against(100_000.0, Some(spread), Some(Mark::AtLeast(0.4))).of_sides(vec![side(45_000.4), side(100_000.0)]);
        let memory = Memory { resident_mib: 70.2, peak_mib: 71.0 };
        let api = Line::figure("memory", "memory of the API", Unit::Mib, 70.2, Some(Mark::AtMost(64.0)));
        let api = Line { api: Some(memory), ..api }.note("after all");
        let text = |text: &str| text.to_owned();
        let (machine, servers, cores) = (text("2 cores X"), text("Redis 7"), text("pinned"));
        Report { machine, servers, cores, method: text("fast"), seconds: 1.0, account: text("all there"), lines: vec![get, api] }
    }

    #[test]
    fn the_readme_gets_a_table_with_marks_in_words() {
        let expected = "2 cores X; pinned  \nRedis 7  \nfast\n\n\
            | row | ours | baseline | ratio (min–max) | mark | p50 / p99 ms | baseline's | CPU µs a request (server + Redis) | baseline's |\n\
            |---|---|---|---|---|---|---|---|---|\n\
            | GET | 45,000/s | 100,000/s | 0.45 (0.40–0.50) | ≥ 0.4, met | 0.521 / 12 | 0.521 / 12 | 10.0 + 2.0 | 10.0 + 2.0 |\n\
            | memory of the API | 70 MiB |  |  | ≤ 64 MiB, missed |  |  |  |  |\n\n\
            memory of the API: after all  \nothers took up to 20 % of a core while this was measured: do not trust it  \nall there\n";
        assert_eq!(report().markdown(), expected);
    }

    #[test]
    fn what_the_readme_has_no_room_for_is_on_the_terminal() {
        let table = report().table();
        for cell in ["core busy by servers / load", "100 / 50 %", "API MiB (peak)", "70 (71)"] {
            assert!(table.contains(cell) && !report().markdown().contains(cell), "{cell}: {table}");
        }
    }

    #[test]
    fn a_mark_is_not_judged_where_the_load_generator_was_the_limit() {
        let report = report();
        let (free, full) =
            (report.lines[0].sides[0].clone(), Side { servers_busy: 0.9, load_busy: 0.96, ..report.lines[0].sides[0].clone() });
        let both_full = Side { servers_busy: 0.96, ..full.clone() };
        let line = |unit, sides: [&Side; 2]| {
            let mark = Some(Mark::AtLeast(0.4));
            Line::figure("x", "x", unit, 1.0, None).against(2.0, Spread::of(&[0.5]), mark).of_sides(sides.map(Clone::clone).to_vec())
        };
        let rate = |sides| line(Unit::PerSecond, sides);
        assert_eq!(rate([&free, &both_full]).met, Some(true));
        let limited = rate([&free, &full]);
        assert_eq!(limited.met, None);
        assert_eq!(limited.notes, ["the load generator was the limit: the ratio is at most this"]);
        assert_eq!(limited.cells()[3..5], ["0.50", "≥ 0.4, not judged"]);
        assert!(rate([&full, &free]).notes[0].ends_with("at least this"));
        assert!(rate([&full, &full]).notes[0].ends_with("says nothing"));
        assert!(line(Unit::Milliseconds, [&free, &full]).notes[0].ends_with("at least this"));
        assert!(line(Unit::Milliseconds, [&full, &free]).notes[0].ends_with("at most this"));
    }

    #[test]
    fn columns_stand_below_each_other() {
        let table = report().table();
        let lines: Vec<Vec<char>> = table.lines().map(|line| line.chars().collect()).collect();
        let place = |row: usize, cell: &str| {
            let line: String = lines[row].iter().collect();
            line[..line.find(cell).unwrap()].chars().count()
        };
        assert_eq!(place(4, "mark"), place(5, "≥ 0.4"));
        assert_eq!(place(5, "≥ 0.4"), place(6, "≤ 64"));
    }

    #[test]
    fn a_mark_is_for_the_ratio_where_there_is_one() {
        assert_eq!(report().lines.iter().map(|line| line.met).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert!(Mark::AtLeast(3.0).is_met(3.0) && Mark::AtMost(3.0).is_met(3.0) && !Mark::Below(3.0).is_met(3.0));
    }
}
