//! All routes of the public listener in one table, which the router, the access control and the metrics share.
//!
//! A template answers every method that the table does not give it with 405 and `Allow`. GET routes answer
//! HEAD too, counted as GET.

mod docs;
mod openapi;
#[cfg(test)]
mod openapi_tests;
mod pages;
mod prices;
mod problems;
mod products;
mod schemas;
mod view_counts;
mod views;

use crate::access::Access::{self, Beacon, Needs, Public};
use crate::access::Door;
use crate::error::ApiError;
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, guard};
use domain::ProductId;
use std::sync::Arc;
use telemetry::metrics::{HttpMetrics, RouteMetrics, RouteSpec};
use telemetry::scope::Scope::{CatalogRead, CatalogWrite, PricesWrite, ViewsWrite};
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

/// Method, template, who may call it, statuses beyond those that every route may answer (400, 401, 403, 408, 413, 500, 503), handler.
#[rustfmt::skip]
static ENDPOINTS: &[Endpoint] = &[
    endpoint("GET",  "/v1/products/{id}",       Needs(CatalogRead),  &[200, 304, 404],      |door| door.to(products::read)),
    endpoint("GET",  "/v1/products/{id}/views", Needs(CatalogRead),  &[200, 404, 422],      |door| door.to(view_counts::read)),
    endpoint("POST", "/v1/products/{id}/views", Beacon(ViewsWrite),  &[202, 404, 415, 422], |door| door.to(views::one)),
    endpoint("PUT",  "/v1/products/{id}/price", Needs(PricesWrite),  &[200, 404, 415, 422], |door| door.to(prices::set)),
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

/// Puts the table into a router.
pub(crate) fn configure(config: &mut ServiceConfig, metrics: &HttpMetrics, tokens: Option<&Tokens>) {
    let mut seen = Vec::new();
    for Endpoint { spec, .. } in ENDPOINTS {
        if !seen.contains(&spec.route) {
            seen.push(spec.route);
            config.service(resource(spec.route, metrics, tokens));
        }
    }
    config.default_service(web::to(async || Err::<HttpResponse, _>(ApiError::UnknownRoute)));
}

fn resource(template: &'static str, metrics: &HttpMetrics, tokens: Option<&Tokens>) -> Resource {
    let endpoints = || ENDPOINTS.iter().filter(move |endpoint| endpoint.spec.route == template);
    let counted = |endpoint: &Endpoint| (method(endpoint), metrics.route(endpoint.spec.method, template).expect("made from this table"));
    let mut resource = web::resource(template).app_data(TemplateMetrics(endpoints().map(counted).collect()));
    let mut allow = Vec::new();
    for endpoint in endpoints() {
        allow.push(endpoint.spec.method);
        let route = (endpoint.handler)(&Door { access: endpoint.access, tokens });
        resource = match method(endpoint) {
            Method::GET => {
                allow.push("HEAD");
                resource.route(route.guard(guard::Any(guard::Get()).or(guard::Head())))
            }
            method => resource.route(route.guard(guard::Method(method))),
        };
    }
    let allow = HeaderValue::try_from(allow.join(", ")).expect("names of methods");
    resource.default_service(web::to(move || {
        let allow = allow.clone();
        async move { Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow }) }
    }))
}

fn method(endpoint: &Endpoint) -> Method {
    Method::from_bytes(endpoint.spec.method.as_bytes()).expect("the table holds valid methods")
}

/// The `{id}` of the path.
fn path_id(request: &HttpRequest) -> Result<ProductId, ApiError> {
    let text = request.match_info().get("id").unwrap_or_default();
    ProductId::parse(text).map_err(|_| ApiError::InvalidId)
}
