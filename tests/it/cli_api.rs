//! The commands of `inventoryctl` that go through the API, its settings, and how it ends when nobody reads on.

use harness::{Outcome, SOON, Shop, abandoned_pipe, eventually};
use serde_json::{Value, json};
use std::process::Stdio;

/// Help, and each noun's.
const HELPS: [&str; 4] = ["", "product", "migrate", "config show"];

#[tokio::test]
async fn a_price_is_set_over_the_api_and_both_prices_are_told() {
    let shop = Shop::start().await;
    shop.products(2).await;
    shop.run("UPDATE products SET price = NULL, currency = NULL, sku = '2' WHERE id = 2").await;
    let api = shop.api().await;
    let price = async |arguments: &[&str]| shop.ctl(Some(&api), &[&["price"], arguments, &["-o", "json"]].concat()).await;
    let set = price(&["set", "P1", "2.5", "GBP", "--reason", "january sale"]).await.json(0);
    let committed_at = api.get("/v1/products/1").await.json()["updated_at"].clone();
    let money = |amount: &str| json!({"amount": amount, "currency": "GBP"});
    assert_eq!(
        set,
        json!({"product_id": 1, "sku": "P1", "old": money("1.00"), "new": money("2.50"), "version": 2, "committed_at": committed_at})
    );
    assert_eq!((shop.price(1).await, api.see(1).await.amount.as_str()), ((2, "2.50".into()), "2.50"));
    let reasons = "SELECT reason FROM price_history WHERE product_id = 1";
    assert_eq!(shop.rows::<String>(reasons).await, ["january sale"]);
    let got = price(&["get", "id:1"]).await.json(0);
    assert_eq!(got, json!({"product_id": 1, "sku": "P1", "price": money("2.50"), "version": 2, "updated_at": committed_at}));
    let first = price(&["set", "2", "7", "GBP"]).await.json(0);
    assert_eq!((&first["product_id"], &first["old"], &first["new"]), (&json!(2), &json!(null), &money("7.00")), "digits are a SKU");

    let long = "x".repeat(256);
    for (arguments, code, told) in [
        (&["set", "P1", "2.555", "GBP"][..], 2, "amount \"2.555\" has 3 digits"),
        (&["set", "P1", "2.5", "gbp"], 2, "currency \"gbp\""),
        (&["set", "P1", "-2", "GBP"], 2, "-2"),
        (&["set", "P9", "2.5", "GBP"], 4, "no product has the SKU P9"),
        (&["set", "1", "2.5", "GBP"], 4, "write id:1"),
        (&["get", "id:99"], 4, "there is no product 99"),
        (&["get", "a,b"], 2, "comma"),
        (&["set", "P1", "3", "GBP", "--reason", &long], 2, "must have at most 255"),
    ] {
        let refused = price(arguments).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{refused:?}");
        let by_clap = ["-2", "must have at most 255"].contains(&told);
        assert!(
            refused.stderr.contains(told) && refused.stderr.starts_with(if by_clap { "error" } else { "inventoryctl: " }),
            "{refused:?}"
        );
    }
    assert_eq!(shop.price(1).await, (2, "2.50".into()));
}

#[tokio::test]
async fn a_price_that_a_store_or_the_api_refuses_ends_as_unreachable() {
    let mut shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let set = async |shop: &Shop| shop.ctl(Some(&api), &["price", "set", "id:1", "3", "GBP"]).await;
    shop.redis.kill();
    let refused = eventually("the API knows that Redis is gone", SOON, async || {
        let outcome = set(&shop).await;
        (outcome.code != Some(0)).then_some(outcome)
    })
    .await;
    assert_eq!(refused.code, Some(7), "{refused:?}");
    assert!(refused.stderr.contains("503") && refused.stderr.contains("nothing was changed"), "{refused:?}");
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");

    let nobody = format!("http://127.0.0.1:{}", servers::free_port().unwrap());
    for words in ["price get P1", "price set P1 3 GBP", "views send P1", "views show P1", "product list", "product export"] {
        let away = shop.ctl(None, &[&words.split(' ').collect::<Vec<_>>()[..], &["--url", &nobody]].concat()).await;
        assert_eq!((away.code, away.stdout.as_str()), (Some(7), ""), "{words}: {away:?}");
        assert!(away.stderr.contains(&nobody) && away.stderr.contains("--url"), "{away:?}");
    }
}

