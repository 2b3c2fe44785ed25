//! The units of `deploy/systemd`: read by systemd itself, and their ExecStart run with their environment. What only systemd can bring
//! about (the file system read-only, the system calls filtered) is not in force here, since it is not the first process where tests run.

use super::files::{built, path, said, seconds, text};
use super::site::{Launch, PASSWORD, Site};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const UNITS: [&str; 3] = ["inventory-migrate", "inventory-api", "inventory-worker"];

const SETTINGS: &str = "deploy/systemd/inventory.env.example";

/// `nobody`, since the user of the units is made by who installs them.
const NOBODY: u32 = 65534;

/// Exposure by `systemd-analyze security`, of 10. What is left: it runs on the host's root, network and clock device, and reads /proc.
const EXPOSURE_LIMIT: f64 = 1.1;

/// A unit file: names and values in their order.
struct Unit(Vec<(String, String)>);

impl Unit {
    fn read(name: &str) -> Self {
        let text = text(&format!("deploy/systemd/{name}.service"));
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
        Self(
            lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"))).map(|(k, v)| (k.into(), v.into())).collect(),
        )
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn one<'a>(&'a self, name: &'a str) -> &'a str {
        let all: Vec<_> = self.all(name).collect();
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        all[0]
    }

    /// How systemd would start it, with its credentials in `credentials`.
    fn launch(&self, credentials: &str) -> Launch {
        assert_eq!(self.one("EnvironmentFile"), "/etc/inventory/inventory.env");
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.replace("%d", credentials)));
        let settings = text(SETTINGS);
        // A file wins over Environment=.
        let environment = self.all("Environment").chain(settings.lines().filter(|line| !line.starts_with('#'))).filter_map(pair);
        let stop_limit = self.all("TimeoutStopSec").next().map_or(Duration::ZERO, |time| Duration::from_secs(seconds(&json!(time))));
        let command = self.one("ExecStart").split(' ').map(str::to_owned).collect();
        Launch { command, environment: environment.collect(), stop_limit }
    }
}

/// The files that the sample of settings says to write beside it, by name.
fn secret_files() -> BTreeMap<String, String> {
    let settings = text(SETTINGS);
    let lines = settings.lines().filter_map(|line| line.strip_prefix("#   ")?.split_once(' '));
    lines.map(|(name, content)| (name.to_owned(), content.trim().to_owned())).collect()
}

fn systemd(program: &str) -> Command {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found, "{program} is not installed; on Debian type\n  apt-get install -y --no-install-recommends systemd");
    Command::new(program)
}

/// A copy of the units in which the programs stand where they were built.
fn installed() -> std::path::PathBuf {
    let programs = built("");
    let dir = std::env::temp_dir().join(format!("inventory-units-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&dir).unwrap();
    for name in UNITS {
        let unit = text(&format!("deploy/systemd/{name}.service")).replace("/usr/local/bin/", programs.to_str().unwrap());
        std::fs::write(dir.join(format!("{name}.service")), unit).unwrap();
    }
    dir
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let dir = installed();
    let units = UNITS.map(|name| dir.join(format!("{name}.service")));
    // It goes on over a misspelt key, with a word on stderr.
    let (well, told) = said(systemd("systemd-analyze").args(["verify", "--man=no"]).args(&units));
    assert!(well && told.is_empty(), "{told}");
    for unit in &units {
        let (well, told) = said(systemd("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(unit));
        let level = told.lines().last().and_then(|line| line.split(": ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
        assert!(well && level.is_some_and(|level| level <= EXPOSURE_LIMIT), "{told}");
    }
    std::fs::remove_dir_all(dir).unwrap();
    let (well, told) =
        said(systemd("systemd-sysusers").arg("--dry-run").arg(path("deploy/systemd/inventory.sysusers.conf").canonicalize().unwrap()));
    assert!(well, "{told}");
}

#[test]
fn a_service_is_started_again_for_ever_and_may_finish_what_is_in_hand() {
    let shutdown = text(SETTINGS).lines().find_map(|line| line.strip_prefix("#INVENTORY_SHUTDOWN_TIMEOUT=").map(str::to_owned));
    let user = text("deploy/systemd/inventory.sysusers.conf");
    for name in UNITS {
        let unit = Unit::read(name);
        assert!(user.contains(&format!("\nu {} - ", unit.one("User"))), "{name}");
        if name == "inventory-migrate" {
            assert_eq!((unit.one("Type"), unit.all("Restart").count()), ("oneshot", 0));
            continue;
        }
        assert_eq!((unit.one("Restart"), unit.one("StartLimitIntervalSec")), ("always", "0"), "{name}");
        assert!(seconds(&json!(unit.one("TimeoutStopSec"))) > seconds(&json!(shutdown)) + 5, "{name}");
    }
}

/// What is commented out is said to be the default.
#[test]
fn the_sample_of_settings_shows_the_defaults() {
    let help = ["inventory-api", "inventory-worker", "inventoryctl migrate"].map(|line| {
        let mut words = line.split(' ');
        said(Command::new(built(words.next().unwrap())).args(words).arg("--help")).1
    });
    let settings = text(SETTINGS);
    let (shown, mut compared) = (settings.lines().filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('=')), 0);
    // The command line logs less, and a journal reads JSON.
    for (name, value) in shown.filter(|(name, _)| name.starts_with("INVENTORY_") && !name.starts_with("INVENTORY_LOG")) {
        for help in &help {
            // "[env: NAME=]" and then, on the next line, "[default: value]".
            let default =
                help.split(&format!("[env: {name}")).nth(1).and_then(|rest| rest.lines().nth(1)?.trim().strip_prefix("[default: "));
            if let Some(default) = default.and_then(|default| default.strip_suffix(']')) {
                assert_eq!(value, default, "{name}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 12, "{compared}");
}

#[tokio::test]
async fn each_unit_runs_with_its_environment_and_without_any_right() {
    let site = Site::start(NOBODY, &[], &[], |_| {});
    site.make_users().await;
    let secrets = secret_files();
    let [migrate, api, worker] = UNITS.map(|name| {
        let unit = Unit::read(name);
        let (credential, file) = unit.one("LoadCredential").split_once(':').unwrap();
        let content = &secrets[file.strip_prefix("/etc/inventory/").unwrap()];
        assert!(content.contains('…'), "{content} has a place for the password");
        site.put(&format!("{name}/{credential}"), &site.at_home(content));
        let mut launch = unit.launch(site.dir().join(name).to_str().unwrap());
        launch.environment.values_mut().for_each(|value| *value = site.at_home(value));
        launch
    });
    let url = std::fs::read_to_string(&migrate.environment["INVENTORY_MYSQL_URL_FILE"]).unwrap();
    assert!(url.contains(PASSWORD), "the password was put in");
    site.migrate(&migrate).await;
    site.serve(api, worker, None).await;
}
