//! The shortest way through the whole system.

use harness::{SOON, Shop, eventually};
use serde_json::{Value, json};

#[tokio::test]
async fn a_view_that_was_accepted_is_drained_into_mysql_and_shown() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    for _ in 0..5 {
        let answer = shop.client.post(format!("{}/v1/products/2/views", api.url)).send().await.unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
    }
    let product: Value = shop.client.get(format!("{}/v1/products/2", api.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(product["views"], json!(5));
    eventually("five views are in MySQL", SOON, async || (shop.views(2).await == 5).then_some(())).await;
}
