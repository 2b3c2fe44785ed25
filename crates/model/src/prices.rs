//! How prices are written and read, for one product: a row in MySQL, its entry in Redis, writers and readers.
//!
//! The rules are those of `catalog::write` and `catalog::read`. A [`Protocol`] may lack one of them, to see what it is
//! for. Plain SQL of other systems is followed by a reader of the binlog, the tail, which is not built yet: what it
//! must do to an entry is settled here first.

mod reader;
mod writer;

use crate::search::{Model, Steps};

/// Which rules are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    pub announce: Announce,
    pub publish: Publish,
    pub fill: Fill,
    /// Keys name the run of Redis: after a restart nothing older is found under them.
    pub namespace: bool,
    /// A reader takes the answer of a SELECT that another had sent before it came.
    pub joins: bool,
    /// The tail leaves markers alone.
    pub tail_spares_markers: bool,
}

/// What a writer does to the entry while it holds the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Mark,
    /// Redis may be full: then the entry is deleted instead, and nobody gets a lease.
    MarkOrDelete,
    /// Shows the new price.
    Data,
    Nothing,
}

/// What a writer does to the entry after its COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// Replaces its own marker, and nothing else.
    OwnMarker,
    Delete,
    /// Sets it unless there is data as new.
    Newer,
    Nothing,
}

/// How a reader that finds nothing fills the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Takes a lease, reads with a shared lock that does not wait, and replaces its own lease.
    Locking,
    /// The same without the lock.
    Plain,
    /// No lease; sets it unless there is data as new.
    Newer,
}

impl Protocol {
    pub const OURS: Self = Self {
        announce: Announce::Mark,
        publish: Publish::OwnMarker,
        fill: Fill::Locking,
        namespace: true,
        joins: false,
        tail_spares_markers: false,
    };
}

/// How often each fault may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    pub marker_ends: u8,
    pub lease_ends: u8,
    pub evicted: u8,
    pub restarts_empty: u8,
    pub restarts_older: u8,
    /// A writer or a reader is killed.
    pub killed: u8,
    /// A COMMIT is sent and its connection lost; it lands later, or never.
    pub unknown: u8,
    /// A call of a writer to Redis is lost, loses its reply, or arrives late.
    pub call_lost: u8,
    /// MySQL ends a transaction.
    pub rolled_back: u8,
    /// Another system writes with plain SQL. What it wrote may be read late; at rest the cache must agree.
    pub plain_sql: u8,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// No read is older than one acknowledged or answered before it began.
    NothingOlder,
    /// With nothing under way, the cache agrees with MySQL.
    FreshAtRest,
    /// No write that failed is ever seen.
    CommittedOnly,
}

/// The system: a protocol, the faults, and who takes part.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    pub protocol: Protocol,
    pub faults: Faults,
    /// At most [`MOST_WRITERS`]; one write each, and once more after an unknown outcome.
    pub writers: usize,
    /// Of each of the two readers.
    pub reads: u8,
}

pub const MOST_WRITERS: usize = 3;
const READERS: usize = 2;
/// Each writer twice, the plain SQL, and the row as it was.
const MOST_VERSIONS: usize = 2 * MOST_WRITERS + 2;
/// Who wrote the row as it was, and who writes plain SQL.
const NOBODY: u8 = 8;
const OUTSIDER: u8 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    version: u8,
    /// Who committed each version.
    history: [u8; MOST_VERSIONS],
    /// Who holds the row.
    lock: Option<u8>,
    entry: Entry,
    /// What Redis would come back with.
    saved: Option<Entry>,
    writers: [Writer; MOST_WRITERS],
    readers: [Reader; READERS],
    /// The newest version that was acknowledged or answered.
    known: u8,
    /// Events of the binlog that the tail has not seen, oldest first; 0 behind the last.
    events: [Event; MOST_WRITERS + 1],
    faults: Faults,
}

/// A version, and whether the plain SQL wrote it.
type Event = Option<(u8, bool)>;

