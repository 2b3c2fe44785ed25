//! `/openapi.json`: what the API is, as OpenAPI 3.1.
//!
//! Each handler has its operation above it; here is added what many have in common: refusals, the request's id, scopes,
//! and the digits of every currency. The document is made once; tests hold it against the table of routes.

use super::schemas::Known;
use super::{
    ENDPOINTS, Endpoint, docs, price_batches, price_reads, prices, problems, products, reservations, schemas, stock, view_counts, views,
};
use crate::access::Access;
use crate::error::ApiError;
use crate::input::query;
use crate::problem;
use crate::stored::Stored;
use actix_web::{HttpRequest, HttpResponse};
use domain::Currency;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use telemetry::metrics::COMMON_STATUSES;
use utoipa::OpenApi;

const DESCRIPTION: &str = "Products are read through a cache, prices are written through to MySQL before the answer, views are \
    written behind.\n\n\
    - Unknown query parameters and unknown fields are refused, and every fault of a body is listed.\n\
    - Money is a decimal string with at most the digits of its currency, never a JSON number.\n\
    - Every refusal is `application/problem+json`; its `type` is a page that gives cause and remedy.\n\
    - `X-Request-Id` is taken from the request if it has 1 to 128 visible ASCII characters, made otherwise, and answered.\n\
    - GET routes answer HEAD too. Any other method that a path does not have is answered 405 with `Allow`.\n\
    - Writes whose operation does not name `If-Match` or `Idempotency-Key` refuse them with 400, since ignoring them would promise what \
      is not kept.";

#[derive(OpenApi)]
#[openapi(
    info(title = "Inventory API", description = DESCRIPTION, license(name = "MIT", identifier = "MIT")),
    paths(
        products::read, products::read_many, products::create, prices::set, price_reads::read, price_reads::history, price_batches::set, views::one, views::many, view_counts::read,
        stock::read, stock::count, stock::adjust, stock::movements, reservations::make, reservations::read, reservations::commit,
        reservations::release,
        problems::index, problems::one, read, docs::page, docs::file,
    ),
    components(schemas(problem::Body<'_>, schemas::ListedId, schemas::ListedSku)),
    tags(
        (name = "products", description = "Read through the cache, written through to MySQL."),
        (name = "prices", description = "Right the moment they are acknowledged."),
        (name = "views", description = "Acknowledged by Redis, counted in MySQL exactly once."),
        (name = "stock", description = "Never oversold: reservations are all or nothing, and every change has a row in the ledger."),
        (name = "documentation", description = "For people and their tools; no token is needed."),
    ),
)]
struct Annotated;

static STORED: LazyLock<Stored> = LazyLock::new(|| Stored::new(super::JSON, document().to_string()));

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getOpenApi", tag = "documentation",
    params(Known),
    responses(
        (status = 200, description = "OpenAPI 3.1.", body = Object, headers(("ETag" = String))),
        (status = 304, description = "The client has it.", headers(("ETag" = String))),
    ),
)]
pub(crate) async fn read(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    Ok(STORED.answer(&request, "no-cache"))
}

/// Makes the document before it is asked for.
pub(crate) fn prepare() {
    LazyLock::force(&STORED);
}

pub(super) fn document() -> Value {
    let mut document = serde_json::to_value(Annotated::openapi()).expect("texts and numbers always serialise");
    for schema in ["NewMoney", "NewPrice", "NewBatchPrice"] {
        document["components"]["schemas"][schema]["oneOf"] = digits_of_currencies();
    }
    document["components"]["headers"] = headers();
    document["components"]["securitySchemes"] = security_schemes();
    document["components"]["responses"] = common(true).map(|status| (status.to_string(), refusal(status))).collect();
    for endpoint in ENDPOINTS {
        let method = endpoint.spec.method.to_ascii_lowercase();
        let operation = document["paths"].get_mut(endpoint.spec.route).and_then(|path| path.get_mut(method));
        // A test says which is missing.
        if let Some(operation) = operation {
            complete(operation, endpoint);
        }
    }
    document
}

