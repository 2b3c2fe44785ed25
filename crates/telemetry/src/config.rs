//! What the settings of all programs share: their names, secrets, durations and the log's own settings.
//!
//! A name or value that cannot be meant stops the start with a message that says what would do.
//! Nothing here prints a secret.

pub mod shown;

use crate::log::LogFormat;
use crate::pause_point;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// What every environment variable of ours begins with.
pub const PREFIX: &str = "INVENTORY_";

/// Every variable that one of the programs knows; a program ignores its siblings'.
pub const ALL_VARIABLES: &[&str] = &[
    "INVENTORY_MYSQL_URL",
    "INVENTORY_MYSQL_URL_FILE",
    "INVENTORY_REDIS_URL",
    "INVENTORY_REDIS_URL_FILE",
    "INVENTORY_CACHE_REDIS_URL",
    "INVENTORY_CACHE_REDIS_URL_FILE",
    "INVENTORY_MYSQL_CONNECTIONS",
    "INVENTORY_URL",
    "INVENTORY_TOKEN",
    "INVENTORY_TOKEN_FILE",
    "INVENTORY_KEY_PREFIX",
    "INVENTORY_API_LISTEN",
    "INVENTORY_API_OPS_LISTEN",
    "INVENTORY_WORKER_OPS_LISTEN",
    "INVENTORY_API_THREADS",
    "INVENTORY_TOKENS_FILE",
    "INVENTORY_CACHE_TTL",
    "INVENTORY_CACHE_NEGATIVE_TTL",
    "INVENTORY_SHARDS",
    "INVENTORY_QUEUE_CAPACITY",
    "INVENTORY_BATCH_VIEWS",
    "INVENTORY_FLUSH_INTERVAL",
    "INVENTORY_BATCH_DEADLINE",
    "INVENTORY_RETRY_LIMIT",
    "INVENTORY_RESERVATION_TTL",
    "INVENTORY_RESERVATION_TTL_LIMIT",
    "INVENTORY_REQUEST_TIMEOUT",
    "INVENTORY_SHUTDOWN_TIMEOUT",
    "INVENTORY_CORS_ORIGINS",
    "INVENTORY_RATE_LIMIT",
    "INVENTORY_TLS_CERT_FILE",
    "INVENTORY_TLS_KEY_FILE",
    "INVENTORY_LOG",
    "INVENTORY_LOG_FORMAT",
];

/// Read when the programs are built, and left over in many a container's environment.
const BUILD_VARIABLES: &[&str] = &["INVENTORY_COMMIT"];

/// Longest duration that a setting can mean.
const DURATION_LIMIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Units of durations, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The settings of the log, for all programs.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What is logged: error, warn, info, debug or trace, also by module: info,inventory_api=debug
    #[arg(long, env = "INVENTORY_LOG", value_name = "FILTER", default_value = "info", global = true)]
    pub log: String,
    /// How a log line looks
    #[arg(long, env = "INVENTORY_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "auto", global = true)]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// # Errors
    /// As [`crate::log::init`].
    pub fn init(&self) -> Result<(), String> {
        crate::log::init(&self.log, self.log_format).map_err(|error| format!("INVENTORY_LOG: {error}"))
    }
}

