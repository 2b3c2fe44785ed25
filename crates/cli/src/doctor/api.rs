//! The checks of a running API, by what its ops listener says. That none runs is no fault: one may be about to start it.

use crate::exit::{Exit, Failure, chain};
use checks::doctor::clocks;
use checks::doctor::finding::At::{Do, Setting, Shell};
use checks::doctor::finding::{Check, Finding, Subject, Verdict, judge};
use chrono::DateTime;
use reqwest::header::DATE;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use storage::fields::Clock;
use storage::watch::{ACCOUNT_INTERVAL, now_ms};
use storage::{Error, Kind};

/// The listener answers from memory.
const LIMIT: Duration = Duration::from_secs(2);

/// The header has whole seconds, and is made twice a second at most.
const DATE_IS_WITHIN_MS: u64 = 1_500;

/// A drift that is still there when the API has surely read its account again is none of a moment.
const SETTLED: Duration = ACCOUNT_INTERVAL.saturating_add(Duration::from_secs(2));

/// Between two looks at a drift.
const LOOK: Duration = Duration::from_millis(250);

const DRIFT: &str = "inventory_views_conservation_drift";

const REACHED: &str = "reached";
const REACHED_RESTS: &str = "The checks of the API itself.";

struct Facts {
    /// `/readyz?verbose`: the report, or a problem with the same fields.
    ready: Value,
    version: Value,
    /// With the status of `/metrics`, which may ask for a token where the others do not.
    metrics: (StatusCode, String),
    clock: Result<Clock, Error>,
}

#[rustfmt::skip]
const CHECKS: &[Check<Facts>] = &[
    Check { name: "ready", judge: ready,
        rests: "The API reaches both stores, and may use them." },
    Check { name: "release", judge: release,
        rests: "API and this program know the same tables, keys and records." },
    Check { name: "account", judge: account,
        rests: "Accepted views = in MySQL + pending + set aside + lost: nothing is missing, nothing counted twice." },
    Check { name: "lost", judge: lost,
        rests: "Every accepted view is counted." },
    Check { name: "clock", judge: |facts| clocks::api(&facts.clock),
        rests: "The hour of a view, and the age of the oldest one that waits. Nothing of safety." },
];

/// `token` opens the metrics of a listener beyond loopback.
pub(super) async fn examine(ops: SocketAddr, token: Option<&str>) -> Result<Vec<Finding>, Failure> {
    let http = Client::builder().no_proxy().timeout(LIMIT).build();
    let http = http.map_err(|fault| Failure::doing("making the HTTP client", &fault))?;
    Ok(match facts(&http, ops, token).await {
        Ok(facts) => judge(Subject::Api, CHECKS, &facts),
        Err(Failure { message, .. }) => {
            let verdict = Verdict::note(format!("not examined: {message}"));
            vec![Finding::new(Subject::Api, REACHED, REACHED_RESTS, verdict.cure(Setting, "INVENTORY_API_OPS_LISTEN=host:port"))]
        }
    })
}

async fn facts(http: &Client, ops: SocketAddr, token: Option<&str>) -> Result<Facts, Failure> {
    let before = now_ms();
    let unreached = |fault: reqwest::Error| {
        let why = if fault.is_connect() { "nobody listens there".to_owned() } else { chain(&fault.without_url()) };
        Failure::new(Exit::Unreachable, format!("{ops}: {why}"))
    };
    let get = |path: &str| {
        let request = http.get(format!("http://{ops}{path}"));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
        .send()
    };
    let answer = get("/readyz?verbose").await.map_err(unreached)?;
    let clock = clock(before, answer.headers().get(DATE).and_then(|date| date.to_str().ok()));
    let ready = answer.text().await.map_err(unreached)?;
    let version = get("/version").await.map_err(unreached)?.text().await.map_err(unreached)?;
    let metrics = async || {
        let answer = get("/metrics").await.map_err(unreached)?;
        Ok((answer.status(), answer.text().await.map_err(unreached)?))
    };
    let metrics = settled(metrics).await?;
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    Ok(Facts { ready: json(&ready), version: json(&version), metrics, clock })
}

