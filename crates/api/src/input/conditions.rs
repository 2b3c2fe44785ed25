//! Entity tags and the headers that make a request conditional.

use crate::error::ApiError;
use actix_web::HttpRequest;
use actix_web::http::header::{IF_MATCH, IF_NONE_MATCH};

/// Whether `If-None-Match` names the tag, so that 304 is the answer. `tag` is quoted, with or without `W/`:
/// the header is compared weakly (RFC 9110 §13.1.2).
pub(crate) fn none_match(request: &HttpRequest, tag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let mut given = request.headers().get_all(IF_NONE_MATCH).peekable();
    if given.peek().is_none() {
        return false;
    }
    let tag = opaque(tag);
    given.any(|header| {
        // Our tags have no comma, so a tag that is cut at one cannot equal ours.
        let list = header.to_str().unwrap_or_default();
        list.split(',').map(str::trim).any(|candidate| candidate == "*" || opaque(candidate) == tag)
    })
}

/// What `If-Match` names (RFC 9110 §13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// `*`
    Anything,
    /// The versions of which it has the strong tags; none where its tags are of other forms.
    Version(Vec<u64>),
}

/// `None` if the header is not there.
///
/// # Errors
/// [`ApiError::InvalidHeader`] if it is no list of tags.
pub(crate) fn if_match(request: &HttpRequest) -> Result<Option<Match>, ApiError> {
    let mut lines = request.headers().get_all(IF_MATCH).peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let malformed = || ApiError::InvalidHeader("If-Match must be * or tags in double quotes with commas between them, such as \"7\"");
    // Several lines are one list.
    let lines: Option<Vec<&str>> = lines.map(|line| std::str::from_utf8(line.as_bytes()).ok()).collect();
    let list = lines.ok_or_else(malformed)?.join(",");
    if list.trim_matches(BLANK) == "*" {
        return Ok(Some(Match::Anything));
    }
    let tags = tags(&list).filter(|tags| !tags.is_empty()).ok_or_else(malformed)?;
    Ok(Some(Match::Version(tags.into_iter().filter_map(version).collect())))
}

const BLANK: [char; 2] = [' ', '\t'];

/// The tags of a list as they stand there; `None` where there is anything else.
fn tags(list: &str) -> Option<Vec<&str>> {
    let (mut tags, mut rest) = (Vec::new(), list);
    loop {
        // Elements of a list may be empty.
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(tags);
        }
        let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let end = opaque.find('"')?;
        if opaque[..end].chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let after = &opaque[end + 1..];
        tags.push(&rest[..rest.len() - after.len()]);
        rest = after.trim_start_matches(BLANK);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

/// The version of which this is the strong tag. A weak tag is that of none, nor is one that we never write.
fn version(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits.parse().ok().filter(|version: &u64| version.to_string() == digits)
}

/// Refuses a header whose promise a route does not keep. Were it ignored, a client that asked for "only if unchanged"
/// would be told 200 for something else.
///
/// # Errors
/// [`ApiError::NotSupported`] with that detail if the request has it.
pub(crate) fn refuse_if_match(request: &HttpRequest, detail: &'static str) -> Result<(), ApiError> {
    if request.headers().contains_key(IF_MATCH) {
        return Err(ApiError::NotSupported(detail));
    }
    Ok(())
}

/// The same for `If-None-Match`, which asks a write to be the first.
///
/// # Errors
/// [`ApiError::NotSupported`] with that detail if the request has it.
pub(crate) fn refuse_if_none_match(request: &HttpRequest, detail: &'static str) -> Result<(), ApiError> {
    if request.headers().contains_key(IF_NONE_MATCH) {
        return Err(ApiError::NotSupported(detail));
    }
    Ok(())
}

/// The same for a key.
///
/// # Errors
/// [`ApiError::NotSupported`] with that detail if the request has a key.
pub(crate) fn refuse_idempotency_key(request: &HttpRequest, detail: &'static str) -> Result<(), ApiError> {
    if request.headers().contains_key("idempotency-key") {
        return Err(ApiError::NotSupported(detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn matches(header: &str) -> bool {
        let request = TestRequest::get().insert_header((IF_NONE_MATCH, header)).to_http_request();
        none_match(&request, "W/\"7.118.10342\"")
    }

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        for header in ["W/\"7.118.10342\"", "\"7.118.10342\"", "*", "\"x\", W/\"7.118.10342\"", "\"a,b\",W/\"7.118.10342\" "] {
            assert!(matches(header), "{header}");
        }
        for header in ["", "W/\"7.118.10343\"", "7.118.10342", "w/\"7.118.10342\"", "\"7\""] {
            assert!(!matches(header), "{header}");
        }
        assert!(!none_match(&TestRequest::get().to_http_request(), "\"7\""));
    }

    #[test]
    fn a_write_expects_versions_by_their_strong_tags() {
        let expected = |lines: &[&str]| {
            let request = lines.iter().fold(TestRequest::put(), |request, line| request.append_header((IF_MATCH, *line)));
            if_match(&request.to_http_request())
        };
        let versions = |versions: &[u64]| Some(Match::Version(versions.to_vec()));
        assert_eq!(expected(&[]).unwrap(), None);
        for (lines, wanted) in [
            (&["\"7\""][..], versions(&[7])),
            (&["\"7\" , \"8\",", "\"9\""], versions(&[7, 8, 9])),
            (&["W/\"7\", \"x,y\", \"07\", \"\", \"7.118.3\""], versions(&[])),
            (&[" * "], Some(Match::Anything)),
        ] {
            assert_eq!(expected(lines).unwrap(), wanted, "{lines:?}");
        }
        for line in ["", ",", "7", "\"7", "7\"", "\"7\" \"8\"", "*, \"7\"", "\"7\", *", "w/\"7\"", "W/7", "\"a b\"", "**", "\"7\";q=1"] {
            assert!(matches!(expected(&[line]), Err(ApiError::InvalidHeader(_))), "{line}");
        }
    }
}
