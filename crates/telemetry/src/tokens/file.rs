//! The tokens file: TOML with one `[[token]]` for each token.
//!
//! ```toml
//! [[token]]
//! name = "till"
//! scopes = ["catalog:read", "prices:write"]
//! sha256 = "<SHA-256 of the secret, 64 hexadecimal digits>"
//! ```
//!
//! A file is taken whole or not at all; every fault is told with its line. What a fault quotes is never a value, since
//! that may be a secret in the wrong place.

use super::{Digest, Token};
use crate::scope::{Scope, Scopes};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest file. Room for [`MAX_TOKENS`] with long names, all scopes and a comment each.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Every request is compared with all tokens, so there is an end to them.
const MAX_TOKENS: usize = 256;

const MAX_NAME_BYTES: usize = 64;

const KEYS: [&str; 4] = ["name", "scopes", "sha256", "publishable"];

/// Secrets that somebody tries first. Each is also refused with the line end that `echo` puts behind it.
const WEAK: [&str; 32] = [
    "",
    "0",
    "1",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "abc123",
    "admin",
    "api",
    "apikey",
    "api-key",
    "bearer",
    "changeme",
    "change-me",
    "default",
    "demo",
    "dev",
    "example",
    "hello",
    "inventory",
    "key",
    "letmein",
    "pass",
    "passw0rd",
    "password",
    "password1",
    "qwerty",
    "root",
    "secret",
    "test",
    "token",
];

type Table<'i> = DeTable<'i>;
type Value<'i> = Spanned<DeValue<'i>>;

/// # Errors
/// The file cannot be read or has faults.
pub(super) fn read(path: &Path) -> Result<Box<[Token]>, String> {
    let name = path.display();
    let cannot = |error: std::io::Error| format!("cannot read {name}: {error}");
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(format!("{name} is no file"));
    }
    if metadata.permissions().mode() & 0o007 != 0 {
        tracing::warn!("{name} can be used by every user of this machine: chmod o= {name}");
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("{name} is longer than {MAX_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        format!("{name} line {line}: not UTF-8")
    })?;
    parse(&text).map_err(|faults| format!("{name} {faults}"))
}

/// # Errors
/// All faults, each with its line.
fn parse(text: &str) -> Result<Box<[Token]>, String> {
    let mut faults = Faults { text, found: Vec::new() };
    let tokens = match DeTable::parse(text) {
        Ok(document) => tokens(document.get_ref(), &mut faults),
        Err(error) => {
            // Its own words alone: the error as it is shows the line, and with it a hash.
            faults.add(error.span().unwrap_or_default(), format!("not TOML: {}", error.message().lines().next().unwrap_or_default()));
            Vec::new()
        }
    };
    faults.into_result().map(|()| tokens.into())
}

fn tokens(document: &Table, faults: &mut Faults) -> Vec<Token> {
    for (key, _) in document.iter().filter(|(key, _)| key.get_ref() != "token") {
        faults.add(key.span(), "unknown key; each token is a [[token]]");
    }
    let entries = match document.get("token").map(|value| (value.span(), value.get_ref())) {
        Some((_, DeValue::Array(entries))) if !entries.is_empty() => entries,
        Some((place, DeValue::Array(_))) => return faults.none(place, "there is no token in it").unwrap_or_default(),
        Some((place, _)) => return faults.none(place, "write [[token]], with two brackets").unwrap_or_default(),
        None => return faults.none(0..0, "it has no [[token]]; nobody would be let in").unwrap_or_default(),
    };
    let mut tokens: Vec<Token> = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        if n == MAX_TOKENS {
            faults.add(entry.span(), format!("there are more than {MAX_TOKENS} tokens"));
            break;
        }
        let token = match entry.get_ref() {
            DeValue::Table(table) => token(entry.span(), table, &tokens, faults),
            _ => faults.none(entry.span(), "a token is a table: write [[token]]"),
        };
        tokens.extend(token);
    }
    tokens
}