/// A version and who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Price {
    version: u8,
    by: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Absent,
    Data(Price),
    /// Of a writer, with the version that it is about to commit.
    Marker(Price),
    /// Of a reader.
    Lease(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// Holds the row and is about to write this version.
    Locked(u8),
    /// Holds the row and finds its own price there.
    Same,
    /// The same, with the entry dropped.
    Dropped,
    Marked(u8),
    /// COMMIT is on the wire and the connection lost.
    Sent(u8),
    Committed(u8),
    /// Was answered 503 with an unknown outcome, and may try again.
    Unknown,
    /// Gave up; its mark is on the wire.
    LateMark(u8),
    /// Was acknowledged; its publish is on the wire.
    LatePublish(u8),
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Reader {
    at: At,
    reads: u8,
    /// What was known when the read began.
    since: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Will read MySQL and fill nothing.
    Waiting,
    Leased,
    /// Has read this.
    Read(Price),
}

impl Model for Prices {
    type State = State;
    type Promise = Promise;

    fn start(&self) -> State {
        assert!((1..=MOST_WRITERS).contains(&self.writers), "writers are an array of {MOST_WRITERS}");
        State {
            version: 0,
            history: [NOBODY; MOST_VERSIONS],
            lock: None,
            entry: Entry::Absent,
            saved: None,
            writers: [Writer::Idle; MOST_WRITERS],
            readers: [Reader { at: At::Idle, reads: 0, since: 0 }; READERS],
            known: 0,
            events: [None; MOST_WRITERS + 1],
            faults: self.faults,
        }
    }

    fn steps(&self, s: &State, steps: &mut Steps<Self>) {
        for i in 0..self.writers {
            self.write(s, i, steps);
            self.strike_writer(s, i, steps);
        }
        for i in 0..READERS {
            self.read(s, i, steps);
        }
        self.redis(s, steps);
        self.outsiders(s, steps);
        if let (true, Entry::Data(data)) = (s.rests(), s.entry)
            && data.version != s.version
        {
            steps.broken(Promise::FreshAtRest, || format!("at rest Redis holds v{} and MySQL v{}", data.version, s.version));
        }
    }
}

impl State {
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = *self;
        change(&mut next);
        next
    }

    fn rests(&self) -> bool {
        let ended = |writer: &Writer| matches!(writer, Writer::Idle | Writer::Ended | Writer::Unknown);
        let outside = self.lock == Some(OUTSIDER) || self.events[0].is_some();
        self.writers.iter().all(ended) && self.readers.iter().all(|reader| reader.at == At::Idle) && !outside
    }

    fn row(&self) -> Price {
        Price { version: self.version, by: self.history[usize::from(self.version)] }
    }

    fn was_committed(&self, price: Price) -> bool {
        price.version <= self.version && self.history[usize::from(price.version)] == price.by
    }

    fn commit(&mut self, price: Price) {
        (self.version, self.lock) = (price.version, None);
        self.history[usize::from(price.version)] = price.by;
    }

    fn acknowledge(&mut self, version: u8) {
        self.known = self.known.max(version);
    }

    /// Sets the entry unless data as new is there.
    fn set_newer(&mut self, price: Price) {
        if !matches!(self.entry, Entry::Data(there) if there.version >= price.version) {
            self.entry = Entry::Data(price);
        }
    }
}

impl Prices {
    /// The events of COMMITs matter only beside plain SQL.
    fn note_event(&self, s: &mut State, version: u8, plain: bool) {
        if self.faults.plain_sql > 0 {
            let free = s.events.iter_mut().find(|event| event.is_none()).expect("each writer commits once where the tail is followed");
            *free = Some((version, plain));
        }
    }

    /// What happens to the entry by itself.
    fn redis(&self, s: &State, steps: &mut Steps<Self>) {
        let absent = s.with(|n| n.entry = Entry::Absent);
        if s.faults.marker_ends > 0 && matches!(s.entry, Entry::Marker(_)) {
            steps.step(|| "the marker ends".to_owned(), absent.with(|n| n.faults.marker_ends -= 1));
        }
        if s.faults.lease_ends > 0 && matches!(s.entry, Entry::Lease(_)) {
            steps.step(|| "the lease ends".to_owned(), absent.with(|n| n.faults.lease_ends -= 1));
        }
        if s.faults.evicted > 0 && s.entry != Entry::Absent {
            steps.step(|| "the entry is evicted".to_owned(), absent.with(|n| n.faults.evicted -= 1));
        }
        if s.faults.restarts_empty > 0 {
            steps.step(|| "Redis restarts empty".to_owned(), absent.with(|n| n.faults.restarts_empty -= 1));
        }
        if s.faults.restarts_older > 0 {
            match s.saved {
                None => steps.step(|| "Redis saves its data".to_owned(), s.with(|n| n.saved = Some(s.entry))),
                Some(older) => {
                    let found = if self.protocol.namespace { Entry::Absent } else { older };
                    let restarted = s.with(|n| n.faults.restarts_older -= 1).with(|n| n.entry = found);
                    steps.step(|| "Redis restarts with older data".to_owned(), restarted);
                }
            }
        }
    }

    /// Plain SQL of another system, which is in the binlog a moment before it is visible, and the tail.
    fn outsiders(&self, s: &State, steps: &mut Steps<Self>) {
        if s.faults.plain_sql > 0 && s.lock.is_none() {
            let written = s.with(|n| n.faults.plain_sql -= 1).with(|n| n.lock = Some(OUTSIDER));
            let next = s.version + 1;
            steps.step(|| format!("plain SQL writes v{next}, not yet visible"), written.with(|n| self.note_event(n, next, true)));
        }
        if s.lock == Some(OUTSIDER) {
            let next = Price { version: s.version + 1, by: OUTSIDER };
            steps.step(|| format!("plain SQL is visible, v{}", next.version), s.with(|n| n.commit(next)));
        }
        if let Some((version, plain)) = s.events[0] {
            let gone = match s.entry {
                Entry::Marker(_) if self.protocol.tail_spares_markers => false,
                // What does not raise the version itself says nothing of which is newer.
                _ if plain => true,
                Entry::Data(there) | Entry::Marker(there) => there.version < version,
                Entry::Lease(_) => true,
                Entry::Absent => false,
            };
            let mut next = s.with(|n| n.entry = if gone { Entry::Absent } else { n.entry });
            next.events.rotate_left(1);
            *next.events.last_mut().expect("events are an array") = None;
            let words = if gone { "drops the entry" } else { "leaves the entry" };
            steps.step(|| format!("the tail sees v{version} and {words}"), next);
        }
    }
}
