//! What is said of which figures.

use super::*;
use chrono::DateTime;
use telemetry::health::{self, Health, Role};

/// A shop at work, `seconds` ago.
fn well(ago: usize) -> Sample {
    let persisted = 1_000_000 - 1_000 * ago as u64;
    Sample {
        at: 2_000.0 - ago as f64,
        accepted: Some(persisted + 320),
        persisted: Some(persisted),
        pending: Some(320),
        dead: Some(0),
        lost: Some(0),
        drift: Some(0),
        depth: Some(300),
        capacity: 5_000_000,
        oldest_age: Some(0.3),
        p99: Some(0.0021),
        requests: 12_345.0,
        redis_used: Some(10 << 20),
        redis_limit: Some(0),
        mysql_up: true,
        redis_up: true,
        workers: Some(1),
        workers_hung: Some(0),
        ..Sample::default()
    }
}

/// The verdict on 90 seconds, each of which `change` may change, given how many seconds ago it was.
fn told(change: impl Fn(usize, &mut Sample), hold: Option<&Paused>) -> Verdict {
    told_of(change, hold, false)
}

fn told_of(change: impl Fn(usize, &mut Sample), hold: Option<&Paused>, evicts: bool) -> Verdict {
    let sample = |ago| {
        let mut sample = well(ago);
        change(ago, &mut sample);
        sample
    };
    let samples = (0..90).rev().map(sample).collect();
    judge(&Seen { samples: &samples, starting: false, hold, evicts, report: reported("MySQL: connection refused", "timed out") })
}

/// Why the stores are away.
fn reported(mysql: &str, redis: &str) -> Report {
    let health = Health::new(Role::Api);
    health.mysql(health::State::down(mysql));
    health.redis(health::State::down(redis));
    health.report()
}

fn alerts(verdict: &Verdict) -> Vec<&'static str> {
    std::iter::once(&verdict.first).chain(&verdict.more).filter_map(|finding| finding.alert).collect()
}

#[test]
fn a_shop_at_work_is_well_and_there_is_nothing_to_do() {
    let verdict = told(|_, _| {}, None);
    let sentence = "All is well: 12,345 requests a second, 99 % of them answered within 2 ms; \
                    320 views are on their way to MySQL, the oldest for 300 ms.";
    assert_eq!((verdict.first.state, &*verdict.first.sentence, verdict.first.command), (State::Well, sentence, None));
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!((&json["state"], &json["alert"], &json["more"]), (&"well".into(), &serde_json::Value::Null, &serde_json::json!([])));
}

#[test]
fn a_drain_that_moves_nothing_has_stopped_and_one_that_waits_for_views_has_not() {
    let stopped = |ago: usize, sample: &mut Sample| {
        sample.persisted = Some(900_000 - if ago > 63 { ago as u64 } else { 63 });
        (sample.pending, sample.workers, sample.oldest_age) = (Some(12_345), Some(0), Some(64.0));
    };
    let verdict = told(stopped, None);
    let sentence = "The drain has stopped: no view has reached MySQL for 63 s, since 00:32:17 UTC, and no worker is connected. 12,345 views wait \
                    in Redis (under 1 % of the queue's capacity), safe but not counted yet.";
    assert_eq!((verdict.first.state, &*verdict.first.sentence), (State::Trouble, sentence));
    assert_eq!(verdict.first.command, Some("systemctl restart inventory-worker"));
    assert_eq!(alerts(&verdict), ["InventoryDrainStopped"], "that they are late follows from it");
    let idle = |_: usize, sample: &mut Sample| (sample.persisted, sample.pending) = (Some(7), Some(0));
    assert_eq!(told(idle, None).first.state, State::Well);
    let just = |ago: usize, sample: &mut Sample| sample.persisted = Some(900_000 - if ago > 9 { ago as u64 } else { 9 });
    assert_eq!(told(just, None).first.state, State::Well);
}

#[test]
fn since_when_the_drain_moves_nothing_is_said_only_where_it_was_seen() {
    let always = |_: usize, sample: &mut Sample| sample.persisted = Some(7);
    let sentence = told(always, None).first.sentence;
    assert!(sentence.contains("no view has reached MySQL for at least 89 s, and one worker"), "{sentence}");
}

