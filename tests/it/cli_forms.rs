//! What every command prints, in each form, as snapshots beside this file.
//!
//! A new command needs a line in [`COMMANDS`], or a word in [`ELSEWHERE`]. After a change look at the differences and accept
//! them: `INSTA_UPDATE=always cargo test -p tests -- cli_forms`.

use harness::{Outcome, Program, Shop, ShopOptions};
use std::fmt::Write;

/// Each command as it is run, in this order, in the four forms. A name ends in `*` where figures change with each run.
const COMMANDS: &[&str] = &[
    "migrate *",
    "migrate status *",
    "product get P1",
    "product get P1 --compare",
    "product get P9",
    "product list",
    "product list --sold-out",
    "product list --limit 1 --updated-since 2011-01-04T10:00:00Z",
    "product import SALES",
    "product import BAD --dry-run",
    "product import STOCKED",
    "product export EXPORTED *",
    "product export - --format ndjson",
    "price get P2",
    "price set P1 2.5 GBP --reason sale",
    "price set P1 9 GBP --max-change 30%",
    "price import PRICES --dry-run",
    "price import PRICES --max-change 30%",
    "price undo 00000000-0000-0000-0000-000000000000",
    "price set id:99 2.5 GBP",
    "stock get P3",
    "stock set P1 120 --reason stocktake",
    "stock set P3 1",
    "stock set P3 7 --if-version 1",
    "stock adjust P1 -3 --reason damaged",
    "stock adjust P1 -1000",
    "reservation create P1=1000 id:2=1 P3=1",
    "reservation get 01900000-0000-7000-8000-000000000001",
    "reservation commit 01900000-0000-7000-8000-000000000001",
    "reservation release 01900000-0000-7000-8000-000000000001",
    "views send P1 --count 2",
    "views show P1 --from 2011-01-04T10:00:00Z --to 2011-01-04T13:00:00Z",
    "queue pause --reason maintenance *",
    "queue status *",
    "queue resume",
    "queue flush --wait 1s *",
    "dead-letters list *",
    "dead-letters list --each *",
    "dead-letters show 2 *",
    "dead-letters replay --all --dry-run",
    "dead-letters drop 2",
    "dead-letters drop 2 --yes",
    "cache invalidate P1 id:99",
    "cache invalidate --all",
    "cache invalidate --all --yes *",
    "check --full",
    "replay SALES *",
    "config show *",
];

/// Commands whose output is tested at another place.
const ELSEWHERE: &[&str] = &["completions", "doctor", "price history", "ready", "stock movements", "token new"];

const FORMS: [&str; 4] = ["table", "json", "ndjson", "csv"];

async fn shop() -> (Shop, Program) {
    let shop = Shop::with(ShopOptions::default()).await;
    shop.products(3).await;
    for sql in [
        "UPDATE products SET name = 'A NAME, \"QUOTED\", OF SOME LENGTH', price = NULL, currency = NULL WHERE id = 2",
        "UPDATE products SET description = 'two\\nlines' WHERE id = 1",
        "UPDATE products SET updated_at = '2011-01-04 10:00:00'",
        "INSERT INTO view_hours (product_id, hour, views) VALUES (1, '2011-01-04 11:00:00', 7)",
        "INSERT INTO product_views (product_id, views) VALUES (1, 7)",
        "UPDATE view_shards SET persisted = 7, retired_accepted = 7, retired_arrived = 7 WHERE shard = 1",
        "INSERT INTO dead_letters (shard, batch, position, product_id, hour, views, reason, detail, payload) VALUES \
         (0, 'b', NULL, 99, '2011-01-04 11:00:00', 3, 'unknown_product', '', NULL), \
         (1, 'c', 7, NULL, NULL, 0, 'unparsable', 'no record', 'two\nlines')",
        "INSERT INTO stock (product_id, on_hand, reserved, version) VALUES (3, 9, 2, 2)",
        "INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved, created_at) VALUES \
         (3, 'count', 9, 0, 9, 0, '2011-01-04 10:00:00'), (3, 'reserve', 0, 2, 9, 2, '2011-01-04 11:00:00')",
        "INSERT INTO reservations (id, reference, expires_at, created_at, updated_at) VALUES \
         ('01900000-0000-7000-8000-000000000001', 'cart_9', '2999-01-01 00:00:00', '2011-01-04 11:00:00', '2011-01-04 11:00:00')",
        "INSERT INTO reservation_items (reservation_id, product_id, quantity) VALUES ('01900000-0000-7000-8000-000000000001', 3, 2)",
    ] {
        shop.run(sql).await;
    }
    let sales = "StockCode,Description,InvoiceDate,UnitPrice\n10001,LAMP,2011-01-04 10:00:00,1.5\nPOST,POSTAGE,2011-01-04 10:00:00,18\n";
    std::fs::write(shop.dir().join("SALES"), sales).unwrap();
    std::fs::write(shop.dir().join("BAD"), "sku,name,price,currency\n1,,1.005,GBP\n2,LAMP,,\n").unwrap();
    let stocked = "sku,name,stock_set,stock_add\n10001,LAMP,,5\n10002,BOX,7,\nP3,Product 3,1,\n10003,CUP,1.5,\n";
    std::fs::write(shop.dir().join("STOCKED"), stocked).unwrap();
    std::fs::write(shop.dir().join("PRICES"), "sku,amount,currency\nP1,1.50,GBP\nP2,3,GBP\nP3,1,GBP\n").unwrap();
    let api = shop.api().await;
    (shop, api)
}

