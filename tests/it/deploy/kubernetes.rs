//! `deploy/kubernetes`. There is no cluster where tests run: each object is held against the strict schema of its kind, the names by
//! which objects refer to each other must be there, and the programs are run with what their pods would give them.

use super::files::{linter, path, promtool, said, seconds, strings, text, version, yaml};
use super::site::{Launch, PASSWORD, SECRET, Secrets, Site, token_of_all};
use harness::Shop;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use telemetry::tokens::Digest;

const FOLDER: &str = "deploy/kubernetes";

/// What is applied, in the order of kustomization.yaml.
const APPLIED: [&str; 6] = ["namespace", "settings", "migrate", "api", "worker", "network"];

/// What is not: values to be replaced, and what needs an operator or a chart of others.
const OTHERS: [&str; 4] = ["kustomization", "secrets.example", "pod-monitor", "prometheus-adapter"];

/// Where pods mount their secrets.
const SECRETS: &str = "/run/secrets/inventory";

const USER: u32 = 65532;

fn file(name: &str) -> String {
    format!("{FOLDER}/{name}.yaml")
}

fn objects() -> Vec<Value> {
    APPLIED.iter().flat_map(|name| yaml(&file(name))).collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn one<'a>(objects: &'a [Value], kind: &str, named: &str) -> &'a Value {
    of(objects, kind).into_iter().find(|object| name(object) == named).unwrap_or_else(|| panic!("no {kind} {named}"))
}

/// Deployments and jobs.
fn workloads(objects: &[Value]) -> Vec<&Value> {
    [of(objects, "Deployment"), of(objects, "Job")].concat()
}

fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

fn container(workload: &Value) -> &Value {
    assert_eq!(pod(workload)["containers"].as_array().unwrap().len(), 1);
    &pod(workload)["containers"][0]
}

fn port(workload: &Value, named: &str) -> Option<u64> {
    let ports = container(workload)["ports"].as_array().into_iter().flatten();
    ports.filter(|port| port["name"] == named).find_map(|port| port["containerPort"].as_u64())
}

#[test]
fn the_strict_schemas_of_kubernetes_have_no_fault_to_find() {
    let files = APPLIED.iter().chain(&["secrets.example"]).map(|name| path(&file(name)));
    let (well, told) = said(linter("kubernetes-validate").arg("--strict").args(files));
    assert!(well, "{told}");
    let objects: usize = APPLIED.iter().chain(&["secrets.example"]).map(|name| yaml(&file(name)).len()).sum();
    assert_eq!(told.lines().filter(|line| line.contains(" passed for resource ")).count(), objects, "{told}");
}

#[test]
fn all_files_are_applied_but_those_that_are_not_meant_to_be() {
    let kustomization = yaml(&file("kustomization")).remove(0);
    assert_eq!(strings(&kustomization["resources"]), APPLIED.map(|name| format!("{name}.yaml")));
    let there: BTreeSet<String> = super::files::all().into_iter().filter(|name| name.starts_with(FOLDER)).collect();
    assert_eq!(there, APPLIED.iter().chain(&OTHERS).map(|name| file(name)).collect());
    let image = &kustomization["images"][0];
    assert_eq!((&image["name"], &image["newTag"]), (&json!("inventory"), &json!(version())));
    let objects = objects();
    for object in objects.iter().filter(|object| object["kind"] != "Namespace") {
        assert_eq!(object["metadata"]["namespace"], "inventory", "{}", name(object));
    }
    for workload in workloads(&objects) {
        assert_eq!(container(workload)["image"], "inventory", "{}", name(workload));
    }
}

