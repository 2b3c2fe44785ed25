//! The last 15 minutes, second by second, kept by the process whether anybody looks or not, and told to whoever does.

use super::sample::{Sample, Sampler, Sources};
use super::verdict::{Seen, Verdict, judge};
use crate::admin::hold_json;
use crate::state::Stores;
use actix_web::web::Bytes;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use storage::redis::workers::{self, Worker};
use telemetry::health::Health;
use telemetry::stop::Shutdown;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

const INTERVAL: Duration = Duration::from_secs(1);

/// 15 minutes of seconds: some 250 kB.
const KEPT: usize = 900;

/// Every so many samples the workers are listed.
const SAMPLES_PER_LIST: u32 = 5;

/// Longest wait for that list, so that a Redis that does not answer stops no sample.
const LIST_LIMIT: Duration = Duration::from_millis(500);

/// Samples kept, the oldest first, and what is told of the newest. Clones share it.
#[derive(Clone)]
pub(crate) struct History {
    samples: Arc<Mutex<VecDeque<Sample>>>,
    newest: watch::Sender<Bytes>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { samples: Arc::default(), newest: watch::Sender::new(Bytes::new()) }
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.newest.receiver_count()
    }

    /// What was until now as one event, and all later ones: no sample is in both, none is missing.
    pub(crate) fn listen(&self) -> (Bytes, watch::Receiver<Bytes>) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.newest.subscribe();
        (event("history", &json!({"interval_seconds": INTERVAL.as_secs(), "samples": *samples})), receiver)
    }

    fn add(&self, sample: Sample, told: impl FnOnce(&VecDeque<Sample>) -> Bytes) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
        // Nobody listens most of the time, and then nothing is written out.
        if self.newest.receiver_count() > 0 {
            self.newest.send_replace(told(&samples));
        }
    }
}

/// One event of `text/event-stream`.
fn event(name: &str, data: &serde_json::Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// Takes a sample a second until the process stops.
pub(crate) async fn keep(history: History, sources: Sources, stores: Arc<OnceLock<Stores>>, health: Health, shutdown: Shutdown) {
    let (mut sampler, mut listed, mut taken) = (Sampler::new(sources), None, 0_u32);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !shutdown.is_requested() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.requested() => return,
        }
        if taken.is_multiple_of(SAMPLES_PER_LIST) {
            listed = list(&stores).await;
        }
        taken = taken.wrapping_add(1);
        let look = sampler.sources.look();
        let sample = sampler.take(&look, listed.as_deref());
        history.add(sample, |samples| {
            let evicts = look.queue.as_ref().is_some_and(|info| info.policy.starts_with("volatile"));
            let seen = Seen { samples, starting: stores.get().is_none(), hold: look.paused.as_ref(), evicts, report: health.report() };
            let verdict: Verdict = judge(&seen);
            let paused = look.paused.clone().map(hold_json);
            event("now", &json!({"sample": samples.back(), "verdict": verdict, "paused": paused}))
        });
    }
}

/// `None` where Redis is away or does not let us see.
async fn list(stores: &OnceLock<Stores>) -> Option<Vec<Worker>> {
    let queue = &stores.get()?.redis.queue;
    tokio::time::timeout(LIST_LIMIT, workers::workers(queue)).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::super::stream;
    use super::*;
    use actix_web::body::MessageBody;
    use actix_web::test::TestRequest;
    use actix_web::web::Data;
    use futures_util::FutureExt;
    use std::future::poll_fn;
    use std::pin::Pin;

    fn sample(at: usize) -> Sample {
        Sample { at: at as f64, ..Sample::default() }
    }

    #[tokio::test]
    async fn who_begins_to_listen_hears_each_sample_once() {
        let history = History::new();
        let told = |samples: &VecDeque<Sample>| Bytes::from(format!("{}", samples.back().unwrap().at));
        for at in 0..KEPT + 3 {
            history.add(sample(at), told);
        }
        let (before, mut later) = history.listen();
        let text = String::from_utf8(before.to_vec()).unwrap();
        let data: serde_json::Value = serde_json::from_str(text.strip_prefix("event: history\ndata: ").unwrap()).unwrap();
        let samples = data["samples"].as_array().unwrap();
        assert_eq!((samples.len(), &samples[0]["at"]), (KEPT, &json!(3.0)));
        assert!(!later.has_changed().unwrap());
        history.add(sample(7_777), told);
        later.changed().await.unwrap();
        assert_eq!(&**later.borrow_and_update(), b"7777");
        assert_eq!(history.listeners(), 1);
    }
    #[tokio::test]
    async fn who_reads_slowly_misses_seconds_and_is_never_behind() {
        let history = History::new();
        let answer = stream(TestRequest::default().to_http_request(), Data::new(history.clone())).await.unwrap();
        let mut body = answer.into_body();
        let mut next = || poll_fn(|context| Pin::new(&mut body).poll_next(context)).now_or_never().map(|event| event.unwrap().unwrap());
        assert!(next().unwrap().starts_with(b"event: history\n"));
        assert_eq!(next(), None);
        for seconds in [1..=3, 4..=4, 5..=2_000] {
            let last = *seconds.end();
            for at in seconds {
                history.add(sample(at), |samples| Bytes::from(format!("{}", samples.back().unwrap().at)));
            }
            assert_eq!(next().unwrap(), last.to_string());
            assert_eq!(next(), None, "nothing waits behind the newest");
        }
        drop(body);
        assert_eq!(history.listeners(), 0);
    }
}
