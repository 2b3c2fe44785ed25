//! What the programs say of themselves: metrics, health, logs.

use harness::{Program, Proxy, Reply, SOON, Shop, eventually, metric_in};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Families that both programs export.
const BOTH: &str = "
    inventory_queue_depth inventory_views_pending inventory_queue_in_flight inventory_queue_oldest_age_seconds
    inventory_queue_dead_letters inventory_queue_paused inventory_views_conservation_drift inventory_views_lost_total
    inventory_redis_up inventory_mysql_up inventory_redis_policy_ok inventory_redis_memory_used_bytes
    inventory_redis_memory_limit_bytes inventory_redis_evicted_keys_total inventory_redis_op_duration_seconds
    inventory_redis_errors_total inventory_mysql_query_duration_seconds inventory_mysql_errors_total
    inventory_mysql_pool_connections inventory_tail_up inventory_tail_lag_seconds inventory_build_info process_resident_memory_bytes process_open_fds
    process_cpu_seconds_total inventory_idempotency_total inventory_stock_changes_total inventory_reservations_total
    inventory_stock_retries_total inventory_stock_group_changes";

const API: &str = "
    inventory_http_requests_total inventory_http_request_duration_seconds inventory_cache_requests_total
    inventory_cache_coalesced_total inventory_price_writes_total inventory_price_write_duration_seconds
    inventory_catalog_writes_waiting inventory_views_received_total inventory_views_unremembered_total inventory_stock_singles_total inventory_stock_waiting
    inventory_stock_waiting_limit";

const WORKER: &str = "
    inventory_views_persisted_total inventory_drain_batches_total inventory_drain_batch_views inventory_drain_batch_rows inventory_drain_applying
    inventory_drain_duration_seconds inventory_drain_delay_seconds inventory_drain_last_success_timestamp_seconds
    inventory_queue_merged_records_total inventory_queue_merged_entries_total
    inventory_checks_compared_total inventory_checks_mismatches_total inventory_retention_deleted_rows_total
    inventory_tail_holder inventory_tail_events_total inventory_tail_entries_deleted_total inventory_tail_emptied_total
    inventory_invariant_violations_total inventory_reservations_active inventory_reservations_overdue_seconds";

/// Series with their values, without those of the process itself.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| line.starts_with("inventory_"));
    let pair = |line: &str| line.rsplit_once(' ').map(|(series, value)| (series.to_owned(), value.parse().unwrap()));
    lines.filter_map(pair).collect()
}

fn families(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// The values that a label takes over all series of a metric.
fn values<'a>(series: &'a BTreeMap<String, f64>, name: &str, label: &str) -> BTreeSet<&'a str> {
    let (name, label) = (format!("{name}{{"), format!("{label}=\""));
    let of = series.keys().filter(|series| series.starts_with(&name));
    of.filter_map(|series| series.split(&*label).nth(1)?.split('"').next()).collect()
}

async fn view(api: &Program, id: u64) -> u16 {
    Reply::to(api.request("POST", &format!("/v1/products/{id}/views"))).await.status
}

