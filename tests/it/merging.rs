//! The merging of waiting records: what it leaves in Redis, and that each view counts in its hour all the same.

use domain::view::{Queued, Record, Writer};
use harness::{Books, SOON, Shop, seed};
use std::collections::{BTreeMap, HashMap};
use storage::redis::merge::{self, Merged};
use storage::redis::view_queue::{self, Claim, Claimed};
use uuid::Uuid;

/// A shard, and products of it.
const SHARD: u16 = 2;
const HOUR_MS: u64 = 3_600_000;

/// As an API sends a push.
const SENDINGS: u32 = 100;

/// One writer of an API, whose pushes carry the time that a test wants.
pub(crate) struct Pusher {
    pub(crate) writer: Writer,
    pub(crate) seq: u64,
    accepted: u64,
}

impl Pusher {
    pub(crate) fn new() -> Self {
        Self { writer: Writer::new(Uuid::new_v4()), seq: 0, accepted: 0 }
    }

    /// Pushes views of products of one shard, as sent first under the run of now; again if the answer does not come in time.
    pub(crate) async fn push(&mut self, books: &Books, at_ms: u64, counts: &[(u64, u64)]) {
        self.seq += 1;
        let run8 = books.redis.queue.session().unwrap().run8().to_string();
        let record = Record { writer: self.writer, seq: self.seq, accepted: self.accepted, run8, at_ms, counts: counts.to_vec() };
        let shard = (counts[0].0 % u64::from(books.redis.keys.shards().count())) as u16;
        for _ in 0..SENDINGS {
            books.redis.queue.wait(SOON).await;
            let Ok(session) = books.redis.queue.session() else { continue };
            if let Ok(pushed) = view_queue::push(&session, &books.redis.keys, shard, &record, &[], u64::MAX).await {
                self.accepted = pushed.accepted;
                return;
            }
        }
        panic!("Redis does not answer");
    }
}

async fn merge_once(books: &Books) -> Merged {
    merge::merge(&books.redis.queue.session().unwrap(), &books.redis.keys, SHARD).await.unwrap()
}

async fn merge_all(books: &Books) -> Merged {
    let mut all = Merged::default();
    loop {
        let merged = merge_once(books).await;
        if merged.taken == 0 {
            return all;
        }
        all = Merged { taken: all.taken + merged.taken, joined: all.joined + merged.joined, entries: all.entries + merged.entries };
    }
}

async fn list(shop: &Shop, name: &str) -> Vec<Vec<u8>> {
    let mut redis = shop.redis_connection().await;
    redis::cmd("LRANGE").arg(format!("inventory:{{{SHARD}}}:{name}")).arg(0).arg(-1).query_async(&mut redis).await.unwrap()
}

async fn number(shop: &Shop, name: &str) -> u64 {
    let mut redis = shop.redis_connection().await;
    redis::cmd("GET").arg(format!("inventory:{{{SHARD}}}:{name}")).query_async(&mut redis).await.unwrap()
}

/// Views of each product and hour in MySQL.
async fn hours(shop: &Shop) -> BTreeMap<(u64, u64), u64> {
    let sql = "SELECT product_id, CAST(TIMESTAMPDIFF(HOUR, '1970-01-01', hour) AS UNSIGNED), views FROM view_hours";
    shop.rows::<(u64, u64, u64)>(sql).await.into_iter().map(|(id, hour, views)| ((id, hour), views)).collect()
}

#[tokio::test]
async fn what_is_merged_between_pushes_counts_by_product_and_hour_as_it_was_pushed() {
    let shop = Shop::start().await;
    shop.products(800).await;
    let books = shop.books().await;
    let mut random = fastrand::Rng::with_seed(seed());
    let mut pushers = [Pusher::new(), Pusher::new(), Pusher::new()];
    let mut expected = BTreeMap::<(u64, u64), u64>::new();
    let mut joined = 0;
    for step in 0..3_000_u64 {
        // Clocks of three APIs, some minutes apart, over sixty hours.
        let at_ms = step * 72_000 + random.u64(..600_000);
        let mut counts = HashMap::<u64, u64>::new();
        for _ in 0..random.u64(1..12) {
            *counts.entry(u64::from(SHARD) + 4 * random.u64(..200)).or_default() += random.u64(1..40);
        }
        let counts: Vec<_> = counts.into_iter().collect();
        for (id, views) in &counts {
            *expected.entry((*id, at_ms / HOUR_MS)).or_default() += views;
        }
        random.choice(&mut pushers).unwrap().push(&books, at_ms, &counts).await;
        if random.u8(..40) == 0 {
            joined += merge_once(&books).await.joined;
        }
    }
    let (waiting, before) = (number(&shop, "waiting").await, number(&shop, "entries").await);
    let merged = merge_all(&books).await;
    assert_eq!(joined + merged.joined, 3_000);
    assert_eq!(number(&shop, "entries").await, before - merged.entries);
    assert_eq!(number(&shop, "waiting").await, waiting, "views go on waiting");
    assert_eq!(waiting, expected.values().sum::<u64>());

    let records: Vec<Queued> = list(&shop, "merged").await.iter().map(|text| Queued::parse(text).unwrap()).collect();
    assert!(records.iter().all(|record| record.counts.len() as u64 <= merge::MOST_PAIRS));
    assert_eq!(records.iter().map(|record| record.counts.len() as u64).sum::<u64>(), number(&shop, "entries").await);
    // An hour stands in two records at most, and only where clocks differed about its begin.
    assert!(number(&shop, "entries").await < expected.len() as u64 * 11 / 10, "{} of {}", number(&shop, "entries").await, expected.len());
    let mut last = HashMap::<Writer, u64>::new();
    for part in records.iter().flat_map(|record| &record.parts) {
        assert!(last.insert(part.writer, part.last).is_none_or(|before| part.first > before), "{part:?}");
    }
    let oldest = books.account().await.unwrap().1.oldest_at_ms;
    assert_eq!(oldest, records.iter().map(|record| record.at_ms).min());

    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.accepted, account.persisted, account.drift()), (waiting, waiting, 0));
    assert_eq!(hours(&shop).await, expected);
    let pending: u64 = redis::cmd("HLEN").arg("inventory:{2}:pend").query_async(&mut shop.redis_connection().await).await.unwrap();
    assert_eq!(pending, 0);
}

