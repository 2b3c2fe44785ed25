//! The checks of MySQL, fed with facts.

use super::super::finding::{Finding, State, Subject, judge};
use super::*;
use storage::fields::Clock;
use storage::mysql::migrations::Migration;
use storage::mysql::server::{Grant, Table};
use storage::mysql::tail::Followed;
use storage::mysql::version_trigger::Trigger;
use storage::{Error, Kind};

const GLOBAL: [(&str, &str); 12] = [
    ("version", "10.11.19-MariaDB"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("innodb_doublewrite", "ON"),
    ("log_bin", "ON"),
    ("sync_binlog", "1"),
    ("binlog_format", "ROW"),
    ("binlog_row_image", "FULL"),
    ("read_only", "OFF"),
    ("innodb_read_only", "OFF"),
    ("max_connections", "500"),
    ("max_allowed_packet", "16777216"),
    ("wsrep_on", "OFF"),
];

const SESSION: [(&str, &str); 8] = [
    ("tx_isolation", "READ-COMMITTED"),
    ("sql_mode", "STRICT_ALL_TABLES,NO_ZERO_DATE"),
    ("time_zone", "+00:00"),
    ("wait_timeout", "10"),
    ("innodb_lock_wait_timeout", "2"),
    ("lock_wait_timeout", "2"),
    ("max_user_connections", "0"),
    ("tx_read_only", "OFF"),
];

fn grant_on(rights: &str, on: &str) -> Grant {
    Grant { rights: rights.split(", ").map(str::to_owned).collect(), on: on.to_owned() }
}

fn fields(usual: &[(&'static str, &'static str)], other: &[(&'static str, &'static str)]) -> Fields {
    usual.iter().chain(other).copied().collect()
}

/// A server in order but for these settings: those of the server, then those of our sessions.
fn facts(global: &[(&'static str, &'static str)], session: &[(&'static str, &'static str)]) -> Facts {
    let applied = |version: u32| Migration { version, name: "m".into(), applied_on: Some("2026-11-21".into()) };
    let server = Server {
        database: "shop".into(),
        user: "api@%".into(),
        global: fields(&GLOBAL, global),
        session: fields(&SESSION, session),
        status: fields(&[("max_used_connections", "20")], &[]),
        grants: Ok([grant_on("SELECT", "shop.*"), grant_on("INSERT, UPDATE", "shop.products"), grant_on("INSERT", "shop.price_history")]
            .into_iter()
            .chain(of_operators())
            .collect()),
        has_roles: false,
        migrations: Ok(vec![applied(1), applied(2)]),
        unknown_migrations: Vec::new(),
        shards: Ok(vec![0, 1, 2, 3]),
        deployment: Ok(Some("d".into())),
        tables: Ok(vec![Table { name: "products".into(), engine: "InnoDB".into() }]),
        tail: Ok(Followed::Closely),
        version_trigger: Ok(Trigger::Present),
        clock: Ok(Clock { ahead_ms: 1, within_ms: 1 }),
    };
    Facts { server, connections: 32, cache_ttl: Duration::from_secs(300) }
}

/// What `inventory_api` may do for repeated requests, stock, `queue pause` and `dead-letters replay`.
fn of_operators() -> [Grant; 9] {
    [
        grant_on("INSERT, UPDATE", "shop.idempotency"),
        grant_on("UPDATE", "shop.view_shards"),
        grant_on("UPDATE", "shop.dead_letters"),
        grant_on("INSERT, UPDATE", "shop.product_views"),
        grant_on("INSERT, UPDATE", "shop.view_hours"),
        grant_on("INSERT, UPDATE", "shop.stock"),
        grant_on("INSERT", "shop.stock_movements"),
        grant_on("INSERT, UPDATE", "shop.reservations"),
        grant_on("INSERT", "shop.reservation_items"),
    ]
}

fn deviating(facts: &Facts) -> Vec<Finding> {
    judge(Subject::MySql, CHECKS, facts).into_iter().filter(|finding| finding.state != State::Ok).collect()
}

/// The one finding that is not in order.
fn one(facts: &Facts) -> Finding {
    let mut all = deviating(facts);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_server_in_order_has_only_rows_in_order_on_both_kinds() {
    assert!(deviating(&facts(&[], &[])).is_empty());
    let mut mysql = facts(&[("version", "9.7.4"), ("super_read_only", "OFF"), ("group_replication_group_name", "")], &[]);
    mysql.server.session = fields(&SESSION[1..], &[("transaction_isolation", "READ-COMMITTED"), ("transaction_read_only", "OFF")]);
    // MySQL 9 has no `binlog_format` to be asked for, one day.
    mysql.server.global = GLOBAL.into_iter().filter(|(name, _)| *name != "binlog_format").collect();
    assert!(deviating(&mysql).is_empty());
}

#[test]
fn each_setting_is_found_with_its_cure() {
    for (name, value, check, state, cure) in [
        ("version", "10.5.2-MariaDB", "version", State::Bad, "install MariaDB 10.6+"),
        ("innodb_flush_log_at_trx_commit", "2", "flush_at_commit", State::Bad, "SET GLOBAL innodb_flush_log_at_trx_commit = 1;"),
        ("sync_binlog", "1000", "sync_binlog", State::Bad, "SET GLOBAL sync_binlog = 1;"),
        ("innodb_doublewrite", "OFF", "doublewrite", State::Warn, "innodb_doublewrite = ON"),
        ("innodb_doublewrite", "DETECT_ONLY", "doublewrite", State::Warn, "innodb_doublewrite = ON"),
        ("binlog_format", "STATEMENT", "binlog_format", State::Bad, "SET GLOBAL binlog_format = 'ROW';"),
        ("binlog_row_image", "MINIMAL", "binlog_row_image", State::Note, "SET GLOBAL binlog_row_image = 'FULL';"),
        ("read_only", "ON", "writable", State::Bad, "lead INVENTORY_MYSQL_URL to the primary"),
        ("super_read_only", "ON", "writable", State::Bad, "lead INVENTORY_MYSQL_URL to the primary"),
        ("innodb_read_only", "ON", "writable", State::Bad, "lead INVENTORY_MYSQL_URL to the primary"),
        ("max_connections", "65", "connections", State::Warn, "SET GLOBAL max_connections = 500;"),
        ("max_connections", "22", "connections", State::Warn, "SET GLOBAL max_connections = 500;"),
        ("max_allowed_packet", "4194304", "packet", State::Warn, "SET GLOBAL max_allowed_packet = 16777216;"),
        ("wsrep_on", "ON", "cluster", State::Note, "the same node"),
        ("group_replication_group_name", "g", "cluster", State::Bad, "single_primary_mode"),
        ("log_bin", "OFF", "binlog", State::Note, "log_bin = binlog"),
    ] {
        let found = one(&facts(&[(name, value)], &[]));
        assert_eq!((found.check, found.state), (check, state), "{name} = {value}: {found:?}");
        assert!(found.cure[0].line.contains(cure), "{cure}: {found:?}");
        assert!(!found.lost.is_empty() && !found.rests.is_empty(), "{found:?}");
    }
}

#[test]
fn nothing_to_be_typed_makes_what_may_be_a_replica_writable() {
    for name in ["read_only", "super_read_only", "innodb_read_only"] {
        let found = one(&facts(&[(name, "ON")], &[]));
        assert!(found.cure.iter().all(|step| step.at == Do), "{found:?}");
        assert!(found.cure[1].line.starts_with("only where this is the primary"), "{found:?}");
    }
}

#[test]
fn without_a_binlog_nothing_is_asked_of_it() {
    let off = facts(&[("log_bin", "OFF"), ("sync_binlog", "0"), ("binlog_row_image", "MINIMAL")], &[]);
    assert_eq!(one(&off).check, "binlog");
}

#[test]
fn a_session_that_is_not_as_we_set_it_says_that_something_is_between() {
    for (name, value, check) in [
        ("tx_isolation", "REPEATABLE-READ", "isolation"),
        ("sql_mode", "", "sql_mode"),
        ("time_zone", "SYSTEM", "time_zone"),
        ("wait_timeout", "28800", "patience"),
    ] {
        let found = one(&facts(&[], &[(name, value)]));
        assert_eq!((found.check, found.state), (check, State::Bad), "{found:?}");
        assert!(found.cure[0].line.contains("proxy"), "{found:?}");
    }
    let found = one(&facts(&[], &[("max_statement_time", "2.500000")]));
    assert_eq!(
        (found.check, found.state, found.found.as_str()),
        ("statement_time", State::Warn, "our sessions: max_statement_time = 2.5 s")
    );
    let found = one(&facts(&[], &[("tx_read_only", "ON")]));
    assert_eq!((found.check, found.cure[0].line.as_str()), ("writable", "SET GLOBAL tx_read_only = OFF;"));
    let found = one(&facts(&[], &[("max_user_connections", "20")]));
    assert_eq!((found.check, found.cure[0].line.as_str()), ("connections", "INVENTORY_MYSQL_CONNECTIONS=19"));
}

#[test]
fn a_gap_among_the_shards_a_foreign_engine_and_a_newer_schema_are_found() {
    let mut gap = facts(&[], &[]);
    gap.server.shards = Ok(vec![0, 3]);
    let found = one(&gap);
    assert_eq!(found.found, "view_shards goes up to 3 and lacks 1, 2");
    assert_eq!(found.cure[0].line, "INSERT INTO `shop`.view_shards (shard) VALUES (1), (2);");
    let mut engine = facts(&[], &[]);
    engine.server.tables = Ok(vec![Table { name: "stock".into(), engine: "Aria".into() }]);
    assert_eq!(one(&engine).cure[0].line, "ALTER TABLE `shop`.`stock` ENGINE = InnoDB;");
    let mut newer = facts(&[], &[]);
    newer.server.unknown_migrations = vec![3];
    assert_eq!((one(&newer).check, one(&newer).state), ("schema", State::Warn));
    newer.server.migrations.as_mut().unwrap()[1].applied_on = None;
    assert_eq!((one(&newer).state, one(&newer).cure[0].line.as_str()), (State::Bad, "inventoryctl migrate"));
}

#[test]
fn a_binlog_that_nobody_follows_is_told_with_the_line_that_mends_it() {
    let judged = |followed: Followed| {
        let mut facts = facts(&[], &[]);
        facts.server.tail = Ok(followed);
        let found = one(&facts);
        assert_eq!(found.check, "tail");
        (found.state, found.cure[0].line.clone())
    };
    let why = |why: &str| Followed::Not { why: Some(why.to_owned()) };
    assert_eq!(judged(Followed::Not { why: None }), (State::Note, "start inventory-worker".to_owned()));
    assert_eq!(judged(why("it may not; GRANT A, B ON *.* TO 'w'@'%'")), (State::Warn, "GRANT A, B ON *.* TO 'w'@'%';".to_owned()));
    assert_eq!(judged(Followed::Late(Duration::from_secs(11))).0, State::Warn);
    let mut trigger = facts(&[], &[]);
    trigger.server.version_trigger = Ok(Trigger::Absent);
    assert_eq!((one(&trigger).check, one(&trigger).state), ("version_trigger", State::Note));
    let mut mixed = facts(&[("binlog_format", "MIXED")], &[]);
    assert_eq!((one(&mixed).check, one(&mixed).state), ("binlog_format", State::Warn));
    assert!(one(&mixed).lost.contains("TTL (5m)"), "{:?}", one(&mixed));
    mixed.server.global = fields(&GLOBAL, &[("log_bin", "OFF")]);
    mixed.server.tail = Ok(why("log_bin is OFF; restart"));
    assert_eq!(one(&mixed).check, "binlog", "which says it all");
}

#[test]
fn what_cannot_be_seen_is_a_note() {
    let mut blind = facts(&[], &[]);
    blind.server.shards = Err(Error::new(Kind::Bug, "MySQL: SELECT command denied"));
    blind.server.clock = Err(Error::new(Kind::Unavailable, "MySQL: away"));
    let found = deviating(&blind);
    let rows: Vec<_> = found.iter().map(|finding| (finding.check, finding.state)).collect();
    assert_eq!(rows, [("shards", State::Note), ("clock", State::Note)]);
}

#[test]
fn rights_are_those_of_the_program_that_the_user_seems_to_be() {
    let judged = |grants: &[Grant]| {
        let mut facts = facts(&[], &[]);
        facts.server.grants = Ok(grants.to_vec());
        deviating(&facts).into_iter().map(|finding| (finding.state, finding.found, finding.cure)).next()
    };
    let lacks = |grants: &[Grant]| {
        let (state, found, cure) = judged(grants).unwrap();
        assert_eq!(state, State::Bad);
        (found, cure.into_iter().map(|cure| cure.line).collect::<Vec<_>>())
    };
    let read = grant_on("SELECT", "shop.*");
    let api = [read.clone(), grant_on("UPDATE", "shop.products"), grant_on("INSERT", "shop.price_history")];
    let (found, cure) = lacks(&[&api[..], &of_operators()].concat());
    assert_eq!(found, "api@% lacks INSERT on products");
    assert_eq!(cure, ["GRANT INSERT ON `shop`.`products` TO 'api'@'%';"]);
    let (found, _) = lacks(&[read.clone(), grant_on("INSERT, UPDATE", "shop.view_marks")]);
    assert!(found.contains("UPDATE on view_shards") && !found.contains("products;"), "{found}");
    let (found, _) = lacks(&[read]);
    assert!(found.contains("INSERT, UPDATE on products"), "{found}");
    // The one who migrates is not taken for those whose rows it may change.
    assert_eq!(judged(&[grant_on("SELECT, INSERT, UPDATE, CREATE, ALTER, INDEX, DROP, TRIGGER", "shop.*")]), None);
    let (state, found, _) = judged(&[grant_on("ALL PRIVILEGES", "*.*")]).unwrap();
    assert_eq!((state, found.as_str()), (State::Note, "api@%, who is an administrator"));
}
