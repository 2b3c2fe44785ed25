//! Who may call: bearer tokens, read from a file that holds the SHA-256 of each secret, and again at SIGHUP.
//!
//! No secret and no hash is ever printed. What was presented is hashed and compared with every token in the same time,
//! wherever it matches. Without a file nobody is asked for a token, and every listener must be loopback.

mod file;

use crate::config::require_loopback;
use crate::scope::{Scope, Scopes};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio::signal::unix::{SignalKind, signal};

pub use file::check_name;

/// Longest secret that is looked at; a longer one is no token of ours, and need not be hashed.
const MAX_SECRET_BYTES: usize = 256;

/// What the realm of every challenge is called.
const REALM: &str = "Bearer realm=\"inventory\"";

/// Whether the program asks for tokens.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TokensArgs {
    /// Tokens: name, scopes and SHA-256 of each secret; read again at SIGHUP. Without it every listener must be loopback
    #[arg(long, env = "INVENTORY_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
}

impl TokensArgs {
    /// # Errors
    /// The address is not loopback and there is no tokens file; `what` names the setting.
    pub fn check_listener(&self, address: SocketAddr, what: &str) -> Result<(), String> {
        if self.tokens_file.is_some() { Ok(()) } else { require_loopback(address, what) }
    }

    /// Reads the file, if there is one, and again at each SIGHUP. Call it inside a tokio runtime, after the log was started.
    ///
    /// # Errors
    /// The file cannot be used; says its line and why.
    pub fn start(&self) -> Result<Option<Tokens>, String> {
        let Some(path) = &self.tokens_file else { return Ok(None) };
        let reload = signal(SignalKind::hangup()).map_err(|error| format!("cannot listen for SIGHUP: {error}"))?;
        let tokens = Tokens::read(path).map_err(|fault| format!("INVENTORY_TOKENS_FILE: {fault}"))?;
        tracing::info!(tokens = tokens.count(), "tokens are required");
        tokio::spawn(reload_at(reload, tokens.clone()));
        Ok(Some(tokens))
    }
}

async fn reload_at(mut hangup: tokio::signal::unix::Signal, tokens: Tokens) {
    while hangup.recv().await.is_some() {
        let again = tokens.clone();
        match tokio::task::spawn_blocking(move || again.reload()).await {
            Ok(Ok(())) => tracing::info!(tokens = tokens.count(), "SIGHUP: the tokens were read again"),
            Ok(Err(fault)) => tracing::error!("SIGHUP: the old tokens stay: INVENTORY_TOKENS_FILE: {fault}"),
            Err(panic) => tracing::error!("SIGHUP: the old tokens stay: {panic}"),
        }
    }
}

/// SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u64; 4]);

impl Digest {
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self::from_bytes(Sha256::digest(secret).into())
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*eight);
        }
        Self(words)
    }

    /// 0 if both are the same. Without a branch; a comparison by `subtle` for each word was measured to take 2.5 times as long.
    fn difference(self, other: Self) -> u64 {
        self.0.into_iter().zip(other.0).fold(0, |bits, (a, b)| bits | (a ^ b))
    }

    /// As the tokens file has it: 64 hexadecimal digits.
    #[must_use]
    pub fn hex(self) -> String {
        self.0.map(|word| format!("{word:016x}")).concat()
    }
}

/// One entry of the file.
struct Token {
    name: Arc<str>,
    digest: Digest,
    scopes: Scopes,
    publishable: bool,
}

/// The name of the token that a request came with. In the request's extensions where tokens are required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 401: no token was presented.
    Missing,
    /// 401: no token has the secret that was presented.
    Unknown,
    /// 401: the token is none that may stand in a URL.
    NotPublishable,
    /// 403: the token is known and may not do this.
    Lacks(Scope),
}

impl Denied {
    #[must_use]
    pub fn status(self) -> StatusCode {
        if let Self::Lacks(_) = self { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }

    /// The type of its problem, `/problems/<slug>`.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Missing => "missing-token",
            Self::Unknown | Self::NotPublishable => "invalid-token",
            Self::Lacks(_) => "missing-scope",
        }
    }

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Missing => "A token is required",
            Self::Unknown | Self::NotPublishable => "The token is not valid here",
            Self::Lacks(_) => "The token lacks a scope",
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3).
    #[must_use]
    pub fn challenge(self) -> HeaderValue {
        let text = match self {
            Self::Missing => REALM.to_owned(),
            Self::Unknown | Self::NotPublishable => format!("{REALM}, error=\"invalid_token\""),
            Self::Lacks(scope) => format!("{REALM}, error=\"insufficient_scope\", scope=\"{scope}\""),
        };
        HeaderValue::try_from(text).expect("letters and punctuation of ours")
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("a token is required: send it as Authorization: Bearer <token>"),
            Self::Unknown => f.write_str("the token that was sent is not known here"),
            Self::NotPublishable => {
                f.write_str("only a publishable token is taken from ?k=; send this one as Authorization: Bearer <token>")
            }
            Self::Lacks(scope) => write!(f, "the token lacks the scope {scope}"),
        }
    }
}

impl std::error::Error for Denied {}

/// The tokens of a running program. Clones share one set.
#[derive(Clone)]
pub struct Tokens {
    path: PathBuf,
    set: Arc<RwLock<Box<[Token]>>>,
}

impl Tokens {
    /// # Errors
    /// The file cannot be read or has a fault; says its line and why.
    pub fn read(path: &Path) -> Result<Self, String> {
        let set = file::read(path)?;
        Ok(Self { path: path.to_owned(), set: Arc::new(RwLock::new(set)) })
    }

