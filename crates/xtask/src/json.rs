//! Reads numbers from what `inventoryctl … -o json` prints: objects whose names are unique. A JSON
//! crate would add seconds to the time between a clone and the first line of `cargo xtask up`.

/// The number after `"name":`, if there is one; `null` is none.
pub(crate) fn number(text: &str, name: &str) -> Option<f64> {
    let quoted = format!("\"{name}\"");
    let (_, rest) = text.split_once(&quoted)?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find([',', '}', ']', '\n', ' ']).unwrap_or(value.len());
    value[..end].trim_matches('"').parse().ok()
}

/// A count after `"name":`.
pub(crate) fn count(text: &str, name: &str) -> Option<u64> {
    // Exact up to 2^53, which is what the counters promise.
    number(text, name).map(|value| value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_one_line_and_in_many() {
        let text = r#"{"accepted":34960,"oldest_age_seconds":0.25,"dead": 0, "note":null,"last":7}"#;
        assert_eq!(count(text, "accepted"), Some(34_960));
        assert_eq!(number(text, "oldest_age_seconds"), Some(0.25));
        assert_eq!(count(text, "dead"), Some(0));
        assert_eq!(number(text, "note"), None);
        assert_eq!(number(text, "absent"), None);
        assert_eq!(count(text, "last"), Some(7));
        assert_eq!(count("{\n  \"mismatches\": 3\n}\n", "mismatches"), Some(3));
    }
}
