//! Dead letters: what could not be counted, listed, replayed and dropped by an operator.
//!
//! A letter is `dead`; a replay makes it `counted` and then `replayed`, a drop `dropped`. One transaction of a replay
//! holds its shard's row, so it stands between the batches of that shard: it adds the letters' views to their products
//! and hours and moves them from `dead` to `persisted` of the shard, so that the account holds at every moment. It adds
//! only letters that are `dead`, whose rows it locks, so that however often and from wherever a letter is replayed, it
//! counts once. Nothing passes through Redis, and `last_batch` goes on naming the batch that counted last.
//!
//! `counted` means that Redis may still cache totals without the letter's views; see [`finish_replays`]. A letter that is
//! dropped stays in `view_shards.dead` and so in the account: it was accepted and will never be counted.

use super::{MySql, Tx, number_list, pause, take, view_sums};
use crate::redis::view_queue;
use crate::{Error, Kind, Redis};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::ProductId;
use domain::view::Reason;
use mysql_async::{Params, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use telemetry::metrics::MysqlOp;

pub use super::pause::Paused;

/// Most letters of one transaction; its locks are held for some ten milliseconds.
pub const PIECE: u64 = 500;

/// Most letters or groups that one listing returns.
pub const MOST_LISTED: u64 = 10_000;

/// How long one transaction is waited for: it may stand behind a batch of its shard.
const PIECE_LIMIT: Duration = Duration::from_secs(10);

/// After this a drop that has not reached its COMMIT gives up: letters must not go when their dropping was given up.
const DROP_BEFORE: Duration = Duration::from_secs(9);

/// Which letters are meant: those that fulfil every condition that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// None: of any id.
    pub ids: Option<BTreeSet<u64>>,
    pub reason: Option<Reason>,
    pub product_id: Option<u64>,
}

impl Selection {
    /// Numbers and our own words only, so that it is safe to inline.
    fn sql(&self) -> String {
        let ids = self.ids.as_ref().map(|ids| match ids.len() {
            0 => " AND FALSE".to_owned(),
            _ => format!(" AND d.id IN ({})", number_list(ids.iter().copied())),
        });
        let reason = self.reason.map(|reason| format!(" AND d.reason = '{}'", reason.as_str()));
        let product = self.product_id.map(|id| format!(" AND d.product_id = {id}"));
        [ids, reason, product].into_iter().flatten().collect()
    }
}

/// Letters that share state, reason and product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub state: String,
    pub reason: String,
    /// None for text that is no record.
    pub product_id: Option<u64>,
    /// Whether there is such a product now, so that a replay would count the views.
    pub product_exists: bool,
    pub letters: u64,
    pub views: u64,
    /// When the first and the last of them were set aside.
    pub oldest: DateTime<Utc>,
    pub newest: DateTime<Utc>,
}

/// One letter, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: u64,
    pub state: String,
    pub reason: String,
    pub detail: String,
    pub shard: u16,
    pub batch: String,
    /// Place in the batch of text that is no record.
    pub position: Option<u32>,
    pub product_id: Option<u64>,
    pub hour: Option<DateTime<Utc>>,
    pub views: u64,
    /// The first kilobyte of text that is no record.
    pub payload: Option<Vec<u8>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Groups of letters, those with the most views first; with `all` also those that were replayed or dropped.
///
/// # Errors
/// MySQL is away.
pub async fn groups(mysql: &MySql, selection: &Selection, all: bool, limit: u64) -> Result<Vec<Group>, Error> {
    let sql = format!(
        "SELECT d.state, d.reason, d.product_id, EXISTS (SELECT 1 FROM products p WHERE p.id = d.product_id) AS known, \
         COUNT(*) AS letters, CAST(SUM(d.views) AS UNSIGNED) AS total, MIN(d.created_at) AS oldest, MAX(d.created_at) AS newest \
         FROM dead_letters d WHERE {}{} GROUP BY d.state, d.reason, d.product_id \
         ORDER BY total DESC, letters DESC, d.state, d.reason, d.product_id LIMIT {}",
        if all { "TRUE" } else { "d.state = 'dead'" },
        selection.sql(),
        limit.min(MOST_LISTED)
    );
    let group = |mut row: Row| {
        Ok(Group {
            state: take(&mut row, "state")?,
            reason: take(&mut row, "reason")?,
            product_id: take(&mut row, "product_id")?,
            product_exists: take(&mut row, "known")?,
            letters: take(&mut row, "letters")?,
            views: take(&mut row, "total")?,
            oldest: time(&mut row, "oldest")?,
            newest: time(&mut row, "newest")?,
        })
    };
    mysql.rows(MysqlOp::Letters, sql, ()).await?.into_iter().map(group).collect()
}

