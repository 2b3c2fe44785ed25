//! What the errors of the driver and the server mean to a caller.

use crate::{Error, Kind};
use ::redis::{ErrorKind, RedisError, ServerErrorKind};

pub(super) fn short() -> Error {
    Error::new(Kind::Bug, "Redis: a pipeline returned fewer replies than it had commands")
}

/// Refusals of a server that cannot write now; they come before anything was changed.
const CANNOT_WRITE: [&str; 4] = ["MISCONF", "NOREPLICAS", "BUSY", "READONLY"];

pub(super) fn of_driver(error: &RedisError) -> Error {
    let kind = match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown,
        ) => Kind::Unavailable,
        // A script that meets the limit answers with the error inside its own.
        _ if says(error, "OOM") => Kind::Full,
        _ if CANNOT_WRITE.iter().any(|code| says(error, code)) => Kind::Unavailable,
        ErrorKind::Io if error.is_connection_refusal() => Kind::Unavailable,
        ErrorKind::Io => Kind::Unknown,
        _ if error.is_connection_dropped() || error.is_timeout() => Kind::Unknown,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Kind::Corrupt,
        _ => Kind::Bug,
    };
    Error::new(kind, format!("Redis: {error}"))
}

/// Whether the server's answer has this code, at its beginning or inside a script's error.
fn says(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|detail| detail.split([' ', ':', '-']).any(|word| word == code))
}

/// Whether a connection is of no use after this error: it is lost, or the server cannot serve us any more.
pub(super) fn breaks_session(error: &RedisError) -> bool {
    let server =
        matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading));
    server || error.kind() == ErrorKind::Io || error.is_connection_dropped() || error.is_timeout()
}
