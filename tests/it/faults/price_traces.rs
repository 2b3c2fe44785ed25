//! The orders of steps in which a weaker protocol would show an old price, played exactly: programs are held between
//! two steps while others go on, are killed there, or find another Redis afterwards. The model finds such traces.
//!
//! The price of version 2 is 2.00, and so on. *Ended* entries are deleted: no promise rests on when that happens.

use harness::{PausePoints, Program, Proxy, SOON, Shop, eventually};
use telemetry::pause_point::PausePoint;
use tokio::task::JoinHandle;

const ID: u64 = 1;

/// Where a writer can stand, in its order, and whether MySQL shows its price there.
const WRITER: [(PausePoint, bool); 5] = [
    (PausePoint::AfterLock, false),
    (PausePoint::AfterMark, false),
    (PausePoint::BeforeCommit, false),
    (PausePoint::AfterCommit, true),
    (PausePoint::AfterPublish, true),
];

/// Where a reader that fills can stand.
const READER: [PausePoint; 3] = [PausePoint::AfterLease, PausePoint::AfterSelect, PausePoint::AfterFill];

/// One product, and two APIs that can be held.
struct Stage {
    shop: Shop,
    points: PausePoints,
    one: Program,
    other: Program,
}

impl Stage {
    async fn set() -> Self {
        let (shop, points) = (Shop::start().await, PausePoints::listen().await);
        shop.products(1).await;
        let (one, other) = (shop.api_with(&[points.setting()]).await, shop.api_with(&[points.setting()]).await);
        Self { shop, points, one, other }
    }

    async fn version(&self) -> u64 {
        self.shop.price(ID).await.0
    }

    /// Everybody sees the version that MySQL has, whatever stands in the entry; and at rest the entry has it too, and is used.
    async fn assert_agreed(&self, version: u64) {
        assert_eq!(self.shop.price(ID).await, (version, amount(version)));
        for api in [&self.one, &self.other, &self.one, &self.other] {
            assert_sees(api, version).await;
        }
        let expected = format!("D{version}|");
        eventually("the entry is filled", SOON, async || {
            let entry = self.shop.entry(ID).await.filter(|entry| entry.starts_with('D'));
            if let Some(entry) = &entry {
                assert!(entry.starts_with(&expected), "{entry} is not version {version}");
            } else {
                // A marker or lease that somebody left would end by itself.
                self.shop.drop_entry(ID).await;
                assert_sees(&self.other, version).await;
            }
            entry
        })
        .await;
        for api in [&self.one, &self.other] {
            assert_hits(api, version).await;
        }
    }
}

fn amount(version: u64) -> String {
    format!("{version}.00")
}

async fn assert_sees(api: &Program, version: u64) {
    let seen = api.see(ID).await;
    assert!(seen.is(version, &amount(version)), "version {version} was to be seen, not {seen:?}");
}

/// It answers from the cache, sooner or later, and never anything else.
async fn assert_hits(api: &Program, version: u64) {
    eventually("the cache is used", SOON, async || {
        let seen = api.see(ID).await;
        assert!(seen.is(version, &amount(version)), "version {version} was to be seen, not {seen:?}");
        (seen.cache == "hit").then_some(())
    })
    .await;
}