/// Refuses variables that none of the programs knows. Call it with [`std::env::vars_os`] before reading settings.
///
/// # Errors
/// Names each unknown variable and the valid one nearest to it.
pub fn refuse_unknown_variables<K: AsRef<OsStr>, V: AsRef<OsStr>>(environment: impl IntoIterator<Item = (K, V)>) -> Result<(), String> {
    let mut faults: Vec<String> = environment
        .into_iter()
        .map(|(name, value)| (name.as_ref().to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(PREFIX) && !is_known(name))
        .filter_map(|(name, value)| fault(&name, value.as_ref()))
        .collect();
    faults.sort();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn fault(name: &str, value: &OsStr) -> Option<String> {
    if cfg!(debug_assertions) && name == pause_point::VARIABLE {
        return pause_point::parse_listener(value).err();
    }
    Some(format!("unknown environment variable {name}; did you mean {}?", nearest(name)))
}

fn is_known(name: &str) -> bool {
    ALL_VARIABLES.contains(&name) || BUILD_VARIABLES.contains(&name)
}

/// Compared without the common prefix, which would make all of them look alike.
fn nearest(name: &str) -> &'static str {
    let name = name.to_ascii_uppercase();
    let likeness = |known: &str| strsim::jaro_winkler(stem(known), stem(&name));
    let best = ALL_VARIABLES.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.unwrap_or(PREFIX)
}

fn stem(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Variables that `command` reads but [`ALL_VARIABLES`] lacks: a start with them would be refused. For tests of the programs.
#[must_use]
pub fn undeclared_variables(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env).map(|name| name.to_string_lossy().into_owned());
    own.filter(|name| !ALL_VARIABLES.contains(&name.as_str())).chain(command.get_subcommands().flat_map(undeclared_variables)).collect()
}

/// A secret given as it is, or as a file that holds it (line ends at its end are not part of it).
///
/// # Errors
/// Both were given, or the file cannot be read or is empty.
pub fn read_secret(value: Option<&str>, file: Option<&Path>) -> Result<Option<String>, String> {
    let Some(file) = file else { return Ok(value.map(str::to_owned)) };
    let name = file.display();
    if value.is_some() {
        return Err(format!("given both as it is and as the file {name}; leave one of them out"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read the file {name}: {error}"))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("the file {name} is empty; write the secret into it")),
        secret => Ok(Some(secret.to_owned())),
    }
}

/// A URL with `***` for its password, also where the URL is not well formed. Rather hides too much than too little.
#[must_use]
pub fn masked_url(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    // A password with an unescaped `/` or `@` is a fault, but no reason to print it: the last `@` ends it.
    let rest = match rest.rsplit_once('@') {
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => format!("{user}:***@{place}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    format!("{scheme}{}", masked_parameters(&rest))
}

/// `redis+unix:///path?pass=…` carries its password as a parameter.
fn masked_parameters(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else {
        return text.to_owned();
    };
    let mask = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
        _ => parameter.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(mask).collect();
    format!("{path}?{}", query.join("&"))
}

/// Parses `500ms`, `5s`, `5m`, `4h` or `1d`; for clap's `value_parser`. From 1 ms to 366 days.
///
/// # Errors
/// Anything else; says what would do.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let hint = "write a whole number and a unit: 500ms, 5s, 5m, 4h or 1d";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() { format!("the unit is missing; {hint}") } else { hint.to_owned() });
    };
    if number.is_empty() {
        return Err(hint.to_owned());
    }
    let duration = number.parse().ok().and_then(|number: u64| number.checked_mul(*millis)).map(Duration::from_millis);
    match duration {
        Some(Duration::ZERO) => Err("must be above 0".to_owned()),
        Some(duration) if duration <= DURATION_LIMIT => Ok(duration),
        _ => Err("must be at most 366d".to_owned()),
    }
}

/// The shortest text that [`parse_duration`] reads as the same; parts of a millisecond are cut off.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let exact = UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    exact.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / u128::from(*unit)))
}

/// Without tokens everybody who reaches a listener may do everything, so only this machine may reach it.
///
/// # Errors
/// The address is not loopback; `what` names the setting.
pub fn require_loopback(address: SocketAddr, what: &str) -> Result<(), String> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let port = address.port();
    Err(format!(
        "{what}={address}: listening beyond loopback is refused without tokens; set INVENTORY_TOKENS_FILE, or use 127.0.0.1:{port} or [::1]:{port}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn refused(names: &[&str]) -> String {
        refuse_unknown_variables(names.iter().map(|name| (*name, "x"))).unwrap_err()
    }

    #[test]
    fn an_unknown_variable_is_refused_and_the_nearest_one_named() {
        for (wrong, meant) in [
            ("INVENTORY_REDIS", "INVENTORY_REDIS_URL"),
            ("INVENTORY_MYSQL_CONECTIONS", "INVENTORY_MYSQL_CONNECTIONS"),
            ("INVENTORY_LISTEN_API", "INVENTORY_API_LISTEN"),
            ("INVENTORY_LOGFORMAT", "INVENTORY_LOG_FORMAT"),
            ("INVENTORY_mysql_url_file", "INVENTORY_MYSQL_URL_FILE"),
        ] {
            assert_eq!(refused(&[wrong]), format!("unknown environment variable {wrong}; did you mean {meant}?"));
        }
        assert_eq!(refused(&["INVENTORY_B", "PATH", "INVENTORY_A"]).lines().count(), 2);
    }

    #[test]
    fn every_known_variable_and_those_of_others_pass() {
        let others = ["PATH", "inventory_log", "MY_INVENTORY_X", "INVENTORY_COMMIT"];
        let names = ALL_VARIABLES.iter().copied().chain(others);
        assert_eq!(refuse_unknown_variables(names.map(|name| (name, "x"))), Ok(()));
    }

    #[test]
    fn pause_points_are_known_to_builds_that_have_them_and_only_on_this_machine() {
        let refused = |listener| refuse_unknown_variables([(pause_point::VARIABLE, listener)]);
        assert_eq!(refused("127.0.0.1:4000").is_ok(), cfg!(debug_assertions));
        for elsewhere in ["10.0.0.1:4000", "0.0.0.0:4000", "127.0.0.1", "4000", ""] {
            assert!(refused(elsewhere).is_err_and(|fault| fault.contains(pause_point::VARIABLE)), "{elsewhere}");
        }
    }

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        log: LogArgs,
        #[arg(long, env = "INVENTORY_NEW_THING")]
        new_thing: Option<String>,
    }

    #[test]
    fn a_variable_that_a_program_reads_and_the_list_lacks_is_found() {
        assert_eq!(undeclared_variables(&<Program as clap::CommandFactory>::command()), ["INVENTORY_NEW_THING"]);
        let program = Program::parse_from(["program", "--log", "debug", "--log-format", "json"]);
        assert_eq!((program.log.log.as_str(), program.log.log_format, program.new_thing), ("debug", LogFormat::Json, None));
    }

    #[test]
    fn a_secret_comes_from_a_value_or_a_file_but_not_from_both() {
        let directory = std::env::temp_dir().join(format!("telemetry-secret-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (file, empty) = (directory.join("secret"), directory.join("empty"));
        std::fs::write(&file, " s3 cret\r\n").unwrap();
        std::fs::write(&empty, "\n").unwrap();
        assert_eq!(read_secret(None, None), Ok(None));
        assert_eq!(read_secret(Some("a"), None), Ok(Some("a".to_owned())));
        assert_eq!(read_secret(None, Some(&file)), Ok(Some(" s3 cret".to_owned())));
        let both = read_secret(Some("hidden"), Some(&file)).unwrap_err();
        assert!(both.contains("leave one of them out") && !both.contains("hidden") && !both.contains("cret\r"), "{both}");
        assert!(read_secret(None, Some(&empty)).unwrap_err().contains("is empty"));
        assert!(read_secret(None, Some(&directory.join("none"))).unwrap_err().contains("cannot read"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_masked_url_never_shows_the_password() {
        for (url, masked) in [
            ("mysql://inventory@127.0.0.1:3306/inventory", "mysql://inventory@127.0.0.1:3306/inventory"),
            ("mysql://u:p4ss@db/inventory", "mysql://u:***@db/inventory"),
            ("mysql://u:p4ss@word/x@db/inventory", "mysql://u:***@db/inventory"),
            ("mysql://u:p4ss/x?y#z@db/inventory", "mysql://u:***@db/inventory"),
            ("redis://:p4ss@[::1]:6379/0", "redis://:***@[::1]:6379/0"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis+unix:///run/r.sock?db=1&pass=p4ss", "redis+unix:///run/r.sock?db=1&pass=***"),
            ("u:p4ss@db", "u:***@db"),
        ] {
            assert_eq!(masked_url(url), masked);
        }
    }

    #[test]
    fn durations_are_read_and_written_back() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("5m", 300_000), ("4h", 14_400_000), ("1d", 86_400_000), ("1500ms", 1_500)] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(duration));
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(parse_duration("60s"), parse_duration("1m"));
        assert_eq!(format_duration(Duration::from_micros(999)), "0s");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_remedy() {
        for text in ["", "5", "s", "-5s", "+5s", "1.5s", "5 s", "5S", "5sec", "5s5s", "٥s", "∞"] {
            assert!(parse_duration(text).is_err_and(|message| message.contains("500ms, 5s, 5m, 4h or 1d")), "{text}");
        }
        assert!(parse_duration("0s").is_err());
        assert_eq!(parse_duration("366d"), Ok(DURATION_LIMIT));
        for text in ["367d", "18446744073709551615d", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err_and(|message| message.contains("366d")), "{text}");
        }
    }

    #[test]
    fn only_loopback_may_be_listened_on() {
        for loopback in ["127.0.0.1:8080", "127.9.9.9:0", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert_eq!(require_loopback(loopback.parse().unwrap(), "INVENTORY_API_LISTEN"), Ok(()));
        }
        for open in ["0.0.0.0:8080", "[::]:8080", "192.168.1.1:8080", "[::ffff:10.0.0.1]:8080"] {
            let message = require_loopback(open.parse().unwrap(), "INVENTORY_API_LISTEN").unwrap_err();
            assert!(message.starts_with("INVENTORY_API_LISTEN=") && message.contains("127.0.0.1:8080"), "{message}");
        }
    }
}