#[tokio::test]
async fn views_are_sent_and_shown_over_the_api() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api().await;
    let views = async |arguments: &[&str]| shop.ctl(Some(&api), &[&["views"], arguments].concat()).await;
    assert_eq!(views(&["send", "P1", "--count", "1000", "-o", "json"]).await.json(0), json!({"product_id": 1, "accepted": 1_000}));
    assert_eq!(views(&["send", "id:1"]).await.code, Some(0));
    let waiting = views(&["show", "P1", "-o", "json"]).await.json(0);
    assert_eq!((&waiting["total"], &waiting["persisted"], &waiting["pending"]), (&json!(1_001), &json!(0), &json!(1_001)));
    let _worker = shop.worker().await;
    eventually("the views are in MySQL", SOON, async || (shop.views(1).await == 1_001).then_some(())).await;
    let shown = eventually("the API shows them", SOON, async || {
        let shown = views(&["show", "P1", "--interval", "day", "--tz", "-05:00", "-o", "json"]).await.json(0);
        (shown["pending"] == 0).then_some(shown)
    })
    .await;
    let buckets = shown["data"].as_array().unwrap();
    assert_eq!((buckets.len(), &buckets[29]["views"], &shown["persisted"]), (30, &json!(1_001), &json!(1_001)), "{shown}");
    for (arguments, code, told) in [
        (&["send", "P1", "--count", "1001"][..], 2, "1..=1000"),
        (&["send", "P9"], 4, "P9"),
        (&["show", "P1", "--from", "yesterday"], 2, "2011-01-04T10:00:00Z"),
        (&["show", "P1", "--interval", "week"], 2, "hour, day"),
        (&["show", "P1", "--interval", "day", "--tz", "+05:30"], 1, "/tz must be whole hours"),
    ] {
        let refused = views(arguments).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{refused:?}");
        assert!(refused.stderr.contains(told), "{refused:?}");
    }
}

#[tokio::test]
async fn a_list_follows_the_pages_and_asks_for_no_more_than_its_limit() {
    let shop = Shop::start().await;
    shop.products(1_100).await;
    shop.run("UPDATE products SET updated_at = '2011-01-04 10:00:00' WHERE id > 5").await;
    let api = shop.api().await;
    let list = async |arguments: &[&str]| shop.ctl(Some(&api), &[&["product", "list"], arguments].concat()).await;
    let ids = |rows: &Value| rows.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(ids(&list(&["-o", "json"]).await.json(0)), (1..=1_100).collect::<Vec<_>>());
    assert_eq!(list(&["-o", "ndjson"]).await.stdout.lines().count(), 1_100);
    assert_eq!(list(&["-o", "csv"]).await.stdout.lines().count(), 1_101, "one header for all pages");
    assert_eq!(ids(&list(&["-o", "json", "--limit", "501"]).await.json(0)).len(), 501);
    assert_eq!(ids(&list(&["-o", "json", "--limit", "2", "--updated-since", "2012-01-01T00:00:00Z"]).await.json(0)), [1, 2]);
    assert_eq!(list(&["-o", "json", "--updated-since", "2999-01-01T00:00:00Z"]).await.json(0), json!([]));
    for wrong in [["--limit", "0"], ["--updated-since", "2011-01-04"]] {
        assert_eq!(list(&wrong).await.code, Some(2), "{wrong:?}");
    }
}

