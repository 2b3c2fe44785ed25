//! Rows that compare: candidate and baseline in turns, a ratio for each round.

use crate::baselines::Kind;
use crate::figures::{Spread, paired};
use crate::load::{self, End, Slice};
use crate::progress::Progress;
use crate::report::{Cpu, Line, Mark, Side, Unit};
use crate::requests::{PRICE_SPAN, PRODUCTS, Popularity, Requests};
use crate::rows::{EVERYSEC, Plan};
use crate::stack::{Baseline, OURS, Stack, THEIRS};
use crate::stock::{Goods, Opened};
use crate::usage::{Used, Who, between};
use anyhow::{Context, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of the order in which products are asked for: the same in every run.
pub(crate) const SEED: u64 = 42;

/// Share of reads that must be hits for the row to be one of hits: views and prices leave records in the cache, TTLs do not.
const HITS: f64 = 0.99;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Get,
    View(Popularity),
    Price,
    Reserve(Goods),
}

/// One comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Versus {
    pub(crate) row: &'static str,
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) against: Kind,
    pub(crate) clients: usize,
    /// How Redis syncs its log.
    pub(crate) fsync: &'static str,
    pub(crate) mark: Option<Mark>,
    /// Of the p99, as a figure of its own: of its ratio, or of ours alone where stock is reserved.
    pub(crate) mark_p99: Option<Mark>,
}

/// One turn of one of the two.
struct Turn {
    slice: Slice,
    used: Used,
    /// In which it was used: nearly the slice's own time.
    used_in: Duration,
}

impl Versus {
    pub(crate) fn planned(&self, plan: &Plan) -> Duration {
        2 * plan.rounds * (plan.warm + plan.measured)
    }

