//! `product export` and `product import` of this program's own layout: from one shop to another and back, and what an
//! interruption leaves.

use harness::{Proxy, SOON, Shop, eventually};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than one page of the API.
const MANY: u64 = 1_200;

/// Products of every kind: with and without price, other currencies, long texts, characters that CSV and JSON must quote.
async fn stock_up(shop: &Shop) {
    shop.products(MANY).await;
    for sql in [
        "UPDATE products SET price = NULL, currency = NULL WHERE id % 7 = 0",
        "UPDATE products SET price = 1200, currency = 'JPY' WHERE id % 11 = 0",
        "UPDATE products SET active = FALSE WHERE id % 5 = 0",
        "UPDATE products SET description = CONCAT('line one\\r\\n\"line\", two ', id, '\\n') WHERE id % 3 = 0",
        "UPDATE products SET description = REPEAT('\"\\n', 32768) WHERE id = 1",
        "UPDATE products SET sku = 'Ü,\"x\"', name = 'CUP, \"BLUE\" 杯' WHERE id = 2",
        "UPDATE products SET deleted_at = NOW(6) WHERE id = 4",
    ] {
        shop.run(sql).await;
    }
}

fn path(shop: &Shop, name: &str) -> PathBuf {
    shop.dir().join(name)
}

/// Names of all files in the shop's directory that have to do with an export.
fn files(shop: &Shop) -> BTreeSet<String> {
    let names = std::fs::read_dir(shop.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("all.")).collect()
}

fn unzipped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn what_is_exported_is_imported_by_another_shop_and_exported_by_it_again_byte_for_byte() {
    let (shop, other) = (Shop::start().await, Shop::start().await);
    stock_up(&shop).await;
    let (api, other_api) = (shop.api().await, other.api().await);
    for name in ["all.csv", "all.ndjson.gz"] {
        let (first, second) = (path(&shop, name), path(&other, name));
        let report = shop.ctl(Some(&api), &["product", "export", first.to_str().unwrap(), "-o", "json"]).await.json(0);
        assert_eq!(report, json!({"products": MANY - 1, "file": first.to_str().unwrap()}));
        let imported = other.ctl(None, &["product", "import", first.to_str().unwrap(), "-o", "json"]).await.json(0);
        let done = if name == "all.csv" { "created" } else { "unchanged" };
        assert_eq!(
            (&imported["lines"], &imported[done], &imported["rejected"]),
            (&json!(MANY - 1), &json!(MANY - 1), &json!(0)),
            "{imported}"
        );
        assert_eq!(other.ctl(Some(&other_api), &["product", "export", second.to_str().unwrap()]).await.code, Some(0));
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "{name} differs");
        let printed =
            other.ctl(Some(&other_api), &["product", "export", "--format", if name == "all.csv" { "csv" } else { "ndjson" }]).await;
        let bytes = if name == "all.csv" { std::fs::read(&first).unwrap() } else { unzipped(&first) };
        assert!(printed.stdout.as_bytes() == bytes, "stdout has the same bytes");
        assert_eq!(files(&shop).iter().filter(|file| file.contains(".part")).count(), 0);
    }
    let row = "SELECT CONCAT_WS('|', sku, name, description, active, price, currency) FROM products WHERE deleted_at IS NULL ORDER BY sku";
    assert!(shop.rows::<String>(row).await == other.rows::<String>(row).await, "nothing is lost on the way");
    assert_eq!(
        other.number("SELECT COUNT(*) FROM price_history").await,
        other.number("SELECT COUNT(*) FROM products WHERE price IS NOT NULL").await
    );
    let checksum = async || shop.rows::<(String, u64)>("CHECKSUM TABLE products, price_history").await;
    let before = checksum().await;
    let again = shop.ctl(None, &["product", "import", path(&shop, "all.csv").to_str().unwrap(), "-o", "json"]).await.json(0);
    assert_eq!((&again["unchanged"], checksum().await), (&json!(MANY - 1), before), "what a shop exports changes nothing in it");
}

#[tokio::test]
async fn an_import_changes_what_its_columns_tell_and_the_cache_with_it() {
    let shop = Shop::start().await;
    shop.products(3).await;
    shop.run("UPDATE products SET description = 'old', active = FALSE").await;
    let api = shop.api().await;
    assert_eq!(api.see(1).await.status, 200);
    let file = path(&shop, "in.csv");
    let import = async |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        shop.ctl(None, &[&["product", "import", file.to_str().unwrap(), "-o", "json"], more].concat()).await
    };
    let all = "sku,name,description,active,price,currency\nP1,Product 1,new,true,2.5,GBP\nP2,Product 2,,,,\nNEW,Box,b,false,,\n";
    let trial = import(all, &["--dry-run"]).await.json(0);
    assert_eq!((&trial["created"], &trial["updated"], shop.price(1).await), (&json!(1), &json!(2), (1, "1.00".into())));
    assert_eq!(import(all, &[]).await.json(0)["updated"], 2);
    let product = async |id: u64| {
        let read = api.get(&format!("/v1/products/{id}")).await.json();
        json!([read["name"], read["description"], read["active"], read["price"]["amount"]])
    };
    assert_eq!(product(1).await, json!(["Product 1", "new", true, "2.50"]));
    assert_eq!(product(2).await, json!(["Product 2", null, false, "1.00"]), "an empty description is none, what else is empty stays");
    assert_eq!(product(4).await, json!(["Box", "b", false, null]));
    assert_eq!(import("name,sku\nLamp,P1\n", &[]).await.json(0)["updated"], 1);
    assert_eq!(product(1).await, json!(["Lamp", "new", true, "2.50"]), "what no column tells stays");
    assert_eq!(shop.number("SELECT COUNT(*) FROM price_history WHERE product_id = 1").await, 1);
    assert_eq!(
        import("{\"sku\":\"P3\",\"name\":\"Product 3\",\"price\":{\"amount\":\"7\",\"currency\":\"USD\"}}", &[]).await.json(0)["updated"],
        1
    );
    assert_eq!(product(3).await, json!(["Product 3", "old", false, "7.00"]));
}

