//! The console on the ops listener: a page for whoever runs the shop, built into the program.
//!
//! The files hold no data, so that they are open to everybody; whatever they show comes from the routes under `/v1/admin`, which ask
//! for the scope `admin` where there are tokens. Their policy lets them load and ask nothing but this listener, and run or style
//! nothing that stands inside a page.

pub(crate) mod history;
pub(crate) mod sample;
mod stream;
mod verdict;

use crate::stored::Stored;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard};
use std::sync::LazyLock;

pub(crate) use stream::stream;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages: one document, which shows what its path says.
const PAGES: [&str; 7] =
    ["/console", "/console/queue", "/console/dead-letters", "/console/product", "/console/stock", "/console/checks", "/console/system"];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

static PAGE: LazyLock<Stored> = LazyLock::new(|| Stored::new(HTML, include_str!("../console/index.html")));

macro_rules! assets {
    ($($name:literal = $type:ident,)*) => {
        static ASSETS: LazyLock<Vec<(&str, Stored)>> =
            LazyLock::new(|| vec![$(($name, Stored::new($type, include_str!(concat!("../console/", $name)))),)*]);
    };
}

assets! {
    "console.css" = STYLE,
    "main.js" = SCRIPT,
    "api.js" = SCRIPT,
    "checks.js" = SCRIPT,
    "dead-letters.js" = SCRIPT,
    "dom.js" = SCRIPT,
    "live.js" = SCRIPT,
    "note.js" = SCRIPT,
    "overview.js" = SCRIPT,
    "plots.js" = SCRIPT,
    "product.js" = SCRIPT,
    "queue.js" = SCRIPT,
    "stock.js" = SCRIPT,
    "system.js" = SCRIPT,
    "words.js" = SCRIPT,
    "vendor/uPlot-1.6.32.iife.min.js" = SCRIPT,
    "vendor/uPlot-1.6.32.min.css" = STYLE,
    "vendor/uPlot-LICENSE.txt" = TEXT,
}

/// Puts pages and files into the router of the ops listener.
pub(crate) fn configure(config: &mut ServiceConfig) {
    let readable = || guard::Any(guard::Get()).or(guard::Head());
    for path in PAGES {
        config.service(web::resource(path).guard(readable()).to(async |request: HttpRequest| answer(&PAGE, &request)));
    }
    for (name, file) in ASSETS.iter() {
        let path = format!("/console/assets/{name}");
        config.service(web::resource(path).guard(readable()).to(async move |request: HttpRequest| answer(file, &request)));
    }
}

/// Asked for again each time, so that a newer program is seen at once.
fn answer(file: &Stored, request: &HttpRequest) -> HttpResponse {
    let mut response = file.answer(request, "no-cache");
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