    /// What a view that was answered 202 survives on either side, where they differ or would be thought to.
    pub(crate) fn durability(&self) -> Option<&'static str> {
        let Work::View(_) = self.work else { return None };
        match (self.against, self.fsync == EVERYSEC) {
            (Kind::Direct, true) => Some("with everysec our 202 may lose about a second with the host, the baseline's loses nothing"),
            (Kind::Textbook | Kind::Trim | Kind::Stream, true) => {
                Some("with everysec the 202 of both may lose about a second with the host")
            }
            _ => None,
        }
    }

    /// # Errors
    /// An error answer, a view too many or too few, or something died.
    pub(crate) async fn run(&self, stack: &mut Stack, plan: &Plan, progress: &Progress) -> anyhow::Result<Vec<Line>> {
        stack.set_appendfsync(self.fsync).await?;
        let mut baseline = stack.start_baseline(self.against).await?;
        let requests = Arc::new(match self.work {
            Work::Get => Requests::gets(Popularity::Zipf, SEED),
            Work::View(popularity) => Requests::views(popularity, SEED),
            // A row that set the prices of another would change nothing.
            Work::Price => Requests::prices(self.clients * PRICE_SPAN),
            Work::Reserve(goods) => Requests::reservations(goods, SEED),
        });
        let opened = match self.work {
            Work::Reserve(goods) => Some(Opened::new(stack, goods, baseline.address).await?),
            _ => None,
        };
        if self.work == Work::Get {
            load::run(stack.api(), &Arc::new(Requests::each_once()), self.clients, End::Answered(PRODUCTS as u64)).await?;
        }
        let mut turns: [Vec<Turn>; 2] = [Vec::new(), Vec::new()];
        let mut left_behind = 0;
        for round in 0..plan.rounds {
            for place in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let turn = match place {
                    0 => self.candidate(stack, plan, &requests).await.context("ours")?,
                    _ => {
                        let turn = self.baseline(stack, &mut baseline, plan, &requests, &mut left_behind).await;
                        turn.with_context(|| format!("the baseline `{}`", self.against.name()))?
                    }
                };
                turns[place].push(turn);
                progress.advance(plan.warm + plan.measured);
            }
        }
        let mut line = self.line(stack, &turns, left_behind)?;
        if let Some(opened) = opened {
            let answered = [&turns[0], &turns[1]].map(|turns| turns.iter().map(|turn| turn.slice.answered).sum());
            line = line.note(opened.account(stack, answered).await?);
        }
        Ok([Some(line), self.line_of_p99(&turns)].into_iter().flatten().collect())
    }

    async fn candidate(&self, stack: &mut Stack, plan: &Plan, requests: &Arc<Requests>) -> anyhow::Result<Turn> {
        const HIT: &str = "inventory_cache_requests_total{result=\"hit\"}";
        let (hits, prices) = (stack.api_metric(HIT).await?, prices_in(stack, OURS).await?);
        let turn = measure(stack, None, stack.api(), plan, requests, self.clients).await?;
        let answered = turn.slice.answered;
        match self.work {
            Work::Get => {
                let share = (stack.api_metric(HIT).await? - hits) / answered as f64;
                ensure!(share >= HITS, "{:.1} % of the reads were hits, too few for a row about hits", 100.0 * share);
            }
            Work::View(_) => {
                stack.accepted += answered;
                // The baseline's turn must not pay for what still waits.
                stack.wait_drained().await?;
            }
            Work::Price => ensure_prices(answered, prices_in(stack, OURS).await? - prices)?,
            // After the last round, with the baseline's.
            Work::Reserve(_) => {}
        }
        Ok(turn)
    }

    async fn baseline(
        &self,
        stack: &mut Stack,
        baseline: &mut Baseline,
        plan: &Plan,
        requests: &Arc<Requests>,
        left_behind: &mut u64,
    ) -> anyhow::Result<Turn> {
        let (views, prices) = (stack.views_in(THEIRS).await?, prices_in(stack, THEIRS).await?);
        stack.start_worker_of(baseline)?;
        let turn = measure(stack, Some(baseline), baseline.address, plan, requests, self.clients).await?;
        let answered = turn.slice.answered;
        match (self.work, self.against) {
            (Work::View(_), Kind::Direct) => {
                let added = stack.views_in(THEIRS).await? - views;
                ensure!(added == answered, "the baseline accepted {answered} views and added {added}");
            }
            (Work::View(_), _) => *left_behind += stack.forget_views_of(baseline).await?,
            (Work::Price, _) => ensure_prices(answered, prices_in(stack, THEIRS).await? - prices)?,
            _ => {}
        }
        Ok(turn)
    }

    /// `POST view p99 : bare server`, or what stands for the median with the one in place of the other.
    pub(crate) fn title_of_p99(&self) -> String {
        match self.work {
            Work::Price => self.title.replace("p50", "p99"),
            Work::Reserve(_) => self.title.split(" :").next().unwrap_or_default().to_owned() + " p99",
            _ => self.title.replacen(" :", " p99 :", 1),
        }
    }

    fn line_of_p99(&self, turns: &[Vec<Turn>; 2]) -> Option<Line> {
        let mark = self.mark_p99?;
        let sides: Vec<Side> = turns.iter().map(|turns| side(turns)).collect();
        if let Work::Reserve(_) = self.work {
            let line = Line::figure(self.row, self.title_of_p99(), Unit::Milliseconds, sides[0].p99_millis, Some(mark));
            return Some(line.of_sides(sides));
        }
        let millis = |turn: &Turn| turn.slice.millis(0.99);
        let pairs: Vec<(f64, f64)> = turns[0].iter().map(millis).zip(turns[1].iter().map(millis)).collect();
        let line = Line::figure(self.row, self.title_of_p99(), Unit::Milliseconds, sides[0].p99_millis, None);
        Some(line.against(sides[1].p99_millis, Spread::of(&paired(&pairs)), Some(mark)).of_sides(sides))
    }

    fn line(&self, stack: &mut Stack, turns: &[Vec<Turn>; 2], left_behind: u64) -> anyhow::Result<Line> {
        let sides: Vec<Side> = turns.iter().map(|turns| side(turns)).collect();
        let by_latency = self.work == Work::Price;
        let judged = |turn: &Turn| if by_latency { turn.slice.millis(0.5) } else { turn.slice.per_second() };
        let pairs: Vec<(f64, f64)> = turns[0].iter().map(judged).zip(turns[1].iter().map(judged)).collect();
        let figure = |side: &Side| if by_latency { side.p50_millis } else { side.per_second };
        let unit = if by_latency { Unit::Milliseconds } else { Unit::PerSecond };
        let line = Line::figure(self.row, self.title, unit, figure(&sides[0]), None);
        let mut line = line.against(figure(&sides[1]), Spread::of(&paired(&pairs)), self.mark).of_sides(sides);
        if let Some(durability) = self.durability() {
            line = line.note(durability);
        }
        if self.against.queue().is_some() {
            let taken: u64 = turns[1].iter().map(|turn| turn.slice.answered).sum();
            line = line.note(format!("the baseline's worker left {left_behind} of {taken} views behind, the drain none"));
        }
        Ok(Line { api: Some(stack.api_memory()?), worker: Some(stack.worker_memory()?), ..line })
    }
}

