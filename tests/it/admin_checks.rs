//! What the admin routes know of a shop: one product in three places, a check of a sample, the process itself, and what the doctor
//! says of its stores.

use harness::{Program, Reply, Shop, ShopOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use storage::MySql;
use storage::mysql::product_sample::sample;
use telemetry::metrics::{Registry, StoreMetrics};

async fn get(api: &Program, path: &str) -> Reply {
    api.get_ops(&format!("/v1/admin{path}")).await
}

async fn post(api: &Program, path: &str, body: &str) -> Reply {
    let request = api.client().post(format!("{}/v1/admin{path}", api.ops));
    Reply::to(request.header("content-type", "application/json").body(body.to_owned())).await
}

fn ok(reply: &Reply) -> Value {
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
    reply.json()
}

/// The fields of a lookup that are marked, with what each place says.
fn differing(found: &Value) -> Vec<(&str, [&Value; 3])> {
    let fields = found["fields"].as_array().unwrap().iter().filter(|field| field["differs"] == true);
    fields.map(|field| (field["field"].as_str().unwrap(), [&field["mysql"], &field["redis"], &field["api"]])).collect()
}

/// Changes the entry of a product that is cached.
async fn tamper(shop: &Shop, id: u64, from: &str, to: &str) {
    let entry = shop.entry(id).await.unwrap();
    assert!(entry.contains(from), "{from} in {entry}");
    shop.set_entry(id, &entry.replace(from, to)).await;
}

#[tokio::test]
async fn a_product_is_found_by_its_sku_or_id_with_its_prices_views_and_stock() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let (api, _worker) = (shop.api().await, shop.worker().await);
    let price = r#"{"amount":"0.80","currency":"GBP","reason":"sale"}"#;
    assert_eq!(api.send("PUT", "/v1/products/2/price", price).await.status, 200);
    assert_eq!(api.put_price(2, "0.90").await.status, 200);
    let count = api.request("PUT", "/v1/products/2/stock").header("if-match", "*").header("content-type", "application/json");
    assert_eq!(Reply::to(count.body(r#"{"on_hand":12,"reason":"stocktaking","reference":"sheet 4"}"#)).await.status, 200);
    for _ in 0..3 {
        shop.view(&api, 2).await;
    }
    ok(&post(&api, "/queue/flush?wait=30s", "").await);

    let found = ok(&get(&api, "/products/lookup?sku=P2").await);
    assert_eq!((&found["id"], &found["sku"], &found["differs"]), (&json!(2), &json!("P2"), &json!(false)));
    let fields: Vec<_> = found["fields"].as_array().unwrap().iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["id", "sku", "name", "description", "active", "price", "version", "updated_at"]);
    let money = json!({"amount": "0.90", "currency": "GBP"});
    assert_eq!(found["fields"][5], json!({"field": "price", "mysql": money, "redis": money, "api": money, "differs": false}));
    let prices = found["prices"].as_array().unwrap();
    let told: Vec<_> = prices.iter().map(|price| (price["amount"].as_str().unwrap(), &price["reason"])).collect();
    assert_eq!(told, [("0.90", &json!(null)), ("0.80", &json!("sale"))]);
    assert_eq!(found["stock"], json!({"on_hand": 12, "reserved": 0, "available": 12, "version": 1}));
    let mut movement = found["movements"][0].clone();
    for time in [prices[0]["changed_at"].clone(), movement.as_object_mut().unwrap().remove("at").unwrap()] {
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    }
    movement.as_object_mut().unwrap().remove("id");
    let counted = json!({"kind": "count", "delta": 12, "reserved_delta": 0, "reason": "stocktaking", "reference": "sheet 4"});
    assert_eq!(movement, counted);
    let views = &found["views"];
    assert_eq!([&views["total"], &views["persisted"], &views["pending"]], [&json!(3), &json!(3), &json!(0)]);
    let hours = views["hours"].as_array().unwrap();
    let counts: Vec<u64> = hours.iter().map(|hour| hour["views"].as_u64().unwrap()).collect();
    // The hour may have turned since.
    assert!(counts.len() == 48 && counts[46] + counts[47] == 3 && counts[..46].iter().all(|views| *views == 0), "{counts:?}");
    assert!(hours.windows(2).all(|pair| pair[0]["hour"].as_str() < pair[1]["hour"].as_str()), "{hours:?}");
    assert_eq!(ok(&get(&api, "/products/lookup?id=2").await), found);

    let untouched = ok(&get(&api, "/products/lookup?id=3").await);
    assert_eq!([&untouched["prices"], &untouched["movements"]], [&json!([]); 2]);
    assert_eq!(untouched["stock"], json!({"on_hand": 0, "reserved": 0, "available": 0, "version": 0}));
    for (table, row) in [
        ("price_history (product_id, version, price, currency)", "(3, 1, 1.00, 'GBP')"),
        ("stock_movements (product_id, kind, delta, on_hand, reserved)", "(3, 'count', 1, 1, 0)"),
    ] {
        shop.run(&format!("INSERT INTO {table} VALUES {}", [row; 60].join(","))).await;
    }
    let long = ok(&get(&api, "/products/lookup?id=3").await);
    assert_eq!(["prices", "movements"].map(|list| long[list].as_array().unwrap().len()), [50; 2]);
    assert!(long["movements"][0]["id"].as_u64() > long["movements"][49]["id"].as_u64(), "the newest first");
}

#[tokio::test]
async fn a_stale_entry_shows_as_a_difference_of_its_fields_until_it_is_invalidated() {
    let shop = Shop::start().await;
    shop.products(5).await;
    let api = shop.api().await;
    for id in [2, 5] {
        assert_eq!(api.see(id).await.status, 200);
    }
    let even = ok(&get(&api, "/products/lookup?sku=P2&settle=false").await);
    assert_eq!((&even["differs"], &even["settled"]), (&json!(false), &json!(true)));
    tamper(&shop, 2, "1.00", "9.99").await;
    let started = Instant::now();
    let first = ok(&get(&api, "/products/lookup?sku=P2&settle=false").await);
    assert!(started.elapsed() < catalog::check::PATIENCE, "who waits is shown the first look at once");
    assert_eq!((&first["differs"], &first["settled"]), (&json!(true), &json!(false)));
    let mut found = ok(&get(&api, "/products/lookup?sku=P2").await);
    assert_eq!((found["settled"].take(), &found["fields"]), (json!(true), &first["fields"]));
    let money = |amount: &str| json!({"amount": amount, "currency": "GBP"});
    assert_eq!(found["differs"], true);
    assert_eq!(differing(&found), [("price", [&money("1.00"), &money("9.99"), &money("9.99")])]);
    assert_eq!(ok(&post(&api, "/cache/invalidate", r#"{"product_ids":[2]}"#).await), json!({"dropped": 1}));
    assert_eq!(ok(&get(&api, "/products/lookup?sku=P2").await)["differs"], false);

    let ghost = shop.entry(5).await.unwrap().replace("\"id\":5", "\"id\":77");
    shop.set_entry(77, &ghost).await;
    let found = ok(&get(&api, "/products/lookup?id=77").await);
    assert_eq!((&found["sku"], &found["differs"], &found["stock"]), (&json!("P5"), &json!(true), &json!(null)));
    assert_eq!(differing(&found)[0], ("id", [&json!(null), &json!(77), &json!(77)]));
}

#[tokio::test]
async fn a_product_that_nobody_has_is_not_found_and_one_that_cannot_be_is_refused() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    for (query, pointer) in [("id=4711", "/id"), ("sku=nothing", "/sku")] {
        let problem = get(&api, &format!("/products/lookup?{query}")).await.problem(404, "unknown-product");
        assert_eq!(harness::pointers(&problem), [pointer], "{problem}");
    }
    for query in ["", "id=1&sku=P1", "id=0", "id=x", "id=id:1", "id=", "sku=", "sku=%20P1", "id=1&id=2", "name=Mug", "id=1&settle=0"] {
        get(&api, &format!("/products/lookup?{query}")).await.problem(400, "invalid-query");
    }
    for path in ["/system", "/doctor", "/checks"] {
        get(&api, &format!("{path}?x=1")).await.problem(400, "invalid-query");
    }
    for (path, allow) in [("/products/lookup", "GET, HEAD"), ("/system", "GET, HEAD"), ("/doctor", "GET, HEAD")] {
        let refused = post(&api, path, "").await;
        refused.problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), allow, "{path}");
    }
    let refused = Reply::to(api.client().put(format!("{}/v1/admin/checks", api.ops))).await;
    refused.problem(405, "method-not-allowed");
    assert_eq!(refused.header("allow"), "GET, HEAD, POST");
}

#[tokio::test]
async fn a_check_of_a_shop_that_is_well_finds_nothing_and_is_remembered() {
    let shop = Shop::start().await;
    shop.products(7).await;
    shop.run("UPDATE products SET deleted_at = UTC_TIMESTAMP(6) WHERE id = 7").await;
    let api = shop.api().await;
    shop.view(&api, 1).await;
    let checks = ok(&get(&api, "/checks").await);
    let account = json!({"accepted": 1, "persisted": 0, "pending": 1, "dead": 0, "lost": 0, "twice": 0, "drift": 0});
    assert_eq!(checks, json!({"account": account, "last": null}));

    let report = ok(&post(&api, "/checks", "").await);
    let mut figures = report.clone();
    let took = figures.as_object_mut().unwrap().remove("took_seconds").unwrap();
    let at = figures.as_object_mut().unwrap().remove("at").unwrap();
    assert!(took.as_f64().unwrap() < 30.0 && at.as_str().unwrap().ends_with('Z'), "{report}");
    let clean = |products: u64| json!({"products_compared": products, "found_in_redis": products, "mismatches": 0, "earlier_keys": 0, "account_faults": 0, "stock_faults": 0, "told": []});
    assert_eq!(figures, clean(6), "the API's own reads filled the cache");
    assert_eq!(ok(&get(&api, "/checks").await)["last"], report);

    let sampled = ok(&post(&api, "/checks", r#"{"sample":3}"#).await);
    assert_eq!(sampled["products_compared"], 3, "{sampled}");
    assert_eq!(ok(&get(&api, "/checks").await)["last"], sampled);
    let row = shop.lock("products WHERE id = 2").await;
    assert_eq!(ok(&post(&api, "/checks", "").await)["products_compared"], 5, "a row that somebody writes is not compared");
    row.release().await;
}

#[tokio::test]
async fn a_sample_is_as_large_as_asked_and_reads_no_more_of_a_large_catalogue_with_holes() {
    let shop = Shop::with(ShopOptions { own_mysql: true, ..ShopOptions::default() }).await;
    shop.products(1_000).await;
    // Far apart, and most of them deleted.
    let clumps = "INSERT INTO products (id, sku) SELECT p.id * 1000000 + q.id, CONCAT(p.id, '-', q.id) FROM products p JOIN products q WHERE p.id <= 30";
    shop.run(clumps).await;
    shop.run("UPDATE products SET deleted_at = UTC_TIMESTAMP(6) WHERE id BETWEEN 9000000 AND 25999999").await;
    let mysql = MySql::new(&shop.mysql_url("inventory_api"), 2, Arc::new(StoreMetrics::new(&Registry::new("tests")))).unwrap();
    let sample = async |count| sample(&mysql, count).await.unwrap().into_iter().map(|id| id.get()).collect::<Vec<_>>();
    let before = shop.row_reads().await;
    let first = sample(300).await;
    let read = shop.row_reads().await - before;
    assert!(read < 10_000, "{read} of 31,000 rows were read");
    assert!(first.len() == 300 && first.is_sorted_by(|one, other| one < other), "{first:?}");
    assert!(!first.iter().any(|id| (9_000_000..=25_999_999).contains(id)), "{first:?}");
    for clump in [0, 4, 8, 26, 30] {
        let range = clump * 1_000_000..(clump + 1) * 1_000_000;
        assert!(first.iter().any(|id| range.contains(id)), "none of {range:?} in {first:?}");
    }
    assert_ne!(first, sample(300).await);
    shop.run("DELETE FROM products WHERE id BETWEEN 21 AND 30000000").await;
    shop.run("DELETE FROM products WHERE id > 30000001").await;
    assert_eq!(sample(20).await.len(), 20, "of 21, of which one is far away");
    let all: Vec<u64> = (1..=20).chain([30_000_001]).collect();
    assert_eq!((sample(21).await, sample(1_000).await), (all.clone(), all), "all of them, where there are no more");
    shop.run("DELETE FROM products").await;
    assert_eq!(sample(20).await, [0; 0]);
}

#[tokio::test]
async fn a_check_tells_what_differs_and_what_does_not_add_up_and_changes_nothing() {
    let shop = Shop::start().await;
    shop.products(30).await;
    let api = shop.api().await;
    for id in 1..=30 {
        assert_eq!(api.see(id).await.status, 200);
        if id > 5 {
            tamper(&shop, id, "1.00", "9.99").await;
        }
    }
    shop.run("INSERT INTO stock (product_id, on_hand) VALUES (3, 7)").await;
    shop.run("UPDATE view_shards SET persisted = persisted + 3 WHERE shard = 1").await;
    let mut redis = shop.redis_connection().await;
    redis::cmd("SET").arg("inventory:{0}:c:ffffffff:p:4").arg("1").exec_async(&mut redis).await.unwrap();
    let report = ok(&post(&api, "/checks", r#"{"sample":1000}"#).await);
    let figures = ["products_compared", "found_in_redis", "mismatches", "earlier_keys", "stock_faults"].map(|name| &report[name]);
    assert_eq!(figures, [30, 30, 25, 1, 1].map(|count| json!(count)).each_ref(), "{report}");
    assert!(report["account_faults"].as_u64().unwrap() >= 1, "{report}");
    let told: Vec<&str> = report["told"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(told.len(), 20, "{told:?}");
    for line in [
        "shard 1: 0 views were accepted, but 3 are in MySQL",
        "product 3: 7 on hand, but its movements add up to 0",
        "check --repair",
        "product 6: price: MySQL 1.00 GBP, Redis 9.99 GBP, API 9.99 GBP",
    ] {
        assert!(told.iter().any(|told| told.contains(line)), "{line} in {told:?}");
    }
    assert_eq!(ok(&get(&api, "/checks").await)["account"]["drift"], -3);
    assert_eq!(api.see(6).await.amount, "9.99", "nothing is repaired");
}

#[tokio::test]
async fn a_check_looks_again_at_all_that_differs_at_the_same_time() {
    let shop = Shop::start().await;
    shop.products(350).await;
    let api = shop.api().await;
    for id in 1..=350 {
        assert_eq!(api.see(id).await.status, 200);
        tamper(&shop, id, "1.00", "9.99").await;
    }
    let report = ok(&post(&api, "/checks", r#"{"sample":1000}"#).await);
    assert_eq!([&report["products_compared"], &report["mismatches"]], [&json!(350); 2]);
    let took = report["took_seconds"].as_f64().unwrap();
    assert!((4.0..12.0).contains(&took), "each call of a hundred would take four seconds: {took}");
}

#[tokio::test]
async fn one_check_runs_at_a_time_and_its_sample_has_bounds() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    for body in [r#"{"sample":0}"#, r#"{"sample":1001}"#, r#"{"sample":"all"}"#, r#"{"sample":null}"#] {
        let problem = post(&api, "/checks", body).await.problem(422, "validation-failed");
        assert_eq!(harness::pointers(&problem), ["/sample"], "{body}");
    }
    post(&api, "/checks?sample=1", "").await.problem(400, "invalid-query");
    post(&api, "/checks", "{").await.problem(400, "malformed-json");
    assert_eq!(api.see(1).await.status, 200);
    // A difference is looked at again for seconds, in which the other request comes.
    tamper(&shop, 1, "1.00", "9.99").await;
    let (one, other) = tokio::join!(post(&api, "/checks", ""), post(&api, "/checks", "{}"));
    let (ran, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!(ok(&ran)["mismatches"], 1);
    refused.problem(409, "check-running");
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(ok(&get(&api, "/checks").await)["last"], ran.json(), "which did not replace it");
    assert_eq!(ok(&post(&api, "/checks", "").await)["mismatches"], 1, "the next one may run");
}

#[tokio::test]
async fn the_system_tells_build_schema_and_settings_and_never_a_secret() {
    const SECRET: &str = "s3cret-of-mysql";
    let shop = Shop::start().await;
    let user = format!("{}_own", shop.database());
    shop.run(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{SECRET}'")).await;
    shop.run(&format!("GRANT ALL PRIVILEGES ON {}.* TO {user}@'%'", shop.database())).await;
    let file = shop.dir().join("mysql.url");
    let url = |password: &str| shop.mysql_url(&user).replace('@', &format!(":{password}@"));
    std::fs::write(&file, url(SECRET)).unwrap();
    let masked = json!(url("***"));
    let named = [("INVENTORY_MYSQL_URL", url(SECRET)), ("INVENTORY_REQUEST_TIMEOUT", "4s".to_owned())];
    // The default counts as not given.
    let default = "mysql://inventory@127.0.0.1:3306/inventory".to_owned();
    let in_file = [("INVENTORY_MYSQL_URL", default), ("INVENTORY_MYSQL_URL_FILE", file.to_str().unwrap().to_owned())];
    for (settings, source) in [(named, "environment".to_owned()), (in_file, format!("file {}", file.display()))] {
        let api = shop.api_with(&settings).await;
        // An API is useful before it has reached Redis.
        let answer = harness::eventually("both stores are reached", harness::SOON, async || {
            let answer = get(&api, "/system").await;
            (answer.json()["health"]["readiness"] == "ready").then_some(answer)
        })
        .await;
        let system = ok(&answer);
        let setting = |name: &str| {
            let all = system["settings"].as_array().unwrap();
            all.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("{name} in {system}"))
        };
        assert_eq!(*setting("INVENTORY_MYSQL_URL"), json!({"name": "INVENTORY_MYSQL_URL", "value": masked, "source": source}));
        assert_eq!(setting("INVENTORY_API_OPS_LISTEN")["source"], "environment");
        let ttl = setting("INVENTORY_CACHE_TTL");
        assert_eq!((&ttl["value"], &ttl["source"]), (&json!("5m"), &json!("default")));
        let names: BTreeSet<_> = system["settings"].as_array().unwrap().iter().map(|setting| setting["name"].as_str().unwrap()).collect();
        assert!(names.contains("INVENTORY_LOG_FORMAT") && names.iter().all(|name| telemetry::config::ALL_VARIABLES.contains(name)));
        assert_eq!(system["build"], api.get_ops("/version").await.json());
        assert_eq!((&system["schema"], &system["shards"]), (&json!({"version": 9}), &json!(4)));
        assert!(system["started_at"].as_str().unwrap().ends_with('Z') && system["uptime_seconds"].is_u64(), "{system}");
        assert_eq!(system["health"]["components"]["redis"]["state"], "up");
        let doctor = get(&api, "/doctor").await;
        assert_eq!(doctor.status, 200);
        assert!(!answer.text.contains(SECRET) && !doctor.text.contains(SECRET), "{answer:?} {doctor:?}");
    }
    shop.run(&format!("DROP USER {user}@'%'")).await;
}

#[tokio::test]
async fn the_doctor_says_what_the_command_line_says_and_finds_a_wrong_policy() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let nobody = format!("127.0.0.1:{}", servers::free_port().unwrap());
    let judged = |findings: &Value| {
        let of_stores = findings.as_array().unwrap().iter().filter(|row| row["subject"] != "api").cloned();
        of_stores.map(|row| [row["subject"].clone(), row["check"].clone(), row["state"].clone(), row["cure"].clone()]).collect::<Vec<_>>()
    };
    let by_ctl = async || {
        let outcome = shop.ctl_as("inventory_api", None, &["doctor", "-o", "json", "--api-ops-listen", &nobody]).await;
        judged(&serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome:?}")))
    };
    let doctor = async || ok(&get(&api, "/doctor").await)["data"].clone();
    let well = doctor().await;
    assert_eq!(judged(&well), by_ctl().await);
    assert!(well.as_array().unwrap().len() > 30, "{well}");
    let policy = |findings: &Value| findings.as_array().unwrap().iter().find(|row| row["check"] == "policy").unwrap().clone();
    assert_eq!(policy(&well)["state"], "ok");

    let mut redis = shop.redis_connection().await;
    redis::cmd("CONFIG").arg(&["SET", "maxmemory-policy", "noeviction"]).exec_async(&mut redis).await.unwrap();
    let found = doctor().await;
    assert_eq!(judged(&found), by_ctl().await);
    let row = policy(&found);
    let fields: BTreeSet<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["subject", "check", "state", "found", "rests", "lost", "cure"]));
    assert_eq!((&row["state"], &row["found"]), (&json!("warn"), &json!("maxmemory-policy noeviction, for queue and cache")));
    let lines: Vec<_> = row["cure"].as_array().unwrap().iter().map(|step| (&step["at"], &step["line"])).collect();
    assert_eq!(lines[1], (&json!("redis.conf"), &json!("maxmemory-policy volatile-lfu")), "{row}");
}

#[tokio::test]
async fn a_process_that_has_not_reached_mysql_tells_its_settings_and_what_is_wrong() {
    let shop = Shop::start().await;
    let away = format!("mysql://inventory_api@127.0.0.1:{}/{}", servers::free_port().unwrap(), shop.database());
    let api = shop.api_starting(&[("INVENTORY_MYSQL_URL", away.clone())]).await;
    let system = harness::eventually("the ops listener answers", harness::SOON, async || {
        let answer = api.client().get(format!("{}/v1/admin/system", api.ops)).send().await.ok()?;
        answer.json::<Value>().await.ok()
    })
    .await;
    assert_eq!((&system["schema"], &system["shards"]), (&json!({"version": null}), &json!(null)));
    assert_eq!(system["health"]["readiness"], "unready");
    let findings = ok(&get(&api, "/doctor").await)["data"].clone();
    let reached = |subject: &str| {
        let mut rows = findings.as_array().unwrap().iter();
        rows.find(|row| row["subject"] == subject && row["check"] == "reached").unwrap()["state"].clone()
    };
    assert_eq!([reached("mysql"), reached("redis")], ["bad", "ok"]);
    get(&api, "/products/lookup?id=1").await.problem(503, "starting");
    post(&api, "/checks", "").await.problem(503, "starting");
}
