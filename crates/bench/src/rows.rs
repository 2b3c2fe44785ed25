//! The table of what is measured, and the run over it.

use crate::baselines::Kind;
use crate::progress::Progress;
use crate::report::Mark::{AtLeast, AtMost};
use crate::report::{Line, Report, Unit};
use crate::requests::Popularity::{OneHot, Zipf};
use crate::stack::Stack;
use crate::stock::Goods::{Baskets, Bought, Hot, SoldOut};
use crate::usage::Memory;
use crate::versus::{Versus, Work};
use crate::{backlog, live, machine, prices, slow};
use anyhow::{Context, bail, ensure};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) warm: Duration,
    pub(crate) measured: Duration,
    /// Views of the backlog that a worker finds.
    pub(crate) backlog: u64,
    /// Length of the full load under which delays are measured.
    pub(crate) live: Duration,
    /// Length of the few requests a second under which they are measured, too.
    pub(crate) idle: Duration,
}

/// The whole table in less than six minutes.
pub(crate) const FULL: Plan = Plan {
    rounds: 5,
    warm: Duration::from_millis(200),
    measured: Duration::from_millis(1_000),
    backlog: 1_000_000,
    live: Duration::from_secs(12),
    idle: Duration::from_secs(10),
};

/// To see that everything works; its figures say little.
pub(crate) const QUICK: Plan = Plan {
    rounds: 2,
    warm: Duration::from_millis(100),
    measured: Duration::from_millis(300),
    backlog: 100_000,
    live: Duration::from_secs(3),
    idle: Duration::from_secs(4),
};

pub(crate) const EVERYSEC: &str = "everysec";
const ALWAYS: &str = "always";
const VIEW: Work = Work::View(Zipf);

#[rustfmt::skip]
const VERSUS: [Versus; 17] = [
    Versus { row: "get-64", title: "GET hit : bare server, 64 connections", work: Work::Get, against: Kind::Bare, clients: 64, fsync: EVERYSEC, mark: Some(AtLeast(0.55)), mark_p99: None },
    Versus { row: "get-256", title: "GET hit : bare server, 256 connections", work: Work::Get, against: Kind::Bare, clients: 256, fsync: EVERYSEC, mark: Some(AtLeast(0.55)), mark_p99: None },
    Versus { row: "view-64", title: "POST view : bare server, 64 connections", work: VIEW, against: Kind::Bare, clients: 64, fsync: EVERYSEC, mark: Some(AtLeast(0.55)), mark_p99: Some(AtMost(4.0)) },
    Versus { row: "view-256", title: "POST view : bare server, 256 connections", work: VIEW, against: Kind::Bare, clients: 256, fsync: EVERYSEC, mark: Some(AtLeast(0.6)), mark_p99: Some(AtMost(4.0)) },
    Versus { row: "view-always-64", title: "the same with appendfsync always, 64", work: VIEW, against: Kind::Bare, clients: 64, fsync: ALWAYS, mark: None, mark_p99: None },
    Versus { row: "view-always-256", title: "the same with appendfsync always, 256", work: VIEW, against: Kind::Bare, clients: 256, fsync: ALWAYS, mark: None, mark_p99: None },
    Versus { row: "direct-zipf", title: "POST view : one UPDATE each, 64", work: VIEW, against: Kind::Direct, clients: 64, fsync: EVERYSEC, mark: Some(AtLeast(5.0)), mark_p99: None },
    Versus { row: "direct-hot", title: "POST view : one UPDATE each, all of one product, 64", work: Work::View(OneHot), against: Kind::Direct, clients: 64, fsync: EVERYSEC, mark: Some(AtLeast(15.0)), mark_p99: None },
    Versus { row: "textbook", title: "POST view : HINCRBY, RPUSH, BLPOP of ten, 64", work: VIEW, against: Kind::Textbook, clients: 64, fsync: EVERYSEC, mark: None, mark_p99: None },
    Versus { row: "trim", title: "POST view : LRANGE, COMMIT, LTRIM, 64", work: VIEW, against: Kind::Trim, clients: 64, fsync: EVERYSEC, mark: None, mark_p99: None },
    Versus { row: "stream", title: "POST view : a stream entry each, a statement each, 64", work: VIEW, against: Kind::Stream, clients: 64, fsync: EVERYSEC, mark: None, mark_p99: None },
    Versus { row: "price-1", title: "PUT price : MySQL alone, p50, 1 client", work: Work::Price, against: Kind::Direct, clients: 1, fsync: EVERYSEC, mark: Some(AtMost(1.7)), mark_p99: None },
    Versus { row: "price-16", title: "PUT price : MySQL alone, p50, 16 clients", work: Work::Price, against: Kind::Direct, clients: 16, fsync: EVERYSEC, mark: Some(AtMost(1.3)), mark_p99: Some(AtMost(2.0)) },
    Versus { row: "stock-hot", title: "POST reservation of one product : rows locked, a transaction each, 64", work: Work::Reserve(Hot), against: Kind::Locked, clients: 64, fsync: EVERYSEC, mark: Some(AtLeast(10.0)), mark_p99: Some(AtMost(50.0)) },
    Versus { row: "stock-bought", title: "the same and its commit : rows locked, two transactions, 64", work: Work::Reserve(Bought), against: Kind::Locked, clients: 64, fsync: EVERYSEC, mark: None, mark_p99: None },
    Versus { row: "stock-baskets", title: "POST reservation of 4 of 10,000 products : rows locked, a transaction each, 64", work: Work::Reserve(Baskets), against: Kind::Locked, clients: 64, fsync: EVERYSEC, mark: Some(AtLeast(1.0)), mark_p99: None },
    Versus { row: "stock-sold-out", title: "POST reservation, 409, of what is sold out : rows locked, a transaction each, 64", work: Work::Reserve(SoldOut), against: Kind::Locked, clients: 64, fsync: EVERYSEC, mark: None, mark_p99: None },
];

