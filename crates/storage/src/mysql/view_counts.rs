//! Views in MySQL: `view_shards`, `view_marks`, `product_views`, `view_hours`, `dead_letters`.
//!
//! [`apply`] is the one transaction that adds a batch. It locks the shard's row first, so that the
//! transactions of a shard run one after another, then reads the watermarks, and only counts what stands
//! above them. However often a batch is applied, by whichever worker, its views are added once.

use super::{MySql, Tx, number_list, pause, take, view_sums};
use crate::{Error, Kind};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::ProductId;
use domain::view::{Mark, NoRecord, Parsed, PartlyCounted, Reason, SetAside, Tally, Writer};
use mysql_async::Row;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use telemetry::metrics::MysqlOp;
use telemetry::pause_point::{self, PausePoint};

/// No statement of ours is longer. The longest sets aside a whole batch of text that is no record: 8,000 of them, each
/// up to [`MAX_LETTER_BYTES`] as hex with its reason beside it, come to 11 MB. Also MariaDB's default packet.
pub const LARGEST_STATEMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Longest text of a dead letter that is kept, bytes. A batch of such text must fit into one packet as hex.
const MAX_LETTER_BYTES: usize = 512;

/// What `dead_letters.detail` holds.
const MAX_DETAIL_CHARS: usize = 255;

/// What is done about sums that MySQL refuses for their data (SQLSTATE class 22, 23 or 45).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    /// The batch fails as a whole, and may be tried again.
    Fail,
    /// They are halved until what is refused stands alone, product by hour, and that is set aside in the same
    /// transaction. Over two of them `last_batch` would name a batch of which a part is not in the totals.
    SetAside,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Applied {
    /// It is in MySQL, by this transaction or an earlier one; the tally is what this one counted.
    Counted(Tally),
    /// An operator holds the drain; nothing was changed.
    Paused,
    /// It is of a past that Redis has lost; nothing was changed. See [`PartlyCounted::Voids`].
    Void,
}

/// Adds a batch to MySQL in one transaction. Call it inside [`MySql::detached`].
///
/// # Errors
/// `Unknown` when COMMIT was sent and not answered; every other kind means that nothing was added.
/// In all cases the same batch may be applied again.
pub async fn apply(
    mysql: &MySql,
    shard: u16,
    batch: &str,
    records: Vec<Parsed>,
    partly: PartlyCounted,
    on_refusal: OnRefusal,
) -> Result<Applied, Error> {
    let mut tx = mysql.begin().await?;
    if pause::lock_shard(&mut tx, shard).await?.is_some() {
        tx.rollback().await?;
        return Ok(Applied::Paused);
    }
    pause_point::reached(PausePoint::AfterShardLock, shard).await;
    let marks = marks(&mut tx, shard, &records).await?;
    pause_point::reached(PausePoint::AfterWatermarks, shard).await;
    let kept = kept_text(&mut tx, batch, &records).await?;
    let Ok(mut tally) = Tally::new(&records, &marks, &kept, partly) else {
        tx.rollback().await?;
        return Ok(Applied::Void);
    };
    if tally.counted_records == 0 {
        // Nothing counted: `last_batch` must go on naming the batch that did.
        tx.rollback().await?;
        return Ok(Applied::Counted(tally));
    }
    let known = known(&mut tx, &tally.product_ids()).await?;
    tally.set_aside_unknown(&known);
    add_sums(&mut tx, &mut tally, on_refusal).await?;
    add_account(&mut tx, shard, batch, &tally).await?;
    pause_point::reached(PausePoint::BeforeApplyCommit, shard).await;
    tx.commit().await?;
    Ok(Applied::Counted(tally))
}

