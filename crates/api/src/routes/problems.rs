//! The pages behind the `type` of a problem: cause and remedy, for people.

use crate::error::ApiError;
use crate::input::query;
use crate::problem::{self, ProblemType};
use actix_web::{HttpRequest, HttpResponse};
use std::fmt::Write;

const HTML: &str = "text/html; charset=utf-8";

/// All types of problem
#[utoipa::path(
    get, path = "/problems", operation_id = "getProblems", tag = "documentation",
    responses((status = 200, description = "A page with links to all.", body = String, content_type = "text/html")),
)]
pub(crate) async fn index(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let items = problem::ALL.iter().fold(String::new(), |mut items, kind| {
        let ProblemType { slug, status, title, .. } = kind;
        writeln!(items, "<li><a href=\"/problems/{slug}\">{slug}</a> ({status}): {title}</li>").expect("a String takes every write");
        items
    });
    Ok(page("Problems", &format!("<ul>\n{items}</ul>")))
}

/// What a type of problem means
///
/// The page behind the `type` of a problem: its cause and remedy.
#[utoipa::path(
    get, path = "/problems/{slug}", operation_id = "getProblem", tag = "documentation",
    params(("slug" = String, Path, pattern = "^[a-z-]+$", example = "unknown-product")),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 404, description = "`unknown-route`"),
    ),
)]
pub(crate) async fn one(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let slug = super::part(&request, 2);
    let kind = ProblemType::find(slug).ok_or(ApiError::UnknownRoute)?;
    let ProblemType { slug, status, title, cause, remedy } = kind;
    let text = format!(
        "<p>Status {status}, <code>{slug}</code></p>\n<h2>Cause</h2>\n<p>{cause}</p>\n<h2>Remedy</h2>\n<p>{remedy}</p>\n\
         <p><a href=\"/problems\">All problems</a></p>"
    );
    Ok(page(title, &text))
}

/// All text is ours and free of markup, so nothing is escaped.
fn page(title: &str, text: &str) -> HttpResponse {
    HttpResponse::Ok().content_type(HTML).body(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h1>{title}</h1>\n{text}\n</body>\n</html>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_page_holds_markup() {
        for kind in problem::ALL {
            assert!(![kind.title, kind.cause, kind.remedy].concat().contains(['<', '>', '&']), "{}", kind.slug);
        }
    }
}