/// How many letters are dead among those selected, and their views.
///
/// # Errors
/// MySQL is away.
pub async fn sum(mysql: &MySql, selection: &Selection) -> Result<(u64, u64), Error> {
    let sql = format!(
        "SELECT COUNT(*) AS letters, CAST(COALESCE(SUM(d.views), 0) AS UNSIGNED) AS total FROM dead_letters d WHERE d.state = 'dead'{}",
        selection.sql()
    );
    let rows = mysql.rows(MysqlOp::Letters, sql, ()).await?;
    rows.into_iter().next().map_or(Ok((0, 0)), |mut row| Ok((take(&mut row, "letters")?, take(&mut row, "total")?)))
}

/// Single letters by rising id; with `all` also those that were replayed or dropped.
///
/// # Errors
/// MySQL is away.
pub async fn list(mysql: &MySql, selection: &Selection, all: bool, limit: u64) -> Result<Vec<Letter>, Error> {
    let sql = format!(
        "SELECT d.id, d.state, d.reason, d.detail, d.shard, d.batch, d.position, d.product_id, d.hour, d.views, d.payload, \
         d.created_at, d.updated_at FROM dead_letters d WHERE {}{} ORDER BY d.id LIMIT {}",
        if all { "TRUE" } else { "d.state = 'dead'" },
        selection.sql(),
        limit.min(MOST_LISTED)
    );
    mysql.rows(MysqlOp::Letters, sql, ()).await?.into_iter().map(letter).collect()
}

/// One letter in whatever state.
///
/// # Errors
/// MySQL is away.
pub async fn find(mysql: &MySql, id: u64) -> Result<Option<Letter>, Error> {
    let selection = Selection { ids: Some(BTreeSet::from([id])), ..Selection::default() };
    Ok(list(mysql, &selection, true, 1).await?.pop())
}

fn letter(mut row: Row) -> Result<Letter, Error> {
    Ok(Letter {
        id: take(&mut row, "id")?,
        state: take(&mut row, "state")?,
        reason: take(&mut row, "reason")?,
        detail: take(&mut row, "detail")?,
        shard: take(&mut row, "shard")?,
        batch: take(&mut row, "batch")?,
        position: take(&mut row, "position")?,
        product_id: take(&mut row, "product_id")?,
        hour: take::<Option<NaiveDateTime>>(&mut row, "hour")?.map(|hour| hour.and_utc()),
        views: take(&mut row, "views")?,
        payload: take(&mut row, "payload")?,
        created_at: time(&mut row, "created_at")?,
        updated_at: time(&mut row, "updated_at")?,
    })
}

fn time(row: &mut Row, column: &str) -> Result<DateTime<Utc>, Error> {
    Ok(take::<NaiveDateTime>(row, column)?.and_utc())
}

/// Letters that nobody replayed or dropped.
///
/// # Errors
/// MySQL is away.
pub async fn count(mysql: &MySql) -> Result<u64, Error> {
    let rows = mysql.rows(MysqlOp::Status, "SELECT COUNT(*) AS letters FROM dead_letters WHERE state = 'dead'", ()).await?;
    rows.into_iter().next().map_or(Ok(0), |mut row| take(&mut row, "letters"))
}

/// A letter as a replay or a drop looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    pub id: u64,
    pub shard: u16,
    pub is_dead: bool,
}

/// The next [`PIECE`] letters after the id `after` up to `last` that are dead, or in whatever state where ids are named.
///
/// # Errors
/// MySQL is away.
pub async fn next_piece(mysql: &MySql, selection: &Selection, after: u64, last: u64) -> Result<Vec<Brief>, Error> {
    let sql = format!(
        "SELECT d.id, d.shard, d.state = 'dead' AS is_dead FROM dead_letters d WHERE {}{} AND d.id > {after} AND d.id <= {last} \
         ORDER BY d.id LIMIT {PIECE}",
        if selection.ids.is_some() { "TRUE" } else { "d.state = 'dead'" },
        selection.sql()
    );
    let brief =
        |mut row: Row| Ok(Brief { id: take(&mut row, "id")?, shard: take(&mut row, "shard")?, is_dead: take(&mut row, "is_dead")? });
    mysql.rows(MysqlOp::Letters, sql, ()).await?.into_iter().map(brief).collect()
}

