//! Replays and drops of dead letters over both stores, piece by piece.
//!
//! Each piece is one transaction of one shard, exact by itself; between two of them the drain goes on. Whoever is
//! killed in between leaves letters that are dead or counted, never half of one: the same command again does the rest.

use crate::mysql::dead_letters::{self, Brief, Paused, Replayed, Selection};
use crate::{Error, Kind, MySql, Redis};
use std::collections::{BTreeMap, BTreeSet};

/// Most letters that stay dead and are told one by one; all are counted.
pub const MOST_TOLD: usize = 100;

/// Tries of a piece that lost a lock; each waits for it for 2 s.
const TRIES: u32 = 8;

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Letters that were replayed or dropped, and their views.
    pub done: u64,
    pub views: u64,
    /// Named letters that were replayed or dropped before.
    pub already: u64,
    /// Letters that a replay had to leave dead.
    pub refused: u64,
    /// The first [`MOST_TOLD`] of them, and why.
    pub told: Vec<(u64, String)>,
    /// Ids that no letter has.
    pub missing: Vec<u64>,
    /// Why it ended early; what was done before stays done.
    pub stopped: Option<Stopped>,
}

#[derive(Debug)]
pub enum Stopped {
    /// An operator holds the drain, and with it all that adds views.
    Paused(Paused),
    /// `Unknown`: the last piece was done or not.
    Store(Error),
}

/// Adds the views of dead letters to their products. `on_piece` hears how many letters were looked at.
pub async fn replay(mysql: &MySql, redis: &Redis, selection: &Selection, dry_run: bool, on_piece: impl Fn(u64)) -> Outcome {
    let mut outcome = Outcome::default();
    let result = replay_all(mysql, redis, selection, dry_run, on_piece, &mut outcome).await;
    outcome.stopped = outcome.stopped.or(result.err().map(Stopped::Store));
    if !dry_run {
        // However it ended, and also what an earlier replay could not tell Redis.
        finish(mysql, redis).await;
    }
    outcome
}

async fn replay_all(
    mysql: &MySql,
    redis: &Redis,
    selection: &Selection,
    dry_run: bool,
    on_piece: impl Fn(u64),
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let mut pieces = Pieces::new(mysql, selection).await?;
    while let Some(letters) = pieces.next(mysql, outcome).await? {
        let looked_at = letters.len() as u64;
        for (shard, ids) in by_shard(letters) {
            match patiently(async || dead_letters::replay_piece(mysql, shard, ids.clone(), dry_run).await).await? {
                Ok(replayed) => outcome.add(replayed, ids.len()),
                Err(paused) => {
                    outcome.stopped = Some(Stopped::Paused(paused));
                    return Ok(());
                }
            }
        }
        if !dry_run {
            finish(mysql, redis).await;
        }
        on_piece(looked_at);
    }
    Ok(())
}

/// The views are in MySQL; should Redis be away, a worker tells it later.
async fn finish(mysql: &MySql, redis: &Redis) {
    if let Err(error) = dead_letters::finish_replays(mysql, redis).await {
        tracing::warn!("replayed views are in MySQL and shown once a worker can tell Redis: {error}");
    }
}

/// Gives dead letters up for good; they stay in the account as dead.
pub async fn drop_all(mysql: &MySql, selection: &Selection) -> Outcome {
    let mut outcome = Outcome::default();
    let result = drop_pieces(mysql, selection, &mut outcome).await;
    outcome.stopped = result.err().map(Stopped::Store);
    outcome
}

async fn drop_pieces(mysql: &MySql, selection: &Selection, outcome: &mut Outcome) -> Result<(), Error> {
    let mut pieces = Pieces::new(mysql, selection).await?;
    while let Some(letters) = pieces.next(mysql, outcome).await? {
        let ids: Vec<u64> = letters.iter().map(|letter| letter.id).collect();
        let dropped = patiently(async || dead_letters::drop_piece(mysql, ids.clone()).await).await?;
        outcome.views += dropped.iter().map(|(_, views)| views).sum::<u64>();
        outcome.done += dropped.len() as u64;
        outcome.already += (ids.len() - dropped.len()) as u64;
    }
    Ok(())
}

impl Outcome {
    fn add(&mut self, replayed: Replayed, asked: usize) {
        let Replayed { counted, refused } = replayed;
        self.already += (asked - counted.len() - refused.len()) as u64;
        self.done += counted.len() as u64;
        self.views += counted.iter().map(|(_, views)| views).sum::<u64>();
        self.refused += refused.len() as u64;
        let room = MOST_TOLD - self.told.len();
        self.told.extend(refused.into_iter().take(room));
    }
}

/// The selected letters in order of their ids, up to the last that was there at the start.
struct Pieces<'a> {
    selection: &'a Selection,
    after: u64,
    last: u64,
    /// Named ids that were not met yet.
    unmet: BTreeSet<u64>,
}

impl<'a> Pieces<'a> {
    async fn new(mysql: &MySql, selection: &'a Selection) -> Result<Self, Error> {
        let last = dead_letters::last_id(mysql).await?;
        Ok(Self { selection, after: 0, last, unmet: selection.ids.clone().unwrap_or_default() })
    }

    /// The next dead letters; those that are not dead any more are counted in `outcome`.
    async fn next(&mut self, mysql: &MySql, outcome: &mut Outcome) -> Result<Option<Vec<Brief>>, Error> {
        loop {
            let letters = dead_letters::next_piece(mysql, self.selection, self.after, self.last).await?;
            let Some(last) = letters.last() else {
                outcome.missing = std::mem::take(&mut self.unmet).into_iter().collect();
                return Ok(None);
            };
            self.after = last.id;
            let (dead, other): (Vec<_>, Vec<_>) = letters.into_iter().partition(|letter| letter.is_dead);
            for letter in dead.iter().chain(&other) {
                self.unmet.remove(&letter.id);
            }
            outcome.already += other.len() as u64;
            if !dead.is_empty() {
                return Ok(Some(dead));
            }
        }
    }
}

fn by_shard(letters: Vec<Brief>) -> BTreeMap<u16, Vec<u64>> {
    let mut shards = BTreeMap::<u16, Vec<u64>>::new();
    for letter in letters {
        shards.entry(letter.shard).or_default().push(letter.id);
    }
    shards
}

async fn patiently<T>(work: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..TRIES {
        match work().await {
            Err(error) if error.kind() == Kind::Conflict => {}
            result => return result,
        }
    }
    work().await
}