async fn marks(tx: &mut Tx, shard: u16, records: &[Parsed]) -> Result<HashMap<Writer, Mark>, Error> {
    let writers: BTreeSet<Writer> = records.iter().flatten().flat_map(|record| record.parts.iter().map(|part| part.writer)).collect();
    if writers.is_empty() {
        return Ok(HashMap::new());
    }
    // Writers are 32 hexadecimal digits: safe to inline.
    let list: Vec<String> = writers.iter().map(|writer| format!("'{writer}'")).collect();
    let sql = format!("SELECT writer, seq, accepted, arrived FROM view_marks WHERE shard = {shard} AND writer IN ({})", list.join(","));
    let pair = |mut row: Row| Ok((parse_writer(&take::<String>(&mut row, "writer")?)?, mark(&mut row)?));
    tx.rows(&sql, ()).await?.into_iter().map(pair).collect()
}

/// Places in the batch of text that is a dead letter already: what the watermarks are for records.
async fn kept_text(tx: &mut Tx, batch: &str, records: &[Parsed]) -> Result<BTreeSet<usize>, Error> {
    if records.iter().all(Result::is_ok) {
        return Ok(BTreeSet::new());
    }
    let sql = "SELECT position FROM dead_letters WHERE batch = ? AND position IS NOT NULL";
    let rows = tx.rows(sql, (batch,)).await?;
    rows.into_iter().map(|mut row| take(&mut row, "position")).collect()
}

pub(super) fn parse_writer(text: &str) -> Result<Writer, Error> {
    Writer::parse(text).ok_or_else(|| Error::new(Kind::Corrupt, "view_marks.writer is no UUID"))
}

pub(super) fn mark(row: &mut Row) -> Result<Mark, Error> {
    Ok(Mark { seq: take(row, "seq")?, accepted: take(row, "accepted")?, arrived: take(row, "arrived")? })
}

/// Read once, and what was read decides: a join inside the INSERT could see a product that this did not,
/// and would count views that were set aside.
pub(super) async fn known(tx: &mut Tx, ids: &BTreeSet<u64>) -> Result<BTreeSet<u64>, Error> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = format!("SELECT id FROM products WHERE id IN ({})", number_list(ids.iter().copied()));
    tx.rows(&sql, ()).await?.into_iter().map(|mut row| take(&mut row, "id")).collect()
}

async fn add_sums(tx: &mut Tx, tally: &mut Tally, on_refusal: OnRefusal) -> Result<(), Error> {
    let sums: Vec<_> = tally.hours.iter().map(|(&key, &views)| (key, views)).collect();
    match on_refusal {
        OnRefusal::Fail => view_sums::add(tx, &sums).await,
        OnRefusal::SetAside => {
            let (refused, halvings) = view_sums::add_but_refused(tx, &sums).await?;
            tally.halvings = halvings;
            for ((product_id, hour), why) in refused {
                tally.set_aside_refused(product_id, hour, why.to_string());
            }
            Ok(())
        }
    }
}

/// Everything beside the sums: dead letters, watermarks, and the shard's row.
async fn add_account(tx: &mut Tx, shard: u16, batch: &str, tally: &Tally) -> Result<(), Error> {
    if !tally.set_aside.is_empty() {
        let letters: Vec<_> = tally.set_aside.iter().map(letter).collect();
        tx.execute(include_str!("sql/add_dead_letters.sql"), (shard, batch, json!(letters).to_string())).await?;
    }
    let marks = tally.marks.iter().map(|(writer, mark)| json!([writer.to_string(), mark.seq, mark.accepted, mark.arrived]));
    let marks: Vec<_> = marks.collect();
    if !marks.is_empty() {
        tx.execute(include_str!("sql/put_marks.sql"), (shard, json!(marks).to_string())).await?;
    }
    let sql = "UPDATE view_shards SET persisted = persisted + ?, dead = dead + ?, last_batch = ? WHERE shard = ?";
    tx.execute(sql, (tally.persisted(), tally.dead(), batch, shard)).await.map(|_| ())
}

fn letter(letter: &SetAside) -> serde_json::Value {
    match letter {
        SetAside::Views { product_id, hour, views, reason } => json!([null, product_id, hour, views, reason.as_str(), "", null]),
        SetAside::Refused { product_id, hour, views, why } => {
            let why: String = why.chars().take(MAX_DETAIL_CHARS).collect();
            json!([null, product_id, hour, views, Reason::Refused.as_str(), why, null])
        }
        SetAside::Text(NoRecord { position, text, why }) => {
            let kept = &text[..text.len().min(MAX_LETTER_BYTES)];
            let hex: String = kept.iter().map(|byte| format!("{byte:02x}")).collect();
            json!([position, null, null, 0, Reason::Unparsable.as_str(), why, hex])
        }
    }
}

