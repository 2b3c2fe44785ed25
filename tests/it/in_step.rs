//! Metrics, rules, alerts, dashboard and the texts for operators name the same things.

use super::prometheus::{Rule, case_files, dashboard, deployed, panel_expressions, rules, yaml};
use harness::Shop;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What Prometheus itself has, and the labels that it adds to what it scrapes.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];
const ADDED_LABELS: [&str; 6] = ["job", "instance", "program", "alertname", "alertstate", "severity"];

/// Families that neither the dashboard nor an alert uses, and why.
const UNUSED: [(&str, &str); 2] = [
    ("process_threads", "as many as were set, for as long as the process lives"),
    ("process_virtual_memory_bytes", "address space, which costs nothing; what is resident is shown"),
];

/// Sections of the runbook that belong to no alert.
const PROCEDURES: [&str; 8] = [
    "Worker will not start",
    "MySQL maintenance",
    "Redis moved without losing a view",
    "Redis lost with its disk",
    "MySQL restored from a backup",
    "A release rolled back",
    "Adding a worker or an API",
    "Changing a token",
];

type Labels = BTreeMap<String, BTreeSet<String>>;

/// What the programs export.
#[derive(Default)]
struct Exported {
    families: BTreeSet<String>,
    /// By the names of samples; a histogram has three.
    samples: BTreeMap<String, Labels>,
}

impl Exported {
    async fn by_programs() -> Self {
        let shop = Shop::start().await;
        let (api, worker) = (shop.api().await, shop.worker().await);
        let mut exported = Self::default();
        for text in [api.metrics().await, worker.metrics().await] {
            exported.families.extend(text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())));
            for (name, labels) in text.lines().filter(|line| !line.starts_with('#')).flat_map(selectors) {
                let known = exported.samples.entry(name).or_default();
                for Matcher { label, values, .. } in labels {
                    known.entry(label).or_default().extend(values);
                }
            }
        }
        exported
    }

    fn family_of<'a>(&self, name: &'a str) -> &'a str {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        base.filter(|base| self.families.contains(*base)).unwrap_or(name)
    }
}

/// `label="a"`, or `label=~"a|b"`, which has two values.
struct Matcher {
    label: String,
    operator: String,
    values: Vec<String>,
}

/// Names of metrics in an expression or a sample, with what stands in their braces.
fn selectors(text: &str) -> Vec<(String, Vec<Matcher>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_of_name) {
        let name: String = rest[start..].chars().take_while(|c| is_of_name(*c)).collect();
        // What follows a name at once are its labels; numbers and what stands in quotes are none.
        let behind = &rest[start + name.len()..];
        let (braces, behind) = match behind.strip_prefix('{') {
            Some(inner) => split_braces(inner),
            None => ("", behind),
        };
        rest = behind;
        found.push((name, matchers(braces)));
    }
    found
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// At the brace that ends it; routes have braces within quotes.
fn split_braces(text: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        c == '}' && !quoted
    });
    let end = end.unwrap_or_else(|| panic!("no brace ends {text}"));
    (&text[..end], &text[end + 1..])
}

fn matchers(braces: &str) -> Vec<Matcher> {
    let mut parts = braces.split('"');
    let mut matchers = Vec::new();
    while let (Some(left), Some(value)) = (parts.next(), parts.next()) {
        let left = left.trim_start_matches([',', ' ']);
        let label: String = left.chars().take_while(|c| is_of_name(*c)).collect();
        let operator = left[label.len()..].to_owned();
        let values = if operator.ends_with('~') { value.split('|').map(str::to_owned).collect() } else { vec![value.to_owned()] };
        matchers.push(Matcher { label, operator, values });
    }
    matchers
}

/// Words of a text that look like metrics of ours or of a process.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c| !is_of_name(c));
    let ours = words.filter(|word| ["inventory_", "inventory:", "process_"].iter().any(|start| word.starts_with(start)));
    ours.map(|word| word.trim_end_matches(':')).collect()
}

