//! The HTTP API as this program calls it.
//!
//! Promises one connection for each client that is kept open between calls, and that an
//! answer which never came is told apart from one that did. Sends nothing twice, but changes of stock: `stock.rs`.

mod stock;

use crate::exit::{Exit, Failure, chain};
use domain::{Money, ProductId, Sku};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, IF_MATCH, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use telemetry::config::masked_url;
use uuid::Uuid;

pub(crate) use stock::{Count, Reply};

/// Twice the time limit that the API sets itself, so that its own 503 comes first.
const TIMEOUT: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Below the 5 s after which the server closes an idle connection: a request must not meet that moment.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// What one call of the API takes at most.
pub(crate) const MAX_SKUS: usize = 100;

/// Products of one page of the list at most.
pub(crate) const MAX_PAGE: u64 = 500;

/// What came back of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Status {
        status: StatusCode,
        retry_after: Option<Duration>,
        body: String,
    },
    /// Nothing came, so whether the call took effect is unknown.
    Nothing(String),
}

/// One API process, called over one connection.
pub(crate) struct ApiClient {
    base: String,
    /// `base` without its password, for messages.
    place: String,
    http: Client,
}

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct Page {
    /// Word for word.
    pub(crate) data: Vec<Box<RawValue>>,
    /// Where the next one begins; none behind the last.
    pub(crate) next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    data: Vec<FoundProduct>,
}

#[derive(Deserialize)]
struct FoundProduct {
    id: u64,
    sku: String,
}

