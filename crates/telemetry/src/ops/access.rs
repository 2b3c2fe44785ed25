//! Who may use the ops listener beyond health: `/metrics` from afar, and whatever changes something.
//!
//! Routes that change something are also kept from web pages. Where there are no tokens, a page that an operator happens
//! to visit could send requests to a loopback port (told by `Origin`), or let its own name point there (told by `Host`).

use crate::problem::Problem;
use crate::scope::Scope;
use crate::tokens::{Caller, Denied, Tokens};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

const DEFAULT_PORT: u16 = 80;

/// Where the listener is, and who may use it.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) tokens: Option<Tokens>,
}

impl Site {
    /// Who it is, where tokens are required.
    ///
    /// # Errors
    /// Whoever lacks the scope.
    pub(super) fn check(&self, request: &HttpRequest, scope: Scope) -> Result<Option<Caller>, Refused> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        tokens.check(request.headers(), scope).map(Some).map_err(Refused::Denied)
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }

    fn check_place(&self, request: &HttpRequest) -> Result<(), Refused> {
        let headers = request.headers();
        let host = only(headers, HOST).filter(|host| self.is_called(host)).ok_or(Refused::WrongHost(self.address))?;
        let own = format!("http://{host}");
        if headers.contains_key(ORIGIN) && !only(headers, ORIGIN).is_some_and(|origin| origin.eq_ignore_ascii_case(&own)) {
            return Err(Refused::ForeignOrigin(own));
        }
        Ok(())
    }

    /// Whether the `Host` names this listener. One that listens on all addresses does not know its names. There tokens are
    /// required, which no page that rebinds a name of its own has, so any name will do.
    fn is_called(&self, host: &str) -> bool {
        let Some((name, port)) = split(host) else { return false };
        let (own, named) = (self.address.ip().to_canonical(), literal(name));
        if own.is_unspecified() {
            return true;
        }
        let local = name.eq_ignore_ascii_case("localhost");
        let same = named == Some(own) || own.is_loopback() && (local || named.is_some_and(|ip| ip.is_loopback()));
        same && port == self.address.port()
    }
}

/// For `from_fn` around the routes under `/v1/admin`: lets through who names this listener, is no page of another origin,
/// and has the scope `admin` where tokens are required. Handlers find the [`Caller`] in the request's extensions then.
///
/// # Errors
/// Those of the routes; refusals are answers: 401, 403 or 421 as problems.
pub async fn admin(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Result<ServiceResponse<BoxBody>, Error> {
    let site = request.app_data::<web::Data<Site>>().expect("set for every route of the ops listener").clone();
    let checked = site.check_place(request.request()).and_then(|()| site.check(request.request(), Scope::Admin));
    match checked {
        Err(refused) => {
            let answer = refused.answer(request.request());
            Ok(request.into_response(answer))
        }
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            Ok(next.call(request).await?.map_into_boxed_body())
        }
    }
}

/// Why a request to the ops listener is refused.
pub(super) enum Refused {
    Denied(Denied),
    /// The address of the listener.
    WrongHost(SocketAddr),
    /// The origin that would do.
    ForeignOrigin(String),
}

impl Refused {
    pub(super) fn answer(self, request: &HttpRequest) -> HttpResponse {
        let (slug, status, title, detail) = match &self {
            Self::Denied(denied) => (denied.slug(), denied.status(), denied.title(), denied.to_string()),
            Self::WrongHost(address) => {
                let detail = format!("the Host of the request is not that of this listener; call it as http://{address}");
                ("wrong-host", StatusCode::MISDIRECTED_REQUEST, "The request was meant for another host", detail)
            }
            Self::ForeignOrigin(own) => {
                let detail = format!("the request comes from a page of another origin; only pages of {own} may send it");
                ("foreign-origin", StatusCode::FORBIDDEN, "Pages of other origins may not do this", detail)
            }
        };
        let mut answer = Problem { slug, title, status, detail }.answer(request, json!({}));
        if let Self::Denied(denied) = self {
            answer.headers_mut().insert(WWW_AUTHENTICATE, denied.challenge());
        }
        answer
    }
}

/// A header that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut given = headers.get_all(name);
    let value = given.next()?.to_str().ok()?;
    given.next().is_none().then_some(value)
}

/// Name and port of a `Host`; an address of version 6 keeps its brackets.
fn split(host: &str) -> Option<(&str, u16)> {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => Some((name, port.parse().ok()?)),
        _ => Some((host, DEFAULT_PORT)),
    }
}

fn literal(name: &str) -> Option<IpAddr> {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = inner.map_or_else(|| name.parse().ok().map(IpAddr::V4), |inner| inner.parse().ok().map(IpAddr::V6));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(listener: &str, host: &str) -> bool {
        Site { address: listener.parse().unwrap(), tokens: None }.is_called(host)
    }

    #[test]
    fn a_loopback_listener_is_called_by_its_names_and_port() {
        for host in ["127.0.0.1:8081", "localhost:8081", "LOCALHOST:8081", "[::1]:8081"] {
            assert!(is_called("127.0.0.1:8081", host) && is_called("[::1]:8081", host), "{host}");
        }
        for host in ["127.0.0.1", "localhost:8082", "shop.example:8081", "192.168.1.1:8081", "localhost.shop.example:8081", "", ":8081"] {
            assert!(!is_called("127.0.0.1:8081", host), "{host}");
        }
        assert!(is_called("127.0.0.1:80", "localhost") && is_called("[::1]:80", "[::1]"));
    }

    #[test]
    fn another_listener_is_called_by_its_address_and_one_for_all_by_any_name() {
        assert!(is_called("192.168.1.1:8081", "192.168.1.1:8081"));
        for host in ["localhost:8081", "127.0.0.1:8081", "192.168.1.2:8081", "192.168.1.1:80", "shop.example:8081"] {
            assert!(!is_called("192.168.1.1:8081", host), "{host}");
        }
        for listener in ["0.0.0.0:8081", "[::]:8081"] {
            for host in ["10.1.2.3:8081", "10.1.2.3:9000", "[fe80::1]:8081", "localhost:8081", "inventory.shop.svc:8081"] {
                assert!(is_called(listener, host), "{host}");
            }
            for host in ["1:x", "shop.example:"] {
                assert!(!is_called(listener, host), "{host}");
            }
        }
    }
}
