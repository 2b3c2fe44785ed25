//! Who may call a route. Asked before anything of the request is read but its head.
//!
//! Where no tokens are required the handlers stand in the router as they are, and nothing is asked or allocated.

use crate::error::ApiError;
use actix_web::{FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Route, web};
use std::sync::Arc;
use telemetry::scope::Scope;
use telemetry::tokens::{Caller, Denied, Tokens};

/// Who may call an endpoint, where tokens are required.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    Public,
    Needs(Scope),
    /// Also with a publishable token as `?k=`, since a browser's beacon has no headers of its own.
    Beacon(Scope),
}

/// Stands before one endpoint.
pub(crate) struct Door<'t> {
    pub(crate) access: Access,
    /// `None`: no tokens are required.
    pub(crate) tokens: Option<&'t Tokens>,
}

impl Door<'_> {
    /// The handler as a route; whoever may not call it is answered in its place.
    pub(crate) fn to<F, Args>(&self, handler: F) -> Route
    where
        F: Handler<Args, Output = Result<HttpResponse, ApiError>>,
        Args: FromRequest + 'static,
    {
        let (scope, takes_key) = match self.access {
            Access::Public => return web::to(handler),
            Access::Needs(scope) => (scope, false),
            Access::Beacon(scope) => (scope, true),
        };
        let Some(tokens) = self.tokens.cloned() else { return web::to(handler) };
        web::to(move |request: HttpRequest, arguments: Args| {
            let called = check(&tokens, &request, scope, takes_key).map(|caller| {
                request.extensions_mut().insert(caller);
                handler.call(arguments)
            });
            async move { called?.await }
        })
    }
}

/// A token in the header is the one that counts.
fn check(tokens: &Tokens, request: &HttpRequest, scope: Scope, takes_key: bool) -> Result<Caller, ApiError> {
    let checked = match tokens.check(request.headers(), scope) {
        Err(Denied::Missing) if takes_key => key(request, |key| tokens.check_key(key, scope)),
        checked => checked,
    };
    checked.map_err(ApiError::Denied)
}

fn key(request: &HttpRequest, check: impl Fn(&[u8]) -> Result<Caller, Denied>) -> Result<Caller, Denied> {
    let mut parameters = url::form_urlencoded::parse(request.query_string().as_bytes());
    let key = parameters.find(|(name, _)| name == "k").ok_or(Denied::Missing)?;
    check(key.1.as_bytes())
}

/// The name of the token that the request came with.
pub(crate) fn caller(request: &HttpRequest) -> Option<Arc<str>> {
    request.extensions().get::<Caller>().map(|caller| caller.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_same_problem_on_both_listeners() {
        for denied in [Denied::Missing, Denied::Unknown, Denied::NotPublishable, Denied::Lacks(Scope::Admin)] {
            let kind = ApiError::Denied(denied).kind();
            assert_eq!((kind.slug, kind.title, kind.status), (denied.slug(), denied.title(), denied.status().as_u16()));
        }
    }
}
