//! What watches the programs: rules, alerts and dashboard of deploy/, by promtool and by a real Prometheus that scrapes a shop.

use domain::view::Writer;
use harness::{Program, Reply, SOON, Shop, ShopOptions, eventually, record};
use serde_json::{Value, json};
use servers::{Process, RedisOptions, free_port};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use uuid::Uuid;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// What installs both programs where they are missing, as `cargo xtask test` does.
const INSTALL: &str = "apt-get install -y --no-install-recommends prometheus";

/// Grafana makes it at least four scrapes.
const RATE_INTERVAL: &str = "10s";

/// A port that was free may be taken before Prometheus listens on it.
const PORT_TRIES: u32 = 5;

pub(crate) fn deployed(file: &str) -> String {
    let path = Path::new(DEPLOY).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One rule of deploy/prometheus.
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) is_alert: bool,
    pub(crate) expression: String,
    /// As it stands in the file.
    pub(crate) whole: Value,
}

/// All of `rules.yml` and `alerts.yml`.
pub(crate) fn rules() -> Vec<Rule> {
    let files = ["prometheus/rules.yml", "prometheus/alerts.yml"].map(|file| yaml(&deployed(file)));
    let groups = files.iter().flat_map(|file| file["groups"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rule = |rule: &Value| Rule {
        name: text(&rule["alert"]) + &text(&rule["record"]),
        is_alert: rule["alert"].is_string(),
        expression: text(&rule["expr"]),
        whole: rule.clone(),
    };
    groups.flat_map(|group| group["rules"].as_array().unwrap()).map(rule).collect()
}

pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&deployed("grafana/dashboards/inventory.json")).unwrap()
}

/// Title of the panel and expression, variables as they are.
pub(crate) fn panel_expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    };
    panels.flat_map(of_panel).collect()
}

/// Runs promtool in deploy/prometheus; returns whether it was content, and what it said.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(Path::new(DEPLOY).join("prometheus"));
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("promtool cannot be run ({error}): type\n  {INSTALL}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// The files with cases of alerts, as they are named from deploy/prometheus.
pub(crate) fn case_files() -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(DEPLOY).join("prometheus/tests")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| format!("tests/{}", entry.unwrap().file_name().to_str().unwrap())).collect();
    files.sort();
    files
}

#[test]
fn configuration_and_rules_are_what_prometheus_takes() {
    for arguments in [["check", "config", "prometheus.yml"].as_slice(), &["check", "rules", "rules.yml", "alerts.yml"]] {
        let (content, said) = promtool(arguments, "");
        assert!(content && said.contains("SUCCESS") && !said.contains("WARNING"), "{arguments:?}: {said}");
    }
}

#[test]
fn every_alert_fires_when_it_should_and_at_no_near_miss() {
    let files = case_files();
    assert!(files.len() > 3, "{files:?}");
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let (content, said) = promtool(&[&["test", "rules"], files.as_slice()].concat(), "");
    assert!(content, "{said}");
}

/// A Prometheus on a port of its own, with its data in the directory of a test.
struct Prometheus {
    url: String,
    client: reqwest::Client,
    process: Process,
}

impl Prometheus {
    /// Starts it with our configuration, but each second and for these targets instead of the usual ports.
    async fn start(shop: &Shop, targets: &[(&str, &Program)]) -> Self {
        let dir = shop.dir().join("prometheus");
        std::fs::create_dir_all(&dir).unwrap();
        let replaced = |file: &str, replacements: &[(&str, &str)]| {
            let mut text = deployed(&format!("prometheus/{file}"));
            for (from, to) in replacements {
                assert!(text.contains(from), "{file} has no {from}");
                text = text.replace(from, to);
            }
            std::fs::write(dir.join(file), text).unwrap();
        };
        let targets: Vec<_> = targets.iter().map(|(usual, program)| (*usual, program.ops.trim_start_matches("http://"))).collect();
        let each_second = [("interval: 5s", "interval: 1s"), ("timeout: 4s", "timeout: 1s")];
        replaced("prometheus.yml", &[targets.as_slice(), &each_second].concat());
        replaced("rules.yml", &[("interval: 15s", "interval: 1s"), ("interval: 1m", "interval: 1s")]);
        replaced("alerts.yml", &[]);
        for _ in 0..PORT_TRIES {
            let mut prometheus = Self::launch(&dir, free_port().unwrap());
            if prometheus.is_ready().await {
                return prometheus;
            }
        }
        panic!("Prometheus does not start:\n{}", Self::launch(&dir, free_port().unwrap()).process.log_tail());
    }

    fn launch(dir: &Path, port: u16) -> Self {
        let mut command = Command::new("prometheus");
        let own = |flag: &str, path: PathBuf| format!("--{flag}={}", path.display());
        command.arg(own("config.file", dir.join("prometheus.yml"))).arg(own("storage.tsdb.path", dir.join("data")));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let there = Command::new("prometheus").arg("--version").output();
        assert!(there.is_ok(), "Prometheus is not installed: type\n  {INSTALL}");
        let process = Process::spawn("prometheus", command, &dir.join("log")).unwrap_or_else(|error| panic!("{error}"));
        Self { url: format!("http://127.0.0.1:{port}"), client: reqwest::Client::new(), process }
    }