#[test]
fn pods_keep_the_restricted_standard_and_get_no_variable_by_the_way() {
    let objects = objects();
    assert_eq!(one(&objects, "Namespace", "inventory")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    for workload in workloads(&objects) {
        let (pod, container, name) = (pod(workload), container(workload), name(workload));
        assert_eq!((&pod["enableServiceLinks"], &pod["automountServiceAccountToken"]), (&json!(false), &json!(false)), "{name}");
        let user = json!({"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(pod["securityContext"], user, "{name}");
        let rights = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
        assert_eq!(container["securityContext"], rights, "{name}");
        for (part, resource) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
            assert!(container["resources"][part][resource].is_string(), "{name}: {part} of {resource}");
        }
    }
}

#[test]
fn probes_ask_the_ops_listener_and_a_stop_waits_for_what_is_in_hand() {
    let objects = objects();
    let settings = &one(&objects, "ConfigMap", "inventory-settings")["data"];
    for (workload, listener) in [("inventory-api", "INVENTORY_API_OPS_LISTEN"), ("inventory-worker", "INVENTORY_WORKER_OPS_LISTEN")] {
        let workload = one(&objects, "Deployment", workload);
        let listens = settings[listener].as_str().unwrap().rsplit(':').next().unwrap();
        assert_eq!(port(workload, "ops").unwrap().to_string(), listens, "{}", name(workload));
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")] {
            let asks = &container(workload)[probe]["httpGet"];
            assert_eq!((&asks["path"], &asks["port"]), (&json!(path), &json!("ops")), "{}", name(workload));
        }
        let before = container(workload)["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        let needed = before + seconds(&settings["INVENTORY_SHUTDOWN_TIMEOUT"]) + 5;
        assert!(seconds(&pod(workload)["terminationGracePeriodSeconds"]) >= needed, "{}", name(workload));
        // Only the API has a service, and so requests that come until every node has heard that it is leaving.
        assert_eq!(before > 0, name(workload) == "inventory-api");
    }
    assert_eq!(
        port(one(&objects, "Deployment", "inventory-api"), "http").unwrap().to_string(),
        settings["INVENTORY_API_LISTEN"].as_str().unwrap()[8..]
    );
}

#[test]
fn what_objects_name_is_there() {
    let objects = objects();
    let labels = |workload: &Value| workload["spec"]["template"]["metadata"]["labels"].clone();
    let chosen = |wanted: &Value| -> Vec<&Value> {
        let wanted = wanted.as_object().unwrap();
        workloads(&objects).into_iter().filter(|workload| wanted.iter().all(|(name, value)| &labels(workload)[name] == value)).collect()
    };
    for deployment in of(&objects, "Deployment") {
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        assert_eq!(chosen(selector), [deployment]);
        for constraint in pod(deployment)["topologySpreadConstraints"].as_array().unwrap() {
            assert_eq!(&constraint["labelSelector"]["matchLabels"], selector);
        }
        let named = |kind, field: &str| {
            of(&objects, kind)
                .into_iter()
                .filter(|object| object.pointer(field).is_some_and(|value| value == selector || value == name(deployment)))
                .count()
        };
        assert_eq!(named("PodDisruptionBudget", "/spec/selector/matchLabels"), 1, "{}", name(deployment));
        assert_eq!(named("HorizontalPodAutoscaler", "/spec/scaleTargetRef/name"), 1, "{}", name(deployment));
        assert!(deployment["spec"]["replicas"].is_null(), "applied again it would undo what the autoscaler did");
    }
    for service in of(&objects, "Service") {
        let behind = chosen(&service["spec"]["selector"]);
        assert_eq!(behind.len(), 1, "{}", name(service));
        let target = service["spec"]["ports"][0]["targetPort"].as_str().unwrap();
        assert!(port(behind[0], target).is_some(), "{}", name(service));
    }
    for policy in of(&objects, "NetworkPolicy") {
        let selector = &policy["spec"]["podSelector"]["matchLabels"];
        let Value::Object(_) = selector else { continue };
        let behind = chosen(selector);
        assert!(!behind.is_empty(), "{}", name(policy));
        for rule in policy["spec"]["ingress"].as_array().into_iter().flatten() {
            let let_in = rule["ports"][0]["port"].as_str().unwrap();
            assert!(behind.iter().any(|workload| port(workload, let_in).is_some()), "{}: {let_in}", name(policy));
        }
    }
    let monitor = yaml(&file("pod-monitor")).remove(0);
    let expression = &monitor["spec"]["selector"]["matchExpressions"][0];
    for program in strings(&expression["values"]) {
        let watched = chosen(&json!({expression["key"].as_str().unwrap(): program}));
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        assert!(port(watched[0], endpoint["port"].as_str().unwrap()).is_some(), "{program}");
        let secret = &endpoint["authorization"]["credentials"];
        assert!(!secret_of(secret["name"].as_str().unwrap())[secret["key"].as_str().unwrap()].is_empty());
    }
}

/// What the example says of a secret.
fn secret_of(named: &str) -> BTreeMap<String, String> {
    let secrets = yaml(&file("secrets.example"));
    let data = one(&secrets, "Secret", named)["stringData"].as_object().unwrap();
    data.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// The files that a pod finds in [`SECRETS`].
fn mounted(workload: &Value) -> BTreeMap<String, String> {
    let mount = &container(workload)["volumeMounts"][0];
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!(SECRETS), &json!(true)));
    let volume = &pod(workload)["volumes"][0];
    assert_eq!(volume["name"], mount["name"]);
    let sources = volume["projected"]["sources"].as_array().unwrap();
    sources.iter().flat_map(|source| secret_of(source["secret"]["name"].as_str().unwrap())).collect()
}

#[test]
fn autoscaling_stays_within_what_shards_and_mysql_allow() {
    let objects = objects();
    let settings = &one(&objects, "ConfigMap", "inventory-settings")["data"];
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let most = |named| one(&objects, "HorizontalPodAutoscaler", named)["spec"]["maxReplicas"].as_u64().unwrap();
    assert!(most("inventory-worker") <= number(&settings["INVENTORY_SHARDS"]));
    // While a release rolls out there is one more of each.
    let connections = (most("inventory-api") + most("inventory-worker") + 2) * number(&settings["INVENTORY_MYSQL_CONNECTIONS"]);
    let allowed = text("deploy/mariadb.cnf").lines().find_map(|line| line.strip_prefix("max_connections = ")?.parse::<u64>().ok());
    assert!(allowed.is_some_and(|allowed| connections < allowed), "{connections} of {allowed:?}");
}

/// The rule of prometheus-adapter that makes the metric which the workers' autoscaler names.
fn rule() -> (String, String) {
    let autoscaler = objects();
    let wanted = &one(&autoscaler, "HorizontalPodAutoscaler", "inventory-worker")["spec"]["metrics"][0]["external"]["metric"]["name"];
    let adapter = yaml(&file("prometheus-adapter")).remove(0);
    let rules = adapter["rules"]["external"].as_array().unwrap();
    let rule = rules.iter().find(|rule| &rule["name"]["as"] == wanted).unwrap_or_else(|| panic!("no rule makes {wanted}"));
    let series = rule["seriesQuery"].as_str().unwrap().split('"').nth(1).unwrap().to_owned();
    let query = rule["metricsQuery"].as_str().unwrap().replace("<<.Series>>", &series).replace("<<.LabelMatchers>>", "");
    (series, query)
}

#[test]
fn workers_are_added_while_views_are_late_and_not_while_more_of_them_are_no_help() {
    let (_, query) = rule();
    let dir = std::env::temp_dir().join(format!("inventory-adapter-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let rules = json!({"groups": [{"name": "adapter", "rules": [{"record": "behind", "expr": query}]}]});
    let case = |paused: u8, mysql: [u8; 2], behind: u8| {
        let up = |worker: usize| format!("inventory_mysql_up{{job=\"inventory\",program=\"inventory-worker\",instance=\"{worker}\"}}");
        let series = [
            ("inventory:queue_oldest_age_seconds:max".to_owned(), 90),
            ("inventory:queue_paused:max".to_owned(), paused),
            (up(0), mysql[0]),
            (up(1), mysql[1]),
        ];
        let series: Vec<_> = series.into_iter().map(|(series, value)| json!({"series": series, "values": format!("{value}x5")})).collect();
        let expected = json!([{"expr": "behind", "eval_time": "2m", "exp_samples": [{"labels": "behind", "value": behind}]}]);
        json!({"interval": "1m", "input_series": series, "promql_expr_test": expected})
    };
    let cases = [case(0, [1, 1], 90), case(0, [0, 1], 90), case(1, [1, 1], 0), case(0, [0, 0], 0)];
    std::fs::write(dir.join("rules.json"), rules.to_string()).unwrap();
    std::fs::write(dir.join("tests.json"), json!({"rule_files": ["rules.json"], "tests": cases}).to_string()).unwrap();
    let (well, told) = said(promtool().args(["test", "rules"]).arg(dir.join("tests.json")));
    assert!(well, "{told}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn what_autoscaling_asks_of_prometheus_is_exported_or_recorded() {
    let shop = Shop::start().await;
    let metrics = shop.worker().await.metrics().await;
    let rules = text("deploy/prometheus/rules.yml");
    let (series, query) = rule();
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').chain([series.as_str()]);
    let (mut recorded, mut exported) = (0, 0);
    for word in words.filter(|word| word.starts_with("inventory_") || word.starts_with("inventory:")) {
        if word.contains(':') {
            assert!(rules.contains(&format!("record: {word}\n")), "{word}");
            recorded += 1;
        } else {
            assert!(metrics.contains(&format!("# TYPE {word} ")), "{word}");
            exported += 1;
        }
    }
    assert!(recorded >= 2 && exported >= 1, "{query}");
}

#[tokio::test]
async fn the_programs_run_as_their_pods_would_run_them() {
    let site = Site::start(USER, &[], &["--requirepass".to_owned(), PASSWORD.to_owned()], |_| {});
    site.make_users().await;
    let objects = objects();
    let settings = one(&objects, "ConfigMap", "inventory-settings")["data"].as_object().unwrap();
    let scraper = secret_of("inventory-metrics")["token"].clone();
    let [migrate, api, worker] = ["inventory-migrate", "inventory-api", "inventory-worker"].map(|named| {
        let workload = workloads(&objects).into_iter().find(|workload| name(workload) == named).unwrap();
        let container = container(workload);
        assert_eq!(container["envFrom"], json!([{"configMapRef": {"name": "inventory-settings"}}]));
        for (file, content) in mounted(workload) {
            // The hash of the example is none, and is refused.
            let content = content.replace(&"0".repeat(64), &Digest::of(scraper.as_bytes()).hex());
            let content = if file == "tokens.toml" { content + &token_of_all() } else { site.at_home(&content) };
            site.put(&format!("{named}/{file}"), &content);
        }
        let here = site.dir().join(named).display().to_string();
        Launch {
            command: strings(&container["command"]).into_iter().map(str::to_owned).collect(),
            environment: settings.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().replace(SECRETS, &here))).collect(),
            stop_limit: Duration::from_secs(pod(workload)["terminationGracePeriodSeconds"].as_u64().unwrap_or(0)),
        }
    });
    site.migrate(&migrate).await;
    site.serve(api, worker, Some(Secrets { all: SECRET, metrics: &scraper })).await;
}
