//! What an open console costs those who buy: instructions of the API, counted by Callgrind, with a page of the console open and
//! one scrape a second, and without, in turns of the same length and with the same requests.
//!
//! Time would not do: a share of one in a hundred is less than what a machine's mood makes. Instructions are counted one by one,
//! those in the kernel not. A console costs by the second and requests cost by the piece, so the same turns are made without
//! requests, too: what a process does at rest is told apart, and the ratio can be said for any rate of requests.

use crate::connection::{ANSWER_LIMIT, Connection};
use crate::figures::{Spread, grouped, paired};
use crate::load::{self, End};
use crate::report::Mark;
use crate::requests::{PRODUCTS, Popularity, Requests};
use crate::stack::Stack;
use crate::versus::SEED;
use anyhow::{Context, bail, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

/// Each sends GET hits and POST views of one view in turns.
const CLIENTS: u32 = 8;

/// How often each client may send both in a second, and the share of what it could that it does: a busy machine answers as many, too.
const MOST_PAIRS: u32 = 30;
const SHARE: f64 = 0.4;

/// How often a scraper comes, and the console is told.
const TICK: Duration = Duration::from_secs(1);

/// Before a turn is counted: what the last one left behind ends.
const SETTLE: Duration = Duration::from_secs(1);

/// How long each turn goes on beyond its requests, for their last answers.
const LATE: Duration = Duration::from_secs(2);

/// Of the instructions a request with the console open to those without, at this many requests a second: a thirtieth of what one
/// thread of the API answers. What is measured has fewer, for Callgrind slows the API down some fifty times.
const MOST: f64 = 1.02;
const MARK: Mark = Mark::AtMost(MOST);
const MARKED_RATE: f64 = 1_000.0;

/// Other rates for which the ratio is worked out.
const RATES: [f64; 3] = [100.0, MARKED_RATE, 10_000.0];

/// How much is measured.
pub(crate) struct Plan {
    rounds: u32,
    turn: Duration,
}

pub(crate) const FULL: Plan = Plan { rounds: 5, turn: Duration::from_secs(10) };
pub(crate) const QUICK: Plan = Plan { rounds: 1, turn: Duration::from_secs(4) };

/// Instructions of the turns of one round, closed and open.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    busy: [f64; 2],
    rest: [f64; 2],
}

/// What all turns have in common.
#[derive(Debug, Clone, Copy)]
struct Turns {
    time: Duration,
    /// Pairs of a GET and a POST that each client sends in a second.
    pairs: u32,
}

impl Turns {
    /// Requests of all clients in a second.
    fn rate(self) -> f64 {
        f64::from(2 * self.pairs * CLIENTS)
    }

    /// From the zero to the count.
    fn counted(self) -> Duration {
        self.time + LATE
    }
}

/// # Errors
/// Valgrind is not there, an error answer, a rate that cannot be held, a view too many or too few, or something died.
pub(crate) async fn run(stack: &mut Stack, dir: &Path, plan: &Plan) -> anyhow::Result<String> {
    let callgrind = Callgrind::start(stack, dir)?;
    let each = Arc::new(Requests::each_once());
    load::run(stack.api(), &each, CLIENTS as usize, End::Answered(PRODUCTS as u64)).await?;
    callgrind.tell("instrumentation on")?;
    let turns = Turns { time: plan.turn, pairs: pairs(stack, plan.turn).await? };
    let seconds = (turns.counted() + SETTLE).as_secs_f64() * f64::from(4 * plan.rounds);
    eprintln!("counting {} requests a second and none, in turns, for {seconds:.0} s", turns.rate());
    let mut rounds = Vec::new();
    for number in 0..plan.rounds {
        let mut round = Round::default();
        // Who is first in one round is last in the next.
        let order = if number % 2 == 0 { [false, true] } else { [true, false] };
        for open in order {
            round.busy[usize::from(open)] = turn(stack, &callgrind, turns, true, open).await?;
        }
        for open in order {
            round.rest[usize::from(open)] = turn(stack, &callgrind, turns, false, open).await?;
        }
        rounds.push(round);
    }
    callgrind.tell("instrumentation off")?;
    stack.wait_drained().await?;
    Ok(format!("{}  \n{}", stack.heading().await?, table(&rounds, turns)))
}