    /// Whether it serves; not where it has ended.
    async fn is_ready(&mut self) -> bool {
        let ready = format!("{}/-/ready", self.url);
        eventually("Prometheus is ready or ends", SOON, async || {
            let answer = self.client.get(&ready).send().await;
            let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
            (is_ready || self.process.exited().is_some()).then_some(is_ready)
        })
        .await
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.client.get(format!("{}/api/v1/{path}", self.url)).query(query).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].clone()
    }

    /// The series that an expression has now, but those that are no number.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let found = self.get("query", &[("query", expression)]).await;
        let series = found["result"].as_array().cloned().unwrap_or_default();
        series.into_iter().filter(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN")).collect()
    }

    /// Waits until all of these have data.
    async fn answers(&self, expressions: &[(String, String)]) {
        for (whose, expression) in expressions {
            let what = format!("Prometheus has data for {whose}: {expression}");
            eventually(&what, SOON, async || (!self.query(expression).await.is_empty()).then_some(())).await;
        }
    }

    async fn firing(&self) -> BTreeSet<String> {
        let firing = self.query("ALERTS{alertstate=\"firing\"}").await;
        firing.iter().map(|alert| alert["metric"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

/// All kinds of requests, well and badly, again and again.
async fn traffic(api: &Program) -> Infallible {
    let keyed = |path: &str, body: Value| {
        let request = api.request("POST", path).header("idempotency-key", Uuid::new_v4().to_string());
        request.json(&body)
    };
    for round in 0_u64.. {
        for path in
            ["/v1/products/1", "/v1/products/2", "/v1/products/9000", "/v1/products?skus=P3,P4", "/v1/products/1/price-history", "/no"]
        {
            api.get(path).await;
        }
        for id in 1..=8 {
            let event = json!({"product_id": id, "id": Uuid::new_v4()});
            api.send("POST", &format!("/v1/products/{id}/views"), r#"{"count":3}"#).await;
            api.send("POST", "/v1/views", json!({"events": [event, {"product_id": 9001}]}).to_string()).await;
        }
        let amount = format!("{}.25", 1 + round % 50);
        api.send("PUT", "/v1/products/5/price", json!({"amount": amount, "currency": "GBP"}).to_string()).await;
        api.send("PUT", "/v1/products/6/price", r#"{"amount":"-1","currency":"GBP"}"#).await;
        let batch = json!({"items": [{"sku": "P7", "amount": amount, "currency": "GBP"}]});
        api.send("POST", "/v1/prices/batch", batch.to_string()).await;
        Reply::to(keyed("/v1/products/1/stock/adjustments", json!({"delta": 5}))).await;
        for (quantity, end) in [(1, "commit"), (2, "release"), (1_000_000, "")] {
            let made = Reply::to(keyed("/v1/reservations", json!({"items": [{"product_id": 1, "quantity": quantity}]}))).await;
            if made.status == 201 {
                api.send("POST", &format!("{}/{end}", made.header("location")), "").await;
            }
        }
    }
    unreachable!("a test does not last for so many rounds")
}

/// What a watcher may ask of a shop under traffic.
async fn watch(shop: &Shop, api: &Program, worker: &Program) {
    let prometheus = Prometheus::start(shop, &[("127.0.0.1:8081", api), ("127.0.0.1:8082", worker)]).await;
    let up = |program: &str| ("up".to_owned(), format!("up{{job=\"inventory\",program=\"{program}\"}} == 1"));
    prometheus.answers(&[up("inventory-api"), up("inventory-worker")]).await;

    // Stock that somebody changed behind the ledger's back: this alert waits for nothing.
    shop.run("UPDATE stock SET on_hand = on_hand + 3 WHERE product_id = 1").await;
    let broken = "InventoryStockInvariantBroken";
    eventually("an alert fires", 3 * SOON, async || prometheus.firing().await.contains(broken).then_some(())).await;

    let shown = panel_expressions(&dashboard()).into_iter();
    let shown = shown.map(|(title, expression)| (title, expression.replace("$__rate_interval", RATE_INTERVAL)));
    let shown: Vec<_> = shown.collect();
    assert!(shown.len() > 50 && shown.iter().all(|(_, expression)| !expression.contains('$')), "{shown:?}");
    prometheus.answers(&shown).await;
    let (alerts, recorded): (Vec<_>, Vec<_>) = rules().into_iter().partition(|rule| rule.is_alert);
    let recorded: Vec<_> = recorded.into_iter().map(|rule| (rule.name.clone(), rule.name)).collect();
    prometheus.answers(&recorded).await;
    for rule in &alerts {
        prometheus.query(&rule.expression).await;
    }
    for annotation in dashboard()["annotations"]["list"].as_array().unwrap().iter().filter_map(|list| list["expr"].as_str()) {
        prometheus.query(annotation).await;
    }

    let groups = prometheus.get("rules", &[]).await["groups"].as_array().cloned().unwrap();
    let evaluated: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(evaluated.len() > alerts.len());
    for rule in evaluated {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    // Nothing else is wrong with this shop. Its dead letter waits for five minutes before anybody is told.
    assert_eq!(prometheus.firing().await, BTreeSet::from([broken.to_owned()]));
    assert_eq!(prometheus.query("ALERTS{alertname=\"InventoryDeadLetters\",alertstate=\"pending\"}").await.len(), 1);
}

#[tokio::test]
async fn a_real_prometheus_answers_every_expression_and_one_fault_fires_one_alert() {
    let redis = RedisOptions { maxmemory_bytes: Some(64 << 20), ..RedisOptions::default() };
    let shop = Shop::with(ShopOptions { redis, ..ShopOptions::default() }).await;
    shop.products(20).await;
    let (api, worker) = (shop.api().await, shop.worker().await);
    let books = shop.books().await;
    books.push(&record(Writer::new(Uuid::new_v4()), 1, storage::watch::now_ms(), &[(4_000_000, 2)])).await;
    tokio::select! {
        never = traffic(&api) => match never {},
        () = watch(&shop, &api, &worker) => {}
    }
    for program in [&api, &worker] {
        let metrics = program.metrics().await;
        let (content, said) = promtool(&["check", "metrics"], &metrics);
        assert!(content && said.trim().is_empty(), "{said}");
    }
}
