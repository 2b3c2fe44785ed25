//! `deploy/docker/compose.yaml`. There is no Docker where tests run: the file is held against the schema of compose, what it names must
//! be there, and its programs are run with the environment, the secrets and the stores' settings that it gives them.

use super::files::{built, linter, path, promtool, said, seconds, strings, text, version, yaml};
use super::site::{Launch, Secrets, Site};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const COMPOSE: &str = "deploy/docker/compose.yaml";

/// Where compose mounts secrets.
const SECRETS: &str = "/run/secrets/";

/// As the image runs.
const USER: u32 = 65532;

fn compose() -> Value {
    yaml(COMPOSE).remove(0)
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service))
}

/// Makes the secrets in `dir/secrets`.
fn make_secrets(dir: &Path) -> String {
    let program = built("inventoryctl");
    let mut script = Command::new("sh");
    script.arg(path("deploy/docker/secrets.sh")).arg(dir.join("secrets")).env("INVENTORYCTL", program);
    let (well, told) = said(&mut script);
    assert!(well, "{told}");
    told
}

#[test]
fn the_schema_of_compose_has_no_fault_to_find() {
    let schema = ["--builtin-schema", "vendor.compose-spec"];
    let (well, told) = said(linter("check-jsonschema").args(schema).arg(path(COMPOSE)));
    assert!(well, "{told}");
}

#[test]
fn nothing_in_compose_is_root_or_gains_rights_or_writes_outside_its_volumes() {
    let compose = compose();
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(strings(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let user = service["user"].as_str().and_then(|user| user.split(':').next()?.parse::<u32>().ok());
        assert!(user.is_some_and(|user| user > 0), "{name}");
        let (image, tag) = service["image"].as_str().unwrap().split_once(':').unwrap_or_else(|| panic!("{name} has no tag"));
        if image == "inventory" {
            assert_eq!((tag, user), (version().as_str(), Some(USER)), "{name}");
        }
        assert!(tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()) && tag.matches('.').count() == 2, "{name}: {tag}");
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} shows {port} to the network");
        }
    }
    let script = text("deploy/docker/secrets.sh");
    assert!(script.contains(&format!(" inventory:{} ", version())), "the script makes tokens with the same image");
}