impl ApiClient {
    /// Makes the client; the connection is opened by the first call.
    ///
    /// # Errors
    /// `url` is not `http://…`, it names a user beside a token, or the token cannot stand in a header.
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<Self, Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message);
        let place = masked_url(url.trim_end_matches('/'));
        let parsed = reqwest::Url::parse(url).map_err(|fault| usage(format!("API address {place:?}: {fault}")))?;
        if parsed.scheme() != "http" {
            return Err(usage(format!("API address {place:?}: only http:// is supported, such as http://127.0.0.1:8080")));
        }
        if token.is_some() && (!parsed.username().is_empty() || parsed.password().is_some()) {
            let cure = "a request carries one of both: leave out the user of --url or the token";
            return Err(usage(format!("API address {place:?} names a user, and there is a token (--token, INVENTORY_TOKEN); {cure}")));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut bearer = bearer.map_err(|_| usage("the token has characters that no header can carry".into()))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let http = Client::builder()
            .no_proxy()
            .default_headers(headers)
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|fault| Failure::doing("making the HTTP client", &fault))?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), place, http })
    }

    /// A page of at most `limit` products.
    ///
    /// # Errors
    /// Not allowed, unreachable, or an answer of another form.
    pub(crate) async fn page(&self, limit: u64, cursor: Option<&str>, updated_since: Option<&str>) -> Result<Page, Failure> {
        let limit = limit.to_string();
        let given = [("limit", Some(limit.as_str())), ("cursor", cursor), ("updated_since", updated_since)];
        let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let body = self.get(self.request(Method::GET, "/v1/products").query(&query)).await?;
        self.parsed(&body)
    }

    /// A page of at most `limit` prices that a product had, the latest first.
    ///
    /// # Errors
    /// No such product, not allowed, unreachable, or an answer of another form.
    pub(crate) async fn price_history(&self, id: ProductId, limit: u64, cursor: Option<&str>) -> Result<Page, Failure> {
        self.page_of(&format!("/v1/products/{id}/price-history"), limit, cursor).await
    }

    async fn page_of(&self, path: &str, limit: u64, cursor: Option<&str>) -> Result<Page, Failure> {
        let limit = limit.to_string();
        let query: Vec<_> =
            [("limit", Some(limit.as_str())), ("cursor", cursor)].into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let body = self.get(self.request(Method::GET, path).query(&query)).await?;
        self.parsed(&body)
    }

    /// The views of a product, word for word; `window` is the query.
    ///
    /// # Errors
    /// No such product, not allowed, unreachable, a window that cannot be.
    pub(crate) async fn view_counts(&self, id: ProductId, window: &[(&str, &str)]) -> Result<String, Failure> {
        self.get(self.request(Method::GET, &format!("/v1/products/{id}/views")).query(window)).await
    }

    /// POSTs `count` views of a product and expects them to be accepted.
    ///
    /// # Errors
    /// No such product, not allowed, unreachable; then whether they were counted may be unknown.
    pub(crate) async fn send_views(&self, id: ProductId, count: u32, event: Option<Uuid>) -> Result<(), Failure> {
        let request = self.request(Method::POST, &format!("/v1/products/{id}/views"));
        let body = match event {
            Some(event) => json!({"count": count, "id": event.to_string()}),
            None => json!({"count": count}),
        };
        self.get(request.json(&body)).await.map(drop)
    }

    /// PUTs a price and expects it to be set, only over the version `over` where one is given; the answer word for word.
    ///
    /// # Errors
    /// No such product, another version, not allowed, unreachable; then whether it was set may be unknown.
    pub(crate) async fn set_price(&self, id: ProductId, price: Money, reason: Option<&str>, over: Option<u64>) -> Result<String, Failure> {
        let request = self.price_request(id, price, reason);
        let request = over.into_iter().fold(request, |request, version| request.header(IF_MATCH, format!("\"{version}\"")));
        self.get(request).await
    }

    fn price_request(&self, id: ProductId, price: Money, reason: Option<&str>) -> RequestBuilder {
        let body = json!({"amount": price.amount_text(), "currency": price.currency().code(), "reason": reason});
        self.request(Method::PUT, &format!("/v1/products/{id}/price")).json(&body)
    }

    /// POSTs one view.
    pub(crate) async fn view(&self, id: ProductId) -> Answer {
        self.answer(self.request(Method::POST, &format!("/v1/products/{id}/views"))).await
    }

    /// PUTs a price.
    pub(crate) async fn put_price(&self, id: ProductId, price: Money, reason: &str) -> Answer {
        self.answer(self.price_request(id, price, Some(reason))).await
    }

    /// The product as the API answers it, word for word.
    ///
    /// # Errors
    /// No such product, not allowed, unreachable.
    pub(crate) async fn product(&self, id: ProductId) -> Result<String, Failure> {
        self.get(self.request(Method::GET, &format!("/v1/products/{id}"))).await
    }

    /// Several products as JSON objects (at most 100 ids).
    ///
    /// # Errors
    /// Not allowed, unreachable, or an answer of another form.
    pub(crate) async fn products(&self, ids: &[ProductId]) -> Result<Vec<Value>, Failure> {
        #[derive(Deserialize)]
        struct Several {
            data: Vec<Value>,
        }
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let body = self.get(self.request(Method::GET, "/v1/products").query(&[("ids", ids.join(","))])).await?;
        let several: Several = self.parsed(&body)?;
        Ok(several.data)
    }

    /// The ids of those SKUs that the catalogue has (at most 100 SKUs).
    ///
    /// # Errors
    /// Not allowed, unreachable, or an answer of another form.
    pub(crate) async fn find_ids(&self, skus: &[Sku]) -> Result<HashMap<Sku, ProductId>, Failure> {
        let skus: Vec<_> = skus.iter().map(Sku::as_str).collect();
        let body = self.get(self.request(Method::GET, "/v1/products").query(&[("skus", skus.join(","))])).await?;
        let found: Found = self.parsed(&body)?;
        let pair = |product: FoundProduct| {
            let id = ProductId::new(product.id).map_err(|fault| self.odd(&fault.to_string()))?;
            Ok((Sku::stored(product.sku), id))
        };
        found.data.into_iter().map(pair).collect()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn answer(&self, request: RequestBuilder) -> Answer {
        match received(request).await {
            Ok((status, retry_after, body)) => Answer::Status { status, retry_after, body },
            Err(fault) => Answer::Nothing(self.unanswered(&fault.without_url())),
        }
    }

    async fn get(&self, request: RequestBuilder) -> Result<String, Failure> {
        match self.answer(request).await {
            Answer::Status { status, body, .. } if status.is_success() => Ok(body),
            Answer::Status { status, body, .. } => Err(Failure::new(exit_of(status), problem(status, &body))),
            Answer::Nothing(why) => Err(Failure::new(Exit::Unreachable, why)),
        }
    }

    fn unanswered(&self, fault: &reqwest::Error) -> String {
        let hint = "is inventory-api running, and is this its address? (--url, INVENTORY_URL)";
        format!("no answer from {}: {}; {hint}", self.place, chain(fault))
    }

    /// What an answer says in the form that is expected of it.
    ///
    /// # Errors
    /// It has another form.
    pub(crate) fn parsed<'a, T: Deserialize<'a>>(&self, body: &'a str) -> Result<T, Failure> {
        serde_json::from_str(body).map_err(|fault| self.odd(&fault.to_string()))
    }

    fn odd(&self, fault: &str) -> Failure {
        Failure::new(Exit::Failure, format!("{} does not answer like an inventory API: {fault}", self.place))
    }
}