/// The list waits for its second page when its reader is already gone.
#[tokio::test]
async fn a_reader_that_leaves_ends_every_command_quietly() {
    let shop = Shop::start().await;
    shop.products(1_100).await;
    let api = shop.api().await;
    for form in ["table", "json", "ndjson", "csv"] {
        let script = format!("{{ \"$0\" product list -o {form}; echo \"code $?\" >&2; }} | head -c 20");
        let cut = shop.ctl_in_shell(Some(&api), &script).await;
        assert_eq!((cut.stdout.len(), cut.stderr.as_str()), (20, "code 0\n"), "{form}");
    }
    for words in [
        "--help",
        "product export",
        "product export --format ndjson",
        "product get P1",
        "config show",
        "completions bash",
        "migrate status",
        "queue status",
        "check --full",
    ] {
        let words: Vec<_> = words.split(' ').collect();
        let cut = shop.ctl_into(Some(&api), &words, abandoned_pipe(), Stdio::piped()).await;
        assert_eq!((cut.code, cut.stderr.as_str()), (Some(0), ""), "{words:?}");
    }
    let unheard = shop.ctl_into(Some(&api), &["product", "get", "NONE"], Stdio::piped(), abandoned_pipe()).await;
    assert_eq!((unheard.code, unheard.stdout.as_str()), (Some(4), ""), "nobody reads its messages either");
}

#[tokio::test]
async fn settings_are_shown_with_their_sources_and_help_shows_none_of_them() {
    let shop = Shop::start().await;
    let secret = shop.dir().join("mysql-url");
    std::fs::write(&secret, "mysql://root:s3cret@db.example/shop\n").unwrap();
    let own = [("INVENTORY_TOKEN", "s3cret"), ("INVENTORY_BATCH_VIEWS", "7"), ("INVENTORY_CACHE_TTL", "77s")];
    let set: String = own.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let script = format!(
        "unset INVENTORY_MYSQL_URL; {set} \"$0\" config show --redis-url redis://:s3cret@r/0 -o json --mysql-url-file {}",
        secret.display()
    );
    let shown = shop.ctl_in_shell(None, &script).await;
    assert!(!shown.stdout.contains("s3cret") && !shown.stderr.contains("s3cret"), "{shown:?}");
    let shown = shown.json(0);
    let of = |name: &str| {
        let setting = shown.as_array().unwrap().iter().find(|setting| setting["variable"] == name).unwrap();
        format!("{} {}", setting["value"].as_str().unwrap(), setting["source"].as_str().unwrap())
    };
    assert_eq!(of("INVENTORY_MYSQL_URL"), format!("mysql://root:***@db.example/shop file {}", secret.display()));
    assert_eq!(of("INVENTORY_REDIS_URL"), "redis://:***@r/0 flag");
    assert_eq!(of("INVENTORY_TOKEN"), "*** environment");
    assert_eq!(of("INVENTORY_CACHE_TTL"), "77s environment");
    assert_eq!(of("INVENTORY_BATCH_VIEWS"), "set, for other programs environment");
    assert_eq!(of("INVENTORY_URL"), "http://127.0.0.1:8080 default");
    for words in HELPS {
        let help = shop.ctl_in_shell(None, &format!("{set} \"$0\" {words} --help")).await;
        assert_eq!(help.code, Some(0));
        assert!(!help.stdout.contains("s3cret") && !help.stdout.contains("77s"), "{help:?}");
    }
}

#[tokio::test]
async fn a_wrong_word_is_answered_with_the_right_one() {
    let shop = Shop::start().await;
    for (words, meant) in [
        ("prodct list", "product"),
        ("product lst", "list"),
        ("product list --limt 5", "--limit"),
        ("price set P1 1 GBP --raeson x", "--reason"),
        ("completions bsh", "bash"),
        ("queue status --wacth", "--watch"),
        ("product list -o jsn", "json"),
        ("migrate --shards 3 status", "--shards has no meaning"),
    ] {
        let Outcome { code, stderr, .. } = shop.ctl(None, &words.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(code, Some(2), "{words}");
        assert!(stderr.contains(meant), "{words}: {stderr}");
    }
    let status = shop.ctl_as("inventory_migrate", None, &["migrate", "-o", "json", "status"]).await.json(0);
    assert!(status.as_array().unwrap().len() >= 3, "{status}");
}
