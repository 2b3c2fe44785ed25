//! A machine on which a deployment begins from nothing: empty stores with the settings of `deploy/`, the programs in a directory that
//! every user may read, and what a file of `deploy/` says of how to start them.

use super::files::{built, path, target, text};
use harness::{Reply, SOON, eventually, metric_in};
use mysql_async::prelude::Queryable;
use serde_json::json;
use servers::{Mysql, MysqlOptions, Process};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use telemetry::scope::Scope;
use telemetry::tokens::Digest;

/// Stands where the files of `deploy/` have a place for a password.
pub(super) const PASSWORD: &str = "password";

/// Of a token that may do everything.
pub(super) const SECRET: &str = "inv_secret-of-all";

const LISTENERS: [&str; 3] = ["INVENTORY_API_LISTEN", "INVENTORY_API_OPS_LISTEN", "INVENTORY_WORKER_OPS_LISTEN"];

/// One program, as a file of `deploy/` has it.
pub(super) struct Launch {
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// After SIGTERM; who runs the program kills it then.
    pub(super) stop_limit: Duration,
}

impl Launch {
    fn port(&self, listener: &str) -> &str {
        self.environment[listener].rsplit(':').next().unwrap()
    }

    fn url(&self, listener: &str) -> String {
        format!("http://127.0.0.1:{}", self.port(listener))
    }
}

/// Tokens, where the programs ask for them: one that may do everything, and one for the metrics.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) all: &'a str,
    pub(super) metrics: &'a str,
}

/// The entry of a tokens file for [`SECRET`].
pub(super) fn token_of_all() -> String {
    let (scopes, digest) = (Scope::ALL.map(Scope::as_str), Digest::of(SECRET.as_bytes()).hex());
    format!("[[token]]\nname = \"all\"\nscopes = {scopes:?}\nsha256 = \"{digest}\"\n")
}

pub(super) struct Site {
    dir: PathBuf,
    /// As whom the programs run, where we are root and may choose.
    user: u32,
    mysql: Mysql,
    redis: Process,
    redis_port: u16,
    client: reqwest::Client,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.redis.kill();
        self.mysql.kill();
        // What cannot be removed is only clutter.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Site {
    /// `redis` and `mysql` are further arguments of the servers, in which `{dir}` is the directory of the site. It is made first.
    pub(super) fn start(user: u32, mysql: &[String], redis: &[String], prepare: impl FnOnce(&Path)) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        // Below the build users other than its owner may not look.
        let name = format!("inventory-deploy-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        for folder in ["", "bin", "redis"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
            std::fs::set_permissions(dir.join(folder), PermissionsExt::from_mode(0o755)).unwrap();
        }
        for program in ["inventory-api", "inventory-worker", "inventoryctl"] {
            std::fs::copy(built(program), dir.join("bin").join(program)).unwrap_or_else(|error| panic!("{program}: {error}"));
        }
        prepare(&dir);
        let here = |argument: &String| argument.replace("{dir}", dir.to_str().unwrap());
        let redis_port = servers::free_port().unwrap();
        let mut command = Command::new(servers::find(servers::Program::RedisServer).unwrap());
        command.arg(path("deploy/redis.conf")).args(["--bind", "127.0.0.1", "--port", &redis_port.to_string(), "--dir"]);
        command.arg(dir.join("redis")).args(redis.iter().map(here));
        let redis = Process::spawn("redis-server", command, &dir.join("redis.log")).unwrap();
        let templates = Some(target("tests/templates"));
        let extra = mysql.iter().map(here).collect();
        let mysql = Mysql::start(MysqlOptions { dir: dir.join("mysql"), templates, extra, ..MysqlOptions::default() });
        let client = reqwest::Client::builder().timeout(SOON).build().unwrap();
        Self { dir, user, mysql: mysql.unwrap_or_else(|error| panic!("{error}")), redis, redis_port, client }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn redis_port(&self) -> u16 {
        self.redis_port
    }

    /// Writes a file for the programs' user alone.
    pub(super) fn put(&self, file: &str, text: &str) {
        let file = self.dir.join(file);
        let folder = file.parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
        if self.is_root() {
            chown(&file, Some(self.user), Some(self.user)).unwrap();
        }
    }

    /// A text of `deploy/` with the addresses of the stores of this site.
    pub(super) fn at_home(&self, text: &str) -> String {
        let stores = [
            (self.mysql.port(), ["mariadb:3306", "mysql.example:3306", "127.0.0.1:3306"]),
            (self.redis_port, ["redis:6379", "redis.example:6379", "127.0.0.1:6379"]),
        ];
        let names = stores.into_iter().flat_map(|(port, names)| names.map(|name| (name, format!("127.0.0.1:{port}"))));
        names.fold(text.replace('…', PASSWORD), |text, (name, here)| text.replace(name, &here))
    }

    fn is_root(&self) -> bool {
        std::fs::metadata(&self.dir).unwrap().uid() == 0
    }

    /// All statements of a text, as the administrator of MySQL.
    pub(super) async fn sql(&self, text: &str) {
        let mut conn = mysql_async::Conn::from_url(format!("mysql://root@127.0.0.1:{}", self.mysql.port())).await.unwrap();
        conn.query_drop(text).await.unwrap_or_else(|error| panic!("{error} in\n{text}"));
        conn.disconnect().await.unwrap();
    }

    /// What the head of `deploy/grants.sql` says to type first, with a password.
    pub(super) async fn make_users(&self) {
        let grants = text("deploy/grants.sql");
        let typed: Vec<&str> = grants.lines().filter_map(|line| line.strip_prefix("--   ")?.split(" -- ").next()).collect();
        assert_eq!(typed.len(), 4, "{typed:?}");
        self.sql(&typed.join("\n").replace('…', PASSWORD)).await;
        let of_migrate = grants.lines().find(|line| line.starts_with("GRANT") && line.ends_with("inventory_migrate;"));
        self.sql(of_migrate.expect("the migration has rights")).await;
    }