async fn received(request: RequestBuilder) -> reqwest::Result<(StatusCode, Option<Duration>, String)> {
    let response = request.send().await?;
    let (status, retry_after) = (response.status(), retry_after(&response));
    Ok((status, retry_after, response.text().await?))
}

/// The wait in seconds; the API never sends the form with a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What a problem document says, or the bare status.
pub(crate) fn problem(status: StatusCode, body: &str) -> String {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let text = said["detail"].as_str().or(said["title"].as_str()).unwrap_or("no further word");
    let faults = said["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fault = |fault: &Value| Some(format!("; {} {}", fault["pointer"].as_str()?, fault["detail"].as_str()?));
    let faults: String = faults.iter().filter_map(fault).collect();
    format!("the API answered {status}: {text}{faults}")
}

fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Exit::NotFound,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED => Exit::Conflict,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NotAllowed,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Exit::Unreachable,
        _ => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_the_exit_code_of_the_contract() {
        let codes = [404, 409, 412, 401, 403, 503, 422, 500].map(|code| exit_of(StatusCode::from_u16(code).unwrap()) as u8);
        assert_eq!(codes, [4, 5, 5, 6, 6, 7, 1, 1]);
    }

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        let told = |body| problem(StatusCode::NOT_FOUND, body);
        assert_eq!(told(r#"{"title":"Not found","detail":"no product 42"}"#), "the API answered 404 Not Found: no product 42");
        assert_eq!(told(r#"{"title":"Not found"}"#), "the API answered 404 Not Found: Not found");
        let faults = r#"{"detail":"the body has a fault","errors":[{"pointer":"/reason","detail":"is too long"}]}"#;
        assert_eq!(told(faults), "the API answered 404 Not Found: the body has a fault; /reason is too long");
        assert_eq!(told("<html>"), "the API answered 404 Not Found: no further word");
    }

    #[test]
    fn an_address_that_cannot_work_is_a_usage_error() {
        for url in ["127.0.0.1:8080", "https://shop.example", "", "ftp://x"] {
            assert_eq!(ApiClient::new(url, None).err().map(|failure| failure.exit), Some(Exit::Usage), "{url}");
        }
        assert!(ApiClient::new("http://127.0.0.1:8080/", Some("secret")).is_ok());
        assert!(ApiClient::new("http://127.0.0.1:8080/", Some("a\nb")).is_err());
    }

    #[tokio::test]
    async fn the_password_of_an_address_is_in_no_message() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://shop:p4ss@{free}/");
        for (url, token) in [("https://shop:p4ss@h", None), ("http://shop:p4ss@h:port", None), ("shop:p4ss@h", None), (&url, Some("t"))] {
            let failure = ApiClient::new(url, token).err().unwrap();
            assert_eq!(failure.exit, Exit::Usage, "{failure:?}");
            assert!(failure.message.contains("shop:***@") && !failure.message.contains("p4ss"), "{failure:?}");
        }
        let client = ApiClient::new(&url, None).unwrap();
        let unanswered = client.product(ProductId::new(1).unwrap()).await.unwrap_err();
        for message in [unanswered.message, client.odd("a fault").message] {
            assert!(message.contains(&format!("http://shop:***@{free}")) && !message.contains("p4ss"), "{message}");
        }
        let user_alone = ApiClient::new(&format!("http://shop@{free}"), Some("t")).err().map(|failure| failure.exit);
        assert_eq!(user_alone, Some(Exit::Usage));
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable_and_says_where() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = ApiClient::new(&format!("http://{free}"), None).unwrap();
        let failure = client.product(ProductId::new(1).unwrap()).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.starts_with(&format!("no answer from http://{free}: ")), "{}", failure.message);
    }
}
