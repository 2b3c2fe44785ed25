//! Query strings: a closed set of names, each at most once.

use crate::error::ApiError;
use actix_web::HttpRequest;

/// The parameters of a request in the order of `names`.
///
/// # Errors
/// [`ApiError::InvalidQuery`] for an unknown or repeated name, and text that is not UTF-8.
pub(crate) fn parameters<const N: usize>(request: &HttpRequest, names: [&'static str; N]) -> Result<[Option<String>; N], ApiError> {
    let mut values = [const { None }; N];
    let query = request.query_string();
    if query.is_empty() {
        return Ok(values);
    }
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = names.iter().position(|known| *known == name) else {
            return Err(ApiError::InvalidQuery(unknown(&name, &names)));
        };
        if value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(ApiError::InvalidQuery(format!("{name} is not UTF-8")));
        }
        if values[at].replace(value.into_owned()).is_some() {
            return Err(ApiError::InvalidQuery(format!("{name} is given twice")));
        }
    }
    Ok(values)
}

/// # Errors
/// [`ApiError::InvalidQuery`] if there is any parameter.
pub(crate) fn none(request: &HttpRequest) -> Result<(), ApiError> {
    parameters(request, []).map(|[]| ())
}

fn unknown(name: &str, names: &[&str]) -> String {
    if names.is_empty() {
        format!("{name:?} is not a parameter of this route, which has none")
    } else {
        format!("{name:?} is not a parameter of this route; it has {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn read(query: &str) -> Result<[Option<String>; 2], String> {
        let request = TestRequest::with_uri(&format!("/v1/products{query}")).to_http_request();
        parameters(&request, ["ids", "skus"]).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_known_and_given_once() {
        assert_eq!(read(""), Ok([None, None]));
        assert_eq!(read("?"), Ok([None, None]));
        assert_eq!(read("?skus=a%2Cb+c%2B"), Ok([None, Some("a,b c+".into())]));
        assert_eq!(read("?ids="), Ok([Some(String::new()), None]));
        assert!(read("?ids=1&ids=2").unwrap_err().contains("twice"));
        assert!(read("?ids=1&limit=2").unwrap_err().contains("\"limit\""));
        assert!(read("?IDS=1").is_err());
        assert!(read("?skus=%ff").unwrap_err().contains("UTF-8"));
    }
}