    /// The command under `setpriv`: as the user of the site where we may choose, without any right of root and without a way to get one.
    fn confined(&self, launch: &Launch) -> Command {
        let mut command = Command::new("env");
        command.arg("-i").args(launch.environment.iter().map(|(name, value)| format!("{name}={value}"))).arg("setpriv");
        if self.is_root() {
            let user = self.user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
            // Changing the user takes back what the harness asked for.
            command.args(["--pdeathsig", "KILL"]);
        }
        let program = launch.command[0].strip_prefix("/usr/local/bin/").unwrap_or_else(|| panic!("{:?}", launch.command));
        command.args(["--no-new-privs", "--"]).arg(self.dir.join("bin").join(program)).args(&launch.command[1..]);
        command.current_dir(&self.dir);
        command
    }

    /// Runs the migration, then gives the rights.
    pub(super) async fn migrate(&self, migrate: &Launch) {
        let output = self.confined(migrate).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("migrations applied"), "{said}");
        self.sql(&text("deploy/grants.sql")).await;
    }

    /// Starts both, lets a view through, scrapes both, and ends them.
    pub(super) async fn serve(&self, mut api: Launch, mut worker: Launch, secrets: Option<Secrets<'_>>) {
        for launch in [&mut api, &mut worker] {
            for (_, listener) in launch.environment.iter_mut().filter(|(name, _)| LISTENERS.contains(&name.as_str())) {
                let (address, _) = listener.rsplit_once(':').unwrap();
                *listener = format!("{address}:{}", servers::free_port().unwrap());
            }
        }
        // What both read from one file is the same in both.
        let of_worker = worker.environment["INVENTORY_WORKER_OPS_LISTEN"].clone();
        api.environment.entry("INVENTORY_WORKER_OPS_LISTEN".to_owned()).and_modify(|listener| *listener = of_worker);
        let mut running = Vec::new();
        for (launch, listener) in [(&api, "INVENTORY_API_OPS_LISTEN"), (&worker, "INVENTORY_WORKER_OPS_LISTEN")] {
            let name = launch.command[0].rsplit('/').next().unwrap();
            let mut process = Process::spawn(name, self.confined(launch), &self.dir.join(format!("{name}.log"))).unwrap();
            self.wait_ready(&mut process, &launch.url(listener)).await;
            self.check_rights(&process);
            running.push((process, launch.url(listener), launch.stop_limit));
        }
        let (all, metrics) = (secrets.map(|secrets| secrets.all), secrets.map(|secrets| secrets.metrics));
        self.let_a_view_through(&api.url("INVENTORY_API_LISTEN"), all).await;
        let persisted = async || {
            let text = self.scrape(&running[1].1, metrics).await;
            (metric_in(&text, "inventory_views_persisted_total") == Some(1.0)).then_some(text)
        };
        let of_worker = eventually("the worker's metrics tell of the view", SOON, persisted).await;
        let of_api = self.scrape(&running[0].1, metrics).await;
        assert_eq!(metric_in(&of_api, "inventory_views_received_total{outcome=\"accepted\"}"), Some(1.0));
        for text in [of_api, of_worker] {
            for up in ["inventory_mysql_up", "inventory_redis_up"] {
                assert_eq!(metric_in(&text, up), Some(1.0), "{up}");
            }
            assert!(metric_in(&text, "process_start_time_seconds").is_some_and(|time| time > 1e9));
        }
        for (mut process, _, limit) in running {
            assert_eq!(process.stop(limit).unwrap_or_else(|error| panic!("{error}")).code(), Some(0), "{}", process.log_tail());
        }
    }

    async fn wait_ready(&self, process: &mut Process, ops: &str) {
        eventually(&format!("{} is ready", process.name()), SOON, async || {
            if let Some(status) = process.exited() {
                panic!("{} ended with {status}\n{}", process.name(), process.log_tail());
            }
            let answer = self.client.get(format!("{ops}/readyz")).send().await.ok()?;
            (answer.text().await.ok()? == "ready\n").then_some(())
        })
        .await;
    }

    /// The kernel says of the process: another user, no right, and no way to one.
    fn check_rights(&self, process: &Process) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next().unwrap();
        assert_eq!(field("NoNewPrivs:"), "1");
        if self.is_root() {
            assert_eq!((field("Uid:"), field("Gid:")), (&*self.user.to_string(), &*self.user.to_string()));
            for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                assert_eq!(field(set), "0000000000000000", "{set}");
            }
        }
    }

    async fn let_a_view_through(&self, api: &str, secret: Option<&str>) {
        let post = |path: &str| {
            let request = self.client.post(format!("{api}{path}"));
            secret.iter().fold(request, |request, secret| request.bearer_auth(secret))
        };
        let product = json!({"sku": "MUG-1", "name": "Mug", "price": {"amount": "4.95", "currency": "GBP"}});
        let made = Reply::to(post("/v1/products").json(&product)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let viewed = Reply::to(post(&format!("/v1/products/{}/views", made.json()["id"]))).await;
        assert_eq!(viewed.status, 202, "{}", viewed.text);
    }

    /// `/metrics`, which without the token is for loopback alone.
    async fn scrape(&self, ops: &str, secret: Option<&str>) -> String {
        let get = || self.client.get(format!("{ops}/metrics"));
        let Some(secret) = secret else { return Reply::to(get()).await.text };
        assert_eq!(Reply::to(get()).await.status, 401, "nobody is asked for a token");
        let answer = Reply::to(get().bearer_auth(secret)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }
}
