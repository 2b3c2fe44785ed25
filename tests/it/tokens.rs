//! Who may call what: tokens and their scopes, the file they come from, and pages of other origins.

use harness::{Program, Reply, SOON, Shop, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use telemetry::scope::Scope;
use telemetry::tokens::Digest;

/// Method, path, its template, body, and what the route asks for.
type Route = (&'static str, &'static str, &'static str, &'static str, Option<Scope>);

const ROUTES: [Route; 23] = [
    ("GET", "/v1/products/1", "/v1/products/{id}", "", Some(Scope::CatalogRead)),
    ("GET", "/v1/products?ids=1", "/v1/products", "", Some(Scope::CatalogRead)),
    ("GET", "/v1/products/1/views", "/v1/products/{id}/views", "", Some(Scope::CatalogRead)),
    ("POST", "/v1/products", "/v1/products", r#"{"sku":"new","name":"n"}"#, Some(Scope::CatalogWrite)),
    ("PUT", "/v1/products/1/price", "/v1/products/{id}/price", r#"{"amount":"2.00","currency":"GBP"}"#, Some(Scope::PricesWrite)),
    (
        "POST",
        "/v1/prices/batch",
        "/v1/prices/batch",
        r#"{"items":[{"sku":"P1","amount":"2.00","currency":"GBP"}]}"#,
        Some(Scope::PricesWrite),
    ),
    ("GET", "/v1/products/1/stock", "/v1/products/{id}/stock", "", Some(Scope::StockRead)),
    ("PUT", "/v1/products/1/stock", "/v1/products/{id}/stock", r#"{"on_hand":7}"#, Some(Scope::StockWrite)),
    ("POST", "/v1/products/1/stock/adjustments", "/v1/products/{id}/stock/adjustments", r#"{"delta":1}"#, Some(Scope::StockWrite)),
    ("GET", "/v1/products/1/stock/movements", "/v1/products/{id}/stock/movements", "", Some(Scope::StockRead)),
    ("POST", "/v1/reservations", "/v1/reservations", r#"{"items":[{"product_id":1,"quantity":1}]}"#, Some(Scope::ReservationsWrite)),
    ("GET", "/v1/reservations/019aa8a2-4f3c-7c1e-9d5b-9a443c2d1e0f", "/v1/reservations/{id}", "", Some(Scope::ReservationsWrite)),
    (
        "POST",
        "/v1/reservations/019aa8a2-4f3c-7c1e-9d5b-9a443c2d1e0f/commit",
        "/v1/reservations/{id}/commit",
        "",
        Some(Scope::ReservationsWrite),
    ),
    (
        "POST",
        "/v1/reservations/019aa8a2-4f3c-7c1e-9d5b-9a443c2d1e10/release",
        "/v1/reservations/{id}/release",
        "",
        Some(Scope::ReservationsWrite),
    ),
    ("GET", "/v1/products/1/price", "/v1/products/{id}/price", "", Some(Scope::CatalogRead)),
    ("GET", "/v1/products/1/price-history", "/v1/products/{id}/price-history", "", Some(Scope::PricesWrite)),
    ("POST", "/v1/products/1/views", "/v1/products/{id}/views", "", Some(Scope::ViewsWrite)),
    ("POST", "/v1/views", "/v1/views", r#"{"events":[{"product_id":1}]}"#, Some(Scope::ViewsWrite)),
    ("GET", "/problems", "/problems", "", None),
    ("GET", "/problems/missing-token", "/problems/{slug}", "", None),
    ("GET", "/openapi.json", "/openapi.json", "", None),
    ("GET", "/docs", "/docs", "", None),
    ("GET", "/docs/rapidoc-9.3.8.min.js", "/docs/{file}", "", None),
];

/// Reservations that have ended; to ask for that again is answered as it was.
const SOLD: &str = "019aa8a2-4f3c-7c1e-9d5b-9a443c2d1e0f";
const FREED: &str = "019aa8a2-4f3c-7c1e-9d5b-9a443c2d1e10";

/// The secret of the token of that name.
fn secret(name: &str) -> String {
    format!("inv_secret-of-{name}")
}

pub(crate) fn entry(name: &str, scopes: &[Scope]) -> String {
    let (hash, scopes) = (Digest::of(secret(name).as_bytes()).hex(), scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>());
    format!("[[token]]\nname = \"{name}\"\nscopes = {scopes:?}\nsha256 = \"{hash}\"\n")
}

/// A token for each scope, named like it, one with all of them, and one for web pages.
fn one_of_each() -> String {
    let each: String = Scope::ALL.iter().map(|scope| entry(scope.as_str(), &[*scope])).collect();
    each + &entry("all", &Scope::ALL) + &entry("page", &[Scope::ViewsWrite]) + "publishable = true\n"
}

/// Writes the tokens file of a shop, and gives the setting that names it.
pub(crate) fn tokens_file(shop: &Shop, text: &str) -> (&'static str, String) {
    let file: PathBuf = shop.dir().join("tokens.toml");
    std::fs::write(&file, text).unwrap();
    ("INVENTORY_TOKENS_FILE", file.to_str().unwrap().to_owned())
}

fn authorized(request: reqwest::RequestBuilder, name: &str) -> reqwest::RequestBuilder {
    request.bearer_auth(secret(name))
}

fn to((method, path, _, body, _): Route, api: &Program) -> reqwest::RequestBuilder {
    let request = match (method, path) {
        ("PUT", "/v1/products/1/stock") => api.request(method, path).header("if-match", "*"),
        ("POST", "/v1/products/1/stock/adjustments" | "/v1/reservations") => api.request(method, path).header("idempotency-key", "k"),
        _ => api.request(method, path),
    };
    if body.is_empty() { request } else { request.header("content-type", "application/json").body(body) }
}

fn label<'a>(series: &'a str, name: &str) -> &'a str {
    series.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap()
}

/// Methods and templates that the metrics know.
fn counted(metrics: &str) -> BTreeSet<(&str, &str)> {
    let series = metrics.lines().filter(|line| line.starts_with("inventory_http_requests_total{"));
    series.map(|series| (label(series, "method"), label(series, "route"))).collect()
}

#[tokio::test]
async fn every_route_is_for_those_who_have_its_scope_and_nobody_else() {
    let shop = Shop::start().await;
    shop.products(1).await;
    shop.run(&format!(
        "INSERT INTO reservations (id, state, expires_at) VALUES ('{SOLD}', 'committed', NOW()), ('{FREED}', 'released', NOW())"
    ))
    .await;
    shop.run(&format!("INSERT INTO reservation_items VALUES ('{SOLD}', 1, 1), ('{FREED}', 1, 1)")).await;
    let api = shop.api_with(&[tokens_file(&shop, &one_of_each())]).await;
    let metrics = api.metrics().await;
    let listed = ROUTES.iter().map(|(method, _, template, ..)| (*method, *template)).chain([("any", "unmatched")]).collect();
    assert_eq!(counted(&metrics), listed, "a route is missing here");

    for route @ (method, path, _, _, needed) in ROUTES {
        let sent = async |name: Option<&str>| {
            let request = to(route, &api);
            Reply::to(if let Some(name) = name { authorized(request, name) } else { request }).await
        };
        let Some(needed) = needed else {
            for name in [None, Some("nobody"), Some("admin")] {
                assert_eq!(sent(name).await.status, 200, "{method} {path} as {name:?}");
            }
            continue;
        };
        let missing = sent(None).await;
        missing.problem(401, "missing-token");
        assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"inventory\"");
        let unknown = sent(Some("nobody")).await;
        unknown.problem(401, "invalid-token");
        assert_eq!(unknown.header("www-authenticate"), "Bearer realm=\"inventory\", error=\"invalid_token\"");
        for scope in Scope::ALL {
            let answer = sent(Some(scope.as_str())).await;
            if scope == needed {
                assert!((200..300).contains(&answer.status), "{method} {path} as {scope}: {answer:?}");
            } else {
                let problem = answer.problem(403, "missing-scope");
                assert_eq!(problem["detail"], format!("the token lacks the scope {needed}"), "{method} {path} as {scope}");
                assert!(answer.header("www-authenticate").ends_with(&format!("scope=\"{needed}\"")), "{answer:?}");
            }
        }
    }
    for (name, status) in [("nobody", 401), ("views:write", 403), ("catalog:read", 200)] {
        let head = Reply::to(authorized(api.request("HEAD", "/v1/products/1"), name)).await;
        assert_eq!(head.status, status, "HEAD as {name}");
    }
    let refused = |status| format!("inventory_http_requests_total{{method=\"GET\",route=\"/v1/products/{{id}}\",status=\"{status}\"}}");
    assert_eq!((api.metric(&refused(401)).await, api.metric(&refused(403)).await), (3.0, 9.0));
}

/// Routes of the API's ops listener for operators; one guard stands before all of `/v1/admin`.
const ADMIN: [(&str, &str, &str); 16] = [
    ("GET", "/v1/admin/queue", ""),
    ("POST", "/v1/admin/queue/pause", ""),
    ("POST", "/v1/admin/queue/resume", ""),
    ("POST", "/v1/admin/queue/flush", ""),
    ("GET", "/v1/admin/dead-letters", ""),
    ("POST", "/v1/admin/dead-letters/replay", r#"{"all":true}"#),
    ("POST", "/v1/admin/dead-letters/drop", r#"{"all":true}"#),
    ("POST", "/v1/admin/cache/invalidate", r#"{"all":true}"#),
    ("GET", "/v1/admin/products/lookup?id=1", ""),
    ("GET", "/v1/admin/checks", ""),
    ("POST", "/v1/admin/checks", ""),
    ("GET", "/v1/admin/system", ""),
    ("GET", "/v1/admin/doctor", ""),
    ("GET", "/v1/admin/stock", ""),
    ("GET", "/v1/admin/reservations", ""),
    ("GET", "/v1/admin/nothing", ""),
];

#[tokio::test]
async fn admin_routes_are_for_operators_and_health_is_for_everybody() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let (api, worker) = (shop.api_with(&[tokens_file(&shop, &one_of_each())]).await, shop.worker().await);
    for (method, path, body) in ADMIN {
        let sent = async |name: Option<&str>| {
            let request = shop.client.request(method.parse().unwrap(), format!("{}{path}", api.ops)).body(body);
            let request = if body.is_empty() { request } else { request.header("content-type", "application/json") };
            Reply::to(if let Some(name) = name { authorized(request, name) } else { request }).await
        };
        sent(None).await.problem(401, "missing-token");
        sent(Some("nobody")).await.problem(401, "invalid-token");
        for scope in Scope::ALL {
            let answer = sent(Some(scope.as_str())).await;
            match (scope, path) {
                (Scope::Admin, "/v1/admin/nothing") => drop(answer.problem(404, "unknown-route")),
                (Scope::Admin, _) => assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}"),
                _ => assert_eq!(
                    answer.problem(403, "missing-scope")["detail"],
                    "the token lacks the scope admin",
                    "{method} {path} as {scope}"
                ),
            }
        }
    }
    for program in [&api, &worker] {
        for path in ["/livez", "/readyz", "/version", "/metrics"] {
            let answer = Reply::to(shop.client.get(format!("{}{path}", program.ops))).await;
            assert_eq!(answer.status, 200, "{path} of a loopback listener");
        }
    }
}

#[tokio::test]
async fn a_key_in_the_url_is_taken_for_views_alone_and_only_if_it_is_publishable() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let api = shop.api_with(&[tokens_file(&shop, &one_of_each())]).await;
    for route @ (method, path, _, _, needed) in ROUTES {
        let with_key = async |name: &str| Reply::to(to(route, &api).query(&[("k", secret(name))])).await;
        let page = with_key("page").await;
        match (method, needed) {
            (_, None) => assert_eq!(page.status, 400, "{path} has no parameter"),
            ("POST", Some(Scope::ViewsWrite)) => {
                assert_eq!(page.status, 202, "{method} {path}");
                for name in ["views:write", "all", "nobody"] {
                    with_key(name).await.problem(401, "invalid-token");
                }
                let other = Reply::to(authorized(to(route, &api), "page")).await;
                assert_eq!(other.status, 202, "a header does as well");
            }
            _ => {
                page.problem(401, "missing-token");
                with_key("all").await.problem(401, "missing-token");
            }
        }
    }
}

#[tokio::test]
async fn whoever_may_not_call_is_told_so_before_anything_else_is_looked_at() {
    let shop = Shop::start().await;
    let api = shop.api_with(&[tokens_file(&shop, &one_of_each())]).await;
    for (method, path, body) in [
        ("PUT", "/v1/products/x/price", "{"),
        ("GET", "/v1/products/0", ""),
        ("GET", "/v1/products?limit=x&limit=y", ""),
        ("POST", "/v1/products", "\u{0}"),
    ] {
        api.send(method, path, body).await.problem(401, "missing-token");
    }
    let unsent = "POST /v1/products HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n";
    let started = std::time::Instant::now();
    let early = Reply::to_bytes_held_open(&api.url, format!("{unsent}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    early.problem(401, "missing-token");
    assert!(started.elapsed().as_secs() < 5, "the body was waited for");

    api.get("/v1/nothing").await.problem(404, "unknown-route");
    Reply::to(api.request("DELETE", "/v1/products/1")).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn tokens_come_and_go_at_sighup_and_a_bad_file_changes_nothing() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let (old, new) = (entry("old", &[Scope::CatalogRead, Scope::MetricsRead]), entry("new", &[Scope::CatalogRead, Scope::MetricsRead]));
    let setting = tokens_file(&shop, &old);
    let everywhere = |name| (name, format!("0.0.0.0:{}", servers::free_port().unwrap()));
    let mut api = shop.api_with(&[setting.clone(), everywhere("INVENTORY_API_OPS_LISTEN")]).await;
    let mut worker = shop.worker_with(&[setting, everywhere("INVENTORY_WORKER_OPS_LISTEN")]).await;
    let product = async |api: &Program, name: &str| Reply::to(authorized(api.request("GET", "/v1/products/1"), name)).await.status;
    let metrics = async |program: &Program, name: &str| {
        let request = shop.client.get(format!("{}/metrics", program.ops));
        authorized(request, name).send().await.unwrap().status()
    };
    assert_eq!((product(&api, "old").await, product(&api, "new").await), (200, 401));

    for bad in [String::new(), format!("{new}[[token]]\nname = \"x\"\n")] {
        tokens_file(&shop, &bad);
        for program in [&mut api, &mut worker] {
            let told = |log: String| log.matches("the old tokens stay").count();
            let before = told(program.log());
            program.signal("HUP");
            eventually("the fault is told", SOON, async || (told(program.log()) > before).then_some(())).await;
            assert_eq!(metrics(program, "old").await, StatusCode::OK);
            assert_eq!(metrics(program, "new").await, StatusCode::UNAUTHORIZED);
        }
        assert_eq!((product(&api, "old").await, product(&api, "new").await), (200, 401));
    }
    assert!(api.log().contains("tokens.toml line 5: scopes is missing; line 5: sha256 is missing"), "{}", api.log());

    tokens_file(&shop, &(new + &entry("more", &[Scope::Admin])));
    for program in [&mut api, &mut worker] {
        program.signal("HUP");
        eventually("the new token is known", SOON, async || (metrics(program, "new").await == StatusCode::OK).then_some(())).await;
        assert_eq!(metrics(program, "old").await, StatusCode::UNAUTHORIZED);
        let lines: Vec<Value> = program.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = |tokens: u64| lines.iter().any(|line| line["level"] == "INFO" && line["tokens"] == tokens);
        assert!(told(1) && told(2), "{}", program.log());
    }
    assert_eq!((product(&api, "old").await, product(&api, "new").await), (401, 200));
}

#[tokio::test]
async fn a_tokens_file_with_a_fault_refuses_the_start_and_tells_line_and_reason() {
    let shop = Shop::start().await;
    let good = entry("till", &[Scope::CatalogRead]);
    let hash = Digest::of(secret("till").as_bytes()).hex();
    let changed = |from: &str, to: &str| good.replacen(from, to, 1);
    let of = |secret: &str| Digest::of(secret.as_bytes()).hex();
    for (text, said) in [
        (changed("name", "nam"), "line 2: unknown key; did you mean name?"),
        (changed("catalog:read", "catalogue:read"), "line 3: scopes: no such scope; did you mean catalog:read?"),
        (changed("\"catalog:read\"", ""), "line 3: scopes is empty"),
        (changed(&hash, "abc"), "line 4: sha256 must be"),
        (changed(&hash, &of("")), "line 4: sha256 is that of an empty or easily guessed secret"),
        (changed(&hash, &of("changeme")), "line 4: sha256 is that of an empty or easily guessed secret"),
        (format!("{good}{}", changed(&hash, &of("x"))), "line 6: another token has this name"),
        (format!("{good}{}", changed("till", "other")), "line 8: the token till has the same secret"),
        (format!("{good}publishable = true\n"), "line 5: a publishable token may be seen by everybody"),
        (changed("\"till\"", "till"), "line 2: not TOML"),
        (String::new(), "it has no [[token]]"),
        (" ".repeat(256 * 1024 + 1), "is longer than 262144 bytes"),
    ] {
        let setting = tokens_file(&shop, &text);
        for mut program in [shop.api_starting(std::slice::from_ref(&setting)).await, shop.worker_starting(&[setting]).await] {
            let (code, log) = program.ended().await;
            assert_eq!(code, Some(1), "{log}");
            assert!(
                log.contains("INVENTORY_TOKENS_FILE") && log.contains("tokens.toml") && log.contains(said),
                "{said} is missing in {log}"
            );
            assert!(!log.contains(&hash) && !log.contains(&of("changeme")), "{log}");
        }
    }
    let nowhere = shop.dir().join("none.toml").to_str().unwrap().to_owned();
    let (code, log) = shop.api_starting(&[("INVENTORY_TOKENS_FILE", nowhere)]).await.ended().await;
    assert!(code == Some(1) && log.contains("cannot read") && log.contains("none.toml"), "{log}");
}

#[tokio::test]
async fn listeners_are_open_to_others_only_where_tokens_are_asked_for() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let everywhere = |name| (name, format!("0.0.0.0:{}", servers::free_port().unwrap()));
    for mut program in [
        shop.api_starting(&[everywhere("INVENTORY_API_LISTEN")]).await,
        shop.api_starting(&[everywhere("INVENTORY_API_OPS_LISTEN")]).await,
        shop.worker_starting(&[everywhere("INVENTORY_WORKER_OPS_LISTEN")]).await,
    ] {
        let (code, log) = program.ended().await;
        assert!(code == Some(1) && log.contains("refused without tokens; set INVENTORY_TOKENS_FILE, or use 127.0.0.1:"), "{log}");
    }
    let tokens = tokens_file(&shop, &one_of_each());
    let api = shop.api_with(&[tokens.clone(), everywhere("INVENTORY_API_LISTEN"), everywhere("INVENTORY_API_OPS_LISTEN")]).await;
    let worker = shop.worker_with(&[tokens.clone(), everywhere("INVENTORY_WORKER_OPS_LISTEN")]).await;
    assert_eq!(Reply::to(authorized(api.request("GET", "/v1/products/1"), "catalog:read")).await.status, 200);
    for program in [&api, &worker] {
        for path in ["/livez", "/readyz", "/version"] {
            assert_eq!(program.get_ops(path).await.status, 200, "{path}");
        }
        program.get_ops("/metrics").await.problem(401, "missing-token");
        let metrics = async |name: &str| Reply::to(authorized(shop.client.get(format!("{}/metrics", program.ops)), name)).await;
        metrics("nobody").await.problem(401, "invalid-token");
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::MetricsRead) {
            metrics(scope.as_str()).await.problem(403, "missing-scope");
        }
        assert_eq!(metrics("metrics:read").await.status, 200);
    }
    let loopback = shop.api_with(&[tokens]).await;
    assert_eq!(loopback.get_ops("/metrics").await.status, 200, "nobody is asked on loopback");
}

#[tokio::test]
async fn a_price_keeps_the_name_of_who_set_it_and_so_does_the_log_but_never_the_secret() {
    let mut shop = Shop::start().await;
    let tokens = tokens_file(&shop, &one_of_each());
    let trace = ("INVENTORY_LOG", "trace".to_owned());
    let (api, worker) = (shop.api_with(&[tokens.clone(), trace.clone()]).await, shop.worker_with(&[tokens, trace]).await);
    let send =
        async |method: &str, path: &str, body: Value, name: &str| Reply::to(authorized(api.request(method, path).json(&body), name)).await;
    let price = |amount: &str| json!({"amount": amount, "currency": "GBP"});
    let made = send("POST", "/v1/products", json!({"sku": "a", "name": "n", "price": price("1.00")}), "all").await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_u64().unwrap();
    let set = send("PUT", &format!("/v1/products/{id}/price"), price("2.00"), "prices:write").await;
    assert_eq!(set.status, 200, "{set:?}");
    let actors: Vec<Option<String>> = shop.rows("SELECT actor FROM price_history ORDER BY id").await;
    assert_eq!(actors, [Some("all".to_owned()), Some("prices:write".to_owned())]);
    let open = shop.api().await;
    assert_eq!(open.put_price(id, "3.00").await.status, 200);
    assert_eq!(shop.number("SELECT COUNT(*) FROM price_history WHERE actor IS NULL").await, 1);

    let view = format!("/v1/products/{id}/views");
    assert_eq!(Reply::to(api.request("POST", &view).query(&[("k", secret("page"))])).await.status, 202);
    assert_eq!(Reply::to(api.request("POST", &view).query(&[("k", secret("views:write"))])).await.status, 401);
    shop.redis.kill();
    for (request, id) in [(authorized(api.request("POST", &view), "all"), "by-header"), (api.request("POST", &view), "by-key")] {
        let failed = Reply::to(request.query(&[("k", secret("page"))]).header("x-request-id", id)).await;
        assert_eq!(failed.status, 503, "{failed:?}");
    }
    let log = api.log();
    let line = |id: &str| -> Value {
        let line = log.lines().find(|line| line.contains(&format!("\"request_id\":\"{id}\"")));
        serde_json::from_str(line.unwrap_or_else(|| panic!("{id} is not in {log}"))).unwrap()
    };
    assert_eq!((&line("by-header")["token"], &line("by-key")["token"]), (&json!("all"), &json!("page")));
    for log in [log, worker.log()] {
        assert!(log.contains("TRACE") && !log.contains("secret-of"), "a secret is in the log");
        assert!(!log.contains(&Digest::of(secret("all").as_bytes()).hex()), "a hash is in the log");
    }
}

#[tokio::test]
async fn a_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let shop = Shop::start().await;
    let setting = tokens_file(&shop, &one_of_each());
    for (mode, warned) in [(0o640, false), (0o644, true)] {
        std::fs::set_permissions(&setting.1, std::fs::Permissions::from_mode(mode)).unwrap();
        let api = shop.api_with(std::slice::from_ref(&setting)).await;
        assert_eq!(api.log().contains("can be used by every user of this machine"), warned, "{mode:o}: {}", api.log());
    }
}

#[tokio::test]
async fn a_token_of_the_command_line_is_let_in_by_the_file_it_makes() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let new = async |more: &[&str]| shop.ctl(None, &[&["token", "new", "--name", "till", "-o", "json"], more].concat()).await;
    let made = new(&["--scopes", "catalog:read,prices:write"]).await.json(0);
    let (secret, entry) = (made["secret"].as_str().unwrap(), made["toml"].as_str().unwrap());
    assert!(secret.starts_with("inv_") && !entry.contains(secret), "{made}");
    let api = shop.api_with(&[tokens_file(&shop, entry)]).await;
    let get = async |more: &[&str]| shop.ctl(Some(&api), &[&["product", "get", "P1", "-o", "json"], more].concat()).await;
    assert_eq!(get(&["--token", secret]).await.json(0)["sku"], "P1");
    assert_eq!(get(&[]).await.code, Some(6));

    let table = shop.ctl(None, &["token", "new", "--name", "page", "--scopes", "views:write", "--publishable"]).await;
    assert_eq!(table.code, Some(0), "{table:?}");
    let key = table.stderr.lines().find_map(|line| line.strip_prefix("the secret: ")).unwrap();
    assert!(!table.stdout.contains(key), "what is appended to the file holds no secret: {table:?}");
    let api = shop.api_with(&[tokens_file(&shop, &table.stdout)]).await;
    assert_eq!(Reply::to(api.request("POST", &format!("/v1/products/1/views?k={key}"))).await.status, 202);

    for (arguments, said) in [
        (["--scopes", "price:write"].as_slice(), "did you mean prices:write?"),
        (&["--scopes", "catalog:read", "--publishable"], "its only scope is views:write"),
        (&["--scopes", "admin", "--name", ""], "--name"),
        (&[], "--scopes"),
    ] {
        let refused = new(arguments).await;
        assert!(refused.code == Some(2) && refused.stderr.contains(said) && refused.stdout.is_empty(), "{arguments:?}: {refused:?}");
    }
}
