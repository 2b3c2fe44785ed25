//! Logs: text on a terminal, JSON lines elsewhere, always to stderr and in UTC.
//!
//! A broken stderr never stops a program. Hot paths log nothing per request: a span and a line for each
//! were measured to take half the throughput.

use std::io::IsTerminal;
use tracing::Subscriber;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere
    #[default]
    Auto,
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

/// Starts logging, for the `log` crate and for panics too. `level_directives` is a level, or levels by module:
/// `info,inventory_api=debug,redis=warn`.
///
/// # Errors
/// Directives that cannot be read, or logging that was started already.
pub fn init(level_directives: &str, format: LogFormat) -> Result<(), String> {
    let filter = parse_directives(level_directives)?;
    let terminal = std::io::stderr().is_terminal();
    let json = format == LogFormat::Json || (format == LogFormat::Auto && !terminal);
    let lines = lines(json, terminal && colours_wanted(), std::io::stderr);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.map_err(|_| "logging was started already".to_owned())?;
    log_panics();
    Ok(())
}

/// At plain `info` the HTTP server's notes on its threads are left out; `info,actix_server=info` shows them.
/// A bare word that is no level would be read as the module of that name, and silence all others.
fn parse_directives(text: &str) -> Result<EnvFilter, String> {
    let hint = "use off, error, warn, info, debug or trace, or levels by module: info,inventory_api=debug";
    let mut parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().any(|part| part.eq_ignore_ascii_case("info")) {
        // The first, so that one of the same module that was asked for replaces it.
        parts.insert(0, "actix_server=warn");
    }
    let bare = parts.iter().find(|part| !part.contains(['=', '[', ']', '{', '}']) && !is_level(part));
    match bare {
        Some(word) => Err(format!("{word:?} is no level; {hint}")),
        None => EnvFilter::builder().parse(parts.join(",")).map_err(|error| format!("{text:?} is no log filter ({error}); {hint}")),
    }
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

fn lines<S, W>(json: bool, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Complaints about a failed write go to stderr by `eprintln!`, which panics when stderr is what failed.
    let lines = fmt::layer().with_writer(writer).with_ansi(colours).log_internal_errors(false);
    if json { lines.json().flatten_event(true).with_span_list(false).boxed() } else { lines.boxed() }
}

/// <https://no-color.org>
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Else a panic would be plain text between JSON lines.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let why = panic.payload_as_str().unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(place, backtrace, "panic: {why}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber =
            tracing_subscriber::registry()
                .with(parse_directives("warn,telemetry=info").unwrap())
                .with(lines(json, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("request", request_id = "r-1").in_scope(|| tracing::info!(views = 3, "pushed"));
            tracing::debug!("not shown");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_has_a_utc_time_the_fields_and_the_request_id() {
        let text = logged(true);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.len() == "2026-01-31T00:00:00.000000Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!((&line["level"], &line["message"], &line["views"]), (&"INFO".into(), &"pushed".into(), &3.into()));
        assert_eq!(line["span"]["request_id"], "r-1");
    }

    #[test]
    fn a_text_line_has_no_colours_off_a_terminal() {
        let text = logged(false);
        assert!(text.contains("INFO request{request_id=\"r-1\"}: telemetry::log::tests: pushed views=3"), "{text}");
    }

    #[test]
    fn the_servers_notes_on_its_threads_are_shown_only_when_asked_for() {
        let shown = |directives| parse_directives(directives).unwrap().to_string();
        assert!(shown("info").contains("actix_server=warn"));
        assert!(shown("info,actix_server=info").contains("actix_server=info"));
        assert!(!shown("info,actix_server=info").contains("actix_server=warn"));
        assert_eq!(shown("error"), "error");
    }

    #[test]
    fn a_misspelt_level_is_refused_instead_of_silencing_all() {
        for bad in ["inof", "", "info,", "info,inventory_api", "inventory_api=loud", "a=b=c"] {
            assert!(parse_directives(bad).is_err_and(|message| message.contains("inventory_api=debug")), "{bad}");
        }
        for good in ["info", "WARN", "info,inventory_api=debug", "off, redis=trace", "info,[request{route=x}]=debug"] {
            assert!(parse_directives(good).is_ok(), "{good}");
        }
    }
}