#[test]
fn what_compose_names_is_there_and_used() {
    let compose = compose();
    let dir = std::env::temp_dir().join(format!("inventory-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    make_secrets(&dir);
    assert!(make_secrets(&dir).contains("stays as it is"), "a second run changes nothing");
    let made: BTreeSet<String> =
        std::fs::read_dir(dir.join("secrets")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    std::fs::remove_dir_all(dir).unwrap();
    let named = compose["secrets"].as_object().unwrap();
    for (name, secret) in named {
        assert_eq!(secret["file"], format!("secrets/{name}"));
    }
    assert_eq!(made, named.keys().cloned().collect());
    assert!(text(".gitignore").lines().any(|line| line == "/deploy/docker/secrets/"), "and never committed");

    let (mut secrets, mut volumes) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in services(&compose) {
        let of_service = service["secrets"].as_array().into_iter().flatten();
        let of_service: BTreeSet<&str> = of_service.filter_map(|secret| secret.as_str().or_else(|| secret["source"].as_str())).collect();
        for read in reads(service) {
            assert!(of_service.contains(read.as_str()), "{name} reads {read}");
        }
        secrets.extend(of_service);
        for mount in strings(&service["volumes"]) {
            let (source, _) = mount.split_once(':').unwrap();
            if source.starts_with('.') {
                assert!(path("deploy/docker").join(source).exists(), "{name} mounts {source}");
                assert!(mount.ends_with(":ro"), "{name} could write {source}");
            } else {
                volumes.insert(source);
            }
        }
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            let other = &compose["services"][needed.0];
            let ends = other["restart"] == "on-failure";
            let condition = if ends { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(needed.1["condition"], condition, "{name} needs {}", needed.0);
            assert!(ends || other["healthcheck"].is_object() || needed.0 == "api", "{} does not say that it is healthy", needed.0);
        }
    }
    assert_eq!(secrets, named.keys().map(String::as_str).collect());
    assert_eq!(volumes, compose["volumes"].as_object().unwrap().keys().map(String::as_str).collect());
}

/// The secrets that a service reads by their paths.
fn reads(service: &Value) -> BTreeSet<String> {
    let text = service.to_string();
    let end = |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.';
    text.split(SECRETS).skip(1).map(|rest| rest.split(end).next().unwrap().to_owned()).collect()
}

#[test]
fn who_is_stopped_may_finish_and_who_listens_to_all_asks_for_tokens() {
    let compose = compose();
    for name in ["api", "worker"] {
        let service = &compose["services"][name];
        let settings = &service["environment"];
        assert!(seconds(&service["stop_grace_period"]) > seconds(&settings["INVENTORY_SHUTDOWN_TIMEOUT"]) + 5, "{name}");
        let beyond = settings.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_LISTEN"));
        assert!(beyond.clone().count() > 0, "{name} is reached from other containers");
        assert!(settings["INVENTORY_TOKENS_FILE"].is_string(), "{name}");
    }
}

#[test]
fn prometheus_can_read_what_compose_gives_it_and_finds_the_labels_that_the_alerts_go_by() {
    let (ours, plain) = (yaml("deploy/docker/prometheus.yml").remove(0), yaml("deploy/prometheus/prometheus.yml").remove(0));
    assert_eq!((&ours["global"], &ours["rule_files"]), (&plain["global"], &plain["rule_files"]));
    let (job, plain) = (&ours["scrape_configs"][0], &plain["scrape_configs"][0]);
    assert_eq!(job["job_name"], plain["job_name"]);
    let label = |name: &Value| format!("inventory-{}", name.as_str().unwrap());
    let found: BTreeSet<String> = job["dns_sd_configs"].as_array().unwrap().iter().map(|found| label(&found["names"][0])).collect();
    let programs =
        plain["static_configs"].as_array().unwrap().iter().map(|target| target["labels"]["program"].as_str().unwrap().to_owned());
    assert_eq!(found, programs.collect());
    let compose = compose();
    for found in job["dns_sd_configs"].as_array().unwrap() {
        let service = &compose["services"][found["names"][0].as_str().unwrap()];
        let port = found["port"].to_string();
        let listens = service["environment"]
            .as_object()
            .unwrap()
            .iter()
            .any(|(name, value)| name.ends_with("_OPS_LISTEN") && value.as_str().unwrap().rsplit(':').next() == Some(&port));
        assert!(listens, "{found}");
    }

    let dir = std::env::temp_dir().join(format!("inventory-prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for file in strings(&ours["rule_files"]) {
        std::fs::copy(path("deploy/prometheus").join(file), dir.join(file)).unwrap();
    }
    std::fs::write(dir.join("metrics-token"), "inv_secret").unwrap();
    let text = text("deploy/docker/prometheus.yml").replace(SECRETS, &format!("{}/", dir.display()));
    std::fs::write(dir.join("prometheus.yml"), text).unwrap();
    let (well, told) = said(promtool().args(["check", "config"]).arg(dir.join("prometheus.yml")));
    assert!(well, "{told}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn the_programs_run_as_compose_would_run_them() {
    let compose = compose();
    let in_dir = |text: &str| text.replace(SECRETS, "{dir}/secrets/");
    let arguments = |service: &str, from: usize| {
        strings(&compose["services"][service]["command"])[from..].iter().map(|word| in_dir(word)).collect::<Vec<_>>()
    };
    // Without the program, its configuration, and where its volume is.
    let redis = arguments("redis", 2);
    assert_eq!(redis[..2], ["--dir", "/data"]);
    let site = Site::start(USER, &arguments("mariadb", 0), &redis[2..], |dir| {
        make_secrets(dir);
    });
    let secret = |name: &str| std::fs::read_to_string(site.dir().join("secrets").join(name)).unwrap().trim().to_owned();
    site.sql(&secret("mysql-users.sql")).await;
    for url in ["mysql-migrate-url", "mysql-api-url", "mysql-worker-url", "redis-url"] {
        site.put(&format!("secrets/{url}"), &site.at_home(&secret(url)));
    }
    let here = site.dir().join("secrets").display().to_string() + "/";
    let [migrate, api, worker] = ["migrate", "api", "worker"].map(|name| {
        let service = &compose["services"][name];
        let settings = service["environment"].as_object().unwrap().iter();
        let stop_limit = service["stop_grace_period"].as_str().map_or(0, |_| seconds(&service["stop_grace_period"]));
        Launch {
            command: strings(&service["command"]).into_iter().map(str::to_owned).collect(),
            environment: settings.map(|(name, value)| (name.clone(), value.as_str().unwrap().replace(SECRETS, &here))).collect(),
            stop_limit: Duration::from_secs(stop_limit),
        }
    });
    site.migrate(&migrate).await;
    let (operator, prometheus) = (secret("admin-token"), secret("metrics-token"));
    site.serve(api, worker, Some(Secrets { all: &operator, metrics: &prometheus })).await;

    let healthy = strings(&compose["services"]["redis"]["healthcheck"]["test"]);
    let script = healthy[1].replace("$$", "$").replace(SECRETS, &here).replace("redis-cli", &format!("redis-cli -p {}", site.redis_port()));
    assert_eq!(healthy[0], "CMD-SHELL");
    let (well, told) = said(Command::new("sh").args(["-c", &script]));
    assert!(well, "{told}");
    let (well, _) = said(Command::new("sh").args(["-c", &script.replace("REDISCLI_AUTH=", "NO=")]));
    assert!(!well, "Redis asks for its password");
}