fn token(place: Range<usize>, table: &Table, before: &[Token], faults: &mut Faults) -> Option<Token> {
    for (key, _) in table.iter().filter(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
        faults.add(key.span(), format!("unknown key; did you mean {}?", nearest_key(key.get_ref())));
    }
    let mut required = |key: &str| table.get(key).or_else(|| faults.none(place.clone(), format!("{key} is missing")));
    let [name_value, scopes_value, hash_value] = [required("name"), required("scopes"), required("sha256")];
    let name = name_value.and_then(|value| name(value, before, faults));
    let scopes = scopes_value.and_then(|value| scopes(value, faults));
    let digest = hash_value.and_then(|value| digest(value, name.as_deref(), before, faults));
    let publishable = match table.get("publishable").map(|value| (value.span(), value.get_ref())) {
        None => Some(false),
        Some((_, DeValue::Boolean(flag))) => Some(*flag),
        Some((place, _)) => faults.none(place, "publishable must be true or false"),
    };
    let (name, scopes, digest, publishable) = (name?, scopes?, digest?, publishable?);
    if publishable && scopes != Scopes::from_iter([Scope::ViewsWrite]) {
        let place = table.get("publishable").map_or(place, Value::span);
        return faults.none(place, "a publishable token may be seen by everybody, so its only scope must be views:write");
    }
    Some(Token { name: name.into(), digest, scopes, publishable })
}

fn nearest_key(key: &str) -> &'static str {
    let likeness = |known: &str| strsim::jaro_winkler(known, key);
    KEYS.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or(KEYS[0])
}

fn name(value: &Value, before: &[Token], faults: &mut Faults) -> Option<String> {
    let Some(name) = value.get_ref().as_str() else { return faults.none(value.span(), "name must be a text in quotes") };
    if let Err(fault) = check_name(name) {
        return faults.none(value.span(), format!("name: {fault}"));
    }
    if before.iter().any(|token| *token.name == *name) {
        return faults.none(value.span(), "another token has this name");
    }
    Some(name.to_owned())
}

/// A name stands in logs and in the history of prices.
///
/// # Errors
/// It does not have 1 to 64 visible ASCII characters.
pub fn check_name(name: &str) -> Result<(), String> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        return Ok(());
    }
    Err(format!("use 1 to {MAX_NAME_BYTES} letters, digits and signs, without blanks, quotes and backslashes"))
}

fn scopes(value: &Value, faults: &mut Faults) -> Option<Scopes> {
    let DeValue::Array(list) = value.get_ref() else {
        return faults.none(value.span(), "scopes must be a list: [\"catalog:read\"]");
    };
    if list.is_empty() {
        return faults.none(value.span(), "scopes is empty; a token without any may do nothing");
    }
    let mut set = Some(Scopes::default());
    for item in list {
        let scope = match item.get_ref().as_str().map(str::parse::<Scope>) {
            Some(Ok(scope)) => Some(scope),
            Some(Err(fault)) => faults.none(item.span(), format!("scopes: {fault}")),
            None => faults.none(item.span(), "scopes: each is a text in quotes"),
        };
        let repeated = scope.zip(set.as_mut()).is_some_and(|(scope, set)| !set.add(scope));
        set = if repeated { faults.none(item.span(), "scopes: given twice") } else { scope.and(set) };
    }
    set
}

fn digest(value: &Value, name: Option<&str>, before: &[Token], faults: &mut Faults) -> Option<Digest> {
    let Some(bytes) = value.get_ref().as_str().and_then(unhex) else {
        return faults.none(value.span(), "sha256 must be the SHA-256 of the secret as 64 hexadecimal digits in quotes");
    };
    let digest = Digest::from_bytes(bytes);
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return faults.none(value.span(), "sha256 is a placeholder; make a token with `inventoryctl token new`");
    }
    if is_weak(digest, name) {
        return faults
            .none(value.span(), "sha256 is that of an empty or easily guessed secret; make a token with `inventoryctl token new`");
    }
    match before.iter().find(|token| token.digest == digest) {
        Some(token) => faults.none(value.span(), format!("the token {} has the same secret", token.name)),
        None => Some(digest),
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn is_weak(digest: Digest, name: Option<&str>) -> bool {
    let mut weak = WEAK.into_iter().chain(name);
    weak.any(|word| [word.to_owned(), format!("{word}\n")].iter().any(|word| Digest::of(word.as_bytes()) == digest))
}

/// What is wrong with a file, and where.
struct Faults<'t> {
    text: &'t str,
    found: Vec<(usize, String)>,
}

impl Faults<'_> {
    fn add(&mut self, place: Range<usize>, fault: impl Into<String>) {
        let before = self.text.as_bytes().get(..place.start).unwrap_or_default();
        self.found.push((1 + before.iter().filter(|byte| **byte == b'\n').count(), fault.into()));
    }

    /// The same, for a value that is then missing.
    fn none<T>(&mut self, place: Range<usize>, fault: impl Into<String>) -> Option<T> {
        self.add(place, fault);
        None
    }

    fn into_result(mut self) -> Result<(), String> {
        self.found.sort();
        let lines: Vec<_> = self.found.iter().map(|(line, fault)| format!("line {line}: {fault}")).collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
    }
}

#[cfg(test)]
mod tests;
