//! The workers of the baselines' queues: what stands in textbooks, set up with the same care as ours.
//!
//! Each keeps its connections, and runs until it is killed. What it loses or doubles then is what they are measured for.

use crate::baselines::{ADD_VIEW, Kind, LIST, STREAM, pool};
use anyhow::{Context, bail};
use mysql_async::prelude::Queryable;
use mysql_async::{Pool, TxOpts};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// Elements of a textbook's batch.
const POPPED: isize = 10;

const ADD_VIEWS: &str = "UPDATE product_views SET views = views + ? WHERE product_id = ?";

/// Elements of a range: some milliseconds of work, so that what waits behind it is not felt.
const RANGE: isize = 1_000;

/// How long an empty list is left alone: LRANGE does not wait.
const EMPTY_PAUSE: Duration = Duration::from_millis(5);

const GROUP: &str = "workers";

/// Consumers of the stream at a time, each with its own connections: MySQL commits what they write in groups.
const CONSUMERS: usize = 16;

/// Entries that a consumer takes at a time.
const TAKEN: usize = 10;

/// # Errors
/// A store is away, or the baseline has no queue.
pub(crate) async fn run(kind: Kind, mysql_url: String, redis_url: String) -> anyhow::Result<()> {
    let pool = pool(&mysql_url, &[])?;
    match kind {
        Kind::Textbook => pop(&pool, &redis_url).await,
        Kind::Trim => trim(&pool, &redis_url).await,
        Kind::Stream => consume(&pool, &redis_url).await,
        Kind::Bare | Kind::Direct | Kind::Locked => bail!("the baseline `{}` has no queue, and so no worker", kind.name()),
    }
}

/// For commands that wait.
async fn connect(redis_url: &str) -> anyhow::Result<MultiplexedConnection> {
    let waiting = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(redis_url)?;
    client.get_multiplexed_async_connection_with_config(&waiting).await.context("connecting to Redis")
}

/// Views by product, in the order of their keys.
fn sums(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for id in ids {
        *sums.entry(id).or_default() += 1;
    }
    sums
}

/// Pops up to ten views, sums them, adds them in one transaction. What it popped is lost if it dies.
async fn pop(pool: &Pool, redis_url: &str) -> anyhow::Result<()> {
    let mut redis = connect(redis_url).await?;
    let more = std::num::NonZero::new(POPPED as usize - 1);
    loop {
        let (_, first): (String, u64) = redis.blpop(LIST, 0.0).await?;
        let rest: Vec<u64> = redis.lpop::<_, Option<_>>(LIST, more).await?.unwrap_or_default();
        let mut tx = pool.start_transaction(TxOpts::default()).await?;
        for (id, views) in sums(rest.into_iter().chain([first])) {
            tx.exec_drop(ADD_VIEWS, (views, id)).await?;
        }
        tx.commit().await?;
    }
}

/// Reads a range, adds its sums in one transaction, which is one statement, and trims after its COMMIT. What was added is added
/// again if it dies between the two.
async fn trim(pool: &Pool, redis_url: &str) -> anyhow::Result<()> {
    let mut redis = connect(redis_url).await?;
    let mut connection = pool.get_conn().await?;
    loop {
        let ids: Vec<u64> = redis.lrange(LIST, 0, RANGE - 1).await?;
        if ids.is_empty() {
            tokio::time::sleep(EMPTY_PAUSE).await;
            continue;
        }
        let done = isize::try_from(ids.len()).context("a range is longer than it was asked for")?;
        connection.query_drop(add(&sums(ids))).await?;
        redis.ltrim::<_, ()>(LIST, done, -1).await?;
    }
}

/// Only numbers stand in the text.
fn add(sums: &BTreeMap<u64, u64>) -> String {
    let rows: Vec<String> = sums.iter().map(|(id, views)| format!("({id},{views})")).collect();
    format!("INSERT INTO product_views (product_id, views) VALUES {} ON DUPLICATE KEY UPDATE views = views + VALUES(views)", rows.join(","))
}

/// One statement an entry, then its acknowledgement. What was added and not acknowledged is given out again.
async fn consume(pool: &Pool, redis_url: &str) -> anyhow::Result<()> {
    let mut redis = connect(redis_url).await?;
    let made: redis::RedisResult<()> =
        redis::cmd("XGROUP").arg("CREATE").arg(STREAM).arg(GROUP).arg(0).arg("MKSTREAM").query_async(&mut redis).await;
    if let Err(error) = made
        && error.code() != Some("BUSYGROUP")
    {
        return Err(error).context("making the group of consumers");
    }
    let mut consumers = JoinSet::new();
    for number in 0..CONSUMERS {
        consumers.spawn(consumer(number, pool.clone(), connect(redis_url).await?));
    }
    while let Some(ended) = consumers.join_next().await {
        ended.context("a consumer panicked")??;
    }
    Ok(())
}

async fn consumer(number: usize, pool: Pool, mut redis: MultiplexedConnection) -> anyhow::Result<()> {
    /// The stream's name, and its entries: an id, a field's name and the product.
    type Streams = Option<Vec<(String, Vec<(String, (String, u64))>)>>;
    let mut connection = pool.get_conn().await?;
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(GROUP).arg(number).arg("COUNT").arg(TAKEN).arg("BLOCK").arg(0).arg("STREAMS").arg(STREAM);
    // What its predecessor of this name had taken and not acknowledged comes first.
    let mut from = "0";
    loop {
        let streams: Streams = read.clone().arg(from).query_async(&mut redis).await?;
        let entries: Vec<_> = streams.into_iter().flatten().flat_map(|(_, entries)| entries).collect();
        if entries.is_empty() {
            from = ">";
        }
        for (id, (_, product)) in entries {
            connection.exec_drop(ADD_VIEW, (product,)).await?;
            let mut done = redis::pipe();
            done.atomic().cmd("XACK").arg(STREAM).arg(GROUP).arg(&id).ignore().cmd("XDEL").arg(STREAM).arg(&id).ignore();
            done.query_async::<()>(&mut redis).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_statement_with_a_row_a_product() {
        let text = add(&sums([7, 3, 7]));
        assert!(text.contains("VALUES (3,1),(7,2) ON DUPLICATE KEY UPDATE views = views + VALUES(views)"), "{text}");
    }
}