/// Sets the price of a version in a task of its own, which ends with the status; `None` if no answer came.
fn put(api: &Program, version: u64) -> JoinHandle<Option<u16>> {
    let body = format!(r#"{{"amount":"{}","currency":"GBP"}}"#, amount(version));
    let request = api.request("PUT", &format!("/v1/products/{ID}/price")).header("content-type", "application/json").body(body);
    tokio::spawn(async move { Some(request.send().await.ok()?.status().as_u16()) })
}

/// Reads in a task of its own, which ends with the version that was seen.
fn get(api: &Program) -> JoinHandle<Option<u64>> {
    let request = api.request("GET", &format!("/v1/products/{ID}"));
    tokio::spawn(async move {
        let text = request.send().await.ok()?.text().await.ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()?["version"].as_u64()
    })
}

#[tokio::test]
async fn a_lease_taken_under_a_writer_whose_marker_ended_stores_nothing_old() {
    let stage = Stage::set().await;
    let mut version = 1;
    for writer in [PausePoint::AfterMark, PausePoint::BeforeCommit] {
        for reader in [PausePoint::AfterLease, PausePoint::AfterSelect] {
            let (writer, reader) = (stage.points.hold(writer), stage.points.hold(reader));
            let write = put(&stage.one, version + 1);
            let writer = writer.held().await;
            stage.shop.drop_entry(ID).await;
            let read = get(&stage.other);
            let reader = reader.held().await;
            version += 1;
            writer.release();
            assert_eq!(write.await.unwrap(), Some(200));
            assert_sees(&stage.one, version).await;
            reader.release();
            read.await.unwrap().expect("the reader is answered");
            stage.assert_agreed(version).await;
        }
    }
}

#[tokio::test]
async fn a_fill_from_before_a_write_is_dropped_wherever_the_write_stands() {
    let stage = Stage::set().await;
    let mut version = 1;
    for (point, committed) in WRITER.into_iter().skip(1) {
        for marker_ends in [false, true] {
            stage.shop.drop_entry(ID).await;
            let (writer, reader) = (stage.points.hold(point), stage.points.hold(PausePoint::AfterSelect));
            let read = get(&stage.other);
            let reader = reader.held().await;
            let write = put(&stage.one, version + 1);
            let writer = writer.held().await;
            if marker_ends {
                stage.shop.drop_entry(ID).await;
                assert_sees(&stage.one, version + u64::from(committed)).await;
            }
            reader.release();
            assert_eq!(read.await.unwrap(), Some(version), "a read that began before the write may show what was there");
            for api in [&stage.one, &stage.other] {
                assert_sees(api, version + u64::from(committed)).await;
            }
            version += 1;
            writer.release();
            assert_eq!(write.await.unwrap(), Some(200));
            stage.assert_agreed(version).await;
        }
    }
}

#[tokio::test]
async fn a_fill_from_before_a_write_is_dropped_after_the_whole_of_it() {
    let stage = Stage::set().await;
    let reader = stage.points.hold(PausePoint::AfterSelect);
    let read = get(&stage.other);
    let reader = reader.held().await;
    assert_eq!(put(&stage.one, 2).await.unwrap(), Some(200));
    reader.release();
    assert_eq!(read.await.unwrap(), Some(1));
    stage.assert_agreed(2).await;
}

#[tokio::test]
async fn a_publish_that_comes_after_a_later_write_is_dropped() {
    let stage = Stage::set().await;
    let mut version = 1;
    for by_plain_sql in [false, true] {
        for filled in [false, true] {
            let writer = stage.points.hold(PausePoint::AfterCommit);
            let write = put(&stage.one, version + 1);
            let writer = writer.held().await;
            version += 2;
            if by_plain_sql {
                stage.shop.run(&format!("UPDATE products SET price = {}, version = {version}", amount(version))).await;
                // Plain SQL is seen once the entry has ended; until then its readers find the marker.
                stage.shop.drop_entry(ID).await;
            } else {
                assert_eq!(put(&stage.other, version).await.unwrap(), Some(200));
            }
            if filled {
                assert_sees(&stage.other, version).await;
            }
            writer.release();
            assert_eq!(write.await.unwrap(), Some(200));
            stage.assert_agreed(version).await;
        }
    }
}

#[tokio::test]
async fn a_commit_that_lands_under_a_lease_after_its_writer_died_leaves_nothing_old() {
    let mut stage = Stage::set().await;
    let mysql = Proxy::to(stage.shop.mysql_port()).await;
    let mut writing = stage.shop.api_behind(Some(&mysql), None).await;
    let mut version = 1;
    for redis_restarts in [false, true] {
        for reader in [PausePoint::AfterLease, PausePoint::AfterSelect] {
            assert_sees(&stage.one, version).await;
            let older = redis_restarts.then(|| stage.shop.keep_redis_log());
            mysql.hold_commit();
            let write = put(&writing, version + 1);
            mysql.caught().await;
            writing.kill();
            assert_eq!(write.await.unwrap(), None);
            match &older {
                Some(older) => stage.shop.restart_redis_with(Some(older)),
                None => stage.shop.drop_entry(ID).await,
            }
            let (read, reader) = read_held_at(&stage, reader, version).await;
            version += 1;
            mysql.release();
            eventually("the COMMIT lands", SOON, async || (stage.version().await == version).then_some(())).await;
            reader.release();
            read.await.unwrap().expect("the reader is answered");
            stage.assert_agreed(version).await;
            assert_eq!(put(&stage.one, version).await.unwrap(), Some(200), "the client's repeat");
            stage.assert_agreed(version).await;
            writing.restart().await;
        }
    }
}

/// A read of the other API, held. One that finds Redis still away needs no lease and comes by no point: then another is sent.
async fn read_held_at(stage: &Stage, point: PausePoint, version: u64) -> (JoinHandle<Option<u64>>, harness::Held) {
    let mut arrival = stage.points.hold(point);
    eventually("a reader takes a lease", SOON, async || {
        let mut read = get(&stage.other);
        tokio::select! {
            held = arrival.arrived() => Some((read, held)),
            seen = &mut read => {
                assert_eq!(seen.unwrap(), Some(version));
                None
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_write_whose_connection_is_cut_before_its_commit_is_never_seen() {
    let stage = Stage::set().await;
    let mysql = Proxy::to(stage.shop.mysql_port()).await;
    let url = stage.shop.mysql_url_at("inventory_api", mysql.port());
    let writing = stage.shop.api_with(&[stage.points.setting(), ("INVENTORY_MYSQL_URL", url)]).await;
    for marker_ends in [false, true] {
        let writer = stage.points.hold(PausePoint::BeforeCommit);
        let write = put(&writing, 2);
        let writer = writer.held().await;
        mysql.cut();
        if marker_ends {
            stage.shop.drop_entry(ID).await;
            assert_sees(&stage.other, 1).await;
        }
        writer.release();
        assert_eq!(write.await.unwrap(), Some(503));
        eventually("MySQL has rolled back", SOON, async || (!stage.shop.is_locked("products WHERE id = 1").await).then_some(())).await;
        stage.assert_agreed(1).await;
    }
}

#[tokio::test]
async fn a_writer_that_is_killed_at_any_point_leaves_cache_and_mysql_agreed() {
    let mut stage = Stage::set().await;
    let mut version = 1;
    for (point, committed) in WRITER {
        for marker_ends in [false, true] {
            assert_sees(&stage.one, version).await;
            let writer = stage.points.hold(point);
            let write = put(&stage.one, version + 1);
            let _writer = writer.held().await;
            if marker_ends {
                stage.shop.drop_entry(ID).await;
            }
            version += u64::from(committed);
            assert_sees(&stage.other, version).await;
            stage.one.kill();
            assert_eq!(write.await.unwrap(), None);
            assert_sees(&stage.other, version).await;
            eventually("the row is free", SOON, async || (!stage.shop.is_locked("products WHERE id = 1").await).then_some(())).await;
            stage.one.restart().await;
            stage.assert_agreed(version).await;
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_killed_at_any_point_hinders_nobody() {
    let mut stage = Stage::set().await;
    let mut version = 1;
    for point in READER {
        stage.shop.drop_entry(ID).await;
        let reader = stage.points.hold(point);
        let read = get(&stage.one);
        let _reader = reader.held().await;
        stage.one.kill();
        assert_eq!(read.await.unwrap(), None);
        assert_sees(&stage.other, version).await;
        version += 1;
        assert_eq!(put(&stage.other, version).await.unwrap(), Some(200));
        assert_sees(&stage.other, version).await;
        stage.one.restart().await;
        stage.assert_agreed(version).await;
    }
}

#[tokio::test]
async fn a_redis_that_restarts_under_a_writer_shows_nothing_old() {
    let mut stage = Stage::set().await;
    let mut version = 1;
    for (point, committed) in WRITER {
        for empty in [true, false] {
            assert_sees(&stage.one, version).await;
            let older = stage.shop.keep_redis_log();
            let writer = stage.points.hold(point);
            let write = put(&stage.one, version + 1);
            let writer = writer.held().await;
            stage.shop.restart_redis_with(Some(older.as_path()).filter(|_| !empty));
            assert_sees(&stage.other, version + u64::from(committed)).await;
            writer.release();
            let status = write.await.unwrap();
            assert!([Some(200), Some(503)].contains(&status), "{status:?}");
            // Before its mark a writer needs Redis; on a slow machine another may have run out of time.
            let now = stage.version().await;
            assert!(now == version + 1 || (status == Some(503) && now == version), "{status:?} and version {now} after {version}");
            version = now;
            stage.assert_agreed(version).await;
        }
    }
}

#[tokio::test]
async fn a_redis_that_restarts_under_a_reader_shows_nothing_old() {
    let mut stage = Stage::set().await;
    let mut version = 1;
    for point in READER {
        for empty in [true, false] {
            stage.assert_agreed(version).await;
            let older = stage.shop.keep_redis_log();
            version += 1;
            assert_eq!(put(&stage.other, version).await.unwrap(), Some(200));
            stage.shop.drop_entry(ID).await;
            let reader = stage.points.hold(point);
            let read = get(&stage.one);
            let reader = reader.held().await;
            stage.shop.restart_redis_with(Some(older.as_path()).filter(|_| !empty));
            assert_hits(&stage.other, version).await;
            version += 1;
            assert_eq!(put(&stage.other, version).await.unwrap(), Some(200));
            reader.release();
            // What it had read already may be older than a write that came since; with its lease alone it reads now.
            let read_before = u64::from(point != PausePoint::AfterLease);
            assert_eq!(read.await.unwrap(), Some(version - read_before));
            stage.assert_agreed(version).await;
        }
    }
}
