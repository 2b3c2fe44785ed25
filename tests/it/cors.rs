//! Which web pages of other origins may call the API, and what they are let read.

use harness::{Reply, Shop};
use telemetry::tokens::Digest;

const KEY: &str = "inv_key-of-a-page";

const TOKEN: &str = "inv_token-of-a-reader";

/// Writes a tokens file with both, and gives the setting that names it.
fn tokens_file(shop: &Shop) -> (&'static str, String) {
    let entry = |secret: &str, scope: &str| {
        let hash = Digest::of(secret.as_bytes()).hex();
        format!("[[token]]\nname = \"{scope}\"\nscopes = [\"{scope}\"]\nsha256 = \"{hash}\"\n")
    };
    let file = shop.dir().join("tokens.toml");
    std::fs::write(&file, entry(TOKEN, "catalog:read") + &entry(KEY, "views:write") + "publishable = true\n").unwrap();
    ("INVENTORY_TOKENS_FILE", file.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn pages_of_the_origins_that_were_named_may_read_answers_and_others_may_not() {
    let shop = Shop::start().await;
    shop.products(1).await;
    let origins = ("INVENTORY_CORS_ORIGINS", "https://shop.example,http://localhost:3000".to_owned());
    let api = shop.api_with(&[tokens_file(&shop), origins]).await;
    let from = |request: reqwest::RequestBuilder, origin: &str| request.header("origin", origin);
    let preflight = async |origin: &str, method: &str, headers: &str| {
        let request = from(api.request("OPTIONS", "/v1/products/1/price"), origin);
        let request = request.header("access-control-request-method", method).header("access-control-request-headers", headers);
        Reply::to(request).await
    };
    let sent = "authorization, content-type, if-none-match, if-match, idempotency-key, x-request-id";
    for origin in ["https://shop.example", "http://localhost:3000"] {
        let allowed = preflight(origin, "PUT", sent).await;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, origin), "{allowed:?}");
        assert!(
            allowed.header("access-control-allow-methods").contains("PUT") && !allowed.header("x-request-id").is_empty(),
            "{allowed:?}"
        );
        assert!(allowed.header("vary").to_lowercase().contains("origin"), "{allowed:?}");

        let read = Reply::to(from(api.request("GET", "/v1/products/1"), origin).bearer_auth(TOKEN)).await;
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, origin));
        let exposed = read.header("access-control-expose-headers").to_lowercase();
        assert!(["etag", "location", "retry-after", "x-request-id", "cache-status"].iter().all(|name| exposed.contains(name)), "{exposed}");
        let refused = Reply::to(from(api.request("GET", "/v1/products/1"), origin)).await;
        refused.problem(401, "missing-token");
        assert_eq!(refused.header("access-control-allow-origin"), origin, "a page may read why it was refused");
        assert_eq!(refused.header("access-control-allow-credentials"), "");

        let beacon = from(api.request("POST", "/v1/views"), origin).query(&[("k", KEY)]).header("content-type", "text/plain");
        let beacon = Reply::to(beacon.body(r#"{"events":[{"product_id":1}]}"#)).await;
        assert_eq!((beacon.status, beacon.header("access-control-allow-origin")), (202, origin));
    }
    for (origin, method, headers) in [
        ("https://other.example", "PUT", "content-type"),
        ("null", "PUT", "content-type"),
        ("https://shop.example", "TRACE", "content-type"),
        ("https://shop.example", "PUT", "x-other"),
    ] {
        let refused = preflight(origin, method, headers).await;
        refused.problem(400, "bad-request");
        assert_eq!(refused.header("access-control-allow-origin"), "", "{origin} {method} {headers}");
    }
    let foreign = from(api.request("GET", "/v1/products/1"), "https://other.example").bearer_auth(TOKEN);
    assert_eq!(Reply::to(foreign).await.header("access-control-allow-origin"), "");
    let count = |status| format!("inventory_http_requests_total{{method=\"OPTIONS\",route=\"preflight\",status=\"{status}\"}}");
    assert_eq!((api.metric(&count(200)).await, api.metric(&count(400)).await), (2.0, 4.0));

    let off = shop.api().await;
    let request = from(off.request("OPTIONS", "/v1/products/1"), "https://shop.example").header("access-control-request-method", "GET");
    Reply::to(request).await.problem(405, "method-not-allowed");
    let read = Reply::to(from(off.request("GET", "/v1/products/1"), "https://shop.example")).await;
    assert_eq!((read.status, read.header("access-control-allow-origin"), read.header("vary")), (200, "", ""));
}

#[tokio::test]
async fn an_origin_that_no_browser_sends_refuses_the_start() {
    let shop = Shop::start().await;
    for (value, said) in [
        ("https://shop.example/", "write https://shop.example"),
        ("shop.example", "write scheme, host and perhaps a port"),
        ("https://shop.example,*", "* allows all origins, so it stands alone"),
    ] {
        let (code, log) = shop.api_starting(&[("INVENTORY_CORS_ORIGINS", value.to_owned())]).await.ended().await;
        assert!(code.is_some_and(|code| code != 0) && log.contains(said) && log.contains("--cors-origins"), "{value}: {log}");
    }
    shop.products(1).await;
    let api = shop.api_with(&[("INVENTORY_CORS_ORIGINS", "*".to_owned())]).await;
    let read = Reply::to(api.request("GET", "/v1/products/1").header("origin", "https://any.example")).await;
    assert_eq!(read.header("access-control-allow-origin"), "*");
}
