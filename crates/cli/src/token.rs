//! `token new`: a secret for a caller, and the entry of the tokens file that lets it in.
//!
//! The secret is shown once and kept nowhere; the file has only its hash.

use crate::args::NewToken;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use serde::Serialize;
use telemetry::scope::Scope;
use telemetry::tokens::{Digest, check_name};

/// What every secret begins with, so that people and scanners of repositories know one when they see it.
const PREFIX: &str = "inv_";

/// Characters behind the prefix, of 6 random bits each: 258 bits.
const LENGTH: usize = 43;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[derive(Serialize)]
struct Made {
    name: String,
    scopes: Vec<&'static str>,
    publishable: bool,
    secret: String,
    sha256: String,
    /// To be appended to the tokens file.
    toml: String,
}

impl Row for Made {
    const COLUMNS: &'static [&'static str] = &["name", "scopes", "publishable", "secret", "sha256", "toml"];

    fn cells(&self) -> Vec<String> {
        let Self { name, scopes, publishable, secret, sha256, toml } = self;
        vec![name.clone(), scopes.join(" "), publishable.to_string(), secret.clone(), sha256.clone(), toml.clone()]
    }
}

pub(crate) fn new(args: &NewToken, output: &Output) -> Result<Exit, Failure> {
    let made = make(args)?;
    match output.format() {
        // Only what belongs into the file, so that `>> tokens.toml` does it.
        Format::Table => {
            output.text(&made.toml)?;
            eprintln!("the secret: {}", made.secret);
        }
        Format::Json | Format::Ndjson | Format::Csv => output.one(&made)?,
    }
    eprintln!("give the secret to {}: it is not shown again", made.name);
    eprintln!("append the [[token]] to the file of INVENTORY_TOKENS_FILE, then send SIGHUP to the API and the workers");
    Ok(Exit::Ok)
}

fn make(args: &NewToken) -> Result<Made, Failure> {
    let usage = |fault: String| Failure::new(Exit::Usage, fault);
    check_name(&args.name).map_err(|fault| usage(format!("--name: {fault}")))?;
    if args.publishable && args.scopes.iter().any(|scope| *scope != Scope::ViewsWrite) {
        return Err(usage("a publishable token may be seen by everybody, so its only scope is views:write".into()));
    }
    let mut scopes: Vec<_> = Vec::new();
    for scope in args.scopes.iter().map(|scope| scope.as_str()) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let secret = secret().map_err(|fault| Failure::doing("asking the system for random bytes", &fault))?;
    let sha256 = Digest::of(secret.as_bytes()).hex();
    let toml = entry(&args.name, &scopes, args.publishable, &sha256);
    Ok(Made { name: args.name.clone(), scopes, publishable: args.publishable, secret, sha256, toml })
}

fn entry(name: &str, scopes: &[&str], publishable: bool, sha256: &str) -> String {
    let publishable = if publishable { "publishable = true\n" } else { "" };
    format!("[[token]]\nname = \"{name}\"\nscopes = [\"{}\"]\nsha256 = \"{sha256}\"\n{publishable}", scopes.join("\", \""))
}

fn secret() -> Result<String, getrandom::Error> {
    let mut random = [0; LENGTH];
    getrandom::fill(&mut random)?;
    let signs = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(PREFIX.chars().chain(signs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, scopes: &[Scope], publishable: bool) -> NewToken {
        NewToken { name: name.into(), scopes: scopes.to_vec(), publishable }
    }

    #[test]
    fn a_secret_is_long_and_never_the_same() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("inv_") && one.len() == 47 && one[4..].bytes().all(|sign| ALPHABET.contains(&sign)), "{one}");
        assert_eq!(256 % ALPHABET.len(), 0, "every sign is as likely as any other");
    }

    #[test]
    fn the_entry_has_the_hash_and_not_the_secret() {
        let made = make(&args("till", &[Scope::CatalogRead, Scope::PricesWrite, Scope::CatalogRead], false)).unwrap();
        let hash = Digest::of(made.secret.as_bytes()).hex();
        assert_eq!(made.toml, format!("[[token]]\nname = \"till\"\nscopes = [\"catalog:read\", \"prices:write\"]\nsha256 = \"{hash}\"\n"));
        let public = make(&args("page", &[Scope::ViewsWrite], true)).unwrap();
        assert!(public.toml.ends_with("\"\npublishable = true\n"), "{}", public.toml);
    }

    #[test]
    fn what_the_tokens_file_would_refuse_is_not_made() {
        for args in [args("two words", &[Scope::Admin], false), args("page", &[Scope::ViewsWrite, Scope::Admin], true)] {
            assert_eq!(make(&args).err().unwrap().exit, Exit::Usage);
        }
    }
}