/// Totals of products and the last batch that counted in each shard, as one snapshot.
#[derive(Debug, Default)]
pub struct Totals {
    pub views: HashMap<u64, u64>,
    pub last_batches: HashMap<u16, String>,
}

/// Reads [`Totals`] in one statement: a batch that is in the total is named by `last_batch`, and the other way round.
///
/// # Errors
/// MySQL is away.
pub async fn totals(mysql: &MySql, ids: &[ProductId]) -> Result<Totals, Error> {
    let list = number_list(ids.iter().map(|id| id.get()));
    let sql = format!(
        "SELECT s.shard, s.last_batch, v.product_id, v.views FROM view_shards s LEFT JOIN product_views v \
         ON v.product_id IN ({list}) AND v.product_id % {} = s.shard",
        mysql.deployment()?.shards.count()
    );
    let mut totals = Totals::default();
    for mut row in mysql.rows(MysqlOp::Shown, sql, ()).await? {
        let last_batch: Option<String> = take(&mut row, "last_batch")?;
        let product_id: Option<u64> = take(&mut row, "product_id")?;
        let views: Option<u64> = take(&mut row, "views")?;
        if let Some(last_batch) = last_batch {
            totals.last_batches.insert(take(&mut row, "shard")?, last_batch);
        }
        totals.views.extend(product_id.zip(views));
    }
    Ok(totals)
}

/// What MySQL holds of one shard, for the account of views.
#[derive(Debug, Clone, Default)]
pub struct ShardTotals {
    pub last_batch: Option<String>,
    pub persisted: u64,
    pub dead: u64,
    pub retired_accepted: u64,
    pub retired_arrived: u64,
    pub marks: HashMap<Writer, Mark>,
}

/// Reads [`ShardTotals`] of all shards in one statement.
///
/// # Errors
/// MySQL is away.
pub async fn shard_totals(mysql: &MySql) -> Result<HashMap<u16, ShardTotals>, Error> {
    const SQL: &str = "SELECT s.shard, s.last_batch, s.persisted, s.dead, s.retired_accepted, s.retired_arrived, \
                       m.writer, m.seq, m.accepted, m.arrived FROM view_shards s LEFT JOIN view_marks m ON m.shard = s.shard";
    let mut shards = HashMap::<u16, ShardTotals>::new();
    for mut row in mysql.rows(MysqlOp::Status, SQL, ()).await? {
        let totals = shards.entry(take(&mut row, "shard")?).or_default();
        totals.last_batch = take(&mut row, "last_batch")?;
        totals.persisted = take(&mut row, "persisted")?;
        totals.dead = take(&mut row, "dead")?;
        totals.retired_accepted = take(&mut row, "retired_accepted")?;
        totals.retired_arrived = take(&mut row, "retired_arrived")?;
        if let Some(writer) = take::<Option<String>>(&mut row, "writer")? {
            totals.marks.insert(parse_writer(&writer)?, mark(&mut row)?);
        }
    }
    Ok(shards)
}

/// Hourly buckets of one product, ascending, `from` included and `to` not.
///
/// # Errors
/// MySQL is away.
pub async fn hours(mysql: &MySql, id: ProductId, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<(DateTime<Utc>, u64)>, Error> {
    let sql = "SELECT hour, views FROM view_hours WHERE product_id = ? AND hour >= ? AND hour < ? ORDER BY hour";
    let rows = mysql.rows(MysqlOp::Hours, sql, (id.get(), from.naive_utc(), to.naive_utc())).await?;
    let bucket = |mut row: Row| -> Result<(DateTime<Utc>, u64), Error> {
        Ok((take::<NaiveDateTime>(&mut row, "hour")?.and_utc(), take(&mut row, "views")?))
    };
    rows.into_iter().map(bucket).collect()
}
