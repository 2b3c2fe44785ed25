//! The database server of `cargo xtask test --server …`: its directory is put first on the PATH, where the tests look.
//!
//! A MySQL that is not installed is made of Debian's own packages under `target/mysql`, with an apt of its own: its sources,
//! lists and archives lie there too, the machine's are only read, and nothing is installed. What is downloaded is verified
//! with the machine's Debian keyring. It runs with its own libraries, so that any Debian will do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::place::Place;
use crate::screen::say;

/// Signs what Debian publishes; of the package `debian-archive-keyring`, which is on every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where MySQL is packaged; releases of Debian have MariaDB alone.
const SUITE: &str = "sid";
const PACKAGE: &str = "mysql-server-core";

/// For lists and packages together, some 70 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(120);

const CURE: &str = "put the directory of a mysqld of MySQL 8.0 or newer on the PATH";

/// Which server the tests run on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Mysql,
    Mariadb,
}

impl Wanted {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "mysql" => Ok(Self::Mysql),
            "mariadb" => Ok(Self::Mariadb),
            other => Err(format!("--server {other}: write mysql or mariadb").into()),
        }
    }
}

/// The directory that has the wanted server's program: of an installed one, or made here.
pub(crate) fn directory(place: &Place, wanted: Wanted) -> Result<PathBuf> {
    if let Some(directory) = servers::find_mysql(wanted == Wanted::Mariadb).as_deref().and_then(Path::parent) {
        return Ok(directory.to_owned());
    }
    if wanted == Wanted::Mariadb {
        return Err(format!("MariaDB is not installed: type\n  {}", servers::install_line()).into());
    }
    let home = place.target.join("mysql");
    let directory = home.join("bin");
    if !answers(&directory) {
        make(&home).map_err(|error| format!("MySQL is not installed and could not be had: {error}\n{CURE}"))?;
    }
    Ok(directory)
}

/// What the server that is found on this PATH says of itself, which must be of the wanted kind.
pub(crate) fn version_on(path: &OsStr, wanted: Option<Wanted>) -> Result<String> {
    let program = servers::find_on(path)?;
    let version = servers::version(&program);
    match wanted {
        Some(wanted) if version.contains("MariaDB") != (wanted == Wanted::Mariadb) => {
            Err(format!("{} comes first on the PATH, and is the other server: {version}", program.display()).into())
        }
        _ => Ok(version),
    }
}

fn answers(directory: &Path) -> bool {
    servers::version(&directory.join("mysqld")).contains("Ver ")
}

/// Makes `home` anew, whole or not at all.
fn make(home: &Path) -> Result<()> {
    let mirror = mirror().ok_or("this is no Debian, or no package source of it is named in /etc/apt")?;
    if !Path::new(KEYRING).is_file() {
        return Err(format!("{KEYRING} is not there to verify packages with").into());
    }
    let partial = home.with_extension("partial");
    for old in [home, partial.as_path()] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    say(format!("MySQL is not installed: making one under {} of {PACKAGE} from {mirror} {SUITE}", home.display()));
    let apt = Apt::new(partial.join("apt"), &mirror)?;
    let until = Instant::now() + DOWNLOAD_LIMIT;
    apt.get(&["update"], until)?;
    apt.get(&["install", "--download-only", "--no-install-recommends", "--yes", PACKAGE], until)?;
    let root = partial.join("root");
    fs::create_dir_all(&root)?;
    for package in apt.packages()? {
        let status = Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&root).status()?;
        if !status.success() {
            return Err(format!("{} cannot be unpacked", package.display()).into());
        }
    }
    fs::remove_dir_all(&apt.dir)?;
    write_program(&partial)?;
    fs::rename(&partial, home)?;
    let directory = home.join("bin");
    if answers(&directory) { Ok(()) } else { Err(format!("{} does not run on this machine", directory.join("mysqld").display()).into()) }
}

/// What the machine's apt is told that ours is told too: the way through a proxy, and whether a mirror may be behind its time.
const TAKEN_OVER: [&str; 2] = ["Acquire::http", "Acquire::Check-Valid-Until"];

/// An apt that has nothing in common with the machine's but its mirror and the settings of [`TAKEN_OVER`].
struct Apt {
    dir: PathBuf,
    config: PathBuf,
}

