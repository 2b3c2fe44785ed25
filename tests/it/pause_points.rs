//! What is true of a view at each point where a program can be held on its way. Those of prices: `faults/price_traces.rs`.

use harness::{PausePoints, Reply, Shop};
use telemetry::pause_point::PausePoint;

/// Product of shard 2.
const PRODUCT: u64 = 2;

/// Views of the product in MySQL, records that wait in Redis, and whether a batch is sealed.
async fn places(shop: &Shop) -> (u64, u64, bool) {
    let mut redis = shop.redis_connection().await;
    let mut pipe = redis::pipe();
    pipe.cmd("LLEN").arg("inventory:{2}:open").cmd("EXISTS").arg("inventory:{2}:batch_id");
    let (waiting, sealed) = pipe.query_async(&mut redis).await.unwrap();
    (shop.views(PRODUCT).await, waiting, sealed)
}

#[tokio::test]
async fn a_view_can_be_held_at_every_step_from_its_push_to_its_settle() {
    let (shop, points) = (Shop::start().await, PausePoints::listen().await);
    shop.products(2).await;
    let api = shop.api_with(&[points.setting()]).await;
    let request = api.request("POST", &format!("/v1/products/{PRODUCT}/views"));
    let [before_push, after_push] = [PausePoint::BeforePush, PausePoint::AfterPush].map(|point| points.hold(point));
    let view = tokio::spawn(Reply::to(request));
    let held = before_push.held().await;
    assert_eq!(places(&shop).await, (0, 0, false));
    held.release();
    let held = after_push.held().await;
    assert_eq!(places(&shop).await, (0, 1, false));
    assert!(!view.is_finished());
    held.release();
    assert_eq!(view.await.unwrap().status, 202);

    let steps = [
        (PausePoint::AfterClaim, (0, 0, true)),
        (PausePoint::AfterShardLock, (0, 0, true)),
        (PausePoint::AfterWatermarks, (0, 0, true)),
        (PausePoint::BeforeApplyCommit, (0, 0, true)),
        (PausePoint::AfterApply, (1, 0, true)),
        (PausePoint::AfterSettle, (1, 0, false)),
    ];
    let steps = steps.map(|(point, expected)| (point, points.hold(point), expected));
    let _worker = shop.worker_with(&[points.setting()]).await;
    for (point, arrival, expected) in steps {
        let held = arrival.held().await;
        assert_eq!(places(&shop).await, expected, "{point:?}");
        let locked = [PausePoint::AfterShardLock, PausePoint::AfterWatermarks, PausePoint::BeforeApplyCommit].contains(&point);
        assert_eq!(shop.is_locked("view_shards WHERE shard = 2").await, locked, "{point:?}");
        held.release();
    }
}