#[tokio::test]
async fn what_cannot_be_joined_waits_as_it_is_and_keeps_its_place() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let books = shop.books().await;
    let (mut early, mut late, mut wild) = (Pusher::new(), Pusher::new(), Pusher::new());
    let earlier = harness::record(early.writer, 1, HOUR_MS, &[(2, 1)]);
    early.seq = 1;
    books.push(&earlier).await;
    late.push(&books, 2 * HOUR_MS, &[(2, 2)]).await;
    early.push(&books, 2 * HOUR_MS, &[(2, 4), (6, 8)]).await;
    let mut redis = shop.redis_connection().await;
    redis::cmd("RPUSH").arg("inventory:{2}:open").arg("no view").exec_async(&mut redis).await.unwrap();
    late.push(&books, 3 * HOUR_MS, &[(2, 16)]).await;
    // More than one product may have in a push: set aside by product, and not counted among others.
    wild.push(&books, 3 * HOUR_MS, &[(2, 1_000_001)]).await;
    late.push(&books, 3 * HOUR_MS, &[(2, 32)]).await;
    let again = list(&shop, "open").await.pop().unwrap();
    redis::cmd("RPUSH").arg("inventory:{2}:open").arg(again).exec_async(&mut redis).await.unwrap();
    assert_eq!(merge_all(&books).await, Merged { taken: 8, joined: 4, entries: 1 });
    let texts: Vec<String> = list(&shop, "merged").await.into_iter().map(|text| String::from_utf8_lossy(&text).into_owned()).collect();
    let formats: Vec<&str> = texts.iter().map(|text| &text[..2]).collect();
    assert_eq!(formats, ["1 ", "2 ", "no", "2 ", "1 ", "2 ", "1 "], "{texts:?}");
    let _worker = shop.worker().await;
    let account = books.at_rest().await;
    assert_eq!((account.persisted, account.dead, account.lost, account.drift()), (63, 1_000_001, 0, 0));
    assert_eq!(hours(&shop).await, BTreeMap::from([((2, 1), 1), ((2, 2), 6), ((6, 2), 8), ((2, 3), 48)]));
}

#[tokio::test]
async fn what_waits_in_a_full_redis_is_merged_too() {
    let shop = Shop::start().await;
    shop.products(8).await;
    let (books, mut pusher) = (shop.books().await, Pusher::new());
    for _ in 0..2_000 {
        pusher.push(&books, HOUR_MS, &[(2, 1), (6, 1)]).await;
    }
    let limit = async |bytes: u64| {
        let mut redis = shop.redis_connection().await;
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec_async(&mut redis).await.unwrap();
    };
    limit(500_000).await;
    assert_eq!(merge_all(&books).await, Merged { taken: 2_000, joined: 2_000, entries: 3_998 });
    limit(0).await;
    let _worker = shop.worker().await;
    assert_eq!(books.at_rest().await.persisted, 4_000);
}

/// What a claim takes: records, and pairs in them.
async fn claimed(books: &Books) -> (usize, usize) {
    let claim = Claim { new_id: "b", worker: "w", deadline: SOON, most_views: u64::MAX };
    match view_queue::claim(&books.redis.queue.session().unwrap(), &books.redis.keys, SHARD, &claim).await.unwrap() {
        Claimed::Batch { records, .. } => {
            let pairs = records.iter().map(|text| Queued::parse(text).unwrap().counts.len()).sum();
            (records.len(), pairs)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_claim_is_bounded_by_pairs_whether_they_were_merged_or_not() {
    for merges in [false, true] {
        let shop = Shop::start().await;
        let (books, mut pusher) = (shop.books().await, Pusher::new());
        let counts: Vec<_> = (0..1_000).map(|n| (2 + 4 * n, 1)).collect();
        for hour in 0..80 {
            pusher.push(&books, hour * HOUR_MS, &counts).await;
        }
        if merges {
            merge_all(&books).await;
        }
        let (records, pairs) = claimed(&books).await;
        assert!((55_000..=view_queue::MOST_PAIRS as usize).contains(&pairs), "{pairs} pairs in {records} records");
    }
}
