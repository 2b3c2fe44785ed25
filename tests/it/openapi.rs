//! The document at `/openapi.json` and the page at `/docs`: what they say is what the API does.

use flate2::read::GzDecoder;
use harness::{Program, Reply, Shop};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use telemetry::scope::Scope;
use telemetry::tokens::Digest;
use tokio::process::Command;

/// The product of which the examples speak.
async fn sell_the_example(shop: &Shop) {
    shop.run(
        "INSERT INTO products (id, sku, name, price, currency) VALUES (1, '85123A', 'WHITE HANGING HEART T-LIGHT HOLDER', 2.55, 'GBP')",
    )
    .await;
    shop.run("INSERT INTO price_history (product_id, version, price, currency) VALUES (1, 1, 2.55, 'GBP')").await;
    shop.run("INSERT INTO stock (product_id, on_hand, reserved) VALUES (1, 120, 2)").await;
    shop.run("INSERT INTO product_views VALUES (1, 12)").await;
    shop.run("INSERT INTO view_hours VALUES (1, '2011-01-04 10:00:00', 3), (1, '2011-01-04 23:00:00', 4), (1, '2011-01-06 00:00:00', 5)")
        .await;
}

/// One method of one path of the document.
struct Operation {
    method: String,
    path: String,
    says: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, says) in methods.as_object().unwrap() {
            operations.push(Operation { method: method.to_uppercase(), path: path.clone(), says: says.clone() });
        }
    }
    operations
}

impl Operation {
    fn name(&self) -> &str {
        self.says["operationId"].as_str().unwrap()
    }

    /// The path with the examples of all parameters.
    fn target(&self) -> String {
        let (mut path, mut query) = (self.path.clone(), Vec::new());
        for parameter in self.says["parameters"].as_array().into_iter().flatten().filter(|parameter| !parameter["example"].is_null()) {
            let name = parameter["name"].as_str().unwrap();
            let value = match &parameter["example"] {
                Value::String(text) => text.clone(),
                Value::Array(items) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
                other => other.to_string(),
            };
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), &value),
                "query" => query.push(format!("{name}={value}")),
                "header" => {}
                other => panic!("an example in {other}"),
            }
        }
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }

    /// Names and examples of headers.
    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.says["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "header");
        headers.filter_map(|header| Some((header["name"].as_str()?, header["example"].as_str()?)))
    }

    /// Media types and examples of the body; one without a body where there is none.
    fn bodies(&self) -> Vec<(String, String)> {
        let content = self.says["requestBody"]["content"].as_object().cloned().unwrap_or_default();
        let text = |form: &Value| example(form).as_str().map_or_else(|| example(form).to_string(), str::to_owned);
        let bodies: Vec<_> = content.into_iter().map(|(media_type, form)| (media_type, text(&form))).collect();
        if bodies.is_empty() { vec![(String::new(), String::new())] } else { bodies }
    }

    /// Status and example of what is answered when all is well.
    fn success(&self) -> Option<(u16, Value)> {
        let mut responses = self.says["responses"].as_object().unwrap().iter();
        let (status, response) = responses.find(|(status, _)| status.starts_with('2'))?;
        let form = &response["content"]["application/json"];
        form["examples"].is_object().then(|| (status.parse().unwrap(), example(form).clone()))
    }
}

fn example(form: &Value) -> &Value {
    &form["examples"]["example"]["value"]
}

/// When something was written differs from one run to the next.
fn without_times(mut answer: Value) -> Value {
    if let Some(id) = answer.pointer_mut("/id").filter(|id| id.is_string()) {
        *id = json!("of its own");
    }
    for at in [
        "/expires_at",
        "/created_at",
        "/data/0/created_at",
        "/data/1/created_at",
        "/updated_at",
        "/committed_at",
        "/data/0/updated_at",
        "/data/0/changed_at",
        "/data/1/changed_at",
    ] {
        if let Some(time) = answer.pointer_mut(at) {
            assert!(time.as_str().is_some_and(|time| time.ends_with('Z') && time.len() == "2011-01-04T10:00:00.000000Z".len()), "{time}");
            *time = json!("then");
        }
    }
    answer
}

#[tokio::test]
async fn the_examples_are_what_is_answered_to_the_examples() {
    let shop = Shop::start().await;
    sell_the_example(&shop).await;
    let api = shop.api().await;
    let operations = operations(&api.get("/openapi.json").await.json());
    let order = [
        "getProduct",
        "getViews",
        "setPrice",
        "getPrice",
        "getPriceHistory",
        "recordView",
        "recordViews",
        "getProducts",
        "createProduct",
        "getStock",
        "countStock",
        "adjustStock",
        "getStockMovements",
        "reserve",
    ];
    let shown: BTreeSet<_> = operations.iter().filter(|operation| operation.success().is_some()).map(Operation::name).collect();
    assert_eq!(shown, order.into());
    for name in order {
        let operation = operations.iter().find(|operation| operation.name() == name).unwrap();
        for (media_type, body) in operation.bodies() {
            let request = api.request(&operation.method, &operation.target()).header("content-type", &media_type).body(body);
            let request = operation.headers().fold(request, |request, (name, value)| request.header(name, value));
            let answer = Reply::to(request).await;
            let (status, expected) = operation.success().unwrap();
            assert_eq!(answer.status, status, "{name} {media_type} {answer:?}");
            assert_eq!(without_times(answer.json()), without_times(expected), "{name} {media_type}");
        }
    }
}

fn of_the_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// How many requests an operation gets in each phase at most; about half a minute for all.
const MOST_REQUESTS: &str = "25";

