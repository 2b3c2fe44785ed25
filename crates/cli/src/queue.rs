//! `queue`: where the accepted views are, and the hold on their way into MySQL.

use crate::exit::{Exit, Failure};
use crate::output::{Format, Output, Row};
use crate::progress::Waiting;
use crate::stores::Stores;
use serde::Serialize;
use std::time::Duration;
use storage::MySql;
use storage::flush::{self, Why};
use storage::mysql::pause::{self, Paused};
use storage::status::Depth;
use telemetry::config::format_duration;
use telemetry::stop::Shutdown;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The account of views. accepted = persisted + pending + dead + lost; `twice` is what there is beyond that.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) accepted: u64,
    pub(crate) persisted: u64,
    pub(crate) pending: u64,
    pub(crate) dead: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    /// (product, hour) entries waiting: what the capacity bounds.
    pub(crate) depth: u64,
    /// Views in sealed batches.
    pub(crate) in_flight: u64,
    pub(crate) oldest_age_seconds: f64,
    #[serde(flatten)]
    pub(crate) hold: Hold,
}

/// The operator's hold on the drain; all empty while there is none.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Hold {
    /// RFC 3339.
    pub(crate) paused_since: Option<String>,
    pub(crate) paused_by: Option<String>,
    pub(crate) pause_reason: Option<String>,
}

impl From<Option<Paused>> for Hold {
    fn from(paused: Option<Paused>) -> Self {
        let Some(Paused { since, by, reason }) = paused else { return Self::default() };
        Self { paused_since: Some(domain::product::time_text(since)), paused_by: Some(by), pause_reason: reason }
    }
}

impl Hold {
    const COLUMNS: [&'static str; 3] = ["paused_since", "paused_by", "pause_reason"];

    fn cells(&self) -> [String; 3] {
        [&self.paused_since, &self.paused_by, &self.pause_reason].map(|text| text.clone().unwrap_or_default())
    }
}

impl Row for Status {
    const COLUMNS: &'static [&'static str] = &[
        "accepted",
        "persisted",
        "pending",
        "dead",
        "lost",
        "twice",
        "depth",
        "in_flight",
        "oldest_age_seconds",
        Hold::COLUMNS[0],
        Hold::COLUMNS[1],
        Hold::COLUMNS[2],
    ];

    fn cells(&self) -> Vec<String> {
        let whole = [self.accepted, self.persisted, self.pending, self.dead, self.lost, self.twice, self.depth, self.in_flight];
        whole.iter().map(ToString::to_string).chain([format!("{:.3}", self.oldest_age_seconds)]).chain(self.hold.cells()).collect()
    }
}

pub(crate) async fn status(watch: bool, stores: &Stores, output: &Output) -> Result<Exit, Failure> {
    if !watch {
        let status = stores.queue_status().await?;
        if let (Format::Table, Some(since)) = (output.format(), &status.hold.paused_since) {
            let [_, by, reason] = status.hold.cells();
            output.text(&format!("paused since {since} by {by}{}{reason}", if reason.is_empty() { "" } else { ": " }))?;
        }
        output.one(&status)?;
        return Ok(Exit::Ok);
    }
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let mut list = output.running::<Status>()?;
    while !stop.is_requested() {
        // A store that is away for a while is what one watches for.
        match stores.queue_status().await {
            Ok(status) => list.add(&status)?,
            Err(failure) => eprintln!("{}", failure.message),
        }
        stop.sleep(WATCH_INTERVAL).await;
    }
    Ok(Exit::Ok)
}

/// What a pause or a resume left, and whether it changed anything.
#[derive(Debug, Serialize)]
struct Change {
    paused: bool,
    changed: bool,
    #[serde(flatten)]
    hold: Hold,
}