/// The highest id so far: what comes later is not part of a replay that runs.
///
/// # Errors
/// MySQL is away.
pub async fn last_id(mysql: &MySql) -> Result<u64, Error> {
    let rows = mysql.rows(MysqlOp::Letters, "SELECT MAX(id) AS last FROM dead_letters", ()).await?;
    Ok(rows.into_iter().next().map_or(Ok(None), |mut row| take(&mut row, "last"))?.unwrap_or(0))
}

/// What became of letters that were to be replayed; those in neither list were not dead any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// (letter, views)
    pub counted: Vec<(u64, u64)>,
    /// (letter, why it stays dead)
    pub refused: Vec<(u64, String)>,
}

/// Adds letters of one shard to their products in one transaction; with `dry_run` only says what it would do.
/// At most [`PIECE`] letters a call. Afterwards call [`finish_replays`].
///
/// # Errors
/// `Conflict` after a lost lock. `Unknown` when COMMIT was not answered: repeat it, which counts nothing twice. A hold on the
/// drain is no error of a store: it is returned as `Ok(Err(hold))`, and nothing was changed.
pub async fn replay_piece(mysql: &MySql, shard: u16, ids: Vec<u64>, dry_run: bool) -> Result<Result<Replayed, Paused>, Error> {
    let this = mysql.clone();
    let work = async move {
        let mut tx = this.begin().await?;
        if let Some(paused) = pause::lock_shard(&mut tx, shard).await? {
            tx.rollback().await?;
            return Ok(Err(paused));
        }
        let letters = lock_dead(&mut tx, &ids).await?;
        let known = super::view_counts::known(&mut tx, &letters.iter().filter_map(|letter| letter.product_id).collect()).await?;
        let refused: Vec<_> = letters.iter().filter_map(|letter| Some((letter.id, letter.refusal(&known)?))).collect();
        let countable: Vec<_> = letters.iter().filter(|letter| letter.refusal(&known).is_none()).collect();
        let mut replayed = Replayed { counted: Vec::new(), refused };
        add(&mut tx, shard, &countable, &mut replayed).await?;
        // Also what a dry run tells has been tried.
        if dry_run || replayed.counted.is_empty() {
            tx.rollback().await?
        } else {
            tx.commit().await?
        }
        Ok(Ok(replayed))
    };
    mysql.detached(MysqlOp::Letters, Kind::Unknown, PIECE_LIMIT, work).await
}

/// A dead letter whose row is locked.
struct Locked {
    id: u64,
    reason: String,
    product_id: Option<u64>,
    /// Hours since 1970 UTC.
    hour: Option<u64>,
    views: u64,
}

impl Locked {
    /// Why it cannot be counted, as far as that is seen without trying.
    fn refusal(&self, known: &BTreeSet<u64>) -> Option<String> {
        let replayable = [Reason::UnknownProduct, Reason::Refused].iter().any(|reason| reason.as_str() == self.reason);
        match (replayable, self.key()) {
            (true, Some((id, _))) if known.contains(&id) => None,
            (true, Some((id, _))) => Some(format!("there is still no product {id}")),
            _ if self.reason == Reason::OutOfRange.as_str() => {
                Some("its count or product id is out of range; it can only be dropped".into())
            }
            _ => Some("it is text that is no record; it can only be dropped".into()),
        }
    }

    fn key(&self) -> Option<view_sums::Key> {
        self.product_id.zip(self.hour)
    }
}

async fn lock_dead(tx: &mut Tx, ids: &[u64]) -> Result<Vec<Locked>, Error> {
    let sql = format!(
        "SELECT id, reason, product_id, TIMESTAMPDIFF(HOUR, '1970-01-01 00:00:00', hour) AS hours, views FROM dead_letters \
         WHERE id IN ({}) AND state = 'dead' ORDER BY id FOR UPDATE",
        number_list(ids.iter().copied())
    );
    let locked = |mut row: Row| {
        Ok(Locked {
            id: take(&mut row, "id")?,
            reason: take(&mut row, "reason")?,
            product_id: take(&mut row, "product_id")?,
            hour: take(&mut row, "hours")?,
            views: take(&mut row, "views")?,
        })
    };
    tx.rows(&sql, ()).await?.into_iter().map(locked).collect()
}