/// The metrics, once they show no drift, or one that stays.
async fn settled(metrics: impl AsyncFn() -> Result<(StatusCode, String), Failure>) -> Result<(StatusCode, String), Failure> {
    let started = Instant::now();
    loop {
        let (status, text) = metrics().await?;
        let is_even = metric(&text, DRIFT).is_none_or(|drift| drift == 0.0);
        if is_even || started.elapsed() > SETTLED {
            return Ok((status, text));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn clock(before: u64, date: Option<&str>) -> Result<Clock, Error> {
    let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let date = date.ok_or_else(|| Error::new(Kind::Corrupt, "the answer has no date"))?;
    // On average the header is half a second behind what it was made from.
    let server = u64::try_from(date.timestamp_millis()).unwrap_or(0) + 500;
    let clock = Clock::read(before, server, now_ms());
    Ok(Clock { within_ms: clock.within_ms + DATE_IS_WITHIN_MS, ..clock })
}

fn ready(facts: &Facts) -> Option<Verdict> {
    let why = facts.ready["detail"].as_str().map_or_else(|| complaints(&facts.ready), str::to_owned);
    Some(match facts.ready["readiness"].as_str() {
        Some("ready") => Verdict::ok("ready"),
        Some("degraded") => Verdict::warn(format!("degraded: {why}"))
            .lost("What needs the store that is away is answered 503.")
            .cure(Do, "mend the store, see above; the API goes on by itself"),
        Some(_) => Verdict::bad(format!("not ready: {why}"))
            .lost("It should get no requests, and a load balancer sends it none.")
            .cure(Do, "mend the store, see above; the API goes on by itself, or says in its log why it ended"),
        None => Verdict::note("does not answer like an inventory API").cure(Setting, "INVENTORY_API_OPS_LISTEN=host:port"),
    })
}

fn complaints(report: &Value) -> String {
    let components = report["components"].as_object().into_iter().flatten();
    let complaint = |(name, component): (&String, &Value)| {
        let reason = component["reason"].as_str()?;
        Some(format!("{name} is {}: {reason}", component["state"].as_str().unwrap_or("not up")))
    };
    components.filter_map(complaint).collect::<Vec<_>>().join("; ")
}

fn release(facts: &Facts) -> Option<Verdict> {
    let theirs = facts.version["version"].as_str()?;
    let ours = env!("CARGO_PKG_VERSION");
    Some(if theirs == ours {
        Verdict::ok(theirs)
    } else {
        let lost = "What this report says of tables and settings is what its own release needs.";
        Verdict::note(format!("the API is {theirs}, this program {ours}")).lost(lost)
    })
}

/// One sample of a metric without labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Judges a metric, or says why it is not known.
fn judged(facts: &Facts, name: &str, judge: impl FnOnce(f64) -> Verdict) -> Verdict {
    let (status, text) = &facts.metrics;
    let unknown = |why: String| Verdict::note(format!("not examined: {why}"));
    match metric(text, name) {
        Some(value) if status.is_success() => judge(value),
        _ if status.is_success() => unknown(format!("/metrics has no {name}")),
        _ => {
            let verdict = unknown(format!("/metrics answered {status}"));
            match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => verdict
                    .cure(Do, "name a token with the scope metrics:read in INVENTORY_TOKEN")
                    .cure(Shell, "inventoryctl token new --name doctor --scopes metrics:read"),
                _ => verdict.cure(Setting, "INVENTORY_API_OPS_LISTEN=host:port"),
            }
        }
    }
}

fn account(facts: &Facts) -> Option<Verdict> {
    let lost = "Above 0 views are missing, below 0 there are more than were accepted. It stayed for longer than an API that reaches \
                its stores needs to count anew.";
    Some(judged(facts, DRIFT, |drift| match drift {
        0.0 => Verdict::ok("even"),
        _ => Verdict::warn(format!("{DRIFT} = {drift}")).lost(lost).cure(Shell, "inventoryctl queue status --watch"),
    }))
}

fn lost(facts: &Facts) -> Option<Verdict> {
    Some(judged(facts, "inventory_views_lost_total", |lost| match lost {
        0.0 => Verdict::ok("no views"),
        _ => Verdict::note(format!("{lost} views since this API started or before"))
            .lost("They were acknowledged, and a Redis that lost data took them. They do not come back."),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use checks::doctor::finding::State;
    use serde_json::json;

    fn facts(ready: Value) -> Facts {
        let metrics = "inventory_views_conservation_drift -3\ninventory_views_lost_total 0\n".to_owned();
        Facts { ready, version: json!({"version": "0.0.1"}), metrics: (StatusCode::OK, metrics), clock: clock(now_ms(), None) }
    }

    #[test]
    fn an_api_is_as_well_as_it_says() {
        let down = json!({"state": "down", "reason": "connection refused"});
        let degraded = facts(json!({"readiness": "degraded", "components": {"mysql": {"state": "up"}, "redis": down}}));
        let verdict = ready(&degraded).unwrap();
        assert_eq!((verdict.state, verdict.found.as_str()), (State::Warn, "degraded: redis is down: connection refused"));
        let unready = ready(&facts(json!({"readiness": "unready", "detail": "mysql is awaited"}))).unwrap();
        assert_eq!((unready.state, unready.found.as_str()), (State::Bad, "not ready: mysql is awaited"));
        assert_eq!(ready(&facts(Value::Null)).unwrap().state, State::Note);
        let all = judge(Subject::Api, CHECKS, &degraded);
        let states: Vec<_> = all.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Warn, State::Note, State::Warn, State::Ok, State::Note]);
    }

    #[test]
    fn metrics_that_are_not_shown_are_noted_and_not_passed_over() {
        let judged = |status, text: &str| {
            let facts = Facts { metrics: (status, text.to_owned()), ..facts(Value::Null) };
            let [account, lost] = [account(&facts).unwrap(), lost(&facts).unwrap()];
            assert_eq!([account.state, lost.state], [State::Note; 2]);
            assert_eq!(account.cure, lost.cure);
            (account.found, account.cure)
        };
        let (found, cure) = judged(StatusCode::FORBIDDEN, "{}");
        assert_eq!(found, "not examined: /metrics answered 403 Forbidden");
        assert!(cure[0].line.contains("metrics:read") && cure[0].line.contains("INVENTORY_TOKEN"), "{cure:?}");
        // What a refusal says is no measurement.
        let (found, cure) = judged(StatusCode::BAD_GATEWAY, "inventory_views_conservation_drift 0\ninventory_views_lost_total 0\n");
        assert_eq!((found.as_str(), cure[0].at), ("not examined: /metrics answered 502 Bad Gateway", Setting));
        assert_eq!(judged(StatusCode::OK, "").0, "not examined: /metrics has no inventory_views_conservation_drift");
    }

    #[test]
    fn the_date_of_an_answer_is_its_clock_to_the_second() {
        let clock = clock(1_700_000_000_000, Some("Tue, 14 Nov 2023 22:13:20 GMT")).unwrap();
        assert!(clock.within_ms >= DATE_IS_WITHIN_MS, "{clock:?}");
    }
}