#[test]
fn workers_that_hang_or_are_not_there_are_told_before_views_wait_for_them() {
    let of = |seconds: usize, workers: usize, hung: usize| {
        told(
            move |ago, sample| {
                if ago <= seconds {
                    (sample.workers, sample.workers_hung) = (Some(workers), Some(hung));
                }
            },
            None,
        )
    };
    for (workers, hung, alert, sentence) in [
        (0, 0, "InventoryWorkerAbsent", "No worker is connected: views are accepted, and will wait in Redis."),
        (1, 1, "InventoryWorkerAbsent", "The one worker hangs: views are accepted, and will wait in Redis."),
        (3, 1, "InventoryTargetDown", "1 of 3 workers hangs: the queue page says which."),
        (3, 2, "InventoryTargetDown", "2 of 3 workers hang: the queue page says which."),
        (2, 2, "InventoryWorkerAbsent", "2 of 2 workers hang: the queue page says which."),
    ] {
        let verdict = of(10, workers, hung);
        assert_eq!((verdict.first.state, alerts(&verdict)), (State::Watch, vec![alert]), "{verdict:?}");
        assert_eq!((&*verdict.first.sentence, verdict.first.command), (sentence, Some("systemctl restart inventory-worker")));
        assert_eq!(of(9, workers, hung).first.state, State::Well, "it may be a restart");
    }
    let stuck = |ago: usize, sample: &mut Sample| {
        if ago <= 60 {
            (sample.persisted, sample.pending) = (Some(900_000), Some(40_000));
            (sample.workers, sample.workers_hung) = (Some(1), Some(1));
        }
    };
    let verdict = told(stuck, None);
    assert_eq!(alerts(&verdict)[0], "InventoryDrainStopped");
    assert!(verdict.first.sentence.contains("and the one worker that is connected hangs. "), "{verdict:?}");
    assert!(!alerts(&verdict).contains(&"InventoryWorkerAbsent"), "said once: {verdict:?}");
}

#[test]
fn workers_are_given_time_to_begin_after_an_outage_or_a_pause() {
    let still = |sample: &mut Sample| (sample.persisted, sample.oldest_age) = (Some(7), Some(80.0));
    type Change = fn(&mut Sample);
    let causes: [Change; 3] = [
        |sample| sample.paused = true,
        |sample| sample.mysql_up = false,
        |sample| (sample.redis_up, sample.persisted, sample.pending) = (false, None, None),
    ];
    for (place, cause) in causes.into_iter().enumerate() {
        let over_for = |seconds: usize| {
            let change = move |ago: usize, sample: &mut Sample| {
                still(sample);
                if ago >= seconds {
                    cause(sample);
                }
            };
            alerts(&told(change, None))
        };
        assert_eq!((over_for(9), over_for(11)), (vec![], vec!["InventoryDrainStopped"]), "cause {place}");
    }
}

#[test]
fn what_waits_after_an_outage_is_late_only_where_it_takes_long() {
    let behind = |over_for: usize| {
        move |ago: usize, sample: &mut Sample| {
            sample.oldest_age = Some(80.0);
            if ago >= over_for {
                (sample.mysql_up, sample.persisted) = (false, Some(7));
            }
        }
    };
    assert_eq!(told(behind(9), None).first.state, State::Well);
    assert_eq!(alerts(&told(behind(30), None)), ["InventoryViewsLate"]);
}

#[test]
fn what_follows_from_a_store_that_is_away_is_not_told_besides() {
    let away = |_: usize, sample: &mut Sample| {
        (sample.mysql_up, sample.pending, sample.oldest_age, sample.errors) = (false, Some(5_000), Some(600.0), 900.0);
        sample.drift = None;
    };
    let verdict = told(away, None);
    assert_eq!(alerts(&verdict), ["InventoryMysqlAway"]);
    assert!(
        verdict.first.sentence.contains("(connection refused)") && verdict.first.sentence.contains("wait in Redis, 5,000 so far"),
        "{verdict:?}"
    );
    let both = |_: usize, sample: &mut Sample| (sample.mysql_up, sample.redis_up, sample.pending) = (false, false, None);
    assert_eq!(alerts(&told(both, None)), ["InventoryMysqlAway", "InventoryRedisAway"]);
}

#[test]
fn a_server_that_is_not_there_is_to_be_started_and_one_that_hangs_to_be_examined() {
    let away = Sample { redis_limit: None, ..Sample::default() };
    let samples = VecDeque::from([away]);
    let told = |report| {
        let verdict = judge(&Seen { samples: &samples, starting: false, hold: None, evicts: false, report });
        let redis = verdict.more.into_iter().next().unwrap();
        (verdict.first.sentence, verdict.first.command.unwrap(), redis.sentence, redis.command.unwrap())
    };
    let mut report = reported("MySQL: Connection refused (os error 111)", "Redis: Connection refused (os error 111)");
    let (mysql, start_mysql, redis, start_redis) = told(report.clone());
    assert!(mysql.starts_with("MySQL is away (Connection refused): "), "{mysql}");
    assert!(redis.starts_with("Redis is away (Connection refused): "), "{redis}");
    assert_eq!((start_mysql, start_redis), ("systemctl start mysql", "systemctl start redis-server"));
    report.facts.insert("mysql".into(), "10.11.19-MariaDB-log; flushed at commit".into());
    assert_eq!(told(report).1, "systemctl start mariadb");
    let (mysql, examine_mysql, _, examine_redis) = told(reported("MySQL did not answer Status within 4s", "Redis: timed out"));
    assert!(mysql.starts_with("MySQL is away (MySQL did not answer Status within 4s): "), "{mysql}");
    assert_eq!((examine_mysql, examine_redis), ("inventoryctl doctor", "inventoryctl doctor"));
}