/// Rows that are not comparisons, after those.
const OTHERS: [&str; 8] = ["batch", "hot", "drain", "outage", "live", "idle", "memory", "slow"];

/// Most that API and worker may hold, MiB.
const MEMORY_MIB: f64 = 64.0;

/// Which rows were asked for; none is all. `get` means `get-64` and `get-256`.
///
/// # Errors
/// A name that no row has.
pub(crate) fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let all: Vec<&'static str> = VERSUS.iter().map(|versus| versus.row).chain(OTHERS).collect();
    let is = |row: &str, word: &str| row == word || row.strip_prefix(word).is_some_and(|rest| rest.starts_with('-'));
    if let Some(unknown) = only.iter().find(|word| !all.iter().any(|row| is(row, word))) {
        bail!("there is no row `{unknown}`; there are: {}", all.join(", "));
    }
    Ok(all.into_iter().filter(|row| only.is_empty() || only.iter().any(|word| is(row, word))).collect())
}

/// Measures the chosen rows.
///
/// # Errors
/// An error answer, a lost or doubled view, or something died. A missed mark is none.
pub(crate) async fn run(stack: &mut Stack, plan: &Plan, rows: &[&str]) -> anyhow::Result<Report> {
    let began = Instant::now();
    let wanted = |row: &str| rows.contains(&row);
    let versus: Vec<&Versus> = VERSUS.iter().filter(|versus| wanted(versus.row)).collect();
    let others = planned(plan);
    let time = versus.iter().map(|versus| versus.planned(plan)).chain(others.iter().filter(|(row, _)| wanted(row)).map(|(_, time)| *time));
    let progress = Progress::start(time.sum());
    let mut lines = Vec::new();
    for versus in versus {
        progress.row(versus.title);
        lines.extend(versus.run(stack, plan, &progress).await.with_context(|| format!("row {}", versus.row))?);
    }
    if wanted("batch") {
        progress.row("a batch of prices");
        lines.push(prices::batch(stack, plan).await?);
        progress.advance(prices::batch_planned(plan));
    }
    if wanted("hot") {
        progress.row("readers beside queued writers");
        lines.push(prices::hot(stack, plan).await?);
        progress.advance(prices::hot_planned(plan));
    }
    if wanted("drain") {
        progress.row("the drain of a backlog");
        let accepts = lines.iter().find(|line| line.row == "view-64").map(|line| line.value);
        lines.extend(backlog::run(stack, plan, accepts).await?);
        progress.advance(backlog::planned(plan));
    }
    if wanted("outage") {
        progress.row("an outage of MySQL");
        lines.push(backlog::outage(stack, plan).await?);
        progress.advance(backlog::planned(plan));
    }
    if wanted("live") {
        progress.row("delays under full load");
        lines.extend(live::run(stack, plan).await?);
        progress.advance(plan.live);
    }
    if wanted("idle") {
        progress.row("delays at a few requests a second");
        lines.push(live::idle(stack, plan).await?);
        progress.advance(plan.idle);
    }
    if wanted("memory") {
        lines.extend(memory(stack.api_memory()?, stack.worker_memory()?, is_whole(plan, rows)));
    }
    // After the memory, for it starts API and worker anew.
    if wanted("slow") {
        progress.row("prices beside the drain of a slow MySQL");
        lines.push(slow::run(stack, plan).await?);
        progress.advance(slow::planned(plan));
    }
    let account = account(stack).await?;
    drop(progress);
    Ok(Report {
        machine: machine::name(),
        servers: stack.versions().await?,
        cores: stack.cores.describe(),
        method: method(plan),
        seconds: began.elapsed().as_secs_f64(),
        account,
        lines,
    })
}

