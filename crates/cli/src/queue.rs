//! `queue status`: where the accepted views are.

use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use crate::stores::Stores;
use serde::Serialize;
use std::time::Duration;
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
}

impl Row for Status {
    const COLUMNS: &'static [&'static str] =
        &["accepted", "persisted", "pending", "dead", "lost", "twice", "depth", "in_flight", "oldest_age_seconds"];

    fn cells(&self) -> Vec<String> {
        let whole = [self.accepted, self.persisted, self.pending, self.dead, self.lost, self.twice, self.depth, self.in_flight];
        whole.iter().map(ToString::to_string).chain([format!("{:.3}", self.oldest_age_seconds)]).collect()
    }
}

pub(crate) async fn status(watch: bool, stores: &Stores, output: &Output) -> Result<Exit, Failure> {
    if !watch {
        output.one(&stores.queue_status().await?)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_has_the_fields_of_the_contract() {
        let status = Status { accepted: 34960, persisted: 34959, pending: 1, oldest_age_seconds: 0.0625, ..Status::default() };
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            "{\"accepted\":34960,\"persisted\":34959,\"pending\":1,\"dead\":0,\"lost\":0,\"twice\":0,\"depth\":0,\
             \"in_flight\":0,\"oldest_age_seconds\":0.0625}"
        );
        assert_eq!(status.cells()[8], "0.062");
        assert_eq!(status.cells().len(), Status::COLUMNS.len());
    }
}