/// Where it stands, and an expression of a rule, of a panel, or of the starts that the dashboard marks.
fn expressions(rules: &[Rule], dashboard: &Value) -> Vec<(String, String)> {
    let mut all: Vec<_> = rules.iter().map(|rule| (rule.name.clone(), rule.expression.clone())).collect();
    all.extend(panel_expressions(dashboard));
    let marks = dashboard["annotations"]["list"].as_array().unwrap().iter();
    all.extend(marks.filter_map(|mark| Some((mark["name"].to_string(), mark["expr"].as_str()?.to_owned()))));
    all
}

#[tokio::test]
async fn rules_and_dashboard_name_metrics_and_labels_that_there_are_and_leave_none_out() {
    let (exported, rules, dashboard) = (Exported::by_programs().await, rules(), dashboard());
    let recorded: BTreeSet<&str> = rules.iter().filter(|rule| !rule.is_alert).map(|rule| rule.name.as_str()).collect();
    let expressions = expressions(&rules, &dashboard);
    let mut used = BTreeSet::new();
    for (place, expression) in &expressions {
        for name in named(expression) {
            assert!(exported.samples.contains_key(name) || recorded.contains(name), "{place}: there is no {name}");
            used.insert(name);
        }
        for (name, matchers) in selectors(expression) {
            let Some(labels) = exported.samples.get(&name) else {
                assert!(
                    matchers.is_empty() || OF_PROMETHEUS.contains(&name.as_str()) || recorded.contains(name.as_str()),
                    "{place}: {name}"
                );
                continue;
            };
            for Matcher { label, operator, values } in matchers.iter().filter(|matcher| !ADDED_LABELS.contains(&matcher.label.as_str())) {
                let known = labels.get(label).unwrap_or_else(|| panic!("{place}: {name} has no label {label}"));
                // Classes of statuses, such as 5.., have series of their own kind.
                let class = |value: &str| known.iter().any(|known| known.starts_with(value.trim_end_matches('.')));
                let fits = |value: &String| known.contains(value) || (operator.ends_with('~') && value.ends_with("..") && class(value));
                assert!(values.iter().all(fits), "{place}: {name}{{{label}{operator}{values:?}}}, but there are {known:?}");
            }
        }
    }
    let by_expressions: BTreeSet<&str> = used.iter().map(|name| exported.family_of(name)).collect();
    let unused: BTreeSet<&str> = exported.families.iter().map(String::as_str).filter(|family| !by_expressions.contains(family)).collect();
    assert_eq!(unused, UNUSED.iter().map(|(family, _)| *family).collect(), "no panel and no alert uses these");
    let idle: Vec<_> = recorded.iter().filter(|name| !used.contains(*name)).collect();
    assert!(idle.is_empty(), "nobody uses {idle:?}");
}

#[tokio::test]
async fn texts_for_operators_name_metrics_that_there_are() {
    let (exported, rules) = (Exported::by_programs().await, rules());
    let grants = deployed("grants.sql");
    let users = named(&grants);
    for file in ["../README.md", "../ARCHITECTURE.md", "RUNBOOK.md"] {
        let text = deployed(file);
        for name in named(&text) {
            let family = format!("{name}_");
            let there = exported.samples.contains_key(name)
                || exported.families.contains(name)
                || rules.iter().any(|rule| rule.name == name)
                || users.contains(name)
                // The beginning of several, for grep.
                || exported.families.iter().any(|known| known.starts_with(&family));
            assert!(there, "{file}: there is no {name}");
        }
    }
}

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| rule.is_alert).collect()
}

fn names(alerts: &[Rule]) -> BTreeSet<&str> {
    alerts.iter().map(|alert| alert.name.as_str()).collect()
}

#[test]
fn every_alert_has_cases_in_which_it_fires_and_near_misses() {
    let alerts = alerts();
    let files: Vec<Value> = case_files().iter().map(|file| yaml(&deployed(&format!("prometheus/{file}")))).collect();
    let (mut fires, mut keeps_quiet) = (BTreeSet::new(), BTreeSet::new());
    let cases = files.iter().flat_map(|file| file["tests"].as_array().unwrap());
    // A case may be about a recorded series instead.
    for case in cases.filter_map(|case| case["alert_rule_test"].as_array()).flatten() {
        let name = case["alertname"].as_str().unwrap();
        let is_quiet = case["exp_alerts"].as_array().unwrap().is_empty();
        if is_quiet { &mut keeps_quiet } else { &mut fires }.insert(name);
    }
    assert_eq!(fires, names(&alerts), "fires in a case");
    assert_eq!(keeps_quiet, names(&alerts), "keeps quiet in a case");
}

