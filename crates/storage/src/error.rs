//! One error for both stores. Its kind says what the caller can do; its source is for the log.

use crate::mysql::LOCK_WAIT_TIMEOUT;
use std::fmt;
use std::sync::Arc;
use telemetry::metrics::ErrorKind;

/// What the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The store is away or too slow. Nothing was changed; try again later.
    Unavailable,
    /// Redis is at `maxmemory`. Nothing was changed; there is room again when the drain has caught up.
    Full,
    /// Lost against another writer (lock wait, deadlock). Nothing was changed; run the whole transaction again.
    Conflict,
    /// The data were refused (SQLSTATE class 22, 23 or 45), or what is stored cannot be read.
    Corrupt,
    /// The request was sent and no answer came: it was applied once, or will be, or never.
    Unknown,
    /// Anything else, such as a missing privilege or column: ours, or the operator's, to mend.
    Bug,
}

impl Kind {
    pub(crate) fn label(self) -> ErrorKind {
        match self {
            Self::Unavailable => ErrorKind::Unavailable,
            Self::Full => ErrorKind::Full,
            Self::Conflict => ErrorKind::Conflict,
            Self::Corrupt => ErrorKind::Corrupt,
            Self::Unknown => ErrorKind::Unknown,
            Self::Bug => ErrorKind::Bug,
        }
    }
}

/// A failed call to a store. Cheap to clone, because one failure can answer many waiting requests.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: Arc<str>,
    /// MySQL's error number, for the few that a caller tells apart.
    code: Option<u16>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), code: None }
    }

    pub(crate) fn with_code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub(crate) fn code(&self) -> Option<u16> {
        self.code
    }

    /// Whether MySQL refused data, rather than that something stored cannot be read: other data in its place may pass.
    #[must_use]
    pub fn is_refusal_of_data(&self) -> bool {
        self.kind == Kind::Corrupt && self.code.is_some()
    }

    /// Whether it waited for another's lock for as long as a session waits; to run the transaction again would wait as long.
    #[must_use]
    pub fn is_lock_wait(&self) -> bool {
        self.code == Some(LOCK_WAIT_TIMEOUT)
    }

    /// The same failure, met where the outcome of a COMMIT is no longer known.
    pub(crate) fn into_unknown(mut self) -> Self {
        self.kind = Kind::Unknown;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