/// Every route, well and badly, with ids and paths that must not turn up in a label.
async fn use_all_routes(api: &Program) {
    for path in ["/v1/products/1", "/v1/products/1", "/v1/products/777001", "/v1/products?ids=1,777002", "/v1/products?skus=P1,s777003"] {
        api.get(path).await;
    }
    for path in ["/v1/products/1/price", "/v1/products/1/price-history", "/v1/products/777013/price-history?cursor=h777014"] {
        api.get(path).await;
    }
    for path in ["/v1/products/x777004", "/no/777005", "/problems/777006", "/problems", "/problems/starting", "/v1/products?777007"] {
        api.get(path).await;
    }
    for amount in ["2.25", "2.25", "-1"] {
        api.send("PUT", "/v1/products/1/price", json!({"amount": amount, "currency": "GBP"}).to_string()).await;
    }
    api.send("PUT", "/v1/products/777008/price", r#"{"amount":"1","currency":"GBP"}"#).await;
    for sku in ["P3", "P3", "s777013"] {
        let body = json!({"items": [{"sku": sku, "amount": "7.00", "currency": "GBP"}]});
        api.send("POST", "/v1/prices/batch", body.to_string()).await;
    }
    use_stock(api).await;
    for body in [r#"{"sku":"s777009","name":"n"}"#, r#"{"sku":"s777009","name":"n"}"#, "{"] {
        api.send("POST", "/v1/products", body).await;
    }
    for (id, status) in [(1, 202), (1, 202), (777_010, 404)] {
        assert_eq!(view(api, id).await, status);
    }
    api.send("POST", "/v1/products/2/views", r#"{"count":5}"#).await;
    api.send("POST", "/v1/products/2/views", r#"{"count":0}"#).await;
    api.send("POST", "/v1/views", r#"{"events":[{"product_id":1,"count":10},{"product_id":777011,"count":3}]}"#).await;
    Reply::to(api.request("BREW777012", "/v1/products/1")).await;
    Reply::to(api.request("DELETE", "/v1/products/1")).await;
    Reply::to(api.request("GET", "/v1/products/1").header("if-none-match", "*")).await;
}

/// Stock and reservations: 2 counts of which one finds what the books say, 1 adjustment and one that asks for too much, 2
/// reservations that end, and one that asks for too much.
async fn use_stock(api: &Program) {
    let keyed = |method: &str, path: &str, key: &str| api.request(method, path).header("idempotency-key", key.to_owned());
    for _ in 0..2 {
        let count = api.request("PUT", "/v1/products/1/stock").header("if-match", "*").json(&json!({"on_hand": 10}));
        assert_eq!(Reply::to(count).await.status, 200);
    }
    for (key, delta, status) in [("k1", 5, 201), ("k1", 5, 201), ("k2", -777_015, 409)] {
        let adjusted = keyed("POST", "/v1/products/1/stock/adjustments", key).json(&json!({"delta": delta}));
        assert_eq!(Reply::to(adjusted).await.status, status);
    }
    for (key, quantity, end) in [("r1", 1, "commit"), ("r2", 2, "release"), ("r777016", 777_017, "")] {
        let body = json!({"items": [{"product_id": 1, "quantity": quantity}]});
        let made = Reply::to(keyed("POST", "/v1/reservations", key).json(&body)).await;
        if made.status == 201 {
            api.get(made.header("location")).await;
            api.send("POST", &format!("{}/{end}", made.header("location")), "").await;
        }
    }
    for path in ["/v1/products/1/stock", "/v1/products/1/stock/movements", "/v1/products/777018/stock", "/v1/reservations/x777019"] {
        api.get(path).await;
    }
}

#[tokio::test]
async fn every_series_exists_at_zero_from_the_start_and_traffic_adds_none() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    let (of_api, of_worker) = (api.metrics().await, worker.metrics().await);
    for (text, own) in [(&of_api, API), (&of_worker, WORKER)] {
        let families = families(text);
        let missing: Vec<_> = BOTH.split_whitespace().chain(own.split_whitespace()).filter(|name| !families.contains(name)).collect();
        assert_eq!(missing, [""; 0]);
    }
    let (api_before, worker_before) = (series(&of_api), series(&of_worker));
    // Reaching the stores is work too; what users cause is not.
    let untouched = |name: &str| {
        let work = ["inventory_redis_op_", "inventory_mysql_query_", "inventory_tail_emptied_", "inventory_build_info"];
        (name.contains("_total") || name.contains("_bucket") || name.contains("_count")) && !work.iter().any(|work| name.starts_with(work))
    };
    for (name, value) in api_before.iter().chain(&worker_before).filter(|(name, _)| untouched(name)) {
        assert_eq!(*value, 0.0, "{name}");
    }

    use_all_routes(&api).await;
    eventually("all views are in MySQL", SOON, async || (shop.all_views().await == 17).then_some(())).await;
    for (program, before) in [(&api, api_before), (&worker, worker_before)] {
        let text = program.metrics().await;
        let after = series(&text);
        assert!(before.keys().eq(after.keys()), "series came or went:\n{text}");
        for sent in ["777", "P1", "BREW"] {
            assert!(!after.keys().any(|series| series.contains(sent)), "{sent} in\n{text}");
        }
    }
}

#[tokio::test]
async fn labels_take_the_values_of_the_contract_and_no_others() {
    let shop = Shop::start().await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    let (api, worker) = (series(&api.metrics().await), series(&worker.metrics().await));
    for (series, name, label, expected) in [
        (&api, "inventory_cache_requests_total", "result", "hit miss negative_hit bypass"),
        (&api, "inventory_price_writes_total", "result", "written unchanged refused unavailable unknown"),
        (&api, "inventory_price_write_duration_seconds_count", "stage", "mysql redis total"),
        (&api, "inventory_idempotency_total", "result", "executed replayed mismatch in_progress"),
        (&api, "inventory_stock_changes_total", "kind", "count adjustment reserve commit release expire"),
        (&api, "inventory_stock_changes_total", "result", "applied unchanged refused unavailable unknown"),
        (&api, "inventory_reservations_total", "result", "reserved insufficient committed released expired refused"),
        (&api, "inventory_views_received_total", "outcome", "accepted repeated not_found invalid over_capacity unavailable unknown"),
        (&worker, "inventory_drain_batches_total", "result", "applied already_applied retried split dead"),
        (&worker, "inventory_retention_deleted_rows_total", "table", "idempotency view_hours dead_letters view_marks reservations"),
        (&worker, "inventory_drain_duration_seconds_count", "stage", "read mysql settle"),
        (&worker, "inventory_checks_mismatches_total", "field", "sku name description active price version updated_at presence form"),
        (&worker, "inventory_invariant_violations_total", "kind", "on_hand reserved items oversold"),
        (&worker, "inventory_tail_events_total", "kind", "insert update delete statement unreadable"),
        (&worker, "inventory_tail_emptied_total", "reason", "no_position position_lost server_changed statement unreadable"),
        (&worker, "inventory_redis_policy_ok", "role", "queue cache"),
        (&worker, "inventory_redis_errors_total", "kind", "unavailable full conflict corrupt unknown bug"),
        (&worker, "inventory_mysql_errors_total", "kind", "unavailable full conflict corrupt unknown bug"),
        (&api, "inventory_mysql_pool_connections", "state", "idle in_use waiting limit"),
        (&api, "inventory_http_requests_total", "method", "GET POST PUT any"),
        (
            &api,
            "inventory_http_requests_total",
            "route",
            "/v1/products/{id} /v1/products/{id}/views /v1/products/{id}/price /v1/products/{id}/price-history /v1/products/{id}/stock /v1/products/{id}/stock/adjustments /v1/products/{id}/stock/movements /v1/reservations /v1/reservations/{id} \
             /v1/reservations/{id}/commit /v1/reservations/{id}/release /v1/prices/batch /v1/views /v1/products /problems /problems/{slug} \
             /openapi.json /docs /docs/{file} unmatched",
        ),
    ] {
        assert_eq!(values(series, name, label), expected.split_whitespace().collect(), "{name} {label}");
    }
    for series in [&api, &worker] {
        let known: BTreeSet<_> = values(series, "inventory_redis_errors_total", "op");
        assert_eq!(values(series, "inventory_redis_op_duration_seconds_count", "op"), known);
    }
    let build = api.keys().find(|series| series.starts_with("inventory_build_info")).unwrap();
    assert!(build.contains("binary=\"inventory-api\"") && build.contains("version=\"") && build.contains("commit=\""), "{build}");
}

#[tokio::test]
async fn counters_say_what_was_asked_and_answered() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    // Before that it drops what is cached.
    let followed = async || (worker.metric("inventory_tail_holder").await == 1.0).then_some(());
    eventually("the worker follows the binlog", SOON, followed).await;
    use_all_routes(&api).await;
    let text = api.metrics().await;
    let http = |method: &str, route: &str, status: &str| {
        format!("inventory_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}")
    };
    let (one, many, price) = ("/v1/products/{id}", "/v1/products", "/v1/products/{id}/price");
    for (series, value) in [
        (http("GET", one, "200"), 2.0),
        (http("GET", one, "304"), 1.0),
        (http("GET", one, "404"), 1.0),
        (http("GET", one, "400"), 1.0),
        (http("GET", many, "200"), 2.0),
        (http("GET", many, "400"), 1.0),
        (http("POST", many, "201"), 1.0),
        (http("POST", many, "409"), 1.0),
        (http("POST", many, "400"), 1.0),
        (http("PUT", price, "200"), 2.0),
        (http("PUT", price, "404"), 1.0),
        (http("PUT", price, "422"), 1.0),
        (http("POST", "/v1/prices/batch", "200"), 2.0),
        (http("POST", "/v1/prices/batch", "422"), 1.0),
        (http("POST", "/v1/products/{id}/views", "202"), 3.0),
        (http("POST", "/v1/products/{id}/views", "404"), 1.0),
        (http("POST", "/v1/products/{id}/views", "422"), 1.0),
        (http("POST", "/v1/views", "202"), 1.0),
        (http("GET", "/problems", "200"), 1.0),
        (http("GET", "/problems/{slug}", "404"), 1.0),
        (http("any", "unmatched", "404"), 1.0),
        (http("any", "unmatched", "405"), 2.0),
        ("inventory_http_request_duration_seconds_count{method=\"PUT\",route=\"/v1/products/{id}/price\"}".into(), 4.0),
        ("inventory_http_request_duration_seconds_count{method=\"any\",route=\"unmatched\"}".into(), 3.0),
        // 1 and 777001, then 777002; then 1 again five times, once by its SKU, once for its price, once conditionally, and once
        // after a price that was there already had its entry dropped.
        ("inventory_cache_requests_total{result=\"miss\"}".into(), 4.0),
        ("inventory_cache_requests_total{result=\"hit\"}".into(), 4.0),
        ("inventory_cache_requests_total{result=\"negative_hit\"}".into(), 0.0),
        ("inventory_price_writes_total{result=\"written\"}".into(), 2.0),
        ("inventory_price_writes_total{result=\"unchanged\"}".into(), 2.0),
        ("inventory_price_writes_total{result=\"refused\"}".into(), 2.0),
        ("inventory_price_write_duration_seconds_count{stage=\"total\"}".into(), 3.0),
        (http("PUT", "/v1/products/{id}/stock", "200"), 2.0),
        (http("POST", "/v1/products/{id}/stock/adjustments", "201"), 2.0),
        (http("POST", "/v1/products/{id}/stock/adjustments", "409"), 1.0),
        (http("POST", "/v1/reservations", "201"), 2.0),
        (http("POST", "/v1/reservations", "409"), 1.0),
        (http("POST", "/v1/reservations/{id}/commit", "200"), 1.0),
        (http("GET", "/v1/reservations/{id}", "200"), 2.0),
        (http("GET", "/v1/reservations/{id}", "400"), 1.0),
        ("inventory_stock_changes_total{kind=\"count\",result=\"applied\"}".into(), 1.0),
        ("inventory_stock_changes_total{kind=\"count\",result=\"unchanged\"}".into(), 1.0),
        ("inventory_stock_changes_total{kind=\"adjustment\",result=\"applied\"}".into(), 1.0),
        ("inventory_stock_changes_total{kind=\"adjustment\",result=\"refused\"}".into(), 1.0),
        ("inventory_stock_changes_total{kind=\"reserve\",result=\"applied\"}".into(), 2.0),
        ("inventory_reservations_total{result=\"reserved\"}".into(), 2.0),
        ("inventory_reservations_total{result=\"insufficient\"}".into(), 1.0),
        ("inventory_reservations_total{result=\"committed\"}".into(), 1.0),
        ("inventory_reservations_total{result=\"released\"}".into(), 1.0),
        ("inventory_reservations_total{result=\"expired\"}".into(), 0.0),
        ("inventory_stock_waiting".into(), 0.0),
        ("inventory_views_received_total{outcome=\"accepted\"}".into(), 17.0),
        ("inventory_views_received_total{outcome=\"not_found\"}".into(), 4.0),
        ("inventory_views_received_total{outcome=\"invalid\"}".into(), 1.0),
    ] {
        assert_eq!(metric_in(&text, &series), Some(value), "{series}\n{text}");
    }
    let drained = async || (worker.metric("inventory_views_persisted_total").await == 17.0).then_some(());
    eventually("the worker counts what it persisted", SOON, drained).await;
    let text = worker.metrics().await;
    let applied = metric_in(&text, "inventory_drain_batches_total{result=\"applied\"}").unwrap();
    assert!((1.0..=4.0).contains(&applied), "{text}");
    for name in ["inventory_drain_batch_views_count", "inventory_drain_batch_rows_count", "inventory_drain_delay_seconds_count"] {
        assert_eq!(metric_in(&text, name), Some(applied), "{name}");
    }
    assert_eq!(metric_in(&text, "inventory_drain_batch_views_sum"), Some(17.0));
    assert!(metric_in(&text, "inventory_drain_last_success_timestamp_seconds").unwrap() > 1.7e9);
}

#[tokio::test]
async fn the_api_tells_the_depth_and_age_of_the_queue_without_a_worker() {
    let shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    for id in [1, 2, 2] {
        assert_eq!(view(&api, id).await, 202);
    }
    let gauges = async |program: &Program, expected: [f64; 2]| {
        eventually(&format!("depth and pending are {expected:?} and an age is told"), SOON, async || {
            let text = program.metrics().await;
            let gauge = |name: &str| metric_in(&text, name).unwrap();
            let told = [gauge("inventory_queue_depth"), gauge("inventory_views_pending")];
            let aged = gauge("inventory_queue_oldest_age_seconds") > 0.0;
            (told == expected && aged == (expected != [0.0, 0.0])).then_some(())
        })
        .await;
    };
    gauges(&api, [3.0, 3.0]).await;
    let mut worker = shop.worker().await;
    gauges(&api, [0.0, 0.0]).await;
    gauges(&worker, [0.0, 0.0]).await;
    worker.kill();
    assert_eq!(view(&api, 3).await, 202);
    gauges(&api, [1.0, 1.0]).await;
    assert_eq!(api.metric("inventory_views_conservation_drift").await, 0.0);
    assert_eq!(api.metric("inventory_queue_capacity").await, 5e6);
}

#[tokio::test]
async fn callers_that_wait_for_a_connection_to_mysql_are_counted() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let proxy = Proxy::to(shop.mysql_port()).await;
    let url = ("INVENTORY_MYSQL_URL", shop.mysql_url_at("inventory_api", proxy.port()));
    let api = shop.api_with(&[url, ("INVENTORY_MYSQL_CONNECTIONS", "2".into())]).await;
    let waiting = async || api.metric("inventory_mysql_pool_connections{state=\"waiting\"}").await;
    assert_eq!(waiting().await, 0.0);
    proxy.hold_replies();
    let reads: Vec<_> = (0..6).map(|_| tokio::spawn(api.request("GET", "/v1/products/1/price-history").send())).collect();
    eventually("two have a connection and four wait", SOON, async || (waiting().await >= 4.0).then_some(())).await;
    proxy.release();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    eventually("nobody waits", SOON, async || (waiting().await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn health_and_version_are_told_on_the_ops_listener_alone() {
    let mut shop = Shop::start().await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    for (program, name) in [(&api, "inventory-api"), (&worker, "inventory-worker")] {
        let live = program.get_ops("/livez").await;
        assert_eq!((live.status, live.text.as_str()), (200, "ok\n"));
        let ready = eventually("both stores are up", SOON, async || {
            let ready = program.get_ops("/readyz").await;
            (ready.text == "ready\n").then_some(ready)
        });
        assert_eq!(ready.await.status, 200);
        let verbose = program.get_ops("/readyz?verbose").await.json();
        assert_eq!((&verbose["readiness"], &verbose["draining"]), (&json!("ready"), &json!(false)));
        for store in ["mysql", "redis"] {
            assert_eq!(verbose["components"][store]["state"], "up", "{verbose}");
        }
        let version = program.get_ops("/version").await.json();
        assert_eq!((&version["binary"], version["version"].is_string()), (&json!(name), true));
        assert!(program.get_ops("/metrics").await.header("content-type").starts_with("text/plain; version=0.0.4"));
        for path in ["/", "/v1/products/1", "/livez/"] {
            program.get_ops(path).await.problem(404, "unknown-route");
        }
        program.get_ops("/readyz?verbos").await.problem(400, "invalid-query");
    }
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        api.get(path).await.problem(404, "unknown-route");
    }

    shop.redis.kill();
    let degraded = async || (api.get_ops("/readyz").await.text == "degraded\n").then_some(());
    eventually("the API is useful without Redis", SOON, degraded).await;
    assert_eq!(api.get_ops("/readyz?verbose").await.json()["components"]["redis"]["state"], "down");
    assert_eq!(api.metric("inventory_mysql_up").await, 1.0);
    let down = async || (api.metric("inventory_redis_up").await == 0.0).then_some(());
    eventually("the metric says that Redis is away", SOON, down).await;
    let unready = eventually("a worker is not", SOON, async || {
        let answer = worker.get_ops("/readyz").await;
        (answer.status == 503).then_some(answer)
    });
    unready.await.problem(503, "unready");
    assert_eq!(worker.get_ops("/livez").await.status, 200);
}

#[tokio::test]
async fn log_lines_are_json_and_tell_failures_by_request_id_but_no_line_tells_a_success() {
    let mut shop = Shop::start().await;
    shop.products(3).await;
    let api = shop.api().await;
    use_all_routes(&api).await;
    shop.redis.kill();
    let failed = api.request("POST", "/v1/products/3/views?k=secret").header("x-request-id", "failed-1");
    let failed = failed.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(Reply::to(failed).await.status, 503);
    let log = api.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    for line in &lines {
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(["level", "message", "target"].iter().all(|field| line[*field].is_string()), "{line}");
    }
    // On a busy machine some may have been slow, which is told.
    let slow = |line: &Value| line["took_ms"].as_u64().is_some_and(|took| took >= 1_000) && line["level"] == "INFO";
    let told = |line: &&Value| line["request_id"].is_string() && !slow(line);
    let of_requests: Vec<_> = lines.iter().filter(told).collect();
    assert_eq!(of_requests.len(), 1, "{log}");
    let line = of_requests[0];
    assert_eq!((&line["request_id"], &line["status"], &line["level"]), (&json!("failed-1"), &json!(503), &json!("WARN")));
    assert_eq!((&line["method"], &line["path"]), (&json!("POST"), &json!("/v1/products/3/views")));
    assert!(line["traceparent"].as_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert!(!log.contains("secret") && !log.contains("/777") && !log.contains("s777"), "{log}");

    let text = shop.api_starting(&[("INVENTORY_LOG_FORMAT", "text".into())]).await;
    let plain = async || text.log().lines().next().map(str::to_owned);
    let first = eventually("a line of text", SOON, plain).await;
    assert!(serde_json::from_str::<Value>(&first).is_err() && first.contains(" INFO "), "{first}");
}
