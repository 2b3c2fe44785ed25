//! All routes of the public listener in one table, which the router, the access control and the metrics share.
//!
//! A template answers every method that the table does not give it with 405 and `Allow`. GET routes answer
//! HEAD too, counted as GET.

mod answers;
mod docs;
mod openapi;
#[cfg(test)]
mod openapi_tests;
mod pages;
mod price_batches;
mod price_reads;
mod price_rows;
mod prices;
mod problems;
mod products;
mod reservations;
mod schemas;
mod stock;
mod view_counts;
mod views;

pub(crate) use schemas::{Price, ReservationState};
pub(crate) use stock::StockBody;

use crate::access::Access::{self, Beacon, Needs, Public};
use crate::access::Door;
use crate::error::ApiError;
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route, Scope, guard};
use domain::ProductId;
use std::collections::HashSet;
use std::sync::Arc;
use telemetry::metrics::{HttpMetrics, RouteMetrics, RouteSpec};
use telemetry::scope::Scope::{CatalogRead, CatalogWrite, PricesWrite, ReservationsWrite, StockRead, StockWrite, ViewsWrite};
use telemetry::tokens::Tokens;

const JSON: &str = "application/json";
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// One method of one template.
struct Endpoint {
    spec: RouteSpec,
    access: Access,
    handler: fn(&Door) -> Route,
}

const fn endpoint(
    method: &'static str,
    route: &'static str,
    access: Access,
    statuses: &'static [u16],
    handler: fn(&Door) -> Route,
) -> Endpoint {
    Endpoint { spec: RouteSpec { method, route, statuses }, access, handler }
}

/// In the order in which they are tried, the most frequent first.
///
/// Method, template, who may call it, statuses beyond those that every route may answer (400, 401, 403, 408, 413, 500, 503), handler.
#[rustfmt::skip]
static ENDPOINTS: &[Endpoint] = &[
    endpoint("GET",  "/v1/products/{id}",       Needs(CatalogRead),  &[200, 304, 404],      |door| door.to(products::read)),
    endpoint("POST", "/v1/products/{id}/views", Beacon(ViewsWrite),  &[202, 404, 415, 422], |door| door.to(views::one)),
    endpoint("GET",  "/v1/products/{id}/views", Needs(CatalogRead),  &[200, 404, 422],      |door| door.to(view_counts::read)),
    endpoint("PUT",  "/v1/products/{id}/price", Needs(PricesWrite),  &[200, 404, 409, 412, 415, 422], |door| door.to(prices::set)),
    endpoint("GET",  "/v1/products/{id}/price", Needs(CatalogRead),  &[200, 304, 404],      |door| door.to(price_reads::read)),
    endpoint("GET",  "/v1/products/{id}/price-history", Needs(PricesWrite), &[200, 404],    |door| door.to(price_reads::history)),
    endpoint("POST", "/v1/reservations",        Needs(ReservationsWrite), &[201, 404, 409, 415, 422], |door| door.to(reservations::make)),
    endpoint("POST", "/v1/reservations/{id}/commit", Needs(ReservationsWrite), &[200, 404, 409, 422], |door| door.to(reservations::commit)),
    endpoint("POST", "/v1/reservations/{id}/release", Needs(ReservationsWrite), &[200, 404, 409, 422], |door| door.to(reservations::release)),
    endpoint("GET",  "/v1/reservations/{id}",   Needs(ReservationsWrite), &[200, 404],      |door| door.to(reservations::read)),
    endpoint("GET",  "/v1/products/{id}/stock", Needs(StockRead),    &[200, 304, 404],      |door| door.to(stock::read)),
    endpoint("PUT",  "/v1/products/{id}/stock", Needs(StockWrite),   &[200, 404, 409, 412, 415, 422, 428], |door| door.to(stock::count)),
    endpoint("POST", "/v1/products/{id}/stock/adjustments", Needs(StockWrite), &[201, 404, 409, 415, 422], |door| door.to(stock::adjust)),
    endpoint("GET",  "/v1/products/{id}/stock/movements", Needs(StockRead), &[200, 404],    |door| door.to(stock::movements)),
    endpoint("POST", "/v1/prices/batch",        Needs(PricesWrite),  &[200, 207, 409, 415, 422], |door| door.to(price_batches::set)),
    endpoint("POST", "/v1/views",               Beacon(ViewsWrite),  &[202, 415, 422],      |door| door.to(views::many)),
    endpoint("GET",  "/v1/products",            Needs(CatalogRead),  &[200],                |door| door.to(products::read_many)),
    endpoint("POST", "/v1/products",            Needs(CatalogWrite), &[201, 409, 415, 422], |door| door.to(products::create)),
    endpoint("GET",  "/problems",               Public,              &[200],                |door| door.to(problems::index)),
    endpoint("GET",  "/problems/{slug}",        Public,              &[200, 404],           |door| door.to(problems::one)),
    endpoint("GET",  "/openapi.json",           Public,              &[200, 304],           |door| door.to(openapi::read)),
    endpoint("GET",  "/docs",                   Public,              &[200, 304],           |door| door.to(docs::page)),
    endpoint("GET",  "/docs/{file}",            Public,              &[200, 304, 404],      |door| door.to(docs::file)),
];

/// The table as the metrics want it.
pub(crate) fn specs() -> impl Iterator<Item = RouteSpec> {
    ENDPOINTS.iter().map(|endpoint| endpoint.spec)
}