async fn run(shop: &Shop, api: &Program, words: &str, form: &str) -> Outcome {
    let file = |word: &str| match word {
        "SALES" | "BAD" | "EXPORTED" | "PRICES" | "STOCKED" => shop.dir().join(word).to_str().unwrap().to_owned(),
        word => word.to_owned(),
    };
    let words: Vec<_> = words.split(' ').filter(|word| *word != "*").map(file).chain(["-o".into(), form.into()]).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let user = if words[0] == "migrate" { "inventory_migrate" } else { "inventory_api" };
    shop.ctl_as(user, Some(api), &words).await
}

/// Times, and what is this shop's own, without their figures. Where these may be of any length, columns are not kept.
fn redacted(text: &str, shop: &Shop, api: &Program, changes: bool) -> String {
    let own = [
        (shop.dir().to_str().unwrap().to_owned() + "/", ""),
        (api.url.clone(), "http://127.0.0.1:0"),
        (shop.redis.url(), "redis://127.0.0.1:0/0"),
        (format!(":{}/{}", shop.mysql_port(), shop.database()), ":0/shop"),
        (format!("`{}`", shop.database()), "`shop`"),
    ];
    let text = own.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let text: String = text.split_inclusive(' ').map(without_times).collect();
    let text = without_host(&text);
    if !changes {
        return text;
    }
    let text = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect::<String>();
    without_fractions(&text)
}

/// The name of the machine, as it stands behind an operator's.
fn without_host(text: &str) -> String {
    let mut parts = text.split("inventoryctl@");
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        redacted += "inventoryctl@host";
        redacted += part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_.".contains(c));
    }
    redacted
}

/// The digits of what looks like a time of our days become zeros.
fn without_times(text: &str) -> String {
    let Some(at) = text.find("T").filter(|at| *at >= 10) else { return text.to_owned() };
    let (date, rest) = text.split_at(at - 10);
    let is_time = rest.get(..10).is_some_and(|day| day.starts_with("20") && !day.starts_with("2011-") && day.matches('-').count() == 2);
    let end = if is_time { rest.find('Z').map_or(rest.len(), |end| end + 1) } else { 11 };
    let (time, rest) = rest.split_at(end.min(rest.len()));
    let time = if is_time { time.replace(|c: char| c.is_ascii_digit(), "0") } else { time.to_owned() };
    date.to_owned() + &time + &without_times(rest)
}

/// Figures with a point, such as rates and seconds, become one.
fn without_fractions(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut redacted = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_part) {
        let number: String = rest[at..].chars().take_while(|c| is_part(*c)).collect();
        redacted += &rest[..at];
        let is_fraction = number.matches('.').count() == 1 && !number.ends_with('.') && !number.starts_with('.');
        redacted += if is_fraction { "0.0" } else { &number };
        rest = &rest[at + number.len()..];
    }
    redacted + rest
}

#[tokio::test]
async fn every_command_prints_what_was_looked_at() {
    let (shop, api) = shop().await;
    for words in COMMANDS {
        let mut all = String::new();
        for form in FORMS {
            let Outcome { code, stdout, stderr } = run(&shop, &api, words, form).await;
            let code = code.unwrap();
            let words = words.trim_end_matches(" *");
            write!(all, "$ inventoryctl {words} -o {form}\n{stdout}").unwrap();
            stderr.lines().for_each(|line| writeln!(all, "[stderr] {line}").unwrap());
            writeln!(all, "[exit code {code}]\n").unwrap();
        }
        let name: String = words.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = name.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
        insta::assert_snapshot!(name, redacted(&all, &shop, &api, words.ends_with('*')));
    }
}

/// The words of each command that does something, as the help lists them.
async fn commands(shop: &Shop, words: &[&str]) -> Vec<String> {
    let help = shop.ctl(None, &[words, &["-h"]].concat()).await;
    let listed = help.stdout.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    let names: Vec<_> = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let mut found = if names.is_empty() { vec![words.join(" ")] } else { Vec::new() };
    for name in names.into_iter().filter(|name| !["help", ""].contains(name)) {
        found.extend(Box::pin(commands(shop, &[words, &[name]].concat())).await);
    }
    found
}

#[tokio::test]
async fn no_command_is_left_out() {
    let shop = Shop::start().await;
    let known = |command: &String| COMMANDS.iter().any(|words| words.starts_with(command)) || ELSEWHERE.contains(&command.as_str());
    let forgotten: Vec<_> = commands(&shop, &[]).await.into_iter().filter(|command| !known(command)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?} have no snapshot: add a line to COMMANDS of this file");
}
