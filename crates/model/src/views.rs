//! How views are pushed, drained and shown, for one product of one shard: two writers, two workers, one reader.
//!
//! Pushes 0 and 2 are writer A's, push 1 is writer B's; they carry 1, 2 and 4 views, so that a sum tells its parts. A writer has
//! one push under way. The rules are those of `api::ingest`, `worker::drain`, `mysql::view_counts` and
//! `redis::shown_views` and `redis::merge`; a [`Protocol`] may lack one of them. Here any two neighbours that wait are merged;
//! the code merges from the head, which is some of it. That a batch of a past that was given up may come back, so that the
//! sealed batch is partly counted, is no fault here: somebody must bring it back.

mod drain;
mod records;
mod shown;

use crate::search::{Model, Steps};
pub use records::MOST_PUSHES;
use records::{Pushes, Record, Records, VIEWS, seq_of, writer_of};

/// Which rules are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// A push is refused when its sequence number was stored before.
    pub push_checks: bool,
    /// A transaction locks the shard's row first; without it only the watermarks that are there already.
    pub shard_lock: bool,
    /// A total leaves out the sealed batch when `last_batch` names it.
    pub total_looks_at_last_batch: bool,
    /// `last_batch` is written although nothing counted.
    pub last_batch_always: bool,
    /// Records that were first sent to different runs of Redis are merged.
    pub merges_across_runs: bool,
    /// A merged record counts although some of its parts do not stand above their watermarks.
    pub counts_in_part: bool,
    /// A merged record that is partly counted is dropped, and the rest of its batch applied.
    pub drops_alone: bool,
}

impl Protocol {
    pub const OURS: Self = Self {
        push_checks: true,
        shard_lock: true,
        total_looks_at_last_batch: true,
        last_batch_always: false,
        merges_across_runs: false,
        counts_in_part: false,
        drops_alone: false,
    };
}

/// How often each fault may happen; `merges` and `fsyncs` are no faults, but rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A worker is killed.
    pub killed: u8,
    /// A COMMIT is sent and its connection lost; it lands later, or never.
    pub unknown: u8,
    /// A push is stored and its reply lost, or it arrives late; it is sent again, or given up.
    pub reply_lost: u8,
    /// The cached total ends.
    pub evicted: u8,
    /// Redis crashes, and comes back under another run.
    pub crashes: u8,
    pub merges: u8,
    /// With `appendfsync everysec`: how often Redis saves what it has.
    pub fsyncs: u8,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    NeverTwice,
    /// At rest every acknowledged push is in MySQL; after a crash under `everysec` those that Redis still had.
    NothingLost,
    /// What is shown lies between the truth when it was asked for and the truth when it is answered.
    ShownRight,
    /// At rest the cached total and what is pending agree with MySQL.
    ShownRightAtRest,
    /// The sealed batch can be applied.
    NothingStuck,
}

/// The system.
#[derive(Debug, Clone, Copy)]
pub struct Views {
    pub protocol: Protocol,
    pub faults: Faults,
    /// Redis falls back to its last fsync when it crashes; otherwise it loses nothing.
    pub everysec: bool,
    /// At most [`MOST_PUSHES`].
    pub pushes: usize,
    /// Whether somebody asks for the total.
    pub shown: bool,
}

const WORKERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    redis: Redis,
    /// What Redis falls back to; only with `everysec`.
    saved: Redis,
    run: u8,
    pushes: [Push; MOST_PUSHES],
    /// Pushes on the wire, with the run of their first sending.
    wire: [Option<u8>; MOST_PUSHES],
    /// Acknowledged, and not lost by a Redis that may lose.
    safe: Pushes,
    mysql: MySql,
    shard_lock: Option<Holder>,
    /// Without the shard's lock: who holds the watermark of each writer.
    mark_locks: [Option<u8>; 2],
    /// The effect of a COMMIT on the wire.
    sent: Option<MySql>,
    workers: [Worker; WORKERS],
    reader: Reader,
    next_batch: u8,
    faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Redis {
    open: Records,
    batch: Records,
    batch_id: Option<u8>,
    pending: i8,
    /// The cached total.
    base: Option<i8>,
    /// Counts claims and settles.
    changes: u8,
    /// Last sequence number stored of each writer.
    stored: [u8; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct MySql {
    /// How often each push counts.
    counted: [u8; MOST_PUSHES],
    /// Watermarks of the writers; 0: no row yet.
    marks: [u8; 2],
    last_batch: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Push {
    New,
    /// Sent, first under this run, and not answered.
    Doubtful(u8),
    Acknowledged,
    GivenUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Worker(u8),
    Wire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    Claimed(Batch),
    Locked(Batch),
    /// Has read the watermarks, and decided.
    Judged(Batch, Judged),
    /// Its COMMIT was answered; whether every record counted.
    Applied(Batch, bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Batch {
    id: u8,
    records: Records,
}

/// What counts of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Judged {
    records: Records,
    /// Watermarks after it.
    marks: [u8; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reader {
    Idle,
    Asked(Asked),
    /// Has the total and `last_batch` of one SELECT.
    Read(Asked, i8, Option<u8>),
}

/// What the first script told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    batch_id: Option<u8>,
    /// Of the sealed batch.
    sum: i8,
    changes: u8,
    run: u8,
    /// What was true then.
    truth: i8,
}

impl Model for Views {
    type State = State;
    type Promise = Promise;

    fn start(&self) -> State {
        assert!(self.pushes <= MOST_PUSHES, "pushes are an array of {MOST_PUSHES}");
        let records = Records::default();
        let redis = Redis { open: records, batch: records, batch_id: None, pending: 0, base: None, changes: 0, stored: [0; 2] };
        let mut pushes = [Push::New; MOST_PUSHES];
        pushes[self.pushes..].fill(Push::GivenUp);
        State {
            redis,
            saved: redis,
            run: 0,
            pushes,
            wire: [None; MOST_PUSHES],
            safe: Pushes::default(),
            mysql: MySql { counted: [0; MOST_PUSHES], marks: [0; 2], last_batch: None },
            shard_lock: None,
            mark_locks: [None; 2],
            sent: None,
            workers: [Worker::Idle; WORKERS],
            reader: Reader::Idle,
            next_batch: 0,
            faults: self.faults,
        }
    }

    fn steps(&self, s: &State, steps: &mut Steps<Self>) {
        for i in 0..self.pushes {
            self.push(s, i, steps);
        }
        for j in 0..WORKERS {
            self.drain(s, j, steps);
        }
        self.lands(s, steps);
        if self.shown {
            self.show(s, steps);
        }
        self.redis(s, steps);
        self.look(s, steps);
    }
}

impl State {
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = *self;
        change(&mut next);
        next
    }

    /// Views in MySQL.
    fn total(&self) -> i8 {
        self.mysql.counted.iter().zip(VIEWS).map(|(times, views)| i8::try_from(*times).expect("counts are small") * views).sum()
    }

    /// Views that are in MySQL or on their way there.
    fn truth(&self) -> i8 {
        let queued = self.redis.queued();
        let there = |i: &usize| self.mysql.counted[*i] > 0 || queued.has(*i);
        (0..MOST_PUSHES).filter(there).map(|i| VIEWS[i]).sum()
    }

    fn rests(&self) -> bool {
        let pushed = self.pushes.iter().all(|push| matches!(push, Push::Acknowledged | Push::GivenUp));
        let idle = self.workers.iter().all(|worker| *worker == Worker::Idle);
        pushed && idle && self.redis.queued() == Pushes(0) && self.sent.is_none() && self.wire == [None; MOST_PUSHES]
    }
}

impl Redis {
    fn queued(&self) -> Pushes {
        self.open.iter().chain(self.batch.iter()).fold(Pushes(0), |all, record| all.and(record.pushes))
    }
}

impl Views {
    /// The steps of a push, until it is answered.
    fn push(&self, s: &State, i: usize, steps: &mut Steps<Self>) {
        if let Some(run) = s.wire[i] {
            let arrived = s.with(|n| n.wire[i] = None).with(|n| self.store(n, i, run));
            steps.step(|| format!("push {i} arrives late"), arrived);
        }
        let turn = i < 2 || matches!(s.pushes[i - 2], Push::Acknowledged | Push::GivenUp);
        // What is sent again is the same byte for byte, also in the run of its first sending.
        let (run, again) = match s.pushes[i] {
            Push::New if turn => (s.run, ""),
            Push::Doubtful(run) => (run, " again"),
            _ => return,
        };
        let pushed = s.with(|n| self.store(n, i, run)).with(|n| n.pushes[i] = Push::Acknowledged);
        steps.step(|| format!("push {i} is sent{again}; acknowledged"), pushed.with(|n| n.safe = n.safe.and(Pushes::one(i))));
        if s.pushes[i] != Push::New {
            steps.step(|| format!("push {i} is given up, 503"), s.with(|n| n.pushes[i] = Push::GivenUp));
        } else if s.faults.reply_lost > 0 {
            let doubtful = s.with(|n| n.faults.reply_lost -= 1).with(|n| n.pushes[i] = Push::Doubtful(run));
            steps.step(|| format!("push {i} is stored, its reply lost"), doubtful.with(|n| self.store(n, i, run)));
            steps.step(|| format!("push {i} is on its way"), doubtful.with(|n| n.wire[i] = Some(run)));
        }
    }

    /// The push script.
    fn store(&self, s: &mut State, i: usize, run: u8) {
        let (redis, writer, seq) = (&mut s.redis, writer_of(i), seq_of(i));
        if self.protocol.push_checks && seq <= redis.stored[writer] {
            return;
        }
        redis.stored[writer] = redis.stored[writer].max(seq);
        redis.pending += VIEWS[i];
        let record = Record { pushes: Pushes::one(i), run };
        redis.open = Records::of(redis.open.iter().chain([record]));
    }

    /// Redis by itself: merges, fsyncs, crashes.
    fn redis(&self, s: &State, steps: &mut Steps<Self>) {
        let open: Vec<Record> = s.redis.open.iter().collect();
        for (at, pair) in open.windows(2).enumerate().filter(|_| s.faults.merges > 0) {
            if pair[0].run == pair[1].run && pair[0].run == s.run || self.protocol.merges_across_runs {
                let merged = Record { pushes: pair[0].pushes.and(pair[1].pushes), run: pair[0].run };
                let records = open[..at].iter().copied().chain([merged]).chain(open[at + 2..].iter().copied());
                let next = s.with(|n| n.faults.merges -= 1).with(|n| n.redis.open = Records::of(records));
                steps.step(|| format!("{} are merged", Records::of(pair.iter().copied())), next);
            }
        }
        if self.everysec && s.faults.fsyncs > 0 && s.saved != s.redis {
            let saved = s.with(|n| n.faults.fsyncs -= 1).with(|n| n.saved = n.redis);
            steps.step(|| "Redis saves its data".to_owned(), saved);
        }
        if s.faults.crashes > 0 {
            // A cached total is named by the run, so that none outlives it.
            let back = Redis { base: None, ..if self.everysec { s.saved } else { s.redis } };
            let mut next = s.with(|n| (n.faults.crashes, n.run, n.redis) = (n.faults.crashes - 1, n.run + 1, back));
            if self.everysec {
                let (queued, counted) = (back.queued(), s.mysql.counted);
                next.saved = back;
                next.safe = s.safe.each().filter(|i| queued.has(*i) || counted[*i] > 0).fold(Pushes(0), |all, i| all.and(Pushes::one(i)));
            }
            steps.step(|| format!("Redis crashes and comes back with {} open, {} sealed", back.open, back.batch), next);
        }
    }

    /// What must be so in every state.
    fn look(&self, s: &State, steps: &mut Steps<Self>) {
        let redis = &s.redis;
        if let Some(push) = s.mysql.counted.iter().position(|times| *times > 1) {
            steps.broken(Promise::NeverTwice, || format!("MySQL counts push {push} twice"));
        }
        let shown = redis.base.map(|base| base + redis.pending);
        if let Some(shown) = shown.filter(|shown| self.shown_is_exact(s) && *shown != s.truth()) {
            steps.broken(Promise::ShownRight, || format!("{shown} views are shown and {} are true", s.truth()));
        }
        if s.rests() {
            if let Some(lost) = s.safe.each().find(|push| s.mysql.counted[*push] == 0) {
                steps.broken(Promise::NothingLost, || format!("at rest push {lost} is not in MySQL"));
            }
            if let Some(shown) = shown.filter(|shown| *shown != s.total()) {
                steps.broken(Promise::ShownRightAtRest, || format!("at rest {shown} views are shown and MySQL has {}", s.total()));
            }
        }
    }

    /// After Redis lost data the shown total may be off until it ends; nothing else may.
    fn shown_is_exact(&self, s: &State) -> bool {
        s.run == 0 || !self.everysec
    }
}