#[tokio::test]
async fn a_bad_line_is_told_with_all_its_faults_and_writes_nothing() {
    let shop = Shop::start().await;
    let (file, bad) = (path(&shop, "in.csv"), path(&shop, "bad.csv"));
    std::fs::write(&file, "sku,name,description,active,price,currency\n1,A,,true,1.00,GBP\n2,,,maybe,1.005,GBP\n1,B,,,,\n").unwrap();
    let arguments = ["product", "import", file.to_str().unwrap(), "-o", "json", "--errors-to", bad.to_str().unwrap()];
    let outcome = shop.ctl(None, &arguments).await;
    assert_eq!((&outcome.json(3)["created"], &outcome.json(3)["rejected"]), (&json!(1), &json!(2)));
    for told in ["line 3: active is \"maybe\"", "name must have", "price \"1.005\" has 3 digits", "line 4: sku 1 stands on line 2 already"]
    {
        assert!(outcome.stderr.contains(told), "{told} in {outcome:?}");
    }
    assert_eq!(shop.rows::<String>("SELECT CONCAT(sku, name) FROM products").await, ["1A"]);
    let rejected = std::fs::read_to_string(&bad).unwrap();
    assert!(rejected.ends_with("\"2,,,maybe,1.005,GBP\"\n4,sku 1 stands on line 2 already,\"1,B,,,,\"\n"), "{rejected}");
    for (text, told) in
        [("sku,name,quantity\n1,A,5\n", "name it stock_set or stock_add"), ("sku,price,currency\n", "the column name is missing")]
    {
        std::fs::write(&file, text).unwrap();
        let refused = shop.ctl(None, &arguments[..5]).await;
        assert_eq!(refused.json(3)["products"], 0);
        assert!(refused.stderr.contains(told), "{refused:?}");
    }
}

/// An export that waits for its second page, behind a proxy, with an older file under its name.
async fn half_way(shop: &Shop, end: impl AsyncFnOnce(&Proxy, &mut tokio::process::Child)) -> (Option<i32>, String) {
    let api = shop.api().await;
    let proxy = Proxy::to(api.url.rsplit(':').next().unwrap().parse().unwrap()).await;
    std::fs::write(path(shop, "all.csv"), "older").unwrap();
    proxy.hold_request_with("cursor=");
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let all = path(shop, "all.csv");
    let mut export = shop.ctl_started(&["product", "export", all.to_str().unwrap(), "--url", &url]);
    proxy.caught().await;
    assert_eq!(files(shop).len(), 2, "it is being written beside the older one: {:?}", files(shop));
    end(&proxy, &mut export).await;
    let output = export.wait_with_output().await.unwrap();
    assert_eq!(std::fs::read_to_string(path(shop, "all.csv")).unwrap(), "older");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn interrupt(child: &tokio::process::Child) {
    // The shell's own `kill`: the program of that name is missing on slim systems.
    let script = format!("kill -INT {}", child.id().unwrap());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

#[tokio::test]
async fn an_export_that_is_interrupted_leaves_what_was_there() {
    let shop = Shop::start().await;
    shop.products(MANY).await;
    let (code, said) = half_way(&shop, async |_, export| interrupt(export)).await;
    assert_eq!((code, said.contains("interrupted; nothing was written")), (Some(1), true), "{said}");
    assert_eq!(files(&shop).len(), 1, "nothing is left beside it");
    let (code, said) = half_way(&shop, async |proxy, _| {
        proxy.refuse();
        proxy.cut();
    })
    .await;
    assert_eq!((code, said.contains("no answer from") && said.contains("nothing was written")), (Some(7), true), "{said}");
    assert_eq!(files(&shop).len(), 1);
    let (code, _) = half_way(&shop, async |_, export| export.start_kill().unwrap()).await;
    assert_eq!(code, None);
    let api = shop.api().await;
    let whole = path(&shop, "all.csv");
    assert_eq!(
        shop.ctl(Some(&api), &["product", "export", whole.to_str().unwrap()]).await.code,
        Some(0),
        "what was left is not in the way"
    );
    assert_eq!(std::fs::read_to_string(whole).unwrap().lines().count() as u64, MANY + 1);
}

#[tokio::test]
async fn an_export_to_a_full_disk_leaves_what_was_there() {
    let shop = Shop::start().await;
    shop.products(MANY).await;
    let api = shop.api().await;
    let all = path(&shop, "all.csv");
    std::fs::write(&all, "older").unwrap();
    // What a process may write to a file ends after eight blocks of 512 or 1,024 bytes.
    let script = format!("trap '' XFSZ; ulimit -f 8; exec \"$0\" product export '{}'", all.display());
    let outcome = shop.ctl_in_shell(Some(&api), &script).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("writing ") && outcome.stderr.contains("all.csv"), "{outcome:?}");
    assert_eq!((std::fs::read_to_string(&all).unwrap().as_str(), files(&shop).len()), ("older", 1));
    let full = shop.ctl_in_shell(Some(&api), "exec \"$0\" product export > /dev/full").await;
    assert_eq!((full.code, full.stderr.contains("writing the output")), (Some(1), true), "{full:?}");
    eventually("the API still answers", SOON, async || (api.see(1).await.status == 200).then_some(())).await;
}