impl Apt {
    fn new(dir: PathBuf, mirror: &str) -> Result<Self> {
        for part in ["lists/partial", "archives/partial", "log"] {
            fs::create_dir_all(dir.join(part))?;
        }
        fs::write(dir.join("status"), "")?;
        fs::write(dir.join("sources.list"), format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))?;
        let dump = Command::new("apt-config").arg("dump").output()?;
        let dump = String::from_utf8_lossy(&dump.stdout);
        let taken_over: Vec<&str> = dump.lines().filter(|line| TAKEN_OVER.iter().any(|name| line.starts_with(name))).collect();
        let at = dir.display();
        // Not the machine's settings: hooks of theirs may clear the machine's own archives.
        let config = format!(
            "Dir::Etc::main \"-\";\nDir::Etc::parts \"-\";\nDir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferences \"-\";\nDir::Etc::preferencesparts \"-\";\nDir::State \"{at}\";\nDir::State::status \"{at}/status\";\n\
             Dir::State::lists \"{at}/lists\";\nDir::Cache \"{at}\";\nDir::Cache::archives \"{at}/archives\";\nDir::Log \"{at}/log\";\n\
             APT::Get::AllowUnauthenticated \"false\";\nAcquire::AllowInsecureRepositories \"false\";\nAcquire::Languages \"none\";\n\
             APT::Update::Error-Mode \"any\";\nAPT::Sandbox::User \"root\";\n{}\n",
            taken_over.join("\n")
        );
        let path = dir.join("apt.conf");
        fs::write(&path, config)?;
        Ok(Self { dir, config: path })
    }

    fn get(&self, arguments: &[&str], until: Instant) -> Result<()> {
        let path = self.dir.join("log/apt-get");
        let log = File::create(&path)?;
        let mut command = Command::new("apt-get");
        command.args(arguments).env("APT_CONFIG", &self.config).env("LC_ALL", "C").stdin(Stdio::null());
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut status = None;
        let ended = servers::wait_until(until.saturating_duration_since(Instant::now()), || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        if !ended {
            child.kill()?;
            child.wait()?;
            return Err(format!("the download took longer than {} s", DOWNLOAD_LIMIT.as_secs()).into());
        }
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let said = fs::read_to_string(&path).unwrap_or_default();
        let faults: Vec<&str> = said.lines().filter(|line| line.starts_with("E:") || line.starts_with("Err:")).collect();
        Err(format!("`apt-get {}` failed: {}", arguments.join(" "), faults.join("; ")).into())
    }

    fn packages(&self) -> Result<Vec<PathBuf>> {
        let files = fs::read_dir(self.dir.join("archives"))?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(files.into_iter().map(|file| file.path()).filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect())
    }
}

/// `bin/mysqld`: the program with the loader and the libraries that it was built for.
fn write_program(partial: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let usr = partial.join("root/usr");
    let libraries = named(&usr.join("lib"), |name| name.contains("-linux-gnu")).ok_or("the packages have no libraries")?;
    let is_loader = |name: &str| name.starts_with("ld-linux") || name.starts_with("ld64");
    let loader = ["lib64", "lib", &format!("lib/{libraries}")]
        .iter()
        .find_map(|folder| Some(format!("{folder}/{}", named(&usr.join(folder), is_loader)?)));
    let loader = loader.ok_or("the packages have no loader of programs")?;
    let script = format!(
        "#!/bin/sh\nusr=$(dirname \"$0\")/../root/usr\n\
         exec \"$usr/{loader}\" --library-path \"$usr/lib/{libraries}:$usr/lib/mysql/private:$usr/lib/{libraries}/mysql/private\" \\\n  \
         \"$usr/sbin/mysqld\" \"$@\"\n"
    );
    fs::create_dir_all(partial.join("bin"))?;
    let program = partial.join("bin/mysqld");
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn named(folder: &Path, is_it: impl Fn(&str) -> bool) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find(|name| is_it(name))
}

/// Where this machine's Debian comes from.
fn mirror() -> Option<String> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = parts.collect();
    files.sort();
    files.insert(0, PathBuf::from("/etc/apt/sources.list"));
    files.iter().find_map(|file| mirror_in(&fs::read_to_string(file).ok()?))
}

/// The first address of a Debian archive, in either form of apt's sources; not that of its security updates, nor one of others.
fn mirror_in(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let address = |word: &&str| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian");
    lines.flat_map(str::split_whitespace).find(address).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_forms_of_sources() {
        let one_line = "# deb http://old.example/debian x main\ndeb [arch=amd64] https://mirror.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("https://mirror.example/debian/"));
        let deb822 = "Types: deb\nURIs: http://mirror.example/debian-security http://mirror.example/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
        for none in ["", "deb https://packages.example/apt x main", "deb-src http://mirror.example/debian x main", "URIs: cdrom:/debian"] {
            assert_eq!(mirror_in(none), None, "{none}");
        }
    }
}