/// How many pairs of requests a second each client can send here for as long as is wanted. Also warms up what Callgrind translates.
async fn pairs(stack: &mut Stack, time: Duration) -> anyhow::Result<u32> {
    let end = End::After { warm: time, measured: time };
    let gets = load::run(stack.api(), &Arc::new(Requests::gets(Popularity::Zipf, SEED)), CLIENTS as usize, end).await?;
    let views = load::run(stack.api(), &Arc::new(Requests::views(Popularity::Zipf, SEED)), CLIENTS as usize, end).await?;
    stack.accepted += views.answered;
    let possible = 1.0 / (1.0 / gets.per_second() + 1.0 / views.per_second());
    Ok(((SHARE * possible / f64::from(CLIENTS)) as u32).clamp(1, MOST_PAIRS))
}

/// Instructions of the API in a turn, with requests or without, with an open console and a scraper or without.
async fn turn(stack: &mut Stack, callgrind: &Callgrind, turns: Turns, busy: bool, open: bool) -> anyhow::Result<f64> {
    let console = if open { Some(Console::open(stack.api_ops()).await?) } else { None };
    tokio::time::sleep(SETTLE).await;
    let seen = console.as_ref().map(Console::seen);
    callgrind.tell("zero")?;
    let began = Instant::now();
    if busy {
        stack.accepted += send(stack.api(), turns).await?;
        let took = began.elapsed();
        let rate = turns.rate();
        ensure!(took <= turns.counted(), "the API under Callgrind could not keep up with {rate} requests a second here: {took:?}");
    }
    tokio::time::sleep_until(began + turns.counted()).await;
    let instructions = callgrind.counted()?;
    if let (Some(console), Some(before)) = (console, seen) {
        console.close(before, turns.time)?;
    }
    Ok(instructions)
}