async fn measure(
    stack: &Stack,
    baseline: Option<&Baseline>,
    address: std::net::SocketAddr,
    plan: &Plan,
    requests: &Arc<Requests>,
    clients: usize,
) -> anyhow::Result<Turn> {
    let used = async {
        tokio::time::sleep(plan.warm).await;
        let (from, before) = (Instant::now(), stack.used(baseline)?);
        tokio::time::sleep(plan.measured).await;
        Ok((between(&before, &stack.used(baseline)?), from.elapsed()))
    };
    let load = load::run(address, requests, clients, End::After { warm: plan.warm, measured: plan.measured });
    let (slice, (used, used_in)) = tokio::try_join!(load, used)?;
    ensure!(slice.counted > 0, "{address} answered nothing within {:?}", plan.measured);
    Ok(Turn { slice, used, used_in })
}

fn side(turns: &[Turn]) -> Side {
    let median = |of: &dyn Fn(&Slice) -> f64| {
        let values: Vec<f64> = turns.iter().map(|turn| of(&turn.slice)).collect();
        Spread::of(&values).map_or(f64::NAN, |spread| spread.median)
    };
    let per_second = turns.iter().map(|turn| turn.slice.counted).sum::<u64>() as f64 / seconds(turns, |turn| turn.slice.time);
    // Seconds of a core a second.
    let share = |who| {
        let micros: u64 = turns.iter().filter_map(|turn| turn.used.get(&who)).sum();
        micros as f64 / 1e6 / seconds(turns, |turn| turn.used_in)
    };
    let each = |who| 1e6 * share(who) / per_second;
    let servers_busy = [Who::Server, Who::Worker, Who::Redis, Who::Mysql].map(share).iter().sum();
    let others = f64::max(share(Who::ServersCore) - servers_busy, share(Who::LoadCore) - share(Who::Load)).max(0.0);
    let pinned = turns.iter().any(|turn| turn.used.contains_key(&Who::ServersCore));
    Side {
        per_second: median(&Slice::per_second),
        p50_millis: median(&|slice| slice.millis(0.5)),
        p99_millis: median(&|slice| slice.millis(0.99)),
        cpu_micros: Cpu {
            server: each(Who::Server),
            redis: each(Who::Redis),
            mysql: each(Who::Mysql),
            worker: each(Who::Worker),
            load: each(Who::Load),
        },
        servers_busy,
        load_busy: share(Who::Load),
        others_busy: pinned.then_some(others),
    }
}

fn seconds(turns: &[Turn], time: fn(&Turn) -> Duration) -> f64 {
    turns.iter().map(time).sum::<Duration>().as_secs_f64()
}

async fn prices_in(stack: &Stack, database: &str) -> anyhow::Result<u64> {
    stack.number(&format!("SELECT COUNT(*) FROM {database}.price_history")).await
}

/// A PUT that changed nothing would be cheaper than one that did.
fn ensure_prices(answered: u64, written: u64) -> anyhow::Result<()> {
    ensure!(answered == written, "{answered} prices were acknowledged and {written} written");
    Ok(())
}