/// How long the rows take that are not comparisons.
fn planned(plan: &Plan) -> [(&'static str, Duration); 7] {
    [
        ("batch", prices::batch_planned(plan)),
        ("hot", prices::hot_planned(plan)),
        ("drain", backlog::planned(plan)),
        ("outage", backlog::planned(plan)),
        ("live", plan.live),
        ("idle", plan.idle),
        ("slow", slow::planned(plan)),
    ]
}

/// What was held after little work says nothing of the mark.
fn is_whole(plan: &Plan, rows: &[&str]) -> bool {
    *plan == FULL && rows.len() == VERSUS.len() + OTHERS.len()
}

fn memory(api: Memory, worker: Memory, judged: bool) -> [Line; 2] {
    let line = |title, memory: Memory| {
        let line = Line::figure("memory", title, Unit::Mib, memory.resident_mib, Some(AtMost(MEMORY_MIB)));
        if judged { line } else { line.not_judged("judged only after the whole table") }
    };
    let of_api = line("resident memory of the API after all that", api);
    [Line { api: Some(api), ..of_api }, Line { worker: Some(worker), ..line("resident memory of the worker", worker) }]
}

fn method(plan: &Plan) -> String {
    format!(
        "innodb_flush_log_at_trx_commit=1, sync_binlog=1, row binlog; Redis with AOF; 10,000 products, Zipf 1.0; \
         {} rounds of {} ms for each side, in turns; ratios are paired within a round",
        plan.rounds,
        plan.measured.as_millis(),
    )
}

/// Every view that was answered 202, and no other, is in MySQL.
async fn account(stack: &Stack) -> anyhow::Result<String> {
    stack.wait_drained().await?;
    let account = stack.account().await?;
    ensure!(
        account.drift() == 0 && account.accepted == stack.accepted && account.persisted == stack.accepted,
        "{} views were answered 202, and this is their account: {account:?}",
        stack.accepted,
    );
    let accepted = crate::figures::grouped(account.accepted as f64);
    Ok(format!("views: {accepted} answered 202 = {accepted} in MySQL, drift 0, lost 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        chosen(&only.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_row_is_chosen_by_its_name_or_by_that_of_its_kin() {
        assert_eq!(names(&[]).len(), VERSUS.len() + OTHERS.len());
        assert_eq!(names(&["get", "price-1", "live"]), ["get-64", "get-256", "price-1", "live"]);
        let refusal = chosen(&["gets".to_owned()]).unwrap_err().to_string();
        assert!(refusal.contains("`gets`") && refusal.contains("get-64, get-256"), "{refusal}");
    }

    #[test]
    fn memory_is_judged_after_the_whole_table_only() {
        let all = names(&[]);
        assert!(is_whole(&FULL, &all) && !is_whole(&QUICK, &all) && !is_whole(&FULL, &names(&["memory"])));
        let met = |judged| memory(Memory { resident_mib: 70.0, peak_mib: 70.0 }, Memory::default(), judged).map(|line| line.met);
        assert_eq!((met(true), met(false)), ([Some(false), Some(true)], [None, None]));
    }

    #[test]
    fn views_beside_a_baseline_that_keeps_them_say_what_either_may_lose() {
        let note = |row: &str| VERSUS.iter().find(|versus| versus.row == row).unwrap().durability().unwrap_or_default();
        for row in ["direct-zipf", "direct-hot"] {
            assert!(note(row).contains("may lose about a second") && note(row).ends_with("the baseline's loses nothing"), "{row}");
        }
        for row in ["textbook", "trim", "stream"] {
            assert!(note(row).contains("both may lose about a second"), "{row}");
        }
        assert_eq!([note("view-64"), note("price-16")], ["", ""]);
    }

    #[test]
    fn the_line_of_a_p99_says_so() {
        let title = |row: &str| VERSUS.iter().find(|versus| versus.row == row).unwrap().title_of_p99();
        assert_eq!(title("view-64"), "POST view p99 : bare server, 64 connections");
        assert_eq!(title("price-16"), "PUT price : MySQL alone, p99, 16 clients");
        assert_eq!(title("stock-hot"), "POST reservation of one product p99");
    }

    #[test]
    fn the_whole_table_takes_less_than_six_minutes() {
        let versus: Duration = VERSUS.iter().map(|versus| versus.planned(&FULL)).sum();
        let planned = versus + planned(&FULL).iter().map(|(_, time)| *time).sum::<Duration>();
        // The rest is for starting, warming and draining.
        assert!(planned < Duration::from_secs(330), "{planned:?}");
    }
}