/// As many GET hits as views, at an even rate; returns how many of each.
async fn send(address: SocketAddr, turns: Turns) -> anyhow::Result<u64> {
    // The same ones in each turn.
    let requests = Arc::new([Requests::gets(Popularity::Zipf, SEED), Requests::views(Popularity::Zipf, SEED)]);
    let (pause, each) = (TICK / turns.pairs, u64::from(turns.pairs) * turns.time.as_secs());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (requests, mut connection) = (requests.clone(), Connection::open(address).await?);
        clients.spawn(async move {
            let mut pace = tokio::time::interval_at(Instant::now() + pause * number / CLIENTS, pause);
            pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for _ in 0..each {
                pace.tick().await;
                for requests in requests.iter() {
                    let answer = connection.exchange_within(ANSWER_LIMIT, requests.next(&mut Vec::new())).await?;
                    ensure!(answer.is_success(), "answered with {}: {}", answer.status, String::from_utf8_lossy(answer.body));
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(each * u64::from(CLIENTS))
}

/// An open page of the console, as far as the API sees it, and a scraper.
struct Console {
    events: Arc<AtomicU64>,
    scrapes: Arc<AtomicU64>,
    tasks: [JoinHandle<anyhow::Result<()>>; 2],
}

impl Console {
    /// Returns when the history is there and what is new comes.
    async fn open(ops: SocketAddr) -> anyhow::Result<Self> {
        let (events, scrapes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tasks = [tokio::spawn(follow(ops, events.clone())), tokio::spawn(scrape(ops, scrapes.clone()))];
        let console = Self { events, scrapes, tasks };
        let end = Instant::now() + ANSWER_LIMIT;
        while console.seen().contains(&0) {
            ensure!(Instant::now() < end && !console.has_ended(), "the console is told nothing: does this API have one?");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(console)
    }

    /// Events and scrapes so far.
    fn seen(&self) -> [u64; 2] {
        [&self.events, &self.scrapes].map(|count| count.load(Ordering::Relaxed))
    }

    fn has_ended(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// # Errors
    /// There was less to pay for than one event and one scrape a second.
    fn close(self, before: [u64; 2], time: Duration) -> anyhow::Result<()> {
        ensure!(!self.has_ended(), "the stream or a scrape broke off");
        for (now, before) in self.seen().iter().zip(before) {
            ensure!(now - before >= time.as_secs(), "{} events or scrapes in {time:?}", now - before);
        }
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Reads the stream of events, and counts the lines that begin one which is told each second.
async fn follow(ops: SocketAddr, events: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(ops).await?;
    stream.write_all(format!("GET /v1/admin/stream HTTP/1.1\r\nHost: {ops}\r\nAccept: text/event-stream\r\n\r\n").as_bytes()).await?;
    let (mut buffer, mut line) = (vec![0; 64 * 1024], Vec::new());
    while let length @ 1.. = stream.read(&mut buffer).await? {
        for byte in &buffer[..length] {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            if line == b"event: now" {
                events.fetch_add(1, Ordering::Relaxed);
            }
            line.clear();
        }
    }
    bail!("the stream ended");
}

/// As Prometheus does, over one connection.
async fn scrape(ops: SocketAddr, scrapes: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut connection = Connection::open(ops).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {ops}\r\n\r\n");
    let mut pace = tokio::time::interval(TICK);
    loop {
        pace.tick().await;
        let answer = connection.exchange_within(ANSWER_LIMIT, request.as_bytes()).await?;
        ensure!(answer.is_success(), "/metrics was answered with {}", answer.status);
        scrapes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The API under Callgrind, which is told what to do through Valgrind's own channel.
/// <https://valgrind.org/docs/manual/cl-manual.html>
struct Callgrind {
    pid: u32,
    dumps: PathBuf,
    written: AtomicU64,
}

impl Callgrind {
    fn start(stack: &mut Stack, dir: &Path) -> anyhow::Result<Self> {
        let version = Command::new("valgrind").arg("--version").output();
        ensure!(
            version.is_ok_and(|output| output.status.success()),
            "valgrind is not installed: on Debian type\n  apt-get install -y valgrind"
        );
        let dumps = dir.join("callgrind");
        if dumps.exists() {
            std::fs::remove_dir_all(&dumps).with_context(|| format!("removing {}", dumps.display()))?;
        }
        std::fs::create_dir_all(&dumps)?;
        let out = format!("--callgrind-out-file={}", dumps.join("out").display());
        let pid = stack.restart_api_under(Path::new("valgrind"), &["--tool=callgrind", "--instr-atstart=no", &out, &channel(&dumps)])?;
        Ok(Self { pid, dumps, written: AtomicU64::new(0) })
    }

    fn tell(&self, command: &str) -> anyhow::Result<()> {
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(channel(&self.dumps)).arg(format!("--pid={}", self.pid)).args(command.split(' '));
        let output = vgdb.output().context("vgdb is not installed: it comes with valgrind")?;
        ensure!(output.status.success(), "vgdb {command}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Instructions since the last zero.
    fn counted(&self) -> anyhow::Result<f64> {
        self.tell("dump")?;
        let file = self.dumps.join(format!("out.{}", self.written.fetch_add(1, Ordering::Relaxed) + 1));
        let dump = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        std::fs::remove_file(&file)?;
        total(&dump).with_context(|| format!("{} has no total", file.display()))
    }
}

fn channel(dumps: &Path) -> String {
    format!("--vgdb-prefix={}", dumps.join("channel").display())
}

fn total(dump: &str) -> Option<f64> {
    dump.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

/// What the rounds say; medians.
fn table(rounds: &[Round], turns: Turns) -> String {
    let (requests, seconds, rate) = (turns.rate() * turns.time.as_secs_f64(), turns.counted().as_secs_f64(), turns.rate());
    let rested = |round: &Round, side: usize| round.rest[side] / seconds;
    let beyond = |round: &Round, side: usize| (round.busy[side] - round.rest[side]) / requests;
    let (rest, piece) = (Row::of(rounds, rested), Row::of(rounds, beyond));
    let whole = Row::of(rounds, |round, side| round.busy[side] / requests);
    let mut text = format!(
        "Callgrind: instructions of inventory-api; {rate} requests a second, GET hits and POST views in turns over {CLIENTS} \
         connections; {} rounds of {} s for each side, in turns, and as many without requests\n\n\
         | | closed | console open, one scrape a second | ratio (min–max) |\n|---|---|---|---|\n",
        rounds.len(),
        turns.counted().as_secs(),
    );
    text += &rest.line("at rest, a second");
    text += &piece.line("a request, beyond that");
    text += &whole.line(&format!("a request, all in all, at {rate} a second"));
    // What a console costs comes by the second; that a request itself costs the same is what the second row is for.
    let piece = piece.sides[0];
    for rate in RATES {
        let [closed, open] = at(rest.sides, piece, rate);
        let row = Row { sides: [closed, open], ratio: Spread { median: open / closed, min: f64::NAN, max: f64::NAN, samples: 0 } };
        text += &row.line(&format!("worked out from the first two for {} a second", grouped(rate)));
    }
    let [closed, open] = at(rest.sides, piece, MARKED_RATE);
    let met = if MARK.is_met(open / closed) { "met" } else { "missed" };
    let from = grouped(least_rate(rest.sides, piece).ceil());
    text + &format!("\nmark: ≤ {MOST} at {} requests a second, {met}; kept from {from} a second on\n", grouped(MARKED_RATE))
}

/// From how many requests a second on the console costs no more than the mark.
fn least_rate(rest: [f64; 2], piece: f64) -> f64 {
    ((rest[1] - MOST * rest[0]) / ((MOST - 1.0) * piece)).max(0.0)
}

/// A line of the table.
struct Row {
    sides: [f64; 2],
    ratio: Spread,
}

impl Row {
    fn of(rounds: &[Round], figure: impl Fn(&Round, usize) -> f64) -> Self {
        let spread = |values: Vec<f64>| Spread::of(&values).expect("there was a round");
        let sides = [0, 1].map(|side| spread(rounds.iter().map(|round| figure(round, side)).collect()).median);
        let pairs: Vec<_> = rounds.iter().map(|round| (figure(round, 1), figure(round, 0))).collect();
        Self { sides, ratio: spread(paired(&pairs)) }
    }

    fn line(&self, name: &str) -> String {
        let ([closed, open], Spread { median, min, max, samples }) = (self.sides.map(grouped), self.ratio);
        let range = if samples > 1 { format!(" ({min:.4}–{max:.4})") } else { String::new() };
        format!("| {name} | {closed} | {open} | {median:.4}{range} |\n")
    }
}

/// Instructions a request at a rate, of either side: those at rest are shared by all requests of a second.
fn at(rest: [f64; 2], piece: f64, rate: f64) -> [f64; 2] {
    rest.map(|rest| piece + rest / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_dump_is_its_own_line() {
        assert_eq!(total("# callgrind format\nevents: Ir\nfn=(1) main\n7 totals: 3\n\ntotals: 20509546\n"), Some(20_509_546.0));
        assert_eq!(total("summary: 3\n"), None);
    }

    #[test]
    fn what_is_paid_by_the_second_weighs_less_the_more_requests_come() {
        let (rest, piece) = ([1e6, 3e6], 1e5);
        assert_eq!(at(rest, piece, 10.0), [2e5, 4e5]);
        let [closed, open] = at(rest, piece, least_rate(rest, piece));
        assert!((open / closed - MOST).abs() < 1e-9);
        assert_eq!(least_rate([1e6, 1e6], piece), 0.0);
    }

    #[test]
    fn the_table_tells_rest_and_requests_apart() {
        let turns = Turns { time: Duration::from_secs(8), pairs: 10 };
        assert_eq!((turns.rate(), turns.counted()), (160.0, Duration::from_secs(10)));
        // Ten seconds at a million and at three million instructions a second, and 100,000 a request.
        let round = |by: f64| Round { rest: [by * 1e7, by * 3e7], busy: [by * 1e7 + 8.0 * 160.0 * 1e5, by * 3e7 + 8.0 * 160.0 * 1e5] };
        let text = table(&[round(1.0), round(1.0)], turns);
        for line in [
            "| at rest, a second | 1,000,000 | 3,000,000 | 3.0000 (3.0000–3.0000) |",
            "| a request, beyond that | 100,000 | 100,000 | 1.0000 (1.0000–1.0000) |",
            "| worked out from the first two for 1,000 a second | 101,000 | 103,000 | 1.0198 |",
            "mark: ≤ 1.02 at 1,000 requests a second, met; kept from 990 a second on",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(table(&[round(2.0)], turns).contains("second, missed"), "{text}");
    }
}