/// The methods of all routes, some more than once.
pub(crate) fn methods() -> impl Iterator<Item = Method> {
    ENDPOINTS.iter().map(method).chain([Method::HEAD])
}

/// The metrics of a template's methods; the outermost layer finds it on the request.
pub(crate) struct TemplateMetrics(Vec<(Method, Arc<RouteMetrics>)>);

impl TemplateMetrics {
    /// `None` for a method that the template does not have.
    pub(crate) fn of(&self, method: &Method) -> Option<&RouteMetrics> {
        let counted = if method == Method::HEAD { &Method::GET } else { method };
        self.0.iter().find(|(method, _)| method == counted).map(|(_, metrics)| &**metrics)
    }
}

/// Makes what is the same for every request, before the first of them.
pub(crate) fn prepare() {
    openapi::prepare();
}

/// Puts the table into a router: its endpoints in their order, then what other methods are told, template by template.
pub(crate) fn configure(config: &mut ServiceConfig, metrics: &HttpMetrics, tokens: Option<&Tokens>) {
    for endpoint in ENDPOINTS {
        let route = (endpoint.handler)(&Door { access: endpoint.access, tokens });
        let at = at(endpoint.spec.route, metrics);
        config.service(match method(endpoint) {
            Method::GET => at.guard(guard::Any(guard::Get()).or(guard::Head())).default_service(route),
            method => at.guard(guard::Method(method)).default_service(route),
        });
    }
    for template in templates() {
        let allow = allowed(template);
        let refuse = move || {
            let allow = allow.clone();
            async move { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }
        };
        config.service(at(template, metrics).default_service(web::to(refuse)));
    }
    config.default_service(web::to(async || Err::<HttpResponse, _>(ApiError::UnknownRoute)));
}

/// Each once.
fn templates() -> impl Iterator<Item = &'static str> {
    let mut seen = HashSet::new();
    ENDPOINTS.iter().map(|endpoint| endpoint.spec.route).filter(move |template| seen.insert(*template))
}

fn endpoints_of(template: &'static str) -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS.iter().filter(move |endpoint| endpoint.spec.route == template)
}

fn allowed(template: &'static str) -> HeaderValue {
    let methods = endpoints_of(template).map(|endpoint| endpoint.spec.method);
    let mut methods: Vec<_> = methods.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] }).collect();
    methods.sort_unstable();
    HeaderValue::try_from(methods.join(", ")).expect("names of methods")
}

/// What is at one template, with its metrics. [`is_at`] tells, as a guard: the framework's own patterns are regular expressions,
/// and two of them took two fifths of the instructions of a view.
fn at(template: &'static str, metrics: &HttpMetrics) -> Scope {
    let counted = |endpoint: &Endpoint| (method(endpoint), metrics.route(endpoint.spec.method, template).expect("made from this table"));
    let metrics = TemplateMetrics(endpoints_of(template).map(counted).collect());
    web::scope("").guard(guard::fn_guard(move |request| is_at(template, request.head().uri.path()))).app_data(metrics)
}

/// Whether a path is of this form; a part in braces stands for any text without a slash.
fn is_at(template: &str, path: &str) -> bool {
    let mut given = parts(path);
    let fits = |wanted: &[u8]| given.next().is_some_and(|part| part == wanted || (wanted.starts_with(b"{") && !part.is_empty()));
    parts(template).all(fits) && given.next().is_none()
}

/// By bytes: the search of `str` for a character is made for longer texts.
fn parts(path: &str) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/')
}

/// The part of the path that stands behind so many slashes, as it was sent.
fn part(request: &HttpRequest, place: usize) -> &str {
    let path = request.path();
    let mut ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(end, _)| end);
    let start = place.checked_sub(1).map_or(Some(0), |slashes| ends.nth(slashes).map(|slash| slash + 1));
    start.map_or("", |start| &path[start..ends.next().unwrap_or(path.len())])
}

fn method(endpoint: &Endpoint) -> Method {
    Method::from_bytes(endpoint.spec.method.as_bytes()).expect("the table holds valid methods")
}

/// A failed call about the stock of one product.
fn stock_of(id: ProductId) -> impl Fn(::stock::Error) -> ApiError {
    use ::stock::Error;
    move |error| match error {
        Error::UnknownProducts(_) => ApiError::UnknownProduct(id),
        Error::PreconditionFailed(level) => ApiError::StockChanged { id, level },
        Error::BelowReserved(level) => ApiError::BelowReserved { id, level },
        other => other.into(),
    }
}

/// The `{id}` of `/v1/products/{id}` and what is below it.
fn path_id(request: &HttpRequest) -> Result<ProductId, ApiError> {
    ProductId::parse(part(request, 3)).map_err(|_| ApiError::InvalidId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_at_one_template_or_none() {
        let at = |path: &str| templates().filter(|template| is_at(template, path)).collect::<Vec<_>>();
        for (path, template) in [
            ("/v1/products", "/v1/products"),
            ("/v1/products/42", "/v1/products/{id}"),
            ("/v1/products/42/views", "/v1/products/{id}/views"),
            ("/v1/products/%31/price", "/v1/products/{id}/price"),
            ("/problems/starting", "/problems/{slug}"),
        ] {
            assert_eq!(at(path), [template], "{path}");
        }
        for path in
            ["", "/", "/v1", "/v1/products/", "/v1/products//views", "/v1/products/1/", "/v1/products/1/views/", "//v1/products", "v1"]
        {
            assert_eq!(at(path), [""; 0], "{path}");
        }
    }
}
