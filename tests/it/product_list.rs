//! The list of all products, page by page, while the catalogue changes.

use harness::{Program, Reply, SOON, Shop, ShopOptions, eventually};
use serde_json::{Value, json};

/// Ids of the products on one page.
fn ids(page: &Value) -> Vec<u64> {
    page["data"].as_array().unwrap().iter().map(|product| product["id"].as_u64().unwrap()).collect()
}

/// Follows the pages from the first to the last and does something between two of them.
async fn walk(api: &Program, query: &str, mut between: impl AsyncFnMut(usize)) -> Vec<u64> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for number in 1.. {
        let answer = api.get(&format!("/v1/products?{query}{cursor}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        assert!(!next.is_empty() && next.len() <= 32, "{next}");
        cursor = format!("&cursor={next}");
        between(number).await;
    }
    seen
}

async fn create(api: &Program, sku: &str) -> u64 {
    let body = json!({"sku": sku, "name": "made meanwhile"}).to_string();
    let created = api.send("POST", "/v1/products", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["id"].as_u64().unwrap()
}

#[tokio::test]
async fn a_walk_shows_every_product_once_while_others_are_made_and_deleted() {
    let shop = Shop::start().await;
    shop.products(60).await;
    shop.run("UPDATE products SET deleted_at = NOW(6) WHERE id IN (1, 20, 21, 60)").await;
    let api = shop.api().await;
    let seen = walk(&api, "limit=7", async |number| {
        if number < 20 {
            create(&api, &format!("NEW-{number}")).await;
        }
        shop.run(&format!("UPDATE products SET deleted_at = NOW(6) WHERE id = {}", 3 * number)).await;
    })
    .await;
    let twice = seen.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(twice, None, "in the order of their ids, each once");
    let untouched = (1..=60).filter(|id| ![1, 20, 21, 60].contains(id) && id % 3 != 0);
    let missing: Vec<_> = untouched.filter(|id| !seen.contains(id)).collect();
    assert_eq!(missing, [0; 0]);
    assert!(![1, 20, 21, 60].iter().any(|deleted| seen.contains(deleted)), "{seen:?}");
    assert!(seen.last() > Some(&60), "what was made behind the place of the walk is met: {seen:?}");
    let first = api.get("/v1/products").await.json();
    assert_eq!((ids(&first).len(), first["next_cursor"].is_string()), (50, true));
    let all = api.get("/v1/products?limit=500").await.json();
    assert_eq!(
        (ids(&all).len() as u64, &all["next_cursor"]),
        (shop.number("SELECT COUNT(*) FROM products WHERE deleted_at IS NULL").await, &json!(null))
    );
}

/// The last page is full: that nothing is behind it is said at once.
#[tokio::test]
async fn the_last_page_leads_nowhere() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    assert_eq!(api.get("/v1/products").await.json(), json!({"data": [], "next_cursor": null}));
    shop.products(4).await;
    let first = api.get("/v1/products?limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let last = api.get(&format!("/v1/products?limit=2&cursor={cursor}")).await.json();
    assert_eq!((ids(&first), ids(&last), &last["next_cursor"]), (vec![1, 2], vec![3, 4], &json!(null)));
}

#[tokio::test]
async fn what_changed_since_a_time_is_listed_in_the_order_of_its_changes() {
    let shop = Shop::start().await;
    shop.products(6).await;
    shop.run("UPDATE products SET updated_at = '2011-01-04 10:00:00'").await;
    let api = shop.api().await;
    for id in [5, 2, 4] {
        assert_eq!(api.put_price(id, "7.00").await.status, 200);
    }
    let of = async |id: u64| api.get(&format!("/v1/products/{id}")).await.json()["updated_at"].as_str().unwrap().to_owned();
    let since = async |time: &str| walk(&api, &format!("limit=1&updated_since={time}"), async |_| {}).await;
    assert_eq!(since("2011-01-04T10:00:00.000001Z").await, [5, 2, 4]);
    assert_eq!(since("2011-01-04T10:00:00Z").await, [1, 3, 6, 5, 2, 4], "equal times go by id, and that time itself belongs to it");
    assert_eq!(since("2011-01-04T11:00:00%2B01:00").await.len(), 6);
    assert_eq!(since(&of(2).await).await, [2, 4]);
    // What changes during a walk comes again, at its end.
    let path = format!("limit=2&updated_since={}", of(5).await);
    let seen = walk(&api, &path, async |number| {
        if number == 1 {
            assert_eq!(api.put_price(5, "8.00").await.status, 200);
        }
    })
    .await;
    assert_eq!(seen, [5, 2, 4, 5]);
}

#[tokio::test]
async fn an_item_of_the_list_is_the_product_as_it_is_read_alone() {
    let shop = Shop::start().await;
    shop.products(3).await;
    shop.run("INSERT INTO stock (product_id, on_hand, reserved) VALUES (2, 9, 2)").await;
    shop.run("UPDATE products SET price = NULL, currency = NULL, description = 'a \"b\"\n' WHERE id = 3").await;
    let api = shop.api().await;
    shop.view(&api, 2).await;
    let list = api.get("/v1/products").await;
    assert_eq!((list.header("cache-status"), list.header("cache-control")), ("inventory; fwd=bypass", "no-cache"));
    let list = list.json();
    for (at, id) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(list["data"][at], api.get(&format!("/v1/products/{id}")).await.json());
    }
    assert_eq!((&list["data"][1]["views"], &list["data"][1]["availability"]), (&json!(1), &json!({"available": 7})));
    assert_eq!(api.put_price(1, "9.99").await.status, 200);
    assert_eq!(api.get("/v1/products?limit=1").await.json()["data"][0]["price"]["amount"], "9.99");
}

#[tokio::test]
async fn the_list_needs_mysql_and_does_without_redis() {
    let mut shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(2).await;
    let api = shop.api().await;
    assert_eq!(ids(&api.get("/v1/products").await.json()), [1, 2]);
    shop.redis.kill();
    let bare = eventually("the API knows that Redis is gone", SOON, async || {
        let page = api.get("/v1/products").await.json();
        page["data"][0]["views"].is_null().then_some(page)
    })
    .await;
    assert_eq!((ids(&bare), &bare["data"][1]["availability"]["available"]), (vec![1, 2], &json!(0)));
    shop.mysql.as_mut().unwrap().kill();
    let away = api.get("/v1/products").await;
    away.problem(503, "unavailable");
    assert_eq!(away.header("retry-after"), "1");
}

#[tokio::test]
async fn a_page_that_cannot_be_meant_is_refused_and_the_parameter_named() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let since = "updated_since=2011-01-04T10:00:00Z";
    let long = format!("cursor={}", "f".repeat(7_000));
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        (&long, "cursor"),
        ("cursor=u1-1", "cursor"),
        (&format!("{since}&cursor=i1"), "cursor"),
        ("updated_since=", "updated_since"),
        ("updated_since=0000-01-01T00:00:00Z", "updated_since"),
        ("ids=1&limit=5", "limit"),
        ("skus=P1&cursor=i1", "cursor"),
        (&format!("ids=1&{since}"), "updated_since"),
        ("limt=5", "limt"),
    ] {
        let refused = Reply::to(api.request("GET", &format!("/v1/products?{query}"))).await;
        let problem = refused.problem(400, "invalid-query");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{query}: {problem}");
    }
}