impl Row for Change {
    const COLUMNS: &'static [&'static str] = &["paused", "changed", Hold::COLUMNS[0], Hold::COLUMNS[1], Hold::COLUMNS[2]];

    fn cells(&self) -> Vec<String> {
        [self.paused.to_string(), self.changed.to_string()].into_iter().chain(self.hold.cells()).collect()
    }
}

/// `queue pause`: once it has returned, no view is written to MySQL until the resume.
pub(crate) async fn pause(reason: Option<&str>, mysql: &MySql, output: &Output) -> Result<Exit, Failure> {
    let (hold, changed) = pause::pause(mysql, &operator(), reason).await?;
    if !changed {
        eprintln!("the queue was already {hold}; nothing was changed");
    }
    output.one(&Change { paused: true, changed, hold: Some(hold).into() })?;
    Ok(Exit::Ok)
}

/// `queue resume`
pub(crate) async fn resume(mysql: &MySql, output: &Output) -> Result<Exit, Failure> {
    let ended = pause::resume(mysql).await?;
    match &ended {
        Some(hold) => eprintln!("the queue was {hold}; it is drained again"),
        None => eprintln!("the queue was not paused; nothing was changed"),
    }
    output.one(&Change { paused: false, changed: ended.is_some(), hold: Hold::default() })?;
    Ok(Exit::Ok)
}

#[derive(Debug, Serialize)]
struct Flushed {
    flushed: bool,
    took_seconds: f64,
}

impl Row for Flushed {
    const COLUMNS: &'static [&'static str] = &["flushed", "took_seconds"];

    fn cells(&self) -> Vec<String> {
        vec![self.flushed.to_string(), format!("{:.3}", self.took_seconds)]
    }
}

/// `queue flush`: when it returns 0, everything that was accepted before is in MySQL.
pub(crate) async fn flush(wait: Duration, stores: &Stores, output: &Output) -> Result<Exit, Failure> {
    // Said at once; somebody may resume it meanwhile.
    if let Ok(Some(hold)) = pause::state(&stores.mysql).await {
        eprintln!("the queue is {hold}: waiting for `inventoryctl queue resume`");
    }
    let line = Waiting::start();
    let tell = |depth: &Depth| line.show(format!("{} views wait, {} of them claimed", depth.views, depth.in_flight));
    let flushed = flush::flush(&stores.mysql, &stores.redis, wait, tell).await;
    line.finish();
    match flushed {
        Ok(took) => {
            output.one(&Flushed { flushed: true, took_seconds: took.as_secs_f64() })?;
            Ok(Exit::Ok)
        }
        Err(unfinished) => {
            let (exit, cause) = match &unfinished.why {
                Why::RedisAway(error) | Why::MysqlAway(error) => (Exit::Unreachable, format!(" ({error})")),
                Why::Paused(_) => (Exit::Conflict, String::new()),
                Why::NoWorker | Why::NotYet => (Exit::Failure, String::new()),
            };
            Err(Failure::new(exit, format!("not flushed within {}: {unfinished}{cause}", format_duration(wait))))
        }
    }
}

/// Who types this, as the machine knows them.
fn operator() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "inventoryctl".to_owned());
    let host = variable("HOSTNAME").or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let name = host.map_or_else(|| user.clone(), |host| format!("{user}@{}", host.trim()));
    name.chars().filter(|character| !character.is_control()).take(pause::MOST_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_has_the_fields_of_the_contract() {
        let status = Status { accepted: 34960, persisted: 34959, pending: 1, oldest_age_seconds: 0.0625, ..Status::default() };
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            "{\"accepted\":34960,\"persisted\":34959,\"pending\":1,\"dead\":0,\"lost\":0,\"twice\":0,\"depth\":0,\
             \"in_flight\":0,\"oldest_age_seconds\":0.0625,\"paused_since\":null,\"paused_by\":null,\"pause_reason\":null}"
        );
        assert_eq!(status.cells()[8], "0.062");
        assert_eq!(status.cells().len(), Status::COLUMNS.len());
    }
}