/// Of a token that has all scopes.
const SECRET: &str = "inv_secret-of-all";

/// Schemathesis, with a seed that is printed. It leaves out the path from which it loads a document, so it gets a file.
async fn schemathesis(shop: &Shop, api: &Program) -> Command {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let program = target.join("schemathesis/bin/schemathesis");
    assert!(
        program.exists(),
        "Schemathesis is not installed; run `cargo xtask test`, or\n  python3 -m venv {0} && {0}/bin/pip install -r tests/schemathesis/requirements.txt",
        target.join("schemathesis").display()
    );
    let document = shop.dir().join("openapi.json");
    std::fs::write(&document, api.get("/openapi.json").await.text).unwrap();
    let seed = harness::seed().to_string();
    let mut command = Command::new(program);
    command.arg("--config-file").arg(of_the_repository("tests/schemathesis/schemathesis.toml")).arg("run").arg(document);
    command.args(["--url", &api.url, "--max-examples", MOST_REQUESTS, "--seed", &seed]);
    command.env("PYTHONPATH", of_the_repository("tests/schemathesis")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.current_dir(shop.dir()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Requests that the document allows and requests that it does not, alone and in sequences: each answer must be a documented
/// one of the documented form, what is allowed must be taken, and what is not must be refused.
#[tokio::test]
async fn whatever_is_asked_is_answered_as_documented() {
    let shop = Shop::start().await;
    sell_the_example(&shop).await;
    let (tokens, digest) = (shop.dir().join("tokens.toml"), Digest::of(SECRET.as_bytes()).hex());
    let scopes = Scope::ALL.map(Scope::as_str);
    std::fs::write(&tokens, format!("[[token]]\nname = \"all\"\nscopes = {scopes:?}\nsha256 = \"{digest}\"\n")).unwrap();
    let api = shop.api_with(&[("INVENTORY_TOKENS_FILE", tokens.to_str().unwrap().to_owned())]).await;
    let _worker = shop.worker().await;
    let report = shop.dir().join("schemathesis.xml");
    let mut command = schemathesis(&shop, &api).await;
    command.arg("--report-junit-path").arg(&report);
    // It leaves the token out too, and spoils it, and holds that neither is taken.
    command.arg("--header").arg(format!("Authorization: Bearer {SECRET}"));
    let output = command.output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "Schemathesis found faults, see above {}", String::from_utf8_lossy(&output.stderr));

    let report = std::fs::read_to_string(report).unwrap();
    let cases = report.split("<testcase name=\"").skip(1).filter(|case| !case.contains("<skipped"));
    let tested: BTreeSet<_> = cases.filter_map(|case| case.split('"').next()).filter(|name| *name != "Stateful tests").collect();
    // Each route of the table has its series, so the metrics name them all.
    let metrics = api.metrics().await;
    let series = metrics.lines().filter_map(|line| line.strip_prefix("inventory_http_request_duration_seconds_count{method=\""));
    let served: BTreeSet<_> = series.filter_map(|rest| rest.split("\"}").next()).map(|rest| rest.replace("\",route=\"", " ")).collect();
    assert_eq!(tested, served.iter().map(String::as_str).filter(|route| *route != "any unmatched").collect());
}

/// Values of an attribute in a page.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    page.split(&format!(" {name}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn the_page_of_the_documentation_needs_nothing_but_this_api() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let page = api.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    // Whatever a script may try, the browser holds it to this.
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for directive in policy.split("; ") {
        let (name, sources) = directive.split_once(' ').unwrap();
        for source in sources.split(' ') {
            let inline_style = (name, source) == ("style-src", "'unsafe-inline'");
            assert!(["'none'", "'self'", "data:"].contains(&source) || inline_style, "{directive}");
        }
    }
    let named = ["src", "href", "spec-url"].map(|name| attributes(&page.text, name)).concat();
    assert!(named.len() >= 3, "{named:?}");
    for path in named.into_iter().filter(|path| *path != "data:,") {
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    assert!(page.text.contains("load-fonts=\"false\"") && !page.text.contains("http"), "{}", page.text);
}

#[tokio::test]
async fn what_the_documentation_is_made_of_is_kept_by_clients_and_sent_packed() {
    let shop = Shop::start().await;
    let api = shop.api().await;
    let page = api.get("/docs").await.text;
    let script = attributes(&page, "src")[0];
    for (path, content_type, cache_control) in [
        ("/docs", "text/html; charset=utf-8", "no-cache"),
        ("/openapi.json", "application/json", "no-cache"),
        (script, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
    ] {
        let first = api.get(path).await;
        assert_eq!((first.status, first.header("content-type"), first.header("cache-control")), (200, content_type, cache_control));
        let again = Reply::to(api.request("GET", path).header("if-none-match", first.header("etag"))).await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", first.header("etag")), "{path}");
        assert_eq!(Reply::to(api.request("GET", path).header("if-none-match", "\"x\"")).await.status, 200, "{path}");
    }
    let plain = api.get(script).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "Accept-Encoding"));
    let packed = api.request("GET", script).header("accept-encoding", "br, gzip").send().await.unwrap();
    assert_eq!(
        (packed.headers()["content-encoding"].as_bytes(), packed.headers()["vary"].as_bytes()),
        (&b"gzip"[..], &b"Accept-Encoding"[..])
    );
    assert_ne!(packed.headers()["etag"].to_str().unwrap(), plain.header("etag"));
    let packed = packed.bytes().await.unwrap();
    let mut unpacked = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.text);
    assert!(packed.len() < 250_000, "{}", packed.len());
    api.get("/docs/rapidoc-0.0.0.min.js").await.problem(404, "unknown-route");
}