/// Adds to one operation what it has in common with others.
fn complete(operation: &mut Value, endpoint: &Endpoint) {
    let responses = operation["responses"].as_object_mut().expect("every operation has answers");
    for (status, response) in responses.iter_mut() {
        response["headers"]["X-Request-Id"] = reference("headers", "X-Request-Id");
        if status.as_str() >= "400" {
            response["content"] = problem_content();
        }
        name_examples(response);
    }
    for status in common(!matches!(endpoint.access, Access::Public)) {
        responses.insert(status.to_string(), reference("responses", &status.to_string()));
    }
    if let Some(body) = operation.get_mut("requestBody") {
        body["required"] = json!(endpoint.spec.route != "/v1/products/{id}/views");
        name_examples(body);
    }
    operation["security"] = match endpoint.access {
        Access::Public => json!([]),
        Access::Needs(scope) => json!([{"token": [scope.as_str()]}]),
        Access::Beacon(scope) => json!([{"token": [scope.as_str()]}, {"publishable": [scope.as_str()]}]),
    };
}

/// The page at `/docs` takes the fields of a lone example for examples, and fails where one is null.
fn name_examples(body: &mut Value) {
    let forms = body.get_mut("content").and_then(Value::as_object_mut);
    for form in forms.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        if let Some(example) = form.remove("example") {
            form.insert("examples".to_owned(), json!({"example": {"value": example}}));
        }
    }
}

/// What any route that asks for a token may answer beyond what every route may.
const SCOPED_STATUSES: &[u16] = &[401, 403];

/// Statuses of refusals that an operation shares with all others.
pub(super) fn common(scoped: bool) -> impl Iterator<Item = u16> {
    let others = COMMON_STATUSES.iter().filter(|status| !SCOPED_STATUSES.contains(status));
    others.chain(SCOPED_STATUSES.iter().filter(move |_| scoped)).copied()
}

/// Types of problem that only the ops listener has.
const OF_THE_OPS_LISTENER: &[&str] = &["foreign-origin", "not-flushed", "unready"];

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

fn problem_content() -> Value {
    json!({"application/problem+json": {"schema": reference("schemas", "Problem")}})
}

/// The answer of any route with this status: its types of problem by name.
fn refusal(status: u16) -> Value {
    let kinds = problem::ALL.iter().filter(|kind| kind.status == status && !OF_THE_OPS_LISTENER.contains(&kind.slug));
    let named: Vec<_> = kinds.map(|kind| format!("- `{}`: {}", kind.slug, kind.title)).collect();
    let mut headers = Map::new();
    for header in ["X-Request-Id"].into_iter().chain(own_header(status)) {
        headers.insert(header.to_owned(), reference("headers", header));
    }
    json!({"description": named.join("\n"), "headers": headers, "content": problem_content()})
}

fn own_header(status: u16) -> Option<&'static str> {
    match status {
        401 | 403 => Some("WWW-Authenticate"),
        503 => Some("Retry-After"),
        _ => None,
    }
}

fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "That of the request, or a new one.", "required": true,
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"}
        },
        "Retry-After": {"description": "Seconds to wait before the next try.", "required": true, "schema": {"type": "integer", "minimum": 1}},
        "WWW-Authenticate": {"description": "What is asked for (RFC 6750).", "required": true, "schema": {"type": "string"}}
    })
}

fn security_schemes() -> Value {
    json!({
        "token": {"type": "http", "scheme": "bearer", "description": "A token that has the scope of the operation."},
        "publishable": {
            "type": "apiKey", "in": "query", "name": "k",
            "description": "A publishable token, which may do nothing but count views, for pages that cannot set a header."
        }
    })
}

/// How an amount is written in each currency: one alternative for each number of digits after the point.
fn digits_of_currencies() -> Value {
    let mut codes: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for currency in Currency::all() {
        codes.entry(currency.digits()).or_default().push(currency.code().to_owned());
    }
    let alternative = |(digits, codes): (u8, Vec<String>)| {
        let (title, fraction) = match digits {
            0 => ("no digits after the point".to_owned(), String::new()),
            1 => ("at most 1 digit after the point".to_owned(), r"(\.[0-9])?".to_owned()),
            _ => (format!("at most {digits} digits after the point"), format!(r"(\.[0-9]{{1,{digits}}})?")),
        };
        let amount = format!("^0*[0-9]{{1,15}}{fraction}$");
        json!({"title": title, "properties": {"amount": {"type": "string", "pattern": amount}, "currency": {"type": "string", "enum": codes}}})
    };
    codes.into_iter().map(alternative).collect()
}