#[test]
fn every_recorded_series_has_a_case_of_its_own() {
    let cases = case_files().iter().map(|file| deployed(&format!("prometheus/{file}"))).collect::<String>();
    for rule in rules().iter().filter(|rule| !rule.is_alert) {
        let asked = cases.lines().any(|line| line.trim_start().starts_with("- expr: ") && line.contains(&rule.name));
        assert!(asked, "no case asks for {}", rule.name);
    }
}

#[test]
fn every_alert_says_who_is_woken_what_customers_see_and_where_to_read_on() {
    for alert in alerts() {
        let (name, annotations) = (&alert.name, &alert.whole["annotations"]);
        assert!(["page", "ticket"].iter().any(|severity| alert.whole["labels"]["severity"] == *severity), "{name}");
        assert!(annotations["summary"].as_str().is_some_and(|summary| summary.ends_with('.')), "{name}");
        assert!(annotations["description"].as_str().is_some_and(|text| text.starts_with("Customers ")), "{name}");
        assert_eq!(annotations["runbook"], format!("deploy/RUNBOOK.md#{}", name.to_lowercase()), "{name}");
        assert!(alert.expression.contains("job=\"inventory\"") || alert.expression.contains("inventory:"), "{name} is about our job alone");
    }
}

#[test]
fn every_section_of_the_runbook_is_an_alert_or_a_procedure() {
    let (runbook, alerts) = (deployed("RUNBOOK.md"), alerts());
    let sections: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let distinct: BTreeSet<&str> = sections.iter().copied().collect();
    assert_eq!(sections.len(), distinct.len(), "a section stands there twice");
    assert_eq!(distinct, names(&alerts).into_iter().chain(PROCEDURES).collect());
}

/// The numbers that an expression compares with, such as 60 of `> 60` and 0.06 of `> 6 * 0.01`.
fn limits(expression: &str) -> Vec<f64> {
    let behind = expression.split(['>', '<', '=']).skip(1);
    let numbers = behind.filter_map(|text| {
        let mut words = text.split_whitespace();
        let first: f64 = words.next()?.trim_end_matches(')').parse().ok()?;
        let factor = if words.next() == Some("*") { words.next().and_then(|word| word.trim_end_matches(')').parse().ok()) } else { None };
        Some(first * factor.unwrap_or(1.0))
    });
    numbers.collect()
}

#[test]
fn the_dashboard_draws_its_lines_where_alerts_begin() {
    let (alerts, dashboard) = (alerts(), dashboard());
    let mut drawn = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let (title, description) = (&panel["title"], panel["description"].as_str().unwrap_or_default());
        let told: Vec<&str> =
            description.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Inventory")).collect();
        let limits: Vec<f64> = told
            .iter()
            .flat_map(|told| {
                let alert = alerts.iter().find(|alert| alert.name == *told);
                limits(&alert.unwrap_or_else(|| panic!("{title}: there is no {told}")).expression)
            })
            .collect();
        let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        for step in steps.iter().filter_map(|step| step["value"].as_f64()).filter(|_| !told.is_empty()) {
            // Whole numbers above 0 begin at 1.
            let fits = limits.iter().any(|limit| (limit - step).abs() < 1e-9 || (step == 1.0 && *limit == 0.0));
            assert!(fits, "{title} draws a line at {step}, {told:?} begin at {limits:?}");
            drawn += 1;
        }
    }
    assert!(drawn > 10, "{drawn}");
}

#[test]
fn every_panel_says_what_it_shows_has_a_unit_and_a_place_of_its_own() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["id"], &dashboard["uid"]), (&Value::Null, &Value::from("inventory")));
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is beyond the edge");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} lies over another at {place:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 15 && text.ends_with('.')), "{title} says nothing");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        for source in targets.iter().chain([panel]) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title} asks the server that was chosen");
        }
    }
}