#[test]
fn a_start_that_takes_long_is_trouble() {
    let state = |seconds: usize| {
        let samples: VecDeque<Sample> = (0..seconds).map(|_| Sample::default()).collect();
        let verdict = judge(&Seen { samples: &samples, starting: true, hold: None, evicts: false, report: reported("", "") });
        assert_eq!(alerts(&verdict), ["InventoryMysqlAway"]);
        verdict.first.state
    };
    assert_eq!([state(30), state(31)], [State::Watch, State::Trouble]);
}

#[test]
fn what_failed_or_was_slow_for_want_of_a_store_is_not_told_once_it_is_back() {
    let over_for = |seconds: usize| {
        let change = move |ago: usize, sample: &mut Sample| {
            (sample.errors, sample.p99) = (900.0, Some(5.0));
            sample.redis_up = ago < seconds;
        };
        alerts(&told(change, None))
    };
    assert_eq!((over_for(0), over_for(11)), (vec!["InventoryRedisAway"], vec![]));
    assert_eq!(over_for(12), ["InventoryErrorBudgetBurn"]);
    assert_eq!(over_for(15), ["InventoryErrorBudgetBurn", "InventoryLatencyBudgetBurn"]);
}

#[test]
fn a_paused_queue_is_told_with_who_and_why() {
    let since = DateTime::from_timestamp(1_294_135_200, 0).unwrap();
    let hold = Paused { since, by: "ann@shop".into(), reason: Some("a new disk".into()) };
    let held = |_: usize, sample: &mut Sample| {
        (sample.paused, sample.persisted, sample.oldest_age, sample.depth) = (true, Some(1), Some(300.0), Some(2_500_000));
    };
    let verdict = told(held, Some(&hold));
    let sentence = "The queue has been paused since 2011-01-04 10:00:00 UTC by ann@shop, who gave the reason “a new disk”: 320 views wait \
                    in Redis (50 % of the queue's capacity), safe but not in MySQL.";
    assert_eq!((verdict.first.state, &*verdict.first.sentence), (State::Watch, sentence));
    assert_eq!((alerts(&verdict), verdict.first.command), (vec!["InventoryQueuePaused"], Some("inventoryctl queue resume")));
    let full = |ago: usize, sample: &mut Sample| {
        held(ago, sample);
        sample.depth = Some(4_500_000);
    };
    assert_eq!(alerts(&told(full, Some(&hold))), ["InventoryQueueNearCapacity", "InventoryQueuePaused"], "the worst first");
}

#[test]
fn each_figure_out_of_its_range_is_told_under_the_name_of_its_alert() {
    type Change = fn(usize, &mut Sample);
    let cases: [(Change, &[&str]); 10] = [
        (|_, sample| sample.drift = Some(-3), &["InventoryConservationDrift"]),
        (|ago, sample| sample.drift = Some(if ago < 10 { -3 } else { 0 }), &[]),
        (|_, sample| sample.oldest_age = Some(61.0), &["InventoryViewsLate"]),
        (|_, sample| sample.errors = 200.0, &["InventoryErrorBudgetBurn"]),
        (|_, sample| (sample.errors, sample.requests) = (0.0, 0.0), &[]),
        (|ago, sample| sample.p99 = Some(if ago < LASTING { 0.3 } else { 0.001 }), &["InventoryLatencyBudgetBurn"]),
        (|_, sample| sample.redis_limit = Some(11 << 20), &["InventoryRedisMemoryHigh"]),
        (|ago, sample| sample.lost = Some(if ago < 5 { 8 } else { 3 }), &["InventoryViewsLost"]),
        (|_, sample| sample.dead_letters = 2, &["InventoryDeadLetters"]),
        (|_, sample| sample.capacity = 310, &["InventoryQueueNearCapacity"]),
    ];
    for (place, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(alerts(&told(change, None)), expected, "case {place}");
    }
    let full = |_: usize, sample: &mut Sample| sample.redis_limit = Some(10 << 20);
    assert_eq!(alerts(&told_of(full, None, true)), [""; 0], "a cache that fills its Redis is as it should be");
}

#[test]
fn numbers_and_times_are_written_as_people_read_them() {
    let numbers = [0, 7, 999, 1_000, 12_345, 1_234_567].map(thousands);
    assert_eq!(numbers, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    assert_eq!([0.0021, 1.0, 63.4, 119.0, 600.0, 9_000.0].map(span), ["2 ms", "1.0 s", "63 s", "119 s", "10 min", "2 h"]);
    assert_eq!([0.0, 0.004, 0.5].map(percent), ["0 %", "under 1 %", "50 %"]);
    assert_eq!([0, 1, 2].map(wait), ["0 views wait", "1 view waits", "2 views wait"]);
    assert_eq!([0.2, 1.2, 1_499.0].map(a_second), ["less than one request a second", "one request a second", "1,499 requests a second"]);
    let noon = 1_294_142_400.0;
    assert_eq!(
        [noon, noon - 43_200.0, noon - 43_201.0].map(|at| clock(at, noon)),
        ["12:00:00 UTC", "00:00:00 UTC", "2011-01-03 23:59:59 UTC"]
    );
}