/// Adds what MySQL takes of the letters, and tells of each what became of it.
async fn add(tx: &mut Tx, shard: u16, letters: &[&Locked], replayed: &mut Replayed) -> Result<(), Error> {
    let mut sums = BTreeMap::<view_sums::Key, u64>::new();
    for letter in letters {
        if let Some(key) = letter.key() {
            *sums.entry(key).or_default() += letter.views;
        }
    }
    let (refusals, _) = view_sums::add_but_refused(tx, &sums.into_iter().collect::<Vec<_>>()).await?;
    let refusals: BTreeMap<_, _> = refusals.into_iter().collect();
    for letter in letters {
        match letter.key().and_then(|key| refusals.get(&key)) {
            Some(refusal) => replayed.refused.push((letter.id, format!("its views are still refused: {refusal}"))),
            None => replayed.counted.push((letter.id, letter.views)),
        }
    }
    if replayed.counted.is_empty() {
        return Ok(());
    }
    let views: u64 = replayed.counted.iter().map(|(_, views)| views).sum();
    let ids = number_list(replayed.counted.iter().map(|(id, _)| *id));
    tx.execute(&format!("UPDATE dead_letters SET state = 'counted' WHERE id IN ({ids})"), Params::Empty).await?;
    // Columns are UNSIGNED: an account that is short of these views fails here, and nothing is changed.
    let sql = "UPDATE view_shards SET persisted = persisted + ?, dead = dead - ? WHERE shard = ?";
    tx.execute(sql, (views, views, shard)).await.map(|_| ())
}

/// Drops the cached totals of letters whose views are in MySQL, and calls the letters `replayed`.
///
/// A reader shows `cached total + pending`. A total that was cached before the replay's COMMIT lacks its views, and one
/// that a reader read before and stores after must not be stored: so each shard is settled with a batch id that nobody
/// has, which deletes the totals and raises `sv` in one script. Until then the old total is shown, which was right when
/// the replay had not been acknowledged; from then on every reader, through whichever API, reads MySQL anew. It stands
/// after COMMIT, so it may be lost: the state `counted` in MySQL remembers it, and whoever comes next, this command or a
/// worker's sweep, does it again. That is harmless, since dropping a total always is.
///
/// # Errors
/// A store is away; the letters stay `counted`.
pub async fn finish_replays(mysql: &MySql, redis: &Redis) -> Result<(), Error> {
    loop {
        let sql = format!("SELECT id, shard, product_id FROM dead_letters WHERE state = 'counted' ORDER BY id LIMIT {PIECE}");
        let rows = mysql.rows(MysqlOp::Letters, sql, ()).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let (mut ids, mut shards) = (Vec::new(), BTreeMap::<u16, BTreeSet<u64>>::new());
        for mut row in rows {
            ids.push(take(&mut row, "id")?);
            let product: Option<u64> = take(&mut row, "product_id")?;
            shards.entry(take(&mut row, "shard")?).or_default().extend(product);
            // Totals are cached in the product's own shard, which is another for a record that was pushed by hand.
            if let Some(product) = product.and_then(|id| ProductId::new(id).ok()) {
                shards.entry(redis.keys.shards().of(product)).or_default().insert(product.get());
            }
        }
        let session = redis.queue.session()?;
        for (shard, products) in shards {
            view_queue::forget_totals(&session, &redis.keys, shard, &products).await?;
        }
        let sql = format!("UPDATE dead_letters SET state = 'replayed' WHERE state = 'counted' AND id IN ({})", number_list(ids));
        mysql.rows(MysqlOp::Letters, sql, ()).await?;
    }
}

/// Gives letters up for good; returns those that were dead until now, with their views. They stay in the account as dead, so no other
/// number changes and no shard's row is locked. At most [`PIECE`] letters a call.
///
/// # Errors
/// `Unknown` when the answer was lost: repeat it.
pub async fn drop_piece(mysql: &MySql, ids: Vec<u64>) -> Result<Vec<(u64, u64)>, Error> {
    let (this, latest) = (mysql.clone(), Instant::now() + DROP_BEFORE);
    let work = async move {
        let mut tx = this.begin().await?;
        let dropped = lock_dead(&mut tx, &ids).await?;
        if dropped.is_empty() {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        let list = number_list(dropped.iter().map(|letter| letter.id));
        tx.execute(&format!("UPDATE dead_letters SET state = 'dropped' WHERE id IN ({list})"), Params::Empty).await?;
        tx.commit_by(latest).await?;
        Ok(dropped.iter().map(|letter| (letter.id, letter.views)).collect())
    };
    mysql.detached(MysqlOp::Letters, Kind::Unknown, PIECE_LIMIT, work).await
}