    fn reload(&self) -> Result<(), String> {
        let set = file::read(&self.path)?;
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = set;
        Ok(())
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.set.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whose `Authorization` this is, if its token has the scope.
    ///
    /// # Errors
    /// It has not, or there is no such token.
    pub fn check(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Denied> {
        self.find(presented(headers)?, scope, false)
    }

    /// The same for a token that stands in the URL, where only a publishable one may.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_key(&self, key: &[u8], scope: Scope) -> Result<Caller, Denied> {
        self.find(key, scope, true)
    }

    fn find(&self, secret: &[u8], scope: Scope, must_be_publishable: bool) -> Result<Caller, Denied> {
        if secret.len() > MAX_SECRET_BYTES {
            return Err(Denied::Unknown);
        }
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        let token = &set[position(&set, Digest::of(secret)).ok_or(Denied::Unknown)?];
        if must_be_publishable && !token.publishable {
            return Err(Denied::NotPublishable);
        }
        if token.scopes.contains(scope) { Ok(Caller(token.name.clone())) } else { Err(Denied::Lacks(scope)) }
    }
}

/// Compares with every token, so that the time does not tell which one came near.
fn position(set: &[Token], digest: Digest) -> Option<usize> {
    let mut found = u64::MAX;
    for (n, token) in (0..).zip(set) {
        found.conditional_assign(&n, token.digest.difference(digest).ct_eq(&0));
    }
    usize::try_from(found).ok().filter(|n| *n < set.len())
}

/// The secret of `Authorization: Bearer`. Another scheme counts as none; two headers are nobody's.
fn presented(headers: &HeaderMap) -> Result<&[u8], Denied> {
    const SCHEME: &[u8] = b"Bearer ";
    let mut given = headers.get_all(AUTHORIZATION);
    let value = given.next().ok_or(Denied::Missing)?.as_bytes();
    if given.next().is_some() {
        return Err(Denied::Unknown);
    }
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(secret.trim_ascii()),
        _ => Err(Denied::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets `a`, `b` and `c`; only `b` is publishable.
    fn tokens() -> Tokens {
        let token = |name: &str, scopes: &[Scope], publishable| Token {
            name: name.into(),
            digest: Digest::of(name.as_bytes()),
            scopes: scopes.iter().copied().collect(),
            publishable,
        };
        let set = [
            token("a", &[Scope::CatalogRead, Scope::PricesWrite], false),
            token("b", &[Scope::ViewsWrite], true),
            token("c", &[Scope::ViewsWrite], false),
        ];
        Tokens { path: PathBuf::new(), set: Arc::new(RwLock::new(set.into())) }
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn check(values: &[&str], scope: Scope) -> Result<String, Denied> {
        tokens().check(&headers(values), scope).map(|caller| caller.0.to_string())
    }

    #[test]
    fn a_token_is_let_in_with_its_scopes_alone() {
        assert_eq!(check(&["Bearer a"], Scope::CatalogRead).as_deref(), Ok("a"));
        assert_eq!(check(&["bearer  b "], Scope::ViewsWrite).as_deref(), Ok("b"));
        assert_eq!(check(&["Bearer c"], Scope::ViewsWrite).as_deref(), Ok("c"));
        assert_eq!(check(&["Bearer a"], Scope::ViewsWrite), Err(Denied::Lacks(Scope::ViewsWrite)));
    }

    #[test]
    fn whoever_has_no_token_is_told_whether_one_was_seen() {
        for missing in [&[][..], &["Basic YTpi"], &["Bearer"], &["a"]] {
            assert_eq!(check(missing, Scope::CatalogRead), Err(Denied::Missing), "{missing:?}");
        }
        for unknown in [&["Bearer d"][..], &["Bearer "], &["Bearer a", "Bearer a"], &["Bearer a b"], &["Bearer A"]] {
            assert_eq!(check(unknown, Scope::CatalogRead), Err(Denied::Unknown), "{unknown:?}");
        }
        let long = format!("Bearer {}", "a".repeat(MAX_SECRET_BYTES + 1));
        assert_eq!(check(&[&long], Scope::CatalogRead), Err(Denied::Unknown));
    }

    #[test]
    fn only_a_publishable_token_may_stand_in_a_url() {
        let key = |key: &str| tokens().check_key(key.as_bytes(), Scope::ViewsWrite).map(|caller| caller.0.to_string());
        assert_eq!(key("b").as_deref(), Ok("b"));
        assert_eq!(key("c"), Err(Denied::NotPublishable));
        assert_eq!(key("a"), Err(Denied::NotPublishable));
        assert_eq!(key(""), Err(Denied::Unknown));
    }

    #[test]
    fn a_challenge_says_what_is_wrong_with_the_token() {
        let challenge = |denied: Denied| denied.challenge().to_str().unwrap().to_owned();
        assert_eq!(challenge(Denied::Missing), "Bearer realm=\"inventory\"");
        assert_eq!(challenge(Denied::Unknown), "Bearer realm=\"inventory\", error=\"invalid_token\"");
        assert_eq!(challenge(Denied::Lacks(Scope::Admin)), "Bearer realm=\"inventory\", error=\"insufficient_scope\", scope=\"admin\"");
        assert_eq!(Denied::Lacks(Scope::Admin).status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_digest_is_that_of_sha_256() {
        assert_eq!(Digest::of(b"abc").hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
